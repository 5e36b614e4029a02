#include "contract.h"

#define DEPTH 5000 /* some 600 KB */

/* As a library does it that was compiled in the ordinary way. */
__attribute__((noinline, no_split_stack)) static int unchecked(int depth)
{
    volatile int frame[20];
    frame[depth % 20] = depth;
    if (depth == 0)
        return 42;
    return unchecked(depth - 1) + frame[depth % 20] - depth;
}

static int bad(void)
{
    return unchecked(DEPTH);
}

static void *native(void *unused)
{
    (void)unused;
    return (void *)(intptr_t)unchecked(DEPTH);
}

static int good(void)
{
    return (int)(intptr_t)tarn_native_call(native, NULL); /* has 1 MiB */
}
