/* bench/stress_behave.c - what goroutines do with references. Managed. */
#include "bench/stress.h"

/* --- one reference, held in one place --------------------------------------------- */

static void check_held(void *const *slot, uint64_t id, const char *where,
                       const char *what)
{
    if (*slot == NULL)
        stress_fail(where, "the register has lost it", id, NULL);
    shape_check(slot, id, what);
}

NI static void hold_in(hold_fn fn, const char *what)
{
    void *slot = NULL;
    uint64_t id = shape_id();
    shape_build(&slot, id);
    fn(&slot, hold_end());
    check_held(&slot, id, what, what);
}

NI static void hold_local(uint64_t *rng, int bias, const char *what)
{
    void *slot = NULL;
    uint64_t id = shape_id();
    shape_build(&slot, id);
    *(char *volatile *)&slot += bias;
    wait_until(hold_end(), rng);
    *(char *volatile *)&slot -= bias;
    shape_check(&slot, id, what);
}

NI static void hold_six(uint64_t *rng, int bias, bool native, const char *what)
{
    void *slots[6];
    uint64_t ids[6];
    for (int i = 0; i < 6; i++) {
        ids[i] = shape_id();
        shape_build(&slots[i], ids[i]);
        *(char *volatile *)&slots[i] += bias;
    }
    if (native) {
        hold_native(slots, hold_end());
    } else {
        wait_fn step = wait_begin(rng);
        hold_callee(slots, step, hold_end());
        wait_end(step);
    }
    for (int i = 0; i < 6; i++) {
        *(char *volatile *)&slots[i] -= bias;
        shape_check(&slots[i], ids[i], what);
    }
}

void behave_yield(uint64_t *rng)
{
    hold_local(rng, 0, "held by a local");
}

void behave_callee(uint64_t *rng)
{
    hold_six(rng, 0, false, "held in a callee-saved register of a caller");
}

void behave_argument(uint64_t *rng)
{
    const char *name;
    if (!stress_checked || !spin_begin()) {
        behave_callee(rng);
        return;
    }
    hold_fn fn = hold_argument(rng, &name);
    hold_in(fn, name);
    spin_end();
}

/* Few may spin at a time: who may does all three, as far as they are wanted. */
static void hold_spinning(uint64_t *rng)
{
    static const struct {
        enum behaviour what;
        hold_fn (*pick)(uint64_t *rng, const char **name);
    } kinds[] = {{DO_vector, hold_vector},
                 {DO_register, hold_general},
                 {DO_redzone, hold_red_zone}};
    if (!stress_async || !spin_begin()) {
        behave_yield(rng);
        return;
    }
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        const char *name;
        if (!(plan.behaviours >> kinds[i].what & 1))
            continue;
        hold_fn fn = kinds[i].pick(rng, &name);
        hold_in(fn, name);
    }
    spin_end();
}

void behave_register(uint64_t *rng)
{
    hold_spinning(rng);
}

void behave_vector(uint64_t *rng)
{
    hold_spinning(rng);
}

void behave_redzone(uint64_t *rng)
{
    hold_spinning(rng);
}

static void hold_biased(uint64_t *rng, int bias, const char *what)
{
    if (stress_below(rng, 2))
        hold_local(rng, bias, what);
    else
        hold_six(rng, bias, false, what);
}

void behave_interior(uint64_t *rng)
{
    hold_biased(rng, 1 + (int)stress_below(rng, CELL_SIZE - 1),
                "held by a pointer into its middle");
}

void behave_pastend(uint64_t *rng)
{
    hold_biased(rng, CELL_SIZE, "held by a pointer one past its end");
}

void *__morestack_allocate_stack_space(size_t size);

void behave_alloca(uint64_t *rng)
{
    size_t words = 1 + stress_below(rng, 500);
    /* As the compiler does where the stack has no room. */
    void **block = __morestack_allocate_stack_space(words * sizeof(void *));
    size_t at = stress_below(rng, (uint32_t)words);
    for (size_t i = 0; i < words; i++)
        block[i] = NULL;
    uint64_t id = shape_id();
    shape_build(&block[at], id);
    wait_until(hold_end(), rng);
    shape_check(&block[at], id, "held by an alloca block");
}

/* --- operands ------------------------------------------------------------------------ */

struct receiver {
    tarn_chan *chan;
    uint64_t id, end;
};

/* Takes what the sender has waited with for two collections at least. */
static void receiver_main(void *arg)
{
    struct receiver *r = arg;
    struct cell c;
    wait_until(r->end, NULL);
    if (tarn_chan_recv(r->chan, &c) != TARN_OK)
        stress_fail("channel", tarn_last_error(), r->id, NULL);
    if (c.magic != CELL_MAGIC || c.id != r->id || c.index != 0 ||
        c.sum != cell_sum(c.id, 0, c.blob_size))
        stress_fail("held by the operand of a blocked send",
                    "something else was received", r->id, NULL);
    void *slot = c.blob;
    if (tarn_object_base(slot) != slot)
        stress_fail("held by the operand of a blocked send",
                    "its blob was freed", r->id, slot);
    tarn_waitgroup_done(&stress_children);
}

NI static struct receiver *new_receiver(uint64_t id)
{
    struct receiver *r = tarn_alloc_conservative(sizeof *r);
    tarn_chan *c = tarn_chan_new(sizeof(struct cell), 0);
    if (r == NULL || c == NULL)
        stress_fail("allocation", tarn_last_error(), id, NULL);
    tarn_store(&r->chan, c);
    r->id = id;
    r->end = epoch_now() + 3;
    return r;
}

void behave_operand(uint64_t *rng)
{
    (void)rng;
    void *slot = NULL;
    uint64_t id = shape_id();
    struct receiver *r = new_receiver(id);
    tarn_waitgroup_add(&stress_children, 1);
    if (tarn_go(receiver_main, r) != TARN_OK)
        stress_fail("tarn_go", tarn_last_error(), id, NULL);
    shape_build(&slot, id);
    if (hold_operand(&slot, r->chan) != TARN_OK)
        stress_fail("channel", tarn_last_error(), id, NULL);
}

/* --- native calls, threads -------------------------------------------------------------- */

void behave_native(uint64_t *rng)
{
    if (stress_below(rng, 2)) {
        hold_six(rng, 0, true, "held in a register over native code");
        return;
    }
    void *slot = NULL;
    uint64_t id = shape_id();
    shape_build(&slot, id);
    hold_native_call(&slot, stress_below(rng, 2));
    shape_check(&slot, id, "held by the argument of a native call");
}

static void on_thread(void *vrng)
{
    uint64_t rng = *(uint64_t *)vrng;
    switch (stress_below(&rng, 4)) {
    case 0:
        behave_callee(&rng);
        break;
    case 1:
        behave_native(&rng);
        break;
    case 2:
        behave_interior(&rng);
        break;
    default:
        behave_block(&rng);
    }
}

void behave_attach(uint64_t *rng)
{
    uint64_t seed = stress_rand(rng) | 1;
    attached_call(on_thread, &seed);
}

/* --- goroutines that come and go -------------------------------------------------------- */

struct spawned {
    void *shape;
    uint64_t id, more;
};

static void start_spawned(uint64_t more);

static void spawned_main(void *arg)
{
    struct spawned *s = arg;
    uint64_t id = s->id, more = s->more;
    void *slot = s->shape;
    s = NULL;
    shape_check(&slot, id, "held by the argument of a goroutine");
    if (more > 0)
        start_spawned(more - 1);
    wait_until(epoch_now() + 1, NULL);
    shape_check(&slot, id, "held by a local of a new goroutine");
    tarn_waitgroup_done(&stress_children);
}

NI static void start_spawned(uint64_t more)
{
    struct spawned *s = tarn_alloc_conservative(sizeof *s);
    if (s == NULL)
        stress_fail("allocation", tarn_last_error(), 0, NULL);
    void *slot = NULL;
    s->id = shape_id();
    s->more = more;
    shape_build(&slot, s->id);
    tarn_store(&s->shape, slot);
    tarn_waitgroup_add(&stress_children, 1);
    if (tarn_go(spawned_main, s) != TARN_OK)
        stress_fail("tarn_go", tarn_last_error(), s->id, NULL);
}

void behave_spawn(uint64_t *rng)
{
    for (uint32_t n = 1 + stress_below(rng, 4); n > 0; n--)
        start_spawned(stress_below(rng, 3));
    wait_until(epoch_now() + 1, rng);
}

/* --- the worker ---------------------------------------------------------------------------- */

static const behave_fn behaviours[DO_COUNT] = {
#define BEHAVIOUR_FN_(name, what) behave_##name,
    BEHAVIOURS(BEHAVIOUR_FN_)
#undef BEHAVIOUR_FN_
};

void worker_main(void *index)
{
    uint64_t rng = stress_seed(1 + (uintptr_t)index);
    uint32_t enabled[DO_COUNT], n = 0;
    for (uint32_t i = 0; i < DO_COUNT; i++)
        if (plan.behaviours >> i & 1)
            enabled[n++] = i;
    while (!atomic_load_explicit(&stress_stop, memory_order_relaxed)) {
        uint32_t what = enabled[stress_below(&rng, n)];
        behaviours[what](&rng);
        tarn_yield();
        atomic_fetch_add_explicit(&report->done[what], 1, memory_order_relaxed);
    }
    tarn_waitgroup_done(&stress_workers);
}
