package cni

import (
	"fmt"
	"strings"
	"testing"

	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/viarule/viarule/internal/netnstest"
)

// chained is a pod `web` on node1, by viarule-ptp and the given plugins behind it, in a
// cluster that has the object.
func chained(t *testing.T, capabilities map[string]any, plugins ...string) (*cluster, attachment) {
	t.Helper()
	c := newCluster(t)
	for _, node := range []string{"node1", "node2"} {
		apply(t, node, podNetwork("192.0.2.2", "2001:db8::2"))
	}
	path := newNamespace(t, "web")
	interfacePlugin := fmt.Sprintf(`{"type": %q, "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.244.1.128/25"}], [{"subnet": "fd00:244:1:0:1::/80"}]]}}`, ptp)
	a := attach(t, ours, "1.0.0", path, "eth0", append([]string{interfacePlugin}, plugins...)...)
	a.rt.CapabilityArgs = capabilities
	netnstest.In(t, "node1", func() {
		result, err := current.NewResultFromResult(a.add(t))
		if err != nil {
			t.Fatal(err)
		}
		var list []string
		for _, ip := range result.IPs {
			list = append(list, ip.Address.IP.String())
		}
		c.addresses["web"] = oneOfEach(t, list)
	})
	netnstest.In(t, "web", func() { serve(t, "web", c.of("web")...) })
	return c, a
}

// whole checks the attachment with all its plugins, takes it down, and looks for
// what is left.
func (c *cluster) whole(t *testing.T, a attachment) {
	t.Helper()
	netnstest.In(t, "node1", func() {
		if err := a.runtimeCheck(); err != nil {
			t.Errorf("CHECK: %v", explain(err))
		}
		a.del(t)
		a.del(t)
	})
	for _, p := range clusterPods {
		podCall(p.name, p.node, "DEL").in(t, p.node)
	}
	for _, node := range []string{"node1", "node2"} {
		viarule(t, node, "", "delete", "--all")
	}
	nothingOfPods(t, "node1", "node2")
}

// TestPortmap: the reference portmap behind viarule-ptp. A port of the node leads to the
// pod, for hosts, for pods of both nodes and for the pod itself, also after a reload of
// iptables; only what the pod asks itself has another address than the client's.
func TestPortmap(t *testing.T) {
	for _, backend := range []string{"iptables", "nftables"} {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			c, a := chained(t, map[string]any{"portMappings": []map[string]any{
				{"hostPort": port, "containerPort": port, "protocol": "tcp"}, {"hostPort": port, "containerPort": port, "protocol": "udp"}}},
				fmt.Sprintf(`{"type": "portmap", "backend": %q, "snat": true, "capabilities": {"portMappings": true}}`, backend))
			for range 2 {
				for f, to := range lanAddresses["node1"] {
					for _, from := range []string{"other", "b1", "a1"} {
						leaves(t, from, "", to, "web saw "+c.addresses[from][f])
					}
					if got, err := ask(t, "web", "tcp", "", to); err != nil || !strings.HasPrefix(got, "web saw ") {
						t.Errorf("web asks %s, where it is itself: %q, %v", to, got, err)
					}
				}
				for _, v := range []string{"", "6"} {
					netnstest.Exec(t, "ip", "netns", "exec", "node1", "sh", "-c", "ip"+v+"tables-save > /run/saved && ip"+v+"tables-restore < /run/saved")
				}
			}
			c.everyone(t, "web", "a1", "b1", "node2")
			c.whole(t, a)
		})
	}
}
