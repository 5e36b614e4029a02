#include "contract.h"

static tarn_waitgroup begun, done;

static void answer(void *to)
{
    tarn_waitgroup_done(&begun);
    for (int i = 0; i < 3; i++) {
        call();
        tarn_yield();
    }
    *(int *)to = 42;
    tarn_waitgroup_done(&done);
}

static void ask(int *to)
{
    tarn_waitgroup_add(&begun, 1);
    tarn_waitgroup_add(&done, 1);
    tarn_go(answer, to);
    tarn_waitgroup_wait(&begun);
    call();
    tarn_waitgroup_wait(&done);
}

static int bad(void)
{
    int local = 0;
    ask(&local); /* when this stack moves, the other one is not adjusted */
    return local;
}

static int good(void)
{
    int *shared = tarn_alloc_bytes(sizeof *shared);
    *shared = 0;
    ask(shared);
    return *shared;
}
