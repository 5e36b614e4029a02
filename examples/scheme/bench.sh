#!/usr/bin/env bash
# bench.sh [--runs N] [--build DIR] [BENCHMARK...] - the programs of bench/ on Tarn,
# Boehm's collector, malloc without free, and Guile (compiled before): medians of N runs
# (default 5), one of each in turn. Time is that of the whole process, memory the peak
# of what is resident. Guile's channels are left out: it has none. "Boehm, as much" begins
# with a heap as large as Tarn's peak before it: more memory is fewer collections.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
runs=5
build=$here/../../build/release/examples/scheme
while [ $# -gt 0 ]; do
    case $1 in
    --runs) runs=$2 && shift 2 ;;
    --build) build=$2 && shift 2 ;;
    -*) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" | head -n -1 && exit 2 ;;
    *) break ;;
    esac
done
[ $# -gt 0 ] || set -- tak nqueens deriv destruct earley rewrite gcbench strings channels
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
guile=$(command -v guile-3.0 || command -v guile) || true

# one SYSTEM BENCHMARK: a line "seconds pause-us peak-mb" (pause "-" if unknown).
one() {
    local system=$1 name=$2 begin end
    if [ "$system" = guile ]; then
        begin=$EPOCHREALTIME
        "$guile" -q -c "(load-compiled \"$tmp/$name.go\")
            (for-each (lambda (l) (if (string-prefix? \"VmHWM\" l)
                                      (format (current-error-port) \"~a~%\" l)))
              (string-split (call-with-input-file \"/proc/self/status\"
                (@ (ice-9 textual-ports) get-string-all)) #\newline))" \
            >"$tmp/out" 2>"$tmp/err"
        end=$EPOCHREALTIME
        awk -v b="$begin" -v e="$end" '/VmHWM/ {
            printf "%.3f - %.1f\n", e - b, $2 / 1000 }' "$tmp/err"
    else
        local heap=() program=$system
        if [ "$system" = scheme_boehm_as_much ]; then
            program=scheme_boehm
            heap=(env "GC_INITIAL_HEAP_SIZE=$(tail -n 1 "$tmp/$name-scheme" |
                awk '{ print int($3) }')M")
        fi
        begin=$EPOCHREALTIME
        "${heap[@]}" "$build/$program" --stats "$here/bench/$name.scm" >"$tmp/out" 2>"$tmp/err"
        end=$EPOCHREALTIME
        awk -v b="$begin" -v e="$end" '/^stats:/ {
            for (i = 2; i < NF; i++) v[$i] = $(i + 1)
            printf "%.3f %s %s\n", e - b, v["pauses"] ? v["longest_us"] : "-",
                v["peak_mb"] }' "$tmp/err"
    fi
    # All must compute the same.
    if [ -e "$tmp/$name.result" ]; then
        cmp "$tmp/out" "$tmp/$name.result" >&2
    else
        cp "$tmp/out" "$tmp/$name.result"
    fi
}

# median FILE COLUMN
median() {
    awk -v c="$2" '$c == "-" { none = 1 } { print $c } END { if (none) print "none" }' \
        "$1" | sort -g | awk '/none|^-$/ { dash = 1 } { a[NR] = $1 }
        END { print dash ? "-" : a[int((NR + 1) / 2)] }'
}

systems=(scheme)
for s in scheme_boehm scheme_malloc; do
    [ ! -x "$build/$s" ] || systems+=("$s")
    [ ! -x "$build/$s" ] || [ "$s" != scheme_boehm ] || systems+=(scheme_boehm_as_much)
done
[ -z "$guile" ] || systems+=(guile)
printf '| %s | %s | %s | %s | %s |\n' benchmark system "time, s" \
    "longest pause, us" "peak memory, MB"
printf '|---|---|---|---|---|\n'
for name; do
    use=("${systems[@]}")
    if [ -n "$guile" ]; then
        if [ "$name" = channels ]; then
            use=("${systems[@]/guile/}")
        else
            "$guile" -q -c "(use-modules (system base compile))
                (compile-file \"$here/bench/$name.scm\"
                    #:output-file \"$tmp/$name.go\")" >/dev/null 2>&1
        fi
    fi
    for ((i = 0; i < runs; i++)); do
        for system in "${use[@]}"; do
            [ -z "$system" ] || one "$system" "$name" >>"$tmp/$name-$system"
        done
    done
    for system in "${use[@]}"; do
        [ -n "$system" ] || continue
        f=$tmp/$name-$system
        case $system in
        scheme) label=Tarn ;;
        scheme_boehm) label=Boehm ;;
        scheme_boehm_as_much) label="Boehm, as much" ;;
        scheme_malloc) label="malloc" ;;
        guile) label=Guile ;;
        esac
        printf '| %s | %s | %s | %s | %s |\n' "$name" "$label" \
            "$(median "$f" 1)" "$(median "$f" 2)" "$(median "$f" 3)"
    done
done
