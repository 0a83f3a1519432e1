package cutoff

import (
	"strings"

	"github.com/viarule/viarule/internal/fib"
	"github.com/viarule/viarule/internal/netstate"
)

// way says in words which way a packet takes: "by dev eth0 via 10.0.0.1".
func way(d *fib.Decision) string {
	switch {
	case d.Verdict == fib.Unknown:
		return "by a way that cannot be told (" + d.Why + ")"
	case d.Verdict == fib.Local:
		return "for this host itself"
	case len(d.Multipath) > 0:
		var all []netstate.Hop
		for _, w := range d.Multipath {
			all = append(all, w.Hop)
		}
		return hopsText(all)
	}
	return hopsText([]netstate.Hop{d.Hop})
}

// would says the same of the state after the plan.
func would(d *fib.Decision) string {
	switch d.Verdict {
	case fib.NoRoute:
		return "would find no route"
	case fib.Unreachable:
		return "would be refused as unreachable"
	case fib.Prohibit:
		return "would be refused as prohibited"
	case fib.Blackhole:
		return "would be dropped"
	case fib.Invalid:
		return "would be refused (" + d.Why + ")"
	case fib.Unknown:
		return "it cannot be told where they would go (" + d.Why + ")"
	}
	return "would leave " + way(d)
}

func hopsText(list []netstate.Hop) string {
	var parts []string
	for _, h := range list {
		s := "by dev " + h.Dev
		if h.Via.IsValid() {
			s += " via " + h.Via.String()
		}
		parts = append(parts, s)
	}
	return strings.Join(parts, " or ")
}

// add adds a finding with the change that is to blame: the one that made the
// rule that decides from now on, or else its route; or else the one that removes
// what decided so far.
func (c *checker) add(f Finding, before, after *fib.Decision) {
	c.blame(f, []func(*netstate.Change) bool{
		func(ch *netstate.Change) bool { return ch.Verb != netstate.Delete && isRule(ch, after.Rule) },
		func(ch *netstate.Change) bool { return ch.Verb != netstate.Delete && isRoute(ch, after.Route) },
		func(ch *netstate.Change) bool { return ch.Verb == netstate.Delete && isRule(ch, before.Rule) },
		func(ch *netstate.Change) bool { return ch.Verb == netstate.Delete && isRoute(ch, before.Route) },
	})
}

func isRule(ch *netstate.Change, r *netstate.Rule) bool {
	return r != nil && ch.Rule != nil && *ch.Rule == *r
}

func isRoute(ch *netstate.Change, r *netstate.Route) bool {
	return r != nil && ch.Route != nil && ch.Route.Equal(r)
}

// addRoute is add for a route of main that is compared by itself.
func (c *checker) addRoute(f Finding, before, after *netstate.Route) {
	c.blame(f, []func(*netstate.Change) bool{
		func(ch *netstate.Change) bool { return ch.Verb != netstate.Delete && isRoute(ch, after) },
		func(ch *netstate.Change) bool { return ch.Verb == netstate.Delete && isRoute(ch, before) },
	})
}

func (c *checker) blame(f Finding, causes []func(*netstate.Change) bool) {
	for _, fits := range causes {
		for i, ch := range c.changes {
			if !fits(ch) {
				continue
			}
			if ch.Rule != nil {
				f.Object = ch.Rule.String()
			} else {
				f.Object = ch.Route.String()
			}
			if ch.Verb == netstate.Delete {
				f.Object += " goes"
			}
			if c.in.Where != nil {
				f.Where = c.in.Where(c.numbers[i])
			}
			c.found = append(c.found, f)
			return
		}
	}
	c.found = append(c.found, f)
}
