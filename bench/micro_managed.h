/* bench/micro_managed.h - what micro-benchmarks run on copying stacks
 * (micro_managed.c), and what needs the inside of the runtime
 * (micro_runtime.c). */
#ifndef TARN_BENCH_MICRO_MANAGED_H_
#define TARN_BENCH_MICRO_MANAGED_H_

#include "tarn/tarn.h"

TARN_BEGIN_DECLS

/* --- micro_managed.c ------------------------------------------------------- */

/* So many round trips between two goroutines over two unbuffered channels. */
void micro_pingpong(long rounds);
/* So many goroutines yield so many times each. */
void micro_yield(long goroutines, long each);
/* One goroutine after the other, each waited for. */
void micro_spawn_join(long n);
/* All of them, then waits for all. */
void micro_spawn_many(long n);

/* A goroutine that does not end by itself. */
struct micro_loop {
    volatile long turns;
    volatile bool stop;
    char pad[112]; /* no two in one cache line, nor in a pair of them */
};
/* Starts n of them, all running fn; waits until each has made a turn. */
struct micro_loop *micro_loops_start(int n, tarn_fn fn);
void micro_loops_stop(void);
/* Functions for them. Calls nothing, so it can be stopped only from outside: */
void micro_loop_tight(void *loop);
/* Calls and allocates: */
void micro_loop_work(void *loop);

/* One sample: how long a goroutine that becomes ready while every other P and
 * the caller's own run tight loops waits until it runs. */
int64_t micro_ready_wait(void);

/* Stops the world and starts it again; how long the first took. */
int64_t micro_stop_world(void);

/* --- micro_stacks.c --------------------------------------------------------- */

/* So many calls of a function whose prologue checks the stack, or not. */
long micro_calls(bool check, long n);
/* A fresh goroutine, or thread, recurses until its stack is so large, and ends. */
void micro_deep(bool thread, size_t bytes);
/* One sample: a call that makes a fresh goroutine's stack grow. */
int64_t micro_grow(void);
/* Starts n goroutines that wait on a channel, with so many bytes of stack each (0:
 * as few as it takes); then lets them end, and waits for that. */
void micro_park(long n, size_t bytes);
/* The same, but so many bytes were used before and are not any more. */
void micro_park_grown(long n, size_t bytes);
void micro_unpark(void);

/* --- micro_runtime.c ------------------------------------------------------- */

/* Suspends a goroutine that runs fn and resumes it; how long the first took,
 * -1 if none was running. */
int64_t micro_suspend(tarn_fn fn);
/* n switches between two stacks, in assembly, nothing else. */
void micro_switch_stacks(long n);

TARN_END_DECLS

#endif
