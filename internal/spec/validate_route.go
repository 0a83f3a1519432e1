package spec

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/viarule/viarule/internal/netstate"
)

// checkRoutes checks each route of the object by itself.
func (v *validator) checkRoutes(p *RoutingPolicy) {
	for i := range p.Tables {
		routes := p.Tables[i].Routes
		for j := range routes {
			v.checkRoute(place{v.obj, index(i), index(j)}, &routes[j])
		}
	}
}

func (v *validator) checkRoute(here place, r *Route) {
	f := r.Family()
	if !r.To.IsValid() || r.To != r.To.Masked() {
		v.fail(here, "to", fmt.Sprintf("%s is not a destination", r.To), "write a prefix without bits behind its length")
		return
	}
	v.checkMetrics(here, r, f)
	if r.Dev != "" {
		if err := CheckLinkName(r.Dev); err != nil {
			v.failValue(here, "dev", err)
		}
	}
	if r.Src.IsValid() && netstate.FamilyOf(r.Src) != f {
		v.fail(here, "src", fmt.Sprintf("%s is no %s address", r.Src, f), "use an address of the family of the route to "+r.To.String())
	}
	if r.Scope != nil {
		v.checkScope(here, r, f)
	}
	switch {
	case !r.Type.Forwards():
		if r.Via.IsValid() || r.Dev != "" || len(r.Nexthops) > 0 || r.OnLink || r.Src.IsValid() {
			v.fail(here, "type", "a route of this type goes nowhere", "leave out via, dev, nexthops, onlink and src")
		}
		return
	case r.Type == netstate.RouteLocal:
		if r.Via.IsValid() || r.Dev == "" || len(r.Nexthops) > 0 || r.OnLink || r.Scope != nil && *r.Scope != netstate.ScopeHost {
			v.fail(here, "type", "a local route has a dev, no way behind it, and the scope Host", "write `dev: lo`, and leave via, nexthops, onlink and scope out")
		}
		return
	case len(r.Nexthops) > 0:
		v.checkNexthops(here, r, f)
	case !r.Via.IsValid() && r.Dev == "":
		v.fail(here, "", "it does not say where packets go", "write via, dev or nexthops")
	}
	if r.Via.IsValid() {
		v.checkGateway(here, "via", r.Via, r.Dev, f)
	}
	if r.OnLink && len(r.Nexthops) == 0 && (!r.Via.IsValid() || r.Dev == "") {
		v.fail(here, "onlink", "it says that the gateway is on the link, but there is no gateway or no link", "write via and dev, or leave onlink out")
	}
}

func (v *validator) checkMetrics(here place, r *Route, f netstate.Family) {
	if r.MTU != 0 && (r.MTU < MinMTU4 || r.MTU > MaxMTU) {
		v.fail(here, "mtu", fmt.Sprintf("%d is out of range", r.MTU), fmt.Sprintf("write a number from %d to %d", MinMTU4, MaxMTU))
	}
	if r.MTU >= MinMTU4 && r.MTU < MinMTU6 && f == netstate.IPv6 {
		v.warn(here, "mtu", fmt.Sprintf("every IPv6 link carries packets of %d bytes, and %d is less", MinMTU6, r.MTU), fmt.Sprintf("write %d or more", MinMTU6))
	}
	if r.AdvMSS != 0 && (r.AdvMSS < MinAdvMSS || r.AdvMSS > MaxAdvMSS) {
		v.fail(here, "advmss", fmt.Sprintf("%d is out of range", r.AdvMSS), fmt.Sprintf("write a number from %d to %d", MinAdvMSS, MaxAdvMSS))
	}
}

// checkScope holds a route to what fib_create_info and fib_check_nh
// (net/ipv4/fib_semantics.c) take.
func (v *validator) checkScope(here place, r *Route, f netstate.Family) {
	switch {
	case f == netstate.IPv6:
		v.fail(here, "scope", "IPv6 routes have no scope", "leave it out")
	case *r.Scope >= netstate.ScopeLink && (r.Via.IsValid() || len(r.Nexthops) > 0):
		v.fail(here, "scope", "what is behind a gateway is further away than the link", "write Global or Site, or leave scope out")
	}
}

func (v *validator) checkNexthops(here place, r *Route, f netstate.Family) {
	if r.Via.IsValid() || r.Dev != "" || r.OnLink {
		v.fail(here, "nexthops", "next hops exclude via, dev and onlink", "write the way of via and dev as one of nexthops")
	}
	if n := len(r.Nexthops); n > v.known.Limits.Nexthops {
		v.fail(here, "nexthops", fmt.Sprintf("there are %d next hops", n), fmt.Sprintf("a route may have %d", v.known.Limits.Nexthops))
	}
	for i := range r.Nexthops {
		h := &r.Nexthops[i]
		key := fmt.Sprintf("nexthops[%d]", i)
		switch {
		case !h.Via.IsValid() && h.Dev == "":
			v.report(Error, here, h.Pos, key, "it does not say where packets go", "write via or dev")
		case h.OnLink && (!h.Via.IsValid() || h.Dev == ""):
			v.report(Error, here, h.Pos, key+".onlink", "it says that the gateway is on the link, but there is no gateway or no link", "write via and dev, or leave onlink out")
		case h.Weight < 1 || h.Weight > 256:
			v.report(Error, here, h.Pos, key+".weight", fmt.Sprintf("%d is out of range", h.Weight), "write a number from 1 to 256")
		}
		if h.Via.IsValid() {
			v.checkGateway(here, key+".via", h.Via, h.Dev, f)
		}
		if h.Dev != "" {
			if err := CheckLinkName(h.Dev); err != nil {
				v.failValue(here, key+".dev", err)
			}
		}
	}
}

func (v *validator) checkGateway(here place, key string, via netip.Addr, dev string, f netstate.Family) {
	switch {
	case f == netstate.IPv6 && via.Is4():
		v.fail(here, key, fmt.Sprintf("the IPv4 gateway %s cannot be that of an IPv6 route", via), "use an IPv6 gateway")
	case via.IsUnspecified() || via.IsMulticast() || via.Is4() && via.As4()[0] == 255:
		v.fail(here, key, fmt.Sprintf("%s is not the address of a gateway", via), "use the router's own address")
	case via.Is6() && via.IsLinkLocalUnicast() && dev == "":
		v.fail(here, key, fmt.Sprintf("%s is there on every link", via), "write dev as well")
	}
}

// metricOf is the metric as the kernel keeps it.
func metricOf(r *Route) uint32 {
	if r.Metric == 0 && r.To.Addr().Is6() {
		return 1024
	}
	return r.Metric
}

func compareKeys(a, b *Route) int {
	if c := a.To.Addr().Compare(b.To.Addr()); c != 0 {
		return c
	}
	return cmp.Or(cmp.Compare(a.To.Bits(), b.To.Bits()), cmp.Compare(metricOf(a), metricOf(b)))
}

// checkSameRoutes finds routes of one table, of one object or of several, that
// the kernel would take for the same. The kernel keeps one route for a prefix
// and metric (viarule's rules have no TOS in routes), so that the second would
// replace the first.
func (v *validator) checkSameRoutes() {
	lists := map[string][]place{}
	var order []string
	for i := range v.objs {
		if v.objs[i].Policy == nil {
			continue
		}
		for j := range v.objs[i].Policy.Tables {
			t := &v.objs[i].Policy.Tables[j]
			if len(t.Routes) == 0 {
				continue
			}
			if lists[t.Name] == nil {
				order = append(order, t.Name)
			}
			lists[t.Name] = append(lists[t.Name], place{&v.objs[i], index(j), 0})
		}
	}
	for _, name := range order {
		v.checkSameIn(name, lists[name])
	}
}

func (v *validator) checkSameIn(name string, lists []place) {
	route := func(p place) *Route { return &p.obj.Policy.Tables[p.table].Routes[p.elem] }
	// Long lists are mostly written in order: then a look at the neighbours is
	// all, and nothing needs memory.
	if len(lists) == 1 {
		routes := lists[0].obj.Policy.Tables[lists[0].table].Routes
		sorted := true
		for i := 1; sorted && i < len(routes); i++ {
			sorted = compareKeys(&routes[i-1], &routes[i]) < 0
		}
		if sorted {
			return
		}
	}
	var all []place
	for _, l := range lists {
		for i := range l.obj.Policy.Tables[l.table].Routes {
			if p := (place{l.obj, l.table, index(i)}); route(p).To.IsValid() {
				all = append(all, p)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b place) int { return compareKeys(route(a), route(b)) })
	var again []place
	first := map[place]place{}
	for i := 1; i < len(all); i++ {
		if compareKeys(route(all[i-1]), route(all[i])) == 0 {
			if f, ok := first[all[i-1]]; ok {
				first[all[i]] = f
			} else {
				first[all[i]] = all[i-1]
			}
			again = append(again, all[i])
		}
	}
	// Back to the order in which people wrote them.
	slices.SortStableFunc(again, func(a, b place) int {
		return cmp.Or(cmp.Compare(a.pos().Line, b.pos().Line), cmp.Compare(a.elem, b.elem))
	})
	for _, p := range again {
		r := route(p)
		what := fmt.Sprintf("a route to %s is in the table %s already, at %s", r.To, name, first[p].seenFrom(p.obj))
		if r.Metric != 0 {
			what = fmt.Sprintf("a route to %s with the metric %d is in the table %s already, at %s", r.To, r.Metric, name, first[p].seenFrom(p.obj))
		}
		v.fail(p, "to", what, "leave one out, give it another metric, or use nexthops")
	}
}
