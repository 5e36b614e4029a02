/* tests/test_procs_refused.c - the number of Ps changes where memory or threads are
 * refused: it stays as it was, and so does everything on them. */
#include "procsuite.h"

#include "base/fail.h"

/* Memory is refused at each place in turn: the number is as before, and grows when
 * there is memory again. */
static void refuse(enum fail_kind kind)
{
    uint32_t n = nprocs, refused = 0;
    bool another = false;
    for (int64_t after = 0;; after++) {
        fail_inject(kind, after, 1);
        tarn_status st = tarn_set_procs((int)n + 3);
        another = !fail_pending(kind);
        fail_reset();
        if (st == TARN_OK)
            break;
        refused++;
        CHECK_ST(st, TARN_ENOMEM);
        CHECK(said("tarn_set_procs: out of memory"));
        CHECK_EQ(tarn_procs(), (size_t)n);
    }
    /* Now and then it is another thread that is refused memory, for spares of its signal
     * frames, say; and what Ps need is there from now on. */
    if (!another)
        CHECK_GE(refused, 2u);
    CHECK_EQ(tarn_procs(), (size_t)n + 3);
    check_all();
    collect();
}

static void test_refused(void)
{
    refuse(FAIL_MALLOC);
    refuse(FAIL_MMAP);
}

static struct timer filling[4096], one_more;

static void never(void *unused)
{
    (void)unused;
    CHECK(!"an hour has passed");
}

static void add(struct timer *t)
{
    t->when = nanotime() + INT64_C(3600000000000);
    t->f = never;
    timer_add(t);
}

static void adds_one(void *unused)
{
    (void)unused;
    for (bool done = false; !done;) {
        get_to(1);
        STAY();
        done = getg()->m->p->id == 1;
        if (done)
            add(&one_more);
        GO_ON();
    }
    tarn_waitgroup_done(&wg);
}

/* One P has as many as it has room for, the other, which ends, has one. */
static void test_timers_refused(void)
{
    uint32_t n = 0;
    set_procs(2);
    for (bool full = false; !full;) {
        get_to(0);
        STAY();
        struct timers *ts = &allp[0]->timers;
        if (getg()->m->p == allp[0]) {
            do
                add(&filling[n++]);
            while (ts->len < ts->cap && n < ARRAY_LEN(filling));
            full = true;
        }
        GO_ON();
    }
    CHECK_LT(n, ARRAY_LEN(filling));
    tarn_waitgroup_add(&wg, 1);
    go(adds_one, NULL);
    tarn_waitgroup_wait(&wg);
    fail_inject(FAIL_MALLOC, 0, 1);
    tarn_status st = tarn_set_procs(1);
    fail_reset();
    CHECK_ST(st, TARN_ENOMEM);
    CHECK(said("for timers"));
    CHECK_EQ(tarn_procs(), 2u);
    CHECK(atomic_load(&one_more.pp) == allp[1]);
    check_all();
    set_procs(1);
    CHECK(atomic_load(&one_more.pp) == allp[0]);
    CHECK_EQ(allp[0]->timers.len, n + 1);
    for (uint32_t i = 0; i < n; i++)
        CHECK(timer_del(&filling[i]));
    CHECK(timer_del(&one_more));
    CHECK_EQ(allp[0]->timers.len, 0u);
    check_all();
}

static void test_thread_limit(void)
{
    CHECK_EQ(options.maxthreads, 8);
    size_t n = tarn_procs();
    CHECK_ST(tarn_set_procs(8), TARN_ELIMIT);
    CHECK(said("option maxthreads allows 8"));
    CHECK_EQ(tarn_procs(), n);
    check_all();
    set_procs(4);
    check_all();
}

static void refusals(void)
{
    RUN(test_refused);
    RUN(test_timers_refused);
}

static void limit(void)
{
    RUN(test_thread_limit);
}

int main(int argc, char **argv)
{
    harness_init(argc, argv);
    gc_run(refusals, 2, "");
    gc_run(limit, 2, "maxthreads=8");
    return harness_done();
}
