package plan

import (
	"encoding/json"
	"io"
	"testing"

	"pgregory.net/rapid"

	"github.com/viarule/viarule/internal/desired"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/netstate/netstatetest"
)

// anyInput draws what no kernel and no user would give: objects in any order, of
// any protocol, wanted twice, trees where there are none.
func anyInput(t *rapid.T) Input {
	var in Input
	in.Have = netstatetest.State().Draw(t, "have")
	for i := range in.Have.Rules {
		if rapid.Bool().Draw(t, "ours") {
			in.Have.Rules[i].Protocol = netstate.ProtocolObject
		}
	}
	for i := range in.Have.Routes {
		if rapid.Bool().Draw(t, "ours") {
			in.Have.Routes[i].Protocol = netstate.ProtocolObject
		}
	}
	in.Recorded = Recorded{Rules: map[netstate.Rule]bool{}, Routes: map[netstate.RouteKey]bool{}}
	claim := func() bool { return rapid.Bool().Draw(t, "recorded") }
	rule := func(r netstate.Rule) {
		r.Protocol = netstate.ProtocolObject
		in.Want.Rules = append(in.Want.Rules, desired.Rule{Rule: r})
	}
	route := func(r netstate.Route) {
		r.Protocol = netstate.ProtocolObject
		in.Want.Routes = append(in.Want.Routes, desired.Route{Route: r})
	}
	for _, r := range in.Have.Rules {
		in.Recorded.Rules[r] = claim()
		if rapid.Bool().Draw(t, "wanted") {
			rule(r)
		}
	}
	for _, r := range in.Have.Routes {
		in.Recorded.Routes[r.Key()] = claim()
		if rapid.Bool().Draw(t, "wanted") {
			route(r)
		}
	}
	for range rapid.IntRange(0, 4).Draw(t, "more rules") {
		rule(netstatetest.Rule(netstatetest.RuleOptions{}).Draw(t, "rule"))
	}
	for range rapid.IntRange(0, 4).Draw(t, "more routes") {
		route(netstatetest.Route().Draw(t, "route"))
	}
	for range rapid.IntRange(0, 2).Draw(t, "trees") {
		in.Want.Trees = append(in.Want.Trees, desired.Tree{Family: netstatetest.Family().Draw(t, "family"),
			Gate: netstatetest.Priority().Draw(t, "gate"), End: netstatetest.Priority().Draw(t, "end")})
	}
	in.Adopt, in.Prune = rapid.Bool().Draw(t, "adopt"), rapid.Bool().Draw(t, "prune")
	return in
}

// checkAny wants of a plan for anything that it is written, that it is the same
// again, and that it keeps its hands off what is not ours.
func checkAny(t *rapid.T, in Input) {
	p := Diff(in)
	if again := Diff(in); show(&again) != show(&p) {
		t.Fatalf("another plan for the same input:\n%s\n%s", show(&p), show(&again))
	}
	for i := range p.Ops {
		op := &p.Ops[i]
		if i > 0 && op.Stage < p.Ops[i-1].Stage {
			t.Fatalf("op %d is of stage %d, after %d", i, op.Stage, p.Ops[i-1].Stage)
		}
		switch {
		case op.Rule != nil && reserved(op.Rule.Priority):
			t.Fatalf("%s changes a rule of the kernel", op.Change)
		case op.Rule != nil && !ours(op.Rule.Protocol) && !(in.Adopt && op.Verb == netstate.Delete):
			t.Fatalf("%s is not ours", op.Change)
		case op.BeforeRoute != nil && !ours(op.BeforeRoute.Protocol) && !(in.Adopt && op.Verb == netstate.Replace):
			t.Fatalf("%s takes away %s", op.Change, op.BeforeRoute)
		}
	}
	if err := p.WriteText(io.Discard, Style{Verbose: in.Adopt}); err != nil {
		t.Fatal(err)
	}
	if _, err := json.Marshal(p); err != nil {
		t.Fatal(err)
	}
	cp := p.Checkpoint(in.Have, nil)
	text, err := cp.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	var back Checkpoint
	if err := back.UnmarshalText(text); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	u, v := Undo(cp, in.Have, nil), Undo(back, in.Have, nil)
	if show(&u) != show(&v) {
		t.Fatalf("a checkpoint that was written and read gives another undo:\n%s\n%s", show(&u), show(&v))
	}
}

func TestAnyInput(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { checkAny(t, anyInput(t)) })
}

func FuzzDiff(f *testing.F) {
	f.Fuzz(rapid.MakeFuzz(func(t *rapid.T) { checkAny(t, anyInput(t)) }))
}

func FuzzCheckpoint(f *testing.F) {
	f.Add([]byte("checkpoint 1\nsysctl net/ipv4/ip_forward = 1\nrule 2200 from 10.1.0.0/16 table 5000 proto 118\nend\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		var cp Checkpoint
		if cp.UnmarshalText(text) != nil {
			return
		}
		again, err := cp.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		var back Checkpoint
		if err := back.UnmarshalText(again); err != nil {
			t.Fatalf("%v\n%s", err, again)
		}
		Undo(back, netstate.State{}, nil)
	})
}
