/* bench/soak.h - what of tarn-soak runs in goroutines. */
#ifndef TARN_BENCH_SOAK_H_
#define TARN_BENCH_SOAK_H_

#include "bench/workload.h"

#define SOAK_WORKLOADS 6

/* Each of them on a goroutine of its own; returns when all have ended. */
void soak_run(struct bench *benches);

#endif
