package netstatetest

import (
	"net/netip"

	"pgregory.net/rapid"

	"github.com/viarule/viarule/internal/netstate"
)

// Link draws a link.
func Link() *rapid.Generator[netstate.Link] {
	return rapid.Custom(func(t *rapid.T) netstate.Link {
		return netstate.Link{
			Index:    rapid.IntRange(1, 1<<31-1).Draw(t, "index"),
			Name:     Device().Draw(t, "name"),
			Kind:     rapid.SampledFrom([]string{"", "veth", "bridge", "vlan", "vrf", "dummy"}).Draw(t, "kind"),
			MAC:      sometimes("", rapid.Just("02:00:00:00:00:01")).Draw(t, "mac"),
			MTU:      rapid.Uint32Range(0, 65535).Draw(t, "mtu"),
			Up:       rapid.Bool().Draw(t, "up"),
			Carrier:  rapid.Bool().Draw(t, "carrier"),
			Loopback: rapid.Bool().Draw(t, "loopback"),
			NoARP:    rapid.Bool().Draw(t, "noarp"),
			Master:   sometimes("", Device()).Draw(t, "master"),
			Parent:   sometimes("", rapid.OneOf(Device(), rapid.Just("if7"))).Draw(t, "parent"),
			Alias:    sometimes("", rapid.OneOf(rapid.Just("viarule:PodNetwork/a b"), rapid.String())).Draw(t, "alias"),
			Group:    rapid.Uint32Range(0, 3).Draw(t, "group"),
			VLAN:     sometimes(0, rapid.Uint16Range(1, 4094)).Draw(t, "vlan"),
			VRFTable: sometimes(0, Table()).Draw(t, "vrf table"),
			AltNames: sometimes(nil, rapid.SliceOfN(Device(), 1, 2)).Draw(t, "altnames"),
		}
	})
}

// LinkAddr draws an address of a link.
func LinkAddr() *rapid.Generator[netstate.Addr] {
	return rapid.Custom(func(t *rapid.T) netstate.Addr {
		f := Family().Draw(t, "family")
		a := netstate.Addr{
			Dev:      Device().Draw(t, "dev"),
			Prefix:   netip.PrefixFrom(Addr(f).Draw(t, "address"), rapid.IntRange(0, f.Bits()).Draw(t, "bits")),
			Peer:     sometimes(netip.Prefix{}, Prefix(f, 0)).Draw(t, "peer"),
			Scope:    rapid.SampledFrom([]netstate.Scope{netstate.ScopeGlobal, netstate.ScopeLink, netstate.ScopeHost}).Draw(t, "scope"),
			Flags:    rapid.SampledFrom([]uint32{0, 0x80, 0x200, 0x208}).Draw(t, "flags"),
			Protocol: rapid.SampledFrom([]uint8{0, 1, 2, 3}).Draw(t, "protocol"),
			Metric:   sometimes(0, rapid.Uint32()).Draw(t, "metric"),
			Unknown:  Unknown().Draw(t, "unknown"),
		}
		if f == netstate.IPv4 {
			a.Broadcast = sometimes(netip.Addr{}, Addr(f)).Draw(t, "broadcast")
			a.Label = sometimes("", rapid.SampledFrom([]string{"eth0", "eth0:1"})).Draw(t, "label")
		}
		return a
	})
}

// Sysctl draws a sysctl.
func Sysctl() *rapid.Generator[netstate.Sysctl] {
	return rapid.Custom(func(t *rapid.T) netstate.Sysctl {
		return netstate.Sysctl{
			Key: rapid.OneOf(
				rapid.Just("net/ipv4/ip_forward"),
				rapid.Map(Device(), func(d string) string { return "net/ipv4/conf/" + d + "/rp_filter" }),
			).Draw(t, "key"),
			Value: rapid.SampledFrom([]string{"0", "1", "2", "", "32768\t60999"}).Draw(t, "value"),
		}
	})
}

// Opaque draws something that cannot be read.
func Opaque() *rapid.Generator[netstate.Opaque] {
	return rapid.Custom(func(t *rapid.T) netstate.Opaque {
		return netstate.Opaque{
			Kind:   netstate.OpaqueKind(rapid.Uint8Range(uint8(netstate.OpaqueXDP), uint8(netstate.OpaqueIptables)).Draw(t, "kind")),
			Dev:    sometimes("", Device()).Draw(t, "dev"),
			Name:   rapid.SampledFrom([]string{"program 7 cil_from_netdev", "3 policies", "", "unread", `a "b"`}).Draw(t, "name"),
			Unread: rapid.Bool().Draw(t, "unread"),
		}
	})
}

// Change draws a change.
func Change() *rapid.Generator[netstate.Change] {
	return rapid.Custom(func(t *rapid.T) netstate.Change {
		c := netstate.Change{Verb: rapid.SampledFrom([]netstate.Verb{netstate.Add, netstate.Replace, netstate.Delete}).Draw(t, "verb")}
		switch rapid.IntRange(0, 5).Draw(t, "kind") {
		case 0:
			r := Rule(RuleOptions{}).Draw(t, "rule")
			c.Rule = &r
		case 1:
			r := Route().Draw(t, "route")
			c.Route = &r
		case 2:
			h := Nexthop().Draw(t, "nexthop")
			c.Nexthop = &h
		case 3:
			l := Link().Draw(t, "link")
			c.Link = &l
		case 4:
			a := LinkAddr().Draw(t, "addr")
			c.Addr = &a
		default:
			s := Sysctl().Draw(t, "sysctl")
			c.Verb, c.Sysctl = netstate.Replace, &s
		}
		return c
	})
}

// State draws a state with a few objects of each kind, in the kernel's order.
// They are not made to fit together: a route's link need not exist.
func State() *rapid.Generator[netstate.State] {
	return rapid.Custom(func(t *rapid.T) netstate.State {
		s := netstate.State{
			Links:    list(t, Link(), "links"),
			Addrs:    list(t, LinkAddr(), "addrs"),
			Rules:    list(t, Rule(RuleOptions{}), "rules"),
			Routes:   list(t, Route(), "routes"),
			Nexthops: list(t, Nexthop(), "nexthops"),
		}
		SortState(&s)
		return s
	})
}

// list draws up to three; an empty list is nil, as parsers give it.
func list[T any](t *rapid.T, g *rapid.Generator[T], label string) []T {
	l := rapid.SliceOfN(g, 0, 3).Draw(t, label)
	if len(l) == 0 {
		return nil
	}
	return l
}
