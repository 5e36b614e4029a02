/* bench/soak_workloads.c - managed code of tarn-soak. */
#include "bench/soak.h"

static tarn_waitgroup all;

static void one(void *b)
{
    workload_main(b);
    tarn_waitgroup_done(&all);
}

void soak_run(struct bench *benches)
{
    tarn_waitgroup_add(&all, SOAK_WORKLOADS);
    for (int i = 0; i < SOAK_WORKLOADS; i++) {
        tarn_status s = tarn_go(one, &benches[i]);
        if (s != TARN_OK)
            bench_fail("cannot start a goroutine, status", (uint64_t)s,
                       TARN_OK);
    }
    tarn_waitgroup_wait(&all);
}
