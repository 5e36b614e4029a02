/* bench/pause.h - the driver: plan, runs, reports.
 *
 *   pause_main.c    options and the order of runs
 *   pause_child.c   one child process: parameters in, a line of JSON out
 *   pause_report.c  medians, ratios, the main table
 *   pause_tables.c  the tables of sweeps and of single workloads
 *   pause_plot.c    gnuplot
 *
 * A case is a workload at one size; a run is a case with one collector, once.
 */
#ifndef TARN_BENCH_PAUSE_H_
#define TARN_BENCH_PAUSE_H_

#include "bench/params.h"

#define PROGRAM "tarn-pause"
#define MAX_CASES 128
#define MAX_LIST 8 /* of sizes, factors */
#define NOISE_SECONDS 2
#define MAX_REPEAT 1000
#define LINE_SIZE 4096

/* X(id, name, executable, incremental) */
#define COLLECTOR_TABLE(X)                                                     \
    X(TARN, "tarn", "tarn-pause-tarn", false)                                  \
    X(BOEHM, "boehm", "tarn-pause-boehm", false)                               \
    X(BOEHM_INCREMENTAL, "boehm-incremental", "tarn-pause-boehm", true)        \
    X(MIMALLOC, "mimalloc", "tarn-pause-mimalloc", false)                      \
    X(GO, "go", "tarn-pause-go", false)                                        \
    /* No collector: the runs of --with-noise beside those of the others. */   \
    X(NOISE, "(noise)", "tarn-pause-mimalloc", false)

enum collector_id {
#define COLLECTOR_ID_(id, name, exe, incremental) COLLECTOR_##id,
    COLLECTOR_TABLE(COLLECTOR_ID_)
#undef COLLECTOR_ID_
        COLLECTORS
};

/* Those that can be chosen. */
#define CHOICES COLLECTOR_NOISE

struct collector_info {
    const char *name, *executable;
    bool incremental;
};

extern const struct collector_info collector_info[COLLECTORS];

/* What is read back from a run's line: X(id, group or NULL, key, title, unit of
 * the ratio is better when smaller). Times are in microseconds. */
#define METRIC_TABLE(X)                                                        \
    X(WALL, NULL, "wall_s", "wall s")                                          \
    X(CPU, NULL, "cpu_s", "cpu s")                                             \
    X(RSS, NULL, "max_rss_mb", "rss MB")                                       \
    X(STEPS, NULL, "steps_per_s", "steps/s")                                   \
    X(LATENCY_P50, "latency_us", "p50", "p50")                                 \
    X(LATENCY_P99, "latency_us", "p99", "p99")                                 \
    X(LATENCY_P999, "latency_us", "p99.9", "p99.9")                            \
    X(LATENCY_P9999, "latency_us", "p99.99", "p99.99")                         \
    X(LATENCY_MAX, "latency_us", "max", "max")                                 \
    X(GCS, NULL, "gc_count", "GCs")                                            \
    X(PAUSES, "pause_us", "count", "pauses")                                   \
    X(PAUSE_P50, "pause_us", "p50", "p50")                                     \
    X(PAUSE_P99, "pause_us", "p99", "p99")                                     \
    X(PAUSE_P999, "pause_us", "p99.9", "p99.9")                                \
    X(PAUSE_P9999, "pause_us", "p99.99", "p99.99")                             \
    X(PAUSE_MAX, "pause_us", "max", "max")                                     \
    DETAIL_TABLE(X)

enum metric {
#define METRIC_ID_(id, group, key, title) METRIC_##id,
    METRIC_TABLE(METRIC_ID_)
#undef METRIC_ID_
        METRICS
};

/* The main table has the metrics before this one. */
#define MAIN_METRICS METRIC_GC_MS

/* What the kernel says of a child, from its start to its end. */
struct usage {
    double user_s, system_s, rss_mb;
};

struct run {
    bool done; /* ended well, and verified */
    double v[METRICS];
    char steps[24], checksum[24], version[32];
};

struct bench_case {
    char name[64]; /* "graph", or "message-store-900000" in a sweep */
    struct params params;
    double factor;     /* of --heap-sweep; 0 = none */
    bool first_factor; /* the same case has no smaller one before */
    bool same_divisor; /* Boehm's setting is that of the factor before */
    struct run *runs;  /* [repeat * COLLECTORS + collector] */
};

struct plan {
    enum collector_id collectors[COLLECTORS];
    int collector_count;
    struct bench_case cases[MAX_CASES];
    int case_count;
    int64_t repeat;
    int64_t timeout; /* seconds for one run */
    const char *json, *hgrm;
    bool sweep;
    bool with_noise;
    char machine[256];    /* CPU, number of CPUs, memory, kernel */
    char directory[2048]; /* of the executables, with a slash */
};

static inline struct run *plan_run(const struct bench_case *c, int64_t repeat,
                                   enum collector_id collector)
{
    return &c->runs[repeat * COLLECTORS + collector];
}

/* <hgrm>/<case>-<collector>-r<repeat><suffix> */
void plan_path(const struct plan *p, const struct bench_case *c, int64_t repeat,
               enum collector_id collector, const char *suffix, char *buf,
               size_t len);

/* False where that collector has nothing to do in that case: nothing to measure
 * or not another setting than before. */
static inline bool case_runs(const struct bench_case *c,
                             enum collector_id collector)
{
    unsigned uses = workload_info[c->params.workload].uses;
    switch (collector) {
    case COLLECTOR_MIMALLOC:
        return (uses & ONLY_COLLECTED) == 0 &&
               (c->factor == 0 || c->first_factor);
    case COLLECTOR_GO:
        /* It knows small objects of these sizes only. */
        if (c->params.size > 0 && c->params.size <= 256 &&
            c->params.size != 16 && c->params.size != 64 &&
            c->params.size != 256)
            return false;
        return (uses & IN_GO) != 0;
    case COLLECTOR_BOEHM:
    case COLLECTOR_BOEHM_INCREMENTAL:
        return !c->same_divisor;
    default:
        return true;
    }
}

/* Beside each repeat of a case. */
static inline bool noise_runs(const struct plan *p, const struct bench_case *c)
{
    return p->with_noise && c->params.workload != WORKLOAD_NOISE;
}

/* pause_child.c. How a collector is told its headroom: a variable of the
 * environment and its value, "" if it cannot be told. */
struct headroom {
    const char *variable;
    char value[32];
};
struct headroom headroom_of(enum collector_id collector, double factor);

/* pause_child.c. Runs the child; true if it left one line of JSON in line.
 * Otherwise says on stderr what happened to it. What the child wrote to stderr
 * is passed on in both cases. */
bool child_run(const struct plan *p, const struct bench_case *c, int64_t repeat,
               enum collector_id collector, char *line, size_t len,
               struct usage *usage);

/* pause_report.c */
bool read_metrics(const char *line, const struct usage *usage, struct run *r);
/* Median over the repeats that are done; NaN if there is none. */
double median(const struct plan *p, const struct bench_case *c,
              enum collector_id collector, enum metric m);
void print_report(const struct plan *p);
bool chosen(const struct plan *p, enum collector_id collector);
const char *metric_title(enum metric m);
/* Three significant digits where there are decimals, all where there are none.
 * Whole numbers that count something have no decimals at all. */
void print_number(double v, bool count, int width);
/* No ratio where there is nothing to compare. */
void print_ratio(double v, double base, int width);

#define COLLECTOR_WIDTH 18

/* pause_tables.c */
void print_sweep(const struct plan *p, bool with_boehm);
void print_heap_sweep(const struct plan *p);
void print_details(const struct plan *p, bool with_boehm);

/* pause_plot.c. Writes DIR/plot.gp and runs it, if gnuplot is there. False with
 * a message if a file could not be written. */
bool plot(const struct plan *p);

#endif
