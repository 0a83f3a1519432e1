package fib_test

import (
	"fmt"
	"net/netip"

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
	net, last := byte(rapid.IntRange(0, 4).Draw(t, label)), pick[byte](t, label, 1, 2, 3, 9)
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

// drawAddrs gives ip's lines that change the addresses of all links.
func drawAddrs(t *rapid.T) []string {
	var lines []string
	for i, dev := range append([]string{"lo"}, devices...) {
		scopes := []string{"global", "global", "link", "host"}
		if dev == "lo" {
			scopes = scopes[:3] // to flush them must leave 127.0.0.1
		} else {
			lines = append(lines, "addr flush dev "+dev+" scope host")
		}
		lines = append(lines, "addr flush dev "+dev+" scope global", "addr flush dev "+dev+" scope link")
		if dev != "lo" {
			lines = append(lines, fmt.Sprintf("addr add fe80::%d/64 dev %s nodad", i, dev))
		}
		for range rapid.IntRange(0, 2).Draw(t, "addresses of "+dev) {
			a := host(t, netstate.IPv4, "address")
			switch rapid.IntRange(0, 3).Draw(t, "kind of address") {
			case 3:
				lines = append(lines, fmt.Sprintf("addr add %s peer %s/24 dev %s", a, host(t, netstate.IPv4, "peer"), dev))
			default:
				lines = append(lines, fmt.Sprintf("addr add %s/%d dev %s scope %s", a, pick(t, "bits", 24, 16, 32), dev, pick(t, "scope", scopes...)))
			}
		}
		if rapid.Bool().Draw(t, "IPv6 address") {
			lines = append(lines, fmt.Sprintf("addr add %s/64 dev %s nodad", host(t, netstate.IPv6, "address"), dev))
		}
	}
	return lines
}

func drawChanges(t *rapid.T, s *netstate.State) []netstate.Change {
	var cs []netstate.Change
	for id := range uint32(rapid.IntRange(0, 4).Draw(t, "next hop objects")) {
		cs = append(cs, netstate.Change{Verb: netstate.Add, Nexthop: drawNexthop(t, id+1)})
	}
	for _, r := range rapid.SliceOfN(rapid.Custom(func(t *rapid.T) netstate.Route { return drawRoute(t, s) }), 0, 30).Draw(t, "routes") {
		cs = append(cs, netstate.Change{Verb: netstate.Add, Route: &r})
	}
	for _, r := range rapid.SliceOfN(rapid.Custom(drawRule), 0, 16).Draw(t, "rules") {
		cs = append(cs, netstate.Change{Verb: netstate.Add, Rule: &r})
	}
	return cs
}

func drawRule(t *rapid.T) netstate.Rule {
	f := family(t)
	r := netstate.Rule{Family: f, Priority: rapid.Uint32Range(1, 20).Draw(t, "priority"), Protocol: netstate.ProtocolObject, Not: rarely(t, 6, "not")}
	if rarely(t, 3, "has from") {
		r.From = prefix(t, f, "from")
	}
	if rarely(t, 3, "has to") {
		r.To = prefix(t, f, "to")
	}
	if rarely(t, 6, "has iif") {
		r.IIF = pick(t, "iif", "lo", "e0", "e1", "e2", "gone")
	}
	if rarely(t, 8, "has oif") {
		r.OIF = pick(t, "oif", "e0", "e1", "e2", "gone")
	}
	if rarely(t, 5, "has mark") {
		r.Mark = pick(t, "mark", netstate.Mark{Value: 1, Mask: 1}, netstate.Mark{Value: 0x100, Mask: 0xff00}, netstate.Mark{Value: 3, Mask: 0xffffffff}, netstate.Mark{Mask: 0xff})
	}
	switch rapid.IntRange(0, 9).Draw(t, "TOS or DSCP") {
	case 8:
		r.TOS = pick[uint8](t, "tos", 0x08, 0x10, 0x28)
	case 9:
		r.DSCP = netstate.Some(pick[uint32](t, "dscp", 0, 2, 4, 10))
	}
	if rarely(t, 6, "has ipproto") {
		r.Proto = pick[uint8](t, "ipproto", 6, 17)
	}
	if rarely(t, 8, "has ports") {
		r.DPort = pick(t, "dport", netstate.PortRange{Lo: 80, Hi: 80}, netstate.PortRange{Lo: 1, Hi: 443})
	}
	if rarely(t, 8, "has source ports") {
		r.SPort = pick(t, "sport", netstate.PortRange{Lo: 80, Hi: 80}, netstate.PortRange{Lo: 1024, Hi: 6000})
	}
	if rarely(t, 8, "has uids") {
		r.UID = pick(t, "uidrange", netstate.UIDRange{Set: true}, netstate.UIDRange{Set: true, Lo: 1, Hi: 1000})
	}
	if rarely(t, 20, "has tun_id") {
		r.TunID = 7
	}
	switch rapid.IntRange(0, 11).Draw(t, "action") {
	case 7, 8, 9:
		r.Action = netstate.Goto
		r.Goto = rapid.Uint32Range(r.Priority+1, 22).Draw(t, "goto")
	case 10:
		r.Action = netstate.Nop
	case 11:
		r.Action = pick(t, "reject", netstate.Blackhole, netstate.Unreachable, netstate.Prohibit)
	default:
		r.Action = netstate.ToTable
		r.Table = pick[uint32](t, "table", 100, 100, 101, 102, netstate.TableMain, netstate.TableLocal, 999)
		if rarely(t, 4, "suppresses lengths") {
			r.SuppressPrefixLength = netstate.Some(pick[uint32](t, "suppress_prefixlength", 0, 8, 16, 48))
		}
		if rarely(t, 6, "suppresses groups") {
			r.SuppressIfGroup = netstate.Some(pick[uint32](t, "suppress_ifgroup", 0, 1, 2))
		}
	}
	return r
}

func drawRoute(t *rapid.T, s *netstate.State) netstate.Route {
	f := family(t)
	r := netstate.Route{
		Family: f, Protocol: netstate.ProtocolObject, To: prefix(t, f, "to"),
		Table:  pick[uint32](t, "table", 100, 100, 101, 102, netstate.TableMain),
		Type:   pick(t, "type", netstate.RouteUnicast, netstate.RouteUnicast, netstate.RouteUnicast, netstate.RouteUnicast, netstate.RouteUnicast, netstate.RouteThrow, netstate.RouteLocal, netstate.RouteBlackhole, netstate.RouteUnreachable, netstate.RouteProhibit, netstate.RouteBroadcast, netstate.RouteAnycast),
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
		return r
	}
	if r.Type == netstate.RouteLocal && f == netstate.IPv4 {
		r.Scope = netstate.ScopeHost
	}
	if rarely(t, 4, "has src") {
		if a := pickAddr(t, s, f); a.IsValid() {
			r.Src = a
		}
	}
	switch rapid.IntRange(0, 5).Draw(t, "hops") {
	case 4:
		if f == netstate.IPv6 {
			r.Type = netstate.RouteUnicast // see notAsked: the type would be shared as well
		}
		r.NexthopID = rapid.Uint32Range(1, 4).Draw(t, "nhid")
	case 5:
		for range rapid.IntRange(2, 3).Draw(t, "hops") {
			h := drawHop(t, f)
			h.Weight = uint16(rapid.IntRange(1, 3).Draw(t, "weight"))
			r.Hops = append(r.Hops, h)
		}
	default:
		r.Hop = drawHop(t, f)
	}
	if f == netstate.IPv4 && r.Type == netstate.RouteUnicast && !r.Hop.Via.IsValid() && r.NexthopID == 0 && r.Hops == nil {
		r.Scope = netstate.ScopeLink
	}
	return r
}

// drawAppends gives ip's lines for routes that have the keys of others.
func drawAppends(t *rapid.T) []string {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) string {
		f := family(t)
		line := fmt.Sprintf("route append %s dev %s table %d metric %d proto %d", prefix(t, f, "to"), pick(t, "dev", devices...),
			pick(t, "table", 100, 101), pick(t, "metric", 10, 20), netstate.ProtocolObject)
		if f == netstate.IPv6 {
			line += " pref " + pick(t, "pref", "medium", "low", "high")
		}
		return line
	}), 0, 6).Draw(t, "appended routes")
}

func pickAddr(t *rapid.T, s *netstate.State, f netstate.Family) netip.Addr {
	var as []netip.Addr
	for i := range s.Addrs {
		if a := s.Addrs[i].Prefix.Addr(); netstate.FamilyOf(a) == f && !a.IsLinkLocalUnicast() {
			as = append(as, a)
		}
	}
	if len(as) == 0 {
		return netip.Addr{}
	}
	return rapid.SampledFrom(as).Draw(t, "address of the host")
}

func drawHop(t *rapid.T, f netstate.Family) netstate.Hop {
	h := netstate.Hop{Dev: pick(t, "dev", devices...)}
	if rapid.Bool().Draw(t, "has gateway") {
		if f == netstate.IPv4 && rarely(t, 6, "via inet6") {
			f = netstate.IPv6
		}
		h.Via, h.OnLink = host(t, f, "via"), true
	}
	return h
}

func drawNexthop(t *rapid.T, id uint32) *netstate.Nexthop {
	h := &netstate.Nexthop{ID: id, Family: family(t), Protocol: netstate.ProtocolObject}
	switch {
	case id == 4:
		h.Family, h.Group = 0, []netstate.GroupHop{{ID: 1, Weight: 1}, {ID: 2, Weight: 1}}
	case rarely(t, 6, "blackhole"):
		h.Blackhole = true
	default:
		h.Hop = drawHop(t, h.Family)
	}
	return h
}

func drawFlow(s *netstate.State) *rapid.Generator[fib.Flow] {
	return rapid.Custom(func(t *rapid.T) fib.Flow {
		f := family(t)
		flow := fib.Flow{
			To:    host(t, f, "to"),
			Mark:  pick[uint32](t, "mark", 0, 0, 1, 3, 0x100),
			TOS:   pick[uint8](t, "tos", 0, 0, 0x08, 0x10, 0x28, 0xb0),
			Proto: pick[uint8](t, "ipproto", 6, 17),
			SPort: pick[uint16](t, "sport", 80, 5000, 40000),
			DPort: pick[uint16](t, "dport", 80, 443, 8080),
		}
		if rarely(t, 12, "elsewhere") {
			flow.To = pick(t, "to", netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("127.0.0.1"))
			if f == netstate.IPv6 {
				flow.To = pick(t, "to", netip.MustParseAddr("2001:db9::1"), netip.MustParseAddr("fe80::99"), netip.MustParseAddr("::1"))
			}
		}
		switch rapid.IntRange(0, 4).Draw(t, "source") {
		case 0: // comes in
			flow.IIF = pick(t, "iif", devices[:3]...)
			if flow.To.IsLoopback() {
				flow.To = host(t, f, "to") // martian from outside
			}
			flow.From = host(t, f, "from")
			return flow
		case 1:
			flow.From = host(t, f, "from")
		case 2:
			flow.From = pickAddr(t, s, f)
		}
		flow.UID = pick[uint32](t, "uid", 0, 1000, 70000)
		if rarely(t, 4, "bound") {
			flow.OIF = pick(t, "oif", devices...)
		}
		return flow
	})
}
