/* sched/sync.c - mutex, condition, wait group, semaphore for goroutines.
 *
 * Each has a queue of sudogs, oldest first, under a spin lock in the struct
 * itself. The spin lock is held for a few instructions, or until the caller is
 * parked: then the commit function on g0 releases it.
 *
 * The memory belongs to the user, who may free it as soon as it can no longer
 * be in use by what tarn/sync.h promises: after a wait that returned, or by the
 * last owner of a mutex. Hence
 *  1. a waker takes goroutines out of the queue, makes its last access to the
 *     struct, and only then readies them;
 *  2. that last access is the one that lets somebody else go on.
 *
 * The fields are plain integers in a public header; they are accessed through
 * the __atomic builtins here.
 */
#include "sched/chan.h"

#include "tarn/sync.h"

#define HANDOFF_NS 1000000 /* a waiter of this age is given the mutex */

enum { MUTEX_SPIN_ROUNDS = 4, MUTEX_SPIN_PAUSES = 30, QUEUE_SPINS = 64 };

static void enter(const char *what)
{
    if (unlikely(!on_goroutine()))
        fatal("%s: not on a goroutine%s", what, not_goroutine_why());
    preempt_check();
}

/* --- the queue ----------------------------------------------------------- */

static bool q_trylock(struct tarn_waitq_ *q)
{
    return __atomic_load_n(&q->lock, __ATOMIC_RELAXED) == 0 &&
           __atomic_exchange_n(&q->lock, 1, __ATOMIC_ACQUIRE) == 0;
}

/* The holder may have lost its CPU: do not spin long. */
static NOINLINE void q_lock_slow(struct tarn_waitq_ *q)
{
    for (;;) {
        for (int i = 0; i < QUEUE_SPINS; i++) {
            if (q_trylock(q))
                return;
            procyield(4);
        }
        osyield();
    }
}

static void q_lock(struct tarn_waitq_ *q)
{
    if (!q_trylock(q))
        q_lock_slow(q);
}

static void q_unlock(struct tarn_waitq_ *q)
{
    DASSERT(__atomic_load_n(&q->lock, __ATOMIC_RELAXED) == 1);
    __atomic_store_n(&q->lock, 0, __ATOMIC_RELEASE);
}

static void q_push(struct tarn_waitq_ *q, struct sudog *s)
{
    struct sudog *last = q->tail;
    s->next = NULL;
    if (last != NULL)
        last->next = s;
    else
        q->head = s;
    q->tail = s;
}

static void q_push_front(struct tarn_waitq_ *q, struct sudog *s)
{
    s->next = q->head;
    q->head = s;
    if (q->tail == NULL)
        q->tail = s;
}

static struct sudog *q_pop(struct tarn_waitq_ *q)
{
    struct sudog *s = q->head;
    if (s == NULL)
        return NULL;
    q->head = s->next;
    if (q->head == NULL)
        q->tail = NULL;
    s->next = NULL;
    return s;
}

static struct sudog *q_take_all(struct tarn_waitq_ *q)
{
    struct sudog *s = q->head;
    q->head = NULL;
    q->tail = NULL;
    return s;
}

static bool q_commit(struct g *gp, void *q)
{
    (void)gp;
    delay_point("sync: parked, queue locked");
    q_unlock(q);
    return true;
}

static struct sudog *new_waiter(void)
{
    struct sudog *s = acquireSudog();
    s->g = getg();
    s->success = false;
    s->acquiretime = 0;
    return s;
}

static void drop_waiter(struct sudog *s)
{
    s->g = NULL;
    s->elem = NULL;
    s->acquiretime = 0;
    releaseSudog(s);
}

/* Wakes every goroutine of a list that is out of its queue. A sudog is its
 * owner's again as soon as that is ready. */
static void ready_all(struct sudog *s)
{
    while (s != NULL) {
        struct sudog *next = s->next;
        s->next = NULL;
        goready(s->g);
        s = next;
    }
}

/* --- mutex --------------------------------------------------------------- */

/* state:
 *   LOCKED   somebody has it
 *   WAITERS  the queue is not empty; changed only under q.lock
 *   AWAKE    a goroutine that was woken, or spins, is about to try: unlock
 *            need not wake another. Whoever is awake clears it when it takes
 *            the mutex or queues again.
 * The mutex is handed over by leaving LOCKED set and waking the waiter with
 * success; otherwise the woken waiter competes with who comes by. One that
 * loses goes to the head of the queue and keeps its age, so that after at most
 * HANDOFF_NS and one critical section it is handed the mutex. */
enum { LOCKED = 1, WAITERS = 2, AWAKE = 4 };

static bool state_cas(tarn_mutex *m, uint32_t *old, uint32_t new)
{
    return __atomic_compare_exchange_n(&m->state, old, new, false,
                                       __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

/* Worth it only if the owner can be running meanwhile and this P has nothing
 * better to do. */
static bool can_spin(int round)
{
    if (round >= MUTEX_SPIN_ROUNDS || nprocs < 2 ||
        atomic_load_explicit(&sched.npidle, memory_order_relaxed) +
                atomic_load_explicit(&sched.nmspinning, memory_order_relaxed) +
                1 >=
            nprocs)
        return false;
    return runqempty(getg()->m->p);
}

static NOINLINE void mutex_lock_slow(tarn_mutex *m)
{
    struct sudog *self = NULL;
    bool awake = false;  /* AWAKE is set on our behalf */
    bool queued = false; /* has been in the queue before */
    int round = 0;
    for (;;) {
        uint32_t s = __atomic_load_n(&m->state, __ATOMIC_RELAXED);
        if (!(s & LOCKED)) {
            uint32_t taken = (s | LOCKED) & ~(awake ? (uint32_t)AWAKE : 0);
            if (state_cas(m, &s, taken))
                break;
            continue;
        }
        if (can_spin(round)) {
            round++;
            if (!awake && (s & WAITERS) && !(s & AWAKE))
                awake = state_cas(m, &s, s | AWAKE);
            procyield(MUTEX_SPIN_PAUSES);
            continue;
        }

        /* Queue, if it is still locked by then. */
        if (self == NULL) {
            self = new_waiter();
            self->acquiretime = nanotime();
        }
        q_lock(&m->q);
        s = __atomic_load_n(&m->state, __ATOMIC_RELAXED);
        while (
            (s & LOCKED) &&
            !state_cas(m, &s, (s | WAITERS) & ~(awake ? (uint32_t)AWAKE : 0)))
            ;
        if (!(s & LOCKED)) {
            q_unlock(&m->q);
            continue;
        }
        if (queued)
            q_push_front(&m->q, self);
        else
            q_push(&m->q, self);
        queued = true;
        gopark(q_commit, &m->q, WAIT_MUTEX);
        if (self->success)
            break; /* handed over, still locked */
        awake = true;
        round = 0;
    }
    if (self != NULL)
        drop_waiter(self);
    KEEP_ALIVE(m);
}

/* Returns the goroutine to ready, or NULL; the mutex is released or, if
 * *handed, now that goroutine's. On a goroutine or g0. */
static NOINLINE struct g *mutex_release(tarn_mutex *m, const char *what,
                                        bool *handed)
{
    uint32_t s = __atomic_load_n(&m->state, __ATOMIC_RELAXED);
    *handed = false;
    for (;;) {
        if (!(s & LOCKED))
            fatal("%s: mutex is not locked", what);
        if ((s & WAITERS) && !(s & AWAKE))
            break;
        if (state_cas(m, &s, s & ~(uint32_t)LOCKED))
            return NULL;
    }
    /* Only the owner takes waiters out, and we are the owner. */
    q_lock(&m->q);
    struct sudog *w = q_pop(&m->q);
    ASSERT(w != NULL);
    if (m->q.head == NULL)
        __atomic_and_fetch(&m->state, ~(uint32_t)WAITERS, __ATOMIC_RELAXED);
    struct g *gp = w->g;
    if (nanotime() - w->acquiretime > HANDOFF_NS) {
        w->success = true;
        *handed = true;
        q_unlock(&m->q);
        return gp;
    }
    q_unlock(&m->q);
    s = __atomic_load_n(&m->state, __ATOMIC_RELAXED);
    while (!state_cas(m, &s, (s & ~(uint32_t)LOCKED) | AWAKE))
        ;
    return gp;
}

static bool mutex_try(tarn_mutex *m)
{
    uint32_t s = __atomic_load_n(&m->state, __ATOMIC_RELAXED);
    while (!(s & LOCKED))
        if (state_cas(m, &s, s | LOCKED))
            return true;
    return false;
}

void tarn_mutex_lock(tarn_mutex *m)
{
    enter("tarn_mutex_lock");
    uint32_t s = 0;
    if (unlikely(!state_cas(m, &s, LOCKED)))
        mutex_lock_slow(m);
}

bool tarn_mutex_try_lock(tarn_mutex *m)
{
    enter("tarn_mutex_try_lock");
    return mutex_try(m);
}

void tarn_mutex_unlock(tarn_mutex *m)
{
    if (unlikely(!on_goroutine()))
        fatal("tarn_mutex_unlock: not on a goroutine%s", not_goroutine_why());
    uint32_t s = LOCKED;
    if (unlikely(!state_cas(m, &s, 0))) {
        bool handed;
        struct g *gp = mutex_release(m, "tarn_mutex_unlock", &handed);
        if (gp != NULL)
            goready(gp);
        /* Everybody else waits for the new owner: let it run here and now; but
         * with the world stopped by us it has to wait as well. */
        if (handed && getg()->m->locks == 0)
            goyield();
    }
    /* Behind the critical section, not inside it. */
    preempt_check();
}

/* --- condition ----------------------------------------------------------- */

/* The waiter is queued and c's queue still locked. Only now that it can be
 * woken is the mutex released: gp->param brings it, since the queue's lock is
 * all that gopark passes and the stack may move already. */
static bool cond_commit(struct g *gp, void *q)
{
    tarn_mutex *m = gp->param;
    gp->param = NULL;
    delay_point("cond: parked, mutex locked");
    q_unlock(q);
    bool handed;
    struct g *next = mutex_release(m, "tarn_cond_wait", &handed);
    if (next != NULL)
        goready(next);
    return true;
}

void tarn_cond_wait(tarn_cond *c, tarn_mutex *m)
{
    enter("tarn_cond_wait");
    if (!(__atomic_load_n(&m->state, __ATOMIC_RELAXED) & LOCKED))
        fatal("tarn_cond_wait: mutex is not locked");
    struct sudog *w = new_waiter();
    getg()->param = m;
    q_lock(&c->q);
    q_push(&c->q, w);
    __atomic_store_n(&c->q.n, c->q.n + 1, __ATOMIC_RELAXED);
    gopark(cond_commit, &c->q, WAIT_COND);
    drop_waiter(w);
    uint32_t s = 0;
    if (!state_cas(m, &s, LOCKED))
        mutex_lock_slow(m);
    KEEP_ALIVE(c);
}

/* A waiter that the caller knows of queued before it released the mutex that
 * the caller has held since: reading n without the lock finds it. */
static bool cond_has_waiters(tarn_cond *c)
{
    return __atomic_load_n(&c->q.n, __ATOMIC_ACQUIRE) != 0;
}

void tarn_cond_signal(tarn_cond *c)
{
    enter("tarn_cond_signal");
    if (!cond_has_waiters(c))
        return;
    q_lock(&c->q);
    struct sudog *w = q_pop(&c->q);
    if (w != NULL)
        __atomic_store_n(&c->q.n, c->q.n - 1, __ATOMIC_RELAXED);
    q_unlock(&c->q);
    ready_all(w);
}

void tarn_cond_broadcast(tarn_cond *c)
{
    enter("tarn_cond_broadcast");
    if (!cond_has_waiters(c))
        return;
    q_lock(&c->q);
    struct sudog *list = q_take_all(&c->q);
    __atomic_store_n(&c->q.n, 0, __ATOMIC_RELAXED);
    q_unlock(&c->q);
    ready_all(list);
}

/* --- wait group ---------------------------------------------------------- */

/* The count goes down to zero only under the queue's lock, in one step with
 * taking out all who wait: whoever queues later waits for the next zero. A wait
 * takes that lock even if it finds zero, so that it never returns (and its
 * caller frees the struct) while the last tarn_waitgroup_done is still inside. */
static void waitgroup_add(tarn_waitgroup *w, int64_t delta, const char *what)
{
    int64_t old = __atomic_load_n(&w->count, __ATOMIC_RELAXED), new;
    for (;;) {
        if (__builtin_add_overflow(old, delta, &new))
            fatal("%s: the count overflows", what);
        if (new < 0)
            fatal("%s: negative count", what);
        if (new == 0 && delta != 0)
            break;
        if (__atomic_compare_exchange_n(&w->count, &old, new, false,
                                        __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
            return;
    }
    struct sudog *list = NULL;
    q_lock(&w->q);
    new = __atomic_add_fetch(&w->count, delta, __ATOMIC_ACQ_REL);
    if (new < 0)
        fatal("%s: negative count", what);
    if (new == 0)
        list = q_take_all(&w->q);
    q_unlock(&w->q);
    ready_all(list);
}

void tarn_waitgroup_add(tarn_waitgroup *w, int64_t delta)
{
    enter("tarn_waitgroup_add");
    waitgroup_add(w, delta, "tarn_waitgroup_add");
}

void tarn_waitgroup_done(tarn_waitgroup *w)
{
    enter("tarn_waitgroup_done");
    waitgroup_add(w, -1, "tarn_waitgroup_done");
}

void tarn_waitgroup_wait(tarn_waitgroup *w)
{
    enter("tarn_waitgroup_wait");
    struct sudog *self = NULL;
    if (__atomic_load_n(&w->count, __ATOMIC_RELAXED) != 0)
        self = new_waiter(); /* not under the spin lock */
    q_lock(&w->q);
    /* Without a waiter: if it became positive since we looked, that was by an
     * add that nothing orders with this wait, and zero was a good answer. */
    if (self == NULL || __atomic_load_n(&w->count, __ATOMIC_ACQUIRE) == 0) {
        q_unlock(&w->q);
    } else {
        q_push(&w->q, self);
        gopark(q_commit, &w->q, WAIT_WAITGROUP);
    }
    if (self != NULL)
        drop_waiter(self);
    KEEP_ALIVE(w);
}

/* --- semaphore ----------------------------------------------------------- */

/* count > 0: free units; < 0: that many acquirers have no unit. A release that
 * finds it negative passes its unit to the oldest in the queue. If the acquirer
 * that it serves has lowered the count but not queued yet, the unit waits in
 * q.n. */
void tarn_sema_acquire(tarn_sema *s)
{
    enter("tarn_sema_acquire");
    if (__atomic_fetch_sub(&s->count, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    struct sudog *self = new_waiter();
    q_lock(&s->q);
    if (s->q.n > 0) {
        s->q.n--;
        q_unlock(&s->q);
    } else {
        q_push(&s->q, self);
        gopark(q_commit, &s->q, WAIT_SEMA);
    }
    drop_waiter(self);
    KEEP_ALIVE(s);
}

bool tarn_sema_try_acquire(tarn_sema *s)
{
    enter("tarn_sema_try_acquire");
    int64_t n = __atomic_load_n(&s->count, __ATOMIC_RELAXED);
    while (n > 0)
        if (__atomic_compare_exchange_n(&s->count, &n, n - 1, false,
                                        __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
            return true;
    return false;
}

void tarn_sema_release(tarn_sema *s)
{
    enter("tarn_sema_release");
    int64_t old = __atomic_fetch_add(&s->count, 1, __ATOMIC_ACQ_REL);
    if (unlikely(old == INT64_MAX))
        fatal("tarn_sema_release: the count overflows");
    if (old >= 0)
        return;
    q_lock(&s->q);
    struct sudog *w = q_pop(&s->q);
    if (w == NULL)
        s->q.n++;
    q_unlock(&s->q);
    ready_all(w);
}
