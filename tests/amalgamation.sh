#!/usr/bin/env bash
# amalgamation.sh ROOT OUT - what cmake/amalgamate.sh writes (into OUT) compiles by the
# commands at the head of tarn.c, with gcc and with clang and without warnings, and
# runs what the README and examples/consumer show.
set -euo pipefail

root=$1
out=$2
warnings=(-Wall -Wextra -Werror)
bash "$root/cmake/amalgamate.sh" "$out"
cd "$out"
status=0
complain() {
    echo "FAILED: $*"
    status=1
}

# The README's first program; and one whose main.c includes <tarn/tarn.h>, too.
awk '/^```c$/ { inside = 1; next } /^```$/ { if (inside) exit } inside' \
    "$root/README.md" >readme.c
cp "$root/examples/consumer/main.c" consumer.c
sed -i 's,<tarn/tarn.h>,"tarn.h",' readme.c consumer.c
grep -q '"tarn.h"' readme.c
grep -q '"tarn.h"' consumer.c

# Commands of tarn.c that have this in them, for another main.c, compiler and program.
command_with() { # TEXT PROGRAM COMPILER
    local line
    line=$(sed -n 's/^ \*   cc /cc /p' tarn.c | grep -F -- "$1" | head -n 1)
    [ -n "$line" ] || {
        echo "tarn.c has no command with \"$1\"" >&2
        exit 1
    }
    line=${line/#cc/$3}
    line=${line//main/$2}
    echo "$line"
}
run() {
    echo "$*"
    "$@"
}
compilers=0
for cc in gcc clang; do
    command -v "$cc" >/dev/null || {
        echo "skip $cc: not installed"
        continue
    }
    compilers=$((compilers + 1))
    rm -f ./*.o a.out
    # One command for all, by one of them. The README's example is written for readers:
    # its warnings are its own.
    if [ $compilers = 1 ]; then
        # shellcheck disable=SC2046 # commands are meant to be split
        run $(command_with 'main.c tarn.c' readme $cc)
        [ "$(./a.out)" = 2002000 ] || complain "$cc: the README's example"
    fi
    # shellcheck disable=SC2046
    run $(command_with '-r -o tarn.o' main $cc) "${warnings[@]}"
    for program in readme consumer; do
        # shellcheck disable=SC2046
        run $(command_with '-fsplit-stack' $program $cc)
        # shellcheck disable=SC2046
        run $(command_with '-fuse-ld=lld' $program $cc)
        TARN=stacks=copying,stackmove=1,seed=1 ./a.out >out.txt 2>err.txt ||
            complain "$cc: $program, copying stacks: $(cat err.txt)"
        grep -q . out.txt || complain "$cc: $program says nothing"
        [ $program = consumer ] || [ "$(cat out.txt)" = 2002000 ] ||
            complain "$cc: the README's example on copying stacks"
    done
    # Callers of code without stack checks are seen to by the linker, as the runtime
    # finds out by this function.
    objdump -d --disassemble=linkcheck_probe a.out | grep -qw stc ||
        complain "$cc: lld does not know the objects for what they are"
    [ $compilers = 1 ] || continue
    # Internal names stay inside where it is part of a library.
    run $cc -O2 -fno-strict-aliasing -fno-plt -fPIC -shared -o libone.so tarn.c tarn.S \
        "${warnings[@]}" -lmimalloc -lpthread -ldl
    foreign=$(nm -P -D --defined-only libone.so | awk '{ print $1 }' |
        grep -vE '^(tarn_|__morestack)') && complain "$cc: exported: $foreign"
done
[ $compilers -gt 0 ] || complain "no compiler found"
exit $status
