#!/usr/bin/env bash
# check_symbols.sh LIBTARN.A LIBTARN.SO - what the libraries show to a linker:
# the public names and the three that compilers emit for -fsplit-stack, nothing
# else; one object in the archive; no executable stack.
set -euo pipefail

archive=$1
shared=$2
allowed='^(tarn_[A-Za-z0-9_]*|__morestack|__morestack_non_split'
allowed+='|__morestack_allocate_stack_space)$'
status=0
complain() {
    echo "$*"
    status=1
}

members=$(ar t "$archive" | wc -l)
[ "$members" -eq 1 ] || complain "$archive has $members members, expected 1"

# Lines of nm -P: name, type, value, size.
in_archive=$(nm -P -g --defined-only "$archive" | awk 'NF > 1 { print $1 }' |
    sort)
in_shared=$(nm -P -D --defined-only "$shared" |
    awk 'NF > 1 { sub(/@.*/, "", $1); print $1 }' | sort)
[ -n "$in_archive" ] || complain "$archive defines no global symbol"
foreign=$(grep -vE "$allowed" <<<"$in_archive") &&
    complain "$archive defines internal global symbols: $foreign"
foreign=$(grep -vE "$allowed" <<<"$in_shared") &&
    complain "$shared exports internal symbols: $foreign"
difference=$(diff <(echo "$in_archive") <(echo "$in_shared")) ||
    complain "archive (<) and shared library (>) differ: $difference"

# Hidden symbols that nothing defines would stop every link of the archive.
undefined=$(readelf -sW "$archive" |
    awk '$7 == "UND" && $6 == "HIDDEN" && $8 !~ /^__(start|stop)_/ {print $8}')
[ -z "$undefined" ] || complain "$archive lacks internal symbols: $undefined"

# lld gives callers of code that has no stack checks more stack, at a price; the
# archive says that its callers need none, and that it has no checks itself.
sections=$(readelf -SW "$archive")
for section in .note.GNU-split-stack .note.GNU-no-split-stack; do
    grep -qwF -- "$section" <<<"$sections" ||
        complain "$archive has no $section"
done
note=$(grep 'note\.GNU-stack' <<<"$sections") ||
    complain "$archive has no .note.GNU-stack: a source lacks it"
if grep -q ' X ' <<<"${note:-}" ||
    readelf -lW "$shared" | grep GNU_STACK | grep -q E; then
    complain "an executable stack is asked for"
fi

[ "$status" -ne 0 ] || echo "$(wc -l <<<"$in_archive") public symbols"
exit "$status"
