#include "contract.h"

#define FIRST 1000000 /* number of the first element */

static int *opaque(int *p)
{
    __asm__ volatile("" : "+r"(p));
    return p;
}

static int bad(void)
{
    int local[4] = {40, 41, 42, 43};
    int *numbered = opaque((int *)((uintptr_t)local - FIRST * sizeof(int)));
    call();
    return numbered[FIRST + 2]; /* 4 MB below the stack, it was not adjusted */
}

static int good(void)
{
    int local[4] = {40, 41, 42, 43};
    int *first = opaque(local);
    call();
    return first[FIRST + 2 - FIRST];
}
