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
	"pgregory.net/rapid"

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
}

// The links of the world: veths whose other ends are up in the same namespace.
// e3 goes down in some cases.
var devices = []string{"e0", "e1", "e2", "e3"}

func newWorld(t *testing.T) *world {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root, for a network namespace")
	}
	netnstest.New(t)
	for _, key := range []string{
		"net.ipv4.ip_forward=1", "net.ipv4.conf.all.accept_local=1", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0",
		"net.ipv6.conf.all.forwarding=1", "net.ipv6.conf.default.accept_dad=0", "net.ipv6.conf.all.accept_dad=0",
		"net.ipv6.conf.default.addr_gen_mode=1", // no address that comes late
	} {
		netnstest.Exec(t, "sysctl", "-qw", key)
	}
	for i, d := range devices {
		netnstest.IP(t,
			fmt.Sprintf("link add %s group %d type veth peer name p%d", d, i, i),
			fmt.Sprintf("link set p%d up", i), "link set "+d+" up")
	}
	// From the first rule on, the kernel keeps the tables local and main apart.
	netnstest.IP(t, "rule add pref 1 lookup 1", "rule del pref 1")
	conn, err := kernel.Open("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &world{t: t, conn: conn, oracle: newOracle(t)}
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

// reset removes what an earlier case left.
func (w *world) reset() {
	s := w.snapshot()
	var del []netstate.Change
	for i := range s.Rules {
		if s.Rules[i].Protocol == netstate.ProtocolObject {
			del = append(del, netstate.Change{Verb: netstate.Delete, Rule: &s.Rules[i]})
		}
	}
	for i := range s.Routes {
		if s.Routes[i].Protocol == netstate.ProtocolObject {
			del = append(del, netstate.Change{Verb: netstate.Delete, Route: &s.Routes[i]})
		}
	}
	for i := range s.Nexthops {
		del = append(del, netstate.Change{Verb: netstate.Delete, Nexthop: &s.Nexthops[i]})
	}
	w.write(del)
}

// want is the errno by which the kernel tells a verdict.
func want(d *fib.Decision) unix.Errno {
	switch d.Verdict {
	case fib.NoRoute:
		return unix.ENETUNREACH
	case fib.Unreachable:
		if d.Route == nil {
			return unix.ENETUNREACH
		}
		return unix.EHOSTUNREACH
	case fib.Prohibit:
		return unix.EACCES
	case fib.Blackhole, fib.Invalid:
		return unix.EINVAL
	}
	return 0
}

// differs compares our decision with what the kernel does with the packet (got)
// and with the route that it found (route). It returns "" where they agree.
func differs(flow *fib.Flow, d *fib.Decision, got, route answer) string {
	if d.Verdict == fib.Invalid && (got.err == unix.ENETUNREACH || got.err == unix.EINVAL) {
		return "" // which of the two is not worth a verdict
	}
	if e := want(d); e != 0 || got.err != 0 {
		if e != got.err {
			return fmt.Sprintf("error %d (%s), the kernel's %d (%s)", e, e, got.err, got.err)
		}
		return ""
	}
	if d.OnLink {
		if got.dev != flow.OIF || got.typ != netstate.RouteUnicast || got.via.IsValid() || !sameSource(flow, d.Src, got.src) {
			return "on link: " + got.String()
		}
		return ""
	}
	if shared := flow.Family() == netstate.IPv6 && d.Route.NexthopID != 0; shared {
		// The kernel may name another route by the same next hop object.
		got.table, route.bits, route.metric = d.Table, d.Route.To.Bits(), d.Route.Metric
	}
	if got.typ != d.Route.Type || got.table != d.Table {
		return fmt.Sprintf("%s in table %d, the kernel's %s", d.Route.Type, d.Table, got)
	}
	if route.err == 0 && (route.bits != d.Route.To.Bits() || route.metric != d.Route.Metric) {
		return fmt.Sprintf("route %s, the kernel's has %d bits and metric %d", d.Route, route.bits, route.metric)
	}
	if d.Verdict == fib.Local || d.Verdict == fib.Anycast {
		// The kernel names lo.
		if flow.Family() == netstate.IPv4 && !sameSource(flow, d.Src, got.src) {
			return fmt.Sprintf("source %s, the kernel's %s", d.Src, got.src)
		}
		return ""
	}
	ways := d.Multipath
	if ways == nil {
		ways = []fib.Way{d.Way}
	}
	i := slices.IndexFunc(ways, func(w fib.Way) bool { return w.Hop.Dev == got.dev && w.Hop.Via == got.via })
	if i < 0 {
		return fmt.Sprintf("ways %v, the kernel's %s", ways, got)
	}
	if flow.Family() == netstate.IPv6 && !ways[i].Src.IsValid() || flow.Family() == netstate.IPv4 && d.Route.NexthopID != 0 && !d.Route.Src.IsValid() {
		return "" // not covered
	}
	if !sameSource(flow, ways[i].Src, got.src) {
		return fmt.Sprintf("source %s, the kernel's %s", ways[i].Src, got.src)
	}
	return ""
}

// sameSource compares source addresses. The kernel does not repeat the flow's own.
func sameSource(flow *fib.Flow, ours, kernels netip.Addr) bool {
	if flow.From.IsValid() {
		return ours == flow.From
	}
	return ours == kernels
}

// compare decides about a flow and asks the kernel. The kernel adds the routes of
// IPv6 addresses a little later than the addresses, so that a difference counts
// only where the state is still the one that was looked at; s is renewed.
func (w *world) compare(s *netstate.State, flow fib.Flow) (d fib.Decision, diff string) {
	for {
		f := fib.New(s)
		d = f.Trace(flow)
		got, err := w.oracle.ask(flow, 0)
		if err != nil {
			w.t.Fatal(err)
		}
		route, err := w.oracle.ask(flow, fibMatch)
		if err != nil {
			w.t.Fatal(err)
		}
		if d.Verdict == fib.Unknown || w.notAsked(f, &flow, &d, got) {
			return d, ""
		}
		diff = differs(&flow, &d, got, route)
		if diff == "" {
			return d, ""
		}
		now := w.snapshot()
		if now.String() == s.String() {
			return d, diff
		}
		*s = now
	}
}

// notAsked says that the kernel's answer is about something that package fib
// does not decide: IPv4 checks the source of packets that come in, and takes
// only some types there; IPv6 suppresses routes by what another route by the
// same next hop object is like.
func (w *world) notAsked(f *fib.FIB, flow *fib.Flow, d *fib.Decision, got answer) bool {
	if flow.Family() == netstate.IPv6 {
		return slices.ContainsFunc(d.Steps, func(s fib.Step) bool {
			return s.Route != nil && s.Route.NexthopID != 0 && (s.Rule.SuppressPrefixLength.Set || s.Rule.SuppressIfGroup.Set)
		})
	}
	if flow.IIF == "" || got.err != unix.EINVAL || !d.Verdict.Goes() {
		return false
	}
	back := f.Lookup(fib.Flow{From: flow.To, To: flow.From, IIF: d.Hop.Dev, Mark: 0, TOS: flow.TOS})
	return d.Verdict == fib.Anycast || d.Verdict == fib.Multicast || back.Verdict.Goes() && back.Verdict != fib.Unicast && back.Verdict != fib.Local
}

// TestAgainstKernel compares decisions with the running kernel's, for random
// links, addresses, rules, routes, next hops and flows.
func TestAgainstKernel(t *testing.T) {
	w := newWorld(t)
	asked := map[fib.Verdict]int{}
	rapid.Check(t, func(rt *rapid.T) {
		w.reset()
		w.batch(slices.Concat([]string{"link set e3 up"}, drawAddrs(rt))...)
		s := w.snapshot()
		w.write(drawChanges(rt, &s))
		w.batch(drawAppends(rt)...)
		if rapid.IntRange(0, 2).Draw(rt, "e3 goes down") == 2 {
			w.batch("link set e3 down")
		}
		s = w.snapshot()
		w.oracle.links(s.Links)
		flows := rapid.SliceOfN(drawFlow(&s), 20, 60).Draw(rt, "flows")
		for _, flow := range flows {
			d, diff := w.compare(&s, flow)
			asked[d.Verdict]++
			if diff != "" {
				rt.Fatalf("flow %+v: %s\n%s\n%s\nstate:\n%s", flow, d.Verdict, diff, trace(&d), s)
			}
		}
	})
	for v := fib.Unicast; v <= fib.Invalid; v++ {
		// IPv6 has no broadcast and few draw it; the others must all occur.
		if asked[v] == 0 && v != fib.Broadcast && v != fib.Multicast && v != fib.Anycast {
			t.Errorf("no flow had the verdict %s: the test has become blind", v)
		}
	}
	if asked[fib.Unknown]*10 > asked[fib.Unicast] {
		t.Errorf("too many flows without an answer: %v", asked)
	}
	t.Logf("flows by verdict: %v", asked)
}

func trace(d *fib.Decision) string {
	var b strings.Builder
	for _, s := range d.Steps {
		fmt.Fprintf(&b, "  %s: %s %s", s.Rule, s.Outcome, s.Detail)
		if s.Route != nil {
			fmt.Fprintf(&b, " by %s", s.Route)
		}
		b.WriteByte('\n')
	}
	return b.String()
}
