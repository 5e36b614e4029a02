/* tests/test_heap_objects.c - allocation, lookup and sweeping against a model
 * (heapmodel.h), by one thread. */
#include "base/fail.h"
#include "tests/heapmodel.h"

#define HEAP_SIZE (512 * MiB)

/* --- tests --------------------------------------------------------------- */

static void test_fuzz(void)
{
    size_t scale = TARN_TSAN || TARN_ASAN ? 8 : 25;
    for (size_t op = 0; op < scale * 4000; op++) {
        if (nobj < MAX_OBJECTS - 1)
            CHECK(allocate());
        check_random_address();
        uint32_t r = below(2000);
        if (r == 0 || nobj > MAX_OBJECTS - 1000) {
            if (phase == IDLE)
                mark_start();
        } else if (r < 20 && phase == MARKING && nobj > 0) {
            for (uint32_t i = below(200); i > 0; i--)
                mark(&obj[below(nobj)]);
        } else if (r < 21 && phase == MARKING) {
            mark_end(below(101));
        } else if (r < 200 && phase == SWEEPING) {
            if (heap_sweep_one() == 0)
                sweep_end();
        } else if (r < 205) {
            mcache_flush(&cache[below(CACHES)]);
        } else if (r == 206) {
            heap_release_free(below(4) * MiB);
        } else if (r == 207) {
            check_everything();
        }
        if (nobj > MAX_OBJECTS - 100) {
            collect(below(30));
            check_everything();
        }
    }
    collect(100);
    check_everything();
    collect(0);
    check_everything();
    CHECK_EQ(nobj, 0u);
    CHECK_EQ(atomic_load(&heap.live), 0u);
    struct heap_page_counts c;
    heap_page_counts(&c);
    CHECK_EQ(c.inuse, 0u);
    CHECK_EQ(c.largest_free, c.free);
}

/* Each byte of each object, for all classes and some large ones. */
static void test_every_byte(void)
{
    struct mcache *mc = &cache[0];
    for (uint32_t k = 1; k < NUM_CLASSES; k++) {
        uint32_t slot = below(2) ? SLOT_NOSCAN(k) : SLOT_CONSERVATIVE(k);
        for (uint32_t i = 0; i <= class_objs[k] && i < 40; i++) {
            uintptr_t p = alloc_small(mc, slot);
            for (size_t j = 0; j < class_size[k]; j++) {
                struct objinfo o;
                CHECK(heap_find(p + j, &o));
                CHECK_EQ(o.base, p);
                CHECK_EQ(o.size, class_size[k]);
            }
        }
        /* The tail of a span is nobody's. */
        struct mspan *s = mc->entries[slot].span;
        for (uintptr_t p = s->limit; p < s->base + s->npages * PAGE_SIZE; p++)
            check_not_found(p);
    }
    uintptr_t p = heap_alloc_large(100001, LAYOUT_NOSCAN, NULL);
    for (size_t j = 0; j < 100016; j++) {
        struct objinfo o;
        CHECK(heap_find(p + j, &o) && o.base == p && o.size == 100016);
    }
    check_not_found(p + 100016);
    check_not_found(heap.lo - 1);
    check_not_found(heap.hi);
    check_not_found(heap.hi - 1); /* its page map entry can be read */
    check_not_found(0);
    check_not_found(UINTPTR_MAX);
    collect(0);
    check_everything();
}

static bool add(size_t size)
{
    struct object *o = &obj[nobj];
    CHECK_LT(nobj, MAX_OBJECTS);
    *o = (struct object){.layout = LAYOUT_NOSCAN,
                         .size = (uint32_t)size,
                         .seed = rand_next(&rng) | 1,
                         .marked = true};
    o->base = alloc_small(&cache[0], SLOT_NOSCAN(size_to_class(size)));
    if (o->base == 0)
        return false;
    CHECK(*shadow_of(o->base) == 0 || *shadow_of(o->base) == DEAD);
    set_shadow(o, ++nobj);
    fill(o);
    return true;
}

static void fill_up(uint32_t n, size_t size)
{
    while (nobj < n)
        CHECK(add(size));
}

/* Full spans that become holes all over are found and filled. */
static void test_holes(void)
{
    uint32_t n = 20000;
    uint64_t pages = 0;
    for (int round = 0; round < 6; round++) {
        fill_up(n, 80);
        if (round == 0)
            pages = atomic_load(&heap.pages_inuse);
        /* No new pages once there are as many places as objects, whether they
         * were swept by then or not. */
        CHECK_LE(atomic_load(&heap.pages_inuse), pages);
        if (phase == SWEEPING)
            sweep_end();
        mark_start();
        mark_end(50);
        if (round % 2 == 0)
            sweep_end();
        check_everything();
    }
    collect(0);
}

/* Small places are left free in spans that are full for the most part, until memory is
 * short. */
static void test_dense(void)
{
    const uint32_t n = 20000;
    for (int tight = 0; tight < 2; tight++) {
        for (int swept = 0; swept < 2; swept++) {
            atomic_store(&heap.tight, tight);
            fill_up(n, 32);
            uint64_t pages = atomic_load(&heap.pages_inuse);
            mark_start();
            mark_end(80);
            if (swept)
                sweep_end(); /* else by who allocates */
            uint32_t left = nobj;
            CHECK_LT(left, n - n / 10);
            fill_up(n, 32);
            uint64_t more = (n - left) * 32 / PAGE_SIZE;
            if (tight)
                CHECK_LE(atomic_load(&heap.pages_inuse), pages);
            else
                CHECK_GE(atomic_load(&heap.pages_inuse), pages + more - 2);
            check_everything();
            collect(0);
        }
    }
    atomic_store(&heap.tight, false);
}

/* Nor when it is the system that has no memory, however little there is. */
static void dense_refused_body(void)
{
    const size_t size = 32;
    fill_up(10000, size);
    fail_inject(FAIL_MPROTECT, 0, -1);
    for (size_t n = MAX_SMALL; n >= size; n /= 2)
        while (add(n))
            ;
    uint32_t all = nobj;
    mark_start();
    for (uint32_t i = 0; i < nobj; i++)
        if (obj[i].size != size || below(100) < 80)
            mark(&obj[i]);
    mark_end(0);
    sweep_end();
    if (heap.full) /* else a few that are old already stay */
        CHECK_LT(nobj, all - all / 20);
    fill_up(all, size);
    check_everything();
}

static void test_dense_refused(void)
{
    in_child(dense_refused_body);
}

/* Where memory is not short any more, what is left of when it was does not make one
 * allocation sweep it all. */
static void test_not_tight_any_more(void)
{
    const uint32_t slot = SLOT_NOSCAN(size_to_class(32));
    const uint32_t n = 70 * (uint32_t)(PAGE_SIZE / 32); /* all spans are full */
    atomic_store(&heap.tight, true);
    fill_up(n, 32);
    mark_start();
    mark_end(80);
    sweep_end();
    atomic_store(&heap.tight, false);
    mark_start();
    mark_end(100);
    const struct span_list *unswept =
        &heap.slots[slot].partial[atomic_load(&heap.sweepgen) / 2 % 2 == 0];
    size_t before = atomic_load(&unswept->n);
    CHECK_EQ(before, 70u);
    CHECK(add(32));
    CHECK_GE(atomic_load(&unswept->n), before - 8);
    sweep_end();
    check_everything();
    collect(0);
}

static struct mspan *hooked;
static uint32_t hook_calls;

static void count_hook(struct mspan *s)
{
    CHECK_EQ((void *)s, (void *)hooked);
    hook_calls++;
}

static void test_hook(void)
{
    heap_hooks.sweep_specials = count_hook;
    hooked = heap_span_of(heap_alloc_large(50000, LAYOUT_NOSCAN, NULL));
    atomic_store(&hooked->specials, (void *)&hook_calls);
    only_full = true;
    mark_start();
    meta_store(heap_meta(hooked->base), *heap_meta(hooked->base) ^ META_COLOR);
    mark_end(0);
    sweep_end();
    CHECK_EQ(hook_calls, 1u);
    collect(0);
    CHECK_EQ(hook_calls, 2u);
    only_full = false;
    heap_hooks.sweep_specials = NULL;
    CHECK_EQ(atomic_load(&heap.live), 0u);
}

static void test_bad_sizes(void)
{
    static const size_t bad[] = {SIZE_MAX, SIZE_MAX - 15, SIZE_MAX / 2 + 1,
                                 HEAP_SIZE + 1, HEAP_SIZE};
    flush_all();
    uint64_t pages = atomic_load(&heap.pages_inuse);
    CHECK(heap_alloc_large(40000, LAYOUT_NOSCAN, NULL) != 0);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        set_error("-");
        CHECK_EQ(heap_alloc_large(bad[i], LAYOUT_NOSCAN, NULL), 0u);
        CHECK_STR(tarn_last_error(), "heap: ");
    }
    collect(0);
    CHECK_EQ(atomic_load(&heap.pages_inuse), pages);
    check_everything();
}

static void bad_type(const struct tarn_type_info *info, const char *why)
{
    CHECK(tarn_type_register(info) == NULL);
    if (strstr(tarn_last_error(), why) == NULL) {
        puts(tarn_last_error());
        CHECK(false);
    }
}

static void test_bad_types(void)
{
    uint64_t map[2] = {1, 0};
    uint32_t slots = atomic_load(&heap.nslots);
    struct tarn_type_info info = {.name = "bad", .size = 16};
    bad_type(NULL, "NULL");
    info.name = NULL;
    bad_type(&info, "name");
    info.name = "bad";
    info.size = 0;
    bad_type(&info, "size 0");
    info.size = SIZE_MAX;
    bad_type(&info, "too large");
    info.size = 12;
    info.ptrmap = map;
    bad_type(&info, "multiple of 8");
    info.size = 16;
    map[0] = 4;
    bad_type(&info, "behind its size");
    info.size = 65 * 8;
    map[1] = 2;
    bad_type(&info, "behind its size");
    map[1] = 1;
    info.trace = trace_nothing;
    bad_type(&info, "both");
    info.ptrmap = NULL;
    info.size = 9;
    bad_type(&info, "multiple of 8");
    info.size = 8;
    fail_inject(FAIL_MALLOC, 0, 1);
    bad_type(&info, "no memory");
    fail_reset();
    CHECK_EQ(atomic_load(&heap.nslots), slots);
    /* A long name is cut in messages only. */
    char name[1000];
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    info.name = name;
    struct tarn_type *t = tarn_type_register(&info);
    CHECK(t != NULL && strlen(tarn_type_name(t)) == sizeof name - 1);
    CHECK_EQ(*tarn_type_name(NULL), '\0');
    /* A map without pointers is none; a last word may be full. */
    memset(map, 0, sizeof map);
    t = tarn_type_register(&(struct tarn_type_info){"none", 24, map, NULL});
    CHECK(t->layout == LAYOUT_NOSCAN && t->ptrmap == NULL);
    map[0] = UINT64_MAX;
    t = tarn_type_register(&(struct tarn_type_info){"all", 512, map, NULL});
    CHECK(t->layout == LAYOUT_PRECISE && t->ptrmap[0] == UINT64_MAX);
}

/* In a child with a heap of 16 MiB: use all of it, lose it, use it again. */
static void exhaust(void)
{
    register_types();
    setup(16 * MiB);
    for (int round = 0; round < 12; round++) {
        while (nobj < MAX_OBJECTS - 1 && allocate())
            ;
        CHECK_STR(tarn_last_error(), "heap: out of memory");
        check_everything();
        collect(round % 4 * 30);
        check_everything();
        /* There need not be room for the first that comes, if it is large. */
        int tries = 0;
        while (round % 4 != 3 && !allocate())
            CHECK_LT(++tries, 1000);
    }
    collect(0);
    /* The kernel refuses. */
    heap_release_free(0);
    fail_inject(FAIL_MPROTECT, 0, -1);
    CHECK(heap_alloc_large(15 * MiB, LAYOUT_NOSCAN, NULL) != 0);
    fail_reset();
    flush_all();
    heap_verify();
}

static void refused(void)
{
    setup(64 * MiB);
    for (int i = 0; i < 2000; i++) {
        fail_inject(FAIL_MPROTECT, below(20), -1);
        fail_inject(FAIL_MALLOC, below(3), 1);
        while (nobj < MAX_OBJECTS - 1 && below(30) > 0 && allocate())
            ;
        fail_reset();
        if (i % 100 == 0)
            check_everything();
        if (nobj > 5000)
            collect(10);
    }
    check_everything();
}

static void too_many_slots(void)
{
    setup(16 * MiB);
    struct tarn_type_info info = {.name = "many", .size = 8};
    struct tarn_type *t, *last = NULL;
    while ((t = tarn_type_register(&info)) != NULL)
        last = t;
    CHECK_EQ(atomic_load(&heap.nslots), MAX_SLOTS);
    CHECK_STR(tarn_last_error(), "too many types");
    CHECK_EQ(type_array_slot(last, 1), NO_SLOT);
    info.size = MAX_SMALL + 1; /* needs no slot */
    CHECK(tarn_type_register(&info) != NULL);
    struct mcache *c = &cache[0];
    CHECK_EQ((void *)tarn_object_type((void *)alloc_small(c, last->slot)),
             (void *)last);
    heap_verify();
}

static void test_exhausted(void)
{
    in_child(exhaust);
}
static void test_refused(void)
{
    in_child(refused);
}
static void test_too_many_slots(void)
{
    in_child(too_many_slots);
}

/* heap_verify must see what it is there to see. */
static void broken_color(void)
{
    setup(16 * MiB);
    uintptr_t p = alloc_small(&cache[0], SLOT_NOSCAN(2));
    *heap_meta(p + 16) |= 1;
    heap_verify();
}
static void broken_static(void)
{
    setup(16 * MiB);
    uintptr_t p = alloc_small(&cache[0], SLOT_NOSCAN(2));
    *heap_meta(p + 16) ^= META_PTR1;
    heap_verify();
}
static void broken_count(void)
{
    setup(16 * MiB);
    alloc_small(&cache[0], SLOT_NOSCAN(2));
    atomic_fetch_add(&heap.live, 32);
    heap_verify();
}
static void broken_zero(void)
{
    setup(16 * MiB);
    uintptr_t p = alloc_small(&cache[0], SLOT_NOSCAN(2));
    ((char *)p)[32] = 1;
    heap_verify();
}
static void broken_list(void)
{
    setup(16 * MiB);
    alloc_small(&cache[0], SLOT_NOSCAN(2));
    cache[0].entries[SLOT_NOSCAN(2)].span = NULL;
    heap_verify();
}
/* A span of some old objects, swept and in nobody's hands. */
static struct mspan *old_span(void)
{
    setup(16 * MiB);
    uintptr_t p = alloc_small(&cache[0], SLOT_NOSCAN(2));
    heap_flip_color(true);
    meta_store(heap_meta(p), heap_marked(*heap_meta(p)));
    mcache_flush(&cache[0]);
    heap_verify(); /* marked */
    heap_sweep_start();
    heap_verify(); /* to be swept */
    sweep_end();
    heap_verify();
    return heap_span_of(p);
}
static void broken_dead(void)
{
    /* Garbage that the sweep has missed. */
    struct mspan *s = old_span();
    s->young = true;
    *heap_meta(s->base) =
        s->startbits | (META_COLOR ^ atomic_load(&heap.color));
    heap_verify();
}
static void broken_young(void)
{
    /* Of the colour of new objects, where no young collection would look. */
    struct mspan *s = old_span();
    *heap_meta(s->base) = s->startbits | (uint8_t)atomic_load(&heap.color);
    heap_verify();
}
static void broken_young_mark(void)
{
    /* The same, in a young mark; in a full one it would be right. */
    struct mspan *s = old_span();
    heap_flip_color(false);
    heap_verify();
    *heap_meta(s->base) = s->startbits | (uint8_t)atomic_load(&heap.color);
    heap_verify();
}
static void broken_taken(void)
{
    /* Without the flag, places of it were handed out. */
    struct mspan *s = old_span();
    alloc_small(&cache[0], SLOT_NOSCAN(2));
    mcache_flush(&cache[0]);
    heap_verify();
    s->young = false;
    heap_verify();
}
static void broken_lost(void)
{
    struct mspan *s = old_span();
    s->live++;
    s->young = true;
    heap_verify();
}
static void broken_freeindex(void)
{
    struct mspan *s = old_span();
    s->young = true;
    s->freeindex = 3;
    heap_verify();
}
static void broken_freeindex_unswept(void)
{
    struct mspan *s = old_span();
    heap_flip_color(true);
    heap_sweep_start();
    s->young = true;
    s->freeindex = 3;
    heap_verify();
}
static void broken_end(void)
{
    struct mspan *s = old_span();
    *heap_meta(s->base + 5 * s->elemsize + 16) ^= META_END;
    heap_verify();
}
static void broken_kind(void)
{
    struct mspan *s = old_span();
    *heap_meta(s->base + 7 * s->elemsize) ^= META_KIND_SPAN;
    heap_verify();
}
static void broken_check(void)
{
    struct mspan *s = old_span();
    *heap_meta(s->base) |= META_CHECK;
    heap_verify();
}
static void broken_tail(void)
{
    /* Behind the last place. */
    setup(16 * MiB);
    uint32_t c = 1;
    while (class_objs[c] * class_size[c] == class_pages[c] * PAGE_SIZE)
        c++;
    alloc_small(&cache[0], SLOT_NOSCAN(c));
    heap_verify();
    *heap_meta(cache[0].entries[SLOT_NOSCAN(c)].span->limit) |= 1;
    heap_verify();
}
static void broken_large(void)
{
    setup(16 * MiB);
    uintptr_t p = heap_alloc_large(50000, LAYOUT_NOSCAN, NULL);
    heap_verify();
    *heap_meta(p + 40000) |= 2;
    heap_verify();
}
static void broken_limit(void)
{
    setup(16 * MiB);
    struct mspan *s =
        heap_span_of(heap_alloc_large(50000, LAYOUT_NOSCAN, NULL));
    s->elemsize += PAGE_SIZE;
    s->limit += PAGE_SIZE;
    heap_verify();
}
static void broken_cached_old(void)
{
    setup(16 * MiB);
    alloc_small(&cache[0], SLOT_NOSCAN(2));
    cache[0].entries[SLOT_NOSCAN(2)].span->young = false;
    cache[0].entries[SLOT_NOSCAN(2)].span->live = 1;
    heap_verify();
}
static void broken_cached_unswept(void)
{
    setup(16 * MiB);
    heap_flip_color(true);
    heap_sweep_start();
    alloc_small(&cache[0], SLOT_NOSCAN(2));
    heap_verify();
    atomic_fetch_sub(&cache[0].entries[SLOT_NOSCAN(2)].span->sweepgen, 2);
    heap_verify();
}
static void broken_listed(void)
{
    setup(16 * MiB);
    alloc_small(&cache[0], SLOT_NOSCAN(2));
    cache[0].entries[SLOT_NOSCAN(2)].listed = false;
    heap_verify();
}
/* A span in a cache with a hole, and more free places behind that. */
static struct mspan *holed_span(void)
{
    setup(16 * MiB);
    uintptr_t p = 0;
    for (int i = 0; i < 6; i++) {
        p = alloc_small(&cache[0], SLOT_NOSCAN(2));
        *(uint64_t *)p = 1;
    }
    struct mspan *s = heap_span_of(p);
    heap_flip_color(true);
    for (uint32_t i = 0; i < 6; i += 5) {
        uint8_t *m = heap_meta(s->base + i * s->elemsize);
        meta_store(m, heap_marked(*m));
    }
    mcache_flush(&cache[0]);
    heap_sweep_start();
    sweep_end();
    CHECK_EQ(alloc_small(&cache[0], SLOT_NOSCAN(2)), s->base + s->elemsize);
    CHECK_EQ(s->freeindex, 6u);
    heap_verify();
    return s;
}
static void broken_freemask(void)
{
    holed_span()->freemask ^= UINT64_C(1) << 20;
    heap_verify();
}
static void broken_hole(void)
{
    struct mspan *s = holed_span();
    s->freeindex++;
    heap_verify();
}
static void broken_bits(void)
{
    setup(16 * MiB);
    alloc_small(&cache[0], SLOT_NOSCAN(2));
    cache[0].entries[SLOT_NOSCAN(2)].startbits ^= META_KIND_NOSCAN;
    heap_verify();
}
static void broken_head(void)
{
    setup(16 * MiB);
    ((struct tarn_cache_head *)(void *)cache[1].entries)->color ^= META_COLOR;
    heap_verify();
}
static void broken_free_page(void)
{
    /* The lowest bit of a page that has been used before. */
    setup(16 * MiB);
    uintptr_t p = heap_alloc_large(50000, LAYOUT_NOSCAN, NULL);
    collect(0);
    heap_verify();
    *heap_meta(p + 3 * PAGE_SIZE + 64) |= 1;
    heap_verify();
}
static void broken_dead_structs(void)
{
    setup(16 * MiB);
    struct mspan *s[2];
    for (int i = 0; i < 2; i++)
        s[i] = heap_span_of(heap_alloc_large(50000, LAYOUT_NOSCAN, NULL));
    collect(0);
    heap_verify();
    /* They are one run now. */
    uint32_t retired = atomic_load(&s[0]->state) != SPAN_DEAD;
    CHECK_EQ(atomic_load(&s[retired]->state), (uint32_t)SPAN_DEAD);
    CHECK(s[retired]->next != NULL);
    s[retired]->next = NULL;
    heap_verify();
}
static void broken_mapped(void)
{
    setup(16 * MiB);
    alloc_small(&cache[0], SLOT_NOSCAN(2));
    heap_verify();
    atomic_fetch_sub(&heap.mapped, 64 * PAGE_SIZE);
    heap_verify();
}
static void broken_epoch(void)
{
    setup(16 * MiB);
    heap_flip_color(false);
    heap_verify();
    tarn_cards.epoch++;
    heap_verify();
}
static void broken_white(void)
{
    setup(16 * MiB);
    heap_flip_color(false);
    heap.white_bit ^= META_COLOR;
    heap_verify();
}
/* Epochs come round. */
static void all_epochs(void)
{
    setup(16 * MiB);
    for (int i = 0; i < 600; i++) {
        collect(100);
        heap_verify();
    }
    throw("went well");
}
static void early_sweep(void)
{
    setup(16 * MiB);
    heap_sweep_start();
    heap_sweep_start();
}

static void test_verify(void)
{
    CHECK_THROWS(broken_color, NULL, "has meta");
    CHECK_THROWS(broken_static, NULL, "has meta");
    CHECK_THROWS(broken_count, NULL, "bytes live, counted");
    CHECK_THROWS(broken_zero, NULL, "in a cache and not zero");
    CHECK_THROWS(broken_list, NULL, "in lists and caches");
    CHECK_THROWS(early_sweep, NULL, "heap_sweep_done");
    CHECK_THROWS(broken_dead, NULL, "1 dead objects are in the swept span");
    CHECK_THROWS(broken_young, NULL, "the old span at");
    CHECK_THROWS(broken_young_mark, NULL, "has 1 young objects");
    CHECK_THROWS(broken_taken, NULL, "has 2 objects, 1 after its sweep");
    CHECK_THROWS(broken_lost, NULL, "has 1 objects, 2 after its sweep");
    CHECK_THROWS(broken_freeindex, NULL, "place 1 below freeindex 3");
    CHECK_THROWS(broken_freeindex_unswept, NULL, "place 1 below freeindex 3");
    CHECK_THROWS(broken_end, NULL, "granule 1 of place 5");
    CHECK_THROWS(broken_kind, NULL, "granule 0 of place 7");
    CHECK_THROWS(broken_check, NULL, "granule 0 of the place at");
    CHECK_THROWS(broken_tail, NULL, "of the span at");
    CHECK_THROWS(broken_large, NULL, "granule 2500 of the span");
    CHECK_THROWS(broken_limit, NULL, "the large span at");
    CHECK_THROWS(broken_cached_old, NULL, "the old span at");
    CHECK_THROWS(broken_cached_unswept, NULL, "in a cache is not swept");
    CHECK_THROWS(broken_listed, NULL, "the cache entry of slot");
    CHECK_THROWS(broken_freemask, NULL, "has freemask");
    CHECK_THROWS(broken_hole, NULL, "the free place 6");
    CHECK_THROWS(broken_bits, NULL, "the cache entry of slot");
    CHECK_THROWS(broken_head, NULL, "a cache allocates colour 2");
    CHECK_THROWS(broken_free_page, NULL, "the free page at");
    CHECK_THROWS(broken_dead_structs, NULL, "span structs in use or not");
    CHECK_THROWS(broken_mapped, NULL, "bytes mapped, counted");
    CHECK_THROWS(broken_epoch, NULL, "the cards' epoch is");
    CHECK_THROWS(broken_white, NULL, "white is");
    CHECK_THROWS(all_epochs, NULL, "went well");
}

int main(int argc, char **argv)
{
    harness_init(argc, argv);
    rng = harness_seed;
    RUN(test_exhausted);
    RUN(test_refused);
    RUN(test_too_many_slots);
    RUN(test_verify);
    rng = harness_seed;
    register_types(); /* before there is a heap */
    setup(HEAP_SIZE);
    RUN(test_every_byte);
    RUN(test_holes);
    RUN(test_dense);
    RUN(test_dense_refused);
    RUN(test_not_tight_any_more);
    RUN(test_hook);
    RUN(test_bad_sizes);
    RUN(test_bad_types);
    RUN(test_fuzz);
    for (uint32_t i = 0; i < CACHES; i++)
        mcache_destroy(&cache[i]);
    heap_verify();
    return harness_done();
}
