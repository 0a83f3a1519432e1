package plan

import (
	"cmp"
	"slices"

	"github.com/viarule/viarule/internal/desired"
	"github.com/viarule/viarule/internal/netstate"
)

// ruleDiff works out the writes to the rules of one family.
type ruleDiff struct {
	p       *Plan
	s       *stages
	have    []netstate.Rule // sorted by priority, as the kernel has them
	want    []desired.Rule  // sorted by priority
	spans   []span          // of the wanted trees, by priority
	listed  []desired.Rule  // as users wrote them
	groups  []*group        // those that change, by priority
	adopt   bool
	exact   bool // an undo: marks count, copies count
	mayDrop func(*netstate.Rule) bool
}

// run adds to the stages what leads from have to want.
func (d *ruleDiff) run() {
	d.walk()
	for i := range d.spans {
		d.checkSpan(&d.spans[i])
	}
	if len(d.groups) == 0 {
		return
	}
	for _, g := range d.groups {
		g.solve(d.report)
	}
	for i := range d.spans {
		d.planSpan(&d.spans[i])
	}
	d.planOldSpans()
	d.emit()
	d.p.edited = append(d.p.edited, d)
}

// walk finds the priorities at which something may have to change.
func (d *ruleDiff) walk() {
	have, want := d.have, d.want
	for len(have) > 0 || len(want) > 0 {
		var p uint32
		if len(have) > 0 && (len(want) == 0 || have[0].Priority <= want[0].Priority) {
			p = have[0].Priority
		} else {
			p = want[0].Priority
		}
		h, w := 0, 0
		for h < len(have) && have[h].Priority == p {
			h++
		}
		for w < len(want) && want[w].Priority == p {
			w++
		}
		if !d.unchanged(have[:h], want[:w]) {
			d.group(p, have[:h], want[:w])
		}
		have, want = have[h:], want[w:]
	}
}

// unchanged says whether our rules are the wanted ones in the wanted order, so
// that there is nothing to do or to say about the priority.
func (d *ruleDiff) unchanged(have []netstate.Rule, want []desired.Rule) bool {
	n := 0
	for i := range have {
		r := &have[i]
		switch {
		case n < len(want) && *r == want[n].Rule:
			n++
		case ours(r.Protocol) || d.adopt && len(want) > 0:
			return false
		}
	}
	return n == len(want)
}

func (d *ruleDiff) group(priority uint32, have []netstate.Rule, want []desired.Rule) {
	if reserved(priority) {
		d.reservedGroup(have, want)
		return
	}
	g := &group{priority: priority, exact: d.exact, cur: make([]entry, len(have)), want: make([]target, 0, len(want))}
	wanted := newRuleSet(len(want))
	for i := range want {
		if fresh := wanted.add(&want[i].Rule); fresh || d.exact {
			g.want = append(g.want, target{Rule: &want[i], pin: -1})
		}
	}
	for i := range have {
		e := &g.cur[i]
		e.rule = &have[i]
		switch {
		case !ours(e.rule.Protocol):
		case wanted.has(e.rule) || d.mayDrop(e.rule) || d.isGate(e.rule):
			e.kind = mine
		default:
			e.kind = kept
			d.p.Orphans = append(d.p.Orphans, Finding{Rule: e.rule, What: "no record says whose it is"})
		}
	}
	d.pin(g)
	d.groups = append(d.groups, g)
}

// pin finds the wanted rules that foreign ones provide, or that are to take the
// place of foreign ones. The latter are the last of their group, so that the
// order of those that stay can be kept, and an undo can put them back.
func (d *ruleDiff) pin(g *group) {
	last := true
	for x := len(g.cur) - 1; x >= 0; x-- {
		e := &g.cur[x]
		if e.kind != foreign {
			continue
		}
		t := g.provides(e.rule)
		switch {
		case t == nil:
			last = false
		case last && (d.exact || d.adopt && adoptable(e.rule.Protocol)):
			e.kind = taken
		default:
			last = false
			if d.exact || slices.ContainsFunc(g.cur, func(o entry) bool { return o.kind == mine && *o.rule == t.Rule.Rule }) {
				continue // it stands beside ours
			}
			t.pin = x
			if d.adopt && adoptable(e.rule.Protocol) {
				d.report(problem{want: t, with: e, what: "it cannot be taken over: another foreign rule of the same priority stands behind it"})
			}
		}
	}
	for i := range g.want {
		if t := &g.want[i]; t.pin >= 0 {
			r := g.cur[t.pin].rule
			d.p.Satisfied = append(d.p.Satisfied, Finding{Rule: r, Origin: t.Origin, What: "a rule of proto " + netstate.ProtocolName(r.Protocol) + " provides it"})
		}
	}
}

// provides returns the wanted rule that a foreign one provides. What an undo
// wants may itself be foreign: taken over before, it may be moved now.
func (g *group) provides(r *netstate.Rule) *target {
	for i := range g.want {
		t := &g.want[i]
		if g.exact && t.Rule.Rule == *r || !g.exact && sameRuleButMark(&t.Rule.Rule, r) {
			return t
		}
	}
	return nil
}

// reservedGroup speaks of what is wanted, or ours, at a priority of the kernel's
// own rules. Nothing is ever changed there.
func (d *ruleDiff) reservedGroup(have []netstate.Rule, want []desired.Rule) {
	const never = "rules of the priorities 0, 32766 and 32767 are never changed"
	if d.exact {
		return
	}
	for i := range want {
		w := &want[i]
		switch at := slices.IndexFunc(have, func(r netstate.Rule) bool { return sameRuleButMark(&r, &w.Rule) }); {
		case at < 0:
			d.p.Conflicts = append(d.p.Conflicts, Finding{Rule: &w.Rule, Origin: w.Origin, What: never})
		case !ours(have[at].Protocol):
			d.p.Satisfied = append(d.p.Satisfied, Finding{Rule: &have[at], Origin: w.Origin, What: "a rule of proto " + netstate.ProtocolName(have[at].Protocol) + " provides it"})
		}
	}
	for i := range have {
		if r := &have[i]; ours(r.Protocol) && !slices.ContainsFunc(want, func(w desired.Rule) bool { return w.Rule == *r }) {
			d.p.Orphans = append(d.p.Orphans, Finding{Rule: r, What: never})
		}
	}
}

// report puts what solve could not do into the plan.
func (d *ruleDiff) report(f problem) {
	switch {
	case d.exact:
		return // it stays as it is
	case f.want == nil:
		d.p.Orphans = append(d.p.Orphans, Finding{Rule: f.with.rule, What: f.what})
	default:
		d.p.Conflicts = append(d.p.Conflicts, Finding{Rule: f.with.rule, Origin: f.want.Origin, What: f.what})
	}
}

// at returns the rules of have at a priority.
func (d *ruleDiff) at(priority uint32) []netstate.Rule { return d.between(priority, priority) }

// between returns the rules of have at the priorities from lo to hi.
func (d *ruleDiff) between(lo, hi uint32) []netstate.Rule {
	compare := func(r netstate.Rule, p uint32) int { return cmp.Compare(r.Priority, p) }
	from, _ := slices.BinarySearchFunc(d.have, lo, compare)
	n, _ := slices.BinarySearchFunc(d.have[from:], hi, func(r netstate.Rule, p uint32) int {
		if r.Priority <= p {
			return -1
		}
		return 1
	})
	return d.have[from : from+n]
}

// sortRules gives the rules of each family sorted by priority, those of one
// priority in the order in which they stand. What the kernel or desired gives is
// sorted already and not copied.
func sortRules[T any](list []T, rule func(*T) *netstate.Rule) (v4, v6 []T) {
	compare := func(a, b T) int {
		x, y := rule(&a), rule(&b)
		return cmp.Or(cmp.Compare(x.Family, y.Family), cmp.Compare(x.Priority, y.Priority))
	}
	sorted := true
	for i := 1; sorted && i < len(list); i++ {
		x, y := rule(&list[i-1]), rule(&list[i])
		sorted = x.Family < y.Family || x.Family == y.Family && x.Priority <= y.Priority
	}
	if !sorted {
		list = slices.Clone(list)
		slices.SortStableFunc(list, compare)
	}
	family := func(f netstate.Family) []T {
		from := 0
		for from < len(list) && rule(&list[from]).Family < f {
			from++
		}
		to := from
		for to < len(list) && rule(&list[to]).Family == f {
			to++
		}
		return list[from:to]
	}
	return family(netstate.IPv4), family(netstate.IPv6)
}
