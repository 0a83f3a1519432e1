package kernel_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/viarule/viarule/internal/netnstest"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/netstate/netstatetest"
)

// wayDecided are the sysctls that explain asks for; L stands for a link.
const wayDecided = `
	net/ipv4/conf/L/rp_filter net/ipv4/conf/L/forwarding net/ipv4/conf/L/accept_local net/ipv4/conf/L/src_valid_mark
	net/ipv4/conf/L/send_redirects
	net/ipv4/conf/L/route_localnet net/ipv4/conf/L/arp_ignore net/ipv4/conf/L/arp_announce net/ipv4/conf/L/arp_filter
	net/ipv4/conf/L/proxy_arp net/ipv4/conf/L/ignore_routes_with_linkdown net/ipv4/conf/L/log_martians
	net/ipv4/conf/L/accept_source_route net/ipv4/conf/L/disable_policy net/ipv4/conf/L/disable_xfrm
	net/ipv6/conf/L/forwarding net/ipv6/conf/L/disable_ipv6 net/ipv6/conf/L/force_forwarding net/ipv6/conf/L/ignore_routes_with_linkdown
	net/ipv6/conf/L/accept_ra net/ipv6/conf/L/accept_source_route net/ipv6/conf/L/use_tempaddr net/ipv6/conf/L/proxy_ndp
	net/ipv4/ip_forward net/ipv4/fib_multipath_hash_policy net/ipv4/fib_multipath_use_neigh net/ipv4/ip_default_ttl
	net/ipv4/tcp_l3mdev_accept net/ipv4/udp_l3mdev_accept net/ipv4/fwmark_reflect net/ipv4/tcp_fwmark_accept
	net/ipv6/fib_multipath_hash_policy net/ipv6/fwmark_reflect
	net/bridge/bridge-nf-call-iptables net/bridge/bridge-nf-call-ip6tables net/bridge/bridge-nf-call-arptables
	net/ipv4/vs/conntrack net/ipv4/vs/snat_reroute`

func TestSysctlsOfAWay(t *testing.T) {
	netnstest.New(t, netnstest.Mounts())
	netnstest.Named(t, "other")
	netnstest.IP(t, "-n other link add eth0.1 type veth peer name peer0")
	netnstest.IP(t, "-n other link add bare type veth peer name peer1")
	c := openNamed(t, "other")
	write := []netstate.Change{
		netstatetest.ParseChange(t, "~ sysctl net/ipv4/conf/eth0.1/rp_filter = 2"),
		netstatetest.ParseChange(t, "~ sysctl net/ipv6/conf/eth0.1/forwarding = 1"),
		netstatetest.ParseChange(t, "~ sysctl net/ipv4/ip_default_ttl = 33"),
	}
	if _, failed := c.Apply(context.Background(), write); len(failed) > 0 {
		t.Fatal(failed)
	}
	got, err := c.Sysctls(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	byKey := map[string]string{}
	for _, s := range got {
		byKey[s.Key] = s.Value
	}
	if len(byKey) != len(got) || !slices.IsSortedFunc(got, func(a, b netstate.Sysctl) int { return strings.Compare(a.Key, b.Key) }) {
		t.Errorf("not sorted, or a key comes twice:\n%v", got)
	}
	for _, w := range write {
		if v := byKey[w.Sysctl.Key]; v != w.Sysctl.Value {
			t.Errorf("%s = %q, want %q", w.Sysctl.Key, v, w.Sysctl.Value)
		}
	}
	want := 0
	for _, pattern := range strings.Fields(wayDecided) {
		links := []string{"all", "default", "lo", "eth0.1", "peer0", "bare", "peer1"}
		if !strings.Contains(pattern, "/L/") {
			links = links[:1]
		}
		for _, l := range links {
			key := strings.Replace(pattern, "/L/", "/"+l+"/", 1)
			v, err := c.ReadSysctl(key)
			if errors.Is(err, os.ErrNotExist) {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			want++
			if g, ok := byKey[key]; !ok || g != v {
				t.Errorf("%s = %q (listed: %t), want %q", key, g, ok, v)
			}
		}
	}
	if want < 7*21 {
		t.Errorf("only %d sysctls could be compared", want)
	}
	if len(got) != want {
		t.Errorf("%d sysctls, want %d", len(got), want)
	}
}

func TestSysctlsEndWithTheirContext(t *testing.T) {
	netnstest.New(t)
	c := openHere(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := c.Sysctls(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want %v", err, context.Canceled)
	}
}

// BenchmarkSysctls is to stay well below a second: 1,000 links, 21,000 sysctls.
func BenchmarkSysctls(b *testing.B) {
	netnstest.New(b)
	var batch strings.Builder
	for i := range 500 {
		fmt.Fprintf(&batch, "link add a%d type veth peer name b%d\n", i, i)
	}
	cmd := exec.Command("ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(batch.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	c := openHere(b)
	for b.Loop() {
		if _, err := c.Sysctls(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}
