/* sched/preempt.c - stopping a goroutine between two instructions.
 *
 * preemptM sends the thread a signal. Its handler (signal.c calls doSigPreempt)
 * asks whether the goroutine is still wanted and whether it can be stopped where
 * it is; if so it edits the interrupted context so that the code "calls"
 * asyncPreempt (asm_amd64.S), which saves every register, switches to g0 and
 * comes to asyncPreempt2.
 *
 * Where the registers go. Flags and general registers: on the goroutine's stack,
 * below the red zone. The rest, up to 2.7 KiB with AVX-512: in a buffer that the
 * M holds ready (m->xspare), which becomes g->xregs until the goroutine goes on
 * and is scanned with its stack. Then it goes to a pool, from which asyncPreempt2
 * takes the M's next spare one.
 *
 * Invariants
 *  1. At most one signal of ours is under way to an M: signalPending. The handler
 *     raises preemptGen, then clears signalPending, whatever it decided.
 *  2. What is not known to be safe is not: the runtime, libc, PLT stubs, stacks
 *     that are not the goroutine's.
 *  3. asyncSafePoint: from the stop until just before the interrupted instruction
 *     goes on. The stack is scanned, never moved.
 *  4. The decision reads only the interrupted context and what its own thread
 *     owns, and tables that are published whole (stackscan/text.c).
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <cpuid.h>
#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/sysmem.h"
#include "sched/sched.h"
#include "tarn/preempt.h"

enum refusal {
#define REFUSAL_ENUM_(name, text) REFUSED_##name,
    TARN_ASYNC_REFUSALS(REFUSAL_ENUM_)
#undef REFUSAL_ENUM_
        REFUSALS,
    SAFE = REFUSALS
};

static struct {
    _Atomic uint64_t sent, coalesced, failed, received, foreign, unwanted,
        injected, restarted, refused[REFUSALS];
} count;

/* Below the interrupted sp: red zone, return address, flags, 15 registers and two
 * of them once more, alignment, mcall's seven words. Sanitizers' mcall is C. */
#define ASYNC_STACK (TARN_FIBERS ? (size_t)16 << 10 : (size_t)512)
#define RED_ZONE 128

/* ThreadSanitizer calls handlers late, with a copy of the context; and text that
 * sanitizers instrumented is not recognised: docs/sanitizers.md. */
#define SUPPORTED (!TARN_FIBERS)

static int32_t process; /* that has the runtime; a child of fork has not */

static void add(_Atomic uint64_t *c)
{
    atomic_fetch_add_explicit(c, 1, memory_order_relaxed);
}

/* --- options -------------------------------------------------------------------- */

/* What a program is likely to use for something else, or cannot handle, is none
 * for us. */
tarn_status preempt_check_options(const struct tarn_options *o)
{
    static const int good[] = {SIGURG, SIGUSR1, SIGUSR2,   SIGWINCH,
                               SIGIO,  SIGPWR,  SIGSTKFLT, SIGVTALRM};
    int sig = (int)o->preemptsig;
    if (sig >= SIGRTMIN && sig <= SIGRTMAX)
        return TARN_OK;
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        if (sig == good[i])
            return TARN_OK;
    set_error("option preemptsig: %d (SIG%s) cannot serve: use SIGURG (%d), "
              "SIGUSR1, SIGUSR2, SIGWINCH, SIGIO, SIGPWR, SIGSTKFLT, SIGVTALRM "
              "or one of %d..%d",
              sig, sigabbrev_np(sig) ? sigabbrev_np(sig) : "?", SIGURG,
              SIGRTMIN, SIGRTMAX);
    return TARN_EOPTION;
}

/* The watchdog wants to know where a thread is, also if it may not stop there. */
bool preempt_signals_on(void)
{
    return SUPPORTED && (options.asyncpreempt != 0 || options.stwwatch != 0);
}

/* --- buffers for registers ---------------------------------------------------- */

/* Of XSAVE; 0: the processor has only FXSAVE. Known to assembly. */
uint64_t tarn_xsave_mask __attribute__((visibility("hidden")));
/* Free buffers, linked through the word at XREGS_HEAD before each. Anybody
 * pushes; popping needs xpool_lock, so that what is on top stays so. */
void *_Atomic tarn_xpool __attribute__((visibility("hidden")));
static struct mutex xpool_lock = MUTEX_INIT(LEAF);
size_t xregs_size = 512;

#define XREGS_HEAD 64
#define XFEATURE_PKRU (UINT64_C(1) << 9)
#define XFEATURE_TILES (UINT64_C(3) << 17)
#define GET_XCOMP_PERM 0x1022

static void xregs_init(void)
{
    uint32_t a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE))
        return;
    uint32_t lo, hi;
    __asm__("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    /* Memory protection keys are the thread's, not the goroutine's. Tiles take
     * 8 KiB, and nobody has them who has not asked the kernel. */
    uint64_t mask = ((uint64_t)hi << 32 | lo) & ~XFEATURE_PKRU;
    uint64_t may = 0;
    if ((mask & XFEATURE_TILES) &&
        (syscall(SYS_arch_prctl, GET_XCOMP_PERM, &may) != 0 ||
         (may & XFEATURE_TILES) != XFEATURE_TILES))
        mask &= ~XFEATURE_TILES;
    size_t size = 512 + 64;
    for (uint32_t i = 2; i < 63; i++) {
        if (!(mask >> i & 1))
            continue;
        __cpuid_count(0xd, i, a, b, c, d);
        if (a + b > size)
            size = a + b;
    }
    tarn_xsave_mask = mask;
    xregs_size = ALIGN_UP(size, (size_t)64);
}

/* On g0. NULL: no memory. */
static void *xregs_get(void)
{
    lock(&xpool_lock);
    char *x = atomic_load(&tarn_xpool);
    while (x != NULL) {
        void *next = *(void **)(void *)(x - XREGS_HEAD);
        void *top = x;
        if (atomic_compare_exchange_strong(&tarn_xpool, &top, next))
            break;
        x = top;
    }
    unlock(&xpool_lock);
    if (x != NULL)
        return x;
    /* Zeroed: XRSTOR faults on reserved bits of the header that XSAVE leaves. */
    x = sys_alloc_aligned(XREGS_HEAD + xregs_size, 64);
    return x != NULL ? x + XREGS_HEAD : NULL;
}

void preempt_init(void)
{
    process = getpid();
    xregs_init();
}

void xspare_retry(struct m *mp)
{
    if (unlikely(mp->xspare == NULL) && preempt_signals_on())
        mp->xspare = xregs_get();
}

void minit_preempt(struct m *mp)
{
    __asm__ volatile("stmxcsr %0\n\tfnstcw %1"
                     : "=m"(mp->mxcsr), "=m"(mp->fpucw));
    xspare_retry(mp);
}

/* --- sending ---------------------------------------------------------------------- */

/* False: there is no such thread any more. */
static bool signalM(int32_t tid, int sig)
{
    int saved = errno;
    bool ok = syscall(SYS_tgkill, process, tid, sig) == 0;
    errno = saved;
    return ok;
}

/* A handler that has not been heard of for so long is not waited for. */
#define SIGNAL_LOST_NS 2000000

void preemptM(struct m *mp)
{
    if (!preempt_signals_on() || lose_request())
        return;
    uint32_t none = 0;
    int64_t now = nanotime();
    if (!atomic_compare_exchange_strong(&mp->signalPending, &none, 1)) {
        /* A signal may be lost, too: it is merged with one of the program's own
         * that is pending, and if that is of a timer that is deleted now, Linux
         * (6.13) takes both back. */
        int64_t sent = atomic_load(&mp->signal_sent);
        if (now - sent < SIGNAL_LOST_NS ||
            !atomic_compare_exchange_strong(&mp->signal_sent, &sent, now)) {
            add(&count.coalesced);
            return;
        }
    }
    atomic_store(&mp->signal_sent, now);
    delay_point("preemptM: pending");
    /* In this order: a thread that takes over the M clears pending before it
     * says who it is. Were the thread known first, the signal could go to one
     * that has left the M, and pending would stay. */
    int32_t tid = __atomic_load_n(&mp->procid, __ATOMIC_SEQ_CST);
    if (tid == 0) {
        atomic_store(&mp->signalPending, 0);
        return;
    }
    if (signalM(tid, preempt_signal)) {
        add(&count.sent);
        return;
    }
    add(&count.failed);
    atomic_store(&mp->signalPending, 0);
}

/* --- the handler's side ------------------------------------------------------- */

static bool wantAsyncPreempt(struct g *gp, struct p *pp)
{
    return (atomic_load_explicit(&gp->preempt, memory_order_relaxed) ||
            (pp != NULL &&
             atomic_load_explicit(&pp->preempt, memory_order_relaxed))) &&
           readgstatus(gp) == Grunning;
}

static enum refusal isAsyncSafePoint(struct m *mp, struct g *gp, uintptr_t pc,
                                     uintptr_t sp)
{
    if (!options.asyncpreempt)
        return REFUSED_switched_off;
    /* On g0, or between two goroutines. */
    if (gp == NULL || getg() != gp)
        return REFUSED_scheduler;
    struct p *pp = mp->p;
    if (pp == NULL)
        return REFUSED_no_processor;
    if (mp->locks != 0)
        return REFUSED_locks;
    if (!canPreemptM(mp))
        return REFUSED_p_status;
    if (gp->system)
        return REFUSED_system;
    if (gp->throwsplit)
        return REFUSED_stack_growth;
    /* An alternate stack, that of a library's coroutine, g0. */
    if (sp < gp->stack.lo + ASYNC_STACK || sp > gp->stack.hi)
        return REFUSED_stack_bounds;
    if (mp->xspare == NULL)
        return REFUSED_no_buffer;
    if (getpid() != process)
        return REFUSED_forked;
    enum text_kind kind =
        sched_hooks.text_kind ? sched_hooks.text_kind(pc) : TEXT_UNKNOWN;
    return kind == TEXT_MANAGED   ? SAFE
           : kind == TEXT_UNKNOWN ? REFUSED_unknown_text
                                  : REFUSED_unmanaged_text;
}

/* As if the instruction at resume had been preceded by a call of fn, made below
 * the red zone. The stack pointer need not be a multiple of 8: see asyncPreempt. */
static void pushCall(ucontext_t *uc, void (*fn)(void), uintptr_t resume)
{
    greg_t *r = uc->uc_mcontext.gregs;
    uintptr_t sp = (uintptr_t)r[REG_RSP] - RED_ZONE - sizeof(uintptr_t);
    memcpy((void *)sp, &resume, sizeof resume);
    r[REG_RSP] = (greg_t)sp;
    r[REG_RIP] = (greg_t)(uintptr_t)fn;
}

void asyncPreempt(void) __attribute__((visibility("hidden")));

bool doSigPreempt(ucontext_t *uc)
{
    struct g *self = getg();
    if (self == NULL) {
        add(&count.foreign);
        return false;
    }
    add(&count.received);
    struct m *mp = self->m;
    struct g *gp = atomic_load_explicit(&mp->curg, memory_order_relaxed);
    uintptr_t pc = (uintptr_t)uc->uc_mcontext.gregs[REG_RIP];
    uintptr_t sp = (uintptr_t)uc->uc_mcontext.gregs[REG_RSP];
    uint32_t why = 0;
    if (gp != NULL && !wantAsyncPreempt(gp, mp->p)) {
        add(&count.unwanted);
    } else {
        enum refusal r = isAsyncSafePoint(mp, gp, pc, sp);
        if (r == SAFE) {
            uintptr_t resume = unsafe_restart(pc);
            if (resume != pc)
                add(&count.restarted);
            add(&count.injected);
            pushCall(uc, asyncPreempt, resume);
        } else {
            add(&count.refused[r]);
            why = r + 1;
        }
    }
    atomic_store_explicit(&mp->signal_pc, pc, memory_order_relaxed);
    atomic_store_explicit(&mp->refused_why, why, memory_order_relaxed);
    bool ours = atomic_load(&mp->signalPending) != 0;
    atomic_fetch_add(&mp->preemptGen, 1);
    delay_point_signal(mp, "doSigPreempt: counted");
    atomic_store(&mp->signalPending, 0);
    return ours;
}

/* --- on g0 ------------------------------------------------------------------------ */

/* From asyncPreempt, whose goroutine has all its registers in memory. */
void asyncPreempt2(struct g *gp) __attribute__((visibility("hidden")));
void asyncPreempt2(struct g *gp)
{
    struct m *mp = gp->m;
    trace_event(TRACE_ASYNC, gp, mp->signal_pc, 0);
    gp->xregs = mp->xspare;
    atomic_store_explicit(&gp->asyncSafePoint, true, memory_order_relaxed);
    /* Without a new one this M stops nobody until it has slept (stopm), or goes on
     * with somebody stopped so, whose buffer it then has. */
    mp->xspare = xregs_get();
    if (atomic_load(&gp->preemptStop))
        preemptPark(gp);
    gopreempt_m(gp);
}

/* --- statistics ---------------------------------------------------------------- */

const char *async_refusal_text(uint32_t why)
{
#define REFUSAL_TEXT_(name, text) text,
    /* NOLINTNEXTLINE(bugprone-suspicious-missing-comma): each is one literal */
    static const char *const texts[] = {TARN_ASYNC_REFUSALS(REFUSAL_TEXT_)};
#undef REFUSAL_TEXT_
    return why - 1 < ARRAY_LEN(texts) ? texts[why - 1] : NULL;
}

tarn_status tarn_preempt_stats(struct tarn_preempt_stats *out)
{
    if (out == NULL || out->struct_size == 0 ||
        out->struct_size > sizeof(*out)) {
        set_error("tarn_preempt_stats: struct_size is %zu, not %zu",
                  out ? out->struct_size : 0, sizeof(*out));
        return TARN_EINVAL;
    }
    struct tarn_preempt_stats s = {.struct_size = out->struct_size};
#define COPY_(name) s.name = atomic_load(&count.name);
    COPY_(sent)
    COPY_(coalesced)
    COPY_(failed)
    COPY_(received)
    COPY_(foreign)
    COPY_(unwanted)
    COPY_(injected)
    COPY_(restarted)
#undef COPY_
#define COPY_(name, text)                                                      \
    s.refused_##name = atomic_load(&count.refused[REFUSED_##name]);
    TARN_ASYNC_REFUSALS(COPY_)
#undef COPY_
    memcpy(out, &s, out->struct_size);
    return TARN_OK;
}

/* For managed code of tests. */
struct m *acquirem_call(void);
struct m *acquirem_call(void)
{
    return acquirem();
}
