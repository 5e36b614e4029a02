/* sched/signal.c - the signals of the process that concern the runtime: the one
 * for preemption, and the faults that are stack overflows. Everything else about
 * them belongs to the host program.
 *
 * Handlers run on the thread's alternate stack, on whatever thread the kernel
 * picks, at any instruction. They allocate nothing, take no lock, and leave errno
 * as it was.
 *
 * Invariants
 *  1. Handlers are installed once, and the actions before them kept for ever:
 *     previous[] does not change while a handler may read it, but for what
 *     SA_RESETHAND says.
 *  2. What the runtime does not use up goes on to the previous action, as if it
 *     had been called by the kernel: its mask, its kind of handler.
 *  3. procid is not 0 only while the thread has its alternate stack and the
 *     signal unblocked.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "base/vm.h"
#include "sched/sched.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tarn/preempt.h"

int preempt_signal;
static struct sigaction previous[NSIG];
OWN_DATA(previous)

/* --- the previous action ----------------------------------------------------- */

static void send_to_self(int sig)
{
    syscall(SYS_tgkill, getpid(), gettid_os(), sig);
}

/* The kernel's own answer, which a handler cannot give: put it back and let the
 * cause happen again. */
static void default_fault(int sig, const siginfo_t *info)
{
    struct sigaction dfl = {.sa_handler = SIG_DFL};
    sigaction(sig, &dfl, NULL);
    if (info->si_code <= 0) /* sent, not caused: it would not happen again */
        send_to_self(sig);
}

static void sigfwd(int sig, siginfo_t *info, void *ctx)
{
    struct sigaction *prev = &previous[sig];
    struct sigaction act = *prev;
    bool fault = sig != preempt_signal;
    if (!(act.sa_flags & SA_SIGINFO)) {
        if (act.sa_handler == SIG_IGN && (!fault || info->si_code <= 0))
            return;
        if (act.sa_handler == SIG_IGN || act.sa_handler == SIG_DFL) {
            if (fault)
                default_fault(sig, info);
            return;
        }
    }
    if (act.sa_flags & (int)SA_RESETHAND) {
        prev->sa_handler = SIG_DFL;
        prev->sa_flags &= ~SA_SIGINFO;
    }
    /* The interrupted code's mask comes back when we return. */
    ucontext_t *uc = ctx;
    sigset_t mask;
    sigorset(&mask, &uc->uc_sigmask, &act.sa_mask);
    if (!(act.sa_flags & SA_NODEFER))
        sigaddset(&mask, sig);
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
    if (act.sa_flags & SA_SIGINFO)
        act.sa_sigaction(sig, info, ctx);
    else
        act.sa_handler(sig);
}

/* --- faults --------------------------------------------------------------------- */

static void check_overflow(const siginfo_t *info)
{
    struct g *gp = getg();
    if (gp == NULL || info->si_code <= 0)
        return;
    /* The runtime may be at work on it, on g0. */
    if (gp->kind == STACK_SYSTEM)
        gp = atomic_load_explicit(&gp->m->curg, memory_order_relaxed);
    if (gp == NULL || gp->kind != STACK_FIXED)
        return;
    uintptr_t at = (uintptr_t)info->si_addr, lo = gp->stack.lo;
    if (at >= lo || at < lo - OS_PAGE)
        return;
    fatal("stack overflow: goroutine %llu has used up its fixed stack of %zu "
          "bytes (option fixedstack)",
          (unsigned long long)gp->goid, (size_t)(gp->stack.hi - lo));
}

/* --- handlers ------------------------------------------------------------------- */

/* True: the runtime waited for it. */
static bool sighandler(int sig, siginfo_t *info, void *ctx)
{
    if (sig == preempt_signal)
        return doSigPreempt(ctx);
    if (sig == SIGSEGV || sig == SIGBUS)
        check_overflow(info);
    return false;
}

static void sigtramp(int sig, siginfo_t *info, void *ctx)
{
    int saved = errno;
    sighandler(sig, info, ctx);
    /* The signal may be the program's as well: two that are pending are one. */
    sigfwd(sig, info, ctx);
    errno = saved;
}

bool tarn_signal(int sig, void *info, void *context)
{
    int saved = errno;
    bool ours = sched.initialised && info != NULL && context != NULL &&
                sighandler(sig, info, context);
    errno = saved;
    return ours;
}

static void setsig(int sig)
{
    struct sigaction sa = {.sa_sigaction = sigtramp,
                           .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};
    /* Faults are not held up: one in a handler must find its own. */
    if (sig == preempt_signal) {
        sigfillset(&sa.sa_mask);
        static const int faults[] = {SIGSEGV, SIGBUS,  SIGFPE,
                                     SIGILL,  SIGTRAP, SIGABRT};
        for (size_t i = 0; i < ARRAY_LEN(faults); i++)
            sigdelset(&sa.sa_mask, faults[i]);
    }
    /* First the old one, by itself: the new one may be called at once. */
    if (sigaction(sig, NULL, &previous[sig]) != 0 ||
        sigaction(sig, &sa, NULL) != 0)
        throw("sigaction(%d): %s", sig, strerror(errno));
}

void initsig(void)
{
    preempt_signal = (int)options.preemptsig;
    setsig(SIGSEGV);
    setsig(SIGBUS);
    if (preempt_signals_on())
        setsig(preempt_signal);
}

/* --- threads -------------------------------------------------------------------- */

void minit_signals(struct m *mp)
{
    sigset_t set;
    sigemptyset(&set);
    if (preempt_signals_on())
        sigaddset(&set, preempt_signal);
    pthread_sigmask(SIG_UNBLOCK, &set, &mp->host_mask);
    atomic_store(&mp->signalPending, 0);
    __atomic_store_n(&mp->procid, gettid_os(), __ATOMIC_RELEASE);
}

void unminit_signals(struct m *mp)
{
    __atomic_store_n(&mp->procid, 0, __ATOMIC_RELEASE);
    /* The rest of the mask is the host's, who may have changed it meanwhile. */
    if (preempt_signals_on() &&
        sigismember(&mp->host_mask, preempt_signal) == 1) {
        sigset_t set;
        sigemptyset(&set);
        sigaddset(&set, preempt_signal);
        pthread_sigmask(SIG_BLOCK, &set, NULL);
    }
}
