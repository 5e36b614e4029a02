/* bench/workload_stacks.c - many deep stacks, and collections that scan them.
 *
 * --goroutines of them go --frames deep and wait there. Each frame has the only
 * reference to an object of 32 bytes, which it verifies when it is returned to.
 * Meanwhile the first worker allocates: a step is a list of LIST cells that is
 * summed up and dropped. Then a few collections are forced, with nothing but
 * the stacks to do. Where workers are threads there are MAX_WAITING_THREADS of
 * them at most; they are no part of the checksum.
 */
#include "bench/workload.h"

#define LIST 64

struct held {
    uint64_t word, unused[3];
};

static struct coll_type held_type = {
    .name = "stacks.held",
    .size = sizeof(struct held),
};

struct cell {
    struct cell *next;
    uint64_t word, unused[6];
};

static struct coll_type cell_type = {
    .name = "stacks.cell",
    .size = sizeof(struct cell),
    .ptrs = COLL_PTR(struct cell, next),
};

static _Atomic uint64_t waiting, verified;
static uint64_t frames;

static __attribute__((noinline)) void descend(uint64_t id, uint64_t depth)
{
    struct held *h = coll_alloc(&held_type);
    h->word = mix(id, depth);
    if (depth == 1) {
        atomic_fetch_add(&waiting, 1);
        coll_gate_wait();
    } else {
        descend(id, depth - 1);
    }
    if (h->word != mix(id, depth))
        bench_fail("stacks: what a frame held", h->word, mix(id, depth));
    coll_free(h);
    atomic_fetch_add(&verified, 1);
}

static void waiter(void *arg)
{
    descend((uint64_t)(uintptr_t)arg, frames);
    coll_worker_done();
}

static __attribute__((noinline)) uint64_t make_list(uint64_t tag)
{
    struct cell *list = NULL;
    uint64_t sum = 0;
    for (uint64_t i = 0; i < LIST; i++) {
        struct cell *c = coll_alloc(&cell_type);
        c->word = tag + i;
        coll_store(&c->next, list);
        list = c;
    }
    while (list != NULL) {
        struct cell *next = list->next;
        sum = mix(sum, list->word);
        coll_free(list);
        list = next;
    }
    return sum;
}

void stacks_run(struct bench *b)
{
    struct worker *w = &b->workers[0];
    uint64_t n = (uint64_t)b->params.goroutines, sum = 0;
    uint64_t limit =
        b->params.steps == 0 ? UINT64_MAX : (uint64_t)b->params.steps;
    if (COLL_THREADS && n > MAX_WAITING_THREADS)
        n = MAX_WAITING_THREADS;
    frames = (uint64_t)b->params.frames;
    coll_type_register(&held_type);
    coll_type_register(&cell_type);
    coll_gate_close();
    for (uint64_t i = 1; i <= n; i++)
        coll_spawn(waiter, (void *)(uintptr_t)i);
    while (atomic_load(&waiting) != n)
        coll_sleep(1000000);

    worker_steady(w);
    struct coll_progress before = coll_progress();
    while (w->steps < limit && w->last < w->deadline) {
        int64_t t = step_begin(w);
        sum = mix(sum, make_list(w->steps));
        step_end(w, t);
    }
    struct coll_progress after = coll_progress();
    if (after.collections != before.collections)
        b->detail[DETAIL_CYCLE_MS] =
            (double)(after.mark_ns - before.mark_ns) / 1e6 /
            (double)(after.collections - before.collections);
    b->detail[DETAIL_STACKS] = (double)n;
    w->deadline = INT64_MAX;
    force_collections(b, FORCED_COLLECTIONS, 0);

    coll_gate_open();
    coll_join();
    uint64_t all = atomic_load(&verified);
    if (all != n * frames)
        bench_fail("stacks: frames that were verified", all, n * frames);
    b->checksum = mix(sum, frames);
}
