/* bench/stress_main.c - tarn-stress: options. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bench/stress.h"

static const char usage[] =
    "usage: tarn-stress [OPTION...]\n"
    "Goroutines that hold the only references to structures of known shape\n"
    "wherever a collector has to look, block, spin, move their stacks, call "
    "native\n"
    "code, and check all the time that nothing was lost. In rounds: each is a\n"
    "process of its own with other modes.\n"
    "\n"
    "  --seconds S      how long altogether (default 10)\n"
    "  --round S        how long a round (default 2)\n"
    "  --rounds N       at most so many (default: as time allows)\n"
    "  --seed N         of all choices (default: from the clock; it is "
    "printed)\n"
    "  --procs N        Ps (default: other ones in each round, 1 to 8)\n"
    "  --goroutines N   workers, besides those that they start (default 24)\n"
    "  --modes LIST     modes that are on, or all, none, random (default "
    "random:\n"
    "                   others in each round)\n"
    "  --only LIST      behaviours (default all)\n"
    "  --patience S     a round that takes so much longer hangs (default 120)\n"
    "  --json FILE      a line of JSON for each round\n"
    "  --help\n"
    "\n"
    "Progress is shown on a terminal. A failure ends the run: the last events "
    "of\n"
    "each P, the history of the goroutine at fault, seed, modes, and the "
    "command\n"
    "that repeats the round.\n"
    "\n"
    "Exit status: 0; 1 if a round failed; 2 for bad options.\n"
    "\n";

static __attribute__((noreturn)) void
bad_option(const char *name, const char *value, const char *why)
{
    if (value != NULL)
        fprintf(stderr, PROGRAM ": %s %s: %s\n", name, value, why);
    else
        fprintf(stderr, PROGRAM ": %s: %s\n", name, why);
    exit(2);
}

static int64_t read_count(const char *name, const char *value, int64_t min,
                          int64_t max)
{
    char *end;
    errno = 0;
    long long v = strtoll(value, &end, 0);
    if (errno != 0 || end == value || *end != '\0' || v < min || v > max)
        bad_option(name, value, "malformed or out of range");
    return v;
}

static double read_seconds(const char *name, const char *value)
{
    char *end;
    double v = strtod(value, &end);
    if (end == value || *end != '\0' || !isfinite(v) || v < 0.1 || v > 1e7)
        bad_option(name, value, "malformed or out of range");
    return v;
}

static void read_option(struct stress_run *r, const char *name,
                        const char *value)
{
    const char *bad = NULL;
    if (strcmp(name, "--seconds") == 0) {
        r->seconds = read_seconds(name, value);
    } else if (strcmp(name, "--round") == 0) {
        r->round = read_seconds(name, value);
    } else if (strcmp(name, "--patience") == 0) {
        r->patience = read_seconds(name, value);
    } else if (strcmp(name, "--rounds") == 0) {
        r->rounds = read_count(name, value, 1, 1000000000);
    } else if (strcmp(name, "--seed") == 0) {
        r->seed = (uint64_t)read_count(name, value, 0, INT64_MAX);
    } else if (strcmp(name, "--procs") == 0) {
        r->procs = read_count(name, value, 1, 1024);
    } else if (strcmp(name, "--goroutines") == 0) {
        r->goroutines = read_count(name, value, 1, MAX_GOROUTINES);
    } else if (strcmp(name, "--json") == 0) {
        r->json = value;
    } else if (strcmp(name, "--modes") == 0) {
        if (!modes_parse(value, &r->modes, &r->random_modes, &bad))
            bad_option(name, bad, "no such mode (see --help)");
    } else if (strcmp(name, "--only") == 0) {
        if (!behaviours_parse(value, &r->behaviours, &bad))
            bad_option(name, bad, "no such behaviour (see --help)");
    } else if (strcmp(name, "--break") == 0) {
        if (strcmp(value, "help") == 0) {
            breakages_list();
            exit(0);
        }
        r->breakage = breakage_by_name(value);
        if (r->breakage < 0)
            bad_option(name, value, "no such breakage (see --break help)");
    } else {
        bad_option(name, NULL, "unknown option (see --help)");
    }
}

int main(int argc, char **argv)
{
    static char path[4096];
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    struct stress_run r = {
        .seconds = 10,
        /* With everything switched on, under a sanitizer, on a busy machine. */
        .patience = 120,
        .seed = stress_mix((uint64_t)t.tv_sec, (uint64_t)t.tv_nsec) >> 16,
        .goroutines = 24,
        .behaviours = (UINT32_C(1) << DO_COUNT) - 1,
        .random_modes = true,
        .breakage = -1,
        .program = argv[0],
    };
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    if (n > 0)
        r.program = path;
    for (int i = 1; i < argc; i++) {
        char name[64];
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            fputs(usage, stdout);
            modes_list();
            return 0;
        }
        const char *equals = strchr(argv[i], '=');
        int len =
            equals == NULL ? (int)strlen(argv[i]) : (int)(equals - argv[i]);
        snprintf(name, sizeof name, "%.*s", len, argv[i]);
        if (equals == NULL && i + 1 == argc)
            bad_option(name, NULL, "unknown option, or it needs a value");
        read_option(&r, name, equals == NULL ? argv[++i] : equals + 1);
    }
    /* A repeated round is one, as long as is allowed. */
    if (r.round == 0)
        r.round = r.rounds == 1 ? r.seconds : 2;
    return stress_run(&r);
}
