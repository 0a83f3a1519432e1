package desired

import (
	"slices"
)

// edit changes a tree that stands so that it holds the run, by as few rules as it
// can. It uses t up. poor says that a new tree would be much better.
func (t *standingTree) edit(r run, contents map[content]int32, most int) (out *tree, poor bool) {
	e := editor{
		tree:  &tree{run: r, span: t.span, common: t.common, root: t.root},
		taken: make(map[uint32]bool, len(t.groups)),
		most:  max(leafMost, 2*len(r.pfx)/max(most, 1)),
	}
	for _, g := range t.groups {
		e.taken[g.priority] = true
		for i := range g.stood {
			if x := &g.stood[i]; x.to == nil {
				x.rule = -1
				if rule, ok := contents[content{x.pfx, x.table}]; ok {
					x.rule = rule
				}
			}
		}
	}
	e.widen()
	copies := e.fill()
	kept := e.compare(t.groups)
	e.join(e.root)
	biggest, grew := e.peelAll()
	e.each(e.order)
	n := len(r.pfx)
	width := int(t.last - t.first)
	poor = e.cramped || 2*kept < n || grew && (biggest > 4*e.most || copies > copiesMost*n+1024) || width > 8*(n/(leafFill/2)+4)+32
	return e.tree, poor
}

// editor is one edit of a tree.
type editor struct {
	*tree
	taken map[uint32]bool // priorities of groups, of those that go too
	most  int             // how many rules a group may have before it is split
	// cramped says that a group had to end in a goto for all packets.
	cramped bool
}

// free finds a priority for a new group that g leads to.
func (e *editor) free(g *group) (uint32, bool) {
	for p := g.priority + 1; p < e.last; p++ {
		if !e.taken[p] {
			e.taken[p] = true
			return p, true
		}
	}
	return 0, false
}

// split makes a new group that g leads to.
func (e *editor) split(g *group, p pfx) *group {
	at, ok := e.free(g)
	if !ok {
		return nil
	}
	to := &group{priority: at, region: p, exit: p}
	g.splits = append(g.splits, split{p, to})
	return to
}

// widen makes the tree take the packets of every rule.
func (e *editor) widen() {
	all := e.pfx[0]
	for _, p := range e.pfx {
		all = all.common(p)
	}
	if e.common.n == 0 || e.common.covers(all) {
		return
	}
	old := e.common
	e.common = old.common(all)
	e.root.region, e.root.exit = e.common, e.common
	if e.common.n > 0 {
		return
	}
	// Nothing is common any more. The other half of all addresses gets a group
	// of its own, so that the end of this one has a prefix.
	half := old.cut(1)
	if e.split(e.root, pfx{}.half(!half.bit(0))) != nil {
		e.root.exit = half
	} else {
		e.cramped = true
	}
}

// compare notes which groups gain and lose rules. It counts the rules of the run
// that stand somewhere.
func (e *editor) compare(groups []*group) (kept int) {
	stands := make([]bool, len(e.pfx))
	in := make([]int32, len(e.pfx)) // number of the last group in which the rule stands
	for i, g := range groups {
		n := 0
		for _, x := range g.stood {
			if x.to != nil {
				continue
			}
			n++
			if x.rule >= 0 {
				in[x.rule] = int32(i) + 1
				if !stands[x.rule] {
					stands[x.rule] = true
					kept++
				}
			}
		}
		for _, r := range g.rules {
			if in[r] == int32(i)+1 {
				n--
			} else {
				g.grew = true
			}
		}
		g.lost = n > 0
	}
	return kept
}

// within counts the rules of g that are in its region; the others only cover it.
func (e *editor) within(g *group) []int32 {
	var in []int32
	for _, r := range g.rules {
		if g.region.covers(e.pfx[r]) {
			in = append(in, r)
		}
	}
	return in
}

// join takes groups that lost rules and are nearly empty into those that lead to
// them.
func (e *editor) join(g *group) {
	for i := 0; i < len(g.splits); {
		to := g.splits[i].to
		e.join(to)
		if in, ok := e.joins(g, i); ok {
			g.rules = append(g.rules, in...)
			slices.Sort(g.rules)
			g.rules = slices.Compact(g.rules)
			g.splits = slices.Delete(g.splits, i, i+1)
			g.lost = true
			continue
		}
		i++
	}
}

// joins says whether the group that split i leads to can go: its rules are then
// g's own.
func (e *editor) joins(g *group, i int) (in []int32, ok bool) {
	to := g.splits[i].to
	if !to.lost || len(to.splits) > 0 || !g.exit.covers(to.region) {
		return nil, false
	}
	for _, later := range g.splits[i+1:] {
		if later.pfx.overlaps(to.region) {
			return nil, false // it would get the packets
		}
	}
	in = e.within(to)
	if len(in) == 0 {
		return in, true
	}
	return in, len(in) < leafLeast && len(g.rules)+len(in) <= leafMost/2
}

// peelAll splits the groups that have grown too big.
func (e *editor) peelAll() (biggest int, grew bool) {
	var big []*group
	e.each(func(g *group) {
		if g.grew && len(g.rules) > e.most {
			big = append(big, g)
		}
	})
	for _, g := range big {
		for len(g.rules) > e.most && e.peel(g) {
		}
		biggest, grew = max(biggest, len(g.rules)), true
	}
	return biggest, grew
}

// peel moves some rules of g to a new group. The split stands at the end of g: a
// rule that stays and covers the split comes earlier in the run, or order sees to
// it.
func (e *editor) peel(g *group) bool {
	size := peelSize
	if over := len(g.rules) - e.most; over > peelSize/2 {
		size = e.most * 3 / 4
	}
	in := e.within(g)
	sorted := make([]pfx, len(in))
	for i, r := range in {
		sorted[i] = e.pfx[r]
	}
	slices.SortFunc(sorted, pfx.compare)
	p, n := biggestWithin(sorted, size)
	if n < leafLeast/2 || len(sorted) == n {
		return false
	}
	to := e.split(g, p)
	if to == nil {
		return false
	}
	stay := g.rules[:0]
	for _, r := range g.rules {
		if p.overlaps(e.pfx[r]) {
			to.rules = append(to.rules, r)
		}
		if !p.covers(e.pfx[r]) {
			stay = append(stay, r)
		}
	}
	g.rules = stay
	return true
}

// biggestWithin finds the half of a prefix that has the most of sorted in it but
// no more than size.
func biggestWithin(sorted []pfx, size int) (best pfx, n int) {
	for len(sorted) > 0 {
		p := sorted[0].common(sorted[len(sorted)-1])
		at := 0
		for at < len(sorted) && sorted[at].n == p.n {
			at++
		}
		if at == len(sorted) {
			return best, n
		}
		mid, _ := slices.BinarySearchFunc(sorted, p.half(true), pfx.compare)
		halves := [2][]pfx{sorted[at:max(at, mid)], sorted[max(at, mid):]}
		more := halves[0]
		if len(halves[1]) > len(more) {
			more = halves[1]
		}
		for i, h := range halves {
			if len(h) <= size && len(h) > n {
				best, n = p.half(i == 1), len(h)
			}
		}
		if len(more) <= n {
			return best, n
		}
		sorted = more
	}
	return best, n
}
