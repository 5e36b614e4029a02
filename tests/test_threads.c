/* tests/test_threads.c - threads that the runtime did
 * not make, goroutines bound to threads. */
#include <dirent.h>
#include <sys/syscall.h>

#include "base/fail.h"
#include "nativesuite.h"

static tarn_waitgroup wg;
static tarn_chan *volatile chan_to, *volatile chan_from;
static struct event gate;

static void *no_op(void *p)
{
    return p;
}

static void nothing(void *unused)
{
    (void)unused;
}

/* --- attached threads --------------------------------------------------------------- */

static void *attach_detach(void *vn)
{
    for (uintptr_t i = 0; i < (uintptr_t)vn; i++) {
        CHECK(!tarn_thread_attached());
        CHECK_ST(tarn_thread_attach(), TARN_OK);
        CHECK(tarn_thread_attached());
        if (i % 64 == 0) {
            volatile uint64_t *p = tarn_alloc_bytes(64);
            *p = 5;
            tarn_yield();
            CHECK_EQ(*p, 5);
        }
        CHECK_ST(tarn_thread_detach(), TARN_OK);
        CHECK(getg() == NULL);
    }
    return NULL;
}

/* One after the other, and from threads that come and go: nothing grows. */
static void test_attach_reuses(void)
{
    pthread_t t;
    start_thread(&t, attach_detach, (void *)1);
    tarn_native_call(join_thread, &t);
    size_t gs = atomic_load(&allglen), live = settled();
    uint64_t ms = atomic_load(&sched.mnext);
    for (int i = 0; i < 40; i++) {
        start_thread(&t, attach_detach, (void *)(uintptr_t)scaled(250));
        tarn_native_call(join_thread, &t);
    }
    CHECK_EQ(atomic_load(&allglen), gs);
    CHECK_EQ(tarn_goroutines(), live);
    /* Threads may have been made meanwhile, where a P was taken from one that
     * had not come to sleep yet: a few, not one for each that attached. */
    CHECK_LE(atomic_load(&sched.mnext), ms + nprocs + 16);
    CHECK_EQ(spare_threads(), 1);
}

static struct event all_there;
static _Atomic int there;

static void *attach_at_once(void *vi)
{
    uintptr_t i = (uintptr_t)vi;
    event_wait_native(&gate);
    for (int k = 0; k < scaled(40); k++) {
        CHECK_ST(tarn_thread_attach(), TARN_OK);
        /* Only this frame knows of it. */
        volatile uint64_t *volatile p = tarn_alloc_bytes(64);
        *p = i * 1000 + (uint64_t)k;
        if (k == 0 && atomic_fetch_add(&there, 1) == 15)
            event_set(&all_there);
        tarn_native_call(native_down, (void *)(i % 4));
        tarn_yield();
        if (k % 8 == 0)
            collect();
        CHECK_EQ(*p, i * 1000 + (uint64_t)k);
        CHECK_ST(tarn_thread_detach(), TARN_OK);
    }
    CHECK_ST(tarn_thread_attach(), TARN_OK);
    if (i % 2)
        tarn_native_enter();
    return NULL; /* attached */
}

static void test_attach_many(void)
{
    static pthread_t t[16];
    size_t live = settled();
    event_clear(&gate);
    event_clear(&all_there);
    atomic_store(&there, 0);
    for (uintptr_t i = 0; i < 16; i++)
        start_thread(&t[i], attach_at_once, (void *)i);
    event_set(&gate);
    while (!event_is_set(&all_there))
        collect();
    for (int i = 0; i < 10; i++) {
        check_wiring();
        collect();
    }
    for (int i = 0; i < 16; i++)
        tarn_native_call(join_thread, &t[i]);
    CHECK_EQ(tarn_goroutines(), live);
    CHECK_LE(spare_threads(), 16);
    CHECK_GE(spare_threads(), 1);
}

/* Its stack is scanned, wherever it waits. */
static tarn_chan *volatile to_thread, *volatile from_thread;

static void *waits_with_object(void *how)
{
    CHECK_ST(tarn_thread_attach(), TARN_OK);
    void *volatile p = tarn_alloc_bytes(64);
    *(uint64_t *)p = 4711;
    uint64_t hidden = hide(p), v;
    tarn_chan *to = to_thread, *from = from_thread;
    if (how == NULL) {
        CHECK_ST(tarn_chan_send(from, &hidden), TARN_OK);
        CHECK_ST(tarn_chan_recv(to, &v), TARN_OK);
    } else {
        CHECK_ST(tarn_chan_send(from, &hidden), TARN_OK);
        tarn_native_enter();
        event_wait_native(&gate);
        tarn_native_leave();
    }
    CHECK(alive(hidden));
    CHECK_EQ(*(uint64_t *)p, 4711);
    p = NULL;
    CHECK_ST(tarn_thread_detach(), TARN_OK);
    return NULL;
}

static void test_attach_scanned(void)
{
    to_thread = new_chan(8, 0);
    from_thread = new_chan(8, 0);
    for (uintptr_t i = 0; i < 20; i++) {
        pthread_t t;
        uint64_t hidden;
        event_clear(&gate);
        start_thread(&t, waits_with_object, (void *)(i % 2));
        CHECK_ST(tarn_chan_recv(from_thread, &hidden), TARN_OK);
        for (int k = 0; k < 3; k++) {
            collect();
            CHECK(alive(hidden));
        }
        if (i % 2)
            event_set(&gate);
        else
            CHECK_ST(tarn_chan_send(to_thread, &hidden), TARN_OK);
        tarn_native_call(join_thread, &t);
    }
    to_thread = from_thread = NULL;
}

static _Atomic uint64_t turns;
static _Atomic bool stop;

static void *attached_loop(void *unused)
{
    CHECK_ST(tarn_thread_attach(), TARN_OK);
    while (!atomic_load(&stop)) {
        atomic_fetch_add(&turns, 1);
        tarn_poll();
    }
    CHECK_ST(tarn_thread_detach(), TARN_OK);
    return unused;
}

/* They stop for the world, and share the Ps with the others. */
static void test_attach_stops(void)
{
    pthread_t t[3];
    atomic_store(&stop, false);
    atomic_store(&turns, 0);
    for (int i = 0; i < 3; i++)
        start_thread(&t[i], attached_loop, NULL);
    for (int i = 0; i < scaled(30); i++) {
        uint64_t n = atomic_load(&turns);
        YIELD_UNTIL(atomic_load(&turns) > n);
        stopTheWorld();
        n = atomic_load(&turns);
        spin_ns(50000);
        CHECK_EQ(atomic_load(&turns), n);
        startTheWorld();
    }
    atomic_store(&stop, true);
    for (int i = 0; i < 3; i++)
        tarn_native_call(join_thread, &t[i]);
    check_wiring();
}

/* Ends while attached: running, in a native call of either form, in a callback;
 * or by pthread_exit in any of them. */
static void exits(void *unused)
{
    (void)unused;
    pthread_exit(NULL);
}

static void *exits_native(void *unused)
{
    (void)unused;
    pthread_exit(NULL);
}

static void *exits_in_callback(void *p)
{
    tarn_callback(exits, NULL);
    return p;
}

static void *ends_somehow(void *how)
{
    CHECK_ST(tarn_thread_attach(), TARN_OK);
    tarn_yield();
    switch ((uintptr_t)how) {
    case 0:
        break;
    case 1:
        tarn_native_enter();
        break;
    case 2:
        tarn_native_enter();
        pthread_exit(NULL);
    case 3:
        pthread_exit(NULL);
    case 4:
        tarn_native_call(exits_native, NULL);
        break;
    default:
        tarn_native_call(exits_in_callback, NULL);
    }
    return NULL;
}

static void test_thread_exit(void)
{
    size_t live = settled();
    /* Sanitizers do not follow an exit from another stack. */
    uintptr_t ways = TARN_ASAN || TARN_TSAN ? 4 : 6;
    for (int r = 0; r < scaled(20); r++) {
        pthread_t t[6];
        for (uintptr_t i = 0; i < ways; i++)
            start_thread(&t[i], ends_somehow, (void *)i);
        collect();
        for (uintptr_t i = 0; i < ways; i++)
            tarn_native_call(join_thread, &t[i]);
        CHECK_EQ(tarn_goroutines(), live);
        collect();
    }
    check_wiring();
}

/* Destructors of others that call back, as long as there are rounds. */
static pthread_key_t host_key;
static _Atomic int late_attaches, late_refusals;

static void host_destructor(void *v)
{
    tarn_status st = tarn_thread_attach();
    if (st == TARN_OK) {
        volatile uint64_t *p = tarn_alloc_bytes(64);
        *p = 1;
        tarn_yield();
        atomic_fetch_add(&late_attaches, 1);
    } else {
        CHECK_ST(st, TARN_ESTATE);
        CHECK(said("this thread ends") || tarn_thread_attached());
        atomic_fetch_add(&late_refusals, 1);
    }
    pthread_setspecific(host_key, v);
}

static void *with_destructor(void *v)
{
    pthread_setspecific(host_key, v);
    CHECK_ST(tarn_thread_attach(), TARN_OK);
    return NULL;
}

static void test_thread_destructors(void)
{
    static int some;
    size_t live = settled();
    if (TARN_TSAN)
        SKIP("ThreadSanitizer's own thread ends in the last round");
    CHECK_EQ(pthread_key_create(&host_key, host_destructor), 0);
    for (int i = 0; i < 10; i++) {
        pthread_t t;
        start_thread(&t, with_destructor, &some);
        tarn_native_call(join_thread, &t);
        CHECK_EQ(tarn_goroutines(), live);
        collect();
    }
    CHECK_GT(atomic_load(&late_attaches), 0);
    CHECK_GT(atomic_load(&late_refusals), 0);
    pthread_key_delete(host_key);
}

static void detaches(void *unused)
{
    (void)unused;
    CHECK_ST(tarn_thread_detach(), TARN_ESTATE);
    CHECK(said("tarn_thread_detach: in a callback"));
}

static void *detach_in_callback(void *p)
{
    CHECK_ST(tarn_callback(detaches, NULL), TARN_OK);
    return p;
}

static void called_back(void *where)
{
    CHECK(tarn_thread_attached());
    *(uint64_t *)where = tarn_self();
    collect();
}

static void *misuses_attach(void *unused)
{
    uint64_t id = 0;
    CHECK_ST(tarn_thread_detach(), TARN_ESTATE);
    CHECK(said("tarn_thread_detach: this thread is not attached"));
    /* A callback on a thread that is not ours. */
    CHECK_ST(tarn_callback(called_back, &id), TARN_OK);
    CHECK_GT(id, (uint64_t)0);
    CHECK(!tarn_thread_attached());
    CHECK_ST(tarn_thread_attach(), TARN_OK);
    CHECK_ST(tarn_thread_attach(), TARN_ESTATE);
    CHECK(said("attached or runs goroutines already"));
    tarn_native_enter();
    bool attached = tarn_thread_attached();
    tarn_status st = tarn_thread_detach();
    tarn_native_leave();
    CHECK(attached);
    CHECK(said("tarn_thread_detach: in a native call"));
    CHECK_ST(st, TARN_ESTATE);
    tarn_native_call(detach_in_callback, NULL);
    CHECK_ST(tarn_main(NULL, nothing, NULL), TARN_ESTATE);
    CHECK(said("tarn_main: already running"));
    /* Locked on top: it is bound anyway. */
    CHECK_ST(tarn_lock_thread(), TARN_OK);
    tarn_yield();
    CHECK_ST(tarn_unlock_thread(), TARN_OK);
    CHECK_ST(tarn_unlock_thread(), TARN_ESTATE);
    CHECK_ST(tarn_lock_thread(), TARN_OK);
    CHECK_ST(tarn_thread_detach(), TARN_OK);
    return unused;
}

static void test_attach_misuse(void)
{
    pthread_t t;
    CHECK_ST(tarn_thread_detach(), TARN_ESTATE);
    CHECK(said("not an attached thread"));
    CHECK(!tarn_thread_attached());
    start_thread(&t, misuses_attach, NULL);
    tarn_native_call(join_thread, &t);
}

/* Each thing that the system may refuse. */
static void *attach_refused(void *unused)
{
    static const enum fail_kind kinds[] = {FAIL_MALLOC, FAIL_MMAP,
                                           FAIL_MPROTECT};
    /* The runtime itself asks for nothing now. */
    while (atomic_load(&sched.npidle) != nprocs ||
           atomic_load(&sched.nmspinning) != 0)
        usleep_os(100);
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        fail_inject(kinds[i], 0, 1);
        tarn_status st = tarn_thread_attach();
        fail_reset();
        if (st == TARN_OK) { /* who else took it? */
            CHECK_ST(tarn_thread_detach(), TARN_OK);
            continue;
        }
        CHECK_ST(st, TARN_ENOMEM);
        CHECK(said("tarn_thread_attach: out of memory") ||
              said("tarn_thread_attach: no memory"));
        CHECK(getg() == NULL);
        atomic_fetch_add(&late_refusals, 1);
    }
    CHECK_ST(tarn_thread_attach(), TARN_OK);
    CHECK_ST(tarn_thread_detach(), TARN_OK);
    return unused;
}

static void attach_refused_main(void *unused)
{
    (void)unused;
    pthread_t t;
    atomic_store(&late_refusals, 0);
    size_t live = settled();
    uint64_t ms = atomic_load(&sched.mnext);
    start_thread(&t, attach_refused, NULL);
    tarn_native_call(join_thread, &t);
    CHECK_EQ(atomic_load(&late_refusals), 3);
    CHECK_EQ(tarn_goroutines(), live);
    CHECK_LE(atomic_load(&sched.mnext), ms + nprocs);
    puts("done");
    fflush(stdout);
}

#define WANT_ATTACHED 6
static _Atomic int limit_refused;

static void *attach_to_limit(void *unused)
{
    tarn_status st = tarn_thread_attach();
    if (st != TARN_OK) {
        CHECK_ST(st, TARN_ELIMIT);
        CHECK(said("option maxthreads"));
        CHECK(getg() == NULL);
        atomic_fetch_add(&limit_refused, 1);
    } else {
        tarn_native_enter();
        atomic_fetch_add(&there, 1);
    }
    if (atomic_load(&limit_refused) + atomic_load(&there) == WANT_ATTACHED)
        event_set(&all_there);
    event_wait_native(&gate);
    if (st == TARN_OK)
        tarn_native_leave();
    return unused;
}

/* Six: M0, the monitor, one that has the P meanwhile (and perhaps one more that
 * had it for a moment), so three of them or two. */
static void *limit_native(void *unused)
{
    pthread_t t[WANT_ATTACHED];
    event_clear(&gate);
    event_clear(&all_there);
    atomic_store(&there, 0);
    for (int i = 0; i < WANT_ATTACHED; i++)
        start_thread(&t[i], attach_to_limit, NULL);
    event_wait_native(&all_there);
    CHECK_GE(atomic_load(&there), 1);
    CHECK_LE(atomic_load(&there), 3);
    event_set(&gate);
    for (int i = 0; i < WANT_ATTACHED; i++)
        join_thread(&t[i]);
    start_thread(&t[0], attach_detach, (void *)3);
    join_thread(&t[0]);
    return unused;
}

static void limit_main(void *unused)
{
    tarn_native_call(limit_native, unused);
    puts("done");
    fflush(stdout);
}

static void limit_child(void)
{
    struct tarn_options o;
    unsetenv("TARN"); /* it is about these numbers */
    tarn_options_init(&o);
    o.maxprocs = 1;
    o.maxthreads = 6;
    alarm(SUITE_WATCHDOG_SECONDS);
    CHECK_ST(tarn_main(&o, limit_main, NULL), TARN_OK);
}

static void attach_refused_child(void)
{
    unsetenv("TARN"); /* it is about these numbers */
    suite_child_fn = attach_refused_main;
    suite_child_main();
}

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

static void test_attach_refused(void)
{
    must_do(limit_child);
    must_do(attach_refused_child);
}

/* --- threads and the life of tarn_main ------------------------------------------------ */

static void *attach_early(void *unused)
{
    CHECK_ST(tarn_thread_attach(), TARN_ESTATE);
    CHECK(said("tarn_main is not running"));
    CHECK(getg() == NULL);
    CHECK_ST(tarn_callback(nothing, NULL), TARN_ESTATE);
    return unused;
}

static void *stays_native(void *unused)
{
    CHECK_ST(tarn_thread_attach(), TARN_OK);
    tarn_native_enter();
    event_set(&all_there);
    event_wait_native(&gate);
    return unused; /* ends in the native call */
}

static void *comes_back_later(void *unused)
{
    CHECK_ST(tarn_thread_attach(), TARN_OK);
    volatile uint64_t *p = tarn_alloc_bytes(64);
    *p = 8;
    tarn_native_enter();
    event_set(&all_there);
    event_wait_native(&gate);
    tarn_native_leave();
    CHECK_EQ(*p, 8);
    collect();
    atomic_fetch_add(&there, 1);
    CHECK_ST(tarn_thread_detach(), TARN_OK);
    return unused;
}

static pthread_t life_thread;
static void *(*life_fn)(void *);

static void starts_thread(void *unused)
{
    (void)unused;
    event_clear(&all_there);
    event_clear(&gate);
    start_thread(&life_thread, life_fn, NULL);
    tarn_native_call(wait_for, &all_there);
}

static void waits_for_it(void *unused)
{
    (void)unused;
    YIELD_UNTIL(atomic_load(&there) == 1);
}

static void lives_child(void)
{
    struct tarn_options o;
    pthread_t t;
    unsetenv("TARN"); /* it is about these numbers */
    tarn_options_init(&o);
    o.maxprocs = 3;
    alarm(SUITE_WATCHDOG_SECONDS);
    start_thread(&t, attach_early, NULL);
    join_thread(&t);
    /* It ends in a native call, with nobody there to give it a P. */
    life_fn = stays_native;
    CHECK_ST(tarn_main(&o, starts_thread, NULL), TARN_OK);
    start_thread(&t, attach_early, NULL);
    join_thread(&t);
    event_set(&gate);
    join_thread(&life_thread);
    CHECK_EQ(tarn_goroutines(), (size_t)0);
    CHECK_EQ(spare_threads(), 1);
    /* This one comes back from it, and waits for the next tarn_main. */
    life_fn = comes_back_later;
    CHECK_ST(tarn_main(&o, starts_thread, NULL), TARN_OK);
    event_set(&gate);
    atomic_store(&there, 0);
    CHECK_ST(tarn_main(&o, waits_for_it, NULL), TARN_OK);
    join_thread(&life_thread);
    /* And all is as it was. */
    CHECK_ST(tarn_main(&o, starts_thread, NULL), TARN_OK);
    event_set(&gate);
    atomic_store(&there, 0);
    CHECK_ST(tarn_main(&o, waits_for_it, NULL), TARN_OK);
    join_thread(&life_thread);
    puts("done");
    fflush(stdout);
}

static void test_attach_lives(void)
{
    must_do(lives_child);
}

/* The main goroutine ends while the thread of tarn_main is in a native call, in a
 * callback from one, or bound to somebody. */
static _Atomic int way, told;
static struct event on_m0;

static void callback_on_m0(void *unused)
{
    (void)unused;
    event_set(&on_m0);
    /* Until the main goroutine waits for us. */
    for (;;) {
        lock(&sched.lock);
        bool ending = sched.main_waits != NULL;
        unlock(&sched.lock);
        if (ending)
            break;
        tarn_yield();
    }
    tarn_native_call(no_op, NULL);
}

static void *native_on_m0(void *unused)
{
    CHECK_ST(tarn_callback(callback_on_m0, NULL), TARN_OK);
    /* No more of that. */
    CHECK_ST(tarn_callback(nothing, NULL), TARN_ESTATE);
    CHECK(said("tarn_main is about to return on this thread"));
    atomic_fetch_add(&told, 1);
    return unused;
}

static void *slow_on_m0(void *unused)
{
    event_set(&on_m0);
    usleep_os(20000);
    return unused;
}

/* With one P, which M0 begins with, and before any native call. */
static void takes_m0(void *unused)
{
    (void)unused;
    CHECK(getg()->m == &m0);
    switch (atomic_load(&way)) {
    case 0:
        tarn_native_call(native_on_m0, NULL);
        break;
    case 1:
        tarn_native_call(slow_on_m0, NULL);
        break;
    case 2:
        CHECK_ST(tarn_lock_thread(), TARN_OK);
        event_set(&on_m0);
        tarn_yield();
        tarn_sleep(100000);
        CHECK(getg()->m == &m0);
        CHECK_ST(tarn_unlock_thread(), TARN_OK);
        break;
    default:
        CHECK_ST(tarn_lock_thread(), TARN_OK);
        tarn_native_call(slow_on_m0, NULL);
        CHECK(getg()->m == &m0);
    }
    atomic_fetch_add(&there, 1);
}

static void ends_beside(void *unused)
{
    (void)unused;
    event_clear(&on_m0);
    go(takes_m0, NULL);
    tarn_yield();
    while (!event_is_set(&on_m0))
        tarn_nanosleep(10000);
    /* Some locked themselves: their thread is not that of tarn_main. */
    if (getg()->m != &m0 && atomic_load(&way) % 2)
        CHECK_ST(tarn_lock_thread(), TARN_OK);
}

static void m0_child(void)
{
    struct tarn_options o;
    unsetenv("TARN"); /* it is about these numbers */
    tarn_options_init(&o);
    o.maxprocs = 1;
    alarm(SUITE_WATCHDOG_SECONDS);
    for (int i = 0; i < 24; i++) {
        atomic_store(&way, i % 4);
        atomic_store(&there, 0);
        atomic_store(&told, 0);
        CHECK_ST(tarn_main(&o, ends_beside, NULL), TARN_OK);
        CHECK_EQ(atomic_load(&told), i % 4 == 0);
        CHECK(getg() == NULL);
        /* What was frozen goes on, on this thread again if bound to it. */
        CHECK_ST(tarn_main(&o, waits_for_it, NULL), TARN_OK);
    }
    puts("done");
    fflush(stdout);
}

static void test_main_ends(void)
{
    must_do(m0_child);
}

/* --- goroutines bound to threads ------------------------------------------------------ */

static long gettid_here(void)
{
    return tarn_syscall(SYS_gettid, 0, 0, 0, 0, 0, 0);
}

#define LOCKED 6
static struct m *_Atomic locked_m[LOCKED];
static _Atomic int locked_left;

static void locked_one(void *vi)
{
    uintptr_t i = (uintptr_t)vi;
    CHECK_ST(tarn_lock_thread(), TARN_OK);
    CHECK_ST(tarn_lock_thread(), TARN_OK);
    long tid = gettid_here();
    atomic_store(&locked_m[i], getg()->m);
    for (int k = 0; k < scaled(200); k++) {
        switch (k % 4) {
        case 0:
            tarn_yield();
            break;
        case 1:
            tarn_native_call(spin_native, (void *)(uintptr_t)(i * 1000));
            break;
        case 2:
            tarn_sleep(1000);
            break;
        default:
            tarn_nanosleep(1000);
        }
        CHECK_EQ(gettid_here(), tid);
    }
    /* The first of two does not unlock. */
    CHECK_ST(tarn_unlock_thread(), TARN_OK);
    tarn_yield();
    CHECK_EQ(gettid_here(), tid);
    CHECK(getg()->lockedm == getg()->m);
    atomic_store(&locked_m[i], NULL);
    CHECK_ST(tarn_unlock_thread(), TARN_OK);
    CHECK(getg()->lockedm == NULL);
    CHECK_ST(tarn_unlock_thread(), TARN_ESTATE);
    CHECK(said("is not locked"));
    atomic_fetch_sub(&locked_left, 1);
    tarn_waitgroup_done(&wg);
}

/* Never on a thread of theirs. */
static void wanderer(void *unused)
{
    (void)unused;
    while (atomic_load(&locked_left) != 0) {
        bool theirs = false;
        STAY();
        struct m *mp = getg()->m;
        theirs = mp->lockedg != NULL;
        for (int i = 0; i < LOCKED; i++)
            theirs |= atomic_load(&locked_m[i]) == mp;
        GO_ON();
        CHECK(!theirs);
        tarn_yield();
    }
    tarn_waitgroup_done(&wg);
}

static void test_lockOSThread(void)
{
    atomic_store(&locked_left, LOCKED);
    tarn_waitgroup_add(&wg, LOCKED + 3);
    for (uintptr_t i = 0; i < LOCKED; i++)
        go(locked_one, (void *)i);
    for (int i = 0; i < 3; i++)
        go(wanderer, NULL);
    while (atomic_load(&locked_left) != 0) {
        collect();
        tarn_yield();
    }
    tarn_waitgroup_wait(&wg);
    check_wiring();
}

/* Two that wake each other, each on a thread of its own. */
static void locked_pinger(void *vn)
{
    CHECK_ST(tarn_lock_thread(), TARN_OK);
    long tid = gettid_here();
    uint64_t v = 0;
    for (uintptr_t i = 0; i < (uintptr_t)vn; i++) {
        CHECK_ST(tarn_chan_recv(chan_to, &v), TARN_OK);
        v++;
        CHECK_ST(tarn_chan_send(chan_from, &v), TARN_OK);
    }
    CHECK_EQ(gettid_here(), tid);
    CHECK_ST(tarn_unlock_thread(), TARN_OK);
    tarn_waitgroup_done(&wg);
}

static void test_startlockedm(void)
{
    int n = scaled(500);
    chan_to = new_chan(8, 0);
    chan_from = new_chan(8, 0);
    tarn_waitgroup_add(&wg, 1);
    go(locked_pinger, (void *)(uintptr_t)n);
    CHECK_ST(tarn_lock_thread(), TARN_OK);
    for (int i = 0; i < n; i++) {
        uint64_t v = (uint64_t)i, w;
        CHECK_ST(tarn_chan_send(chan_to, &v), TARN_OK);
        CHECK_ST(tarn_chan_recv(chan_from, &w), TARN_OK);
        CHECK_EQ(w, v + 1);
    }
    CHECK_ST(tarn_unlock_thread(), TARN_OK);
    tarn_waitgroup_wait(&wg);
    chan_to = chan_from = NULL;
}

/* All of them are bound, wait and are stopped: the counts come out even. */
static void test_stoplockedm(void)
{
    atomic_store(&locked_left, LOCKED);
    tarn_waitgroup_add(&wg, LOCKED);
    for (uintptr_t i = 0; i < LOCKED; i++)
        go(locked_one, (void *)i);
    for (int i = 0; atomic_load(&locked_left) != 0; i++) {
        stopTheWorld();
        lock(&sched.lock);
        int32_t parked = 0, all = sched.nmidlelocked;
        for (struct m *mp = atomic_load(&allm); mp != NULL; mp = mp->alllink)
            parked += mp->parked_locked;
        unlock(&sched.lock);
        startTheWorld();
        /* The monitor may be in the middle of a theft: one less. */
        CHECK(all == parked || all == parked - 1);
        tarn_yield();
    }
    tarn_waitgroup_wait(&wg);
    lock(&sched.lock);
    CHECK_LE(sched.nmidlelocked, 0);
    unlock(&sched.lock);
}

/* --- threads that end with their goroutine -------------------------------------------- */

static _Atomic long dead_tid;

static void dies_locked(void *unused)
{
    (void)unused;
    CHECK_ST(tarn_lock_thread(), TARN_OK);
    /* M0 cannot end: whoever is there takes another. */
    if (getg()->m == &m0) {
        CHECK_ST(tarn_unlock_thread(), TARN_OK);
        atomic_store(&dead_tid, -1);
    } else {
        atomic_store(&dead_tid, gettid_here());
    }
    tarn_waitgroup_done(&wg);
}

static bool thread_exists(long tid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/task/%ld", tid);
    DIR *d = opendir(path);
    if (d != NULL)
        closedir(d);
    return d != NULL;
}

static void *until_gone(void *tid)
{
    while (thread_exists((long)tid))
        usleep_os(200);
    return NULL;
}

static size_t count_ms(void)
{
    size_t n = 0;
    for (struct m *mp = atomic_load(&allm); mp != NULL; mp = mp->alllink)
        n++;
    return n;
}

static void test_locked_exit(void)
{
    int ended = 0;
    uint64_t before = atomic_load(&sched.mnext), most = 0;
    size_t ms = count_ms();
    /* If we are on M0, keep it to ourselves. */
    bool have_m0 = getg()->m == &m0;
    if (have_m0)
        CHECK_ST(tarn_lock_thread(), TARN_OK);
    for (int i = 0; i < scaled(100); i++) {
        tarn_waitgroup_add(&wg, 1);
        go(dies_locked, NULL);
        tarn_waitgroup_wait(&wg);
        if (atomic_load(&dead_tid) > 0) {
            tarn_native_call(until_gone, (void *)atomic_load(&dead_tid));
            ended++;
        }
        if (i % 5 == 0)
            tarn_nanosleep(10000); /* to another thread, maybe */
        if (atomic_load(&sched.mnext) > most)
            most = atomic_load(&sched.mnext);
    }
    if (have_m0) {
        CHECK_EQ(ended, scaled(100));
        CHECK_ST(tarn_unlock_thread(), TARN_OK);
    }
    /* The count falls with each, and their structures serve again. */
    CHECK_LE(most, before + nprocs + 3);
    CHECK_LE(count_ms(), ms + nprocs + 5);
    check_wiring();
}

static void dies_soon(void *unused)
{
    (void)unused;
    CHECK_ST(tarn_lock_thread(), TARN_OK);
    tarn_yield();
    tarn_waitgroup_done(&wg);
}

/* Threads end while the world is stopped, and while they are asked to stop. */
static void test_locked_exit_in_stops(void)
{
    for (int i = 0; i < scaled(60); i++) {
        tarn_waitgroup_add(&wg, 6);
        for (int k = 0; k < 6; k++)
            go(dies_soon, NULL);
        for (int k = 0; k < 4; k++) {
            stopTheWorld();
            startTheWorld();
            preemptall();
        }
        if (i % 8 == 0)
            collect();
        tarn_waitgroup_wait(&wg);
    }
    check_wiring();
}

static void body(void)
{
    RUN(test_attach_reuses);
    RUN(test_attach_many);
    RUN(test_attach_scanned);
    RUN(test_attach_stops);
    RUN(test_thread_exit);
    RUN(test_thread_destructors);
    RUN(test_attach_misuse);
    RUN(test_lockOSThread);
    RUN(test_startlockedm);
    RUN(test_stoplockedm);
    RUN(test_locked_exit);
    RUN(test_locked_exit_in_stops);
}

int main(int argc, char **argv)
{
    harness_init(argc, argv);
    RUN(test_attach_refused);
    RUN(test_attach_lives);
    RUN(test_main_ends);
    gc_run(body, 1, "");
    gc_run(body, 3, "checkmark=1");
    gc_run(body, 2, "delays=200,droppreempt=30");
    gc_run(body, 16, "checkmark=1,gcstress=64,droppreempt=30");
    return harness_done();
}
