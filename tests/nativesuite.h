/* tests/nativesuite.h - for the tests of native calls and threads: events that
 * native code and goroutines can both wait for, the wiring of Ps and Ms. */
#ifndef TARN_TESTS_NATIVESUITE_H_
#define TARN_TESTS_NATIVESUITE_H_

#include <pthread.h>

#include "gcsuite.h"

/* Code that may run between tarn_native_enter and tarn_native_leave. */
#define NATIVE __attribute__((noinline, no_split_stack, unused))

/* Set once, waited for by any number. */
struct event {
    _Atomic uint32_t set;
};

/* By a thread in native code, or one of its own. */
NATIVE static void event_wait_native(struct event *e)
{
    while (atomic_load(&e->set) == 0)
        futex_wait(&e->set, 0, -1);
}

NATIVE static void event_set(struct event *e)
{
    atomic_store(&e->set, 1);
    futex_wake(&e->set, UINT32_MAX);
}

NATIVE static void event_clear(struct event *e)
{
    atomic_store(&e->set, 0);
}

NATIVE static bool event_is_set(struct event *e)
{
    return atomic_load(&e->set) != 0;
}

/* By a goroutine, which lets others run. */
__attribute__((unused)) static void event_wait(struct event *e)
{
    while (!event_is_set(e))
        tarn_yield();
}

/* For tarn_native_call. */
__attribute__((unused)) static void *wait_for(void *e)
{
    event_wait_native(e);
    return e;
}

#define YIELD_UNTIL(e)                                                         \
    do {                                                                       \
        while (!(e))                                                           \
            tarn_yield();                                                      \
    } while (0)

/* Busy for that long. */
NATIVE static void spin_ns(int64_t ns)
{
    int64_t end = nanotime() + ns;
    while (nanotime() < end)
        procyield(4);
}

__attribute__((unused)) static void *spin_native(void *ns)
{
    spin_ns((int64_t)(uintptr_t)ns);
    return NULL;
}

/* Managed code may be preempted anywhere, and go on with another M and P: not
 * between these two. */
#define STAY()                                                                 \
    struct m *stay_m_ = acquirem();                                            \
    __asm__ volatile("" ::: "memory")
#define GO_ON() releasem(stay_m_)

__attribute__((unused)) static void check_mine(void)
{
    STAY();
    struct g *gp = getg();
    struct p *pp = atomic_load(&gp->m->p);
    bool mine = pp != NULL && atomic_load(&pp->m) == gp->m &&
                atomic_load(&pp->status) == Prunning &&
                atomic_load(&gp->m->curg) == gp;
    GO_ON();
    CHECK(mine);
}

/* With the world stopped every P is accounted for, and no other M has one. */
__attribute__((unused)) static void check_wiring(void)
{
    stopTheWorld();
    struct p *mine = getg()->m->p;
    uint32_t n = 0;
    for (uint32_t i = 0; i < nprocs; i++) {
        CHECK_EQ(atomic_load(&allp[i]->status), (uint32_t)Pgcstop);
        struct m *mp = atomic_load(&allp[i]->m);
        CHECK(mp == (allp[i] == mine ? getg()->m : NULL));
        n += allp[i]->id == i;
    }
    CHECK_EQ(n, nprocs);
    for (struct m *mp = atomic_load(&allm); mp != NULL; mp = mp->alllink)
        if (mp != getg()->m)
            CHECK(atomic_load(&mp->p) == NULL);
    startTheWorld();
}

/* A P that is running has a thread, that thread it, or is about to. For storms:
 * from any thread, at any time; counts Ps by their status. */
__attribute__((unused)) static uint32_t ps_known(void)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < nprocs; i++) {
        uint32_t s = atomic_load(&allp[i]->status);
        n += s == Pidle || s == Prunning || s == Pgcstop;
    }
    return n;
}

__attribute__((unused)) static void start_thread(pthread_t *t,
                                                 void *(*fn)(void *), void *arg)
{
    CHECK_EQ(pthread_create(t, NULL, fn, arg), 0);
}

/* For tarn_native_call. */
__attribute__((unused)) static void *join_thread(void *t)
{
    CHECK_EQ(pthread_join(*(pthread_t *)t, NULL), 0);
    return NULL;
}

/* --- calls to and fro ------------------------------------------------------------- */

/* Native code that calls back, and the goroutine's code that it calls, n deep. */
static _Atomic int bottoms;
__attribute__((unused)) static void *native_down(void *n);

static void managed_down(void *n)
{
    uintptr_t i = (uintptr_t)n;
    CHECK(!tarn_in_native());
    volatile uint64_t *p = tarn_alloc_bytes(128);
    *p = i;
    if (i % 3 == 0)
        tarn_yield();
    if (i % 17 == 0)
        collect();
    if (i % 7 == 0)
        tarn_nanosleep(1000);
    if (n != NULL)
        tarn_native_call(native_down, (char *)n - 1);
    else
        atomic_fetch_add(&bottoms, 1);
    CHECK_EQ(*p, i);
}

static void *native_down(void *n)
{
    CHECK(tarn_in_native());
    CHECK_ST(tarn_callback(managed_down, n), TARN_OK);
    CHECK(tarn_in_native());
    return NULL;
}

__attribute__((unused)) static bool said(const char *needle)
{
    if (strstr(tarn_last_error(), needle) == NULL)
        fprintf(stderr, "error is \"%s\", lacks \"%s\"\n", tarn_last_error(),
                needle);
    return strstr(tarn_last_error(), needle) != NULL;
}

/* How many goroutines there are when those that are about to end have: this. */
__attribute__((unused)) static size_t settled(void)
{
    YIELD_UNTIL(tarn_goroutines() == 1);
    return 1;
}

#endif
