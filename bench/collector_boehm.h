/* bench/collector_boehm.h - the workloads' view of the Boehm-Demers-Weiser
 * collector: GC_MALLOC for what holds pointers, GC_MALLOC_ATOMIC for the rest.
 */
#ifndef TARN_BENCH_COLLECTOR_BOEHM_H_
#define TARN_BENCH_COLLECTOR_BOEHM_H_

#define GC_THREADS /* registers the threads that are created below */
#include <gc/gc.h>

#define COLL_EXPLICIT 0
#define COLL_THREADS 1

struct coll_type {
    const char *name;
    size_t size;
    uint64_t ptrs; /* not told: Boehm reads every word of what has pointers */
};

static inline void *coll_check(void *p);

static inline void coll_type_register(struct coll_type *t)
{
    (void)t;
}

static inline void *coll_alloc(const struct coll_type *t)
{
    return coll_check(GC_MALLOC(t->size));
}

static inline void *coll_alloc_ptrs(size_t n)
{
    return coll_check(GC_MALLOC(n * sizeof(void *)));
}

static inline void *coll_alloc_bytes(size_t n)
{
    return coll_check(GC_MALLOC_ATOMIC(n));
}

static inline void coll_store(void *slot, const void *value)
{
    *(const void **)slot = value;
}

static inline void coll_free(void *p)
{
    (void)p;
}

/* collector_boehm.c */
void coll_spawn(coll_fn fn, void *arg);
void coll_join(void);
void coll_sleep(int64_t ns);
void coll_gate_close(void);
void coll_gate_wait(void);
void coll_gate_open(void);

static inline void coll_worker_done(void) {}

static inline void coll_collect(void)
{
    GC_gcollect();
}

static inline void coll_poll(void) {}

#endif
