/* tests/test_gc_shapes.c - what is reachable through any shape and any way of
 * moving a pointer stays, while the collector marks beside the mutators.
 *
 * Barriers are tried at the moment that needs them: tests wait for the mark to
 * be on and count how often they met it, so that a pass means something. */
#include "gcnodes.h"

/* --- lists, arrays, cycles ------------------------------------------------------ */

static struct node *build_list(struct node **root, uint64_t n)
{
    tarn_store(root, NULL);
    for (uint64_t i = n; i-- > 0;) {
        struct node *x = new_node(i);
        tarn_store(&x->next, *root);
        tarn_store(root, x);
    }
    return *root;
}

static void check_list(struct node *p, uint64_t n)
{
    uint64_t i = 0;
    for (; p != NULL; p = p->next, i++) {
        CHECK_EQ(p->id, i);
        CHECK_EQ(p->check, mix(i));
    }
    CHECK_EQ(i, n);
}

static void test_long_list(void)
{
    struct node **root = new_shared(sizeof *root);
    uint64_t n = (uint64_t)sized(1000000);
    build_list(root, n);
    collect();
    check_list(*root, n);
    collect();
    check_list(*root, n);
}

/* Reversed in place, over and over, by its owner while the mark walks it. */
static void test_reversal(void)
{
    struct node **root = new_shared(2 * sizeof *root);
    uint64_t n = (uint64_t)sized(60000);
    build_list(root, n);
    int met = 0;
    for (int round = 0; round < 6 || (met == 0 && round < 100); round++) {
        gc_request();
        struct node *done = NULL;
        uint64_t i = 0;
        while (*root != NULL) {
            struct node *x = *root;
            tarn_store(root, x->next);
            tarn_store(&x->next, done);
            done = x;
            met += marking();
            if (++i % 64 == 0)
                pause_briefly();
        }
        tarn_store(root, done);
        done = NULL;
        if (round & 1)
            check_list(*root, n);
    }
    collect();
    if (nprocs > 1 && n > 10000)
        CHECK_GT(met, 0);
}

static void test_wide(void)
{
    size_t n = (size_t)sized(400000);
    struct node **a = tarn_alloc_conservative(n * sizeof *a);
    CHECK(a != NULL);
    for (size_t i = 0; i < n; i++)
        SET(a[i], new_node(i));
    collect();
    for (size_t i = 0; i < n; i += 3) {
        check_node(a[i], i);
        SET(a[i], i % 2 ? NULL : new_node(i));
    }
    collect();
    for (size_t i = 0; i < n; i++)
        if (a[i] != NULL)
            check_node(a[i], i);
        else
            CHECK(i % 3 == 0 && i % 2);
}

__attribute__((noinline)) static void make_cycles(struct node **held,
                                                  uint64_t *dead, int n)
{
    for (int i = 0; i < n; i++) {
        struct node *a = new_node(1), *b = new_node(2), *c = new_node(3);
        tarn_store(&a->next, b);
        tarn_store(&b->next, c);
        tarn_store(&c->next, a);
        tarn_store(&b->other, b);
        if (i % 2)
            SET(held[i], b);
        dead[i] = hide(c);
    }
}

static void test_cycles(void)
{
    enum { N = 60, SLACK = 9 };
    static uint64_t hidden[N];
    struct node **held = new_shared(N * sizeof *held);
    make_cycles(held, hidden, N);
    wipe_stack();
    collect();
    collect();
    int wrong = 0;
    for (int i = 0; i < N; i++) {
        if (i % 2) {
            check_node(held[i], 2);
            check_node(held[i]->next, 3);
            check_node(held[i]->next->next, 1);
            CHECK(held[i]->next->next->next == held[i]);
        } else {
            wrong += alive(hidden[i]);
        }
    }
    CHECK_LE(wrong, SLACK);
}

/* --- the deletion barrier --------------------------------------------------------- */

/* A holder whose callback keeps the marker waiting at the door, until the
 * mutator has moved what is behind it. */
struct door {
    struct node *inside;
};
static tarn_type *t_door;
static _Atomic int door_state; /* 0 open, 1 armed, 2 marker is waiting */

static void trace_door(void *obj, tarn_tracer *tracer)
{
    struct door *d = obj;
    int armed = 1;
    if (atomic_load(&gc.blacken) && /* not checkmark, when the mark begins */
        atomic_compare_exchange_strong(&door_state, &armed, 2)) {
        int64_t end = tarn_now() + 20000000;
        while (atomic_load(&door_state) == 2 && tarn_now() < end)
            ;
    }
    tarn_trace(tracer, __atomic_load_n(&d->inside, __ATOMIC_RELAXED));
}

/* Takes the only reference out of the door, onto this stack, which is black by
 * then. True if it was as wanted. */
__attribute__((noinline)) static bool steal(struct door *d, uint64_t id,
                                            struct node **out)
{
    struct node *n = d->inside;
    bool hit = stack_black() && is_white(n);
    tarn_store(&d->inside, NULL);
    atomic_store(&door_state, 0);
    check_node(n, id);
    *out = n;
    return hit;
}

__attribute__((noinline)) static void make_door(struct door **root, uint64_t id)
{
    struct door *d = tarn_alloc(t_door);
    CHECK(d != NULL);
    tarn_store(root, d);
    tarn_store(&d->inside, new_node(id));
}

static void test_deletion(void)
{
    if (t_door == NULL) {
        struct tarn_type_info info = {"door", sizeof(struct door), NULL,
                                      trace_door};
        t_door = tarn_type_register(&info);
        CHECK(t_door != NULL);
    }
    struct door **root = new_shared(sizeof *root);
    int hits = 0, tries = 0;
    /* One P alone cannot wait for a marker on itself. */
    int most = nprocs > 1 ? 100 : 3;
    while (hits < 5 && tries++ < most) {
        uint64_t id = (uint64_t)tries;
        collect();
        /* Young, so that any collection looks at them. */
        make_door(root, id);
        wipe_stack();
        uint64_t target = atomic_load(&gc.cycles) + 1;
        atomic_store(&door_state, 1);
        gc_request();
        while (atomic_load(&door_state) == 1 &&
               atomic_load(&gc.cycles) < target)
            tarn_yield();
        for (int i = 0; i < 2000 && !stack_black() && marking(); i++)
            tarn_yield();
        struct node *n = NULL;
        hits += steal(*root, id, &n);
        while (atomic_load(&gc.cycles) < target)
            tarn_yield();
        /* It lives on this stack only; the sweep would have taken it. */
        collect();
        check_node(n, id);
    }
    printf("     deletion met %d times in %d\n", hits, tries);
    if (nprocs > 1)
        CHECK_GT(hits, 0);
}

/* --- the insertion barrier ---------------------------------------------------------- */

/* The caller's stack is grey: hides a white object in a black one. */
__attribute__((noinline)) static bool conceal(struct node **white,
                                              struct node *black)
{
    struct node *n = *white;
    bool hit = marking() && !stack_black() && is_white(n) && !is_white(black);
    tarn_store(&black->next, n);
    *white = NULL;
    return hit;
}

static void test_insertion(void)
{
    /* Many stacks before ours. */
    tarn_chan *c = new_chan(8, 0);
    for (int i = 0; i < 300; i++)
        go(parked, c);
    struct node **root = new_shared(sizeof *root);
    int hits = 0, tries = 0;
    int most = nprocs > 1 ? 300 : 10;
    while (hits < 5 && tries++ < most) {
        struct node *white = new_node(4);
        uint64_t target = atomic_load(&gc.cycles) + 1;
        gc_request();
        while (!marking() && atomic_load(&gc.cycles) < target)
            pause_briefly();
        struct node *black = new_node(5); /* black if the mark is on */
        hits += conceal(&white, black);
        tarn_store(root, black);
        black = NULL;
        collect();
        check_node(*root, 5);
        check_node((*root)->next, 4);
    }
    printf("     insertion met %d times in %d\n", hits, tries);
    if (nprocs > 1)
        CHECK_GT(hits, 0);
    CHECK_ST(tarn_chan_close(c), TARN_OK);
}

/* --- random graphs -------------------------------------------------------------------- */

/* Each goroutine changes a graph of its own at random and keeps a model of it
 * in memory that the collector does not see. */
#define GRAPH_ROOTS 16
struct model {
    int32_t next, other;
};
struct graph {
    struct node **root; /* managed */
    int32_t *mroot;
    struct model *m;
    uint64_t *where; /* hidden address of each node */
    int32_t n, cap;
    uint64_t rng;
    tarn_waitgroup *wg;
};

static struct graph graphs[6];

/* No two nodes of all graphs have the same. */
static uint64_t id_of(const struct graph *g, int32_t id)
{
    return (uint64_t)(g - graphs + 1) << 32 | (uint32_t)id;
}

static void graph_check(struct graph *g, struct node *n, int32_t id, int depth)
{
    while (id >= 0) {
        check_node(n, id_of(g, id));
        if (depth <= 0)
            return;
        if (below(&g->rng, 2)) {
            n = n->next;
            id = g->m[id].next;
        } else {
            n = n->other;
            id = g->m[id].other;
        }
        depth--;
    }
    CHECK(n == NULL);
}

/* A walk of some steps from a root; NULL and -1 if it ends. */
static struct node *graph_pick(struct graph *g, int32_t *id)
{
    uint32_t r = below(&g->rng, GRAPH_ROOTS);
    struct node *n = g->root[r];
    *id = g->mroot[r];
    for (uint32_t steps = below(&g->rng, 6); n != NULL && steps > 0; steps--) {
        struct node *to = steps & 1 ? n->next : n->other;
        int32_t tid = steps & 1 ? g->m[*id].next : g->m[*id].other;
        if (to == NULL) {
            CHECK_EQ(tid, -1);
            break;
        }
        n = to;
        *id = tid;
    }
    if (n != NULL)
        check_node(n, id_of(g, *id));
    else
        CHECK_EQ(*id, -1);
    return n;
}

static void graph_step(struct graph *g)
{
    int32_t a, b;
    struct node *x = graph_pick(g, &a), *y;
    uint32_t r = below(&g->rng, GRAPH_ROOTS);
    switch (below(&g->rng, 8)) {
    case 0:
    case 1:
        if (g->n == g->cap)
            break;
        y = new_node(id_of(g, g->n));
        g->m[g->n] = (struct model){a, -1};
        g->where[g->n] = hide(y);
        tarn_store(&y->next, x);
        SET(g->root[r], y);
        g->mroot[r] = g->n++;
        break;
    case 2:
        SET(g->root[r], x);
        g->mroot[r] = a;
        break;
    case 3:
        SET(g->root[r], NULL);
        g->mroot[r] = -1;
        break;
    case 4:
    case 5:
        y = graph_pick(g, &b);
        if (x != NULL) {
            tarn_store(&x->next, y);
            g->m[a].next = b;
        }
        break;
    case 6:
        y = graph_pick(g, &b);
        if (x != NULL) {
            y = tarn_swap(&x->other, y);
            int32_t old = g->m[a].other;
            g->m[a].other = b;
            graph_check(g, y, old, 3);
        }
        break;
    default:
        /* Held by this stack alone while others run. */
        if (x != NULL && x->next != NULL) {
            y = x->next;
            b = g->m[a].next;
            tarn_store(&x->next, NULL);
            g->m[a].next = -1;
            tarn_yield();
            check_node(y, id_of(g, b));
            tarn_store(&x->other, y);
            g->m[a].other = b;
        }
    }
}

/* Every reachable node is there; most of the others are not (a stale word can
 * hold a long chain). */
static void graph_verify(struct graph *g, bool dead_too)
{
    int32_t *todo = calloc((size_t)g->cap * 3 + GRAPH_ROOTS, sizeof *todo);
    bool *seen = calloc((size_t)g->cap, 1);
    struct node **at = new_shared((size_t)g->cap * sizeof *at);
    int32_t n = 0;
    for (int i = 0; i < GRAPH_ROOTS; i++)
        if (g->mroot[i] >= 0) {
            todo[n++] = g->mroot[i];
            SET(at[g->mroot[i]], g->root[i]);
        }
    while (n > 0) {
        int32_t id = todo[--n];
        if (seen[id])
            continue;
        seen[id] = true;
        struct node *x = at[id];
        check_node(x, id_of(g, id));
        CHECK(hide(x) == g->where[id]);
        int32_t kids[2] = {g->m[id].next, g->m[id].other};
        struct node *to[2] = {x->next, x->other};
        for (int k = 0; k < 2; k++) {
            if (kids[k] < 0) {
                CHECK(to[k] == NULL);
                continue;
            }
            SET(at[kids[k]], to[k]);
            if (!seen[kids[k]])
                todo[n++] = kids[k];
        }
    }
    int dead = 0, kept = 0;
    for (int32_t i = 0; dead_too && i < g->n; i++)
        if (!seen[i]) {
            dead++;
            /* Its place may be another's by now. */
            kept += alive(g->where[i]) &&
                    ((struct node *)reveal(g->where[i]))->id == id_of(g, i);
        }
    if (dead_too && dead > 2000)
        CHECK_LT(kept, dead / 2);
    tarn_clear(at, (size_t)g->cap * sizeof *at);
    free(todo);
    free(seen);
}

static void graph_goroutine(void *arg)
{
    struct graph *g = &graphs[(uintptr_t)arg];
    int steps = scaled(40000);
    for (int i = 0; i < steps; i++) {
        graph_step(g);
        if (i % 256 == 0)
            tarn_yield();
        if (i % (steps / 3 + 1) == steps / 3)
            graph_verify(g, false);
    }
    tarn_waitgroup_done(g->wg);
}

static void test_random_graphs(void)
{
    static tarn_waitgroup wg;
    enum { N = 6 };
    for (uintptr_t i = 0; i < N; i++) {
        struct graph *g = &graphs[i];
        g->cap = 12000;
        g->n = 0;
        g->m = calloc((size_t)g->cap, sizeof *g->m);
        g->where = calloc((size_t)g->cap, sizeof *g->where);
        g->mroot = malloc(GRAPH_ROOTS * sizeof *g->mroot);
        for (int r = 0; r < GRAPH_ROOTS; r++)
            g->mroot[r] = -1;
        tarn_store(&g->root, new_shared(GRAPH_ROOTS * sizeof *g->root));
        g->rng = seed_of(100 + i);
        g->wg = &wg;
        tarn_waitgroup_add(&wg, 1);
        go(graph_goroutine, (void *)i);
    }
    /* Collections all the while. */
    while (__atomic_load_n(&wg.count, __ATOMIC_RELAXED) > 0) {
        collect();
        tarn_yield();
    }
    tarn_waitgroup_wait(&wg);
    wipe_stack();
    collect();
    collect();
    for (int i = 0; i < N; i++) {
        graph_verify(&graphs[i], true);
        free(graphs[i].m);
        free(graphs[i].where);
        free(graphs[i].mroot);
        tarn_store(&graphs[i].root, NULL);
    }
}

/* --- through channels -------------------------------------------------------------------- */

/* Elements of three sizes: a pointer; a pointer among others; many. */
#define FAT_WORDS 700
struct item {
    uint64_t id;
    struct node *n;
    uint64_t pad;
};
struct fat {
    struct node *n[FAT_WORDS];
};

struct pipe_test {
    tarn_chan *plain, *items, *fats;
    tarn_waitgroup wg;
    int count;
};

static void send_plain(void *arg)
{
    struct pipe_test *t = arg;
    for (int i = 0; i < t->count; i++) {
        struct node *n = new_node((uint64_t)i);
        CHECK_ST(tarn_chan_send(t->plain, &n), TARN_OK);
    }
    tarn_waitgroup_done(&t->wg);
}

static void send_items(void *arg)
{
    struct pipe_test *t = arg;
    for (int i = 0; i < t->count; i++) {
        struct item x = {(uint64_t)i, new_node((uint64_t)i), 0};
        CHECK_ST(tarn_chan_send(t->items, &x), TARN_OK);
    }
    tarn_waitgroup_done(&t->wg);
}

static void send_fats(void *arg)
{
    struct pipe_test *t = arg;
    for (int i = 0; i < t->count / 50 + 1; i++) {
        /* Managed operand: shared stacks need not be that large. */
        struct fat *f = new_shared(sizeof *f);
        for (int j = 0; j < FAT_WORDS; j += 7)
            SET(f->n[j], new_node((uint64_t)(i + j)));
        CHECK_ST(tarn_chan_send(t->fats, f), TARN_OK);
        tarn_clear(f, sizeof *f);
    }
    tarn_waitgroup_done(&t->wg);
}

static void recv_fats(void *arg)
{
    struct pipe_test *t = arg;
    struct fat *f = new_shared(sizeof *f);
    for (int i = 0; i < t->count / 50 + 1; i++) {
        CHECK_ST(tarn_chan_recv(t->fats, f), TARN_OK);
        tarn_yield();
        for (int j = 0; j < FAT_WORDS; j++)
            if (j % 7 == 0)
                check_node(f->n[j], (uint64_t)(i + j));
            else
                CHECK(f->n[j] == NULL);
    }
    tarn_waitgroup_done(&t->wg);
}

/* Receives from two by select, and passes some on to itself by send cases. */
static void recv_select(void *arg)
{
    struct pipe_test *t = arg;
    int plain = 0, items = 0;
    while (plain < t->count || items < t->count) {
        struct node *n = NULL;
        struct item x = {0, NULL, 0};
        struct tarn_select_case cases[2] = {
            {plain < t->count ? t->plain : NULL, TARN_SELECT_RECV, &n, TARN_OK},
            {items < t->count ? t->items : NULL, TARN_SELECT_RECV, &x, TARN_OK},
        };
        int k = tarn_select(cases, 2, false);
        tarn_yield();
        if (k == 0) {
            check_node(n, (uint64_t)plain++);
        } else {
            CHECK_EQ(k, 1);
            CHECK_EQ(x.id, (uint64_t)items);
            check_node(x.n, (uint64_t)items++);
        }
    }
    tarn_waitgroup_done(&t->wg);
}

static void channels_with(size_t cap)
{
    struct pipe_test *t = new_shared(sizeof *t);
    SET(t->plain, new_chan(sizeof(struct node *), cap));
    SET(t->items, new_chan(sizeof(struct item), cap));
    SET(t->fats, new_chan(sizeof(struct fat), cap > 3 ? 3 : cap));
    t->count = scaled(4000);
    tarn_waitgroup_add(&t->wg, 5);
    go(send_plain, t);
    go(send_items, t);
    go(send_fats, t);
    go(recv_fats, t);
    go(recv_select, t);
    while (__atomic_load_n(&t->wg.count, __ATOMIC_RELAXED) > 0) {
        collect();
        tarn_yield();
    }
    tarn_waitgroup_wait(&t->wg);
}

/* Who collects in a loop, its driver and a mark worker ready each other in turn, and
 * stop the world whenever somebody looks: their slice ends all the same. */
static _Atomic int turns;

static void takes_turns(void *unused)
{
    (void)unused;
    while (atomic_fetch_add(&turns, 1) < 100)
        tarn_yield();
}

static void test_collecting_in_a_loop(void)
{
    atomic_store(&turns, 0);
    for (int i = 0; i < 5; i++)
        go(takes_turns, NULL);
    int n = 0;
    for (; atomic_load(&turns) < 100; n++) {
        CHECK_LT(n, 200000);
        collect();
    }
    printf("     %d collections\n", n);
}

static void test_channels(void)
{
    channels_with(0);
    channels_with(1);
    channels_with(100);
}

/* A ring of goroutines: each object's only reference is always under way. */
#define RING 16
struct ring {
    tarn_chan *c[RING];
    tarn_waitgroup wg;
    _Atomic uint32_t at;
    _Atomic int hops;
};

static void ring_member(void *arg)
{
    struct ring *r = arg;
    uint32_t me = atomic_fetch_add(&r->at, 1);
    struct node *n = NULL;
    while (tarn_chan_recv(r->c[me], &n) == TARN_OK) {
        check_node(n, n->id);
        CHECK_LT(n->id, (uint64_t)3);
        if (me == 0 && n->other == NULL)
            tarn_store(&n->other, new_node(n->id));
        check_node(n->other, n->id);
        if (tarn_chan_send(r->c[(me + 1) % RING], &n) != TARN_OK)
            break;
        atomic_fetch_add(&r->hops, 1);
    }
    tarn_waitgroup_done(&r->wg);
}

static void test_ring(void)
{
    struct ring *r = new_shared(sizeof *r);
    for (int i = 0; i < RING; i++)
        SET(r->c[i], new_chan(sizeof(struct node *), i % 4 == 0 ? 4 : 0));
    tarn_waitgroup_add(&r->wg, RING);
    for (int i = 0; i < RING; i++)
        go(ring_member, r);
    for (int i = 0; i < 3; i++) {
        struct node *n = new_node((uint64_t)i);
        CHECK_ST(tarn_chan_send(r->c[0], &n), TARN_OK);
    }
    wipe_stack();
    while (atomic_load(&r->hops) < scaled(10000))
        collect();
    for (int i = 0; i < RING; i++)
        CHECK_ST(tarn_chan_close(r->c[i]), TARN_OK);
    tarn_waitgroup_wait(&r->wg);
}

static void body(void)
{
    if (t_node == NULL)
        register_types();
    RUN(test_long_list);
    RUN(test_reversal);
    RUN(test_wide);
    RUN(test_cycles);
    RUN(test_deletion);
    RUN(test_insertion);
    RUN(test_random_graphs);
    RUN(test_channels);
    RUN(test_collecting_in_a_loop);
    RUN(test_ring);
}

int main(int argc, char **argv)
{
    harness_init(argc, argv);
    gc_run(body, 1, "checkmark=1");
    gc_run(body, 4, "");
    gc_run(body, 4, "checkmark=1,gcstress=64");
    gc_run(body, 16, "checkmark=1,droppreempt=30,gcstress=500");
    return harness_done();
}
