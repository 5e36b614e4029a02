/* bench/pause_child.c - one child process: parameters in, one line out. */
#include "bench/pause.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_ARGS 48

struct arguments {
    char *argv[MAX_ARGS];
    int n;
    char text[16384]; /* what argv points into */
    size_t used;
};

static __attribute__((format(printf, 2, 3))) void add(struct arguments *a,
                                                      const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    size_t room = sizeof a->text - a->used;
    int n = vsnprintf(a->text + a->used, room, fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= room || a->n + 1 >= MAX_ARGS) {
        fprintf(stderr, PROGRAM ": arguments of a child are too long\n");
        exit(1);
    }
    a->argv[a->n++] = a->text + a->used;
    a->argv[a->n] = NULL;
    a->used += (size_t)n + 1;
}

struct headroom headroom_of(enum collector_id collector, double factor)
{
    struct headroom h = {NULL, ""};
    long percent = lround((factor - 1) * 100);
    /* With pointers everywhere Boehm allocates twice what it scans, divided by
     * this, before it collects. 1 is the lowest. */
    long divisor = lround(2 / (factor - 1));
    switch (collector) {
    case COLLECTOR_TARN:
        h.variable = "TARN";
        snprintf(h.value, sizeof h.value, "gcpercent=%ld", percent);
        break;
    case COLLECTOR_BOEHM:
    case COLLECTOR_BOEHM_INCREMENTAL:
        h.variable = "GC_FREE_SPACE_DIVISOR";
        snprintf(h.value, sizeof h.value, "%ld", divisor < 1 ? 1 : divisor);
        break;
    case COLLECTOR_GO:
        h.variable = "GOGC";
        snprintf(h.value, sizeof h.value, "%ld", percent);
        break;
    default:
        break;
    }
    return h;
}

/* In the child. What TARN holds already stays in force beside it. */
static void set_headroom(enum collector_id collector, double factor)
{
    struct headroom h = headroom_of(collector, factor);
    char value[4096];
    if (factor == 0 || h.variable == NULL)
        return;
    const char *before =
        collector == COLLECTOR_TARN ? getenv(h.variable) : NULL;
    bool any = before != NULL && before[0] != '\0';
    int n = snprintf(value, sizeof value, "%s%s%s", any ? before : "",
                     any ? "," : "", h.value);
    if (n < 0 || (size_t)n >= sizeof value ||
        setenv(h.variable, value, 1) != 0) {
        fprintf(stderr, PROGRAM ": %s cannot be set\n", h.variable);
        _exit(126);
    }
}

static void build_arguments(struct arguments *a, const struct plan *p,
                            const struct bench_case *c, int64_t repeat,
                            enum collector_id collector, int out)
{
    /* A collector uses what CPUs there are, and a machine with all of them busy
     * has hiccups that one with a single busy one does not have. */
    int64_t cpus = sysconf(_SC_NPROCESSORS_ONLN);
    const struct params noise = {
        .workload = WORKLOAD_NOISE,
        .seconds = NOISE_SECONDS,
        .threads = cpus > c->params.threads ? cpus : c->params.threads,
        .seed = c->params.seed};
    const struct params *q = collector == COLLECTOR_NOISE ? &noise : &c->params;
    char path[4096];
    add(a, "%s%s", p->directory, collector_info[collector].executable);
    add(a, "--workload");
    add(a, "%s", workload_info[q->workload].name);
    const struct {
        const char *name;
        int64_t value;
    } counts[] = {
        {"--live", q->live},
        {"--depth", q->depth},
        {"--array", q->array},
        {"--steps", q->steps},
        {"--threads", q->threads},
        {"--size", q->size},
        {"--goroutines", q->goroutines},
        {"--frames", q->frames},
        {"--seed", (int64_t)q->seed},
        {"--out", out},
    };
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
        if (counts[i].value != 0) {
            add(a, "%s", counts[i].name);
            add(a, "%" PRId64, counts[i].value);
        }
    if (q->seconds != 0) {
        add(a, "--seconds");
        add(a, "%.17g", q->seconds);
    }
    if (q->rate != 0) {
        add(a, "--rate");
        add(a, "%.17g", q->rate);
    }
    if (collector_info[collector].incremental) {
        add(a, "--incremental");
        add(a, "1");
    }
    if (p->hgrm != NULL) {
        static const char *const files[][2] = {
            {"--latency-hgrm", ".latency.hgrm"},
            {"--pause-hgrm", ".pause.hgrm"},
            {"--timeline", ".timeline"},
        };
        for (size_t i = 0; i < 3; i++) {
            plan_path(p, c, repeat, collector, files[i][1], path, sizeof path);
            add(a, "%s", files[i][0]);
            add(a, "%s", path);
        }
    }
}

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static __attribute__((noreturn)) void fail_errno(const char *what)
{
    fprintf(stderr, PROGRAM ": %s: %s\n", what, strerror(errno));
    exit(1);
}

/* Between fork and exec: results go to the pipe, all other output to err. */
static __attribute__((noreturn)) void exec_child(struct arguments *a, int out,
                                                 int err, pid_t parent)
{
    int null = open("/dev/null", O_RDONLY);
    if (null < 0 || dup2(null, 0) < 0 || dup2(err, 1) < 0 || dup2(err, 2) < 0 ||
        fcntl(out, F_SETFD, 0) < 0)
        _exit(126);
    /* A driver that is killed takes its child with it. */
    prctl(PR_SET_PDEATHSIG, (unsigned long)SIGKILL, 0UL, 0UL, 0UL);
    if (getppid() != parent)
        _exit(126);
    execv(a->argv[0], a->argv);
    fprintf(stderr, PROGRAM ": %s: %s\n", a->argv[0], strerror(errno));
    _exit(127);
}

/* Reads what is there into buf, or drops it once buf is full. False at the end
 * of the stream. */
static bool drain(int fd, char *buf, size_t size, size_t *used)
{
    char spill[4096];
    bool full = *used + 1 >= size;
    ssize_t n = full ? read(fd, spill, sizeof spill)
                     : read(fd, buf + *used, size - 1 - *used);
    if (n < 0)
        return errno == EINTR || errno == EAGAIN;
    if (!full)
        *used += (size_t)n;
    buf[*used] = '\0';
    return n > 0;
}

/* Reads both streams until both are closed. False if the time ran out. */
static bool collect(int out, int err, int64_t deadline, char *line, size_t len,
                    char *errors, size_t errors_len)
{
    struct pollfd fds[2] = {{out, POLLIN, 0}, {err, POLLIN, 0}};
    size_t line_used = 0, errors_used = 0;
    line[0] = errors[0] = '\0';
    while (fds[0].fd >= 0 || fds[1].fd >= 0) {
        int64_t left = deadline - now_ms();
        if (left <= 0)
            return false;
        int n = poll(fds, 2, left > 60000 ? 60000 : (int)left);
        if (n < 0 && errno != EINTR)
            fail_errno("poll");
        if (n <= 0)
            continue;
        if (fds[0].revents != 0 && !drain(out, line, len, &line_used))
            fds[0].fd = -1;
        if (fds[1].revents != 0 &&
            !drain(err, errors, errors_len, &errors_used))
            fds[1].fd = -1;
    }
    return true;
}

static void describe_status(int status, char *buf, size_t len)
{
    if (WIFEXITED(status))
        snprintf(buf, len, "exit status %d", WEXITSTATUS(status));
    else if (WIFSIGNALED(status))
        snprintf(buf, len, "killed by signal %d (%s)", WTERMSIG(status),
                 strsignal(WTERMSIG(status)));
    else
        snprintf(buf, len, "wait status %#x", (unsigned)status);
}

bool child_run(const struct plan *p, const struct bench_case *c, int64_t repeat,
               enum collector_id collector, char *line, size_t len,
               struct usage *usage)
{
    static char errors[65536];
    static struct arguments a;
    int out[2], err[2];
    if (pipe2(out, O_CLOEXEC) != 0 || pipe2(err, O_CLOEXEC) != 0)
        fail_errno("pipe");
    a.n = 0;
    a.used = 0;
    build_arguments(&a, p, c, repeat, collector, out[1]);

    pid_t self = getpid();
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0)
        fail_errno("fork");
    if (pid == 0) {
        set_headroom(collector, c->factor);
        exec_child(&a, out[1], err[1], self);
    }
    close(out[1]);
    close(err[1]);
    bool in_time = collect(out[0], err[0], now_ms() + p->timeout * 1000, line,
                           len, errors, sizeof errors);
    if (!in_time)
        kill(pid, SIGKILL);
    close(out[0]);
    close(err[0]);
    int status;
    struct rusage ru;
    while (wait4(pid, &status, 0, &ru) < 0)
        if (errno != EINTR)
            fail_errno("wait4");
    usage->user_s =
        (double)ru.ru_utime.tv_sec + (double)ru.ru_utime.tv_usec / 1e6;
    usage->system_s =
        (double)ru.ru_stime.tv_sec + (double)ru.ru_stime.tv_usec / 1e6;
    usage->rss_mb = (double)ru.ru_maxrss / 1024;

    char why[128];
    size_t n = strlen(line);
    if (!in_time)
        snprintf(why, sizeof why, "no end after %" PRId64 " s (--timeout)",
                 p->timeout);
    else if (status != 0)
        describe_status(status, why, sizeof why);
    else if (n < 3 || line[0] != '{' || strcmp(line + n - 2, "}\n") != 0)
        snprintf(why, sizeof why, "exit status 0 without a result");
    else
        why[0] = '\0';
    if (why[0] != '\0')
        fprintf(stderr, PROGRAM ": %s with %s, repeat %" PRId64 ": %s%s\n",
                c->name, collector_info[collector].name, repeat + 1, why,
                errors[0] != '\0' ? "; its stderr:" : "; it wrote no message");
    fputs(errors, stderr);
    return why[0] == '\0';
}
