#include <unistd.h>

#include "contract.h"

static __thread int mine;

__attribute__((noinline)) static int *address(void)
{
    int *p = &mine;
    __asm__ volatile("" : "+r"(p));
    return p;
}

static void *block(void *unused)
{
    (void)unused;
    usleep(2000);
    return NULL;
}

static void busy(void *unused)
{
    (void)unused;
    for (;;)
        tarn_yield();
}

/* 42 if this goroutine has the same variable after each call as before. */
static int same(void)
{
    for (int i = 0; i < 4; i++)
        tarn_go(busy, NULL);
    int *before = address();
    for (int i = 0; i < 100; i++) {
        tarn_native_call(block, NULL);
        if (address() != before)
            return 1;
    }
    return 42;
}

static int bad(void)
{
    return same();
}

static int good(void)
{
    tarn_lock_thread();
    int code = same();
    tarn_unlock_thread();
    return code;
}
