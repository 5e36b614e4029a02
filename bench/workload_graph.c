/* bench/workload_graph.c - a random graph that never stops changing.
 *
 * A managed table of --live nodes of 32 bytes: three links and a word. Links go
 * from anywhere to anywhere, and the table's order is not the order of
 * allocation, so a marker misses the cache at almost every edge. A step
 *  - sets four random links,
 *  - replaces one random node: its successor takes its place in the table and
 *    its links; the old node keeps one link, to the successor, and lives on
 *    for as long as somebody links to it,
 *  - and walks eight links, noting its way in a list that it then drops.
 *
 * A node counts the links to it, in all builds: the program without a
 * collector needs the count to free, and the others to know exactly what must
 * be reachable at the end. Replaced nodes point only to newer nodes, so no
 * cycle of them can keep itself alive, and counting is exact.
 *
 * Each worker has a graph of its own.
 */
#include "bench/workload.h"

#define LINKS 3
#define REWIRES 4
#define WALK 8

struct node {
    struct node *link[LINKS];
    uint64_t word; /* place << 32 | replaced << 31 | links to it */
};

#define REPLACED (UINT64_C(1) << 31)
#define COUNT_MASK (REPLACED - 1)

static struct coll_type node_type = {
    .name = "graph.node",
    .size = sizeof(struct node),
    .ptrs = COLL_PTR(struct node, link[0]) | COLL_PTR(struct node, link[1]) |
            COLL_PTR(struct node, link[2]),
};

static inline uint64_t count_of(const struct node *n)
{
    return n->word & COUNT_MASK;
}

struct graph {
    struct node **table;
    uint32_t live;
    uint64_t random;
    uint64_t replaced; /* nodes out of the table that are still linked to */
};

/* One link to a node less; a replaced node nobody links to any more is dead,
 * and its link to its successor with it. */
static void unlink_node(uint64_t *replaced, struct node *n)
{
    for (;;) {
        n->word--;
        if ((n->word & REPLACED) == 0 || count_of(n) != 0)
            return;
        struct node *next = n->link[0];
        coll_free(n);
        --*replaced;
        n = next;
    }
}

static void rewire(struct graph *g)
{
    struct node *from = g->table[rand_below(&g->random, g->live)];
    struct node *to = g->table[rand_below(&g->random, g->live)];
    uint32_t k = rand_below(&g->random, LINKS);
    struct node *old = from->link[k];
    to->word++;
    coll_store(&from->link[k], to);
    unlink_node(&g->replaced, old);
}

static void replace(struct graph *g)
{
    uint32_t place = rand_below(&g->random, g->live);
    struct node *old = g->table[place];
    struct node *next = coll_alloc(&node_type);
    next->word = (uint64_t)place << 32;
    for (int k = 0; k < LINKS; k++)
        coll_store(&next->link[k], old->link[k]);
    coll_store(&g->table[place], next);
    if (count_of(old) == 0) {
        coll_free(old);
        return;
    }
    next->word++;
    old->word |= REPLACED;
    g->replaced++;
    coll_store(&old->link[0], next);
    for (int k = 1; k < LINKS; k++)
        coll_store(&old->link[k], NULL);
}

/* A cell of the walk's list is a node too: link 0 is the next cell. */
static uint64_t walk(struct graph *g)
{
    struct node *at = g->table[rand_below(&g->random, g->live)];
    struct node *list = NULL;
    for (int i = 0; i < WALK; i++) {
        struct node *cell = coll_alloc(&node_type);
        coll_store(&cell->link[0], list);
        coll_store(&cell->link[1], at);
        cell->word = at->word >> 32;
        list = cell;
        /* Which link a replaced node has to offer is known: the first. */
        at = at->link[(at->word & REPLACED) != 0
                          ? 0
                          : rand_below(&g->random, LINKS)];
    }
    uint64_t sum = 0;
    while (list != NULL) {
        struct node *next = list->link[0];
        uint64_t place = list->word;
        if (place >= g->live || list->link[1]->word >> 32 != place)
            bench_fail("graph: a node on the way is of place",
                       list->link[1]->word >> 32, place);
        sum = mix(sum, place);
        coll_free(list);
        list = next;
    }
    return sum;
}

static void build(struct graph *g)
{
    g->table = coll_alloc_ptrs(g->live);
    for (uint32_t i = 0; i < g->live; i++)
        coll_store(&g->table[i], coll_alloc(&node_type));
    for (uint32_t i = g->live - 1; i > 0; i--) {
        uint32_t j = rand_below(&g->random, i + 1);
        struct node *a = g->table[i], *b = g->table[j];
        coll_store(&g->table[i], b);
        coll_store(&g->table[j], a);
    }
    for (uint32_t i = 0; i < g->live; i++) {
        struct node *n = g->table[i];
        n->word |= (uint64_t)i << 32;
        for (int k = 0; k < LINKS; k++) {
            struct node *to = g->table[rand_below(&g->random, g->live)];
            to->word++;
            coll_store(&n->link[k], to);
        }
    }
}

/* Takes one link off each node for each link found. In the end no node may be
 * left with a count, and exactly the replaced nodes that were counted alive
 * must have been seen. Returns a sum over all links; frees the graph. */
static uint64_t verify(struct graph *g)
{
    uint64_t sum = 0, left = 0, replaced = g->replaced;
    for (uint32_t i = 0; i < g->live; i++) {
        struct node *n = g->table[i];
        if (n->word >> 32 != i || (n->word & REPLACED) != 0)
            bench_fail("graph: the table's node is of place", n->word >> 32, i);
        for (int k = 0; k < LINKS; k++) {
            struct node *to = n->link[k];
            if (to == NULL || to->word >> 32 >= g->live || count_of(to) == 0)
                bench_fail("graph: a link leads to a bad node of place",
                           to == NULL ? UINT64_MAX : to->word >> 32, i);
            sum = mix(sum, to->word >> 31);
            unlink_node(&replaced, to);
        }
    }
    for (uint32_t i = 0; i < g->live; i++) {
        left += count_of(g->table[i]);
        coll_free(g->table[i]);
    }
    if (left != 0)
        bench_fail("graph: links that were counted and not found", left, 0);
    if (replaced != 0)
        bench_fail("graph: replaced nodes that were reached",
                   g->replaced - replaced, g->replaced);
    coll_free(g->table);
    return mix(sum, g->replaced);
}

static void run_graph(struct worker *w)
{
    uint64_t limit = w->params->steps == 0
                         ? UINT64_MAX
                         : (uint64_t)worker_share(w, w->params->steps);
    struct graph g = {.live = (uint32_t)worker_share(w, w->params->live),
                      .random = w->seed};
    build(&g);
    worker_steady(w);
    uint64_t sum = 0;
    while (w->steps < limit && w->last < w->deadline) {
        int64_t t = step_begin(w);
        for (int i = 0; i < REWIRES; i++)
            rewire(&g);
        replace(&g);
        sum = mix(sum, walk(&g));
        step_end(w, t);
    }
    w->checksum = mix(sum, verify(&g));
}

void graph_run(struct bench *b)
{
    coll_type_register(&node_type);
    run_workers(b, run_graph);
    for (int64_t i = 0; i < b->params.threads; i++)
        b->checksum = mix(b->checksum, b->workers[i].checksum);
}
