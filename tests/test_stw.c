/* tests/test_stw.c - stop the world, and the ragged barrier, under load: more Ps
 * than CPUs, goroutines of every habit, several stoppers at once, requests that
 * get lost, delays at protocol steps. While the world is stopped nothing moves;
 * afterwards everything does. */
#include "nativesuite.h"

enum habit {
    YIELDER,
    PINGER,
    PONGER,
    ALLOCATOR,
    POLLER,
    SLEEPER,
    LOCKER,
    SPAWNER,
    HABITS
};

/* One line of its own for each goroutine's counter. */
struct counter {
    _Atomic uint64_t n;
    char pad[56];
};

#define MOBS 3
static struct counter counters[MOBS * HABITS];
static _Atomic uint64_t spawned_count;
static _Atomic bool quit;
static tarn_waitgroup wg;
static tarn_mutex contended;
static tarn_chan *ping[MOBS], *pong[MOBS];

static uint64_t sum_counters(void)
{
    uint64_t sum = atomic_load(&spawned_count);
    for (int i = 0; i < MOBS * HABITS; i++)
        sum += atomic_load(&counters[i].n);
    return sum;
}

static void short_life(void *arg)
{
    (void)arg;
    atomic_fetch_add(&spawned_count, 1);
    tarn_waitgroup_done(&wg);
}

static void spawn_some(void)
{
    for (int i = 0; i < 4; i++) {
        tarn_waitgroup_add(&wg, 1);
        go(short_life, NULL);
    }
    tarn_yield();
}

static void act(enum habit h, int mob, uint64_t n)
{
    uint64_t v = n;
    volatile uint64_t x = n;
    switch (h) {
    case YIELDER:
        tarn_yield();
        break;
    case PINGER:
        if (tarn_chan_send(ping[mob], &v) == TARN_OK)
            tarn_chan_recv(pong[mob], &v);
        break;
    case PONGER:
        if (tarn_chan_recv(ping[mob], &v) == TARN_OK)
            tarn_chan_send(pong[mob], &v);
        break;
    case ALLOCATOR:
        CHECK(tarn_alloc_conservative(8 + n % 500) != NULL);
        if (n % 100 == 0)
            CHECK(tarn_alloc_bytes(40000) != NULL);
        break;
    case POLLER:
        for (int i = 0; i < 1000; i++)
            x = x * 3 + 1;
        tarn_poll();
        break;
    case SLEEPER:
        tarn_sleep(20000 + (int64_t)(n % 7) * 10000);
        break;
    case LOCKER:
        tarn_mutex_lock(&contended);
        x++;
        if (n % 16 == 0)
            tarn_yield();
        tarn_mutex_unlock(&contended);
        break;
    default:
        spawn_some();
    }
}

static void worker(void *arg)
{
    int me = (int)(uintptr_t)arg;
    for (uint64_t n = 0; !atomic_load(&quit); n++) {
        act((enum habit)(me % HABITS), me / HABITS, n);
        atomic_fetch_add_explicit(&counters[me].n, 1, memory_order_relaxed);
    }
    tarn_waitgroup_done(&wg);
}

static void load_start(void)
{
    atomic_store(&quit, false);
    for (int i = 0; i < MOBS; i++) {
        tarn_store(&ping[i], new_chan(8, 0));
        tarn_store(&pong[i], new_chan(8, 0));
    }
    tarn_waitgroup_add(&wg, MOBS * HABITS);
    for (uintptr_t i = 0; i < MOBS * HABITS; i++)
        go(worker, (void *)i);
}

/* Everybody moves, those who stand still after a stop too. */
static void check_progress(void)
{
    static uint64_t before[MOBS * HABITS];
    for (int i = 0; i < MOBS * HABITS; i++)
        before[i] = atomic_load(&counters[i].n);
    for (int i = 0; i < MOBS * HABITS; i++)
        while (atomic_load(&counters[i].n) == before[i])
            tarn_sleep(100000);
}

static void load_end(void)
{
    atomic_store(&quit, true);
    for (int i = 0; i < MOBS; i++) {
        tarn_chan_close(ping[i]);
        tarn_chan_close(pong[i]);
    }
    tarn_waitgroup_wait(&wg);
}

/* --- stops --------------------------------------------------------------------- */

static void check_stopped(void)
{
    CHECK(atomic_load(&sched.gcwaiting));
    for (uint32_t i = 0; i < nprocs; i++)
        CHECK_EQ(atomic_load(&allp[i]->status), (uint32_t)Pgcstop);
    int running = 0;
    for (size_t i = 0; i < atomic_load(&allglen); i++)
        running += readgstatus(allg_at(i)) == Grunning;
    CHECK_EQ(running, 1); /* me */
    uint64_t before = sum_counters();
    int64_t end = nanotime() + 30000;
    while (nanotime() < end)
        ;
    CHECK_EQ(sum_counters(), before);
}

static void test_nothing_moves(void)
{
    load_start();
    check_progress();
    for (int i = 0; i < scaled(32); i++) {
        stopTheWorld();
        check_stopped();
        startTheWorld();
        if (i % 8 == 0)
            tarn_yield();
    }
    check_progress();
    load_end();
}

static _Atomic int stoppers_in;

static void stopper(void *arg)
{
    for (int i = 0; i < (int)(uintptr_t)arg; i++) {
        stopTheWorld();
        CHECK_EQ(atomic_fetch_add(&stoppers_in, 1), 0);
        if (i % 8 == 0)
            check_stopped();
        CHECK_EQ(atomic_fetch_sub(&stoppers_in, 1), 1);
        startTheWorld();
        if (i % 3 == 0)
            tarn_yield();
    }
    tarn_waitgroup_done(&wg);
}

static void collector(void *arg)
{
    for (int i = 0; i < (int)(uintptr_t)arg; i++) {
        collect();
        if (i % 4 == 0)
            tarn_sleep(50000);
    }
    tarn_waitgroup_done(&wg);
}

/* Stops back to back, with nobody else there. */
static void test_stoppers_alone(void)
{
    tarn_waitgroup_add(&wg, 4);
    for (int i = 0; i < 4; i++)
        go(stopper, (void *)(uintptr_t)scaled(100));
    tarn_waitgroup_wait(&wg);
}

/* --- stops while threads wake up ------------------------------------------------- */

static tarn_chan *wakes, *woken;

static void waker(void *arg)
{
    (void)arg;
    uint64_t v;
    while (tarn_chan_recv(wakes, &v) == TARN_OK) {
        v++;
        tarn_chan_send(woken, &v);
    }
    tarn_waitgroup_done(&wg);
}

/* Makes others runnable, so that idle Ps are given to threads that sleep, and stops the
 * world before those are awake: it takes the Ps back. Nothing gets lost by that, and the
 * threads are not replaced by new ones for it. */
static void test_stop_takes_back(void)
{
    enum { WAKERS = 3 };
    uint64_t before = atomic_load(&sched.undone), sum = 0, sent = 0;
    uint64_t threads = 0, enough = nprocs > 1 ? (uint64_t)scaled(50) : 0;
    wakes = tarn_chan_new(sizeof(uint64_t), WAKERS);
    woken = tarn_chan_new(sizeof(uint64_t), WAKERS);
    tarn_waitgroup_add(&wg, WAKERS);
    for (int i = 0; i < WAKERS; i++)
        go(waker, NULL);
    for (uint64_t i = 0;
         i < 100 || atomic_load(&sched.undone) - before < enough; i++) {
        uint64_t v = i;
        for (int k = 0; k < WAKERS; k++, sent += i + 1)
            CHECK_EQ(tarn_chan_send(wakes, &v), TARN_OK);
        stopTheWorld();
        if (i % 8 == 0)
            check_stopped();
        startTheWorld();
        for (int k = 0; k < WAKERS; k++) {
            CHECK_EQ(tarn_chan_recv(woken, &v), TARN_OK);
            sum += v;
        }
        if (i == 50)
            threads = atomic_load(&sched.mnext);
        /* Until all sleep again. */
        if (i % 2 == 0)
            tarn_sleep(200000);
    }
    CHECK_EQ(sum, sent);
    CHECK_GE(threads + nprocs, atomic_load(&sched.mnext));
    tarn_chan_close(wakes);
    tarn_waitgroup_wait(&wg);
}

/* --- stops while threads bound to goroutines wake up ------------------------------- */

static _Atomic uint64_t naps;

static void napper(void *arg)
{
    uint64_t n = (uint64_t)(uintptr_t)arg;
    while (!atomic_load(&quit)) {
        CHECK_ST(tarn_lock_thread(), TARN_OK);
        tarn_sleep(20000 + (int64_t)(n++ % 7) * 5000);
        atomic_fetch_add(&naps, 1);
        CHECK_ST(tarn_unlock_thread(), TARN_OK);
        tarn_sleep(20000 + (int64_t)(n % 5) * 5000);
    }
    tarn_waitgroup_done(&wg);
}

/* A thread that sleeps for its goroutine and is given a P for that keeps it, even where
 * that P was once given to it as to any other thread. */
static void test_stop_leaves_locked(void)
{
    enum { NAPPERS = 3 };
    atomic_store(&quit, false);
    uint64_t until = atomic_load(&naps) + (uint64_t)scaled(3000), n = 0;
    tarn_waitgroup_add(&wg, NAPPERS);
    for (uintptr_t i = 0; i < NAPPERS; i++)
        go(napper, (void *)i);
    while (atomic_load(&naps) < until) {
        stopTheWorld();
        startTheWorld();
        int64_t end = nanotime() + (int64_t)(n++ % 32) * 2000;
        while (nanotime() < end)
            tarn_poll();
        if (n % 64 == 0)
            tarn_sleep(50000);
    }
    atomic_store(&quit, true);
    tarn_waitgroup_wait(&wg);
}

/* --- the ragged barrier ------------------------------------------------------------ */

static _Atomic uint32_t visits[1024];
static _Atomic uint64_t visits_round;

static void visit(struct p *pp)
{
    CHECK_EQ(atomic_fetch_add(&visits[pp->id], 1), 0);
}

/* Makes the caller scannable while it waits, as stopTheWorld does. */
static void visit_all_on_g0(void *vgp)
{
    casGToWaiting(vgp, Grunning, WAIT_STOPPING_WORLD);
    forEachP(visit);
    casgstatus(vgp, Gwaiting, Grunning);
}

static void visit_all(void)
{
    worldsema_acquire();
    for (uint32_t i = 0; i < nprocs; i++)
        atomic_store(&visits[i], 0);
    systemstack(visit_all_on_g0, getg());
    for (uint32_t i = 0; i < nprocs; i++)
        CHECK_EQ(atomic_load(&visits[i]), 1);
    atomic_fetch_add(&visits_round, 1);
    worldsema_release();
}

static void visitor(void *arg)
{
    for (int i = 0; i < (int)(uintptr_t)arg; i++) {
        visit_all();
        if (i % 5 == 0)
            tarn_yield();
    }
    tarn_waitgroup_done(&wg);
}

static void test_ragged_barrier(void)
{
    /* All Ps idle but this one, then under load. */
    for (int i = 0; i < 50; i++)
        visit_all();
    load_start();
    for (int i = 0; i < scaled(24); i++) {
        visit_all();
        if (i % 16 == 0)
            check_progress();
    }
    load_end();
    CHECK_GE(atomic_load(&visits_round), (uint64_t)50);
}

/* --- all at once -------------------------------------------------------------------- */

static void test_everything(void)
{
    uintptr_t n = (uintptr_t)scaled(30);
    struct tarn_gc_stats before = {.struct_size = sizeof before};
    struct tarn_gc_stats after = {.struct_size = sizeof after};
    CHECK_ST(tarn_gc_stats(&before), TARN_OK);
    load_start();
    tarn_waitgroup_add(&wg, 8);
    for (int i = 0; i < 3; i++)
        go(stopper, (void *)n);
    for (int i = 0; i < 3; i++)
        go(collector, (void *)n);
    for (int i = 0; i < 2; i++)
        go(visitor, (void *)n);
    for (int i = 0; i < 2; i++) {
        check_progress();
        tarn_sleep(1000000);
    }
    load_end();
    CHECK_ST(tarn_gc_stats(&after), TARN_OK);
    /* Three askers may share a cycle, but each ask starts after the one of its
     * asker before. */
    CHECK_GE(after.cycles - before.cycles, (uint64_t)n);
    /* Less the second stop of a cycle that is ending just now, and the first one
     * of a cycle that was under way before. */
    CHECK_GE(after.pause.count - before.pause.count + 2,
             (uint64_t)(3 * n) + 2 * (after.cycles - before.cycles));
    CHECK_LE(after.stopping.max_ns, after.pause.max_ns);
}

/* A stopper that ends at once, goroutines that end while the stop is asked for,
 * and tarn_main that returns and comes back. */
static void ends_in_stop(void *arg)
{
    (void)arg;
    stopTheWorld();
    startTheWorld();
    tarn_waitgroup_done(&wg);
}

static void test_brief_lives(void)
{
    for (int i = 0; i < scaled(40); i++) {
        tarn_waitgroup_add(&wg, 20);
        for (int k = 0; k < 20; k++)
            go(k % 5 ? short_life : ends_in_stop, NULL);
        tarn_waitgroup_wait(&wg);
    }
}

/* --- the public calls -------------------------------------------------------- */

static void test_tarn_world(void)
{
    load_start();
    for (int i = 0; i < SUITE_REPEAT(200); i++) {
        CHECK_ST(tarn_world_stop(), TARN_OK);
        uint64_t frozen = sum_counters();
        CHECK_ST(tarn_world_stop(), TARN_ESTATE);
        CHECK(strstr(tarn_last_error(), "already") != NULL);
        CHECK(tarn_alloc_bytes(i % 2 ? 1 << 20 : 16) == NULL);
        CHECK(strstr(tarn_last_error(), "has stopped the world") != NULL);
        CHECK_ST(tarn_gc(), TARN_ESTATE);
        if (i % 16 == 0)
            usleep_os(300);
        CHECK_EQ(sum_counters(), frozen);
        CHECK_ST(tarn_world_start(), TARN_OK);
        CHECK_ST(tarn_world_start(), TARN_ESTATE);
        if (i % 8 == 0)
            check_progress();
    }
    load_end();
}

/* A mutex whose waiter has waited so long that it is handed over: by whoever has
 * stopped the world, who cannot let the new owner run yet. */
static tarn_mutex handed;
static tarn_waitgroup handed_over;

static void wants_mutex(void *unused)
{
    (void)unused;
    tarn_mutex_lock(&handed);
    tarn_mutex_unlock(&handed);
    tarn_waitgroup_done(&handed_over);
}

static void test_unlock_stopped(void)
{
    for (int i = 0; i < 10; i++) {
        tarn_mutex_lock(&handed);
        tarn_waitgroup_add(&handed_over, 1);
        go(wants_mutex, NULL);
        /* Bit WAITERS, see sync.c: it has begun to wait in the queue. */
        while (!(LOAD(handed.state) & 2))
            tarn_yield();
        /* How long makes it a hand-over; more is no harm. */
        tarn_sleep(2000000);
        CHECK_ST(tarn_world_stop(), TARN_OK);
        tarn_mutex_unlock(&handed);
        CHECK(!tarn_mutex_try_lock(&handed));
        CHECK_ST(tarn_world_start(), TARN_OK);
        tarn_waitgroup_wait(&handed_over);
    }
}

static void blocks_stopped(void *unused)
{
    (void)unused;
    tarn_world_stop();
    tarn_sleep(1000000);
}

static void yields_stopped(void *unused)
{
    (void)unused;
    tarn_world_stop();
    tarn_yield();
}

static void ends_stopped(void *unused)
{
    (void)unused;
    tarn_world_stop();
}

static void native_stopped(void *unused)
{
    (void)unused;
    tarn_world_stop();
    tarn_native_enter();
}

/* An attached thread that has stopped the world may not leave. */
static void *detaches_stopped(void *unused)
{
    CHECK_ST(tarn_thread_attach(), TARN_OK);
    CHECK_ST(tarn_world_stop(), TARN_OK);
    CHECK_ST(tarn_thread_detach(), TARN_ESTATE);
    CHECK(strstr(tarn_last_error(), "has stopped the world") != NULL);
    CHECK(tarn_thread_attached());
    CHECK_ST(tarn_world_start(), TARN_OK);
    CHECK_ST(tarn_thread_detach(), TARN_OK);
    return unused;
}

static void test_detach_stopped(void)
{
    for (int i = 0; i < 10; i++) {
        pthread_t t;
        start_thread(&t, detaches_stopped, NULL);
        tarn_native_call(join_thread, &t);
    }
}

static void *ends_attached(void *unused)
{
    tarn_thread_attach();
    tarn_world_stop();
    return unused;
}

static void *calls_back_stopped(void *unused)
{
    tarn_callback(ends_stopped, NULL);
    return unused;
}

static void with_thread(void *(*fn)(void *))
{
    pthread_t t;
    start_thread(&t, fn, NULL);
    tarn_native_call(join_thread, &t);
}

static void thread_ends_stopped(void *unused)
{
    (void)unused;
    with_thread(ends_attached);
}

static void thread_calls_back_stopped(void *unused)
{
    (void)unused;
    with_thread(calls_back_stopped);
}

static void native_calls_back_stopped(void *unused)
{
    tarn_native_call(calls_back_stopped, unused);
}

static void enter_calls_back_stopped(void *unused)
{
    (void)unused;
    tarn_native_enter();
    tarn_callback(ends_stopped, NULL);
    tarn_native_leave();
}

static void test_tarn_world_misuse(void)
{
    CHECK_FATAL(blocks_stopped, "blocks while it has stopped the world");
    CHECK_FATAL(yields_stopped, "yields while it has stopped the world");
    CHECK_FATAL(ends_stopped, "ends while it has stopped the world");
    CHECK_FATAL(native_stopped, "makes a native call while it has stopped");
    CHECK_FATAL(thread_ends_stopped, "ends while it has stopped the world");
    CHECK_FATAL(thread_calls_back_stopped,
                "returns from a callback while it has stopped the world");
    CHECK_FATAL(native_calls_back_stopped,
                "returns from a callback while it has stopped the world");
    CHECK_FATAL(enter_calls_back_stopped,
                "returns from a callback while it has stopped the world");
}

static void body(void)
{
    RUN(test_stoppers_alone);
    RUN(test_nothing_moves);
    RUN(test_stop_takes_back);
    RUN(test_stop_leaves_locked);
    RUN(test_ragged_barrier);
    RUN(test_everything);
    RUN(test_brief_lives);
    RUN(test_tarn_world);
    RUN(test_unlock_stopped);
    RUN(test_detach_stopped);
}

/* tarn_main ends in the middle of anything, and a later one finds it so. */
static void again(void *arg)
{
    (void)arg;
    check_progress();
    gc_request();
    tarn_yield();
}

static void first(void *arg)
{
    (void)arg;
    load_start();
    check_progress();
}

static void last(void *arg)
{
    (void)arg;
    check_progress();
    collect();
    load_end();
}

static void restart_child(void)
{
    struct tarn_options o;
    alarm(SUITE_WATCHDOG_SECONDS);
    tarn_options_init(&o);
    o.maxprocs = 16;
    o.checkmark = 1;
    CHECK_ST(tarn_main(&o, first, NULL), TARN_OK);
    for (int i = 0; i < 5; i++) {
        uint64_t frozen = sum_counters();
        usleep_os(2000);
        CHECK_EQ(sum_counters(), frozen);
        CHECK_ST(tarn_main(&o, again, NULL), TARN_OK);
    }
    CHECK_ST(tarn_main(&o, last, NULL), TARN_OK);
    printf("all over\n");
    exit(0);
}

static void test_restart(void)
{
    static char out[65536];
    int st = harness_child(restart_child, NULL, out, sizeof out);
    CHECK_STR(out, "all over");
    CHECK(WIFEXITED(st) && WEXITSTATUS(st) == 0);
}

int main(int argc, char **argv)
{
    harness_init(argc, argv);
    RUN(test_restart);
    RUN(test_tarn_world_misuse);
    gc_run(body, 1, "");
    gc_run(body, 2, "droppreempt=30");
    gc_run(body, 16, "");
    gc_run(body, 16, "droppreempt=30,delays=50");
    return harness_done();
}
