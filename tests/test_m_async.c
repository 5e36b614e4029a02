/* Asking running goroutines to stop: who asks, what is written, where they come to
 * a halt, what goes on afterwards. And who holds up a stop of the world. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "base/options.h"
#include "gcsuite.h"
#include "pest.h"
#include "stackscan/stackscan.h"

#define NI __attribute__((noinline))

static tarn_waitgroup wg;
static volatile int end;
static volatile uint64_t turns[64];

/* No call, no frame. */
NI static void spin(volatile uint64_t *n)
{
    while (!end)
        ++*n;
}

struct spinner {
    struct g *volatile g;
    volatile uint64_t *n;
};
static struct spinner spinners[64];

static void spinner_main(void *arg)
{
    struct spinner *s = arg;
    s->g = getg();
    spin(s->n);
    tarn_waitgroup_done(&wg);
}

static void spinners_start(int n)
{
    end = 0;
    for (int i = 0; i < n; i++) {
        spinners[i] = (struct spinner){NULL, &turns[i]};
        turns[i] = 0;
        tarn_waitgroup_add(&wg, 1);
        go(spinner_main, &spinners[i]);
    }
    for (int i = 0; i < n; i++)
        while (spinners[i].g == NULL || turns[i] == 0)
            tarn_yield();
}

static void spinners_end(void)
{
    end = 1;
    tarn_waitgroup_wait(&wg);
}

static uint32_t tick(struct p *pp)
{
    return atomic_load(&pp->schedtick);
}

static struct p *p_of(struct g *gp)
{
    for (uint32_t i = 0; i < nprocs; i++) {
        struct m *mp = atomic_load(&allp[i]->m);
        if (mp != NULL && atomic_load(&mp->curg) == gp)
            return allp[i];
    }
    return NULL;
}

/* The request is written whole, and where it arrives the P schedules anew. */
static void test_preemptone(void)
{
    struct m *mp = acquirem();
    CHECK(!preemptone(mp->p)); /* itself */
    releasem(mp);
    if (nprocs == 1)
        SKIP("needs a second P");
    spinners_start(1);
    struct p *pp = NULL;
    uint32_t t = 0;
    bool posted = false;
    for (;;) {
        if (!posted) {
            pp = p_of(spinners[0].g);
            if (pp != NULL) {
                t = tick(pp);
                posted = preemptone(pp);
            }
        } else if (tick(pp) != t || p_of(spinners[0].g) != pp) {
            break;
        } else {
            preemptone(pp); /* may be lost */
        }
        osyield();
    }
    CHECK(posted);
    spinners_end();
}

/* The kernel may take a signal back: see preemptM. */
static void test_signal_lost(void)
{
    if (!preempt_signals_on() || nprocs == 1)
        SKIP("needs signals and a second P");
    spinners_start(1);
    struct p *pp;
    while ((pp = p_of(spinners[0].g)) == NULL)
        osyield();
    struct m *mp = atomic_load(&pp->m);
    uint32_t t = tick(pp);
    atomic_store(&mp->signal_sent, nanotime());
    atomic_store(&mp->signalPending, 1);
    while (tick(pp) == t && p_of(spinners[0].g) == pp) {
        preemptone(pp);
        osyield();
    }
    spinners_end();
}

static void test_preemptall(void)
{
    if (nprocs == 1) {
        CHECK(!preemptall()); /* there is only the caller */
        return;
    }
    /* More than Ps: each that stops makes room for another. */
    spinners_start((int)nprocs + 2);
    uint64_t before[64];
    for (uint32_t i = 0; i < nprocs + 2; i++)
        before[i] = turns[i];
    for (uint32_t left = nprocs + 2; left > 0;) {
        CHECK(preemptall() || options.droppreempt || nprocs < 64);
        tarn_yield();
        left = 0;
        for (uint32_t i = 0; i < nprocs + 2; i++)
            left += turns[i] == before[i];
    }
    spinners_end();
}

/* It is runnable, nobody's, and behind all that were queued before. */
static struct g *looked_at;
static volatile int order, seen_status;
static volatile bool seen_m;

static void looker(void *unused)
{
    (void)unused;
    seen_status = (int)(readgstatus(looked_at) & ~(uint32_t)Gscan);
    seen_m = looked_at->m != NULL;
    order++;
    tarn_waitgroup_done(&wg);
}

NI static int prologue(int x)
{
    volatile int a[8];
    a[x & 7] = x;
    return a[x & 7];
}

static void ask_myself(void)
{
    struct m *mp = acquirem();
    struct g *gp = getg();
    atomic_store(&gp->preempt, true);
    set_stackguard(gp, STACK_PREEMPT);
    releasem(mp);
}

static void test_gopreempt_m(void)
{
    if (nprocs != 1)
        SKIP("needs one P");
    looked_at = getg();
    order = 0;
    seen_status = -1;
    for (int i = 0; i < 5; i++) {
        tarn_waitgroup_add(&wg, 1);
        go(looker, NULL);
    }
    /* Twice: each 61st time the global queue, where it goes, comes first. */
    for (int i = 0; i < 2 && order == 0; i++) {
        ask_myself();
        prologue(3);
        tarn_poll();
    }
    CHECK_GT(order, 0);
    CHECK_EQ(seen_status, Grunnable);
    CHECK(!seen_m);
    tarn_waitgroup_wait(&wg);
}

static void test_goschedImpl(void)
{
    if (nprocs != 1)
        SKIP("needs one P");
    for (int i = 0; i < 20; i++) {
        order = 0;
        for (int k = 0; k < 5; k++) {
            tarn_waitgroup_add(&wg, 1);
            go(looker, NULL);
        }
        while (order < 5) {
            int was = order;
            tarn_yield(); /* to the end of the queue: somebody else's turn */
            CHECK(order > was || options.gcstress || options.droppreempt ||
                  options.delays);
        }
        tarn_waitgroup_wait(&wg);
    }
}

/* Held in its loop by suspendG: it stands, its registers are in memory, it is
 * readied exactly once. */
static volatile bool held_ok;

static void holds(void *unused)
{
    (void)unused;
    for (int i = 0; i < SUITE_REPEAT(200); i++) {
        struct m *mp = acquirem();
        struct g *gp = spinners[i % 2].g;
        struct suspendGState st = suspendG(gp);
        CHECK(!st.dead);
        uint64_t n = turns[i % 2];
        uint32_t status = readgstatus(gp);
        CHECK(status & Gscan);
        CHECK(!st.stopped || status == (Gscan | Gwaiting));
        if (gp->asyncSafePoint)
            CHECK(gp->xregs != NULL);
        CHECK(gp->sched_sp > gp->stack.lo && gp->sched_sp < gp->stack.hi);
        for (volatile int k = 0; k < 200; k++)
            ;
        CHECK_EQ(turns[i % 2], n);
        CHECK_EQ(readgstatus(gp), status);
        resumeG(st);
        releasem(mp);
        while (turns[i % 2] == n)
            tarn_yield();
    }
    held_ok = true;
    tarn_waitgroup_done(&wg);
}

static void test_preemptPark(void)
{
    if (!ASYNC_RUNS)
        SKIP("loops without calls cannot be stopped in this build");
    spinners_start(2);
    held_ok = false;
    tarn_waitgroup_add(&wg, 1);
    CHECK(newproc(holds, NULL, NULL, true) != NULL);
    while (!held_ok)
        tarn_yield();
    spinners_end();
}

/* --- prologues ------------------------------------------------------------------- */

#ifndef TARN_NO_SPLIT_STACK
static void bad_time(void *unused)
{
    (void)unused;
    getg()->throwsplit = true;
    ask_myself();
    prologue(1);
}

static void bad_time_child(void)
{
    suite_child_fn = bad_time;
    suite_child_main();
}

static void test_throwsplit(void)
{
    CHECK_THROWS(bad_time_child, NULL, "stack growth at a bad time");
}

/* While the runtime holds the thread the request is refused, and not lost. */
static void test_newstack(void)
{
    struct m *mp = acquirem();
    struct g *gp = getg();
    uint32_t t = tick(mp->p);
    for (int i = 0; i < 100; i++) {
        ask_myself();
        CHECK_EQ(prologue(i), i);
        CHECK(getg()->m == mp);
        CHECK(atomic_load(&gp->preempt));
        CHECK_EQ(atomic_load(&gp->stackguard0), gp->stackguard1);
    }
    CHECK_EQ(tick(mp->p), t);
    releasem(mp);
    /* The next one that is seen is obeyed. */
    for (int i = 0; i < 100; i++) {
        ask_myself();
        CHECK_EQ(prologue(i), i);
        CHECK(!atomic_load(&gp->preempt) || options.gcstress || nprocs > 1);
    }
}

/* All arguments of a call survive. */
NI static double many(long a, long b, long c, long d, long e, long f, double x,
                      double y, double z, long g)
{
    volatile long l[20];
    l[3] = a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g;
    return (double)l[3] + x + 2 * y + 3 * z;
}

static void test_morestack(void)
{
    for (int i = 0; i < 1000; i++) {
        ask_myself();
        double r = many(i, 2, 3, 4, 5, 6, 0.5, 0.25, i, 7);
        CHECK(r ==
              (double)(i + 4 + 9 + 16 + 25 + 36 + 49) + 0.5 + 0.5 + 3.0 * i);
    }
}
#endif

/* --- threads ---------------------------------------------------------------------- */

static void look_at_thread(void *unused)
{
    (void)unused;
    for (int i = 0; i < 20; i++) {
        struct m *mp = acquirem();
        sigset_t now;
        stack_t ss;
        CHECK_EQ(mp->procid, gettid_os());
        CHECK_EQ(pthread_sigmask(SIG_SETMASK, NULL, &now), 0);
        CHECK_EQ(sigismember(&now, preempt_signal),
                 preempt_signals_on() ? 0 : sigismember(&now, preempt_signal));
        CHECK_EQ(sigaltstack(NULL, &ss), 0);
        CHECK(!(ss.ss_flags & SS_DISABLE));
        CHECK_EQ(mp->mxcsr & 0x6000, 0);
        if (preempt_signals_on())
            CHECK(mp->xspare != NULL);
        releasem(mp);
        tarn_yield();
    }
    tarn_waitgroup_done(&wg);
}

static void test_mstart1(void)
{
    for (uint32_t i = 0; i < 2 * nprocs; i++) {
        tarn_waitgroup_add(&wg, 1);
        go(look_at_thread, NULL);
    }
    tarn_waitgroup_wait(&wg);
}

/* --- signals wherever ------------------------------------------------------------- */

NI static uint64_t grow(int depth, uint64_t x)
{
    volatile uint64_t a[40];
    a[depth % 40] = x;
    uint64_t r = depth > 0 ? grow(depth - 1, x + 1) : 0;
    return r + a[depth % 40];
}

static int compare(const void *a, const void *b)
{
    return (*(const int *)a > *(const int *)b) -
           (*(const int *)a < *(const int *)b);
}

static void libc_user(void *arg)
{
    uint64_t seed = harness_seed + (uintptr_t)arg;
    for (int i = 0; i < scaled(SUITE_REPEAT(300)); i++) {
        size_t n = harness_rand(&seed) % 5000 + 16;
        char *a = malloc(n), *b = malloc(n);
        CHECK(a != NULL && b != NULL);
        memset(a, (int)i, n);
        memcpy(b, a, n);
        CHECK_EQ(memcmp(a, b, n), 0);
        int v[64];
        for (int k = 0; k < 64; k++)
            v[k] = (int)harness_rand(&seed);
        qsort(v, 64, sizeof v[0], compare);
        for (int k = 1; k < 64; k++)
            CHECK_LE(v[k - 1], v[k]);
        snprintf(a, n, "%d", i);
        CHECK_EQ(atoi(a), i);
        free(a);
        free(b);
        CHECK_EQ(grow(100, 1), 101 * 102 / 2);
        CHECK(tarn_alloc_conservative(n) != NULL);
    }
    tarn_waitgroup_done(&wg);
}

/* In malloc and memcpy, in the runtime, while stacks are copied. */
static void test_signals_anywhere(void)
{
    pest_start(PEST_ALL);
    for (uintptr_t i = 0; i < 6; i++) {
        tarn_waitgroup_add(&wg, 1);
        go(libc_user, (void *)i);
    }
    tarn_waitgroup_wait(&wg);
    pest_stop();
}

/* --- the watchdog ------------------------------------------------------------------ */

/* Of a section that is not among those of tarn/managed.h, without the prologue. */
__attribute__((noinline, no_split_stack,
               section(".text.not_managed"))) static void
holds_the_world_up(void)
{
    while (!end)
        ;
}

static struct m *stubborn_m;

static void stubborn(void *unused)
{
    (void)unused;
    stubborn_m = getg()->m;
    turns[0] = 1;
    holds_the_world_up();
}

/* Long after it was seen: its thread may have to wait for a CPU. */
static void *ender(void *unused)
{
    while (atomic_load(&stubborn_m->signal_pc) -
               (uintptr_t)holds_the_world_up >=
           64)
        usleep_os(1000);
    usleep_os(100000);
    end = 1;
    return unused;
}

static void late_stop(void *unused)
{
    (void)unused;
    end = 0;
    go(stubborn, NULL);
    while (turns[0] == 0)
        tarn_yield();
    pthread_t t;
    CHECK_EQ(pthread_create(&t, NULL, ender, NULL), 0);
    collect();
    pthread_join(t, NULL);
}

static void late_child(void)
{
    suite_child_fn = late_stop;
    suite_child_procs = 2;
    suite_child_main();
}

static void test_stwwatch(void)
{
    static char out[65536];
    static const char *const env[] = {"TARN=stwwatch=10ms",
                                      "TARN=stwwatch=10,asyncpreempt=0"};
    static const char *const why[] = {
        "refused: not managed text", "refused: asynchronous preemption is off"};
    for (int i = 0; i < 2; i++) {
        int st = harness_child(late_child, env[i], out, sizeof out);
        if (!WIFEXITED(st))
            fprintf(stderr, "status %#x\n%s", (unsigned)st, out);
        CHECK(WIFEXITED(st));
        CHECK_STR(out, "stop of the world waits since ");
        CHECK_STR(out, "goroutine ");
        CHECK_STR(out, " on M ");
        CHECK_STR(out, "holds_the_world_up+0");
        if (strstr(out, why[i]) == NULL)
            fprintf(stderr, "%s", out);
        CHECK(strstr(out, why[i]) != NULL);
    }
    /* Nothing is late that is in time. */
    int st = harness_child(late_child, "TARN=stwwatch=100s", out, sizeof out);
    CHECK(WIFEXITED(st));
    CHECK(strstr(out, "stop of the world") == NULL);
}

static void body(void)
{
    if (ASYNC_RUNS) {
        RUN(test_preemptone);
        RUN(test_signal_lost);
        RUN(test_preemptall);
    }
    RUN(test_gopreempt_m);
    RUN(test_goschedImpl);
    RUN(test_preemptPark);
#ifndef TARN_NO_SPLIT_STACK
    RUN(test_newstack);
    RUN(test_morestack);
#endif
    RUN(test_mstart1);
    RUN(test_signals_anywhere);
}

static void moves_body(void)
{
    RUN(test_signals_anywhere);
}

int main(int argc, char **argv)
{
    harness_init(argc, argv);
    if (ASYNC_RUNS)
        RUN(test_stwwatch);
#ifndef TARN_NO_SPLIT_STACK
    RUN(test_throwsplit);
#endif
    gc_run(body, 1, "");
    gc_run(body, 2, "");
    gc_run(body, 16, "");
    gc_run(moves_body, 4, "stackmove=1,gcstress=64,checkmark=1");
    return harness_done();
}
