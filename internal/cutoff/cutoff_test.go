package cutoff

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/netstate/netstatetest"
)

// A host with two uplinks; eth0 has the default routes of main.
const twoUplinks = `
link 1 lo mtu 65536 up carrier loopback
link 2 eth0 kind veth mac 02:00:00:00:00:02 mtu 1500 up carrier
link 3 eth1 kind veth mac 02:00:00:00:00:03 mtu 1500 up carrier
addr 127.0.0.1/8 dev lo scope host
addr 10.0.0.5/24 dev eth0
addr 192.0.2.5/24 dev eth1
addr 2001:db8:a::5/64 dev eth0
addr 2001:db8:b::5/64 dev eth1
addr fe80::5/64 dev eth0 scope link
rule 0 from all table 255 proto 2
rule 32766 from all table 254 proto 2
rule 32767 from all table 253 proto 2
rule -6 0 from all table 255 proto 2
rule -6 32766 from all table 254 proto 2
route default via 10.0.0.1 dev eth0 table 254 proto 3
route 10.0.0.0/24 dev eth0 table 254 proto 2 scope link src 10.0.0.5
route 192.0.2.0/24 dev eth1 table 254 proto 2 scope link src 192.0.2.5
route local 10.0.0.5/32 dev eth0 table 255 proto 2 scope host src 10.0.0.5
route local 192.0.2.5/32 dev eth1 table 255 proto 2 scope host src 192.0.2.5
route local 127.0.0.0/8 dev lo table 255 proto 2 scope host src 127.0.0.1
route -6 default via 2001:db8:a::1 dev eth0 table 254 metric 1024 proto 3
route -6 2001:db8:a::/64 dev eth0 table 254 metric 256 proto 2
route -6 2001:db8:b::/64 dev eth1 table 254 metric 256 proto 2
route -6 local 2001:db8:a::5/128 dev eth0 table 255 proto 2
route -6 local 2001:db8:b::5/128 dev eth1 table 255 proto 2
`

func state(t testing.TB, text string) netstate.State { return netstatetest.ParseState(t, text) }

func plan(t testing.TB, text string) []netstate.Change {
	t.Helper()
	var out []netstate.Change
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			out = append(out, netstatetest.ParseChange(t, line))
		}
	}
	return out
}

func numbered(list []netstate.Change) func(func(int, *netstate.Change) bool) {
	return func(yield func(int, *netstate.Change) bool) {
		for i := range list {
			if !yield(i, &list[i]) {
				return
			}
		}
	}
}

// sockets reads lines of `OWNER LOCAL REMOTE|listen`; an owner - cannot be seen.
func sockets(t testing.TB, text string) []Socket {
	t.Helper()
	var out []Socket
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		s := Socket{Local: netip.MustParseAddrPort(f[1])}
		if f[0] != "-" {
			s.Owners = []string{"systemd", f[0]}
		}
		if s.Listen = f[2] == "listen"; !s.Listen {
			s.Remote = netip.MustParseAddrPort(f[2])
		}
		out = append(out, s)
	}
	return out
}

func TestCheck(t *testing.T) {
	const (
		ssh4 = "sshd 10.0.0.5:22 203.0.113.9:51234\n"
		ssh6 = "sshd-session [2001:db8:a::5]:22 [2001:db8:f::9]:51234\n"
	)
	for _, tt := range []struct {
		name    string
		more    string // lines of the state before
		sockets string
		plan    string
		want    []string // substrings of the findings, in order
	}{
		{name: "nothing changes", sockets: ssh4 + ssh6},
		{name: "what is not in its way does not matter", sockets: ssh4 + ssh6, plan: `
			+ route default via 192.0.2.1 dev eth1 table 5000 proto 118
			+ rule 2200 from 192.0.2.5 table 5000 proto 118
			+ route -6 default via 2001:db8:b::1 dev eth1 table 5000 metric 1024 proto 118
			+ rule -6 2200 from 2001:db8:b::5 table 5000 proto 118`},
		{name: "a source rule moves the session to the other uplink", sockets: ssh4 + ssh6, plan: `
			+ route default via 192.0.2.1 dev eth1 table 5000 proto 118
			+ rule 2200 from 10.0.0.0/24 table 5000 proto 118
			+ route -6 default via 2001:db8:b::1 dev eth1 table 5000 metric 1024 proto 118
			+ rule -6 2200 from 2001:db8:a::/64 table 5000 proto 118`,
			want: []string{
				"the ssh connection of 203.0.113.9:51234 to 10.0.0.5:22 would be cut off: its packets leave by dev eth0 via 10.0.0.1 now, and would leave by dev eth1 via 192.0.2.1: rule 2200 from 10.0.0.0/24 table 5000 proto 118 (f.yaml:2)",
				"[2001:db8:f::9]:51234 to [2001:db8:a::5]:22 would be cut off: its packets leave by dev eth0 via 2001:db8:a::1 now, and would leave by dev eth1 via 2001:db8:b::1: rule -6 2200 from 2001:db8:a::/64 table 5000 proto 118 (f.yaml:4)",
			}},
		{name: "another gateway on the same link", sockets: ssh4 + ssh6, plan: `
			+ route 203.0.113.0/24 via 10.0.0.2 dev eth0 table 254 proto 118
			+ route -6 2001:db8:f::/48 via 2001:db8:a::2 dev eth0 table 254 metric 1024 proto 118`,
			want: []string{
				"would leave by dev eth0 via 10.0.0.2: route 203.0.113.0/24 via 10.0.0.2 dev eth0 table 254 proto 118 (f.yaml:1)",
				"would leave by dev eth0 via 2001:db8:a::2: route -6 2001:db8:f::/48",
			}},
		{name: "the peer's network is dropped", sockets: ssh4 + ssh6, plan: `
			+ route blackhole 203.0.113.0/24 table 254 proto 118
			+ rule -6 2200 from all to 2001:db8:f::/48 prohibit proto 118`,
			want: []string{"would be dropped: route blackhole 203.0.113.0/24", "would be refused as prohibited: rule -6 2200"}},
		{name: "a rule by port", sockets: ssh4 + ssh6, plan: `
			+ rule 2200 from all ipproto tcp sport 22 unreachable proto 118
			+ rule -6 2200 from all ipproto tcp sport 22 unreachable proto 118`,
			want: []string{"203.0.113.9:51234", "[2001:db8:f::9]:51234"}},
		{name: "a rule for somebody else's port", sockets: ssh4 + ssh6, plan: `
			+ rule 2200 from all ipproto tcp sport 80 unreachable proto 118
			+ rule -6 2200 from all ipproto udp unreachable proto 118`},
		{name: "the rule that held it goes",
			more:    "rule 2200 from 10.0.0.5 table 5000 proto 118\nroute default via 10.0.0.2 dev eth0 table 5000 proto 118\n",
			sockets: ssh4, plan: `
			- rule 2200 from 10.0.0.5 table 5000 proto 118
			- route default via 10.0.0.2 dev eth0 table 5000 proto 118`,
			want: []string{"its packets leave by dev eth0 via 10.0.0.2 now, and would leave by dev eth0 via 10.0.0.1: rule 2200 from 10.0.0.5 table 5000 proto 118 goes (f.yaml:1)"}},
		{name: "a reply that left by the wrong link leaves by its own at last", sockets: `
			sshd 192.0.2.5:22 203.0.113.9:51234
			sshd [2001:db8:b::5]:22 [2001:db8:f::9]:51234`, plan: `
			+ route default via 192.0.2.1 dev eth1 table 5000 proto 118
			+ rule 2200 from 192.0.2.5 table 5000 proto 118
			+ route -6 default via 2001:db8:b::1 dev eth1 table 5000 metric 1024 proto 118
			+ rule -6 2200 from 2001:db8:b::5 table 5000 proto 118`},
		{name: "a peer without a route before has nothing to lose",
			more:    "route unreachable 203.0.113.0/24 table 254 proto 3\n",
			sockets: ssh4, plan: "+ rule 2200 from 10.0.0.5 table 254 proto 118"},
		{name: "servers on other ports, by their listening sockets", sockets: `
			sshd 0.0.0.0:2222 listen
			nginx 0.0.0.0:80 listen
			- 10.0.0.5:2222 203.0.113.9:1
			- 10.0.0.5:22 203.0.113.9:2
			- 10.0.0.5:80 203.0.113.9:3
			nginx 10.0.0.5:443 203.0.113.9:4
			dropbear 10.0.0.5:9999 203.0.113.9:5
			sshd [::ffff:10.0.0.5]:22 [::ffff:203.0.113.9]:6`, plan: "+ rule 2200 from 10.0.0.5 to 203.0.113.0/24 blackhole proto 118",
			want: []string{"of 203.0.113.9:1 to", "of 203.0.113.9:2 to", "of 203.0.113.9:5 to", "of 203.0.113.9:6 to 10.0.0.5:22"}},
		{name: "a rule that cannot be read", sockets: ssh4, plan: "+ rule 2200 from 10.0.0.5 table 5000 proto 118 unknown 080063000100000000",
			want: []string{"it cannot be told where they would go"}},
		{name: "a rule that could not be read before either", sockets: ssh4,
			more: "rule 100 from all table 5000 unknown 080063000100000000\n",
			plan: "+ rule 2200 from 192.0.2.9 table 5000 proto 118"},

		{name: "the default route of main goes", plan: `
			- route default via 10.0.0.1 dev eth0 table 254 proto 3
			- route -6 default via 2001:db8:a::1 dev eth0 table 254 metric 1024 proto 3`,
			want: []string{
				"the IPv4 default route of table main would go: route default via 10.0.0.1 dev eth0 table 254 proto 3 goes (f.yaml:1)",
				"the IPv6 default route of table main would go",
				"the host would have no way out by IPv4 any more: would find no route",
				"the host would have no way out by IPv6 any more",
			}},
		{name: "the default route of main changes", plan: `
			~ route default via 192.0.2.1 dev eth1 table 254 proto 118
			+ route -6 default via 2001:db8:b::1 dev eth1 table 254 metric 10 proto 118`,
			want: []string{
				"the IPv4 default route of table main goes by dev eth0 via 10.0.0.1 now, and would go by dev eth1 via 192.0.2.1: route default via 192.0.2.1 dev eth1 table 254",
				"the IPv6 default route of table main goes by dev eth0 via 2001:db8:a::1 now, and would go by dev eth1 via 2001:db8:b::1",
			}},
		{name: "another default route behind the first, or other attributes of it, do not matter", plan: `
			+ route default via 192.0.2.1 dev eth1 table 254 metric 500 proto 118
			~ route default via 10.0.0.1 dev eth0 table 254 proto 118 mtu 1400
			+ route -6 default via 2001:db8:b::1 dev eth1 table 254 metric 2048 proto 118`},
		{name: "the gateway is not reached by its link", plan: `
			+ route 10.0.0.0/25 dev eth1 table 254 proto 118 scope link
			+ rule -6 2200 from all to 2001:db8:a::1 blackhole proto 118`,
			want: []string{
				"the default gateway 10.0.0.1 is reached by dev eth0 now, and would be reached by dev eth1: route 10.0.0.0/25",
				"the default gateway 2001:db8:a::1 is reached by dev eth0 now, and would be dropped: rule -6 2200 from all to 2001:db8:a::1 blackhole",
			}},
		{name: "everything moves to the other uplink on purpose", plan: `
			+ route default via 192.0.2.1 dev eth1 table 5000 proto 118
			+ rule 2200 from all table 254 suppress_prefixlength 0 proto 118
			+ rule 2201 from all table 5000 proto 118
			+ route -6 default via 2001:db8:b::1 dev eth1 table 5000 metric 1024 proto 118
			+ rule -6 2200 from all table 254 suppress_prefixlength 0 proto 118
			+ rule -6 2201 from all table 5000 proto 118`},
		{name: "an address finds no way out", plan: `
			+ rule 2200 from 192.0.2.0/24 table 5000 proto 118
			+ route unreachable default table 5000 proto 118
			+ rule -6 2200 from 2001:db8:b::/64 unreachable proto 118`,
			want: []string{
				"packets from the host's address 192.0.2.5 would find no way out any more: they would be refused as unreachable: rule 2200 from 192.0.2.0/24",
				"packets from the host's address 2001:db8:b::5 would find no way out any more",
			}},
		{name: "one far network is blocked on purpose", plan: `
			+ route blackhole 9.9.9.0/24 table 254 proto 118
			+ route -6 blackhole 2620:fe::/48 table 254 metric 1024 proto 118`},
		{name: "several gateways, one of which goes",
			more: "", plan: "~ route default nexthop via 10.0.0.1 dev eth0 weight 1 nexthop via 192.0.2.1 dev eth1 weight 1 table 254 proto 118",
			want: []string{"would go by dev eth0 via 10.0.0.1 or by dev eth1 via 192.0.2.1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := state(t, twoUplinks+tt.more)
			slices.SortStableFunc(before.Rules, func(a, b netstate.Rule) int {
				return int(a.Family)*1e6 + int(a.Priority) - int(b.Family)*1e6 - int(b.Priority)
			})
			text := before.String()
			changes := plan(t, tt.plan)
			got := Check(Input{Before: before, Changes: numbered(changes), Sockets: sockets(t, tt.sockets),
				Where: func(i int) string { return fmt.Sprintf("f.yaml:%d", i+1) }})
			for i := range max(len(got), len(tt.want)) {
				switch {
				case i >= len(got):
					t.Errorf("no finding with %q", tt.want[i])
				case i >= len(tt.want):
					t.Errorf("a false alarm: %s", got[i])
				case !strings.Contains(got[i].String(), tt.want[i]):
					t.Errorf("finding\n%s\nwant\n%s", got[i], tt.want[i])
				}
			}
			if before.String() != text {
				t.Error("Check changed its input")
			}
		})
	}
}

// A check must not cost a large apply its time.
func TestCheckOfALargePlan(t *testing.T) {
	before := state(t, twoUplinks)
	var changes []netstate.Change
	for i := range 100_000 {
		to := netip.PrefixFrom(netip.AddrFrom4([4]byte{20, byte(i >> 16), byte(i >> 8), byte(i)}), 32)
		r := netstatetest.ParseChange(t, "+ route 20.0.0.0/32 via 192.0.2.1 dev eth1 table 5000 proto 118")
		if i > 0 {
			route := *changes[0].Route
			route.To = to
			r.Route = &route
		}
		changes = append(changes, r)
	}
	for i := range 10_000 {
		c := netstatetest.ParseChange(t, fmt.Sprintf("+ rule %d from 20.0.%d.%d table 5000 proto 118", 2200+i/100, i/256, i%256))
		changes = append(changes, c)
	}
	start := time.Now()
	if got := Check(Input{Before: before, Changes: numbered(changes), Sockets: sockets(t, "sshd 10.0.0.5:22 203.0.113.9:1")}); len(got) > 0 {
		t.Error(got)
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("took %s", took)
	}
}
