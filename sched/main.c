/* sched/main.c - start, threads, the first goroutine and its end. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* pthread_getattr_np */
#endif
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>

#include "base/fail.h"
#include "base/sysmem.h"
#include "sched/sched.h"
#include "tarn/attrs.h"

__thread struct g *tarn_tls_g
    __attribute__((tls_model("initial-exec"), visibility("hidden")));

/* See local_cache. */
TARN_API __thread struct mcache_entry *tarn_local
    __attribute__((tls_model("initial-exec")));

/* 0: SSE, 1: AVX, 2: AVX-512: which argument registers __morestack saves. */
uint32_t tarn_vector_level __attribute__((visibility("hidden")));
/* Not 0: dead registers are wiped when a goroutine goes on. */
uint32_t tarn_scrub_registers __attribute__((visibility("hidden")));

_Static_assert(offsetof(struct g, sched_sp) == 0, "asm_amd64.S");
_Static_assert(offsetof(struct g, stackguard0) == 8, "asm_amd64.S");
_Static_assert(offsetof(struct g, m) == 16, "asm_amd64.S");
_Static_assert(offsetof(struct g, xregs) == 24, "asm_amd64.S");
_Static_assert(offsetof(struct g, asyncSafePoint) == 32, "asm_amd64.S");
_Static_assert(offsetof(struct g, throwsplit) == 34, "asm_amd64.S");
_Static_assert(offsetof(struct g, syscallsp) == 40, "asm_amd64.S");
_Static_assert(offsetof(struct g, native_regs) == 192, "asm_amd64.S");
_Static_assert(offsetof(struct g, syscallpc) == 240, "asm_amd64.S");
_Static_assert(offsetof(struct m, g0) == 0, "asm_amd64.S");
_Static_assert(offsetof(struct m, curg) == 8, "asm_amd64.S");
_Static_assert(offsetof(struct m, xspare) == 16, "asm_amd64.S");
_Static_assert(offsetof(struct m, mxcsr) == 24, "asm_amd64.S");
_Static_assert(offsetof(struct m, fpucw) == 28, "asm_amd64.S");

/* Not 0: this process is a child of one in which the runtime was started. */
uint32_t tarn_forked __attribute__((visibility("hidden")));

#define THREAD_STACK ((size_t)1 << 20)
#define SIGNAL_STACK ((size_t)64 << 10)

void setg(struct g *gp)
{
    tarn_tls_g = gp;
}

static _Atomic uintptr_t *guard_slot(void)
{
    /* The thread control block's first word is its own address. */
    uintptr_t tcb;
    __asm__ volatile("movq %%fs:0, %0" : "=r"(tcb));
    return (_Atomic uintptr_t *)(tcb + TARN_ATTR_GUARD_FS);
}

/* Why this thread may not call what only goroutines may, to go behind "not called
 * on a goroutine". */
const char *not_goroutine_why(void)
{
    struct g *gp = tarn_tls_g;
    if (tarn_forked)
        return " (a child of fork may only exec or exit)";
    if (gp != NULL && atomic_load(&gp->m->curg) != NULL)
        return " (in a native call)";
    return "";
}

bool not_on_goroutine(const char *what)
{
    set_error("%s: not called on a goroutine%s", what, not_goroutine_why());
    return false;
}

/* --- fork ------------------------------------------------------------------------ */

static sigset_t host_mask;

/* In the child of a fork, whose only thread this is: the others, with whatever
 * they held, are gone. */
static void forked_child(void)
{
    struct g *gp = tarn_tls_g;
    if (gp != NULL) {
        setg(NULL);
        set_local_cache(NULL);
        /* What it does until it execs, it does on this stack. */
        atomic_store(guard_slot(),
                     gp->kind == STACK_SYSTEM ? 0 : gp->stack.lo + STACK_GUARD);
        /* Our threads block signals, which exec would pass on. */
        pthread_sigmask(SIG_SETMASK, &host_mask, NULL);
    }
    tarn_forked = 1;
}

/* From __morestack, in such a child. */
__attribute__((noreturn)) void forked_morestack(void)
    __attribute__((visibility("hidden")));
void forked_morestack(void)
{
    fatal("stack overflow in a child of fork: it may only exec or exit");
}

/* What only the thread itself can set up. */
void minit(struct m *mp)
{
    atomic_store(guard_slot(), 0);
    atomic_store_explicit(&mp->tls_guard, guard_slot(), memory_order_release);
    setg(mp->g0);
#if TARN_FIBERS
    if (mp->foreign == NULL)
        fiber_thread(mp);
#endif
    /* Handlers of the host program must not run on goroutine stacks: those
     * that ask for an alternate stack get one. */
    stack_t ss, old;
    if (sigaltstack(NULL, &old) == 0 && (old.ss_flags & SS_DISABLE)) {
        memset(&ss, 0, sizeof(ss));
        if (mp->signal_stack == NULL)
            mp->signal_stack = sys_alloc(SIGNAL_STACK);
        ss.ss_sp = mp->signal_stack;
        ss.ss_size = SIGNAL_STACK;
        mp->own_signal_stack = ss.ss_sp != NULL && sigaltstack(&ss, NULL) == 0;
    }
    minit_preempt(mp);
    minit_signals(mp);
}

/* The thread goes on without us, or ends. */
void unminit(struct m *mp)
{
    unminit_signals(mp);
    lock_slot(mp);
    atomic_store_explicit(&mp->tls_guard, NULL, memory_order_relaxed);
    unlock_slot(mp);
    setg(NULL);
    atomic_store(guard_slot(), 0);
    if (mp->own_signal_stack) {
        stack_t off = {.ss_flags = SS_DISABLE};
        sigaltstack(&off, NULL);
        mp->own_signal_stack = false;
    }
}

void m_init(struct m *mp)
{
    bool known = mp->g0 != NULL; /* a thread that ended left it */
    mp->g0 = &mp->g0_storage;
    mp->g0->kind = STACK_SYSTEM;
    mp->g0->system = true;
    mp->g0->m = mp;
    static _Atomic uint64_t ids;
    mp->id = atomic_fetch_add(&ids, 1);
    mp->rand = rand_state((uint64_t)options.seed, mp->id * 2);
    mp->sigrand = mp->rand;
    if (known)
        return;
    struct m *head = atomic_load(&allm);
    do
        mp->alllink = head;
    while (!atomic_compare_exchange_weak(&allm, &head, mp));
}

bool thread_create(pthread_t *t, void *(*fn)(void *), void *arg)
{
    pthread_attr_t attr;
    int err = fail_point(FAIL_THREAD) ? EAGAIN : 0;
    if (err == 0) {
        pthread_attr_init(&attr);
        pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
        pthread_attr_setstacksize(&attr, THREAD_STACK);
        /* Signals that the host program handles stay with its own threads;
         * those that a fault raises are never blocked in effect. */
        sigset_t all, old;
        sigfillset(&all);
        sigdelset(&all, SIGSEGV);
        sigdelset(&all, SIGBUS);
        sigdelset(&all, SIGFPE);
        sigdelset(&all, SIGILL);
        sigdelset(&all, SIGTRAP);
        sigdelset(&all, SIGABRT);
        sigdelset(&all, SIGPROF);
        pthread_sigmask(SIG_BLOCK, &all, &old);
        err = pthread_create(t, &attr, fn, arg);
        pthread_sigmask(SIG_SETMASK, &old, NULL);
        pthread_attr_destroy(&attr);
    }
    if (err != 0) {
        errno = err;
        return false;
    }
    return true;
}

/* For memory statistics: nothing is wrong without. */
static void note_stack(struct m *mp)
{
    pthread_attr_t attr;
    void *lo;
    size_t size;
    if (pthread_getattr_np(pthread_self(), &attr) != 0)
        return;
    if (pthread_attr_getstack(&attr, &lo, &size) == 0)
        mp->own = (struct stack){(uintptr_t)lo, (uintptr_t)lo + size};
    pthread_attr_destroy(&attr);
}

static void *mstart_thread(void *vmp)
{
    struct m *mp = vmp;
    minit(mp);
    note_stack(mp);
    /* Else it is that of the thread which made this one. */
    prctl(PR_SET_NAME, "tarn-m", 0UL, 0UL, 0UL);
    /* See runnext_left. */
    prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
    if (mp->mstartfn)
        mp->mstartfn();
    struct p *pp = mp->nextp;
    mp->nextp = NULL;
    acquirep(pp);
    mstart_call(mp, schedule);
    /* From mexit. */
    unminit(mp);
    lock(&sched.lock);
    mp->own = (struct stack){0, 0};
    mp->schedlink = sched.mfree;
    sched.mfree = mp;
    unlock(&sched.lock);
    return NULL;
}

/* On g0: ends this thread, which its goroutine had made its own. */
void mexit(void)
{
    struct m *mp = getg()->m;
    ASSERT(mp != &m0 && mp->foreign == NULL && mp->lockedg == NULL);
    /* At the limit of threads the P may need one that takes our place. We are
     * awake until it has been handed on, so checkdead still counts us. */
    lock(&sched.lock);
    sched.nmleaving++;
    unlock(&sched.lock);
    handoffp(releasep());
    lock(&sched.lock);
    sched.nmleaving--;
    sched.mnext--;
    checkdead();
    unlock(&sched.lock);
    mstart_return(mp);
}

/* A new thread for pp. The caller has counted it in sched.mnext. */
void newm(void (*fn)(void), struct p *pp)
{
    lock(&sched.lock);
    pp->startm = NULL; /* not to be taken back */
    struct m *mp = sched.mfree;
    if (mp != NULL)
        sched.mfree = mp->schedlink;
    uint64_t count = threads_counted();
    unlock(&sched.lock);
    if (count > (uint64_t)options.maxthreads)
        fatal("the limit of %lld threads is reached (option maxthreads): too "
              "many goroutines block their threads",
              (long long)options.maxthreads);
    if (mp == NULL)
        mp = sys_alloc_aligned(sizeof(*mp), CACHE_LINE);
    if (mp == NULL)
        throw("out of memory for a thread's structures");
    m_init(mp);
    mp->mstartfn = fn;
    mp->nextp = pp;
    if (!thread_create(&mp->thread, mstart_thread, mp))
        fatal("cannot create a thread for P %u (%llu exist): %s", pp->id,
              (unsigned long long)atomic_load(&sched.mnext) - 1,
              strerror(errno));
}

static size_t describe(char *buf, size_t len)
{
    struct g *gp = tarn_tls_g;
    int n;
    if (gp == NULL)
        n = snprintf(buf, len, "no goroutine, thread %d", gettid_os());
    else {
        struct m *mp = gp->m;
        struct g *cur = mp ? atomic_load(&mp->curg) : NULL;
        struct p *pp = mp ? mp->p : NULL;
        n = snprintf(buf, len, "g=%llu%s m=%llu p=%d",
                     (unsigned long long)(cur ? cur->goid : 0),
                     gp->kind == STACK_SYSTEM ? " (on g0)" : "",
                     (unsigned long long)(mp ? mp->id : 0),
                     pp ? (int)pp->id : -1);
    }
    return n < 0 ? 0 : (size_t)n < len ? (size_t)n : len - 1;
}

static char *goroutine_error_buffer(void)
{
    struct g *gp = tarn_tls_g;
    /* On g0 in its service too. */
    if (gp != NULL && gp->kind == STACK_SYSTEM)
        gp = atomic_load_explicit(&gp->m->curg, memory_order_relaxed);
    if (gp == NULL)
        return NULL;
    if (gp->error_text == NULL)
        gp->error_text = sys_alloc(ERROR_TEXT_SIZE);
    return gp->error_text;
}

tarn_status sched_init(uint32_t procs)
{
    base_hooks.describe = describe;
    trace_init();
    error_buffer_hook = goroutine_error_buffer;
    tarn_vector_level = __builtin_cpu_supports("avx512f") ? 2
                        : __builtin_cpu_supports("avx")   ? 1
                                                          : 0;
    tarn_scrub_registers = options.checkmark != 0;
    pthread_sigmask(SIG_SETMASK, NULL, &host_mask);
    int err = pthread_atfork(NULL, NULL, forked_child);
    if (err != 0) {
        set_error("pthread_atfork: %s", strerror(err));
        return TARN_ESYS;
    }
    if (!procs_init(procs))
        return TARN_ENOMEM;
    preempt_init();
    initsig();
    m_init(&m0);
    sched.mnext = 1;
    struct m *sm = sys_alloc_aligned(sizeof(*sm), CACHE_LINE);
    if (sm == NULL) {
        set_error("out of memory for the monitor thread");
        return TARN_ENOMEM;
    }
    m_init(sm);
    sched.mnext++;
    sched.nmsys++;
    sched.worldsema = 0; /* stopped until sched_run */
    atomic_store(&sched.gcwaiting, true);
    if (!thread_create(&sm->thread, sysmon_thread, sm)) {
        set_error("cannot create the monitor thread: %s", strerror(errno));
        return TARN_ESYS;
    }
    sched.initialised = true;
    return TARN_OK;
}

/* --- tarn_main ------------------------------------------------------------- */

struct main_args {
    tarn_fn fn;
    void *arg;
};

/* On g0 of whichever M ran the end of the main goroutine; the world is stopped
 * and stays so. Sends the M that is the caller of tarn_main back there. */
void main_exit_m(struct g *gp)
{
    struct m *mp = getg()->m;
    bool locked = free_thread(gp);
    gdestroy(gp);
    struct p *pp = mp->p;
    set_local_cache(NULL);
    mp->p = NULL;
    atomic_store(&pp->m, NULL);
    mp->locks = 0;
    if (mp == &m0)
        mstart_return(mp);
    lock(&sched.lock);
    m0.exit_to_main = true;
    bool wake = false;
    for (struct m **l = &sched.midle; *l != NULL; l = &(*l)->schedlink) {
        if (*l == &m0) {
            *l = m0.schedlink;
            sched.nmidle--;
            wake = !m0.undone;
            break;
        }
    }
    if (m0.parked_locked > 0) {
        m0.parked_locked--;
        sched.nmidlelocked--;
        wake = true;
    }
    if (sched.timer_sleeper == &m0) {
        sched.timer_sleeper = NULL;
        wake = true;
    }
    unlock(&sched.lock);
    if (wake)
        notewakeup(&m0.park);
    /* Else M0 is on its way to sleep and sees the flag under the lock. */
    if (locked) { /* as in goexit0 */
        lock(&sched.lock);
        sched.mnext--;
        unlock(&sched.lock);
        mstart_return(mp);
    }
    stopm();
    schedule();
}

/* From goexit1, on the main goroutine's stack. */
void main_exit(void)
{
    lock(&sched.lock);
    sched.main_ending = true;
    if (sched.m0_callbacks != 0) {
        sched.main_waits = getg();
        goparkunlock(&sched.lock, WAIT_MAIN_END);
    } else {
        unlock(&sched.lock);
    }
    stopTheWorld();
    /* Ms on their way to sleep look at it. */
    lock(&sched.lock);
    sched.main_done = true;
    unlock(&sched.lock);
    atomic_store_explicit(&sched.maing, NULL, memory_order_relaxed);
    mcall(main_exit_m);
    __builtin_unreachable();
}

static void start_main(void)
{
    struct main_args *a = m0.waitlock;
    struct p *pp = m0.nextp;
    m0.waitlock = NULL;
    m0.nextp = NULL;
    m0.p = pp;
    atomic_store(&pp->m, &m0);
    set_local_cache(pp);
    /* The world is stopped and we hold worldsema, as at the end of a stop; only
     * that this one is not to be counted. */
    m0.locks = 1;
    sched.stop_began = 0;
    startTheWorldWithSema();
    worldsema_release();
    if (sched_hooks.on_start)
        sched_hooks.on_start();
    if (newproc(a->fn, a->arg, NULL, false) == NULL)
        throw("no memory for the first goroutine: %s", tarn_last_error());
    schedule();
}

/* Which thread M0 is: a number of the thread's own, since what the system calls
 * a thread by, it gives to others when that has ended. */
static __thread uint64_t thread_number
    __attribute__((tls_model("initial-exec")));
static uint64_t m0_number, thread_numbers;

tarn_status sched_run(tarn_fn fn, void *arg)
{
    struct main_args a = {fn, arg};
    if (thread_number == 0)
        thread_number = ++thread_numbers;
    /* The world stands still: M0's goroutine stays what it is. */
    if (m0.lockedg != NULL && thread_number != m0_number) {
        set_error("tarn_main: goroutine %llu is locked to the thread of the "
                  "last tarn_main (tarn_lock_thread), so only that may call "
                  "it again",
                  (unsigned long long)m0.lockedg->goid);
        return TARN_ESTATE;
    }
    m0_number = thread_number;
    int slack = prctl(PR_GET_TIMERSLACK, 0UL, 0UL, 0UL, 0UL);
    prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
    minit(&m0);
    lock(&sched.lock);
    sched.main_done = sched.main_ending = false;
    sched.started = true;
    unlock(&sched.lock);
    m0.nextp = allp[0];
    m0.waitlock = &a;
    mstart_call(&m0, start_main);
    lock(&sched.lock);
    sched.started = false;
    unlock(&sched.lock);
    unminit(&m0);
    if (slack > 0)
        prctl(PR_SET_TIMERSLACK, (unsigned long)slack, 0UL, 0UL, 0UL);
    return TARN_OK;
}
