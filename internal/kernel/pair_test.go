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
	host, pod, e := newPair(t, kernel.Pair{Name: "via1", MAC: pairMAC, Alias: "viarule:ptp/n/c/eth0", Peer: "eth0", PeerMAC: pairPeerMAC, MTU: 1400})
	if e.IPv6 == nil || e.IPv6.Forwarding || e.IPv6.Disabled || e.ForwardsIPv6 {
		t.Errorf("%+v, %+v", e, e.IPv6)
	}
	onHost, inPod := kernel.Setup{Dev: "via1", Index: e.Index}, kernel.Setup{Dev: "eth0", Index: e.PeerIndex}
	v4, v6 := netip.MustParsePrefix("10.1.0.5/32"), netip.MustParsePrefix("2001:db8::5/128")
	onHost.LinkConf(kernel.LinkConf{NoLinkLocal: true, HasIPv6: true, Router: true})
	onHost.LinkUp()
	for _, p := range []netip.Prefix{v4, v6} {
		r := netstate.Route{Family: netstate.FamilyOf(p.Addr()), To: p, Table: netstate.TableMain, Type: netstate.RouteUnicast, Protocol: netstate.ProtocolCNI}
		if p.Addr().Is4() {
			r.Scope = netstate.ScopeLink
		}
		onHost.Route(r)
		onHost.Neigh(p.Addr(), pairPeerMAC)
	}
	doSetup(t, host, &onHost)
	inPod.LinkConf(kernel.LinkConf{NoLinkLocal: true, HasIPv6: true})
	inPod.LoopbackUp()
	inPod.LinkUp()
	inPod.Addr(v4)
	inPod.Addr(v6)
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
	s := kernel.Setup{Dev: "via1", Index: e.Index}
	s.LinkUp()
	s.Index = 4711
	s.LinkUp()
	s.Index = e.Index
	s.Neigh(netip.MustParseAddr("10.1.0.5"), pairMAC)
	s.Index = 4711
	s.Addr(netip.MustParsePrefix("10.1.0.5/32"))
	s.Index = e.Index
	s.Neigh(netip.MustParseAddr("2001:db8::5"), pairMAC)
	refused, err := host.Setup(context.Background(), &s)
	if err != nil || len(refused) != 2 || refused[0].Index != 1 || refused[1].Index != 3 || !errors.Is(refused[0], unix.ENODEV) ||
		!strings.Contains(refused[1].Error(), "ip addr add 10.1.0.5/32 dev via1") {
		t.Errorf("%v, %v", refused, err)
	}
	v, err := host.View(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	kept, err := v.Kept(context.Background(), "via1")
	if err != nil || len(kept) != 2 || kept[netip.MustParseAddr("10.1.0.5")] != pairMAC || kept[netip.MustParseAddr("2001:db8::5")] != pairMAC {
		t.Errorf("the neighbours are %v, %v", kept, err)
	}
	bad := kernel.Setup{Dev: "via1", Index: e.Index}
	bad.Neigh(netip.MustParseAddr("10.1.0.5"), "no MAC")
	if _, err := host.Setup(context.Background(), &bad); !errors.Is(err, unix.EINVAL) {
		t.Errorf("what cannot be said: %v", err)
	}
}

func TestDeletePair(t *testing.T) {
	netnstest.New(t, netnstest.Mounts())
	host, _, _ := newPair(t, kernel.Pair{Name: "via1", Peer: "eth0"})
	netnstest.IP(t, "link add br0 type bridge", "link set via1 alias other")
	ctx := context.Background()
	no, yes := func(string) bool { return false }, func(alias string) bool { return alias == "other" }
	for name, ours := range map[string]func(string) bool{"via1": no, "br0": func(string) bool { return true }} {
		if err := host.DeletePair(ctx, name, ours); !errors.Is(err, unix.EPERM) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for range 2 { // the second time it is gone
		if err := host.DeletePair(ctx, "via1", yes); err != nil {
			t.Error(err)
		}
	}
	if out := netnstest.Exec(t, "ip", "-br", "-n", "pod", "link"); strings.Contains(out, "eth0") {
		t.Errorf("left in the pod:\n%s", out)
	}
}
