/* base/hist.c - log-linear histogram.
 *
 * Values below 2^11 have a bucket each. Above, each power of two [2^k, 2^(k+1))
 * is cut into 1024 buckets of width 2^(k-10), which bounds the relative error
 * by 1/1024.
 *
 * Invariants
 *  1. A record is in its bucket before it is in count, so a reader that takes
 *     count first finds at least that many records.
 *
 * Locks: none.
 */
#include "base/hist.h"

#include "base/sysmem.h"

#include <emmintrin.h>
#include <errno.h>
#include <stdio.h>

enum {
    SUBS = 1 << HIST_SUB_BITS, /* exact values */
    HALF = SUBS / 2,           /* buckets for each power of two above */
    TICKS_PER_HALF = 5,
};
#define MAX_VALUE ((UINT64_C(1) << HIST_MAX_BITS) - 1)

uint32_t hist_index(uint64_t v)
{
    if (v < SUBS)
        return (uint32_t)v;
    if (v > MAX_VALUE)
        v = MAX_VALUE;
    uint32_t power = 63 - (uint32_t)__builtin_clzll(v);
    uint32_t shift = power - (HIST_SUB_BITS - 1);
    return SUBS + (shift - 1) * HALF + (uint32_t)(v >> shift) - HALF;
}

/* The smallest value of bucket i, and log2 of its width. */
static uint64_t lowest(uint32_t i, uint32_t *shift)
{
    ASSERT(i < HIST_BUCKETS);
    *shift = i < SUBS ? 0 : (i - SUBS) / HALF + 1;
    uint64_t sub = i < SUBS ? i : (i - SUBS) % HALF + HALF;
    return sub << *shift;
}

uint64_t hist_highest_equivalent(uint32_t i)
{
    uint32_t shift;
    uint64_t low = lowest(i, &shift);
    return low + (UINT64_C(1) << shift) - 1;
}

static uint64_t get(const _Atomic uint64_t *p)
{
    return atomic_load_explicit(p, memory_order_relaxed);
}

static void put(_Atomic uint64_t *p, uint64_t v)
{
    atomic_store_explicit(p, v, memory_order_relaxed);
}

static void add(_Atomic uint64_t *p, uint64_t v)
{
    atomic_fetch_add_explicit(p, v, memory_order_relaxed);
}

static void lower_to(_Atomic uint64_t *p, uint64_t v)
{
    uint64_t old = get(p);
    while (v < old &&
           !atomic_compare_exchange_weak_explicit(
               p, &old, v, memory_order_relaxed, memory_order_relaxed))
        ;
}

static void raise_to(_Atomic uint64_t *p, uint64_t v)
{
    uint64_t old = get(p);
    while (v > old &&
           !atomic_compare_exchange_weak_explicit(
               p, &old, v, memory_order_relaxed, memory_order_relaxed))
        ;
}

bool hist_init(struct hist *h)
{
    h->buckets = sys_alloc(HIST_BUCKETS * sizeof h->buckets[0]);
    if (h->buckets == NULL)
        return false;
    hist_reset(h);
    return true;
}

void hist_destroy(struct hist *h)
{
    sys_free((void *)h->buckets);
    h->buckets = NULL;
}

void hist_reset(struct hist *h)
{
    for (uint32_t i = 0; i < HIST_BUCKETS; i++)
        put(&h->buckets[i], 0);
    put(&h->count, 0);
    put(&h->sum, 0);
    put(&h->min, UINT64_MAX);
    put(&h->max, 0);
}

static void count_in(struct hist *h, uint64_t n)
{
    atomic_fetch_add_explicit(&h->count, n, memory_order_release);
}

void hist_add(struct hist *h, uint64_t v)
{
    add(&h->buckets[hist_index(v)], 1);
    add(&h->sum, v);
    lower_to(&h->min, v);
    raise_to(&h->max, v);
    count_in(h, 1);
}

void hist_merge(struct hist *into, const struct hist *from)
{
    /* Counts what it moves: `from` may be growing. */
    uint64_t moved = 0;
    for (uint32_t i = 0; i < HIST_BUCKETS; i++) {
        uint64_t n = get(&from->buckets[i]);
        if (n == 0)
            continue;
        add(&into->buckets[i], n);
        moved += n;
    }
    add(&into->sum, get(&from->sum));
    lower_to(&into->min, get(&from->min));
    raise_to(&into->max, get(&from->max));
    count_in(into, moved);
}

static uint64_t at_most_max(const struct hist *h, uint64_t v)
{
    uint64_t max = get(&h->max);
    return v < max ? v : max;
}

uint64_t hist_quantile(const struct hist *h, double q)
{
    ASSERT(q > 0 && q <= 1);
    uint64_t count = atomic_load_explicit(&h->count, memory_order_acquire);
    if (count == 0)
        return 0;
    /* The smallest whole number not below q * count, where the product of a
     * decimal like 0.07 and 100 may come out one ulp above 7. */
    double exact = q * (double)count * (1 - 0x1p-50);
    uint64_t need = (uint64_t)exact;
    if ((double)need < exact)
        need++;
    if (need == 0)
        need = 1;
    /* From the top, so that records added meanwhile can only make the answer
     * too high: from the bottom they would hide the tail, and the quantile 1
     * would not be the largest record. */
    uint64_t above = 0;
    for (uint32_t i = HIST_BUCKETS; i-- > 0;) {
        above += get(&h->buckets[i]);
        if (above > count - need)
            return at_most_max(h, hist_highest_equivalent(i));
    }
    return get(&h->max); /* reset while we were looking */
}

/* --- percentile distribution ------------------------------------------- */

/* In double, as sums of squares of 2^42 do not fit a word. */
static double std_deviation(const struct hist *h, uint64_t total, double mean)
{
    double squares = 0;
    for (uint32_t i = 0; i < HIST_BUCKETS; i++) {
        uint64_t n = get(&h->buckets[i]);
        if (n == 0)
            continue;
        uint32_t shift;
        double low = (double)lowest(i, &shift);
        double d = low + (double)((UINT64_C(1) << shift) >> 1) - mean;
        squares += d * d * (double)n;
    }
    __m128d v = _mm_set_sd(squares / (double)total);
    return _mm_cvtsd_f64(_mm_sqrt_sd(v, v)); /* sqrt(3) would need libm */
}

/* The percentage after `level`: steps halve each time the distance to 100
 * does. */
static double next_level(double level)
{
    double half = 100;
    while (half / 2 >= 100 - level)
        half /= 2;
    return level + half / 2 / TICKS_PER_HALF;
}

static void write_rows(FILE *f, const struct hist *h, uint64_t total,
                       double scale)
{
    uint64_t seen = 0;
    double level = 0;
    for (uint32_t i = 0; i < HIST_BUCKETS && seen < total; i++) {
        uint64_t n = get(&h->buckets[i]);
        if (n == 0)
            continue;
        seen = n < total - seen ? seen + n : total;
        double value = (double)at_most_max(h, hist_highest_equivalent(i));
        while (100.0 * (double)seen / (double)total >= level) {
            fprintf(f, "%12.3f %2.12f %10llu %14.2f\n", value / scale,
                    level / 100, (unsigned long long)seen,
                    1 / (1 - level / 100));
            level = next_level(level);
            if (seen == total)
                break;
        }
    }
    if (total > 0)
        fprintf(f, "%12.3f %2.12f %10llu\n",
                (double)hist_quantile(h, 1) / scale, 1.0,
                (unsigned long long)total);
}

bool hist_write_hgrm(const struct hist *h, const char *path, double scale)
{
    if (!(scale > 0)) {
        errno = EINVAL;
        return false;
    }
    FILE *f = fopen(path, "w");
    if (f == NULL)
        return false;
    uint64_t total = atomic_load_explicit(&h->count, memory_order_acquire);
    double mean = total ? (double)get(&h->sum) / (double)total : 0;
    double deviation = total ? std_deviation(h, total, mean) : 0;
    fprintf(f, "%12s %14s %10s %14s\n\n", "Value", "Percentile", "TotalCount",
            "1/(1-Percentile)");
    write_rows(f, h, total, scale);
    fprintf(f, "#[Mean    = %12.3f, StdDeviation   = %12.3f]\n", mean / scale,
            deviation / scale);
    fprintf(f, "#[Max     = %12.3f, Total count    = %12llu]\n",
            (double)get(&h->max) / scale, (unsigned long long)total);
    fprintf(f, "#[Buckets = %12d, SubBuckets     = %12d]\n",
            HIST_MAX_BITS - HIST_SUB_BITS + 1, SUBS);
    bool ok = !ferror(f);
    int saved = errno;
    if (fclose(f) != 0)
        return false;
    errno = saved;
    return ok;
}
