// tarn-pause-go: one run of one workload of tarn-pause, in Go.
//
// It takes the options of the children in C (bench/child_main.c), does the same
// work with the same random numbers, arrives at the same checksum and writes the
// same line of JSON. Needs nothing but the standard library; Go 1.18 or newer.
package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

type params struct {
	workload                         string
	live, depth, array, steps, size  int64
	threads                          int64
	seed                             uint64
	seconds, rate                    float64
	out                              int64
	latencyHgrm, pauseHgrm, timeline string
}

// What a workload needs, and what it takes where nothing was given: the same
// table as in bench/params.h.
type workload struct {
	run               func(b *bench)
	live, depth, size int64
	array             bool
	threads           bool
}

var workloads = map[string]workload{
	"gcbench":       {run: gcbenchRun, depth: 20, array: true, threads: true},
	"binary-trees":  {run: binaryTreesRun, depth: 19, threads: true},
	"message-store": {run: messageStoreRun, live: 900000, threads: true},
	"mark-random":   {run: markRandomRun, live: 10000000},
	"mark-window":   {run: markWindowRun, live: 10000000},
	"mark-tree":     {run: markTreeRun, depth: 21},
	"allocate":      {run: allocateRun, live: 1 << 20, size: 64, threads: true},
}

const (
	objectsPerStep    = 64
	forcedCollections = 7
	timelineShift     = 23
	timelineBins      = 16384
)

// worker is one goroutine of a workload and the times of its steps.
type worker struct {
	latency   hist
	timeline  []uint64
	params    *params
	index     int64
	seed      uint64
	epoch     int64
	origin    int64 // start of the timed steps; 0 before
	last      int64 // end of the last step
	deadline  int64
	period    float64 // of an open loop, ns; 0 = closed
	scheduled uint64
	steps     uint64
	checksum  uint64
}

type bench struct {
	params     params
	workers    []*worker
	epoch, end int64
	checksum   uint64
	detail     map[string]float64
}

const forever = int64(^uint64(0) >> 1)

var started = time.Now()

// nanotime is the monotonic clock; never 0.
func nanotime() int64 {
	return int64(time.Since(started)) + 1
}

func fail(what string, got, want uint64) {
	fmt.Fprintf(os.Stderr,
		"tarn-pause-go: verification failed: %s: %d (%#x), expected %d (%#x)\n",
		what, got, got, want, want)
	os.Exit(3)
}

func die(what, why string) {
	fmt.Fprintf(os.Stderr, "tarn-pause-go: %s: %s\n", what, why)
	os.Exit(2)
}

// mix and the random numbers are those of bench/workload.h and base/base.h.
func mix(sum, value uint64) uint64 {
	sum = (sum ^ value) * 0x9E3779B97F4A7C15
	return sum ^ sum>>29
}

func randBelow(state *uint64, n uint32) uint32 {
	x := *state
	x ^= x >> 12
	x ^= x << 25
	x ^= x >> 27
	*state = x
	return uint32(((x * 0x2545F4914F6CDD1D >> 32) * uint64(n)) >> 32)
}

func treeSize(depth int64) uint64 {
	return uint64(2)<<uint(depth) - 1
}

func (w *worker) share(total int64) int64 {
	n := w.params.threads
	s := total / n
	if w.index < total%n {
		s++
	}
	return s
}

func (w *worker) limit() uint64 {
	if w.params.steps == 0 {
		return ^uint64(0)
	}
	return uint64(w.share(w.params.steps))
}

// steady begins the timed steps; a second call changes nothing.
func (w *worker) steady() {
	if w.origin != 0 {
		return
	}
	p := w.params
	w.origin = nanotime()
	w.last = w.origin
	w.deadline = forever
	if p.seconds != 0 {
		w.deadline = w.origin + int64(p.seconds*1e9)
	}
	if p.rate != 0 {
		w.period = 1e9 * float64(p.threads) / p.rate
	}
	w.origin += int64(w.period * float64(w.index) / float64(p.threads))
}

func (w *worker) begin() int64 {
	if w.period == 0 {
		return nanotime()
	}
	const wakeup = 80000
	due := w.origin + int64(float64(w.scheduled)*w.period)
	w.scheduled++
	for {
		left := due - nanotime()
		if left <= 0 {
			return due
		}
		if left > 2*wakeup {
			time.Sleep(time.Duration(left - wakeup))
		}
	}
}

func (w *worker) done(begin int64) {
	now := nanotime()
	ns := uint64(now - begin)
	bin := (now - w.epoch) >> timelineShift
	w.latency.add(ns)
	if bin < timelineBins && w.timeline[bin] < ns {
		w.timeline[bin] = ns
	}
	w.last = now
	w.steps++
}

// run has all workers do body side by side, and waits for them.
func (b *bench) run(body func(w *worker)) {
	if len(b.workers) == 1 {
		body(b.workers[0])
		return
	}
	var wait sync.WaitGroup
	for _, w := range b.workers {
		wait.Add(1)
		go func(w *worker) {
			defer wait.Done()
			body(w)
		}(w)
	}
	wait.Wait()
}

// passes repeats a whole program as --steps or --seconds say; the checksum must
// be the same each time.
func (b *bench) passes(name string, pass func(b *bench) uint64) {
	b.checksum = pass(b)
	for n := int64(1); (b.params.steps == 0 || n < b.params.steps) &&
		nanotime() < b.workers[0].deadline; n++ {
		if again := pass(b); again != b.checksum {
			fail(name+": checksum of another pass", again, b.checksum)
		}
	}
}

func cpuTime() int64 {
	var ru syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru); err != nil {
		die("getrusage", err.Error())
	}
	return ru.Utime.Nano() + ru.Stime.Nano()
}

// forceCollections is that of bench/workload.c; Go does not tell how long it
// marked.
func (b *bench) forceCollections(nodes uint64) {
	w := b.workers[0]
	w.steady()
	var elapsed, cpu []float64
	limit := w.limit()
	for w.steps < limit && w.last < w.deadline {
		cpuBegan, began := cpuTime(), nanotime()
		runtime.GC()
		w.done(began)
		elapsed = append(elapsed, float64(w.last-began)/1e6)
		cpu = append(cpu, float64(cpuTime()-cpuBegan)/1e6)
	}
	if len(elapsed) == 0 {
		return
	}
	ms := medianOf(elapsed)
	b.detail["gc_ms"] = ms
	b.detail["gc_cpu_ms"] = medianOf(cpu)
	b.detail["mnodes_per_s"] = float64(nodes) / ms / 1e3
}

func number(name, value string, lo, hi int64) int64 {
	v, err := strconv.ParseInt(value, 10, 64)
	if err != nil || v < lo || v > hi {
		die(name, "the value is malformed or out of range")
	}
	return v
}

func positive(name, value string) float64 {
	v, err := strconv.ParseFloat(value, 64)
	if err != nil || !(v > 0) {
		die(name, "the value is malformed or out of range")
	}
	return v
}

func readOptions(args []string) params {
	p := params{threads: 1, seed: 1, out: 1}
	for i := 0; i < len(args); i += 2 {
		name := args[i]
		if i+1 == len(args) || !strings.HasPrefix(name, "--") {
			die(name, "needs a value, or is not an option")
		}
		value := args[i+1]
		switch name {
		case "--workload":
			p.workload = value
		case "--live":
			p.live = number(name, value, 16, 1<<31)
		case "--depth":
			p.depth = number(name, value, 8, 30)
		case "--array":
			p.array = number(name, value, 16, 1<<31)
		case "--steps":
			p.steps = number(name, value, 1, 1<<40)
		case "--size":
			p.size = number(name, value, 16, 1<<30)
		case "--threads":
			p.threads = number(name, value, 1, 256)
		case "--seed":
			p.seed = uint64(number(name, value, 1, forever))
		case "--seconds":
			p.seconds = positive(name, value)
		case "--rate":
			p.rate = positive(name, value)
		case "--out":
			p.out = number(name, value, 1, 1023)
		case "--latency-hgrm":
			p.latencyHgrm = value
		case "--pause-hgrm":
			p.pauseHgrm = value
		case "--timeline":
			p.timeline = value
		default:
			die(name, "unknown option")
		}
	}
	return p
}

// resolve fills in what was not given, and takes away what the workload has no
// use for.
func (p *params) resolve(w workload) {
	fill := func(field *int64, def int64) {
		if def == 0 {
			*field = 0
		} else if *field == 0 {
			*field = def
		}
	}
	fill(&p.live, w.live)
	fill(&p.depth, w.depth)
	fill(&p.size, w.size)
	if w.array {
		fill(&p.array, 4000000)
	} else {
		p.array = 0
	}
	if !w.threads {
		p.threads = 1
	}
	if p.steps != 0 || p.seconds != 0 {
		return
	}
	switch p.workload {
	case "gcbench", "binary-trees":
		p.steps = 1
	case "message-store":
		p.steps = p.live * 4
		if p.steps < 1000000 {
			p.steps = 1000000
		}
	case "allocate":
		p.steps = 4 << 30 / p.size / objectsPerStep
		if p.steps > 640000 {
			p.steps = 640000
		} else if p.steps < 16 {
			p.steps = 16
		}
	default:
		p.steps = forcedCollections
	}
}

func main() {
	b := &bench{params: readOptions(os.Args[1:]), detail: map[string]float64{}}
	w, known := workloads[b.params.workload]
	if !known {
		die("--workload "+b.params.workload, "not written in Go")
	}
	b.params.resolve(w)
	for i := int64(0); i < b.params.threads; i++ {
		b.workers = append(b.workers, &worker{
			timeline: make([]uint64, timelineBins),
			params:   &b.params,
			index:    i,
			seed:     mix(b.params.seed, uint64(i+1)) | 1,
			deadline: forever,
		})
	}
	cpu := cpuTime()
	b.epoch = nanotime()
	for _, w := range b.workers {
		w.epoch = b.epoch
	}
	w.run(b)
	b.end = nanotime()
	b.report(float64(cpuTime()-cpu) / 1e9)
}
