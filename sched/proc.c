/* sched/proc.c - schedule(), park and ready, threads that come and go.
 *
 * The rule of spinning Ms (invariant 5 of sched.h): an M without work looks for
 * some for a while, "spinning". Whoever makes work wakes one M only if none
 * spins; an M that stops spinning because it found work wakes another; the last
 * one that stops because it found none looks at every queue once more after it
 * has said so. */
#include "sched/sched.h"

struct g *globrunqget(struct p *pp, uint32_t max); /* runq.c */

struct schedt sched = {
    .lock = MUTEX_INIT(SCHED),
    .gfreelock = MUTEX_INIT(GFREE),
    .worldsema = 1,
};
struct m *_Atomic allm;
struct m m0;
struct sched_hooks sched_hooks;

/* --- Ps and Ms change hands ------------------------------------------------ */

void acquirep(struct p *pp)
{
    struct m *mp = getg()->m;
    ASSERT(mp->p == NULL);
    ASSERT(atomic_load(&pp->m) == NULL && atomic_load(&pp->status) == Pidle);
    mp->p = pp;
    atomic_store(&pp->m, mp);
    atomic_store(&pp->status, Prunning);
    set_local_cache(pp);
}

struct p *releasep(void)
{
    struct m *mp = getg()->m;
    struct p *pp = mp->p;
    ASSERT(pp != NULL && atomic_load(&pp->m) == mp &&
           atomic_load(&pp->status) == Prunning);
    trace_event(TRACE_RELEASE, NULL, 0, 0);
    set_local_cache(NULL);
    mp->p = NULL;
    atomic_store(&pp->m, NULL);
    atomic_store(&pp->status, Pidle);
    return pp;
}

void pidleput(struct p *pp)
{
    ASSERT(runqempty(pp));
    pp->link = sched.pidle;
    sched.pidle = pp;
    atomic_fetch_add(&sched.npidle, 1);
}

struct p *pidleget(void)
{
    struct p *pp = sched.pidle;
    if (pp) {
        sched.pidle = pp->link;
        pp->link = NULL;
        atomic_fetch_sub(&sched.npidle, 1);
        /* Somebody will run: the monitor must watch again. */
        if (unlikely(atomic_load(&sched.sysmonwait)))
            sysmon_wake();
    }
    return pp;
}

/* An idle P for an M that will spin; if there is none, whoever releases one
 * next must look for work once more. */
static struct p *pidlegetSpinning(void)
{
    struct p *pp = pidleget();
    if (pp == NULL)
        atomic_store(&sched.needspinning, true);
    return pp;
}

static void mput(struct m *mp)
{
    mp->schedlink = sched.midle;
    sched.midle = mp;
    sched.nmidle++;
    checkdead();
}

struct m *mget(void)
{
    struct m *mp = sched.midle;
    if (mp) {
        sched.midle = mp->schedlink;
        sched.nmidle--;
    }
    return mp;
}

ALWAYS_INLINE void dropg_inline(struct m *mp, struct g *gp)
{
    __atomic_store_n(&gp->m, NULL, __ATOMIC_RELAXED);
    atomic_store_explicit(&mp->curg, NULL, memory_order_release);
}

void dropg(void)
{
    struct m *mp = getg()->m;
    dropg_inline(mp, atomic_load_explicit(&mp->curg, memory_order_relaxed));
}

/* --- going to sleep --------------------------------------------------------- */

static void leave_if_asked(struct m *mp)
{
    if (mp->exit_to_main) {
        mp->exit_to_main = false;
        mp->undone = false;
        mstart_return(mp);
    }
}

/* Between two steps of which the first takes an M off the count of those that
 * could make work and the second brings one back: without a deadlock being
 * reported in between. */
void incidlelocked(int32_t v)
{
    lock(&sched.lock);
    sched.nmidlelocked += v;
    if (v > 0)
        checkdead();
    unlock(&sched.lock);
}

/* This thread runs no goroutine but lockedg: hands its P on and sleeps until
 * that one is runnable and whoever found it has given a P. */
void stoplockedm(void)
{
    struct m *mp = getg()->m;
    ASSERT(mp->lockedg != NULL && mp->lockedg->lockedm == mp);
    ASSERT(mp->locks == 0);
    if (mp->spinning) {
        mp->spinning = false;
        atomic_fetch_sub(&sched.nmspinning, 1);
    }
    if (mp->p != NULL)
        handoffp(releasep());
    lock(&sched.lock);
    if (mp->exit_to_main) {
        unlock(&sched.lock);
        leave_if_asked(mp);
    }
    mp->parked_locked++;
    sched.nmidlelocked++;
    checkdead();
    unlock(&sched.lock);
    notesleep(&mp->park);
    noteclear(&mp->park);
    leave_if_asked(mp);
    struct p *pp = mp->nextp;
    mp->nextp = NULL;
    acquirep(pp);
    uint32_t s = readgstatus(mp->lockedg) & ~(uint32_t)Gscan;
    if (s != Grunnable)
        throw("stoplockedm: goroutine %llu is %s",
              (unsigned long long)mp->lockedg->goid, gstatus_name(s));
}

/* gp is runnable and bound to another thread: that one gets our P. */
void startlockedm(struct g *gp)
{
    struct m *mp = gp->lockedm;
    ASSERT(mp != getg()->m && mp->nextp == NULL);
    /* Before its P exists, so that it counts as running from here on. */
    lock(&sched.lock);
    mp->parked_locked--;
    sched.nmidlelocked--;
    getg()->m->p->startm = NULL; /* it may be mp: not to be taken back */
    unlock(&sched.lock);
    mp->nextp = releasep();
    notewakeup(&mp->park);
    stopm();
}

/* Awake for so long first: who is woken soon saves its waker a call and itself some
 * 50 us. Not where others wait for the CPU. */
static void spin_on(struct note *n, int64_t ns)
{
    if (__atomic_load_n(&nprocs, __ATOMIC_ACQUIRE) > sched.ncpu)
        return;
    for (int64_t end = nanotime() + ns; !noteisset(n) && nanotime() < end;)
        procyield(10);
}

static void stopm_spinning(int64_t ns)
{
    struct m *mp = getg()->m;
    ASSERT(mp->locks == 0 && mp->p == NULL && !mp->spinning);
    lock(&sched.lock);
    if (mp->exit_to_main) {
        unlock(&sched.lock);
        leave_if_asked(mp);
    }
    mput(mp);
    unlock(&sched.lock);
    xspare_retry(mp);
    spin_on(&mp->park, ns);
    struct p *pp = NULL;
    while (pp == NULL) {
        notesleep(&mp->park);
        noteclear(&mp->park);
        pp = atomic_exchange(&mp->nextp, NULL);
        if (likely(pp != NULL && !mp->undone))
            break;
        /* Asked to leave; or among the idle ones already, and perhaps given another P
         * since. */
        lock(&sched.lock);
        mp->undone = false;
        if (pp == NULL)
            pp = atomic_exchange(&mp->nextp, NULL);
        bool leave = mp->exit_to_main;
        unlock(&sched.lock);
        if (leave)
            leave_if_asked(mp);
    }
    acquirep(pp);
}

/* Sleeps until somebody hands this M a P, and takes it. */
void stopm(void)
{
    stopm_spinning(0);
}

void gcstop_p(struct p *pp)
{
    atomic_store(&pp->status, Pgcstop);
    ASSERT(sched.stopwait > 0);
    if (--sched.stopwait == 0)
        notewakeup(&sched.stopnote);
}

bool safe_point_take(struct p *pp)
{
    uint32_t one = 1;
    return atomic_compare_exchange_strong(&pp->runSafePointFn, &one, 0);
}

void safe_point_done(void)
{
    ASSERT(sched.safePointWait > 0);
    if (--sched.safePointWait == 0)
        notewakeup(&sched.safePointNote);
}

void gcstopm(void)
{
    struct m *mp = getg()->m;
    ASSERT(atomic_load(&sched.gcwaiting));
    if (mp->spinning) {
        mp->spinning = false;
        atomic_fetch_sub(&sched.nmspinning, 1);
    }
    struct p *pp = releasep();
    lock(&sched.lock);
    gcstop_p(pp);
    unlock(&sched.lock);
    stopm_spinning(STOP_SPIN_NS);
}

void runSafePointFn(void)
{
    struct p *pp = getg()->m->p;
    if (!safe_point_take(pp))
        return;
    sched.safePointFn(pp);
    lock(&sched.lock);
    safe_point_done();
    unlock(&sched.lock);
}

/* --- waking ------------------------------------------------------------------ */

static void mspinning(void)
{
    getg()->m->spinning = true;
}

#define LIMIT_WAIT_NS INT64_C(100000000)

/* sched.lock held. An idle M; at the limit of threads there may be one soon that
 * is on its way to sleep. */
static struct m *mget_or_wait(void)
{
    struct m *mp = mget();
    if (likely(mp != NULL || threads_counted() < (uint64_t)options.maxthreads))
        return mp;
    int64_t until = nanotime() + LIMIT_WAIT_NS;
    while (mp == NULL && nanotime() < until) {
        unlock(&sched.lock);
        osyield();
        lock(&sched.lock);
        mp = mget();
    }
    return mp;
}

/* Gives pp (NULL: an idle one, if any) an M. spinning: the caller has counted
 * it in nmspinning. */
void startm(struct p *pp, bool spinning)
{
    lock(&sched.lock);
    if (pp == NULL) {
        pp = pidleget();
        if (pp == NULL) {
            if (spinning)
                ASSERT((int32_t)atomic_fetch_sub(&sched.nmspinning, 1) > 0);
            unlock(&sched.lock);
            return;
        }
    }
    struct m *mp = mget_or_wait();
    if (mp == NULL) {
        /* Counted under the lock, so that checkdead knows of the thread that
         * is about to exist. */
        sched.mnext++;
        unlock(&sched.lock);
        newm(spinning ? mspinning : NULL, pp);
        return;
    }
    ASSERT(!mp->spinning && atomic_load(&mp->nextp) == NULL);
    ASSERT(!spinning || runqempty(pp));
    mp->spinning = spinning;
    pp->startm = mp;
    atomic_store(&mp->nextp, pp);
    bool sleeps = !mp->undone;
    unlock(&sched.lock);
    if (sleeps)
        notewakeup(&mp->park);
}

/* sched.lock held, world stopping: takes the P back from a thread that was given it and
 * is not awake yet, which can take 50 us. That counts as idle again, and sees so when it
 * wakes up; the start of the world sees to whatever it was to run. */
bool startm_undo(struct p *pp)
{
    struct m *mp = pp->startm;
    struct p *handed = pp;
    if (mp == NULL ||
        !atomic_compare_exchange_strong(&mp->nextp, &handed, NULL))
        return false;
    if (mp->spinning) {
        mp->spinning = false;
        ASSERT((int32_t)atomic_fetch_sub(&sched.nmspinning, 1) > 0);
    }
    mp->undone = true;
    mput(mp);
    atomic_fetch_add_explicit(&sched.undone, 1, memory_order_relaxed);
    return true;
}

NOINLINE static void wakep_slow(void)
{
    uint32_t zero = 0;
    if (!atomic_compare_exchange_strong(&sched.nmspinning, &zero, 1))
        return;
    delay_point("wakep");
    startm(NULL, true);
}

ALWAYS_INLINE void wakep_inline(void)
{
    if (unlikely(atomic_load(&sched.npidle) != 0) &&
        atomic_load(&sched.nmspinning) == 0)
        wakep_slow();
}

void wakep(void)
{
    wakep_inline();
}

/* The P was taken from an M that blocks: an M for it if findRunnable would find
 * something to do there. */
void handoffp(struct p *pp)
{
    bool work =
        !runqempty(pp) || atomic_load(&sched.runqsize) != 0 ||
        (sched_hooks.gc_work_available && sched_hooks.gc_work_available());
    if (work) {
        startm(pp, false);
        return;
    }
    uint32_t zero = 0;
    if (atomic_load(&sched.nmspinning) + atomic_load(&sched.npidle) == 0 &&
        atomic_compare_exchange_strong(&sched.nmspinning, &zero, 1)) {
        atomic_store(&sched.needspinning, false);
        startm(pp, true);
        return;
    }
    lock(&sched.lock);
    if (atomic_load(&sched.gcwaiting)) {
        gcstop_p(pp);
        unlock(&sched.lock);
        return;
    }
    if (safe_point_take(pp)) {
        sched.safePointFn(pp);
        safe_point_done();
    }
    if (sched.runq.n != 0) {
        unlock(&sched.lock);
        startm(pp, false);
        return;
    }
    int64_t when =
        atomic_load_explicit(&pp->timers.when0, memory_order_acquire);
    pidleput(pp);
    unlock(&sched.lock);
    if (when != 0)
        timer_wake_sleeper(when);
}

/* A timer is due at `when`: the M that sleeps for the next timer must not
 * oversleep it. Where nobody sleeps so, sysmon or the next M to go idle sees
 * it. */
void timer_wake_sleeper(int64_t when)
{
    if (atomic_load(&sched.npidle) == 0)
        return; /* every P is running and looks by itself */
    lock(&sched.lock);
    struct m *mp = sched.timer_sleeper;
    if (mp != NULL && when < sched.timer_sleep_until) {
        sched.timer_sleeper = NULL;
        unlock(&sched.lock);
        notewakeup(&mp->park);
        return;
    }
    unlock(&sched.lock);
    if (mp == NULL)
        wakep();
}

static void resetspinning(void)
{
    struct m *mp = getg()->m;
    ASSERT(mp->spinning);
    mp->spinning = false;
    uint32_t was = atomic_fetch_sub(&sched.nmspinning, 1);
    ASSERT((int32_t)was > 0);
    /* Somebody may have made work and counted on our finding it. */
    wakep();
}

/* --- finding work ------------------------------------------------------------ */

static struct g *stealWork(int64_t *now, int64_t *polluntil, bool *newwork,
                           bool *inherit)
{
    struct m *mp = getg()->m;
    struct p *pp = mp->p;
    *newwork = false;
    for (int pass = 0; pass < 4; pass++) {
        bool last = pass == 3;
        uint32_t start = rand_below(&pp->rand, nprocs);
        /* Any odd step coprime to nprocs visits each P once; 1 always is. */
        for (uint32_t i = 0; i < nprocs; i++) {
            struct p *p2 = allp[(start + i) % nprocs];
            if (atomic_load(&sched.gcwaiting)) {
                *newwork = true;
                return NULL;
            }
            if (p2 == pp)
                continue;
            if (last && atomic_load_explicit(&p2->timers.when0,
                                             memory_order_relaxed) != 0) {
                if (*now == 0)
                    *now = nanotime();
                bool ran;
                int64_t w = checkTimers(p2, *now, polluntil, &ran);
                (void)w;
                if (ran) {
                    struct g *gp = runqget(pp, inherit);
                    if (gp)
                        return gp;
                    *newwork = true;
                }
            }
            if (atomic_load_explicit(&p2->status, memory_order_relaxed) !=
                Pidle) {
                struct g *gp = runqsteal(pp, p2, last);
                if (gp) {
                    *inherit = false;
                    return gp;
                }
            }
        }
    }
    return NULL;
}

static bool any_runq(void)
{
    for (uint32_t i = 0, n = procs_now(); i < n; i++)
        if (!runqempty(allp[i]))
            return true;
    return false;
}

/* Takes an idle P and spins with it, if there is one. */
static bool take_idle_p(struct m *mp)
{
    lock(&sched.lock);
    struct p *pp = pidlegetSpinning();
    unlock(&sched.lock);
    if (pp == NULL)
        return false;
    acquirep(pp);
    if (!mp->spinning) {
        mp->spinning = true;
        atomic_fetch_add(&sched.nmspinning, 1);
    }
    return true;
}

/* Blocks until there is a G to run. *wake: it is special work, so somebody
 * should look for ordinary work in our place. */
static struct g *findRunnable(bool *inherit, bool *wake)
{
    struct m *mp = getg()->m;
    struct g *gp;
top:
    *inherit = *wake = false;
    struct p *pp = mp->p;
    if (atomic_load(&sched.gcwaiting)) {
        gcstopm();
        goto top;
    }
    if (unlikely(
            atomic_load_explicit(&pp->runSafePointFn, memory_order_relaxed)))
        runSafePointFn();

    int64_t now = 0, polluntil = 0;
    bool ran = false;
    if (atomic_load_explicit(&pp->timers.when0, memory_order_relaxed) != 0) {
        now = nanotime();
        checkTimers(pp, now, &polluntil, &ran);
    }
    if (sched_hooks.gc_worker) {
        gp = sched_hooks.gc_worker(pp, false);
        if (gp) {
            /* In the slice that is under way: would each turn of marking begin a
             * new one, who collects in a loop would never come to its end, and
             * who waits in the queue never run. */
            *inherit = *wake = true;
            return gp;
        }
    }
    /* Now and then the global queue first: two Gs that ready each other
     * could keep the local one busy for ever. */
    if (atomic_load(&sched.runqsize) > 0 && pp->schedtick % 61 == 0) {
        lock(&sched.lock);
        gp = globrunqget(pp, 1);
        unlock(&sched.lock);
        if (gp)
            return gp;
    }
    gp = runqget(pp, inherit);
    if (gp)
        return gp;
    if (atomic_load(&sched.runqsize) > 0) {
        lock(&sched.lock);
        gp = globrunqget(pp, 0);
        unlock(&sched.lock);
        if (gp)
            return gp;
    }
    /* At most half of the busy Ps' worth of Ms look: more would only burn. */
    if (mp->spinning || 2 * atomic_load(&sched.nmspinning) <
                            nprocs - atomic_load(&sched.npidle)) {
        if (!mp->spinning) {
            mp->spinning = true;
            atomic_fetch_add(&sched.nmspinning, 1);
        }
        bool newwork;
        gp = stealWork(&now, &polluntil, &newwork, inherit);
        if (gp)
            return gp;
        if (newwork)
            goto top;
    }
    if (sched_hooks.gc_worker) {
        gp = sched_hooks.gc_worker(pp, true);
        if (gp)
            return gp;
    }

    lock(&sched.lock);
    if (atomic_load(&sched.gcwaiting) ||
        atomic_load_explicit(&pp->runSafePointFn, memory_order_relaxed)) {
        unlock(&sched.lock);
        goto top;
    }
    if (sched.runq.n > 0) {
        gp = globrunqget(pp, 0);
        unlock(&sched.lock);
        return gp;
    }
    if (!mp->spinning && atomic_load(&sched.needspinning)) {
        mp->spinning = true;
        atomic_fetch_add(&sched.nmspinning, 1);
        atomic_store(&sched.needspinning, false);
        unlock(&sched.lock);
        goto top;
    }
    releasep();
    pidleput(pp);
    unlock(&sched.lock);
    delay_point("findRunnable: idle");

    bool was_spinning = mp->spinning;
    if (mp->spinning) {
        mp->spinning = false;
        uint32_t n = atomic_fetch_sub(&sched.nmspinning, 1);
        ASSERT((int32_t)n > 0);
        delay_point("findRunnable: not spinning");
        /* Work made after our search and before that subtraction found
         * nmspinning above zero, and so woke nobody: look again. */
        lock(&sched.lock);
        if (sched.runq.n > 0) {
            struct p *p2 = pidlegetSpinning();
            if (p2) {
                gp = globrunqget(p2, 0);
                ASSERT(gp != NULL);
                unlock(&sched.lock);
                acquirep(p2);
                mp->spinning = true;
                atomic_fetch_add(&sched.nmspinning, 1);
                return gp;
            }
        }
        unlock(&sched.lock);
        if (any_runq() && take_idle_p(mp))
            goto top;
        if (sched_hooks.gc_work_available && sched_hooks.gc_work_available() &&
            take_idle_p(mp))
            goto top;
    }
    /* The timers of idle Ps are ours too: one idle M sleeps for the first. */
    int64_t next = timers_next();
    if (next != 0) {
        now = nanotime();
        if (next <= now) {
            if (take_idle_p(mp))
                goto top;
        } else {
            lock(&sched.lock);
            if (sched.timer_sleeper == NULL) {
                sched.timer_sleeper = mp;
                sched.timer_sleep_until = next;
                unlock(&sched.lock);
                /* A timer armed between our look and our post saw no sleeper:
                 * look once more. */
                int64_t again = timers_next();
                int64_t left = next - nanotime();
                if (left > 0 && (again == 0 || again >= next))
                    notetsleep(&mp->park, left);
                lock(&sched.lock);
                if (sched.timer_sleeper == mp) {
                    sched.timer_sleeper = NULL;
                    unlock(&sched.lock);
                } else {
                    /* Taken off the post: the wake-up is coming or came. */
                    unlock(&sched.lock);
                    notesleep(&mp->park);
                }
                noteclear(&mp->park);
                leave_if_asked(mp);
                if (take_idle_p(mp))
                    goto top;
            } else {
                unlock(&sched.lock);
            }
        }
    }
    (void)was_spinning;
    stopm();
    goto top;
}

/* Puts onto a new stack what gogo pops, and where it returns to. Not before the
 * G runs: until then its stack need not come into any cache, and often not even
 * into memory. */
static void prepare_stack(struct g *gp)
{
    uintptr_t *sp = (uintptr_t *)gp->sched_sp;
    *--sp = (uintptr_t)goroutine_entry;
    for (int i = 0; i < 6; i++)
        *--sp = 0;
    /* Another P may be prefetching what is there. */
    __atomic_store_n(&gp->sched_sp, (uintptr_t)sp, __ATOMIC_RELAXED);
}

static NOINLINE void resume(struct g *gp)
{
    if (gp->resume & RESUME_THAW ||
        (gp->resume & RESUME_START && gp->stack.lo == 0))
        sched_hooks.stack_resume(gp);
    if (gp->resume & RESUME_START)
        prepare_stack(gp);
    gp->frame_need = 0;
    gp->resume = 0;
}

/* This and schedule are inlined into what mcall goes to, so that no call lies
 * between there and gogo: see mcall. */
__attribute__((noreturn)) ALWAYS_INLINE void execute_inline(struct g *gp,
                                                            bool inherit)
{
    struct m *mp = getg()->m;
    struct p *pp = mp->p;
    /* Before the status: whoever sees Grunning may follow g->m and m->curg. */
    __atomic_store_n(&gp->m, mp, __ATOMIC_RELAXED);
    atomic_store_explicit(&mp->curg, gp, memory_order_release);
    casgstatus(gp, Grunnable, Grunning);
    delay_point("execute");
    if (unlikely(gp->resume != 0))
        resume(gp);
    /* Requests to the one that ran before, or to an earlier life. */
    atomic_store_explicit(&gp->preempt, false, memory_order_relaxed);
    atomic_store_explicit(&gp->preemptStop, false, memory_order_relaxed);
    atomic_store_explicit(&gp->stackguard0, gp->stackguard1,
                          memory_order_relaxed);
    if (!inherit)
        atomic_store_explicit(&pp->schedtick, pp->schedtick + 1,
                              memory_order_relaxed);
    trace_event(TRACE_EXECUTE, gp, mp->id, inherit);
    gogo(gp);
}

void execute(struct g *gp, bool inherit)
{
    execute_inline(gp, inherit);
}

/* more: the caller made work that another P should know of. */
__attribute__((noreturn)) ALWAYS_INLINE void schedule_inline(bool more)
{
    struct m *mp = getg()->m;
    ASSERT(mp->locks == 0);
    leave_if_asked(mp);
    if (unlikely(mp->lockedg != NULL)) {
        stoplockedm();
        execute(mp->lockedg, false);
    }
    for (;;) {
        atomic_store_explicit(&mp->p->preempt, false, memory_order_relaxed);
        bool inherit, wake;
        struct g *gp = findRunnable(&inherit, &wake);
        if (mp->spinning)
            resetspinning();
        /* Of what was put into the queue before, others can know by now: a G
         * was taken, which takes a locked instruction. */
        if (wake || more)
            wakep();
        if (likely(gp->lockedm == NULL))
            execute_inline(gp, inherit);
        startlockedm(gp);
    }
}

void schedule(void)
{
    schedule_inline(false);
}

/* --- park and ready ---------------------------------------------------------- */

static void park_m(struct g *gp)
{
    struct m *mp = getg()->m;
    if (unlikely(mp->locks != 0))
        blocked_with_m(gp, "blocks");
    trace_event(TRACE_PARK, gp, gp->waitreason, 0);
    casgstatus(gp, Grunning, Gwaiting);
    delay_point("park_m");
    dropg_inline(mp, gp);
    bool (*fn)(struct g *, void *) = mp->waitunlockf;
    void *lk = mp->waitlock;
    mp->waitunlockf = NULL;
    mp->waitlock = NULL;
    if (fn != NULL && !fn(gp, lk)) {
        casgstatus(gp, Gwaiting, Grunnable);
        execute(gp, true);
    }
    if (unlikely(atomic_load_explicit(&mp->p->preempt, memory_order_relaxed)) &&
        !atomic_load(&sched.gcwaiting))
        runnext_preempt(mp->p);
    schedule_inline(false);
}

void gopark(bool (*unlockf)(struct g *, void *), void *lk,
            enum wait_reason reason)
{
    struct g *gp = getg();
    struct m *mp = gp->m;
    DASSERT(on_goroutine());
    mp->waitlock = lk;
    mp->waitunlockf = unlockf;
    __atomic_store_n(&gp->waitreason, reason, __ATOMIC_RELAXED);
    mcall(park_m);
}

static bool unlock_after_park(struct g *gp, void *lk)
{
    (void)gp;
    unlock(lk);
    return true;
}

void goparkunlock(struct mutex *m, enum wait_reason reason)
{
    gopark(unlock_after_park, m, reason);
}

void ready(struct g *gp, bool next)
{
    struct m *mp = acquirem();
    trace_event(TRACE_READY, gp, 0, 0);
    casgstatus(gp, Gwaiting, Grunnable);
    struct p *pp = mp->p;
    if (next)
        gp = runnext_swap(pp, gp);
    if (gp != NULL)
        runqput(pp, gp, false);
    wakep_inline();
    releasem(mp);
}

void goready(struct g *gp)
{
    ready(gp, true);
}

void injectglist(struct gqueue *q)
{
    uint32_t n = q->n;
    if (n == 0)
        return;
    struct gqueue out = {NULL, NULL, 0};
    for (struct g *gp; (gp = gqueue_pop(q)) != NULL;) {
        trace_event(TRACE_READY, gp, 0, 0);
        casgstatus(gp, Gwaiting, Grunnable);
        gqueue_push(&out, gp);
    }
    lock(&sched.lock);
    for (struct g *gp; (gp = gqueue_pop(&out)) != NULL;)
        globrunqput(gp);
    unlock(&sched.lock);
    for (; n > 0 && atomic_load(&sched.npidle) != 0; n--)
        startm(NULL, false);
}

/* gp yields. While nobody waits in the global queue the end of this P's is as
 * good a place, and costs no lock. If somebody does, it must go behind them: Gs
 * that yield to each other here would keep them waiting. *wake: there is work
 * for another P, which is to be woken once a G has been taken out of here. */
ALWAYS_INLINE bool yield_locally(struct g *gp, bool *wake)
{
    struct p *pp = getg()->m->p;
    if (atomic_load_explicit(&sched.runqsize, memory_order_relaxed) != 0)
        return false;
    *wake = nprocs > 1 && !runqempty(pp);
    return runqputtail(pp, gp);
}

__attribute__((noreturn)) ALWAYS_INLINE void goschedImpl(struct g *gp,
                                                         bool preempted)
{
    bool wake = false;
    if (unlikely(getg()->m->locks != 0))
        blocked_with_m(gp, "yields");
    if (preempted) /* a yield shows in who runs next, and must be cheap */
        trace_event(TRACE_PREEMPT, gp, 0, 0);
    casgstatus(gp, Grunning, Grunnable);
    dropg();
    if (preempted && atomic_load(&sched.gcwaiting)) {
        /* It did nothing to deserve losing its place: it goes on where it was
         * when the world starts again. */
        runqput(getg()->m->p, gp, true);
    } else if (!preempted && yield_locally(gp, &wake)) {
        schedule_inline(wake);
    } else {
        lock(&sched.lock);
        globrunqput(gp);
        unlock(&sched.lock);
        wakep();
    }
    schedule_inline(false);
}

void gosched_m(struct g *gp)
{
    goschedImpl(gp, false);
}

void gopreempt_m(struct g *gp)
{
    goschedImpl(gp, true);
}

static void goyield_m(struct g *gp)
{
    struct p *pp = getg()->m->p;
    if (unlikely(getg()->m->locks != 0))
        blocked_with_m(gp, "yields");
    casgstatus(gp, Grunning, Grunnable);
    dropg();
    runqput(pp, gp, false);
    schedule_inline(false);
}

void gosched(void)
{
    mcall(gosched_m);
}

void goyield(void)
{
    mcall(goyield_m);
}

/* gp need not stop after all. */
__attribute__((noreturn)) static void go_on(struct g *gp)
{
    struct p *pp = getg()->m->p;
    if (atomic_load(&sched.gcwaiting) ||
        atomic_load_explicit(&pp->runSafePointFn, memory_order_relaxed) ||
        atomic_load_explicit(&pp->preempt, memory_order_relaxed))
        gopreempt_m(gp);
    atomic_store_explicit(&gp->preempt, false, memory_order_relaxed);
    atomic_store_explicit(&gp->preemptStop, false, memory_order_relaxed);
    atomic_store_explicit(&gp->stackguard0, gp->stackguard1,
                          memory_order_relaxed);
    if (gp->resume != 0)
        resume(gp);
    gogo(gp);
}

void preemptPark(struct g *gp)
{
    if (sched_hooks.stopping != NULL) {
        enum stopping s = sched_hooks.stopping(gp);
        if (s == STOPPING_DONE)
            go_on(gp);
        if (s == STOPPING_LEFT)
            schedule();
    }
    trace_event(TRACE_STOP, gp, 0, 0);
    casGToPreemptScan(gp, Grunning, Gscan | Gpreempted);
    delay_point("preemptPark");
    __atomic_store_n(&gp->waitreason, WAIT_PREEMPTED, __ATOMIC_RELAXED);
    dropg();
    casfrom_Gscanstatus(gp, Gscan | Gpreempted, Gpreempted);
    schedule_inline(false);
}

void preempt_check_slow(void)
{
    struct g *gp = getg();
    if (!canPreemptM(gp->m))
        return;
    if (atomic_load(&gp->preemptStop))
        mcall(preemptPark);
    else
        mcall(gopreempt_m);
}
