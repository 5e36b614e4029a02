/* tests/test_gc_moves.c - pointers move by swap, copy and clear, through root ranges,
 * globals and timers, into new goroutines and deep stacks, while the collector
 * marks: as test_gc_shapes.c, whose rules for meeting the mark hold here too. */
#include "gcnodes.h"

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
    int n = sized(RANGE) > 100 ? sized(RANGE) : 100;
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
