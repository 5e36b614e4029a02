/* sched/time.c - timers: a 4-ary heap for each P, sleep, tarn_timer.
 *
 * A timer is in the heap of the P on which it was added until it fires or is
 * deleted; t->pp says which, t->index (0: none) where in it. Both change only
 * under that heap's lock. when0 lets everybody see without it whether there is
 * anything to do.
 *
 * Invariants, with ts->lock held
 *  1. heap[i]->when >= heap[(i-1)/4]->when and heap[i]->index == i + 1.
 *  2. when0 is heap[0]->when, or 0 if len is 0; every when is > 0.
 *  3. A timer is out of the heap before its function runs, and the runtime does
 *     not touch it afterwards but through the function's argument: the function
 *     may free it or add it again.
 *
 * A struct timer lives in managed memory (tarn_timer) or in memory that never
 * moves (a sleeper's), never on a goroutine's stack.
 */
#include "sched/sched.h"

#include "base/sysmem.h"

#define TIMER_RETRY_NS 1000000

/* --- the heap ------------------------------------------------------------ */

void timers_init(struct timers *ts)
{
    mutex_init(&ts->lock, RANK_TIMERS);
    ts->heap = NULL;
    ts->len = 0;
    ts->cap = 0;
    atomic_store_explicit(&ts->when0, 0, memory_order_relaxed);
}

static void place(struct timers *ts, uint32_t i, struct timer *t)
{
    ts->heap[i] = t;
    t->index = i + 1;
}

static void sift_up(struct timers *ts, uint32_t i, struct timer *t)
{
    while (i > 0) {
        uint32_t parent = (i - 1) / 4;
        if (ts->heap[parent]->when <= t->when)
            break;
        place(ts, i, ts->heap[parent]);
        i = parent;
    }
    place(ts, i, t);
}

static void sift_down(struct timers *ts, uint32_t i, struct timer *t)
{
    for (;;) {
        uint64_t first = (uint64_t)i * 4 + 1;
        if (first >= ts->len)
            break;
        uint32_t best = (uint32_t)first;
        for (uint64_t k = first + 1; k < first + 4 && k < ts->len; k++)
            if (ts->heap[k]->when < ts->heap[best]->when)
                best = (uint32_t)k;
        if (ts->heap[best]->when >= t->when)
            break;
        place(ts, i, ts->heap[best]);
        i = best;
    }
    place(ts, i, t);
}

static void publish_when0(struct timers *ts)
{
    atomic_store(&ts->when0, ts->len > 0 ? ts->heap[0]->when : 0);
}

/* On g0: an allocator's frames are too large for a goroutine's stack. */
static void grow(void *arg)
{
    struct timers *ts = arg;
    uint32_t cap = ts->cap == 0 ? 16 : ts->cap * 2;
    struct timer **h = NULL;
    if (cap > ts->cap)
        h = sys_realloc(ts->heap, (size_t)cap * sizeof *h);
    if (h == NULL)
        throw("timers: no memory for more than %u on a P", ts->cap);
    ts->heap = h;
    ts->cap = cap;
}

static void remove_at(struct timers *ts, uint32_t i)
{
    struct timer *t = ts->heap[i], *last = ts->heap[--ts->len];
    if (last != t) {
        if (i > 0 && last->when < ts->heap[(i - 1) / 4]->when)
            sift_up(ts, i, last);
        else
            sift_down(ts, i, last);
    }
    t->index = 0;
    atomic_store_explicit(&t->pp, NULL, memory_order_release);
    publish_when0(ts);
}

#if TARN_CHECKS >= 3
static void check_heap(const struct timers *ts)
{
    for (uint32_t i = 0; i < ts->len; i++) {
        ASSERT(ts->heap[i]->index == i + 1);
        ASSERT(i == 0 || ts->heap[i]->when >= ts->heap[(i - 1) / 4]->when);
    }
}
#else
#define check_heap(ts) ((void)(ts))
#endif

/* The caller is a goroutine, or on g0 with a P; no lock of rank TIMERS or above
 * is held. */
void timer_add(struct timer *t)
{
    ASSERT(t->when > 0 && t->index == 0);
    struct p *pp = getg()->m->p;
    struct timers *ts = &pp->timers;
    int64_t when = t->when;
    lock(&ts->lock);
    if (ts->len == ts->cap)
        systemstack(grow, ts);
    atomic_store_explicit(&t->pp, pp, memory_order_relaxed);
    sift_up(ts, ts->len++, t);
    bool first = ts->heap[0] == t;
    publish_when0(ts);
    check_heap(ts);
    unlock(&ts->lock);
    /* From here on t may have fired. A timer behind another of the same P
     * changes nothing for who sleeps until the first one. */
    if (first)
        timer_wake_sleeper(when);
}

bool timer_del(struct timer *t)
{
    for (;;) {
        struct p *pp = atomic_load_explicit(&t->pp, memory_order_acquire);
        if (pp == NULL)
            return false;
        struct timers *ts = &pp->timers;
        lock(&ts->lock);
        if (atomic_load_explicit(&t->pp, memory_order_relaxed) == pp) {
            remove_at(ts, t->index - 1);
            check_heap(ts);
            unlock(&ts->lock);
            return true;
        }
        unlock(&ts->lock); /* it fired, and may have been added elsewhere */
    }
}

/* Runs what is due at now (0: the present time), or less if the world is to be
 * stopped: the rest stays due. Where there is a next timer, *polluntil is
 * lowered to its time, 0 counting as never. *ran: whether one ran. On g0 with a P, which need not be
 * pp. */
int64_t checkTimers(struct p *pp, int64_t now, int64_t *polluntil, bool *ran)
{
    struct timers *ts = &pp->timers;
    int64_t next = atomic_load(&ts->when0);
    bool any = false;
    *ran = false;
    if (next == 0)
        return 0;
    if (now == 0)
        now = nanotime();
    if (next <= now) {
        lock(&ts->lock);
        while (ts->len > 0 && ts->heap[0]->when <= now &&
               !atomic_load_explicit(&sched.gcwaiting, memory_order_relaxed)) {
            struct timer *t = ts->heap[0];
            void (*f)(void *) = t->f;
            void *arg = t->arg;
            remove_at(ts, 0);
            unlock(&ts->lock);
            delay_point("timer: out of the heap, not yet run");
            f(arg);
            any = true;
            lock(&ts->lock);
        }
        next = ts->len > 0 ? ts->heap[0]->when : 0;
        unlock(&ts->lock);
        *ran = any;
    }
    if (polluntil != NULL && next != 0 &&
        (*polluntil == 0 || next < *polluntil))
        *polluntil = next;
    return next;
}

/* No lock is taken: who holds a P stands still, and others read when0 only. */
bool timers_reserve(struct p *to, uint32_t first)
{
    struct timers *ts = &to->timers;
    uint64_t n = ts->len;
    for (uint32_t i = first; i < nprocs; i++)
        if (allp[i] != to)
            n += allp[i]->timers.len;
    if (n <= ts->cap)
        return true;
    uint64_t cap = ts->cap == 0 ? 16 : ts->cap;
    while (cap < n)
        cap *= 2;
    struct timer **h = NULL;
    if (cap <= UINT32_MAX)
        h = sys_realloc(ts->heap, (size_t)cap * sizeof *h);
    if (h == NULL)
        return false;
    ts->heap = h;
    ts->cap = (uint32_t)cap;
    return true;
}

/* The root job of `to` may have been done, that of `from` not yet. */
void timers_move(struct p *to, struct p *from)
{
    struct timers *ts = &to->timers, *fs = &from->timers;
    ASSERT(ts->len + fs->len <= ts->cap);
    for (uint32_t i = 0; i < fs->len; i++) {
        struct timer *t = fs->heap[i];
        if (sched_hooks.shade) {
            sched_hooks.shade(t->keep);
            sched_hooks.shade(t->arg);
        }
        atomic_store_explicit(&t->pp, to, memory_order_release);
        sift_up(ts, ts->len++, t);
    }
    /* In this order: who looks at all of them without a lock misses none that is
     * in both places, and one that looked between is woken when the world starts. */
    publish_when0(ts);
    check_heap(ts);
    fs->len = 0;
    publish_when0(fs);
}

int64_t timers_next(void)
{
    int64_t next = 0;
    for (uint32_t i = 0, n = procs_now(); i < n; i++) {
        int64_t w = atomic_load(&allp[i]->timers.when0);
        if (w != 0 && (next == 0 || w < next))
            next = w;
    }
    return next;
}

/* Holds the lock throughout: a timer that changes its place between two looks
 * could be missed. fn takes no lock of rank TIMERS or below. */
void timers_each(struct p *pp, void (*fn)(const void *p, void *arg), void *arg)
{
    struct timers *ts = &pp->timers;
    lock(&ts->lock);
    for (uint32_t i = 0; i < ts->len; i++) {
        fn(ts->heap[i]->keep, arg);
        fn(ts->heap[i]->arg, arg);
    }
    unlock(&ts->lock);
}

/* now + ns, not beyond the end of time. ns >= 0. */
static int64_t deadline(int64_t ns)
{
    int64_t when;
    if (__builtin_add_overflow(nanotime(), ns, &when))
        when = INT64_MAX;
    return when > 0 ? when : 1;
}

/* --- sleep --------------------------------------------------------------- */

/* One for each goroutine that sleeps, kept for the next when it is done. */
struct sleeper {
    struct timer t;
    struct sleeper *next;
};

static struct {
    struct mutex lock;
    struct sleeper *free;
} sleepers = {.lock = MUTEX_INIT(LEAF)};

static void new_sleeper(void *arg)
{
    *(struct sleeper **)arg = sys_alloc(sizeof(struct sleeper));
}

static struct sleeper *get_sleeper(void)
{
    lock(&sleepers.lock);
    struct sleeper *s = sleepers.free;
    if (s != NULL)
        sleepers.free = s->next;
    unlock(&sleepers.lock);
    if (s == NULL) {
        systemstack(new_sleeper, &s);
        if (s == NULL)
            throw("tarn_sleep: no memory for a timer");
    }
    return s;
}

static void put_sleeper(struct sleeper *s)
{
    lock(&sleepers.lock);
    s->next = sleepers.free;
    sleepers.free = s;
    unlock(&sleepers.lock);
}

static void wake_sleeping(void *gp)
{
    goready(gp);
}

/* Armed here, where the goroutine is parked already: it may fire at once. */
static bool sleep_commit(struct g *gp, void *t)
{
    (void)gp;
    timer_add(t);
    return true;
}

void tarn_sleep(int64_t ns)
{
    if (!require_goroutine("tarn_sleep"))
        return;
    preempt_check();
    if (ns <= 0) {
        gosched();
        return;
    }
    struct sleeper *s = get_sleeper();
    s->t.when = deadline(ns);
    s->t.f = wake_sleeping;
    s->t.arg = getg();
    s->t.keep = NULL;
    gopark(sleep_commit, &s->t, WAIT_SLEEP);
    put_sleeper(s);
}

int64_t tarn_now(void)
{
    return nanotime();
}

/* --- tarn_timer ---------------------------------------------------------- */

struct tarn_timer { /* a managed object, scanned conservatively */
    struct timer t;
    uint64_t sig; /* TIMER_SIG: tells a timer from a mistake */
    tarn_fn fn;
    void *arg;
};
#define TIMER_SIG UINT64_C(0x54494d4552)

/* On g0. The new goroutine's argument is a root of its own, but this timer is
 * out of the heap, where the collector may have been about to look. */
static void start_goroutine(void *arg)
{
    tarn_timer *t = arg;
    sched_hooks.shade(t->arg);
    if (newproc(t->fn, t->arg, NULL, false) != NULL)
        return;
    /* No memory for a goroutine, for now. Late is better than never. */
    t->t.when = deadline(TIMER_RETRY_NS);
    sched_hooks.shade(t);
    timer_add(&t->t);
}

tarn_timer *tarn_timer_start(int64_t ns, tarn_fn fn, void *arg)
{
    if (!require_goroutine("tarn_timer_start"))
        return NULL;
    preempt_check();
    if (fn == NULL) {
        set_error("tarn_timer_start: fn is NULL");
        return NULL;
    }
    tarn_timer *t = sched_hooks.alloc(sizeof *t, LAYOUT_CONSERVATIVE);
    if (t == NULL)
        return NULL;
    t->sig = TIMER_SIG;
    t->fn = fn;
    sched_hooks.bulk_barrier(&t->arg, &arg, sizeof arg);
    t->arg = arg;
    t->t.when = deadline(ns > 0 ? ns : 0);
    t->t.f = start_goroutine;
    t->t.arg = t;
    t->t.keep = t;
    /* If a mark is on, the roots may have been looked at, and t itself is new
     * and will not be looked into. */
    sched_hooks.shade(t);
    timer_add(&t->t);
    return t;
}

bool tarn_timer_stop(tarn_timer *t)
{
    if (!require_goroutine("tarn_timer_stop"))
        return false;
    preempt_check();
    if (t == NULL)
        return false;
    ASSERT(t->sig == TIMER_SIG);
    if (!timer_del(&t->t))
        return false;
    /* Not a root any more, but the caller may go on to use what it reaches. */
    sched_hooks.shade(t);
    sched_hooks.shade(t->arg);
    return true;
}
