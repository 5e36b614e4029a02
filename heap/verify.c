/* heap/verify.c - the whole heap against its invariants, for debug builds.
 *
 * With the world stopped: reads everything without locks of its own. It needs
 * no memory, so that it can run anywhere; what lists and caches hold is
 * compared with what the page map holds by number, and each span is checked
 * where it is found.
 */
#include "heap/internal.h"

struct census {
    size_t spans, bytes; /* bytes of places with a colour */
};

/* A mark has begun, and its sweep has not. Flips of the colour and sweeps take
 * turns, and both leave a parity. */
static bool marking(void)
{
    return atomic_load(&heap.color) - 1 != swept_index();
}

static bool place_allocated(const struct mspan *s, uint32_t i)
{
    return (*heap_meta(s->base + i * s->elemsize) & META_COLOR) != 0;
}

static uint32_t count_objects(const struct mspan *s)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->nelems; i++)
        n += place_allocated(s, i);
    return n;
}

/* Of a large object only the first granule's byte means anything, but colours are
 * nowhere else. */
static void verify_no_color(const struct mspan *s, size_t from)
{
    const uint8_t *m = heap_meta(s->base);
    uint8_t any = 0;
    size_t all = s->npages * (PAGE_SIZE / GRANULE);
    for (size_t g = from; g < all; g++)
        any |= m[g];
    for (size_t g = from; any & META_COLOR && g < all; g++)
        if (m[g] & META_COLOR)
            throw("heap: granule %zu of the span at %p has meta %#x", g,
                  (void *)s->base, m[g]);
}

/* The first place against what its slot says, the others against the first. */
static void verify_meta(const struct mspan *s, const struct slot_info *si)
{
    size_t stride = s->elemsize / GRANULE;
    const uint8_t *m = heap_meta(s->base), *p = m;
    if (s->large) {
        if ((m[0] & ~META_COLOR) != s->startbits)
            throw("heap: the large object at %p has meta %#x", (void *)s->base,
                  m[0]);
        verify_no_color(s, 1);
        return;
    }
    for (size_t g = 0; g < stride; g++) {
        uint8_t want = slot_static_meta(si, g);
        if ((m[g] & (g == 0 ? ~META_COLOR : 0xff)) != want)
            throw("heap: granule %zu of the place at %p has meta %#x, not %#x",
                  g, (void *)s->base, m[g], want);
    }
    for (uint32_t i = 0; i < s->nelems; i++, p += stride) {
        size_t g = 0;
        if (((p[0] ^ m[0]) & ~META_COLOR) == 0 &&
            memcmp(p + 1, m + 1, stride - 1) == 0)
            continue;
        while (g + 1 < stride &&
               ((p[g] ^ m[g]) & (g ? 0xff : ~META_COLOR)) == 0)
            g++;
        throw("heap: granule %zu of place %u at %p has meta %#x, not %#x", g, i,
              (void *)s->base, p[g], m[g]);
    }
    verify_no_color(s, s->nelems * stride);
}

/* What the sweep of the span did or will do, by the colours in it. Returns the
 * number of its objects. */
static uint32_t verify_colors(const struct mspan *s)
{
    uint32_t n[META_COLOR + 1] = {0};
    for (uint32_t i = 0; i < s->nelems; i++)
        n[*heap_meta(s->base + i * s->elemsize) & META_COLOR]++;
    uint32_t color = atomic_load(&heap.color), before = META_COLOR ^ color;
    uint32_t objects = s->nelems - n[0];
    bool swept = atomic_load(&s->sweepgen) == atomic_load(&heap.sweepgen);
    /* Garbage is gone after a sweep, and survivors of a full collection are old:
     * nothing has the colour of before until it is flipped again. */
    if (swept && !marking() && n[before] != 0)
        throw("heap: %u dead objects are in the swept span at %p", n[before],
              (void *)s->base);
    /* Only a sweep takes away what the last one counted. */
    if (objects < s->live)
        throw("heap: the span at %p has %u objects, %u after its sweep",
              (void *)s->base, objects, s->live);
    if (s->young)
        return objects;
    /* So a young collection passes it by. */
    if (objects != s->live || (s->freeindex != 0 && !s->large))
        throw("heap: the old span at %p has %u objects, %u after its sweep; "
              "freeindex %u",
              (void *)s->base, objects, s->live, s->freeindex);
    /* Old objects that a full collection has marked are not old until they are
     * swept. */
    bool recolored = heap.full && (marking() || !swept);
    if (n[before] != 0 || (n[color] != 0 && !recolored))
        throw("heap: the old span at %p has %u young objects", (void *)s->base,
              n[before] + n[color]);
    return objects;
}

static void verify_span(struct mspan *s, void *arg)
{
    struct census *census = arg;
    if (s->slot >= atomic_load(&heap.nslots))
        throw("heap: the span at %p has slot %u", (void *)s->base, s->slot);
    const struct slot_info *si = &heap.slots[s->slot];
    uint32_t gen = atomic_load(&heap.sweepgen), sg = atomic_load(&s->sweepgen);
    if (sg != gen && (sg != gen - 2 || heap_sweep_done()))
        throw("heap: the span at %p has sweepgen %u of %u", (void *)s->base, sg,
              gen);
    if (s->startbits != si->startbits || s->large != (s->slot == SLOT_LARGE))
        throw("heap: the span at %p is not of slot %u", (void *)s->base,
              s->slot);
    if (s->large) {
        if (s->nelems != 1 || s->divmagic != 0 || s->elemsize % GRANULE != 0 ||
            s->limit != s->base + s->elemsize ||
            s->npages != (s->elemsize + PAGE_SIZE - 1) >> PAGE_SHIFT)
            throw("heap: the large span at %p is wrong", (void *)s->base);
    } else {
        uint32_t c = si->class_;
        if (s->nelems != class_objs[c] || s->elemsize != class_size[c] ||
            s->divmagic != class_divmagic[c] || s->npages != class_pages[c] ||
            s->limit != s->base + s->nelems * s->elemsize ||
            s->type != si->type || s->layout != si->layout)
            throw("heap: the span at %p is not of class %u", (void *)s->base,
                  c);
    }
    verify_meta(s, si);
    census->spans++;
    census->bytes += verify_colors(s) * s->elemsize;
}

static void verify_list(const struct span_list *l, uint32_t slot, uint32_t gen,
                        int full, struct census *census)
{
    size_t n = 0;
    for (struct mspan *s = l->head; s != NULL; s = s->next, n++) {
        if (span_state(s) != SPAN_INUSE || s->slot != slot ||
            atomic_load(&s->sweepgen) != gen)
            throw("heap: the span at %p is in a list of slot %u",
                  (void *)s->base, slot);
        if (s->freeindex > s->nelems)
            throw("heap: the span at %p has freeindex %u", (void *)s->base,
                  s->freeindex);
        uint32_t i = 0;
        while (i < s->freeindex && place_allocated(s, i))
            i++;
        if (i < s->freeindex)
            throw("heap: place %u below freeindex %u of the span at %p is free",
                  i, s->freeindex, (void *)s->base);
        uint32_t objects = count_objects(s);
        if (full ? objects < s->nelems && !span_dense(s, objects)
                 : objects == s->nelems)
            throw("heap: the span at %p with %u of %u is in the wrong list",
                  (void *)s->base, objects, s->nelems);
    }
    if (n != atomic_load(&l->n))
        throw("heap: a list of slot %u has %zu spans, counted %zu", slot, n,
              (size_t)atomic_load(&l->n));
    census->spans += n;
}

/* Of a span in a cache: all below freeindex is taken but for what is left of the
 * run, and freemask says what is free from there on to the end of its block. */
static void verify_free_places(const struct mcache_entry *e)
{
    const struct mspan *s = e->span;
    uint32_t from = span_count(s, e->ptr - s->base);
    uint32_t to = span_count(s, e->run_end - s->base);
    if (to > s->freeindex || s->freeindex > s->nelems)
        throw("heap: the span at %p in a cache has freeindex %u",
              (void *)s->base, s->freeindex);
    for (uint32_t i = 0; i < s->freeindex; i++)
        if ((i < from || i >= to) && !place_allocated(s, i))
            throw("heap: the free place %u of the span at %p is lost", i,
                  (void *)s->base);
    if (s->freeindex == s->nelems)
        return;
    uint64_t mask = 0;
    uint32_t b = s->freeindex & ~UINT32_C(63);
    for (uint32_t i = s->freeindex; i < b + 64 && i < s->nelems; i++)
        mask |= (uint64_t)!place_allocated(s, i) << (i - b);
    if (mask != s->freemask || !(mask >> (s->freeindex - b) & 1))
        throw("heap: the span at %p has freemask %#zx, not %#zx",
              (void *)s->base, (size_t)s->freemask, (size_t)mask);
}

static void verify_head(const struct mcache *c)
{
    const struct tarn_cache_head *h =
        (const struct tarn_cache_head *)(const void *)c->entries;
    if (h->meta != (uintptr_t)heap.meta || h->color != atomic_load(&heap.color))
        throw("heap: a cache allocates colour %u", (unsigned)h->color);
}

static void verify_cache(const struct mcache *c, struct census *census)
{
    verify_head(c);
    for (uint32_t slot = c->used; slot != NO_SLOT;
         slot = c->entries[slot].next_used) {
        const struct mcache_entry *e = &c->entries[slot];
        const struct mspan *s = e->span;
        if (s == NULL)
            continue;
        if (s->slot != slot || e->size != s->elemsize || e->ptr > e->end ||
            e->end > e->run_end || e->ptr < s->base || e->run_end > s->limit ||
            (e->ptr - s->base) % e->size != 0 ||
            (e->end - s->base) % e->size != 0 ||
            (e->run_end - s->base) % e->size != 0 ||
            e->startbits != s->startbits || !e->listed)
            throw("heap: the cache entry of slot %u is wrong", slot);
        if (atomic_load(&s->sweepgen) != atomic_load(&heap.sweepgen))
            throw("heap: the span at %p in a cache is not swept",
                  (void *)s->base);
        verify_free_places(e);
        /* An allocation that was interrupted before its last step may have
         * coloured the next place: counted with the objects of its span. */
        bool abandoned =
            e->ptr < e->end && (*heap_meta(e->ptr) & META_COLOR) != 0;
        if (abandoned)
            census->bytes -= e->size;
        uintptr_t first = abandoned ? e->ptr + e->size : e->ptr;
        for (uintptr_t p = first; p < e->run_end; p += e->size)
            if (*heap_meta(p) & META_COLOR)
                throw("heap: %p is in a cache and allocated", (void *)p);
        for (const uint64_t *w = (uint64_t *)e->ptr; w < (uint64_t *)e->end;
             w++)
            if (*w != 0)
                throw("heap: %p is in a cache and not zero", (void *)w);
        census->spans++;
        census->bytes += e->end - e->ptr;
    }
    /* Handed out, but not in heap.live yet. */
    census->bytes -= c->live_pending;
}

/* What a mark, stores and a sweep go by. */
static void verify_epoch(void)
{
    uint8_t epoch = tarn_cards.epoch, last = heap.epoch_before;
    if (epoch == 0 || (last != 0 && epoch != (last == 255 ? 1 : last + 1)))
        throw("heap: the cards' epoch is %u, before it was %u", epoch, last);
    uint32_t color = atomic_load(&heap.color), before = META_COLOR ^ color;
    if (last != 0 && (heap.white_bit != (heap.full ? before : color) ||
                      heap.white_xor != (heap.full ? 0 : color)))
        throw("heap: white is %#x of %#x in colour %u", heap.white_xor,
              heap.white_bit, color);
}

void heap_verify(void)
{
    verify_epoch();
    pages_verify();
    struct census map = {0, 0}, held = {0, 0};
    heap_each_span(verify_span, &map);
    uint32_t gen = atomic_load(&heap.sweepgen);
    for (uint32_t slot = 0; slot < atomic_load(&heap.nslots); slot++) {
        const struct slot_info *si = &heap.slots[slot];
        uint32_t i = swept_index();
        verify_list(&si->partial[i], slot, gen, 0, &held);
        verify_list(&si->full[i], slot, gen, 1, &held);
        verify_list(&si->partial[!i], slot, gen - 2, 0, &held);
        verify_list(&si->full[!i], slot, gen - 2, 1, &held);
    }
    for (struct mcache *c = mcache_first(); c != NULL; c = c->next)
        verify_cache(c, &held);
    if (map.spans != held.spans)
        throw("heap: %zu spans in use, %zu in lists and caches", map.spans,
              held.spans);
    if (map.bytes + held.bytes + atomic_load(&heap.external) !=
        atomic_load(&heap.live))
        throw("heap: %zu bytes live, counted %zu", map.bytes + held.bytes,
              (size_t)atomic_load(&heap.live));
}
