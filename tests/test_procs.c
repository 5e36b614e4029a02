/* tests/test_procs.c - the number of Ps changes at run time, under all that goroutines
 * do: nobody is lost on a P that ends, nothing is left behind there, everybody goes
 * on; also where a mark is under way, and from one tarn_main to the next. */
#include "procsuite.h"

#include "tarn/native.h"

/* Mostly few, since a stop costs as many switches of threads. */
static uint32_t some_number(uint64_t *rng)
{
    return 1 + below(rng, below(rng, 4) == 0 ? 16 : 4);
}

/* --- what goroutines do meanwhile -------------------------------------------------- */

enum habit {
    YIELDER,
    SPINNER,
    PINGER,
    PONGER,
    ALLOCATOR,
    MOVER,
    SLEEPER,
    TIMER,
    LOCKER,
    SPAWNER,
    NATIVE_SHORT,
    NATIVE_LONG,
    CALLER_BACK,
    STACKER,
    HABITS
};

struct counter {
    _Atomic uint64_t n;
    char pad[56];
};
static struct counter counters[HABITS];
static _Atomic bool quit;
static tarn_chan *ping, *pong;
static tarn_mutex contended;
static uint64_t in_lock; /* by contended */
static _Atomic uint64_t spawned, lived, armed, fired;

static void short_life(void *arg)
{
    (void)arg;
    atomic_fetch_add(&lived, 1);
}

static void on_timer(void *arg)
{
    uint64_t *v = arg;
    CHECK_EQ(v[0], 0x71c3u);
    CHECK_EQ(*(uint64_t *)v[1], 0x71c4u);
    atomic_fetch_add(&fired, 1);
}

/* Known to the timer alone. */
static __attribute__((noinline)) tarn_timer *arm(int64_t ns)
{
    uint64_t *v = new_shared(2 * sizeof *v), *w = new_shared(sizeof *w);
    v[0] = 0x71c3;
    *w = 0x71c4;
    tarn_store(&v[1], w);
    tarn_timer *t = tarn_timer_start(ns, on_timer, v);
    CHECK(t != NULL);
    atomic_fetch_add(&armed, 1);
    return t;
}

/* Nodes that are only moved about: each must be alive and itself all the time. */
#define CELLS 256
static uint64_t **cells;

/* tarn_store does not say to other threads that *v is complete. */
static void put_node(uint64_t **cell, uint64_t *v)
{
    if (TARN_TSAN)
        tarn_swap(cell, v);
    else
        tarn_store(cell, v);
}

static void move_nodes(uint64_t *rng)
{
    for (int k = 0; k < 8; k++) {
        uint32_t a = below(rng, CELLS), b = below(rng, CELLS);
        uint64_t *x = LOAD(cells[a]), *y = LOAD(cells[b]);
        CHECK_EQ(x[0] ^ x[1], HIDE_KEY);
        CHECK_EQ(y[0] ^ y[1], HIDE_KEY);
        put_node(&cells[a], y);
        put_node(&cells[b], x);
        if (below(rng, 16) == 0) {
            uint64_t *z = new_shared(2 * sizeof *z);
            z[0] = harness_rand(rng) | 1;
            z[1] = z[0] ^ HIDE_KEY;
            put_node(&cells[a], z);
        }
    }
}

static void cells_init(void)
{
    tarn_store(&cells, new_shared(CELLS * sizeof *cells));
    for (uint64_t i = 0; i < CELLS; i++) {
        uint64_t *z = new_shared(2 * sizeof *z);
        z[0] = i;
        z[1] = i ^ HIDE_KEY;
        tarn_store(&cells[i], z);
    }
}

static uint64_t deep(uint64_t n)
{
    volatile uint64_t frame[32];
    frame[0] = n;
    return n == 0 ? frame[0] : deep(n - 1) + frame[0];
}

static void called_back(void *n)
{
    CHECK(tarn_alloc_bytes(64) != NULL);
    if ((uintptr_t)n % 3 == 0)
        tarn_yield();
}

static void *calls_back(void *n)
{
    tarn_status st = tarn_callback(called_back, n);
    /* On the thread of a tarn_main that is about to return no new one begins. */
    if (st != TARN_OK)
        CHECK(st == TARN_ESTATE && said("tarn_main is about to return"));
    return n;
}

static void act(enum habit h, uint64_t n, uint64_t *rng)
{
    volatile uint64_t x = n;
    uint64_t v = n;
    switch (h) {
    case YIELDER:
        tarn_yield();
        break;
    case SPINNER:
        for (int i = 0; i < 20000; i++)
            x = x * 3 + 1;
        tarn_poll();
        break;
    case PINGER:
        if (tarn_chan_send(ping, &v) == TARN_OK &&
            tarn_chan_recv(pong, &v) == TARN_OK)
            CHECK_EQ(v, n + 1);
        break;
    case PONGER:
        if (tarn_chan_recv(ping, &v) == TARN_OK) {
            v++;
            tarn_chan_send(pong, &v);
        }
        break;
    case ALLOCATOR:
        CHECK(tarn_alloc_conservative(8 + n % 500) != NULL);
        if (n % 100 == 0)
            CHECK(tarn_alloc_bytes(40000) != NULL);
        break;
    case MOVER:
        move_nodes(rng);
        if (n % 8 == 0)
            tarn_yield();
        break;
    case SLEEPER:
        tarn_sleep(20000 + (int64_t)(n % 7) * 10000);
        break;
    case TIMER:
        arm((int64_t)below(rng, 300000));
        if (n % 4 == 0)
            tarn_sleep(50000);
        break;
    case LOCKER:
        tarn_mutex_lock(&contended);
        CHECK_EQ(in_lock++, 0u);
        if (n % 16 == 0)
            tarn_yield();
        CHECK_EQ(--in_lock, 0u);
        tarn_mutex_unlock(&contended);
        break;
    case SPAWNER:
        for (int i = 0; i < 4; i++) {
            atomic_fetch_add(&spawned, 1);
            go(short_life, NULL);
        }
        tarn_yield();
        break;
    case NATIVE_SHORT:
        tarn_native_enter();
        tarn_native_leave();
        break;
    case NATIVE_LONG:
        tarn_native_call(spin_native, (void *)(uintptr_t)(n % 100 * 1000));
        break;
    case CALLER_BACK:
        CHECK(tarn_native_call(calls_back, (void *)n) == (void *)n);
        break;
    default:
        CHECK_EQ(deep(n % 200), (n % 200) * (n % 200 + 1) / 2);
        tarn_poll();
    }
}

static void worker(void *arg)
{
    uintptr_t me = (uintptr_t)arg;
    uint64_t rng = seed_of(0x9000 + me);
    for (uint64_t n = 0; !atomic_load(&quit); n++) {
        act((enum habit)me, n, &rng);
        atomic_fetch_add_explicit(&counters[me].n, 1, memory_order_relaxed);
    }
    tarn_waitgroup_done(&wg);
}

static void load_start(void)
{
    atomic_store(&quit, false);
    cells_init();
    tarn_store(&ping, new_chan(8, 0));
    tarn_store(&pong, new_chan(8, 0));
    tarn_waitgroup_add(&wg, HABITS);
    for (uintptr_t i = 0; i < HABITS; i++)
        go(worker, (void *)i);
}

static void check_progress(void)
{
    static uint64_t before[HABITS];
    for (int i = 0; i < HABITS; i++)
        before[i] = atomic_load(&counters[i].n);
    for (int i = 0; i < HABITS; i++)
        while (atomic_load(&counters[i].n) == before[i])
            tarn_sleep(100000);
}

/* Everybody who was started has run, every timer has fired, once. */
static void load_end(void)
{
    atomic_store(&quit, true);
    tarn_chan_close(ping);
    tarn_chan_close(pong);
    tarn_waitgroup_wait(&wg);
    YIELD_UNTIL(atomic_load(&lived) == atomic_load(&spawned));
    while (atomic_load(&fired) != atomic_load(&armed))
        tarn_sleep(100000);
    settled();
    for (uint32_t i = 0; i < CELLS; i++)
        CHECK_EQ(cells[i][0] ^ cells[i][1], HIDE_KEY);
}

/* --- one at a time ------------------------------------------------------------------- */

static void *asks_unattached(void *unused)
{
    CHECK_ST(tarn_set_procs(3), TARN_ESTATE);
    CHECK(said("tarn_set_procs: not called on a goroutine"));
    return unused;
}

static void test_errors(void)
{
    static const int bad[] = {0, -1, INT32_MIN, PROCS_MAX + 1, INT32_MAX};
    size_t n = tarn_procs();
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        CHECK_ST(tarn_set_procs(bad[i]), TARN_EINVAL);
        CHECK(said("is outside 1..1024"));
    }
    tarn_native_call(asks_unattached, NULL);
    pthread_t t;
    start_thread(&t, asks_unattached, NULL);
    tarn_native_call(join_thread, &t);
    CHECK_ST(tarn_world_stop(), TARN_OK);
    CHECK_ST(tarn_set_procs(3), TARN_ESTATE);
    CHECK(said("tarn_set_procs: the caller has stopped the world"));
    CHECK_ST(tarn_world_start(), TARN_OK);
    CHECK_EQ(tarn_procs(), n);
    /* The same bound as the option's. */
    struct tarn_options o;
    tarn_options_init(&o);
    CHECK_ST(tarn_options_parse(&o, "maxprocs=1024"), TARN_OK);
    CHECK_EQ(o.maxprocs, (int64_t)PROCS_MAX);
    CHECK_ST(tarn_options_parse(&o, "maxprocs=1025"), TARN_EOPTION);
}

/* From each number to each other, with nothing else to do. */
static void test_pairs(void)
{
    uint32_t most = options.gcstress || options.delays || TARN_TSAN ? 6 : 16;
    for (uint32_t i = 1; i <= most; i++)
        for (uint32_t k = 1; k <= most; k++) {
            set_procs(i);
            set_procs(k);
            set_procs(k);
            if ((i + k) % 5 == 0)
                check_all();
        }
    check_all();
}

static void test_many(void)
{
    uint32_t most = TARN_TSAN || options.gcstress ? 64 : PROCS_MAX;
    set_procs(most);
    check_all();
    collect();
    set_procs(2);
    check_all();
    set_procs(most / 2);
    collect();
    set_procs(1);
    check_all();
}

static void ends(void *arg)
{
    (void)arg;
    atomic_fetch_add(&lived, 1);
}

/* The caller's own P ends, with more waiting there than its ring can hold. */
static void test_own_p(void)
{
    int hits = 0;
    for (int i = 0; hits < 10; i++) {
        set_procs(2 + (uint32_t)i % 7);
        /* Busy ones on each P, so that we come to be on another in time. */
        YIELD_UNTIL(atomic_load(&lived) == atomic_load(&spawned));
        for (uint32_t k = 0; k < 2 * RUNQ_SIZE; k++) {
            atomic_fetch_add(&spawned, 1);
            go(ends, NULL);
        }
        uint32_t id = own_p()->id;
        set_procs(1);
        hits += id != 0;
        CHECK_EQ(own_p()->id, 0u);
        check_mine();
        CHECK(tarn_alloc_bytes(100) != NULL);
        if (id == 0)
            go(hog, NULL);
    }
    YIELD_UNTIL(atomic_load(&lived) == atomic_load(&spawned));
    check_all();
}

/* Goroutines wait in the order in which they would have run on the P that ends. */
static struct {
    uint32_t n;
    uintptr_t who[8];
} order;

static void notes_order(void *i)
{
    order.who[order.n++] = (uintptr_t)i;
}

/* As a P that ends does it. False: some have run before the stop. */
static bool order_kept(void)
{
    struct g *keep[8];
    order.n = 0;
    for (uintptr_t i = 0; i < 8; i++)
        go(notes_order, (void *)i);
    stopTheWorld();
    struct p *pp = getg()->m->p;
    bool all = order.n == 0 && atomic_load(&pp->runnext) != NULL &&
               pp->runqtail - pp->runqhead == 7;
    if (all) {
        keep[0] = atomic_load(&pp->runnext);
        for (uint32_t i = 1; i < 8; i++)
            keep[i] =
                atomic_load(&pp->runq[(pp->runqhead + i - 1) % RUNQ_SIZE]);
        lock(&sched.lock);
        uint32_t others = sched.runq.n;
        runq_to_global(pp);
        CHECK_EQ(sched.runq.n, others + 8);
        struct g *gp = sched.runq.head;
        for (uint32_t i = 0; i < 8; i++, gp = gp->schedlink)
            CHECK(gp == keep[i]);
        CHECK((gp == NULL) == (others == 0));
        CHECK(sched.runq.tail->schedlink == NULL);
        unlock(&sched.lock);
        CHECK(runqempty(pp));
    }
    startTheWorld();
    YIELD_UNTIL(order.n == 8);
    return all;
}

/* Until once nobody was preempted: a goroutine that was goes to the end. */
static void test_order(void)
{
    set_procs(1);
    for (bool right = false; !right;) {
        right = order_kept() && order.who[0] == 7; /* runnext: the last one */
        for (uint32_t i = 1; i < 8; i++)
            right = right && order.who[i] == i - 1;
    }
}

/* --- timers ----------------------------------------------------------------------- */

#define ARMED 200
static tarn_timer **far;
static _Atomic uint32_t slept;

static void sleeps(void *ns)
{
    int64_t began = tarn_now();
    tarn_sleep((int64_t)(uintptr_t)ns);
    CHECK_GE(tarn_now() - began, (int64_t)(uintptr_t)ns);
    atomic_fetch_add(&slept, 1);
}

static void test_timers(void)
{
    for (int round = 0; round < scaled(10); round++) {
        set_procs(16);
        tarn_store(&far, new_shared(ARMED * sizeof *far));
        atomic_store(&slept, 0);
        for (uintptr_t i = 0; i < ARMED; i++) {
            /* Those of hours, which shall move all the time. */
            if (i % 4 == 0) {
                tarn_store(&far[i], arm(INT64_C(3600000000000)));
                atomic_fetch_sub(&armed, 1);
            } else {
                arm((int64_t)(i * 20000));
            }
            go(sleeps, (void *)(i * 10000));
            if (i % 8 == 0)
                tarn_yield();
        }
        for (uint32_t n = 15; n >= 1; n = n / 2) {
            set_procs(n);
            if (n == 7)
                collect();
            if (n == 3)
                gc_collect_young();
        }
        uint32_t left = 0;
        stopTheWorld();
        for (uint32_t i = 0; i < nprocs; i++)
            left += allp[i]->timers.len;
        for (uint32_t i = nprocs; i < atomic_load(&nallp); i++)
            check_ended(allp[i]);
        startTheWorld();
        CHECK_GE(left, (uint32_t)ARMED / 4);
        set_procs(3);
        while (atomic_load(&fired) != atomic_load(&armed) ||
               atomic_load(&slept) != ARMED)
            tarn_sleep(100000);
        for (uintptr_t i = 0; i < ARMED; i += 4) {
            CHECK(tarn_timer_stop(far[i]));
            CHECK(!tarn_timer_stop(far[i]));
        }
    }
    settled();
}

/* All asleep until a timer that was on a P which has ended. */
static void test_timer_wakes(void)
{
    for (int i = 0; i < scaled(50); i++) {
        set_procs(4);
        atomic_store(&slept, 0);
        for (uintptr_t k = 0; k < 4; k++)
            go(sleeps, (void *)(1000000 + k));
        tarn_sleep(200000);
        set_procs(1);
        while (atomic_load(&slept) != 4)
            tarn_sleep(3000000);
    }
}

/* --- native calls and threads -------------------------------------------------------- */

static struct event gate, entered;
static struct g *_Atomic native_g_;

static void *enters(void *unused)
{
    event_set(&entered);
    event_wait_native(&gate);
    return unused;
}

static void in_native(void *unused)
{
    void *p = tarn_alloc_bytes(64);
    atomic_store(&native_g_, getg());
    CHECK(tarn_native_call(enters, p) == p);
    check_mine();
    CHECK(tarn_alloc_bytes(64) != NULL);
    tarn_waitgroup_done(&wg);
    (void)unused;
}

/* A thread in a native call is wired to a P that ends, and comes back without one. */
static void test_native_wired(void)
{
    int hits = 0;
    for (uint32_t i = 0; hits < 5; i++) {
        set_procs(2 + i % 3);
        event_clear(&gate);
        event_clear(&entered);
        tarn_waitgroup_add(&wg, 1);
        go(in_native, NULL);
        event_wait(&entered);
        struct g *gp = atomic_load(&native_g_);
        struct m *mp = __atomic_load_n(&gp->m, __ATOMIC_RELAXED);
        struct p *pp = atomic_load(&mp->p);
        uint32_t id = pp != NULL ? pp->id : 0;
        set_procs(1);
        CHECK_EQ(readgstatus(gp) & ~(uint32_t)Gscan, (uint32_t)Gsyscall);
        /* Only P 0 can be its P now. */
        struct p *has = atomic_load(&mp->p);
        CHECK(has == NULL || has == allp[0]);
        if (id != 0) {
            hits++;
            CHECK(has == NULL);
            CHECK_EQ(atomic_load(&pp->status), (uint32_t)Pdead);
        }
        if (i % 2 == 0)
            set_procs(4);
        event_set(&gate);
        tarn_waitgroup_wait(&wg);
    }
    check_all();
}

static void *attached(void *arg)
{
    uint64_t rng = seed_of(0x7000 + (uintptr_t)arg);
    for (int i = 0; !atomic_load(&quit); i++) {
        CHECK_ST(tarn_thread_attach(), TARN_OK);
        for (uint32_t k = below(&rng, 8); k > 0; k--) {
            move_nodes(&rng);
            if (k % 2 == 0)
                tarn_yield();
        }
        if (i % 8 == 0)
            CHECK_ST(tarn_set_procs((int)some_number(&rng)), TARN_OK);
        CHECK_ST(tarn_thread_detach(), TARN_OK);
        CHECK_GE(tarn_procs(), 1u);
        CHECK_LE(tarn_procs(), 16u);
    }
    return NULL;
}

/* --- all at once ------------------------------------------------------------------------ */

static _Atomic int changing;

static void changer(void *arg)
{
    uint64_t rng = seed_of(0x8000 + (uintptr_t)arg);
    for (int i = scaled(200); i > 0; i--) {
        uint32_t n = some_number(&rng);
        CHECK_ST(tarn_set_procs((int)n), TARN_OK);
        size_t now = tarn_procs(); /* others change it as well */
        CHECK(now >= 1 && now <= 16);
        check_mine();
        if (below(&rng, 8) == 0)
            tarn_sleep((int64_t)below(&rng, 1000000));
        else if (below(&rng, 2) == 0)
            tarn_yield();
    }
    atomic_fetch_sub(&changing, 1);
    tarn_waitgroup_done(&wg);
}

static void collector(void *arg)
{
    for (uintptr_t i = (uintptr_t)arg; atomic_load(&changing) != 0; i++) {
        if (i % 2 == 0)
            collect();
        else
            gc_collect_young();
        if (i % 4 == 0)
            tarn_sleep(50000);
    }
    tarn_waitgroup_done(&wg);
}

static void stopper(void *unused)
{
    (void)unused;
    while (atomic_load(&changing) != 0) {
        check_all();
        tarn_sleep(300000);
    }
    tarn_waitgroup_done(&wg);
}

static void test_storm(void)
{
    static pthread_t t[2];
    struct tarn_gc_stats before = {.struct_size = sizeof before};
    struct tarn_gc_stats after = {.struct_size = sizeof after};
    CHECK_ST(tarn_gc_stats(&before), TARN_OK);
    load_start();
    atomic_store(&changing, 2);
    tarn_waitgroup_add(&wg, 5);
    for (uintptr_t i = 0; i < 2; i++)
        go(changer, (void *)i);
    for (uintptr_t i = 0; i < 2; i++)
        go(collector, (void *)i);
    go(stopper, NULL);
    for (uintptr_t i = 0; i < 2; i++)
        start_thread(&t[i], attached, (void *)i);
    while (atomic_load(&changing) != 0) {
        check_progress();
        tarn_sleep(1000000);
    }
    atomic_store(&quit, true);
    for (int i = 0; i < 2; i++)
        tarn_native_call(join_thread, &t[i]);
    load_end();
    CHECK_ST(tarn_gc_stats(&after), TARN_OK);
    CHECK_GT(after.cycles, before.cycles);
    check_all();
}

static bool no_collection(void)
{
    STAY();
    lock(&gc.lock);
    bool none = !gc.requested && gc.cycles_started == gc.cycles_swept;
    unlock(&gc.lock);
    GO_ON();
    return none;
}

/* Changes while a mark is under way, each time: what the barrier noted and what is
 * half marked on the Ps that end must be marked all the same. */
static void test_in_mark(void)
{
    uint64_t rng = seed_of(0x6000);
    load_start();
    int hits = 0;
    for (uint64_t i = 0; hits < scaled(40); i++) {
        set_procs(some_number(&rng));
        gc_request();
        YIELD_UNTIL(atomic_load(&gc.phase) == GC_MARK || no_collection());
        move_nodes(&rng);
        STAY();
        bool marks = atomic_load(&gc.phase) == GC_MARK;
        GO_ON();
        set_procs(some_number(&rng));
        set_procs(some_number(&rng));
        hits += marks;
    }
    load_end();
    check_all();
}

/* Timers of a P that ends after the mark has looked at those of the P to which they
 * go, and before it has at its own: as if it never did. */
static _Atomic uint64_t hidden_timer, hidden_arg;
static _Atomic bool changed_in_mark;

static void arms_on_1(void *unused)
{
    (void)unused;
    for (bool done = false; !done;) {
        get_to(1);
        tarn_timer *t = arm(INT64_C(3600000000000));
        atomic_fetch_sub(&armed, 1);
        done = atomic_load(&((struct timer *)(void *)t)->pp) == allp[1];
        if (!done)
            CHECK(tarn_timer_stop(t));
        atomic_store(&hidden_timer, hide(t));
        atomic_store(
            &hidden_arg,
            hide(((void **)(void *)t)[(sizeof(struct timer) + 16) / 8]));
    }
    wipe_stack();
    tarn_waitgroup_done(&wg);
}

static void change_in_mark(const char *name)
{
    if (strcmp(name, "gc: others may mark") != 0)
        return;
    CHECK_ST(tarn_set_procs(1), TARN_OK);
    atomic_store(&changed_in_mark, true);
}

static void test_timer_in_mark(void)
{
    for (int full = 0; full < 2; full++) {
        set_procs(2);
        tarn_waitgroup_add(&wg, 1);
        go(arms_on_1, NULL);
        tarn_waitgroup_wait(&wg);
        settled();
        atomic_store(&changed_in_mark, false);
        atomic_store(&gc_fault, GC_FAULT_TIMERS);
        gc_step_hook = change_in_mark;
        if (full)
            collect();
        else
            gc_collect_young();
        gc_step_hook = NULL;
        atomic_store(&gc_fault, GC_FAULT_NONE);
        CHECK(atomic_load(&changed_in_mark));
        CHECK(alive(atomic_load(&hidden_timer)));
        CHECK(alive(atomic_load(&hidden_arg)));
        tarn_timer *t = reveal(atomic_load(&hidden_timer));
        CHECK(atomic_load(&((struct timer *)(void *)t)->pp) == allp[0]);
        CHECK(tarn_timer_stop(t));
    }
}

static void in_mark(void)
{
    RUN(test_timer_in_mark);
}

static void body(void)
{
    uint32_t was = nprocs;
    RUN(test_errors);
    RUN(test_pairs);
    RUN(test_many);
    RUN(test_own_p);
    RUN(test_order);
    RUN(test_timers);
    RUN(test_timer_wakes);
    RUN(test_native_wired);
    set_procs(was);
    RUN(test_storm);
    RUN(test_in_mark);
}

/* --- from one tarn_main to the next ----------------------------------------------------- */

static void first(void *unused)
{
    (void)unused;
    CHECK_EQ(tarn_procs(), 2u);
    load_start();
    set_procs(7);
    atomic_store(&changing, 1);
    tarn_waitgroup_add(&wg, 1);
    go(changer, NULL);
    check_progress();
}

static void again(void *unused)
{
    (void)unused;
    CHECK_GE(tarn_procs(), 1u);
    check_all();
    check_progress();
}

static void last(void *unused)
{
    (void)unused;
    check_progress();
    while (atomic_load(&changing) != 0)
        tarn_sleep(1000000);
    load_end();
    set_procs(3);
}

static void afterwards(void *unused)
{
    (void)unused;
    CHECK_EQ(tarn_procs(), 3u);
}

static void restart_child(void)
{
    struct tarn_options o;
    alarm(SUITE_WATCHDOG_SECONDS);
    tarn_options_init(&o);
    o.maxprocs = 2;
    CHECK_ST(tarn_main(&o, first, NULL), TARN_OK);
    for (int i = 0; i < 5; i++)
        CHECK_ST(tarn_main(&o, again, NULL), TARN_OK);
    CHECK_ST(tarn_main(&o, last, NULL), TARN_OK);
    CHECK_EQ(tarn_procs(), 3u);
    CHECK_ST(tarn_main(&o, afterwards, NULL), TARN_OK);
    printf("all over\n");
    exit(0);
}

static void test_restart(void)
{
    static char out[65536];
    int st = harness_child(restart_child, NULL, out, sizeof out);
    CHECK_STR(out, "all over");
    if (st != 0)
        fprintf(stderr, "%s\n", out);
    CHECK(WIFEXITED(st) && WEXITSTATUS(st) == 0);
}

int main(int argc, char **argv)
{
    harness_init(argc, argv);
    RUN(test_restart);
    gc_run(in_mark, 2, "gcoff=1");
    gc_run(body, 1, "");
    gc_run(body, 4, "droppreempt=30");
    gc_run(body, 16, "gcpercent=10,heapmin=64KiB,delays=50");
    gc_run(body, 3, "checkmark=1,gcstress=64,droppreempt=30");
    return harness_done();
}
