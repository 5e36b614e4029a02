/* sched/syscall.c - native calls: code that the scheduler cannot see, and whose
 * thread may block.
 *
 * A goroutine in a native call has status Gsyscall. Its P stays wired to its
 * thread, so that a short call costs a store on the way in and a CAS on the way
 * out; whoever needs the P takes it with the goroutine's scan bit held
 * (setBlockOnExitSyscall), which is what the goroutine must get past on its way
 * back. So there is one lock for both stack and P, and the word that it is in is
 * the one that both sides change anyway. docs/design.md compares it with the other
 * protocol, in which the P has a status of its own for this.
 *
 * While the call lasts, the thread's current g is g0: every public call that
 * needs a goroutine refuses by itself.
 *
 * A goroutine that comes back may be Grunning without a P for a moment. It can do
 * nothing then but get one, or park. */
#include "sched/sched.h"
#include "tarn/native.h"

/* --- the other side: threads that want the P ------------------------------- */

struct m *setBlockOnExitSyscall(struct p *pp)
{
    if (atomic_load(&pp->status) != Prunning)
        return NULL;
    struct m *mp = atomic_load(&pp->m);
    if (mp == NULL)
        return NULL;
    struct g *gp = atomic_load_explicit(&mp->curg, memory_order_acquire);
    if (gp == NULL || readgstatus(gp) != Gsyscall)
        return NULL;
    delay_point("setBlockOnExitSyscall: read");
    if (!castogscanstatus(gp, Gsyscall, Gsyscall | Gscan))
        return NULL;
    delay_point("setBlockOnExitSyscall: held");
    /* All of that may have been about another moment. From here on it stands
     * still: a goroutine in a native call changes neither its M nor its P. */
    if (atomic_load(&mp->curg) != gp || gp->m != mp ||
        atomic_load(&mp->p) != pp || atomic_load(&pp->m) != mp) {
        casfrom_Gscanstatus(gp, Gsyscall | Gscan, Gsyscall);
        return NULL;
    }
    ASSERT(atomic_load(&pp->status) == Prunning);
    return mp;
}

void resume_syscall(struct m *mp)
{
    struct g *gp = atomic_load(&mp->curg);
    casfrom_Gscanstatus(gp, Gsyscall | Gscan, Gsyscall);
}

static void unwire(struct p *pp, struct m *mp)
{
    mp->p = NULL;
    atomic_store(&pp->m, NULL);
    atomic_fetch_add_explicit(&pp->syscalltick, 1, memory_order_relaxed);
}

void takeP(struct p *pp, struct m *mp)
{
    unwire(pp, mp);
    atomic_store(&pp->status, Pidle);
    delay_point("takeP");
}

static void gcstopP(struct p *pp, struct m *mp)
{
    unwire(pp, mp);
    gcstop_p(pp);
}

void stop_syscalls(void)
{
    ASSERT(atomic_load(&sched.gcwaiting));
    for (uint32_t i = 0; i < nprocs; i++) {
        struct m *mp = setBlockOnExitSyscall(allp[i]);
        if (mp != NULL) {
            gcstopP(allp[i], mp);
            resume_syscall(mp);
        }
    }
}

/* --- into a native call ----------------------------------------------------- */

/* The world is to stop, and who stops it may have looked at us before we were
 * in the call. */
static NOINLINE void entersyscall_gcwait(struct g *gp)
{
    lock(&sched.lock);
    if (atomic_load(&sched.gcwaiting) &&
        castogscanstatus(gp, Gsyscall, Gsyscall | Gscan)) {
        struct m *mp = gp->m;
        struct p *pp = atomic_load(&mp->p);
        if (pp != NULL)
            gcstopP(pp, mp);
        casfrom_Gscanstatus(gp, Gsyscall | Gscan, Gsyscall);
    }
    unlock(&sched.lock);
}

static NOINLINE void entersyscall_sysmon(void)
{
    lock(&sched.lock);
    sysmon_wake();
    unlock(&sched.lock);
}

void entersyscall(struct g *gp)
{
    struct m *mp = gp->m;
    struct p *pp = atomic_load_explicit(&mp->p, memory_order_relaxed);
    DASSERT(pp != NULL && atomic_load(&pp->status) == Prunning);
    DASSERT(gp->syscallsp >= gp->stack.lo && gp->syscallsp <= gp->stack.hi);
    mp->oldp = pp;
    /* If the call blocks, somebody has to notice in time who waits here. */
    if (unlikely(
            atomic_load_explicit(&sched.sysmonlazy, memory_order_relaxed)) &&
        (!runqempty(pp) ||
         atomic_load_explicit(&sched.runqsize, memory_order_relaxed) != 0))
        entersyscall_sysmon();
    if (unlikely(
            atomic_load_explicit(&pp->runSafePointFn, memory_order_relaxed)))
        runSafePointFn();
    set_local_cache(NULL);
    trace_event(TRACE_NATIVE_ENTER, gp, gp->syscallsp, 0);
    delay_point("entersyscall: saved");
    /* The last step: the P is anybody's from here on. */
    casgstatus(gp, Grunning, Gsyscall);
    delay_point("entersyscall: in");
    if (unlikely(atomic_load(&sched.gcwaiting)))
        entersyscall_gcwait(gp);
}

void entersyscallblock(struct g *gp)
{
    gp->m->oldp = atomic_load_explicit(&gp->m->p, memory_order_relaxed);
    trace_event(TRACE_NATIVE_ENTER, gp, gp->syscallsp, 0);
    handoffp(releasep());
    delay_point("entersyscallblock: running without P");
    casgstatus(gp, Grunning, Gsyscall);
}

/* --- and back ----------------------------------------------------------------- */

/* A P off the idle list: the one we had, if it is there. */
static struct p *pidleget_old(struct p *old)
{
    if (old != NULL && atomic_load(&old->status) == Pidle)
        for (struct p **l = &sched.pidle; *l != NULL; l = &(*l)->link)
            if (*l == old) {
                *l = old->link;
                old->link = sched.pidle;
                sched.pidle = old;
                break;
            }
    return pidleget();
}

static bool exitsyscallfast_pidle(struct m *mp)
{
    lock(&sched.lock);
    struct p *pp = pidleget_old(mp->oldp);
    unlock(&sched.lock);
    if (pp == NULL)
        return false;
    acquirep(pp);
    return true;
}

/* The P we had, if it has come to a thread that is in a native call itself: what
 * sysmon would do for us some time later. */
static bool exitsyscallfast_old(struct m *mp)
{
    struct p *pp = mp->oldp;
    if (pp == NULL || atomic_load(&sched.gcwaiting))
        return false;
    struct m *other = setBlockOnExitSyscall(pp);
    if (other == NULL)
        return false;
    takeP(pp, other);
    resume_syscall(other);
    acquirep(pp);
    atomic_fetch_add_explicit(&sched.exit_retaken, 1, memory_order_relaxed);
    return true;
}

static void exitsyscallfast(void *vok)
{
    bool *ok = vok;
    struct m *mp = getg()->m;
    /* Taken by somebody who puts it to use, or for a stop: neither is undone. */
    *ok = exitsyscallfast_old(mp) ||
          (atomic_load(&sched.npidle) != 0 && exitsyscallfast_pidle(mp));
}

/* For mcall: no P is to be had. */
static void exitsyscall0(struct g *gp)
{
    struct m *mp = getg()->m;
    /* mcall has saved all registers above sched_sp. */
    __atomic_store_n(&gp->syscallsp, 0, __ATOMIC_RELEASE);
    casgstatus(gp, Grunning, Grunnable);
    delay_point("exitsyscall0");
    dropg();
    lock(&sched.lock);
    struct p *pp = pidleget_old(mp->oldp);
    /* Once it is in the queue, another thread may run and change it. */
    bool locked = gp->lockedm != NULL;
    if (pp == NULL) {
        globrunqput(gp);
        /* Some other P may be in a call that lasts. */
        if (atomic_load(&sched.sysmonlazy))
            sysmon_wake();
    }
    unlock(&sched.lock);
    if (pp != NULL) {
        acquirep(pp);
        execute(gp, false);
    }
    if (locked) {
        stoplockedm();
        execute(gp, false);
    }
    stopm();
    schedule();
}

static NOINLINE void exitsyscall_without_p(void)
{
    bool ok;
    systemstack(exitsyscallfast, &ok);
    if (!ok)
        mcall(exitsyscall0);
}

/* The stack was scanned during the call. Under checkmark, words that dead frames
 * left below must not come back to life as padding of new ones: nobody has seen
 * what they point to. (While it was scanned native code may have run there.) */
static NOINLINE void wipe_below(struct g *gp)
{
    uintptr_t sp = (uintptr_t)__builtin_frame_address(0);
    uintptr_t lo = gp->stack.lo;
    if (gp->foreign && sp - lo > STACK_WIPE)
        lo = sp - STACK_WIPE;
    if (gp->kind == STACK_COPYING)
        lo += STACK_POISONED;
    asm_wipe_stack(lo);
    gp->wipe = false;
}

/* First of all. Until then what is above syscallsp may be scanned, and so must
 * not change. */
ALWAYS_INLINE void exitsyscall_run(struct g *gp)
{
    delay_point("exitsyscall");
    casgstatus(gp, Gsyscall, Grunning);
    delay_point("exitsyscall: running");
}

/* Then, as the goroutine: a P. */
ALWAYS_INLINE void exitsyscall_own(struct g *gp)
{
    setg(gp);
    struct p *pp = atomic_load_explicit(&gp->m->p, memory_order_acquire);
    if (unlikely(pp == NULL)) {
        exitsyscall_without_p();
        pp = atomic_load_explicit(&gp->m->p, memory_order_relaxed);
    }
    set_local_cache(pp);
    trace_event(TRACE_NATIVE_LEAVE, gp, 0, 0);
    atomic_store_explicit(
        &pp->syscalltick,
        atomic_load_explicit(&pp->syscalltick, memory_order_relaxed) + 1,
        memory_order_relaxed);
    gp->syscallsp = 0;
    gp->throwsplit = false;
    if (unlikely(gp->wipe))
        wipe_below(gp);
    set_stackguard(gp, gp->stackguard1);
    /* A request that came meanwhile. */
    preempt_check();
}

void exitsyscall(struct g *gp)
{
    exitsyscall_run(gp);
    exitsyscall_own(gp);
}

/* --- the public calls ------------------------------------------------------------ */

/* From tarn_native_enter, which has saved the registers. */
void native_enter(struct g *gp) __attribute__((visibility("hidden")));
void native_enter(struct g *gp)
{
    if (unlikely(gp->m->locks != 0))
        blocked_with_m(gp, "makes a native call");
    gp->throwsplit = true;
    set_stackguard(gp, STACK_PREEMPT);
    setg(gp->m->g0);
    entersyscall(gp);
}

__attribute__((noreturn)) void native_enter_misuse(void)
    __attribute__((visibility("hidden")));
void native_enter_misuse(void)
{
    fatal("tarn_native_enter: not called on a goroutine%s",
          not_goroutine_why());
}

/* __morestack on a goroutine's stack in a native call. */
void native_morestack(struct g *gp)
{
    fatal("goroutine %llu: code compiled with -fsplit-stack is called between "
          "tarn_native_enter and tarn_native_leave (tarn_native_call may call "
          "any code)",
          (unsigned long long)gp->goid);
}

/* The goroutine whose native call this is, entered by tarn_native_enter
 * (on_stack) or tarn_native_call; NULL: none. */
static struct g *native_g(bool on_stack)
{
    struct g *g0 = getg();
    if (g0 == NULL || g0->kind != STACK_SYSTEM)
        return NULL;
    struct g *gp = atomic_load_explicit(&g0->m->curg, memory_order_relaxed);
    if (gp == NULL || gp->syscallsp == 0 || gp->throwsplit != on_stack)
        return NULL;
    return gp;
}

void tarn_native_leave(void)
{
    struct g *gp = native_g(true);
    if (unlikely(gp == NULL))
        fatal("tarn_native_leave: no tarn_native_enter before it%s",
              tarn_forked ? not_goroutine_why() : "");
    exitsyscall(gp);
}

bool tarn_in_native(void)
{
    return native_g(true) != NULL || native_g(false) != NULL;
}

static void run_native(struct g *gp, bool block)
{
    /* Everything that the goroutine holds is above, its registers too. */
    gp->syscallsp = gp->sched_sp;
    void *(*fn)(void *) = gp->native_fn;
    void *arg = gp->native_arg;
    if (block)
        entersyscallblock(gp);
    else
        entersyscall(gp);
    /* The collector may be reading it. */
    __atomic_store_n(&gp->native_arg, fn(arg), __ATOMIC_RELAXED);
    /* Here, not on the goroutine's stack: on the way there its registers are
     * popped, and the place where a scan looks for them is used for others. */
    exitsyscall_run(gp);
}

static void native_call_on_g0(void *gp)
{
    run_native(gp, false);
}

static void native_block_on_g0(void *gp)
{
    run_native(gp, true);
}

/* gp->native_arg keeps alive what goes in and what comes out (scanstack). */
static void *native_call(struct g *gp, void *(*fn)(void *), void *arg,
                         bool block)
{
    if (unlikely(gp->m->locks != 0))
        blocked_with_m(gp, "makes a native call");
    /* That of the call in whose callback we are: kept by this frame now. */
    void *outer = gp->native_arg;
    gp->native_fn = fn;
    gp->native_arg = arg;
    systemstack(block ? native_block_on_g0 : native_call_on_g0, gp);
    void *result = gp->native_arg;
    exitsyscall_own(gp);
    gp->native_arg = outer;
    return result;
}

void *tarn_native_call(void *(*fn)(void *), void *arg)
{
    struct g *gp = getg();
    if (unlikely(gp == NULL || gp->kind == STACK_SYSTEM)) {
        if (native_g(false) != NULL)
            return fn(arg);
        fatal("tarn_native_call: not called on a goroutine%s",
              not_goroutine_why());
    }
    return native_call(gp, fn, arg, false);
}

void *native_call_blocking(void *(*fn)(void *), void *arg)
{
    return native_call(getg(), fn, arg, true);
}

/* --- from native code back into goroutine code -------------------------------- */

struct callback {
    tarn_fn fn;
    void *arg;
    struct g *gp;
};

/* From native code on g0 to gp's stack, body(c) there, and back (assembly). */
void call_on_goroutine(struct g *gp, void (*body)(void *c), void *c);

/* Native code that calls back has frames on its thread's stack. M0's is not ours
 * once tarn_main wants to return. */
static bool callback_begin(struct m *mp)
{
    if (likely(mp != &m0))
        return true;
    lock(&sched.lock);
    bool ok = !sched.main_ending;
    if (ok)
        sched.m0_callbacks++;
    unlock(&sched.lock);
    if (!ok)
        set_error("tarn_callback: tarn_main is about to return on this thread");
    return ok;
}

/* As the goroutine still. */
static void callback_end(struct g *gp)
{
    struct m *mp = gp->m;
    if (unlikely(mp->locks != 0))
        blocked_with_m(gp, "returns from a callback");
    if (likely(mp != &m0))
        return;
    struct g *waits = NULL;
    lock(&sched.lock);
    ASSERT(sched.m0_callbacks > 0);
    if (--sched.m0_callbacks == 0) {
        waits = sched.main_waits;
        sched.main_waits = NULL;
    }
    unlock(&sched.lock);
    if (waits != NULL)
        goready(waits);
}

static void callback_body(void *vc)
{
    struct callback *c = vc; /* on g0's stack */
    struct g *gp = c->gp;
    tarn_fn fn = c->fn;
    void *arg = c->arg;
    exitsyscall_own(gp);
    fn(arg);
    callback_end(gp);
}

static void callback_reenter(struct g *gp)
{
    setg(gp->m->g0);
    entersyscall(gp);
}

/* Native code on the goroutine's own stack, between enter and leave. */
static NOINLINE void callback_on_stack(struct g *gp, tarn_fn fn, void *arg)
{
    /* In this frame, so that they move if the stack does. */
    volatile uintptr_t held[8];
    for (int i = 0; i < 6; i++)
        held[i] = gp->native_regs[i];
    held[6] = gp->syscallsp;
    held[7] = gp->syscallpc;
    exitsyscall(gp);
    fn(arg);
    callback_end(gp);
    for (int i = 0; i < 6; i++)
        gp->native_regs[i] = held[i];
    gp->syscallsp = held[6];
    gp->syscallpc = held[7];
    gp->throwsplit = true;
    set_stackguard(gp, STACK_PREEMPT);
    callback_reenter(gp);
}

tarn_status tarn_callback(tarn_fn fn, void *arg)
{
    struct g *gp = getg();
    if (unlikely(fn == NULL)) {
        set_error("tarn_callback: no function");
        return TARN_EINVAL;
    }
    if (gp == NULL && tarn_forked)
        fatal("tarn_callback: not called on a goroutine%s",
              not_goroutine_why());
    if (gp == NULL) {
        tarn_status st = tarn_thread_attach();
        if (st != TARN_OK)
            return st;
        fn(arg);
        /* Nobody could start it again, or detach this thread. */
        gp = getg();
        if (unlikely(gp != NULL && gp->m->locks != 0))
            blocked_with_m(gp, "returns from a callback");
        return tarn_thread_detach();
    }
    if (gp->kind != STACK_SYSTEM) {
        fn(arg);
        return TARN_OK;
    }
    /* The native code's frames belong to this thread, and so do the locks that
     * it may hold. */
    bool on_stack = true;
    if ((gp = native_g(true)) == NULL) {
        gp = native_g(false);
        on_stack = false;
    }
    if (gp == NULL)
        fatal("tarn_callback: called by the runtime's own code");
    if (!callback_begin(gp->m))
        return TARN_ESTATE;
    lockOSThread(gp);
    if (on_stack) {
        callback_on_stack(gp, fn, arg);
    } else {
        struct callback c = {fn, arg, gp};
        exitsyscall_run(gp); /* nobody is on its stack before that */
        call_on_goroutine(gp, callback_body, &c);
        callback_reenter(gp);
    }
    unlockOSThread(gp);
    return TARN_OK;
}
