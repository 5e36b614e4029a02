package main

import "runtime"

// mark-random, mark-window and mark-tree, as bench/workload_mark.c.

const (
	links  = 3
	window = 64
)

type node struct {
	link  [links]*node
	place uint64
}

func makeNodes(live uint32, shuffled bool, random *uint64) []*node {
	table := make([]*node, live)
	for i := range table {
		table[i] = new(node)
	}
	for i := live - 1; shuffled && i > 0; i-- {
		j := randBelow(random, i+1)
		table[i], table[j] = table[j], table[i]
	}
	return table
}

func target(i, live uint32, near bool, random *uint64) uint32 {
	if !near {
		return randBelow(random, live)
	}
	low, high := uint32(0), live-1
	if i > window {
		low = i - window
	}
	if live-1-i > window {
		high = i + window
	}
	return low + randBelow(random, high-low+1)
}

func linkNodes(table []*node, near bool, random *uint64) uint64 {
	var sum uint64
	live := uint32(len(table))
	for i := uint32(0); i < live; i++ {
		n := table[i]
		n.place = uint64(i)
		for k := range n.link {
			to := target(i, live, near, random)
			n.link[k] = table[to]
			sum = mix(sum, uint64(to))
		}
	}
	return sum
}

func readNodes(table []*node) uint64 {
	var sum uint64
	for i, n := range table {
		if n.place != uint64(i) {
			fail("mark: the table's node is of place", n.place, uint64(i))
		}
		for _, to := range n.link {
			sum = mix(sum, to.place)
		}
	}
	return sum
}

func runNodes(b *bench, near bool) {
	random := b.workers[0].seed
	table := makeNodes(uint32(b.params.live), !near, &random)
	built := linkNodes(table, near, &random)
	b.forceCollections(uint64(len(table)))
	read := readNodes(table)
	if read != built {
		fail("mark: the links' sum", read, built)
	}
	b.checksum = read
}

func markRandomRun(b *bench) {
	runNodes(b, false)
}

func markWindowRun(b *bench) {
	runNodes(b, true)
}

type markTree struct {
	left, right   *markTree
	number, depth uint64
}

func makeMarkTree(number *uint64, depth int64) *markTree {
	*number++
	t := &markTree{number: *number, depth: uint64(depth)}
	if depth > 0 {
		t.left = makeMarkTree(number, depth-1)
		t.right = makeMarkTree(number, depth-1)
	}
	return t
}

func readMarkTree(t *markTree, number *uint64, depth int64) uint64 {
	*number++
	if t.number != *number || t.depth != uint64(depth) {
		fail("mark-tree: a node has number", t.number, *number)
	}
	sum := mix(t.number, t.depth)
	if depth > 0 {
		sum = mix(sum, readMarkTree(t.left, number, depth-1))
		sum = mix(sum, readMarkTree(t.right, number, depth-1))
	}
	return sum
}

func markTreeRun(b *bench) {
	depth := b.params.depth
	var number uint64
	tree := makeMarkTree(&number, depth)
	b.forceCollections(treeSize(depth))
	number = 0
	b.checksum = readMarkTree(tree, &number, depth)
	if number != treeSize(depth) {
		fail("mark-tree: nodes", number, treeSize(depth))
	}
	runtime.KeepAlive(tree)
}
