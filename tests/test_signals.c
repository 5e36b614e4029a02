/* Signals: who gets which, what is refused and why, and what the host program
 * keeps of its own. The functions asked about are called as they are by the
 * handler, with contexts made up here; this file's own text is not managed. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <sys/syscall.h>
#include <ucontext.h>

#include "base/options.h"
#include "gcsuite.h"
#include "pest.h"
#include "stackscan/stackscan.h"

#define NI __attribute__((noinline))

void asyncPreempt(void);

static void fresh(struct tarn_options *o, const char *text)
{
    tarn_options_init(o);
    o->maxprocs = 2;
    CHECK_ST(tarn_options_parse(o, text), TARN_OK);
}

/* --- what isAsyncSafePoint refuses --------------------------------------------- */

/* Generated code: "jmp self", which never runs. */
static uint8_t *code;

static void make_code(void)
{
    code = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                -1, 0);
    CHECK(code != MAP_FAILED);
    for (size_t i = 0; i < 4096; i += 2) {
        code[i] = 0xeb;
        code[i + 1] = 0xfe;
    }
    CHECK_EQ(mprotect(code, 4096, PROT_READ | PROT_EXEC), 0);
}

/* A signal at pc with stack pointer sp; the context as the handler leaves it. */
NI static ucontext_t signal_at(const void *pc, uintptr_t sp, bool want)
{
    static ucontext_t uc;
    struct m *mp = acquirem();
    uint32_t gen = atomic_load(&mp->preemptGen);
    struct g *gp = atomic_load(&mp->curg);
    memset(&uc, 0, sizeof uc);
    uc.uc_mcontext.gregs[REG_RIP] = (greg_t)(uintptr_t)pc;
    uc.uc_mcontext.gregs[REG_RSP] = (greg_t)sp;
    atomic_store(&mp->signalPending, 1);
    atomic_store(&gp->preempt, want);
    if (!want && mp->p)
        atomic_store(&((struct p *)mp->p)->preempt, false);
    mp->locks--;
    CHECK(doSigPreempt(&uc));
    mp->locks++;
    atomic_store(&gp->preempt, false);
    /* Whatever it decided. */
    CHECK_EQ(atomic_load(&mp->preemptGen), gen + 1);
    CHECK_EQ(atomic_load(&mp->signalPending), 0);
    releasem(mp);
    return uc;
}

static uintptr_t here(void)
{
    return getg()->stack.hi - 8192;
}

static void expect_refused(const void *pc, uintptr_t sp, size_t counter)
{
    struct tarn_preempt_stats a = preempt_stats(), b;
    ucontext_t uc = signal_at(pc, sp, true);
    b = preempt_stats();
    CHECK_EQ(uc.uc_mcontext.gregs[REG_RIP], (greg_t)(uintptr_t)pc);
    CHECK_EQ(uc.uc_mcontext.gregs[REG_RSP], (greg_t)sp);
    CHECK_EQ(*(uint64_t *)((char *)&b + counter),
             *(uint64_t *)((char *)&a + counter) + 1);
    CHECK_EQ(b.injected, a.injected);
}
#define REFUSED(pc, sp, why)                                                   \
    expect_refused(pc, sp, offsetof(struct tarn_preempt_stats, refused_##why))

static void test_pushCall(void)
{
    uintptr_t sp = here();
    struct tarn_preempt_stats a = preempt_stats();
    ucontext_t uc = signal_at(code + 10, sp, true);
    CHECK_EQ(uc.uc_mcontext.gregs[REG_RIP], (greg_t)(uintptr_t)asyncPreempt);
    CHECK_EQ(uc.uc_mcontext.gregs[REG_RSP], (greg_t)(sp - 136));
    CHECK_EQ(*(uintptr_t *)(sp - 136), (uintptr_t)code + 10);
    CHECK_EQ(preempt_stats().injected, a.injected + 1);
}

static void test_wantAsyncPreempt(void)
{
    struct tarn_preempt_stats a = preempt_stats();
    ucontext_t uc = signal_at(code, here(), false);
    CHECK_EQ(uc.uc_mcontext.gregs[REG_RIP], (greg_t)(uintptr_t)code);
    CHECK_EQ(preempt_stats().unwanted, a.unwanted + 1);
    /* It is not just running: in a native call, on its way to one. Held, lest the
     * monitor takes the P. */
    struct g *gp = getg();
    atomic_store(&gp->atomicstatus, Gsyscall | Gscan);
    uc = signal_at(code, here(), true);
    atomic_store(&gp->atomicstatus, Grunning);
    CHECK_EQ(uc.uc_mcontext.gregs[REG_RIP], (greg_t)(uintptr_t)code);
    CHECK_EQ(preempt_stats().unwanted, a.unwanted + 2);
    /* The P's request counts as well. */
    struct m *mp = acquirem();
    struct p *pp = mp->p;
    uc = (ucontext_t){0};
    uc.uc_mcontext.gregs[REG_RIP] = (greg_t)(uintptr_t)code;
    uc.uc_mcontext.gregs[REG_RSP] = (greg_t)here();
    atomic_store(&gp->preempt, false);
    atomic_store(&pp->preempt, true);
    mp->locks--;
    doSigPreempt(&uc);
    mp->locks++;
    atomic_store(&pp->preempt, false);
    CHECK_EQ(uc.uc_mcontext.gregs[REG_RIP], (greg_t)(uintptr_t)asyncPreempt);
    releasem(mp);
}

static void on_g0(void *sp)
{
    REFUSED(code, (uintptr_t)sp, scheduler);
}

static void test_isAsyncSafePoint(void)
{
    struct g *gp = getg();
    uintptr_t sp = here();
    struct m *mp = acquirem();
    struct p *pp = mp->p;
    REFUSED(code, sp, locks);
    mp->locks--; /* nothing below gives the CPU away */
    atomic_store(&pp->status, Pidle);
    REFUSED(code, sp, p_status);
    atomic_store(&pp->status, Prunning);
    mp->p = NULL;
    REFUSED(code, sp, no_processor);
    mp->p = pp;
    gp->system = true;
    REFUSED(code, sp, system);
    gp->system = false;
    gp->throwsplit = true;
    REFUSED(code, sp, stack_growth);
    gp->throwsplit = false;
    REFUSED(code, gp->stack.lo + 300, stack_bounds);
    REFUSED(code, gp->stack.hi + 64, stack_bounds);
    REFUSED(code, gp->stack.lo - 64, stack_bounds);
    void *spare = mp->xspare;
    mp->xspare = NULL;
    REFUSED(code, sp, no_buffer);
    mp->xspare = spare;
    systemstack(on_g0, (void *)sp);
    /* The runtime, libc, a stub of the loader's, this file. */
    REFUSED((const char *)(uintptr_t)schedule + 20, sp, unmanaged_text);
    REFUSED((const char *)(uintptr_t)linkcheck_probe + 20, sp, unmanaged_text);
    REFUSED((const char *)(uintptr_t)memcpy, sp, unmanaged_text);
    REFUSED((const char *)(uintptr_t)malloc + 8, sp, unmanaged_text);
    REFUSED((const char *)(uintptr_t)here, sp, unmanaged_text);
    REFUSED((const void *)sp, sp, unknown_text);
    REFUSED((const void *)8, sp, unknown_text);
    mp->locks++;
    releasem(mp);
}

/* In the child of a fork there are no other threads. fork(3) makes its thread one
 * that runs no goroutine; the system call alone does not. */
static void test_forked(void)
{
    pid_t pid = (pid_t)syscall(SYS_fork);
    CHECK(pid >= 0);
    if (pid == 0) {
        REFUSED(code, here(), forked);
        _exit(7);
    }
    int status;
    while (waitpid(pid, &status, 0) < 0)
        CHECK_EQ(errno, EINTR);
    CHECK(WIFEXITED(status));
    CHECK_EQ(WEXITSTATUS(status), 7);
}

static void test_text_ranges(void)
{
    uintptr_t sp = here();
    const uint8_t *lo = code + 2048, *hi = code + 2064;
    REFUSED(lo, sp, unknown_text);
    CHECK_ST(tarn_text_register(lo, hi), TARN_OK);
    /* Half open. */
    REFUSED(lo - 1, sp, unknown_text);
    REFUSED(hi, sp, unknown_text);
    CHECK_EQ(text_kind((uintptr_t)lo), TEXT_MANAGED);
    CHECK_EQ(text_kind((uintptr_t)hi - 1), TEXT_MANAGED);
    CHECK_ST(tarn_text_register(hi - 1, hi + 1), TARN_EINVAL);
    CHECK_STR(tarn_last_error(), "overlaps a registered range");
    CHECK_ST(tarn_text_register(lo, hi), TARN_EINVAL);
    CHECK_ST(tarn_text_register(lo - 1, hi + 1), TARN_EINVAL);
    CHECK_ST(tarn_text_register(hi, hi + 8), TARN_OK);
    CHECK_ST(tarn_text_register(lo - 8, lo), TARN_OK);
    CHECK_ST(tarn_text_register(lo, lo), TARN_EINVAL);
    CHECK_STR(tarn_last_error(), "is no range");
    CHECK_ST(tarn_text_register(hi, lo), TARN_EINVAL);
    CHECK_ST(tarn_text_register(NULL, hi), TARN_EINVAL);
    CHECK_ST(tarn_text_unregister(lo, hi - 1), TARN_EINVAL);
    CHECK_STR(tarn_last_error(), "no range");
    CHECK_ST(tarn_text_unregister(lo, hi), TARN_OK);
    CHECK_EQ(text_kind((uintptr_t)lo), TEXT_UNKNOWN);
    CHECK_EQ(text_kind((uintptr_t)hi), TEXT_MANAGED);
    CHECK_ST(tarn_text_unregister(lo, hi), TARN_EINVAL);
    CHECK_ST(tarn_text_unregister(hi, hi + 8), TARN_OK);
    CHECK_ST(tarn_text_unregister(lo - 8, lo), TARN_OK);
}

static void test_canPreemptM(void)
{
    struct m *mp = acquirem();
    struct p *pp = mp->p;
    CHECK(!canPreemptM(mp));
    mp->locks--;
    CHECK(canPreemptM(mp));
    atomic_store(&pp->status, Pgcstop);
    CHECK(!canPreemptM(mp));
    atomic_store(&pp->status, Prunning);
    mp->p = NULL;
    CHECK(!canPreemptM(mp));
    mp->p = pp;
    mp->locks++;
    releasem(mp);
}

static void context_body(void)
{
    make_code();
    CHECK_ST(tarn_text_register(code, code + 1024), TARN_OK);
    RUN(test_pushCall);
    RUN(test_wantAsyncPreempt);
    RUN(test_isAsyncSafePoint);
    RUN(test_forked);
    RUN(test_text_ranges);
    RUN(test_canPreemptM);
    CHECK_ST(tarn_text_unregister(code, code + 1024), TARN_OK);
}

/* --- generated code that runs --------------------------------------------------- */

static tarn_waitgroup wg;

/* Counts at (rdi) until (rsi) is not 0: no calls, nothing that a linker knows. */
static const uint8_t counting[] = {
    0x48, 0xff, 0x07, /* 1: incq (%rdi) */
    0x83, 0x3e, 0x00, /*    cmpl $0, (%rsi) */
    0x74, 0xf8,       /*    je 1b */
    0xc3,             /*    ret */
};
static volatile uint64_t counted;
static volatile int enough;
static uint8_t *jit;

static void run_jit(void *unused)
{
    (void)unused;
    ((void (*)(volatile uint64_t *, volatile int *))(uintptr_t)jit)(&counted,
                                                                    &enough);
    tarn_waitgroup_done(&wg);
}

static void test_generated_code(void)
{
    jit = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
               -1, 0);
    CHECK(jit != MAP_FAILED);
    memcpy(jit, counting, sizeof counting);
    CHECK_EQ(mprotect(jit, 4096, PROT_READ | PROT_EXEC), 0);
    CHECK_ST(tarn_text_register(jit, jit + sizeof counting), TARN_OK);
    enough = 0;
    for (uint32_t i = 0; i < nprocs + 1; i++) {
        tarn_waitgroup_add(&wg, 1);
        go(run_jit, NULL);
    }
    for (int i = 0; i < 5; i++) {
        /* The other Ps may have no thread yet: soon there is no idle one. */
        uint64_t n = preempt_stats().injected;
        do {
            collect();
            tarn_yield();
        } while (preempt_stats().injected == n);
    }
    CHECK_GT(counted, 0);
    enough = 1;
    tarn_waitgroup_wait(&wg);
    CHECK_ST(tarn_text_unregister(jit, jit + sizeof counting), TARN_OK);
    munmap(jit, 4096);
}

/* Ranges come and go while handlers look them up. */
static void churn(void *arg)
{
    uintptr_t lo = 4096 + (uintptr_t)arg * 4096;
    for (int i = 0; i < SUITE_REPEAT(500); i++) {
        CHECK_ST(tarn_text_register((void *)lo, (void *)(lo + 64)), TARN_OK);
        CHECK_EQ(text_kind(lo + 5), TEXT_MANAGED);
        CHECK_ST(tarn_text_unregister((void *)lo, (void *)(lo + 64)), TARN_OK);
        CHECK_EQ(text_kind(lo + 5), TEXT_UNKNOWN);
        tarn_poll();
    }
    tarn_waitgroup_done(&wg);
}

static void test_text_churn(void)
{
    pest_start(PEST_ALL);
    for (uintptr_t i = 0; i < 4; i++) {
        tarn_waitgroup_add(&wg, 1);
        go(churn, (void *)i);
    }
    tarn_waitgroup_wait(&wg);
    pest_stop();
}

/* --- sending -------------------------------------------------------------------- */

/* Requests from many threads to one: never more than one is under way, and the
 * last one is not lost. */
static volatile int spin_end;
static struct m *_Atomic target;

static void spinner(void *unused)
{
    (void)unused;
    /* Stays on its M: what it runs cannot be stopped, nor does it call. */
    atomic_store(&target, getg()->m);
    while (!spin_end)
        ;
    tarn_waitgroup_done(&wg);
}

static void *sender(void *vm)
{
    struct m *me = vm;
    setg(me->g0);
    struct m *mp = atomic_load(&target);
    for (int i = 0; i < SUITE_REPEAT(20000); i++) {
        preemptM(mp);
        CHECK_LE(atomic_load(&mp->signalPending), 1);
    }
    setg(NULL);
    return NULL;
}

static void test_preemptM(void)
{
    enum { SENDERS = 8 };
    static struct m ms[SENDERS];
    pthread_t t[SENDERS];
    spin_end = 0;
    atomic_store(&target, NULL);
    tarn_waitgroup_add(&wg, 1);
    go(spinner, NULL);
    while (atomic_load(&target) == NULL)
        tarn_yield();
    struct m *mp = atomic_load(&target);
    struct tarn_preempt_stats a = preempt_stats(), b;
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    for (int i = 0; i < SENDERS; i++) {
        m_init(&ms[i]);
        CHECK_EQ(pthread_create(&t[i], NULL, sender, &ms[i]), 0);
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    for (int i = 0; i < SENDERS; i++)
        pthread_join(t[i], NULL);
    while (atomic_load(&mp->signalPending) != 0)
        osyield();
    uint32_t gen = atomic_load(&mp->preemptGen);
    while (atomic_load(&mp->preemptGen) == gen) {
        preemptM(mp); /* again where droppreempt loses it */
        osyield();
    }
    b = preempt_stats();
    CHECK_GT(b.sent, a.sent);
    CHECK_GE(b.sent - a.sent + b.coalesced - a.coalesced, 1);
    CHECK_EQ(b.failed, a.failed);
    spin_end = 1;
    tarn_waitgroup_wait(&wg);
}

/* A thread that is gone: the kernel says so, and the next one can be asked. */
static int32_t gone_tid;
static void *gone(void *unused)
{
    gone_tid = gettid_os();
    return unused;
}

static void test_signalM(void)
{
    static struct m mp;
    pthread_t t;
    CHECK_EQ(pthread_create(&t, NULL, gone, NULL), 0);
    pthread_join(t, NULL);
    /* The kernel may take its time to forget it. */
    while (syscall(SYS_tgkill, getpid(), gone_tid, 0) == 0)
        osyield();
    mp.procid = gone_tid;
    uint64_t failed = preempt_stats().failed;
    for (int i = 0; i < 50 && preempt_stats().failed == failed; i++)
        preemptM(&mp);
    CHECK_GT(preempt_stats().failed, failed);
    CHECK_EQ(atomic_load(&mp.signalPending), 0);
    /* One that has not begun is not asked. */
    mp.procid = 0;
    uint64_t sent = preempt_stats().sent;
    failed = preempt_stats().failed;
    atomic_store(&mp.signalPending, 0);
    preemptM(&mp);
    CHECK_EQ(atomic_load(&mp.signalPending), 0);
    CHECK_EQ(preempt_stats().failed, failed);
    (void)sent;
}

static void test_preempt_stats(void)
{
    struct tarn_preempt_stats s = {.struct_size = 0};
    CHECK_ST(tarn_preempt_stats(NULL), TARN_EINVAL);
    CHECK_ST(tarn_preempt_stats(&s), TARN_EINVAL);
    s.struct_size = sizeof s + 8;
    CHECK_ST(tarn_preempt_stats(&s), TARN_EINVAL);
    CHECK_STR(tarn_last_error(), "struct_size");
    s.struct_size = 16;
    s.coalesced = 12345;
    CHECK_ST(tarn_preempt_stats(&s), TARN_OK);
    CHECK_EQ(s.coalesced, 12345);
}

static void sending_body(void)
{
    if (nprocs > 1) /* the one that is asked never gives its P away */
        RUN(test_preemptM);
    RUN(test_signalM);
    RUN(test_preempt_stats);
    RUN(test_generated_code);
    RUN(test_text_churn);
}

/* --- the host's own signals ---------------------------------------------------- */

static _Atomic int host_calls;
static siginfo_t host_info;
static bool host_on_altstack;

static void host_handler(int sig, siginfo_t *info, void *ctx)
{
    (void)ctx;
    if (sig == SIGSEGV) {
        printf("host: SIGSEGV at %p\n", info->si_addr);
        _exit(9);
    }
    host_info = *info;
    stack_t ss;
    host_on_altstack =
        sigaltstack(NULL, &ss) == 0 && (ss.ss_flags & SS_ONSTACK);
    errno = 77; /* whoever was interrupted must not see it */
    atomic_fetch_add(&host_calls, 1);
}

static void host_install(int sig, int flags)
{
    struct sigaction sa = {.sa_sigaction = host_handler,
                           .sa_flags = SA_SIGINFO | SA_ONSTACK | flags};
    CHECK_EQ(sigaction(sig, &sa, NULL), 0);
}

/* The handler that was there before is called for each signal that the program
 * sends itself, also from managed threads. */
static void chained(void *unused)
{
    (void)unused;
    for (int i = 0; i < 10; i++) {
        int before = atomic_load(&host_calls);
        errno = 5;
        CHECK_EQ(raise(preempt_signal), 0);
        CHECK_EQ(errno, 5);
        /* The runtime's own signals come here too. */
        CHECK_GT(atomic_load(&host_calls), before);
        CHECK_EQ(host_info.si_signo, preempt_signal);
        CHECK_EQ(host_info.si_pid, getpid());
        CHECK(host_on_altstack);
    }
    pest_start(PEST_ALL);
    for (int i = 0; i < 100; i++) {
        int before = atomic_load(&host_calls);
        union sigval v = {.sival_int = i};
        sigqueue(getpid(), preempt_signal, v);
        while (atomic_load(&host_calls) == before)
            tarn_yield();
    }
    pest_stop();
}

static const char *child_options = "";
static tarn_fn child_fn;
static int child_flags = -1;
static int child_signal = SIGURG;

static void child(void)
{
    struct tarn_options o;
    alarm(SUITE_WATCHDOG_SECONDS);
    fresh(&o, child_options);
    if (child_flags != -1)
        host_install(child_signal, child_flags);
    CHECK_ST(tarn_main(&o, child_fn, NULL), TARN_OK);
    printf("came back\n");
    fflush(NULL);
    _exit(0);
}

static char out[65536];

static int in_child(tarn_fn fn, const char *opts, int sig, int flags)
{
    child_fn = fn;
    child_options = opts;
    child_signal = sig;
    child_flags = flags;
    return harness_child(child, NULL, out, sizeof out);
}

static void check_ok(int status)
{
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        fprintf(stderr, "status %#x, output:\n%s\n", status, out);
    CHECK(WIFEXITED(status));
    CHECK_EQ(WEXITSTATUS(status), 0);
}

static void test_sighandler_chains(void)
{
    check_ok(in_child(chained, "", SIGURG, 0));
    check_ok(in_child(chained, "", SIGURG, SA_NODEFER));
    check_ok(in_child(chained, "preemptsig=12", SIGUSR2, 0));
    check_ok(in_child(chained, "preemptsig=40", 40, 0));
}

/* A host handler over ours, that gives us what it gets. */
static _Atomic int passed_on, ours;
static void over(int sig, siginfo_t *info, void *ctx)
{
    atomic_fetch_add(&passed_on, 1);
    if (tarn_signal(sig, info, ctx))
        atomic_fetch_add(&ours, 1);
}

static void with_handler_over(void *unused)
{
    (void)unused;
    struct sigaction sa = {.sa_sigaction = over,
                           .sa_flags = SA_SIGINFO | SA_ONSTACK};
    CHECK_EQ(sigaction(SIGURG, &sa, NULL), 0);
    test_generated_code();
    CHECK_GT(atomic_load(&passed_on), 0);
    CHECK_GT(atomic_load(&ours), 0);
    int n = atomic_load(&ours);
    (void)n;
    CHECK(!tarn_signal(SIGURG, NULL, NULL));
    printf("passed on\n");
}

static void test_tarn_signal(void)
{
    check_ok(in_child(with_handler_over, "", 0, -1));
    CHECK_STR(out, "passed on");
}

/* SA_RESETHAND: once, then the default, which is to ignore. */
static void reset(void *unused)
{
    (void)unused;
    raise(SIGURG);
    raise(SIGURG);
    CHECK_EQ(atomic_load(&host_calls), 1);
}

static void test_initsig(void)
{
    check_ok(in_child(reset, "", SIGURG, (int)SA_RESETHAND));
}

static void masks(void *unused)
{
    (void)unused;
    sigset_t now;
    CHECK_EQ(pthread_sigmask(SIG_SETMASK, NULL, &now), 0);
    CHECK(!sigismember(&now, SIGURG));
    struct sigaction sa;
    CHECK_EQ(sigaction(SIGURG, NULL, &sa), 0);
    CHECK((sa.sa_flags & (SA_SIGINFO | SA_ONSTACK | SA_RESTART)) ==
          (SA_SIGINFO | SA_ONSTACK | SA_RESTART));
    CHECK(sigismember(&sa.sa_mask, SIGUSR1));
    CHECK(!sigismember(&sa.sa_mask, SIGSEGV));
}

/* The thread of tarn_main has its mask back afterwards. */
static void mask_child(void)
{
    struct tarn_options o;
    sigset_t set, now;
    sigemptyset(&set);
    sigaddset(&set, SIGURG);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    fresh(&o, "");
    for (int i = 0; i < 2; i++) {
        CHECK_ST(tarn_main(&o, masks, NULL), TARN_OK);
        pthread_sigmask(SIG_SETMASK, NULL, &now);
        CHECK(sigismember(&now, SIGURG));
    }
}

static void test_setsig(void)
{
    check_ok(harness_child(mask_child, NULL, out, sizeof out));
}

/* --- options ---------------------------------------------------------------------- */

static void nothing(void *unused)
{
    (void)unused;
}

static void bad_options_child(void)
{
    static const int bad[] = {
        SIGKILL, SIGSTOP, SIGSEGV, SIGBUS,  SIGFPE,  SIGILL,  SIGABRT, SIGTERM,
        SIGINT,  SIGCHLD, SIGCONT, SIGTRAP, SIGPROF, SIGALRM, 32,      33};
    struct tarn_options o;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        fresh(&o, "");
        o.preemptsig = bad[i];
        CHECK_ST(tarn_main(&o, nothing, NULL), TARN_EOPTION);
        CHECK_STR(tarn_last_error(), "option preemptsig: ");
        CHECK_STR(tarn_last_error(), "cannot serve");
    }
    static const char *const texts[] = {
        "preemptsig=0",   "preemptsig=65", "preemptsig=SIGURG",
        "asyncpreempt=2", "stwwatch=-1",   "stwwatch=10m",
        "stwwatch=ms",    "stwwatch=2h",   "stwwatch=99999999999s",
    };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        CHECK_ST(tarn_options_parse(&o, texts[i]), TARN_EOPTION);
    /* And then a good one. */
    fresh(&o, "preemptsig=10");
    CHECK_ST(tarn_main(&o, nothing, NULL), TARN_OK);
}

static void test_bad_options(void)
{
    check_ok(harness_child(bad_options_child, NULL, out, sizeof out));
}

/* Switched off: no handler of ours, no signals. */
static void off(void *unused)
{
    (void)unused;
    struct sigaction sa;
    CHECK_EQ(sigaction(SIGURG, NULL, &sa), 0);
    CHECK(sa.sa_handler == SIG_DFL);
    pest_start(PEST_ALL);
    collect();
    for (int i = 0; i < 1000; i++)
        tarn_yield();
    pest_stop();
    struct tarn_preempt_stats s = preempt_stats();
    CHECK_EQ(s.sent, 0);
    CHECK_EQ(s.injected, 0);
}

static void test_asyncpreempt_off(void)
{
    check_ok(in_child(off, "asyncpreempt=0", 0, -1));
}

/* --- faults ------------------------------------------------------------------------ */

static void fault(void *unused)
{
    (void)unused;
    volatile int *volatile p = (volatile int *)(uintptr_t)16;
    *p = 1;
}

static void killed(void *unused)
{
    (void)unused;
    syscall(SYS_tgkill, getpid(), gettid_os(), SIGSEGV);
    printf("survived\n");
}

static void test_faults_go_on(void)
{
    /* The default: the process dies of it, as ever. */
    int st = in_child(fault, "", 0, -1);
    CHECK(WIFSIGNALED(st));
    CHECK_EQ(WTERMSIG(st), SIGSEGV);
    CHECK(strstr(out, "stack overflow") == NULL);
    st = in_child(killed, "", 0, -1);
    CHECK(WIFSIGNALED(st));
    CHECK_EQ(WTERMSIG(st), SIGSEGV);
    CHECK(strstr(out, "survived") == NULL);
    /* The host's handler, with the address. */
    st = in_child(fault, "", SIGSEGV, 0);
    CHECK_STR(out, "host: SIGSEGV at 0x10");
    CHECK(WIFEXITED(st));
    CHECK_EQ(WEXITSTATUS(st), 9);
}

NI static uint64_t deep(uint64_t n, const volatile uint64_t *up)
{
    volatile uint64_t here_[32];
    here_[n & 31] = *up + 1;
    return n == 0 ? here_[0] : deep(n - 1, &here_[n & 31]) + here_[n & 31];
}

static volatile uint64_t sink;
static void overflow_goroutine(void *unused)
{
    (void)unused;
    volatile uint64_t zero = 0;
    sink = deep(UINT64_MAX, &zero);
}

static void overflow(void *unused)
{
    (void)unused;
    struct tarn_go_attr a = {TARN_STACKS_FIXED, 128 << 10};
    CHECK_ST(tarn_go_with(&a, overflow_goroutine, NULL), TARN_OK);
    for (;;)
        tarn_sleep(1000000);
}

static void test_stack_overflow(void)
{
    for (int host = 0; host < 2; host++) {
        int st = in_child(overflow, "", SIGSEGV, host ? 0 : -1);
        CHECK_STR(out, "stack overflow: goroutine ");
        CHECK_STR(out, "has used up its fixed stack of 131072 bytes");
        CHECK(WIFEXITED(st));
        CHECK_EQ(WEXITSTATUS(st), 2);
    }
}

/* --- floods ---------------------------------------------------------------------- */

/* Another process sends 100,000 signals a second, from before the threads of this
 * one start until after they ended. (As fast as it can, which is faster than a
 * handler can be entered, would leave nothing to those who get them.) */
static void flooded(void *unused)
{
    (void)unused;
    garbage_start(4);
    for (int i = 0; i < SUITE_REPEAT(5); i++) {
        collect();
        char *p = malloc(100000);
        memset(p, i, 100000);
        for (int k = 0; k < 100000; k += 777)
            CHECK_EQ(p[k], (char)i);
        free(p);
        tarn_sleep(100000);
    }
    garbage_end();
}

static void flooded_child(void)
{
    struct tarn_options o;
    alarm(SUITE_WATCHDOG_SECONDS);
    pid_t me = getpid(), pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        while (getppid() == me) {
            int64_t next = nanotime() + 10000;
            kill(me, SIGURG);
            while (nanotime() < next)
                procyield(10);
        }
        _exit(0);
    }
    fresh(&o, "maxprocs=4");
    CHECK_ST(tarn_main(&o, flooded, NULL), TARN_OK);
    CHECK_ST(tarn_main(&o, flooded, NULL), TARN_OK);
    kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    struct tarn_preempt_stats s = preempt_stats();
    printf("%" PRIu64 " received\n", s.received + s.foreign);
    fflush(NULL);
    CHECK_GT(s.received + s.foreign, 0);
    _exit(0);
}

static void test_flood(void)
{
    for (int i = 0; i < SUITE_REPEAT(5); i++)
        check_ok(harness_child(flooded_child, NULL, out, sizeof out));
}

int main(int argc, char **argv)
{
    harness_init(argc, argv);
    if (getenv("TARN_TEST_PROCS") != NULL)
        goto contexts; /* the others start runtimes with few Ps */
    RUN(test_bad_options);
    if (ASYNC_RUNS) /* sanitizers report faults in a way of their own */
        RUN(test_faults_go_on);
    RUN(test_stack_overflow);
#if TARN_ASAN || TARN_TSAN
    printf("no asynchronous preemption in this build\n");
    return harness_done();
#endif
    RUN(test_sighandler_chains);
    RUN(test_tarn_signal);
    RUN(test_initsig);
    RUN(test_setsig);
    RUN(test_asyncpreempt_off);
    RUN(test_flood);
contexts:
    /* Nobody else looks at the Ps that are bent here. */
    gc_run(context_body, 1, "gcoff=1,droppreempt=100,seed=1");
    gc_run(sending_body, 1, "");
    gc_run(sending_body, 4, "");
    gc_run(sending_body, 16, "");
    return harness_done();
}
