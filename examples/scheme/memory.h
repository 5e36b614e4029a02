/* memory.h - all that the interpreter knows of its memory management.
 *
 * Three implementations, one of them chosen when compiling: MEMORY_TARN,
 * MEMORY_BOEHM, MEMORY_MALLOC (never frees). What each gives:
 *
 *   mem_words(n)       n words that may be references, zeroed
 *   mem_bytes(n)       n bytes without references, zeroed
 *   mem_set(slot, v)   stores a reference into an object or a global
 *   mem_init(slot, v)  the same, for the first store into a fresh object
 *   mem_init2(slot, v, w)  that for two words; slot is a multiple of 16
 *   mem_gc()           a whole collection, if there is a collector
 *   mem_stats(&s)      what the collector did so far
 *   mem_native(fn, p)  calls fn(p), which blocks, takes long or needs much stack
 *   mem_run(fn, p)     runs the program fn(p) where all of the above may be called
 *   mem_weak_*         a map from objects that keeps neither its keys, nor values
 *                      longer than their keys live: new, set, get (is there one?),
 *                      remove, count; if MEM_WEAK is 1
 *
 * References are tagged pointers: the low four bits are the interpreter's. Locals
 * and globals are roots. Out of memory ends the process.
 */
#ifndef SCHEME_MEMORY_H_
#define SCHEME_MEMORY_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uintptr_t V;

struct mem_stats {
    uint64_t collections;
    uint64_t pauses, pause_p50_ns, pause_max_ns;
    uint64_t heap_bytes;  /* what the collector holds for objects */
    uint64_t stack_bytes; /* of goroutines; 0 for threads */
};

#if defined(MEMORY_TARN)
#include "memory_tarn.h"
#elif defined(MEMORY_BOEHM)
#include "memory_boehm.h"
#elif defined(MEMORY_MALLOC)
#include "memory_malloc.h"
#else
#error "define MEMORY_TARN, MEMORY_BOEHM or MEMORY_MALLOC"
#endif

#endif
