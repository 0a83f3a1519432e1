package host_test

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/host"
	"github.com/viarule/viarule/internal/netnstest"
)

// flow sends numbered datagrams without a pause and notes those that arrive, at
// whichever of its sinks. At most window of them are under way.
type flow struct {
	conn     *net.UDPConn
	to       *net.UDPAddr
	sinks    []*net.UDPConn
	sent     atomic.Int64
	received atomic.Int64
	refused  atomic.Int64
	stop     atomic.Bool
	wg       sync.WaitGroup
	mu       sync.Mutex
	numbers  map[uint64]bool // that arrived
}

const window = 32

// startFlow opens the sockets on the test's own thread, which is what puts them
// into the right namespaces, and starts to send.
func startFlow(t *testing.T, from, to netip.Addr, gateways ...string) *flow {
	t.Helper()
	f := &flow{numbers: map[uint64]bool{}, to: net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, 9))}
	var err error
	if f.conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 0))); err != nil {
		t.Fatal(err)
	}
	for _, gw := range gateways {
		netnstest.In(t, gw, func() {
			c, err := net.ListenUDP("udp", f.to)
			if err != nil {
				t.Fatalf("sink in %s: %v", gw, err)
			}
			raw, err := c.SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			_ = raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20) })
			if err != nil {
				t.Fatal(err)
			}
			f.sinks = append(f.sinks, c)
		})
	}
	for _, s := range f.sinks {
		f.wg.Add(1)
		go f.receive(s)
	}
	f.wg.Add(1)
	go f.send()
	t.Cleanup(f.end)
	return f
}

func (f *flow) receive(c *net.UDPConn) {
	defer f.wg.Done()
	b := make([]byte, 64)
	for {
		if _, _, err := c.ReadFromUDP(b); err != nil {
			return
		}
		f.mu.Lock()
		f.numbers[binary.BigEndian.Uint64(b)] = true
		f.mu.Unlock()
		f.received.Add(1)
	}
}

func (f *flow) send() {
	defer f.wg.Done()
	stuck := time.Now()
	for !f.stop.Load() {
		if f.sent.Load()-f.received.Load() >= window {
			if time.Since(stuck) > 5*time.Second {
				return // lost: the test sees it
			}
			runtime.Gosched()
			continue
		}
		stuck = time.Now()
		number := f.sent.Add(1)
		if _, err := f.conn.WriteToUDP(binary.BigEndian.AppendUint64(nil, uint64(number)), f.to); err != nil {
			f.refused.Add(1)
		}
	}
}

// more waits until n further datagrams have arrived.
func (f *flow) more(t *testing.T, n int64) {
	t.Helper()
	want := f.received.Load() + n
	for end := time.Now().Add(20 * time.Second); f.received.Load() < want; runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("the flow stands: %d sent, %d received, %d refused", f.sent.Load(), f.received.Load(), f.refused.Load())
		}
	}
}

// lost ends the flow and gives the numbers of what did not arrive. It waits for them for
// five seconds, in which a moment that the whole machine stands still counts little.
func (f *flow) lost() (numbers []uint64) {
	f.stop.Store(true)
	last := time.Now()
	for waited := time.Duration(0); f.received.Load() < f.sent.Load() && waited < 5*time.Second; {
		runtime.Gosched()
		now := time.Now()
		waited += min(now.Sub(last), 20*time.Millisecond)
		last = now
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for n := range uint64(f.sent.Load()) {
		if !f.numbers[n+1] {
			numbers = append(numbers, n+1)
		}
	}
	return numbers
}

func (f *flow) end() {
	f.stop.Store(true)
	_ = f.conn.Close()
	for _, s := range f.sinks {
		_ = s.Close()
	}
	f.wg.Wait()
}

// gateways makes two gateways, each behind a link of its own, that both hold the
// addresses 198.51.100.9 and 2001:db8:ff::9.
func gateways(t testing.TB) {
	t.Helper()
	netnstest.IP(t, "addr add 10.0.9.1/32 dev lo", "addr add 2001:db8:9::1/128 dev lo nodad")
	for i, gw := range []string{"gw1", "gw2"} {
		netnstest.Named(t, gw)
		n := i + 1
		var lines []string
		for _, l := range []string{
			"link add eth%[1]d type veth peer name host0 netns %[2]s",
			"addr add 10.0.%[1]d.1/24 dev eth%[1]d",
			"addr add 2001:db8:%[1]d::1/64 dev eth%[1]d nodad",
			"link set eth%[1]d up",
			"-n %[2]s addr add 10.0.%[1]d.2/24 dev host0",
			"-n %[2]s addr add 2001:db8:%[1]d::2/64 dev host0 nodad",
			"-n %[2]s addr add 198.51.100.9/32 dev lo",
			"-n %[2]s addr add 2001:db8:ff::9/128 dev lo nodad",
			"-n %[2]s link set host0 up",
		} {
			lines = append(lines, fmt.Sprintf(l+"%.0[2]s", n, gw))
		}
		netnstest.IP(t, lines...)
	}
}

// TestNoPacketIsLostAcrossChanges sends a steady flow of each family while the
// gateway, the priority, the metric, the table and then all of it change.
func TestNoPacketIsLostAcrossChanges(t *testing.T) {
	netnstest.New(t, netnstest.Mounts())
	gateways(t)
	const policy = `apiVersion: viarule.io/v1alpha1
kind: RoutingPolicy
metadata: {name: flow}
spec:
  tables:
  - name: TABLE
    routes:
    - {to: 0.0.0.0/0, via: 10.0.GW.2, dev: ethGW, metric: METRIC}
    - {to: "::/0", via: "2001:db8:GW::2", dev: ethGW, metric: METRIC}
  rules:
  - {from: [10.0.9.1], table: TABLE, priority: PRIO}
  - {from: ["2001:db8:9::1"], table: TABLE, priority: PRIO}
`
	say := func(table, gw, metric, prio string) string {
		return strings.NewReplacer("TABLE", table, "GW", gw, "METRIC", metric, "PRIO", prio).Replace(policy)
	}
	h := openHost(t)
	applyText(t, h, say("uplink", "1", "10", "2300"))
	flows := []*flow{
		startFlow(t, netip.MustParseAddr("10.0.9.1"), netip.MustParseAddr("198.51.100.9"), "gw1", "gw2"),
		startFlow(t, netip.MustParseAddr("2001:db8:9::1"), netip.MustParseAddr("2001:db8:ff::9"), "gw1", "gw2"),
	}
	for _, step := range []struct{ what, text string }{
		{"gateway", say("uplink", "2", "10", "2300")},
		{"priority up", say("uplink", "2", "10", "2500")},
		{"priority down", say("uplink", "2", "10", "2100")},
		{"metric", say("uplink", "2", "20", "2100")},
		{"table", say("other", "2", "20", "2100")},
		{"everything", say("third", "1", "5", "2400")},
		{"and back", say("uplink", "2", "10", "2300")},
	} {
		for _, f := range flows {
			f.more(t, 200)
		}
		applyText(t, h, step.text)
		for _, f := range flows {
			f.more(t, 200)
		}
		t.Logf("%s: %d and %d sent so far", step.what, flows[0].sent.Load(), flows[1].sent.Load())
	}
	for i, f := range flows {
		if lost := f.lost(); len(lost) > 0 || f.refused.Load() != 0 {
			t.Errorf("flow %d: lost the datagrams %d of %d datagrams, %d refused by the kernel", i, lost, f.sent.Load(), f.refused.Load())
		}
	}
}

// TestFlowCountsLosses breaks the way under a flow: the instrument must see it.
func TestFlowCountsLosses(t *testing.T) {
	netnstest.New(t, netnstest.Mounts())
	gateways(t)
	netnstest.IP(t, "route add 198.51.100.9 via 10.0.1.2")
	f := startFlow(t, netip.MustParseAddr("10.0.9.1"), netip.MustParseAddr("198.51.100.9"), "gw1", "gw2")
	f.more(t, 100)
	netnstest.IP(t, "route replace unreachable 198.51.100.9")
	for f.refused.Load() == 0 {
		runtime.Gosched()
	}
	if len(f.lost()) == 0 {
		t.Error("no loss counted though the route was unreachable")
	}
}

func openHost(t testing.TB) *host.Host {
	t.Helper()
	h, err := host.Open(host.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}
