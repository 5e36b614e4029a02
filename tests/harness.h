/* tests/harness.h - what every test program shares: checks that print both
 * values, a printed and accepted seed, a filter, tests that must die.
 *
 *   static void test_x(void) { CHECK_EQ(1 + 1, 2); }
 *   int main(int argc, char **argv)
 *   {
 *       harness_init(argc, argv);   // --seed N, --only SUBSTRING, --repeat N
 *       RUN(test_x);
 *       return harness_done();      // prints "N passed, N failed, N skipped"
 *   }
 *
 * A failed CHECK prints file, line, both values and the seed, then aborts: a
 * concurrent program cannot go on from a broken invariant.
 */
#ifndef TARN_TESTS_HARNESS_H_
#define TARN_TESTS_HARNESS_H_

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static uint64_t harness_seed;
static const char *harness_only;
static int harness_repeat = 1;
static int harness_passed, harness_skipped;
static const char *harness_current = "?";
static bool harness_skip_flag __attribute__((unused));

static inline void harness_init(int argc, char **argv)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    harness_seed = ((uint64_t)ts.tv_sec * 1000000007u) ^ (uint64_t)ts.tv_nsec;
    const char *e = getenv("TARN_TEST_SEED");
    if (e)
        harness_seed = strtoull(e, NULL, 0);
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--seed") == 0)
            harness_seed = strtoull(argv[i + 1], NULL, 0);
        else if (strcmp(argv[i], "--only") == 0)
            harness_only = argv[i + 1];
        else if (strcmp(argv[i], "--repeat") == 0)
            harness_repeat = atoi(argv[i + 1]);
    }
    if (harness_seed == 0)
        harness_seed = 1;
    setvbuf(stdout, NULL, _IONBF, 0);
    printf("seed %" PRIu64 "\n", harness_seed);
}

/* Repetitions of what is proven by many: all of them with TARN_TEST_LONG set, as
 * ./dev test --long and ./dev soak do, else a fifth. */
__attribute__((unused)) static inline int harness_reps(int n)
{
    static int known; /* several threads may ask at a time */
    int by = __atomic_load_n(&known, __ATOMIC_RELAXED);
    if (by == 0) {
        by = getenv("TARN_TEST_LONG") != NULL ? 1 : 5;
        __atomic_store_n(&known, by, __ATOMIC_RELAXED);
    }
    return n / by > 1 ? n / by : 1;
}

/* A generator of its own for each caller: xorshift64*, never 0. */
static inline uint64_t harness_rand(uint64_t *s)
{
    uint64_t x = *s ? *s : 1;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *s = x;
    return x * UINT64_C(0x2545F4914F6CDD1D);
}

__attribute__((noreturn)) static inline void
harness_fail(const char *file, int line, const char *what, long long a,
             long long b, bool values)
{
    if (values)
        fprintf(stderr,
                "%s:%d: %s: CHECK failed: %s (%lld [0x%llx] vs %lld [0x%llx]), "
                "seed %" PRIu64 "\n",
                file, line, harness_current, what, a, (unsigned long long)a, b,
                (unsigned long long)b, harness_seed);
    else
        fprintf(stderr, "%s:%d: %s: CHECK failed: %s, seed %" PRIu64 "\n", file,
                line, harness_current, what, harness_seed);
    abort();
}

#define CHECK(e)                                                               \
    do {                                                                       \
        if (!(e))                                                              \
            harness_fail(__FILE__, __LINE__, #e, 0, 0, false);                 \
    } while (0)
#define CHECK_OP_(a, op, b)                                                    \
    do {                                                                       \
        __auto_type ca_ = (a);                                                 \
        __auto_type cb_ = (b);                                                 \
        if (!(ca_ op cb_))                                                     \
            harness_fail(__FILE__, __LINE__, #a " " #op " " #b,                \
                         (long long)ca_, (long long)cb_, true);                \
    } while (0)
#define CHECK_EQ(a, b) CHECK_OP_(a, ==, b)
#define CHECK_NE(a, b) CHECK_OP_(a, !=, b)
#define CHECK_LT(a, b) CHECK_OP_(a, <, b)
#define CHECK_LE(a, b) CHECK_OP_(a, <=, b)
#define CHECK_GE(a, b) CHECK_OP_(a, >=, b)
#define CHECK_GT(a, b) CHECK_OP_(a, >, b)
#define CHECK_STR(haystack, needle)                                            \
    do {                                                                       \
        if (strstr((haystack), (needle)) == NULL) {                            \
            fprintf(stderr, "output was:\n%s\n", (haystack));                  \
            harness_fail(__FILE__, __LINE__, "output has \"" needle "\"", 0,   \
                         0, false);                                            \
        }                                                                      \
    } while (0)

/* Inside a test: say why it cannot run here and return. */
#define SKIP(why)                                                              \
    do {                                                                       \
        printf("skip %s: %s\n", harness_current, why);                         \
        harness_skip_flag = true;                                              \
        return;                                                                \
    } while (0)

#define RUN(fn)                                                                \
    do {                                                                       \
        if (harness_only == NULL || strstr(#fn, harness_only) != NULL)         \
            for (int rep_ = 0; rep_ < harness_repeat; rep_++) {                \
                harness_current = #fn;                                         \
                harness_skip_flag = false;                                     \
                printf("run  %s\n", #fn);                                      \
                fn();                                                          \
                if (harness_skip_flag)                                         \
                    harness_skipped++;                                         \
                else                                                           \
                    harness_passed++;                                          \
            }                                                                  \
    } while (0)

static inline int harness_done(void)
{
    printf("%d passed, 0 failed, %d skipped\n", harness_passed,
           harness_skipped);
    return 0;
}

/* Runs fn in a child; returns its wait status and what it wrote to stdout and
 * stderr together (NUL-terminated, cut at len). env may be NULL or "NAME=VALUE"
 * put into the child's environment. */
static inline int harness_child(void (*fn)(void), const char *env, char *out,
                                size_t len)
{
    int fds[2];
    CHECK(pipe(fds) == 0);
    fflush(NULL);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        close(fds[0]);
        dup2(fds[1], 1);
        dup2(fds[1], 2);
        close(fds[1]);
        if (env)
            putenv((char *)(uintptr_t)env);
        fn();
        _exit(0);
    }
    close(fds[1]);
    size_t n = 0;
    char drop[4096];
    for (;;) {
        char *to = n + 1 < len ? out + n : drop;
        size_t room = n + 1 < len ? len - 1 - n : sizeof drop;
        ssize_t r = read(fds[0], to, room);
        if (r < 0 && errno == EINTR)
            continue;
        if (r <= 0)
            break;
        if (to != drop)
            n += (size_t)r;
    }
    out[n < len ? n : len - 1] = '\0';
    close(fds[0]);
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return status;
}
/* The child must end by SIGABRT (throw, failed assertion). */
#define CHECK_THROWS(fn, env, needle)                                          \
    do {                                                                       \
        static char ct_out_[65536];                                            \
        int ct_st_ = harness_child(fn, env, ct_out_, sizeof ct_out_);          \
        CHECK_STR(ct_out_, needle);                                            \
        CHECK(WIFSIGNALED(ct_st_) && WTERMSIG(ct_st_) == SIGABRT);             \
    } while (0)

#endif
