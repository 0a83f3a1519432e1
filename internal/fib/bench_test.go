package fib_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/viarule/viarule/internal/fib"
	"github.com/viarule/viarule/internal/netstate"
)

// many gives a state with n routes in a table and n source rules.
func many(routes, rules int) netstate.State {
	var s netstate.State
	for i := range routes {
		s.Routes = append(s.Routes, netstate.Route{
			Family: netstate.IPv4, Table: 5000, Type: netstate.RouteUnicast, Protocol: 118,
			To:  netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(16 + i>>16), byte(i >> 8), byte(i), 0}), 24),
			Hop: netstate.Hop{Via: netip.AddrFrom4([4]byte{192, 0, 2, 1}), Dev: "eth0"},
		})
	}
	for i := range rules {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		s.Rules = append(s.Rules, netstate.Rule{Family: netstate.IPv4, Priority: 2200, From: netip.PrefixFrom(a, 32), Action: netstate.ToTable, Table: 5000, Protocol: 118})
	}
	return s
}

func BenchmarkNew(b *testing.B) {
	for _, n := range []int{10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := many(n, 0)
			b.ReportAllocs()
			for b.Loop() {
				fib.New(&s)
			}
		})
	}
}

func BenchmarkLookup(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := many(100_000, n)
			f := fib.New(&s)
			flow := fib.Flow{From: netip.AddrFrom4([4]byte{10, 0, byte((n - 1) >> 8), byte(n - 1)}), To: netip.AddrFrom4([4]byte{16, 1, 2, 3}), IIF: "eth1"}
			if d := f.Lookup(flow); d.Verdict != fib.Unicast {
				b.Fatal(d.Verdict)
			}
			b.ReportAllocs()
			for b.Loop() {
				f.Lookup(flow)
			}
		})
	}
}
