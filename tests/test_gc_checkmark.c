/* tests/test_gc_checkmark.c - checkmark catches a program that omits a barrier
 * and a collector that omits a root, and names the object and the slot; the same
 * program and the same collector pass when they do their part.
 *
 * Deterministic: a traced object, the door, keeps the marker waiting until the
 * mutator, whose stack has been scanned by then, has moved the white object
 * behind the door to where the case wants it. */
#include "gcsuite.h"

struct lost {
    uint64_t id;
};
struct holder {
    uint64_t pad;
    struct lost *held;
};
struct door {
    struct lost *inside;
};

static tarn_type *t_lost, *t_holder, *t_door;
static _Atomic int door_state; /* 0 open, 1 armed, 2 the marker waits */

static void trace_door(void *obj, tarn_tracer *tracer)
{
    int armed = 1;
    if (atomic_load(&gc.blacken) && /* not checkmark, when the mark begins */
        atomic_compare_exchange_strong(&door_state, &armed, 2)) {
        int64_t end = tarn_now() + 200000000;
        while (atomic_load(&door_state) == 2 && tarn_now() < end)
            ;
    }
    tarn_trace(tracer, __atomic_load_n(&((struct door *)obj)->inside,
                                       __ATOMIC_RELAXED));
}

static void register_types(void)
{
    uint64_t none = 0, map = TARN_PTR(struct holder, held);
    t_lost = tarn_type_register(&(struct tarn_type_info){
        "lost_thing", sizeof(struct lost), &none, NULL});
    t_holder = tarn_type_register(&(struct tarn_type_info){
        "black_holder", sizeof(struct holder), &map, NULL});
    t_door = tarn_type_register(&(struct tarn_type_info){
        "door", sizeof(struct door), NULL, trace_door});
    CHECK(t_lost != NULL && t_holder != NULL && t_door != NULL);
    /* The runtime's own variables hold the heap's first address. */
    CHECK(tarn_alloc(t_lost) != NULL);
}

__attribute__((noinline)) static void *new_lost(uint64_t id)
{
    struct lost *p = tarn_alloc(t_lost);
    CHECK(p != NULL);
    p->id = id;
    return p;
}

static struct lost *global_lost;

/* A mutator's move of *from, the only reference, to h->held or elsewhere. */
typedef void move_fn(struct lost **from, struct holder *h);

static void move_plain(struct lost **from, struct holder *h)
{
    h->held = *from;
    *from = NULL;
}

static void move_memcpy(struct lost **from, struct holder *h)
{
    memcpy(&h->held, from, sizeof *from);
    memset(from, 0, sizeof *from);
}

static void move_barrier(struct lost **from, struct holder *h)
{
    tarn_store(&h->held, *from);
    tarn_store(from, NULL);
}

static void move_copy(struct lost **from, struct holder *h)
{
    tarn_copy(&h->held, from, sizeof *from);
    tarn_clear(from, sizeof *from);
}

static void move_swap(struct lost **from, struct holder *h)
{
    tarn_swap(&h->held, tarn_swap(from, NULL));
}

static void move_cas(struct lost **from, struct holder *h)
{
    void *null = NULL, *old = *from;
    CHECK(tarn_cas(&h->held, &null, old));
    CHECK(tarn_cas(from, &old, NULL));
}

static void move_to_global(struct lost **from, struct holder *h)
{
    (void)h;
    global_lost = *from;
    *from = NULL;
}

static bool stack_black(void)
{
    return atomic_load(&gc.phase) == GC_MARK && gc_stack_scanned(getg());
}

static uintptr_t hidden; /* the complement of garbage's address */

__attribute__((noinline)) static void prepare(struct door **root)
{
    struct door *d = tarn_alloc(t_door);
    CHECK(d != NULL);
    tarn_store(root, d);
    hidden = ~(uintptr_t)new_lost(78);
    tarn_store(&d->inside, new_lost(77));
}

/* True if the mutator found things as wanted. */
static bool try_move(move_fn *move)
{
    void **root = new_shared(2 * sizeof *root);
    collect();
    /* Young, so that any collection looks at them. */
    prepare((struct door **)&root[0]);
    wipe_stack();
    uint64_t target = atomic_load(&gc.cycles) + 1;
    atomic_store(&door_state, 1);
    gc_request();
    while (atomic_load(&door_state) == 1 && atomic_load(&gc.cycles) < target)
        tarn_yield();
    int64_t end = tarn_now() + 100000000;
    while (!stack_black() && tarn_now() < end)
        tarn_yield();
    bool ok = atomic_load(&door_state) == 2 && stack_black();
    if (ok) {
        struct holder *h = tarn_alloc(t_holder); /* black: the mark is on */
        CHECK(h != NULL);
        SET(root[1], h);
        move(&((struct door *)root[0])->inside, h);
    }
    atomic_store(&door_state, 0);
    collect();
    if (ok && move != move_to_global)
        CHECK_EQ(((struct holder *)root[1])->held->id, 77);
    if (ok && move == move_to_global)
        CHECK_EQ(global_lost->id, 77);
    return ok;
}

static move_fn *child_move;
static uint32_t child_fault;

static void set_fault(uint32_t f)
{
    atomic_store(&gc_fault, f);
}

static void move_goroutine(void *unused)
{
    (void)unused;
    register_types();
    set_fault(child_fault);
    int done = 0;
    for (int i = 0; i < 50 && done < 3; i++)
        done += try_move(child_move);
    set_fault(GC_FAULT_NONE);
    CHECK_GT(done, 0);
    printf("went well %d times\n", done);
}

static int child_gctrace;

static void child(tarn_fn fn)
{
    struct tarn_options o;
    alarm(SUITE_WATCHDOG_SECONDS);
    tarn_options_init(&o);
    o.maxprocs = 4;
    o.checkmark = 1;
    o.gctrace = child_gctrace;
    CHECK_ST(tarn_main(&o, fn, NULL), TARN_OK);
    exit(0);
}

static void move_child(void)
{
    child(move_goroutine);
}

static char out[65536];

static void must_pass(move_fn *move)
{
    child_move = move;
    child_fault = GC_FAULT_NONE;
    int st = harness_child(move_child, NULL, out, sizeof out);
    CHECK_STR(out, "went well");
    CHECK(WIFEXITED(st));
    CHECK_EQ(WEXITSTATUS(st), 0);
}

static void must_be_caught(void (*fn)(void))
{
    int st = harness_child(fn, NULL, out, sizeof out);
    CHECK_STR(out, "checkmark: missed object 0x");
    CHECK_STR(out, "tarn: fatal: checkmark: the concurrent mark of cycle");
    CHECK(WIFSIGNALED(st) && WTERMSIG(st) == SIGABRT);
}

/* The line names object, type, slot, offset, holder and its type. */
static void check_names(void)
{
    unsigned long obj, slot, holder;
    size_t size, off, hsize;
    char type[64], htype[64];
    int n = sscanf(strstr(out, "checkmark: missed"),
                   "checkmark: missed object %lx (%zu bytes, type %63[a-z_]), "
                   "reached from slot %lx, offset %zu of object %lx (%zu "
                   "bytes, type %63[a-z_])",
                   &obj, &size, type, &slot, &off, &holder, &hsize, htype);
    CHECK_EQ(n, 8);
    CHECK(strcmp(type, "lost_thing") == 0);
    CHECK(strcmp(htype, "black_holder") == 0);
    CHECK_EQ(off, offsetof(struct holder, held));
    CHECK_EQ(slot, holder + off);
    CHECK(size == 16 && hsize == 16 && obj != holder);
}

static void test_plain_store(void)
{
    child_fault = GC_FAULT_NONE;
    child_move = move_plain;
    must_be_caught(move_child);
    check_names();
    child_move = move_memcpy;
    must_be_caught(move_child);
    check_names();
}

static void test_with_barrier(void)
{
    must_pass(move_barrier);
    must_pass(move_copy);
    must_pass(move_swap);
    must_pass(move_cas);
    /* A plain store to a global is scanned again. */
    must_pass(move_to_global);
}

/* The deletion barrier alone: its case is a pointer that moves to a stack that
 * has been scanned. */
static void move_no_deletion(struct lost **from, struct holder *h)
{
    /* Not its first byte: that could be the end of the object before. */
    char *volatile mine = (char *)*from + 8;
    *from = NULL;
    atomic_store(&door_state, 0);
    uint64_t now = atomic_load(&gc.cycles);
    while (atomic_load(&gc.cycles) == now)
        tarn_yield();
    h->held = (struct lost *)(mine - 8);
}

/* A word that comes to look like a pointer to what was garbage is no miss. */
static void move_by_number(struct lost **from, struct holder *h)
{
    move_barrier(from, h);
    volatile uintptr_t mine = ~hidden + 8;
    atomic_store(&door_state, 0);
    uint64_t now = atomic_load(&gc.cycles);
    while (atomic_load(&gc.cycles) == now)
        tarn_yield();
    CHECK_EQ(mine, ~hidden + 8);
    mine = 0;
}

static void test_number(void)
{
    must_pass(move_by_number);
    CHECK(strstr(out, "checkmark: missed") == NULL);
    child_gctrace = 1;
    must_pass(move_by_number);
    child_gctrace = 0;
    CHECK_STR(out, "type lost_thing), reached from slot");
    CHECK_STR(out, "(garbage when the mark began: a number, it seems)");
}

static void test_no_deletion_barrier(void)
{
    child_fault = GC_FAULT_NONE;
    child_move = move_no_deletion;
    must_be_caught(move_child);
    CHECK_STR(out, "type lost_thing), reached from slot");
    CHECK_STR(out, "in stack of goroutine");
}

/* --- the collector's own faults ---------------------------------------------- */

static void fault_stack_goroutine(void *unused)
{
    (void)unused;
    register_types();
    char *volatile mine = (char *)new_lost(1) + 8;
    set_fault(child_fault);
    collect();
    CHECK_EQ(((struct lost *)(mine - 8))->id, 1);
}

static void fault_stack_child(void)
{
    child(fault_stack_goroutine);
}

static void on_timer(void *arg)
{
    (void)arg;
}

static void fault_timer_goroutine(void *unused)
{
    (void)unused;
    register_types();
    CHECK(tarn_timer_start(INT64_C(3600000000000), on_timer, new_lost(2)) !=
          NULL);
    wipe_stack();
    set_fault(child_fault);
    collect();
}

static void fault_timer_child(void)
{
    child(fault_timer_goroutine);
}

/* In a frame of its own, so that nothing is left in the caller's registers. */
__attribute__((noinline)) static void store_lost(struct lost **r)
{
    tarn_store(r, new_lost(3));
}

static void fault_range_goroutine(void *unused)
{
    (void)unused;
    register_types();
    struct lost **r = calloc(1, sizeof *r);
    CHECK_ST(tarn_roots_add(r, r + 1, TARN_ROOTS_BARRIERED), TARN_OK);
    store_lost(r);
    wipe_stack();
    collect();
    wipe_stack();
    set_fault(child_fault);
    collect();
}

static void fault_range_child(void)
{
    child(fault_range_goroutine);
}

static void fault(uint32_t which, void (*fn)(void), move_fn *move,
                  const char *where)
{
    child_move = move;
    child_fault = GC_FAULT_NONE;
    int st = harness_child(fn, NULL, out, sizeof out);
    if (!WIFEXITED(st) || WEXITSTATUS(st) != 0)
        fprintf(stderr, "%s\n", out);
    CHECK(WIFEXITED(st));
    CHECK_EQ(WEXITSTATUS(st), 0);
    child_fault = which;
    must_be_caught(fn);
    CHECK_STR(out, "type lost_thing), reached from slot 0x");
    if (strstr(out, where) == NULL)
        fprintf(stderr, "%s\nlacks \"%s\"\n", out, where);
    CHECK(strstr(out, where) != NULL);
}

static void test_collector_faults(void)
{
    fault(GC_FAULT_STACKS, fault_stack_child, NULL, "in stack of goroutine");
    fault(GC_FAULT_TIMERS, fault_timer_child, NULL, "of object");
    fault(GC_FAULT_BARRIERED, fault_range_child, NULL,
          "in barriered root range");
    fault(GC_FAULT_FLUSH, move_child, move_barrier, "type black_holder)");
    fault(GC_FAULT_BULK, move_child, move_copy, "type black_holder)");
    fault(GC_FAULT_RESCAN, move_child, move_to_global, "in data segment");
}

/* Nothing to find: silence, and many cycles of it. */
static void quiet_goroutine(void *unused)
{
    (void)unused;
    register_types();
    garbage_start(3);
    void **keep = new_shared(100 * sizeof *keep);
    for (int i = 0; i < 20; i++) {
        for (int k = 0; k < 100; k++)
            SET(keep[k], new_lost((uint64_t)k));
        collect();
    }
    garbage_end();
}

static void quiet_child(void)
{
    child(quiet_goroutine);
}

static void test_quiet(void)
{
    int st = harness_child(quiet_child, NULL, out, sizeof out);
    CHECK(WIFEXITED(st));
    CHECK_EQ(WEXITSTATUS(st), 0);
    CHECK(strstr(out, "checkmark:") == NULL);
}

int main(int argc, char **argv)
{
    harness_init(argc, argv);
    RUN(test_plain_store);
    RUN(test_with_barrier);
    RUN(test_no_deletion_barrier);
    RUN(test_number);
    RUN(test_collector_faults);
    RUN(test_quiet);
    return harness_done();
}
