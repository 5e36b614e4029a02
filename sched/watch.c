/* sched/watch.c - the stop watchdog: who holds up a stop of the world. On the g0
 * of the thread that stops it, which has waited too long already. */
#include "base/symbol.h"
#include "sched/sched.h"

/* Long enough for a signal to be handled by a thread that runs; one that waits
 * for its CPU longer is shown where it was last seen. */
#define SIGNAL_PATIENCE_NS 2000000

/* Where the thread is now. False: its last signal is older. */
static bool sample(struct m *mp)
{
    uint32_t gen = atomic_load(&mp->preemptGen);
    int64_t until = nanotime() + SIGNAL_PATIENCE_NS;
    preemptM(mp);
    while (atomic_load(&mp->preemptGen) == gen) {
        if (nanotime() > until)
            return false;
        osyield();
    }
    return true;
}

static void report_p(struct p *pp, int64_t waited_ns)
{
    struct m *mp = atomic_load(&pp->m);
    struct g *gp = mp ? atomic_load(&mp->curg) : NULL;
    if (mp == NULL)
        return;
    bool fresh = sample(mp);
    uintptr_t pc = atomic_load(&mp->signal_pc);
    const char *why = async_refusal_text(atomic_load(&mp->refused_why));
    char where[512] = "an unknown place";
    if (pc != 0)
        symbol_at(pc, where, sizeof where);
    tarn_eprintf(
        "tarn: stop of the world waits since %lld us for P %u: goroutine %llu "
        "on M %llu (thread %d), %s %s; %s%s\n",
        (long long)(waited_ns / 1000), pp->id,
        (unsigned long long)(gp ? gp->goid : 0), (unsigned long long)mp->id,
        __atomic_load_n(&mp->procid, __ATOMIC_RELAXED),
        fresh ? "at" : "last seen at", where,
        why ? "last request refused: " : "last request not refused",
        why ? why : "");
}

void stw_report(int64_t waited_ns)
{
    struct m *me = getg()->m;
    for (uint32_t i = 0; i < nprocs; i++) {
        struct p *pp = allp[i];
        if (pp != me->p && atomic_load(&pp->status) == Prunning)
            report_p(pp, waited_ns);
    }
}
