package fib_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/viarule/viarule/internal/fib"
	"github.com/viarule/viarule/internal/netstate"
)

// Everything is drawn from small pools, so that prefixes overlap, rules select,
// gotos arrive and tables are shared.

func pick[T any](t *rapid.T, label string, from ...T) T {
	return rapid.SampledFrom(from).Draw(t, label)
}

// rarely draws true one time in n.
func rarely(t *rapid.T, n int, label string) bool {
	return rapid.IntRange(0, n-1).Draw(t, label) == n-1
}

func family(t *rapid.T) netstate.Family { return pick(t, "family", netstate.IPv4, netstate.IPv6) }

// host draws an address below 10.0.0.0/8 or 2001:db8::/32.
func host(t *rapid.T, f netstate.Family, label string) netip.Addr {
	return hostAddr(f, byte(rapid.IntRange(0, 4).Draw(t, label)), pick[byte](t, label, 1, 2, 3, 9))
}

func hostAddr(f netstate.Family, net, last byte) netip.Addr {
	if f == netstate.IPv6 {
		return netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 0, net, 15: last})
	}
	return netip.AddrFrom4([4]byte{10, net, 0, last})
}

func prefix(t *rapid.T, f netstate.Family, label string) netip.Prefix {
	bits := pick(t, label, 8, 16, 24, 32)
	if f == netstate.IPv6 {
		bits = pick(t, label, 32, 48, 64, 128)
	}
	return netip.PrefixFrom(host(t, f, label), bits).Masked()
}

// scene is what a world's links and kernel allow to draw.
type scene struct {
	devices []string // veths, ports of VRFs behind the others
	vrfs    []string // none where the kernel has none
	home    bool     // whether the kernel knows home addresses (CONFIG_IPV6_MIP6)
	byVRF   bool     // whether rules can select by a VRF as link (Linux 6.15)
}

// links lists all links but lo and the veths' other ends.
func (sc *scene) links() []string { return append(slices.Clone(sc.devices), sc.vrfs...) }

// addrs gives ip's lines that change the addresses of all links.
func (sc *scene) addrs(t *rapid.T) []string {
	lines := []string{"addr flush dev lo scope global", "addr flush dev lo scope site", "addr flush dev lo scope link"}
	for i, dev := range sc.devices {
		lines = append(lines, "addr flush dev "+dev, fmt.Sprintf("addr add fe80::%d/64 dev %s nodad", i+1, dev))
	}
	for _, dev := range sc.vrfs {
		lines = append(lines, "addr flush dev "+dev)
	}
	lines = append(lines, rapid.SliceOfN(rapid.Custom(sc.addr4), 0, 8+len(sc.vrfs)).Draw(t, "IPv4 addresses")...)
	return append(lines, rapid.SliceOfN(rapid.Custom(sc.addr6), 0, 10+2*len(sc.vrfs)).Draw(t, "IPv6 addresses")...)
}

func (sc *scene) addr4(t *rapid.T) string {
	dev := pick(t, "dev", append(sc.links(), "lo")...)
	a := host(t, netstate.IPv4, "address")
	if rarely(t, 4, "has peer") {
		return fmt.Sprintf("addr add %s peer %s/24 dev %s", a, host(t, netstate.IPv4, "peer"), dev)
	}
	scopes := []string{"global", "global", "link", "host"}
	if dev == "lo" {
		scopes = scopes[:3] // the next world flushes by scope, and keeps 127.0.0.1
	}
	return fmt.Sprintf("addr add %s/%d dev %s scope %s", a, pick(t, "bits", 24, 16, 32), dev, pick(t, "scope", scopes...))
}

// kinds6 are addresses of every scope and label, for sources and destinations.
var kinds6 = []string{"fe80::99", "fec0::9", "fd00::9", "2002::9", "2001::9", "2001:10::9", "2001:11::9", "3ffe::9", "::9", "2001:db9::9"}

func (sc *scene) addr6(t *rapid.T) string {
	dev := pick(t, "dev", append(sc.links(), "lo")...)
	a := host(t, netstate.IPv6, "address")
	if rarely(t, 3, "special address") {
		a = netip.MustParseAddr(pick(t, "address", kinds6...))
	}
	line := fmt.Sprintf("addr add %s/%d dev %s", a, pick(t, "bits", 64, 64, 48, 128), dev)
	kinds := []string{"nodad", "nodad", "nodad noprefixroute", "nodad valid_lft forever preferred_lft 0"}
	switch {
	case dev == "e1":
		kinds = append(kinds, "", "optimistic")
	case dev == "e2":
		kinds = append(kinds, "nodad mngtmpaddr")
	}
	if sc.home {
		kinds = append(kinds, "nodad home")
	}
	return line + " " + pick(t, "kind", kinds...)
}

// inputs lists the links by which packets come in. Those of a port come in by its
// VRF in the end (l3mdev_l3_rcv).
func (sc *scene) inputs() []string {
	return slices.DeleteFunc(sc.links(), func(dev string) bool { return dev == "e3" })
}

// selectable lists the links by which rules select.
func (sc *scene) selectable() []string {
	if sc.byVRF {
		return sc.links()
	}
	return slices.Clone(sc.devices)
}

// tables lists the tables with routes, by how many are drawn for each.
func (sc *scene) tables() []uint32 {
	tables := []uint32{100, 100, 101, 102, netstate.TableMain}
	for i := range sc.vrfs {
		tables = append(tables, firstVRFTable+uint32(i))
	}
	return tables
}

// contents is what is drawn for a world besides its addresses.
type contents struct {
	nexthops []netstate.Nexthop
	routes   []netstate.Route
	appended []netstate.Route // that may have the keys of others
	rules    []netstate.Rule
	deleted  []netstate.Rule // of the kernel's own
}

func (sc *scene) contents(t *rapid.T, s *netstate.State) contents {
	var c contents
	for id := range uint32(8) {
		if !rarely(t, 6, "no next hop object") {
			c.nexthops = append(c.nexthops, sc.nexthop(t, id+1))
		}
	}
	objects := 1 // in this share of the routes, of four
	if rarely(t, 4, "most routes by next hop objects") {
		objects = 3
	}
	c.routes = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) netstate.Route { return sc.route(t, s, objects) }), 0, 30).Draw(t, "routes")
	c.dropRefused()
	c.appended = rapid.SliceOfN(rapid.Custom(sc.appended), 0, 6).Draw(t, "appended routes")
	c.rules = rapid.SliceOfN(rapid.Custom(sc.rule), 0, 16).Draw(t, "rules")
	return c
}

// dropRefused leaves out source-specific routes that the kernel would refuse, since
// there is one with the same key: see doc.go on what IPv6 then makes of that one.
func (c *contents) dropRefused() {
	seen := map[netstate.RouteKey]bool{}
	c.routes = slices.DeleteFunc(c.routes, func(r netstate.Route) bool {
		again := r.From.IsValid() && seen[r.Key()]
		seen[r.Key()] = true
		return again
	})
}

// changes lists what makes the contents, less the appended routes.
func (c *contents) changes() []netstate.Change {
	var cs []netstate.Change
	for i := range c.nexthops {
		cs = append(cs, netstate.Change{Verb: netstate.Add, Nexthop: &c.nexthops[i]})
	}
	for i := range c.routes {
		cs = append(cs, netstate.Change{Verb: netstate.Add, Route: &c.routes[i]})
	}
	for i := range c.rules {
		cs = append(cs, netstate.Change{Verb: netstate.Add, Rule: &c.rules[i]})
	}
	for i := range c.deleted {
		cs = append(cs, netstate.Change{Verb: netstate.Delete, Rule: &c.deleted[i]})
	}
	return cs
}

// moveLocal puts the rule of the table local behind others, which the host's own
// addresses are then subject to.
func (c *contents) moveLocal() {
	for _, f := range netstate.Families {
		r := localRule(f)
		c.deleted = append(c.deleted, r)
		r.Priority, r.Protocol = 12, netstate.ProtocolObject
		c.rules = append(c.rules, r)
	}
}

// localRule is the kernel's own first rule.
func localRule(f netstate.Family) netstate.Rule {
	const kernels = 2 // RTPROT_KERNEL
	return netstate.Rule{Family: f, Action: netstate.ToTable, Table: netstate.TableLocal, Protocol: kernels}
}

// drawRealms gives some IPv4 rules realms.
func (c *contents) drawRealms(t *rapid.T) {
	for i := range c.rules {
		if c.rules[i].Family == netstate.IPv4 && rapid.Bool().Draw(t, "has realms") {
			c.rules[i].Realms = 0x30004
		}
	}
}

// forgetSources makes source-specific routes plain ones, for worlds from which
// routes vanish: see doc.go on what IPv6 then makes of them.
func (c *contents) forgetSources() {
	for i := range c.routes {
		c.routes[i].From = netip.Prefix{}
	}
}

// appends gives ip's lines for the appended routes, for which netstate has no verb.
func (c *contents) appends() []string {
	var lines []string
	for i := range c.appended {
		r := &c.appended[i]
		line := fmt.Sprintf("route append %s dev %s table %d metric %d proto %d", r.To, r.Hop.Dev, r.Table, r.Metric, r.Protocol)
		if r.Family == netstate.IPv6 {
			line += " pref " + map[uint8]string{0: "medium", 1: "high", 3: "low"}[r.Pref]
		}
		lines = append(lines, line)
	}
	return lines
}

func (sc *scene) rule(t *rapid.T) netstate.Rule {
	f := family(t)
	r := netstate.Rule{Family: f, Priority: rapid.Uint32Range(1, 20).Draw(t, "priority"), Protocol: netstate.ProtocolObject, Not: rarely(t, 6, "not")}
	if rarely(t, 10, "priority of the kernel's rules") {
		r.Priority = pick[uint32](t, "priority", 0, 32766, 32767, 50000)
	}
	if rarely(t, 3, "has from") {
		r.From = prefix(t, f, "from")
	}
	if rarely(t, 3, "has to") {
		r.To = prefix(t, f, "to")
	}
	if rarely(t, 6, "has iif") {
		r.IIF = pick(t, "iif", append(sc.selectable(), "lo", "lo", "gone")...)
	}
	if rarely(t, 8, "has oif") {
		r.OIF = pick(t, "oif", append(sc.selectable(), "gone")...)
	}
	if rarely(t, 5, "has mark") {
		r.Mark = pick(t, "mark", netstate.Mark{Value: 1, Mask: 1}, netstate.Mark{Value: 0x100, Mask: 0xff00}, netstate.Mark{Value: 3, Mask: 0xffffffff},
			netstate.Mark{Mask: 0xff}, netstate.Mark{Value: 0x80000000, Mask: 0x80000000})
	}
	switch rapid.IntRange(0, 9).Draw(t, "TOS or DSCP") {
	case 8:
		r.TOS = pick[uint8](t, "tos", 0x08, 0x10, 0x28)
	case 9:
		r.DSCP = netstate.Some(pick[uint32](t, "dscp", 0, 2, 4, 10))
	}
	if rarely(t, 6, "has ipproto") {
		r.Proto = pick[uint8](t, "ipproto", unix.IPPROTO_TCP, unix.IPPROTO_UDP, icmp(f))
	}
	if rarely(t, 8, "has ports") {
		r.DPort = pick(t, "dport", netstate.PortRange{Lo: 80, Hi: 80}, netstate.PortRange{Lo: 1, Hi: 443}, netstate.PortRange{Lo: 443, Hi: 65534})
	}
	if rarely(t, 8, "has source ports") {
		r.SPort = pick(t, "sport", netstate.PortRange{Lo: 80, Hi: 80}, netstate.PortRange{Lo: 1024, Hi: 6000})
	}
	if rarely(t, 8, "has uids") {
		r.UID = pick(t, "uidrange", netstate.UIDRange{Set: true}, netstate.UIDRange{Set: true, Lo: 1, Hi: 1000}, netstate.UIDRange{Set: true, Lo: 1000, Hi: 0xfffffffe})
	}
	if rarely(t, 20, "has tun_id") {
		r.TunID = 7
	}
	switch rapid.IntRange(0, 11).Draw(t, "action") {
	case 7, 8, 9:
		r.Action = netstate.Goto
		r.Goto = r.Priority + rapid.Uint32Range(1, 8).Draw(t, "goto")
	case 10:
		r.Action = netstate.Nop
	case 11:
		r.Action = pick(t, "reject", netstate.Blackhole, netstate.Unreachable, netstate.Prohibit)
	default:
		r.Action = netstate.ToTable
		if r.L3MDev = len(sc.vrfs) > 0 && rarely(t, 4, "l3mdev"); !r.L3MDev {
			r.Table = pick(t, "table", append(sc.tables(), netstate.TableLocal, 999)...)
		}
		if rarely(t, 4, "suppresses lengths") {
			r.SuppressPrefixLength = netstate.Some(pick[uint32](t, "suppress_prefixlength", 0, 8, 16, 48))
		}
		if rarely(t, 4, "suppresses groups") {
			r.SuppressIfGroup = netstate.Some(pick[uint32](t, "suppress_ifgroup", 0, 1, 2))
		}
	}
	return r
}

func icmp(f netstate.Family) uint8 {
	if f == netstate.IPv6 {
		return unix.IPPROTO_ICMPV6
	}
	return unix.IPPROTO_ICMP
}

// route draws a route, in objects of four cases by a next hop object.
func (sc *scene) route(t *rapid.T, s *netstate.State, objects int) netstate.Route {
	f := family(t)
	r := netstate.Route{
		Family: f, Protocol: netstate.ProtocolObject, To: prefix(t, f, "to"),
		Table:  pick(t, "table", sc.tables()...),
		Type:   pick(t, "type", netstate.RouteUnicast, netstate.RouteUnicast, netstate.RouteUnicast, netstate.RouteUnicast, netstate.RouteUnicast, netstate.RouteThrow, netstate.RouteLocal, netstate.RouteBlackhole, netstate.RouteUnreachable, netstate.RouteProhibit, netstate.RouteBroadcast, netstate.RouteAnycast, netstate.RouteMulticast),
		Metric: pick[uint32](t, "metric", 0, 0, 10, 20),
	}
	if rarely(t, 4, "default") {
		r.To = f.Default()
	}
	if f == netstate.IPv6 {
		if r.Metric == 0 {
			r.Metric = 1024
		}
		if rarely(t, 5, "has from") {
			r.From = prefix(t, f, "from")
		}
		if rarely(t, 8, "has pref") {
			r.Pref = pick[uint8](t, "pref", 1, 3)
		}
	} else if rarely(t, 5, "has tos") {
		r.TOS = pick[uint8](t, "tos", 0x08, 0x10)
	}
	if !r.Type.Forwards() {
		if rarely(t, 12/objects, "rejects by a next hop object") {
			r.NexthopID = nexthopID(t, f)
			r.From = netip.Prefix{}
			if f == netstate.IPv4 && r.NexthopID == 3 {
				r.NexthopID = 2 // of routes by a blackhole the kernel does not list the type
			}
		}
		return r
	}
	if f == netstate.IPv4 {
		// The kernel takes no wider ones (fib_props).
		switch r.Type {
		case netstate.RouteLocal:
			r.Scope = netstate.ScopeHost
		case netstate.RouteBroadcast, netstate.RouteAnycast, netstate.RouteMulticast:
			r.Scope = netstate.ScopeLink
		}
	}
	if rarely(t, 4, "has src") {
		if as := addrsOf(s, f); len(as) > 0 {
			r.Src = pick(t, "src", as...)
		}
	}
	switch n := rapid.IntRange(0, 3).Draw(t, "hops"); {
	case n > 3-objects:
		r.NexthopID = nexthopID(t, f)
		if f == netstate.IPv6 {
			r.From = netip.Prefix{}
		}
	case rarely(t, 5, "several hops"):
		for range rapid.IntRange(2, 3).Draw(t, "hops") {
			h := sc.hop(t, f)
			h.Weight = uint16(rapid.IntRange(1, 3).Draw(t, "weight"))
			r.Hops = append(r.Hops, h)
		}
	default:
		r.Hop = sc.hop(t, f)
	}
	if r.Scope != netstate.ScopeGlobal && r.Hop.Via.Is4() {
		r.Hop.Via, r.Hop.OnLink = netip.Addr{}, false // a gateway would be behind the scope (fib_check_nh_v4_gw)
	}
	if f == netstate.IPv4 && r.Type == netstate.RouteUnicast && !r.Hop.Via.IsValid() && r.NexthopID == 0 && r.Hops == nil {
		r.Scope = netstate.ScopeLink
	}
	return r
}

// nexthopID draws an object for a route. IPv4 takes objects of both families, IPv6
// its own, and no source with them.
func nexthopID(t *rapid.T, f netstate.Family) uint32 {
	if f == netstate.IPv6 {
		return pick[uint32](t, "nhid", 5, 6, 7, 8, 8, 8)
	}
	return pick[uint32](t, "nhid", 1, 2, 3, 4, 4, 4, 5, 8)
}

func (sc *scene) appended(t *rapid.T) netstate.Route {
	f := family(t)
	r := netstate.Route{
		Family: f, Protocol: netstate.ProtocolObject, Type: netstate.RouteUnicast, To: prefix(t, f, "to"),
		Table: pick(t, "table", sc.tables()...), Metric: pick[uint32](t, "metric", 10, 20), Hop: netstate.Hop{Dev: pick(t, "dev", sc.devices...)},
	}
	if f == netstate.IPv6 {
		r.Pref = pick[uint8](t, "pref", 0, 1, 3)
	}
	return r
}

// addrsOf lists the host's addresses of a family.
func addrsOf(s *netstate.State, f netstate.Family) []netip.Addr {
	var as []netip.Addr
	for i := range s.Addrs {
		if a := s.Addrs[i].Prefix.Addr(); netstate.FamilyOf(a) == f && !a.IsLinkLocalUnicast() {
			as = append(as, a)
		}
	}
	return as
}

func (sc *scene) hop(t *rapid.T, f netstate.Family) netstate.Hop {
	h := netstate.Hop{Dev: pick(t, "dev", sc.links()...)}
	if rapid.Bool().Draw(t, "has gateway") {
		if f == netstate.IPv4 && rarely(t, 6, "via inet6") {
			f = netstate.IPv6
		}
		h.Via, h.OnLink = host(t, f, "via"), true
	}
	return h
}

// nexthop draws an object: 1 to 3 are IPv4, 5 to 7 IPv6, 4 and 8 groups of them.
func (sc *scene) nexthop(t *rapid.T, id uint32) netstate.Nexthop {
	h := netstate.Nexthop{ID: id, Family: netstate.IPv4, Protocol: netstate.ProtocolObject}
	if id > 4 {
		h.Family = netstate.IPv6
	}
	switch {
	case id%4 == 0:
		h.Family, h.Group = 0, []netstate.GroupHop{{ID: id - 3, Weight: 1}, {ID: id - 2, Weight: 1}}
	case id%4 == 3 && rapid.Bool().Draw(t, "blackhole"):
		h.Blackhole = true
	default:
		h.Hop = sc.hop(t, h.Family)
	}
	return h
}

// flows gives the n flows of a seed. They are not drawn by rapid, which would
// need a run of the test for each one that it leaves out of a failed world.
func (sc *scene) flows(seed uint64, s netstate.State, n int) []fib.Flow {
	d := dice{rand.New(rand.NewPCG(seed, 0)), sc}
	flows := make([]fib.Flow, n)
	for i := range flows {
		flows[i] = d.flow(&s)
	}
	return flows
}

type dice struct {
	*rand.Rand
	*scene
}

func one[T any](d dice, from ...T) T { return from[d.IntN(len(from))] }

func (d dice) host(f netstate.Family) netip.Addr {
	return hostAddr(f, byte(d.IntN(5)), one[byte](d, 1, 2, 3, 9))
}

func (d dice) flow(s *netstate.State) fib.Flow {
	f := one(d, netstate.IPv4, netstate.IPv6)
	flow := fib.Flow{
		To:    d.host(f),
		Mark:  one[uint32](d, 0, 0, 1, 3, 0x100, 0xff01, 0x80000003),
		TOS:   one[uint8](d, 0, 0, 0x08, 0x10, 0x28, 0xb0, 0x13, 0x09),
		Proto: one[uint8](d, unix.IPPROTO_TCP, unix.IPPROTO_UDP, icmp(f)),
		SPort: one[uint16](d, 80, 1023, 5000, 6000, 40000),
		DPort: one[uint16](d, 80, 443, 444, 8080, 65535),
	}
	if flow.Proto == icmp(f) {
		flow.SPort, flow.DPort = 0, 0
	}
	if f == netstate.IPv4 && d.IntN(16) == 0 {
		flow.To = hostAddr(f, byte(d.IntN(5)), 255)
	}
	if d.IntN(8) == 0 {
		flow.To = one(d, netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("127.0.0.1"))
		if f == netstate.IPv6 {
			flow.To = netip.MustParseAddr(one(d, append([]string{"::1", "ff0e::99", "ff05::99"}, kinds6...)...))
		}
	}
	switch d.IntN(5) {
	case 0: // comes in
		flow.IIF = one(d, d.inputs()...)
		if flow.To.IsLoopback() || flow.To.IsMulticast() {
			// The one is a martian; of the other RTM_GETROUTE asks the multicast
			// routing (ip6mr_get_route).
			flow.To = d.host(f)
		}
		flow.From = d.host(f)
		return flow
	case 1:
		flow.From = d.host(f)
	case 2:
		if as := addrsOf(s, f); len(as) > 0 {
			flow.From = one(d, as...)
		}
	}
	if f == netstate.IPv4 && d.IntN(50) == 0 {
		flow.From = netip.MustParseAddr(one(d, "127.0.0.1", "224.0.0.1", "255.255.255.255"))
	}
	flow.UID = one[uint32](d, 0, 1, 999, 1000, 1001, 70000)
	if d.IntN(4) == 0 {
		flow.OIF = one(d, d.links()...)
	}
	return flow
}
