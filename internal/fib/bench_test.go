package fib_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/desired"
	"github.com/viarule/viarule/internal/fib"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/netstate/netstatetest"
	"github.com/viarule/viarule/internal/spec"
)

// The bars, on one core: a million decisions a second with 100,000 routes, half a
// million with 10,000 policies, each of a different flow than the one before. How
// the kernel does is measured by `bench -only lookup`.

const benchTable = 5000

// aboveDefault is a prefix of what the Internet's routes are spread over.
func aboveDefault(f netstate.Family) netip.Prefix {
	if f == netstate.IPv6 {
		return netip.MustParsePrefix("2000::/4")
	}
	return netip.MustParsePrefix("128.0.0.0/2")
}

func randomAddr(rnd *rand.Rand, in netip.Prefix) netip.Addr {
	b := in.Addr().AsSlice()
	for i := range b {
		keep := byte(0xff << (8 - min(max(in.Bits()-8*i, 0), 8)))
		b[i] = b[i]&keep | byte(rnd.Uint32())&^keep
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// internet gives n routes whose lengths are spread as those of the Internet's
// tables, each after the one that holds it, as the kernel lists them.
func internet(rnd *rand.Rand, f netstate.Family, n int) []netstate.Route {
	lengths := []int{24, 24, 24, 24, 24, 24, 23, 22, 22, 21, 20, 19, 16, 14, 12}
	hop := netstate.Hop{Via: netip.MustParseAddr("192.0.2.1"), Dev: "eth0"}
	if f == netstate.IPv6 {
		lengths = []int{48, 48, 48, 48, 48, 48, 44, 40, 36, 32, 32, 32, 29, 64, 128}
		hop.Via = netip.MustParseAddr("fe80::1")
	}
	seen := make(map[netip.Prefix]bool, n)
	routes := make([]netstate.Route, 0, n)
	for len(routes) < n {
		to := netip.PrefixFrom(randomAddr(rnd, aboveDefault(f)), lengths[rnd.IntN(len(lengths))]).Masked()
		if !seen[to] {
			seen[to] = true
			routes = append(routes, netstate.CanonicalRoute(netstate.Route{Family: f, Table: benchTable, Type: netstate.RouteUnicast, Protocol: netstate.ProtocolObject, To: to, Hop: hop}))
		}
	}
	netstate.SortRoutes(routes)
	return routes
}

func sortRules(rules []netstate.Rule) {
	slices.SortStableFunc(rules, func(a, b netstate.Rule) int {
		return cmp.Or(cmp.Compare(a.Family, b.Family), cmp.Compare(a.Priority, b.Priority))
	})
}

// sources gives n addresses of a host's pods.
func sources(f netstate.Family, n int) []netip.Addr {
	a := netip.MustParseAddr("10.0.0.0")
	if f == netstate.IPv6 {
		a = netip.MustParseAddr("2001:db8:a::")
	}
	out := make([]netip.Addr, n)
	for i := range out {
		a = a.Next()
		out[i] = a
	}
	return out
}

// policies is what a rule for each source, to the bench's table, becomes.
func policies(t testing.TB, f netstate.Family, from []netip.Addr) []netstate.Rule {
	p := &spec.RoutingPolicy{}
	for _, a := range from {
		p.Rules = append(p.Rules, spec.Rule{From: []netip.Prefix{netip.PrefixFrom(a, a.BitLen())}, Action: netstate.ToTable, Table: spec.TableRef{ID: benchTable}})
	}
	o := spec.Object{Ref: spec.Ref{Kind: spec.KindRoutingPolicy, Name: "bench"}, Policy: p}
	w, problems := desired.Build([]spec.Object{o}, desired.Facts{State: netstatetest.ParseState(t, base)})
	if spec.Failed(problems) {
		t.Fatal(problems)
	}
	rules := make([]netstate.Rule, len(w.Rules))
	for i := range w.Rules {
		rules[i] = w.Rules[i].Rule
	}
	return rules
}

// forwarded gives flows that come in from the sources to anywhere.
func forwarded(rnd *rand.Rand, f netstate.Family, from []netip.Addr) []fib.Flow {
	flows := make([]fib.Flow, 1<<14)
	for i := range flows {
		flows[i] = fib.Flow{From: from[rnd.IntN(len(from))], To: randomAddr(rnd, aboveDefault(f)), IIF: "eth1", Proto: 6, SPort: uint16(rnd.Uint32()), DPort: 443}
	}
	return flows
}

// localOut gives flows that begin here, half of them without a source.
func localOut(rnd *rand.Rand, f netstate.Family) []fib.Flow {
	own := map[netstate.Family]netip.Addr{netstate.IPv4: netip.MustParseAddr("192.0.2.7"), netstate.IPv6: netip.MustParseAddr("2001:db8::7")}[f]
	flows := forwarded(rnd, f, []netip.Addr{own})
	for i := range flows {
		flows[i].IIF = ""
		if i%2 == 0 {
			flows[i].From = netip.Addr{}
		}
	}
	return flows
}

func benchLookup(b *testing.B, s *netstate.State, flows []fib.Flow) {
	b.Helper()
	sortRules(s.Rules)
	f := fib.New(s)
	verdicts := map[fib.Verdict]int{}
	for _, flow := range flows {
		d := f.Lookup(flow)
		verdicts[d.Verdict]++
	}
	if verdicts[fib.Unicast] != len(flows) {
		b.Fatalf("flows by verdict: %v", verdicts)
	}
	// The machine may have more to do: what counts is the time of the processor.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	b.ReportAllocs()
	i := 0
	start := threadTime(b)
	for b.Loop() {
		f.Lookup(flows[i%len(flows)])
		i++
	}
	b.ReportMetric(float64(i)/(threadTime(b)-start).Seconds(), "decisions/s")
}

// threadTime is the processor time that this thread has had.
func threadTime(b *testing.B) time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		b.Fatal(err)
	}
	return time.Duration(ts.Nano())
}

func BenchmarkLookup(b *testing.B) {
	for _, f := range netstate.Families {
		rnd := rand.New(rand.NewPCG(1, 2))
		routes := internet(rnd, f, 100_000)
		few, many := sources(f, 7), sources(f, 10_000)
		bench := func(name string, rules []netstate.Rule, flows []fib.Flow) {
			b.Run(f.String()+"/"+name, func(b *testing.B) {
				s := netstatetest.ParseState(b, base)
				s.Rules = append(s.Rules, rules...)
				s.Routes = append(s.Routes, routes...)
				benchLookup(b, &s, flows)
			})
		}
		list := func(from []netip.Addr) []netstate.Rule {
			var rules []netstate.Rule
			for _, a := range from {
				rules = append(rules, netstate.Rule{Family: f, Priority: 2200, From: netip.PrefixFrom(a, a.BitLen()), Action: netstate.ToTable, Table: benchTable})
			}
			return rules
		}
		bench("routes=100000,rules=10", list(few), forwarded(rnd, f, few))
		bench("routes=100000,rules=10,local", list(few), localOut(rnd, f))
		bench("policies=10000,tree", policies(b, f, many), forwarded(rnd, f, many))
		bench("policies=10000,list", list(many), forwarded(rnd, f, many))
	}
}

func BenchmarkNew(b *testing.B) {
	bench := func(name string, s *netstate.State) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				fib.New(s)
			}
		})
	}
	for _, f := range netstate.Families {
		for _, n := range []int{10_000, 100_000, 1_000_000} {
			rnd := rand.New(rand.NewPCG(3, 4))
			s := netstate.State{Routes: internet(rnd, f, n)}
			bench(fmt.Sprintf("%s/routes=%d", f, n), &s)
			kernelOrder(f, s.Routes)
			bench(fmt.Sprintf("%s/routes=%d,as the kernel lists them", f, n), &s)
			rnd.Shuffle(n, func(i, j int) { s.Routes[i], s.Routes[j] = s.Routes[j], s.Routes[i] })
			bench(fmt.Sprintf("%s/routes=%d,shuffled", f, n), &s)
		}
		s := netstate.State{Rules: policies(b, f, sources(f, 10_000))}
		bench(f.String()+"/policies=10000,tree", &s)
	}
}
