/* tests/test_gc_stats.c - the numbers agree with each other and with what was
 * done; the trace line and the .hgrm file can be read back; collections start
 * by themselves, or not, as the options say. */
#include "gcsuite.h"

static struct tarn_gc_stats get(void)
{
    struct tarn_gc_stats s = {.struct_size = sizeof s};
    CHECK_ST(tarn_gc_stats(&s), TARN_OK);
    return s;
}

static void check_histogram(const struct tarn_histogram_stats *h)
{
    if (h->count == 0) {
        CHECK_EQ(h->max_ns, 0);
        return;
    }
    CHECK_LE(h->min_ns, h->p50_ns);
    CHECK_LE(h->p50_ns, h->p99_ns);
    CHECK_LE(h->p99_ns, h->p999_ns);
    CHECK_LE(h->p999_ns, h->max_ns);
    CHECK_GE(h->sum_ns, h->max_ns);
    CHECK_LE(h->sum_ns, h->max_ns * h->count);
}

static void check_identities(const struct tarn_gc_stats *s)
{
    CHECK_LE(s->cycles_forced, s->cycles);
    CHECK_EQ(s->alloc_bytes, s->heap_bytes + s->swept_bytes);
    CHECK_GE(s->heap_mapped_bytes, s->heap_bytes);
    CHECK_LE(s->heap_live_bytes, s->alloc_bytes);
    CHECK_EQ(s->pause.count, s->stopping.count);
    CHECK_LE(s->stopping.sum_ns, s->pause.sum_ns);
    CHECK_EQ(s->pause_start.count, s->cycles);
    CHECK_EQ(s->pause_term.count, s->cycles + s->restarts);
    CHECK_GE(s->pause.count, s->pause_start.count + s->pause_term.count);
    check_histogram(&s->pause);
    check_histogram(&s->stopping);
    check_histogram(&s->pause_start);
    check_histogram(&s->pause_term);
    check_histogram(&s->assist);
    if (s->cycles > 0)
        CHECK_GT(s->mark_ns, 0);
}

/* No cycle is under way and none will begin by itself. */
static struct tarn_gc_stats quiet(void)
{
    struct tarn_gc_stats s = get();
    for (;;) {
        collect();
        tarn_sleep(1000000);
        struct tarn_gc_stats t = get();
        if (t.cycles == s.cycles + 1 &&
            t.pause_term.count == t.cycles + t.restarts)
            return t;
        s = t;
    }
}

static void test_counts(void)
{
    struct tarn_gc_stats a = quiet();
    check_identities(&a);
    for (int i = 0; i < 10; i++)
        collect();
    tarn_sleep(1000000);
    struct tarn_gc_stats b = get();
    check_identities(&b);
    CHECK_EQ(b.cycles, a.cycles + 10);
    CHECK_EQ(b.cycles_forced, a.cycles_forced + 10);
    CHECK_EQ(b.pause_start.count, a.pause_start.count + 10);
    CHECK_EQ(b.pause.count, a.pause.count + 20 + (b.restarts - a.restarts));
    CHECK_GT(b.stacks_scanned, a.stacks_scanned + 9);
    CHECK_GT(b.stack_scan_bytes, a.stack_scan_bytes);
    CHECK_GT(b.mark_ns, a.mark_ns);
    stopTheWorld();
    startTheWorld();
    struct tarn_gc_stats c = get();
    CHECK_EQ(c.pause.count, b.pause.count + 1);
    CHECK_EQ(c.pause_start.count, b.pause_start.count);
    CHECK_EQ(c.pause_term.count, b.pause_term.count);
}

/* An allocation shows up, and so does its end. */
static void test_bytes(void)
{
    enum { N = 200, SIZE = 100000 };
    void **keep = new_shared(N * sizeof *keep);
    struct tarn_gc_stats a = quiet();
    for (int i = 0; i < N; i++) {
        void *p = tarn_alloc_bytes(SIZE);
        CHECK(p != NULL);
        SET(keep[i], p);
    }
    struct tarn_gc_stats b = get();
    CHECK_GE(b.alloc_bytes, a.alloc_bytes + (uint64_t)N * SIZE);
    CHECK_LE(b.alloc_bytes,
             a.alloc_bytes + (uint64_t)N * (SIZE + 16) + 1000000);
    struct tarn_gc_stats c = quiet();
    CHECK_GE(c.heap_live_bytes, (uint64_t)N * SIZE);
    CHECK_LE(c.heap_live_bytes,
             a.heap_live_bytes + (uint64_t)N * (SIZE + 16) + 1000000);
    CHECK_GE(c.heap_goal_bytes, c.heap_live_bytes);
    tarn_clear(keep, N * sizeof *keep);
    wipe_stack();
    quiet();
    struct tarn_gc_stats d = quiet();
    CHECK_LE(d.heap_live_bytes + (uint64_t)N * SIZE * 9 / 10,
             c.heap_live_bytes);
    CHECK_GE(d.swept_bytes, c.swept_bytes + (uint64_t)N * SIZE * 9 / 10);
    check_identities(&d);
}

static _Atomic bool watch_end;
static tarn_waitgroup watch_wg;

/* Whenever they are read. */
static void watcher(void *unused)
{
    (void)unused;
    struct tarn_gc_stats a = get();
    while (!atomic_load(&watch_end)) {
        struct tarn_gc_stats b = get();
        CHECK_GE(b.cycles, a.cycles);
        CHECK_GE(b.cycles_forced, a.cycles_forced);
        CHECK_GE(b.swept_bytes, a.swept_bytes);
        CHECK_GE(b.mark_ns, a.mark_ns);
        CHECK_GE(b.scanned_bytes, a.scanned_bytes);
        CHECK_GE(b.pause.count, a.pause.count);
        CHECK_GE(b.pause.max_ns, a.pause.max_ns);
        a = b;
        tarn_yield();
    }
    tarn_waitgroup_done(&watch_wg);
}

static void test_while_running(void)
{
    atomic_store(&watch_end, false);
    tarn_waitgroup_add(&watch_wg, 1);
    go(watcher, NULL);
    garbage_start(3);
    for (int i = 0; i < scaled(20); i++) {
        collect();
        tarn_yield();
    }
    garbage_end();
    atomic_store(&watch_end, true);
    tarn_waitgroup_wait(&watch_wg);
    struct tarn_gc_stats s = quiet();
    check_identities(&s);
}

/* Values rise to 1.0 and the count is that of the histogram. */
static void test_hgrm(void)
{
    static const enum tarn_pause_kind kinds[] = {
        TARN_PAUSE_ALL, TARN_PAUSE_STOPPING, TARN_PAUSE_START, TARN_PAUSE_TERM};
    static char path[] = "/tmp/tarn_hgrm_XXXXXX";
    static char line[256];
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        strcpy(path + sizeof path - 7, "XXXXXX");
        int fd = mkstemp(path);
        CHECK(fd >= 0);
        quiet();
        struct tarn_gc_stats s = get();
        CHECK_ST(tarn_gc_pauses_hgrm(kinds[k], path), TARN_OK);
        const struct tarn_histogram_stats *h[] = {
            &s.pause, &s.stopping, &s.pause_start, &s.pause_term};
        FILE *f = fdopen(fd, "r");
        CHECK(f != NULL);
        double v, q, last_v = 0, last_q = 0;
        long long n, last_n = 0;
        bool total = false;
        while (fgets(line, sizeof line, f) != NULL) {
            if (sscanf(line, "%lf %lf %lld", &v, &q, &n) == 3) {
                CHECK(v >= last_v && q >= last_q && n >= last_n);
                last_v = v;
                last_q = q;
                last_n = n;
            }
            char *t = strstr(line, "Total count");
            if (t != NULL && sscanf(t, "Total count%*[^0-9]%lld", &n) == 1) {
                CHECK_EQ((uint64_t)n, h[k]->count);
                total = true;
            }
        }
        CHECK(total);
        CHECK(last_q > 0.9999);
        CHECK_EQ((uint64_t)last_n, h[k]->count);
        fclose(f);
        unlink(path);
    }
}

static void body(void)
{
    RUN(test_counts);
    RUN(test_bytes);
    RUN(test_while_running);
    RUN(test_hgrm);
}

/* --- the trace line ------------------------------------------------------------- */

static void traced(void *unused)
{
    (void)unused;
    for (int i = 0; i < 5; i++)
        collect();
    garbage_start(2);
    uint64_t now = get().cycles;
    while (get().cycles < now + 3)
        tarn_yield();
    garbage_end();
    printf("cycles %" PRIu64 "\n", quiet().cycles);
    fflush(stdout);
}

static void trace_child(void)
{
    struct tarn_options o;
    alarm(SUITE_WATCHDOG_SECONDS);
    tarn_options_init(&o);
    o.maxprocs = 3;
    o.gctrace = 1;
    CHECK_ST(tarn_main(&o, traced, NULL), TARN_OK);
}

static void test_trace_line(void)
{
    static char out[65536];
    int st = harness_child(trace_child, NULL, out, sizeof out);
    CHECK(WIFEXITED(st));
    CHECK_EQ(WEXITSTATUS(st), 0);
    unsigned long long n, lines = 0, forced = 0, before, after, goal, cycles;
    double at, last_at = 0, a, b, c;
    unsigned procs;
    for (char *l = strtok(out, "\n"); l != NULL; l = strtok(NULL, "\n")) {
        char tail[32] = "";
        if (sscanf(l, "cycles %llu", &cycles) == 1) {
            CHECK_GE(lines, cycles);
            continue;
        }
        int got =
            sscanf(l,
                   "gc %llu @%lfs: %lf+%lf+%lf ms clock, %llu->%llu MB, "
                   "%llu MB goal, %u P%31[ (a-z)]",
                   &n, &at, &a, &b, &c, &before, &after, &goal, &procs, tail);
        if (got < 9)
            fprintf(stderr, "line: %s\n", l);
        CHECK_GE(got, 9);
        CHECK_EQ(n, ++lines);
        CHECK(at >= last_at && a >= 0 && b >= 0 && c >= 0);
        CHECK_EQ(procs, 3);
        last_at = at;
        if (strcmp(tail, " (forced)") == 0)
            forced++;
        else
            CHECK(tail[0] == '\0' || strcmp(tail, " (young)") == 0);
    }
    CHECK_GE(forced, 6);
    CHECK_GT(lines, forced);
}

/* --- when collections start ------------------------------------------------------ */

static uint64_t cycles_after_garbage(void)
{
    uint64_t before = get().cycles;
    for (int i = 0; i < 64 * 16; i++)
        CHECK(tarn_alloc_bytes(60000) != NULL); /* 64 MB */
    return get().cycles - before;
}

static void automatic(void)
{
    /* 4 MiB is the least, and next to nothing is alive. How far an allocator
     * gets ahead of a mark is the machine's business. */
    uint64_t n = 0;
    for (int i = 0; i < 1000 && n < 3; i++)
        n += cycles_after_garbage();
    CHECK_GE(n, (uint64_t)3);
}

static void with_gcoff(void)
{
    CHECK_EQ(cycles_after_garbage(), 0);
    collect();
    CHECK_EQ(get().cycles, 1);
    CHECK_EQ(get().cycles_forced, 1);
}

static void with_heapmin(void)
{
    CHECK_LE(cycles_after_garbage(), (uint64_t)1);
}

static void stressed(void)
{
    uint64_t before = get().cycles;
    for (int i = 0; i < 500; i++)
        CHECK(tarn_alloc_bytes(16) != NULL);
    /* Requests made during a cycle are one. */
    CHECK_GE(get().cycles - before, (uint64_t)5);
}

static void run_automatic(void)
{
    RUN(automatic);
}
static void run_gcoff(void)
{
    RUN(with_gcoff);
}
static void run_heapmin(void)
{
    RUN(with_heapmin);
}
static void run_stressed(void)
{
    RUN(stressed);
}

int main(int argc, char **argv)
{
    harness_init(argc, argv);
    /* These count collections: other options would change the numbers. */
    unsetenv("TARN");
    RUN(test_trace_line);
    gc_run(body, 1, "");
    gc_run(body, 4, "");
    gc_run(run_automatic, 2, "");
    gc_run(run_gcoff, 2, "gcoff=1");
    gc_run(run_heapmin, 2, "heapmin=80MiB");
    gc_run(run_stressed, 2, "gcstress=10");
    return harness_done();
}
