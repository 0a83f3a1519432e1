package netstatetest

import (
	"cmp"
	"net/netip"
	"slices"

	"pgregory.net/rapid"

	"github.com/viarule/viarule/internal/netstate"
)

// Family draws one of the two families.
func Family() *rapid.Generator[netstate.Family] { return rapid.SampledFrom(netstate.Families[:]) }

// Table draws a table number that a rule or a route may have: often one that is
// shared with others, never 0.
func Table() *rapid.Generator[uint32] {
	return rapid.OneOf(
		rapid.SampledFrom([]uint32{netstate.TableMain, netstate.TableLocal, netstate.TableDefault, 100, 200, 5000, 5001}),
		rapid.Uint32Range(1, 1<<32-1))
}

// Priority draws a rule's priority, often one that is shared with others.
func Priority() *rapid.Generator[uint32] {
	return rapid.OneOf(
		rapid.SampledFrom([]uint32{0, 300, 2200, 2201, 2999, 32766, 32767}),
		rapid.Uint32Range(2200, 2220),
		rapid.Uint32())
}

// Device draws the name of a link: mostly a common one, else anything that the
// kernel takes (dev_valid_name in net/core/dev.c).
func Device() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.SampledFrom([]string{"eth0", "eth1", "eth0.100", "lo", "via", "table", "#", `"`}),
		rapid.StringMatching(`[!-.0-9;-~]{1,15}`),
		rapid.StringMatching(`[a-zé→]{1,5}`),
	).Filter(func(s string) bool { return s != "." && s != ".." && len(s) < 16 })
}

// Addr draws an address of the family.
func Addr(f netstate.Family) *rapid.Generator[netip.Addr] {
	return rapid.Custom(func(t *rapid.T) netip.Addr {
		if f == netstate.IPv6 {
			a := [16]byte{0x20, 0x01, 0x0d, 0xb8}
			switch rapid.IntRange(0, 3).Draw(t, "kind of address") {
			case 0: // few bits differ: prefixes overlap
				a[4], a[15] = rapid.ByteRange(0, 3).Draw(t, "net"), rapid.ByteRange(0, 3).Draw(t, "host")
			case 1:
				a[0], a[1], a[2], a[3] = 0xfe, 0x80, 0, 0
				a[15] = rapid.Byte().Draw(t, "host")
			case 2: // mapped
				a = [16]byte{10: 0xff, 11: 0xff, 12: 10, 15: rapid.Byte().Draw(t, "host")}
			default:
				copy(a[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "address"))
			}
			return netip.AddrFrom16(a)
		}
		if rapid.Bool().Draw(t, "any address") {
			return netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "address")))
		}
		return netip.AddrFrom4([4]byte{10, rapid.ByteRange(0, 3).Draw(t, "net"), 0, rapid.ByteRange(0, 3).Draw(t, "host")})
	})
}

// Prefix draws a masked prefix of the family with at least minBits bits.
func Prefix(f netstate.Family, minBits int) *rapid.Generator[netip.Prefix] {
	return rapid.Custom(func(t *rapid.T) netip.Prefix {
		bits := rapid.OneOf(
			rapid.SampledFrom([]int{f.Bits(), 8, 16, 24}),
			rapid.IntRange(minBits, f.Bits()),
		).Draw(t, "bits")
		return netip.PrefixFrom(Addr(f).Draw(t, "address"), bits).Masked()
	})
}

// Unknown draws the encoding of attributes that nobody knows, or none.
func Unknown() *rapid.Generator[string] {
	return sometimes("", rapid.SampledFrom([]string{
		"\x08\x00\xff\x00\x01\x02\x03\x04", "\x04\x00\xfe\x00", "\x05\x00\xff\x00\x80\x00\x00\x00",
	}))
}

// sometimes draws from g one time in three and gives zero else.
func sometimes[T any](zero T, g *rapid.Generator[T]) *rapid.Generator[T] {
	return rapid.Custom(func(t *rapid.T) T {
		if rapid.IntRange(0, 2).Draw(t, "set") < 2 {
			return zero
		}
		return g.Draw(t, "value")
	})
}

func ports() *rapid.Generator[netstate.PortRange] {
	return rapid.Custom(func(t *rapid.T) netstate.PortRange {
		lo := rapid.Uint16Range(1, 65534).Draw(t, "lo")
		return netstate.PortRange{Lo: lo, Hi: rapid.Uint16Range(lo, 65534).Draw(t, "hi")}
	})
}

func mark() *rapid.Generator[netstate.Mark] {
	return rapid.Custom(func(t *rapid.T) netstate.Mark {
		mask := rapid.SampledFrom([]uint32{0xffffffff, 0xff00, 0x3f, 0x80000000}).Draw(t, "mask")
		return netstate.Mark{Value: rapid.Uint32().Draw(t, "mark") & mask, Mask: mask}
	})
}

// RuleOptions narrow what Rule draws. The zero value draws everything.
type RuleOptions struct {
	Family    netstate.Family // 0: both
	NoUnknown bool            // no Unknown attributes
}

// Rule draws a rule.
func Rule(o RuleOptions) *rapid.Generator[netstate.Rule] {
	return rapid.Custom(func(t *rapid.T) netstate.Rule {
		f := o.Family
		if f == 0 {
			f = Family().Draw(t, "family")
		}
		none := netip.Prefix{}
		r := netstate.Rule{
			Family:   f,
			Priority: Priority().Draw(t, "priority"),
			Not:      rapid.IntRange(0, 4).Draw(t, "not") == 4,
			From:     sometimes(none, Prefix(f, 1)).Draw(t, "from"),
			To:       sometimes(none, Prefix(f, 1)).Draw(t, "to"),
			IIF:      sometimes("", Device()).Draw(t, "iif"),
			OIF:      sometimes("", Device()).Draw(t, "oif"),
			Mark:     sometimes(netstate.Mark{}, mark()).Draw(t, "mark"),
			Proto:    sometimes(0, rapid.SampledFrom([]uint8{1, 6, 17, 58, 132, 200})).Draw(t, "ipproto"),
			SPort:    sometimes(netstate.PortRange{}, ports()).Draw(t, "sport"),
			DPort:    sometimes(netstate.PortRange{}, ports()).Draw(t, "dport"),
			TunID:    sometimes(0, rapid.Uint64()).Draw(t, "tun_id"),
			Realms:   sometimes(0, rapid.Uint32()).Draw(t, "realms"),
			Protocol: rapid.SampledFrom([]uint8{0, 2, 4, netstate.ProtocolObject, netstate.ProtocolCNI}).Draw(t, "protocol"),
		}
		switch rapid.IntRange(0, 5).Draw(t, "tos or dscp") {
		case 4:
			r.TOS = rapid.SampledFrom([]uint8{0x04, 0x08, 0x10, 0x1c}).Draw(t, "tos")
		case 5:
			r.DSCP = netstate.Some(rapid.Uint32Range(0, 63).Draw(t, "dscp"))
		}
		if rapid.IntRange(0, 5).Draw(t, "by uid") == 5 {
			lo := rapid.Uint32Range(0, 70000).Draw(t, "first uid")
			r.UID = netstate.UIDRange{Set: true, Lo: lo, Hi: rapid.Uint32Range(lo, 1<<32-1).Draw(t, "last uid")}
		}
		if !o.NoUnknown {
			r.Unknown = Unknown().Draw(t, "unknown")
		}
		action(t, &r)
		return r
	})
}

func action(t *rapid.T, r *netstate.Rule) {
	r.Action = rapid.SampledFrom([]netstate.Action{
		netstate.ToTable, netstate.ToTable, netstate.Goto, netstate.Nop,
		netstate.Blackhole, netstate.Unreachable, netstate.Prohibit,
	}).Draw(t, "action")
	switch r.Action {
	case netstate.Goto:
		// The kernel refuses a goto backwards, so the last priority has none.
		r.Priority = min(r.Priority, 1<<32-2)
		r.Goto = rapid.Uint32Range(r.Priority+1, 1<<32-1).Draw(t, "goto")
	case netstate.ToTable:
		if rapid.IntRange(0, 9).Draw(t, "l3mdev") == 9 {
			r.L3MDev = true
		} else {
			r.Table = Table().Draw(t, "table")
		}
		r.SuppressPrefixLength = sometimes(netstate.Opt{}, rapid.Map(rapid.Uint32Range(0, 32), netstate.Some)).Draw(t, "suppress_prefixlength")
		r.SuppressIfGroup = sometimes(netstate.Opt{}, rapid.Map(rapid.Uint32Range(0, 3), netstate.Some)).Draw(t, "suppress_ifgroup")
	}
}

// RouteKey draws a route's key.
func RouteKey() *rapid.Generator[netstate.RouteKey] {
	return rapid.Custom(func(t *rapid.T) netstate.RouteKey {
		f := Family().Draw(t, "family")
		k := netstate.RouteKey{
			Family: f,
			Table:  Table().Draw(t, "table"),
			To:     rapid.OneOf(rapid.Just(f.Default()), Prefix(f, 1)).Draw(t, "to"),
			Metric: sometimes(0, rapid.Uint32()).Draw(t, "metric"),
		}
		if f == netstate.IPv6 {
			k.From = sometimes(netip.Prefix{}, Prefix(f, 1)).Draw(t, "from")
			k.Metric = cmp.Or(k.Metric, 1024)
		} else {
			k.TOS = sometimes(0, rapid.SampledFrom([]uint8{0x04, 0x08, 0x10, 0x1c})).Draw(t, "tos")
		}
		return k
	})
}

// Hop draws a next hop for routes of the family, without a weight.
func Hop(f netstate.Family) *rapid.Generator[netstate.Hop] {
	return rapid.Custom(func(t *rapid.T) netstate.Hop {
		h := netstate.Hop{Dev: Device().Draw(t, "dev")}
		if rapid.Bool().Draw(t, "gateway") {
			via := f
			if f == netstate.IPv4 && rapid.IntRange(0, 4).Draw(t, "via inet6") == 4 {
				via = netstate.IPv6
			}
			h.Via = Addr(via).Draw(t, "via")
			h.OnLink = rapid.Bool().Draw(t, "onlink")
		}
		return h
	})
}

// Route draws a route.
func Route() *rapid.Generator[netstate.Route] {
	return rapid.Custom(func(t *rapid.T) netstate.Route {
		k := RouteKey().Draw(t, "key")
		r := netstate.Route{
			Family: k.Family, Table: k.Table, To: k.To, From: k.From, TOS: k.TOS, Metric: k.Metric,
			Type: rapid.SampledFrom([]netstate.RouteType{
				netstate.RouteUnicast, netstate.RouteUnicast, netstate.RouteLocal, netstate.RouteBroadcast, netstate.RouteAnycast,
				netstate.RouteMulticast, netstate.RouteBlackhole, netstate.RouteUnreachable, netstate.RouteProhibit, netstate.RouteThrow,
			}).Draw(t, "type"),
			Protocol: rapid.SampledFrom([]uint8{2, 3, 4, netstate.ProtocolObject, netstate.ProtocolBGP, 250}).Draw(t, "protocol"),
			Src:      sometimes(netip.Addr{}, Addr(k.Family)).Draw(t, "src"),
			MTU:      sometimes(0, rapid.Uint32Range(1, 65535)).Draw(t, "mtu"),
			AdvMSS:   sometimes(0, rapid.Uint32Range(1, 65535)).Draw(t, "advmss"),
			Realms:   sometimes(0, rapid.Uint32()).Draw(t, "realms"),
			Unknown:  Unknown().Draw(t, "unknown"),
		}
		r.MTULock = r.MTU != 0 && rapid.Bool().Draw(t, "mtu lock")
		if k.Family == netstate.IPv6 {
			r.Pref = sometimes(0, rapid.SampledFrom([]uint8{1, 2, 3})).Draw(t, "pref")
		} else {
			r.Scope = rapid.SampledFrom([]netstate.Scope{netstate.ScopeGlobal, netstate.ScopeLink, netstate.ScopeHost, 100}).Draw(t, "scope")
		}
		if r.Type.Forwards() {
			hops(t, &r)
		}
		return r
	})
}

func hops(t *rapid.T, r *netstate.Route) {
	r.NexthopID = sometimes(0, rapid.Uint32Range(1, 100)).Draw(t, "nhid")
	if rapid.IntRange(0, 2).Draw(t, "multipath") < 2 {
		r.Hop = Hop(r.Family).Draw(t, "hop")
		r.Hop.Unknown = Unknown().Draw(t, "encapsulation")
		return
	}
	r.Hops = rapid.SliceOfN(Hop(r.Family), 2, 3).Draw(t, "hops")
	for i := range r.Hops {
		h := &r.Hops[i]
		h.Weight = rapid.Uint16Range(1, 256).Draw(t, "weight")
		h.Realms = sometimes(0, rapid.Uint32()).Draw(t, "realms of the hop")
		h.Unknown = Unknown().Draw(t, "encapsulation")
	}
}

// Nexthop draws a next hop object.
func Nexthop() *rapid.Generator[netstate.Nexthop] {
	return rapid.Custom(func(t *rapid.T) netstate.Nexthop {
		h := netstate.Nexthop{
			ID:       rapid.Uint32Range(1, 1<<32-1).Draw(t, "id"),
			Protocol: rapid.SampledFrom([]uint8{0, 4, netstate.ProtocolObject}).Draw(t, "protocol"),
			Unknown:  Unknown().Draw(t, "unknown"),
		}
		if rapid.IntRange(0, 2).Draw(t, "is a group") == 2 {
			h.Group = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) netstate.GroupHop {
				return netstate.GroupHop{ID: rapid.Uint32Range(1, 100).Draw(t, "member"), Weight: rapid.Uint16Range(1, 256).Draw(t, "weight")}
			}), 1, 3).Draw(t, "group")
			return h
		}
		h.Family = Family().Draw(t, "family")
		h.Blackhole = rapid.IntRange(0, 4).Draw(t, "blackhole") == 4
		h.Scope = rapid.SampledFrom([]netstate.Scope{netstate.ScopeGlobal, netstate.ScopeLink}).Draw(t, "scope")
		if !h.Blackhole {
			h.Hop = Hop(h.Family).Draw(t, "hop")
			h.Hop.Unknown = Unknown().Draw(t, "encapsulation")
			h.FDB = rapid.IntRange(0, 4).Draw(t, "fdb") == 4
		}
		return h
	})
}

// SortState brings rules into the kernel's order (IPv4 first, then by priority)
// and routes into the order of their keys.
func SortState(s *netstate.State) {
	slices.SortStableFunc(s.Rules, func(a, b netstate.Rule) int {
		return cmp.Or(cmp.Compare(a.Family, b.Family), cmp.Compare(a.Priority, b.Priority))
	})
	netstate.SortRoutes(s.Routes)
}
