#include "contract.h"

static int bad(void)
{
    int local = 42, *p = &local;
    tarn_chan *c = tarn_chan_new(sizeof p, 1);
    tarn_chan_send(c, &p); /* p is copied, the channel is in the heap */
    call();
    tarn_chan_recv(c, &p);
    return *p;
}

static int good(void)
{
    int local = 42;
    tarn_chan *c = tarn_chan_new(sizeof local, 1);
    tarn_chan_send(c, &local); /* its value */
    local = 0;
    call();
    tarn_chan_recv(c, &local);
    return local;
}
