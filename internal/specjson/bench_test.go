package specjson

import (
	"fmt"
	"strings"
	"testing"
)

// benchRules is a list of n rules as pods have them.
func benchRules(n int) []byte {
	parts := make([]string, n)
	for i := range parts {
		parts[i] = fmt.Sprintf(`{"from":["10.0.%d.%d"],"to":["192.0.2.0/24"],"ipproto":"tcp","dport":"80-90","table":%d}`, i>>8, i&255, 100+i)
	}
	return []byte("[" + strings.Join(parts, ",") + "]")
}

func benchmarkRules(b *testing.B, n int) {
	data := benchRules(n)
	b.ReportAllocs()
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if rules, problems := Rules("rules", data); len(rules) != n {
			b.Fatal(problems)
		}
	}
}

func BenchmarkRules3(b *testing.B)   { benchmarkRules(b, 3) }
func BenchmarkRules256(b *testing.B) { benchmarkRules(b, Most) }
