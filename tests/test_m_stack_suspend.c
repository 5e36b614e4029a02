/* suspendG and resumeG under storm: system goroutines hold and release user
 * goroutines that grow their stacks, talk, yield, end and are born again. A held
 * goroutine does not run and its stack does not change; whoever was claimed from
 * Gpreempted is readied exactly once, or the program would hang or throw. */
#include "base/options.h"
#include "stackscan/stackscan.h"
#include "suite.h"

#define NI __attribute__((noinline))
#define USERS 24
/* What each user goroutine does; less where each call moves its stack, or each
 * few allocations start a collection. */
static int rounds_each = 200, depth_most = 500;

struct user {
    _Atomic uint64_t counter; /* changes as long as it runs */
    struct g *_Atomic g;
    tarn_chan *volatile chan;
    uint64_t seed;
};
static struct user users[USERS];
static tarn_waitgroup wg;
static _Atomic bool stop;
static _Atomic uint64_t held, claimed, readied, dead;
static _Atomic int suspenders;

NI static uint64_t grow(struct user *u, int depth, const uint64_t *up)
{
    volatile uint64_t local[24];
    local[depth % 24] = *up + 1;
    uint64_t copy = *up + 1;
    atomic_fetch_add(&u->counter, 1);
    uint64_t r = depth > 0 ? grow(u, depth - 1, &copy) : 0;
    CHECK_EQ(copy, *up + 1);
    CHECK_EQ(local[depth % 24], copy);
    return r + copy;
}

static void user_main(void *arg)
{
    struct user *u = arg;
    uint64_t i = (uint64_t)(u - users), zero = 0, rounds = 0;
    atomic_store(&u->g, getg());
    for (;;) {
        uint64_t x = harness_rand(&u->seed), in = i, got;
        atomic_fetch_add(&u->counter, 1);
        if (++rounds > (uint64_t)rounds_each)
            break;
        switch (x % 6) {
        case 0:
        case 1: {
            int depth = (int)((x >> 8) % (uint64_t)depth_most);
            CHECK_EQ(grow(u, depth, &zero),
                     (uint64_t)(depth + 1) * (uint64_t)(depth + 2) / 2);
            break;
        }
        case 2:
            tarn_yield();
            break;
        case 3: /* a partner of the moment, if there is one */
            if (tarn_chan_try_send(users[0].chan, &in) != TARN_OK)
                tarn_chan_try_recv(users[0].chan, &got);
            break;
        case 4: { /* blocks until its own buffer has been used */
            CHECK_ST(tarn_chan_send(u->chan, &in), TARN_OK);
            CHECK_ST(tarn_chan_recv(u->chan, &got), TARN_OK);
            if (u != users)
                CHECK_EQ(got, i);
            break;
        }
        default:
            for (volatile int k = 0; k < 500; k++)
                ;
            if ((x >> 8) % 8 == 0) { /* ends; another goes on for it */
                u->seed += rounds;
                atomic_store(&u->g, NULL);
                CHECK_ST(tarn_go(user_main, u), TARN_OK);
                return;
            }
        }
        if (rounds % 16 == 0)
            CHECK(tarn_alloc_conservative(64) != NULL);
    }
    tarn_waitgroup_done(&wg);
}

/* Ping-pong between neighbours, blocking all the time. */
static tarn_chan *volatile ping[2];

static void pinger(void *arg)
{
    struct user *u = arg;
    uint64_t v, k = 0;
    atomic_store(&u->g, getg());
    bool first = ((u - users) & 1) == 0;
    for (int i = 0; i < 4 * rounds_each; i++) {
        atomic_fetch_add(&u->counter, 1);
        if (first) {
            CHECK_ST(tarn_chan_send(ping[0], &k), TARN_OK);
            CHECK_ST(tarn_chan_recv(ping[1], &v), TARN_OK);
            CHECK_EQ(v, k + 1);
        } else {
            CHECK_ST(tarn_chan_recv(ping[0], &v), TARN_OK);
            CHECK_EQ(v, k);
            v++;
            CHECK_ST(tarn_chan_send(ping[1], &v), TARN_OK);
        }
        k++;
    }
    tarn_waitgroup_done(&wg);
}

struct sum {
    uint64_t h, bytes;
};

/* Red zones included, and words that a sender writes meanwhile. */
NO_SANITIZE static void sum_range(uintptr_t lo, uintptr_t hi, void *arg)
{
    struct sum *s = arg;
    /* The words of local copies differ in address, not in value. */
    for (const uintptr_t *p = (const uintptr_t *)lo; p < (uintptr_t *)hi; p++)
        s->h = (s->h ^ *p) * UINT64_C(0x9E3779B97F4A7C15) + 1;
    s->bytes += hi - lo;
}

static void hold(struct g *gp, struct user *u, uint64_t *seed)
{
    /* Not preempted while it holds a goroutine: others spin on the bit. */
    struct m *mp = acquirem();
    struct suspendGState st = suspendG(gp);
    if (st.dead) {
        atomic_fetch_add(&dead, 1);
        releasem(mp);
        return;
    }
    uint32_t status = readgstatus(gp);
    CHECK(status & Gscan);
    CHECK((status & ~(uint32_t)Gscan) != Grunning);
    CHECK(!st.stopped || status == (Gscan | Gwaiting));
    uint64_t sp = gp->sched_sp;
    /* Before it has run, it has no stack. */
    CHECK(gp->resume & RESUME_START ||
          (sp >= gp->stack.lo && sp < gp->stack.hi));
    /* u may have a new goroutine by now: then its counter says nothing. */
    bool same = atomic_load(&u->g) == gp;
    uint64_t counter = atomic_load(&u->counter);
    /* Whoever sends to a goroutine that waits on a channel writes to its stack. */
    bool peers = gp->waiting != NULL;
    struct sum one = {0}, two = {0};
    scanstack(gp, sum_range, &one);
    uint64_t spins = harness_rand(seed) % 1000;
    for (volatile uint64_t k = 0; k < spins; k++)
        ;
    scanstack(gp, sum_range, &two);
    if (!peers)
        CHECK_EQ(one.h, two.h);
    CHECK_EQ(one.bytes, two.bytes);
    CHECK_EQ(gp->sched_sp, sp);
    CHECK_EQ(readgstatus(gp), status);
    if (same && atomic_load(&u->g) == gp)
        CHECK_EQ(atomic_load(&u->counter), counter);
    if (st.stopped)
        atomic_fetch_add(&claimed, 1);
    atomic_fetch_add(&held, 1);
    resumeG(st);
    if (st.stopped)
        atomic_fetch_add(&readied, 1);
    releasem(mp);
}

static void suspender(void *arg)
{
    uint64_t seed = harness_seed + (uint64_t)(uintptr_t)arg;
    while (!atomic_load(&stop)) {
        struct user *u = &users[harness_rand(&seed) % USERS];
        struct g *gp = atomic_load(&u->g);
        if (gp != NULL && gp != getg())
            hold(gp, u, &seed);
        if (harness_rand(&seed) % 2 == 0)
            tarn_yield();
    }
    atomic_fetch_sub(&suspenders, 1);
}

static void storm(int nsuspenders)
{
    atomic_store(&stop, false);
    ping[0] = tarn_chan_new(8, 0);
    ping[1] = tarn_chan_new(8, 1);
    for (int i = 0; i < USERS; i++) {
        users[i].seed = harness_seed * 31 + (uint64_t)i + 1;
        users[i].chan = tarn_chan_new(8, 1);
        atomic_store(&users[i].g, NULL);
    }
    /* users[0].chan is everybody's: 0 itself only pings. */
    tarn_waitgroup_add(&wg, USERS);
    for (int i = 0; i < USERS; i++)
        CHECK_ST(tarn_go(i < 2 ? pinger : user_main, &users[i]), TARN_OK);
    atomic_store(&suspenders, nsuspenders);
    for (int i = 0; i < nsuspenders; i++)
        CHECK(newproc(suspender, (void *)(uintptr_t)(i + 1), NULL, true));
    tarn_waitgroup_wait(&wg);
    atomic_store(&stop, true);
    while (atomic_load(&suspenders) != 0)
        tarn_yield();
    CHECK_EQ(atomic_load(&claimed), atomic_load(&readied));
    printf("held %" PRIu64 ", claimed %" PRIu64 ", dead %" PRIu64 "\n",
           atomic_load(&held), atomic_load(&claimed), atomic_load(&dead));
}

static void test_one_suspender(void)
{
    storm(1);
}

static void test_three_suspenders(void)
{
    storm(3);
}

static void all(void *unused)
{
    (void)unused;
    RUN(test_one_suspender);
    RUN(test_three_suspenders);
}

/* A goroutine that has not run yet: its argument is among its roots. */
static uint64_t looked_for;
static bool found;

static void look(uintptr_t lo, uintptr_t hi, void *arg)
{
    (void)arg;
    for (const uintptr_t *p = (const uintptr_t *)lo; p < (uintptr_t *)hi; p++)
        if (*p == looked_for)
            found = true;
}

static void born(void *arg)
{
    CHECK_EQ((uintptr_t)arg, looked_for);
    tarn_waitgroup_done(&wg);
}

static void test_not_yet_run(void)
{
    looked_for = (uintptr_t)&looked_for ^ 0x5555;
    found = false;
    tarn_waitgroup_add(&wg, 1);
    struct m *mp = acquirem();
    struct g *gp = newproc(born, (void *)(uintptr_t)looked_for, NULL, false);
    CHECK(gp != NULL);
    bool self_system = getg()->system;
    getg()->system = true; /* who may suspend */
    struct suspendGState st = suspendG(gp);
    if (!st.dead) {
        uintptr_t entry = (uintptr_t)gp->entry_arg;
        scanstack(gp, look, NULL);
        CHECK(found || entry == 0);
        resumeG(st);
    }
    getg()->system = self_system;
    releasem(mp);
    tarn_waitgroup_wait(&wg);
}

static void first(void *unused)
{
    (void)unused;
    for (int i = 0; i < 20; i++)
        test_not_yet_run();
}

static void run(int procs, int droppreempt, int delays, tarn_fn fn)
{
    const char *only = getenv("TARN_TEST_PROCS");
    if (only != NULL && atoi(only) != procs)
        return;
    printf("%d Ps, droppreempt %d, delays %d\n", procs, droppreempt, delays);
    fflush(NULL);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        struct tarn_options o;
        alarm(SUITE_WATCHDOG_SECONDS);
        tarn_options_init(&o);
        o.maxprocs = procs;
        o.droppreempt = droppreempt;
        o.delays = delays;
        CHECK_ST(tarn_main(&o, fn, NULL), TARN_OK);
        exit(0);
    }
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    CHECK(WIFEXITED(status));
    CHECK_EQ(WEXITSTATUS(status), 0);
    harness_passed++;
}

int main(int argc, char **argv)
{
    harness_init(argc, argv);
    const char *env = getenv("TARN");
    if (env != NULL && strstr(env, "stackmove=1") != NULL) {
        rounds_each = 40;
        depth_most = 50;
    }
    run(1, 0, 0, first);
    run(2, 0, 0, all);
    run(16, 0, 0, all);
    run(4, 30, 50, all);
    return harness_done();
}
