package plan

import (
	"maps"
	"slices"
	"strings"

	"github.com/viarule/viarule/internal/desired"
	"github.com/viarule/viarule/internal/netstate"
)

// Checkpoint is what a plan may change, as it was before: every rule, route, link,
// table of nftables and accept that is ours by mark, every foreign rule and route that
// the plan takes over, and the old values of its sysctls. Undo leads back to it
// from wherever the plan stopped.
type Checkpoint struct {
	Rules  []netstate.Rule // in the kernel's order
	Routes []netstate.Route
	Links  []netstate.Link    // what viarule gave to each
	Nft    *netstate.NftTable // nil: there was none
	// Accepts are those of ours in chains of others. One whose chain has gone needs no
	// putting back.
	Accepts []netstate.Accept
	// Sysctls are those to which the plan gives new values. The undo puts the old
	// ones back when what needs the new ones is gone, as a plan does.
	Sysctls []netstate.Sysctl
	// Restored are those that the plan puts back, and those of links that it
	// removes: what comes back needs them.
	Restored []netstate.Sysctl
}

// Checkpoint says how to get back to have, which is the state that the plan was
// made for, with the values of the sysctls at that time.
func (p *Plan) Checkpoint(have netstate.State, sysctls map[string]string) Checkpoint {
	takenRules := make(map[netstate.Rule]int)
	takenRoutes := make(map[netstate.RouteKey]bool)
	lost := make(map[string]bool) // links
	var cp Checkpoint
	for i := range p.Ops {
		op := &p.Ops[i]
		switch {
		case op.Rule != nil && op.Verb == netstate.Delete && !ours(op.Rule.Protocol):
			takenRules[*op.Rule]++
		case op.BeforeRoute != nil && !ours(op.BeforeRoute.Protocol):
			takenRoutes[op.BeforeRoute.Key()] = true
		case op.Link != nil && op.Verb == netstate.Delete:
			lost[op.Link.Name] = true
		}
	}
	for i := range p.Ops {
		op := &p.Ops[i]
		if op.Sysctl == nil || lost[sysctlLink(op.Sysctl.Key)] {
			continue
		}
		v, ok := sysctls[op.Sysctl.Key]
		switch before := (netstate.Sysctl{Key: op.Sysctl.Key, Value: v}); {
		case ok && op.Stage == stageRestore:
			cp.Restored = append(cp.Restored, before)
		case ok:
			cp.Sysctls = append(cp.Sysctls, before)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(sysctls)) {
		if lost[sysctlLink(key)] {
			cp.Restored = append(cp.Restored, netstate.Sysctl{Key: key, Value: sysctls[key]})
		}
	}
	for i := range have.Links {
		if l := &have.Links[i]; oursLink(l) {
			cp.Links = append(cp.Links, *madeLink(l))
		}
	}
	cp.Nft, cp.Accepts = nftTable(have.Nft), ownAccepts(have.Forward)
	for i := len(have.Rules) - 1; i >= 0; i-- {
		// Of equal foreign rules a plan takes the last.
		r := &have.Rules[i]
		switch {
		case ours(r.Protocol):
		case takenRules[*r] > 0:
			takenRules[*r]--
		default:
			continue
		}
		cp.Rules = append(cp.Rules, *r)
	}
	slices.Reverse(cp.Rules)
	for i := range have.Routes {
		// Of the foreign routes of a key a plan takes the first.
		r := &have.Routes[i]
		k := r.Key()
		if ours(r.Protocol) || takenRoutes[k] {
			cp.Routes = append(cp.Routes, *r)
			delete(takenRoutes, k)
		}
	}
	netstate.SortRoutes(cp.Routes)
	return cp
}

// Undo works out what leads from have back to the checkpoint: to the last
// attribute, and to the order among equal priorities. What is ours by mark and
// not in the checkpoint goes. Foreign objects that the plan did not take over are
// not touched; where one has come into the way since, it is among the conflicts.
// A rule that shares its priority with foreign ones comes to stand behind them.
func Undo(cp Checkpoint, have netstate.State, sysctls map[string]string) Plan {
	p := Plan{}
	var s stages
	links := make([]desired.Link, len(cp.Links))
	for i := range cp.Links {
		links[i].Link = cp.Links[i]
	}
	away := diffLinks(&p, &s, links, &have, nil, func(*netstate.Link) bool { return true })
	routes := make([]desired.Route, len(cp.Routes))
	for i := range cp.Routes {
		routes[i].Route = cp.Routes[i]
	}
	diffRoutes(&p, &s, routes, withoutLinks(&have, away), false, func(*netstate.Route) bool { return true })

	rules := make([]desired.Rule, len(cp.Rules))
	for i := range cp.Rules {
		rules[i].Rule = cp.Rules[i]
	}
	d := ruleDiff{p: &p, s: &s, exact: true, mayDrop: func(*netstate.Rule) bool { return true }}
	d.families(have.Rules, rules, func(f netstate.Family) []span {
		var own []*netstate.Rule
		for i := range cp.Rules {
			if r := &cp.Rules[i]; r.Family == f && ours(r.Protocol) {
				own = append(own, r)
			}
		}
		return apartSpans(shapes(own))
	})
	undoNft(&p, &s, cp.Nft, have.Nft)
	undoAccepts(&p, &s, cp.Accepts, have.Forward)
	for i := range cp.Restored {
		setSysctl(&s, stageSysctls, &cp.Restored[i], sysctls, away, Op{})
	}
	for i := range cp.Sysctls {
		setSysctl(&s, stageRestore, &cp.Sysctls[i], sysctls, away, Op{})
	}
	for i := range s {
		for j := range s[i] {
			switch op := &s[i][j]; {
			case strings.HasPrefix(op.Reason, gateReason):
			case op.Verb == netstate.Delete:
				op.Reason = "was not there before"
			default:
				op.Reason = "as it was before"
			}
		}
	}
	p.Ops = s.list()
	return p
}

// Makes says whether an undo may have to make the link of a sysctl first. One of
// any other link that is gone needs no putting back.
func (cp *Checkpoint) Makes(sysctl string) bool {
	link := sysctlLink(sysctl)
	return slices.ContainsFunc(cp.Links, func(l netstate.Link) bool { return l.Name == link })
}
