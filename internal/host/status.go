package host

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/viarule/viarule/internal/guard"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/plan"
	"github.com/viarule/viarule/internal/spec"
)

// How an object is.
const (
	Applied  = "applied"
	Drifted  = "drifted"  // the kernel differs from what it wants
	Conflict = "conflict" // a foreign object stands in the way
	Broken   = "broken"   // the host cannot hold it any more
)

// Status is how the applied objects of a namespace are.
type Status struct {
	Objects []ObjectStatus `json:"objects"`
	// Leftovers are what an unfinished change left behind; the next apply
	// removes them. Orphans bear viarule's mark and belong to no object.
	Leftovers []string       `json:"leftovers"`
	Orphans   []string       `json:"orphans"`
	Pending   *PendingStatus `json:"pending,omitempty"`
}

// ObjectStatus is how one applied object is.
type ObjectStatus struct {
	Object  spec.Ref `json:"object"`
	File    string   `json:"file"`
	State   string   `json:"state"`
	Summary string   `json:"summary"`
	Details []string `json:"details"` // what differs, what is in the way; a line each
	Listing []string `json:"listing"` // its rules, as the user wrote them
}

// PendingStatus is an apply that waits for its confirmation.
type PendingStatus struct {
	Left  time.Duration `json:"leftNanoseconds"`
	By    string        `json:"by"`
	State guard.State   `json:"state"`           // armed: it did not come to its end
	Error string        `json:"error,omitempty"` // why the last try to undo it failed
}

// Clean says whether everything is as it should be.
func (s *Status) Clean() bool {
	for i := range s.Objects {
		if s.Objects[i].State != Applied {
			return false
		}
	}
	return len(s.Leftovers) == 0 && len(s.Orphans) == 0
}

// Status compares each applied object with the kernel. It changes nothing.
func (h *Host) Status(ctx context.Context) (*Status, error) {
	d, err := h.draft(ctx, change{}, startWatch())
	if err != nil {
		return nil, err
	}
	s := &Status{Objects: []ObjectStatus{}, Leftovers: []string{}, Orphans: []string{}}
	if s.Pending, err = h.pending(); err != nil {
		return nil, err
	}
	names := d.names()
	for i := range d.before.records {
		s.Objects = append(s.Objects, d.status(d.before.records[i].Ref, names))
	}
	for i := range d.plan.Ops {
		if op := &d.plan.Ops[i]; op.Origin.Object == nil {
			s.Leftovers = append(s.Leftovers, drift(op, names))
		}
	}
	for i := range d.plan.Orphans {
		s.Orphans = append(s.Orphans, object(&d.plan.Orphans[i], names))
	}
	return s, nil
}

func (h *Host) pending() (*PendingStatus, error) {
	p, err := guard.Find(h.records)
	if err != nil || p == nil {
		return nil, err
	}
	left, err := p.Left()
	if err != nil {
		return nil, err
	}
	return &PendingStatus{Left: max(0, left).Round(time.Second), By: p.Starter().String(), State: p.State(), Error: p.Error()}, nil
}

// status says how one object is.
func (d *draft) status(ref spec.Ref, names Names) ObjectStatus {
	out := ObjectStatus{Object: ref, State: Applied, Details: []string{}, Listing: []string{}}
	for i := range d.before.records {
		if r := &d.before.records[i]; r.Ref == ref {
			out.File = r.File
		}
	}
	for _, w := range d.warnings {
		if w.Object == ref && slices.Contains(d.kept, ref) {
			out.State, out.Summary = Broken, "the host cannot hold it any more; what stands of it was left alone"
			out.Details = append(out.Details, w.String())
		}
	}
	if out.State == Broken {
		return out
	}
	rules, routes := 0, 0
	for i := range d.input.Want.Listed {
		if r := &d.input.Want.Listed[i]; r.Origin.Object.Ref == ref {
			rules++
			out.Listing = append(out.Listing, r.Format(names))
		}
	}
	for i := range d.input.Want.Routes {
		if r := &d.input.Want.Routes[i]; r.Origin.Object.Ref == ref {
			routes++
		}
	}
	out.Summary = fmt.Sprintf("%s, %s", count(rules, "rule"), count(routes, "route"))
	for i := range d.plan.Ops {
		op := &d.plan.Ops[i]
		if op.Origin.Object == nil || op.Origin.Object.Ref != ref {
			continue
		}
		out.State = Drifted
		out.Details = append(out.Details, drift(op, names))
	}
	for i := range d.plan.Conflicts {
		if f := &d.plan.Conflicts[i]; f.Origin.Object != nil && f.Origin.Object.Ref == ref {
			out.State = Conflict
			out.Details = append(out.Details, f.What+": "+object(f, names))
		}
	}
	for i := range d.plan.Satisfied {
		if f := &d.plan.Satisfied[i]; f.Origin.Object != nil && f.Origin.Object.Ref == ref {
			out.Details = append(out.Details, "satisfied: "+object(f, names))
		}
	}
	return out
}

// drift says what an op would repair.
func drift(op *plan.Op, names Names) string {
	switch {
	case op.Rule != nil:
		return word(op.Verb) + op.Rule.Format(names)
	case op.Route != nil:
		return word(op.Verb) + op.Route.Format(names)
	}
	return "differs: " + op.Change.String()
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func word(v netstate.Verb) string {
	switch v {
	case netstate.Add:
		return "missing: "
	case netstate.Delete:
		return "too much: "
	}
	return "differs: "
}
