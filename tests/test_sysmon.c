/* tests/test_sysmon.c - the monitor and what hangs on it: who takes Ps from
 * native calls and slices from goroutines, how threads are started and Ps handed
 * on, and what is a deadlock. */
#include <sys/resource.h>

#include "base/fail.h"
#include "nativesuite.h"

static tarn_waitgroup wg;

/* --- sysmon ---------------------------------------------------------------------- */

static long switches(void)
{
    struct rusage r;
    CHECK_EQ(getrusage(RUSAGE_SELF, &r), 0);
    return r.ru_nvcsw;
}

/* The only goroutine is here: the monitor takes its P, and then has nothing to
 * look at. */
static void *watch_deep_sleep(void *vcounts)
{
    long *counts = vcounts;
    while (!atomic_load(&sched.sysmonwait))
        usleep_os(1000);
    usleep_os(2000); /* into its futex */
    counts[0] = (long)atomic_load(&sched.sysmon_rounds);
    counts[1] = switches();
    usleep_os(300000);
    counts[1] = switches() - counts[1];
    counts[0] = (long)atomic_load(&sched.sysmon_rounds) - counts[0];
    return NULL;
}

static void test_sysmon(void)
{
    static long counts[2];
    /* Idle, it sleeps for good; it is woken, and sleeps again. */
    for (int i = 0; i < 3; i++) {
        tarn_native_call(watch_deep_sleep, counts);
        CHECK_LE(counts[0], 1);
        /* Our own sleep, and some idle thread that had not got there yet. */
        CHECK_LE(counts[1], 20);
    }
    /* Busy, but with nobody to be helped, it looks less and less often. */
    uint64_t rounds = atomic_load(&sched.sysmon_rounds);
    int64_t began = nanotime();
    while (nanotime() - began < 500000000)
        tarn_poll();
    int64_t ms = (nanotime() - began) / 1000000;
    /* A hundred, and some at the end of each slice until the request is heeded, which
     * takes longer on a busy machine; ten thousand if it did not slow down. */
    CHECK_LT((int64_t)(atomic_load(&sched.sysmon_rounds) - rounds), 2 * ms);
    CHECK_GT(atomic_load(&sched.sysmon_rounds), rounds);
}

/* --- retake ---------------------------------------------------------------------- */

static int pipe_fds[2];

static void reader(void *unused)
{
    (void)unused;
    char c = 0;
    CHECK_EQ(tarn_read(pipe_fds[0], &c, 1), 1);
    CHECK_EQ(c, 'x');
    tarn_waitgroup_done(&wg);
}

static void writer(void *unused)
{
    (void)unused;
    CHECK_EQ(tarn_write(pipe_fds[1], "x", 1), 1);
    tarn_waitgroup_done(&wg);
}

static _Atomic bool ran;
static uint64_t calls_made;

static void runs_once(void *unused)
{
    (void)unused;
    atomic_store(&ran, true);
    tarn_waitgroup_done(&wg);
}

/* In native calls nearly all the time, never in the same one for long. */
static void caller(void *unused)
{
    (void)unused;
    while (!atomic_load(&ran)) {
        tarn_native_call(spin_native, (void *)(uintptr_t)15000);
        calls_made++;
    }
    tarn_waitgroup_done(&wg);
}

static void test_retake(void)
{
    /* With one P the writer runs only if the reader's P is taken. */
    CHECK_EQ(pipe(pipe_fds), 0);
    for (int i = 0; i < scaled(50); i++) {
        tarn_waitgroup_add(&wg, 2);
        go(reader, NULL);
        tarn_yield();
        go(writer, NULL);
        tarn_waitgroup_wait(&wg);
    }
    close(pipe_fds[0]);
    close(pipe_fds[1]);
    if (nprocs != 1)
        return;
    /* A slice ends for it too. Counted in calls, so that it does not matter how
     * slow the machine is: 10 ms are some 600. */
    uint64_t retaken = atomic_load(&sched.retaken);
    calls_made = 0;
    for (int i = 0; i < 10; i++) {
        atomic_store(&ran, false);
        tarn_waitgroup_add(&wg, 2);
        go(runs_once, NULL);
        go(caller, NULL); /* this one first */
        tarn_waitgroup_wait(&wg);
    }
    CHECK_GT(calls_made, (uint64_t)10);
    CHECK_LT(calls_made, (uint64_t)10 * 6000);
    CHECK_GT(atomic_load(&sched.retaken) + (uint64_t)TARN_TSAN, retaken);
}

/* --- slices that are passed on ----------------------------------------------------- */

static _Atomic bool stop;
static uint64_t hog_count, light_count;

struct pair {
    tarn_chan *c;
    uint64_t *count;
    uint64_t work;
};

static void partner(void *vpair)
{
    struct pair *p = vpair;
    uint64_t token;
    while (!atomic_load(&stop)) {
        if (tarn_chan_recv(p->c, &token) != TARN_OK)
            break;
        for (uint64_t i = 0; i < p->work; i++)
            (*(volatile uint64_t *)p->count)++;
        if (*p->count > UINT64_C(400000000) / (TARN_TSAN ? 20 : 1))
            atomic_store(&stop, true);
        if (atomic_load(&stop) || tarn_chan_send(p->c, &token) != TARN_OK)
            break;
    }
    tarn_waitgroup_done(&wg);
}

/* Two that wake each other have one slice together, or two with short turns
 * would hardly run beside two with long ones. */
static void test_runnext_inherits(void)
{
    if (nprocs != 1)
        return;
    uint64_t token = 1;
    atomic_store(&stop, false);
    hog_count = light_count = 0;
    struct pair *hog = new_shared(sizeof *hog),
                *light = new_shared(sizeof *hog);
    SET(hog->c, new_chan(8, 0));
    hog->count = &hog_count;
    hog->work = TARN_TSAN ? 50000 : 1000000;
    SET(light->c, new_chan(8, 0));
    light->count = &light_count;
    light->work = 1000;
    tarn_waitgroup_add(&wg, 4);
    for (int i = 0; i < 2; i++) {
        go(partner, hog);
        go(partner, light);
    }
    tarn_chan_send(hog->c, &token);
    tarn_chan_send(light->c, &token);
    while (!atomic_load(&stop))
        tarn_yield();
    tarn_chan_close(hog->c);
    tarn_chan_close(light->c);
    tarn_waitgroup_wait(&wg);
    CHECK_LT(hog_count, light_count * 20);
    CHECK_LT(light_count, hog_count * 20);
}

static _Atomic int order;
static int ran_at[2];

static void notes_order(void *vi)
{
    ran_at[(uintptr_t)vi] = atomic_fetch_add(&order, 1);
    tarn_waitgroup_done(&wg);
}

/* When the slice is over and who was told parks instead of yielding, it is over for
 * whoever would have inherited it. */
static void test_runnext_preempted(void)
{
    if (nprocs != 1)
        return;
    for (int told = 0; told < 2; told++) {
        atomic_store(&order, 0);
        tarn_waitgroup_add(&wg, 2);
        go(notes_order, (void *)(uintptr_t)0);
        go(notes_order, (void *)(uintptr_t)1); /* this one is next */
        atomic_store(&allp[0]->preempt, told != 0);
        tarn_waitgroup_wait(&wg);
        CHECK_EQ(ran_at[told != 0 ? 0 : 1], 0);
    }
}

/* --- handing on -------------------------------------------------------------------- */

static struct event gate;

static void gate_waiter(void *unused)
{
    (void)unused;
    while (!event_is_set(&gate))
        tarn_futex_wait((uint32_t *)&gate.set, 0, -1);
    tarn_waitgroup_done(&wg);
}

static void gate_opener(void *unused)
{
    (void)unused;
    event_set(&gate);
    tarn_waitgroup_done(&wg);
}

static _Atomic uint32_t idle_seen;

/* A thread of its own: sees the last P go idle, no thread being made for it. */
static void *idle_watcher(void *unused)
{
    while (atomic_load(&sched.npidle) != nprocs ||
           atomic_load(&sched.nmspinning) != 0)
        usleep_os(100);
    atomic_store(&idle_seen, 1);
    event_set(&gate);
    return unused;
}

static void test_handoffp(void)
{
    /* Work waits: it gets a thread. */
    for (int i = 0; i < scaled(500); i++) {
        event_clear(&gate);
        tarn_waitgroup_add(&wg, 2);
        go(gate_opener, NULL);
        go(gate_waiter, NULL); /* this one first */
        tarn_waitgroup_wait(&wg);
    }
    /* None does: the P goes idle. */
    for (int i = 0; i < 5; i++) {
        pthread_t t;
        event_clear(&gate);
        atomic_store(&idle_seen, 0);
        start_thread(&t, idle_watcher, NULL);
        tarn_futex_wait((uint32_t *)&gate.set, 0, -1);
        tarn_native_call(wait_for, &gate);
        CHECK_EQ(atomic_load(&idle_seen), 1);
        tarn_native_call(join_thread, &t);
    }
    check_wiring();
}

/* Threads that sleep are used before new ones are made. */
static void test_startm(void)
{
    for (int i = 0; i < scaled(400); i++) {
        event_clear(&gate);
        tarn_waitgroup_add(&wg, 4);
        for (int k = 0; k < 3; k++)
            go(gate_waiter, NULL);
        go(gate_opener, NULL);
        tarn_waitgroup_wait(&wg);
    }
    /* M0, the monitor, three that wait, and one for each P that is used
     * meanwhile; two that are on their way to sleep when they are wanted. */
    CHECK_LE(atomic_load(&sched.mnext), (uint64_t)nprocs + 3 + 2 + 2 + 4);
    check_wiring();
}

static void too_many(void *unused)
{
    (void)unused;
    event_clear(&gate);
    tarn_waitgroup_add(&wg, 20);
    for (int i = 0; i < 20; i++)
        go(gate_waiter, NULL);
    tarn_waitgroup_wait(&wg);
}

static void limited_child(void)
{
    struct tarn_options o;
    unsetenv("TARN"); /* it is about these numbers */
    tarn_options_init(&o);
    o.maxthreads = 8;
    o.maxprocs = 2;
    alarm(SUITE_WATCHDOG_SECONDS);
    tarn_main(&o, too_many, NULL);
}

static void refused_thread(void *unused)
{
    fail_inject(FAIL_THREAD, 0, -1);
    too_many(unused);
}

/* A thread that cannot be had ends the process, and says what was wanted. */
static void test_startm_refused(void)
{
    static char out[65536];
    int st = harness_child(limited_child, NULL, out, sizeof out);
    CHECK_STR(out, "the limit of 8 threads is reached (option maxthreads)");
    CHECK(WIFEXITED(st));
    CHECK_EQ(WEXITSTATUS(st), 2);
    CHECK_FATAL(refused_thread, "cannot create a thread for P");
}

/* --- wakep: no wake-up is lost ------------------------------------------------------ */

static _Atomic uint64_t steps;

/* Comes back without a P as often as not, just when others go to sleep. */
static void in_and_out(void *vseed)
{
    uint64_t rng = seed_of((uintptr_t)vseed);
    for (int i = 0; i < scaled(2000); i++) {
        int64_t ns = below(&rng, 4) ? below(&rng, 3000) : below(&rng, 60000);
        if (below(&rng, 2))
            tarn_native_call(spin_native, (void *)(uintptr_t)(ns / 4));
        else
            tarn_nanosleep(ns);
        atomic_fetch_add(&steps, 1);
    }
    tarn_waitgroup_done(&wg);
}

/* Nothing but the end of one's own call makes anybody runnable here: a wake-up
 * that is lost is never made up for. */
static void test_wakep(void)
{
    for (int n = 1; n <= 6; n++) {
        tarn_waitgroup_add(&wg, n);
        for (int i = 0; i < n; i++)
            go(in_and_out, (void *)(uintptr_t)(n * 10 + i));
        tarn_waitgroup_wait(&wg);
    }
    check_wiring();
}

/* --- deadlock ------------------------------------------------------------------------- */

static void locked_sleeper(void *unused)
{
    (void)unused;
    CHECK_ST(tarn_lock_thread(), TARN_OK);
    for (int i = 0; i < scaled(300); i++) {
        tarn_nanosleep(i % 50 * 1000);
        tarn_yield();
    }
    tarn_waitgroup_done(&wg);
}

/* Everybody waits, but for threads in native calls, or with a P in the hands of
 * somebody who has none himself: not once is that a deadlock. */
static void test_incidlelocked(void)
{
    tarn_waitgroup_add(&wg, 4);
    for (int i = 0; i < 2; i++) {
        go(locked_sleeper, NULL);
        go(in_and_out, (void *)(uintptr_t)(90 + i));
    }
    tarn_waitgroup_wait(&wg);
    for (int i = 0; i < scaled(300); i++) {
        tarn_waitgroup_add(&wg, 1);
        event_clear(&gate);
        go(gate_waiter, NULL);
        /* Takes longer than the monitor's first visit now and then. */
        tarn_native_call(spin_native, (void *)(uintptr_t)(i % 10 * 10000));
        event_set(&gate);
        tarn_waitgroup_wait(&wg);
    }
    CHECK_GE(sched.nmidlelocked, 0);
}

static void blocked_for_ever(void *unused)
{
    (void)unused;
    uint64_t v;
    tarn_chan_recv(new_chan(8, 0), &v);
}

static void dead_after_native(void *unused)
{
    (void)unused;
    for (int i = 0; i < 10; i++)
        go(blocked_for_ever, NULL);
    tarn_nanosleep(1000000);
    tarn_native_call(spin_native, (void *)(uintptr_t)1000000);
    blocked_for_ever(NULL);
}

static void locked_blocked(void *unused)
{
    (void)unused;
    CHECK_ST(tarn_lock_thread(), TARN_OK);
    blocked_for_ever(NULL);
}

static void dead_while_locked(void *unused)
{
    go(locked_blocked, NULL);
    locked_blocked(unused);
}

static void locked_end(void *unused)
{
    (void)unused;
    tarn_nanosleep(1000000);
    CHECK_ST(tarn_lock_thread(), TARN_OK);
}

/* The last that runs is a thread that ends. */
static void dead_by_exit(void *unused)
{
    (void)unused;
    go(locked_end, NULL);
    blocked_for_ever(NULL);
}

static void blocked_in_callback(void *unused)
{
    blocked_for_ever(unused);
}

static void *calls_back(void *unused)
{
    tarn_callback(blocked_in_callback, NULL);
    return unused;
}

static void dead_in_callback(void *unused)
{
    (void)unused;
    tarn_native_call(calls_back, NULL);
}

static void sleeps_in_native(void *unused)
{
    (void)unused;
    tarn_nanosleep(50000000);
    event_set(&gate);
    tarn_waitgroup_done(&wg);
}

static void test_checkdead(void)
{
    static const tarn_fn dead[] = {dead_after_native, dead_while_locked,
                                   dead_by_exit, dead_in_callback};
    for (size_t i = 0; i < ARRAY_LEN(dead); i++) {
        for (suite_child_procs = 1; suite_child_procs <= 3; suite_child_procs++)
            CHECK_FATAL(dead[i], "all goroutines are asleep - deadlock!");
    }
}

/* A native call is no sleep. */
static void test_checkdead_not(void)
{
    tarn_waitgroup_add(&wg, 1);
    event_clear(&gate);
    go(sleeps_in_native, NULL);
    tarn_waitgroup_wait(&wg);
    CHECK(event_is_set(&gate));
}

static void body(void)
{
    RUN(test_sysmon);
    RUN(test_retake);
    RUN(test_runnext_inherits);
    RUN(test_runnext_preempted);
    RUN(test_handoffp);
    RUN(test_startm);
    RUN(test_wakep);
    RUN(test_incidlelocked);
    RUN(test_checkdead_not);
}

static void body_of_races(void)
{
    RUN(test_retake);
    RUN(test_handoffp);
    RUN(test_wakep);
    RUN(test_incidlelocked);
}

int main(int argc, char **argv)
{
    harness_init(argc, argv);
    RUN(test_startm_refused);
    RUN(test_checkdead);
    gc_run(body, 1, "");
    gc_run(body, 2, "");
    gc_run(body, 4, "");
    gc_run(body_of_races, 1, "delays=200");
    gc_run(body_of_races, 3, "delays=200,droppreempt=30");
    return harness_done();
}
