/* tests/model/suspend.pml - suspendG and resumeG against goroutines that run,
 * grow, yield, park, end, are preempted.
 *
 * NM threads run NG goroutines from one queue; a P is part of its thread here
 * (native.pml has them apart). NS suspenders (the collector's workers: system
 * goroutines on g0 of threads of their own) hold each goroutine ROUNDS times.
 * sysmon posts plain preemption requests, a waker readies what has parked.
 * A goroutine may do ACTS things of its own accord, then it is `for (;;) {}`
 * with polls. With SELF the goroutines suspend each other too, as mark assists
 * do.
 *
 * Shown: one user of a stack at a time; no edge of the status word but those of
 * status.c; who claims a Gpreempted goroutine, and only he, readies it, once;
 * none is left behind; every suspendG returns, though requests are lost: LOST of
 * them before they are written, any number by execute, copystack and gogo, which
 * overwrite the request words.
 *
 * Requests are written without holding the goroutine, so execute may wipe half of
 * one; what is left makes the goroutine yield for nothing, and a scheduler that
 * hits the same gap each time can repeat that for ever. With WHOLE a request is
 * written, and wiped, in one step: then every run ends.
 *
 * With SELFSCAN a goroutine that is asked to stop may scan its own stack instead,
 * once (gc/stackroots.c:gc_stopping): there and then, or, if it is deep, leaving
 * its thread until others have done so.
 *
 * Seeded bugs (-DBUG=n):
 *  1 preemptPark without the scan bit: Gpreempted before dropg
 *  2 casGFromPreempted reads, then writes: two suspenders claim one goroutine
 *  3 resumeG does not ready what it claimed
 *  4 resumeG readies a goroutine that it did not claim
 *  5 the stack is copied in a status that lets scanners in
 *  6 a standing request is never posted again
 *  7 suspendG does not wait for a running goroutine to stop
 *  8 park publishes the goroutine to its waker before its status
 *  9 execute does not take back a preemptStop meant for an earlier life
 * 10 (SELF) who suspends another is not scannable himself meanwhile
 * 11 (SELFSCAN) a goroutine that has scanned itself goes on though another holds it
 * 12 (SELFSCAN) a deep one is readied before its thread has let go of it
 */
#ifndef NM
#define NM 2
#endif
#ifndef NG
#define NG 1
#endif
#ifndef NS
#define NS 2
#endif
#ifndef ROUNDS
#define ROUNDS 1
#endif
#ifndef ACTS
#define ACTS 2
#endif
#ifndef LOST
#define LOST 1
#endif
#ifndef TICKS
#define TICKS 1
#endif

#include "status.pmlh"

#define NONE 255

#ifdef WHOLE
#define WHOLE_BEGIN atomic {
#define WHOLE_END }
#else
#define WHOLE_BEGIN
#define WHOLE_END
#endif

/* struct g */
bool preempt[NG];
bool preemptStop[NG];
bool guard0[NG]; /* stackguard0: true is STACK_PREEMPT */
byte gm[NG];     /* g->m */
bool queued[NG]; /* in the run queue */
bool scanned[NG]; /* by itself */
bool parked[NG]; /* on a wait queue: somebody may ready it */
/* struct m */
byte curg[NM];
bool slot[NM]; /* *m->tls_guard, what prologues compare with */

/* What is left of the budgets that keep the model finite. */
byte acts[NG];
byte lost = LOST;
byte ticks = TICKS;
byte suspenders = NS; /* that are not through */
/* Ghost: claimed from Gpreempted, a ready is owed. */
bool owed[NG];

/* runqput */
inline runqput(G)
{
    atomic {
        assert(!queued[G]);
        queued[G] = true
    }
}

/* A pass of suspendG's loop would change something: otherwise it spins. The
 * slot is there because a standing request is posted again after 100 us. */
#if BUG == 6
#define stands(gp) (preemptStop[gp] && preempt[gp] && guard0[gp])
#else
#define stands(gp) \
    (preemptStop[gp] && preempt[gp] && guard0[gp] && \
     (gm[gp] == NONE || slot[gm[gp]]))
#endif
#define worth_a_look(gp) \
    (status[gp] == Gdead || status[gp] == Gpreempted || \
     status[gp] == Grunnable || status[gp] == Gwaiting || \
     (status[gp] == Grunning && !stands(gp)))

/* stackscan/suspend.c:suspendG. The caller has byte s, mm and bool ok, stopped,
 * dead. */
inline suspendG(TARGET)
{
    stopped = false;
    dead = false;
    do
    :: atomic {
            worth_a_look(TARGET) ->
            s = status[TARGET]
        };
        if
        :: s == Gdead ->
            dead = true;
            break
        :: s == Grunning ->
#if BUG == 7
            break
#else
            /* Nothing holds it: by the time of the stores it may have stopped,
             * moved, ended, begun another life. */
            mm = gm[TARGET];
            if
            :: atomic { lost > 0 -> lost-- } /* droppreempt */
            :: WHOLE_BEGIN
                preemptStop[TARGET] = true;
                preempt[TARGET] = true;
                /* post_preempt */
                guard0[TARGET] = true;
                if
                :: mm != NONE -> slot[mm] = true
                :: else
                fi
                WHOLE_END
            fi
#endif
        :: else -> /* Gpreempted, Grunnable, Gwaiting */
            if
            :: s == Gpreempted ->
#if BUG == 2
                ok = (status[TARGET] == Gpreempted);
#else
                ok = true;
#endif
                atomic { /* casGFromPreempted */
                    if
                    :: ok && (BUG == 2 || status[TARGET] == Gpreempted) ->
                        status[TARGET] = Gwaiting;
                        assert(!owed[TARGET]);
                        owed[TARGET] = true;
                        stopped = true;
                        s = Gwaiting
                    :: else -> ok = false
                    fi
                }
            :: else -> ok = true
            fi;
            if
            :: ok -> castogscanstatus(TARGET, s, ok)
            :: else
            fi;
            if
            :: ok ->
                preemptStop[TARGET] = false;
                preempt[TARGET] = false;
                guard0[TARGET] = false;
                break
            :: else
            fi
        fi
    od
}

/* The holder reads the stack (scanstack), and may move it. */
inline scanstack(TARGET, WHO)
{
    stack_take(TARGET, WHO);
    stack_drop(TARGET, WHO)
}

/* stackscan/suspend.c:resumeG */
inline resumeG(TARGET)
{
    atomic { /* nobody else changes it */
        s = status[TARGET];
        assert(s & Gscan);
        s = s & ~Gscan;
        casfrom_Gscanstatus(TARGET, s)
    };
#if BUG == 3
    stopped = false;
#endif
    if
    :: stopped || (BUG == 4 && s == Gwaiting) ->
        /* ready */
        atomic {
            assert(owed[TARGET] || BUG == 4);
            owed[TARGET] = false
        };
        casgstatus(TARGET, Gwaiting, Grunnable);
        runqput(TARGET)
    :: else
    fi
}

/* Two stores; preemptone reads the second, suspendG the first. */
inline dropg()
{
    gm[gp] = NONE;
    curg[me] = NONE
}

/* A thread: sched/proc.c and what a goroutine on it does. */
proctype M(byte me)
{
    byte gp, s, mm;
    bool guard, grow, stop, ok, stopped, dead;

schedule:
    gp = 0; s = 0; mm = 0; guard = false; grow = false; stop = false;
    ok = false; stopped = false; dead = false;
    /* findRunnable */
end_idle:
    atomic {
        if
        :: queued[0] -> gp = 0
#if NG > 1
        :: queued[1] -> gp = 1
#endif
        fi;
        queued[gp] = false
    };
execute:
    atomic { /* before the status: nobody looks at them before it */
        gm[gp] = me;
        curg[me] = gp
    };
    casgstatus(gp, Grunnable, Grunning);
    WHOLE_BEGIN
    preempt[gp] = false;
#if BUG != 9
    preemptStop[gp] = false; /* meant for an earlier life */
#endif
    guard0[gp] = false
    WHOLE_END;
gogo: /* also the way back from systemstack */
    guard = guard0[gp];
    atomic {
        slot[me] = guard;
        guard = false;
        stack_take(gp, 1 + me);
        assert(status[gp] == Grunning);
        /* mcall and systemstack find g0 through g->m */
        assert(gm[gp] == me && curg[me] == gp)
    };
end_loop: /* for (;;) {} with polls: waits for a request */
    if
    :: atomic { slot[me] -> stack_drop(gp, 1 + me) }; /* __morestack */
        goto newstack
    :: atomic { acts[gp] > 0 -> acts[gp]--; stack_drop(gp, 1 + me) };
        if
        :: grow = true; goto newstack
        :: goto gosched
        :: goto park
        :: goto goexit
        :: goto self
        fi
    fi;

newstack: /* stackscan/newstack.c */
    guard = guard0[gp];
    if
    :: grow ->
        grow = false;
#if BUG == 5
        casgstatus(gp, Grunning, Gwaiting);
#else
        casgstatus(gp, Grunning, Gcopystack);
#endif
        /* copystack; its new guard wipes a request */
        stack_take(gp, 1 + me);
        atomic {
            guard0[gp] = false;
            stack_drop(gp, 1 + me)
        };
#if BUG == 5
        casgstatus(gp, Gwaiting, Grunning)
#else
        casgstatus(gp, Gcopystack, Grunning)
#endif
    :: else
    fi;
    if
    :: guard || preempt[gp] ->
        if
        :: preempt[gp] ->
            stop = preemptStop[gp];
            guard = false;
            if
            :: stop -> stop = false; goto preemptPark
            :: else -> goto gosched /* gopreempt_m: the same here */
            fi
        :: else
        fi;
        guard0[gp] = false
    :: else
    fi;
    goto gogo;

preemptPark:
#ifdef SELFSCAN
    if
    :: atomic { !scanned[gp] -> scanned[gp] = true };
        if
        :: goto selfscan
        :: goto deepscan
        fi
    :: true
    fi;
#endif
#if BUG == 1
    casgstatus(gp, Grunning, Gpreempted);
    dropg();
#else
    atomic { /* casGToPreemptScan */
        assert(status[gp] == Grunning);
        status[gp] = Gpreempted | Gscan
    };
    dropg();
    casfrom_Gscanstatus(gp, Gpreempted);
#endif
    goto schedule;

#ifdef SELFSCAN
selfscan: /* gc_stopping, then go_on */
    casgstatus(gp, Grunning, Gwaiting);
    atomic { status[gp] == Gwaiting -> status[gp] = Gwaiting | Gscan };
    scanstack(gp, 1 + me);
    casfrom_Gscanstatus(gp, Gwaiting);
#if BUG == 11
    status[gp] = Grunning;
#else
    casgstatus(gp, Gwaiting, Grunning);
#endif
    preempt[gp] = false;
    preemptStop[gp] = false;
    guard0[gp] = false;
    goto gogo;

deepscan: /* the last of those who scan readies it */
    casgstatus(gp, Grunning, Gwaiting);
#if BUG != 12
    dropg();
#endif
    atomic { status[gp] == Gwaiting -> status[gp] = Gwaiting | Gscan };
    scanstack(gp, 1 + me);
    casfrom_Gscanstatus(gp, Gwaiting);
    casgstatus(gp, Gwaiting, Grunnable);
    runqput(gp);
#if BUG == 12
    dropg();
#endif
    goto schedule;
#endif

gosched: /* goschedImpl */
    casgstatus(gp, Grunning, Grunnable);
    dropg();
    runqput(gp);
    goto schedule;

park: /* gopark, park_m */
#if BUG == 8
    parked[gp] = true;
    casgstatus(gp, Grunning, Gwaiting);
    dropg();
    goto schedule;
#else
    casgstatus(gp, Grunning, Gwaiting);
    dropg();
    if /* unlockf */
    :: parked[gp] = true; goto schedule
    :: casgstatus(gp, Gwaiting, Grunnable); goto execute
    fi;
#endif

goexit: /* goexit0, gdestroy */
    casgstatus(gp, Grunning, Gdead);
    dropg();
    preempt[gp] = false;
    preemptStop[gp] = false;
    /* newproc1 finds the G in a cache. It clears preemptStop too, as here, some
     * time before the status. */
    casgstatus(gp, Gdead, Grunnable);
    runqput(gp);
    goto schedule;

self: /* on g0 by systemstack; stop_on_g0 and mark assists */
#if BUG != 10
    casgstatus(gp, Grunning, Gwaiting); /* casGToWaiting */
#endif
#ifdef SELF
    suspendG(1 - gp);
    if
    :: !dead ->
        scanstack(1 - gp, SCANNER + me);
        resumeG(1 - gp)
    :: else
    fi;
    s = 0; mm = 0; ok = false; stopped = false; dead = false;
#endif
#if BUG != 10
    casgstatus(gp, Gwaiting, Grunning);
#endif
    goto gogo
}

#if NS > 0
/* A mark worker: markroot's stack job (gc/roots.c). */
proctype Suspender(byte who)
{
    byte s, mm, round, gp;
    bool ok, stopped, dead;

    do
    :: round < ROUNDS ->
        gp = 0;
        do
        :: gp < NG ->
            suspendG(gp);
            if
            :: !dead ->
                scanstack(gp, SCANNER + who);
                resumeG(gp)
            :: else
            fi;
            s = 0; mm = 0; ok = false; stopped = false; dead = false;
            gp++
        :: else -> break
        od;
        round++
    :: else -> break
    od;
    suspenders--
}
#endif

/* goready by somebody who took the goroutine off a wait queue. */
proctype Waker()
{
    byte gp;

end_wait:
    do
    :: atomic {
            if
            :: parked[0] -> gp = 0
#if NG > 1
            :: parked[1] -> gp = 1
#endif
            fi;
            parked[gp] = false
        };
        casgstatus(gp, Gwaiting, Grunnable);
        runqput(gp)
    od
}

#if TICKS > 0
/* retake's preemptone: reads and writes without holding anything. */
proctype Sysmon()
{
    byte gp, mm;

end_tick:
    do
    :: atomic { ticks > 0 -> ticks-- };
        if
        :: mm = 0
#if NM > 1
        :: mm = 1
#endif
        fi;
        gp = curg[mm];
        if
        :: gp != NONE ->
            preempt[gp] = true;
            guard0[gp] = true;
            slot[mm] = true
        :: else
        fi;
        gp = 0; mm = 0
    od
}
#endif

/* When nothing moves any more and every suspender is through, nobody is left
 * behind. (Who is blocked where he should not, spin reports by itself.) */
proctype Rest()
{
    byte i;

end_rest:
    timeout ->
    atomic {
        i = 0;
        do
        :: i < NG && suspenders == 0 ->
            assert(status[i] == Grunning || status[i] == Grunnable);
            assert(status[i] == Grunning || queued[i]);
            assert(!owed[i] && !parked[i]);
            i++
        :: else -> break
        od
    }
}

init {
    byte i;
    atomic {
        i = 0;
        do
        :: i < NG ->
            status[i] = Grunnable;
            gm[i] = NONE;
            queued[i] = true;
            acts[i] = ACTS;
            i++
        :: else -> break
        od;
        i = 0;
        do
        :: i < NM -> curg[i] = NONE; run M(i); i++
        :: else -> break
        od;
#if NS > 0
        i = 0;
        do
        :: i < NS -> run Suspender(i); i++
        :: else -> break
        od;
#endif
        run Waker();
#if TICKS > 0
        run Sysmon();
#endif
        run Rest()
    }
}
