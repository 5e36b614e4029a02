/* tests/test_base_hist.c - the histogram against a sorted array.
 */
#include "base/fail.h"
#include "base/hist.h"

#include "tests/harness.h"

#include <pthread.h>

#define LIMIT (UINT64_C(1) << HIST_MAX_BITS)

static struct hist make(void)
{
    struct hist h;
    CHECK(hist_init(&h));
    return h;
}

/* --- buckets ------------------------------------------------------------- */

static void test_buckets_tile_the_range(void)
{
    uint64_t low = 0;
    for (uint32_t i = 0; i < HIST_BUCKETS; i++) {
        uint64_t high = hist_highest_equivalent(i);
        CHECK_GE(high, low);
        CHECK_EQ(hist_index(low), i);
        CHECK_EQ(hist_index(high), i);
        CHECK_EQ(hist_index(low + (high - low) / 2), i);
        /* Three digits. */
        CHECK_LE((high - low) * 1000, low);
        low = high + 1;
    }
    CHECK_EQ(low, LIMIT);
    CHECK_EQ(hist_index(LIMIT), HIST_BUCKETS - 1);
    CHECK_EQ(hist_index(UINT64_MAX), HIST_BUCKETS - 1);
}

/* --- quantiles ----------------------------------------------------------- */

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Of the given shape, so that all the widths of bucket are met. */
static uint64_t value(uint64_t *rng, int shape)
{
    uint64_t r = harness_rand(rng);
    switch (shape) {
    case 0:
        return r % 3000; /* the exact part */
    case 1:
        return r >> (64 - HIST_MAX_BITS); /* flat, all of it */
    case 2:
        return (r | 1) >> (22 + (r & 63) % 42); /* every magnitude */
    case 3:
        return 1000000; /* one value */
    default:
        return (r >> 32) % 100 ? 5000 + r % 500 /* a tail */
                               : 10000000 + r % 100000000;
    }
}

static void check_model(int shape, uint32_t n, uint64_t *rng)
{
    struct hist h = make();
    uint64_t *v = malloc(n * sizeof *v);
    uint64_t sum = 0;
    CHECK(v != NULL);
    for (uint32_t i = 0; i < n; i++) {
        v[i] = value(rng, shape);
        sum += v[i];
        hist_add(&h, v[i]);
    }
    qsort(v, n, sizeof *v, compare);
    CHECK_EQ(atomic_load(&h.count), n);
    CHECK_EQ(atomic_load(&h.sum), sum);
    CHECK_EQ(atomic_load(&h.min), v[0]);
    CHECK_EQ(atomic_load(&h.max), v[n - 1]);
    /* Every quantile that a record begins, and 1. */
    for (uint32_t i = 1; i <= n; i += 1 + n / 5000) {
        uint64_t got = hist_quantile(&h, (double)i / n);
        uint64_t want = v[i - 1];
        CHECK_GE(got, want);
        CHECK_LE((got - want) * 1000, want);
        CHECK_LE(got, v[n - 1]);
        CHECK_LE(got, hist_highest_equivalent(hist_index(want)));
    }
    CHECK_EQ(hist_quantile(&h, 1), v[n - 1]);
    CHECK_GE(hist_quantile(&h, 1e-12), v[0]);
    CHECK_EQ(hist_index(hist_quantile(&h, 1e-12)), hist_index(v[0]));
    free(v);
    hist_destroy(&h);
}

static void test_quantiles_against_model(void)
{
    uint64_t rng = harness_seed;
    static const uint32_t sizes[] = {1, 2, 3, 10, 100, 1000, 50000};
    for (int shape = 0; shape < 5; shape++)
        for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
            check_model(shape, sizes[i], &rng);
}

/* Decimal quantiles of round counts fall on the record one expects, for all
 * their being inexact in binary. */
static void test_decimal_quantiles(void)
{
    struct hist h = make();
    for (uint64_t i = 1; i <= 1000; i++)
        hist_add(&h, i);
    for (int i = 1; i <= 1000; i++)
        CHECK_EQ(hist_quantile(&h, i / 1000.0), (uint64_t)i);
    CHECK_EQ(hist_quantile(&h, 0.07 * 3), 210u);
    CHECK_EQ(hist_quantile(&h, 0.9991), 1000u);
    hist_destroy(&h);
}

static void test_empty(void)
{
    struct hist h = make();
    CHECK_EQ(hist_quantile(&h, 0.5), 0u);
    CHECK_EQ(hist_quantile(&h, 1), 0u);
    CHECK_EQ(atomic_load(&h.min), UINT64_MAX);
    CHECK_EQ(atomic_load(&h.max), 0u);
    hist_destroy(&h);
}

static void test_too_large_values(void)
{
    struct hist h = make();
    hist_add(&h, 5);
    hist_add(&h, LIMIT + 12345);
    CHECK_EQ(atomic_load(&h.max), LIMIT + 12345);
    CHECK_EQ(hist_quantile(&h, 1), LIMIT - 1);
    CHECK_EQ(hist_quantile(&h, 0.5), 5u);
    CHECK_EQ(atomic_load(&h.count), 2u);
    hist_destroy(&h);
}

static void test_reset_and_merge(void)
{
    struct hist a = make(), b = make(), both = make();
    uint64_t rng = harness_seed;
    for (int i = 0; i < 20000; i++) {
        uint64_t v = value(&rng, 2);
        hist_add(i % 3 ? &a : &b, v);
        hist_add(&both, v);
    }
    hist_merge(&a, &b);
    CHECK_EQ(atomic_load(&a.count), atomic_load(&both.count));
    CHECK_EQ(atomic_load(&a.sum), atomic_load(&both.sum));
    CHECK_EQ(atomic_load(&a.min), atomic_load(&both.min));
    CHECK_EQ(atomic_load(&a.max), atomic_load(&both.max));
    for (uint32_t i = 0; i < HIST_BUCKETS; i++)
        CHECK_EQ(atomic_load(&a.buckets[i]), atomic_load(&both.buckets[i]));
    hist_reset(&b);
    hist_merge(&a, &b); /* of an empty one: nothing, not even min */
    CHECK_EQ(atomic_load(&a.count), atomic_load(&both.count));
    CHECK_EQ(atomic_load(&a.min), atomic_load(&both.min));
    hist_reset(&a);
    CHECK_EQ(atomic_load(&a.count), 0u);
    CHECK_EQ(hist_quantile(&a, 1), 0u);
    hist_add(&a, 9);
    CHECK_EQ(hist_quantile(&a, 1), 9u);
    hist_destroy(&a);
    hist_destroy(&b);
    hist_destroy(&both);
}

static void test_no_memory(void)
{
    struct hist h;
    fail_inject(FAIL_MALLOC, 0, 1);
    CHECK(!hist_init(&h));
    CHECK(hist_init(&h));
    fail_reset();
    hist_destroy(&h);
}

/* --- concurrency --------------------------------------------------------- */

enum { ADDERS = 4, ADDS = 50000 };
static struct hist shared;
static struct hist own[ADDERS];
static _Atomic int adders_left;

static void *add_many(void *arg)
{
    uintptr_t me = (uintptr_t)arg;
    uint64_t rng = harness_seed + me;
    for (int i = 0; i < ADDS; i++) {
        uint64_t v = value(&rng, i % 2 ? 0 : 2);
        hist_add(&shared, v);
        hist_add(&own[me], v);
    }
    atomic_fetch_sub(&adders_left, 1);
    return NULL;
}

static void test_concurrent_adds(void)
{
    pthread_t t[ADDERS];
    struct hist sum = make();
    shared = make();
    atomic_store(&adders_left, ADDERS);
    for (uintptr_t i = 0; i < ADDERS; i++) {
        own[i] = make();
        CHECK_EQ(pthread_create(&t[i], NULL, add_many, (void *)i), 0);
    }
    /* Readers meanwhile get answers that make sense: a quantile is never above
     * the largest record, asked for later. */
    uint64_t last = 0;
    do {
        uint64_t count = atomic_load(&shared.count);
        CHECK_GE(count, last);
        last = count;
        uint64_t half = hist_quantile(&shared, 0.5);
        CHECK_LE(half, hist_quantile(&shared, 1));
        CHECK_LE(half, LIMIT);
    } while (atomic_load(&adders_left) > 0);
    for (int i = 0; i < ADDERS; i++)
        pthread_join(t[i], NULL);
    for (int i = 0; i < ADDERS; i++) {
        hist_merge(&sum, &own[i]);
        hist_destroy(&own[i]);
    }
    CHECK_EQ(atomic_load(&shared.count), (uint64_t)ADDERS * ADDS);
    CHECK_EQ(atomic_load(&shared.count), atomic_load(&sum.count));
    CHECK_EQ(atomic_load(&shared.sum), atomic_load(&sum.sum));
    CHECK_EQ(atomic_load(&shared.min), atomic_load(&sum.min));
    CHECK_EQ(atomic_load(&shared.max), atomic_load(&sum.max));
    for (uint32_t i = 0; i < HIST_BUCKETS; i++)
        CHECK_EQ(atomic_load(&shared.buckets[i]), atomic_load(&sum.buckets[i]));
    hist_destroy(&sum);
    hist_destroy(&shared);
}

/* --- .hgrm --------------------------------------------------------------- */

static char dir[] = "/tmp/tarn_hist_XXXXXX";

static const char *file(void)
{
    static char path[64];
    snprintf(path, sizeof path, "%s/t.hgrm", dir);
    return path;
}

static void expect_line(FILE *f, const char *want)
{
    char line[200];
    CHECK(fgets(line, sizeof line, f) != NULL);
    if (strcmp(line, want) != 0)
        fprintf(stderr, "line is %s", line);
    CHECK_EQ(strcmp(line, want), 0);
}

static bool close_to(double a, double b, double by)
{
    return a - b <= by && b - a <= by;
}

/* Reads back what was written: every row against quantiles of the histogram. */
static int check_file(const struct hist *h, double scale)
{
    FILE *f = fopen(file(), "r");
    CHECK(f != NULL);
    char line[200];
    expect_line(f, "       Value     Percentile TotalCount 1/(1-Percentile)\n");
    expect_line(f, "\n");
    uint64_t count = atomic_load(&h->count);
    double value = 0, percentile = -1, last_v = 0, last_p = -1, inverse;
    unsigned long long total = 0, last_t = 0;
    int rows = 0;
    while (fgets(line, sizeof line, f) != NULL && line[0] != '#') {
        int n = sscanf(line, "%lf %lf %llu %lf", &value, &percentile, &total,
                       &inverse);
        CHECK(value >= last_v && percentile > last_p && total >= last_t);
        CHECK_GT(total, 0u);
        double q = percentile > 0 ? percentile : 1e-12;
        double want = (double)hist_quantile(h, q < 1 ? q : 1) / scale;
        CHECK(close_to(value, want, 0.001));
        if (n == 4)
            CHECK(close_to(inverse * (1 - percentile), 1, 0.01));
        else
            CHECK(n == 3 && percentile == 1 && total == count);
        last_v = value, last_p = percentile, last_t = total;
        rows++;
    }
    if (count > 0)
        CHECK(percentile == 1);
    double a, b;
    int x, y;
    CHECK_EQ(sscanf(line, "#[Mean = %lf, StdDeviation = %lf]", &a, &b), 2);
    CHECK(count == 0 ||
          close_to(a, (double)atomic_load(&h->sum) / (double)count / scale,
                   0.001));
    CHECK(b >= 0);
    CHECK(fgets(line, sizeof line, f) != NULL);
    CHECK_EQ(sscanf(line, "#[Max = %lf, Total count = %llu]", &a, &total), 2);
    CHECK(close_to(a, (double)atomic_load(&h->max) / scale, 0.001));
    CHECK_EQ(total, count);
    CHECK(fgets(line, sizeof line, f) != NULL);
    CHECK_EQ(sscanf(line, "#[Buckets = %d, SubBuckets = %d]", &x, &y), 2);
    CHECK_EQ(x, 32);
    CHECK_EQ(y, 2048);
    CHECK(fgets(line, sizeof line, f) == NULL);
    fclose(f);
    return rows;
}

static void test_hgrm(void)
{
    uint64_t rng = harness_seed;
    for (int shape = 0; shape < 5; shape++) {
        struct hist h = make();
        for (int i = 0; i < 30000; i++)
            hist_add(&h, value(&rng, shape));
        CHECK(hist_write_hgrm(&h, file(), 1000));
        CHECK_GE(check_file(&h, 1000), 2);
        CHECK(hist_write_hgrm(&h, file(), 1));
        int rows = check_file(&h, 1);
        if (shape == 1)
            CHECK_GE(rows, 50); /* 5 for each halving, down to 1 in 30000 */
        hist_destroy(&h);
    }
}

static void test_hgrm_small(void)
{
    struct hist h = make();
    CHECK(hist_write_hgrm(&h, file(), 1));
    CHECK_EQ(check_file(&h, 1), 0);
    hist_add(&h, 0);
    CHECK(hist_write_hgrm(&h, file(), 1));
    CHECK_EQ(check_file(&h, 1), 2);
    hist_destroy(&h);
}

/* As the HdrHistogram library prints 1, 2 .. 10. */
static void test_hgrm_text(void)
{
    struct hist h = make();
    for (uint64_t i = 1; i <= 10; i++)
        hist_add(&h, i);
    CHECK(hist_write_hgrm(&h, file(), 1));
    static const char *const want[] = {
        "       Value     Percentile TotalCount 1/(1-Percentile)\n",
        "\n",
        "       1.000 0.000000000000          1           1.00\n",
        "       1.000 0.100000000000          1           1.11\n",
        "       2.000 0.200000000000          2           1.25\n",
        "       3.000 0.300000000000          3           1.43\n",
        "       4.000 0.400000000000          4           1.67\n",
        "       5.000 0.500000000000          5           2.00\n",
        "       6.000 0.550000000000          6           2.22\n",
        "       6.000 0.600000000000          6           2.50\n",
        "       7.000 0.650000000000          7           2.86\n",
        "       7.000 0.700000000000          7           3.33\n",
        "       8.000 0.750000000000          8           4.00\n",
        "       8.000 0.775000000000          8           4.44\n",
        "       8.000 0.800000000000          8           5.00\n",
        "       9.000 0.825000000000          9           5.71\n",
        "       9.000 0.850000000000          9           6.67\n",
        "       9.000 0.875000000000          9           8.00\n",
        "       9.000 0.887500000000          9           8.89\n",
        "       9.000 0.900000000000          9          10.00\n",
        "      10.000 0.912500000000         10          11.43\n",
        "      10.000 1.000000000000         10\n",
        "#[Mean    =        5.500, StdDeviation   =        2.872]\n",
        "#[Max     =       10.000, Total count    =           10]\n",
        "#[Buckets =           32, SubBuckets     =         2048]\n",
    };
    FILE *f = fopen(file(), "r");
    CHECK(f != NULL);
    for (size_t i = 0; i < ARRAY_LEN(want); i++)
        expect_line(f, want[i]);
    fclose(f);
    hist_destroy(&h);
}

static void test_hgrm_errors(void)
{
    struct hist h = make();
    hist_add(&h, 1);
    errno = 0;
    CHECK(!hist_write_hgrm(&h, "/nonexistent/x.hgrm", 1));
    CHECK_EQ(errno, ENOENT);
    CHECK(!hist_write_hgrm(&h, file(), 0));
    CHECK_EQ(errno, EINVAL);
    if (access("/dev/full", W_OK) == 0) {
        CHECK(!hist_write_hgrm(&h, "/dev/full", 1));
        CHECK_EQ(errno, ENOSPC);
    }
    hist_destroy(&h);
}

int main(int argc, char **argv)
{
    harness_init(argc, argv);
    CHECK(mkdtemp(dir) != NULL);
    RUN(test_buckets_tile_the_range);
    RUN(test_quantiles_against_model);
    RUN(test_decimal_quantiles);
    RUN(test_empty);
    RUN(test_too_large_values);
    RUN(test_reset_and_merge);
    RUN(test_no_memory);
    RUN(test_concurrent_adds);
    RUN(test_hgrm);
    RUN(test_hgrm_small);
    RUN(test_hgrm_text);
    RUN(test_hgrm_errors);
    unlink(file());
    rmdir(dir);
    return harness_done();
}
