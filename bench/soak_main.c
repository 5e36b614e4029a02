/* bench/soak_main.c - tarn-soak: the workloads of tarn-pause all at once in one
 * runtime, for long, with gigabytes alive and a memory limit. They verify what
 * they hold; a thread outside of the runtime looks at the process's memory each
 * second. In the end the heap is walked, and memory must neither have exceeded the
 * limit, which is a soft one, by more than an eighth nor, in a run of a minute or more,
 * have grown from the second quarter to the last. */
#define _GNU_SOURCE 1
#include "bench/workload.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "bench/soak.h"
#include "heap/heap.h"

static struct {
    double seconds;
    int64_t live_mb, limit_mb;
    uint64_t seed;
} opt = {.seconds = 1800, .live_mb = 4096, .limit_mb = 6144, .seed = 1};

static void die(const char *what, const char *why)
{
    fprintf(stderr, "tarn-soak: %s: %s\n", what, why);
    exit(2);
}

void bench_fail(const char *what, uint64_t got, uint64_t want)
{
    char text[320];
    int n = snprintf(text, sizeof text,
                     "tarn-soak: verification failed: %s: %" PRIu64
                     " (%#" PRIx64 "), expected %" PRIu64 " (%#" PRIx64 ")\n",
                     what, got, got, want, want);
    if (n > 0 && write(2, text, (size_t)n) < 0)
        _exit(4);
    _exit(3);
}

/* --- the process's memory, second by second ------------------------------------- */

static int64_t began;
static int64_t *rss_mb; /* by second */
static size_t nrss, most;
static _Atomic bool over;

static int64_t resident(void)
{
    long long pages = 0, shared = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f == NULL || fscanf(f, "%*s %lld %lld", &pages, &shared) != 2)
        die("/proc/self/statm", "cannot be read");
    fclose(f);
    return (pages - shared) * sysconf(_SC_PAGESIZE) / (int64_t)MiB;
}

static struct tarn_gc_stats stats(void)
{
    struct tarn_gc_stats s = {.struct_size = sizeof s};
    if (tarn_gc_stats(&s) != TARN_OK)
        die("tarn_gc_stats", tarn_last_error());
    return s;
}

static void *watch(void *unused)
{
    (void)unused;
    while (!atomic_load(&over) && nrss < most) {
        int64_t due = began + (int64_t)(nrss + 1) * 1000000000;
        int64_t left = due - nanotime();
        if (left > 0) {
            struct timespec t = {left / 1000000000, left % 1000000000};
            nanosleep(&t, NULL);
        }
        rss_mb[nrss++] = resident();
        if (nrss % 60 == 0) {
            struct tarn_gc_stats s = stats();
            printf("%4zu min: %lld MB resident, heap %llu MB, %llu collections "
                   "(%llu young), longest pause %.2f ms\n",
                   nrss / 60, (long long)rss_mb[nrss - 1],
                   (unsigned long long)(s.heap_bytes >> 20),
                   (unsigned long long)s.cycles,
                   (unsigned long long)s.cycles_young,
                   (double)s.pause.max_ns / 1e6);
            fflush(stdout);
        }
    }
    return NULL;
}

static int64_t highest(size_t from, size_t to)
{
    int64_t high = 0;
    for (size_t i = from; i < to; i++)
        if (rss_mb[i] > high)
            high = rss_mb[i];
    return high;
}

/* --- the workloads ------------------------------------------------------------------ */

static struct bench benches[SOAK_WORKLOADS];

/* Of the live memory message-store has three quarters. */
static void prepare(void)
{
    int64_t mb = opt.live_mb;
    const struct params all[SOAK_WORKLOADS] = {
        {.workload = WORKLOAD_MESSAGE_STORE, .live = mb * 3 / 4 * 930},
        {.workload = WORKLOAD_GRAPH, .live = mb * 256},
        {.workload = WORKLOAD_GCBENCH,
         .depth = mb >= 1024 ? 19 : 14,
         .array = mb * 1000},
        {.workload = WORKLOAD_BINARY_TREES, .depth = mb >= 1024 ? 17 : 13},
        {.workload = WORKLOAD_ALLOCATE, .live = mb * 256, .size = 4096},
        {.workload = WORKLOAD_STACKS, .goroutines = mb * 4, .frames = 30},
    };
    for (int i = 0; i < SOAK_WORKLOADS; i++) {
        struct bench *b = &benches[i];
        b->params = all[i];
        b->params.threads = 1;
        b->params.seed = opt.seed + (uint64_t)i;
        b->params.seconds = opt.seconds;
        params_resolve(&b->params);
        b->workers = aligned_alloc(CACHE_LINE, sizeof *b->workers);
        if (b->workers == NULL)
            die("workers", "no memory");
        memset(b->workers, 0, sizeof *b->workers);
        struct worker *w = b->workers;
        w->params = &b->params;
        w->seed = mix(b->params.seed, 1) | 1;
        w->timeline = calloc(TIMELINE_BINS, sizeof *w->timeline);
        if (w->timeline == NULL || !hist_init(&w->latency))
            die("workers", "no memory");
    }
}

static uint64_t longest_pause;

static void body(void *unused)
{
    (void)unused;
    soak_run(benches);
    /* The walk takes long, and would count as a pause. */
    longest_pause = stats().pause.max_ns;
    if (tarn_gc() != TARN_OK || tarn_world_stop() != TARN_OK)
        die("the end", tarn_last_error());
    heap_verify();
    tarn_world_start();
}

static bool report(void)
{
    struct tarn_gc_stats s = stats();
    int64_t limit = opt.limit_mb, high = highest(0, nrss);
    int64_t early = highest(nrss / 4, nrss / 2),
            late = highest(nrss * 3 / 4, nrss);
    for (int i = 0; i < SOAK_WORKLOADS; i++) {
        const struct worker *w = benches[i].workers;
        printf("%-14s %12llu steps, p50 %.2f us, p99.9 %.1f us, longest %.1f "
               "ms\n",
               workload_info[benches[i].params.workload].name,
               (unsigned long long)w->steps,
               (double)hist_quantile(&w->latency, 0.5) / 1e3,
               (double)hist_quantile(&w->latency, 0.999) / 1e3,
               (double)atomic_load(&w->latency.max) / 1e6);
    }
    printf("collections: %llu, of them young %llu; pauses p50 %.1f us, longest "
           "%.2f ms; the collector reached its share of the CPUs %llu times\n",
           (unsigned long long)s.cycles, (unsigned long long)s.cycles_young,
           (double)s.pause.p50_ns / 1e3, (double)longest_pause / 1e6,
           (unsigned long long)s.limited);
    printf("resident: highest %lld MB (limit %lld); second quarter %lld, last "
           "quarter %lld\n",
           (long long)high, (long long)limit, (long long)early,
           (long long)late);
    bool ok = true;
    if (high > limit + limit / 8) {
        fprintf(stderr, "tarn-soak: the limit was exceeded\n");
        ok = false;
    }
    /* In a shorter run a quarter has a dozen collections, and the highest that each
     * has seen of a heap that may grow to the limit differs by chance. */
    if (opt.seconds >= 60 && late > early + early / 32 + 8) {
        fprintf(stderr, "tarn-soak: memory grew\n");
        ok = false;
    }
    if (s.cycles == 0) {
        fprintf(stderr, "tarn-soak: nothing was collected\n");
        ok = false;
    }
    return ok;
}

static double number(const char *name, const char *value, double least)
{
    char *end;
    double v = value != NULL ? strtod(value, &end) : NAN;
    if (value == NULL || end == value || *end != 0 || !(v >= least))
        die(name, value != NULL ? value : "needs a number");
    return v;
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i += 2) {
        const char *name = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(name, "--seconds") == 0)
            opt.seconds = number(name, value, 1);
        else if (strcmp(name, "--live-mb") == 0)
            opt.live_mb = (int64_t)number(name, value, 16);
        else if (strcmp(name, "--limit-mb") == 0)
            opt.limit_mb = (int64_t)number(name, value, 32);
        else if (strcmp(name, "--seed") == 0)
            opt.seed = (uint64_t)number(name, value, 1);
        else
            die(name, "unknown; --seconds N (1800), --live-mb N (4096), "
                      "--limit-mb N (6144), --seed N (1)");
    }
    most = (size_t)opt.seconds * 4 + 600;
    rss_mb = calloc(most, sizeof *rss_mb);
    if (rss_mb == NULL)
        die("samples", "no memory");
    prepare();
    static const uint64_t one = 1;
    struct tarn_type_info info = {
        .name = "pointer", .size = sizeof(void *), .ptrmap = &one};
    coll_pointer_type = tarn_type_register(&info);
    if (coll_pointer_type == NULL)
        die("tarn_type_register", tarn_last_error());
    struct tarn_options o;
    tarn_options_init(&o);
    o.memlimit = opt.limit_mb * (int64_t)MiB;
    began = nanotime();
    pthread_t watcher;
    if (pthread_create(&watcher, NULL, watch, NULL) != 0)
        die("pthread_create", "refused");
    if (tarn_main(&o, body, NULL) != TARN_OK)
        die("tarn_main", tarn_last_error());
    atomic_store(&over, true);
    pthread_join(watcher, NULL);
    return report() ? 0 : 1;
}
