/* tests/test_m_stackescape.c - option stackescape: the address of a local in the
 * heap, in a global or in an added range is found and named; in another stack it
 * is told; a goroutine's own words, and what the runtime keeps of it, are not. */
#include "gcsuite.h"

struct holder {
    uint64_t pad;
    void *held;
    uint64_t number;
};

static tarn_type *t_holder, *t_traced;

static void trace_holder(void *obj, tarn_tracer *tracer)
{
    tarn_trace(tracer, ((struct holder *)obj)->held);
}

static void register_types(void)
{
    uint64_t map = TARN_PTR(struct holder, held);
    t_holder = tarn_type_register(&(struct tarn_type_info){
        "careless_holder", sizeof(struct holder), &map, NULL});
    t_traced = tarn_type_register(&(struct tarn_type_info){
        "traced_holder", sizeof(struct holder), NULL, trace_holder});
    CHECK(t_holder != NULL && t_traced != NULL);
}

/* The compiler does not see that it is a local's. */
static void *opaque(volatile void *p)
{
    void *q = (void *)(uintptr_t)p;
    __asm__("" : "+r"(q));
    return q;
}

void *careless_global;
static void **careless_range;

static struct holder *new_holder(tarn_type *t)
{
    struct holder *h = tarn_alloc(t);
    CHECK(h != NULL);
    return h;
}

/* --- what the children do --------------------------------------------------- */

static void in_precise(void)
{
    volatile uint64_t local = 1;
    struct holder *h = new_holder(t_holder);
    tarn_store(&h->held, opaque(&local));
    collect();
    CHECK(h->held != NULL);
}

static void in_array(void)
{
    volatile uint64_t local = 1;
    struct holder *h = tarn_alloc_array(t_holder, 5000);
    CHECK(h != NULL);
    tarn_store(&h[3000].held, opaque(&local));
    collect();
    CHECK(h[3000].held != NULL);
}

static void in_traced(void)
{
    volatile uint64_t local = 1;
    struct holder *h = new_holder(t_traced);
    tarn_store(&h->held, opaque(&local));
    collect();
    CHECK(h->held != NULL);
}

static void in_conservative(void)
{
    volatile uint64_t local = 1;
    void **p = new_shared(50000);
    tarn_store(&p[5], opaque(&local));
    collect();
    CHECK(p[5] != NULL);
}

static void in_channel(void)
{
    volatile uint64_t local = 1;
    void *p = opaque(&local);
    tarn_chan *c = new_chan(sizeof p, 3);
    CHECK_ST(tarn_chan_send(c, &p), TARN_OK);
    collect();
    CHECK_ST(tarn_chan_recv(c, &p), TARN_OK);
}

static void in_global(void)
{
    volatile uint64_t local = 1;
    careless_global = opaque(&local);
    collect();
    careless_global = NULL;
}

static void in_range(unsigned flags)
{
    volatile uint64_t local = 1;
    careless_range = calloc(4, sizeof *careless_range);
    CHECK_ST(tarn_roots_add(careless_range, careless_range + 4, flags),
             TARN_OK);
    tarn_store(&careless_range[2], opaque(&local));
    collect();
    careless_range[2] = NULL;
}

static void in_plain_range(void)
{
    in_range(0);
}

static void in_barriered_range(void)
{
    in_range(TARN_ROOTS_BARRIERED);
}

static void in_many(void)
{
    volatile uint64_t local = 1;
    void **p = new_shared(8 * 100);
    for (int i = 0; i < 100; i++)
        tarn_store(&p[i], opaque(&local));
    collect();
    CHECK(p[99] != NULL);
}

/* Where it is no pointer for the collector it is none here. */
static void in_numbers(void)
{
    volatile uint64_t local = 1;
    struct holder *h = new_holder(t_holder), *t = new_holder(t_traced);
    uint64_t *n = tarn_alloc_bytes(64);
    CHECK(n != NULL);
    h->number = t->number = n[3] = (uintptr_t)opaque(&local);
    collect();
    CHECK(h->number == n[3] && t->number == n[3]);
}

/* The other one's stack has the address for as long as it waits. */
static tarn_chan *wait_here;

static void keep_pointer(void *p)
{
    void *volatile mine = p;
    int token;
    tarn_chan_recv(wait_here, &token);
    CHECK(mine == p);
}

static void in_stack(void)
{
    volatile uint64_t local = 1;
    wait_here = new_chan(sizeof(int), 0);
    go(keep_pointer, opaque(&local));
    tarn_yield();
    tarn_yield();
    collect();
    int token = 0;
    CHECK_ST(tarn_chan_send(wait_here, &token), TARN_OK);
}

/* Everything in which the runtime itself keeps addresses of locals. */
static void wait_in_recv(void *c)
{
    uint64_t v[3];
    tarn_chan_recv(c, v);
}

static void wait_in_select(void *cs)
{
    uint64_t v = 0, w = 1;
    tarn_chan **c = cs;
    struct tarn_select_case cases[] = {{c[0], TARN_SELECT_RECV, &v, 0},
                                       {c[1], TARN_SELECT_SEND, &w, 0}};
    tarn_select(cases, 2, false);
}

static void wait_in_sleep(void *unused)
{
    (void)unused;
    tarn_sleep(1000000);
}

static tarn_mutex mutex;
static tarn_waitgroup wg;

static void wait_for_mutex(void *unused)
{
    (void)unused;
    tarn_mutex_lock(&mutex);
    tarn_mutex_unlock(&mutex);
    tarn_waitgroup_done(&wg);
}

static _Atomic uint32_t native_began, native_may_end;

static void *native(void *arg)
{
    /* Its own business, until it is back. */
    careless_global = arg;
    atomic_store(&native_began, 1);
    while (atomic_load(&native_may_end) == 0)
        futex_wait(&native_may_end, 0, -1);
    careless_global = NULL;
    return NULL;
}

static void wait_in_native(void *unused)
{
    volatile uint64_t local = 0;
    (void)unused;
    tarn_native_call(native, opaque(&local));
    tarn_waitgroup_done(&wg);
}

static void clean(void)
{
    tarn_chan **c = new_shared(3 * sizeof *c);
    for (int i = 0; i < 2; i++)
        SET(c[i], new_chan(8, 0));
    SET(c[2], new_chan(24, 0));
    tarn_mutex_lock(&mutex);
    tarn_waitgroup_add(&wg, 2);
    go(wait_in_recv, c[2]);
    go(wait_in_select, c);
    go(wait_in_sleep, NULL);
    go(wait_for_mutex, NULL);
    go(wait_in_native, NULL);
    while (atomic_load(&native_began) == 0)
        tarn_yield();
    for (int i = 0; i < 20; i++) {
        collect();
        tarn_yield();
    }
    atomic_store(&native_may_end, 1);
    futex_wake(&native_may_end, 1);
    tarn_mutex_unlock(&mutex);
    tarn_waitgroup_wait(&wg);
    tarn_chan_close(c[0]);
    tarn_chan_close(c[2]);
    collect();
}

/* --- running them ----------------------------------------------------------- */

static void (*child_body)(void);
static const char *child_options;
static char out[65536];

static void start(void *unused)
{
    (void)unused;
    register_types();
    CHECK(getg()->kind == STACK_COPYING);
    child_body();
    printf("goes on\n");
    fflush(stdout);
}

static void child(void)
{
    struct tarn_options o;
    alarm(SUITE_WATCHDOG_SECONDS);
    tarn_options_init(&o);
    o.maxprocs = 2;
    CHECK_ST(tarn_options_parse(&o, child_options), TARN_OK);
    CHECK_ST(tarn_main(&o, start, NULL), TARN_OK);
}

static int run(void (*body)(void))
{
    child_body = body;
    child_options = "stackescape=1";
    return harness_child(child, NULL, out, sizeof out);
}

static void breach(void (*body)(void), const char *says)
{
    int st = run(body);
    if (strstr(out, says) == NULL)
        fprintf(stderr, "lacks \"%s\":\n%s\n", says, out);
    CHECK(strstr(out, says) != NULL);
    CHECK_STR(out, " points into the stack of goroutine ");
    CHECK_STR(out, "tarn: fatal: stackescape: in cycle ");
    CHECK(strstr(out, "goes on") == NULL);
    CHECK(WIFSIGNALED(st) && WTERMSIG(st) == SIGABRT);
    /* Without the option nobody notices. */
    child_options = "stackescape=0";
    st = harness_child(child, NULL, out, sizeof out);
    CHECK_EQ(st, 0);
    CHECK_STR(out, "goes on");
}

static void passes(void (*body)(void))
{
    int st = run(body);
    if (st != 0)
        fprintf(stderr, "%s\n", out);
    CHECK_EQ(st, 0);
    CHECK_STR(out, "goes on");
}

static int count(const char *text)
{
    int n = 0;
    for (const char *p = out; (p = strstr(p, text)) != NULL; p++)
        n++;
    return n;
}

static void test_heap(void)
{
    breach(in_precise, " bytes, type careless_holder), points into");
    breach(in_array, " bytes, type careless_holder), points into");
    breach(in_traced, " bytes, type traced_holder), by its trace function, "
                      "points into");
    breach(in_conservative, ", offset 40 of object 0x");
    breach(in_channel, " bytes, type conservative), points into");
}

/* All parts of the line. */
static void test_names(void)
{
    unsigned long slot, base, word;
    size_t off, size, below_top;
    unsigned long long goid;
    run(in_precise);
    const char *line = strstr(out, "stackescape: slot");
    CHECK(line != NULL);
    CHECK_EQ(sscanf(line,
                    "stackescape: slot %lx, offset %zu of object %lx (%zu "
                    "bytes, type careless_holder), points into the stack of "
                    "goroutine %llu: %lx, %zu bytes below its top",
                    &slot, &off, &base, &size, &goid, &word, &below_top),
             7);
    CHECK_EQ(off, offsetof(struct holder, held));
    CHECK_EQ(slot, base + off);
    CHECK_GE(size, sizeof(struct holder));
    CHECK_GT(goid, 0u);
    CHECK_EQ((word + below_top) % STACK_MIN, 0u);
    CHECK_LT(below_top, 4096u);
}

static void test_roots(void)
{
    breach(in_global, " careless_global+0x0 in a data segment points into");
    breach(in_plain_range, " in plain root range 0 points into");
    breach(in_barriered_range, " in barriered root range 0 points into");
}

static void test_limit(void)
{
    run(in_many);
    CHECK_EQ(count("stackescape: slot"), 20);
    CHECK_STR(out, "stackescape: 80 more of them\n");
    CHECK_STR(out, "100 words of the heap and of roots");
}

static void test_other_stacks(void)
{
    passes(in_stack);
    CHECK_STR(out, " in stack of goroutine ");
    CHECK_STR(out, " (perhaps a dead word)\n");
}

static void test_clean(void)
{
    passes(in_numbers);
    CHECK_EQ(count("stackescape:"), 0);
    passes(clean);
}

int main(int argc, char **argv)
{
    harness_init(argc, argv);
    unsetenv("TARN");
#ifdef TARN_NO_SPLIT_STACK
    printf("0 passed, 0 failed, 1 skipped\n"); /* no copying stacks */
    (void)test_heap, (void)test_names, (void)test_roots, (void)test_limit;
    (void)test_other_stacks, (void)test_clean;
    return 0;
#else
    RUN(test_heap);
    RUN(test_names);
    RUN(test_roots);
    RUN(test_limit);
    RUN(test_other_stacks);
    RUN(test_clean);
    return harness_done();
#endif
}
