package owner

import (
	"iter"
	"slices"
	"strings"

	"github.com/viarule/viarule/internal/netstate"
)

// Finding is a neighbour that is on this host now, and the rules and routes by
// which it was known.
type Finding struct {
	Neighbour *Neighbour // never nil, must not be changed
	Rules     []netstate.Rule
	Routes    []netstate.Route // the first one, as a specimen, where there are more
	Chain     netstate.NftName // a chain of it, as a specimen
}

// Findings are the neighbours on one host, in the order of Neighbours.
type Findings []Finding

// Neighbours yields all that is known, whether on this host or not.
func Neighbours() iter.Seq[*Neighbour] {
	return func(yield func(*Neighbour) bool) {
		for i := range neighbours {
			if !yield(&neighbours[i]) {
				return
			}
		}
	}
}

// HoldsPriority says whether the neighbour puts rules at the priority.
func (n *Neighbour) HoldsPriority(prio uint32) bool { return holds(n.Priorities, prio) }

// HoldsTable says whether the neighbour uses the table.
func (n *Neighbour) HoldsTable(id uint32) bool { return holds(n.Tables, id) }

// HoldsMark says whether the neighbour uses any bit of the mask.
func (n *Neighbour) HoldsMark(mask uint32) bool { return n.Marks&mask != 0 }

func holds(bands []Band, n uint32) bool {
	return slices.ContainsFunc(bands, func(b Band) bool { return b.Contains(n) })
}

// PriorityHolders returns all neighbours that may put rules at the priority,
// whether they are on this host or not.
func PriorityHolders(prio uint32) []*Neighbour {
	return filter(func(n *Neighbour) bool { return n.HoldsPriority(prio) })
}

// TableHolders returns all neighbours that may use the table.
func TableHolders(id uint32) []*Neighbour {
	return filter(func(n *Neighbour) bool { return n.HoldsTable(id) })
}

// MarkHolders returns all neighbours that may use a bit of the mask.
func MarkHolders(mask uint32) []*Neighbour {
	return filter(func(n *Neighbour) bool { return n.HoldsMark(mask) })
}

func filter(keep func(*Neighbour) bool) []*Neighbour {
	var out []*Neighbour
	for n := range Neighbours() {
		if keep(n) {
			out = append(out, n)
		}
	}
	return out
}

// Priority returns the neighbours on this host that put rules at the priority:
// a rule of ours there would be a collision.
func (f Findings) Priority(prio uint32) Findings {
	return f.keep(func(n *Neighbour) bool { return n.HoldsPriority(prio) })
}

// Table returns the neighbours on this host that use the table.
func (f Findings) Table(id uint32) Findings {
	return f.keep(func(n *Neighbour) bool { return n.HoldsTable(id) })
}

// Mark returns the neighbours on this host that use a bit of the mask.
func (f Findings) Mark(mask uint32) Findings {
	return f.keep(func(n *Neighbour) bool { return n.HoldsMark(mask) })
}

func (f Findings) keep(keep func(*Neighbour) bool) Findings {
	var out Findings
	for i := range f {
		if keep(f[i].Neighbour) {
			out = append(out, f[i])
		}
	}
	return out
}

// MatchState returns the neighbours that are on this host now, by the shapes of
// their rules and routes. Objects that carry one of viarule's own protocols are
// passed over. A neighbour without a shape of its own, or which has made
// nothing yet, is not found.
func MatchState(s *netstate.State) Findings { return Match(s, &netstate.Surroundings{}) }

// Match is MatchState, with a look at the names of nftables chains as well, by
// which programs that have no rules are known.
func Match(s *netstate.State, around *netstate.Surroundings) Findings {
	var out Findings
	for n := range Neighbours() {
		f, ok := match(n, s)
		if i := slices.IndexFunc(around.Chains, n.hasChain); i >= 0 {
			f.Chain, ok = around.Chains[i], true
		}
		if ok {
			out = append(out, f)
		}
	}
	return out
}

// hasChain says whether a chain bears a name that only the neighbour gives.
func (n *Neighbour) hasChain(c netstate.NftName) bool {
	return slices.ContainsFunc(n.chains, func(prefix string) bool {
		return strings.HasPrefix(c.Chain, prefix) || strings.HasPrefix(c.Table+"/"+c.Chain, prefix)
	})
}

// match tries all alternatives, so that the finding names everything by which
// the neighbour is known.
func match(n *Neighbour, s *netstate.State) (Finding, bool) {
	f := Finding{Neighbour: n}
	seen := make(map[int]bool) // indexes of rules, for the kernel may hold equal ones
	found := false
	for _, alternative := range n.shapes {
		var rules []int
		route := -1
		all := true
		for i := range alternative {
			sh := &alternative[i]
			if sh.route {
				route = slices.IndexFunc(s.Routes, func(r netstate.Route) bool { return sh.matchRoute(&r) })
				all = all && route >= 0
				continue
			}
			before := len(rules)
			for j := range s.Rules {
				if sh.matchRule(&s.Rules[j]) {
					rules = append(rules, j)
				}
			}
			all = all && len(rules) > before
		}
		if !all {
			continue
		}
		found = true
		for _, j := range rules {
			seen[j] = true
		}
		if route >= 0 {
			f.Routes = append(f.Routes, s.Routes[route])
		}
	}
	for j := range s.Rules {
		if seen[j] {
			f.Rules = append(f.Rules, s.Rules[j])
		}
	}
	return f, found
}

// Viarules says whether a protocol is one of viarule's own marks: of objects, of CNI
// plugins, of BGP.
func Viarules(protocol uint8) bool {
	return protocol == netstate.ProtocolObject || protocol == netstate.ProtocolCNI || protocol == netstate.ProtocolBGP
}

func (sh *shape) matchRule(r *netstate.Rule) bool {
	switch {
	case Viarules(r.Protocol),
		r.Unknown != "",
		!sh.priorities.Contains(r.Priority),
		r.Action != sh.action,
		selectorsOf(r) != sh.selects,
		sh.tables != (Band{}) && !sh.tables.Contains(r.Table),
		sh.protocol != 0 && sh.protocol != r.Protocol,
		sh.single && !single(r):
		return false
	}
	return sh.matchMark(r.Mark)
}

// matchMark compares the mask, and the value unless the shape leaves it open.
func (sh *shape) matchMark(m netstate.Mark) bool {
	return sh.mark.Mask == 0 || sh.mark.Mask == m.Mask && (sh.mark.Value == 0 || sh.mark.Value == m.Value)
}

func single(r *netstate.Rule) bool {
	return (!r.From.IsValid() || r.From.IsSingleIP()) && (!r.To.IsValid() || r.To.IsSingleIP())
}

func (sh *shape) matchRoute(r *netstate.Route) bool {
	return r.Protocol == sh.protocol && (sh.tables == (Band{}) || sh.tables.Contains(r.Table))
}

func selectorsOf(r *netstate.Rule) selectors {
	var s selectors
	for _, c := range []struct {
		set bool
		sel selectors
	}{
		{r.From.IsValid(), selFrom},
		{r.To.IsValid(), selTo},
		{r.IIF != "", selIIF},
		{r.Mark != (netstate.Mark{}), selMark},
		{r.Not, selNot},
		{r.L3MDev, selL3MDev},
		{r.SuppressPrefixLength.Set || r.SuppressIfGroup.Set, selSuppress},
		{r.OIF != "" || r.Proto != 0 || r.SPort != (netstate.PortRange{}) || r.DPort != (netstate.PortRange{}) ||
			r.TOS != 0 || r.DSCP.Set || r.UID.Set || r.TunID != 0, selOther},
	} {
		if c.set {
			s |= c.sel
		}
	}
	return s
}
