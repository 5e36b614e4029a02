/* gc/roots.c - where marking begins: data segments, added ranges, timers, stacks.
 *
 * Plain ranges (the program's writable segments and ranges added without a flag)
 * may be written without a barrier as long as no pointer is overwritten. They
 * are scanned before any stack, because a stack that has been scanned may load
 * from them; and again when the world is stopped for the end of the mark. What
 * leaves one between the two, by being overwritten, the barrier shades: so
 * nothing that was ever in a plain range during the mark is missed. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <link.h>

#include "base/sysmem.h"
#include "base/vm.h"
#include "gc/gc.h"
#include "gc/specials.h"

#define ROOT_BLOCK ((size_t)256 << 10)

static bool push_range(struct root_range **a, size_t *n, size_t *cap,
                       uintptr_t lo, uintptr_t hi)
{
    if (*n == *cap) {
        size_t c = *cap ? *cap * 2 : 16;
        struct root_range *na = sys_realloc(*a, c * sizeof(*na));
        if (na == NULL)
            return false;
        *a = na;
        *cap = c;
    }
    (*a)[(*n)++] = (struct root_range){.lo = lo, .hi = hi};
    return true;
}

/* Libraries whose data cannot hold a program's managed pointers, or whose data
 * is the runtime's own. */
static bool foreign_to_program(const char *name)
{
    static const char *const skip[] = {
        "/libc.so",   "/libm.so",    "/ld-linux",    "/libpthread",
        "/libdl.so",  "/libtarn.so", "/libmimalloc", "/libgcc_s",
        "linux-vdso", "/libasan.so", "/libtsan.so",  "/libubsan.so",
        "/librt.so",
    };
    for (size_t i = 0; i < ARRAY_LEN(skip); i++)
        if (strstr(name, skip[i]) != NULL)
            return true;
    return false;
}

/* A segment without data of the runtime's own. */
static void each_but_own(uintptr_t lo, uintptr_t hi,
                         void (*fn)(uintptr_t lo, uintptr_t hi, void *arg),
                         void *arg)
{
    for (size_t i = 0; i < own_data_count; i++) {
        const struct own_range *o = &own_data[i];
        if (o->lo < lo || o->hi > hi)
            continue;
        if (lo < o->lo)
            fn(lo, o->lo, arg);
        lo = ALIGN_UP(o->hi, (uintptr_t)8);
    }
    if (lo < hi)
        fn(lo, hi, arg);
}

/* The writable segments of one loaded object, less what is constant after
 * start. */
static void each_segment(const struct dl_phdr_info *info,
                         void (*fn)(uintptr_t lo, uintptr_t hi, void *arg),
                         void *arg)
{
    if (info->dlpi_name != NULL && foreign_to_program(info->dlpi_name))
        return;
    uintptr_t relro_lo = 0, relro_hi = 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *ph = &info->dlpi_phdr[i];
        if (ph->p_type == PT_GNU_RELRO) {
            relro_lo = info->dlpi_addr + ph->p_vaddr;
            relro_hi = relro_lo + ph->p_memsz;
        }
    }
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *ph = &info->dlpi_phdr[i];
        if (ph->p_type != PT_LOAD || !(ph->p_flags & PF_W))
            continue;
        uintptr_t lo = info->dlpi_addr + ph->p_vaddr;
        uintptr_t hi = lo + ph->p_memsz;
        if (relro_lo <= lo && relro_hi > lo && relro_hi <= hi)
            lo = relro_hi;
        lo = ALIGN_UP(lo, (uintptr_t)8);
        each_but_own(lo, hi, fn, arg);
    }
}

struct seg_list {
    struct root_range *r;
    size_t n, cap;
    unsigned long long adds, subs; /* the loader's counts when it was made */
    bool failed;
};

static void list_segment(uintptr_t lo, uintptr_t hi, void *vlist)
{
    struct seg_list *l = vlist;
    if (!push_range(&l->r, &l->n, &l->cap, lo, hi))
        l->failed = true;
}

static int list_segments(struct dl_phdr_info *info, size_t size, void *vlist)
{
    (void)size;
    struct seg_list *l = vlist;
    l->adds = info->dlpi_adds;
    l->subs = info->dlpi_subs;
    each_segment(info, list_segment, l);
    return 0;
}

static void scan_segment(uintptr_t lo, uintptr_t hi, void *w)
{
    scan_conservative(lo, hi, w, false);
}

struct visit {
    void (*segment)(uintptr_t lo, uintptr_t hi, void *arg);
    void *arg;
};

/* Inside dl_iterate_phdr, whose lock keeps dlclose away: by the list if nothing
 * was loaded or unloaded since it was made, else as they come. The list is the
 * driver's, who alone makes and scans it: rootlock is not to be held here. */
static int visit_segments(struct dl_phdr_info *info, size_t size, void *vv)
{
    (void)size;
    struct visit *v = vv;
    if (info->dlpi_adds == gc.segment_adds &&
        info->dlpi_subs == gc.segment_subs) {
        for (size_t i = 0; i < gc.nsegments; i++)
            v->segment(gc.segments[i].lo, gc.segments[i].hi, v->arg);
        return 1;
    }
    each_segment(info, v->segment, v->arg);
    return 0;
}

bool gc_roots_init(void)
{
    mutex_init(&gc.rootlock, RANK_ROOTS);
    return gc_roots_refresh_segments();
}

bool gc_roots_refresh_segments(void)
{
    struct seg_list l = {0};
    dl_iterate_phdr(list_segments, &l);
    if (l.failed) {
        set_error("out of memory for the list of data segments");
        sys_free(l.r);
        return false;
    }
    lock(&gc.rootlock);
    struct root_range *old = gc.segments;
    gc.segments = l.r;
    gc.nsegments = l.n;
    gc.segment_adds = l.adds;
    gc.segment_subs = l.subs;
    unlock(&gc.rootlock);
    sys_free(old);
    return true;
}

void gc_scan_plain_roots(struct gcwork *w)
{
    if (GC_FAULT(RESCAN) && atomic_load(&sched.gcwaiting))
        return;
    struct visit v = {scan_segment, w};
    uint64_t before = w->scanned;
    /* The loader's lock comes before rootlock: a thread whose callback
     * dl_iterate_phdr is in may add ranges. */
    dl_iterate_phdr(visit_segments, &v);
    lock(&gc.rootlock);
    for (size_t i = 0; i < gc.nplain; i++)
        scan_conservative(gc.plain[i].lo, gc.plain[i].hi, w, false);
    for (size_t i = 0; i < gc.nbarriered; i++)
        if (gc.barriered[i].late)
            scan_conservative(gc.barriered[i].lo, gc.barriered[i].hi, w, false);
    unlock(&gc.rootlock);
    gc.plain_bytes = w->scanned - before;
}

/* The barrier for a whole range: its job may have been done already when it is
 * added, with words in it that were written without one, and may be still to
 * come when it is removed. rootlock held. False: not on a goroutine. */
static bool shade_range(const struct root_range *r)
{
    if (!on_goroutine())
        return false;
    struct m *mp = acquirem();
    if (atomic_load_explicit(&gc.phase, memory_order_relaxed) == GC_MARK)
        scan_conservative(r->lo, r->hi, &gcp_of(mp->p)->gcw, false);
    releasem(mp);
    return true;
}

tarn_status tarn_roots_add(const void *lo, const void *hi, unsigned flags)
{
    uintptr_t l = ALIGN_UP((uintptr_t)lo, (uintptr_t)8), h = (uintptr_t)hi;
    if (lo == NULL || h < l ||
        (flags & ~(unsigned)(TARN_ROOTS_BARRIERED | TARN_ROOTS_LOCAL))) {
        set_error("tarn_roots_add: bad range %p..%p or flags %#x", lo, hi,
                  flags);
        return TARN_EINVAL;
    }
    uint64_t owner = 0;
    if (flags & TARN_ROOTS_LOCAL) {
        if (!require_goroutine("tarn_roots_add"))
            return TARN_ESTATE;
        getg()->has_roots = true;
        owner = getg()->goid;
    }
    lock(&gc.rootlock);
    bool ok = flags & TARN_ROOTS_BARRIERED
                  ? push_range(&gc.barriered, &gc.nbarriered, &gc.cap_barriered,
                               (uintptr_t)lo, h)
                  : push_range(&gc.plain, &gc.nplain, &gc.cap_plain,
                               (uintptr_t)lo, h);
    if (ok && !(flags & TARN_ROOTS_BARRIERED))
        gc.plain[gc.nplain - 1].owner = owner;
    if (ok && flags & TARN_ROOTS_BARRIERED) {
        struct root_range *r = &gc.barriered[gc.nbarriered - 1];
        r->owner = owner;
        r->late = !shade_range(r);
    }
    unlock(&gc.rootlock);
    if (!ok) {
        set_error("tarn_roots_add: out of memory");
        return TARN_ENOMEM;
    }
    return TARN_OK;
}

static bool remove_range(struct root_range *a, size_t *n, uintptr_t lo,
                         uintptr_t hi)
{
    for (size_t i = 0; i < *n; i++)
        if (a[i].lo == lo && a[i].hi == hi) {
            shade_range(&a[i]);
            a[i] = a[--*n];
            return true;
        }
    return false;
}

/* Of a thread that may have no P: what it pushes lies on the global list before
 * rootlock is free, and the last stop of a mark looks at that after it had rootlock
 * itself. So this is in time, or all that is here is marked already. */
static void shade_owned(const struct root_range *r)
{
    struct gcwork w = {0};
    if (atomic_load(&gc.phase) != GC_MARK)
        return;
    scan_conservative(r->lo, r->hi, &w, false);
    gcw_dispose(&w);
}

static void remove_owned(struct root_range *a, size_t *n, uint64_t owner)
{
    for (size_t i = 0; i < *n;) {
        if (a[i].owner == owner) {
            shade_owned(&a[i]);
            a[i] = a[--*n];
        } else {
            i++;
        }
    }
}

void gc_roots_owner_gone(struct g *gp)
{
    lock(&gc.rootlock);
    remove_owned(gc.plain, &gc.nplain, gp->goid);
    remove_owned(gc.barriered, &gc.nbarriered, gp->goid);
    unlock(&gc.rootlock);
    gp->has_roots = false;
}

tarn_status tarn_roots_remove(const void *lo, const void *hi)
{
    lock(&gc.rootlock);
    bool ok =
        remove_range(gc.plain, &gc.nplain, (uintptr_t)lo, (uintptr_t)hi) ||
        remove_range(gc.barriered, &gc.nbarriered, (uintptr_t)lo,
                     (uintptr_t)hi);
    unlock(&gc.rootlock);
    if (!ok) {
        set_error("tarn_roots_remove: no range %p..%p was added", lo, hi);
        return TARN_EINVAL;
    }
    return TARN_OK;
}

/* Root jobs, in order: barriered ranges (all of them under one lock: one job,
 * which keeps a removal out) and what is due to be run; one for each P's timers; for
 * some blocks of handles; for each block of cards; for each block of goroutines. */
void gc_prepare_roots(void)
{
    gc.nstacks = atomic_load(&allglen);
    gc.root_timers = 1;
    gc.root_handles = gc.root_timers + nprocs;
    gc.root_cards = gc.root_handles + gc_handle_jobs();
    gc.root_stacks = gc.root_cards + gc_card_jobs();
    atomic_store_explicit(
        &gc.nroots,
        gc.root_stacks +
            (uint32_t)((gc.nstacks + STACK_BLOCK - 1) / STACK_BLOCK),
        memory_order_relaxed);
    atomic_store(&gc.root_next, 0);
}

static void shade_timer(const void *p, void *arg)
{
    gc_shade(arg, (uintptr_t)p);
}

void markroot(struct gcwork *w, uint32_t job)
{
    if (job == 0) {
        uint64_t before = w->scanned;
        lock(&gc.rootlock);
        for (size_t i = 0; i < gc.nbarriered && !GC_FAULT(BARRIERED); i++) {
            scan_conservative(gc.barriered[i].lo, gc.barriered[i].hi, w, false);
            gc.barriered[i].late = false;
        }
        unlock(&gc.rootlock);
        gc_scan_due(w);
        gc.barriered_bytes = w->scanned - before;
    } else if (job < gc.root_handles) {
        if (!GC_FAULT(TIMERS))
            timers_each(allp[job - gc.root_timers], shade_timer, w);
    } else if (job < gc.root_cards) {
        gc_scan_handles(w, job - gc.root_handles);
    } else if (job < gc.root_stacks) {
        gc_scan_cards(w, job - gc.root_cards);
    } else {
        size_t lo = (size_t)(job - gc.root_stacks) * STACK_BLOCK;
        size_t hi = lo + STACK_BLOCK;
        gc_scan_block(w, lo, hi < gc.nstacks ? hi : gc.nstacks);
    }
}

struct each_arg {
    void (*range)(uintptr_t, uintptr_t, const char *, uint64_t, void *);
    void *arg;
    uint64_t goid;
};

static void each_stack_range(uintptr_t lo, uintptr_t hi, void *varg)
{
    struct each_arg *a = varg;
    a->range(lo, hi, "stack of goroutine", a->goid, a->arg);
}

static void each_timer(const void *p, void *varg)
{
    struct each_arg *a = varg;
    a->range((uintptr_t)&p, (uintptr_t)(&p + 1), "timer of P", a->goid, a->arg);
}

static void each_data_segment(uintptr_t lo, uintptr_t hi, void *varg)
{
    struct each_arg *a = varg;
    a->range(lo, hi, "data segment", a->goid++, a->arg);
}

void gc_each_other_root(void (*range)(uintptr_t lo, uintptr_t hi,
                                      const char *what, uint64_t id, void *arg),
                        void *arg)
{
    struct each_arg a = {range, arg, 0};
    struct visit v = {each_data_segment, &a};
    /* Threads without a P go on: they load and unload libraries, too. */
    dl_iterate_phdr(visit_segments, &v);
    lock(&gc.rootlock);
    for (size_t i = 0; i < gc.nplain; i++)
        range(gc.plain[i].lo, gc.plain[i].hi, "plain root range", i, arg);
    for (size_t i = 0; i < gc.nbarriered; i++)
        range(gc.barriered[i].lo, gc.barriered[i].hi, "barriered root range",
              gc.nplain + i, arg);
    unlock(&gc.rootlock);
    gc_each_handle_block(range, arg);
    for (uint32_t i = 0; i < nprocs; i++) {
        a.goid = i;
        timers_each(allp[i], each_timer, &a);
    }
}

bool gc_stack_is_root(struct g *gp)
{
    uint32_t s = readgstatus(gp);
    return !gp->system && s != Gdead && s != Gidle;
}

/* A thread in a native call goes on while the world is stopped, and may end, and
 * its stack with it: not while the scan bit of its goroutine is held. False: gp has
 * no stack. *held is what to go back to; or Gidle. */
static bool hold_stack(struct g *gp, uint32_t *held)
{
    *held = Gidle;
    while (gc_stack_is_root(gp)) {
        uint32_t s = readgstatus(gp);
        /* Who is Grunning gets no P, or has stopped the world; who is held by the
         * collector is so until the world runs. */
        if (s == Grunning || (s & Gscan && gp->in_shards))
            return true;
        if (s == Grunnable || s == Gwaiting || s == Gsyscall ||
            s == Gpreempted) {
            if (castogscanstatus(gp, s, s | Gscan)) {
                *held = s;
                return true;
            }
        }
        procyield(10);
    }
    return false;
}

void gc_each_stack_root(struct g *gp,
                        void (*range)(uintptr_t lo, uintptr_t hi,
                                      const char *what, uint64_t id, void *arg),
                        void *arg)
{
    uint32_t held;
    if (!hold_stack(gp, &held))
        return;
    struct each_arg a = {range, arg, gp->goid};
    scanstack(gp, each_stack_range, &a);
    if (held != Gidle)
        casfrom_Gscanstatus(gp, held | Gscan, held);
}

void gc_each_root(void (*range)(uintptr_t lo, uintptr_t hi, const char *what,
                                uint64_t id, void *arg),
                  void *arg, bool begins)
{
    gc_each_other_root(range, arg);
    size_t n = atomic_load(&allglen);
    for (size_t i = 0; i < n; i++) {
        struct g *gp = allg_at(i);
        /* A thread that attached during this cycle: its frames may hold what
         * they held when it was attached before, and that is nobody's. */
        if (!gc_stack_is_root(gp) ||
            (gp->foreign && !begins && !gc_stack_scanned(gp)))
            continue;
        gc_each_stack_root(gp, range, arg);
    }
}
