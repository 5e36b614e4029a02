;; guile-prelude.scm - what Guile must load to run the programs here.
(use-modules (scheme base) (scheme char) (scheme cxr) (scheme write) (scheme read)
             (scheme file) (scheme lazy) (scheme inexact) (scheme case-lambda)
             (scheme eval) (srfi srfi-1) (srfi srfi-8) (srfi srfi-69) (ice-9 receive))
(print-enable 'r7rs-symbols)
