package main

// allocate, as bench/workload_allocate.c. Go allocates by type: small objects,
// which have a pointer, are of 16, 64 or 256 bytes and no other size. Larger ones
// are slices of words without pointers, which Go zeroes.

const (
	recentObjects = 8
	smallObject   = 256
)

type liveNode struct {
	left, right  *liveNode
	number, size uint64
	padding      [4]uint64
}

func makeLive(size uint64, number *uint64) *liveNode {
	*number++
	n := &liveNode{number: *number, size: size}
	left := (size - 1) / 2
	right := size - 1 - left
	if left > 0 {
		n.left = makeLive(left, number)
	}
	if right > 0 {
		n.right = makeLive(right, number)
	}
	return n
}

func readLive(n *liveNode, number *uint64) uint64 {
	*number++
	if n.number != *number {
		fail("allocate: a live node has number", n.number, *number)
	}
	size := uint64(1)
	if n.left != nil {
		size += readLive(n.left, number)
	}
	if n.right != nil {
		size += readLive(n.right, number)
	}
	if n.size != size {
		fail("allocate: a live tree is of size", n.size, size)
	}
	return size
}

type small16 struct {
	live *liveNode
	tag  uint64
}

type small64 struct {
	live *liveNode
	rest [6]uint64
	tag  uint64
}

type small256 struct {
	live *liveNode
	rest [30]uint64
	tag  uint64
}

// loop calls one for each object: it drops what place i%recentObjects holds,
// returning its tag, and puts a new one with this tag there; once more after the
// last step it only drops.
func (w *worker) loop(one func(place int, tag uint64, last bool) uint64) {
	var sum, tag uint64
	limit := w.limit()
	for w.steps < limit && w.last < w.deadline {
		t := w.begin()
		for i := 0; i < objectsPerStep; i++ {
			tag += 0x9E3779B97F4A7C15
			sum += one(i%recentObjects, tag, false)
		}
		w.done(t)
	}
	for i := 0; i < recentObjects; i++ {
		sum += one(i, 0, true)
	}
	w.checksum = sum
}

func checkLive(got, want *liveNode) {
	if got != want {
		fail("allocate: an object's pointer changed", 0, 0)
	}
}

func runAllocate(w *worker, live *liveNode) {
	w.steady()
	size := w.params.size
	switch {
	case size == 16:
		var recent [recentObjects]*small16
		w.loop(func(place int, tag uint64, last bool) (old uint64) {
			if s := recent[place]; s != nil {
				checkLive(s.live, live)
				old = s.tag
			}
			if !last {
				recent[place] = &small16{live: live, tag: tag}
			}
			return
		})
	case size == 64:
		var recent [recentObjects]*small64
		w.loop(func(place int, tag uint64, last bool) (old uint64) {
			if s := recent[place]; s != nil {
				checkLive(s.live, live)
				old = s.tag
			}
			if !last {
				recent[place] = &small64{live: live, tag: tag}
			}
			return
		})
	case size == 256:
		var recent [recentObjects]*small256
		w.loop(func(place int, tag uint64, last bool) (old uint64) {
			if s := recent[place]; s != nil {
				checkLive(s.live, live)
				old = s.tag
			}
			if !last {
				recent[place] = &small256{live: live, tag: tag}
			}
			return
		})
	case size > smallObject:
		var recent [recentObjects][]uint64
		w.loop(func(place int, tag uint64, last bool) (old uint64) {
			if s := recent[place]; s != nil {
				old = s[len(s)-1]
				if s[0] != ^old {
					fail("allocate: an object's first word", s[0], ^old)
				}
			}
			if !last {
				s := make([]uint64, size/8)
				s[0] = ^tag
				s[len(s)-1] = tag
				recent[place] = s
			}
			return
		})
	default:
		die("--size", "in Go 16, 64, 256 or larger")
	}
}

func allocateRun(b *bench) {
	var number uint64
	live := makeLive(uint64(b.params.live), &number)
	cpu := cpuTime()
	b.run(func(w *worker) { runAllocate(w, live) })
	cpu = cpuTime() - cpu
	var objects, elapsed float64
	for _, w := range b.workers {
		b.checksum = mix(b.checksum, w.checksum)
		objects += float64(w.steps) * objectsPerStep
		elapsed += float64(w.last - w.origin)
	}
	if b.params.rate == 0 {
		b.detail["object_ns"] = elapsed / objects
		b.detail["object_cpu_ns"] = float64(cpu) / objects
	}
	number = 0
	size := readLive(live, &number)
	if size != uint64(b.params.live) {
		fail("allocate: live nodes", size, uint64(b.params.live))
	}
	b.checksum = mix(b.checksum, size)
}
