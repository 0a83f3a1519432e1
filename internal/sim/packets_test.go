package sim_test

import (
	"context"
	"flag"
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

// The node's links have the names that netstatetest's tables of nftables know.
var nodeLinks = []string{"eth0", "eth0.100", "fifteen-letters"}

func pick[T any](t *rapid.T, label string, from ...T) T {
	return rapid.SampledFrom(from).Draw(t, label)
}

// host draws one of few addresses: some are the node's, some are somewhere else.
func host(t *rapid.T, f netstate.Family) netip.Addr {
	net, last := byte(rapid.IntRange(0, 3).Draw(t, "net")), pick[byte](t, "host", 1, 2, 9)
	if f == netstate.IPv6 {
		return netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 5: net, 15: last})
	}
	return netip.AddrFrom4([4]byte{10, net, 0, last})
}

func prefix(t *rapid.T, f netstate.Family) netip.Prefix {
	bits := pick(t, "bits", 8, 24, 32)
	if f == netstate.IPv6 {
		bits = pick(t, "bits", 32, 48, 128)
	}
	return netip.PrefixFrom(host(t, f), bits).Masked()
}

// drawWorld gives lines for ip, by family, and for sysctl that make a world. With vrf,
// eth0.100 may be a port of the VRF blue, whose table is 101.
func drawWorld(t *rapid.T, vrf bool) (lines [2][]string, sysctls []string) {
	iifs := append([]string{"lo"}, nodeLinks...)
	if vrf {
		iifs = append(iifs, "blue")
		master := "link set eth0.100 nomaster"
		if rapid.Bool().Draw(t, "in the VRF") {
			master = "link set eth0.100 master blue"
		}
		lines[0] = append(lines[0], master)
	}
	for x, f := range netstate.Families {
		ip := lines[x]
		for _, l := range nodeLinks {
			ip = append(ip, "addr flush dev "+l+" scope global")
			if f == netstate.IPv6 || rapid.IntRange(0, 3).Draw(t, "address") > 0 {
				bits := map[netstate.Family]int{netstate.IPv4: 24, netstate.IPv6: 48}[f]
				opt := map[netstate.Family]string{netstate.IPv4: " brd +", netstate.IPv6: " nodad"}[f]
				ip = append(ip, fmt.Sprintf("addr add %s/%d dev %s%s", host(t, f), bits, l, opt))
			}
		}
		for _, table := range []int{100, 101, 254} {
			ip = append(ip, fmt.Sprintf("route flush table %d proto static", table))
			for range rapid.IntRange(0, 4).Draw(t, "routes") {
				to := "default"
				if rapid.IntRange(0, 2).Draw(t, "default") > 0 {
					to = prefix(t, f).String()
				}
				kind := pick(t, "type", "dev", "dev", "dev", "dev", "multi", "unreachable", "blackhole", "throw", "local")
				line := fmt.Sprintf("route add %s proto static table %d", to, table)
				switch kind {
				case "dev":
					line += " dev " + pick(t, "link", nodeLinks...)
				case "multi":
					line += " nexthop dev eth0 nexthop dev eth0.100"
				case "local":
					line = strings.Replace(line, "add ", "add local ", 1) + " dev lo"
				default:
					line = strings.Replace(line, "add ", "add "+kind+" ", 1)
				}
				ip = append(ip, line)
			}
		}
		for i := range 8 {
			ip = append(ip, fmt.Sprintf("rule del pref %d", 100+i))
		}
		for i := range rapid.IntRange(0, 8).Draw(t, "rules") {
			line := fmt.Sprintf("rule add pref %d", 100+i)
			if rapid.IntRange(0, 7).Draw(t, "not") == 7 {
				line += " not"
			}
			for range rapid.IntRange(0, 2).Draw(t, "selectors") {
				switch pick(t, "selector", "from", "to", "iif", "fwmark", "ports", "dport") {
				case "from":
					line += " from " + prefix(t, f).String()
				case "to":
					line += " to " + prefix(t, f).String()
				case "iif":
					line += " iif " + pick(t, "iif", iifs...)
				case "fwmark":
					line += pick(t, "mark", " fwmark 0x1/0x3", " fwmark 0x2/0x2", " fwmark 0/0x3")
				case "ports":
					line += fmt.Sprintf(" ipproto udp sport %d", port)
				case "dport":
					line += fmt.Sprintf(" ipproto udp dport %d", port)
				}
			}
			line += pick(t, "action", " lookup 100", " lookup 101", " lookup 100 suppress_prefixlength 0", " lookup main", " prohibit", " goto 32766")
			ip = append(ip, line)
		}
		lines[x] = ip
	}
	set := func(format string, args ...any) { sysctls = append(sysctls, fmt.Sprintf(format, args...)) }
	rarely := func(label string) int { return rapid.IntRange(0, 4).Draw(t, label) / 4 }
	mostly := func(label string) int { return 1 - rarely(label) }
	set("net/ipv4/conf/all/rp_filter=%d", pick(t, "rp_filter of all", 0, 0, 0, 1, 2))
	set("net/ipv4/conf/all/accept_local=%d", rarely("accept_local of all"))
	set("net/ipv4/conf/all/src_valid_mark=%d", rarely("src_valid_mark of all"))
	set("net/ipv6/conf/all/forwarding=%d", mostly("forwarding of IPv6"))
	for _, l := range nodeLinks {
		set("net/ipv4/conf/%s/rp_filter=%d", l, rapid.IntRange(0, 2).Draw(t, "rp_filter"))
		set("net/ipv4/conf/%s/accept_local=%d", l, rarely("accept_local"))
		set("net/ipv4/conf/%s/src_valid_mark=%d", l, rapid.IntRange(0, 1).Draw(t, "src_valid_mark"))
		set("net/ipv4/conf/%s/forwarding=%d", l, mostly("forwarding"))
		set("net/ipv4/conf/%s/route_localnet=%d", l, rarely("route_localnet"))
		if forces() { // behind all/forwarding, which would set it back
			set("net/ipv6/conf/%s/force_forwarding=%d", l, rapid.IntRange(0, 1).Draw(t, "force_forwarding"))
		}
	}
	return lines, sysctls
}

// forces says whether links of this kernel have force_forwarding (Linux 6.17).
func forces() bool {
	_, err := os.Stat("/proc/sys/net/ipv6/conf/all/force_forwarding")
	return err == nil
}

// drawNft draws a table whose marks the rules of the world know; with vrf, some of its
// rules are for the VRF.
func drawNft(t *rapid.T, vrf bool) netstate.NftTable {
	table := netstatetest.NftTable().Draw(t, "table")
	for i := range table.Chains {
		for _, r := range table.Chains[i].Rules {
			for k := range r {
				if m := &r[k].Mark; m.Mask != 0 {
					m.Mask = 1 + m.Mask%3
					m.Value &= m.Mask
				}
				if vrf && r[k].Link != "" && rapid.IntRange(0, 2).Draw(t, "for the VRF") == 2 {
					r[k].Link = "blue"
				}
				if r[k].Op == netstate.NftDrop {
					r[k].Op = netstate.NftReturn // nearly all would be dropped
				}
			}
		}
	}
	return table
}

// redirects draws whether the node sends ICMP redirects. Those of IPv4 pass the output
// hook before the packet that they are about gets any further, as answers of its
// connection. Where that hook writes the connection's mark, which viarule's chains never
// do there, the packet's way would depend on how many redirects the kernel has sent.
func redirects(t *rapid.T, table *netstate.NftTable) []string {
	output, marks := false, false
	for _, c := range table.Chains {
		output = output || c.Hook.Hook == "output"
		for _, r := range c.Rules {
			marks = marks || slices.ContainsFunc(r, func(s netstate.NftStmt) bool { return s.Op == netstate.NftSetCtMark })
		}
	}
	value := "0"
	if !(output && marks) && rapid.Bool().Draw(t, "redirects") {
		value = "1"
	}
	var out []string
	for _, link := range append([]string{"all"}, nodeLinks...) {
		out = append(out, "net/ipv4/conf/"+link+"/send_redirects="+value)
	}
	return out
}

func drawPacket(t *rapid.T) packet {
	f := pick(t, "family", netstate.Families[:]...)
	p := packet{
		iif: pick(t, "in by", nodeLinks...), from: host(t, f), to: host(t, f), ttl: pick[uint8](t, "ttl", 64, 64, 64, 64, 64, 1),
	}
	odd := []string{"127.0.0.1", "0.0.0.1", "224.0.0.5", "255.255.255.255", "0.0.0.0", "10.1.0.255"}
	if f == netstate.IPv6 {
		odd = []string{"::1", "ff02::5", "fe80::9", "::"}
	}
	if rapid.IntRange(0, 11).Draw(t, "odd source") == 11 {
		p.from = netip.MustParseAddr(pick(t, "source", odd...))
	}
	if rapid.IntRange(0, 11).Draw(t, "odd destination") == 11 {
		p.to = netip.MustParseAddr(pick(t, "destination", odd...))
	}
	return p
}

// TestAgainstPackets makes random worlds, sends real packets into them, and holds
// what the kernel does with each against the simulation.
func TestAgainstPackets(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, for network namespaces")
	}
	netnstest.New(t, netnstest.Mounts())
	w := newWire(t, nodeLinks)
	netnstest.IP(t, "rule add pref 99 lookup 99", "rule del pref 99") // see fib: from here on IPv4 keeps local and main apart
	netnstest.Exec(t, "sysctl", "-qw", "net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0")
	vrf := exec.Command("ip", "link", "add", "blue", "type", "vrf", "table", "101").Run() == nil
	if vrf {
		netnstest.IP(t, "link set blue up")
		// The test's socket gets what is delivered in a VRF too.
		netnstest.Exec(t, "sysctl", "-qw", "net.ipv4.udp_l3mdev_accept=1")
	}
	t.Logf("with a VRF: %t", vrf)
	conn, err := kernel.Open("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	seen := map[string]int{}
	manyWorlds(t)
	rapid.Check(t, func(t *rapid.T) {
		lines, sysctls := drawWorld(t, vrf)
		for i, family := range []string{"-4", "-6"} {
			cmd := exec.Command("ip", family, "-force", "-batch", "-")
			cmd.Stdin = strings.NewReader(strings.Join(lines[i], "\n") + "\n")
			_ = cmd.Run() // some lines do not fit the world: what is there counts
		}
		table := drawNft(t, vrf)
		write(t, conn, &table)
		sysctls = append(sysctls, redirects(t, &table)...)
		for _, s := range sysctls {
			key, value, _ := strings.Cut(s, "=")
			if err := os.WriteFile("/proc/sys/"+key, []byte(value), 0); err != nil {
				t.Fatal(err)
			}
		}
		packets := rapid.SliceOfN(rapid.Custom(drawPacket), 40, 40).Draw(t, "packets")
		in := input(t, conn)
		fates := w.ask(packets)
		// The kernel adds the routes of IPv6 addresses a little later than the
		// addresses: the packets count that met the state that was read.
		for now := input(t, conn); now.State.String() != in.State.String(); now = input(t, conn) {
			in, fates = now, w.ask(packets)
		}
		world := sim.New(&in)
		for i := range packets {
			p := &packets[i]
			q := sim.Packet{TTL: p.ttl, Flow: fib.Flow{From: p.from, To: p.to, IIF: p.iif, Proto: 17, SPort: p.sport, DPort: port, TOS: p.tos}}
			a := world.Trace(q, sim.Conn{})
			seen[a.Verdict.String()]++
			if a.Verdict == sim.Forwarded && p.to.Is6() && slices.Contains(sysctls, "net/ipv6/conf/all/forwarding=0") {
				seen["forwarded by the link alone"]++
			}
			if a.Verdict == sim.Dropped {
				seen[fmt.Sprint("cause ", a.Cause)]++
			}
			if diff := differs(&a, fates[i]); diff != "" {
				t.Fatalf("%s -> %s by %s: %s\n%s\nsysctls %v\nstate:\n%s", p.from, p.to, p.iif, diff, steps(&a), sysctls, in.State)
			}
		}
	})
	t.Log(seen)
	want := []string{"forwarded", "delivered", "dropped"}
	if forces() {
		want = append(want, "forwarded by the link alone")
	}
	for _, v := range want {
		if seen[v] == 0 {
			t.Errorf("no packet was %s: the test has become blind", v)
		}
	}
	for _, c := range []sim.Cause{sim.NoRoute, sim.RejectRoute, sim.RejectRule, sim.ReverseFilter, sim.OwnSource, sim.Martian, sim.NotForwarding, sim.TimeExceeded} {
		if seen[fmt.Sprint("cause ", c)] == 0 {
			t.Errorf("no packet was dropped for the cause %d: the test has become blind", c)
		}
	}
	if seen["unknown"]*5 > seen["forwarded"] {
		t.Errorf("too many packets without an answer: %v", seen)
	}
}

// TestMasqueradeNeedsASource: what is masqueraded by a node without an address is dropped,
// and goes once there is one.
func TestMasqueradeNeedsASource(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, for network namespaces")
	}
	netnstest.New(t, netnstest.Mounts())
	netnstest.Exec(t, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1", "net.ipv4.conf.all.rp_filter=0",
		"net.ipv4.conf.default.rp_filter=0", "net.ipv6.conf.default.addr_gen_mode=1") // no fe80::/10 address either
	w := newWire(t, nodeLinks)
	netnstest.IP(t, "link set lo down", "route add 10.2.0.0/16 dev eth0.100", "-6 route add 2001:db8:2::/48 dev eth0.100")
	conn, err := kernel.Open("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	write(t, conn, &netstate.NftTable{Name: netstate.NftTableObjects, Chains: []netstate.NftChain{{Name: "m",
		Hook:  netstate.NftHook{Type: "nat", Hook: "postrouting", Priority: netstate.NftSrcNAT},
		Rules: []netstate.NftRule{{{Op: netstate.NftMasquerade}}}}}})
	packets := []packet{
		{iif: "eth0", ttl: 64, from: netip.MustParseAddr("10.1.0.9"), to: netip.MustParseAddr("10.2.0.1")},
		{iif: "eth0", ttl: 64, from: netip.MustParseAddr("2001:db8:1::9"), to: netip.MustParseAddr("2001:db8:2::1")},
	}
	check := func(want sim.Verdict, cause sim.Cause) {
		t.Helper()
		in := input(t, conn)
		world := sim.New(&in)
		for i, f := range w.ask(packets) {
			p := &packets[i]
			a := world.Trace(sim.Packet{TTL: p.ttl, Flow: fib.Flow{From: p.from, To: p.to, IIF: p.iif, Proto: 17, SPort: p.sport, DPort: port}}, sim.Conn{})
			if diff := differs(&a, f); diff != "" || a.Verdict != want || a.Cause != cause {
				t.Errorf("%s -> %s: %s, cause %d; %s\n%s", p.from, p.to, a.Verdict, a.Cause, diff, steps(&a))
			}
		}
	}
	check(sim.Dropped, sim.NoSource)
	netnstest.IP(t, "addr add 10.3.0.1/32 dev eth0", "-6 addr add 2001:db8:3::1/128 dev eth0 nodad")
	check(sim.Forwarded, sim.NoCause)
}

// worlds is how many worlds there are unless the command line says otherwise, of 40
// packets each.
const worlds = "500"

func manyWorlds(t *testing.T) {
	t.Helper()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "rapid.checks" })
	if given {
		return
	}
	before := flag.Lookup("rapid.checks").Value.String()
	if err := flag.Set("rapid.checks", worlds); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = flag.Set("rapid.checks", before) })
}

func write(t interface{ Fatalf(string, ...any) }, c *kernel.Conn, table *netstate.NftTable) {
	if _, failed := c.Apply(context.Background(), []netstate.Change{{Verb: netstate.Replace, Nft: table}}); len(failed) > 0 {
		t.Fatalf("%v", failed[0])
	}
}

func input(t interface{ Fatal(...any) }, c *kernel.Conn) sim.Input {
	s, err := c.Snapshot(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	sysctls, err := c.Sysctls(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	release, err := kernel.Release()
	if err != nil {
		t.Fatal(err)
	}
	return sim.Input{Kernel: release, State: s, Sysctls: sysctls}
}

func differs(a *sim.Answer, f fate) string {
	switch a.Verdict {
	case sim.Unknown:
		return ""
	case sim.Dropped:
		if f != (fate{}) {
			return fmt.Sprintf("dropped (%s), the kernel %+v", a.Reason, f)
		}
	case sim.Delivered:
		if !f.delivered {
			return fmt.Sprintf("delivered, the kernel %+v", f)
		}
	case sim.Forwarded:
		ways := a.Ways
		if ways == nil {
			ways = []sim.Way{a.Way}
		}
		if f.delivered || !slices.ContainsFunc(ways, func(w sim.Way) bool { return w.Dev == f.dev && (w.Source == f.from || !w.Source.IsValid()) }) {
			return fmt.Sprintf("forwarded by %v, the kernel %+v", ways, f)
		}
	}
	return ""
}

func steps(a *sim.Answer) string {
	var b strings.Builder
	for _, s := range a.Steps {
		fmt.Fprintf(&b, "  %s %s %s", s.Hook, s.Kind, s.Object)
		if s.Rule != nil {
			b.WriteString(s.Rule.String())
		}
		fmt.Fprintf(&b, ": %s\n", s.Result)
	}
	return b.String()
}
