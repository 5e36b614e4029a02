/* tarn/memory.h - the runtime's memory by kind, as the kernel counts it. */
#ifndef TARN_MEMORY_H_
#define TARN_MEMORY_H_

#include "tarn/defs.h"

TARN_BEGIN_DECLS

/* Bytes in memory now (resident: touched, not given back, not swapped out), each counted
 * once. Together they are what the process has in memory less what the program itself
 * has: code, data, what malloc gave, stacks of threads that the runtime did not
 * make. A program that calls mimalloc, where the runtime gets its own memory from, has
 * that counted as other_bytes. */
struct tarn_memory_stats {
    size_t struct_size;    /* set by the caller: sizeof(*stats) */
    uint64_t object_bytes; /* objects, garbage that is not swept yet too */
    uint64_t
        free_place_bytes;     /* free places beside objects; caches have some */
    uint64_t free_page_bytes; /* free pages of the heap that are kept */
    uint64_t
        heap_metadata_bytes;   /* meta bytes, page map, cards, caches, spans */
    uint64_t stack_bytes;      /* stacks that goroutines have */
    uint64_t free_stack_bytes; /* stacks kept for the next ones */
    uint64_t frozen_bytes;     /* frames of goroutines without a stack */
    uint64_t goroutine_bytes;  /* what describes goroutines, dead ones too */
    uint64_t thread_stack_bytes; /* stacks of the runtime's threads, and those
                                      that attached threads run its code on */
    uint64_t mark_buffer_bytes;  /* the collector's lists of what to scan */
    uint64_t other_bytes; /* of the runtime: weak references, handles, types,
                                      maps of stacks, free memory kept by mimalloc */
    uint64_t total_bytes; /* the sum */
};

/* Fills *stats as far as struct_size says. Stops the world, if the caller has not, and
 * asks the kernel about each page. Where Linux is
 * older than 6.7, pages that were only read count as well. blocks, preempts, goroutines
 * only. TARN_EINVAL: no such size; TARN_ESTATE; TARN_ENOMEM. */
TARN_API tarn_status tarn_memory_stats(struct tarn_memory_stats *stats);

TARN_END_DECLS
#endif
