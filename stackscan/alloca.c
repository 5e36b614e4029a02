/* stackscan/alloca.c - memory for alloca and variable-length arrays that do not
 * fit the stack: the compiler then calls __morestack_allocate_stack_space.
 *
 * A block must live as long as the frame that asked for it, and nobody says when
 * that ends. It is dead when the stack pointer is above the one it was asked
 * from; and, because a loop in one frame asks again and again from the same
 * stack pointer, also when no word of the stack points into it. Blocks are
 * scanned and adjusted like the stack itself. */
#include "base/sysmem.h"
#include "stackscan/stackscan.h"

struct block {
    uintptr_t base;
    size_t size;
    uintptr_t sp; /* of the call: blocks of one G are sorted by it, falling */
    bool seen;
};

struct blocks {
    uint32_t n, cap;
    size_t bytes;
    size_t limit; /* look for unreferenced ones above this */
    struct block b[];
};

#define FIRST_LIMIT ((size_t)1 << 20)

static void drop_above(struct blocks *bs, uintptr_t sp)
{
    while (bs->n > 0 && bs->b[bs->n - 1].sp < sp) {
        struct block *b = &bs->b[--bs->n];
        bs->bytes -= b->size;
        sys_free((void *)b->base);
    }
}

/* Marks the blocks that words of [lo, hi) point to; all blocks lie in
 * [min, max]. */
static void see_range(struct blocks *bs, uintptr_t lo, uintptr_t hi,
                      uintptr_t min, uintptr_t max)
{
    for (const uintptr_t *w = (const uintptr_t *)lo; w < (const uintptr_t *)hi;
         w++) {
        if (*w - min > max - min)
            continue;
        for (uint32_t i = 0; i < bs->n; i++)
            if (*w - bs->b[i].base <= bs->b[i].size)
                bs->b[i].seen = true;
    }
}

static void drop_unreferenced(struct g *gp, struct blocks *bs)
{
    uintptr_t min = UINTPTR_MAX, max = 0;
    for (uint32_t i = 0; i < bs->n; i++) {
        bs->b[i].seen = false;
        if (bs->b[i].base < min)
            min = bs->b[i].base;
        if (bs->b[i].base + bs->b[i].size > max)
            max = bs->b[i].base + bs->b[i].size;
    }
    see_range(bs, gp->sched_sp, gp->stack.hi, min, max);
    /* What blocks point to counts too; to a fixed point would free a little
     * more, and cost more than it is worth. */
    for (uint32_t i = 0; i < bs->n; i++)
        see_range(bs, bs->b[i].base, bs->b[i].base + bs->b[i].size, min, max);
    uint32_t to = 0;
    for (uint32_t i = 0; i < bs->n; i++) {
        if (bs->b[i].seen) {
            bs->b[to++] = bs->b[i];
        } else {
            bs->bytes -= bs->b[i].size;
            sys_free((void *)bs->b[i].base);
        }
    }
    bs->n = to;
}

struct request {
    struct g *g; /* whose frame asks: a goroutine or g0 */
    size_t size;
    uintptr_t sp;
    void *result;
};

static void allocate(void *vreq)
{
    struct request *r = vreq;
    struct g *gp = r->g;
    struct blocks *bs = gp->stackdata;
    if (bs != NULL) {
        drop_above(bs, r->sp);
        /* g0 has no known end to look up to; its stack begins anew often. */
        if (bs->bytes > bs->limit && gp->kind != STACK_SYSTEM) {
            drop_unreferenced(gp, bs);
            bs->limit =
                bs->bytes * 2 > FIRST_LIMIT ? bs->bytes * 2 : FIRST_LIMIT;
        }
    }
    if (bs == NULL || bs->n == bs->cap) {
        uint32_t cap = bs ? bs->cap * 2 : 8;
        struct blocks *nbs =
            sys_realloc(bs, sizeof(*nbs) + cap * sizeof(struct block));
        if (nbs == NULL)
            throw("alloca: out of memory");
        if (bs == NULL) {
            nbs->n = 0;
            nbs->bytes = 0;
            nbs->limit = FIRST_LIMIT;
        }
        nbs->cap = cap;
        gp->stackdata = bs = nbs;
    }
    size_t size = ALIGN_UP(r->size, (size_t)64);
    void *p = size >= r->size ? sys_alloc_aligned(size ? size : 64, 64) : NULL;
    if (p == NULL)
        throw("alloca: out of memory for %zu bytes", r->size);
    bs->b[bs->n++] = (struct block){(uintptr_t)p, size, r->sp, false};
    bs->bytes += size;
    r->result = p;
}

__attribute__((visibility("default"))) void *
__morestack_allocate_stack_space(size_t size);

void *__morestack_allocate_stack_space(size_t size)
{
    struct g *gp = getg();
    if (unlikely(gp->kind == STACK_SYSTEM)) {
        gp = atomic_load_explicit(&gp->m->curg, memory_order_relaxed);
        if (gp != NULL && gp->throwsplit)
            native_morestack(gp);
    }
    /* What the caller holds in callee-saved registers is on the stack when
     * systemstack has switched. */
    struct request r = {getg(), size,
                        (uintptr_t)__builtin_frame_address(0) + 16, NULL};
    systemstack(allocate, &r);
    return r.result;
}

/* For modules: cmake/module_stubs.S. */
__attribute__((visibility("default"),
               alias("__morestack_allocate_stack_space"))) void *
tarn_morestack_allocate(size_t size);

void alloca_free_all(struct g *gp)
{
    struct blocks *bs = gp->stackdata;
    if (bs == NULL)
        return;
    drop_above(bs, UINTPTR_MAX);
    sys_free(bs);
    gp->stackdata = NULL;
}

void alloca_prune(struct g *gp, uintptr_t sp)
{
    if (gp->stackdata != NULL)
        drop_above(gp->stackdata, sp);
}

void alloca_adjust(struct g *gp, uintptr_t lo, uintptr_t hi, intptr_t delta)
{
    struct blocks *bs = gp->stackdata;
    if (bs == NULL)
        return;
    alloca_prune(gp, gp->sched_sp);
    for (uint32_t i = 0; i < bs->n; i++) {
        bs->b[i].sp += (uintptr_t)delta;
        adjust_words(bs->b[i].base, bs->b[i].base + bs->b[i].size, lo, hi,
                     delta);
    }
}

void alloca_each(struct g *gp,
                 void (*range)(uintptr_t lo, uintptr_t hi, void *arg),
                 void *arg)
{
    struct blocks *bs = gp->stackdata;
    if (bs != NULL && !SCAN_FAULT(ALLOCA))
        for (uint32_t i = 0; i < bs->n; i++)
            range(bs->b[i].base, bs->b[i].base + bs->b[i].size, arg);
}
