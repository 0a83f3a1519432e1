// Package standing compares what a CNI plugin made for an attachment, as the record of it
// says, with what a namespace holds. The plugin's CHECK and DEL and `viarule status` ask
// it, so that they never differ.
//
// It looks at nothing but its arguments.
package standing

import (
	"net/netip"
	"slices"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/record"
)

// Standing is what a namespace holds of what some steps name.
type Standing struct {
	rules  map[netstate.Rule]int
	routes map[netstate.RouteKey][]netstate.Route
	addrs  map[address]bool
}

// address is what the kernel tells addresses apart by.
type address struct {
	dev    string
	prefix netip.Prefix
}

// head is a rule's place.
type head struct {
	family   netstate.Family
	priority uint32
}

// Of finds in have what has the place of something that the steps name: of a rule its
// priority, of a route its key, of an address its link. have may be a part of the
// namespace, as long as it holds all of that.
func Of(steps []record.Step, have *netstate.State) *Standing {
	s := &Standing{rules: map[netstate.Rule]int{}, routes: map[netstate.RouteKey][]netstate.Route{}, addrs: map[address]bool{}}
	heads := map[head]bool{}
	for i := range steps {
		switch do := &steps[i].Do; {
		case do.Rule != nil:
			heads[head{do.Rule.Family, do.Rule.Priority}] = true
		case do.Route != nil:
			s.routes[do.Route.Key()] = nil
		}
	}
	for i := range have.Rules {
		if r := &have.Rules[i]; heads[head{r.Family, r.Priority}] {
			s.rules[*r]++
		}
	}
	if len(s.routes) > 0 {
		for i := range have.Routes {
			k := have.Routes[i].Key()
			if list, named := s.routes[k]; named {
				s.routes[k] = append(list, have.Routes[i])
			}
		}
	}
	for i := range have.Addrs {
		s.addrs[addressOf(&have.Addrs[i])] = true
	}
	return s
}

func addressOf(a *netstate.Addr) address { return address{a.Dev, a.Prefix} }

// Leave takes out what steps of another attachment have too: of rules that are the same
// each has one, and a route goes with the last.
func (s *Standing) Leave(steps []record.Step) {
	for i := range steps {
		switch do := &steps[i].Do; {
		case do.Rule != nil:
			s.TakeRule(do.Rule)
		case do.Route != nil && do.Verb == netstate.Add:
			s.routes[do.Route.Key()] = slices.DeleteFunc(s.routes[do.Route.Key()], func(r netstate.Route) bool { return r.Equal(do.Route) })
		}
	}
}

// TakeRule says whether a rule stands, and takes it out: of equal ones each counts.
func (s *Standing) TakeRule(r *netstate.Rule) bool {
	if s.rules[*r] == 0 {
		return false
	}
	s.rules[*r]--
	return true
}

// Route is the route that has r's key and link, r itself where it is one of several; nil:
// there is none.
func (s *Standing) Route(r *netstate.Route) (found *netstate.Route) {
	list := s.routes[r.Key()]
	for i := range list {
		switch {
		case list[i].Equal(r):
			return &list[i]
		case found == nil && list[i].Hop.Dev == r.Hop.Dev:
			found = &list[i]
		}
	}
	return found
}

// Addr says whether a link has an address.
func (s *Standing) Addr(a *netstate.Addr) bool { return s.addrs[addressOf(a)] }
