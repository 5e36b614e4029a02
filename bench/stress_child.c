/* bench/stress_child.c - one round: a process with one runtime. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/options.h"
#include "bench/stress.h"
#include "gc/gc.h"

struct stress_plan plan;
struct stress_report *report;
bool stress_async, stress_checked, stress_copying;

/* --- failures ------------------------------------------------------------------ */

void stress_fail(const char *what, const char *why, uint64_t id, const void *p)
{
    struct objinfo o;
    const char *state = "points nowhere";
    if (heap.lo != 0 && heap_contains((uintptr_t)p))
        state = heap_find((uintptr_t)p, &o) ? "points to an object"
                                            : "points to free memory";
    snprintf(report->failure, sizeof report->failure,
             "%s: number %llu: %s (%p %s)", what, (unsigned long long)id, why,
             p, state);
    /* Names the goroutine, and prints the rings of events. */
    fatal(PROGRAM ": %s", report->failure);
}

/* Faults that are not the runtime's, and the parent's patience at its end. */
static void on_signal(int sig, siginfo_t *info, void *context)
{
    static _Atomic bool dying;
    ucontext_t *uc = context;
    if (atomic_exchange(&dying, true))
        return;
    struct g *gp = getg();
    if (gp != NULL && gp->kind == STACK_SYSTEM)
        gp = atomic_load(&gp->m->curg);
    if (sig == SIGQUIT)
        snprintf(report->failure, sizeof report->failure,
                 "it hangs: stopped by the parent");
    else
        snprintf(report->failure, sizeof report->failure,
                 "signal %d (%s) at pc %#llx, address %p, sp %#llx, goroutine "
                 "%llu",
                 sig, strsignal(sig),
                 (unsigned long long)uc->uc_mcontext.gregs[REG_RIP],
                 info->si_addr,
                 (unsigned long long)uc->uc_mcontext.gregs[REG_RSP],
                 (unsigned long long)(gp != NULL ? gp->goid : 0));
    static char line[600];
    int n = snprintf(line, sizeof line, PROGRAM ": %s\n", report->failure);
    if (write(STDERR_FILENO, line, (size_t)n) < 0)
        n = 0; /* there is nobody to tell */
    trace_print();
    if (sig == SIGQUIT)
        goroutine_report();
    signal(sig, SIG_DFL);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, sig);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    raise(sig);
}

static void install_handlers(void)
{
    static const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGQUIT};
    struct sigaction sa = {.sa_sigaction = on_signal,
                           .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigfillset(&sa.sa_mask);
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++)
        sigaction(signals[i], &sa, NULL);
}

/* --- the end of a round ---------------------------------------------------------- */

static void collect(void)
{
    if (tarn_gc() != TARN_OK)
        stress_fail("tarn_gc", tarn_last_error(), 0, NULL);
}

static void stop_world(void)
{
    if (tarn_world_stop() != TARN_OK)
        stress_fail("tarn_world_stop", tarn_last_error(), 0, NULL);
}

/* Every span, list and counter of the heap; nothing sweeps meanwhile. */
static void verify_heap(void)
{
    for (int i = 0; i < 100; i++) {
        collect();
        stop_world();
        bool quiet = atomic_load(&gc.phase) == GC_OFF &&
                     (atomic_load(&heap.sweepers) & SWEEP_DRAINED) != 0;
        if (quiet)
            heap_verify();
        tarn_world_start();
        if (quiet)
            return;
    }
}

static void last_checks(void)
{
    graph_check();
    /* Nobody else runs: what the mark finds and what a second, simple one finds
     * must agree, whatever the mode was. */
    stop_world();
    options.checkmark = 1;
    tarn_world_start();
    collect();
    graph_check();
    verify_heap();
}

static int64_t deadline;
uint32_t stress_end;

static void untimely_end(void)
{
    volatile uintptr_t address = 8; /* a compiler would see a constant */
    if (stress_end == END_CRASH)
        *(volatile int *)address = 1;
    if (stress_end == END_KILL)
        raise(SIGKILL);
    if (stress_end == END_HANG)
        tarn_waitgroup_wait(&stress_workers);
}

static void round_main(void *unused)
{
    (void)unused;
    behave_init();
    tarn_waitgroup_add(&stress_children, 1);
    if (tarn_go(collector_main, NULL) != TARN_OK)
        stress_fail("tarn_go", tarn_last_error(), 0, NULL);
    tarn_waitgroup_add(&stress_workers, plan.goroutines);
    for (int64_t i = 0; i < plan.goroutines; i++)
        if (tarn_go(worker_main, (void *)(uintptr_t)i) != TARN_OK)
            stress_fail("tarn_go", tarn_last_error(), (uint64_t)i, NULL);
    while (tarn_now() < deadline)
        tarn_sleep(2000000);
    untimely_end();
    atomic_store(&stress_stop, true);
    tarn_waitgroup_wait(&stress_workers);
    atomic_store(&collector_stop, true);
    tarn_waitgroup_wait(&stress_children);
    last_checks();
}

void stress_child(void)
{
    struct tarn_options o;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    install_handlers();
    tarn_options_init(&o);
    o.maxprocs = plan.procs;
    o.seed = (int64_t)(plan.seed & INT64_MAX) | 1;
    o.trace = 1;
    if (tarn_options_parse(&o, plan.tarn) != TARN_OK) {
        fprintf(stderr, PROGRAM ": %s\n", tarn_last_error());
        exit(1);
    }
    stress_checked = !TARN_FIBERS;
    stress_copying = !TARN_FIBERS && o.stacks != TARN_STACKS_FIXED;
    stress_async = !TARN_FIBERS && o.asyncpreempt != 0;
    breakage_apply(plan.breakage);
    deadline = tarn_now() + (int64_t)(plan.seconds * 1e9);
    if (tarn_main(&o, round_main, NULL) != TARN_OK) {
        fprintf(stderr, PROGRAM ": tarn_main: %s\n", tarn_last_error());
        exit(1);
    }
    exit(0);
}
