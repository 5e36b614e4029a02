/* tests/test_heap_fuzz.c - the heap layer at random, while the kernel refuses.
 *
 * By one thread, against the model of heapmodel.h: allocation of everything, both
 * kinds of collections with sweeps in slices, caches that come and go, types that
 * are registered on the way, memory given back and touched ahead; and every now
 * and then, for a while, requests of the kernel fail. Each refusal must have a
 * reason, say so and change nothing. The same seed does the same again.
 *
 * By four threads, each with a cache and a table of objects, in rounds between
 * barriers: at a barrier one of them plays the collector. */
#include <pthread.h>

#include "base/fail.h"
#include "tests/heapmodel.h"

#define SLOW (TARN_TSAN || TARN_ASAN || TARN_CHECKS >= 3)

/* --- faults ---------------------------------------------------------------- */

static const enum fail_kind fault_kinds[] = {FAIL_MMAP, FAIL_MPROTECT,
                                             FAIL_MADVISE, FAIL_MALLOC};
static bool fault_on[FAIL_KINDS];
static uint32_t fault_left; /* steps until they end */
static uint32_t episodes, refusals[3];

static void faults_end(void)
{
    fail_reset();
    memset(fault_on, 0, sizeof fault_on);
    fault_left = 0;
}

static void faults_begin(uint64_t *r)
{
    for (size_t i = 0; i < ARRAY_LEN(fault_kinds); i++) {
        if (rand_below(r, 2) == 0)
            continue;
        fail_inject(fault_kinds[i],
                    rand_below(r, 3) == 0 ? rand_below(r, 8) : 0,
                    rand_below(r, 2) == 0 ? -1 : 1 + (int)rand_below(r, 20));
        fault_on[fault_kinds[i]] = true;
    }
    fault_left = 1 + rand_below(r, rand_below(r, 4) == 0 ? 1000 : 50);
    episodes++;
}

/* --- one thread: refusals --------------------------------------------------- */

static void check_refused(uint64_t inuse, uintptr_t grown, uintptr_t used)
{
    const struct object *o = &obj[nobj];
    const char *why = tarn_last_error();
    CHECK_STR(why, "heap: ");
    /* What was allocated and not freed is as before, refills included. */
    CHECK_EQ(atomic_load(&heap.live) - (uint64_t)mcache_unused_bytes() +
                 atomic_load(&heap.swept_bytes),
             alloc_bytes);
    CHECK_EQ(pages_end(), grown);
    CHECK_EQ(atomic_load(&heap.used_hi), used);
    CHECK_LE(atomic_load(&heap.pages_inuse), inuse);
    if (strstr(why, "slot table") != NULL) {
        CHECK(fault_on[FAIL_MPROTECT]);
        refusals[2]++;
        return;
    }
    CHECK_STR(why, "out of memory");
    CHECK_EQ(strstr(why, "for an object of") != NULL, o->size > MAX_SMALL);
    /* Not before all garbage was looked through. */
    CHECK_EQ(heap_sweep_one(), 0u);
    size_t n = o->size > MAX_SMALL ? (o->size + PAGE_SIZE - 1) / PAGE_SIZE
                                   : class_pages[size_to_class(o->size)];
    struct heap_page_counts c;
    heap_page_counts(&c);
    bool structs = fault_on[FAIL_MALLOC], commits = fault_on[FAIL_MPROTECT];
    refusals[structs || commits]++;
    if (!structs)
        CHECK_LT(c.largest_free, n);
    if (!structs && !commits)
        CHECK_LT(c.unused, n);
    if (below(64) == 0)
        heap_verify();
}

static void try_allocate(void)
{
    uint64_t inuse = atomic_load(&heap.pages_inuse);
    uintptr_t grown = pages_end(), used = atomic_load(&heap.used_hi);
    if (nobj == MAX_OBJECTS - 1)
        return;
    set_error("-");
    if (!allocate())
        check_refused(inuse, grown, used);
}

static void try_register(void)
{
    uint32_t slots = atomic_load(&heap.nslots);
    if (ntypes == MAX_TYPES)
        return;
    set_error("-");
    if (register_type())
        return;
    CHECK(fault_on[FAIL_MALLOC] || fault_on[FAIL_MPROTECT]);
    CHECK_STR(tarn_last_error(), "no memory for");
    CHECK_EQ(atomic_load(&heap.nslots), slots);
}

static void replace_cache(void)
{
    struct mcache *c = &cache[below(CACHES)];
    mcache_destroy(c);
    for (;;) {
        struct mcache *first = mcache_first();
        set_error("-");
        if (mcache_init(c))
            break;
        CHECK(fault_on[FAIL_MMAP]);
        CHECK_STR(tarn_last_error(), "no memory for an allocation cache");
        CHECK_EQ((void *)mcache_first(), (void *)first);
        if (below(2))
            faults_end();
    }
    for (struct mcache *at = mcache_first(); at != c; at = at->next)
        CHECK(at != NULL);
}

/* --- one thread: memory back and forth --------------------------------------- */

static void release(void)
{
    uint64_t mapped = atomic_load(&heap.mapped);
    size_t keep = below(2) ? 0 : below(4) * MiB, n;
    if (below(2)) {
        struct heap_release r = {0};
        n = 0;
        do {
            CHECK_LE(r.released - n, 16 * PAGE_SIZE);
            n = r.released;
        } while (heap_release_step(&r, keep) && below(8) != 0);
        n = r.released;
    } else {
        n = heap_release_free(keep);
        if (!fault_on[FAIL_MADVISE])
            CHECK_EQ(heap_release_free(keep), 0u);
    }
    CHECK_EQ(mapped - atomic_load(&heap.mapped), n);
}

static void touch(void)
{
    size_t ahead = below(5) * 256 * KiB;
    uintptr_t grown = pages_end(), used = atomic_load(&heap.used_hi);
    size_t n = heap_touch_ahead(ahead);
    CHECK_LE(n, ahead);
    CHECK_EQ(atomic_load(&heap.used_hi), used);
    CHECK(pages_end() == grown || ahead > 0);
    CHECK(pages_end() == grown || pages_end() == grown + 4 * MiB);
}

/* --- one thread ------------------------------------------------------------- */

static void check_swept(void)
{
    uint64_t swept = atomic_load(&heap.swept_bytes);
    uint64_t objects = atomic_load(&heap.swept_objects);
    if (phase != SWEEPING) {
        CHECK_EQ(swept, dead_bytes);
        CHECK_EQ(objects, dead_objects);
    } else {
        CHECK_LE(swept, dead_bytes);
        CHECK_LE(objects, dead_objects);
    }
}

/* Many of one size fill whole spans, whose free places are looked for in blocks;
 * by turns of all sizes there would be few of each. */
static void burst(void)
{
    only_size = (1 + below(5)) * GRANULE;
    uint32_t before;
    uint32_t left = below(2000);
    do {
        before = nobj;
        try_allocate();
    } while (nobj != before && nobj < MAX_OBJECTS - 200 && left-- > 0);
    only_size = 0;
}

static void step(void)
{
    try_allocate();
    if (below(200) == 0)
        burst();
    check_random_address();
    if (nobj > 0 && below(4) == 0) {
        const struct object *o = &obj[below(nobj)];
        check_edges(o);
        check_contents(o);
    }
    uint32_t r = below(2000);
    if (r < 3 && phase == IDLE) {
        mark_start();
    } else if (r < 40 && phase == MARKING && nobj > 0) {
        for (uint32_t i = below(400); i > 0; i--)
            mark(&obj[below(nobj)]);
    } else if (r < 42 && phase == MARKING) {
        /* Now and then nearly nothing is left, or nearly all. */
        mark_end(below(3) ? below(101) : below(2) * 97);
        check_swept();
    } else if (r < 300 && phase == SWEEPING) {
        if (heap_sweep_one() == 0) {
            sweep_end();
            check_swept();
        }
    } else if (r < 310) {
        mcache_flush(&cache[below(CACHES)]);
    } else if (r < 312) {
        replace_cache();
    } else if (r < 318) {
        release();
    } else if (r < 330) {
        touch();
    } else if (r < 340) {
        try_register();
    } else if (r < 341) {
        heap_verify();
        check_swept();
    } else if (r < 342 && below(4) == 0) {
        check_everything();
        check_swept();
    } else if (r < 349 && fault_left == 0) {
        faults_begin(&rng);
    }
    if (fault_left > 0 && --fault_left == 0)
        faults_end();
    if (nobj > MAX_OBJECTS - 100) {
        collect(below(30));
        check_everything();
        check_swept();
    }
}

/* All that there is can be had again, in one piece and in many. */
static void check_whole(size_t size)
{
    collect(0);
    check_everything();
    check_swept();
    CHECK_EQ(nobj, 0u);
    CHECK_EQ(atomic_load(&heap.live), 0u);
    CHECK_EQ(atomic_load(&heap.pages_inuse), 0u);
    struct object *o = &obj[nobj++];
    *o = (struct object){.size = size, .layout = LAYOUT_NOSCAN, .seed = 1};
    o->base = heap_alloc_large(size, o->layout, NULL);
    CHECK_EQ(o->base, heap.lo);
    for (uint64_t *w = (uint64_t *)heap.lo; w < (uint64_t *)heap.hi; w++)
        CHECK_EQ(*w, 0u);
    set_shadow(o, nobj);
    fill(o);
    o->marked = true;
    alloc_bytes += size;
    alloc_objects++;
    CHECK_EQ(heap_alloc_large(MAX_SMALL + 1, LAYOUT_NOSCAN, NULL), 0u);
    check_everything();
    collect(0);
    CHECK_EQ(heap_release_free(0), size);
    heap_verify();
    for (size_t n = size; n > 0; n -= class_pages[1] * PAGE_SIZE)
        for (uint32_t i = 0; i < class_objs[1]; i++)
            CHECK(alloc_small(&cache[0], SLOT_NOSCAN(1)) != 0);
    CHECK_EQ(mcache_refill(&cache[0], SLOT_NOSCAN(1)), 0u);
    mcache_flush(&cache[0]);
    CHECK_EQ(atomic_load(&heap.live), size);
    alloc_bytes += size;
    alloc_objects += size / GRANULE;
    dead_bytes += size;
    dead_objects += size / GRANULE;
    collect(0);
    check_everything();
    check_swept();
    CHECK_EQ(atomic_load(&heap.pages_inuse), 0u);
}

static size_t fuzz_size;
static uint32_t fuzz_steps;

static void fuzz_child(void)
{
    large_max = 4000000;
    for (uint32_t n = below(MAX_TYPES); n > 0; n--)
        CHECK(register_type());
    setup(fuzz_size);
    if (below(2))
        faults_begin(&rng);
    for (uint32_t i = 0; i < fuzz_steps; i++)
        step();
    faults_end();
    check_everything();
    collect(100);
    check_everything();
    uint32_t left = nobj;
    check_whole(fuzz_size);
    for (uint32_t i = 0; i < CACHES; i++)
        mcache_destroy(&cache[i]);
    heap_verify();
    printf(
        "     %3zu MiB, %" PRIu64 " objects (%u at the end), %" PRIu64
        " dead; faults for %u times; refused: %u full, %u faults, %u slots\n",
        fuzz_size / MiB, alloc_objects, left, dead_objects, episodes,
        refusals[0], refusals[1], refusals[2]);
}

/* In children: growth, where most can be refused, is over soon. */
static void test_fuzz_faults(void)
{
    for (uint32_t i = 0; i < (SLOW ? 4 : 10); i++) {
        static char out[65536];
        rng = harness_seed + i * UINT64_C(0x9E3779B97F4A7C15);
        fuzz_size = (4 + below(SLOW ? 6 : 10)) * 4 * MiB;
        fuzz_steps = SLOW ? 8000 : 16000;
        int st = harness_child(fuzz_child, NULL, out, sizeof out);
        fputs(out, st != 0 ? stderr : stdout);
        CHECK_EQ(st, 0);
    }
}

/* --- four threads ------------------------------------------------------------- */

#define THREADS 4u
#define TABLE 4000u
#define ROUNDS (SLOW ? 25u : 50u)
#define STEPS (SLOW ? 500u : 1500u)
#define THREADS_HEAP (512 * MiB)

struct piece {
    uintptr_t base;
    size_t size;
    uint64_t seed;
};

static struct worker {
    struct mcache cache;
    struct heap_release release;
    struct piece table[TABLE];
    bool survives[TABLE]; /* written by another one, while marking */
    uint32_t n, at_flip;
    uint32_t refused;
    uint64_t rng, objects;
    pthread_t thread;
} workers[THREADS];

static pthread_barrier_t barrier;
static bool now_marking;
static _Atomic bool may_fail; /* faults were injected since the last barrier */
static uint64_t pieces_dead, bytes_dead;

/* The last to come is the collector of this time. */
static void everybody(void (*collector)(uint64_t *r), struct worker *w)
{
    if (pthread_barrier_wait(&barrier) == PTHREAD_BARRIER_SERIAL_THREAD)
        collector(&w->rng);
    pthread_barrier_wait(&barrier);
}

static uint64_t piece_word(const struct piece *o, size_t i)
{
    return (o->seed + i) * UINT64_C(0x9E3779B97F4A7C15) ^ o->base;
}

static void piece_fill(const struct piece *o)
{
    uint64_t *w = (uint64_t *)o->base;
    for (size_t i = 0; i < o->size / 8; i++) {
        CHECK_EQ(w[i], 0u);
        w[i] = piece_word(o, i);
    }
}

static void piece_check(const struct piece *o)
{
    const uint64_t *w = (const uint64_t *)o->base;
    for (size_t i = 0; i < o->size / 8; i++)
        CHECK_EQ(w[i], piece_word(o, i));
    struct objinfo info;
    CHECK(heap_find(o->base, &info) && info.base == o->base);
    CHECK(heap_find(o->base + o->size - 1, &info) && info.base == o->base);
    CHECK_EQ(info.size, o->size);
    CHECK(!heap_find(o->base - 1, &info) || info.base != o->base);
    CHECK(!heap_find(o->base + o->size, &info) || info.base != o->base);
}

static uintptr_t piece_alloc(struct worker *w, size_t *size)
{
    uint32_t r = rand_below(&w->rng, 200);
    size_t n = 1 + rand_below(&w->rng, r < 10 ? 20000 : r < 60 ? 1000 : 100);
    if (r == 0) {
        *size = ALIGN_UP(MAX_SMALL + 1 + rand_below(&w->rng, 1000000), GRANULE);
        return heap_alloc_large(*size, LAYOUT_CONSERVATIVE, NULL);
    }
    uint32_t class_ = size_to_class(n), slot;
    struct tarn_type *t = type[rand_below(&w->rng, 40)]; /* the small ones */
    if (r % 4 == 0)
        slot = SLOT_NOSCAN(class_);
    else if (r % 4 == 1)
        slot = SLOT_CONSERVATIVE(class_);
    else if (r % 4 == 2 && t->size <= class_size[class_])
        slot = type_array_slot(t, class_);
    else
        slot = t->slot;
    if (slot == NO_SLOT)
        return 0;
    *size = class_size[heap.slots[slot].class_];
    uintptr_t p = mcache_alloc(&w->cache, slot);
    if (p == 0 && mcache_refill(&w->cache, slot) > 0) {
        p = mcache_alloc(&w->cache, slot);
        CHECK(p != 0);
    }
    return p;
}

static void work_step(struct worker *w)
{
    struct piece *o = &w->table[w->n];
    if (w->n < TABLE) {
        set_error("-");
        o->base = piece_alloc(w, &o->size);
        if (o->base != 0) {
            o->seed = rand_next(&w->rng) >> 8;
            piece_fill(o);
            w->n++;
            w->objects++;
        } else {
            CHECK(atomic_load(&may_fail));
            CHECK_STR(tarn_last_error(), "heap: ");
            w->refused++;
        }
    }
    if (w->n > 0)
        piece_check(&w->table[rand_below(&w->rng, w->n)]);
    struct objinfo info;
    uintptr_t p = heap.lo + rand_next(&w->rng) %
                                (atomic_load(&heap.used_hi) - heap.lo + CARD);
    if (heap_find(p, &info))
        CHECK(info.base <= p && p - info.base < info.size &&
              info.meta & META_COLOR);
    uint32_t r = rand_below(&w->rng, 1000);
    if (r < 60)
        heap_sweep_one();
    else if (r < 64)
        mcache_flush(&w->cache);
    else if (r < 66)
        heap_release_step(&w->release, rand_below(&w->rng, 4) * MiB);
    else if (r < 67)
        heap_release_free(rand_below(&w->rng, 4) * MiB);
    else if (r < 80 && w == &workers[0])
        heap_touch_ahead(rand_below(&w->rng, 4) * MiB);
    else if (r < 83 && w == &workers[1]) {
        atomic_store(&may_fail, true);
        faults_begin(&w->rng);
    } else if (r < 90 && w == &workers[1])
        fail_reset();
}

/* What the neighbour had at the flip. */
static void mark_some(struct worker *w, uint32_t from, uint32_t to)
{
    struct worker *other = &workers[(uint32_t)(w - workers + 1) % THREADS];
    for (uint32_t i = from; i < to && i < other->at_flip; i++) {
        uint8_t *m = heap_meta(other->table[i].base), b = meta_load(m);
        if (heap_white(b) && rand_below(&w->rng, 3) > 0)
            meta_store(m, b = heap_marked(b));
        other->survives[i] = !heap_white(b);
    }
}

static void work(struct worker *w)
{
    uint32_t per_step = TABLE / STEPS + 1;
    for (uint32_t i = 0; i < STEPS; i++) {
        work_step(w);
        if (now_marking)
            mark_some(w, i * per_step, (i + 1) * per_step);
    }
}

static void check_workers(void)
{
    uint64_t bytes = 0, pieces = 0, objects = 0;
    for (uint32_t k = 0; k < THREADS; k++) {
        mcache_flush(&workers[k].cache);
        for (uint32_t i = 0; i < workers[k].n; i++)
            bytes += workers[k].table[i].size;
        pieces += workers[k].n;
        objects += workers[k].objects;
    }
    CHECK_EQ(atomic_load(&heap.live), bytes);
    CHECK_EQ(atomic_load(&heap.alloc_objects), objects);
    CHECK_EQ(objects - pieces, pieces_dead);
    CHECK_EQ(atomic_load(&heap.swept_objects), pieces_dead);
    CHECK_EQ(atomic_load(&heap.swept_bytes), bytes_dead);
}

static void flip_all(uint64_t *r)
{
    fail_reset();
    atomic_store(&may_fail, false);
    while (heap_sweep_one() > 0)
        ;
    CHECK(heap_sweep_done());
    check_workers();
    if (rand_below(r, 4) == 0)
        heap_verify();
    heap_flip_color(rand_below(r, 2) == 0);
    for (uint32_t k = 0; k < THREADS; k++)
        workers[k].at_flip = workers[k].n;
    now_marking = true;
}

static void drop_dead(struct worker *w)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < w->n; i++) {
        if (i >= w->at_flip || w->survives[i]) {
            w->table[kept++] = w->table[i];
        } else {
            pieces_dead++;
            bytes_dead += w->table[i].size;
        }
    }
    w->n = kept;
}

static void end_mark_all(uint64_t *r)
{
    fail_reset();
    atomic_store(&may_fail, false);
    for (uint32_t k = 0; k < THREADS; k++) {
        mcache_flush(&workers[k].cache);
        drop_dead(&workers[k]);
    }
    if (rand_below(r, 4) == 0)
        heap_verify();
    heap_sweep_start();
    now_marking = false;
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        work(w);
        everybody(flip_all, w);
        work(w);
        everybody(end_mark_all, w);
    }
    return NULL;
}

static void threads_child(void)
{
    register_types();
    CHECK(heap_init(THREADS_HEAP));
    CHECK(pthread_barrier_init(&barrier, NULL, THREADS) == 0);
    for (uint32_t k = 0; k < THREADS; k++) {
        struct worker *w = &workers[k];
        w->rng = rand_next(&rng) | 1;
        CHECK(mcache_init(&w->cache));
    }
    for (uint32_t k = 0; k < THREADS; k++)
        CHECK(pthread_create(&workers[k].thread, NULL, worker_main,
                             &workers[k]) == 0);
    uint64_t objects = 0;
    uint32_t refused = 0;
    for (uint32_t k = 0; k < THREADS; k++) {
        CHECK(pthread_join(workers[k].thread, NULL) == 0);
        objects += workers[k].objects;
        refused += workers[k].refused;
    }
    while (heap_sweep_one() > 0)
        ;
    check_workers();
    heap_verify();
    for (uint32_t k = 0; k < THREADS; k++)
        for (uint32_t i = 0; i < workers[k].n; i++)
            piece_check(&workers[k].table[i]);
    heap_flip_color(true);
    for (uint32_t k = 0; k < THREADS; k++)
        mcache_destroy(&workers[k].cache);
    heap_sweep_start();
    while (heap_sweep_one() > 0)
        ;
    CHECK_EQ(atomic_load(&heap.live), 0u);
    CHECK_EQ(atomic_load(&heap.pages_inuse), 0u);
    heap_verify();
    CHECK_EQ(heap_alloc_large(THREADS_HEAP, LAYOUT_NOSCAN, NULL), heap.lo);
    heap_verify();
    printf("     %u threads, %" PRIu64 " objects, %u refused, faults for %u "
           "times\n",
           THREADS, objects, refused, episodes);
}

static void test_fuzz_threads(void)
{
    static char out[65536];
    rng = harness_seed;
    int st = harness_child(threads_child, NULL, out, sizeof out);
    fputs(out, st != 0 ? stderr : stdout);
    CHECK_EQ(st, 0);
}

int main(int argc, char **argv)
{
    harness_init(argc, argv);
    RUN(test_fuzz_faults);
    RUN(test_fuzz_threads);
    return harness_done();
}
