#include <pthread.h>
#include "gcnodes.h"
#include "tarn/control.h"
#include "tarn/events.h"
/* T1 listener slow enough to be preempted */
static volatile uint64_t sink;
__attribute__((noinline)) static void some(void) { volatile char b[200]; b[0]=1; for (int i = 0; i < 1000; i++) sink += i + b[0]; }
static void slow(void *arg, const struct tarn_gc_event *e)
{
    (void)arg; (void)e;
    for (int i = 0; i < 40000; i++) some();
}
static _Atomic bool stop;
static void collector(void *wg)
{
    while (!atomic_load(&stop)) { collect(); }
    tarn_waitgroup_done(wg);
}
static void test_listener_preempt(void)
{
    tarn_waitgroup *wg = new_shared(sizeof *wg);
    tarn_waitgroup_add(wg, 1);
    go(collector, wg);
    for (int i = 0; i < 10; i++) {
        uint32_t id;
        struct tarn_listener l = {.struct_size = sizeof l, .gc_begin = slow, .gc_end = slow};
        CHECK_ST(tarn_listener_add(&l, &id), TARN_OK);
        for (int k = 0; k < 20; k++) tarn_yield();
        tarn_sleep(1000000);
        CHECK_ST(tarn_listener_remove(id), TARN_OK);
    }
    atomic_store(&stop, true);
    tarn_waitgroup_wait(wg);
}
static void body(void) { register_types(); RUN(test_listener_preempt); }
int main(int argc, char **argv)
{
    harness_init(argc, argv);
    gc_run(body, 1, "");
    gc_run(body, 4, "");
    return harness_done();
}
