/* gc/stackroots.c - the stacks of goroutines as roots: each is scanned once a
 * cycle, and nobody waits for one goroutine while there is something else to do.
 *
 * A job is a block of goroutines. What stands still is scanned at once. A running
 * goroutine is asked to stop and put aside; it scans its own stack where it stops
 * (gc_stopping), and goes on, so that it is held up for just its scan. Whoever
 * goes to sleep, ends or enters native code instead is found when the rest of the
 * mark is done: by the driver, which then repeats the requests every 100 us.
 *
 * A deep stack is cut into shards, which all markers scan together before
 * anything else; whoever finishes the last one lets the goroutine go.
 *
 * Locks: gc.buflock for both lists. */
#include "base/sysmem.h"
#include "gc/gc.h"

#define SHARD ((size_t)128 << 10)
/* Of small stacks, between two looks at whether the P is wanted. */
#define BLOCK_BYTES ((uint64_t)256 << 10)
#define PREFETCH_AHEAD 8

/* A goroutine held for a scan in shards. */
struct held {
    struct suspendGState st;
    _Atomic uint32_t left; /* shards, and one for who cuts them */
    uint64_t bytes;
    int64_t since;
};

struct shard {
    struct held *of; /* NULL: goroutines [lo, hi) of a block, left over */
    uintptr_t lo, hi;
};

struct asked {
    struct g *g;
    struct suspend_request rq;
};

static struct {
    struct shard *shards;
    uint32_t cap;
    _Atomic uint32_t n;
    struct asked *asked;
    uint32_t asked_cap;
    _Atomic uint32_t nasked;
    _Atomic bool driver_sleeps; /* until nasked is another */
} list;

bool gc_shards_left(void)
{
    return atomic_load(&list.n) != 0;
}

bool gc_stacks_asked(void)
{
    return atomic_load(&list.nasked) != 0;
}

static bool push_shard(struct held *of, uintptr_t lo, uintptr_t hi)
{
    lock(&gc.buflock);
    uint32_t n = atomic_load_explicit(&list.n, memory_order_relaxed);
    if (n == list.cap) {
        uint32_t cap = list.cap ? list.cap * 2 : 64;
        struct shard *more = sys_realloc(list.shards, cap * sizeof(*more));
        if (more == NULL) {
            unlock(&gc.buflock);
            return false;
        }
        list.shards = more;
        list.cap = cap;
    }
    list.shards[n] = (struct shard){of, lo, hi};
    atomic_store(&list.n, n + 1);
    unlock(&gc.buflock);
    return true;
}

static bool pop_shard(struct shard *out, bool held_only)
{
    lock(&gc.buflock);
    uint32_t n = atomic_load_explicit(&list.n, memory_order_relaxed), i = n;
    while (i > 0 && held_only && list.shards[i - 1].of == NULL)
        i--;
    if (i > 0) {
        *out = list.shards[i - 1];
        list.shards[i - 1] = list.shards[n - 1];
        atomic_store(&list.n, n - 1);
    }
    unlock(&gc.buflock);
    return i > 0;
}

/* --- one stack --------------------------------------------------------------------- */

struct scan_arg {
    struct gcwork *w;
    struct held *held;
    struct suspendGState st;
    uint64_t bytes;
    int64_t since;
};

/* The goroutine will be held for longer. In a native call nobody else can take its
 * P meanwhile, not even a stop of the world: we do. */
static struct held *hold(const struct scan_arg *a)
{
    struct held *h = sys_alloc(sizeof(*h));
    if (h == NULL)
        return NULL;
    h->st = a->st;
    h->since = a->since;
    atomic_store(&h->left, 1);
    struct g *gp = a->st.g;
    gp->in_shards = true;
    if (readgstatus(gp) == (Gsyscall | Gscan)) {
        struct m *mp = gp->m;
        struct p *pp = mp->p;
        if (pp != NULL) {
            takeP(pp, mp);
            handoffp(pp);
        }
    }
    return h;
}

static void scan_stack_range(uintptr_t lo, uintptr_t hi, void *varg)
{
    struct scan_arg *a = varg;
    a->bytes += hi - lo;
    if (unlikely(hi - lo > 2 * SHARD)) {
        if (a->held == NULL)
            a->held = hold(a);
        /* The highest come out last: that is as well. */
        while (a->held != NULL && hi - lo > SHARD) {
            atomic_fetch_add(&a->held->left, 1);
            if (!push_shard(a->held, hi - SHARD, hi)) {
                atomic_fetch_sub(&a->held->left, 1);
                break;
            }
            hi -= SHARD;
        }
    }
    scan_conservative(lo, hi, a->w, !GC_FAULT(PAST_END));
}

/* All of it is scanned: the goroutine may go. */
static int64_t finish(struct gcwork *w, struct suspendGState st, uint64_t bytes,
                      int64_t since)
{
    struct g *gp = st.g;
    trace_event(TRACE_SCAN, gp, gp->sched_sp, bytes);
    if (options.checkmark) {
        struct scan_arg a = {.w = w, .st = st};
        scanstack_native(gp, scan_stack_range, &a);
        stack_clear_unused(gp);
    } else if (gc.cycles_started % 8 == 0) {
        stack_release_unused(gp);
    }
    stack_check_guard(gp);
    shrinkstack(gp);
    atomic_store_explicit(&gp->scancycle, gc.scan_epoch, memory_order_relaxed);
    gp->in_shards = false;
    resumeG(st);
    int64_t now = nanotime();
    hist_add(&gc.suspend_hist, (uint64_t)(now - since));
    atomic_fetch_add_explicit(&gc.stack_scan_bytes, bytes,
                              memory_order_relaxed);
    atomic_fetch_add_explicit(&gc.stacks_scanned, 1, memory_order_relaxed);
    return now;
}

static void drop_held(struct gcwork *w, struct held *h)
{
    if (atomic_fetch_sub(&h->left, 1) != 1)
        return;
    finish(w, h->st, h->bytes, h->since);
    sys_free(h);
}

/* It is held: st is not dead. Returns the time. */
static int64_t scan_held(struct gcwork *w, struct suspendGState st,
                         int64_t since)
{
    struct g *gp = st.g;
    trace_event(TRACE_SUSPEND, gp, readgstatus(gp), st.stopped);
    struct scan_arg a = {.w = w, .st = st, .since = since};
    if (likely(SCAN_FAULT(NONE)))
        scanstack(gp, scan_stack_range, &a);
    else
        scanstack_faulty(gp, scan_stack_range, &a);
    if (likely(a.held == NULL))
        return finish(w, st, a.bytes, since);
    a.held->bytes = a.bytes;
    drop_held(w, a.held);
    if (nprocs > 1)
        wakep();
    return nanotime();
}

/* False: it runs, and has been asked to stop. *now is the time. */
static bool try_stack(struct gcwork *w, struct g *gp,
                      struct suspend_request *rq, int64_t *now)
{
    /* In this order: a new life's status comes after the rest of it. */
    if (readgstatus(gp) == Gdead ||
        atomic_load_explicit(&gp->system, memory_order_relaxed) ||
        gc_stack_scanned(gp) || GC_FAULT(STACKS))
        return true;
    struct suspendGState st;
    if (!suspendG_try(gp, rq, &st))
        return false;
    if (st.dead)
        return true;
    if (gc_stack_scanned(gp)) {
        resumeG(st);
        return true;
    }
    *now = scan_held(w, st, *now);
    return true;
}

static bool scan_shard(struct gcwork *w, bool held_only)
{
    struct shard s = {0};
    if (!pop_shard(&s, held_only))
        return false;
    if (s.of == NULL) {
        gc_scan_block(w, s.lo, s.hi);
        return true;
    }
    scan_conservative(s.lo, s.hi, w, !GC_FAULT(PAST_END));
    drop_held(w, s.of);
    return true;
}

bool gc_scan_shard(struct gcwork *w)
{
    return scan_shard(w, false);
}

static void help_on_g0(void *unused)
{
    (void)unused;
    struct m *mp = acquirem();
    struct gcwork *w = &gcp_of(mp->p)->gcw;
    atomic_fetch_add(&gc.nworking, 1);
    scan_shard(w, true);
    gcw_dispose(w);
    atomic_fetch_sub(&gc.nworking, 1);
    gc_maybe_done();
    releasem(mp);
}

/* By a thread that waits for a goroutine's scan bit. If that is held because a
 * deep stack is being scanned, those who scan it may wait for this very P: for
 * their turn on it, or for it to stop. */
void gc_scan_help(void)
{
    struct g *gp = getg();
    if (!gc_shards_left() || gp == NULL || gp->m->p == NULL)
        return;
    systemstack(help_on_g0, NULL);
}

/* --- those that run ---------------------------------------------------------------- */

static void put_aside(struct gcwork *w, struct g *gp,
                      const struct suspend_request *rq)
{
    lock(&gc.buflock);
    uint32_t n = atomic_load_explicit(&list.nasked, memory_order_relaxed);
    if (n == list.asked_cap) {
        uint32_t cap = list.asked_cap ? list.asked_cap * 2 : 64;
        struct asked *more = sys_realloc(list.asked, cap * sizeof(*more));
        if (more == NULL) {
            unlock(&gc.buflock);
            /* Then wait for it. */
            struct suspendGState st = suspendG(gp);
            if (!st.dead && gc_stack_scanned(gp))
                resumeG(st);
            else if (!st.dead)
                scan_held(w, st, nanotime());
            return;
        }
        list.asked = more;
        list.asked_cap = cap;
    }
    list.asked[n] = (struct asked){gp, *rq};
    atomic_store(&list.nasked, n + 1);
    unlock(&gc.buflock);
}

/* gp has been scanned: it need not be waited for any more. */
static void strike_off(struct g *gp)
{
    lock(&gc.buflock);
    uint32_t n = atomic_load_explicit(&list.nasked, memory_order_relaxed);
    for (uint32_t i = 0; i < n; i++)
        if (list.asked[i].g == gp) {
            list.asked[i] = list.asked[--n];
            atomic_store(&list.nasked, n);
            break;
        }
    unlock(&gc.buflock);
    if (n == 0 && atomic_load(&list.driver_sleeps))
        futex_wake(&list.nasked, 1);
}

/* Looks once at each that was asked. */
static void look_again(struct gcwork *w)
{
    uint32_t n = atomic_load(&list.nasked);
    for (uint32_t i = 0; i < n; i++) {
        lock(&gc.buflock);
        uint32_t have =
            atomic_load_explicit(&list.nasked, memory_order_relaxed);
        if (have == 0) {
            unlock(&gc.buflock);
            return;
        }
        /* In turn: the first one goes to the end if it is put aside again. */
        struct asked a = list.asked[0];
        memmove(list.asked, list.asked + 1, (have - 1) * sizeof(a));
        atomic_store(&list.nasked, have - 1);
        unlock(&gc.buflock);
        int64_t now = nanotime();
        if (!try_stack(w, a.g, &a.rq, &now))
            put_aside(w, a.g, &a.rq);
    }
}

#define PATIENCE_LOOKS 10

void gc_wait_asked(void)
{
    for (uint32_t looks = 1;; looks++) {
        struct m *mp = acquirem();
        struct p *pp = mp->p;
        struct gcwork *w = &gcp_of(pp)->gcw;
        /* What it finds is work for others. */
        atomic_fetch_add(&gc.nworking, 1);
        look_again(w);
        while (gc_scan_shard(w))
            ;
        bool found = gcw_dispose(w);
        atomic_fetch_sub(&gc.nworking, 1);
        if (found && nprocs > 1)
            wakep();
        uint32_t n = atomic_load(&list.nasked);
        bool wanted =
            atomic_load_explicit(&sched.gcwaiting, memory_order_relaxed) ||
            atomic_load_explicit(&pp->runSafePointFn, memory_order_relaxed) ||
            atomic_load_explicit(&getg()->preempt, memory_order_relaxed) ||
            (looks % PATIENCE_LOOKS == 0 && !runqempty(pp));
        if (n != 0 && !wanted) {
            atomic_store(&list.driver_sleeps, true);
            futex_wait(&list.nasked, n, REISSUE_NS);
            atomic_store(&list.driver_sleeps, false);
        }
        releasem(mp);
        if (n == 0)
            return;
        if (wanted)
            gosched();
    }
}

/* On g0: gp was asked to stop, and does. */
enum stopping gc_stopping(struct g *gp)
{
    if (atomic_load(&gp->suspenders) != 0)
        return STOPPING_PARK;
    /* Asked by a mark that has found it in the meantime, or is over. */
    if (atomic_load_explicit(&gc.phase, memory_order_relaxed) != GC_MARK ||
        !atomic_load_explicit(&gc.blacken, memory_order_relaxed) ||
        gp->system || gc_stack_scanned(gp))
        return STOPPING_DONE;
    bool deep = gp->stack.hi - gp->sched_sp > 2 * SHARD;
    struct m *mp = acquirem();
    struct p *pp = mp->p;
    struct gcwork *w = &gcp_of(pp)->gcw;
    int64_t since = nanotime();
    atomic_fetch_add(&gc.nworking, 1);
    casGToWaiting(gp, Grunning, deep ? WAIT_PREEMPTED : WAIT_GC_SELF_SCAN);
    if (deep)
        dropg();
    delay_point("gc_stopping");
    /* Somebody else may be faster. */
    while (!castogscanstatus(gp, Gwaiting, Gwaiting | Gscan)) {
        procyield(10);
        gc_scan_help();
    }
    struct suspendGState st = {gp, false, deep};
    if (gc_stack_scanned(gp))
        resumeG(st);
    else
        scan_held(w, st, since);
    if (!deep)
        casgstatus(gp, Gwaiting, Grunning);
    strike_off(gp);
    bool found = gcw_dispose(w);
    atomic_fetch_sub(&gc.nworking, 1);
    gc_maybe_done();
    if (found && nprocs > 1)
        wakep();
    releasem(mp);
    return deep ? STOPPING_LEFT : STOPPING_DONE;
}

/* --- blocks ------------------------------------------------------------------------ */

ALWAYS_INLINE void prefetch_stack(size_t i)
{
    struct g *gp = allg_at(i);
    const char *sp =
        (const char *)__atomic_load_n(&gp->sched_sp, __ATOMIC_RELAXED);
    __builtin_prefetch(sp);
    __builtin_prefetch(sp + CACHE_LINE);
    __builtin_prefetch(sp + 2 * CACHE_LINE);
    __builtin_prefetch(sp + 3 * CACHE_LINE);
}

void gc_scan_block(struct gcwork *w, size_t lo, size_t hi)
{
    struct p *pp = getg()->m->p;
    uint64_t scanned0 = w->scanned;
    int64_t now = nanotime();
    for (size_t i = lo; i < hi; i++) {
        if (!TARN_TSAN && i + 2 * PREFETCH_AHEAD < hi) {
            const char *next = (const char *)allg_at(i + 2 * PREFETCH_AHEAD);
            __builtin_prefetch(next, 1);
            __builtin_prefetch(next + CACHE_LINE, 1);
            prefetch_stack(i + PREFETCH_AHEAD);
        }
        struct g *gp = allg_at(i);
        struct suspend_request rq = SUSPEND_REQUEST_INIT;
        if (!try_stack(w, gp, &rq, &now)) {
            put_aside(w, gp, &rq);
            now = nanotime();
        }
        bool wanted =
            w->scanned - scanned0 > BLOCK_BYTES ||
            atomic_load_explicit(&sched.gcwaiting, memory_order_relaxed) ||
            atomic_load_explicit(&pp->runSafePointFn, memory_order_relaxed);
        if (unlikely(wanted) && i + 1 < hi && push_shard(NULL, i + 1, hi))
            return;
    }
}
