/* tests/heapmodel.h - the heap layer against a model, without a collector.
 *
 * The model knows each object's place, type and contents, and for each granule
 * of the arena whose it is. Collections are played by the test: it flips the
 * colour, recolours a random part of the objects, and sweeps bit by bit among
 * further allocations. */
#ifndef TARN_TESTS_HEAPMODEL_H_
#define TARN_TESTS_HEAPMODEL_H_

#include "heap/internal.h"
#include "tests/harness.h"

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
static uint32_t large_max = 2000000; /* of the largest objects */
static size_t only_size;             /* if not 0: of objects without a type */
static uint8_t *page_seen;           /* scratch of model_pages */
/* All that was ever allocated and what sweeps had to free of it. */
static uint64_t alloc_bytes, alloc_objects, dead_bytes, dead_objects;
static enum { IDLE, MARKING, SWEEPING } phase;

static inline uint32_t below(uint32_t n)
{
    return rand_below(&rng, n);
}

static inline uint32_t *shadow_of(uintptr_t p)
{
    return &shadow[(p - heap.lo) / GRANULE];
}

/* --- contents ------------------------------------------------------------ */

static inline void fill(const struct object *o)
{
    uint64_t r = o->seed;
    for (uint64_t *w = (uint64_t *)o->base; w < (uint64_t *)(o->base + o->size);
         w++)
        *w = rand_next(&r);
}

static inline void check_contents(const struct object *o)
{
    uint64_t r = o->seed;
    for (uint64_t *w = (uint64_t *)o->base; w < (uint64_t *)(o->base + o->size);
         w++)
        CHECK_EQ(*w, rand_next(&r));
}

static inline bool model_ptr(const struct object *o, size_t word)
{
    if (o->layout != LAYOUT_PRECISE)
        return o->layout == LAYOUT_CONSERVATIVE;
    if (word >= o->patterns * o->type->words)
        return false;
    word %= o->type->words;
    return o->type->ptrmap[word / 64] >> word % 64 & 1;
}

static inline void check_meta(const struct object *o)
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

static inline void check_lookup(const struct object *o, uintptr_t p)
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

static inline void check_not_found(uintptr_t p)
{
    struct objinfo i;
    CHECK(!heap_find(p, &i));
    CHECK(tarn_object_base((void *)p) == NULL);
    CHECK_EQ(tarn_object_size((void *)p), 0u);
    CHECK(tarn_object_type((void *)p) == NULL);
}

/* Of garbage that may or may not be swept yet, nothing can be said. */
static inline void check_address(uintptr_t p)
{
    uint32_t who = heap_contains(p) ? *shadow_of(p) : 0;
    if (who == 0)
        check_not_found(p);
    else if (who != DEAD)
        check_lookup(&obj[who - 1], p);
}

static inline void check_random_address(void)
{
    uintptr_t end = atomic_load(&heap.used_hi);
    if (end != heap.lo)
        check_address(heap.lo + rand_next(&rng) % (end - heap.lo));
}

static inline void check_edges(const struct object *o)
{
    check_lookup(o, o->base);
    check_lookup(o, o->base + o->size - 1);
    check_lookup(o, o->base + below((uint32_t)o->size));
    check_address(o->base - 1);
    check_address(o->base + o->size);
}

/* --- allocation ---------------------------------------------------------- */

static inline void check_everything(void);

/* By the short way where there is one, and tried by half of them; both can follow each
 * other. */
static inline size_t refill(struct mcache *c, uint32_t slot)
{
    static _Atomic uint32_t turn;
    size_t before = c->unpaid;
    return atomic_fetch_add(&turn, 1) % 2 == 0 &&
                   mcache_next_run(c, &c->entries[slot])
               ? c->unpaid - before
               : mcache_refill(c, slot);
}

static inline uintptr_t alloc_small(struct mcache *c, uint32_t slot)
{
    uintptr_t p = mcache_alloc(c, slot);
    if (p == 0) {
        size_t got = refill(c, slot);
        if (got == 0)
            return 0;
        CHECK_EQ(got, c->entries[slot].end - c->entries[slot].ptr);
        CHECK_GE(got, c->entries[slot].size);
        p = mcache_alloc(c, slot);
        CHECK(p != 0);
    }
    return p;
}

static inline size_t random_size(void)
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

static inline size_t random_large(void)
{
    return MAX_SMALL + 1 + below(below(20) == 0 ? large_max : 60000);
}

/* In steps; the memory is nobody's between. */
static inline uintptr_t alloc_large(size_t size, enum layout layout,
                                    tarn_type *t)
{
    struct heap_large l;
    if (below(2))
        return heap_alloc_large(size, layout, t);
    if (!heap_large_take(&l, size))
        return 0;
    size_t step = (1 + below(8)) * PAGE_SIZE;
    while (heap_large_zero(&l, step))
        if (below(32) == 0)
            heap_verify();
    return heap_large_publish(&l, layout, t);
}

/* False when refused: the object that was not allocated is obj[nobj]. */
static inline bool allocate(void)
{
    struct mcache *c = &cache[below(CACHES)];
    struct object *o = &obj[nobj];
    uint32_t kind = below(100);
    size_t size = only_size != 0 ? only_size
                  : kind < 97    ? random_size()
                                 : random_large();
    *o = (struct object){.seed = rand_next(&rng) | 1};
    if (only_size == 0 && below(3) > 0 && ntypes > 0) {
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
                o->size = class_size[class_];
                if (slot == NO_SLOT)
                    return false;
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
        o->base = alloc_large(size, o->layout, o->type);
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
    check_edges(o);
    if (below(50) == 0)
        check_meta(o);
    o->marked = true; /* the colour of the living, marking or not */
    fill(o);
    nobj++;
    alloc_bytes += o->size;
    alloc_objects++;
    return true;
}

/* --- collections --------------------------------------------------------- */

static bool only_full;

static inline void mark_start(void)
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

static inline void mark(struct object *o)
{
    uint8_t *m = heap_meta(o->base);
    if (o->marked)
        return;
    CHECK(heap_white(*m));
    meta_store(m, heap_marked(*m));
    CHECK(!heap_white(*m));
    o->marked = true;
}

static inline void flush_all(void)
{
    for (uint32_t i = 0; i < CACHES; i++)
        mcache_flush(&cache[i]);
}

static inline void set_shadow(const struct object *o, uint32_t v)
{
    for (uintptr_t p = o->base; p < o->base + o->size; p += GRANULE)
        *shadow_of(p) = v;
}

static inline void mark_end(uint32_t survivors_percent)
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
            dead_bytes += obj[i].size;
            dead_objects++;
            set_shadow(&obj[i], DEAD);
        }
    }
    nobj = kept;
    heap_sweep_start();
    CHECK(!heap_sweep_done());
    phase = SWEEPING;
}

static inline void sweep_end(void)
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

/* What is in use, by the sizes of classes and of large objects. */
static inline uint64_t model_pages(void)
{
    uint64_t n = 0;
    memset(page_seen, 0, (heap.hi - heap.lo) / PAGE_SIZE);
    for (uint32_t i = 0; i < nobj; i++) {
        uint8_t *seen =
            &page_seen[(heap_span_of(obj[i].base)->base - heap.lo) / PAGE_SIZE];
        if (*seen == 0)
            n += obj[i].size > MAX_SMALL
                     ? (obj[i].size + PAGE_SIZE - 1) / PAGE_SIZE
                     : class_pages[size_to_class(obj[i].size)];
        *seen = 1;
    }
    return n;
}

/* What all objects and counters must say; the caches give up their spans. */
static inline void check_everything(void)
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
        CHECK_EQ(atomic_load(&heap.pages_inuse), model_pages());
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

static inline void collect(uint32_t survivors_percent)
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

static inline void trace_nothing(void *o, tarn_tracer *t)
{
    (void)o;
    (void)t;
}

/* The next one; false if it was refused. */
static inline bool register_type(void)
{
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
    if (type[ntypes] == NULL)
        return false;
    CHECK_EQ(strcmp(tarn_type_name(type[ntypes]), name), 0);
    ntypes++;
    return true;
}

static inline void register_types(void)
{
    while (ntypes < MAX_TYPES)
        CHECK(register_type());
}

static inline void setup(size_t heap_size)
{
    CHECK(heap_init(heap_size));
    for (uint32_t i = 0; i < CACHES; i++)
        CHECK(mcache_init(&cache[i]));
    shadow = calloc(heap_size / GRANULE, sizeof *shadow);
    dead = calloc(MAX_OBJECTS, sizeof *dead);
    page_seen = calloc(heap_size / PAGE_SIZE, 1);
    CHECK(shadow != NULL && dead != NULL && page_seen != NULL);
}

static inline void in_child(void (*fn)(void))
{
    static char out[65536];
    rng = harness_rand(&harness_seed);
    int st = harness_child(fn, NULL, out, sizeof out);
    if (st != 0)
        fputs(out, stderr);
    CHECK_EQ(st, 0);
}

#endif
