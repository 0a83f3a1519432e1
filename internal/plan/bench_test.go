package plan

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/viarule/viarule/internal/desired"
	"github.com/viarule/viarule/internal/netstate"
)

// manyRoutes gives n routes of ours in ten tables, as desired sorts them.
func manyRoutes(n int) []desired.Route {
	out := make([]desired.Route, n)
	via := netip.MustParseAddr("192.0.2.1")
	for i := range out {
		a := netip.AddrFrom4([4]byte{10 + byte(i/10>>16), byte(i / 10 >> 8), byte(i / 10), 0})
		out[i].Route = netstate.Route{Family: netstate.IPv4, Table: 5000 + uint32(i%10), To: netip.PrefixFrom(a, 24), Type: netstate.RouteUnicast,
			Protocol: netstate.ProtocolObject, Hop: netstate.Hop{Via: via, Dev: "eth0"}}
	}
	routes := make([]netstate.Route, n)
	for i := range out {
		routes[i] = out[i].Route
	}
	netstate.SortRoutes(routes)
	for i := range out {
		out[i].Route = routes[i]
	}
	return out
}

func manyRules(n int) []desired.Rule {
	out := make([]desired.Rule, n)
	for i := range out {
		a := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		out[i].Rule = netstate.Rule{Family: netstate.IPv4, Priority: 2200 + uint32(i/32), From: netip.PrefixFrom(a, 32), Action: netstate.ToTable,
			Table: 5000 + uint32(i%10), Protocol: netstate.ProtocolObject}
	}
	return out
}

func stand(w *desired.Want) netstate.State {
	var s netstate.State
	for i := range w.Routes {
		s.Routes = append(s.Routes, w.Routes[i].Route)
	}
	for i := range w.Rules {
		s.Rules = append(s.Rules, w.Rules[i].Rule)
	}
	return s
}

// BenchmarkDiff measures a run that finds nothing to do, one that writes all and
// one that removes all.
func BenchmarkDiff(b *testing.B) {
	for _, size := range []struct {
		name          string
		routes, rules int
	}{{"100000 routes", 100_000, 0}, {"10000 rules", 0, 10_000}, {"1000000 routes", 1_000_000, 0}} {
		w := desired.Want{Routes: manyRoutes(size.routes), Rules: manyRules(size.rules)}
		have := stand(&w)
		rec := union(w)
		for _, in := range []struct {
			name string
			in   Input
			ops  int
		}{
			{"unchanged", Input{Want: w, Have: have, Recorded: rec}, 0},
			{"add", Input{Want: w, Recorded: rec}, size.routes + size.rules},
			{"delete", Input{Have: have, Recorded: rec}, size.routes + size.rules},
		} {
			b.Run(fmt.Sprint(size.name, " ", in.name), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if p := Diff(in.in); len(p.Ops) != in.ops {
						b.Fatalf("%d ops", len(p.Ops))
					}
				}
			})
		}
	}
}

func BenchmarkCheckpointText(b *testing.B) {
	w := desired.Want{Routes: manyRoutes(100_000), Rules: manyRules(10_000)}
	s := stand(&w)
	cp := Checkpoint{Rules: s.Rules, Routes: s.Routes}
	for b.Loop() {
		text, err := cp.MarshalText()
		if err != nil {
			b.Fatal(err)
		}
		if err := new(Checkpoint).UnmarshalText(text); err != nil {
			b.Fatal(err)
		}
	}
}
