/* bench/workload.c - workers, the open loop's clock, and the choice of program.
 */
#include "bench/workload.h"

#include <math.h>
#include <time.h>

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

int64_t cpu_time(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Sorts, by insertion: qsort would call back from an unmanaged frame. */
static double median_ms(int64_t *ns, int64_t n)
{
    if (n == 0)
        return NAN;
    for (int64_t i = 1; i < n; i++) {
        int64_t v = ns[i], k = i;
        for (; k > 0 && ns[k - 1] > v; k--)
            ns[k] = ns[k - 1];
        ns[k] = v;
    }
    double low = (double)ns[(n - 1) / 2], high = (double)ns[n / 2];
    return (low + high) / 2e6;
}

/* More than enough for a median; later ones are not looked at. */
#define SAMPLES 1024

void force_collections(struct bench *b, int64_t count, uint64_t nodes)
{
    static int64_t elapsed[SAMPLES], cpu[SAMPLES], mark[SAMPLES];
    struct worker *w = &b->workers[0];
    int64_t n = 0;
    worker_steady(w);
    for (int64_t i = 0; i < count && w->last < w->deadline; i++) {
        struct coll_progress before = coll_progress();
        int64_t cpu_began = cpu_time(), began = nanotime();
        coll_collect();
        int64_t took = nanotime() - began;
        if (nodes != 0)
            step_end(w, began);
        if (n == SAMPLES)
            continue;
        elapsed[n] = took;
        cpu[n] = cpu_time() - cpu_began;
        mark[n] = (int64_t)(coll_progress().mark_ns - before.mark_ns);
        n++;
    }
    if (COLL_EXPLICIT)
        return;
    double ms = median_ms(elapsed, n);
    b->detail[DETAIL_GC_MS] = ms;
    b->detail[DETAIL_GC_CPU_MS] = median_ms(cpu, n);
    b->detail[DETAIL_MARK_MS] = median_ms(mark, n);
    if (nodes != 0)
        b->detail[DETAIL_MARK_RATE] = (double)nodes / ms / 1e3;
}

void workload_main(void *arg)
{
    struct bench *b = arg;
    static void (*const run[WORKLOADS])(struct bench *) = {
        [WORKLOAD_GCBENCH] = gcbench_run,
        [WORKLOAD_BINARY_TREES] = binary_trees_run,
        [WORKLOAD_MESSAGE_STORE] = message_store_run,
        [WORKLOAD_GRAPH] = graph_run,
        [WORKLOAD_MARK_RANDOM] = mark_random_run,
        [WORKLOAD_MARK_WINDOW] = mark_window_run,
        [WORKLOAD_MARK_TREE] = mark_tree_run,
        [WORKLOAD_ALLOCATE] = allocate_run,
        [WORKLOAD_STACKS] = stacks_run,
        [WORKLOAD_NOISE] = noise_run,
    };
    for (int i = 0; i < DETAILS; i++)
        b->detail[i] = NAN;
    b->epoch = nanotime();
    for (int64_t i = 0; i < b->params.threads; i++)
        b->workers[i].epoch = b->epoch;
    run[b->params.workload](b);
    b->end = nanotime();
}
