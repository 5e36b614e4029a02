/* stackscan/newstack.c - what happens when a prologue finds its stack short:
 * preemption, growth by copying, overflow. And which code has such prologues. */
#include "base/options.h"
#include "base/sysmem.h"
#include "stackscan/framemap.h"
#include "stackscan/stackmem.h"

size_t stack_guard = STACK_GUARD;

/* The forms that gcc and clang emit, and what lld makes of the first one. */
bool has_split_prologue(const void *fn)
{
    static const uint8_t cmp_rsp[] = {0x64, 0x48, 0x3b, 0x24, 0x25,
                                      0x70, 0x00, 0x00, 0x00};
    static const uint8_t cmp_r11[] = {0x64, 0x4c, 0x3b, 0x1c, 0x25,
                                      0x70, 0x00, 0x00, 0x00};
    static const uint8_t lld_stc[] = {0xf9, 0x0f, 0x1f, 0x84, 0x00,
                                      0x00, 0x00, 0x00, 0x00};
    static const uint8_t endbr64[] = {0xf3, 0x0f, 0x1e, 0xfa};
    const uint8_t *p = fn;
    if (memcmp(p, endbr64, sizeof(endbr64)) == 0)
        p += sizeof(endbr64);
    if (memcmp(p, cmp_rsp, sizeof(cmp_rsp)) == 0 ||
        memcmp(p, lld_stc, sizeof(lld_stc)) == 0)
        return true;
    if (p[0] == 0x4c && p[1] == 0x8d && p[2] == 0x5c && p[3] == 0x24)
        return memcmp(p + 5, cmp_r11, sizeof(cmp_r11)) == 0;
    if (p[0] == 0x4c && p[1] == 0x8d && p[2] == 0x9c && p[3] == 0x24)
        return memcmp(p + 8, cmp_r11, sizeof(cmp_r11)) == 0;
    return false;
}

static enum stack_kind stack_kind_of(tarn_fn fn, enum tarn_stacks want,
                                     bool *ok)
{
    *ok = true;
#if TARN_ASAN || TARN_TSAN
    /* What they know of a stack does not move with it. */
    if (want == TARN_STACKS_COPYING) {
        *ok = false;
        set_error("tarn_go: a copying stack is asked for, which builds for "
                  "AddressSanitizer and ThreadSanitizer do not have");
    }
    (void)fn;
    return STACK_FIXED;
#else
    if (want == TARN_STACKS_AUTO)
        want = (enum tarn_stacks)options.stacks;
    if (want == TARN_STACKS_FIXED)
        return STACK_FIXED;
    if (has_split_prologue((const void *)(uintptr_t)fn))
        return STACK_COPYING;
    if (want == TARN_STACKS_COPYING) {
        *ok = false;
        set_error("tarn_go: a copying stack is asked for, but the function at "
                  "%p has no split-stack prologue",
                  (void *)(uintptr_t)fn);
    }
    return STACK_FIXED;
#endif
}

/* Without hi: no frame begins there (prepare_stack), but somebody else's memory
 * may. */
void adjust_words(uintptr_t from, uintptr_t to, uintptr_t lo, uintptr_t hi,
                  intptr_t delta)
{
    uintptr_t size = hi - lo;
    for (uintptr_t *w = (uintptr_t *)from; w < (uintptr_t *)to; w++) {
        uintptr_t v = *w;
        *w = v + (v - lo < size ? (uintptr_t)delta : 0);
    }
}

bool copystack(struct g *gp, size_t newsize)
{
    ASSERT(gp->kind == STACK_COPYING && gp->syscallsp == 0 && !gp->foreign);
    /* Its registers may hold anything. */
    ASSERT(!atomic_load_explicit(&gp->asyncSafePoint, memory_order_relaxed));
    struct stack old = gp->stack;
    struct large *old_large = gp->large;
    uintptr_t old_sp = gp->sched_sp;
    size_t used = old.hi - old_sp;
    ASSERT(used < newsize);
    /* What words may point to: of a reservation, as far as the stack has been. */
    uintptr_t base = stack_base(gp);
    stack_check_guard(gp);
    if (!stackmem_alloc(gp, newsize)) {
        gp->large = old_large;
        return false;
    }
    struct stack new = gp->stack;
    trace_event(TRACE_STACK, gp, old.hi - old.lo, newsize);
    intptr_t delta = (intptr_t)(new.hi - old.hi);
    uintptr_t sp = new.hi - used;
    memcpy((void *)sp, (const void *)old_sp, used);
    if (options.checkmark)
        memset((void *)new.lo, 0, newsize - used);
    stack_poison_guard(gp);
    adjust_frames(gp, sp, new.hi, base, old.hi, delta, 0);
    if (SCAN_FAULT(MOVE))
        stack_fault_moved(old_sp, sp);
    alloca_adjust(gp, base, old.hi, delta);
    adjust_records(gp, base, old.hi, delta);
    __atomic_store_n(&gp->sched_sp, sp, __ATOMIC_RELAXED);
    if (gp->stackguard1 != STACK_FORCEMOVE)
        gp->stackguard1 = new.lo + stack_guard;
    delay_point("copystack: guard");
    atomic_store_explicit(&gp->stackguard0, gp->stackguard1,
                          memory_order_relaxed);
    /* A word that still points there shows at once in stress runs. */
    if (options.stackmove)
        memset((void *)old_sp, STACK_POISON_BYTE, used);
    atomic_fetch_add_explicit(&stack_stats.copies, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&stack_stats.copied_bytes, used,
                              memory_order_relaxed);
    stackmem_free(old, old_large);
    return true;
}

static void overflow(struct g *gp, size_t need) __attribute__((noreturn));
static void overflow(struct g *gp, size_t need)
{
    size_t size = gp->stack.hi - gp->stack.lo;
    if (gp->kind == STACK_FIXED)
        fatal("stack overflow: goroutine %llu needs %zu more bytes on its "
              "fixed stack of %zu bytes (option fixedstack)",
              (unsigned long long)gp->goid, need, size);
    fatal("stack overflow: goroutine %llu exceeds the limit of %lld bytes "
          "(option stackmax)",
          (unsigned long long)gp->goid, (long long)options.stackmax);
}

/* Option preemptat: here? Or perhaps at the next call of the library. */
static bool preemptat(struct g *gp)
{
    if (!canPreemptM(gp->m) ||
        rand_below(&gp->m->rand, (uint32_t)options.preemptat) != 0)
        return false;
    if (rand_below(&gp->m->rand, 4) != 0)
        return true;
    atomic_store_explicit(&gp->preempt, true, memory_order_relaxed);
    return false;
}

/* gp goes on behind the check: its stack must keep this room below sp. */
static void promise(struct g *gp, size_t frame)
{
    gp->frame_need = frame;
    gp->resume |= RESUME_FRAME;
}

void newstack(struct g *gp, size_t frame, uintptr_t sp, uintptr_t pc)
{
    struct m *mp = gp->m;
    (void)pc;
    ASSERT(atomic_load_explicit(&mp->curg, memory_order_relaxed) == gp);
    if (unlikely(sp < gp->stack.lo || sp > gp->stack.hi))
        throw("newstack: goroutine %llu: stack pointer %#lx is outside its "
              "stack %#lx..%#lx",
              (unsigned long long)gp->goid, (unsigned long)sp,
              (unsigned long)gp->stack.lo, (unsigned long)gp->stack.hi);
    if (unlikely(gp->throwsplit))
        throw("stack growth at a bad time");
    /* Once: another thread may write a request at any moment. */
    uintptr_t guard =
        atomic_load_explicit(&gp->stackguard0, memory_order_relaxed);
    delay_point("newstack: guard read");
    uintptr_t floor = gp->stack.lo + stack_guard;
    bool grow = sp < floor || frame > sp - floor;
    if (gp->kind == STACK_FIXED) {
        /* The frame runs to its end on this stack or not at all; below the
         * guard zone's half there is still room for what we call. */
        uintptr_t hard = gp->stack.lo + STACK_GUARD / 2;
        if (sp < hard || frame > sp - hard)
            overflow(gp, frame);
    } else if (grow || options.stackmove) {
        size_t size = gp->stack.hi - gp->stack.lo;
        size_t used = gp->stack.hi - sp;
        size_t newsize = size;
        if (grow) {
            /* A shrunk large one may be of any size. */
            newsize = STACK_MIN;
            while (newsize <= size || newsize < used ||
                   newsize - used < frame + stack_guard) {
                newsize *= 2;
                if (newsize > ((size_t)1 << 46))
                    break;
            }
        }
        if (newsize > (size_t)options.stackmax)
            overflow(gp, frame);
        casgstatus(gp, Grunning, Gcopystack);
        delay_point("newstack: copystack");
        bool ok = (grow && !options.stackmove && !options.stackpoison &&
                   stack_grow_in_place(gp, newsize)) ||
                  copystack(gp, newsize);
        casgstatus(gp, Gcopystack, Grunning);
        if (!ok && grow)
            throw("out of memory: goroutine %llu needs a stack of %zu bytes",
                  (unsigned long long)gp->goid, newsize);
    } else if (unlikely(gp->preemptShrink)) {
        gp->preemptShrink = false;
        gp->frame_need = frame;
        casgstatus(gp, Grunning, Gcopystack);
        shrinkstack(gp);
        casgstatus(gp, Gcopystack, Grunning);
        gp->frame_need = 0;
    }
    /* The copy may have wiped the request word, not the flag. We return behind
     * the check of the prologue, so growth had to come first. */
    bool asked = guard == STACK_PREEMPT ||
                 atomic_load_explicit(&gp->preempt, memory_order_relaxed);
    if (unlikely(options.preemptat != 0) && preemptat(gp)) {
        promise(gp, frame);
        gopreempt_m(gp);
    }
    if (asked) {
        if (atomic_load_explicit(&gp->preempt, memory_order_relaxed) &&
            canPreemptM(mp)) {
            promise(gp, frame);
            if (atomic_load(&gp->preemptStop))
                preemptPark(gp);
            gopreempt_m(gp);
        }
        atomic_store_explicit(&gp->stackguard0, gp->stackguard1,
                              memory_order_relaxed);
    }
    ASSERT(gp->kind != STACK_COPYING ||
           gp->sched_sp - gp->stack.lo >= frame + STACK_GUARD / 2);
    gogo(gp);
}

static void stack_goexit(struct g *gp)
{
    alloca_free_all(gp);
    if (gp->kind == STACK_COPYING) {
        /* The next goroutine with this G finds it warm. */
        stack_check_guard(gp);
        if (gp->stack.hi - gp->stack.lo !=
                atomic_load_explicit(&sched_hooks.first_stack,
                                     memory_order_relaxed) ||
            options.checkmark || options.stackpoison)
            stackfree(gp);
    } else if (options.checkmark && !gp->foreign) {
        /* The next G on this stack must not find words of this one's frames. */
        gp->sched_sp = gp->stack.hi;
        stack_clear_unused(gp);
    }
}

void stackscan_init(void)
{
    static const uint8_t stc = 0xf9;
    if (*(const uint8_t *)(uintptr_t)&linkcheck_probe != stc)
        stack_guard = STACK_GUARD + STACK_UNMARKED_ROOM;
#if TARN_ASAN || TARN_TSAN
    stack_guard += (size_t)64 << 10;
#endif
    sched_hooks.stackalloc = stackalloc;
    sched_hooks.stackfree = stackfree;
    sched_hooks.stack_resume = stack_resume;
    atomic_store(&sched_hooks.first_stack, STACK_MIN);
    sched_hooks.stack_kind_of = stack_kind_of;
    sched_hooks.goexit = stack_goexit;
    sched_hooks.text_kind = text_kind;
    sched_hooks.text_refresh = text_refresh;
    text_refresh();
}
