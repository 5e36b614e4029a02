/* gc/cards.c - the old objects that may point to young ones, for a young collection.
 *
 * A job goes over the cards of a block of the heap. Cards of the epoch before this
 * collection had stores into them since the last one began (heap.h); so may those
 * of this epoch, which is written over the other. Of each old object in such a
 * card the pointers that lie in it are pushed, like those of any object that is
 * scanned. Young objects need nothing: who reaches them scans them. */
#include <emmintrin.h>

#include "gc/gc.h"

uint32_t gc_card_jobs(void)
{
    return heap.full
               ? 0
               : (uint32_t)((heap.mark_size + CARD_BLOCK - 1) / CARD_BLOCK);
}

static bool is_old(uintptr_t base)
{
    return (meta_load(heap_meta(base)) & META_COLOR) == META_COLOR;
}

/* What is in [lo, hi) of the span's objects. */
static void scan_span_part(struct mspan *s, uintptr_t lo, uintptr_t hi,
                           struct gcwork *w)
{
    if (s->layout == LAYOUT_NOSCAN)
        return;
    uintptr_t limit = s->limit;
    hi = hi < limit ? hi : limit;
    if (lo >= hi)
        return;
    size_t size = s->elemsize;
    uintptr_t base =
        s->large ? s->base : s->base + (lo - s->base) / size * size;
    for (; base < hi; base += size) {
        if (!is_old(base))
            continue;
        uintptr_t from = base > lo ? base : lo;
        uintptr_t to = base + size < hi ? base + size : hi;
        if (s->layout == LAYOUT_TRACED)
            trace_part(s, base, from, to, w);
        else
            scan_part(s, from, to, w);
    }
}

static void scan_card(uintptr_t lo, struct gcwork *w)
{
    uintptr_t hi = lo + CARD;
    struct mspan *s = heap_span_of(lo);
    /* A page is of one span, and a card lies in one page. Spans that come into
     * being now have no old objects. */
    if (s != NULL &&
        atomic_load_explicit(&s->state, memory_order_acquire) == SPAN_INUSE &&
        lo - s->base < s->npages << PAGE_SHIFT &&
        (s->live != 0 ||
         s->large)) /* else all in it came since the last sweep */
        scan_span_part(s, lo, hi, w);
}

/* Sixteen cards that the program may be writing to, one byte at a time: each is
 * seen as it was or as it is, and who writes one now is a mutator whose pointer the
 * barrier notes. So ThreadSanitizer is not to look. */
#if TARN_TSAN
NO_SANITIZE static NOINLINE __m128i load_cards(const uint8_t *card)
#else
ALWAYS_INLINE __m128i load_cards(const uint8_t *card)
#endif
{
    return _mm_load_si128((const __m128i *)(const void *)card);
}

void gc_scan_cards(struct gcwork *w, uint32_t job)
{
    uintptr_t lo = heap.lo + (uintptr_t)job * CARD_BLOCK;
    const __m128i before = _mm_set1_epi8((char)heap.epoch_before);
    const __m128i now = _mm_set1_epi8((char)tarn_cards.epoch);
    /* Heap and cards are aligned so that a block's cards lie together. */
    const uint8_t *card = heap_card(lo);
    if (GC_FAULT(CARDS))
        return;
    for (size_t i = 0; i < CARD_BLOCK / CARD; i += 16) {
        __m128i c = load_cards(card + i);
        uint32_t hits = (uint32_t)_mm_movemask_epi8(
            _mm_or_si128(_mm_cmpeq_epi8(c, before), _mm_cmpeq_epi8(c, now)));
        for (; hits != 0; hits &= hits - 1)
            scan_card(lo + (i + (size_t)__builtin_ctz(hits)) * CARD, w);
    }
}
