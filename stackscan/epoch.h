/* stackscan/epoch.h - tables that are published whole and read without a lock, by
 * signal handlers too. Whoever replaces one frees the old one when nobody can be
 * reading it: readers of each of two epochs are counted, writers change the epoch
 * twice and wait for both. */
#ifndef TARN_STACKSCAN_EPOCH_H_
#define TARN_STACKSCAN_EPOCH_H_

#include "base/base.h"

struct epoch {
    _Atomic uint32_t now, readers[2];
};

ALWAYS_INLINE uint32_t read_begin(struct epoch *ep)
{
    uint32_t e = atomic_load(&ep->now) & 1;
    atomic_fetch_add(&ep->readers[e], 1);
    return e;
}

ALWAYS_INLINE void read_end(struct epoch *ep, uint32_t e)
{
    atomic_fetch_sub(&ep->readers[e], 1);
}

/* Until nobody reads what was published before. One writer at a time. Twice: a
 * reader may have read the epoch long before it counts itself. */
ALWAYS_INLINE void wait_for_readers(struct epoch *ep)
{
    for (int i = 0; i < 2; i++) {
        uint32_t e = atomic_fetch_add(&ep->now, 1) & 1;
        while (atomic_load(&ep->readers[e]) != 0)
            osyield();
    }
}

#endif
