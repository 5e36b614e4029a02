/* threads.h - all that the interpreter knows of concurrency.
 *
 * On Tarn goroutines and its channels; with the other memory managements threads,
 * and channels of one mutex and conditions. There a select that sends on a channel
 * without a buffer meets receivers that wait in thr_recv only, not in a select.
 *
 * thr_lock is for short critical sections of the interpreter itself; zeroed it is
 * valid, it may lie in an object. What chan_new returns is an object.
 */
#ifndef SCHEME_THREADS_H_
#define SCHEME_THREADS_H_

#include "memory.h"

enum { THR_OK, THR_CLOSED, THR_FAILED };

struct thr_case {
    void *chan;
    bool send;
    V value;     /* to send; what came */
    bool closed; /* out */
};

#ifdef MEMORY_TARN

typedef tarn_mutex thr_lock;
#define thr_acquire(l) tarn_mutex_lock(l)
#define thr_release(l) tarn_mutex_unlock(l)
#define thr_yield() tarn_yield()
#define thr_sleep(ns) tarn_sleep(ns)
#define thr_count() tarn_goroutines()
#define thr_parallel() tarn_procs()

static inline int thr_go(void (*fn)(void *), void *arg)
{
    return tarn_go(fn, arg) == TARN_OK ? THR_OK : THR_FAILED;
}

#define chan_new(capacity) tarn_chan_new(sizeof(V), capacity)

static inline int chan_send(void *c, V v)
{
    return tarn_chan_send(c, &v) == TARN_OK ? THR_OK : THR_CLOSED;
}

static inline int chan_recv(void *c, V *v)
{
    return tarn_chan_recv(c, v) == TARN_OK ? THR_OK : THR_CLOSED;
}

static inline int chan_close(void *c)
{
    return tarn_chan_close(c) == TARN_OK ? THR_OK : THR_CLOSED;
}

#else

#include <pthread.h>

typedef pthread_mutex_t thr_lock;
#define thr_acquire(l) pthread_mutex_lock(l)
#define thr_release(l) pthread_mutex_unlock(l)
void thr_yield(void);
void thr_sleep(int64_t ns);
size_t thr_count(void);
size_t thr_parallel(void);
int thr_go(void (*fn)(void *), void *arg);
void *chan_new(size_t capacity);
int chan_send(void *c, V v);
int chan_recv(void *c, V *v);
int chan_close(void *c);

#endif

/* Waits until one of n cases can go, does it and returns its index; -1 if none can
 * and has_default. */
int thr_select(struct thr_case *cases, size_t n, bool has_default);
int64_t thr_now(void);
/* Sends true to a channel after ns nanoseconds; the channel. */
void *thr_after(int64_t ns, V value);

#endif
