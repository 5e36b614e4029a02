/* tests/suite.h - runs tests as goroutines, in a child process for each number
 * of Ps, since a process has one runtime. What tests pass to goroutines lies in
 * static or managed memory: never on the stack of a goroutine, which may move.
 *
 *   static void body(void) { RUN(test_a); RUN(test_b); }
 *   main: harness_init(argc, argv); suite_run(body, 1); suite_run(body, 4);
 *
 * TARN_TEST_PROCS=N leaves out all but one number. The watchdog is for hangs
 * only: no test passes or fails by its speed.
 */
#ifndef TARN_TESTS_SUITE_H_
#define TARN_TESTS_SUITE_H_

#include <sys/mman.h>

#include "base/base.h"
#include "harness.h"
#include "tarn/tarn.h"

#define SUITE_WATCHDOG_SECONDS 600

/* Repetitions: fewer where each costs a hundred times as much. */
#define SUITE_REPEAT(n) harness_reps(TARN_TSAN ? ((n) + 9) / 10 : (n))

/* A status: an enumeration, which C does not compare with its own constants
 * without a warning. Both must be the same, by name. */
#define CHECK_ST(call, want)                                                   \
    do {                                                                       \
        tarn_status cs_got_ = (call), cs_want_ = (want);                       \
        if (cs_got_ != cs_want_)                                               \
            fprintf(stderr, "got %s, want %s; last error: %s\n",               \
                    tarn_status_name(cs_got_), tarn_status_name(cs_want_),     \
                    tarn_last_error());                                        \
        if (cs_got_ != cs_want_)                                               \
            harness_fail(__FILE__, __LINE__, #call " is " #want, (int)cs_got_, \
                         (int)cs_want_, true);                                 \
    } while (0)

static void (*suite_body)(void);

__attribute__((unused)) static void suite_goroutine(void *arg)
{
    (void)arg;
    suite_body();
}

__attribute__((unused)) static void suite_run(void (*body)(void), int procs)
{
    const char *only = getenv("TARN_TEST_PROCS");
    if (only != NULL && atoi(only) != procs)
        return;
    int *counts = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(counts != MAP_FAILED);
    printf("with %d Ps\n", procs);
    fflush(NULL);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        struct tarn_options o;
        alarm(SUITE_WATCHDOG_SECONDS);
        tarn_options_init(&o);
        o.maxprocs = procs;
        suite_body = body;
        harness_passed = harness_skipped = 0;
        CHECK_ST(tarn_main(&o, suite_goroutine, NULL), TARN_OK);
        counts[0] = harness_passed;
        counts[1] = harness_skipped;
        exit(0);
    }
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (WIFSIGNALED(status))
        fprintf(stderr, "with %d Ps: ended by signal %d%s\n", procs,
                WTERMSIG(status), WTERMSIG(status) == SIGALRM ? " (hang)" : "");
    CHECK(WIFEXITED(status));
    CHECK_EQ(WEXITSTATUS(status), 0);
    harness_passed += counts[0];
    harness_skipped += counts[1];
    munmap(counts, 4096);
}

/* A child in which fn(arg) is the first goroutine, with procs Ps. */
static int suite_child_procs __attribute__((unused)) = 2;
static tarn_fn suite_child_fn __attribute__((unused));
__attribute__((unused)) static void suite_child_main(void)
{
    struct tarn_options o;
    alarm(SUITE_WATCHDOG_SECONDS);
    tarn_options_init(&o);
    o.maxprocs = suite_child_procs;
    tarn_main(&o, suite_child_fn, NULL);
}

/* The program's own fault: the message, exit status 2. */
#define CHECK_FATAL(fn, needle)                                                \
    do {                                                                       \
        static char cf_out_[65536];                                            \
        suite_child_fn = (fn);                                                 \
        int cf_st_ =                                                           \
            harness_child(suite_child_main, NULL, cf_out_, sizeof cf_out_);    \
        CHECK_STR(cf_out_, needle);                                            \
        CHECK(WIFEXITED(cf_st_));                                              \
        CHECK_EQ(WEXITSTATUS(cf_st_), 2);                                      \
    } while (0)

/* A zeroed managed object in which any word may be a pointer. */
__attribute__((unused)) static void *new_shared(size_t size)
{
    void *p = tarn_alloc_conservative(size);
    CHECK(p != NULL);
    return p;
}

/* Initialises or changes a pointer field of a managed object. */
#define SET(field, value) tarn_store(&(field), (value))

__attribute__((unused)) static tarn_chan *new_chan(size_t size, size_t cap)
{
    tarn_chan *c = tarn_chan_new(size, cap);
    CHECK(c != NULL);
    return c;
}

__attribute__((unused)) static void go(tarn_fn fn, void *arg)
{
    CHECK_ST(tarn_go(fn, arg), TARN_OK);
}

#define LOAD(x) __atomic_load_n(&(x), __ATOMIC_ACQUIRE)
#define ADD(x, n) __atomic_add_fetch(&(x), (n), __ATOMIC_ACQ_REL)

#endif
