/* sched/status.c - the G status word: who may change it, from what to what. */
#include "sched/sched.h"

/* Bit t of legal[f]: the edge f -> t exists (scan bit left out; edges that set
 * or clear it keep the status under it). */
#define E(s) (1u << (s))
static const uint32_t legal[16] = {
    [Gidle] = E(Gdead),
    [Gdead] = E(Grunnable) | E(Gsyscall),
    [Grunnable] = E(Grunning),
    [Grunning] = E(Grunnable) | E(Gwaiting) | E(Gsyscall) | E(Gcopystack) |
                 E(Gpreempted) | E(Gdead),
    [Gwaiting] = E(Grunnable) | E(Grunning),
    [Gsyscall] = E(Grunning) | E(Grunnable) | E(Gdead),
    [Gcopystack] = E(Grunning),
    [Gpreempted] = E(Gwaiting),
};
#undef E

static bool scannable(uint32_t s)
{
    return s == Grunnable || s == Gwaiting || s == Gsyscall || s == Gpreempted;
}

static const char *const names[16] = {
    [Gidle] = "idle",           [Grunnable] = "runnable",
    [Grunning] = "running",     [Gsyscall] = "syscall",
    [Gwaiting] = "waiting",     [Gdead] = "dead",
    [Gcopystack] = "copystack", [Gpreempted] = "preempted",
};

const char *gstatus_name(uint32_t s)
{
    const char *n = (s & ~(uint32_t)Gscan) < 16 ? names[s & 15] : NULL;
    return n ? n : "?";
}

const char *wait_reason_name(uint32_t r)
{
#define NAME_(n, s) s,
    static const char *const text[] = {WAIT_REASONS(NAME_)};
#undef NAME_
    return r < ARRAY_LEN(text) ? text[r] : "?";
}

void check_edge(struct g *gp, uint32_t from, uint32_t to)
{
    if (unlikely(from >= 16 || to >= 16 || !(legal[from] & (1u << to))))
        throw("casgstatus: goroutine %llu: no edge %s -> %s",
              (unsigned long long)gp->goid, gstatus_name(from),
              gstatus_name(to));
}

/* The CAS of casgstatus failed: somebody holds the scan bit, which is short. But
 * the holder may have lost its CPU, so give ours away after a while. Or gp was
 * not `from` at all. */
void casgstatus_slow(struct g *gp, uint32_t from, uint32_t to)
{
    check_edge(gp, from, to);
    int64_t yield_at = 0;
    for (uint32_t i = 0;; i++) {
        uint32_t old = from;
        if (likely(atomic_compare_exchange_weak_explicit(
                &gp->atomicstatus, &old, to, memory_order_acq_rel,
                memory_order_acquire)))
            return;
        if (old != from && old != (from | Gscan))
            throw("casgstatus: goroutine %llu is %s%s, not %s (going to %s)",
                  (unsigned long long)gp->goid, gstatus_name(old),
                  old & Gscan ? "+scan" : "", gstatus_name(from),
                  gstatus_name(to));
        procyield(10);
        if ((i & 7) == 7) {
            int64_t now = nanotime();
            if (yield_at == 0) {
                yield_at = now + 5000;
            } else if (now >= yield_at) {
                if (sched_hooks.scan_help != NULL)
                    sched_hooks.scan_help();
                osyield();
                yield_at = nanotime() + 2500;
            }
        }
    }
}

bool castogscanstatus(struct g *gp, uint32_t from, uint32_t to)
{
    DASSERT(to == (from | Gscan) && scannable(from));
    return atomic_compare_exchange_strong_explicit(&gp->atomicstatus, &from, to,
                                                   memory_order_acq_rel,
                                                   memory_order_acquire);
}

void casfrom_Gscanstatus(struct g *gp, uint32_t from, uint32_t to)
{
    ASSERT(from == (to | Gscan) && scannable(to));
    uint32_t old = from;
    if (!atomic_compare_exchange_strong_explicit(&gp->atomicstatus, &old, to,
                                                 memory_order_acq_rel,
                                                 memory_order_acquire))
        throw("casfrom_Gscanstatus: goroutine %llu is %s%s, not %s+scan",
              (unsigned long long)gp->goid, gstatus_name(old),
              old & Gscan ? "+scan" : "", gstatus_name(to));
}

/* The scan bit comes with the new status, so that nobody can claim the G before
 * its M has let go of it. */
void casGToPreemptScan(struct g *gp, uint32_t from, uint32_t to)
{
    ASSERT(from == Grunning && to == (Gscan | Gpreempted));
    ASSERT(readgstatus(gp) == Grunning);
    atomic_store_explicit(&gp->atomicstatus, to, memory_order_release);
}

bool casGFromPreempted(struct g *gp, uint32_t from, uint32_t to)
{
    ASSERT(from == Gpreempted && to == Gwaiting);
    /* Before the status: whoever sees Gwaiting may read the reason. Only the
     * winner's write counts and all write the same. */
    __atomic_store_n(&gp->waitreason, WAIT_PREEMPTED, __ATOMIC_RELAXED);
    return atomic_compare_exchange_strong_explicit(&gp->atomicstatus, &from, to,
                                                   memory_order_acq_rel,
                                                   memory_order_acquire);
}

void casGToWaiting(struct g *gp, uint32_t from, enum wait_reason reason)
{
    __atomic_store_n(&gp->waitreason, reason, __ATOMIC_RELAXED);
    casgstatus(gp, from, Gwaiting);
}
