/* tests/stepper.h - runs code one instruction at a time and interrupts it inside
 * a restartable sequence, as the runtime's signal handler would.
 *
 *   step_prepare(interrupt, at, restart);
 *   STEP_ON(); ... STEP_OFF();
 *
 * At the at-th instruction that is inside a sequence, but not its first, calls
 * interrupt() on the signal stack and goes on at the start of the sequence;
 * where it was if restart is false. Between ON and OFF each instruction of the
 * thread is a signal: keep it short, and run one goroutine only. */
#ifndef TARN_TESTS_STEPPER_H_
#define TARN_TESTS_STEPPER_H_

#include <signal.h>
#include <ucontext.h>

#include "harness.h"
#include "sched/sched.h"

#define STEP_TRAP_FLAG 0x100

/* What runs on the signal stack must not ask for a goroutine's. */
#define ON_SIGNAL_STACK __attribute__((noinline, no_split_stack))

static struct {
    void (*interrupt)(void);
    int at;
    bool restart;
    bool stepping;
    int inside;      /* instructions inside sequences seen, not first ones */
    int interrupted; /* 0 or 1 */
    long steps;
    uintptr_t lo, hi; /* the last sequence it was in */
} step;

ON_SIGNAL_STACK static void step_trap(int sig, siginfo_t *si, void *vuc)
{
    greg_t *r = ((ucontext_t *)vuc)->uc_mcontext.gregs;
    uintptr_t pc = (uintptr_t)r[REG_RIP], lo, hi;
    (void)sig;
    if (si->si_code != TRAP_TRACE) { /* int3 */
        step.stepping = !step.stepping;
        if (step.stepping)
            r[REG_EFL] |= STEP_TRAP_FLAG;
        else
            r[REG_EFL] &= ~STEP_TRAP_FLAG;
        return;
    }
    step.steps++;
    if (unsafe_range_of(pc, &lo, &hi)) {
        step.lo = lo;
        step.hi = hi;
    }
    uintptr_t back = unsafe_restart(pc);
    if (back == pc || ++step.inside != step.at)
        return;
    step.interrupted++;
    r[REG_EFL] &= ~STEP_TRAP_FLAG; /* that was it */
    if (step.interrupt != NULL)
        step.interrupt();
    if (step.restart)
        r[REG_RIP] = (greg_t)back;
}

static void step_prepare(void (*interrupt)(void), int at, bool restart)
{
    static bool installed;
    if (!installed) {
        struct sigaction sa;
        memset(&sa, 0, sizeof sa);
        sa.sa_sigaction = step_trap;
        sa.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
        CHECK(sigaction(SIGTRAP, &sa, NULL) == 0);
        installed = true;
    }
    memset(&step, 0, sizeof step);
    step.interrupt = interrupt;
    step.at = at;
    step.restart = restart;
}

#define STEP_ON() __asm__ volatile("int3" ::: "memory")
#define STEP_OFF() __asm__ volatile("int3" ::: "memory")

#endif
