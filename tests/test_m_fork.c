/* tests/test_m_fork.c - the same on copying stacks, and what becomes of one that
 * is too small in the child. */
#define main fork_main
#include "test_fork.c"
#undef main

__attribute__((noinline)) static int deep(int n)
{
    volatile char frame[1024];
    for (int i = 0; i < 1024; i++)
        frame[i] = (char)n;
    return n == 0 ? frame[5] : deep(n - 1) + frame[n % 1024];
}

static void child_deep(void)
{
    deep(10000);
}

static void overflow_body(void)
{
    if (!TARN_ASAN && !TARN_TSAN)
        expect_exit(child_deep, 2, "stack overflow in a child of fork");
}

int main(int argc, char **argv)
{
    harness_init(argc, argv);
    gc_run(overflow_body, 2, "");
    return fork_main(argc, argv);
}
