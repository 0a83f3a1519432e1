package desired

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/owner"
	"github.com/viarule/viarule/internal/spec"
)

// rule is a wanted rule of one family before it has its place. Priority is 0 in
// the content of those that get one from the band.
type rule struct {
	netstate.Rule
	at   *written
	auto bool
}

// written is a rule of an object; lists make several wanted rules of it.
type written struct {
	part
	spec *spec.Rule
}

// standingRule is a rule of the state, with its place in the kernel's order.
type standingRule struct {
	*netstate.Rule
	index int
}

// ruleSet is all that concerns the rules of one family.
type ruleSet struct {
	b       *builder
	family  netstate.Family
	fixed   []rule         // with a priority of the user, in decision order
	auto    []rule         // without, in decision order
	foreign []standingRule // never touched; in the kernel's order
	ours    []standingRule // may be changed; in the kernel's order
	trees   []*standingTree
	out     []Rule // what is to stand, not yet sorted
	listed  []Rule
}

// buildRules expands, places and compiles the rules of both families.
func (b *builder) buildRules() {
	sets := [2]*ruleSet{{b: b, family: netstate.IPv4}, {b: b, family: netstate.IPv6}}
	s := &b.facts.State
	for i := range s.Rules {
		set := sets[0]
		if s.Rules[i].Family == netstate.IPv6 {
			set = sets[1]
		}
		r := standingRule{&s.Rules[i], i}
		if b.own.Rule(&s.Rules[i]) == owner.Ours {
			set.ours = append(set.ours, r)
		} else {
			set.foreign = append(set.foreign, r)
		}
	}
	b.expandRules(sets)
	for _, set := range sets {
		set.place()
		slices.SortStableFunc(set.out, byPriority)
		slices.SortStableFunc(set.listed, byPriority)
		b.want.Rules = append(b.want.Rules, set.out...)
		b.want.Listed = append(b.want.Listed, set.listed...)
	}
	for _, set := range sets {
		set.checkForeign()
		set.checkGotos()
	}
	b.checkEmptyTables(sets)
}

func byPriority(x, y Rule) int { return cmp.Compare(x.Priority, y.Priority) }

// expandRules makes a rule of each pair of prefixes.
func (b *builder) expandRules(sets [2]*ruleSet) {
	n := 0
	for _, o := range b.objs {
		for i := range o.Policy.Rules {
			r := &o.Policy.Rules[i]
			n += max(len(r.From), 1) * max(len(r.To), 1)
		}
	}
	seen := make(map[netstate.Rule]bool, n)
	for _, o := range b.objs {
		for i := range o.Policy.Rules {
			w := &written{part{o, o.Policy.Rules[i].Pos, fmt.Sprintf("spec.rules[%d]", i)}, &o.Policy.Rules[i]}
			base, ok := b.baseRule(w)
			if !ok {
				continue
			}
			for _, set := range sets {
				set.expand(w, base, seen)
			}
		}
	}
	for _, set := range sets {
		slices.SortStableFunc(set.fixed, func(x, y rule) int { return cmp.Compare(x.Priority, y.Priority) })
	}
}

// baseRule is the wanted rule without family and prefixes.
func (b *builder) baseRule(w *written) (netstate.Rule, bool) {
	r := w.spec
	n := netstate.Rule{
		Priority: r.Priority.Val, Not: r.Not, IIF: r.IIF, OIF: r.OIF, Mark: r.Mark, Proto: r.Proto, SPort: r.SPort, DPort: r.DPort,
		TOS: r.TOS, DSCP: r.DSCP, UID: r.UID, Action: r.Action, Goto: r.Goto, Realms: r.Realms,
		SuppressPrefixLength: r.SuppressPrefixLength, SuppressIfGroup: r.SuppressIfGroup, Protocol: b.own.Protocol,
	}
	if n.Mark.Value != 0 && n.Mark.Mask == 0 {
		n.Mark.Mask = 0xffffffff
	}
	if r.Action == netstate.ToTable {
		id, known := b.lookupTable(r.Table)
		if !known {
			b.fail(w.key("table"), fmt.Sprintf("no table has the name %s", r.Table.Name),
				"name it under spec.tables, give its number, or use one of "+some(b.tableNames()))
		}
		if id == 0 {
			return n, false
		}
		n.Table = id
	}
	if !r.Priority.Set {
		return n, true
	}
	if owner.ProtectedPriority(n.Priority) {
		b.fail(w.key("priority"), fmt.Sprintf("priority %d is the kernel's own", n.Priority), "use one from 1 to 32765, or leave it out")
		return n, false
	}
	if f := b.facts.Neighbours.Priority(n.Priority); len(f) > 0 {
		b.fail(w.key("priority"), fmt.Sprintf("priority %d belongs to %s, which runs on this host", n.Priority, f[0].Neighbour.Name), "use another one, or leave it out")
		return n, false
	}
	return n, true
}

// key is the place of one key of the rule.
func (w *written) key(k string) part {
	p := w.part
	p.path += "." + k
	return p
}

// expand adds w's rules of the family: each pair of its prefixes. A rule that
// is there already is left out, since the second could decide nothing.
func (s *ruleSet) expand(w *written, base netstate.Rule, seen map[netstate.Rule]bool) {
	from, okFrom := s.selectors(w.spec.From)
	to, okTo := s.selectors(w.spec.To)
	switch {
	case w.spec.Family != 0 && w.spec.Family != s.family,
		!okFrom && (!okTo || len(w.spec.To) == 0),
		!okTo && len(w.spec.From) == 0:
		return
	case !okFrom || !okTo:
		// One list has the family and the other does not. Half a selector
		// would catch packets that nobody meant.
		k, other := "from", "to"
		if okTo {
			k, other = other, k
		}
		s.b.fail(w.key(k), fmt.Sprintf("there are %s prefixes here and none in %s", s.family, other), "give both the same families, or make two rules of it")
		return
	}
	base.Family = s.family
	for _, f := range from {
		for _, t := range to {
			base.From, base.To = f, t
			if seen[base] {
				continue
			}
			seen[base] = true
			if w.spec.Priority.Set {
				s.fixed = append(s.fixed, rule{base, w, false})
			} else {
				s.auto = append(s.auto, rule{base, w, true})
			}
		}
	}
}

// selectors are the prefixes of the family, in canonical form: all addresses are
// the zero Prefix, as where the list is empty. ok is false where the list has
// only prefixes of the other family.
func (s *ruleSet) selectors(list []netip.Prefix) (out []netip.Prefix, ok bool) {
	if len(list) == 0 {
		return []netip.Prefix{{}}, true
	}
	for _, p := range list {
		if netstate.FamilyOf(p.Addr()) != s.family {
			continue
		}
		if p.Bits() == 0 {
			p = netip.Prefix{}
		}
		out = append(out, p)
	}
	return out, len(out) > 0
}

// emit adds a rule as the user wrote it, at a priority.
func (s *ruleSet) emit(r *rule, priority uint32) {
	n := r.Rule
	n.Priority = priority
	w := Rule{Rule: n, Origin: r.at.origin()}
	s.out = append(s.out, w)
	s.listed = append(s.listed, w)
}
