/* tarn/gc.h - collection, roots, statistics. */
#ifndef TARN_GC_H_
#define TARN_GC_H_

#include "tarn/defs.h"

TARN_BEGIN_DECLS

/* Runs a whole, full collection: everything unreachable at the call is swept when it
 * returns. blocks, preempts; goroutines only (TARN_ESTATE elsewhere). */
TARN_API tarn_status tarn_gc(void);

/* Root ranges beside the data and bss segments of the program and its
 * libraries, which are roots by themselves. [lo, hi) is read word by word and
 * must stay readable until removed. A barriered range is written only through
 * tarn/barrier.h; any other is scanned again while the world is stopped, so
 * keep those small. foreign. */
enum tarn_roots_flags {
    TARN_ROOTS_PLAIN = 0,     /* written as a global is */
    TARN_ROOTS_BARRIERED = 1, /* written by tarn_store and its like only */
    TARN_ROOTS_LOCAL =
        2, /* goes by itself when the calling goroutine ends, or the
                             attached thread detaches or ends: for thread-local
                             variables of such threads, and of goroutines that are
                             locked to a thread */
};
/* Adds [lo, hi); words that are not aligned to 8 bytes are not read. TARN_EINVAL: no such
 * range or flags; TARN_ENOMEM; TARN_ESTATE: TARN_ROOTS_LOCAL and not on a goroutine.
 * foreign. */
TARN_API tarn_status tarn_roots_add(const void *lo, const void *hi,
                                    unsigned flags);
/* Removes a range added with the same bounds; TARN_EINVAL if there is none.
 * Blocks while a collection scans roots. */
TARN_API tarn_status tarn_roots_remove(const void *lo, const void *hi);

/* Percentiles in nanoseconds of one kind of event since the start. */
struct tarn_histogram_stats {
    uint64_t count;   /* of events */
    uint64_t sum_ns;  /* of all */
    uint64_t min_ns;  /* the shortest, 0 if there was none */
    uint64_t p50_ns;  /* no more than half of them took longer */
    uint64_t p99_ns;  /* of 100, one */
    uint64_t p999_ns; /* of 1000, one */
    uint64_t max_ns;  /* the longest */
};

/* What the collector has done since the start, and what there is now. */
struct tarn_gc_stats {
    size_t struct_size;         /* set by the caller: sizeof(*stats) */
    uint64_t cycles;            /* collections whose mark is complete */
    uint64_t cycles_forced;     /* of those, asked for by tarn_gc */
    uint64_t heap_live_bytes;   /* live after the last complete sweep */
    uint64_t heap_bytes;        /* live or not yet swept, now */
    uint64_t heap_goal_bytes;   /* next collection starts about here */
    uint64_t heap_mapped_bytes; /* committed by the heap, with its metadata */
    uint64_t alloc_bytes;       /* allocated since the start (cumulative) */
    uint64_t swept_bytes;       /* freed by sweeping since the start */
    uint64_t mark_ns;           /* wall time in concurrent mark, all cycles */
    uint64_t mark_cpu_ns;       /* CPU time of mark workers, all cycles */
    uint64_t assist_ns;         /* time that allocating goroutines helped */
    uint64_t scanned_bytes;     /* of objects, by marking */
    uint64_t stack_scan_bytes;  /* of stacks, by marking */
    uint64_t stacks_scanned;    /* by marking, all cycles */
    uint64_t restarts;          /* terminations put off by late work */
    struct tarn_histogram_stats pause;       /* every stop, whole */
    struct tarn_histogram_stats stopping;    /* of it, until all Ps stopped */
    struct tarn_histogram_stats pause_start; /* stops that start a mark */
    struct tarn_histogram_stats pause_term;  /* stops that end a mark */
    struct tarn_histogram_stats assist;      /* single assists */
    struct tarn_histogram_stats suspend; /* goroutines held for their scan */
    uint64_t stack_inuse_bytes;          /* of stacks that goroutines have */
    uint64_t stack_mapped_bytes;         /* and of free ones; touched or not */
    uint64_t stack_reserved_bytes; /* of addresses, for large ones to grow */
    uint64_t stack_frozen;         /* waiting goroutines without a stack */
    uint64_t stack_frozen_bytes;   /* what keeps their frames */
    uint64_t stack_freezes;        /* since the start, as all below */
    uint64_t stack_copies;         /* moves of stacks */
    uint64_t stack_copied_bytes;   /* by them */
    uint64_t stack_grows_in_place; /* of large ones, without a move */
    uint64_t stack_shrinks;        /* by moves and in place */
    uint64_t stack_released;       /* free stacks whose memory went back */
    uint64_t cycles_young;         /* collections of young objects only */
    uint64_t limited;         /* times the collector had used up its half of the
                                CPUs: assists pause, memlimit may be exceeded */
    uint64_t cycles_periodic; /* collections that option gcperiod asked for */
    uint64_t scavenged_bytes; /* given back to the system in the background */
    uint64_t pretouched_bytes; /* made resident before they were needed */
};

/* Fills *stats as far as struct_size says. TARN_EINVAL: no such size; TARN_ESTATE: before
 * the first tarn_main. foreign. */
TARN_API tarn_status tarn_gc_stats(struct tarn_gc_stats *stats);

/* Which histogram tarn_gc_pauses_hgrm writes. */
enum tarn_pause_kind {
    TARN_PAUSE_ALL,      /* every stop of the world, whole */
    TARN_PAUSE_STOPPING, /* of each, the time until all had stopped */
    TARN_PAUSE_START,    /* stops that start a mark */
    TARN_PAUSE_TERM,     /* stops that end one */
};
/* Writes the percentile distribution of pauses in HdrHistogram's .hgrm text,
 * in microseconds, to a file. TARN_ESYS if it cannot be written. foreign. */
TARN_API tarn_status tarn_gc_pauses_hgrm(enum tarn_pause_kind kind,
                                         const char *path);

TARN_END_DECLS
#endif
