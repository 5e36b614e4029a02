/* bench/collector_boehm.c - starts Boehm's collector and times its pauses.
 *
 * A pause is the time from the event before the world is asked to stop to the
 * one after it runs again. Both are raised by the collecting thread with the
 * allocation lock held, so one variable holds the start. */
#define BENCH_BOEHM 1
#include "bench/collector.h"
#include "bench/collector_threads.h"

#include <stdio.h>

#include "base/hist.h"

static struct hist pauses;
static int64_t pause_start, mark_start;
static _Atomic uint64_t mark_ns;

static void GC_CALLBACK on_event(GC_EventType event)
{
    if (event == GC_EVENT_PRE_STOP_WORLD)
        pause_start = nanotime();
    else if (event == GC_EVENT_POST_START_WORLD)
        hist_add(&pauses, (uint64_t)(nanotime() - pause_start));
    else if (event == GC_EVENT_MARK_START)
        mark_start = nanotime();
    else if (event == GC_EVENT_MARK_END)
        atomic_fetch_add(&mark_ns, (uint64_t)(nanotime() - mark_start));
}

struct coll_progress coll_progress(void)
{
    return (struct coll_progress){GC_get_gc_no(), atomic_load(&mark_ns)};
}

bool coll_main(const struct coll_config *config, coll_fn fn, void *arg)
{
    if (!hist_init(&pauses)) {
        fprintf(stderr, "no memory for a histogram\n");
        return false;
    }
    GC_INIT();
    /* It would mark with all CPUs from the second thread on anyway; a program
     * with one thread has to ask for it. */
    GC_start_mark_threads();
    if (config->incremental) {
        GC_enable_incremental();
        if (!GC_is_incremental_mode()) {
            fprintf(stderr, "Boehm refuses the incremental mode\n");
            return false;
        }
    }
    GC_set_on_collection_event(on_event);
    fn(arg);
    GC_set_on_collection_event(NULL);
    return true;
}

bool coll_stats(struct coll_stats *stats)
{
    stats->gc_count = GC_get_gc_no();
    stats->pauses = atomic_load(&pauses.count);
    stats->pause_p50 = hist_quantile(&pauses, 0.5);
    stats->pause_p99 = hist_quantile(&pauses, 0.99);
    stats->pause_p999 = hist_quantile(&pauses, 0.999);
    stats->pause_p9999 = hist_quantile(&pauses, 0.9999);
    stats->pause_max = atomic_load(&pauses.max);
    return true;
}

bool coll_pause_hgrm(const char *path)
{
    return hist_write_hgrm(&pauses, path, 1000);
}

void coll_version(char *buf, size_t len)
{
    unsigned v = GC_get_version();
    snprintf(buf, len, "%u.%u.%u, %d markers", v >> 16, v >> 8 & 0xff, v & 0xff,
             GC_get_parallel() + 1);
}
