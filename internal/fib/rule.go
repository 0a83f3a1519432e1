package fib

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/viarule/viarule/internal/netstate"
)

// rule is a rule as the walk reads it: what most rules fail by comes first, and
// nothing has to be looked up by a name or a number.
type rule struct {
	from, fromMask key
	has            selectors
	action         netstate.Action
	target         int32 // of a goto: the place in the list; -1: no rule behind has the priority
	*netstate.Rule
	table    *table // nil: an l3mdev rule, or a table without routes
	iif, oif *link
	to       key
	toMask   key
}

// selectors says what a rule has besides from, which each one has: the one of a
// rule without it holds all addresses.
type selectors uint16

// In the order in which the kernel looks at them; from comes after hasUID.
const (
	hasIIF selectors = 1 << iota
	hasOIF
	hasMark
	hasTunID
	hasL3MDev
	hasUID
	hasTo
	needsFrom // an IPv6 rule with from: no packet without a source fits
	hasDSCP
	hasTOS
	hasProto
	hasSPort
	hasDPort
	isNot
	suppresses // some of the routes that its table gives
	isUnknown  // it has attributes that viarule does not know

	beforeFrom = hasIIF | hasOIF | hasMark | hasTunID | hasL3MDev | hasUID
	behindFrom = hasTo | needsFrom | hasDSCP | hasTOS | hasProto | hasSPort | hasDPort
)

func (f *FIB) addRules() {
	var sorted [2][]*netstate.Rule
	for i := range f.state.Rules {
		r := &f.state.Rules[i]
		x := familyIndex(r.Family)
		sorted[x] = append(sorted[x], r)
	}
	for x, family := range netstate.Families {
		// A state read from text need not be in order, and goto relies on it.
		slices.SortStableFunc(sorted[x], func(a, b *netstate.Rule) int { return cmp.Compare(a.Priority, b.Priority) })
		f.rules[x] = make([]rule, len(sorted[x]))
		for i, r := range sorted[x] {
			f.rules[x][i] = f.newRule(r, family)
			if r.Action == netstate.Goto {
				f.rules[x][i].target = target(sorted[x], i, r.Goto)
			}
		}
	}
}

// target finds the first rule of a priority behind rule i, -1 where there is none.
func target(rules []*netstate.Rule, i int, prio uint32) int32 {
	n, found := slices.BinarySearchFunc(rules, prio, func(r *netstate.Rule, p uint32) int { return cmp.Compare(r.Priority, p) })
	if !found || n <= i {
		return -1
	}
	return int32(n)
}

func (f *FIB) newRule(r *netstate.Rule, family netstate.Family) rule {
	c := rule{Rule: r, action: r.Action}
	c.from, c.fromMask = selected(r.From, family)
	c.to, c.toMask = selected(r.To, family)
	for _, s := range [...]struct {
		sel selectors
		set bool
	}{
		{hasIIF, r.IIF != ""},
		{hasOIF, r.OIF != ""},
		{hasMark, r.Mark.Mask != 0},
		{hasTunID, r.TunID != 0},
		{hasL3MDev, r.L3MDev},
		{hasUID, r.UID.Set},
		{hasTo, r.To.IsValid()},
		{needsFrom, family == netstate.IPv6 && r.From.IsValid()},
		{hasDSCP, r.DSCP.Set},
		{hasTOS, r.TOS != 0},
		{hasProto, r.Proto != 0},
		{hasSPort, r.SPort != netstate.PortRange{}},
		{hasDPort, r.DPort != netstate.PortRange{}},
		{isNot, r.Not},
		{suppresses, r.SuppressPrefixLength.Set || r.SuppressIfGroup.Set},
		{isUnknown, r.Unknown != ""},
	} {
		if s.set {
			c.has |= s.sel
		}
	}
	if r.IIF != "" {
		c.iif = f.link(r.IIF)
	}
	if r.OIF != "" {
		c.oif = f.link(r.OIF)
	}
	if r.Action == netstate.ToTable && !r.L3MDev {
		c.table = f.tables[tableID{family, r.Table}]
	}
	return c
}

// selected gives address and mask of a selector: of the zero Prefix, those that
// hold all addresses, and of one that is not of the family, those that hold none.
func selected(p netip.Prefix, family netstate.Family) (start, mask key) {
	switch {
	case !p.IsValid():
		return key{}, key{}
	case netstate.FamilyOf(p.Addr()) != family:
		return key{hi: 1}, key{}
	}
	mask = maskOf(p.Bits())
	return keyOf(p.Addr()).and(mask), mask
}

// Rules gives the rules of a family in the order in which the kernel tries them. They
// lead into the state, and must not be written through.
func (f *FIB) Rules(family netstate.Family) []*netstate.Rule {
	rules := f.rules[familyIndex(family)]
	out := make([]*netstate.Rule, len(rules))
	for i := range rules {
		out[i] = rules[i].Rule
	}
	return out
}
