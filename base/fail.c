/* base/fail.c - fault points.
 *
 * Each kind has two counters, both only ever lowered by callers: `after` calls
 * pass, then `times` fail. A caller takes one unit of exactly one of them with
 * a compare-and-swap, so the number of injected failures is exact under any
 * number of threads.
 *
 * Locks: none.
 */
#include "base/fail.h"

static struct {
    _Atomic int64_t after, times;
} fail_state[FAIL_KINDS];

_Atomic bool fail_active;

/* True if a unit was there to take. */
static bool take(_Atomic int64_t *counter)
{
    int64_t n = atomic_load(counter);
    while (n > 0)
        if (atomic_compare_exchange_weak(counter, &n, n - 1))
            return true;
    return false;
}

void fail_inject(enum fail_kind kind, int64_t after, int64_t times)
{
    ASSERT((unsigned)kind < FAIL_KINDS && after >= 0 && times >= -1);
    /* Nothing may fail between the two stores. */
    atomic_store(&fail_state[kind].times, 0);
    atomic_store(&fail_state[kind].after, after);
    atomic_store(&fail_state[kind].times, times);
    atomic_store(&fail_active, true);
}

bool fail_pending(enum fail_kind kind)
{
    return atomic_load(&fail_state[kind].times) != 0;
}

void fail_reset(void)
{
    atomic_store(&fail_active, false);
    for (int k = 0; k < FAIL_KINDS; k++) {
        atomic_store(&fail_state[k].times, 0);
        atomic_store(&fail_state[k].after, 0);
    }
}

bool fail_point_slow(enum fail_kind kind)
{
    if (take(&fail_state[kind].after))
        return false;
    return atomic_load(&fail_state[kind].times) < 0 ||
           take(&fail_state[kind].times);
}
