/* bench/pause_plot.c - writes a gnuplot script over the run's files and runs
 * it.
 *
 * For each case: the percentiles of pauses, those of step latencies (all
 * repeats, one colour a collector), and the longest step over the time of the
 * first repeat. For all cases together: bars of the median longest pause.
 * For each case of a heap sweep: time against memory.
 */
#include "bench/pause.h"

#include <errno.h>
#include <math.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *const colours[COLLECTORS] = {
    [COLLECTOR_TARN] = "#1f6fb4",
    [COLLECTOR_BOEHM] = "#c8382c",
    [COLLECTOR_BOEHM_INCREMENTAL] = "#e69138",
    [COLLECTOR_MIMALLOC] = "#7a7a7a",
    [COLLECTOR_GO] = "#2a9d6f",
};

/* gnuplot strings in single quotes double a quote. */
static void put_quoted(FILE *f, const char *s)
{
    putc('\'', f);
    for (; *s != '\0'; s++) {
        if (*s == '\'')
            putc('\'', f);
        putc(*s, f);
    }
    putc('\'', f);
}

static void put_file(FILE *f, const struct plan *p, const struct bench_case *c,
                     int64_t repeat, enum collector_id collector,
                     const char *suffix)
{
    char path[4096];
    plan_path(p, c, repeat, collector, suffix, path, sizeof path);
    const char *base = strrchr(path, '/');
    put_quoted(f, base == NULL ? path : base + 1);
}

/* One curve a repeat; what is plotted against what is in using. */
static int put_curves(FILE *f, const struct plan *p, const struct bench_case *c,
                      const char *suffix, const char *style, enum metric count,
                      int64_t repeats)
{
    int n = 0;
    for (int k = 0; k < p->collector_count; k++) {
        enum collector_id g = p->collectors[k];
        bool titled = false;
        for (int64_t r = 0; r < repeats; r++) {
            const struct run *run = plan_run(c, r, g);
            if (!run->done || isnan(run->v[count]))
                continue;
            fputs(n++ == 0 ? "plot " : ", \\\n     ", f);
            put_file(f, p, c, r, g, suffix);
            fprintf(f, " using %s lc rgb '%s' ", style, colours[g]);
            if (titled)
                fprintf(f, "notitle");
            else
                fprintf(f, "title '%s'", collector_info[g].name);
            titled = true;
        }
    }
    if (n > 0)
        putc('\n', f);
    return n;
}

static void put_percentiles(FILE *f, const struct plan *p,
                            const struct bench_case *c, const char *what,
                            const char *suffix, enum metric count)
{
    fprintf(f, "set output ");
    char name[128];
    snprintf(name, sizeof name, "%s-%s.svg", what, c->name);
    put_quoted(f, name);
    fprintf(f, "\nset title \"%s: %s\"\n", c->name,
            count == METRIC_PAUSE_MAX ? "stop-the-world pauses"
                                      : "latency of a step");
    /* The last row, q = 1, has no place on this axis; the row before it has the
     * same value. */
    if (put_curves(f, p, c, suffix,
                   "($2 < 1 ? 1/(1-$2) : NaN):1 with lines lw 1.5", count,
                   p->repeat) == 0)
        fprintf(f, "# no records\n");
}

static void put_summary(FILE *f, const struct plan *p)
{
    fprintf(f, "$summary << EOD\n# workload");
    for (int k = 0; k < p->collector_count; k++)
        fprintf(f, " %s", collector_info[p->collectors[k]].name);
    putc('\n', f);
    for (int i = 0; i < p->case_count; i++) {
        fprintf(f, "%s", p->cases[i].name);
        for (int k = 0; k < p->collector_count; k++) {
            double v =
                median(p, &p->cases[i], p->collectors[k], METRIC_PAUSE_MAX);
            if (isnan(v))
                fprintf(f, " NaN");
            else
                fprintf(f, " %.3f", v);
        }
        putc('\n', f);
    }
    fprintf(f, "EOD\nreset\n"
               "set terminal svg size 900,540 background 'white'\n"
               "set output 'longest-pause.svg'\n"
               "set title 'Longest pause, median of the repeats'\n"
               "set style data histograms\nset style fill solid\n"
               "set style histogram clustered gap 1\n"
               "set logscale y\nset yrange [1:]\nset ylabel "
               "'microseconds'\nset grid ytics\n"
               "set key outside top center horizontal\nset bmargin 4\n");
    int n = 0;
    for (int k = 0; k < p->collector_count; k++) {
        enum collector_id g = p->collectors[k];
        bool any = false;
        for (int i = 0; i < p->case_count; i++)
            any |= !isnan(median(p, &p->cases[i], g, METRIC_PAUSE_MAX));
        if (!any)
            continue; /* gnuplot refuses a row of nothing */
        fprintf(f, "%s$summary using %d:xtic(1) title '%s' lc rgb '%s'",
                n++ == 0 ? "plot " : ", \\\n     ", k + 2,
                collector_info[g].name, colours[g]);
    }
    putc('\n', f);
}

/* The cases of one heap sweep are [from, to): for each collector a block of data
 * with peak memory, elapsed time, CPU time and the factor. */
static void put_heap_sweep(FILE *f, const struct plan *p, int from, int to)
{
    const struct bench_case *first = &p->cases[from];
    bool any[COLLECTORS] = {false};
    for (int k = 0; k < p->collector_count; k++) {
        enum collector_id g = p->collectors[k];
        fprintf(f, "$heap_%d_%d << EOD\n", from, k);
        for (int i = from; i < to; i++) {
            const struct bench_case *c = &p->cases[i];
            double wall = median(p, c, g, METRIC_WALL);
            if (isnan(wall))
                continue;
            any[g] = true;
            fprintf(f, "%.1f %.4f %.4f %g\n", median(p, c, g, METRIC_RSS), wall,
                    median(p, c, g, METRIC_CPU), c->factor);
        }
        fprintf(f, "EOD\n");
    }
    char file[128];
    snprintf(file, sizeof file, "heap-sweep-%s", first->name);
    snprintf(strrchr(file, '-'), 8, ".svg"); /* for -x<factor> */
    fprintf(f, "reset\nset terminal svg size 900,540 background 'white'\n"
               "set output ");
    put_quoted(f, file);
    fprintf(f,
            "\nset title \"%s: time against memory, by headroom\"\n"
            "set grid\nset key outside top center horizontal\n"
            "set logscale x 2\nset yrange [0:]\n"
            "set xlabel 'peak memory, MB'\nset ylabel 'seconds'\n",
            workload_info[first->params.workload].name);
    int n = 0;
    for (int k = 0; k < p->collector_count; k++)
        for (int what = 0; what < 2 && any[p->collectors[k]]; what++)
            fprintf(f,
                    "%s$heap_%d_%d using 1:%d with linespoints lw 1.5 %s "
                    "lc rgb '%s' title '%s %s'",
                    n++ == 0 ? "plot " : ", \\\n     ", from, k, what + 2,
                    what == 0 ? "dt 1 pt 7" : "dt 2 pt 6",
                    colours[p->collectors[k]],
                    collector_info[p->collectors[k]].name,
                    what == 0 ? "elapsed" : "CPU");
    fprintf(f, n > 0 ? "\n" : "# no records\n");
}

static void put_heap_sweeps(FILE *f, const struct plan *p)
{
    for (int from = 0, to; from < p->case_count; from = to) {
        to = from + 1;
        while (to < p->case_count && !p->cases[to].first_factor)
            to++;
        if (p->cases[from].factor != 0)
            put_heap_sweep(f, p, from, to);
    }
}

static void put_script(FILE *f, const struct plan *p)
{
    fprintf(f,
            "# Run in this directory: gnuplot plot.gp\n"
            "set terminal svg size 900,540 background 'white'\n"
            "set grid\nset key outside top center horizontal\nset logscale xy\n"
            "set xlabel 'percentile'\nset ylabel 'microseconds'\n"
            "set xtics ('0' 1, '90%%%%' 10, '99%%%%' 100, "
            "'99.9%%%%' 1000, '99.99%%%%' 1e4, '99.999%%%%' 1e5, "
            "'99.9999%%%%' 1e6)\n");
    for (int i = 0; i < p->case_count; i++) {
        const struct bench_case *c = &p->cases[i];
        put_percentiles(f, p, c, "pause", ".pause.hgrm", METRIC_PAUSE_MAX);
        put_percentiles(f, p, c, "latency", ".latency.hgrm",
                        METRIC_LATENCY_MAX);
    }
    fprintf(f, "unset logscale x\nset xlabel 'ms of the run'\n"
               "set xtics auto\nset xrange [0:1<*]\n");
    for (int i = 0; i < p->case_count; i++) {
        const struct bench_case *c = &p->cases[i];
        fprintf(f, "set output 'timeline-%s.svg'\n", c->name);
        fprintf(f, "set title \"%s: longest step in each 8.4 ms\"\n", c->name);
        if (put_curves(f, p, c, ".timeline", "1:2 with points pt 7 ps 0.3",
                       METRIC_LATENCY_MAX, 1) == 0)
            fprintf(f, "# no records\n");
    }
    bool any = false;
    for (int i = 0; i < p->case_count; i++)
        for (int k = 0; k < p->collector_count; k++)
            any |= !isnan(
                median(p, &p->cases[i], p->collectors[k], METRIC_PAUSE_MAX));
    if (any)
        put_summary(f, p);
    put_heap_sweeps(f, p);
}

bool plot(const struct plan *p)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/plot.gp", p->hgrm);
    FILE *f = fopen(path, "w");
    if (f == NULL) {
        fprintf(stderr, PROGRAM ": %s: %s\n", path, strerror(errno));
        return false;
    }
    put_script(f, p);
    bool bad = ferror(f) != 0;
    if (fclose(f) != 0 || bad) {
        fprintf(stderr, PROGRAM ": %s cannot be written\n", path);
        return false;
    }

    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0) {
        fprintf(stderr, PROGRAM ": fork: %s\n", strerror(errno));
        return false;
    }
    if (pid == 0) {
        if (chdir(p->hgrm) == 0)
            execlp("gnuplot", "gnuplot", "plot.gp", (char *)NULL);
        _exit(errno == ENOENT ? 127 : 126);
    }
    int status;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 127) {
        printf("No plots: gnuplot is not installed (Debian: gnuplot-nox). "
               "Later: cd %s && gnuplot plot.gp\n",
               p->hgrm);
        return true;
    }
    if (status != 0) {
        fprintf(stderr, PROGRAM ": gnuplot %s failed\n", path);
        return false;
    }
    printf("Plots: %s/*.svg\n", p->hgrm);
    return true;
}
