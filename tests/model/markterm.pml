/* tests/model/markterm.pml - how a mark ends (gc/cycle.c:mark_to_the_end): the
 * count of drains, the ragged barrier, the look with the world stopped, late
 * work; against mutators with the write barrier, and stacks that are scanned
 * while their goroutines run.
 *
 * NP Ps, each a thread with one goroutine and one mark worker, one of which runs,
 * or which is idle. The driver has a P of its own. The goroutines do ACTS things
 * altogether: load, store, allocate, each with two local variables; LEAVES times
 * one of them leaves its P without looking whether it was asked for anything (it
 * parks). STOPS times a drain stops though nobody wants its P (its time is up). Two
 * root jobs: place 0 of mem, a barriered root (with PLAIN a plain one, no job), and
 * a block of all goroutines. Objects 1 to NO have one pointer each, the last is not
 * allocated yet.
 *
 * A queue is a set of entries, a full buffer has one entry: o for an object that
 * may be white, o + 4 for one that is marked and not yet scanned (SCAN_TAG). A
 * barrier buffer has room for one store.
 *
 * Shown, with the world stopped for the last time: every object that roots and
 * goroutines reach is marked, every stack was scanned, no entry is left anywhere.
 * Before: nworking is 0 only while no drain has anything; what is found after the
 * stop is younger than the ragged barrier. And the driver comes to an end.
 *
 * looks_dry reads four words one after the other, so it may say yes while a drain
 * takes what it has not read yet: only the look with the world stopped is exact.
 *
 * Seeded bugs (-DBUG=n):
 *  1 a drain is not counted any more while it gives away what it has left
 *  2 the ragged barrier leaves the barrier buffers alone
 *  3 no look after the stop: late work is ignored
 *  4 the driver looks, then says that it waits
 *  5 gc_maybe_done looks before its own drain is off the count
 *  6 the barrier does not note what is overwritten
 *  7 the barrier does not note what is written
 *  8 objects are allocated white
 *  9 late work that was cut off by its budget passes for done
 * 10 the last look does not ask for goroutines that were asked to stop
 * 11 (PLAIN) plain roots are not scanned again
 * 12 the stop leaves the barrier buffers alone
 */
#ifndef BUG
#define BUG 0
#endif
#ifndef NP
#define NP 2
#endif
#ifndef NO
#define NO 3 /* at most 4 */
#endif
#ifndef ACTS
#define ACTS 1
#endif
#ifndef LEAVES
#define LEAVES 0
#endif

#ifndef STOPS
#define STOPS 0
#endif

#define NG NP
#define DRIVER NP /* its P */
#ifdef PLAIN
#define JOBS 1
#else
#define JOBS 2 /* the first: the barriered root */
#endif

/* The set that has just this object or entry: 0 for NULL. */
#define set(o) ((1 << (o)) >> 1)

/* The heap, the goroutines. */
byte mem[NO + 1];
byte x[NG], y[NG];
byte marked; /* a set */
bool allocated;
bool runs[NG];     /* Grunning */
bool req[NG];     /* asked to stop (suspendG_try) */
bool scanned[NG]; /* gc_stack_scanned */
byte acts = ACTS, leaves = LEAVES, stops = STOPS;

/* Per P. */
byte gcw[NP + 1];  /* mark buffers */
byte ring[NP + 1]; /* an entry that a drain has in its hands, 0: none */
byte wb[NP];       /* the barrier buffer */
bool idle[NP], stopped[NP], runSafePointFn[NP];
bool old[NP]; /* ghost: has what the ragged barrier was to take from it */

/* Everybody's. */
byte fullbufs; /* the buffers on the list */
byte nextjob;
byte shard; /* goroutines from this on of a block, left over; 0: none */
bool asked[NG];
byte nworking;
bool gclock; /* by the driver: others do one step under it */
bool driver_waits, parked, blacken, gcwaiting, handed_in, finished;

#define nasked (asked[0] NASKED1)
#if NP > 1
#define NASKED1 || asked[1]
#else
#define NASKED1
#endif
#define wanted(P) (gcwaiting || (P < NP && runSafePointFn[P]))

/* --- queues -------------------------------------------------------------------- */

/* wb_flush. Only who has the P does this: with gc_shade's look at the marks that
 * is one step. */
inline wb_flush(P)
{
    gcw[P] = gcw[P] | (wb[P] & ~marked);
    wb[P] = 0
}

/* gcw_dispose: under buflock. */
inline gcw_dispose(P)
{
    fullbufs = fullbufs | gcw[P];
    gcw[P] = 0
}

inline hand_in(P)
{
    atomic {
#if BUG == 2
        if
        :: gcwaiting -> wb_flush(P)
        :: else
        fi;
#elif BUG == 12
        if
        :: !gcwaiting -> wb_flush(P)
        :: else
        fi;
#else
        wb_flush(P);
#endif
        if
        :: gcw[P] != 0 -> gcw_dispose(P); handed_in = true
        :: else
        fi;
        if
        :: wb[P] == 0 -> old[P] = false
        :: else
        fi
    }
}

/* gc_work_available, as one step where nobody is misled by that. */
#define work_available \
    (blacken && (fullbufs != 0 || shard != 0 || nextjob < JOBS))

/* Into OK. The loads are steps of their own; the first promises something. */
inline looks_dry(OK)
{
    atomic {
        OK = (nworking == 0);
        assert(!OK || (ring[0] == 0 && ring[NP - 1] == 0 && !disposing))
    };
    OK = OK && (fullbufs == 0);
    OK = OK && (shard == 0);
    OK = OK && (nextjob >= JOBS)
}
/* Ghost: a drain has buffers that it has not given away. */
byte disposing;

inline gc_maybe_done(OK)
{
    if
    :: driver_waits ->
        looks_dry(OK);
        if
        :: OK ->
            atomic {
                !gclock ->
                if
                :: driver_waits ->
                    driver_waits = false;
                    assert(parked);
                    parked = false /* ready */
                :: else
                fi;
                OK = false
            }
        :: else
        fi
    :: else
    fi
}

/* --- stacks ---------------------------------------------------------------------- */

/* Held by its scan bit, which is not here: nobody sees steps in between. */
inline scan_stack(P, G)
{
    gcw[P] = gcw[P] | set(x[G]) | set(y[G]);
    scanned[G] = true;
    req[G] = false
}

/* try_stack and, if the goroutine runs, put_aside. */
inline try_stack(P, G, RUNS)
{
    atomic {
        RUNS = (!scanned[G] && runs[G]);
        if
        :: !scanned[G] && !runs[G] -> scan_stack(P, G)
        :: else
        fi
    };
    if
    :: RUNS ->
        req[G] = true; /* it may have stopped by now, for something else */
        atomic { asked[G] = true; RUNS = false }
    :: else
    fi
}

/* gc_scan_block, from G on */
inline gc_scan_block(P, G, RUNS)
{
    do
    :: G < NG ->
        try_stack(P, G, RUNS);
        G++;
        if
        :: wanted(P) && G < NG -> atomic { shard = G; G = NG }
        :: else
        fi
    :: else -> break
    od;
    G = 0
}

/* On g0, when the goroutine was asked to stop, and does. */
inline gc_stopping(P, OK)
{
    if
    :: !scanned[P] ->
        nworking++;
        runs[P] = false; /* casGToWaiting: others may be faster */
        atomic {
            if
            :: !scanned[P] -> scan_stack(P, P); disposing++; OK = true
            :: else
            fi;
            runs[P] = true
        };
        asked[P] = false; /* strike_off */
        atomic {
            gcw_dispose(P);
            if
            :: OK -> disposing--; OK = false
            :: else
            fi
        };
        nworking--;
        gc_maybe_done(OK)
    :: else
    fi;
    req[P] = false
}

/* --- draining -------------------------------------------------------------------- */

/* An entry goes through the rings: here it is marked, if it was not. */
#define take(SET, E) \
    SET & set(E) -> \
        SET = SET & ~set(E); \
        ring[me] = (E > 4 -> E : (marked & set(E) -> 0 : E + 4)); \
        marked = marked | (E > 4 -> 0 : set(E))
inline take_own()
{
    if
    :: take(gcw[me], 1)
    :: take(gcw[me], 2)
    :: take(gcw[me], 3)
    :: take(gcw[me], 4)
    fi
}
inline take_full()
{
    if
    :: take(fullbufs, 1)
    :: take(fullbufs, 2)
    :: take(fullbufs, 3)
    :: take(fullbufs, 4)
    :: take(fullbufs, 5)
    :: take(fullbufs, 6)
    :: take(fullbufs, 7)
    fi
}

/* By me: gc_drain. dry: it ran dry. Having done something it may stop when somebody
 * wants the P, and STOPS times for any of the other reasons. */
inline gc_drain()
{
    dry = false;
    nworking++;
    do
    :: atomic {
            if
            :: shard != 0 -> g = shard; shard = 0
            :: shard == 0 && nextjob < JOBS ->
                nextjob++;
                g = (nextjob == JOBS -> 0 : NG)
            fi
        };
        if
        :: atomic { g == NG -> gcw[me] = gcw[me] | set(mem[0]); g = 0 }
        :: g < NG -> gc_scan_block(me, g, ok)
        fi;
        if
        :: wanted(me) -> goto leave
        :: atomic { stops > 0 && !finished -> stops-- }; goto leave
        :: skip
        fi
    :: else -> break
    od;
    do
    :: atomic { gcw[me] != 0 -> take_own() };
        scan_object()
    :: atomic { gcw[me] == 0 && fullbufs != 0 -> take_full() };
        scan_object()
    :: atomic {
            gcw[me] == 0 && fullbufs == 0 && me < NP && wb[me] != 0 ->
            wb_flush(me)
        }
    :: else -> dry = true; break
    od;
leave:
#if BUG == 1
    atomic {
        if
        :: ring[me] != 0 || gcw[me] != 0 -> disposing++; ok = true
        :: else
        fi
    };
    nworking--;
#elif BUG == 5
    gc_maybe_done(ok);
#endif
    atomic {
        gcw[me] = gcw[me] | set(ring[me]);
        ring[me] = 0;
        gcw_dispose(me);
#if BUG == 1
        if
        :: ok -> disposing--; ok = false
        :: else
        fi
#endif
    };
#if BUG != 1
    nworking--
#else
    skip
#endif
}

/* What came out of the rings. It is here that a drain stops: with something left. */
inline scan_object()
{
    if
    :: ring[me] == 0
    :: ring[me] != 0 && wanted(me) -> goto leave
    :: atomic { ring[me] != 0 && stops > 0 && !finished -> stops-- }; goto leave
    :: atomic {
            ring[me] != 0 ->
            gcw[me] = gcw[me] | set(mem[ring[me] - 4]);
            ring[me] = 0
        }
    fi
}

/* --- a P ------------------------------------------------------------------------- */

#define can_act (acts > 0 && !finished)

#define can_act (acts > 0 && !finished)

/* execute */
inline execute()
{
    runs[me] = true;
    req[me] = false
}

proctype Proc(byte me)
{
    byte g, slot, v;
    bool ok, dry, waiting;

running:
end_running:
    do
    :: atomic { can_act -> acts--; x[me] = mem[0] }
    :: atomic { can_act && x[me] != 0 -> acts--; y[me] = mem[x[me]] }
    :: atomic { can_act && x[me] != 0 -> acts--; x[me] = 0 }
    /* tarn_store: no safe point between the barrier and the store. */
    :: atomic {
            can_act ->
            acts--;
            if
            :: skip
            :: x[me] != 0 -> v = x[me]
            :: y[me] != 0 -> v = y[me]
            :: x[me] != 0 -> slot = x[me]
            :: x[me] != 0 && y[me] != 0 -> slot = x[me]; v = y[me]
            fi;
            if
            :: wb[me] != 0 -> wb_flush(me)
            :: else
            fi;
#if BUG != 6
            wb[me] = set(mem[slot]);
#endif
#if BUG != 7
            wb[me] = wb[me] | set(v);
#endif
            skip
        };
        atomic { mem[slot] = v; slot = 0; v = 0 }
#ifdef PLAIN
    :: atomic { can_act && mem[0] == 0 && x[me] != 0 -> acts--; mem[0] = x[me] }
#endif
    :: atomic {
            can_act && !allocated ->
            acts--;
            allocated = true;
            x[me] = NO;
#if BUG != 8
            marked = marked | set(NO)
#endif
        }
    /* A poll. */
    :: req[me] -> gc_stopping(me, ok)
    :: atomic { !req[me] && wanted(me) -> runs[me] = false }; goto schedule
    :: atomic { !req[me] && !wanted(me) && work_available -> runs[me] = false };
        goto turn
    /* park: it is readied at some time. */
    :: atomic {
            leaves > 0 && !finished ->
            leaves--;
            runs[me] = false;
            waiting = true
        };
        goto schedule
    :: finished -> goto end
    od;

turn: /* of the worker */
    gc_drain();
#if BUG != 5
    gc_maybe_done(ok);
#endif

schedule:
    do
    :: atomic { gcwaiting -> stopped[me] = true };
        atomic { !gcwaiting -> stopped[me] = false }
    :: atomic {
            !gcwaiting && runSafePointFn[me] ->
            hand_in(me);
            runSafePointFn[me] = false
        }
    :: atomic { !wanted(me) && work_available -> skip }; goto turn
    :: atomic { !wanted(me) && !waiting -> execute() }; goto running
    /* Under sched.lock. */
    :: atomic { !wanted(me) && waiting && !work_available -> idle[me] = true };
end_idle:
        if
        :: atomic { !gcwaiting && work_available -> idle[me] = false };
            goto turn
        :: atomic {
                !gcwaiting && can_act ->
                idle[me] = false;
                waiting = false;
                execute()
            };
            goto running
        :: finished -> goto end
        fi
    od;
end:
    skip
}

/* --- the driver ------------------------------------------------------------------- */

/* A look at the stacks would change something. */
#define news(G) (asked[G] && (scanned[G] || !runs[G] || !req[G]))

inline look_again(G)
{
    if
    :: asked[G] -> asked[G] = false; try_stack(me, G, ok)
    :: else
    fi
}

inline gc_wait_asked()
{
    do
    :: nworking++;
        do
        :: g < NG -> look_again(g); g++
        :: else -> break
        od;
        g = 0;
        /* In C shards too: here nobody leaves any unless we want his P. */
        assert(shard == 0);
        atomic { gcw_dispose(me) };
        nworking--;
        if
        :: !nasked -> break
        :: news(0)
#if NP > 1
        :: news(1)
#endif
        fi
    od
}

inline wait_dry()
{
    do
#if BUG == 4
    :: atomic { assert(!gclock); gclock = true };
        looks_dry(ok);
        driver_waits = !ok;
#else
    :: atomic { assert(!gclock); gclock = true; driver_waits = true };
        looks_dry(ok);
#endif
        if
        :: ok ->
            atomic { driver_waits = false; gclock = false; ok = false };
            if
            :: !nasked -> break
            :: else -> gc_wait_asked()
            fi
        :: else ->
            atomic { parked = true; gclock = false };
            !parked
        fi
    od
}

inline visit(P)
{
    atomic {
        if
        :: idle[P] && runSafePointFn[P] ->
            hand_in(P);
            runSafePointFn[P] = false
        :: else
        fi
    }
}

/* forEachP(hand_in), under sched.lock while it visits. Our own P has no mutator. */
inline ragged_barrier()
{
    atomic {
        handed_in = false;
        runSafePointFn[0] = true;
        old[0] = (wb[0] != 0 || gcw[0] != 0);
        visit(0);
#if NP > 1
        runSafePointFn[1] = true;
        old[1] = (wb[1] != 0 || gcw[1] != 0);
        visit(1)
#endif
    };
    atomic { !runSafePointFn[0] && !runSafePointFn[NP - 1] -> skip }
}

inline stop()
{
    gcwaiting = true;
    atomic {
        (idle[0] || stopped[0]) && (idle[NP - 1] || stopped[NP - 1]) ->
        assert(!runs[0] && !runs[NP - 1] && nworking == 0);
        assert(!old[0] && !old[NP - 1]);
        hand_in(0);
#if NP > 1
        hand_in(1);
#endif
#if defined(PLAIN) && BUG != 11
        gcw[me] = gcw[me] | (set(mem[0]) & ~marked);
#endif
        handed_in = false
    }
}

#define reach(O) \
    if \
    :: g & set(O) -> g = g | set(mem[O]) \
    :: else \
    fi

/* The last look. */
#if BUG == 3
#define done true
#elif BUG == 10
#define done ok
#else
#define done (ok && !nasked)
#endif

proctype Driver()
{
    byte me = DRIVER, g;
    bool ok, dry, late;

#ifdef PLAIN
    atomic { gcw[me] = set(mem[0]); gcw_dispose(me); blacken = true };
#endif
    do
    :: gc_drain(); /* a turn, or late work */
        if
        :: late ->
            looks_dry(ok);
#if BUG != 9
            ok = ok && dry;
#else
            ok = true;
#endif
            if
            :: done -> break
            :: else
            fi;
            late = false;
            ok = false;
            gcwaiting = false
        :: else ->
            wait_dry();
            ragged_barrier();
            looks_dry(ok);
            if
            :: handed_in || !ok || nasked -> ok = false
            :: else ->
                stop();
                looks_dry(ok);
                ok = ok && gcw[me] == 0;
                if
                :: done -> break
                :: else
                fi;
                ok = false;
                late = true
            fi
        fi
    od;
    skip;
    /* What is reachable? */
    d_step {
        g = set(mem[0]) | set(x[0]) | set(y[0]) | set(x[NG - 1]) | set(y[NG - 1]);
        reach(1); reach(2); reach(3);
        reach(1); reach(2); reach(3);
        reach(1); reach(2); reach(3);
        assert((g & ~marked) == 0);
#ifndef OBJECTSONLY
        assert(scanned[0] && scanned[NG - 1] && !nasked);
        assert(fullbufs == 0 && shard == 0 && nextjob == JOBS);
        assert(gcw[0] == 0 && gcw[NP - 1] == 0 && gcw[me] == 0);
        assert(wb[0] == 0 && wb[NP - 1] == 0);
#endif
        g = 0;
        finished = true
    };
    gcwaiting = false
}

init {
    atomic {
#ifdef PLAIN
        x[NG - 1] = 1;
#else
        mem[0] = 1;
        blacken = true;
#if NO == 4
        x[NG - 1] = 3;
#endif
#endif
        mem[1] = 2;
        runs[0] = true;
        run Proc(0);
#if NP > 1
        runs[1] = true;
        run Proc(1);
#endif
        run Driver()
    }
}
