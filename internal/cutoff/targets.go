package cutoff

import (
	"net/netip"
	"slices"

	"github.com/viarule/viarule/internal/netstate"
)

// targets are the addresses that are looked up, sorted. Only routes that hold
// one of them can matter, which keeps a check of a million routes short.
type targets []netip.Addr

func newTargets(addrs []netip.Addr) targets {
	out := slices.Clone(addrs)
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

// in says whether one of the addresses is in p.
func (t targets) in(p netip.Prefix) bool {
	i, _ := slices.BinarySearchFunc(t, p.Masked().Addr(), netip.Addr.Compare)
	return i < len(t) && p.Contains(t[i])
}

// only gives the state with the routes that matter for the targets.
func (t targets) only(s netstate.State) netstate.State {
	var routes []netstate.Route
	for i := range s.Routes {
		if t.in(s.Routes[i].To) {
			routes = append(routes, s.Routes[i])
		}
	}
	s.Routes = routes
	return s
}
