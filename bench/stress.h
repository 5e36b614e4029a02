/* bench/stress.h - tarn-stress: goroutines that hold the only references to what
 * they check in every place where the collector has to look.
 *
 *   stress_main.c    options
 *   stress_modes.c   modes of the runtime, breakages, random choices of a round
 *   stress_parent.c  rounds: one child process each; progress, verdict, JSON
 *   stress_child.c   one round: options, signals, main goroutine, last checks
 *   stress_shape.c   structures of known shape, and what to do while they are held
 *   stress_hold.c    assembly that holds a reference in one register only
 *   stress_native.c  the same across native calls; threads that attach
 *   stress_behave.c  what goroutines do; stress_stacks.c with their stacks,
 *   stress_graph.c   with what all of them share, stress_roots.c with roots
 *
 * shape, hold, behave, stacks, graph and roots are compiled for copying stacks and may be
 * stopped at any instruction.
 *
 * How a lost object shows: its memory is free (tarn_object_base), or is something
 * else by now (magic, number, checksum). A holder waits for two collections that
 * began and ended while it held.
 */
#ifndef TARN_BENCH_STRESS_H_
#define TARN_BENCH_STRESS_H_

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tarn/tarn.h"

#define PROGRAM "tarn-stress"

/* X(name, "what") */
#define BEHAVIOURS(X)                                                          \
    X(recurse, "recursion; each frame holds a structure and writes to others") \
    X(locals, "pointers to locals passed down and written through")            \
    X(grow, "fresh stacks that grow, with registers that point into them")     \
    X(yield, "a local holds the only reference over yields, sleeps, calls")    \
    X(callee, "a callee-saved register of a caller does")                      \
    X(argument, "an argument register does, when a prologue stops")            \
    X(register, "a register of a loop without calls does")                     \
    X(vector, "a vector register of such a loop does")                         \
    X(redzone, "memory below the stack pointer does")                          \
    X(interior, "a pointer into the middle of the object does")                \
    X(pastend, "a pointer one past its end does")                              \
    X(alloca, "an alloca block does")                                          \
    X(operand, "the operand of a blocked operation does")                      \
    X(native, "registers over native calls, their argument, callbacks do")     \
    X(attach, "threads that attach, hold, detach")                             \
    X(block, "channels, select, mutexes, semaphores pass structures on")       \
    X(spin, "loops without calls compute checksums")                           \
    X(spawn, "goroutines whose argument is the only reference")                \
    X(roots, "globals and added root ranges do")                               \
    X(timer, "timers do")                                                      \
    X(graph, "a shared board and a shared list, changed all the time")
enum behaviour {
#define BEHAVIOUR_ENUM_(name, what) DO_##name,
    BEHAVIOURS(BEHAVIOUR_ENUM_)
#undef BEHAVIOUR_ENUM_
        DO_COUNT
};
extern const char *const behaviour_names[DO_COUNT];

#define MAX_GOROUTINES 10000

/* One round. */
struct stress_plan {
    uint64_t seed;
    double seconds;
    int64_t procs, goroutines;
    uint32_t behaviours; /* bits */
    uint32_t modes;      /* bits, see stress_modes.c */
    int breakage;        /* -1: none */
    char tarn[512];      /* the modes as options of the runtime */
};
extern struct stress_plan plan;

/* In memory that parent and child share. */
struct stress_report {
    _Atomic uint64_t done[DO_COUNT];
    _Atomic uint64_t collections, checks;
    char failure[512];
};
extern struct stress_report *report;

/* --- stress_modes.c ---------------------------------------------------------- */

/* A comma list into bits; false: *bad names the part that is none. */
bool modes_parse(const char *list, uint32_t *bits, bool *random,
                 const char **bad);
bool behaviours_parse(const char *list, uint32_t *bits, const char **bad);
void modes_names(uint32_t bits, char *buf, size_t len); /* "none" for none */
void behaviours_names(uint32_t bits, char *buf, size_t len);
void modes_list(void); /* to stdout, for --help */
uint32_t modes_random(uint64_t *rng);
/* Their values follow from the seed. */
void modes_options(uint32_t bits, uint64_t seed, char *buf, size_t len);
int breakage_by_name(const char *name); /* -1: none such */
const char *breakage_name(int b);
void breakages_list(void);
void breakage_apply(int b);
/* How the main goroutine brings a round to an untimely end. */
enum stress_end { END_NORMAL, END_CRASH, END_KILL, END_HANG };
extern uint32_t stress_end;

/* --- stress_parent.c ---------------------------------------------------------- */

struct stress_run {
    uint64_t seed;
    double seconds, round;
    double patience; /* after the end of a round, until it counts as hanging */
    int64_t rounds, procs, goroutines; /* 0: by time; random */
    uint32_t behaviours, modes;
    bool random_modes;
    int breakage;
    const char *json;
    const char *program;
};
int stress_run(const struct stress_run *r); /* the exit status */

/* --- stress_child.c ----------------------------------------------------------- */

void stress_child(void) __attribute__((noreturn));
/* The end of the round, and of the process: what was wrong with number id, which
 * p pointed to. */
void stress_fail(const char *what, const char *why, uint64_t id, const void *p)
    __attribute__((noreturn, cold));
/* Loops without calls can be stopped; prologues ask; stacks are copied. */
extern bool stress_async, stress_checked, stress_copying;

/* --- stress_shape.c ----------------------------------------------------------- */

/* Collections completed. Assembly reads it. */
extern uint64_t stress_epoch;
static inline uint64_t epoch_now(void)
{
    return __atomic_load_n(&stress_epoch, __ATOMIC_RELAXED);
}
/* Until when to hold what was put where it is held just now. */
static inline uint64_t hold_end(void)
{
    return epoch_now() + 2;
}
extern _Atomic bool stress_stop;

#ifdef __clang__
#define NI __attribute__((noinline))
#else
#define NI __attribute__((noinline, noclone))
#endif

static inline uint64_t stress_mix(uint64_t h, uint64_t v)
{
    h = (h ^ v) * UINT64_C(0x9E3779B97F4A7C15);
    return h ^ (h >> 29);
}
static inline uint64_t stress_rand(uint64_t *s)
{
    uint64_t x = *s;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *s = x;
    return x * UINT64_C(0x2545F4914F6CDD1D);
}
static inline uint32_t stress_below(uint64_t *s, uint32_t n)
{
    return (uint32_t)((stress_rand(s) >> 32) * n >> 32);
}
static inline uint64_t stress_seed(uint64_t n)
{
    uint64_t s = stress_mix(plan.seed, n);
    return s != 0 ? s : 1;
}

/* The first object of a structure. Pointers to it lie in slots: the functions
 * take the address of one, so that no other copy is left with the caller. */
#define CELL_SIZE 64
struct cell {
    uint64_t magic, id, index, sum;
    struct cell *next, *root;
    unsigned char *blob;
    uint64_t blob_size;
};
#define CELL_MAGIC UINT64_C(0x7461726e2d73742d)

void shapes_init(void);
uint64_t shape_id(void); /* a new number */
void shape_build(void **slot, uint64_t id);
void shape_check(void *const *slot, uint64_t id, const char *where);
uint64_t cell_sum(uint64_t id, uint64_t index, uint64_t blob_size);

/* Steps of waiting: each lets something happen, and returns. */
typedef void (*wait_fn)(void);
wait_fn wait_begin(uint64_t *rng); /* any one */
void wait_end(wait_fn step);
void wait_until(uint64_t epoch, uint64_t *rng); /* NULL: by tarn_yield */
/* Who does not let others run: not on all Ps at a time. */
bool spin_begin(void);
void spin_end(void);
void collector_main(void *unused); /* until collector_stop */
void gc_collect_young(void);       /* the runtime's own, not public */
extern _Atomic bool collector_stop;

/* --- stress_hold.c, stress_native.c ------------------------------------------- */

/* Each takes the pointer out of *slot, holds it until that epoch in one place, and
 * puts it back. */
typedef void (*hold_fn)(void **slot, uint64_t until);
hold_fn hold_general(uint64_t *rng, const char **name);
hold_fn hold_vector(uint64_t *rng, const char **name);
hold_fn hold_red_zone(uint64_t *rng, const char **name);
hold_fn hold_argument(uint64_t *rng, const char **name);
/* Six slots, in the callee-saved registers, over calls of step. */
void hold_callee(void **slots, wait_fn step, uint64_t until);
/* tarn_chan_send(c, *slot), without a copy in the caller. */
tarn_status hold_operand(void **slot, tarn_chan *c);
/* All callee-saved registers point to a local; fn; do they still? 0: yes. */
uint64_t hold_moved(wait_fn fn);
/* As hold_callee, in native code. */
void hold_native(void **slots, uint64_t until);
/* As the argument of a native call, which checks it; with callback: calls back. */
void hold_native_call(void **slot, bool callback);
/* A thread that attaches, calls fn(arg) and ends; returns when it has. */
void attached_call(tarn_fn fn, void *arg);

/* --- what goroutines do ---------------------------------------------------------- */

typedef void (*behave_fn)(uint64_t *rng);
#define BEHAVIOUR_DECL_(name, what) void behave_##name(uint64_t *rng);
BEHAVIOURS(BEHAVIOUR_DECL_)
#undef BEHAVIOUR_DECL_
void worker_main(void *index);
void behave_init(void); /* on the main goroutine */
void block_init(void);
void graph_init(void);
void graph_check(void); /* when nobody changes it */
/* Goroutines that workers started. */
extern tarn_waitgroup stress_workers, stress_children;

#endif
