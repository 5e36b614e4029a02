/* bench/native_protocols.c - what a native call costs in each of two protocols,
 * reduced to the words that they share with other threads.
 *
 *   wired   The goroutine's status says that it is in a call; the P stays with
 *           its thread. A thief holds the goroutine's scan bit while it takes
 *           the P. This is what sched/syscall.c does.
 *   psyscall  The P has a status for it, and leaves the thread on the way in; the
 *           thief takes it by changing that status. Go did so until 1.25.
 *
 * Each is run with plain stores where its own rules allow them, and with a
 * read-modify-write for every change of a status (as Go does). Alone, and beside
 * a thief that looks every 20 us and takes what has been in a call for two looks
 * (as sysmon does).
 *
 *   native_protocols [SECONDS]    (default: 1 for each line)
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { Grunning = 2, Gsyscall = 3, Gscan = 0x1000 };
enum { Pidle, Prunning, Psyscall };

#define LINE __attribute__((aligned(64)))
static struct {
    _Atomic uint32_t status;
    uintptr_t syscallsp;
    _Atomic uintptr_t guard;
} g LINE;
static struct {
    void *_Atomic p;
    void *oldp;
} m LINE;
static struct {
    _Atomic uint32_t status, tick;
    void *_Atomic m;
} p LINE;
static _Atomic bool gcwaiting LINE;
static _Atomic bool stop LINE;
static _Atomic uint64_t stolen LINE;

#define BATCH 10000

static int64_t now(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static bool cas(_Atomic uint32_t *w, uint32_t from, uint32_t to)
{
    return atomic_compare_exchange_strong(w, &from, to);
}

#define RELAXED memory_order_relaxed
#define RELEASE memory_order_release

/* What both do besides. */
#define ENTER_COMMON()                                                         \
    do {                                                                       \
        g.syscallsp = (uintptr_t)__builtin_frame_address(0);                   \
        atomic_store_explicit(&g.guard, UINTPTR_MAX / 2, RELAXED);             \
    } while (0)
#define LEAVE_COMMON()                                                         \
    do {                                                                       \
        atomic_store_explicit(                                                 \
            &p.tick, atomic_load_explicit(&p.tick, RELAXED) + 1, RELAXED);     \
        g.syscallsp = 0;                                                       \
        atomic_store_explicit(&g.guard, 4096, RELAXED);                        \
    } while (0)

/* --- wired ---------------------------------------------------------------------- */

static void take_back(void)
{
    /* Lost: as if from the idle list. */
    while (!cas(&p.status, Pidle, Prunning))
        ;
    atomic_store(&p.m, &m);
    atomic_store(&m.p, &p);
}

#define WIRED_LEAVE()                                                          \
    do {                                                                       \
        while (!cas(&g.status, Gsyscall, Grunning))                            \
            ;                                                                  \
        if (__builtin_expect(                                                  \
                atomic_load_explicit(&m.p, memory_order_acquire) == NULL, 0))  \
            take_back();                                                       \
    } while (0)

__attribute__((noinline)) static void wired_stores(void)
{
    ENTER_COMMON();
    m.oldp = &p;
    atomic_store_explicit(&g.status, Gsyscall, RELEASE);
    if (__builtin_expect(atomic_load_explicit(&gcwaiting, RELAXED), 0))
        abort();
    __asm__ volatile("" ::: "memory");
    WIRED_LEAVE();
    LEAVE_COMMON();
}

__attribute__((noinline)) static void wired_rmw(void)
{
    ENTER_COMMON();
    m.oldp = &p;
    while (!cas(&g.status, Grunning, Gsyscall))
        ;
    if (__builtin_expect(atomic_load_explicit(&gcwaiting, RELAXED), 0))
        abort();
    __asm__ volatile("" ::: "memory");
    WIRED_LEAVE();
    LEAVE_COMMON();
}

static bool wired_steal(void)
{
    if (atomic_load(&g.status) != Gsyscall ||
        !cas(&g.status, Gsyscall, Gsyscall | Gscan))
        return false;
    bool have = atomic_load(&m.p) != NULL;
    if (have) {
        atomic_store(&m.p, NULL);
        atomic_store(&p.m, NULL);
        atomic_store(&p.status, Pidle);
    }
    atomic_store(&g.status, Gsyscall);
    return have;
}

/* --- psyscall --------------------------------------------------------------------- */

#define PSYSCALL_LEAVE()                                                       \
    do {                                                                       \
        if (__builtin_expect(!cas(&p.status, Psyscall, Pidle), 0))             \
            while (atomic_load(&p.status) != Pidle)                            \
                ;                                                              \
        atomic_store_explicit(&m.p, &p, RELAXED);                              \
        atomic_store_explicit(&p.m, &m, RELAXED);                              \
        atomic_store_explicit(&p.status, Prunning, RELEASE);                   \
        while (!cas(&g.status, Gsyscall, Grunning))                            \
            ;                                                                  \
    } while (0)

__attribute__((noinline)) static void psyscall_stores(void)
{
    ENTER_COMMON();
    atomic_store_explicit(&g.status, Gsyscall, RELEASE);
    m.oldp = &p;
    atomic_store_explicit(&p.m, NULL, RELAXED);
    atomic_store_explicit(&m.p, NULL, RELAXED);
    atomic_store_explicit(&p.status, Psyscall, RELEASE);
    if (__builtin_expect(atomic_load_explicit(&gcwaiting, RELAXED), 0))
        abort();
    __asm__ volatile("" ::: "memory");
    PSYSCALL_LEAVE();
    LEAVE_COMMON();
}

__attribute__((noinline)) static void psyscall_rmw(void)
{
    ENTER_COMMON();
    while (!cas(&g.status, Grunning, Gsyscall))
        ;
    m.oldp = &p;
    atomic_store_explicit(&p.m, NULL, RELAXED);
    atomic_store_explicit(&m.p, NULL, RELAXED);
    atomic_store(&p.status, Psyscall);
    if (__builtin_expect(atomic_load(&gcwaiting), 0))
        abort();
    __asm__ volatile("" ::: "memory");
    PSYSCALL_LEAVE();
    LEAVE_COMMON();
}

static bool psyscall_steal(void)
{
    return atomic_load(&p.status) == Psyscall &&
           cas(&p.status, Psyscall, Pidle);
}

/* ------------------------------------------------------------------------------------ */

static const struct {
    const char *name;
    void (*pair)(void);
    bool (*steal)(void);
    int locked;
} protocols[] = {
    {"wired, stores", wired_stores, wired_steal, 1},
    {"wired, read-modify-write", wired_rmw, wired_steal, 2},
    {"psyscall, stores", psyscall_stores, psyscall_steal, 2},
    {"psyscall, read-modify-write", psyscall_rmw, psyscall_steal, 4},
};

static void *thief(void *steal)
{
    bool (*fn)(void) = *(bool (**)(void))steal;
    uint32_t seen = UINT32_MAX;
    while (!atomic_load(&stop)) {
        struct timespec t = {0, 20000};
        nanosleep(&t, NULL);
        uint32_t tick = atomic_load(&p.tick);
        if (tick == seen && fn())
            atomic_fetch_add(&stolen, 1);
        seen = tick;
    }
    return NULL;
}

/* The best of many batches of processor time: others use the machine too. */
static double measure(void (*pair)(void), double seconds)
{
    int64_t began = now(CLOCK_MONOTONIC), best = INT64_MAX;
    while ((double)(now(CLOCK_MONOTONIC) - began) < seconds * 1e9) {
        int64_t t = now(CLOCK_THREAD_CPUTIME_ID);
        for (int i = 0; i < BATCH; i++)
            pair();
        t = now(CLOCK_THREAD_CPUTIME_ID) - t;
        if (t < best)
            best = t;
    }
    return (double)best / BATCH;
}

int main(int argc, char **argv)
{
    double seconds = argc > 1 ? atof(argv[1]) : 1;
    if (seconds <= 0) {
        fprintf(stderr, "usage: %s [SECONDS]\n", argv[0]);
        return 2;
    }
    printf("%-28s %7s %10s %16s %8s\n", "enter and leave", "locked",
           "ns, alone", "ns, with a thief", "stolen");
    for (size_t i = 0; i < sizeof protocols / sizeof *protocols; i++) {
        atomic_store(&g.status, Grunning);
        atomic_store(&p.status, Prunning);
        atomic_store(&p.m, &m);
        atomic_store(&m.p, &p);
        atomic_store(&stop, false);
        atomic_store(&stolen, 0);
        double alone = measure(protocols[i].pair, seconds);
        pthread_t t;
        void *arg = (void *)(uintptr_t)&protocols[i].steal;
        if (pthread_create(&t, NULL, thief, arg) != 0) {
            fprintf(stderr, "cannot create a thread\n");
            return 1;
        }
        double beside = measure(protocols[i].pair, seconds);
        atomic_store(&stop, true);
        pthread_join(t, NULL);
        printf("%-28s %7d %10.2f %16.2f %8llu\n", protocols[i].name,
               protocols[i].locked, alone, beside,
               (unsigned long long)atomic_load(&stolen));
    }
    return 0;
}
