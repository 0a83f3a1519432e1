package apply

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/viarule/viarule/internal/desired"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/netstate/netstatetest"
	"github.com/viarule/viarule/internal/plan"
	"github.com/viarule/viarule/internal/spec"
)

// ops reads a plan: a change a line, `--` between two stages.
func ops(t testing.TB, text string) plan.Plan {
	t.Helper()
	var p plan.Plan
	object := &spec.Object{Ref: spec.Ref{Kind: spec.KindRoutingPolicy, Name: "uplinks"}, File: "uplinks.yaml"}
	stage := 1
	for i, line := range strings.Split(strings.TrimSpace(text), "\n") {
		if line = strings.TrimSpace(line); line == "--" {
			stage++
			continue
		}
		p.Ops = append(p.Ops, plan.Op{Change: netstatetest.ParseChange(t, line), Stage: stage,
			Origin: desired.Origin{Object: object, Pos: spec.Pos{Line: int32(10 + i), Col: 3}}})
	}
	return p
}

const (
	before = `rule 0 from all table local proto kernel
rule 2200 from 10.9.0.0/16 table 5000 proto viarule
rule 32766 from all table main proto kernel
route default via 192.0.2.1 dev eth0 table main proto dhcp
route default via 192.0.2.1 dev eth0 table 5000 proto viarule
`
	change = `+ route 10.0.0.0/8 via 192.0.2.2 dev eth1 table 5007 proto viarule
~ route default via 192.0.2.2 dev eth1 table 5000 proto viarule
--
+ rule 2210 from 10.1.0.0/16 table 5007 proto viarule
+ rule 2211 from 10.2.0.0/16 table 5007 proto viarule
--
~ sysctl net/ipv4/conf/eth1/rp_filter = 2
--
- rule 2200 from 10.9.0.0/16 table 5000 proto viarule
`
)

func start(t testing.TB) *memory {
	return &memory{state: netstatetest.ParseState(t, before), sysctls: map[string]string{"net/ipv4/conf/eth1/rp_filter": "1"}}
}

// checkpoint is what a plan that touches everything of ours goes back to.
func checkpoint(m *memory) plan.Checkpoint {
	var cp plan.Checkpoint
	for _, r := range m.state.Rules {
		if r.Protocol == netstate.ProtocolObject {
			cp.Rules = append(cp.Rules, r)
		}
	}
	for _, r := range m.state.Routes {
		if r.Protocol == netstate.ProtocolObject {
			cp.Routes = append(cp.Routes, r)
		}
	}
	for k, v := range m.sysctls {
		cp.Sysctls = append(cp.Sysctls, netstate.Sysctl{Key: k, Value: v})
	}
	return cp
}

func clean(context.Context, netstate.State) (plan.Plan, error) { return plan.Plan{}, nil }

// unchanged fails unless m is as start made it.
func unchanged(t *testing.T, m *memory) {
	t.Helper()
	netstate.SortRoutes(m.state.Routes)
	want := netstatetest.ParseState(t, before)
	netstate.SortRoutes(want.Routes)
	if got := m.state.String(); got != want.String() {
		t.Errorf("the state is\n%s\nwant\n%s", got, want.String())
	}
	if v := m.sysctls["net/ipv4/conf/eth1/rp_filter"]; v != "1" {
		t.Errorf("rp_filter is %s", v)
	}
}

func TestRunSendsStageByStage(t *testing.T) {
	m := start(t)
	p := ops(t, change)
	var steps []string
	r, err := Run(t.Context(), m, p, Options{Checkpoint: fixed(checkpoint(m)), Verify: clean, Progress: func(p Progress) {
		steps = append(steps, fmt.Sprintf("%v %d/%d", p.Phase, p.Done, p.Total))
	}})
	if err != nil {
		t.Fatal(err)
	}
	if r.Ops != 6 || r.Done != 6 || r.Failed != 0 || r.Skipped != 0 || r.Undone || r.UndoOps != 0 {
		t.Errorf("report %+v", r)
	}
	want := strings.Split(strings.TrimSuffix(strings.ReplaceAll(change, "viarule", "118"), "\n"), "--\n")
	if got := strings.Join(m.calls, "--\n"); got != strings.Join(want, "--\n")+"\n" {
		t.Errorf("calls\n%s\nwant\n%s", got, strings.Join(want, "--\n"))
	}
	if got, want := strings.Join(steps, ", "), "apply 0/6, apply 2/6, apply 4/6, apply 5/6, apply 6/6, verify 0/0"; got != want {
		t.Errorf("progress %s, want %s", got, want)
	}
}

func TestRunEmptyPlanDoesNothing(t *testing.T) {
	f := &faulty{Kernel: start(t)}
	r, err := Run(t.Context(), f, plan.Plan{}, Options{Verify: clean})
	if err != nil || f.snapshots != 0 || f.seen != 0 || r.Ops != 0 {
		t.Errorf("%v, %d snapshots, %d writes", err, f.snapshots, f.seen)
	}
}

func TestRunCutsLongStages(t *testing.T) {
	m := &memory{}
	var p plan.Plan
	for i := range 2*chunk + 5 {
		r := netstate.Rule{Family: netstate.IPv4, Priority: 2200, Action: netstate.ToTable, Table: uint32(i + 1), Protocol: netstate.ProtocolObject}
		p.Ops = append(p.Ops, plan.Op{Change: netstate.Change{Verb: netstate.Add, Rule: &r}, Stage: 1})
	}
	r, err := Run(t.Context(), m, p, Options{Verify: clean})
	if err != nil || r.Done != len(p.Ops) || len(m.calls) != 3 || len(m.state.Rules) != len(p.Ops) {
		t.Errorf("%v, %d done in %d calls, %d rules", err, r.Done, len(m.calls), len(m.state.Rules))
	}
}

func TestOpErrorText(t *testing.T) {
	tests := []struct {
		at   int
		want string
	}{
		{0, `add route 10.0.0.0/8 via 192.0.2.2 dev eth1 table 5007 proto 118: invalid argument ` +
			`(kernel: "Nexthop has invalid gateway"); asked for by RoutingPolicy/uplinks (uplinks.yaml:10); ` +
			`5 dependent operations skipped; everything is as before`},
		{3, `add rule 2211 from 10.2.0.0/16 table 5007 proto 118: invalid argument ` +
			`(kernel: "Nexthop has invalid gateway"); asked for by RoutingPolicy/uplinks (uplinks.yaml:14); ` +
			`2 dependent operations skipped; everything is as before`},
		{4, `set sysctl net/ipv4/conf/eth1/rp_filter = 2: invalid argument ` +
			`(kernel: "Nexthop has invalid gateway"); asked for by RoutingPolicy/uplinks (uplinks.yaml:16); ` +
			`1 dependent rule skipped; everything is as before`},
		{5, `delete rule 2200 from 10.9.0.0/16 table 5000 proto 118: invalid argument ` +
			`(kernel: "Nexthop has invalid gateway"); asked for by RoutingPolicy/uplinks (uplinks.yaml:18); everything is as before`},
	}
	for _, tt := range tests {
		m := start(t)
		_, err := Run(t.Context(), &faulty{Kernel: m, fail: failOnce(tt.at)}, ops(t, change), Options{Checkpoint: fixed(checkpoint(m)), Verify: clean})
		if err == nil || err.Error() != tt.want {
			t.Errorf("operation %d:\n%v\nwant\n%s", tt.at, err, tt.want)
		}
		var op *OpError
		if !errors.As(err, &op) || !errors.Is(err, errRefused) || op.Origin.Object == nil || op.Origin.Pos.Line == 0 {
			t.Errorf("operation %d: %#v", tt.at, op)
		}
	}
}

func TestRunUndoesEveryFailure(t *testing.T) {
	for _, together := range []bool{false, true} {
		for at := range 6 {
			t.Run(fmt.Sprint("operation ", at, " together ", together), func(t *testing.T) {
				m := start(t)
				r, err := Run(t.Context(), &faulty{Kernel: m, fail: failOnce(at), together: together}, ops(t, change), Options{Checkpoint: fixed(checkpoint(m)), Verify: clean})
				if err == nil || !r.Undone {
					t.Fatalf("%v, %+v", err, r)
				}
				if r.Done+r.Failed+r.Skipped != r.Ops || r.Failed != 1 {
					t.Errorf("report %+v", r)
				}
				unchanged(t, m)
			})
		}
	}
}

func TestRunCountsSeveralRefusals(t *testing.T) {
	m := start(t)
	f := &faulty{Kernel: m, together: true, fail: func(i int, _ *netstate.Change) error {
		if i < 2 {
			return errRefused
		}
		return nil
	}}
	r, err := Run(t.Context(), f, ops(t, change), Options{Checkpoint: fixed(checkpoint(m)), Verify: clean})
	if err == nil || !strings.Contains(err.Error(), "; 1 more refused; 4 dependent operations skipped") || r.Failed != 2 || r.Skipped != 4 {
		t.Errorf("%v, %+v", err, r)
	}
}

func TestRunStopsWhenItsContextEnds(t *testing.T) {
	for at := range 7 {
		t.Run(fmt.Sprint("before operation ", at), func(t *testing.T) {
			m := start(t)
			ctx, cancel := context.WithCancelCause(t.Context())
			sigint := errors.New("interrupted")
			f := &faulty{Kernel: m, before: map[int]func(){at: func() { cancel(sigint) }}}
			if at == 6 {
				cancel(sigint) // before it began
			}
			r, err := Run(ctx, f, ops(t, change), Options{Checkpoint: fixed(checkpoint(m)), Verify: clean})
			if !errors.Is(err, sigint) || !r.Undone || r.Done+r.Skipped != r.Ops {
				t.Fatalf("%v, %+v", err, r)
			}
			if at == 6 && f.seen != 0 {
				t.Errorf("%d writes", f.seen)
			}
			unchanged(t, m)
		})
	}
}

func TestRunTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := start(t)
		sleep := func() { time.Sleep(2 * time.Second) } // of the bubble's clock
		f := &faulty{Kernel: m, before: map[int]func(){3: sleep}}
		r, err := Run(t.Context(), f, ops(t, change), Options{Checkpoint: fixed(checkpoint(m)), Verify: clean, Timeout: time.Second})
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "not done after 1s") || !r.Undone {
			t.Errorf("%v, %+v", err, r)
		}
		if r.ApplyTime != 2*time.Second {
			t.Errorf("apply time %v", r.ApplyTime)
		}
		unchanged(t, m)
	})
}

func TestRunUndoesWhatDoesNotVerify(t *testing.T) {
	m := start(t)
	p := ops(t, change)
	verify := func(_ context.Context, s netstate.State) (plan.Plan, error) {
		return plan.Plan{Ops: p.Ops[:1], Conflicts: []plan.Finding{{What: "somebody else has it"}}}, nil
	}
	r, err := Run(t.Context(), m, p, Options{Checkpoint: fixed(checkpoint(m)), Verify: verify})
	var diff *DiffError
	if !errors.As(err, &diff) || len(diff.Rest.Ops) != 1 || !r.Undone || r.Done != 6 {
		t.Fatalf("%v, %+v", err, r)
	}
	for _, want := range []string{"still to do: + route 10.0.0.0/8", "somebody else has it", "everything is as before"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nwant %q in it", err, want)
		}
	}
	unchanged(t, m)
}

func TestRunWithoutAnAnswerFromVerify(t *testing.T) {
	m := start(t)
	verify := func(context.Context, netstate.State) (plan.Plan, error) { return plan.Plan{}, errRefused }
	r, err := Run(t.Context(), m, ops(t, change), Options{Checkpoint: fixed(checkpoint(m)), Verify: verify})
	if !errors.Is(err, errRefused) || !r.Undone {
		t.Errorf("%v, %+v", err, r)
	}
	unchanged(t, m)
}

func TestRunLooksAgainAfterTornDumps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := start(t)
		f := &faulty{Kernel: m, torn: snapshotTries - 1}
		if _, err := Run(t.Context(), f, ops(t, change), Options{Checkpoint: fixed(checkpoint(m)), Verify: clean}); err != nil {
			t.Error(err)
		}
		// One more is too many: what cannot be verified is undone.
		m = start(t)
		f = &faulty{Kernel: m, torn: snapshotTries}
		r, err := Run(t.Context(), f, ops(t, change), Options{Checkpoint: fixed(checkpoint(m)), Verify: clean})
		if !errors.Is(err, errTorn) || !r.Undone {
			t.Errorf("%v, %+v", err, r)
		}
		unchanged(t, m)
		// And when nothing can be seen at all, that is said.
		m = start(t)
		f = &faulty{Kernel: m, torn: 1000}
		r, err = Run(t.Context(), f, ops(t, change), Options{Checkpoint: fixed(checkpoint(m)), Verify: clean})
		var undo *UndoError
		if !errors.As(err, &undo) || r.Undone || !strings.Contains(err.Error(), "the undo failed too: look at the kernel") {
			t.Errorf("%v, %+v", err, r)
		}
	})
}

func TestUndoGoesOnBehindAFailure(t *testing.T) {
	m := start(t)
	// Everything about eth0 fails once the plan has failed: the link is gone.
	gone := false
	f := &faulty{Kernel: m, fail: func(i int, c *netstate.Change) error {
		if i == 5 {
			gone = true
			return errRefused
		}
		if gone && c.Route != nil && c.Route.Hop.Dev == "eth0" {
			return faultError("no such device")
		}
		return nil
	}}
	r, err := Run(t.Context(), f, ops(t, change), Options{Checkpoint: fixed(checkpoint(m)), Verify: clean})
	var undo *UndoError
	if !errors.As(err, &undo) || r.Undone {
		t.Fatalf("%v, %+v", err, r)
	}
	for _, want := range []string{"invalid argument", "the undo failed too", "no such device", "still to undo", "via 192.0.2.1 dev eth0 table 5000"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nwant %q in it", err, want)
		}
	}
	if len(undo.Rest.Ops) != 1 {
		t.Errorf("left: %v", undo.Rest.Ops)
	}
	if v := m.sysctls["net/ipv4/conf/eth1/rp_filter"]; v != "1" {
		t.Errorf("rp_filter is %s", v)
	}
}

func TestUndoTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := start(t)
		sleep := func() { time.Sleep(time.Second) }
		f := &faulty{Kernel: m, fail: failOnce(4), before: map[int]func(){5: sleep, 6: sleep, 7: sleep}}
		r, err := Run(t.Context(), f, ops(t, change), Options{Checkpoint: fixed(checkpoint(m)), Verify: clean, UndoTimeout: 500 * time.Millisecond})
		var undo *UndoError
		if !errors.As(err, &undo) || !errors.Is(undo, context.DeadlineExceeded) || r.Undone {
			t.Errorf("%v, %+v", err, r)
		}
	})
}

func TestUndoAlone(t *testing.T) {
	m := start(t)
	cp := checkpoint(m)
	if _, err := Run(t.Context(), m, ops(t, change), Options{Checkpoint: fixed(cp), Verify: clean}); err != nil {
		t.Fatal(err)
	}
	r, err := Undo(t.Context(), m, cp, Options{})
	if err != nil || !r.Undone || r.UndoOps == 0 {
		t.Errorf("%v, %+v", err, r)
	}
	unchanged(t, m)
	r, err = Undo(t.Context(), m, cp, Options{})
	if err != nil || !r.Undone || r.UndoOps != 0 {
		t.Errorf("again: %v, %+v", err, r)
	}
}

// fixed gives a checkpoint that was taken before.
func fixed(cp plan.Checkpoint) func() plan.Checkpoint {
	return func() plan.Checkpoint { return cp }
}
