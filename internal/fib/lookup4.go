package fib

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/viarule/viarule/internal/netstate"
)

// find4 is fib_table_lookup: the longest prefix with a route that may be used.
func (w *walk) find4(t *table) match {
	left := int32(-1)
	for g := t.longest(w.dst); g >= 0; g = t.parents[g] {
		if left >= 0 && t.starts[g] == t.starts[left] {
			continue
		}
		routes := t.of(g)
		for i := range routes {
			r := &routes[i]
			if r.tos != 0 && r.tos != w.flow.TOS&legacyTOS {
				continue
			}
			// Reject routes and blackhole next hops are taken before links count.
			if r.is&(rejects|drops) != 0 {
				return match{route: r}
			}
			if hops := w.usable4(r); hops.len() > 0 {
				return match{route: r, hops: hops}
			}
			if r.NexthopID != 0 {
				// A next hop object without a usable hop makes the kernel leave
				// the leaf, which holds the routes of all prefixes that begin at
				// the same address, shorter ones too.
				left = g
				break
			}
		}
	}
	return match{}
}

// usable4 returns the hops that fib_lookup_good_nhc takes.
func (w *walk) usable4(r *route) hops {
	all := hopsOf(r)
	if r.is&down == 0 && w.flow.OIF == "" {
		return all
	}
	n := all.len()
	for i := range n {
		if w.good4(r, all.at(i)) {
			continue
		}
		usable := slices.Clone(all.several[:i])
		for j := i + 1; j < n; j++ {
			if w.good4(r, all.at(j)) {
				usable = append(usable, *all.at(j))
			}
		}
		return hops{several: usable}
	}
	return all
}

// good4 says whether a hop may be used. Routes to the host's own addresses outlive
// their link (fib_sync_down_dev spares next hops of the scope nowhere).
func (w *walk) good4(r *route, h *netstate.Hop) bool {
	if r.Scope != netstate.ScopeHost && w.dead(r, h) {
		return false
	}
	return w.flow.OIF == "" || w.flow.OIF == h.Dev
}

// decide4 is ip_route_output_key_hash_rcu for packets made here, and the lookup
// in ip_route_input_slow for others.
func (w *walk) decide4() Decision {
	if w.flow.IIF == "" {
		if d, ok := w.refuse4(); !ok {
			return d
		}
	}
	d, m := w.rules()
	if d.Verdict == Unknown {
		return d
	}
	if !d.Verdict.Goes() {
		if w.flow.OIF != "" && w.vrf == nil {
			// "Apparently, routing tables are wrong. Assume, that the destination
			// is on link." Reject routes and rules are overruled as well.
			w.stepOnLink()
			way := Way{Hop: netstate.Hop{Dev: w.flow.OIF}, Src: w.flow.From}
			if !way.Src.IsValid() {
				way.Src = w.fib.selectAddr(w.flow.OIF, netip.Addr{}, netstate.ScopeLink)
			}
			return w.checkLoopback(Decision{Verdict: Unicast, Way: way, OnLink: true})
		}
		return d
	}
	if why := w.obstacles(m); why != "" {
		d.Verdict, d.Why = Unknown, why
		return d
	}
	d.Way = w.way4(&d, m.route, m.hops.at(0))
	// The hash is for routes that lead away, and for sockets that are not bound:
	// those take the first hop by their link.
	n := m.hops.len()
	if n > 1 && (d.Verdict == Local || w.flow.OIF != "") {
		m.hops, n = hops{one: m.hops.at(0)}, 1
	}
	if n > 1 {
		d.Multipath = make([]Way, n)
		for i := range d.Multipath {
			d.Multipath[i] = w.way4(&d, m.route, m.hops.at(i))
		}
	}
	if m.route.is&byObject != 0 {
		if why := cmp.Or(w.otherFate(&m), w.otherSource(&d, &m)); why != "" {
			d.Verdict, d.Why = Unknown, why
			return d
		}
	}
	return w.checkLoopback(d)
}

func (w *walk) way4(d *Decision, r *route, h *netstate.Hop) Way {
	way := Way{Hop: *h, Src: w.source4(r, h)}
	if d.Verdict == Multicast && w.flow.IIF == "" && d.Route.To.Bits() < 4 {
		// __mkroute_output: "If multicast route do not exist use default one, but
		// do not gateway in this case. Yes, it is hack."
		way.Hop.Via, way.Hop.OnLink = netip.Addr{}, false
	}
	return way
}

func (w *walk) stepOnLink() {
	if w.steps == nil || len(*w.steps) == 0 {
		return
	}
	last := &(*w.steps)[len(*w.steps)-1]
	if last.Outcome == Decided {
		last.Detail = "overruled: the socket is bound to " + w.flow.OIF
	}
}

// refuse4 gives the kernel's checks of source and output link; ok is false
// where they fail.
func (w *walk) refuse4() (d Decision, ok bool) {
	if from := w.flow.From; from.IsValid() {
		if from.IsMulticast() || from == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
			return invalid("%s cannot be a source", from), false
		}
		if !w.fib.isLocal4(from) {
			return invalid("the source %s is not an address of this host", from), false
		}
	}
	oif := w.flow.OIF
	if oif == "" || len(w.fib.state.Links) == 0 {
		return d, true
	}
	switch {
	case !w.out.there():
		return invalid("no such link: %s", oif), false
	case !w.out.Up:
		return Decision{Verdict: NoRoute, Why: oif + " is down"}, false
	}
	return d, true
}

// checkLoopback refuses to send from 127.0.0.0/8 by a real link (__mkroute_output).
func (w *walk) checkLoopback(d Decision) Decision {
	if w.flow.IIF != "" || d.Verdict == Local {
		return d
	}
	ways, n := max(len(d.Multipath), 1), 0
	for i := range ways {
		way := &d.Way
		if len(d.Multipath) > 0 {
			way = &d.Multipath[i]
		}
		if !way.Src.IsLoopback() {
			continue
		}
		if l := w.fib.links[way.Hop.Dev]; l.there() && !l.Loopback && !l.isVRF() {
			n++
		}
	}
	switch {
	case n == ways:
		d.Verdict, d.Why = Invalid, "a loopback address cannot be sent from "+d.Hop.Dev
	case n > 0:
		d.Verdict, d.Why = Unknown, "a loopback address cannot be sent from some next hops of route "+d.Route.To.String()+", and a hash picks one"
	}
	return d
}

// isLocal4 is __ip_dev_find: an address of a link, or whatever the table local
// calls local.
func (f *FIB) isLocal4(a netip.Addr) bool {
	if f.local4 != nil {
		w := walk{fib: f, dst: keyOf(a)}
		if m := w.find4(f.local4); m.route != nil && m.route.verdict == Local {
			return true
		}
	}
	return f.locals[a]
}

// source4 is the source address that a packet without one gets
// (ip_route_output_key_hash_rcu, fib_result_prefsrc).
func (w *walk) source4(r *route, h *netstate.Hop) netip.Addr {
	switch {
	case w.flow.From.IsValid():
		return w.flow.From
	case w.flow.IIF != "":
		return netip.Addr{}
	case w.leavesVRF(h.Dev) && r.Type != netstate.RouteLocal:
		return w.fib.selectAddr(w.vrf.Name, netip.Addr{}, netstate.ScopeLink) // fib_select_path
	case r.Src.IsValid():
		return r.Src
	case r.Type == netstate.RouteLocal:
		return w.flow.To
	}
	return w.fib.selectAddr(h.Dev, h.Via, r.Scope)
}

// source is an address that packets may have which leave by another link of the
// same VRF.
type source struct {
	*netstate.Addr
	vrf *link
}

// selectAddr is inet_select_addr: an address of the link whose scope is wide
// enough, better one of the gateway's subnet; else one of any link.
func (f *FIB) selectAddr(dev string, gateway netip.Addr, scope netstate.Scope) netip.Addr {
	var vrf *link
	if l := f.links[dev]; l != nil {
		vrf = l.vrf
		var first netip.Addr
		for _, a := range l.sources {
			if a.Scope > scope {
				continue
			}
			if !gateway.Is4() || subnetOf(a).Contains(gateway) {
				return a.Prefix.Addr()
			}
			if !first.IsValid() {
				first = a.Prefix.Addr()
			}
		}
		if first.IsValid() {
			return first
		}
	}
	if vrf != nil {
		// A VRF takes the place of lo, and comes before its ports.
		for _, a := range vrf.sources {
			if a.Scope != netstate.ScopeLink && a.Scope <= scope {
				return a.Prefix.Addr()
			}
		}
	}
	for i := range f.wide {
		if a := &f.wide[i]; a.vrf == vrf && a.Scope <= scope {
			return a.Prefix.Addr()
		}
	}
	return netip.Addr{}
}

func usableSource(a *netstate.Addr) bool {
	return a.Prefix.Addr().Is4() && a.Flags&netstate.AddrSecondary == 0
}

// subnetOf is what an address says to be on its link.
func subnetOf(a *netstate.Addr) netip.Prefix {
	if a.Peer.IsValid() {
		return netip.PrefixFrom(a.Peer.Addr(), a.Prefix.Bits())
	}
	return a.Prefix
}
