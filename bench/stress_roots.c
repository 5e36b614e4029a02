/* bench/stress_roots.c - references held outside stacks and objects: in data
 * segments, in ranges that were added as roots, in timers. Managed. */
#include <stdlib.h>

#include "bench/stress.h"

/* --- ranges ---------------------------------------------------------------------- */

#define SLOTS 64
static void *in_data[SLOTS];
static _Atomic bool taken[SLOTS];

/* A place without a managed pointer, where nobody else looks. */
static uint32_t take_slot(uint64_t *rng)
{
    for (;;) {
        uint32_t i = stress_below(rng, SLOTS);
        if (!atomic_exchange(&taken[i], true))
            return i;
        tarn_yield();
    }
}

/* There and back, by a plain store where nothing is overwritten. */
NI static void hold_in_root(void **root, uint64_t *rng, const char *what)
{
    void *slot = NULL;
    uint64_t id = shape_id(), end = hold_end();
    shape_build(&slot, id);
    while (epoch_now() < end) {
        *(void *volatile *)root = slot;
        *(void *volatile *)&slot = NULL;
        for (uint32_t n = stress_below(rng, 4); n > 0; n--)
            tarn_yield();
        *(void *volatile *)&slot = *root;
        tarn_store(root, NULL);
        if (stress_below(rng, 2))
            tarn_yield();
    }
    shape_check(&slot, id, what);
}

/* Leaves no copy with the caller. */
NI static void put_barriered(void **at, uint64_t id)
{
    void *slot = NULL;
    shape_build(&slot, id);
    tarn_store(at, slot);
}

static void hold_in_range(uint64_t *rng, unsigned flags)
{
    enum { WORDS = 8 };
    void **range = calloc(WORDS, sizeof *range);
    if (range == NULL || tarn_roots_add(range, range + WORDS, flags) != TARN_OK)
        stress_fail("root range", tarn_last_error(), 0, NULL);
    void **at = &range[stress_below(rng, WORDS)];
    uint64_t id = shape_id();
    if (flags == TARN_ROOTS_PLAIN) {
        hold_in_root(at, rng, "held by a plain root range");
    } else {
        put_barriered(at, id);
        wait_until(hold_end(), rng);
        shape_check(at, id, "held by a barriered root range");
        tarn_store(at, NULL);
    }
    if (tarn_roots_remove(range, range + WORDS) != TARN_OK)
        stress_fail("root range", tarn_last_error(), id, NULL);
    free(range);
}

void behave_roots(uint64_t *rng)
{
    uint32_t i;
    switch (stress_below(rng, 3)) {
    case 0:
        i = take_slot(rng);
        hold_in_root(&in_data[i], rng, "held by a global");
        atomic_store(&taken[i], false);
        break;
    case 1:
        hold_in_range(rng, TARN_ROOTS_PLAIN);
        break;
    default:
        hold_in_range(rng, TARN_ROOTS_BARRIERED);
    }
}

/* --- timers ---------------------------------------------------------------------- */

struct alarm {
    void *shape;
    uint64_t id;
};

static void alarm_main(void *arg)
{
    struct alarm *a = arg;
    if (tarn_object_base(a) != a)
        stress_fail("held by a timer", "its argument was freed", 0, a);
    shape_check(&a->shape, a->id, "held by a timer");
    tarn_waitgroup_done(&stress_children);
}

NI static void start_alarm(uint64_t *rng)
{
    struct alarm *a = tarn_alloc_conservative(sizeof *a);
    if (a == NULL)
        stress_fail("allocation", tarn_last_error(), 0, NULL);
    void *slot = NULL;
    a->id = shape_id();
    shape_build(&slot, a->id);
    tarn_store(&a->shape, slot);
    tarn_waitgroup_add(&stress_children, 1);
    if (tarn_timer_start(stress_below(rng, 50000000), alarm_main, a) == NULL)
        stress_fail("timer", tarn_last_error(), a->id, NULL);
}

void behave_timer(uint64_t *rng)
{
    for (uint32_t n = 1 + stress_below(rng, 4); n > 0; n--)
        start_alarm(rng);
    wait_until(hold_end(), rng);
}
