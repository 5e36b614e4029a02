/* bench/workload_noise.c - what the machine does besides, without any heap.
 *
 * Each worker reads the clock until --seconds have passed. Where two readings
 * are a microsecond or more apart something else had the CPU: the kernel,
 * another process, a hypervisor, the runtime. Each such gap is a step. No pause
 * and no latency can be told from noise that is as long.
 */
#include "bench/workload.h"

#define GAP 1000

static void run_noise(struct worker *w)
{
    worker_steady(w);
    int64_t before = nanotime();
    while (before < w->deadline) {
        int64_t now = nanotime();
        if (now - before >= GAP)
            step_end(w, before);
        before = now;
    }
    w->last = before;
}

void noise_run(struct bench *b)
{
    run_workers(b, run_noise);
    b->checksum = mix(0, (uint64_t)b->params.threads);
}
