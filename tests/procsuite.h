/* tests/procsuite.h - what the tests of a changing number of Ps share. */
#ifndef TARN_TESTS_PROCSUITE_H
#define TARN_TESTS_PROCSUITE_H

#include "nativesuite.h"

static tarn_waitgroup wg;

static void set_procs(uint32_t n)
{
    CHECK_ST(tarn_set_procs((int)n), TARN_OK);
    CHECK_EQ(tarn_procs(), (size_t)n);
}

/* A P that has ended has nothing, nor is it anybody's. World stopped. */
static void check_ended(struct p *pp)
{
    CHECK_EQ(atomic_load(&pp->status), (uint32_t)Pdead);
    CHECK(atomic_load(&pp->m) == NULL);
    CHECK(runqempty(pp));
    CHECK_EQ(pp->timers.len, 0u);
    CHECK_EQ(atomic_load(&pp->timers.when0), 0);
    CHECK(pp->sudogcache == NULL && pp->nsudog == 0);
    CHECK(pp->gfree[0] == NULL && pp->gfree[1] == NULL);
    CHECK_EQ(pp->ngfree[0] + pp->ngfree[1], 0u);
    struct gcp *g = gcp_of(pp);
    CHECK(g->wbn == 0 && gcw_empty(&g->gcw));
    CHECK_EQ(g->assist_debt, 0);
    CHECK_EQ(pp->mcache.used, NO_SLOT);
    CHECK_EQ(pp->mcache.live_pending, 0u);
}

static void check_all(void)
{
    check_wiring();
    STAY();
    uint32_t n = nprocs, id = getg()->m->p->id;
    struct mcache_entry *cache = local_cache();
    bool own = cache == getg()->m->p->mcache.fast;
    GO_ON();
    CHECK_LT(id, n);
    CHECK(own);
    stopTheWorld();
    for (uint32_t i = nprocs; i < atomic_load(&nallp); i++)
        check_ended(allp[i]);
    CHECK_EQ(atomic_load(&sched.npidle), 0u);
    for (uint32_t i = 0; i < nprocs; i++)
        CHECK(gcp_of(allp[i])->worker != NULL);
    startTheWorld();
}

static struct p *own_p(void)
{
    STAY();
    struct p *pp = getg()->m->p;
    GO_ON();
    return pp;
}

static void hog(void *unused)
{
    (void)unused;
    STAY();
    spin_ns(200000);
    GO_ON();
}

/* The caller, with nobody else about, comes to be on that P, of two: its own is kept
 * busy until the other has stolen it. */
static void get_to(uint32_t id)
{
    while (own_p()->id != id) {
        go(hog, NULL);
        tarn_yield();
    }
}

#endif
