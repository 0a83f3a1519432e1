package fib_test

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/fib"
	"github.com/viarule/viarule/internal/netstate/netstatetest"
)

// TestSourceOfARouteThatLeavesItsVRF asks sockets for what RTM_GETROUTE does not
// tell: the source of a packet that a route takes out of its VRF.
func TestSourceOfARouteThatLeavesItsVRF(t *testing.T) {
	w := newWorld(t)
	if len(w.vrfs) == 0 {
		t.Skip("this kernel has no VRFs")
	}
	w.batch(
		"addr add 10.4.0.1/32 dev blue", "addr add 2001:db8:4::1/128 dev blue nodad",
		"addr add 10.5.0.1/24 dev b0", "addr add 2001:db8:5::1/64 dev b0 nodad",
		"addr add 10.6.0.1/24 dev e0", "addr add 2001:db8:6::1/64 dev e0 nodad",
		"route add 10.8.0.0/16 dev e0 src 10.6.0.1 table 10", "route add 2001:db8:8::/48 dev e0 src 2001:db8:6::1 table 10",
		"route add 10.9.0.0/16 dev b0 table 10", "route add 2001:db8:9::/48 dev b0 table 10")
	s := w.snapshot()
	f := fib.New(&s)
	for _, c := range []struct{ to, oif, want string }{
		{"10.8.0.1", "blue", "10.4.0.1"},
		{"10.9.0.1", "blue", "10.5.0.1"},
		{"10.9.0.1", "b0", "10.5.0.1"},
		{"2001:db8:8::1", "blue", "2001:db8:4::1"},
		{"2001:db8:9::1", "blue", "2001:db8:5::1"},
		{"2001:db8:9::1", "b0", "2001:db8:5::1"},
	} {
		flow := fib.Flow{To: netip.MustParseAddr(c.to), OIF: c.oif, Proto: unix.IPPROTO_UDP}
		if got := socketSource(t, flow); got.String() != c.want {
			t.Errorf("to %s oif %s: a socket gets %s, want %s", c.to, c.oif, got, c.want)
		}
		if d := f.Lookup(flow); d.Src.String() != c.want {
			t.Errorf("to %s oif %s: %s, want %s", c.to, c.oif, describe(&d), c.want)
		}
	}
}

// socketSource is the source address of a UDP socket that is bound to a link.
func socketSource(t *testing.T, flow fib.Flow) netip.Addr {
	t.Helper()
	domain, to := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: 9, Addr: flow.To.As16()})
	if flow.To.Is4() {
		domain, to = unix.AF_INET, &unix.SockaddrInet4{Port: 9, Addr: flow.To.As4()}
	}
	fd, err := unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.BindToDevice(fd, flow.OIF); err != nil {
		t.Fatal(err)
	}
	if err := unix.Connect(fd, to); err != nil {
		t.Fatalf("connect to %s by %s: %v", flow.To, flow.OIF, err)
	}
	own, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	switch a := own.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrFrom4(a.Addr)
	case *unix.SockaddrInet6:
		return netip.AddrFrom16(a.Addr)
	}
	return netip.Addr{}
}

// TestFlowVRF: a flow's VRF is the one that it names. A name of no VRF, which a rule
// may have as well, counts as none, whatever the links of the flow.
func TestFlowVRF(t *testing.T) {
	s := netstatetest.ParseState(t, base+`
link 4 blue up kind vrf vrftable 10
link 5 eth2 up master blue
rule 5 from all oif gone nop
rule 1000 from all l3mdev
rule -6 5 from all oif gone nop
rule -6 1000 from all l3mdev
route default dev eth2 table 10 scope link
route -6 default dev eth2 table 10 metric 1024`)
	f := fib.New(&s)
	for text, want := range map[string]string{
		"to 8.8.8.8 from 9.9.9.9 iif eth0":                    "unicast via 192.0.2.1 dev eth0 src 9.9.9.9 rule 32766 table 254",
		"to 8.8.8.8 from 9.9.9.9 iif eth0 vrf blue":           "unicast dev eth2 src 9.9.9.9 rule 1000 table 10",
		"to 8.8.8.8 from 9.9.9.9 iif eth0 vrf gone":           "unicast via 192.0.2.1 dev eth0 src 9.9.9.9 rule 32766 table 254",
		"to 8.8.8.8 from 9.9.9.9 iif eth2 vrf gone":           "unicast via 192.0.2.1 dev eth0 src 9.9.9.9 rule 32766 table 254",
		"to 8.8.8.8 from 9.9.9.9 iif eth0 vrf eth1":           "unicast via 192.0.2.1 dev eth0 src 9.9.9.9 rule 32766 table 254",
		"to 8.8.8.8 oif gone vrf gone":                        "invalid (no such link: gone)",
		"to 8.8.8.8 oif eth1 vrf eth1":                        "unicast dev eth1 src 198.51.100.7 onlink",
		"to 2001:db8:1::1 from 2001:db9::9 iif eth0":          "unicast via fe80::1 dev eth0 src 2001:db9::9 rule 32766 table 254",
		"to 2001:db8:1::1 from 2001:db9::9 iif eth0 vrf blue": "unicast dev eth2 src 2001:db9::9 rule 1000 table 10",
		"to 2001:db8:1::1 from 2001:db9::9 iif eth0 vrf gone": "unicast via fe80::1 dev eth0 src 2001:db9::9 rule 32766 table 254",
		"to 2001:db8:1::1 from 2001:db9::9 iif eth2 vrf gone": "unicast via fe80::1 dev eth0 src 2001:db9::9 rule 32766 table 254",
		"to 2001:db8:1::1 oif gone vrf gone":                  "no route",
		"to 2001:db8:1::1 oif eth1 vrf eth1":                  "no route",
	} {
		d := f.Lookup(parseFlow(t, text))
		if got := describe(&d); got != want {
			t.Errorf("%s\n got %s\nwant %s", text, got, want)
		}
	}
}
