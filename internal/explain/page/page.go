// Package page writes an answer of package explain as a page for a browser or a
// printer. The page needs nothing else: no scripts, no fonts, no pictures. It is apart
// from explain since it links html/template, which nobody else needs.
package page

import (
	"fmt"
	"html/template"
	"io"
	"strings"

	"github.com/viarule/viarule/internal/explain"
	"github.com/viarule/viarule/internal/fib"
	"github.com/viarule/viarule/internal/sim"
)

// Made says what an answer was made from, and when. What is empty is left out.
type Made struct {
	By   string // the program and its version
	From string // the host, namespace or snapshot, in words
	At   string // the time, in words
}

// Write writes the page. All text of a is escaped, and what does not print is shown:
// names of links, tables and files are anybody's. The error is w's.
func Write(w io.Writer, a *explain.Answer, made Made) error {
	// Made here, not in a variable of the package: most runs of a program write no page.
	t := template.Must(template.New("page").Funcs(template.FuncMap{"hooks": hooks, "facts": facts, "show": explain.Printable}).Parse(text))
	return t.Execute(w, struct {
		*explain.Answer
		Made Made
	}{a, made})
}

// hook is what was looked at in one hook.
type hook struct {
	Name string
	Runs []run
}

// run is some steps; with a Fold they are shown only to those who want them.
type run struct {
	Fold  string
	Steps []explain.Step
}

// foldLeast is how many rules that do not match are folded.
const foldLeast = 6

// hooks groups steps that stand together, and folds rows of rules that do not match.
func hooks(steps []explain.Step) []hook {
	var out []hook
	for i := 0; i < len(steps); {
		if len(out) == 0 || out[len(out)-1].Name != steps[i].Hook {
			out = append(out, hook{Name: steps[i].Hook})
		}
		h := &out[len(out)-1]
		j := i
		for j < len(steps) && steps[j].Hook == h.Name && steps[j].Outcome == fib.NotSelected.String() {
			j++
		}
		switch {
		case j-i >= foldLeast:
			h.Runs = append(h.Runs, run{Fold: fmt.Sprintf("… %d rules that do not match", j-i), Steps: steps[i:j]})
		default:
			j = max(j, i+1)
			if n := len(h.Runs); n > 0 && h.Runs[n-1].Fold == "" {
				last := &h.Runs[n-1]
				last.Steps = steps[i-len(last.Steps) : j]
			} else {
				h.Runs = append(h.Runs, run{Steps: steps[i:j]})
			}
		}
		i = j
	}
	return out
}

// fact is one thing that was found, with its name.
type fact struct{ Name, Value string }

// facts lists what an answer holds beside its sentence and its steps.
func facts(a *explain.Answer) []fact {
	var out []fact
	add := func(name, value string) {
		if value != "" {
			out = append(out, fact{name, value})
		}
	}
	if a.Rule != nil {
		add("rule", fmt.Sprint(*a.Rule))
	}
	add("table", a.Table)
	add("route", strings.TrimPrefix(a.Route, "route "))
	add("wanted by", a.WantedBy)
	switch {
	case a.Verdict == sim.Delivered.String(): // by lo, which says nothing to a reader
	case len(a.Ways) > 0:
		for _, w := range a.Ways {
			add("one of", way(w))
		}
	default:
		add("leaves by", way(explain.Way{OIF: a.OIF, Via: a.Via, Source: a.Source}))
	}
	if a.FwMark != 0 {
		add("mark", fmt.Sprintf("0x%x", a.FwMark))
	}
	if a.MTU != 0 && a.Verdict != sim.Delivered.String() {
		add("MTU", fmt.Sprintf("%d bytes", a.MTU))
	}
	add("source check", a.Check)
	return out
}

func way(w explain.Way) string {
	s := w.OIF
	if w.Via != "" {
		s += " via " + w.Via
	}
	if s != "" && w.Source != "" {
		s += " from " + w.Source
	}
	return s
}
