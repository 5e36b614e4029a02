/* tarn/sched.h - goroutines, time. */
#ifndef TARN_SCHED_H_
#define TARN_SCHED_H_

#include "tarn/defs.h"
#include "tarn/options.h"

TARN_BEGIN_DECLS

/* Starts the runtime and runs fn(arg) as its first goroutine; returns when fn
 * does. The calling thread serves as one of the runtime's threads meanwhile.
 * Goroutines that are left stay frozen; a later tarn_main in the same process
 * thaws them (its options are then ignored but for being checked). NULL options
 * mean defaults; the environment variable TARN is applied over them.
 * TARN_EOPTION for a bad option, TARN_ESTATE when already running or when a
 * goroutine that is left is locked to another thread, that of the last tarn_main;
 * TARN_ENOMEM or TARN_ESYS when the kernel refuses memory or the first thread; a
 * thread that it refuses later ends the process with a message.
 * With TARN=help the options are printed and the process exits with 0. */
TARN_API tarn_status tarn_main(const struct tarn_options *options, tarn_fn fn,
                               void *arg);

/* What tarn_go_with may be told of a goroutine; all zero: as tarn_go. */
struct tarn_go_attr {
    enum tarn_stacks stacks; /* AUTO: as the option `stacks` says */
    size_t stack_size;       /* fixed: its size; copying: its first size;
                                0 = default; rounded up */
};

/* Starts fn(arg) as a goroutine. arg is kept alive until fn has it. Allocates
 * no managed memory, may preempt, on a goroutine only. TARN_ENOMEM (a copying
 * stack of default size is taken only when fn begins to run: if there is no
 * memory for it then, and none can be had from goroutines that wait, the process
 * ends with a message),
 * TARN_EINVAL (fn NULL; a copying stack forced on code without the split-stack
 * prologue), TARN_ESTATE. */
TARN_API tarn_status tarn_go(tarn_fn fn, void *arg);
TARN_API tarn_status tarn_go_with(const struct tarn_go_attr *attr, tarn_fn fn,
                                  void *arg);

/* Lets other goroutines run; the caller goes to the end of the queue. blocks,
 * preempts. */
TARN_API void tarn_yield(void);
/* A safe point and nothing else: returns at once unless the caller is asked to
 * stop. For long loops on fixed stacks. preempts. */
TARN_API void tarn_poll(void);
/* The calling goroutine's number, > 0 and never reused; 0 when not on one.
 * foreign. */
TARN_API uint64_t tarn_self(void);
/* Ends the calling goroutine. Does not return. */
TARN_API void tarn_goexit(void) __attribute__((noreturn));
/* Goroutines that exist now; Ps that run them. foreign. */
TARN_API size_t tarn_goroutines(void);
TARN_API size_t tarn_procs(void);
/* From its return on n Ps (1 to 1024) run goroutines, also in a later tarn_main;
 * option maxprocs only says how many there are at first. Stops the world, for longer
 * the more Ps come to an end; nothing that was under way on them is lost, and what
 * they take of memory is kept for when they are wanted again. blocks, preempts.
 * TARN_EINVAL: n is outside 1 to 1024; TARN_ESTATE: not on a goroutine, or the
 * caller has stopped the world; TARN_ENOMEM; TARN_ELIMIT: more threads might be
 * wanted than option maxthreads allows. The number is as it was then. */
TARN_API tarn_status tarn_set_procs(int n);

/* Stops all other goroutines, attached threads and the collector, each at a safe
 * point or in a native call; returns when they stand still. Until
 * tarn_world_start the caller may read and write memory, but must not block,
 * yield, end, make native calls or return from a callback (which ends the
 * process with a message); allocation, tarn_gc and tarn_thread_detach fail. For heap walks, debuggers, code patching. blocks,
 * preempts. TARN_ESTATE: not on a goroutine; stopped by the caller already.
 * tarn_world_start is by the goroutine that stopped it. */
TARN_API tarn_status tarn_world_stop(void);
TARN_API tarn_status tarn_world_start(void);

/* Monotonic clock in nanoseconds. foreign, signal. */
TARN_API int64_t tarn_now(void);
/* Parks the caller for at least ns nanoseconds (<= 0: a yield). blocks. */
TARN_API void tarn_sleep(int64_t ns);

/* A timer, known by its address only. */
typedef struct tarn_timer tarn_timer;

/* After at least ns nanoseconds starts fn(arg) as a goroutine. Returns a
 * managed object, or NULL; a running timer keeps itself and arg alive.
 * allocates. */
TARN_API tarn_timer *tarn_timer_start(int64_t ns, tarn_fn fn, void *arg);
/* True if it was stopped before it fired. */
TARN_API bool tarn_timer_stop(tarn_timer *t);

TARN_END_DECLS
#endif
