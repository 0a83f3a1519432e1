package desired

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/viarule/viarule/internal/netstate"
)

// place gives every rule of the family its priority, and compiles what can be.
func (s *ruleSet) place() {
	s.findTrees()
	s.placeAuto(s.placeFixed())
}

// placeFixed puts rules with a priority of their own where the user says. A long
// run among them becomes a tree within its own priorities, where these are enough
// and nobody else's rule stands between: behind the tree's jumps it would not be
// met. It returns the spans of these trees, and the ranges that the rules in them
// have by themselves.
//
// Rules that all have the same priority stay a list. The priorities behind it
// are not the user's to give away, and not viarule's band.
func (s *ruleSet) placeFixed() (trees, ranges []span) {
	// Where foreign rules stand, where gotos lead, and the kernel's own places.
	others := map[uint32]bool{0: true, 32766: true, 32767: true}
	for _, f := range s.foreign {
		others[f.Priority] = true
		if f.Action == netstate.Goto {
			others[f.Goto] = true
		}
	}
	for _, list := range [][]rule{s.fixed, s.auto} {
		for i := range list {
			if list[i].Action == netstate.Goto {
				others[list[i].Goto] = true
			}
		}
	}
	var breaks, standing []span
	for p := range others {
		breaks = append(breaks, span{p, p})
	}
	// A new tree stands beside what stands, so that it is whole before the old goes.
	for _, r := range s.ours {
		standing = append(standing, span{r.Priority, r.Priority})
	}
	for _, t := range s.trees {
		standing = append(standing, t.span)
	}
	taken := makeSpans(breaks)
	occupied := makeSpans(breaks, standing)
	rest := s.fixed
	var plain []rule
	for len(rest) > 0 {
		head, compiled, byTo := nextRun(rest)
		plain = append(plain, head...)
		rest = rest[len(head)+len(compiled):]
		for len(compiled) > 0 {
			// Cut where somebody else stands.
			at, blocked := taken.meets(span{compiled[0].Priority, compiled[len(compiled)-1].Priority})
			n := len(compiled)
			if blocked {
				n = slices.IndexFunc(compiled, func(r rule) bool { return r.Priority >= at.first })
			}
			part := compiled[:n]
			if t := s.fixedTree(part, byTo, plain, compiled[n:], rest, occupied); t != nil {
				trees = append(trees, t.span)
				ranges = append(ranges, span{part[0].Priority, part[len(part)-1].Priority})
				s.emitTree(t)
			} else {
				plain = append(plain, part...)
			}
			compiled = compiled[n:]
			for len(compiled) > 0 && blocked && compiled[0].Priority <= at.last {
				plain = append(plain, compiled[0])
				compiled = compiled[1:]
			}
		}
	}
	s.emitFixed(plain)
	return trees, ranges
}

// fixedTree makes a tree of rules with priorities of their own, or nothing.
func (s *ruleSet) fixedTree(rules []rule, byTo bool, before, after, rest []rule, occupied spans) *tree {
	if len(rules) < minRun {
		return nil
	}
	first, last := uint64(rules[0].Priority), uint64(rules[len(rules)-1].Priority)
	if n := len(before); n > 0 && uint64(before[n-1].Priority) == first {
		first++
	}
	for _, next := range [][]rule{after, rest} {
		if len(next) > 0 && uint64(next[0].Priority) == last {
			last--
		}
	}
	if last < first+leastSpan-1 {
		s.slowFixed(rules, "that is too few for a tree")
		return nil
	}
	within := span{uint32(first), uint32(last)}
	c := &candidate{run: newRun(s.family, rules, byTo), most: groupsIn(within)}
	s.adopt([]*candidate{c}, func(_ *candidate, t *standingTree) bool {
		return t.first >= within.first && t.last <= within.last
	})
	if c.stood != nil && !c.poor {
		return c.stood
	}
	if room, ok := occupied.widest(within); ok && room.last-room.first >= leastSpan-1 {
		c.most = groupsIn(room)
		if t := c.new(); t.size() <= room.last-room.first+1 {
			t.number(span{room.first, room.first + t.size() - 1})
			return t
		}
	}
	if c.stood == nil {
		s.slowFixed(rules, "there is no room between the rules that stand already")
	}
	return c.stood
}

// warnSlow tells of a run that stays a list and is long.
func (s *ruleSet) warnSlow(rules []rule, why, do string) {
	if len(rules) <= leafMost {
		return
	}
	s.b.warn(rules[0].at.key(""), fmt.Sprintf("every packet has to go through %d %s rules one by one: %s", len(rules), s.family, why), do)
}

// leastSpan is how many priorities the smallest tree has: gate, common, a group,
// end.
const leastSpan = 4

// groupsIn is how many groups of a tree there can be in a span.
func groupsIn(s span) int { return int(min(s.last-s.first-2, treeMost-3)) }

// slowFixed is warnSlow for rules with priorities of their own.
func (s *ruleSet) slowFixed(rules []rule, why string) {
	first, last := rules[0].Priority, rules[len(rules)-1].Priority
	which := fmt.Sprintf("they have the priorities %d to %d, and ", first, last)
	if first == last {
		which, why = fmt.Sprintf("they all have the priority %d, and ", first), "a tree needs several"
	}
	s.warnSlow(rules, which+why, "leave the priorities out, and viarule makes a tree of them that is as fast as a few rules")
}

// emitFixed adds plain rules with priorities of their own. Those of one priority
// keep the order that stands where it decides nothing.
func (s *ruleSet) emitFixed(rules []rule) {
	for len(rules) > 0 {
		n := 1
		for n < len(rules) && rules[n].Priority == rules[0].Priority {
			n++
		}
		for _, i := range s.keepStanding(rules[:n]) {
			s.emit(&rules[i], rules[i].Priority)
		}
		rules = rules[n:]
	}
}

// keepStanding orders rules of one priority: as they stand, what is new behind,
// and where two select some of the same packets, as they are written.
func (s *ruleSet) keepStanding(rules []rule) []int {
	order := make([]int, len(rules))
	for i := range order {
		order[i] = i
	}
	const most = 128 // the pairs of more are not worth looking at
	if len(rules) < 2 || len(rules) > most && !apart(rules) {
		return order
	}
	present := make(map[netstate.Rule]int)
	at, _ := slices.BinarySearchFunc(s.ours, rules[0].Priority, func(r standingRule, p uint32) int { return cmp.Compare(r.Priority, p) })
	for ; at < len(s.ours) && s.ours[at].Priority == rules[0].Priority; at++ {
		present[*s.ours[at].Rule] = at + 1
	}
	place := func(i int) int {
		if at := present[rules[i].Rule]; at > 0 {
			return at
		}
		return len(s.ours) + 1
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(place(a), place(b)) })
	if len(rules) > most || slices.IsSorted(order) {
		return order
	}
	sorted := make([]int, 0, len(order))
	for _, i := range keepOrder(len(order), func(i, j int) bool {
		return order[i] < order[j] && overlap(&rules[order[i]].Rule, &rules[order[j]].Rule)
	}) {
		sorted = append(sorted, order[i])
	}
	return sorted
}

// apart says whether the rules are a run of which no two select the same packets.
func apart(rules []rule) bool {
	for _, byTo := range []bool{false, true} {
		if runLength(rules, byTo) < len(rules) {
			continue
		}
		all := make([]pfx, len(rules))
		for i := range rules {
			all[i] = makePfx(*selector(&rules[i].Rule, byTo))
		}
		return disjoint(all)
	}
	return false
}
