package cutoff

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/viarule/viarule/internal/netstate"
)

// After gives the state that a plan's changes lead to: rules go behind those of
// their priority, a replaced route keeps its place. A change that does not fit
// (a delete of what is not there) does nothing. Sysctls are no part of a State.
// Neither argument is changed.
func After(s netstate.State, changes []*netstate.Change) netstate.State {
	out := s
	out.Nexthops = slices.Clone(s.Nexthops)
	rules := newRuleSet(s.Rules)
	routes := newRouteSet(s.Routes)
	for _, c := range changes {
		switch {
		case c.Rule != nil:
			rules.change(c.Verb, c.Rule)
		case c.Route != nil:
			routes.change(c.Verb, c.Route)
		case c.Nexthop != nil:
			out.Nexthops = changeNexthop(out.Nexthops, c.Verb, c.Nexthop)
		}
	}
	out.Rules, out.Routes = rules.list(), routes.list()
	return out
}

// ruleSet holds rules by family and priority: a plan changes ten thousand of
// them, and a search of the whole list for each would take minutes.
type ruleSet map[place][]netstate.Rule

type place struct {
	family   netstate.Family
	priority uint32
}

func newRuleSet(rules []netstate.Rule) ruleSet {
	s := ruleSet{}
	for _, r := range rules {
		p := place{r.Family, r.Priority}
		s[p] = append(s[p], r)
	}
	return s
}

func (s ruleSet) change(v netstate.Verb, r *netstate.Rule) {
	p := place{r.Family, r.Priority}
	if v != netstate.Delete {
		s[p] = append(s[p], *r)
		return
	}
	if i := slices.Index(s[p], *r); i >= 0 {
		s[p] = slices.Delete(s[p], i, i+1)
	}
}

func (s ruleSet) list() []netstate.Rule {
	places := make([]place, 0, len(s))
	n := 0
	for p, rules := range s {
		places = append(places, p)
		n += len(rules)
	}
	// The number of IPv4 is the smaller one.
	slices.SortFunc(places, func(a, b place) int {
		return cmp.Or(cmp.Compare(a.family, b.family), cmp.Compare(a.priority, b.priority))
	})
	out := make([]netstate.Rule, 0, n)
	for _, p := range places {
		out = append(out, s[p]...)
	}
	return out
}

// routeSet keeps routes in order; one that is deleted leaves a nil.
type routeSet struct {
	routes []*netstate.Route
	at     map[netstate.RouteKey][]int // the kernel may hold several of one key (append)
}

func newRouteSet(routes []netstate.Route) *routeSet {
	s := &routeSet{at: make(map[netstate.RouteKey][]int, len(routes))}
	for i := range routes {
		s.add(&routes[i])
	}
	return s
}

func (s *routeSet) add(r *netstate.Route) {
	s.at[r.Key()] = append(s.at[r.Key()], len(s.routes))
	s.routes = append(s.routes, r)
}

func (s *routeSet) change(v netstate.Verb, r *netstate.Route) {
	at := s.at[r.Key()]
	switch {
	case v == netstate.Add || len(at) == 0 && v == netstate.Replace:
		s.add(r)
	case len(at) == 0:
	case v == netstate.Replace:
		s.routes[at[0]] = r
	default:
		i := max(0, slices.IndexFunc(at, func(i int) bool { return s.routes[i].Equal(r) }))
		s.routes[at[i]] = nil
		s.at[r.Key()] = slices.Delete(at, i, i+1)
	}
}

func (s *routeSet) list() []netstate.Route {
	out := make([]netstate.Route, 0, len(s.routes))
	for _, r := range s.routes {
		if r != nil {
			out = append(out, *r)
		}
	}
	return out
}

func changeNexthop(list []netstate.Nexthop, v netstate.Verb, n *netstate.Nexthop) []netstate.Nexthop {
	i := slices.IndexFunc(list, func(o netstate.Nexthop) bool { return o.ID == n.ID })
	switch {
	case v == netstate.Delete && i >= 0:
		return slices.Delete(list, i, i+1)
	case v == netstate.Delete:
		return list
	case i >= 0:
		list[i] = *n
		return list
	}
	return append(list, *n)
}

// targets are the addresses that are looked up, sorted. Only routes that hold
// one of them can matter, which keeps a check of a million routes short.
type targets []netip.Addr

func newTargets(addrs []netip.Addr) targets {
	out := slices.Clone(addrs)
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

// in says whether one of the addresses is in p.
func (t targets) in(p netip.Prefix) bool {
	i, _ := slices.BinarySearchFunc(t, p.Masked().Addr(), netip.Addr.Compare)
	return i < len(t) && p.Contains(t[i])
}

// only gives the state with the routes that matter for the targets.
func (t targets) only(s netstate.State) netstate.State {
	var routes []netstate.Route
	for i := range s.Routes {
		if t.in(s.Routes[i].To) {
			routes = append(routes, s.Routes[i])
		}
	}
	s.Routes = routes
	return s
}
