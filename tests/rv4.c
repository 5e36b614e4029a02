#include <pthread.h>
#include "gcnodes.h"
#include "tarn/control.h"
/* each case in a child */
static bool goexit_handler(size_t n, void *a) { (void)n; (void)a; tarn_goexit(); return false; }
static void victim(void *wg) { void *p = tarn_alloc_bytes((size_t)(heap.hi - heap.lo) + 1); (void)p; tarn_waitgroup_done(wg); }
static void one(void *wg) { (void)wg; void *p = tarn_alloc_bytes((size_t)(heap.hi - heap.lo) + 1); (void)p; }
static void handler_goexit(void)
{
    tarn_waitgroup *wg = new_shared(sizeof *wg);
    tarn_set_oom_handler(goexit_handler, NULL);
    go(one, NULL);
    tarn_sleep(50000000);
    tarn_set_oom_handler(NULL, NULL);
    tarn_waitgroup_add(wg, 1);
    go(victim, wg);
    tarn_waitgroup_wait(wg);
    printf("  ok\n");
}
static void ext_stopped(void)
{
    CHECK_ST(tarn_world_stop(), TARN_OK);
    tarn_status s = TARN_OK;
    for (int i = 0; i < 100; i++) s = tarn_external_bytes(4 << 20);
    printf("  external in stopped world: %d\n", (int)s);
    CHECK_ST(tarn_world_start(), TARN_OK);
}
static _Atomic bool fin_go;
static void fz(void *o, void *a) { (void)o; (void)a; }
static void cl(void *a) { (void)a; while (!fin_go) tarn_sleep(1000000); }
__attribute__((noinline)) static void mk(void) { for (int i = 0; i < 20; i++) CHECK(tarn_cleanup_add(new_node(1), cl, NULL)); }
static void wait_stopped(void)
{
    mk(); wipe_stack(); collect();
    CHECK_ST(tarn_world_stop(), TARN_OK);
    fin_go = true;
    tarn_status s = tarn_finalizers_wait();
    printf("  wait in stopped world: %d %s\n", (int)s, tarn_last_error());
    CHECK_ST(tarn_world_start(), TARN_OK);
}
static void stopped_rest(void)
{
    struct node *n = new_node(1), *n2 = new_node(2);
    tarn_weakmap *m = tarn_weakmap_new();
    CHECK_ST(tarn_weakmap_set(m, n, n2), TARN_OK);
    CHECK_ST(tarn_world_stop(), TARN_OK);
    CHECK(tarn_weak_new(n) == NULL);
    CHECK(tarn_weakmap_new() == NULL);
    CHECK(tarn_ephemeron_new(n, n2) == NULL);
    printf("  set %d\n", (int)tarn_weakmap_set(m, n2, n));
    printf("  fin %d\n", (int)tarn_finalizer_set(n, fz, NULL));
    tarn_handle *h = tarn_handle_new(n);
    tarn_handle_drop(h);
    printf("  percent %d\n", (int)tarn_set_gcpercent(200));
    printf("  dis %d\n", (int)tarn_gc_disable());
    printf("  en %d\n", (int)tarn_gc_enable());
    printf("  step %d\n", (int)tarn_gc_step(1, NULL));
    CHECK_ST(tarn_world_start(), TARN_OK);
    CHECK(tarn_weakmap_get(m, n) == n2);
}
static void handle_freed(void)
{
    enum { N = 5000 };
    static tarn_handle *h[N];
    for (int i = 0; i < N; i++) h[i] = tarn_handle_new(new_node(1));
    for (int i = 0; i < N; i++) tarn_handle_drop(h[i]);
    collect(); collect();
    tarn_handle_get(h[N - 1]);
}
static void handle_bad(void) { tarn_handle_get((tarn_handle *)0x123456789000); }
static void ext_wrap(void)
{
    printf("  %d\n", (int)tarn_external_bytes(INT64_MAX));
    printf("  %d\n", (int)tarn_external_bytes(INT64_MAX));
    printf("  %d %llx\n", (int)tarn_external_bytes(INT64_MAX), (unsigned long long)heap.external);
    collect();
    printf("  min %d\n", (int)tarn_external_bytes(INT64_MIN));
    collect();
}
static bool alloc_handler(size_t n, void *a) { (void)a; void *p = tarn_alloc_bytes(n); printf("  in handler %p\n", p); return false; }
static void throw_handler(void)
{
    tarn_set_oom_handler(alloc_handler, NULL);
    void *p = tarn_alloc_bytes((size_t)(heap.hi - heap.lo) + 1);
    printf("  %p\n", p);
}
static bool each_exit(void *k, void *v, void *a) { (void)k; (void)v; (void)a; tarn_goexit(); return true; }
static tarn_weakmap *mm;
static void each_g(void *a) { (void)a; tarn_weakmap_each(mm, each_exit, NULL); }
static void each_goexit(void)
{
    struct node **keys = new_shared(100 * sizeof *keys);
    SET(mm, tarn_weakmap_new());
    for (int i = 0; i < 100; i++) { SET(keys[i], new_node((uint64_t)i)); CHECK_ST(tarn_weakmap_set(mm, keys[i], keys[i]), TARN_OK); }
    for (int i = 0; i < 1000; i++) { go(each_g, NULL); tarn_yield(); }
    collect();
    SET(mm, NULL);
    collect(); collect();
    for (int i = 0; i < 100; i++) SET(keys[i], NULL);
    collect(); collect();
    printf("  ok\n");
}
static void (*which[])(void) = {handler_goexit, ext_stopped, wait_stopped, stopped_rest, handle_freed, handle_bad, ext_wrap, throw_handler, each_goexit};
static const char *names[] = {"handler_goexit", "ext_stopped", "wait_stopped", "stopped_rest", "handle_freed", "handle_bad", "ext_wrap", "throw_handler", "each_goexit"};
static int k;
static void start(void *a) { (void)a; register_types(); which[k](); }
int main(int argc, char **argv)
{
    (void)argc;
    harness_init(1, argv);
    for (k = 0; k < 9; k++) {
        printf("%s\n", names[k]); fflush(NULL);
        pid_t pid = fork();
        if (pid == 0) {
            alarm(5);
            struct tarn_options o; tarn_options_init(&o);
            CHECK_ST(tarn_options_parse(&o, k == 7 ? "heapmax=64MiB,oom=throw" : "heapmax=64MiB"), TARN_OK);
            o.maxprocs = 4;
            tarn_main(&o, start, NULL); exit(0);
        }
        int st; waitpid(pid, &st, 0);
        printf("  -> status %#x%s\n", st, WIFSIGNALED(st) && WTERMSIG(st) == SIGALRM ? " HANG" : "");
    }
    return 0;
}
