;; A ring of 10,000 goroutines: each adds one to what comes.
(define n 10000)
(define first (make-channel))
(define last
  (let loop ((i 0) (in first))
    (if (= i n)
        in
        (let ((out (make-channel)))
          (go (lambda ()
                (let pass ()
                  (let ((v (channel-receive in)))
                    (if (eof-object? v)
                        (channel-close! out)
                        (begin (channel-send! out (+ v 1)) (pass)))))))
          (loop (+ i 1) out)))))
(define (rounds k v)
  (if (= k 0)
      v
      (begin (channel-send! first v) (rounds (- k 1) (channel-receive last)))))
(display (rounds 20 0)) (newline)
(channel-close! first)
(display (eof-object? (channel-receive last))) (newline)
