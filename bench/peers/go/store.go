package main

// message-store, as bench/workload_message_store.c: the same five objects of
// the same sizes for a message.

// The parts are arrays, not slices, so that a pointer to one is one word.
type (
	part0 [16]uint64
	part1 [24]uint64
	part2 [32]uint64
	part3 [48]uint64
)

type message struct {
	p0                        *part0
	p1                        *part1
	p2                        *part2
	p3                        *part3
	sequence, sum, key, flags uint64
}

func fillPart(words []uint64, x uint64) uint64 {
	var sum uint64
	for i := range words {
		words[i] = x ^ uint64(uint32(i))*0xD1342543DE82EF95
		sum += words[i]
	}
	return sum
}

func sumPart(words []uint64) uint64 {
	var sum uint64
	for _, v := range words {
		sum += v
	}
	return sum
}

func newMessage(seed, sequence uint64) *message {
	m := &message{}
	key := mix(seed, sequence)
	var sum uint64
	m.p0 = new(part0)
	sum += fillPart(m.p0[:], key)
	m.p1 = new(part1)
	sum += fillPart(m.p1[:], key+1)
	m.p2 = new(part2)
	sum += fillPart(m.p2[:], key+2)
	m.p3 = new(part3)
	sum += fillPart(m.p3[:], key+3)
	m.sequence = sequence
	m.sum = sum
	m.key = key
	m.flags = 1
	return m
}

func verifyMessage(m *message, seed, sequence uint64) uint64 {
	sum := sumPart(m.p0[:]) + sumPart(m.p1[:]) + sumPart(m.p2[:]) +
		sumPart(m.p3[:])
	if m.sequence != sequence {
		fail("message-store: number of a message", m.sequence, sequence)
	}
	if m.key != mix(seed, sequence) || m.flags != 1 {
		fail("message-store: key of a message", m.key, mix(seed, sequence))
	}
	if sum != m.sum {
		fail("message-store: sum of a message", sum, m.sum)
	}
	return sum
}

func runStore(w *worker) {
	live := uint64(w.share(w.params.live))
	limit := w.limit()
	store := make([]*message, live)
	for i := range store {
		store[i] = newMessage(w.seed, uint64(i))
	}
	w.steady()
	var slot, sum uint64
	next := live
	for w.steps < limit && w.last < w.deadline {
		t := w.begin()
		sum = mix(sum, verifyMessage(store[slot], w.seed, next-live))
		store[slot] = newMessage(w.seed, next)
		w.done(t)
		next++
		if slot++; slot == live {
			slot = 0
		}
	}
	for i := uint64(0); i < live; i++ {
		sum = mix(sum, verifyMessage(store[slot], w.seed, next-live+i))
		if slot++; slot == live {
			slot = 0
		}
	}
	w.checksum = sum
}

func messageStoreRun(b *bench) {
	b.run(runStore)
	for _, w := range b.workers {
		b.checksum = mix(b.checksum, w.checksum)
	}
}
