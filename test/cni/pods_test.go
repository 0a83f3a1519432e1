package cni

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/viarule/viarule/internal/netnstest"
)

// flags are those of ip for the two families.
var flags = [2]string{"-4", "-6"}

// The nodes of a cluster, and a host that knows nothing of pods; each with its
// addresses on the LAN.
var lanAddresses = map[string][2]string{
	"node1": {"192.0.2.1", "2001:db8::1"},
	"node2": {"192.0.2.2", "2001:db8::2"},
	"other": {"192.0.2.3", "2001:db8::3"},
}

// moved4 and moved6 are further addresses of node2.
const moved4, moved6 = "192.0.2.12", "2001:db8::12"

// clusterPods are the pods, each with its node.
var clusterPods = []struct{ name, node string }{{"a1", "node1"}, {"a2", "node1"}, {"b1", "node2"}, {"b2", "node2"}}

// A cluster is two nodes on a LAN, which forward nothing that no rule accepts, with
// two pods on each, and a host beside them.
type cluster struct {
	addresses map[string][2]string // of pods and hosts: IPv4, IPv6
}

// newCluster makes the namespaces and, by viarule-ptp, the pods' interfaces.
func newCluster(t *testing.T) *cluster {
	t.Helper()
	newHost(t)
	c := &cluster{addresses: map[string][2]string{}}
	netnstest.IP(t, "link add switch type bridge forward_delay 0", "link set switch up")
	for host, a := range lanAddresses {
		newNamespace(t, host)
		netnstest.IP(t, "link add eth0 netns "+host+" type veth peer name "+host, "link set "+host+" up master switch", "-n "+host+" link set eth0 up",
			"-n "+host+" addr add "+a[0]+"/24 dev eth0", "-n "+host+" addr add "+a[1]+"/64 dev eth0 nodad")
		netnstest.In(t, host, func() { serve(t, host, a[:]...) })
		c.addresses[host] = a
	}
	netnstest.IP(t, "-n node2 addr add "+moved4+"/24 dev eth0", "-n node2 addr add "+moved6+"/64 dev eth0 nodad")
	for _, node := range []string{"node1", "node2"} {
		iptables(t, node, "-P FORWARD DROP")
	}
	for _, p := range clusterPods {
		newNamespace(t, p.name)
		c.add(t, p.name, p.node)
	}
	return c
}

// iptables runs iptables and ip6tables in a namespace.
func iptables(t *testing.T, ns, args string) {
	t.Helper()
	for _, program := range []string{"iptables", "ip6tables"} {
		netnstest.Exec(t, "ip", append([]string{"netns", "exec", ns, program}, strings.Fields(args)...)...)
	}
}

// podConf is the configuration of a node's pods: host-local with the prefixes
// 10.244.N.0/24 and fd00:244:N::/64.
func podConf(node string) string {
	n := strings.TrimPrefix(node, "node")
	return fmt.Sprintf(`{"cniVersion": "1.1.0", "name": "pods-%[1]s", "type": %[2]q, "ipam": {"type": "host-local",
		"ranges": [[{"subnet": "10.244.%[3]s.0/24"}], [{"subnet": "fd00:244:%[3]s::/64"}]]}}`, node, ptp, n)
}

func podCall(pod, node, command string) call {
	return call{program: filepath.Join(ours, ptp), command: command, container: "c-" + pod, netns: "/run/netns/" + pod, ifname: "eth0", stdin: podConf(node)}
}

// add makes a pod's interface, and has the pod serve at its addresses: those that are
// asked for, or what there is.
func (c *cluster) add(t *testing.T, pod, node string, addresses ...string) {
	t.Helper()
	add := podCall(pod, node, "ADD")
	if len(addresses) > 0 {
		add.stdin = strings.Replace(add.stdin, `"ipam"`, fmt.Sprintf(`"capabilities": {"ips": true}, "runtimeConfig": {"ips": ["%s"]}, "ipam"`, strings.Join(addresses, `", "`)), 1)
	}
	c.addresses[pod] = oneOfEach(t, resultAddresses(t, add.in(t, node)))
	netnstest.In(t, pod, func() { serve(t, pod, c.of(pod)...) })
}

// of are the addresses of a pod or host.
func (c *cluster) of(name string) []string { a := c.addresses[name]; return a[:] }

// oneOfEach are a pod's two addresses.
func oneOfEach(t *testing.T, list []string) [2]string {
	t.Helper()
	if len(list) != 2 || strings.Contains(list[0], ":") || !strings.Contains(list[1], ":") {
		t.Fatalf("not an address of each family: %v", list)
	}
	return [2]string(list)
}

// in calls the plugin in the namespace of a node.
func (c call) in(t *testing.T, node string) (out string) {
	t.Helper()
	netnstest.In(t, node, func() { out = c.must(t) })
	return out
}

// podNetwork is the object for both nodes; node2 has the given addresses in it.
func podNetwork(node2 ...string) string {
	return fmt.Sprintf(`apiVersion: viarule.io/v1alpha1
kind: PodNetwork
metadata: {name: pods}
spec:
  podCIDRs: [10.244.0.0/16, "fd00:244::/32"]
  nodes:
  - {name: node1, addresses: [192.0.2.1, "2001:db8::1"], podCIDRs: [10.244.1.0/24, "fd00:244:1::/64"]}
  - {name: node2, addresses: ["%s"], podCIDRs: [10.244.2.0/24, "fd00:244:2::/64"]}
`, strings.Join(node2, `", "`))
}

// apply applies objects in a node's namespace.
func apply(t *testing.T, node, objects string) {
	t.Helper()
	viarule(t, node, objects, "apply", "-f", "-")
}

// viarule runs the program on a node.
func viarule(t *testing.T, node, stdin string, args ...string) string {
	t.Helper()
	c := exec.Command(filepath.Join(ours, "viarule"), append(args, "--netns", node)...)
	c.Stdin = strings.NewReader(stdin)
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("viarule %s on %s: %v\n%s", strings.Join(args, " "), node, err, out)
	}
	return string(out)
}

// everyone checks that each of the given, pods and hosts, reaches each of the others,
// which see a pod's own address.
func (c *cluster) everyone(t *testing.T, names ...string) {
	t.Helper()
	for _, from := range names {
		for _, to := range names {
			for f := range 2 {
				if from == to {
					continue
				}
				want := to + " saw " + c.addresses[from][f]
				if lanAddresses[from][f] != "" {
					want = to + " saw " // a host may choose among its addresses
				}
				for _, protocol := range []string{"udp", "tcp"} {
					got, err := ask(t, from, protocol, "", c.addresses[to][f])
					if err != nil || !strings.HasPrefix(got, want) {
						t.Errorf("%s from %s to %s, %s: %q, %v; want %q", protocol, from, to, c.addresses[to][f], got, err, want)
					}
				}
			}
		}
	}
}

// all are the names of pods and nodes.
var all = []string{"a1", "a2", "b1", "b2", "node1", "node2"}

// dropped counts what the FORWARD policy of a node has dropped, of the family of the address.
func dropped(t *testing.T, node, address string) (n int) {
	t.Helper()
	program := "iptables"
	if strings.Contains(address, ":") {
		program = "ip6tables"
	}
	out := netnstest.Exec(t, "ip", "netns", "exec", node, program, "-nvxL", "FORWARD")
	if _, err := fmt.Sscanf(out, "Chain FORWARD (policy DROP %d packets", &n); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	return n
}

// TestPods: what the demo shows. Two pods of a node and of two nodes are silent to each
// other until the nodes have the object, and then everyone reaches everyone; a reload of
// iptables changes nothing in that; a host beside them needs a route for each node.
func TestPods(t *testing.T) {
	c := newCluster(t)
	for _, to := range c.of("a2") {
		isDropped(t, "a1", "node1", to)
	}
	for _, to := range c.of("b2") {
		isDropped(t, "b1", "node2", to)
	}
	object := podNetwork("192.0.2.2", "2001:db8::2")
	apply(t, "node1", object)
	apply(t, "node2", object)
	c.everyone(t, all...)

	for _, node := range []string{"node1", "node2"} {
		for _, v := range []string{"", "6"} {
			netnstest.Exec(t, "ip", "netns", "exec", node, "sh", "-c", "ip"+v+"tables-save > /run/saved && ip"+v+"tables-restore < /run/saved")
		}
		viarule(t, node, "", "status")
	}
	c.everyone(t, all...)

	for n := 1; n <= 2; n++ {
		netnstest.IP(t, fmt.Sprintf("-n other route add 10.244.%[1]d.0/24 via 192.0.2.%[1]d", n), fmt.Sprintf("-n other route add fd00:244:%[1]d::/64 via 2001:db8::%[1]d", n))
	}
	c.everyone(t, "a1", "a2", "b1", "b2", "other")

	// What forwards nothing but pods still forwards nothing but pods.
	netnstest.IP(t, "-n other route add 203.0.113.77 via 192.0.2.1", "-n other route add 2001:db8:ffff::77 via 2001:db8::1",
		"-n node1 route add 203.0.113.77 via 192.0.2.2", "-n node1 route add 2001:db8:ffff::77 via 2001:db8::2")
	for _, to := range []string{"203.0.113.77", "2001:db8:ffff::77"} {
		isDropped(t, "other", "node1", to)
	}

	for _, node := range []string{"node1", "node2"} {
		viarule(t, node, "", "delete", "--all")
		if out := viarule(t, node, "", "status"); !strings.Contains(out, "no object is applied") {
			t.Errorf("status after delete: %s", out)
		}
	}
	// The pods still have what is theirs: the nodes forward from them, to where the policy
	// is in the way again; with it gone, those of one node reach each other.
	for _, to := range c.of("a2") {
		isDropped(t, "a1", "node1", to)
	}
	iptables(t, "node1", "-P FORWARD ACCEPT")
	c.everyone(t, "a1", "a2")
	for _, p := range clusterPods {
		podCall(p.name, p.node, "DEL").in(t, p.node)
	}
	nothingOfPods(t, "node1", "node2")
}

// isDropped sends a datagram, and waits until a node's FORWARD policy has dropped one.
func isDropped(t *testing.T, from, node, to string) {
	t.Helper()
	before := dropped(t, node, to)
	netnstest.In(t, from, func() {
		c, err := net.Dial("udp", netip.AddrPortFrom(netip.MustParseAddr(to), port).String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write([]byte("who?")); err != nil {
			t.Fatal(err)
		}
	})
	for end := time.Now().Add(patience); dropped(t, node, to) == before; {
		if time.Now().After(end) {
			t.Errorf("%s sends to %s, and %s does not drop it", from, to, node)
			return
		}
	}
}

// nothingOfPods fails where something of a pod's is left on a node, or an address is
// taken.
func nothingOfPods(t *testing.T, nodes ...string) {
	t.Helper()
	for _, node := range nodes {
		netnstest.In(t, node, func() { ptpLeaves(t) })
	}
	nothingLeft(t, nodes...)
}

// TestPodsComeAndGo: of a pod that went nothing is left; its address is unreachable, also
// where the node has a default route that leads in a circle; the next pod that gets it
// is reached at once.
func TestPodsComeAndGo(t *testing.T) {
	c := newCluster(t)
	object := podNetwork("192.0.2.2", "2001:db8::2")
	apply(t, "node1", object)
	apply(t, "node2", object)
	netnstest.IP(t, "-n node1 route add default via 192.0.2.3", "-n node1 -6 route add default via 2001:db8::3")
	c.everyone(t, "a1", "a2", "b1")
	gone := c.addresses["a2"]
	podCall("a2", "node1", "DEL").in(t, "node1")
	for _, from := range []string{"a1", "b1"} {
		for _, to := range gone {
			if _, err := ask(t, from, "tcp", "", to); !errors.Is(err, syscall.EHOSTUNREACH) && !errors.Is(err, syscall.ENETUNREACH) {
				t.Errorf("%s asks %s, which is nobody's: %v; want a refusal", from, to, err)
			}
		}
	}
	for f, a := range gone {
		for _, args := range []string{"route show " + a, "neigh show to " + a} {
			if out := netnstest.Exec(t, "ip", append([]string{"-n", "node1", flags[f]}, strings.Fields(args)...)...); out != "" {
				t.Errorf("ip %s on node1: %s", args, out)
			}
		}
	}
	// The address is given to a pod of another name while others still know the old one.
	newNamespace(t, "a3")
	c.add(t, "a3", "node1", gone[:]...)
	if c.addresses["a3"] != gone {
		t.Fatalf("a3 has %v, not %v", c.addresses["a3"], gone)
	}
	c.everyone(t, "a1", "a3", "b1", "b2")
}

// TestPodsMasquerade: what pods send to a host that knows no way to them has the address of
// their node, and what they send to each other and to nodes has their own.
func TestPodsMasquerade(t *testing.T) {
	c := newCluster(t)
	for _, node := range []string{"node1", "node2"} {
		apply(t, node, podNetwork("192.0.2.2", "2001:db8::2")+"  masquerade: Outside\n")
	}
	for f, to := range lanAddresses["other"] {
		leaves(t, "a1", "", to, "other saw "+lanAddresses["node1"][f])
		if got, err := ask(t, "b1", "tcp", "", to); err != nil || !strings.HasPrefix(got, "other saw ") || strings.HasSuffix(got, c.addresses["b1"][f]) {
			t.Errorf("b1 asks other, %s: %q, %v", to, got, err)
		}
	}
	c.everyone(t, all...)
}

// TestNodeMoves: a node's pods are behind another address of it from now on. Of what one
// pod sends to another all the time nothing is lost.
func TestNodeMoves(t *testing.T) {
	c := newCluster(t)
	for _, node := range []string{"node1", "node2"} {
		apply(t, node, podNetwork("192.0.2.2", "2001:db8::2"))
	}
	var streams []*stream
	for f, a := range c.addresses["b1"] {
		streams = append(streams, c.stream(t, "a1", a), c.stream(t, "b1", c.addresses["a1"][f]))
	}
	for round := range 4 {
		via := [2]string{moved4, moved6}
		if round%2 == 1 {
			via = lanAddresses["node2"]
		}
		for _, s := range streams {
			s.more(t)
		}
		for _, node := range []string{"node1", "node2"} {
			apply(t, node, podNetwork(via[:]...))
		}
		for _, s := range streams {
			s.more(t)
		}
		for f, to := range c.addresses["b1"] {
			if out := netnstest.Exec(t, "ip", "-n", "node1", "route", "get", to); !strings.Contains(out, " via "+via[f]+" ") {
				t.Errorf("the route to %s: %s; want via %s", to, out, via[f])
			}
			prefix := []string{"10.244.2.0/24", "fd00:244:2::/64"}[f]
			if out := netnstest.Exec(t, "ip", "-n", "node1", flags[f], "route", "show", prefix); strings.Count(out, "via ") != 1 {
				t.Errorf("routes to %s:\n%s", prefix, out)
			}
		}
	}
	for _, s := range streams {
		s.end(t)
	}
}

// A stream is a question and its answer, one after the other, all the time.
type stream struct {
	conn     net.Conn
	progress chan int // how many answers have come
	stop     chan struct{}
	failed   chan error
}

func (c *cluster) stream(t *testing.T, from, to string) *stream {
	t.Helper()
	s := &stream{progress: make(chan int), stop: make(chan struct{}), failed: make(chan error, 1)}
	netnstest.In(t, from, func() {
		var err error
		if s.conn, err = net.Dial("udp", netip.AddrPortFrom(netip.MustParseAddr(to), port).String()); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() { s.conn.Close() })
	go func() {
		b := make([]byte, 100)
		for n := 0; ; n++ {
			_, err := s.conn.Write([]byte("who?"))
			if err == nil {
				_ = s.conn.SetReadDeadline(time.Now().Add(patience))
				_, err = s.conn.Read(b)
			}
			if err != nil {
				s.failed <- fmt.Errorf("question %d from %s to %s: %w", n, from, to, err)
				return
			}
			select {
			case s.progress <- n:
			case <-s.stop:
				s.failed <- nil
				return
			default:
			}
		}
	}()
	return s
}

// more waits for some more answers.
func (s *stream) more(t *testing.T) {
	t.Helper()
	for range 50 {
		select {
		case <-s.progress:
		case err := <-s.failed:
			s.failed <- err
			t.Fatal(err)
		}
	}
}

func (s *stream) end(t *testing.T) {
	t.Helper()
	close(s.stop)
	if err := <-s.failed; err != nil {
		t.Error(err)
	}
}

// TestPodsKilledAtOnce: of a hundred pods that come at once every second is killed on its
// way, and of a hundred that go. Whoever is not killed has addresses of its own, and after
// one more DEL for each nothing is left.
func TestPodsKilledAtOnce(t *testing.T) {
	newHost(t)
	newNamespace(t, "node1")
	var pods []call
	for n := range many {
		name := fmt.Sprintf("p%d", n)
		newNamespace(t, name)
		pods = append(pods, podCall(name, "node1", "ADD"))
	}
	killed := 0
	// each gives what the calls print that were not killed.
	each := func(command string, kill bool) (out []string) {
		var running []*exec.Cmd
		for n := range pods {
			c := pods[n].as(command).exec()
			c.Stdout = new(strings.Builder)
			netnstest.In(t, "node1", func() {
				if err := c.Start(); err != nil {
					t.Fatal(err)
				}
			})
			running = append(running, c)
		}
		for _, n := range rand.Perm(many)[:many/2] {
			if kill {
				_ = running[n].Process.Kill() // it may have ended
			}
		}
		for _, c := range running {
			err := c.Wait()
			text := c.Stdout.(*strings.Builder).String()
			switch exit, failed := errors.AsType[*exec.ExitError](err); {
			case err == nil:
				out = append(out, text)
			case failed && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL && kill:
				killed++
			default:
				t.Errorf("%s: %v: %s", command, err, text)
			}
		}
		return out
	}
	for _, kill := range []bool{true, true, false} {
		owned := map[string]bool{}
		for _, out := range each("ADD", kill) {
			for _, a := range resultAddresses(t, out) {
				if owned[a] {
					t.Errorf("%s is given twice", a)
				}
				owned[a] = true
			}
		}
		each("DEL", kill)
		each("DEL", false)
		if nothingOfPods(t, "node1"); t.Failed() {
			return
		}
	}
	if killed == 0 {
		t.Error("nobody was killed: the test tests nothing")
	}
}
