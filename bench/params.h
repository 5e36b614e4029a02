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
#define USES_LIVE 1u  /* its size is a number of live objects */
#define USES_DEPTH 2u /* its size is the depth of a tree */
#define USES_ARRAY 4u /* it keeps an array of doubles alive */

/* X(id, name, uses, default size, default steps for each live object) */
#define WORKLOAD_TABLE(X)                                                      \
    X(GCBENCH, "gcbench", USES_DEPTH | USES_ARRAY, 20, 0)                      \
    X(BINARY_TREES, "binary-trees", USES_DEPTH, 19, 0)                         \
    X(MESSAGE_STORE, "message-store", USES_LIVE, 900000, 4)                    \
    X(GRAPH, "graph", USES_LIVE, 1000000, 1)

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

#define MAX_THREADS 256

/* 0 (seconds, rate, steps, live, depth, array) means "not given". */
struct params {
    enum workload_id workload;
    int64_t live, depth, array, steps, threads;
    uint64_t seed;
    double seconds, rate;
};

/* Fills in what was not given. Tree workloads count passes over the whole
 * program as steps. */
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
    if (p->threads == 0)
        p->threads = 1;
    if (p->seed == 0)
        p->seed = 1;
    if (p->steps == 0 && p->seconds == 0) {
        p->steps = p->live * w->turnover;
        if ((w->uses & USES_LIVE) == 0)
            p->steps = 1;
        else if (p->steps < 1000000)
            p->steps = 1000000;
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
