/* Which functions tarn_go gives a copying stack, by their entry bytes: small and
 * large frames, frames of callers of unchecked code, as compiled with and
 * without endbr64 and as linked by lld and by the system's linker. */
#include "tests/stack/stackcase.h"

static tarn_waitgroup wg;
static enum stack_kind kind;

#define FUNCTION(name, attr, bytes, call)                                      \
    attr NI static void name(void *arg)                                        \
    {                                                                          \
        volatile char a[bytes];                                                \
        a[0] = arg == NULL;                                                    \
        call;                                                                  \
        kind = getg()->kind;                                                   \
        tarn_waitgroup_done(&wg);                                              \
        a[(bytes)-1] = a[0];                                                   \
    }
FUNCTION(small, , 8, (void)0)
FUNCTION(middle, , 240, (void)0)
FUNCTION(large, , 1000, (void)0)
FUNCTION(huge, , 100000, (void)0)
FUNCTION(small_libc, , 8, a[0] += (char)atoi("1"))
FUNCTION(large_libc, , 1000, a[0] += (char)atoi("1"))
FUNCTION(huge_libc, , 100000, a[0] += (char)atoi("1"))
FUNCTION(unchecked, __attribute__((no_split_stack)), 8, (void)0)
FUNCTION(unchecked_large, __attribute__((no_split_stack)), 5000, (void)0)

static void check(tarn_fn fn, enum stack_kind want, const char *name)
{
    CHECK_EQ(has_split_prologue((const void *)(uintptr_t)fn),
             want == STACK_COPYING);
    for (int k = 0; k < 3; k++) {
        tarn_waitgroup_add(&wg, 1);
        kind = STACK_NONE;
        CHECK_EQ(tarn_go(fn, NULL), TARN_OK);
        tarn_waitgroup_wait(&wg);
        if (kind != want)
            fprintf(stderr, "%s\n", name);
        CHECK_EQ(kind, want);
    }
}

static void run(void *unused)
{
    (void)unused;
    harness_passed = 1;
#define KIND(f, want) check(f, want, #f)
    KIND(small, STACK_COPYING);
    KIND(middle, STACK_COPYING);
    KIND(large, STACK_COPYING);
    KIND(huge, STACK_COPYING);
    KIND(small_libc, STACK_COPYING);
    KIND(large_libc, STACK_COPYING);
    KIND(huge_libc, STACK_COPYING);
    KIND(unchecked, STACK_FIXED);
    KIND(unchecked_large, STACK_FIXED);
}

int main(int argc, char **argv)
{
    struct tarn_options o;
    harness_init(argc, argv);
    (void)stack_case_main;
    tarn_options_init(&o);
    CHECK_EQ(tarn_main(&o, run, NULL), TARN_OK);
    return harness_done();
}
