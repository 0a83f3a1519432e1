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
	obj   *spec.Object
	index int // in the object
	spec  *spec.Rule
	// For each family: whether it has rules to a table, and whether anybody has
	// routes there.
	looksUp, filled [2]bool
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
	out     []Rule // what is to stand, sorted at the end
	listed  []Rule
	seen    map[selected]bool // what the rules so far select and do
	// from and to are the prefixes of the rule that is being expanded.
	from, to []netip.Prefix
}

// selected is a rule by what it selects and does, short enough to look for
// among thousands.
type selected struct {
	base     uint32 // number of what is the same for all prefixes
	from, to pfx
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
		set.out = sortedByPriority(set.out)
		set.listed = sortedByPriority(set.listed)
	}
	b.want.Rules = joined(sets[0].out, sets[1].out)
	b.want.Listed = joined(sets[0].listed, sets[1].listed)
	for _, set := range sets {
		set.checkForeign()
		set.checkGotos()
	}
}

// joined is a and then b; it may use a up.
func joined(a, b []Rule) []Rule {
	if len(a) == 0 {
		return b
	}
	return append(a, b...)
}

// familyIndex is the place of a family in netstate.Families.
func familyIndex(f netstate.Family) int { return slices.Index(netstate.Families[:], f) }

// sortedByPriority sorts stably. Rules are large, so each is moved but once.
func sortedByPriority(rules []Rule) []Rule {
	if slices.IsSortedFunc(rules, func(x, y Rule) int { return cmp.Compare(x.Priority, y.Priority) }) {
		return rules
	}
	order := make([]int32, len(rules))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortStableFunc(order, func(x, y int32) int { return cmp.Compare(rules[x].Priority, rules[y].Priority) })
	out := make([]Rule, len(rules))
	for to, from := range order {
		out[to] = rules[from]
	}
	return out
}

// expandRules makes a rule of each pair of prefixes.
func (b *builder) expandRules(sets [2]*ruleSet) {
	n := 0
	var auto [2]int
	for _, o := range b.objs {
		n += len(o.Policy.Rules)
		for i := range o.Policy.Rules {
			if r := &o.Policy.Rules[i]; !r.Priority.Set && len(r.From) > 0 {
				auto[familyIndex(netstate.FamilyOf(r.From[0].Addr()))&1] += len(r.From)
			}
		}
	}
	for i, set := range sets {
		set.auto = make([]rule, 0, auto[i])
		set.seen = make(map[selected]bool, auto[i])
	}
	all := make([]written, 0, n)
	bases := make(map[netstate.Rule]uint32)
	var last netstate.Rule
	number := uint32(0)
	for _, o := range b.objs {
		for i := range o.Policy.Rules {
			all = append(all, written{obj: o, index: i, spec: &o.Policy.Rules[i]})
			w := &all[len(all)-1]
			base, ok := b.baseRule(w)
			if !ok {
				continue
			}
			if base != last || number == 0 {
				if number, ok = bases[base]; !ok {
					number = uint32(len(bases) + 1)
					bases[base] = number
				}
				last = base
			}
			for i, set := range sets {
				set.expand(w, base, number)
				if w.looksUp[i] {
					w.filled[i] = b.hasRoute[tableKey{set.family, base.Table}]
				}
			}
		}
	}
	for _, set := range sets {
		slices.SortStableFunc(set.fixed, func(x, y rule) int { return cmp.Compare(x.Priority, y.Priority) })
		set.seen = nil
	}
	b.checkLinks(all)
	b.checkEmptyTables(all)
}

// baseRule is the wanted rule without family and prefixes.
func (b *builder) baseRule(w *written) (netstate.Rule, bool) {
	r := w.spec
	n := netstate.Rule{
		Priority: r.Priority.Val, Not: r.Not, IIF: r.IIF, OIF: r.OIF, Mark: r.Mark, Proto: r.Proto, SPort: r.SPort, DPort: r.DPort,
		TOS: r.TOS, DSCP: r.DSCP, UID: r.UID, Action: r.Action, Goto: r.Goto, Realms: r.Realms,
		SuppressPrefixLength: r.SuppressPrefixLength, SuppressIfGroup: r.SuppressIfGroup, Protocol: b.own.Protocol,
	}
	if r.Action == netstate.ToTable {
		id, known := b.lookupTable(r.Table)
		if !known {
			b.fail(w.key("table"), fmt.Sprintf("no table has the name %s", r.Table.Name),
				"name it under spec.tables, give its number, or use one of "+b.tableNames())
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

// key is the place of one key of the rule, or with "" that of the rule.
func (w *written) key(k string) part {
	p := part{w.obj, w.spec.Pos, fmt.Sprintf("spec.rules[%d]", w.index)}
	if k != "" {
		p.path += "." + k
	}
	return p
}

func (w *written) origin() Origin { return Origin{w.obj, w.spec.Pos} }

// expand adds w's rules of the family: each pair of its prefixes. A rule that
// is there already is left out, since the second could decide nothing.
func (s *ruleSet) expand(w *written, base netstate.Rule, number uint32) {
	from, okFrom := s.selectors(s.from[:0], w.spec.From)
	to, okTo := s.selectors(s.to[:0], w.spec.To)
	s.from, s.to = from, to
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
	base = netstate.CanonicalRule(base)
	w.looksUp[familyIndex(s.family)] = base.Action == netstate.ToTable
	for _, f := range from {
		for _, t := range to {
			key := selected{number, makePfx(f), makePfx(t)}
			if s.seen[key] {
				continue
			}
			s.seen[key] = true
			base.From, base.To = f, t
			if w.spec.Priority.Set {
				s.fixed = append(s.fixed, rule{base, w, false})
			} else {
				s.auto = append(s.auto, rule{base, w, true})
			}
		}
	}
}

// selectors appends the prefixes of the family to out, in canonical form: all
// addresses are the zero Prefix, as where the list is empty. ok is false where the
// list has only prefixes of the other family.
func (s *ruleSet) selectors(out, list []netip.Prefix) (_ []netip.Prefix, ok bool) {
	if len(list) == 0 {
		return append(out, netip.Prefix{}), true
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
	w := Rule{Rule: r.Rule, Origin: r.at.origin()}
	w.Priority = priority
	s.out = append(s.out, w)
	s.listed = append(s.listed, w)
}
