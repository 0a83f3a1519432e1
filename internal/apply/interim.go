package apply

import (
	"slices"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/plan"
)

// undoPlan stands in for plan.Undo until that is there.
func undoPlan(cp plan.Checkpoint, have netstate.State, sysctls map[string]string) plan.Plan {
	var p plan.Plan
	stage := 0
	add := func(c netstate.Change) { p.Ops = append(p.Ops, plan.Op{Change: c, Stage: stage}) }
	var ours []netstate.Rule
	for _, r := range have.Rules {
		if r.Protocol == netstate.ProtocolObject {
			ours = append(ours, r)
		}
	}
	if !slices.Equal(ours, cp.Rules) {
		for i := range ours {
			add(netstate.Change{Verb: netstate.Delete, Rule: &ours[i]})
		}
	}
	stage++
	there := make(map[netstate.RouteKey]*netstate.Route)
	for i := range have.Routes {
		if r := &have.Routes[i]; r.Protocol == netstate.ProtocolObject {
			there[r.Key()] = r
		}
	}
	for i := range cp.Routes {
		r := &cp.Routes[i]
		if h := there[r.Key()]; h == nil {
			add(netstate.Change{Verb: netstate.Add, Route: r})
		} else if !h.Equal(r) {
			add(netstate.Change{Verb: netstate.Replace, Route: r})
		}
		delete(there, r.Key())
	}
	for i := range have.Routes {
		if r := &have.Routes[i]; there[r.Key()] == r {
			add(netstate.Change{Verb: netstate.Delete, Route: r})
		}
	}
	stage++
	if !slices.Equal(ours, cp.Rules) {
		for i := range cp.Rules {
			add(netstate.Change{Verb: netstate.Add, Rule: &cp.Rules[i]})
		}
	}
	for i := range cp.Sysctls {
		if v, ok := sysctls[cp.Sysctls[i].Key]; ok && v != cp.Sysctls[i].Value {
			add(netstate.Change{Verb: netstate.Replace, Sysctl: &cp.Sysctls[i]})
		}
	}
	return p
}
