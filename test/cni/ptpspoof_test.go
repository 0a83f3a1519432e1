package cni

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	types100 "github.com/containernetworking/cni/pkg/types/100"
	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/netnstest"
)

// sendAs sends a datagram from the current namespace with any source.
func sendAs(t *testing.T, source, zone, to, text string) {
	t.Helper()
	lc := net.ListenConfig{Control: func(network, _ string, c syscall.RawConn) error {
		var err error
		cerr := c.Control(func(fd uintptr) {
			level, option := unix.SOL_IP, unix.IP_TRANSPARENT
			if network == "udp6" {
				level, option = unix.SOL_IPV6, unix.IPV6_TRANSPARENT
			}
			err = unix.SetsockoptInt(int(fd), level, option, 1)
		})
		return errors.Join(err, cerr)
	}}
	network := "udp4"
	if strings.Contains(source, ":") {
		network = "udp6"
	}
	if zone != "" {
		source += "%" + zone
	}
	c, err := lc.ListenPacket(context.Background(), network, net.JoinHostPort(source, "0"))
	if err != nil {
		t.Fatalf("bind to %s: %v", source, err)
	}
	defer c.Close()
	if _, err := c.WriteTo([]byte(text), net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(to), catchPort))); err != nil {
		t.Fatalf("send as %s to %s: %v", source, to, err)
	}
}

const catchPort = 4711

// catch receives datagrams in the current namespace.
func catch(t *testing.T, at string) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(at), catchPort)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// caught are the texts of what came until the text last, which is waited for.
func caught(t *testing.T, c *net.UDPConn, last string) (texts []string) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	for {
		b := make([]byte, 100)
		n, err := c.Read(b)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("%s did not come, but %v", last, texts)
		}
		if err != nil {
			t.Fatal(err)
		}
		if string(b[:n]) == last {
			return texts
		}
		texts = append(texts, string(b[:n]))
	}
}

// TestPtpSpoofing: what a pod sends with another source than its own goes nowhere: as
// another pod, as the host, as an outsider, as the gateway. Without the chains all of it
// arrives, so that the test is no empty one. The next ADD makes them for all pods.
func TestPtpSpoofing(t *testing.T) {
	newPtpHost(t)
	conf := ptpConf(podRanges["both"], "")
	a, b := newPtpPod(t, "a", "1.0.0", conf), newPtpPod(t, "b", "1.0.0", conf)
	for _, f := range []struct {
		name             string
		outside, foreign string
		linkLocal        []string
	}{{"IPv4", outside4, "198.51.100.9", []string{"169.254.1.1", "169.254.1.2"}}, {"IPv6", outside6, "2001:db8:dead::9", []string{"fe80::1", "fe80::2"}}} {
		mine, theirs := a.same(t, f.outside), b.same(t, f.outside)
		var inPod *net.UDPConn
		netnstest.In(t, "b", func() { inPod = catch(t, theirs) })
		for to, c := range map[string]*net.UDPConn{f.outside: catch(t, f.outside), theirs: inPod} {
			sources := append([]string{f.foreign, f.outside}, f.linkLocal...)
			if to != theirs {
				sources = append(sources, theirs)
			}
			send := func() {
				netnstest.In(t, "a", func() {
					for _, s := range sources {
						zone := ""
						if strings.HasPrefix(s, "fe80") {
							zone = "eth0"
						}
						sendAs(t, s, zone, to, "as "+s)
					}
					sendAs(t, mine, "", to, "last")
				})
			}
			send()
			if got := caught(t, c, "last"); len(got) > 0 {
				t.Errorf("%s: to %s came %v", f.name, to, got)
			}
			netnstest.Exec(t, "nft", "delete", "table", "netdev", "viarule_cni")
			send()
			// The kernel itself drops its own addresses as sources, and forwards no link-local ones.
			if got := caught(t, c, "last"); len(got) == 0 {
				t.Errorf("%s: without the chains nothing came to %s either", f.name, to)
			} else {
				t.Logf("%s: without the chains to %s came %v", f.name, to, got)
			}
			// The next ADD puts it back.
			other := newPtpPod(t, "other"+strconv.Itoa(len(to)), "1.0.0", conf)
			other.del(t)
			send()
			if got := caught(t, c, "last"); len(got) > 0 {
				t.Errorf("%s: put back, to %s came %v", f.name, to, got)
			}
		}
	}
}

// TestPtpSeveralAddresses: a pod sends from each of its addresses, and from no other; also
// when its name was another pod's before, and the next of its addresses.
func TestPtpSeveralAddresses(t *testing.T) {
	newPtpHost(t)
	conf := ptpConf(`[{"subnet": "10.1.0.0/24"}], [{"subnet": "10.2.0.0/24"}], [{"subnet": "2001:db8:1::/64"}], [{"subnet": "2001:db8:2::/64"}]`, "")
	a := newPtpPod(t, "a", "1.0.0", conf)
	before := a.addrs
	for range 2 {
		if len(a.addrs) != 4 {
			t.Fatalf("the pod has %v", a.addrs)
		}
		for _, to := range []string{outside4, outside6} {
			c := catch(t, to)
			want := []string{}
			netnstest.In(t, "a", func() {
				for _, from := range append(before, a.addrs...) {
					if strings.Contains(from, ":") == strings.Contains(to, ":") {
						sendAs(t, from, "", to, from)
					}
				}
				for _, from := range a.addrs {
					if strings.Contains(from, ":") == strings.Contains(to, ":") {
						want = append(want, from)
						sendAs(t, from, "", to, "again "+from)
					}
				}
				sendAs(t, a.same(t, to), "", to, "last")
			})
			var got []string
			for _, text := range caught(t, c, "last") {
				if !strings.HasPrefix(text, "again ") && !slices.Contains(got, text) {
					got = append(got, text)
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("to %s came %v, want %v", to, got, want)
			}
			c.Close()
		}
		a.del(t)
		r, err := types100.NewResultFromResult(a.add(t))
		must(t, err)
		a.addrs = nil
		for _, ip := range r.IPs {
			a.addrs = append(a.addrs, ip.Address.IP.String())
		}
		if slices.Equal(a.addrs, before) {
			t.Fatalf("it has %v again", before)
		}
	}
	a.del(t)
	ptpLeaves(t)
}

// TestPtpARP: the host answers a pod that asks with its own address, and hears none that asks
// with another's.
func TestPtpARP(t *testing.T) {
	newPtpHost(t)
	conf := ptpConf(podRanges["both"], "")
	a, b := newPtpPod(t, "a", "1.0.0", conf), newPtpPod(t, "b", "1.0.0", conf)
	mine, theirs := a.same(t, outside4), b.same(t, outside4)
	answered := func() string {
		var to string
		netnstest.In(t, "a", func() { to = firstAnswered(t, outside4, theirs, "0.0.0.0", mine) })
		return to
	}
	if got := answered(); got != mine {
		t.Errorf("the answer is for %s, want %s", got, mine)
	}
	netnstest.Exec(t, "nft", "delete", "table", "netdev", "viarule_cni")
	if got := answered(); got != theirs {
		t.Errorf("without the chains the answer is for %s, want %s", got, theirs)
	}
}

// firstAnswered asks by ARP on eth0 for an address, with each of some as the sender's, and
// gives the one to which the first answer is.
func firstAnswered(t *testing.T, target string, senders ...string) string {
	t.Helper()
	l, err := net.InterfaceByName("eth0")
	must(t, err)
	protocol := uint16(unix.ETH_P_ARP>>8 | unix.ETH_P_ARP<<8&0xff00)
	s, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(protocol))
	must(t, err)
	defer unix.Close(s)
	at := unix.SockaddrLinklayer{Protocol: protocol, Ifindex: l.Index, Halen: 6, Addr: [8]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}}
	must(t, unix.Bind(s, &at))
	for _, sender := range senders {
		ask := []byte{0, 1, 8, 0, 6, 4, 0, 1} // Ethernet, IPv4, a request
		ask = append(append(ask, l.HardwareAddr...), netip.MustParseAddr(sender).AsSlice()...)
		ask = append(append(ask, make([]byte, 6)...), netip.MustParseAddr(target).AsSlice()...)
		must(t, unix.Sendto(s, ask, 0, &at))
	}
	wait := unix.NsecToTimeval(patience.Nanoseconds())
	must(t, unix.SetsockoptTimeval(s, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait))
	for {
		b := make([]byte, 100)
		n, _, err := unix.Recvfrom(s, b, 0)
		must(t, err)
		if n >= 28 && b[7] == 2 {
			return netip.AddrFrom4([4]byte(b[24:28])).String()
		}
	}
}

// sourceChains is how many chains of links there are.
func sourceChains(t *testing.T) int {
	t.Helper()
	return strings.Count(netnstest.Exec(t, "nft", "list", "table", "netdev", "viarule_cni"), "chain via")
}

// TestPtpSourcesGo: chains of veths that are gone do not gather, and those of masqueraded
// pods go at once. What the first builds had instead goes too.
func TestPtpSourcesGo(t *testing.T) {
	newPtpHost(t)
	path := netnstest.Named(t, "pod")
	most, last := 0, 0
	for i := range 64 {
		c := ptpCall("c"+strconv.Itoa(i), path, podRanges["both"], "")
		c.must(t)
		c.as("DEL").must(t)
		last = sourceChains(t)
		most = max(most, last)
	}
	// Older kernels (6.1) take the chain away with its link: there are never any.
	if most > 60 || most > 0 && last == most {
		t.Errorf("there were %d chains, and are %d", most, last)
	}
	masq := ptpCall("masq", path, podRanges["both"], `, "ipMasq": true`)
	masq.must(t)
	masq.as("DEL").must(t)
	if n := sourceChains(t); n != last {
		t.Errorf("there are %d chains, were %d", n, last)
	}
	netnstest.Exec(t, "nft", "delete", "table", "netdev", "viarule_cni")
	ruleset(t, `table inet viarule_cni { chain ptp-sources { type filter hook prerouting priority 0; iifname "via*" fib saddr . iif oif missing drop; }; }`)
	next := ptpCall("next", path, podRanges["both"], "")
	next.must(t)
	if out := netnstest.Exec(t, "nft", "list", "ruleset"); strings.Contains(out, "ptp-sources") || sourceChains(t) != 1 {
		t.Errorf("after the next ADD:\n%s", out)
	}
	next.as("DEL").must(t)
}

// TestPtpPolicyRouting: rules of the host that select by source, mark or incoming link do not
// make a pod's own address look like another's.
func TestPtpPolicyRouting(t *testing.T) {
	for name, rules := range map[string][]string{
		"none":             nil,
		"strict rp_filter": nil,
		"from a service's address, which is translated to a pod": {"rule add pref 900 from 203.0.113.77 lookup 77", "-6 rule add pref 900 from 2001:db8:ffff::77 lookup 77"},
		"by mark":           {"rule add pref 900 fwmark 0x1/0x1 lookup 78", "-6 rule add pref 900 fwmark 0x1/0x1 lookup 78"},
		"by the link":       {"rule add pref 900 iif x lookup 77", "-6 rule add pref 900 iif x lookup 77"},
		"of pods elsewhere": {"rule add pref 900 from 10.9.0.0/16 lookup 77", "-6 rule add pref 900 from 2001:db8:9::/48 lookup 77"},
		"main without its default, then another table": {"rule add pref 900 lookup main suppress_prefixlength 0", "rule add pref 901 lookup 77", "-6 rule add pref 900 lookup main suppress_prefixlength 0", "-6 rule add pref 901 lookup 77"},
	} {
		t.Run(name, func(t *testing.T) {
			newPtpHost(t)
			netnstest.IP(t, "link add x type veth peer name y", "link set x up", "link set y up", "addr add 192.0.2.1/24 dev x",
				"route add default via 192.0.2.254 table 77", "-6 route add default dev x table 77", "route add 203.0.113.77/32 dev x", "-6 route add 2001:db8:ffff::77/128 dev x")
			conf := ptpConf(podRanges["both"], "")
			a, b := newPtpPod(t, "a", "1.0.0", conf), newPtpPod(t, "b", "1.0.0", conf)
			b.serve(t)
			ruleset(t, `table inet t {
				chain nat { type nat hook prerouting priority -100; ip daddr 203.0.113.77 dnat ip to `+b.same(t, outside4)+`; ip6 daddr 2001:db8:ffff::77 dnat ip6 to `+b.same(t, outside6)+`; }
				chain marks { type filter hook prerouting priority -150; iifname "`+a.host+`" meta mark set 0x1; }
			}`)
			// What has a mark would be answered by another link; the answer has none.
			netnstest.IP(t, "route add "+a.same(t, outside4)+" dev x table 78", "-6 route add "+a.same(t, outside6)+" dev x table 78")
			for _, r := range rules {
				netnstest.IP(t, r)
			}
			if name == "strict rp_filter" {
				writeSysctl(t, "ipv4/conf/all/rp_filter", "1")
			}
			for to, mine := range map[string]string{"203.0.113.77": a.same(t, outside4), "2001:db8:ffff::77": a.same(t, outside6), b.same(t, outside4): a.same(t, outside4), b.same(t, outside6): a.same(t, outside6)} {
				leaves(t, "a", "", to, goesBy("b", mine))
			}
			leaves(t, "a", "", outside4, goesBy("host", a.same(t, outside4)))
			leaves(t, "a", "", outside6, goesBy("host", a.same(t, outside6)))
		})
	}
}

// TestPtpTimeExceeded: what the host says of a pod's packet comes from an address of
// the host, of which the veth has none.
func TestPtpTimeExceeded(t *testing.T) {
	newPtpHost(t)
	conf := ptpConf(podRanges["both"], "")
	a, b := newPtpPod(t, "a", "1.0.0", conf), newPtpPod(t, "b", "1.0.0", conf)
	for _, f := range []struct {
		domain, level, hops, errors int
		host                        string
	}{{unix.AF_INET, unix.SOL_IP, unix.IP_TTL, unix.IP_RECVERR, outside4}, {unix.AF_INET6, unix.SOL_IPV6, unix.IPV6_UNICAST_HOPS, unix.IPV6_RECVERR, outside6}} {
		netnstest.In(t, "a", func() {
			s, err := unix.Socket(f.domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			must(t, err)
			defer unix.Close(s)
			must(t, unix.SetsockoptInt(s, f.level, f.errors, 1))
			must(t, unix.SetsockoptInt(s, f.level, f.hops, 1))
			to := netip.MustParseAddr(b.same(t, f.host))
			var sa unix.Sockaddr = &unix.SockaddrInet4{Port: port, Addr: [4]byte(to.AsSlice()[:4])}
			if to.Is6() {
				sa = &unix.SockaddrInet6{Port: port, Addr: to.As16()}
			}
			must(t, unix.Sendto(s, []byte("x"), 0, sa))
			_, err = unix.Poll([]unix.PollFd{{Fd: int32(s), Events: unix.POLLERR}}, int(patience.Milliseconds()))
			must(t, err)
			control := make([]byte, 200)
			_, n, _, _, err := unix.Recvmsg(s, make([]byte, 10), control, unix.MSG_ERRQUEUE)
			if err != nil {
				t.Fatalf("no error came back: %v", err)
			}
			// struct sock_extended_err, and behind it the address of who said it.
			list, err := unix.ParseSocketControlMessage(control[:n])
			must(t, err)
			from := netip.Addr{}
			for _, m := range list {
				if m.Header.Type != int32(f.errors) {
					continue
				}
				if offender := m.Data[16:]; f.domain == unix.AF_INET {
					from = netip.AddrFrom4([4]byte(offender[4:8]))
				} else {
					from = netip.AddrFrom16([16]byte(offender[8:24]))
				}
			}
			if from.String() != f.host {
				t.Errorf("time exceeded came from %s, want %s; pod %v", from, f.host, a.addrs)
			}
		})
	}
}
