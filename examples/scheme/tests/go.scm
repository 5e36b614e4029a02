;; Goroutines, channels, select, sleep.
(define (show x) (write x) (newline))

;; A channel without room: sender and receiver meet.
(define c (make-channel))
(go (lambda () (for-each (lambda (x) (channel-send! c x)) '(1 2 3)) (channel-close! c)))
(show (let loop ((l '()))
        (let ((x (channel-receive c)))
          (if (eof-object? x) (reverse l) (loop (cons x l))))))

;; With room it is first in, first out, and gives what it holds after it is closed.
(define b (make-channel 3))
(channel-send! b 'x) (channel-send! b "y") (channel-send! b '(z))
(channel-close! b)
(show (list (channel-receive b) (channel-receive b) (channel-receive b)
            (eof-object? (channel-receive b))))
(show (guard (e (#t (error-object-message e))) (channel-send! b 1)))
(show (list (channel? b) (channel? 'b) b))

;; Workers.
(define (parallel-map f l)
  (map channel-receive
       (map (lambda (x)
              (let ((c (make-channel 1)))
                (go (lambda () (channel-send! c (f x))))
                c))
            l)))
(define (fib n) (if (< n 2) n (+ (fib (- n 1)) (fib (- n 2)))))
(show (parallel-map fib '(1 5 10 15)))

;; select: the one that is ready, a default, a time limit, sending.
(define a (make-channel 1))
(define d (make-channel 1))
(show (select ((receive a x) (list 'a x)) (else 'none)))
(channel-send! a 1)
(show (select ((receive a x) (list 'a x)) ((receive d x) (list 'd x))))
(show (select ((send d 7) 'sent) ((receive a x) (list 'a x))))
(show (select ((send d 8) 'sent) ((receive d x) (list 'd x))))
(show (select ((receive a x) x) ((after 0.01) 'late)))
(channel-close! a)
(show (select ((receive a x) (eof-object? x))))
(show (guard (e (#t (error-object-message e))) (select ((send a 1) 'sent))))

;; Each of many senders is served by a select.
(define channels (map (lambda (i) (make-channel)) (iota 5)))
(for-each (lambda (c i) (go (lambda () (channel-send! c i)))) channels (iota 5))
(define-syntax receive-any
  (syntax-rules () ((_ c ...) (select ((receive c x) x) ...))))
(define (collect n l)
  (if (= n 0)
      (sort l <)
      (collect (- n 1)
               (cons (receive-any (list-ref channels 0) (list-ref channels 1)
                                  (list-ref channels 2) (list-ref channels 3)
                                  (list-ref channels 4))
                     l))))
(show (collect 5 '()))

;; sleep takes at least its time.
(define before (current-jiffy))
(sleep 0.02)
(show (>= (- (current-jiffy) before) 20000))

;; Who shares a table or a port does so safely.
(define table (make-hash-table))
(define done (make-channel))
(for-each (lambda (k)
            (go (lambda ()
                  (do ((i 0 (+ i 1))) ((= i 500))
                    (hash-table-set! table (+ (* k 1000) i) i)
                    (string->symbol (string-append "s" (number->string i))))
                  (channel-send! done k))))
          (iota 4))
(show (sort (map (lambda (i) (channel-receive done)) (iota 4)) <))
(show (hash-table-size table))

;; Parameters are those of who started it; a continuation is not another's.
(define p (make-parameter 1))
(define r (make-channel))
(parameterize ((p 2)) (go (lambda () (channel-send! r (p)))))
(show (list (channel-receive r) (p)))
(show (call/cc (lambda (k)
                 (go (lambda () (channel-send! r (guard (e (#t (error-object-message e))) (k 1)))))
                 (channel-receive r))))
(define (count n) (if (= n 0) 0 (+ 1 (count (- n 1)))))
(show (parallel-map count '(10 1000 5000)))
(yield)
