/* bench/stress_stacks.c - what goroutines do with their stacks. Managed. */
#include "bench/stress.h"

/* --- recursion ------------------------------------------------------------------- */

#define CANARY UINT64_C(0x6672616d652d2d2d)

struct frame {
    struct frame *up;
    uint64_t canary, depth, pokes, id;
    void *shape;
};

static void check_frame(const struct frame *f, uint64_t depth)
{
    if (f->canary != (CANARY ^ depth) || f->depth != depth)
        stress_fail("recursion",
                    "a frame was overwritten, or a pointer to it "
                    "is wrong",
                    depth, f);
}

/* From the innermost frame, through pointers to locals. */
NI static void poke_all(struct frame *f, uint64_t depth)
{
    for (; f != NULL; f = f->up, depth++) {
        check_frame(f, depth);
        f->pokes++;
        if (f->id != 0)
            shape_check(&f->shape, f->id, "held by a frame of a recursion");
    }
}

NI static void recurse(struct frame *up, uint64_t depth, uint64_t every,
                       uint64_t *rng)
{
    struct frame f = {up, CANARY ^ depth, depth, 0, 0, NULL};
    if (depth % every == 0) {
        f.id = shape_id();
        shape_build(&f.shape, f.id);
    }
    if (depth == 0) {
        poke_all(&f, 0);
        wait_until(hold_end(), rng);
        poke_all(&f, 0);
    } else {
        recurse(&f, depth - 1, every, rng);
    }
    check_frame(&f, depth);
    if (f.pokes != 2)
        stress_fail("recursion", "what callees wrote to a local is lost", depth,
                    &f);
    if (f.id != 0)
        shape_check(&f.shape, f.id, "held by a frame of a recursion");
}

void behave_recurse(uint64_t *rng)
{
    uint64_t depth = stress_below(rng, 40);
    if (stress_below(rng, 16) == 0 && stress_copying)
        depth = stress_below(rng, 3000);
    recurse(NULL, depth, 1 + depth / 10, rng);
}

/* --- pointers to locals ------------------------------------------------------------- */

#define LOCALS 32

NI static void swap(uint64_t *a, uint64_t *b)
{
    uint64_t t = *a;
    *a = *b;
    *b = t;
}

NI static void permute(uint64_t *a, uint32_t n, uint64_t *rng)
{
    if (n < 2) {
        wait_until(epoch_now() + 1, rng);
        return;
    }
    swap(&a[0], &a[stress_below(rng, n)]);
    permute(a + 1, n - 1, rng);
    swap(&a[0], &a[stress_below(rng, n)]);
}

void behave_locals(uint64_t *rng)
{
    uint64_t a[LOCALS], sum = 0, squares = 0;
    for (uint64_t i = 0; i < LOCALS; i++)
        a[i] = i + 1;
    permute(a, LOCALS, rng);
    for (uint64_t i = 0; i < LOCALS; i++) {
        sum += a[i];
        squares += a[i] * a[i];
    }
    if (sum != LOCALS * (LOCALS + 1) / 2 ||
        squares != LOCALS * (LOCALS + 1) * (2 * LOCALS + 1) / 6)
        stress_fail("locals",
                    "numbers changed while pointers to them were "
                    "passed down",
                    sum, a);
}

/* --- growth ---------------------------------------------------------------------------- */

/* A fresh stack has 64 KiB; 512 KiB is the largest that is kept for others. */
#define FRAME(kib)                                                             \
    NI static void frame_##kib(void)                                           \
    {                                                                          \
        volatile uint64_t a[(size_t)kib << 7];                                 \
        size_t last = sizeof a / sizeof a[0] - 1;                              \
        __asm__ volatile("" : : "r"(a) : "memory"); /* all of it is needed */  \
        a[0] = 1;                                                              \
        a[last] = 2;                                                           \
        if (a[0] != 1 || a[last] != 2)                                         \
            stress_fail("growth", "a large frame was overwritten", kib, NULL); \
    }
FRAME(12)
FRAME(48)
FRAME(100)
FRAME(200)
FRAME(600)

static const wait_fn frames[] = {frame_12, frame_48, frame_100, frame_200,
                                 frame_600};

static void growing_main(void *arg)
{
    uint32_t n = (uint32_t)(uintptr_t)arg;
    for (uint32_t i = 0; i <= n % 8 && i < 5; i++)
        if (hold_moved(frames[n / 8 == 0 ? i : n % 8]) != 0)
            stress_fail("growth",
                        "a register does not point to its local any more", i,
                        NULL);
    tarn_waitgroup_done(&stress_children);
}

void behave_grow(uint64_t *rng)
{
    uint32_t largest = stress_copying ? 5 : 2;
    for (uint32_t k = 1 + stress_below(rng, 3); k > 0; k--) {
        uint32_t n = stress_below(rng, largest) + 8 * stress_below(rng, 2);
        tarn_waitgroup_add(&stress_children, 1);
        if (tarn_go(growing_main, (void *)(uintptr_t)n) != TARN_OK)
            stress_fail("tarn_go", tarn_last_error(), n, NULL);
        tarn_yield();
    }
}

/* --- loops without calls ----------------------------------------------------------------- */

/* In general registers, in the flags, in vector registers: the results do not
 * depend on where the loop was interrupted. */
NI static uint64_t churn(uint64_t x, uint32_t n)
{
    double d = 1 + (double)(x & 0xffff) / 65536;
    uint64_t a = x, b = ~x, c = x * 3;
    for (uint32_t i = 0; i < n; i++) {
        a ^= a << 13;
        a ^= a >> 7;
        a ^= a << 17;
        b = b * UINT64_C(6364136223846793005) + a;
        c = (c << 9 | c >> 55) + (b > a ? b : a);
        d = d * 0.75 + 1.0 / d;
    }
    union {
        double d;
        uint64_t u;
    } bits = {d};
    return stress_mix(stress_mix(a, b), stress_mix(c, bits.u));
}

void behave_spin(uint64_t *rng)
{
    uint64_t x = stress_rand(rng);
    uint32_t n = 1000 + stress_below(rng, 50000);
    if (!stress_async)
        n /= 10;
    uint64_t first = churn(x, n), second = churn(x, n);
    if (first != second)
        stress_fail("loop without calls", "it computes something else now", n,
                    NULL);
}
