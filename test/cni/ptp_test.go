package cni

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/viarule/viarule/internal/netnstest"
)

// ranges of host-local, by what the pod shall have.
var podRanges = map[string]string{
	"IPv4": `[{"subnet": "10.1.0.0/24"}]`, "IPv6": `[{"subnet": "2001:db8:1::/64"}]`, "both": `[{"subnet": "10.1.0.0/24"}], [{"subnet": "2001:db8:1::/64"}]`,
}

// newPtpHost makes the test's own namespace a node with the outside addresses. Nothing is
// switched off that would make links usable only seconds later.
func newPtpHost(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("builds and runs whole programs")
	}
	netnstest.New(t, netnstest.Mounts("/var/lib", "/var/log"))
	netnstest.IP(t, "addr add "+outside4+"/32 dev lo", "addr add "+outside6+"/128 dev lo nodad")
	serve(t, "host", outside4, outside6)
}

// ptpConf is the plugin's configuration in a chain; more are keys with a comma before each.
func ptpConf(ranges, more string) string {
	return fmt.Sprintf(`{"type": %q, "ipam": {"type": "host-local", "ranges": [%s]}%s}`, ptp, ranges, more)
}

// ptpCall is one call without libcni, of the network pods.
func ptpCall(container, netns, ranges, more string) call {
	return call{program: filepath.Join(ours, ptp), command: "ADD", container: container, netns: netns, ifname: "eth0",
		stdin: fmt.Sprintf(`{"cniVersion": "1.1.0", "name": "pods", "type": %q, "ipam": {"type": "host-local", "ranges": [%s]}%s}`, ptp, ranges, more)}
}

// A ptpPod is a namespace with an interface that the plugin made.
type ptpPod struct {
	attachment
	name  string
	addrs []string
	host  string // the host's end
}

// newPtpPod makes a namespace, adds its interface, and has it serve.
func newPtpPod(t *testing.T, name, version string, plugins ...string) *ptpPod {
	t.Helper()
	p := &ptpPod{name: name, attachment: attach(t, ours, version, netnstest.Named(t, name), "eth0", plugins...)}
	r, err := types100.NewResultFromResult(p.add(t))
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Interfaces) < 2 || r.Interfaces[0].Sandbox != "" || r.Interfaces[1].Sandbox != p.rt.NetNS || r.Interfaces[1].Name != "eth0" {
		t.Fatalf("the interfaces are not the host's first, then the pod's: %+v", r.Interfaces)
	}
	p.host = r.Interfaces[0].Name
	for _, ip := range r.IPs {
		if ip.Interface == nil || *ip.Interface != 1 {
			t.Errorf("%s is not the pod's: %v", ip.Address.IP, ip.Interface)
		}
		p.addrs = append(p.addrs, ip.Address.IP.String())
	}
	return p
}

func (p *ptpPod) serve(t *testing.T) {
	t.Helper()
	netnstest.In(t, p.name, func() { serve(t, p.name, p.addrs...) })
}

// same is the address of the pod of the family of another.
func (p *ptpPod) same(t *testing.T, as string) string {
	t.Helper()
	for _, a := range p.addrs {
		if strings.Contains(a, ":") == strings.Contains(as, ":") {
			return a
		}
	}
	t.Fatalf("%s has no address of the family of %s: %v", p.name, as, p.addrs)
	return ""
}

// state is what the plugin could leave on the host.
func ptpState(t *testing.T) string {
	t.Helper()
	var s strings.Builder
	for _, args := range []string{"-br link", "route show table all", "-6 route show table all", "neigh"} {
		s.WriteString("ip " + args + "\n")
		for line := range strings.Lines(sortedLines(netnstest.Exec(t, "ip", strings.Fields(args)...))) {
			if !strings.Contains(line, "table local") { // which the kernel fills when it finds the time
				s.WriteString(line)
			}
		}
	}
	return s.String()
}

// ptpLeaves fails where a veth, an address, or an element of the map is left.
func ptpLeaves(t *testing.T) {
	t.Helper()
	if out := netnstest.Exec(t, "ip", "-br", "link", "show", "type", "veth"); strings.Contains(out, "via") {
		t.Errorf("left on the host:\n%s", out)
	}
	if left := ptpAddresses(t); len(left) > 0 {
		t.Errorf("addresses are taken still: %v", left)
	}
	if out := netnstest.Exec(t, "nft", "list", "ruleset"); strings.Contains(out, `"via`) && strings.Contains(out, ": goto") {
		t.Errorf("left in nftables:\n%s", out)
	}
}

// ptpAddresses are the files of addresses.
func ptpAddresses(t *testing.T) (list []string) {
	t.Helper()
	files, err := filepath.Glob("/var/lib/cni/networks/*/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if _, err := netip.ParseAddr(filepath.Base(f)); err == nil {
			list = append(list, filepath.Base(f))
		}
	}
	return list
}

// TestPtp: pods reach each other and the host, with their own addresses, in every version
// of the specification; the host reaches them; DEL leaves nothing.
func TestPtp(t *testing.T) {
	for what, version := range map[string]string{"IPv4": "0.3.1", "IPv6": "0.4.0", "both": "1.0.0", "both again": "1.1.0"} {
		t.Run(what+" "+version, func(t *testing.T) {
			newPtpHost(t)
			what, _, _ := strings.Cut(what, " ")
			conf := ptpConf(podRanges[what], "")
			before := ptpState(t)
			a, b := newPtpPod(t, "a", version, conf), newPtpPod(t, "b", version, conf)
			b.serve(t)
			for _, addr := range a.addrs {
				leaves(t, "a", "", outsideOf(addr), goesBy("host", addr))
				leaves(t, "a", addr, b.same(t, addr), goesBy("b", addr))
			}
			here := netnstest.Exec(t, "ip", "-br", "addr", "show", a.host)
			if strings.Contains(here, ".") || strings.Contains(here, "::") {
				t.Errorf("the host's end has an address: %s", here)
			}
			for _, addr := range b.addrs {
				for range 3 {
					if got, err := askHere("udp", addr); err != nil || !strings.HasPrefix(got, "b saw ") {
						t.Errorf("the host asks %s: %q, %v", addr, got, err)
					}
				}
			}
			if version != "0.3.1" { // which has no CHECK
				for _, p := range []*ptpPod{a, b} {
					if err := p.check(); err != nil {
						t.Errorf("CHECK: %v", explain(err))
					}
				}
			}
			a.del(t)
			b.del(t)
			a.del(t)
			ptpLeaves(t)
			if after := ptpState(t); after != before {
				t.Errorf("after DEL:\n%s\nbefore ADD:\n%s", after, before)
			}
		})
	}
}

// TestPtpAtOnce: what is sent as soon as ADD has returned arrives, also while many others
// are being added. Nothing is sent twice.
func TestPtpAtOnce(t *testing.T) {
	newPtpHost(t)
	var calls []call
	for n := range many {
		calls = append(calls, ptpCall(fmt.Sprintf("c%d", n), netnstest.Named(t, fmt.Sprintf("pod%d", n)), podRanges["both"], ""))
	}
	var waits []func() (string, error)
	for _, c := range calls {
		waits = append(waits, c.start(t))
	}
	seen := map[string]bool{}
	for n, wait := range waits {
		out, err := wait()
		if err != nil {
			t.Fatal(err)
		}
		for _, addr := range resultAddresses(t, out) {
			if seen[addr] {
				t.Errorf("%s was given twice", addr)
			}
			seen[addr] = true
			if n%5 == 0 {
				netnstest.In(t, fmt.Sprintf("pod%d", n), func() { serve(t, "pod", addr) })
				if got, err := askHere("udp", addr); err != nil {
					t.Errorf("the first datagram to %s: %q, %v", addr, got, err)
				}
			}
		}
	}
	if len(seen) != 2*many {
		t.Errorf("%d addresses for %d pods", len(seen), many)
	}
	atOnce(t, calls, "DEL")
	ptpLeaves(t)
}

func resultAddresses(t *testing.T, out string) []string {
	t.Helper()
	r, err := types100.NewResult([]byte(out))
	if err != nil {
		t.Fatal(err)
	}
	full, err := types100.GetResult(r)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, ip := range full.IPs {
		list = append(list, ip.Address.IP.String())
	}
	return list
}

// TestPtpKilled kills ADD, or the DEL behind it, at each of its calls that change
// something. A DEL leads back to nothing.
func TestPtpKilled(t *testing.T) {
	calls := []string{"sendto,sendmsg", "ioctl", "openat", "write,pwrite64", "linkat,renameat,renameat2,unlinkat,mkdirat", "flock,fcntl,setns,fsync,ftruncate"}
	for _, command := range []string{"ADD", "DEL"} {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			newPtpHost(t)
			c := ptpCall("c1", netnstest.Named(t, "pod"), podRanges["both"], `, "ipMasq": true`)
			c.must(t) // the table of nftables stays
			c.as("DEL").must(t)
			before, killed := ptpState(t), 0
			for _, kind := range calls {
				for n := 1; n <= 200; n++ {
					if command == "DEL" {
						c.must(t)
					}
					died := netnstest.Kill(t, c.as(command).exec(), kind, n)
					c.as("DEL").must(t)
					if ptpLeaves(t); t.Failed() {
						t.Fatalf("%s killed at call %d of %s, then DEL", command, n, kind)
					}
					if after := ptpState(t); after != before {
						t.Fatalf("%s killed at call %d of %s, then DEL:\n%s\nbefore ADD:\n%s", command, n, kind, after, before)
					}
					if !died {
						break
					}
					killed++
				}
			}
			t.Logf("killed %d times", killed)
			if killed < 10 {
				t.Errorf("killed only %d times: the instrument does not work", killed)
			}
			c.must(t)
			c.as("DEL").must(t)
		})
	}
}

// TestPtpKilledThenCollected: GC cleans up after a killed ADD as DEL does.
func TestPtpKilledThenCollected(t *testing.T) {
	newPtpHost(t)
	c := ptpCall("c1", netnstest.Named(t, "pod"), podRanges["both"], `, "ipMasq": true`)
	c.must(t)
	c.as("DEL").must(t)
	gc := c.as("GC")
	gc.container, gc.netns, gc.ifname = "", "", ""
	gc.stdin = strings.Replace(gc.stdin, `"ipam"`, `"cni.dev/valid-attachments": [], "ipam"`, 1)
	for n := 1; ; n++ {
		died := netnstest.Kill(t, c.exec(), "sendto,sendmsg", n)
		gc.must(t)
		if ptpLeaves(t); t.Failed() {
			t.Fatalf("ADD killed at message %d, then GC", n)
		}
		if !died {
			break
		}
	}
}

// TestPtpChains: the reference's portmap and bandwidth work behind it.
func TestPtpChains(t *testing.T) {
	portmap := `{"type": "portmap", "capabilities": {"portMappings": true}, "snat": true}`
	bandwidth := `{"type": "bandwidth", "ingressRate": 8000000, "ingressBurst": 8000000, "egressRate": 8000000, "egressBurst": 8000000}`
	newPtpHost(t)
	// A host beside, from which the port is asked for.
	netnstest.Named(t, "lan")
	netnstest.IP(t, "link add lan0 type veth peer name eth0 netns lan", "link set lan0 up", "-n lan link set eth0 up", "addr add 192.0.2.1/24 dev lan0", "addr add 2001:db8:2::1/64 dev lan0 nodad",
		"-n lan addr add 192.0.2.2/24 dev eth0", "-n lan addr add 2001:db8:2::2/64 dev eth0 nodad", "-n lan route add default via 192.0.2.1", "-n lan -6 route add default via 2001:db8:2::1")
	writeSysctl(t, "ipv4/conf/lan0/forwarding", "1")
	forwardIPv6(t, "lan0")
	p := &ptpPod{name: "pod", attachment: attach(t, ours, "1.0.0", netnstest.Named(t, "pod"), "eth0", ptpConf(podRanges["both"], ""), portmap, bandwidth)}
	p.rt.CapabilityArgs = map[string]any{"portMappings": []map[string]any{
		{"hostPort": port, "containerPort": port, "protocol": "tcp", "hostIP": "192.0.2.1"}, {"hostPort": port, "containerPort": port, "protocol": "tcp", "hostIP": "2001:db8:2::1"},
	}}
	r, err := types100.NewResultFromResult(p.add(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, ip := range r.IPs {
		p.addrs = append(p.addrs, ip.Address.IP.String())
	}
	p.serve(t)
	for to, from := range map[string]string{"192.0.2.1": "192.0.2.2", "2001:db8:2::1": "2001:db8:2::2"} {
		if got, err := ask(t, "lan", "tcp", "", to); err != nil || !strings.HasPrefix(got, "pod saw ") {
			t.Errorf("%s by the host's port: %q, %v", from, got, err)
		}
	}
	if out := netnstest.Exec(t, "tc", "qdisc", "show", "dev", r.Interfaces[0].Name); !strings.Contains(out, "tbf") {
		t.Errorf("bandwidth set no limit on the host's end:\n%s", out)
	}
	if err := p.runtimeCheck(); err != nil {
		t.Errorf("CHECK of the chain: %v", explain(err))
	}
	p.del(t)
	ptpLeaves(t)
}

// TestPtpMasquerade: what leaves the pod's own network has the node's address, and nothing
// else.
func TestPtpMasquerade(t *testing.T) {
	newPtpHost(t)
	netnstest.Named(t, "lan")
	netnstest.IP(t, "link add lan0 type veth peer name eth0 netns lan", "link set lan0 up", "-n lan link set eth0 up", "addr add 192.0.2.1/24 dev lan0", "addr add 2001:db8:2::1/64 dev lan0 nodad",
		"-n lan addr add 192.0.2.2/24 dev eth0", "-n lan addr add 2001:db8:2::2/64 dev eth0 nodad", "-n lan route add 10.1.0.0/24 via 192.0.2.1", "-n lan -6 route add 2001:db8:1::/64 via 2001:db8:2::1")
	writeSysctl(t, "ipv4/conf/lan0/forwarding", "1")
	forwardIPv6(t, "lan0")
	netnstest.In(t, "lan", func() { serve(t, "lan", "192.0.2.2", "2001:db8:2::2") })
	plain, masq := ptpConf(podRanges["both"], ""), ptpConf(podRanges["both"], `, "ipMasq": true`)
	a, b := newPtpPod(t, "a", "1.0.0", masq), newPtpPod(t, "b", "1.0.0", plain)
	b.serve(t)
	for to, node := range map[string]string{"192.0.2.2": "192.0.2.1", "2001:db8:2::2": "2001:db8:2::1"} {
		leaves(t, "a", "", to, goesBy("lan", node))
		leaves(t, "b", "", to, goesBy("lan", b.same(t, to)))
		leaves(t, "a", "", b.same(t, to), goesBy("b", a.same(t, to)))
	}
	if err := a.check(); err != nil {
		t.Errorf("CHECK: %v", explain(err))
	}
	a.del(t)
	b.del(t)
	ptpLeaves(t)
}

// TestPtpSbr: viarule-sbr behind it routes by the pod's source, onto gateways that are
// outside of the address's network.
func TestPtpSbr(t *testing.T) {
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			newPtpHost(t)
			p := newPtpPod(t, "pod", "1.0.0", ptpConf(podRanges["both"], ""), `{"type": "`+name+`"}`)
			for _, addr := range p.addrs {
				leaves(t, "pod", addr, outsideOf(addr), goesBy("host", addr))
			}
			p.del(t)
			ptpLeaves(t)
		})
	}
}

// TestPtpStatic: addresses, routes and DNS of an IPAM plugin that is executed.
func TestPtpStatic(t *testing.T) {
	newPtpHost(t)
	static := `{"type": "` + ptp + `", "ipam": {"type": "static", "addresses": [{"address": "10.1.0.5/24", "gateway": "10.1.0.1"}, {"address": "10.9.0.5/24"}, {"address": "2001:db8:1::5/64"}],
		"routes": [{"dst": "203.0.113.0/24", "gw": "10.1.0.1", "mtu": 1400, "advmss": 1300, "priority": 7}, {"dst": "::/0"}, {"dst": "198.51.100.0/24", "table": 77}], "dns": {"nameservers": ["192.0.2.53"]}}}`
	p := newPtpPod(t, "pod", "1.1.0", static)
	got := netnstest.Exec(t, "ip", "-n", "pod", "route", "show", "table", "all") + netnstest.Exec(t, "ip", "-n", "pod", "-6", "route")
	for _, want := range []string{
		"203.0.113.0/24 via 169.254.1.1 dev eth0 metric 7 onlink mtu 1400 advmss 1300", "10.1.0.0/24 via 169.254.1.1 dev eth0 onlink", "10.9.0.0/24 via 169.254.1.1 dev eth0 onlink",
		"198.51.100.0/24 via 169.254.1.1 dev eth0 table 77 onlink", "default via fe80::1 dev eth0",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the pod has no route %q:\n%s", want, got)
		}
	}
	if strings.Contains(got, "default via 169") {
		t.Errorf("a default route nobody asked for:\n%s", got)
	}
	leaves(t, "pod", "10.9.0.5", outside4, goesBy("host", "10.9.0.5"))
	leaves(t, "pod", "", outside6, goesBy("host", "2001:db8:1::5"))
	if err := p.check(); err != nil {
		t.Errorf("CHECK: %v", explain(err))
	}
	p.del(t)
	ptpLeaves(t)
}

// TestPtpTwice: a pod with two interfaces keeps the first one's default routes; the second
// is the way to its own network.
func TestPtpTwice(t *testing.T) {
	newPtpHost(t)
	first := newPtpPod(t, "pod", "1.0.0", ptpConf(podRanges["both"], ""))
	second := ptpCall("container-pod", first.rt.NetNS, `[{"subnet": "10.2.0.0/24"}], [{"subnet": "2001:db8:2::/64"}]`, "")
	second.stdin, second.ifname = strings.Replace(second.stdin, `"name": "pods"`, `"name": "others"`, 1), "net1"
	there := second
	there.container, there.netns = "there", netnstest.Named(t, "there")
	addrs := resultAddresses(t, there.must(t))
	netnstest.In(t, "there", func() { serve(t, "there", addrs...) })
	out := second.must(t)
	for i, a := range resultAddresses(t, out) {
		leaves(t, "pod", "", addrs[i], goesBy("there", a))
		leaves(t, "pod", "", outsideOf(a), goesBy("host", first.same(t, a)))
	}
	check := second.as("CHECK")
	check.stdin = strings.Replace(second.stdin, `"ipam"`, `"prevResult": `+out+`, "ipam"`, 1)
	check.must(t)
	if err := first.check(); err != nil {
		t.Errorf("CHECK: %v", explain(err))
	}
	second.as("DEL").must(t)
	for _, a := range first.addrs {
		leaves(t, "pod", "", outsideOf(a), goesBy("host", a))
	}
	first.del(t)
	there.as("DEL").must(t)
	ptpLeaves(t)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestPtpAddThatFails leaves nothing, at whatever step.
func TestPtpAddThatFails(t *testing.T) {
	for _, tt := range []struct {
		name    string
		prepare func(t *testing.T)
		change  func(c *call)
		code    int
		says    string
	}{
		{"no namespace", nil, func(c *call) { c.netns = "/run/netns/nowhere" }, 3, "no such namespace"},
		{"a name of ip netns", nil, func(c *call) { c.netns = "pod" }, 3, "CNI_NETNS takes a path, such as /run/netns/pod"},
		{"no file of a namespace", nil, func(c *call) { c.netns = "/etc/hosts" }, 3, "is no network namespace"},
		{"the host's namespace", nil, func(c *call) { c.netns = "/proc/self/ns/net" }, 8, "namespace of this program itself"},
		{"the interface is there", func(t *testing.T) { netnstest.IP(t, "-n pod link add eth0 type bridge") }, nil, 5, "the pod has an interface eth0 already"},
		{"a route of somebody else's", func(t *testing.T) { netnstest.IP(t, "route add 10.1.0.2/32 dev lo") }, nil, 5, "there is another route to the pod's address"},
		{"a route of somebody else's, IPv6", func(t *testing.T) { netnstest.IP(t, "-6 route add 2001:db8:1::2/128 dev lo") }, nil, 5, "there is another route to the pod's address"},
		{"another network's pod has the address", func(t *testing.T) {
			c := ptpCall("other", netnstest.Named(t, "other"), `[{"subnet": "10.1.0.0/24"}]`, "")
			c.stdin = strings.Replace(c.stdin, `"name": "pods"`, `"name": "others"`, 1)
			c.must(t)
			t.Cleanup(func() { c.as("DEL").must(t) })
		}, nil, 5, "addresses that do not overlap"},
		{"no address is left", nil, func(c *call) {
			c.stdin = strings.Replace(c.stdin, podRanges["both"], `[{"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.2", "rangeEnd": "10.1.0.2"}], [{"subnet": "10.1.0.0/30", "rangeStart": "10.1.0.2", "rangeEnd": "10.1.0.2"}]`, 1)
		}, -1, ""},
		{"an IPAM plugin that is not there", nil, func(c *call) { c.stdin = strings.Replace(c.stdin, `"type": "host-local"`, `"type": "nowhere"`, 1) }, 7, "ipam.type: "},
		{"dhcp", nil, func(c *call) { c.stdin = strings.Replace(c.stdin, `"type": "host-local"`, `"type": "dhcp"`, 1) }, 7, "ipam.type: "},
		{"a route onto the link", nil, func(c *call) {
			c.stdin = strings.Replace(c.stdin, `"ranges"`, `"routes": [{"dst": "0.0.0.0/0", "scope": 253}], "ranges"`, 1)
		}, 7, "routes[0].scope: "},
		{"a route twice", nil, func(c *call) {
			c.stdin = strings.Replace(c.stdin, `"ranges"`, `"routes": [{"dst": "0.0.0.0/0"}, {"dst": "0.0.0.0/0"}], "ranges"`, 1)
		}, 5, "ip route add"},
		{"a small MTU for IPv6", nil, func(c *call) { c.stdin = strings.Replace(c.stdin, `"ipam"`, `"mtu": 1000, "ipam"`, 1) }, 7, "mtu: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			newPtpHost(t)
			c := ptpCall("c1", netnstest.Named(t, "pod"), podRanges["both"], `, "ipMasq": true`)
			// Another pod of the network, which stays, and has the table made.
			stays := ptpCall("stays", netnstest.Named(t, "stays"), `[{"subnet": "10.7.0.0/24"}]`, `, "ipMasq": true`)
			stays.stdin = strings.Replace(stays.stdin, `"name": "pods"`, `"name": "stays"`, 1)
			stays.must(t)
			if tt.prepare != nil {
				tt.prepare(t)
			}
			before, addresses, nft := ptpState(t), ptpAddresses(t), netnstest.Exec(t, "nft", "list", "map", "inet", "viarule_cni", "ptp-links")
			if tt.change != nil {
				tt.change(&c)
			}
			_, err := c.run(t)
			if err == nil {
				t.Fatal("ADD is a success")
			}
			if s := explain(err).Error(); tt.code > 0 && !strings.Contains(s, fmt.Sprintf("code %d: ", tt.code)) || !strings.Contains(s, tt.says) {
				t.Errorf("it says %s; want code %d, %q", s, tt.code, tt.says)
			}
			if after := ptpState(t); after != before {
				t.Errorf("after ADD:\n%s\nbefore:\n%s", after, before)
			}
			if after := ptpAddresses(t); !slices.Equal(after, addresses) {
				t.Errorf("addresses: %v, before %v", after, addresses)
			}
			if after := netnstest.Exec(t, "nft", "list", "map", "inet", "viarule_cni", "ptp-links"); after != nft {
				t.Errorf("nftables:\n%s\nbefore\n%s", after, nft)
			}
			if out := netnstest.Exec(t, "ip", "-n", "pod", "-br", "link"); strings.Contains(out, "eth0@") {
				t.Errorf("left in the pod:\n%s", out)
			}
		})
	}
}

// TestPtpReusedAddress: a route and connections that an earlier pod with the address has
// left do not harm the next one.
func TestPtpReusedAddress(t *testing.T) {
	newPtpHost(t)
	one := `[{"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.2", "rangeEnd": "10.1.0.2"}], [{"subnet": "2001:db8:1::/64", "rangeStart": "2001:db8:1::2", "rangeEnd": "2001:db8:1::2"}]`
	netnstest.IP(t, "route add 203.0.113.77/32 dev lo")
	old := ptpCall("old", netnstest.Named(t, "old"), one, "")
	old.must(t)
	netnstest.In(t, "old", func() { serve(t, "old", "10.1.0.2", "2001:db8:1::2") })
	// Tracks connections, and translates: what is asked of the address 203.0.113.77 goes to the pod.
	ruleset(t, `table inet t {
		chain in { type filter hook prerouting priority 0; ct state new accept; }
		chain out { type nat hook output priority -100; ip daddr 203.0.113.77 dnat ip to 10.1.0.2; }
	}`)
	for _, to := range []string{"10.1.0.2", "2001:db8:1::2", "203.0.113.77"} {
		if got, err := askHere("udp", to); err != nil || !strings.HasPrefix(got, "old saw ") {
			t.Fatalf("%s: %q, %v", to, got, err)
		}
	}
	leaves(t, "old", "10.1.0.2", outside4, goesBy("host", "10.1.0.2"))
	// The runtime lost the old pod: its addresses are free, its veth stands.
	must(t, os.RemoveAll("/var/lib/cni"))
	must(t, os.RemoveAll("/run/viarule/host-local"))
	next := ptpCall("next", netnstest.Named(t, "next"), one, "")
	next.must(t)
	b, err := os.ReadFile("/proc/thread-self/net/nf_conntrack")
	must(t, err)
	for line := range strings.Lines(string(b)) {
		if strings.Contains(line, "src=10.1.0.2 ") || strings.Contains(line, "src=2001:0db8:0001:0000:0000:0000:0000:0002 ") {
			t.Errorf("a connection of the old pod: %s", line)
		}
	}
	netnstest.In(t, "next", func() { serve(t, "next", "10.1.0.2", "2001:db8:1::2") })
	for _, to := range []string{"10.1.0.2", "2001:db8:1::2", "203.0.113.77"} {
		if got, err := askHere("udp", to); err != nil || !strings.HasPrefix(got, "next saw ") {
			t.Errorf("%s: %q, %v", to, got, err)
		}
	}
	old.as("DEL").must(t)
	if got, err := askHere("udp", "10.1.0.2"); err != nil || !strings.HasPrefix(got, "next saw ") {
		t.Errorf("after the old one's DEL: %q, %v", got, err)
	}
	next.as("DEL").must(t)
	ptpLeaves(t)
}
