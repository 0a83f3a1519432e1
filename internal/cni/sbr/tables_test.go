package sbr

import (
	"math"
	"testing"
)

func TestTableSet(t *testing.T) {
	edges := []uint32{0, 1, 63, 64, 65535, 65536, 65537, math.MaxUint32}
	for _, in := range edges {
		var s tableSet
		s.add(in)
		s.add(in)
		for _, x := range edges {
			if s.has(x) != (x == in) {
				t.Errorf("of {%d}: has(%d) is %t", in, x, s.has(x))
			}
		}
	}
}
