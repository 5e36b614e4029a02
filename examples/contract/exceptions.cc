#include "contract.h"

static tarn_waitgroup caught;

/* The C++ library keeps a list of the exceptions that are being handled for
 * each thread, not for each goroutine. */
static int handle(int n)
{
    try {
        throw n;
    } catch (int) {
        tarn_yield();
        try {
            throw; /* the last one that this thread has caught */
        } catch (int again) {
            return again;
        }
    }
}

static void other(void *)
{
    handle(7);
    tarn_waitgroup_done(&caught);
}

static int bad(void)
{
    tarn_waitgroup_add(&caught, 1);
    tarn_go(other, NULL);
    int n = handle(42);
    tarn_waitgroup_wait(&caught);
    return n;
}

static int safe(int n)
{
    int code = 0;
    try {
        throw n;
    } catch (int thrown) {
        code = thrown; /* the handler calls nothing that may switch */
    }
    tarn_yield();
    return code;
}

static void safe_other(void *)
{
    safe(7);
    tarn_waitgroup_done(&caught);
}

static int good(void)
{
    tarn_waitgroup_add(&caught, 1);
    tarn_go(safe_other, NULL);
    int n = safe(42);
    tarn_waitgroup_wait(&caught);
    return n;
}
