/* tarn/chan.h - channels: typed by element size, first in first out.
 *
 * A channel is a managed object. Elements are copied; pointers in them are seen
 * by the collector. Operand pointers may point to the caller's own stack (the
 * runtime follows it when it moves). Operations block, preempt, and are for
 * goroutines only (TARN_ESTATE elsewhere).
 */
#ifndef TARN_CHAN_H_
#define TARN_CHAN_H_

#include "tarn/defs.h"

TARN_BEGIN_DECLS

/* A channel, known by its address only. */
typedef struct tarn_chan tarn_chan;

/* A channel of elements of elem_size bytes (0 allowed) that holds up to
 * capacity of them (0: a send waits for its receiver). NULL as tarn_alloc.
 * allocates. */
TARN_API tarn_chan *tarn_chan_new(size_t elem_size, size_t capacity);

/* Copies *elem in. TARN_ECLOSED if the channel is or becomes closed. elem may
 * be NULL when elem_size is 0; otherwise TARN_EINVAL. A NULL channel is
 * TARN_EINVAL. */
TARN_API tarn_status tarn_chan_send(tarn_chan *c, const void *elem);
/* Copies the oldest element to *elem (dropped if elem is NULL). When the
 * channel is closed and empty: zeroes *elem, returns TARN_ECLOSED. */
TARN_API tarn_status tarn_chan_recv(tarn_chan *c, void *elem);
/* As above; TARN_EAGAIN instead of blocking. */
TARN_API tarn_status tarn_chan_try_send(tarn_chan *c, const void *elem);
TARN_API tarn_status tarn_chan_try_recv(tarn_chan *c, void *elem);
/* Wakes all who wait. TARN_ECLOSED if it was closed already. */
TARN_API tarn_status tarn_chan_close(tarn_chan *c);
/* Elements in it now; elements that it can hold. 0 for NULL. They neither block nor
 * preempt. */
TARN_API size_t tarn_chan_len(const tarn_chan *c);
TARN_API size_t tarn_chan_cap(const tarn_chan *c);

/* What a case of tarn_select does: as tarn_chan_send, as tarn_chan_recv. */
enum tarn_select_op {
    TARN_SELECT_SEND, /* takes from elem */
    TARN_SELECT_RECV, /* writes to elem, if that is not NULL */
};

/* One of the operations that tarn_select chooses from. */
struct tarn_select_case {
    tarn_chan *chan;        /* NULL: this case never happens */
    enum tarn_select_op op; /* to do with it */
    void *elem;             /* as for send / recv */
    tarn_status status;     /* out, of the chosen case: TARN_OK/TARN_ECLOSED */
};

/* Waits until one of n cases (<= 65535) can go, does it and returns its index;
 * chooses at random among several that can. With has_default it never blocks
 * and returns -1 if none can. -2 (and tarn_last_error) on bad input. */
TARN_API int tarn_select(struct tarn_select_case *cases, size_t n,
                         bool has_default);

TARN_END_DECLS
#endif
