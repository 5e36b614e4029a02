/* tests/test_memory.c - memory by kind: does the sum grow as what the kernel counts? */
#include "gcsuite.h"
#include "tarn/memory.h"
#include "tarn/weak.h"

/* Bytes of the process in memory. Not VmRSS, which the kernel adds up in batches. */
static size_t resident_now(void)
{
    static char text[4096];
    int fd = open("/proc/self/smaps_rollup", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    CHECK_GT(n, 0);
    text[n] = '\0';
    const char *line = strstr(text, "\nRss:");
    CHECK(line != NULL);
    return strtoull(line + 5, NULL, 10) << 10;
}

static void *resident_native(void *vn)
{
    *(size_t *)vn = resident_now();
    return NULL;
}

struct state {
    struct tarn_memory_stats s;
    size_t rss;
};

static struct state measure(void)
{
    static size_t rss;
    struct state st = {.s = {.struct_size = sizeof st.s}};
    tarn_native_call(resident_native, &rss);
    st.rss = rss;
    CHECK_ST(tarn_memory_stats(&st.s), TARN_OK);
    const uint64_t *kind = &st.s.object_bytes;
    uint64_t sum = 0;
    while (kind < &st.s.total_bytes)
        sum += *kind++;
    CHECK_EQ(sum, st.s.total_bytes);
    return st;
}

/* Kinds that grew say what did. */
static void check_growth(const struct state *a, const struct state *b,
                         const char *what, uint64_t least)
{
    double kernel = (double)b->rss - (double)a->rss;
    double ours = (double)b->s.total_bytes - (double)a->s.total_bytes;
    printf("     %s: kernel %+.1f MB, sum %+.1f MB (%+.2f %%)\n", what,
           kernel / 1e6, ours / 1e6, 100 * (ours / kernel - 1));
    printf("      objects %.1f free places %.1f free pages %.1f metadata %.1f "
           "stacks %.1f free %.1f frozen %.1f Gs %.1f threads %.1f marks %.1f "
           "other %.1f\n",
           (double)b->s.object_bytes / 1e6, (double)b->s.free_place_bytes / 1e6,
           (double)b->s.free_page_bytes / 1e6,
           (double)b->s.heap_metadata_bytes / 1e6,
           (double)b->s.stack_bytes / 1e6, (double)b->s.free_stack_bytes / 1e6,
           (double)b->s.frozen_bytes / 1e6, (double)b->s.goroutine_bytes / 1e6,
           (double)b->s.thread_stack_bytes / 1e6,
           (double)b->s.mark_buffer_bytes / 1e6,
           (double)b->s.other_bytes / 1e6);
    CHECK_GE((int64_t)kernel, (int64_t)least);
    CHECK(ours > 0.95 * kernel && ours < 1.05 * kernel);
}

#define MB UINT64_C(1000000)

#define MUST_MEASURE                                                           \
    do {                                                                       \
        if (TARN_ASAN || TARN_TSAN)                                            \
            SKIP("a sanitizer has memory of its own for each byte");           \
        if (options.gcstress != 0)                                             \
            SKIP("it would collect for each few of millions of objects");      \
        if (resident_now() == 0)                                               \
            SKIP("no /proc/self/smaps_rollup");                                \
    } while (0)

/* --- heaps ----------------------------------------------------------------------- */

struct node {
    struct node *next;
    uint64_t id[3];
};
static tarn_type *t_node;
static struct node *list;
static void **table;

/* Frames of their own, of which nothing is left but what is wiped. */
__attribute__((noinline)) static void make_list(int n)
{
    for (int i = 0; i < n; i++) {
        struct node *x = tarn_alloc(t_node);
        CHECK(x != NULL);
        tarn_store(&x->next, list);
        tarn_store(&list, x);
    }
}

__attribute__((noinline)) static void drop_list(void)
{
    /* A word that still seems to point to it keeps one node only. */
    for (struct node *x = list, *next; x != NULL; x = next) {
        next = x->next;
        tarn_store(&x->next, NULL);
    }
    tarn_store(&list, NULL);
}

static void test_small_objects(void)
{
    MUST_MEASURE;
    t_node = tarn_type_register(&(struct tarn_type_info){
        .name = "node",
        .size = sizeof(struct node),
        .ptrmap = (uint64_t[]){TARN_PTR(struct node, next)}});
    CHECK(t_node != NULL);
    struct state a = measure();
    make_list(3000000);
    struct state b = measure();
    check_growth(&a, &b, "3,000,000 objects", 90 * MB);
    CHECK_GE(b.s.object_bytes, 96 * MB);
    /* Dead: places and pages are free, some of them still there. */
    drop_list();
    wipe_stack();
    collect();
    struct state c = measure();
    CHECK_LT(c.s.object_bytes, 10 * MB);
    CHECK(c.s.total_bytes + (b.rss - c.rss) >
              b.s.total_bytes - (b.rss - a.rss) / 20 &&
          c.s.total_bytes + (b.rss - c.rss) <
              b.s.total_bytes + (b.rss - a.rss) / 20);
}

static void test_large_objects(void)
{
    MUST_MEASURE;
    enum { N = 16, SIZE = 12 << 20 };
    struct state a = measure();
    tarn_store(&table, tarn_alloc_conservative(N * sizeof(void *)));
    for (int i = 0; i < N; i++) {
        char *p = tarn_alloc_bytes(SIZE);
        CHECK(p != NULL);
        tarn_store(&table[i], p);
        /* Half of it; what is not touched is nowhere. */
        memset(p, 1, SIZE / 2);
    }
    struct state b = measure();
    check_growth(&a, &b, "16 objects of 12 MiB, half touched", 50 * MB);
    tarn_store(&table, NULL);
}

/* --- goroutines -------------------------------------------------------------------- */

/* Fixed stacks are mappings, of which a process may have some 65,000. */
#ifndef GOROUTINES
#define GOROUTINES 20000
#endif

static tarn_chan *gate;

static void waits(void *unused)
{
    (void)unused;
    uint64_t v;
    tarn_chan_recv(gate, &v);
}

static void test_goroutines(void)
{
    MUST_MEASURE;
    enum { N = GOROUTINES };
    tarn_store(&gate, new_chan(sizeof(uint64_t), 0));
    struct state a = measure();
    size_t before = tarn_goroutines();
    for (int i = 0; i < N; i++)
        go(waits, NULL);
    for (int i = 0; i < 3; i++) { /* some are frozen then, on copying stacks */
        tarn_yield();
        collect();
    }
    struct state b = measure();
    check_growth(&a, &b, "waiting goroutines", 50 * MB);
    CHECK_GE(b.s.goroutine_bytes - a.s.goroutine_bytes,
             N * sizeof(struct g) * 9 / 10);
    CHECK_ST(tarn_chan_close(gate), TARN_OK);
    while (tarn_goroutines() > before)
        tarn_yield();
    struct state c = measure();
    CHECK_LE(c.s.frozen_bytes, a.s.frozen_bytes + MB);
    tarn_store(&gate, NULL);
}

static _Atomic int deepest;

__attribute__((noinline)) static int deep(int n)
{
    volatile char frame[1000];
    frame[n % 1000] = (char)n;
    if (n == 0) {
        uint64_t v;
        atomic_fetch_add(&deepest, 1);
        tarn_chan_recv(gate, &v);
        return 0;
    }
    return deep(n - 1) + frame[n % 1000];
}

#define DEEP_MB 16

static void goes_deep(void *unused)
{
    (void)unused;
    deep(DEEP_MB * 1000);
}

static void test_deep_stacks(void)
{
    MUST_MEASURE;
    enum { N = 4 };
    struct tarn_go_attr attr = {.stack_size = (size_t)32 << 20};
    tarn_store(&gate, new_chan(sizeof(uint64_t), 0));
    atomic_store(&deepest, 0);
    struct state a = measure();
    size_t before = tarn_goroutines();
    for (int i = 0; i < N; i++)
        CHECK_ST(tarn_go_with(&attr, goes_deep, NULL), TARN_OK);
    while (atomic_load(&deepest) < N)
        tarn_yield();
    struct state b = measure();
    check_growth(&a, &b, "4 stacks of 16 MB", 60 * MB);
    CHECK_GE(b.s.stack_bytes - a.s.stack_bytes, 60 * MB);
    CHECK_ST(tarn_chan_close(gate), TARN_OK);
    while (tarn_goroutines() > before)
        tarn_yield();
    tarn_store(&gate, NULL);
}

/* --- what the runtime has besides ----------------------------------------------------- */

static tarn_weakmap *map;

static void test_weak_map(void)
{
    MUST_MEASURE;
    enum { N = 600000 };
    struct state a = measure();
    tarn_store(&table, tarn_alloc_conservative(N * sizeof(void *)));
    tarn_store(&map, tarn_weakmap_new());
    for (int i = 0; i < N; i++) {
        void *k = tarn_alloc_bytes(16);
        CHECK(k != NULL);
        tarn_store(&table[i], k);
        CHECK_ST(tarn_weakmap_set(map, k, k), TARN_OK);
    }
    struct state b = measure();
    check_growth(&a, &b, "600,000 entries of a weak map", 50 * MB);
    CHECK_GE(b.s.other_bytes - a.s.other_bytes, 30 * MB);
    tarn_store(&map, NULL);
    tarn_store(&table, NULL);
}

static void test_refused(void)
{
    struct tarn_memory_stats s = {.struct_size = 0};
    CHECK_ST(tarn_memory_stats(NULL), TARN_EINVAL);
    CHECK_ST(tarn_memory_stats(&s), TARN_EINVAL);
    s.struct_size = sizeof s + 1;
    CHECK_ST(tarn_memory_stats(&s), TARN_EINVAL);
    /* An older, smaller one. */
    s.struct_size = offsetof(struct tarn_memory_stats, free_place_bytes);
    s.free_place_bytes = 77;
    CHECK_ST(tarn_world_stop(), TARN_OK);
    CHECK_ST(tarn_memory_stats(&s), TARN_OK);
    CHECK_ST(tarn_world_start(), TARN_OK);
    CHECK_EQ(s.free_place_bytes, 77u);
}

/* Each in a process of its own: nothing is left over for it. */
#define BODY(name)                                                             \
    static void body_##name(void)                                              \
    {                                                                          \
        RUN(test_##name);                                                      \
    }

BODY(refused)
BODY(small_objects)
BODY(large_objects)
BODY(goroutines)
BODY(deep_stacks)
BODY(weak_map)

int main(int argc, char **argv)
{
    harness_init(argc, argv);
    suite_run(body_refused, 2);
    suite_run(body_small_objects, 2);
    suite_run(body_large_objects, 2);
    suite_run(body_goroutines, 2);
    suite_run(body_deep_stacks, 2);
    suite_run(body_weak_map, 2);
    return harness_done();
}
