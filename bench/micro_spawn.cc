/* bench/micro_spawn.cc - goroutines begin and end. */
#include "bench/micro.h"

using micro::Kind;
using micro::NONE;
using micro::Unit;

static void join(benchmark::State &state)
{
    constexpr long n = 1000;
    micro::in_runtime(state, [&] {
        while (state.KeepRunningBatch(n))
            micro_spawn_join(n);
    });
}

constexpr long MILLION = 1000000;

static void many(benchmark::State &state)
{
    micro::in_runtime(state, [&] {
        while (state.KeepRunningBatch(MILLION))
            micro_spawn_many(MILLION);
    });
}

MICRO_ROWS = {
    {"spawn-join", "spawn and join, one at a time, 1 P", 1, Kind::mean,
     Unit::ns, 0, join, 340, NONE, 150, NONE},
    {"spawn-join-2p", "spawn and join, one at a time, 2 Ps", 2, Kind::mean,
     Unit::ns, 0, join, NONE, NONE, NONE, NONE},
    {"spawn-million", "spawn a million, then wait, each, 2 Ps", 2, Kind::mean,
     Unit::ns, MILLION, many, 1055, NONE, 400, NONE},
    {"spawn-million-1p", "spawn a million, then wait, each, 1 P", 1, Kind::mean,
     Unit::ns, MILLION, many, NONE, NONE, NONE, NONE},
};
