/* tarn/options.h - every option, once.
 *
 * The same table makes struct tarn_options, its defaults, the parser of the
 * environment variable TARN ("TARN=gcpercent=200,gctrace=1") and TARN=help.
 * The environment wins over the struct.
 *
 * Kinds: BOOL 0|1; COUNT a whole number; SIZE bytes, with KiB, MiB, GiB or TiB
 * behind it if wanted; DURATION milliseconds, or with ns, us, ms or s behind it
 * (kept in nanoseconds); STACKS auto|copying|fixed; OOM null|throw.
 */
#ifndef TARN_OPTIONS_H_
#define TARN_OPTIONS_H_

#include "tarn/defs.h"

/* X(name, KIND, default, min, max, "help") */
#define TARN_OPTIONS_TABLE(X)                                                  \
    X(maxprocs, COUNT, 0, 0, 1024,                                             \
      "Ps: goroutines that run at once; 0 = one for each usable CPU")          \
    X(maxthreads, COUNT, 10000, 4, 1000000,                                    \
      "threads of the runtime, with attached ones; more end the process")      \
    X(gcpercent, COUNT, 100, 10, 100000,                                       \
      "heap growth, in percent of live, that starts a collection")             \
    X(memlimit, SIZE, 0, 0, INT64_C(1) << 46,                                  \
      "memory to keep to, stacks and all counted; soft; 0 = no limit")         \
    X(generational, BOOL, 1, 0, 1,                                             \
      "between full collections, some of young objects only")                  \
    X(gcoff, BOOL, 0, 0, 1, "collect only when tarn_gc asks for it")           \
    X(heapmin, SIZE, 4 << 20, 64 << 10, INT64_MAX,                             \
      "heap size below which no collection starts by itself")                  \
    X(heapmax, SIZE, INT64_C(1) << 40, 16 << 20, INT64_C(1) << 44,             \
      "address space reserved for the managed heap: its upper limit")          \
    X(oom, OOM, 0, 0, 1,                                                       \
      "when memory runs out: null = the call fails, throw = the process ends") \
    X(stacks, STACKS, 0, 0, 2,                                                 \
      "kind of goroutine stacks: auto (by entry bytes), copying, fixed")       \
    X(stackmax, SIZE, INT64_C(256) << 20, 64 << 10, INT64_C(1) << 36,          \
      "largest size a copying stack may reach")                                \
    X(fixedstack, SIZE, 256 << 10, 64 << 10, INT64_C(1) << 36,                 \
      "size of a fixed stack (reserved; committed as it is touched)")          \
    X(gctrace, BOOL, 0, 0, 1, "a line on stderr for each collection")          \
    X(checkmark, BOOL, 0, 0, 1,                                                \
      "re-mark with the world stopped after each mark; throw on a miss")       \
    X(clobberfree, BOOL, 0, 0, 1,                                              \
      "fill freed objects with 0xdeadbeefdeadbeef")                            \
    X(gcstress, COUNT, 0, 0, INT64_MAX,                                        \
      "start a collection every N allocations; 0 = never")                     \
    X(stackmove, BOOL, 0, 0, 1,                                                \
      "move a copying stack at every function prologue that checks")           \
    X(stackpoison, BOOL, 0, 0, 1,                                              \
      "keep a copying stack that was left from all use for a while: closed")   \
    X(stackshrink, BOOL, 0, 0, 1,                                              \
      "freeze or shrink every copying stack that a scan finds movable")        \
    X(preemptat, COUNT, 0, 0, 1000000,                                         \
      "preempt at one of N prologues, by the seed; 1 = at each; 0 = never")    \
    X(stackescape, BOOL, 0, 0, 1,                                              \
      "look for pointers into copying stacks after each mark; throw on one")   \
    X(droppreempt, COUNT, 0, 0, 100,                                           \
      "percent of preemption requests to lose on purpose")                     \
    X(delays, COUNT, 0, 0, 100000,                                             \
      "longest random delay, in us, at marked protocol steps; 0 = none")       \
    X(asyncpreempt, BOOL, 1, 0, 1,                                             \
      "stop goroutines between any two instructions of managed text")          \
    X(preemptsig, COUNT, 23, 1, 64,                                            \
      "number of the signal for it; 23 = SIGURG")                              \
    X(stwwatch, DURATION, 0, 0, INT64_C(3600000000000),                        \
      "report what holds up a stop of the world for longer; 0 = never")        \
    X(trace, BOOL, 0, 0, 1,                                                    \
      "record the last events of each P; a crash prints them")                 \
    X(deadlock, BOOL, 1, 0, 1,                                                 \
      "in tarn_main, report when every goroutine is blocked forever")          \
    X(seed, COUNT, 0, 0, INT64_MAX,                                            \
      "seed of all runtime randomness; 0 = from the clock")                    \
    X(gcperiod, DURATION, INT64_C(120000000000), 0, INT64_MAX,                 \
      "longest time without a collection if anything was allocated; 0 = any")  \
    X(pretouch, SIZE, 8 << 20, 0, INT64_C(1) << 30,                            \
      "fresh memory made resident before it is needed, at most; 0 = none")     \
    X(barriercheck, BOOL, 0, 0, 1,                                             \
      "look for pointers stored without a barrier after each mark; throw")

TARN_BEGIN_DECLS

/* Kinds of stacks of goroutines. */
enum tarn_stacks {
    TARN_STACKS_AUTO,    /* copying where the function begins with a check */
    TARN_STACKS_COPYING, /* that grow by moving */
    TARN_STACKS_FIXED,   /* of one size for good */
};
/* What happens when memory runs out. */
enum tarn_oom {
    TARN_OOM_NULL,  /* the call returns NULL */
    TARN_OOM_THROW, /* the process ends with a message */
};

/* Fill with tarn_options_init, change what you want, pass to tarn_main. */
struct tarn_options {
    size_t struct_size; /* set by tarn_options_init */
#define TARN_OPTIONS_FIELD_(name, kind, def, min, max, help) int64_t name;
    TARN_OPTIONS_TABLE(TARN_OPTIONS_FIELD_)
#undef TARN_OPTIONS_FIELD_
};

/* Sets every field to its default. foreign, signal. */
TARN_API void tarn_options_init(struct tarn_options *o);

/* Applies "name=value,name=value" to *o. Returns TARN_EOPTION, with the
 * offender named by tarn_last_error, and *o unchanged, if any part is unknown,
 * malformed or out of range. foreign. */
TARN_API tarn_status tarn_options_parse(struct tarn_options *o,
                                        const char *text);

TARN_END_DECLS
#endif
