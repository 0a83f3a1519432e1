package desired

import "slices"

// orderNew is the order of a group that does not stand: splits, then rules.
func (g *group) orderNew() {
	g.entries = make([]entry, 0, len(g.splits)+len(g.rules))
	for _, s := range g.splits {
		g.entries = append(g.entries, entry{to: s.to, pfx: s.pfx})
	}
	for _, r := range g.rules {
		g.entries = append(g.entries, entry{rule: r})
	}
}

// order keeps the order that stands and puts what is new behind, so that the
// kernel has to be told only of the new. Where the prefixes of two entries
// overlap, the order of the run decides.
func (t *tree) order(g *group) {
	if g.stood == nil {
		g.orderNew()
		return
	}
	g.entries = g.entries[:0]
	rules := make(map[int32]bool, len(g.rules))
	for _, r := range g.rules {
		rules[r] = true
	}
	splits := make(map[*group]bool, len(g.splits))
	for _, s := range g.splits {
		splits[s.to] = true
	}
	for _, e := range g.stood {
		switch {
		case e.to != nil && splits[e.to]:
			delete(splits, e.to)
		case e.to == nil && e.rule >= 0 && rules[e.rule]:
			delete(rules, e.rule)
		default:
			continue
		}
		g.entries = append(g.entries, e)
	}
	for _, r := range g.rules {
		if rules[r] {
			g.entries = append(g.entries, entry{rule: r})
		}
	}
	for _, s := range g.splits {
		if splits[s.to] {
			g.entries = append(g.entries, entry{to: s.to, pfx: s.pfx})
		}
	}
	t.mend(g)
}

// mend moves entries behind others where the order counts, and as few as it can.
func (t *tree) mend(g *group) {
	if t.apart(g) {
		return
	}
	if len(g.entries) > 1024 {
		g.orderNew() // the pairs are too many to look at
		return
	}
	first := make([]int32, len(g.entries)) // of a split: its first rule in the run's order
	for i := range g.entries {
		if e := &g.entries[i]; e.to != nil {
			first[i] = t.firstWithin(e.to, e.pfx)
		}
	}
	// before says whether entry i must stand before entry j.
	before := func(i, j int) bool {
		a, b := &g.entries[i], &g.entries[j]
		switch {
		case a.to == nil && b.to == nil:
			return a.rule < b.rule && t.pfx[a.rule].overlaps(t.pfx[b.rule])
		case a.to != nil && b.to != nil:
			return a.pfx != b.pfx && b.pfx.covers(a.pfx)
		case a.to != nil:
			// Packets of the split that met the rule here would meet it before
			// rules that come first in the run. The group that the split leads
			// to has the rule as well.
			return t.pfx[b.rule].covers(a.pfx) && first[i] >= 0 && first[i] < b.rule
		}
		return false
	}
	order := keepOrder(len(g.entries), before)
	sorted := make([]entry, len(order))
	for to, from := range order {
		sorted[to] = g.entries[from]
	}
	g.entries = sorted
}

// firstWithin is the first rule of the run in g and below that lies within p, or
// -1.
func (t *tree) firstWithin(g *group, p pfx) int32 {
	first := int32(-1)
	g.each(func(g *group) {
		for _, r := range g.rules {
			if p.covers(t.pfx[r]) {
				if first < 0 || r < first {
					first = r
				}
				return // they are in the run's order
			}
		}
	})
	return first
}

// apart says whether no two rules of the group overlap, and none covers a split:
// then any order will do.
func (t *tree) apart(g *group) bool {
	all := make([]pfx, 0, len(g.entries))
	for _, e := range g.entries {
		if e.to == nil {
			all = append(all, t.pfx[e.rule])
		}
	}
	if !disjoint(all) {
		return false
	}
	splits := make([]pfx, 0, 8)
	for _, e := range g.entries {
		if e.to == nil {
			continue
		}
		if slices.ContainsFunc(splits, func(s pfx) bool { return s.covers(e.pfx) }) {
			return false // an outer one would stand before an inner one
		}
		splits = append(splits, e.pfx)
		// A rule that covers the split sorts right before it, or is covered by
		// nothing else that does: rules are apart.
		i, found := slices.BinarySearchFunc(all, e.pfx, pfx.compare)
		if found || i > 0 && all[i-1].covers(e.pfx) {
			return false
		}
	}
	return true
}

// disjoint sorts the prefixes, and says whether no two of them overlap: a prefix
// sorts right before what it covers.
func disjoint(all []pfx) bool {
	slices.SortFunc(all, pfx.compare)
	for i := 1; i < len(all); i++ {
		if all[i-1].covers(all[i]) {
			return false
		}
	}
	return true
}

// keepOrder returns the order of n things that differs least from the present
// one (0, 1, …): each thing stays where it is unless it must stand behind a
// later one; then it goes right behind that. before must have no cycle.
func keepOrder(n int, before func(i, j int) bool) []int {
	waits := make([]int, n)
	for j := range n {
		for i := range n {
			if i != j && before(i, j) {
				waits[j]++
			}
		}
	}
	out := make([]int, 0, n)
	done := make([]bool, n)
	for len(out) < n {
		next := -1
		for i := range n {
			if !done[i] && waits[i] == 0 {
				next = i
				break
			}
		}
		if next < 0 {
			// Cannot be without a cycle; rather a wrong order of these than none.
			next = slices.Index(done, false)
		}
		done[next] = true
		out = append(out, next)
		for j := range n {
			if !done[j] && before(next, j) {
				waits[j]--
			}
		}
	}
	return out
}
