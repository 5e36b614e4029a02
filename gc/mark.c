/* gc/mark.c - the mark queue and the drain.
 *
 * The queue holds pointers that may lead to unmarked objects; whether they do is
 * found out when they are taken out. Testing at once would stall on the mark
 * byte of nearly every edge. Instead a taken pointer passes through a short FIFO
 * behind a prefetch of its mark byte and of the object itself; when it comes out
 * both are in cache.
 *
 * An entry with bit 0 set is a slice of a large object, to be scanned without
 * looking at its mark. */
#include "base/sysmem.h"
#include "gc/gc.h"

#define FIFO 16u /* power of two */
#define OBLET ((size_t)128 << 10)
#define SLICE_TAG ((uintptr_t)1)

/* --- buffers ------------------------------------------------------------- */

static struct workbuf *getempty(void)
{
    lock(&gc.buflock);
    struct workbuf *b = gc.empty;
    if (b != NULL)
        gc.empty = b->next;
    else
        gc.nbufs++;
    unlock(&gc.buflock);
    if (b == NULL) {
        b = sys_alloc(sizeof(*b));
        if (b == NULL)
            throw("out of memory for a mark buffer (%llu in use)",
                  (unsigned long long)gc.nbufs);
    }
    b->next = NULL;
    b->n = 0;
    return b;
}

static void putempty(struct workbuf *b)
{
    lock(&gc.buflock);
    b->next = gc.empty;
    gc.empty = b;
    unlock(&gc.buflock);
}

static void putfull(struct workbuf *b)
{
    lock(&gc.buflock);
    b->next = gc.full;
    gc.full = b;
    atomic_fetch_add(&gc.nfull, 1);
    unlock(&gc.buflock);
}

static struct workbuf *trygetfull(void)
{
    if (atomic_load_explicit(&gc.nfull, memory_order_relaxed) == 0)
        return NULL;
    lock(&gc.buflock);
    struct workbuf *b = gc.full;
    if (b != NULL) {
        gc.full = b->next;
        atomic_fetch_sub(&gc.nfull, 1);
    }
    unlock(&gc.buflock);
    return b;
}

void gc_bufs_trim(void)
{
    /* What one mark needed the next will need again; but a single deep one
     * must not hold its memory for ever. */
    for (;;) {
        lock(&gc.buflock);
        struct workbuf *b = gc.nbufs > 256 ? gc.empty : NULL;
        if (b != NULL) {
            gc.empty = b->next;
            gc.nbufs--;
        }
        unlock(&gc.buflock);
        if (b == NULL)
            return;
        sys_free(b);
    }
}

static NOINLINE void put_slow(struct gcwork *w)
{
    if (w->w1 == NULL) {
        w->w1 = getempty();
        w->w2 = getempty();
        return;
    }
    struct workbuf *t = w->w1;
    w->w1 = w->w2;
    w->w2 = t;
    if (w->w1->n == WORKBUF_ENTRIES) {
        /* No wakep here: we may be under sched.lock (forEachP). gc_drain sees
         * to helpers. */
        putfull(w->w1);
        w->w1 = getempty();
    }
}

ALWAYS_INLINE void put(struct gcwork *w, uintptr_t obj)
{
    if (unlikely(w->w1 == NULL || w->w1->n == WORKBUF_ENTRIES))
        put_slow(w);
    w->w1->obj[w->w1->n++] = obj;
}

void gcw_put(struct gcwork *w, uintptr_t obj)
{
    put(w, obj);
}

static NOINLINE bool get_slow(struct gcwork *w)
{
    if (w->w1 == NULL)
        put_slow(w);
    struct workbuf *t = w->w1;
    w->w1 = w->w2;
    w->w2 = t;
    if (w->w1->n > 0)
        return true;
    struct workbuf *full = trygetfull();
    if (full == NULL)
        return false;
    putempty(w->w1);
    w->w1 = full;
    return true;
}

ALWAYS_INLINE uintptr_t get(struct gcwork *w)
{
    if (unlikely(w->w1 == NULL || w->w1->n == 0) && !get_slow(w))
        return 0;
    return w->w1->obj[--w->w1->n];
}

uintptr_t gcw_get(struct gcwork *w)
{
    return get(w);
}

bool gcw_empty(struct gcwork *w)
{
    return w->w1 == NULL || (w->w1->n == 0 && w->w2->n == 0);
}

bool gcw_dispose(struct gcwork *w)
{
    bool any = false;
    if (w->w1 != NULL) {
        struct workbuf *bufs[2] = {w->w1, w->w2};
        w->w1 = w->w2 = NULL;
        for (int i = 0; i < 2; i++) {
            if (bufs[i]->n > 0) {
                putfull(bufs[i]);
                any = true;
            } else {
                putempty(bufs[i]);
            }
        }
    }
    if (w->scanned != 0) {
        atomic_fetch_add_explicit(&gc.scanned_bytes, w->scanned,
                                  memory_order_relaxed);
        w->scanned = 0;
    }
    return any;
}

/* Nobody else has anything: give away half of what we have. */
static void balance(struct gcwork *w)
{
    if (w->w2 != NULL && w->w2->n > 0) {
        putfull(w->w2);
        w->w2 = getempty();
    } else if (w->w1 != NULL && w->w1->n > 8) {
        struct workbuf *b = getempty();
        uint32_t half = w->w1->n / 2;
        w->w1->n -= half;
        memcpy(b->obj, &w->w1->obj[w->w1->n], half * sizeof(b->obj[0]));
        b->n = half;
        putfull(b);
    }
}

bool gc_work_available(void)
{
    return atomic_load(&gc.blacken) &&
           (atomic_load(&gc.nfull) != 0 || gc_shards_left() ||
            atomic_load(&gc.root_next) <
                atomic_load_explicit(&gc.nroots, memory_order_relaxed));
}

/* --- shading ----------------------------------------------------------------- */

ALWAYS_INLINE bool marked(uint8_t b, uint32_t color)
{
    return (b & META_COLOR) == color;
}

void gc_shade(struct gcwork *w, uintptr_t p)
{
    if (!heap_markable(p))
        return;
    if ((p & (GRANULE - 1)) == 0) {
        uint8_t b = meta_load(heap_meta(p));
        if (marked(b, atomic_load_explicit(&heap.color, memory_order_relaxed)))
            return;
    }
    put(w, p & ~SLICE_TAG);
}

NO_SANITIZE void scan_conservative(uintptr_t lo, uintptr_t hi, struct gcwork *w,
                                   bool past_end)
{
    uintptr_t heap_lo = heap.lo, heap_size = heap.mark_size;
    for (const uintptr_t *p = (const uintptr_t *)ALIGN_UP(lo, (uintptr_t)8);
         p + 1 <= (const uintptr_t *)hi; p++) {
        uintptr_t v = __atomic_load_n(p, __ATOMIC_RELAXED);
        /* <=: the last object of the heap may end at its end. */
        if (likely(v - heap_lo > heap_size))
            continue;
        struct objinfo o;
        bool in = v - heap_lo < heap_size && heap_find(v, &o);
        uint32_t color =
            atomic_load_explicit(&heap.color, memory_order_relaxed);
        if (in && !marked(o.meta, color))
            put(w, o.base);
        if (past_end && (v & (GRANULE - 1)) == 0 && v > heap_lo &&
            (!in || o.base == v) && heap_find(v - 1, &o) &&
            !marked(o.meta, color))
            put(w, o.base);
    }
    w->scanned += hi - lo;
}

/* --- scanning objects ---------------------------------------------------------- */

void tarn_trace(tarn_tracer *tracer, const void *pointer)
{
    if (tracer->w == NULL)
        tracer->fn((uintptr_t)pointer, tracer->base, tracer->arg);
    else if (heap_markable((uintptr_t)pointer))
        put(tracer->w, (uintptr_t)pointer & ~SLICE_TAG);
}

/* A word of an object that the program may be writing to: without the barrier
 * where the object is new, or no pointer at all where it is conservative. So
 * ThreadSanitizer is not to look. */
#if TARN_TSAN
NO_SANITIZE static NOINLINE uintptr_t load_word(uintptr_t slot)
#else
ALWAYS_INLINE uintptr_t load_word(uintptr_t slot)
#endif
{
    return __atomic_load_n((const uintptr_t *)slot, __ATOMIC_RELAXED);
}

ALWAYS_INLINE void visit(struct gcwork *w, uintptr_t slot)
{
    uintptr_t v = load_word(slot);
    /* An odd pointer is as good without its last bit, which is ours. */
    if (heap_markable(v))
        put(w, v & ~SLICE_TAG);
}

/* [lo, hi) of a large object, by its layout. */
static void scan_large(struct mspan *s, uintptr_t lo, uintptr_t hi,
                       struct gcwork *w)
{
    w->scanned += hi - lo;
    if (s->layout == LAYOUT_CONSERVATIVE) {
        for (uintptr_t p = lo; p < hi; p += 8)
            visit(w, p);
        return;
    }
    struct tarn_type *t = s->type;
    uint32_t words = t->words;
    uint32_t i = (uint32_t)((lo - s->base) / 8 % words);
    for (uintptr_t p = lo; p < hi; p += 8) {
        if (t->ptrmap[i / 64] >> (i % 64) & 1)
            visit(w, p);
        if (++i == words)
            i = 0;
    }
}

/* An object whose meta byte says: ask the span. */
static NOINLINE void scan_by_span(uintptr_t base, struct gcwork *w)
{
    struct mspan *s = heap_span_of(base);
    if (s->layout == LAYOUT_NOSCAN)
        return;
    if (s->layout == LAYOUT_TRACED) {
        tarn_tracer t = {.w = w};
        struct tarn_type *type = s->type;
        size_t size = s->elemsize;
        size_t n = size / type->size; /* 0: an array of none */
        for (size_t i = 0; i < n; i++)
            type->trace((void *)(base + i * type->size), &t);
        w->scanned += size;
        return;
    }
    ASSERT(s->large);
    uintptr_t end = base + s->elemsize;
    /* Slices, so that others can help and nobody is late for a stop. */
    for (uintptr_t p = base + OBLET; p < end; p += OBLET)
        put(w, p | SLICE_TAG);
    scan_large(s, base, end - base > OBLET ? base + OBLET : end, w);
}

static NOINLINE void scan_slice(uintptr_t p, struct gcwork *w)
{
    struct mspan *s = heap_span_of(p);
    uintptr_t end = s->base + s->elemsize;
    scan_large(s, p, end - p > OBLET ? p + OBLET : end, w);
}

ALWAYS_INLINE void mark_and_scan(uintptr_t p, uint32_t color, struct gcwork *w)
{
    uint8_t *m = heap_meta(p);
    uint8_t b = meta_load(m);
    if (unlikely((p & (GRANULE - 1)) != 0 || (b & META_COLOR) == 0)) {
        if (p & SLICE_TAG) {
            scan_slice(p & ~SLICE_TAG, w);
            return;
        }
        struct objinfo o;
        if (!heap_find(p, &o))
            return;
        p = o.base;
        m = heap_meta(p);
        b = meta_load(m);
    }
    if (marked(b, color) || (b & META_COLOR) == 0)
        return;
    /* Two markers may both get here and both scan: harmless, and rarer than a
     * locked instruction for each object is dear. */
    meta_store(m, (uint8_t)((b & ~META_COLOR) | color));
    switch (b & META_KIND) {
    case META_KIND_BYTES: {
        uintptr_t q = p;
        for (;;) {
            if (b & META_PTR0)
                visit(w, q);
            if (b & META_PTR1)
                visit(w, q + 8);
            q += GRANULE;
            if (b & META_END)
                break;
            b = meta_load(++m);
        }
        w->scanned += q - p;
        break;
    }
    case META_KIND_NOSCAN:
        break;
    default:
        scan_by_span(p, w);
    }
}

/* --- draining -------------------------------------------------------------------- */

static bool must_stop(struct g *gp, const struct drain_limits *lim,
                      struct p *pp, uint64_t did)
{
    if (lim->world_stopped)
        return nanotime() >= lim->deadline;
    if (lim->work != 0 && did >= lim->work)
        return true;
    /* Also who may not be preempted (an assist) must not be late for a stop. */
    if (atomic_load_explicit(&sched.gcwaiting, memory_order_relaxed) ||
        atomic_load_explicit(&pp->runSafePointFn, memory_order_relaxed))
        return true;
    if (lim->until_preempt &&
        atomic_load_explicit(&gp->preempt, memory_order_relaxed))
        return true;
    if (lim->idle) {
        if (!runqempty(pp) ||
            atomic_load_explicit(&sched.runqsize, memory_order_relaxed) != 0)
            return true;
        int64_t next = timers_next();
        if (next != 0 && next <= nanotime())
            return true;
    }
    return lim->deadline != 0 && nanotime() >= lim->deadline;
}

bool gc_drain(struct p *pp, const struct drain_limits *lim)
{
    struct gcwork *w = &gcp_of(pp)->gcw;
    struct g *gp = getg();
    uint32_t color = atomic_load_explicit(&heap.color, memory_order_relaxed);
    uintptr_t fifo[FIFO];
    uint32_t head = 0, n = 0;
    bool dry = false;
    uint64_t scanned0 = w->scanned;
    atomic_fetch_add(&gc.nworking, 1);

    /* Stacks first: their goroutines stop being grey. Before all others deep
     * ones, whose goroutines are held meanwhile. Not by assists: a step of
     * allocation is to be short. */
    while (!lim->assist) {
        bool held = gc_scan_shard(w);
        if (!held) {
            if (atomic_load_explicit(&gc.root_next, memory_order_relaxed) >=
                atomic_load_explicit(&gc.nroots, memory_order_relaxed))
                break;
            uint32_t job = atomic_fetch_add(&gc.root_next, 1);
            if (job >= atomic_load_explicit(&gc.nroots, memory_order_relaxed))
                break;
            markroot(w, job);
        }
        if (held && gc_shards_left()
                ? atomic_load_explicit(&sched.gcwaiting,
                                       memory_order_relaxed) ||
                      atomic_load_explicit(&pp->runSafePointFn,
                                           memory_order_relaxed)
                : must_stop(gp, lim, pp, w->scanned - scanned0))
            goto out;
    }
    for (uint32_t i = 1;; i++) {
        uintptr_t p;
        if (n < FIFO && (p = get(w)) != 0) {
            __builtin_prefetch(heap_meta(p), 1);
            __builtin_prefetch((const void *)p);
            fifo[(head + n) & (FIFO - 1)] = p;
            if (++n < FIFO)
                continue;
        }
        if (n == 0) {
            if (gcp_of(pp)->wbn != 0) {
                wb_flush(pp);
                if (!gcw_empty(w))
                    continue;
            }
            dry = true;
            break;
        }
        p = fifo[head];
        head = (head + 1) & (FIFO - 1);
        n--;
        mark_and_scan(p, color, w);
        if (unlikely((i & 255) == 0)) {
            if (unlikely(gc_shards_left()) && !lim->assist)
                gc_scan_shard(w);
            if (must_stop(gp, lim, pp, w->scanned - scanned0))
                break;
            if (nprocs > 1) {
                if (atomic_load_explicit(&gc.nfull, memory_order_relaxed) == 0)
                    balance(w);
                else
                    wakep();
            }
        }
    }
    while (n > 0) {
        put(w, fifo[head]);
        head = (head + 1) & (FIFO - 1);
        n--;
    }
out:
    if (!lim->assist)
        atomic_fetch_add_explicit(&gc.bg_credit,
                                  (int64_t)(w->scanned - scanned0),
                                  memory_order_relaxed);
    /* Others shall find what is left; and the counts shall be up to date. */
    gcw_dispose(w);
    atomic_fetch_sub(&gc.nworking, 1);
    return dry;
}
