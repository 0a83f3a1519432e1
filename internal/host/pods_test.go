package host_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/host"
	"github.com/viarule/viarule/internal/netnstest"
	"github.com/viarule/viarule/internal/spec"
)

// TestNoPacketIsLostAsPeersChange sends a steady flow of each family to the pods of a
// peer, while that peer's address changes, the pods move to another peer on another
// link, and peers come and go.
func TestNoPacketIsLostAsPeersChange(t *testing.T) {
	netnstest.New(t, netnstest.Mounts())
	gateways(t)
	netnstest.IP(t, "-n gw1 addr add 10.0.1.3/24 dev host0", "-n gw1 addr add 2001:db8:1::3/64 dev host0 nodad")
	const head = `apiVersion: viarule.io/v1alpha1
kind: PodNetwork
metadata: {name: pods}
spec:
  podCIDRs: [198.51.100.0/24, 203.0.113.0/24, "2001:db8:ff::/48"]
  nodes:
  - {name: here, addresses: [10.0.1.1, "2001:db8:1::1"], podCIDRs: [203.0.113.0/25, "2001:db8:ff:1::/64"]}
`
	const pods = `podCIDRs: [198.51.100.0/24, "2001:db8:ff::/64"]}` + "\n"
	const more = `  - {name: more, addresses: [10.0.2.9, "2001:db8:2::9"], podCIDRs: [203.0.113.128/25, "2001:db8:ff:2::/64"]}` + "\n"
	first := head + `  - {name: peer, addresses: [10.0.1.2, "2001:db8:1::2"], ` + pods
	h := openHost(t)
	applyText(t, h, first)
	from, from6 := netip.MustParseAddr("10.0.9.1"), netip.MustParseAddr("2001:db8:9::1")
	flows := []*flow{
		startFlow(t, from, netip.MustParseAddr("198.51.100.9"), "gw1", "gw2"),
		startFlow(t, from6, netip.MustParseAddr("2001:db8:ff::9"), "gw1", "gw2"),
	}
	for _, step := range []struct{ what, text string }{
		{"the peer's address", head + `  - {name: peer, addresses: [10.0.1.3, "2001:db8:1::3"], ` + pods},
		{"another peer on another link has the pods", head + `  - {name: other, addresses: [10.0.2.2, "2001:db8:2::2"], ` + pods},
		{"a peer more", head + more + `  - {name: other, addresses: [10.0.2.2, "2001:db8:2::2"], ` + pods},
		{"a peer goes, and the pods move back", first},
		{"masquerading", first + "  masquerade: Outside\n"},
		{"and none", first},
	} {
		for _, f := range flows {
			f.more(t, 200)
		}
		applyText(t, h, step.text)
		for _, f := range flows {
			f.more(t, 200)
		}
		t.Logf("%s: %d and %d sent so far", step.what, flows[0].sent.Load(), flows[1].sent.Load())
	}
	for i, f := range flows {
		if lost := f.lost(); len(lost) > 0 || f.refused.Load() != 0 {
			t.Errorf("flow %d: lost the datagrams %d of %d datagrams, %d refused by the kernel", i, lost, f.sent.Load(), f.refused.Load())
		}
	}
}

// podHost is a host with a pod, a peer that has pods too, and a network outside that
// knows nothing of pods. The host drops what it would forward.
const podHost = `
link add eth0 type veth peer name host0 netns peer
link add eth1 type veth peer name host0 netns outside
link add via1 address 02:00:00:00:00:01 type veth peer name eth0 netns pod
addr add 10.0.1.1/24 dev eth0
addr add 2001:db8:1::1/64 dev eth0 nodad
addr add 10.0.2.1/24 dev eth1
addr add 2001:db8:2::1/64 dev eth1 nodad
link set eth0 up
link set eth1 up
link set via1 up alias viarule:ptp/pods/c0ffee/eth0
route add default via 10.0.2.2
-6 route add default via 2001:db8:2::2
-n peer addr add 10.0.1.2/24 dev host0
-n peer addr add 2001:db8:1::2/64 dev host0 nodad
-n peer link set host0 up
-n peer addr add 10.244.2.9/32 dev lo
-n peer addr add fd00:244:0:2::9/128 dev lo nodad
-n peer route add 10.244.1.0/24 via 10.0.1.1
-n peer -6 route add fd00:244:0:1::/64 via 2001:db8:1::1
-n outside addr add 10.0.2.2/24 dev host0
-n outside addr add 2001:db8:2::2/64 dev host0 nodad
-n outside link set host0 up
-n outside addr add 203.0.113.9/32 dev lo
-n outside addr add 2001:db8:99::9/128 dev lo nodad
-n pod addr add 10.244.1.7/32 dev eth0
-n pod addr add fd00:244:0:1::7/128 dev eth0 nodad
-n pod link set eth0 up
-n pod neigh add 169.254.1.1 lladdr 02:00:00:00:00:01 dev eth0 nud permanent
-n pod neigh add fe80::1 lladdr 02:00:00:00:00:01 dev eth0 nud permanent
-n pod route add default via 169.254.1.1 dev eth0 onlink
-n pod -6 route add default via fe80::1 dev eth0
route add 10.244.1.7 dev via1 proto 119
-6 route add fd00:244:0:1::7 dev via1 proto 119
`

// echo answers each datagram to an address of a namespace with the address that it
// came from.
func echo(t *testing.T, namespace, addr string) {
	t.Helper()
	netnstest.In(t, namespace, func() {
		c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(addr), 9)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		go func() {
			b := make([]byte, 64)
			for {
				_, from, err := c.ReadFromUDPAddrPort(b)
				if err != nil {
					return
				}
				_, _ = c.WriteToUDPAddrPort([]byte(from.Addr().String()), from)
			}
		}()
	})
}

// seenAs sends from the pod, and tells as whom the other side has seen it.
func seenAs(t *testing.T, to string, wait time.Duration) (as string) {
	t.Helper()
	netnstest.In(t, "pod", func() {
		c, err := net.Dial("udp", net.JoinHostPort(to, "9"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write([]byte("who am I")); err != nil {
			t.Fatal(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(wait))
		b := make([]byte, 64)
		n, err := c.Read(b)
		if err != nil {
			as = "nobody"
			return
		}
		as = string(b[:n])
	})
	return as
}

// TestPodsAreForwardedAndMasqueraded: through a host whose forward chain drops, pods
// are seen with their own addresses by pods and nodes, and outside with the node's.
func TestPodsAreForwardedAndMasqueraded(t *testing.T) {
	netnstest.Run(t, "IPv6 by all links", func(t *testing.T) {
		netnstest.HideSysctl(t, "net/ipv6/conf/all/force_forwarding")
		forwardedAndMasqueraded(t)
	}, netnstest.Mounts())
	netnstest.Run(t, "IPv6 by some links", func(t *testing.T) {
		needsForce(t)
		forwardedAndMasqueraded(t)
	}, netnstest.Mounts())
}

func forwardedAndMasqueraded(t *testing.T) {
	t.Helper()
	for _, name := range []string{"peer", "outside", "pod"} {
		netnstest.Named(t, name)
		netnstest.In(t, name, func() { quickIPv6(t) })
	}
	quickIPv6(t)
	netnstest.IP(t, strings.Split(strings.TrimSpace(podHost), "\n")...)
	netnstest.Exec(t, "sysctl", "-qw", "net.ipv4.conf.via1.forwarding=1")
	if hasForce() { // else all links forward, or none
		netnstest.Exec(t, "sysctl", "-qw", "net.ipv6.conf.via1.force_forwarding=1")
	}
	netnstest.Exec(t, "nft", "add table inet firewall; add chain inet firewall forward { type filter hook forward priority 0; policy drop; }")
	for to, namespace := range map[string]string{
		"10.244.2.9": "peer", "fd00:244:0:2::9": "peer", "10.0.1.2": "peer", "2001:db8:1::2": "peer", "203.0.113.9": "outside", "2001:db8:99::9": "outside",
	} {
		echo(t, namespace, to)
	}
	const pods = `apiVersion: viarule.io/v1alpha1
kind: PodNetwork
metadata: {name: pods}
spec:
  podCIDRs: [10.244.0.0/16, "fd00:244::/48"]
  nodes:
  - {name: node01, addresses: [10.0.1.1, "2001:db8:1::1"], podCIDRs: [10.244.1.0/24, "fd00:244:0:1::/64"]}
  - {name: node02, addresses: [10.0.1.2, "2001:db8:1::2"], podCIDRs: [10.244.2.0/24, "fd00:244:0:2::/64"]}
`
	check := func(when string, wait time.Duration, want map[string]string) {
		t.Helper()
		for to, as := range want {
			if got := seenAs(t, to, wait); got != as {
				t.Errorf("%s: %s sees %s, not %s", when, to, got, as)
			}
		}
	}
	const short, long = 200 * time.Millisecond, 5 * time.Second
	check("before", short, map[string]string{"10.244.2.9": "nobody", "fd00:244:0:2::9": "nobody"})
	h := openHost(t)
	applyText(t, h, pods)
	inside := map[string]string{"10.244.2.9": "10.244.1.7", "fd00:244:0:2::9": "fd00:244:0:1::7", "10.0.1.2": "10.244.1.7", "2001:db8:1::2": "fd00:244:0:1::7"}
	check("plain", long, inside)
	check("plain", short, map[string]string{"203.0.113.9": "nobody", "2001:db8:99::9": "nobody"})
	applyText(t, h, pods+"  masquerade: Outside\n")
	check("masquerade", long, inside)
	check("masquerade", long, map[string]string{"203.0.113.9": "10.0.2.1", "2001:db8:99::9": "2001:db8:2::1"})
	s := statusOf(t, h)
	if !s.Clean() || len(s.Objects[0].Pods) != 2 || len(s.Objects[0].Peers) != 2 {
		t.Errorf("status: %+v", s)
	}
	for _, p := range s.Objects[0].Pods {
		if p.Off != "" {
			t.Errorf("status: %s", &p)
		}
	}
	if hasForce() {
		forwardingTakenAway(t, h, pods+"  masquerade: Outside\n")
		check("again", long, inside)
	}
	if _, err := h.Delete(context.Background(), nil, host.DeleteOptions{All: true}); err != nil {
		t.Fatal(err)
	}
	check("after", short, map[string]string{"10.244.2.9": "nobody", "fd00:244:0:2::9": "nobody"})
}

// forwardingTakenAway: somebody makes the host a router and takes it back, which the kernel
// takes for all links. status tells it of the object, which apply mends, and of the pod.
func forwardingTakenAway(t *testing.T, h *host.Host, text string) {
	t.Helper()
	netnstest.Exec(t, "sysctl", "-qw", "net.ipv6.conf.all.forwarding=1", "net.ipv4.conf.all.forwarding=1")
	if s := statusOf(t, h); !s.Clean() || s.Objects[0].Pods[1].Off != "" {
		t.Errorf("all links forward: %+v", s)
	}
	netnstest.Exec(t, "sysctl", "-qw", "net.ipv6.conf.all.forwarding=0", "net.ipv4.conf.all.forwarding=0")
	s := statusOf(t, h)
	details := strings.Join(s.Objects[0].Details, "\n")
	if s.Objects[0].State != host.Drifted || !strings.Contains(details, "net/ipv6/conf/eth0/force_forwarding = 1") || !strings.Contains(details, "net/ipv4/conf/eth0/forwarding = 1") {
		t.Errorf("no link forwards: %+v", s)
	}
	for i, key := range []string{"net/ipv4/conf/via1/forwarding", "net/ipv6/conf/via1/force_forwarding"} {
		p := s.Objects[0].Pods[i]
		if p.Off != key || !strings.HasSuffix(p.String(), "  # pods/c0ffee/eth0; nothing that it sends is forwarded: set "+key+" to 1") {
			t.Errorf("not said to have %s at 0: %s", key, &p)
		}
		netnstest.Exec(t, "sysctl", "-qw", key+"=1")
	}
	applyText(t, h, text)
	if s := statusOf(t, h); !s.Clean() || s.Objects[0].Pods[0].Off != "" || s.Objects[0].Pods[1].Off != "" {
		t.Errorf("mended: %+v", s)
	}
}

// quickIPv6 has addresses work at once.
func quickIPv6(t *testing.T) {
	t.Helper()
	netnstest.Exec(t, "sysctl", "-qw", "net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0")
}

func statusOf(t *testing.T, h *host.Host) *host.Status {
	t.Helper()
	s, err := h.Status(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestRouterAdvertisementsStay: to forward IPv6 does not cost a host the default route
// that it has from a router's advertisements, nor the next advertisement: where links have
// force_forwarding, and where they have not.
func TestRouterAdvertisementsStay(t *testing.T) {
	netnstest.Run(t, "all links forward", func(t *testing.T) {
		netnstest.HideSysctl(t, "net/ipv6/conf/all/force_forwarding")
		advertisementsStay(t, "forwarding 1, accept_ra 2, force_forwarding 0", "forwarding 0, accept_ra 1, force_forwarding 0")
		// The instrument: this is what would have happened.
		netnstest.Exec(t, "sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
		if !comes(func() bool { return !hasDefault(t) }) {
			t.Error("the default route survives forwarding without accept_ra=2: then nothing was proved")
		}
	}, netnstest.Mounts())
	netnstest.Run(t, "a link forwards", func(t *testing.T) {
		needsForce(t)
		advertisementsStay(t, "forwarding 0, accept_ra 1, force_forwarding 1", "forwarding 0, accept_ra 1, force_forwarding 0")
	}, netnstest.Mounts())
}

// needsForce skips a test where links have no force_forwarding (before Linux 6.17).
func needsForce(t *testing.T) {
	t.Helper()
	if !hasForce() {
		t.Skip("this kernel forwards IPv6 by all links or none: it has no force_forwarding")
	}
}

func hasForce() bool {
	_, err := os.Stat("/proc/sys/net/ipv6/conf/all/force_forwarding")
	return err == nil
}

func advertisementsStay(t *testing.T, applied, deleted string) {
	t.Helper()
	netnstest.Named(t, "router")
	netnstest.In(t, "router", func() { quickIPv6(t) })
	quickIPv6(t)
	netnstest.IP(t,
		"link add eth0 type veth peer name host0 netns router", "addr add 2001:db8:1::1/64 dev eth0 nodad", "link set eth0 up",
		"-n router link set host0 up")
	advertise(t, 1800)
	if !comes(func() bool { return hasDefault(t) }) {
		t.Skip("this kernel takes no router advertisements here")
	}
	const pods = `apiVersion: viarule.io/v1alpha1
kind: PodNetwork
metadata: {name: pods}
spec:
  podCIDRs: ["fd00:244::/48"]
  nodes:
  - {name: node01, addresses: ["2001:db8:1::1"], podCIDRs: ["fd00:244:0:1::/64"]}
`
	h := openHost(t)
	applyText(t, h, pods)
	if got := sysctls(t); got != applied || !hasDefault(t) {
		t.Errorf("after apply: %s, default route %t", got, hasDefault(t))
	}
	if r := applyText(t, h, pods); !r.Plan.Empty() {
		t.Errorf("the second apply changes something: %v", r.Plan.Ops)
	}
	advertise(t, 0) // not a default router any more
	if !comes(func() bool { return !hasDefault(t) }) {
		t.Error("the next advertisement was not taken")
	}
	// Without a default route nothing says any more that the link lives by them.
	if r := applyText(t, h, pods); !r.Plan.Empty() {
		t.Errorf("an apply without a router changes something: %v", r.Plan.Ops)
	}
	advertise(t, 1800)
	if !comes(func() bool { return hasDefault(t) }) {
		t.Error("the router did not come back")
	}
	if _, err := h.Delete(context.Background(), []spec.Ref{{Kind: spec.KindPodNetwork, Name: "pods"}}, host.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := sysctls(t); got != deleted || !hasDefault(t) {
		t.Errorf("after delete: %s, default route %t", got, hasDefault(t))
	}
}

func sysctls(t *testing.T) string {
	t.Helper()
	read := func(key string) string {
		b, err := os.ReadFile("/proc/sys/net/ipv6/conf/" + key)
		if errors.Is(err, fs.ErrNotExist) {
			return "0" // it is as if
		}
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(b))
	}
	return "forwarding " + read("all/forwarding") + ", accept_ra " + read("eth0/accept_ra") + ", force_forwarding " + read("eth0/force_forwarding")
}

func hasDefault(t *testing.T) bool {
	t.Helper()
	return netnstest.Exec(t, "ip", "-6", "route", "show", "default", "proto", "ra") != ""
}

// comes waits for what the kernel does in its own time.
func comes(f func() bool) bool {
	for end := time.Now().Add(20 * time.Second); !f(); runtime.Gosched() {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

// advertise has the router say for how long it is a default router, in seconds.
func advertise(t *testing.T, lifetime uint16) {
	t.Helper()
	message := make([]byte, 16) // RFC 4861, section 4.2
	message[0], message[4] = 134, 64
	binary.BigEndian.PutUint16(message[6:], lifetime)
	netnstest.In(t, "router", func() {
		link, err := net.InterfaceByName("host0")
		if err != nil {
			t.Fatal(err)
		}
		fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_ICMPV6)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		to := unix.SockaddrInet6{Addr: netip.MustParseAddr("ff02::1").As16(), ZoneId: uint32(link.Index)}
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 255); err != nil {
			t.Fatal(err)
		}
		// The link-local address comes up a moment after the link.
		if !comes(func() bool { err = unix.Sendto(fd, message, 0, &to); return err == nil }) {
			t.Fatal(err)
		}
	})
}
