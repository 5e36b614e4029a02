/* tarn/sync.h - mutex, condition, wait group, semaphore for goroutines.
 *
 * All are plain structs, valid when zeroed, and may lie in globals, managed
 * objects (their words are not pointers to managed memory) or malloc'ed memory;
 * never on a copying stack if another goroutine uses them. They must not be
 * copied or freed in use. They block goroutines, not threads; for goroutines
 * only. Misuse (unlock of an unlocked mutex, a negative count) ends the
 * process with a message.
 */
#ifndef TARN_SYNC_H_
#define TARN_SYNC_H_

#include "tarn/defs.h"

TARN_BEGIN_DECLS

struct tarn_waitq_ { /* private: FIFO of parked goroutines */
    uint32_t lock;
    uint32_t n;
    void *head;
    void *tail;
};

/* Locked by one goroutine at a time. */
typedef struct tarn_mutex {
    uint32_t state;       /* private */
    uint32_t reserved;    /* private */
    struct tarn_waitq_ q; /* private */
} tarn_mutex;

/* Not recursive. Barging, with hand-off to a waiter of more than 1 ms. */
TARN_API void tarn_mutex_lock(tarn_mutex *m);
/* True if it was free and is the caller's now. Does not block. */
TARN_API bool tarn_mutex_try_lock(tarn_mutex *m);
/* By any goroutine. preempts. */
TARN_API void tarn_mutex_unlock(tarn_mutex *m);

/* A condition variable, to be used with one mutex. */
typedef struct tarn_cond {
    struct tarn_waitq_ q; /* private */
} tarn_cond;

/* Unlocks m, waits, locks m. No spurious wake-ups. */
TARN_API void tarn_cond_wait(tarn_cond *c, tarn_mutex *m);
/* Wakes the one that has waited longest; all. The caller need not hold the mutex. They
 * do not block. */
TARN_API void tarn_cond_signal(tarn_cond *c);
TARN_API void tarn_cond_broadcast(tarn_cond *c);

/* Counts what is to be waited for. */
typedef struct tarn_waitgroup {
    int64_t count;        /* private */
    struct tarn_waitq_ q; /* private */
} tarn_waitgroup;

/* Adds delta, which may be negative, to the count; at 0 all who wait are woken. Before
 * the goroutine is started that is counted. Does not block. */
TARN_API void tarn_waitgroup_add(tarn_waitgroup *w, int64_t delta);
/* Adds -1. Does not block. */
TARN_API void tarn_waitgroup_done(tarn_waitgroup *w);
/* Waits until the count is 0. */
TARN_API void tarn_waitgroup_wait(tarn_waitgroup *w);

/* A counting semaphore. */
typedef struct tarn_sema {
    int64_t count; /* may be set to an initial value >= 0 before first use */
    struct tarn_waitq_ q; /* private */
} tarn_sema;

/* Takes 1 from the count, or waits until it is given it. */
TARN_API void tarn_sema_acquire(tarn_sema *s);
/* The same if it need not wait; else false. */
TARN_API bool tarn_sema_try_acquire(tarn_sema *s);
/* Adds 1, or gives it to the one that has waited longest. Does not block. */
TARN_API void tarn_sema_release(tarn_sema *s);

TARN_END_DECLS
#endif
