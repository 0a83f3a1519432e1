package kernel_test

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/viarule/viarule/internal/kernel"
	"github.com/viarule/viarule/internal/netnstest"
	"github.com/viarule/viarule/internal/netstate"
)

// manyRoutes makes n different host routes of table 100.
func manyRoutes(n int) []netstate.Change {
	routes := make([]netstate.Route, n)
	changes := make([]netstate.Change, n)
	via := netip.MustParseAddr("10.99.0.2")
	for i := range routes {
		a := netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)})
		routes[i] = netstate.Route{
			Family: netstate.IPv4, Table: 100, To: netip.PrefixFrom(a, 32), Type: netstate.RouteUnicast,
			Protocol: netstate.ProtocolObject, Hop: netstate.Hop{Via: via, Dev: "out"},
		}
		changes[i] = netstate.Change{Verb: netstate.Add, Route: &routes[i]}
	}
	return changes
}

// ready makes a namespace with a link to send packets by.
func ready(tb testing.TB) *kernel.Conn {
	tb.Helper()
	netnstest.New(tb)
	netnstest.IP(tb, "link add name out type veth peer name sink", "link set dev out up", "link set dev sink up",
		"addr add 10.99.0.1/24 dev out", "neigh add 10.99.0.2 lladdr 02:00:00:00:00:07 dev out nud permanent")
	c, err := kernel.Open("")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { c.Close() })
	return c
}

// ipTime runs ip with the given input and tells how long it took.
func ipTime(tb testing.TB, stdin []byte, args ...string) time.Duration {
	tb.Helper()
	in, err := os.CreateTemp(tb.TempDir(), "ip")
	if err != nil {
		tb.Fatal(err)
	}
	defer in.Close()
	if _, err := in.Write(stdin); err != nil {
		tb.Fatal(err)
	}
	if _, err := in.Seek(0, 0); err != nil {
		tb.Fatal(err)
	}
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		tb.Fatal(err)
	}
	defer null.Close()
	cmd := exec.Command("ip", args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, null, os.Stderr
	start := time.Now()
	if err := cmd.Run(); err != nil {
		tb.Fatalf("ip %v: %v", args, err)
	}
	return time.Since(start)
}

const benchRoutes = 100_000

// BenchmarkAdd compares the writing of 100,000 routes with ip -batch.
func BenchmarkAdd(b *testing.B) {
	c := ready(b)
	changes := manyRoutes(benchRoutes)
	var lines bytes.Buffer
	for i := range changes {
		fmt.Fprintf(&lines, "route add %s via 10.99.0.2 dev out table 100 proto 118\n", changes[i].Route.To)
	}
	var ours, theirs time.Duration
	for b.Loop() {
		theirs += ipTime(b, lines.Bytes(), "-batch", "-")
		ipTime(b, nil, "route", "flush", "table", "100")
		start := time.Now()
		n, failed := c.Apply(context.Background(), changes)
		ours += time.Since(start)
		if n != len(changes) || len(failed) > 0 {
			b.Fatalf("%d tried, %v", n, failed)
		}
		ipTime(b, nil, "route", "flush", "table", "100")
	}
	b.ReportMetric(float64(theirs)/float64(ours), "x-ip-batch")
	b.ReportMetric(float64(ours.Milliseconds())/float64(b.N), "ms/apply")
}

// BenchmarkSnapshot compares the reading of 100,000 routes with ip route show.
func BenchmarkSnapshot(b *testing.B) {
	c := ready(b)
	changes := manyRoutes(benchRoutes)
	if n, failed := c.Apply(context.Background(), changes); n != len(changes) || len(failed) > 0 {
		b.Fatalf("%d tried, %v", n, failed)
	}
	var ours, theirs time.Duration
	for b.Loop() {
		theirs += ipTime(b, nil, "route", "show", "table", "all")
		start := time.Now()
		s, err := c.Snapshot(context.Background())
		ours += time.Since(start)
		if err != nil || len(s.Routes) < benchRoutes {
			b.Fatalf("%d routes, %v", len(s.Routes), err)
		}
	}
	b.ReportMetric(float64(ours)/float64(theirs), "of-ip-route")
	b.ReportMetric(float64(ours.Milliseconds())/float64(b.N), "ms/snapshot")
}
