/* stackscan/suspend.c - holding a goroutine still, and what of it to scan. */
#include "base/vm.h"
#include "stackscan/stackscan.h"

struct suspendGState suspendG(struct g *gp)
{
    struct g *self = getg();
    ASSERT(self->system || self->kind == STACK_SYSTEM);
    bool stopped = false;
    int64_t began = 0, yield_at = 0, reissue_at = 0;
    for (uint32_t i = 0;; i++) {
        uint32_t s = readgstatus(gp);
        switch (s) {
        case Gdead:
        case Gidle:
            /* A request that was under way to it is wiped by its end. */
            return (struct suspendGState){gp, true, false};
        case Gpreempted:
            /* Claimed: from now on we owe it a ready. */
            if (!casGFromPreempted(gp, Gpreempted, Gwaiting))
                break;
            stopped = true;
            delay_point("suspendG: claimed");
            s = Gwaiting;
            __attribute__((fallthrough));
        case Grunnable:
        case Gsyscall:
        case Gwaiting:
            if (!castogscanstatus(gp, s, s | Gscan))
                break;
            /* It stands still: a request left over would make it yield for
             * nothing. */
            atomic_store(&gp->preemptStop, false);
            atomic_store(&gp->preempt, false);
            atomic_store_explicit(&gp->stackguard0, gp->stackguard1,
                                  memory_order_relaxed);
            return (struct suspendGState){gp, false, stopped};
        case Grunning: {
            int64_t now = nanotime();
            if (atomic_load(&gp->preemptStop) && atomic_load(&gp->preempt) &&
                atomic_load_explicit(&gp->stackguard0, memory_order_relaxed) ==
                    STACK_PREEMPT &&
                now < reissue_at)
                break;
            /* Under the scan bit it stays on its M, so that the request goes
             * to the right thread's slot. */
            if (!castogscanstatus(gp, Grunning, Grunning | Gscan))
                break;
            bool drop =
                options.droppreempt != 0 &&
                rand_below(&self->m->rand, 100) < (uint32_t)options.droppreempt;
            if (!drop) {
                atomic_store(&gp->preemptStop, true);
                atomic_store(&gp->preempt, true);
                set_stackguard(gp, STACK_PREEMPT);
            }
            reissue_at = now + 100000;
            casfrom_Gscanstatus(gp, Grunning | Gscan, Grunning);
            delay_point("suspendG: posted");
            break;
        }
        default:
            /* Copying its stack, or somebody else's scan bit: both short. */
            break;
        }
        procyield(10);
        if ((i & 15) == 15) {
            int64_t now = nanotime();
            if (began == 0) {
                began = now;
                yield_at = now + 10000;
            } else if (now >= yield_at) {
                osyield();
                yield_at = nanotime() + 5000;
            }
        }
    }
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
    uintptr_t sp = gp->syscallsp != 0 ? gp->syscallsp : gp->sched_sp;
    ASSERT(sp >= gp->stack.lo && sp <= gp->stack.hi);
    alloca_prune(gp, sp);
    range(sp, gp->stack.hi, arg);
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

void stack_clear_unused(struct g *gp)
{
    uintptr_t sp = gp->sched_sp, lo = gp->stack.lo;
    if (gp->syscallsp != 0) {
        /* Native code may be running there: later. */
        gp->wipe = true;
        return;
    }
    if (gp->foreign && sp - lo > STACK_WIPE)
        lo = sp - STACK_WIPE;
    if (gp->kind == STACK_FIXED && !gp->foreign) {
        uintptr_t page = ALIGN_DOWN(sp, (uintptr_t)OS_PAGE);
        if (page > lo)
            vm_decommit((void *)lo, page - lo);
        lo = page > lo ? page : lo;
    }
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
