/* sched/goroutine.c - goroutines are born, end, and are reused. */
#include "base/sysmem.h"
#include "sched/sched.h"

struct g **_Atomic allg_chunks[ALLG_CHUNKS];
OWN_DATA(allg_chunks)
_Atomic size_t allglen;
static struct mutex allglock = MUTEX_INIT(ALLG);

#define GFREE_LOCAL_MAX 64u

struct g *allg_at(size_t i)
{
    struct g **chunk = atomic_load_explicit(&allg_chunks[i / ALLG_CHUNK],
                                            memory_order_acquire);
    return __atomic_load_n(&chunk[i % ALLG_CHUNK], __ATOMIC_ACQUIRE);
}

void allgadd(struct g *gp)
{
    ASSERT(readgstatus(gp) != Gidle);
    lock(&allglock);
    size_t n = atomic_load_explicit(&allglen, memory_order_relaxed);
    ASSERT(n / ALLG_CHUNK < ALLG_CHUNKS);
    struct g **chunk = atomic_load_explicit(&allg_chunks[n / ALLG_CHUNK],
                                            memory_order_relaxed);
    if (chunk == NULL) {
        chunk = sys_alloc(ALLG_CHUNK * sizeof(*chunk));
        if (chunk == NULL)
            throw("out of memory for the list of goroutines");
        atomic_store_explicit(&allg_chunks[n / ALLG_CHUNK], chunk,
                              memory_order_release);
    }
    __atomic_store_n(&chunk[n % ALLG_CHUNK], gp, __ATOMIC_RELEASE);
    atomic_store_explicit(&allglen, n + 1, memory_order_release);
    unlock(&allglock);
}

static int kind_index(enum stack_kind kind)
{
    return kind == STACK_FIXED ? 1 : 0;
}

/* All but `keep` of them go to everybody. */
static void gfree_overflow(struct p *pp, int k, uint32_t keep)
{
    lock(&sched.gfreelock);
    while (pp->ngfree[k] > keep) {
        struct g *gp = pp->gfree[k];
        pp->gfree[k] = gp->schedlink;
        pp->ngfree[k]--;
        /* Copying stacks are few; those of fixed size have no other cache. */
        if (k == 0 && gp->stack.lo != 0)
            sched_hooks.stackfree(gp);
        gp->schedlink = sched.gfree[k];
        sched.gfree[k] = gp;
        atomic_fetch_add_explicit(&sched.ngfree[k], 1, memory_order_relaxed);
    }
    unlock(&sched.gfreelock);
}

void gfpurge(struct p *pp)
{
    gfree_overflow(pp, 0, 0);
    gfree_overflow(pp, 1, 0);
}

static void gfput(struct p *pp, struct g *gp)
{
    if (!gp->default_stack && gp->stack.lo != 0) {
        sched_hooks.stackfree(gp);
        ASSERT(gp->stack.lo == 0);
    }
    if (gp->stack.lo == 0)
        gp->kind = STACK_NONE;
    int k = kind_index(gp->kind);
    gp->schedlink = pp->gfree[k];
    pp->gfree[k] = gp;
    if (++pp->ngfree[k] >= GFREE_LOCAL_MAX)
        gfree_overflow(pp, k, GFREE_LOCAL_MAX / 2);
}
static struct g *gfget(struct p *pp, enum stack_kind kind)
{
    int k = kind_index(kind);
    if (pp->gfree[k] == NULL &&
        atomic_load_explicit(&sched.ngfree[k], memory_order_relaxed) != 0) {
        lock(&sched.gfreelock);
        while (pp->ngfree[k] < GFREE_LOCAL_MAX / 2 && sched.gfree[k] != NULL) {
            struct g *gp = sched.gfree[k];
            sched.gfree[k] = gp->schedlink;
            atomic_fetch_sub_explicit(&sched.ngfree[k], 1,
                                      memory_order_relaxed);
            gp->schedlink = pp->gfree[k];
            pp->gfree[k] = gp;
            pp->ngfree[k]++;
        }
        unlock(&sched.gfreelock);
    }
    struct g *gp = pp->gfree[k];
    if (gp) {
        pp->gfree[k] = gp->schedlink;
        pp->ngfree[k]--;
        gp->schedlink = NULL;
    }
    return gp;
}

static uint64_t next_goid(struct p *pp)
{
    if (pp->goidcache == pp->goidcacheend) {
        pp->goidcache = atomic_fetch_add(&sched.goidgen, 16) + 1;
        pp->goidcacheend = pp->goidcache + 16;
    }
    return pp->goidcache++;
}

struct newproc_args {
    tarn_fn fn;
    void *arg;
    enum stack_kind kind;
    size_t size;
    bool system, main;
    struct g *out;
};

static void newproc1(void *varg)
{
    struct newproc_args *a = varg;
    struct m *mp = acquirem();
    struct p *pp = mp->p;
    struct g *gp = gfget(pp, a->kind);
    bool fresh = gp == NULL;
    if (fresh) {
        gp = sys_alloc_aligned(sizeof(*gp), CACHE_LINE);
        if (gp == NULL) {
            set_error("tarn_go: out of memory for a goroutine");
            releasem(mp);
            return;
        }
    }
    if (!fresh && gp->stack.lo != 0 &&
        (a->size != 0 || (a->kind == STACK_COPYING &&
                          gp->stack.hi - gp->stack.lo !=
                              atomic_load_explicit(&sched_hooks.first_stack,
                                                   memory_order_relaxed)))) {
        sched_hooks.stackfree(gp);
        gp->kind = STACK_NONE;
    }
    if (gp->stack.lo == 0 && !sched_hooks.stackalloc(gp, a->kind, a->size)) {
        if (!fresh)
            gfput(pp, gp);
        else
            sys_free(gp);
        releasem(mp);
        return;
    }
    if (fresh) {
        /* Dead before anybody can see it: a scan passes over it. */
        casgstatus(gp, Gidle, Gdead);
        allgadd(gp);
    }
    gp->sched_sp =
        gp->stack.lo ? ALIGN_DOWN(gp->stack.hi - 16, (uintptr_t)16) : 0;
    gp->resume = RESUME_START;
    gp->fn = a->fn;
    atomic_store_explicit(&gp->system, a->system, memory_order_relaxed);
    gp->param = NULL;
    gp->waiting = NULL;
    atomic_store_explicit(&gp->preemptStop, false, memory_order_relaxed);
    __atomic_store_n(&gp->entry_arg, a->arg, __ATOMIC_RELEASE);
    /* It may be born after the roots were counted: nobody will scan it. */
    if (sched_hooks.shade)
        sched_hooks.shade(a->arg);
    gp->goid = next_goid(pp);
    if (a->main)
        atomic_store_explicit(&sched.maing, gp, memory_order_relaxed);
    if (!a->system)
        atomic_fetch_add(&sched.ngoroutines, 1);
    trace_event(TRACE_GO, gp, 0, 0);
    if (!a->system)
        tell_go(gp, true);
    casgstatus(gp, Gdead, Grunnable);
    runqput(pp, gp, true);
    wakep();
    a->out = gp;
    releasem(mp);
}

struct g *newproc(tarn_fn fn, void *arg, const struct tarn_go_attr *attr,
                  bool system)
{
    enum tarn_stacks want = attr ? attr->stacks : TARN_STACKS_AUTO;
    struct newproc_args a = {
        .fn = fn,
        .arg = arg,
        .size = attr ? attr->stack_size : 0,
        .system = system,
        .main =
            !system && getg() == m0.g0 &&
            atomic_load_explicit(&sched.maing, memory_order_relaxed) == NULL};
    bool ok = true;
    a.kind = system ? STACK_FIXED : sched_hooks.stack_kind_of(fn, want, &ok);
    if (!ok)
        return NULL;
    systemstack(newproc1, &a);
    return a.out;
}

struct start_pair goroutine_begin(void)
{
    struct g *gp = getg();
    struct start_pair s = {gp->fn,
                           __atomic_load_n(&gp->entry_arg, __ATOMIC_RELAXED)};
    /* From here on the argument lives as long as the function keeps it. */
    __atomic_store_n(&gp->entry_arg, NULL, __ATOMIC_RELAXED);
#if TARN_FIBERS
    s = fiber_begin(s);
#endif
    return s;
}

void gdestroy(struct g *gp)
{
    struct m *mp = getg()->m;
    drop_roots(gp);
    if (sched_hooks.goexit)
        sched_hooks.goexit(gp);
    casgstatus(gp, Grunning, Gdead);
    if (!gp->system) {
        atomic_fetch_sub(&sched.ngoroutines, 1);
        tell_go(gp, false);
    }
    __atomic_store_n(&gp->m, NULL, __ATOMIC_RELAXED);
    atomic_store_explicit(&mp->curg, NULL, memory_order_release);
    atomic_store_explicit(&gp->preempt, false, memory_order_relaxed);
    atomic_store_explicit(&gp->preemptStop, false, memory_order_relaxed);
    gp->param = NULL;
    ASSERT(gp->waiting == NULL);
    gfput(mp->p, gp);
}

/* gp ends: its thread is anybody's again. True: gp had locked it. */
bool free_thread(struct g *gp)
{
    bool locked = gp->userlocks != 0;
    if (gp->lockedcount != 0)
        gp->m->lockedg = NULL;
    gp->lockedm = NULL;
    gp->lockedcount = gp->userlocks = 0;
    return locked;
}

void goexit0(struct g *gp)
{
    /* Who locks a thread may have changed it in ways that others should not
     * meet: it ends too. */
    bool locked = free_thread(gp);
    trace_event(TRACE_EXIT, gp, 0, 0);
    gdestroy(gp);
    if (locked && getg()->m != &m0)
        mexit();
    schedule();
}

void goexit1(void)
{
    struct g *gp = getg();
    if (gp == NULL)
        fatal(
            "a goroutine ends in a child of fork, which may only exec or exit");
    if (gp->m->locks != 0)
        blocked_with_m(gp, "ends");
    if (gp->foreign)
        fatal("tarn_goexit: on an attached thread (tarn_thread_detach ends its "
              "goroutine)");
    if (gp->lockedcount != gp->userlocks)
        fatal("tarn_goexit: in a callback from native code");
    if (getg() == atomic_load_explicit(&sched.maing, memory_order_relaxed))
        main_exit();
    mcall(goexit0);
    __builtin_unreachable();
}

struct sudog *newSudog(void)
{
    struct sudog *s = sys_alloc(sizeof(*s));
    if (s == NULL)
        throw("out of memory for a wait record");
    return s;
}

void freeSudog(struct sudog *s)
{
    sys_free(s);
}
