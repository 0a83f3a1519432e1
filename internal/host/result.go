package host

import (
	"fmt"
	"strings"
	"time"

	"github.com/viarule/viarule/internal/cutoff"
	"github.com/viarule/viarule/internal/desired"
	"github.com/viarule/viarule/internal/impact"
	"github.com/viarule/viarule/internal/plan"
	"github.com/viarule/viarule/internal/spec"
)

// Preview is a plan with what a person should know about it.
type Preview struct {
	Plan     plan.Plan      `json:"plan"`
	Warnings []spec.Problem `json:"warnings"`
	Notes    []string       `json:"notes"`
	Impact   *impact.Report `json:"impact,omitempty"` // where it was asked for
	Names    Names          `json:"-"`
}

// Result is what a change did.
type Result struct {
	Plan          *plan.Plan     `json:"plan,omitempty"`
	Warnings      []spec.Problem `json:"warnings,omitempty"`
	Messages      []string       `json:"messages,omitempty"`
	Phases        []Phase        `json:"phases,omitempty"`
	ConfirmWithin time.Duration  `json:"confirmWithinNanoseconds,omitempty"` // 0: nothing waits
	Names         Names          `json:"-"`
}

// Validation is the answer of validate.
type Validation struct {
	Valid    bool           `json:"valid"`
	Objects  []string       `json:"objects"`
	Problems []spec.Problem `json:"problems"`
}

// NewValidation says of objects what problems were found.
func NewValidation(objects []spec.Object, problems []spec.Problem) Validation {
	v := Validation{Valid: !spec.Failed(problems), Objects: []string{}, Problems: append([]spec.Problem{}, problems...)}
	for i := range objects {
		v.Objects = append(v.Objects, objects[i].Ref.String())
	}
	return v
}

// Names gives the names of tables and protocols as `ip` prints them, those that
// the plan is about to make included.
type Names struct {
	tables map[uint32]string
}

// Table returns the name of a table, or "".
func (n Names) Table(id uint32) string { return n.tables[id] }

func (d *draft) names() Names {
	n := Names{tables: map[uint32]string{}}
	for id, name := range d.before.names.ByID {
		n.tables[id] = name
	}
	for _, t := range d.input.Want.Tables {
		n.tables[t.ID] = t.Name
	}
	return n
}

func (h *Host) preview(d *draft) *Preview {
	p := &Preview{Plan: d.plan, Warnings: append([]spec.Problem{}, d.warnings...), Notes: []string{}, Names: d.names()}
	for _, n := range d.input.Want.Notes {
		p.Notes = append(p.Notes, n.Object.String()+": "+n.Text)
	}
	if len(d.input.Want.Notes) > 0 {
		p.Notes = append(p.Notes, foundHere(&d.before.facts)...)
	}
	return p
}

func (h *Host) result(d *draft) *Result {
	return &Result{Plan: &d.plan, Warnings: d.warnings, Names: d.names()}
}

// ConflictError says that foreign objects stand where wanted ones shall. Nothing
// was changed.
type ConflictError struct {
	Findings []plan.Finding
	Names    Names
}

// Error lists them, a line each.
func (e *ConflictError) Error() string {
	lines := make([]string, len(e.Findings))
	for i := range e.Findings {
		lines[i] = describe(&e.Findings[i], e.Names)
	}
	return "nothing was changed, since what somebody else made stands in the way:\n  " + strings.Join(lines, "\n  ") +
		"\nremove it, or ask for another priority or metric"
}

func describe(f *plan.Finding, n Names) string {
	s := f.What + ": " + f.Object(n)
	if f.Origin.Object != nil {
		s = fmt.Sprintf("%s: %s: %s", where(f.Origin), f.Origin.Object.Ref, s)
	}
	return s
}

// where is the place in a file that asked for something, as file:line.
func where(o desired.Origin) string {
	if o.Object == nil {
		return ""
	}
	return fmt.Sprintf("%s:%d", o.Object.File, o.Pos.Line)
}

// CutOffError says that the change would take away the way of a session or of
// the default gateway. Nothing was changed.
type CutOffError struct{ Findings []cutoff.Finding }

// Error lists what would be cut off and says how to go on.
func (e *CutOffError) Error() string {
	lines := make([]string, len(e.Findings))
	for i := range e.Findings {
		lines[i] = e.Findings[i].String()
	}
	return "nothing was changed, since this would cut the host off:\n  " + strings.Join(lines, "\n  ") +
		"\nuse --confirm 60s to try it with a way back, or --allow-cut-off if you are sure"
}
