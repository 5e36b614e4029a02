/* tests/test_heap_threads.c - allocators, sweepers, a marker, lookups at once.
 *
 * Each allocator owns a cache and a table of objects that it keeps replacing. A
 * controller stops the allocators for the flip of the colour and for the start
 * of a sweep, as a collector does; between the two it recolours what the tables
 * held at the flip. Sweepers and lookups never stop. Run it under
 * ThreadSanitizer too. */
#include <pthread.h>

#include "heap/internal.h"
#include "tests/harness.h"

#define ALLOCATORS 3
#define SWEEPERS 2
#define FINDERS 2
#define TABLE 3000
#define NTYPES 8

struct object {
    uintptr_t base;
    size_t size;
    uint64_t seed;
};

static struct allocator {
    struct mcache cache;
    struct object table[TABLE];
    uint64_t allocated;
    pthread_t thread;
} allocators[ALLOCATORS];

static struct object snapshot[ALLOCATORS][TABLE];
static struct tarn_type *types[NTYPES];
static _Atomic bool stop_world, quit;
static _Atomic uint32_t stopped, found;
static pthread_mutex_t world = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t world_change = PTHREAD_COND_INITIALIZER;
static struct note all_stopped;

static void trace_nothing(void *o, tarn_tracer *t)
{
    (void)o;
    (void)t;
}

/* Small changes to the address and a bit of the contents tell objects apart. */
static uint64_t word_of(const struct object *o, size_t i)
{
    return (o->seed + i) * UINT64_C(0x9E3779B97F4A7C15) ^ o->base;
}

static void fill(const struct object *o)
{
    uint64_t *w = (uint64_t *)o->base;
    for (size_t i = 0; i < o->size / 8; i++) {
        CHECK_EQ(w[i], 0u);
        w[i] = word_of(o, i);
    }
}

static void check(const struct object *o)
{
    const uint64_t *w = (uint64_t *)o->base;
    for (size_t i = 0; i < o->size / 8; i++)
        CHECK_EQ(w[i], word_of(o, i));
    struct objinfo info;
    CHECK(heap_find(o->base + o->seed % o->size, &info));
    CHECK_EQ(info.base, o->base);
    CHECK_EQ(info.size, o->size);
}

static uintptr_t alloc(struct allocator *a, uint64_t *rng, size_t *size)
{
    uint32_t r = rand_below(rng, 200), slot;
    *size = 1 + rand_below(rng, r < 10 ? 20000 : r < 60 ? 1000 : 100);
    uint32_t class_ = size_to_class(*size);
    struct tarn_type *t = types[rand_below(rng, NTYPES)];
    if (r == 0) {
        *size = ALIGN_UP(MAX_SMALL + 1 + rand_below(rng, 100000), GRANULE);
        return heap_alloc_large(*size, LAYOUT_CONSERVATIVE, NULL);
    }
    if (r % 4 == 0)
        slot = SLOT_NOSCAN(class_);
    else if (r % 4 == 1)
        slot = SLOT_CONSERVATIVE(class_);
    else if (r % 4 == 2)
        slot = type_array_slot(t, class_);
    else
        slot = t->slot;
    *size = class_size[heap.slots[slot].class_];
    uintptr_t p = mcache_alloc(&a->cache, slot);
    if (p == 0) {
        CHECK(mcache_refill(&a->cache, slot) > 0);
        p = mcache_alloc(&a->cache, slot);
    }
    return p;
}

static void safepoint(void)
{
    if (!atomic_load_explicit(&stop_world, memory_order_acquire))
        return;
    pthread_mutex_lock(&world);
    if (atomic_fetch_add(&stopped, 1) + 1 == ALLOCATORS)
        notewakeup(&all_stopped);
    while (atomic_load(&stop_world))
        pthread_cond_wait(&world_change, &world);
    atomic_fetch_sub(&stopped, 1);
    pthread_mutex_unlock(&world);
}

static void world_stop(void)
{
    while (atomic_load(&stopped) > 0) /* late leavers of the last stop */
        osyield();
    noteclear(&all_stopped);
    atomic_store_explicit(&stop_world, true, memory_order_release);
    notesleep(&all_stopped);
}

static void world_start(void)
{
    pthread_mutex_lock(&world);
    atomic_store(&stop_world, false);
    pthread_cond_broadcast(&world_change);
    pthread_mutex_unlock(&world);
}

static void *allocator_main(void *arg)
{
    struct allocator *a = arg;
    uint64_t rng = harness_seed + (uint64_t)(a - allocators) * 977 + 1;
    while (!atomic_load(&quit)) {
        safepoint();
        struct object *o = &a->table[rand_below(&rng, TABLE)];
        if (o->base != 0)
            check(o);
        o->base = alloc(a, &rng, &o->size);
        CHECK(o->base != 0);
        o->seed = rand_next(&rng) >> 8;
        fill(o);
        a->allocated++;
    }
    return NULL;
}

static void *sweeper_main(void *arg)
{
    uint64_t rng = (uintptr_t)arg + harness_seed;
    while (!atomic_load(&quit)) {
        if (heap_sweep_one() == 0)
            usleep_os(50);
        if (rand_below(&rng, 2000) == 0)
            heap_release_free(MiB);
    }
    return NULL;
}

static void *finder_main(void *arg)
{
    uint64_t rng = (uintptr_t)arg + harness_seed;
    while (!atomic_load(&quit)) {
        uintptr_t end = atomic_load(&heap.used_hi);
        uintptr_t p = heap.lo + rand_next(&rng) % (end - heap.lo + PAGE_SIZE);
        struct objinfo o;
        if (!heap_find(p, &o))
            continue;
        atomic_fetch_add_explicit(&found, 1, memory_order_relaxed);
        CHECK(o.base <= p && p - o.base < o.size);
        CHECK(o.base % GRANULE == 0 && o.size % GRANULE == 0);
        uint8_t color = o.meta & META_COLOR;
        CHECK(color != 0);
        struct tarn_type *t = tarn_object_type((void *)p);
        bool known = t == NULL;
        for (int i = 0; i < NTYPES; i++)
            known |= t == types[i];
        CHECK(known);
    }
    return NULL;
}

static void recolor(const struct object *o)
{
    uint8_t *m = heap_meta(o->base);
    if (o->base != 0 && heap_white(meta_load(m)))
        meta_store(m, heap_marked(meta_load(m)));
}

static void collect(bool verify)
{
    while (!heap_sweep_done())
        if (heap_sweep_one() == 0)
            osyield();
    static uint32_t n;
    bool full = n++ % 3 == 0;
    world_stop();
    if (verify)
        heap_verify();
    heap_flip_color(full);
    for (int i = 0; i < ALLOCATORS; i++)
        memcpy(snapshot[i], allocators[i].table, sizeof snapshot[i]);
    world_start();
    for (int i = 0; i < ALLOCATORS; i++)
        for (int j = 0; j < TABLE; j++)
            recolor(&snapshot[i][j]);
    world_stop();
    for (int i = 0; i < ALLOCATORS; i++)
        mcache_flush(&allocators[i].cache);
    heap_sweep_start();
    world_start();
}

static void test_together(void)
{
    pthread_t sweepers[SWEEPERS], finders[FINDERS];
    for (int i = 0; i < ALLOCATORS; i++) {
        CHECK(mcache_init(&allocators[i].cache));
        CHECK(pthread_create(&allocators[i].thread, NULL, allocator_main,
                             &allocators[i]) == 0);
    }
    for (uintptr_t i = 0; i < SWEEPERS; i++)
        CHECK(pthread_create(&sweepers[i], NULL, sweeper_main, (void *)i) == 0);
    for (uintptr_t i = 0; i < FINDERS; i++)
        CHECK(pthread_create(&finders[i], NULL, finder_main,
                             (void *)(100 + i)) == 0);
    int64_t until = nanotime() + INT64_C(2500000000);
    uint32_t cycles = 0;
    while (nanotime() < until) {
        collect(cycles % 8 == 0);
        cycles++;
        if (cycles % 4 == 0)
            usleep_os(20000);
    }
    atomic_store(&quit, true);
    uint64_t n = 0;
    for (int i = 0; i < ALLOCATORS; i++) {
        CHECK(pthread_join(allocators[i].thread, NULL) == 0);
        n += allocators[i].allocated;
    }
    for (int i = 0; i < SWEEPERS; i++)
        CHECK(pthread_join(sweepers[i], NULL) == 0);
    for (int i = 0; i < FINDERS; i++)
        CHECK(pthread_join(finders[i], NULL) == 0);
    printf("     %u cycles, %" PRIu64 " objects, %u found\n", cycles, n,
           atomic_load(&found));
    CHECK_GT(cycles, 2u);
    CHECK_GT(atomic_load(&found), 0u);
    while (heap_sweep_one() > 0)
        ;
    heap_verify();
    uint64_t swept = atomic_load(&heap.swept_objects);
    for (int i = 0; i < ALLOCATORS; i++) {
        for (int j = 0; j < TABLE; j++)
            if (allocators[i].table[j].base != 0)
                check(&allocators[i].table[j]);
        mcache_destroy(&allocators[i].cache);
    }
    CHECK_EQ(atomic_load(&heap.alloc_objects), n);
    /* Nobody holds anything: all goes. */
    heap_flip_color(true);
    heap_sweep_start();
    while (heap_sweep_one() > 0)
        ;
    CHECK_GT(atomic_load(&heap.swept_objects), swept);
    CHECK_EQ(atomic_load(&heap.swept_objects), n);
    CHECK_EQ(atomic_load(&heap.live), 0u);
    CHECK_EQ(atomic_load(&heap.pages_inuse), 0u);
    heap_verify();
}

int main(int argc, char **argv)
{
    harness_init(argc, argv);
    CHECK(heap_init(GiB));
    uint64_t map[2] = {5, 0};
    for (int i = 0; i < NTYPES; i++) {
        struct tarn_type_info info = {
            .name = "t",
            .size = 24 + 8 * (size_t)i,
            .ptrmap = i % 3 == 0 ? map : NULL,
            .trace = i % 3 == 1 ? trace_nothing : NULL,
        };
        types[i] = tarn_type_register(&info);
        CHECK(types[i] != NULL);
    }
    RUN(test_together);
    return harness_done();
}
