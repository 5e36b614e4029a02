/* sched/thread.c - goroutines bound to threads, and threads that the runtime did
 * not make.
 *
 * An attached thread is an M with one goroutine, whose stack is the thread's
 * own. The M runs nothing else; where it schedules, g0, it has a small stack that
 * comes with the M. Both are taken from a pool of spare ones and go back there
 * when the thread detaches or ends. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* pthread_getattr_np */
#endif
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <string.h>

#include "base/options.h"
#include "base/sysmem.h"
#include "base/vm.h"
#include "sched/sched.h"
#include "tarn/native.h"

#define FOREIGN_G0_STACK ((size_t)256 << 10)

struct foreign {
    struct m m;
    struct g g;
    uintptr_t g0_stack;
    struct foreign *next; /* spare */
};

static struct mutex spare_lock = MUTEX_INIT(LEAF);
static struct foreign *spare;
static uint32_t nspare;
static pthread_key_t exit_key;
static pthread_once_t exit_once = PTHREAD_ONCE_INIT;
static int exit_error;
/* How often this thread was detached by its end. Destructors of others may
 * attach it again, but nothing detaches it after the last round of them. */
static __thread uint32_t thread_ends __attribute__((tls_model("initial-exec")));

/* --- locking ------------------------------------------------------------------- */

void lockOSThread(struct g *gp)
{
    if (gp->lockedcount++ == 0) {
        gp->lockedm = gp->m;
        gp->m->lockedg = gp;
    }
}

void unlockOSThread(struct g *gp)
{
    ASSERT(gp->lockedcount > 0);
    if (--gp->lockedcount == 0) {
        gp->m->lockedg = NULL;
        gp->lockedm = NULL;
    }
}

tarn_status tarn_lock_thread(void)
{
    if (!require_goroutine("tarn_lock_thread"))
        return TARN_ESTATE;
    struct g *gp = getg();
    if (gp->userlocks == UINT32_MAX) {
        set_error("tarn_lock_thread: locked %u times", gp->userlocks);
        return TARN_EOVERFLOW;
    }
    gp->userlocks++;
    lockOSThread(gp);
    return TARN_OK;
}

tarn_status tarn_unlock_thread(void)
{
    if (!require_goroutine("tarn_unlock_thread"))
        return TARN_ESTATE;
    struct g *gp = getg();
    if (gp->userlocks == 0) {
        set_error("tarn_unlock_thread: goroutine %llu is not locked",
                  (unsigned long long)gp->goid);
        return TARN_ESTATE;
    }
    gp->userlocks--;
    unlockOSThread(gp);
    return TARN_OK;
}

/* --- attaching -------------------------------------------------------------------- */

static void detach_at_exit(void *vf);

static void make_key(void)
{
    exit_error = pthread_key_create(&exit_key, detach_at_exit);
}

static struct foreign *new_foreign(void)
{
    struct foreign *f = sys_alloc_aligned(sizeof(*f), CACHE_LINE);
    if (f == NULL) {
        set_error("tarn_thread_attach: out of memory");
        return NULL;
    }
    uintptr_t lo = (uintptr_t)vm_reserve(FOREIGN_G0_STACK + OS_PAGE, OS_PAGE);
    if (lo == 0 || !vm_commit((void *)(lo + OS_PAGE), FOREIGN_G0_STACK)) {
        if (lo != 0)
            vm_release((void *)lo, FOREIGN_G0_STACK + OS_PAGE);
        sys_free(f);
        set_error("tarn_thread_attach: no memory for a stack of %zu bytes",
                  FOREIGN_G0_STACK);
        return NULL;
    }
    f->g0_stack = lo + OS_PAGE;
    m_init(&f->m);
    f->m.foreign = f;
    f->m.g0->stack.lo = f->g0_stack;
    f->m.g0->stack.hi = f->g0_stack + FOREIGN_G0_STACK;
    f->g.foreign = true;
    /* For good: whoever has stopped the world may look at it while a thread
     * attaches, which needs no P until its stack can be scanned. */
    f->g.kind = STACK_FIXED;
    casgstatus(&f->g, Gidle, Gdead);
    allgadd(&f->g);
    return f;
}

static struct foreign *get_foreign(void)
{
    lock(&spare_lock);
    struct foreign *f = spare;
    if (f != NULL) {
        spare = f->next;
        nspare--;
    }
    unlock(&spare_lock);
    return f != NULL ? f : new_foreign();
}

static void put_foreign(struct foreign *f)
{
    lock(&spare_lock);
    f->next = spare;
    spare = f;
    nspare++;
    unlock(&spare_lock);
}

uint32_t spare_threads(void)
{
    lock(&spare_lock);
    uint32_t n = nspare;
    unlock(&spare_lock);
    return n;
}

static bool thread_stack(struct stack *s)
{
    pthread_attr_t attr;
    void *lo;
    size_t size;
    int err = pthread_getattr_np(pthread_self(), &attr);
    if (err == 0) {
        err = pthread_attr_getstack(&attr, &lo, &size);
        pthread_attr_destroy(&attr);
    }
    if (err != 0) {
        set_error("tarn_thread_attach: where this thread's stack is: %s",
                  strerror(err));
        return false;
    }
    s->lo = (uintptr_t)lo;
    s->hi = (uintptr_t)lo + size;
    uintptr_t sp = (uintptr_t)__builtin_frame_address(0);
    if (sp - s->lo >= size) {
        set_error("tarn_thread_attach: not called on the thread's own stack "
                  "(%#lx..%#lx)",
                  (unsigned long)s->lo, (unsigned long)s->hi);
        return false;
    }
    return true;
}

/* Counts one more thread. */
static tarn_status admit(void)
{
    lock(&sched.lock);
    if (!sched.started || sched.main_done) {
        unlock(&sched.lock);
        set_error("tarn_thread_attach: tarn_main is not running");
        return TARN_ESTATE;
    }
    uint64_t count = threads_counted();
    uint64_t reserved = threads_wanted(nprocs);
    if (count + reserved >= (uint64_t)options.maxthreads) {
        uint32_t attached = sched.nforeign;
        uint64_t own = count - attached - (uint64_t)sched.nmsys;
        unlock(&sched.lock);
        set_error("tarn_thread_attach: %u are attached, and the runtime itself "
                  "needs %llu of the %lld that option maxthreads allows",
                  attached, (unsigned long long)(own + reserved) + 1,
                  (long long)options.maxthreads);
        return TARN_ELIMIT;
    }
    sched.mnext++;
    sched.nforeign++;
    atomic_store(&sched.foreign_seen, true);
    unlock(&sched.lock);
    return TARN_OK;
}

/* And one less. sched.lock held. */
static void dismiss(void)
{
    sched.mnext--;
    sched.nforeign--;
    checkdead();
}

static void dismiss_lock(void)
{
    lock(&sched.lock);
    dismiss();
    unlock(&sched.lock);
}

/* From here on the stack above sp may be scanned. */
static void start_goroutine(struct foreign *f, uintptr_t sp)
{
    struct g *gp = &f->g;
    struct m *mp = &f->m;
    mp->g0->sched_sp = ALIGN_DOWN(mp->g0->stack.hi - 64, (uintptr_t)16);
    gp->fn = NULL;
    gp->goid = atomic_fetch_add(&sched.goidgen, 16) + 1;
    gp->stackguard1 = gp->stack.lo + STACK_GUARD;
    __atomic_store_n(&gp->m, mp, __ATOMIC_RELAXED);
    gp->lockedm = mp;
    gp->lockedcount = 1;
    gp->userlocks = 0;
    gp->throwsplit = false;
    gp->native_arg = NULL; /* of a call that its last thread ended in */
    gp->param = NULL;
    mp->lockedg = gp;
    atomic_store(&gp->preempt, false);
    atomic_store(&gp->preemptStop, false);
    /* Whatever this cycle saw was another life. */
    atomic_store_explicit(&gp->scancycle, 0, memory_order_relaxed);
    /* As if in a native call: with a stack that can be scanned, no P. */
    gp->syscallsp = sp;
    atomic_store(&mp->curg, gp);
    atomic_fetch_add(&sched.ngoroutines, 1);
    tell_go(gp, true);
    casgstatus(gp, Gdead, Gsyscall);
}

/* What the caller's registers hold may come to lie on its stack later, so it must
 * be seen with it, in a frame above what is scanned: all that a function has to
 * keep for its caller, pushed here. */
NOINLINE static void attach(struct foreign *f)
{
    __builtin_unwind_init();
    uintptr_t sp;
    __asm__ volatile("movq %%rsp, %0" : "=r"(sp));
    start_goroutine(f, sp);
    exitsyscall(&f->g);
}

tarn_status tarn_thread_attach(void)
{
    if (tarn_forked) {
        set_error("tarn_thread_attach: in a child of fork, which may only exec "
                  "or exit");
        return TARN_ESTATE;
    }
    if (getg() != NULL) {
        set_error("tarn_thread_attach: this thread is attached or runs "
                  "goroutines already");
        return TARN_ESTATE;
    }
    if (thread_ends >= PTHREAD_DESTRUCTOR_ITERATIONS - 1) {
        set_error("tarn_thread_attach: this thread ends");
        return TARN_ESTATE;
    }
    pthread_once(&exit_once, make_key);
    if (exit_error != 0) {
        set_error("tarn_thread_attach: pthread_key_create: %s",
                  strerror(exit_error));
        return TARN_ESYS;
    }
    struct stack s;
    if (!thread_stack(&s))
        return TARN_ESYS;
    tarn_status st = admit();
    if (st != TARN_OK)
        return st;
    struct foreign *f = get_foreign();
    int err = f == NULL ? 0 : pthread_setspecific(exit_key, f);
    if (f == NULL || err != 0) {
        if (f != NULL) {
            put_foreign(f);
            set_error("tarn_thread_attach: pthread_setspecific: %s",
                      strerror(err));
        }
        dismiss_lock();
        return TARN_ENOMEM;
    }
    f->g.stack = s;
    f->m.thread = pthread_self();
    /* Before the stack may be scanned: what libc's functions push there is dead,
     * but still there when others' frames come to lie in the same place. */
    minit(&f->m);
#if TARN_FIBERS
    fiber_foreign(&f->m, &f->g);
#endif
    attach(f);
    return TARN_OK;
}

static void end_goroutine(struct foreign *f, uint32_t status)
{
    struct g *gp = &f->g;
    struct m *mp = &f->m;
    if (sched_hooks.goexit && status == Grunning)
        sched_hooks.goexit(gp);
    casgstatus(gp, status, Gdead);
    atomic_fetch_sub(&sched.ngoroutines, 1);
    tell_go(gp, false);
    atomic_store(&gp->preempt, false);
    atomic_store(&gp->preemptStop, false);
    gp->lockedm = NULL;
    gp->lockedcount = 0;
    mp->lockedg = NULL;
    atomic_store(&mp->curg, NULL);
}

/* On g0, which nobody will run on again. */
static void detach_on_g0(void *f)
{
    end_goroutine(f, Grunning);
    /* In this order, for the limit of threads: see mexit. Deadlocks are not
     * looked for any more. */
    dismiss_lock();
    handoffp(releasep());
}

static void give_back(struct foreign *f)
{
    unminit(&f->m);
    __atomic_store_n(&f->g.m, NULL, __ATOMIC_RELAXED);
    put_foreign(f);
}

static void detach(struct foreign *f)
{
    if (unlikely(f->m.locks != 0))
        blocked_with_m(&f->g, "ends");
    systemstack(detach_on_g0, f);
    give_back(f);
}

/* The thread ends in a native call. Its goroutine ends as it is, since to come back
 * it might have to wait for a P, and where tarn_main has ended or ends just now,
 * for ever. If it has a P, it takes that from itself as a thief would. */
static void detach_in_native(struct foreign *f)
{
    struct p *pp;
    while ((pp = atomic_load(&f->m.p)) != NULL) {
        struct m *mp = setBlockOnExitSyscall(pp);
        if (mp == NULL) {
            procyield(10); /* somebody is at it */
            continue;
        }
        bool mine = mp == &f->m;
        if (mine)
            takeP(pp, mp);
        resume_syscall(mp);
        if (mine)
            handoffp(pp);
    }
    delay_point("detach_in_native");
    /* A scan of its stack may be under way. */
    while (!castogscanstatus(&f->g, Gsyscall, Gsyscall | Gscan))
        procyield(10);
    if (sched_hooks.goexit)
        sched_hooks.goexit(&f->g);
    casfrom_Gscanstatus(&f->g, Gsyscall | Gscan, Gsyscall);
    end_goroutine(f, Gsyscall);
    dismiss_lock();
    give_back(f);
}

tarn_status tarn_thread_detach(void)
{
    struct g *gp = getg();
    if (gp == NULL || gp->kind == STACK_SYSTEM || !gp->foreign) {
        set_error("tarn_thread_detach: %s",
                  gp == NULL                 ? "this thread is not attached"
                  : gp->kind == STACK_SYSTEM ? "in a native call"
                                             : "not an attached thread");
        return TARN_ESTATE;
    }
    if (gp->lockedcount != 1 + gp->userlocks) {
        set_error("tarn_thread_detach: in a callback from native code");
        return TARN_ESTATE;
    }
    if (gp->worldstopped) {
        set_error("tarn_thread_detach: goroutine %llu has stopped the world "
                  "(tarn_world_stop)",
                  (unsigned long long)gp->goid);
        return TARN_ESTATE;
    }
    struct foreign *f = gp->m->foreign;
    pthread_setspecific(exit_key, NULL);
    drop_roots(gp);
    detach(f);
    return TARN_OK;
}

/* The thread ends without having detached. */
static void detach_at_exit(void *vf)
{
    struct foreign *f = vf;
    thread_ends++;
    if (getg() == f->m.g0 || getg() == &f->g)
        drop_roots(&f->g);
    if (getg() == f->m.g0) /* it ends in a native call */
        detach_in_native(f);
    else if (getg() == &f->g)
        detach(f);
}

bool tarn_thread_attached(void)
{
    struct g *gp = getg();
    return gp != NULL && gp->m->foreign != NULL;
}
