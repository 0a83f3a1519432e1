package main

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"strings"

	"github.com/viarule/viarule/internal/fib"
	"github.com/viarule/viarule/internal/kernel"
	"github.com/viarule/viarule/internal/netstate"
)

// Decisions of package fib are compared with the kernel's own answers to
// RTM_GETROUTE for the same flows, in the namespace whose state fib has read. The
// flows are of packets made here, each from one of the sources of the policies to
// anywhere: for packets that come in the kernel also checks the source, and fib
// does not. Before anything is measured, each flow must have the same answer from
// both.

const (
	lookupRoutes = 100_000
	lookupFlows  = 1 << 14
)

// world is what lookups are measured on, of one family.
type world struct {
	family   netstate.Family
	sources  netip.Prefix // addresses of the host
	to       netip.Prefix // where the routes and the flows go
	lengths  []int        // of the routes' prefixes, as the Internet has them
	gateways [2]string
}

var worlds = []world{
	{netstate.IPv4, netip.MustParsePrefix("10.128.0.0/16"), netip.MustParsePrefix("128.0.0.0/2"),
		[]int{24, 24, 24, 24, 24, 24, 23, 22, 22, 21, 20, 19, 16, 14, 12}, [2]string{"10.99.0.2", "10.99.0.3"}},
	{netstate.IPv6, netip.MustParsePrefix("fd00:a::/112"), netip.MustParsePrefix("2000::/4"),
		[]int{48, 48, 48, 48, 48, 48, 44, 40, 36, 32, 32, 32, 29, 64, 128}, [2]string{"fd00:99::2", "fd00:99::3"}},
}

func (b *bench) lookup() error {
	for i := range worlds {
		w := &worlds[i]
		for _, m := range []struct {
			of       string
			policies int
			least    float64 // decisions a second
		}{
			{"100,000 routes and 10 rules", 7, 1e6},
			{"100,000 routes and 10,000 policies as a tree", 10_000, 5e5},
		} {
			of := fmt.Sprintf("lookup, %s, %s", w.family, m.of)
			if err := b.lookupWorld(w, of, m.policies, m.least); err != nil {
				return fmt.Errorf("%s: %w", of, err)
			}
		}
	}
	return nil
}

func (b *bench) lookupWorld(w *world, of string, policies int, least float64) error {
	rnd := rand.New(rand.NewPCG(1, uint64(w.family)))
	file, err := b.lookupFile(w, rnd, policies)
	if err != nil {
		return err
	}
	if err := freshLookup(); err != nil {
		return err
	}
	if _, err := b.apply(file, false); err != nil {
		return err
	}
	conn, err := kernel.Open("")
	if err != nil {
		return err
	}
	defer conn.Close()
	s, err := conn.Snapshot(b.ctx)
	if err != nil {
		return err
	}
	flows := make([]fib.Flow, lookupFlows)
	requests := make([][]byte, lookupFlows)
	from := firstOf(w.sources, policies)
	for i := range flows {
		flows[i] = fib.Flow{From: from[rnd.IntN(len(from))], To: randomIn(rnd, w.to)}
		requests[i] = request(&flows[i])
	}
	a, err := newAsker()
	if err != nil {
		return err
	}
	defer a.close()
	f := fib.New(&s)
	if err := sameAnswers(f, a, flows, requests); err != nil {
		return err
	}

	faster := fasterBy(3)
	err = b.compare(of, "ns/decision", 3*b.rounds, []way{
		{"RTM_GETROUTE, pipelined", nil, func() (float64, error) {
			start := threadTime()
			for i := 0; i < len(requests); i += askBatch {
				if err := a.ask(requests[i : i+askBatch]); err != nil {
					return 0, err
				}
			}
			return float64(threadTime()-start) / lookupFlows, nil
		}},
		{"fib.Lookup", faster, func() (float64, error) {
			const times = 4
			start := threadTime()
			for range times {
				for i := range flows {
					f.Lookup(flows[i])
				}
			}
			return float64(threadTime()-start) / times / lookupFlows, nil
		}},
	})
	if err != nil {
		return err
	}
	took := b.report[len(b.report)-1].Median
	b.add(of, "ns/decision", "fib.Lookup", took, took*least/1e9, fmt.Sprintf("%g a second", least), atMost(1))

	return b.compare(of, "ms", b.rounds, []way{
		{"fib.New", nil, func() (float64, error) {
			start := threadTime()
			fib.New(&s)
			return float64(threadTime()-start) / 1e6, nil
		}},
	})
}

// sameAnswers holds that both answer each flow alike.
func sameAnswers(f *fib.FIB, a *asker, flows []fib.Flow, requests [][]byte) error {
	for i := 0; i < len(flows); i += askBatch {
		if err := a.ask(requests[i : i+askBatch]); err != nil {
			return err
		}
		for j := range askBatch {
			flow := &flows[i+j]
			d := f.Lookup(*flow)
			kernels, err := parseAnswer(a.answers[j][:a.lengths[j]])
			if err != nil {
				return fmt.Errorf("the kernel's answer for %s from %s: %w", flow.To, flow.From, err)
			}
			if d.Verdict != fib.Unicast || d.Table != kernels.table || d.Hop.Via != kernels.via {
				return fmt.Errorf("to %s from %s: %s via %s by table %d, the kernel via %s by table %d",
					flow.To, flow.From, d.Verdict, d.Hop.Via, d.Table, kernels.via, kernels.table)
			}
		}
	}
	return nil
}

// lookupFile says a table of many routes, by two gateways, and policies that lead
// to it.
func (b *bench) lookupFile(w *world, rnd *rand.Rand, policies int) (string, error) {
	return b.file(fmt.Sprintf("lookup-%s-%d.yaml", w.family, policies), func(s *strings.Builder) {
		s.WriteString("apiVersion: viarule.io/v1alpha1\nkind: RoutingPolicy\nmetadata: {name: lookup}\nspec:\n  tables:\n  - name: bench\n    id: 100\n    routes:\n")
		seen := map[netip.Prefix]bool{}
		for len(seen) < lookupRoutes {
			to := netip.PrefixFrom(randomIn(rnd, w.to), w.lengths[rnd.IntN(len(w.lengths))]).Masked()
			if !seen[to] {
				seen[to] = true
				fmt.Fprintf(s, "    - {to: \"%s\", via: \"%s\", dev: out}\n", to, w.gateways[rnd.IntN(2)])
			}
		}
		s.WriteString("  rules:\n")
		for _, a := range firstOf(w.sources, policies) {
			fmt.Fprintf(s, "  - {from: [\"%s\"], table: bench}\n", a)
		}
	})
}

// freshLookup makes a namespace whose host has all sources of the worlds.
func freshLookup() error {
	if err := fresh(); err != nil {
		return err
	}
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/out/disable_ipv6", []byte("0"), 0o644); err != nil {
		return err
	}
	lines := []string{"addr add fd00:99::1/64 dev out nodad",
		"route add default via fd00:99::2 dev out", "route add default via 10.99.0.2 dev out"}
	for _, w := range worlds {
		lines = append(lines, fmt.Sprintf("route add local %s dev lo", w.sources))
	}
	return ip(lines...)
}

func firstOf(p netip.Prefix, n int) []netip.Addr {
	out := make([]netip.Addr, n)
	a := p.Addr()
	for i := range out {
		a = a.Next()
		out[i] = a
	}
	return out
}

func randomIn(rnd *rand.Rand, p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < 8*len(b); i++ {
		b[i/8] |= byte(rnd.IntN(2)<<7) >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}
