package cni

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/viarule/viarule/internal/netnstest"
)

// TestPtpReusedUnderTraffic: what is sent to an address between two pods that have it goes
// another way, and may be masqueraded there. The next pod's connections are not.
func TestPtpReusedUnderTraffic(t *testing.T) {
	newPtpHost(t)
	netnstest.Named(t, "lan")
	netnstest.IP(t, "link add lan0 type veth peer name eth0 netns lan", "link set lan0 up", "-n lan link set eth0 up", "addr add 192.0.2.1/24 dev lan0", "addr add 2001:db8:2::1/64 dev lan0 nodad",
		"neigh add 192.0.2.2 lladdr 02:00:00:00:00:01 dev lan0", "neigh add 2001:db8:2::2 lladdr 02:00:00:00:00:01 dev lan0", "route add default via 192.0.2.2", "-6 route add default via 2001:db8:2::2")
	ruleset(t, `table inet t {
		chain out { type nat hook postrouting priority 100; oifname "lan0" meta nfproto ipv4 snat ip to 192.0.2.1; oifname "lan0" meta nfproto ipv6 snat ip6 to 2001:db8:2::1; }
	}`)
	one := `[{"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.2", "rangeEnd": "10.1.0.2"}], [{"subnet": "2001:db8:1::/64", "rangeStart": "2001:db8:1::2", "rangeEnd": "2001:db8:1::2"}]`
	c := ptpCall("c1", netnstest.Named(t, "pod"), one, "")
	var late []string
	for i := range 20 {
		c.must(t)
		c.as("DEL").must(t)
		flood(t, uint16(4000+i), func(outside func() []string) {
			for len(outside()) < 2 {
				runtime.Gosched()
			}
			c.must(t)
			late = append(late, outside()...)
		})
		c.as("DEL").must(t)
	}
	// A packet may have looked for its route before the pod's was there, and come to
	// connection tracking after the look there.
	if len(late) > 1 {
		t.Errorf("translated after ADD:\n%s", strings.Join(late, ""))
	}
}

// flood sends to the pod's addresses while it does something. outside gives the
// connections from the port that have the node's address outside.
func flood(t *testing.T, port uint16, do func(outside func() []string)) {
	t.Helper()
	stop, done := make(chan struct{}), make(chan struct{}, 2)
	for from, to := range map[string]string{outside4: "10.1.0.2", outside6: "2001:db8:1::2"} {
		u, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(from), port)), net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(to), port)))
		must(t, err)
		defer u.Close()
		go func() {
			for {
				select {
				case <-stop:
					done <- struct{}{}
					return
				default:
					_, _ = u.Write([]byte("x")) // refused at times
				}
			}
		}()
	}
	do(func() (list []string) {
		b, err := os.ReadFile("/proc/thread-self/net/nf_conntrack")
		must(t, err)
		for line := range strings.Lines(string(b)) {
			if strings.Contains(line, fmt.Sprintf("sport=%d", port)) && (strings.Contains(line, "dst=192.0.2.1 ") || strings.Contains(line, "dst=2001:0db8:0002:0000:0000:0000:0000:0001 ")) {
				list = append(list, line)
			}
		}
		return list
	})
	close(stop)
	<-done
	<-done
}
