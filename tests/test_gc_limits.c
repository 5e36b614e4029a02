/* tests/test_gc_limits.c - the heap where it is small, large, or refused memory by
 * the kernel: address space and data limits, the smallest heaps, objects of 4 GiB,
 * long lists, huge arrays, the option memlimit.
 *
 * Sizes are of a release build; in a debug build, which verifies the heap at each
 * mark, they are a thirtieth, and less under sanitizers. TARN_TEST_PERCENT=N takes N
 * percent of them instead. What needs more memory than there is is skipped.
 * TARN_TEST_STRICT=1 also asks that memlimit is kept at all times. */
#include <sys/resource.h>

#include "base/options.h"
#include "gcnodes.h"

#define MiB ((size_t)1 << 20)
#define GiB ((size_t)1 << 30)

static char out[65536];

/* --- what there is ------------------------------------------------------------- */

static size_t big(size_t n)
{
    size_t percent = TARN_TSAN || TARN_ASAN ? 1 : TARN_CHECKS >= 3 ? 3 : 100;
    const char *e = getenv("TARN_TEST_PERCENT");
    if (e != NULL && atoi(e) > 0)
        percent = (size_t)atoi(e);
    return n * percent / 100 / 5 * (size_t)harness_reps(5);
}

/* A number of kB behind a word in a file of /proc; 0: not there. */
static size_t proc_bytes(const char *file, const char *word)
{
    char line[256];
    size_t kb = 0;
    FILE *f = fopen(file, "r");
    CHECK(f != NULL);
    while (fgets(line, sizeof line, f) != NULL)
        if (strncmp(line, word, strlen(word)) == 0)
            kb = strtoull(line + strlen(word), NULL, 10);
    fclose(f);
    return kb << 10;
}

static size_t resident(void)
{
    return proc_bytes("/proc/self/status", "VmRSS:");
}

/* A quarter more than what is said to be needed: others run beside. */
static bool memory_for(size_t n)
{
    return proc_bytes("/proc/meminfo", "MemAvailable:") > n + n / 4;
}

static struct tarn_gc_stats stats(void)
{
    struct tarn_gc_stats s = {.struct_size = sizeof s};
    CHECK_ST(tarn_gc_stats(&s), TARN_OK);
    return s;
}

static void error_has(const char *needle)
{
    if (strstr(tarn_last_error(), needle) == NULL)
        fprintf(stderr, "error is \"%s\", lacks \"%s\"\n", tarn_last_error(),
                needle);
    CHECK(strstr(tarn_last_error(), needle) != NULL);
}

/* A collection of the kind that the pacer chooses: young, as a rule, where few of
 * the young live. */
static void collect_some(void)
{
    for (uint64_t c = atomic_load(&gc.cycles); atomic_load(&gc.cycles) == c;) {
        gc_request();
        tarn_yield();
    }
}

/* --- lists --------------------------------------------------------------------- */

/* Pushes nodes with ids from..to-1; false when one was refused. */
__attribute__((noinline)) static bool push(struct node **list, uint64_t from,
                                           uint64_t to)
{
    for (uint64_t id = from; id < to; id++) {
        struct node *n = tarn_alloc(t_node);
        if (n == NULL)
            return false;
        n->id = id;
        n->check = mix(id);
        tarn_store(&n->next, *list);
        tarn_store(list, n);
    }
    return true;
}

/* That they are all there, in order, ids 0..n-1. */
__attribute__((noinline)) static void check_list(struct node *const *list,
                                                 uint64_t n)
{
    const struct node *p = *list;
    for (; p != NULL; p = p->next) {
        CHECK_EQ(p->id, --n);
        CHECK_EQ(p->check, mix(p->id));
    }
    CHECK_EQ(n, 0);
}

/* Conservative objects of n bytes until one is refused; how many. */
__attribute__((noinline)) static size_t fill(void ***list, size_t n)
{
    for (size_t count = 0;; count++) {
        void **p = tarn_alloc_conservative(n);
        if (p == NULL)
            return count;
        tarn_store(p, *list);
        tarn_store(list, p);
    }
}

__attribute__((noinline)) static size_t length(void **list)
{
    size_t n = 0;
    for (; list != NULL; list = *list)
        n++;
    return n;
}

/* --- limits refused by the kernel ------------------------------------------------ */

static size_t limit_of_address_space;

static void use_and_exhaust(void *unused)
{
    (void)unused;
    void ***root = new_shared(sizeof *root);
    size_t reserved = heap.hi - heap.lo;
    CHECK_GE(reserved, 16 * MiB);
    CHECK_LE(reserved, limit_of_address_space);
    size_t n[3];
    for (int i = 0; i < 3; i++) {
        n[i] = fill(root, 5000);
        error_has("out of memory: 5000 bytes, with ");
        CHECK_GE(n[i] * 5000, reserved / 2);
        CHECK_EQ(length(*root), n[i]);
        tarn_store(root, NULL);
        wipe_stack();
        collect();
    }
    CHECK(tarn_alloc_bytes(reserved / 2) != NULL);
    printf("done with %zu MiB of heap\n", reserved / MiB);
}

static void limit(int which, size_t n)
{
    struct rlimit r;
    CHECK_EQ(getrlimit(which, &r), 0);
    r.rlim_cur = n;
    CHECK_EQ(setrlimit(which, &r), 0);
}

static void address_space_child(void)
{
    struct tarn_options o;
    alarm(SUITE_WATCHDOG_SECONDS);
    tarn_options_init(&o);
    o.maxprocs = 2;
    limit(RLIMIT_AS, limit_of_address_space);
    tarn_status st = tarn_main(&o, use_and_exhaust, NULL);
    if (st == TARN_OK)
        return;
    /* Without memory for all of the runtime there is none. */
    CHECK(st == TARN_ENOMEM || st == TARN_ESYS);
    CHECK_GT(strlen(tarn_last_error()), 10);
    printf("not started: %s\n", tarn_last_error());
}

static bool ended_well(int st)
{
    return WIFEXITED(st) && WEXITSTATUS(st) == 0;
}

/* From too little for anything to plenty: the reservation falls back, and below
 * that tarn_main fails; in between lies what is too little for threads, which may
 * end the process with a message. */
static void test_address_space(void)
{
    if (TARN_ASAN || TARN_TSAN)
        SKIP("a sanitizer needs address space without end");
    int did[3] = {0};
    size_t used = proc_bytes("/proc/self/status", "VmSize:");
    for (size_t n = 8 * MiB; n <= 700 * MiB; n += n / 2) {
        limit_of_address_space = used + n;
        int st = harness_child(address_space_child, NULL, out, sizeof out);
        int is = -1;
        if (ended_well(st) && strstr(out, "done with "))
            is = 0;
        else if (ended_well(st) && strstr(out, "not started: "))
            is = 1;
        else if (strstr(out, "tarn: fatal: ") && !strstr(out, "assertion") &&
                 (strstr(out, "memory") || strstr(out, "thread")))
            is = 2;
        /* With plenty it must work: mimalloc takes 32 MiB for each of some six threads,
         * and twice that to align them. */
        bool plenty = n >= 400 * MiB;
        if (is < 0 || (plenty && is > 0))
            fprintf(stderr, "%zu MiB of addresses: status %#x\n%s\n", n / MiB,
                    (unsigned)st, out);
        CHECK_GE(is, 0);
        did[is]++;
        if (plenty)
            CHECK_EQ(is, 0);
    }
    CHECK_GT(did[0], 0);
    CHECK_GT(did[1], 0);
    printf("     went well %d, not started %d, said why %d\n", did[0], did[1],
           did[2]);
}

static int64_t oom;

static size_t data_bytes(void)
{
    return proc_bytes("/proc/self/status", "VmData:");
}

/* The kernel refuses to make more of the reservation writable. */
static void grow_against_limit(void *unused)
{
    (void)unused;
    void ***root = new_shared(sizeof *root);
    register_types();
    collect();
    for (int round = 0; round < 3; round++) {
        limit(RLIMIT_DATA, data_bytes() + 24 * MiB);
        size_t n = fill(root, 30000);
        error_has("out of memory: 30000 bytes, with ");
        CHECK_GE(n * 30000, 8 * MiB);
        CHECK_LT(atomic_load(&heap.live), (heap.hi - heap.lo) / 2);
        CHECK(tarn_alloc_bytes(64 * MiB) == NULL);
        error_has("out of memory: 67108864 bytes");
        /* The program goes on with what it has. */
        CHECK_EQ(length(*root), n);
        tarn_store(root, NULL);
        wipe_stack();
        collect();
        struct node **list = new_shared(sizeof *list);
        CHECK(push(list, 0, 50000));
        check_list(list, 50000);
        limit(RLIMIT_DATA, RLIM_INFINITY);
        CHECK(tarn_alloc_bytes(64 * MiB) != NULL);
    }
    printf("done\n");
}

static void data_child(void)
{
    struct tarn_options o;
    alarm(SUITE_WATCHDOG_SECONDS);
    tarn_options_init(&o);
    /* One P needs no thread later on, which might be refused, too. */
    o.maxprocs = 1;
    o.oom = oom;
    CHECK_ST(tarn_main(&o, grow_against_limit, NULL), TARN_OK);
}

static void test_growth_refused(void)
{
    if (TARN_ASAN || TARN_TSAN)
        SKIP("a sanitizer needs memory of its own");
    oom = TARN_OOM_NULL;
    int st = harness_child(data_child, NULL, out, sizeof out);
    if (!ended_well(st))
        fprintf(stderr, "%s\n", out);
    CHECK(ended_well(st));
    CHECK_STR(out, "done");
    oom = TARN_OOM_THROW;
    CHECK_THROWS(data_child, NULL,
                 "tarn: fatal: out of memory: 30000 bytes, with ");
}

/* --- small heaps ------------------------------------------------------------------- */

/* On a goroutine of its own: what is left on its stack keeps nothing. */
static struct {
    void ***root;
    size_t of, n;
    tarn_waitgroup done;
} filling;

static void fill_once(void *unused)
{
    (void)unused;
    filling.n = fill(filling.root, filling.of);
    error_has("of heapmax 16777216");
    CHECK_EQ(length(*filling.root), filling.n);
    tarn_waitgroup_done(&filling.done);
}

/* The same fits in each time, whatever was there before. */
static void smallest(void)
{
    void ***root = new_shared(sizeof *root);
    filling.root = root;
    static const size_t of[] = {16, 40, 1000, 32768, 100000, 3000000};
    for (size_t i = 0; i < ARRAY_LEN(of); i++) {
        size_t least = SIZE_MAX, most = 0;
        for (int round = 0; round < 4; round++) {
            filling.of = of[i];
            tarn_waitgroup_add(&filling.done, 1);
            CHECK_ST(tarn_go(fill_once, NULL), TARN_OK);
            tarn_waitgroup_wait(&filling.done);
            size_t n = filling.n;
            tarn_store(root, NULL);
            collect();
            least = n < least ? n : least;
            most = n > most ? n : most;
        }
        CHECK_GE(least, most - most / 8);
        CHECK_GE(least * of[i], 11 * MiB);
    }
    filling.root = NULL;
    CHECK_LE(stats().heap_bytes, MiB);
}

/* More than half of the heap lives. Who makes one short-lived object after the other
 * is refused none of them, whatever its neighbours do at the time. */
static tarn_waitgroup makers;

static void make_brief(void *vid)
{
    uint64_t rng = seed_of(0x900 + (uintptr_t)vid);
    for (int i = 0; i < scaled(40000); i++) {
        size_t n = below(&rng, 100) < 97 ? 16 + below(&rng, 2000)
                                         : 40000 + below(&rng, 60000);
        char *p = tarn_alloc_bytes(n);
        CHECK(p != NULL);
        p[0] = p[n - 1] = 1;
    }
    tarn_waitgroup_done(&makers);
}

static void half_full(void)
{
    if (t_node == NULL)
        register_types();
    struct node **list = new_shared(sizeof *list);
    CHECK(push(list, 0, (9 * MiB) / sizeof(struct node)));
    tarn_waitgroup_add(&makers, 4);
    for (uintptr_t i = 0; i < 4; i++)
        CHECK_ST(tarn_go(make_brief, (void *)i), TARN_OK);
    tarn_waitgroup_wait(&makers);
    check_list(list, (9 * MiB) / sizeof(struct node));
    CHECK_LE(stats().heap_goal_bytes, 16 * MiB);
}

/* Holes that allocation leaves alone while there is memory are used before a call
 * fails: of what was let go nearly all can be had again. */
__attribute__((noinline)) static size_t drop_some(void **list)
{
    size_t n = 0, dropped = 0;
    for (; list != NULL; n++) {
        void **next = *list;
        if (n % 3 == 0 && next != NULL) {
            tarn_store(list, *next);
            next = *list;
            dropped++;
        }
        list = next;
    }
    return dropped;
}

static void holes(void)
{
    for (size_t size = 16; size <= 128; size *= 2) {
        void ***list = new_shared(sizeof *list);
        size_t all = fill(list, size);
        CHECK_GE(all * size, 8 * MiB);
        size_t dropped = drop_some(*list);
        CHECK_GE(dropped, all / 5);
        wipe_stack();
        collect();
        CHECK_GE(fill(list, size), dropped / 10 * 9);
        error_has("out of memory: ");
        CHECK_GE(length(*list), all - dropped / 10);
        tarn_store(list, NULL);
        wipe_stack();
        collect();
    }
}

/* Nor is anything kept by the runtime's own variables, the first object of all
 * among them, at the address where the heap begins. */
__attribute__((noinline)) static uint64_t hidden_first(void)
{
    struct objinfo o;
    for (int i = 0; !heap_find(heap.lo, &o); i++) {
        CHECK_LT(i, 100);
        CHECK(tarn_alloc_conservative((size_t)16 << (i % 8)) != NULL);
    }
    CHECK_EQ(o.base, heap.lo);
    return hide((void *)o.base);
}

/* Nor what a call for a message left behind where that was formatted: on stacks that
 * are own data. */
__attribute__((noinline)) static uint64_t leave_at(uintptr_t *word)
{
    *word = (uintptr_t)tarn_alloc_bytes(64);
    return hide((void *)*word);
}

static void side_stack_in(uintptr_t lo, uintptr_t hi)
{
    for (uintptr_t at = lo + 64; at < hi; at += (hi - lo) / 16 / 8 * 8) {
        uintptr_t before = *(uintptr_t *)at;
        uint64_t hidden = leave_at((uintptr_t *)at);
        wipe_stack();
        collect();
        CHECK(!alive(hidden));
        *(uintptr_t *)at = before;
    }
}

static void side_stack(void)
{
    int stacks = 0;
    for (size_t i = 0; i < own_data_count; i++)
        if (on_side_stack((void *)own_data[i].lo)) {
            stacks++;
            side_stack_in(own_data[i].lo, own_data[i].hi);
        }
    CHECK_GT(stacks, 0);
}

static void first_object(void)
{
    volatile uint64_t hidden = hidden_first();
    for (int i = 0; i < 20 && alive(hidden); i++) {
        wipe_stack();
        collect();
    }
    CHECK(!alive(hidden));
}

/* Nearly nothing lives, and a collection may begin at 64 KiB: it is made for each
 * step of allocation that is worth one, not for less. */
static void one_page(void)
{
    struct node **list = new_shared(sizeof *list);
    CHECK(push(list, 0, 200));
    struct tarn_gc_stats s0 = stats();
    for (int i = 0; i < scaled(1 << 20); i++)
        CHECK(tarn_alloc_bytes(64) != NULL);
    struct tarn_gc_stats s = stats();
    uint64_t allocated = s.alloc_bytes - s0.alloc_bytes;
    uint64_t cycles = s.cycles - s0.cycles;
    check_list(list, 200);
    printf("     %" PRIu64 " collections for %" PRIu64 " KiB, %" PRIu64
           " KiB mapped\n",
           cycles, allocated >> 10, s.heap_mapped_bytes >> 10);
    CHECK_GT(cycles, 0);
    CHECK_LE(cycles, allocated >> 15);
    /* How far allocation runs ahead is the machine's business; what it took is
     * given back. */
    collect();
    collect();
    CHECK_LE(stats().heap_mapped_bytes, 16 * MiB);
}

static void body_smallest(void)
{
    RUN(first_object);
    RUN(side_stack);
    RUN(smallest);
    RUN(holes);
    RUN(half_full);
}

static void body_one_page(void)
{
    register_types();
    RUN(one_page);
}

/* --- an object of 4 GiB -------------------------------------------------------------- */

#define HUGE (4 * GiB)
#define FEW                                                                    \
    (TARN_ASAN || TARN_TSAN ? SIZE_MAX / 2 : 256 * MiB) /* shadows count */

/* Volatile: what is revealed must not stay in a register. */
static volatile uint64_t hidden[4];

/* Not a byte of what is not used is touched. */
__attribute__((noinline)) static void huge_bytes_made(char **root)
{
    size_t before = resident();
    char *p = tarn_alloc_bytes(HUGE);
    CHECK(p != NULL);
    static const size_t at[] = {0, HUGE / 2 - 1, HUGE / 2, HUGE - 1};
    for (size_t i = 0; i < ARRAY_LEN(at); i++) {
        CHECK_EQ(p[at[i]], 0);
        p[at[i]] = (char)(i + 1);
    }
    CHECK_LE(resident(), before + FEW);
    CHECK(tarn_object_base(p + HUGE - 1) == p);
    CHECK(tarn_object_base(p + HUGE) != p);
    CHECK_EQ(tarn_object_size(p + 1), HUGE);
    hidden[0] = hide(p);
    /* By its last byte alone. */
    tarn_store(root, p + HUGE - 1);
}

__attribute__((noinline)) static void huge_bytes_used(char **root)
{
    const char *p = *root - (HUGE - 1);
    CHECK(p[0] == 1 && p[HUGE / 2 - 1] == 2 && p[HUGE / 2] == 3);
    CHECK_EQ(p[HUGE - 1], 4);
}

static void huge_bytes(void)
{
    if (heap.hi - heap.lo < 3 * HUGE)
        SKIP("not enough address space");
    char **root = new_shared(sizeof *root);
    for (int round = 0; round < 2; round++) {
        huge_bytes_made(root);
        wipe_stack();
        size_t before = resident();
        collect();
        collect_some();
        huge_bytes_used(root);
        CHECK(alive(hidden[0]));
        CHECK_GE(stats().heap_bytes, HUGE);
        CHECK_LE(resident(), before + FEW);
        tarn_store(root, NULL);
        wipe_stack();
        collect();
        CHECK(!alive(hidden[0]));
        CHECK_LE(stats().heap_bytes, FEW);
    }
    collect();
    /* Metadata stays: 1/16, not touched either. */
    CHECK_LE(stats().heap_mapped_bytes, HUGE / 8);
}

__attribute__((noinline)) static void huge_words_made(void ***root)
{
    void **p = tarn_alloc_conservative(HUGE);
    CHECK(p != NULL);
    tarn_store(root, p);
    for (uint64_t i = 0; i < 3; i++) {
        struct node *n = new_node(i);
        hidden[i] = hide(n);
        tarn_store(&p[i * (HUGE / 8 - 1) / 2], n);
    }
    hidden[3] = hide(new_node(3)); /* of nobody */
}

__attribute__((noinline)) static void huge_words_used(void ***root)
{
    void **p = *root;
    for (uint64_t i = 0; i < 3; i++)
        check_node(p[i * (HUGE / 8 - 1) / 2], i);
    tarn_store(&p[HUGE / 8 - 1], NULL);
}

/* All of it has to be read, none of it to become resident. */
static void huge_words(void)
{
    if (heap.hi - heap.lo < 3 * HUGE)
        SKIP("not enough address space");
    void ***root = new_shared(sizeof *root);
    size_t before = resident();
    huge_words_made(root);
    wipe_stack();
    collect_some();
    for (int i = 0; i < 2; i++) {
        collect();
        for (int k = 0; k < 3; k++)
            CHECK(alive(hidden[k]));
        CHECK(!alive(hidden[3]));
    }
    CHECK_LE(resident(), before + FEW);
    huge_words_used(root);
    wipe_stack();
    collect();
    CHECK(alive(hidden[0]) && alive(hidden[1]) && !alive(hidden[2]));
    tarn_store(root, NULL);
    wipe_stack();
    collect();
    CHECK(!alive(hidden[0]) && !alive(hidden[1]));
}

static void body_huge(void)
{
    register_types();
    RUN(huge_bytes);
    RUN(huge_words);
}

/* --- a list of 50 million nodes ------------------------------------------------------ */

static void long_list(void)
{
    size_t n = big(50000000), bytes = n * sizeof(struct node);
    if (!memory_for(bytes + bytes / 8))
        SKIP("not enough memory");
    struct node **list = new_shared(sizeof *list);
    struct tarn_gc_stats s0 = stats();
    size_t resident0 = resident();
    int64_t t0 = nanotime();
    CHECK(push(list, 0, n));
    int64_t t1 = nanotime();
    collect();
    int64_t t2 = nanotime();
    struct tarn_gc_stats s = stats();
    check_list(list, n);
    CHECK_GE(s.heap_bytes, bytes);
    CHECK_LE(s.heap_bytes, bytes + s0.heap_bytes + 8 * MiB);
    /* The map is 1/16; some free memory is kept for the next cycle. */
    CHECK_LE(s.heap_mapped_bytes, bytes + bytes / 2 + 64 * MiB);
    tarn_store(list, NULL);
    wipe_stack();
    int64_t t3 = nanotime();
    collect();
    int64_t t4 = nanotime();
    /* The second one's goal is that of an empty heap. */
    collect();
    struct tarn_gc_stats e = stats();
    printf("     %zu nodes: built in %.2f s with %" PRIu64 " collections, "
           "collected in %.2f s, freed in %.2f s; %zu MiB mapped, then %zu\n",
           n, (double)(t1 - t0) / 1e9, s.cycles - s0.cycles - 1,
           (double)(t2 - t1) / 1e9, (double)(t4 - t3) / 1e9,
           (size_t)s.heap_mapped_bytes / MiB,
           (size_t)e.heap_mapped_bytes / MiB);
    CHECK_LE(e.heap_bytes, s0.heap_bytes + 8 * MiB);
    CHECK_LE(e.heap_mapped_bytes, s0.heap_mapped_bytes + bytes / 8 + 16 * MiB);
    if (!TARN_ASAN && !TARN_TSAN)
        CHECK_LE(resident(), resident0 + bytes / 4 + 32 * MiB);
}

static void body_list(void)
{
    register_types();
    RUN(long_list);
}

/* --- an array of 100 million pointers -------------------------------------------------- */

#define PLACES 4096
static struct places {
    size_t index[PLACES];
    uint64_t id[PLACES];
} places;
static _Atomic bool stop_storing;
static tarn_waitgroup storing;
static size_t array_length;

/* Stores new nodes all over the array. Others do not look meanwhile. */
static void storer(void *varray)
{
    struct node **array = varray;
    uint64_t rng = seed_of(0x57);
    uint64_t id = PLACES;
    while (!atomic_load(&stop_storing)) {
        uint32_t k = below(&rng, PLACES);
        struct node *n = new_node(++id);
        tarn_store(&array[places.index[k]], n);
        places.id[k] = id;
        tarn_poll();
    }
    tarn_waitgroup_done(&storing);
}

static void check_places(struct node **array)
{
    for (size_t k = 0; k < PLACES; k++)
        check_node(array[places.index[k]], places.id[k]);
}

static _Atomic bool stop_collecting;

static void collector(void *unused)
{
    (void)unused;
    for (int i = 0; !atomic_load(&stop_collecting); i++) {
        if (i % 4 == 0)
            collect();
        else
            collect_some();
    }
    tarn_waitgroup_done(&storing);
}

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

#define STOPS 40

/* Stops of the world beside marks; the middle one's time, and how much was marked
 * while it was waited for. */
static void stops(uint64_t *ns, uint64_t *marked)
{
    static uint64_t took[STOPS], work[STOPS];
    int beside = 0;
    for (int i = 0; i < STOPS; i++) {
        for (int tries = 0; !marking() && tries < 100000; tries++)
            tarn_yield();
        beside += marking();
        uint64_t before = atomic_load(&gc.scanned_bytes);
        int64_t t0 = nanotime();
        CHECK_ST(tarn_world_stop(), TARN_OK);
        took[i] = (uint64_t)(nanotime() - t0);
        work[i] = atomic_load(&gc.scanned_bytes) - before;
        CHECK_ST(tarn_world_start(), TARN_OK);
    }
    CHECK_GT(beside, 0);
    qsort(took, STOPS, sizeof took[0], by_size);
    qsort(work, STOPS, sizeof work[0], by_size);
    *ns = took[STOPS / 2];
    *marked = work[STOPS / 2];
}

static void array_of(size_t n, uint64_t *ns, uint64_t *marked)
{
    uint64_t map = 1;
    struct tarn_type_info info = {"pointer", sizeof(void *), &map, NULL};
    static tarn_type *t_pointer;
    if (t_pointer == NULL)
        t_pointer = tarn_type_register(&info);
    struct node ***root = new_shared(sizeof *root);
    struct node **array = tarn_alloc_array(t_pointer, n);
    CHECK(array != NULL);
    tarn_store(root, array);
    array_length = n;
    /* Few objects, and every word of it is written. */
    struct node *few[16];
    for (uint64_t i = 0; i < ARRAY_LEN(few); i++)
        few[i] = new_node(i);
    for (size_t i = 0; i < n; i++)
        tarn_store(&array[i], few[i % ARRAY_LEN(few)]);
    /* The first and the last one, and between them at random. */
    uint64_t rng = seed_of(0x41);
    for (size_t k = 0; k < PLACES; k++) {
        size_t lo = n / PLACES * k;
        size_t at = k == 0 ? 0
                    : k == PLACES - 1
                        ? n - 1
                        : lo + below(&rng, (uint32_t)(n / PLACES));
        places.index[k] = at;
        places.id[k] = array[at]->id;
    }
    collect_some();
    check_places(array);
    atomic_store(&stop_storing, false);
    atomic_store(&stop_collecting, false);
    tarn_waitgroup_add(&storing, 2);
    go(storer, array);
    go(collector, NULL);
    uint64_t young = stats().cycles_young;
    stops(ns, marked);
    while (stats().cycles_young < young + 2)
        tarn_yield();
    atomic_store(&stop_storing, true);
    atomic_store(&stop_collecting, true);
    tarn_waitgroup_wait(&storing);
    check_places(array);
    collect_some();
    check_places(array);
    collect();
    check_places(array);
    for (size_t k = 0; k < PLACES; k++)
        tarn_store(&array[places.index[k]], NULL);
    /* All the others point to the few. */
    for (size_t i = 0; i < n; i += 997)
        CHECK(array[i] == NULL || array[i] == few[i % ARRAY_LEN(few)]);
}

static void huge_array(void)
{
    size_t n = big(100000000);
    if (!memory_for(n * 8))
        SKIP("not enough memory");
    uint64_t ns[2], marked[2];
    array_of(100000, &ns[0], &marked[0]);
    wipe_stack();
    collect();
    array_of(n, &ns[1], &marked[1]);
    printf("     median stop beside a mark: %.1f us; with an array of %zu "
           "pointers %.1f us, %" PRIu64 " KiB of it marked meanwhile\n",
           (double)ns[0] / 1e3, n, (double)ns[1] / 1e3, marked[1] >> 10);
    /* Nobody waits for the array to be marked. */
    CHECK_LE(marked[1], n * 8 / 8 + MiB);
}

static void body_array(void)
{
    register_types();
    RUN(huge_array);
}

/* --- option memlimit -------------------------------------------------------------------- */

#define LIVE (64 * MiB)

/* As much as is said, some of it in objects that outlive a collection or two;
 * the most that was mapped, seen after each MiB. */
static uint64_t churn(size_t bytes)
{
    char **young = new_shared(1024 * sizeof *young);
    uint64_t rng = seed_of(0x11), most = 0, next = 0;
    for (size_t did = 0; did < bytes;) {
        size_t n = 16 + below(&rng, below(&rng, 50) == 0 ? 20000 : 200);
        char *p = tarn_alloc_bytes(n);
        CHECK(p != NULL);
        p[0] = 1;
        if (below(&rng, 8) == 0)
            tarn_store(&young[below(&rng, 1024)], p);
        did += n;
        if (did > next) {
            next = did + MiB;
            uint64_t now = atomic_load(&heap.mapped);
            most = now > most ? now : most;
        }
    }
    return most;
}

/* Nodes of an array: marking them can be shared, which is what assists need. */
__attribute__((noinline)) static void live_part(struct node ***root)
{
    size_t n = LIVE / (sizeof(struct node) + sizeof(void *));
    struct node **array = tarn_alloc_conservative(n * sizeof(void *));
    CHECK(array != NULL);
    tarn_store(root, array);
    for (size_t i = 0; i < n; i++)
        tarn_store(&array[i], new_node(i));
}

__attribute__((noinline)) static void check_live_part(struct node **array)
{
    for (size_t i = 0; i < LIVE / (sizeof(struct node) + sizeof(void *)); i++)
        check_node(array[i], i);
}

static void within_memlimit(void)
{
    if (TARN_ASAN || TARN_TSAN)
        SKIP("caches and freed memory are not as they are otherwise");
    struct node ***root = new_shared(sizeof *root);
    live_part(root);
    collect();
    uint64_t most = churn(big(5 * GiB));
    struct tarn_gc_stats s = stats();
    printf("     memlimit %zu MiB, %zu live: at most %zu MiB mapped, %" PRIu64
           " collections, limited %" PRIu64 " times\n",
           (size_t)options.memlimit / MiB, LIVE / MiB, (size_t)most / MiB,
           s.cycles, s.limited);
    check_live_part(*root);
    /* On a machine with enough CPUs the limit is kept at all times. On a busy one
     * the program may allocate while the collector waits for its turn, and nothing
     * holds it back: so that is tested only if asked for. */
    if (getenv("TARN_TEST_STRICT") != NULL)
        CHECK_LE(most, (uint64_t)options.memlimit + 12 * MiB);
    /* Afterwards it is, but for what describes memory, which stays, and for half
     * of what lives, which is kept free beyond the goal (run_cycle). */
    collect();
    collect();
    s = stats();
    CHECK_LE(s.heap_mapped_bytes - heap_metadata_bytes(),
             (uint64_t)options.memlimit + LIVE / 2 + 12 * MiB);
}

/* More lives than it allows: the program comes to its end, and the collector takes
 * no more than about half of the CPUs, a bucket's fill of one second before. */
static void beyond_memlimit(void)
{
    struct node ***root = new_shared(sizeof *root);
    int64_t t0 = nanotime();
    struct tarn_gc_stats s0 = stats();
    live_part(root);
    churn(big(2 * GiB));
    int64_t took = nanotime() - t0;
    struct tarn_gc_stats s = stats();
    uint64_t cycles = s.cycles - s0.cycles;
    double cpu =
        (double)(s.mark_cpu_ns - s0.mark_cpu_ns + s.assist_ns - s0.assist_ns);
    double share = cpu / ((double)took * nprocs);
    printf("     memlimit %zu MiB, %zu live: %.2f s, %" PRIu64 " collections, "
           "limited %" PRIu64 " times, %.0f%% of the CPUs\n",
           (size_t)options.memlimit / MiB, LIVE / MiB, (double)took / 1e9,
           cycles, s.limited - s0.limited, share * 100);
    check_live_part(*root);
    CHECK(s.limited > s0.limited ||
          cpu <= 0.6 * (double)took * nprocs + 1e9 * nprocs);
    /* Each collection is for something. */
    CHECK_LE(cycles, (s.alloc_bytes - s0.alloc_bytes) / (64 << 10) + 10);
}

static void body_within(void)
{
    register_types();
    RUN(within_memlimit);
}

static void body_beyond(void)
{
    register_types();
    RUN(beyond_memlimit);
}

int main(int argc, char **argv)
{
    harness_init(argc, argv);
    unsetenv("TARN");
    RUN(test_address_space);
    RUN(test_growth_refused);
    gc_run(body_smallest, 2, "heapmax=16MiB");
    gc_run(body_smallest, 1, "heapmax=16MiB,generational=0");
    gc_run(body_one_page, 2, "heapmin=64KiB,gcpercent=10");
    gc_run(body_huge, 2, "");
    gc_run(body_list, 2, "");
    gc_run(body_array, 2, "");
    gc_run(body_within, 2, "memlimit=96MiB");
    gc_run(body_beyond, 2, "memlimit=48MiB");
    return harness_done();
}
