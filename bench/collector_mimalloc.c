/* bench/collector_mimalloc.c - nothing to start, no pauses to report. */
#define BENCH_MIMALLOC 1
#include "bench/collector.h"
#include "bench/collector_threads.h"

#include <stdio.h>

bool coll_main(const struct coll_config *config, coll_fn fn, void *arg)
{
    if (config->incremental) {
        fprintf(stderr, "mimalloc has no incremental mode\n");
        return false;
    }
    fn(arg);
    return true;
}

struct coll_progress coll_progress(void)
{
    return (struct coll_progress){0};
}

bool coll_stats(struct coll_stats *stats)
{
    *stats = (struct coll_stats){0};
    return false;
}

bool coll_pause_hgrm(const char *path)
{
    (void)path;
    errno = ENOTSUP;
    return false;
}

void coll_version(char *buf, size_t len)
{
    int v = mi_version();
    snprintf(buf, len, "%d.%d.%d", v / 100, v / 10 % 10, v % 10);
}
