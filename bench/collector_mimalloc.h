/* bench/collector_mimalloc.h - the same programs with memory freed by hand:
 * the yardstick of what they cost without a collector. */
#ifndef TARN_BENCH_COLLECTOR_MIMALLOC_H_
#define TARN_BENCH_COLLECTOR_MIMALLOC_H_

#include <mimalloc.h>

#define COLL_EXPLICIT 1
#define COLL_THREADS 1

struct coll_type {
    const char *name;
    size_t size;
    uint64_t ptrs;
};

static inline void *coll_check(void *p);

static inline void coll_type_register(struct coll_type *t)
{
    (void)t;
}

static inline void *coll_alloc(const struct coll_type *t)
{
    return coll_check(mi_zalloc(t->size));
}

static inline void *coll_alloc_ptrs(size_t n)
{
    return coll_check(mi_calloc(n, sizeof(void *)));
}

static inline void *coll_alloc_bytes(size_t n)
{
    return coll_check(mi_malloc(n));
}

static inline void coll_store(void *slot, const void *value)
{
    *(const void **)slot = value;
}

static inline void coll_free(void *p)
{
    mi_free(p);
}

/* collector_mimalloc.c */
void coll_spawn(coll_fn fn, void *arg);
void coll_join(void);
void coll_sleep(int64_t ns);
void coll_gate_close(void);
void coll_gate_wait(void);
void coll_gate_open(void);

static inline void coll_worker_done(void) {}

static inline void coll_collect(void) {}

static inline void coll_poll(void) {}

#endif
