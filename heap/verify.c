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

static uint32_t count_objects(const struct mspan *s)
{
    size_t stride = s->elemsize / GRANULE;
    const uint8_t *m = heap_meta(s->base);
    uint32_t n = 0;
    if (s->large)
        return (*m & META_COLOR) != 0;
    for (uint32_t i = 0; i < s->nelems; i++)
        n += (m[i * stride] & META_COLOR) != 0;
    return n;
}

static void verify_meta(const struct mspan *s, const struct slot_info *si)
{
    size_t stride = s->elemsize / GRANULE;
    const uint8_t *m = heap_meta(s->base);
    /* Of a large object only the first granule's byte means anything, but
     * colours are nowhere else. */
    size_t all = s->npages * (PAGE_SIZE / GRANULE);
    for (size_t g = 0; g < all; g++) {
        bool first =
            s->large ? g == 0 : g % stride == 0 && g / stride < s->nelems;
        uint8_t color = m[g] & META_COLOR;
        if (!first && color != 0)
            throw("heap: granule %zu of the span at %p has meta %#x", g,
                  (void *)s->base, m[g]);
    }
    for (size_t g = 0; !s->large && g < stride; g++) {
        uint8_t want = slot_static_meta(si, g);
        for (uint32_t i = 0; i < s->nelems; i++)
            if ((m[i * stride + g] & ~(META_COLOR | META_CHECK)) != want)
                throw("heap: granule %zu of place %u at %p has meta %#x, not "
                      "%#x",
                      g, i, (void *)s->base, m[i * stride + g], want);
    }
    if (s->large && (m[0] & ~(META_COLOR | META_CHECK)) != s->startbits)
        throw("heap: the large object at %p has meta %#x", (void *)s->base,
              m[0]);
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
    census->bytes += count_objects(s) * s->elemsize;
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
        while (i < s->freeindex &&
               (*heap_meta(s->base + i * s->elemsize) & META_COLOR))
            i++;
        if (i < s->freeindex && gen == atomic_load(&heap.sweepgen))
            throw("heap: place %u below freeindex %u of the span at %p is free",
                  i, s->freeindex, (void *)s->base);
        if (full == (count_objects(s) < s->nelems))
            throw("heap: the span at %p with %u of %u is in the wrong list",
                  (void *)s->base, count_objects(s), s->nelems);
    }
    if (n != atomic_load(&l->n))
        throw("heap: a list of slot %u has %zu spans, counted %zu", slot, n,
              (size_t)atomic_load(&l->n));
    census->spans += n;
}

static void verify_cache(const struct mcache *c, struct census *census)
{
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
            (e->run_end - s->base) % e->size != 0)
            throw("heap: the cache entry of slot %u is wrong", slot);
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

void heap_verify(void)
{
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
    if (map.bytes + held.bytes != atomic_load(&heap.live))
        throw("heap: %zu bytes live, counted %zu", map.bytes + held.bytes,
              (size_t)atomic_load(&heap.live));
}
