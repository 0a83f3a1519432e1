package kernel_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/viarule/viarule/internal/kernel"
	"github.com/viarule/viarule/internal/kerneltest"
	"github.com/viarule/viarule/internal/netnstest"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/netstate/netstatetest"
)

// forwardLab is a router with a pod behind via0 and two hosts behind up0 and up1. What
// goes to port 9 is let through by a rule of somebody else's, so that a packet to port
// 7 before it, on the same way, has been dropped when the one to port 9 is there.
type forwardLab struct {
	kernel  *kernel.Conn
	program string // of the family: iptables-nft or ip6tables-nft
	table   string // ip or ip6
	hosts   map[string]forwardHost
}

type forwardHost struct {
	addr netip.Addr
	port map[uint16]*net.UDPConn // 7 and 9
}

func newForwardLab(t *testing.T, f netstate.Family) *forwardLab {
	t.Helper()
	l := &forwardLab{program: "iptables-nft", table: "ip", hosts: map[string]forwardHost{}}
	if f == netstate.IPv6 {
		l.program, l.table = "ip6tables-nft", "ip6"
	}
	netnstest.Exec(t, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
	for i, h := range []struct{ name, dev string }{{"pod", "via0"}, {"one", "up0"}, {"two", "up1"}} {
		netnstest.Named(t, h.name)
		net4, net6 := "10.0."+string(rune('1'+i))+".", "fd00:"+string(rune('1'+i))+"::"
		netnstest.IP(t, "link add "+h.dev+" type veth peer name eth0 netns "+h.name, "link set "+h.dev+" up",
			"addr add "+net4+"1/24 dev "+h.dev, "addr add "+net6+"1/64 dev "+h.dev+" nodad")
		addr := netip.MustParseAddr(net4 + "2")
		if f == netstate.IPv6 {
			addr = netip.MustParseAddr(net6 + "2")
		}
		host := forwardHost{addr: addr, port: map[uint16]*net.UDPConn{}}
		netnstest.In(t, h.name, func() {
			netnstest.IP(t, "link set eth0 up", "addr add "+net4+"2/24 dev eth0", "addr add "+net6+"2/64 dev eth0 nodad",
				"route add default via "+net4+"1", "route add default via "+net6+"1")
			for _, port := range []uint16{7, 9} {
				c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, port)))
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { c.Close() })
				host.port[port] = c
			}
		})
		l.hosts[h.name] = host
	}
	l.kernel = openHere(t)
	return l
}

// passes sends a datagram, and says whether it comes through. One that is wanted has
// time.
func (l *forwardLab) passes(t *testing.T, from, to string, wanted bool) bool {
	t.Helper()
	a, b := l.hosts[from], l.hosts[to]
	text := make([]byte, 16)
	for _, port := range []uint16{7, 9} {
		if _, err := a.port[7].WriteToUDPAddrPort([]byte(from), netip.AddrPortFrom(b.addr, port)); err != nil {
			t.Fatal(err)
		}
	}
	read := func(port uint16, wait time.Duration) bool {
		c := b.port[port]
		if err := c.SetReadDeadline(time.Now().Add(wait)); err != nil {
			t.Fatal(err)
		}
		n, _, err := c.ReadFromUDPAddrPort(text)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return false
		case err != nil:
			t.Fatal(err)
		case string(text[:n]) != from:
			t.Fatalf("%s got %q, want %q", to, text[:n], from)
		}
		return true
	}
	if !read(9, 10*time.Second) {
		t.Fatalf("the packet from %s to %s that is let through did not come", from, to)
	}
	if wanted {
		return read(7, 10*time.Second)
	}
	return read(7, time.Millisecond)
}

// pods wants what pods send and get to pass, or not, and all else never.
func (l *forwardLab) pods(t *testing.T, when string, want bool) {
	t.Helper()
	for _, way := range []struct {
		from, to string
		want     bool
	}{{"pod", "one", want}, {"two", "pod", want}, {"one", "two", false}} {
		if got := l.passes(t, way.from, way.to, way.want); got != way.want {
			t.Errorf("%s: from %s to %s passes: %t, want %t", when, way.from, way.to, got, way.want)
		}
	}
}

func (l *forwardLab) forward(t *testing.T) string {
	t.Helper()
	s, err := l.kernel.Snapshot(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return netstate.State{Forward: s.Forward}.String()
}

func (l *forwardLab) change(t *testing.T, verb, chain string) {
	t.Helper()
	for _, side := range []string{"iifname", "oifname"} {
		write(t, l.kernel, netstatetest.ParseChange(t, verb+" accept "+chain+" "+side+` via* comment "viarule PodNetwork/pods"`))
	}
}

func shell(t *testing.T, script string) {
	t.Helper()
	netnstest.Exec(t, "sh", "-ec", script)
}

// What iptables-nft and nft write down and load again still lets pods pass, and nobody
// else; and viarule still knows its own.
func TestAcceptsSurviveOtherPrograms(t *testing.T) {
	const nftReload = "nft list ruleset > /run/rules; (echo flush ruleset; cat /run/rules) | nft -f -"
	for _, f := range netstate.Families {
		name := "iptables"
		if f == netstate.IPv6 {
			name = "ip6tables"
		}
		iptReload := name + "-nft-save > /run/rules; " + name + "-nft-restore < /run/rules"
		for _, tt := range []struct {
			name, reload string
			lost         bool
		}{
			{"nothing", "true", false},
			{"save and restore", iptReload, false},
			{"save and restore, twice", iptReload + "; " + iptReload, false},
			{"nft list and load", nftReload, false},
			{"nft list and load, then save and restore", nftReload + "; " + iptReload, false},
			// nft leaves out what it cannot say: the comment that iptables made. Without it
			// nobody can prove that the rules are viarule's, and they stay.
			{"save and restore, then nft list and load", iptReload + "; " + nftReload, true},
		} {
			netnstest.Run(t, f.String()+" "+tt.name, func(t *testing.T) {
				l := newForwardLab(t, f)
				shell(t, l.program+" -P FORWARD DROP; "+l.program+" -A FORWARD -p udp --dport 9 -j ACCEPT")
				chain := l.table + " filter FORWARD"
				before := l.forward(t)
				l.pods(t, "before", false)
				l.change(t, "+", chain)
				shell(t, tt.reload)
				l.pods(t, "accepted", true)
				comment := ` comment "viarule PodNetwork/pods"`
				if tt.lost {
					comment = ""
				}
				after := before + "forward rule iifname \"via*\" accept" + comment + "\nforward rule oifname \"via*\" accept" + comment + "\n"
				if got := l.forward(t); got != after {
					t.Errorf("it reads as\n%s\nwant\n%s", got, after)
				}
				comment = strings.Replace(comment, " comment", " -m comment --comment", 1)
				want := "-P FORWARD DROP\n-A FORWARD -p udp -m udp --dport 9 -j ACCEPT\n-A FORWARD -i via+" + comment + " -j ACCEPT\n-A FORWARD -o via+" + comment + " -j ACCEPT\n"
				if got := netnstest.Exec(t, l.program, "-S", "FORWARD"); got != want {
					t.Errorf("iptables -S says\n%s\nwant\n%s", got, want)
				}
				if got := netnstest.Exec(t, l.program, "-L", "FORWARD", "-v", "-n"); strings.Count(got, "ACCEPT") != 3 || strings.Count(got, " via+ ") != 2 {
					t.Errorf("iptables -L says\n%s", got)
				}
				if tt.lost {
					return
				}
				l.change(t, "-", chain)
				if got := l.forward(t); got != before {
					t.Errorf("afterwards it reads as\n%s\nwant\n%s", got, before)
				}
				l.pods(t, "afterwards", false)
			}, netnstest.Mounts())
		}
		netnstest.Run(t, f.String()+" native nftables", func(t *testing.T) {
			l := newForwardLab(t, f)
			nft(t, "table inet fw { chain pass { type filter hook forward priority 10; policy drop; udp dport 9 accept; }\n}", "-f", "-")
			before := l.forward(t)
			l.pods(t, "before", false)
			l.change(t, "+", "inet fw pass")
			l.pods(t, "accepted", true)
			shell(t, nftReload)
			l.pods(t, "loaded again", true)
			if got := nft(t, "", "list", "chain", "inet", "fw", "pass"); strings.Count(got, `ifname "via*" accept comment "viarule PodNetwork/pods"`) != 2 {
				t.Errorf("nft says\n%s", got)
			}
			l.change(t, "-", "inet fw pass")
			if got := l.forward(t); got != before {
				t.Errorf("afterwards it reads as\n%s\nwant\n%s", got, before)
			}
			l.pods(t, "afterwards", false)
		}, netnstest.Mounts())
	}
}

// Somebody changes the ruleset all the while: what viarule takes away is its own rule
// and no other.
func TestAcceptsGoByHandle(t *testing.T) {
	netnstest.New(t)
	c := openHere(t)
	nft(t, kerneltest.ForwardNft, "-f", "-")
	ch := netstatetest.ParseChange(t, `+ accept ip filter FORWARD iifname via* comment "viarule PodNetwork/pods"`)
	del := ch
	del.Verb = netstate.Delete
	cmd := exec.Command("sh", "-c", `echo; while nft insert rule ip filter FORWARD counter comment stranger; do nft delete rule ip filter FORWARD handle $(nft -a list chain ip filter FORWARD | sed -n 's/.*stranger" # handle //p' | head -1); done`)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	for range 40 {
		write(t, c, ch)
		write(t, c, del)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	want, err := netstate.ParseState(kerneltest.ForwardFixture)
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.Snapshot(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	got := netstate.State{Forward: s.Forward}.String()
	got = strings.ReplaceAll(got, "forward rule comment stranger\n", "")
	if got != want.String() {
		t.Errorf("what is left is\n%s\nwant\n%s", got, want)
	}
}

// A namespace without nftables, or with no forward chain, has nothing to read.
func TestNoForwardChains(t *testing.T) {
	netnstest.New(t)
	c := openHere(t)
	for _, rules := range []string{"", "table ip filter { chain INPUT { type filter hook input priority 0; policy drop; }\n }\ntable bridge b { chain f { type filter hook forward priority 0; policy drop; }\n }"} {
		if rules != "" {
			nft(t, rules, "-f", "-")
		}
		s, err := c.Snapshot(context.Background())
		if err != nil || len(s.Forward) != 0 {
			t.Errorf("%q: %v, %v", rules, s.Forward, err)
		}
	}
}

// Tables that are switched off, and such as only a program that runs may write to.
func TestForwardTableFlags(t *testing.T) {
	netnstest.New(t)
	c := openHere(t)
	nft(t, "table ip off { flags dormant\n chain f { type filter hook forward priority 0; policy drop; }\n }\n", "-f", "-")
	cmd := exec.Command("nft", "-i")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close(); _ = cmd.Wait() }()
	for _, line := range []string{"add table ip owned { flags owner; }", "add chain ip owned f { type filter hook forward priority 0; policy drop; }", "list table ip owned"} {
		if _, err := in.Write([]byte(line + "\n")); err != nil {
			t.Fatal(err)
		}
	}
	for text, b := "", make([]byte, 512); !strings.Contains(text, "policy drop"); {
		n, err := out.Read(b)
		if err != nil {
			t.Fatalf("nft -i: %v\n%s", err, text)
		}
		text += string(b[:n])
	}
	const want = "forward chain ip off f priority 0 policy drop dormant\nforward chain ip owned f priority 0 policy drop owned\n"
	s, err := c.Snapshot(context.Background())
	if got := (netstate.State{Forward: s.Forward}).String(); err != nil || got != want {
		t.Errorf("got\n%s%v\nwant\n%s", got, err, want)
	}
	a := netstatetest.ParseChange(t, `+ accept ip owned f iifname via* comment "viarule PodNetwork/pods"`)
	if _, failed := c.Apply(context.Background(), []netstate.Change{a}); len(failed) != 1 {
		t.Error("the kernel let somebody else write to an owned table")
	}
}

// What other programs write is read for what it means, and never for more.
func TestForeignRules(t *testing.T) {
	for _, tt := range []struct{ program, rule, want string }{
		{"iptables-nft", "-i eth0 -o via+ -j ACCEPT", `iifname "eth0" oifname "via*" accept`},
		{"ip6tables-nft", "! -i eth0 -j DROP", `iifname != "eth0" drop`},
		{"iptables-nft", "! -o via+ -j DROP", `unknown meta . unknown cmp . drop`},
		{"iptables-nft", "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", `ct state established,related accept`},
		{"ip6tables-nft", "-m conntrack --ctstate NEW,INVALID -j ACCEPT", `ct state invalid,new accept`},
		{"iptables-nft", "-m conntrack --ctstate UNTRACKED -j ACCEPT", `unknown "match conntrack" . accept`},
		{"iptables-nft", "-m conntrack --ctstate SNAT -j ACCEPT", `unknown "match conntrack" . accept`},
		{"iptables-nft", "-m conntrack ! --ctstate NEW -j ACCEPT", `unknown "match conntrack" . accept`},
		{"iptables-nft", "-m conntrack --ctstate NEW --ctproto udp -j ACCEPT", `unknown "match conntrack" . accept`},
		{"iptables-nft", "-m conntrack --ctstate DNAT -j ACCEPT", `unknown "match conntrack" . accept`},
		{"iptables-nft", "-m state --state NEW -j ACCEPT", `ct state new accept`},
		{"iptables-nft", "-j REJECT --reject-with icmp-host-prohibited", `reject`},
		{"iptables-nft", "-j LOG", ``},
		{"iptables-nft", "-j MARK --set-mark 1", `unknown "target MARK" .`},
		{"iptables-nft", "-m comment --comment hello", `comment hello`},
		{"iptables-nft", "-j RETURN", `return`},
		{"iptables-nft", "-j NFQUEUE", `unknown "target NFQUEUE" .`},
		{"nft", "ct state established,related accept", `ct state established,related accept`},
		{"nft", "ct state new accept", `ct state new accept`},
		{"nft", "ct state != new accept", `unknown ct . unknown cmp . accept`},
		{"nft", "ct mark and 2 != 0 accept", `unknown ct . unknown bitwise . unknown cmp . accept`},
		{"nft", "ct state untracked accept", `ct state untracked accept`},
		{"nft", "ct original packets 7 accept", `unknown ct . unknown cmp . accept`},
		{"nft", "ct state vmap { established : accept, new : drop }", `unknown ct . unknown lookup .`},
		{"nft", "iifname { \"via*\", \"eth*\" } accept", `unknown meta . unknown lookup . accept`},
		{"nft", "iifname . oifname { \"a\" . \"b\" } accept", `unknown meta . unknown meta . unknown lookup . accept`},
		{"nft", "meta mark 0x616976 accept", `unknown meta . unknown cmp . accept`},
		{"nft", "iif lo accept", `unknown meta . unknown cmp . accept`},
		{"nft", "reject with icmpx admin-prohibited", `reject`},
		{"nft", "limit rate 1/second accept", `unknown limit . accept`},
		{"nft", "meta mark set 1", `unknown immediate . unknown meta .`},
		{"nft", "log prefix x counter accept comment \"hello\"", `accept comment hello`},
	} {
		netnstest.Run(t, tt.program+" "+tt.rule, func(t *testing.T) {
			c := openHere(t)
			if tt.program == "nft" {
				nft(t, "table inet fw { chain f { type filter hook forward priority 0; }\n }\nadd rule inet fw f "+tt.rule+"\n", "-f", "-")
			} else {
				netnstest.Exec(t, tt.program, append([]string{"-A", "FORWARD"}, strings.Fields(tt.rule)...)...)
			}
			s, err := c.Snapshot(context.Background())
			if err != nil || len(s.Forward) != 1 || len(s.Forward[0].Rules) != 1 {
				t.Fatalf("read %v, %v", s.Forward, err)
			}
			if got := s.Forward[0].Rules[0].String(); got != tt.want {
				t.Errorf("read as %q, want %q", got, tt.want)
			}
		})
	}
}
