package kernelfake

import (
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/netstate"
)

// group is a route's key without the metric: a delete may leave the metric open.
// The routes of a group stand by metric, equal ones in the order of their making.
type group struct {
	family   netstate.Family
	table    uint32
	to, from netip.Prefix
	tos      uint8
}

// bootProtocol is RTPROT_BOOT, which IPv6 writes where none was given.
const bootProtocol = 3

func groupOf(r *netstate.Route) group { return group{r.Family, r.Table, r.To, r.From, r.TOS} }

func (k *Kernel) setRoutes(g group, list []netstate.Route) {
	if len(list) == 0 {
		delete(k.routes, g)
		return
	}
	k.routes[g] = list
}

// insertRoute puts r behind all of its metric.
func (k *Kernel) insertRoute(r netstate.Route) {
	g := groupOf(&r)
	list := k.routes[g]
	at := len(list)
	for at > 0 && list[at-1].Metric > r.Metric {
		at--
	}
	k.routes[g] = slices.Insert(list, at, r)
}

// addRoute is inet_rtm_newroute and inet6_rtm_newroute with NLM_F_CREATE, and
// NLM_F_REPLACE or NLM_F_EXCL.
func (k *Kernel) addRoute(given netstate.Route, replace bool) error {
	r := cloneRoute(given)
	if err := checkRoute(&r); err != nil {
		return err
	}
	scope := r.Scope
	r = netstate.CanonicalRoute(r)
	if r.Family == netstate.IPv4 {
		r.Scope = scope // the kernel has no default for it, only `ip` has
	} else if r.Protocol == 0 {
		r.Protocol = bootProtocol
	}
	if err := k.checkHops(&r); err != nil {
		return err
	}
	if r.Src.IsValid() && !k.own(r.Src) {
		return refuse(unix.EINVAL, "Invalid source address")
	}
	g := groupOf(&r)
	at, found := k.sameMetric(k.routes[g], &r)
	switch {
	case !found:
		k.insertRoute(r)
	case !replace:
		return unix.EEXIST
	default:
		if r.Family == netstate.IPv4 {
			// fib_table_insert: the very same route further down the list of equals.
			for _, o := range k.routes[g][at+1:] {
				if o.Metric == r.Metric && o.Equal(&r) {
					return unix.EEXIST
				}
			}
		}
		k.routes[g][at] = r
	}
	return nil
}

// sameMetric finds the route that an add meets and a replace overwrites: the first
// of the metric; of IPv6, the first that is one of several paths if r is, else
// the first (fib6_add_rt2node).
func (k *Kernel) sameMetric(list []netstate.Route, r *netstate.Route) (int, bool) {
	first := -1
	for i := range list {
		if list[i].Metric != r.Metric {
			continue
		}
		if r.Family == netstate.IPv4 || multipath(&list[i]) == multipath(r) {
			return i, true
		}
		if first < 0 {
			first = i
		}
	}
	return first, first >= 0
}

// multipath says whether IPv6 would join others to the route (rt6_qualify_for_ecmp).
func multipath(r *netstate.Route) bool {
	return r.NexthopID == 0 && (len(r.Hops) > 0 || r.Hop.Via.IsValid())
}

// checkRoute is what does not depend on links: rtm_to_fib_config, fib_create_info
// and their IPv6 counterparts.
func checkRoute(r *netstate.Route) error {
	if r.Family == netstate.IPv6 {
		return nil
	}
	hops := len(r.Hops) > 0 || r.Hop != netstate.Hop{}
	switch {
	case r.To.IsValid() && r.To != r.To.Masked():
		return refuse(unix.EINVAL, "Invalid prefix for given prefix length")
	case r.TOS&3 != 0:
		return refuse(unix.EINVAL, "Invalid dsfield (tos): ECN bits must be 0")
	case r.Type >= netstate.RouteNAT, r.Scope > netstate.ScopeHost, r.Scope < leastScope(r.Type):
		return refuse(unix.EINVAL, "Invalid scope")
	case !r.Type.Forwards() && hops && r.NexthopID == 0:
		return refuse(unix.EINVAL, "Gateway, device and multipath can not be specified for this route type")
	}
	return nil
}

// leastScope is the kernel's table fib_props.
func leastScope(t netstate.RouteType) netstate.Scope {
	switch t {
	case netstate.RouteLocal:
		return netstate.ScopeHost
	case netstate.RouteBroadcast, netstate.RouteAnycast:
		return netstate.ScopeLink
	}
	return netstate.ScopeGlobal
}

// deleteRoute removes what the kernel would remove for r.
func (k *Kernel) deleteRoute(r netstate.Route) error {
	if err := checkDelete(&r); err != nil {
		return err
	}
	if _, ok := k.nexthops[r.NexthopID]; r.NexthopID != 0 && !ok {
		return refuse(unix.EINVAL, "Nexthop id does not exist")
	}
	scope, metric := r.Scope, r.Metric
	r = netstate.CanonicalRoute(r)
	r.Metric = metric // none given: any
	if r.Family == netstate.IPv6 {
		return k.deleteRoute6(&r)
	}
	r.Scope = scope
	g := groupOf(&r)
	for i := range k.routes[g] {
		if k.matches4(&r, &k.routes[g][i]) {
			k.setRoutes(g, slices.Delete(k.routes[g], i, i+1))
			return nil
		}
	}
	return unix.ESRCH
}

func checkDelete(r *netstate.Route) error {
	if r.NexthopID != 0 {
		r.Hop, r.Hops = netstate.Hop{}, nil
	}
	c := *r
	c.Scope = max(c.Scope, leastScope(c.Type)) // only compared
	return checkRoute(&c)
}

// matches4 is fib_table_delete with fib_nh_match and fib_metrics_match.
func (k *Kernel) matches4(want, have *netstate.Route) bool {
	switch {
	case want.NexthopID == 0 && want.Type != have.Type,
		want.Scope != have.Scope,
		want.Src.IsValid() && want.Src != have.Src,
		want.Protocol != 0 && want.Protocol != have.Protocol,
		want.Metric != 0 && want.Metric != have.Metric,
		want.MTU != 0 && (want.MTU != have.MTU || want.MTULock != have.MTULock),
		want.AdvMSS != 0 && want.AdvMSS != have.AdvMSS,
		want.Unknown != "" && want.Unknown != have.Unknown:
		return false
	case want.NexthopID != 0:
		return want.NexthopID == have.NexthopID
	case have.NexthopID != 0:
		return want.Hop == netstate.Hop{} && len(want.Hops) == 0
	case len(want.Hops) > 0:
		return slices.EqualFunc(want.Hops, have.Hops, func(a, b netstate.Hop) bool {
			return (a.Dev == "" || a.Dev == b.Dev) && (!a.Via.IsValid() || a.Via == b.Via)
		})
	case want.Hop == netstate.Hop{}:
		return true
	}
	// fib_nh_match looks at realms only together with a hop.
	return len(have.Hops) == 0 && hopMatches(&want.Hop, &have.Hop) && (want.Realms == 0 || want.Realms == have.Realms)
}

func hopMatches(want, have *netstate.Hop) bool {
	return (want.Dev == "" || want.Dev == have.Dev) && (!want.Via.IsValid() || want.Via == have.Via)
}

// deleteRoute6 is ip6_route_del, or ip6_route_multipath_del, which tries every
// hop and tells the last failure.
func (k *Kernel) deleteRoute6(want *netstate.Route) error {
	if len(want.Hops) == 0 {
		return k.deleteHop6(want, want.Hop)
	}
	var last error
	for _, h := range want.Hops {
		if err := k.deleteHop6(want, h); err != nil {
			last = err
		}
	}
	return last
}

// deleteHop6 removes the first route that has the hop: with a gateway just that
// path of it, without one all of it.
func (k *Kernel) deleteHop6(want *netstate.Route, h netstate.Hop) error {
	g := k.locate6(groupOf(want))
	list := k.routes[g]
	for i := range list {
		have := &list[i]
		switch {
		case want.Metric != 0 && want.Metric != have.Metric,
			want.Protocol != 0 && want.Protocol != have.Protocol,
			want.NexthopID != 0 && want.NexthopID != have.NexthopID:
			continue
		case have.NexthopID != 0:
			k.setRoutes(g, slices.Delete(list, i, i+1))
			return nil
		}
		at := slices.IndexFunc(paths(have), func(o netstate.Hop) bool { return hopMatches(&h, &o) })
		if at < 0 {
			continue
		}
		if len(have.Hops) > 0 && h.Via.IsValid() {
			left := cloneRoute(*have)
			left.Hops = slices.Delete(left.Hops, at, at+1)
			list[i] = netstate.CanonicalRoute(left)
			return nil
		}
		k.setRoutes(g, slices.Delete(list, i, i+1))
		return nil
	}
	return unix.ESRCH
}

// locate6 is fib6_locate: where no route to the destination has a source, one that
// was asked for by its source is looked for among those from anywhere.
func (k *Kernel) locate6(g group) group {
	if !g.from.IsValid() {
		return g
	}
	for o := range k.routes {
		if o.family == g.family && o.table == g.table && o.to == g.to && o.from.IsValid() {
			return g
		}
	}
	g.from = netip.Prefix{}
	return g
}

// paths lists the hops of a route. IPv6 hangs those that forward nothing on lo.
func paths(r *netstate.Route) []netstate.Hop {
	switch {
	case len(r.Hops) > 0:
		return r.Hops
	case !r.Type.Forwards():
		return []netstate.Hop{{Dev: "lo"}}
	}
	return []netstate.Hop{r.Hop}
}
