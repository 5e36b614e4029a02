/* bench/micro_stop.cc - stopping goroutines that run, and starting those that
 * wait for them. */
#include "bench/micro.h"

#include <algorithm>
#include <random>

using micro::Kind;
using micro::NONE;
using micro::Unit;

static int loops_of(int perp)
{
    return perp * static_cast<int>(tarn_procs());
}

/* Waits until all Ps but the caller's are back in the loops. */
static void wait_for_loops(const micro_loop *l, int n)
{
    std::vector<long> before(static_cast<size_t>(n));
    for (int i = 0; i < n; i++)
        before[static_cast<size_t>(i)] = l[i].turns;
    const int others = static_cast<int>(tarn_procs()) - 1;
    for (int moving = 0; moving < std::min(n, others);) {
        tarn_poll();
        moving = 0;
        for (int i = 0; i < n; i++)
            moving += l[i].turns != before[static_cast<size_t>(i)];
    }
}

/* loops for each P that run fn. */
static void stop_world(benchmark::State &state, int perp, tarn_fn fn)
{
    micro::in_runtime(state, [&] {
        const int n = loops_of(perp);
        micro_loop *l = micro_loops_start(n, fn);
        micro::Samples samples;
        for (auto _ : state) {
            wait_for_loops(l, n);
            samples.add(state, micro_stop_world());
        }
        samples.publish(state);
        micro_loops_stop();
    });
}

static void stop_idle(benchmark::State &state)
{
    stop_world(state, 0, nullptr);
}

static void stop_load(benchmark::State &state)
{
    stop_world(state, 2, micro_loop_work);
}

static void stop_tight(benchmark::State &state)
{
    stop_world(state, 1, micro_loop_tight);
}

static void collect_tight(benchmark::State &state)
{
    micro::in_runtime(state, [&] {
        const int n = loops_of(1);
        micro_loop *l = micro_loops_start(n, micro_loop_tight);
        micro::Samples samples;
        for (auto _ : state) {
            wait_for_loops(l, n);
            int64_t t = tarn_now();
            if (tarn_gc() != TARN_OK)
                state.SkipWithError(tarn_last_error());
            samples.add(state, tarn_now() - t);
        }
        samples.publish(state);
        micro_loops_stop();
    });
}

static void suspend_tight(benchmark::State &state)
{
    micro::in_runtime(state, [&] {
        micro_loop *l = micro_loops_start(1, micro_loop_tight);
        micro::Samples samples;
        for (auto _ : state) {
            int64_t ns;
            do {
                wait_for_loops(l, 1);
                ns = micro_suspend(micro_loop_tight);
            } while (ns < 0);
            samples.add(state, ns);
        }
        samples.publish(state);
        micro_loops_stop();
    });
}

static void ready_tight(benchmark::State &state)
{
    micro::in_runtime(state, [&] {
        const int n = loops_of(1);
        micro_loop *l = micro_loops_start(n, micro_loop_tight);
        micro::Samples samples;
        std::mt19937 random(1);
        std::uniform_int_distribution<int64_t> phase(0, 10000000);
        for (auto _ : state) {
            /* At any moment of the slices of this P and of the others. */
            for (int64_t until = tarn_now() + phase(random);
                 tarn_now() < until;)
                ;
            wait_for_loops(l, n);
            samples.add(state, micro_ready_wait());
        }
        samples.publish(state);
        micro_loops_stop();
    });
}

MICRO_ROWS = {
    {"stw-idle", "stop the world, idle", 2, Kind::samples, Unit::us, 2000,
     stop_idle, NONE, NONE, NONE, NONE},
    {"stw-load", "stop the world, two allocating loops on every P", 2,
     Kind::samples, Unit::us, 500, stop_load, NONE, NONE, NONE, NONE},
    {"stw-tight", "stop the world, a tight loop on every P", 2, Kind::samples,
     Unit::us, 500, stop_tight, 42, 623, 30, 300},
    {"gc-tight", "small collection, a tight loop on every P", 2, Kind::samples,
     Unit::ms, 50, collect_tight, 102, NONE, 5, NONE},
    {"suspend-tight", "suspend one tight loop", 2, Kind::samples, Unit::us, 500,
     suspend_tight, NONE, NONE, NONE, NONE},
    {"ready-tight", "ready goroutine behind a tight loop on every P", 2,
     Kind::samples, Unit::ms, 50, ready_tight, 19, 39, 10, 20},
};
