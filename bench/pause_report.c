/* bench/pause_report.c - reads the children's lines and prints the tables. */
#include "bench/pause.h"

#include <math.h>

static const struct {
    const char *group, *key, *title;
} metric_info[METRICS] = {
#define METRIC_INFO_(id, group, key, title) {group, key, title},
    METRIC_TABLE(METRIC_INFO_)
#undef METRIC_INFO_
};

/* Our children write the lines, so this need not know all of JSON: the value of
 * "key", inside of "group":{...} if one is given. NULL if there is none. */
static const char *json_value(const char *line, const char *group,
                              const char *key)
{
    char pattern[64];
    const char *end = line + strlen(line);
    if (group != NULL) {
        snprintf(pattern, sizeof pattern, "\"%s\":{", group);
        line = strstr(line, pattern);
        if (line == NULL)
            return NULL;
        line += strlen(pattern);
        end = strchr(line, '}');
        if (end == NULL)
            return NULL;
    }
    snprintf(pattern, sizeof pattern, "\"%s\":", key);
    const char *v = strstr(line, pattern);
    return v == NULL || v >= end ? NULL : v + strlen(pattern);
}

static bool json_text(const char *line, const char *key, char *buf, size_t len)
{
    const char *v = json_value(line, NULL, key);
    size_t n = 0;
    if (v == NULL || *v++ != '"')
        return false;
    while (v[n] != '"' && v[n] != '\0' && n + 1 < len)
        n++;
    memcpy(buf, v, n);
    buf[n] = '\0';
    return v[n] == '"';
}

const char *metric_title(enum metric m)
{
    return metric_info[m].title;
}

bool read_metrics(const char *line, const struct usage *usage, struct run *r)
{
    for (int m = 0; m < METRICS; m++) {
        const char *v =
            json_value(line, metric_info[m].group, metric_info[m].key);
        if (v == NULL)
            return false;
        r->v[m] = strncmp(v, "null", 4) == 0 ? NAN : strtod(v, NULL);
    }
    /* Measured alike for all, and nothing left out. */
    r->v[METRIC_CPU] = usage->user_s + usage->system_s;
    r->v[METRIC_RSS] = usage->rss_mb;
    /* Of the parameters, "steps" may be there too: the result is behind. */
    const char *after = json_value(line, NULL, "gc_count");
    const char *steps = json_value(after, NULL, "steps");
    if (steps == NULL)
        return false;
    snprintf(r->steps, sizeof r->steps, "%" PRIu64,
             (uint64_t)strtoull(steps, NULL, 10));
    return json_text(line, "checksum", r->checksum, sizeof r->checksum) &&
           json_text(line, "version", r->version, sizeof r->version);
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double median(const struct plan *p, const struct bench_case *c,
              enum collector_id collector, enum metric m)
{
    static double v[MAX_REPEAT];
    size_t n = 0;
    for (int64_t r = 0; r < p->repeat; r++) {
        const struct run *run = plan_run(c, r, collector);
        if (run->done && !isnan(run->v[m]))
            v[n++] = run->v[m];
    }
    if (n == 0)
        return NAN;
    qsort(v, n, sizeof v[0], compare_doubles);
    return n % 2 != 0 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

void print_number(double v, bool count, int width)
{
    if (isnan(v))
        printf("%*s", width, "-");
    else if (count || v >= 100)
        printf("%*.0f", width, v);
    else if (v >= 10)
        printf("%*.1f", width, v);
    else
        printf("%*.2f", width, v);
}

void print_ratio(double v, double base, int width)
{
    double ratio = v / base;
    if (isnan(ratio) || ratio == 0 || base == 0)
        printf("%*s", width, "-");
    else if (ratio < 0.01)
        printf("%*.4f", width, ratio);
    else if (ratio < 100)
        printf("%*.2f", width, ratio);
    else
        printf("%*.0f", width, ratio);
}

#define WIDTH 9

static bool is_count(int m)
{
    return m == METRIC_GCS || m == METRIC_PAUSES;
}

/* Pauses are too few for this quantile to differ from the longest. */
static bool in_table(int m)
{
    return m != METRIC_PAUSE_P9999;
}

static int name_width(const struct plan *p)
{
    size_t width = strlen("workload");
    for (int i = 0; i < p->case_count; i++)
        if (strlen(p->cases[i].name) > width)
            width = strlen(p->cases[i].name);
    return (int)width + 2;
}

/* A title over the columns [from, to), flush with the right edge of the last.
 */
static void print_group(const char *title, int from, int to)
{
    int columns = 0;
    for (int m = from; m < to; m++)
        columns += in_table(m);
    int dashes = columns * WIDTH - (int)strlen(title) - 4;
    printf("  %s ", title);
    while (dashes-- > 0)
        putchar('-');
    putchar('-');
}

static void print_heading(const struct plan *p)
{
    int left = name_width(p) + COLLECTOR_WIDTH + METRIC_LATENCY_P50 * WIDTH;
    printf("%*s", left, "");
    print_group("step, us", METRIC_LATENCY_P50, METRIC_GCS);
    printf("%*s", (METRIC_PAUSE_P50 - METRIC_GCS) * WIDTH, "");
    print_group("pause, us", METRIC_PAUSE_P50, MAIN_METRICS);
    printf("\n%-*s%-*s", name_width(p), "workload", COLLECTOR_WIDTH,
           "collector");
    for (int m = 0; m < MAIN_METRICS; m++)
        if (in_table(m))
            printf("%*s", WIDTH, metric_info[m].title);
    printf("\n");
}

/* base: print ratios to that collector's medians instead of values. */
static void print_row(const struct plan *p, const struct bench_case *c,
                      enum collector_id collector,
                      const enum collector_id *base)
{
    printf("%-*s%-*s", name_width(p), c->name, COLLECTOR_WIDTH,
           collector_info[collector].name);
    for (int m = 0; m < MAIN_METRICS; m++) {
        if (!in_table(m))
            continue;
        double v = median(p, c, collector, (enum metric)m);
        if (base == NULL)
            print_number(v, is_count(m) || m == METRIC_STEPS, WIDTH);
        else
            print_ratio(v, median(p, c, *base, (enum metric)m), WIDTH);
    }
    printf("\n");
}

bool chosen(const struct plan *p, enum collector_id collector)
{
    for (int i = 0; i < p->collector_count; i++)
        if (p->collectors[i] == collector)
            return true;
    return false;
}

static void print_table(const struct plan *p, const enum collector_id *base)
{
    print_heading(p);
    for (int i = 0; i < p->case_count; i++) {
        const struct bench_case *c = &p->cases[i];
        if (base != NULL && !case_runs(c, *base))
            continue;
        for (int k = 0; k < p->collector_count; k++)
            if ((base == NULL || p->collectors[k] != *base) &&
                case_runs(c, p->collectors[k]))
                print_row(p, c, p->collectors[k], base);
        if (noise_runs(p, c) && base == NULL)
            print_row(p, c, COLLECTOR_NOISE, NULL);
    }
    printf("\n");
}

/* Why rows are missing. */
static void print_left_out(const struct plan *p)
{
    bool explicit = false, go = false;
    for (int i = 0; i < p->case_count; i++) {
        unsigned uses = workload_info[p->cases[i].params.workload].uses;
        explicit |= (uses & ONLY_COLLECTED) != 0;
        go |= (uses & IN_GO) == 0;
    }
    if (explicit && chosen(p, COLLECTOR_MIMALLOC))
        printf("mimalloc: not run with mark-random, mark-window, mark-tree and "
               "stacks, which measure collections\n");
    if (go && chosen(p, COLLECTOR_GO))
        printf("go: not run with graph, stacks and noise, which "
               "bench/peers/go has not\n");
    if (p->with_noise)
        printf(
            "(noise): %d s of reading the clock after each repeat; its steps "
            "are the gaps of 1 us and more\n",
            NOISE_SECONDS);
}

/* As the first run of each collector that ended well gave it. */
static void print_versions(const struct plan *p)
{
    for (int k = 0; k < p->collector_count; k++) {
        enum collector_id g = p->collectors[k];
        const char *version = "(not run)";
        for (int i = 0; i < p->case_count; i++)
            if (case_runs(&p->cases[i], g))
                version = "(no run ended well)";
        for (int64_t i = p->repeat * p->case_count; i-- > 0;) {
            const struct run *run =
                plan_run(&p->cases[i / p->repeat], i % p->repeat, g);
            if (run->done)
                version = run->version;
        }
        printf("%s %s %s", k == 0 ? "" : ";", collector_info[g].name, version);
    }
}

void print_report(const struct plan *p)
{
    bool with_boehm = chosen(p, COLLECTOR_BOEHM);
    printf("\nMachine: %s\nCollectors:", p->machine);
    print_versions(p);
    printf("\n\nMedians of %" PRId64 " %s each\n", p->repeat,
           p->repeat == 1 ? "run" : "runs");
    print_table(p, NULL);
    if (with_boehm && p->collector_count > 1) {
        enum collector_id base = COLLECTOR_BOEHM;
        printf("Ratios to Boehm (below 1 is less; of steps/s, above 1 is "
               "faster)\n");
        print_table(p, &base);
    }
    print_details(p, with_boehm);
    if (p->sweep)
        print_sweep(p, with_boehm);
    print_heap_sweep(p);
    print_left_out(p);
}
