package returnpath

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestFragments sends datagrams of 8 kB to the services.
func TestFragments(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.serveAll()
	w.apply(external(""))
	w.watch("node", "prerouting priority -450", map[string]string{
		"fragments":  "iifname eth1 ip frag-off & 0x1fff != 0",
		"fragments6": "iifname eth1 exthdr frag exists",
	})
	for i := range families {
		for _, end := range []string{"10", "11", "12", "13"} {
			if err := w.ask("client", "udp", "", families[i].at(end, 80), 8000, late); err != nil {
				t.Errorf("8 kB to %s: %v", families[i].at(end, 80), err)
			}
		}
	}
	for _, c := range []string{"fragments", "fragments6"} {
		if w.counted("node", c) == 0 {
			t.Errorf("no %s came in", c)
		}
	}
}

// TestPathMTU has a narrow link between the gateway and the client: the pod's and
// the node's segments must become smaller, by errors that come in by eth1.
func TestPathMTU(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.serveAll()
	// Only the route there is narrow: the client offers large segments, since its own
	// link is not.
	for i := range families {
		w.ip("extgw", "route add "+families[i].client+families[i].bits+" dev wan mtu 1280")
	}
	w.apply(external(""))
	w.watch("node", "prerouting priority raw", map[string]string{
		"needed": "iifname eth1 icmp type destination-unreachable icmp code frag-needed",
		"toobig": "iifname eth1 icmpv6 type packet-too-big",
	})
	for i := range families {
		for _, end := range []string{"10", "11", "12", "13"} {
			if err := w.ask("client", "tcp", "", families[i].at(end, 80), 1<<20, late); err != nil {
				t.Errorf("1 MB to %s and back: %v", families[i].at(end, 80), err)
			}
		}
	}
	for _, c := range []string{"needed", "toobig"} {
		if w.counted("node", c) == 0 {
			t.Errorf("no error came in: %s", c)
		}
	}
}

// TestErrorsOfTheNode looks for the node's own ICMP errors: they leave by eth1.
func TestErrorsOfTheNode(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.serveAll()
	w.ip("node", "link set pod mtu 1300")
	w.ip("pod", "link set eth0 mtu 1300")
	// To the pod's port 81 nobody comes; .13 has nobody at 81.
	w.nft("node", `table inet refuse {
		chain services {
			type nat hook prerouting priority dstnat - 1;
			ip daddr 1.2.3.10 meta l4proto { tcp, udp } th dport 81 dnat ip to 10.244.1.2:81
			ip6 daddr 2001:db8:1::10 meta l4proto { tcp, udp } th dport 81 dnat ip6 to [fd00:244:1::2]:81
		}
		chain forward { type filter hook forward priority filter; meta l4proto { tcp, udp } th dport 81 reject with icmpx port-unreachable; }
	}`)
	errorsSeen := func(want bool) {
		t.Helper()
		for i := range families {
			f := &families[i]
			for _, c := range []struct {
				name string
				to   netip.AddrPort
				size int
				hops int
				want error
			}{
				{"time exceeded at the node", f.at("10", 80), 10, 2, syscall.EHOSTUNREACH},
				{"too big for the pod", f.at("10", 80), 1400, 64, syscall.EMSGSIZE},
				{"refused by a rule", f.at("10", 81), 10, 64, syscall.ECONNREFUSED},
				{"a closed port", f.at("13", 81), 10, 64, syscall.ECONNREFUSED},
			} {
				err := w.provoke(c.to, c.size, c.hops, want)
				if got := errors.Is(err, c.want); got != want {
					t.Errorf("%s %s: %v, want %v: %t", f.name, c.name, err, c.want, want)
				}
			}
		}
	}
	errorsSeen(false)
	w.apply(external(""))
	errorsSeen(true)
	if err := w.ask("client", "tcp", "", families[0].at("10", 80), 1<<18, late); err != nil {
		t.Errorf("the client does not learn of the pod's narrow link: %v", err)
	}
}

// provoke sends a datagram that must not be divided, and gives the error that
// comes back.
func (w *world) provoke(to netip.AddrPort, size, hops int, want bool) error {
	w.t.Helper()
	c, err := w.dial("client", "udp", "", to, late)
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Close()
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		w.t.Fatal(err)
	}
	var set error
	_ = raw.Control(func(fd uintptr) {
		for _, o := range [][3]int{{unix.IPPROTO_IP, unix.IP_RECVERR, 1}, {unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE}, {unix.IPPROTO_IP, unix.IP_TTL, hops}} {
			if to.Addr().Is6() {
				o[0] = unix.IPPROTO_IPV6
				o[1] = map[int]int{unix.IP_RECVERR: unix.IPV6_RECVERR, unix.IP_MTU_DISCOVER: unix.IPV6_MTU_DISCOVER, unix.IP_TTL: unix.IPV6_UNICAST_HOPS}[o[1]]
			}
			if err := unix.SetsockoptInt(int(fd), o[0], o[1], o[2]); err != nil {
				set = fmt.Errorf("socket option %v: %w", o, err)
			}
		}
	})
	if set != nil {
		w.t.Fatal(set)
	}
	timeout := soon
	if want {
		timeout = late
	}
	return exchange(c, size, timeout)
}
