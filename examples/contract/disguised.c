#include "contract.h"

/* The compiler does not see through it. */
static uintptr_t opaque(uintptr_t x)
{
    __asm__ volatile("" : "+r"(x));
    return x;
}

static int bad(void)
{
    int local = 42;
    uintptr_t word = opaque((uintptr_t)&local | (uintptr_t)1 << 63);
    call();
    return *(int *)(word & ~((uintptr_t)1 << 63));
}

static int good(void)
{
    /* A tag in the low bits leaves an address in the stack. */
    int local = 42;
    uintptr_t word = opaque((uintptr_t)&local | 1);
    call();
    return *(int *)(word & ~(uintptr_t)1);
}
