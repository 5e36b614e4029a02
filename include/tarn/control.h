/* tarn/control.h - the collector's settings while the program runs, collection in
 * steps, what to do when memory runs out, memory beside the heap.
 *
 * For goroutines (attached threads among them), but where said; elsewhere they return
 * TARN_ESTATE. None blocks, preempts or moves the stack, unless said.
 */
#ifndef TARN_CONTROL_H_
#define TARN_CONTROL_H_

#include "tarn/defs.h"

TARN_BEGIN_DECLS

/* Options gcpercent and memlimit from now on, in percent and in bytes (0: no limit);
 * the same bounds hold (TARN_EINVAL). In force when the collection under way, if any,
 * has ended. */
TARN_API tarn_status tarn_set_gcpercent(int64_t percent);
/* The same for the limit, in bytes; 0: none. */
TARN_API tarn_status tarn_set_memlimit(int64_t bytes);
/* What is in force. foreign, signal. */
TARN_API int64_t tarn_gcpercent(void);
/* The limit; 0: none. foreign, signal. */
TARN_API int64_t tarn_memlimit(void);

/* No collection begins by itself until tarn_gc_enable was called as often; one under
 * way goes on. tarn_gc collects all the same, and so does allocation that finds no
 * memory. */
TARN_API tarn_status tarn_gc_disable(void);
/* TARN_EINVAL: it is enabled. */
TARN_API tarn_status tarn_gc_enable(void);

/* How far a collection in steps has come. */
enum tarn_step {
    TARN_STEP_BEGUN,    /* it has begun: barrier on, globals read */
    TARN_STEP_MARKING,  /* some was marked */
    TARN_STEP_MARKED,   /* the mark is complete; what is dead is known */
    TARN_STEP_SWEEPING, /* some was swept */
    TARN_STEP_DONE,     /* all was swept, the collection is over */
};

/* Takes a full collection one step further, beginning one if there is none, and says
 * which step it was. Nobody else marks or sweeps it but allocation that needs a place, so
 * with one P and a fixed seed a program repeats what it did: for tests of what stores
 * between two steps do. work bounds a step of marking, in bytes of objects; some more is
 * done, 0 is as little as can be. Collections that others ask for wait; tarn_gc, and
 * memory that runs out, end the stepping and complete it. TARN_ESTATE too: another goroutine is taking a step, or the
 * caller has stopped the world. blocks, preempts. did may be NULL. */
TARN_API tarn_status tarn_gc_step(size_t work, enum tarn_step *did);

/* Called by an allocation of size bytes for which there is no memory though all
 * garbage was collected, on its goroutine. It may do what goroutines may, but end
 * (tarn_goexit, tarn_thread_detach); allocation in it that fails returns NULL at once.
 * Others that find no memory wait until it has returned, so it must not wait for them.
 * True: something was let go of, collect and try again; false: option oom says what
 * happens. */
typedef bool (*tarn_oom_handler)(size_t size, void *arg);
/* NULL: none. Allocation that fails at the time may still call the one before. foreign. */
TARN_API tarn_status tarn_set_oom_handler(tarn_oom_handler handler, void *arg);

/* Called when the runtime ends the process, on a deadlock, a stack that overflows, memory
 * that is used up with oom=throw or an error of its own: once, after the message was
 * written, on the thread that found it, on 64 KiB of stack without checks, signals
 * blocked. Other threads run on and locks stay held, so it may do only what signal
 * handlers may: write out a buffer, say, with write(2). Its file must not be compiled as
 * managed code. A fault in it is told of; the process ends all the same. */
typedef void (*tarn_fatal_handler)(void);
/* NULL: none. Before tarn_main, too. foreign, signal. */
TARN_API void tarn_set_fatal_handler(tarn_fatal_handler handler);

/* Objects own more (delta > 0) or less memory outside of the heap than before, in bytes:
 * malloc'ed buffers, textures, files mapped. It counts for when collections begin and
 * for memlimit as if it were objects; whoever owns it says so when it is freed, in a
 * cleanup for instance. TARN_EINVAL: less than nothing is left, or more than 2^56 bytes;
 * TARN_ESTATE too: more, and the caller has stopped the world. Allocates, preempts and
 * moves as tarn_alloc does. */
TARN_API tarn_status tarn_external_bytes(int64_t delta);

TARN_END_DECLS
#endif
