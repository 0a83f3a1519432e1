package sim_test

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/viarule/viarule/internal/fib"
	"github.com/viarule/viarule/internal/kernel"
	"github.com/viarule/viarule/internal/netnstest"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/netstate/netstatetest"
	"github.com/viarule/viarule/internal/sim"
)

const podHost = `
link 1 lo up carrier loopback
link 2 via0 kind veth up carrier
link 3 eth0 kind veth up carrier
link 4 eth1 kind veth up carrier
rule 0 from all table 255
rule 32766 from all table 254
rule -6 0 from all table 255
rule -6 32766 from all table 254
route 10.1.0.0/16 dev via0 table 254
route 10.2.0.0/16 dev eth0 table 254
route 10.3.0.0/16 table 254 nexthop dev eth0 weight 1 nexthop dev eth1 weight 1
route -6 2001:db8:1::/48 dev via0 table 254 metric 1024
route -6 2001:db8:2::/48 dev eth0 table 254 metric 1024
`

func TestForwardChains(t *testing.T) {
	const (
		drop = "forward chain ip filter FORWARD priority 0 policy drop\n"
		ours = "forward rule iifname \"via*\" accept comment \"viarule PodNetwork/pods\"\nforward rule oifname \"via*\" accept comment \"viarule PodNetwork/pods\"\n"
		v6   = "forward chain ip6 filter FORWARD priority 0 policy drop\n"
		by   = "forwarded"
		pol  = "dropped: the chain ip filter FORWARD drops it by its policy: no rule there accepts what comes in by "
	)
	for _, tt := range []struct{ name, chains, way, want string }{
		{"no chain", "", "via0 10.2.0.1", by},
		{"the policy accepts", "forward chain ip filter FORWARD priority 0 policy accept\n", "via0 10.2.0.1", by},
		{"the policy drops", drop, "via0 10.2.0.1", pol + "via0 and goes out by eth0"},
		{"the table is switched off", strings.Replace(drop, "drop", "drop dormant", 1), "via0 10.2.0.1", by},
		{"the policy of the other family drops", v6, "via0 10.2.0.1", by},
		{"from a pod, accepted", drop + ours, "via0 10.2.0.1", by + " | rule 1 of the chain ip filter FORWARD (iifname \"via*\" accept comment \"viarule PodNetwork/pods\"): accepts it"},
		{"to a pod, accepted", drop + ours, "eth0 10.1.0.1", by + " | rule 2 of the chain ip filter FORWARD (oifname \"via*\" accept comment \"viarule PodNetwork/pods\"): accepts it"},
		{"not of pods", drop + ours, "eth1 10.2.0.1", pol + "eth1 and goes out by eth0"},
		{"IPv6, not accepted", v6, "via0 2001:db8:2::1", "dropped: the chain ip6 filter FORWARD drops it by its policy: no rule there accepts what comes in by via0 and goes out by eth0"},
		{"IPv6, accepted", v6 + ours, "eth0 2001:db8:1::1", by + " | rule 2 of the chain ip6 filter FORWARD (oifname \"via*\" accept comment \"viarule PodNetwork/pods\"): accepts it"},
		{"accepted in one chain and dropped in another", drop + ours + "forward chain inet fw f priority 7 policy drop\n", "via0 10.2.0.1", "dropped: the chain inet fw f drops it by its policy: no rule there accepts what comes in by via0 and goes out by eth0"},
		{"a rule in front drops it", drop + "forward rule iifname \"via0\" drop\n" + ours, "via0 10.2.0.1", "dropped: rule 1 of the chain ip filter FORWARD (iifname \"via0\" drop) drops it"},
		{"a rule in front rejects all", drop + "forward rule reject\n" + ours, "via0 10.2.0.1", "dropped: rule 1 of the chain ip filter FORWARD (reject) drops it"},
		{"a rule of others accepts it", drop + "forward rule oifname \"eth0\" iifname != \"eth0\" accept\n", "via0 10.2.0.1", by + " | rule 1 of the chain ip filter FORWARD (oifname \"eth0\" iifname != \"eth0\" accept): accepts it"},
		{"a rule that cannot be read may accept it", drop + "forward rule unknown ct . accept\n", "via0 10.2.0.1",
			"unknown: it cannot be told whether rule 1 of the chain ip filter FORWARD (unknown ct . accept) accepts it; otherwise the chain ip filter FORWARD drops it by its policy: no rule there accepts what comes in by via0 and goes out by eth0"},
		{"one for connections that stand may not", drop + "forward rule ct state established,related accept\n", "via0 10.2.0.1", pol + "via0 and goes out by eth0"},
		{"one for new connections accepts it", drop + "forward rule ct state new iifname \"via0\" accept\n", "via0 10.2.0.1", by + " | rule 1 of the chain ip filter FORWARD (ct state new iifname \"via0\" accept): accepts it"},
		{"one that is not for the packet may not", drop + "forward rule oifname \"docker0\" unknown ct . accept\nforward rule iifname \"docker0\" jump DOCKER\n", "via0 10.2.0.1", pol + "via0 and goes out by eth0"},
		{"one that may accept what is accepted anyway", drop + "forward rule unknown ct . accept\n" + ours, "via0 10.2.0.1", by + " | rule 2 of the chain ip filter FORWARD (iifname \"via*\" accept comment \"viarule PodNetwork/pods\"): accepts it"},
		{"one that may drop is one of the filters", drop + "forward rule unknown ct . drop\n" + ours, "via0 10.2.0.1", by + " | rule 2 of the chain ip filter FORWARD (iifname \"via*\" accept comment \"viarule PodNetwork/pods\"): accepts it"},
		{"chains that are jumped to", drop + "forward rule jump A\nforward rule drop\nforward sub A\nforward rule iifname \"eth0\" accept\nforward rule jump B\nforward sub B\nforward rule iifname \"via0\" accept\n", "via0 10.2.0.1", by + " | rule 1 of the chain B (iifname \"via0\" accept): accepts it"},
		{"a goto does not come back", drop + "forward rule goto A\nforward rule accept\nforward sub A\n", "via0 10.2.0.1", pol + "via0 and goes out by eth0"},
		{"by one of two links, of which one is not accepted", drop + "forward rule oifname \"eth0\" accept\n", "via0 10.3.0.1",
			"unknown: it cannot be told whether rule 1 of the chain ip filter FORWARD (oifname \"eth0\" accept) accepts it; otherwise the chain ip filter FORWARD drops it by its policy: no rule there accepts what comes in by via0 and goes out by eth0 or eth1"},
		{"a circle, of which no kernel has one", drop + "forward rule jump A\nforward rule jump A\nforward sub A\nforward rule jump A\nforward rule jump A\nforward rule jump A\n", "via0 10.2.0.1",
			"unknown: it cannot be told whether rule 1 of the chain A (jump A) accepts it; otherwise the chain ip filter FORWARD drops it by its policy: no rule there accepts what comes in by via0 and goes out by eth0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := sim.Input{Kernel: "6.18.0", State: netstatetest.ParseState(t, podHost+tt.chains), Sysctls: routerSysctls("0", "via0", "eth0", "eth1")}
			iif, to, _ := strings.Cut(tt.way, " ")
			p := sim.Packet{Flow: fib.Flow{From: netip.MustParseAddr("10.9.0.9"), To: netip.MustParseAddr(to), IIF: iif}}
			if p.To.Is6() {
				p.From = netip.MustParseAddr("2001:db8:9::9")
			}
			a := sim.New(&in).Trace(p, sim.Conn{})
			got := a.Verdict.String()
			if a.Reason != "" {
				got += ": " + a.Reason
			}
			for _, s := range a.Steps {
				if s.Kind == "filter" && a.Verdict == sim.Forwarded {
					got += " | " + s.Object + ": " + s.Result
				}
			}
			if got != tt.want {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
			if a.Verdict == sim.Dropped && a.Cause != sim.ForeignFilter {
				t.Errorf("the cause is %d", a.Cause)
			}
		})
	}
}

// The answer to an accepted packet is of a connection that stands.
func TestForwardChainsLetAnswersPass(t *testing.T) {
	in := sim.Input{Kernel: "6.18.0", State: netstatetest.ParseState(t, podHost+"forward chain ip filter FORWARD priority 0 policy drop\nforward rule iifname \"via0\" accept\nforward rule ct state established accept\n"),
		Sysctls: routerSysctls("0", "via0", "eth0", "eth1")}
	w := sim.New(&in)
	p := sim.Packet{Flow: fib.Flow{From: netip.MustParseAddr("10.1.0.1"), To: netip.MustParseAddr("10.2.0.1"), IIF: "via0"}}
	a := w.Run(p, sim.Conn{})
	back, c, why := w.Reply(p, &a)
	if why != "" {
		t.Fatal(why)
	}
	if r := w.Run(back, c); a.Verdict != sim.Forwarded || r.Verdict != sim.Forwarded {
		t.Errorf("the packet is %s (%s), its answer %s (%s)", a.Verdict, a.Reason, r.Verdict, r.Reason)
	}
	if r := w.Run(back, sim.Conn{}); r.Verdict != sim.Dropped {
		t.Errorf("the same packet as a connection's first is %s", r.Verdict)
	}
}

// nftText gives drawn chains to nft, which refuses circles and jumps to nowhere: these
// become returns. What viarule does not know becomes a condition that always holds, or
// one that never does.
func nftText(chains []netstate.ForwardChain) string {
	var b strings.Builder
	b.WriteString("flush ruleset\n")
	for i := range chains {
		c := &chains[i]
		rules := func(list []netstate.ForwardRule, from int) {
			for _, r := range list {
				r.Comment = ""
				text := r.String()
				for j := range 3 {
					name := fmt.Sprintf("SUB%d", j)
					if j < from || j >= len(c.Subs) {
						text = strings.NewReplacer("jump "+name, "return", "goto "+name, "return").Replace(text)
					}
				}
				text = strings.NewReplacer("unknown ct .", "meta l4proto udp", `unknown "match conntrack" .`, "meta l4proto tcp").Replace(text)
				fmt.Fprintf(&b, "\t\t%s\n", strings.ReplaceAll(text, `\\*`, `\*`))
			}
			b.WriteString("\t}\n")
		}
		fmt.Fprintf(&b, "table %s t {\n", c.Family)
		if c.Dormant {
			b.WriteString("\tflags dormant\n")
		}
		for j := len(c.Subs) - 1; j >= 0; j-- {
			fmt.Fprintf(&b, "\tchain SUB%d {\n", j)
			rules(c.Subs[j].Rules, j+1)
		}
		policy := map[bool]string{false: "accept", true: "drop"}[c.Drop]
		fmt.Fprintf(&b, "\tchain c {\n\t\ttype filter hook forward priority %d; policy %s;\n", c.Priority, policy)
		rules(c.Rules, 0)
		b.WriteString("}\n")
	}
	return b.String()
}

// leavesOpen says that a chain has something that is not read: a condition other than
// those on links and states, or a chain behind one.
func leavesOpen(c netstate.ForwardChain) bool {
	all := slices.Clone(c.Rules)
	for i := range c.Subs {
		all = append(all, c.Subs[i].Rules...)
	}
	return slices.ContainsFunc(all, func(r netstate.ForwardRule) bool {
		return slices.ContainsFunc(r.Rule, func(s netstate.NftStmt) bool {
			leads := s.Op == netstate.NftJump || s.Op == netstate.NftGoto
			return s.Op == netstate.NftUnknown || leads && !slices.ContainsFunc(c.Subs, func(f netstate.ForwardSub) bool { return f.Name == s.Name })
		})
	})
}

// TestForwardChainsAgainstPackets loads random chains, and holds what the kernel does
// with packets against the simulation.
func TestForwardChainsAgainstPackets(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, for network namespaces")
	}
	netnstest.New(t, netnstest.Mounts())
	links := []string{"via0", "eth0", "eth1"}
	w := newWire(t, links)
	netnstest.Exec(t, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1", "net.ipv4.conf.all.rp_filter=0")
	for i, l := range links {
		netnstest.Exec(t, "sysctl", "-qw", "net.ipv4.conf."+l+".rp_filter=0")
		netnstest.IP(t, fmt.Sprintf("route add 10.%d.0.0/16 dev %s", i+1, l), fmt.Sprintf("-6 route add 2001:db8:%d::/48 dev %s", i+1, l))
	}
	conn, err := kernel.Open("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	var packets []packet
	for i, in := range links {
		for j := range links {
			if i != j {
				packets = append(packets,
					packet{iif: in, ttl: 64, from: netip.MustParseAddr("10.9.0.9"), to: netip.MustParseAddr(fmt.Sprintf("10.%d.0.1", j+1))},
					packet{iif: in, ttl: 64, from: netip.MustParseAddr("2001:db8:9::9"), to: netip.MustParseAddr(fmt.Sprintf("2001:db8:%d::1", j+1))})
			}
		}
	}
	seen := map[string]int{}
	play := func(t rapid.TB, text string) {
		cmd := exec.Command("nft", "-f", "-")
		cmd.Stdin = strings.NewReader(text)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("nft: %v\n%s\n%s", err, out, text)
		}
		in := input(t, conn)
		allRead := !slices.ContainsFunc(in.State.Forward, leavesOpen)
		world := sim.New(&in)
		for i, f := range w.ask(packets) {
			p := &packets[i]
			a := world.Trace(sim.Packet{TTL: p.ttl, Flow: fib.Flow{From: p.from, To: p.to, IIF: p.iif, Proto: 17, SPort: p.sport, DPort: port}}, sim.Conn{})
			seen[a.Verdict.String()]++
			if a.Verdict == sim.Forwarded && !allRead {
				continue // a rule that cannot be read may drop it: Filters says so
			}
			if diff := differs(&a, f); diff != "" {
				t.Fatalf("%s -> %s by %s: %s\n%s\n%s\nread as\n%s", p.from, p.to, p.iif, diff, steps(&a), text, netstate.State{Forward: in.State.Forward})
			}
		}
	}
	// Few drawn chains have a rule that matters and cannot be read.
	play(t, "flush ruleset\ntable inet t { chain c { type filter hook forward priority 0; policy drop; iifname \"via0\" accept; oifname \"eth1\" meta l4proto udp accept; }; }\n")
	for _, v := range []string{"forwarded", "dropped", "unknown"} {
		if seen[v] == 0 {
			t.Errorf("by the chain that is not drawn no packet was %s", v)
		}
	}
	clear(seen)
	rapid.Check(t, func(t *rapid.T) {
		text := nftText(netstatetest.ForwardChains().Draw(t, "chains"))
		if rapid.Bool().Draw(t, "one that accepts only what cannot be read") {
			text += "table inet last {\n\tchain c {\n\t\ttype filter hook forward priority 500; policy drop;\n\t\tmeta l4proto udp accept\n\t}\n}\n"
		}
		play(t, text)
	})
	t.Log(seen)
	for _, v := range []string{"forwarded", "dropped", "unknown"} {
		if seen[v] == 0 {
			t.Errorf("no packet was %s: the test has become blind", v)
		}
	}
}
