/* tests/test_m_stack_scan.c - scans of stacks beside those who want their goroutines:
 * who stops the world, who holds one, who asks one to stop too late. */
#include "tests/gcsuite.h"

#include <alloca.h>

#include "stackscan/stackscan.h"

#define NI __attribute__((noinline))

static _Atomic bool stop;
static tarn_waitgroup wg;
static _Atomic int system_goroutines;

static void start_system(tarn_fn fn)
{
    atomic_fetch_add(&system_goroutines, 1);
    CHECK(newproc(fn, NULL, NULL, true) != NULL);
}

static void end_all(void)
{
    atomic_store(&stop, true);
    tarn_waitgroup_wait(&wg);
    while (atomic_load(&system_goroutines) != 0)
        tarn_yield();
}

static _Atomic uint64_t collections;

static void collector(void *unused)
{
    (void)unused;
    while (!atomic_load(&stop)) {
        collect();
        atomic_fetch_add(&collections, 1);
    }
    tarn_waitgroup_done(&wg);
}

/* --- deep stacks, scanned in shards ---------------------------------------------- */

enum { IN_CHANNEL, IN_NATIVE, IN_LOOP, DEEP };
#define DEEP_BYTES ((size_t)4 << 20)
#define FRAME ((size_t)4000)

static struct g *_Atomic deep[DEEP];
static _Atomic uint64_t turns[DEEP], stops, stops_with_held, suspensions;
static tarn_chan *request, *reply;

/* Until its goroutine is held; then until the world has been stopped: it must be
 * able to stop meanwhile, though the thread, which could help, is here. */
static void *native(void *vgp)
{
    struct g *gp = vgp;
    for (int i = 0; i < 10000 && !(readgstatus(gp) & Gscan); i++)
        procyield(1);
    uint64_t before = atomic_load(&stops);
    while (readgstatus(gp) & Gscan && atomic_load(&stops) == before &&
           !atomic_load(&stop))
        osyield();
    return vgp;
}

NI static void work(int kind)
{
    uint64_t *object = tarn_alloc_bytes(64);
    *object = 77;
    atomic_store(&deep[kind], getg());
    uint64_t v = 0;
    while (kind == IN_CHANNEL ? tarn_chan_recv(request, &v) == TARN_OK
                              : !atomic_load(&stop)) {
        if (kind == IN_CHANNEL)
            CHECK_ST(tarn_chan_send(reply, &v), TARN_OK);
        else
            tarn_native_call(native, getg());
        CHECK_EQ(*object, 77);
        atomic_fetch_add(&turns[kind], 1);
    }
    atomic_store(&deep[kind], NULL);
}

NI static void work_below(size_t depth, int kind)
{
    volatile char frame[FRAME];
    frame[0] = frame[FRAME - 1] = 5;
    if (depth > FRAME)
        work_below(depth - FRAME, kind);
    else
        work(kind);
    CHECK_EQ(frame[0] + frame[FRAME - 1], 10);
}

static void deep_goroutine(void *arg)
{
    work_below(DEEP_BYTES, (int)(uintptr_t)arg);
    tarn_waitgroup_done(&wg);
}

static void peer(void *unused)
{
    (void)unused;
    for (uint64_t i = 1; !atomic_load(&stop); i++) {
        uint64_t v = 0;
        CHECK_ST(tarn_chan_send(request, &i), TARN_OK);
        CHECK_ST(tarn_chan_recv(reply, &v), TARN_OK);
        CHECK_EQ(v, i);
    }
    tarn_chan_close(request);
    tarn_waitgroup_done(&wg);
}

NI static uint64_t calls(uint64_t v)
{
    volatile uint64_t local = v;
    return local + 1;
}

/* A short stack that scans itself where it is asked to, and waits for the shards of
 * its alloca block. */
NI static void loop_beside_block(void)
{
    /* Else clang makes it part of the frame. */
    volatile size_t size = (size_t)2 << 20;
    volatile char *block = alloca(size);
    block[0] = 1;
    CHECK(getg()->stackdata != NULL);
    atomic_store(&deep[IN_LOOP], getg());
    for (uint64_t v = 0; !atomic_load(&stop);) {
        v = calls(v);
        atomic_fetch_add(&turns[IN_LOOP], 1);
    }
    CHECK_EQ(block[0], 1);
    atomic_store(&deep[IN_LOOP], NULL);
}

static void looper(void *unused)
{
    (void)unused;
    loop_beside_block();
    tarn_waitgroup_done(&wg);
}

/* With the world stopped nobody scans: a shard that somebody has begun is finished
 * before his P stops, so a goroutine is held only if shards are left in the list. */
static void check_stopped(void)
{
    CHECK_EQ(atomic_load(&gc.nworking), 0);
    bool held = false;
    for (int i = 0; i < DEEP; i++) {
        struct g *gp = atomic_load(&deep[i]);
        uint32_t status = gp != NULL ? readgstatus(gp) : Gdead;
        /* In a native call threads without a P may hold it for a moment. */
        held |= (status & Gscan) && status != (Gsyscall | Gscan);
    }
    if (held) {
        CHECK(gc_shards_left());
        atomic_fetch_add(&stops_with_held, 1);
    }
}

static void stopper(void *unused)
{
    (void)unused;
    while (!atomic_load(&stop)) {
        CHECK_ST(tarn_world_stop(), TARN_OK);
        check_stopped();
        CHECK_ST(tarn_world_start(), TARN_OK);
        atomic_fetch_add(&stops, 1);
        tarn_yield();
    }
    tarn_waitgroup_done(&wg);
}

static void suspender(void *unused)
{
    (void)unused;
    for (int i = 0; !atomic_load(&stop); i++) {
        struct g *gp = atomic_load(&deep[i % DEEP]);
        struct m *mp = acquirem();
        if (gp != NULL) {
            struct suspendGState st = suspendG(gp);
            CHECK(st.dead || (readgstatus(gp) & Gscan));
            resumeG(st);
            atomic_fetch_add(&suspensions, 1);
        }
        releasem(mp);
        gosched();
    }
    atomic_fetch_sub(&system_goroutines, 1);
}

static bool all_at_least(uint64_t n)
{
    uint64_t least = atomic_load(&stops);
    const _Atomic uint64_t *counts[] = {&collections, &suspensions,
                                        &turns[IN_CHANNEL], &turns[IN_NATIVE],
                                        &turns[IN_LOOP]};
    for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
        uint64_t count = atomic_load(counts[i]);
        least = count < least ? count : least;
    }
    return least >= n;
}

/* Everybody gets on: nobody waits for ever for a goroutine that is held for its
 * shards, while those who scan them wait for his P. */
static void test_stops_beside_shards(void)
{
    if (options.stackmove)
        SKIP("a deep stack at every prologue");
    request = new_chan(8, 0);
    reply = new_chan(8, 0);
    atomic_store(&stop, false);
    atomic_store(&collections, 0);
    tarn_waitgroup_add(&wg, 6);
    go(deep_goroutine, (void *)IN_CHANNEL);
    go(deep_goroutine, (void *)IN_NATIVE);
    go(looper, NULL);
    go(peer, NULL);
    for (int i = 0; i < DEEP; i++)
        while (atomic_load(&deep[i]) == NULL)
            tarn_yield();
    go(collector, NULL);
    go(stopper, NULL);
    start_system(suspender);
    while (!all_at_least((uint64_t)scaled(40)))
        tarn_yield();
    end_all();
    printf("     %" PRIu64 " collections, %" PRIu64 " stops, %" PRIu64
           " of them with a goroutine held, %" PRIu64 " suspensions\n",
           atomic_load(&collections), atomic_load(&stops),
           atomic_load(&stops_with_held), atomic_load(&suspensions));
}

/* Stops of the world just when a goroutine in a native call is held, whose P cannot
 * be taken by who stops then: it was taken by who holds it. */
static void test_stop_beside_held_native_call(void)
{
    if (options.stackmove)
        SKIP("a deep stack at every prologue");
    atomic_store(&stop, false);
    atomic_store(&stops, 0);
    atomic_store(&stops_with_held, 0);
    tarn_waitgroup_add(&wg, 2);
    go(deep_goroutine, (void *)IN_NATIVE);
    struct g *gp;
    while ((gp = atomic_load(&deep[IN_NATIVE])) == NULL)
        tarn_yield();
    go(collector, NULL);
    /* It may be rare that it is met. */
    while (atomic_load(&stops_with_held) < (uint64_t)scaled(20) &&
           atomic_load(&stops) < (uint64_t)scaled(3000)) {
        for (int i = 0; i < 1000 && !(readgstatus(gp) == (Gsyscall | Gscan) &&
                                      gc_shards_left());
             i++)
            procyield(10);
        bool held = readgstatus(gp) == (Gsyscall | Gscan) && gc_shards_left();
        CHECK_ST(tarn_world_stop(), TARN_OK);
        CHECK_EQ(atomic_load(&gc.nworking), 0);
        CHECK_ST(tarn_world_start(), TARN_OK);
        atomic_fetch_add(&stops, 1);
        atomic_fetch_add(&stops_with_held, held);
        tarn_yield();
    }
    end_all();
}

/* --- requests that come late ------------------------------------------------------ */

/* One goroutine runs all the time, and each time it is asked to stop it comes to
 * sched_hooks.stopping, which here is ours. Where it has scanned itself for the mark
 * that asked, it is held until somebody else has asked as well: between its scan and
 * its going on, which takes requests back. */
static struct g *_Atomic subject;
static _Atomic uint64_t progress, stoppings, met;
static enum stopping (*product_stopping)(struct g *gp);

/* The other one waits in a loop on a P that it does not give up, so that neither
 * waits for ever for the other to run. */
enum { NOBODY, ARMED, ENGAGED };
static _Atomic int rendezvous;
static _Atomic bool in_marks; /* there are some: they meet */

static enum stopping meet(struct g *gp)
{
    if (gp != atomic_load(&subject))
        return product_stopping(gp);
    uint32_t epoch = atomic_load(&gp->scancycle);
    bool awaited = atomic_load(&gp->suspenders) != 0;
    enum stopping s = product_stopping(gp);
    /* Who waits for it gets it, and for nobody else does it stop. While it is here
     * nobody gets it, so whoever waits still does. */
    CHECK(!awaited || s == STOPPING_PARK);
    CHECK(s != STOPPING_PARK || atomic_load(&gp->suspenders) != 0);
    atomic_fetch_add(&stoppings, 1);
    if (s != STOPPING_DONE || atomic_load(&gp->scancycle) == epoch)
        return s;
    int armed = ARMED;
    if (atomic_compare_exchange_strong(&rendezvous, &armed, ENGAGED)) {
        atomic_store(&gp->preemptStop, false);
        while (!atomic_load(&gp->preemptStop))
            osyield();
        atomic_fetch_add(&met, 1);
        atomic_store(&rendezvous, NOBODY);
    }
    return s;
}

/* By a system goroutine, on its P, until others want that. True: the subject is in
 * meet. */
static bool engage(void)
{
    struct p *pp = getg()->m->p;
    atomic_store(&rendezvous, ARMED);
    while (atomic_load(&rendezvous) == ARMED && !atomic_load(&stop) &&
           !atomic_load(&sched.gcwaiting) &&
           !atomic_load(&pp->runSafePointFn) && runqempty(pp))
        osyield();
    int armed = ARMED;
    return !atomic_compare_exchange_strong(&rendezvous, &armed, NOBODY);
}

/* As a mark does that asks once and then finds out that it need not: nobody will
 * come back to a goroutine that stops for that. */
static void ask_and_leave(struct g *gp)
{
    struct suspend_request rq = SUSPEND_REQUEST_INIT;
    struct suspendGState st;
    CHECK_NE(readgstatus(gp), Gpreempted);
    if (suspendG_try(gp, &rq, &st)) {
        CHECK(!st.stopped);
        resumeG(st);
    }
}

static void asks_and_leaves(void *unused)
{
    (void)unused;
    struct g *gp = atomic_load(&subject);
    while (!atomic_load(&stop)) {
        struct m *mp = acquirem();
        if (atomic_load(&in_marks) && engage()) {
            while (atomic_load(&rendezvous) == ENGAGED)
                ask_and_leave(gp);
        }
        for (int i = 0; i < 4; i++)
            ask_and_leave(gp);
        releasem(mp);
        gosched();
    }
    atomic_fetch_sub(&system_goroutines, 1);
}

static void suspends(void *unused)
{
    (void)unused;
    struct g *gp = atomic_load(&subject);
    while (!atomic_load(&stop)) {
        struct m *mp = acquirem();
        if (engage()) {
            struct suspendGState st = suspendG(gp);
            CHECK(!st.dead);
            CHECK(readgstatus(gp) & Gscan);
            uint64_t before = atomic_load(&progress);
            for (int i = 0; i < 1000; i++)
                procyield(1);
            CHECK_EQ(atomic_load(&progress), before);
            resumeG(st);
            atomic_fetch_add(&suspensions, 1);
        }
        releasem(mp);
        gosched();
    }
    atomic_fetch_sub(&system_goroutines, 1);
}

static void runs_on(void *unused)
{
    (void)unused;
    atomic_store(&subject, getg());
    while (!atomic_load(&stop))
        atomic_fetch_add(&progress, calls(0));
    /* Nobody may look for it where it has ended. */
    while (atomic_load(&system_goroutines) != 0)
        tarn_yield();
    tarn_waitgroup_done(&wg);
}

static void start_subject(void)
{
    atomic_store(&stop, false);
    atomic_store(&subject, NULL);
    atomic_store(&rendezvous, NOBODY);
    atomic_store(&stoppings, 0);
    atomic_store(&met, 0);
    product_stopping = sched_hooks.stopping;
    sched_hooks.stopping = meet;
    tarn_waitgroup_add(&wg, 1);
    go(runs_on, NULL);
    while (atomic_load(&subject) == NULL)
        tarn_yield();
}

static void end_subject(void)
{
    /* It goes on after the last of all requests. */
    uint64_t before = atomic_load(&progress);
    while (atomic_load(&progress) == before)
        tarn_yield();
    end_all();
    sched_hooks.stopping = product_stopping;
    printf("     stopped %" PRIu64 " times, met %" PRIu64 " times\n",
           atomic_load(&stoppings), atomic_load(&met));
}

/* No mark is under way, and nobody waits for the goroutine. */
static void test_request_without_mark(void)
{
    atomic_store(&in_marks, false);
    start_subject();
    start_system(asks_and_leaves);
    while (atomic_load(&stoppings) < (uint64_t)scaled(200))
        tarn_yield();
    end_subject();
}

static void meet_in_marks(tarn_fn who, int n)
{
    atomic_store(&in_marks, true);
    start_subject();
    start_system(who);
    tarn_waitgroup_add(&wg, 1);
    go(collector, NULL);
    while (atomic_load(&met) < (uint64_t)n)
        tarn_yield();
    end_subject();
}

/* A request meant for a scan that the goroutine has just done itself. */
static void test_request_after_self_scan(void)
{
    meet_in_marks(asks_and_leaves, scaled(12));
}

/* Somebody else wants it then: though its going on takes back what was asked, he
 * gets it. */
static void test_suspend_after_self_scan(void)
{
    uint64_t before = atomic_load(&suspensions);
    meet_in_marks(suspends, scaled(12));
    CHECK_GE(atomic_load(&suspensions) - before, (uint64_t)scaled(12));
}

static void late_body(void)
{
    RUN(test_request_without_mark);
    RUN(test_request_after_self_scan);
    RUN(test_suspend_after_self_scan);
}

static void shards_body(void)
{
    RUN(test_stops_beside_shards);
    if (nprocs >= 3)
        RUN(test_stop_beside_held_native_call);
}

int main(int argc, char **argv)
{
    harness_init(argc, argv);
#ifdef TARN_NO_SPLIT_STACK
    printf("no copying stacks in this build\n");
    return harness_done();
#endif
    gc_run(shards_body, 1, "");
    gc_run(shards_body, 2, "");
    gc_run(shards_body, 4, "");
    gc_run(shards_body, 3, "delays=50,droppreempt=30");
    gc_run(late_body, 3, "");
    gc_run(late_body, 4, "asyncpreempt=0");
    gc_run(late_body, 4, "delays=50,droppreempt=30");
    return harness_done();
}
