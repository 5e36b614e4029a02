/* sched/timeline.h - events for a file, by those who run: chunks of them, filled by
 * the holder of a P, written by a thread of their own. See tarn/trace.h.
 *
 * A chunk belongs to one track. That of a P is its holder's, so that an event costs
 * a time stamp and four stores. Events of the collector and of stops come from any
 * P, but seldom: one chunk, under the lock. Full chunks wait in a list for the
 * writer, which gives them back. If none is free the filler begins its own anew:
 * what was in it is lost, and counted.
 *
 * Locks: timeline.lock (RANK_LEAF). */
#ifndef TARN_SCHED_TIMELINE_H_
#define TARN_SCHED_TIMELINE_H_

#include "base/lock.h"
#include "sched/trace.h"

#define TIMELINE_EVENTS 1022u
#define TIMELINE_CHUNKS 256u /* beside one for each track: 8 MiB */
#define TIMELINE_SHARED UINT32_MAX

struct timeline_chunk {
    struct timeline_chunk *next;
    uint32_t track; /* P, or TIMELINE_SHARED: collector and stops */
    uint32_t n;
    uint64_t lost; /* events before the first one */
    struct trace_event e[TIMELINE_EVENTS];
};

struct timeline {
    struct mutex lock;
    struct timeline_chunk *free, *full, **full_end;
    struct timeline_chunk *shared; /* of the track TIMELINE_SHARED */
    uint32_t made;                 /* chunks */
    uint64_t lost; /* events of Ps that got no chunk to begin with */
    /* The writer's, once it has begun. */
    int fd;
    char *path;
    uint64_t tsc, ns; /* when it began */
    uint64_t end_tsc;
    _Atomic bool ending, written;
    int error; /* errno of the first failure */
};
extern struct timeline timeline;

struct p;
struct g;
/* By trace_event_slow, with the P that it is on, or NULL. */
void timeline_event(enum trace_kind kind, struct p *pp, const struct g *gp,
                    uint64_t a, uint64_t b);
/* There will be n Ps: chunks for them, if one is being recorded. By a goroutine. False:
 * no memory. */
bool timeline_reserve(uint32_t n);
void timeline_p_end(struct p *pp); /* world stopped: it runs nothing any more */
void *timeline_writer(void *unused); /* timeline_write.c: the thread */

/* World stopped, before the first goroutine of tarn_main and after its end:
 * TARN_TRACEFILE; the end of whatever is being made. */
void timeline_main_begin(void);
void timeline_main_end(void);

#endif
