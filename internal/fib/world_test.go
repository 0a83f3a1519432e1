package fib_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/fib"
	"github.com/viarule/viarule/internal/kernel"
	"github.com/viarule/viarule/internal/netnstest"
	"github.com/viarule/viarule/internal/netstate"
)

// world is a namespace with links, whose rules and routes the test rewrites.
type world struct {
	t      *testing.T
	conn   *kernel.Conn
	oracle *oracle
	scene
	dscp  bool            // rules can select by DSCP (Linux 6.12)
	rules []netstate.Rule // the kernel's own
}

// firstVRFTable is the table of the first VRF, the next is the second's.
const firstVRFTable = 10

func newWorld(t *testing.T) *world {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root, for a network namespace")
	}
	netnstest.New(t)
	for _, key := range []string{
		"net.ipv4.ip_forward=1", "net.ipv4.conf.all.accept_local=1", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0",
		"net.ipv4.conf.all.send_redirects=0", "net.ipv4.conf.default.send_redirects=0",
		"net.ipv6.conf.all.forwarding=1", "net.ipv6.conf.default.accept_dad=0", "net.ipv6.conf.all.accept_dad=0",
		"net.ipv6.conf.default.addr_gen_mode=1", // no address that comes late
	} {
		netnstest.Exec(t, "sysctl", "-qw", key)
	}
	w := &world{t: t}
	// Veths whose other ends are up in the same namespace. e3 goes down in some worlds.
	for i, dev := range []string{"e0", "e1", "e2", "e3"} {
		w.addVeth(dev, i)
	}
	w.addVRFs()
	for _, key := range []string{
		// On e1 addresses stay tentative or optimistic for the time of the test, and
		// with e2 come temporary ones.
		"net.ipv6.conf.e1.accept_dad=1", "net.ipv6.conf.e1.optimistic_dad=1", "net.ipv6.neigh.e1.retrans_time_ms=3600000",
		"net.ipv6.conf.e2.use_tempaddr=1",
	} {
		netnstest.Exec(t, "sysctl", "-qw", key)
	}
	// From the first rule on, the kernel keeps the tables local and main apart.
	netnstest.IP(t, "rule add pref 1 lookup 1", "rule del pref 1")
	conn, err := kernel.Open("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	w.conn, w.oracle = conn, newOracle(t)
	w.rules = w.snapshot().Rules
	w.home = w.prefersHome()
	w.byVRF = atLeast(t, 6, 15)
	_, failed := conn.Apply(t.Context(), []netstate.Change{{Verb: netstate.Add, Rule: &netstate.Rule{
		Family: netstate.IPv4, Priority: 1, DSCP: netstate.Some(1), Action: netstate.Nop, Protocol: netstate.ProtocolObject,
	}}})
	w.dscp = len(failed) == 0
	return w
}

// atLeast says whether the kernel is of a release or a later one.
func atLeast(t *testing.T, major, minor int) bool {
	t.Helper()
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	var a, b int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &a, &b); err != nil {
		t.Fatal(err)
	}
	return a > major || a == major && b >= minor
}

func (w *world) addVeth(dev string, group int) {
	w.t.Helper()
	other := "p" + dev
	netnstest.IP(w.t, fmt.Sprintf("link add %s group %d type veth peer name %s", dev, group, other), "link set "+other+" up", "link set "+dev+" up")
	w.devices = append(w.devices, dev)
}

// addVRFs adds two VRFs with ports, where the kernel has VRFs. With the first one
// it makes a rule for both families (l3mdev).
func (w *world) addVRFs() {
	w.t.Helper()
	for i, vrf := range []struct {
		name  string
		ports []string
	}{{"blue", []string{"b0", "b1"}}, {"red", []string{"r0"}}} {
		if err := exec.Command("ip", "link", "add", vrf.name, "type", "vrf", "table", fmt.Sprint(firstVRFTable+i)).Run(); err != nil {
			return
		}
		netnstest.IP(w.t, "link set "+vrf.name+" up")
		for j, port := range vrf.ports {
			w.addVeth(port, j)
			netnstest.IP(w.t, "link set "+port+" master "+vrf.name)
		}
		w.vrfs = append(w.vrfs, vrf.name)
	}
}

// prefersHome says whether the kernel prefers home addresses as sources. Of two
// addresses alike the one that came last is the first that it tries.
func (w *world) prefersHome() bool {
	w.t.Helper()
	w.batch("addr add 2001:db8::1/64 dev e0 nodad home", "addr add 2001:db8::2/64 dev e0 nodad")
	s := w.snapshot()
	w.oracle.links(s.Links)
	replies, err := w.oracle.ask([]fib.Flow{{To: netip.MustParseAddr("2001:db8::f"), Proto: unix.IPPROTO_UDP}})
	if err != nil {
		w.t.Fatal(err)
	}
	return replies[0].packet.src == netip.MustParseAddr("2001:db8::1")
}

// kernelHas says whether a selector of rules can be asked about here.
func (w *world) kernelHas(selector string) bool {
	switch selector {
	case "dscp":
		return w.dscp
	case "l3mdev":
		return len(w.vrfs) > 0
	}
	return true
}

func (w *world) snapshot() netstate.State {
	w.t.Helper()
	s, err := w.conn.Snapshot(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// batch runs ip, which may fail on single lines.
func (w *world) batch(lines ...string) {
	w.t.Helper()
	cmd := exec.Command("ip", "-force", "-batch", "-")
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	if err := cmd.Run(); err != nil {
		if _, exited := err.(*exec.ExitError); !exited {
			w.t.Fatal(err)
		}
	}
}

// write sends changes, and leaves out those that the kernel refuses.
func (w *world) write(changes []netstate.Change) {
	for len(changes) > 0 {
		n, _ := w.conn.Apply(context.Background(), changes)
		if n == 0 {
			// A change that could not even be sent.
			n = 1
		}
		changes = changes[n:]
	}
}

// reset removes what an earlier world left, and puts back what it took away.
func (w *world) reset() {
	s := w.snapshot()
	var cs []netstate.Change
	for i := range s.Rules {
		if s.Rules[i].Protocol == netstate.ProtocolObject {
			cs = append(cs, netstate.Change{Verb: netstate.Delete, Rule: &s.Rules[i]})
		}
	}
	for i := range s.Routes {
		if s.Routes[i].Protocol == netstate.ProtocolObject {
			cs = append(cs, netstate.Change{Verb: netstate.Delete, Route: &s.Routes[i]})
		}
	}
	for i := range s.Nexthops {
		cs = append(cs, netstate.Change{Verb: netstate.Delete, Nexthop: &s.Nexthops[i]})
	}
	for i := range w.rules {
		if !slices.Contains(s.Rules, w.rules[i]) {
			cs = append(cs, netstate.Change{Verb: netstate.Add, Rule: &w.rules[i]})
		}
	}
	w.write(cs)
}
