/* stackscan/fault.c - a scan that leaves something out, on purpose.
 *
 * What a scan must find is worth testing only if a scan that does not find it is
 * caught. tarn-stress breaks the scan in each of these ways and expects to fail.
 * scanstack itself knows nothing of it: its ranges pass a filter. */
#include "stackscan/stackscan.h"

_Atomic uint32_t scan_fault;

/* Behind the frames, mcall and __morestack push r15 r14 r13 r12 rbx rbp and where
 * to return; asyncPreempt, which calls mcall, has in rbp the address of the word
 * where it pushed the interrupted rbp. Above that flags, pc, the red zone. */
#define SAVED_RBX 32
#define SAVED_RBP 40
#define ASYNC_FRAME 24
#define RED_ZONE 128

#define PAGE ((uintptr_t)4096)

struct filter {
    struct g *g;
    uint32_t fault;
    void (*range)(uintptr_t lo, uintptr_t hi, void *arg);
    void *arg;
};

static void pass(const struct filter *f, uintptr_t lo, uintptr_t hi)
{
    if (lo < hi)
        f->range(lo, hi, f->arg);
}

/* [lo, hi) without [from, to). */
static void cut(const struct filter *f, uintptr_t lo, uintptr_t hi,
                uintptr_t from, uintptr_t to)
{
    pass(f, lo, from < hi ? from : hi);
    pass(f, to > lo ? to : lo, hi);
}

/* The operand of an operation that f->g is blocked in? The runtime's frames may
 * hold copies of it, by the compiler's choice. */
static bool is_operand(const struct filter *f, uintptr_t v)
{
    for (struct sudog *s = f->g->waiting; s != NULL; s = s->waitlink)
        if (s->elem != NULL && (uintptr_t)s->elem == v)
            return true;
    return false;
}

static bool is_interior(uintptr_t v)
{
    struct objinfo o;
    return heap_contains(v) && heap_find(v, &o) && o.base != v;
}

NO_SANITIZE static void
each_word(const struct filter *f, uintptr_t lo, uintptr_t hi,
          bool (*skip)(const struct filter *f, uintptr_t v))
{
    lo = ALIGN_UP(lo, (uintptr_t)8);
    uintptr_t from = lo;
    for (uintptr_t w = lo; w + 8 <= hi; w += 8) {
        if (!skip(f, *(const uintptr_t *)w))
            continue;
        pass(f, from, w);
        from = w + 8;
    }
    pass(f, from, hi);
}

static bool skip_interior(const struct filter *f, uintptr_t v)
{
    (void)f;
    return is_interior(v);
}

NO_SANITIZE static uintptr_t word_at(uintptr_t at)
{
    return *(const uintptr_t *)at;
}

static void filter_stack(const struct filter *f, uintptr_t lo, uintptr_t hi)
{
    struct g *gp = f->g;
    bool parked = gp->syscallsp == 0;
    bool async = parked && atomic_load_explicit(&gp->asyncSafePoint,
                                                memory_order_relaxed);
    uintptr_t frame = async ? word_at(lo + SAVED_RBP) + ASYNC_FRAME : 0;
    if (f->fault == SCAN_FAULT_RBX && parked)
        cut(f, lo, hi, lo + SAVED_RBX, lo + SAVED_RBX + 8);
    else if (f->fault == SCAN_FAULT_GENERAL && async)
        cut(f, lo, hi, lo, frame);
    else if (f->fault == SCAN_FAULT_RED_ZONE && async)
        cut(f, lo, hi, frame, frame + RED_ZONE);
    else if (f->fault == SCAN_FAULT_PAGE)
        cut(f, lo, hi, hi - PAGE, hi);
    else if (f->fault == SCAN_FAULT_OPERAND)
        each_word(f, lo, hi, is_operand);
    else if (f->fault == SCAN_FAULT_INTERIOR)
        each_word(f, lo, hi, skip_interior);
    else
        pass(f, lo, hi);
}

static void filter_range(uintptr_t lo, uintptr_t hi, void *vf)
{
    const struct filter *f = vf;
    struct g *gp = f->g;
    if (hi == gp->stack.hi && lo >= gp->stack.lo)
        filter_stack(f, lo, hi);
    else if ((f->fault == SCAN_FAULT_XREGS && lo == (uintptr_t)gp->xregs) ||
             (f->fault == SCAN_FAULT_NATIVE &&
              lo == (uintptr_t)gp->native_regs))
        return;
    else if (f->fault == SCAN_FAULT_OPERAND)
        each_word(f, lo, hi, is_operand);
    else if (f->fault == SCAN_FAULT_INTERIOR)
        each_word(f, lo, hi, skip_interior);
    else
        pass(f, lo, hi);
}

void scanstack_faulty(struct g *gp,
                      void (*range)(uintptr_t lo, uintptr_t hi, void *arg),
                      void *arg)
{
    struct filter f = {gp,
                       atomic_load_explicit(&scan_fault, memory_order_relaxed),
                       range, arg};
    scanstack(gp, filter_range, &f);
}

void stack_fault_moved(uintptr_t old_sp, uintptr_t new_sp)
{
    *(uintptr_t *)(new_sp + SAVED_RBX) =
        *(const uintptr_t *)(old_sp + SAVED_RBX);
}
