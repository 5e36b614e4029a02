/* gc/malloc.c - tarn_alloc and its kin: the cache's bump, and behind it refills,
 * triggers, assists, and what happens when memory runs out. */
#include "base/options.h"
#include "gc/events.h"
#include "gc/gc.h"
#include "tarn/sync.h"

void gc_malloc_init(struct mcache *c)
{
    if (options.gcstress != 0 || options.checkmark || options.barriercheck)
        c->fast = NULL; /* all allocations come to alloc_slow */
}

static bool may_allocate(void)
{
    struct g *gp = getg();
    if (unlikely(gp == NULL || gp->kind == STACK_SYSTEM))
        return require_goroutine("tarn_alloc");
    if (unlikely(gp->worldstopped)) {
        set_error("tarn_alloc: goroutine %llu has stopped the world",
                  (unsigned long long)gp->goid);
        return false;
    }
    return true;
}

/* An object out of the cache of this P, and how much a refill made allocatable
 * for it. One step: nothing can move us to another P between. Or memory for a large
 * object, which is another step. */
struct taken {
    uint32_t slot;
    size_t large; /* != 0: bytes of a large object */
    struct heap_large memory;
    uintptr_t p;
    size_t refilled;
    bool ok, sampled;
};

/* Option barriercheck. In the step in which the place becomes an object: the next
 * mark may end before the caller has it. */
static void start_shadow(uintptr_t p)
{
    struct objinfo o;
    if (heap_find(p, &o))
        barriercheck_new(o.base, o.size);
}

static void take_here(void *vt)
{
    struct taken *t = vt;
    struct m *mp = acquirem();
    struct p *pp = mp->p;
    if (t->large != 0) {
        t->ok = heap_large_take(&t->memory, t->large);
    } else {
        t->p = mcache_alloc(&pp->mcache, t->slot);
        if (t->p == 0 &&
            (t->refilled = mcache_refill(&pp->mcache, t->slot)) != 0)
            t->p = mcache_alloc(&pp->mcache, t->slot);
        t->ok = t->p != 0;
        if (unlikely(options.barriercheck) && t->ok)
            start_shadow(t->p);
        if (unlikely(pp->mcache.sampled) && t->ok) {
            pp->mcache.sampled = false;
            t->sampled = true;
        }
    }
    releasem(mp);
}

/* The bounds of free runs are addresses of other objects, perhaps dead ones.
 * Under checkmark they must not come to lie in dead words of a stack or in
 * registers: keep them on g0. */
static void take(struct taken *t)
{
    if (unlikely(options.checkmark))
        systemstack(take_here, t);
    else
        take_here(t);
}

/* Whoever finds no memory has everybody else wait who would take what a collection
 * frees, and collects: once for what is garbage now, once more for what others
 * allocated from their caches during the first mark, and what that kept. */
#define OOM_TRIES 2
static tarn_mutex oom_turn;
static _Atomic bool oom;

/* What the program does about it: read with both words of one setting. */
static struct {
    struct mutex lock;
    tarn_oom_handler fn;
    void *arg;
} handler = {.lock = MUTEX_INIT(LEAF)};
static _Atomic uint64_t in_handler; /* goroutine that runs it, with oom_turn */

tarn_status tarn_set_oom_handler(tarn_oom_handler fn, void *arg)
{
    lock(&handler.lock);
    handler.fn = fn;
    handler.arg = arg;
    unlock(&handler.lock);
    return TARN_OK;
}

void tarn_set_fatal_handler(tarn_fatal_handler fn)
{
    atomic_store(&base_hooks.last, fn);
}

/* With oom_turn. True: collect and try again. */
static bool ask_handler(size_t size)
{
    lock(&handler.lock);
    tarn_oom_handler fn = handler.fn;
    void *arg = handler.arg;
    unlock(&handler.lock);
    if (fn == NULL)
        return false;
    atomic_store(&oom, false); /* it may need some of what others wait for */
    atomic_store(&in_handler, getg()->goid);
    bool again = fn(size, arg);
    atomic_store(&in_handler, 0);
    atomic_store(&oom, true);
    return again;
}

bool gc_in_oom_handler(void)
{
    return atomic_load_explicit(&in_handler, memory_order_relaxed) ==
           getg()->goid;
}

static NOINLINE bool take_last(struct taken *t, size_t size)
{
    bool by_handler = gc_in_oom_handler();
    if (gc.on && !by_handler) {
        tarn_mutex_lock(&oom_turn);
        atomic_store(&oom, true);
        /* Who had the turn before us may have made room for both. */
        take(t);
        do {
            for (int i = 0; !t->ok && i < OOM_TRIES; i++) {
                if (tarn_gc() != TARN_OK)
                    break;
                take(t);
            }
        } while (!t->ok && ask_handler(size));
        atomic_store(&oom, false);
        tarn_mutex_unlock(&oom_turn);
        if (t->ok)
            return true;
    }
    set_error("out of memory: %zu bytes, with %llu bytes live of heapmax %llu",
              size, (unsigned long long)atomic_load(&heap.live),
              (unsigned long long)(heap.hi - heap.lo));
    if (events_wanted())
        event_alloc_failed(size);
    /* The handler may have something to let go of yet. */
    if (options.oom == TARN_OOM_THROW && !by_handler)
        throw("%s", tarn_last_error());
    return false;
}

/* False: there is no memory, and an error is set. */
static bool take_patiently(struct taken *t, size_t size)
{
    if (unlikely(atomic_load_explicit(&oom, memory_order_relaxed)) &&
        !gc_in_oom_handler()) {
        tarn_mutex_lock(&oom_turn);
        tarn_mutex_unlock(&oom_turn);
    }
    take(t);
    return likely(t->ok) || take_last(t, size);
}

/* What short runs make allocatable is paid for in parts of this size. */
#define PAY_LEAST ((size_t)1024)

static NOINLINE void *pay(struct mcache *c, void *p)
{
    void *volatile keep = p;
    size_t n = c->unpaid;
    c->unpaid = 0;
    gc_allocated(n);
    return keep;
}

/* The most frequent case, without all that the others need. NULL: one of those. */
ALWAYS_INLINE void *alloc_next_run(uint32_t slot)
{
    struct g *gp = getg();
    if (unlikely(local_cache() == NULL) || unlikely(gp->kind == STACK_SYSTEM) ||
        unlikely(atomic_load_explicit(&gp->preempt, memory_order_relaxed)))
        return NULL;
    struct mcache *c = &gp->m->p->mcache;
    if (!mcache_next_run(c, &c->entries[slot]))
        return NULL;
    void *p = (void *)mcache_alloc(c, slot);
    return likely(c->unpaid < PAY_LEAST) ? p : pay(c, p);
}

static NOINLINE void *alloc_slower(uint32_t slot, size_t size)
{
    if (!may_allocate())
        return NULL;
    preempt_check();
    if (unlikely(options.gcstress != 0)) {
        struct gcp *g = gcp_of(getg()->m->p);
        if (++g->allocs % (uint64_t)options.gcstress == 0) {
            /* Requests during a cycle coalesce; so that fast allocators do
             * not outrun the collector, every eighth waits for a whole one. */
            uint64_t k = g->allocs / (uint64_t)options.gcstress;
            if (k % 32 == 0) {
                tarn_gc();
            } else if (k % 8 == 0) {
                gc_collect_young();
            } else {
                gc_request();
                goyield();
            }
        }
    }
    struct taken t = {.slot = slot};
    if (!take_patiently(&t, size))
        return NULL;
    void *volatile keep = (void *)t.p;
    if (unlikely(t.sampled))
        profile_alloc(t.p, getg()->m->p->mcache.entries[slot].size);
    if (t.refilled != 0)
        gc_allocated(t.refilled);
    return keep;
}

/* Small, so that it saves few registers. */
static NOINLINE void *alloc_slow(uint32_t slot, size_t size)
{
    void *next = alloc_next_run(slot);
    return likely(next != NULL) ? next : alloc_slower(slot, size);
}

/* Then others may have the P, or the world. */
#define ZERO_STEP ((size_t)128 << 10)

static void zero_some(void *vt)
{
    struct taken *t = vt;
    t->ok = heap_large_zero(&t->memory, ZERO_STEP);
}

static NOINLINE void *alloc_large(size_t n, enum layout layout, tarn_type *type)
{
    if (!may_allocate())
        return NULL;
    if (n > (size_t)PTRDIFF_MAX) {
        set_error("tarn_alloc: size %zu overflows", n);
        return NULL;
    }
    preempt_check();
    struct taken t = {.large = n};
    if (!take_patiently(&t, n))
        return NULL;
    for (;;) {
        if (unlikely(options.checkmark))
            systemstack(zero_some, &t); /* see take */
        else
            zero_some(&t);
        if (!t.ok)
            break;
        preempt_check();
    }
    struct m *mp = acquirem();
    void *volatile keep = (void *)heap_large_publish(&t.memory, layout, type);
    if (unlikely(options.barriercheck))
        start_shadow((uintptr_t)keep);
    bool sampled = heap_sample_large(&mp->p->mcache, t.memory.size);
    releasem(mp);
    if (unlikely(sampled))
        profile_alloc((uintptr_t)keep, t.memory.size);
    gc_allocated(n);
    return keep;
}

ALWAYS_INLINE void *alloc_slot(uint32_t slot, size_t size)
{
    struct mcache_entry *cache = local_cache();
    uintptr_t p = likely(cache != NULL) ? entry_alloc(&cache[slot]) : 0;
    return likely(p != 0) ? (void *)p : alloc_slow(slot, size);
}

void *tarn_alloc(tarn_type *type)
{
    if (unlikely(type == NULL)) {
        set_error("tarn_alloc: no type");
        return NULL;
    }
    if (unlikely(type->slot == NO_SLOT))
        return alloc_large(type->size, type->layout, type);
    return alloc_slot(type->slot, type->size);
}

void *tarn_alloc_array(tarn_type *type, size_t n)
{
    size_t bytes;
    if (type == NULL ||
        __builtin_mul_overflow(type ? type->size : 0, n, &bytes) ||
        bytes > (size_t)PTRDIFF_MAX) {
        if (type == NULL)
            set_error("tarn_alloc_array: no type");
        else
            set_error("tarn_alloc_array: %zu times %zu bytes overflows", n,
                      type->size);
        return NULL;
    }
    if (bytes > MAX_SMALL)
        return alloc_large(bytes, type->layout, type);
    uint32_t slot = type_array_slot(type, size_to_class(bytes ? bytes : 1));
    if (unlikely(slot == NO_SLOT)) {
        set_error("tarn_alloc_array: too many kinds of arrays (%u)", MAX_SLOTS);
        return NULL;
    }
    return alloc_slot(slot, bytes);
}

void *tarn_alloc_bytes(size_t n)
{
    if (unlikely(n > MAX_SMALL))
        return alloc_large(n, LAYOUT_NOSCAN, NULL);
    return alloc_slot(SLOT_NOSCAN(size_to_class(n ? n : 1)), n);
}

void *tarn_alloc_conservative(size_t n)
{
    if (unlikely(n > MAX_SMALL))
        return alloc_large(n, LAYOUT_CONSERVATIVE, NULL);
    return alloc_slot(SLOT_CONSERVATIVE(size_to_class(n ? n : 1)), n);
}

void *tarn_alloc_call(tarn_type *type) __attribute__((alias("tarn_alloc")));
void *tarn_alloc_bytes_call(size_t n)
    __attribute__((alias("tarn_alloc_bytes")));
void *tarn_alloc_conservative_call(size_t n)
    __attribute__((alias("tarn_alloc_conservative")));
