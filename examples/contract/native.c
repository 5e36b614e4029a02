#include <stdlib.h>

#include "contract.h"

/* A library that keeps what it is given. */
static int *kept;

static void *keep(void *p)
{
    kept = p;
    return NULL;
}

static void *use(void *unused)
{
    (void)unused;
    return (void *)(intptr_t)*kept;
}

static int bad(void)
{
    int local = 42;
    tarn_native_call(keep, &local);
    call();
    int seen = (int)(intptr_t)tarn_native_call(use, NULL);
    kept = NULL;
    return seen;
}

static int good(void)
{
    int *p = malloc(sizeof *p);
    *p = 42;
    tarn_native_call(keep, p);
    call();
    int seen = (int)(intptr_t)tarn_native_call(use, NULL);
    free(p);
    return seen;
}
