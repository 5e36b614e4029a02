/* sched/sysmon.c - the monitor thread: no P, no G of its own to run. Retakes
 * what ran too long, sees to timers that nobody looks at, and sleeps longer and
 * longer while there is nothing to do. And checkdead. */
#include <sys/prctl.h>

#include "sched/sched.h"

#define FORCE_PREEMPT_NS INT64_C(10000000)
#define SYSMON_REISSUE_NS INT64_C(100000)
#define SYSCALL_LONG_NS INT64_C(10000000)
#define SYSMON_MIN_NS INT64_C(20000)
#define SYSMON_MAX_NS INT64_C(10000000)
#define SYSMON_LAZY_NS INT64_C(100000) /* naps worth a wake-up */
#define SYSMON_DEEP_NS INT64_C(60000000000)

/* --- retake -------------------------------------------------------------------- */

/* pp's thread is in a native call that was there at our last visit too, and
 * either somebody waits for the P or the call is long. */
static bool retake_syscall(struct p *pp, int64_t now)
{
    if (runqempty(pp) && atomic_load(&sched.runqsize) == 0 &&
        atomic_load(&sched.nmspinning) + atomic_load(&sched.npidle) > 0 &&
        now < pp->sysmon_syscallwhen + SYSCALL_LONG_NS)
        return false;
    /* Until the P has a new thread, its old one counts as idle. */
    incidlelocked(-1);
    bool took = false;
    struct m *mp = setBlockOnExitSyscall(pp);
    if (mp != NULL) {
        /* It may be another call by now; as good. */
        took = true;
        takeP(pp, mp);
        resume_syscall(mp);
        handoffp(pp);
    }
    incidlelocked(1);
    return took;
}

static bool in_syscall(struct p *pp)
{
    struct m *mp = atomic_load(&pp->m);
    struct g *gp =
        mp ? atomic_load_explicit(&mp->curg, memory_order_acquire) : NULL;
    return gp != NULL && (readgstatus(gp) & ~(uint32_t)Gscan) == Gsyscall;
}

/* How many Ps were taken from native calls. *next: when the first slice of a busy
 * P ends, if that is before it. most: of a slice, from now on. */
static uint32_t retake(int64_t now, int64_t most, int64_t *next,
                       bool *preempted)
{
    uint32_t n = 0;
    int64_t slice = most < FORCE_PREEMPT_NS ? most : FORCE_PREEMPT_NS;
    /* One that ends meanwhile is not running any more. */
    for (uint32_t i = 0, procs = procs_now(); i < procs; i++) {
        struct p *pp = allp[i];
        if (atomic_load(&pp->status) != Prunning)
            continue;
        /* Slices before calls: a goroutine that is in and out of short ones all
         * the time has a slice too. */
        uint32_t t = atomic_load_explicit(&pp->schedtick, memory_order_relaxed);
        bool slice_over = false;
        if (pp->sysmon_schedwhen - now > slice)
            pp->sysmon_schedwhen = now + slice;
        if (pp->sysmon_schedtick != t) {
            pp->sysmon_schedtick = t;
            pp->sysmon_schedwhen = now + slice;
            pp->sysmon_reissue = SYSMON_REISSUE_NS;
        } else if (pp->sysmon_schedwhen <= now) {
            /* Look again soon: to see when the next slice begins, and because
             * the request may be lost; less and less often where it is just not
             * heeded. */
            preemptone(pp);
            *preempted = true;
            slice_over = true;
            pp->sysmon_schedwhen = now + pp->sysmon_reissue;
            if (pp->sysmon_reissue < FORCE_PREEMPT_NS / 2)
                pp->sysmon_reissue *= 4;
        }
        if (in_syscall(pp)) {
            t = atomic_load_explicit(&pp->syscalltick, memory_order_relaxed);
            bool seen = pp->sysmon_insyscall && pp->sysmon_syscalltick == t;
            if (!seen) {
                pp->sysmon_syscalltick = t;
                pp->sysmon_syscallwhen = now;
                pp->sysmon_insyscall = true;
            }
            /* Nobody in a call can heed a request: at the end of a slice a call
             * however short will do, or a goroutine that makes one after the
             * other might keep its P for ever. */
            if ((seen || slice_over) && retake_syscall(pp, now)) {
                atomic_fetch_add_explicit(&sched.retaken, 1,
                                          memory_order_relaxed);
                n++;
            }
        } else {
            pp->sysmon_insyscall = false;
        }
        if (pp->sysmon_schedwhen < *next)
            *next = pp->sysmon_schedwhen;
    }
    return n;
}

/* --- the thread ---------------------------------------------------------------- */

/* sched.lock held. */
void sysmon_wake(void)
{
    if (atomic_load(&sched.sysmonwait) || atomic_load(&sched.sysmonlazy)) {
        atomic_store(&sched.sysmonwait, false);
        atomic_store(&sched.sysmonlazy, false);
        notewakeup(&sched.sysmonnote);
    }
}

/* sched.lock held on entry, not on return. True: sysmon_wake ended it. */
static bool nap(_Atomic bool *flag, int64_t ns)
{
    noteclear(&sched.sysmonnote);
    atomic_store(flag, true);
    unlock(&sched.lock);
    bool woken = notetsleep(&sched.sysmonnote, ns);
    lock(&sched.lock);
    atomic_store(flag, false);
    unlock(&sched.lock);
    return woken;
}

/* Under sched.lock: nothing to watch until somebody runs again? */
static bool may_sleep_deep(void)
{
    return atomic_load(&sched.gcwaiting) ||
           atomic_load(&sched.npidle) == procs_now();
}

/* False: it is no time for it. */
static bool sleep_deep(int64_t now)
{
    if (!may_sleep_deep())
        return false;
    lock(&sched.lock);
    /* Who armed a timer and then went idle did so before now. */
    int64_t next = timers_next();
    if (!may_sleep_deep() || (next != 0 && next <= now)) {
        unlock(&sched.lock);
        return false;
    }
    int64_t ns = SYSMON_DEEP_NS;
    if (options.gcperiod != 0 && !options.gcoff && options.gcperiod < ns)
        ns =
            options.gcperiod > SYSMON_MAX_NS ? options.gcperiod : SYSMON_MAX_NS;
    if (next != 0 && next - now < ns)
        ns = next - now;
    nap(&sched.sysmonwait, ns);
    return true;
}

void *sysmon_thread(void *vmp)
{
    struct m *mp = vmp;
    setg(mp->g0);
    prctl(PR_SET_NAME, "tarn-sysmon", 0, 0, 0);
    uint32_t idle = 0;
    int64_t delay = SYSMON_MIN_NS, slice_end = INT64_MAX;
    for (;;) {
        if (idle == 0)
            delay = SYSMON_MIN_NS;
        else if (idle > 50)
            delay *= 2;
        if (delay > SYSMON_MAX_NS)
            delay = SYSMON_MAX_NS;
        /* On time for the end of the next slice: a request that is late by a
         * nap makes whoever waits wait for two slices. */
        if (slice_end != INT64_MAX) {
            int64_t left = slice_end - nanotime();
            if (left < delay)
                delay = left > SYSMON_MIN_NS ? left : SYSMON_MIN_NS;
        }
        if (delay < SYSMON_LAZY_NS) {
            usleep_os((uint32_t)(delay / 1000));
        } else {
            lock(&sched.lock);
            if (nap(&sched.sysmonlazy, delay))
                idle = 0;
        }
        atomic_fetch_add_explicit(&sched.sysmon_rounds, 1,
                                  memory_order_relaxed);
        int64_t now = nanotime();
        int64_t most = sched_hooks.sysmon ? sched_hooks.sysmon(now) : INT64_MAX;
        if (sleep_deep(now)) {
            /* Look at slices all the same: there may be one stop after the other,
             * and each time we look. */
            idle = 0;
            now = nanotime();
        }
        /* Due, and every M is busy or asleep: somebody idle should look. */
        int64_t next = timers_next();
        if (next != 0 && next < now - 1000000 &&
            atomic_load(&sched.npidle) != 0 && !atomic_load(&sched.gcwaiting))
            startm(NULL, false);
        slice_end = INT64_MAX;
        bool preempted = false;
        if (retake(now, most, &slice_end, &preempted) != 0)
            idle = 0;
        else
            idle++;
        /* What runs long may run in a library just loaded. */
        if (preempted && sched_hooks.text_refresh)
            sched_hooks.text_refresh();
    }
    return NULL;
}

/* --- is everybody waiting for everybody? ----------------------------------------- */

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
        atomic_load(&sched.gcwaiting) || atomic_load(&sched.foreign_seen))
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
