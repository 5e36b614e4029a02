/* bench/micro.h - rows of the table of micro-benchmarks.
 *
 * Each micro_<subject>.cc declares its rows with MICRO_ROWS. tarn-micro runs
 * every row in a process of its own (itself, with --child): one process has one
 * runtime, whose number of Ps is fixed when it starts. */
#ifndef TARN_BENCH_MICRO_H_
#define TARN_BENCH_MICRO_H_

#include <benchmark/benchmark.h>

#include <functional>
#include <initializer_list>
#include <vector>

#include "bench/micro_managed.h"

namespace micro
{

/* bytes and MB/s are samples without a time. */
enum class Unit { ns, us, ms, bytes, mb_s };

/* What a row measures: the time of one iteration, or samples of which the
 * median and the longest count. */
enum class Kind { mean, samples };

constexpr double NONE = -1;

struct Row {
    const char *name;
    const char *title;
    int procs; /* 0: no runtime needed, or as many as there are CPUs */
    Kind kind;
    Unit unit;
    /* 0: as many as it takes to fill --min-time. */
    long iterations;
    void (*run)(benchmark::State &);
    /* What Go 1.19 takes on the reference machine, and what to reach: the value,
     * or median and longest. */
    double go, go_max, target, target_max;
};

const std::vector<Row> &rows();

/* In file scope, one of each file. */
struct Register {
    Register(std::initializer_list<Row> rows);
};
#define MICRO_ROWS static const micro::Register rows_of_this_file

/* Runs body on a goroutine (of fixed stack) of a runtime with as many Ps as the
 * row says. */
void in_runtime(benchmark::State &state, const std::function<void()> &body);

/* Samples in ns, published as counters p50, p99 and max. */
class Samples
{
  public:
    void add(benchmark::State &state, int64_t ns);
    void publish(benchmark::State &state);

  private:
    std::vector<double> all_;
};

} // namespace micro

#endif
