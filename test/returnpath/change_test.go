package returnpath

import (
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/viarule/viarule/internal/netnstest"
)

// stream is a connection that never rests: it sends, and waits for the echo.
type stream struct {
	name  string
	turns atomic.Int64
	lost  atomic.Int64 // datagrams without an echo
	err   atomic.Pointer[error]
}

func (w *world) stream(ns, proto string, to netip.AddrPort) *stream {
	w.t.Helper()
	c, err := w.dial(ns, proto, "", to, late)
	if err != nil {
		w.t.Fatal(err)
	}
	s := &stream{name: proto + " from " + ns + " to " + to.String()}
	done := make(chan struct{})
	w.t.Cleanup(func() { c.Close(); <-done })
	go func() {
		defer close(done)
		for {
			switch err := s.turn(c); {
			case err == nil:
				s.turns.Add(1)
			default:
				s.err.Store(&err)
				return
			}
		}
	}()
	return s
}

// givenUp is when a datagram is given up: long after it must have come back on a busy
// machine, where a quarter of a second was not enough.
const givenUp = 3 * time.Second

// turn is one exchange. A datagram that is lost counts, and the next is sent.
func (s *stream) turn(c net.Conn) error {
	if _, udp := c.(*net.UDPConn); !udp {
		return exchange(c, 512, time.Minute)
	}
	err := exchange(c, 512, givenUp)
	if e, ok := err.(interface{ Timeout() bool }); ok && e.Timeout() || err != nil && strings.Contains(err.Error(), "timeout") {
		s.lost.Add(1)
		return nil
	}
	return err
}

// more waits until each of the streams has made some further turns.
func (w *world) more(what string, streams ...*stream) {
	w.t.Helper()
	for _, s := range streams {
		want := s.turns.Load() + 20
		for end := time.Now().Add(2 * late); s.turns.Load() < want; runtime.Gosched() {
			if err := s.err.Load(); err != nil {
				w.t.Fatalf("%s: %s is lost: %v", what, s.name, *err)
			}
			if time.Now().After(end) {
				w.t.Fatalf("%s: %s stands at %d turns", what, s.name, s.turns.Load())
			}
		}
	}
}

// noneLost says at which step datagrams were lost. More has waited for the turns that
// were under way, so that those of this step are known.
func (w *world) noneLost(what string, streams ...*stream) {
	w.t.Helper()
	for _, s := range streams {
		if n := s.lost.Swap(0); n > 0 {
			w.t.Errorf("%s: %s: %d datagrams are lost", what, s.name, n)
		}
	}
}

// TestOpenConnections keeps connections open while the object comes, changes, goes
// and comes again. Those by the network live while it is there, and outlive its
// absence; the others never notice.
func TestOpenConnections(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.serveAll()
	w.ip("extgw", "addr add 1.2.3.254/24 dev ext", "addr add 2001:db8:1::fe/64 dev ext nodad")
	var others, byNetwork []*stream
	for i := range families {
		f := &families[i]
		w.serve("admin", addrPort(f.admin, 9000))
		for _, proto := range protocols {
			others = append(others, w.stream("admin", proto, addrPort(f.node, 8080)), w.stream("admin", proto, f.at("10", 80)),
				w.stream("pod", proto, addrPort(f.admin, 9000)), w.stream("node", proto, f.at("10", 80)))
		}
	}
	w.more("before", others...)
	w.apply(external(""))
	w.more("applied", others...)
	w.noneLost("applied", others...)
	for i := range families {
		for _, end := range []string{"10", "11", "12", "13"} {
			byNetwork = append(byNetwork, w.stream("client", "tcp", families[i].at(end, 80)))
		}
		byNetwork = append(byNetwork, w.stream("client", "udp", families[i].at("10", 80)))
	}
	all := append(append([]*stream{}, others...), byNetwork...)
	w.more("applied", all...)
	gateways := func(v4, v6, more string) string {
		return network("public", "interface: {name: eth1}, addresses: [1.2.3.0/24, \"2001:db8:1::/64\"], gateways: ["+v4+", \""+v6+"\"]"+more)
	}
	for _, step := range []struct{ what, object string }{
		{"again", external("")},
		{"another gateway", gateways("1.2.3.254", "2001:db8:1::fe", "")},
		{"another priority", external(", priority: 2500")},
		{"another mark", external(", priority: 2500, mark: 0x20000")},
		{"another mark and table", external(", mark: 0x300000/0xf00000, table: 150")},
		{"another filter", external(", reversePathFilter: Disabled")},
		{"as it was", external("")},
	} {
		w.apply(step.object)
		w.more(step.what, all...)
		w.noneLost(step.what, all...)
	}
	w.viarule("delete", "", "--all")
	w.more("deleted", others...)
	w.noneLost("deleted", others...)
	w.silent("deleted", "client", "10")
	w.apply(external(""))
	w.more("applied again", all...)
	w.noneLost("applied again", others...)
}

// TestFlap takes the network's link down. Answers then go nowhere rather than by
// the default route, until the link is back and viarule has looked at it.
func TestFlap(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	var asked []func() // each makes a server answer once more
	w.serve("node", addrPort(families[0].node, 8080))
	w.serve("node", addrPort(families[1].node, 8080))
	w.apply(external(", table: 150"))
	w.watch("fw", "prerouting priority raw", map[string]string{
		"astray":  "iifname lan ip daddr 192.0.2.10 udp sport { 80, 8080 }",
		"astray6": "iifname lan ip6 daddr 2001:db8:c::10 udp sport { 80, 8080 }"})
	for i := range families {
		f := &families[i]
		asked = append(asked, w.remember("pod", addrPort(f.pod, 8080), f.at("10", 80)), w.remember("node", f.at("13", 80), f.at("13", 80)))
	}
	answer := func() {
		for _, f := range asked {
			f()
		}
		w.works("behind the answers", "admin", "12")
	}
	down := func() {
		w.ip("node", "link set eth1 down")
		answer()
	}
	up := func() {
		w.ip("node", "link set eth1 up", "addr replace 2001:db8:1::2/64 dev eth1 nodad")
	}
	astray := func() [2]int { return [2]int{w.counted("fw", "astray"), w.counted("fw", "astray6")} }

	down()
	if n := astray(); n != [2]int{} {
		t.Errorf("%d answers left by eth0 while eth1 was down", n)
	}
	for _, v := range []string{"-4", "-6"} {
		if r := w.in("node", "", "ip", v, "route", "show", "table", "150"); !strings.Contains(r, "unreachable default") || strings.Contains(r, "eth1") {
			t.Errorf("table 150 while eth1 is down:\n%s", r)
		}
	}
	if out, err := w.try("client", "", build(t), "status", "--netns", "node"); err == nil || !strings.Contains(out, "eth1 is down") || strings.Contains(out, "orphan") {
		t.Errorf("status sees nothing while eth1 is down: %v\n%s", err, out)
	}
	up()
	w.apply(external(", table: 150"))
	w.works("up again", "client", "12")
	answer()
	if n := astray(); n != [2]int{} {
		t.Errorf("%d answers left by eth0", n)
	}

	// That they would be seen there:
	w.viarule("delete", "", "--all")
	down()
	if n := astray(); n[0] < 2 || n[1] < 2 {
		t.Errorf("%d answers seen at the firewall without the object, want 2 of each family", n)
	}
}

// remember asks a server once, and gives a function by which it answers again.
func (w *world) remember(ns string, server, to netip.AddrPort) func() {
	w.t.Helper()
	var s *net.UDPConn
	var err error
	netnstest.In(w.t, ns, func() { s, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(server)) })
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { s.Close() })
	c, err := w.dial("client", "udp", "", to, late)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	if _, err := c.Write([]byte("hello")); err != nil {
		w.t.Fatal(err)
	}
	_ = s.SetDeadline(time.Now().Add(late))
	b := make([]byte, 64)
	_, from, err := s.ReadFromUDPAddrPort(b)
	if err != nil {
		w.t.Fatalf("%s: %v", to, err)
	}
	// Its connection is known in both directions with the first answer.
	answer := func() { _, _ = s.WriteToUDPAddrPort(b[:5], from) }
	answer()
	return answer
}
