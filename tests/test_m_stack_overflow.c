/* The limits of stacks: growth from the smallest size to a large one, frames
 * larger than the stack, the largest size and the message when it is passed,
 * fixed stacks and their guard page, the choice of kind. */
#include "base/options.h"
#include "stackscan/stackscan.h"
#include "suite.h"

#define NI __attribute__((noinline))

static tarn_waitgroup wg;
static int64_t stackmax = -1;
static tarn_fn child_fn;
static struct tarn_go_attr child_attr;

static void child_goroutine(void *arg)
{
    (void)arg;
    child_fn(NULL);
    tarn_waitgroup_done(&wg);
}

static void child_first(void *arg)
{
    (void)arg;
    tarn_waitgroup_add(&wg, 1);
    CHECK_ST(tarn_go_with(&child_attr, child_goroutine, NULL), TARN_OK);
    tarn_waitgroup_wait(&wg);
}

static void child_main(void)
{
    struct tarn_options o;
    alarm(SUITE_WATCHDOG_SECONDS);
    tarn_options_init(&o);
    o.maxprocs = 2;
    if (stackmax > 0)
        o.stackmax = stackmax;
    tarn_main(&o, child_first, NULL);
}

static char out[65536];
static bool deep_ok;

/* Runs fn as a goroutine of a process of its own. */
static int run_child(tarn_fn fn, struct tarn_go_attr attr, int64_t max)
{
    child_fn = fn;
    child_attr = attr;
    stackmax = max;
    return harness_child(child_main, NULL, out, sizeof(out));
}

static const struct tarn_go_attr automatic;
static const struct tarn_go_attr fixed = {TARN_STACKS_FIXED, 0};

static volatile uint64_t sink;

NI static uint64_t deeper(uint64_t depth, const uint64_t *up)
{
    volatile uint64_t local[16];
    local[depth & 15] = *up + 1;
    if (depth == 0)
        return local[0];
    uint64_t copy = local[depth & 15];
    uint64_t r = deeper(depth - 1, &copy);
    if (copy != *up + 1)
        abort();
    return r + local[depth & 15];
}

static void recurse_for_ever(void *arg)
{
    uint64_t zero = (uint64_t)(arg != NULL);
    sink = deeper(UINT64_MAX, &zero);
}

static void recurse_64m(void *arg)
{
    /* 150 bytes a frame at the least. */
    uint64_t zero = (uint64_t)(arg != NULL);
    uintptr_t before = getg()->stack.hi - getg()->stack.lo;
    CHECK_LT(before, 1 << 20);
    sink = deeper((40 << 20) / 152, &zero);
    CHECK_GE(getg()->stack.hi - getg()->stack.lo, 64 << 20);
}

static void test_overflow_copying(void)
{
    static const int64_t limits[] = {64 << 10, 1 << 20, 100000, 0};
    for (int i = 0; i < 4; i++) {
        int st = run_child(recurse_for_ever, automatic, limits[i]);
        char want[100];
        CHECK_STR(out, "stack overflow: goroutine ");
        snprintf(want, sizeof(want),
                 " exceeds the limit of %lld bytes (option stackmax)",
                 (long long)(limits[i] ? limits[i] : 256 << 20));
        CHECK(strstr(out, want) != NULL);
        CHECK(WIFEXITED(st));
        CHECK_EQ(WEXITSTATUS(st), 2);
    }
}

static void test_overflow_fixed(void)
{
    /* Code with checks in its prologues says so before it happens. */
    int st = run_child(recurse_for_ever, fixed, 0);
    CHECK_STR(out, "stack overflow: goroutine ");
    CHECK_STR(out, "more bytes on its fixed stack of 262144 bytes");
    CHECK(WIFEXITED(st));
    CHECK_EQ(WEXITSTATUS(st), 2);
}

__attribute__((noinline, no_split_stack)) static uint64_t
unchecked(uint64_t depth, const volatile uint64_t *up)
{
    volatile uint64_t local[16];
    local[depth & 15] = *up + 1;
    if (depth == 0)
        return local[0];
    return unchecked(depth - 1, &local[depth & 15]) + local[depth & 15];
}

__attribute__((no_split_stack)) static void unchecked_for_ever(void *arg)
{
    volatile uint64_t zero = (uint64_t)(arg != NULL);
    sink = unchecked(UINT64_MAX, &zero);
}

static void test_guard_page(void)
{
    int st = run_child(unchecked_for_ever, fixed, 0);
    CHECK_STR(out, "stack overflow: goroutine ");
    CHECK_STR(out, "has used up its fixed stack of 262144 bytes");
    CHECK(WIFEXITED(st));
    CHECK_EQ(WEXITSTATUS(st), 2);
}

static void test_growth(void)
{
    int st = run_child(recurse_64m, automatic, 0);
    if (!WIFEXITED(st) || WEXITSTATUS(st) != 0)
        fprintf(stderr, "%s", out);
    CHECK(WIFEXITED(st));
    CHECK_EQ(WEXITSTATUS(st), 0);
}

/* A frame that is larger than twice the stack; larger than the limit. */
#define FRAME(name, bytes)                                                     \
    NI static void name##_frame(uint64_t seed)                                 \
    {                                                                          \
        volatile uint8_t a[bytes];                                             \
        for (size_t i = 0; i < (bytes); i += 1000)                             \
            a[i] = (uint8_t)(seed + i);                                        \
        for (size_t i = 0; i < (bytes); i += 1000)                             \
            CHECK_EQ(a[i], (uint8_t)(seed + i));                               \
    }                                                                          \
    static void name(void *arg)                                                \
    {                                                                          \
        name##_frame((uint64_t)(arg != NULL));                                 \
    }
FRAME(frame_1m, 1 << 20)
FRAME(frame_20m, 20 << 20)

static void test_large_frames(void)
{
    int st = run_child(frame_1m, automatic, 0);
    CHECK(WIFEXITED(st) && WEXITSTATUS(st) == 0);
    st = run_child(frame_20m, automatic, 0);
    CHECK(WIFEXITED(st) && WEXITSTATUS(st) == 0);
    st = run_child(frame_20m, automatic, 16 << 20);
    CHECK_STR(out, "exceeds the limit of 16777216 bytes (option stackmax)");
    CHECK(WIFEXITED(st) && WEXITSTATUS(st) == 2);
    st = run_child(frame_1m, fixed, 0);
    CHECK_STR(out, "on its fixed stack of 262144 bytes");
    CHECK(WIFEXITED(st) && WEXITSTATUS(st) == 2);
    struct tarn_go_attr large = {TARN_STACKS_FIXED, (1 << 20) + (64 << 10)};
    st = run_child(frame_1m, large, 0);
    CHECK(WIFEXITED(st) && WEXITSTATUS(st) == 0);
}

/* --- kinds --------------------------------------------------------------------- */

static enum stack_kind kind;
static size_t size;

static void note_kind(void *arg)
{
    (void)arg;
    kind = getg()->kind;
    size = getg()->stack.hi - getg()->stack.lo;
    tarn_waitgroup_done(&wg);
}

__attribute__((no_split_stack)) static void note_kind_unchecked(void *arg)
{
    (void)arg;
    kind = getg()->kind;
    size = getg()->stack.hi - getg()->stack.lo;
    tarn_waitgroup_done(&wg);
}

static enum stack_kind kind_of(tarn_fn fn, enum tarn_stacks want, size_t wish)
{
    struct tarn_go_attr attr = {want, wish};
    tarn_waitgroup_add(&wg, 1);
    CHECK_ST(tarn_go_with(&attr, fn, NULL), TARN_OK);
    tarn_waitgroup_wait(&wg);
    return kind;
}

static void kinds(void)
{
    CHECK_EQ(kind_of(note_kind, TARN_STACKS_AUTO, 0), STACK_COPYING);
    CHECK_EQ(size, STACK_MIN);
    CHECK_EQ(kind_of(note_kind, TARN_STACKS_COPYING, 0), STACK_COPYING);
    CHECK_EQ(kind_of(note_kind, TARN_STACKS_FIXED, 0), STACK_FIXED);
    CHECK_EQ(size, options.fixedstack);
    CHECK_EQ(kind_of(note_kind_unchecked, TARN_STACKS_AUTO, 0), STACK_FIXED);
    CHECK_EQ(kind_of(note_kind_unchecked, TARN_STACKS_FIXED, 0), STACK_FIXED);

    CHECK_EQ(kind_of(note_kind, TARN_STACKS_AUTO, 1 << 20), STACK_COPYING);
    CHECK_GE(size, 1 << 20);
    CHECK_EQ(size & (size - 1), 0);
    CHECK_EQ(kind_of(note_kind, TARN_STACKS_FIXED, 100001), STACK_FIXED);
    CHECK_GE(size, 100001);
    CHECK_LT(size, 100001 + 4096);
    /* Those with a size of their own are not kept for others. */
    CHECK_EQ(kind_of(note_kind, TARN_STACKS_AUTO, 0), STACK_COPYING);
    CHECK_EQ(size, STACK_MIN);
    CHECK_EQ(kind_of(note_kind, TARN_STACKS_FIXED, 0), STACK_FIXED);
    CHECK_EQ(size, options.fixedstack);

    struct tarn_go_attr attr = {TARN_STACKS_COPYING, 0};
    CHECK_ST(tarn_go_with(&attr, note_kind_unchecked, NULL), TARN_EINVAL);
    CHECK_STR(tarn_last_error(), "has no split-stack prologue");
    attr.stack_size = (size_t)1 << 40;
    CHECK_ST(tarn_go_with(&attr, note_kind, NULL), TARN_ENOMEM);
    CHECK_STR(tarn_last_error(), "no memory for a stack of ");
    attr.stacks = TARN_STACKS_FIXED;
    attr.stack_size = (size_t)1 << 60;
    CHECK_ST(tarn_go_with(&attr, note_kind, NULL), TARN_EINVAL);
    attr.stack_size = SIZE_MAX;
    CHECK_ST(tarn_go_with(&attr, note_kind, NULL), TARN_EINVAL);
    CHECK_ST(tarn_go(NULL, NULL), TARN_EINVAL);
}

/* Memory of stacks that have grown is given back when they end. */
static void grow_and_end(void *arg)
{
    uint64_t zero = (uint64_t)(arg != NULL);
    sink = deeper((4 << 20) / 152, &zero);
    tarn_waitgroup_done(&wg);
}

static void ended_stacks(void)
{
    for (int round = 0; round < 4; round++) {
        tarn_waitgroup_add(&wg, 20);
        for (int i = 0; i < 20; i++)
            CHECK_ST(tarn_go(grow_and_end, NULL), TARN_OK);
        tarn_waitgroup_wait(&wg);
        tarn_yield();
    }
    /* 20 stacks of 8 MiB would be 160. */
    CHECK_LT(stack_stats.mapped, 64 << 20);
}

static void test_kinds(void)
{
    kinds();
}

static void test_ended_stacks(void)
{
    ended_stacks();
}

/* A function of its own, so that no frame that stays has the stack's end in it,
 * which would pass for the address of a local. */
NI static uintptr_t stack_size(void)
{
    return getg()->stack.hi - getg()->stack.lo;
}

/* What was taken for a deep recursion is given back, down to the smallest size:
 * nothing of the stack's earlier life may lie above the first frame that says it
 * was in use. */
static void test_shrinks(void)
{
    uint64_t zero = 0;
    sink = deeper(6000, &zero);
    CHECK_GE(stack_size(), 8 * STACK_MIN);
    for (int i = 0; i < 1000 && stack_size() != STACK_MIN; i++)
        CHECK_ST(tarn_gc(), TARN_OK);
    CHECK_EQ(stack_size(), STACK_MIN);
}

static void on_goroutine_tests(void)
{
    RUN(test_kinds);
    if (deep_ok) {
        RUN(test_shrinks);
        RUN(test_ended_stacks);
    }
}

int main(int argc, char **argv)
{
    harness_init(argc, argv);
#ifdef TARN_NO_SPLIT_STACK
    printf("no copying stacks in this build\n");
    return harness_done();
#endif
    /* To move a deep stack at each prologue takes time that grows with the
     * square of its depth. */
    const char *env = getenv("TARN");
    deep_ok = env == NULL || strstr(env, "stackmove=1") == NULL;
    if (deep_ok) {
        RUN(test_growth);
        RUN(test_overflow_copying);
    }
    RUN(test_overflow_fixed);
    RUN(test_guard_page);
    RUN(test_large_frames);
    suite_run(on_goroutine_tests, 1);
    suite_run(on_goroutine_tests, 3);
    return harness_done();
}
