package spec

import (
	"fmt"
	"net/netip"

	"github.com/viarule/viarule/internal/netstate"
)

// checkShadows warns of rules that can never match, since an earlier one takes
// all that they select: its selectors are wider or the same, and it either ends
// the walk or looks into a table whose default route of these objects answers
// for every address. It finds not every such rule, but none that is not.
func (v *validator) checkShadows() {
	s := shadows{v: v, closers: map[[2]netip.Prefix][]candidate{}}
	if !s.collect() {
		return
	}
	for i := range v.objs {
		if p := v.objs[i].Policy; p != nil {
			for j := range p.Rules {
				if here := (place{&v.objs[i], -1, index(j)}); !v.same[here] {
					s.check(candidate{here, &p.Rules[j]})
				}
			}
		}
	}
}

// Bounds of the search, so that no input makes it quadratic: what lies beyond
// goes without a warning.
const (
	maxShadowGotos  = 64
	maxShadowSame   = 32        // closers with one pair of prefixes that are looked at
	maxShadowLooks  = 8_000_000 // look-ups in all
	maxShadowClosed = 1 << 20   // pairs that are held
)

type candidate struct {
	place
	rule *Rule
}

type shadows struct {
	v       *validator
	closers map[[2]netip.Prefix][]candidate // rules that end the walk for what they select
	lengths [2][][2]int                     // the lengths of their pairs of prefixes, by family
	gotos   []candidate
	looks   int
	held    int
}

func familyIndex(f netstate.Family) int {
	if f == netstate.IPv6 {
		return 1
	}
	return 0
}

// collect finds the rules that end the walk. It reports whether there may be
// shadows at all.
func (s *shadows) collect() bool {
	defaults := s.defaults()
	var known [2]map[[2]int]bool
	known[0], known[1] = map[[2]int]bool{}, map[[2]int]bool{}
	for i := range s.v.objs {
		p := s.v.objs[i].Policy
		if p == nil {
			continue
		}
		for j := range p.Rules {
			c := candidate{place{&s.v.objs[i], -1, index(j)}, &p.Rules[j]}
			if c.rule.Action == netstate.Goto {
				s.gotos = append(s.gotos, c)
			}
			for _, f := range netstate.Families {
				if !c.rule.forFamily(f) || !s.closes(c.rule, f, defaults) {
					continue
				}
				c.rule.pairsOf(f, func(from, to netip.Prefix) bool {
					l := [2]int{from.Bits(), to.Bits()}
					if n := familyIndex(f); !known[n][l] {
						known[n][l] = true
						s.lengths[n] = append(s.lengths[n], l)
					}
					k := [2]netip.Prefix{from, to}
					if len(s.closers[k]) < maxShadowSame {
						s.closers[k] = append(s.closers[k], c)
						s.held++
					}
					return s.held < maxShadowClosed
				})
			}
		}
	}
	return len(s.closers) > 0 && len(s.gotos) <= maxShadowGotos
}

type tableFamily struct {
	table  string
	family netstate.Family
}

// defaults are the tables in which these objects have a default route.
func (s *shadows) defaults() map[tableFamily]bool {
	found := map[tableFamily]bool{}
	for i := range s.v.objs {
		p := s.v.objs[i].Policy
		if p == nil {
			continue
		}
		for j := range p.Tables {
			routes := p.Tables[j].Routes
			for k := range routes {
				if r := &routes[k]; r.To.IsValid() && r.To.Bits() == 0 && r.Type != netstate.RouteThrow {
					found[tableFamily{p.Tables[j].Name, netstate.FamilyOf(r.To.Addr())}] = true
				}
			}
		}
	}
	return found
}

// closes says whether no packet of the family that r selects gets past it.
func (s *shadows) closes(r *Rule, f netstate.Family, defaults map[tableFamily]bool) bool {
	switch {
	case r.Not:
		return false
	case r.Action == netstate.Blackhole || r.Action == netstate.Unreachable || r.Action == netstate.Prohibit:
		return true
	case r.Action != netstate.ToTable || r.SuppressPrefixLength.Set || r.SuppressIfGroup.Set:
		return false
	}
	return defaults[tableFamily{s.v.tableKey(r.Table), f}]
}

// check warns where for every pair of prefixes of b, in every family of it, an
// earlier rule closes.
func (s *shadows) check(b candidate) {
	if b.rule.Not && b.rule.selects() {
		return // what it selects is everything but a part
	}
	var first candidate
	for _, f := range b.rule.Families() {
		covered := true
		b.rule.pairsOf(f, func(from, to netip.Prefix) bool {
			a, ok := s.find(b, f, from, to)
			if ok && first.rule == nil {
				first = a
			}
			covered = covered && ok
			return covered
		})
		if !covered {
			return
		}
	}
	if first.rule == nil {
		return
	}
	why := "ends the walk"
	if first.rule.Action == netstate.ToTable {
		why = fmt.Sprintf("sends them to the table %s, which has a default route", first.rule.Table)
	}
	s.v.warn(b.place, "", fmt.Sprintf("the rule can never match: the one in %s comes before it, selects all that it selects, and %s", first.seenFrom(b.obj), why), "put it first, or leave it out")
}

// find looks for a closer that comes before b and selects all of one pair.
func (s *shadows) find(b candidate, f netstate.Family, from, to netip.Prefix) (candidate, bool) {
	for _, l := range s.lengths[familyIndex(f)] {
		if l[0] > from.Bits() || l[1] > to.Bits() {
			continue
		}
		if s.looks++; s.looks > maxShadowLooks {
			return candidate{}, false
		}
		wide, _ := from.Addr().Prefix(l[0])
		wideTo, _ := to.Addr().Prefix(l[1])
		for _, a := range s.closers[[2]netip.Prefix{wide, wideTo}] {
			if a.rule != b.rule && wider(a.rule, b.rule) && s.before(a, b) && s.reached(a, f) {
				return a, true
			}
		}
	}
	return candidate{}, false
}

// wider says whether a selects by nothing but prefixes and what b selects by as
// narrowly, or more so.
func wider(a, b *Rule) bool {
	none := netstate.PortRange{}
	inPorts := func(a, b netstate.PortRange) bool { return a == none || b != none && a.Lo <= b.Lo && b.Hi <= a.Hi }
	switch {
	case a.IIF != "" && a.IIF != b.IIF, a.OIF != "" && a.OIF != b.OIF:
		return false
	case a.Mark.Mask&^b.Mark.Mask != 0 || a.Mark.Value != b.Mark.Value&a.Mark.Mask:
		return false
	case a.Proto != 0 && a.Proto != b.Proto, a.TOS != 0 && a.TOS != b.TOS, a.DSCP.Set && a.DSCP != b.DSCP:
		return false
	case a.UID.Set && (!b.UID.Set || b.UID.Lo < a.UID.Lo || b.UID.Hi > a.UID.Hi):
		return false
	}
	return inPorts(a.SPort, b.SPort) && inPorts(a.DPort, b.DPort)
}

// before says whether a certainly comes before b. Rules without a priority
// stand in the band, in written order, objects by their names; where the band
// is not known, they have no place beside rules with one.
func (s *shadows) before(a, b candidate) bool {
	first, last := s.v.known.First, s.v.known.Last
	pa, pb := a.rule.Priority, b.rule.Priority
	switch {
	case pa.Set && pb.Set && pa.Val != pb.Val:
		return pa.Val < pb.Val
	case pa.Set && !pb.Set:
		return last != 0 && pa.Val < first
	case !pa.Set && pb.Set:
		return last != 0 && pb.Val > last
	case a.obj == b.obj:
		return a.elem < b.elem
	case pa.Set:
		return false // two objects, one priority: nobody knows
	}
	return a.obj.Kind == b.obj.Kind && a.obj.Name < b.obj.Name
}

// reached says whether no goto may lead past a.
func (s *shadows) reached(a candidate, f netstate.Family) bool {
	for _, g := range s.gotos {
		if !g.rule.forFamily(f) || s.before(a, g) {
			continue
		}
		if !a.rule.Priority.Set || g.rule.Goto > a.rule.Priority.Val {
			return false
		}
	}
	return true
}
