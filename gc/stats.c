/* gc/stats.c - what happened, for tarn_gc_stats and the trace line. */
#include <errno.h>
#include <stdio.h>

#include "gc/events.h"
#include "gc/gc.h"

static int64_t started_at;

bool gc_stats_init(void)
{
    started_at = nanotime();
    if (!hist_init(&gc.pause) || !hist_init(&gc.stopping) ||
        !hist_init(&gc.pause_start) || !hist_init(&gc.pause_term) ||
        !hist_init(&gc.assist_hist) || !hist_init(&gc.suspend_hist)) {
        set_error("out of memory for pause histograms");
        return false;
    }
    return true;
}

void gc_stw_done(int64_t total_ns, int64_t stopping_ns)
{
    hist_add(&gc.pause, (uint64_t)total_ns);
    hist_add(&gc.stopping, (uint64_t)stopping_ns);
    uint32_t kind = atomic_exchange(&gc.stop_kind, TARN_STOP_OTHER);
    if (events_wanted())
        event_stopped((enum tarn_stop_kind)kind, total_ns, stopping_ns);
    switch (kind) {
    case TARN_STOP_GC_START:
        hist_add(&gc.pause_start, (uint64_t)total_ns);
        gc.last_stop_ns[0] = total_ns;
        break;
    case TARN_STOP_GC_TERM:
        hist_add(&gc.pause_term, (uint64_t)total_ns);
        gc.last_stop_ns[1] = total_ns;
        break;
    default:
        break;
    }
}

void gc_trace(bool forced)
{
    tarn_eprintf(
        "gc %llu @%.3fs: %.3f+%.3f+%.3f ms clock, %llu->%llu MB, %llu MB goal, "
        "%u P%s%s\n",
        (unsigned long long)gc.cycles_started,
        (double)(gc.mark_began - started_at) / 1e9,
        (double)gc.last_stop_ns[0] / 1e6, (double)gc.mark_took / 1e6,
        (double)gc.last_stop_ns[1] / 1e6,
        (unsigned long long)(gc.heap_at_start >> 20),
        (unsigned long long)(atomic_load(&gc.live) >> 20),
        (unsigned long long)(atomic_load(&gc.goal) >> 20), nprocs,
        heap.full ? "" : " (young)", forced ? " (forced)" : "");
}

static void summary(const struct hist *h, struct tarn_histogram_stats *s)
{
    s->count = atomic_load(&h->count);
    s->sum_ns = atomic_load(&h->sum);
    s->min_ns = s->count ? atomic_load(&h->min) : 0;
    s->p50_ns = hist_quantile(h, 0.5);
    s->p99_ns = hist_quantile(h, 0.99);
    s->p999_ns = hist_quantile(h, 0.999);
    s->max_ns = atomic_load(&h->max);
}

tarn_status tarn_gc_stats(struct tarn_gc_stats *out)
{
    if (out == NULL || out->struct_size == 0 ||
        out->struct_size > sizeof(*out)) {
        set_error("tarn_gc_stats: struct_size is %zu, not %zu",
                  out ? out->struct_size : 0, sizeof(*out));
        return TARN_EINVAL;
    }
    if (!sched.initialised) {
        set_error("tarn_gc_stats: the runtime has not started");
        return TARN_ESTATE;
    }
    struct tarn_gc_stats s = {.struct_size = out->struct_size};
    s.cycles = atomic_load(&gc.cycles);
    s.cycles_young = atomic_load(&gc.young);
    s.limited = atomic_load(&gc.limited);
    s.cycles_periodic = atomic_load(&gc.periodic);
    s.scavenged_bytes = atomic_load(&gc.scavenged);
    s.pretouched_bytes = atomic_load(&gc.pretouched);
    s.cycles_forced = atomic_load(&gc.cycles_forced);
    s.heap_live_bytes = atomic_load(&gc.live);
    s.heap_bytes = atomic_load(&heap.live);
    s.heap_goal_bytes = atomic_load(&gc.goal);
    s.heap_mapped_bytes = atomic_load(&heap.mapped);
    s.swept_bytes = atomic_load(&heap.swept_bytes);
    /* Caches report what they hand out when they are flushed; what lies between
     * follows from live = allocated - swept. */
    s.alloc_bytes = s.heap_bytes + s.swept_bytes;
    s.mark_ns = atomic_load(&gc.mark_ns);
    s.mark_cpu_ns = atomic_load(&gc.mark_cpu_ns);
    s.assist_ns = atomic_load(&gc.assist_ns);
    s.scanned_bytes = atomic_load(&gc.scanned_bytes);
    s.stack_scan_bytes = atomic_load(&gc.stack_scan_bytes);
    s.stacks_scanned = atomic_load(&gc.stacks_scanned);
    s.restarts = atomic_load(&gc.restarts);
    summary(&gc.pause, &s.pause);
    summary(&gc.stopping, &s.stopping);
    summary(&gc.pause_start, &s.pause_start);
    summary(&gc.pause_term, &s.pause_term);
    summary(&gc.assist_hist, &s.assist);
    summary(&gc.suspend_hist, &s.suspend);
    s.stack_inuse_bytes = stacks_inuse();
    s.stack_mapped_bytes = atomic_load(&stack_stats.mapped);
    s.stack_reserved_bytes = atomic_load(&stack_stats.reserved);
    s.stack_frozen = atomic_load(&stack_stats.frozen);
    s.stack_frozen_bytes = atomic_load(&stack_stats.frozen_bytes);
    s.stack_freezes = atomic_load(&stack_stats.freezes);
    s.stack_copies = atomic_load(&stack_stats.copies);
    s.stack_copied_bytes = atomic_load(&stack_stats.copied_bytes);
    s.stack_grows_in_place = atomic_load(&stack_stats.grows_in_place);
    s.stack_shrinks = atomic_load(&stack_stats.shrinks);
    s.stack_released = atomic_load(&stack_stats.released);
    memcpy(out, &s, out->struct_size);
    return TARN_OK;
}

tarn_status tarn_gc_pauses_hgrm(enum tarn_pause_kind kind, const char *path)
{
    static const struct hist *const hists[] = {
        [TARN_PAUSE_ALL] = &gc.pause,
        [TARN_PAUSE_STOPPING] = &gc.stopping,
        [TARN_PAUSE_START] = &gc.pause_start,
        [TARN_PAUSE_TERM] = &gc.pause_term,
    };
    if ((unsigned)kind >= ARRAY_LEN(hists) || path == NULL) {
        set_error("tarn_gc_pauses_hgrm: bad kind %d or no path", (int)kind);
        return TARN_EINVAL;
    }
    if (!sched.initialised) {
        set_error("tarn_gc_pauses_hgrm: the runtime has not started");
        return TARN_ESTATE;
    }
    if (!hist_write_hgrm(hists[kind], path, 1000.0)) {
        set_error("tarn_gc_pauses_hgrm: cannot write %s: %s", path,
                  strerror(errno));
        return TARN_ESYS;
    }
    return TARN_OK;
}
