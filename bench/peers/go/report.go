package main

import (
	"bufio"
	"fmt"
	"math"
	"math/bits"
	"os"
	"runtime"
	"runtime/metrics"
	"sort"
	"syscall"
)

// hist is the log-linear histogram of base/hist.h: three significant digits.
const (
	histSubBits = 11
	histMaxBits = 42
	histBuckets = 1<<histSubBits + (histMaxBits-histSubBits)<<(histSubBits-1)
)

type hist struct {
	count, max uint64
	buckets    []uint64
}

func histIndex(v uint64) int {
	if v < 1<<histSubBits {
		return int(v)
	}
	if v >= 1<<histMaxBits {
		v = 1<<histMaxBits - 1
	}
	shift := bits.Len64(v) - histSubBits
	return 1<<histSubBits + (shift-1)<<(histSubBits-1) +
		int(v>>uint(shift)) - 1<<(histSubBits-1)
}

// histHighest is the highest value of bucket i.
func histHighest(i int) uint64 {
	if i < 1<<histSubBits {
		return uint64(i)
	}
	i -= 1 << histSubBits
	shift := uint(i>>(histSubBits-1)) + 1
	sub := uint64(i&(1<<(histSubBits-1)-1)) + 1<<(histSubBits-1)
	return (sub+1)<<shift - 1
}

func (h *hist) addMany(v, n uint64) {
	if n == 0 {
		return
	}
	if h.buckets == nil {
		h.buckets = make([]uint64, histBuckets)
	}
	h.buckets[histIndex(v)] += n
	h.count += n
	if v > h.max {
		h.max = v
	}
}

func (h *hist) add(v uint64) {
	h.addMany(v, 1)
}

func (h *hist) merge(from *hist) {
	for i, n := range from.buckets {
		h.addMany(histHighest(i), n)
	}
	if from.max > 0 {
		h.max = from.max
	}
}

func (h *hist) quantile(q float64) uint64 {
	rank := uint64(math.Ceil(q * float64(h.count)))
	var sum uint64
	for i, n := range h.buckets {
		sum += n
		if n != 0 && sum >= rank {
			if v := histHighest(i); v < h.max {
				return v
			}
			return h.max
		}
	}
	return h.max
}

// writeHgrm writes the rows that the plots read, in microseconds.
func (h *hist) writeHgrm(path string) {
	f, err := os.Create(path)
	if err != nil {
		die(path, err.Error())
	}
	out := bufio.NewWriter(f)
	fmt.Fprintf(out, "%12s %14s %10s %14s\n\n", "Value", "Percentile",
		"TotalCount", "1/(1-Percentile)")
	var sum uint64
	for i, n := range h.buckets {
		if n == 0 {
			continue
		}
		sum += n
		v := histHighest(i)
		if v > h.max {
			v = h.max
		}
		q := float64(sum) / float64(h.count)
		if sum == h.count {
			// As the children in C: the largest value at the last but one
			// percentile too, since 1 has no place on the axis.
			fmt.Fprintf(out, "%12.3f %14.12f %10d %14.2f\n", float64(v)/1e3,
				1-0.5/float64(h.count), sum, 2*float64(h.count))
			fmt.Fprintf(out, "%12.3f %14.12f %10d %14s\n", float64(v)/1e3, 1.0,
				sum, "inf")
		} else {
			fmt.Fprintf(out, "%12.3f %14.12f %10d %14.2f\n", float64(v)/1e3, q,
				sum, 1/(1-q))
		}
	}
	fmt.Fprintf(out, "#[Max     = %12.3f, Total count    = %12d]\n",
		float64(h.max)/1e3, h.count)
	finish(path, out, f)
}

func finish(path string, out *bufio.Writer, f *os.File) {
	err := out.Flush()
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		die(path, err.Error())
	}
}

func (b *bench) writeTimeline(path string) {
	f, err := os.Create(path)
	if err != nil {
		die(path, err.Error())
	}
	out := bufio.NewWriter(f)
	fmt.Fprintf(out, "# ms of the run, longest step that ended then in us\n")
	for i := 0; i < timelineBins; i++ {
		var longest uint64
		for _, w := range b.workers {
			if w.timeline[i] > longest {
				longest = w.timeline[i]
			}
		}
		if longest != 0 {
			fmt.Fprintf(out, "%.1f %.3f\n",
				float64(uint64(i)<<timelineShift)/1e6, float64(longest)/1e3)
		}
	}
	finish(path, out, f)
}

// readPauses takes the runtime's distribution of stops for the collector. Its
// buckets are coarse: a pause is as long as its bucket's upper bound.
func readPauses() *hist {
	samples := []metrics.Sample{
		{Name: "/sched/pauses/total/gc:seconds"}, // Go 1.22
		{Name: "/gc/pauses:seconds"},
	}
	metrics.Read(samples)
	h := &hist{}
	for _, s := range samples {
		if s.Value.Kind() != metrics.KindFloat64Histogram {
			continue
		}
		d := s.Value.Float64Histogram()
		for i, n := range d.Counts {
			bound := d.Buckets[i+1]
			if math.IsInf(bound, 1) {
				bound = d.Buckets[i]
			}
			if bound > 0 {
				h.addMany(uint64(bound*1e9), n)
			}
		}
		return h
	}
	return h
}

func medianOf(v []float64) float64 {
	s := append([]float64(nil), v...)
	sort.Float64s(s)
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

func printTimes(out *bufio.Writer, name string, h *hist) {
	fmt.Fprintf(out, ",\"%s\":{", name)
	quantiles := []struct {
		key string
		q   float64
	}{{"p50", 0.5}, {"p99", 0.99}, {"p99.9", 0.999}, {"p99.99", 0.9999},
		{"max", 1}}
	for _, k := range quantiles {
		if h.count == 0 {
			fmt.Fprintf(out, "\"%s\":null,", k.key)
		} else {
			fmt.Fprintf(out, "\"%s\":%.3f,", k.key,
				float64(h.quantile(k.q))/1e3)
		}
	}
	fmt.Fprintf(out, "\"count\":%d}", h.count)
}

func printParams(out *bufio.Writer, p *params) {
	fmt.Fprintf(out, ",\"params\":{")
	counts := []struct {
		key string
		v   int64
	}{{"live", p.live}, {"depth", p.depth}, {"array", p.array},
		{"size", p.size}, {"steps", p.steps}}
	for _, c := range counts {
		if c.v != 0 {
			fmt.Fprintf(out, "\"%s\":%d,", c.key, c.v)
		}
	}
	if p.seconds != 0 {
		fmt.Fprintf(out, "\"seconds\":%g,", p.seconds)
	}
	if p.rate != 0 {
		fmt.Fprintf(out, "\"rate\":%g,", p.rate)
	}
	fmt.Fprintf(out, "\"threads\":%d,\"seed\":%d}", p.threads, p.seed)
}

// report writes the files that were asked for and the line of JSON, with the
// keys in the order in which the driver looks for them.
func (b *bench) report(cpu float64) {
	p := &b.params
	var ru syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru); err != nil {
		die("getrusage", err.Error())
	}
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	pauses := readPauses()

	latency := &hist{}
	var steps uint64
	first, last, setup := forever, int64(0), int64(0)
	for _, w := range b.workers {
		latency.merge(&w.latency)
		steps += w.steps
		if w.origin < first {
			first = w.origin
		}
		if w.origin > setup {
			setup = w.origin
		}
		if w.last > last {
			last = w.last
		}
	}
	// The longest is exact; merging knows buckets only.
	latency.max = 0
	for _, w := range b.workers {
		if w.latency.max > latency.max {
			latency.max = w.latency.max
		}
	}
	rate := 0.0
	if last > first {
		rate = float64(steps) / (float64(last-first) / 1e9)
	}
	if p.latencyHgrm != "" {
		latency.writeHgrm(p.latencyHgrm)
	}
	if p.pauseHgrm != "" {
		pauses.writeHgrm(p.pauseHgrm)
	}
	if p.timeline != "" {
		b.writeTimeline(p.timeline)
	}

	f := os.NewFile(uintptr(p.out), "--out")
	if f == nil {
		die("--out", "not a file descriptor")
	}
	out := bufio.NewWriter(f)
	fmt.Fprintf(out,
		"{\"workload\":\"%s\",\"collector\":\"go\",\"version\":\"%.24s\"",
		p.workload, runtime.Version())
	printParams(out, p)
	fmt.Fprintf(out, ",\"wall_s\":%.6f,\"setup_s\":%.6f,\"cpu_s\":%.6f",
		float64(b.end-b.epoch)/1e9, float64(setup-b.epoch)/1e9, cpu)
	fmt.Fprintf(out, ",\"max_rss_mb\":%.1f,\"gc_count\":%d",
		float64(ru.Maxrss)/1024, mem.NumGC)
	fmt.Fprintf(out, ",\"steps\":%d,\"steps_per_s\":%.1f", steps, rate)
	fmt.Fprintf(out, ",\"checksum\":\"%016x\"", b.checksum)
	printTimes(out, "latency_us", latency)
	printTimes(out, "pause_us", pauses)
	fmt.Fprintf(out, ",\"detail\":{")
	keys := []string{"gc_ms", "gc_cpu_ms", "mark_ms", "mnodes_per_s",
		"object_ns", "object_cpu_ns", "cycle_ms", "stacks"}
	for i, key := range keys {
		comma := ","
		if i == 0 {
			comma = ""
		}
		if v, ok := b.detail[key]; ok {
			fmt.Fprintf(out, "%s\"%s\":%.6g", comma, key, v)
		} else {
			fmt.Fprintf(out, "%s\"%s\":null", comma, key)
		}
	}
	fmt.Fprintf(out, "}}\n")
	finish("--out", out, f)
}
