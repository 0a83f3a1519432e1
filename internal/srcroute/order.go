package srcroute

import (
	"slices"

	"github.com/viarule/viarule/internal/netstate"
)

// inOrder gives routes in an order in which the kernel takes them. It looks for the way
// to a route's gateway, which has to be one without a gateway: so those come first, and
// a route that would hide that way (2001:db8::/64 via fe80::1 metric 7, where the link
// has 2001:db8::/64) comes behind those by such gateways. Where routes hide each other's
// way, their order stays. To take them away the opposite order is right: so they can be
// put back.
func inOrder(routes []*netstate.Route) []*netstate.Route {
	var out, rest []*netstate.Route
	for _, r := range routes {
		if r.Hop.Via.IsValid() || len(r.Hops) > 0 {
			rest = append(rest, r)
		} else {
			out = append(out, r)
		}
	}
	ways := make(map[*netstate.Route]way, len(rest))
	for _, r := range rest {
		ways[r] = wayTo(r, out)
	}
	for len(rest) > 0 {
		next := slices.IndexFunc(rest, func(r *netstate.Route) bool {
			return !slices.ContainsFunc(rest, func(x *netstate.Route) bool { return x != r && ways[x].hiddenBy(r, x) })
		})
		next = max(next, 0)
		out = append(out, rest[next])
		rest = slices.Delete(rest, next, next+1)
	}
	return out
}

// way is the place of the route without a gateway that leads to a route's gateway.
type way struct {
	bits   int
	metric uint32
}

// wayTo looks for it among routes. Where none is there the kernel may have one of its
// own (in a VRF), which all but a default route may hide.
func wayTo(r *netstate.Route, routes []*netstate.Route) (w way) {
	found := false
	for _, d := range routes {
		if d.Table != r.Table || d.Family != r.Family || !d.To.Contains(r.Hop.Via) {
			continue
		}
		if n := d.To.Bits(); !found || n > w.bits || n == w.bits && d.Metric < w.metric {
			w, found = way{n, d.Metric}, true
		}
	}
	return w
}

// hiddenBy says that by is found in the place of the way to x's gateway. For one that is
// link-local the kernel does not look.
func (w way) hiddenBy(by, x *netstate.Route) bool {
	if !x.Hop.Via.IsValid() || x.Hop.OnLink || x.Hop.Via.Is6() && x.Hop.Via.IsLinkLocalUnicast() || by.Table != x.Table || by.Family != x.Family || !by.To.Contains(x.Hop.Via) {
		return false
	}
	return by.To.Bits() > w.bits || by.To.Bits() == w.bits && by.Metric < w.metric
}
