#!/usr/bin/env bash
# guide.sh GUIDE STAGE - docs/guide.md works as it stands: its blocks of C, one after
# another, compiled by its commands against Tarn installed in STAGE, run its program,
# which prints what it says, also under the modes that it names.
set -euo pipefail

guide=$1
stage=$2
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# All blocks of one language, one after another.
blocks() {
    awk -v language="$1" '
        !inside && $0 == "```" language { inside = 1; next }
        inside && $0 == "```" { inside = 0; next }
        inside { print }' "$guide"
}
blocks c >"$scratch/pile.c"
blocks pile >"$scratch/program.pile"
blocks output >"$scratch/expected"
blocks console >"$scratch/commands"
for f in pile.c program.pile expected commands; do
    [ -s "$scratch/$f" ] || {
        echo "$guide has no block for $f"
        exit 1
    }
done

PKG_CONFIG_PATH=$(find "$stage" -name tarn.pc -printf '%h\n')
export PKG_CONFIG_PATH
LD_LIBRARY_PATH=$(pkg-config --variable=libdir tarn)
export LD_LIBRARY_PATH
cd "$scratch"
runs=0
while IFS= read -r command; do
    echo "$command"
    if [[ $command == cc* ]]; then
        bash -euo pipefail -c "$command -Wall -Wextra -Werror"
        continue
    fi
    # A hundredth of the depth where each call moves a stack.
    [[ $command != TARN=* ]] || sed -i 's/^100000 depth/1000 depth/; s/ 1000 / 100 /g' program.pile
    bash -euo pipefail -c "$command" >out 2>err || {
        cat out err
        exit 1
    }
    if [[ $command == TARN=* ]]; then
        sed 's/^100000$/1000/; t; s/^1000$/100/' expected | diff - out
    else
        diff expected out
    fi
    runs=$((runs + 1))
done <commands
[ "$runs" -ge 4 ]

# Without the flags, on stacks of fixed size; and what the page says about a mistake.
fixed=$(grep -oE 'cc -O2 pile.c \$\(pkg-config *' pile.c "$guide" | head -n 1)
[ -n "$fixed" ]
# shellcheck disable=SC2046
cc -O2 pile.c $(pkg-config --cflags --libs tarn) -o fixed
sed -i 's/^1000 depth/100 depth/' program.pile
./fixed program.pile | diff <(sed 's/^100000$/100/; t; s/^1000$/100/' expected) -

sed 's/tarn_store(&w->body, read_until(&text, ";"))/w->body = read_until(\&text, ";")/' pile.c >wrong.c
! diff -q pile.c wrong.c >/dev/null
# shellcheck disable=SC2046
cc -O2 $(pkg-config --variable=managed_cflags tarn) -c wrong.c
# shellcheck disable=SC2046
cc wrong.o $(pkg-config --variable=managed_libs tarn) -o wrong
TARN=gcstress=1,barriercheck=1,checkmark=1,clobberfree=1 ./wrong program.pile >out 2>err && {
    echo "a store without barrier was not noticed"
    exit 1
}
grep 'barriercheck: slot .*type word), was set to .*type list) by a store without a barrier' err
