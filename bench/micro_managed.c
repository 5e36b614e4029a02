/* bench/micro_managed.c - goroutines of the micro-benchmarks. Compiled for
 * copying stacks. */
#include "bench/micro_managed.h"

#include <stdlib.h>

static tarn_waitgroup all_done;

static void start(tarn_fn fn, void *arg)
{
    if (tarn_go(fn, arg) != TARN_OK)
        abort();
}

/* --- channel --------------------------------------------------------------- */

struct channels {
    tarn_chan *there, *back;
};

static void echo(void *varg)
{
    struct channels c = *(struct channels *)varg;
    long v;
    while (tarn_chan_recv(c.there, &v) == TARN_OK)
        tarn_chan_send(c.back, &v);
    tarn_waitgroup_done(&all_done);
}

static void ping(void *varg)
{
    struct channels *c = varg;
    static long rounds_left;
    tarn_chan_recv(c->back, &rounds_left);
    long v = 1;
    for (long i = rounds_left; i > 0; i--) {
        tarn_chan_send(c->there, &v);
        tarn_chan_recv(c->back, &v);
    }
    tarn_chan_close(c->there);
    tarn_waitgroup_done(&all_done);
}

void micro_pingpong(long rounds)
{
    struct channels *c = tarn_alloc_conservative(sizeof(*c));
    tarn_store(&c->there, tarn_chan_new(sizeof(long), 0));
    tarn_store(&c->back, tarn_chan_new(sizeof(long), 0));
    tarn_waitgroup_add(&all_done, 2);
    start(ping, c);
    tarn_chan_send(c->back, &rounds);
    start(echo, c);
    tarn_waitgroup_wait(&all_done);
}

/* --- yield ----------------------------------------------------------------- */

static long yields_each;

static void yielder(void *unused)
{
    (void)unused;
    for (long i = yields_each; i > 0; i--)
        tarn_yield();
    tarn_waitgroup_done(&all_done);
}

void micro_yield(long goroutines, long each)
{
    yields_each = each;
    tarn_waitgroup_add(&all_done, goroutines);
    for (long i = 0; i < goroutines; i++)
        start(yielder, NULL);
    tarn_waitgroup_wait(&all_done);
}

/* --- spawn ----------------------------------------------------------------- */

static void nothing(void *unused)
{
    (void)unused;
    tarn_waitgroup_done(&all_done);
}

void micro_spawn_join(long n)
{
    for (; n > 0; n--) {
        tarn_waitgroup_add(&all_done, 1);
        start(nothing, NULL);
        tarn_waitgroup_wait(&all_done);
    }
}

void micro_spawn_many(long n)
{
    tarn_waitgroup_add(&all_done, n);
    for (; n > 0; n--)
        start(nothing, NULL);
    tarn_waitgroup_wait(&all_done);
}

/* --- loops ----------------------------------------------------------------- */

#define LOOPS_MAX 64
static struct micro_loop loops[LOOPS_MAX];
static int nloops;

void micro_loop_tight(void *vloop)
{
    struct micro_loop *l = vloop;
    while (!l->stop)
        l->turns++;
    tarn_waitgroup_done(&all_done);
}

static __attribute__((noinline)) void *work(int depth)
{
    void *p = tarn_alloc_bytes(32 + 16 * (size_t)depth);
    return depth > 0 ? work(depth - 1) : p;
}

void micro_loop_work(void *vloop)
{
    struct micro_loop *l = vloop;
    while (!l->stop) {
        work(8);
        l->turns++;
    }
    tarn_waitgroup_done(&all_done);
}

struct micro_loop *micro_loops_start(int n, tarn_fn fn)
{
    if (n > LOOPS_MAX)
        abort();
    nloops = n;
    tarn_waitgroup_add(&all_done, n);
    for (int i = 0; i < n; i++) {
        loops[i].turns = 0;
        loops[i].stop = false;
        start(fn, &loops[i]);
    }
    for (int i = 0; i < n; i++)
        while (loops[i].turns == 0)
            tarn_yield();
    return loops;
}

void micro_loops_stop(void)
{
    for (int i = 0; i < nloops; i++)
        loops[i].stop = true;
    tarn_waitgroup_wait(&all_done);
}

/* --- ready ----------------------------------------------------------------- */

static volatile int64_t started_at;

static void note_start(void *unused)
{
    (void)unused;
    started_at = tarn_now();
}

int64_t micro_ready_wait(void)
{
    started_at = 0;
    int64_t t = tarn_now();
    start(note_start, NULL);
    while (started_at == 0)
        ;
    return started_at - t;
}

/* --- stop ------------------------------------------------------------------ */

int64_t micro_stop_world(void)
{
    int64_t t = tarn_now();
    if (tarn_world_stop() != TARN_OK)
        abort();
    t = tarn_now() - t;
    tarn_world_start();
    return t;
}
