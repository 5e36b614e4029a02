/* tests/test_gc_shapes.c - what is reachable through any shape and any way of
 * moving a pointer stays, while the collector marks beside the mutators.
 *
 * Barriers are tried at the moment that needs them: tests wait for the mark to
 * be on and count how often they met it, so that a pass means something. */
#include "gcsuite.h"

/* --- nodes ----------------------------------------------------------------- */

struct node {
    struct node *next, *other;
    uint64_t id, check;
};

static tarn_type *t_node;

static uint64_t mix(uint64_t id)
{
    return (id + 1) * UINT64_C(0x9E3779B97F4A7C15) ^ UINT64_C(0x1234567);
}

static void register_types(void)
{
    uint64_t map = TARN_PTR(struct node, next) | TARN_PTR(struct node, other);
    struct tarn_type_info info = {"node", sizeof(struct node), &map, NULL};
    t_node = tarn_type_register(&info);
    CHECK(t_node != NULL);
}

__attribute__((noinline)) static struct node *new_node(uint64_t id)
{
    struct node *n = tarn_alloc(t_node);
    CHECK(n != NULL);
    CHECK(n->next == NULL && n->other == NULL && n->id == 0 && n->check == 0);
    n->id = id;
    n->check = mix(id);
    return n;
}

static void check_node(const struct node *n, uint64_t id)
{
    CHECK(n != NULL);
    CHECK_EQ(n->check, mix(id));
    CHECK_EQ(n->id, id);
    CHECK(tarn_object_base(n) == n);
}

/* --- meeting the mark --------------------------------------------------------- */

static bool marking(void)
{
    return atomic_load(&gc.phase) == GC_MARK;
}

static bool is_white(const void *p)
{
    return (meta_load(heap_meta((uintptr_t)p)) & META_COLOR) !=
           atomic_load(&heap.color);
}

/* My stack has been scanned in this mark: it is black. */
static bool stack_black(void)
{
    return marking() &&
           atomic_load_explicit(&getg()->gcscandone, memory_order_relaxed);
}

/* A safe point; where there is but one P, others run. */
static void pause_briefly(void)
{
    if (nprocs > 1)
        tarn_poll();
    else
        tarn_yield();
}

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
    uint64_t n = (uint64_t)scaled(1000000);
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
    uint64_t n = (uint64_t)scaled(60000);
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
    size_t n = (size_t)scaled(400000);
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
    if (atomic_compare_exchange_strong(&door_state, &armed, 2)) {
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
        struct door *d = tarn_alloc(t_door);
        CHECK(d != NULL);
        tarn_store(root, d);
        uint64_t id = (uint64_t)tries;
        tarn_store(&d->inside, new_node(id));
        collect();
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
        hits += steal(d, id, &n);
        d = NULL;
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

static void parked(void *vc)
{
    uint64_t v;
    tarn_chan_recv(vc, &v);
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
    while (__atomic_load_n(&t->wg.count, __ATOMIC_RELAXED) > 0)
        collect();
    tarn_waitgroup_wait(&t->wg);
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

/* --- swap, cas, copy, clear ------------------------------------------------------------------- */

#define POOL 64
struct pool {
    struct node *slot[POOL];
    struct node *top; /* a stack, by tarn_cas */
    tarn_waitgroup wg;
    _Atomic uint64_t ids, pushed, popped, idsum_in, idsum_out;
};

static void pool_push(struct pool *p, struct node *n)
{
    void *top = __atomic_load_n(&p->top, __ATOMIC_RELAXED);
    do
        tarn_store(&n->next, top);
    while (!tarn_cas(&p->top, &top, n));
    atomic_fetch_add(&p->pushed, 1);
    atomic_fetch_add(&p->idsum_in, n->id);
}

static struct node *pool_pop(struct pool *p)
{
    void *top = __atomic_load_n(&p->top, __ATOMIC_ACQUIRE);
    while (top != NULL) {
        struct node *next =
            __atomic_load_n(&((struct node *)top)->next, __ATOMIC_RELAXED);
        if (tarn_cas(&p->top, &top, next)) {
            struct node *n = top;
            check_node(n, n->id);
            atomic_fetch_add(&p->popped, 1);
            atomic_fetch_add(&p->idsum_out, n->id);
            return n;
        }
    }
    return NULL;
}

static void pool_goroutine(void *arg)
{
    struct pool *p = arg;
    uint64_t rng = seed_of(tarn_self());
    for (int i = 0; i < scaled(12000); i++) {
        /* One is held by this stack only, between two exchanges. */
        uint32_t s = below(&rng, POOL);
        struct node *mine = new_node(atomic_fetch_add(&p->ids, 1));
        mine = tarn_swap(&p->slot[s], mine);
        if (i % 16 == 0)
            tarn_yield();
        check_node(mine, mine->id);
        mine = tarn_swap(&p->slot[below(&rng, POOL)], mine);
        check_node(mine, mine->id);
        /* Nodes enter the stack once: no ABA. */
        pool_push(p, new_node((uint64_t)i));
        if (below(&rng, 3)) {
            struct node *n = pool_pop(p);
            if (n != NULL && i % 8 == 0) {
                tarn_yield();
                check_node(n, n->id);
            }
        }
    }
    tarn_waitgroup_done(&p->wg);
}

static void test_swap_cas(void)
{
    struct pool *p = new_shared(sizeof *p);
    for (int i = 0; i < POOL; i++)
        SET(p->slot[i], new_node(atomic_fetch_add(&p->ids, 1)));
    tarn_waitgroup_add(&p->wg, 5);
    for (int i = 0; i < 5; i++)
        go(pool_goroutine, p);
    while (__atomic_load_n(&p->wg.count, __ATOMIC_RELAXED) > 0)
        collect();
    tarn_waitgroup_wait(&p->wg);
    for (int i = 0; i < POOL; i++)
        check_node(p->slot[i], p->slot[i]->id);
    while (pool_pop(p) != NULL)
        ;
    CHECK_EQ(atomic_load(&p->pushed), atomic_load(&p->popped));
    CHECK_EQ(atomic_load(&p->idsum_in), atomic_load(&p->idsum_out));
}

/* Windows of an array are moved, copied out, cleared and copied back. */
#define WINDOW 256
static void test_copy_clear(void)
{
    struct node **a = new_shared(WINDOW * sizeof *a);
    struct node **b = new_shared(WINDOW * sizeof *b);
    static int64_t ma[WINDOW], mb[WINDOW];
    uint64_t rng = seed_of(77), ids = 0;
    int met = 0;
    for (int i = 0; i < WINDOW; i++) {
        ma[i] = (int64_t)ids;
        mb[i] = -1;
        SET(a[i], new_node(ids++));
    }
    for (int i = 0; i < scaled(6000); i++) {
        uint32_t from = below(&rng, WINDOW), to = below(&rng, WINDOW);
        uint32_t most = WINDOW - (from > to ? from : to);
        uint32_t n = below(&rng, most + 1);
        met += marking();
        switch (below(&rng, 5)) {
        case 0: /* overlapping */
            tarn_copy(&a[to], &a[from], n * sizeof *a);
            memmove(&ma[to], &ma[from], n * sizeof *ma);
            break;
        case 1: /* to the other, and gone here: the copy is the only one */
            tarn_copy(&b[to], &a[from], n * sizeof *a);
            tarn_clear(&a[from], n * sizeof *a);
            memcpy(&mb[to], &ma[from], n * sizeof *ma);
            for (uint32_t k = 0; k < n; k++)
                ma[from + k] = -1;
            break;
        case 2:
            tarn_copy(&a[to], &b[from], n * sizeof *a);
            tarn_clear(&b[from], n * sizeof *a);
            memcpy(&ma[to], &mb[from], n * sizeof *ma);
            for (uint32_t k = 0; k < n; k++)
                mb[from + k] = -1;
            break;
        case 3: /* out to this stack, cleared, back */
            for (uint32_t k = 0; k < n && k < 8; k++) {
                struct node *x = a[from + k];
                tarn_clear(&a[from + k], sizeof *a);
                if (k == 0)
                    tarn_yield();
                SET(a[from + k], x);
            }
            break;
        default:
            ma[to] = (int64_t)ids;
            SET(a[to], new_node(ids++));
        }
        if (i % 64 == 0) {
            gc_request();
            tarn_yield();
            for (int k = 0; k < WINDOW; k++) {
                if (ma[k] >= 0)
                    check_node(a[k], (uint64_t)ma[k]);
                else
                    CHECK(a[k] == NULL);
                if (mb[k] >= 0)
                    check_node(b[k], (uint64_t)mb[k]);
                else
                    CHECK(b[k] == NULL);
            }
        }
    }
    printf("     copy met the mark %d times\n", met);
}

/* --- root ranges, globals, timers ----------------------------------------------------------- */

#define RANGE 3000
static struct node *global_nodes[RANGE];

/* From heap to globals to ranges and back: the reference is in one place only
 * between two collections. Globals and plain ranges by tarn_store too, as a
 * pointer travels through them. */
static void test_roots(void)
{
    int n = scaled(RANGE) > 100 ? scaled(RANGE) : 100;
    struct node **barriered = calloc((size_t)n, sizeof *barriered);
    struct node **plain = calloc((size_t)n, sizeof *plain);
    CHECK_ST(tarn_roots_add(barriered, barriered + n, TARN_ROOTS_BARRIERED),
             TARN_OK);
    CHECK_ST(tarn_roots_add(plain, plain + n, TARN_ROOTS_PLAIN), TARN_OK);
    for (int i = 0; i < n; i++)
        SET(global_nodes[i], new_node((uint64_t)i));
    struct node **places[3] = {global_nodes, barriered, plain};
    garbage_start(2);
    for (int round = 0; round < 9; round++) {
        struct node **from = places[round % 3], **to = places[(round + 1) % 3];
        gc_request();
        for (int i = 0; i < n; i++) {
            struct node *x = tarn_swap(&from[i], NULL);
            if (i % 100 == 0)
                tarn_yield();
            SET(to[i], x);
        }
        if (round % 2)
            collect();
        for (int i = 0; i < n; i++)
            check_node(to[i], (uint64_t)i);
    }
    garbage_end();
    CHECK_ST(tarn_roots_remove(barriered, barriered + n), TARN_OK);
    CHECK_ST(tarn_roots_remove(plain, plain + n), TARN_OK);
    for (int i = 0; i < n; i++) {
        check_node(global_nodes[i], (uint64_t)i);
        SET(global_nodes[i], NULL);
    }
    free(barriered);
    free(plain);
}

/* Ranges come with pointers in them, and go. */
static void test_roots_change(void)
{
    enum { SLACK = 3, N = 40 };
    static uint64_t hidden[N];
    for (int round = 0; round < scaled(20); round++) {
        struct node **r = calloc(N, sizeof *r);
        unsigned flags = round & 1 ? TARN_ROOTS_BARRIERED : TARN_ROOTS_PLAIN;
        gc_request();
        if (round & 2)
            tarn_yield();
        CHECK_ST(tarn_roots_add(r, r + N, flags), TARN_OK);
        for (int i = 0; i < N; i++) {
            SET(r[i], new_node((uint64_t)i));
            hidden[i] = hide(r[i]);
            if (i % 16 == 0)
                pause_briefly();
        }
        wipe_stack();
        collect();
        for (int i = 0; i < N; i++)
            check_node(r[i], (uint64_t)i);
        CHECK_ST(tarn_roots_remove(r, r + N), TARN_OK);
        CHECK_ST(tarn_roots_remove(r, r + N), TARN_EINVAL);
        memset(r, 0, N * sizeof *r);
        if (round % 10 == 0) {
            wipe_stack();
            collect();
            collect();
            int kept = 0;
            for (int i = 0; i < N; i++)
                kept += alive(hidden[i]);
            CHECK_LE(kept, SLACK);
        }
        free(r);
    }
}

/* Filled before it is made a root range: while the mark is on, everything that
 * a range brings along must be found. */
static void fill_range(struct node **r, struct node **from, int n)
{
    for (int i = 0; i < n; i++) {
        r[i] = from[i];
        tarn_store(&from[i], NULL);
    }
}

static void test_roots_late(void)
{
    enum { N = 50 };
    int met = 0;
    struct node **from = new_shared(N * sizeof *from);
    for (int round = 0; round < scaled(20); round++) {
        struct node **r = calloc(N, sizeof *r);
        unsigned flags = round & 1 ? TARN_ROOTS_BARRIERED : TARN_ROOTS_PLAIN;
        for (int i = 0; i < N; i++)
            SET(from[i], new_node((uint64_t)i));
        uint64_t target = atomic_load(&gc.cycles) + 1;
        gc_request();
        while (!marking() && atomic_load(&gc.cycles) < target)
            pause_briefly();
        met += marking();
        fill_range(r, from, N);
        CHECK_ST(tarn_roots_add(r, r + N, flags), TARN_OK);
        wipe_stack();
        collect();
        for (int i = 0; i < N; i++)
            check_node(r[i], (uint64_t)i);
        CHECK_ST(tarn_roots_remove(r, r + N), TARN_OK);
        free(r);
    }
    printf("     late roots met the mark %d times\n", met);
}

/* What only a grey stack held goes into memory that becomes a barriered range
 * after the barriered ranges have been scanned. */
__attribute__((noinline)) static bool bury(struct node **white, struct node **r)
{
    bool hit = marking() && !stack_black() && is_white(*white) &&
               atomic_load(&gc.blacken) && atomic_load(&gc.root_next) > 1;
    r[1] = *white;
    *white = NULL;
    CHECK_ST(tarn_roots_add(r, r + 3, TARN_ROOTS_BARRIERED), TARN_OK);
    return hit;
}

static void test_roots_from_stack(void)
{
    tarn_chan *c = new_chan(8, 0);
    for (int i = 0; i < 300; i++)
        go(parked, c);
    int hits = 0, tries = 0, most = nprocs > 1 ? 300 : 10;
    while (hits < 5 && tries++ < most) {
        struct node **r = calloc(3, sizeof *r);
        struct node *white = new_node(6);
        uint64_t target = atomic_load(&gc.cycles) + 1;
        gc_request();
        while (!marking() && atomic_load(&gc.cycles) < target)
            pause_briefly();
        /* No safe point here: the stack stays grey if it is. */
        while (atomic_load(&gc.root_next) < 2 && marking() && nprocs > 1)
            ;
        hits += bury(&white, r);
        collect();
        check_node(r[1], 6);
        CHECK_ST(tarn_roots_remove(r, r + 3), TARN_OK);
        free(r);
    }
    printf("     roots from a stack met %d times in %d\n", hits, tries);
    CHECK_ST(tarn_chan_close(c), TARN_OK);
}

struct timed {
    tarn_waitgroup wg;
    _Atomic int fired;
};
static struct timed *timed_state;

static void on_timer(void *arg)
{
    check_node(arg, ((struct node *)arg)->id);
    atomic_fetch_add(&timed_state->fired, 1);
    tarn_waitgroup_done(&timed_state->wg);
}

__attribute__((noinline)) static void start_timers(tarn_timer **kept, int n)
{
    uint64_t rng = seed_of(5);
    for (int i = 0; i < n; i++) {
        tarn_timer *t = tarn_timer_start(below(&rng, 30) * 1000000, on_timer,
                                         new_node((uint64_t)i));
        CHECK(t != NULL);
        if (i % 4 == 0)
            SET(kept[i / 4], t);
    }
}

static void test_timers(void)
{
    int n = scaled(6000);
    tarn_timer **kept = new_shared(((size_t)n / 4 + 1) * sizeof *kept);
    tarn_store(&timed_state, new_shared(sizeof *timed_state));
    tarn_waitgroup_add(&timed_state->wg, n);
    start_timers(kept, n);
    wipe_stack();
    int stopped = 0;
    for (int i = 0; i < n / 4; i += 5) {
        if (tarn_timer_stop(kept[i])) {
            stopped++;
            tarn_waitgroup_done(&timed_state->wg);
        }
    }
    for (int i = 0; i < 6; i++) {
        collect();
        tarn_sleep(3000000);
    }
    tarn_waitgroup_wait(&timed_state->wg);
    CHECK_EQ(stopped + atomic_load(&timed_state->fired), n);
    tarn_store(&timed_state, NULL);
}

/* --- goroutines ------------------------------------------------------------------------------- */

struct spawn {
    tarn_waitgroup wg;
    _Atomic int ran;
};
static struct spawn *spawn_state;

static void spawned(void *arg)
{
    struct node *n = arg;
    check_node(n, n->id);
    if (n->id % 3 == 0)
        tarn_yield();
    check_node(n, n->id);
    if (n->id > 0 && n->id % 7 != 0) {
        /* Hands on to another goroutine and ends. */
        tarn_waitgroup_add(&spawn_state->wg, 1);
        go(spawned, new_node(n->id - 1));
    }
    atomic_fetch_add(&spawn_state->ran, 1);
    tarn_waitgroup_done(&spawn_state->wg);
}

/* Goroutines are born and die, on stacks that others have left, all through
 * the mark; their argument is all that holds its object. */
static void test_churn(void)
{
    tarn_store(&spawn_state, new_shared(sizeof *spawn_state));
    for (int i = 0; i < scaled(4000); i++) {
        tarn_waitgroup_add(&spawn_state->wg, 1);
        go(spawned, new_node((uint64_t)i));
        if (i % 8 == 0)
            tarn_yield();
        if (i % 64 == 0)
            gc_request();
    }
    tarn_waitgroup_wait(&spawn_state->wg);
    CHECK_GE(atomic_load(&spawn_state->ran), scaled(4000));
    tarn_store(&spawn_state, NULL);
}

/* Depth: frames that hold the only reference each. */
static uint64_t deep(int depth, uint64_t *rng)
{
    struct node *n = new_node((uint64_t)depth);
    uint64_t sum = 0;
    if (depth > 0)
        sum = deep(depth - 1, rng);
    if (below(rng, 16) == 0)
        tarn_yield();
    check_node(n, (uint64_t)depth);
    return sum + n->id;
}

static tarn_waitgroup deep_wg;

static void deep_goroutine(void *arg)
{
    uint64_t rng = seed_of((uintptr_t)arg);
    for (int i = 0; i < scaled(40); i++)
        CHECK_EQ(deep(100, &rng), 5050);
    tarn_waitgroup_done(&deep_wg);
}

static void test_stacks(void)
{
    tarn_waitgroup_add(&deep_wg, 8);
    for (uintptr_t i = 0; i < 8; i++)
        go(deep_goroutine, (void *)i);
    while (__atomic_load_n(&deep_wg.count, __ATOMIC_RELAXED) > 0)
        collect();
    tarn_waitgroup_wait(&deep_wg);
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
    RUN(test_ring);
    RUN(test_swap_cas);
    RUN(test_copy_clear);
    RUN(test_roots);
    RUN(test_roots_change);
    RUN(test_roots_late);
    RUN(test_roots_from_stack);
    RUN(test_timers);
    RUN(test_churn);
    RUN(test_stacks);
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
