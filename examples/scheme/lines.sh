#!/usr/bin/env bash
# lines.sh - lines of code (no comments, no empty lines) that each memory management and
# its threads need, and what the rest of the interpreter has to do with it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

# Standard input without comments and empty lines, counted.
code() {
    awk '{
        line = $0
        while (1) {
            if (inside) {
                end = index(line, "*/")
                if (!end) { line = ""; break }
                line = substr(line, end + 2)
                inside = 0
            }
            begin = index(line, "/*")
            if (!begin) break
            rest = substr(line, begin + 2)
            end = index(rest, "*/")
            if (end) {
                line = substr(line, 1, begin - 1) substr(rest, end + 2)
            } else {
                kept = substr(line, 1, begin - 1)
                inside = 1
                if (kept ~ /[^ \t]/) n++
                line = ""
                break
            }
        }
        if (line ~ /[^ \t]/) n++
    } END { print n + 0 }'
}

# threads.h and threads.c: what is compiled for Tarn (1) or for threads (0).
part() {
    awk -v want="$1" '
        /^#ifdef MEMORY_TARN/ { on = 1; inside = 1; next }
        inside && /^#else/ { on = 0; next }
        inside && /^#endif/ { inside = 0; next }
        inside && on == want { print }' threads.h threads.c | code
}

printf '%-8s %14s %15s\n' "" "memory, lines" "threads, lines"
printf '%-8s %14d %15d\n' Tarn "$(code <memory_tarn.h)" "$(part 1)"
printf '%-8s %14d %15d\n' Boehm "$(code <memory_boehm.h)" "$(part 0)"
printf '%-8s %14d %15d\n' malloc "$(code <memory_malloc.h)" "$(part 0)"
shared=$(ls *.c *.h | grep -v '^memory\|^threads')
printf '\nThe interpreter: %d lines of C and %d of Scheme. Of them %d allocate, %d store a\n' \
    "$(cat $shared | code)" "$(grep -vc '^ *\(;.*\)\?$' prelude.scm)" \
    "$(grep -hE '\bmem_(words|bytes)\(' $shared | wc -l)" \
    "$(grep -hE '\bmem_(set|init2?)\(' $shared | wc -l)"
printf 'reference into an object; %d make a native call.\n' \
    "$(grep -hE '\bmem_native\(' $shared | wc -l)"
