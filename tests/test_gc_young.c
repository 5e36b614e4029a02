/* tests/test_gc_young.c - collections of young objects only: what they free, what
 * they leave, and that they find each young object that an old one points to,
 * whatever way the pointer was stored. */
#include "gcnodes.h"
#include "gcsuite.h"
#include "tarn/barrier.h"
#include "tarn/chan.h"

#define NI __attribute__((noinline))

/* Nodes of a kind that nothing else on this page keeps alive. */
NI static uint64_t hidden_node(uint64_t id)
{
    return hide(new_node(id));
}

static bool is_old(const void *p)
{
    return (meta_load(heap_meta((uintptr_t)p)) & META_COLOR) == META_COLOR;
}

/* Old: it has survived a full collection. */
NI static void *make_old(void *p)
{
    collect();
    /* Others may have begun the next one, which takes the colour away again. */
    CHECK(is_old(p) || tarn_goroutines() > 1);
    return p;
}

/* --- what goes and what stays ----------------------------------------------------- */

NI static void drop(uint64_t *hidden, int n)
{
    for (int i = 0; i < n; i++)
        hidden[i] = hidden_node((uint64_t)i);
}

static int count_alive(const uint64_t *hidden, int n)
{
    int alive_now = 0;
    for (int i = 0; i < n; i++)
        alive_now += alive(hidden[i]);
    return alive_now;
}

#define N 200
#define SLACK 20 /* words that look like pointers */

static void test_young_garbage_goes(void)
{
    static uint64_t hidden[N];
    collect();
    drop(hidden, N);
    wipe_stack();
    uint64_t young = atomic_load(&gc.young);
    gc_collect_young();
    CHECK_GT(atomic_load(&gc.young), young);
    CHECK_LE(count_alive(hidden, N), SLACK);
}

/* What dies old stays until a full collection. */
static void test_old_garbage_stays(void)
{
    static uint64_t hidden[N];
    void **table = new_shared(N * sizeof *table);
    for (int i = 0; i < N; i++) {
        struct node *n = new_node((uint64_t)i);
        tarn_store(&table[i], n);
        hidden[i] = hide(n);
    }
    table = make_old(table);
    tarn_clear(table, N * sizeof *table);
    wipe_stack();
    gc_collect_young();
    CHECK_EQ(count_alive(hidden, N), N);
    collect();
    CHECK_LE(count_alive(hidden, N), SLACK);
}

/* --- the ways to store ------------------------------------------------------------- */

enum way { STORE, CAS, SWAP, COPY, RECEIVE, SLOT, WAYS };

/* Stores a new node at slot, which is in an old object; or behind it. */
NI static void store_new(void **slot, uint64_t id, enum way way)
{
    struct node *n = new_node(id);
    void *none = NULL;
    switch (way) {
    case STORE:
        tarn_store(slot, n);
        break;
    case CAS:
        CHECK(tarn_cas(slot, &none, n));
        break;
    case SWAP:
        CHECK(tarn_swap(slot, n) == NULL);
        break;
    case COPY:
        tarn_copy(slot, &n, sizeof n);
        break;
    case RECEIVE: {
        tarn_chan *c = new_chan(sizeof n, 1);
        CHECK_ST(tarn_chan_send(c, &n), TARN_OK);
        CHECK_ST(tarn_chan_recv(c, slot), TARN_OK);
        break;
    }
    default: /* in the ring of an old channel */
        CHECK_ST(tarn_chan_send(*slot, &n), TARN_OK);
    }
}

NI static void fill(void **old, size_t words, enum way way)
{
    for (size_t i = 0; i < words; i++)
        store_new(&old[i], i, way);
}

static void test_stores(void)
{
    /* Several cards; and large ones. */
    static const size_t sizes[] = {1, 70, 700, 6000};
    for (int way = 0; way < WAYS; way++)
        for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
            size_t words = sizes[s];
            if (words > 700 && (way == RECEIVE || way == SLOT))
                continue;
            void **old = new_shared(words * sizeof *old);
            for (size_t i = 0; way == SLOT && i < words; i++)
                tarn_store(&old[i], new_chan(sizeof(void *), 1));
            old = make_old(old);
            fill(old, words, (enum way)way);
            wipe_stack();
            gc_collect_young();
            gc_collect_young(); /* those that were black from birth, too */
            for (size_t i = 0; i < words; i++) {
                struct node *n = old[i];
                if (way == SLOT)
                    CHECK_ST(tarn_chan_recv(old[i], &n), TARN_OK);
                check_node(n, i);
            }
        }
}

/* --- the layouts --------------------------------------------------------------------- */

static void trace_pair(void *obj, tarn_tracer *t)
{
    struct node **p = obj;
    for (int i = 0; i < 200; i++)
        tarn_trace(t, p[i]);
}

/* The last word only is a pointer, which lies in another card than the first. */
static void test_layouts(void)
{
    static tarn_type *precise, *traced;
    if (precise == NULL) {
        uint64_t map[4] = {0, 0, 0, UINT64_C(1) << 7};
        precise = tarn_type_register(
            &(struct tarn_type_info){"last", 200 * 8, map, NULL});
        traced = tarn_type_register(
            &(struct tarn_type_info){"traced", 200 * 8, NULL, trace_pair});
        CHECK(precise != NULL && traced != NULL);
    }
    for (int kind = 0; kind < 4; kind++)
        for (int i = 0; i < 20; i++) {
            /* Large ones: 24,000 words. */
            void **o = kind == 0   ? tarn_alloc(precise)
                       : kind == 1 ? tarn_alloc(traced)
                       : kind == 2 ? tarn_alloc_array(precise, 120)
                                   : tarn_alloc_conservative(200 * 8);
            size_t last = kind == 2 ? 120 * 200 - 1 : 199;
            o = make_old(o);
            store_new(&o[last], 7, STORE);
            wipe_stack();
            gc_collect_young();
            check_node(o[last], 7);
        }
}

/* --- old and young in turn ------------------------------------------------------------ */

/* A list whose every node is younger than the one before, over more collections
 * than there are epochs. The first stays in a global's place: one old object. */
static void test_epochs(void)
{
    struct node **first = make_old(new_shared(sizeof *first));
    struct node *last = new_node(0);
    tarn_store(first, last);
    int n = scaled(700) < 300 ? 300 : scaled(700);
    for (int i = 1; i < n; i++) {
        gc_collect_young();
        struct node *next = new_node((uint64_t)i);
        tarn_store(&last->next, next);
        last = next;
        if (i % 100 == 0)
            last = make_old(last);
    }
    last = NULL;
    wipe_stack();
    gc_collect_young();
    const struct node *at = *first;
    for (int i = 0; i < n; i++, at = at->next)
        check_node(at, (uint64_t)i);
    CHECK(at == NULL);
}

/* Stores into one card before, at and after the start of a collection: each of
 * them must be found. */
static _Atomic bool stop_storing;
static tarn_waitgroup wg;

NI static void store_and_check(void **table, uint64_t id)
{
    for (uint64_t i = 0; i < 64; i++)
        tarn_store(&table[i], new_node(id + i));
    for (uint64_t i = 0; i < 64; i++)
        check_node(table[i], id + i);
}

static void storer(void *table)
{
    for (uint64_t id = 0; !atomic_load(&stop_storing); id += 64) {
        store_and_check(table, id);
        tarn_yield();
    }
    tarn_waitgroup_done(&wg);
}

static void test_stores_at_the_start(void)
{
    atomic_store(&stop_storing, false);
    for (int i = 0; i < 3; i++) {
        tarn_waitgroup_add(&wg, 1);
        go(storer, make_old(new_shared(64 * sizeof(void *))));
    }
    for (int i = 0; i < scaled(200); i++) {
        gc_collect_young();
        if (i % 8 == 0)
            collect();
    }
    atomic_store(&stop_storing, true);
    tarn_waitgroup_wait(&wg);
}

/* --- a neighbour ---------------------------------------------------------------------- */

/* A pointer to an object is no pointer to the end of the one before, where that
 * cannot reach its place's end. */
static tarn_type *t24;
static uint64_t before[N];

NI static int make_pairs(void **held)
{
    int neighbours = 0;
    for (int i = 0; i < N; i++) {
        char *a = tarn_alloc(t24), *b = tarn_alloc(t24);
        before[i] = hide(a);
        neighbours += b == a + 32;
        held[i] = b;
    }
    return neighbours;
}

static void test_neighbour(void)
{
    void *held[N]; /* on the stack, which is where that rule is */
    uint64_t map = 1;
    if (t24 == NULL)
        t24 = tarn_type_register(
            &(struct tarn_type_info){"of24", 24, &map, NULL});
    CHECK(t24 != NULL);
    collect();
    CHECK_GT(make_pairs(held), N / 2);
    wipe_stack();
    collect();
    CHECK_LE(count_alive(before, N), SLACK);
    for (int i = 0; i < N; i++)
        CHECK(tarn_object_base(held[i]) == held[i]);
}

/* --- pace ---------------------------------------------------------------------------- */

/* Collections one after another, with hardly anything allocated between, but much in
 * caches: the goal stays what the program needs. */
static void test_goal(void)
{
    void *volatile kept = tarn_alloc_bytes(8 << 20);
    for (int i = 0; i < 60; i++) {
        for (size_t size = 16; size <= 2048; size += 64)
            CHECK(tarn_alloc_bytes(size) && tarn_alloc_conservative(size));
        if (i % 3 == 0)
            gc_collect_young();
        else
            collect();
        CHECK(tarn_alloc_bytes(16) != NULL);
        collect();
        CHECK_GE(atomic_load(&gc.live), 8u << 20);
        CHECK_GE(atomic_load(&gc.goal), 8u << 20);
        CHECK_LE(atomic_load(&gc.goal), 200u << 20);
    }
    CHECK(kept != NULL);
}

static void stores_interior(void *vslot)
{
    void **slot = vslot;
    char *p = tarn_alloc_conservative(256);
    while (!atomic_load(&stop_storing)) {
        for (int i = 1; i < 200; i++)
            tarn_store(slot, p + i);
        tarn_poll();
    }
    tarn_waitgroup_done(&wg);
}

/* Pointers into objects that are marked are no work: the mark comes to an end. */
static void test_interior_stores(void)
{
    atomic_store(&stop_storing, false);
    for (int i = 0; i < 3; i++) {
        tarn_waitgroup_add(&wg, 1);
        go(stores_interior, new_shared(sizeof(void *)));
    }
    for (int i = 0; i < scaled(60); i++)
        collect();
    atomic_store(&stop_storing, true);
    tarn_waitgroup_wait(&wg);
}

static void trace_one(void *obj, tarn_tracer *t)
{
    tarn_trace(t, *(void **)obj);
}

/* Of a large traced array only the elements in cards that were written. */
static void test_traced_array(void)
{
    static tarn_type *t_one;
    if (t_one == NULL)
        t_one = tarn_type_register(
            &(struct tarn_type_info){"one", 16, NULL, trace_one});
    enum { ELEMENTS = 1 << 20 };
    void **array = make_old(tarn_alloc_array(t_one, ELEMENTS));
    for (size_t i = 0; i < ELEMENTS; i += ELEMENTS / 16)
        store_new(&array[2 * i], i, STORE);
    uint64_t before = atomic_load(&gc.scanned_bytes);
    gc_collect_young();
    if (options.gcstress == 0) /* else there were others */
        CHECK_LT(atomic_load(&gc.scanned_bytes) - before, ELEMENTS * 16u / 2);
    for (size_t i = 0; i < ELEMENTS; i += ELEMENTS / 16)
        check_node(array[2 * i], i);
}

/* However fast it allocates, and whatever the collector is at: the heap stays near
 * its goal, where it could become anything. */
static _Atomic uint64_t peak;

static void outruns(void *vsize)
{
    size_t size = (size_t)(uintptr_t)vsize;
    for (size_t done = 0; done < (size_t)scaled(1000) << 20; done += size) {
        CHECK(tarn_alloc_bytes(size) != NULL);
        uint64_t live = atomic_load(&heap.live), p = atomic_load(&peak);
        while (live > p && !atomic_compare_exchange_weak(&peak, &p, live))
            ;
    }
    tarn_waitgroup_done(&wg);
}

static void test_outrun(void)
{
    static const size_t sizes[] = {64, 4096, 1000000};
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        collect();
        atomic_store(&peak, 0);
        for (int i = 0; i < 3; i++) {
            tarn_waitgroup_add(&wg, 1);
            go(outruns, (void *)(uintptr_t)sizes[s]);
        }
        tarn_waitgroup_wait(&wg);
        printf("     %zu bytes: peak %" PRIu64 " MiB\n", sizes[s],
               atomic_load(&peak) >> 20);
        CHECK_LT(atomic_load(&peak), UINT64_C(400) << 20);
    }
}

/* --- whether they pay ------------------------------------------------------------------ */

#define LIVE_BYTES ((size_t)16 << 20)

/* TARN may ask for what changes when collections begin, and of which kind they are. */
static bool calm(void)
{
    static char text[2048];
    return options.generational && !TARN_ASAN && !TARN_TSAN &&
           options_debug_modes(&options, text, sizeof text) == 0;
}

NI static void litter(size_t bytes)
{
    for (size_t done = 0; done < bytes; done += 1000)
        CHECK(tarn_alloc_bytes(1000) != NULL);
}

NI static void **make_live(void)
{
    void **live = new_shared(LIVE_BYTES / 1000 * sizeof *live);
    for (size_t i = 0; i < LIVE_BYTES / 1000; i++)
        tarn_store(&live[i], tarn_alloc_bytes(1000));
    return live;
}

/* What came during a full mark is black, and no young collection frees it. That says
 * nothing of how many of the young live. */
static void test_black_is_old(void)
{
    void **volatile live = make_live();
    collect();
    collect();
    enum tarn_step did;
    do
        CHECK_ST(tarn_gc_step(0, &did), TARN_OK);
    while (did != TARN_STEP_BEGUN);
    litter(LIVE_BYTES / 3);
    do
        CHECK_ST(tarn_gc_step(1 << 20, &did), TARN_OK);
    while (did != TARN_STEP_DONE);
    litter(LIVE_BYTES / 8);
    uint64_t young = atomic_load(&gc.young);
    gc_collect_young();
    if (calm()) {
        CHECK_EQ(atomic_load(&gc.young), young + 1);
        CHECK(!pacer_full()); /* all of them were dead */
    }
    CHECK(live != NULL);
}

static void litters(void *unused)
{
    (void)unused;
    litter(20 * LIVE_BYTES);
    tarn_waitgroup_done(&wg);
}

/* With each P busy allocating nobody idles for the driver, which is to end a collection
 * before much has been allocated: else the way to the goal is used up, and the next one
 * is full. It depends on the system's scheduler how often that happens all the same. */
static void test_driver_gets_its_turn(void)
{
    void **volatile live = make_live();
    uint64_t all, young;
    do {
        collect();
        all = atomic_load(&gc.cycles);
        young = atomic_load(&gc.young);
        tarn_waitgroup_add(&wg, (int)nprocs);
        for (uint32_t i = 0; i < nprocs; i++)
            go(litters, NULL);
        tarn_waitgroup_wait(&wg);
        all = atomic_load(&gc.cycles) - all;
        young = atomic_load(&gc.young) - young;
        printf("     %" PRIu64 " of %" PRIu64 " collections are young\n", young,
               all);
    } while (calm() && young * 2 < all);
    CHECK(live != NULL);
}

static void pacing_alone(void)
{
    register_types();
    RUN(test_black_is_old);
}

static void pacing(void)
{
    RUN(test_driver_gets_its_turn);
}

/* --- the fault ------------------------------------------------------------------------- */

static void forgets_cards(void *unused)
{
    (void)unused;
    register_types();
    void **old = make_old(new_shared(4096));
    atomic_store(&gc_fault, GC_FAULT_CARDS);
    fill(old, 100, STORE);
    wipe_stack();
    gc_collect_young();
    CHECK(old[0] != NULL); /* it has to live until here */
    puts("not noticed");
}

static void forgets_child(void)
{
    struct tarn_options o;
    tarn_options_init(&o);
    o.checkmark = 1;
    o.maxprocs = 2;
    CHECK_ST(tarn_main(&o, forgets_cards, NULL), TARN_OK);
}

static void test_checkmark_sees_it(void)
{
    CHECK_THROWS(forgets_child, "TARN=", "checkmark: the concurrent mark");
}

static void off(void)
{
    static uint64_t hidden[N];
    if (options.generational)
        return; /* TARN says otherwise */
    register_types();
    uint64_t young = atomic_load(&gc.young);
    for (int i = 0; i < 20; i++) {
        drop(hidden, N);
        uint64_t cycles = atomic_load(&gc.cycles);
        gc_request();
        while (atomic_load(&gc.cycles) == cycles)
            tarn_yield();
    }
    CHECK_EQ(atomic_load(&gc.young), young);
}

static void body(void)
{
    if (t_node == NULL)
        register_types();
    RUN(test_young_garbage_goes);
    RUN(test_old_garbage_stays);
    RUN(test_stores);
    RUN(test_layouts);
    RUN(test_epochs);
    RUN(test_stores_at_the_start);
    RUN(test_neighbour);
    RUN(test_goal);
    RUN(test_interior_stores);
    RUN(test_traced_array);
    RUN(test_outrun);
}

static void off_body(void)
{
    RUN(off);
}

int main(int argc, char **argv)
{
    harness_init(argc, argv);
    RUN(test_checkmark_sees_it);
    gc_run(off_body, 2, "generational=0");
    gc_run(pacing_alone, 1, "heapmin=1MiB");
    gc_run(pacing, 2, "heapmin=1MiB");
    gc_run(body, 1, "checkmark=1");
    gc_run(body, 4, "");
    gc_run(body, 4, "checkmark=1");
    gc_run(body, 16, "checkmark=1,droppreempt=30");
    return harness_done();
}
