package explain_test

import (
	"testing"

	"github.com/viarule/viarule/internal/explain"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/snapshot"
)

// TestPod: what counts as a pod's namespace.
func TestPod(t *testing.T) {
	const (
		lo   = "link 1 lo up carrier loopback\naddr 127.0.0.1/8 dev lo scope host\naddr 192.0.2.100/32 dev lo\n"
		eth0 = "link 2 eth0 kind veth up carrier parent if7\naddr 10.244.0.5/24 dev eth0\n"
		net1 = "link 3 net1 kind macvlan up carrier parent if3\naddr 2001:db8:1::5/64 dev net1\n"
	)
	on := func(key string) netstate.Sysctl { return netstate.Sysctl{Key: key, Value: "1"} }
	for _, tt := range []struct {
		name, state string
		sysctls     []netstate.Sysctl
		attached    bool
		want        explain.Pod
	}{
		{name: "two interfaces from elsewhere", state: lo + eth0 + net1, want: explain.PodLike},
		{name: "one", state: lo + eth0, want: explain.Host},
		{name: "one has no address", state: lo + eth0 + "link 3 net1 kind veth up carrier parent if3\naddr fe80::5/64 dev net1 scope link\n", want: explain.Host},
		{name: "hardware", state: lo + eth0 + net1 + "link 4 eth1 up carrier\naddr 10.9.0.5/24 dev eth1\n", want: explain.Host},
		{name: "hardware without an address", state: lo + eth0 + net1 + "link 4 eth1 up carrier\n", want: explain.PodLike},
		{name: "a VLAN of a link here", state: lo + eth0 + net1 + "link 4 eth0.5 kind vlan up carrier parent eth0 vlan 5\naddr 10.9.0.5/24 dev eth0.5\n", want: explain.Host},
		{name: "IPv4 is forwarded, as the host does", state: lo + eth0 + net1, sysctls: []netstate.Sysctl{on("net/ipv4/ip_forward")}, want: explain.PodLike},
		{name: "a router", state: lo + eth0 + net1, sysctls: []netstate.Sysctl{on("net/ipv4/ip_forward"), on("net/ipv6/conf/all/forwarding")}, want: explain.Host},
		{name: "the plugin was called", state: lo + eth0, attached: true, want: explain.Attached},
		{name: "nothing", want: explain.Host},
	} {
		state, err := netstate.ParseState(tt.state)
		if err != nil {
			t.Fatal(err)
		}
		s := &snapshot.Snapshot{State: state, Sysctls: tt.sysctls, Owners: []snapshot.Owner{{}}}
		if tt.attached {
			s.Owners = append(s.Owners, snapshot.Owner{CNI: &snapshot.Attachment{Network: "n", Interface: "net1", Plugin: "sbr"}})
		}
		if got := explain.New(s).Pod(); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}
