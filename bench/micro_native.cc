/* bench/micro_native.cc - calls that leave the runtime's sight. */
#include "bench/micro.h"

#include <ctime>

#include "tarn/native.h"

using micro::Kind;
using micro::NONE;
using micro::Unit;

static void enter_leave(benchmark::State &state)
{
    micro::in_runtime(state, [&] {
        for (auto _ : state) {
            tarn_native_enter();
            tarn_native_leave();
        }
    });
}

static void *identity(void *arg)
{
    return arg;
}

static void call(benchmark::State &state)
{
    micro::in_runtime(state, [&] {
        for (auto _ : state)
            benchmark::DoNotOptimize(tarn_native_call(identity, &state));
    });
}

/* The P's only other goroutine is queued when its thread blocks. */
static volatile int64_t ran_at;

static void note_time(void *)
{
    ran_at = tarn_now();
}

static void *block(void *)
{
    /* Some ms, for a hand-off that should take well under one. */
    const timespec ts = {0, 3000000};
    nanosleep(&ts, nullptr);
    return nullptr;
}

static void handoff(benchmark::State &state)
{
    micro::in_runtime(state, [&] {
        micro::Samples samples;
        for (auto _ : state) {
            ran_at = 0;
            if (tarn_go(note_time, nullptr) != TARN_OK) {
                state.SkipWithError(tarn_last_error());
                break;
            }
            int64_t t = tarn_now();
            tarn_native_call(block, nullptr);
            while (ran_at == 0)
                tarn_yield();
            samples.add(state, ran_at - t);
        }
        samples.publish(state);
    });
}

MICRO_ROWS = {
    {"native", "native enter and leave", 1, Kind::mean, Unit::ns, 0,
     enter_leave, 20, NONE, 15, NONE},
    {"native-call", "native call on the thread's stack", 1, Kind::mean,
     Unit::ns, 0, call, NONE, NONE, NONE, NONE},
    {"native-handoff", "hand-off of a blocked native call's P", 1,
     Kind::samples, Unit::us, 200, handoff, NONE, NONE, NONE, NONE},
};
