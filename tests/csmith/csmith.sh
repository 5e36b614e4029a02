#!/usr/bin/env bash
# csmith.sh PARTS [OPTIONS] - random C programs, made by csmith, run as
# goroutines: whatever happens to their stacks, they compute what they computed
# as plain programs.
#
# PARTS is a shell file that the build writes: where the host's objects, the
# runtime and the headers are. Options:
#
#   --programs N   so many programs (default 5), fewer if time is up
#   --seconds N    make no new program after so many seconds (0: no limit), but
#                  go on until one was compared
#   --seed N       seed of the first program, the others count on from it
#                  (default: the clock)
#   --cc NAME, --level Ox, --mode MODE   only these: what a failure prints
#   --keep DIR     sources of programs that fail go there
#   --repeat TEXT  how to call all this again, for messages
#   --one          each program by one compiler at one level, in turn: more programs
#                  in the same time
#   --source FILE  this program, not one that csmith makes
#   --careless     only the programs that break the contract: succeed if one of
#                  them computes something else when its stack moves. A test of
#                  this test.
#
# For each program: compiled plain by gcc -O1 and run, which gives what is to be
# computed, and the time it may take. Then once more with an oracle in it
# (host.c), which finds addresses of locals in globals: such programs break the
# contract of copying stacks, and are skipped. The rest is compiled for copying
# stacks by each compiler at each level and run in each mode. Two compilers that
# disagree without the runtime are no business of ours, but counted.
set -euo pipefail

parts=$1
shift
programs=5 seconds=0 seed= ccs='gcc clang' levels='O1 O2 O3' only= keep=
repeat= careless= one= source=
while [ $# -gt 0 ]; do
    case $1 in
    --programs) programs=$2 ;;
    --seconds) seconds=$2 ;;
    --seed) seed=$2 ;;
    --cc) ccs=$2 ;;
    --level) levels=$2 ;;
    --mode) only=$2 ;;
    --keep) keep=$2 ;;
    --repeat) repeat=$2 ;;
    --source) source=$2 programs=1 ;;
    --one) one=1 && set -- x "$@" ;;
    --careless) careless=1 && set -- x "$@" ;;
    *)
        echo "csmith.sh: unknown option $1" >&2
        exit 2
        ;;
    esac
    shift 2
done
for number in "$programs" "$seconds" "${seed:-0}"; do
    [[ $number =~ ^[0-9]+$ ]] || {
        echo "csmith.sh: not a number: $number" >&2
        exit 2
    }
done
# shellcheck source=/dev/null
. "$parts" # HOST ORACLE RUNTIME INCLUDE LIBS
for tool in csmith gcc clang ld.lld objcopy; do
    command -v "$tool" >/dev/null || {
        echo "csmith.sh: $tool is missing: run ./dev setup" >&2
        exit 77
    }
done
[ -n "$seed" ] || seed=$(($(date +%s%N) / 1000 % 4000000000))
keep=${keep:-$PWD}
repeat=${repeat:-"$0 $parts"}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# What is asked of csmith, in turn: by seed, so that a seed says it all.
shapes=(
    ""
    "--max-funcs 20 --max-block-depth 3"
    "--max-pointer-depth 4 --no-jumps"
    "--inline-function-prob 0 --max-array-dim 2"
    "--float"
)
# "plain" is not the runtime's. Others: values of TARN.
modes=(
    "plain"
    ""
    "stackmove=1,stackpoison=1"
    "stackmove=1,gcstress=64,stackshrink=1"
    "gcstress=64,stackshrink=1,preemptat=5,maxprocs=1"
)
[ -z "$only" ] || modes=("${only#none}")
[ -z "$careless" ] || modes=(plain "stackmove=1,stackpoison=1")

warm=(-w -isystem /usr/include/csmith)
managed=(-fsplit-stack -fcf-protection=none -fno-lto -fPIE
    -include tarn/managed.h -I"$INCLUDE" -Dmain=csmith_main "${warm[@]}")
# To link some thousand times without what only a debugger reads.
objcopy --strip-debug "$RUNTIME" "$work/runtime.o"
read -ra libs <<<"$LIBS"

moves=0 grows=0 shrinks=0 cycles=0 runs=0 agreed=0 made=0 failures=0 noticed=0
declare -A skipped=()

skip() {
    skipped[$1]=$((${skipped[$1]:-0} + 1))
    [ -z "${2:-}" ] || echo "csmith: seed $seed: $2"
}

# limited SECONDS COMMAND...: stdout to $work/out, stderr to $work/err.
limited() {
    local limit=$1
    shift
    # The shell's own words about who dies by a signal are no news.
    { timeout -s KILL "$limit" "$@" >"$work/out" 2>"$work/err"; } 2>/dev/null
}

fail() { # WHAT CC LEVEL MODE
    failures=$((failures + 1))
    mkdir -p "$keep"
    cp "$work/p.c" "$keep/csmith-$seed.c"
    cat <<TEXT
csmith: FAILED: $1
  seed:    $seed (csmith $(csmith --version | sed -n 's/^csmith //p') $shape)
  built:   $2 -$3 ${managed[*]}
  options: ${4:-none}; room on the stack: $room bytes
  repeat:  $repeat --seed $seed --programs 1 --cc $2 --level $3 --mode "${4:-none}"
  source:  $keep/csmith-$seed.c
TEXT
    if [ -s "$work/err" ]; then
        sed 's/^/  stderr:  /' "$work/err" | tail -n 40
    fi
}

# Is the contract kept? 0 yes; 1 no, or it tells nothing.
ask_oracle() {
    local status=0
    # All globals in one section of a name that can be a symbol's.
    gcc -O0 "${managed[@]}" -fno-pie -fno-zero-initialized-in-bss \
        -finstrument-functions \
        -finstrument-functions-exclude-function-list=crc32_,transparent_crc \
        -c "$work/p.c" -o "$work/o.o"
    objcopy --rename-section .data=csmith_data "$work/o.o"
    gcc -no-pie -fuse-ld=lld "$work/o.o" "$ORACLE" "$work/runtime.o" \
        "${libs[@]}" -o "$work/oracle"
    TARN=stackescape=1,stackmax=1GiB limited 60 "$work/oracle" 100000 ||
        status=$?
    if [ "$status" -eq 0 ]; then
        [ "$(<"$work/out")" = "$want" ] && return 0
        fail "the oracle's run computes $(<"$work/out"), not $want" gcc O0 \
            stackescape=1
    elif grep -q '^host: breach' "$work/err" &&
        grep -q 'stackescape: in cycle' "$work/err"; then
        skip "address of a local in a global"
    elif grep -q '^host: too many calls' "$work/err" || [ "$status" = 137 ]
    then
        skip "too many calls"
    else
        fail "stackescape and the oracle disagree (status $status)" gcc O0 \
            stackescape=1
    fi
    return 1
}

# As goroutines, in all ways. Says how it went by its status.
compare() {
    local cc level mode status line good=0 argument m g s c turn=0
    for cc in $ccs; do
        for level in $levels; do
            turn=$((turn + 1))
            [ -z "$one" ] || [ $((seed / 5 % pairs)) -eq $((turn - 1)) ] ||
                continue
            "$cc" "-$level" "${managed[@]}" -c "$work/p.c" -o "$work/m.o"
            gcc -pie -fuse-ld=lld "$work/m.o" "$HOST" "$work/runtime.o" \
                "${libs[@]}" -o "$work/m"
            for mode in "${modes[@]}"; do
                argument=$room
                [ "$mode" != plain ] || argument=plain
                status=0
                TARN=$mode limited 60 "$work/m" "$argument" || status=$?
                if [ "$status" -eq 0 ] && [ "$(<"$work/out")" = "$want" ]; then
                    runs=$((runs + 1))
                elif [ "$mode" = plain ]; then
                    skip "compilers disagree" \
                        "$cc -$level disagrees without the runtime, too"
                    return 0
                elif [ -n "$careless" ]; then
                    noticed=$((noticed + 1)) good=1
                    continue
                else
                    good=1
                    line="it computes \"$(<"$work/out")\", not \"$want\""
                    [ "$status" -eq 0 ] || line="exit status $status"
                    [ "$status" -ne 137 ] || line="it does not end"
                    fail "$line" "$cc" "$level" "$mode"
                    continue
                fi
                [ "$mode" != plain ] || continue
                line=$(grep '^host: moves=' "$work/err") || {
                    fail "the host says nothing" "$cc" "$level" "$mode"
                    return 1
                }
                read -r m g s c <<<"$(sed 's/[^0-9 ]//g' <<<"$line")"
                # Who does not move always moves to grow.
                [[ $mode == *stackmove=1* ]] || grows=$((grows + m))
                moves=$((moves + m)) grows=$((grows + g))
                shrinks=$((shrinks + s)) cycles=$((cycles + c))
                if [[ $mode == *stackmove=1* ]] && [ "$m" -lt 2 ]; then
                    fail "$m moves: it was not moved" "$cc" "$level" "$mode"
                    good=1
                fi
            done
        done
    done
    [ "$good" -ne 0 ] || agreed=$((agreed + 1))
    return "$good"
}

first=$seed
pairs=$(($(wc -w <<<"$ccs") * $(wc -w <<<"$levels")))
echo "csmith: seeds from $first"
SECONDS=0
for (( ; made < programs; made++, seed++)); do
    if [ "$made" -gt 0 ] && [ $((made % 50)) -eq 0 ]; then
        echo "csmith: $made programs in $SECONDS s: $agreed agree in $runs runs"
    fi
    if [ "$seconds" -gt 0 ] && [ "$SECONDS" -ge "$seconds" ] &&
        [ $((agreed + failures + noticed)) -gt 0 ]; then
        break
    fi
    shape=${shapes[seed % ${#shapes[@]}]}
    # Growth at a different place in each.
    room=$((seed * 7919 % 20000))
    if [ -n "$source" ]; then
        cp "$source" "$work/p.c"
        shape="no, it is $source"
    else
        # shellcheck disable=SC2086 # options are to be split
        limited 10 csmith --seed "$seed" $shape --output "$work/p.c" || {
            skip "csmith does not end"
            continue
        }
    fi
    gcc -O1 "${warm[@]}" "$work/p.c" -o "$work/plain"
    limited 0.5 "$work/plain" || {
        skip "does not end as a plain program"
        continue
    }
    want=$(<"$work/out")
    [[ $want == "checksum = "* ]] || {
        fail "a plain program prints \"$want\"" gcc O1 plain
        continue
    }
    if ask_oracle; then
        [ -z "$careless" ] || continue
    else
        [ -n "$careless" ] || continue
    fi
    compare || true
done

echo "csmith: seeds $first to $((seed - 1)) in $SECONDS s: $made programs," \
    "$agreed agree in $runs runs, $failures failures"
for why in "${!skipped[@]}"; do
    echo "csmith: skipped: ${skipped[$why]}: $why"
done
echo "csmith: $moves moves, $grows growths, $shrinks shrinks," \
    "$cycles collections"
if [ -n "$careless" ]; then
    echo "csmith: careless programs: noticed in $noticed runs"
    [ "$noticed" -gt 0 ] && [ "$failures" -eq 0 ]
    exit
fi
[ $((agreed + failures)) -gt 0 ] || echo "csmith: nothing was compared"
[ "$failures" -eq 0 ] && [ "$agreed" -gt 0 ]
