/* tests/stack/stackcase.h - runs functions that compute a checksum from a seed,
 * on a plain thread first and then as goroutines in several ways: as they are,
 * with the stack moved at every prologue, and with collections besides. All
 * must agree.
 *
 *   static uint64_t case_x(uint64_t seed) { ... }
 *   static struct stack_case cases[] = { CASE(case_x), ... };
 *   main: return stack_case_main(argc, argv, cases, ARRAY_N(cases));
 *
 * These files are compiled for copying stacks by each compiler at each level.
 */
#ifndef TARN_TESTS_STACKCASE_H_
#define TARN_TESTS_STACKCASE_H_

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <pthread.h>

#include "stackscan/stackscan.h"
#include "tarn/tarn.h"
#include "tests/harness.h"

#ifdef __clang__
#define NI __attribute__((noinline))
#else
#define NI __attribute__((noinline, noclone))
#endif
#define ARRAY_N(a) (sizeof(a) / sizeof((a)[0]))
/* The compiler knows neither the value of x nor that of memory afterwards. */
#define OPAQUE(x) __asm__ volatile("" : "+r"(x) : : "memory")

struct stack_case {
    const char *name;
    uint64_t (*fn)(uint64_t seed);
    uint64_t want;
};
#define CASE(f)                                                                \
    {                                                                          \
#f, f, 0                                                               \
    }

struct stack_mode {
    const char *name;
    int stackmove, gcstress, checkmark;
};

static struct stack_case *sc_cases;
static size_t sc_ncases;
static const struct stack_mode *sc_mode;
static tarn_waitgroup sc_wg;

static inline __attribute__((always_inline)) uint64_t mix(uint64_t h,
                                                          uint64_t v)
{
    h = (h ^ v) * UINT64_C(0x9E3779B97F4A7C15);
    return h ^ (h >> 29);
}

/* As a preemption does it. Others run at the next prologue, with the registers
 * that it has to keep. */
NI static void yield_at_next_prologue(void)
{
    struct m *mp = acquirem();
    struct g *gp = getg();
    atomic_store(&gp->preempt, true);
    set_stackguard(gp, STACK_PREEMPT);
    releasem(mp);
}

/* An array of ints: each would be half of a word whose other half a dead frame left,
 * now and then an address in the stack (docs/contract.md, "left to chance"). */
#define CLEAR(array)                                                           \
    do {                                                                       \
        memset(array, 0, sizeof(array));                                       \
        __asm__ volatile("" : : "r"(array) : "memory");                        \
    } while (0)

/* A call that the compiler cannot see through; now and then it allocates, and
 * so collects in stress runs, or lets others run. */
__attribute__((unused)) NI static uint64_t touch(uint64_t x)
{
    OPAQUE(x);
    if (tarn_self() != 0) {
        if ((x & 7) == 3)
            CHECK(tarn_alloc_conservative(48) != NULL);
        else if ((x & 63) == 9)
            tarn_yield();
        else if ((x & 15) == 5)
            yield_at_next_prologue();
    }
    return mix(x, 1);
}

static void *sc_thread(void *arg)
{
    struct stack_case *c = arg;
    c->want = c->fn(harness_seed);
    return NULL;
}

NI static void sc_run(struct stack_case *c)
{
    uint64_t got = c->fn(harness_seed);
    if (got != c->want)
        fprintf(stderr, "case %s, mode %s\n", c->name, sc_mode->name);
    CHECK_EQ(got, c->want);
}

static void sc_goroutine(void *arg)
{
    sc_run(arg);
    tarn_waitgroup_done(&sc_wg);
}

static void sc_main(void *unused)
{
    (void)unused;
    uint64_t copies = stack_stats.copies;
    for (size_t i = 0; i < sc_ncases; i++) {
        tarn_waitgroup_add(&sc_wg, 2);
        for (int k = 0; k < 2; k++)
            CHECK_EQ(tarn_go(sc_goroutine, &sc_cases[i]), TARN_OK);
        if (sc_mode->gcstress)
            CHECK_EQ(tarn_gc(), TARN_OK);
        sc_run(&sc_cases[i]);
        tarn_waitgroup_wait(&sc_wg);
    }
    copies = stack_stats.copies - copies;
    if (sc_mode->stackmove)
        CHECK_GT(copies, 1000);
    struct tarn_gc_stats gc = {.struct_size = sizeof(gc)};
    CHECK_EQ(tarn_gc_stats(&gc), TARN_OK);
    if (sc_mode->gcstress)
        CHECK_GE(gc.cycles, sc_ncases);
    printf("mode %s: %" PRIu64 " moves, %" PRIu64 " collections\n",
           sc_mode->name, copies, gc.cycles);
}

static void sc_run_mode(const struct stack_mode *mode)
{
    fflush(NULL);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        struct tarn_options o;
        alarm(600);
        tarn_options_init(&o);
        o.maxprocs = 2;
        o.stackmove = mode->stackmove;
        o.gcstress = mode->gcstress;
        o.checkmark = mode->checkmark;
        sc_mode = mode;
        CHECK_EQ(tarn_main(&o, sc_main, NULL), TARN_OK);
        exit(0);
    }
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (WIFSIGNALED(status))
        fprintf(stderr, "mode %s: ended by signal %d\n", mode->name,
                WTERMSIG(status));
    CHECK(WIFEXITED(status));
    CHECK_EQ(WEXITSTATUS(status), 0);
}

__attribute__((unused)) static int
stack_case_main(int argc, char **argv, struct stack_case *cases, size_t n)
{
    static const struct stack_mode modes[] = {
        {"as it is", 0, 0, 0},
        {"moved at every prologue", 1, 0, 0},
        {"moved, collections", 1, 8, 1},
    };
    harness_init(argc, argv);
    for (size_t i = 0; i < n; i++)
        if (harness_only == NULL || strstr(cases[i].name, harness_only))
            cases[sc_ncases++] = cases[i];
    sc_cases = cases;
    for (size_t i = 0; i < sc_ncases; i++) {
        pthread_t t;
        pthread_attr_t attr;
        pthread_attr_init(&attr);
        pthread_attr_setstacksize(&attr, (size_t)256 << 20);
        CHECK_EQ(pthread_create(&t, &attr, sc_thread, &cases[i]), 0);
        CHECK_EQ(pthread_join(t, NULL), 0);
        pthread_attr_destroy(&attr);
    }
    for (size_t i = 0; i < ARRAY_N(modes); i++)
        sc_run_mode(&modes[i]);
    harness_passed = (int)sc_ncases;
    return harness_done();
}

#endif
