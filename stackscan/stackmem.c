/* stackscan/stackmem.c - where stacks come from.
 *
 * Copying stacks of the four smallest sizes live in chunks cut from one mapping
 * and go round through a per-P cache and a global pool; larger ones are mapped
 * one by one, with a few kept. Fixed stacks are mapped one by one with a guard
 * page; a dead G keeps its stack, which is their cache. A free stack is linked
 * through its highest words: those were touched before, the low ones perhaps
 * never. */
#include "base/options.h"
#include "base/sysmem.h"
#include "base/vm.h"
#include "stackscan/stackscan.h"

struct stack_stats stack_stats;

#define CHUNK ((size_t)4 << 20)
#define CACHE_BYTES ((size_t)256 << 10) /* per order and P */
#define LARGE_KEPT 8

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
    struct {
        uintptr_t lo;
        size_t size;
    } large[LARGE_KEPT];
} pool = {.lock = MUTEX_INIT(STACKPOOL)};

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
    *head = f->next;
    f->next = NULL; /* it lies in what is scanned of the new stack */
    return f->lo;
}

/* One more chunk of stacks of this order for the pool. Lock held. */
static bool pool_grow(int order)
{
    size_t size = STACK_MIN << order;
    uintptr_t p = (uintptr_t)vm_reserve(CHUNK, STACK_MIN << (STACK_ORDERS - 1));
    if (p == 0)
        return false;
    if (!vm_commit((void *)p, CHUNK)) {
        vm_release((void *)p, CHUNK);
        return false;
    }
    vm_nohugepage((void *)p, CHUNK);
    atomic_fetch_add_explicit(&stack_stats.mapped, CHUNK, memory_order_relaxed);
    for (size_t off = CHUNK; off > 0; off -= size)
        push(&pool.head[order], p + off - size, size);
    return true;
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

static uintptr_t large_alloc(size_t size)
{
    uintptr_t p = 0;
    lock(&pool.lock);
    for (int i = 0; i < LARGE_KEPT; i++)
        if (pool.large[i].size == size) {
            p = pool.large[i].lo;
            pool.large[i].size = 0;
            break;
        }
    unlock(&pool.lock);
    if (p != 0)
        return p;
    p = (uintptr_t)vm_reserve(size, STACK_MIN);
    if (p == 0)
        return 0;
    if (!vm_commit((void *)p, size)) {
        vm_release((void *)p, size);
        return 0;
    }
    atomic_fetch_add_explicit(&stack_stats.mapped, size, memory_order_relaxed);
    return p;
}

static void large_free(uintptr_t lo, size_t size)
{
    /* A few medium ones are worth keeping: a goroutine that grows once often
     * grows again. */
    if (size <= ((size_t)1 << 20)) {
        lock(&pool.lock);
        for (int i = 0; i < LARGE_KEPT; i++)
            if (pool.large[i].size == 0) {
                pool.large[i].lo = lo;
                pool.large[i].size = size;
                unlock(&pool.lock);
                return;
            }
        unlock(&pool.lock);
    }
    vm_release((void *)lo, size);
    atomic_fetch_sub_explicit(&stack_stats.mapped, size, memory_order_relaxed);
}

uintptr_t stackmem_alloc(size_t size)
{
    int order = order_of(size);
    if (order < 0)
        return large_alloc(size);
    struct cache *c = my_cache();
    if (c != NULL && c->head[order] != NULL) {
        c->n[order]--;
        return pop(&c->head[order]);
    }
    lock(&pool.lock);
    if (pool.head[order] == NULL && !pool_grow(order)) {
        unlock(&pool.lock);
        return 0;
    }
    uintptr_t lo = pop(&pool.head[order]);
    if (c != NULL)
        while (c->n[order] * size < CACHE_BYTES / 2 &&
               pool.head[order] != NULL) {
            push(&c->head[order], pop(&pool.head[order]), size);
            c->n[order]++;
        }
    unlock(&pool.lock);
    return lo;
}

void stackmem_free(uintptr_t lo, size_t size)
{
    int order = order_of(size);
    if (order < 0) {
        large_free(lo, size);
        return;
    }
    struct cache *c = my_cache();
    if (c == NULL) {
        lock(&pool.lock);
        push(&pool.head[order], lo, size);
        unlock(&pool.lock);
        return;
    }
    push(&c->head[order], lo, size);
    c->n[order]++;
    if (c->n[order] * size <= CACHE_BYTES)
        return;
    lock(&pool.lock);
    while (c->n[order] * size > CACHE_BYTES / 2) {
        push(&pool.head[order], pop(&c->head[order]), size);
        c->n[order]--;
    }
    unlock(&pool.lock);
}

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

bool stackalloc(struct g *gp, enum stack_kind kind, size_t size)
{
    gp->default_stack = size == 0;
    size_t wish = size;
    if (kind == STACK_COPYING) {
        /* What is asked for is room to work in: the guard comes on top. */
        size = STACK_MIN;
        while (size < (wish ? wish : 1) + stack_guard + 4096)
            size *= 2;
        if (size > (size_t)options.stackmax)
            goto fail;
        gp->stack.lo = stackmem_alloc(size);
    } else {
        if (size == 0)
            size = gp->system ? (size_t)64 << 10 : (size_t)options.fixedstack;
        if (size > (size_t)1 << 40)
            goto fail;
        size = ALIGN_UP(size, OS_PAGE);
        gp->stack.lo = fixed_alloc(size);
    }
    if (gp->stack.lo == 0)
        goto fail;
    gp->kind = kind;
    gp->stack.hi = gp->stack.lo + size;
    gp->stackguard1 = kind == STACK_COPYING && options.stackmove
                          ? STACK_FORCEMOVE
                          : gp->stack.lo + stack_guard;
    atomic_store_explicit(&gp->stackguard0, gp->stackguard1,
                          memory_order_relaxed);
    /* Words of dead frames must not come back to life under checkmark. (A fixed
     * stack is a fresh mapping.) */
    if (options.checkmark && kind == STACK_COPYING)
        memset((void *)gp->stack.lo, 0, size);
    atomic_fetch_add_explicit(&stack_stats.inuse, size, memory_order_relaxed);
    return true;
fail:
    gp->stack.lo = gp->stack.hi = 0;
    set_error("tarn_go: no memory for a stack of %zu bytes", size);
    return false;
}

void stackfree(struct g *gp)
{
    size_t size = gp->stack.hi - gp->stack.lo;
    if (gp->kind == STACK_COPYING) {
        stackmem_free(gp->stack.lo, size);
    } else {
        vm_release((void *)(gp->stack.lo - OS_PAGE), size + OS_PAGE);
        atomic_fetch_sub_explicit(&stack_stats.mapped, size + OS_PAGE,
                                  memory_order_relaxed);
    }
    atomic_fetch_sub_explicit(&stack_stats.inuse, size, memory_order_relaxed);
    gp->stack.lo = gp->stack.hi = 0;
}
