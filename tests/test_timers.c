/* Sleep and timers. What a clock can promise is "not before": no test here
 * fails because something came late. */
#include "base/fail.h"
#include "sched/sched.h"
#include "suite.h"

#define MS INT64_C(1000000)

static uint64_t seed_for(uint64_t i)
{
    return harness_seed * UINT64_C(0x9E3779B97F4A7C15) + i + 1;
}

static void test_off_goroutine(void)
{
    CHECK(tarn_timer_start(0, NULL, NULL) == NULL);
    CHECK(tarn_last_error()[0] != '\0');
    CHECK(!tarn_timer_stop(NULL));
    int64_t before = tarn_now();
    CHECK_GT(before, 0);
    tarn_sleep(1); /* nothing to park */
    CHECK_GE(tarn_now(), before);
}

/* --- sleep --------------------------------------------------------------- */

static void test_sleep_lower_bound(void)
{
    static const int64_t ns[] = {INT64_MIN, -1, 0,      1,      1000,
                                 100000,    MS, 5 * MS, 20 * MS};
    for (size_t i = 0; i < sizeof ns / sizeof ns[0]; i++) {
        int64_t before = tarn_now();
        tarn_sleep(ns[i]);
        if (ns[i] > 0)
            CHECK_GE(tarn_now() - before, ns[i]);
    }
}

/* Alone with short sleeps: each time every thread goes to sleep just when the
 * timer is due, and somebody must see it. */
static void test_sleep_short(void)
{
    uint64_t rng = seed_for(1);
    for (int i = 0; i < 3000; i++) {
        int64_t ns = 1 + (int64_t)(harness_rand(&rng) % 60000);
        int64_t before = tarn_now();
        tarn_sleep(ns);
        CHECK_GE(tarn_now() - before, ns);
    }
}

struct sleepers {
    tarn_waitgroup wg;
    uint64_t id, woken;
};

static void sleep_some(void *arg)
{
    struct sleepers *s = arg;
    uint64_t rng = seed_for(ADD(s->id, 1));
    for (int i = 0; i < 3; i++) {
        int64_t ns = (int64_t)(harness_rand(&rng) % (uint64_t)(30 * MS));
        int64_t before = tarn_now();
        tarn_sleep(ns);
        CHECK_GE(tarn_now() - before, ns);
    }
    ADD(s->woken, 1);
    tarn_waitgroup_done(&s->wg);
}

static void test_sleep_thousands(void)
{
    enum { N = 5000 };
    struct sleepers *s = new_shared(sizeof *s);
    tarn_waitgroup_add(&s->wg, N);
    for (int i = 0; i < N; i++)
        go(sleep_some, s);
    tarn_waitgroup_wait(&s->wg);
    CHECK_EQ(s->woken, (uint64_t)N);
}

struct busy {
    tarn_waitgroup wg;
    bool stop;
};

static void spin_politely(void *arg)
{
    struct busy *b = arg;
    while (!LOAD(b->stop))
        tarn_poll();
    tarn_waitgroup_done(&b->wg);
}

/* Every P has more than enough to do; a sleeper still gets its turn. */
static void test_sleep_among_busy(void)
{
    struct busy *b = new_shared(sizeof *b);
    int n = 2 * (int)tarn_procs();
    tarn_waitgroup_add(&b->wg, n);
    for (int i = 0; i < n; i++)
        go(spin_politely, b);
    for (int i = 0; i < 5; i++)
        tarn_sleep(MS);
    __atomic_store_n(&b->stop, true, __ATOMIC_RELEASE);
    tarn_waitgroup_wait(&b->wg);
}

/* --- timers -------------------------------------------------------------- */

struct fired {
    tarn_chan *c;
    int64_t due;
    uint64_t count;
};

static void fire(void *arg)
{
    struct fired *f = arg;
    int64_t now = tarn_now();
    CHECK_GE(now, f->due);
    ADD(f->count, 1);
    CHECK_ST(tarn_chan_send(f->c, NULL), TARN_OK);
}

static tarn_timer *start_timer(int64_t ns, tarn_fn fn, void *arg)
{
    tarn_timer *t = tarn_timer_start(ns, fn, arg);
    CHECK(t != NULL);
    return t;
}

static void test_timer_fires(void)
{
    static const int64_t ns[] = {INT64_MIN, -5, 0, 1, 1000, MS, 10 * MS};
    CHECK(tarn_timer_start(MS, NULL, NULL) == NULL);
    CHECK_STR(tarn_last_error(), "fn");
    for (size_t i = 0; i < sizeof ns / sizeof ns[0]; i++) {
        struct fired *f = new_shared(sizeof *f);
        SET(f->c, new_chan(0, 0));
        f->due = tarn_now() + (ns[i] > 0 ? ns[i] : 0);
        tarn_timer *t = start_timer(ns[i], fire, f);
        /* Waiting for a timer only is no deadlock. */
        CHECK_ST(tarn_chan_recv(f->c, NULL), TARN_OK);
        CHECK_EQ(LOAD(f->count), 1u);
        CHECK(!tarn_timer_stop(t));
        CHECK(!tarn_timer_stop(t));
    }
}

static void must_not_fire(void *arg)
{
    (void)arg;
    CHECK(!"a stopped timer fired");
}

static void test_timer_stop(void)
{
    static const int64_t ns[] = {3600 * 1000 * MS, INT64_MAX};
    for (int i = 0; i < 2; i++) {
        tarn_timer *t = start_timer(ns[i], must_not_fire, NULL);
        CHECK(tarn_timer_stop(t));
        CHECK(!tarn_timer_stop(t));
    }
    CHECK(!tarn_timer_stop(NULL));
    /* Stopped long before it would be due; then time passes it. */
    tarn_timer *t = start_timer(200 * MS, must_not_fire, NULL);
    CHECK(tarn_timer_stop(t));
    tarn_sleep(250 * MS);
}

/* Below goroutines, on one P, the order is exact: by deadline, and those that
 * were deleted do not fire. Runs on g0. */
#define EXACT_N 2000
static struct timer exact_timers[EXACT_N];
static uint32_t exact_log[EXACT_N], exact_n;

static void exact_fire(void *arg)
{
    exact_log[exact_n] = (uint32_t)((struct timer *)arg - exact_timers);
    __atomic_store_n(&exact_n, exact_n + 1, __ATOMIC_RELEASE);
}

static void test_timer_exact_order(void)
{
    if (tarn_procs() != 1)
        SKIP("each P has a heap of its own");
    uint64_t rng = seed_for(5);
    bool gone[EXACT_N] = {false};
    uint32_t left = EXACT_N;
    exact_n = 0;
    int64_t base = tarn_now() + 100 * MS;
    for (uint32_t i = 0; i < EXACT_N; i++) {
        struct timer *t = &exact_timers[i];
        t->when = base + (int64_t)(harness_rand(&rng) % 20000) * 1000;
        t->f = exact_fire;
        t->arg = t;
        t->keep = NULL;
        timer_add(t);
        uint32_t k = (uint32_t)(harness_rand(&rng) % (i + 1));
        if (i % 3 == 2 && timer_del(&exact_timers[k])) {
            CHECK(!gone[k]);
            gone[k] = true;
            left--;
        }
    }
    /* If arming took too long, some fired before others were armed. */
    bool in_time = tarn_now() < base;
    while (LOAD(exact_n) < left)
        tarn_sleep(MS);
    CHECK_EQ(exact_n, left);
    for (uint32_t i = 0; i < left; i++) {
        CHECK(!gone[exact_log[i]]);
        if (i > 0 && in_time)
            CHECK_LE(exact_timers[exact_log[i - 1]].when,
                     exact_timers[exact_log[i]].when);
        gone[exact_log[i]] = true;
    }
}

/* In any order of deadlines: each fires once, none early. */
#define ORDER_N 200
struct order {
    tarn_chan *c;
    uint64_t next, rank[ORDER_N];
    int64_t due[ORDER_N];
};

struct order_arg {
    struct order *o;
    int i;
};

static void order_fire(void *arg)
{
    struct order_arg *a = arg;
    CHECK_GE(tarn_now(), a->o->due[a->i]);
    a->o->rank[a->i] = ADD(a->o->next, 1);
    CHECK_ST(tarn_chan_send(a->o->c, NULL), TARN_OK);
}

static void test_timer_many(void)
{
    struct order *o = new_shared(sizeof *o);
    uint64_t rng = seed_for(2);
    SET(o->c, new_chan(0, 0));
    for (int i = 0; i < ORDER_N; i++) {
        struct order_arg *a = new_shared(sizeof *a);
        int64_t ns = (int64_t)(harness_rand(&rng) % 50) * MS;
        SET(a->o, o);
        a->i = i;
        o->due[i] = tarn_now() + ns;
        start_timer(ns, order_fire, a);
    }
    for (int i = 0; i < ORDER_N; i++)
        CHECK_ST(tarn_chan_recv(o->c, NULL), TARN_OK);
    bool seen[ORDER_N + 1] = {false};
    for (int i = 0; i < ORDER_N; i++) {
        CHECK(o->rank[i] >= 1 && o->rank[i] <= ORDER_N && !seen[o->rank[i]]);
        seen[o->rank[i]] = true;
    }
}

/* The heap: armed and stopped in random order, from several goroutines, so
 * that timers are deleted from the heaps of other Ps. Internal builds check
 * the heap at every step. */
#define HEAP_N 600
struct heap_test {
    tarn_timer *t[HEAP_N];
    tarn_waitgroup wg;
    uint64_t next, stopped;
};

static void heap_arm(void *arg)
{
    struct heap_test *h = arg;
    uint64_t rng = seed_for(10 + tarn_self()), i;
    while ((i = ADD(h->next, 1) - 1) < HEAP_N) {
        int64_t ns =
            3600 * 1000 * MS + (int64_t)(harness_rand(&rng) % 100) * MS;
        SET(h->t[i], start_timer(ns, must_not_fire, NULL));
        if (harness_rand(&rng) % 8 == 0)
            tarn_yield();
    }
    tarn_waitgroup_done(&h->wg);
}

static void heap_stop(void *arg)
{
    struct heap_test *h = arg;
    uint64_t rng = seed_for(20 + tarn_self()), n = 0;
    for (int i = 0; i < 4 * HEAP_N; i++)
        if (tarn_timer_stop(h->t[harness_rand(&rng) % HEAP_N]))
            n++;
    for (int i = 0; i < HEAP_N; i++)
        if (tarn_timer_stop(h->t[i]))
            n++;
    ADD(h->stopped, n);
    tarn_waitgroup_done(&h->wg);
}

static void test_timer_heap(void)
{
    for (int round = 0; round < 5; round++) {
        struct heap_test *h = new_shared(sizeof *h);
        tarn_waitgroup_add(&h->wg, 4);
        for (int i = 0; i < 4; i++)
            go(heap_arm, h);
        tarn_waitgroup_wait(&h->wg);
        tarn_waitgroup_add(&h->wg, 4);
        for (int i = 0; i < 4; i++)
            go(heap_stop, h);
        tarn_waitgroup_wait(&h->wg);
        CHECK_EQ(h->stopped, (uint64_t)HEAP_N);
    }
}

/* Fires or is stopped: never both, never neither. */
struct racing {
    tarn_waitgroup all;
    uint64_t fired, stopped;
};

static void race_fire(void *arg)
{
    struct racing *r = arg;
    ADD(r->fired, 1);
    tarn_waitgroup_done(&r->all);
}

static void test_timer_stop_race(void)
{
    enum { N = 3000 };
    struct racing *r = new_shared(sizeof *r);
    uint64_t rng = seed_for(3);
    for (int i = 0; i < N; i++) {
        tarn_waitgroup_add(&r->all, 1);
        tarn_timer *t =
            start_timer((int64_t)(harness_rand(&rng) % 40000), race_fire, r);
        int64_t until = tarn_now() + (int64_t)(harness_rand(&rng) % 40000);
        while (tarn_now() < until)
            tarn_yield();
        if (tarn_timer_stop(t)) {
            r->stopped++;
            tarn_waitgroup_done(&r->all);
        }
    }
    tarn_waitgroup_wait(&r->all);
    CHECK_EQ(r->fired + r->stopped, (uint64_t)N);
}

/* --- the collector ------------------------------------------------------- */

struct cargo {
    tarn_chan *c;
    struct cargo *next;
    uint64_t value, check;
};

static void deliver(void *arg)
{
    struct cargo *g = arg;
    CHECK_EQ(g->value, ~g->check);
    CHECK_EQ(g->next->value, ~g->next->check);
    CHECK_EQ(g->next->value, g->value + 1);
    CHECK_ST(tarn_chan_send(g->c, &g->value), TARN_OK);
}

__attribute__((noinline)) static void ship(tarn_chan *c, uint64_t v, int64_t ns)
{
    struct cargo *g = new_shared(sizeof *g);
    SET(g->next, new_shared(sizeof *g));
    g->next->value = v + 1;
    g->next->check = ~(v + 1);
    SET(g->c, c);
    g->value = v;
    g->check = ~v;
    start_timer(ns, deliver, g);
}

/* Nobody but the running timer refers to its argument, or to the timer. */
static void test_timer_keeps_argument(void)
{
    tarn_chan *c = new_chan(sizeof(uint64_t), 0);
    uint64_t rng = seed_for(4), sum = 0, want = 0;
    for (int round = 0; round < 10; round++) {
        for (uint64_t i = 0; i < 50; i++) {
            int64_t ns = (int64_t)(harness_rand(&rng) % (uint64_t)(20 * MS));
            ship(c, i * 10, ns);
            want += i * 10;
        }
        CHECK_ST(tarn_gc(), TARN_OK);
        for (int i = 0; i < 3000; i++) /* reuse what was freed by mistake */
            memset(new_shared(sizeof(struct cargo)), 0xa5,
                   sizeof(struct cargo));
        for (int i = 0; i < 50; i++) {
            uint64_t v;
            CHECK_ST(tarn_chan_recv(c, &v), TARN_OK);
            sum += v;
        }
    }
    CHECK_EQ(sum, want);
}

/* Timers come and go while the collector runs. */
static void test_timers_during_gc(void)
{
    tarn_chan *c = new_chan(sizeof(uint64_t), 64);
    uint64_t v, got = 0, sent = 0;
    for (int round = 0; round < 15; round++) {
        for (uint64_t i = 0; i < 100; i++) {
            ship(c, i, (int64_t)i * 20000);
            sent++;
            while (tarn_chan_try_recv(c, &v) == TARN_OK)
                got++;
        }
        CHECK_ST(tarn_gc(), TARN_OK);
    }
    while (got < sent) {
        CHECK_ST(tarn_chan_recv(c, &v), TARN_OK);
        got++;
    }
}

/* --- no memory ----------------------------------------------------------- */

static void timers_without_memory(void *arg)
{
    (void)arg;
    /* The first ones make room in the managed heap for the others. */
    for (int i = 0; i < 50; i++) {
        if (i == 10)
            fail_inject(FAIL_MALLOC, 0, -1);
        start_timer(3600 * 1000 * MS, must_not_fire, NULL);
    }
    printf("came through\n");
}

static void sleep_without_memory(void *arg)
{
    (void)arg;
    fail_inject(FAIL_MALLOC, 0, -1);
    tarn_sleep(MS);
    printf("came through\n");
}

static void set_flag(void *arg)
{
    ADD(*(uint64_t *)arg, 1);
}

/* A timer whose goroutine cannot be made when it is due tries again. */
static void fire_without_memory(void *arg)
{
    (void)arg;
    uint64_t *flag = new_shared(sizeof *flag);
    start_timer(MS, set_flag, flag);
    fail_inject(FAIL_MALLOC, 0, -1);
    int64_t until = tarn_now() + 10 * MS;
    while (tarn_now() < until)
        tarn_yield();
    CHECK_EQ(LOAD(*flag), 0u);
    fail_reset();
    while (LOAD(*flag) == 0)
        tarn_yield();
    printf("fired after all\n");
}

/* Without options from outside: the collector, too, needs memory. */
static void without_memory(tarn_fn fn)
{
    unsetenv("TARN");
    suite_child_fn = fn;
    suite_child_main();
}

static void fire_without_memory_child(void)
{
    without_memory(fire_without_memory);
}

static void child_timers_without_memory(void)
{
    without_memory(timers_without_memory);
}

static void child_sleep_without_memory(void)
{
    without_memory(sleep_without_memory);
}

static void test_no_memory(void)
{
    suite_child_procs = 1;
    CHECK_THROWS(child_timers_without_memory, NULL, "timers: no memory");
    CHECK_THROWS(child_sleep_without_memory, NULL, "tarn_sleep: no memory");
}

static void test_fire_without_memory(void)
{
    static char out[65536];
    if (TARN_ASAN || TARN_TSAN)
        SKIP("a sanitizer's own records of a goroutine need memory too");
    suite_child_procs = 1;
    int st = harness_child(fire_without_memory_child, NULL, out, sizeof out);
    CHECK_STR(out, "fired after all");
    CHECK(WIFEXITED(st));
}

static void body(void)
{
    RUN(test_sleep_lower_bound);
    RUN(test_sleep_short);
    RUN(test_sleep_thousands);
    RUN(test_sleep_among_busy);
    RUN(test_timer_fires);
    RUN(test_timer_stop);
    RUN(test_timer_exact_order);
    RUN(test_timer_many);
    RUN(test_timer_heap);
    RUN(test_timer_stop_race);
    RUN(test_timer_keeps_argument);
    RUN(test_timers_during_gc);
}

int main(int argc, char **argv)
{
    harness_init(argc, argv);
    RUN(test_off_goroutine);
    RUN(test_no_memory);
    RUN(test_fire_without_memory);
    suite_run(body, 1);
    suite_run(body, 4);
    suite_run(body, 16);
    return harness_done();
}
