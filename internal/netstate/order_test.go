package netstate_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/netstate/netstatetest"
)

func TestSortRoutes(t *testing.T) {
	const want = `route default dev a table 5
route 10.0.0.0/8 dev a table 5
route 10.0.0.0/16 dev a table 5
route 10.0.0.0/16 dev b table 5
route 10.0.0.0/16 dev a table 5 metric 1
route 10.0.0.0/16 tos 0x10 dev a table 5
route 10.1.0.0/16 dev a table 5
route default dev a table 10
route -6 default dev a table 1 metric 1024
route -6 default from 2001:db8::/32 dev a table 1 metric 1024
`
	s := netstatetest.ParseState(t, want)
	// Backwards, but for the two of equal keys, which keep their order.
	slices.Reverse(s.Routes)
	i := slices.IndexFunc(s.Routes, func(r netstate.Route) bool { return r.Hop.Dev == "b" })
	s.Routes[i], s.Routes[i+1] = s.Routes[i+1], s.Routes[i]
	netstate.SortRoutes(s.Routes)
	if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(s.String(), "\n")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestCompareRouteKeyOrdersAll(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := netstatetest.RouteKey().Draw(t, "a"), netstatetest.RouteKey().Draw(t, "b"), netstatetest.RouteKey().Draw(t, "c")
		ab := netstate.CompareRouteKey(a, b)
		if ab != -netstate.CompareRouteKey(b, a) || (ab == 0) != (a == b) {
			t.Fatalf("%s and %s: %d", a, b, ab)
		}
		if ab <= 0 && netstate.CompareRouteKey(b, c) <= 0 && netstate.CompareRouteKey(a, c) > 0 {
			t.Fatalf("not transitive: %s, %s, %s", a, b, c)
		}
	})
}
