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

	"golang.org/x/sys/unix"

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

// cost is what something took. The processor's time is the one to compare on a
// machine with other work.
type cost struct{ wall, cpu time.Duration }

func (c *cost) add(o cost) { c.wall, c.cpu = c.wall+o.wall, c.cpu+o.cpu }

// timed measures f, which must stay on its thread but for the collector's work.
func timed(tb testing.TB, f func()) cost {
	tb.Helper()
	used := func() time.Duration {
		var u unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
			tb.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	cpu, start := used(), time.Now()
	f()
	return cost{time.Since(start), used() - cpu}
}

// ipCost runs ip with the given input.
func ipCost(tb testing.TB, stdin []byte, args ...string) cost {
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
	return cost{time.Since(start), cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()}
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
	var ours, theirs cost
	for b.Loop() {
		theirs.add(ipCost(b, lines.Bytes(), "-batch", "-"))
		ipCost(b, nil, "route", "flush", "table", "100")
		ours.add(timed(b, func() {
			if n, failed := c.Apply(context.Background(), changes); n != len(changes) || len(failed) > 0 {
				b.Fatalf("%d tried, %v", n, failed)
			}
		}))
		ipCost(b, nil, "route", "flush", "table", "100")
	}
	b.ReportMetric(float64(theirs.wall)/float64(ours.wall), "x-ip-batch")
	b.ReportMetric(float64(theirs.cpu)/float64(ours.cpu), "x-ip-batch-cpu")
	b.ReportMetric(float64(ours.wall.Milliseconds())/float64(b.N), "ms/apply")
}

// BenchmarkSnapshot compares the reading of 100,000 routes with ip route show.
func BenchmarkSnapshot(b *testing.B) {
	c := ready(b)
	changes := manyRoutes(benchRoutes)
	if n, failed := c.Apply(context.Background(), changes); n != len(changes) || len(failed) > 0 {
		b.Fatalf("%d tried, %v", n, failed)
	}
	var ours, theirs cost
	for b.Loop() {
		theirs.add(ipCost(b, nil, "route", "show", "table", "all"))
		ours.add(timed(b, func() {
			if s, err := c.Snapshot(context.Background()); err != nil || len(s.Routes) < benchRoutes {
				b.Fatalf("%d routes, %v", len(s.Routes), err)
			}
		}))
	}
	b.ReportMetric(float64(ours.wall)/float64(theirs.wall), "of-ip-route")
	b.ReportMetric(float64(ours.cpu)/float64(theirs.cpu), "of-ip-route-cpu")
	b.ReportMetric(float64(ours.wall.Milliseconds())/float64(b.N), "ms/snapshot")
}
