/* tests/csmith/host.c - runs a program that csmith made as a goroutine.
 *
 *   host plain       on the thread that main is on, without the runtime
 *   host ROOM        as a goroutine whose stack has ROOM bytes left, so that it
 *                    grows (and, with stackshrink=1, shrinks) somewhere in the
 *                    program; options come from TARN
 *
 * The program's main is renamed csmith_main. What it prints is its checksum; what
 * happened goes to stderr, in one line, so that a run that never moved is not
 * taken for one that was right:
 *
 *   host: moves=812 grows=1 shrinks=0 cycles=7
 *
 * With -DORACLE, and the program compiled with -finstrument-functions and
 * without optimisation, it looks at each function's beginning and end for the
 * address of a local in one of the program's globals: code may not have that on
 * a copying stack, csmith knows nothing of it, so such programs tell nothing.
 * Moves happen where functions begin, so this misses none that matters. Option
 * stackescape must then say the same: two who look in different ways. */
#include "base/options.h"
#include "stackscan/stackscan.h"
#include "tarn/tarn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int csmith_main(int argc, char **argv);

static char *no_args[] = {(char *)"csmith", NULL};
static size_t room;
static int status;
static _Atomic bool done;

#ifdef ORACLE
#define UNSEEN __attribute__((no_instrument_function))
/* A program that calls more than half as often takes long when each call moves
 * its stack. */
#define MANY_LOOKS 200000u

/* The section that the program's globals were put into. */
extern const uintptr_t __start_csmith_data[], __stop_csmith_data[];
static bool looking, breached;
static uint64_t looks;

UNSEEN static void collect(void)
{
    if (tarn_gc() != TARN_OK)
        abort();
}

UNSEEN static void look(void *fn)
{
    if (!looking)
        return;
    looking = false; /* for what this calls itself */
    uintptr_t sp = (uintptr_t)__builtin_frame_address(0);
    uintptr_t size = getg()->stack.hi - sp;
    for (const uintptr_t *w = __start_csmith_data; w < __stop_csmith_data; w++)
        if (*w - sp < size) {
            breached = true;
            fprintf(stderr,
                    "host: breach: global at %p has the address of a local: "
                    "%#lx, seen in the function at %p\n",
                    (const void *)w, (unsigned long)*w, fn);
            collect();
            fprintf(stderr, "host: stackescape does not name it\n");
            exit(3);
        }
    /* It must be content, too, as long as we are. */
    looks++;
    if (looks > MANY_LOOKS) {
        fprintf(stderr, "host: too many calls\n");
        exit(4);
    }
    if ((looks & (looks - 1)) == 0)
        collect();
    looking = true;
}

UNSEEN void __cyg_profile_func_enter(void *fn, void *site);
UNSEEN void __cyg_profile_func_enter(void *fn, void *site)
{
    (void)site;
    look(fn);
}

UNSEEN void __cyg_profile_func_exit(void *fn, void *site);
UNSEEN void __cyg_profile_func_exit(void *fn, void *site)
{
    (void)site;
    look(fn);
}
#else
static bool looking;
#endif

/* Collections all the time, while the program runs: it is stopped between any
 * two instructions, scanned, and at its next prologue shrunk. */
static void collector(void *unused)
{
    (void)unused;
    while (!atomic_load_explicit(&done, memory_order_relaxed)) {
        if (tarn_gc() != TARN_OK)
            abort();
        tarn_yield();
    }
}

/* A function of its own: no frame that stays shall have the address of the
 * stack's end, for which it would not be shrunk. */
__attribute__((noinline)) static size_t stack_left(void)
{
    struct g *gp = getg();
    return (uintptr_t)__builtin_frame_address(0) - gp->stack.lo - stack_guard;
}

/* In small steps: what is large lies beside the stack if it does not fit. */
__attribute__((noinline)) static int go_down(void)
{
    volatile char used[200];
    used[0] = used[sizeof used - 1] = 1;
    size_t left = stack_left();
    int st;
    if (left > room + 2 * sizeof used && left < STACK_MIN) {
        st = go_down();
    } else {
        looking = true;
        st = csmith_main(1, no_args);
        looking = false;
    }
    return st + used[0] - used[sizeof used - 1];
}

static void start(void *unused)
{
    (void)unused;
    if (getg()->kind != STACK_COPYING)
        abort();
    if (options.gcstress != 0 && tarn_go(collector, NULL) != TARN_OK)
        abort();
    status = go_down();
    atomic_store(&done, true);
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return 2;
    if (strcmp(argv[1], "plain") == 0)
        return csmith_main(1, no_args);
    room = strtoul(argv[1], NULL, 10);
    if (tarn_main(NULL, start, NULL) != TARN_OK)
        return 2;
    struct tarn_gc_stats gc = {.struct_size = sizeof(gc)};
    tarn_gc_stats(&gc);
    fprintf(stderr, "host: moves=%llu grows=%llu shrinks=%llu cycles=%llu\n",
            (unsigned long long)stack_stats.copies,
            (unsigned long long)stack_stats.grows_in_place,
            (unsigned long long)stack_stats.shrinks,
            (unsigned long long)gc.cycles);
    return status;
}
