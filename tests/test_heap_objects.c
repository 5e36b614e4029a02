/* tests/test_heap_objects.c - allocation, lookup and sweeping against a model.
 *
 * The model knows each object's place, type and contents, and for each granule
 * of the arena whose it is. Collections are played by the test: it flips the
 * colour, recolours a random part of the objects, and sweeps bit by bit among
 * further allocations. */
#include "base/fail.h"
#include "heap/internal.h"
#include "tests/harness.h"

#define HEAP_SIZE (512 * MiB)
#define MAX_OBJECTS 24000u
#define MAX_TYPES 60u
#define CACHES 3u

/* Shadow: 0 free, DEAD garbage that may be swept and used again, else object
 * number + 1. */
#define DEAD UINT32_MAX

struct object {
    uintptr_t base;
    size_t size; /* of the place */
    struct tarn_type *type;
    enum layout layout;
    size_t patterns; /* how often the type's pattern stands in it */
    uint64_t seed;
    bool marked;
};

static struct object obj[MAX_OBJECTS];
static uint32_t nobj;
static struct object *dead;
static uint32_t ndead;
static uint32_t *shadow;
static struct tarn_type *type[MAX_TYPES];
static uint32_t ntypes;
static struct mcache cache[CACHES];
static uint64_t rng;
static enum { IDLE, MARKING, SWEEPING } phase;

static uint32_t below(uint32_t n)
{
    return rand_below(&rng, n);
}

static uint32_t *shadow_of(uintptr_t p)
{
    return &shadow[(p - heap.lo) / GRANULE];
}

/* --- contents ------------------------------------------------------------ */

static void fill(const struct object *o)
{
    uint64_t r = o->seed;
    for (uint64_t *w = (uint64_t *)o->base; w < (uint64_t *)(o->base + o->size);
         w++)
        *w = rand_next(&r);
}

static void check_contents(const struct object *o)
{
    uint64_t r = o->seed;
    for (uint64_t *w = (uint64_t *)o->base; w < (uint64_t *)(o->base + o->size);
         w++)
        CHECK_EQ(*w, rand_next(&r));
}

static bool model_ptr(const struct object *o, size_t word)
{
    if (o->layout != LAYOUT_PRECISE)
        return o->layout == LAYOUT_CONSERVATIVE;
    if (word >= o->patterns * o->type->words)
        return false;
    word %= o->type->words;
    return o->type->ptrmap[word / 64] >> word % 64 & 1;
}

static void check_meta(const struct object *o)
{
    const uint8_t *m = heap_meta(o->base);
    if (o->size > MAX_SMALL) {
        CHECK_EQ(m[0] & META_KIND, META_KIND_SPAN);
        return;
    }
    CHECK_EQ(m[0] & META_KIND, o->layout == LAYOUT_NOSCAN   ? META_KIND_NOSCAN
                               : o->layout == LAYOUT_TRACED ? META_KIND_SPAN
                                                            : META_KIND_BYTES);
    for (size_t g = 0; g < o->size / GRANULE; g++) {
        CHECK_EQ((m[g] & META_END) != 0, g == o->size / GRANULE - 1);
        CHECK_EQ((m[g] & META_PTR0) != 0, model_ptr(o, 2 * g));
        CHECK_EQ((m[g] & META_PTR1) != 0, model_ptr(o, 2 * g + 1));
        CHECK(g == 0 || (m[g] & (META_KIND | META_COLOR)) == 0);
    }
}

static void check_lookup(const struct object *o, uintptr_t p)
{
    struct objinfo i;
    CHECK(heap_find(p, &i));
    CHECK_EQ(i.base, o->base);
    CHECK_EQ(i.size, o->size);
    CHECK_EQ((void *)i.span, (void *)heap_span_of(p));
    CHECK_EQ(i.span->layout, (uint8_t)o->layout);
    CHECK_EQ(i.meta, *heap_meta(o->base));
    CHECK_EQ(tarn_object_base((void *)p), (void *)o->base);
    CHECK_EQ(tarn_object_size((void *)p), o->size);
    CHECK_EQ((void *)tarn_object_type((void *)p), (void *)o->type);
}

static void check_not_found(uintptr_t p)
{
    struct objinfo i;
    CHECK(!heap_find(p, &i));
    CHECK(tarn_object_base((void *)p) == NULL);
    CHECK_EQ(tarn_object_size((void *)p), 0u);
    CHECK(tarn_object_type((void *)p) == NULL);
}

static void check_random_address(void)
{
    uintptr_t end = atomic_load(&heap.used_hi);
    if (end == heap.lo)
        return;
    uintptr_t p = heap.lo + rand_next(&rng) % (end - heap.lo);
    uint32_t who = *shadow_of(p);
    if (who == 0)
        check_not_found(p);
    else if (who != DEAD)
        check_lookup(&obj[who - 1], p);
}

/* --- allocation ---------------------------------------------------------- */

static void check_everything(void);

static uintptr_t alloc_small(struct mcache *c, uint32_t slot)
{
    uintptr_t p = mcache_alloc(c, slot);
    if (p == 0) {
        size_t got = mcache_refill(c, slot);
        if (got == 0)
            return 0;
        CHECK_EQ(got, c->entries[slot].end - c->entries[slot].ptr);
        CHECK_GE(got, c->entries[slot].size);
        p = mcache_alloc(c, slot);
        CHECK(p != 0);
    }
    return p;
}

static size_t random_size(void)
{
    switch (below(12)) {
    case 0:
        return 1 + below((uint32_t)MAX_SMALL);
    case 1:
    case 2:
        return 1 + below(4096);
    default:
        return 1 + below(300);
    }
}

static size_t random_large(void)
{
    return MAX_SMALL + 1 + below(below(20) == 0 ? 2000000 : 60000);
}

/* False when out of memory. */
static bool allocate(void)
{
    struct mcache *c = &cache[below(CACHES)];
    struct object *o = &obj[nobj];
    uint32_t kind = below(100);
    size_t size = kind < 97 ? random_size() : random_large();
    *o = (struct object){.seed = rand_next(&rng) | 1};
    if (below(3) > 0 && ntypes > 0) {
        o->type = type[below(ntypes)];
        o->layout = o->type->layout;
        o->patterns = 1;
        if (below(2) == 0) {
            o->patterns = size / o->type->size;
            size = o->patterns * o->type->size;
            if (size == 0)
                size = 1;
            if (size <= MAX_SMALL) {
                uint32_t class_ = size_to_class(size);
                uint32_t slot = type_array_slot(o->type, class_);
                CHECK_NE(slot, NO_SLOT);
                CHECK_EQ(slot, type_array_slot(o->type, class_));
                o->base = alloc_small(c, slot);
                o->patterns = class_size[class_] / o->type->size;
            }
        } else {
            size = o->type->size;
            CHECK_EQ(o->type->slot == NO_SLOT, size > MAX_SMALL);
            if (size <= MAX_SMALL)
                o->base = alloc_small(c, o->type->slot);
        }
    } else {
        uint32_t class_ = size <= MAX_SMALL ? size_to_class(size) : 0;
        o->layout = below(2) ? LAYOUT_NOSCAN : LAYOUT_CONSERVATIVE;
        if (size <= MAX_SMALL)
            o->base = alloc_small(c, o->layout == LAYOUT_NOSCAN
                                         ? SLOT_NOSCAN(class_)
                                         : SLOT_CONSERVATIVE(class_));
    }
    if (size <= MAX_SMALL) {
        o->size = class_size[size_to_class(size)];
    } else {
        o->size = ALIGN_UP(size, GRANULE);
        o->base = heap_alloc_large(size, o->layout, o->type);
    }
    if (o->base == 0)
        return false;
    CHECK_EQ(o->base % GRANULE, 0u);
    CHECK(heap_contains(o->base) && heap_contains(o->base + o->size - 1));
    for (uintptr_t p = o->base; p < o->base + o->size; p += GRANULE) {
        uint32_t *w = shadow_of(p);
        CHECK(*w == 0 || *w == DEAD);
        *w = nobj + 1;
        CHECK_EQ(((uint64_t *)p)[0], 0u);
        CHECK_EQ(((uint64_t *)p)[1], 0u);
    }
    CHECK_EQ(*heap_meta(o->base) & META_COLOR, atomic_load(&heap.color));
    check_lookup(o, o->base);
    check_lookup(o, o->base + o->size - 1);
    check_lookup(o, o->base + below((uint32_t)o->size));
    if (below(50) == 0)
        check_meta(o);
    o->marked = true; /* the colour of the living, marking or not */
    fill(o);
    nobj++;
    return true;
}

/* --- collections --------------------------------------------------------- */

static bool only_full;

static void mark_start(void)
{
    CHECK(heap_sweep_done());
    heap_flip_color(only_full || below(2) == 0);
    /* Old objects are no business of a young collection. */
    for (uint32_t i = 0; i < nobj; i++) {
        uint8_t b = *heap_meta(obj[i].base);
        CHECK(heap.full || (b & META_COLOR) == META_COLOR ||
              (b & META_COLOR) == (META_COLOR ^ atomic_load(&heap.color)));
        obj[i].marked = !heap_white(b);
        CHECK(!heap.full || !obj[i].marked);
    }
    phase = MARKING;
}

static void mark(struct object *o)
{
    uint8_t *m = heap_meta(o->base);
    if (o->marked)
        return;
    CHECK(heap_white(*m));
    meta_store(m, heap_marked(*m));
    CHECK(!heap_white(*m));
    o->marked = true;
}

static void flush_all(void)
{
    for (uint32_t i = 0; i < CACHES; i++)
        mcache_flush(&cache[i]);
}

static void set_shadow(const struct object *o, uint32_t v)
{
    for (uintptr_t p = o->base; p < o->base + o->size; p += GRANULE)
        *shadow_of(p) = v;
}

static void mark_end(uint32_t survivors_percent)
{
    for (uint32_t i = 0; i < nobj; i++)
        if (below(100) < survivors_percent)
            mark(&obj[i]);
    flush_all();
    ndead = 0;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < nobj; i++) {
        if (obj[i].marked) {
            obj[kept] = obj[i];
            set_shadow(&obj[kept], kept + 1);
            kept++;
        } else {
            dead[ndead++] = obj[i];
            set_shadow(&obj[i], DEAD);
        }
    }
    nobj = kept;
    heap_sweep_start();
    CHECK(!heap_sweep_done());
    phase = SWEEPING;
}

static void sweep_end(void)
{
    while (heap_sweep_one() > 0)
        ;
    CHECK(heap_sweep_done());
    CHECK_EQ(heap_sweep_one(), 0u);
    for (uint32_t i = 0; i < ndead; i++)
        for (uintptr_t p = dead[i].base; p < dead[i].base + dead[i].size;
             p += GRANULE)
            if (*shadow_of(p) == DEAD)
                *shadow_of(p) = 0;
    phase = IDLE;
}

/* What all objects and counters must say; the caches give up their spans. */
static void check_everything(void)
{
    heap_verify();
    if (phase != SWEEPING) {
        flush_all();
        uint64_t live = 0;
        for (uint32_t i = 0; i < nobj; i++)
            live += obj[i].size;
        CHECK_EQ(atomic_load(&heap.live), live);
        CHECK_EQ(atomic_load(&heap.alloc_bytes) -
                     atomic_load(&heap.swept_bytes),
                 live);
        CHECK_EQ(atomic_load(&heap.alloc_objects) -
                     atomic_load(&heap.swept_objects),
                 nobj);
        heap_verify();
    }
    for (uint32_t i = 0; i < nobj; i++) {
        check_contents(&obj[i]);
        check_meta(&obj[i]);
        check_lookup(&obj[i], obj[i].base + below((uint32_t)obj[i].size));
        CHECK(*heap_meta(obj[i].base) & META_COLOR);
        if (phase == MARKING)
            CHECK_EQ(heap_white(*heap_meta(obj[i].base)), !obj[i].marked);
    }
}

static void collect(uint32_t survivors_percent)
{
    if (phase == SWEEPING)
        sweep_end();
    /* Nothing is to be left: old garbage neither. */
    only_full = survivors_percent == 0;
    if (phase == MARKING && only_full && !heap.full) {
        mark_end(100);
        sweep_end();
    }
    if (phase == IDLE)
        mark_start();
    only_full = false;
    mark_end(survivors_percent);
    sweep_end();
}

static void trace_nothing(void *o, tarn_tracer *t)
{
    (void)o;
    (void)t;
}

static void register_types(void)
{
    for (ntypes = 0; ntypes < MAX_TYPES; ntypes++) {
        static uint64_t map[4096];
        char name[32];
        snprintf(name, sizeof name, "type%u", ntypes);
        size_t words = 1 + below(ntypes < 40 ? 24 : ntypes < 50 ? 600 : 9000);
        struct tarn_type_info info = {.name = name, .size = words * 8};
        switch (ntypes % 4) {
        case 0:
            info.size -= below(8);
            break;
        case 1:
            info.trace = trace_nothing;
            break;
        default:
            memset(map, 0, sizeof map);
            for (size_t i = 0; i < words; i++)
                map[i / 64] |= (uint64_t)(below(3) == 0) << i % 64;
            info.ptrmap = map;
            break;
        }
        type[ntypes] = tarn_type_register(&info);
        CHECK(type[ntypes] != NULL);
        CHECK_EQ(strcmp(tarn_type_name(type[ntypes]), name), 0);
    }
}

static void setup(size_t heap_size)
{
    CHECK(heap_init(heap_size));
    for (uint32_t i = 0; i < CACHES; i++)
        CHECK(mcache_init(&cache[i]));
    shadow = calloc(heap_size / GRANULE, sizeof *shadow);
    dead = calloc(MAX_OBJECTS, sizeof *dead);
    CHECK(shadow != NULL && dead != NULL);
}

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

/* Full spans that become holes all over are found and filled. */
static void test_holes(void)
{
    uint32_t n = 20000;
    uint64_t pages = 0;
    for (int round = 0; round < 6; round++) {
        while (nobj < n) {
            struct object *o = &obj[nobj];
            *o = (struct object){.layout = LAYOUT_NOSCAN,
                                 .size = 48,
                                 .seed = rand_next(&rng) | 1,
                                 .marked = true};
            o->base = alloc_small(&cache[0], SLOT_NOSCAN(3));
            CHECK(*shadow_of(o->base) == 0 || *shadow_of(o->base) == DEAD);
            set_shadow(o, ++nobj);
            fill(o);
        }
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
    hooked->hook = 7;
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

static void in_child(void (*fn)(void))
{
    static char out[65536];
    rng = harness_rand(&harness_seed);
    int st = harness_child(fn, NULL, out, sizeof out);
    if (st != 0)
        fputs(out, stderr);
    CHECK_EQ(st, 0);
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
    RUN(test_hook);
    RUN(test_bad_sizes);
    RUN(test_bad_types);
    RUN(test_fuzz);
    for (uint32_t i = 0; i < CACHES; i++)
        mcache_destroy(&cache[i]);
    heap_verify();
    return harness_done();
}
