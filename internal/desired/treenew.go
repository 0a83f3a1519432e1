package desired

import "slices"

// newTree compiles a run afresh, to at most the given number of groups. Its
// priorities are not settled.
func newTree(r run, most int) *tree {
	sorted := make([]pfx, len(r.pfx))
	copy(sorted, r.pfx)
	slices.SortFunc(sorted, pfx.compare)
	common := sorted[0].common(sorted[len(sorted)-1])
	most = max(most, 1)
	for fill := max(leafFill, len(sorted)/most); ; fill += fill/3 + 1 {
		c := cutter{sorted: sorted, fill: fill, several: most > 1}
		c.visit(0, len(sorted))
		if len(c.cuts)+1 > most && fill < len(sorted) {
			continue
		}
		t := &tree{run: r, common: common}
		t.root = &group{region: common, exit: common}
		if common.n == 0 && most > 1 {
			t.root.exit = common.half(false)
		}
		slices.SortFunc(c.cuts, pfx.compare)
		t.root.arrange(c.cuts)
		if t.fill() > copiesMost*len(r.pfx)+1024 && len(c.cuts) > 1 && fill < len(sorted) {
			continue
		}
		t.each((*group).orderNew)
		t.spare = min(max(uint32(len(c.cuts))/16, minSpare), uint32(max(most-len(c.cuts)-1, 0)))
		return t
	}
}

// cutter finds the regions of groups: prefixes so that what is in a prefix, and
// in no other one within it, is about as much as a group should hold.
type cutter struct {
	sorted  []pfx
	fill    int
	several bool // there may be more than one group
	cuts    []pfx
}

// visit cuts within sorted[lo:hi] and returns how many rules are left uncut. Of
// the two halves of a prefix that are too much together, the fuller one is cut
// off; so a cut holds at least half of fill.
func (c *cutter) visit(lo, hi int) int {
	p := c.sorted[lo].common(c.sorted[hi-1])
	at := lo
	for at < hi && c.sorted[at].n == p.n {
		at++
	}
	own := at - lo
	if at == hi {
		return own
	}
	mid := at
	if p.n < 128 {
		upper := p.half(true)
		n, _ := slices.BinarySearchFunc(c.sorted[at:hi], upper, pfx.compare)
		mid += n
	}
	var left [2]int
	if mid > at {
		left[0] = c.visit(at, mid)
	}
	if hi > mid {
		left[1] = c.visit(mid, hi)
	}
	if p.n == 0 && c.several {
		// The upper half of all addresses is always on its own: then all that
		// comes to the end of the first group is in the lower half.
		c.cuts = append(c.cuts, p.half(true))
		return own + left[0]
	}
	for left[0]+left[1] > c.fill {
		i := 0
		if left[1] > left[0] {
			i = 1
		}
		c.cuts = append(c.cuts, p.half(i == 1))
		left[i] = 0
	}
	return own + left[0] + left[1]
}

// arrange makes a search tree over the regions, which are sorted: the group
// splits off the prefix that has nearest to half of the groups in it, and so on
// with the rest.
func (g *group) arrange(regions []pfx) {
	for len(regions) > 0 {
		at, n := halve(regions)
		to := &group{region: regions[at], exit: regions[at]}
		to.arrange(slices.Clone(regions[at+1 : at+n]))
		g.splits = append(g.splits, split{regions[at], to})
		regions = slices.Delete(regions, at, at+n)
	}
}

// halve returns the region that has, with those in it, nearest to half of all.
func halve(regions []pfx) (at, n int) {
	within := make([]int, len(regions))
	var open []int
	for i, p := range regions {
		for len(open) > 0 && !regions[open[len(open)-1]].covers(p) {
			open = open[:len(open)-1]
		}
		open = append(open, i)
		for _, o := range open {
			within[o]++
		}
	}
	best := -1
	for i := range within {
		off := 2*within[i] - len(regions) - 1
		if off = max(off, -off); best < 0 || off < best {
			at, n, best = i, within[i], off
		}
	}
	return at, n
}
