package netstate

import (
	"net/netip"
	"slices"
)

// Route is one route of one table. Not comparable with ==; use Equal.
//
// Canonical form: To is always valid (the default route is Family.Default());
// an IPv6 route without a metric has 1024; exactly one of Hop, Hops and
// NexthopID says where packets go, and none does for a type that forwards
// nothing. State that the kernel derives (dead, linkdown, cache information) is
// left out.
type Route struct {
	Family   Family
	Table    uint32
	To       netip.Prefix
	From     netip.Prefix // source-specific IPv6 route; zero: any source
	TOS      uint8
	Metric   uint32
	Type     RouteType
	Scope    Scope
	Protocol uint8

	Src       netip.Addr // preferred source address
	Hop       Hop        // the only next hop
	Hops      []Hop      // two or more
	NexthopID uint32     // a next hop object; Hop or Hops then repeat what it holds

	MTU     uint32
	MTULock bool
	AdvMSS  uint32
	Realms  uint32
	Pref    uint8 // IPv6 router preference, as the kernel encodes it

	// Unknown holds the attributes (metrics included) that have no field here,
	// in the kernel's encoding and sorted by type.
	Unknown string
}

// Hop is a next hop: a gateway on a link, or just the link.
type Hop struct {
	Via     netip.Addr // may be IPv6 for an IPv4 route
	Dev     string
	Weight  uint16 // 1 to 256 in a multipath route, 0 elsewhere
	OnLink  bool
	Realms  uint32
	Unknown string // encapsulation and what else has no field
}

// RouteKey is what the kernel tells routes of one namespace apart by.
type RouteKey struct {
	Family Family
	Table  uint32
	To     netip.Prefix
	From   netip.Prefix
	TOS    uint8
	Metric uint32
}

// Key returns the route's key.
func (r *Route) Key() RouteKey {
	return RouteKey{r.Family, r.Table, r.To, r.From, r.TOS, r.Metric}
}

// Equal says whether the two routes are the same to the last attribute.
func (r *Route) Equal(o *Route) bool {
	return r.Key() == o.Key() && r.Type == o.Type && r.Scope == o.Scope && r.Protocol == o.Protocol &&
		r.Src == o.Src && r.Hop == o.Hop && slices.Equal(r.Hops, o.Hops) && r.NexthopID == o.NexthopID &&
		r.MTU == o.MTU && r.MTULock == o.MTULock && r.AdvMSS == o.AdvMSS && r.Realms == o.Realms &&
		r.Pref == o.Pref && r.Unknown == o.Unknown
}

// RouteType is the kernel's RTN_*.
type RouteType uint8

// The route types.
const (
	RouteUnicast     RouteType = 1
	RouteLocal       RouteType = 2
	RouteBroadcast   RouteType = 3
	RouteAnycast     RouteType = 4
	RouteMulticast   RouteType = 5
	RouteBlackhole   RouteType = 6
	RouteUnreachable RouteType = 7
	RouteProhibit    RouteType = 8
	RouteThrow       RouteType = 9
	RouteNAT         RouteType = 10
)

// Forwards says whether a route of this type needs a next hop.
func (t RouteType) Forwards() bool {
	switch t {
	case RouteBlackhole, RouteUnreachable, RouteProhibit, RouteThrow:
		return false
	}
	return true
}

// Scope is the kernel's RT_SCOPE_*. IPv6 routes all have ScopeGlobal.
type Scope uint8

// The scopes.
const (
	ScopeGlobal  Scope = 0
	ScopeSite    Scope = 200
	ScopeLink    Scope = 253
	ScopeHost    Scope = 254
	ScopeNowhere Scope = 255
)
