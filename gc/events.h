/* gc/events.h - telling listeners. Nothing but a load where there are none. */
#ifndef TARN_GC_EVENTS_H_
#define TARN_GC_EVENTS_H_

#include "gc/gc.h"
#include "tarn/events.h"

extern _Atomic uint32_t gc_listeners;
ALWAYS_INLINE bool events_wanted(void)
{
    return unlikely(atomic_load_explicit(&gc_listeners, memory_order_relaxed) !=
                    0);
}

enum gc_event { EVENT_BEGIN, EVENT_MARKED, EVENT_END };
void event_gc(enum gc_event which, bool forced);
void event_stopped(enum tarn_stop_kind kind, int64_t ns, int64_t stopping_ns);
void event_resized(uint64_t least); /* if it differs by so much */
void event_go(uint64_t goid, bool begins);
void event_alloc_failed(size_t size);

#endif
