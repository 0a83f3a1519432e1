package fib

import (
	"net/netip"

	"github.com/viarule/viarule/internal/netstate"
)

// find4 is fib_table_lookup: the longest prefix with a route that may be used.
func (w *walk) find4(t *table) match {
	var m match
	var left netip.Addr
	t.all(w.flow.To, func(routes []route) bool {
		for _, r := range routes {
			if r.TOS != 0 && r.TOS != w.flow.TOS&legacyTOS || r.to.Addr() == left {
				continue
			}
			// Reject routes and blackhole next hops are taken before links count.
			if !r.Type.Forwards() || w.fib.dropNH[r.NexthopID] {
				m.route = r.Route
				return false
			}
			if hops := w.usable4(r.Route); len(hops) > 0 {
				m = match{r.Route, hops}
				return false
			}
			if r.NexthopID != 0 {
				// A next hop object without a usable hop makes the kernel leave
				// the leaf, which holds the routes of all prefixes that begin at
				// the same address, shorter ones too.
				left = r.to.Addr()
			}
		}
		return true
	})
	return m
}

// usable4 returns the hops that fib_lookup_good_nhc takes. Routes to the host's
// own addresses outlive their link (fib_sync_down_dev spares next hops of the
// scope nowhere).
func (w *walk) usable4(r *netstate.Route) []netstate.Hop {
	var hops []netstate.Hop
	for _, h := range hopsOf(r) {
		if r.Scope != netstate.ScopeHost && w.fib.dead(h.Dev) || w.flow.OIF != "" && w.flow.OIF != h.Dev {
			continue
		}
		hops = append(hops, h)
	}
	return hops
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
		if w.flow.OIF != "" && w.vrf == "" {
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
	ways := make([]Way, len(m.hops))
	for i, h := range m.hops {
		ways[i] = Way{Hop: h, Src: w.source4(m.route, h)}
	}
	if d.Verdict == Local || w.flow.OIF != "" {
		// The hash is for routes that lead away, and for sockets that are not
		// bound: those take the first hop by their link.
		ways = ways[:1]
	}
	d.Way = ways[0]
	if len(ways) > 1 {
		d.Multipath = ways
	}
	return w.checkLoopback(d)
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
	if oif == "" || len(w.fib.links) == 0 {
		return d, true
	}
	switch l := w.fib.links[oif]; {
	case l == nil:
		return invalid("no such link: %s", oif), false
	case !l.Up:
		return Decision{Verdict: NoRoute, Why: oif + " is down"}, false
	}
	return d, true
}

// checkLoopback refuses to send from 127.0.0.0/8 by a real link (__mkroute_output).
func (w *walk) checkLoopback(d Decision) Decision {
	l := w.fib.links[d.Hop.Dev]
	if w.flow.IIF == "" && d.Verdict != Local && d.Src.IsLoopback() && l != nil && !l.Loopback && !isVRF(l) {
		d.Verdict, d.Why = Invalid, "a loopback address cannot be sent from "+d.Hop.Dev
	}
	return d
}

// isLocal4 is __ip_dev_find: an address of a link, or whatever the table local
// calls local.
func (f *FIB) isLocal4(a netip.Addr) bool {
	if f.locals[a] {
		return true
	}
	t := f.tables[tableID{netstate.IPv4, netstate.TableLocal}]
	if t == nil {
		return false
	}
	w := walk{fib: f, flow: Flow{To: a}, family: netstate.IPv4}
	m := w.find4(t)
	return m.route != nil && m.route.Type == netstate.RouteLocal
}

// source4 is the source address that a packet without one gets
// (ip_route_output_key_hash_rcu, fib_result_prefsrc).
func (w *walk) source4(r *netstate.Route, h netstate.Hop) netip.Addr {
	switch {
	case w.flow.From.IsValid():
		return w.flow.From
	case w.flow.IIF != "":
		return netip.Addr{}
	case r.Src.IsValid():
		return r.Src
	case r.Type == netstate.RouteLocal:
		return w.flow.To
	}
	return w.fib.selectAddr(h.Dev, h.Via, r.Scope)
}

// addrSecondary is IFA_F_SECONDARY.
const addrSecondary = 0x01

// selectAddr is inet_select_addr: an address of the link whose scope is wide
// enough, better one of the gateway's subnet; else one of any link.
func (f *FIB) selectAddr(dev string, gateway netip.Addr, scope netstate.Scope) netip.Addr {
	var first netip.Addr
	for i := range f.state.Addrs {
		a := &f.state.Addrs[i]
		if a.Dev != dev || !usableSource(a) || a.Scope > scope {
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
	for i := range f.state.Links {
		l := &f.state.Links[i]
		if f.master[l.Name] != f.master[dev] {
			continue
		}
		for j := range f.state.Addrs {
			a := &f.state.Addrs[j]
			if a.Dev == l.Name && usableSource(a) && a.Scope != netstate.ScopeLink && a.Scope <= scope {
				return a.Prefix.Addr()
			}
		}
	}
	return netip.Addr{}
}

func usableSource(a *netstate.Addr) bool {
	return a.Prefix.Addr().Is4() && a.Flags&addrSecondary == 0
}

// subnetOf is what an address says to be on its link.
func subnetOf(a *netstate.Addr) netip.Prefix {
	if a.Peer.IsValid() {
		return netip.PrefixFrom(a.Peer.Addr(), a.Prefix.Bits())
	}
	return a.Prefix
}
