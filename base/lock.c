/* base/lock.c - futex lock, notes, and the checker of lock ranks.
 *
 * Invariants
 *  1. key is 2 whenever a thread may be asleep on the lock: a sleeper puts 2
 *     there itself before it sleeps, and takes the lock with 2 when it wakes
 *     because others may still be asleep. So unlock may skip the futex at 1.
 *     unlock_brief may break this for a lock of rank CHAN, whose sleepers wake
 *     by themselves.
 *  2. (TARN_CHECKS >= 2) A thread's list of held locks is strictly increasing
 *     in rank, or in address among CHAN or among WAITQ locks; comparing a new
 *     lock with the last of the list is therefore comparing it with all.
 *
 * Everything here runs on goroutine stacks of a few KiB and inside signal
 * handlers, so frames are small and the futex call does not touch errno.
 *
 * Locks: this is where they are made.
 */
#include "base/lock.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>

enum { SPIN_ROUNDS = 4, SPIN_PAUSES = 30, YIELD_ROUNDS = 2 };

/* 0 where the holder cannot run while we spin. Before the constructor has run
 * there is nothing to spin for either. */
static uint32_t spin_rounds;

__attribute__((constructor)) static void lock_setup(void)
{
    if (cpu_count() > 1)
        spin_rounds = SPIN_ROUNDS;
}

/* --- futex ------------------------------------------------------------- */

/* By hand because syscall(3) writes errno: the lock of a caller that is about
 * to read errno must not change it. */
static long futex(_Atomic uint32_t *addr, long op, uint32_t val,
                  const struct timespec *timeout)
{
    long result;
    register const struct timespec *r10 __asm__("r10") = timeout;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"((long)SYS_futex), "D"(addr), "S"(op), "d"((long)val),
                       "r"(r10)
                     : "rcx", "r11", "memory");
    return result;
}

int futex_wait(_Atomic uint32_t *addr, uint32_t val, int64_t ns)
{
    struct timespec ts;
    if (ns >= 0) {
        ts.tv_sec = ns / 1000000000;
        ts.tv_nsec = ns % 1000000000;
    }
    return (int)futex(addr, FUTEX_WAIT_PRIVATE, val, ns >= 0 ? &ts : NULL);
}

int futex_wake(_Atomic uint32_t *addr, uint32_t count)
{
    /* The kernel takes the count as an int. */
    long n = futex(addr, FUTEX_WAKE_PRIVATE,
                   count > INT32_MAX ? INT32_MAX : count, NULL);
    return n < 0 ? (int)n : 0;
}

/* --- ranks ------------------------------------------------------------- */

#if TARN_CHECKS >= 2

enum { HELD_MAX = 64 };

static __thread struct {
    uint32_t count;
    const struct mutex *lock[HELD_MAX];
} held __attribute__((tls_model("initial-exec")));

static const char *rank_name(uint32_t rank)
{
    static const char *const names[] = {
#define RANK_NAME_(n) #n,
        LOCK_RANKS(RANK_NAME_)
#undef RANK_NAME_
    };
    return rank < ARRAY_LEN(names) ? names[rank] : "?";
}

static bool in_order(const struct mutex *a, const struct mutex *b)
{
    if (a->rank != b->rank)
        return a->rank < b->rank;
    return (a->rank == RANK_CHAN || a->rank == RANK_WAITQ) && a < b;
}

static void rank_check(const struct mutex *m)
{
    if (m->rank == RANK_NONE || held.count == 0)
        return;
    const struct mutex *last = held.lock[held.count - 1];
    if (unlikely(!in_order(last, m)))
        throw("lock order: taking %s (%p) while holding %s (%p)",
              rank_name(m->rank), (const void *)m, rank_name(last->rank),
              (const void *)last);
}

static void rank_push(const struct mutex *m)
{
    if (m->rank == RANK_NONE)
        return;
    if (unlikely(held.count == HELD_MAX))
        throw("lock order: a thread holds %d locks", HELD_MAX);
    held.lock[held.count++] = m;
}

static void rank_pop(const struct mutex *m)
{
    if (m->rank == RANK_NONE)
        return;
    for (uint32_t i = held.count; i-- > 0;) {
        if (held.lock[i] != m)
            continue;
        held.count--;
        for (; i < held.count; i++)
            held.lock[i] = held.lock[i + 1];
        return;
    }
    throw("lock order: releasing %s (%p), which this thread does not hold",
          rank_name(m->rank), (const void *)m);
}

void lock_ranks_none_held(void)
{
    if (unlikely(held.count != 0))
        throw("lock order: %s (%p) is held where no lock may be",
              rank_name(held.lock[held.count - 1]->rank),
              (const void *)held.lock[held.count - 1]);
}

#else

#define rank_check(m) ((void)(m))
#define rank_push(m) ((void)(m))
#define rank_pop(m) ((void)(m))

void lock_ranks_none_held(void) {}

#endif

void lock_rank_released(struct mutex *m)
{
    DASSERT(lock_held(m));
    rank_pop(m);
}

void lock_rank_acquired(struct mutex *m)
{
    DASSERT(lock_held(m));
    rank_check(m);
    rank_push(m);
}

/* --- mutex ------------------------------------------------------------- */

void mutex_init(struct mutex *m, enum lock_rank rank)
{
    ASSERT(rank >= RANK_NONE && rank <= RANK_LEAF);
    m->rank = rank;
    atomic_store_explicit(&m->key, 0, memory_order_relaxed);
}

/* Takes the lock if it is free now, leaving `as` in the key. Looks before it
 * tries: a failing CAS would take the cache line from the holder. */
static bool grab(struct mutex *m, uint32_t as)
{
    uint32_t k = atomic_load_explicit(&m->key, memory_order_relaxed);
    return k == 0 &&
           atomic_compare_exchange_strong_explicit(
               &m->key, &k, as, memory_order_acquire, memory_order_relaxed);
}

NOINLINE void lock_slow(struct mutex *m)
{
    uint32_t as = 1; /* 2 once we have slept: invariant 1 */
    for (;;) {
        for (uint32_t i = 0; i < spin_rounds; i++) {
            if (grab(m, as))
                return;
            procyield(SPIN_PAUSES);
        }
        for (uint32_t i = 0; i < YIELD_ROUNDS; i++) {
            if (grab(m, as))
                return;
            osyield();
        }
        if (atomic_exchange_explicit(&m->key, 2, memory_order_acquire) == 0)
            return;
        as = 2;
        futex_wait(&m->key, 2, m->rank == RANK_CHAN ? LOCK_NAP_NS : -1);
    }
}

#if TARN_CHECKS >= 2
void lock(struct mutex *m)
{
    rank_check(m);
    lock_unchecked(m);
    rank_push(m);
}

void unlock(struct mutex *m)
{
    rank_pop(m);
    unlock_unchecked(m);
}

void unlock_brief(struct mutex *m)
{
    DASSERT(m->rank == RANK_CHAN);
    rank_pop(m);
    unlock_brief_unchecked(m);
}
#endif

bool trylock(struct mutex *m)
{
    uint32_t k = 0;
    if (!atomic_compare_exchange_strong_explicit(
            &m->key, &k, 1, memory_order_acquire, memory_order_relaxed))
        return false;
    rank_check(m);
    rank_push(m);
    return true;
}

COLD void unlock_slow(struct mutex *m, uint32_t k)
{
    if (k == 0)
        throw("unlock of a lock that is not held (%p)", (void *)m);
    futex_wake(&m->key, 1);
}

bool lock_held(const struct mutex *m)
{
    return atomic_load_explicit(&m->key, memory_order_relaxed) != 0;
}

/* --- note -------------------------------------------------------------- */

void noteclear(struct note *n)
{
    atomic_store_explicit(&n->key, 0, memory_order_relaxed);
}

#define NOTE_SLEEPER 2u

void notewakeup(struct note *n)
{
    uint32_t was =
        atomic_exchange_explicit(&n->key, NOTE_WOKEN, memory_order_release);
    if (was == NOTE_WOKEN)
        throw("double wakeup of a note (%p)", (void *)n);
    /* The sleeper may be gone and the note reused by now; then this is at worst
     * a wakeup for no reason, which every futex sleeper tolerates. */
    if (was == NOTE_SLEEPER)
        futex_wake(&n->key, 1);
}

/* Announces a sleeper, so that who wakes nobody need not call the kernel. False: woken
 * already. */
static bool note_announce(struct note *n)
{
    uint32_t k = 0;
    return atomic_compare_exchange_strong_explicit(&n->key, &k, NOTE_SLEEPER,
                                                   memory_order_acquire,
                                                   memory_order_acquire) ||
           k == NOTE_SLEEPER;
}

void notesleep(struct note *n)
{
    while (note_announce(n))
        futex_wait(&n->key, NOTE_SLEEPER, -1);
}

bool notetsleep(struct note *n, int64_t ns)
{
    if (ns < 0) {
        notesleep(n);
        return true;
    }
    int64_t deadline;
    if (__builtin_add_overflow(nanotime(), ns, &deadline))
        deadline = INT64_MAX;
    while (!noteisset(n)) {
        if (ns <= 0)
            return false;
        if (note_announce(n))
            futex_wait(&n->key, NOTE_SLEEPER, ns);
        ns = deadline - nanotime();
    }
    return true;
}
