/* bench/params.h - the parameters of one run, shared by the driver and its
 * children: which there are, what they default to, which workload uses which.
 */
#ifndef TARN_BENCH_PARAMS_H_
#define TARN_BENCH_PARAMS_H_

#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What a workload makes of the options that not all of them know. */
#define USES_LIVE 1u     /* its size is a number of live objects */
#define USES_DEPTH 2u    /* its size is the depth of a tree */
#define USES_ARRAY 4u    /* it keeps an array of doubles alive */
#define USES_SIZE 8u     /* it allocates objects of a size that is asked for */
#define USES_STACKS 16u  /* it has goroutines that wait, frames deep */
#define USES_THREADS 32u /* it can have several workers */
#define USES_STEPS 64u   /* the number of steps changes its checksum */
#define ONLY_COLLECTED 128u /* without a collector it measures nothing */
#define CLASSIC 256u        /* runs if no workload is named */
#define IN_GO 512u          /* bench/peers/go has it too */

/* X(id, name, uses, default size, default steps for each live object) */
#define WORKLOAD_TABLE(X)                                                      \
    X(GCBENCH, "gcbench",                                                      \
      USES_DEPTH | USES_ARRAY | USES_THREADS | CLASSIC | IN_GO, 20, 0)         \
    X(BINARY_TREES, "binary-trees",                                            \
      USES_DEPTH | USES_THREADS | CLASSIC | IN_GO, 19, 0)                      \
    X(MESSAGE_STORE, "message-store",                                          \
      USES_LIVE | USES_THREADS | USES_STEPS | CLASSIC | IN_GO, 900000, 4)      \
    X(GRAPH, "graph", USES_LIVE | USES_THREADS | USES_STEPS | CLASSIC,         \
      1000000, 1)                                                              \
    X(MARK_RANDOM, "mark-random", USES_LIVE | ONLY_COLLECTED | IN_GO,          \
      10000000, 0)                                                             \
    X(MARK_WINDOW, "mark-window", USES_LIVE | ONLY_COLLECTED | IN_GO,          \
      10000000, 0)                                                             \
    X(MARK_TREE, "mark-tree", USES_DEPTH | ONLY_COLLECTED | IN_GO, 21, 0)      \
    X(ALLOCATE, "allocate",                                                    \
      USES_LIVE | USES_SIZE | USES_THREADS | USES_STEPS | IN_GO, 1 << 20, 0)   \
    X(STACKS, "stacks", USES_STACKS | USES_STEPS | ONLY_COLLECTED, 10000, 0)   \
    X(NOISE, "noise", USES_THREADS, 0, 0)

enum workload_id {
#define WORKLOAD_ID_(id, name, uses, size, turnover) WORKLOAD_##id,
    WORKLOAD_TABLE(WORKLOAD_ID_)
#undef WORKLOAD_ID_
        WORKLOADS
};

struct workload_info {
    const char *name;
    unsigned uses;
    int64_t size, turnover;
};

static const struct workload_info workload_info[WORKLOADS] = {
#define WORKLOAD_INFO_(id, name, uses, size, turnover)                         \
    {name, uses, size, turnover},
    WORKLOAD_TABLE(WORKLOAD_INFO_)
#undef WORKLOAD_INFO_
};

/* Numbers that a run may have beside the times of its steps and pauses; a
 * workload gives those that it has. X(id, group, key, title) */
#define DETAIL_TABLE(X)                                                        \
    X(GC_MS, "detail", "gc_ms", "ms/GC")                                       \
    X(GC_CPU_MS, "detail", "gc_cpu_ms", "cpu ms/GC")                           \
    X(MARK_MS, "detail", "mark_ms", "mark ms")                                 \
    X(MARK_RATE, "detail", "mnodes_per_s", "Mnodes/s")                         \
    X(OBJECT_NS, "detail", "object_ns", "ns/object")                           \
    X(OBJECT_CPU_NS, "detail", "object_cpu_ns", "cpu ns/object")               \
    X(CYCLE_MS, "detail", "cycle_ms", "ms/cycle")                              \
    X(STACKS, "detail", "stacks", "stacks")

enum detail {
#define DETAIL_ID_(id, group, key, title) DETAIL_##id,
    DETAIL_TABLE(DETAIL_ID_)
#undef DETAIL_ID_
        DETAILS
};

#define MAX_THREADS 256
/* Boehm stops threads one by one; more of them say nothing new. */
#define MAX_WAITING_THREADS 200
/* allocate: objects in a step; forced collections if --steps says nothing. */
#define OBJECTS_PER_STEP 64
#define FORCED_COLLECTIONS 7

/* 0 (of all but workload, seed) means "not given". */
struct params {
    enum workload_id workload;
    int64_t live, depth, array, steps, threads;
    int64_t size;               /* of allocate's objects */
    int64_t goroutines, frames; /* of stacks */
    uint64_t seed;
    double seconds, rate;
};

/* Tree workloads count passes over the whole program as steps, mark-* their
 * collections. */
static inline int64_t params_default_steps(const struct params *p)
{
    int64_t steps;
    switch (p->workload) {
    case WORKLOAD_GCBENCH:
    case WORKLOAD_BINARY_TREES:
        return 1;
    case WORKLOAD_MARK_RANDOM:
    case WORKLOAD_MARK_WINDOW:
    case WORKLOAD_MARK_TREE:
        return FORCED_COLLECTIONS;
    case WORKLOAD_ALLOCATE:
        /* 4 GiB, but of small objects no more than take a second or two. */
        steps = (INT64_C(4) << 30) / p->size / OBJECTS_PER_STEP;
        return steps > 640000 ? 640000 : steps < 16 ? 16 : steps;
    case WORKLOAD_STACKS:
        return 200000;
    default:
        steps = p->live * workload_info[p->workload].turnover;
        return steps < 1000000 ? 1000000 : steps;
    }
}

/* Fills in what was not given; takes away what the workload has no use for. */
static inline void params_resolve(struct params *p)
{
    const struct workload_info *w = &workload_info[p->workload];
    if ((w->uses & USES_LIVE) != 0 && p->live == 0)
        p->live = w->size;
    if ((w->uses & USES_DEPTH) != 0 && p->depth == 0)
        p->depth = w->size;
    if ((w->uses & USES_ARRAY) != 0 && p->array == 0)
        p->array = 4000000;
    if ((w->uses & USES_LIVE) == 0)
        p->live = 0;
    if ((w->uses & USES_DEPTH) == 0)
        p->depth = 0;
    if ((w->uses & USES_ARRAY) == 0)
        p->array = 0;
    if ((w->uses & USES_SIZE) == 0)
        p->size = 0;
    else if (p->size == 0)
        p->size = 64;
    if ((w->uses & USES_STACKS) == 0)
        p->goroutines = p->frames = 0;
    else if (p->goroutines == 0)
        p->goroutines = w->size;
    if ((w->uses & USES_STACKS) != 0 && p->frames == 0)
        p->frames = 100;
    if (p->threads == 0 || (w->uses & USES_THREADS) == 0)
        p->threads = 1;
    if (p->seed == 0)
        p->seed = 1;
    if (p->workload == WORKLOAD_NOISE) {
        p->steps = 0;
        p->rate = 0;
        if (p->seconds == 0)
            p->seconds = 5;
    } else if (p->steps == 0 && p->seconds == 0) {
        p->steps = params_default_steps(p);
    }
}

static inline int workload_by_name(const char *name)
{
    for (int i = 0; i < WORKLOADS; i++)
        if (strcmp(name, workload_info[i].name) == 0)
            return i;
    return -1;
}

/* A whole number in [lo, hi], nothing before or behind it. */
static inline bool parse_count(const char *s, int64_t lo, int64_t hi,
                               int64_t *out)
{
    if (*s < '0' || *s > '9')
        return false;
    char *end;
    uintmax_t v = strtoumax(s, &end, 10);
    if (*end != '\0' || v > INT64_MAX || (int64_t)v < lo || (int64_t)v > hi)
        return false;
    *out = (int64_t)v;
    return true;
}

/* A decimal number in (0, hi]. */
static inline bool parse_positive(const char *s, double hi, double *out)
{
    if ((*s < '0' || *s > '9') && *s != '.')
        return false;
    char *end;
    double v = strtod(s, &end);
    if (*end != '\0' || !(v > 0) || v > hi)
        return false;
    *out = v;
    return true;
}

/* The options that driver and child read alike. Returns 1 if name is one of
 * them and the value was good, 0 if it is not one, -1 if the value is bad. */
static inline int params_option(struct params *p, const char *name,
                                const char *value)
{
    static const struct {
        const char *name;
        size_t offset;
        int64_t lo, hi;
    } counts[] = {
        {"live", offsetof(struct params, live), 16, INT64_C(1) << 31},
        {"threads", offsetof(struct params, threads), 1, MAX_THREADS},
        {"steps", offsetof(struct params, steps), 1, INT64_C(1) << 40},
        {"depth", offsetof(struct params, depth), 8, 30},
        {"array", offsetof(struct params, array), 16, INT64_C(1) << 31},
        {"seed", offsetof(struct params, seed), 1, INT64_MAX},
        {"size", offsetof(struct params, size), 16, INT64_C(1) << 30},
        {"goroutines", offsetof(struct params, goroutines), 1, 1000000},
        {"frames", offsetof(struct params, frames), 1, 10000},
    };
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        if (strcmp(name, counts[i].name) != 0)
            continue;
        int64_t v;
        if (!parse_count(value, counts[i].lo, counts[i].hi, &v))
            return -1;
        memcpy((char *)p + counts[i].offset, &v, sizeof v);
        return 1;
    }
    if (strcmp(name, "seconds") == 0)
        return parse_positive(value, 86400, &p->seconds) ? 1 : -1;
    if (strcmp(name, "rate") == 0)
        return parse_positive(value, 1e8, &p->rate) ? 1 : -1;
    return 0;
}

#endif
