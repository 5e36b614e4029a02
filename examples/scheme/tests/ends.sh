#!/usr/bin/env bash
# ends.sh SCHEME - what a program has written is there whatever ends it: a deadlock, no
# memory, no stack. And there once.
set -euo pipefail
scheme=$1
work=$(mktemp -d /tmp/scheme-ends-XXXXXX)
trap 'rm -rf "$work"' EXIT
ulimit -c 0

# ends OPTIONS MESSAGE PROGRAM
ends() {
    status=0
    said=$(TARN=$1 "$scheme" -e "(display \"before \") (newline) (display \"it\") $3" 2>"$work/err") ||
        status=$?
    if [ "$said" != $'before \nit' ] || [ "$status" -eq 0 ] || ! grep -q "$2" "$work/err"; then
        printf 'said "%s", exit %s, for %s:\n' "$said" "$status" "$3"
        cat "$work/err"
        exit 1
    fi
}

ends "" "all goroutines are asleep" '(channel-receive (make-channel))'
ends heapmax=32MiB "out of memory" \
    '(define (grow l) (grow (cons (make-vector 100 l) l))) (grow (list))'
ends stackmax=1MiB "stack overflow" \
    '(define (deep n) (+ 1 (deep (+ n 1)))) (deep 0)'
