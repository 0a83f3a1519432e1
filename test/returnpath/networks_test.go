package returnpath

import (
	"net/netip"
	"testing"
	"time"
)

// TestTwoNetworks has a second network with another gateway, on a link of its own
// and on the same one. One client calls both; each gateway knows only the client's
// address on its own side.
func TestTwoNetworks(t *testing.T) {
	t.Parallel()
	for _, same := range []bool{false, true} {
		name, dev := "two links", "eth2"
		if same {
			name, dev = "one link", "eth1"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1)
			w.serveAll()
			w.secondGateway(same)
			for i, end := range second {
				w.serve("node", addrPort(end+"13", 80))
				w.ip("node", "addr add "+end+"2"+[]string{"/24", "/64"}[i]+" dev "+dev+" nodad")
			}
			before := w.everything()
			w.callBoth("before", soon, false)
			w.apply(external(""), network("second", "interface: {name: "+dev+"}, addresses: [5.6.7.0/24, \"2001:db8:5::/64\"], gateways: [5.6.7.1, \"2001:db8:5::1\"]"))
			for gw, wrong := range map[string]string{"extgw": "5.6.7.0/24", "extgw2": "1.2.3.0/24"} {
				w.watch(gw, "prerouting priority raw", map[string]string{
					"wrong": "ip saddr " + wrong + " meta l4proto { tcp, udp }", "wrong6": "ip6 saddr 2001:db8:" + wrong[:1] + "::/64 meta l4proto { tcp, udp }"})
			}
			w.callBoth("after", late, true)
			w.works("by the cluster's network", "admin", "10", "13")
			for _, gw := range []string{"extgw", "extgw2"} {
				for _, c := range []string{"wrong", "wrong6"} {
					if n := w.counted(gw, c); n > 0 {
						t.Errorf("%s got %d answers of the other network (%s)", gw, n, c)
					}
				}
			}
			w.viarule("delete", "", "--all")
			w.same("after delete", before, w.everything())
		})
	}
}

// second is the second network, by family.
var second = []string{"5.6.7.", "2001:db8:5::"}

func (w *world) callBoth(what string, timeout time.Duration, want bool) {
	w.t.Helper()
	for i := range families {
		for _, proto := range protocols {
			for _, to := range []netip.AddrPort{families[i].at("10", 80), families[i].at("13", 80), addrPort(second[i]+"10", 80), addrPort(second[i]+"13", 80)} {
				if err := w.ask("client", proto, "", to, 64, timeout); (err == nil) != want {
					w.t.Errorf("%s: %s to %s: %v", what, proto, to, err)
				}
			}
		}
	}
}

// secondGateway adds the second gateway, with its side of the client. On the same link it
// a switch joins them.
func (w *world) secondGateway(same bool) {
	w.t.Helper()
	w.namespace("extgw2")
	w.link("extgw2 wan", "client eth2", "192.0.3.1/24 192.0.3.10/24", "2001:db8:cc::1/64 2001:db8:cc::10/64")
	if same {
		w.namespace("switch")
		w.ip("extgw", "link set ext netns switch name node")
		w.link("switch gw1", "extgw ext", "169.254.1.1/32 1.2.3.1/24", "2001:db8:ffff::1/128 2001:db8:1::1/64")
		w.link("switch gw2", "extgw2 ext")
		w.ip("switch", "link add lan type bridge", "link set lan up", "link set node up master lan", "link set gw1 master lan", "link set gw2 master lan")
		w.routesToServices("extgw", families[0].net, families[1].net)
	} else {
		w.link("node eth2", "extgw2 ext")
	}
	w.ip("extgw2", "addr add 5.6.7.1/24 dev ext", "addr add 2001:db8:5::1/64 dev ext nodad")
	w.routesToServices("extgw2", second...)
	w.ip("node", "addr add 5.6.7.13/32 dev lo", "addr add 2001:db8:5::13/128 dev lo nodad")
	w.ip("client", "route add 5.6.7.0/24 via 192.0.3.1", "route add 2001:db8:5::/64 via 2001:db8:cc::1")
	w.nft("node", `table inet second {
		chain prerouting {
			type nat hook prerouting priority dstnat
			ip daddr 5.6.7.10 meta l4proto { tcp, udp } th dport 80 dnat ip to 10.244.1.2:8080
			ip6 daddr 2001:db8:5::10 meta l4proto { tcp, udp } th dport 80 dnat ip6 to [fd00:244:1::2]:8080
		}
	}`)
}

func (w *world) routesToServices(gw string, nets ...string) {
	w.t.Helper()
	for i, net := range nets {
		for _, end := range []string{"10", "11", "12", "13"} {
			w.ip(gw, "route replace "+net+end+families[i].bits+" via "+net+"2")
		}
	}
}
