/* tests/pest.h - a thread that asks goroutines to stop, again and again, as fast
 * as it can: by signals alone, or in every way. It pretends to be an M, as the
 * monitor thread does.
 *
 *   pest_start(PEST_SIGNALS); ...; pest_stop();
 */
#ifndef TARN_TESTS_PEST_H_
#define TARN_TESTS_PEST_H_

#include <pthread.h>

#include "sched/sched.h"
#include "suite.h"
#include "tarn/preempt.h"

enum pest_kind { PEST_SIGNALS, PEST_ALL };

static struct m pest_m;
static pthread_t pest_id;
static _Atomic bool pest_end;
static enum pest_kind pest_kind;
static _Atomic uint32_t pest_pending_max;

/* Sanitizers' builds stop goroutines at prologues and calls only. */
#define ASYNC_RUNS (!TARN_ASAN && !TARN_TSAN)

static void pest_one(struct p *pp)
{
    struct m *mp = atomic_load(&pp->m);
    struct g *gp = mp ? atomic_load(&mp->curg) : NULL;
    if (gp == NULL)
        return;
    uint32_t pending = atomic_load(&mp->signalPending);
    if (pending > atomic_load(&pest_pending_max))
        atomic_store(&pest_pending_max, pending);
    if (pest_kind == PEST_ALL) {
        preemptone(pp);
        return;
    }
    /* Without the request that prologues see. */
    atomic_store(&gp->preempt, true);
    preemptM(mp);
}

static void *pest_thread(void *unused)
{
    setg(pest_m.g0);
    while (!atomic_load(&pest_end))
        for (uint32_t i = 0; i < nprocs; i++) {
            pest_one(allp[i]);
            /* Not osyield: on a busy machine that is milliseconds. */
            procyield(100);
        }
    setg(NULL);
    return unused;
}

__attribute__((unused)) static void pest_start(enum pest_kind kind)
{
    sigset_t all, old;
    if (pest_m.g0 == NULL)
        m_init(&pest_m);
    pest_kind = kind;
    atomic_store(&pest_end, false);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    CHECK_EQ(pthread_create(&pest_id, NULL, pest_thread, NULL), 0);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

__attribute__((unused)) static void pest_stop(void)
{
    atomic_store(&pest_end, true);
    pthread_join(pest_id, NULL);
    CHECK_LE(atomic_load(&pest_pending_max), 1);
}

__attribute__((unused)) static struct tarn_preempt_stats preempt_stats(void)
{
    struct tarn_preempt_stats s = {.struct_size = sizeof s};
    CHECK_ST(tarn_preempt_stats(&s), TARN_OK);
    return s;
}

#endif
