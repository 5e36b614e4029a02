/* bench/child_main.c - one run of one workload with one collector.
 *
 * tarn-pause starts it with the parameters and reads one line of JSON from the
 * descriptor --out; without --out the line goes to stdout, so that a run can be
 * looked at alone. Everything here runs outside of the collector's world.
 */
#include "bench/workload.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#if defined(BENCH_TARN)
#define COLLECTOR "tarn"
#elif defined(BENCH_BOEHM)
#define COLLECTOR "boehm"
#else
#define COLLECTOR "mimalloc"
#endif
#define PROGRAM "tarn-pause-" COLLECTOR

struct child_options {
    struct params params;
    bool incremental;
    int64_t out;
    const char *latency_hgrm, *pause_hgrm, *timeline;
};

/* Called by the workloads, perhaps on a small stack: no stdio. */
void bench_fail(const char *what, uint64_t got, uint64_t want)
{
    char text[320];
    int n = snprintf(text, sizeof text,
                     PROGRAM ": verification failed: %s: %" PRIu64 " (%#" PRIx64
                             "), expected %" PRIu64 " (%#" PRIx64 ")\n",
                     what, got, got, want, want);
    if (n > 0 && write(2, text, (size_t)n) < 0)
        _exit(4);
    _exit(3);
}

static __attribute__((noreturn)) void die(const char *what, const char *why)
{
    fprintf(stderr, PROGRAM ": %s: %s\n", what, why);
    exit(2);
}

static void read_options(struct child_options *o, int argc, char **argv)
{
    static const char usage[] =
        "usage: " PROGRAM
        " --workload NAME [--live N] [--depth N] [--array N] [--threads N]\n"
        "       [--size BYTES] [--goroutines N] [--frames N]\n"
        "       [--steps N] [--seconds S] [--rate R] [--seed N]\n"
        "       [--incremental 0|1] [--latency-hgrm FILE] [--pause-hgrm FILE]\n"
        "       [--timeline FILE] [--out FD]\n"
        "One run; prints one line of JSON. Normally started by tarn-pause.\n";
    bool workload_given = false;
    for (int i = 1; i < argc; i += 2) {
        const char *name = argv[i], *value = argv[i + 1];
        int64_t v;
        if (strcmp(name, "--help") == 0) {
            fputs(usage, stdout);
            exit(0);
        }
        if (strncmp(name, "--", 2) != 0)
            die(name, "not an option (see --help)");
        if (value == NULL)
            die(name, "needs a value");
        int known = params_option(&o->params, name + 2, value);
        if (known < 0)
            die(name, "the value is malformed or out of range");
        if (known > 0)
            continue;
        if (strcmp(name, "--workload") == 0) {
            int w = workload_by_name(value);
            if (w < 0)
                die(value, "no such workload");
            o->params.workload = (enum workload_id)w;
            workload_given = true;
        } else if (strcmp(name, "--incremental") == 0) {
            if (!parse_count(value, 0, 1, &v))
                die(name, "0 or 1");
            o->incremental = v != 0;
        } else if (strcmp(name, "--out") == 0) {
            if (!parse_count(value, 1, 1023, &o->out))
                die(name, "not a file descriptor");
        } else if (strcmp(name, "--latency-hgrm") == 0) {
            o->latency_hgrm = value;
        } else if (strcmp(name, "--pause-hgrm") == 0) {
            o->pause_hgrm = value;
        } else if (strcmp(name, "--timeline") == 0) {
            o->timeline = value;
        } else {
            die(name, "unknown option (see --help)");
        }
    }
    if (!workload_given)
        die("--workload", "missing");
    params_resolve(&o->params);
}

static void workers_init(struct bench *b)
{
    size_t n = (size_t)b->params.threads;
    b->workers = aligned_alloc(CACHE_LINE, n * sizeof *b->workers);
    if (b->workers == NULL)
        die("workers", "no memory");
    memset(b->workers, 0, n * sizeof *b->workers);
    for (size_t i = 0; i < n; i++) {
        struct worker *w = &b->workers[i];
        w->params = &b->params;
        w->index = (int64_t)i;
        w->seed = mix(b->params.seed, i + 1) | 1;
        w->timeline = calloc(TIMELINE_BINS, sizeof *w->timeline);
        if (w->timeline == NULL || !hist_init(&w->latency))
            die("workers", "no memory");
    }
}

/* Longest step in each bin over all workers: milliseconds and microseconds. */
static void write_timeline(const struct bench *b, const char *path)
{
    FILE *f = fopen(path, "w");
    if (f == NULL)
        die(path, strerror(errno));
    fprintf(f, "# ms of the run, longest step that ended then in us\n");
    uint64_t bins = (uint64_t)(b->end - b->epoch) >> TIMELINE_SHIFT;
    for (uint64_t i = 0; i <= bins && i < TIMELINE_BINS; i++) {
        uint64_t longest = 0;
        for (int64_t k = 0; k < b->params.threads; k++)
            if (b->workers[k].timeline[i] > longest)
                longest = b->workers[k].timeline[i];
        if (longest != 0)
            fprintf(f, "%.1f %.3f\n", (double)(i << TIMELINE_SHIFT) / 1e6,
                    (double)longest / 1e3);
    }
    bool bad = ferror(f) != 0;
    if (fclose(f) != 0 || bad)
        die(path, "cannot be written");
}

/* The quantiles of one kind of event; null where there was no event. */
static void print_times(FILE *f, const char *name, uint64_t count,
                        const uint64_t ns[5])
{
    static const char *const keys[5] = {"p50", "p99", "p99.9", "p99.99", "max"};
    fprintf(f, ",\"%s\":{", name);
    for (int i = 0; i < 5; i++)
        if (count == 0)
            fprintf(f, "\"%s\":null,", keys[i]);
        else
            fprintf(f, "\"%s\":%.3f,", keys[i], (double)ns[i] / 1e3);
    fprintf(f, "\"count\":%" PRIu64 "}", count);
}

static void print_params(FILE *f, const struct params *p)
{
    fprintf(f, ",\"params\":{");
    if (p->live != 0)
        fprintf(f, "\"live\":%" PRId64 ",", p->live);
    if (p->depth != 0)
        fprintf(f, "\"depth\":%" PRId64 ",", p->depth);
    if (p->array != 0)
        fprintf(f, "\"array\":%" PRId64 ",", p->array);
    if (p->size != 0)
        fprintf(f, "\"size\":%" PRId64 ",", p->size);
    if (p->goroutines != 0)
        fprintf(f, "\"goroutines\":%" PRId64 ",\"frames\":%" PRId64 ",",
                p->goroutines, p->frames);
    if (p->steps != 0)
        fprintf(f, "\"steps\":%" PRId64 ",", p->steps);
    if (p->seconds != 0)
        fprintf(f, "\"seconds\":%g,", p->seconds);
    if (p->rate != 0)
        fprintf(f, "\"rate\":%.17g,", p->rate);
    fprintf(f, "\"threads\":%" PRId64 ",\"seed\":%" PRIu64 "}", p->threads,
            p->seed);
}

static void print_details(FILE *f, const double *detail)
{
    static const char *const keys[DETAILS] = {
#define DETAIL_KEY_(id, group, key, title) key,
        DETAIL_TABLE(DETAIL_KEY_)
#undef DETAIL_KEY_
    };
    fprintf(f, ",\"detail\":{");
    for (int i = 0; i < DETAILS; i++) {
        fprintf(f, "%s\"%s\":", i == 0 ? "" : ",", keys[i]);
        if (isnan(detail[i]))
            fprintf(f, "null");
        else
            fprintf(f, "%.6g", detail[i]);
    }
    fprintf(f, "}");
}

static void print_result(FILE *f, const struct child_options *o,
                         const struct bench *b, double cpu_s,
                         const struct hist *latency)
{
    struct rusage ru;
    getrusage(RUSAGE_SELF, &ru);
    struct coll_stats gc;
    coll_stats(&gc);
    char version[32];
    coll_version(version, sizeof version);

    uint64_t steps = 0;
    int64_t first = INT64_MAX, last = 0, setup = 0;
    for (int64_t i = 0; i < b->params.threads; i++) {
        const struct worker *w = &b->workers[i];
        steps += w->steps;
        first = w->origin < first ? w->origin : first;
        last = w->last > last ? w->last : last;
        setup = w->origin > setup ? w->origin : setup;
    }
    double steady_s = last > first ? (double)(last - first) / 1e9 : 0;

    fprintf(f, "{\"workload\":\"%s\",\"collector\":\"%s%s\",\"version\":\"%s\"",
            workload_info[b->params.workload].name, COLLECTOR,
            o->incremental ? "-incremental" : "", version);
    print_params(f, &b->params);
    fprintf(f, ",\"wall_s\":%.6f,\"setup_s\":%.6f,\"cpu_s\":%.6f",
            (double)(b->end - b->epoch) / 1e9, (double)(setup - b->epoch) / 1e9,
            cpu_s);
    fprintf(f, ",\"max_rss_mb\":%.1f,\"gc_count\":%" PRIu64,
            (double)ru.ru_maxrss / 1024, gc.gc_count);
    fprintf(f, ",\"steps\":%" PRIu64 ",\"steps_per_s\":%.1f", steps,
            steady_s > 0 ? (double)steps / steady_s : 0.0);
    fprintf(f, ",\"checksum\":\"%016" PRIx64 "\"", b->checksum);
    print_times(f, "latency_us", atomic_load(&latency->count),
                (uint64_t[5]){hist_quantile(latency, 0.5),
                              hist_quantile(latency, 0.99),
                              hist_quantile(latency, 0.999),
                              hist_quantile(latency, 0.9999),
                              atomic_load(&latency->max)});
    print_times(f, "pause_us", gc.pauses,
                (uint64_t[5]){gc.pause_p50, gc.pause_p99, gc.pause_p999,
                              gc.pause_p9999, gc.pause_max});
    print_details(f, b->detail);
    fprintf(f, "}\n");
}

static double cpu_seconds(void)
{
    struct rusage ru;
    getrusage(RUSAGE_SELF, &ru);
    return (double)ru.ru_utime.tv_sec + (double)ru.ru_utime.tv_usec / 1e6 +
           (double)ru.ru_stime.tv_sec + (double)ru.ru_stime.tv_usec / 1e6;
}

int main(int argc, char **argv)
{
    static struct child_options o = {.out = 1};
    static struct bench b;
    read_options(&o, argc, argv);
    /* Sleeps of the open loop end when asked, not up to 50 us later. */
    prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);

    b.params = o.params;
    workers_init(&b);
    struct coll_config config = {.incremental = o.incremental,
                                 .threads = o.params.threads};
    double cpu = cpu_seconds();
    if (!coll_main(&config, workload_main, &b))
        return 1;
    cpu = cpu_seconds() - cpu;

    struct hist *latency = &b.workers[0].latency;
    for (int64_t i = 1; i < b.params.threads; i++)
        hist_merge(latency, &b.workers[i].latency);
    if (o.latency_hgrm != NULL &&
        !hist_write_hgrm(latency, o.latency_hgrm, 1e3))
        die(o.latency_hgrm, strerror(errno));
    struct coll_stats gc;
    bool collects = coll_stats(&gc);
    if (o.pause_hgrm != NULL && collects && !coll_pause_hgrm(o.pause_hgrm))
        die(o.pause_hgrm, "the pauses cannot be written");
    if (o.timeline != NULL)
        write_timeline(&b, o.timeline);

    FILE *out = fdopen((int)o.out, "w");
    if (out == NULL)
        die("--out", strerror(errno));
    print_result(out, &o, &b, cpu, latency);
    bool bad = ferror(out) != 0;
    if (fclose(out) != 0 || bad) {
        fprintf(stderr, PROGRAM ": cannot write the result\n");
        return 1;
    }
    return 0;
}
