/* base/fail.h - fault points: the n-th call of a kind of kernel request fails.
 * For tests; costs one relaxed load when unused. */
#ifndef TARN_BASE_FAIL_H_
#define TARN_BASE_FAIL_H_

#include "base/base.h"

enum fail_kind {
    FAIL_MMAP,     /* vm_reserve, vm_map */
    FAIL_MPROTECT, /* vm_commit, vm_guard, vm_protect */
    FAIL_MADVISE,  /* vm_decommit */
    FAIL_THREAD,   /* pthread_create */
    FAIL_MALLOC,   /* sys_alloc */
    FAIL_KINDS
};
/* Lets `after` calls pass, then fails `times` (-1: all further) calls. Returns
 * at most once per call and kind. */
void fail_inject(enum fail_kind kind, int64_t after, int64_t times);
bool fail_pending(enum fail_kind kind); /* some of it has not happened yet */
void fail_reset(void);
bool fail_point_slow(enum fail_kind kind);
extern _Atomic bool fail_active;
ALWAYS_INLINE bool fail_point(enum fail_kind kind)
{
    return unlikely(atomic_load_explicit(&fail_active, memory_order_relaxed)) &&
           fail_point_slow(kind);
}

#endif
