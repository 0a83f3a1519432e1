package spec

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/viarule/viarule/internal/netstate"
)

// ValidateRules judges each rule of a list that stands outside of an object, as
// Validate does. It gives only errors, whose paths begin with path in place of
// spec.rules. A rule may leave its action out: it leads to a table that the
// caller knows.
func ValidateRules(path string, rules []Rule, l Limits) []Problem {
	whole := make([]Rule, len(rules))
	for i, r := range rules {
		if r.Action == 0 {
			r.Action, r.Table = netstate.ToTable, TableRef{ID: netstate.TableMain}
		}
		whole[i] = r
	}
	v := listValidator(&RoutingPolicy{Rules: whole}, l)
	if v.checkTotal() {
		v.checkRules(v.obj.Policy)
	}
	return v.errorsAt("spec.rules", path)
}

// ValidateRoutes judges a list of routes of one table outside of an object, as
// Validate does. It gives only errors, whose paths begin with path in place of
// spec.tables[0].routes. A route may leave dev out where TakesDev says so: it
// gets one that the caller knows.
func ValidateRoutes(path string, routes []Route, l Limits) []Problem {
	whole := make([]Route, len(routes))
	for i, r := range routes {
		if r.TakesDev() {
			r.Dev = "lo"
		}
		whole[i] = r
	}
	v := listValidator(&RoutingPolicy{Tables: []Table{{Routes: whole}}}, l)
	v.checkRoutes(v.obj.Policy)
	v.checkSameInList(whole, path)
	return v.errorsAt("spec.tables[0].routes", path)
}

// TakesDev says whether the route has no dev and could have one.
func (r *Route) TakesDev() bool { return r.Dev == "" && r.Type.Forwards() && len(r.Nexthops) == 0 }

// checkSameInList is checkSameRoutes for a list without a table's name.
func (v *validator) checkSameInList(routes []Route, path string) {
	type key struct {
		to     netip.Prefix
		metric uint32
	}
	first := make(map[key]int, len(routes))
	for i := range routes {
		r := &routes[i]
		k := key{r.To, metricOf(r)}
		if j, again := first[k]; again {
			v.fail(place{v.obj, 0, index(i)}, "to", fmt.Sprintf("%s[%d] is a route to %s with the same metric", path, j, r.To), "leave one out, give it another metric, or use nexthops")
			continue
		}
		first[k] = i
	}
}

func listValidator(p *RoutingPolicy, l Limits) *validator {
	objs := []Object{{Policy: p}}
	return &validator{objs: objs, obj: &objs[0], known: Known{Limits: l}}
}

// errorsAt gives the errors, with to in place of the beginning from of their
// paths.
func (v *validator) errorsAt(from, to string) []Problem {
	v.problems[Warning], v.more[Warning] = nil, 0
	ps := v.done()
	for i := range ps {
		ps[i].Path = to + strings.TrimPrefix(ps[i].Path, from)
	}
	return ps
}
