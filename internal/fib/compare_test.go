package fib_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/fib"
	"github.com/viarule/viarule/internal/netstate"
)

// view is a snapshot, ready to be compared with the kernel's answers. What is made
// of the state points into it.
type view struct {
	netstate.State
	fib    *fib.FIB
	rulers *rulers
	byNH   map[uint32][]*netstate.Route // by each next hop object that they use
	realms bool                         // some rule has realms
	vrf    map[string]string            // of each link that is one or is a port of one
}

func newView(s netstate.State) *view {
	v := &view{State: s, byNH: map[uint32][]*netstate.Route{}, vrf: map[string]string{}}
	v.fib, v.rulers = fib.New(&v.State), newRulers(&v.State)
	for i := range v.Routes {
		r := &v.Routes[i]
		for _, id := range v.members(r.NexthopID) {
			v.byNH[id] = append(v.byNH[id], r)
		}
	}
	for i := range v.Links {
		if v.Links[i].Kind == "vrf" {
			v.vrf[v.Links[i].Name] = v.Links[i].Name
		}
	}
	for i := range v.Links {
		if l := &v.Links[i]; v.vrf[l.Master] != "" {
			v.vrf[l.Name] = l.Master
		}
	}
	v.realms = slices.ContainsFunc(v.Rules, func(r netstate.Rule) bool { return r.Realms != 0 })
	return v
}

// members lists the next hop objects of a group, or the one of that id.
func (v *view) members(id uint32) []uint32 {
	if id == 0 {
		return nil
	}
	ids := []uint32{id}
	for i := range v.Nexthops {
		if h := &v.Nexthops[i]; h.ID == id && len(h.Group) > 0 {
			ids = nil
			for _, m := range h.Group {
				ids = append(ids, m.ID)
			}
		}
	}
	return ids
}

// alike lists a route and the routes by the same next hop objects. The kernel keeps
// answers with the next hop, and gives them for all of these: IPv6 with all that it
// tells of the route (rt6i_pcpu), IPv4 with its type (nhc_pcpu_rth_output). Where
// that makes a difference to the packet, our decision is Unknown.
func (v *view) alike(r *netstate.Route) []*netstate.Route {
	all := []*netstate.Route{r}
	for _, id := range v.members(r.NexthopID) {
		for _, o := range v.byNH[id] {
			if o != r && o.Family == r.Family {
				all = append(all, o)
			}
		}
	}
	return all
}

// want is the errno by which the kernel tells a decision.
func want(flow *fib.Flow, d *fib.Decision) unix.Errno {
	switch d.Verdict {
	case fib.NoRoute:
		return unix.ENETUNREACH
	case fib.Unreachable:
		if d.Route == nil {
			return unix.ENETUNREACH
		}
		return unix.EHOSTUNREACH
	case fib.Prohibit:
		return unix.EACCES
	case fib.Blackhole:
		return unix.EINVAL
	case fib.Invalid:
		if strings.Contains(d.Why, "is not an address of this host") {
			return unix.ENETUNREACH
		}
		return unix.EINVAL
	case fib.Anycast, fib.Multicast:
		if flow.IIF != "" && flow.Family() == netstate.IPv4 {
			return unix.EINVAL // ip_route_input_slow: a martian destination
		}
	}
	return 0
}

// notAsked says that an answer is about something that package fib does not
// decide. With realms IPv4 checks the source of every packet that comes in
// (fib_validate_source).
func (v *view) notAsked(flow *fib.Flow, d *fib.Decision, got answer) bool {
	return flow.To.Is4() && v.realms && flow.IIF != "" && got.err == unix.EINVAL && d.Verdict.Goes()
}

// differs compares our decision with what the kernel does with the packet and with
// the route that it found. It returns "" where they agree.
func (v *view) differs(flow *fib.Flow, d *fib.Decision, kernel reply) string {
	got, route := kernel.packet, kernel.route
	if e := want(flow, d); e != 0 || got.err != 0 {
		if e != got.err {
			return fmt.Sprintf("error %d (%s), the kernel's %d: %s", e, e, got.err, got)
		}
		return ""
	}
	if d.OnLink {
		if got.dev != flow.OIF || got.typ != netstate.RouteUnicast || got.via.IsValid() || !sameSource(flow, d.Src, got.src) {
			return "on link: " + got.String()
		}
		return ""
	}
	told := func(r *netstate.Route) bool {
		return r.Table == got.table && (route.err != 0 || r.To.Bits() == route.bits && r.Metric == route.metric)
	}
	if !told(d.Route) || got.typ != d.Route.Type {
		if !slices.ContainsFunc(v.alike(d.Route), func(r *netstate.Route) bool {
			return r.Type == got.typ && treatedAlike(flow, got.typ, d.Route.Type) && (flow.To.Is6() && told(r) || flow.To.Is4() && told(d.Route))
		}) {
			return fmt.Sprintf("route %s, the kernel's has %d bits, metric %d and gives %s", d.Route, route.bits, route.metric, got)
		}
	}
	ways := d.Multipath
	if ways == nil {
		ways = []fib.Way{d.Way}
	}
	// Of what is delivered here the kernel names lo.
	here := d.Verdict == fib.Local || d.Verdict == fib.Anycast && flow.To.Is6() || d.Verdict == fib.Broadcast && flow.IIF != "" && flow.To.Is4()
	if !here && !slices.ContainsFunc(ways, func(w fib.Way) bool { return w.Hop.Dev == got.dev && w.Hop.Via == got.via }) {
		return fmt.Sprintf("ways %v, the kernel's %s", ways, got)
	}
	// RTM_GETROUTE does not tell what a socket gets by an IPv6 route that leaves its
	// VRF (rt6_fill_node asks for no VRF); see TestSourceOfARouteThatLeavesItsVRF.
	if vrf := v.vrf[flow.OIF]; vrf != "" && flow.To.Is6() && slices.ContainsFunc(ways, func(w fib.Way) bool { return v.vrf[w.Hop.Dev] != vrf }) {
		return ""
	}
	if !slices.ContainsFunc(ways, func(w fib.Way) bool {
		return sameSource(flow, w.Src, got.src) && (here || w.Hop.Dev == got.dev && w.Hop.Via == got.via)
	}) {
		return fmt.Sprintf("ways %v, the kernel's source %s", ways, got.src)
	}
	return ""
}

// treatedAlike says that packets by routes of two types meet no difference, so that
// the kernel may tell the one for the other.
func treatedAlike(flow *fib.Flow, a, b netstate.RouteType) bool {
	onward := []netstate.RouteType{netstate.RouteUnicast}
	switch {
	case flow.To.Is6():
		onward = append(onward, netstate.RouteBroadcast, netstate.RouteMulticast)
	case flow.IIF == "":
		onward = append(onward, netstate.RouteAnycast)
	}
	return a == b || slices.Contains(onward, a) && slices.Contains(onward, b)
}

// sameSource compares source addresses. The kernel does not repeat the flow's own,
// and IPv4 chooses none for packets that came in.
func sameSource(flow *fib.Flow, ours, kernels netip.Addr) bool {
	if flow.From.IsValid() {
		return ours == flow.From
	}
	return ours == kernels
}
