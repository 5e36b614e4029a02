/* tarn/preempt.h - asynchronous preemption: which text it may happen in, signals
 * of the host program, what happened.
 *
 * A goroutine that runs too long, or that the collector wants to look at, is
 * stopped by a signal to its thread, between any two instructions of managed
 * text. Managed is
 *
 *   - a function that begins with a split-stack prologue (-fsplit-stack), if its
 *     module has .eh_frame_hdr, as linkers make it;
 *   - all text of a source file that was compiled with -include tarn/managed.h
 *     (which tarn_managed_sources() and managed_cflags do);
 *   - a range registered here.
 *
 * Everywhere else (the runtime, libc, other libraries) it waits for the next
 * function prologue or call of the runtime. docs/embedding.md says what managed
 * code must not do.
 */
#ifndef TARN_PREEMPT_H_
#define TARN_PREEMPT_H_

#include "tarn/defs.h"

TARN_BEGIN_DECLS

/* Generated code. Goroutines may be stopped at each instruction in [lo, hi), as
 * soon as the call returns. The code keeps to the C calling convention: 128
 * bytes below rsp are its own, and every pointer to an object that it needs is
 * in a register or on the stack. TARN_EINVAL: an empty range, or one that
 * overlaps another registered one. TARN_ENOMEM. foreign. */
TARN_API tarn_status tarn_text_register(const void *lo, const void *hi);
/* With the bounds of a registered range; TARN_EINVAL if there is none. When it
 * returns no goroutine will be stopped there any more; those that are stopped
 * there go on there. foreign. */
TARN_API tarn_status tarn_text_unregister(const void *lo, const void *hi);

/* Gives a signal to the runtime: for handlers that the host program installed
 * after tarn_main had begun, over those of the runtime, for the signal of the
 * option preemptsig, SIGSEGV or SIGBUS. info and context are the handler's own
 * arguments (SA_SIGINFO | SA_ONSTACK); the runtime may change *context, so it
 * must be the last that does. True: the runtime waited for this signal (the
 * host may have waited for one too: signals that are pending merge). A stack
 * overflow ends the process. foreign, signal. */
TARN_API bool tarn_signal(int sig, void *info, void *context);

/* Why a request to stop at the interrupted instruction was refused, in the
 * order in which it is asked. X(name, "text") */
#define TARN_ASYNC_REFUSALS(X)                                                 \
    X(switched_off, "asynchronous preemption is off")                          \
    X(scheduler, "the thread is in the scheduler")                             \
    X(no_processor, "the thread has no P")                                     \
    X(locks, "the runtime holds the goroutine on its thread")                  \
    X(p_status, "the P is not running")                                        \
    X(system, "a goroutine of the runtime")                                    \
    X(stack_growth, "the stack must not be touched now")                       \
    X(stack_bounds, "the stack pointer is not in the goroutine's stack, or "   \
                    "too low in it")                                           \
    X(no_buffer, "no memory to keep the registers in")                         \
    X(forked, "in a child of fork")                                            \
    X(unknown_text, "unknown text")                                            \
    X(unmanaged_text, "not managed text")

/* How signals that ask goroutines to stop have fared. */
struct tarn_preempt_stats {
    size_t struct_size; /* set by the caller: sizeof(*stats) */
    uint64_t sent;      /* signals to threads */
    uint64_t coalesced; /* not sent: one was under way to that thread */
    uint64_t failed;    /* the kernel refused: the thread had ended */
    uint64_t received;  /* handled on threads of the runtime */
    uint64_t foreign;   /* handled on other threads */
    uint64_t unwanted;  /* nothing was asked of the goroutine any more */
    uint64_t injected;  /* the goroutine stopped where it was */
    uint64_t restarted; /* of these, at the start of an unsafe sequence */
    /* refused_<name>: one for each reason */
#define TARN_REFUSAL_FIELD_(name, text) uint64_t refused_##name;
    TARN_ASYNC_REFUSALS(TARN_REFUSAL_FIELD_)
#undef TARN_REFUSAL_FIELD_
};

/* Since the start of the process. TARN_EINVAL: bad struct_size. foreign. */
TARN_API tarn_status tarn_preempt_stats(struct tarn_preempt_stats *stats);

TARN_END_DECLS
#endif
