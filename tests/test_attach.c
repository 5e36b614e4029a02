/* tests/test_attach.c - threads and goroutines that are bound to each other come and
 * go: beside a collector that reads their stacks, at the limit of threads, and
 * from one tarn_main to the next. */
#include "nativesuite.h"

/* --- what a thread's registers hold when it attaches --------------------------------- */

/* Attaches with base + 1 to base + 5 in registers that functions keep for their
 * callers, and nowhere else; base comes inverted. */
tarn_status attach_holding(uint64_t inverted)
    __attribute__((visibility("hidden")));
__asm__(".text\n"
        ".type attach_holding, @function\n"
        "attach_holding:\n"
        "    pushq %rbx\n"
        "    pushq %r12\n"
        "    pushq %r13\n"
        "    pushq %r14\n"
        "    pushq %r15\n"
        "    notq %rdi\n"
        "    leaq 1(%rdi), %rbx\n"
        "    leaq 2(%rdi), %r12\n"
        "    leaq 3(%rdi), %r13\n"
        "    leaq 4(%rdi), %r14\n"
        "    leaq 5(%rdi), %r15\n"
        "    xorl %edi, %edi\n"
        "    call *tarn_thread_attach@GOTPCREL(%rip)\n"
        "    popq %r15\n"
        "    popq %r14\n"
        "    popq %r13\n"
        "    popq %r12\n"
        "    popq %rbx\n"
        "    ret\n"
        ".size attach_holding, . - attach_holding\n");

#define HELD UINT64_C(0x1234567800000000)
static _Atomic bool came, enough;

static void *comes(void *unused)
{
    while (!atomic_load(&enough)) {
        CHECK_ST(attach_holding(~HELD), TARN_OK);
        CHECK_ST(tarn_thread_detach(), TARN_OK);
        atomic_store(&came, true);
    }
    return unused;
}

NO_SANITIZE static void find_held(uintptr_t lo, uintptr_t hi, void *vfound)
{
    uint32_t *found = vfound;
    for (; lo + 8 <= hi; lo += 8) {
        uint64_t v = *(const uint64_t *)lo - HELD;
        if (v >= 1 && v <= 5)
            *found |= 1u << v;
    }
}

/* Holds the thread where its stack may be scanned and it has no P yet; true: got
 * it, and all that its registers hold is in what would be scanned. */
static bool scan_comer(void)
{
    for (size_t i = 0; i < atomic_load(&allglen); i++) {
        struct g *gp = allg_at(i);
        if (!gp->foreign || readgstatus(gp) != Gsyscall ||
            !castogscanstatus(gp, Gsyscall, Gsyscall | Gscan))
            continue;
        uint32_t found = 0;
        scanstack(gp, find_held, &found);
        casfrom_Gscanstatus(gp, Gsyscall | Gscan, Gsyscall);
        CHECK_EQ(found, 0x3eu);
        return true;
    }
    return false;
}

/* They may be pushed onto the stack later, in places that nobody scans again. */
static void test_attach_registers(void)
{
    pthread_t t;
    int got = 0;
    atomic_store(&enough, false);
    start_thread(&t, comes, NULL);
    int64_t until = nanotime() + INT64_C(2000000000);
    while (got < 3 && nanotime() < until) {
        got += scan_comer();
        if (atomic_exchange(&came, false))
            tarn_poll();
    }
    atomic_store(&enough, true);
    tarn_native_call(join_thread, &t);
    if (got == 0)
        SKIP("the thread was never met while it attached");
}

static void body(void)
{
    RUN(test_attach_registers);
}

/* --- the limit of threads ------------------------------------------------------------- */

static char out[65536];

static void must_do(void (*child)(void))
{
    int st = harness_child(child, NULL, out, sizeof out);
    if (!WIFEXITED(st) || WEXITSTATUS(st) != 0)
        fprintf(stderr, "status %#x\n%s\n", (unsigned)st, out);
    CHECK(WIFEXITED(st));
    CHECK_EQ(WEXITSTATUS(st), 0);
    CHECK_STR(out, "done");
}

static tarn_sema never;
static struct event released;
static _Atomic int bound;

/* With one P, which M0 begins with: M0 is not to be the thread that ends. */
static void bound_for_ever(void *unused)
{
    (void)unused;
    CHECK(getg()->m == &m0);
    CHECK_ST(tarn_lock_thread(), TARN_OK);
    atomic_fetch_add(&bound, 1);
    tarn_sema_acquire(&never);
}

/* Idle threads, which the scheduler is not to find; by sched.lock. */
static struct m *hidden;
static uint32_t nhidden;

static void releases(void *unused)
{
    (void)unused;
    lock(&sched.lock);
    while (hidden != NULL) {
        struct m *mp = hidden;
        hidden = mp->schedlink;
        mp->schedlink = sched.midle;
        sched.midle = mp;
    }
    sched.nmidle += nhidden;
    unlock(&sched.lock);
    event_set(&released);
}

/* Ends with its thread, and leaves work behind for a thread that is not there yet,
 * and would be one too many beside this one. */
static void bound_ends(void *unused)
{
    CHECK(getg()->m != &m0);
    CHECK_ST(tarn_lock_thread(), TARN_OK);
    lock(&sched.lock);
    hidden = sched.midle;
    nhidden = sched.nmidle;
    sched.midle = NULL;
    sched.nmidle = 0;
    options.maxthreads = (int64_t)atomic_load(&sched.mnext);
    unlock(&sched.lock);
    go(releases, unused);
}

static void at_limit(void *unused)
{
    go(bound_for_ever, unused);
    YIELD_UNTIL(atomic_load(&bound) == 1);
    go(bound_ends, unused);
    tarn_native_call(wait_for, &released);
    puts("done");
    fflush(stdout);
}

static void limit_child(void)
{
    struct tarn_options o;
    unsetenv("TARN"); /* it is about these numbers */
    tarn_options_init(&o);
    o.maxprocs = 1;
    alarm(SUITE_WATCHDOG_SECONDS);
    CHECK_ST(tarn_main(&o, at_limit, NULL), TARN_OK);
}

static void test_locked_exit_at_limit(void)
{
    must_do(limit_child);
}

/* --- bound to the thread of tarn_main ------------------------------------------------- */

static _Atomic bool unlock_now, unlocked;

static void binds_m0(void *unused)
{
    (void)unused;
    CHECK(getg()->m == &m0);
    CHECK_ST(tarn_lock_thread(), TARN_OK);
    pthread_t me = pthread_self();
    atomic_store(&bound, 1);
    while (!atomic_load(&unlock_now)) {
        tarn_yield();
        CHECK(pthread_equal(me, pthread_self()));
    }
    CHECK_ST(tarn_unlock_thread(), TARN_OK);
    atomic_store(&unlocked, true);
    tarn_sema_acquire(&never);
}

static void leaves_bound(void *unused)
{
    go(binds_m0, unused);
    YIELD_UNTIL(atomic_load(&bound) != 0);
}

static void yields(void *unused)
{
    (void)unused;
    for (int i = 0; i < 10; i++)
        tarn_yield();
}

static void unlocks(void *unused)
{
    (void)unused;
    atomic_store(&unlock_now, true);
    YIELD_UNTIL(atomic_load(&unlocked));
}

static void *main_elsewhere(void *want)
{
    tarn_status st = tarn_main(NULL, yields, NULL);
    CHECK_EQ((uintptr_t)st, (uintptr_t)want);
    if (st != TARN_OK)
        CHECK(said("is locked to the thread of the last tarn_main"));
    return want;
}

static void bound_child(void)
{
    struct tarn_options o;
    pthread_t t;
    unsetenv("TARN"); /* it is about these numbers */
    tarn_options_init(&o);
    o.maxprocs = 1;
    alarm(SUITE_WATCHDOG_SECONDS);
    CHECK_ST(tarn_main(&o, leaves_bound, NULL), TARN_OK);
    for (int i = 0; i < 3; i++) {
        start_thread(&t, main_elsewhere, (void *)(uintptr_t)TARN_ESTATE);
        join_thread(&t);
        CHECK_ST(tarn_main(&o, yields, NULL), TARN_OK);
    }
    CHECK_ST(tarn_main(&o, unlocks, NULL), TARN_OK);
    for (int i = 0; i < 3; i++) {
        start_thread(&t, main_elsewhere, (void *)(uintptr_t)TARN_OK);
        join_thread(&t);
    }
    CHECK_ST(tarn_main(&o, yields, NULL), TARN_OK);
    puts("done");
    fflush(stdout);
}

static void test_bound_to_main(void)
{
    must_do(bound_child);
}

/* --- before there is anything to attach to ----------------------------------------------- */

static _Atomic bool asked, attached;

static void *comes_early(void *unused)
{
    tarn_status st;
    while ((st = tarn_thread_attach()) == TARN_ESTATE) {
        CHECK(said("tarn_main is not running"));
        atomic_store(&asked, true);
    }
    CHECK_ST(st, TARN_OK);
    CHECK_ST(tarn_thread_detach(), TARN_OK);
    atomic_store(&attached, true);
    return unused;
}

static void awaits(void *unused)
{
    (void)unused;
    YIELD_UNTIL(atomic_load(&attached));
}

static void early_child(void)
{
    pthread_t t;
    alarm(SUITE_WATCHDOG_SECONDS);
    start_thread(&t, comes_early, NULL);
    while (!atomic_load(&asked))
        osyield();
    CHECK_ST(tarn_main(NULL, awaits, NULL), TARN_OK);
    join_thread(&t);
    puts("done");
    fflush(stdout);
}

/* A thread that asks to attach all the time while tarn_main starts. */
static void test_early(void)
{
    must_do(early_child);
}

int main(int argc, char **argv)
{
    harness_init(argc, argv);
    RUN(test_early);
    RUN(test_locked_exit_at_limit);
    RUN(test_bound_to_main);
    gc_run(body, 2, "gcoff=1,delays=200");
    gc_run(body, 4, "gcoff=1");
    return harness_done();
}
