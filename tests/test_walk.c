/* tests/test_walk.c - the heap seen while the world stands still: all objects, all
 * pointers, all roots; and as a file, which python3 reads. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* pthread_timedjoin_np */
#endif
#include <pthread.h>
#include <semaphore.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gcsuite.h"
#include "tarn/attrs.h"
#include "tarn/final.h"
#include "tarn/handle.h"
#include "tarn/walk.h"
#include "tarn/weak.h"

/* --- a graph that is known --------------------------------------------------------- */

struct leaf {
    uint64_t id;
};

struct branch {
    struct branch *left, *right;
    uint64_t id;
    struct leaf *leaf;
};

struct hidden { /* traced */
    uintptr_t word[3];
};

enum { BRANCHES = 3000, LONG = 6000 };
#define MASK UINT64_C(0x8000000000000000)

static tarn_type *t_leaf, *t_branch, *t_hidden;
static struct graph {
    struct branch *branch[BRANCHES]; /* i: 2i+1 left, 2i+2 right */
    struct branch **array; /* large, conservative; the last words only */
    struct hidden *hidden;
    uint8_t *bytes;
    tarn_weakmap *map;
    tarn_weak *weak;
    struct leaf *key, *value;
} * g;
/* Each graph has ids of its own: the one before may be garbage, not yet found. */
#define GENERATION UINT64_C(1000000)
static uint64_t generation;

static void trace_hidden(void *object, tarn_tracer *tracer)
{
    struct hidden *h = object;
    for (int i = 0; i < 3; i++)
        if (h->word[i] != 0)
            tarn_trace(tracer, (void *)(h->word[i] ^ MASK));
}

static void register_types(void)
{
    if (t_leaf != NULL)
        return;
    t_leaf = tarn_type_register(
        &(struct tarn_type_info){.name = "leaf", .size = sizeof(struct leaf)});
    t_branch = tarn_type_register(&(struct tarn_type_info){
        .name = "branch \"of\" a tree",
        .size = sizeof(struct branch),
        .ptrmap = (uint64_t[]){TARN_PTR(struct branch, left) |
                               TARN_PTR(struct branch, right) |
                               TARN_PTR(struct branch, leaf)}});
    t_hidden = tarn_type_register(
        &(struct tarn_type_info){.name = "hidden",
                                 .size = sizeof(struct hidden),
                                 .trace = trace_hidden});
    CHECK(t_leaf != NULL && t_branch != NULL && t_hidden != NULL);
}

__attribute__((noinline)) static void build(void)
{
    register_types();
    generation += GENERATION;
    tarn_store(&g, tarn_alloc_conservative(sizeof *g));
    CHECK(g != NULL);
    for (int i = 0; i < BRANCHES; i++) {
        struct branch *b = tarn_alloc(t_branch);
        CHECK(b != NULL);
        b->id = generation + (uint64_t)i;
        tarn_store(&g->branch[i], b);
        if (i > 0) {
            struct branch *up = g->branch[(i - 1) / 2];
            tarn_store(i % 2 ? &up->left : &up->right, b);
        }
        if (i % 3 == 0) {
            struct leaf *l = tarn_alloc(t_leaf);
            CHECK(l != NULL);
            l->id = (uint64_t)i;
            tarn_store(&b->leaf, l);
        }
    }
    tarn_store(&g->array, tarn_alloc_conservative(LONG * sizeof(void *)));
    tarn_store(&g->array[LONG - 1], g->branch[7]);
    /* Inside: leads to the same object. */
    tarn_store((void **)(void *)&g->array[5], (char *)g->branch[9] + 8);
    tarn_store(&g->bytes, tarn_alloc_bytes(100));
    tarn_store(&g->hidden, tarn_alloc(t_hidden));
    /* No pointer, for a barrier; and what it leads to has another. */
    g->hidden->word[1] = (uintptr_t)g->branch[11] ^ MASK;
    tarn_store(&g->key, tarn_alloc(t_leaf));
    tarn_store(&g->value, tarn_alloc(t_leaf));
    tarn_store(&g->map, tarn_weakmap_new());
    CHECK_ST(tarn_weakmap_set(g->map, g->key, g->value), TARN_OK);
    tarn_store(&g->weak, tarn_weak_new(g->key));
}

/* Garbage, and frames over what pointed to it. */
__attribute__((noinline)) static void litter(int n)
{
    for (int i = 0; i < n; i++) {
        struct branch *b = tarn_alloc(t_branch);
        CHECK(b != NULL);
        b->id = 1;
    }
    wipe_stack();
}

/* --- objects and pointers ----------------------------------------------------------- */

struct count {
    size_t branches, garbage, leaves, hidden, all, pointers;
    size_t large, map_entries, weak_refs, traced;
    const void *last;       /* the object that was reported last */
    const struct branch *b; /* whose pointers are looked at */
    size_t of_b;
};

static bool count_pointer(const struct tarn_object_pointer *p, void *vc)
{
    struct count *c = vc;
    c->pointers++;
    CHECK(tarn_object_base(p->value) == p->target);
    if (c->b != NULL) {
        CHECK_EQ((int)p->kind, (int)TARN_POINTER_FIELD);
        CHECK(p->value == p->target);
        void *want = p->offset == offsetof(struct branch, left) ? c->b->left
                     : p->offset == offsetof(struct branch, right)
                         ? (void *)c->b->right
                         : (void *)c->b->leaf;
        CHECK(p->offset != offsetof(struct branch, id) && p->target == want);
        c->of_b++;
    }
    if (p->kind == TARN_POINTER_ENTRY && c->last == g->key) {
        CHECK(p->target == g->value && p->map == g->map);
        c->map_entries++;
    } else if (p->kind == TARN_POINTER_WEAK && c->last == g->key) {
        CHECK(p->target == g->weak);
        c->weak_refs++;
    } else if (p->kind == TARN_POINTER_TRACED && c->last == g->hidden) {
        CHECK(p->target == g->branch[11]);
        c->traced++;
    }
    return true;
}

static bool count_object(const struct tarn_heap_object *o, void *vc)
{
    struct count *c = vc;
    c->all++;
    CHECK((uintptr_t)o->base > (uintptr_t)c->last);
    c->last = o->base;
    CHECK(tarn_object_base(o->base) == o->base);
    CHECK_EQ(tarn_object_size(o->base), o->size);
    CHECK(tarn_object_type(o->base) == o->type);
    c->b = NULL;
    if (o->type == t_branch) {
        const struct branch *b = o->base;
        CHECK_EQ((int)o->layout, (int)TARN_OBJECT_PRECISE);
        if (b->id - generation < BRANCHES) {
            CHECK(g->branch[b->id - generation] == b);
            c->branches++;
            c->b = b;
            c->of_b = 0;
        } else {
            c->garbage++;
        }
    } else if (o->type == t_leaf) {
        CHECK_EQ((int)o->layout, (int)TARN_OBJECT_BYTES);
        c->leaves++;
    } else if (o->type == t_hidden) {
        CHECK_EQ((int)o->layout, (int)TARN_OBJECT_TRACED);
        c->hidden++;
    }
    if (o->base == g->array) {
        CHECK_EQ((int)o->layout, (int)TARN_OBJECT_CONSERVATIVE);
        CHECK_EQ(o->size, LONG * sizeof(void *));
        c->large++;
    }
    CHECK_ST(tarn_object_pointers(o->base, count_pointer, c), TARN_OK);
    if (c->b != NULL)
        CHECK_EQ(c->of_b, (size_t)(c->b->left != NULL) + (c->b->right != NULL) +
                              (c->b->leaf != NULL));
    return true;
}

static struct count walk(void)
{
    struct count c = {0};
    CHECK_ST(tarn_heap_walk(count_object, &c), TARN_OK);
    c.last = c.b = NULL; /* perhaps garbage, and nothing to keep */
    return c;
}

static void test_objects(void)
{
    build();
    litter(5000);
    CHECK_ST(tarn_gc(), TARN_OK);
    CHECK_ST(tarn_world_stop(), TARN_OK);
    struct count c = walk();
    CHECK_EQ(c.branches, (size_t)BRANCHES);
    CHECK_LE(c.garbage, 5u); /* what the stack seems to hold */
    CHECK_EQ(c.leaves, (size_t)(BRANCHES + 2) / 3 + 2);
    CHECK_EQ(c.hidden, 1u);
    CHECK_EQ(c.large, 1u);
    CHECK_EQ(c.traced, 1u);
    CHECK_EQ(c.map_entries, 1u);
    CHECK_EQ(c.weak_refs, 1u);
    CHECK_ST(tarn_world_start(), TARN_OK);
}

/* Every object is reported, and nothing twice, whatever the collector is at: bytes of
 * all of them are what heap_bytes says, less what caches hold. */
struct bytes {
    uint64_t objects, bytes;
};

static bool add_bytes(const struct tarn_heap_object *o, void *vb)
{
    struct bytes *b = vb;
    b->objects++;
    b->bytes += o->size;
    return true;
}

static _Atomic bool enough;

static void churn(void *done)
{
    for (uint32_t i = 0; !atomic_load(&enough); i++) {
        struct branch *b = tarn_alloc(t_branch);
        CHECK(b != NULL);
        b->id = 1;
        if (i % 1000 == 0)
            CHECK(tarn_alloc_bytes(40000 + i % 50000) != NULL);
    }
    tarn_waitgroup_done(done);
}

static void test_any_time(void)
{
    static tarn_waitgroup wg;
    size_t sweeping = 0, marked = 0;
    build();
    atomic_store(&enough, false);
    tarn_waitgroup_add(&wg, 3);
    for (int i = 0; i < 3; i++)
        go(churn, &wg);
    for (int i = 0; i < 200; i++) {
        tarn_yield();
        if (i % 10 == 0)
            gc_request();
        CHECK_ST(tarn_world_stop(), TARN_OK);
        sweeping += !heap_sweep_done();
        marked += atomic_load(&gc.phase) == GC_MARK;
        struct bytes b = {0, 0};
        if (i % 5 == 0) {
            struct count c = walk();
            CHECK_EQ(c.branches, (size_t)BRANCHES);
        }
        CHECK_ST(tarn_heap_walk(add_bytes, &b), TARN_OK);
        CHECK_EQ((int64_t)b.bytes,
                 (int64_t)atomic_load(&heap.live) - mcache_unused_bytes());
        CHECK_ST(tarn_world_start(), TARN_OK);
    }
    atomic_store(&enough, true);
    tarn_waitgroup_wait(&wg);
    printf("     %zu of 200 walks during a sweep, %zu during a mark\n",
           sweeping, marked);
}

static bool end_at_third(const struct tarn_heap_object *o, void *vn)
{
    (void)o;
    int *n = vn;
    return ++*n < 3;
}

static bool any_pointer(const struct tarn_object_pointer *p, void *vn)
{
    (void)p;
    int *n = vn;
    ++*n;
    return false;
}

static bool any_root(const struct tarn_root *r, void *vn)
{
    (void)r;
    int *n = vn;
    ++*n;
    return false;
}

static void test_refused(void)
{
    static int n;
    build();
    CHECK_ST(tarn_heap_walk(end_at_third, &n), TARN_ESTATE);
    CHECK_STR(tarn_last_error(), "has not stopped the world");
    CHECK_ST(tarn_object_pointers(g, any_pointer, &n), TARN_ESTATE);
    CHECK_ST(tarn_roots_walk(any_root, &n), TARN_ESTATE);
    CHECK_ST(tarn_world_stop(), TARN_OK);
    CHECK_ST(tarn_heap_walk(NULL, NULL), TARN_EINVAL);
    CHECK_ST(tarn_object_pointers(g, NULL, NULL), TARN_EINVAL);
    CHECK_ST(tarn_roots_walk(NULL, NULL), TARN_EINVAL);
    CHECK_ST(tarn_object_pointers((char *)g + 8, any_pointer, &n), TARN_EINVAL);
    CHECK_ST(tarn_object_pointers(NULL, any_pointer, &n), TARN_EINVAL);
    CHECK_EQ(n, 0);
    CHECK_ST(tarn_heap_walk(end_at_third, &n), TARN_OK);
    CHECK_EQ(n, 3);
    n = 0;
    CHECK_ST(tarn_object_pointers(g, any_pointer, &n), TARN_OK);
    CHECK_EQ(n, 1);
    n = 0;
    CHECK_ST(tarn_roots_walk(any_root, &n), TARN_OK);
    CHECK_EQ(n, 1);
    CHECK_ST(tarn_heap_snapshot("/nowhere/at/all", TARN_SNAPSHOT_COLLECT),
             TARN_ESTATE);
    CHECK_ST(tarn_world_start(), TARN_OK);
    CHECK_ST(tarn_heap_snapshot(NULL, 0), TARN_EINVAL);
    CHECK_ST(tarn_heap_snapshot("/nowhere/at/all", 2), TARN_EINVAL);
    CHECK_ST(tarn_heap_snapshot("/nowhere/at/all", 0), TARN_ESYS);
    CHECK_STR(tarn_last_error(), "/nowhere/at/all: No such file or directory");
    CHECK_ST(tarn_heap_snapshot("/dev/full", 0), TARN_ESYS);
    CHECK_STR(tarn_last_error(), "/dev/full");
    char dir[] = "/tmp/tarn-walk-XXXXXX", fifo[64];
    CHECK(mkdtemp(dir) != NULL);
    snprintf(fifo, sizeof fifo, "%s/fifo", dir);
    CHECK_EQ(mkfifo(fifo, 0600), 0);
    CHECK_ST(tarn_heap_snapshot(fifo, 0), TARN_ESYS);
    CHECK(unlink(fifo) == 0 && rmdir(dir) == 0);
}

static bool see_self(const struct tarn_object_pointer *p, void *vn)
{
    if (p->target == (void *)g->value) {
        CHECK_EQ((int)p->kind, (int)TARN_POINTER_ENTRY);
        CHECK(p->map == g->map);
        ++*(int *)vn;
    }
    return true;
}

/* A map that is its own key is a key like any other. */
static void test_own_key(void)
{
    static int n;
    build();
    CHECK_ST(tarn_weakmap_set(g->map, g->map, g->value), TARN_OK);
    n = 0;
    CHECK_ST(tarn_world_stop(), TARN_OK);
    CHECK_ST(tarn_object_pointers(g->map, see_self, &n), TARN_OK);
    CHECK_ST(tarn_world_start(), TARN_OK);
    CHECK_EQ(n, 1);
}

/* --- roots --------------------------------------------------------------------------- */

struct seen {
    bool global, range, handle, timer, other_stack, mine, finalizer;
    uint64_t me, other;
    void *want_range, *want_handle, *want_timer, *want_other, *want_mine;
    void *want_final, *want_handle_slot;
};

static bool see_root(const struct tarn_root *r, void *vs)
{
    struct seen *s = vs;
    CHECK(tarn_object_base(r->target) == r->target);
    switch (r->kind) {
    case TARN_ROOT_SEGMENT:
        s->global |= r->slot == (void *)&g && r->target == g;
        break;
    case TARN_ROOT_RANGE:
        s->range |= r->target == s->want_range;
        break;
    case TARN_ROOT_HANDLE:
        s->handle |=
            r->target == s->want_handle && r->slot == s->want_handle_slot;
        break;
    case TARN_ROOT_TIMER:
        s->timer |= r->target == s->want_timer;
        break;
    case TARN_ROOT_STACK:
        s->other_stack |= r->target == s->want_other && r->id == s->other;
        s->mine |= r->target == s->want_mine && r->id == s->me;
        break;
    case TARN_ROOT_FINALIZER:
        s->finalizer |= r->target == s->want_final;
        break;
    }
    return true;
}

static _Atomic uint64_t waiter_id;

static void waiter(void *vc)
{
    struct leaf *l = tarn_alloc(t_leaf);
    CHECK(l != NULL);
    l->id = 77;
    atomic_store(&waiter_id, tarn_self());
    CHECK_ST(tarn_chan_send(vc, &l), TARN_OK);
}

static void no_final(void *object, void *arg)
{
    (void)object, (void)arg;
}

static void never(void *arg)
{
    (void)arg;
    CHECK(false);
}

static void test_roots(void)
{
    build();
    /* In malloc'ed memory, which is no root. */
    struct seen *w = calloc(1, sizeof *w);
    CHECK(w != NULL);
    tarn_chan *c = new_chan(sizeof(void *), 0);
    go(waiter, c);
    while (atomic_load(&waiter_id) == 0)
        tarn_yield();
    w->want_other = c;
    struct leaf **range = malloc(sizeof *range);
    CHECK(range != NULL);
    *range = NULL;
    CHECK_ST(tarn_roots_add(range, range + 1, 0), TARN_OK);
    w->want_range = *range = tarn_alloc(t_leaf);
    w->want_handle = tarn_alloc(t_leaf);
    tarn_handle *h = tarn_handle_new(w->want_handle);
    w->want_handle_slot = h;
    tarn_timer *timer = tarn_timer_start(INT64_C(3600000000000), never, NULL);
    CHECK(timer != NULL);
    w->want_timer = timer;
    w->want_final = tarn_alloc(t_leaf);
    CHECK_ST(tarn_finalizer_set(g->branch[0], no_final, w->want_final),
             TARN_OK);
    void *volatile mine = tarn_alloc(t_leaf);
    w->want_mine = mine;
    w->me = tarn_self();
    w->other = atomic_load(&waiter_id);
    CHECK_ST(tarn_world_stop(), TARN_OK);
    CHECK_ST(tarn_roots_walk(see_root, w), TARN_OK);
    CHECK_ST(tarn_world_start(), TARN_OK);
    CHECK(w->global && w->range && w->handle);
    CHECK(w->timer && w->finalizer);
    CHECK(w->mine && w->other_stack);
    CHECK(mine != NULL);
    CHECK(tarn_timer_stop(timer));
    tarn_handle_drop(h);
    CHECK_ST(tarn_finalizer_set(g->branch[0], NULL, NULL), TARN_OK);
    CHECK_ST(tarn_roots_remove(range, range + 1), TARN_OK);
    free(range);
    struct leaf *l;
    CHECK_ST(tarn_chan_recv(c, &l), TARN_OK);
    CHECK_EQ(l->id, 77u);
    atomic_store(&waiter_id, 0);
    free(w);
}

/* --- ranges of two kinds ----------------------------------------------------------------- */

static struct {
    struct leaf *plain, *barriered;
    uint64_t id[2];
    int seen;
} * two; /* in malloc'ed memory */

static bool see_ranges(const struct tarn_root *r, void *unused)
{
    (void)unused;
    if (r->kind == TARN_ROOT_RANGE && r->slot == (void *)&two->plain)
        two->id[0] = r->id, two->seen++;
    if (r->kind == TARN_ROOT_RANGE && r->slot == (void *)&two->barriered)
        two->id[1] = r->id, two->seen++;
    return true;
}

/* Their numbers tell them apart. */
static void test_ranges(void)
{
    register_types();
    two = calloc(1, sizeof *two);
    CHECK(two != NULL);
    CHECK_ST(tarn_roots_add(&two->plain, &two->plain + 1, 0), TARN_OK);
    CHECK_ST(tarn_roots_add(&two->barriered, &two->barriered + 1,
                            TARN_ROOTS_BARRIERED),
             TARN_OK);
    two->plain = tarn_alloc(t_leaf);
    tarn_store(&two->barriered, tarn_alloc(t_leaf));
    CHECK_ST(tarn_world_stop(), TARN_OK);
    CHECK_ST(tarn_roots_walk(see_ranges, NULL), TARN_OK);
    CHECK_ST(tarn_world_start(), TARN_OK);
    CHECK_EQ(two->seen, 2);
    CHECK_NE(two->id[0], two->id[1]);
    CHECK_ST(tarn_roots_remove(&two->plain, &two->plain + 1), TARN_OK);
    CHECK_ST(tarn_roots_remove(&two->barriered, &two->barriered + 1), TARN_OK);
    free(two);
}

/* --- frames with maps ------------------------------------------------------------------- */

/* Has the object in its frame while it calls fn, and says nothing of it to the
 * caller: it is given the complement. */
void call_with_dead_word(uintptr_t complement, void (*fn)(void));
extern const char after_dead_word[];
__asm__(".text\n"
        ".type call_with_dead_word, @function\n"
        "call_with_dead_word:\n"
        ".cfi_startproc\n"
        "subq $24, %rsp\n"
        ".cfi_adjust_cfa_offset 24\n"
        "notq %rdi\n"
        "movq %rdi, 8(%rsp)\n"
        "xorl %edi, %edi\n"
        "call *%rsi\n"
        "after_dead_word: movq $0, 8(%rsp)\n"
        "addq $24, %rsp\n"
        ".cfi_adjust_cfa_offset -24\n"
        "ret\n"
        ".cfi_endproc\n"
        ".size call_with_dead_word, . - call_with_dead_word\n");

static struct {
    uint64_t complement, me;
    int seen;
} dead_word;

static bool count_dead_word(const struct tarn_root *r, void *unused)
{
    (void)unused;
    dead_word.seen += r->kind == TARN_ROOT_STACK && r->id == dead_word.me &&
                      ~(uintptr_t)r->target == dead_word.complement;
    return true;
}

static void walk_dead_word(void)
{
    CHECK_ST(tarn_world_stop(), TARN_OK);
    CHECK_ST(tarn_roots_walk(count_dead_word, NULL), TARN_OK);
    CHECK_ST(tarn_world_start(), TARN_OK);
}

__attribute__((noinline)) static tarn_handle *make_dead_word(void)
{
    void *p = tarn_alloc(t_leaf);
    CHECK(p != NULL);
    dead_word.complement = ~(uintptr_t)p;
    return tarn_handle_new(p);
}

static void test_maps(void)
{
    if (options.checkmark)
        SKIP("no maps under checkmark");
    register_types();
    dead_word.me = tarn_self();
    tarn_handle *h = make_dead_word();
    wipe_stack();
    dead_word.seen = 0;
    call_with_dead_word(dead_word.complement, walk_dead_word);
    CHECK_EQ(dead_word.seen, 1);
    struct tarn_frame_map map = {.ret = (uintptr_t)after_dead_word, .size = 32};
    struct tarn_frame_maps maps = {(const void *)call_with_dead_word,
                                   after_dead_word + 1, &map, 1};
    CHECK_ST(tarn_frame_maps_register(&maps), TARN_OK);
    wipe_stack();
    dead_word.seen = 0;
    call_with_dead_word(dead_word.complement, walk_dead_word);
    CHECK_EQ(dead_word.seen, 0);
    CHECK_ST(tarn_frame_maps_unregister(maps.lo, maps.hi), TARN_OK);
    tarn_handle_drop(h);
}

/* --- what functions of walks may call ------------------------------------------------------ */

static struct {
    unsigned kinds; /* of roots, once each */
} inside;

static void call_foreign(void)
{
    struct tarn_gc_stats stats = {.struct_size = sizeof stats};
    CHECK_ST(tarn_gc_stats(&stats), TARN_OK);
    CHECK_EQ(tarn_self(), 0u);
    CHECK_GT(tarn_goroutines(), 0u);
    CHECK_GT(tarn_procs(), 0u);
    CHECK(tarn_last_error() != NULL);
    uint32_t id;
    struct tarn_listener l = {.struct_size = sizeof l};
    CHECK_ST(tarn_listener_add(&l, &id), TARN_OK);
    CHECK_ST(tarn_listener_remove(id), TARN_OK);
    static const char text[64];
    CHECK_ST(tarn_text_register(text, text + 8), TARN_OK);
    CHECK_ST(tarn_text_unregister(text, text + 8), TARN_OK);
    struct tarn_unsafe_range r = {text + 8, text + 16};
    CHECK_ST(tarn_unsafe_register(&r, 1), TARN_OK);
    CHECK_ST(tarn_unsafe_unregister(&r, 1), TARN_OK);
    CHECK_ST(tarn_set_oom_handler(NULL, NULL), TARN_OK);
    CHECK_ST(tarn_gc_pauses_hgrm(TARN_PAUSE_ALL, "/dev/null"), TARN_OK);
    CHECK_EQ(tarn_thread_attached(), false);
    CHECK_ST(tarn_thread_attach(), TARN_ESTATE);
    struct tarn_options o;
    tarn_options_init(&o);
    CHECK_ST(tarn_options_parse(&o, "gcpercent=50"), TARN_OK);
    (void)tarn_handles();
}

static bool root_calls(const struct tarn_root *r, void *unused)
{
    (void)unused;
    if (!(inside.kinds >> r->kind & 1))
        call_foreign();
    inside.kinds |= 1u << r->kind;
    return true;
}

static bool pointer_calls(const struct tarn_object_pointer *p, void *unused)
{
    (void)p, (void)unused;
    call_foreign();
    return false;
}

static bool object_calls(const struct tarn_heap_object *o, void *unused)
{
    (void)unused;
    if (o->type == t_hidden || o->base == g->key) {
        call_foreign();
        CHECK_ST(tarn_object_pointers(o->base, pointer_calls, NULL), TARN_OK);
    }
    return true;
}

static void test_calls_inside(void)
{
    build();
    static struct leaf *range[2];
    CHECK_ST(tarn_roots_add(range, range + 2, 0), TARN_OK);
    range[0] = tarn_alloc(t_leaf);
    tarn_handle *h = tarn_handle_new(g->key);
    tarn_timer *timer = tarn_timer_start(INT64_C(3600000000000), never, NULL);
    CHECK_ST(tarn_finalizer_set(g->branch[0], no_final, g->key), TARN_OK);
    CHECK_ST(tarn_world_stop(), TARN_OK);
    CHECK_ST(tarn_heap_walk(object_calls, NULL), TARN_OK);
    inside.kinds = 0;
    CHECK_ST(tarn_roots_walk(root_calls, NULL), TARN_OK);
    CHECK_ST(tarn_world_start(), TARN_OK);
    CHECK_EQ(inside.kinds, 63u);
    CHECK(tarn_timer_stop(timer));
    tarn_handle_drop(h);
    CHECK_ST(tarn_finalizer_set(g->branch[0], NULL, NULL), TARN_OK);
    CHECK_ST(tarn_roots_remove(range, range + 2), TARN_OK);
}

/* --- threads that end during a walk ---------------------------------------------------- */

/* More than the C library keeps for the next thread. */
#define THREAD_STACK ((size_t)64 << 20)

static struct {
    pthread_t thread;
    _Atomic uint64_t id; /* of its goroutine, when it is in its native call */
    sem_t end;
    int seen;
} ender;

static void *end_of_thread(void *unused)
{
    (void)unused;
    while (sem_wait(&ender.end) != 0)
        ; /* a signal */
    pthread_exit(NULL);
}

__attribute__((noinline)) static void *in_thread(void *unused)
{
    (void)unused;
    CHECK_ST(tarn_thread_attach(), TARN_OK);
    void *volatile keep[64];
    for (int i = 0; i < 64; i++)
        keep[i] = tarn_alloc(t_leaf);
    atomic_store(&ender.id, tarn_self());
    tarn_native_call(end_of_thread, NULL);
    return keep[0];
}

static bool at_root(const struct tarn_root *r, void *unused)
{
    (void)unused;
    if (r->kind == TARN_ROOT_STACK && r->id == atomic_load(&ender.id) &&
        ender.seen++ == 0) {
        /* It may end now, with its stack, or has to wait for us. */
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += 100000000;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        CHECK_EQ(sem_post(&ender.end), 0);
        if (pthread_timedjoin_np(ender.thread, NULL, &until) == 0)
            ender.thread = 0;
    }
    return true;
}

static void *join(void *unused)
{
    (void)unused;
    return ender.thread == 0 || pthread_join(ender.thread, NULL) == 0 ? &ender
                                                                      : NULL;
}

static void test_thread_ends(void)
{
    if (TARN_TSAN)
        SKIP("ThreadSanitizer has no pthread_exit in a native call");
    register_types();
    pthread_attr_t attr;
    CHECK_EQ(pthread_attr_init(&attr), 0);
    CHECK_EQ(pthread_attr_setstacksize(&attr, THREAD_STACK), 0);
    memset(&ender, 0, sizeof ender);
    CHECK_EQ(sem_init(&ender.end, 0, 0), 0);
    CHECK_EQ(pthread_create(&ender.thread, &attr, in_thread, NULL), 0);
    pthread_attr_destroy(&attr);
    while (atomic_load(&ender.id) == 0)
        tarn_yield();
    CHECK_ST(tarn_world_stop(), TARN_OK);
    CHECK_ST(tarn_roots_walk(at_root, NULL), TARN_OK);
    CHECK_ST(tarn_world_start(), TARN_OK);
    /* Its end writes over what it had there. */
    CHECK_GE(ender.seen, 1);
    CHECK(tarn_native_call(join, NULL) != NULL);
}

/* --- the file ------------------------------------------------------------------------ */

static struct expected {
    uint64_t objects, bytes, pointers;
} * expected;
static char snapshot_path[64];

static bool sum_pointers(const struct tarn_heap_object *o, void *ve)
{
    struct expected *e = ve;
    struct count c = {.last = o->base};
    CHECK_ST(tarn_object_pointers(o->base, count_pointer, &c), TARN_OK);
    e->objects++;
    e->bytes += o->size;
    e->pointers += c.pointers;
    return true;
}

static void test_snapshot(void)
{
    build();
    litter(1000);
    /* The first one collects; the second one is of what was walked. */
    CHECK_ST(tarn_heap_snapshot(snapshot_path, TARN_SNAPSHOT_COLLECT), TARN_OK);
    CHECK_ST(tarn_world_stop(), TARN_OK);
    memset(expected, 0, sizeof *expected);
    CHECK_ST(tarn_heap_walk(sum_pointers, expected), TARN_OK);
    CHECK_ST(tarn_heap_snapshot(snapshot_path, 0), TARN_OK);
    CHECK_ST(tarn_world_start(), TARN_OK);
}

static const char script[] =
    "import json, sys, collections\n"
    "d = json.load(open(sys.argv[1]))\n"
    "objects, size, pointers = map(int, sys.argv[2:5])\n"
    "m = d['snapshot']['meta']; nf = m['node_fields']; ef = m['edge_fields']\n"
    "N, E, S = d['nodes'], d['edges'], d['strings']\n"
    "w = len(nf); n = d['snapshot']['node_count']\n"
    "assert len(N) == n * w, (len(N), n)\n"
    "assert len(E) == d['snapshot']['edge_count'] * 3\n"
    "f = {k: nf.index(k) for k in nf}\n"
    "types = m['node_types'][0]; etypes = m['edge_types'][0]\n"
    "node = [dict(type=types[N[i*w]], name=S[N[i*w+1]], id=N[i*w+2],\n"
    "             size=N[i*w+3], count=N[i*w+4]) for i in range(n)]\n"
    "real = [x for x in node if x['type'] != 'synthetic']\n"
    "assert len(real) == objects, (len(real), objects)\n"
    "assert sum(x['size'] for x in real) == size\n"
    "assert len(set(x['id'] for x in node)) == n\n"
    "out, at, inner = [], 0, 0\n"
    "for x in node:\n"
    "    mine = []\n"
    "    for k in range(x['count']):\n"
    "        t, name, to = E[at:at+3]; at += 3\n"
    "        assert to % w == 0 and to // w < n\n"
    "        t = etypes[t]\n"
    "        mine.append((t, name if t == 'element' else S[name], to // w))\n"
    "    out.append(mine)\n"
    "    if x['type'] != 'synthetic': inner += len(mine)\n"
    "assert at == len(E)\n"
    "assert inner == pointers, (inner, pointers)\n"
    "seen, todo = {0}, [0]\n"
    "while todo:\n"
    "    for t, name, to in out[todo.pop()]:\n"
    "        if to not in seen: seen.add(to); todo.append(to)\n"
    "lost = [node[i] for i in range(n) if i not in seen]\n"
    "assert not lost, lost[:10]\n"
    "names = collections.Counter(x['name'] for x in node)\n"
    "tree = 'branch \"of\" a tree'\n"
    "assert names[tree] >= 3000, names\n"
    "assert names['leaf'] == 1002 and names['hidden'] == 1, names\n"
    "edges = collections.Counter()\n"
    "for i in range(n):\n"
    "    if node[i]['name'] == tree:\n"
    "        for t, name, to in out[i]:\n"
    "            assert t == 'property'\n"
    "            edges[name, node[to]['name']] += 1\n"
    "assert edges['+0', tree] == 1500 and edges['+8', tree] == 1499, edges\n"
    "assert edges['+24', 'leaf'] == 1000 and len(edges) == 3, edges\n"
    "by = {x['name']: i for i, x in enumerate(node)}\n"
    "hidden = out[by['hidden']]\n"
    "assert [(t, s, node[to]['name']) for t, s, to in hidden] == [\n"
    "    ('internal', '(traced)', tree)]\n"
    "big = [i for i in range(n) if node[i]['size'] == 48000]\n"
    "assert [e[:2] for e in out[big[0]]] == [('property', '+40'),\n"
    "    ('element', 47992)], out[big[0]]\n"
    "kinds = collections.Counter(s for e in out for t, s, to in e)\n"
    "assert kinds['weak reference'] == 1 and kinds['value by weak key'] == 1\n"
    "segments = out[by['(data segments)']]\n"
    "assert ('property', 'g') in [e[:2] for e in segments], segments\n"
    "assert any(s['name'].startswith('goroutine ') for s in node)\n"
    "print('     %d nodes, %d edges' % (n, len(E) // 3))\n";

static void read_snapshot(void)
{
    if (system("python3 -c 'import json' 2>/dev/null") != 0)
        SKIP("no python3");
    char name[96], command[256];
    snprintf(name, sizeof name, "%s.py", snapshot_path);
    FILE *f = fopen(name, "w");
    CHECK(f != NULL);
    CHECK(fputs(script, f) >= 0);
    CHECK(fclose(f) == 0);
    snprintf(command, sizeof command, "python3 %s %s %llu %llu %llu", name,
             snapshot_path, (unsigned long long)expected->objects,
             (unsigned long long)expected->bytes,
             (unsigned long long)expected->pointers);
    int status = system(command);
    unlink(name);
    if (status != 0)
        unlink(snapshot_path);
    CHECK_EQ(status, 0);
}

static void body(void)
{
    RUN(test_objects);
    RUN(test_refused);
    RUN(test_own_key);
    RUN(test_roots);
    RUN(test_ranges);
    RUN(test_maps);
    RUN(test_calls_inside);
    RUN(test_thread_ends);
    RUN(test_any_time);
}

static void snapshot_body(void)
{
    RUN(test_snapshot);
}

int main(int argc, char **argv)
{
    harness_init(argc, argv);
    suite_run(body, 1);
    suite_run(body, 4);
    expected = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
                    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(expected != MAP_FAILED);
    snprintf(snapshot_path, sizeof snapshot_path, "/tmp/tarn-walk-%d.json",
             (int)getpid());
    suite_run(snapshot_body, 2);
    if (expected->objects != 0)
        RUN(read_snapshot);
    unlink(snapshot_path);
    return harness_done();
}
