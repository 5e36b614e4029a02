/* The rings of events: what is in them, and that a crash prints them if it is asked
 * to. */
#include "sched/sched.h"
#include "suite.h"

static char out[262144];

static void sleeper(void *c)
{
    uint64_t v;
    CHECK_ST(tarn_chan_recv(c, &v), TARN_OK);
    tarn_nanosleep(1000);
    CHECK_ST(tarn_chan_send(c, &v), TARN_OK);
}

static void do_things(void)
{
    tarn_chan *c = new_chan(8, 0);
    uint64_t v = 1;
    go(sleeper, c);
    tarn_yield();
    CHECK_ST(tarn_chan_send(c, &v), TARN_OK);
    CHECK_ST(tarn_chan_recv(c, &v), TARN_OK);
    tarn_gc();
    CHECK_ST(tarn_world_stop(), TARN_OK);
    CHECK_ST(tarn_world_start(), TARN_OK);
}

static void crash_main(void *unused)
{
    (void)unused;
    do_things();
    fatal("the end of this test");
}

static int64_t with_trace;

static void crash_child(void)
{
    struct tarn_options o;
    tarn_options_init(&o);
    o.maxprocs = 1;
    o.trace = with_trace;
    tarn_main(&o, crash_main, NULL);
}

static int crash(int64_t trace)
{
    with_trace = trace;
    return harness_child(crash_child, NULL, out, sizeof out);
}

static void test_crash_report(void)
{
    int st = crash(1);
    CHECK(WIFEXITED(st));
    CHECK_EQ(WEXITSTATUS(st), 2);
    static const char *const want[] = {
        "tarn: fatal: the end of this test",
        "last events of P 0:",
        "is started, by g ",
        "parks, chan receive",
        "is made ready, by g ",
        "enters a native call, sp=0x",
        "leaves a native call",
        "ends",
        "asks for a stop of the world",
        "has stopped the world, ns ",
        "starts the world",
        "is scanned, sp=0x",
        "events of goroutine ",
    };
    for (size_t i = 0; i < ARRAY_LEN(want); i++)
        if (strstr(out, want[i]) == NULL) {
            fprintf(stderr, "%s\nlacks \"%s\"\n", out, want[i]);
            CHECK(false);
        }
    /* Nothing of it comes before the message. */
    CHECK(strstr(out, "last events") > strstr(out, "the end of this test"));
}

static void test_no_report(void)
{
    int st = crash(0);
    CHECK(WIFEXITED(st));
    CHECK_EQ(WEXITSTATUS(st), 2);
    CHECK_STR(out, "tarn: fatal: the end of this test");
    CHECK(strstr(out, "last events") == NULL);
}

static uint64_t blamed_goid;

static void blamed(void *done)
{
    blamed_goid = tarn_self();
    uint64_t v = 1;
    CHECK_ST(tarn_chan_send(done, &v), TARN_OK);
}

static void blame_main(void *unused)
{
    (void)unused;
    tarn_chan *c = new_chan(8, 0);
    uint64_t v;
    go(blamed, c);
    CHECK_ST(tarn_chan_recv(c, &v), TARN_OK);
    trace_blame(blamed_goid);
    tarn_eprintf("blamed %llu\n", (unsigned long long)blamed_goid);
    fatal("its fault");
}

static void blame_child(void)
{
    struct tarn_options o;
    tarn_options_init(&o);
    o.maxprocs = 2;
    o.trace = 1;
    tarn_main(&o, blame_main, NULL);
}

/* The goroutine at fault need not be the one that runs. */
static void test_blame(void)
{
    int st = harness_child(blame_child, NULL, out, sizeof out);
    CHECK(WIFEXITED(st));
    CHECK_EQ(WEXITSTATUS(st), 2);
    unsigned long long goid = 0;
    CHECK_EQ(sscanf(strstr(out, "blamed "), "blamed %llu", &goid), 1);
    char line[100];
    snprintf(line, sizeof line,
             "events of goroutine %llu, the last one last:\n", goid);
    CHECK(strstr(out, line) != NULL);
    CHECK(strstr(strstr(out, line), ": runs, m ") != NULL);
}

static void many(void *unused)
{
    (void)unused;
    for (int i = 0; i < 1000; i++)
        tarn_yield();
}

/* A ring keeps the last ones, in order. */
static void body(void)
{
    for (int i = 0; i < 4; i++)
        go(many, NULL);
    many(NULL);
    struct m *mp = acquirem();
    struct trace_ring *r = &((struct p *)mp->p)->trace;
    if (!trace_on) {
        CHECK_EQ(r->n, 0);
    } else {
        CHECK_GT(r->n, TRACE_EVENTS);
        for (uint64_t i = r->n - TRACE_EVENTS + 1; i < r->n; i++)
            CHECK_GE(r->e[i % TRACE_EVENTS].tsc,
                     r->e[(i - 1) % TRACE_EVENTS].tsc);
    }
    releasem(mp);
}

int main(int argc, char **argv)
{
    harness_init(argc, argv);
    RUN(test_crash_report);
    RUN(test_no_report);
    RUN(test_blame);
    suite_run(body, 1);
    suite_run(body, 4);
    return harness_done();
}
