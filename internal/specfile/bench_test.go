package specfile

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/viarule/viarule/internal/spec"
)

// manyRoutes is an object with n routes, in the form of the benchmarks.
func manyRoutes(n int) []byte {
	var b bytes.Buffer
	b.WriteString("apiVersion: viarule.io/v1alpha1\nkind: RoutingPolicy\nmetadata: {name: many}\nspec:\n  tables:\n  - name: custom\n    id: 200\n    routes:\n")
	for i := range n {
		fmt.Fprintf(&b, "    - {to: 11.%d.%d.%d, via: 10.99.0.2, dev: out}\n", i>>16, i>>8&255, i&255)
	}
	return b.Bytes()
}

// manyRules is an object with n source policies.
func manyRules(n int) []byte {
	var b bytes.Buffer
	b.WriteString("apiVersion: viarule.io/v1alpha1\nkind: RoutingPolicy\nmetadata: {name: many}\nspec:\n  rules:\n")
	for i := range n {
		fmt.Fprintf(&b, "  - {from: [10.%d.%d.%d], table: %d}\n", i>>16, i>>8&255, i&255, 100+i%8)
	}
	return b.Bytes()
}

func benchmarkParse(b *testing.B, data []byte, fast bool) {
	b.ReportAllocs()
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, problems := parse("f", data, fast); spec.Failed(problems) {
			b.Fatal(problems[0])
		}
	}
}

func BenchmarkParse100kRoutes(b *testing.B)        { benchmarkParse(b, manyRoutes(100_000), true) }
func BenchmarkParse100kRoutesLibrary(b *testing.B) { benchmarkParse(b, manyRoutes(100_000), false) }
func BenchmarkParse1mRoutes(b *testing.B)          { benchmarkParse(b, manyRoutes(1_000_000), true) }
func BenchmarkParse10kRules(b *testing.B)          { benchmarkParse(b, manyRules(10_000), true) }
