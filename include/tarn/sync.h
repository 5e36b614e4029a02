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

typedef struct tarn_mutex {
    uint32_t state;
    uint32_t reserved;
    struct tarn_waitq_ q;
} tarn_mutex;

/* Not recursive. Barging, with hand-off to a waiter of more than 1 ms. */
TARN_API void tarn_mutex_lock(tarn_mutex *m);
TARN_API bool tarn_mutex_try_lock(tarn_mutex *m);
TARN_API void tarn_mutex_unlock(tarn_mutex *m);

typedef struct tarn_cond {
    struct tarn_waitq_ q;
} tarn_cond;

/* Unlocks m, waits, locks m. No spurious wake-ups. */
TARN_API void tarn_cond_wait(tarn_cond *c, tarn_mutex *m);
TARN_API void tarn_cond_signal(tarn_cond *c);
TARN_API void tarn_cond_broadcast(tarn_cond *c);

typedef struct tarn_waitgroup {
    int64_t count;
    struct tarn_waitq_ q;
} tarn_waitgroup;

TARN_API void tarn_waitgroup_add(tarn_waitgroup *w, int64_t delta);
TARN_API void tarn_waitgroup_done(tarn_waitgroup *w);
TARN_API void tarn_waitgroup_wait(tarn_waitgroup *w);

typedef struct tarn_sema {
    int64_t count; /* may be set to an initial value >= 0 before first use */
    struct tarn_waitq_ q;
} tarn_sema;

TARN_API void tarn_sema_acquire(tarn_sema *s);
TARN_API bool tarn_sema_try_acquire(tarn_sema *s);
TARN_API void tarn_sema_release(tarn_sema *s);

TARN_END_DECLS
#endif
