/* heap/central.c - who has which span: caches, central lists, sweeping order,
 * large objects.
 *
 * A cache takes a span from its slot's central lists, hands its free places out
 * run by run, and puts it on the swept full list when there are none left. The
 * sweep of a generation takes each span from an unswept list exactly once,
 * whether the background sweeper or an allocator in need takes it.
 *
 * Beginning a sweep (sweep_begin) keeps the generation from ending, so that a
 * span in a sweeper's hands is never missed. Allocators hold a P, so that no
 * generation begins under them; sweepers without one are safe because a
 * generation begins only when the last one has ended.
 *
 * Locks: RANK_CENTRAL, one at a time, for list operations only.
 */
#include "base/vm.h"
#include "heap/internal.h"

/* How much memory a cache zeroes ahead of allocation: enough to be worth a
 * call, little enough to be in the first-level cache when it is used. */
#define ZERO_AHEAD ((size_t)4096)
/* How many spans that were full an allocator sweeps, at a microsecond each, before
 * it takes new pages: a bound for its delay. Where one is full of live objects, so
 * may be all, for whoever comes next as well; few where free pages are at hand. The
 * driver sweeps, and debts see to it that it keeps up. */
#define SWEEP_FULL_MAX 8u
#define SWEEP_FULL_WARM 2u
#define SWEEP_FULL_TIGHT 100u
#define SWEEP_LARGE_MAX 32
#define WITHIN_SMALL 16u /* pages of a span that is wholly dirty or not */

/* --- lists ---------------------------------------------------------------- */

/* Under the slot's lock. */
static void list_push(struct span_list *l, struct mspan *s)
{
    s->next = l->head;
    l->head = s;
    atomic_store_explicit(&l->n,
                          atomic_load_explicit(&l->n, memory_order_relaxed) + 1,
                          memory_order_relaxed);
}

static struct mspan *list_pop(struct span_list *l)
{
    struct mspan *s = l->head;
    if (s != NULL) {
        l->head = s->next;
        s->next = NULL;
        atomic_store_explicit(
            &l->n, atomic_load_explicit(&l->n, memory_order_relaxed) - 1,
            memory_order_relaxed);
    }
    return s;
}

static bool list_empty(struct span_list *l)
{
    return atomic_load_explicit(&l->n, memory_order_relaxed) == 0;
}

static struct mspan *take(struct slot_info *si, struct span_list *l)
{
    if (list_empty(l))
        return NULL;
    lock(&si->lock);
    struct mspan *s = list_pop(l);
    unlock(&si->lock);
    return s;
}

static void put(struct slot_info *si, struct span_list *l, struct mspan *s)
{
    lock(&si->lock);
    list_push(l, s);
    unlock(&si->lock);
}

/* --- sweeping ------------------------------------------------------------- */

static bool sweep_begin(void)
{
    uint32_t n = atomic_load_explicit(&heap.sweepers, memory_order_relaxed);
    do {
        if (n & SWEEP_DRAINED)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(
        &heap.sweepers, &n, n + 1, memory_order_acquire, memory_order_relaxed));
    return true;
}

static void sweep_end(void)
{
    atomic_fetch_sub_explicit(&heap.sweepers, 1, memory_order_release);
}

bool heap_sweep_done(void)
{
    return atomic_load_explicit(&heap.sweepers, memory_order_acquire) ==
           SWEEP_DRAINED;
}

static struct tarn_cache_head *head_of(struct mcache *c)
{
    return (struct tarn_cache_head *)(void *)c->entries;
}

void heap_flip_color(bool full)
{
    ASSERT(heap_sweep_done());
    uint32_t before = atomic_load_explicit(&heap.color, memory_order_relaxed);
    uint32_t color = META_COLOR ^ before;
    heap.full = full;
    /* full: before and old have before's bit. young: color and old have
     * color's. */
    heap.white_xor = (uint8_t)(full ? 0 : color);
    heap.white_bit = (uint8_t)(full ? before : color);
    heap.mark_clear = full ? META_COLOR : 0;
    heap.mark_set = full ? (uint8_t)color : META_COLOR;
    heap.epoch_before = tarn_cards.epoch;
    tarn_cards.epoch =
        (uint8_t)(tarn_cards.epoch == 255 ? 1 : tarn_cards.epoch + 1);
    atomic_store_explicit(&heap.color, color, memory_order_release);
    for (struct mcache *c = mcache_first(); c != NULL; c = c->next)
        head_of(c)->color = (uint8_t)color;
    heap.mark_size =
        atomic_load_explicit(&heap.used_hi, memory_order_acquire) - heap.lo;
}

void heap_sweep_start(void)
{
    ASSERT(heap_sweep_done());
    for (struct mcache *c = mcache_first(); c != NULL; c = c->next)
        DASSERT(c->used == NO_SLOT);
    atomic_fetch_add_explicit(&heap.sweepgen, 2, memory_order_release);
    atomic_store_explicit(&heap.sweep_cursor, 0, memory_order_relaxed);
    atomic_store_explicit(&heap.sweepers, 0, memory_order_release);
}

/* Only forward. */
static void cursor_advance(uint32_t to)
{
    uint32_t at =
        atomic_load_explicit(&heap.sweep_cursor, memory_order_relaxed);
    while (at < to && !atomic_compare_exchange_weak_explicit(
                          &heap.sweep_cursor, &at, to, memory_order_relaxed,
                          memory_order_relaxed))
        ;
}

static bool memory_is_short(void)
{
    uint64_t until =
        atomic_load_explicit(&heap.dense_until, memory_order_relaxed);
    return atomic_load_explicit(&heap.tight, memory_order_relaxed) ||
           atomic_load_explicit(&heap.refused, memory_order_relaxed) ||
           (until != 0 && atomic_load_explicit(&heap.pages_inuse,
                                               memory_order_relaxed) > until) ||
           atomic_load_explicit(&heap.mapped, memory_order_relaxed) >
               heap.size / 2;
}

/* Whether a swept span is worth allocating from before the next collection. Holes in
 * one that is nearly full are short, and what is put in them keeps it from ever
 * becoming empty, as it might when its objects die together. Where memory is short
 * every place counts. */
static bool has_room(const struct mspan *s)
{
    return s->live < s->nelems &&
           (!span_dense(s, s->live) || memory_is_short());
}

/* Sweeps and gives the span to the list where it belongs now, or its pages back
 * if nothing lives in it: then true. */
static bool sweep_and_put(struct slot_info *si, struct mspan *s)
{
    span_sweep(s);
    if (s->live == 0) {
        pages_free(s);
        return true;
    }
    uint32_t i = swept_index();
    put(si, has_room(s) ? &si->partial[i] : &si->full[i], s);
    return false;
}

#define SWEEP_BATCH 8u

/* Some of l, in the order in which they were in it. */
static uint32_t take_some(struct slot_info *si, struct span_list *l,
                          struct mspan **out)
{
    uint32_t n = 0;
    if (list_empty(l))
        return 0;
    lock(&si->lock);
    while (n < SWEEP_BATCH && (out[n] = list_pop(l)) != NULL)
        n++;
    unlock(&si->lock);
    return n;
}

/* The mark bytes of a page: it costs as much to find the first as all of them. */
static void prefetch_meta(const struct mspan *s)
{
    const uint8_t *m = heap_meta(s->base);
    for (size_t i = 0; i < PAGE_SIZE / GRANULE; i += CACHE_LINE)
        __builtin_prefetch(m + i, 1);
}

/* Sweeps them; the pages of those in which nothing lives go back, the others on
 * the lists where they belong now. Returns the pages swept. */
static size_t sweep_batch(struct slot_info *si, struct mspan **s, uint32_t n)
{
    size_t swept = 0;
    uint32_t left = 0, i = swept_index();
    for (uint32_t k = 0; k < n; k++) {
        if (k + 1 < n)
            prefetch_meta(s[k + 1]);
        span_sweep(s[k]);
        swept += s[k]->npages;
        if (s[k]->live == 0)
            pages_free(s[k]);
        else
            s[left++] = s[k];
    }
    if (left == 0)
        return swept;
    lock(&si->lock);
    for (uint32_t k = 0; k < left; k++)
        list_push(has_room(s[k]) ? &si->partial[i] : &si->full[i], s[k]);
    unlock(&si->lock);
    return swept;
}

size_t heap_sweep_one(void)
{
    if (!sweep_begin())
        return 0;
    size_t swept = 0;
    struct mspan *batch[SWEEP_BATCH];
    uint32_t i = !swept_index();
    uint32_t n = atomic_load_explicit(&heap.nslots, memory_order_acquire);
    uint32_t slot =
        atomic_load_explicit(&heap.sweep_cursor, memory_order_relaxed);
    for (; slot < n; slot++) {
        struct slot_info *si = &heap.slots[slot];
        uint32_t taken = take_some(si, &si->full[i], batch);
        if (taken == 0)
            taken = take_some(si, &si->partial[i], batch);
        if (taken != 0) {
            cursor_advance(slot);
            swept = sweep_batch(si, batch, taken);
            break;
        }
    }
    /* Unswept lists only shrink, so what was found empty is empty. */
    if (slot >= n) {
        cursor_advance(n);
        atomic_fetch_or_explicit(&heap.sweepers, SWEEP_DRAINED,
                                 memory_order_relaxed);
    }
    sweep_end();
    return swept;
}

/* An unswept span with room, swept; others, most of them at most, go to the swept full
 * list. Those may be of the partial list, too: dense ones, since memory is not short any
 * more. */
static struct mspan *take_unswept(struct slot_info *si, uint32_t most)
{
    if (!sweep_begin())
        return NULL;
    uint32_t i = swept_index();
    struct mspan *s = NULL;
    for (uint32_t n = 0; n < most; n++) {
        s = take(si, &si->partial[!i]);
        if (s == NULL)
            s = take(si, &si->full[!i]);
        if (s == NULL)
            break;
        span_sweep(s);
        if (has_room(s))
            break;
        put(si, &si->full[i], s);
        s = NULL;
    }
    sweep_end();
    return s;
}

/* Memory is short: garbage that was not swept yet may be what is needed. */
static NOINLINE struct mspan *pages_alloc_sweeping(size_t npages)
{
    struct mspan *s = pages_alloc(npages);
    while (s == NULL && heap_sweep_one() != 0)
        s = pages_alloc(npages);
    return s;
}

/* Pages were taken, and no memory was there: as much of what lies about elsewhere,
 * in runs that were too short, may have to go back. */
static void stay_within(const struct mspan *s)
{
    uint64_t most =
        atomic_load_explicit(&heap.mapped_most, memory_order_relaxed);
    if (likely(most == 0) || (s->needzero && s->npages <= WITHIN_SMALL))
        return;
    struct heap_release r = {0};
    while (atomic_load_explicit(&heap.mapped, memory_order_relaxed) > most &&
           r.released < (s->npages << PAGE_SHIFT) && pages_dirty() != 0)
        if (!heap_release_step(&r, 0))
            break;
}

/* --- caches --------------------------------------------------------------- */

/* For verification: nothing else finds the caches. */
static struct {
    struct mutex lock;
    struct mcache *first;
} caches = {.lock = MUTEX_INIT(LEAF)};

static size_t entries_size(void)
{
    return ALIGN_UP(MAX_SLOTS * sizeof(struct mcache_entry), OS_PAGE);
}

struct mcache *mcache_first(void)
{
    return caches.first;
}

bool mcache_init(struct mcache *c)
{
    memset(c, 0, sizeof *c);
    c->used = NO_SLOT;
    c->entries = vm_map(entries_size());
    if (c->entries == NULL) {
        set_error("heap: no memory for an allocation cache");
        return false;
    }
    c->fast = c->entries;
    head_of(c)->meta = (uintptr_t)heap.meta;
    lock(&caches.lock);
    head_of(c)->color =
        (uint8_t)atomic_load_explicit(&heap.color, memory_order_relaxed);
    sample_cache(c);
    c->next = caches.first;
    caches.first = c;
    unlock(&caches.lock);
    return true;
}

void mcache_destroy(struct mcache *c)
{
    mcache_flush(c);
    lock(&caches.lock);
    struct mcache **at = &caches.first;
    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    unlock(&caches.lock);
    vm_release(c->entries, entries_size());
    c->entries = c->fast = NULL;
}

ALWAYS_INLINE void zero16(uintptr_t p)
{
    __builtin_memset(__builtin_assume_aligned((void *)p, 16), 0, 16);
}

/* A small multiple of 16 bytes, or a page. */
static inline void zero(uintptr_t p, size_t n)
{
    if (n > 128) {
        memset((void *)p, 0, n);
        return;
    }
    /* How many there are of the first four, nobody can foretell: all are written, the
     * last one more than once. */
    const uintptr_t end = p + n, last = end - 16;
    zero16(p);
    zero16(p + 16 < last ? p + 16 : last);
    zero16(p + 32 < last ? p + 32 : last);
    zero16(p + 48 < last ? p + 48 : last);
    for (p += 64; p < end; p += 16)
        zero16(p);
}

/* n more bytes of objects can be allocated from e. */
ALWAYS_INLINE void handed_out(struct mcache *c, struct mcache_entry *e,
                              size_t n, uint32_t objects)
{
    e->ptr = e->end;
    e->end += n;
    c->alloc_bytes += n;
    c->alloc_objects += objects;
    c->live_pending += n;
    if (unlikely(c->live_pending >= LIVE_BATCH)) {
        atomic_fetch_add_explicit(&heap.live, c->live_pending,
                                  memory_order_relaxed);
        c->live_pending = 0;
    }
}

/* Makes the next part of the run allocatable. */
static size_t hand_out(struct mcache *c, struct mcache_entry *e,
                       struct mspan *s)
{
    uintptr_t p = e->end;
    size_t n = e->run_end - p;
    if (s->needzero) {
        if (n > ZERO_AHEAD) {
            /* Whole places. */
            uint32_t places = span_count(s, ZERO_AHEAD);
            n = places > 0 ? places * s->elemsize : s->elemsize;
        }
    }
    if (unlikely(atomic_load_explicit(&heap.sample_interval,
                                      memory_order_relaxed) != 0))
        n = sample_cut(c, e, s, n);
    if (s->needzero)
        zero(p, n);
    handed_out(c, e, n, span_count(s, n));
    return n;
}

/* Takes the next run of free places out of the span. */
static bool next_run(struct mcache_entry *e, struct mspan *s)
{
    uint32_t i = 0, end;
    if (s->freeindex == 0 && s->live == 0)
        s->freeindex = end = s->nelems; /* new, or swept and found empty */
    else if (!span_take_run(s, &i, &end))
        return false;
    e->ptr = e->end = s->base + i * s->elemsize;
    e->run_end = s->base + end * s->elemsize;
    return true;
}

#define SHORT_RUN ((size_t)512)

bool mcache_next_run(struct mcache *c, struct mcache_entry *e)
{
    struct mspan *s = e->span;
    uint32_t i, end;
    if (s == NULL || e->end < e->run_end || s->live == 0 ||
        atomic_load_explicit(&heap.sample_interval, memory_order_relaxed) !=
            0 ||
        !span_take_run(s, &i, &end))
        return false;
    size_t n = (end - i) * s->elemsize;
    e->ptr = e->end = s->base + i * s->elemsize;
    e->run_end = e->end + n;
    if (n > SHORT_RUN)
        return false; /* mcache_refill goes on with it */
    if (s->needzero)
        zero(e->end, n);
    handed_out(c, e, n, end - i);
    /* The next one will be wanted soon. */
    __builtin_prefetch((void *)(s->base + s->freeindex * s->elemsize), 1);
    c->unpaid += n;
    return true;
}

static void entry_clear(struct mcache_entry *e)
{
    e->ptr = e->end = e->run_end = 0;
    e->sample = false;
    e->span = NULL;
}

static struct mspan *take_span(uint32_t slot)
{
    struct slot_info *si = &heap.slots[slot];
    struct mspan *s = take(si, &si->partial[swept_index()]);
    bool tight = atomic_load_explicit(&heap.tight, memory_order_relaxed);
    if (s == NULL)
        s = take_unswept(si, pages_warm() ? SWEEP_FULL_WARM
                             : tight      ? SWEEP_FULL_TIGHT
                                          : SWEEP_FULL_MAX);
    if (s != NULL)
        return s;
    size_t npages = class_pages[si->class_];
    if (unlikely(tight) && !pages_warm())
        heap_sweep_one();
    s = pages_alloc(npages);
    if (unlikely(s == NULL)) {
        s = take_unswept(si, UINT32_MAX);
        if (s != NULL)
            return s;
        s = pages_alloc_sweeping(npages);
    }
    if (s != NULL) {
        span_setup(s, slot);
        stay_within(s);
    }
    return s;
}

static void entry_fill(struct mcache *c, uint32_t slot, struct mspan *s)
{
    struct mcache_entry *e = &c->entries[slot];
    e->span = s;
    s->young = true;
    e->size = (uint16_t)s->elemsize;
    e->startbits = s->startbits;
    if (s->live > 0 || s->freeindex > 0)
        span_find_free(s);
    if (!e->listed) {
        e->listed = true;
        e->next_used = c->used;
        c->used = slot;
    }
}

size_t mcache_refill(struct mcache *c, uint32_t slot)
{
    struct mcache_entry *e = &c->entries[slot];
    DASSERT(e->ptr >= e->end);
    if (e->end < e->run_end)
        return hand_out(c, e, e->span);
    while (e->span == NULL || !next_run(e, e->span)) {
        if (e->span != NULL) {
            struct slot_info *si = &heap.slots[slot];
            put(si, &si->full[swept_index()], e->span);
            entry_clear(e);
        }
        struct mspan *s = take_span(slot);
        if (s == NULL) {
            set_error("heap: out of memory");
            return 0;
        }
        entry_fill(c, slot, s);
    }
    return hand_out(c, e, e->span);
}

/* Puts the span of one entry back; returns the bytes not used. */
static size_t entry_flush(struct mcache *c, uint32_t slot)
{
    struct mcache_entry *e = &c->entries[slot];
    struct mspan *s = e->span;
    size_t unused = 0;
    e->listed = false;
    if (s == NULL)
        return 0;
    if (e->ptr < e->end) {
        unused = e->end - e->ptr;
        c->alloc_objects -= span_count(s, unused);
        /* The colour that an interrupted allocation may have left. */
        meta_store(heap_meta(e->ptr), e->startbits);
    }
    if (e->ptr < e->run_end)
        s->freeindex = span_count(s, e->ptr - s->base);
    struct slot_info *si = &heap.slots[slot];
    uint32_t i = swept_index();
    put(si, s->freeindex < s->nelems ? &si->partial[i] : &si->full[i], s);
    entry_clear(e);
    return unused;
}

void mcache_flush(struct mcache *c)
{
    size_t unused = 0;
    for (uint32_t slot = c->used; slot != NO_SLOT;
         slot = c->entries[slot].next_used)
        unused += entry_flush(c, slot);
    c->used = NO_SLOT;
    /* May be less than nothing: the sum is right modulo 2^64. */
    atomic_fetch_add_explicit(&heap.live, c->live_pending - unused,
                              memory_order_relaxed);
    atomic_fetch_add_explicit(&heap.alloc_bytes, c->alloc_bytes - unused,
                              memory_order_relaxed);
    atomic_fetch_add_explicit(&heap.alloc_objects, c->alloc_objects,
                              memory_order_relaxed);
    c->live_pending = c->alloc_bytes = c->alloc_objects = 0;
}

int64_t mcache_unused_bytes(void)
{
    int64_t unused = 0;
    for (struct mcache *c = mcache_first(); c != NULL; c = c->next) {
        for (uint32_t slot = c->used; slot != NO_SLOT;
             slot = c->entries[slot].next_used)
            unused += (int64_t)(c->entries[slot].end - c->entries[slot].ptr);
        unused -= (int64_t)c->live_pending;
    }
    return unused;
}

void heap_settle(void)
{
    while (heap_sweep_one() != 0)
        ;
    ASSERT(heap_sweep_done());
    for (struct mcache *c = mcache_first(); c != NULL; c = c->next)
        for (uint32_t slot = c->used; slot != NO_SLOT;
             slot = c->entries[slot].next_used) {
            const struct mcache_entry *e = &c->entries[slot];
            /* Whoever was interrupted there begins anew. */
            if (e->ptr < e->end)
                meta_store(heap_meta(e->ptr), e->startbits);
        }
}

/* --- large objects -------------------------------------------------------- */

/* Large garbage first, at least as many pages as are needed now. */
static void sweep_large(size_t npages)
{
    struct slot_info *si = &heap.slots[SLOT_LARGE];
    struct mspan *s;
    if (!sweep_begin())
        return;
    uint32_t unswept = !swept_index();
    for (uint32_t i = 0; npages > 0 && i < SWEEP_LARGE_MAX &&
                         (s = take(si, &si->full[unswept])) != NULL;
         i++) {
        size_t n = s->npages;
        if (sweep_and_put(si, s))
            npages -= n < npages ? n : npages;
    }
    sweep_end();
}

bool heap_large_take(struct heap_large *l, size_t n)
{
    *l = (struct heap_large){0};
    if (n > heap.hi - heap.lo) {
        set_error("heap: %zu bytes are more than the heap can hold", n);
        return false;
    }
    DASSERT(n > 0);
    n = ALIGN_UP(n, GRANULE);
    size_t npages = (n + PAGE_SIZE - 1) >> PAGE_SHIFT;
    sweep_large(npages);
    if (unlikely(atomic_load_explicit(&heap.tight, memory_order_relaxed)))
        for (uint32_t i = 0; i < SWEEP_LARGE_MAX && pages_dirty() < npages; i++)
            if (heap_sweep_one() == 0)
                break;
    struct mspan *s = pages_alloc_sweeping(npages);
    if (s == NULL) {
        set_error("heap: out of memory for an object of %zu bytes", n);
        return false;
    }
    stay_within(s);
    *l = (struct heap_large){.span = s, .size = n};
    if (!s->needzero)
        l->zeroed = n;
    return true;
}

bool heap_large_zero(struct heap_large *l, size_t step)
{
    DASSERT(step % PAGE_SIZE == 0);
    if (l->zeroed < l->size) {
        size_t left = l->size - l->zeroed, n = left < step ? left : step;
        pages_zero_dirty(l->span, l->zeroed, l->zeroed + n);
        l->zeroed += n;
    }
    return l->zeroed < l->size;
}

uintptr_t heap_large_publish(const struct heap_large *l, enum layout layout,
                             struct tarn_type *type)
{
    struct mspan *s = l->span;
    size_t n = l->size;
    DASSERT(l->zeroed == n);
    SPAN_SET(s, limit, s->base + n);
    SPAN_SET(s, elemsize, n);
    SPAN_SET(s, divmagic, 0);
    SPAN_SET(s, type, type);
    s->nelems = 1;
    s->slot = SLOT_LARGE;
    s->layout = (uint8_t)layout;
    s->startbits = heap.slots[SLOT_LARGE].startbits;
    s->large = true;
    s->young = true;
    s->live = 1;
    s->freeindex = 1;
    atomic_store_explicit(&s->specials, NULL, memory_order_relaxed);
    atomic_store_explicit(
        &s->sweepgen,
        atomic_load_explicit(&heap.sweepgen, memory_order_relaxed),
        memory_order_relaxed);
    uintptr_t base = s->base;
    meta_store(
        heap_meta(base),
        (uint8_t)(s->startbits |
                  atomic_load_explicit(&heap.color, memory_order_relaxed)));
    atomic_store_explicit(&s->state, SPAN_INUSE, memory_order_release);
    struct slot_info *si = &heap.slots[SLOT_LARGE];
    put(si, &si->full[swept_index()], s);
    atomic_fetch_add_explicit(&heap.live, n, memory_order_relaxed);
    atomic_fetch_add_explicit(&heap.alloc_bytes, n, memory_order_relaxed);
    atomic_fetch_add_explicit(&heap.alloc_objects, 1, memory_order_relaxed);
    return base;
}

uintptr_t heap_alloc_large(size_t n, enum layout layout, struct tarn_type *type)
{
    struct heap_large l;
    if (!heap_large_take(&l, n))
        return 0;
    heap_large_zero(&l, SIZE_MAX & ~(PAGE_SIZE - 1));
    return heap_large_publish(&l, layout, type);
}
