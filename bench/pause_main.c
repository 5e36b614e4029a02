/* bench/pause_main.c - tarn-pause: pause times of collectors, side by side.
 *
 * Every run is a process of its own, of an executable that has one collector
 * linked in. The collectors take turns, and each repeat starts with another, so
 * that what the machine does besides hits them alike.
 */
#include "bench/pause.h"

#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

const struct collector_info collector_info[COLLECTORS] = {
#define COLLECTOR_INFO_(id, name, exe, incremental) {name, exe, incremental},
    COLLECTOR_TABLE(COLLECTOR_INFO_)
#undef COLLECTOR_INFO_
};

static const char usage[] =
    "usage: tarn-pause [OPTION...]\n"
    "Runs workloads with several collectors, each run in a child process, and\n"
    "prints the medians of times, memory, step latencies and pauses.\n"
    "\n"
    "What runs\n"
    "  --collector LIST   of tarn, boehm, boehm-incremental, mimalloc, go\n"
    "                     (default tarn,boehm,mimalloc, and go if it was\n"
    "                     built). mimalloc is the same program with explicit\n"
    "                     free; go the same program in Go.\n"
    "  --workload LIST    of gcbench, binary-trees, message-store, graph "
    "(these\n"
    "                     are the default), mark-random, mark-window, "
    "mark-tree,\n"
    "                     allocate, stacks, noise, all\n"
    "  --repeat N         runs of each (default 3); they are interleaved\n"
    "  --threads N        workers: goroutines or threads (default 1)\n"
    "  --seed N           of all randomness (default 1)\n"
    "  --with-noise       after each repeat two seconds of nothing: what gaps "
    "the\n"
    "                     machine itself makes with every CPU busy, beside\n"
    "                     the pauses\n"
    "How much\n"
    "  --live N           live messages of 1 KiB (default 900000); nodes of "
    "32\n"
    "                     bytes (graph 1000000, mark-* 10000000), of 64\n"
    "                     (allocate 1048576)\n"
    "  --depth N          of trees (default: gcbench 20, binary-trees 19,\n"
    "                     mark-tree 21)\n"
    "  --array N          doubles in gcbench's array (default 4000000)\n"
    "  --steps N          steps of all workers (default: twice --live, at "
    "least\n"
    "                     1000000); for the tree workloads passes over the\n"
    "                     whole program (default 1); for mark-* collections\n"
    "                     (default 7); for allocate 64 objects each (default: "
    "4\n"
    "                     GiB of them, at most 640000)\n"
    "  --size LIST        bytes of allocate's objects, multiples of 8 "
    "(default\n"
    "                     16,64,256,4096,32768)\n"
    "  --goroutines N     of stacks, which wait (default 10000; threads: 200 "
    "at\n"
    "                     most)\n"
    "  --frames N         how deep they wait (default 100)\n"
    "  --seconds S        instead of --steps: until that time has passed "
    "(trees:\n"
    "                     the last pass is completed). noise has only this\n"
    "                     (default 5)\n"
    "  --rate R           open loop: R steps a second are due, over all "
    "workers;\n"
    "                     a step's latency counts from when it was due\n"
    "  --sweep-live LIST  instead of --live: one size after another, with a "
    "table\n"
    "                     of how pauses grow; for message-store (the default\n"
    "                     then) and others with a number of live objects\n"
    "  --heap-sweep [LIST]  one headroom after another: the heap grows to so "
    "many\n"
    "                     times what is live (default 1.2,1.5,2,3,4), with a\n"
    "                     table and (--hgrm) plots of time against memory;\n"
    "                     gcbench if no workload is named\n"
    "What is written\n"
    "  --json FILE        a line of JSON for each run (replaces the file)\n"
    "  --hgrm DIR         percentile distributions of pauses and latencies in\n"
    "                     HdrHistogram's text form, timelines, and plots of\n"
    "                     them if gnuplot is installed\n"
    "  --timeout S        kill a run after that time (default 600)\n"
    "\n"
    "Names of executables and of the environment: tarn-pause-tarn,\n"
    "tarn-pause-boehm, tarn-pause-mimalloc, tarn-pause-go lie beside "
    "tarn-pause;\n"
    "TARN (see TARN=help), GC_*, MIMALLOC_* and GO* tune them as always.\n"
    "\n"
    "Exit status: 0; 1 if a run failed or results differ; 2 for bad options.\n"
    "\n"
    "Examples\n"
    "  tarn-pause --workload message-store --collector tarn,boehm --repeat 5\n"
    "  tarn-pause --sweep-live 180000,900000,3600000 --collector tarn,boehm\n"
    "  tarn-pause --workload message-store --rate 200000 --seconds 10\n";

static __attribute__((noreturn)) void
bad_option(const char *name, const char *value, const char *why)
{
    if (value != NULL)
        fprintf(stderr, PROGRAM ": %s %s: %s\n", name, value, why);
    else
        fprintf(stderr, PROGRAM ": %s: %s\n", name, why);
    exit(2);
}

/* The parts of a comma list, one after another. False at the end. */
static bool next_part(const char **list, char *part, size_t len)
{
    if (*list == NULL)
        return false;
    size_t n = strcspn(*list, ",");
    snprintf(part, len, "%.*s", (int)n, *list);
    *list = (*list)[n] == ',' ? *list + n + 1 : NULL;
    return true;
}

struct options {
    struct params params;
    bool workloads[WORKLOADS], workloads_given, collectors_given;
    int64_t sizes[MAX_LIST];
    int size_count;
    double factors[MAX_LIST];
    int factor_count;
    int64_t live[MAX_CASES];
    int live_count;
};

static void read_collectors(struct plan *p, const char *list)
{
    char part[64];
    const char *rest = list;
    p->collector_count = 0;
    while (next_part(&rest, part, sizeof part)) {
        int id = 0;
        while (id < CHOICES && strcmp(part, collector_info[id].name) != 0)
            id++;
        if (id == CHOICES)
            bad_option("--collector", part,
                       "not one of tarn, boehm, boehm-incremental, mimalloc, "
                       "go");
        for (int i = 0; i < p->collector_count; i++)
            if (p->collectors[i] == (enum collector_id)id)
                bad_option("--collector", part, "named twice");
        p->collectors[p->collector_count++] = (enum collector_id)id;
    }
}

static void read_workloads(struct options *o, const char *list)
{
    char part[64];
    const char *rest = list;
    memset(o->workloads, 0, sizeof o->workloads);
    o->workloads_given = true;
    while (next_part(&rest, part, sizeof part)) {
        int w = workload_by_name(part);
        if (strcmp(part, "all") == 0)
            for (int i = 0; i < WORKLOADS; i++)
                o->workloads[i] = true;
        else if (w < 0)
            bad_option("--workload", part,
                       "not one of gcbench, binary-trees, message-store, "
                       "graph, mark-random, mark-window, mark-tree, allocate, "
                       "stacks, noise, all");
        else
            o->workloads[w] = true;
    }
}

static void read_live_list(struct options *o, const char *list)
{
    char part[64];
    const char *rest = list;
    o->live_count = 0;
    while (next_part(&rest, part, sizeof part)) {
        struct params one = {0};
        if (params_option(&one, "live", part) < 0)
            bad_option("--sweep-live", part, "malformed or out of range");
        if (o->live_count == MAX_LIST)
            bad_option("--sweep-live", list, "too many sizes");
        o->live[o->live_count++] = one.live;
    }
}

static void read_sizes(struct options *o, const char *list)
{
    char part[64];
    const char *rest = list;
    o->size_count = 0;
    while (next_part(&rest, part, sizeof part)) {
        struct params one = {0};
        if (params_option(&one, "size", part) < 0)
            bad_option("--size", part, "malformed or out of range");
        if (one.size % 8 != 0)
            bad_option("--size", part, "not a multiple of 8");
        if (o->size_count == MAX_LIST)
            bad_option("--size", list, "too many sizes");
        o->sizes[o->size_count++] = one.size;
    }
}

/* Below 1.1 Tarn cannot be told. */
static void read_factors(struct options *o, const char *list)
{
    char part[64];
    const char *rest = list;
    o->factor_count = 0;
    while (next_part(&rest, part, sizeof part)) {
        double f;
        if (!parse_positive(part, 100, &f) || f < 1.1)
            bad_option("--heap-sweep", part,
                       "malformed, or not between 1.1 and 100");
        if (o->factor_count > 0 && f <= o->factors[o->factor_count - 1])
            bad_option("--heap-sweep", list, "factors must grow");
        if (o->factor_count == MAX_LIST)
            bad_option("--heap-sweep", list, "too many factors");
        o->factors[o->factor_count++] = f;
    }
}

static void read_option(struct plan *p, struct options *o, const char *name,
                        const char *value)
{
    if (strcmp(name, "--size") == 0) {
        read_sizes(o, value);
        return;
    }
    int known = params_option(&o->params, name + 2, value);
    if (known < 0)
        bad_option(name, value, "malformed or out of range");
    if (known > 0)
        return;
    if (strcmp(name, "--collector") == 0) {
        o->collectors_given = true;
        read_collectors(p, value);
    } else if (strcmp(name, "--heap-sweep") == 0)
        read_factors(o, value);
    else if (strcmp(name, "--workload") == 0)
        read_workloads(o, value);
    else if (strcmp(name, "--sweep-live") == 0)
        read_live_list(o, value);
    else if (strcmp(name, "--json") == 0)
        p->json = value;
    else if (strcmp(name, "--hgrm") == 0)
        p->hgrm = value;
    else if (strcmp(name, "--repeat") == 0) {
        if (!parse_count(value, 1, MAX_REPEAT, &p->repeat))
            bad_option(name, value, "malformed or out of range");
    } else if (strcmp(name, "--timeout") == 0) {
        if (!parse_count(value, 1, 1000000, &p->timeout))
            bad_option(name, value, "malformed or out of range");
    } else {
        bad_option(name, NULL, "unknown option (see --help)");
    }
}

static void read_options(struct plan *p, struct options *o, int argc,
                         char **argv)
{
    static const char *const names[] = {
        "--collector",  "--workload", "--sweep-live", "--json",
        "--hgrm",       "--repeat",   "--timeout",    "--live",
        "--depth",      "--array",    "--steps",      "--seconds",
        "--threads",    "--rate",     "--seed",       "--size",
        "--goroutines", "--frames",   "--heap-sweep",
    };
    for (int i = 1; i < argc; i++) {
        char name[64];
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            fputs(usage, stdout);
            exit(0);
        }
        if (strcmp(argv[i], "--with-noise") == 0) {
            p->with_noise = true;
            continue;
        }
        const char *equals = strchr(argv[i], '=');
        size_t n =
            equals == NULL ? strlen(argv[i]) : (size_t)(equals - argv[i]);
        size_t k = 0;
        while (k < sizeof names / sizeof names[0] &&
               (strlen(names[k]) != n || strncmp(names[k], argv[i], n) != 0))
            k++;
        if (k == sizeof names / sizeof names[0])
            bad_option(argv[i], NULL, "unknown option (see --help)");
        snprintf(name, sizeof name, "%s", names[k]);
        if (strcmp(name, "--heap-sweep") == 0 && equals == NULL &&
            (i + 1 == argc || argv[i + 1][0] == '-')) {
            read_factors(o, "1.2,1.5,2,3,4");
            continue;
        }
        if (equals == NULL && i + 1 == argc)
            bad_option(name, NULL, "needs a value");
        read_option(p, o, name, equals == NULL ? argv[++i] : equals + 1);
    }
}

/* An option that no chosen workload knows would be ignored: say so. */
static void check_uses(const struct options *o, const char *name, bool given,
                       unsigned uses)
{
    if (!given)
        return;
    for (int w = 0; w < WORKLOADS; w++)
        if (o->workloads[w] && (workload_info[w].uses & uses) != 0)
            return;
    bad_option(name, NULL, "none of the chosen workloads uses it");
}

static void add_case(struct plan *p, const struct params *params,
                     const char *suffix)
{
    if (p->case_count == MAX_CASES) {
        fprintf(stderr, PROGRAM ": too many workloads, sizes and factors\n");
        exit(2);
    }
    struct bench_case *c = &p->cases[p->case_count++];
    c->params = *params;
    params_resolve(&c->params);
    const struct workload_info *w = &workload_info[c->params.workload];
    snprintf(c->name, sizeof c->name, "%s%s", w->name, suffix);
    if ((w->uses & USES_LIVE) != 0 && c->params.live < c->params.threads * 16)
        bad_option("--threads", NULL,
                   "too many for so few live objects (16 for each at least)");
    c->runs = calloc((size_t)p->repeat * COLLECTORS, sizeof *c->runs);
    if (c->runs == NULL) {
        fprintf(stderr, PROGRAM ": no memory\n");
        exit(1);
    }
}

/* One after another headroom of the same case, or the case as it is. */
static void add_factors(struct plan *p, const struct options *o,
                        const struct params *params, const char *suffix)
{
    struct headroom before = {NULL, ""};
    if (o->factor_count == 0)
        add_case(p, params, suffix);
    for (int i = 0; i < o->factor_count; i++) {
        char text[64];
        snprintf(text, sizeof text, "%s-x%g", suffix, o->factors[i]);
        add_case(p, params, text);
        struct bench_case *c = &p->cases[p->case_count - 1];
        struct headroom h = headroom_of(COLLECTOR_BOEHM, o->factors[i]);
        c->factor = o->factors[i];
        c->first_factor = i == 0;
        c->same_divisor = i > 0 && strcmp(h.value, before.value) == 0;
        before = h;
    }
}

/* All sizes of a workload's objects and numbers of live ones. */
static void add_workload(struct plan *p, const struct options *o,
                         enum workload_id w)
{
    static const int64_t default_sizes[] = {16, 64, 256, 4096, 32768};
    const int64_t *sizes = default_sizes, no_size = 0;
    int size_count = sizeof default_sizes / sizeof default_sizes[0];
    if (o->size_count > 0) {
        sizes = o->sizes;
        size_count = o->size_count;
    }
    if ((workload_info[w].uses & USES_SIZE) == 0) {
        sizes = &no_size;
        size_count = 1;
    }
    for (int i = 0; i < size_count; i++) {
        struct params params = o->params;
        char size[32] = "", suffix[64];
        params.workload = w;
        params.size = sizes[i];
        if (params.size != 0)
            snprintf(size, sizeof size, "-%" PRId64, params.size);
        for (int k = 0; k < o->live_count; k++) {
            params.live = o->live[k];
            snprintf(suffix, sizeof suffix, "%s-%" PRId64, size, params.live);
            add_factors(p, o, &params, suffix);
        }
        if (o->live_count == 0)
            add_factors(p, o, &params, size);
    }
}

static void choose_workloads(struct plan *p, struct options *o)
{
    for (int w = 0; w < WORKLOADS && !o->workloads_given; w++)
        if (p->sweep)
            o->workloads[w] = w == WORKLOAD_MESSAGE_STORE;
        else if (o->factor_count > 0)
            o->workloads[w] = w == WORKLOAD_GCBENCH;
        else
            o->workloads[w] = (workload_info[w].uses & CLASSIC) != 0;
}

static void make_cases(struct plan *p, struct options *o)
{
    p->sweep = o->live_count > 0;
    choose_workloads(p, o);
    if (o->params.steps != 0 && o->params.seconds != 0)
        bad_option("--seconds", NULL, "not together with --steps");
    if (p->sweep && o->params.live != 0)
        bad_option("--sweep-live", NULL, "not together with --live");
    if (p->sweep && o->factor_count > 0)
        bad_option("--heap-sweep", NULL, "not together with --sweep-live");
    check_uses(o, "--live", o->params.live != 0, USES_LIVE);
    check_uses(o, "--depth", o->params.depth != 0, USES_DEPTH);
    check_uses(o, "--array", o->params.array != 0, USES_ARRAY);
    check_uses(o, "--size", o->size_count != 0, USES_SIZE);
    check_uses(o, "--goroutines", o->params.goroutines != 0, USES_STACKS);
    check_uses(o, "--frames", o->params.frames != 0, USES_STACKS);
    check_uses(o, "--steps", o->params.steps != 0, ~USES_THREADS);
    check_uses(o, "--rate", o->params.rate != 0, USES_STEPS | CLASSIC);
    check_uses(o, "--threads", o->params.threads > 1, USES_THREADS);
    for (int w = 0; w < WORKLOADS; w++) {
        if (!o->workloads[w])
            continue;
        if (p->sweep && (workload_info[w].uses & USES_LIVE) == 0)
            bad_option("--sweep-live", workload_info[w].name,
                       "this workload has no number of live objects");
        add_workload(p, o, (enum workload_id)w);
    }
}

/* A workload that none of the collectors runs is a mistake. */
static void check_cases(const struct plan *p)
{
    for (int i = 0; i < p->case_count; i++) {
        const struct bench_case *c = &p->cases[i];
        bool any = false;
        for (int k = 0; k < p->collector_count; k++)
            any |= case_runs(c, p->collectors[k]);
        if (!any && !c->same_divisor && (c->factor == 0 || c->first_factor))
            bad_option("--workload", workload_info[c->params.workload].name,
                       "none of the chosen collectors can run it");
    }
}

static bool have_executable(const struct plan *p, enum collector_id id)
{
    char path[4096];
    snprintf(path, sizeof path, "%s%s", p->directory,
             collector_info[id].executable);
    return access(path, X_OK) == 0;
}

static void find_executables(struct plan *p, bool collectors_given)
{
    ssize_t n =
        readlink("/proc/self/exe", p->directory, sizeof p->directory - 1);
    if (n <= 0) {
        fprintf(stderr, PROGRAM ": /proc/self/exe: %s\n", strerror(errno));
        exit(1);
    }
    p->directory[n] = '\0';
    strrchr(p->directory, '/')[1] = '\0';
    if (!collectors_given && have_executable(p, COLLECTOR_GO))
        p->collectors[p->collector_count++] = COLLECTOR_GO;
    if (p->with_noise && !have_executable(p, COLLECTOR_NOISE))
        bad_option("--with-noise", NULL, "needs tarn-pause-mimalloc");
    for (int i = 0; i < p->collector_count; i++) {
        const struct collector_info *c = &collector_info[p->collectors[i]];
        if (have_executable(p, p->collectors[i]))
            continue;
        if (p->collectors[i] == COLLECTOR_GO)
            fprintf(stderr, PROGRAM ": collector go: not built: there was no "
                                    "go of 1.18 or newer in PATH when cmake "
                                    "ran\n");
        else
            fprintf(stderr,
                    PROGRAM ": collector %s: %s%s: %s (is it built? "
                            "--collector chooses others)\n",
                    c->name, p->directory, c->executable, strerror(errno));
        exit(2);
    }
}

static void describe_machine(char *buf, size_t len)
{
    char line[512], cpu[160] = "unknown CPU";
    double memory_kb = 0;
    FILE *f = fopen("/proc/cpuinfo", "r");
    while (f != NULL && fgets(line, sizeof line, f) != NULL)
        if (sscanf(line, "model name : %159[^\n]", cpu) == 1)
            break;
    if (f != NULL)
        fclose(f);
    f = fopen("/proc/meminfo", "r");
    while (f != NULL && fgets(line, sizeof line, f) != NULL)
        if (sscanf(line, "MemTotal: %lf", &memory_kb) == 1)
            break;
    if (f != NULL)
        fclose(f);
    cpu_set_t set;
    int cpus =
        sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 0;
    struct utsname u;
    if (uname(&u) != 0)
        memset(&u, 0, sizeof u);
    snprintf(buf, len, "%s, %d CPUs, %.1f GiB, %.32s %.60s", cpu, cpus,
             memory_kb / 1048576, u.sysname, u.release);
    /* It becomes a JSON string. */
    for (char *c = buf; *c != '\0'; c++)
        if (*c == '"' || *c == '\\' || (unsigned char)*c < ' ')
            *c = '_';
}

void plan_path(const struct plan *p, const struct bench_case *c, int64_t repeat,
               enum collector_id collector, const char *suffix, char *buf,
               size_t len)
{
    snprintf(buf, len, "%s/%s-%s-r%" PRId64 "%s", p->hgrm, c->name,
             collector_info[collector].name, repeat + 1, suffix);
}

/* The same steps with the same seed must have done the same. */
static bool same_result(const struct plan *p, const struct bench_case *c,
                        const struct run *r, enum collector_id collector)
{
    bool timed = c->params.seconds != 0 &&
                 (workload_info[c->params.workload].uses & USES_STEPS) != 0;
    if (timed || collector == COLLECTOR_NOISE)
        return true;
    for (int64_t i = 0; i < p->repeat * COLLECTORS; i++) {
        const struct run *other = &c->runs[i];
        if (!other->done || i % COLLECTORS == COLLECTOR_NOISE ||
            strcmp(other->checksum, r->checksum) == 0)
            continue;
        fprintf(stderr, PROGRAM ": %s: checksum %s with %s, but %s with %s\n",
                c->name, r->checksum, collector_info[collector].name,
                other->checksum, collector_info[i % COLLECTORS].name);
        return false;
    }
    return true;
}

static void write_json(const struct plan *p, FILE *f,
                       const struct bench_case *c, int64_t repeat,
                       const char *line, const struct usage *u)
{
    /* The child's line is an object; the driver adds what it knows. */
    fprintf(f, "%.*s,\"user_s\":%.6f,\"system_s\":%.6f,\"peak_rss_mb\":%.1f",
            (int)(strlen(line) - 2), line, u->user_s, u->system_s, u->rss_mb);
    if (c->factor != 0)
        fprintf(f, ",\"factor\":%g", c->factor);
    fprintf(f, ",\"case\":\"%s\",\"repeat\":%" PRId64 ",\"machine\":\"%s\"}\n",
            c->name, repeat + 1, p->machine);
    if (fflush(f) != 0) {
        fprintf(stderr, PROGRAM ": %s: %s\n", p->json, strerror(errno));
        exit(1);
    }
}

struct progress {
    int64_t n, total;
};

static bool run_one(struct plan *p, FILE *json, struct bench_case *c,
                    int64_t repeat, enum collector_id g,
                    struct progress *progress)
{
    static char line[LINE_SIZE];
    struct run *run = plan_run(c, repeat, g);
    struct usage usage;
    progress->n++;
    if (!child_run(p, c, repeat, g, line, sizeof line, &usage))
        return false;
    if (!read_metrics(line, &usage, run)) {
        fprintf(stderr, PROGRAM ": malformed result: %s", line);
        return false;
    }
    if (json != NULL)
        write_json(p, json, c, repeat, line, &usage);
    if (!same_result(p, c, run, g))
        return false;
    run->done = true;
    fprintf(stderr,
            "[%" PRId64 "/%" PRId64 "] %s %s: %.2f s, longest step %.0f us\n",
            progress->n, progress->total, c->name, collector_info[g].name,
            run->v[METRIC_WALL], run->v[METRIC_LATENCY_MAX]);
    return true;
}

static bool run_all(struct plan *p, FILE *json)
{
    struct progress progress = {0, 0};
    bool good = true;
    for (int i = 0; i < p->case_count; i++) {
        for (int k = 0; k < p->collector_count; k++)
            progress.total += case_runs(&p->cases[i], p->collectors[k]);
        progress.total += noise_runs(p, &p->cases[i]);
    }
    progress.total *= p->repeat;
    for (int i = 0; i < p->case_count; i++)
        for (int64_t r = 0; r < p->repeat; r++) {
            struct bench_case *c = &p->cases[i];
            for (int k = 0; k < p->collector_count; k++) {
                enum collector_id g =
                    p->collectors[(k + r) % p->collector_count];
                if (case_runs(c, g))
                    good &= run_one(p, json, c, r, g, &progress);
            }
            if (noise_runs(p, c))
                good &= run_one(p, json, c, r, COLLECTOR_NOISE, &progress);
        }
    return good;
}

int main(int argc, char **argv)
{
    static struct plan p = {
        .collectors = {COLLECTOR_TARN, COLLECTOR_BOEHM, COLLECTOR_MIMALLOC},
        .collector_count = 3,
        .repeat = 3,
        .timeout = 600,
    };
    static struct options o;
    read_options(&p, &o, argc, argv);
    make_cases(&p, &o);
    find_executables(&p, o.collectors_given);
    check_cases(&p);
    describe_machine(p.machine, sizeof p.machine);

    if (p.hgrm != NULL && mkdir(p.hgrm, 0777) != 0 && errno != EEXIST)
        bad_option("--hgrm", p.hgrm, strerror(errno));
    FILE *json = NULL;
    if (p.json != NULL && (json = fopen(p.json, "w")) == NULL)
        bad_option("--json", p.json, strerror(errno));

    bool good = run_all(&p, json);
    print_report(&p);
    if (json != NULL && fclose(json) != 0) {
        fprintf(stderr, PROGRAM ": %s: %s\n", p.json, strerror(errno));
        good = false;
    }
    if (p.hgrm != NULL && !plot(&p))
        good = false;
    if (!good)
        fprintf(stderr, PROGRAM ": not every run ended well\n");
    return good ? 0 : 1;
}
