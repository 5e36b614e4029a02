/* tests/test_weak.c - weak references, ephemerons, weak maps.
 *
 * What is dropped is dropped in a frame that has ended, and wiped; a few of many may
 * be held by what is left of pointers on the stack all the same (SLACK). */
#include "gcnodes.h"

enum { SLACK = 9 };

static int dead_of(tarn_weak **w, int n)
{
    int dead = 0;
    for (int i = 0; i < n; i++)
        dead += tarn_weak_get(w[i]) == NULL;
    return dead;
}

/* n nodes with weak references to them; the odd ones are held. */
__attribute__((noinline)) static void make_weak(tarn_weak **w,
                                                struct node **held, int n)
{
    for (int i = 0; i < n; i++) {
        struct node *x = new_node((uint64_t)i);
        SET(w[i], tarn_weak_new(x));
        CHECK(w[i] != NULL);
        CHECK(tarn_weak_get(w[i]) == x);
        CHECK(tarn_weak_new(x) == w[i]);
        if (i % 2)
            SET(held[i], x);
    }
}

static void check_weak(void (*collection)(void))
{
    enum { N = 200 };
    tarn_weak **w = new_shared(N * sizeof *w);
    struct node **held = new_shared(N * sizeof *held);
    make_weak(w, held, N);
    wipe_stack();
    collection();
    for (int i = 1; i < N; i += 2) {
        check_node(tarn_weak_get(w[i]), (uint64_t)i);
        CHECK(tarn_weak_new(held[i]) == w[i]);
    }
    /* What comes during the mark of a full one, as gcstress has it, is old then. */
    int slack = collection != collect && options.gcstress != 0 ? N / 2 : SLACK;
    CHECK_GE(dead_of(w, N), N / 2 - slack);
    /* Once dead, dead for ever, whatever lies there now. */
    struct node **others = new_shared(N * sizeof *others);
    for (int i = 0; i < N; i++)
        SET(others[i], new_node(1000));
    CHECK_GE(dead_of(w, N), N / 2 - slack);
    for (int i = 1; i < N; i += 2)
        SET(held[i], NULL);
    collect();
    CHECK_GE(dead_of(w, N), N - SLACK);
}

static void test_full(void)
{
    check_weak(collect);
}

static void test_young(void)
{
    check_weak(gc_collect_young);
}

/* The reference alone keeps nothing but itself; it may outlive its object and be
 * dropped before it. */
__attribute__((noinline)) static void drop_references(struct node **held, int n)
{
    for (int i = 0; i < n; i++) {
        SET(held[i], new_node(7));
        for (int k = 0; k < 3; k++)
            CHECK(tarn_weak_new(held[i]) != NULL);
    }
}

static void test_dropped_references(void)
{
    enum { N = 300 };
    struct node **held = new_shared(N * sizeof *held);
    drop_references(held, N);
    collect();
    for (int i = 0; i < N; i++) {
        check_node(held[i], 7);
        tarn_weak *w = tarn_weak_new(held[i]);
        CHECK(tarn_weak_get(w) == held[i]);
    }
}

static void test_bad_objects(void)
{
    struct node *x = new_node(1);
    static int global;
    CHECK(tarn_weak_new(NULL) == NULL);
    CHECK_STR(tarn_last_error(), "tarn_weak_new");
    CHECK(tarn_weak_new((char *)x + 8) == NULL);
    CHECK(tarn_weak_new(&global) == NULL);
    CHECK(tarn_weak_get(NULL) == NULL);
    tarn_weakmap *m = tarn_weakmap_new();
    CHECK_ST(tarn_weakmap_set(m, &x->other, x), TARN_EINVAL);
    CHECK_STR(tarn_last_error(), "tarn_weakmap_set");
    CHECK_ST(tarn_weakmap_set(NULL, x, x), TARN_EINVAL);
    CHECK(!tarn_weakmap_find(m, &global, NULL));
    CHECK(!tarn_weakmap_remove(NULL, x));
    CHECK_ST(tarn_weakmap_each(m, NULL, NULL), TARN_EINVAL);
    CHECK(tarn_ephemeron_new(&global, x) == NULL);
    CHECK(!tarn_ephemeron_get(NULL, NULL, NULL));
}

/* Large objects, and many kinds of specials in one span. */
static void test_large(void)
{
    enum { N = 20 };
    tarn_weak **w = new_shared(N * sizeof *w);
    tarn_weakmap *m = tarn_weakmap_new();
    void **held = new_shared(N * sizeof *held);
    for (int i = 0; i < N; i++) {
        SET(held[i], tarn_alloc_bytes(40000 + (size_t)i * 5000));
        SET(w[i], tarn_weak_new(held[i]));
        CHECK_ST(tarn_weakmap_set(m, held[i], w[i]), TARN_OK);
    }
    collect();
    CHECK_EQ(tarn_weakmap_count(m), N);
    for (int i = 0; i < N; i++) {
        CHECK(tarn_weak_get(w[i]) == held[i]);
        CHECK(tarn_weakmap_get(m, held[i]) == w[i]);
        SET(held[i], NULL);
    }
    wipe_stack();
    collect();
    CHECK_GE(dead_of(w, N), N - SLACK);
    CHECK_LE(tarn_weakmap_count(m), SLACK);
}

/* --- reading while the collector marks and sweeps ------------------------------------ */

enum { HOT = 64, SLOTS = 32768 };
struct race {
    tarn_weak *weak[SLOTS];
    struct node *strong[SLOTS];
    tarn_waitgroup wg;
    _Atomic uint64_t got, dead, while_marking, while_sweeping;
    _Atomic int stop;
};

/* Puts new nodes into slots, most with a weak reference alone. */
static void race_writer(void *vr)
{
    struct race *r = vr;
    uint64_t rng = seed_of(3);
    for (uint64_t i = 0; !atomic_load(&r->stop); i++) {
        uint32_t k = below(&rng, below(&rng, 2) ? SLOTS : HOT);
        struct node *x = new_node(k);
        tarn_weak *w = tarn_weak_new(x);
        CHECK(w != NULL);
        tarn_store(&r->strong[k], below(&rng, 4) == 0 ? x : NULL);
        tarn_store(&r->weak[k], w);
        x = NULL;
        if (i % 16 == 0)
            pause_briefly();
    }
    tarn_waitgroup_done(&r->wg);
}

__attribute__((noinline)) static void race_read(struct race *r, uint32_t k,
                                                struct node **keep)
{
    tarn_weak *w = __atomic_load_n(&r->weak[k], __ATOMIC_RELAXED);
    bool mark = marking(), sweep = !heap_sweep_done();
    struct node *x = w != NULL ? tarn_weak_get(w) : NULL;
    if (x == NULL) {
        atomic_fetch_add(&r->dead, w != NULL);
        return;
    }
    /* Under clobberfree this is enough to see that nobody has swept it. */
    check_node(x, k);
    tarn_store(keep, x); /* for a while */
    atomic_fetch_add(&r->got, 1);
    atomic_fetch_add(&r->while_marking, mark);
    atomic_fetch_add(&r->while_sweeping, sweep);
}

static void race_reader(void *vr)
{
    struct race *r = vr;
    uint64_t rng = seed_of(tarn_self());
    struct node **keep = new_shared(8 * sizeof *keep);
    for (uint64_t i = 0; !atomic_load(&r->stop); i++) {
        struct node *old = keep[i % 8];
        if (old != NULL)
            check_node(old, old->id);
        /* Who reads them all keeps them all alive. */
        race_read(r, below(&rng, i % 256 == 0 ? SLOTS : HOT), &keep[i % 8]);
        if (i % 16 == 0)
            pause_briefly();
    }
    tarn_waitgroup_done(&r->wg);
}

static void test_race(void)
{
    struct race *r = new_shared(sizeof *r);
    int readers = 3;
    tarn_waitgroup_add(&r->wg, readers + 1);
    go(race_writer, r);
    for (int i = 0; i < readers; i++)
        go(race_reader, r);
    for (int i = 0; i < harness_reps(12) ||
                    ((atomic_load(&r->got) == 0 ||
                      (nprocs > 1 && (atomic_load(&r->while_marking) == 0 ||
                                      atomic_load(&r->dead) == 0))) &&
                     i < 1000);
         i++) {
        if (i % 2)
            gc_collect_young();
        else
            collect();
        tarn_yield();
    }
    atomic_store(&r->stop, 1);
    tarn_waitgroup_wait(&r->wg);
    CHECK_GT(atomic_load(&r->got), 0);
    if (nprocs > 1) {
        CHECK_GT(atomic_load(&r->while_marking), 0);
        CHECK_GT(atomic_load(&r->dead), 0);
    }
}

/* --- ephemerons and maps ----------------------------------------------------------------- */

/* Values that point to their keys die with them. */
__attribute__((noinline)) static void circular_entries(tarn_weakmap *m,
                                                       tarn_weak **w, int n)
{
    for (int i = 0; i < n; i++) {
        struct node *key = new_node(1), *value = new_node(2);
        tarn_store(&value->next, key);
        CHECK_ST(tarn_weakmap_set(m, key, value), TARN_OK);
        CHECK(tarn_weakmap_get(m, key) == value);
        SET(w[i], tarn_weak_new(value));
    }
}

static void test_value_reaches_key(void)
{
    enum { N = 200 };
    tarn_weakmap *m = tarn_weakmap_new();
    tarn_weak **w = new_shared(N * sizeof *w);
    circular_entries(m, w, N);
    wipe_stack();
    collect();
    CHECK_GE(dead_of(w, N), N - SLACK);
    CHECK_LE(tarn_weakmap_count(m), SLACK);
}

/* A chain of entries, each value the next one's key: alive as long as its first key
 * is, and gone in one collection. Nodes in an order that no marker likes. */
struct chain {
    struct node **nodes;
    tarn_weakmap *m[3];
    uint64_t *hidden;
};

__attribute__((noinline)) static void build_chain(struct chain *c, uint32_t n)
{
    uint64_t rng = seed_of(17);
    uint32_t *at = tarn_alloc_bytes(n * sizeof *at);
    for (uint32_t i = 0; i < n; i++) {
        at[i] = i;
        SET(c->nodes[i], new_node(i));
    }
    for (uint32_t i = n; i-- > 1;) {
        uint32_t k = below(&rng, i + 1), t = at[i];
        at[i] = at[k];
        at[k] = t;
    }
    struct node *first = c->nodes[at[0]];
    for (uint32_t i = 0; i < n; i++) {
        c->hidden[i] = hide(c->nodes[at[i]]);
        if (i + 1 < n)
            CHECK_ST(tarn_weakmap_set(c->m[i % 3], c->nodes[at[i]],
                                      c->nodes[at[i + 1]]),
                     TARN_OK);
    }
    tarn_clear(c->nodes, n * sizeof *c->nodes);
    tarn_store(&c->nodes[0], first);
}

/* In frames of their own: a pointer that is left in the caller's would keep all that
 * follows. */
__attribute__((noinline)) static void walk_chain(struct chain *c, uint32_t n)
{
    void *p = c->nodes[0];
    uint32_t i = 0;
    for (; p != NULL; p = tarn_weakmap_get(c->m[i % 3], p), i++)
        CHECK(p == reveal(c->hidden[i]));
    CHECK_EQ(i, n);
}

__attribute__((noinline)) static void drop_first(struct chain *c)
{
    SET(c->nodes[0], NULL);
}

/* A value that is younger than its key, and set after it became old. */
__attribute__((noinline)) static void check_young_value(struct chain *c,
                                                        uint32_t n)
{
    struct node *last = reveal(c->hidden[n - 1]);
    tarn_weakmap *m = c->m[(n - 1) % 3];
    CHECK_ST(tarn_weakmap_set(m, last, new_node(4711)), TARN_OK);
    gc_collect_young();
    check_node(tarn_weakmap_get(m, last), 4711);
    CHECK_ST(tarn_weakmap_set(m, last, NULL), TARN_OK);
}

/* On a goroutine that ends before the chain is dropped: one stray pointer on a stack
 * holds half of it. */
struct chain_user {
    struct chain *c;
    uint32_t n;
    tarn_waitgroup wg;
};

static void use_chain(void *vu)
{
    struct chain_user *u = vu;
    build_chain(u->c, u->n);
    wipe_stack();
    collect();
    walk_chain(u->c, u->n);
    gc_collect_young();
    walk_chain(u->c, u->n);
    check_young_value(u->c, u->n);
    tarn_waitgroup_done(&u->wg);
}

static size_t entries_of(struct chain *c)
{
    size_t n = 0;
    for (int i = 0; i < 3; i++)
        n += tarn_weakmap_count(c->m[i]);
    return n;
}

/* How many are left after one collection. */
__attribute__((noinline)) static size_t left_of_chain(uint32_t n)
{
    struct chain_user *u = new_shared(sizeof *u);
    u->n = n;
    SET(u->c, new_shared(sizeof *u->c));
    SET(u->c->nodes, tarn_alloc_conservative(u->n * sizeof *u->c->nodes));
    SET(u->c->hidden, tarn_alloc_bytes(u->n * sizeof *u->c->hidden));
    for (int i = 0; i < 3; i++)
        SET(u->c->m[i], tarn_weakmap_new());
    size_t goroutines = tarn_goroutines();
    tarn_waitgroup_add(&u->wg, 1);
    go(use_chain, u);
    tarn_waitgroup_wait(&u->wg);
    while (tarn_goroutines() > goroutines)
        tarn_yield();
    CHECK_GE(entries_of(u->c), u->n - 1);
    drop_first(u->c);
    collect();
    return entries_of(u->c);
}

/* The address of some page on our stack, where the runtime left it, is that of the end
 * of a node as well: then another chain lies elsewhere. */
static void test_chain(void)
{
    uint32_t n = (uint32_t)sized(50000);
    size_t left = left_of_chain(n);
    for (int i = 0; i < 8 && left > SLACK; i++)
        left = left_of_chain(n);
    CHECK_LE(left, SLACK);
}

/* A map that dies drops its values, though their keys live. */
__attribute__((noinline)) static void map_of_its_own(struct node **keys,
                                                     tarn_weak **w, int n)
{
    tarn_weakmap *m = tarn_weakmap_new();
    for (int i = 0; i < n; i++) {
        struct node *value = new_node(5);
        CHECK_ST(tarn_weakmap_set(m, keys[i], value), TARN_OK);
        SET(w[i], tarn_weak_new(value));
    }
}

static void test_map_dies(void)
{
    enum { N = 200 };
    struct node **keys = new_shared(N * sizeof *keys);
    tarn_weak **w = new_shared(N * sizeof *w);
    for (int i = 0; i < N; i++)
        SET(keys[i], new_node((uint64_t)i));
    map_of_its_own(keys, w, N);
    wipe_stack();
    collect();
    /* One pointer to the map on a stack holds all of them. */
    for (int i = 0; i < 3 && dead_of(w, N) < N - SLACK; i++) {
        wipe_stack();
        collect();
    }
    CHECK_GE(dead_of(w, N), N - SLACK);
    /* And another one finds its own. */
    tarn_weakmap *m = tarn_weakmap_new();
    for (int i = 0; i < N; i++)
        CHECK(!tarn_weakmap_find(m, keys[i], NULL));
}

/* A map that is itself only reached by an entry, small and large: marked late. */
static void test_map_in_a_map(void)
{
    for (int n = 10; n <= 1000; n *= 10) {
        tarn_weakmap *outer = tarn_weakmap_new();
        struct node **keys = new_shared((size_t)n * sizeof *keys);
        for (int i = 0; i < n; i++)
            SET(keys[i], new_node((uint64_t)i));
        tarn_weakmap *inner = tarn_weakmap_new();
        for (int i = 0; i < n; i++)
            CHECK_ST(tarn_weakmap_set(inner, keys[i], new_node(1000)), TARN_OK);
        CHECK_ST(tarn_weakmap_set(outer, keys[0], inner), TARN_OK);
        inner = NULL;
        wipe_stack();
        collect();
        inner = tarn_weakmap_get(outer, keys[0]);
        for (int i = 0; i < n; i++)
            check_node(tarn_weakmap_get(inner, keys[i]), 1000);
    }
}

/* A chain of maps with many entries, each only reached by the one before, which lies
 * behind it: every link is met as late as can be. One look at all specials for each
 * would take minutes. */
enum { LINK_ENTRIES = 70 };

__attribute__((noinline)) static tarn_weakmap *chain_of_maps(struct node **keys,
                                                             int links)
{
    tarn_weakmap **m = new_shared((size_t)links * sizeof *m);
    for (int i = 0; i < links * LINK_ENTRIES; i++)
        SET(keys[i], new_node((uint64_t)i));
    for (int i = 0; i < links; i++)
        SET(m[i], tarn_weakmap_new());
    for (int l = 0; l + 1 < links; l++)
        for (int i = 0; i < LINK_ENTRIES; i++)
            CHECK_ST(tarn_weakmap_set(m[l],
                                      keys[(links - 1 - l) * LINK_ENTRIES + i],
                                      i ? NULL : m[l + 1]),
                     TARN_OK);
    tarn_weakmap *first = m[0];
    for (int l = 0; l < links; l++)
        SET(m[l], NULL);
    return first;
}

static void test_chain_of_maps(void)
{
    int links = scaled(6000);
    struct node **keys =
        new_shared((size_t)links * LINK_ENTRIES * sizeof *keys);
    tarn_weakmap *volatile m = chain_of_maps(keys, links);
    wipe_stack();
    collect();
    for (int l = 0; l + 1 < links; l++) {
        CHECK_EQ(tarn_weakmap_count(m), LINK_ENTRIES);
        m = tarn_weakmap_get(m, keys[(links - 1 - l) * LINK_ENTRIES]);
        CHECK(m != NULL);
    }
    CHECK_EQ(tarn_weakmap_count(m), 0);
}

struct visited {
    tarn_weakmap *m;
    struct node **extra;
    int n, removed, stop_at;
    bool odd;
};

static bool visit(void *key, void *value, void *vv)
{
    struct visited *v = vv;
    struct node *k = key;
    if (k->id < 1000) {
        CHECK(value == (k->id % 3 ? key : NULL));
        v->n++;
        if (k->id % 2) {
            CHECK(tarn_weakmap_remove(v->m, key));
            v->removed++;
        } else {
            /* New entries do not make it endless. */
            struct node *x = new_node(1000 + k->id);
            SET(v->extra[k->id], x);
            CHECK_ST(tarn_weakmap_set(v->m, x, x), TARN_OK);
        }
    }
    if (k->id % 16 == 0)
        tarn_yield();
    return v->n != v->stop_at;
}

static void test_each(void)
{
    enum { N = 300 };
    struct visited *v = new_shared(sizeof *v);
    struct node **keys = new_shared(N * sizeof *keys);
    SET(v->m, tarn_weakmap_new());
    SET(v->extra, tarn_alloc_conservative(N * sizeof *v->extra));
    for (int i = 0; i < N; i++) {
        SET(keys[i], new_node((uint64_t)i));
        CHECK_ST(tarn_weakmap_set(v->m, keys[i], i % 3 ? keys[i] : NULL),
                 TARN_OK);
    }
    CHECK_EQ(tarn_weakmap_count(v->m), N);
    CHECK_ST(tarn_weakmap_each(v->m, visit, v), TARN_OK);
    CHECK_EQ(v->n, N);
    CHECK_EQ(v->removed, N / 2);
    CHECK_EQ(tarn_weakmap_count(v->m), N);
    for (int i = 0; i < N; i++) {
        void *value = v;
        CHECK_EQ(tarn_weakmap_find(v->m, keys[i], &value), i % 2 == 0);
        CHECK(value == (i % 2 == 0 && i % 3 ? keys[i] : NULL));
    }
    v->n = 0;
    v->stop_at = 10;
    CHECK_ST(tarn_weakmap_each(v->m, visit, v), TARN_OK);
    CHECK_EQ(v->n, 10);
}

__attribute__((noinline)) static tarn_ephemeron *new_ephemeron(struct node *key)
{
    struct node *value = new_node(77);
    tarn_store(&value->next, key);
    tarn_ephemeron *e = tarn_ephemeron_new(key, value);
    CHECK(e != NULL);
    return e;
}

static void test_ephemerons(void)
{
    enum { N = 100 };
    tarn_ephemeron **e = new_shared(N * sizeof *e);
    struct node **keys = new_shared(N * sizeof *keys);
    for (int i = 0; i < N; i++) {
        SET(keys[i], new_node((uint64_t)i));
        SET(e[i], new_ephemeron(keys[i]));
        if (i % 2 == 0)
            SET(keys[i], NULL);
    }
    wipe_stack();
    collect();
    int dead = 0;
    for (int i = 0; i < N; i++) {
        void *key, *value;
        if (!tarn_ephemeron_get(e[i], &key, &value)) {
            CHECK(key == NULL && value == NULL && i % 2 == 0);
            dead++;
            continue;
        }
        check_node(key, (uint64_t)i);
        check_node(value, 77);
    }
    CHECK_GE(dead, N / 2 - SLACK);
}

/* --- several goroutines on one map, against what it should hold ------------------------ */

enum { STORM_KEYS = 40, STORM_GOROUTINES = 4 };
struct storm {
    tarn_weakmap *m;
    tarn_waitgroup wg;
};

static void storm_goroutine(void *vs)
{
    struct storm *s = vs;
    uint64_t rng = seed_of(tarn_self() + 100);
    struct node **keys = new_shared(STORM_KEYS * sizeof *keys);
    uint64_t *ids = tarn_alloc_bytes(STORM_KEYS * sizeof *ids);
    for (int i = 0; i < scaled(20000); i++) {
        uint32_t k = below(&rng, STORM_KEYS);
        uint64_t id = harness_rand(&rng) | 1;
        switch (below(&rng, 5)) {
        case 0: /* an entry that must die */
            SET(keys[k], new_node(id));
            ids[k] = 0;
            break;
        case 1:
            if (keys[k] != NULL)
                CHECK_EQ(tarn_weakmap_remove(s->m, keys[k]), ids[k] != 0);
            ids[k] = 0;
            break;
        case 2:
            if (keys[k] != NULL) {
                CHECK_ST(tarn_weakmap_set(s->m, keys[k], new_node(id)),
                         TARN_OK);
                ids[k] = id;
            }
            break;
        default:
            if (keys[k] == NULL)
                break;
            void *value = tarn_weakmap_get(s->m, keys[k]);
            if (ids[k] != 0)
                check_node(value, ids[k]);
            else
                CHECK(value == NULL);
        }
        if (i % 32 == 0)
            pause_briefly();
    }
    tarn_waitgroup_done(&s->wg);
}

static bool count_live(void *key, void *value, void *vn)
{
    check_node(key, ((struct node *)key)->id);
    check_node(value, ((struct node *)value)->id);
    ++*(int *)vn;
    return true;
}

static void test_storm(void)
{
    struct storm *s = new_shared(sizeof *s);
    SET(s->m, tarn_weakmap_new());
    tarn_waitgroup_add(&s->wg, STORM_GOROUTINES);
    for (int i = 0; i < STORM_GOROUTINES; i++)
        go(storm_goroutine, s);
    for (int i = 0; i < 30; i++) {
        if (i % 3)
            gc_collect_young();
        else
            collect();
        int *n = tarn_alloc_bytes(sizeof *n);
        CHECK_ST(tarn_weakmap_each(s->m, count_live, n), TARN_OK);
    }
    tarn_waitgroup_wait(&s->wg);
    wipe_stack();
    collect();
    collect();
    CHECK_LE(tarn_weakmap_count(s->m), STORM_KEYS * STORM_GOROUTINES);
}

/* Entries of keys that live on come and go, so that sweeps find tables of spans empty
 * while others look at the map. */
struct flips {
    tarn_weakmap *m;
    struct node *key;
    tarn_waitgroup wg;
    _Atomic bool stop;
};

static void flip(void *vf)
{
    struct flips *f = vf;
    while (!atomic_load(&f->stop)) {
        CHECK_ST(tarn_weakmap_set(f->m, f->key, f->key), TARN_OK);
        CHECK(tarn_weakmap_remove(f->m, f->key));
        tarn_poll();
    }
    tarn_waitgroup_done(&f->wg);
}

static bool is_key(void *key, void *value, void *vf)
{
    struct flips *f = vf;
    CHECK(key == f->key && value == f->key);
    return true;
}

static void look(void *vf)
{
    struct flips *f = vf;
    while (!atomic_load(&f->stop)) {
        CHECK_ST(tarn_weakmap_each(f->m, is_key, f), TARN_OK);
        tarn_poll();
    }
    tarn_waitgroup_done(&f->wg);
}

static void test_removal(void)
{
    struct flips *f = new_shared(sizeof *f);
    SET(f->m, tarn_weakmap_new());
    SET(f->key, new_node(1));
    tarn_waitgroup_add(&f->wg, 2);
    go(flip, f);
    go(look, f);
    for (int i = 0; i < scaled(600); i++)
        collect();
    atomic_store(&f->stop, true);
    tarn_waitgroup_wait(&f->wg);
    CHECK_EQ(tarn_weakmap_count(f->m), 0);
}

static void body(void)
{
    if (t_node == NULL)
        register_types();
    RUN(test_full);
    RUN(test_young);
    RUN(test_dropped_references);
    RUN(test_bad_objects);
    RUN(test_large);
    RUN(test_race);
    RUN(test_value_reaches_key);
    RUN(test_chain);
    RUN(test_map_dies);
    RUN(test_map_in_a_map);
    RUN(test_chain_of_maps);
    RUN(test_each);
    RUN(test_ephemerons);
    RUN(test_storm);
    RUN(test_removal);
}

int main(int argc, char **argv)
{
    harness_init(argc, argv);
    gc_run(body, 1, "checkmark=1");
    gc_run(body, 4, "clobberfree=1");
    gc_run(body, 4, "checkmark=1,gcstress=64");
    gc_run(body, 16, "checkmark=1,droppreempt=30,gcstress=500,delays=100");
    return harness_done();
}
