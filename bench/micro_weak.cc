/* bench/micro_weak.cc - what weak references, weak maps, handles and finalizers cost:
 * a call of each, and collections of a heap with a million of them. */
#include "bench/micro.h"

#include "tarn/tarn.h"

using micro::Kind;
using micro::NONE;
using micro::Unit;

static constexpr size_t MANY = 1000000;

/* n objects of 16 bytes, held by the array that is returned. */
static void **some_objects(size_t n)
{
    void **a = static_cast<void **>(tarn_alloc_conservative(n * sizeof *a));
    for (size_t i = 0; i < n; i++)
        tarn_store(&a[i], tarn_alloc_bytes(16));
    return a;
}

static void weak_get(benchmark::State &state)
{
    micro::in_runtime(state, [&] {
        void *object = tarn_alloc_bytes(16);
        tarn_weak *w = tarn_weak_new(object);
        for (auto _ : state)
            benchmark::DoNotOptimize(tarn_weak_get(w));
        benchmark::DoNotOptimize(object);
    });
}

static void weak_map_get(benchmark::State &state)
{
    micro::in_runtime(state, [&] {
        constexpr size_t n = 1024;
        void **keys = some_objects(n);
        tarn_weakmap *m = tarn_weakmap_new();
        for (size_t i = 0; i < n; i++)
            if (tarn_weakmap_set(m, keys[i], keys) != TARN_OK)
                abort();
        size_t i = 0;
        for (auto _ : state)
            benchmark::DoNotOptimize(tarn_weakmap_get(m, keys[i++ % n]));
    });
}

static void handle_new_drop(benchmark::State &state)
{
    micro::in_runtime(state, [&] {
        void *object = tarn_alloc_bytes(16);
        for (auto _ : state)
            tarn_handle_drop(tarn_handle_new(object));
    });
}

/* Times of whole collections; or, with stops, the longest stop of each. */
static void collections(benchmark::State &state, bool stops)
{
    micro::Samples samples;
    for (auto _ : state) {
        static int64_t longest;
        uint32_t id;
        tarn_listener l = {};
        l.struct_size = sizeof l;
        l.stopped = [](void *, enum tarn_stop_kind, int64_t ns, int64_t) {
            longest = ns > longest ? ns : longest;
        };
        longest = 0;
        if (tarn_listener_add(&l, &id) != TARN_OK)
            abort();
        const int64_t t = tarn_now();
        if (tarn_gc() != TARN_OK)
            abort();
        const int64_t took = tarn_now() - t;
        if (tarn_listener_remove(id) != TARN_OK)
            abort();
        samples.add(state, stops ? longest : took);
    }
    samples.publish(state);
}

static void collect_plain(benchmark::State &state)
{
    micro::in_runtime(state, [&] {
        void **volatile keys = some_objects(MANY);
        collections(state, false);
        benchmark::DoNotOptimize(keys);
    });
}

static void with_weak_map(benchmark::State &state, bool stops)
{
    micro::in_runtime(state, [&] {
        void **volatile keys = some_objects(MANY);
        tarn_weakmap *volatile m = tarn_weakmap_new();
        for (size_t i = 0; i < MANY; i++)
            if (tarn_weakmap_set(m, keys[i], keys[MANY - 1 - i]) != TARN_OK)
                abort();
        collections(state, stops);
        benchmark::DoNotOptimize(m);
    });
}

static void collect_weak_map(benchmark::State &state)
{
    with_weak_map(state, false);
}

static void stop_weak_map(benchmark::State &state)
{
    with_weak_map(state, true);
}

static void collect_weak(benchmark::State &state)
{
    micro::in_runtime(state, [&] {
        void **volatile keys = some_objects(MANY);
        for (size_t i = 0; i < MANY; i++)
            if (tarn_weak_new(keys[i]) == nullptr)
                abort();
        collections(state, false);
        benchmark::DoNotOptimize(keys);
    });
}

static void ignore(void *, void *) {}

static void collect_finalizers(benchmark::State &state)
{
    micro::in_runtime(state, [&] {
        void **volatile keys = some_objects(MANY);
        for (size_t i = 0; i < MANY; i++)
            if (tarn_finalizer_set(keys[i], ignore, nullptr) != TARN_OK)
                abort();
        collections(state, false);
        benchmark::DoNotOptimize(keys);
    });
}

MICRO_ROWS = {
    {"weak-get", "read of a weak reference", 1, Kind::mean, Unit::ns, 0,
     weak_get, NONE, NONE, NONE, NONE},
    {"weak-map-get", "lookup in a weak map", 1, Kind::mean, Unit::ns, 0,
     weak_map_get, NONE, NONE, NONE, NONE},
    {"handle", "a handle, made and dropped", 1, Kind::mean, Unit::ns, 0,
     handle_new_drop, NONE, NONE, NONE, NONE},
    {"collect-plain", "a collection, a million objects, 2 Ps", 2, Kind::samples,
     Unit::ms, 7, collect_plain, NONE, NONE, NONE, NONE},
    {"collect-weak", "with a weak reference to each", 2, Kind::samples,
     Unit::ms, 7, collect_weak, NONE, NONE, NONE, NONE},
    {"collect-weak-map", "with a million entries in a weak map", 2,
     Kind::samples, Unit::ms, 7, collect_weak_map, NONE, NONE, NONE, NONE},
    {"stop-weak-map", "its longest stop", 2, Kind::samples, Unit::us, 7,
     stop_weak_map, NONE, NONE, NONE, NONE},
    {"collect-final", "with a finalizer for each", 2, Kind::samples, Unit::ms,
     7, collect_finalizers, NONE, NONE, NONE, NONE},
};
