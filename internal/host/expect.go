package host

import (
	"context"
	"fmt"
	"strings"

	"github.com/viarule/viarule/internal/explain"
	"github.com/viarule/viarule/internal/spec"
)

// Expected is one expectation of an object, and whether it holds.
type Expected struct {
	Object spec.Ref `json:"object"`
	Name   string   `json:"name"`
	File   string   `json:"file"`
	Line   int32    `json:"line"`
	Holds  bool     `json:"holds"`
	Why    string   `json:"why,omitempty"` // where it does not
}

// String gives it in a line.
func (e Expected) String() string {
	if e.Holds {
		return fmt.Sprintf("%s:%d: %s: expectation %s holds", e.File, e.Line, e.Object, e.Name)
	}
	return fmt.Sprintf("%s:%d: %s: expectation %s does not hold: %s", e.File, e.Line, e.Object, e.Name, e.Why)
}

// Expectations checks the expectations of objects against the namespace as it is; of
// the applied ones where there are none. It changes nothing.
func (h *Host) Expectations(ctx context.Context, objects []spec.Object) ([]Expected, error) {
	if problems := Validate(objects); spec.Failed(problems) {
		return nil, &InputError{Problems: problems}
	}
	if len(objects) == 0 {
		list, err := h.records.List()
		if err != nil {
			return nil, err
		}
		for i := range list {
			o, err := parseRecord(&list[i])
			if err != nil {
				return nil, err
			}
			objects = append(objects, o)
		}
	}
	s, err := h.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	return expectations(explain.New(s), objects), nil
}

func expectations(e *explain.Explainer, objects []spec.Object) []Expected {
	out := []Expected{}
	for i := range objects {
		o := &objects[i]
		for j := range o.Expect {
			x := &o.Expect[j]
			why := e.Expect(x)
			out = append(out, Expected{Object: o.Ref, Name: x.Name, File: o.File, Line: x.Pos.Line, Holds: why == "", Why: why})
		}
	}
	return out
}

// ExpectationError says that something would become of a packet that an object does
// not expect. Nothing was changed.
type ExpectationError struct{ Failed []Expected }

// Error lists them, a line each.
func (e *ExpectationError) Error() string {
	lines := make([]string, len(e.Failed))
	for i := range e.Failed {
		lines[i] = e.Failed[i].String()
	}
	return "nothing was changed, since this would not do what is expected:\n  " + strings.Join(lines, "\n  ") + "\nmend the object, or its spec.expect"
}

// broken gives the expectations that the draft would not meet: those of the objects
// that it puts, and those of others that hold now and would not any more.
func (h *Host) broken(ctx context.Context, d *draft) ([]Expected, error) {
	any := false
	for i := range d.objects {
		any = any || len(d.objects[i].Expect) > 0
	}
	if !any {
		return nil, nil
	}
	before, after, err := h.both(ctx, d)
	if err != nil {
		return nil, err
	}
	held := map[Expected]bool{}
	now := explain.New(before)
	for _, x := range expectations(now, d.objects) {
		held[Expected{Object: x.Object, Name: x.Name}] = x.Holds
	}
	put := map[spec.Ref]bool{}
	for i := range d.change.put {
		put[d.change.put[i].Ref] = true
	}
	var out []Expected
	for _, x := range expectations(explain.New(after), d.objects) {
		if !x.Holds && (put[x.Object] || held[Expected{Object: x.Object, Name: x.Name}]) {
			out = append(out, x)
		}
	}
	return out, nil
}
