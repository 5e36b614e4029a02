/* gc/runtime.c - all layers together: hooks, tarn_main, the small public calls. */
#include <sys/resource.h>

#include "base/options.h"
#include "base/sysmem.h"
#include "gc/gc.h"
#include "gc/specials.h"
#include "sched/timeline.h"

static bool p_init(struct p *pp)
{
    gc_malloc_init(&pp->mcache);
    pp->gcdata = sys_alloc_aligned(sizeof(struct gcp), CACHE_LINE);
    if (pp->gcdata == NULL)
        set_error("out of memory for P %u's mark buffers", pp->id);
    return pp->gcdata != NULL;
}

static void *alloc_for_sched(size_t n, enum layout layout)
{
    return layout == LAYOUT_NOSCAN ? tarn_alloc_bytes(n)
                                   : tarn_alloc_conservative(n);
}

/* heapmax, or less: where address space is limited, most of it is left to stacks,
 * threads and everybody else. mimalloc alone takes 32 MiB for each thread. */
static size_t reservation(void)
{
    size_t want = (size_t)options.heapmax;
    struct rlimit r;
    if (getrlimit(RLIMIT_AS, &r) == 0 && r.rlim_cur != RLIM_INFINITY &&
        want > r.rlim_cur / 3)
        want = ALIGN_DOWN((size_t)(r.rlim_cur / 3), (size_t)1 << 20);
    return want;
}

static bool work_for_idle(void)
{
    return !gc_stepping() && gc_work_available();
}

static void heap_size(uint64_t *bytes, uint64_t *goal)
{
    *bytes = atomic_load(&heap.live);
    *goal = atomic_load(&gc.goal);
}

static void say_debug_modes(void)
{
    static char text[2048];
    if (options_debug_modes(&options, text, sizeof text) > 0)
        tarn_eprintf("tarn: debug modes: %s\n", text);
}

static tarn_status start(const struct tarn_options *o)
{
    options = *o;
    options_choose_seed(&options);
    say_debug_modes();
    if (!heap_init(reservation()))
        return TARN_ENOMEM;
    stackscan_init();
    if (!gc_init())
        return TARN_ENOMEM;
    sched_hooks.p_init = p_init;
    sched_hooks.p_start = gc_p_start;
    sched_hooks.p_end = gc_p_end;
    sched_hooks.procs_change = pacer_procs;
    sched_hooks.on_start = gc_on_start;
    sched_hooks.gc_worker = gc_worker_hook;
    sched_hooks.gc_work_available = work_for_idle;
    sched_hooks.stopping = gc_stopping;
    sched_hooks.scan_help = gc_scan_help;
    sched_hooks.bulk_barrier = gc_bulk_barrier;
    sched_hooks.shade = gc_shade_hook;
    sched_hooks.alloc = alloc_for_sched;
    sched_hooks.stw_done = gc_stw_done;
    sched_hooks.heap_size = heap_size;
    sched_hooks.sysmon = gc_sysmon;
    sched_hooks.roots_gone = gc_roots_owner_gone;
    sched.ncpu = cpu_count();
    return sched_init(options.maxprocs ? (uint32_t)options.maxprocs
                                       : sched.ncpu);
}

tarn_status tarn_main(const struct tarn_options *opts, tarn_fn fn, void *arg)
{
    static _Atomic bool running;
    static bool broken;
    if (fn == NULL) {
        set_error("tarn_main: no function");
        return TARN_EINVAL;
    }
    if (tarn_forked) {
        set_error("tarn_main: in a child of a process that had started the "
                  "runtime: it may only exec or exit");
        return TARN_ESTATE;
    }
    if (getg() != NULL || atomic_exchange(&running, true)) {
        set_error("tarn_main: already running");
        return TARN_ESTATE;
    }
    struct tarn_options o;
    tarn_status st = options_load(opts, &o);
    if (st == TARN_OK)
        st = preempt_check_options(&o);
    if (st == TARN_OK && broken) {
        set_error("tarn_main: an earlier start failed half-way");
        st = TARN_ESTATE;
    }
    if (st == TARN_OK && !sched.initialised) {
        st = start(&o);
        broken = st != TARN_OK;
    }
    /* Where no thread is to be had now, there may be one next time. */
    if (st == TARN_OK && !gc_background_start())
        st = TARN_ESYS;
    if (st == TARN_OK) {
        timeline_main_begin();
        st = sched_run(fn, arg);
        timeline_main_end();
    }
    atomic_store(&running, false);
    return st;
}

tarn_status tarn_go_with(const struct tarn_go_attr *attr, tarn_fn fn, void *arg)
{
    if (!require_goroutine("tarn_go"))
        return TARN_ESTATE;
    if (fn == NULL) {
        set_error("tarn_go: no function");
        return TARN_EINVAL;
    }
    if (attr != NULL && ((unsigned)attr->stacks > TARN_STACKS_FIXED ||
                         attr->stack_size > (size_t)1 << 40)) {
        set_error("tarn_go: stacks %d, stack_size %zu", (int)attr->stacks,
                  attr->stack_size);
        return TARN_EINVAL;
    }
    preempt_check();
    bool ok = true;
    if (attr != NULL && attr->stacks == TARN_STACKS_COPYING)
        sched_hooks.stack_kind_of(fn, attr->stacks, &ok);
    if (!ok)
        return TARN_EINVAL;
    return newproc(fn, arg, attr, false) ? TARN_OK : TARN_ENOMEM;
}

tarn_status tarn_go(tarn_fn fn, void *arg)
{
    return tarn_go_with(NULL, fn, arg);
}

void tarn_yield(void)
{
    if (require_goroutine("tarn_yield"))
        gosched();
}

void tarn_poll(void)
{
    if (on_goroutine())
        preempt_check();
}

uint64_t tarn_self(void)
{
    return on_goroutine() ? getg()->goid : 0;
}

void tarn_goexit(void)
{
    if (!on_goroutine())
        throw("tarn_goexit: not called on a goroutine%s", not_goroutine_why());
    if (gc_in_finalizer())
        fatal("tarn_goexit: called by a finalizer or cleanup");
    if (gc_in_oom_handler())
        fatal("tarn_goexit: called by the handler for memory that runs out");
    goexit1();
}

size_t tarn_goroutines(void)
{
    return (size_t)atomic_load(&sched.ngoroutines);
}
