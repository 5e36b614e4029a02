/* tests/test_gc_background.c - what happens beside the program: fresh memory made
 * resident ahead of need, free memory given back, collections by the clock, Ps
 * that marking gets although nobody gives them up. */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "base/fail.h"
#include "gcsuite.h"
#include "heap/internal.h"

#define MiB ((size_t)1 << 20)

static struct tarn_gc_stats stats(void)
{
    struct tarn_gc_stats s = {.struct_size = sizeof s};
    CHECK_ST(tarn_gc_stats(&s), TARN_OK);
    return s;
}

static size_t resident(uintptr_t lo, uintptr_t hi)
{
    unsigned char there[64];
    size_t n = 0;
    lo = ALIGN_UP(lo, (uintptr_t)4096);
    for (; lo < hi; lo += sizeof there * 4096) {
        size_t pages = (hi - lo + 4095) / 4096;
        if (pages > sizeof there)
            pages = sizeof there;
        CHECK_EQ(mincore((void *)lo, pages * 4096, there), 0);
        for (size_t i = 0; i < pages; i++)
            n += there[i] & 1;
    }
    return n * 4096;
}

/* --- touching ahead ------------------------------------------------------------ */

/* In a table, not in a list: a dead word of the stack may keep one of them alive,
 * not all. */
#define CHUNK ((size_t)8000)
static void *held[1 << 17];
static size_t nheld;

static void grow_to(size_t bytes)
{
    for (size_t n = 0; n < bytes; n += CHUNK) {
        CHECK_LT(nheld, sizeof held / sizeof held[0]);
        void *p = tarn_alloc_conservative(CHUNK);
        CHECK(p != NULL);
        memset(p, 0x10, CHUNK);
        tarn_store(&held[nheld++], p);
    }
}

static void drop_all(void)
{
    tarn_clear(held, nheld * sizeof held[0]);
    nheld = 0;
    wipe_stack();
}

/* Behind all that was handed out lies memory that is resident and reads as zero,
 * with the mark bytes for it. */
static void touched_ahead(void)
{
    grow_to(8 * MiB);
    while (stats().pretouched_bytes == 0) {
        grow_to(64 << 10);
        tarn_sleep(1000000); /* the thread may have no CPU for long */
    }
    for (;;) {
        uintptr_t lo = atomic_load(&heap.used_hi), hi = pages_end();
        size_t there = resident(lo, hi);
        uintptr_t meta = ALIGN_DOWN((uintptr_t)heap_meta(lo), (uintptr_t)4096);
        if (there > 0 && atomic_load(&heap.used_hi) == lo) {
            CHECK_EQ(*(volatile uint64_t *)lo, 0u);
            CHECK_GT(resident(meta, meta + 1), 0u);
            break;
        }
        /* It may all have been used by now, or stand at the end. */
        grow_to(64 << 10);
        tarn_sleep(1000000); /* the thread may have no CPU for long */
    }
    /* What there is more than is used stays within bounds. */
    uintptr_t lo = atomic_load(&heap.used_hi);
    CHECK_LE(resident(lo, pages_end()), (size_t)options.pretouch + (512 << 10));
}

static void touch_refused(void)
{
    fail_inject(FAIL_MADVISE, 0, -1);
    uint64_t before = stats().pretouched_bytes;
    grow_to(16 * MiB);
    fail_reset();
    /* At most the step that was under way. */
    CHECK_LE(stats().pretouched_bytes, before + (512 << 10));
    while (stats().pretouched_bytes <= before + (512 << 10)) {
        grow_to(64 << 10);
        tarn_sleep(1000000); /* the thread may have no CPU for long */
    }
}

static void test_touch(void)
{
    RUN(touched_ahead);
    RUN(touch_refused);
}

static void touch_off(void)
{
    grow_to(32 * MiB);
    CHECK_EQ(stats().pretouched_bytes, 0u);
    uintptr_t lo = atomic_load(&heap.used_hi);
    CHECK_LE(resident(lo, pages_end()), (size_t)64 << 10);
}

static void test_touch_off(void)
{
    RUN(touch_off);
}

/* --- giving back ------------------------------------------------------------------ */

static void make_garbage(void)
{
    for (int i = 0; i < 256; i++)
        CHECK(tarn_alloc_conservative(4000) != NULL);
}

/* A burst ends; the program goes on with little. Nobody calls tarn_gc. */
static void given_back(void)
{
    grow_to(64 * MiB);
    size_t high = resident(heap.lo, atomic_load(&heap.used_hi));
    CHECK_GE(high, 32 * MiB);
    drop_all();
    uint64_t cycles = stats().cycles;
    while (stats().scavenged_bytes < 32 * MiB ||
           resident(heap.lo, atomic_load(&heap.used_hi)) > high / 4 * 3)
        make_garbage();
    CHECK_GT(stats().cycles, cycles);
    CHECK_EQ(stats().cycles_forced, 0u);
}

/* The kernel keeps it all: nothing is lost, and it is tried again. */
static void give_back_refused(void)
{
    grow_to(64 * MiB);
    fail_inject(FAIL_MADVISE, 0, -1);
    drop_all();
    uint64_t before = stats().scavenged_bytes, cycles = stats().cycles;
    while (stats().cycles < cycles + 3)
        make_garbage();
    CHECK_LE(stats().scavenged_bytes, before + MiB);
    fail_reset();
    while (stats().scavenged_bytes < before + 16 * MiB)
        make_garbage();
}

static void test_scavenge(void)
{
    RUN(given_back);
    RUN(give_back_refused);
}

/* --- by the clock -------------------------------------------------------------------- */

static void periodic(void)
{
    grow_to(2 * MiB); /* less than heapmin: no other reason to collect */
    volatile uint64_t hidden = hide(held[nheld - 1]);
    drop_all();
    CHECK_EQ(stats().cycles_forced, 0u);
    /* A register or a dead frame may hold it for some time. */
    while (alive(hidden)) {
        CHECK(tarn_alloc_bytes(16) != NULL);
        wipe_stack();
        tarn_sleep(1000000);
    }
    CHECK_GE(stats().cycles_periodic, 1u);
    CHECK_EQ(stats().cycles_forced, 0u);
    /* Nothing is allocated: nothing is collected any more. */
    uint64_t cycles;
    do {
        cycles = stats().cycles;
        for (int i = 0; i < 10; i++)
            tarn_sleep(options.gcperiod);
    } while (stats().cycles != cycles);
}

/* What became old before it was dropped, too. */
static void periodic_full(void)
{
    grow_to(2 * MiB);
    volatile uint64_t hidden = hide(held[nheld - 1]);
    collect();
    gc_collect_young();
    gc_collect_young();
    drop_all();
    wipe_stack();
    while (alive(hidden)) {
        wipe_stack();
        tarn_sleep(1000000);
    }
    CHECK_GE(stats().cycles_periodic, 1u);
}

static void test_periodic(void)
{
    RUN(periodic);
    RUN(periodic_full);
}

static void never(void)
{
    grow_to(2 * MiB);
    tarn_sleep(50000000);
    CHECK_EQ(stats().cycles_periodic, 0u);
}

static void test_never(void)
{
    RUN(never);
}

int main(int argc, char **argv)
{
    harness_init(argc, argv);
    gc_run(test_touch, 2, "gcoff=1");
    gc_run(test_touch_off, 2, "gcoff=1,pretouch=0");
    gc_run(test_scavenge, 2, "");
    gc_run(test_periodic, 2, "gcperiod=20ms");
    gc_run(test_periodic, 1, "gcperiod=20ms");
    gc_run(test_never, 2, "gcperiod=0");
    return harness_done();
}
