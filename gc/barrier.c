/* gc/barrier.c - the write barrier behind tarn_store.
 *
 * (Under option barriercheck what is stored is noted for barriercheck.c, too.)
 *
 * Always the card of the slot is written. While marking, both the word that is
 * overwritten and the one that is written are noted in the P's buffer, then the
 * store happens; no safe point lies between. A full buffer is emptied into the mark
 * queue. */
#include "tarn/barrier.h"
#include "gc/gc.h"

uint32_t tarn_barrier_on;

void wb_flush(struct p *pp)
{
    struct gcp *g = gcp_of(pp);
    uint32_t n = g->wbn;
    g->wbn = 0;
    if (GC_FAULT(FLUSH))
        return;
    for (uint32_t i = 0; i < n; i++)
        gc_shade(&g->gcw, g->wb[i]);
}

/* On g0 the runtime itself may store for a goroutine; native code may not, whose
 * P is anybody's. */
static COLD void no_mutator(const struct g *gp, const char *what)
{
    const struct g *cur =
        gp == NULL ? NULL
                   : atomic_load_explicit(&gp->m->curg, memory_order_relaxed);
    if (gp == NULL || (cur != NULL && (atomic_load(&cur->atomicstatus) &
                                       ~(uint32_t)Gscan) == Gsyscall))
        throw("%s: not called on a goroutine%s", what, not_goroutine_why());
}

/* Most of what is stored while marking goes on was just made, and so is marked. A
 * pointer into the middle of an object is taken for white, and looked at later. */
ALWAYS_INLINE bool may_be_white(uintptr_t p)
{
    if (!heap_markable(p))
        return false;
    uint8_t b = meta_load(heap_meta(p));
    return (b & META_COLOR) == 0 || heap_white(b);
}

/* Of a pair of words of which one may be white. */
static NOINLINE void note_white(uintptr_t a, uintptr_t b)
{
    struct p *pp = getg()->m->p;
    struct gcp *g = gcp_of(pp);
    if (unlikely(g->wbn + 2 > WBBUF_ENTRIES))
        wb_flush(pp);
    if (may_be_white(a))
        g->wb[g->wbn++] = a;
    if (may_be_white(b))
        g->wb[g->wbn++] = b;
}

static void note2(const char *what, uintptr_t a, uintptr_t b)
{
    const struct g *gp = getg();
    if (unlikely(gp == NULL) || unlikely(gp->kind == STACK_SYSTEM))
        no_mutator(gp, what);
    if (may_be_white(a) || may_be_white(b))
        note_white(a, b);
}

static uint32_t barrier_bits(void)
{
    return __atomic_load_n(&tarn_barrier_on, __ATOMIC_RELAXED);
}

static bool marking(void)
{
    return barrier_bits() & BARRIER_MARKING;
}

ALWAYS_INLINE void stored(void *slot, size_t n)
{
    if (unlikely(options.barriercheck))
        barriercheck_stored((uintptr_t)slot, n);
}

ALWAYS_INLINE void store_word(void *slot, const void *value)
{
    /* A word that is aligned lies in one card. */
    heap_dirty(slot, 1);
    delay_point("write barrier: noted");
    __atomic_store_n((void **)slot, (void *)(uintptr_t)value, __ATOMIC_RELAXED);
}

/* What of tarn_store_slow needs more than a few registers. */
static NOINLINE void store_noted(void *slot, const void *value)
{
    /* Marking may have ended since the caller saw that it was on. */
    if (marking())
        note2("tarn_store",
              (uintptr_t)__atomic_load_n((void **)slot, __ATOMIC_RELAXED),
              (uintptr_t)value);
    store_word(slot, value);
    stored(slot, sizeof(void *));
}

void tarn_store_slow(void *slot, const void *value)
{
    const struct g *gp = getg();
    uintptr_t old = (uintptr_t)__atomic_load_n((void **)slot, __ATOMIC_RELAXED);
    if (unlikely(barrier_bits() != BARRIER_MARKING) || unlikely(gp == NULL) ||
        unlikely(gp->kind == STACK_SYSTEM) || unlikely(may_be_white(old)) ||
        unlikely(may_be_white((uintptr_t)value)))
        store_noted(slot, value);
    else
        store_word(slot, value);
}

void tarn_store_encoded(uint64_t *slot, uint64_t word, const void *old,
                        const void *value)
{
    if (marking())
        note2("tarn_store_encoded", (uintptr_t)old, (uintptr_t)value);
    heap_dirty(slot, sizeof *slot);
    __atomic_store_n(slot, word, __ATOMIC_RELAXED);
    stored(slot, sizeof *slot);
}

bool tarn_cas(void *slot, void **expected, const void *desired)
{
    /* Shading what is not stored after all costs only a late collection. */
    if (marking())
        note2("tarn_cas", (uintptr_t)*expected, (uintptr_t)desired);
    heap_dirty(slot, sizeof(void *));
    bool done = __atomic_compare_exchange_n((void **)slot, expected,
                                            (void *)(uintptr_t)desired, false,
                                            __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    if (done)
        stored(slot, sizeof(void *));
    return done;
}

void *tarn_swap(void *slot, const void *value)
{
    heap_dirty(slot, sizeof(void *));
    /* The old value is known only afterwards; nobody can stop us between. */
    void *old = __atomic_exchange_n((void **)slot, (void *)(uintptr_t)value,
                                    __ATOMIC_SEQ_CST);
    if (marking())
        note2("tarn_swap", (uintptr_t)old, (uintptr_t)value);
    stored(slot, sizeof(void *));
    return old;
}

static void bulk_barrier(const char *what, void *dst, const void *src, size_t n)
{
    if (n == 0 || GC_FAULT(BULK))
        return;
    heap_dirty(dst, n);
    if (!marking())
        return;
    uintptr_t d = ALIGN_UP((uintptr_t)dst, (uintptr_t)8);
    for (; d + 8 <= (uintptr_t)dst + n; d += 8)
        note2(what, __atomic_load_n((uintptr_t *)d, __ATOMIC_RELAXED), 0);
    if (src == NULL)
        return;
    /* The source's words at the destination's alignment: only those become
     * pointers there. */
    const char *s = (const char *)src +
                    (ALIGN_UP((uintptr_t)dst, (uintptr_t)8) - (uintptr_t)dst);
    for (; s + 8 <= (const char *)src + n; s += 8) {
        uintptr_t v;
        if (((uintptr_t)s & 7) == 0)
            v = __atomic_load_n((const uintptr_t *)s, __ATOMIC_RELAXED);
        else
            memcpy(&v, s, 8);
        note2(what, v, 0);
    }
}

void gc_bulk_barrier(void *dst, const void *src, size_t n)
{
    bulk_barrier("copy of managed words", dst, src, n);
    if (unlikely(options.barriercheck) && !GC_FAULT(BULK))
        barriercheck_will_store((uintptr_t)dst, src, n);
}

void gc_shade_hook(const void *p)
{
    if (marking())
        note2("gc_shade_hook", (uintptr_t)p, 0);
}

static void copy_words(uintptr_t *d, const uintptr_t *s, size_t words)
{
    if (d <= s || d >= s + words)
        for (size_t i = 0; i < words; i++)
            __atomic_store_n(&d[i], __atomic_load_n(&s[i], __ATOMIC_RELAXED),
                             __ATOMIC_RELAXED);
    else
        for (size_t i = words; i-- > 0;)
            __atomic_store_n(&d[i], __atomic_load_n(&s[i], __ATOMIC_RELAXED),
                             __ATOMIC_RELAXED);
}

void tarn_copy(void *dst, const void *src, size_t n)
{
    if (n == 0 || dst == src)
        return;
    bulk_barrier("tarn_copy", dst, src, n);
    if ((((uintptr_t)dst | (uintptr_t)src) & 7) == 0 && (n & 7) == 0)
        copy_words(dst, src, n / 8);
    else
        memmove(dst, src, n);
    if (!GC_FAULT(BULK))
        stored(dst, n);
}

void tarn_clear(void *dst, size_t n)
{
    bulk_barrier("tarn_clear", dst, NULL, n);
    char *d = dst, *end = d + n;
    while (d < end && ((uintptr_t)d & 7) != 0)
        *d++ = 0;
    for (; d + 8 <= end; d += 8)
        __atomic_store_n((uintptr_t *)(void *)d, 0, __ATOMIC_RELAXED);
    while (d < end)
        *d++ = 0;
    if (n != 0 && !GC_FAULT(BULK))
        stored(dst, n);
}
