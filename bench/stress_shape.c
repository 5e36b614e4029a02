/* bench/stress_shape.c - structures whose shape follows from a number; and ways to
 * wait while one is held. Managed. */
#include "bench/stress.h"

uint64_t stress_epoch;
_Atomic bool stress_stop, collector_stop;
tarn_waitgroup stress_workers, stress_children;

static tarn_type *cell_type;
static _Atomic uint64_t last_id;

/* --- structures ----------------------------------------------------------------- */

/* A list of cells that all point back to the first, each with a blob. */

void shapes_init(void)
{
    static const uint64_t map[1] = {TARN_PTR(struct cell, next) |
                                    TARN_PTR(struct cell, root) |
                                    TARN_PTR(struct cell, blob)};
    _Static_assert(sizeof(struct cell) == CELL_SIZE, "cells have no padding");
    cell_type = tarn_type_register(&(struct tarn_type_info){
        .name = "stress_cell", .size = sizeof(struct cell), .ptrmap = map});
    if (cell_type == NULL)
        stress_fail("type", tarn_last_error(), 0, NULL);
}

uint64_t shape_id(void)
{
    return atomic_fetch_add_explicit(&last_id, 1, memory_order_relaxed) + 1;
}

static uint64_t cells_of(uint64_t id)
{
    return 1 + stress_mix(id, 1) % 4;
}

static uint64_t blob_size_of(uint64_t id, uint64_t index)
{
    return 8 + stress_mix(id, 100 + index) % 200;
}

static unsigned char blob_byte(uint64_t id, uint64_t index)
{
    return (unsigned char)(1 + stress_mix(id, 200 + index) % 255);
}

uint64_t cell_sum(uint64_t id, uint64_t index, uint64_t blob_size)
{
    return stress_mix(stress_mix(stress_mix(CELL_MAGIC, id), index), blob_size);
}

NI static struct cell *new_cell(uint64_t id, uint64_t index, struct cell *root)
{
    struct cell *c = tarn_alloc(cell_type);
    if (c == NULL)
        stress_fail("allocation", tarn_last_error(), id, NULL);
    if ((c->magic | c->id | c->index | c->sum | c->blob_size) != 0 ||
        c->next != NULL || c->root != NULL || c->blob != NULL)
        stress_fail("new object", "it is not zero", id, c);
    c->magic = CELL_MAGIC;
    c->id = id;
    c->index = index;
    c->blob_size = blob_size_of(id, index);
    c->sum = cell_sum(id, index, c->blob_size);
    tarn_store(&c->root, root != NULL ? root : c);
    unsigned char *blob = tarn_alloc_bytes(c->blob_size);
    if (blob == NULL)
        stress_fail("allocation", tarn_last_error(), id, NULL);
    for (uint64_t i = 0; i < c->blob_size; i++)
        blob[i] = blob_byte(id, index);
    tarn_store(&c->blob, blob);
    return c;
}

NI void shape_build(void **slot, uint64_t id)
{
    struct cell *first = new_cell(id, 0, NULL);
    *slot = first;
    uint64_t n = cells_of(id);
    struct cell *last = first;
    for (uint64_t i = 1; i < n; i++) {
        struct cell *c = new_cell(id, i, first);
        tarn_store(&last->next, c);
        last = c;
    }
}

NI static void check_cell(const struct cell *c, uint64_t id, uint64_t index,
                          const struct cell *root, const char *where)
{
    if (c == NULL)
        stress_fail(where, "a pointer of it is NULL", id, c);
    if (tarn_object_base(c) != c)
        stress_fail(where, "it was freed", id, c);
    if (c->magic != CELL_MAGIC || c->id != id || c->index != index)
        stress_fail(where, "something else is in its place", id, c);
    if (c->blob_size != blob_size_of(id, index) ||
        c->sum != cell_sum(id, index, c->blob_size) || c->root != root)
        stress_fail(where, "its fields are wrong", id, c);
    const unsigned char *blob = c->blob;
    if (tarn_object_base(blob) != blob)
        stress_fail(where, "its blob was freed", id, c);
    for (uint64_t i = 0; i < c->blob_size; i++)
        if (blob[i] != blob_byte(id, index))
            stress_fail(where, "its blob was overwritten", id, c);
}

NI void shape_check(void *const *slot, uint64_t id, const char *where)
{
    const struct cell *root = *slot, *c = root;
    uint64_t n = cells_of(id);
    for (uint64_t i = 0; i < n; i++, c = c->next)
        check_cell(c, id, i, root, where);
    if (c != NULL)
        stress_fail(where, "it is longer than it was", id, root);
    atomic_fetch_add_explicit(&report->checks, n, memory_order_relaxed);
}

/* --- collections ------------------------------------------------------------------ */

static tarn_mutex gate_lock;
static tarn_cond gate;
static tarn_chan *ticks;

void collector_main(void *unused)
{
    (void)unused;
    uint64_t rng = stress_seed(0xc011ec7);
    while (!atomic_load_explicit(&collector_stop, memory_order_relaxed)) {
        if (stress_below(&rng, 2))
            gc_collect_young();
        else if (tarn_gc() != TARN_OK)
            stress_fail("tarn_gc", tarn_last_error(), 0, NULL);
        __atomic_add_fetch(&stress_epoch, 1, __ATOMIC_RELAXED);
        atomic_fetch_add_explicit(&report->collections, 1,
                                  memory_order_relaxed);
        tarn_mutex_lock(&gate_lock);
        tarn_cond_broadcast(&gate);
        tarn_mutex_unlock(&gate_lock);
        uint64_t word = 1;
        while (tarn_chan_try_send(ticks, &word) == TARN_OK)
            word++;
        if (stress_below(&rng, 4) == 0)
            tarn_sleep(stress_below(&rng, 300000));
        else
            tarn_yield();
    }
    tarn_waitgroup_done(&stress_children);
}

/* --- waiting ----------------------------------------------------------------------- */

/* A call whose prologue is checked, and nothing else. */
NI static void step_call(void)
{
    volatile uint64_t frame[25]; /* see PASS_BODY */
    frame[0] = 1;
    (void)frame[0];
    if (!stress_checked)
        tarn_poll();
}

static void step_garbage(void)
{
    for (int i = 0; i < 20; i++) {
        uint64_t *p = tarn_alloc_conservative(16 + (size_t)i * 8);
        if (p == NULL)
            stress_fail("allocation", tarn_last_error(), 0, NULL);
        if (p[0] != 0 || p[1] != 0)
            stress_fail("new object", "it is not zero", 0, p);
        p[0] = p[1] = ~UINT64_C(0);
    }
    tarn_yield();
}

static void step_sleep(void)
{
    tarn_sleep(20000);
}

static void step_gate(void)
{
    tarn_mutex_lock(&gate_lock);
    tarn_cond_wait(&gate, &gate_lock);
    tarn_mutex_unlock(&gate_lock);
}

static void step_tick(void)
{
    uint64_t word;
    if (tarn_chan_recv(ticks, &word) != TARN_OK)
        stress_fail("channel", tarn_last_error(), 0, NULL);
}

static void step_native(void)
{
    tarn_nanosleep(20000);
}

static void step_poll(void)
{
    tarn_poll();
    tarn_yield();
}

/* The collector needs a P, and so does everybody else now and then. */
static tarn_sema spinners;

bool spin_begin(void)
{
    return tarn_sema_try_acquire(&spinners);
}

void spin_end(void)
{
    tarn_sema_release(&spinners);
}

static wait_fn wait_any(uint64_t *rng)
{
    static const wait_fn steps[] = {tarn_yield,  step_call, step_garbage,
                                    step_sleep,  step_gate, step_tick,
                                    step_native, step_poll};
    return steps[stress_below(rng, sizeof steps / sizeof steps[0])];
}

wait_fn wait_begin(uint64_t *rng)
{
    wait_fn step = wait_any(rng);
    return step == step_call && !spin_begin() ? tarn_yield : step;
}

void wait_end(wait_fn step)
{
    if (step == step_call)
        spin_end();
}

NI void wait_until(uint64_t epoch, uint64_t *rng)
{
    wait_fn step = rng != NULL ? wait_begin(rng) : tarn_yield;
    while (epoch_now() < epoch)
        step();
    wait_end(step);
}

void behave_init(void)
{
    spinners.count = (int64_t)(tarn_procs() + 1) / 2;
    ticks = tarn_chan_new(sizeof(uint64_t), 2);
    if (ticks == NULL)
        stress_fail("channel", tarn_last_error(), 0, NULL);
    shapes_init();
    block_init();
    graph_init();
}
