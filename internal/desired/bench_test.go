package desired_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/viarule/viarule/internal/desired"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/spec"
)

// manyRoutes is a policy with n routes to one table, in random order if so asked.
func manyRoutes(n int, shuffled bool) spec.Object {
	t := spec.Table{Name: "many"}
	for i := range n {
		a := netip.AddrFrom4([4]byte{10 + byte(i>>24), byte(i >> 16), byte(i >> 8), byte(i)})
		t.Routes = append(t.Routes, spec.Route{
			To: netip.PrefixFrom(a, 32), Via: netip.AddrFrom4([4]byte{192, 0, 2, byte(1 + i%6)}), Dev: "eth1", Type: netstate.RouteUnicast, Pos: spec.Pos{Line: int32(i + 1)},
		})
	}
	if shuffled {
		rnd := rand.New(rand.NewPCG(1, 1))
		rnd.Shuffle(n, func(i, j int) { t.Routes[i], t.Routes[j] = t.Routes[j], t.Routes[i] })
	}
	return spec.Object{Ref: spec.Ref{Kind: spec.KindRoutingPolicy, Name: "routes"}, File: "routes.yaml", Policy: &spec.RoutingPolicy{Tables: []spec.Table{t}}}
}

func benchmark(b *testing.B, objs []spec.Object, standing bool) {
	f := kernelFacts(b, "route default via 192.0.2.1 dev eth1 table 5000\nroute -6 default via 2001:db8:1::1 dev eth1 table 5000 metric 1024")
	if standing {
		w, _ := desired.Build(objs, f)
		f = apply(f, w)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, ps := desired.Build(objs, f); spec.Failed(ps) {
			b.Fatal(ps[0])
		}
	}
}

func BenchmarkBuild(b *testing.B) {
	prefixes := counting(netstate.IPv4, 10_000)
	policies := sources("policies", prefixes, constant[uint32](5000, len(prefixes)), nil)
	for _, standing := range []bool{false, true} {
		suffix := ""
		if standing {
			suffix = "/standing"
		}
		b.Run("routes=100000"+suffix, func(b *testing.B) { benchmark(b, []spec.Object{manyRoutes(100_000, false)}, standing) })
		b.Run("shuffled=100000"+suffix, func(b *testing.B) { benchmark(b, []spec.Object{manyRoutes(100_000, true)}, standing) })
		b.Run("policies=10000"+suffix, func(b *testing.B) { benchmark(b, []spec.Object{policies}, standing) })
		b.Run("both"+suffix, func(b *testing.B) {
			benchmark(b, []spec.Object{policies, manyRoutes(100_000, true)}, standing)
		})
	}
	for _, n := range []int{1000, 100_000} {
		rnd := rand.New(rand.NewPCG(1, 1))
		p := random(rnd, netstate.IPv6, n)
		b.Run(fmt.Sprintf("policies6=%d", n), func(b *testing.B) {
			benchmark(b, []spec.Object{sources("p", p, constant[uint32](5000, n), nil)}, false)
		})
	}
}
