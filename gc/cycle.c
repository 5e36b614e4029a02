/* gc/cycle.c - the driver that runs cycles, the mark workers, assists.
 *
 * One system goroutine, the driver, takes a cycle through its steps (gc.h), so
 * that no mutator ever pays for more than waking it. Marking is done by one
 * worker goroutine for each P, which schedule() hands out: to a P that has
 * nothing else to do always; to a busy one for a quarter of the machine, as
 * whole Ps where there are four or more, else as short turns. What allocation
 * demands beyond that, assists do in small steps. */
#include "base/options.h"
#include "gc/events.h"
#include "gc/gc.h"
#include "gc/specials.h"
#include "tarn/barrier.h"

struct gcstate gc;
void (*gc_step_hook)(const char *name);
int64_t gc_late_ns = 30000;
int64_t gc_turn_ns = 250000; /* on a busy P: a step waits for it */

#define TURN_GAP_NS 750000 /* between two of them: a quarter */
#define TURN_OF_DRIVER_NS 200000
#define ASSIST_STEP ((int64_t)64 << 10)
#define DEBT_MOST ((int64_t)64 << 20)
#define THROTTLE_NS 200000 /* over the goal, with nothing to assist with */
#define THROTTLE_BYTES ((size_t)64 << 10)
#define SWEEPS_MOST 16
#define ASSIST_MAX_NS 100000
#define PATIENCE 16

/* --- the driver's door ------------------------------------------------------- */

struct g *gc_driver_parked(void)
{
    struct g *gp = gc.driver_parked ? gc.driver : NULL;
    gc.driver_parked = false;
    return gp;
}

struct g *gc_request_driver(bool full)
{
    lock(&gc.lock);
    gc.requested = true;
    gc.requested_full |= full;
    struct g *gp = gc_driver_parked();
    unlock(&gc.lock);
    return gp;
}

bool gc_request(void)
{
    struct g *gp = gc_request_driver(false);
    if (gp != NULL)
        ready(gp, true);
    return gp != NULL;
}

/* Returns when a collection that began after the call has been swept. */
static void collect(bool full)
{
    struct sudog *s = acquireSudog();
    s->g = getg();
    lock(&gc.lock);
    uint64_t target = gc.cycles_started + 1;
    s->acquiretime = (int64_t)target;
    s->next = gc.waiters;
    gc.waiters = s;
    if (full && gc.forced_target < target)
        gc.forced_target = target;
    if (!full)
        gc.young_target = target;
    struct g *driver = gc_driver_parked();
    if (driver == NULL && atomic_load(&gc.stepping)) {
        /* Nobody may take the next step now. */
        atomic_store(&gc.stepping, false);
        driver = gc_step_driver();
    }
    if (driver != NULL)
        ready(driver, true);
    goparkunlock(&gc.lock, WAIT_GC_WAIT);
    releaseSudog(s);
}

tarn_status tarn_gc(void)
{
    if (!require_goroutine("tarn_gc"))
        return TARN_ESTATE;
    if (getg()->worldstopped) {
        set_error("tarn_gc: the caller has stopped the world");
        return TARN_ESTATE;
    }
    collect(true);
    return TARN_OK;
}

void gc_collect_young(void)
{
    collect(false);
}

static void wake_waiters(void)
{
    struct gqueue q = {NULL, NULL, 0};
    lock(&gc.lock);
    gc.cycles_swept = gc.cycles_started;
    for (struct sudog **l = &gc.waiters; *l != NULL;) {
        struct sudog *s = *l;
        if ((uint64_t)s->acquiretime <= gc.cycles_swept) {
            *l = s->next;
            gqueue_push(&q, s->g);
        } else {
            l = &s->next;
        }
    }
    unlock(&gc.lock);
    /* Ahead of those that did not wait for us. */
    for (struct g *gp; (gp = gqueue_pop(&q)) != NULL;)
        ready(gp, true);
}

/* --- is the mark dry? ----------------------------------------------------------- */

static bool looks_dry(void)
{
    return atomic_load(&gc.nworking) == 0 && !gc_work_available();
}

/* By whoever ends a drain. */
void gc_maybe_done(void)
{
    if (!atomic_load(&gc.driver_waits) || !looks_dry())
        return;
    lock(&gc.lock);
    struct g *gp = NULL;
    if (atomic_load(&gc.driver_waits)) {
        atomic_store(&gc.driver_waits, false);
        gp = gc.driver;
    }
    unlock(&gc.lock);
    if (gp != NULL)
        ready(gp, true);
}

static void wait_dry(void)
{
    for (;;) {
        lock(&gc.lock);
        atomic_store(&gc.driver_waits, true);
        /* Published before this look, as a drain's end is before its look at
         * driver_waits: one of the two sees the other. */
        if (looks_dry()) {
            atomic_store(&gc.driver_waits, false);
            unlock(&gc.lock);
            if (!gc_stacks_asked())
                return;
            gc_wait_asked();
            continue;
        }
        if (gc_stepping()) { /* nobody else marks: back to that */
            atomic_store(&gc.driver_waits, false);
            unlock(&gc.lock);
            return;
        }
        goparkunlock(&gc.lock, WAIT_GC_WAIT);
    }
}

static _Atomic uint32_t handed_in;

void gc_hand_in(struct p *pp)
{
    wb_flush(pp);
    if (gcw_dispose(&gcp_of(pp)->gcw))
        atomic_fetch_add(&handed_in, 1);
    gc_step("gc: handed in");
}

/* A short turn of marking by the driver itself. */
static void drain_turn(void)
{
    struct m *mp = acquirem();
    struct drain_limits lim = {.deadline = nanotime() + gc_turn_ns,
                               .until_preempt = true};
    gc_drain(mp->p, &lim);
    atomic_fetch_add_explicit(
        &gc.mark_cpu_ns, (uint64_t)(nanotime() + gc_turn_ns - lim.deadline),
        memory_order_relaxed);
    releasem(mp);
    if (atomic_load_explicit(&getg()->preempt, memory_order_relaxed))
        gosched();
}

/* A cycle in steps: all marking is the driver's. */
static void drain_in_steps(void)
{
    bool dry = false;
    while (!dry && gc_stepping()) {
        struct m *mp = acquirem();
        struct drain_limits lim = {.work = gc.step_work};
        dry = gc_drain(mp->p, &lim);
        releasem(mp);
        gc_step_end(TARN_STEP_MARKING);
    }
}

static void mark_on(void)
{
    if (gc_stepping())
        drain_in_steps();
    else
        drain_turn();
}

static void refresh_segments(void)
{
    if (!gc_roots_refresh_segments())
        throw("%s", tarn_last_error());
}

/* True: there is something to mark. */
static bool scan_plain_now(void)
{
    if (GC_FAULT(RESCAN))
        return false;
    struct m *mp = acquirem();
    struct gcwork *w = &gcp_of(mp->p)->gcw;
    gc_scan_plain_roots(w);
    bool found = !gcw_empty(w);
    releasem(mp);
    return found;
}

/* Steps 2 to 4: returns with the world stopped, all reachable objects marked
 * and worldsema held. */
static void mark_to_the_end(void)
{
    uint32_t restarts = 0;
    bool rescanned = false;
    /* Whoever had this P has just given it to us: a small heap is marked before
     * anybody else could be given one. */
    mark_on();
    for (;;) {
        wait_dry();
        worldsema_acquire();
        atomic_store(&handed_in, 0);
        forEachP(gc_hand_in);
        gc_step("gc: after the ragged barrier");
        if (atomic_load(&handed_in) != 0 || !looks_dry() || gc_stacks_asked()) {
            worldsema_release();
            wakep();
            mark_on();
            continue;
        }
        if (gc_specials_pass()) {
            worldsema_release();
            gc_step("gc: specials");
            wakep();
            mark_on();
            continue;
        }
        refresh_segments();
        /* What it finds now it need not find while the world is stopped, and what it
         * looks at it will find in the cache. */
        if (scan_plain_now() && !rescanned) {
            /* Once: a program may move objects there all the time. */
            rescanned = true;
            worldsema_release();
            wakep();
            mark_on();
            continue;
        }
        gc_step("gc: about to end");
        atomic_store(&gc.stop_kind, TARN_STOP_GC_TERM);
        stopTheWorldWithSema();
        atomic_store(&handed_in, 0);
        for (uint32_t i = 0; i < nprocs; i++)
            gc_hand_in(allp[i]);
        struct p *pp = getg()->m->p;
        struct gcwork *w = &gcp_of(pp)->gcw;
        gc_scan_plain_roots(w);
        /* Looks at several words while the world runs prove nothing: a drain may
         * have held what each had still to read, a goroutine asked by it among
         * them (tests/model/markterm.pml, bug 10). These ones do. */
        if (gcw_empty(w) && looks_dry() && !gc_stacks_asked())
            return;
        /* Late work is nearly always a few objects: finish here if that is so.
         * Each try marks something white and nothing new is white, so even a
         * program that moves objects through globals all the time comes to an
         * end; a longer try after many, for the machine's sake. */
        int64_t budget = restarts < PATIENCE ? gc_late_ns : gc_late_ns * 10;
        struct drain_limits lim = {.world_stopped = true,
                                   .deadline = nanotime() + budget};
        if (gc_drain(pp, &lim) && looks_dry() && !gc_stacks_asked())
            return;
        restarts++;
        atomic_fetch_add(&gc.restarts, 1);
        startTheWorldWithSema();
        worldsema_release();
        gc_step("gc: the mark goes on");
        mark_on();
    }
}

/* --- a cycle ---------------------------------------------------------------------- */

static uint32_t barrier_always(void)
{
    return options.barriercheck ? BARRIER_CHECKED : 0;
}

static void barrier_set(uint32_t bits)
{
    __atomic_store_n(&tarn_barrier_on, bits, __ATOMIC_RELAXED);
}

static void start_mark(bool full)
{
    trace_event(TRACE_MARK, getg(), gc.cycles_started, full);
    refresh_segments();
    gc_step("gc: about to begin");
    worldsema_acquire();
    atomic_store(&gc.stop_kind, TARN_STOP_GC_START);
    stopTheWorldWithSema();
    gc.mark_began = nanotime();
    /* Others saw the trigger passed as well: theirs is this cycle. */
    lock(&gc.lock);
    gc.requested = false;
    unlock(&gc.lock);
    heap_flip_color(full);
    if (++gc.scan_epoch == 0)
        gc.scan_epoch = 1;
    atomic_store(&gc.phase, GC_MARK);
    barrier_set(GC_FAULT(BARRIER) ? 0 : barrier_always() | BARRIER_MARKING);
    gc_prepare_roots();
    gc_specials_reset();
    pacer_start();
    if (options.checkmark)
        checkmark_begin();
    startTheWorldWithSema();
    worldsema_release();
    gc_step("gc: barrier on");
    struct m *mp = acquirem();
    gc_scan_plain_roots(&gcp_of(mp->p)->gcw);
    gcw_dispose(&gcp_of(mp->p)->gcw);
    releasem(mp);
    gc_step("gc: plain ranges scanned");
    atomic_store(&gc.blacken, true);
    wakep();
    gc_step("gc: others may mark");
}

static void finish_mark(void)
{
    atomic_store(&gc.blacken, false);
    atomic_store(&gc.phase, GC_MARKTERM);
    trace_event(TRACE_MARKTERM, getg(), 0, 0);
    if (options.barriercheck)
        barriercheck(); /* first: it names the store, checkmark what came of it */
    if (options.checkmark)
        checkmark();
    if (options.stackescape)
        stackescape();
    for (uint32_t i = 0; i < nprocs; i++) {
        struct p *pp = allp[i];
        ASSERT(gcw_empty(&gcp_of(pp)->gcw) && gcp_of(pp)->wbn == 0);
        mcache_flush(&pp->mcache);
    }
    barrier_set(barrier_always());
    atomic_store(&gc.phase, GC_OFF);
#if TARN_CHECKS >= 3
    heap_verify();
#endif
    heap_sweep_start();
    gc.mark_took = nanotime() - gc.mark_began;
    pacer_marked();
    atomic_fetch_add(&gc.mark_ns, (uint64_t)gc.mark_took);
    atomic_fetch_add(&gc.cycles, 1);
    if (!heap.full)
        atomic_fetch_add(&gc.young, 1);
    startTheWorldWithSema();
    worldsema_release();
    trace_event(TRACE_SWEEP, getg(), 0, 0);
    gc_step("gc: marked");
    gc_bufs_trim();
}

static int64_t turn_began; /* the driver's: when it last let others run */

/* The driver lets others run. A slice of theirs is long: who finds that nothing is left
 * to do but by the driver gives way at once (let_driver). */
static void driver_yield(void)
{
    atomic_store(&gc.driver_yields, true);
    gosched();
    atomic_store(&gc.driver_yields, false);
    turn_began = nanotime();
}

/* Between steps of work that can wait. Not at each of them where others wait: a round
 * of all that want to run may take long, and there are many steps. */
static void let_others(void)
{
    struct p *pp = getg()->m->p;
    if (atomic_load_explicit(&getg()->preempt, memory_order_relaxed) ||
        atomic_load_explicit(&sched.gcwaiting, memory_order_relaxed) ||
        atomic_load_explicit(&pp->runSafePointFn, memory_order_relaxed) ||
        (nanotime() - turn_began > TURN_OF_DRIVER_NS && !runqempty(pp)))
        driver_yield();
}

static void let_driver(void)
{
    if (atomic_load_explicit(&gc.driver_yields, memory_order_relaxed) &&
        atomic_load_explicit(&sched.npidle, memory_order_relaxed) == 0)
        gosched();
}

static void sweep(void)
{
    turn_began = nanotime();
    for (uint32_t i = 0;; i++) {
        struct m *mp = acquirem();
        size_t pages = heap_sweep_one();
        releasem(mp);
        if (pages == 0)
            break;
        gc_step("gc: swept some");
        if (gc_stepping())
            gc_step_end(TARN_STEP_SWEEPING);
        if ((i & 1) == 1)
            let_others();
    }
    while (!heap_sweep_done())
        driver_yield();
}

static void release_now(size_t keep)
{
    struct heap_release r = {0};
    while (heap_release_step(&r, keep))
        let_others();
}

/* full: unlike what the pacer would choose; young: likewise; steps: somebody takes
 * them (control.c), as long as gc.stepping. */
static void run_cycle(bool forced, bool full, bool young, bool steps)
{
    uint64_t stack_bytes0 = atomic_load(&gc.stack_scan_bytes);
    uint64_t stacks0 = atomic_load(&gc.stacks_scanned);
    /* What was kept and not used by now is not what is needed. */
    if (setting(&options.memlimit) != 0 && !options.clobberfree)
        gc_background_release(pacer_keep());
    start_mark(forced || full || (pacer_full() && !young));
    if (events_wanted())
        event_gc(EVENT_BEGIN, forced || steps);
    if (gc_stepping())
        gc_step_end(TARN_STEP_BEGUN);
    mark_to_the_end();
    finish_mark();
    if (events_wanted())
        event_gc(EVENT_MARKED, forced || steps);
    if (gc_stepping())
        gc_step_end(TARN_STEP_MARKED);
    sweep();
    trace_event(TRACE_SWEPT, getg(), 0, 0);
    gc_step("gc: swept");
    pacer_swept();
    stack_set_first(atomic_load(&gc.stack_scan_bytes) - stack_bytes0,
                    atomic_load(&gc.stacks_scanned) - stacks0);
    stacks_trim(let_others);
    /* What the next cycle will need is worth keeping. Under clobberfree all is:
     * memory that was given back reads as zeroes. */
    if (options.clobberfree)
        ;
    else if (forced || setting(&options.memlimit) != 0)
        release_now(pacer_keep());
    else
        gc_background_release(pacer_keep());
    atomic_store(&gc.may_have_garbage, !heap.full);
    atomic_store(&gc.ended, nanotime());
    if (forced)
        atomic_fetch_add(&gc.cycles_forced, 1);
    if (options.gctrace)
        gc_trace(forced);
    if (events_wanted()) {
        event_gc(EVENT_END, forced || steps);
        event_resized(1);
    }
    gc_handles_trim();
    gc_finalizers_start();
    if (steps)
        gc_step_end(TARN_STEP_DONE);
    wake_waiters();
}

static void driver(void *unused)
{
    (void)unused;
    for (;;) {
        lock(&gc.lock);
        bool forced = gc.cycles_started < gc.forced_target;
        bool young = gc.cycles_started < gc.young_target;
        bool full = gc.requested_full || gc.step_wanted;
        if (gc.changed) {
            gc.changed = false;
            unlock(&gc.lock);
            pacer_changed();
            if (setting(&options.memlimit) != 0 && !options.clobberfree)
                release_now(pacer_keep());
            continue;
        }
        /* Asked for by itself, and there is none now (tarn_gc_disable). */
        if (gc_is_off()) {
            gc.requested = gc.requested_full = false;
            full = gc.step_wanted;
        }
        if (!forced && !young && !full && !gc.requested) {
            gc.driver_parked = true;
            goparkunlock(&gc.lock, WAIT_GC_IDLE);
            continue;
        }
        /* What was asked for from here on is asked of the next cycle. */
        gc.requested = gc.requested_full = false;
        /* Who waits for this one does not wait for whoever takes steps. */
        bool steps = gc.step_wanted;
        atomic_store(&gc.stepping, steps && gc.waiters == NULL);
        gc.step_wanted = false;
        gc.cycles_started++;
        unlock(&gc.lock);
        run_cycle(forced, full, young, steps);
    }
}

/* --- workers ------------------------------------------------------------------------ */

static bool worker_park(struct g *gp, void *vgcp)
{
    (void)gp;
    struct gcp *g = vgcp;
    atomic_store(&g->worker_parked, true);
    return true;
}

static void worker(void *vpp)
{
    struct p *mine = vpp;
    struct gcp *g = gcp_of(mine);
    for (;;) {
        gopark(worker_park, g, WAIT_GC_IDLE);
        struct m *mp = acquirem();
        ASSERT(mp->p == mine);
        int64_t t0 = nanotime();
        struct drain_limits lim = {.until_preempt = true};
        if (g->worker_idle_mode)
            lim.idle = true;
        else
            lim.deadline = t0 + gc_turn_ns;
        gc_drain(mine, &lim);
        g->last_worker_end = nanotime();
        atomic_fetch_add_explicit(&gc.mark_cpu_ns,
                                  (uint64_t)(g->last_worker_end - t0),
                                  memory_order_relaxed);
        atomic_fetch_sub(&gc.workers_running, 1);
        gc_maybe_done();
        releasem(mp);
    }
}

struct g *gc_worker_hook(struct p *pp, bool idle)
{
    if (!atomic_load_explicit(&gc.blacken, memory_order_acquire) ||
        gc_stepping())
        return NULL;
    struct gcp *g = gcp_of(pp);
    if (!atomic_load(&g->worker_parked) ||
        (!gc_work_available() && gcw_empty(&g->gcw)))
        return NULL;
    if (!idle) {
        int32_t running = atomic_load(&gc.workers_running);
        if (atomic_load_explicit(&heap.live, memory_order_relaxed) >
            atomic_load_explicit(&gc.goal, memory_order_relaxed)) {
            /* It cannot wait for its share; but who allocates pays as well, and
             * who does not shall not stand still until the mark is over. */
            if (nanotime() - g->last_worker_end < gc_turn_ns)
                return NULL;
        } else if (nprocs >= 4) {
            if (running >= (int32_t)(nprocs / 4))
                return NULL;
        } else if (running > 0 ||
                   nanotime() - g->last_worker_end < TURN_GAP_NS) {
            return NULL;
        }
    }
    atomic_store(&g->worker_parked, false);
    g->worker_idle_mode = idle;
    atomic_fetch_add(&gc.workers_running, 1);
    casgstatus(g->worker, Gwaiting, Grunnable);
    return g->worker;
}

/* --- allocation pays ------------------------------------------------------------------ */

struct assist_args {
    struct g *gp;
    int64_t work, did;
};

static void assist_on_g0(void *vargs)
{
    struct assist_args *a = vargs;
    struct m *mp = acquirem();
    struct p *pp = mp->p;
    /* Our own stack may be somebody's next root job. */
    casGToWaiting(a->gp, Grunning, WAIT_GC_ASSIST);
    trace_event(TRACE_ASSIST, a->gp, 0, 0);
    int64_t t0 = nanotime();
    struct drain_limits lim = {.deadline = t0 + ASSIST_MAX_NS,
                               .work = (uint64_t)a->work,
                               .assist = true};
    gc_drain(pp, &lim);
    a->did = (int64_t)lim.did;
    int64_t took = nanotime() - t0;
    trace_event(TRACE_ASSISTED, a->gp, 0, 0);
    hist_add(&gc.assist_hist, (uint64_t)took);
    atomic_fetch_add_explicit(&gc.assist_ns, (uint64_t)took,
                              memory_order_relaxed);
    casgstatus(a->gp, Gwaiting, Grunning);
    gc_maybe_done();
    releasem(mp);
}

/* n bytes more, and the collector is not where it can use help, or not so much. Who
 * is over the goal lets others run, the driver among them; who is far over it, or
 * takes much at once, waits. So does who is over a goal that memlimit has set, as
 * long as the collector marks: it sees to its share of the CPUs. */
static void over_goal(size_t n)
{
    uint64_t live = atomic_load_explicit(&heap.live, memory_order_relaxed);
    uint64_t goal = atomic_load_explicit(&gc.goal, memory_order_relaxed);
    if (likely(live <= goal) || gc_is_off() || gc_stepping())
        return;
    bool strict = setting(&options.memlimit) != 0 && pacer_assists() &&
                  atomic_load_explicit(&gc.blacken, memory_order_relaxed);
    if (n < THROTTLE_BYTES && !strict && live < goal + goal / 4) {
        goyield();
        return;
    }
    atomic_fetch_add(&gc.throttled, 1);
    tarn_sleep(THROTTLE_NS);
}

/* During a mark; n bytes became allocatable on this P. */
static NOINLINE void assist(size_t n)
{
    if (gc_stepping())
        return;
    struct gcp *g = gcp_of(getg()->m->p);
    uint32_t ratio =
        atomic_load_explicit(&gc.assist_ratio, memory_order_relaxed);
    double owes = (double)n * (double)ratio / 1024;
    g->assist_debt += owes < (double)DEBT_MOST ? (int64_t)owes : DEBT_MOST;
    if (g->assist_debt < ASSIST_STEP) {
        /* Little is to be scanned for much that is allocated: what is missing is
         * not work, but a P for the driver. */
        over_goal(n);
        return;
    }
    if (g->assist_debt > DEBT_MOST)
        g->assist_debt = DEBT_MOST;
    pacer_revise();
    /* What the workers have scanned ahead is ours to claim. */
    int64_t credit = atomic_load_explicit(&gc.bg_credit, memory_order_relaxed);
    if (credit > 0) {
        int64_t take = credit < g->assist_debt ? credit : g->assist_debt;
        atomic_fetch_sub_explicit(&gc.bg_credit, take, memory_order_relaxed);
        g->assist_debt -= take;
        if (g->assist_debt < ASSIST_STEP) {
            over_goal(n);
            return;
        }
    }
    if (!pacer_assists()) {
        g->assist_debt = 0;
        return;
    }
    if (atomic_load(&gc.nfull) == 0 && gcw_empty(&g->gcw)) {
        /* There is nothing to pay with: roots, which are not for an assist, or
         * all is in one worker's hands. */
        over_goal(n);
        return;
    }
    /* One step for each bit of a large object. The rest at the next refill: a long
     * step costs latency, a debt forgiven memory. */
    for (size_t steps = n / THROTTLE_BYTES;; steps--) {
        struct assist_args a = {getg(), g->assist_debt, 0};
        systemstack(assist_on_g0, &a);
        /* We may be on another P by now. */
        g = gcp_of(getg()->m->p);
        g->assist_debt -= a.did;
        if (steps == 0 || a.did == 0 || g->assist_debt < ASSIST_STEP ||
            !atomic_load_explicit(&gc.blacken, memory_order_relaxed))
            break;
        preempt_check();
        g = gcp_of(getg()->m->p);
    }
    if (setting(&options.memlimit) != 0)
        over_goal(n);
}

/* During a sweep; n bytes became allocatable on this P. */
static NOINLINE void help_sweep(size_t n)
{
    struct m *mp = acquirem();
    struct gcp *g = gcp_of(mp->p);
    g->sweep_debt += (double)n * gc.sweep_pages;
    /* A step is to be short: the rest is owed. */
    for (int i = 0; i < SWEEPS_MOST && g->sweep_debt >= 8; i++) {
        size_t pages = heap_sweep_one();
        g->sweep_debt = pages != 0 ? g->sweep_debt - (double)pages : 0;
    }
    releasem(mp);
}

#define RESIZED_LEAST ((uint64_t)1 << 20)

void gc_allocated(size_t n)
{
    if (events_wanted())
        event_resized(RESIZED_LEAST);
    if (atomic_load_explicit(&gc.phase, memory_order_relaxed) == GC_OFF) {
        uint64_t trigger =
            atomic_load_explicit(&gc.trigger, memory_order_relaxed);
        if (unlikely(trigger == UINT64_MAX)) {
            /* A cycle is being finished. */
            if (!heap_sweep_done() && !gc_stepping())
                help_sweep(n);
            if (heap_sweep_done())
                let_driver(); /* it is to say when the next one begins */
            over_goal(n);
        } else if (unlikely(atomic_load_explicit(
                                &heap.live, memory_order_relaxed) >= trigger) &&
                   gc.on) {
            if (gc_request() && atomic_load(&sched.npidle) == 0)
                goyield(); /* nobody else could run the driver now */
            else
                over_goal(n);
        }
    } else if (atomic_load_explicit(&gc.blacken, memory_order_relaxed)) {
        assist(n);
    } else {
        over_goal(n);
    }
}

/* --- start ---------------------------------------------------------------------------- */

bool gc_init(void)
{
    mutex_init(&gc.lock, RANK_SWEEPWAIT);
    mutex_init(&gc.buflock, RANK_WORKBUFS);
    gc_specials_init();
    if (!gc_roots_init() || !gc_stats_init() || !gc_weak_init() ||
        !barriercheck_init())
        return false;
    pacer_init();
    return true;
}

bool gc_p_start(struct p *pp)
{
    struct gcp *g = gcp_of(pp);
    if (g->worker == NULL)
        g->worker = newproc(worker, pp, NULL, true);
    return g->worker != NULL;
}

void gc_p_end(struct p *pp, struct p *to)
{
    /* Its worker is parked, or has never run: it gives itself to no other P. */
    struct gcp *g = gcp_of(pp), *other = gcp_of(to);
    gc_hand_in(pp);
    mcache_flush(&pp->mcache);
    /* Of this mark, and its workers or who allocates pay it sooner or later. */
    if (atomic_load(&gc.phase) == GC_MARK)
        atomic_fetch_sub(&gc.bg_credit, g->assist_debt);
    other->sweep_debt += g->sweep_debt;
    g->assist_debt = 0;
    g->sweep_debt = 0;
    stacks_p_end(pp);
}

void gc_on_start(void)
{
    if (gc.on)
        return;
    struct g *d = newproc(driver, NULL, NULL, true);
    if (d == NULL)
        throw("no memory for the collector's driver: %s", tarn_last_error());
    gc.driver = d;
    for (uint32_t i = 0; i < nprocs; i++)
        if (!gc_p_start(allp[i]))
            throw("no memory for a mark worker: %s", tarn_last_error());
    gc.on = true;
}
