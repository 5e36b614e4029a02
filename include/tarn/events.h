/* tarn/events.h - being told what the runtime does.
 *
 * A listener is a set of functions, any of them NULL. They are called where the event is,
 * in the order in which listeners were added, and are to be quick: what waits for the
 * event waits for them. They may call of this library only what may be called in a
 * signal handler, need no more than 4 KiB of stack, and must not touch managed objects, block, or end the goroutine; what
 * they note may be looked at by a goroutine later.
 */
#ifndef TARN_EVENTS_H_
#define TARN_EVENTS_H_

#include "tarn/defs.h"

TARN_BEGIN_DECLS

/* What a stop of the world was for. */
enum tarn_stop_kind {
    TARN_STOP_OTHER,    /* tarn_world_stop, or the runtime's own reasons */
    TARN_STOP_GC_START, /* a mark began */
    TARN_STOP_GC_TERM,  /* a mark ended, or was to end and goes on */
};

/* The state of a collection, at its events. */
struct tarn_gc_event {
    uint64_t cycle;      /* its number, from 1 */
    bool full;           /* not of young objects only */
    bool forced;         /* by tarn_gc or tarn_gc_step */
    uint64_t heap_bytes; /* live or not yet swept */
    uint64_t
        goal_bytes; /* where marking is to end; for the next one, when swept */
};

/* Add by tarn_listener_add, which copies it. */
struct tarn_listener {
    size_t struct_size; /* sizeof(struct tarn_listener) */
    void *arg;          /* the first argument of each call */
    /* A collection begins; by the collector, the world runs. */
    void (*gc_begin)(void *arg, const struct tarn_gc_event *e);
    /* Its mark is complete: the second stop is over. */
    void (*gc_marked)(void *arg, const struct tarn_gc_event *e);
    /* All is swept: it has ended. */
    void (*gc_end)(void *arg, const struct tarn_gc_event *e);
    /* The world was stopped, and runs again: for how long, and for how long of it not
     * everybody stood still yet. */
    void (*stopped)(void *arg, enum tarn_stop_kind kind, int64_t ns,
                    int64_t stopping_ns);
    /* The memory that the heap has from the system, metadata included, is another
     * than at the last call: by a MiB at least, or at the end of a collection. */
    void (*resized)(void *arg, uint64_t mapped_bytes);
    /* A goroutine is about to exist, or a thread is attached; by its maker. */
    void (*go_begin)(void *arg, uint64_t goid);
    /* It has ended, or the thread detached. */
    void (*go_end)(void *arg, uint64_t goid);
    /* There is no memory for so many bytes, and neither collections nor the handler
     * (tarn_set_oom_handler) have helped. */
    void (*alloc_failed)(void *arg, size_t size);
};

/* At most so many listeners at a time. */
#define TARN_LISTENERS_MAX 16

/* The number of the listener in *id. TARN_EINVAL: no listener, a struct_size that is
 * not known; TARN_ELIMIT. foreign; may precede tarn_main. */
TARN_API tarn_status tarn_listener_add(const struct tarn_listener *listener,
                                       uint32_t *id);
/* None of its functions runs when this returns; not to be called by one. TARN_EINVAL:
 * there is no such listener. foreign. */
TARN_API tarn_status tarn_listener_remove(uint32_t id);

TARN_END_DECLS
#endif
