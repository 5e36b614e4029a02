/* stackscan/suspend.c - holding a goroutine still, and what of it to scan. */
#include "base/vm.h"
#include "stackscan/framemap.h"
#include "stackscan/stackscan.h"

bool suspendG_try(struct g *gp, struct suspend_request *rq,
                  struct suspendGState *st)
{
    uint32_t s = readgstatus(gp);
    bool stopped = false;
    switch (s) {
    case Gdead:
    case Gidle:
        /* A request that was under way to it is wiped by its end. */
        *st = (struct suspendGState){gp, true, false};
        return true;
    case Gpreempted:
        /* Claimed: from now on we owe it a ready. */
        if (!casGFromPreempted(gp, Gpreempted, Gwaiting))
            return false;
        stopped = true;
        delay_point("suspendG: claimed");
        s = Gwaiting;
        __attribute__((fallthrough));
    case Grunnable:
    case Gsyscall:
    case Gwaiting:
        while (!castogscanstatus(gp, s, s | Gscan)) {
            if (!stopped)
                return false;
            /* Somebody else looks at it; ours is to see it through. */
            procyield(10);
            if (sched_hooks.scan_help != NULL)
                sched_hooks.scan_help();
        }
        /* It stands still: a request left over would make it yield for
         * nothing. */
        atomic_store(&gp->preemptStop, false);
        atomic_store(&gp->preempt, false);
        atomic_store_explicit(&gp->stackguard0, gp->stackguard1,
                              memory_order_relaxed);
        *st = (struct suspendGState){gp, false, stopped};
        return true;
    case Grunning: {
        int64_t now = nanotime();
        if (atomic_load(&gp->preemptStop) && atomic_load(&gp->preempt) &&
            atomic_load_explicit(&gp->stackguard0, memory_order_relaxed) ==
                STACK_PREEMPT &&
            now < rq->reissue_at &&
            (rq->asyncM == NULL || now < rq->signal_at ||
             atomic_load(&rq->asyncM->preemptGen) == rq->asyncGen))
            return false;
        /* Posted without holding it still, as preemptone does: it may have
         * stopped or moved to another M by now, or have ended and begun
         * another life. Whatever the request hits then ignores it (execute
         * takes back what was meant for an earlier life, and whoever finds
         * its guard overwritten without being asked goes on), and we look
         * again at what gp does. */
        bool drop = lose_request();
        rq->reissue_at = now + REISSUE_NS;
        struct m *mp = __atomic_load_n(&gp->m, __ATOMIC_RELAXED);
        uint32_t gen = mp != NULL ? atomic_load(&mp->preemptGen) : 0;
        if (!drop) {
            atomic_store(&gp->preemptStop, true);
            atomic_store(&gp->preempt, true);
            delay_point("suspendG: asked");
            post_preempt(gp, mp);
        }
        delay_point("suspendG: posted");
        /* It may run elsewhere by now: then the signal asks for nothing
         * there, and the request above tells us to begin again. */
        if (!drop && mp != NULL && preempt_signals_on() &&
            now >= rq->signal_at) {
            rq->asyncM = mp;
            rq->asyncGen = gen;
            rq->signal_at = now + rq->signal_pause;
            if (rq->signal_pause < REISSUE_NS)
                rq->signal_pause *= 2;
            preemptM(mp);
        }
        return false;
    }
    default:
        /* Copying its stack, or somebody else's scan bit: both short. */
        return false;
    }
}

struct suspendGState suspendG(struct g *gp)
{
    struct g *self = getg();
    ASSERT(self->system || self->kind == STACK_SYSTEM);
    struct suspend_request rq = SUSPEND_REQUEST_INIT;
    struct suspendGState st;
    int64_t began = 0, yield_at = 0;
    /* Before it is asked: it stops only if somebody waits for that. */
    atomic_fetch_add(&gp->suspenders, 1);
    for (uint32_t i = 0; !suspendG_try(gp, &rq, &st); i++) {
        procyield(10);
        if ((i & 15) == 15) {
            int64_t now = nanotime();
            if (began == 0) {
                began = now;
                yield_at = now + 10000;
            } else if (now >= yield_at) {
                if (sched_hooks.scan_help != NULL)
                    sched_hooks.scan_help();
                osyield();
                yield_at = nanotime() + 5000;
            }
        }
    }
    atomic_fetch_sub(&gp->suspenders, 1);
    return st;
}

void resumeG(struct suspendGState st)
{
    if (st.dead)
        return;
    uint32_t s = readgstatus(st.g);
    ASSERT(s & Gscan);
    casfrom_Gscanstatus(st.g, s, s & ~(uint32_t)Gscan);
    if (st.stopped)
        ready(st.g, true);
}

void scanstack(struct g *gp,
               void (*range)(uintptr_t lo, uintptr_t hi, void *arg), void *arg)
{
    /* Once: with the world stopped, a thread without a P may be about to clear
     * it, having set the other. */
    uintptr_t sp = __atomic_load_n(&gp->syscallsp, __ATOMIC_ACQUIRE);
    if (sp == 0)
        sp = __atomic_load_n(&gp->sched_sp, __ATOMIC_RELAXED);
    ASSERT(sp >= gp->stack.lo && sp <= gp->stack.hi);
    if (!(gp->resume & RESUME_THAW))
        alloca_prune(gp, sp);
    scanstack_frames(gp, sp, gp->stack.hi, range, arg);
    if (gp->xregs != NULL)
        range((uintptr_t)gp->xregs, (uintptr_t)gp->xregs + xregs_size, arg);
    alloca_each(gp, range, arg);
    void *also[2] = {__atomic_load_n(&gp->entry_arg, __ATOMIC_RELAXED),
                     __atomic_load_n(&gp->native_arg, __ATOMIC_RELAXED)};
    range((uintptr_t)also, (uintptr_t)(also + 2), arg);
    if (gp->throwsplit)
        range((uintptr_t)gp->native_regs, (uintptr_t)(gp->native_regs + 6),
              arg);
    /* The caller of a blocked operation may have nothing left that points to
     * what the operation will still use. */
    for (struct sudog *s = gp->waiting; s != NULL; s = s->waitlink) {
        void *held[2] = {s->elem, s->c};
        range((uintptr_t)held, (uintptr_t)(held + 2), arg);
    }
}

void scanstack_native(struct g *gp,
                      void (*range)(uintptr_t lo, uintptr_t hi, void *arg),
                      void *arg)
{
    if (gp->syscallsp == 0 || !(gp->throwsplit || gp->foreign))
        return;
    uintptr_t sp = gp->syscallsp, lo = gp->stack.lo;
    range(sp - lo > STACK_GUARD ? sp - STACK_GUARD : lo, sp, arg);
}

void stack_clear_unused(struct g *gp)
{
    uintptr_t sp = gp->sched_sp, lo = gp->stack.lo;
    if (lo == 0)
        return; /* it gets one when it first runs */
    if (gp->syscallsp != 0) {
        if (gp->throwsplit || gp->foreign) {
            /* Native code may be running there: later. */
            gp->wipe = true;
            return;
        }
        /* It runs on the thread's stack, and the goroutine does not come back
         * from there while it is held. */
        sp = gp->syscallsp;
    }
    if (gp->foreign && sp - lo > STACK_WIPE)
        lo = sp - STACK_WIPE;
    if (gp->kind == STACK_FIXED && !gp->foreign) {
        uintptr_t page = ALIGN_DOWN(sp, (uintptr_t)OS_PAGE);
        if (page > lo)
            vm_decommit((void *)lo, page - lo);
        lo = page > lo ? page : lo;
    }
    if (gp->kind == STACK_COPYING && sp - lo > STACK_POISONED)
        lo += STACK_POISONED;
    memset((void *)lo, 0, sp - lo);
}

#define KEEP_BELOW_SP ((uintptr_t)16 << 10)

void stack_release_unused(struct g *gp)
{
    if (gp->kind != STACK_FIXED || gp->syscallsp != 0 || gp->foreign ||
        gp->sched_sp - gp->stack.lo <= KEEP_BELOW_SP)
        return;
    uintptr_t end =
        ALIGN_DOWN(gp->sched_sp - KEEP_BELOW_SP, (uintptr_t)OS_PAGE);
    if (end > gp->stack.lo)
        vm_decommit((void *)gp->stack.lo, end - gp->stack.lo);
}
