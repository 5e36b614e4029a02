#include "gcnodes.h"
#include "tarn/control.h"
/* T3: DONE to the wrong one */
static struct tarn_gc_stats stats(void)
{ struct tarn_gc_stats s = {.struct_size = sizeof s}; CHECK_ST(tarn_gc_stats(&s), TARN_OK); return s; }
static void other(void *wg) { collect(); tarn_waitgroup_done(wg); }
static void test(void)
{
    tarn_waitgroup *wg = new_shared(sizeof *wg);
    for (int i = 0; i < 300; i++) {
        enum tarn_step d;
        CHECK_ST(tarn_gc_step(64, &d), TARN_OK);
        tarn_waitgroup_add(wg, 1);
        go(other, wg);
        tarn_yield();
        int n = 0;
        do { CHECK_ST(tarn_gc_step(1 << 20, &d), TARN_OK); n++; } while (d != TARN_STEP_DONE);
        do { CHECK_ST(tarn_gc_step(1 << 20, &d), TARN_OK); n++; } while (d != TARN_STEP_DONE);
        tarn_waitgroup_wait(wg);
        for (int k = 0; k < 10; k++) tarn_sleep(100000);
        if (gc.stepping) { printf("round %d: stuck stepping, phase %d, wanted %d\n", i, (int)gc.phase, gc.step_wanted); 
            CHECK(!gc.stepping); }
    }
    (void)stats;
}
/* T6 */
static void test_disable(void)
{
    int bad = 0;
    for (int i = 0; i < 20; i++) {
        collect();
        while (atomic_load(&heap.live) + 200000 < atomic_load(&gc.trigger)) CHECK(tarn_alloc_bytes(4096));
        uint64_t c = gc.cycles_started;
        CHECK_ST(tarn_gc_disable(), TARN_OK);
        bool same = gc.cycles_started == c;
        for (int k = 0; k < 1000; k++) CHECK(tarn_alloc_bytes(4096));
        tarn_sleep(1000000);
        if (same && gc.cycles_started != c) bad++;
        CHECK_ST(tarn_gc_enable(), TARN_OK);
    }
    printf("began after disable: %d of 20\n", bad);
}
static void body(void) { register_types(); RUN(test_disable); RUN(test); }
int main(int argc, char **argv)
{
    harness_init(argc, argv);
    gc_run(body, 1, "heapmin=1MiB");
    gc_run(body, 4, "heapmin=1MiB");
    return harness_done();
}
