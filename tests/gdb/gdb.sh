#!/usr/bin/env bash
# gdb.sh HOW PROGRAM LIBTARN.SO SCRIPT - gdb with SCRIPT (gc/tarn-gdb.py) looks at
# tests/gdb/target.c, alive and as a core, and must find what is there. HOW:
#   managed, managed_O0   as it is; its goroutines are frozen
#   stripped              without debug information, symbols only
#   shared                the library has no symbols but those it exports
# Exit status 77: there is no gdb, or it may not debug here.
set -euo pipefail

how=$1
program=$2
shared=$3
script=$4
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

skip() {
    echo "SKIPPED: $*"
    exit 77
}
command -v gdb >/dev/null || skip "no gdb (./dev setup installs it)"
gdb -nx -batch -ex 'python print("python works")' 2>&1 |
    grep -q '^python works' || skip "this gdb has no Python"
gdb -nx -batch -ex 'run' --args true 2>&1 | grep -q 'exited normally' ||
    skip "gdb cannot run a program here (no ptrace?)"

status=0
complain() {
    echo "FAILED: $*"
    status=1
}

cp "$program" "$scratch/program"
program=$scratch/program
library=
load="source $script"
case $how in
stripped) strip -g "$program" ;;
shared)
    name=$(readelf -d "$program" | sed -n 's/.*NEEDED.*\[\(libtarn.*\)\]/\1/p')
    strip --strip-unneeded "$shared" -o "$scratch/$name"
    library=$scratch
    # As it is installed: gdb loads it with the library.
    cp "$script" "$scratch/$name-gdb.py"
    load="add-auto-load-safe-path $scratch"
    ;;
esac

# Two Ps run two goroutines; with one P those that are ready wait. stackshrink
# freezes whoever waits.
ps=1 options=seed=1
case $how in
managed*) options+=,stackshrink=1 ;;
shared) ps=2 ;;
esac

# shellcheck disable=SC2016 # for gdb
look='info goroutines
tarn procs
tarn gc
tarn heap
echo -- object\n
tarn object $rdi + 9
tarn object *(void **)&blob + 99999
python
for bad in ("tarn object 1", "goroutine 999 bt", "goroutine x", "info goroutines x"):
    try:
        gdb.execute(bad)
    except gdb.error as e:
        print(bad, "->", e)
end
echo -- stacks\n
goroutine all bt
echo -- selected\n
python
for gr in goroutines():
    if symbol(gr.g["fn"]) == "calls_native":
        gdb.execute("goroutine %d" % gr.id)
end
bt
up
goroutine all p $pc == 0
frame
goroutine off
bt
echo -- printers\n
'
# Only where there is debug information.
case $how in
managed*)
    look+='p never
p widget_type
p *gc.driver
p allp[0]
p *allp[0]->m
p *heap.pages[(unsigned long)never >> 13]
' ;;
esac
look+='echo -- end\n
'
head='set pagination off
set confirm off
set width 0
set debuginfod enabled off
set print thread-events off
'
export TARN=$options,maxprocs=$ps
export LD_LIBRARY_PATH=$library
cat >"$scratch/live" <<END
$head
$load
break stop_here
run
echo -- begin\n
$look
gcore $scratch/core
goroutine off
delete
continue
END
cat >"$scratch/dead" <<END
$head
$load
core-file $scratch/core
echo -- begin\n
$look
END
# Where a command fails gdb goes no further, and says why.
gdb -nx -batch -x "$scratch/live" "$program" >"$scratch/live.out" 2>&1 ||
    complain "gdb failed"
gdb -nx -batch -x "$scratch/dead" "$program" >"$scratch/dead.out" 2>&1 ||
    complain "gdb failed on the core"

part() { sed -n "/^-- $2/,/^-- $3/p" "$scratch/$1.out"; }
# expect WHAT PATTERN COUNT TEXT
expect() {
    local n
    n=$(grep -cE -- "$2" <<<"$4" || true)
    [ "$n" = "$3" ] || complain "$1: $n lines match \"$2\", expected $3"
}

for which in live dead; do
    all=$(part $which begin object)
    frozen=
    case $how in managed*) frozen=', frozen' ;; esac
    expect "$which: parked" \
        "waiting: chan receive$frozen +waits_here( in tarn_chan_recv)? +entry parked" 2 "$all"
    expect "$which: first" \
        'running, M [0-9]+, P [01], thread [0-9]+ +stop_here +entry first$' 1 "$all"
    expect "$which: native" 'syscall, M [0-9]+.* calls_native .*entry calls_native' 1 "$all"
    expect "$which: system call" \
        'syscall, M [0-9]+.* reads_here in tarn_read +entry reads_here' 1 "$all"
    expect "$which: attached" \
        'syscall, attached thread, M [0-9]+, .*thread [0-9]+ .*poll.* entry -$' 1 "$all"
    expect "$which: not started" \
        '(runnable, not started +- +entry never_started)' 1 "$all"
    if [ $ps = 2 ]; then
        expect "$which: spins" 'running, M .*spins_here .*entry spins_here' 1 "$all"
    else
        anywhere=', interrupted'
        [ "$how" != managed_O0 ] || anywhere='(, interrupted)?' # or it yields
        expect "$which: spins" \
            " runnable$anywhere +spins_here .*entry spins_here" 1 "$all"
    fi
    expect "$which: Ps" '^P [0-9]+: running, M [0-9]' $ps "$all"
    expect "$which: Ms" \
        '^M [0-9]+: thread [0-9]+ \(LWP [0-9]+\): .*goroutine [0-9]+ \[syscall\]' 2 "$all"
    expect "$which: gc" '^phase off, full collection$' 1 "$all"
    expect "$which: cycles" '^cycles 1 \(1 asked for, 0 young\), started 1, swept 1' 1 "$all"
    expect "$which: widgets" '^ +1234 +39488 +32 +[0-9]+ +precise +widget$' 1 "$all"
    expect "$which: blob" '^ +1 +100000 +100000 +1 +noscan +blob$' 1 "$all"
    objects=$(part $which object stacks)
    expect "$which: object" '^type widget, 32 bytes, precise, old$' 1 "$objects"
    expect "$which: interior" ': offset 9 of the object at 0x' 1 "$objects"
    expect "$which: large" ': offset 99999 of the object at 0x' 1 "$objects"
    expect "$which: no object" \
        '^tarn object 1 -> 0x1 is not in the managed heap' 1 "$objects"
    expect "$which: no goroutine" \
        '^goroutine 999 bt -> There is no goroutine 999' 1 "$objects"
    expect "$which: usage" '(goroutine x|info goroutines x) -> Usage: ' 2 "$objects"
    stacks=$(part $which stacks selected)
    # Frames 1 and 2 by a selection that outlasts other commands; then none.
    selected=$(part $which selected printers)
    # Of the native call, which is inlined or not.
    expect "$which: selected" '^#2 .*\b(calls_native|tarn_native_call) \(' 3 "$selected"
    expect "$which: no longer" '^#0 .*\bstop_here \(' 1 "$selected"
    expect "$which: depth" '^#[0-9]+ .*\bwaits_here \(' 8 "$stacks"
    expect "$which: callers" '^#[0-9]+ .*\bparked \(' 2 "$stacks"
    expect "$which: entry" '^#[0-9]+ .*\bcalls_native \(' 1 "$stacks"
    expect "$which: reader" '^#[0-9]+ .*\breads_here \(' 1 "$stacks"
    expect "$which: attached" '^#[0-9]+ .*\battached_here \(' 1 "$stacks"
    expect "$which: its entry" '^#[0-9]+ .*\battached_thread \(' 1 "$stacks"
    expect "$which: spinner" '^#[0-9]+ .*\bspins_here \(' 1 "$stacks"
    expect "$which: breakpoint" '^#0 .*\bstop_here \(' 1 "$stacks"
    expect "$which: no frames" 'it has no frames; entry never_started' 1 "$stacks"
    printed=$(part $which printers end)
    if [ "${how#managed}" != "$how" ]; then
        expect "$which: tarn_chan" '^\$.* <channel: 0 of 2 elements of 4 bytes, receiving: goroutines [0-9]+, [0-9]+>$' 1 "$printed"
        expect "$which: tarn_type" '^\$.* <type widget, 32 bytes, precise>$' 1 "$printed"
        expect "$which: g" '^\$.* = goroutine 1 \[waiting: GC \(idle\), system\], entry driver = \{sched_sp = ' 1 "$printed"
        expect "$which: p" '^\$.* <P 0 \[running\], M [0-9]+>$' 1 "$printed"
        expect "$which: m" '^\$.* = M [0-9]+, P 0, goroutine [0-9]+ \[running\] = \{g0 = ' 1 "$printed"
        expect "$which: mspan" '^\$.* = span of [0-9]+ places of 112 bytes at 0x[0-9a-f]+, type \(noscan\) = \{' 1 "$printed"
    fi
    expect "$which: corrupt" 'corrupt|Traceback|Python Exception' 0 "$stacks$all$selected$printed"
done
# A terabyte is reserved; what is not used is not in a core.
size=$(stat -c %s "$scratch/core" || echo 0)
((size > 0 && size < 1 << 30)) ||
    complain "the core has $size bytes"
# What happened to it while it was looked at: nothing.
expect "live" 'exited normally' 1 "$(cat "$scratch/live.out")"
if [ "$how" = managed ]; then
    stable() { part "$1" begin end | sed -E 's/\bthread( apply)? [0-9]+/thread/g; s/^[*]/ /'; }
    difference=$(diff <(stable live) <(stable dead)) ||
        complain "alive (<) and in the core (>): $difference"
fi

if [ $status -ne 0 ]; then
    cat "$scratch/live.out"
    echo "== core"
    cat "$scratch/dead.out"
else
    echo "gdb shows what is there, alive and in a core of $size bytes"
fi
exit $status
