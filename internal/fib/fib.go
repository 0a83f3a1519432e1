package fib

import (
	"cmp"
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
}

// Family is the flow's family, 0 where To is not valid.
func (f *Flow) Family() netstate.Family { return netstate.FamilyOf(f.To.Unmap()) }

// Verdict is what routing decides.
type Verdict uint8

// The verdicts.
const (
	// Unknown: the answer depends on an attribute that viarule does not know, or
	// on the hash that picks a next hop. Why names it.
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
	Rule    *netstate.Rule  // the rule that decided; nil for NoRoute, Invalid, and OnLink
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
// safe for concurrent use as long as nobody writes to them.
type FIB struct {
	state  *netstate.State
	rules  [2][]*netstate.Rule // by family index, by priority, then in the kernel's order
	tables map[tableID]*table
	links  map[string]*netstate.Link
	master map[string]string // link → the VRF that it is a port of
	locals map[netip.Addr]bool
	dropNH map[uint32]bool // next hop objects that are blackholes
}

type tableID struct {
	family netstate.Family
	id     uint32
}

// table holds routes in the order of their prefixes: address, then length.
// Lookups try the lengths that occur, the longest first. The kernel lists its
// tables in this order, or nearly, so that a large state is soon ready.
type table struct {
	lengths []int
	routes  []route
}

type route struct {
	to netip.Prefix // masked
	*netstate.Route
}

// New makes s ready for lookups. Objects that make no sense are taken as the
// kernel could not hold them: they match nothing.
func New(s *netstate.State) *FIB {
	f := &FIB{
		state:  s,
		tables: make(map[tableID]*table),
		links:  make(map[string]*netstate.Link, len(s.Links)),
		master: make(map[string]string),
		locals: make(map[netip.Addr]bool, len(s.Addrs)),
		dropNH: make(map[uint32]bool),
	}
	for i := range s.Links {
		f.links[s.Links[i].Name] = &s.Links[i]
	}
	for i := range s.Links {
		l := &s.Links[i]
		switch m := f.links[l.Master]; {
		case isVRF(l):
			f.master[l.Name] = l.Name
		case m != nil && isVRF(m):
			f.master[l.Name] = m.Name
		}
	}
	for i := range s.Addrs {
		f.locals[s.Addrs[i].Prefix.Addr()] = true
	}
	for i := range s.Nexthops {
		if s.Nexthops[i].Blackhole {
			f.dropNH[s.Nexthops[i].ID] = true
		}
	}
	for i := range s.Rules {
		r := &s.Rules[i]
		x := familyIndex(r.Family)
		f.rules[x] = append(f.rules[x], r)
	}
	for x := range f.rules {
		// A state read from text need not be in order, and goto relies on it.
		slices.SortStableFunc(f.rules[x], func(a, b *netstate.Rule) int { return cmp.Compare(a.Priority, b.Priority) })
	}
	f.addRoutes()
	return f
}

func isVRF(l *netstate.Link) bool { return l.Kind == "vrf" }

func familyIndex(f netstate.Family) int {
	if f == netstate.IPv6 {
		return 1
	}
	return 0
}

func (f *FIB) addRoutes() {
	var t *table
	var last tableID
	for i := range f.state.Routes {
		r := &f.state.Routes[i]
		if netstate.FamilyOf(r.To.Addr()) != r.Family || r.Family == 0 {
			continue
		}
		if k := (tableID{r.Family, r.Table}); t == nil || k != last {
			if t = f.tables[k]; t == nil {
				t = &table{}
				f.tables[k] = t
			}
			last = k
		}
		t.routes = append(t.routes, route{r.To.Masked(), r})
	}
	for _, t := range f.tables {
		if !slices.IsSortedFunc(t.routes, order) {
			slices.SortStableFunc(t.routes, order)
		}
		var seen [129]bool
		for i := range t.routes {
			seen[t.routes[i].to.Bits()] = true
		}
		for n := len(seen) - 1; n >= 0; n-- {
			if seen[n] {
				t.lengths = append(t.lengths, n)
			}
		}
	}
}

// order sorts by prefix, and routes of one prefix as the kernel tries them: IPv4
// by TOS, the highest first, and IPv6 by the length of the source prefix, the
// longest first; then by metric, the lowest first.
func order(a, b route) int {
	if c := comparePrefix(a.to, b.to); c != 0 {
		return c
	}
	return cmp.Or(
		cmp.Compare(b.TOS, a.TOS),
		cmp.Compare(sourceBits(b.Route), sourceBits(a.Route)), a.From.Addr().Compare(b.From.Addr()),
		cmp.Compare(a.Metric, b.Metric),
	)
}

func comparePrefix(a, b netip.Prefix) int {
	if c := a.Addr().Compare(b.Addr()); c != 0 {
		return c
	}
	return cmp.Compare(a.Bits(), b.Bits())
}

func sourceBits(r *netstate.Route) int { return max(r.From.Bits(), 0) }

// all yields the groups of routes whose prefix holds a, from the longest prefix.
func (t *table) all(a netip.Addr, yield func([]route) bool) {
	for _, n := range t.lengths {
		p, err := a.Prefix(n)
		if err != nil {
			return
		}
		i, found := slices.BinarySearchFunc(t.routes, p, func(r route, p netip.Prefix) int { return comparePrefix(r.to, p) })
		if !found {
			continue
		}
		j := i + 1
		for j < len(t.routes) && t.routes[j].to == p {
			j++
		}
		if !yield(t.routes[i:j]) {
			return
		}
	}
}
