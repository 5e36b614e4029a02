/* stackscan/stackmem.c - where stacks come from.
 *
 * Copying stacks of the four smallest sizes live in chunks of 4 MiB and go round
 * through a per-P cache and a global pool. A chunk knows who owns each of its
 * stacks, so that a clock hand can go over the stacks in use and find goroutines
 * that do not need theirs (freeze.c). Larger ones are reservations of stackmax
 * bytes in which a stack grows downwards in place: growth beyond the smallest
 * sizes copies nothing. Fixed stacks are mapped one by one with a guard page; a
 * dead G keeps its fixed stack, which is their cache.
 *
 * A free stack is linked through its highest words: those were touched before,
 * the low ones perhaps never. Of the stacks in the pool that a whole collection
 * cycle did not need, the collector gives the memory back ("cold" ones: known by
 * an array, not a list, so that their memory stays untouched). */
#include "stackscan/stackmem.h"
#include "base/options.h"
#include "base/sysmem.h"
#include "base/vm.h"

struct stack_stats stack_stats;

#define LARGE_KEPT 8
#define LARGE_WARM ((size_t)1 << 20) /* of a kept one: what stays in memory */

/* Free stacks that a P keeps, by order; what overflows goes in halves. */
static const uint32_t cache_max[STACK_ORDERS] = {64, 16, 8, 4};

struct free_stack {
    struct free_stack *next;
    uintptr_t lo;
};

struct cache {
    struct free_stack *head[STACK_ORDERS];
    uint32_t n[STACK_ORDERS];
};

static struct {
    struct mutex lock;
    struct free_stack *head[STACK_ORDERS];
    uint32_t n[STACK_ORDERS];
    uint32_t low[STACK_ORDERS]; /* smallest n since the last trim */
    struct {
        uintptr_t *lo;
        uint32_t n, cap;
    } cold[STACK_ORDERS];
    struct large *kept; /* free reservations, youngest first */
    uint32_t nkept, kept_low;
    struct large *used, *used_last; /* those of goroutines */
    uint32_t nused;
} pool = {.lock = MUTEX_INIT(STACKPOOL)};

struct stack_chunk *_Atomic stack_chunks;

/* Which chunk holds an address: two levels over the bits above CHUNK. */
#define LEAF_BITS 13
#define ROOT_BITS (47 - 22 - LEAF_BITS)
static struct stack_chunk **_Atomic chunk_map[1u << ROOT_BITS];
OWN_DATA(chunk_map)

static struct stack_chunk *chunk_of(uintptr_t lo)
{
    uintptr_t n = lo / STACK_CHUNK;
    struct stack_chunk **leaf =
        atomic_load_explicit(&chunk_map[n >> LEAF_BITS], memory_order_acquire);
    return leaf[n & ((1u << LEAF_BITS) - 1)];
}

static struct g *_Atomic *owner_of(uintptr_t lo)
{
    struct stack_chunk *c = chunk_of(lo);
    return &c->owner[(lo - c->lo) / STACK_MIN];
}

static int order_of(size_t size)
{
    for (int i = 0; i < STACK_ORDERS; i++)
        if (size == STACK_MIN << i)
            return i;
    return -1;
}

static void push(struct free_stack **head, uintptr_t lo, size_t size)
{
    struct free_stack *f = (struct free_stack *)(lo + size - sizeof(*f));
    f->lo = lo;
    f->next = *head;
    *head = f;
}

static uintptr_t pop(struct free_stack **head)
{
    struct free_stack *f = *head;
    if (f == NULL)
        return 0;
    uintptr_t lo = f->lo;
    *head = f->next;
    /* They lie where the new owner's frames are looked through, and would be
     * taken for pointers into stacks. */
    f->next = NULL;
    f->lo = 0;
    return lo;
}

/* --- chunks and the pool ------------------------------------------------------- */

/* Of the smallest stacks, in the order they were made, for who goes over them
 * without the lock. An array that is outgrown stays for its readers: all of them
 * together are no larger than the last. Lock held. */
static struct stack_chunk **_Atomic smallest;
static uint32_t smallest_cap;
_Atomic uint32_t stack_smallest_count;

struct stack_chunk *stack_smallest(uint32_t i)
{
    return atomic_load_explicit(&smallest, memory_order_acquire)[i];
}

static bool list_smallest(struct stack_chunk *c)
{
    uint32_t n =
        atomic_load_explicit(&stack_smallest_count, memory_order_relaxed);
    struct stack_chunk **a =
        atomic_load_explicit(&smallest, memory_order_relaxed);
    if (n == smallest_cap) {
        uint32_t cap = n == 0 ? 64 : 2 * n;
        struct stack_chunk **b = sys_alloc(cap * sizeof(*b));
        if (b == NULL)
            return false;
        for (uint32_t i = 0; i < n; i++)
            b[i] = a[i];
        smallest_cap = cap;
        atomic_store_explicit(&smallest, b, memory_order_release);
        a = b;
    }
    a[n] = c;
    atomic_store_explicit(&stack_smallest_count, n + 1, memory_order_release);
    return true;
}

/* Puts c where chunk_of finds it. Lock held. */
static bool map_chunk(struct stack_chunk *c)
{
    uintptr_t n = c->lo / STACK_CHUNK;
    struct stack_chunk **leaf =
        atomic_load_explicit(&chunk_map[n >> LEAF_BITS], memory_order_relaxed);
    if (leaf == NULL) {
        leaf = sys_alloc(sizeof(*leaf) << LEAF_BITS);
        if (leaf == NULL)
            return false;
        atomic_store_explicit(&chunk_map[n >> LEAF_BITS], leaf,
                              memory_order_release);
    }
    if (c->order == 0 && !list_smallest(c))
        return false;
    leaf[n & ((1u << LEAF_BITS) - 1)] = c;
    c->next = atomic_load_explicit(&stack_chunks, memory_order_relaxed);
    atomic_store_explicit(&stack_chunks, c, memory_order_release);
    return true;
}

/* One more chunk of stacks of this order for the pool. Lock held. */
static bool pool_grow(int order)
{
    size_t size = STACK_MIN << order;
    uintptr_t *cold = sys_realloc(pool.cold[order].lo,
                                  (pool.cold[order].cap + STACK_CHUNK / size) *
                                      sizeof(*cold));
    if (cold == NULL)
        return false;
    pool.cold[order].lo = cold;
    struct stack_chunk *c = sys_alloc(sizeof(*c));
    if (c == NULL)
        return false;
    c->lo = (uintptr_t)vm_reserve(STACK_CHUNK, STACK_CHUNK);
    c->order = order;
    if (c->lo == 0)
        goto fail;
    if (!vm_commit((void *)c->lo, STACK_CHUNK) || !map_chunk(c)) {
        vm_release((void *)c->lo, STACK_CHUNK);
        goto fail;
    }
    vm_nohugepage((void *)c->lo, STACK_CHUNK);
    pool.cold[order].cap += STACK_CHUNK / size;
    atomic_fetch_add_explicit(&stack_stats.mapped, STACK_CHUNK,
                              memory_order_relaxed);
    atomic_fetch_add_explicit(&stack_stats.made[order], STACK_CHUNK / size,
                              memory_order_relaxed);
    /* Untouched: as good as given back. The highest come out first. */
    for (size_t off = 0; off < STACK_CHUNK; off += size)
        cold[pool.cold[order].n++] = c->lo + off;
    return true;
fail:
    sys_free(c);
    return false;
}

/* Lock held. 0: none without more memory. */
static uintptr_t pool_pop(int order)
{
    uintptr_t lo = pop(&pool.head[order]);
    if (lo != 0) {
        if (--pool.n[order] < pool.low[order])
            pool.low[order] = pool.n[order];
    } else if (pool.cold[order].n != 0) {
        lo = pool.cold[order].lo[--pool.cold[order].n];
    }
    return lo;
}

static void pool_push(int order, uintptr_t lo)
{
    push(&pool.head[order], lo, STACK_MIN << order);
    pool.n[order]++;
}

static struct cache *my_cache(void)
{
    struct g *gp = getg();
    struct p *pp = gp != NULL ? gp->m->p : NULL;
    if (pp == NULL)
        return NULL;
    if (pp->stackcache == NULL)
        pp->stackcache = sys_alloc(sizeof(struct cache));
    return pp->stackcache;
}

/* From the pool into c as many as it shall hold of warm ones, and one for the
 * caller. */
static uintptr_t refill(struct cache *c, int order, bool grow)
{
    lock(&pool.lock);
    uintptr_t lo = pool_pop(order);
    if (lo == 0 && grow && pool_grow(order))
        lo = pool_pop(order);
    if (c != NULL)
        while (c->n[order] < cache_max[order] / 2 && pool.n[order] != 0) {
            push(&c->head[order], pool_pop(order), STACK_MIN << order);
            c->n[order]++;
        }
    unlock(&pool.lock);
    return lo;
}

static uintptr_t small_alloc(int order)
{
    struct cache *c = my_cache();
    for (int tries = 0;; tries++) {
        if (c != NULL && c->head[order] != NULL) {
            c->n[order]--;
            return pop(&c->head[order]);
        }
        /* Many stacks exist: rather than make more, take those of goroutines
         * that have long been waiting. */
        bool many = order == 0 && c != NULL && tries == 0 &&
                    atomic_load_explicit(&stack_stats.made[0],
                                         memory_order_relaxed) >= STACKS_HOT;
        uintptr_t lo = refill(c, order, !many);
        if (lo != 0)
            return lo;
        if (!many && (order != 0 || c == NULL || tries > 1))
            return 0;
        /* Or there is no memory for more. */
        stacks_reclaim(!many);
    }
}

static void small_free(int order, uintptr_t lo)
{
    size_t size = STACK_MIN << order;
    struct cache *c = my_cache();
    if (c == NULL) {
        lock(&pool.lock);
        pool_push(order, lo);
        unlock(&pool.lock);
        return;
    }
    push(&c->head[order], lo, size);
    if (++c->n[order] <= cache_max[order])
        return;
    lock(&pool.lock);
    while (c->n[order] > cache_max[order] / 2) {
        pool_push(order, pop(&c->head[order]));
        c->n[order]--;
    }
    unlock(&pool.lock);
}

void stacks_p_end(struct p *pp)
{
    struct cache *c = pp->stackcache;
    if (c == NULL)
        return;
    lock(&pool.lock);
    for (int order = 0; order < STACK_ORDERS; order++)
        for (; c->n[order] != 0; c->n[order]--)
            pool_push(order, pop(&c->head[order]));
    unlock(&pool.lock);
}

bool stackmem_ready(void)
{
    struct cache *c = my_cache();
    if (c == NULL || c->head[0] != NULL)
        return true;
    uintptr_t lo = refill(c, 0, true);
    if (lo == 0)
        return false;
    push(&c->head[0], lo, STACK_MIN);
    c->n[0]++;
    return true;
}

/* --- large ones ------------------------------------------------------------------ */

static size_t reservation(size_t size)
{
    size_t r = size;
    while (r * 2 <= (size_t)options.stackmax)
        r *= 2;
    return r;
}

static struct large *large_map(size_t size)
{
    struct large *l = sys_alloc(sizeof(*l));
    if (l == NULL)
        return NULL;
    /* Less where address space is short. */
    for (size_t r = reservation(size); r >= size; r /= 2) {
        l->lo = (uintptr_t)vm_map_lazy(r, STACK_MIN);
        if (l->lo != 0) {
            l->hi = l->lo + r;
            vm_nohugepage((void *)l->lo, r);
            atomic_fetch_add_explicit(&stack_stats.reserved, r,
                                      memory_order_relaxed);
            return l;
        }
    }
    sys_free(l);
    return NULL;
}

static void large_unmap(struct large *l)
{
    vm_release((void *)l->lo, l->hi - l->lo);
    atomic_fetch_sub_explicit(&stack_stats.reserved, l->hi - l->lo,
                              memory_order_relaxed);
    sys_free(l);
}

/* Lock held. */
static void link_large(struct large *l)
{
    l->next = NULL;
    l->prev = pool.used_last;
    if (l->prev != NULL)
        l->prev->next = l;
    else
        pool.used = l;
    pool.used_last = l;
    pool.nused++;
}

static void unlink_large(struct large *l)
{
    if (l->prev != NULL)
        l->prev->next = l->next;
    else
        pool.used = l->next;
    if (l->next != NULL)
        l->next->prev = l->prev;
    else
        pool.used_last = l->prev;
    pool.nused--;
}

static struct large *large_alloc(size_t size, struct g *gp)
{
    lock(&pool.lock);
    struct large **at = &pool.kept, *l;
    while ((l = *at) != NULL && l->hi - l->lo < size)
        at = &l->next;
    if (l != NULL) {
        *at = l->next;
        if (--pool.nkept < pool.kept_low)
            pool.kept_low = pool.nkept;
    }
    unlock(&pool.lock);
    if (l == NULL && (l = large_map(size)) == NULL)
        return NULL;
    atomic_fetch_add_explicit(&stack_stats.mapped, size, memory_order_relaxed);
    atomic_fetch_add_explicit(&stack_stats.large_inuse, size,
                              memory_order_relaxed);
    l->owner = gp;
    l->lowest = l->hi - size;
    lock(&pool.lock);
    link_large(l);
    unlock(&pool.lock);
    return l;
}

static void large_free(struct large *l, size_t size)
{
    atomic_fetch_sub_explicit(&stack_stats.mapped, size, memory_order_relaxed);
    atomic_fetch_sub_explicit(&stack_stats.large_inuse, size,
                              memory_order_relaxed);
    lock(&pool.lock);
    unlink_large(l);
    /* A few are worth keeping: a goroutine that grows once often grows again. */
    bool keep = pool.nkept < LARGE_KEPT && !options.stackpoison;
    if (keep)
        pool.nkept++;
    unlock(&pool.lock);
    if (keep) {
        keep = size <= LARGE_WARM ||
               vm_decommit((void *)(l->hi - size), size - LARGE_WARM);
        lock(&pool.lock);
        if (keep) {
            l->next = pool.kept;
            pool.kept = l;
        } else {
            pool.nkept--;
        }
        unlock(&pool.lock);
    }
    if (keep)
        return;
    large_unmap(l);
}

/* In slices: a stop of the world waits for one. */
#define RELEASE_SLICE ((size_t)1 << 20)

bool stack_shrink_in_place(struct g *gp, size_t newsize)
{
    size_t size = gp->stack.hi - gp->stack.lo;
    ASSERT(gp->large != NULL && newsize < size);
    size_t n = size - newsize < RELEASE_SLICE ? size - newsize : RELEASE_SLICE;
    bool ok = vm_decommit((void *)gp->stack.lo, n);
    gp->stack.lo += n;
    if (gp->stackguard1 != STACK_FORCEMOVE)
        gp->stackguard1 = gp->stack.lo + stack_guard;
    atomic_store_explicit(&gp->stackguard0, gp->stackguard1,
                          memory_order_relaxed);
    stack_poison_guard(gp);
    atomic_fetch_sub_explicit(&stack_stats.mapped, n, memory_order_relaxed);
    atomic_fetch_sub_explicit(&stack_stats.large_inuse, n,
                              memory_order_relaxed);
    return ok && n < size - newsize;
}

bool stack_grow_in_place(struct g *gp, size_t newsize)
{
    struct large *l = gp->large;
    if (l == NULL || newsize > l->hi - l->lo)
        return false;
    size_t n = newsize - (gp->stack.hi - gp->stack.lo);
    gp->stack.lo -= n;
    if (gp->stack.lo < l->lowest)
        l->lowest = gp->stack.lo;
    if (gp->stackguard1 != STACK_FORCEMOVE)
        gp->stackguard1 = gp->stack.lo + stack_guard;
    atomic_store_explicit(&gp->stackguard0, gp->stackguard1,
                          memory_order_relaxed);
    atomic_fetch_add_explicit(&stack_stats.mapped, n, memory_order_relaxed);
    atomic_fetch_add_explicit(&stack_stats.large_inuse, n,
                              memory_order_relaxed);
    atomic_fetch_add_explicit(&stack_stats.grows_in_place, 1,
                              memory_order_relaxed);
    if (options.checkmark)
        memset((void *)gp->stack.lo, 0, n);
    stack_poison_guard(gp);
    return true;
}

uint32_t stack_large_count(void)
{
    lock(&pool.lock);
    uint32_t n = pool.nused;
    unlock(&pool.lock);
    return n;
}

struct g *stack_large_next(void)
{
    lock(&pool.lock);
    struct large *l = pool.used;
    struct g *gp = NULL;
    if (l != NULL) {
        gp = l->owner;
        unlink_large(l);
        link_large(l);
    }
    unlock(&pool.lock);
    return gp;
}

/* --- any copying stack ------------------------------------------------------------ */

bool stackmem_alloc(struct g *gp, size_t size)
{
    int order = order_of(size);
    uintptr_t lo = 0;
    gp->large = NULL;
    if (order < 0) {
        gp->large = large_alloc(size, gp);
        if (gp->large != NULL)
            lo = gp->large->hi - size;
    } else {
        lo = small_alloc(order);
        if (lo != 0)
            atomic_store_explicit(owner_of(lo), gp, memory_order_release);
    }
    if (lo == 0)
        return false;
    gp->stack.lo = lo;
    gp->stack.hi = lo + size;
    return true;
}

void stackmem_free(struct stack s, struct large *l)
{
    size_t size = s.hi - s.lo;
    if (l != NULL) {
        if (options.stackpoison)
            memset((void *)s.lo, STACK_POISON_BYTE, size);
        large_free(l, size);
        return;
    }
    int order = order_of(size);
    ASSERT(order >= 0);
    atomic_store_explicit(owner_of(s.lo), NULL, memory_order_release);
    if (unlikely(options.stackpoison) && !stack_quarantine(&s))
        return;
    small_free(order_of(s.hi - s.lo), s.lo);
}

/* At the end of a cycle: the memory of free stacks that nobody has needed since
 * the last time goes back. A stack at a time: others want the lock. */
void stacks_release_idle(void)
{
    for (int order = 0; order < STACK_ORDERS; order++) {
        size_t size = STACK_MIN << order;
        lock(&pool.lock);
        uint32_t idle = pool.low[order];
        pool.low[order] = pool.n[order];
        unlock(&pool.lock);
        for (; idle > 0; idle--) {
            lock(&pool.lock);
            uintptr_t lo = pop(&pool.head[order]);
            if (lo != 0 && --pool.n[order] < pool.low[order])
                pool.low[order] = pool.n[order];
            unlock(&pool.lock);
            if (lo == 0)
                break;
            bool given = vm_decommit((void *)lo, size);
            lock(&pool.lock);
            if (given)
                pool.cold[order].lo[pool.cold[order].n++] = lo;
            else
                pool_push(order, lo);
            unlock(&pool.lock);
            if (!given)
                break;
            atomic_fetch_add_explicit(&stack_stats.released, 1,
                                      memory_order_relaxed);
        }
    }
    lock(&pool.lock);
    uint32_t idle = pool.kept_low;
    pool.kept_low = pool.nkept;
    unlock(&pool.lock);
    for (; idle > 0; idle--) {
        lock(&pool.lock);
        struct large *l = pool.kept;
        if (l != NULL) {
            pool.kept = l->next;
            if (--pool.nkept < pool.kept_low)
                pool.kept_low = pool.nkept;
        }
        unlock(&pool.lock);
        if (l == NULL)
            break;
        large_unmap(l);
        atomic_fetch_add_explicit(&stack_stats.released, 1,
                                  memory_order_relaxed);
    }
}

uint64_t stacks_inuse(void)
{
    uint64_t n = atomic_load(&stack_stats.fixed_inuse) +
                 atomic_load(&stack_stats.large_inuse);
    for (struct stack_chunk *c = atomic_load(&stack_chunks); c != NULL;
         c = c->next)
        for (size_t i = 0; i < ARRAY_LEN(c->owner); i++)
            if (atomic_load_explicit(&c->owner[i], memory_order_relaxed))
                n += STACK_MIN << c->order;
    return n;
}

static void chunk_memory(struct resident *r, struct stack_chunk *c,
                         struct stack_memory *m)
{
    uint64_t bits[STACK_CHUNK / OS_PAGE / 64] = {0};
    size_t size = STACK_MIN << c->order, words = size / OS_PAGE / 64;
    _Static_assert(STACK_MIN / OS_PAGE == 16, "a quarter of a word each");
    resident_bits(r, c->lo, STACK_CHUNK / OS_PAGE, bits);
    for (size_t off = 0; off < STACK_CHUNK; off += size) {
        size_t page = off / OS_PAGE, n = 0;
        if (words == 0)
            n = (size_t)__builtin_popcountll(
                bits[page / 64] >> page % 64 &
                ((UINT64_C(1) << size / OS_PAGE) - 1));
        for (size_t i = 0; i < words; i++)
            n += (size_t)__builtin_popcountll(bits[page / 64 + i]);
        *(atomic_load(&c->owner[off / STACK_MIN]) ? &m->inuse : &m->unused) +=
            n * OS_PAGE;
    }
}

void stacks_memory(struct resident *r, struct stack_memory *m)
{
    *m = (struct stack_memory){0};
    for (struct stack_chunk *c = atomic_load(&stack_chunks); c != NULL;
         c = c->next)
        chunk_memory(r, c, m);
    lock(&pool.lock);
    for (const struct large *l = pool.used; l != NULL; l = l->next)
        m->inuse += resident_bytes(r, l->lo, l->hi);
    for (const struct large *l = pool.kept; l != NULL; l = l->next)
        m->unused += resident_bytes(r, l->lo, l->hi);
    unlock(&pool.lock);
    size_t n = atomic_load(&allglen);
    for (size_t i = 0; i < n; i++) {
        struct g *gp = allg_at(i);
        if (gp->kind != STACK_FIXED || gp->foreign || gp->stack.lo == 0)
            continue;
        *(readgstatus(gp) == Gdead ? &m->unused : &m->inuse) +=
            resident_bytes(r, gp->stack.lo, gp->stack.hi);
    }
}

/* --- what a goroutine gets --------------------------------------------------------- */

static uintptr_t fixed_alloc(size_t size)
{
    uintptr_t p = (uintptr_t)vm_reserve(size + OS_PAGE, OS_PAGE);
    if (p == 0)
        return 0;
    if (!vm_commit((void *)(p + OS_PAGE), size)) {
        vm_release((void *)p, size + OS_PAGE);
        return 0;
    }
    vm_nohugepage((void *)(p + OS_PAGE), size);
    atomic_fetch_add_explicit(&stack_stats.mapped, size + OS_PAGE,
                              memory_order_relaxed);
    return p + OS_PAGE;
}

static void set_guard(struct g *gp)
{
    gp->stackguard1 =
        gp->kind == STACK_COPYING && (options.stackmove || options.preemptat)
            ? STACK_FORCEMOVE
            : gp->stack.lo + stack_guard;
    atomic_store_explicit(&gp->stackguard0, gp->stackguard1,
                          memory_order_relaxed);
}

size_t stack_size_for(size_t used)
{
    size_t size = STACK_MIN;
    while (size < used + stack_guard + 4096)
        size *= 2;
    return size;
}

bool stack_set(struct g *gp, size_t size)
{
    if (size > (size_t)options.stackmax || !stackmem_alloc(gp, size))
        return false;
    set_guard(gp);
    /* Words of dead frames must not come back to life under checkmark. */
    if (options.checkmark)
        memset((void *)gp->stack.lo, 0, size);
    stack_poison_guard(gp);
    return true;
}

bool stackalloc(struct g *gp, enum stack_kind kind, size_t size)
{
    gp->default_stack = size == 0;
    size_t wish = size;
    gp->kind = kind;
    if (kind == STACK_COPYING) {
        /* The default one is taken when the goroutine first runs. */
        if (size == 0 && stackmem_ready())
            return true;
        /* What is asked for is room to work in: the guard comes on top. */
        if (size == 0 || size > (size_t)options.stackmax)
            goto fail;
        size = stack_size_for(wish);
        if (!stack_set(gp, size))
            goto fail;
        return true;
    }
    if (size == 0)
        size = gp->system ? (size_t)64 << 10 : (size_t)options.fixedstack;
    if (size > (size_t)1 << 40)
        goto fail;
    size = ALIGN_UP(size, OS_PAGE);
    gp->stack.lo = fixed_alloc(size);
    if (gp->stack.lo == 0)
        goto fail;
    gp->stack.hi = gp->stack.lo + size;
    set_guard(gp);
    atomic_fetch_add_explicit(&stack_stats.fixed_inuse, size,
                              memory_order_relaxed);
    return true;
fail:
    gp->kind = STACK_NONE;
    gp->stack.lo = gp->stack.hi = 0;
    set_error("tarn_go: no memory for a stack of %zu bytes",
              size ? size : STACK_MIN);
    return false;
}

void stackfree(struct g *gp)
{
    size_t size = gp->stack.hi - gp->stack.lo;
    if (size == 0)
        return;
    if (gp->kind == STACK_COPYING) {
        stackmem_free(gp->stack, gp->large);
        gp->large = NULL;
    } else {
        vm_release((void *)(gp->stack.lo - OS_PAGE), size + OS_PAGE);
        atomic_fetch_sub_explicit(&stack_stats.mapped, size + OS_PAGE,
                                  memory_order_relaxed);
        atomic_fetch_sub_explicit(&stack_stats.fixed_inuse, size,
                                  memory_order_relaxed);
    }
    gp->stack.lo = gp->stack.hi = 0;
    gp->sched_sp = 0;
}
