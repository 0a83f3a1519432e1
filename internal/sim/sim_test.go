package sim_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/viarule/viarule/internal/fib"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/netstate/netstatetest"
	"github.com/viarule/viarule/internal/sim"
)

// stacked is a bridge in a VRF, and a link beside.
const stacked = `
link 1 lo up carrier loopback
link 2 port kind veth up carrier master br0
link 3 br0 kind bridge up carrier master blue
link 4 blue kind vrf up carrier vrftable 10
link 5 eth0 kind veth up carrier
addr 10.0.0.1/24 dev br0
addr 2001:db8::1/64 dev br0
rule 0 from all table 255
rule 1000 from all l3mdev
rule 32766 from all table 254
rule -6 0 from all table 255
rule -6 900 from all iif blue to 2001:db8:9::/48 unreachable
rule -6 1000 from all l3mdev
rule -6 32766 from all table 254
route local 10.0.0.1 dev br0 table 10 scope host src 10.0.0.1
route default via 10.0.0.9 dev br0 table 10
route default via 192.0.2.1 dev eth0 table 254
route -6 local 2001:db8::1 dev br0 table 10
route -6 default via 2001:db8::9 dev br0 table 10 metric 1024
route -6 default via fe80::1 dev eth0 table 254 metric 1024`

func TestBridgeInVRF(t *testing.T) {
	in := sim.Input{Kernel: "6.18.0", State: netstatetest.ParseState(t, stacked)}
	var links []string
	for _, l := range in.State.Links {
		links = append(links, l.Name)
	}
	in.Sysctls = routerSysctls("0", links...)
	w := sim.New(&in)
	for _, c := range []struct {
		from, to string
		want     sim.Verdict
		dev      string
	}{
		{"10.0.0.5", "8.8.8.8", sim.Forwarded, "br0"},
		{"10.0.0.5", "10.0.0.1", sim.Delivered, "lo"},
		{"2001:db8::5", "2001:db8:8::8", sim.Forwarded, "br0"},
		{"2001:db8::5", "2001:db8::1", sim.Delivered, "lo"},
		{"2001:db8::5", "2001:db8:9::9", sim.Dropped, ""}, // IPv6 rules see the VRF
		{"2001:db8::5", "fe80::7", sim.Unknown, ""},
	} {
		a := w.Run(sim.Packet{Flow: fib.Flow{From: netip.MustParseAddr(c.from), To: netip.MustParseAddr(c.to), IIF: "port"}}, sim.Conn{})
		if a.Verdict != c.want || a.Dev != c.dev {
			t.Errorf("%s to %s: %s by %q (%s), want %s by %q", c.from, c.to, a.Verdict, a.Dev, a.Reason, c.want, c.dev)
		}
	}
	// A socket that answers what came by the VRF is bound to it.
	p := sim.Packet{Flow: fib.Flow{From: netip.MustParseAddr("10.0.0.5"), To: netip.MustParseAddr("10.0.0.1"), IIF: "port"}}
	a := w.Run(p, sim.Conn{})
	back, c, why := w.Reply(p, &a)
	if why != "" {
		t.Fatal(why)
	}
	if b := w.Run(back, c); b.Verdict != sim.Sent || b.Dev != "br0" {
		t.Errorf("the answer is %s by %q (%s)", b.Verdict, b.Dev, b.Reason)
	}
}

// A socket that is bound to 0.0.0.0 has not chosen a source: it gets the route's.
func TestUnspecifiedSource(t *testing.T) {
	in := sim.Input{State: netstatetest.ParseState(t, `
link 2 eth0 kind veth up carrier
addr 192.0.2.2/24 dev eth0
addr 2001:db8::2/64 dev eth0
rule 32766 from all table 254
rule -6 32766 from all table 254
route default via 192.0.2.1 dev eth0 table 254
route -6 default via 2001:db8::1 dev eth0 table 254 metric 1024
nft table viarule
nft chain out type route hook output priority -149
nft rule meta mark set meta mark and 0xfffffffe or 0x1`)}
	w := sim.New(&in)
	for from, want := range map[string]string{"0.0.0.0": "192.0.2.2", "::": "2001:db8::2"} {
		to := "8.8.8.8"
		if from == "::" {
			to = "2001:db8:9::9"
		}
		p := sim.Packet{Flow: fib.Flow{From: netip.MustParseAddr(from), To: netip.MustParseAddr(to)}}
		a := w.Run(p, sim.Conn{})
		if a.Verdict != sim.Sent || a.Way.Source.String() != want {
			t.Errorf("from %s: %s from %s (%s), want %s", from, a.Verdict, a.Way.Source, a.Reason, want)
		}
		if back, _, why := w.Reply(p, &a); why != "" || back.To.String() != want {
			t.Errorf("the answer to %s goes to %s (%s), want %s", from, back.To, why, want)
		}
	}
}

// TestExemptIsForOneFamily: reversePathFilter: Exempt drops packets of IPv4 that no way
// leads back for, as the kernel's filter would, and those of IPv6 not.
func TestExemptIsForOneFamily(t *testing.T) {
	in := sim.Input{State: netstatetest.ParseState(t, `
link 1 lo up carrier loopback
link 2 eth0 kind veth up carrier
link 3 eth1 kind veth up carrier
addr 10.0.0.1/24 dev eth0
addr 2001:db8::1/64 dev eth0
rule 0 from all table 255
rule 32766 from all table 254
rule -6 0 from all table 255
rule -6 32766 from all table 254
route local 10.0.0.1 dev eth0 table 255 scope host src 10.0.0.1
route default via 10.0.0.9 dev eth0 table 254
route -6 local 2001:db8::1 dev eth0 table 255
route -6 default via 2001:db8::9 dev eth0 table 254 metric 1024
nft table viarule
nft chain request type filter hook prerouting priority -149
nft rule iifname "eth1" meta mark and 0x3 != 0x1 meta nfproto ipv4 fib saddr . mark . iif oif missing drop`)}
	in.Sysctls = routerSysctls("0", "eth0", "eth1")
	w := sim.New(&in)
	for _, c := range []struct {
		from, to string
		want     sim.Verdict
	}{{"192.0.2.7", "8.8.8.8", sim.Dropped}, {"2001:db8:7::7", "2001:db8:8::8", sim.Forwarded}} {
		a := w.Run(sim.Packet{Flow: fib.Flow{From: netip.MustParseAddr(c.from), To: netip.MustParseAddr(c.to), IIF: "eth1"}}, sim.Conn{})
		if a.Verdict != c.want {
			t.Errorf("%s to %s: %s (%s), want %s", c.from, c.to, a.Verdict, a.Reason, c.want)
		}
	}
}

// TestNetfilterInVRF: prerouting sees the port and then its VRF, and the hooks behind the
// decision the VRF alone.
func TestNetfilterInVRF(t *testing.T) {
	for _, tt := range []struct {
		name, rules string
		want        sim.Verdict
		mark        uint32
	}{
		{"both marks", "nft table viarule\nnft chain p type filter hook prerouting priority -149\nnft rule iifname \"br0\" meta mark set meta mark and 0xfffffffe or 0x1\nnft rule iifname \"blue\" meta mark set meta mark and 0xfffffffd or 0x2", sim.Forwarded, 3},
		{"no mark", "nft table viarule\nnft chain f type filter hook forward priority -149\nnft rule iifname \"br0\" meta mark set meta mark and 0xfffffffe or 0x1", sim.Forwarded, 0},
		{"a mark by the VRF", "nft table viarule\nnft chain f type filter hook postrouting priority -149\nnft rule iifname \"blue\" meta mark set meta mark and 0xfffffffe or 0x1", sim.Forwarded, 1},
		{"accepted by the VRF", "forward chain inet fw f priority 0 policy drop\nforward rule iifname \"blue\" accept", sim.Forwarded, 0},
		{"not accepted by the port", "forward chain inet fw f priority 0 policy drop\nforward rule iifname \"br0\" accept", sim.Dropped, 0},
	} {
		in := sim.Input{Kernel: "6.18.0", State: netstatetest.ParseState(t, stacked+"\n"+tt.rules)}
		in.Sysctls = routerSysctls("0", "lo", "port", "br0", "blue", "eth0")
		w := sim.New(&in)
		for from, to := range map[string]string{"10.0.0.5": "8.8.8.8", "2001:db8::5": "2001:db8:8::8"} {
			a := w.Run(sim.Packet{Flow: fib.Flow{From: netip.MustParseAddr(from), To: netip.MustParseAddr(to), IIF: "port"}}, sim.Conn{})
			if a.Verdict != tt.want || a.Mark != tt.mark {
				t.Errorf("%s: %s to %s: %s with mark %#x (%s), want %s with %#x", tt.name, from, to, a.Verdict, a.Mark, a.Reason, tt.want, tt.mark)
			}
		}
	}
}

// TestMasqueradeByOneOfTwo: one of two next hops has an address to give, and the hash
// decides. In a VRF those of other links do not count.
func TestMasqueradeByOneOfTwo(t *testing.T) {
	const world = `
link 1 lo up carrier loopback
link 2 eth0 kind veth up carrier
link 3 eth1 kind veth up carrier master blue
link 4 blue kind vrf up carrier vrftable 10
addr 192.0.2.2/24 dev eth0
addr 2001:db8:2::2/64 dev eth0
rule 0 from all table 255
rule 32766 from all table 254
rule -6 0 from all table 255
rule -6 32766 from all table 254
route 10.1.0.0/16 table 254 nexthop dev eth0 weight 1 nexthop dev eth1 weight 1
route 10.2.0.0/16 dev eth1 table 254
route -6 2001:db8:8:1::/64 table 254 metric 1024 nexthop dev eth0 weight 1 nexthop dev eth1 weight 1
route -6 2001:db8:8:2::/64 dev eth1 table 254 metric 1024
nft table viarule
nft chain m type nat hook postrouting priority 101
nft rule masquerade`
	in := sim.Input{Kernel: "6.18.0", State: netstatetest.ParseState(t, world), Sysctls: routerSysctls("0", "lo", "eth0", "eth1", "blue")}
	w := sim.New(&in)
	for _, tt := range []struct {
		from, to string
		want     sim.Verdict
	}{{"10.9.0.5", "10.1.0.1", sim.Unknown}, {"10.9.0.5", "10.2.0.1", sim.Dropped}, {"2001:db8:9::5", "2001:db8:8:1::1", sim.Unknown}, {"2001:db8:9::5", "2001:db8:8:2::1", sim.Dropped}} {
		a := w.Run(sim.Packet{Flow: fib.Flow{From: netip.MustParseAddr(tt.from), To: netip.MustParseAddr(tt.to), IIF: "eth0"}}, sim.Conn{})
		if a.Verdict != tt.want || !strings.Contains(a.Reason, "there is none for eth1 (masquerade)") {
			t.Errorf("%s to %s: %s (%s), want %s", tt.from, tt.to, a.Verdict, a.Reason, tt.want)
		}
	}
}

// TestChecksAskTheTablesOnly: the checks of a source look only at the tables, and
// are in no doubt where a route back shares a next hop object with another one. The
// packets that go there themselves are.
func TestChecksAskTheTablesOnly(t *testing.T) {
	in := sim.Input{State: netstatetest.ParseState(t, `
link 1 lo up carrier loopback
link 2 eth0 kind veth up carrier
link 3 eth1 kind veth up carrier
addr 10.0.0.1/24 dev eth0
addr 2001:db8::1/64 dev eth0
nexthop 1 dev eth1 scope link
nexthop -6 2 dev eth1 scope link
rule 0 from all table 255
rule 32766 from all table 254
rule -6 0 from all table 255
rule -6 32766 from all table 254
route local 10.0.0.1 dev eth0 table 255 scope host src 10.0.0.1
route default via 10.0.0.9 dev eth0 table 254
route 10.8.0.0/16 dev eth1 nhid 1 table 254 scope link
route local 10.9.0.0/16 dev eth1 nhid 1 table 254 scope host
route -6 local 2001:db8::1 dev eth0 table 255
route -6 default via 2001:db8::9 dev eth0 table 254 metric 1024
route -6 2001:db8:8::/48 dev eth1 nhid 2 table 254 metric 1024
route -6 unreachable 2001:db8:9::/48 nhid 2 table 254 metric 1024
nft table viarule
nft chain request type filter hook prerouting priority -149
nft rule iifname "eth1" meta mark and 0x3 != 0x1 fib saddr . mark . iif oif missing drop`)}
	in.Sysctls = routerSysctls("1", "eth0", "eth1")
	w := sim.New(&in)
	for _, c := range []struct {
		from, to, iif string
		want          sim.Verdict
	}{
		{"10.8.0.7", "192.0.2.9", "eth1", sim.Forwarded},
		{"2001:db8:8::7", "2001:db8:7::9", "eth1", sim.Forwarded},
		{"192.0.2.9", "10.8.0.7", "eth0", sim.Unknown},
		{"2001:db8:7::9", "2001:db8:8::7", "eth0", sim.Unknown},
	} {
		a := w.Run(sim.Packet{Flow: fib.Flow{From: netip.MustParseAddr(c.from), To: netip.MustParseAddr(c.to), IIF: c.iif}}, sim.Conn{})
		if a.Verdict != c.want {
			t.Errorf("%s to %s: %s (%s), want %s", c.from, c.to, a.Verdict, a.Reason, c.want)
		}
	}
}

// routerSysctls are those of a host that forwards, with this rp_filter on all links.
func routerSysctls(rpFilter string, links ...string) (list []netstate.Sysctl) {
	for _, l := range append([]string{"all"}, links...) {
		conf := "net/ipv4/conf/" + l + "/"
		for _, k := range []string{"accept_local", "src_valid_mark", "route_localnet", "send_redirects"} {
			list = append(list, netstate.Sysctl{Key: conf + k, Value: "0"})
		}
		list = append(list, netstate.Sysctl{Key: conf + "rp_filter", Value: rpFilter}, netstate.Sysctl{Key: conf + "forwarding", Value: "1"},
			netstate.Sysctl{Key: "net/ipv6/conf/" + l + "/disable_ipv6", Value: "0"})
	}
	return append(list, netstate.Sysctl{Key: "net/ipv6/conf/all/forwarding", Value: "1"})
}
