package plan

import (
	"cmp"
	"slices"

	"github.com/viarule/viarule/internal/desired"
	"github.com/viarule/viarule/internal/netstate"
)

// span is the priorities of a goto tree, from its gate to the nop that ends it.
// While the gate (`from all goto END`) stands, packets go past all that lies
// between; so what changes there is of no consequence.
type span struct {
	family    netstate.Family
	gate, end uint32
	origin    desired.Origin
	rules     int  // of the user that it stands for
	keepGate  bool // an undo to a state in which the gate stood

	standing bool // the gate stands already
	closing  bool // keepGate, and the tree is in use: it ceases to count as an old one does
	gated    bool // the edits are made behind the gate
	blocked  bool // something foreign lies between: nothing is changed
	old      bool // nobody wants it any more
}

// gateRule is the rule that closes the span.
func (sp *span) gateRule() *netstate.Rule {
	return &netstate.Rule{Family: sp.family, Priority: sp.gate, Action: netstate.Goto, Goto: sp.end, Protocol: netstate.ProtocolObject}
}

// checkSpan gives the span its groups, and sees whether something else stands in
// it: gotos would lead past that. An undo only guesses at spans, by their shape;
// there such rules are as they were before, and the span is none.
func (d *ruleDiff) checkSpan(sp *span) {
	if sp.end-sp.gate > 1 {
		inside := d.between(sp.gate+1, sp.end-1)
		for i := range inside {
			r := &inside[i]
			if ours(r.Protocol) && !d.isKept(r) {
				continue
			}
			sp.blocked = true
			if d.exact {
				return
			}
			what := "it stands between the rules of a tree, which packets jump over"
			if ours(r.Protocol) {
				what += "; no record says whose it is, so only pruning removes it"
			}
			d.p.Conflicts = append(d.p.Conflicts, Finding{Rule: r, Origin: sp.origin, What: what})
		}
	}
	for _, g := range d.within(sp.gate, sp.end) {
		g.span = sp
	}
}

// isKept says whether r, a rule of d.have, is ours by mark and stays whatever is wanted.
func (d *ruleDiff) isKept(r *netstate.Rule) bool {
	i, found := slices.BinarySearchFunc(d.groups, r.Priority, comparePriority)
	if !found {
		return false
	}
	for _, e := range d.groups[i].cur {
		if e.rule == r {
			return e.kind == kept
		}
	}
	return false
}

// within returns the changing groups of the priorities from lo to hi.
func (d *ruleDiff) within(lo, hi uint32) []*group {
	from, _ := slices.BinarySearchFunc(d.groups, lo, comparePriority)
	to, found := slices.BinarySearchFunc(d.groups, hi, comparePriority)
	if found {
		to++
	}
	return d.groups[from:max(from, to)]
}

func comparePriority(g *group, p uint32) int {
	switch {
	case g.priority < p:
		return -1
	case g.priority > p:
		return 1
	}
	return 0
}

// changing returns the changing group of a priority, or nil.
func (d *ruleDiff) changing(p uint32) *group {
	if gs := d.within(p, p); len(gs) > 0 {
		return gs[0]
	}
	return nil
}

// isGate says whether an unwanted rule that no record knows is the gate of a
// tree: of a wanted one, or of one whose end stands and is accounted for. Gates
// come and go within one run, so records do not hold them.
func (d *ruleDiff) isGate(r *netstate.Rule) bool {
	if !bareGoto(r) {
		return false
	}
	if slices.ContainsFunc(d.spans, func(sp span) bool { return sp.gate == r.Priority }) {
		return true
	}
	ends := d.at(r.Goto)
	return slices.ContainsFunc(ends, func(e netstate.Rule) bool {
		return ours(e.Protocol) && bareNop(&e) && (d.mayDrop(&e) || slices.ContainsFunc(d.want, func(w desired.Rule) bool { return w.Rule == e }))
	})
}

// planSpan decides how the groups of a wanted tree are changed: behind the gate
// where packets go past the tree anyway, else in place, which needs no gate and
// leaves no gap. Only where that cannot be done does the gate close a tree that
// is in use; desired chooses a new span for such changes.
func (d *ruleDiff) planSpan(sp *span) {
	groups := d.within(sp.gate, sp.end)
	changes := false
	others := false // at the gate's priority: a message for the gate might hit one of them
	for _, g := range groups {
		changes = changes || len(g.adds) > 0 || len(g.dels) > 0
	}
	at := d.at(sp.gate)
	for i := range at {
		switch r := &at[i]; {
		case !ours(r.Protocol):
		case !bareGoto(r):
			others = true
		case r.Goto == sp.end:
			sp.standing = true
		}
	}
	if !changes || sp.blocked {
		return
	}
	used := slices.ContainsFunc(d.between(sp.gate, sp.end-1), func(r netstate.Rule) bool { return ours(r.Protocol) })
	if sp.keepGate {
		sp.gated, sp.closing = true, used && !sp.standing
		return
	}
	if others || reserved(sp.gate) {
		sp.standing = false
		return
	}
	sp.gated = sp.standing || !used || !d.inPlace(sp, groups)
}

// inPlace says whether a tree that is in use can be changed group by group: new
// rules downward, then old ones upward. Each group by itself shows every packet
// its old or its new decision. A packet that comes through several groups must
// not meet the new decision of one and the old of the next where they are made
// for each other, so gotos may only begin to lead to groups that no packet comes
// to yet, and cease to lead to groups that go as a whole.
func (d *ruleDiff) inPlace(sp *span, groups []*group) bool {
	seen := d.seen(sp)
	left := make(map[uint32]bool) // where gotos lead that go
	for _, g := range groups {
		g.hidden = !seen[g.priority] && g.priority != sp.end
		for _, x := range g.dels {
			if r := g.cur[x].rule; r.Action == netstate.Goto && !g.wants(r) {
				left[r.Goto] = true
			}
		}
	}
	for _, g := range groups {
		if g.priority == sp.end || len(g.want) == 0 && (g.hidden || left[g.priority]) {
			continue // when its turn comes, nothing leads to it
		}
		if !g.closed() || !g.hidden && !g.safe {
			return false
		}
		for _, t := range g.adds {
			if t.Action != netstate.Goto || t.Goto == sp.end || g.stands(&t.Rule.Rule) {
				continue
			}
			if seen[t.Goto] && !(g.hidden && d.changing(t.Goto) == nil) {
				return false
			}
		}
		if g.hidden {
			continue
		}
		for _, x := range g.dels {
			r := g.cur[x].rule
			if r.Action != netstate.Goto || r.Goto == sp.end || g.wants(r) {
				continue
			}
			if to := d.changing(r.Goto); to == nil || len(to.want) > 0 {
				return false
			}
		}
	}
	return true
}

// ends says whether r sends all that comes to it in a group on to the end of the
// tree. It may name the prefix that all these packets are from.
func (sp *span) ends(r *netstate.Rule) bool {
	return r.Action == netstate.Goto && r.Goto == sp.end && !r.Not
}

// seen gives the priorities of the groups that packets come to, as the tree
// stands: the first, those behind one that lets packets through, and those that
// gotos lead to. What stands behind the end of a group nobody comes to.
func (d *ruleDiff) seen(sp *span) map[uint32]bool {
	seen := make(map[uint32]bool)
	rules := d.between(sp.gate+1, sp.end-1)
	through := true
	for i := 0; i < len(rules); {
		p := rules[i].Priority
		seen[p] = seen[p] || through
		ended := false
		for ; i < len(rules) && rules[i].Priority == p; i++ {
			ended = ended || sp.ends(&rules[i])
			if seen[p] && !ended && rules[i].Action == netstate.Goto {
				seen[rules[i].Goto] = true
			}
		}
		if seen[p] {
			through = !ended
		}
	}
	return seen
}

// closed says whether packets leave the group for the end of the tree, before
// and after, so that what is appended is not seen too early and the next group
// not at all. The group that turns away what is outside of the whole tree is
// excepted: what it lets through goes on.
func (g *group) closed() bool {
	var before, after []*netstate.Rule
	for i := range g.cur {
		if g.cur[i].kind == mine && !g.hidden {
			before = append(before, g.cur[i].rule)
		}
	}
	for i := range g.want {
		after = append(after, &g.want[i].Rule.Rule)
	}
	for _, rules := range [...][]*netstate.Rule{before, after} {
		if !slices.ContainsFunc(rules, g.span.ends) &&
			slices.ContainsFunc(rules, func(r *netstate.Rule) bool { return !r.Not || r.Goto != g.span.end }) {
			return false
		}
	}
	return true
}

// stands says whether an equal rule of ours stands in the group.
func (g *group) stands(r *netstate.Rule) bool {
	return slices.ContainsFunc(g.cur, func(e entry) bool { return e.kind != foreign && *e.rule == *r })
}

// wants says whether an equal rule is wanted in the group.
func (g *group) wants(r *netstate.Rule) bool {
	return slices.ContainsFunc(g.want, func(t target) bool { return t.Rule.Rule == *r })
}

// planOldSpans finds the trees of which nothing is wanted any more, by their
// shape: a nop, and gotos to it. All of such a tree goes at one moment, by a gate
// before it.
func (d *ruleDiff) planOldSpans() {
	var going []*netstate.Rule
	for _, g := range d.groups {
		if g.span == nil {
			for _, x := range g.dels {
				going = append(going, g.cur[x].rule)
			}
		}
	}
	for _, sp := range shapes(d.withEnds(going)) {
		if d.gateOld(&sp) {
			for _, g := range d.within(sp.gate, sp.end) {
				g.span = &sp
				if len(g.dels) == len(g.cur) {
					slices.Sort(g.dels) // behind the gate; each is the first when its turn comes
				}
			}
		}
	}
}

// withEnds adds to the rules that go the nops that their gotos lead to and that
// stay; an undo of a tree of which only the end stood leaves that.
func (d *ruleDiff) withEnds(going []*netstate.Rule) []*netstate.Rule {
	seen := make(map[uint32]bool)
	for _, r := range going {
		if r.Action == netstate.Nop {
			seen[r.Priority] = true
		}
	}
	all := slices.Clone(going)
	for _, r := range going {
		if r.Action != netstate.Goto || seen[r.Goto] {
			continue
		}
		seen[r.Goto] = true
		at := d.at(r.Goto)
		for i := range at {
			if ours(at[i].Protocol) && bareNop(&at[i]) {
				all = append(all, &at[i])
				break
			}
		}
	}
	slices.SortStableFunc(all, func(a, b *netstate.Rule) int { return cmp.Compare(a.Priority, b.Priority) })
	return all
}

// gateOld works out where the gate of an old tree stands or can be put. It gives
// false where there can be none, or where none is needed.
func (d *ruleDiff) gateOld(sp *span) bool {
	inside := 0
	for _, g := range d.within(sp.gate+1, sp.end) {
		if len(g.adds) > 0 || g.span != nil {
			return false
		}
		if g.priority < sp.end {
			inside += len(g.dels)
		}
	}
	// Whatever else stands between would be jumped over.
	if len(d.between(sp.gate+1, sp.end-1)) != inside || inside < 2 && !sp.keepGate {
		return false
	}
	sp.old, sp.gated = true, true
	if g := d.changing(sp.gate); sp.keepGate {
		sp.standing = true
		return g != nil && len(g.dels) == 1 && g.span == nil
	} else if g != nil && len(g.adds) > 0 {
		return false
	}
	return !reserved(sp.gate) && !slices.ContainsFunc(d.at(sp.gate), func(r netstate.Rule) bool { return ours(r.Protocol) })
}

// shapes finds the trees among rules of ours, which are sorted by priority: each
// nop that gotos lead to, with the first of those gotos. Where that one is alone
// and takes every packet it is the gate, and keepGate is set.
func shapes(rules []*netstate.Rule) []span {
	first := make(map[uint32]int) // target → index of the first goto to it
	var spans []span
	for i, r := range rules {
		switch {
		case r.Action == netstate.Goto:
			if _, ok := first[r.Goto]; !ok {
				first[r.Goto] = i
			}
		case bareNop(r):
			at, ok := first[r.Priority]
			if !ok {
				continue
			}
			lo := rules[at]
			alone := (at == 0 || rules[at-1].Priority != lo.Priority) && rules[at+1].Priority != lo.Priority
			sp := span{family: r.Family, gate: lo.Priority - 1, end: r.Priority}
			if alone && bareGoto(lo) {
				sp.gate, sp.keepGate = lo.Priority, true
			}
			if lo.Priority > 0 && (len(spans) == 0 || spans[len(spans)-1].end < sp.gate) {
				spans = append(spans, sp)
			}
			delete(first, r.Priority)
		}
	}
	return spans
}
