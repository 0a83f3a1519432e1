package returnpath

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/viarule/viarule/internal/netnstest"
)

// world is the situation of the sixty cases in few namespaces, for what a lab
// cannot say:
//
//	admin --- fw (stateful) --- eth0 node --- pod
//	          |                      eth1
//	          client ---- extgw -----+
//
// The node's services are those of the labs: .10 is a pod, .11 the same with
// masquerade, .12 the node's own network, .13 an address of the node.
type world struct{ t *testing.T }

// family is what differs between IPv4 and IPv6.
type family struct {
	name, ip, bits                                string
	net, gateway, client, pod, node, fw, admin    string
	icmp, echo                                    string
	podNet, clientNet, fwClient, clientFw, podGW  string
	extClient, adminGW, any, spoofed, nodeOnEther string
}

var families = []family{
	{name: "IPv4", ip: "ip", bits: "/32", net: "1.2.3.", gateway: "1.2.3.1", client: "192.0.2.10", pod: "10.244.1.2", node: "192.168.1.10", fw: "192.168.1.1",
		admin: "192.168.2.5", icmp: "icmp", echo: "echo-request", podNet: "10.244.1.0/24", clientNet: "192.0.2.0/24", fwClient: "10.0.1.2", clientFw: "10.0.1.1",
		podGW: "10.244.1.1", extClient: "192.0.2.1", adminGW: "192.168.2.1", any: "0.0.0.0", spoofed: "192.168.2.66", nodeOnEther: "1.2.3.2"},
	{name: "IPv6", ip: "ip6", bits: "/128", net: "2001:db8:1::", gateway: "2001:db8:1::1", client: "2001:db8:c::10", pod: "fd00:244:1::2", node: "2001:db8:a::10", fw: "2001:db8:a::1",
		admin: "2001:db8:b::5", icmp: "icmpv6", echo: "echo-request", podNet: "fd00:244:1::/64", clientNet: "2001:db8:c::/64", fwClient: "fd00:1::2", clientFw: "fd00:1::1",
		podGW: "fd00:244:1::1", extClient: "2001:db8:c::1", adminGW: "2001:db8:b::1", any: "::", spoofed: "2001:db8:b::66", nodeOnEther: "2001:db8:1::2"},
}

// at is an address of the network and a port.
func (f *family) at(end string, port uint16) netip.AddrPort { return addrPort(f.net+end, port) }

func addrPort(addr string, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(addr), port)
}

// newWorld builds the namespaces. The reverse path filter is set in `all` alone:
// it is what most hosts have.
func newWorld(t *testing.T, filter int) *world {
	t.Helper()
	netnstest.New(t, netnstest.Mounts())
	w := &world{t}
	for _, ns := range []string{"node", "pod", "fw", "extgw", "client", "admin"} {
		w.namespace(ns)
	}
	w.link("node eth0", "fw lan", "192.168.1.10/24 192.168.1.1/24", "2001:db8:a::10/64 2001:db8:a::1/64")
	w.link("node eth1", "extgw ext", "1.2.3.2/24 1.2.3.1/24", "2001:db8:1::2/64 2001:db8:1::1/64")
	w.link("node pod", "pod eth0", "10.244.1.1/24 10.244.1.2/24", "fd00:244:1::1/64 fd00:244:1::2/64")
	w.link("fw wan", "client fw", "10.0.1.2/24 10.0.1.1/24", "fd00:1::2/64 fd00:1::1/64")
	w.link("extgw wan", "client eth0", "192.0.2.1/24 192.0.2.10/24", "2001:db8:c::1/64 2001:db8:c::10/64")
	w.link("fw admin", "admin eth0", "192.168.2.1/24 192.168.2.5/24", "2001:db8:b::1/64 2001:db8:b::5/64")
	for _, f := range families {
		w.ip("node", "addr add "+f.net+"13"+f.bits+" dev lo nodad", "route add default via "+f.fw)
		w.ip("pod", "route add default via "+f.podGW)
		w.ip("fw", "route add default via "+f.clientFw, "route add "+f.podNet+" via "+f.node)
		w.ip("fw", "route add "+f.net+"0/64 via "+f.node)
		w.ip("admin", "route add default via "+f.adminGW)
		w.ip("client", "route add default via "+f.extClient)
	}
	w.routesToServices("extgw", families[0].net, families[1].net)
	w.sysctl("node", "net/ipv4/conf/all/rp_filter", fmt.Sprint(filter))
	w.nft("fw", `table inet fw {
		chain forward {
			type filter hook forward priority filter; policy drop;
			ct state established,related accept
			iifname { lan, admin, admin2 } ct state new accept
		}
		chain postrouting {
			type nat hook postrouting priority srcnat
			oifname wan masquerade
		}
	}`)
	// It does not take connections that it has not seen begin.
	w.sysctl("fw", "net/netfilter/nf_conntrack_tcp_loose", "0")
	w.nft("node", services)
	return w
}

// services translates as kube-proxy does it.
const services = `table inet services {
	chain serve {
		ip daddr { 1.2.3.11 } meta mark set meta mark | 0x4000
		ip6 daddr { 2001:db8:1::11 } meta mark set meta mark | 0x4000
		ip daddr 1.2.3.10-1.2.3.11 meta l4proto { tcp, udp } th dport 80 dnat ip to 10.244.1.2:8080
		ip6 daddr 2001:db8:1::10-2001:db8:1::11 meta l4proto { tcp, udp } th dport 80 dnat ip6 to [fd00:244:1::2]:8080
		ip daddr 1.2.3.12 meta l4proto { tcp, udp } th dport 80 dnat ip to 192.168.1.10:8080
		ip6 daddr 2001:db8:1::12 meta l4proto { tcp, udp } th dport 80 dnat ip6 to [2001:db8:a::10]:8080
	}
	chain prerouting { type nat hook prerouting priority dstnat; jump serve; }
	chain output { type nat hook output priority -100; jump serve; }
	chain postrouting {
		type nat hook postrouting priority srcnat
		meta mark & 0x4000 == 0 return
		meta mark set meta mark ^ 0x4000
		masquerade
	}
}`

// namespace makes a host: it forwards, has no filter, and sends all the ICMP
// errors that there are.
func (w *world) namespace(ns string) {
	w.t.Helper()
	netnstest.Named(w.t, ns)
	for _, key := range []string{"net/ipv4/conf/all/forwarding", "net/ipv6/conf/all/forwarding"} {
		w.sysctl(ns, key, "1")
	}
	for _, key := range []string{"net/ipv4/conf/all/rp_filter", "net/ipv4/conf/default/rp_filter", "net/ipv4/icmp_ratelimit", "net/ipv6/icmp/ratelimit",
		"net/ipv4/conf/all/send_redirects", "net/ipv4/conf/default/send_redirects", "net/ipv6/conf/all/accept_dad", "net/ipv6/conf/default/accept_dad"} {
		w.sysctl(ns, key, "0")
	}
}

// link makes a veth between two ends ("HOST NAME"), with pairs of addresses.
func (w *world) link(a, b string, addresses ...string) {
	w.t.Helper()
	ends := [2][]string{strings.Fields(a), strings.Fields(b)}
	netnstest.IP(w.t, fmt.Sprintf("link add %s netns %s type veth peer name %s netns %s", ends[0][1], ends[0][0], ends[1][1], ends[1][0]))
	for i, e := range ends {
		lines := []string{"link set " + e[1] + " up"}
		for _, pair := range addresses {
			lines = append(lines, "addr add "+strings.Fields(pair)[i]+" dev "+e[1]+" nodad")
		}
		w.ip(e[0], lines...)
	}
}

// ip runs lines of `ip` on a host.
func (w *world) ip(ns string, lines ...string) {
	w.t.Helper()
	w.in(ns, strings.ReplaceAll(strings.Join(lines, "\n"), ".0/64", ".0/24"), "ip", "-batch", "-")
}

func (w *world) nft(ns, text string) {
	w.t.Helper()
	w.in(ns, text, "nft", "-f", "-")
}

// in runs a program on a host and returns what it prints.
func (w *world) in(ns, input, name string, args ...string) string {
	w.t.Helper()
	out, err := w.try(ns, input, name, args...)
	if err != nil {
		w.t.Fatalf("%s: %s %s: %v\n%s%s", ns, name, strings.Join(args, " "), err, input, out)
	}
	return out
}

func (w *world) try(ns, input, name string, args ...string) (out string, err error) {
	w.t.Helper()
	netnstest.In(w.t, ns, func() {
		cmd := exec.Command(name, args...)
		cmd.Stdin = strings.NewReader(input)
		var b []byte
		b, err = cmd.CombinedOutput()
		out = string(b)
	})
	return out, err
}

func (w *world) sysctl(ns, key, value string) {
	w.t.Helper()
	netnstest.In(w.t, ns, func() {
		if err := os.WriteFile("/proc/sys/"+key, []byte(value), 0o644); err != nil {
			w.t.Fatal(err)
		}
	})
}

// viarule runs the program for the node.
func (w *world) viarule(command, input string, args ...string) string {
	w.t.Helper()
	args = append([]string{command, "--netns", "node"}, args...)
	cmd := exec.Command(build(w.t), args...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		w.t.Fatalf("viarule %s: %v\n%s%s", strings.Join(args, " "), err, input, out)
	}
	return string(out)
}

func (w *world) apply(objects ...string) string {
	w.t.Helper()
	return w.viarule("apply", strings.Join(objects, "---\n"), "-f", "-")
}

// external is an ExternalNetwork on eth1, with further keys of spec.
func external(more string) string {
	return network("public", "interface: {name: eth1}, addresses: [1.2.3.0/24, \"2001:db8:1::/64\"], gateways: [1.2.3.1, \"2001:db8:1::1\"]"+more)
}

func network(name, spec string) string {
	return "{apiVersion: viarule.io/v1alpha1, kind: ExternalNetwork, metadata: {name: " + name + "}, spec: {" + spec + "}}\n"
}

var program struct {
	once sync.Once
	dir  string
	err  error
}

// build makes the program under test, once.
func build(t *testing.T) string {
	t.Helper()
	program.once.Do(func() {
		if program.dir, program.err = os.MkdirTemp("", "returnpath"); program.err != nil {
			return
		}
		cmd := exec.Command("go", "build", "-o", program.dir, "../../cmd/viarule")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			program.err = fmt.Errorf("build viarule: %w\n%s", err, out)
		}
	})
	if program.err != nil {
		t.Fatal(program.err)
	}
	return filepath.Join(program.dir, "viarule")
}

func TestMain(m *testing.M) {
	flag.Parse()
	// These tests wait for silence most of the time.
	if err := flag.Set("test.parallel", "6"); err != nil {
		panic(err)
	}
	status := m.Run()
	if program.dir != "" {
		_ = os.RemoveAll(program.dir)
	}
	os.Exit(status)
}
