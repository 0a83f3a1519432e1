package netstate

import "net/netip"

// CanonicalRoute returns r as the kernel lists it after it was added. What r
// leaves out gets the kernel's or iproute2's default: the type unicast, the table
// main, the metric 1024 for IPv6 (IP6_RT_PRIO_USER), the family's default
// destination. A Scope of zero counts as left out and becomes DefaultScope; who
// means the global scope sets it afterwards. The protocol is left as it is. The
// result shares no Hops with r.
func CanonicalRoute(r Route) Route {
	if r.Type == 0 {
		r.Type = RouteUnicast
	}
	if r.Table == 0 {
		r.Table = TableMain
	}
	if !r.To.IsValid() {
		r.To = r.Family.Default()
	}
	switch r.Family {
	case IPv4:
		// No Masked here: the kernel refuses host bits in an IPv4 destination.
		r.From = netip.Prefix{}
		r.Pref = 0
	case IPv6:
		r.To = r.To.Masked()
		r.From = r.From.Masked()
		if r.From.IsValid() && r.From.Bits() == 0 {
			r.From = netip.Prefix{}
		}
		if r.Metric == 0 {
			r.Metric = 1024
		}
		r.TOS = 0
	}
	if r.MTU == 0 {
		r.MTULock = false
	}
	r.Hops = canonicalHops(r.Hops)
	switch len(r.Hops) {
	case 0:
	case 1:
		r.Hop, r.Hops = r.Hops[0], nil
	default:
		r.Hop = Hop{}
	}
	r.Hop.Weight = 0
	if r.Hop.Realms != 0 {
		r.Realms, r.Hop.Realms = r.Hop.Realms, 0
	}
	if !r.Type.Forwards() {
		// IPv6 overwrites the flags that hold the preference (ip6_route_info_create).
		r.Hop, r.Hops, r.Pref = Hop{}, nil, 0
	}
	if r.Family == IPv6 {
		r.Scope, r.Realms = ScopeGlobal, 0
	} else if r.Scope == ScopeGlobal {
		r.Scope = DefaultScope(&r)
	}
	return r
}

func canonicalHops(hops []Hop) []Hop {
	if len(hops) == 0 {
		return nil
	}
	c := make([]Hop, len(hops))
	for i, h := range hops {
		h.Weight = max(h.Weight, 1)
		c[i] = h
	}
	return c
}

// DefaultScope is the scope that `ip` gives to a route for which none was asked:
// host for addresses of this host, link for what is reached without a gateway,
// global for the rest and for IPv6, which has no scopes.
func DefaultScope(r *Route) Scope {
	if r.Family == IPv6 {
		return ScopeGlobal
	}
	switch r.Type {
	case RouteLocal, RouteNAT:
		return ScopeHost
	case RouteBroadcast, RouteMulticast, RouteAnycast:
		return ScopeLink
	case RouteUnicast:
		if !r.Hop.Via.IsValid() && len(r.Hops) == 0 && r.NexthopID == 0 {
			return ScopeLink
		}
	}
	return ScopeGlobal
}

// CanonicalRule returns r as the kernel lists it after it was added: selectors
// that select everything and values of other actions are left out, and a mark
// without a mask has the full one. An absent Action with a table is ToTable. The
// protocol is left as it is.
func CanonicalRule(r Rule) Rule {
	if r.Action == 0 && (r.Table != 0 || r.L3MDev) {
		r.Action = ToTable
	}
	if r.From.Bits() <= 0 {
		r.From = netip.Prefix{}
	}
	if r.To.Bits() <= 0 {
		r.To = netip.Prefix{}
	}
	if r.Mark.Value != 0 && r.Mark.Mask == 0 {
		r.Mark.Mask = 0xffffffff
	}
	if !r.UID.Set {
		r.UID = UIDRange{}
	}
	for _, o := range []*Opt{&r.DSCP, &r.SuppressPrefixLength, &r.SuppressIfGroup} {
		if !o.Set {
			*o = Opt{}
		}
	}
	// The kernel's word for "not set" (FRA_SUPPRESS_*: -1).
	for _, o := range []*Opt{&r.SuppressPrefixLength, &r.SuppressIfGroup} {
		if o.Val == 0xffffffff {
			*o = Opt{}
		}
	}
	if r.Action != ToTable || r.L3MDev {
		r.Table = 0
	}
	if r.Action != Goto {
		r.Goto = 0
	}
	if r.Family == IPv6 {
		r.Realms = 0 // only IPv4 has them
	}
	return r
}
