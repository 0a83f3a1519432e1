package plan

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/viarule/viarule/internal/desired"
	"github.com/viarule/viarule/internal/netstate"
)

// Checkpoint is what a plan may change, as it was before: every rule and route
// that is ours by mark, every foreign one that the plan takes over, and the old
// values of its sysctls. Undo leads back to it from wherever the plan stopped.
type Checkpoint struct {
	Rules   []netstate.Rule // in the kernel's order
	Routes  []netstate.Route
	Sysctls []netstate.Sysctl
}

// Checkpoint says how to get back to have, which is the state that the plan was
// made for, with the values of the sysctls at that time.
func (p *Plan) Checkpoint(have netstate.State, sysctls map[string]string) Checkpoint {
	takenRules := make(map[netstate.Rule]int)
	takenRoutes := make(map[netstate.RouteKey]bool)
	var cp Checkpoint
	for i := range p.Ops {
		op := &p.Ops[i]
		switch {
		case op.Rule != nil && op.Verb == netstate.Delete && !ours(op.Rule.Protocol):
			takenRules[*op.Rule]++
		case op.BeforeRoute != nil && !ours(op.BeforeRoute.Protocol):
			takenRoutes[op.BeforeRoute.Key()] = true
		case op.Sysctl != nil:
			if v, ok := sysctls[op.Sysctl.Key]; ok {
				cp.Sysctls = append(cp.Sysctls, netstate.Sysctl{Key: op.Sysctl.Key, Value: v})
			}
		}
	}
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
	routes := make([]desired.Route, len(cp.Routes))
	for i := range cp.Routes {
		routes[i].Route = cp.Routes[i]
	}
	diffRoutes(&p, &s, routes, have.Routes, false, func(*netstate.Route) bool { return true })

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
	for i := range cp.Sysctls {
		v := &cp.Sysctls[i]
		if now, ok := sysctls[v.Key]; !ok || now != v.Value {
			op := Op{Change: netstate.Change{Verb: netstate.Replace, Sysctl: v}, Reason: "as it was before"}
			if ok {
				op.BeforeSysctl = &netstate.Sysctl{Key: v.Key, Value: now}
			}
			s.add(stageSysctls, op)
		}
	}
	p.Ops = s.list()
	return p
}

// The first and the last line of a checkpoint's text. Undo removes what a
// checkpoint does not name, so one that was cut short must not be read.
const (
	checkpointHead = "checkpoint 1"
	checkpointTail = "end"
)

// MarshalText writes the checkpoint, an object a line in netstate's text form,
// between a first and a last line.
func (cp Checkpoint) MarshalText() ([]byte, error) {
	b := []byte(checkpointHead + "\n")
	for _, v := range cp.Sysctls {
		b, _ = v.AppendText(b)
		b = append(b, '\n')
	}
	b, _ = netstate.State{Rules: cp.Rules, Routes: cp.Routes}.AppendText(b)
	return append(b, checkpointTail+"\n"...), nil
}

// UnmarshalText reads what MarshalText writes. Text that is not whole is refused.
func (cp *Checkpoint) UnmarshalText(text []byte) error {
	body, ok := bytes.CutPrefix(text, []byte(checkpointHead+"\n"))
	if !ok {
		return errors.New("read a checkpoint: it does not begin with `" + checkpointHead + "`")
	}
	body, ok = bytes.CutSuffix(body, []byte(checkpointTail+"\n"))
	if !ok || len(body) > 0 && body[len(body)-1] != '\n' {
		return errors.New("read a checkpoint: it does not end with `" + checkpointTail + "`: it was not written to its end")
	}
	var c Checkpoint
	for bytes.HasPrefix(body, []byte("sysctl ")) {
		line, rest, _ := bytes.Cut(body, []byte("\n"))
		v, err := netstate.ParseSysctl(string(line))
		if err != nil {
			return fmt.Errorf("read a checkpoint: %w", err)
		}
		c.Sysctls, body = append(c.Sysctls, v), rest
	}
	s, err := netstate.ParseState(string(body))
	if err != nil {
		return fmt.Errorf("read a checkpoint: %w", err)
	}
	if len(s.Links)+len(s.Addrs)+len(s.Nexthops) > 0 {
		return errors.New("read a checkpoint: it names objects other than rules, routes and sysctls")
	}
	c.Rules, c.Routes = s.Rules, s.Routes
	*cp = c
	return nil
}
