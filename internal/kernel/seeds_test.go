package kernel

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// seeds reads testdata/KIND.hex: message bodies as a real kernel gave them, one a
// line, recorded by TestRecordSeeds.
func seeds(tb testing.TB, kind string) [][]byte {
	tb.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", kind+".hex"))
	if err != nil {
		tb.Fatal(err)
	}
	var list [][]byte
	for line := range strings.Lines(string(text)) {
		b, err := hex.DecodeString(strings.TrimSpace(line))
		if err != nil {
			tb.Fatalf("testdata/%s.hex: %v", kind, err)
		}
		list = append(list, b)
	}
	if len(list) == 0 {
		tb.Fatalf("testdata/%s.hex is empty", kind)
	}
	return list
}
