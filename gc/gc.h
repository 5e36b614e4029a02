/* gc/gc.h - the collector: concurrent mark, concurrent sweep, and the runtime's
 * assembly of all layers (tarn_main, tarn_alloc).
 *
 * Owns: the phase, mark queues and workers, the write barrier's slow path and
 * its per-P buffers, roots, the driver goroutine that runs cycles, the pacer and
 * assists, the background thread, statistics, checkmark.
 *
 * A cycle, run by the driver goroutine:
 *   1. stop the world; flip the colour (all objects white, or the young ones);
 *      barrier on; count the roots; start the world
 *   2. scan the plain root ranges, then let workers, idle Ps and assists do the
 *      rest: barriered ranges, timers, cards (in a young collection: old objects
 *      that point to young ones), each goroutine's stack once, and what hangs on
 *      them
 *   3. nobody works and no work is to be seen: ragged barrier, each P hands in
 *      its barrier buffer and mark buffers; if there was anything, go on with 2
 *   4. stop the world; hand in once more, scan the plain ranges once more; if
 *      that found anything white, start the world and go on with 2
 *   5. (checkmark) ; caches flushed; barrier off; sweeping may begin; start
 *   6. sweep span by span; then set the next trigger
 *
 * Invariants
 *  1. Barrier on => a pointer that is overwritten in, or written to, managed
 *     memory is shaded before the write. A stack is scanned once; from then on
 *     its goroutine holds only pointers that are or will be marked.
 *  2. Objects allocated while marking are black.
 *  3. Marked => its children were or will be pushed. A pointer waits in exactly
 *     one of: a P's mark buffers, a full buffer on the global list, a drain's
 *     rings (emptied into the P's buffers before the drainer stops), a
 *     P's barrier buffer.
 *  4. What is claimed of a root job is finished before its claimer's P stops; the
 *     rest is on the list of shards. A running goroutine that was asked to stop is
 *     on the list of those, or scanned.
 *  5. The barrier flag and the colour change only with the world stopped.
 *
 * Locks: gc.lock (RANK_SWEEPWAIT): driver and waiters. RANK_ROOTS: root ranges;
 * inside the loader's (dl_iterate_phdr), never around it. RANK_WORKBUFS: full
 * and empty buffers.
 */
#ifndef TARN_GC_GC_H_
#define TARN_GC_GC_H_

#include "base/hist.h"
#include "heap/heap.h"
#include "sched/sched.h"
#include "stackscan/stackscan.h"
#include "tarn/control.h"
#include "tarn/events.h"
#include "tarn/gc.h"

enum gc_phase { GC_OFF, GC_MARK, GC_MARKTERM };

#define WORKBUF_ENTRIES 510
struct workbuf {
    struct workbuf *next;
    uint32_t n;
    uintptr_t obj[WORKBUF_ENTRIES];
};

/* A P's mark buffers: two, so that one overflow or underflow does not cost a
 * trip to the global list each time. */
struct gcwork {
    struct workbuf *w1, *w2;
    uint64_t scanned; /* bytes since last collected */
};

#define WBBUF_ENTRIES 512
struct gcp { /* p->gcdata */
    struct gcwork gcw;
    uint32_t wbn;
    uintptr_t wb[WBBUF_ENTRIES];
    struct g *worker;           /* this P's mark worker */
    _Atomic bool worker_parked; /* and it may be taken */
    bool worker_idle_mode;
    int64_t last_worker_end;
    int64_t assist_debt; /* scan work owed by allocation on this P */
    double sweep_debt;   /* pages */
    uint64_t allocs;     /* option gcstress */
};

struct root_range {
    uintptr_t lo, hi;
    uint64_t owner; /* the goroutine with which it goes; 0: none */
    bool late; /* barriered, and added by a thread that could not scan it: is
                  treated as a plain one until its job of the next mark */
};

struct gcstate {
    _Atomic uint32_t phase;
    _Atomic bool blacken; /* workers and assists may run */

    /* Driver and those who wait for it: gc.lock. */
    struct mutex lock;
    struct g *driver;
    bool driver_parked;
    bool requested;        /* by heap growth or gcstress */
    bool requested_full;   /* by the clock */
    bool changed;          /* settings: trigger and goal are to be set anew */
    bool step_wanted;      /* a cycle in steps (control.c) */
    _Atomic bool stepping; /* this one is */
    size_t step_work;
    _Atomic uint32_t disabled; /* tarn_gc_disable, how often */
    uint64_t cycles_started, cycles_swept, forced_target, young_target;
    _Atomic bool on;       /* driver and workers exist */
    struct sudog *waiters; /* acquiretime: the cycle they wait for */

    _Atomic uint64_t trigger; /* heap.live that starts a cycle */
    _Atomic uint64_t goal;
    _Atomic uint64_t live; /* after the last sweep */

    /* This mark. */
    _Atomic uint32_t root_next;
    _Atomic uint32_t nroots; /* also read by Ms without a P */
    uint32_t root_timers, root_handles, root_cards, root_stacks;
    size_t nstacks;
    /* specials.h: is there a pass, or was; its jobs; maps to go through. */
    _Atomic bool specials_on;
    _Atomic uint32_t special_next, special_jobs, late_maps;
    _Atomic int32_t nworking; /* drains under way */
    _Atomic int32_t workers_running;
    _Atomic int64_t bg_credit;     /* scan work done and not yet claimed */
    _Atomic uint32_t assist_ratio; /* see pacer.c */
    _Atomic bool driver_waits;     /* for the mark to run dry */
    _Atomic bool driver_yields;    /* after the mark, for others to run */
    uint32_t scan_epoch;           /* of this mark, never 0 */
    uint64_t plain_bytes, barriered_bytes; /* of root ranges */
    uint64_t root_bytes; /* of those and stacks, as last scanned */
    double sweep_pages;  /* for each byte allocated during a sweep */
    int64_t mark_began;
    uint64_t heap_at_start;
    int64_t mark_took;
    _Atomic int64_t ended;         /* the last cycle */
    _Atomic bool may_have_garbage; /* it was not a full one */

    struct mutex buflock; /* RANK_WORKBUFS */
    struct workbuf *full, *empty;
    _Atomic uint32_t nfull;
    uint64_t nbufs;

    struct mutex rootlock; /* RANK_ROOTS */
    struct root_range *plain, *barriered, *segments;
    size_t nplain, nbarriered, nsegments, cap_plain, cap_barriered;
    unsigned long long segment_adds, segment_subs;

    /* Statistics. */
    _Atomic uint64_t throttled; /* allocations that waited for the mark */
    _Atomic uint64_t limited; /* how often the collector had its share of CPU */
    _Atomic uint64_t periodic, scavenged, pretouched; /* background.c */
    _Atomic uint64_t cycles, cycles_forced, mark_ns, mark_cpu_ns, assist_ns,
        scanned_bytes, stack_scan_bytes, stacks_scanned, restarts, young;
    struct hist pause, stopping, pause_start, pause_term, assist_hist,
        suspend_hist;
    _Atomic uint32_t stop_kind; /* what the stop under way is for */
    int64_t last_stop_ns[2];
};
extern struct gcstate gc;

ALWAYS_INLINE struct gcp *gcp_of(struct p *pp)
{
    return pp->gcdata;
}

/* What a trace callback is given: where to push, or, if that is NULL, whom to
 * tell (object_each_pointer). */
struct tarn_tracer {
    struct gcwork *w;
    void (*fn)(uintptr_t v, uintptr_t slot, void *arg);
    void *arg;
    uintptr_t base;
};

/* --- mark.c ---------------------------------------------------------------- */

void gcw_put(struct gcwork *w, uintptr_t obj);
uintptr_t gcw_get(struct gcwork *w); /* 0: empty */
bool gcw_empty(struct gcwork *w);
/* Everything onto the global list; true if there was anything. */
bool gcw_dispose(struct gcwork *w);
bool gc_work_available(void);
void gc_bufs_trim(void);

/* Pushes p if it may point to an unmarked object; any word will do. */
void gc_shade(struct gcwork *w, uintptr_t p);
/* Conservative: each word of [lo, hi), and objects that end where it points. */
void scan_conservative(uintptr_t lo, uintptr_t hi, struct gcwork *w,
                       bool past_end);

/* Does a pointer past the end of an object of this span count, on a stack? */
bool ends_with_place(const struct mspan *s);

/* The pointers in a part of an object, by its layout, not LAYOUT_TRACED or
 * LAYOUT_NOSCAN; or those of the elements of a traced one that lie in it. */
void scan_part(struct mspan *s, uintptr_t lo, uintptr_t hi, struct gcwork *w);
void trace_part(struct mspan *s, uintptr_t base, uintptr_t lo, uintptr_t hi,
                struct gcwork *w);
/* What an object points to, without marking the object. */
void gc_scan_unmarked(uintptr_t base, struct gcwork *w);

struct drain_limits {
    int64_t deadline;   /* nanotime; 0: none */
    uint64_t work;      /* bytes to scan; 0: no limit */
    bool until_preempt; /* stop when the goroutine is asked to */
    bool idle;          /* stop when the P has other work */
    bool assist;        /* work done pays the caller's debt, not everybody's */
    bool world_stopped; /* nobody asks for the P: only the deadline counts */
    uint64_t did;       /* out: bytes scanned */
};
/* Marks until dry or a limit. Runs root jobs too. True if it ran dry. */
bool gc_drain(struct p *pp, struct drain_limits *lim);
/* Test instrument: entries between two looks at the limits, each of which is a step
 * for gc_step. */
extern uint32_t gc_check_entries;

/* --- barrier.c -------------------------------------------------------------- */

/* Bits of tarn_barrier_on: what stores have to do. */
enum { BARRIER_MARKING = 1, BARRIER_CHECKED = 2 /* option barriercheck */ };

void wb_flush(struct p *pp);
void gc_shade_hook(const void *p);
void gc_bulk_barrier(void *dst, const void *src, size_t n);

/* --- roots.c ------------------------------------------------------------------ */

bool gc_roots_init(void);             /* false: error set */
bool gc_roots_refresh_segments(void); /* world running; the same */
void gc_scan_plain_roots(struct gcwork *w);
void gc_prepare_roots(void); /* world stopped */
void markroot(struct gcwork *w, uint32_t job);
void gc_roots_owner_gone(struct g *gp); /* its TARN_ROOTS_LOCAL */

/* --- handles.c ------------------------------------------------------------------- */

uint32_t gc_handle_jobs(void);
void gc_scan_handles(struct gcwork *w, uint32_t job);
void gc_handles_trim(void);
void gc_each_handle_block(void (*range)(uintptr_t lo, uintptr_t hi,
                                        const char *what, uint64_t id,
                                        void *arg),
                          void *arg);

/* --- cards.c -------------------------------------------------------------------- */

/* Of the heap, in a root job: nobody looks whether to stop within one. */
#define CARD_BLOCK ((size_t)128 << 10)
uint32_t gc_card_jobs(void); /* of this mark */
void gc_scan_cards(struct gcwork *w, uint32_t job);

/* --- stackroots.c -------------------------------------------------------------- */

#define STACK_BLOCK 64u /* goroutines in a root job */
/* By a drain: goroutines [lo, hi), or what it can before its P is wanted. */
void gc_scan_block(struct gcwork *w, size_t lo, size_t hi);
/* By a drain, before anything else: a part of a deep stack whose goroutine is
 * held, or the rest of a block. False: there is none. */
bool gc_scan_shard(struct gcwork *w);
bool gc_shards_left(void);
void gc_scan_help(void);
/* Running goroutines were asked to stop and have not been scanned yet. The driver
 * waits for them when everything else is marked. */
bool gc_stacks_asked(void);
void gc_wait_asked(void);
enum stopping gc_stopping(struct g *gp);
/* In this mark. */
ALWAYS_INLINE bool gc_stack_scanned(const struct g *gp)
{
    return atomic_load_explicit(&gp->scancycle, memory_order_relaxed) ==
           gc.scan_epoch;
}

/* World stopped: every root range but stacks; is gp's stack one; and it. */
void gc_each_other_root(void (*range)(uintptr_t lo, uintptr_t hi,
                                      const char *what, uint64_t id, void *arg),
                        void *arg);
bool gc_stack_is_root(struct g *gp);
/* Nothing, if it is none any more: see hold_stack. */
void gc_each_stack_root(struct g *gp,
                        void (*range)(uintptr_t lo, uintptr_t hi,
                                      const char *what, uint64_t id, void *arg),
                        void *arg);
/* All of them. begins: a mark does, and has scanned no stack; else it ends. */
void gc_each_root(void (*range)(uintptr_t lo, uintptr_t hi, const char *what,
                                uint64_t id, void *arg),
                  void *arg, bool begins);

/* --- cycle.c --------------------------------------------------------------------- */

bool gc_init(void); /* false: error set */
void gc_on_start(void);
/* A mark worker for pp, if it has none. False: no memory, error set. */
bool gc_p_start(struct p *pp);
/* World stopped, anywhere in a cycle: what pp has of objects, mark work, debts and
 * stacks goes to `to`, to the heap or to the pools. On g0 of who holds `to`. */
void gc_p_end(struct p *pp, struct p *to);
struct g *gc_worker_hook(struct p *pp, bool idle);
/* After n bytes became allocatable on this P; on a goroutine. */
void gc_allocated(size_t n);
/* As tarn_gc, young objects only, unless others ask for all. For tests. */
void gc_collect_young(void);
bool gc_request(void); /* a cycle, soon; true: the driver was readied */
/* With gc.lock: the driver, to be readied, if it sleeps between two cycles; or NULL. */
struct g *gc_driver_parked(void);
/* The same by a thread without a P: the driver, who shall be queued; or NULL. */
struct g *gc_request_driver(bool full);
void gc_maybe_done(void);
/* Of a P: barrier buffer and mark buffers onto the list; for forEachP. */
void gc_hand_in(struct p *pp);
void gc_malloc_init(struct mcache *c); /* malloc.c; for each P's */
bool gc_in_oom_handler(void);          /* the caller runs it */

/* --- control.c --------------------------------------------------------------------- */

/* An option that changes while the program runs. */
ALWAYS_INLINE int64_t setting(const int64_t *option)
{
    return __atomic_load_n(option, __ATOMIC_RELAXED);
}
ALWAYS_INLINE bool gc_stepping(void)
{
    return unlikely(atomic_load_explicit(&gc.stepping, memory_order_relaxed));
}
bool gc_is_off(void); /* no cycle begins by itself */
/* By the driver: a step is complete. Waits for the next to be asked for. */
void gc_step_end(enum tarn_step did);
struct g *gc_step_driver(void);

/* --- pacer.c ------------------------------------------------------------------------- */

void pacer_init(void);
void pacer_start(void);  /* world stopped, a mark begins */
void pacer_revise(void); /* during a mark, now and then */
bool pacer_assists(void);
void pacer_marked(void); /* world stopped, the mark is complete */
void pacer_swept(void);
void pacer_changed(void);     /* settings; no cycle under way */
void pacer_procs(uint32_t n); /* world stopped: there will be n Ps */
size_t pacer_keep(void); /* free memory worth keeping until the next cycle */
bool pacer_full(
    void); /* the next collection shall not be of young objects only */

/* --- background.c --------------------------------------------------------------------- */

bool gc_background_start(void); /* false: error set */
/* Free memory beyond keep bytes goes back to the system, in time. */
void gc_background_release(size_t keep);
/* By sysmon, now and then; the longest that a goroutine may go on running where
 * others wait. */
int64_t gc_sysmon(int64_t now);

/* --- checkmark.c -------------------------------------------------------------------- */

/* World stopped: when the mark begins, and when it is complete. */
void checkmark_begin(void);
void checkmark(void);

/* Test instrument: leaves one part of the mark undone, which checkmark or
 * tarn-stress must notice. None is asked for on a path that matters. */
enum gc_fault {
    GC_FAULT_NONE,
    GC_FAULT_STACKS,    /* no stack is scanned */
    GC_FAULT_TIMERS,    /* nor timers */
    GC_FAULT_BARRIERED, /* nor barriered ranges */
    GC_FAULT_RESCAN,    /* nor plain ranges in the last stop */
    GC_FAULT_FLUSH,     /* what the barrier noted is lost */
    GC_FAULT_BULK,      /* the barrier of bulk stores notes nothing */
    GC_FAULT_BARRIER,   /* the barrier is not switched on */
    GC_FAULT_PAST_END,  /* pointers one past the end, on stacks */
    GC_FAULT_CARDS,     /* no card is looked at */
};
extern _Atomic uint32_t gc_fault;
#define GC_FAULT(name)                                                         \
    unlikely(atomic_load_explicit(&gc_fault, memory_order_relaxed) ==          \
             GC_FAULT_##name)

/* Test instrument: a step of a cycle, at each of which what the mutators do may come
 * between. The hook runs where the step is: perhaps under sched.lock (handed in),
 * with the world running or not, on a goroutine or g0. NULL but in a test. */
extern void (*gc_step_hook)(const char *name);
/* Likewise: how long the last stop may go on marking before it is given up. */
extern int64_t gc_late_ns;
extern int64_t gc_turn_ns; /* and a turn of marking */
ALWAYS_INLINE void gc_step(const char *name)
{
    delay_point(name);
    if (unlikely(gc_step_hook != NULL))
        gc_step_hook(name);
}

/* --- objects.c ----------------------------------------------------------------------- */

/* For messages: its type, or its layout if it has none. */
const char *object_type_name(const struct objinfo *o);
/* Calls fn for each live object that may have pointers, world stopped, mark complete. */
void objects_each_live(void (*fn)(const struct objinfo *o, void *arg),
                       void *arg);
/* Calls fn(value, address, arg) for each word of an object that its layout takes
 * for a pointer, world stopped. What a trace callback reports has the object's
 * address for its own. */
void object_each_pointer(const struct objinfo *o,
                         void (*fn)(uintptr_t v, uintptr_t slot, void *arg),
                         void *arg);

/* --- profile.c ------------------------------------------------------------------------- */

/* base, of size bytes, was allocated just now by the caller's caller and is a
 * sample. */
NOINLINE void profile_alloc(uintptr_t base, size_t size);

/* --- stackescape.c --------------------------------------------------------------------- */

void stackescape(void); /* world stopped, mark complete */

/* --- barriercheck.c -------------------------------------------------------------------- */

bool barriercheck_init(void); /* false: error set */
void barriercheck(void);      /* world stopped, mark complete */
/* What the barrier says of n bytes at slot, which may be anywhere: they hold now, and
 * will hold before the next stop, what src has (NULL: zeroes). */
void barriercheck_stored(uintptr_t slot, size_t n);
void barriercheck_will_store(uintptr_t slot, const void *src, size_t n);
void barriercheck_new(uintptr_t base, size_t size);

/* --- stats.c ------------------------------------------------------------------------- */

bool gc_stats_init(void); /* false: error set */
void gc_stw_done(int64_t total_ns, int64_t stopping_ns);
void gc_trace(bool forced);

#endif
