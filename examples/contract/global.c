#include "contract.h"

static int *volatile current; /* no more than the heap is */

static int bad(void)
{
    int local = 42;
    current = &local;
    call();
    int seen = *current;
    current = NULL;
    return seen;
}

static int use(const int *value)
{
    call();
    return *value;
}

static int good(void)
{
    int local = 42;
    return use(&local);
}
