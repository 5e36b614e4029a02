// bench/micro_barrier.cc - what the inline sequences cost: tarn_store beside a
// plain store, with the barrier off and on; inline allocation beside the call of
// the same function and beside mimalloc.
//
//   tarn-micro-barrier [options of Google Benchmark]
//
// All on one goroutine, one P. Allocation includes what belongs to it: refills,
// zeroing, collections of a heap in which nothing lives, their sweeping.
#include <benchmark/benchmark.h>
#include <mimalloc.h>

#include <cstdio>
#include <string>

#include "tarn/tarn.h"

namespace
{

constexpr size_t kSlots = 1024; // stays in the first-level cache
void **slots;                   // a managed object
void *value;
tarn_type *types[4];
constexpr size_t kSizes[] = {16, 32, 64, 128};

inline void plain_store(void **slot, void *v)
{
    __atomic_store_n(slot, v, __ATOMIC_RELAXED);
}

void store_plain(benchmark::State &state)
{
    size_t i = 0;
    for (auto _ : state)
        plain_store(&slots[i++ % kSlots], value);
}

void store_tarn(benchmark::State &state)
{
    size_t i = 0;
    for (auto _ : state)
        tarn_store(&slots[i++ % kSlots], value);
}

// As while a collection marks, and old and new value are marked already.
void store_tarn_barrier_on(benchmark::State &state)
{
    size_t i = 0;
    __atomic_store_n(&tarn_barrier_on, 1u, __ATOMIC_RELAXED);
    for (auto _ : state)
        tarn_store(&slots[i++ % kSlots], value);
    __atomic_store_n(&tarn_barrier_on, 0u, __ATOMIC_RELAXED);
}

void alloc_typed_inline(benchmark::State &state)
{
    tarn_type *t = types[state.range(0)];
    for (auto _ : state)
        benchmark::DoNotOptimize(tarn_alloc(t));
    state.SetLabel(std::to_string(kSizes[state.range(0)]) + " bytes");
}

void alloc_typed_call(benchmark::State &state)
{
    tarn_type *t = types[state.range(0)];
    for (auto _ : state)
        benchmark::DoNotOptimize(tarn_alloc_call(t));
    state.SetLabel(std::to_string(kSizes[state.range(0)]) + " bytes");
}

template <size_t N> void alloc_bytes_inline(benchmark::State &state)
{
    for (auto _ : state)
        benchmark::DoNotOptimize(tarn_alloc_bytes(N));
}

template <size_t N> void alloc_bytes_call(benchmark::State &state)
{
    for (auto _ : state)
        benchmark::DoNotOptimize(tarn_alloc_bytes_call(N));
}

// The fast path alone: the entry is set back before it is empty, so that the same
// places are handed out again and again. Nobody else may use the entry meanwhile:
// of a type of its own, and no collection comes.
template <typename Alloc> void fast_path(benchmark::State &state, Alloc alloc)
{
    constexpr int kRun = 64;
    tarn_type *t = types[1];
    char *cache;
    asm volatile("movq tarn_local@gottpoff(%%rip), %0\n\t"
                 "movq %%fs:(%0), %0"
                 : "=r"(cache));
    auto *e = reinterpret_cast<volatile tarn_cache_entry *>(
        cache + *reinterpret_cast<uint32_t *>(t));
    do
        benchmark::DoNotOptimize(tarn_alloc(t));
    while (e->end - e->ptr < kRun * kSizes[1]);
    uintptr_t start = e->ptr;
    while (state.KeepRunningBatch(kRun)) {
        for (int i = 0; i < kRun; i++)
            benchmark::DoNotOptimize(alloc(t));
        e->ptr = start;
    }
}

void fast_path_inline(benchmark::State &state)
{
    fast_path(state, [](tarn_type *t) { return tarn_alloc(t); });
}

void fast_path_call(benchmark::State &state)
{
    fast_path(state, [](tarn_type *t) { return tarn_alloc_call(t); });
}

// An allocator without a collector must be given memory back: one object at a
// time, which is its best case; and zeroed, as Tarn's are.
void alloc_mimalloc_free(benchmark::State &state)
{
    size_t n = kSizes[state.range(0)];
    for (auto _ : state) {
        void *p = mi_zalloc(n);
        benchmark::DoNotOptimize(p);
        mi_free(p);
    }
    state.SetLabel(std::to_string(n) + " bytes");
}

// A thousand, then all back.
void alloc_mimalloc_batch(benchmark::State &state)
{
    static void *held[1000];
    size_t n = kSizes[state.range(0)], used = 0;
    for (auto _ : state) {
        if (used == 1000)
            while (used > 0)
                mi_free(held[--used]);
        held[used++] = mi_zalloc(n);
    }
    while (used > 0)
        mi_free(held[--used]);
    state.SetLabel(std::to_string(n) + " bytes");
}

BENCHMARK(store_plain);
BENCHMARK(store_tarn);
BENCHMARK(store_tarn_barrier_on);
BENCHMARK(fast_path_inline);
BENCHMARK(fast_path_call);
BENCHMARK(alloc_typed_inline)->DenseRange(0, 3);
BENCHMARK(alloc_typed_call)->DenseRange(0, 3);
BENCHMARK_TEMPLATE(alloc_bytes_inline, 32);
BENCHMARK_TEMPLATE(alloc_bytes_call, 32);
BENCHMARK(alloc_mimalloc_free)->DenseRange(0, 3);
BENCHMARK(alloc_mimalloc_batch)->DenseRange(0, 3);

void run(void *)
{
    slots = static_cast<void **>(tarn_alloc_conservative(kSlots * 8));
    value = tarn_alloc_bytes(16);
    for (size_t i = 0; i < 4; i++) {
        static const uint64_t map[1] = {1};
        tarn_type_info info = {};
        info.name = "bench";
        info.size = kSizes[i];
        info.ptrmap = map;
        types[i] = tarn_type_register(&info);
    }
    tarn_gc(); // both are old now, and what is marked ends behind them
    benchmark::RunSpecifiedBenchmarks();
}

} // namespace

int main(int argc, char **argv)
{
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv))
        return 1;
    tarn_options o;
    tarn_options_init(&o);
    o.maxprocs = 1;
    o.fixedstack = 1 << 20;
    if (tarn_main(&o, run, nullptr) != TARN_OK) {
        std::fprintf(stderr, "tarn_main: %s\n", tarn_last_error());
        return 1;
    }
    return 0;
}
