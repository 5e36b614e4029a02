(define (queens board-size)
  (define (safe? q dist placed)
    (or (null? placed)
        (and (not (= (car placed) (+ q dist))) (not (= (car placed) (- q dist))) (not (= (car placed) q))
             (safe? q (+ dist 1) (cdr placed)))))
  (define (place k placed)
    (if (= k 0) 1
        (let loop ((q 1) (n 0))
          (if (> q board-size) n
              (loop (+ q 1) (if (safe? q 1 placed) (+ n (place (- k 1) (cons q placed))) n))))))
  (place board-size '()))
(display (map queens '(1 2 3 4 5 6 7))) (newline)
