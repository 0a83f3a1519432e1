package netstate

import (
	"cmp"
	"slices"
)

// After gives the state that changes lead to: rules go behind those of their
// priority, a replaced route keeps its place, tables of nftables are put or taken
// away as a whole, an accept goes to the end of its chain. A change that does not fit (a delete of what is not there) does
// nothing, nor does one of a port or an address. Sysctls are no part of a State; see AfterSysctls. Neither argument is
// changed.
func After(s State, changes []*Change) State {
	out := s
	out.Nexthops, out.Forward = slices.Clone(s.Nexthops), slices.Clone(s.Forward)
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
		case c.Nft != nil:
			out.Nft = slices.DeleteFunc(slices.Clone(out.Nft), func(t NftTable) bool { return t.Name == c.Nft.Name })
			if c.Verb != Delete {
				out.Nft = append(out.Nft, *c.Nft)
				slices.SortFunc(out.Nft, func(a, b NftTable) int { return cmp.Compare(a.Name, b.Name) })
			}
		case c.Accept != nil:
			changeForward(out.Forward, c.Verb, c.Accept)
		case c.Link != nil && c.Verb == Delete:
			on := func(dev string) bool { return dev == c.Link.Name }
			routes.linkGone(on)
			out.Addrs = slices.DeleteFunc(slices.Clone(out.Addrs), func(a Addr) bool { return on(a.Dev) })
			out.Links = slices.DeleteFunc(slices.Clone(out.Links), func(l Link) bool { return on(l.Name) })
		case c.Link != nil && c.Verb == Add:
			out.Links = append(slices.Clone(out.Links), *c.Link)
		}
	}
	out.Rules, out.Routes = rules.list(), routes.list()
	return out
}

// AfterSysctls gives the values of sysctls that changes lead to, sorted by key.
// Neither argument is changed.
func AfterSysctls(list []Sysctl, changes []*Change) []Sysctl {
	out := slices.Clone(list)
	for _, c := range changes {
		if c.Sysctl == nil {
			continue
		}
		i, found := slices.BinarySearchFunc(out, c.Sysctl.Key, func(s Sysctl, key string) int { return cmp.Compare(s.Key, key) })
		if found {
			out[i] = *c.Sysctl
		} else {
			out = slices.Insert(out, i, *c.Sysctl)
		}
	}
	return out
}

// ruleSet holds rules by family and priority: a plan changes ten thousand of
// them, and a search of the whole list for each would take minutes.
type ruleSet map[place][]Rule

type place struct {
	family   Family
	priority uint32
}

func newRuleSet(rules []Rule) ruleSet {
	s := ruleSet{}
	for _, r := range rules {
		p := place{r.Family, r.Priority}
		s[p] = append(s[p], r)
	}
	return s
}

func (s ruleSet) change(v Verb, r *Rule) {
	p := place{r.Family, r.Priority}
	if v != Delete {
		s[p] = append(s[p], *r)
		return
	}
	if i := slices.Index(s[p], *r); i >= 0 {
		s[p] = slices.Delete(s[p], i, i+1)
	}
}

func (s ruleSet) list() []Rule {
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
	out := make([]Rule, 0, n)
	for _, p := range places {
		out = append(out, s[p]...)
	}
	return out
}

// routeSet keeps routes in order; one that is deleted leaves a nil.
type routeSet struct {
	routes []*Route
	at     map[RouteKey][]int // the kernel may hold several of one key (append)
}

func newRouteSet(routes []Route) *routeSet {
	s := &routeSet{at: make(map[RouteKey][]int, len(routes))}
	for i := range routes {
		s.add(&routes[i])
	}
	return s
}

func (s *routeSet) add(r *Route) {
	s.at[r.Key()] = append(s.at[r.Key()], len(s.routes))
	s.routes = append(s.routes, r)
}

func (s *routeSet) change(v Verb, r *Route) {
	at := s.at[r.Key()]
	switch {
	case v == Add || v == Append || len(at) == 0 && v == Replace:
		s.add(r)
	case len(at) == 0:
	case v == Replace:
		s.routes[at[0]] = r
	default:
		i := max(0, slices.IndexFunc(at, func(i int) bool { return s.routes[i].Equal(r) }))
		s.routes[at[i]] = nil
		s.at[r.Key()] = slices.Delete(at, i, i+1)
	}
}

// linkGone removes what goes with a link: whole routes in IPv4, next hops in IPv6.
func (s *routeSet) linkGone(on func(dev string) bool) {
	for i, r := range s.routes {
		switch {
		case r == nil || !on(r.Hop.Dev) && !slices.ContainsFunc(r.Hops, func(h Hop) bool { return on(h.Dev) }):
		case r.Family == IPv6 && slices.ContainsFunc(r.Hops, func(h Hop) bool { return !on(h.Dev) }):
			left := *r
			left.Hops = slices.DeleteFunc(slices.Clone(r.Hops), func(h Hop) bool { return on(h.Dev) })
			left = CanonicalRoute(left)
			s.routes[i] = &left
		default:
			s.routes[i] = nil
			k := r.Key()
			s.at[k] = slices.DeleteFunc(s.at[k], func(at int) bool { return at == i })
		}
	}
}

func (s *routeSet) list() []Route {
	out := make([]Route, 0, len(s.routes))
	for _, r := range s.routes {
		if r != nil {
			out = append(out, *r)
		}
	}
	return out
}

func changeNexthop(list []Nexthop, v Verb, n *Nexthop) []Nexthop {
	i := slices.IndexFunc(list, func(o Nexthop) bool { return o.ID == n.ID })
	switch {
	case v == Delete && i >= 0:
		return slices.Delete(list, i, i+1)
	case v == Delete:
		return list
	case i >= 0:
		list[i] = *n
		return list
	}
	return append(list, *n)
}
