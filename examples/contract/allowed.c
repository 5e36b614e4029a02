#include <alloca.h>

#define ONLY_GOOD
#include "contract.h"

static int pass_down(int **pp)
{
    call();
    return **pp;
}

static int in_blocks(int n)
{
    int *a = alloca((size_t)n * sizeof *a);
    int v[n];
    int *last = &v[n - 1];
    for (int i = 0; i < n; i++)
        a[i] = v[i] = i;
    call();
    return a[n - 1] + *last;
}

static void sender(void *c)
{
    int n = 11;
    call();
    tarn_chan_send(c, &n);
}

static int good(void)
{
    /* Kept in other locals, passed down, with structs and arrays between. */
    int two = 2, *p = &two, **pp = &p;
    struct {
        int **pp;
        char *end;
    } s = {pp, (char *)(&two + 1)};
    int sum = pass_down(s.pp);
    sum += ((int *)(void *)s.end)[-1];

    /* Large blocks and small ones. */
    sum += in_blocks(8) + in_blocks(100001) - 200000;

    /* Operands of channels and cases, also while the goroutine waits. */
    tarn_chan *c = tarn_chan_new(sizeof(int), 0);
    int got = 0, other = 0;
    tarn_go(sender, c);
    tarn_chan_recv(c, &got);
    sum += got;
    tarn_go(sender, c);
    struct tarn_select_case cases[] = {{NULL, TARN_SELECT_RECV, &other, 0},
                                       {c, TARN_SELECT_RECV, &got, 0}};
    if (tarn_select(cases, 2, false) == 1)
        sum += got;

    /* The stack stands still in a native call. */
    tarn_native_enter();
    p = &two;
    tarn_native_leave();
    call();
    return sum + *p;
}
