package impact_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/viarule/viarule/internal/fib"
	"github.com/viarule/viarule/internal/impact"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/netstate/netstatetest"
	"github.com/viarule/viarule/internal/sim"
	"github.com/viarule/viarule/internal/snapshot"
)

// The links have the names that netstatetest's tables of nftables know. port is one
// of a bridge, veth0 and veth1 differ in nothing.
var links = []string{"eth0", "eth0.100", "fifteen-letters", "port", "veth0", "veth1"}

func pick[T any](t *rapid.T, label string, from ...T) T {
	return rapid.SampledFrom(from).Draw(t, label)
}

func rarely(t *rapid.T, n int, label string) bool {
	return rapid.IntRange(0, n-1).Draw(t, label) == n-1
}

// address draws one of few: of the host, near it, far away, and odd ones.
func address(t *rapid.T, f netstate.Family) netip.Addr {
	if rarely(t, 8, "odd") {
		if f == netstate.IPv6 {
			return pick(t, "odd address", netip.MustParseAddr("::1"), netip.MustParseAddr("ff02::5"), netip.MustParseAddr("fe80::9"), netip.MustParseAddr("2620:fe::9"))
		}
		return pick(t, "odd address", netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("224.0.0.5"), netip.MustParseAddr("255.255.255.255"),
			netip.MustParseAddr("10.1.0.255"), netip.MustParseAddr("9.9.9.9"), netip.MustParseAddr("0.0.0.0"))
	}
	net, last := byte(rapid.IntRange(0, 3).Draw(t, "net")), pick[byte](t, "host", 1, 2, 9)
	if f == netstate.IPv6 {
		return netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 5: net, 15: last})
	}
	return netip.AddrFrom4([4]byte{10, net, 0, last})
}

func prefix(t *rapid.T, f netstate.Family) netip.Prefix {
	bits := pick(t, "bits", 8, 24, 31, 32)
	if f == netstate.IPv6 {
		bits = pick(t, "bits", 32, 48, 127, 128)
	}
	p, _ := address(t, f).Prefix(bits)
	return p
}

// selectors draws what the rules of a world may ask for: with all of it at once there
// are too many combinations to try a hundred worlds in a short time.
func selectors(t *rapid.T) []string {
	all := []string{"iif", "oif", "fwmark", "proto", "dport", "sport", "tos", "dscp", "uid", "tun"}
	out := []string{"from", "from", "to"}
	for range 3 {
		out = append(out, rapid.SampledFrom(all).Draw(t, "selectors"))
	}
	return out
}

func drawRule(t *rapid.T, f netstate.Family, selectors []string) netstate.Rule {
	r := netstate.Rule{Family: f, Priority: 100 + uint32(rapid.IntRange(0, 7).Draw(t, "priority")), Not: rarely(t, 6, "not"), Protocol: netstate.ProtocolObject}
	for range rapid.IntRange(0, 2).Draw(t, "selectors") {
		switch pick(t, "selector", selectors...) {
		case "from":
			r.From = prefix(t, f)
		case "to":
			r.To = prefix(t, f)
		case "iif":
			r.IIF = pick(t, "iif", "lo", "eth0", "br0", "veth1")
		case "oif":
			r.OIF = pick(t, "oif", "eth0", "veth0")
		case "fwmark":
			r.Mark = pick(t, "mark", netstate.Mark{Value: 1, Mask: 3}, netstate.Mark{Value: 2, Mask: 2}, netstate.Mark{Mask: 3}, netstate.Mark{Value: 0x100, Mask: 0xff00})
		case "proto":
			r.Proto = pick[uint8](t, "ipproto", 6, 17)
		case "dport":
			r.DPort = pick(t, "dport", netstate.PortRange{Lo: 80, Hi: 80}, netstate.PortRange{Lo: 1, Hi: 443}, netstate.PortRange{Lo: 100, Hi: 65535})
		case "sport":
			r.SPort = netstate.PortRange{Lo: 80, Hi: 90}
		case "tos":
			r.TOS = pick[uint8](t, "tos", 0x08, 0x10)
		case "dscp":
			r.DSCP = netstate.Some(pick[uint32](t, "dscp", 0, 2, 10))
		case "uid":
			r.UID = pick(t, "uidrange", netstate.UIDRange{Set: true}, netstate.UIDRange{Set: true, Lo: 1000, Hi: 2000})
		case "tun":
			r.TunID = 7
		}
	}
	r.Action = pick(t, "action", netstate.ToTable, netstate.ToTable, netstate.ToTable, netstate.ToTable, netstate.Goto, netstate.Prohibit, netstate.Nop)
	switch r.Action {
	case netstate.ToTable:
		r.Table = pick[uint32](t, "table", 100, 101, netstate.TableMain)
		if rarely(t, 4, "suppress") {
			r.SuppressPrefixLength = netstate.Some(pick[uint32](t, "length", 0, 24, 48))
		}
		if f == netstate.IPv4 && rarely(t, 20, "realms") {
			r.Realms = 3
		}
	case netstate.Goto:
		r.Goto = r.Priority + uint32(rapid.IntRange(1, 4).Draw(t, "target"))
	}
	if rarely(t, 30, "unknown") {
		r.Unknown = "\x06\x00\x63\x00\x01\x00\x00\x00"
	}
	return netstate.CanonicalRule(r)
}

func drawRoute(t *rapid.T, f netstate.Family) netstate.Route {
	r := netstate.Route{
		Family: f, Table: pick[uint32](t, "table", 100, 101, netstate.TableMain, netstate.TableMain), To: f.Default(),
		Metric: pick[uint32](t, "metric", 0, 0, 20), Protocol: netstate.ProtocolObject,
	}
	if !rarely(t, 3, "default") {
		r.To = prefix(t, f)
	}
	r.Type = pick(t, "type", netstate.RouteUnicast, netstate.RouteUnicast, netstate.RouteUnicast, netstate.RouteUnicast, netstate.RouteUnreachable,
		netstate.RouteBlackhole, netstate.RouteThrow, netstate.RouteLocal)
	if f == netstate.IPv4 && rarely(t, 8, "tos") {
		r.TOS = 0x08
	}
	if f == netstate.IPv6 && rarely(t, 6, "from") {
		r.From = prefix(t, f)
	}
	if !r.Type.Forwards() {
		return netstate.CanonicalRoute(r)
	}
	hop := func() netstate.Hop {
		h := netstate.Hop{Dev: pick(t, "link", "eth0", "eth0.100", "fifteen-letters", "br0", "veth0")}
		if rapid.Bool().Draw(t, "gateway") {
			h.Via = pick(t, "via", address(t, f))
		}
		return h
	}
	switch rapid.IntRange(0, 9).Draw(t, "hops") {
	case 9:
		r.Hops = []netstate.Hop{hop(), hop()}
	case 8:
		r.NexthopID, r.Hop = 7, netstate.Hop{Dev: "eth0"}
	default:
		r.Hop = hop()
	}
	if rarely(t, 4, "src") {
		r.Src = address(t, f)
	}
	return netstate.CanonicalRoute(r)
}

// drawInput draws a host; with external, one with marks and the rules that ask for them.
func drawInput(t *rapid.T, selectors []string, external bool) sim.Input {
	var in sim.Input
	s := &in.State
	nft := external || rapid.Bool().Draw(t, "nftables")
	s.Links = append(s.Links, netstate.Link{Index: 1, Name: "lo", Up: true, Carrier: true, Loopback: true}, netstate.Link{Index: 2, Name: "br0", Kind: "bridge", Up: true, Carrier: true})
	for i, name := range links {
		l := netstate.Link{Index: 3 + i, Name: name, Kind: "veth", Up: !rarely(t, 12, "down"), Carrier: true}
		if name == "port" {
			l.Master = "br0"
		}
		s.Links = append(s.Links, l)
	}
	s.Nexthops = []netstate.Nexthop{{ID: 7, Blackhole: rapid.Bool().Draw(t, "blackhole"), Family: netstate.IPv4}}
	for _, f := range netstate.Families {
		kernel := func(priority, table uint32) {
			s.Rules = append(s.Rules, netstate.Rule{Family: f, Priority: priority, Action: netstate.ToTable, Table: table, Protocol: 2})
		}
		local := func(typ netstate.RouteType, table uint32, p netip.Prefix, dev string, scope netstate.Scope, src netip.Addr) {
			s.Routes = append(s.Routes, netstate.CanonicalRoute(netstate.Route{Family: f, Table: table, To: p, Type: typ, Scope: scope, Protocol: 2, Src: src, Hop: netstate.Hop{Dev: dev}}))
		}
		kernel(0, netstate.TableLocal)
		for range rapid.IntRange(0, 6).Draw(t, "rules") {
			s.Rules = append(s.Rules, drawRule(t, f, selectors))
		}
		if external || nft && rapid.Bool().Draw(t, "marked") {
			s.Rules = append(s.Rules, netstate.Rule{Family: f, Priority: 200, Mark: netstate.Mark{Value: 1, Mask: 3}, Action: netstate.ToTable, Table: 102, Protocol: netstate.ProtocolObject})
			s.Routes = append(s.Routes, netstate.CanonicalRoute(netstate.Route{Family: f, Table: 102, Hop: netstate.Hop{Dev: "eth0.100"}}))
		}
		kernel(32766, netstate.TableMain)
		kernel(32767, netstate.TableDefault)
		if f == netstate.IPv4 {
			local(netstate.RouteLocal, netstate.TableLocal, netip.MustParsePrefix("127.0.0.0/8"), "lo", netstate.ScopeHost, netip.MustParseAddr("127.0.0.1"))
		} else {
			local(netstate.RouteLocal, netstate.TableLocal, netip.MustParsePrefix("::1/128"), "lo", 0, netip.Addr{})
		}
		for i, dev := range []string{"eth0", "eth0.100", "br0"} {
			a := netip.AddrFrom4([4]byte{10, byte(i), 0, 1})
			if f == netstate.IPv6 {
				a = netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 5: byte(i), 15: 1})
			}
			if rarely(t, 4, "no address") {
				continue
			}
			bits := map[netstate.Family]int{netstate.IPv4: 24, netstate.IPv6: 48}[f]
			p := netip.PrefixFrom(a, bits)
			s.Addrs = append(s.Addrs, netstate.Addr{Dev: dev, Prefix: p})
			local(netstate.RouteLocal, netstate.TableLocal, netip.PrefixFrom(a, a.BitLen()), dev, netstate.ScopeHost, a)
			local(netstate.RouteUnicast, netstate.TableMain, p.Masked(), dev, netstate.ScopeLink, a)
			if f == netstate.IPv4 {
				local(netstate.RouteBroadcast, netstate.TableLocal, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i), 0, 255}), 32), dev, netstate.ScopeLink, a)
			}
		}
		for range rapid.IntRange(0, 8).Draw(t, "routes") {
			s.Routes = append(s.Routes, drawRoute(t, f))
		}
	}
	if nft {
		s.Nft = []netstate.NftTable{drawNft(t)}
	}
	if rarely(t, 4, "forward chains") {
		s.Forward = netstatetest.ForwardChains().Draw(t, "forward")
	}
	set := func(v int, key string) {
		in.Sysctls = append(in.Sysctls, netstate.Sysctl{Key: key, Value: fmt.Sprint(v)})
	}
	set(rapid.IntRange(0, 5).Draw(t, "forwarding")&1, "net/ipv6/conf/all/forwarding")
	for _, l := range append([]string{"all", "br0", "lo"}, links...) {
		rp := 0
		if rarely(t, 4, "rp_filter") {
			rp = rapid.IntRange(1, 2).Draw(t, "rp_filter")
		}
		set(rp, "net/ipv4/conf/"+l+"/rp_filter")
		set(flagOf(!rarely(t, 8, "forwarding")), "net/ipv4/conf/"+l+"/forwarding")
		set(flagOf(rarely(t, 3, "src_valid_mark")), "net/ipv4/conf/"+l+"/src_valid_mark")
		set(flagOf(rarely(t, 9, "accept_local")), "net/ipv4/conf/"+l+"/accept_local")
		set(flagOf(rarely(t, 9, "send_redirects")), "net/ipv4/conf/"+l+"/send_redirects")
		set(0, "net/ipv4/conf/"+l+"/route_localnet")
		set(flagOf(rarely(t, 12, "disable_ipv6")), "net/ipv6/conf/"+l+"/disable_ipv6")
		set(flagOf(rarely(t, 3, "force_forwarding")), "net/ipv6/conf/"+l+"/force_forwarding")
	}
	slices.SortFunc(in.Sysctls, func(a, b netstate.Sysctl) int { return strings.Compare(a.Key, b.Key) })
	return in
}

func flagOf(b bool) int {
	if b {
		return 1
	}
	return 0
}

// drawNft draws a table whose marks the rules know and whose maps hold addresses that
// packets have.
func drawNft(t *rapid.T) netstate.NftTable {
	if !rarely(t, 3, "any table") {
		return drawNetworks(t)
	}
	table := netstatetest.NftTable().Draw(t, "table")
	for i := range table.Chains {
		for _, r := range table.Chains[i].Rules {
			for k := range r {
				if m := &r[k].Mark; m.Mask != 0 {
					m.Mask = 1 + m.Mask%3
					m.Value &= m.Mask
				}
				if r[k].Op == netstate.NftDrop && !rarely(t, 3, "drops") {
					r[k].Op = netstate.NftReturn // nearly all would be dropped
				}
			}
		}
	}
	for i := range table.Maps {
		m := &table.Maps[i]
		if len(m.Elems) > 0 && rapid.Bool().Draw(t, "near") {
			a := netip.AddrFrom4([4]byte{10, 1, 0, 0})
			if m.Family == netstate.IPv6 {
				a = netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 5: 1})
			}
			p, _ := a.Prefix(pick(t, "bits", 8, 24))
			m.Elems = []netstate.NftElem{{First: p.Addr(), Last: a.Next().Next(), Chain: m.Elems[0].Chain}}
		}
	}
	return netstate.CanonicalNft(table)
}

// drawChange draws what becomes of a host; with external, its marks or the rules for
// them change.
func drawChange(t *rapid.T, in sim.Input, selectors []string, external bool) sim.Input {
	var changes []*netstate.Change
	kinds := []string{"rule", "rule", "rule", "route", "route", "nft", "nft", "marked", "marked", "sysctl", "link", "nexthop", "accept"}
	if external {
		kinds = []string{"nft", "marked"}
	}
	for range rapid.IntRange(1, 3).Draw(t, "changes") {
		f := pick(t, "family", netstate.Families[:]...)
		c := &netstate.Change{Verb: netstate.Add}
		switch pick(t, "change", kinds...) {
		case "marked":
			i := slices.IndexFunc(in.State.Rules, func(r netstate.Rule) bool { return r.Priority == 200 && r.Family == f })
			if i < 0 {
				continue
			}
			c.Verb, c.Rule = netstate.Delete, &in.State.Rules[i]
		case "rule":
			if i := rapid.IntRange(0, 2*len(in.State.Rules)).Draw(t, "which"); i < len(in.State.Rules) && in.State.Rules[i].Protocol != 2 {
				c.Verb, c.Rule = netstate.Delete, &in.State.Rules[i]
			} else {
				r := drawRule(t, f, selectors)
				c.Rule = &r
			}
		case "route":
			if i := rapid.IntRange(0, 2*len(in.State.Routes)).Draw(t, "which"); i < len(in.State.Routes) {
				c.Verb, c.Route = netstate.Delete, &in.State.Routes[i]
			} else {
				r := drawRoute(t, f)
				c.Verb, c.Route = netstate.Replace, &r
			}
		case "nft":
			table := drawNft(t)
			if len(in.State.Nft) > 0 && rapid.Bool().Draw(t, "edited") {
				table = edited(t, in.State.Nft[0])
			}
			c.Verb, c.Nft = netstate.Replace, &table
			if rarely(t, 3, "gone") {
				c.Verb = netstate.Delete
			}
		case "sysctl":
			s := rapid.SampledFrom(in.Sysctls).Draw(t, "sysctl")
			s.Value = pick(t, "value", "0", "1", "2")
			c.Verb, c.Sysctl = netstate.Replace, &s
		case "accept":
			if len(in.State.Forward) == 0 {
				continue
			}
			a := netstate.Accept{NftName: rapid.SampledFrom(in.State.Forward).Draw(t, "chain").NftName, In: pick(t, "pattern", "veth*", "eth*", "v*"), Comment: "viarule PodNetwork/pods"}
			if rapid.Bool().Draw(t, "out") {
				a.In, a.Out = "", a.In
			}
			c.Accept = &a
		case "link":
			c.Verb, c.Link = netstate.Delete, &netstate.Link{Name: pick(t, "link", links...)}
		case "nexthop":
			c.Verb, c.Nexthop = netstate.Replace, &netstate.Nexthop{ID: 7, Blackhole: rapid.Bool().Draw(t, "blackhole"), Family: netstate.IPv4}
		}
		changes = append(changes, c)
	}
	out := in
	out.State = netstate.After(in.State, changes)
	out.Sysctls = netstate.AfterSysctls(in.Sysctls, changes)
	return out
}

// drawNetworks draws a table as external networks have it: requests by a link are
// marked, and so are the answers to them.
func drawNetworks(t *rapid.T) netstate.NftTable {
	out := netstate.NftTable{Name: netstate.NftTableObjects}
	mark, bit := netstate.Mark{Value: 1, Mask: 3}, netstate.Mark{Value: 4, Mask: 4}
	link := pick(t, "its link", "eth0.100", "eth0.100", "eth0", "br0")
	in := netstate.NftStmt{Op: netstate.NftIIFName, Link: link}
	reply, tracked := netstate.NftStmt{Op: netstate.NftReply}, netstate.NftStmt{Op: netstate.NftIfCtMark, Mark: bit}
	var lookups, answers []netstate.NftRule
	for i, f := range netstate.Families {
		if rarely(t, 5, "not this family") {
			continue
		}
		p := prefix(t, f)
		if rapid.Bool().Draw(t, "an address of the host") {
			a := netip.AddrFrom4([4]byte{10, 1, 0, 1})
			if f == netstate.IPv6 {
				a = netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 5: 1, 15: 1})
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		last := p.Addr()
		for range 2 {
			if next := last.Next(); p.Contains(next) {
				last = next
			}
		}
		m := netstate.NftMap{Name: fmt.Sprintf("networks%d", 4+2*i), Family: f, Elems: []netstate.NftElem{{First: p.Addr(), Last: last, Chain: "net-a"}}}
		out.Maps = append(out.Maps, m)
		lookups = append(lookups, netstate.NftRule{{Op: netstate.NftDAddrMap, Family: f, Name: m.Name}})
		answers = append(answers, netstate.NftRule{reply, tracked, {Op: netstate.NftOrigMap, Family: f, Name: m.Name}})
	}
	requests := []netstate.NftRule{{in, {Op: netstate.NftJump, Name: "by-address"}}}
	if rarely(t, 3, "exempt") {
		requests = append(requests, netstate.NftRule{in, {Op: netstate.NftIfNotMark, Mark: mark}, {Op: netstate.NftFibMissing, Family: netstate.IPv4}, {Op: netstate.NftDrop}})
	}
	if rarely(t, 4, "by the mark alone") {
		answers = []netstate.NftRule{{reply, tracked, {Op: netstate.NftSetMark, Mark: mark}}}
	}
	set := netstate.NftStmt{Op: netstate.NftSetMark, Mark: mark}
	out.Chains = []netstate.NftChain{
		{Name: "request", Hook: netstate.NftHook{Type: "filter", Hook: "prerouting", Priority: -149}, Rules: requests},
		{Name: "by-address", Rules: lookups},
		{Name: "reply", Hook: netstate.NftHook{Type: "filter", Hook: "prerouting", Priority: -90}, Rules: answers},
		{Name: "output", Hook: netstate.NftHook{Type: "route", Hook: "output", Priority: -149}, Rules: answers},
		{Name: "clear", Hook: netstate.NftHook{Type: "filter", Hook: "forward", Priority: -150}, Rules: []netstate.NftRule{{{Op: netstate.NftSetMark, Mark: netstate.Mark{Mask: 3}}}}},
		{Name: "net-a", Rules: []netstate.NftRule{{in, set}, {in, {Op: netstate.NftOriginal}, {Op: netstate.NftSetCtMark, Mark: bit}}, {reply, tracked, set}}},
	}
	return netstate.CanonicalNft(out)
}

// edited gives a table with one rule less, or one element of a map less.
func edited(t *rapid.T, table netstate.NftTable) netstate.NftTable {
	table.Chains, table.Maps = slices.Clone(table.Chains), slices.Clone(table.Maps)
	if len(table.Maps) > 0 && rapid.Bool().Draw(t, "a map") {
		m := &table.Maps[rapid.IntRange(0, len(table.Maps)-1).Draw(t, "map")]
		if len(m.Elems) > 0 {
			m.Elems = m.Elems[1:]
		}
		return table
	}
	if len(table.Chains) > 0 {
		c := &table.Chains[rapid.IntRange(0, len(table.Chains)-1).Draw(t, "chain")]
		if len(c.Rules) > 0 {
			c.Rules = c.Rules[1:]
		}
	}
	return table
}

// drawRequest draws a packet that a table of networks marks, if it has such a table.
func drawRequest(t *rapid.T, tables []netstate.NftTable) sim.Packet {
	p := drawPacket(t)
	var elems []netstate.NftElem
	for i := range tables {
		for _, m := range tables[i].Maps {
			elems = append(elems, m.Elems...)
		}
	}
	if len(elems) == 0 {
		return p
	}
	e := rapid.SampledFrom(elems).Draw(t, "element")
	p = sim.Packet{Flow: fib.Flow{From: address(t, netstate.FamilyOf(e.First)), To: pick(t, "to", e.First, e.Last, e.First.Next()), Proto: p.Proto, SPort: p.SPort, DPort: p.DPort, TOS: p.TOS}}
	p.IIF = pick(t, "iif", "eth0.100", "eth0.100", "eth0", "br0")
	return p
}

func drawPacket(t *rapid.T) sim.Packet {
	f := pick(t, "family", netstate.Families[:]...)
	p := sim.Packet{Flow: fib.Flow{
		To: address(t, f), From: address(t, f), Mark: pick[uint32](t, "mark", 0, 0, 1, 2, 3, 0x100, 0x101, 0x80000000), TOS: pick[uint8](t, "tos", 0, 0, 0x08, 0x0b, 0x10, 0x28),
		Proto: pick[uint8](t, "ipproto", 0, 1, 6, 17), SPort: pick[uint16](t, "sport", 0, 80, 85, 40000), DPort: pick[uint16](t, "dport", 0, 80, 443, 500),
	}}
	switch {
	case rapid.Bool().Draw(t, "comes in"):
		p.IIF = pick(t, "iif", append([]string{"br0"}, links...)...)
		p.TunID = pick[uint64](t, "tunnel", 0, 0, 7)
	default:
		p.UID = pick[uint32](t, "uid", 0, 1000, 70000)
		if rapid.Bool().Draw(t, "no source") {
			p.From = netip.Addr{}
		}
		if rarely(t, 3, "bound") {
			p.OIF = pick(t, "oif", append([]string{"br0", "lo"}, links...)...)
		}
	}
	return p
}

// way is what counts as a packet's way: see the package comment. It is told apart
// from package impact's own word for it on purpose.
func way(p *sim.Packet, a *sim.Answer) string {
	s := a.Verdict.String()
	goes := a.Verdict
	if goes == sim.Unknown {
		goes = a.Otherwise
		s += " or " + goes.String()
	}
	if goes == sim.Dropped || goes == sim.Delivered {
		return s
	}
	for _, w := range append([]sim.Way{a.Way}, a.Ways...) {
		s += fmt.Sprint(" ", w.Dev, w.Via)
		if p.IIF == "" && (!p.From.IsValid() || p.From.IsUnspecified()) {
			s += fmt.Sprint(w.Source)
		}
	}
	return s
}

// fates gives a packet's ways in two worlds, and those of the answer, where it has one
// way for packets and another for answers.
func fates(w [2]*sim.World, p sim.Packet) (own, answers [2]string) {
	var back [2]sim.Packet
	tracked, answered := false, true
	for i := range w {
		a := w[i].Run(p, sim.Conn{})
		own[i] = way(&p, &a)
		b, c, none := w[i].Reply(p, &a)
		if none != "" {
			answered = false
			continue
		}
		with, without := w[i].Run(b, c), w[i].Run(b, sim.Conn{})
		back[i], answers[i] = b, way(&b, &with)
		tracked = tracked || answers[i] != way(&b, &without)
	}
	if p.IIF == "" || !answered || !tracked || back[0] != back[1] {
		answers = [2]string{}
	}
	return own, answers
}

// on gives the sysctls that are not 0.
func on(list []netstate.Sysctl) []netstate.Sysctl {
	return slices.DeleteFunc(slices.Clone(list), func(s netstate.Sysctl) bool { return s.Value == "0" })
}

// here says whether a packet's link is there before and after.
func here(w [2]*sim.World, p *sim.Packet) bool {
	name := p.IIF + p.OIF
	return name == "" || w[0].Link(name) != nil && w[1].Link(name) != nil
}

// TestClassesHoldExactlyWhatChanges: every packet whose way differs is in one class,
// no other packet is, and each class's example differs.
func TestClassesHoldExactlyWhatChanges(t *testing.T) {
	seen := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		may := selectors(t)
		external := rapid.Bool().Draw(t, "external")
		before := drawInput(t, may, external)
		after := drawChange(t, before, may, external)
		w := [2]*sim.World{sim.New(&before), sim.New(&after)}
		r := impact.Find(w[0], w[1], 1<<40)
		if r.Left != 0 {
			t.Fatalf("%d pairs left", r.Left)
		}
		fail := func(p *sim.Packet, what string) {
			own, answers := fates(w, *p)
			t.Fatalf("%s: %+v\n%q\nanswers %q\nbefore:\n%s%v\nafter:\n%s%v", what, *p, own, answers, before.State, on(before.Sysctls), after.State, on(after.Sysctls))
		}
		for i := range r.Classes {
			c := &r.Classes[i]
			if !c.Holds(&c.Example) {
				fail(&c.Example, "the example is not in its class")
			}
			own, answers := fates(w, c.Example)
			if c.Answer {
				own = answers
				seen["answers"]++
			}
			if own[0] == own[1] {
				fail(&c.Example, "the example does not differ")
			}
			s := c.Selector()
			if !strings.Contains(s.String(), "packets") {
				t.Fatalf("%q", s.String())
			}
			seen["classes"]++
		}
		packets := rapid.SliceOfN(rapid.Custom(drawPacket), 80, 80).Draw(t, "packets")
		requests := rapid.Custom(func(t *rapid.T) sim.Packet { return drawRequest(t, slices.Concat(before.State.Nft, after.State.Nft)) })
		for _, p := range append(packets, rapid.SliceOfN(requests, 20, 20).Draw(t, "requests")...) {
			if !here(w, &p) {
				continue
			}
			own, answers := fates(w, p)
			for _, answer := range []bool{false, true} {
				n := 0
				for i := range r.Classes {
					if c := &r.Classes[i]; c.Answer == answer && c.Holds(&p) {
						n++
					}
				}
				ways := own
				if answer {
					ways = answers
				}
				switch differs := ways[0] != ways[1]; {
				case differs && n != 1:
					fail(&p, fmt.Sprintf("answer %v: its way differs, and %d classes hold it", answer, n))
				case !differs && n != 0:
					fail(&p, fmt.Sprintf("answer %v: its way does not differ, and %d classes hold it", answer, n))
				case differs:
					seen[fmt.Sprint("differs, answer ", answer)]++
				}
			}
		}
	})
	t.Log(seen)
	for _, what := range []string{"differs, answer false", "answers", "classes"} {
		if seen[what] == 0 {
			t.Errorf("nothing of the kind %q: the test has become blind", what)
		}
	}
}

func snapshotOf(in sim.Input) *snapshot.Snapshot {
	return &snapshot.Snapshot{Kernel: in.Kernel, State: in.State, Sysctls: in.Sysctls, Opaque: in.Opaque, Surroundings: in.Surroundings, Tables: in.Tables}
}
