/* tests/test_heap_pages.c - the page allocator against a model.
 *
 * The model is one owner for each page. Contents are checked too: each page
 * carries its owner's number in its first and last word, and memory that is
 * said to be zero is read in full. */
#include "base/fail.h"
#include "heap/internal.h"
#include "tests/harness.h"

#define HEAP_SIZE (64 * MiB)
#define NPAGES (HEAP_SIZE / PAGE_SIZE)
#define MAX_LIVE 2048

static uint32_t owner[NPAGES]; /* 0: not in use */
static struct mspan *span[MAX_LIVE + 1];
static uint32_t nlive;
static uint64_t rng;

static uint32_t below(uint32_t n)
{
    return rand_below(&rng, n);
}

static size_t index_of(const struct mspan *s)
{
    return (s->base - heap.lo) / PAGE_SIZE;
}

static uint64_t *page_word(size_t page, bool last)
{
    return (uint64_t *)(heap.lo + page * PAGE_SIZE +
                        (last ? PAGE_SIZE - 8 : 0));
}

static void check_counts(void)
{
    size_t committed = (pages_end() - heap.lo) / PAGE_SIZE;
    size_t inuse = 0, run = 0, largest = 0;
    for (size_t i = 0; i < committed; i++) {
        inuse += owner[i] != 0;
        run = owner[i] == 0 ? run + 1 : 0;
        largest = run > largest ? run : largest;
    }
    struct heap_page_counts c;
    heap_page_counts(&c);
    CHECK_EQ(c.inuse, inuse);
    CHECK_EQ(c.free, committed - inuse);
    CHECK_EQ(c.unused, NPAGES - committed);
    CHECK_EQ(c.largest_free, largest);
    CHECK_EQ(atomic_load(&heap.pages_inuse), inuse);
    pages_verify();
}

/* Pages that could be had in one run, growth included. */
static size_t obtainable(void)
{
    struct heap_page_counts c;
    heap_page_counts(&c);
    size_t tail = c.unused;
    for (size_t i = NPAGES - c.unused; i > 0 && owner[i - 1] == 0; i--)
        tail++;
    return tail > c.largest_free ? tail : c.largest_free;
}

static struct mspan *take(size_t n)
{
    struct mspan *s = pages_alloc(n);
    if (s == NULL)
        return NULL;
    CHECK_EQ(s->npages, n);
    CHECK_EQ(s->base % PAGE_SIZE, 0u);
    CHECK(heap_contains(s->base) && heap_contains(s->base + n * PAGE_SIZE - 1));
    CHECK_LE(s->base + n * PAGE_SIZE, atomic_load(&heap.used_hi));
    if (!s->needzero)
        for (uint64_t *w = page_word(index_of(s), false);
             w < page_word(index_of(s) + n, false); w++)
            CHECK_EQ(*w, 0u);
    uint32_t id = 0;
    while (span[++id] != NULL)
        ;
    span[id] = s;
    nlive++;
    for (size_t i = index_of(s); i < index_of(s) + n; i++) {
        CHECK_EQ(owner[i], 0u);
        CHECK_EQ((void *)heap_span_of(heap.lo + i * PAGE_SIZE), (void *)s);
        owner[i] = id;
        *page_word(i, false) = *page_word(i, true) = id;
    }
    return s;
}

static void give(uint32_t id)
{
    struct mspan *s = span[id];
    for (size_t i = index_of(s); i < index_of(s) + s->npages; i++) {
        CHECK_EQ(owner[i], id);
        CHECK_EQ(*page_word(i, false), id);
        CHECK_EQ(*page_word(i, true), id);
        owner[i] = 0;
    }
    span[id] = NULL;
    nlive--;
    pages_free(s);
}

static uint32_t any_live(void)
{
    uint32_t id;
    do
        id = 1 + below(MAX_LIVE);
    while (span[id] == NULL);
    return id;
}

static void give_all(void)
{
    for (uint32_t id = 1; id <= MAX_LIVE; id++)
        if (span[id] != NULL)
            give(id);
    CHECK_EQ(nlive, 0u);
    check_counts();
}

static size_t random_length(void)
{
    switch (below(16)) {
    case 0:
        return 1 + below(1500);
    case 1:
    case 2:
        return 100 + below(60); /* around the border of bins and tree */
    case 3:
    case 4:
    case 5:
        return 1 + below(64);
    default:
        return 1 + below(4);
    }
}

static void init_refused(void)
{
    /* The first is the slot table's, the second the cards'. */
    fail_inject(FAIL_MMAP, 1, -1);
    CHECK(!heap_init(GiB));
    puts(tarn_last_error());
    fail_inject(FAIL_MMAP, 1, -1);
    CHECK(!heap_init(GiB));
    puts(tarn_last_error());
    CHECK_EQ(heap.lo, 0u);
    /* At each place in turn: half of it is reserved then. */
    fail_inject(FAIL_MMAP, below(4), 1);
    CHECK(heap_init(GiB));
    CHECK_EQ(heap.hi - heap.lo, GiB / 2);
    fail_reset();
    CHECK(pages_alloc(1) != NULL);
    pages_verify();
}

static void init_no_commit(void)
{
    fail_inject(FAIL_MPROTECT, 0, -1);
    CHECK(!heap_init(GiB));
    fail_inject(FAIL_MPROTECT, 1, 4);
    CHECK(heap_init(GiB));
    CHECK_EQ(heap.hi - heap.lo, GiB / 16);
    fail_reset();
    CHECK(pages_alloc(GiB / 16 / PAGE_SIZE) != NULL);
    pages_verify();
}

/* In children, because a process has one heap. */
static void test_init_refused(void)
{
    static char out[4096];
    for (int i = 0; i < 8; i++) {
        rng = harness_rand(&harness_seed);
        CHECK_EQ(harness_child(init_refused, NULL, out, sizeof out), 0);
        CHECK_STR(out, "heap: no memory for the cards");
        CHECK_STR(out, "heap: no address space");
    }
    int st = harness_child(init_no_commit, NULL, out, sizeof out);
    if (st != 0)
        fputs(out, stderr);
    CHECK_EQ(st, 0);
}

static void test_init(void)
{
    CHECK(heap_init(HEAP_SIZE));
    CHECK_EQ(heap.hi - heap.lo, HEAP_SIZE);
    check_counts();
    CHECK(pages_alloc(0) == NULL);
    CHECK(pages_alloc(NPAGES + 1) == NULL);
    CHECK(pages_alloc(SIZE_MAX) == NULL);
    check_counts();
}

static void test_random(void)
{
    uint32_t refused = 0;
    for (int phase = 0; phase < 12; phase++) {
        /* Fill up, go up and down, drain. */
        uint32_t bias = phase % 3 == 0 ? 80 : phase % 3 == 1 ? 50 : 20;
        for (int op = 0; op < 1000; op++) {
            if (nlive == 0 || (nlive < MAX_LIVE && below(100) < bias)) {
                size_t n = random_length();
                size_t most = obtainable();
                bool got = take(n) != NULL;
                CHECK_EQ(got, n <= most);
                refused += !got;
            } else {
                give(any_live());
            }
            if (op % 50 == 0)
                check_counts();
        }
        check_counts();
    }
    printf("     %u requests refused\n", refused);
    give_all();
}

/* What is freed joins up whatever the order. */
static void test_coalesce(void)
{
    for (int round = 0; round < 20; round++) {
        uint32_t n = 0;
        while (n < 500 && take(1 + below(8)) != NULL)
            n++;
        while (nlive > 0)
            give(any_live());
        struct heap_page_counts c;
        heap_page_counts(&c);
        CHECK_EQ(c.largest_free, c.free);
        check_counts();
    }
    CHECK(take(NPAGES) != NULL); /* all of it as one */
    CHECK(take(1) == NULL);
    give_all();
}

/* The tightest fit, and the lowest of equals. */
static void test_best_fit(void)
{
    uint32_t fence[4], hole[4];
    static const size_t len[4] = {300, 200, 200, 400};
    for (int i = 0; i < 4; i++) {
        struct mspan *s = take(len[i]);
        hole[i] = owner[index_of(s)];
        fence[i] = owner[index_of(take(1))];
    }
    uintptr_t low = span[hole[1]]->base;
    for (int i = 0; i < 4; i++)
        give(hole[i]);
    check_counts();
    struct mspan *a = take(150);
    CHECK_EQ(a->base, low);
    struct mspan *b = take(50);
    CHECK_EQ(b->base, low + 150 * PAGE_SIZE);
    CHECK(fence[0] != 0);
    give_all();
}

/* A lookup that began in one life of a struct can tell that it is over. */
static void test_lives(void)
{
    struct mspan *s = take(3);
    uint32_t seq = atomic_load(&s->seq);
    give(owner[index_of(s)]);
    CHECK_NE(atomic_load(&s->state), (uint32_t)SPAN_INUSE);
    CHECK_NE(atomic_load(&s->seq), seq);
    uint32_t before[16];
    struct mspan *t[16];
    for (int i = 0; i < 16; i++) {
        t[i] = take(1);
        before[i] = atomic_load(&t[i]->seq);
    }
    give_all(); /* joins: most structs retire */
    for (int i = 0; i < 16; i++)
        CHECK_NE(atomic_load(&t[i]->seq), before[i]);
}

static uintptr_t resident(void)
{
    return atomic_load(&heap.mapped);
}

static void test_release(void)
{
    struct heap_page_counts c;
    heap_page_counts(&c);
    CHECK_EQ(c.inuse, 0u);
    heap_release_free(0);
    uint64_t mapped = resident();
    /* Dirty half of it in pieces. */
    uint32_t ids[64];
    for (int i = 0; i < 64; i++) {
        struct mspan *s = take(1 + below(200));
        CHECK(s != NULL);
        CHECK(!s->needzero);
        ids[i] = owner[index_of(s)];
    }
    size_t dirty = 0;
    for (int i = 0; i < 64; i++)
        dirty += span[ids[i]]->npages;
    CHECK_EQ(resident(), mapped + dirty * PAGE_SIZE);
    for (int i = 0; i < 64; i += 2)
        give(ids[i]);
    check_counts();
    size_t kept = 0;
    for (int i = 1; i < 64; i += 2)
        kept += span[ids[i]]->npages;
    /* Keep some. */
    size_t keep = (dirty - kept) / 3 * PAGE_SIZE;
    CHECK_EQ(heap_release_free(keep), (dirty - kept) * PAGE_SIZE - keep);
    CHECK_EQ(heap_release_free(keep), 0u);
    check_counts();
    CHECK_EQ(heap_release_free(0), keep);
    CHECK_EQ(resident(), mapped + kept * PAGE_SIZE);
    check_counts();
    /* Refused: nothing is said to be zero that is not. */
    for (int i = 1; i < 64; i += 2)
        give(ids[i]);
    fail_inject(FAIL_MADVISE, 1, -1);
    size_t some = heap_release_free(0);
    fail_reset();
    CHECK_LT(some, kept * PAGE_SIZE);
    check_counts();
    struct mspan *s = take(NPAGES);
    CHECK(s->needzero);
    pages_zero_dirty(s, 0, s->npages * PAGE_SIZE);
    /* take() has written to the first and last word of each page. */
    for (size_t i = 0; i < NPAGES; i++) {
        uint64_t *w = page_word(i, false), *last = page_word(i, true);
        uint32_t dirtied = *w != 0;
        CHECK(*w == (dirtied ? owner[i] : 0) && *last == *w);
        for (w++; w < last; w++)
            CHECK_EQ(*w, 0u);
        *page_word(i, false) = *last = owner[i];
    }
    give_all();
    CHECK_EQ(heap_release_free(0), NPAGES * PAGE_SIZE);
    CHECK_EQ(resident(), mapped);
    s = take(NPAGES); /* checks that it reads as zero */
    CHECK(!s->needzero);
    give_all();
}

static void no_commit_child(void)
{
    CHECK(heap_init(HEAP_SIZE));
    static const enum fail_kind kinds[] = {FAIL_MALLOC, FAIL_MPROTECT};
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        fail_inject(kinds[i], 0, -1);
        CHECK(take(1) == NULL);
        CHECK_EQ(pages_end(), heap.lo);
        fail_reset();
    }
    /* Growth fails at every step and now and then there is no struct. */
    for (int i = 0; i < 600; i++) {
        bool inject = below(2) == 0;
        if (inject) {
            fail_inject(FAIL_MPROTECT, below(3), (int64_t)below(4) - 1);
            if (below(4) == 0)
                fail_inject(FAIL_MALLOC, 0, 1);
        }
        size_t before = atomic_load(&heap.mapped), n = random_length();
        size_t committed = pages_end();
        size_t most = obtainable();
        bool got = take(n) != NULL;
        if (!got) {
            CHECK(inject || n > most);
            if (pages_end() == committed)
                CHECK_LE(atomic_load(&heap.mapped) - before, 64 * KiB);
        }
        fail_reset();
        check_counts();
        if (nlive > 150)
            give(any_live());
    }
    give_all();
    CHECK(take(NPAGES) != NULL);
    check_counts();
}

/* From an empty heap, as often as it takes to see it grow under failures. */
static void test_commit_refused(void)
{
    static char out[4096];
    for (int i = 0; i < 10; i++) {
        rng = harness_rand(&harness_seed);
        int st = harness_child(no_commit_child, NULL, out, sizeof out);
        if (st != 0)
            fputs(out, stderr);
        CHECK_EQ(st, 0);
    }
}

int main(int argc, char **argv)
{
    harness_init(argc, argv);
    rng = harness_seed;
    RUN(test_init_refused);
    RUN(test_commit_refused);
    if (heap.lo == 0)
        test_init();
    RUN(test_random);
    RUN(test_coalesce);
    RUN(test_best_fit);
    RUN(test_lives);
    RUN(test_release);
    return harness_done();
}
