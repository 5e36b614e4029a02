/* base/hist.h - log-linear histogram: values 0 .. 2^42 ns with 3 significant
 * decimal digits, constant memory, lock-free concurrent adds. */
#ifndef TARN_BASE_HIST_H_
#define TARN_BASE_HIST_H_

#include "base/base.h"

/* 2048 sub-buckets of half width, as HdrHistogram with 3 digits: values below
 * 2048 exact, then 1024 buckets for each power of two up to 2^42. */
#define HIST_SUB_BITS 11
#define HIST_MAX_BITS 42
#define HIST_BUCKETS                                                           \
    ((1u << HIST_SUB_BITS) +                                                   \
     (HIST_MAX_BITS - HIST_SUB_BITS) * (1u << (HIST_SUB_BITS - 1)))

struct hist {
    _Atomic uint64_t count, sum, min, max; /* min is UINT64_MAX when empty */
    _Atomic uint64_t *buckets;             /* HIST_BUCKETS of them */
};

bool hist_init(struct hist *h); /* false: no memory. mimalloc. */
void hist_destroy(struct hist *h);
void hist_reset(struct hist *h);
void hist_add(struct hist *h, uint64_t v); /* larger than 2^42-1: clamped;
                                              max keeps the true value;
                                              async-signal-safe */
void hist_merge(struct hist *into, const struct hist *from);
/* Highest value equivalent to the smallest recorded v such that at least q
 * (0 < q <= 1) of all records are <= v, never above max; 0 when empty. */
uint64_t hist_quantile(const struct hist *h, double q);
/* HdrHistogram percentile distribution text (.hgrm), 5 ticks per half distance,
 * values divided by scale. False and errno if it cannot be written. */
bool hist_write_hgrm(const struct hist *h, const char *path, double scale);

uint32_t hist_index(uint64_t v);              /* for tests */
uint64_t hist_highest_equivalent(uint32_t i); /* of bucket i */

#endif
