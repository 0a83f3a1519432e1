package impact_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/viarule/viarule/internal/fib"
	"github.com/viarule/viarule/internal/impact"
	"github.com/viarule/viarule/internal/sim"
	"github.com/viarule/viarule/internal/snapshot"
)

func worlds(before, after *snapshot.Snapshot) (w [2]*sim.World) {
	for i, s := range []*snapshot.Snapshot{before, after} {
		w[i] = sim.New(&sim.Input{State: s.State, Sysctls: s.Sysctls})
	}
	return w
}

const twoFamilies = "rule 200 from 10.1.0.1 table 100\nrule -6 200 from 2001:db8:b::1 table 100\n"

// TestFindSaysWhatItLeft: with too little time some pairs are left, and what was
// found is right nevertheless.
func TestFindSaysWhatItLeft(t *testing.T) {
	w := worlds(world(t, node), world(t, node+twoFamilies))
	all := impact.Find(w[0], w[1], impact.Effort)
	if all.Left != 0 {
		t.Fatalf("%d pairs left of a small host", all.Left)
	}
	for _, effort := range []int{0, 1, 50} {
		some := impact.Find(w[0], w[1], effort)
		if some.Left == 0 {
			t.Errorf("effort %d: nothing left", effort)
		}
		for i := range some.Classes {
			p := &some.Classes[i].Example
			held := false
			for j := range all.Classes {
				held = held || all.Classes[j].Holds(p)
			}
			if !held {
				t.Errorf("effort %d: %+v is in no class of all", effort, p)
			}
		}
	}
}

// TestFindHolds: packets whose way differs are in one class, and so are those of which
// the answers' way does; others are in none. Each was once wrong.
func TestFindHolds(t *testing.T) {
	with := node + network
	for _, c := range []struct {
		name          string
		before, after string
		sysctl        string // after
		packet        fib.Flow
		own, answers  int
	}{
		{"a test behind an effect keeps no packet from it", with, with + `nft chain more type filter hook prerouting priority -100
nft rule meta mark set meta mark and 0xffffffc0 or 0x1 iifname "eth1" meta mark set meta mark and 0xffffffc0 or 0x2
`, "", fib.Flow{From: addr("10.0.0.7"), To: addr("9.9.9.9"), IIF: "eth0"}, 1, 0},
		{"answers with ports", with + "rule 150 from all dport 80 table 254\n", with + "rule 150 from all dport 80 table 254\nrule 151 from all fwmark 0x1/0x3f table 254\n", "",
			fib.Flow{From: addr("8.8.8.8"), To: addr("1.2.3.4"), IIF: "eth1", Proto: 6, SPort: 80}, 0, 0},
		{"answers of ICMP have no ports", with + "rule 150 from all dport 80 table 254\n", with + "rule 150 from all dport 80 table 254\nrule 151 from all fwmark 0x1/0x3f table 254\n", "",
			fib.Flow{From: addr("8.8.8.8"), To: addr("1.2.3.4"), IIF: "eth1", Proto: 1, SPort: 80}, 0, 1},
		{"answers come in by another link, which has changed", with, with, "net/ipv4/conf/eth0/forwarding=0",
			fib.Flow{From: addr("8.8.8.8"), To: addr("1.2.3.4"), IIF: "eth1"}, 0, 1},
		{"answers that only something else drops go as other packets do", with + dropped, with + dropped + "rule 100 from all to 8.8.8.0/24 table 100\n", "",
			fib.Flow{From: addr("8.8.8.8"), To: addr("1.2.3.4"), IIF: "eth1"}, 0, 0},
		{"the check of a broadcast's source looks from 0.0.0.0", node + broadcast, node + broadcast + "rule 160 from all table 777\n", "",
			fib.Flow{From: addr("10.1.0.9"), To: addr("10.1.0.255"), IIF: "eth1"}, 1, 0},
		{"and at all that rules for 0.0.0.0 ask", node + broadcast, node + broadcast + "rule 160 from 0.0.0.0 tos 0x10 table 777\n", "",
			fib.Flow{From: addr("10.1.0.9"), To: addr("10.1.0.255"), IIF: "eth1", TOS: 0x10}, 1, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, p := worlds(world(t, c.before), world(t, c.after, c.sysctl)), sim.Packet{Flow: c.packet}
			own, answers := fates(w, p)
			if flagOf(own[0] != own[1]) != c.own || flagOf(answers[0] != answers[1]) != c.answers {
				t.Fatalf("the test is wrong: %q, answers %q", own, answers)
			}
			r := impact.Find(w[0], w[1], impact.Effort)
			in := map[bool]int{}
			for i := range r.Classes {
				if r.Classes[i].Holds(&p) {
					in[r.Classes[i].Answer]++
				}
			}
			if in[false] != c.own || in[true] != c.answers || r.Left != 0 {
				t.Errorf("%d classes hold the packet and %d its answers, want %d and %d; %d left", in[false], in[true], c.own, c.answers, r.Left)
			}
		})
	}
}

// dropped drops what goes back to some clients, for another reason where it has a mark.
const dropped = "rule 199 from 1.2.3.0/24 to 8.8.8.0/24 fwmark 0x1/0x3f prohibit\nroute blackhole 8.8.8.0/24 table 254\n"

// broadcast has a broadcast address, and a client that table 777 takes for this host.
const broadcast = `route broadcast 10.1.0.255 dev eth1 table 255 scope link
route local 10.1.0.9 dev lo table 777 scope host
rule 150 from 10.0.0.0/8 prohibit
`

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// TestReportLeavesOutWhatNobodySends: packets of ICMP have no ports.
func TestReportLeavesOutWhatNobodySends(t *testing.T) {
	with := node + network + "rule 150 from all dport 80 table 254\n"
	r := impact.Compare(world(t, with), world(t, with+"rule 151 from all fwmark 0x1/0x3f table 254\n"))
	answers := 0
	for _, l := range r.Classes {
		answers += flagOf(l.Answer)
		if l.Question.SPort != 0 && l.Question.IPProto == 1 {
			t.Errorf("%s: %s", l.Packets, l.Example)
		}
	}
	if answers == 0 {
		t.Errorf("no answers:\n%s", text(r))
	}
}

// TestFindIsDeterministic: the same change gives the same classes in the same order.
func TestFindIsDeterministic(t *testing.T) {
	say := func() string { return text(impact.Compare(world(t, node), world(t, node+twoFamilies+network))) }
	first := say()
	if !strings.Contains(first, "IPv4") && !strings.Contains(first, "10.1.0.1") {
		t.Fatal(first)
	}
	for range 5 {
		if again := say(); again != first {
			t.Fatalf("%s\nand then\n%s", first, again)
		}
	}
}

// TestOrdinaryPacketsComeFirst: marks, bound sockets and odd addresses come behind.
func TestOrdinaryPacketsComeFirst(t *testing.T) {
	r := impact.Compare(world(t, node), world(t, node+twoFamilies+"rule 100 from all fwmark 0x7 unreachable\n"))
	const ordinary, bound, marked, odd = 0, 1, 2, 3
	last, seen := ordinary, map[int]bool{}
	for _, l := range r.Classes {
		kind := ordinary
		switch s := &l.Selector; {
		case len(s.To) > 0 && (s.To[0] == "fe80::/10" || s.To[0] == "ff00::/8"):
			kind = odd
		case len(s.FwMark) > 0 && !strings.HasPrefix(s.FwMark[0], "not"):
			kind = marked
		case !s.MadeHere && len(s.OIF) > 0:
			kind = bound
		}
		if kind < last {
			t.Errorf("%s (%d) behind others (%d)", l.Packets, kind, last)
		}
		last, seen[kind] = kind, true
	}
	if len(seen) != 4 {
		t.Errorf("not all kinds are there:\n%s", text(r))
	}
}

// TestReportIsBounded: it lists 200 classes, and counts the others.
func TestReportIsBounded(t *testing.T) {
	var routes strings.Builder
	for i := range 250 {
		fmt.Fprintf(&routes, "route 20.%d.0.0/16 via 10.0.0.%d dev eth0 table 254\n", i, i+1)
	}
	r := impact.Compare(world(t, node), world(t, node+routes.String()))
	if len(r.Classes) != 200 || r.More < 50 || r.Left != 0 {
		t.Errorf("%d classes, %d more, %d left", len(r.Classes), r.More, r.Left)
	}
}

// TestLinksThatComeAndGo: packets by a link that is not there before and after are in
// no class, and those that went by it are.
func TestLinksThatComeAndGo(t *testing.T) {
	with := node + "link 4 vlan7 kind vlan up carrier mtu 1500\nroute 10.7.0.0/24 dev vlan7 table 254 scope link\n"
	r := impact.Compare(world(t, with), world(t, node))
	found := false
	for _, l := range r.Classes {
		if l.Question.IIF == "vlan7" || l.Question.OIF == "vlan7" {
			t.Errorf("%s by the link that goes", l.Example)
		}
		found = found || strings.HasPrefix(l.Packets, "packets to 10.7.0.0/24 made here") && strings.HasPrefix(l.Before, "sent by vlan7")
	}
	if !found {
		t.Errorf("packets that went by the link are in no class:\n%s", text(r))
	}
}
