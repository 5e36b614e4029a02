/* tests/test_base_lock.c - the lock, notes, raw futexes and the rank checker.
 */
#include "base/lock.h"

#include "tests/harness.h"

#include <pthread.h>
#include <sys/mman.h>

enum { THREADS = 4, ROUNDS = 50000 };

static void start(pthread_t *t, void *(*fn)(void *), void *arg)
{
    CHECK_EQ(pthread_create(t, NULL, fn, arg), 0);
}

static void join(pthread_t t)
{
    CHECK_EQ(pthread_join(t, NULL), 0);
}

/* --- mutex --------------------------------------------------------------- */

static struct mutex counter_lock;
static bool brief;             /* leave it by unlock_brief */
static uint64_t counter;       /* counter_lock */
static _Atomic int32_t inside; /* threads in the critical section */

static void *count_up(void *arg)
{
    uint64_t rng = harness_seed + (uintptr_t)arg;
    for (int i = 0; i < ROUNDS; i++) {
        uint64_t r = harness_rand(&rng);
        if ((r & 7) == 0) {
            if (!trylock(&counter_lock))
                lock(&counter_lock);
        } else {
            lock(&counter_lock);
        }
        CHECK_EQ(atomic_fetch_add(&inside, 1), 0);
        counter++;
        /* Now and then long enough that the others go to sleep. */
        if ((r >> 32) % 1000 == 0)
            for (int k = 0; k < 20; k++)
                osyield();
        CHECK_EQ(atomic_fetch_sub(&inside, 1), 1);
        if (brief)
            unlock_brief(&counter_lock);
        else
            unlock(&counter_lock);
    }
    return NULL;
}

static void mutual_exclusion(enum lock_rank rank)
{
    pthread_t t[THREADS];
    mutex_init(&counter_lock, rank);
    brief = rank == RANK_CHAN;
    counter = 0;
    for (uintptr_t i = 0; i < THREADS; i++)
        start(&t[i], count_up, (void *)i);
    for (int i = 0; i < THREADS; i++)
        join(t[i]);
    CHECK_EQ(counter, (uint64_t)THREADS * ROUNDS);
    CHECK(!lock_held(&counter_lock));
    CHECK_EQ(atomic_load(&counter_lock.key), 0u);
}

static void test_mutual_exclusion(void)
{
    mutual_exclusion(RANK_LEAF);
    mutual_exclusion(RANK_CHAN);
}

static void test_trylock(void)
{
    struct mutex m;
    mutex_init(&m, RANK_LEAF);
    CHECK(!lock_held(&m));
    CHECK(trylock(&m));
    CHECK(lock_held(&m));
    CHECK(!trylock(&m));
    unlock(&m);
    CHECK(!lock_held(&m));
    lock(&m);
    CHECK(!trylock(&m));
    unlock(&m);
    lock_ranks_none_held();
}

static _Atomic bool sleeper_in;

static void *lock_once(void *arg)
{
    struct mutex *m = arg;
    lock(m);
    atomic_store(&sleeper_in, true);
    unlock(m);
    return NULL;
}

/* The whole way down: spin, yield, sleep in the futex, be woken. */
static void test_sleeper_is_woken(void)
{
    for (int i = 0; i < 200; i++) {
        struct mutex m = MUTEX_INIT(LEAF);
        pthread_t t;
        atomic_store(&sleeper_in, false);
        lock(&m);
        start(&t, lock_once, &m);
        while (atomic_load(&m.key) != 2)
            osyield();
        CHECK(!atomic_load(&sleeper_in));
        unlock(&m);
        join(t);
        CHECK(atomic_load(&sleeper_in));
        CHECK_EQ(atomic_load(&m.key), 0u);
    }
}

/* What unlock_brief does when somebody goes to sleep between its look and its
 * store: nobody is woken. */
static void test_overwritten_sleeper(void)
{
    for (int i = 0; i < 20; i++) {
        struct mutex m = MUTEX_INIT(CHAN);
        pthread_t t;
        atomic_store(&sleeper_in, false);
        lock(&m);
        start(&t, lock_once, &m);
        while (atomic_load(&m.key) != 2)
            osyield();
        lock_rank_released(&m);
        atomic_store(&m.key, 0);
        join(t);
        CHECK(atomic_load(&sleeper_in));
        CHECK_EQ(atomic_load(&m.key), 0u);
    }
}

static _Atomic uint64_t spin_taken;
static _Atomic bool spin_stop;

static void *take_and_leave(void *arg)
{
    struct mutex *m = arg;
    while (!atomic_load(&spin_stop)) {
        lock(m);
        atomic_fetch_add(&spin_taken, 1);
        unlock(m);
    }
    return NULL;
}

/* Sections this short are waited out by spinning: both get through, however
 * the two are scheduled. */
static void test_spinning(void)
{
    struct mutex m = MUTEX_INIT(LEAF);
    pthread_t t;
    atomic_store(&spin_stop, false);
    atomic_store(&spin_taken, 0);
    start(&t, take_and_leave, &m);
    for (int i = 0; i < 200000 || atomic_load(&spin_taken) < 1000; i++) {
        lock(&m);
        procyield(1);
        unlock(&m);
    }
    atomic_store(&spin_stop, true);
    join(t);
}

static void test_errno_is_kept(void)
{
    struct mutex m = MUTEX_INIT(LEAF);
    struct note n;
    pthread_t t;
    lock(&m);
    start(&t, lock_once, &m);
    while (atomic_load(&m.key) != 2)
        osyield();
    errno = 77;
    unlock(&m);
    CHECK_EQ(errno, 77);
    noteclear(&n);
    CHECK(!notetsleep(&n, 1000));
    CHECK_EQ(errno, 77);
    join(t);
}

static void do_unlock_free(void)
{
    struct mutex m = MUTEX_INIT(NONE);
    unlock(&m);
}

static void test_unlock_of_free_lock_throws(void)
{
    CHECK_THROWS(do_unlock_free, NULL, "unlock of a lock that is not held");
}

static void do_init_bad_rank(void)
{
    struct mutex m;
    mutex_init(&m, (enum lock_rank)(RANK_LEAF + 1));
}

static void test_bad_rank_throws(void)
{
    CHECK_THROWS(do_init_bad_rank, NULL, "assertion failed");
}

/* --- notes --------------------------------------------------------------- */

static struct note ping, pong;
static uint64_t plain; /* handed back and forth by the notes alone */

static void *answer(void *arg)
{
    int rounds = *(int *)arg;
    for (int i = 0; i < rounds; i++) {
        notesleep(&ping);
        noteclear(&ping);
        plain++;
        notewakeup(&pong);
    }
    return NULL;
}

static void test_note_ping_pong(void)
{
    int rounds = 20000;
    pthread_t t;
    noteclear(&ping);
    noteclear(&pong);
    plain = 0;
    start(&t, answer, &rounds);
    for (int i = 0; i < rounds; i++) {
        plain++;
        notewakeup(&ping);
        if (i % 2 == 0)
            notesleep(&pong);
        else
            CHECK(notetsleep(&pong, INT64_MAX));
        noteclear(&pong);
        CHECK_EQ(plain, 2 * ((uint64_t)i + 1));
    }
    join(t);
}

static void test_note_timeout(void)
{
    struct note n;
    noteclear(&n);
    CHECK(!notetsleep(&n, 0));
    int64_t before = nanotime();
    CHECK(!notetsleep(&n, 5 * 1000 * 1000));
    CHECK_GE(nanotime() - before, 5 * 1000 * 1000);
    notewakeup(&n);
    CHECK(notetsleep(&n, 0));
    CHECK(notetsleep(&n, 1000));
    CHECK(notetsleep(&n, -1));
    notesleep(&n);
}

static void *wake_it(void *arg)
{
    notewakeup(arg);
    return NULL;
}

static void test_note_without_limit(void)
{
    struct note n;
    pthread_t t;
    noteclear(&n);
    start(&t, wake_it, &n);
    CHECK(notetsleep(&n, -1));
    join(t);
}

static void do_wake_twice(void)
{
    struct note n;
    noteclear(&n);
    notewakeup(&n);
    notewakeup(&n);
}

static void test_double_wakeup_throws(void)
{
    CHECK_THROWS(do_wake_twice, NULL, "double wakeup of a note");
}

/* --- raw futex ----------------------------------------------------------- */

static void test_futex_results(void)
{
    _Atomic uint32_t word = 5;
    CHECK_EQ(futex_wait(&word, 4, -1), -EAGAIN);
    CHECK_EQ(futex_wait(&word, 5, 0), -ETIMEDOUT);
    CHECK_EQ(futex_wait(&word, 5, 1000 * 1000), -ETIMEDOUT);
    CHECK_EQ(futex_wake(&word, 1), 0);
    CHECK_EQ(futex_wake(&word, UINT32_MAX), 0);
    void *closed =
        mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(closed != MAP_FAILED);
    CHECK_EQ(futex_wait(closed, 0, 0), -EFAULT);
    munmap(closed, 4096);
}

/* --- ranks --------------------------------------------------------------- */

static struct mutex chans[2] = {MUTEX_INIT(CHAN), MUTEX_INIT(CHAN)};
static struct mutex waitqs[2] = {MUTEX_INIT(WAITQ), MUTEX_INIT(WAITQ)};
static struct mutex leaves[2] = {MUTEX_INIT(LEAF), MUTEX_INIT(LEAF)};
static struct mutex sched_lock = MUTEX_INIT(SCHED);
static struct mutex unranked = MUTEX_INIT(NONE);

static void test_ranks_in_order(void)
{
    lock(&chans[0]);
    lock(&chans[1]);
    lock(&waitqs[0]);
    lock(&waitqs[1]);
    lock(&sched_lock);
    lock(&unranked);
    CHECK(trylock(&leaves[0]));
    /* Release in any order: what is left stays ordered. */
    unlock(&chans[1]);
    unlock(&leaves[0]);
    unlock(&waitqs[0]);
    unlock(&sched_lock);
    lock(&sched_lock);
    unlock(&unranked);
    unlock(&sched_lock);
    unlock(&chans[0]);
    unlock(&waitqs[1]);
    lock_ranks_none_held();
}

static void *unlock_it(void *arg)
{
    lock_rank_acquired(arg);
    unlock(arg);
    lock_ranks_none_held();
    return NULL;
}

static void test_lock_changes_hands(void)
{
    pthread_t t;
    lock(&chans[0]);
    lock(&sched_lock);
    lock_rank_released(&chans[0]);
    start(&t, unlock_it, &chans[0]);
    join(t);
    CHECK(!lock_held(&chans[0]));
    unlock(&sched_lock);
    lock_ranks_none_held();
}

#if TARN_CHECKS >= 2
#define NEED_RANKS() ((void)0)
#else
#define NEED_RANKS() SKIP("lock ranks are checked in debug builds only")
#endif

static void do_wrong_order(void)
{
    lock(&sched_lock);
    lock(&chans[0]);
}

static void do_wrong_order_deep(void)
{
    lock(&chans[0]);
    lock(&sched_lock);
    lock(&leaves[0]);
    unlock(&leaves[0]);
    unlock(&chans[0]);
    lock(&waitqs[0]);
}

static void do_wrong_trylock(void)
{
    lock(&leaves[0]);
    (void)trylock(&sched_lock);
}

static void do_same_rank(void)
{
    lock(&leaves[0]);
    lock(&leaves[1]);
}

static void do_chans_backwards(void)
{
    lock(&chans[1]);
    lock(&chans[0]);
}

static void do_waitqs_backwards(void)
{
    lock(&waitqs[1]);
    lock(&waitqs[0]);
}

static void do_lock_twice(void)
{
    lock(&chans[0]);
    lock(&chans[0]);
}

static void do_unlock_not_mine(void)
{
    lock(&sched_lock);
    lock_rank_released(&sched_lock);
    unlock(&sched_lock);
}

static void do_none_held(void)
{
    lock(&leaves[0]);
    lock_ranks_none_held();
}

static void do_take_over_wrong(void)
{
    lock(&chans[0]);
    lock_rank_released(&chans[0]);
    lock(&sched_lock);
    lock_rank_acquired(&chans[0]);
}

static void test_rank_violations_throw(void)
{
    NEED_RANKS();
    CHECK_THROWS(do_wrong_order, NULL, "lock order: taking CHAN (");
    CHECK_THROWS(do_wrong_order, NULL, ") while holding SCHED (");
    CHECK_THROWS(do_wrong_order_deep, NULL, "taking WAITQ (");
    CHECK_THROWS(do_wrong_order_deep, NULL, "while holding SCHED (");
    CHECK_THROWS(do_wrong_trylock, NULL, "taking SCHED (");
    CHECK_THROWS(do_same_rank, NULL, "while holding LEAF (");
    CHECK_THROWS(do_chans_backwards, NULL, "taking CHAN (");
    CHECK_THROWS(do_waitqs_backwards, NULL, "taking WAITQ (");
    CHECK_THROWS(do_lock_twice, NULL, "taking CHAN (");
    CHECK_THROWS(do_unlock_not_mine, NULL, "releasing SCHED (");
    CHECK_THROWS(do_none_held, NULL, "LEAF (");
    CHECK_THROWS(do_take_over_wrong, NULL, "taking CHAN (");
}

int main(int argc, char **argv)
{
    harness_init(argc, argv);
    RUN(test_mutual_exclusion);
    RUN(test_trylock);
    RUN(test_sleeper_is_woken);
    RUN(test_overwritten_sleeper);
    RUN(test_spinning);
    RUN(test_errno_is_kept);
    RUN(test_unlock_of_free_lock_throws);
    RUN(test_bad_rank_throws);
    RUN(test_note_ping_pong);
    RUN(test_note_timeout);
    RUN(test_note_without_limit);
    RUN(test_double_wakeup_throws);
    RUN(test_futex_results);
    RUN(test_ranks_in_order);
    RUN(test_lock_changes_hands);
    RUN(test_rank_violations_throw);
    return harness_done();
}
