/* bench/workload_binary_trees.c - binary-trees of the Benchmarks Game.
 *
 * A stretch tree one deeper than --depth; a long-lived tree of that depth; and
 * for each depth from 4 in steps of 2, 2^(depth max - depth + 4) trees that are
 * built bottom up, walked and dropped. Workers share the trees of each depth.
 */
#include "bench/workload.h"

#define MIN_DEPTH 4

struct node {
    struct node *left, *right;
};

static struct coll_type node_type = {
    .name = "binary-trees.node",
    .size = sizeof(struct node),
    .ptrs = COLL_PTR(struct node, left) | COLL_PTR(struct node, right),
};

static struct node *bottom_up(int64_t depth)
{
    if (depth <= 0)
        return coll_alloc(&node_type);
    struct node *left = bottom_up(depth - 1);
    struct node *right = bottom_up(depth - 1);
    struct node *n = coll_alloc(&node_type);
    coll_store(&n->left, left);
    coll_store(&n->right, right);
    return n;
}

/* The same for trees larger than a step. */
static struct node *bottom_up_steps(struct worker *w, int64_t depth)
{
    if (depth <= STEP_DEPTH) {
        int64_t t = step_begin(w);
        struct node *n = bottom_up(depth);
        step_end(w, t);
        return n;
    }
    struct node *left = bottom_up_steps(w, depth - 1);
    struct node *right = bottom_up_steps(w, depth - 1);
    struct node *n = coll_alloc(&node_type);
    coll_store(&n->left, left);
    coll_store(&n->right, right);
    return n;
}

static uint64_t item_check(const struct node *n)
{
    if (n->left == NULL)
        return 1;
    return 1 + item_check(n->left) + item_check(n->right);
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

static __attribute__((noinline)) uint64_t trees_large(struct worker *w,
                                                      int64_t depth, int64_t n)
{
    uint64_t check = 0;
    for (int64_t i = 0; i < n; i++) {
        struct node *t = bottom_up_steps(w, depth);
        check += item_check(t);
        drop_tree(t);
    }
    return check;
}

static __attribute__((noinline)) uint64_t trees_small(struct worker *w,
                                                      int64_t depth, int64_t n)
{
    int64_t batch = trees_per_step(depth);
    uint64_t check = 0;
    for (int64_t i = 0; i < n;) {
        int64_t t0 = step_begin(w);
        for (int64_t k = 0; k < batch && i < n; k++, i++) {
            struct node *t = bottom_up(depth);
            check += item_check(t);
            drop_tree(t);
        }
        step_end(w, t0);
    }
    return check;
}

static void trees(struct worker *w)
{
    int64_t max = w->params->depth;
    worker_steady(w);
    for (int64_t d = MIN_DEPTH; d <= max; d += 2) {
        int64_t n = worker_share(w, INT64_C(1) << (max - d + MIN_DEPTH));
        uint64_t check =
            d <= STEP_DEPTH ? trees_small(w, d, n) : trees_large(w, d, n);
        if (check != (uint64_t)n * tree_size(d))
            bench_fail("binary-trees: nodes of all trees of a depth", check,
                       (uint64_t)n * tree_size(d));
        w->checksum = mix(w->checksum, check);
    }
}

static __attribute__((noinline)) uint64_t stretch(int64_t depth)
{
    struct node *t = bottom_up(depth);
    uint64_t check = item_check(t);
    drop_tree(t);
    return check;
}

static __attribute__((noinline)) uint64_t one_pass(struct bench *b)
{
    int64_t depth = b->params.depth;
    uint64_t sum = mix(0, stretch(depth + 1));
    struct node *kept = bottom_up(depth);
    for (int64_t i = 0; i < b->params.threads; i++)
        b->workers[i].checksum = 0;
    run_workers(b, trees);
    for (int64_t i = 0; i < b->params.threads; i++)
        sum = mix(sum, b->workers[i].checksum);
    uint64_t check = item_check(kept);
    if (check != tree_size(depth))
        bench_fail("binary-trees: nodes of the long-lived tree", check,
                   tree_size(depth));
    drop_tree(kept);
    return mix(sum, check);
}

void binary_trees_run(struct bench *b)
{
    coll_type_register(&node_type);
    b->checksum = one_pass(b);
    const struct worker *w = &b->workers[0];
    for (int64_t pass = 1; (b->params.steps == 0 || pass < b->params.steps) &&
                           nanotime() < w->deadline;
         pass++) {
        uint64_t again = one_pass(b);
        if (again != b->checksum)
            bench_fail("binary-trees: checksum of another pass", again,
                       b->checksum);
    }
}
