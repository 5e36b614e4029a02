/* sched/trace.h - what happened last on each P: for reports of failures.
 *
 * Each P has a ring of the last TRACE_EVENTS events, written by the thread that
 * holds the P; what threads without one do goes to a ring of its own. It is on
 * with the option trace, and in debug builds: a time stamp costs as much as half a
 * yield. Switched off, an event is a test of a word.
 *
 * Rings are read only when the process is about to end, while others go on: an
 * event that is being written may come out torn. */
#ifndef TARN_SCHED_TRACE_H_
#define TARN_SCHED_TRACE_H_

#include "base/base.h"

/* X(name, "text", "meaning of the first word", "of the second"); NULL: none */
#define TRACE_KINDS(X)                                                         \
    X(EXECUTE, "runs", "m", "inherits slice")                                  \
    X(PARK, "parks", "reason", NULL)                                           \
    X(READY, "is made ready", "by g", NULL)                                    \
    X(PREEMPT, "is preempted", NULL, NULL)                                     \
    X(ASYNC, "is interrupted", "pc", NULL)                                     \
    X(STOP, "stops for a scan", NULL, NULL)                                    \
    X(NATIVE_ENTER, "enters a native call", "sp", NULL)                        \
    X(NATIVE_LEAVE, "leaves a native call", NULL, NULL)                        \
    X(STACK, "has its stack moved", "old size", "new size")                    \
    X(SUSPEND, "is held", "status", "stopped for it")                          \
    X(SCAN, "is scanned", "sp", "bytes")                                       \
    X(GO, "is started", "by g", NULL)                                          \
    X(EXIT, "ends", NULL, NULL)                                                \
    X(STW_ASK, "asks for a stop of the world", NULL, NULL)                     \
    X(STW_STOPPED, "has stopped the world", "ns", NULL)                        \
    X(STW_START, "starts the world", NULL, NULL)                               \
    X(MARK, "begins a collection", "number", "full")                           \
    X(MARKTERM, "has marked everything", NULL, NULL)                           \
    X(SWEEP, "sweeps", NULL, NULL)                                             \
    X(SWEPT, "has swept everything", NULL, NULL)                               \
    /* For the timeline only: */                                               \
    X(RELEASE, "gives up its P", NULL, NULL)                                   \
    X(ASSIST, "assists", NULL, NULL)                                           \
    X(ASSISTED, "has assisted", NULL, NULL)
enum trace_kind {
#define TRACE_ENUM_(name, text, a, b) TRACE_##name,
    TRACE_KINDS(TRACE_ENUM_)
#undef TRACE_ENUM_
};

#define TRACE_EVENTS 64u

struct trace_event {
    uint64_t tsc;
    uint64_t goid_kind; /* goid << 8 | kind */
    uint64_t a, b;
};

struct trace_ring {
    uint64_t n; /* events ever */
    struct trace_event e[TRACE_EVENTS];
};

struct g;
/* What events are for, as bits; TIMELINE changes with the world stopped.
 * Said to be hidden, it is compared where it lies, without its address. */
#define TRACE_ON_RINGS 1u
#define TRACE_ON_TIMELINE 2u /* timeline.h */
extern uint32_t trace_on __attribute__((visibility("hidden")));
void trace_init(void); /* after the options are known */
COLD void trace_event_slow(enum trace_kind kind, struct g *gp, uint64_t a,
                           uint64_t b);
ALWAYS_INLINE void trace_event(enum trace_kind kind, struct g *gp, uint64_t a,
                               uint64_t b)
{
    if (unlikely(__atomic_load_n(&trace_on, __ATOMIC_RELAXED) != 0))
        trace_event_slow(kind, gp, a, b);
}

/* The goroutine that trace_print is about, if it is not the running one. */
void trace_blame(uint64_t goid);
/* To stderr: the rings of all Ps, and what they say of the goroutine at fault, in
 * the order in which it happened. signal. */
void trace_print(void);

#endif
