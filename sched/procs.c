/* sched/procs.c - the Ps, and how many of them run goroutines.
 *
 * A P is made once and stays where it is: threads without a P, the monitor and
 * whoever asks for a goroutine to stop read allp and what is in it without a lock.
 * allp has room for as many as there can ever be, so it does not move either. The
 * first nprocs Ps run goroutines; the others up to nallp are Pdead: in no list, held
 * by no thread, all that was theirs is handed over. They wait for the number to grow
 * again.
 *
 * The number changes with the world stopped. Then no thread holds a P but the one
 * that stopped it, none is about to (one that was given a P takes it and stops), and
 * native calls have lost theirs. A collection may be anywhere but in a stop of its
 * own or in a ragged barrier, which exclude this one. */
#include "base/sysmem.h"
#include "sched/sched.h"
#include "sched/timeline.h"
#include "tarn/sync.h"

struct p **allp;
uint32_t nprocs;
_Atomic uint32_t nallp;

/* One change at a time, from the making of Ps on. */
static tarn_mutex turn;

/* --- making them ---------------------------------------------------------------- */

/* Makes P number nallp, dead. Nobody can stop the caller on its way, who is on g0 or
 * alone: the list of caches is read in stops. */
static bool p_make(void)
{
    uint32_t id = atomic_load_explicit(&nallp, memory_order_relaxed);
    struct p *pp = sys_alloc_aligned(sizeof(*pp), CACHE_LINE);
    if (pp == NULL || !mcache_init(&pp->mcache)) {
        sys_free(pp);
        set_error("out of memory for P %u", id);
        return false;
    }
    pp->id = id;
    atomic_store(&pp->status, Pdead);
    pp->rand = rand_state((uint64_t)options.seed, (uint64_t)id * 2 + 1);
    timers_init(&pp->timers);
    if (sched_hooks.p_init && !sched_hooks.p_init(pp)) {
        mcache_destroy(&pp->mcache);
        sys_free(pp);
        return false;
    }
    allp[id] = pp;
    atomic_store_explicit(&nallp, id + 1, memory_order_release);
    return true;
}

bool procs_init(uint32_t n)
{
    ASSERT(n >= 1 && n <= PROCS_MAX);
    allp = sys_alloc(PROCS_MAX * sizeof(*allp));
    if (allp == NULL) {
        set_error("out of memory for the list of Ps");
        return false;
    }
    for (uint32_t i = 0; i < n; i++) {
        if (!p_make())
            return false;
        atomic_store(&allp[i]->status, Pgcstop);
    }
    nprocs = n;
    return true;
}

static void make_on_g0(void *ok)
{
    *(bool *)ok = p_make();
}

/* All that n Ps need, before the world is stopped. What is there when memory is
 * refused stays for the next time. */
static bool prepare(uint32_t n)
{
    bool ok = true;
    while (ok && atomic_load_explicit(&nallp, memory_order_relaxed) < n)
        systemstack(make_on_g0, &ok);
    for (uint32_t i = nprocs; ok && i < n; i++)
        ok = sched_hooks.p_start == NULL || sched_hooks.p_start(allp[i]);
    return ok && timeline_reserve(n);
}

/* --- the change: on g0, world stopped --------------------------------------------- */

struct resize {
    uint32_t n;
    tarn_status status;
    uint64_t threads; /* TARN_ELIMIT: so many may be wanted */
};

/* sched.lock held. */
static void set_nprocs(uint32_t n)
{
    if (sched_hooks.procs_change)
        sched_hooks.procs_change(n);
    /* Others than P holders read it at any time. */
    __atomic_store_n(&nprocs, n, __ATOMIC_RELEASE);
}

static void grow(struct resize *r)
{
    lock(&sched.lock);
    /* Attached threads were admitted with fewer Ps in mind: see admit. */
    r->threads = threads_counted() + threads_wanted(r->n);
    if (r->threads > (uint64_t)options.maxthreads) {
        r->status = TARN_ELIMIT;
    } else {
        for (uint32_t i = nprocs; i < r->n; i++) {
            ASSERT(atomic_load(&allp[i]->status) == Pdead);
            atomic_store(&allp[i]->status, Pgcstop);
        }
        set_nprocs(r->n);
    }
    unlock(&sched.lock);
}

/* The caller's own P ends: it goes on with another. */
static void move_to(struct p *to)
{
    struct m *mp = getg()->m;
    struct p *mine = mp->p;
    struct g *gp = atomic_load_explicit(&mp->curg, memory_order_relaxed);
    trace_event(TRACE_RELEASE, NULL, 0, 0);
    atomic_store(&mine->m, NULL);
    ASSERT(atomic_load(&to->m) == NULL);
    mp->p = to;
    atomic_store(&to->m, mp);
    set_local_cache(to);
    trace_event(TRACE_EXECUTE, gp, mp->id, true);
}

static void hand_over_sudogs(struct p *to, struct p *from)
{
    for (struct sudog *s; (s = from->sudogcache) != NULL;) {
        from->sudogcache = s->next;
        if (to->nsudog >= SUDOGS_KEPT) {
            freeSudog(s);
            continue;
        }
        s->next = to->sudogcache;
        to->sudogcache = s;
        to->nsudog++;
    }
    from->nsudog = 0;
}

/* What belongs to pp goes to `to`, which is the caller's, or to everybody. What is
 * left are numbers: goids that it may give out, ticks, its ring of events. */
static void p_end(struct p *pp, struct p *to)
{
    ASSERT(atomic_load(&pp->m) == NULL && atomic_load(&pp->status) == Pgcstop &&
           atomic_load(&pp->runSafePointFn) == 0);
    if (sched_hooks.p_end)
        sched_hooks.p_end(pp, to);
    timers_move(to, pp);
    hand_over_sudogs(to, pp);
    gfpurge(pp);
    timeline_p_end(pp);
    atomic_store_explicit(&pp->preempt, false, memory_order_relaxed);
    atomic_store(&pp->status, Pdead);
}

static void shrink(struct resize *r)
{
    uint32_t was = nprocs;
    struct p *mine = getg()->m->p;
    struct p *to = mine->id < r->n ? mine : allp[0];
    /* The only thing that may fail, so first of all: how many timers there are was
     * not known before. */
    if (!timers_reserve(to, r->n)) {
        r->status = TARN_ENOMEM;
        return;
    }
    if (to != mine)
        move_to(to);
    for (uint32_t i = r->n; i < was; i++)
        p_end(allp[i], to);
    lock(&sched.lock);
    for (uint32_t i = was; i-- > r->n;)
        runq_to_global(allp[i]);
    set_nprocs(r->n);
    unlock(&sched.lock);
}

static void resize_on_g0(void *vr)
{
    struct resize *r = vr;
    if (r->n > nprocs)
        grow(r);
    else
        shrink(r);
}

static tarn_status resize(uint32_t n)
{
    if (n > nprocs && !prepare(n)) {
        set_error("tarn_set_procs: out of memory for %u Ps", n);
        return TARN_ENOMEM;
    }
    struct resize r = {.n = n, .status = TARN_OK};
    stopTheWorld();
    systemstack(resize_on_g0, &r);
    startTheWorld();
    if (r.status == TARN_ENOMEM)
        set_error("tarn_set_procs: out of memory for timers of %u Ps", n);
    else if (r.status == TARN_ELIMIT)
        set_error(
            "tarn_set_procs: with %u Ps up to %llu threads may be wanted, "
            "and option maxthreads allows %lld",
            n, (unsigned long long)r.threads, (long long)options.maxthreads);
    return r.status;
}

tarn_status tarn_set_procs(int n)
{
    if (!require_goroutine("tarn_set_procs"))
        return TARN_ESTATE;
    if (getg()->worldstopped) {
        set_error("tarn_set_procs: the caller has stopped the world");
        return TARN_ESTATE;
    }
    if (n < 1 || n > (int)PROCS_MAX) {
        set_error("tarn_set_procs: %d is outside 1..%u", n, PROCS_MAX);
        return TARN_EINVAL;
    }
    preempt_check();
    tarn_mutex_lock(&turn);
    tarn_status st = (uint32_t)n == nprocs ? TARN_OK : resize((uint32_t)n);
    tarn_mutex_unlock(&turn);
    preempt_check();
    return st;
}

size_t tarn_procs(void)
{
    return procs_now();
}
