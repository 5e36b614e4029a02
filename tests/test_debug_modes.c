/* tests/test_debug_modes.c - what a run says of its debug modes at the start. */
#include "suite.h"

static void quick(void *unused)
{
    (void)unused;
    CHECK(tarn_alloc_bytes(16) != NULL);
}

static void once(void)
{
    struct tarn_options o;
    tarn_options_init(&o);
    o.maxprocs = 2;
    CHECK_ST(tarn_main(&o, quick, NULL), TARN_OK);
}

static void twice(void)
{
    once();
    once();
}

static void by_struct(void)
{
    struct tarn_options o;
    tarn_options_init(&o);
    o.gcstress = 1000;
    o.seed = 6;
    CHECK_ST(tarn_main(&o, quick, NULL), TARN_OK);
}

static char out[65536];

static void run(void (*fn)(void), const char *env)
{
    int st = harness_child(fn, env, out, sizeof out);
    if (st != 0)
        fprintf(stderr, "%s\n", out);
    CHECK_EQ(st, 0);
}

static int count(const char *text)
{
    int n = 0;
    for (const char *p = out; (p = strstr(p, text)) != NULL; p++)
        n++;
    return n;
}

static void test_none(void)
{
    run(once, NULL);
    CHECK_EQ(strlen(out), 0u);
    run(once, "TARN=seed=4,asyncpreempt=0");
    CHECK_EQ(strlen(out), 0u);
}

static void test_one_line(void)
{
    run(once, "TARN=stackmove=1,gcstress=64,seed=123");
    CHECK_EQ(strcmp(out, "tarn: debug modes: gcstress=64 (allocations between "
                         "two collections), stackmove=1 (every prologue that "
                         "checks moves the stack), seed=123\n"),
             0);
    run(by_struct, NULL);
    CHECK_EQ(strcmp(out, "tarn: debug modes: gcstress=1000 (allocations "
                         "between two collections), seed=6\n"),
             0);
    /* The runtime starts once, and so do its modes. */
    run(twice, "TARN=checkmark=1");
    CHECK_EQ(count("debug modes"), 1);
}

/* One from the clock is told too, so that it can be given. */
static void test_seed(void)
{
    long long first = 0, second = 0;
    run(once, "TARN=droppreempt=1");
    CHECK_EQ(sscanf(strstr(out, ", seed="), ", seed=%lld", &first), 1);
    run(once, "TARN=droppreempt=1");
    CHECK_EQ(sscanf(strstr(out, ", seed="), ", seed=%lld", &second), 1);
    CHECK(first > 0 && second > 0 && first != second);
}

int main(int argc, char **argv)
{
    harness_init(argc, argv);
    unsetenv("TARN");
    RUN(test_none);
    RUN(test_one_line);
    RUN(test_seed);
    return harness_done();
}
