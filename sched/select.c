/* sched/select.c - waiting for the first of several channel operations.
 *
 * Three passes. First, with all channels locked, look for a case that can go,
 * in random order. If there is none, queue a sudog for every case and park.
 * When woken, lock all again and take the sudogs that did not fire out.
 *
 * Channels are locked in the order of their addresses, each once. The sudogs
 * are queued in that order and linked through waitlink in it, so that after the
 * first pass the list replaces every other record: scratch memory is gone
 * before the goroutine parks, and nothing that the caller could have changed in
 * its array meanwhile decides which lock is taken.
 */
#include "sched/chan.h"

#include "base/sysmem.h"

#define MAX_CASES 65535u
#define SMALL_SELECT 8u

struct selection {
    struct tarn_select_case *cases;
    uint16_t *poll;  /* indices of the cases with a channel, shuffled */
    uint16_t *order; /* the same, by address of the channel */
    uint32_t n;
};

static struct hchan *chan_of(const struct selection *sel, uint32_t k)
{
    return (struct hchan *)sel->cases[sel->order[k]].chan;
}

/* The checker of lock ranks has room for a few locks, and a select may take
 * thousands. It is told of the first, whose address is below all others'. */
static void lock_chan(struct hchan *c, bool first)
{
    lock(&c->lock);
    if (!first)
        lock_rank_released(&c->lock);
}
static void unlock_chan(struct hchan *c, bool first)
{
    if (!first)
        lock_rank_acquired(&c->lock);
    unlock_brief(&c->lock);
}

static void sellock(const struct selection *sel)
{
    struct hchan *last = NULL;
    for (uint32_t k = 0; k < sel->n; k++) {
        struct hchan *c = chan_of(sel, k);
        if (c != last)
            lock_chan(c, last == NULL);
        last = c;
    }
}

static void selunlock(const struct selection *sel)
{
    struct hchan *first = chan_of(sel, 0), *last = NULL;
    for (uint32_t k = sel->n; k-- > 0;) {
        struct hchan *c = chan_of(sel, k);
        if (c != last)
            unlock_chan(c, c == first);
        last = c;
    }
}

/* The same through the sudogs of a goroutine in select. */
static void list_lock(struct sudog *s)
{
    struct hchan *last = NULL;
    for (; s != NULL; s = s->waitlink) {
        if (s->c != last)
            lock_chan(s->c, last == NULL);
        last = s->c;
    }
}

/* Once a channel is unlocked its sudogs may be used by others, and once the
 * last one is, the goroutine may run and free them all: look at each sudog
 * before its channel is unlocked. */
static void list_unlock(struct sudog *s)
{
    ASSERT(s != NULL);
    struct hchan *first = s->c, *last = first;
    for (; s != NULL; s = s->waitlink) {
        if (s->c != last)
            unlock_chan(last, last == first);
        last = s->c;
    }
    unlock_chan(last, last == first);
}

static bool selparkcommit(struct g *gp, void *unused)
{
    (void)unused;
    delay_point("select: parked, locks held");
    list_unlock(gp->waiting);
    return true;
}

/* Fills sel->poll with the cases that have a channel, in random order. */
static void shuffle_cases(struct selection *sel, size_t n)
{
    uint64_t *rand = &getg()->m->p->rand;
    uint32_t m = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (sel->cases[i].chan == NULL)
            continue;
        uint32_t j = rand_below(rand, m + 1);
        sel->poll[m] = sel->poll[j];
        sel->poll[j] = (uint16_t)i;
        m++;
    }
    sel->n = m;
}

/* sel->order: heap sort, which needs neither memory nor recursion. */
static void sift_case(const struct selection *sel, uint32_t at, uint32_t n,
                      uint16_t v)
{
    uint16_t *h = sel->order;
    uintptr_t key = (uintptr_t)sel->cases[v].chan;
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= n)
            break;
        if (child + 1 < n && (uintptr_t)sel->cases[h[child]].chan <
                                 (uintptr_t)sel->cases[h[child + 1]].chan)
            child++;
        if (key >= (uintptr_t)sel->cases[h[child]].chan)
            break;
        h[at] = h[child];
        at = child;
    }
    h[at] = v;
}

static void sort_cases(const struct selection *sel)
{
    uint16_t *h = sel->order;
    for (uint32_t k = 0; k < sel->n; k++)
        h[k] = sel->poll[k];
    for (uint32_t k = sel->n / 2; k-- > 0;)
        sift_case(sel, k, sel->n, h[k]);
    for (uint32_t k = sel->n; k-- > 1;) {
        uint16_t v = h[k];
        h[k] = h[0];
        sift_case(sel, 0, k, v);
    }
    for (uint32_t k = 1; k < sel->n; k++)
        XASSERT((uintptr_t)chan_of(sel, k - 1) <= (uintptr_t)chan_of(sel, k));
}

/* All channels locked. The index of a case that went, or -1. */
static int poll_cases(const struct selection *sel, struct g **wake)
{
    for (uint32_t k = 0; k < sel->n; k++) {
        uint16_t i = sel->poll[k];
        struct tarn_select_case *cas = &sel->cases[i];
        struct hchan *c = (struct hchan *)cas->chan;
        tarn_status st = cas->op == TARN_SELECT_SEND
                             ? chan_send_locked(c, cas->elem, wake)
                             : chan_recv_locked(c, cas->elem, wake);
        if (st != TARN_EAGAIN) {
            cas->status = st;
            return i;
        }
    }
    return -1;
}

static void enqueue_cases(const struct selection *sel)
{
    struct g *gp = getg();
    struct sudog **link = &gp->waiting;
    ASSERT(gp->waiting == NULL);
    for (uint32_t k = 0; k < sel->n; k++) {
        uint16_t i = sel->order[k];
        struct tarn_select_case *cas = &sel->cases[i];
        struct hchan *c = (struct hchan *)cas->chan;
        struct sudog *s = acquireSudog();
        s->g = gp;
        s->c = c;
        s->elem = cas->elem;
        s->is_select = true;
        s->success = false;
        s->case_index = i;
        s->waitlink = NULL;
        *link = s;
        link = &s->waitlink;
        waitq_enqueue(cas->op == TARN_SELECT_SEND ? &c->sendq : &c->recvq, s);
    }
    gp->param = NULL;
}

/* Woken: takes back what enqueue_cases queued. Returns the case that fired. */
static int dequeue_cases(struct tarn_select_case *cases)
{
    struct g *gp = getg();
    struct sudog *list = gp->waiting, *next;

    list_lock(list);
    atomic_store(&gp->selectDone, 0);
    struct sudog *fired = gp->param;
    ASSERT(fired != NULL && fired->g == gp);
    for (struct sudog *s = list; s != NULL; s = s->waitlink) {
        s->elem = NULL;
        if (s != fired)
            waitq_remove(cases[s->case_index].op == TARN_SELECT_SEND
                             ? &s->c->sendq
                             : &s->c->recvq,
                         s);
    }
    gp->waiting = NULL;
    gp->param = NULL;
    list_unlock(list);

    int index = fired->case_index;
    cases[index].status = fired->success ? TARN_OK : TARN_ECLOSED;
    for (struct sudog *s = list; s != NULL; s = next) {
        next = s->waitlink;
        s->g = NULL;
        s->c = NULL;
        s->waitlink = NULL;
        s->is_select = false;
        releaseSudog(s);
    }
    return index;
}

/* mimalloc wants more stack than a goroutine may have left. */
struct scratch {
    void *p;
    size_t size;
};
static void scratch_alloc(void *arg)
{
    struct scratch *s = arg;
    s->p = sys_alloc(s->size);
}
static void scratch_free(void *p)
{
    sys_free(p);
}

static bool never_wakes(struct g *gp, void *unused)
{
    (void)gp;
    (void)unused;
    return true;
}

/* A case of a select on nothing else is a plain operation. */
static int select_one(struct tarn_select_case *cas, bool block)
{
    struct hchan *c = (struct hchan *)cas->chan;
    tarn_status st = cas->op == TARN_SELECT_SEND
                         ? chansend(c, cas->elem, block)
                         : chanrecv(c, cas->elem, block);
    if (st == TARN_EAGAIN)
        return -1;
    cas->status = st;
    return 0;
}

/* sel->poll and sel->order have room; scratch, if any, is that memory. */
static NOINLINE int selectgo(struct selection *sel, size_t n, void *scratch,
                             bool has_default)
{
    struct tarn_select_case *cases = sel->cases;
    struct g *wake;
    shuffle_cases(sel, n);
    sort_cases(sel);

    sellock(sel);
    int index = poll_cases(sel, &wake);
    bool park = index < 0 && !has_default;
    if (park)
        enqueue_cases(sel);
    else
        selunlock(sel);
    if (scratch != NULL)
        systemstack(scratch_free, scratch);
    if (!park) {
        if (index >= 0 && wake != NULL)
            goready(wake);
        return index;
    }
    gopark(selparkcommit, NULL, WAIT_SELECT);
    return dequeue_cases(cases);
}

/* Counts the cases that can happen at all; -1 and error text on bad input. */
static long check_cases(const struct tarn_select_case *cases, size_t n)
{
    long live = 0;
    if (n > MAX_CASES || (n > 0 && cases == NULL)) {
        set_error("tarn_select: %zu cases at %p", n, (const void *)cases);
        return -1;
    }
    for (size_t i = 0; i < n; i++) {
        const struct tarn_select_case *cas = &cases[i];
        if (cas->op != TARN_SELECT_SEND && cas->op != TARN_SELECT_RECV) {
            set_error("tarn_select: case %zu has the unknown op %d", i,
                      (int)cas->op);
            return -1;
        }
        if (cas->chan == NULL)
            continue;
        if (cas->op == TARN_SELECT_SEND && cas->elem == NULL &&
            hchan_of(cas->chan)->elemsize != 0) {
            set_error("tarn_select: the element of case %zu is NULL", i);
            return -1;
        }
        (void)hchan_of(cas->chan);
        live++;
    }
    return live;
}

int tarn_select(struct tarn_select_case *cases, size_t n, bool has_default)
{
    if (!require_goroutine("tarn_select"))
        return -2;
    preempt_check();
    long live = check_cases(cases, n);
    if (live < 0)
        return -2;
    if (live == 0 && has_default)
        return -1;
    if (live == 0)
        for (;;)
            gopark(never_wakes, NULL, WAIT_SELECT_NO_CASES);
    if (n == 1)
        return select_one(cases, !has_default);

    /* Cleared: an index over the low bits of an old pointer would make a new
     * one, to something else. */
    uint16_t small[2 * SMALL_SELECT] = {0};
    struct scratch scratch = {NULL, 0};
    struct selection sel = {cases, small, small + SMALL_SELECT, 0};
    if (live > (long)SMALL_SELECT) {
        scratch.size = 2 * (size_t)live * sizeof(uint16_t);
        systemstack(scratch_alloc, &scratch);
        if (scratch.p == NULL) {
            set_error("tarn_select: no memory for %ld cases", live);
            return -2;
        }
        sel.poll = scratch.p;
        sel.order = sel.poll + live;
    }
    return selectgo(&sel, n, scratch.p, has_default);
}
