/* sched/runq.c - queues of goroutines: each P's ring, lists, the global queue.
 *
 * The ring has one producer, the M that holds the P; anybody takes from its
 * head by CAS. head and tail run freely and wrap. Order of memory: the producer
 * publishes a slot by a release store of tail; a taker reads tail with acquire,
 * copies slots, then claims them by a CAS of head, and forgets them if it fails.
 */
#include "sched/sched.h"

void gqueue_push(struct gqueue *q, struct g *gp)
{
    gp->schedlink = NULL;
    if (q->tail)
        q->tail->schedlink = gp;
    else
        q->head = gp;
    q->tail = gp;
    q->n++;
}

struct g *gqueue_pop(struct gqueue *q)
{
    struct g *gp = q->head;
    if (gp) {
        q->head = gp->schedlink;
        if (q->head == NULL)
            q->tail = NULL;
        q->n--;
        gp->schedlink = NULL;
    }
    return gp;
}

/* A hint. Whoever goes to sleep looks at the queue itself, under the lock, after
 * it has lowered nmspinning: either it sees what was put there before, or who
 * puts something there later sees nmspinning lowered. */
static void globrunq_sync(void)
{
    atomic_store_explicit(&sched.runqsize, sched.runq.n, memory_order_relaxed);
}

void globrunqput(struct g *gp)
{
    gqueue_push(&sched.runq, gp);
    globrunq_sync();
}

static void globrunqputbatch(struct gqueue *q)
{
    if (q->n == 0)
        return;
    if (sched.runq.tail)
        sched.runq.tail->schedlink = q->head;
    else
        sched.runq.head = q->head;
    sched.runq.tail = q->tail;
    sched.runq.n += q->n;
    globrunq_sync();
}

/* A share of the global queue; all but the first go to pp's ring. sched.lock
 * held. */
struct g *globrunqget(struct p *pp, uint32_t max)
{
    if (sched.runq.n == 0)
        return NULL;
    uint32_t n = sched.runq.n / nprocs + 1;
    if (n > sched.runq.n)
        n = sched.runq.n;
    if (max > 0 && n > max)
        n = max;
    if (n > RUNQ_SIZE / 2)
        n = RUNQ_SIZE / 2;
    struct g *gp = gqueue_pop(&sched.runq);
    for (n--; n > 0; n--)
        runqput(pp, gqueue_pop(&sched.runq), false);
    globrunq_sync();
    return gp;
}

bool runqempty(struct p *pp)
{
    /* A G may be kicked from runnext to the ring between two of these reads:
     * take the three as one by re-reading tail. */
    for (;;) {
        uint32_t h = atomic_load(&pp->runqhead);
        uint32_t t = atomic_load(&pp->runqtail);
        struct g *next = atomic_load(&pp->runnext);
        if (t == atomic_load(&pp->runqtail))
            return h == t && next == NULL;
    }
}

/* The ring is full: half of it and gp go to the global queue. False if thieves
 * made room meanwhile. */
static bool runqputslow(struct p *pp, struct g *gp, uint32_t h, uint32_t t)
{
    uint32_t n = (t - h) / 2;
    ASSERT(n == RUNQ_SIZE / 2);
    /* Claim before linking: until the CAS the Gs belong to whoever claims
     * them, so their links must not be touched; they are still in the ring
     * afterwards, where only we, the producer, could overwrite them. */
    if (!atomic_compare_exchange_strong_explicit(&pp->runqhead, &h, h + n,
                                                 memory_order_acq_rel,
                                                 memory_order_relaxed))
        return false;
    struct gqueue q = {NULL, NULL, 0};
    for (uint32_t i = 0; i < n; i++)
        gqueue_push(&q, atomic_load_explicit(&pp->runq[(h + i) % RUNQ_SIZE],
                                             memory_order_relaxed));
    gqueue_push(&q, gp);
    lock(&sched.lock);
    globrunqputbatch(&q);
    unlock(&sched.lock);
    return true;
}

/* In the order in which they would have run, ahead of those who came later. */
void runq_to_global(struct p *pp)
{
    struct gqueue q = {NULL, NULL, 0};
    struct g *next = atomic_exchange(&pp->runnext, NULL);
    if (next != NULL)
        gqueue_push(&q, next);
    uint32_t h = atomic_load(&pp->runqhead), t = atomic_load(&pp->runqtail);
    for (; h != t; h++)
        gqueue_push(&q, atomic_load(&pp->runq[h % RUNQ_SIZE]));
    atomic_store(&pp->runqhead, t);
    if (q.n == 0)
        return;
    q.tail->schedlink = sched.runq.head;
    sched.runq.head = q.head;
    if (sched.runq.tail == NULL)
        sched.runq.tail = q.tail;
    sched.runq.n += q.n;
    globrunq_sync();
}

/* To the tail of the ring, unless it is full. */
bool runqputtail(struct p *pp, struct g *gp)
{
    uint32_t h = atomic_load_explicit(&pp->runqhead, memory_order_acquire);
    uint32_t t = atomic_load_explicit(&pp->runqtail, memory_order_relaxed);
    if (t - h >= RUNQ_SIZE)
        return false;
    atomic_store_explicit(&pp->runq[t % RUNQ_SIZE], gp, memory_order_relaxed);
    atomic_store_explicit(&pp->runqtail, t + 1, memory_order_release);
    return true;
}

/* The slice that runnext would inherit is over, but whom it was told parked instead
 * of yielding: of a few that ready each other in turn, each may do so each time. */
void runnext_preempt(struct p *pp)
{
    struct g *gp = runnext_swap(pp, NULL);
    if (gp == NULL)
        return;
    lock(&sched.lock);
    globrunqput(gp);
    unlock(&sched.lock);
}

void runqput(struct p *pp, struct g *gp, bool next)
{
    if (next) {
        gp = runnext_swap(pp, gp);
        if (gp == NULL)
            return;
        /* The one that was next goes to the tail. */
    }
    for (;;) {
        uint32_t h = atomic_load_explicit(&pp->runqhead, memory_order_acquire);
        uint32_t t = atomic_load_explicit(&pp->runqtail, memory_order_relaxed);
        if (t - h < RUNQ_SIZE) {
            atomic_store_explicit(&pp->runq[t % RUNQ_SIZE], gp,
                                  memory_order_relaxed);
            atomic_store_explicit(&pp->runqtail, t + 1, memory_order_release);
            /* Before the caller looks whether somebody is to be woken. */
            if (nprocs > 1)
                atomic_thread_fence(memory_order_seq_cst);
            return;
        }
        if (runqputslow(pp, gp, h, t))
            return;
    }
}

/* Gs that have not run for long are in no cache, nor are their stacks. Some
 * places before they come up, fetch what a switch to them will touch: first the
 * G, then, when that has arrived, what gogo pops and the frames it returns to.
 * Slots of a full ring hold Gs; one that a thief took is still a G. */
#define PREFETCH_G 6
#define PREFETCH_STACK 3
ALWAYS_INLINE void runq_prefetch(struct p *pp, uint32_t h)
{
    /* A hint may be read while its owner, somewhere else by now, writes it. */
    if (TARN_TSAN)
        return;
    struct g *gp = atomic_load_explicit(&pp->runq[(h + PREFETCH_G) % RUNQ_SIZE],
                                        memory_order_relaxed);
    __builtin_prefetch(gp, 1);
    __builtin_prefetch((char *)gp + CACHE_LINE, 1);
    gp = atomic_load_explicit(&pp->runq[(h + PREFETCH_STACK) % RUNQ_SIZE],
                              memory_order_relaxed);
    const char *sp =
        (const char *)__atomic_load_n(&gp->sched_sp, __ATOMIC_RELAXED);
    __builtin_prefetch(sp, 1);
    __builtin_prefetch(sp + CACHE_LINE, 1);
}

struct g *runqget_ring(struct p *pp)
{
    uint32_t h = atomic_load_explicit(&pp->runqhead, memory_order_acquire);
    for (;;) {
        uint32_t t = atomic_load_explicit(&pp->runqtail, memory_order_relaxed);
        if (t == h)
            return NULL;
        if (t - h > PREFETCH_G)
            runq_prefetch(pp, h);
        struct g *gp = atomic_load_explicit(&pp->runq[h % RUNQ_SIZE],
                                            memory_order_relaxed);
        if (nprocs == 1) {
            /* No thief. */
            atomic_store_explicit(&pp->runqhead, h + 1, memory_order_release);
            return gp;
        }
        if (atomic_compare_exchange_weak_explicit(&pp->runqhead, &h, h + 1,
                                                  memory_order_acq_rel,
                                                  memory_order_acquire))
            return gp;
    }
}

static bool ring_empty(struct p *pp)
{
    return atomic_load_explicit(&pp->runqhead, memory_order_relaxed) ==
           atomic_load_explicit(&pp->runqtail, memory_order_relaxed);
}

/* The G that is next on victim's P, if it looks as if it would stay so. A running
 * victim is probably about to run it itself, within the us of a channel
 * hand-over: stealing would only bounce it, and looking all the time takes the
 * line from the victim each time. But as long as the caller counts as spinning
 * nobody else is woken for nothing at each hand-over: so it sleeps a little and
 * looks again, some times; a nap must be short, as a stop of the world waits for
 * it (the threads' timer slack is small: minit). */
#define NAPS 8
#define NAP_US 3
#define NAP_LOOKS 20
static struct g *runnext_left(struct p *victim)
{
    struct g *next = atomic_load(&victim->runnext);
    if (next == NULL)
        return NULL;
    for (int nap = 0; nap < NAPS; nap++) {
        if (atomic_load(&victim->status) != Prunning)
            return atomic_load(&victim->runnext);
        usleep_os(NAP_US);
        if (atomic_load(&sched.gcwaiting) || !ring_empty(victim))
            return NULL;
        /* It may be there for the second time: look for a while. */
        next = atomic_load(&victim->runnext);
        int looks = 0;
        while (next != NULL && atomic_load(&victim->runnext) == next) {
            if (++looks == NAP_LOOKS)
                return next;
            procyield(1);
        }
    }
    return NULL;
}

/* Copies half of victim's ring to pp's from slot `to` on; how many. */
static uint32_t runqgrab(struct p *victim, struct p *pp, uint32_t to,
                         bool steal_runnext)
{
    for (;;) {
        uint32_t h =
            atomic_load_explicit(&victim->runqhead, memory_order_acquire);
        uint32_t t =
            atomic_load_explicit(&victim->runqtail, memory_order_acquire);
        uint32_t n = t - h;
        n -= n / 2;
        if (n == 0) {
            if (!steal_runnext)
                return 0;
            struct g *next = runnext_left(victim);
            if (next == NULL) {
                if (ring_empty(victim) || atomic_load(&sched.gcwaiting))
                    return 0;
                continue;
            }
            if (!atomic_compare_exchange_strong(&victim->runnext, &next, NULL))
                continue;
            atomic_store_explicit(&pp->runq[to % RUNQ_SIZE], next,
                                  memory_order_relaxed);
            return 1;
        }
        if (n > RUNQ_SIZE / 2)
            continue; /* head and tail were not read together */
        for (uint32_t i = 0; i < n; i++) {
            struct g *gp = atomic_load_explicit(
                &victim->runq[(h + i) % RUNQ_SIZE], memory_order_relaxed);
            atomic_store_explicit(&pp->runq[(to + i) % RUNQ_SIZE], gp,
                                  memory_order_relaxed);
        }
        if (atomic_compare_exchange_strong_explicit(&victim->runqhead, &h,
                                                    h + n, memory_order_acq_rel,
                                                    memory_order_relaxed))
            return n;
    }
}

struct g *runqsteal(struct p *pp, struct p *victim, bool steal_runnext)
{
    uint32_t t = atomic_load_explicit(&pp->runqtail, memory_order_relaxed);
    uint32_t n = runqgrab(victim, pp, t, steal_runnext);
    if (n == 0)
        return NULL;
    n--;
    struct g *gp = atomic_load_explicit(&pp->runq[(t + n) % RUNQ_SIZE],
                                        memory_order_relaxed);
    if (n > 0) {
        uint32_t h = atomic_load_explicit(&pp->runqhead, memory_order_acquire);
        ASSERT(t - h + n < RUNQ_SIZE);
        atomic_store_explicit(&pp->runqtail, t + n, memory_order_release);
    }
    return gp;
}
