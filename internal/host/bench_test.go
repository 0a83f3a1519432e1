package host_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/viarule/viarule/internal/host"
	"github.com/viarule/viarule/internal/netnstest"
)

// manyRoutes says n routes in one table.
func manyRoutes(n int) string {
	var s strings.Builder
	s.WriteString("apiVersion: viarule.io/v1alpha1\nkind: RoutingPolicy\nmetadata: {name: routes}\nspec:\n  tables:\n  - name: many\n    routes:\n")
	for i := range n {
		fmt.Fprintf(&s, "    - {to: 11.%d.%d.%d, via: 10.0.1.2, dev: eth1}\n", i>>16, i>>8&255, i&255)
	}
	return s.String()
}

// manyPolicies says n sources by four tables.
func manyPolicies(n int) string {
	var s strings.Builder
	s.WriteString("apiVersion: viarule.io/v1alpha1\nkind: RoutingPolicy\nmetadata: {name: policies}\nspec:\n  tables:\n")
	for i := range 4 {
		fmt.Fprintf(&s, "  - {name: up%d, routes: [{to: default, via: 10.0.1.2, dev: eth1}]}\n", i)
	}
	s.WriteString("  rules:\n")
	for i := range n {
		fmt.Fprintf(&s, "  - {from: [10.128.%d.%d], table: up%d}\n", i>>8&255, i&255, i%4)
	}
	return s.String()
}

func BenchmarkApply(b *testing.B) {
	for _, c := range []struct{ name, text string }{
		{"100000 routes", manyRoutes(100_000)},
		{"10000 policies", manyPolicies(10_000)},
	} {
		objects := parse(b, c.text)
		b.Run(c.name, func(b *testing.B) {
			netnstest.New(b, netnstest.Mounts())
			gateways(b)
			h := openHost(b)
			for b.Loop() {
				if _, err := h.Apply(b.Context(), objects, host.ApplyOptions{}); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if _, err := h.Delete(b.Context(), nil, host.DeleteOptions{All: true}); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
		b.Run(c.name+" unchanged", func(b *testing.B) {
			netnstest.New(b, netnstest.Mounts())
			gateways(b)
			h := openHost(b)
			for b.Loop() {
				if _, err := h.Apply(b.Context(), objects, host.ApplyOptions{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
