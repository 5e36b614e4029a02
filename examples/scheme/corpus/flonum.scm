;; Inexact numbers and how they are printed.
(for-each (lambda (x) (write x) (newline))
  (list 1.5 0.1 100.0 -2.25 1e21 1e22 123456.789 0.001 (/ 1.0 3)
        (sqrt 2) (sqrt 16) (sqrt 15.0) (* 1.0 0) (+ 0.1 0.2) 3.0e100
        (exp 0) (floor 2.5) (ceiling 2.5) (round 2.5) (round 3.5) (round -2.5)
        (truncate -2.7) (atan 1.0 1.0) (exp 1.0) (log 10.0) (sin 1.0)
        (/ 9 3.0) (exact (round 2.6)) (string->number "1e3")
        (max 1.0 2) (number->string 3.25) (expt 2.0 0.5)))
(write (list (< 1 1.5) (= 1 1.0) (eqv? 1 1.0) (equal? 1.0 1.0) (eqv? 0.5 0.5))) (newline)
