/* bench/collector_tarn.h - the workloads' view of Tarn.
 * Workers are goroutines; all layouts are precise. */
#ifndef TARN_BENCH_COLLECTOR_TARN_H_
#define TARN_BENCH_COLLECTOR_TARN_H_

#include "tarn/tarn.h"

#define COLL_EXPLICIT 0
#define COLL_THREADS 0

struct coll_type {
    const char *name;
    size_t size;
    uint64_t ptrs;
    tarn_type *type;
};

/* Live in collector_tarn.c; the runtime allows them in a global. */
extern tarn_waitgroup coll_workers, coll_gate;
/* The type of one pointer, for arrays of them. */
extern tarn_type *coll_pointer_type;

static inline void *coll_check(void *p);

static inline void coll_type_register(struct coll_type *t)
{
    struct tarn_type_info info = {
        .name = t->name, .size = t->size, .ptrmap = &t->ptrs};
    t->type = coll_check(tarn_type_register(&info));
}

static inline void *coll_alloc(const struct coll_type *t)
{
    return coll_check(tarn_alloc(t->type));
}

static inline void *coll_alloc_ptrs(size_t n)
{
    return coll_check(tarn_alloc_array(coll_pointer_type, n));
}

static inline void *coll_alloc_bytes(size_t n)
{
    return coll_check(tarn_alloc_bytes(n));
}

static inline void coll_store(void *slot, const void *value)
{
    tarn_store(slot, value);
}

static inline void coll_free(void *p)
{
    (void)p;
}

/* fn must end with coll_worker_done. Inline, and so compiled as the workloads
 * are: a goroutine that parks below it has only checked frames on its stack. */
static inline void coll_spawn(coll_fn fn, void *arg)
{
    tarn_waitgroup_add(&coll_workers, 1);
    tarn_status s = tarn_go(fn, arg);
    if (s != TARN_OK)
        bench_fail("cannot start a goroutine, status", (uint64_t)s, TARN_OK);
}

static inline void coll_worker_done(void)
{
    tarn_waitgroup_done(&coll_workers);
}

static inline void coll_join(void)
{
    tarn_waitgroup_wait(&coll_workers);
}

static inline void coll_sleep(int64_t ns)
{
    tarn_sleep(ns);
}

static inline void coll_collect(void)
{
    tarn_status s = tarn_gc();
    if (s != TARN_OK)
        bench_fail("tarn_gc, status", (uint64_t)s, TARN_OK);
}

static inline void coll_gate_close(void)
{
    tarn_waitgroup_add(&coll_gate, 1);
}

static inline void coll_gate_wait(void)
{
    tarn_waitgroup_wait(&coll_gate);
}

static inline void coll_gate_open(void)
{
    tarn_waitgroup_done(&coll_gate);
}

static inline void coll_poll(void)
{
    tarn_poll();
}

#endif
