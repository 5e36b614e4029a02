/* stackscan/freeze.c - goroutines that wait do not need their stacks.
 *
 * A copying stack is 64 KiB of addresses and one or two touched pages at the
 * least, so that code without prologue checks has room and no move changes the
 * low bits of an address (stackscan.h). A goroutine that has long been waiting
 * uses a few hundred bytes of it. It is frozen: its frames are copied as they
 * are to memory of just their size, the stack goes to somebody else, and before
 * it runs again it is thawed: its frames are copied to a new stack and adjusted,
 * as by any other move. Nothing runs on an image and nothing points into one but
 * the operands of channel operations that wait in its frames, so an image needs
 * neither guard nor alignment.
 *
 * Who is cold? Who was met waiting twice without having run in between. The hands
 * of a clock go over the smallest stacks when one is wanted and many exist, and
 * each collection goes round once where there are more than a few.
 *
 * shrinkstack gives a goroutine that uses less than a quarter of a larger stack
 * a smaller one. */
#include "base/options.h"
#include "base/sysmem.h"
#include "sched/chan.h"
#include "stackscan/framemap.h"
#include "stackscan/stackmem.h"

/* What is worth an image: more would save little. */
#define FREEZE_MAX ((size_t)16 << 10)
/* So many smallest stacks are nothing to a process. */
#define FEW_STACKS 256u

/* --- may it be moved? ------------------------------------------------------------- */

/* The scan bit is held, or gp is ours and stopped at a prologue. Not where
 * somebody works with its stack: native code, a runtime function that has left
 * it for g0 and comes back, what was stopped between any two instructions. */
static bool isShrinkStackSafe(struct g *gp)
{
    if (gp->kind != STACK_COPYING || gp->stack.lo == 0 ||
        gp->resume & (RESUME_START | RESUME_THAW) || gp->syscallsp != 0 ||
        gp->throwsplit || gp->foreign || gp->xregs != NULL ||
        atomic_load_explicit(&gp->asyncSafePoint, memory_order_relaxed))
        return false;
    if ((readgstatus(gp) & ~(uint32_t)Gscan) != Gwaiting)
        return true;
    switch (__atomic_load_n(&gp->waitreason, __ATOMIC_RELAXED)) {
    case WAIT_STOPPING_WORLD:
    case WAIT_GC_ASSIST:
    case WAIT_GC_SELF_SCAN:
        return false;
    default:
        return true;
    }
}

/* In the live part. */
static bool in_frames(const struct g *gp, const void *p)
{
    return (uintptr_t)p - gp->sched_sp < gp->stack.hi - gp->sched_sp;
}

/* May somebody write to s's operand where a move of gp's stack reads or writes? A
 * move writes all words of alloca blocks, and does not say which are operands. */
static bool exposed(const struct g *gp, const struct sudog *s)
{
    return s->c != NULL && s->elem != NULL &&
           (gp->stackdata != NULL || in_frames(gp, s->elem));
}

/* The channels of the exposed wait records before end. */
static void unlock_channels(struct g *gp, const struct sudog *end)
{
    struct hchan *last = NULL;
    for (struct sudog *s = gp->waiting; s != end; s = s->waitlink)
        if (s->c != last && exposed(gp, s)) {
            last = s->c;
            unlock_brief(&last->lock);
        }
}

/* Other sides of channels write operands on a waiting goroutine's stack under
 * the channels' locks alone. All of them, or none: others take them first and
 * the scan bit then, so we only try. */
static bool trylock_channels(struct g *gp)
{
    struct hchan *last = NULL;
    for (struct sudog *s = gp->waiting; s != NULL; s = s->waitlink) {
        if (s->c == last || !exposed(gp, s))
            continue;
        if (!trylock(&s->c->lock)) {
            unlock_channels(gp, s);
            return false;
        }
        last = s->c;
    }
    return true;
}

void adjust_records(struct g *gp, uintptr_t lo, uintptr_t hi, intptr_t delta)
{
    for (struct sudog *s = gp->waiting; s != NULL; s = s->waitlink)
        if ((uintptr_t)s->elem - lo < hi - lo)
            s->elem = (char *)s->elem + delta;
}

/* --- freezing and thawing ------------------------------------------------------- */

/* The scan bit is held; there are room bytes at image. */
static bool freeze(struct g *gp, void *image, size_t room)
{
    struct stack old = gp->stack;
    if (gp->lockedm != NULL || gp->large != NULL || !isShrinkStackSafe(gp) ||
        old.hi - gp->sched_sp > room)
        return false;
    alloca_prune(gp, gp->sched_sp);
    if (!trylock_channels(gp))
        return false;
    size_t used = old.hi - gp->sched_sp;
    stack_check_guard(gp);
    memcpy(image, (const void *)gp->sched_sp, used);
    gp->frozen = old;
    gp->stack.lo = (uintptr_t)image;
    gp->stack.hi = (uintptr_t)image + used;
    adjust_records(gp, old.lo, old.hi, (intptr_t)(gp->stack.hi - old.hi));
    __atomic_store_n(&gp->sched_sp, (uintptr_t)image, __ATOMIC_RELAXED);
    gp->resume = (uint8_t)((gp->resume & ~RESUME_IDLE) | RESUME_THAW);
    delay_point("freeze: moved");
    unlock_channels(gp, NULL);
    atomic_fetch_add_explicit(&stack_stats.frozen, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&stack_stats.frozen_bytes, used,
                              memory_order_relaxed);
    atomic_fetch_add_explicit(&stack_stats.freezes, 1, memory_order_relaxed);
    stackmem_free(old, NULL);
    return true;
}

/* gp is ours and about to run. */
static void thaw(struct g *gp)
{
    struct stack image = gp->stack, old = gp->frozen;
    size_t used = image.hi - image.lo;
    size_t size = stack_size_for(used + gp->frame_need);
    if (size > old.hi - old.lo)
        size = old.hi - old.lo; /* where it was, there was room */
    if (!stack_set(gp, size))
        throw("out of memory: goroutine %llu needs its stack of %zu bytes back",
              (unsigned long long)gp->goid, size);
    uintptr_t sp = gp->stack.hi - used;
    intptr_t delta = (intptr_t)(gp->stack.hi - old.hi);
    memcpy((void *)sp, (const void *)image.lo, used);
    adjust_frames(gp, sp, gp->stack.hi, old.lo, old.hi, delta,
                  image.hi - old.hi);
    gp->sched_sp = old.hi - used;
    alloca_adjust(gp, old.lo, old.hi, delta);
    /* A select's: those that did not fire are still in their queues, where
     * nobody looks at their operands any more. */
    adjust_records(gp, image.lo, image.hi, (intptr_t)(gp->stack.hi - image.hi));
    __atomic_store_n(&gp->sched_sp, sp, __ATOMIC_RELAXED);
    atomic_fetch_sub_explicit(&stack_stats.frozen, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&stack_stats.frozen_bytes, used,
                              memory_order_relaxed);
    if (options.stackpoison)
        memset((void *)image.lo, STACK_POISON_BYTE, used);
    sys_free((void *)image.lo);
}

void stack_resume(struct g *gp)
{
    if (gp->resume & RESUME_THAW) {
        thaw(gp);
    } else if (gp->stack.lo == 0) {
        /* Its first run. */
        size_t size = atomic_load_explicit(&sched_hooks.first_stack,
                                           memory_order_relaxed);
        if (!stack_set(gp, size) &&
            (size == STACK_MIN || !stack_set(gp, STACK_MIN)))
            throw("out of memory: goroutine %llu needs a stack of %zu bytes",
                  (unsigned long long)gp->goid, STACK_MIN);
        gp->sched_sp = ALIGN_DOWN(gp->stack.hi - 16, (uintptr_t)16);
    }
}

/* What a visit does with a goroutine that waits. */
enum visit {
    VISIT_MARK,  /* it is cold unless it runs until the next visit */
    VISIT_COLD,  /* freeze it if it is cold */
    VISIT_ROUND, /* freeze it if it is cold, else mark it */
    VISIT_FORCE, /* freeze it */
};

/* The scan bit of the stack's owner is not held. True: it is frozen now. */
static bool visit(struct g *gp, uintptr_t lo, enum visit how)
{
    if (readgstatus(gp) != Gwaiting)
        return false;
    bool cold = __atomic_load_n(&gp->resume, __ATOMIC_RELAXED) & RESUME_IDLE;
    bool mark = how == VISIT_MARK || (how == VISIT_ROUND && !cold);
    if (mark ? cold : how == VISIT_COLD && !cold)
        return false;
    /* A guess, since it may be running by now. Memory is made ready before the
     * bit is taken, under which nothing that may wait is done. */
    size_t room = __atomic_load_n(&gp->stack.hi, __ATOMIC_RELAXED) -
                  __atomic_load_n(&gp->sched_sp, __ATOMIC_RELAXED);
    void *image = NULL;
    if (!mark) {
        if (room == 0 || room > FREEZE_MAX)
            return false;
        image = sys_alloc(room);
        if (image == NULL)
            return false;
    }
    bool done = false;
    if (castogscanstatus(gp, Gwaiting, Gwaiting | Gscan)) {
        if (gp->stack.lo != lo)
            ; /* it has another one by now */
        else if (mark)
            gp->resume |= RESUME_IDLE;
        else if (how == VISIT_FORCE || gp->resume & RESUME_IDLE)
            done = freeze(gp, image, room);
        casfrom_Gscanstatus(gp, Gwaiting | Gscan, Gwaiting);
    }
    if (!done)
        sys_free(image);
    return done;
}

static uint32_t visit_some(struct stack_chunk *c, uint32_t from, uint32_t to,
                           enum visit how)
{
    uint32_t done = 0;
    for (uint32_t i = from; i < to; i++) {
        struct g *gp = atomic_load_explicit(&c->owner[i], memory_order_acquire);
        if (gp != NULL)
            done += visit(gp, c->lo + i * STACK_MIN, how);
    }
    return done;
}

#define CHUNK_STACKS ((uint32_t)(STACK_CHUNK / STACK_MIN))

static uint32_t visit_chunk(struct stack_chunk *c, enum visit how)
{
    return visit_some(c, 0, CHUNK_STACKS, how);
}

/* --- the clock's hands ------------------------------------------------------------ */

/* One hand marks and the other, half a round behind, freezes whom it finds still
 * marked: a turn finds somebody whenever many wait. Ps take turns of a chunk
 * without waiting for each other; two on the same chunk do no harm. */
static _Atomic uint32_t hand;

#define RECLAIM_BATCH 32u
#define RECLAIM_TURNS 8u

void stacks_reclaim(bool hard)
{
    uint32_t n =
        atomic_load_explicit(&stack_smallest_count, memory_order_acquire);
    if (n == 0)
        return;
    uint32_t most = hard || n < RECLAIM_TURNS ? n : RECLAIM_TURNS;
    for (uint32_t i = 0, got = 0; i < most && got < RECLAIM_BATCH; i++) {
        uint32_t at = atomic_fetch_add_explicit(&hand, 1, memory_order_relaxed);
        if (!hard)
            visit_chunk(stack_smallest((at + n / 2) % n), VISIT_MARK);
        got += visit_chunk(stack_smallest(at % n),
                           hard ? VISIT_FORCE : VISIT_COLD);
    }
}

/* Once over all of them. */
static void freeze_round(void (*pause)(void))
{
    uint32_t chunks =
        atomic_load_explicit(&stack_smallest_count, memory_order_acquire);
    uint32_t n = 0;
    for (uint32_t k = 0; k < chunks; k++) {
        struct stack_chunk *c = stack_smallest(k);
        for (uint32_t i = 0; i < ARRAY_LEN(c->owner); i++)
            n += atomic_load_explicit(&c->owner[i], memory_order_relaxed) !=
                 NULL;
    }
    if (n <= FEW_STACKS && !options.stackshrink)
        return;
    /* In slices: a stop of the world waits for one. */
    for (uint32_t i = 0; i < chunks * CHUNK_STACKS; i += 16) {
        uint32_t at = i % CHUNK_STACKS;
        struct m *mp = acquirem();
        visit_some(stack_smallest(i / CHUNK_STACKS), at, at + 16,
                   options.stackshrink ? VISIT_FORCE : VISIT_ROUND);
        releasem(mp);
        if (at == 0)
            pause();
    }
}

/* --- shrinking -------------------------------------------------------------------- */

/* How far down the stack is used or will be. It may have been stopped between the
 * check of a prologue and the frame that was checked for. And compilers may
 * compute the address of an alloca before they take it, once for all turns of a
 * loop: it lies below sp, and it must lie in the stack at the next move as well,
 * to be adjusted. */
static size_t reach(const struct g *gp)
{
    uintptr_t lo = stack_base(gp), size = gp->stack.hi - lo;
    uintptr_t lowest = gp->sched_sp - lo;
    for (const uintptr_t *w = (const uintptr_t *)gp->sched_sp;
         w < (const uintptr_t *)gp->stack.hi; w++)
        if (*w - lo < lowest)
            lowest = *w - lo;
    size_t promised = gp->stack.hi - gp->sched_sp + gp->frame_need;
    return size - lowest > promised ? size - lowest : promised;
}

/* By what gp uses: what its stack should be; 0: what it is. */
static size_t wanted(const struct g *gp)
{
    size_t size = gp->stack.hi - gp->stack.lo;
    size_t used = gp->stack.hi - gp->sched_sp + gp->frame_need;
    if (size <= STACK_MIN ||
        (!options.stackshrink && used + stack_guard >= size / 4))
        return 0;
    size_t newsize = stack_size_for(options.stackshrink ? used : used * 2);
    return newsize < size ? newsize : 0;
}

static bool shrinkable_kind(const struct g *gp)
{
    return gp->kind == STACK_COPYING && gp->stack.lo != 0 &&
           !(gp->resume & (RESUME_START | RESUME_THAW));
}

void shrinkstack(struct g *gp)
{
    if (!shrinkable_kind(gp) || gp->syscallsp != 0)
        return;
    size_t newsize = wanted(gp);
    if (newsize == 0 || (gp->large != NULL && newsize >= STACK_LARGE))
        return; /* the latter by stacks_trim, in slices */
    if (!isShrinkStackSafe(gp)) {
        gp->preemptShrink = true;
        return;
    }
    size_t far = stack_size_for(reach(gp));
    newsize = newsize > far ? newsize : far;
    if (newsize >=
        (gp->large != NULL ? STACK_LARGE : gp->stack.hi - gp->stack.lo))
        return;
    if (!trylock_channels(gp))
        return; /* there will be another scan */
    if (copystack(gp, newsize))
        atomic_fetch_add_explicit(&stack_stats.shrinks, 1,
                                  memory_order_relaxed);
    unlock_channels(gp, NULL);
}

/* Of a large stack that gp does not use, a slice, as long as gp has not run since
 * the first one. It does not move, so nothing needs to be looked at. */
static bool shrink_large(struct g *gp, size_t *target)
{
    bool more = false;
    uint32_t status = readgstatus(gp);
    if ((status != Gwaiting && status != Grunnable) ||
        !castogscanstatus(gp, status, status | Gscan))
        return false;
    if (gp->large != NULL && isShrinkStackSafe(gp)) {
        if (*target == 0) {
            *target = wanted(gp);
            gp->resume |= RESUME_IDLE;
        }
        if (*target >= STACK_LARGE && gp->resume & RESUME_IDLE) {
            more = stack_shrink_in_place(gp, *target);
            if (!more)
                atomic_fetch_add_explicit(&stack_stats.shrinks, 1,
                                          memory_order_relaxed);
        }
    }
    casfrom_Gscanstatus(gp, status | Gscan, status);
    return more;
}

void stacks_trim(void (*pause)(void))
{
    freeze_round(pause);
    for (uint32_t n = stack_large_count(); n > 0; n--) {
        struct g *gp = stack_large_next();
        size_t target = 0;
        while (gp != NULL && shrink_large(gp, &target))
            pause();
    }
    stacks_release_idle();
}

/* --- the first size ---------------------------------------------------------------- */

void stack_set_first(uint64_t bytes, uint64_t stacks)
{
    /* Too few to say anything. */
    if (stacks < 16)
        return;
    uint32_t order = 0;
    while (order < STACK_ORDERS - 1 &&
           STACK_MIN << order < bytes / stacks + stack_guard)
        order++;
    while (order > 0 && STACK_MIN << order > (size_t)options.stackmax)
        order--;
    atomic_store_explicit(&sched_hooks.first_stack, STACK_MIN << order,
                          memory_order_relaxed);
}
