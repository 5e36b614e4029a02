#!/usr/bin/env bash
# check_protocol.sh ROOT - docs/protocol.md names, for each function of the
# protocol, the code and the test: each of these names exists where it says.
#
# A row: | name | file:function[, file:function...] | file:function[, ...] |
# First tries itself on rows that are wrong.
set -euo pipefail

# defined FILE NAME: is there a definition of NAME, or in assembly a label?
defined() {
    local file=$1 name=$2
    case $file in
    *.S) grep -Eq "^(FUNC +)?(asm_)?$name:?( |\$)" "$file" ;;
    *) awk -v name="$name" '
        # At the start of a line (with its type, or the type on the line
        # before), and not ended by a semicolon: a definition.
        open {
            if ($0 ~ /^{/ || $0 ~ /\{[ \t]*$/) { found = 1; exit }
            if ($0 ~ /;/) open = 0
        }
        $0 ~ "^([A-Za-z_].*[ *])?" name "\\(" {
            if ($0 ~ /;[ \t]*$/) next
            open = 1
            if ($0 ~ /\{[ \t]*$/) { found = 1; exit }
        }
        END { exit !found }' "$file" ;;
    esac
}

# check ROOT TABLE: prints each name that is missing; fails if there is one.
check() {
    local root=$1 table=$2 rows=0 bad=0 name code tests entry file fn
    while IFS='|' read -r _ name code tests _; do
        case $name in
        ' row '* | *---*) continue ;;
        esac
        [ -n "${name// /}" ] || continue
        rows=$((rows + 1))
        for column in "$code" "$tests"; do
            [ -n "${column// /}" ] || {
                echo "$name: an empty column"
                bad=1
            }
            for entry in ${column//[,\`]/ }; do
                file=${entry%%:*} fn=${entry#*:}
                if [ "$file" = "$entry" ] || [ ! -f "$root/$file" ]; then
                    echo "$name: no file in \"$entry\""
                    bad=1
                elif ! defined "$root/$file" "$fn"; then
                    echo "$name: $file does not define $fn"
                    bad=1
                fi
            done
        done
    done < <(grep '^|' "$table")
    [ "$rows" -gt 0 ] || {
        echo "no rows in $table"
        bad=1
    }
    return $bad
}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cat >"$scratch/a.c" <<'TEXT'
void declared(int x);
static int one(int x)
{
    return called(x);
}
__attribute__((noinline)) static void
two(int a,
    int b)
{
}
TEXT
printf 'FUNC asm_three\n        ret\nfour:\n' >"$scratch/b.S"

# try WANT ROW
try() {
    local want=$1 got=pass
    printf '%s\n' '| row | code | test |' '|---|---|---|' "$2" >"$scratch/t.md"
    check "$scratch" "$scratch/t.md" >"$scratch/out" || got=fail
    [ "$got" = "$want" ] || {
        echo "self-test: '$2': $got, expected $want"
        cat "$scratch/out"
        exit 1
    }
}
try pass '| x | a.c:one | a.c:two |'
try pass '| x | `b.S:three`, b.S:four | a.c:one, a.c:two |'
try fail '| x | a.c:declared | a.c:two |'
try fail '| x | a.c:called | a.c:two |'
try fail '| x | a.c:none | a.c:two |'
try fail '| x | c.c:one | a.c:two |'
try fail '| x | one | a.c:two |'
try fail '| x | a.c:one | |'
try fail ''

check "$1" "$1/docs/protocol.md" || {
    echo "docs/protocol.md names what does not exist"
    exit 1
}
echo "docs/protocol.md: every name exists"
