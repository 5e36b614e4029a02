#include "contract.h"

struct __attribute__((packed, aligned(8))) packed {
    char kind;
    int *value; /* not at a multiple of 8 */
};

struct aligned {
    char kind;
    int *value;
};

static void opaque(void *p)
{
    __asm__ volatile("" : : "r"(p) : "memory");
}

static int bad(void)
{
    int local = 42;
    struct packed s = {'p', &local};
    opaque(&s);
    call();
    opaque(&s);
    return *s.value;
}

static int good(void)
{
    int local = 42;
    struct aligned s = {'a', &local};
    opaque(&s);
    call();
    opaque(&s);
    return *s.value;
}
