/* bench/workload_allocate.c - the price of an object, its collection included.
 *
 * Beside a tree of --live nodes of 64 bytes (64 MiB by default), which every
 * collection has to mark, workers allocate objects of --size bytes and drop each
 * after RECENT more. Objects of up to SMALL bytes have a type with one pointer,
 * to the tree, and are zeroed; larger ones are bytes without pointers, with
 * whatever contents the collector gives them. The first and the last word are
 * written, and read before the object is dropped.
 *
 * A step is OBJECTS_PER_STEP objects.
 */
#include "bench/workload.h"

#define SMALL 256
#define RECENT 8

struct live_node {
    struct live_node *left, *right;
    uint64_t number, size;
    uint64_t padding[4];
};

static struct coll_type live_type = {
    .name = "allocate.live",
    .size = sizeof(struct live_node),
    .ptrs =
        COLL_PTR(struct live_node, left) | COLL_PTR(struct live_node, right),
};

/* The last word follows at the end of the size that was asked for; of 16 bytes
 * it is the second. */
struct small {
    struct live_node *live;
    uint64_t word;
};

static struct coll_type small_type = {
    .name = "allocate.small",
    .ptrs = COLL_PTR(struct small, live),
};

/* A root: how the workers find the tree without being passed a pointer through
 * memory that no collector looks into. */
static struct live_node *live_tree;

/* A balanced tree of so many nodes. */
static struct live_node *make_live(uint64_t size, uint64_t *number)
{
    struct live_node *n = coll_alloc(&live_type);
    n->number = ++*number;
    n->size = size;
    uint64_t left = (size - 1) / 2, right = size - 1 - left;
    if (left > 0)
        coll_store(&n->left, make_live(left, number));
    if (right > 0)
        coll_store(&n->right, make_live(right, number));
    return n;
}

static uint64_t read_live(struct live_node *n, uint64_t *number)
{
    if (n->number != ++*number)
        bench_fail("allocate: a live node has number", n->number, *number);
    uint64_t size = 1;
    if (n->left != NULL)
        size += read_live(n->left, number);
    if (n->right != NULL)
        size += read_live(n->right, number);
    if (n->size != size)
        bench_fail("allocate: a live tree is of size", n->size, size);
    coll_free(n);
    return size;
}

static inline void *make_small(struct live_node *live, uint64_t last,
                               uint64_t tag)
{
    struct small *s = coll_alloc(&small_type);
    coll_store(&s->live, live);
    ((uint64_t *)(void *)s)[last] = tag;
    return s;
}

static inline uint64_t drop_small(void *object, const struct live_node *live,
                                  uint64_t last)
{
    const struct small *s = object;
    if (s->live != live)
        bench_fail("allocate: an object's pointer changed", 0, 0);
    uint64_t tag = ((const uint64_t *)object)[last];
    coll_free(object);
    return tag;
}

static inline void *make_bytes(uint64_t size, uint64_t last, uint64_t tag)
{
    uint64_t *words = coll_alloc_bytes(size);
    words[0] = ~tag;
    words[last] = tag;
    return words;
}

static inline uint64_t drop_bytes(void *object, uint64_t last)
{
    const uint64_t *words = object;
    uint64_t tag = words[last];
    if (words[0] != ~tag)
        bench_fail("allocate: an object's first word", words[0], ~tag);
    coll_free(object);
    return tag;
}

/* The objects that are not yet dropped are held by locals alone. */
static inline __attribute__((always_inline)) uint64_t
allocate(struct worker *w, struct live_node *live, uint64_t limit, bool small)
{
    uint64_t size = (uint64_t)w->params->size, last = size / 8 - 1;
    void *recent[RECENT] = {NULL};
    uint64_t sum = 0, tag = 0;
    while (w->steps < limit && w->last < w->deadline) {
        int64_t t = step_begin(w);
        for (int i = 0; i < OBJECTS_PER_STEP; i++) {
            void **place = &recent[i % RECENT];
            if (*place != NULL)
                sum += small ? drop_small(*place, live, last)
                             : drop_bytes(*place, last);
            tag += 0x9E3779B97F4A7C15;
            *place = small ? make_small(live, last, tag)
                           : make_bytes(size, last, tag);
        }
        step_end(w, t);
    }
    for (int i = 0; i < RECENT; i++)
        if (recent[i] != NULL)
            sum += small ? drop_small(recent[i], live, last)
                         : drop_bytes(recent[i], last);
    return sum;
}

static void run_allocate(struct worker *w)
{
    uint64_t limit = w->params->steps == 0
                         ? UINT64_MAX
                         : (uint64_t)worker_share(w, w->params->steps);
    worker_steady(w);
    if (w->params->size <= SMALL)
        w->checksum = allocate(w, live_tree, limit, true);
    else
        w->checksum = allocate(w, live_tree, limit, false);
}

void allocate_run(struct bench *b)
{
    uint64_t number = 0;
    small_type.size = (size_t)b->params.size;
    coll_type_register(&live_type);
    if (b->params.size <= SMALL)
        coll_type_register(&small_type);
    coll_store(&live_tree, make_live((uint64_t)b->params.live, &number));

    int64_t cpu = cpu_time();
    run_workers(b, run_allocate);
    cpu = cpu_time() - cpu;

    double objects = 0, elapsed = 0;
    for (int64_t i = 0; i < b->params.threads; i++) {
        const struct worker *w = &b->workers[i];
        b->checksum = mix(b->checksum, w->checksum);
        objects += (double)w->steps * OBJECTS_PER_STEP;
        elapsed += (double)(w->last - w->origin);
    }
    if (b->params.rate == 0) {
        b->detail[DETAIL_OBJECT_NS] = elapsed / objects;
        b->detail[DETAIL_OBJECT_CPU_NS] = (double)cpu / objects;
    }
    number = 0;
    uint64_t live = read_live(live_tree, &number);
    coll_store(&live_tree, NULL);
    if (live != (uint64_t)b->params.live)
        bench_fail("allocate: live nodes", live, (uint64_t)b->params.live);
    b->checksum = mix(b->checksum, live);
}
