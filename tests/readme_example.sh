#!/usr/bin/env bash
# readme_example.sh README STAGE - what the README shows first must work: its
# first ```c block is compiled by the commands of the ```sh (or bash, console)
# block that follows it and compiles that file, against Tarn installed in STAGE,
# and run. Exit status 77: there is no README yet.
set -euo pipefail

readme=$1
stage=$2
[ -f "$readme" ] || {
    echo "no $readme"
    exit 77
}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# The n-th fenced block of one of the given languages, after line `from`.
block() {
    awk -v languages="$1" -v from="$2" '
        NR <= from { next }
        !inside && $0 ~ "^```(" languages ")[ \t]*$" { inside = 1; next }
        inside && /^```[ \t]*$/ { exit }
        inside { print }' "$readme"
}
start=$(grep -nE '^```c[ 	]*$' "$readme" | head -n 1 | cut -d: -f1) || {
    echo "$readme has no \`\`\`c block"
    exit 1
}
block c 0 >"$scratch/example.c"

# The commands of a shell block, continued lines joined.
commands_after() {
    block 'sh|bash|console|shell' "$1" |
        sed -e ':a' -e '/\\$/N; s/\\\n *//; ta' | sed 's/^\$ //'
}
compiles='(cc|clang)\b.*\.c\b'

# The compile command: of the first shell block behind it with "cc ... x.c".
commands=
from=$start
while :; do
    next=$(awk -v from="$from" 'NR > from && /^```(sh|bash|console|shell)[ \t]*$/ {
        print NR; exit }' "$readme")
    [ -n "$next" ] || break
    commands=$(commands_after $((next - 1)))
    grep -qE "$compiles" <<<"$commands" && break
    commands=
    from=$next
done
[ -n "$commands" ] || {
    echo "$readme does not say how to compile its example"
    exit 1
}
# What stands before the compile line is installation.
commands=$(sed -nE "/$compiles/,\$p" <<<"$commands")
file=$(grep -oE '[A-Za-z0-9_./-]+\.c\b' <<<"$commands" | head -n 1)
mkdir -p "$scratch/$(dirname "$file")"
cp "$scratch/example.c" "$scratch/$file" 2>/dev/null || true

PKG_CONFIG_PATH=$(find "$stage" -name tarn.pc -printf '%h\n')
export PKG_CONFIG_PATH
LD_LIBRARY_PATH=$(pkg-config --variable=libdir tarn)
export LD_LIBRARY_PATH
echo "$commands"
cd "$scratch"
bash -euo pipefail -c "$commands"
# If the block did not run what it made, do.
program=$(grep -oE -- '-o +[^ ]+' <<<"$commands" | tail -n 1 |
    sed "s/-o *//" || true)
program=${program:-a.out}
if ! grep -qE "(^|[ ;&])\./$program" <<<"$commands"; then
    "./$program"
fi
