/* bench/stress_parent.c - rounds: starts a child for each, watches it, says what
 * became of it. The parent itself has no runtime, so whatever happens to a child
 * there is somebody to report it. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench/stress.h"

/* How long a child that hangs may take to print what it was doing. */
#define LAST_WORDS 10

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void nap(void)
{
    struct timespec t = {0, 20000000};
    nanosleep(&t, NULL);
}

static uint64_t sum_done(void)
{
    uint64_t n = 0;
    for (int i = 0; i < DO_COUNT; i++)
        n += atomic_load(&report->done[i]);
    return n;
}

struct outcome {
    int status; /* of wait */
    bool hung;
    double took;
};

static bool good(const struct outcome *o)
{
    return !o->hung && WIFEXITED(o->status) && WEXITSTATUS(o->status) == 0;
}

/* --- what is printed ------------------------------------------------------------ */

static void progress(int64_t round, double began, const char *modes)
{
    fprintf(stderr,
            "\r\033[Kround %" PRId64 ", %.1f s: %" PRId64 " Ps, %" PRIu64
            " holds, %" PRIu64 " collections; %s",
            round + 1, now() - began, plan.procs, sum_done(),
            (uint64_t)atomic_load(&report->collections), modes);
}

static void describe(const struct outcome *o, char *buf, size_t len)
{
    if (o->hung)
        snprintf(buf, len, "it hung and was killed");
    else if (WIFSIGNALED(o->status))
        snprintf(buf, len, "ended by signal %d (%s)", WTERMSIG(o->status),
                 strsignal(WTERMSIG(o->status)));
    else
        snprintf(buf, len, "exit status %d", WEXITSTATUS(o->status));
}

static const char *what_it_said(const struct outcome *o)
{
    if (report->failure[0] != '\0')
        return report->failure;
    if (o->hung)
        return "nothing was said; it took longer than --seconds and --patience";
    if (WIFSIGNALED(o->status) && WTERMSIG(o->status) == SIGKILL)
        return "nothing was said; somebody killed it, the system for want of "
               "memory perhaps";
    return "see the runtime's message above";
}

static void repeat_command(const struct stress_run *r, char *buf, size_t len)
{
    char modes[256], only[512];
    modes_names(plan.modes, modes, sizeof modes);
    behaviours_names(plan.behaviours, only, sizeof only);
    int n = snprintf(buf, len,
                     "%s --seed %" PRIu64 " --rounds 1 --modes %s --procs "
                     "%" PRId64 " --goroutines %" PRId64 " --seconds %g",
                     r->program, plan.seed, modes, plan.procs, plan.goroutines,
                     plan.seconds < 10 ? 10 : plan.seconds);
    if (strcmp(only, "all") != 0)
        n += snprintf(buf + n, len - (size_t)n, " --only %s", only);
    if (plan.breakage >= 0)
        snprintf(buf + n, len - (size_t)n, " --break %s",
                 breakage_name(plan.breakage));
}

static void report_failure(const struct stress_run *r, int64_t round,
                           const struct outcome *o)
{
    char how[128], modes[256], command[2048];
    describe(o, how, sizeof how);
    modes_names(plan.modes, modes, sizeof modes);
    repeat_command(r, command, sizeof command);
    fprintf(stderr,
            "\n" PROGRAM ": FAILED in round %" PRId64 " after %.2f s: %s\n"
            "  what:    %s\n"
            "  seed:    %" PRIu64 "\n"
            "  modes:   %s%s%s%s\n"
            "  size:    %" PRId64 " Ps, %" PRId64 " goroutines; %" PRIu64
            " holds, %" PRIu64 " collections until then\n"
            "  history: above, \"last events of P\" and \"events of "
            "goroutine\"\n"
            "  repeat:  %s\n",
            round + 1, o->took, how, what_it_said(o), plan.seed, modes,
            plan.tarn[0] != '\0' ? " (TARN=" : "", plan.tarn,
            plan.tarn[0] != '\0' ? ")" : "", plan.procs, plan.goroutines,
            sum_done(), (uint64_t)atomic_load(&report->collections), command);
}

static void write_json(FILE *f, int64_t round, const struct outcome *o)
{
    char modes[256];
    modes_names(plan.modes, modes, sizeof modes);
    fprintf(f,
            "{\"round\":%" PRId64 ",\"seed\":%" PRIu64
            ",\"modes\":\"%s\",\"options\":\"%s\",\"procs\":%" PRId64
            ",\"goroutines\":%" PRId64 ",\"break\":\"%s\",\"seconds\":%.3f,"
            "\"result\":\"%s\",\"status\":%d,\"signal\":%d,\"collections\":"
            "%" PRIu64 ",\"checks\":%" PRIu64 ",\"holds\":{",
            round + 1, plan.seed, modes, plan.tarn, plan.procs, plan.goroutines,
            breakage_name(plan.breakage), o->took,
            good(o)   ? "ok"
            : o->hung ? "hang"
                      : "failed",
            WIFEXITED(o->status) ? WEXITSTATUS(o->status) : -1,
            WIFSIGNALED(o->status) ? WTERMSIG(o->status) : 0,
            (uint64_t)atomic_load(&report->collections),
            (uint64_t)atomic_load(&report->checks));
    for (int i = 0; i < DO_COUNT; i++)
        fprintf(f, "%s\"%s\":%" PRIu64, i ? "," : "", behaviour_names[i],
                (uint64_t)atomic_load(&report->done[i]));
    fprintf(f, "}}\n");
    fflush(f);
}

/* --- a round ---------------------------------------------------------------------- */

static bool ended(pid_t pid, int *status, double until)
{
    do {
        pid_t r = waitpid(pid, status, WNOHANG);
        if (r == pid)
            return true;
        if (r < 0 && errno != EINTR) {
            *status = 0xff00;
            return true;
        }
        nap();
    } while (now() < until);
    return false;
}

static void watch(pid_t pid, int64_t round, double patience, struct outcome *o)
{
    char modes[256];
    double began = now(), late = began + plan.seconds + patience;
    bool terminal = isatty(STDERR_FILENO);
    modes_names(plan.modes, modes, sizeof modes);
    while (!ended(pid, &o->status, now() + 0.2)) {
        if (terminal)
            progress(round, began, modes);
        if (now() < late)
            continue;
        o->hung = true;
        kill(pid, SIGQUIT);
        if (!ended(pid, &o->status, now() + LAST_WORDS)) {
            kill(pid, SIGKILL);
            while (!ended(pid, &o->status, now() + 1))
                ;
        }
        break;
    }
    if (terminal)
        fprintf(stderr, "\r\033[K");
    o->took = now() - began;
}

static void make_plan(const struct stress_run *r, int64_t round, double left)
{
    static const int64_t procs[] = {1, 2, 2, 3, 4, 8};
    memset(&plan, 0, sizeof plan);
    plan.seed =
        round == 0 ? r->seed : stress_mix(r->seed, (uint64_t)round) & INT64_MAX;
    uint64_t rng = stress_mix(plan.seed, 0x91a9) | 1;
    uint32_t random = modes_random(&rng);
    int64_t p = procs[stress_below(&rng, sizeof procs / sizeof procs[0])];
    plan.modes = r->random_modes ? r->modes | random : r->modes;
    plan.procs = r->procs != 0 ? r->procs : p;
    plan.goroutines = r->goroutines;
    plan.behaviours = r->behaviours;
    plan.breakage = r->breakage;
    plan.seconds = r->round;
    if (left > 0 && plan.seconds > left)
        plan.seconds = left;
    modes_options(plan.modes, plan.seed, plan.tarn, sizeof plan.tarn);
}

/* False: it failed. */
static bool run_round(const struct stress_run *r, int64_t round, FILE *json)
{
    struct outcome o = {0};
    memset(report, 0, sizeof *report);
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0) {
        fprintf(stderr, PROGRAM ": fork: %s\n", strerror(errno));
        exit(1);
    }
    if (pid == 0)
        stress_child();
    watch(pid, round, r->patience, &o);
    if (json != NULL)
        write_json(json, round, &o);
    if (!good(&o))
        report_failure(r, round, &o);
    return good(&o);
}

int stress_run(const struct stress_run *r)
{
    report = mmap(NULL, sizeof *report, PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (report == MAP_FAILED) {
        fprintf(stderr, PROGRAM ": mmap: %s\n", strerror(errno));
        return 1;
    }
    FILE *json = NULL;
    if (r->json != NULL && (json = fopen(r->json, "w")) == NULL) {
        fprintf(stderr, PROGRAM ": %s: %s\n", r->json, strerror(errno));
        return 2;
    }
    printf(PROGRAM ": seed %" PRIu64 "%s%s\n", r->seed,
           r->breakage >= 0 ? ", broken on purpose: " : "",
           r->breakage >= 0 ? breakage_name(r->breakage) : "");
    double began = now();
    uint64_t holds = 0, collections = 0;
    int64_t round = 0;
    bool ok = true;
    while (ok && (r->rounds == 0 || round < r->rounds)) {
        double left = r->seconds - (now() - began);
        if (round > 0 && left <= 0.05)
            break;
        make_plan(r, round, r->rounds == 0 || round == 0 ? left : 0);
        ok = run_round(r, round++, json);
        holds += sum_done();
        collections += atomic_load(&report->collections);
    }
    if (json != NULL && fclose(json) != 0) {
        fprintf(stderr, PROGRAM ": %s: %s\n", r->json, strerror(errno));
        ok = false;
    }
    if (ok)
        printf(PROGRAM ": no failure: %" PRId64 " rounds, %" PRIu64
                       " holds, %" PRIu64
                       " collections in %.1f s, seed %" PRIu64 "\n",
               round, holds, collections, now() - began, r->seed);
    return ok ? 0 : 1;
}
