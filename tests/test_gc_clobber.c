/* tests/test_gc_clobber.c - option clobberfree: who keeps a pointer that the
 * collector cannot see reads the pattern, in every layout and size; and memory
 * comes back from allocation zeroed all the same. */
#include "gcsuite.h"

struct precise {
    void *next;
    uint64_t word;
};
struct precise_big {
    void *next;
    uint64_t words[5999];
};

static tarn_type *t_precise, *t_big, *t_traced, *t_odd;

static void trace_nothing(void *obj, tarn_tracer *tracer)
{
    (void)obj;
    (void)tracer;
}

static void register_types(void)
{
    uint64_t map = 1;
    uint64_t big[94] = {1};
    t_precise = tarn_type_register(&(struct tarn_type_info){
        "precise", sizeof(struct precise), &map, NULL});
    t_big = tarn_type_register(&(struct tarn_type_info){
        "precise_big", sizeof(struct precise_big), big, NULL});
    t_traced = tarn_type_register(
        &(struct tarn_type_info){"traced", 72, NULL, trace_nothing});
    t_odd =
        tarn_type_register(&(struct tarn_type_info){"odd", 100, NULL, NULL});
    CHECK(t_precise && t_big && t_traced && t_odd);
}

enum { NOSCAN, CONSERVATIVE, PRECISE, PRECISE_BIG, TRACED, ODD, KINDS };

/* Of about n bytes. */
static void *make(int kind, size_t n)
{
    switch (kind) {
    case NOSCAN:
        return tarn_alloc_bytes(n);
    case CONSERVATIVE:
        return tarn_alloc_conservative(n);
    case PRECISE:
        return n < 32 ? tarn_alloc(t_precise)
                      : tarn_alloc_array(t_precise, n / sizeof(struct precise));
    case PRECISE_BIG:
        return tarn_alloc(t_big);
    case TRACED:
        return n < 100 ? tarn_alloc(t_traced)
                       : tarn_alloc_array(t_traced, n / 72);
    default:
        return n < 200 ? tarn_alloc(t_odd) : tarn_alloc_array(t_odd, n / 100);
    }
}

static uint64_t *checked(int kind, size_t n)
{
    uint64_t *p = make(kind, n);
    CHECK(p != NULL);
    size_t words = tarn_object_size(p) / 8;
    for (size_t i = 0; i < words; i++)
        CHECK_EQ(p[i], 0u);
    return p;
}

/* Every word, but the pointers of typed objects. */
static void dirty(int kind, uint64_t *p)
{
    size_t words = tarn_object_size(p) / 8;
    for (size_t i = 0; i < words; i++)
        if ((kind != PRECISE || i % 2 != 0) && (kind != PRECISE_BIG || i != 0))
            p[i] = 0x5a5a5a5a5a5a5a5a;
}

#define N 40

/* A frame of its own: nothing of it is left when it is wiped. */
__attribute__((noinline)) static void
make_garbage(int kind, size_t n, uint64_t *hidden, size_t *size)
{
    for (int i = 0; i < N; i++) {
        uint64_t *p = checked(kind, n);
        dirty(kind, p);
        hidden[i] = hide(p);
        *size = tarn_object_size(p);
        /* A neighbour that lives on, in one half of the cases: a span is swept
         * in another way when nothing is left in it. */
        if (i % 8 == 0 && n % 32 == 0)
            SET(((void **)reveal(hidden[N]))[i], make(kind, n));
    }
}

__attribute__((noinline)) static int clobbered(const uint64_t *hidden,
                                               size_t size)
{
    int n = 0;
    for (int i = 0; i < N; i++) {
        if (alive(hidden[i]))
            continue;
        const volatile uint64_t *p = reveal(hidden[i]);
        bool all = true;
        for (size_t w = 0; w < size / 8; w++)
            all &= p[w] == FREE_PATTERN;
        n += all;
    }
    return n;
}

static void test_pattern(void)
{
    static const size_t sizes[] = {1,    16,   32,    48,    64,    96,    200,
                                   1024, 1040, 16384, 32768, 32769, 100000};
    if (options.gcstress != 0)
        SKIP("places are used again at once");
    for (int kind = 0; kind < KINDS; kind++) {
        for (size_t s = 0; s < ARRAY_LEN(sizes); s++) {
            static uint64_t hidden[N + 1];
            size_t size = 0;
            /* No cycle begins by itself meanwhile, which would let places be
             * used again. */
            collect();
            void *volatile keep = new_shared(N * 8);
            hidden[N] = hide(keep);
            make_garbage(kind, sizes[s], hidden, &size);
            wipe_stack();
            collect();
            int n = clobbered(hidden, size);
            if (n < N - 5)
                fprintf(stderr, "kind %d, %zu bytes: %d of %d\n", kind,
                        sizes[s], n, N);
            CHECK_GE(n, N - 5); /* a stale word may keep some */
            CHECK(keep != NULL);
        }
    }
    CHECK(!heap_contains(FREE_PATTERN));
}

/* What lives is not touched, what is new is zero. */
static void test_churn(void)
{
    uint64_t rng = seed_of(1);
    uint64_t **keep = new_shared(64 * sizeof *keep);
    garbage_start(2);
    for (int i = 0, n = scaled(20000); i < n; i++) {
        int kind = (int)below(&rng, KINDS);
        size_t size = 1 + below(&rng, below(&rng, 50) == 0 ? 200000 : 2000);
        uint64_t *p = checked(kind, size);
        dirty(kind, p);
        uint64_t **at = &keep[below(&rng, 64)];
        if (*at != NULL) {
            size_t words = tarn_object_size(*at) / 8;
            CHECK_EQ((*at)[words - 1], 0x5a5a5a5a5a5a5a5a);
        }
        SET(*at, p);
        if (i % (n / 20 + 1) == 0)
            collect();
    }
    garbage_end();
}

static void body(void)
{
    if (t_precise == NULL)
        register_types();
    RUN(test_pattern);
    RUN(test_churn);
}

/* --- use after free ------------------------------------------------------- */

struct session {
    uint64_t id;
    uint64_t rest[7];
};

__attribute__((noinline)) static uint64_t open_session(void)
{
    struct session *s = tarn_alloc_bytes(sizeof *s);
    CHECK(s != NULL);
    s->id = 4711;
    return hide(s);
}

static void use_after_free(void *unused)
{
    (void)unused;
    /* The runtime's own variables hold the heap's first address. */
    CHECK(tarn_alloc_bytes(sizeof(struct session)) != NULL);
    uint64_t hidden = open_session();
    wipe_stack();
    collect();
    printf("session %llx\n",
           (unsigned long long)((volatile struct session *)reveal(hidden))->id);
    fflush(stdout);
}

static void use_after_free_child(void)
{
    struct tarn_options o;
    alarm(SUITE_WATCHDOG_SECONDS);
    tarn_options_init(&o);
    o.maxprocs = 1;
    CHECK_ST(tarn_main(&o, use_after_free, NULL), TARN_OK);
}

static void test_use_after_free(void)
{
    static char out[65536];
    harness_child(use_after_free_child, "TARN=clobberfree=1,seed=1", out,
                  sizeof out);
    CHECK_STR(out, "tarn: debug modes: clobberfree=1 (freed objects are filled "
                   "with 0xdeadbeefdeadbeef), seed=1\n");
    CHECK_STR(out, "session deadbeefdeadbeef\n");
    /* Without it the fault does not show. */
    harness_child(use_after_free_child, "TARN=", out, sizeof out);
    CHECK_STR(out, "session 1267\n");
}

int main(int argc, char **argv)
{
    harness_init(argc, argv);
    gc_run(body, 1, "clobberfree=1");
    gc_run(body, 4, "clobberfree=1,checkmark=1");
    gc_run(body, 4, "clobberfree=1,gcstress=64");
    gc_run(body, 4, "clobberfree=1,gcstress=64,checkmark=1");
    RUN(test_use_after_free);
    return harness_done();
}
