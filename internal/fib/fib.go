package fib

import (
	"net/netip"
	"slices"

	"github.com/viarule/viarule/internal/netstate"
)

// Flow is a packet as routing sees it. To must be valid; its family is the
// flow's. IPv4 addresses may be in IPv6 form (::ffff:192.0.2.1).
type Flow struct {
	From netip.Addr // the zero Addr: not chosen yet, only for packets made here
	To   netip.Addr
	// IIF is the link by which the packet came in; empty: made here. For a packet
	// made here rules see iif lo.
	IIF string
	// OIF is the link to which the socket is bound; empty: none. Not for packets
	// that came in.
	OIF   string
	Mark  uint32
	TOS   uint8 // the DS field; the two ECN bits do not count
	Proto uint8 // of the transport protocol
	SPort uint16
	DPort uint16
	UID   uint32 // of the socket's owner; packets that came in have 0
	TunID uint64 // of the tunnel by which the packet came in
	// VRF is the VRF whose tables l3mdev rules mean, where it is not the one of IIF
	// or OIF: the kernel's check of a source address takes it from another link.
	VRF string
	// Check says that the kernel only asks its tables, for its check of a source
	// address or for nftables' fib, and no packet goes: what it keeps with next hop
	// objects does not count.
	Check bool
}

// Family is the flow's family, 0 where To is not valid.
func (f *Flow) Family() netstate.Family { return netstate.FamilyOf(f.To.Unmap()) }

// Verdict is what routing decides.
type Verdict uint8

// The verdicts.
const (
	// Unknown: the answer depends on an attribute that viarule does not know, on the
	// hash that picks a next hop, or on which of the routes that share a next hop
	// object was used first. Why names it.
	Unknown Verdict = iota
	// Unicast: the packet goes out by Hop.
	Unicast
	// Local: the packet is for this host.
	Local
	// Broadcast, Anycast and Multicast: the route's type says so.
	Broadcast
	Anycast
	Multicast
	// NoRoute: no rule leads to an answer (ENETUNREACH). A rule with the action
	// unreachable gives the same error, but then Rule is set.
	NoRoute
	// Unreachable: a route of that type (EHOSTUNREACH), or a rule (ENETUNREACH).
	Unreachable
	// Prohibit: a rule or route says so (EACCES).
	Prohibit
	// Blackhole: a rule or route drops the packet without an answer (EINVAL).
	Blackhole
	// Invalid: the kernel refuses the flow before it looks for a route, or does
	// not send by what it found. Why says what is wrong.
	Invalid
)

// String gives the verdict in a word or two.
func (v Verdict) String() string {
	names := [...]string{
		"unknown", "unicast", "local", "broadcast", "anycast", "multicast",
		"no route", "unreachable", "prohibit", "blackhole", "invalid",
	}
	if int(v) < len(names) {
		return names[v]
	}
	return "verdict?"
}

// Goes says whether a packet with this verdict gets anywhere.
func (v Verdict) Goes() bool { return v >= Unicast && v <= Multicast }

// Way is a next hop, and the source address that a packet without one gets when
// it goes that way.
type Way struct {
	Hop netstate.Hop
	Src netip.Addr // the flow's own where it has one
}

// Decision is the answer for one flow. The pointers lead into the FIB, and must
// not be written through.
type Decision struct {
	Verdict Verdict
	Why     string          // for Unknown and Invalid
	Rule    *netstate.Rule  // the rule that decided; nil for NoRoute, Invalid, OnLink, and link-local destinations of a VRF
	Table   uint32          // that the route was found in
	Route   *netstate.Route // nil where a rule or nothing decided
	Way                     // where the packet goes; with several ways, the first
	// Multipath lists every way that the kernel's hash may pick, where there are
	// two or more.
	Multipath []Way
	// OnLink says that IPv4 found no route and takes the destination for a
	// neighbour on OIF, as it does for every socket that is bound to a link.
	OnLink bool
	Steps  []Step // only from Trace
}

// SameWay says whether two decisions, which may come from different states,
// treat a packet alike: the same verdict, next hops and source addresses, by
// whatever rules and routes.
func (d *Decision) SameWay(o *Decision) bool {
	return d.Verdict == o.Verdict && d.Verdict != Unknown && d.Way == o.Way && slices.Equal(d.Multipath, o.Multipath)
}

// FIB is a state that is ready for lookups. It keeps the state's slices and is
// safe for concurrent use as long as nobody writes to them: New makes all of it,
// and lookups only read.
type FIB struct {
	state  *netstate.State
	rules  [2][]rule // by family index, by priority, then in the kernel's order
	tables map[tableID]*table
	local4 *table // IPv4's table local; nil: empty
	links  map[string]*link
	lo     *link
	locals map[netip.Addr]bool
	wide   []source // IPv4 addresses that packets may have which leave by other links

	objects objects // next hop objects

	candidates []candidate6 // IPv6 addresses that may be sources
}

type tableID struct {
	family netstate.Family
	id     uint32
}

// link is a name of a link, so that names are compared by address.
type link struct {
	*netstate.Link // nil: a rule or an address names a link that the state does not have
	vrf            *link
	sources        []*netstate.Addr // its IPv4 addresses that packets may have
}

// isVRF says whether the link is a VRF: that is a port of itself.
func (l *link) isVRF() bool { return l.vrf == l }

// there says whether the state has the link.
func (l *link) there() bool { return l != nil && l.Link != nil }

// New makes s ready for lookups. Objects that make no sense are taken as the
// kernel could not hold them: they match nothing.
func New(s *netstate.State) *FIB {
	f := &FIB{
		state:  s,
		tables: make(map[tableID]*table),
		links:  make(map[string]*link, len(s.Links)),
		locals: make(map[netip.Addr]bool, len(s.Addrs)),
	}
	f.addLinks()
	f.addAddrs()
	f.objects = newObjects(s.Nexthops)
	f.addRoutes()
	f.objects.seal()
	f.addRules()
	f.candidates = candidates6(s)
	return f
}

func (f *FIB) addLinks() {
	for i := range f.state.Links {
		f.link(f.state.Links[i].Name).Link = &f.state.Links[i]
	}
	for _, l := range f.links {
		if l.Kind == "vrf" {
			l.vrf = l
		} else if m := f.links[l.Master]; m != nil && m.Kind == "vrf" {
			l.vrf = m
		}
	}
	f.lo = f.link("lo")
}

// link gives what stands for a name, and makes it where there is nothing yet.
func (f *FIB) link(name string) *link {
	l := f.links[name]
	if l == nil {
		l = new(link)
		f.links[name] = l
	}
	return l
}

func (f *FIB) addAddrs() {
	for i := range f.state.Addrs {
		a := &f.state.Addrs[i]
		f.locals[a.Prefix.Addr()] = true
		if usableSource(a) {
			l := f.link(a.Dev)
			l.sources = append(l.sources, a)
		}
	}
	for i := range f.state.Links {
		l := f.links[f.state.Links[i].Name]
		for _, a := range l.sources {
			if a.Scope != netstate.ScopeLink {
				f.wide = append(f.wide, source{a, l.vrf})
			}
		}
	}
}

func familyIndex(f netstate.Family) int {
	if f == netstate.IPv6 {
		return 1
	}
	return 0
}

func (f *FIB) addRoutes() {
	// Tables are made in their size: to let them grow takes longer than to count.
	count := make(map[tableID]int)
	f.eachTable(func(id tableID, routes []netstate.Route) { count[id] += len(routes) })
	f.eachTable(func(id tableID, routes []netstate.Route) {
		t := f.tables[id]
		if t == nil {
			t = newTable(count[id])
			f.tables[id] = t
		}
		f.fill(t, routes)
	})
	for id, t := range f.tables {
		if len(t.routes) == 0 { // none made sense
			delete(f.tables, id)
			continue
		}
		t.seal()
	}
	f.local4 = f.tables[tableID{netstate.IPv4, netstate.TableLocal}]
}

// eachTable yields the runs of routes of one table.
func (f *FIB) eachTable(yield func(tableID, []netstate.Route)) {
	for routes := f.state.Routes; len(routes) > 0; {
		id := tableID{routes[0].Family, routes[0].Table}
		n := 1
		for n < len(routes) && routes[n].Table == id.id && routes[n].Family == id.family {
			n++
		}
		yield(id, routes[:n])
		routes = routes[n:]
	}
}

func (f *FIB) fill(t *table, routes []netstate.Route) {
	hop, dead := &byLo, f.dead(byLo.Dev)
	for i := range routes {
		r := &routes[i]
		switch {
		case netstate.FamilyOf(r.To.Addr()) != r.Family || !r.To.IsValid():
		case len(r.Hops) > 0:
			t.add(f.newRoute(r, nil, f.anyDead(r.Hops)))
		default:
			own := &r.Hop
			if r.NexthopID != 0 {
				own = f.objects.hop(r)
			}
			if *own != *hop { // mostly it is that of the route before
				hop, dead = own, f.dead(own.Dev)
			}
			t.add(f.newRoute(r, hop, dead))
		}
	}
}

func (f *FIB) anyDead(hops []netstate.Hop) bool {
	for i := range hops {
		if f.dead(hops[i].Dev) {
			return true
		}
	}
	return false
}
