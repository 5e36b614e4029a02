/* bench/workload_gcbench.c - GCBench, after Ellis, Kovac and Boehm.
 *
 * The classic program: a stretch tree, a long-lived tree and an array that stay
 * until the end, and short-lived trees of growing depth, each depth about the
 * same number of nodes, half of them built top down and half bottom up.
 * With --depth D the long-lived tree and the largest short-lived ones have
 * depth D, the smallest depth 4, and the stretch tree depth D + STRETCH.
 *
 * Workers share the short-lived trees. A worker's checksum depends on what the
 * trees hold, not on their addresses.
 */
#include "bench/workload.h"

#define MIN_DEPTH 4
/* The original has 2; this keeps the amount of work per node kind and halves
 * the total, so that depth 20 takes a few seconds. */
#define STRETCH 1

struct node {
    struct node *left, *right;
    int32_t i, j;
};

static struct coll_type node_type = {
    .name = "gcbench.node",
    .size = sizeof(struct node),
    .ptrs = COLL_PTR(struct node, left) | COLL_PTR(struct node, right),
};

static inline struct node *new_node(int64_t depth)
{
    struct node *n = coll_alloc(&node_type);
    n->i = (int32_t)depth;
    n->j = (int32_t)(depth * depth);
    return n;
}

/* Top down: gives a node its subtrees of the given depth. */
static void populate(struct node *n, int64_t depth)
{
    if (depth <= 0)
        return;
    depth--;
    coll_store(&n->left, new_node(depth));
    coll_store(&n->right, new_node(depth));
    populate(n->left, depth);
    populate(n->right, depth);
}

static struct node *make_tree(int64_t depth)
{
    if (depth <= 0)
        return new_node(0);
    struct node *left = make_tree(depth - 1);
    struct node *right = make_tree(depth - 1);
    struct node *n = new_node(depth);
    coll_store(&n->left, left);
    coll_store(&n->right, right);
    return n;
}

/* The same for trees larger than a step: each subtree of STEP_DEPTH is one. */
static void populate_steps(struct worker *w, struct node *n, int64_t depth)
{
    if (depth <= STEP_DEPTH) {
        int64_t t = step_begin(w);
        populate(n, depth);
        step_end(w, t);
        return;
    }
    depth--;
    coll_store(&n->left, new_node(depth));
    coll_store(&n->right, new_node(depth));
    populate_steps(w, n->left, depth);
    populate_steps(w, n->right, depth);
}

static struct node *make_tree_steps(struct worker *w, int64_t depth)
{
    if (depth <= STEP_DEPTH) {
        int64_t t = step_begin(w);
        struct node *n = make_tree(depth);
        step_end(w, t);
        return n;
    }
    struct node *left = make_tree_steps(w, depth - 1);
    struct node *right = make_tree_steps(w, depth - 1);
    struct node *n = new_node(depth);
    coll_store(&n->left, left);
    coll_store(&n->right, right);
    return n;
}

static void drop_nodes(struct node *n)
{
    if (n->left != NULL) {
        drop_nodes(n->left);
        drop_nodes(n->right);
    }
    coll_free(n);
}

static inline void drop_tree(struct node *n)
{
    if (COLL_EXPLICIT)
        drop_nodes(n);
}

/* The leftmost and the rightmost path of a tree: cheap, and wrong if a node was
 * freed under it. Returns a value that depends on the depth alone. */
static uint64_t check_edges(const struct node *root, int64_t depth)
{
    uint64_t sum = 0;
    const struct node *l = root, *r = root;
    for (int64_t d = depth; d > 0; d--) {
        l = l->left;
        r = r->right;
        if (l == NULL || r == NULL)
            bench_fail("gcbench: a path ends early, at depth",
                       (uint64_t)(depth - d), (uint64_t)depth);
        if (l->i != (int32_t)(d - 1) || r->i != l->i || r->j != l->j)
            bench_fail("gcbench: a node says it is at depth", (uint64_t)l->i,
                       (uint64_t)(d - 1));
        sum = mix(sum, (uint64_t)l->i << 32 | (uint32_t)r->j);
    }
    if (l->left != NULL || r->right != NULL)
        bench_fail("gcbench: a leaf has children", 1, 0);
    return sum;
}

static uint64_t count_nodes(const struct node *n)
{
    if (n->left == NULL)
        return 1;
    return 1 + count_nodes(n->left) + count_nodes(n->right);
}

/* Trees of one depth, a number of each kind. Not inlined, so that no tree of
 * one depth is kept alive by a forgotten local of another. */
static __attribute__((noinline)) void
short_lived_large(struct worker *w, int64_t depth, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        struct node *t = new_node(depth);
        populate_steps(w, t, depth);
        w->checksum = mix(w->checksum, check_edges(t, depth));
        drop_tree(t);
    }
    for (int64_t i = 0; i < n; i++) {
        struct node *t = make_tree_steps(w, depth);
        w->checksum = mix(w->checksum, check_edges(t, depth));
        drop_tree(t);
    }
}

static __attribute__((noinline)) void
short_lived_small(struct worker *w, int64_t depth, int64_t n)
{
    int64_t batch = trees_per_step(depth);
    for (int64_t kind = 0; kind < 2; kind++) {
        for (int64_t i = 0; i < n;) {
            int64_t t0 = step_begin(w);
            for (int64_t k = 0; k < batch && i < n; k++, i++) {
                struct node *t;
                if (kind == 0) {
                    t = new_node(depth);
                    populate(t, depth);
                } else {
                    t = make_tree(depth);
                }
                w->checksum = mix(w->checksum, check_edges(t, depth));
                drop_tree(t);
            }
            step_end(w, t0);
        }
    }
}

static void short_lived(struct worker *w)
{
    int64_t max = w->params->depth;
    uint64_t total = 2 * tree_size(max + STRETCH);
    worker_steady(w);
    for (int64_t d = MIN_DEPTH; d <= max; d += 2) {
        int64_t n = worker_share(w, (int64_t)(total / tree_size(d)));
        if (d <= STEP_DEPTH)
            short_lived_small(w, d, n);
        else
            short_lived_large(w, d, n);
    }
}

static __attribute__((noinline)) uint64_t stretch(int64_t depth)
{
    struct node *t = make_tree(depth);
    uint64_t sum = check_edges(t, depth);
    drop_tree(t);
    return sum;
}

static __attribute__((noinline)) double *make_array(int64_t n)
{
    double *a = coll_alloc_bytes((size_t)n * sizeof *a);
    for (int64_t i = 0; i < n; i++)
        a[i] = 1.0 / (double)(i + 1);
    return a;
}

static __attribute__((noinline)) uint64_t one_pass(struct bench *b)
{
    int64_t depth = b->params.depth;
    uint64_t sum = stretch(depth + STRETCH);

    struct node *kept = new_node(depth);
    populate(kept, depth);
    double *array = make_array(b->params.array);

    for (int64_t i = 0; i < b->params.threads; i++)
        b->workers[i].checksum = 0;
    run_workers(b, short_lived);
    for (int64_t i = 0; i < b->params.threads; i++)
        sum = mix(sum, b->workers[i].checksum);

    sum = mix(sum, check_edges(kept, depth));
    uint64_t nodes = count_nodes(kept);
    if (nodes != tree_size(depth))
        bench_fail("gcbench: nodes of the long-lived tree", nodes,
                   tree_size(depth));
    for (int64_t i = 0; i < b->params.array; i++)
        if (array[i] != 1.0 / (double)(i + 1))
            bench_fail("gcbench: the array changed at", (uint64_t)i, 0);
    drop_tree(kept);
    coll_free(array);
    return mix(sum, nodes);
}

void gcbench_run(struct bench *b)
{
    coll_type_register(&node_type);
    b->checksum = one_pass(b);
    const struct worker *w = &b->workers[0];
    for (int64_t pass = 1; (b->params.steps == 0 || pass < b->params.steps) &&
                           nanotime() < w->deadline;
         pass++) {
        uint64_t again = one_pass(b);
        if (again != b->checksum)
            bench_fail("gcbench: checksum of another pass", again, b->checksum);
    }
}
