/* bench/micro_switch.cc - from one goroutine to another. */
#include "bench/micro.h"

using micro::Kind;
using micro::NONE;
using micro::Unit;

static void channel(benchmark::State &state)
{
    constexpr long rounds = 5000;
    micro::in_runtime(state, [&] {
        while (state.KeepRunningBatch(2 * rounds))
            micro_pingpong(rounds);
    });
}

template <long goroutines> static void yield(benchmark::State &state)
{
    /* Enough that their births and deaths do not count. */
    constexpr long each = 1000000 / goroutines;
    micro::in_runtime(state, [&] {
        while (state.KeepRunningBatch(goroutines * each))
            micro_yield(goroutines, each);
    });
}

static void stacks(benchmark::State &state)
{
    constexpr long n = 1000;
    while (state.KeepRunningBatch(n))
        micro_switch_stacks(n);
}

MICRO_ROWS = {
    {"chan-1p", "channel ping-pong, a switch, 1 P", 1, Kind::mean, Unit::ns, 0,
     channel, 115, NONE, 60, NONE},
    {"chan-2p", "channel ping-pong, a switch, 2 Ps", 2, Kind::mean, Unit::ns, 0,
     channel, 134, NONE, 70, NONE},
    {"yield-2", "yield, 2 goroutines, 1 P", 1, Kind::mean, Unit::ns, 0,
     yield<2>, 60, NONE, 25, NONE},
    {"yield-10000", "yield, 10,000 goroutines, 1 P", 1, Kind::mean, Unit::ns, 0,
     yield<10000>, 348, NONE, 150, NONE},
    {"yield-2-2p", "yield, 2 goroutines, 2 Ps", 2, Kind::mean, Unit::ns, 0,
     yield<2>, NONE, NONE, NONE, NONE},
    {"yield-10000-2p", "yield, 10,000 goroutines, 2 Ps", 2, Kind::mean,
     Unit::ns, 0, yield<10000>, NONE, NONE, NONE, NONE},
    {"switch-asm", "bare switch of stacks in assembly", 0, Kind::mean, Unit::ns,
     0, stacks, NONE, NONE, NONE, NONE},
};
