package impact_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/viarule/viarule/internal/explain"
	"github.com/viarule/viarule/internal/impact"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/snapshot"
)

const node = `link 1 lo up carrier loopback mtu 65536
link 2 eth0 kind veth up carrier mtu 1500
link 3 eth1 kind veth up carrier mtu 1500
addr 10.0.0.1/24 dev eth0
addr 10.1.0.1/24 dev eth1
addr 2001:db8:a::1/64 dev eth0
addr 2001:db8:b::1/64 dev eth1
rule 0 from all table 255
rule 32766 from all table 254
rule 32767 from all table 253
rule -6 0 from all table 255
rule -6 32766 from all table 254
route local 10.0.0.1 dev eth0 table 255 scope host src 10.0.0.1
route local 10.1.0.1 dev eth1 table 255 scope host src 10.1.0.1
route default via 10.0.0.9 dev eth0 table 254
route 10.0.0.0/24 dev eth0 table 254 scope link src 10.0.0.1
route 10.1.0.0/24 dev eth1 table 254 scope link src 10.1.0.1
route default via 10.1.0.9 dev eth1 table 100
route -6 local 2001:db8:a::1 dev eth0 table 255
route -6 local 2001:db8:b::1 dev eth1 table 255
route -6 default via 2001:db8:a::9 dev eth0 table 254 metric 1024
route -6 default via 2001:db8:b::9 dev eth1 table 100 metric 1024
`

func world(t testing.TB, text string, sysctls ...string) *snapshot.Snapshot {
	t.Helper()
	state, err := netstate.ParseState(text)
	if err != nil {
		t.Fatal(err)
	}
	s := &snapshot.Snapshot{State: state}
	for _, l := range []string{"all", "default", "lo", "eth0", "eth1"} {
		for _, k := range []string{"rp_filter", "accept_local", "src_valid_mark", "route_localnet", "send_redirects"} {
			s.Sysctls = append(s.Sysctls, netstate.Sysctl{Key: "net/ipv4/conf/" + l + "/" + k, Value: "0"})
		}
		s.Sysctls = append(s.Sysctls, netstate.Sysctl{Key: "net/ipv4/conf/" + l + "/forwarding", Value: "1"},
			netstate.Sysctl{Key: "net/ipv6/conf/" + l + "/forwarding", Value: "1"}, netstate.Sysctl{Key: "net/ipv6/conf/" + l + "/disable_ipv6", Value: "0"})
	}
	for _, kv := range sysctls {
		k, v, _ := strings.Cut(kv, "=")
		for i := range s.Sysctls {
			if s.Sysctls[i].Key == k {
				s.Sysctls[i].Value = v
			}
		}
	}
	return s
}

func TestCompare(t *testing.T) {
	for _, c := range []struct {
		name, more string
		sysctls    []string
		want       []string // PACKETS: BEFORE → AFTER, each a beginning of its part
	}{
		{"nothing", "", nil, nil},
		{"a rule that changes nothing", "rule 200 from 10.0.0.0/24 table 254\n", nil, nil},
		{"a rule for an address", "rule 200 from 10.1.0.1 table 100\n", nil, []string{
			"packets from 10.1.0.1 to anywhere but 10.0.0.0/24, 10.1.0.0/24 made here: sent by eth0 via 10.0.0.9 → sent by eth1 via 10.1.0.9",
			"packets from 10.1.0.1 to 10.0.0.0/24 made here: sent by eth0 from → sent by eth1 via 10.1.0.9",
			"packets from 10.1.0.1 made here and bound to eth1: sent by eth1 from → sent by eth1 via 10.1.0.9"}},
		{"IPv6", "rule -6 200 from 2001:db8:b::1 table 100\n", nil, []string{
			"packets from 2001:db8:b::1 made here: sent by eth0 via 2001:db8:a::9 → sent by eth1 via 2001:db8:b::9"}},
		{"a rule for a mark", "rule 200 from all fwmark 0x5 table 100\n", nil, []string{
			"packets to anywhere but 10.0.0.0/24, 10.1.0.0/24 made here, fwmark 0x5", "packets to 10.1.0.0/24 made here, fwmark 0x5",
			"packets to anywhere but 10.0.0.0/24, 10.1.0.0/24 in by any link, fwmark 0x5"}},
		{"a rule for a port", "rule 200 from all ipproto tcp dport 25 prohibit\n", nil, []string{
			"packets to anywhere but 10.0.0.0/24, 10.1.0.0/24 made here, ipproto tcp, dport 25: sent by eth0 → dropped: rule 200 says prohibit",
			"packets to anywhere but 10.0.0.0/24, 10.1.0.0/24 in by any link, ipproto tcp, dport 25: forwarded by eth0 → dropped: rule 200 says prohibit"}},
		{"a rule for a port of any protocol", "rule 200 from all dport 25 prohibit\nrule -6 200 from all sport 25 prohibit\n", nil, []string{
			"packets to anywhere but 10.0.0.0/24, 10.1.0.0/24 made here, dport 25: sent by eth0 → dropped: rule 200 says prohibit"}},
		{"a rule for a port of another protocol", "rule 150 from all ipproto tcp prohibit\nrule 151 from all ipproto udp table 254\nrule 200 from all dport 25 table 100\n", nil, []string{
			"packets to anywhere but 10.0.0.0/24, 10.1.0.0/24 made here, ipproto not tcp and not udp, dport 25: sent by eth0 via 10.0.0.9 → sent by eth1 via 10.1.0.9"}},

		{"a route", "route 8.8.0.0/16 via 10.1.0.9 dev eth1 table 254\n", nil, []string{
			"packets to 8.8.0.0/16 made here: sent by eth0 via 10.0.0.9 → sent by eth1 via 10.1.0.9",
			"packets to 8.8.0.0/16 in by any link: forwarded by eth0 via 10.0.0.9 → forwarded by eth1 via 10.1.0.9"}},
		{"an IPv6 blackhole", "route -6 blackhole 2001:db8:99::/48 table 254 metric 1024\n", nil, []string{
			"packets to 2001:db8:99::/48 made here: sent by eth0 → dropped: the route 2001:db8:99::/48"}},
		{"a route that nobody asks", "route 8.8.0.0/16 via 10.1.0.9 dev eth1 table 777\n", nil, nil},
		{"a sysctl", "", []string{"net/ipv4/conf/eth1/rp_filter=1"}, []string{
			"packets from anywhere but 10.1.0.0/24 to 10.0.0.1, 10.1.0.1, 255.255.255.255 in by eth1: delivered to this host → dropped: rp_filter on eth1",
			"packets from anywhere but 10.1.0.0/24 to anywhere but 10.0.0.0/24, 10.1.0.0/24 in by eth1: forwarded by eth0 → dropped: rp_filter on eth1"}},
		{"a table of nftables", `rule 200 from all fwmark 0x1/0x1 table 100
nft table viarule
nft map n IPv4
nft elem 10.1.0.1-10.1.0.77 goto net
nft chain in type filter hook prerouting priority -149
nft rule iifname "eth1" ip daddr vmap @n
nft chain net
nft rule ct mark set ct mark and 0xffffffef or 0x10
nft chain out type route hook output priority -149
nft rule ct direction reply ct mark and 0x10 == 0x10 meta mark set meta mark and 0xfffffffe or 0x1
`, nil, []string{"answers to packets from anywhere but 10.0.0.0/24, 10.1.0.0/24 to 10.1.0.1 in by eth1: sent by eth0 via 10.0.0.9 → sent by eth1 via 10.1.0.9"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := impact.Compare(world(t, node), world(t, node+c.more, c.sysctls...))
			for _, want := range c.want {
				packets, fates, _ := strings.Cut(want, ": ")
				before, after, _ := strings.Cut(fates, " → ")
				if !slices.ContainsFunc(got.Classes, func(k impact.Line) bool {
					return strings.HasPrefix(k.Packets, packets) && strings.HasPrefix(k.Before, before) && strings.HasPrefix(k.After, after)
				}) {
					t.Errorf("lacks %s\nhas:\n%s", want, text(got))
				}
			}
			if c.want == nil && len(got.Classes) > 0 {
				t.Errorf("has:\n%s", text(got))
			}
			askAgain(t, got, world(t, node), world(t, node+c.more, c.sysctls...))
			// Taken back, the same packets go the other way round.
			back := impact.Compare(world(t, node+c.more, c.sysctls...), world(t, node))
			if len(back.Classes) != len(got.Classes) {
				t.Errorf("%d classes, and %d when it is taken back", len(got.Classes), len(back.Classes))
			}
		})
	}
}

// askAgain asks explain for the examples of a report, as its questions say.
func askAgain(t rapid.TB, r impact.Report, before, after *snapshot.Snapshot) {
	t.Helper()
	for _, l := range r.Classes {
		line, err := json.Marshal(l.Question)
		if err != nil {
			t.Fatal(err)
		}
		q, err := explain.ParseQuestion(line)
		if err != nil {
			t.Fatal(err)
		}
		p, err := q.Packet()
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		for _, c := range []struct {
			s    *snapshot.Snapshot
			want string
		}{{before, l.Before}, {after, l.After}} {
			a, err := explain.New(c.s).Explain(p, explain.Options{Reply: l.Answer})
			if err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			if l.Answer {
				a = a.Reply
			}
			if a.Summary != c.want {
				t.Errorf("%s: %s, and the report says %s", line, a.Summary, c.want)
			}
		}
	}
}

func text(r impact.Report) string {
	var b strings.Builder
	for _, l := range r.Classes {
		b.WriteString(l.Packets + ": " + l.Before + " → " + l.After + " [" + l.Example + "]\n")
	}
	return b.String()
}

// TestExamplesAreQuestions: whatever changes, each example of a report is a line that
// explain --batch takes, and it answers as the report says.
func TestExamplesAreQuestions(t *testing.T) {
	ported := 0
	rapid.Check(t, func(t *rapid.T) {
		// A question has no key for the tunnel that a packet came out of.
		may := slices.DeleteFunc(selectors(t), func(s string) bool { return s == "tun" })
		if rapid.Bool().Draw(t, "ports") {
			may = []string{"from", "dport", "sport", "dport"}
		}
		external := rapid.Bool().Draw(t, "external")
		before := drawInput(t, may, external)
		after := drawChange(t, before, may, external)
		s := [2]*snapshot.Snapshot{snapshotOf(before), snapshotOf(after)}
		r := impact.Compare(s[0], s[1])
		askAgain(t, r, s[0], s[1])
		for _, l := range r.Classes {
			ported += flagOf(l.Question.SPort+l.Question.DPort > 0)
		}
	})
	t.Log(ported, "examples have a port")
	if ported == 0 {
		t.Error("no example has a port: the test has become blind")
	}
}
