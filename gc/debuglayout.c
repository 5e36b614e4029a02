/* gc/debuglayout.c - what a debugger must know of the runtime to look into a process
 * or a core without debug information: where fields lie, where globals are, what
 * numbers mean. gc/tarn-gdb.py reads it, and nothing else.
 *
 * A table of names, exported, so that it is found in a stripped library too:
 *      struct.field    value = offset, size
 *      struct          size
 *      &global         value = address, size
 *      =CONSTANT       value
 *      waitreason=text value = number
 *      text            value = an address in the runtime's code; the code of all that
 *                      waits lies between the lowest and the highest of them
 * A name that means something else from now on needs another version. */
#include "gc/gc.h"
#include "sched/chan.h"
#include "stackscan/stackmem.h"

struct tarn_debug_entry {
    const char *name; /* NULL ends the table */
    uintptr_t value;
    uintptr_t size;
};

/* clang-format off */
#define ENTRY(name, value, size) {name, value, size}
/* clang-format on */
#define STRUCT(s) ENTRY(#s, 0, sizeof(struct s))
#define FIELD(s, f)                                                            \
    ENTRY(#s "." #f, offsetof(struct s, f), sizeof(((struct s *)NULL)->f))
#define GLOBAL(v) ENTRY("&" #v, (uintptr_t)&v, sizeof(v))
#define CONSTANT(c) ENTRY("=" #c, c, 0)
#define TEXT(f) ENTRY("text", (uintptr_t)f, 0)
#define REASON(n, s) ENTRY("waitreason=" s, WAIT_##n, 0),

TARN_API extern const struct tarn_debug_entry tarn_debug_layout[];
const struct tarn_debug_entry tarn_debug_layout[] = {
    {"version", 1, 0},

    STRUCT(g),
    FIELD(g, sched_sp),
    FIELD(g, m),
    FIELD(g, xregs),
    FIELD(g, asyncSafePoint),
    FIELD(g, throwsplit),
    FIELD(g, resume),
    FIELD(g, syscallsp),
    FIELD(g, stack),
    FIELD(g, kind),
    FIELD(g, atomicstatus),
    FIELD(g, lockedm),
    FIELD(g, system),
    FIELD(g, waitreason),
    FIELD(g, waiting),
    FIELD(g, goid),
    FIELD(g, foreign),
    FIELD(g, fn),
    FIELD(g, entry_arg),
    FIELD(g, frozen),

    STRUCT(m),
    FIELD(m, g0),
    FIELD(m, curg),
    FIELD(m, id),
    FIELD(m, p),
    FIELD(m, locks),
    FIELD(m, spinning),
    FIELD(m, alllink),
    FIELD(m, thread),
    FIELD(m, procid),
    FIELD(m, lockedg),

    STRUCT(p),
    FIELD(p, id),
    FIELD(p, status),
    FIELD(p, m),
    FIELD(p, schedtick),
    FIELD(p, syscalltick),
    FIELD(p, preempt),
    FIELD(p, runqhead),
    FIELD(p, runqtail),
    FIELD(p, runnext),

    FIELD(schedt, runqsize),
    FIELD(schedt, gcwaiting),
    FIELD(schedt, nmidle),
    FIELD(schedt, ngoroutines),

    FIELD(sudog, g),
    FIELD(sudog, c),
    FIELD(sudog, elem),
    FIELD(sudog, waitlink),
    FIELD(sudog, next),

    STRUCT(hchan),
    FIELD(hchan, sig),
    FIELD(hchan, closed),
    FIELD(hchan, qcount),
    FIELD(hchan, dataqsiz),
    FIELD(hchan, elemsize),
    FIELD(hchan, sendq),
    FIELD(hchan, recvq),

    FIELD(heap, lo),
    FIELD(heap, hi),
    FIELD(heap, meta),
    FIELD(heap, pages),
    FIELD(heap, color),
    FIELD(heap, white_xor),
    FIELD(heap, white_bit),
    FIELD(heap, full),
    FIELD(heap, sweepgen),
    FIELD(heap, used_hi),
    FIELD(heap, live),
    FIELD(heap, mapped),
    FIELD(heap, pages_inuse),

    STRUCT(mspan),
    FIELD(mspan, state),
    FIELD(mspan, base),
    FIELD(mspan, limit),
    FIELD(mspan, elemsize),
    FIELD(mspan, nelems),
    FIELD(mspan, slot),
    FIELD(mspan, layout),
    FIELD(mspan, large),
    FIELD(mspan, type),
    FIELD(mspan, npages),
    FIELD(mspan, sweepgen),

    STRUCT(tarn_type),
    FIELD(tarn_type, name),
    FIELD(tarn_type, size),
    FIELD(tarn_type, layout),
    FIELD(tarn_type, id),

    FIELD(gcstate, phase),
    FIELD(gcstate, trigger),
    FIELD(gcstate, goal),
    FIELD(gcstate, live),
    FIELD(gcstate, cycles_started),
    FIELD(gcstate, cycles_swept),
    FIELD(gcstate, cycles),
    FIELD(gcstate, cycles_forced),
    FIELD(gcstate, young),
    FIELD(gcstate, driver),

    GLOBAL(allp),
    GLOBAL(nprocs),
    GLOBAL(allm),
    GLOBAL(allglen),
    GLOBAL(allg_chunks),
    GLOBAL(sched),
    GLOBAL(heap),
    GLOBAL(gc),

    /* The first and the last folder as they are linked, and some between, whose order
     * a compiler may change that sees them all at once. */
    TEXT(nanotime),
    TEXT(heap_find),
    TEXT(gopark),
    TEXT(goready),
    TEXT(chanrecv),
    TEXT(newstack),
    TEXT(suspendG),
    TEXT(gc_on_start),
    TEXT(gc_trace),

    CONSTANT(ALLG_CHUNK),
    CONSTANT(PAGE_SHIFT),
    CONSTANT(GRANULE_SHIFT),
    CONSTANT(META_COLOR),
    CONSTANT(SPAN_INUSE),
    CONSTANT(LAYOUT_NOSCAN),
    CONSTANT(LAYOUT_CONSERVATIVE),
    CONSTANT(LAYOUT_PRECISE),
    CONSTANT(LAYOUT_TRACED),
    CONSTANT(HCHAN_SIG),
    CONSTANT(RESUME_START),
    CONSTANT(RESUME_THAW),
    CONSTANT(STACK_COPYING),
    CONSTANT(STACK_FIXED),
    CONSTANT(STACK_SYSTEM),
    CONSTANT(Gidle),
    CONSTANT(Grunnable),
    CONSTANT(Grunning),
    CONSTANT(Gsyscall),
    CONSTANT(Gwaiting),
    CONSTANT(Gdead),
    CONSTANT(Gcopystack),
    CONSTANT(Gpreempted),
    CONSTANT(Gscan),
    CONSTANT(Pidle),
    CONSTANT(Prunning),
    CONSTANT(Psyscall),
    CONSTANT(Pgcstop),
    CONSTANT(Pdead),
    CONSTANT(GC_OFF),
    CONSTANT(GC_MARK),
    CONSTANT(GC_MARKTERM),
    WAIT_REASONS(REASON)

        {NULL, 0, 0},
};
