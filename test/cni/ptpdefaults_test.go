package cni

import (
	"os"
	"strings"
	"testing"

	"github.com/viarule/viarule/internal/netnstest"
)

// TestPtpDefaults: whatever new links have by default, on the host and in the pod, a pod's
// link trusts nobody, and works.
func TestPtpDefaults(t *testing.T) {
	newPtpHost(t)
	for _, set := range []string{"ipv4/conf/default/proxy_arp=1", "ipv4/conf/default/accept_redirects=1", "ipv4/conf/default/forwarding=0", "ipv6/conf/default/accept_ra=2", "ipv6/conf/default/disable_ipv6=1"} {
		key, value, _ := strings.Cut(set, "=")
		writeSysctl(t, key, value)
	}
	path := netnstest.Named(t, "a")
	netnstest.In(t, "a", func() {
		for _, set := range []string{"ipv6/conf/all/disable_ipv6=1", "ipv6/conf/default/disable_ipv6=1", "ipv6/conf/default/accept_ra=2"} {
			key, value, _ := strings.Cut(set, "=")
			writeSysctl(t, key, value)
		}
		netnstest.IP(t, "link set lo down")
	})
	conf := ptpConf(podRanges["both"], `, "mtu": 1400`)
	a := &ptpPod{name: "a", attachment: attach(t, ours, "1.1.0", path, "eth0", conf)}
	a.add(t)
	a.addrs = []string{"10.1.0.2", "2001:db8:1::2"}
	b := newPtpPod(t, "b", "1.1.0", conf)
	b.serve(t)
	for _, addr := range a.addrs {
		leaves(t, "a", addr, outsideOf(addr), goesBy("host", addr))
		leaves(t, "a", addr, b.same(t, addr), goesBy("b", addr))
	}
	sysctl := func(key, want string) {
		t.Helper()
		if v, err := os.ReadFile("/proc/sys/net/" + key); err != nil || strings.TrimSpace(string(v)) != want {
			t.Errorf("%s is %q, %v; want %s", key, v, err, want)
		}
	}
	for key, want := range map[string]string{"ipv4/conf/VIA/proxy_arp": "0", "ipv4/conf/VIA/accept_redirects": "0", "ipv4/conf/VIA/forwarding": "1", "ipv6/conf/VIA/accept_ra": "0", "ipv6/conf/VIA/disable_ipv6": "0"} {
		sysctl(strings.Replace(key, "VIA", b.host, 1), want)
	}
	netnstest.In(t, "a", func() {
		sysctl("ipv6/conf/eth0/accept_ra", "0")
		sysctl("ipv6/conf/eth0/disable_ipv6", "0")
		if out := netnstest.Exec(t, "ip", "-br", "link"); !strings.Contains(out, "LOOPBACK,UP") {
			t.Errorf("lo is down:\n%s", out)
		}
		if out := netnstest.Exec(t, "ip", "link", "show", "eth0"); !strings.Contains(out, "mtu 1400 ") {
			t.Errorf("the MTU of the pod's end: %s", out)
		}
	})
	for _, where := range [][]string{{"-6", "addr", "show", "dev", b.host}, {"-n", "a", "-6", "addr", "show", "dev", "eth0", "scope", "link"}} {
		if out := netnstest.Exec(t, "ip", where...); out != "" {
			t.Errorf("an address of the kernel's own:\n%s", out)
		}
	}
	a.del(t)
	b.del(t)
	ptpLeaves(t)
}
