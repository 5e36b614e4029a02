;; channels: a pipeline of workers; each message is a fresh list. Eight workers, so
;; that threads can do it, too.
(define workers 8)
(define (stage in out)
  (go (lambda ()
        (let loop ()
          (let ((l (channel-receive in)))
            (if (eof-object? l)
                (channel-close! out)
                (begin
                  (channel-send! out (map (lambda (x) (+ x 1)) l))
                  (loop))))))))
(define first (make-channel 16))
(define last
  (let loop ((i 0) (in first))
    (if (= i workers)
        in
        (let ((out (make-channel 16)))
          (stage in out)
          (loop (+ i 1) out)))))
(define n 30000)
(go (lambda ()
      (do ((i 0 (+ i 1))) ((= i n) (channel-close! first))
        (channel-send! first (list i 1 2 3 4 5 6 7 8 9)))))
(define (collect sum)
  (let ((l (channel-receive last)))
    (if (eof-object? l) sum (collect (+ sum (car l))))))
(display (collect 0))
(newline)
