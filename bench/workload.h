/* bench/workload.h - what the programs share: workers and timed steps.
 *
 * A step is the unit whose latency is recorded: begin, work, end. In a closed
 * loop it starts when the one before has ended; in an open loop (a rate is set)
 * it is scheduled, and what it waited for its turn counts.
 *
 * The workloads and workload.c run inside the collector's world (in goroutines,
 * for Tarn, on stacks that move): no address of a local in the heap or a
 * global, no stdio, no variable arguments.
 */
#ifndef TARN_BENCH_WORKLOAD_H_
#define TARN_BENCH_WORKLOAD_H_

#include "base/hist.h"
#include "bench/collector.h"
#include "bench/params.h"

/* The timeline keeps the longest step that ended in each 8.4 ms of the run. */
#define TIMELINE_SHIFT 23
#define TIMELINE_BINS 16384

struct worker;
struct bench;
typedef void (*worker_body)(struct worker *w);

/* One per thread or goroutine, in memory that no collector manages; holds no
 * managed pointers. */
struct worker {
    struct hist latency;
    uint64_t *timeline; /* TIMELINE_BINS of them, nanoseconds */
    const struct params *params;
    worker_body body;
    int64_t index;
    uint64_t seed;      /* of this worker, never 0 */
    int64_t epoch;      /* start of the whole run */
    int64_t origin;     /* start of the timed steps; 0 before */
    int64_t last;       /* end of the last step */
    int64_t deadline;   /* no step starts after it; INT64_MAX = none */
    double period;      /* of an open loop, ns; 0 = closed */
    uint64_t scheduled; /* steps of the open loop so far */
    uint64_t steps;
    uint64_t checksum;
} CACHE_ALIGNED;

struct bench {
    struct params params;
    struct worker *workers; /* params.threads of them */
    int64_t epoch, end;
    uint64_t checksum; /* a function of the parameters alone, if steps are */
    double detail[DETAILS]; /* NaN: not of this workload */
};

/* Runs params.threads workers side by side and waits for them; with one, body
 * runs in the caller. */
void run_workers(struct bench *b, worker_body body);

/* The part of a total that a worker gets; the parts add up to it. */
static inline int64_t worker_share(const struct worker *w, int64_t total)
{
    int64_t n = w->params->threads;
    return total / n + (w->index < total % n);
}

/* The timed steps begin; the deadline and the schedule count from here. A
 * second call changes nothing. */
void worker_steady(struct worker *w);

int64_t step_wait(struct worker *w);

static inline int64_t step_begin(struct worker *w)
{
    return w->period == 0 ? nanotime() : step_wait(w);
}

static inline void step_end(struct worker *w, int64_t begin)
{
    int64_t now = nanotime();
    uint64_t ns = (uint64_t)(now - begin);
    uint64_t bin = (uint64_t)(now - w->epoch) >> TIMELINE_SHIFT;
    hist_add(&w->latency, ns);
    if (bin < TIMELINE_BINS && w->timeline[bin] < ns)
        w->timeline[bin] = ns;
    w->last = now;
    w->steps++;
}

/* CPU time of the whole process, the collector's threads included; ns. */
int64_t cpu_time(void);

/* Whole collections, up to count of them and up to the first worker's deadline;
 * their medians become details. If the number of live nodes that each of them
 * has to find is given they are the steps of that worker; 0: they are none. */
void force_collections(struct bench *b, int64_t count, uint64_t nodes);

/* The number of nodes of a complete binary tree whose root has depth 0. */
static inline uint64_t tree_size(int64_t depth)
{
    return (UINT64_C(2) << depth) - 1;
}

/* Trees are built in steps of one subtree of this depth: 127 nodes. Smaller
 * trees are built, and dropped, several to a step. */
#define STEP_DEPTH 6

static inline int64_t trees_per_step(int64_t depth)
{
    return depth >= STEP_DEPTH ? 1 : INT64_C(1) << (STEP_DEPTH - depth);
}

/* Mixes a value into a checksum; the order counts. */
static inline uint64_t mix(uint64_t sum, uint64_t value)
{
    sum = (sum ^ value) * UINT64_C(0x9E3779B97F4A7C15);
    return sum ^ sum >> 29;
}

/* The entry points: each runs its whole program and sets b->checksum. */
void gcbench_run(struct bench *b);
void binary_trees_run(struct bench *b);
void message_store_run(struct bench *b);
void graph_run(struct bench *b);
void mark_random_run(struct bench *b);
void mark_window_run(struct bench *b);
void mark_tree_run(struct bench *b);
void allocate_run(struct bench *b);
void stacks_run(struct bench *b);
void noise_run(struct bench *b);

/* coll_main's function; arg is the struct bench. */
void workload_main(void *arg);

#endif
