/* gc/mark.c - the mark queue and the drain.
 *
 * The queue holds pointers that may lead to unmarked objects; whether they do is
 * found out when they are taken out. Testing at once would stall on the mark
 * byte of nearly every edge. Instead a taken pointer waits in a first ring behind
 * a prefetch of its mark byte; who comes out unmarked is marked, and, if it has
 * pointers, waits in a second ring behind a prefetch of itself. Most edges lead to
 * what is marked already, and much has no pointers: neither is ever touched. What
 * other orders of marking measured: docs/design.md, bench/mark_engines.c.
 *
 * Tags of an entry: bit 0, a slice of a large object; bit 1, an object that is
 * marked and not yet scanned. */
#include <emmintrin.h>

#include "base/sysmem.h"
#include "gc/gc.h"
#include "gc/specials.h"

#define RING 16u /* power of two */
#define OBLET ((size_t)128 << 10)
/* A drain looks whether to stop after so many entries or bytes scanned. */
uint32_t gc_check_entries = 256;
#define CHECK_BYTES ((uint64_t)64 << 10)
#define SLICE_TAG ((uintptr_t)1)
#define SCAN_TAG ((uintptr_t)2)
/* Any word that points into an object does so without its low bits too. */
#define TAGS (SLICE_TAG | SCAN_TAG)

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

static uint64_t count_scanned(struct gcwork *w)
{
    uint64_t n = w->scanned;
    if (n != 0)
        atomic_fetch_add_explicit(&gc.scanned_bytes, n, memory_order_relaxed);
    w->scanned = 0;
    return n;
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
    count_scanned(w);
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
            atomic_load_explicit(&gc.special_next, memory_order_relaxed) <
                atomic_load(&gc.special_jobs) ||
            atomic_load(&gc.late_maps) != 0 ||
            atomic_load(&gc.root_next) <
                atomic_load_explicit(&gc.nroots, memory_order_relaxed));
}

/* --- shading ----------------------------------------------------------------- */

void gc_shade(struct gcwork *w, uintptr_t p)
{
    if (!heap_markable(p))
        return;
    if ((p & (GRANULE - 1)) == 0) {
        uint8_t b = meta_load(heap_meta(p));
        if ((b & META_COLOR) != 0) {
            if (heap_white(b))
                put(w, p);
            return;
        }
    }
    /* Into an object: marked or not, or each such store would be work for a mark
     * that is about to end, without end. */
    struct objinfo o;
    if (heap_find(p, &o) && heap_white(o.meta))
        put(w, o.base);
}

/* Can a pointer one past the end of an object point past its place? Not where each
 * is smaller than that. The rule costs something: whoever holds an object would
 * keep its neighbour, too. */
bool ends_with_place(const struct mspan *s)
{
    return s->large || s->type == NULL || heap.slots[s->slot].array ||
           s->type->size == s->elemsize;
}

/* Of most data segments nothing points into the heap: is there a word of these eight
 * whose upper half says that it may? All data segments are looked through while the
 * world is stopped. */
struct word_filter {
    __m128i first, shift;
};

static inline struct word_filter word_filter(uintptr_t heap_lo,
                                             uintptr_t heap_size)
{
    uintptr_t first = heap_lo >> 32, n = ((heap_lo + heap_size) >> 32) - first;
    int shift = n == 0 ? 0 : 32 - __builtin_clz((uint32_t)n);
    return (struct word_filter){_mm_set1_epi32((int)first),
                                _mm_cvtsi32_si128(shift)};
}

NO_SANITIZE static inline bool any_in_heap(const uintptr_t *p,
                                           struct word_filter f)
{
    const __m128 *v = (const __m128 *)(const void *)p;
    __m128i a = _mm_castps_si128(_mm_shuffle_ps(_mm_loadu_ps((float *)&v[0]),
                                                _mm_loadu_ps((float *)&v[1]),
                                                _MM_SHUFFLE(3, 1, 3, 1)));
    __m128i b = _mm_castps_si128(_mm_shuffle_ps(_mm_loadu_ps((float *)&v[2]),
                                                _mm_loadu_ps((float *)&v[3]),
                                                _MM_SHUFFLE(3, 1, 3, 1)));
    a = _mm_srl_epi32(_mm_sub_epi32(a, f.first), f.shift);
    b = _mm_srl_epi32(_mm_sub_epi32(b, f.first), f.shift);
    const __m128i none = _mm_setzero_si128();
    return _mm_movemask_epi8(_mm_or_si128(_mm_cmpeq_epi32(a, none),
                                          _mm_cmpeq_epi32(b, none))) != 0;
}

NO_SANITIZE void scan_conservative(uintptr_t lo, uintptr_t hi, struct gcwork *w,
                                   bool past_end)
{
    uintptr_t heap_lo = heap.lo, heap_size = heap.mark_size;
    struct word_filter f = word_filter(heap_lo, heap_size);
    const uintptr_t *filtered = NULL; /* up to here each word may be one */
    for (const uintptr_t *p = (const uintptr_t *)ALIGN_UP(lo, (uintptr_t)8);
         p + 1 <= (const uintptr_t *)hi; p++) {
        if (!past_end && p >= filtered) {
            while (p + 8 <= (const uintptr_t *)hi && !any_in_heap(p, f))
                p += 8;
            if (p + 1 > (const uintptr_t *)hi)
                break;
            filtered = p + 8;
        }
        uintptr_t v = __atomic_load_n(p, __ATOMIC_RELAXED);
        /* <=: the last object of the heap may end at its end. */
        if (likely(v - heap_lo > heap_size))
            continue;
        struct objinfo o;
        bool in = v - heap_lo < heap_size && heap_find(v, &o);
        if (in && heap_white(o.meta))
            put(w, o.base);
        if (past_end && (v & (GRANULE - 1)) == 0 && v > heap_lo &&
            (!in || o.base == v) && heap_find(v - 1, &o) &&
            heap_white(o.meta) && ends_with_place(o.span))
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
        put(tracer->w, (uintptr_t)pointer & ~TAGS);
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
    if (heap_markable(v))
        put(w, v & ~TAGS);
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

void scan_part(struct mspan *s, uintptr_t lo, uintptr_t hi, struct gcwork *w)
{
    if (s->large) {
        scan_large(s, lo, hi, w);
        return;
    }
    w->scanned += hi - lo;
    for (const uint8_t *m = heap_meta(lo); lo < hi; lo += GRANULE, m++) {
        uint8_t b = meta_load(m);
        if (b & META_PTR0)
            visit(w, lo);
        if (b & META_PTR1)
            visit(w, lo + 8);
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

void trace_part(struct mspan *s, uintptr_t base, uintptr_t lo, uintptr_t hi,
                struct gcwork *w)
{
    tarn_tracer t = {.w = w};
    struct tarn_type *type = s->type;
    size_t n = s->elemsize / type->size;
    for (size_t i = (lo - base) / type->size;
         i < n && base + i * type->size < hi; i++) {
        type->trace((void *)(base + i * type->size), &t);
        w->scanned += type->size;
    }
}

static NOINLINE void scan_slice(uintptr_t p, struct gcwork *w)
{
    struct mspan *s = heap_span_of(p);
    uintptr_t end = s->base + s->elemsize;
    scan_large(s, p, end - p > OBLET ? p + OBLET : end, w);
}

/* An entry that is not the address of an allocated object, as far as its mark
 * byte says: the object to be scanned, or 0. */
static NOINLINE uintptr_t mark_odd(uintptr_t p, struct gcwork *w);

/* What an entry leads to is marked; if it was not and has pointers, returned. */
ALWAYS_INLINE uintptr_t mark_entry(uintptr_t p, struct gcwork *w)
{
    uint8_t *m = heap_meta(p);
    uint8_t b = meta_load(m);
    if (unlikely((p & (GRANULE - 1)) != 0 || (b & META_COLOR) == 0))
        return mark_odd(p, w);
    if (!heap_white(b))
        return 0;
    /* Two markers may both get here and both scan: harmless, and rarer than a
     * locked instruction for each object is dear. */
    meta_store(m, heap_marked(b));
    if (unlikely(atomic_load_explicit(&gc.specials_on, memory_order_relaxed)))
        gc_special_marked(w, p);
    return (b & META_KIND) == META_KIND_NOSCAN ? 0 : p;
}

static NOINLINE uintptr_t mark_odd(uintptr_t p, struct gcwork *w)
{
    if (p & SLICE_TAG) {
        scan_slice(p & ~TAGS, w);
        return 0;
    }
    if (p & SCAN_TAG)
        return p & ~TAGS;
    struct objinfo o;
    return heap_find(p, &o) ? mark_entry(o.base, w) : 0;
}

ALWAYS_INLINE void scan_object(uintptr_t p, struct gcwork *w)
{
    const uint8_t *m = heap_meta(p);
    uint8_t b = meta_load(m);
    if (unlikely((b & META_KIND) != META_KIND_BYTES)) {
        scan_by_span(p, w);
        return;
    }
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
}

void gc_scan_unmarked(uintptr_t base, struct gcwork *w)
{
    scan_object(base, w);
}

/* --- draining -------------------------------------------------------------------- */

/* What was scanned counts for the pacer at once, not when a worker ends: that may
 * be after the whole mark. */
static void did_scan(struct gcwork *w, struct drain_limits *lim)
{
    uint64_t n = count_scanned(w);
    lim->did += n;
    if (!lim->assist && n != 0)
        atomic_fetch_add_explicit(&gc.bg_credit, (int64_t)n,
                                  memory_order_relaxed);
}

static bool must_stop(struct g *gp, struct drain_limits *lim, struct p *pp,
                      struct gcwork *w)
{
    if (lim->world_stopped)
        return nanotime() >= lim->deadline;
    did_scan(w, lim);
    gc_step("gc: drain");
    if (lim->work != 0 && lim->did >= lim->work)
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

struct ring {
    uintptr_t at[RING]; /* 0: none */
    uint32_t next;
};

/* In goes p, out comes the oldest, or 0. */
ALWAYS_INLINE uintptr_t ring_swap(struct ring *r, uintptr_t p)
{
    uintptr_t *at = &r->at[r->next++ % RING], oldest = *at;
    *at = p;
    return oldest;
}

/* The oldest that there is. */
ALWAYS_INLINE uintptr_t ring_take(struct ring *r)
{
    for (uint32_t i = 0; i < RING; i++) {
        uintptr_t p = ring_swap(r, 0);
        if (p != 0)
            return p;
    }
    return 0;
}

/* False: none is left. */
static bool root_job(struct gcwork *w)
{
    uint32_t n = atomic_load_explicit(&gc.nroots, memory_order_relaxed), job;
    if (atomic_load_explicit(&gc.root_next, memory_order_relaxed) < n &&
        (job = atomic_fetch_add(&gc.root_next, 1)) < n) {
        markroot(w, job);
        return true;
    }
    if (!gc_specials_claim(&job))
        return false;
    gc_scan_specials(w, job);
    return true;
}

bool gc_drain(struct p *pp, struct drain_limits *lim)
{
    struct gcwork *w = &gcp_of(pp)->gcw;
    struct g *gp = getg();
    struct ring to_mark = {{0}, 0}, to_scan = {{0}, 0};
    bool dry = false;
    count_scanned(w);
    atomic_fetch_add(&gc.nworking, 1);

    /* Stacks first: their goroutines stop being grey. Before all others deep
     * ones, whose goroutines are held meanwhile. Not by assists: a step of
     * allocation is to be short. */
    while (!lim->assist) {
        bool held = gc_scan_shard(w);
        if (!held && !root_job(w))
            break;
        if (held && gc_shards_left()
                ? atomic_load_explicit(&sched.gcwaiting,
                                       memory_order_relaxed) ||
                      atomic_load_explicit(&pp->runSafePointFn,
                                           memory_order_relaxed)
                : must_stop(gp, lim, pp, w))
            goto out;
    }
    for (uint32_t n = gc_check_entries;; n--) {
        if (unlikely(n == 0 || w->scanned >= CHECK_BYTES)) {
            n = gc_check_entries;
            if (unlikely(gc_shards_left()) && !lim->assist)
                gc_scan_shard(w);
            if (must_stop(gp, lim, pp, w))
                break;
            if (nprocs > 1) {
                if (atomic_load_explicit(&gc.nfull, memory_order_relaxed) == 0)
                    balance(w);
                else
                    wakep();
            }
        }
        uintptr_t p = get(w), object;
        if (likely(p != 0)) {
            __builtin_prefetch(heap_meta(p), 1);
            p = ring_swap(&to_mark, p);
        } else if ((p = ring_take(&to_mark)) == 0) {
            object = ring_take(&to_scan);
            if (object != 0) {
                scan_object(object, w);
                continue;
            }
            if (gcp_of(pp)->wbn != 0) {
                wb_flush(pp);
                if (!gcw_empty(w))
                    continue;
            }
            if (!lim->assist && unlikely(gc_scan_late_map(w)))
                continue;
            dry = true;
            break;
        }
        if (p == 0 || (object = mark_entry(p, w)) == 0)
            continue;
        __builtin_prefetch((const void *)object);
        object = ring_swap(&to_scan, object);
        if (object != 0)
            scan_object(object, w);
    }
    for (uintptr_t p; (p = ring_take(&to_mark)) != 0;)
        put(w, p);
    for (uintptr_t p; (p = ring_take(&to_scan)) != 0;)
        put(w, p | SCAN_TAG);
out:
    did_scan(w, lim);
    /* Others shall find what is left. */
    gcw_dispose(w);
    atomic_fetch_sub(&gc.nworking, 1);
    return dry;
}
