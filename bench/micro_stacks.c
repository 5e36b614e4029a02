/* bench/micro_stacks.c - goroutines of the micro-benchmarks of stacks. Compiled
 * for copying stacks. */
#include "bench/micro_managed.h"

#include <pthread.h>
#include <stdlib.h>

#define NI __attribute__((noinline))

static tarn_waitgroup all_done;

/* --- a call ---------------------------------------------------------------- */

/* The frame makes gcc and clang check. */
#define CALLED(name, attribute)                                                \
    static NI attribute long name(long v)                                      \
    {                                                                          \
        volatile long local = v;                                               \
        return local + 1;                                                      \
    }
CALLED(checked, )
CALLED(unchecked, __attribute__((no_split_stack)))

long micro_calls(bool check, long n)
{
    long v = 0;
    if (check)
        while (n-- > 0)
            v = checked(v);
    else
        while (n-- > 0)
            v = unchecked(v);
    return v;
}

/* --- depth ----------------------------------------------------------------- */

#define FRAME_WORDS 12

/* Depth, not addresses: the stack moves. */
static NI long down(long depth, long v)
{
    volatile long local[FRAME_WORDS];
    local[v % FRAME_WORDS] = v;
    if (depth > 0)
        v = down(depth - 1, v + 1);
    return v + local[v % FRAME_WORDS];
}

static NI __attribute__((no_split_stack)) long down_unchecked(long depth,
                                                              long v)
{
    volatile long local[FRAME_WORDS];
    local[v % FRAME_WORDS] = v;
    if (depth > 0)
        v = down_unchecked(depth - 1, v + 1);
    return v + local[v % FRAME_WORDS];
}

/* Bytes that a level takes, by both: measured, since compilers differ. */
static NI __attribute__((no_split_stack)) long level_bytes(char *outer,
                                                           long depth)
{
    volatile long local[FRAME_WORDS];
    local[depth % FRAME_WORDS] = depth;
    char *here = (char *)(uintptr_t)local;
    if (depth > 0)
        return level_bytes(here, depth - 1) + 0 * local[0];
    return outer - here;
}

static long depth_of(size_t bytes)
{
    return (long)(bytes / (size_t)level_bytes(NULL, 1));
}

static volatile long sink;
static long deep_levels;

static void deep_goroutine(void *unused)
{
    (void)unused;
    sink = down(deep_levels, 0);
    tarn_waitgroup_done(&all_done);
}

static void *deep_thread(void *unused)
{
    (void)unused;
    sink = down_unchecked(deep_levels, 0);
    return NULL;
}

void micro_deep(bool thread, size_t bytes)
{
    deep_levels = depth_of(bytes);
    if (thread) {
        pthread_t t;
        pthread_attr_t attr;
        pthread_attr_init(&attr);
        pthread_attr_setstacksize(&attr, bytes + bytes / 4);
        if (pthread_create(&t, &attr, deep_thread, NULL) != 0)
            abort();
        pthread_join(t, NULL);
        pthread_attr_destroy(&attr);
        return;
    }
    tarn_waitgroup_add(&all_done, 1);
    if (tarn_go(deep_goroutine, NULL) != TARN_OK)
        abort();
    tarn_waitgroup_wait(&all_done);
}

/* --- the first growth ------------------------------------------------------ */

static int64_t grow_took;

/* More than a first stack has. */
static NI long large_frame(long v)
{
    volatile char room[52 << 10];
    room[v & 1023] = (char)v;
    return room[v & 1023];
}

static void grower(void *unused)
{
    (void)unused;
    int64_t t = tarn_now();
    sink = large_frame((long)t & 511);
    grow_took = tarn_now() - t;
    tarn_waitgroup_done(&all_done);
}

int64_t micro_grow(void)
{
    tarn_waitgroup_add(&all_done, 1);
    if (tarn_go(grower, NULL) != TARN_OK)
        abort();
    tarn_waitgroup_wait(&all_done);
    return grow_took;
}

/* --- those that wait -------------------------------------------------------- */

static tarn_chan *gate;

static void waiter(void *unused)
{
    (void)unused;
    long v;
    tarn_chan_recv(gate, &v);
    tarn_waitgroup_done(&all_done);
}

static NI long wait_below(long depth, long v)
{
    volatile long local[FRAME_WORDS];
    local[v % FRAME_WORDS] = v;
    if (depth > 0)
        v = wait_below(depth - 1, v + 1);
    else
        tarn_chan_recv(gate, &v);
    return v + local[v % FRAME_WORDS];
}

static void deep_waiter(void *unused)
{
    (void)unused;
    sink = wait_below(deep_levels, 0);
    tarn_waitgroup_done(&all_done);
}

/* Has been deep, and waits where it is not. */
static _Atomic long grown;

static void grown_waiter(void *unused)
{
    sink = down(deep_levels, 0);
    grown++;
    waiter(unused);
}

static void park(long n, size_t bytes, tarn_fn fn)
{
    if (gate == NULL)
        gate = tarn_chan_new(sizeof(long), 0);
    deep_levels = bytes ? depth_of(bytes) : 0;
    tarn_waitgroup_add(&all_done, n);
    for (long i = 0; i < n; i++) {
        if (tarn_go(fn, NULL) != TARN_OK)
            abort();
        if (i % 128 == 127)
            tarn_yield();
    }
    /* Until all of them wait: a yield comes back when everybody had a turn. */
    for (int i = 0; i < 3; i++)
        tarn_yield();
}

void micro_park(long n, size_t bytes)
{
    park(n, bytes, bytes ? deep_waiter : waiter);
}

void micro_park_grown(long n, size_t bytes)
{
    grown = 0;
    park(n, bytes, grown_waiter);
    while (grown < n)
        tarn_yield();
}

void micro_unpark(void)
{
    tarn_chan_close(gate);
    gate = NULL;
    tarn_waitgroup_wait(&all_done);
}
