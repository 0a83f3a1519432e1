package srcroute_test

import (
	"errors"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/netstate/netstatetest"
	"github.com/viarule/viarule/internal/spec"
	"github.com/viarule/viarule/internal/srcroute"
)

// drawn is anything that may be asked of Build, likely or not.
func drawn(t *rapid.T) (*srcroute.Config, *srcroute.Attachment, *srcroute.Facts) {
	bools := rapid.Bool()
	c := &srcroute.Config{
		Own: bools.Draw(t, "own"), SourceHints: bools.Draw(t, "hints"), InferGateway: rapid.IntRange(0, 5).Draw(t, "infer") == 5, StrictRP: bools.Draw(t, "strict"),
		Table:    rapid.SampledFrom([]uint32{0, 0, 0, 1, 100, 254, 1<<32 - 1}).Draw(t, "table"),
		Priority: rapid.SampledFrom([]uint32{0, 0, 1, 2999, 32765}).Draw(t, "priority"),
	}
	for _, f := range netstate.Families {
		if bools.Draw(t, "gateway") {
			c.Gateways = append(c.Gateways, netstatetest.Addr(f).Draw(t, "gateway"))
		}
	}
	c.Rules = rapid.SliceOfN(rapid.Custom(writtenRule), 0, 3).Draw(t, "rules")
	c.Routes = rapid.SliceOfN(rapid.Custom(writtenRoute), 0, 3).Draw(t, "routes")

	a := &srcroute.Attachment{Dev: "net1"}
	f := &srcroute.Facts{Sources: map[netip.Addr]bool{}, LooseForAll: rapid.IntRange(0, 9).Draw(t, "loose") == 9}
	for range rapid.IntRange(1, 4).Draw(t, "addresses") {
		p := netstatetest.Prefix(netstatetest.Family().Draw(t, "family"), 0).Draw(t, "network")
		x := srcroute.Address{Prefix: netip.PrefixFrom(netstatetest.Addr(netstate.FamilyOf(p.Addr())).Draw(t, "address"), p.Bits())}
		if bools.Draw(t, "has gateway") {
			x.Gateway = netstatetest.Addr(netstate.FamilyOf(p.Addr())).Draw(t, "its gateway")
		}
		a.Addrs = append(a.Addrs, x)
		f.Sources[x.Prefix.Addr()] = bools.Draw(t, "source")
	}
	for i := range c.Fills(a, nil) {
		f.Free = append(f.Free, 5000+uint32(i))
	}
	f.Priority = [2]uint32{rapid.Uint32Range(0, 32765).Draw(t, "priority 4"), rapid.Uint32Range(0, 32765).Draw(t, "priority 6")}
	f.Shared = map[netstate.RouteKey]bool{}
	for _, r := range rapid.SliceOfN(netstatetest.Route(), 0, 6).Draw(t, "main") {
		r.Table = netstate.TableMain
		if len(r.Hops) == 0 && r.Type.Forwards() { // the others have no link
			r.Hop.Dev = "net1"
		}
		f.Main = append(f.Main, r)
		f.Shared[r.Key()] = bools.Draw(t, "shared")
	}
	return c, a, f
}

func writtenRule(t *rapid.T) spec.Rule {
	r := netstatetest.Rule(netstatetest.RuleOptions{NoUnknown: true}).Draw(t, "rule")
	w := spec.Rule{IIF: r.IIF, OIF: r.OIF, Mark: r.Mark, Proto: r.Proto, SPort: r.SPort, DPort: r.DPort, UID: r.UID, Not: r.Not,
		Action: r.Action, Goto: r.Goto, SuppressPrefixLength: r.SuppressPrefixLength}
	for _, list := range []*[]netip.Prefix{&w.From, &w.To} {
		for range rapid.IntRange(0, 3).Draw(t, "prefixes") {
			*list = append(*list, netstatetest.Prefix(netstatetest.Family().Draw(t, "family"), 0).Draw(t, "prefix"))
		}
	}
	switch rapid.IntRange(0, 3).Draw(t, "kind") {
	case 0:
		w.Action, w.Goto = 0, 0
	case 1:
		w.Action, w.Table = netstate.ToTable, spec.TableRef{Name: rapid.SampledFrom([]string{"main", "local", "default", "blue"}).Draw(t, "name")}
	case 2:
		w.Family = r.Family
	}
	if w.Action == netstate.ToTable && w.Table == (spec.TableRef{}) {
		w.Table.ID = rapid.Uint32Range(1, 1<<32-1).Draw(t, "id")
	}
	if rapid.Bool().Draw(t, "said") {
		w.Priority = netstate.Some(rapid.Uint32Range(1, 1<<32-1).Draw(t, "priority"))
	}
	return w
}

func writtenRoute(t *rapid.T) spec.Route {
	r := netstatetest.Route().Draw(t, "route")
	w := spec.Route{To: r.To, Via: r.Hop.Via, Src: r.Src, Metric: r.Metric, MTU: r.MTU, AdvMSS: r.AdvMSS, OnLink: r.Hop.OnLink, Type: r.Type}
	if rapid.Bool().Draw(t, "another link") {
		w.Dev = r.Hop.Dev
	}
	for _, h := range r.Hops {
		w.Nexthops = append(w.Nexthops, spec.Nexthop{Via: h.Via, Dev: h.Dev, Weight: h.Weight, OnLink: h.OnLink})
	}
	return w
}

// TestAlways says what holds of all that Build makes.
func TestAlways(t *testing.T) {
	refused, made := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		c, a, f := drawn(t)
		w, err := srcroute.Build(c, a, f)
		if err != nil {
			if e := (*srcroute.Error)(nil); !errors.As(err, &e) || e.Key == "" || e.What == "" {
				t.Fatalf("no *Error with a key: %v", err)
			}
			refused++
			return
		}
		made++
		tables := f.Free
		if c.Table != 0 {
			tables = []uint32{c.Table}
		}
		keys := map[netstate.RouteKey]bool{}
		for i := range w.Routes {
			r := &w.Routes[i]
			switch {
			case r.Protocol != netstate.ProtocolCNI:
				t.Errorf("without our mark: %s", r)
			case !slices.Contains(tables, r.Table):
				t.Errorf("into a table that was not given: %s", r)
			case keys[r.Key()]:
				t.Errorf("a second route of its key: %s", r)
			}
			keys[r.Key()] = true
		}
		from := map[netip.Addr]uint32{}
		for i := range w.Rules {
			r := &w.Rules[i]
			switch {
			case r.Protocol != netstate.ProtocolCNI:
				t.Errorf("without our mark: %s", r)
			case r.Priority == 0 || i < len(a.Addrs) && r.Priority > 32765:
				t.Errorf("before the kernel's rule for local, or behind the one for main: %s", r)
			}
			if i < len(a.Addrs) {
				from[r.From.Addr()] = r.Table
			}
		}
		for _, x := range a.Addrs {
			if !slices.Contains(tables, from[x.Prefix.Addr()]) {
				t.Errorf("no rule from %s to one of %d", x.Prefix.Addr(), tables)
			}
		}
		for i := range w.Routes {
			if r := &w.Routes[i]; len(c.Routes) == 0 && !reachable(r, w.Routes) {
				t.Errorf("by a gateway that the kernel may refuse: %s", r)
			}
		}
		if !slices.IsSortedFunc(w.Routes, func(x, y netstate.Route) int { return gatewayed(&x) - gatewayed(&y) }) {
			t.Errorf("a route by a gateway before one without: %v", w.Routes)
		}
		for _, e := range w.Main {
			switch {
			case c.Table != 0:
				t.Errorf("with a table main is changed: %v", e)
			case c.Own && (e.Old == nil || e.New == nil):
				t.Errorf("own takes or gives in main: %v", e)
			case e.Old != nil && e.New != nil && (e.Old.Key() != e.New.Key() || f.Shared[e.Old.Key()]):
				t.Errorf("%s does not replace %s", e.New, e.Old)
			case e.New != nil && e.New.Table != netstate.TableMain || e.Old != nil && len(e.Old.Hops) > 0:
				t.Errorf("an edit of %v to %v", e.Old, e.New)
			}
		}
	})
	if refused == 0 || made == 0 {
		t.Errorf("%d made, %d refused", made, refused)
	}
}

// reachable says that a route's gateway needs nothing of main: a route of the same table
// leads to it, or it is one of IPv4 and onlink.
func reachable(r *netstate.Route, routes []netstate.Route) bool {
	via := r.Hop.Via
	if !via.IsValid() || via.Is6() && via.IsLinkLocalUnicast() || via.Is4() && r.Hop.OnLink {
		return true
	}
	return !r.Hop.OnLink && slices.ContainsFunc(routes, func(o netstate.Route) bool {
		return o.Table == r.Table && o.Hop.Dev == r.Hop.Dev && !o.Hop.Via.IsValid() && o.To.Contains(via)
	})
}

func gatewayed(r *netstate.Route) int {
	if r.Hop.Via.IsValid() || len(r.Hops) > 0 {
		return 1
	}
	return 0
}
