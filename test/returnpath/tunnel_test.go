package returnpath

import (
	"fmt"
	"testing"
)

// TestTunnel has a pod on another node, behind VXLAN by the cluster's network. The
// outer packets of requests must not inherit the mark: they would leave by eth1.
// The answers come out of the tunnel, and leave by eth1 again.
func TestTunnel(t *testing.T) {
	t.Parallel()
	for i, outer := range []string{"IPv4", "IPv6"} {
		t.Run("outer "+outer, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1)
			w.farPod(&families[i])
			w.silent("before", "client", "15")
			w.apply(external(""))
			w.watch("node", "postrouting priority srcnat + 10", map[string]string{
				"marked": "udp dport 4789 meta mark != 0", "lost": "oifname != eth0 udp dport 4789", "tunnel": "oifname eth0 udp dport 4789"})
			w.watch("extgw", "prerouting priority raw", map[string]string{"tunnel": "udp dport 4789"})
			w.watch("node2", "prerouting priority raw", map[string]string{"client": "iifname vx ip saddr 192.0.2.10", "client6": "iifname vx ip6 saddr 2001:db8:c::10"})
			w.works("through the tunnel", "client", "15")
			for _, c := range []struct {
				ns, counter string
				want        bool
			}{
				{"node", "marked", false}, {"node", "lost", false}, {"node", "tunnel", true}, {"extgw", "tunnel", false}, {"node2", "client", true}, {"node2", "client6", true},
			} {
				if n := w.counted(c.ns, c.counter); (n > 0) != c.want {
					t.Errorf("%s counted %d packets as %s, want some: %t", c.ns, n, c.counter, c.want)
				}
			}

			// The same without the chain that clears marks: there it is lost.
			w.nft("node", "flush chain inet viarule clear")
			w.silent("marks not cleared", "client", "15")
			if w.counted("node", "marked") == 0 {
				t.Error("no outer packet inherits a mark that is not cleared: this test sees nothing")
			}
		})
	}
}

// farPod makes another node behind the firewall, a pod there, and the service .15.
func (w *world) farPod(outer *family) {
	w.t.Helper()
	w.namespace("node2")
	w.namespace("farpod")
	w.link("fw admin2", "node2 eth0", "192.168.3.1/24 192.168.3.5/24", "2001:db8:bb::1/64 2001:db8:bb::5/64")
	w.link("node2 pod", "farpod eth0", "10.244.2.1/24 10.244.2.2/24", "fd00:244:2::1/64 fd00:244:2::2/64")
	w.ip("node2", "route add default via 192.168.3.1", "route add default via 2001:db8:bb::1")
	w.ip("farpod", "route add default via 10.244.2.1", "route add default via fd00:244:2::1")
	there := map[string]string{"IPv4": "192.168.3.5", "IPv6": "2001:db8:bb::5"}[outer.name]
	for i, e := range [][3]string{{"node", outer.node, there}, {"node2", there, outer.node}} {
		w.ip(e[0], fmt.Sprintf("link add vx type vxlan id 7 dstport 4789 local %s remote %s", e[1], e[2]), "link set vx mtu 1400 up",
			fmt.Sprintf("addr add 10.244.100.%d/24 dev vx", i+1), fmt.Sprintf("addr add fd00:244:100::%d/64 dev vx nodad", i+1))
	}
	// The far node sends answers to the client back by the tunnel; where there is
	// masquerade they go there by themselves.
	w.ip("node", "route add 10.244.2.0/24 via 10.244.100.2", "route add fd00:244:2::/64 via fd00:244:100::2")
	w.ip("node2", "route add 192.0.2.0/24 via 10.244.100.1", "route add 2001:db8:c::/64 via fd00:244:100::1")
	w.ip("extgw", "route add 1.2.3.15 via 1.2.3.2", "route add 2001:db8:1::15 via 2001:db8:1::2")
	w.nft("node", `table inet far {
		chain serve {
			ip daddr 1.2.3.15 meta l4proto { tcp, udp } th dport 80 dnat ip to 10.244.2.2:8080
			ip6 daddr 2001:db8:1::15 meta l4proto { tcp, udp } th dport 80 dnat ip6 to [fd00:244:2::2]:8080
		}
		chain prerouting { type nat hook prerouting priority dstnat; jump serve; }
		chain output { type nat hook output priority -100; jump serve; }
	}`)
	w.serve("farpod", addrPort("10.244.2.2", 8080))
	w.serve("farpod", addrPort("fd00:244:2::2", 8080))
}
