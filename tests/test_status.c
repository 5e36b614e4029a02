/* tests/test_status.c - the status word of a goroutine, and who may do what with
 * it: on words that belong to no goroutine, then on real ones. The whole of the
 * protocol under load: test_m_stack_suspend.c; as a model: tests/model. */
#include <pthread.h>

#include "base/options.h"
#include "gc/gc.h"
#include "gcsuite.h"
#include "stackscan/stackscan.h"

static const uint32_t all[] = {Gidle,    Grunnable, Grunning,   Gsyscall,
                               Gwaiting, Gdead,     Gcopystack, Gpreempted};

static struct g *with_status(uint32_t s)
{
    static struct g g;
    atomic_store(&g.atomicstatus, s);
    return &g;
}

/* --- casgstatus ---------------------------------------------------------------- */

static const struct {
    uint32_t from, to;
} edges[] = {
    {Gidle, Gdead},         {Gdead, Grunnable},     {Gdead, Gsyscall},
    {Grunnable, Grunning},  {Grunning, Grunnable},  {Grunning, Gwaiting},
    {Grunning, Gsyscall},   {Grunning, Gcopystack}, {Grunning, Gpreempted},
    {Grunning, Gdead},      {Gwaiting, Grunnable},  {Gwaiting, Grunning},
    {Gsyscall, Grunning},   {Gsyscall, Grunnable},  {Gsyscall, Gdead},
    {Gcopystack, Grunning}, {Gpreempted, Gwaiting},
};

static bool legal(uint32_t from, uint32_t to)
{
    for (size_t i = 0; i < ARRAY_LEN(edges); i++)
        if (edges[i].from == from && edges[i].to == to)
            return true;
    return false;
}

static uint32_t bad_from, bad_to, bad_real;

static void change(void)
{
    casgstatus(with_status(bad_real), bad_from, bad_to);
}

static void test_casgstatus(void)
{
    for (size_t i = 0; i < ARRAY_LEN(edges); i++) {
        struct g *gp = with_status(edges[i].from);
        casgstatus(gp, edges[i].from, edges[i].to);
        CHECK_EQ(readgstatus(gp), edges[i].to);
    }
    /* Another status than the caller thinks: in every build, from all of them. */
    for (size_t i = 0; i < ARRAY_LEN(edges); i++)
        for (size_t k = 0; k < ARRAY_LEN(all); k += 3) {
            bad_from = edges[i].from;
            bad_to = edges[i].to;
            bad_real = all[k];
            if (bad_real != bad_from)
                CHECK_THROWS(change, NULL, "casgstatus: goroutine 0 is ");
        }
}

/* Debug builds know which edges exist. */
static void test_casgstatus_edges(void)
{
    if (TARN_CHECKS < 2)
        SKIP("edges are checked in debug builds");
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        for (size_t k = 0; k < ARRAY_LEN(all); k++)
            if (!legal(all[i], all[k])) {
                bad_from = bad_real = all[i];
                bad_to = all[k];
                CHECK_THROWS(change, NULL, "casgstatus: goroutine 0: no edge ");
            }
}

/* --- the scan bit ----------------------------------------------------------------- */

static const uint32_t scannable[] = {Grunnable, Gsyscall, Gwaiting, Gpreempted};

static void test_castogscanstatus(void)
{
    for (size_t i = 0; i < ARRAY_LEN(scannable); i++) {
        uint32_t s = scannable[i];
        struct g *gp = with_status(s);
        CHECK(castogscanstatus(gp, s, s | Gscan));
        CHECK_EQ(readgstatus(gp), s | Gscan);
        /* It is a lock. */
        CHECK(!castogscanstatus(gp, s, s | Gscan));
        CHECK_EQ(readgstatus(gp), s | Gscan);
        casfrom_Gscanstatus(gp, s | Gscan, s);
        CHECK_EQ(readgstatus(gp), s);
        /* In another status it fails, and changes nothing. */
        for (size_t k = 0; k < ARRAY_LEN(all); k++) {
            gp = with_status(all[k]);
            if (all[k] != s)
                CHECK(!castogscanstatus(gp, s, s | Gscan));
            CHECK_EQ(readgstatus(gp), all[k]);
        }
    }
}

static void drop_unheld(void)
{
    casfrom_Gscanstatus(with_status(Gwaiting), Gwaiting | Gscan, Gwaiting);
}

static void drop_running(void)
{
    casfrom_Gscanstatus(with_status(Grunning | Gscan), Grunning | Gscan,
                        Grunning);
}

static void test_casfrom_Gscanstatus(void)
{
    CHECK_THROWS(drop_unheld, NULL,
                 "casfrom_Gscanstatus: goroutine 0 is waiting, not "
                 "waiting+scan");
    /* Nobody may hold a running goroutine so. */
    CHECK_THROWS(drop_running, NULL, "assertion failed");
}

static struct g contended;
static _Atomic bool quit;
static _Atomic uint64_t holds;

static void *holder(void *unused)
{
    while (!atomic_load(&quit)) {
        uint32_t s = readgstatus(&contended);
        if ((s & Gscan) || (s != Grunnable && s != Gwaiting) ||
            !castogscanstatus(&contended, s, s | Gscan))
            continue;
        CHECK_EQ(readgstatus(&contended), s | Gscan);
        procyield(20);
        CHECK_EQ(readgstatus(&contended), s | Gscan);
        casfrom_Gscanstatus(&contended, s | Gscan, s);
        atomic_fetch_add(&holds, 1);
    }
    return unused;
}

/* While somebody holds the bit the status does not change; the owner waits. */
static void test_scan_bit_excludes(void)
{
    pthread_t t[2];
    atomic_store(&contended.atomicstatus, Grunnable);
    atomic_store(&quit, false);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(pthread_create(&t[i], NULL, holder, NULL), 0);
    uint64_t rounds = 0;
    while (rounds < 20000 || atomic_load(&holds) < 200) {
        casgstatus(&contended, Grunnable, Grunning);
        CHECK_EQ(readgstatus(&contended), Grunning);
        casgstatus(&contended, Grunning, Gwaiting);
        casgstatus(&contended, Gwaiting, Grunnable);
        rounds++;
    }
    atomic_store(&quit, true);
    for (int i = 0; i < 2; i++)
        pthread_join(t[i], NULL);
    CHECK_EQ(readgstatus(&contended), Grunnable);
}

/* --- Gpreempted ------------------------------------------------------------------------ */

static void preempt_scan_of_waiting(void)
{
    casGToPreemptScan(with_status(Gwaiting), Grunning, Gscan | Gpreempted);
}

static void test_casGToPreemptScan(void)
{
    struct g *gp = with_status(Grunning);
    casGToPreemptScan(gp, Grunning, Gscan | Gpreempted);
    CHECK_EQ(readgstatus(gp), Gscan | Gpreempted);
    /* Not to be claimed before its M has let go of it. */
    CHECK(!casGFromPreempted(gp, Gpreempted, Gwaiting));
    casfrom_Gscanstatus(gp, Gscan | Gpreempted, Gpreempted);
    CHECK_THROWS(preempt_scan_of_waiting, NULL, "assertion failed");
}

static _Atomic int claims;
static pthread_barrier_t claim_together;

static void *claimer(void *gp)
{
    for (int i = 0; i < 2000; i++) {
        pthread_barrier_wait(&claim_together);
        if (casGFromPreempted(gp, Gpreempted, Gwaiting))
            atomic_fetch_add(&claims, 1);
        pthread_barrier_wait(&claim_together);
    }
    return NULL;
}

static void test_casGFromPreempted(void)
{
    struct g *gp = with_status(Gpreempted);
    CHECK(casGFromPreempted(gp, Gpreempted, Gwaiting));
    CHECK_EQ(readgstatus(gp), Gwaiting);
    CHECK_EQ(gp->waitreason, (uint32_t)WAIT_PREEMPTED);
    CHECK(!casGFromPreempted(gp, Gpreempted, Gwaiting));
    /* Several who want it: one has it. */
    pthread_t t[2];
    CHECK_EQ(pthread_barrier_init(&claim_together, NULL, 3), 0);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(pthread_create(&t[i], NULL, claimer, gp), 0);
    for (int i = 1; i <= 2000; i++) {
        atomic_store(&gp->atomicstatus, Gpreempted);
        pthread_barrier_wait(&claim_together);
        pthread_barrier_wait(&claim_together);
        CHECK_EQ(atomic_load(&claims), i);
    }
    for (int i = 0; i < 2; i++)
        pthread_join(t[i], NULL);
}

/* --- real goroutines ---------------------------------------------------------------------- */

static struct g *_Atomic target;
static _Atomic bool spin_on;
static _Atomic uint64_t spins;
static tarn_waitgroup wg;

static void spinner(void *unused)
{
    (void)unused;
    atomic_store(&target, getg());
    while (atomic_load(&spin_on)) {
        atomic_fetch_add(&spins, 1);
        tarn_poll();
    }
    tarn_waitgroup_done(&wg);
}

static struct g *start_spinner(void)
{
    atomic_store(&target, NULL);
    atomic_store(&spin_on, true);
    tarn_waitgroup_add(&wg, 1);
    go(spinner, NULL);
    while (atomic_load(&target) == NULL)
        tarn_yield();
    return atomic_load(&target);
}

static struct suspendGState state;

/* A goroutine that suspends another must itself be scannable. */
static void suspend_on_g0(void *gp)
{
    struct g *self = atomic_load(&getg()->m->curg);
    casGToWaiting(self, Grunning, WAIT_GC_SELF_SCAN);
    state = suspendG(gp);
    casgstatus(self, Gwaiting, Grunning);
}

static void resume_on_g0(void *unused)
{
    (void)unused;
    resumeG(state);
}

/* A running goroutine: claimed from Gpreempted, so we owe it a ready; it does not
 * run until then, and does afterwards. */
static void test_suspendG(void)
{
    if (options.gcstress != 0)
        SKIP("the collector suspends it too");
    int stopped = 0, times = harness_reps(400);
    for (int i = 0; i < times; i++) {
        struct g *gp = start_spinner();
        systemstack(suspend_on_g0, gp);
        CHECK(!state.dead && state.g == gp);
        stopped += state.stopped;
        CHECK(readgstatus(gp) & Gscan);
        CHECK(!atomic_load(&gp->preempt) && !atomic_load(&gp->preemptStop));
        uint64_t before = atomic_load(&spins);
        uintptr_t sp = gp->sched_sp;
        for (int k = 0; k < 100; k++)
            procyield(50);
        CHECK_EQ(atomic_load(&spins), before);
        CHECK_EQ(gp->sched_sp, sp);
        systemstack(resume_on_g0, NULL);
        while (atomic_load(&spins) == before)
            tarn_yield();
        atomic_store(&spin_on, false);
        tarn_waitgroup_wait(&wg);
    }
    /* With one P it is never found running. */
    if (nprocs > 1)
        CHECK_GT(stopped, 0);
    else
        CHECK_EQ(stopped, 0);
    printf("     stopped %d of %d\n", stopped, times);
}

/* One that stands still: only the bit is held, and nothing is owed; one that is
 * dead is said to be. */
static void test_resumeG(void)
{
    tarn_chan *c = new_chan(8, 0);
    atomic_store(&spin_on, false);
    struct g *gp = NULL;
    atomic_store(&target, NULL);
    tarn_waitgroup_add(&wg, 1);
    go(spinner, NULL);
    tarn_waitgroup_wait(&wg);
    gp = atomic_load(&target);
    while (readgstatus(gp) != Gdead)
        tarn_yield();
    systemstack(suspend_on_g0, gp);
    CHECK(state.dead && !state.stopped);
    systemstack(resume_on_g0, NULL);
    CHECK_EQ(readgstatus(gp), Gdead);
    CHECK_ST(tarn_chan_close(c), TARN_OK);
}

static _Atomic int woken;

/* Only now may somebody ready it: until then its M is not done with it. */
static bool is_parked(struct g *gp, void *unused)
{
    (void)unused;
    atomic_store(&target, gp);
    return true;
}

static void sleeper(void *unused)
{
    (void)unused;
    gopark(is_parked, NULL, WAIT_SLEEP);
    atomic_fetch_add(&woken, 1);
    tarn_waitgroup_done(&wg);
}

static struct g *start_sleeper(void)
{
    atomic_store(&target, NULL);
    tarn_waitgroup_add(&wg, 1);
    go(sleeper, NULL);
    struct g *gp;
    while ((gp = atomic_load(&target)) == NULL)
        tarn_yield();
    CHECK_EQ(readgstatus(gp), Gwaiting);
    return gp;
}

static void test_ready(void)
{
    atomic_store(&woken, 0);
    for (int i = 0; i < 200; i++) {
        struct g *gp = start_sleeper();
        CHECK_EQ(atomic_load(&woken), i);
        goready(gp);
        tarn_waitgroup_wait(&wg);
        CHECK_EQ(atomic_load(&woken), i + 1);
    }
}

static void ready_twice(void)
{
    /* It is somebody else's already: waiting -> runnable exactly once. */
    casgstatus(with_status(Grunnable), Gwaiting, Grunnable);
}

static void test_ready_twice(void)
{
    CHECK_THROWS(ready_twice, NULL, "is runnable, not waiting");
}

/* Each goroutine that there is when the mark begins has its stack scanned once. */
static void test_markroot(void)
{
    enum { N = 50 };
    if (options.gcstress != 0)
        SKIP("needs to know when a collection begins");
    tarn_chan *c = new_chan(8, 0);
    for (int i = 0; i < N; i++)
        start_sleeper();
    collect();
    struct tarn_gc_stats a = {.struct_size = sizeof a}, b = a;
    CHECK_ST(tarn_gc_stats(&a), TARN_OK);
    collect();
    CHECK_ST(tarn_gc_stats(&b), TARN_OK);
    uint64_t cycles = b.cycles - a.cycles;
    /* The sleepers, and this goroutine. */
    CHECK_EQ(b.stacks_scanned - a.stacks_scanned, cycles * (N + 1));
    CHECK_ST(tarn_chan_close(c), TARN_OK);
    for (size_t i = 0; i < atomic_load(&allglen); i++) {
        struct g *gp = allg_at(i);
        if (readgstatus(gp) == Gwaiting && gp->fn == sleeper)
            goready(gp);
    }
    tarn_waitgroup_wait(&wg);
}

static uint64_t words;
NO_SANITIZE static void count_range(uintptr_t lo, uintptr_t hi, void *unused)
{
    (void)unused;
    for (uintptr_t *w = (uintptr_t *)lo; w < (uintptr_t *)hi; w++)
        words += *w == UINT64_C(0x5ca7ab1e5ca7ab1e);
}

static void holds_word(void *unused)
{
    (void)unused;
    volatile uint64_t here = UINT64_C(0x5ca7ab1e5ca7ab1e);
    sleeper(NULL);
    CHECK_EQ(here, UINT64_C(0x5ca7ab1e5ca7ab1e));
}

static void scan_on_g0(void *gp)
{
    suspend_on_g0(gp);
    words = 0;
    scanstack(gp, count_range, NULL);
    resumeG(state);
}

/* What a frame holds is in what is scanned. */
static void test_scanstack(void)
{
    atomic_store(&target, NULL);
    tarn_waitgroup_add(&wg, 1);
    go(holds_word, NULL);
    struct g *gp;
    while ((gp = atomic_load(&target)) == NULL || readgstatus(gp) != Gwaiting)
        tarn_yield();
    systemstack(scan_on_g0, gp);
    CHECK_GT(words, 0u);
    goready(gp);
    tarn_waitgroup_wait(&wg);
}

static void body(void)
{
    RUN(test_suspendG);
    RUN(test_resumeG);
    RUN(test_ready);
    RUN(test_markroot);
    RUN(test_scanstack);
}

int main(int argc, char **argv)
{
    harness_init(argc, argv);
    RUN(test_casgstatus);
    RUN(test_casgstatus_edges);
    RUN(test_castogscanstatus);
    RUN(test_casfrom_Gscanstatus);
    RUN(test_scan_bit_excludes);
    RUN(test_casGToPreemptScan);
    RUN(test_casGFromPreempted);
    RUN(test_ready_twice);
    gc_run(body, 1, "gcoff=1,gcstress=0");
    gc_run(body, 4, "gcoff=1,gcstress=0");
    return harness_done();
}
