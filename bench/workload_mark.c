/* bench/workload_mark.c - how fast a whole collection is: a structure that stays
 * as it is, and --steps forced collections of it.
 *
 *   mark-random  a table of --live nodes of 32 bytes with three links to any
 *                node; the table's order is not that of allocation. A marker
 *                misses the cache at almost every edge.
 *   mark-window  each link leads at most WINDOW places away in the order of
 *                allocation, which is the table's: what a marker meets next is
 *                near, but rarely in order.
 *   mark-tree    a perfect binary tree of 2^(depth + 1) - 1 nodes of 32 bytes,
 *                allocated depth first, as a marker with a stack visits it.
 *
 * Afterwards the structure is read from end to end and compared with what was
 * built.
 */
#include "bench/workload.h"

#define LINKS 3
#define WINDOW 64

struct node {
    struct node *link[LINKS];
    uint64_t place;
};

static struct coll_type node_type = {
    .name = "mark.node",
    .size = sizeof(struct node),
    .ptrs = COLL_PTR(struct node, link[0]) | COLL_PTR(struct node, link[1]) |
            COLL_PTR(struct node, link[2]),
};

struct tree {
    struct tree *left, *right;
    uint64_t number, depth;
};

static struct coll_type tree_type = {
    .name = "mark.tree",
    .size = sizeof(struct tree),
    .ptrs = COLL_PTR(struct tree, left) | COLL_PTR(struct tree, right),
};

static __attribute__((noinline)) struct node **
make_nodes(uint32_t live, bool shuffled, uint64_t *random)
{
    struct node **table = coll_alloc_ptrs(live);
    for (uint32_t i = 0; i < live; i++)
        coll_store(&table[i], coll_alloc(&node_type));
    for (uint32_t i = live - 1; shuffled && i > 0; i--) {
        uint32_t j = rand_below(random, i + 1);
        struct node *a = table[i], *b = table[j];
        coll_store(&table[i], b);
        coll_store(&table[j], a);
    }
    return table;
}

/* The place that a link from place i leads to. */
static inline uint32_t target(uint32_t i, uint32_t live, bool window,
                              uint64_t *random)
{
    if (!window)
        return rand_below(random, live);
    uint32_t low = i > WINDOW ? i - WINDOW : 0;
    uint32_t high = live - 1 - i > WINDOW ? i + WINDOW : live - 1;
    return low + rand_below(random, high - low + 1);
}

/* Sets all links; returns a sum over them. */
static __attribute__((noinline)) uint64_t
link_nodes(struct node **table, uint32_t live, bool window, uint64_t *random)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < live; i++) {
        struct node *n = table[i];
        n->place = i;
        for (int k = 0; k < LINKS; k++) {
            uint32_t to = target(i, live, window, random);
            coll_store(&n->link[k], table[to]);
            sum = mix(sum, to);
        }
    }
    return sum;
}

static __attribute__((noinline)) uint64_t read_nodes(struct node **table,
                                                     uint32_t live)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < live; i++) {
        const struct node *n = table[i];
        if (n->place != i)
            bench_fail("mark: the table's node is of place", n->place, i);
        for (int k = 0; k < LINKS; k++)
            sum = mix(sum, n->link[k]->place);
    }
    return sum;
}

static void run_nodes(struct bench *b, bool window)
{
    uint32_t live = (uint32_t)b->params.live;
    uint64_t random = b->workers[0].seed;
    coll_type_register(&node_type);
    struct node **table = make_nodes(live, !window, &random);
    uint64_t built = link_nodes(table, live, window, &random);
    force_collections(b, b->params.steps == 0 ? INT64_MAX : b->params.steps,
                      live);
    uint64_t read = read_nodes(table, live);
    if (read != built)
        bench_fail("mark: the links' sum", read, built);
    if (COLL_EXPLICIT) {
        for (uint32_t i = 0; i < live; i++)
            coll_free(table[i]);
        coll_free(table);
    }
    b->checksum = read;
}

void mark_random_run(struct bench *b)
{
    run_nodes(b, false);
}

void mark_window_run(struct bench *b)
{
    run_nodes(b, true);
}

/* Numbers are given in the order of allocation. */
static struct tree *make_tree(uint64_t *number, int64_t depth)
{
    struct tree *t = coll_alloc(&tree_type);
    t->number = ++*number;
    t->depth = (uint64_t)depth;
    if (depth > 0) {
        coll_store(&t->left, make_tree(number, depth - 1));
        coll_store(&t->right, make_tree(number, depth - 1));
    }
    return t;
}

static uint64_t read_tree(struct tree *t, uint64_t *number, int64_t depth)
{
    if (t->number != ++*number || t->depth != (uint64_t)depth)
        bench_fail("mark-tree: a node has number", t->number, *number);
    uint64_t sum = mix(t->number, t->depth);
    if (depth > 0) {
        sum = mix(sum, read_tree(t->left, number, depth - 1));
        sum = mix(sum, read_tree(t->right, number, depth - 1));
    }
    coll_free(t);
    return sum;
}

void mark_tree_run(struct bench *b)
{
    int64_t depth = b->params.depth;
    uint64_t number = 0;
    coll_type_register(&tree_type);
    struct tree *tree = make_tree(&number, depth);
    force_collections(b, b->params.steps == 0 ? INT64_MAX : b->params.steps,
                      tree_size(depth));
    number = 0;
    b->checksum = read_tree(tree, &number, depth);
    if (number != tree_size(depth))
        bench_fail("mark-tree: nodes", number, tree_size(depth));
}
