/* tests/test_final.c - finalizers and cleanups: which run, when, in which order, and
 * what lives on. */
#include "gcnodes.h"
#include "tarn/weak.h"

enum { N = 100, SLACK = 9 };

static _Atomic int ran, cleaned;
/* Of the test: what an earlier one has left behind is not counted. */
static uint64_t generation;

static struct node *tagged(uint64_t i)
{
    return new_node(generation << 32 | i);
}

static void begin(void)
{
    generation++;
    atomic_store(&ran, 0);
    atomic_store(&cleaned, 0);
}

static bool ours(const struct node *n)
{
    check_node(n, n->id);
    return n->id >> 32 == generation;
}
static struct node *_Atomic seen[N];

static void collect_and_run(void)
{
    wipe_stack();
    collect();
    CHECK_ST(tarn_finalizers_wait(), TARN_OK);
}

/* Stray pointers on stacks hold some for a while: waits until that is over. */
static void until_ran(_Atomic int *count, int want)
{
    for (int i = 0; i < 50 && atomic_load(count) < want - SLACK; i++)
        collect_and_run();
    CHECK_GE(atomic_load(count), want - SLACK);
    CHECK_LE(atomic_load(count), want);
}

static void count_node(void *object, void *arg)
{
    struct node *n = object;
    bool mine = ours(n);
    if (arg != NULL)
        check_node(arg, n->id + 1);
    if (n->next != NULL)
        check_node(n->next, n->id + 2);
    atomic_fetch_add(&ran, mine);
}

static void count_cleanup(void *arg)
{
    atomic_fetch_add(&cleaned, ours(arg));
}

/* What a finalizer is given, and what hangs on that, is whole. */
__attribute__((noinline)) static void drop_with_finalizers(int n)
{
    for (int i = 0; i < n; i++) {
        struct node *x = tagged((uint64_t)i);
        tarn_store(&x->next, tagged((uint64_t)i + 2));
        tarn_store(&x->next->next, tagged(5));
        CHECK_ST(tarn_finalizer_set(x, count_node,
                                    i % 2 ? tagged((uint64_t)i + 1) : NULL),
                 TARN_OK);
    }
}

static void test_run_once(void)
{
    uint64_t due0, run0, due, run;
    tarn_finalizers_count(&due0, &run0);
    begin();
    drop_with_finalizers(N);
    until_ran(&ran, N);
    int n = atomic_load(&ran);
    collect_and_run();
    CHECK_LE(atomic_load(&ran) - n, SLACK);
    tarn_finalizers_count(&due, &run);
    CHECK_EQ(due - due0, (uint64_t)atomic_load(&ran));
    CHECK_EQ(run - run0, (uint64_t)atomic_load(&ran));
}

/* A young collection finds young dead ones. */
static void test_young(void)
{
    begin();
    drop_with_finalizers(N);
    wipe_stack();
    gc_collect_young();
    CHECK_ST(tarn_finalizers_wait(), TARN_OK);
    /* What comes during the mark of a full one, as gcstress has it, is old then. */
    if (options.gcstress == 0)
        CHECK_GE(atomic_load(&ran), N - SLACK);
    until_ran(&ran, N);
}

static void test_held(void)
{
    struct node **held = new_shared(N * sizeof *held);
    begin();
    for (int i = 0; i < N; i++) {
        SET(held[i], tagged((uint64_t)i));
        CHECK_ST(tarn_finalizer_set(held[i], count_node, NULL), TARN_OK);
    }
    for (int i = 0; i < 3; i++)
        collect_and_run();
    CHECK_EQ(atomic_load(&ran), 0);
    /* Replaced, and removed. */
    for (int i = 0; i < N; i++)
        CHECK_ST(tarn_finalizer_set(held[i], i % 2 ? count_node : NULL,
                                    i % 2 ? tagged((uint64_t)i + 1) : NULL),
                 TARN_OK);
    for (int i = 0; i < N; i++)
        SET(held[i], NULL);
    until_ran(&ran, N / 2);
}

/* A chain with finalizers goes from its head, one link in a collection. */
static uint64_t order[8];
static _Atomic int norder;

static void note_order(void *object, void *arg)
{
    (void)arg;
    order[atomic_fetch_add(&norder, 1) % 8] =
        ((struct node *)object)->id & 0xff;
}

__attribute__((noinline)) static void drop_chain(void)
{
    struct node *head = NULL;
    for (uint64_t i = 0; i < 4; i++) {
        struct node *x = tagged(i);
        CHECK_ST(tarn_finalizer_set(x, note_order, NULL), TARN_OK);
        /* The first one last, so that no order of addresses helps. */
        tarn_store(&x->next, head);
        head = x;
    }
    CHECK_EQ(head->id & 0xff, 3);
}

static void test_order(void)
{
    atomic_store(&norder, 0);
    drop_chain();
    for (int i = 0; i < 50 && atomic_load(&norder) < 4; i++) {
        int before = atomic_load(&norder);
        collect_and_run();
        CHECK_LE(atomic_load(&norder) - before, 1);
    }
    CHECK_EQ(atomic_load(&norder), 4);
    for (uint64_t i = 0; i < 4; i++)
        CHECK_EQ(order[i], 3 - i);
}

/* Who points to itself is no circle; who points to another that points back is. */
__attribute__((noinline)) static void drop_circles(int n)
{
    for (int i = 0; i < n; i++) {
        struct node *x = tagged((uint64_t)i);
        tarn_store(&x->other, x);
        CHECK_ST(tarn_finalizer_set(x, count_node, NULL), TARN_OK);
        struct node *a = tagged(1), *b = tagged(2);
        tarn_store(&a->other, b);
        tarn_store(&b->other, a);
        CHECK(tarn_cleanup_add(a, count_cleanup, tagged(3)) != 0);
        CHECK(tarn_cleanup_add(b, count_cleanup, tagged(4)) != 0);
    }
}

static void test_circles(void)
{
    begin();
    drop_circles(N);
    until_ran(&ran, N);
    until_ran(&cleaned, 2 * N);
}

/* Resurrection: weak references are gone by then, cleanups wait, the object is whole,
 * its finalizer is used up and can be set again. */
static tarn_weak *weak_seen[N];

static void resurrect(void *object, void *arg)
{
    (void)arg;
    struct node *n = object;
    uint64_t i = n->id & 0xffffffff;
    CHECK(tarn_weak_get(weak_seen[i]) == NULL);
    tarn_weak *again = tarn_weak_new(n);
    CHECK(again != weak_seen[i]);
    CHECK(tarn_weak_get(again) == n);
    tarn_store(&seen[i], n);
    atomic_fetch_add(&ran, 1);
}

__attribute__((noinline)) static void drop_for_resurrection(void)
{
    for (int i = 0; i < N; i++) {
        struct node *x = tagged((uint64_t)i);
        CHECK_ST(tarn_finalizer_set(x, resurrect, NULL), TARN_OK);
        CHECK(tarn_cleanup_add(x, count_cleanup, tagged(9)) != 0);
        tarn_store(&weak_seen[i], tarn_weak_new(x));
    }
}

static void test_resurrection(void)
{
    begin();
    for (int i = 0; i < N; i++)
        tarn_store(&seen[i], NULL);
    drop_for_resurrection();
    until_ran(&ran, N);
    CHECK_EQ(atomic_load(&cleaned), 0);
    int n = atomic_load(&ran);
    for (int i = 0; i < 3; i++)
        collect_and_run();
    CHECK_EQ(atomic_load(&cleaned), 0);
    CHECK_LE(atomic_load(&ran) - n, SLACK);
    int back = 0;
    for (int i = 0; i < N; i++)
        if (seen[i] != NULL) {
            check_node(seen[i], generation << 32 | (uint64_t)i);
            CHECK_ST(tarn_finalizer_set(seen[i], count_node, NULL), TARN_OK);
            back++;
        }
    CHECK_EQ(back, atomic_load(&ran));
    atomic_store(&ran, 0);
    for (int i = 0; i < N; i++)
        tarn_store(&seen[i], NULL);
    until_ran(&ran, back);
    until_ran(&cleaned, back);
}

/* --- cleanups -------------------------------------------------------------------------- */

static void note_number(void *arg)
{
    order[atomic_fetch_add(&norder, 1) % 8] = *(uint64_t *)arg;
}

__attribute__((noinline)) static void drop_with_cleanups(uint64_t *ids)
{
    struct node *x = tagged(1);
    for (uint64_t i = 0; i < 4; i++) {
        uint64_t *arg = tarn_alloc_bytes(sizeof *arg);
        *arg = i;
        ids[i] = tarn_cleanup_add(x, note_number, arg);
        CHECK(ids[i] != 0 && (i == 0 || ids[i] != ids[i - 1]));
    }
    CHECK(tarn_cleanup_remove(x, ids[2]));
    CHECK(!tarn_cleanup_remove(x, ids[2]));
    CHECK(!tarn_cleanup_remove(tagged(2), ids[1]));
}

static void test_cleanups(void)
{
    uint64_t ids[4];
    atomic_store(&norder, 0);
    drop_with_cleanups(ids);
    for (int i = 0; i < 50 && atomic_load(&norder) < 3; i++)
        collect_and_run();
    CHECK_EQ(atomic_load(&norder), 3);
    uint64_t got = 0;
    for (int i = 0; i < 3; i++)
        got |= UINT64_C(1) << order[i];
    CHECK_EQ(got, 0xb);
}

/* They allocate, block, collect, start goroutines, set finalizers. */
static tarn_waitgroup busy_wg;

static void busy_child(void *arg)
{
    CHECK(ours(arg));
    tarn_waitgroup_done(&busy_wg);
}

static void busy(void *object, void *arg)
{
    (void)arg;
    struct node *n = object;
    uint64_t id = n->id;
    struct node *own = tagged(6);
    tarn_yield();
    if (id % 8 == 0)
        CHECK_ST(tarn_gc(), TARN_OK);
    go(busy_child, own);
    check_node(n, id);
    CHECK_ST(tarn_finalizers_wait(), TARN_ESTATE);
    CHECK_ST(tarn_finalizer_set(own, count_node, NULL), TARN_OK);
    atomic_fetch_add(&cleaned, ours(n));
}

__attribute__((noinline)) static void drop_busy(int n)
{
    for (int i = 0; i < n; i++)
        CHECK_ST(tarn_finalizer_set(tagged((uint64_t)i), busy, NULL), TARN_OK);
}

static void test_busy(void)
{
    begin();
    tarn_waitgroup_add(&busy_wg, 40);
    drop_busy(40);
    for (int i = 0; i < 200 && atomic_load(&cleaned) < 40; i++)
        collect_and_run();
    CHECK_EQ(atomic_load(&cleaned), 40);
    tarn_waitgroup_wait(&busy_wg);
    until_ran(&ran, 40);
}

/* Many goroutines set, remove, drop, while collections of both kinds run. */
struct storm {
    tarn_waitgroup wg;
    _Atomic int set;
};

static void storm_goroutine(void *vs)
{
    struct storm *s = vs;
    uint64_t rng = seed_of(tarn_self());
    struct node **held = new_shared(16 * sizeof *held);
    for (int i = 0; i < scaled(6000); i++) {
        uint32_t k = below(&rng, 16);
        if (held[k] != NULL)
            check_node(held[k], held[k]->id);
        struct node *x = tagged(harness_rand(&rng) >> 33);
        tarn_store(&x->next, new_node(x->id + 2));
        CHECK_ST(tarn_finalizer_set(x, count_node, NULL), TARN_OK);
        CHECK(tarn_cleanup_add(x, count_cleanup, tagged(1)) != 0);
        atomic_fetch_add(&s->set, 1);
        if (below(&rng, 2) == 0)
            SET(held[k], x);
        if (i % 16 == 0)
            pause_briefly();
    }
    tarn_waitgroup_done(&s->wg);
}

static void test_storm(void)
{
    struct storm *s = new_shared(sizeof *s);
    begin();
    tarn_waitgroup_add(&s->wg, 3);
    for (int i = 0; i < 3; i++)
        go(storm_goroutine, s);
    for (int i = 0; i < 20; i++) {
        if (i % 3)
            gc_collect_young();
        else
            collect();
        tarn_yield();
    }
    tarn_waitgroup_wait(&s->wg);
    until_ran(&ran, atomic_load(&s->set));
    until_ran(&cleaned, atomic_load(&s->set));
}

static void test_misuse(void)
{
    CHECK_ST(tarn_world_stop(), TARN_OK);
    CHECK_ST(tarn_finalizers_wait(), TARN_ESTATE);
    CHECK_ST(tarn_world_start(), TARN_OK);
    static int global;
    CHECK_ST(tarn_finalizer_set(&global, count_node, NULL), TARN_EINVAL);
    CHECK_STR(tarn_last_error(), "tarn_finalizer_set");
    CHECK_ST(tarn_finalizer_set(NULL, count_node, NULL), TARN_EINVAL);
    struct node *x = tagged(1);
    CHECK_ST(tarn_finalizer_set(&x->check, count_node, NULL), TARN_EINVAL);
    CHECK_EQ(tarn_cleanup_add(&global, count_cleanup, NULL), 0);
    CHECK_EQ(tarn_cleanup_add(x, NULL, NULL), 0);
    CHECK_STR(tarn_last_error(), "no function");
    CHECK(!tarn_cleanup_remove(&global, 1));
}

/* What only an object reaches whose finalizer is due is alive until that has run, for
 * weak references, too; the object itself is not. */
static _Atomic int whole, gone_already;

static void look_at_weak(void *object, void *vw)
{
    tarn_weak **w = vw;
    gone_already += tarn_weak_get(w[0]) == NULL;
    whole += tarn_weak_get(w[1]) == ((struct node *)object)->next;
}

__attribute__((noinline)) static void drop_with_weak(void)
{
    for (int i = 0; i < N; i++) {
        struct node *x = tagged(1);
        tarn_store(&x->next, tagged(2));
        tarn_weak **w = tarn_alloc_conservative(2 * sizeof *w);
        tarn_store(&w[0], tarn_weak_new(x));
        tarn_store(&w[1], tarn_weak_new(x->next));
        CHECK_ST(tarn_finalizer_set(x, look_at_weak, w), TARN_OK);
    }
}

static void test_weak_in_finalizers(void)
{
    begin();
    whole = gone_already = 0;
    drop_with_weak();
    until_ran(&whole, N);
    CHECK_EQ(atomic_load(&whole), atomic_load(&gone_already));
}

static void body(void)
{
    if (t_node == NULL)
        register_types();
    RUN(test_run_once);
    RUN(test_young);
    RUN(test_held);
    RUN(test_order);
    RUN(test_circles);
    RUN(test_resurrection);
    RUN(test_cleanups);
    RUN(test_busy);
    RUN(test_storm);
    RUN(test_misuse);
    RUN(test_weak_in_finalizers);
}

/* --- off a goroutine ---------------------------------------------------------------------- */

static void test_elsewhere(void)
{
    CHECK_ST(tarn_finalizer_set(&ran, count_node, NULL), TARN_ESTATE);
    CHECK_EQ(tarn_cleanup_add(&ran, count_cleanup, NULL), 0);
    CHECK_ST(tarn_finalizers_wait(), TARN_ESTATE);
    CHECK(tarn_weak_new(&ran) == NULL);
    CHECK(tarn_weakmap_new() == NULL);
    uint64_t due, run;
    tarn_finalizers_count(&due, &run);
    CHECK_EQ(due, run);
}

static void leave(void *object, void *arg)
{
    (void)object;
    (void)arg;
    tarn_goexit();
}

__attribute__((noinline)) static void drop_leaving(void)
{
    for (int i = 0; i < N; i++)
        CHECK_ST(tarn_finalizer_set(new_node(1), leave, NULL), TARN_OK);
}

static void leaving(void *unused)
{
    (void)unused;
    register_types();
    drop_leaving();
    collect_and_run();
}

static void test_goexit(void)
{
    CHECK_FATAL(leaving, "tarn_goexit: called by a finalizer");
}

int main(int argc, char **argv)
{
    harness_init(argc, argv);
    RUN(test_elsewhere);
    RUN(test_goexit);
    gc_run(body, 1, "checkmark=1");
    gc_run(body, 4, "clobberfree=1");
    gc_run(body, 4, "checkmark=1,gcstress=64");
    gc_run(body, 16, "checkmark=1,droppreempt=30,gcstress=500");
    return harness_done();
}
