/* heap/span.c - one span: its meta bytes, finding free places, sweeping.
 *
 * All of it works on the meta bytes of one span that the caller owns, wherever
 * it came from. Others may read these bytes at the same time (lookups), and
 * while marking goes on they recolour objects, one byte each. So the scans for
 * free places may not write, and sweeping, which does write whole words, runs
 * only when nobody marks.
 *
 * The meta bytes of a page are 512 in number: words of them never belong to two
 * spans.
 */
#include <emmintrin.h>

#include "base/options.h"
#include "heap/internal.h"

/* Plain wide accesses race with the byte accesses of others in a way that the
 * machine defines and ThreadSanitizer reports. */
#define META_WIDE (!TARN_TSAN)

/* Words of meta bytes pay up to this stride; beyond it each place by itself. */
#define WIDE_MAX_STRIDE ((size_t)64)

#define LANES UINT64_C(0x0101010101010101)

struct heap_hooks heap_hooks;

static void meta_fill(uint8_t *m, uint8_t v, size_t n)
{
    if (META_WIDE)
        memset(m, v, n);
    else
        for (size_t i = 0; i < n; i++)
            meta_store(&m[i], v);
}

static void meta_copy(uint8_t *to, const uint8_t *from, size_t n)
{
    if (META_WIDE)
        memcpy(to, from, n);
    else
        for (size_t i = 0; i < n; i++)
            meta_store(&to[i], meta_load(&from[i]));
}

/* --- setup ---------------------------------------------------------------- */

/* How often the type's pattern stands in a place. */
static size_t pattern_count(const struct slot_info *si)
{
    return si->array ? class_size[si->class_] / si->type->size : 1;
}

static bool word_is_ptr(const struct slot_info *si, size_t w)
{
    if (si->layout == LAYOUT_CONSERVATIVE)
        return true;
    if (si->layout != LAYOUT_PRECISE ||
        w / si->type->words >= pattern_count(si))
        return false;
    w %= si->type->words;
    return si->type->ptrmap[w / 64] >> w % 64 & 1;
}

uint8_t slot_static_meta(const struct slot_info *si, size_t g)
{
    if (si->class_ == 0)
        return g == 0 ? META_KIND_SPAN : 0;
    uint8_t m = 0;
    if (g == 0)
        m = si->layout == LAYOUT_NOSCAN   ? META_KIND_NOSCAN
            : si->layout == LAYOUT_TRACED ? META_KIND_SPAN
                                          : META_KIND_BYTES;
    if (g == class_size[si->class_] / GRANULE - 1)
        m |= META_END;
    if (word_is_ptr(si, 2 * g))
        m |= META_PTR0;
    if (word_is_ptr(si, 2 * g + 1))
        m |= META_PTR1;
    return m;
}

static void set_pointer_bits(const struct tarn_type *t, uint8_t *m, size_t word)
{
    for (uint32_t i = 0; i < (t->words + 63) / 64; i++) {
        for (uint64_t map = t->ptrmap[i]; map != 0; map &= map - 1) {
            size_t w = word + i * 64 + (size_t)__builtin_ctzll(map);
            uint8_t *b = &m[w / 2];
            meta_store(b, meta_load(b) | (w % 2 ? META_PTR1 : META_PTR0));
        }
    }
}

/* The meta bytes of the first place, then copies of them, twice as many each
 * time. COLOR is 0 in all. */
static void write_meta(const struct slot_info *si, uint8_t *m, size_t nelems)
{
    size_t n = class_size[si->class_] / GRANULE;
    if (n == 1) {
        meta_fill(m, si->startbits, nelems);
        return;
    }
    meta_fill(m, si->layout == LAYOUT_CONSERVATIVE ? META_PTR0 | META_PTR1 : 0,
              n);
    if (si->layout == LAYOUT_PRECISE)
        for (size_t i = 0; i < pattern_count(si); i++)
            set_pointer_bits(si->type, m, i * si->type->words);
    meta_store(&m[n - 1], meta_load(&m[n - 1]) | META_END);
    meta_store(&m[0], si->startbits);
    for (size_t have = n, all = n * nelems; have < all;) {
        size_t more = have < all - have ? have : all - have;
        meta_copy(m + have, m, more);
        have += more;
    }
}

void span_setup(struct mspan *s, uint32_t slot)
{
    const struct slot_info *si = &heap.slots[slot];
    uint32_t c = si->class_;
    DASSERT(c > 0 && s->npages == class_pages[c]);
    write_meta(si, heap_meta(s->base), class_objs[c]);
    SPAN_SET(s, limit, s->base + (size_t)class_objs[c] * class_size[c]);
    SPAN_SET(s, elemsize, class_size[c]);
    SPAN_SET(s, divmagic, class_divmagic[c]);
    SPAN_SET(s, type, si->type);
    s->nelems = class_objs[c];
    s->slot = slot;
    s->layout = si->layout;
    s->startbits = si->startbits;
    s->large = false;
    s->live = 0;
    s->freeindex = 0;
    s->young = false;
    atomic_store_explicit(&s->specials, NULL, memory_order_relaxed);
    atomic_store_explicit(
        &s->sweepgen,
        atomic_load_explicit(&heap.sweepgen, memory_order_relaxed),
        memory_order_relaxed);
    atomic_store_explicit(&s->state, SPAN_INUSE, memory_order_release);
}

/* --- free places ---------------------------------------------------------- */

/* 16 places' first bytes from strides 1, 2 and 4. */
static inline __m128i gather(const uint8_t *m, size_t stride)
{
    const __m128i *v = (const __m128i *)m;
    if (stride == 1)
        return _mm_load_si128(v);
    if (stride == 2) {
        const __m128i even = _mm_set1_epi16(0xff);
        return _mm_packus_epi16(_mm_and_si128(_mm_load_si128(v), even),
                                _mm_and_si128(_mm_load_si128(v + 1), even));
    }
    const __m128i fourth = _mm_set1_epi32(0xff);
    return _mm_packus_epi16(
        _mm_packs_epi32(_mm_and_si128(_mm_load_si128(v), fourth),
                        _mm_and_si128(_mm_load_si128(v + 1), fourth)),
        _mm_packs_epi32(_mm_and_si128(_mm_load_si128(v + 2), fourth),
                        _mm_and_si128(_mm_load_si128(v + 3), fourth)));
}

/* A page has 512, 256 or 128 places of these strides: no block of 64 is part of
 * a span only. */
static inline uint64_t free_mask_wide(const uint8_t *m, size_t stride)
{
    const __m128i color = _mm_set1_epi8(META_COLOR), none = _mm_setzero_si128();
    uint64_t mask = 0;
    for (uint32_t i = 0; i < 64; i += 16) {
        __m128i w = _mm_and_si128(gather(m + i * stride, stride), color);
        mask |= (uint64_t)(uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(w, none))
                << i;
    }
    return mask;
}

/* Bit i: place b + i is free. b is a multiple of 64. */
static uint64_t free_mask(const struct mspan *s, uint32_t b)
{
    size_t stride = s->elemsize / GRANULE;
    const uint8_t *m = heap_meta(s->base) + b * stride;
    uint32_t n = s->nelems - b < 64 ? s->nelems - b : 64;
    uint64_t mask = 0;
    if (META_WIDE && stride == 1)
        return free_mask_wide(m, 1);
    if (META_WIDE && stride == 2)
        return free_mask_wide(m, 2);
    if (META_WIDE && stride == 4)
        return free_mask_wide(m, 4);
    for (uint32_t i = 0; i < n; i++, m += stride)
        mask |= (uint64_t)((meta_load(m) & META_COLOR) == 0) << i;
    return mask;
}

void span_find_free(struct mspan *s)
{
    uint32_t i = s->freeindex, b = i & ~UINT32_C(63);
    uint64_t mask =
        i < s->nelems ? free_mask(s, b) & (~UINT64_C(0) << i % 64) : 0;
    while (mask == 0 && b + 64 < s->nelems)
        mask = free_mask(s, b += 64);
    s->freemask = mask;
    s->freeindex = mask != 0 ? b + (uint32_t)__builtin_ctzll(mask) : s->nelems;
}

bool span_take_run(struct mspan *s, uint32_t *from, uint32_t *to)
{
    uint32_t i = s->freeindex, n = s->nelems;
    if (i >= n)
        return false;
    /* freemask is of i's block, and has i for its lowest bit. */
    uint64_t mask = s->freemask;
    *from = i;
    for (;;) {
        uint64_t rest = ~mask & (~UINT64_C(0) << i % 64);
        if (rest != 0) {
            i = (i & ~UINT32_C(63)) + (uint32_t)__builtin_ctzll(rest);
            break;
        }
        i = (i & ~UINT32_C(63)) + 64;
        if (i >= n)
            break;
        mask = free_mask(s, i);
    }
    *to = i;
    /* The next one, so that who asks can tell a full span from others. */
    mask = i < n ? mask & (~UINT64_C(0) << i % 64) : 0;
    if (likely(mask != 0)) {
        s->freemask = mask;
        s->freeindex = (i & ~UINT32_C(63)) + (uint32_t)__builtin_ctzll(mask);
    } else {
        s->freeindex = (i + 64) & ~UINT32_C(63); /* nothing left in this one */
        span_find_free(s);
    }
    return true;
}

/* --- sweeping ------------------------------------------------------------- */

/* Counts of objects. */
struct tally {
    uint32_t live, dead, old; /* old: of live, by a young collection */
};

static inline uint32_t sum_lanes(__m128i v)
{
    v = _mm_sad_epu8(v, _mm_setzero_si128());
    return (uint32_t)(_mm_cvtsi128_si64(v) +
                      _mm_cvtsi128_si64(_mm_unpackhi_epi64(v, v)));
}

/* Bytes behind the last place have no colour, so whole vectors will do. Spans
 * with a stride for this are so short that no lane counts beyond 255. */
ALWAYS_INLINE struct tally sweep_words(uint8_t *m, size_t n, bool full)
{
    uint8_t color =
        (uint8_t)atomic_load_explicit(&heap.color, memory_order_relaxed);
    const __m128i all = _mm_set1_epi8(META_COLOR), none = _mm_setzero_si128();
    /* Survivors of a full collection have the one, the dead of a young one the
     * other. */
    const __m128i key =
        _mm_set1_epi8((char)(full ? color : META_COLOR ^ color));
    __m128i nl = none, nd = none, no = none;
    DASSERT(n <= 255 * sizeof(__m128i));
    for (__m128i *v = (__m128i *)m, *end = v + (n + 15) / 16; v < end; v++) {
        __m128i w = _mm_load_si128(v), c = _mm_and_si128(w, all);
        __m128i is = _mm_cmpeq_epi8(c, key), is_none = _mm_cmpeq_epi8(c, none);
        __m128i live, dead;
        if (full) {
            live = is;
            dead = _mm_andnot_si128(_mm_or_si128(is, is_none),
                                    _mm_cmpeq_epi8(c, c));
            w = _mm_or_si128(w, _mm_and_si128(live, all));
        } else {
            dead = is;
            live = _mm_andnot_si128(_mm_or_si128(is, is_none),
                                    _mm_cmpeq_epi8(c, c));
        }
        if (!full)
            no = _mm_sub_epi8(no, _mm_cmpeq_epi8(c, all));
        nl = _mm_sub_epi8(nl, live);
        nd = _mm_sub_epi8(nd, dead);
        _mm_store_si128(v, _mm_andnot_si128(_mm_and_si128(dead, all), w));
    }
    return (struct tally){sum_lanes(nl), sum_lanes(nd), sum_lanes(no)};
}

static struct tally sweep_places(uint8_t *m, uint32_t n, size_t stride,
                                 bool full)
{
    struct tally t = {0, 0, 0};
    for (uint32_t i = 0; i < n; i++, m += stride) {
        uint8_t b = meta_load(m);
        if ((b & META_COLOR) == 0)
            continue;
        if (heap_white(b)) {
            t.dead++;
            meta_store(m, b & (uint8_t)~META_COLOR);
        } else {
            t.live++;
            t.old += (b & META_COLOR) == META_COLOR;
            if (full)
                meta_store(m, b | META_COLOR);
        }
    }
    return t;
}

/* Before the sweep, which forgets which places it has freed. Zeroing is the
 * business of allocation, as for whatever else lies in a free place. */
static void clobber_dead(struct mspan *s)
{
    for (uint32_t i = 0; i < s->nelems; i++) {
        uintptr_t p = s->base + i * s->elemsize;
        uint8_t b = meta_load(heap_meta(p));
        if ((b & META_COLOR) == 0 || !heap_white(b))
            continue;
        for (uint64_t *w = (uint64_t *)p, *end = w + s->elemsize / 8; w < end;
             w++)
            *w = FREE_PATTERN;
    }
}

void span_sweep(struct mspan *s)
{
    uint32_t gen = atomic_load_explicit(&heap.sweepgen, memory_order_relaxed);
    ASSERT(atomic_load_explicit(&s->sweepgen, memory_order_relaxed) ==
               gen - 2 &&
           span_state(s) == SPAN_INUSE);
    if (unlikely(atomic_load_explicit(&s->specials, memory_order_acquire) !=
                 NULL))
        heap_hooks.sweep_specials(s);
    if (!heap.full && !s->young) {
        /* Nothing in it was white, and nothing has been taken from it. */
        DASSERT(s->freeindex == 0 || s->large);
        atomic_store_explicit(&s->sweepgen, gen, memory_order_relaxed);
        return;
    }
    uint8_t *m = heap_meta(s->base);
    size_t stride = s->elemsize / GRANULE;
    if (unlikely(options.clobberfree))
        clobber_dead(s);
    struct tally t;
    if (!META_WIDE || stride > WIDE_MAX_STRIDE)
        t = sweep_places(m, s->nelems, stride, heap.full);
    else if (heap.full)
        t = sweep_words(m, s->nelems * stride, true);
    else
        t = sweep_words(m, s->nelems * stride, false);
    s->live = t.live;
    s->young = !heap.full && t.old < t.live;
    s->freeindex = 0;
    atomic_store_explicit(&s->sweepgen, gen, memory_order_relaxed);
    if (t.dead > 0) {
        uint64_t bytes = (uint64_t)t.dead * s->elemsize;
        s->needzero = true;
        atomic_fetch_sub_explicit(&heap.live, bytes, memory_order_relaxed);
        atomic_fetch_add_explicit(&heap.swept_bytes, bytes,
                                  memory_order_relaxed);
        atomic_fetch_add_explicit(&heap.swept_objects, t.dead,
                                  memory_order_relaxed);
    }
}
