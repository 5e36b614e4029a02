/* tests/test_native.c - native calls: the way in, the way out, what is alive
 * meanwhile, who takes the P, and storms of all of it. Callbacks, attached and
 * locked threads: test_threads.c. */
#include "nativesuite.h"

static tarn_waitgroup wg;
static struct event gate, gate2;

static void *plus_one(void *p)
{
    return (char *)p + 1;
}

static void *no_op(void *p)
{
    return p;
}

/* --- in and out ------------------------------------------------------------------ */

static _Atomic bool stop;
static _Atomic uint64_t progress;

static void yielder(void *unused)
{
    (void)unused;
    while (!atomic_load(&stop)) {
        atomic_fetch_add(&progress, 1);
        tarn_yield();
    }
    tarn_waitgroup_done(&wg);
}

static uintptr_t guard_slot(void)
{
    uintptr_t v;
    __asm__ volatile("movq %%fs:0x70, %0" : "=r"(v));
    return v;
}

static void test_entersyscall(void)
{
    static char bytes[1000];
    for (int i = 0; i < 100000; i++) {
        char *p = bytes + i % 999;
        CHECK(tarn_native_call(plus_one, p) == p + 1);
    }
    struct g *gp = getg();
    for (int i = 0; i < 100000; i++) {
        tarn_native_enter();
        tarn_native_leave();
    }
    CHECK(getg() == gp);
    CHECK(!tarn_in_native());
    /* Inside: the status is published, stack checks are armed, no goroutine is
     * current. */
    tarn_native_enter();
    bool in = tarn_in_native() && getg() == gp->m->g0 && gp->throwsplit;
    uint32_t status = readgstatus(gp);
    uintptr_t guard = guard_slot(), sp = gp->syscallsp;
    tarn_native_leave();
    CHECK(in);
    CHECK_EQ(status & ~(uint32_t)Gscan, (uint32_t)Gsyscall);
    CHECK_EQ(guard, STACK_PREEMPT);
    CHECK(sp > gp->stack.lo && sp < gp->stack.hi);
    /* And all of it is undone. */
    CHECK_EQ(readgstatus(gp), (uint32_t)Grunning);
    CHECK_EQ(gp->syscallsp, 0);
    CHECK(!gp->throwsplit && gp->native_arg == NULL);
    check_mine();
}

/* A request that waits is honoured on the way out, and the guard is as it was
 * otherwise. One P: the other goroutine runs only if this one gives way. */
static _Atomic int other_ran;

static void other(void *unused)
{
    (void)unused;
    atomic_fetch_add(&other_ran, 1);
    tarn_waitgroup_done(&wg);
}

/* As preemptone does it for a goroutine that runs. */
static void *ask_to_stop(void *vg)
{
    struct g *gp = vg;
    atomic_store(&gp->preempt, true);
    atomic_store(&gp->stackguard0, STACK_PREEMPT);
    return NULL;
}

static bool guard_is_right(void)
{
    STAY();
    struct g *gp = getg();
    uintptr_t v = guard_slot();
    bool right = v == gp->stackguard1 ||
                 (v == STACK_PREEMPT && atomic_load(&gp->preempt));
    GO_ON();
    return right;
}

static void test_exitsyscall(void)
{
    for (int i = 0; i < 1000; i++) {
        tarn_native_call(no_op, NULL);
        CHECK(guard_is_right());
        tarn_native_enter();
        tarn_native_leave();
        CHECK(guard_is_right());
    }
    if (nprocs != 1)
        return;
    int gave_way = 0;
    for (int i = 0; i < 200; i++) {
        atomic_store(&other_ran, 0);
        tarn_waitgroup_add(&wg, 1);
        go(other, NULL);
        if (i % 2) {
            tarn_native_call(ask_to_stop, getg());
        } else {
            ask_to_stop(getg());
            tarn_native_enter();
            tarn_native_leave();
        }
        gave_way += atomic_load(&other_ran);
        tarn_waitgroup_wait(&wg);
    }
    /* Every 61st turn belongs to the global queue, where it went itself. */
    CHECK_GE(gave_way, 190);
}

/* Nobody wants it: the P stays. */
static void check_local_cache(void)
{
    struct m *mp = acquirem();
    CHECK(local_cache() == mp->p->mcache.fast);
    releasem(mp);
}

/* What a call takes from the thread it gives back. */
static char fast_bytes[2];
static void test_local_cache(void)
{
    for (int i = 0; i < 100; i++) {
        tarn_native_enter();
        CHECK(local_cache() == NULL);
        tarn_native_leave();
        check_local_cache();
        tarn_native_call(plus_one, fast_bytes);
        check_local_cache();
    }
}

static void test_exitsyscallfast(void)
{
    int same = 0;
    for (int i = 0; i < 1000; i++) {
        struct p *pp = getg()->m->p;
        uint32_t tick = atomic_load(&pp->syscalltick);
        tarn_native_call(no_op, NULL);
        same += getg()->m->p == pp && atomic_load(&pp->syscalltick) == tick + 1;
    }
    CHECK_GT(same, 900);
}

/* --- the way out without a P -------------------------------------------------------- */

/* There are idle ones, the old one among them as a rule. */
static void test_exitsyscallfast_pidle(void)
{
    uint64_t before = 0, same = 0;
    for (int i = 0; i < scaled(100); i++) {
        struct p *pp = getg()->m->p;
        before = atomic_load(&pp->syscalltick);
        tarn_nanosleep(100000); /* hands it on */
        same += getg()->m->p == pp;
        check_mine();
    }
    (void)before;
    if (nprocs == 1)
        CHECK_EQ((int)same, scaled(100));
    /* The monitor slept deep, all Ps being idle: somebody who takes one wakes
     * it. */
    for (int i = 0; i < 3; i++) {
        tarn_native_call(wait_for, (event_set(&gate), &gate));
        tarn_nanosleep(1000000);
        CHECK(!atomic_load(&sched.sysmonwait));
    }
}

static void *until_deep_sleep(void *unused)
{
    while (!atomic_load(&sched.sysmonwait))
        usleep_os(1000);
    return unused;
}

static void test_exitsyscall_wakes_sysmon(void)
{
    for (int i = 0; i < 3; i++) {
        tarn_native_call(until_deep_sleep, NULL);
        /* It is we who run: it must watch again. */
        CHECK(!atomic_load(&sched.sysmonwait));
    }
}

static struct g *_Atomic waiter_g;

static void native_waiter(void *unused)
{
    (void)unused;
    atomic_store(&waiter_g, getg());
    tarn_native_call(wait_for, &gate);
    event_set(&gate2);
    tarn_waitgroup_done(&wg);
}

/* One P, and it is busy: back from its call the goroutine queues up. */
static void test_exitsyscall0(void)
{
    if (nprocs != 1)
        return;
    for (int i = 0; i < scaled(200); i++) {
        event_clear(&gate);
        event_clear(&gate2);
        atomic_store(&waiter_g, NULL);
        tarn_waitgroup_add(&wg, 1);
        go(native_waiter, NULL);
        /* We have its P again. */
        YIELD_UNTIL(atomic_load(&waiter_g) != NULL &&
                    readgstatus(atomic_load(&waiter_g)) == Gsyscall);
        struct g *gp = atomic_load(&waiter_g);
        /* Nobody else runs until this is over. */
        STAY();
        event_set(&gate);
        while ((readgstatus(gp) & ~(uint32_t)Gscan) != Grunnable)
            procyield(10);
        bool early = event_is_set(&gate2);
        uintptr_t sp = gp->syscallsp;
        GO_ON();
        CHECK(!early);
        CHECK_EQ(sp, 0);
        YIELD_UNTIL(event_is_set(&gate2));
        tarn_waitgroup_wait(&wg);
    }
}

/* --- the thief ------------------------------------------------------------------------ */

/* Native code of the second waits for what the first does as a goroutine, with
 * the only P wired to the second. */
static void *open_and_wait(void *unused)
{
    event_set(&gate);
    event_wait_native(&gate2);
    return unused;
}

static void test_setBlockOnExitSyscall(void)
{
    if (nprocs != 1)
        return;
    uint64_t before = atomic_load(&sched.exit_retaken);
    /* As a rule it takes the P itself; now and then the monitor is first, on a busy
     * machine many times in a row. */
    for (int i = 0;
         i < scaled(100) || atomic_load(&sched.exit_retaken) == before; i++) {
        event_clear(&gate);
        event_clear(&gate2);
        atomic_store(&waiter_g, NULL);
        tarn_waitgroup_add(&wg, 1);
        go(native_waiter, NULL);
        YIELD_UNTIL(atomic_load(&waiter_g) != NULL &&
                    readgstatus(atomic_load(&waiter_g)) == Gsyscall);
        tarn_native_call(open_and_wait, NULL);
        tarn_waitgroup_wait(&wg);
    }
}

#define CALLERS 8
static struct {
    _Atomic uint64_t out; /* calls that it has come out of */
    struct g *_Atomic g;
} callers[CALLERS];
static _Atomic uint64_t thefts, refusals;

static void quick_caller(void *vi)
{
    uintptr_t i = (uintptr_t)vi;
    uint64_t rng = seed_of(i);
    atomic_store(&callers[i].g, getg());
    while (!atomic_load(&stop)) {
        if (below(&rng, 2))
            tarn_native_call(spin_native, (void *)(uintptr_t)below(&rng, 3000));
        else {
            tarn_native_enter();
            tarn_native_leave();
        }
        atomic_fetch_add(&callers[i].out, 1);
        check_mine();
    }
    tarn_waitgroup_done(&wg);
}

/* A thread that takes every P it can, as the monitor would. */
static void *thief(void *unused)
{
    uint64_t rng = seed_of(77);
    while (!atomic_load(&stop)) {
        struct p *pp = allp[below(&rng, nprocs)];
        incidlelocked(-1);
        struct m *mp = setBlockOnExitSyscall(pp);
        if (mp == NULL) {
            atomic_fetch_add(&refusals, 1);
        } else {
            /* While it is held it does not come out, and keeps what it has. */
            struct g *gp = atomic_load(&mp->curg);
            int who = -1;
            for (int i = 0; i < CALLERS; i++)
                if (atomic_load(&callers[i].g) == gp)
                    who = i;
            uint64_t out = who < 0 ? 0 : atomic_load(&callers[who].out);
            CHECK_EQ(readgstatus(gp), (uint32_t)(Gsyscall | Gscan));
            CHECK(atomic_load(&mp->p) == pp && atomic_load(&pp->m) == mp);
            spin_ns(below(&rng, 8) ? 200 : 20000);
            CHECK(atomic_load(&mp->p) == pp && atomic_load(&mp->curg) == gp);
            uint32_t tick = atomic_load(&pp->syscalltick);
            takeP(pp, mp);
            CHECK_EQ(atomic_load(&pp->status), (uint32_t)Pidle);
            CHECK(atomic_load(&pp->m) == NULL && atomic_load(&mp->p) == NULL);
            CHECK_EQ(atomic_load(&pp->syscalltick), tick + 1);
            /* The call may be over, the goroutine is not: only a return is
             * counted, which is behind the bit. */
            if (who >= 0)
                CHECK_EQ(atomic_load(&callers[who].out), out);
            resume_syscall(mp);
            if (below(&rng, 4) == 0)
                spin_ns(5000); /* the P is nobody's */
            handoffp(pp);
            atomic_fetch_add(&thefts, 1);
        }
        incidlelocked(1);
        CHECK_EQ(ps_known(), nprocs);
    }
    return unused;
}

static void test_takeP(void)
{
    pthread_t t[2];
    atomic_store(&stop, false);
    atomic_store(&thefts, 0);
    tarn_waitgroup_add(&wg, CALLERS);
    for (uintptr_t i = 0; i < CALLERS; i++)
        go(quick_caller, (void *)i);
    for (int i = 0; i < 2; i++)
        start_thread(&t[i], thief, NULL);
    for (int i = 0; i < scaled(40); i++) {
        uint64_t n = atomic_load(&thefts);
        YIELD_UNTIL(atomic_load(&thefts) >= n + 5);
        if (i % 2)
            collect();
        else
            check_wiring();
    }
    for (int i = 0; i < CALLERS; i++)
        YIELD_UNTIL(atomic_load(&callers[i].out) > 0);
    atomic_store(&stop, true);
    for (int i = 0; i < 2; i++)
        tarn_native_call(join_thread, &t[i]);
    tarn_waitgroup_wait(&wg);
    for (int i = 0; i < CALLERS; i++) {
        atomic_store(&callers[i].out, 0);
        atomic_store(&callers[i].g, NULL);
    }
    check_wiring();
}

/* --- what is alive meanwhile --------------------------------------------------------- */

/* uint64_t hold_in_REG(hidden, key, fn, leave_with): the object's address is in
 * that register alone while fn runs, which must not call code that checks its
 * stack. Returns it hidden again. The other form calls tarn_native_call(fn). */
#define HOLD_IN(reg)                                                           \
    uint64_t hold_in_##reg(uint64_t hidden, uint64_t key, void (*fn)(void));   \
    uint64_t hold_over_##reg(uint64_t hidden, uint64_t key,                    \
                             void *(*fn)(void *));                             \
    __asm__(".text\n.globl hold_in_" #reg "\nhold_in_" #reg ":\n"              \
            "pushq %rbx; pushq %rbp; pushq %r12\n"                             \
            "pushq %r13; pushq %r14; pushq %r15\n"                             \
            "subq $24, %rsp\n"                                                 \
            "movq %rdx, (%rsp)\nmovq %rsi, 8(%rsp)\n"                          \
            "xorl %ebx, %ebx; xorl %ebp, %ebp; xorl %r12d, %r12d\n"            \
            "xorl %r13d, %r13d; xorl %r14d, %r14d; xorl %r15d, %r15d\n"        \
            "movq %rdi, %" #reg "\nxorq %rsi, %" #reg "\n"                     \
            "xorl %edi, %edi\n"                                                \
            "call tarn_native_enter\n"                                         \
            "call *(%rsp)\n"                                                   \
            "call tarn_native_leave\n"                                         \
            "movq %" #reg ", %rax\nxorq 8(%rsp), %rax\n"                       \
            "addq $24, %rsp\n"                                                 \
            "popq %r15; popq %r14; popq %r13\n"                                \
            "popq %r12; popq %rbp; popq %rbx\nret\n"                           \
            ".globl hold_over_" #reg "\nhold_over_" #reg ":\n"                 \
            "pushq %rbx; pushq %rbp; pushq %r12\n"                             \
            "pushq %r13; pushq %r14; pushq %r15\n"                             \
            "subq $24, %rsp\n"                                                 \
            "movq %rdx, (%rsp)\nmovq %rsi, 8(%rsp)\n"                          \
            "xorl %ebx, %ebx; xorl %ebp, %ebp; xorl %r12d, %r12d\n"            \
            "xorl %r13d, %r13d; xorl %r14d, %r14d; xorl %r15d, %r15d\n"        \
            "movq %rdi, %" #reg "\nxorq %rsi, %" #reg "\n"                     \
            "movq (%rsp), %rdi\nxorl %esi, %esi\n"                             \
            "call tarn_native_call\n"                                          \
            "movq %" #reg ", %rax\nxorq 8(%rsp), %rax\n"                       \
            "addq $24, %rsp\n"                                                 \
            "popq %r15; popq %r14; popq %r13\n"                                \
            "popq %r12; popq %rbp; popq %rbx\nret\n");
HOLD_IN(rbx)
HOLD_IN(rbp)
HOLD_IN(r12)
HOLD_IN(r13)
HOLD_IN(r14)
HOLD_IN(r15)

static const struct {
    uint64_t (*in)(uint64_t, uint64_t, void (*)(void));
    uint64_t (*over)(uint64_t, uint64_t, void *(*)(void *));
} hold[6] = {
    {hold_in_rbx, hold_over_rbx}, {hold_in_rbp, hold_over_rbp},
    {hold_in_r12, hold_over_r12}, {hold_in_r13, hold_over_r13},
    {hold_in_r14, hold_over_r14}, {hold_in_r15, hold_over_r15},
};

#define MAGIC UINT64_C(0x1122334455667788)
static struct event inside;

NATIVE static void say_and_wait(void)
{
    event_set(&inside);
    event_wait_native(&gate);
}

static void *say_and_wait_over(void *p)
{
    say_and_wait();
    return p;
}

__attribute__((noinline)) static uint64_t hidden_new(void)
{
    uint64_t *p = tarn_alloc_bytes(64);
    CHECK(p != NULL);
    *p = MAGIC;
    return hide(p);
}

static int survived, wanted;

/* Which register, and how. */
static void holder(void *vkind)
{
    uintptr_t kind = (uintptr_t)vkind;
    uint64_t hidden = hidden_new();
    wipe_stack();
    if (kind < 6) {
        hidden = hold[kind].in(hidden, HIDE_KEY, say_and_wait);
    } else if (kind < 12) {
        hidden = hold[kind - 6].over(hidden, HIDE_KEY, say_and_wait_over);
    } else if (kind == 12) { /* in a frame above syscallsp */
        void *volatile local = reveal(hidden);
        tarn_native_enter();
        say_and_wait();
        tarn_native_leave();
        hidden = hide(local);
        local = NULL;
    } else if (kind == 13) { /* the argument, then the result */
        hidden = hide(tarn_native_call(say_and_wait_over, reveal(hidden)));
    } else { /* nowhere: nor as what an optimizer computes early */
        __asm__ volatile("" : "+r"(hidden));
        tarn_native_enter();
        say_and_wait();
        tarn_native_leave();
        __asm__ volatile("" : "+r"(hidden));
    }
    if (alive(hidden) && *(uint64_t *)reveal(hidden) == MAGIC)
        survived++;
    tarn_waitgroup_done(&wg);
}

#define HOLDERS 15

static void test_save(void)
{
    int found = 0, lost = 0;
    for (uintptr_t kind = 0; kind < HOLDERS; kind++) {
        for (int i = 0; i < scaled(8); i++) {
            event_clear(&gate);
            event_clear(&inside);
            survived = 0;
            tarn_waitgroup_add(&wg, 1);
            go(holder, (void *)kind);
            event_wait(&inside);
            collect();
            collect();
            /* What is not held is handed out again, and overwritten. */
            for (int k = 0; k < 200; k++) {
                char *p = tarn_alloc_bytes(64);
                memset(p, 0x33, 64);
            }
            event_set(&gate);
            tarn_waitgroup_wait(&wg);
            if (kind < HOLDERS - 1)
                CHECK_EQ(survived, 1);
            else
                lost += !survived;
            found += survived;
            wanted++;
        }
    }
    /* The test can fail. AddressSanitizer's code leaves copies of locals about. */
    CHECK(lost > 0 || TARN_ASAN);
    CHECK_GT(found, 0);
}

/* The argument of a call in whose callback another call is made. */
static void inner(void *unused)
{
    (void)unused;
    void *mine = tarn_alloc_bytes(64);
    tarn_native_call(no_op, mine);
    wipe_stack();
    collect();
    collect();
    for (int k = 0; k < 200; k++)
        memset(tarn_alloc_bytes(64), 0x33, 64);
}

static uint64_t arg_hidden;

static void *calls_inner(void *arg)
{
    arg_hidden = hide(arg);
    arg = NULL;
    CHECK_ST(tarn_callback(inner, NULL), TARN_OK);
    return reveal(arg_hidden);
}

static void test_argument_lives(void)
{
    for (int i = 0; i < scaled(20); i++) {
        uint64_t hidden = hidden_new();
        wipe_stack();
        uint64_t *back = tarn_native_call(calls_inner, reveal(hidden));
        CHECK_EQ(*back, MAGIC);
        CHECK(alive(hidden));
    }
}

/* --- storms ------------------------------------------------------------------------------ */

static _Atomic int started, ended;

/* Busy or asleep. */
static void *take_time(void *vns)
{
    uintptr_t ns = (uintptr_t)vns;
    if (ns < 20000)
        spin_ns((int64_t)ns);
    else
        usleep_os((uint32_t)(ns / 1000));
    return NULL;
}

static void storm_caller(void *vns)
{
    atomic_fetch_add(&started, 1);
    volatile uint64_t *keep = tarn_alloc_bytes(64);
    *keep = (uintptr_t)vns;
    while (!atomic_load(&stop)) {
        tarn_native_call(take_time, vns);
        atomic_fetch_add(&progress, 1);
    }
    CHECK_EQ(*keep, (uintptr_t)vns);
    atomic_fetch_add(&ended, 1);
    tarn_waitgroup_done(&wg);
}

/* Goroutines that are nearly always in calls of 10, 100, 1000 us: all start, run
 * and stop, and no P is lost. */
static void test_storm_with_thief(void)
{
    static const uintptr_t us[] = {10, 100, 1000};
    pthread_t t;
    for (int round = 0; round < scaled(12); round++) {
        atomic_store(&stop, false);
        atomic_store(&started, 0);
        atomic_store(&ended, 0);
        atomic_store(&progress, 0);
        tarn_waitgroup_add(&wg, 8);
        for (int i = 0; i < 8; i++)
            go(storm_caller, (void *)(us[round % 3] * 1000));
        start_thread(&t, thief, NULL);
        YIELD_UNTIL(atomic_load(&started) == 8 && atomic_load(&progress) >= 24);
        check_wiring();
        atomic_store(&stop, true);
        tarn_native_call(join_thread, &t);
        tarn_waitgroup_wait(&wg);
        CHECK_EQ(atomic_load(&ended), 8);
    }
    check_wiring();
}

/* n callers and two yielders, beside which fn() is done again and again. */
static void beside_storm(void (*fn)(void), int times)
{
    static const uintptr_t ns[] = {500, 5000, 50000, 20000, 2000, 100000};
    atomic_store(&stop, false);
    atomic_store(&started, 0);
    tarn_waitgroup_add(&wg, 8);
    for (int i = 0; i < 6; i++)
        go(storm_caller, (void *)ns[i]);
    for (int i = 0; i < 2; i++)
        go(yielder, NULL);
    YIELD_UNTIL(atomic_load(&started) == 6);
    uint64_t before = atomic_load(&progress);
    /* Until the others have got on too, for which the system must run them. */
    for (int i = 0; i < times || atomic_load(&progress) == before; i++) {
        fn();
        if (i % 8 == 0)
            tarn_yield();
    }
    atomic_store(&stop, true);
    tarn_waitgroup_wait(&wg);
    check_wiring();
}

static void stop_and_start(void)
{
    stopTheWorld();
    uint64_t p = atomic_load(&progress);
    spin_ns(20000);
    /* Native code runs on; no goroutine comes out of it. */
    CHECK_EQ(atomic_load(&progress), p);
    for (uint32_t i = 0; i < nprocs; i++)
        CHECK_EQ(atomic_load(&allp[i]->status), (uint32_t)Pgcstop);
    startTheWorld();
}

static _Atomic uint32_t visits[1024];

static void visit(struct p *pp)
{
    CHECK_EQ(atomic_fetch_add(&visits[pp->id], 1), 0);
}

static void visit_on_g0(void *vgp)
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
    systemstack(visit_on_g0, getg());
    for (uint32_t i = 0; i < nprocs; i++)
        CHECK_EQ(atomic_load(&visits[i]), 1);
    worldsema_release();
}

static void test_gc_beside_storm(void)
{
    beside_storm(collect, nprocs == 3 ? scaled(1000) : scaled(100));
}

static void test_stw_beside_storm(void)
{
    beside_storm(stop_and_start, nprocs == 1 ? scaled(100) : scaled(500));
}

static void test_forEachP_beside_storm(void)
{
    beside_storm(visit_all, nprocs == 1 ? scaled(100) : scaled(1000));
}

static void blocked_native(void *unused)
{
    (void)unused;
    atomic_fetch_add(&started, 1);
    tarn_native_call(wait_for, &gate);
    tarn_waitgroup_done(&wg);
}

/* Every other P is in a call that does not end before the barrier does. */
static void test_forEachP_in_native(void)
{
    for (int i = 0; i < scaled(50); i++) {
        event_clear(&gate);
        atomic_store(&started, 0);
        tarn_waitgroup_add(&wg, (int)nprocs);
        for (uint32_t k = 0; k < nprocs; k++)
            go(blocked_native, NULL);
        YIELD_UNTIL(atomic_load(&started) == (int)nprocs);
        visit_all();
        stop_and_start();
        collect();
        event_set(&gate);
        tarn_waitgroup_wait(&wg);
    }
}

static void body(void)
{
    RUN(test_entersyscall);
    RUN(test_exitsyscall);
    RUN(test_local_cache);
    RUN(test_exitsyscallfast);
    RUN(test_exitsyscallfast_pidle);
    RUN(test_exitsyscall_wakes_sysmon);
    RUN(test_exitsyscall0);
    RUN(test_setBlockOnExitSyscall);
    RUN(test_takeP);
    RUN(test_save);
    RUN(test_argument_lives);
    RUN(test_storm_with_thief);
    RUN(test_gc_beside_storm);
    RUN(test_stw_beside_storm);
    RUN(test_forEachP_beside_storm);
    RUN(test_forEachP_in_native);
}

static void body_of_races(void)
{
    RUN(test_exitsyscall0);
    RUN(test_setBlockOnExitSyscall);
    RUN(test_takeP);
    RUN(test_save);
    RUN(test_argument_lives);
    RUN(test_storm_with_thief);
    RUN(test_gc_beside_storm);
    RUN(test_stw_beside_storm);
    RUN(test_forEachP_beside_storm);
    RUN(test_forEachP_in_native);
}

int main(int argc, char **argv)
{
    harness_init(argc, argv);
    gc_run(body, 1, "");
    gc_run(body, 2, "");
    gc_run(body, 3, "");
    gc_run(body_of_races, 3, "checkmark=1");
    gc_run(body_of_races, 1, "delays=200,droppreempt=30");
    gc_run(body_of_races, 3, "delays=200,droppreempt=30");
    gc_run(body_of_races, 16, "checkmark=1,gcstress=64,droppreempt=30");
    return harness_done();
}
