/* tests/test_profile.c - the heap profile: are its numbers those of the program? It is
 * read back by a small decoder of protocol buffers. */
#include "gcsuite.h"
#include "tarn/profile.h"

/* --- reading ------------------------------------------------------------------------ */

struct field {
    uint32_t number, wire;
    uint64_t value;   /* wire 0 */
    const uint8_t *p; /* wire 2 */
    size_t n;
};

static uint64_t varint(const uint8_t **p, const uint8_t *end)
{
    uint64_t v = 0;
    for (int shift = 0;; shift += 7) {
        CHECK(*p < end && shift < 64);
        uint8_t b = *(*p)++;
        v |= (uint64_t)(b & 0x7f) << shift;
        if (!(b & 0x80))
            return v;
    }
}

static bool next_field(const uint8_t **p, const uint8_t *end, struct field *f)
{
    if (*p == end)
        return false;
    uint64_t key = varint(p, end);
    f->number = (uint32_t)(key >> 3);
    f->wire = key & 7;
    CHECK(f->wire == 0 || f->wire == 2);
    f->value = varint(p, end);
    if (f->wire == 2) {
        CHECK_LE(f->value, (uint64_t)(end - *p));
        f->p = *p;
        f->n = f->value;
        *p += f->n;
    }
    return true;
}

#define MAX_PARTS 20000

static struct prof {
    uint8_t *file;
    size_t size;
    struct field string[MAX_PARTS], location[MAX_PARTS], function[MAX_PARTS];
    struct field sample[MAX_PARTS], type[8];
    size_t nstring, nlocation, nfunction, nsample, ntype, nmapping;
    uint64_t period, drop;
} * prof; /* mapped, so that it is no root */

static void add(struct field *to, size_t *n, size_t max, const struct field *f)
{
    CHECK_LT(*n, max);
    to[(*n)++] = *f;
}

static void *read_file(void *path)
{
    FILE *f = fopen(path, "rb");
    CHECK(f != NULL);
    CHECK(fseek(f, 0, SEEK_END) == 0);
    prof->size = (size_t)ftell(f);
    rewind(f);
    free(prof->file);
    prof->file = malloc(prof->size + 1);
    CHECK_EQ(fread(prof->file, 1, prof->size, f), prof->size);
    fclose(f);
    return NULL;
}

static void parse(void)
{
    struct prof *q = prof;
    const uint8_t *p = q->file, *end = p + q->size;
    struct field f;
    q->nstring = q->nlocation = q->nfunction = q->nsample = q->ntype = 0;
    q->nmapping = 0;
    while (next_field(&p, end, &f))
        switch (f.number) {
        case 1:
            add(q->type, &q->ntype, 8, &f);
            break;
        case 2:
            add(q->sample, &q->nsample, MAX_PARTS, &f);
            break;
        case 3:
            q->nmapping++;
            break;
        case 4:
            add(q->location, &q->nlocation, MAX_PARTS, &f);
            break;
        case 5:
            add(q->function, &q->nfunction, MAX_PARTS, &f);
            break;
        case 6:
            add(q->string, &q->nstring, MAX_PARTS, &f);
            break;
        case 12:
            q->period = f.value;
            break;
        default:
            CHECK_LT(f.number, 15u);
        }
}

static bool string_is(uint64_t i, const char *s)
{
    CHECK_LT(i, prof->nstring);
    const struct field *f = &prof->string[i];
    return f->n == strlen(s) && memcmp(f->p, s, f->n) == 0;
}

static uint64_t get(const struct field *m, uint32_t number, uint64_t none)
{
    struct field f;
    for (const uint8_t *p = m->p; next_field(&p, m->p + m->n, &f);)
        if (f.number == number && f.wire == 0)
            none = f.value;
    return none;
}

static bool get_message(const struct field *m, uint32_t number,
                        struct field *out)
{
    for (const uint8_t *p = m->p; next_field(&p, m->p + m->n, out);)
        if (out->number == number && out->wire == 2)
            return true;
    return false;
}

static bool location_is(uint64_t id, const char *function)
{
    CHECK(id > 0 && id <= prof->nlocation);
    const struct field *l = &prof->location[id - 1];
    struct field line;
    CHECK_EQ(get(l, 1, 0), id);
    if (!get_message(l, 4, &line))
        return false;
    uint64_t fn = get(&line, 1, 0);
    CHECK(fn > 0 && fn <= prof->nfunction);
    CHECK_EQ(get(&prof->function[fn - 1], 1, 0), fn);
    return string_is(get(&prof->function[fn - 1], 2, 0), function);
}

struct sums {
    uint64_t value[4]; /* allocated: objects, bytes; in use: objects, bytes */
    uint64_t samples;
};

/* Of all samples with function in their stack, and under it `caller`; NULL: any. */
static struct sums sums_of(const char *function, const char *caller)
{
    struct sums s = {0};
    for (size_t i = 0; i < prof->nsample; i++) {
        struct field where, values;
        CHECK(get_message(&prof->sample[i], 1, &where));
        CHECK(get_message(&prof->sample[i], 2, &values));
        bool found = function == NULL, called = caller == NULL;
        for (const uint8_t *p = where.p; p < where.p + where.n;) {
            uint64_t id = varint(&p, where.p + where.n);
            if (!found)
                found = location_is(id, function);
            else if (!called)
                called = location_is(id, caller);
        }
        if (!found || !called)
            continue;
        const uint8_t *p = values.p;
        for (int k = 0; k < 4; k++)
            s.value[k] += varint(&p, values.p + values.n);
        CHECK(p == values.p + values.n);
        s.samples++;
    }
    return s;
}

static char path[64];

static void take_profile(void)
{
    CHECK_ST(tarn_heap_profile_write(path), TARN_OK);
    tarn_native_call(read_file, path);
    parse();
    CHECK_EQ(prof->ntype, 4u);
    static const char *const names[4][2] = {{"alloc_objects", "count"},
                                            {"alloc_space", "bytes"},
                                            {"inuse_objects", "count"},
                                            {"inuse_space", "bytes"}};
    for (int i = 0; i < 4; i++)
        CHECK(string_is(get(&prof->type[i], 1, 0), names[i][0]) &&
              string_is(get(&prof->type[i], 2, 0), names[i][1]));
    CHECK_EQ(prof->string[0].n, 0u);
    CHECK_GE(prof->nmapping, 1u);
}

/* --- allocating ------------------------------------------------------------------------ */

#define INTERVAL 4096
enum { KEPT = 20000 };

static void **kept; /* managed */

__attribute__((noinline)) void profile_small(int i)
{
    void *p = tarn_alloc_bytes(64);
    CHECK(p != NULL);
    if (i >= 0)
        tarn_store(&kept[i], p);
}

__attribute__((noinline)) void profile_middle(void)
{
    CHECK(tarn_alloc_conservative(640) != NULL);
    __asm__ volatile(""); /* no jump instead of a call */
}

__attribute__((noinline)) void profile_large(void)
{
    CHECK(tarn_alloc_bytes(50000) != NULL);
    __asm__ volatile("");
}

__attribute__((noinline)) void profile_twice(int n)
{
    for (int i = 0; i < n; i++) {
        profile_small(-1);
        profile_small(-1);
    }
    __asm__ volatile("");
}

/* n objects of size bytes: how many samples there will be, and how far off the number
 * they stand for may be, by five times its deviation. */
static uint64_t slack(uint64_t n, uint64_t size)
{
    double p = sample_probability(INTERVAL, size),
           var = (double)n * (1 - p) / p;
    double sd = var > 1 ? var : 1;
    for (int i = 0; i < 60; i++) /* a root by Newton */
        sd = (sd + var / sd) / 2;
    return (uint64_t)(5 * sd) + 1;
}

#define CHECK_NEAR(got, want, by)                                              \
    do {                                                                       \
        uint64_t near_ = (by);                                                 \
        CHECK_LE((uint64_t)(got), (uint64_t)(want) + near_);                   \
        CHECK_GE((uint64_t)(got) + near_, (uint64_t)(want));                   \
    } while (0)

__attribute__((noinline)) static void some(void *wg)
{
    int n = sized(100000);
    for (int i = 0; i < n; i++) {
        profile_small(-1);
        if (i % 4 == 0)
            profile_middle();
        if (i % 100 == 0)
            profile_large();
    }
    if (wg != NULL)
        tarn_waitgroup_done(wg);
}

static void test_shares(void)
{
    static tarn_waitgroup wg;
    uint64_t n = (uint64_t)sized(100000), others = 3;
    /* Cached runs from before are no samples, and none is lost that follows. */
    some(NULL);
    CHECK_ST(tarn_heap_profile_start(INTERVAL), TARN_OK);
    tarn_waitgroup_add(&wg, (int)others);
    for (uint64_t i = 0; i < others; i++)
        go(some, &wg);
    some(NULL);
    profile_twice((int)n);
    tarn_waitgroup_wait(&wg);
    CHECK_ST(tarn_heap_profile_stop(), TARN_OK);
    some(NULL);
    take_profile();
    CHECK_EQ(prof->period, (uint64_t)INTERVAL);
    uint64_t want = (others + 1) * n;
    struct sums s = sums_of("profile_small", "some");
    CHECK_GT(s.samples, 0u);
    CHECK_NEAR(s.value[0], want, slack(want, 64));
    CHECK_EQ(s.value[1], s.value[0] * 64);
    s = sums_of("profile_small", "profile_twice");
    CHECK_NEAR(s.value[0], 2 * n, slack(2 * n, 64));
    s = sums_of("profile_small", NULL);
    CHECK_NEAR(s.value[0], want + 2 * n, slack(want + 2 * n, 64));
    s = sums_of("profile_middle", "some");
    CHECK_NEAR(s.value[0], want / 4, slack(want / 4, 640));
    s = sums_of("profile_large", "some");
    CHECK_NEAR(s.value[0], want / 100, slack(want / 100, 50000));
    CHECK_EQ(s.value[1], s.value[0] * 50000);
    printf("     %zu places, %zu addresses, %zu functions\n", prof->nsample,
           prof->nlocation, prof->nfunction);
}

/* Nothing that an object does at its end keeps it from the count. */
__attribute__((noinline)) static void test_in_use(void)
{
    tarn_store(&kept, tarn_alloc_conservative(KEPT * sizeof *kept));
    CHECK(kept != NULL);
    CHECK_ST(tarn_heap_profile_start(INTERVAL), TARN_OK);
    int n = sized(KEPT);
    for (int i = 0; i < n; i++) {
        profile_small(i);
        profile_small(-1);
    }
    wipe_stack();
    collect();
    take_profile();
    struct sums s = sums_of("profile_small", "test_in_use");
    uint64_t want = (uint64_t)n;
    CHECK_NEAR(s.value[0], 2 * want, slack(2 * want, 64));
    /* Some of the others may seem to be alive: words of stacks. */
    CHECK_NEAR(s.value[2], want, slack(want, 64) + 256);
    CHECK_EQ(s.value[3], s.value[2] * 64);
    gc_collect_young();
    for (int i = 0; i < n / 2; i++)
        tarn_store(&kept[i], NULL);
    wipe_stack();
    collect();
    take_profile();
    s = sums_of("profile_small", "test_in_use");
    CHECK_NEAR(s.value[2], want / 2, slack(want / 2, 64) + 256);
    tarn_clear(kept, KEPT * sizeof *kept);
    CHECK_ST(tarn_heap_profile_stop(), TARN_OK);
    wipe_stack();
    collect();
    take_profile();
    s = sums_of("profile_small", "test_in_use");
    CHECK_NEAR(s.value[0], 2 * want, slack(2 * want, 64));
    CHECK_LE(s.value[2], 256u); /* four samples */
    tarn_store(&kept, NULL);
}

/* With interval 1 all is exact. */
__attribute__((noinline)) static void test_every_one(void)
{
    CHECK_ST(tarn_heap_profile_start(1), TARN_OK);
    for (int i = 0; i < 1000; i++)
        profile_small(-1);
    for (int i = 0; i < 30; i++)
        profile_large();
    take_profile();
    struct sums s = sums_of("profile_small", "test_every_one");
    CHECK_EQ(s.value[0], 1000u);
    CHECK_EQ(s.value[1], 64000u);
    CHECK_EQ(sums_of("profile_large", "test_every_one").value[0], 30u);
    CHECK_ST(tarn_heap_profile_stop(), TARN_OK);
    for (int i = 0; i < 1000; i++)
        profile_small(-1);
    take_profile();
    CHECK_EQ(sums_of("profile_small", NULL).value[0], 1000u);
    CHECK_EQ(heap.sample_interval, 0u);
    /* The next one knows nothing of this. */
    CHECK_ST(tarn_heap_profile_start(1), TARN_OK);
    CHECK_ST(tarn_heap_profile_stop(), TARN_OK);
    collect(); /* samples of the one before die */
    take_profile();
    CHECK_EQ(sums_of("profile_small", NULL).value[0], 0u);
}

static struct {
    tarn_waitgroup wg;
    uint32_t first; /* number of the first new P */
    int n;
    _Atomic bool enough;
} on_new;

/* Allocates when it runs on a new P, and all others keep theirs busy. */
__attribute__((noinline)) static void on_new_p(void *unused)
{
    (void)unused;
    while (!atomic_load(&on_new.enough)) {
        struct m *mp = acquirem();
        bool mine = mp->p->id == on_new.first;
        for (int i = 0; mine && on_new.n > 0; i++, on_new.n--)
            profile_small(-1);
        releasem(mp);
        if (mine)
            atomic_store(&on_new.enough, true);
        tarn_yield();
    }
    tarn_waitgroup_done(&on_new.wg);
}

/* Ps that come while a profile is being made: what they allocate counts as well. */
static void test_more_procs(void)
{
    if (options.gcstress != 0)
        SKIP("collects while a P is held");
    uint64_t n = (uint64_t)sized(10000);
    uint32_t was = nprocs;
    on_new.first = atomic_load(&nallp);
    on_new.n = (int)n;
    atomic_store(&on_new.enough, false);
    CHECK_ST(tarn_heap_profile_start(INTERVAL), TARN_OK);
    CHECK_ST(tarn_set_procs((int)on_new.first + 1), TARN_OK);
    tarn_waitgroup_add(&on_new.wg, (int)on_new.first + 1);
    for (uint32_t i = 0; i <= on_new.first; i++)
        go(on_new_p, NULL);
    tarn_waitgroup_wait(&on_new.wg);
    CHECK_ST(tarn_heap_profile_stop(), TARN_OK);
    take_profile();
    struct sums s = sums_of("profile_small", "on_new_p");
    CHECK_NEAR(s.value[0], n, slack(n, 64));
    CHECK_ST(tarn_set_procs((int)was), TARN_OK);
}

static void many_large(void *wg)
{
    for (int i = sized(10000); i > 0; i--)
        profile_large();
    tarn_waitgroup_done(wg);
}

/* Each is a span whose first special comes, and whose last one goes when it is swept:
 * all at the same time. */
static void test_first_and_last(void)
{
    static tarn_waitgroup wg;
    enum { GOROUTINES = 8 };
    CHECK_ST(tarn_heap_profile_start(1), TARN_OK);
    tarn_waitgroup_add(&wg, GOROUTINES);
    for (int i = 0; i < GOROUTINES; i++)
        go(many_large, &wg);
    tarn_waitgroup_wait(&wg);
    CHECK_ST(tarn_heap_profile_stop(), TARN_OK);
    take_profile();
    uint64_t want = GOROUTINES * (uint64_t)sized(10000);
    CHECK_EQ(sums_of("profile_large", "many_large").value[0], want);
}

static _Atomic bool restart_enough;

static void restarts(void *wg)
{
    for (int i = 0; !atomic_load(&restart_enough); i++) {
        CHECK_ST(tarn_heap_profile_start(i % 2 ? 1 : 1 << 20), TARN_OK);
        for (int k = i % 2 ? 10 : sized(50000); k > 0; k--)
            profile_small(-1);
        CHECK_ST(tarn_heap_profile_stop(), TARN_OK);
    }
    tarn_waitgroup_done(wg);
}

/* A file is of one profile, also when the next one begins while it is written. */
static void test_restarts(void)
{
    static tarn_waitgroup wg;
    CHECK_ST(tarn_heap_profile_start(1), TARN_OK);
    CHECK_ST(tarn_heap_profile_stop(), TARN_OK);
    atomic_store(&restart_enough, false);
    tarn_waitgroup_add(&wg, 1);
    go(restarts, &wg);
    int exact = 0;
    for (int i = 0; i < sized(100); i++) {
        take_profile();
        if (prof->period != 1)
            continue;
        CHECK_LE(sums_of("profile_small", NULL).value[0], 10u);
        exact++;
    }
    atomic_store(&restart_enough, true);
    tarn_waitgroup_wait(&wg);
    printf("     %d of %d files of the exact profile\n", exact, sized(100));
}

static void test_refused(void)
{
    CHECK_ST(tarn_heap_profile_stop(), TARN_ESTATE);
    CHECK_ST(tarn_heap_profile_start(0), TARN_OK);
    CHECK_ST(tarn_heap_profile_start(0), TARN_ESTATE);
    CHECK_STR(tarn_last_error(), "already");
    CHECK_ST(tarn_heap_profile_write(NULL), TARN_EINVAL);
    CHECK_ST(tarn_heap_profile_write("/nowhere/at/all"), TARN_ESYS);
    CHECK_STR(tarn_last_error(), "/nowhere/at/all: No such file or directory");
    CHECK_ST(tarn_heap_profile_write("/dev/full"), TARN_ESYS);
    CHECK_ST(tarn_world_stop(), TARN_OK);
    CHECK_ST(tarn_heap_profile_start(0), TARN_ESTATE);
    CHECK_ST(tarn_heap_profile_stop(), TARN_ESTATE);
    CHECK_ST(tarn_heap_profile_write(path), TARN_ESTATE);
    CHECK_ST(tarn_world_start(), TARN_OK);
    CHECK_ST(tarn_heap_profile_stop(), TARN_OK);
    CHECK_ST(tarn_heap_profile_write(path), TARN_OK);
    unlink(path);
}

static void unstarted(void *unused)
{
    (void)unused;
    CHECK_ST(tarn_heap_profile_write(path), TARN_ESTATE);
}

static void test_unstarted(void)
{
    CHECK_ST(tarn_heap_profile_write(path), TARN_ESTATE);
    CHECK_ST(tarn_heap_profile_start(0), TARN_ESTATE);
    CHECK_ST(tarn_heap_profile_stop(), TARN_ESTATE);
    struct tarn_options o;
    tarn_options_init(&o);
    CHECK_ST(tarn_main(&o, unstarted, NULL), TARN_OK);
}

static void in_child(void)
{
    RUN(test_unstarted);
}

static void body(void)
{
    RUN(test_shares);
    RUN(test_in_use);
    RUN(test_every_one);
    RUN(test_more_procs);
    RUN(test_first_and_last);
    RUN(test_restarts);
    RUN(test_refused);
}

int main(int argc, char **argv)
{
    static char out[4096], opts[64];
    harness_init(argc, argv);
    prof = mmap(NULL, sizeof *prof, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(prof != MAP_FAILED);
    snprintf(path, sizeof path, "/tmp/tarn-profile-%d.pb", (int)getpid());
    int st = harness_child(in_child, NULL, out, sizeof out);
    CHECK(WIFEXITED(st) && WEXITSTATUS(st) == 0);
    snprintf(opts, sizeof opts, "seed=%llu",
             (unsigned long long)(harness_seed >> 1));
    gc_run(body, 1, opts);
    gc_run(body, 4, opts);
    unlink(path);
    return harness_done();
}
