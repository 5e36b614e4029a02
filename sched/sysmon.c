/* sched/sysmon.c - the monitor thread: no P, no G of its own to run. Retakes
 * what ran too long, sees to timers that nobody looks at, and sleeps longer and
 * longer while there is nothing to do. And checkdead. */
#include "sched/sched.h"

#define FORCE_PREEMPT_NS 10000000
#define SYSMON_MIN_US 20
#define SYSMON_MAX_US 10000
#define SYSMON_DEEP_NS INT64_C(60000000000)

/* How many Ps needed a push. */
static uint32_t retake(int64_t now)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < nprocs; i++) {
        struct p *pp = allp[i];
        if (atomic_load(&pp->status) != Prunning)
            continue;
        uint32_t t = atomic_load_explicit(&pp->schedtick, memory_order_relaxed);
        if (pp->sysmon_schedtick != t) {
            pp->sysmon_schedtick = t;
            pp->sysmon_schedwhen = now;
        } else if (pp->sysmon_schedwhen + FORCE_PREEMPT_NS <= now) {
            preemptone(pp);
            n++;
        }
    }
    return n;
}

/* Under sched.lock: nothing to watch until somebody runs again? */
static bool may_sleep_deep(void)
{
    return atomic_load(&sched.gcwaiting) ||
           atomic_load(&sched.npidle) == nprocs;
}

void *sysmon_thread(void *vmp)
{
    struct m *mp = vmp;
    setg(mp->g0);
    uint32_t idle = 0, delay = SYSMON_MIN_US;
    for (;;) {
        if (idle == 0)
            delay = SYSMON_MIN_US;
        else if (idle > 50)
            delay *= 2;
        if (delay > SYSMON_MAX_US)
            delay = SYSMON_MAX_US;
        usleep_os(delay);
        int64_t now = nanotime();
        int64_t next = timers_next();
        if (may_sleep_deep()) {
            lock(&sched.lock);
            /* Who armed a timer and then went idle did so before now. */
            next = timers_next();
            if (may_sleep_deep() && (next == 0 || next > now)) {
                int64_t ns = SYSMON_DEEP_NS;
                if (next != 0 && next - now < ns)
                    ns = next - now;
                noteclear(&sched.sysmonnote);
                atomic_store(&sched.sysmonwait, true);
                unlock(&sched.lock);
                notetsleep(&sched.sysmonnote, ns);
                lock(&sched.lock);
                atomic_store(&sched.sysmonwait, false);
                unlock(&sched.lock);
                idle = 0;
                delay = SYSMON_MIN_US;
                continue;
            }
            unlock(&sched.lock);
        }
        /* Due, and every M is busy or asleep: somebody idle should look. */
        if (next != 0 && next < now - 1000000 &&
            atomic_load(&sched.npidle) != 0 && !atomic_load(&sched.gcwaiting))
            startm(NULL, false);
        if (retake(now) != 0) {
            idle = 0;
            /* What runs long may run in a library just loaded. */
            if (sched_hooks.text_refresh)
                sched_hooks.text_refresh();
        } else
            idle++;
    }
    return NULL;
}

void goroutine_report(void)
{
    size_t n = atomic_load(&allglen), shown = 0;
    for (size_t i = 0; i < n && shown < 100; i++) {
        struct g *gp = allg_at(i);
        uint32_t s = readgstatus(gp);
        if ((s & ~(uint32_t)Gscan) == Gdead || gp->system)
            continue;
        shown++;
        tarn_eprintf("goroutine %llu [%s%s%s] entry %p\n",
                     (unsigned long long)gp->goid, gstatus_name(s),
                     (s & ~(uint32_t)Gscan) == Gwaiting ? ": " : "",
                     (s & ~(uint32_t)Gscan) == Gwaiting
                         ? wait_reason_name(gp->waitreason)
                         : "",
                     (void *)(uintptr_t)gp->fn);
    }
    if (shown == 100)
        tarn_eprintf("... and more\n");
}

/* Called, with sched.lock held, when an M goes idle. If it was the last that
 * could ever make a goroutine runnable, say so instead of hanging. */
void checkdead(void)
{
    if (!options.deadlock || sched.main_done || !sched.started ||
        atomic_load(&sched.gcwaiting))
        return;
    int64_t running =
        (int64_t)sched.mnext - sched.nmidle - sched.nmidlelocked - sched.nmsys;
    if (running > 0)
        return;
    if (running < 0)
        throw("checkdead: %lld threads running (%llu made, %u idle, %d locked, "
              "%d system)",
              (long long)running, (unsigned long long)sched.mnext, sched.nmidle,
              sched.nmidlelocked, sched.nmsys);
    if (timers_next() != 0)
        return;
    size_t n = atomic_load(&allglen);
    for (size_t i = 0; i < n; i++) {
        struct g *gp = allg_at(i);
        uint32_t s = readgstatus(gp) & ~(uint32_t)Gscan;
        if (!gp->system && (s == Grunnable || s == Grunning || s == Gsyscall))
            throw("checkdead: goroutine %llu is %s but no thread runs",
                  (unsigned long long)gp->goid, gstatus_name(s));
    }
    goroutine_report();
    fatal("all goroutines are asleep - deadlock!");
}
