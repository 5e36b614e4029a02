/* tests/test_errors.c - bad input, misuse, and memory or threads that the system
 * refuses: each gets a status or NULL with a text that names the offender, or
 * ends the process with one; nothing crashes, hangs or is lost silently. */
#include "base/fail.h"
#include "gcsuite.h"

static char out[65536];

/* The last error has all of this in it. */
static void error_has(const char *needle)
{
    if (strstr(tarn_last_error(), needle) == NULL)
        fprintf(stderr, "error is \"%s\", lacks \"%s\"\n", tarn_last_error(),
                needle);
    CHECK(strstr(tarn_last_error(), needle) != NULL);
}

#define FAILS(call, status, needle)                                            \
    do {                                                                       \
        CHECK_ST(call, status);                                                \
        error_has(needle);                                                     \
    } while (0)
#define IS_NULL(call, needle)                                                  \
    do {                                                                       \
        CHECK((call) == NULL);                                                 \
        error_has(needle);                                                     \
    } while (0)

static void nothing(void *arg)
{
    (void)arg;
}

/* --- off goroutine ------------------------------------------------------------- */

static tarn_type *t_pair;

static void off_goroutine(void)
{
    IS_NULL(tarn_alloc(t_pair), "not called on a goroutine");
    IS_NULL(tarn_alloc_array(t_pair, 3), "not called on a goroutine");
    IS_NULL(tarn_alloc_array(t_pair, 30000), "not called on a goroutine");
    IS_NULL(tarn_alloc_bytes(10), "not called on a goroutine");
    IS_NULL(tarn_alloc_bytes(100000), "not called on a goroutine");
    IS_NULL(tarn_alloc_conservative(10), "not called on a goroutine");
    IS_NULL(tarn_chan_new(8, 1), "tarn_chan_new: not called on a goroutine");
    IS_NULL(tarn_timer_start(1, nothing, NULL),
            "tarn_timer_start: not called on a goroutine");
    FAILS(tarn_gc(), TARN_ESTATE, "tarn_gc: not called on a goroutine");
    FAILS(tarn_go(nothing, NULL), TARN_ESTATE,
          "tarn_go: not called on a goroutine");
    FAILS(tarn_chan_send(NULL, NULL), TARN_ESTATE, "tarn_chan_send");
    FAILS(tarn_chan_recv(NULL, NULL), TARN_ESTATE, "tarn_chan_recv");
    CHECK_EQ(tarn_select(NULL, 0, true), -2);
    error_has("tarn_select: not called on a goroutine");
    tarn_yield();
    error_has("tarn_yield: not called on a goroutine");
    tarn_sleep(1);
    error_has("tarn_sleep: not called on a goroutine");
    CHECK(!tarn_timer_stop(NULL));
    error_has("tarn_timer_stop: not called on a goroutine");
    tarn_poll();
    CHECK_EQ(tarn_self(), 0);
}

static void *foreign_thread(void *unused)
{
    (void)unused;
    off_goroutine();
    FAILS(tarn_main(NULL, nothing, NULL), TARN_ESTATE, "already running");
    struct tarn_gc_stats s = {.struct_size = sizeof s};
    CHECK_ST(tarn_gc_stats(&s), TARN_OK);
    CHECK_GE(tarn_goroutines(), (size_t)1);
    return NULL;
}

static void with_foreign_thread(void *unused)
{
    (void)unused;
    pthread_t t;
    CHECK_EQ(pthread_create(&t, NULL, foreign_thread, NULL), 0);
    CHECK_EQ(pthread_join(t, NULL), 0);
    FAILS(tarn_main(NULL, nothing, NULL), TARN_ESTATE, "already running");
}

static void register_pair(void)
{
    uint64_t map = 5;
    struct tarn_type_info info = {"pair", 24, &map, NULL};
    t_pair = tarn_type_register(&info);
    CHECK(t_pair != NULL);
}

static void off_goroutine_child(void)
{
    FAILS(tarn_gc_stats(&(struct tarn_gc_stats){
              .struct_size = sizeof(struct tarn_gc_stats)}),
          TARN_ESTATE, "has not started");
    FAILS(tarn_gc_pauses_hgrm(TARN_PAUSE_ALL, "/dev/null"), TARN_ESTATE,
          "has not started");
    register_pair();
    off_goroutine();
    CHECK_ST(tarn_main(NULL, with_foreign_thread, NULL), TARN_OK);
    off_goroutine();
    CHECK_ST(tarn_main(NULL, nothing, NULL), TARN_OK);
    puts("done");
    fflush(stdout);
}

static void must_do(void (*fn)(void), const char *env)
{
    int st = harness_child(fn, env, out, sizeof out);
    if (!WIFEXITED(st) || WEXITSTATUS(st) != 0)
        fprintf(stderr, "%s\n", out);
    CHECK(WIFEXITED(st));
    CHECK_EQ(WEXITSTATUS(st), 0);
    CHECK_STR(out, "done");
}

static void test_off_goroutine(void)
{
    must_do(off_goroutine_child, NULL);
}

static void goexit_off(void)
{
    tarn_goexit();
}

static void store_marking(void *unused)
{
    (void)unused;
    /* Only while marking is there anything to notice. */
    tarn_barrier_on = 1;
}

static void store_off(void)
{
    static void *slot;
    tarn_main(NULL, store_marking, NULL);
    tarn_store(&slot, &slot);
}

/* In native code, which has no P of its own: each call that stores pointers,
 * while it would have to be noted. Aborts, or says that it did not. */
static void *slots[4];
static int which_store;

static void *stores(void *unused)
{
    void *old = NULL;
    switch (which_store) {
    case 0:
        tarn_store(&slots[0], &slots[1]);
        break;
    case 1:
        tarn_cas(&slots[0], &old, &slots[1]);
        break;
    case 2:
        tarn_swap(&slots[0], &slots[1]);
        break;
    case 3:
        tarn_copy(&slots[0], &slots[2], 16);
        break;
    default:
        tarn_clear(&slots[0], 16);
    }
    return unused;
}

static void store_native(void *unused)
{
    (void)unused;
    __atomic_store_n(&tarn_barrier_on, 1, __ATOMIC_RELAXED);
    tarn_native_call(stores, NULL);
    puts("stored");
    fflush(stdout);
    _exit(0);
}

static void store_native_child(void)
{
    suite_child_procs = 1;
    suite_child_fn = store_native;
    suite_child_main();
}

#define STORE_THROWS(n, name)                                                  \
    do {                                                                       \
        which_store = n;                                                       \
        CHECK_THROWS(store_native_child, NULL,                                 \
                     name ": not called on a goroutine (in a native call)");   \
    } while (0)

static void test_store_in_native(void)
{
    STORE_THROWS(0, "tarn_store");
    STORE_THROWS(1, "tarn_cas");
    STORE_THROWS(2, "tarn_swap");
    STORE_THROWS(3, "tarn_copy");
    STORE_THROWS(4, "tarn_clear");
}

static void test_off_goroutine_fatal(void)
{
    CHECK_THROWS(goexit_off, NULL, "tarn_goexit: not called on a goroutine");
    CHECK_THROWS(store_off, NULL, "tarn_store: not called on a goroutine");
}

/* --- start ----------------------------------------------------------------------- */

static void start_child(void)
{
    struct tarn_options o;
    FAILS(tarn_main(NULL, NULL, NULL), TARN_EINVAL, "tarn_main: no function");
    memset(&o, 0, sizeof o);
    FAILS(tarn_main(&o, nothing, NULL), TARN_EOPTION, "tarn_options_init");
    tarn_options_init(&o);
    o.struct_size += 8;
    FAILS(tarn_main(&o, nothing, NULL), TARN_EOPTION, "struct_size");
    tarn_options_init(&o);
    o.maxprocs = 5000;
    FAILS(tarn_main(&o, nothing, NULL), TARN_EOPTION,
          "option maxprocs: 5000 is outside 0..1024");
    tarn_options_init(&o);
    o.gcpercent = -1;
    FAILS(tarn_main(&o, nothing, NULL), TARN_EOPTION, "option gcpercent: -1");
    static const struct {
        const char *env, *error;
    } bad[] = {
        {"TARN=nonsense=1", "unknown option \"nonsense\""},
        {"TARN=gcpercent", "option gcpercent: no value"},
        {"TARN=gcpercent=x", "option gcpercent: \"x\" is not"},
        {"TARN=checkmark=2", "option checkmark: \"2\" is not 0 or 1"},
        {"TARN=heapmax=1", "option heapmax: 1 is outside"},
        {"TARN=oom=sometimes", "option oom: \"sometimes\" is not"},
        {"TARN=gctrace=1,", "empty option"},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        putenv((char *)(uintptr_t)bad[i].env);
        FAILS(tarn_main(NULL, nothing, NULL), TARN_EOPTION, bad[i].error);
    }
    unsetenv("TARN");
    /* None of that did any harm. */
    CHECK_ST(tarn_main(NULL, nothing, NULL), TARN_OK);
    /* Options of a later start are checked all the same. */
    o.gcpercent = 0;
    FAILS(tarn_main(&o, nothing, NULL), TARN_EOPTION, "option gcpercent: 0");
    CHECK_ST(tarn_main(NULL, nothing, NULL), TARN_OK);
    puts("done");
    fflush(stdout);
}

static void test_start(void)
{
    must_do(start_child, NULL);
}

/* --- arguments --------------------------------------------------------------------- */

static void types(void)
{
    uint64_t map[2] = {1, 0}, far = UINT64_C(1) << 3;
    struct tarn_type_info good = {"thing", 24, map, NULL}, i;
    IS_NULL(tarn_type_register(NULL), "info is NULL");
    i = good, i.name = NULL;
    IS_NULL(tarn_type_register(&i), "name is NULL");
    i = good, i.size = 0;
    IS_NULL(tarn_type_register(&i), "type thing has size 0");
    i = good, i.size = 20;
    IS_NULL(tarn_type_register(&i), "type thing has pointers, but its size 20");
    i = good, i.trace = (tarn_trace_fn)(uintptr_t)nothing;
    IS_NULL(tarn_type_register(&i), "type thing has both ptrmap and trace");
    i = good, i.ptrmap = &far;
    IS_NULL(tarn_type_register(&i), "ptrmap of type thing has a pointer");
    i = good, i.size = SIZE_MAX / 8 * 8;
    IS_NULL(tarn_type_register(&i), "type thing is too large");
    CHECK_STR(tarn_type_name(tarn_type_register(&good)), "thing");
    CHECK(strcmp(tarn_type_name(NULL), "") == 0);
}

static void sizes(void)
{
    IS_NULL(tarn_alloc(NULL), "tarn_alloc: no type");
    IS_NULL(tarn_alloc_array(NULL, 1), "tarn_alloc_array: no type");
    IS_NULL(tarn_alloc_array(t_pair, SIZE_MAX / 8), "times 24 bytes overflows");
    IS_NULL(tarn_alloc_array(t_pair, SIZE_MAX / 24),
            "times 24 bytes overflows");
    IS_NULL(tarn_alloc_bytes(SIZE_MAX), "overflows");
    IS_NULL(tarn_alloc_bytes((size_t)PTRDIFF_MAX + 1), "overflows");
    IS_NULL(tarn_alloc_conservative(SIZE_MAX), "overflows");
    IS_NULL(tarn_alloc_bytes(PTRDIFF_MAX),
            "out of memory: 9223372036854775807");
    IS_NULL(tarn_alloc_bytes((size_t)1 << 41), "out of memory");
    IS_NULL(tarn_chan_new(SIZE_MAX, 1), "too large");
    IS_NULL(tarn_chan_new(8, SIZE_MAX / 8), "too large");
    IS_NULL(tarn_chan_new(8, (size_t)1 << 40), "out of memory");
}

static void calls(void)
{
    FAILS(tarn_go(NULL, NULL), TARN_EINVAL, "tarn_go: no function");
    struct tarn_go_attr a = {(enum tarn_stacks)7, 0};
    FAILS(tarn_go_with(&a, nothing, NULL), TARN_EINVAL, "stacks 7");
    a = (struct tarn_go_attr){TARN_STACKS_AUTO, SIZE_MAX};
    FAILS(tarn_go_with(&a, nothing, NULL), TARN_EINVAL, "stack_size");
    a = (struct tarn_go_attr){TARN_STACKS_COPYING, 0};
    FAILS(tarn_go_with(&a, nothing, NULL), TARN_EINVAL,
          "a copying stack is asked for");
    a = (struct tarn_go_attr){TARN_STACKS_FIXED, (size_t)1 << 40};
    size_t before = tarn_goroutines();
    tarn_status st = tarn_go_with(&a, nothing, NULL);
    if (st != TARN_OK) {
        CHECK_ST(st, TARN_ENOMEM);
        error_has("no memory for a stack of 1099511627776 bytes");
        CHECK_EQ(tarn_goroutines(), before);
    }
    IS_NULL(tarn_timer_start(5, NULL, NULL), "fn is NULL");
    FAILS(tarn_chan_send(NULL, NULL), TARN_EINVAL, "the channel is NULL");
    FAILS(tarn_chan_send(new_chan(8, 1), NULL), TARN_EINVAL,
          "the element is NULL");
}

static uint64_t words[4];

static void roots(void)
{
    FAILS(tarn_roots_add(NULL, words, 0), TARN_EINVAL, "tarn_roots_add");
    FAILS(tarn_roots_add(words + 2, words, 0), TARN_EINVAL, "tarn_roots_add");
    FAILS(tarn_roots_add(words, words + 2, 6), TARN_EINVAL, "flags 0x6");
    FAILS(tarn_roots_remove(words, words + 2), TARN_EINVAL,
          "tarn_roots_remove: no range");
    CHECK_ST(tarn_roots_add(words, words + 2, 0), TARN_OK);
    FAILS(tarn_roots_remove(words, words + 1), TARN_EINVAL, "no range");
    /* Twice added is twice removed. */
    CHECK_ST(tarn_roots_add(words, words + 2, TARN_ROOTS_BARRIERED), TARN_OK);
    CHECK_ST(tarn_roots_remove(words, words + 2), TARN_OK);
    CHECK_ST(tarn_roots_remove(words, words + 2), TARN_OK);
    FAILS(tarn_roots_remove(words, words + 2), TARN_EINVAL, "no range");
    /* Odd bounds: whole words inside. */
    const char *odd = (const char *)words;
    CHECK_ST(tarn_roots_add(odd + 1, odd + 31, 0), TARN_OK);
    collect();
    CHECK_ST(tarn_roots_remove(odd + 1, odd + 31), TARN_OK);
    fail_inject(FAIL_MALLOC, 0, -1);
    tarn_status st = TARN_OK;
    int n = 0;
    for (; st == TARN_OK && n < 1000; n++)
        st = tarn_roots_add(words, words + 1, 0);
    fail_reset();
    CHECK_ST(st, TARN_ENOMEM);
    error_has("tarn_roots_add: out of memory");
    for (int i = 0; i < n - 1; i++)
        CHECK_ST(tarn_roots_remove(words, words + 1), TARN_OK);
}

static void stats_args(void)
{
    struct tarn_gc_stats s = {.struct_size = 0};
    FAILS(tarn_gc_stats(NULL), TARN_EINVAL, "struct_size");
    FAILS(tarn_gc_stats(&s), TARN_EINVAL, "struct_size is 0");
    s.struct_size = sizeof s + 1;
    FAILS(tarn_gc_stats(&s), TARN_EINVAL, "struct_size is");
    /* An older program knows fewer fields. */
    memset(&s, 0x55, sizeof s);
    s.struct_size = offsetof(struct tarn_gc_stats, heap_live_bytes);
    CHECK_ST(tarn_gc_stats(&s), TARN_OK);
    CHECK_EQ(s.struct_size, offsetof(struct tarn_gc_stats, heap_live_bytes));
    CHECK_EQ(s.heap_live_bytes, UINT64_C(0x5555555555555555));
    FAILS(tarn_gc_pauses_hgrm(TARN_PAUSE_ALL, "/nonexistent/x.hgrm"), TARN_ESYS,
          "cannot write /nonexistent/x.hgrm: No such file");
    FAILS(tarn_gc_pauses_hgrm(TARN_PAUSE_ALL, NULL), TARN_EINVAL, "no path");
    FAILS(tarn_gc_pauses_hgrm((enum tarn_pause_kind)9, "/dev/null"),
          TARN_EINVAL, "bad kind 9");
    FAILS(tarn_gc_pauses_hgrm(TARN_PAUSE_ALL, "/dev/full"), TARN_ESYS,
          "cannot write /dev/full");
}

static void arguments(void *unused)
{
    (void)unused;
    types();
    sizes();
    calls();
    roots();
    stats_args();
    puts("done");
    fflush(stdout);
}

static void arguments_child(void)
{
    register_pair();
    /* Ranges may be there before the runtime is. */
    CHECK_ST(tarn_roots_add(words + 3, words + 4, 0), TARN_OK);
    CHECK_ST(tarn_main(NULL, arguments, NULL), TARN_OK);
}

static void test_arguments(void)
{
    must_do(arguments_child, NULL);
    for (int s = 0; s < 20; s++)
        CHECK(tarn_status_name((tarn_status)s) != NULL);
}

static void error_of_its_own(void *arg)
{
    tarn_chan *c = arg;
    CHECK(strcmp(tarn_last_error(), "") == 0);
    IS_NULL(tarn_alloc(NULL), "no type");
    uint64_t v = 1;
    CHECK_ST(tarn_chan_send(c, &v), TARN_OK);
    error_has("no type");
}

static void errors_apart(void *unused)
{
    (void)unused;
    tarn_chan *c = new_chan(8, 0);
    go(error_of_its_own, c);
    IS_NULL(tarn_alloc_array(NULL, 3), "tarn_alloc_array: no type");
    uint64_t v;
    CHECK_ST(tarn_chan_recv(c, &v), TARN_OK);
    error_has("tarn_alloc_array: no type");
    puts("done");
    fflush(stdout);
}

static void errors_apart_child(void)
{
    CHECK_ST(tarn_main(NULL, errors_apart, NULL), TARN_OK);
}

static void test_errors_apart(void)
{
    must_do(errors_apart_child, NULL);
}

/* --- the heap's limit ------------------------------------------------------------------ */

static void small_heap(tarn_fn fn, bool throws)
{
    struct tarn_options o;
    alarm(SUITE_WATCHDOG_SECONDS);
    tarn_options_init(&o);
    o.maxprocs = 2;
    o.heapmax = 16 << 20;
    o.oom = throws ? TARN_OOM_THROW : TARN_OOM_NULL;
    CHECK_ST(tarn_main(&o, fn, NULL), TARN_OK);
}

/* Fills the heap with a list of objects of n bytes; returns how many. */
__attribute__((noinline)) static size_t fill(void ***list, size_t n)
{
    size_t count = 0;
    for (;;) {
        void **p = tarn_alloc_conservative(n);
        if (p == NULL)
            return count;
        tarn_store(p, *list);
        tarn_store(list, p);
        count++;
        CHECK_LT(count * n, (size_t)17 << 20);
    }
}

static void exhaust(void *unused)
{
    (void)unused;
    void ***root = new_shared(sizeof *root);
    static const size_t of[] = {64, 8192, 3000, 200000, 48, 1000000};
    for (size_t i = 0; i < ARRAY_LEN(of); i++) {
        size_t n = fill(root, of[i]);
        error_has("out of memory: ");
        error_has("of heapmax 16777216");
        /* Nearly all of it was there to be had. */
        CHECK_GE(n * of[i], (size_t)12 << 20);
        /* Not for others either, and nothing that is there is hurt. */
        IS_NULL(tarn_alloc_bytes(4 << 20), "out of memory: 4194304 bytes");
        IS_NULL(tarn_alloc_conservative(14 << 20), "out of memory");
        size_t seen = 0;
        for (void **p = *root; p != NULL; p = *p)
            seen++;
        CHECK_EQ(seen, n);
        /* And all of it again once it is dropped. */
        tarn_store(root, NULL);
        wipe_stack();
    }
    collect();
    CHECK(tarn_alloc_bytes(10 << 20) != NULL);
    puts("done");
    fflush(stdout);
}

static void exhaust_child(void)
{
    small_heap(exhaust, false);
}

static void hungry(void *arg)
{
    void ***root = new_shared(sizeof *root);
    for (int i = 0; i < 4; i++) {
        fill(root, 1000);
        tarn_store(root, NULL);
        tarn_yield();
    }
    tarn_waitgroup_done(arg);
}

/* Several run dry at once; each recovers. */
static void exhaust_many(void *unused)
{
    (void)unused;
    static tarn_waitgroup wg;
    tarn_waitgroup_add(&wg, 4);
    for (int i = 0; i < 4; i++)
        go(hungry, &wg);
    tarn_waitgroup_wait(&wg);
    collect();
    CHECK(tarn_alloc_bytes(8 << 20) != NULL);
    puts("done");
    fflush(stdout);
}

static void exhaust_many_child(void)
{
    small_heap(exhaust_many, false);
}

static void overeat(void *unused)
{
    (void)unused;
    fill(new_shared(sizeof(void *)), 1000);
}

static void overeat_child(void)
{
    small_heap(overeat, true);
}

static void test_heap_limit(void)
{
    must_do(exhaust_child, NULL);
    must_do(exhaust_child, "TARN=checkmark=1");
    must_do(exhaust_many_child, NULL);
    CHECK_THROWS(overeat_child, NULL, "out of memory: 1000 bytes, with");
    /* Overflow is the caller's mistake, not a lack of memory. */
}

static void overflow_quietly(void *unused)
{
    (void)unused;
    IS_NULL(tarn_alloc_bytes(SIZE_MAX), "overflows");
    puts("done");
    fflush(stdout);
}

static void overflow_child(void)
{
    small_heap(overflow_quietly, true);
}

static void test_overflow_is_no_oom(void)
{
    must_do(overflow_child, NULL);
}

/* --- refusals ---------------------------------------------------------------------------- */

static enum fail_kind kind;
static int64_t after;
static int64_t times;
static bool at_start;
static _Atomic int refused;

static void user_of_all(void *arg)
{
    tarn_chan *c = arg;
    uint64_t v = 1;
    for (int i = 0; i < 20; i++) {
        void **p = tarn_alloc_conservative(100);
        if (p == NULL) {
            error_has("memory");
            atomic_fetch_add(&refused, 1);
        }
        if (i % 4 == 0)
            tarn_sleep(10000);
    }
    tarn_chan_send(c, &v);
}

/* A bit of everything. What is refused is counted, and does no harm. */
static void all_sorts(void *unused)
{
    (void)unused;
    tarn_chan *c = tarn_chan_new(8, 4);
    void ***keep = tarn_alloc_conservative(80);
    if (c == NULL || keep == NULL) {
        error_has("memory");
        printf("done, refused at once\n");
        fflush(stdout);
        return;
    }
    if (!at_start)
        fail_inject(kind, after, times);
    int started = 0;
    for (int i = 0; i < 6; i++) {
        struct tarn_go_attr a = {TARN_STACKS_FIXED, i % 2 ? (size_t)100000 : 0};
        tarn_status st = tarn_go_with(&a, user_of_all, c);
        if (st == TARN_OK) {
            started++;
        } else {
            CHECK_ST(st, TARN_ENOMEM);
            error_has("tarn_go");
            atomic_fetch_add(&refused, 1);
        }
    }
    for (int i = 0; i < 60; i++) {
        void **p = i % 10 == 9 ? tarn_alloc_bytes((size_t)200000 * (size_t)i)
                               : tarn_alloc_conservative((size_t)i * 64 + 8);
        if (p == NULL) {
            error_has("memory");
            atomic_fetch_add(&refused, 1);
        } else {
            SET(keep[i % 10], p);
        }
        if (i % 20 == 0)
            collect();
    }
    char name[] = "type_x";
    for (int i = 0; i < 3; i++) {
        uint64_t map = 1;
        name[5] = (char)('a' + i);
        struct tarn_type_info info = {name, 64, &map, NULL};
        tarn_type *t = tarn_type_register(&info);
        if (t == NULL || tarn_alloc(t) == NULL ||
            tarn_alloc_array(t, 40) == NULL) {
            error_has("memory");
            atomic_fetch_add(&refused, 1);
        }
    }
    if (tarn_timer_start(100000, user_of_all, c) != NULL)
        started++;
    else
        error_has("memory");
    tarn_sleep(200000);
    /* A timer waits for memory for its goroutine: not for ever. */
    fail_reset();
    for (int i = 0; i < started; i++) {
        uint64_t v;
        CHECK_ST(tarn_chan_recv(c, &v), TARN_OK);
    }
    /* With the system willing again all is well. */
    collect();
    CHECK(tarn_alloc_bytes(20000) != NULL);
    CHECK_ST(tarn_go(nothing, NULL), TARN_OK);
    tarn_yield();
    printf("done, refused %d\n", atomic_load(&refused));
    fflush(stdout);
}

static void refusal_child(void)
{
    struct tarn_options o;
    alarm(60);
    tarn_options_init(&o);
    o.maxprocs = 4;
    if (at_start)
        fail_inject(kind, after, times);
    tarn_status st = tarn_main(&o, all_sorts, NULL);
    if (st != TARN_OK) {
        CHECK(st == TARN_ENOMEM || st == TARN_ESYS);
        CHECK(strlen(tarn_last_error()) > 10);
        printf("not started: %s: %s\n", tarn_status_name(st),
               tarn_last_error());
        fflush(stdout);
        fail_reset();
        if (strstr(tarn_last_error(), "background thread") != NULL)
            CHECK_ST(tarn_main(&o, nothing, NULL), TARN_OK);
        else
            FAILS(tarn_main(&o, all_sorts, NULL), TARN_ESTATE,
                  "an earlier start failed");
    }
    exit(0);
}

/* One refusal, and how it ended. */
enum end { WENT_WELL, NOT_STARTED, SAID_WHY };

static enum end refuse(void)
{
    static const char *const kinds[] = {"mmap", "mprotect", "madvise", "thread",
                                        "malloc"};
    int st = harness_child(refusal_child, NULL, out, sizeof out);
    bool exited = WIFEXITED(st) && WEXITSTATUS(st) == 0;
    if (exited && strstr(out, "done, refused"))
        return WENT_WELL;
    if (exited && strstr(out, "not started: "))
        return NOT_STARTED;
    const char *said = strstr(out, "tarn: fatal: ");
    bool clear = said != NULL && (strstr(said, "memory") != NULL ||
                                  strstr(said, "thread") != NULL);
    bool ended = (WIFSIGNALED(st) && WTERMSIG(st) == SIGABRT) ||
                 (WIFEXITED(st) && WEXITSTATUS(st) == 2);
    if (!clear || !ended || strstr(out, "assertion") != NULL) {
        fprintf(stderr,
                "%s refused after %lld, %lld times, %s: status %#x\n%s\n",
                kinds[kind], (long long)after, (long long)times,
                at_start ? "from the start" : "later", (unsigned)st, out);
        CHECK(clear && ended);
    }
    return SAID_WHY;
}

static void refusals(enum fail_kind k, bool start, int most, bool for_ever)
{
    int ends[3] = {0};
    kind = k;
    at_start = start;
    times = for_ever ? -1 : 1;
    for (after = 0; after < most; after += after < 12 ? 1 : 1 + after / 8)
        ends[refuse()]++;
    printf("     kind %d%s%s: went well %d, not started %d, said why %d\n",
           (int)k, start ? ", at start" : "", for_ever ? ", for ever" : "",
           ends[WENT_WELL], ends[NOT_STARTED], ends[SAID_WHY]);
}

static void test_refused_at_start(void)
{
    refusals(FAIL_MMAP, true, 40, false);
    refusals(FAIL_MMAP, true, 40, true);
    refusals(FAIL_MPROTECT, true, 60, false);
    refusals(FAIL_MPROTECT, true, 60, true);
    refusals(FAIL_MALLOC, true, 60, false);
    refusals(FAIL_MALLOC, true, 60, true);
    refusals(FAIL_THREAD, true, 5, false);
    refusals(FAIL_THREAD, true, 5, true);
}

static void test_refused_later(void)
{
    refusals(FAIL_MMAP, false, 20, false);
    refusals(FAIL_MMAP, false, 20, true);
    refusals(FAIL_MPROTECT, false, 40, false);
    refusals(FAIL_MPROTECT, false, 40, true);
    refusals(FAIL_MADVISE, false, 20, true);
    refusals(FAIL_MALLOC, false, 40, false);
    refusals(FAIL_MALLOC, false, 40, true);
    refusals(FAIL_THREAD, false, 4, false);
}

/* --- other ends ------------------------------------------------------------------------- */

static void stuck(void *unused)
{
    (void)unused;
    uint64_t v;
    collect();
    tarn_chan_recv(new_chan(8, 0), &v);
}

static void test_deadlock(void)
{
    CHECK_FATAL(stuck, "all goroutines are asleep - deadlock!");
    CHECK_STR(tarn_status_name(TARN_ESTATE), "TARN_ESTATE");
}

int main(int argc, char **argv)
{
    harness_init(argc, argv);
    unsetenv("TARN");
    RUN(test_off_goroutine);
    RUN(test_off_goroutine_fatal);
    RUN(test_store_in_native);
    RUN(test_start);
    RUN(test_arguments);
    RUN(test_errors_apart);
    RUN(test_heap_limit);
    RUN(test_overflow_is_no_oom);
    RUN(test_refused_at_start);
    RUN(test_refused_later);
    RUN(test_deadlock);
    return harness_done();
}
