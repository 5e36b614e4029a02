/* tests/test_gc_layouts.c - every layout, small and large, single and array:
 * what is reachable stays intact, what is not is collected, only what the
 * layout calls a pointer counts as one, and memory always comes back zeroed. */
#include "gcsuite.h"

/* --- the layouts --------------------------------------------------------- */

/* A kind of object: n words that hold pointers, at word(i), written by put and
 * read by get. */
struct kind {
    const char *name;
    size_t bytes;
    uint32_t n;
    uint32_t (*word)(uint32_t i);
    void *(*make)(void);
    bool traced; /* its slots hold hidden pointers */
    bool slack;  /* has a word that is no pointer: word 1 */
};

static tarn_type *t_pair, *t_odd, *t_big, *t_node, *t_node_big, *t_leaf_typed;

#define ODD_WORDS 130u
#define BIG_WORDS 5000u
#define NODE_WORDS 3u

static const uint32_t odd_words[] = {0, 3, 63, 64, 65, 129};

static void trace_words(uint64_t *w, size_t step, size_t words,
                        tarn_tracer *tracer)
{
    /* While put stores there. */
    for (size_t i = 0; i < words; i += step) {
        uint64_t v = __atomic_load_n(&w[i], __ATOMIC_RELAXED);
        if (v != 0)
            tarn_trace(tracer, reveal(v));
    }
}

static void trace_node(void *obj, tarn_tracer *tracer)
{
    trace_words(obj, 2, NODE_WORDS, tracer);
}

static void trace_node_big(void *obj, tarn_tracer *tracer)
{
    trace_words(obj, 7, BIG_WORDS, tracer);
}

static uint32_t word_all(uint32_t i)
{
    return i;
}
static uint32_t word_two(uint32_t i)
{
    return i * 2;
}
static uint32_t word_seven(uint32_t i)
{
    return i * 7;
}
static uint32_t word_pair(uint32_t i)
{
    return i / 2 * 3 + i % 2 * 2;
}
static uint32_t word_odd(uint32_t i)
{
    uint32_t n = (uint32_t)ARRAY_LEN(odd_words);
    return i / n * ODD_WORDS + odd_words[i % n];
}

static void *make_pair(void)
{
    return tarn_alloc(t_pair);
}
static void *make_pair1(void)
{
    return tarn_alloc_array(t_pair, 1);
}
static void *make_pair5(void)
{
    return tarn_alloc_array(t_pair, 5);
}
static void *make_pair9000(void)
{
    return tarn_alloc_array(t_pair, 9000);
}
static void *make_odd(void)
{
    return tarn_alloc(t_odd);
}
static void *make_odd3(void)
{
    return tarn_alloc_array(t_odd, 3);
}
static void *make_odd150(void)
{
    return tarn_alloc_array(t_odd, 150);
}
static void *make_big(void)
{
    return tarn_alloc(t_big);
}
static void *make_node(void)
{
    return tarn_alloc(t_node);
}
static void *make_node7(void)
{
    return tarn_alloc_array(t_node, 7);
}
static void *make_node5000(void)
{
    return tarn_alloc_array(t_node, 5000);
}
static void *make_node_big(void)
{
    return tarn_alloc(t_node_big);
}
static void *make_cons2(void)
{
    return tarn_alloc_conservative(16);
}
static void *make_cons100(void)
{
    return tarn_alloc_conservative(800);
}
static void *make_cons4096(void)
{
    return tarn_alloc_conservative(32768);
}
static void *make_cons40000(void)
{
    return tarn_alloc_conservative(320000);
}

static const struct kind kinds[] = {
    {"precise", 24, 2, word_pair, make_pair, false, true},
    {"precise array of 1", 24, 2, word_pair, make_pair1, false, true},
    {"precise array", 120, 10, word_pair, make_pair5, false, true},
    {"large precise array", 216000, 18000, word_pair, make_pair9000, false,
     true},
    {"precise, odd words", 1040, 6, word_odd, make_odd, false, true},
    {"array, odd words", 3120, 18, word_odd, make_odd3, false, true},
    {"large array, odd words", 156000, 900, word_odd, make_odd150, false, true},
    {"large precise", 40000, 715, word_seven, make_big, false, true},
    {"traced", 24, 2, word_two, make_node, true, true},
    {"traced array", 168, 14, word_pair, make_node7, true, true},
    {"large traced array", 120000, 10000, word_pair, make_node5000, true, true},
    {"large traced", 40000, 715, word_seven, make_node_big, true, true},
    {"conservative", 16, 2, word_all, make_cons2, false, false},
    {"conservative 800", 800, 100, word_all, make_cons100, false, false},
    {"conservative 32 KiB", 32768, 4096, word_all, make_cons4096, false, false},
    {"large conservative", 320000, 40000, word_all, make_cons40000, false,
     false},
};
#define KINDS ((uint32_t)ARRAY_LEN(kinds))

static tarn_type *precise(const char *name, uint32_t words, uint32_t n,
                          uint32_t (*word)(uint32_t))
{
    static uint64_t map[(BIG_WORDS + 63) / 64];
    memset(map, 0, sizeof map);
    for (uint32_t i = 0; i < n; i++)
        map[word(i) / 64] |= UINT64_C(1) << (word(i) % 64);
    struct tarn_type_info info = {name, words * 8, map, NULL};
    tarn_type *t = tarn_type_register(&info);
    CHECK(t != NULL);
    return t;
}

static tarn_type *traced(const char *name, uint32_t words, tarn_trace_fn fn)
{
    struct tarn_type_info info = {name, words * 8, NULL, fn};
    tarn_type *t = tarn_type_register(&info);
    CHECK(t != NULL);
    return t;
}

static void register_types(void)
{
    t_pair = precise("pair", 3, 2, word_pair);
    t_odd = precise("odd", ODD_WORDS, ARRAY_LEN(odd_words), word_odd);
    t_big = precise("big", BIG_WORDS, 715, word_seven);
    t_node = traced("node", NODE_WORDS, trace_node);
    t_node_big = traced("bignode", BIG_WORDS, trace_node_big);
    struct tarn_type_info leaf = {"leaf", 40, NULL, NULL};
    t_leaf_typed = tarn_type_register(&leaf);
    CHECK(t_leaf_typed != NULL);
}

static void put(const struct kind *k, void *obj, uint32_t i, void *p)
{
    uint64_t *w = (uint64_t *)obj + k->word(i);
    if (k->traced) {
        tarn_store_encoded(w, p ? hide(p) : 0, *w ? reveal(*w) : NULL, p);
    } else {
        tarn_store(w, p);
    }
}

static void *get(const struct kind *k, void *obj, uint32_t i)
{
    uint64_t w = ((uint64_t *)obj)[k->word(i)];
    return k->traced ? (w ? reveal(w) : NULL) : (void *)(uintptr_t)w;
}

/* --- leaves -------------------------------------------------------------- */

#define LEAF_WORDS 5

static uint64_t stamp(uint64_t id, int i)
{
    return (id + 1) * UINT64_C(0x9E3779B97F4A7C15) ^ (uint64_t)i;
}

__attribute__((noinline)) static void *new_leaf(uint64_t id)
{
    uint64_t *p = tarn_alloc(t_leaf_typed);
    CHECK(p != NULL);
    for (int i = 0; i < LEAF_WORDS; i++) {
        CHECK_EQ(p[i], 0);
        p[i] = stamp(id, i);
    }
    return p;
}

static void check_leaf(void *obj, uint64_t id)
{
    uint64_t *p = obj;
    CHECK(tarn_object_base(p) == p);
    CHECK(tarn_object_type(p) == t_leaf_typed);
    for (int i = 0; i < LEAF_WORDS; i++)
        CHECK_EQ(p[i], stamp(id, i));
}

/* --- reachable ----------------------------------------------------------- */

/* Which slots of a kind a test uses: all of a small one, samples of a large. */
static uint32_t step_of(const struct kind *k)
{
    return k->n > 200 ? k->n / 97 : 1;
}

static void fill(const struct kind *k, void *obj, uint64_t id)
{
    for (uint32_t i = 0; i < k->n; i += step_of(k))
        put(k, obj, i, new_leaf(id + i));
    put(k, obj, k->n - 1, new_leaf(id + k->n - 1));
}

static void check_filled(const struct kind *k, void *obj, uint64_t id)
{
    for (uint32_t i = 0; i < k->n; i += step_of(k))
        check_leaf(get(k, obj, i), id + i);
    check_leaf(get(k, obj, k->n - 1), id + k->n - 1);
}

static void test_reachable(void)
{
    void **table = new_shared(KINDS * sizeof(void *));
    for (uint32_t k = 0; k < KINDS; k++) {
        void *obj = kinds[k].make();
        CHECK(obj != NULL);
        CHECK_GE(tarn_object_size(obj), kinds[k].bytes);
        SET(table[k], obj);
        fill(&kinds[k], obj, k * 100000);
    }
    garbage_start(3);
    for (int round = 0; round < scaled(16); round++) {
        if (round & 1)
            collect();
        else
            for (int i = 0; i < 20; i++)
                tarn_yield();
        for (uint32_t k = 0; k < KINDS; k++) {
            check_filled(&kinds[k], table[k], k * 100000);
            if (round % KINDS == k)
                fill(&kinds[k], table[k], k * 100000);
        }
    }
    garbage_end();
}

/* Chains that pass through every layout, deep; only the first is held. */
static void test_nested(void)
{
    enum { DEPTH = 300 };
    int depth = sized(DEPTH) > 40 ? sized(DEPTH) : 40;
    uint64_t rng = seed_of(1);
    uint8_t *which = malloc((size_t)depth);
    uint32_t *slot = malloc((size_t)depth * sizeof *slot);
    void **root = new_shared(sizeof(void *));
    garbage_start(2);
    for (int round = 0; round < 3; round++) {
        for (int d = 0; d < depth; d++) {
            uint32_t k = below(&rng, KINDS);
            which[d] = (uint8_t)k;
            slot[d] = below(&rng, kinds[k].n);
            void *obj = kinds[k].make();
            CHECK(obj != NULL);
            /* Built from the inside out: the new one holds the chain. */
            put(&kinds[k], obj, slot[d], d == 0 ? new_leaf(7) : *root);
            SET(*root, obj);
        }
        for (int i = 0; i < 3; i++) {
            collect();
            void *p = *root;
            for (int d = depth - 1; d >= 0; d--) {
                CHECK_GE(tarn_object_size(p), kinds[which[d]].bytes);
                p = get(&kinds[which[d]], p, slot[d]);
                CHECK(p != NULL && tarn_object_base(p) == p);
            }
            check_leaf(p, 7);
        }
        tarn_store(root, NULL);
    }
    garbage_end();
    free(which);
    free(slot);
}

/* --- unreachable --------------------------------------------------------- */

__attribute__((noinline)) static void make_dead(const struct kind *k,
                                                uint64_t *hidden, int n)
{
    for (int i = 0; i < n; i += 2) {
        void *obj = k->make();
        CHECK(obj != NULL);
        put(k, obj, k->n - 1, new_leaf(1));
        hidden[i] = hide(obj);
        hidden[i + 1] = hide(get(k, obj, k->n - 1));
    }
}

static int count_alive(const uint64_t *hidden, int n)
{
    int a = 0;
    for (int i = 0; i < n; i++)
        a += alive(hidden[i]);
    return a;
}

static void test_unreachable(void)
{
    enum { N = 40, SLACK = 6 };
    static uint64_t hidden[N];
    for (uint32_t k = 0; k < KINDS; k++) {
        make_dead(&kinds[k], hidden, N);
        wipe_stack();
        collect();
        collect();
        int a = count_alive(hidden, N);
        if (a > SLACK)
            fprintf(stderr, "%s: %d of %d live on\n", kinds[k].name, a, N);
        CHECK_LE(a, SLACK);
    }
}

/* What a layout does not call a pointer keeps nothing alive. */
__attribute__((noinline)) static void
make_mistaken(const struct kind *k, void **table, uint64_t *hidden, int n)
{
    for (int i = 0; i < n; i++) {
        void *leaf = new_leaf(3);
        hidden[i] = hide(leaf);
        void *obj = k ? k->make() : tarn_alloc_bytes((i & 1) ? 64 : 40000);
        CHECK(obj != NULL);
        /* Word 1 is not a pointer in any layout here. */
        ((void **)obj)[1] = leaf;
        SET(table[i], obj);
    }
}

static void test_not_pointers(void)
{
    enum { N = 24, SLACK = 4 };
    static uint64_t hidden[N];
    void **table = new_shared(N * sizeof(void *));
    for (int k = -1; k < (int)KINDS; k++) {
        if (k >= 0 && !kinds[k].slack)
            continue;
        make_mistaken(k < 0 ? NULL : &kinds[k], table, hidden, N);
        wipe_stack();
        collect();
        collect();
        int a = count_alive(hidden, N);
        if (a > SLACK)
            fprintf(stderr, "%s: %d of %d live on\n",
                    k < 0 ? "pointer-free" : kinds[k].name, a, N);
        CHECK_LE(a, SLACK);
        for (int i = 0; i < N; i++)
            CHECK(table[i] != NULL && tarn_object_base(table[i]) == table[i]);
    }
}

/* --- interior pointers --------------------------------------------------- */

__attribute__((noinline)) static void *interior(uint64_t id, size_t off)
{
    return (char *)new_leaf(id) + off;
}

static void test_interior(void)
{
    void **table = new_shared(64 * sizeof(void *));
    for (int round = 0; round < 4; round++) {
        /* In the heap: anywhere inside, odd addresses too. */
        for (size_t off = 0; off < 40; off++)
            SET(table[off], interior(off, off));
        /* On the stack: also one past the end. */
        void *volatile past = interior(99, 40);
        void *volatile odd = interior(98, 39);
        collect();
        collect();
        for (size_t off = 0; off < 40; off++)
            check_leaf((char *)table[off] - off, off);
        check_leaf((char *)past - 40, 99);
        check_leaf((char *)odd - 39, 98);
    }
    /* One past the end of places without slack, of each class, and of large
     * objects: only on the stack. */
    for (size_t size = 16; size <= 200000; size += size / 3 / 16 * 16 + 16) {
        char *p = tarn_alloc_bytes(size);
        CHECK(p != NULL);
        memset(p, 0x77, size);
        uint64_t hidden = hide(p);
        char *volatile end = p + size;
        p = NULL;
        wipe_stack();
        collect();
        CHECK(alive(hidden));
        CHECK(end[-1] == 0x77 && end[-(ptrdiff_t)size] == 0x77);
    }
}

/* --- zeroes -------------------------------------------------------------- */

static void check_zero(const uint64_t *w, size_t bytes)
{
    for (size_t i = 0; i < bytes / 8; i++)
        CHECK_EQ(w[i], 0);
}

static void dirty(uint64_t *w, size_t bytes)
{
    for (size_t i = 0; i < bytes / 8; i++)
        __atomic_store_n(&w[i], UINT64_C(0x5b5b5b5b5b5b5b5b), __ATOMIC_RELAXED);
}

static void test_zeroed(void)
{
    for (int round = 0; round < 3; round++) {
        for (uint32_t k = 0; k < KINDS; k++) {
            int n = kinds[k].bytes > 32768 ? 4 : 60;
            for (int i = 0; i < n; i++) {
                uint64_t *w = kinds[k].make();
                CHECK(w != NULL);
                /* All of the place, not only what was asked for. */
                size_t size = tarn_object_size(w);
                check_zero(w, size);
                dirty(w, kinds[k].bytes);
            }
        }
        for (int i = 0; i < 60; i++) {
            size_t n = i % 10 == 0 ? 50000 : 48 * (size_t)(i + 1);
            uint64_t *w = tarn_alloc_bytes(n);
            CHECK(w != NULL);
            check_zero(w, tarn_object_size(w));
            dirty(w, n & ~(size_t)7);
        }
        collect();
    }
}

static void test_empty(void)
{
    /* No bytes and no elements are objects of their own. */
    void *a = tarn_alloc_bytes(0), *b = tarn_alloc_bytes(0);
    void *c = tarn_alloc_conservative(0), *d = tarn_alloc_array(t_pair, 0);
    CHECK(a != NULL && b != NULL && c != NULL && d != NULL);
    CHECK(a != b && c != d);
    collect();
    CHECK(tarn_object_base(a) == a && tarn_object_base(d) == d);
    CHECK(tarn_object_type(d) == t_pair);
    CHECK(tarn_object_type(a) == NULL);
}

/* Slots that were never handed out, and freed ones, are nothing to a word that
 * happens to look like a pointer to them. */
static void test_free_places(void)
{
    void **words = new_shared(512 * sizeof(void *));
    char *p = tarn_alloc_bytes(96);
    for (int i = 0; i < 512; i++)
        words[i] = p + 96 * (i - 256);
    for (int round = 0; round < 4; round++) {
        collect();
        for (int i = 0; i < 200; i++) {
            char *q = tarn_alloc_bytes(96);
            for (int j = 0; j < 96; j++)
                CHECK_EQ(q[j], 0);
            memset(q, 0x66, 96);
        }
    }
    CHECK(tarn_object_base(p) == p);
}

/* Words that point anywhere in the reservation and around it, in objects and on
 * the stack: they are looked at, and are nothing. */
static void test_wild_words(void)
{
    enum { N = 3000 };
    uint64_t *w = new_shared(N * sizeof *w);
    uint64_t *large = new_shared(20 * N * sizeof *large);
    uint64_t rng = seed_of(9);
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < N; i++) {
            uintptr_t base = heap.lo, size = heap.hi - heap.lo;
            uintptr_t used = atomic_load(&heap.used_hi) - base;
            static const uintptr_t near[] = {0, 1, 7, 8, 16, 4096, 8192};
            uintptr_t d = near[below(&rng, ARRAY_LEN(near))];
            uintptr_t v = 0;
            switch (below(&rng, 6)) {
            case 0:
                v = base + harness_rand(&rng) % size;
                break;
            case 1:
                v = base + harness_rand(&rng) % (used + 1);
                break;
            case 2:
                v = base + used + d;
                break;
            case 3:
                v = base + used - d;
                break;
            case 4:
                v = base + size - d;
                break;
            default:
                v = base - d;
            }
            tarn_store(&w[i], (void *)v);
            tarn_store(&large[i * 20], (void *)v);
        }
        volatile uint64_t some[16];
        for (int i = 0; i < 16; i++)
            some[i] = w[i];
        collect();
        for (int i = 0; i < 16; i++)
            CHECK_EQ(some[i], w[i]);
    }
}

static void body(void)
{
    if (t_pair == NULL)
        register_types();
    RUN(test_empty);
    RUN(test_zeroed);
    RUN(test_interior);
    RUN(test_unreachable);
    RUN(test_not_pointers);
    RUN(test_free_places);
    RUN(test_wild_words);
    RUN(test_reachable);
    RUN(test_nested);
}

int main(int argc, char **argv)
{
    harness_init(argc, argv);
    gc_run(body, 1, "");
    gc_run(body, 4, "checkmark=1");
    gc_run(body, 4, "gcstress=200");
    gc_run(body, 1, "clobberfree=1");
    gc_run(body, 4, "clobberfree=1,checkmark=1,gcstress=200");
    return harness_done();
}
