#include "contract.h"

struct box {
    int *value;
};

static int bad(void)
{
    int local = 42;
    struct box *box = tarn_alloc_conservative(sizeof *box);
    tarn_store(&box->value, &local); /* the heap is not adjusted */
    call();
    return *box->value;
}

static int good(void)
{
    struct box *box = tarn_alloc_conservative(sizeof *box);
    int *value = tarn_alloc_bytes(sizeof *value);
    *value = 42;
    tarn_store(&box->value, value);
    call();
    return *box->value;
}
