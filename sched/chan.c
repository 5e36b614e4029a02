/* sched/chan.c - channels. See chan.h for the object and the parking windows.
 *
 * A transfer goes from operand to operand when the other side waits, through
 * the ring otherwise. Whatever is written to a slot or to the stack of another
 * goroutine passes sched_hooks.bulk_barrier first: both may have been scanned
 * already, while the place the value came from may not be scanned any more.
 *
 * TARN_EAGAIN and TARN_ECLOSED are outcomes, not failures: they leave
 * tarn_last_error alone.
 */
#include "sched/chan.h"
#include "tarn/barrier.h"

typedef uint64_t __attribute__((may_alias)) word_t;

/* The collector may read a slot while we write it: no torn words. Only the
 * alignment of dst matters, nothing writes src meanwhile. */
ALWAYS_INLINE void copy_words(void *dst, const void *src, size_t n)
{
    if (((uintptr_t)dst & 7) != 0) {
        memcpy(dst, src, n);
        return;
    }
    char *d = dst;
    const char *s = src;
    for (; n >= 8; n -= 8, d += 8, s += 8) {
        uint64_t w;
        memcpy(&w, s, 8);
        __atomic_store_n((word_t *)(void *)d, w, __ATOMIC_RELAXED);
    }
    if (n > 0)
        memcpy(d, s, n);
}

static void clear_words(void *dst, size_t n)
{
    if (((uintptr_t)dst & 7) != 0) {
        memset(dst, 0, n);
        return;
    }
    char *d = dst;
    for (; n >= 8; n -= 8, d += 8)
        __atomic_store_n((word_t *)(void *)d, 0, __ATOMIC_RELAXED);
    if (n > 0)
        memset(d, 0, n);
}

/* The barrier before c's element at dst changes. Elements of less than a word
 * hold no pointer. */
ALWAYS_INLINE void elem_barrier(const struct hchan *c, void *dst,
                                const void *src)
{
    if (c->elemsize < sizeof(void *))
        return;
    heap_dirty(dst, c->elemsize);
    if (unlikely(__atomic_load_n(&tarn_barrier_on, __ATOMIC_RELAXED) != 0))
        sched_hooks.bulk_barrier(dst, src, c->elemsize);
}

static bool on_own_stack(const void *p)
{
    struct g *gp = getg();
    return (uintptr_t)p - gp->stack.lo < gp->stack.hi - gp->stack.lo;
}

/* To the operand of the running goroutine. Its own stack needs no barrier as
 * the value was shaded on its way out of the slot; managed memory does. */
static void to_operand(const struct hchan *c, void *elem, const void *src)
{
    if (elem == NULL || c->elemsize == 0)
        return;
    if (!on_own_stack(elem))
        elem_barrier(c, elem, src);
    copy_words(elem, src, c->elemsize);
}

static void clear_operand(const struct hchan *c, void *elem)
{
    if (elem == NULL || c->elemsize == 0)
        return;
    if (!on_own_stack(elem))
        elem_barrier(c, elem, NULL);
    clear_words(elem, c->elemsize);
}

static void *slot_at(struct hchan *c, size_t i)
{
    return (char *)c + HCHAN_HEADER + i * c->stride;
}

static size_t next_slot(const struct hchan *c, size_t i)
{
    return i + 1 == c->dataqsiz ? 0 : i + 1;
}

static size_t load_qcount(const struct hchan *c)
{
    return atomic_load_explicit(&c->qcount, memory_order_relaxed);
}

static void store_qcount(struct hchan *c, size_t n)
{
    atomic_store_explicit(&c->qcount, n, memory_order_release);
}

static bool is_closed(const struct hchan *c)
{
    return atomic_load_explicit(&c->closed, memory_order_acquire) != 0;
}

/* --- wait queues --------------------------------------------------------- */

static struct sudog *waitq_first(struct waitq *q)
{
    return atomic_load_explicit(&q->first, memory_order_relaxed);
}

static void waitq_set_first(struct waitq *q, struct sudog *s)
{
    atomic_store_explicit(&q->first, s, memory_order_release);
}

void waitq_enqueue(struct waitq *q, struct sudog *s)
{
    s->next = NULL;
    s->prev = q->last;
    if (q->last != NULL)
        q->last->next = s;
    else
        waitq_set_first(q, s);
    q->last = s;
}

void waitq_remove(struct waitq *q, struct sudog *s)
{
    if (s->prev == NULL && waitq_first(q) != s)
        return; /* a waker took it out, and lost the race for the select */
    if (s->prev != NULL)
        s->prev->next = s->next;
    else
        waitq_set_first(q, s->next);
    if (s->next != NULL)
        s->next->prev = s->prev;
    else
        q->last = s->prev;
    s->next = NULL;
    s->prev = NULL;
}

/* The oldest waiter that is still to be had. A goroutine in a select waits in
 * several queues, and the first waker that sets selectDone gets it. */
static struct sudog *waitq_dequeue(struct waitq *q)
{
    struct sudog *s;
    while ((s = waitq_first(q)) != NULL) {
        waitq_remove(q, s);
        if (!s->is_select)
            return s;
        uint32_t undone = 0;
        delay_point("chan: before selectDone");
        if (atomic_compare_exchange_strong(&s->g->selectDone, &undone, 1))
            return s;
    }
    return NULL;
}

/* s has been served: the goroutine to wake. Channel lock held, after which
 * nothing of s may be used. Its elem stays: a scan of its goroutine may be
 * reading that now. */
static struct g *fire(struct sudog *s, bool success)
{
    struct g *gp = s->g;
    s->success = success;
    gp->param = s;
    return gp;
}

/* --- operations under the lock ------------------------------------------- */

tarn_status chan_send_locked(struct hchan *c, const void *elem, struct g **wake)
{
    *wake = NULL;
    if (is_closed(c))
        return TARN_ECLOSED;
    struct sudog *s = waitq_dequeue(&c->recvq);
    if (s != NULL) {
        if (s->elem != NULL && c->elemsize != 0) {
            elem_barrier(c, s->elem, elem);
            copy_words(s->elem, elem, c->elemsize);
        }
        *wake = fire(s, true);
        return TARN_OK;
    }
    size_t n = load_qcount(c);
    if (n == c->dataqsiz)
        return TARN_EAGAIN;
    if (c->elemsize != 0) {
        void *slot = slot_at(c, c->sendx);
        elem_barrier(c, slot, elem);
        copy_words(slot, elem, c->elemsize);
    }
    c->sendx = next_slot(c, c->sendx);
    store_qcount(c, n + 1);
    return TARN_OK;
}

tarn_status chan_recv_locked(struct hchan *c, void *elem, struct g **wake)
{
    *wake = NULL;
    size_t n = load_qcount(c);
    if (n == 0 && is_closed(c)) {
        clear_operand(c, elem);
        return TARN_ECLOSED;
    }
    struct sudog *s = waitq_dequeue(&c->sendq);
    if (s == NULL && n == 0)
        return TARN_EAGAIN;
    if (s != NULL && c->dataqsiz == 0) {
        if (elem != NULL && c->elemsize != 0) {
            /* The value leaves the sender's stack, scanned or not. */
            elem_barrier(c, elem, s->elem);
            copy_words(elem, s->elem, c->elemsize);
        }
        *wake = fire(s, true);
        return TARN_OK;
    }
    void *slot = slot_at(c, c->recvx);
    if (s != NULL) {
        /* The ring is full: the sender's value goes where ours comes from,
         * which is the ring's end as well as its beginning. */
        if (c->elemsize != 0) {
            elem_barrier(c, slot, s->elem);
            to_operand(c, elem, slot);
            copy_words(slot, s->elem, c->elemsize);
        }
        c->recvx = next_slot(c, c->recvx);
        c->sendx = c->recvx;
        *wake = fire(s, true);
        return TARN_OK;
    }
    if (c->elemsize != 0) {
        elem_barrier(c, slot, NULL);
        to_operand(c, elem, slot);
        clear_words(slot, c->elemsize);
    }
    c->recvx = next_slot(c, c->recvx);
    store_qcount(c, n - 1);
    return TARN_OK;
}

/* --- blocking operations ------------------------------------------------- */

static bool chanparkcommit(struct g *gp, void *lockp)
{
    (void)gp;
    delay_point("chan: parked, locks held");
    unlock_brief(lockp);
    return true;
}

/* Parks the caller in q with its operand; c->lock is held and is released.
 * False if it was woken by close. */
static NOINLINE bool chan_park(struct hchan *c, struct waitq *q, void *elem,
                               enum wait_reason reason)
{
    struct g *gp = getg();
    struct sudog *s = acquireSudog();
    s->g = gp;
    s->c = c;
    s->elem = elem;
    s->is_select = false;
    s->success = false;
    s->waitlink = NULL;
    gp->waiting = s;
    gp->param = NULL;
    waitq_enqueue(q, s);
    gopark(chanparkcommit, &c->lock, reason);

    ASSERT(gp->waiting == s && gp->param == s);
    gp->waiting = NULL;
    gp->param = NULL;
    bool success = s->success;
    s->g = NULL;
    s->c = NULL;
    releaseSudog(s);
    KEEP_ALIVE(c);
    KEEP_ALIVE(elem);
    return success;
}

tarn_status chansend(struct hchan *c, const void *elem, bool block)
{
    if (!block && !is_closed(c)) {
        /* A closed channel never takes an element, so a channel that was open
         * at the first look and full at the second was both in between. */
        bool full = c->dataqsiz == 0 ? waitq_first(&c->recvq) == NULL
                                     : load_qcount(c) == c->dataqsiz;
        if (full)
            return TARN_EAGAIN;
    }
    struct g *wake;
    lock(&c->lock);
    tarn_status st = chan_send_locked(c, elem, &wake);
    if (st == TARN_EAGAIN && block)
        return chan_park(c, &c->sendq, (void *)(uintptr_t)elem, WAIT_CHAN_SEND)
                   ? TARN_OK
                   : TARN_ECLOSED;
    unlock_brief(&c->lock);
    if (wake != NULL)
        goready(wake);
    return st;
}

tarn_status chanrecv(struct hchan *c, void *elem, bool block)
{
    if (!block) {
        /* What is empty and then found open was both in between: a channel
         * does not open again. */
        bool empty =
            c->dataqsiz == 0
                ? atomic_load_explicit(&c->sendq.first, memory_order_acquire) ==
                      NULL
                : atomic_load_explicit(&c->qcount, memory_order_acquire) == 0;
        if (empty && !is_closed(c))
            return TARN_EAGAIN;
    }
    struct g *wake;
    lock(&c->lock);
    tarn_status st = chan_recv_locked(c, elem, &wake);
    if (st == TARN_EAGAIN && block)
        return chan_park(c, &c->recvq, elem, WAIT_CHAN_RECV) ? TARN_OK
                                                             : TARN_ECLOSED;
    unlock_brief(&c->lock);
    if (wake != NULL)
        goready(wake);
    return st;
}

static tarn_status closechan(struct hchan *c)
{
    struct gqueue woken = {0};
    struct sudog *s;

    lock(&c->lock);
    if (is_closed(c)) {
        unlock_brief(&c->lock);
        return TARN_ECLOSED;
    }
    atomic_store_explicit(&c->closed, 1, memory_order_release);
    while ((s = waitq_dequeue(&c->recvq)) != NULL) {
        if (s->elem != NULL && c->elemsize != 0) {
            elem_barrier(c, s->elem, NULL);
            clear_words(s->elem, c->elemsize);
        }
        gqueue_push(&woken, fire(s, false));
    }
    while ((s = waitq_dequeue(&c->sendq)) != NULL)
        gqueue_push(&woken, fire(s, false));
    unlock_brief(&c->lock);

    struct g *gp;
    while ((gp = gqueue_pop(&woken)) != NULL)
        goready(gp);
    return TARN_OK;
}

/* --- the public functions ------------------------------------------------ */

tarn_chan *tarn_chan_new(size_t elem_size, size_t capacity)
{
    if (!require_goroutine("tarn_chan_new"))
        return NULL;
    preempt_check();
    if (elem_size > (size_t)PTRDIFF_MAX)
        goto overflow;
    size_t stride = elem_size < sizeof(void *)
                        ? elem_size
                        : ALIGN_UP(elem_size, sizeof(void *));
    size_t ring;
    if (__builtin_mul_overflow(stride, capacity, &ring) ||
        ring > (size_t)PTRDIFF_MAX - HCHAN_HEADER)
        goto overflow;

    bool pointers = elem_size >= sizeof(void *) && capacity > 0;
    struct hchan *c = sched_hooks.alloc(
        HCHAN_HEADER + ring, pointers ? LAYOUT_CONSERVATIVE : LAYOUT_NOSCAN);
    if (c == NULL)
        return NULL;
    mutex_init(&c->lock, RANK_CHAN);
    c->sig = HCHAN_SIG;
    c->dataqsiz = capacity;
    c->elemsize = elem_size;
    c->stride = stride;
    return (tarn_chan *)c;

overflow:
    set_error("tarn_chan_new: %zu elements of %zu bytes are too large",
              capacity, elem_size);
    return NULL;
}

/* What send and receive have in common before they begin. */
ALWAYS_INLINE tarn_status check_op(const tarn_chan *c, const void *elem,
                                   bool send, const char *what)
{
    if (unlikely(!require_goroutine(what)))
        return TARN_ESTATE;
    if (unlikely(c == NULL)) {
        set_error("%s: the channel is NULL", what);
        return TARN_EINVAL;
    }
    if (send && unlikely(elem == NULL) && hchan_of(c)->elemsize != 0) {
        set_error("%s: the element is NULL", what);
        return TARN_EINVAL;
    }
    preempt_check();
    return TARN_OK;
}

tarn_status tarn_chan_send(tarn_chan *c, const void *elem)
{
    tarn_status st = check_op(c, elem, true, "tarn_chan_send");
    return unlikely(st != TARN_OK) ? st : chansend(hchan_of(c), elem, true);
}

tarn_status tarn_chan_try_send(tarn_chan *c, const void *elem)
{
    tarn_status st = check_op(c, elem, true, "tarn_chan_try_send");
    return unlikely(st != TARN_OK) ? st : chansend(hchan_of(c), elem, false);
}

tarn_status tarn_chan_recv(tarn_chan *c, void *elem)
{
    tarn_status st = check_op(c, elem, false, "tarn_chan_recv");
    return unlikely(st != TARN_OK) ? st : chanrecv(hchan_of(c), elem, true);
}

tarn_status tarn_chan_try_recv(tarn_chan *c, void *elem)
{
    tarn_status st = check_op(c, elem, false, "tarn_chan_try_recv");
    return unlikely(st != TARN_OK) ? st : chanrecv(hchan_of(c), elem, false);
}

tarn_status tarn_chan_close(tarn_chan *c)
{
    tarn_status st = check_op(c, NULL, false, "tarn_chan_close");
    return st != TARN_OK ? st : closechan(hchan_of(c));
}

size_t tarn_chan_len(const tarn_chan *c)
{
    return c == NULL ? 0 : load_qcount(hchan_of(c));
}

size_t tarn_chan_cap(const tarn_chan *c)
{
    return c == NULL ? 0 : hchan_of(c)->dataqsiz;
}
