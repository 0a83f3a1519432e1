package kernel_test

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/kernel"
	"github.com/viarule/viarule/internal/netnstest"
	"github.com/viarule/viarule/internal/netstate"
)

const (
	pairMAC     = "0a:00:00:00:00:01"
	pairPeerMAC = "0a:00:00:00:00:02"
)

// newPair makes a pair from the test's namespace into `pod`, and gives a Conn for each.
func newPair(t *testing.T, p kernel.Pair) (host, pod *kernel.Conn, e kernel.Ends) {
	t.Helper()
	host = openHere(t)
	ns, err := kernel.Enter(netnstest.Named(t, "pod"))
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Leave()
	if pod, err = ns.Open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pod.Close() })
	if e, err = host.CreatePair(context.Background(), p, ns); err != nil {
		t.Fatal(err)
	}
	if _, err := host.CreatePair(context.Background(), p, ns); !errors.Is(err, unix.EEXIST) {
		t.Errorf("made twice: %v", err)
	}
	return host, pod, e
}

func doSetup(t *testing.T, c *kernel.Conn, s *kernel.Setup) {
	t.Helper()
	refused, err := c.Setup(context.Background(), s)
	for _, r := range refused {
		t.Error(r)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestPair(t *testing.T) {
	netnstest.New(t, netnstest.Mounts())
	// Another number of links on each side, so that one end's number is not the other's.
	netnstest.IP(t, "link add x type veth peer name y")
	host, pod, e := newPair(t, kernel.Pair{Name: "via1", MAC: pairMAC, Peer: "eth0", PeerMAC: pairPeerMAC, MTU: 1400})
	if e.IPv6 == nil || e.IPv6.Forwarding || e.IPv6.Disabled || e.ForwardsIPv6 {
		t.Errorf("%+v, %+v", e, e.IPv6)
	}
	var onHost, inPod kernel.Setup
	v4, v6 := netip.MustParsePrefix("10.1.0.5/32"), netip.MustParsePrefix("2001:db8::5/128")
	onHost.LinkConf(e.Index, kernel.LinkConf{Alias: "viarule:ptp/n/c/eth0", NoLinkLocal: true, Forward4: true}, true)
	onHost.LinkUp(e.Index)
	for _, p := range []netip.Prefix{v4, v6} {
		r := netstate.Route{Family: netstate.FamilyOf(p.Addr()), To: p, Table: netstate.TableMain, Type: netstate.RouteUnicast, Protocol: netstate.ProtocolCNI}
		if p.Addr().Is4() {
			r.Scope = netstate.ScopeLink
		}
		onHost.Route(e.Index, r)
		onHost.Neigh(e.Index, p.Addr(), pairPeerMAC)
	}
	doSetup(t, host, &onHost)
	inPod.LinkConf(e.PeerIndex, kernel.LinkConf{NoLinkLocal: true}, true)
	inPod.LinkUp(e.PeerIndex)
	inPod.Addr(e.PeerIndex, v4)
	inPod.Addr(e.PeerIndex, v6)
	doSetup(t, pod, &inPod)

	for _, want := range []struct{ args, lines string }{
		{"link show via1", "mtu 1400|link/ether " + pairMAC + "|alias viarule:ptp/n/c/eth0|,UP,"},
		{"-d link show via1", "addrgenmode none"},
		{"-n pod -d link show eth0", "mtu 1400|link/ether " + pairPeerMAC + "|addrgenmode none|,UP,"},
		{"-n pod addr show eth0", "inet 10.1.0.5/32 scope global eth0|inet6 2001:db8::5/128 scope global nodad noprefixroute"},
		{"route", "10.1.0.5 dev via1 proto 119 scope link"},
		{"-6 route", "2001:db8::5 dev via1 proto 119 metric 1024"},
		{"neigh show nud permanent dev via1", "10.1.0.5 lladdr " + pairPeerMAC + "|2001:db8::5 lladdr " + pairPeerMAC},
		{"netconf show dev via1", "inet via1 forwarding on|inet6 via1 forwarding off"},
	} {
		out := netnstest.Exec(t, "ip", strings.Fields(want.args)...)
		for line := range strings.SplitSeq(want.lines, "|") {
			if !strings.Contains(out, line) {
				t.Errorf("ip %s: no %q in\n%s", want.args, line, out)
			}
		}
	}
	if out := netnstest.Exec(t, "ip", "-6", "addr", "show", "dev", "via1"); strings.Contains(out, "inet6") {
		t.Errorf("the host's end has an address of IPv6:\n%s", out)
	}
}

// TestPairConf: the sysctls are those that the link has got.
func TestPairConf(t *testing.T) {
	netnstest.New(t, netnstest.Mounts())
	for key, value := range map[string]string{"all/forwarding": "1", "default/accept_ra": "2", "default/disable_ipv6": "1"} {
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+key, []byte(value), 0); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, e := newPair(t, kernel.Pair{Name: "via1", Peer: "eth0"}); e.IPv6 == nil || !e.IPv6.Forwarding || e.IPv6.AcceptRA != 2 || !e.IPv6.Disabled || !e.ForwardsIPv6 {
		t.Errorf("%+v, %+v", e, e.IPv6)
	}
}

// TestSetupRefusals: each request that the kernel refuses is named, and the others are
// done.
func TestSetupRefusals(t *testing.T) {
	netnstest.New(t, netnstest.Mounts())
	host, _, e := newPair(t, kernel.Pair{Name: "via1", Peer: "eth0"})
	var s kernel.Setup
	s.LinkUp(e.Index)
	s.LinkUp(4711)
	s.Neigh(e.Index, netip.MustParseAddr("10.1.0.5"), pairMAC)
	s.Addr(4711, netip.MustParsePrefix("10.1.0.5/32"))
	s.Neigh(e.Index, netip.MustParseAddr("2001:db8::5"), pairMAC)
	refused, err := host.Setup(context.Background(), &s)
	if err != nil || len(refused) != 2 || refused[0].Index != 1 || refused[1].Index != 3 || !errors.Is(refused[0], unix.ENODEV) ||
		!strings.Contains(refused[1].Error(), "ip addr add 10.1.0.5/32 dev if4711") {
		t.Errorf("%v, %v", refused, err)
	}
	if out := netnstest.Exec(t, "ip", "neigh", "show", "nud", "permanent"); strings.Count(out, pairMAC) != 2 {
		t.Errorf("the neighbours are\n%s", out)
	}
	var bad kernel.Setup
	bad.LinkConf(e.Index, kernel.LinkConf{Alias: strings.Repeat("x", 256)}, true)
	bad.Neigh(e.Index, netip.MustParseAddr("10.1.0.5"), "no MAC")
	if _, err := host.Setup(context.Background(), &bad); !errors.Is(err, unix.EINVAL) {
		t.Errorf("what cannot be said: %v", err)
	}
}
