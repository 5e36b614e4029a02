/* heap/memory.c - what of the heap is in memory, and for what.
 *
 * An object may have been touched in part only, and a page of the system may have
 * objects and free places: for spans that are not wholly resident, each object's share
 * is counted page by page. */
#include "base/vm.h"
#include "heap/internal.h"

struct count {
    struct heap_memory *m;
    const uint64_t *bits; /* of the arena's pages */
};

static bool page_in(const struct count *c, uintptr_t p)
{
    size_t i = (p - heap.lo) / OS_PAGE;
    return c->bits[i / 64] >> i % 64 & 1;
}

/* Of [lo, hi). */
static size_t resident_part(const struct count *c, uintptr_t lo, uintptr_t hi)
{
    size_t n = 0;
    while (lo < hi) {
        uintptr_t end = ALIGN_DOWN(lo, (uintptr_t)OS_PAGE) + OS_PAGE;
        if (end > hi)
            end = hi;
        if (page_in(c, lo))
            n += end - lo;
        lo = end;
    }
    return n;
}

static void count_span(struct mspan *s, void *vc)
{
    const struct count *c = vc;
    size_t all = s->npages * PAGE_SIZE, objects = 0;
    size_t in = resident_part(c, s->base, s->base + all);
    for (uint32_t i = 0; i < s->nelems; i++) {
        uintptr_t p = s->base + i * s->elemsize;
        if ((meta_load(heap_meta(p)) & META_COLOR) == 0)
            continue;
        objects +=
            in == all ? s->elemsize : resident_part(c, p, p + s->elemsize);
    }
    c->m->objects += objects;
    c->m->free_places += in - objects;
}

/* The part of a table that describes the arena, by the size of its entry. */
static size_t table_part(struct resident *r, const void *at, size_t bytes)
{
    return resident_bytes(r, (uintptr_t)at, (uintptr_t)at + bytes);
}

bool heap_memory(struct resident *r, struct heap_memory *m)
{
    *m = (struct heap_memory){0};
    size_t arena = pages_end() - heap.lo;
    size_t npages = arena / OS_PAGE;
    size_t size = ALIGN_UP(npages / 8 + 8, OS_PAGE);
    uint64_t *bits = vm_map(size);
    if (bits == NULL)
        return false;
    resident_bits(r, heap.lo, npages, bits);
    struct count c = {m, bits};
    heap_each_span(count_span, &c);
    size_t in = 0;
    for (size_t i = 0; i < size / sizeof *bits; i++)
        in += (size_t)__builtin_popcountll(bits[i]) * OS_PAGE;
    m->free_pages = in - m->objects - m->free_places;
    vm_release(bits, size);
    m->structs = pages_struct_bytes();
    m->metadata = m->structs;
    m->metadata += table_part(r, heap_meta(heap.lo), arena / GRANULE);
    m->metadata += table_part(r, (void *)&heap.pages[heap.lo >> PAGE_SHIFT],
                              arena / PAGE_SIZE * sizeof(void *));
    m->metadata += table_part(r, pages_states(), arena / PAGE_SIZE);
    m->metadata += table_part(r, heap.slots,
                              atomic_load(&heap.nslots) * sizeof *heap.slots);
    m->metadata += table_part(r, tarn_cards.table, CARDS);
    for (const struct mcache *k = mcache_first(); k != NULL; k = k->next)
        m->metadata +=
            table_part(r, k->entries, MAX_SLOTS * sizeof *k->entries);
    return true;
}
