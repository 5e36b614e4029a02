/* bench/collector_tarn.c - starts Tarn and reads its statistics. Everything
 * here runs on the thread of main, outside of the runtime. */
#define BENCH_TARN 1
#include "bench/collector.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

tarn_waitgroup coll_workers, coll_gate;
tarn_type *coll_pointer_type;

bool coll_main(const struct coll_config *config, coll_fn fn, void *arg)
{
    if (config->incremental) {
        fprintf(stderr, "tarn has no incremental mode\n");
        return false;
    }
    static const uint64_t one = 1;
    struct tarn_type_info info = {
        .name = "pointer", .size = sizeof(void *), .ptrmap = &one};
    coll_pointer_type = tarn_type_register(&info);
    if (coll_pointer_type == NULL) {
        fprintf(stderr, "tarn_type_register: %s\n", tarn_last_error());
        return false;
    }
    tarn_status s = tarn_main(NULL, fn, arg);
    if (s != TARN_OK)
        fprintf(stderr, "tarn_main: %s: %s\n", tarn_status_name(s),
                tarn_last_error());
    return s == TARN_OK;
}

/* The runtime's statistics stop at p99.9. Its distribution file knows more:
 * the first row at or above 0.9999 bounds that quantile from above. */
static bool pause_p9999(uint64_t *ns)
{
    char path[] = "/tmp/tarn-pause-XXXXXX";
    int fd = mkstemp(path);
    if (fd < 0)
        return false;
    bool found = false;
    FILE *f = fdopen(fd, "r");
    if (f != NULL && coll_pause_hgrm(path)) {
        /* The library may have written a new file in place of ours. */
        FILE *again = freopen(path, "r", f);
        f = again;
        char line[256];
        double us, q;
        while (f != NULL && !found && fgets(line, sizeof line, f) != NULL)
            if (sscanf(line, "%lf %lf", &us, &q) == 2 && q >= 0.9999) {
                *ns = (uint64_t)(us * 1000 + 0.5);
                found = true;
            }
    }
    if (f != NULL)
        fclose(f);
    unlink(path);
    return found;
}

struct coll_progress coll_progress(void)
{
    struct tarn_gc_stats s = {.struct_size = sizeof s};
    tarn_status status = tarn_gc_stats(&s);
    if (status != TARN_OK)
        bench_fail("tarn_gc_stats, status", (uint64_t)status, TARN_OK);
    return (struct coll_progress){s.cycles, s.mark_ns};
}

bool coll_stats(struct coll_stats *stats)
{
    struct tarn_gc_stats s = {.struct_size = sizeof s};
    tarn_status status = tarn_gc_stats(&s);
    if (status != TARN_OK) {
        fprintf(stderr, "tarn_gc_stats: %s: %s\n", tarn_status_name(status),
                tarn_last_error());
        exit(1);
    }
    stats->gc_count = s.cycles;
    stats->pauses = s.pause.count;
    stats->pause_p50 = s.pause.p50_ns;
    stats->pause_p99 = s.pause.p99_ns;
    stats->pause_p999 = s.pause.p999_ns;
    stats->pause_max = s.pause.max_ns;
    stats->pause_p9999 = s.pause.max_ns;
    /* Below 10,000 records that quantile is the largest one. */
    if (s.pause.count >= 10000 && !pause_p9999(&stats->pause_p9999)) {
        fprintf(stderr, "cannot read back the distribution of pauses\n");
        exit(1);
    }
    return true;
}

bool coll_pause_hgrm(const char *path)
{
    errno = 0;
    return tarn_gc_pauses_hgrm(TARN_PAUSE_ALL, path) == TARN_OK;
}

void coll_version(char *buf, size_t len)
{
    snprintf(buf, len, "%d.%d.%d", TARN_VERSION_MAJOR, TARN_VERSION_MINOR,
             TARN_VERSION_PATCH);
}
