/* bench/collector_threads.h - workers as POSIX threads, for the backends whose
 * program is an ordinary one. Included once, by collector_boehm.c (where
 * pthread_create is the collector's) and by collector_mimalloc.c. */
#ifndef TARN_BENCH_COLLECTOR_THREADS_H_
#define TARN_BENCH_COLLECTOR_THREADS_H_

#include <errno.h>
#include <pthread.h>
#include <time.h>

#include "bench/params.h"

static struct {
    pthread_t thread;
    coll_fn fn;
    void *arg;
} spawned[MAX_THREADS];
static size_t spawned_count;

static void *spawned_main(void *arg)
{
    size_t i = (size_t)(uintptr_t)arg;
    spawned[i].fn(spawned[i].arg);
    return NULL;
}

void coll_spawn(coll_fn fn, void *arg)
{
    if (spawned_count == MAX_THREADS)
        bench_fail("too many workers", spawned_count, MAX_THREADS);
    size_t i = spawned_count++;
    spawned[i].fn = fn;
    spawned[i].arg = arg;
    int e = pthread_create(&spawned[i].thread, NULL, spawned_main,
                           (void *)(uintptr_t)i);
    if (e != 0)
        bench_fail("cannot start a thread, errno", (uint64_t)e, 0);
}

void coll_join(void)
{
    while (spawned_count > 0) {
        int e = pthread_join(spawned[--spawned_count].thread, NULL);
        if (e != 0)
            bench_fail("cannot join a thread, errno", (uint64_t)e, 0);
    }
}

static pthread_mutex_t gate_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t gate_opened = PTHREAD_COND_INITIALIZER;
static bool gate_closed;

static void gate_set(bool closed)
{
    pthread_mutex_lock(&gate_mutex);
    gate_closed = closed;
    pthread_cond_broadcast(&gate_opened);
    pthread_mutex_unlock(&gate_mutex);
}

void coll_gate_close(void)
{
    gate_set(true);
}

void coll_gate_wait(void)
{
    pthread_mutex_lock(&gate_mutex);
    while (gate_closed)
        pthread_cond_wait(&gate_opened, &gate_mutex);
    pthread_mutex_unlock(&gate_mutex);
}

void coll_gate_open(void)
{
    gate_set(false);
}

void coll_sleep(int64_t ns)
{
    struct timespec t = {ns / 1000000000, ns % 1000000000};
    while (nanosleep(&t, &t) != 0 && errno == EINTR)
        ;
}

#endif
