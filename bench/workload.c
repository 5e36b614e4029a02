/* bench/workload.c - workers, the open loop's clock, and the choice of program.
 */
#include "bench/workload.h"

static void worker_main(void *arg)
{
    struct worker *w = arg;
    w->body(w);
    coll_worker_done();
}

void run_workers(struct bench *b, worker_body body)
{
    int64_t n = b->params.threads;
    if (n == 1) {
        body(&b->workers[0]);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        b->workers[i].body = body;
        coll_spawn(worker_main, &b->workers[i]);
    }
    coll_join();
}

void worker_steady(struct worker *w)
{
    if (w->origin != 0)
        return;
    const struct params *p = w->params;
    w->origin = w->last = nanotime();
    w->deadline =
        p->seconds == 0 ? INT64_MAX : w->origin + (int64_t)(p->seconds * 1e9);
    /* The rate is that of all workers; their turns are spread evenly. */
    w->period = p->rate == 0 ? 0 : 1e9 * (double)p->threads / p->rate;
    w->origin += (int64_t)(w->period * (double)w->index / (double)p->threads);
}

/* Sleeps as long as a wake-up that is late by the usual amount does no harm and
 * spins for the rest. Returns the scheduled start. */
int64_t step_wait(struct worker *w)
{
    const int64_t wakeup = 80000;
    int64_t due = w->origin + (int64_t)((double)w->scheduled++ * w->period);
    for (;;) {
        int64_t left = due - nanotime();
        if (left <= 0)
            return due;
        if (left > 2 * wakeup) {
            coll_sleep(left - wakeup);
        } else {
            coll_poll();
            procyield(4);
        }
    }
}

void workload_main(void *arg)
{
    struct bench *b = arg;
    static void (*const run[WORKLOADS])(struct bench *) = {
        [WORKLOAD_GCBENCH] = gcbench_run,
        [WORKLOAD_BINARY_TREES] = binary_trees_run,
        [WORKLOAD_MESSAGE_STORE] = message_store_run,
        [WORKLOAD_GRAPH] = graph_run,
    };
    b->epoch = nanotime();
    for (int64_t i = 0; i < b->params.threads; i++)
        b->workers[i].epoch = b->epoch;
    run[b->params.workload](b);
    b->end = nanotime();
}
