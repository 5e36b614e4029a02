/* tests/test_thread_exit.c - threads that attach, run goroutine code and end, or
 * detach, in every order, while signals for preemption are sent to them: by the
 * runtime, by threads that know their ids, by threads that hold their handles.
 * And what a thread has of its own afterwards. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <sys/syscall.h>

#include "nativesuite.h"
#include "pest.h"

static tarn_waitgroup wg;

/* --- the storm ---------------------------------------------------------------------- */

#define SLOTS 8

/* One for each thread that may be about. A sender holds a slot while it sends to
 * it by its handle, so that nobody joins the thread meanwhile; an id may be that
 * of a thread that is gone, or of the next one. */
static struct slot {
    pthread_mutex_t hold;
    pthread_t thread;
    bool there; /* made and not joined */
    _Atomic int tid;
} slots[SLOTS];

static _Atomic bool storm_end;
static _Atomic uint64_t sent_by_id, sent_by_handle, gone;

static int preemption_signal(void)
{
    return preempt_signals_on() ? preempt_signal : 0;
}

static void *sends_by_id(void *vi)
{
    uint64_t rng = seed_of(40 + (uintptr_t)vi);
    int sig = preemption_signal();
    while (!atomic_load(&storm_end)) {
        int tid = atomic_load(&slots[below(&rng, SLOTS)].tid);
        if (tid == 0) {
            procyield(10);
        } else if (syscall(SYS_tgkill, getpid(), tid, sig) == 0) {
            atomic_fetch_add(&sent_by_id, 1);
        } else {
            CHECK_EQ(errno, ESRCH);
            atomic_fetch_add(&gone, 1);
        }
        spin_ns(below(&rng, 20000));
    }
    return NULL;
}

static void *sends_by_handle(void *vi)
{
    uint64_t rng = seed_of(50 + (uintptr_t)vi);
    int sig = preemption_signal();
    while (!atomic_load(&storm_end)) {
        struct slot *s = &slots[below(&rng, SLOTS)];
        pthread_mutex_lock(&s->hold);
        if (s->there) {
            int err = pthread_kill(s->thread, sig);
            CHECK(err == 0 || err == ESRCH);
            atomic_fetch_add(&sent_by_handle, 1);
        }
        pthread_mutex_unlock(&s->hold);
        spin_ns(below(&rng, 20000));
    }
    return NULL;
}

static pthread_t senders[3];

static void storm_start(void)
{
    atomic_store(&storm_end, false);
    atomic_store(&sent_by_id, 0);
    atomic_store(&sent_by_handle, 0);
    for (int i = 0; i < SLOTS; i++)
        pthread_mutex_init(&slots[i].hold, NULL);
    start_thread(&senders[0], sends_by_id, (void *)0);
    start_thread(&senders[1], sends_by_id, (void *)1);
    start_thread(&senders[2], sends_by_handle, (void *)0);
    pest_start(PEST_ALL);
}

static void storm_stop(void)
{
    pest_stop();
    atomic_store(&storm_end, true);
    for (int i = 0; i < 3; i++)
        tarn_native_call(join_thread, &senders[i]);
    /* Nobody holds one. */
    for (int i = 0; i < SLOTS; i++)
        pthread_mutex_destroy(&slots[i].hold);
}

/* --- the threads -------------------------------------------------------------------- */

enum way {
    DETACHES,       /* and returns */
    RETURNS,        /* attached */
    RETURNS_NATIVE, /* in a native call */
    EXITS,          /* by pthread_exit */
    EXITS_NATIVE,
    AGAIN,      /* detaches and attaches a few times, then returns */
    CALLS_BACK, /* never attaches: a callback does, for the time of it */
    WAYS
};

static tarn_chan *volatile results;
static _Atomic int ended[WAYS];

struct life {
    struct slot *slot;
    enum way way;
    uint64_t seed;
};
static struct life lives[SLOTS];

/* What keeps its locals while it is stopped here and there. */
static void work(uint64_t *rng)
{
    uint64_t key = harness_rand(rng);
    uint64_t *volatile p = tarn_alloc_bytes(64);
    CHECK(p != NULL);
    *p = key;
    switch (below(rng, 6)) {
    case 0:
        tarn_yield();
        break;
    case 1:
        CHECK_EQ(tarn_nanosleep(below(rng, 50000)), 0);
        break;
    case 2: {
        uint64_t v = key;
        CHECK_ST(tarn_chan_send(results, &v), TARN_OK);
        break;
    }
    case 3:
        for (uint32_t i = 0; i < 200; i++) {
            CHECK(tarn_alloc_conservative(16 + i) != NULL);
            tarn_poll();
        }
        break;
    case 4:
        tarn_native_call(spin_native, (void *)(uintptr_t)below(rng, 20000));
        break;
    default:
        tarn_poll();
    }
    CHECK_EQ(*p, key);
}

static void works(void *rng)
{
    work(rng);
}

static void *lives_and_ends(void *vlife)
{
    struct life *l = vlife;
    uint64_t rng = l->seed;
    enum way way = l->way;
    sigset_t mask;
    /* Threads of the host have it blocked, or not. */
    sigemptyset(&mask);
    sigaddset(&mask, SIGURG);
    pthread_sigmask(below(&rng, 2) ? SIG_BLOCK : SIG_UNBLOCK, &mask, NULL);
    atomic_store(&l->slot->tid, gettid_os());
    if (way == CALLS_BACK) {
        for (uint32_t i = below(&rng, 4); i < 4; i++)
            CHECK_ST(tarn_callback(works, &rng), TARN_OK);
        atomic_fetch_add(&ended[way], 1);
        return NULL;
    }
    uint32_t again = way == AGAIN ? 1 + below(&rng, 4) : 0;
    for (uint32_t i = 0; i < again; i++) {
        CHECK_ST(tarn_thread_attach(), TARN_OK);
        work(&rng);
        CHECK_ST(tarn_thread_detach(), TARN_OK);
        CHECK(getg() == NULL);
    }
    CHECK_ST(tarn_thread_attach(), TARN_OK);
    for (uint32_t i = below(&rng, 3); i < 3; i++)
        work(&rng);
    atomic_fetch_add(&ended[way], 1);
    switch (way) {
    case DETACHES:
        CHECK_ST(tarn_thread_detach(), TARN_OK);
        break;
    case RETURNS_NATIVE:
        tarn_native_enter();
        break;
    case EXITS:
        pthread_exit(NULL);
    case EXITS_NATIVE:
        tarn_native_enter();
        pthread_exit(NULL);
    default:
        break;
    }
    return NULL;
}

static void takes_results(void *unused)
{
    (void)unused;
    uint64_t v;
    while (tarn_chan_recv(results, &v) == TARN_OK)
        ;
    tarn_waitgroup_done(&wg);
}

static void *join_slot(void *vslot)
{
    struct slot *s = vslot;
    pthread_t t;
    pthread_mutex_lock(&s->hold);
    t = s->thread;
    s->there = false;
    pthread_mutex_unlock(&s->hold);
    CHECK_EQ(pthread_join(t, NULL), 0);
    return NULL;
}

static void *start_slot(void *vlife)
{
    struct life *l = vlife;
    pthread_mutex_lock(&l->slot->hold);
    start_thread(&l->slot->thread, lives_and_ends, l);
    l->slot->there = true;
    pthread_mutex_unlock(&l->slot->hold);
    return NULL;
}

/* Slots are filled and emptied by chance, and now and then there is a collection
 * or a stop. */
static void test_exit_in_storm(void)
{
    uint64_t rng = seed_of(60);
    size_t live = settled();
    bool busy[SLOTS] = {false};
    results = new_chan(8, 0);
    tarn_waitgroup_add(&wg, 1);
    go(takes_results, NULL);
    for (int i = 0; i < WAYS; i++)
        atomic_store(&ended[i], 0);
    struct tarn_preempt_stats before = preempt_stats();
    storm_start();
    int made = 0, rounds = scaled(600);
    /* Each way at least once, and each kind of sender, whatever the number of
     * rounds. */
    for (int k = 0;
         k < rounds || made < 3 * WAYS || atomic_load(&sent_by_id) == 0 ||
         atomic_load(&sent_by_handle) == 0;
         k++) {
        uint32_t i = below(&rng, SLOTS);
        if (busy[i]) {
            tarn_native_call(join_slot, &slots[i]);
            if (below(&rng, 2))
                atomic_store(&slots[i].tid, 0);
        } else {
            enum way way =
                made < WAYS ? (enum way)made : (enum way)below(&rng, WAYS);
            lives[i] = (struct life){&slots[i], way, harness_rand(&rng)};
            tarn_native_call(start_slot, &lives[i]);
            made++;
        }
        busy[i] = !busy[i];
        switch (below(&rng, 16)) {
        case 0:
            collect();
            break;
        case 1:
        case 2:
            stopTheWorld();
            startTheWorld();
            break;
        case 3:
            preemptall();
            break;
        default:
            tarn_yield();
        }
    }
    for (uint32_t i = 0; i < SLOTS; i++)
        if (busy[i])
            tarn_native_call(join_slot, &slots[i]);
    storm_stop();
    int all = 0;
    for (int i = 0; i < WAYS; i++) {
        CHECK_GT(atomic_load(&ended[i]), 0);
        all += atomic_load(&ended[i]);
    }
    CHECK_EQ(all, made);
    CHECK_ST(tarn_chan_close(results), TARN_OK);
    tarn_waitgroup_wait(&wg);
    results = NULL;
    CHECK_EQ(settled(), live);
    CHECK_LE(spare_threads(), SLOTS);
    check_wiring();
    collect();
    /* Some came when the thread was not, or no longer, one of ours. */
    if (preempt_signals_on())
        CHECK_GT(preempt_stats().foreign + preempt_stats().received,
                 before.foreign + before.received);
    /* And who attaches now is asked as ever: nothing is thought to be on its way
     * to a thread that has gone. */
    for (int i = 0; i < SLOTS; i++)
        atomic_store(&slots[i].tid, 0);
}

/* --- asked after all of that ----------------------------------------------------------- */

static _Atomic uint64_t turns;
static _Atomic bool enough;
static _Atomic int looping;

static void *loops_attached(void *unused)
{
    CHECK_ST(tarn_thread_attach(), TARN_OK);
    atomic_fetch_add(&looping, 1);
    while (!atomic_load(&enough)) {
        atomic_fetch_add(&turns, 1);
        tarn_poll();
    }
    CHECK_ST(tarn_thread_detach(), TARN_OK);
    return unused;
}

static void test_asked_again(void)
{
    pthread_t t[SLOTS];
    atomic_store(&enough, false);
    atomic_store(&looping, 0);
    for (int i = 0; i < SLOTS; i++)
        start_thread(&t[i], loops_attached, NULL);
    YIELD_UNTIL(atomic_load(&looping) == SLOTS);
    uint64_t received = preempt_stats().received;
    pest_start(PEST_ALL);
    YIELD_UNTIL(!preempt_signals_on() ||
                preempt_stats().received > received + 20);
    pest_stop();
    for (int i = 0; i < 5; i++)
        check_wiring();
    atomic_store(&enough, true);
    for (int i = 0; i < SLOTS; i++)
        tarn_native_call(join_thread, &t[i]);
}

/* --- what the thread has of its own ------------------------------------------------------ */

static bool is_blocked(int sig)
{
    sigset_t now;
    CHECK_EQ(pthread_sigmask(SIG_SETMASK, NULL, &now), 0);
    return sigismember(&now, sig) == 1;
}

static void change_mask(int how, int sig)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, sig);
    CHECK_EQ(pthread_sigmask(how, &set, NULL), 0);
}

/* Its mask is its own: what it changes while it is attached stays so, and the
 * signal of the runtime is as it was before. */
static void *keeps_its_mask(void *vblocked)
{
    bool blocked = vblocked != NULL;
    int sig = preempt_signals_on() ? preempt_signal : SIGURG;
    change_mask(blocked ? SIG_BLOCK : SIG_UNBLOCK, sig);
    change_mask(SIG_BLOCK, SIGUSR1);
    change_mask(SIG_UNBLOCK, SIGUSR2);
    CHECK_ST(tarn_thread_attach(), TARN_OK);
    CHECK_EQ(is_blocked(sig), blocked && !preempt_signals_on());
    CHECK(is_blocked(SIGUSR1));
    CHECK(!is_blocked(SIGUSR2));
    change_mask(SIG_UNBLOCK, SIGUSR1);
    change_mask(SIG_BLOCK, SIGUSR2);
    tarn_yield();
    CHECK_ST(tarn_thread_detach(), TARN_OK);
    CHECK_EQ(is_blocked(sig), blocked);
    CHECK(!is_blocked(SIGUSR1));
    CHECK(is_blocked(SIGUSR2));
    return NULL;
}

static void *keeps_its_stack(void *vstack)
{
    stack_t mine = {.ss_sp = vstack, .ss_size = 65536}, now;
    if (vstack != NULL)
        CHECK_EQ(sigaltstack(&mine, NULL), 0);
    CHECK_ST(tarn_thread_attach(), TARN_OK);
    CHECK_EQ(sigaltstack(NULL, &now), 0);
    CHECK(!(now.ss_flags & SS_DISABLE));
    CHECK(vstack == NULL || now.ss_sp == vstack);
    CHECK_ST(tarn_thread_detach(), TARN_OK);
    CHECK_EQ(sigaltstack(NULL, &now), 0);
    if (vstack != NULL)
        CHECK(now.ss_sp == vstack && !(now.ss_flags & SS_DISABLE));
    else
        CHECK(now.ss_flags & SS_DISABLE);
    return NULL;
}

static void test_thread_keeps(void)
{
    static char stack[65536], yes;
    pthread_t t;
    for (int i = 0; i < 2; i++) {
        start_thread(&t, keeps_its_mask, i ? &yes : NULL);
        tarn_native_call(join_thread, &t);
        if (TARN_ASAN || TARN_TSAN)
            continue; /* they give each thread an alternate stack */
        start_thread(&t, keeps_its_stack, i ? stack : NULL);
        tarn_native_call(join_thread, &t);
    }
}

/* --- beside the end of tarn_main --------------------------------------------------------- */

/* A thread that ends in a native call must not wait for the runtime to go on: it
 * may have ended, or end just now. */

static struct event in_native;
static _Atomic int64_t ends_after;
static pthread_t last_thread;

static void *ends_in_native(void *unused)
{
    CHECK_ST(tarn_thread_attach(), TARN_OK);
    tarn_native_enter();
    event_set(&in_native);
    spin_ns(atomic_load(&ends_after));
    return unused;
}

static void *start_last(void *unused)
{
    start_thread(&last_thread, ends_in_native, NULL);
    return unused;
}

static void ends_first(void *vns)
{
    event_clear(&in_native);
    tarn_native_call(start_last, NULL);
    while (!event_is_set(&in_native))
        tarn_yield();
    spin_ns((int64_t)(uintptr_t)vns);
}

static void ends_child(void)
{
    uint64_t rng = seed_of(70);
    struct tarn_options o;
    unsetenv("TARN"); /* it is about these numbers */
    tarn_options_init(&o);
    alarm(SUITE_WATCHDOG_SECONDS);
    for (int i = 0; i < 200; i++) {
        o.maxprocs = 1 + i % 3;
        /* Every fourth time the thread surely ends after tarn_main. */
        atomic_store(&ends_after, i % 4 == 0 ? 2000000 : below(&rng, 100000));
        uintptr_t ns = i % 4 == 0 ? 0 : below(&rng, 50000);
        CHECK_ST(tarn_main(&o, ends_first, (void *)ns), TARN_OK);
        CHECK_EQ(pthread_join(last_thread, NULL), 0);
    }
    puts("done");
    fflush(stdout);
}

static void test_end_in_native(void)
{
    char out[4096];
    int st = harness_child(ends_child, NULL, out, sizeof out);
    if (!WIFEXITED(st) || WEXITSTATUS(st) != 0)
        fprintf(stderr, "status %#x\n%s\n", (unsigned)st, out);
    CHECK(WIFEXITED(st));
    CHECK_EQ(WEXITSTATUS(st), 0);
    CHECK_STR(out, "done");
}

static void body(void)
{
    RUN(test_exit_in_storm);
    RUN(test_asked_again);
    RUN(test_thread_keeps);
}

int main(int argc, char **argv)
{
    harness_init(argc, argv);
    RUN(test_end_in_native);
    gc_run(body, 1, "");
    gc_run(body, 3, "checkmark=1");
    gc_run(body, 2, "delays=50,droppreempt=30");
    gc_run(body, 16, "checkmark=1,gcstress=64,stackmove=1");
    return harness_done();
}
