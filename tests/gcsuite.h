/* tests/gcsuite.h - for the collector's tests: children with options, pointers
 * that the collector cannot see, goroutines that make garbage.
 *
 *   main: harness_init(argc, argv); gc_run(body, 4, "checkmark=1");
 *
 * The options given here are defaults: TARN in the environment wins. Sizes are
 * scaled by what the options cost, see scaled().
 */
#ifndef TARN_TESTS_GCSUITE_H_
#define TARN_TESTS_GCSUITE_H_

#include "gc/gc.h"
#include "suite.h"

#define HIDE_KEY UINT64_C(0xa5a5a5a5a5a5a5a5)

static inline uint64_t hide(const void *p)
{
    return (uint64_t)(uintptr_t)p ^ HIDE_KEY;
}

static inline void *reveal(uint64_t hidden)
{
    return (void *)(uintptr_t)(hidden ^ HIDE_KEY);
}

static inline bool alive(uint64_t hidden)
{
    return tarn_object_base(reveal(hidden)) != NULL;
}

/* How large a thing is: less where each allocation or collection is dear. */
static inline int sized(int n)
{
    int by = 1;
    if (options.gcstress != 0)
        by *= options.gcstress < 100 ? 20 : 5;
    if (options.checkmark)
        by *= 2;
    if (options.delays != 0)
        by *= 4;
    if (TARN_TSAN)
        by *= 4;
    return n / by > 1 ? n / by : 1;
}

/* How often a thing is done. */
static inline int scaled(int n)
{
    return sized(harness_reps(n));
}

/* Seed of a generator for one use, from the seed of the run. */
static inline uint64_t seed_of(uint64_t n)
{
    uint64_t s = (harness_seed + n) * UINT64_C(0x9E3779B97F4A7C15);
    return s ? s : 1;
}

static inline uint32_t below(uint64_t *rng, uint32_t n)
{
    return (uint32_t)(harness_rand(rng) >> 33) % n;
}

/* Overwrites what is left of dead frames below the caller's. */
__attribute__((unused, noinline)) static void wipe_stack(void)
{
    volatile char dead[2048];
    for (size_t i = 0; i < sizeof dead; i++)
        dead[i] = 0;
}

static inline void collect(void)
{
    CHECK_ST(tarn_gc(), TARN_OK);
}

/* --- children with options ----------------------------------------------- */

static int gc_run_child_(void (*body)(void), int procs, const char *opts,
                         int *counts)
{
    struct tarn_options o;
    alarm(SUITE_WATCHDOG_SECONDS);
    tarn_options_init(&o);
    CHECK_ST(tarn_options_parse(&o, opts), TARN_OK);
    o.maxprocs = procs;
    suite_body = body;
    harness_passed = harness_skipped = 0;
    CHECK_ST(tarn_main(&o, suite_goroutine, NULL), TARN_OK);
    counts[0] = harness_passed;
    counts[1] = harness_skipped;
    exit(0);
}

__attribute__((unused)) static void gc_run(void (*body)(void), int procs,
                                           const char *opts)
{
    const char *only = getenv("TARN_TEST_PROCS");
    if (only != NULL && atoi(only) != procs)
        return;
    int *counts = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(counts != MAP_FAILED);
    printf("with %d Ps, %s\n", procs, *opts ? opts : "no options");
    fflush(NULL);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0)
        gc_run_child_(body, procs, opts, counts);
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        fprintf(stderr, "with %d Ps, %s: wait status %#x%s\n", procs, opts,
                (unsigned)status,
                WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM ? " (hang)"
                                                                   : "");
    CHECK(WIFEXITED(status));
    CHECK_EQ(WEXITSTATUS(status), 0);
    harness_passed += counts[0];
    harness_skipped += counts[1];
    munmap(counts, 4096);
}

/* --- garbage --------------------------------------------------------------- */

static _Atomic bool garbage_stop __attribute__((unused));
static tarn_waitgroup garbage_wg __attribute__((unused));

__attribute__((unused)) static void garbage_goroutine(void *arg)
{
    uint64_t rng = seed_of(0x6a00 + (uintptr_t)arg);
    while (!atomic_load(&garbage_stop)) {
        size_t n = 1 + below(&rng, 600);
        char *p =
            below(&rng, 2) ? tarn_alloc_bytes(n) : tarn_alloc_conservative(n);
        CHECK(p != NULL);
        for (size_t i = 0; i < n; i++)
            CHECK_EQ(p[i], 0);
        memset(p, 0x5a, n);
        if (below(&rng, 64) == 0)
            tarn_yield();
    }
    tarn_waitgroup_done(&garbage_wg);
}

__attribute__((unused)) static void garbage_start(int n)
{
    atomic_store(&garbage_stop, false);
    tarn_waitgroup_add(&garbage_wg, n);
    for (int i = 0; i < n; i++)
        go(garbage_goroutine, (void *)(uintptr_t)i);
}

__attribute__((unused)) static void garbage_end(void)
{
    atomic_store(&garbage_stop, true);
    tarn_waitgroup_wait(&garbage_wg);
}

#endif
