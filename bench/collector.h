/* bench/collector.h - what the workloads know of a collector.
 *
 * The workloads are written once against this and compiled once for each
 * backend; collector_*.h implements it with inline functions that call the
 * backend's own allocation function directly, so that nobody pays for the
 * abstraction. The contract is what all backends can give without extra work:
 *
 *   coll_type       a fixed-size layout; a backend that knows where pointers
 *                   are is told, the others see a size
 *   coll_alloc      one object of a type, zeroed
 *   coll_alloc_ptrs an array of pointers, zeroed
 *   coll_alloc_bytes memory without pointers, contents undefined
 *   coll_store      every store of a managed pointer into a managed object
 *   coll_free       the program will not use the object again: frees it where
 *                   memory is explicit, nothing elsewhere. COLL_EXPLICIT is
 *                   what a loop that does nothing but free is guarded by.
 *   coll_spawn/join a concurrent worker: a goroutine or (COLL_THREADS) a thread
 *   coll_sleep      gives the CPU away for about that long
 *   coll_poll       a safe point inside a loop that calls nothing
 *   coll_collect    a whole collection, now; COLL_EXPLICIT has none
 *   coll_gate_*     close: who comes to wait stays there; open: all go on. May
 *                   be closed again when all have gone.
 *   coll_progress   collections and time spent marking so far
 *
 * Local variables are roots. Nothing here may be called but from coll_main's
 * function and from spawned workers; coll_main and what follows it may only be
 * called from the thread of main, outside of them.
 */
#ifndef TARN_BENCH_COLLECTOR_H_
#define TARN_BENCH_COLLECTOR_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The bit of a pointer field in a coll_type's map. */
#define COLL_PTR(type, field) (UINT64_C(1) << (offsetof(type, field) / 8))

/* Ends the child with a message: result and expectation differ. Formats
 * nothing on the caller's stack that could not fit there. */
void bench_fail(const char *what, uint64_t got, uint64_t want)
    __attribute__((noreturn, cold));

typedef void (*coll_fn)(void *arg);

/* What a collector says of itself at the end; times in nanoseconds. */
struct coll_stats {
    uint64_t gc_count;
    uint64_t pauses, pause_p50, pause_p99, pause_p999, pause_p9999, pause_max;
};

struct coll_progress {
    uint64_t collections;
    uint64_t mark_ns; /* elapsed, in marking, also beside the program */
};

struct coll_config {
    bool incremental; /* only Boehm knows this mode */
    int64_t threads;
};

/* Runs fn(arg) where the other functions may be called. False with a message
 * on stderr if the collector cannot start. */
bool coll_main(const struct coll_config *config, coll_fn fn, void *arg);
/* Anywhere. */
struct coll_progress coll_progress(void);
/* False if there is no pause to speak of because there is no collector. */
bool coll_stats(struct coll_stats *stats);
/* Writes the distribution of pauses; false with errno if it cannot. */
bool coll_pause_hgrm(const char *path);
void coll_version(char *buf, size_t len);

#if defined(BENCH_TARN)
#include "bench/collector_tarn.h"
#elif defined(BENCH_BOEHM)
#include "bench/collector_boehm.h"
#elif defined(BENCH_MIMALLOC)
#include "bench/collector_mimalloc.h"
#else
#error "define BENCH_TARN, BENCH_BOEHM or BENCH_MIMALLOC"
#endif

static inline void *coll_check(void *p)
{
    if (__builtin_expect(p == NULL, 0))
        bench_fail("allocation refused", 0, 0);
    return p;
}

#endif
