#!/usr/bin/env bash
# Checks a model with spin, or that spin finds the bug seeded in it.
#
#   run.sh ok    DIR MODEL CONFIG...
#   run.sh KIND  DIR MODEL CONFIG         KIND: assertion, endstate
#
# DIR is where pan.c goes, deleted first and, if all is well, afterwards. A
# CONFIG is a word of -D options for spin; one that begins with "cycles" asks
# whether every run ends (no cycles), others look for violated assertions and
# invalid end states. For ok each must be searched exhaustively without error,
# and what one leaves unreached another must reach, except for statements that
# match the expression EXCEPT of the environment.
set -euo pipefail

die() {
    echo "run.sh: $*" >&2
    exit 1
}

[ $# -ge 4 ] || die "usage: run.sh ok|assertion|endstate DIR MODEL CONFIG..."
kind=$1 dir=$2 model=$(realpath "$3")
shift 3
case $kind in ok | assertion | endstate) ;; *) die "unknown kind $kind" ;; esac
spin=${SPIN:-spin}
command -v "$spin" >/dev/null ||
    die "there is no $spin: install the Debian package spin (./dev setup)"
memory=1900 # megabytes; the search is not exhaustive if it needs more
depth=100000
# A seeded bug is found at once: there compiling takes longer than searching.
if [ "$kind" = ok ]; then optimise=-O2; else optimise=-O0; fi

# explore CONFIG: leaves pan's answer in pan.out. Its exit status says nothing.
explore() {
    local config=$1 defines=(-DMEMLIM="$memory") arguments=(-m"$depth")
    if [[ $config == cycles* ]]; then
        config=${config#cycles}
        defines+=(-DNP)
        arguments+=(-l)
    else
        defines+=(-DSAFETY)
    fi
    # shellcheck disable=SC2086 # several words
    "$spin" -a $config "$model" >spin.out 2>&1 || {
        cat spin.out >&2
        die "spin does not accept $model $config"
    }
    "${CC:-cc}" "$optimise" -w "${defines[@]}" -o pan pan.c
    nice ./pan "${arguments[@]}" >pan.out 2>&1 || true
}

# fail MESSAGE: with what pan said and how it got there.
fail() {
    grep -v '^Depth=' pan.out >&2 || true
    if [ -f "$(basename "$model").trail" ]; then
        echo "run.sh: the end of the trail:" >&2
        # shellcheck disable=SC2086
        "$spin" ${1#cycles} -k "$(basename "$model").trail" -p -g "$model" \
            2>&1 | tail -n 200 >&2 || true
    fi
    die "$(basename "$model") $1: $2 (files are in $dir)"
}

# The search was complete: nothing was cut off.
complete() {
    ! grep -qE 'max search depth too small|MEMLIM bound|out of memory' pan.out &&
        ! grep -qE 'resource|VECTORSZ|error: ' pan.out &&
        grep -qE '^State-vector .* errors: ' pan.out
}

# Unreached statements, "PROCTYPE FILE:LINE "TEXT"" each, without ends of
# processes that are not meant to end.
unreached() {
    awk '/^unreached in/ { where = $NF }
         /^\t.*, state [0-9]+, "/ && !/"-end-"/ {
             sub(/^\t/, ""); sub(/, state [0-9]+,/, ""); sub(/^.*\//, "")
             print where, $0
         }' pan.out | { grep -vE "${EXCEPT:-^$}" || true; } | sort -u
}

rm -rf "$dir"
mkdir -p "$dir"
cd "$dir"

if [ "$kind" = ok ]; then
    for config; do
        explore "$config"
        complete || fail "$config" "the search is not complete"
        grep -q 'errors: 0$' pan.out || fail "$config" "an error"
        unreached >new
        if [ -f left ]; then
            comm -12 left new >both
            mv both left
        else
            mv new left
        fi
        echo "$config:" "$(grep -oE '[0-9]+ states, stored' pan.out)," \
            "$(grep -oE '^State-vector.*' pan.out)"
    done
    if [ -s left ]; then
        cat left >&2
        die "no configuration reaches these statements of $(basename "$model")"
    fi
else
    [ $# -eq 1 ] || die "one configuration for a seeded bug"
    case $kind in
    assertion) pattern='^pan:1: assertion violated' ;;
    endstate) pattern='^pan:1: invalid end state' ;;
    esac
    explore "$1"
    grep -qE 'errors: 1$' pan.out || fail "$1" "the seeded bug was not found"
    grep -qE "$pattern" pan.out || fail "$1" "found, but not as $kind"
    echo "$1: $(grep -E "$pattern" pan.out)"
fi
cd /
rm -rf "$dir"
