/* bench/pause_tables.c - tables beside the main one: of the sweeps, and of
 * workloads that measure something other than steps and pauses. */
#include "bench/pause.h"

#include <math.h>

/* How pauses grow with what is live: each size's medians, against Boehm at the
 * same size and against the first size of the same workload and collector. */
void print_sweep(const struct plan *p, bool with_boehm)
{
    static const struct {
        enum metric metric;
        const char *title;
    } columns[] = {
        {METRIC_PAUSE_P50, "pause p50"},  {METRIC_PAUSE_P99, "pause p99"},
        {METRIC_PAUSE_MAX, "pause max"},  {METRIC_LATENCY_P9999, "step p99.99"},
        {METRIC_LATENCY_MAX, "step max"},
    };
    const int count = sizeof columns / sizeof columns[0];
    printf("Pauses by live size: medians in us%s, and growth from the first "
           "size\n",
           with_boehm ? " (ratio to Boehm at that size)" : "");
    printf("%-*s%-*s%*s%*s", 16, "workload", COLLECTOR_WIDTH, "collector", 10,
           "live", 6, "GCs");
    for (int i = 0; i < count; i++)
        printf("%12s%*s%8s", columns[i].title, with_boehm ? 9 : 0, "",
               "growth");
    printf("\n");
    for (int k = 0; k < p->collector_count; k++) {
        enum collector_id g = p->collectors[k];
        const struct bench_case *first = NULL;
        for (int i = 0; i < p->case_count; i++) {
            const struct bench_case *c = &p->cases[i];
            if (first == NULL || first->params.workload != c->params.workload)
                first = c;
            if (!case_runs(c, g))
                continue;
            printf("%-*s%-*s%*" PRId64, 16,
                   workload_info[c->params.workload].name, COLLECTOR_WIDTH,
                   collector_info[g].name, 10, c->params.live);
            print_number(median(p, c, g, METRIC_GCS), true, 6);
            for (int m = 0; m < count; m++) {
                double v = median(p, c, g, columns[m].metric);
                print_number(v, false, 12);
                if (with_boehm) {
                    double b = median(p, c, COLLECTOR_BOEHM, columns[m].metric);
                    printf(" (");
                    print_ratio(v, b, 6);
                    printf(")");
                }
                print_ratio(v, median(p, first, g, columns[m].metric), 8);
            }
            printf("\n");
        }
    }
    printf("\n");
}

/* The mark of --heap-sweep: what a collector makes of the memory it is given.
 * Compared with explicit free, because the same factor does not mean the same
 * memory for two collectors; the plot has one against the other. */
void print_heap_sweep(const struct plan *p)
{
    static const enum metric columns[] = {METRIC_WALL, METRIC_CPU, METRIC_RSS};
    const int count = sizeof columns / sizeof columns[0];
    const bool with_explicit = chosen(p, COLLECTOR_MIMALLOC);
    const struct bench_case *first = NULL;
    for (int i = 0; i < p->case_count; i++) {
        const struct bench_case *c = &p->cases[i];
        if (c->factor == 0)
            continue;
        if (first == NULL) {
            printf("Time against memory, by headroom: medians%s\n%-28s%-*s%7s"
                   "  %-28s",
                   with_explicit ? " (ratio to explicit free)" : "", "workload",
                   COLLECTOR_WIDTH, "collector", "factor", "setting");
            for (int m = 0; m < count; m++)
                printf("%9s%*s", metric_title(columns[m]),
                       with_explicit ? 9 : 0, "");
            printf("%6s%12s\n", "GCs", "pause max");
        }
        if (c->first_factor)
            first = c;
        for (int k = 0; k < p->collector_count; k++) {
            enum collector_id g = p->collectors[k];
            if (!case_runs(c, g))
                continue;
            struct headroom h = headroom_of(g, c->factor);
            char setting[64] = "explicit free";
            if (h.variable != NULL)
                snprintf(setting, sizeof setting, "%s=%s", h.variable, h.value);
            printf("%-28s%-*s", c->name, COLLECTOR_WIDTH,
                   collector_info[g].name);
            if (h.variable != NULL)
                printf("%7.3g", c->factor);
            else
                printf("%7s", "-");
            printf("  %-28s", setting);
            for (int m = 0; m < count; m++) {
                double v = median(p, c, g, columns[m]);
                print_number(v, false, 9);
                if (with_explicit) {
                    printf(" (");
                    print_ratio(
                        v, median(p, first, COLLECTOR_MIMALLOC, columns[m]), 6);
                    printf(")");
                }
            }
            print_number(median(p, c, g, METRIC_GCS), true, 6);
            print_number(median(p, c, g, METRIC_PAUSE_MAX), false, 12);
            printf("\n");
        }
    }
    if (first != NULL)
        printf("\n");
}

struct detail_table {
    const char *title;
    enum metric of; /* for the cases that have it */
    enum metric columns[8];
    int count;
};

static const struct detail_table detail_tables[] = {
    {"Whole collections, forced: medians over each run's collections",
     METRIC_MARK_RATE,
     {METRIC_GC_MS, METRIC_GC_CPU_MS, METRIC_MARK_MS, METRIC_MARK_RATE,
      METRIC_CPU, METRIC_RSS},
     6},
    {"Objects, their collection included: time of a worker and CPU time of the "
     "process for each",
     METRIC_OBJECT_NS,
     {METRIC_OBJECT_NS, METRIC_OBJECT_CPU_NS, METRIC_GCS, METRIC_CPU,
      METRIC_RSS},
     5},
    {"Stacks: marking in a cycle while there is allocation, and forced "
     "collections",
     METRIC_STACKS,
     {METRIC_STACKS, METRIC_CYCLE_MS, METRIC_GC_MS, METRIC_GC_CPU_MS,
      METRIC_PAUSE_P50, METRIC_PAUSE_MAX, METRIC_CPU, METRIC_RSS},
     8},
};

static bool has_metric(const struct plan *p, const struct bench_case *c,
                       enum metric m)
{
    for (int k = 0; k < p->collector_count; k++)
        if (!isnan(median(p, c, p->collectors[k], m)))
            return true;
    return false;
}

static void print_title(enum metric m, bool with_boehm)
{
    const char *group =
        m == METRIC_PAUSE_P50 || m == METRIC_PAUSE_MAX ? "pause " : "";
    char title[32];
    snprintf(title, sizeof title, "%s%s", group, metric_title(m));
    printf("%14s%*s", title, with_boehm ? 9 : 0, "");
}

static void print_detail_row(const struct plan *p, const struct detail_table *t,
                             const struct bench_case *c, enum collector_id g,
                             bool with_boehm)
{
    printf("%-*s%-*s", 24, c->name, COLLECTOR_WIDTH, collector_info[g].name);
    for (int i = 0; i < t->count; i++) {
        enum metric m = t->columns[i];
        double v = median(p, c, g, m);
        print_number(v, m == METRIC_GCS || m == METRIC_STACKS, 14);
        if (!with_boehm)
            continue;
        printf(" (");
        print_ratio(v, median(p, c, COLLECTOR_BOEHM, m), 6);
        printf(")");
    }
    printf("\n");
}

void print_details(const struct plan *p, bool with_boehm)
{
    for (size_t i = 0; i < sizeof detail_tables / sizeof detail_tables[0];
         i++) {
        const struct detail_table *t = &detail_tables[i];
        bool headed = false;
        for (int k = 0; k < p->case_count; k++) {
            const struct bench_case *c = &p->cases[k];
            if (!has_metric(p, c, t->of))
                continue;
            if (!headed) {
                printf("%s%s\n%-*s%-*s", t->title,
                       with_boehm ? " (ratio to Boehm)" : "", 24, "workload",
                       COLLECTOR_WIDTH, "collector");
                for (int m = 0; m < t->count; m++)
                    print_title(t->columns[m], with_boehm);
                printf("\n");
                headed = true;
            }
            for (int g = 0; g < p->collector_count; g++)
                if (case_runs(c, p->collectors[g]))
                    print_detail_row(p, t, c, p->collectors[g], with_boehm);
        }
        if (headed)
            printf("\n");
    }
}
