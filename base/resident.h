/* base/resident.h - which pages of a range the kernel has in memory for us, as it counts
 * them itself: pages that were only read do not count. */
#ifndef TARN_BASE_RESIDENT_H_
#define TARN_BASE_RESIDENT_H_

#include "base/base.h"

struct resident {
    int fd;    /* of /proc/self/pagemap; -1: none, and mincore has to do */
    bool scan; /* the kernel has PAGEMAP_SCAN */
};
void resident_open(struct resident *r);
void resident_close(struct resident *r);

/* Calls fn for each run of resident pages in [lo, hi), which are widened to pages. */
void resident_runs(struct resident *r, uintptr_t lo, uintptr_t hi,
                   void (*fn)(uintptr_t lo, uintptr_t hi, void *arg),
                   void *arg);
size_t resident_bytes(struct resident *r, uintptr_t lo, uintptr_t hi);
/* Sets bit i of bits, which are all 0, if page i from lo on is resident. */
void resident_bits(struct resident *r, uintptr_t lo, size_t npages,
                   uint64_t *bits);

#endif
