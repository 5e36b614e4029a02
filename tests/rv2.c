#include "gcnodes.h"
#include "tarn/control.h"
/* T2: remove + each + sweep */
enum { K = 40 };
static tarn_weakmap *map;
static struct node **keys;
static _Atomic bool stop;
static _Atomic uint64_t visits;
static bool fn(void *k, void *v, void *a) { (void)k; (void)v; (void)a; visits++; return true; }
static void eacher(void *wg) { while (!stop) { tarn_weakmap_each(map, fn, NULL); tarn_poll(); } tarn_waitgroup_done(wg); }
static void flipper(void *a)
{
    uint64_t rng = seed_of(99);
    while (!stop) { int i = (int)below(&rng, K); 
        tarn_weakmap_set(map, keys[i], NULL); tarn_weakmap_remove(map, keys[i]); tarn_poll(); }
    tarn_waitgroup_done(a);
}
static void coll(void *wg) { while (!stop) collect(); tarn_waitgroup_done(wg); }
static void test(void)
{
    map = tarn_weakmap_new(); 
    keys = new_shared(K * sizeof *keys);
    for (int i = 0; i < K; i++) SET(keys[i], new_node((uint64_t)i));
    tarn_waitgroup *wg = new_shared(sizeof *wg);
    tarn_waitgroup_add(wg, 4);
    go(eacher, wg); go(flipper, wg); go(flipper, wg); go(coll, wg);
    tarn_sleep(15000000000);
    stop = true;
    tarn_waitgroup_wait(wg);
    printf("visits %llu\n", (unsigned long long)visits);
}
static void body(void) { register_types(); RUN(test); }
int main(int argc, char **argv)
{
    harness_init(argc, argv);
    gc_run(body, 4, "");
    return harness_done();
}
