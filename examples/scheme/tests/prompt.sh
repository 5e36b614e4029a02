#!/usr/bin/env bash
# prompt.sh SCHEME - what is typed is evaluated, errors do not end the session, lines
# are joined until parentheses close, the exit code is that of (exit).
set -euo pipefail
status=0
said=$("$1" 2>&1 <<'TEXT'
(define (f x)
  (* x 2))
(f 21)
(car 5)
"two
lines" 'b
(call-with-current-continuation (lambda (k) (dynamic-wind (lambda () (display "in ")) (lambda () (exit 3)) (lambda () (display "out")))))
TEXT
) || status=$?
want='42
error: wrong type of argument for car 5
  in car at -:1
"two\nlines"
b
in out'
diff <(printf '%s\n' "$want") <(printf '%s\n' "$said")
[ "$status" -eq 3 ]

# On a terminal a library edits the line: Ctrl-A goes to its beginning.
if [ "${2:-}" = edit ]; then
    if ! command -v script >/dev/null; then
        echo "SKIPPED: editing on a terminal (no program \"script\")"
        exit 0
    fi
    said=$(printf '+ 40 2)\001(\n(exit)\n' | TERM=vt100 script -qec "$1" /dev/null)
    grep -q '^42' <<<"$said" || {
        printf 'no 42 in:\n%s\n' "$said"
        exit 1
    }
fi
