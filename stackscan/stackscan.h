/* stackscan/stackscan.h - goroutine stacks: memory, growth by copying, suspension
 * of a goroutine, what a scan reads.
 *
 * Owns: stack memory (a cache per P, a global pool, large ones), the guard zone,
 * the decision which kind of stack a function gets, newstack and copystack, the
 * blocks that alloca takes when a stack has no room, suspendG/resumeG, the list
 * of address ranges that are a goroutine's roots.
 *
 *      hi  +------------------------------+
 *          | frames, oldest first         |
 *   sp ->  +------------------------------+
 *          | room                         |
 *          +------------------------------+ <- stackguard (lo + STACK_GUARD)
 *          | guard zone: small frames,    |    a prologue finds sp below this
 *          | public calls, __morestack    |    and comes to newstack
 *      lo  +------------------------------+
 *   (fixed: PROT_NONE page below lo)
 *
 * Invariants
 *  1. A copying stack is moved only on g0 of the M that runs its G, in status
 *     Gcopystack, or by who holds the scan bit and the locks of the channels
 *     whose operands it holds; with every register of the G in [sched_sp, hi),
 *     and never where the G was stopped asynchronously or is in a native call.
 *  2. After a move no word in [sched_sp, hi), in an alloca block of the G or in
 *     its wait records has a value in [old.lo, old.hi), but for words that a
 *     frame map (framemap.h) calls no address of the stack.
 *  3. hi is a multiple of STACK_MIN, and so is the distance of every move:
 *     realigned frames stay aligned, and a move changes no value of less than 17
 *     bits.
 *  4. At most STACK_GUARD bytes below the guard are used between two checks.
 *  5. Whoever holds a G by suspendG owns its stack alone until resumeG, and
 *     readies it exactly if suspendG said stopped.
 *  6. A frozen G has no stack but an image: the bytes of its frames, as they
 *     were at gp->frozen, in [stack.lo, stack.hi). It never runs so.
 *
 * Locks: RANK_STACKPOOL (global pool). The scan bit of a G (RANK_GSCAN in
 * spirit) guards its stack.
 */
#ifndef TARN_STACKSCAN_STACKSCAN_H_
#define TARN_STACKSCAN_STACKSCAN_H_

#include "sched/sched.h"

/* Stacks start at multiples of it, so that no move changes the low 16 bits of
 * an address. It must be so: a char, a short or the exponent of a long double
 * that was written over the low bytes of a dead pointer makes, with what the
 * padding beside it still holds of that pointer, a word that looks like one,
 * and copystack adds the distance to it. (The memory of a stack is committed
 * as it is touched: a larger smallest size costs address space.) */
#define STACK_MIN ((size_t)64 << 10)
#define STACK_ORDERS 4 /* STACK_MIN << 0..3 are cached */
/* Extra room where the linker did not mark callers of unchecked code. */
#define STACK_UNMARKED_ROOM ((size_t)32 << 10)

/* Fills sched_hooks and learns how the program was linked. */
void stackscan_init(void);
extern size_t stack_guard; /* STACK_GUARD, more where callers are not marked */

/* Entry bytes at fn are a split-stack prologue? */
bool has_split_prologue(const void *fn);

/* linkcheck.S: has a stack check, calls code without. Never called. */
void linkcheck_probe(void);

/* text.c: what is known of the text that holds pc. Signal-safe. */
enum text_kind text_kind(uintptr_t pc);
/* Brings what text_kind knows of loaded modules up to date if they changed, or
 * another thread is about to. */
void text_refresh(void);
/* On return it is, for modules that were loaded before. */
void text_refresh_now(void);

/* From __morestack, on g0: frame is what the function (return address pc into
 * its prologue) will take below sp. */
void newstack(struct g *gp, size_t frame, uintptr_t sp, uintptr_t pc)
    __attribute__((noreturn));
/* Moves gp's stack to one of newsize. On g0: gp is in status Gcopystack; or the
 * scan bit is held, and the locks of channels that may write on its stack. False:
 * no memory. */
bool copystack(struct g *gp, size_t newsize);
/* gp is suspended, or ours at a prologue. A smaller stack, if it uses less than a
 * quarter; at its next prologue if it may not be moved now. */
void shrinkstack(struct g *gp);
/* At the end of a cycle, by the driver: freezes goroutines that wait for long,
 * shrinks large stacks, gives memory of free ones back. Calls pause now and
 * then, which may yield. */
void stacks_trim(void (*pause)(void));
/* World stopped: the free stacks that pp keeps go to the pool. */
void stacks_p_end(struct p *pp);
/* What a scan found: so many bytes on so many stacks. */
void stack_set_first(uint64_t bytes, uint64_t stacks);

struct suspendGState {
    struct g *g;
    bool dead;    /* nothing to scan */
    bool stopped; /* we claimed it: resumeG readies it */
};
/* Stops gp where its stack can be read. The caller is a system goroutine or on
 * g0 with its own user goroutine not Grunning. */
struct suspendGState suspendG(struct g *gp);
/* One step of that, which never waits. False: not yet; *rq remembers what was
 * asked, for the next step. By who may call suspendG. */
struct suspend_request {
    /* To whom the last signal went, before its handler's asyncGen-th end. */
    struct m *asyncM;
    uint32_t asyncGen;
    /* Signals to one goroutine come at least this far apart, which doubles: where
     * the first ones hit it in code that cannot be stopped, so will more. */
    int64_t signal_at, signal_pause;
    int64_t reissue_at;
};
#define SUSPEND_REQUEST_INIT                                                   \
    {                                                                          \
        .signal_pause = 5000                                                   \
    }
bool suspendG_try(struct g *gp, struct suspend_request *rq,
                  struct suspendGState *st);
void resumeG(struct suspendGState s);

/* Calls range(lo, hi, arg) for each address range whose words are gp's roots;
 * gp is suspended, or the world is stopped. */
void scanstack(struct g *gp,
               void (*range)(uintptr_t lo, uintptr_t hi, void *arg), void *arg);
/* gp is suspended in a native call: the part of its stack on which native code
 * may run, for checkmark. What lies there dead may show in a later frame. */
void scanstack_native(struct g *gp,
                      void (*range)(uintptr_t lo, uintptr_t hi, void *arg),
                      void *arg);
/* gp is suspended. Zeroes its unused stack (checkmark: no word of a dead frame
 * may come back to life), or gives whole pages of it back. */
void stack_clear_unused(struct g *gp);
void stack_release_unused(struct g *gp);

/* stackmem.c */
struct stack_stats {
    _Atomic uint64_t mapped;   /* bytes that stacks may use */
    _Atomic uint64_t reserved; /* of addresses, for large ones to grow */
    _Atomic uint64_t fixed_inuse, large_inuse;
    _Atomic uint64_t made[STACK_ORDERS]; /* stacks of each small size */
    _Atomic uint64_t copies, copied_bytes, grows_in_place, shrinks;
    _Atomic uint64_t frozen, frozen_bytes; /* now */
    _Atomic uint64_t freezes;
    _Atomic uint64_t released; /* free ones whose memory went back */
};
extern struct stack_stats stack_stats;
/* Bytes in memory of stacks that belong to a G that lives, and of others; world
 * stopped. */
struct stack_memory {
    size_t inuse, unused;
};
void stacks_memory(struct resident *r, struct stack_memory *m);
uint64_t stacks_inuse(void); /* bytes of stacks that belong to a G */
void stack_check_guard(const struct g *gp); /* throws; poison.c */
bool stackalloc(struct g *gp, enum stack_kind kind, size_t size);
void stackfree(struct g *gp);

/* alloca.c */
void alloca_free_all(struct g *gp);
void alloca_prune(struct g *gp, uintptr_t sp);
void alloca_adjust(struct g *gp, uintptr_t lo, uintptr_t hi, intptr_t delta);
void alloca_each(struct g *gp,
                 void (*range)(uintptr_t lo, uintptr_t hi, void *arg),
                 void *arg);

/* fault.c - test instrument: leaves one thing out of every scan, or of every
 * move, which tarn-stress must notice. Read once for each stack. */
enum scan_fault {
    SCAN_FAULT_NONE,
    SCAN_FAULT_RBX,      /* the rbx that a parked goroutine pushed */
    SCAN_FAULT_XREGS,    /* what XSAVE kept of an interrupted one */
    SCAN_FAULT_GENERAL,  /* the general registers that it pushed */
    SCAN_FAULT_RED_ZONE, /* what lies below its stack pointer */
    SCAN_FAULT_PAGE,     /* the oldest 4 KiB of each stack */
    SCAN_FAULT_INTERIOR, /* pointers into the middle of objects */
    SCAN_FAULT_NATIVE,   /* native_regs */
    SCAN_FAULT_OPERAND,  /* operands of blocked operations */
    SCAN_FAULT_ALLOCA,   /* alloca blocks */
    SCAN_FAULT_MOVE,     /* a move does not adjust the pushed rbx */
};
extern _Atomic uint32_t scan_fault;
#define SCAN_FAULT(name)                                                       \
    (atomic_load_explicit(&scan_fault, memory_order_relaxed) ==                \
     SCAN_FAULT_##name)
/* scanstack, less what scan_fault says. */
COLD void scanstack_faulty(struct g *gp,
                           void (*range)(uintptr_t lo, uintptr_t hi, void *arg),
                           void *arg);
/* Takes the adjustment back. */
COLD void stack_fault_moved(uintptr_t old_sp, uintptr_t new_sp);

/* Adds delta to every word of [from, to) whose value lies in [lo, hi). */
void adjust_words(uintptr_t from, uintptr_t to, uintptr_t lo, uintptr_t hi,
                  intptr_t delta);

#endif
