/* sched/chan.h - the inside of a channel, shared by chan.c and select.c.
 *
 *   +--------+------------------------------------------------+
 *   | hchan  | slot 0 | slot 1 | ...          | slot dataqsiz-1|
 *   +--------+------------------------------------------------+
 *   one managed object; slots start 16-aligned and are `stride` apart, so that
 *   an aligned pointer inside an element is an aligned word of the object.
 *
 * Invariants, with c->lock held
 *  1. At least one of sendq and recvq is empty, but for goroutines that select
 *     on both ends of one channel.
 *  2. If qcount > 0, recvq is empty; if qcount < dataqsiz, sendq is empty
 *     (again but for the sudogs of selects that have fired elsewhere).
 *  3. Slots not among the qcount ones from recvx on are all zero.
 *  4. A closed channel has empty queues and never opens again.
 *
 * Operands. A sudog's elem may point into its goroutine's stack, which is moved
 * by whoever holds that goroutine's scan bit. So elem is read and written, and
 * what it points to, only under the lock of the channel; and who moves the stack
 * of a waiting goroutine first gets all those locks, or leaves it. They are held
 * from before the sudog is queued until the goroutine has parked (its commit
 * function lets them go), so a goroutine that is still parking is left, too.
 */
#ifndef TARN_SCHED_CHAN_H_
#define TARN_SCHED_CHAN_H_

#include "sched/sched.h"
#include "tarn/chan.h"

struct waitq {
    struct sudog *_Atomic first; /* read without the lock by the fast paths */
    struct sudog *last;
};

struct hchan {
    struct mutex lock; /* RANK_CHAN */
    uint32_t sig;      /* HCHAN_SIG: tells a channel from a mistake */
    _Atomic uint32_t closed;
    _Atomic size_t qcount; /* elements in the ring */
    size_t dataqsiz;       /* its capacity */
    size_t elemsize;
    size_t stride;
    size_t sendx, recvx;
    struct waitq sendq, recvq;
};
#define HCHAN_SIG 0x4348414eu
#define HCHAN_HEADER ALIGN_UP(sizeof(struct hchan), (size_t)16)

/* What tarn/chan.h calls tarn_chan. Throws if it is not a channel. */
ALWAYS_INLINE struct hchan *hchan_of(const tarn_chan *c)
{
    struct hchan *h = (struct hchan *)(uintptr_t)c;
    ASSERT(h->sig == HCHAN_SIG);
    return h;
}

/* Keeps a managed object reachable from this frame up to here: what only a
 * sudog or a wait queue refers to is not seen by the collector. */
#define KEEP_ALIVE(p) __asm__ volatile("" : : "r"(p) : "memory")

/* The operation if it can go now, else TARN_EAGAIN. c->lock held. *wake: a
 * goroutine to ready once all channel locks are released, or NULL. */
tarn_status chan_send_locked(struct hchan *c, const void *elem,
                             struct g **wake);
tarn_status chan_recv_locked(struct hchan *c, void *elem, struct g **wake);

tarn_status chansend(struct hchan *c, const void *elem, bool block);
tarn_status chanrecv(struct hchan *c, void *elem, bool block);

/* c->lock held. remove: harmless if s has been taken out already. */
void waitq_enqueue(struct waitq *q, struct sudog *s);
void waitq_remove(struct waitq *q, struct sudog *s);

#endif
