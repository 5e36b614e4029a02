#!/usr/bin/env bash
# stress_break.sh TARN-STRESS NAME HOW [OPTION...] - a run of tarn-stress that is
# broken on purpose fails soon, and in the right way: the exit status, the seed, the
# events of the Ps and of the goroutine at fault, a command that repeats it.
# HOW: what the line "FAILED in round" says besides (a regular expression), or
# "lost" for any of the ways in which a lost object shows.
set -euo pipefail

stress=$1 name=$2 how=$3
shift 3
# 1 and 66: what sanitizers say of a freed object or of who uses it again.
[ "$how" != lost ] || how='exit status (1|2|66)$|ended by signal (6|7|11)'
# What is broken races, too: here tarn-stress is to notice, not ThreadSanitizer,
# which ends the process without the events.
export TSAN_OPTIONS="${TSAN_OPTIONS:+$TSAN_OPTIONS:}report_bugs=0"
out=$(mktemp)
trap 'rm -f "$out"' EXIT

fail() {
    echo "$name: $*"
    tail -n 200 "$out"
    exit 1
}

seconds=$SECONDS status=0
"$stress" --break "$name" --seconds 60 --seed 1 "$@" >"$out" 2>&1 || status=$?
[ "$status" -ne 0 ] || fail "nothing was noticed"
[ "$status" -eq 1 ] || fail "exit status $status, not 1"

# has PATTERN: in a line of its own.
has() {
    grep -aqE -- "$1" "$out" || fail "the report lacks: $1"
}
has "FAILED in round [0-9]+ after [0-9.]+ s: .*($how)"
has '^  what:    .+'
has '^  seed:    [0-9]+$'
has '^  modes:   .+'
has "^  repeat:  .*tarn-stress --seed [0-9]+ .*--modes .*--break $name\$"
if [ "$name" != kill ]; then
    has '^last events of P [0-9]+:$'
    has 'goroutine [0-9]+ runs, m [0-9]+'
    has '^events of goroutine [0-9]+, the last|^no goroutine ran on this thread'
fi
grep -aE '^  (what|seed): ' "$out"
echo "$name: noticed after $((SECONDS - seconds)) s"
