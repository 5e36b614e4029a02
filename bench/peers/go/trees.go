package main

import "runtime"

// gcbench and binary-trees, as bench/workload_gcbench.c and
// bench/workload_binary_trees.c.

const (
	minDepth  = 4
	stepDepth = 6
	stretch   = 1
)

func treesPerStep(depth int64) int64 {
	if depth >= stepDepth {
		return 1
	}
	return 1 << uint(stepDepth-depth)
}

type gcNode struct {
	left, right *gcNode
	i, j        int32
}

func newGcNode(depth int64) *gcNode {
	return &gcNode{i: int32(depth), j: int32(depth * depth)}
}

func populate(n *gcNode, depth int64) {
	if depth <= 0 {
		return
	}
	depth--
	n.left = newGcNode(depth)
	n.right = newGcNode(depth)
	populate(n.left, depth)
	populate(n.right, depth)
}

func makeGcTree(depth int64) *gcNode {
	if depth <= 0 {
		return newGcNode(0)
	}
	left := makeGcTree(depth - 1)
	right := makeGcTree(depth - 1)
	n := newGcNode(depth)
	n.left, n.right = left, right
	return n
}

func populateSteps(w *worker, n *gcNode, depth int64) {
	if depth <= stepDepth {
		t := w.begin()
		populate(n, depth)
		w.done(t)
		return
	}
	depth--
	n.left = newGcNode(depth)
	n.right = newGcNode(depth)
	populateSteps(w, n.left, depth)
	populateSteps(w, n.right, depth)
}

func makeGcTreeSteps(w *worker, depth int64) *gcNode {
	if depth <= stepDepth {
		t := w.begin()
		n := makeGcTree(depth)
		w.done(t)
		return n
	}
	left := makeGcTreeSteps(w, depth-1)
	right := makeGcTreeSteps(w, depth-1)
	n := newGcNode(depth)
	n.left, n.right = left, right
	return n
}

func checkEdges(root *gcNode, depth int64) uint64 {
	var sum uint64
	l, r := root, root
	for d := depth; d > 0; d-- {
		l, r = l.left, r.right
		if l == nil || r == nil {
			fail("gcbench: a path ends early, at depth", uint64(depth-d),
				uint64(depth))
		}
		if l.i != int32(d-1) || r.i != l.i || r.j != l.j {
			fail("gcbench: a node says it is at depth", uint64(l.i),
				uint64(d-1))
		}
		sum = mix(sum, uint64(l.i)<<32|uint64(uint32(r.j)))
	}
	if l.left != nil || r.right != nil {
		fail("gcbench: a leaf has children", 1, 0)
	}
	return sum
}

func countNodes(n *gcNode) uint64 {
	if n.left == nil {
		return 1
	}
	return 1 + countNodes(n.left) + countNodes(n.right)
}

func shortLivedLarge(w *worker, depth, n int64) {
	for i := int64(0); i < n; i++ {
		t := newGcNode(depth)
		populateSteps(w, t, depth)
		w.checksum = mix(w.checksum, checkEdges(t, depth))
	}
	for i := int64(0); i < n; i++ {
		t := makeGcTreeSteps(w, depth)
		w.checksum = mix(w.checksum, checkEdges(t, depth))
	}
}

func shortLivedSmall(w *worker, depth, n int64) {
	batch := treesPerStep(depth)
	for kind := 0; kind < 2; kind++ {
		for i := int64(0); i < n; {
			t0 := w.begin()
			for k := int64(0); k < batch && i < n; k, i = k+1, i+1 {
				var t *gcNode
				if kind == 0 {
					t = newGcNode(depth)
					populate(t, depth)
				} else {
					t = makeGcTree(depth)
				}
				w.checksum = mix(w.checksum, checkEdges(t, depth))
			}
			w.done(t0)
		}
	}
}

func shortLived(w *worker) {
	max := w.params.depth
	total := 2 * treeSize(max+stretch)
	w.steady()
	for d := int64(minDepth); d <= max; d += 2 {
		n := w.share(int64(total / treeSize(d)))
		if d <= stepDepth {
			shortLivedSmall(w, d, n)
		} else {
			shortLivedLarge(w, d, n)
		}
	}
}

func gcbenchStretch(depth int64) uint64 {
	return checkEdges(makeGcTree(depth), depth)
}

func gcbenchPass(b *bench) uint64 {
	depth := b.params.depth
	sum := gcbenchStretch(depth + stretch)
	kept := newGcNode(depth)
	populate(kept, depth)
	array := make([]float64, b.params.array)
	for i := range array {
		array[i] = 1 / float64(i+1)
	}
	for _, w := range b.workers {
		w.checksum = 0
	}
	b.run(shortLived)
	for _, w := range b.workers {
		sum = mix(sum, w.checksum)
	}
	sum = mix(sum, checkEdges(kept, depth))
	nodes := countNodes(kept)
	if nodes != treeSize(depth) {
		fail("gcbench: nodes of the long-lived tree", nodes, treeSize(depth))
	}
	for i := range array {
		if array[i] != 1/float64(i+1) {
			fail("gcbench: the array changed at", uint64(i), 0)
		}
	}
	runtime.KeepAlive(kept)
	return mix(sum, nodes)
}

func gcbenchRun(b *bench) {
	b.passes("gcbench", gcbenchPass)
}

type treeNode struct {
	left, right *treeNode
}

func bottomUp(depth int64) *treeNode {
	if depth <= 0 {
		return &treeNode{}
	}
	left := bottomUp(depth - 1)
	right := bottomUp(depth - 1)
	return &treeNode{left, right}
}

func bottomUpSteps(w *worker, depth int64) *treeNode {
	if depth <= stepDepth {
		t := w.begin()
		n := bottomUp(depth)
		w.done(t)
		return n
	}
	left := bottomUpSteps(w, depth-1)
	right := bottomUpSteps(w, depth-1)
	return &treeNode{left, right}
}

func itemCheck(n *treeNode) uint64 {
	if n.left == nil {
		return 1
	}
	return 1 + itemCheck(n.left) + itemCheck(n.right)
}

func treesLarge(w *worker, depth, n int64) uint64 {
	var check uint64
	for i := int64(0); i < n; i++ {
		check += itemCheck(bottomUpSteps(w, depth))
	}
	return check
}

func treesSmall(w *worker, depth, n int64) uint64 {
	batch := treesPerStep(depth)
	var check uint64
	for i := int64(0); i < n; {
		t0 := w.begin()
		for k := int64(0); k < batch && i < n; k, i = k+1, i+1 {
			check += itemCheck(bottomUp(depth))
		}
		w.done(t0)
	}
	return check
}

func trees(w *worker) {
	max := w.params.depth
	w.steady()
	for d := int64(minDepth); d <= max; d += 2 {
		n := w.share(1 << uint(max-d+minDepth))
		var check uint64
		if d <= stepDepth {
			check = treesSmall(w, d, n)
		} else {
			check = treesLarge(w, d, n)
		}
		if check != uint64(n)*treeSize(d) {
			fail("binary-trees: nodes of all trees of a depth", check,
				uint64(n)*treeSize(d))
		}
		w.checksum = mix(w.checksum, check)
	}
}

func binaryTreesStretch(depth int64) uint64 {
	return itemCheck(bottomUp(depth))
}

func binaryTreesPass(b *bench) uint64 {
	depth := b.params.depth
	sum := mix(0, binaryTreesStretch(depth+1))
	kept := bottomUp(depth)
	for _, w := range b.workers {
		w.checksum = 0
	}
	b.run(trees)
	for _, w := range b.workers {
		sum = mix(sum, w.checksum)
	}
	check := itemCheck(kept)
	if check != treeSize(depth) {
		fail("binary-trees: nodes of the long-lived tree", check,
			treeSize(depth))
	}
	return mix(sum, check)
}

func binaryTreesRun(b *bench) {
	b.passes("binary-trees", binaryTreesPass)
}
