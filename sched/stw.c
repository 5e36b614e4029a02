/* sched/stw.c - asking goroutines to stop: preemption requests, the stop of the
 * world, the ragged barrier.
 *
 * A request is written, never awaited: it may come late, hit the goroutine that
 * runs there next, or be lost to a stack copy or an execute() that reset the
 * guard. So each loop below that waits re-issues every 100 us. */
#include "sched/sched.h"

void set_stackguard(struct g *gp, uintptr_t v)
{
    atomic_store_explicit(&gp->stackguard0, v, memory_order_relaxed);
    struct m *mp = gp->m;
    if (mp != NULL)
        atomic_store_explicit(
            atomic_load_explicit(&mp->tls_guard, memory_order_relaxed), v,
            memory_order_relaxed);
}

/* Each prologue compares the stack pointer with this word: the request costs the
 * running code nothing until it is there. By another thread, of gp that seems to
 * run on mp (NULL: on none). */
void post_preempt(struct g *gp, struct m *mp)
{
    atomic_store_explicit(&gp->stackguard0, STACK_PREEMPT,
                          memory_order_relaxed);
    if (mp == NULL)
        return;
    /* The thread may be one that detaches or ends. */
    lock_slot(mp);
    /* Acquire: minit stores it without the lock. */
    _Atomic uintptr_t *slot =
        atomic_load_explicit(&mp->tls_guard, memory_order_acquire);
    if (slot != NULL)
        atomic_store_explicit(slot, STACK_PREEMPT, memory_order_release);
    unlock_slot(mp);
}

bool canPreemptM(struct m *mp)
{
    struct p *pp = mp->p;
    return mp->locks == 0 && pp != NULL &&
           atomic_load_explicit(&pp->status, memory_order_relaxed) == Prunning;
}

/* Option droppreempt. */
bool lose_request(void)
{
    struct g *self = getg();
    return unlikely(options.droppreempt != 0) && self != NULL &&
           rand_below(&self->m->rand, 100) < (uint32_t)options.droppreempt;
}

/* True: a request was posted; where it does not say "signal" only as a word that the
 * next prologue reads. */
static bool preempt_request(struct p *pp, bool signal)
{
    struct m *mp = atomic_load(&pp->m);
    struct g *self = getg(); /* NULL: tests ask from threads of their own */
    if (mp == NULL || (self != NULL && mp == self->m))
        return false;
    struct g *gp = atomic_load_explicit(&mp->curg, memory_order_acquire);
    if (gp == NULL || gp == mp->g0)
        return false;
    /* In a native call it has stopped already, as far as it can. */
    if ((readgstatus(gp) & ~(uint32_t)Gscan) == Gsyscall)
        return false;
    if (unlikely(lose_request()))
        return true;
    atomic_store(&gp->preempt, true);
    delay_point("preemptone");
    post_preempt(gp, mp);
    atomic_store_explicit(&pp->preempt, true, memory_order_relaxed);
    /* And where it calls nothing, the signal finds it. */
    if (signal)
        preemptM(mp);
    return true;
}

bool preemptone(struct p *pp)
{
    return preempt_request(pp, true);
}

static bool request_all(bool signal)
{
    bool any = false;
    for (uint32_t i = 0; i < nprocs; i++)
        if (atomic_load(&allp[i]->status) == Prunning &&
            preempt_request(allp[i], signal))
            any = true;
    return any;
}

bool preemptall(void)
{
    return request_all(true);
}

/* Waits awake, until so long after began: to sleep and to be woken costs more than the
 * others need to see a request. They were sent a word; those who do not read it soon get
 * a signal, which costs both sides ten times as much. True: the note was set. */
static bool spin_for_requests(struct note *n, int64_t began, int64_t ns)
{
    bool signalled = false;
    for (int64_t now; (now = nanotime()) - began < ns;) {
        procyield(10);
        if (noteisset(n))
            return true;
        if (!signalled && now - began >= READ_SPIN_NS) {
            signalled = true;
            preemptall();
        }
    }
    return false;
}

void stopTheWorldWithSema(void)
{
    struct m *mp = acquirem();
    int64_t began = nanotime();
    trace_event(TRACE_STW_ASK, mp->curg, 0, 0);
    lock(&sched.lock);
    ASSERT(sched.worldsema == 0);
    sched.stop_began = began;
    sched.stopwait = (int32_t)nprocs;
    noteclear(&sched.stopnote);
    atomic_store(&sched.gcwaiting, true);
    request_all(false);
    delay_point("stopTheWorld: requested");
    ASSERT(atomic_load(&mp->p->status) == Prunning);
    atomic_store(&mp->p->status, Pgcstop);
    sched.stopwait--;
    stop_syscalls();
    for (struct p *pp; (pp = pidleget()) != NULL;) {
        atomic_store(&pp->status, Pgcstop);
        sched.stopwait--;
    }
    for (uint32_t i = 0; i < nprocs; i++)
        if (atomic_load(&allp[i]->status) == Pidle && startm_undo(allp[i])) {
            atomic_store(&allp[i]->status, Pgcstop);
            sched.stopwait--;
        }
    bool wait = sched.stopwait > 0;
    unlock(&sched.lock);
    if (wait)
        wait = !spin_for_requests(&sched.stopnote, began, STOP_SPIN_NS);
    int64_t watch = options.stwwatch;
    while (wait) {
        if (notetsleep(&sched.stopnote, REISSUE_NS))
            break;
        /* Also for those that went into a native call without seeing us. */
        lock(&sched.lock);
        stop_syscalls();
        unlock(&sched.lock);
        if (unlikely(watch != 0) && nanotime() - began >= watch) {
            stw_report(nanotime() - began);
            watch *= 2;
        }
        /* What holds us up may be a library just loaded. */
        if (sched_hooks.text_refresh)
            sched_hooks.text_refresh();
        preemptall();
    }
    sched.stop_began = began;
    ASSERT(sched.stopwait == 0);
    for (uint32_t i = 0; i < nprocs; i++)
        ASSERT(atomic_load(&allp[i]->status) == Pgcstop);
    int64_t stopped = nanotime();
    sched.stop_took = stopped - began;
    trace_event(TRACE_STW_STOPPED, mp->curg, (uint64_t)sched.stop_took, 0);
}

void startTheWorldWithSema(void)
{
    struct m *mp = getg()->m;
    struct p *mine = mp->p;
    struct p *runnable = NULL;
    trace_event(TRACE_STW_START, mp->curg, 0, 0);
    lock(&sched.lock);
    atomic_store(&sched.gcwaiting, false);
    for (uint32_t i = nprocs; i-- > 0;) {
        struct p *pp = allp[i];
        if (pp == mine) {
            atomic_store(&pp->status, Prunning);
            continue;
        }
        atomic_store(&pp->status, Pidle);
        if (runqempty(pp)) {
            pidleput(pp);
        } else {
            pp->link = runnable;
            runnable = pp;
        }
    }
    if (atomic_load(&sched.sysmonwait))
        sysmon_wake();
    unlock(&sched.lock);
    int64_t took = nanotime() - sched.stop_began;
    while (runnable != NULL) {
        struct p *pp = runnable;
        runnable = pp->link;
        pp->link = NULL;
        startm(pp, false);
    }
    /* There may be more work than the Ps with queues show. */
    wakep();
    if (sched_hooks.stw_done && sched.stop_began != 0)
        sched_hooks.stw_done(took, sched.stop_took);
    releasem(mp);
}

void worldsema_acquire(void)
{
    lock(&sched.lock);
    if (sched.worldsema == 1) {
        sched.worldsema = 0;
        unlock(&sched.lock);
        return;
    }
    struct g *gp = getg();
    gqueue_push(&sched.worldwait, gp);
    /* Handed over by the holder: it stays 0. */
    goparkunlock(&sched.lock, WAIT_STOPPING_WORLD);
}

void worldsema_release(void)
{
    lock(&sched.lock);
    ASSERT(sched.worldsema == 0);
    struct g *gp = gqueue_pop(&sched.worldwait);
    if (gp == NULL)
        sched.worldsema = 1;
    unlock(&sched.lock);
    if (gp != NULL)
        goready(gp);
}

static void stop_on_g0(void *vgp)
{
    struct g *gp = vgp;
    /* Others may wait for this goroutine's stack while we wait for them. */
    casGToWaiting(gp, Grunning, WAIT_STOPPING_WORLD);
    stopTheWorldWithSema();
    casgstatus(gp, Gwaiting, Grunning);
}

void stopTheWorld(void)
{
    worldsema_acquire();
    systemstack(stop_on_g0, getg());
}

void blocked_with_m(struct g *gp, const char *what)
{
    if (gp->worldstopped)
        fatal("goroutine %llu %s while it has stopped the world "
              "(tarn_world_stop)",
              (unsigned long long)gp->goid, what);
    throw("goroutine %llu %s with its thread held (%d)",
          (unsigned long long)gp->goid, what, gp->m->locks);
}

static void start_on_g0(void *unused)
{
    (void)unused;
    startTheWorldWithSema();
}

void startTheWorld(void)
{
    systemstack(start_on_g0, NULL);
    worldsema_release();
}

tarn_status tarn_world_stop(void)
{
    if (!require_goroutine("tarn_world_stop"))
        return TARN_ESTATE;
    struct g *gp = getg();
    if (gp->worldstopped) {
        set_error("tarn_world_stop: goroutine %llu has stopped the world "
                  "already",
                  (unsigned long long)gp->goid);
        return TARN_ESTATE;
    }
    preempt_check();
    stopTheWorld();
    gp->worldstopped = true;
    set_local_cache(NULL); /* allocation is refused */
    return TARN_OK;
}

tarn_status tarn_world_start(void)
{
    struct g *gp = getg();
    if (!on_goroutine() || !gp->worldstopped) {
        set_error("tarn_world_start: the caller has not stopped the world");
        return TARN_ESTATE;
    }
    gp->worldstopped = false;
    set_local_cache(gp->m->p);
    startTheWorld();
    preempt_check();
    return TARN_OK;
}

/* Runs it for those Ps whose threads are in native calls, and keeps them there
 * meanwhile. */
static void safe_point_syscalls(void (*fn)(struct p *))
{
    for (uint32_t i = 0; i < nprocs; i++) {
        struct p *pp = allp[i];
        if (atomic_load(&pp->runSafePointFn) == 0)
            continue;
        struct m *mp = setBlockOnExitSyscall(pp);
        if (mp == NULL)
            continue;
        bool mine = safe_point_take(pp);
        if (mine)
            fn(pp);
        resume_syscall(mp);
        if (!mine)
            continue;
        lock(&sched.lock);
        safe_point_done();
        unlock(&sched.lock);
    }
}

/* fn runs once for every P, on the thread that has it or, for an idle one or one
 * in a native call, on this. The flag of a P is consumed wherever a P stops
 * running goroutines. */
void forEachP(void (*fn)(struct p *))
{
    struct m *mp = acquirem();
    struct p *mine = mp->p;
    lock(&sched.lock);
    ASSERT(sched.safePointWait == 0 && sched.worldsema == 0);
    sched.safePointWait = (int32_t)nprocs - 1;
    sched.safePointFn = fn;
    noteclear(&sched.safePointNote);
    for (uint32_t i = 0; i < nprocs; i++)
        if (allp[i] != mine)
            atomic_store(&allp[i]->runSafePointFn, 1);
    request_all(false);
    delay_point("forEachP");
    for (struct p *pp = sched.pidle; pp != NULL; pp = pp->link) {
        if (safe_point_take(pp)) {
            fn(pp);
            sched.safePointWait--;
        }
    }
    bool wait = sched.safePointWait > 0;
    unlock(&sched.lock);
    fn(mine);
    if (wait) {
        safe_point_syscalls(fn);
        wait =
            !spin_for_requests(&sched.safePointNote, nanotime(), STOP_SPIN_NS);
    }
    while (wait) {
        safe_point_syscalls(fn);
        if (notetsleep(&sched.safePointNote, REISSUE_NS))
            break;
        preemptall();
    }
    for (uint32_t i = 0; i < nprocs; i++)
        ASSERT(atomic_load(&allp[i]->runSafePointFn) == 0);
    lock(&sched.lock);
    ASSERT(sched.safePointWait == 0);
    unlock(&sched.lock);
    releasem(mp);
}

static void delay(uint64_t *r)
{
    /* Most steps pass undisturbed, so that delays meet each other rarely
     * enough for the rest to run at speed. */
    if (rand_below(r, 16) != 0)
        return;
    int64_t until =
        nanotime() + (int64_t)rand_below(r, (uint32_t)options.delays) * 1000;
    while (nanotime() < until)
        osyield();
}

void delay_point_signal_slow(struct m *mp)
{
    delay(&mp->sigrand);
}

void delay_point_slow(const char *name)
{
    (void)name;
    struct g *gp = getg();
    if (gp == NULL)
        return;
    delay(&gp->m->rand);
}
