/* bench/heap_alloc.c - what one allocation costs, refills, zeroing and the
 * sweeping done by the allocator included, by how many places of the swept
 * spans are free. One thread, no marking: the program itself says what lives.
 *
 *   heap_alloc [MiB allocated per cycle, 16]
 */
#include <stdio.h>
#include <stdlib.h>

#include "heap/heap.h"

#define ROUNDS 7

static struct mcache cache;

static uintptr_t refill_and_alloc(uint32_t slot)
{
    if (mcache_refill(&cache, slot) == 0) {
        fputs("out of memory\n", stderr);
        exit(1);
    }
    return mcache_alloc(&cache, slot);
}

/* Returns ns for each of n objects. */
static double allocate(uint32_t slot, size_t n)
{
    int64_t t = nanotime();
    for (size_t i = 0; i < n; i++) {
        uintptr_t p = mcache_alloc(&cache, slot);
        if (unlikely(p == 0))
            p = refill_and_alloc(slot);
        *(uint64_t *)p = i;
    }
    return (double)(nanotime() - t) / (double)n;
}

static double sweep(void)
{
    int64_t t = nanotime();
    while (heap_sweep_one() > 0)
        ;
    return (double)(nanotime() - t);
}

struct lottery {
    uint64_t rng;
    uint32_t keep; /* of 8 */
};

static void mark_span(struct mspan *s, void *arg)
{
    struct lottery *l = arg;
    for (uint32_t i = 0; l->keep > 0 && i < s->nelems; i++) {
        uint8_t *m = heap_meta(s->base + i * s->elemsize);
        if ((*m & META_COLOR) != 0 && rand_below(&l->rng, 8) < l->keep)
            meta_store(m, heap_marked(*m));
    }
}

/* A collection that keeps so many of 8 objects; the sweep is still to come. */
static void collect(uint32_t keep)
{
    static struct lottery l = {.rng = 1};
    sweep();
    heap_flip_color(true);
    l.keep = keep;
    heap_each_span(mark_span, &l);
    mcache_flush(&cache);
    heap_sweep_start();
}

static void best(double *a, double b)
{
    if (*a == 0 || b < *a)
        *a = b;
}

int main(int argc, char **argv)
{
    size_t bytes = (argc > 1 ? strtoul(argv[1], NULL, 0) : 16) * MiB;
    static const size_t sizes[] = {16, 32, 64, 128, 256, 1024, 4096, 32768};
    static const uint32_t keep[] = {0, 4, 7};
    if (!heap_init(64 * GiB) || !mcache_init(&cache))
        return 1;
    puts("        ns per object, by part of the places that is free    "
         "GiB/s swept\n"
         "  size     fresh       all       1/2       1/8      all live"
         "  all dead");
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        uint32_t slot = SLOT_CONSERVATIVE(size_to_class(sizes[i]));
        size_t n = bytes / sizes[i];
        double fresh = allocate(slot, n), t[ARRAY_LEN(keep)] = {0};
        double live = 0, dead = 0;
        for (int r = 0; r < ROUNDS; r++) {
            for (size_t k = 0; k < ARRAY_LEN(keep); k++) {
                collect(0); /* n objects, packed */
                allocate(slot, n);
                collect(keep[k]);
                best(&t[k], allocate(slot, n * (8 - keep[k]) / 8));
            }
            collect(8);
            best(&live, sweep());
            collect(0);
            best(&dead, sweep());
            allocate(slot, n);
        }
        double gib = (double)bytes / (double)GiB * 1e9;
        printf("%6zu %9.2f %9.2f %9.2f %9.2f %13.0f %9.0f\n", sizes[i], fresh,
               t[0], t[1], t[2], gib / live, gib / dead);
        collect(0);
        sweep();
    }
    return 0;
}
