/* tests/model/stw.pml - stopping and starting the world, against goroutines
 * that run, yield, call native code; and forEachP (-DFOREACHP).
 *
 * NG goroutines do ACTS things, then they are `for (;;) {}` with polls. A native
 * call ends at once or lasts until the stopper has finished for good. P 0 is the
 * stopper's own; the others are scheduled by NM threads. A thief (sysmon) takes
 * THEFTS Ps of native calls, a collector holds a scan bit SCANS times. The
 * stopper stops and starts the world (calls forEachP) ROUNDS times.
 *
 * Requests get lost: LOST of them before they are written (droppreempt), any
 * number by execute, which clears the flag.
 *
 * Shown: stopwait comes to 0, and then every P is Pgcstop, no goroutine's code
 * runs, until the start; each P is counted once; no P gets lost or is wired to
 * two Ms; afterwards no goroutine waits while a P is idle. forEachP: fn runs
 * once for each P, and the call returns.
 *
 * Seeded bugs (-DBUG=n):
 *  4 handoffp does not look at gcwaiting
 *  5 enter gives its P away without the scan bit
 *  6 the stop does not post its requests again
 *  9 the stop looks at native calls once, not again with its requests
 * 10 the stop does not look at native calls, enter does
 * 11 startTheWorld wakes nobody
 * 12 (FOREACHP) handoffp does not run runSafePointFn
 */
#ifndef NM
#define NM 3
#endif
#ifndef NG
#define NG 2
#endif
#ifndef NP
#define NP 2
#endif
#ifndef ACTS
#define ACTS 1
#endif
#ifndef ROUNDS
#define ROUNDS 1
#endif
#ifndef SCANS
#define SCANS 0
#endif
#ifndef THEFTS
#define THEFTS 0
#endif
#ifndef LOST
#define LOST 1
#endif
#define MS (NM + 1)
#define REQUESTS
#ifndef FOREACHP
#define STOPS
#endif

#include "status.pmlh"

inline native_call()
{
    if
    :: skip
    :: true -> finished
    fi
}

#include "proc.pmlh"

byte lost = LOST;

/* preemptone: no lock, no certainty. */
inline preemptone(P)
{
    tm = NONE;
    if
    :: pstatus[P] == Prunning -> tm = pm[P]
    :: else
    fi;
    if
    :: tm != NONE && tm != me -> tg = curg[tm]
    :: else -> tg = NONE
    fi;
    if
    :: tg != NONE -> preempt[tg] = true
    :: tg != NONE && lost > 0 -> lost--
    :: else
    fi;
    tm = 0; tg = 0
}

inline preemptall()
{
    preemptone(1);
#if NP > 2
    preemptone(2);
#endif
    skip
}

/* Under sched.lock: the P of each native call. */
inline stop_native(P)
{
    setBlockOnExitSyscall(P, tm, tg, ok);
    if
    :: ok -> gcstopP(P, tm); unblock(tg)
    :: else
    fi;
    ok = false; tm = 0; tg = 0
}

inline stop_all_native()
{
    stop_native(1);
#if NP > 2
    stop_native(2);
#endif
    skip
}

/* A request posted again would be news. */
#define deaf(P) \
    (pstatus[P] == Prunning && pm[P] != NONE && curg[pm[P]] != NONE && \
     !preempt[curg[pm[P]]] && status[curg[pm[P]]] == Grunning)
#if NP > 2
#define some_deaf (deaf(1) || deaf(2))
#define some_native (in_native(1) || in_native(2))
#else
#define some_deaf (deaf(1))
#define some_native (in_native(1))
#endif

#ifndef FOREACHP
/* stopTheWorldWithSema */
inline stop()
{
    lock();
    stopwait = NP;
    stopnote = false;
    gcwaiting = true;
    preemptall();
    atomic {
        assert(pstatus[0] == Prunning && where[0] == InM);
        pstatus[0] = Pgcstop;
        where[0] = IsStopped;
        one_stopped()
    };
#if BUG != 10
    stop_all_native();
#endif
    do
    :: atomic {
            some_pidle ->
            pidleget(pp);
            pstatus[pp] = Pgcstop;
            moved(pp, InHands, IsStopped);
            one_stopped();
            pp = 0
        }
    :: else -> break
    od;
    ok = (stopwait == 0);
    unlock();
    do
    :: ok -> break
    :: !ok && stopnote -> ok = true
#if BUG != 6
    :: !ok && !stopnote && some_deaf -> /* after 100 us */
        preemptall()
#endif
#if BUG != 9 && BUG != 10
    :: !ok && !stopnote && some_native ->
        lock();
        stop_all_native();
        unlock()
#endif
    od;
    ok = false;
    atomic {
        assert(stopwait == 0 && !some_pidle);
        do
        :: pp < NP ->
            assert(pstatus[pp] == Pgcstop && where[pp] == IsStopped);
            pp++
        :: else -> break
        od;
        pp = 0;
        assert(incode[0] == 0);
#if NG > 1
        assert(incode[1] == 0);
#endif
        stopped = true
    }
}

/* startTheWorldWithSema */
inline start()
{
    lock();
    stopped = false;
    gcwaiting = false;
    do
    :: pp < NP ->
        if
        :: pp == 0 ->
            atomic {
                pstatus[0] = Prunning;
                moved(0, IsStopped, InM)
            }
        :: else ->
            atomic {
                assert(mp[me] == 0 && pm[pp] == NONE);
                pstatus[pp] = Pidle;
                moved(pp, IsStopped, InHands);
                pidleput(pp)
            }
        fi;
        pp++
    :: else -> break
    od;
    pp = 0;
    unlock();
#if BUG != 11
    /* For each goroutine that waits: in C they are on the queues of the Ps that
     * they ran on, which are started for them. */
    do
    :: some_queued && some_pidle -> startm_idle(pp, m2); pp = 0; m2 = 0
    :: else -> break
    od
#endif
}
#else
/* forEachP */
inline stop()
{
    lock();
    atomic {
        safePointWait = NP - 1;
        safePointNote = false;
        ran[1] = 0
    };
    runSafePointFn[1] = true;
#if NP > 2
    ran[2] = 0;
    runSafePointFn[2] = true;
#endif
    preemptall();
    pp = 1;
    do
    :: pp < NP ->
        if
        :: pidle[pp] -> safe_point(pp)
        :: else
        fi;
        pp++
    :: else -> break
    od;
    pp = 0;
    ok = (safePointWait == 0);
    unlock();
    do
    :: ok -> break
    :: !ok && safePointNote -> ok = true
#if BUG != 6
    :: !ok && !safePointNote && some_deaf -> preemptall()
#endif
#if BUG != 9
    :: !ok && !safePointNote && in_native(1) && runSafePointFn[1] ->
        native_safe_point(1)
#if NP > 2
    :: !ok && !safePointNote && in_native(2) && runSafePointFn[2] ->
        native_safe_point(2)
#endif
#endif
    od;
    ok = false
}

/* safe_point_syscalls: fn runs under the scan bit, the P stays where it is. */
inline native_safe_point(P)
{
    setBlockOnExitSyscall(P, tm, tg, ok);
    if
    :: ok ->
        safe_point(P);
        unblock(tg)
    :: else
    fi;
    ok = false; tm = 0; tg = 0
}

inline start()
{
    lock();
    assert(safePointWait == 0 && !runSafePointFn[1] && ran[1] == 1);
#if NP > 2
    assert(!runSafePointFn[2] && ran[2] == 1);
#endif
    unlock()
}
#endif

proctype Stopper()
{
    byte me, round, tm, tg, pp, m2;
    bool ok;

    me = NM;
    mp[me] = 0;
    pm[0] = me;
    atomic { moved(0, InHands, InM); pstatus[0] = Prunning };
    do
    :: round < ROUNDS ->
        stop();
        /* Here the world stands still; M's assertions on `stopped`. */
        start();
        round++
    :: else -> break
    od;
    finished = true
}

/* Nothing moves any more: no goroutine waits while a P is idle. */
proctype Rest()
{
    byte i;

end_rest:
    timeout ->
    atomic {
        i = 0;
        do
        :: i < NG && finished ->
            assert(status[i] == Grunning || status[i] == Grunnable);
            assert(status[i] == Grunning || queued[i]);
            assert(!queued[i] || !some_pidle);
            i++
        :: else -> break
        od;
        i = 1;
        do
        :: i < NP && finished ->
            assert(where[i] == InList || where[i] == InM);
            i++
        :: else -> break
        od
    }
}

init {
    byte i, pp, m2;

    atomic {
        init_procs(1);
        run Stopper();
#if THEFTS > 0
        run Thief(THEFTS);
#endif
#if SCANS > 0
        run Scanner(SCANS);
#endif
        run Rest();
        i = 1
    };
    do
    :: i < NP -> startm_idle(pp, m2); i++
    :: else -> break
    od
}
