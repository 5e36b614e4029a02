/* tests/test_barriercheck.c - option barriercheck: a pointer that was stored without
 * the barrier, or was overwritten without it, is named, whether a collection would
 * have lost something or not; what was stored as it should be never is. */
#include <sys/mman.h>
#include <sys/resource.h>

#include "gcsuite.h"
#include "tarn/chan.h"
#include "tarn/sched.h"

struct holder {
    uint64_t number;
    struct holder *held;
    struct holder *other;
};

static tarn_type *t_holder, *t_traced;
static const char *child_options;
static void (*child_body)(void);
static char out[1 << 16];
static struct holder *globals[4]; /* what bodies work on stays alive */

static void trace_holder(void *obj, tarn_tracer *tracer)
{
    struct holder *h = obj;
    tarn_trace(tracer, __atomic_load_n(&h->held, __ATOMIC_RELAXED));
    /* The other one with its lowest bit set. */
    uintptr_t w = __atomic_load_n((uintptr_t *)&h->other, __ATOMIC_RELAXED);
    tarn_trace(tracer, (void *)(w & ~(uintptr_t)1));
}

static struct holder *new_of(tarn_type *t)
{
    struct holder *h = tarn_alloc(t);
    CHECK(h != NULL);
    return h;
}

/* One that has been through a collection, another to be stored in it. */
static void two(tarn_type *t)
{
    globals[0] = new_of(t);
    globals[1] = new_of(t_holder);
    collect();
}

/* --- breaches -------------------------------------------------------------------- */

static void plain_old(void)
{
    two(t_holder);
    globals[0]->held = globals[1];
}

static void plain_new(void)
{
    globals[1] = new_of(t_holder);
    globals[0] = new_of(t_holder);
    globals[0]->held = globals[1];
}

static void plain_copy(void)
{
    struct holder h = {1, globals[1], NULL};
    two(t_holder);
    h.held = globals[1];
    memcpy(globals[0], &h, sizeof h);
}

static void plain_null(void)
{
    two(t_holder);
    tarn_store(&globals[0]->held, globals[1]);
    collect();
    globals[0]->held = NULL;
}

static void plain_over(void)
{
    two(t_holder);
    globals[2] = new_of(t_holder);
    tarn_store(&globals[0]->held, globals[1]);
    globals[0]->held = globals[2];
}

static void plain_conservative(void)
{
    globals[1] = new_of(t_holder);
    globals[0] = tarn_alloc_conservative(200);
    CHECK(globals[0] != NULL);
    ((void **)globals[0])[24] = globals[1];
}

static void plain_large(void)
{
    struct holder *a = tarn_alloc_array(t_holder, 100000);
    CHECK(a != NULL);
    globals[0] = a;
    globals[1] = new_of(t_holder);
    a[99999].other = globals[1];
}

static void plain_traced(void)
{
    two(t_traced);
    globals[0]->held = globals[1];
}

static void plain_traced_null(void)
{
    two(t_traced);
    tarn_store(&globals[0]->held, globals[1]);
    globals[0]->held = NULL;
}

static void plain_many(void)
{
    void **a = tarn_alloc_conservative(100 * sizeof *a);
    CHECK(a != NULL);
    globals[0] = (void *)a;
    globals[1] = new_of(t_holder);
    for (int i = 0; i < 100; i++)
        a[i] = globals[1];
}

/* --- what is allowed ---------------------------------------------------------------- */

static void all_calls(tarn_type *t)
{
    uint64_t rng = seed_of(1);
    int n = scaled(2000);
    struct holder *a[16];
    for (int i = 0; i < 16; i++)
        a[i] = new_of(t);
    for (int i = 0; i < n; i++) {
        struct holder *h = a[below(&rng, 16)], *v = a[below(&rng, 16)];
        void *old = __atomic_load_n(&h->held, __ATOMIC_RELAXED);
        void *spare[3] = {NULL, v, NULL};
        switch (below(&rng, 8)) {
        case 0:
            tarn_store(&h->held, v);
            break;
        case 1:
            tarn_swap(&h->held, v);
            break;
        case 2:
            tarn_cas(&h->held, &old, v);
            break;
        case 3:
            tarn_copy(h, v, sizeof *h);
            break;
        case 4:
            tarn_copy(h, spare, sizeof spare);
            break;
        case 5:
            tarn_clear(&h->held, sizeof h->held);
            break;
        case 6: /* bytes that are not words' */
            tarn_copy((char *)h + 1, (char *)v + 1, 6);
            break;
        default:
            a[below(&rng, 16)] = new_of(t);
        }
        h->number = (uint64_t)i; /* no pointer */
        if (i % 64 == 0)
            collect();
    }
}

static void allowed(void)
{
    all_calls(t_holder);
}

static void allowed_traced(void)
{
    all_calls(t_traced);
    two(t_traced);
    for (int i = 0; i < 10; i++) {
        struct holder *old =
            (void *)((uintptr_t)globals[0]->other & ~(uintptr_t)1);
        struct holder *v = new_of(t_holder);
        tarn_store_encoded((uint64_t *)&globals[0]->other, (uintptr_t)v | 1,
                           old, v);
        collect();
    }
}

/* Pointers to the object itself, as the first stores; numbers; bytes. */
static void allowed_plain(void)
{
    globals[1] = new_of(t_holder);
    struct holder *h = new_of(t_holder);
    h->held = h;
    globals[0] = h;
    uintptr_t *numbers = tarn_alloc_conservative(64);
    CHECK(numbers != NULL);
    globals[2] = (void *)numbers;
    numbers[0] = (uintptr_t)globals[1] + 8;
    numbers[1] = 1;
    char *bytes = tarn_alloc_bytes(64);
    CHECK(bytes != NULL);
    globals[3] = (void *)bytes;
    memcpy(bytes, &globals[1], sizeof globals[1]);
}

/* What freed objects held says nothing about those that come after them. */
static void allowed_again(void)
{
    for (int i = 0; i < scaled(200); i++) {
        struct holder *a = tarn_alloc_array(t_holder, i % 10 == 0 ? 5000 : 20);
        CHECK(a != NULL);
        globals[0] = a;
        globals[1] = new_of(t_holder);
        if (i % 2 == 0)
            for (int j = 0; j < 20; j++)
                tarn_store(&a[j].held, globals[1]);
        collect();
        globals[0] = globals[1] = NULL;
        collect();
    }
}

static _Atomic int running;
static void *shared;

static void racer(void *unused)
{
    (void)unused;
    void **slots = shared;
    struct holder *mine = new_of(t_holder);
    for (int i = 0; i < scaled(20000); i++) {
        void *old = NULL;
        tarn_store(&slots[i % 4], i % 3 == 0 ? NULL : mine);
        if (i % 5 == 0)
            tarn_cas(&slots[i % 4], &old, mine);
        if (i % 7 == 0)
            tarn_swap(&slots[i % 4], mine);
        if (i % 1000 == 0)
            mine = new_of(t_holder);
    }
    atomic_fetch_sub(&running, 1);
}

static void allowed_race(void)
{
    shared = tarn_alloc_conservative(4 * sizeof(void *));
    CHECK(shared != NULL);
    atomic_store(&running, 4);
    for (int i = 0; i < 4; i++)
        CHECK_ST(tarn_go(racer, NULL), TARN_OK);
    while (atomic_load(&running) > 0) {
        collect();
        tarn_yield();
    }
    collect();
}

static void to_object(void *chan)
{
    struct holder *h = new_of(t_holder);
    globals[2] = h;
    CHECK_ST(tarn_chan_recv(chan, &h->held),
             TARN_OK); /* direct, from the sender */
    atomic_fetch_sub(&running, 1);
}

static void ring(void *arg)
{
    globals[3] = arg;
    atomic_fetch_sub(&running, 1);
}

/* The runtime's own stores for a program. */
static void allowed_runtime(void)
{
    tarn_chan *c = tarn_chan_new(sizeof(void *), 0);
    tarn_chan *buffered = tarn_chan_new(sizeof(void *), 4);
    CHECK(c != NULL && buffered != NULL);
    atomic_store(&running, 1);
    CHECK_ST(tarn_go(to_object, c), TARN_OK);
    globals[1] = new_of(t_holder);
    CHECK_ST(tarn_chan_send(c, &globals[1]), TARN_OK);
    CHECK_ST(tarn_chan_send(buffered, &globals[1]), TARN_OK);
    collect();
    while (atomic_load(&running) > 0)
        tarn_yield();
    collect();
    struct holder *h = new_of(t_holder);
    globals[0] = h;
    CHECK_ST(tarn_chan_recv(buffered, &h->other), TARN_OK);
    CHECK_EQ(h->other == globals[1], true);
    atomic_store(&running, 1);
    CHECK(tarn_timer_start(1000000, ring, globals[1]) != NULL);
    collect();
    while (atomic_load(&running) > 0)
        tarn_yield();
    CHECK_EQ(globals[3] == globals[1], true);
}

/* Who allocates the last of the memory may be stopped before it has the object, whose
 * place had others before. */
static void fill_memory(void *vn)
{
    size_t most = 500 + 9 * (size_t)vn;
    for (int i = 0; i < 20; i++) {
        void **list = NULL, **o;
        size_t n = 0;
        while (n++ < most && (o = tarn_alloc_conservative(2000)) != NULL) {
            tarn_store(&o[0], list);
            for (int j = 1; j < 200; j++)
                tarn_store(&o[j], globals[1]);
            list = o;
        }
        tarn_yield();
    }
    atomic_fetch_sub(&running, 1);
}

static void allowed_full(void)
{
    globals[1] = new_of(t_holder);
    atomic_store(&running, 12);
    for (size_t i = 0; i < 12; i++)
        CHECK_ST(tarn_go(fill_memory, (void *)i), TARN_OK);
    while (atomic_load(&running) > 0)
        tarn_yield();
}

/* --- children ------------------------------------------------------------------------ */

static void start(void *unused)
{
    (void)unused;
    uint64_t map =
        TARN_PTR(struct holder, held) | TARN_PTR(struct holder, other);
    t_holder = tarn_type_register(&(struct tarn_type_info){
        "careless_holder", sizeof(struct holder), &map, NULL});
    t_traced = tarn_type_register(&(struct tarn_type_info){
        "traced_holder", sizeof(struct holder), NULL, trace_holder});
    CHECK(t_holder != NULL && t_traced != NULL);
    child_body();
    collect();
    printf("goes on\n");
}

static void child(void)
{
    struct tarn_options o;
    alarm(SUITE_WATCHDOG_SECONDS);
    tarn_options_init(&o);
    o.maxprocs = 4;
    CHECK_ST(tarn_options_parse(&o, child_options), TARN_OK);
    CHECK_ST(tarn_main(&o, start, NULL), TARN_OK);
}

static int run(void (*body)(void), const char *opts)
{
    child_body = body;
    child_options = opts;
    return harness_child(child, NULL, out, sizeof out);
}

static void breach(void (*body)(void), const char *says)
{
    int st = run(body, "barriercheck=1");
    if (strstr(out, says) == NULL)
        fprintf(stderr, "lacks \"%s\":\n%s\n", says, out);
    CHECK(strstr(out, says) != NULL);
    CHECK_STR(out, " by a store without a barrier\n");
    CHECK_STR(out, "tarn: fatal: barriercheck: by cycle ");
    CHECK(strstr(out, "goes on") == NULL);
    CHECK(WIFSIGNALED(st) && WTERMSIG(st) == SIGABRT);
    st = run(body, "barriercheck=0");
    CHECK_EQ(st, 0);
    CHECK_STR(out, "goes on");
}

static void passes_with(void (*body)(void), const char *opts)
{
    int st = run(body, opts);
    if (st != 0)
        fprintf(stderr, "%s: %s\n", opts, out);
    CHECK_EQ(st, 0);
    CHECK_STR(out, "goes on");
    CHECK(strstr(out, "barriercheck: ") == NULL);
}

static void passes(void (*body)(void))
{
    passes_with(body, "barriercheck=1");
    passes_with(body, "barriercheck=1,gcstress=16,checkmark=1");
    passes_with(body, "barriercheck=1,clobberfree=1,generational=0");
}

static void test_breaches(void)
{
    breach(plain_old, ", offset 8 of object 0x");
    breach(plain_old, " bytes, type careless_holder), was set to 0x");
    breach(plain_new, " bytes, type careless_holder), was set to 0x");
    breach(plain_copy, " bytes, type careless_holder), was set to 0x");
    breach(plain_null, " bytes, type careless_holder), no longer holds 0x");
    breach(plain_over, " bytes, type careless_holder), was set to 0x");
    breach(plain_conservative, ", offset 192 of object 0x");
    breach(plain_large, " bytes, type careless_holder), was set to 0x");
    breach(plain_traced, " bytes, type traced_holder), was set to 0x");
    breach(plain_traced_null,
           " bytes, type traced_holder), no longer holds 0x");
}

static void test_limit(void)
{
    CHECK(run(plain_many, "barriercheck=1") != 0);
    CHECK_STR(out, "barriercheck: 80 more of them\n");
    CHECK_STR(out, "100 words of objects");
}

static void test_allowed(void)
{
    passes(allowed);
    passes(allowed_traced);
    passes(allowed_plain);
    passes(allowed_again);
    passes(allowed_race);
    passes(allowed_runtime);
    for (int i = 0; i < (TARN_TSAN ? 1 : 2); i++)
        passes_with(allowed_full, "barriercheck=1,heapmax=16MiB,gcstress=64");
}

/* A heap, of a third of the address space, fits beside what there is, a second does not. */
static void cramped(void)
{
    struct rlimit r;
    alarm(SUITE_WATCHDOG_SECONDS);
    CHECK_EQ(getrlimit(RLIMIT_AS, &r), 0);
    r.rlim_cur = (rlim_t)64 << 30;
    CHECK_EQ(setrlimit(RLIMIT_AS, &r), 0);
    CHECK(mmap(NULL, (size_t)32 << 30, PROT_NONE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
               0) != MAP_FAILED);
    struct tarn_options o;
    tarn_options_init(&o);
    CHECK_ST(tarn_options_parse(&o, "barriercheck=1"), TARN_OK);
    CHECK_ST(tarn_main(&o, start, NULL), TARN_ENOMEM);
    printf("%s\n", tarn_last_error());
}

static void test_no_space(void)
{
    if (TARN_ASAN || TARN_TSAN)
        return; /* which need more than any such limit for themselves */
    int st = harness_child(cramped, NULL, out, sizeof out);
    if (st != 0)
        fprintf(stderr, "%s\n", out);
    CHECK_EQ(st, 0);
    CHECK_STR(out, "barriercheck: no address space for a shadow of the heap, ");
}

int main(int argc, char **argv)
{
    harness_init(argc, argv);
    unsetenv("TARN");
    RUN(test_breaches);
    RUN(test_limit);
    RUN(test_allowed);
    RUN(test_no_space);
    return harness_done();
}
