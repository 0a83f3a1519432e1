package plan

import (
	"encoding/json"
	"fmt"

	"github.com/viarule/viarule/internal/desired"
	"github.com/viarule/viarule/internal/netstate"
)

// The JSON form of a plan. These names are stable: fields may be added, none is
// renamed or removed. Objects are in netstate's text form, with numbers for the
// tables and protocols.
type (
	jsonPlan struct {
		Ops       []jsonOp      `json:"ops"`
		Trees     []jsonTree    `json:"trees"`
		Satisfied []jsonFinding `json:"satisfied"`
		Conflicts []jsonFinding `json:"conflicts"`
		Blocked   []jsonFinding `json:"blocked"`
		Orphans   []jsonFinding `json:"orphans"`
		Counts    jsonCounts    `json:"counts"`
	}
	jsonOp struct {
		Verb     string      `json:"verb"` // add, replace, delete
		Kind     string      `json:"kind"` // rule, route, nexthop, sysctl, link, nft, accept
		Object   string      `json:"object"`
		Before   string      `json:"before,omitempty"` // what a replace overwrites
		Reason   string      `json:"reason"`
		Stage    int         `json:"stage"` // ops of one stage may be sent together
		Compiled bool        `json:"compiled,omitempty"`
		Origin   *jsonOrigin `json:"origin,omitempty"`
		// Origins are all objects that ask for it, where there may be several (nft).
		Origins []*jsonOrigin `json:"origins,omitempty"`
		// Lines are the lines of an nft table that differ.
		Lines []jsonLine `json:"lines,omitempty"`
	}
	jsonLine struct {
		Verb  string `json:"verb"`
		Where string `json:"where"` // the map or chain
		Text  string `json:"text,omitempty"`
	}
	jsonTree struct {
		Family     string   `json:"family"` // IPv4, IPv6
		Gate       uint32   `json:"gate"`
		End        uint32   `json:"end"`
		Rules      int      `json:"rules"`
		Operations int      `json:"operations"`
		Add        []string `json:"add"`
		Remove     []string `json:"remove"`
	}
	jsonFinding struct {
		Kind   string      `json:"kind"`
		Object string      `json:"object"`
		What   string      `json:"what"`
		Origin *jsonOrigin `json:"origin,omitempty"`
	}
	jsonOrigin struct {
		Kind string `json:"kind"`
		Name string `json:"name"`
		File string `json:"file,omitempty"`
		Line int32  `json:"line,omitempty"`
	}
	jsonCounts struct {
		Add    int `json:"add"` // as in Summary
		Change int `json:"change"`
		Remove int `json:"remove"`
	}
)

// MarshalJSON writes the plan with stable field names: ops in order, trees,
// satisfied, conflicts, blocked, orphans and counts. Lists are never null.
func (p Plan) MarshalJSON() ([]byte, error) {
	out := jsonPlan{
		Ops:       make([]jsonOp, len(p.Ops)),
		Trees:     make([]jsonTree, len(p.Trees())),
		Satisfied: jsonFindings(p.Satisfied),
		Conflicts: jsonFindings(p.Conflicts),
		Blocked:   jsonFindings(p.Blocked),
		Orphans:   jsonFindings(p.Orphans),
	}
	for i := range p.Ops {
		op := &p.Ops[i]
		j := &out.Ops[i]
		*j = jsonOp{Reason: op.Reason, Stage: op.Stage, Compiled: op.Compiled, Origin: jsonOriginOf(op.Origin)}
		j.Verb = verbs[op.shown()]
		switch {
		case op.Rule != nil:
			j.Kind, j.Object = "rule", op.Rule.String()
		case op.Route != nil:
			j.Kind, j.Object = "route", op.Route.String()
			if op.Verb == netstate.Replace && op.BeforeRoute != nil {
				j.Before = op.BeforeRoute.String()
			}
		case op.Nexthop != nil:
			j.Kind, j.Object = "nexthop", op.Nexthop.String()
		case op.Sysctl != nil:
			j.Kind, j.Object = "sysctl", op.Sysctl.String()
			if op.BeforeSysctl != nil {
				j.Before = op.BeforeSysctl.String()
			}
		case op.Link != nil:
			j.Kind, j.Object = "link", LinkText(op.Link, nil)
			if op.Verb == netstate.Replace && op.BeforeLink != nil {
				j.Before = LinkText(op.BeforeLink, nil)
			}
		case op.Nft != nil:
			j.Kind, j.Object = "nft", "table inet "+op.Nft.Name
			for _, l := range op.NftLines() {
				j.Lines = append(j.Lines, jsonLine{verbs[l.Verb], l.Where, l.Text})
			}
			for _, o := range op.Origins {
				j.Origins = append(j.Origins, jsonOriginOf(o))
			}
		case op.Accept != nil:
			j.Kind, j.Object = "accept", op.Accept.String()
		default:
			return nil, fmt.Errorf("write a plan as JSON: op %d has no object", i)
		}
	}
	for i := range p.Trees() {
		c := &p.trees[i]
		j := jsonTree{Family: c.Family.String(), Gate: c.Gate, End: c.End, Rules: c.Rules, Operations: p.treeOps(c),
			Add: make([]string, len(c.Add)), Remove: make([]string, len(c.Remove))}
		for k := range c.Add {
			j.Add[k] = c.Add[k].Rule.String()
		}
		for k := range c.Remove {
			j.Remove[k] = c.Remove[k].String()
		}
		out.Trees[i] = j
	}
	out.Counts.Add, out.Counts.Change, out.Counts.Remove = p.counts()
	return json.Marshal(out)
}

var verbs = map[netstate.Verb]string{netstate.Add: "add", netstate.Replace: "replace", netstate.Delete: "delete"}

func jsonFindings(list []Finding) []jsonFinding {
	out := make([]jsonFinding, len(list))
	for i := range list {
		f := &list[i]
		j := jsonFinding{What: f.What, Origin: jsonOriginOf(f.Origin)}
		switch {
		case f.Rule != nil:
			j.Kind, j.Object = "rule", f.Rule.String()
		case f.Link != nil:
			j.Kind, j.Object = "link", LinkText(f.Link, nil)
		case f.Nft != nil:
			j.Kind, j.Object = "nft", "table inet "+f.Nft.Name
		case f.Accept != nil:
			j.Kind, j.Object = "accept", f.Accept.String()
		case f.Route == nil:
			j.Kind, j.Object = "foreign", f.Text
		default:
			j.Kind, j.Object = "route", f.Route.String()
		}
		out[i] = j
	}
	return out
}

func jsonOriginOf(o desired.Origin) *jsonOrigin {
	if o.Object == nil {
		return nil
	}
	return &jsonOrigin{Kind: o.Object.Kind, Name: o.Object.Name, File: o.Object.File, Line: o.Pos.Line}
}
