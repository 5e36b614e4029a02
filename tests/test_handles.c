/* tests/test_handles.c - handles, and root ranges that go with a thread. */
#include <pthread.h>

#include "gcnodes.h"
#include "tarn/handle.h"

enum { SLACK = 9 };

/* --- handles ------------------------------------------------------------------- */

/* Where the collector never looks. */
static tarn_handle **handles(size_t n)
{
    tarn_handle **h = malloc(n * sizeof *h);
    CHECK(h != NULL);
    return h;
}

__attribute__((noinline)) static void make_handles(tarn_handle **h,
                                                   tarn_weak **weak, int n)
{
    for (int i = 0; i < n; i++) {
        struct node *x = new_node((uint64_t)i);
        SET(weak[i], tarn_weak_new(x));
        h[i] = tarn_handle_new(x);
        CHECK(h[i] != NULL);
    }
}

static int alive_of(tarn_weak **weak, int n)
{
    int live = 0;
    for (int i = 0; i < n; i++)
        live += tarn_weak_get(weak[i]) != NULL;
    return live;
}

static void test_hold(void)
{
    int n = scaled(20000);
    tarn_handle **h = handles((size_t)n);
    tarn_weak **weak = new_shared((size_t)n * sizeof *weak);
    size_t before = tarn_handles();
    make_handles(h, weak, n);
    CHECK_EQ(tarn_handles() - before, (size_t)n);
    wipe_stack();
    for (int round = 0; round < 3; round++) {
        if (round == 1)
            gc_collect_young();
        else
            collect();
        for (int i = 0; i < n; i++)
            check_node(tarn_handle_get(h[i]), (uint64_t)i);
    }
    /* A young object in an old handle; an interior pointer; NULL. */
    for (int i = 0; i < n; i++)
        tarn_handle_set(h[i], i % 3 == 0   ? NULL
                              : i % 3 == 1 ? (void *)new_node(7)
                                           : (void *)&new_node(8)->check);
    wipe_stack();
    gc_collect_young();
    for (int i = 0; i < n; i++) {
        if (i % 3 == 0)
            CHECK(tarn_handle_get(h[i]) == NULL);
        else if (i % 3 == 1)
            check_node(tarn_handle_get(h[i]), 7);
        else
            check_node(tarn_object_base(tarn_handle_get(h[i])), 8);
    }
    collect();
    CHECK_LE(alive_of(weak, n), n / 20 + SLACK);
    for (int i = 0; i < n; i++)
        tarn_handle_drop(h[i]);
    CHECK_EQ(tarn_handles(), before);
    tarn_handle_drop(NULL);
    collect();
    /* Their memory is used again. */
    make_handles(h, weak, n);
    for (int i = 0; i < n; i++) {
        check_node(tarn_handle_get(h[i]), (uint64_t)i);
        tarn_handle_drop(h[i]);
    }
    free(h);
}

struct storm {
    tarn_waitgroup wg;
};

static void storm_goroutine(void *vs)
{
    enum { N = 600 };
    struct storm *s = vs;
    uint64_t rng = seed_of(tarn_self());
    tarn_handle **h = handles(N);
    uint64_t *id = calloc(N, sizeof *id);
    memset(h, 0, N * sizeof *h);
    for (int i = 0; i < scaled(30000); i++) {
        uint32_t k = below(&rng, N);
        if (h[k] == NULL) {
            id[k] = harness_rand(&rng);
            h[k] = tarn_handle_new(new_node(id[k]));
        } else {
            check_node(tarn_handle_get(h[k]), id[k]);
            if (below(&rng, 2)) {
                id[k] = harness_rand(&rng);
                tarn_handle_set(h[k], new_node(id[k]));
            } else {
                tarn_handle_drop(h[k]);
                h[k] = NULL;
            }
        }
        if (i % 16 == 0)
            pause_briefly();
    }
    for (int i = 0; i < N; i++)
        tarn_handle_drop(h[i]);
    free(h);
    free(id);
    tarn_waitgroup_done(&s->wg);
}

static void test_storm(void)
{
    struct storm *s = new_shared(sizeof *s);
    size_t before = tarn_handles();
    tarn_waitgroup_add(&s->wg, 4);
    for (int i = 0; i < 4; i++)
        go(storm_goroutine, s);
    for (int i = 0; i < 20; i++) {
        if (i % 3)
            gc_collect_young();
        else
            collect();
        tarn_yield();
    }
    tarn_waitgroup_wait(&s->wg);
    CHECK_EQ(tarn_handles(), before);
}

/* --- local roots ---------------------------------------------------------------- */

static tarn_weak *kept[2];

__attribute__((noinline)) static void fill(struct node **slots, int n, int at)
{
    for (int i = 0; i < n; i++)
        slots[i] = new_node(3);
    tarn_store(&kept[at], tarn_weak_new(slots[0]));
}

/* Heap memory of libc's in the place of a thread's: freed after it was removed. */
static void owner(void *vch)
{
    tarn_chan *ch = vch;
    enum { N = 40 };
    struct node **slots = calloc(N, sizeof *slots);
    CHECK_ST(tarn_roots_add(slots, slots + N, TARN_ROOTS_LOCAL), TARN_OK);
    fill(slots, N, 0);
    wipe_stack();
    uint64_t v = 1;
    CHECK_ST(tarn_chan_send(ch, &v), TARN_OK);
    CHECK_ST(tarn_chan_recv(ch, &v), TARN_OK);
    for (int i = 0; i < N; i++)
        check_node(slots[i], 3);
    /* Not removed: it goes with us. */
}

static void test_goroutine_ends(void)
{
    tarn_chan *ch = tarn_chan_new(8, 0);
    uint64_t v;
    go(owner, ch);
    CHECK_ST(tarn_chan_recv(ch, &v), TARN_OK);
    size_t n = gc.nplain;
    collect();
    collect();
    CHECK(tarn_weak_get(kept[0]) != NULL);
    CHECK_ST(tarn_chan_send(ch, &v), TARN_OK);
    while (gc.nplain == n)
        tarn_yield();
    CHECK_EQ(gc.nplain, n - 1);
    for (int i = 0; i < 50 && tarn_weak_get(kept[0]) != NULL; i++) {
        wipe_stack();
        collect();
    }
    CHECK(tarn_weak_get(kept[0]) == NULL);
}

static __thread struct node *of_thread[20];

static void *thread(void *explicitly)
{
    CHECK_ST(tarn_thread_attach(), TARN_OK);
    CHECK_ST(tarn_roots_add(of_thread, of_thread + 20,
                            TARN_ROOTS_LOCAL | TARN_ROOTS_BARRIERED),
             TARN_OK);
    for (int i = 0; i < 20; i++)
        tarn_store(&of_thread[i], new_node(4));
    tarn_store(&kept[1], tarn_weak_new(of_thread[0]));
    wipe_stack();
    for (int i = 0; i < 5; i++)
        collect();
    for (int i = 0; i < 20; i++)
        check_node(of_thread[i], 4);
    if (explicitly != NULL)
        CHECK_ST(tarn_thread_detach(), TARN_OK);
    return NULL;
}

static void *join(void *vt)
{
    CHECK_EQ(pthread_join(*(pthread_t *)vt, NULL), 0);
    return NULL;
}

static void test_thread_ends(void)
{
    size_t n = gc.nbarriered;
    for (int i = 0; i < 6; i++) {
        pthread_t *t = malloc(sizeof *t);
        CHECK_EQ(pthread_create(t, NULL, thread, i % 2 ? t : NULL), 0);
        tarn_native_call(join, t);
        free(t);
        CHECK_EQ(gc.nbarriered, n);
    }
    for (int i = 0; i < 50 && tarn_weak_get(kept[1]) != NULL; i++) {
        wipe_stack();
        collect();
    }
    CHECK(tarn_weak_get(kept[1]) == NULL);
}

static void body(void)
{
    if (t_node == NULL)
        register_types();
    RUN(test_hold);
    RUN(test_storm);
    RUN(test_goroutine_ends);
    RUN(test_thread_ends);
}

/* --- misuse ---------------------------------------------------------------------- */

static void *misused;

static void use_dropped(void *unused)
{
    (void)unused;
    register_types();
    tarn_handle *h = tarn_handle_new(new_node(1));
    tarn_handle_drop(h);
    misused = tarn_handle_get(h);
}

static void drop_twice(void *unused)
{
    (void)unused;
    register_types();
    tarn_handle *h = tarn_handle_new(NULL);
    tarn_handle_drop(h);
    tarn_handle_drop(h);
}

static void use_no_handle(void *unused)
{
    (void)unused;
    static char page[8192] __attribute__((aligned(4096)));
    tarn_handle_set((tarn_handle *)(void *)(page + 1024), NULL);
}

static void as_main(void (*fn)(void *))
{
    tarn_main(NULL, fn, NULL);
}
static void start_use_dropped(void)
{
    as_main(use_dropped);
}
static void start_drop_twice(void)
{
    as_main(drop_twice);
}
static void start_use_no_handle(void)
{
    as_main(use_no_handle);
}

static void test_misuse(void)
{
    CHECK_THROWS(start_use_dropped, NULL, "tarn_handle_get: handle");
    CHECK_THROWS(start_drop_twice, NULL, "tarn_handle_drop: handle");
    CHECK_THROWS(start_use_no_handle, NULL, "is no handle");
    CHECK(tarn_handle_new(NULL) == NULL);
    CHECK_STR(tarn_last_error(), "tarn_handle_new");
    static void *range[2];
    CHECK_ST(tarn_roots_add(range, range + 2, TARN_ROOTS_LOCAL), TARN_ESTATE);
    CHECK_ST(tarn_roots_add(range, range + 2, 4), TARN_EINVAL);
}

int main(int argc, char **argv)
{
    harness_init(argc, argv);
    RUN(test_misuse);
    gc_run(body, 1, "checkmark=1");
    gc_run(body, 4, "clobberfree=1");
    gc_run(body, 4, "checkmark=1,gcstress=64");
    gc_run(body, 16, "checkmark=1,droppreempt=30,gcstress=500");
    return harness_done();
}
