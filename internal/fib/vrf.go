package fib

import "github.com/viarule/viarule/internal/netstate"

// inVRF is l3mdev_fib_rule_match: it says whether the flow has a VRF, and keeps the
// table for fib_rule_get_table.
func (w *walk) inVRF() bool {
	if !w.vrf.there() {
		return false
	}
	w.vrfTable = w.vrf.VRFTable
	return true
}

// linkScope6 is l3mdev_link_scope_lookup: IPv6 sends to link-local and multicast
// destinations from a socket that is bound to a VRF, or to a port of one, by the
// VRF's table alone, whatever the rules say. done is false for all other flows.
func (w *walk) linkScope6() (d Decision, m match, done bool) {
	if w.flow.IIF != "" || !w.vrf.there() || !w.flow.To.IsMulticast() && !w.flow.To.IsLinkLocalUnicast() {
		return d, m, false
	}
	if w.flow.OIF == "" {
		// "VRF device does not have a link-local address and sending packets to
		// link-local or mcast addresses over a VRF device does not make sense"
		return Decision{Verdict: NoRoute, Why: w.vrf.Name + " is a VRF, and such destinations are on its ports"}, m, true
	}
	if t := w.fib.tables[tableID{netstate.IPv6, w.vrf.VRFTable}]; t != nil {
		m = w.find6(t)
	}
	if m.route == nil {
		return Decision{Verdict: NoRoute}, m, true
	}
	// Reject and throw routes are on lo, and no route but by OIF fits.
	if why := w.otherFate(&m); why != "" {
		return Decision{Verdict: Unknown, Why: why, Table: w.vrf.VRFTable, Route: m.route.Route}, m, true
	}
	return Decision{Verdict: m.route.verdict, Table: w.vrf.VRFTable, Route: m.route.Route}, m, true
}

// leavesVRF says that a packet of a VRF goes by a link outside of it. Its source is
// then one of the VRF's, and not what the route and its link would give.
func (w *walk) leavesVRF(dev string) bool { return w.vrf.there() && w.fib.vrfOf(dev) != w.vrf.Name }
