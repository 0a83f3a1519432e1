package returnpath

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

// everything is what stands on the node, as other programs show it. It waits until
// the kernel has made the routes of all of its addresses, which it does later.
func (w *world) everything() string {
	w.t.Helper()
	for end := time.Now().Add(late); ; {
		routes := w.in("node", "", "ip", "-6", "route", "show", "table", "local", "type", "local")
		if strings.Count(routes, "\n") == strings.Count(w.in("node", "", "ip", "-6", "-o", "address"), "\n") {
			break
		}
		if time.Now().After(end) {
			w.t.Fatalf("addresses without a route, or routes without an address:\n%s", routes)
		}
	}
	return w.in("node", "", "sh", "-ec", `
		ip rule; ip -6 rule
		ip route show table all; ip -6 route show table all
		ip -d link; ip address
		nft list ruleset
		grep -r . /proc/sys/net/ipv4/conf /proc/sys/net/ipv6/conf | grep -v stable_secret | sort`)
}

// same reports the lines that differ.
func (w *world) same(what, before, after string) {
	w.t.Helper()
	if before == after {
		return
	}
	count := map[string]int{}
	for _, l := range strings.Split(before, "\n") {
		count[l]--
	}
	for _, l := range strings.Split(after, "\n") {
		count[l]++
	}
	for l, n := range count {
		if n != 0 {
			w.t.Errorf("%s: %+d × %s", what, n, l)
		}
	}
	if !w.t.Failed() {
		w.t.Errorf("%s: another order:\n%s\n%s", what, before, after)
	}
}

// TestReversePathFilter sends packets with false sources, which are those of
// somebody behind another link than they come by: to the network, to another
// address by the network's link, and by the pod's link. `all` alone is strict.
func TestReversePathFilter(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		filter         string
		to, other, pod bool // what gets through
	}{
		{"Keep", true, false, false},
		{"Loose", true, true, false},
		{"Disabled", true, true, false},
		{"Exempt", true, false, false},
	} {
		t.Run(c.filter, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1)
			w.serveAll()
			f := &families[0]
			w.ip("client", "addr add "+f.spoofed+"/32 dev lo")
			w.ip("pod", "addr add "+f.spoofed+"/32 dev lo")
			w.ip("extgw", "route add "+f.node+" via "+f.nodeOnEther)
			before := w.everything()
			w.apply(external(", reversePathFilter: " + c.filter))
			w.works("with the object", "client", "10", "11", "12", "13")
			w.works("with the object", "admin", "10", "13")

			const input = "ip saddr 192.168.2.66 "
			w.watch("node", "input priority filter", map[string]string{
				"network": "iifname eth1 ip daddr 1.2.3.13 " + input,
				"other":   "iifname eth1 ip daddr 192.168.1.10 " + input,
				"pod":     "iifname pod " + input,
			})
			w.spoof("client", f.spoofed, f.at("13", 80))
			w.spoof("client", f.spoofed, addrPort(f.node, 8080))
			w.spoof("pod", f.spoofed, addrPort(f.node, 8080))
			// What comes behind them has arrived: so have they.
			w.works("behind the false ones", "client", "13")
			w.works("behind the false ones", "pod", "13")
			for counter, passes := range map[string]bool{"network": c.to, "other": c.other, "pod": c.pod} {
				if n := w.counted("node", counter); (n > 0) != passes {
					t.Errorf("%d false packets got through (%s), want that some do: %t", n, counter, passes)
				}
			}
			w.nft("node", "delete table inet watch")

			if c.filter == "Disabled" || c.filter == "Exempt" {
				w.link("node later", "fw later")
				if v := w.in("node", "", "cat", "/proc/sys/net/ipv4/conf/later/rp_filter"); v != "1\n" {
					t.Errorf("rp_filter of a link that came later is %s", v)
				}
				w.ip("node", "link del later")
			}
			w.viarule("delete", "", "--all")
			w.same("after delete", before, w.everything())
		})
	}
}

// spoof sends some datagrams with a source that is not the sender's.
func (w *world) spoof(ns, source string, to netip.AddrPort) {
	w.t.Helper()
	c, err := w.dial(ns, "udp", source, to, late)
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Close()
	for range 3 {
		if _, err := c.Write([]byte("false")); err != nil {
			w.t.Fatal(err)
		}
	}
}
