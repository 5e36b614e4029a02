/* bench/micro_stack.cc - what stacks cost: the check in a prologue, growth, depth,
 * and goroutines that only wait. */
#include "bench/micro.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>

using micro::Kind;
using micro::NONE;
using micro::Unit;

static constexpr size_t MIB = 1 << 20;
static constexpr long MILLION = 1000000;
static constexpr size_t DEEP = 64 * MIB;

static void calls(benchmark::State &state, bool check)
{
    constexpr long n = 10000;
    micro::in_runtime(state, [&] {
        while (state.KeepRunningBatch(n))
            benchmark::DoNotOptimize(micro_calls(check, n));
    });
}

static void calls_checked(benchmark::State &state)
{
    calls(state, true);
}

static void calls_unchecked(benchmark::State &state)
{
    calls(state, false);
}

static void grow(benchmark::State &state)
{
    micro::in_runtime(state, [&] {
        micro::Samples samples;
        for (auto _ : state)
            samples.add(state, micro_grow());
        samples.publish(state);
    });
}

static void deep(benchmark::State &state, bool thread)
{
    micro::in_runtime(state, [&] {
        micro::Samples samples;
        for (auto _ : state) {
            int64_t t = tarn_now();
            micro_deep(thread, DEEP);
            samples.add(state, tarn_now() - t);
        }
        samples.publish(state);
    });
}

static void deep_goroutine(benchmark::State &state)
{
    deep(state, false);
}

static void deep_thread(benchmark::State &state)
{
    deep(state, true);
}

static int64_t collect(benchmark::State &state)
{
    int64_t t = tarn_now();
    if (tarn_gc() != TARN_OK)
        state.SkipWithError(tarn_last_error());
    return tarn_now() - t;
}

/* A whole collection that does little else than scan and shrink their stacks. */
static void shrink(benchmark::State &state)
{
    constexpr long n = 200; /* so few that none is frozen */
    micro::in_runtime(state, [&] {
        struct tarn_gc_stats a {
        }, b{};
        a.struct_size = b.struct_size = sizeof a;
        micro::Samples samples;
        for (auto _ : state) {
            micro_park_grown(n, 150 << 10);
            tarn_gc_stats(&a);
            const int64_t first = collect(state);
            tarn_gc_stats(&b);
            const auto shrinks =
                static_cast<int64_t>(b.stack_shrinks - a.stack_shrinks);
            if (shrinks < 1)
                state.SkipWithError("the collection did not shrink them");
            else
                samples.add(state, first / shrinks);
            micro_unpark();
        }
        samples.publish(state);
    });
}

/* One goroutine whose frames fill a deep stack. */
static void scan_deep(benchmark::State &state)
{
    micro::in_runtime(state, [&] {
        micro_park(1, DEEP);
        collect(state);
        struct tarn_gc_stats a {
        }, b{};
        a.struct_size = b.struct_size = sizeof a;
        micro::Samples samples;
        for (auto _ : state) {
            tarn_gc_stats(&a);
            const int64_t ns = collect(state);
            tarn_gc_stats(&b);
            const auto bytes = b.stack_scan_bytes - a.stack_scan_bytes;
            samples.add(state, static_cast<int64_t>(bytes) * 1000 / ns);
        }
        samples.publish(state);
        micro_unpark();
    });
}

static int64_t resident()
{
    long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f == nullptr || fscanf(f, "%*s %ld", &pages) != 1)
        abort();
    fclose(f);
    return int64_t{pages} * sysconf(_SC_PAGESIZE);
}

enum class Parked { bytes_new, bytes, spawn, collect, wake };

/* A million goroutines that wait on a channel; everything counted. */
static void parked(benchmark::State &state, Parked what)
{
    micro::in_runtime(state, [&] {
        micro::Samples samples;
        for (auto _ : state) {
            const int64_t before = resident();
            int64_t t = tarn_now();
            micro_park(MILLION, 0);
            int64_t took = tarn_now() - t;
            if (what == Parked::spawn)
                samples.add(state, took / MILLION);
            if (what == Parked::bytes_new)
                samples.add(state, (resident() - before) / MILLION);
            /* The first finds those with stacks idle, the next two freeze them,
             * a last one has only images to scan. */
            for (int i = 0; i < 5; i++) {
                took = collect(state);
                if (what == Parked::collect)
                    samples.add(state, took);
            }
            if (what == Parked::bytes)
                samples.add(state, (resident() - before) / MILLION);
            t = tarn_now();
            micro_unpark();
            if (what == Parked::wake)
                samples.add(state, (tarn_now() - t) / MILLION);
        }
        samples.publish(state);
    });
}

static void parked_bytes_new(benchmark::State &state)
{
    parked(state, Parked::bytes_new);
}

static void parked_bytes(benchmark::State &state)
{
    parked(state, Parked::bytes);
}

static void parked_spawn(benchmark::State &state)
{
    parked(state, Parked::spawn);
}

static void parked_collect(benchmark::State &state)
{
    parked(state, Parked::collect);
}

static void parked_wake(benchmark::State &state)
{
    parked(state, Parked::wake);
}

MICRO_ROWS = {
    {"call-unchecked", "a call, its prologue without check", 1, Kind::mean,
     Unit::ns, 0, calls_unchecked, NONE, NONE, NONE, NONE},
    {"call-checked", "a call, its prologue with check", 1, Kind::mean, Unit::ns,
     0, calls_checked, NONE, NONE, NONE, NONE},
    {"grow", "a stack's first growth, 2 Ps", 2, Kind::samples, Unit::us, 2000,
     grow, NONE, NONE, NONE, NONE},
    {"shrink", "a collection that shrinks 200 stacks, each", 2, Kind::samples,
     Unit::ns, 20, shrink, NONE, NONE, NONE, NONE},
    {"deep-thread", "recursion to 64 MiB, fresh thread", 2, Kind::samples,
     Unit::ms, 7, deep_thread, NONE, NONE, NONE, NONE},
    /* To be at most one and a half times the row before. */
    {"deep-goroutine", "recursion to 64 MiB, fresh goroutine", 2, Kind::samples,
     Unit::ms, 7, deep_goroutine, 326, NONE, NONE, NONE},
    {"scan-deep", "scan of a stack of 64 MiB, 2 Ps", 2, Kind::samples,
     Unit::mb_s, 5, scan_deep, NONE, NONE, NONE, NONE},
    {"parked-spawn", "a million that wait: start, each", 2, Kind::samples,
     Unit::ns, 1, parked_spawn, NONE, NONE, NONE, NONE},
    {"parked-bytes-new", "memory of each, just started", 2, Kind::samples,
     Unit::bytes, 1, parked_bytes_new, 2734, NONE, 2700, NONE},
    {"parked-bytes", "memory of each, after collections", 2, Kind::samples,
     Unit::bytes, 1, parked_bytes, 2734, NONE, 2700, NONE},
    {"parked-collect", "a collection with them, each from the start", 2,
     Kind::samples, Unit::ms, 1, parked_collect, 1375, NONE, 500, 500},
    {"parked-wake", "wake them all, until they have ended, each", 2,
     Kind::samples, Unit::ns, 1, parked_wake, NONE, NONE, NONE, NONE},
};
