/* sched/sched.h - goroutines (G), threads (M), processors (P).
 *
 * Owns: the G, M and P structs and their state machines, run queues, schedule(),
 * park and ready, timers, channels and the other blocking primitives, sysmon,
 * preemption requests, stop-the-world. Does not know how stacks are made or
 * scanned nor what a collection is: see struct sched_hooks.
 *
 * Stacks. Each M has a g0: the thread's own stack, on which the scheduler runs.
 * mcall(fn) leaves a goroutine for good (fn never returns; somebody will gogo
 * it later); systemstack(fn, arg) borrows g0 for one call. A goroutine that is
 * not running has its six callee-saved registers pushed at g->sched_sp. Code
 * that runs on a goroutine's stack in this library keeps its frames small: it
 * lives in the guard zone of the caller's last prologue check.
 *
 * Thread-local state. getg() is the only way to it. A goroutine may come back
 * from gopark, mcall or a preemption on another thread: never keep a pointer
 * to M, P or anything thread-local across one; re-read through getg().
 *
 * Invariants
 *  1. G status changes only along the edges of the table in status.c, through
 *     the cas helpers below; debug builds check each edge.
 *  2. The scan bit is a lock on the stack of a goroutine that does not run.
 *     Whoever set it may read
 *     and move the stack; nobody runs or readies that G meanwhile. Nothing
 *     that can block or fault is done under it.
 *  3. A running P has exactly one M (p->m->p == p). A P without an M is idle
 *     (on the idle list, empty queue) or stopped, or in the hands of one M
 *     under sched.lock or as nextp.
 *  4. Every G that is Grunnable is in exactly one queue, or in the hands of
 *     the M that will queue or run it.
 *  5. A submitter publishes work, then reads nmspinning; a parking M lowers
 *     nmspinning, then re-reads all queues (both sequentially consistent):
 *     no wake-up is lost.
 *  6. Requests to preempt, stop or suspend are best effort; every waiter
 *     re-issues them until what it waits for has happened.
 *  7. G, M and P structs are never freed, and those of Ps never move in allp.
 *
 * Locks: sched.lock (RANK_SCHED): global queue, idle lists, M counts, stopwait.
 * allglock (RANK_ALLG). p->timers.lock (RANK_TIMERS). hchan.lock (RANK_CHAN).
 * Wait queues of tarn/sync.h: a spin lock each (RANK_WAITQ by convention).
 * worldsema: held by who stops the world; a goroutine semaphore.
 */
#ifndef TARN_SCHED_SCHED_H_
#define TARN_SCHED_SCHED_H_

#include <pthread.h>
#include <signal.h>

#include "base/base.h"
#include "base/lock.h"
#include "base/options.h"
#include "heap/heap.h"
#include "sched/trace.h"
#include "tarn/sched.h"

/* Status of a G. The scan bit is added to one of runnable, syscall, waiting,
 * preempted. */
enum {
    Gidle = 0,
    Grunnable = 1,
    Grunning = 2,
    Gsyscall = 3,
    Gwaiting = 4,
    Gdead = 6,
    Gcopystack = 8,
    Gpreempted = 9,
    Gscan = 0x1000,
};

enum { Pidle = 0, Prunning = 1, Psyscall = 2, Pgcstop = 3, Pdead = 4 };

/* Values of g->stackguard0 that are above any stack pointer, for a signed
 * comparison too: that is how clang asks whether the stack has room for an
 * alloca. */
#define STACK_PREEMPT ((uintptr_t)0x7ffffffffffffade)
#define STACK_FORCEMOVE ((uintptr_t)0x7ffffffffffffeed)

#define WAIT_REASONS(X)                                                        \
    X(NONE, "")                                                                \
    X(CHAN_SEND, "chan send")                                                  \
    X(CHAN_RECV, "chan receive")                                               \
    X(SELECT, "select")                                                        \
    X(SELECT_NO_CASES, "select (no cases)")                                    \
    X(MUTEX, "mutex lock")                                                     \
    X(COND, "condition wait")                                                  \
    X(WAITGROUP, "wait group wait")                                            \
    X(SEMA, "semaphore acquire")                                               \
    X(SLEEP, "sleep")                                                          \
    X(PREEMPTED, "preempted")                                                  \
    X(STOPPING_WORLD, "stopping the world")                                    \
    X(GC_ASSIST, "GC assist marking")                                          \
    X(GC_SELF_SCAN, "GC self scan")                                            \
    X(GC_WAIT, "wait for GC cycle")                                            \
    X(GC_IDLE, "GC (idle)")                                                    \
    X(MAIN_END, "end of a callback on the thread of tarn_main")
enum wait_reason {
#define WAIT_REASON_ENUM_(n, s) WAIT_##n,
    WAIT_REASONS(WAIT_REASON_ENUM_)
#undef WAIT_REASON_ENUM_
};

/* g->resume */
enum {
    RESUME_START = 1, /* first run: nothing is at sched_sp yet */
    RESUME_THAW = 2,  /* stackscan: it has no stack, its frames are elsewhere */
    RESUME_FRAME = 8, /* stackscan: frame_need is set */
    RESUME_IDLE = 4,  /* stackscan: has not run since somebody looked */
};

struct g;
struct m;
struct p;
struct hchan;
struct large;

struct stack {
    uintptr_t lo, hi;
};

enum stack_kind { STACK_NONE, STACK_COPYING, STACK_FIXED, STACK_SYSTEM };

/* A G in a wait list. From a cache of the P; not managed memory. elem may point
 * into g's stack: copystack adjusts it through g->waiting. */
struct sudog {
    struct g *g;
    struct sudog *next, *prev; /* in the channel's list */
    void *elem;
    struct hchan *c;
    struct sudog *waitlink; /* g->waiting list, select: in lock order */
    bool is_select;
    bool success; /* woken by a transfer, not by close */
    uint16_t case_index;
    int64_t acquiretime;
};

struct g {
    /* Offsets of the first fields are known to assembly (asm.h). */
    uintptr_t sched_sp;            /* saved stack pointer when not running */
    _Atomic uintptr_t stackguard0; /* stack.lo + guard, or a request */
    struct m *m;
    void *xregs; /* stopped asynchronously: its extended registers */
    _Atomic bool asyncSafePoint; /* so: the stack may be scanned, not moved */
    bool wipe;       /* checkmark: clear what lies below before going on */
    bool throwsplit; /* a prologue check is a bug now: native code runs on this
                        stack */
    uint8_t resume;  /* what execute has to see to first: RESUME_*; changed by
                       who may run it, or holds the scan bit */
    /* In a native call (status Gsyscall, and until a P is held again behind it):
     * the stack is scanned from here; 0 otherwise. With throwsplit the caller's
     * registers are in native_regs. */
    uintptr_t syscallsp;

    struct stack stack;
    uintptr_t stackguard1; /* what stackguard0 is without a request */
    enum stack_kind kind;
    bool default_stack; /* may be kept for the next G */
    _Atomic uint32_t atomicstatus;

    struct m *lockedm;        /* runs on no other; written by itself only */
    _Atomic bool preempt;     /* asked to yield at the next safe point */
    _Atomic bool preemptStop; /* asked to park as Gpreempted instead */
    bool preemptShrink;  /* stackscan: at the next prologue, a smaller stack */
    _Atomic bool system; /* the runtime's own: not scanned, not counted */
    _Atomic uint32_t
        suspenders; /* suspendGs that wait for it: see preemptPark */
    _Atomic uint32_t scancycle; /* gc: of the mark that has scanned the stack */
    _Atomic uint32_t selectDone;
    uint32_t waitreason;
    struct g *schedlink;   /* in a queue of Gs */
    struct sudog *waiting; /* sudogs this G waits on, in lock order */
    void *param;           /* waker to woken: the sudog that fired */
    /* Yielding touches nothing from param on. */
    uint64_t goid;
    uint32_t lockedcount; /* tarn_lock_thread and callbacks under way */
    uint32_t userlocks;   /* of those, tarn_lock_thread */
    bool foreign;         /* an attached thread's: its stack is not ours */
    bool has_roots;       /* root ranges that go with it */
    bool worldstopped;    /* by tarn_world_stop */
    bool in_shards;       /* gc: the scan bit is held until all are scanned */
    /* tarn_native_call: what to run, what it returned. */
    void *(*native_fn)(void *);
    void *native_arg;
    uintptr_t native_regs[6] CACHE_ALIGNED; /* rbx rbp r12 r13 r14 r15; its
                                               offset is known to assembly */
    uintptr_t syscallpc; /* tarn_native_enter's return address; so is this */
    tarn_fn fn;          /* entry, for reports */
    void *entry_arg;     /* root until the goroutine has started */
    void *stackdata;     /* stackscan: __morestack_allocate_... blocks */
    char *error_text;
    struct large *large; /* stackscan: the stack is part of a reservation */
    size_t frame_need; /* stackscan: stopped in a prologue, before this frame */
    struct stack frozen; /* stackscan: where the image was made */
    void *fiber;         /* fiber.c: what sanitizers know of this stack */
};

struct timer { /* by value inside managed tarn_timer or sudog-like */
    int64_t when;
    void (*f)(void *arg); /* on g0 of some M with a P; must not block */
    void *arg;
    struct p *_Atomic pp; /* whose heap it is in */
    uint32_t index;       /* in that heap, + 1; 0 = in none; by its lock */
    void *keep;           /* managed object kept alive while it runs */
};

struct timers {
    struct mutex lock;
    struct timer **heap; /* 4-ary min-heap on when */
    uint32_t len, cap;
    _Atomic int64_t when0; /* heap[0]->when, or 0 if empty */
};

/* What runs below a prologue's check: __morestack itself, or a public call
 * (measured: less than 3.5 KiB, one lazy symbol resolution with its vector state
 * included), or code without checks that is called after an alloca went down to
 * the guard, which no linker makes room for; or native code on the goroutine's
 * stack. */
#define STACK_GUARD ((size_t)16 << 10)

/* Of that, what debug builds poison at the lowest end of a copying stack. */
#define STACK_POISONED (TARN_CHECKS >= 2 ? (size_t)256 : (size_t)0)

#define RUNQ_SIZE 256
/* Of an attached thread's stack: how much of what is unused checkmark clears. */
#define STACK_WIPE ((uintptr_t)64 << 10)

struct p {
    uint32_t id;
    _Atomic uint32_t status;
    struct m *_Atomic m;
    struct p *link;             /* idle list */
    struct m *startm;           /* got it last as nextp; sched.lock */
    _Atomic uint32_t schedtick; /* each execute that does not inherit a slice */
    _Atomic uint32_t syscalltick;
    _Atomic bool preempt;
    _Atomic uint32_t runSafePointFn;

    _Atomic uint32_t runqhead CACHE_ALIGNED;
    _Atomic uint32_t runqtail;
    struct g *_Atomic runq[RUNQ_SIZE];
    struct g *_Atomic runnext;

    struct mcache mcache CACHE_ALIGNED;
    void *gcdata;       /* gc: work buffers, write-barrier buffer */
    void *stackcache;   /* stackscan */
    struct g *gfree[2]; /* dead Gs with default stacks: copying, fixed */
    uint32_t ngfree[2];
    struct sudog *sudogcache;
    uint32_t nsudog;
    struct timers timers;
    uint64_t rand;
    uint64_t goidcache, goidcacheend;

    /* sysmon's own notes. */
    uint32_t sysmon_schedtick, sysmon_syscalltick;
    int64_t sysmon_schedwhen; /* when to ask for the P */
    int64_t sysmon_reissue;   /* and then after so long again */
    int64_t sysmon_syscallwhen;
    bool sysmon_insyscall;

    struct trace_ring trace;
    struct timeline_chunk *timeline; /* while one is recorded */
};

struct m {
    /* Offsets known to assembly. */
    struct g *g0;
    struct g *_Atomic curg;
    void *xspare;   /* where the next asynchronous stop puts registers */
    uint32_t mxcsr; /* the thread's own, as it started */
    uint16_t fpucw;

    uint64_t id;
    struct p *_Atomic p;
    struct p
        *_Atomic nextp; /* handed to it; a stop of the world may take it back */
    struct p *oldp;
    _Atomic uintptr_t *_Atomic tls_guard; /* this thread's %fs:0x70, 0 for g0 */
    int32_t locks;                        /* > 0: not preemptible */
    _Atomic uint32_t slotlock; /* tls_guard goes with the thread, who writes it
                                  from elsewhere holds this */
    bool spinning;
    _Atomic bool
        undone; /* woken for a P that was taken back; sched.lock to set */
    bool exit_to_main; /* M0: leave schedule(), return from tarn_main */
    struct note park;
    struct m *schedlink; /* idle list */
    struct m *alllink;
    bool (*waitunlockf)(struct g *gp, void *lock);
    void *waitlock;
    pthread_t thread;
    int32_t procid;                 /* 0: no signals to it (yet, or any more) */
    _Atomic uint32_t signalPending; /* a signal of preemptM is under way */
    _Atomic int64_t signal_sent;    /* when */
    _Atomic uint32_t preemptGen;    /* handled ones; before pending is 0 */
    /* Of the last one: where it hit, and 1 + why it was refused; 0 if not. */
    _Atomic uintptr_t signal_pc;
    _Atomic uint32_t refused_why;
    sigset_t host_mask; /* M0, foreign threads: as it was before */
    uint64_t sigrand;
    uint64_t rand;
    void (*mstartfn)(void);
    struct g *lockedg;
    int32_t parked_locked; /* 1: in stoplockedm, nobody has woken it; -1: it
                                is woken before it slept; sched.lock */

    struct foreign *foreign; /* thread.c: of a thread that we did not make */
    void *signal_stack;
    bool own_signal_stack; /* it is installed */
    struct stack own; /* of a thread that we made: its stack; 0: it is gone */
    struct g g0_storage;
};

struct gqueue {
    struct g *head, *tail;
    uint32_t n;
};

struct schedt {
    struct mutex lock;
    struct gqueue runq; /* the global queue */
    _Atomic uint32_t runqsize;
    struct m *midle;
    uint32_t nmidle;
    int32_t nmidlelocked;
    int32_t nmsys;
    struct m *mfree;        /* whose threads have ended */
    _Atomic uint64_t mnext; /* Ms made or being made */
    uint32_t nforeign;      /* of those, attached threads */
    uint32_t ncpu;          /* that the process may use, at its start */
    uint32_t nmleaving;     /* and threads that only hand their P on yet */
    struct p *pidle;
    _Atomic uint32_t npidle;
    _Atomic uint32_t nmspinning;
    _Atomic bool needspinning;
    _Atomic uint64_t undone; /* by startm_undo */

    _Atomic bool gcwaiting; /* a stop of the world is wanted */
    int32_t stopwait;
    struct note stopnote;
    int64_t stop_began, stop_took;

    _Atomic bool sysmonwait; /* in deep sleep */
    _Atomic bool sysmonlazy; /* its naps are long: worth waking */
    struct note sysmonnote;  /* ends either; set under sched.lock */
    /* Naps of sysmon; Ps that it took from native calls, and those that threads
     * back from one took from others. */
    _Atomic uint64_t sysmon_rounds, retaken, exit_retaken;
    _Atomic bool foreign_seen; /* a thread attached once: whoever waits may be
                                  woken by one that we do not know */

    void (*safePointFn)(struct p *);
    int32_t safePointWait;
    struct note safePointNote;

    _Atomic uint64_t goidgen;
    _Atomic int64_t ngoroutines; /* user ones, not dead */
    struct g *gfree[2];          /* dead Gs; RANK_GFREE */
    struct mutex gfreelock;
    _Atomic uint32_t ngfree[2]; /* may be read without the lock, as a hint */
    struct m *timer_sleeper;    /* the idle M that wakes for the next timer */
    int64_t timer_sleep_until;

    bool started; /* tarn_main is running; these two by lock */
    bool main_done;
    /* tarn_main returns on M0's stack, so not while native code there waits for
     * a callback; these three by lock. */
    bool main_ending;        /* M0 begins no more of them */
    uint32_t m0_callbacks;   /* under way */
    struct g *main_waits;    /* for the last of them */
    struct g *_Atomic maing; /* when it ends, tarn_main returns */
    bool initialised;
    uint32_t worldsema;      /* 1 free, 0 held; under sched.lock */
    struct gqueue worldwait; /* Gs that wait for it */
};
extern struct schedt sched;

/* Never moves; of its nallp Ps the first nprocs run goroutines, see procs.c. nprocs
 * changes with the world stopped and under sched.lock: who holds a P, worldsema or
 * that lock reads it as it is, others by procs_now, and may find what was. */
#define PROCS_MAX 1024u /* and of option maxprocs */
extern struct p **allp;
extern uint32_t nprocs;
extern _Atomic uint32_t nallp;
ALWAYS_INLINE uint32_t procs_now(void)
{
    return __atomic_load_n(&nprocs, __ATOMIC_ACQUIRE);
}
extern struct m *_Atomic allm;
extern struct m m0;
/* All Gs ever made: an append-only array of chunks that never move, readable
 * without a lock up to allglen. */
#define ALLG_CHUNK 4096u
#define ALLG_CHUNKS 32768u
extern struct g **_Atomic allg_chunks[ALLG_CHUNKS];
extern _Atomic size_t allglen;
struct g *allg_at(size_t i);

enum text_kind { TEXT_UNKNOWN, TEXT_UNMANAGED, TEXT_MANAGED };

/* What becomes of a goroutine that was asked to stop. */
enum stopping {
    STOPPING_PARK, /* it stops, until somebody readies it */
    STOPPING_DONE, /* what it was asked for is done */
    STOPPING_LEFT, /* it belongs to somebody else now, who will ready it */
};

/* What the layers above install before the first goroutine exists. */
struct sched_hooks {
    /* Gives gp a stack (kind and size as asked; 0 = default). False: no memory,
     * error set. On g0 or before start. */
    bool (*stackalloc)(struct g *gp, enum stack_kind kind, size_t size);
    void (*stackfree)(struct g *gp); /* of a dead G */
    /* Size of the copying stacks that new goroutines get; changes at times. */
    _Atomic size_t first_stack;
    /* gp is about to run and has no stack, or is frozen. On g0. */
    void (*stack_resume)(struct g *gp);
    enum stack_kind (*stack_kind_of)(tarn_fn fn, enum tarn_stacks want,
                                     bool *ok);
    bool (*p_init)(struct p *pp); /* false: error set */
    /* More Ps: pp, which is Pdead, shall run goroutines from the next stop of the
     * world on. On a goroutine. Fewer: it ends, and what is its own goes to `to`,
     * the caller's, or to everybody. On g0, world stopped. The number of Ps is about
     * to be n; so, and with sched.lock held. */
    bool (*p_start)(struct p *pp); /* false: no memory */
    void (*p_end)(struct p *pp, struct p *to);
    void (*procs_change)(uint32_t n);
    void (*on_start)(
        void); /* on g0, each time tarn_main has started the world */
    /* A mark worker that should run on pp now, or NULL. idle: pp has nothing
     * else to do. Called with pp held, not under locks. */
    struct g *(*gc_worker)(struct p *pp, bool idle);
    bool (*gc_work_available)(void);
    /* By sysmon, each time it looks: the longest slice from now on. */
    int64_t (*sysmon)(int64_t now);
    /* gp, asked to stop, is about to. On g0. */
    enum stopping (*stopping)(struct g *gp);
    /* The caller waits for somebody's scan bit: what it can do about that. */
    void (*scan_help)(void);
    /* Before n bytes at dst are overwritten by those at src (NULL: by zeroes):
     * the write barrier, if it is on. */
    void (*bulk_barrier)(void *dst, const void *src, size_t n);
    void (*shade)(const void *p); /* keep p alive this cycle, if marking */
    void *(*alloc)(size_t n, enum layout layout); /* tarn_alloc_... */
    /* What text is it that holds pc? Called by signal handlers. */
    enum text_kind (*text_kind)(uintptr_t pc);
    /* Looks for modules that were loaded since; not by signal handlers. */
    void (*text_refresh)(void);
    void (*goexit)(struct g *gp); /* on g0, gp is about to be dead */
    /* A goroutine is about to exist, or has ended; NULL: nobody wants to know. */
    void (*_Atomic go_event)(uint64_t goid, bool begins);
    /* gp, which has_roots, is about to end. Under no lock. */
    void (*roots_gone)(struct g *gp);
    /* Every stop, when the world runs again: whole and stopping time. */
    void (*stw_done)(int64_t total_ns, int64_t stopping_ns);
    void (*heap_size)(uint64_t *bytes, uint64_t *goal); /* any thread */
};
extern struct sched_hooks sched_hooks;

/* Builds for sanitizers have other mcall, systemstack, gogo, mstart_call and
 * mstart_return around those of the assembly (fiber.c). */
#define TARN_FIBERS (TARN_ASAN || TARN_TSAN)

/* --- assembly (asm_amd64.S) ------------------------------------------------ */

ALWAYS_INLINE struct g *getg(void)
{
    struct g *gp;
    __asm__ volatile("movq tarn_tls_g@gottpoff(%%rip), %0\n\t"
                     "movq %%fs:(%0), %0"
                     : "=r"(gp));
    return gp;
}
void setg(struct g *gp); /* thread start only */

/* tarn_local: the cache that inline allocations on this thread take from. It is
 * that of the P that this thread holds and that nobody can take away from it;
 * else NULL. Follows m->p, so it need not change with the goroutine; a native
 * call, whose P may be retaken, sets it to NULL and back. */
ALWAYS_INLINE struct mcache_entry *local_cache(void)
{
    struct mcache_entry *cache;
    __asm__ volatile("movq tarn_local@gottpoff(%%rip), %0\n\t"
                     "movq %%fs:(%0), %0"
                     : "=r"(cache));
    return cache;
}
ALWAYS_INLINE void set_local_cache(struct p *pp) /* NULL: none */
{
    struct mcache_entry *cache = pp != NULL ? pp->mcache.fast : NULL;
    uintptr_t scratch;
    __asm__ volatile("movq tarn_local@gottpoff(%%rip), %0\n\t"
                     "movq %1, %%fs:(%0)"
                     : "=&r"(scratch)
                     : "r"(cache)
                     : "memory");
}

/* Leaves the current goroutine: saves it, switches to g0, calls fn(gp). */
void mcall(void (*fn)(struct g *gp));
/* Calls fn(arg) on g0 and returns; directly if already there. The goroutine's
 * stack is scannable meanwhile (sched_sp is set). */
void systemstack(void (*fn)(void *arg), void *arg);
#if TARN_FIBERS
void gogo(struct g *gp) __attribute__((noreturn));
#else
/* By a jump: see mcall in asm_amd64.S. */
__attribute__((noreturn)) ALWAYS_INLINE void gogo(struct g *gp)
{
    __asm__ volatile("jmp asm_gogo" : : "D"(gp) : "memory");
    __builtin_unreachable();
}
#endif
/* Runs fn on this stack with g0->sched_sp set to it, fn does not return;
 * mstart_return leaves it again. */
void mstart_call(struct m *mp, void (*fn)(void));
void mstart_return(struct m *mp) __attribute__((noreturn));
void goroutine_entry(void); /* a new G's first return address */
/* Zeroes the stack from lo up to its caller's frame, and dead registers. */
void asm_wipe_stack(uintptr_t lo);
struct start_pair {
    tarn_fn fn;
    void *arg;
};
/* From goroutine_entry: what the new goroutine, on whose stack we are, calls. */
struct start_pair goroutine_begin(void);

/* --- sanitizers (fiber.c) ---------------------------------------------------- */

#if TARN_FIBERS
void fiber_thread(struct m *mp); /* by the thread itself, before mstart_call */
struct start_pair fiber_begin(struct start_pair body); /* goroutine_begin */
#endif

/* On a user or system goroutine (not g0, not a foreign thread)? */
ALWAYS_INLINE bool on_goroutine(void)
{
    struct g *gp = getg();
    return gp != NULL && gp->kind != STACK_SYSTEM;
}
ALWAYS_INLINE void tell_go(const struct g *gp, bool begins)
{
    void (*tell)(uint64_t, bool) =
        atomic_load_explicit(&sched_hooks.go_event, memory_order_acquire);
    if (unlikely(tell != NULL))
        tell(gp->goid, begins);
}
ALWAYS_INLINE void drop_roots(struct g *gp)
{
    if (unlikely(gp->has_roots))
        sched_hooks.roots_gone(gp);
}
/* The usual opening of a public call. Sets the error text if it fails. */
COLD bool not_on_goroutine(const char *what);
ALWAYS_INLINE bool require_goroutine(const char *what)
{
    struct g *gp = getg();
    if (unlikely(gp == NULL) || unlikely(gp->kind == STACK_SYSTEM))
        return not_on_goroutine(what);
    return true;
}
const char *not_goroutine_why(void);
extern uint32_t tarn_forked;

#ifdef TARN_MANAGED_TEXT
/* Tests: managed code can move to another M between the load and the add. */
struct m *acquirem_call(void);
#define acquirem acquirem_call
#else
ALWAYS_INLINE struct m *acquirem(void)
{
    struct m *mp = getg()->m;
    mp->locks++;
    __asm__ volatile("" ::: "memory");
    return mp;
}
#endif
ALWAYS_INLINE void releasem(struct m *mp)
{
    __asm__ volatile("" ::: "memory");
    mp->locks--;
}

ALWAYS_INLINE void lock_slot(struct m *mp)
{
    while (atomic_exchange_explicit(&mp->slotlock, 1, memory_order_acquire))
        procyield(10);
}
ALWAYS_INLINE void unlock_slot(struct m *mp)
{
    atomic_store_explicit(&mp->slotlock, 0, memory_order_release);
}

/* --- status (status.c) ------------------------------------------------------ */

ALWAYS_INLINE uint32_t readgstatus(struct g *gp)
{
    return atomic_load_explicit(&gp->atomicstatus, memory_order_acquire);
}
/* Running, dead, idle and copystack are left by one thread only, and nobody takes
 * the scan bit in them: that needs no CAS. (A request to a running goroutine is
 * posted without the bit, see suspendG.) From the others it spins while somebody
 * holds the bit. */
void check_edge(struct g *gp, uint32_t from, uint32_t to);
void casgstatus_slow(struct g *gp, uint32_t from, uint32_t to);
ALWAYS_INLINE void casgstatus(struct g *gp, uint32_t from, uint32_t to)
{
#if TARN_CHECKS >= 2
    check_edge(gp, from, to);
#endif
    if (from == Grunning || from == Gdead || from == Gcopystack ||
        from == Gidle) {
        if (unlikely(atomic_load_explicit(&gp->atomicstatus,
                                          memory_order_relaxed) != from))
            casgstatus_slow(gp, from, to);
        atomic_store_explicit(&gp->atomicstatus, to, memory_order_release);
        return;
    }
    uint32_t old = from;
    if (unlikely(!atomic_compare_exchange_strong_explicit(
            &gp->atomicstatus, &old, to, memory_order_acq_rel,
            memory_order_relaxed)))
        casgstatus_slow(gp, from, to);
}
bool castogscanstatus(struct g *gp, uint32_t from, uint32_t to);
void casfrom_Gscanstatus(struct g *gp, uint32_t from, uint32_t to);
void casGToPreemptScan(struct g *gp, uint32_t from, uint32_t to);
bool casGFromPreempted(struct g *gp, uint32_t from, uint32_t to);
void casGToWaiting(struct g *gp, uint32_t from, enum wait_reason reason);
const char *gstatus_name(uint32_t s);
const char *wait_reason_name(uint32_t r);

/* --- park, ready, schedule (proc.c) ---------------------------------------- */

/* Parks the caller: Gwaiting, then unlockf(gp, lock) on g0; if that is false it
 * goes on at once. Returns when somebody has readied it. */
void gopark(bool (*unlockf)(struct g *, void *), void *lock,
            enum wait_reason reason);
void goparkunlock(struct mutex *m, enum wait_reason reason);
/* Makes a parked G runnable: next on this P, and wakes an idle P if any. From
 * a goroutine or g0 that holds a P. */
void goready(struct g *gp);
void ready(struct g *gp, bool next);
/* From a thread without a P, or for many: onto the global queue. */
void injectglist(struct gqueue *q);
void schedule(void) __attribute__((noreturn));
void execute(struct g *gp, bool inherit) __attribute__((noreturn));
void gosched_m(struct g *gp) __attribute__((noreturn)); /* for mcall */
void gopreempt_m(struct g *gp) __attribute__((noreturn));
void preemptPark(struct g *gp) __attribute__((noreturn));
void goexit0(struct g *gp) __attribute__((noreturn));
void goexit1(void) __attribute__((noreturn));
void gosched(void); /* tarn_yield from inside */
void goyield(void); /* to the local tail */
struct g *newproc(tarn_fn fn, void *arg, const struct tarn_go_attr *attr,
                  bool system); /* runnable and queued; NULL: error set */
void wakep(void);
void startm(struct p *pp, bool spinning);
void handoffp(struct p *pp);
void stopm(void);
void gqueue_push(struct gqueue *q, struct g *gp);
struct g *gqueue_pop(struct gqueue *q);
void globrunqput(struct g *gp); /* sched.lock held */
bool runqempty(struct p *pp);
/* The P's M puts gp next, and has who was next before. With one P there is
 * neither a thief nor anybody to wake: no locked instruction. */
ALWAYS_INLINE struct g *runnext_swap(struct p *pp, struct g *gp)
{
    if (nprocs != 1)
        return atomic_exchange(&pp->runnext, gp);
    struct g *old = atomic_load_explicit(&pp->runnext, memory_order_relaxed);
    atomic_store_explicit(&pp->runnext, gp, memory_order_release);
    return old;
}
void runqput(struct p *pp, struct g *gp, bool next);
void runnext_preempt(struct p *pp);
bool runqputtail(struct p *pp, struct g *gp); /* false: it is full */
struct g *runqget_ring(struct p *pp);
ALWAYS_INLINE struct g *runqget(struct p *pp, bool *inherit)
{
    struct g *next = atomic_load_explicit(&pp->runnext, memory_order_relaxed);
    if (next != NULL) {
        *inherit = true;
        if (nprocs == 1) {
            atomic_store_explicit(&pp->runnext, NULL, memory_order_relaxed);
            return next;
        }
        /* A thief may be faster. */
        if (atomic_compare_exchange_strong(&pp->runnext, &next, NULL))
            return next;
    }
    *inherit = false;
    return runqget_ring(pp);
}
struct g *runqsteal(struct p *pp, struct p *victim, bool steal_runnext);
/* World stopped, sched.lock held: all of it to the head of the global queue. */
void runq_to_global(struct p *pp);
void gfpurge(struct p *pp); /* world stopped: its dead Gs to everybody */
void allgadd(struct g *gp);
/* By a goroutine; never NULL, all zero. Nothing preempts between here and
 * there, so the P stays ours. */
#define SUDOGS_KEPT 512u
COLD struct sudog *newSudog(void);
void freeSudog(struct sudog *s);
ALWAYS_INLINE struct sudog *acquireSudog(void)
{
    struct p *pp = getg()->m->p;
    struct sudog *s = pp->sudogcache;
    if (unlikely(s == NULL))
        return newSudog();
    pp->sudogcache = s->next;
    pp->nsudog--;
    s->next = NULL;
    return s;
}
ALWAYS_INLINE void releaseSudog(struct sudog *s)
{
    struct p *pp = getg()->m->p;
    memset(s, 0, sizeof(*s));
    if (unlikely(pp->nsudog >= SUDOGS_KEPT)) {
        freeSudog(s);
        return;
    }
    s->next = pp->sudogcache;
    pp->sudogcache = s;
    pp->nsudog++;
}

/* If the caller is asked to stop, does so. For API entry points. */
void preempt_check_slow(void);
ALWAYS_INLINE void preempt_check(void)
{
    struct g *gp = getg();
    if (unlikely(atomic_load_explicit(&gp->preempt, memory_order_relaxed)))
        preempt_check_slow();
}

/* --- preemption, stop-the-world (preempt.c, stw.c, sysmon.c) --------------- */

bool preemptone(struct p *pp);
bool preemptall(void);
bool canPreemptM(struct m *mp);
/* By the thread that runs g: the word, and where its prologues see it. */
void set_stackguard(struct g *gp, uintptr_t v);

void post_preempt(struct g *gp, struct m *mp);
bool lose_request(void);

/* Asynchronous preemption (preempt.c) and signals (signal.c). */
tarn_status preempt_check_options(const struct tarn_options *o);
void initsig(void);
void minit_signals(struct m *mp);   /* by the thread: it may be signalled */
void unminit_signals(struct m *mp); /* no more; restores the thread's mask */
/* Best effort: at most one signal is under way to an M, unless it seems lost. */
void preemptM(struct m *mp);
/* On the signal stack. True: the runtime waited for it. */
bool doSigPreempt(ucontext_t *uc);
bool preempt_signals_on(void); /* are they sent at all? */
extern int preempt_signal;
void preempt_init(void);
void minit_preempt(struct m *mp); /* by the thread, before minit_signals */
void xspare_retry(struct m *mp);  /* by the thread: after memory was refused */
const char *async_refusal_text(uint32_t why); /* of m->refused_why; NULL: 0 */
extern size_t xregs_size;                     /* of g->xregs */
/* stw.c: the stop of the world has taken too long: who holds it up (watch.c). */
void stw_report(int64_t waited_ns);

/* The stops of the collector (from a system goroutine, worldsema held). */
void stopTheWorldWithSema(void);
void startTheWorldWithSema(void);
/* For goroutines: acquire worldsema, make the caller scannable, stop. */
void stopTheWorld(void);
void startTheWorld(void);
/* Whoever has stopped the world tries to block, to end, ... */
void blocked_with_m(struct g *gp, const char *what) __attribute__((noreturn));
void worldsema_acquire(void); /* parks if needed */
void worldsema_release(void);
/* Runs fn on every P at a safe point, not all at once; worldsema held. */
void forEachP(void (*fn)(struct p *));
void *sysmon_thread(void *unused);
void checkdead(void); /* sched.lock held */

/* --- inline sequences (unsafe.c) -------------------------------------------- */

/* Where code that was interrupted at pc has to go on: at the start of the
 * restartable sequence that pc lies in, else at pc. Async-signal-safe, no lock. */
uintptr_t unsafe_restart(uintptr_t pc);
/* The sequence that pc lies in: *lo <= pc < *hi. */
bool unsafe_range_of(uintptr_t pc, uintptr_t *lo, uintptr_t *hi);
size_t unsafe_range_count(void);

/* --- start and end (main.c) -------------------------------------------------- */

bool procs_init(uint32_t n); /* procs.c; false: error set */
/* Once: makes so many Ps. Hooks are installed before. TARN_ENOMEM, TARN_ESYS:
 * error set. */
tarn_status sched_init(uint32_t procs);
/* Runs fn(arg) as a goroutine with this thread as M0 until it returns. */
tarn_status sched_run(tarn_fn fn, void *arg);
/* proc.c, for main.c */
struct p *pidleget(void); /* sched.lock held */
void pidleput(struct p *pp);
struct p *releasep(void);
void acquirep(struct p *pp);
void m_init(struct m *mp);
void gcstopm(void);
void gcstop_p(struct p *pp); /* sched.lock held: nobody's pp stops */
/* A P's part in forEachP: true, it is the caller's to do; then, with sched.lock
 * held, it is done. */
bool safe_point_take(struct p *pp);
void safe_point_done(void);
void runSafePointFn(void);
bool startm_undo(struct p *pp);
#define REISSUE_NS 100000  /* of requests that somebody waits for */
#define READ_SPIN_NS 5000  /* before a request becomes a signal */
#define STOP_SPIN_NS 50000 /* that a stop of the world waits awake */
void dropg(void);
void gdestroy(struct g *gp);    /* on g0: running -> dead, structs reused */
void main_exit_m(struct g *gp); /* for mcall, by the main goroutine */
bool thread_create(pthread_t *t, void *(*fn)(void *), void *arg);
struct m *mget(void); /* sched.lock held */
/* Threads that count against the limit, maxthreads. sched.lock held. */
ALWAYS_INLINE uint64_t threads_counted(void)
{
    return sched.mnext - sched.nmleaving;
}
/* Those that n Ps may still want: one for each and one for a call that blocks are
 * made when they are wanted, and it would end the process if they could not be.
 * sched.lock held. */
ALWAYS_INLINE uint64_t threads_wanted(uint32_t n)
{
    uint64_t own = threads_counted() - sched.nforeign - (uint64_t)sched.nmsys;
    return own < n + 1 ? n + 1 - own : 0;
}
void newm(void (*fn)(void), struct p *pp);
void main_exit(void) __attribute__((noreturn));
void goroutine_report(void); /* to stderr: every user goroutine, its wait */

/* --- timers (time.c) ---------------------------------------------------------- */

void timers_init(struct timers *ts);
void timer_add(struct timer *t); /* when, f, arg set; by a goroutine */
bool timer_del(struct timer *t); /* true: it had not fired */
/* Runs due timers of pp; returns the time of its next one, 0 if none. */
int64_t checkTimers(struct p *pp, int64_t now, int64_t *polluntil, bool *ran);
int64_t timers_next(void);             /* over all Ps; 0: none */
void timer_wake_sleeper(int64_t when); /* proc.c */
/* World stopped. Room in to's heap for the timers of Ps first and up, or false; those
 * of `from` go there, kept alive if a mark is on. */
bool timers_reserve(struct p *to, uint32_t first);
void timers_move(struct p *to, struct p *from);
/* For markroot: calls fn on every keep and arg of running timers. */
void timers_each(struct p *pp, void (*fn)(const void *p, void *arg), void *arg);

/* --- native calls (syscall.c) ---------------------------------------------- */

/* Grunning -> Gsyscall; gp->syscallsp is set. The P may be taken from then on.
 * On the thread that runs gp, with g0 as its current g or on g0. */
void entersyscall(struct g *gp);
/* The same, and the P is handed on at once: the call is known to block. */
void entersyscallblock(struct g *gp);
/* Gsyscall -> Grunning, as gp and with a P; may park gp and come back on another
 * thread. On gp's stack. A safe point. */
void exitsyscall(struct g *gp);
/* Code with stack checks runs between enter and leave on gp's stack. */
void native_morestack(struct g *gp)
    __attribute__((noreturn, visibility("hidden")));
/* tarn_native_call by a goroutine, of a call that is known to block. */
void *native_call_blocking(void *(*fn)(void *), void *arg);
/* If the thread of pp is in a native call: keeps it there until resume_syscall,
 * and returns it. */
struct m *setBlockOnExitSyscall(struct p *pp);
void resume_syscall(struct m *mp);
/* Takes pp from such a thread: it is Pidle and the caller's. */
void takeP(struct p *pp, struct m *mp);
/* For a stop of the world, sched.lock held: takes every P whose thread is in a
 * native call. */
void stop_syscalls(void);

/* --- threads bound to goroutines (proc.c, thread.c) ------------------------- */

void stoplockedm(void); /* returns with a P: lockedg is to run */
void startlockedm(struct g *gp);
void lockOSThread(struct g *gp);
void unlockOSThread(struct g *gp);
void incidlelocked(int32_t v);
void sysmon_wake(void);         /* sched.lock held */
uint32_t spare_threads(void);   /* in the pool for threads that attach */
bool free_thread(struct g *gp); /* gp ends: its M may run others */
void mexit(void) __attribute__((noreturn));
void minit(struct m *mp);
void unminit(struct m *mp);
#if TARN_FIBERS
void fiber_foreign(struct m *mp, struct g *gp);
#endif

/* --- test instruments --------------------------------------------------------- */

/* Random delay at a named protocol step when option delays is set. */
void delay_point_slow(const char *name);
void delay_point_signal_slow(struct m *mp);
/* The same inside the handler of the preemption signal. */
ALWAYS_INLINE void delay_point_signal(struct m *mp, const char *name)
{
    (void)name;
#if TARN_CHECKS >= 2
    if (unlikely(options.delays != 0))
        delay_point_signal_slow(mp);
#else
    (void)mp;
#endif
}
ALWAYS_INLINE void delay_point(const char *name)
{
#if TARN_CHECKS >= 2
    if (unlikely(options.delays != 0))
        delay_point_slow(name);
#else
    (void)name;
#endif
}

#endif
