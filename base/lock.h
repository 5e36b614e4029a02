/* base/lock.h - futex lock with ranks, one-shot note.
 *
 * A lock spins briefly, yields the CPU, then sleeps in futex(2). The holder must
 * not block in a goroutine sense (park) nor run embedder code; it may be on any
 * stack. A note is one event: noteclear; then one thread waits and one wakes.
 */
#ifndef TARN_BASE_LOCK_H_
#define TARN_BASE_LOCK_H_

#include "base/base.h"

/* Ranks: a thread that holds a lock may take only locks of higher rank. Leaf
 * locks come last. RANK_NONE is never checked (test code only). */
#define LOCK_RANKS(X)                                                          \
    X(NONE)                                                                    \
    X(WORLD)     /* gc/sched: one stopper of the world at a time */            \
    X(TYPES)     /* heap: type table */                                        \
    X(ROOTS)     /* gc: root range list */                                     \
    X(SWEEPWAIT) /* gc: goroutines waiting for cycle or sweep */               \
    X(CHAN)      /* sched: a channel (several: in address order) */            \
    X(WAITQ)     /* sched: mutex, cond, wait group, semaphore queues */        \
    X(TIMERS)    /* sched: one P's timers */                                   \
    X(SCHED)     /* sched: global queue, idle lists */                         \
    X(ALLG)      /* sched: list of all goroutines */                           \
    X(GFREE)     /* sched: dead goroutines */                                  \
    X(GSCAN)     /* a G's scan bit, modelled as a lock */                      \
    X(STACKPOOL) /* stackscan: global stack pool */                            \
    X(SPECIALS)  /* gc: specials of some spans */                              \
    X(WEAKMAP)   /* gc: the entries of one weak map */                         \
    X(WORKBUFS)  /* gc: full and empty mark buffers */                         \
    X(CENTRAL)   /* heap: one slot's span lists */                             \
    X(SPANS)     /* heap: free span structs */                                 \
    X(PAGES)     /* heap: page allocator */                                    \
    X(LEAF)      /* anything that takes no further lock */

enum lock_rank {
#define LOCK_RANK_ENUM_(n) RANK_##n,
    LOCK_RANKS(LOCK_RANK_ENUM_)
#undef LOCK_RANK_ENUM_
};

struct mutex {
    _Atomic uint32_t key; /* 0 free, 1 held, 2 held with sleepers */
    uint32_t rank;
};
#define MUTEX_INIT(r)                                                          \
    {                                                                          \
        0, RANK_##r                                                            \
    }

void mutex_init(struct mutex *m, enum lock_rank rank);
bool trylock(struct mutex *m);
void lock_slow(struct mutex *m); /* these four are what lock and unlock */
void unlock_slow(struct mutex *m, uint32_t key); /* are made of */
ALWAYS_INLINE void lock_unchecked(struct mutex *m)
{
    uint32_t k = 0;
    if (unlikely(!atomic_compare_exchange_strong_explicit(
            &m->key, &k, 1, memory_order_acquire, memory_order_relaxed)))
        lock_slow(m);
}
ALWAYS_INLINE void unlock_unchecked(struct mutex *m)
{
    uint32_t k = atomic_exchange_explicit(&m->key, 0, memory_order_release);
    if (unlikely(k != 1))
        unlock_slow(m, k);
}
/* For locks of RANK_CHAN. A plain store is three times cheaper than an exchange,
 * but may overwrite the mark of a thread that goes to sleep just now, which then
 * is not woken. So those that wait for these locks sleep for LOCK_NAP_NS at
 * most, and look again. */
#define LOCK_NAP_NS 200000
ALWAYS_INLINE void unlock_brief_unchecked(struct mutex *m)
{
    if (likely(atomic_load_explicit(&m->key, memory_order_relaxed) == 1))
        atomic_store_explicit(&m->key, 0, memory_order_release);
    else
        unlock_unchecked(m);
}
#if TARN_CHECKS >= 2
void lock(struct mutex *m);
void unlock(struct mutex *m);
void unlock_brief(struct mutex *m);
#else
ALWAYS_INLINE void unlock_brief(struct mutex *m)
{
    unlock_brief_unchecked(m);
}
ALWAYS_INLINE void lock(struct mutex *m)
{
    lock_unchecked(m);
}
ALWAYS_INLINE void unlock(struct mutex *m)
{
    unlock_unchecked(m);
}
#endif
bool lock_held(const struct mutex *m); /* by somebody: for assertions */
/* Debug builds: forget or check ranks held by this thread. A lock that another
 * thread (or goroutine on another M) will release is handed over with these. */
void lock_rank_released(struct mutex *m); /* I hold it; another will unlock */
void lock_rank_acquired(struct mutex *m); /* I took over an already held lock */
void lock_ranks_none_held(void);          /* asserts, in debug builds */

#define NOTE_WOKEN 1u
struct note {
    _Atomic uint32_t key; /* 0 clear, 1 woken, 2 clear and somebody sleeps */
};
void noteclear(struct note *n);
void notewakeup(struct note *n); /* throws if already woken */
void notesleep(struct note *n);
/* False on timeout. ns < 0: no limit. */
bool notetsleep(struct note *n, int64_t ns);

ALWAYS_INLINE bool noteisset(struct note *n)
{
    return atomic_load_explicit(&n->key, memory_order_acquire) == NOTE_WOKEN;
}

/* Raw futex, for the structures that embed their own words. Returns 0 or
 * -errno; ns < 0: no limit. */
int futex_wait(_Atomic uint32_t *addr, uint32_t val, int64_t ns);
int futex_wake(_Atomic uint32_t *addr, uint32_t count);

#endif
