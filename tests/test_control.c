/* tests/test_control.c - settings while the program runs, collections in steps, the
 * handler for memory that runs out, memory outside, listeners. */
#include <pthread.h>

#include "gcnodes.h"
#include "tarn/control.h"
#include "tarn/events.h"

static struct tarn_gc_stats stats(void)
{
    struct tarn_gc_stats s = {.struct_size = sizeof s};
    CHECK_ST(tarn_gc_stats(&s), TARN_OK);
    return s;
}

/* Of garbage, in small pieces. */
static void allocate(size_t bytes)
{
    for (size_t n = 0; n < bytes; n += 256)
        CHECK(tarn_alloc_bytes(256) != NULL);
}

/* --- settings ------------------------------------------------------------------- */

static void test_percent(void)
{
    size_t n = (size_t)32 << 20;
    void **live = new_shared(n / 4096 * sizeof *live);
    for (size_t i = 0; i < n / 4096; i++)
        SET(live[i], tarn_alloc_bytes(4096));
    collect();
    CHECK_ST(tarn_set_gcpercent(1000), TARN_OK);
    CHECK_EQ(tarn_gcpercent(), 1000);
    collect();
    uint64_t far = stats().heap_goal_bytes;
    CHECK_GT(far, 8 * (uint64_t)n);
    CHECK_ST(tarn_set_gcpercent(50), TARN_OK);
    collect();
    uint64_t near = stats().heap_goal_bytes;
    CHECK_LT(near, 2 * (uint64_t)n);
    /* Without a collection between, too. */
    CHECK_ST(tarn_set_gcpercent(1000), TARN_OK);
    while (stats().heap_goal_bytes < 8 * (uint64_t)n)
        tarn_yield();
    CHECK_ST(tarn_set_gcpercent(100), TARN_OK);
    CHECK_ST(tarn_set_gcpercent(9), TARN_EINVAL);
    CHECK_STR(tarn_last_error(), "tarn_set_gcpercent: 9 is not within 10");
    CHECK_EQ(tarn_gcpercent(), 100);
}

static void test_limit(void)
{
    collect();
    CHECK_ST(tarn_set_gcpercent(1000), TARN_OK);
    uint64_t goal = stats().heap_bytes + ((uint64_t)24 << 20);
    CHECK_ST(tarn_set_memlimit((int64_t)goal), TARN_OK);
    CHECK_EQ(tarn_memlimit(), (int64_t)goal);
    collect();
    CHECK_LE(stats().heap_goal_bytes, goal);
    CHECK_ST(tarn_set_memlimit(0), TARN_OK);
    collect();
    CHECK_ST(tarn_set_gcpercent(100), TARN_OK);
    CHECK_ST(tarn_set_memlimit(-1), TARN_EINVAL);
}

static void test_disable(void)
{
    collect();
    CHECK_ST(tarn_gc_disable(), TARN_OK);
    CHECK_ST(tarn_gc_disable(), TARN_OK);
    collect(); /* all the same; and what was under way has ended */
    uint64_t cycles = stats().cycles;
    allocate((size_t)64 << 20);
    CHECK_ST(tarn_gc_enable(), TARN_OK);
    allocate((size_t)16 << 20);
    if (options.gcstress == 0)
        CHECK_EQ(stats().cycles, cycles);
    CHECK_ST(tarn_gc_enable(), TARN_OK);
    while (stats().cycles == cycles)
        allocate(1 << 20);
    CHECK_ST(tarn_gc_enable(), TARN_EINVAL);
    CHECK_STR(tarn_last_error(), "tarn_gc_enable");
}

/* At once, though the driver has yet to hear of it. */
static void test_disable_now(void)
{
    if (options.gcstress != 0)
        SKIP("the trigger is never come near");
    for (int i = 0; i < 10; i++) {
        collect();
        while (atomic_load(&heap.live) + 500000 < atomic_load(&gc.trigger))
            CHECK(tarn_alloc_bytes(4096) != NULL);
        uint64_t cycles = gc.cycles_started;
        CHECK_ST(tarn_gc_disable(), TARN_OK);
        bool none = gc.cycles_started == cycles;
        allocate((size_t)4 << 20);
        for (int k = 0; k < 20; k++)
            tarn_yield();
        if (none)
            CHECK_EQ(gc.cycles_started, cycles);
        CHECK_ST(tarn_gc_enable(), TARN_OK);
    }
}

/* --- steps ------------------------------------------------------------------------- */

static enum tarn_step step(size_t work)
{
    enum tarn_step did = TARN_STEP_DONE;
    CHECK_ST(tarn_gc_step(work, &did), TARN_OK);
    return did;
}

/* What is stored between two steps, and what is dropped, is found as in any other
 * collection; the order of steps is as promised. */
static void test_steps(void)
{
    enum { N = 3000 };
    struct node **live = new_shared(N * sizeof *live);
    for (int i = 0; i < N; i++)
        SET(live[i], new_node((uint64_t)i));
    CHECK_ST(tarn_gc_disable(), TARN_OK);
    collect(); /* and none is under way */
    uint64_t cycles = stats().cycles;
    CHECK_EQ(step(0), TARN_STEP_BEGUN);
    CHECK(marking());
    int marked = 0, swept = 0;
    enum tarn_step did;
    while ((did = step(1000)) == TARN_STEP_MARKING) {
        CHECK(marking());
        /* Move one to where it is not looked for any more, drop one, add one. */
        int a = marked % (N - 2), b = N - 1 - a;
        tarn_store(&live[a]->other, live[b]);
        tarn_store(&live[b], new_node((uint64_t)b));
        tarn_store(&live[a]->next, new_node(5));
        marked++;
    }
    CHECK_GT(marked, 10);
    CHECK_EQ(did, TARN_STEP_MARKED);
    CHECK(!marking());
    while ((did = step(0)) == TARN_STEP_SWEEPING)
        swept++;
    CHECK_EQ(did, TARN_STEP_DONE);
    CHECK_GT(swept, 0);
    if (options.gcstress == 0)
        CHECK_EQ(stats().cycles, cycles + 1);
    CHECK_ST(tarn_gc_enable(), TARN_OK);
    for (int i = 0; i < N; i++) {
        check_node(live[i], (uint64_t)i);
        if (live[i]->other != NULL)
            check_node(live[i]->other, live[i]->other->id);
        if (live[i]->next != NULL)
            check_node(live[i]->next, 5);
    }
}

static void other_collector(void *wg)
{
    collect();
    tarn_waitgroup_done(wg);
}

static void other_stepper(void *wg)
{
    /* Whatever it meets. */
    tarn_gc_step(1000, NULL);
    tarn_waitgroup_done(wg);
}

/* tarn_gc in the middle completes it. */
static void test_steps_given_up(void)
{
    tarn_waitgroup *wg = new_shared(sizeof *wg);
    for (int i = 0; i < 20; i++) {
        for (int k = 0; k < i && step(64) != TARN_STEP_DONE; k++)
            ;
        collect();
        tarn_waitgroup_add(wg, 2);
        step(64);
        go(other_collector, wg);
        go(other_stepper, wg);
        tarn_gc_step(64, NULL);
        tarn_yield();
        collect();
        tarn_waitgroup_wait(wg);
    }
    while (step(1 << 20) != TARN_STEP_DONE)
        ;
    CHECK_EQ(step(0), TARN_STEP_BEGUN);
    CHECK_ST(tarn_world_stop(), TARN_OK);
    CHECK_ST(tarn_gc_step(0, NULL), TARN_ESTATE);
    CHECK_ST(tarn_world_start(), TARN_OK);
    collect();
}

/* Whoever asks for a step while a cycle that was given up is completed is given the
 * first of the next: when it was told of the end of a cycle, none is left half-way. */
static void test_steps_after_others(void)
{
    tarn_waitgroup *wg = new_shared(sizeof *wg);
    for (int i = 0; i < 50; i++) {
        step(64);
        tarn_waitgroup_add(wg, 1);
        go(other_collector, wg);
        tarn_yield();
        for (int k = 0; k < 2; k++)
            while (step(1 << 20) != TARN_STEP_DONE)
                ;
        tarn_waitgroup_wait(wg);
        for (int k = 0; k < 20; k++)
            tarn_yield();
        CHECK(!gc_stepping());
    }
}

/* Allocation goes on between steps, however many. */
static void test_allocation_between_steps(void)
{
    if (options.gcstress != 0)
        SKIP("each of many allocations asks for a collection");
    CHECK_EQ(step(0), TARN_STEP_BEGUN);
    allocate((size_t)20 << 20);
    while (step(1 << 16) != TARN_STEP_DONE)
        allocate(100000);
    collect();
}

/* --- memory outside ------------------------------------------------------------------- */

static void test_external(void)
{
    collect();
    uint64_t cycles = stats().cycles, bytes = stats().heap_bytes;
    /* Objects of a few bytes that own a MiB each. */
    for (int i = 0; i < 400; i++) {
        CHECK(tarn_alloc_bytes(16) != NULL);
        CHECK_ST(tarn_external_bytes(1 << 20), TARN_OK);
    }
    while (stats().cycles == cycles)
        allocate(4096);
    CHECK_GE(stats().heap_bytes, bytes + ((uint64_t)390 << 20));
    CHECK_ST(tarn_external_bytes(-((int64_t)401 << 20)), TARN_EINVAL);
    CHECK_STR(tarn_last_error(), "tarn_external_bytes");
    CHECK_ST(tarn_external_bytes(INT64_MAX), TARN_EINVAL);
    CHECK_ST(tarn_external_bytes(INT64_MIN), TARN_EINVAL);
    CHECK_ST(tarn_world_stop(), TARN_OK);
    CHECK_ST(tarn_external_bytes((int64_t)1 << 30), TARN_ESTATE);
    CHECK_ST(tarn_world_start(), TARN_OK);
    for (int i = 0; i < 400; i++)
        CHECK_ST(tarn_external_bytes(-(1 << 20)), TARN_OK);
    collect();
    CHECK_LT(stats().heap_goal_bytes, bytes * 4 + ((uint64_t)64 << 20));
}

/* --- memory runs out -------------------------------------------------------------------- */

static void **hoard;
static int called;

static bool give_up_hoard(size_t size, void *arg)
{
    CHECK(arg == &called);
    CHECK_GT(size, 0);
    called++;
    /* Allocation here may fail, and does not come here again. */
    void *p = tarn_alloc_bytes(size);
    CHECK(p == NULL || hoard == NULL);
    if (hoard == NULL)
        return false;
    /* A pointer to it may be left on some stack. */
    tarn_clear(hoard, tarn_object_size(hoard));
    tarn_store(&hoard, NULL);
    return true;
}

/* No pointer to it is left in the caller's frame. */
__attribute__((noinline)) static void hoard_some(size_t piece, size_t most)
{
    tarn_store(&hoard, tarn_alloc_conservative(most * sizeof *hoard));
    CHECK(hoard != NULL);
    for (size_t n = 0; n < 20; n++)
        tarn_store(&hoard[n], tarn_alloc_bytes(piece));
}

/* False: it was given up. */
__attribute__((noinline)) static bool hoard_one(size_t n, size_t piece)
{
    void *p = tarn_alloc_bytes(piece);
    CHECK(p != NULL);
    if (hoard == NULL)
        return false;
    tarn_store(&hoard[n], p);
    return true;
}

/* With option oom=throw, too: an allocation that fails in the handler returns. */
static void test_handler_helps(void)
{
    size_t piece = 1 << 20, most = (size_t)(heap.hi - heap.lo) / piece;
    CHECK_ST(tarn_set_oom_handler(give_up_hoard, &called), TARN_OK);
    called = 0;
    hoard_some(piece, most);
    wipe_stack();
    for (size_t n = 20; hoard_one(n, piece); n++)
        CHECK_LT(n, most);
    CHECK_EQ(called, 1);
}

static void test_handler(void)
{
    test_handler_helps();
    /* Nothing is left to give up. */
    CHECK(tarn_alloc_bytes((size_t)(heap.hi - heap.lo) + 1) == NULL);
    CHECK_EQ(called, 2);
    CHECK_STR(tarn_last_error(), "out of memory");
    CHECK_ST(tarn_set_oom_handler(NULL, NULL), TARN_OK);
    CHECK(tarn_alloc_bytes((size_t)(heap.hi - heap.lo) + 1) == NULL);
    CHECK_EQ(called, 2);
    collect();
}

/* --- listeners ---------------------------------------------------------------------------- */

struct told {
    _Atomic uint64_t begun, marked, ended, stops, gc_stops, resized, go_begun,
        go_ended, failed;
    _Atomic uint64_t cycle, last_mapped;
    _Atomic int order; /* of a cycle's events */
    _Atomic bool wrong;
};

static void on_begin(void *arg, const struct tarn_gc_event *e)
{
    struct told *t = arg;
    t->wrong |= atomic_exchange(&t->order, 1) != 0 || e->cycle <= t->cycle;
    t->cycle = e->cycle;
    t->begun++;
}

static void on_marked(void *arg, const struct tarn_gc_event *e)
{
    struct told *t = arg;
    t->wrong |= atomic_exchange(&t->order, 2) != 1 || e->cycle != t->cycle;
    t->marked++;
}

static void on_end(void *arg, const struct tarn_gc_event *e)
{
    struct told *t = arg;
    t->wrong |= atomic_exchange(&t->order, 0) != 2 || e->cycle != t->cycle;
    t->ended++;
}

static void on_stop(void *arg, enum tarn_stop_kind kind, int64_t ns,
                    int64_t stopping_ns)
{
    struct told *t = arg;
    t->wrong |= ns < stopping_ns || stopping_ns < 0;
    t->stops++;
    t->gc_stops += kind != TARN_STOP_OTHER;
}

static void on_resize(void *arg, uint64_t mapped)
{
    struct told *t = arg;
    t->wrong |= mapped == t->last_mapped;
    t->last_mapped = mapped;
    t->resized++;
}

static void on_go(void *arg, uint64_t goid)
{
    struct told *t = arg;
    t->wrong |= goid == 0;
    t->go_begun++;
}

static void on_go_end(void *arg, uint64_t goid)
{
    struct told *t = arg;
    t->wrong |= goid == 0;
    t->go_ended++;
}

static void on_failure(void *arg, size_t size)
{
    struct told *t = arg;
    t->wrong |= size == 0;
    t->failed++;
}

static const struct tarn_listener listener = {
    .struct_size = sizeof(struct tarn_listener),
    .gc_begin = on_begin,
    .gc_marked = on_marked,
    .gc_end = on_end,
    .stopped = on_stop,
    .resized = on_resize,
    .go_begin = on_go,
    .go_end = on_go_end,
    .alloc_failed = on_failure,
};

static void nothing(void *wg)
{
    tarn_waitgroup_done(wg);
}

static void *thread(void *arg)
{
    CHECK_ST(tarn_thread_attach(), TARN_OK);
    CHECK(tarn_alloc_bytes(16) != NULL);
    return arg;
}

static void *run_thread(void *arg)
{
    pthread_t t;
    CHECK_EQ(pthread_create(&t, NULL, thread, arg), 0);
    CHECK_EQ(pthread_join(t, NULL), 0);
    return NULL;
}

static void test_listeners(void)
{
    static struct told t[2];
    uint32_t id[2], more[TARN_LISTENERS_MAX];
    tarn_waitgroup *wg = new_shared(sizeof *wg);
    memset(t, 0, sizeof t);
    collect(); /* so that no cycle is half-way when they come */
    for (int i = 0; i < 2; i++) {
        struct tarn_listener l = listener;
        l.arg = &t[i];
        CHECK_ST(tarn_listener_add(&l, &id[i]), TARN_OK);
    }
    uint64_t cycles = stats().cycles;
    for (int i = 0; i < 5; i++)
        collect();
    for (int i = 0; i < 100; i++) {
        tarn_waitgroup_add(wg, 1);
        go(nothing, wg);
    }
    tarn_waitgroup_wait(wg);
    tarn_native_call(run_thread, NULL);
    CHECK(tarn_alloc_bytes((size_t)1 << 44) == NULL);
    CHECK(tarn_alloc_bytes((size_t)24 << 20) != NULL);
    collect();
    CHECK_ST(tarn_world_stop(), TARN_OK);
    CHECK_ST(tarn_world_start(), TARN_OK);
    while (t[0].go_ended < 101)
        tarn_yield();
    CHECK_ST(tarn_listener_remove(id[1]), TARN_OK);
    for (int i = 0; i < 2; i++) {
        CHECK(!t[i].wrong);
        CHECK_GE(t[i].marked, 6);
        CHECK_GE(t[i].begun, t[i].marked);
        CHECK_GE(t[i].gc_stops, 12);
        CHECK_GT(t[i].stops, t[i].gc_stops);
        CHECK_GE(t[i].go_begun, 101);
        CHECK_GE(t[i].resized, 1);
        CHECK_GE(t[i].failed, 1);
    }
    CHECK_GE(stats().cycles, cycles + 6);
    uint64_t begun = t[1].begun;
    collect();
    CHECK_EQ(t[1].begun, begun);
    CHECK_GT(t[0].begun, begun);
    CHECK_ST(tarn_listener_remove(id[0]), TARN_OK);
    CHECK_ST(tarn_listener_remove(id[0]), TARN_EINVAL);
    CHECK_STR(tarn_last_error(), "no listener");
    for (int i = 0; i < TARN_LISTENERS_MAX; i++)
        CHECK_ST(tarn_listener_add(&listener, &more[i]), TARN_OK);
    CHECK_ST(tarn_listener_add(&listener, &id[0]), TARN_ELIMIT);
    for (int i = 0; i < TARN_LISTENERS_MAX; i++)
        CHECK_ST(tarn_listener_remove(more[i]), TARN_OK);
    struct tarn_listener small = {.struct_size = 8};
    CHECK_ST(tarn_listener_add(&small, &id[0]), TARN_EINVAL);
    CHECK_ST(tarn_listener_add(NULL, &id[0]), TARN_EINVAL);
    CHECK_ST(tarn_listener_add(&listener, NULL), TARN_EINVAL);
}

/* They come and go while all of that happens. */
static _Atomic bool churn_stop;

static void churn_one(void *vwg)
{
    static struct told t;
    while (!atomic_load(&churn_stop)) {
        uint32_t id;
        struct tarn_listener l = listener;
        l.gc_begin = l.gc_marked = l.gc_end = NULL;
        l.resized = NULL;
        l.arg = &t;
        CHECK_ST(tarn_listener_add(&l, &id), TARN_OK);
        tarn_yield();
        CHECK_ST(tarn_listener_remove(id), TARN_OK);
        tarn_yield();
    }
    CHECK(!t.wrong);
    tarn_waitgroup_done(vwg);
}

static void test_listeners_come_and_go(void)
{
    tarn_waitgroup *wg = new_shared(sizeof *wg);
    atomic_store(&churn_stop, false);
    tarn_waitgroup_add(wg, 3);
    for (int i = 0; i < 3; i++)
        go(churn_one, wg);
    for (int i = 0; i < 30; i++) {
        collect();
        tarn_waitgroup_add(wg, 1);
        go(nothing, wg);
        tarn_yield();
    }
    atomic_store(&churn_stop, true);
    tarn_waitgroup_wait(wg);
}

/* One that is wanted elsewhere while it is in a listener does not leave it: who removes
 * the listener waits with its P. */
static _Atomic bool told_here;
static _Atomic uint64_t worked;

__attribute__((noinline)) static void work_a_little(void)
{
    atomic_fetch_add(&worked, 1);
}

static void slow_begin(void *arg, const struct tarn_gc_event *e)
{
    (void)arg;
    (void)e;
    atomic_store(&told_here, true);
    int64_t until = nanotime() + 100000000;
    while (!atomic_load(&getg()->preempt) && nanotime() < until)
        ;
    for (int i = 0; i < 100; i++)
        work_a_little();
}

static void test_listener_is_wanted_elsewhere(void)
{
    tarn_waitgroup *wg = new_shared(sizeof *wg);
    for (int i = 0; i < 5; i++) {
        uint32_t id;
        const struct tarn_listener l = {.struct_size = sizeof l,
                                        .gc_begin = slow_begin};
        atomic_store(&told_here, false);
        CHECK_ST(tarn_listener_add(&l, &id), TARN_OK);
        tarn_waitgroup_add(wg, 1);
        go(other_collector, wg);
        while (!atomic_load(&told_here))
            tarn_yield();
        CHECK_ST(tarn_listener_remove(id), TARN_OK);
        tarn_waitgroup_wait(wg);
    }
}

static void body(void)
{
    if (t_node == NULL)
        register_types();
    RUN(test_percent);
    RUN(test_limit);
    RUN(test_disable);
    RUN(test_disable_now);
    RUN(test_steps);
    RUN(test_steps_given_up);
    RUN(test_steps_after_others);
    RUN(test_allocation_between_steps);
    RUN(test_external);
    RUN(test_listeners);
    RUN(test_listeners_come_and_go);
    RUN(test_listener_is_wanted_elsewhere);
}

static void body_small_heap(void)
{
    if (t_node == NULL)
        register_types();
    RUN(test_handler);
}

static void body_throw(void)
{
    if (t_node == NULL)
        register_types();
    RUN(test_handler_helps);
}

static void test_elsewhere(void)
{
    CHECK_ST(tarn_set_gcpercent(100), TARN_ESTATE);
    CHECK_ST(tarn_set_memlimit(0), TARN_ESTATE);
    CHECK_ST(tarn_gc_disable(), TARN_ESTATE);
    CHECK_ST(tarn_gc_enable(), TARN_ESTATE);
    CHECK_ST(tarn_gc_step(0, NULL), TARN_ESTATE);
    CHECK_ST(tarn_external_bytes(1), TARN_ESTATE);
}

static bool leave(size_t size, void *arg)
{
    (void)size;
    (void)arg;
    tarn_goexit();
    return false;
}

static void leaving(void *unused)
{
    (void)unused;
    CHECK_ST(tarn_set_oom_handler(leave, NULL), TARN_OK);
    CHECK(tarn_alloc_bytes((size_t)(heap.hi - heap.lo) + 1) == NULL);
}

static void test_goexit(void)
{
    CHECK_FATAL(leaving, "tarn_goexit: called by the handler");
}

int main(int argc, char **argv)
{
    harness_init(argc, argv);
    RUN(test_elsewhere);
    RUN(test_goexit);
    gc_run(body, 1, "checkmark=1");
    gc_run(body, 4, "clobberfree=1");
    gc_run(body, 4, "checkmark=1,droppreempt=30");
    gc_run(body_throw, 1, "heapmax=64MiB,oom=throw");
    gc_run(body_small_heap, 1, "heapmax=64MiB");
    gc_run(body_small_heap, 4, "heapmax=64MiB,gcpercent=1000");
    return harness_done();
}
