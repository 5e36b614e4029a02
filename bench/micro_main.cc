/* bench/micro_main.cc - tarn-micro: runs every row in a process of its own, some
 * rounds over, and prints medians beside what Go takes and what to reach. */
#include "bench/micro.h"

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <regex>
#include <string>

namespace
{

const char usage[] =
    "usage: tarn-micro [OPTION...]\n"
    "Measures the runtime's small operations and prints, for each, the median\n"
    "over all rounds beside what Go 1.19 takes and what is to be reached.\n"
    "\n"
    "  --filter REGEX   only rows whose name matches\n"
    "  --rounds N       so many times each, in turns (default 5)\n"
    "  --min-time S     length of one measurement, seconds (default 0.2)\n"
    "  --json FILE      all results, of each round too\n"
    "  --list           names of the rows\n"
    "\n"
    "Exit status: 0; 1 if a row failed; 2 for bad options.\n"
    "TARN in the environment (see TARN=help) reaches each row.\n";

struct Options {
    std::string filter = "", json = "", child = "";
    int rounds = 5;
    double min_time = 0.2;
    bool list = false;
};

std::vector<micro::Row> &table()
{
    static std::vector<micro::Row> t;
    return t;
}

[[noreturn]] void bad_option(const char *name, const char *why)
{
    fprintf(stderr, "tarn-micro: %s: %s\n", name, why);
    exit(2);
}

double number(const char *name, const char *text, double lo, double hi)
{
    char *end;
    double v = strtod(text, &end);
    if (end == text || *end != '\0' || !(v >= lo && v <= hi))
        bad_option(name, "malformed or out of range");
    return v;
}

Options read_options(int argc, char **argv)
{
    Options o;
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i];
        if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
            fputs(usage, stdout);
            exit(0);
        }
        if (strcmp(name, "--list") == 0) {
            o.list = true;
            continue;
        }
        const bool known =
            strcmp(name, "--filter") == 0 || strcmp(name, "--rounds") == 0 ||
            strcmp(name, "--min-time") == 0 || strcmp(name, "--json") == 0 ||
            strcmp(name, "--child") == 0;
        if (!known)
            bad_option(name, "unknown (--help lists the options)");
        if (i + 1 == argc)
            bad_option(name, "needs a value");
        const char *value = argv[++i];
        if (strcmp(name, "--filter") == 0)
            o.filter = value;
        else if (strcmp(name, "--rounds") == 0)
            o.rounds = static_cast<int>(number(name, value, 1, 1000));
        else if (strcmp(name, "--min-time") == 0)
            o.min_time = number(name, value, 0.001, 100);
        else if (strcmp(name, "--json") == 0)
            o.json = value;
        else
            o.child = value;
    }
    return o;
}

/* --- the child: one row, one measurement ------------------------------------ */

constexpr unsigned CHILD_SECONDS = 120;

class Reporter : public benchmark::BenchmarkReporter
{
  public:
    bool failed = false;

    bool ReportContext(const Context &) override
    {
        return true;
    }

    void ReportRuns(const std::vector<Run> &runs) override
    {
        for (const Run &r : runs) {
            if (r.error_occurred) {
                fprintf(stderr, "tarn-micro: %s\n", r.error_message.c_str());
                failed = true;
                continue;
            }
            printf("iterations %lld\n", static_cast<long long>(r.iterations));
            printf("ns %.4f\n", r.real_accumulated_time * 1e9 /
                                    static_cast<double>(r.iterations));
            printf("cpu %.4f\n", r.cpu_accumulated_time * 1e9 /
                                     static_cast<double>(r.iterations));
            for (const auto &c : r.counters)
                printf("%s %.1f\n", c.first.c_str(), double(c.second));
        }
    }
};

const micro::Row *current;

int child(const Options &o)
{
    for (const micro::Row &r : table())
        if (o.child == r.name)
            current = &r;
    if (current == nullptr)
        bad_option("--child", "no such row");
    /* A row that hangs must not hang the others. */
    alarm(CHILD_SECONDS);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    std::string time = "--benchmark_min_time=" + std::to_string(o.min_time);
    std::string arg0 = "tarn-micro";
    char *args[] = {&arg0[0], &time[0], nullptr};
    int n = 2;
    benchmark::Initialize(&n, args);
    auto *b = benchmark::RegisterBenchmark(current->name, current->run);
    if (current->kind == micro::Kind::samples)
        b->UseManualTime();
    else
        b->MeasureProcessCPUTime()->UseRealTime();
    if (current->iterations != 0)
        b->Iterations(current->iterations);
    Reporter reporter;
    benchmark::RunSpecifiedBenchmarks(&reporter);
    return reporter.failed ? 1 : 0;
}

/* --- the driver --------------------------------------------------------------- */

using Result = std::map<std::string, double>;

/* Empty if it failed. */
Result run_child(const micro::Row &row, const Options &o)
{
    Result result;
    int fds[2];
    if (pipe(fds) != 0) {
        perror("tarn-micro: pipe");
        exit(1);
    }
    fflush(nullptr);
    pid_t pid = fork();
    if (pid < 0) {
        perror("tarn-micro: fork");
        exit(1);
    }
    if (pid == 0) {
        dup2(fds[1], 1);
        close(fds[0]);
        close(fds[1]);
        std::string time = std::to_string(o.min_time);
        execl("/proc/self/exe", "tarn-micro", "--child", row.name, "--min-time",
              time.c_str(), static_cast<char *>(nullptr));
        perror("tarn-micro: exec");
        _exit(127);
    }
    close(fds[1]);
    FILE *in = fdopen(fds[0], "r");
    char key[64];
    double value;
    while (fscanf(in, "%63s %lf", key, &value) == 2)
        result[key] = value;
    fclose(in);
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (WIFSIGNALED(status)) {
        fprintf(stderr, "tarn-micro: %s: %s\n", row.name,
                WTERMSIG(status) == SIGALRM ? "took too long"
                                            : strsignal(WTERMSIG(status)));
        result.clear();
    } else if (WEXITSTATUS(status) != 0) {
        fprintf(stderr, "tarn-micro: %s: exit status %d\n", row.name,
                WEXITSTATUS(status));
        result.clear();
    }
    return result;
}

double per_unit(micro::Unit u)
{
    return u == micro::Unit::us ? 1e3 : u == micro::Unit::ms ? 1e6 : 1;
}

const char *unit_name(micro::Unit u)
{
    switch (u) {
    case micro::Unit::ns:
        return "ns";
    case micro::Unit::us:
        return "us";
    case micro::Unit::ms:
        return "ms";
    case micro::Unit::bytes:
        return "B";
    case micro::Unit::mb_s:
        return "MB/s";
    }
    return "?";
}

double median(std::vector<double> v)
{
    if (v.empty())
        return micro::NONE;
    std::sort(v.begin(), v.end());
    const size_t n = v.size();
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

/* Of one row, in its unit. */
struct Summary {
    std::vector<double> values, cpu, longest;
    double value = micro::NONE, max = micro::NONE;
};

Summary summarise(const micro::Row &row, const std::vector<Result> &rounds)
{
    const bool samples = row.kind == micro::Kind::samples;
    Summary s;
    for (const Result &r : rounds) {
        auto v = r.find(samples ? "p50" : "ns");
        auto m = r.find("max");
        auto c = r.find("cpu");
        if (c != r.end() && !samples)
            s.cpu.push_back(c->second / per_unit(row.unit));
        if (v != r.end())
            s.values.push_back(v->second / per_unit(row.unit));
        if (m != r.end())
            s.longest.push_back(m->second / per_unit(row.unit));
    }
    s.value = median(s.values);
    s.max = median(s.longest);
    return s;
}

/* "12.3 / 45.6", "12.3", "-". */
std::string pair(double a, double b)
{
    char text[64];
    if (a < 0)
        return "-";
    if (b < 0)
        snprintf(text, sizeof text, "%.*f", a < 1000 ? 1 : 0, a);
    else
        snprintf(text, sizeof text, "%.*f / %.*f", a < 1000 ? 1 : 0, a,
                 b < 1000 ? 1 : 0, b);
    return text;
}

const char *verdict(const micro::Row &row, const Summary &s)
{
    if (row.target < 0 || s.value < 0)
        return "";
    const bool met = s.value <= row.target &&
                     (row.target_max < 0 || s.max <= row.target_max);
    return met ? "met" : "missed";
}

void print_table(const std::vector<const micro::Row *> &chosen,
                 const std::vector<std::vector<Result>> &results)
{
    printf("%-50s %-4s %16s %14s %14s\n", "", "", "Tarn", "Go 1.19", "reach");
    for (size_t i = 0; i < chosen.size(); i++) {
        const micro::Row &r = *chosen[i];
        const Summary s = summarise(r, results[i]);
        printf("%-50s %-4s %16s %14s %14s  %s\n", r.title, unit_name(r.unit),
               s.value < 0 ? "failed" : pair(s.value, s.max).c_str(),
               pair(r.go, r.go_max).c_str(),
               pair(r.target, r.target_max).c_str(), verdict(r, s));
    }
}

void write_number(FILE *f, const char *key, double v)
{
    if (v < 0)
        fprintf(f, "\"%s\":null", key);
    else
        fprintf(f, "\"%s\":%.4f", key, v);
}

void write_list(FILE *f, const char *key, const std::vector<double> &v)
{
    fprintf(f, "\"%s\":[", key);
    for (size_t i = 0; i < v.size(); i++)
        fprintf(f, "%s%.4f", i ? "," : "", v[i]);
    fputc(']', f);
}

/* A line for each row. */
bool write_json(const std::string &path,
                const std::vector<const micro::Row *> &chosen,
                const std::vector<std::vector<Result>> &results)
{
    FILE *f = fopen(path.c_str(), "w");
    if (f == nullptr) {
        fprintf(stderr, "tarn-micro: %s: %s\n", path.c_str(), strerror(errno));
        return false;
    }
    for (size_t i = 0; i < chosen.size(); i++) {
        const micro::Row &r = *chosen[i];
        const Summary s = summarise(r, results[i]);
        fprintf(f, "{\"name\":\"%s\",\"unit\":\"%s\",\"procs\":%d,", r.name,
                unit_name(r.unit), r.procs);
        write_number(f, "value", s.value);
        fputc(',', f);
        write_number(f, "max", s.max);
        fputc(',', f);
        write_number(f, "go", r.go);
        fputc(',', f);
        write_number(f, "go_max", r.go_max);
        fputc(',', f);
        write_number(f, "target", r.target);
        fputc(',', f);
        write_number(f, "target_max", r.target_max);
        fputc(',', f);
        write_list(f, "values", s.values);
        fputc(',', f);
        write_list(f, "cpu", s.cpu);
        fputc(',', f);
        write_list(f, "maxima", s.longest);
        fputs("}\n", f);
    }
    if (fclose(f) != 0) {
        fprintf(stderr, "tarn-micro: %s: %s\n", path.c_str(), strerror(errno));
        return false;
    }
    return true;
}

int drive(const Options &o)
{
    std::vector<const micro::Row *> chosen;
    try {
        const std::regex wanted(o.filter);
        for (const micro::Row &r : table())
            if (std::regex_search(r.name, wanted))
                chosen.push_back(&r);
    } catch (const std::regex_error &) {
        bad_option("--filter", "not a regular expression");
    }
    if (chosen.empty())
        bad_option("--filter", "matches no row");
    if (o.list) {
        for (const micro::Row *r : chosen)
            printf("%-18s %s\n", r->name, r->title);
        return 0;
    }
    std::vector<std::vector<Result>> results(chosen.size());
    bool ok = true;
    for (int round = 0; round < o.rounds; round++)
        for (size_t i = 0; i < chosen.size(); i++) {
            Result r = run_child(*chosen[i], o);
            ok = ok && !r.empty();
            results[i].push_back(std::move(r));
        }
    print_table(chosen, results);
    double load[3] = {0, 0, 0};
    if (getloadavg(load, 3) == 3)
        printf("Medians of %d rounds; where there are two numbers: median and "
               "longest of a round's samples.\n"
               "Load average: %.2f, %.2f, %.2f.\n",
               o.rounds, load[0], load[1], load[2]);
    if (!o.json.empty() && !write_json(o.json, chosen, results))
        ok = false;
    return ok ? 0 : 1;
}

struct Body {
    const std::function<void()> *fn;
};

void run_body(void *body)
{
    (*static_cast<Body *>(body)->fn)();
}

} // namespace

namespace micro
{

Register::Register(std::initializer_list<Row> rows)
{
    table().insert(table().end(), rows);
}

const std::vector<Row> &rows()
{
    return table();
}

void in_runtime(benchmark::State &state, const std::function<void()> &body)
{
    tarn_options o;
    tarn_options_init(&o);
    o.maxprocs = current->procs;
    /* What the benchmark library does on it is not ours to bound. */
    o.fixedstack = 1 << 20;
    Body b = {&body};
    if (tarn_main(&o, run_body, &b) != TARN_OK)
        state.SkipWithError(tarn_last_error());
}

void Samples::add(benchmark::State &state, int64_t ns)
{
    all_.push_back(static_cast<double>(ns));
    state.SetIterationTime(static_cast<double>(ns) * 1e-9);
}

void Samples::publish(benchmark::State &state)
{
    if (all_.empty())
        return;
    std::sort(all_.begin(), all_.end());
    const size_t n = all_.size();
    state.counters["p50"] = median(all_);
    state.counters["p99"] = all_[std::min(n - 1, n * 99 / 100)];
    state.counters["max"] = all_.back();
}

} // namespace micro

int main(int argc, char **argv)
{
    const Options o = read_options(argc, argv);
    return o.child.empty() ? drive(o) : child(o);
}
