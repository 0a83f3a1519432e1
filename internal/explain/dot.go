package explain

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/viarule/viarule/internal/sim"
)

// WriteDot draws an answer in Graphviz's language: the rules and tables of the
// packet's family as a decision graph, and on it the way of the packet and, where the
// answer has a Reply, the way back. Rules that say nothing about either are folded, so
// that a list of 10,000 rules stays a drawing for people. a is of e, from Explain with
// Options.Steps.
func (e *Explainer) WriteDot(w io.Writer, a *Answer) error {
	if a.trace == nil {
		return errors.New("draw an answer: it was made without its steps")
	}
	g := e.newGraph(a)
	d := dot{}
	d.line(`digraph viarule {`)
	d.line(`  graph [bgcolor="white", fontname="sans-serif", rankdir=TB, ranksep=0.35, nodesep=0.5];`)
	d.line(`  node [fontname="sans-serif", fontsize=10, shape=plain];`)
	d.line(`  edge [fontname="sans-serif", fontsize=9, color="#8a8a8a", fontcolor="#6a6a6a", arrowsize=0.6];`)
	for i := range g.nodes {
		d.rule(&g.nodes[i])
	}
	for _, t := range g.tables {
		d.table(t)
	}
	for _, w := range g.ways {
		for i := range w.legs {
			d.box(w.legs[i].from, "#ffffff", w.color, w.legs[i].text)
		}
		d.box(w.end, verdictColors[w.of.Verdict], w.color, w.outcome)
	}
	if g.silent != "" {
		d.box("silent", "#eeeeee", "#8a8a8a", []string{g.silent})
	}
	for _, r := range g.rows {
		// An edge within a rank puts its end to the right.
		d.line(`  {rank=same; %s [style=invis]}`, strings.Join(r, " -> "))
	}
	for i := range g.edges {
		d.edge(&g.edges[i])
	}
	d.line(`}`)
	_, err := io.WriteString(w, d.b.String())
	return err
}

// The colours, dark enough on white, and apart for those who do not tell red from green.
const (
	packetColor = "#1f5fbf"
	replyColor  = "#b3530b"
)

var verdictColors = map[string]string{
	sim.Forwarded.String(): "#d5efda", sim.Delivered.String(): "#d5efda", sim.Sent.String(): "#d5efda",
	sim.Dropped.String(): "#fbd5d5", sim.Unknown.String(): "#fbeec2",
}

// dot writes the drawing. Labels of nodes are in Graphviz's form of HTML: records have
// more characters of their own, and lose edges where two of them stand side by side.
type dot struct{ b strings.Builder }

func (d *dot) line(format string, args ...any) { fmt.Fprintf(&d.b, format+"\n", args...) }

// rule draws a rule as priority, selectors and action, or a fold.
func (d *dot) rule(n *node) {
	if n.rule == nil {
		d.line(`  %s [label=<<table border="1" cellborder="0" color="#b0b0b0" style="dashed" cellpadding="4"><tr><td>%s</td></tr></table>>];`, n.id, cell(n.text, nodeWidth))
		return
	}
	rows := fmt.Sprintf(`<tr><td bgcolor="#e8eef7"><b>%d</b></td><td>%s</td><td>%s</td></tr>`, n.rule.Priority, cell(n.selectors, nodeWidth), cell(n.action, nodeWidth))
	if n.owner != "" {
		rows += fmt.Sprintf(`<tr><td colspan="3">%s</td></tr>`, cell("wanted by "+n.owner, boxWidth))
	}
	d.line(`  %s [label=<<table border="0" cellborder="1" cellspacing="0" cellpadding="4">%s</table>>];`, n.id, rows)
}

// table draws a table: how many routes it has, and those that were found.
func (d *dot) table(t *table) {
	rows := fmt.Sprintf(`<tr><td bgcolor="#efe8f7"><b>table %s</b><br/>%s</td></tr>`, cell(t.name, nodeWidth), count(t.routes, "route"))
	for i, r := range t.found {
		rows += fmt.Sprintf(`<tr><td port="r%d">%s</td></tr>`, i, cell(r.text, nodeWidth))
	}
	d.line(`  %s [label=<<table border="0" cellborder="1" cellspacing="0" cellpadding="4" style="rounded">%s</table>>];`, t.id, rows)
}

// box draws where a way begins or ends: the first line bold.
func (d *dot) box(id, fill, color string, text []string) {
	var cells []string
	for i, t := range text {
		c := cell(t, boxWidth)
		if i == 0 {
			c = "<b>" + c + "</b>"
		}
		cells = append(cells, c)
	}
	d.line(`  %s [label=<<table border="2" cellborder="0" color="%s" bgcolor="%s" style="rounded" cellpadding="5"><tr><td>%s</td></tr></table>>];`,
		id, color, fill, strings.Join(cells, "<br/>"))
}

func (d *dot) edge(e *edge) {
	var attrs []string
	add := func(format string, args ...any) { attrs = append(attrs, fmt.Sprintf(format, args...)) }
	if e.label != "" {
		add(`label=%s`, quote(e.label))
	}
	if e.way != nil {
		add(`class="%s", color="%s", fontcolor="%s", penwidth=3`, e.way.name, e.way.color, e.way.color)
	}
	switch {
	case e.check:
		add(`style=dashed`)
	case e.way != nil:
		add(`style=bold`)
	case e.kind == hidden:
		add(`style=invis`)
	case e.kind != inOrder:
		add(`style=dotted`)
	}
	switch e.kind {
	case inOrder:
		add(`weight=20`) // the rules stand in a column
	case aside:
		add(`constraint=false`)
	}
	d.line(`  %s -> %s [%s];`, e.from, e.to, strings.Join(attrs, ", "))
}

const (
	nodeWidth = 36 // of a line, in characters
	boxWidth  = 52
	edgeWidth = 30
	textMost  = 400 // characters of one text: a route may have hundreds of next hops
)

// cell is text for a label in Graphviz's HTML: never empty, which it does not allow.
func cell(s string, width int) string {
	lines := wrap(visible(s), width)
	for i := range lines {
		lines[i] = htmlEscaper.Replace(lines[i])
	}
	return strings.Join(lines, "<br/>")
}

// Graphviz puts the node's name for \N in HTML too, behind entities.
var htmlEscaper = strings.NewReplacer(`\`, `\\`, "&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;", "'", "&#39;")

// quote writes a string of Graphviz, in which entities of HTML count too.
func quote(s string) string {
	lines := wrap(visible(s), edgeWidth)
	for i := range lines {
		lines[i] = " " + quoteEscaper.Replace(lines[i]) + " " // apart from the line
	}
	return `"` + strings.Join(lines, `\n`) + `"`
}

var quoteEscaper = strings.NewReplacer("&", "&amp;", `\`, `\\`, `"`, `\"`)

// visible is Printable, and cuts what is too long.
func visible(s string) string {
	if r := []rune(Printable(s)); len(r) > textMost {
		return string(r[:textMost]) + "…"
	}
	return Printable(s)
}

// wrap breaks text into lines, at blanks where there are any. There is always a line,
// and none is empty: Graphviz has no bold nothing.
func wrap(s string, width int) []string {
	var lines []string
	var line []rune
	for _, word := range strings.Fields(s) {
		w := []rune(word)
		if len(line) > 0 && len(line)+1+len(w) > width {
			lines, line = append(lines, string(line)), nil
		}
		if len(line) > 0 {
			line = append(line, ' ')
		}
		line = append(line, w...)
		for len(line) > 2*width {
			lines, line = append(lines, string(line[:width])), line[width:]
		}
	}
	if len(line) == 0 {
		line = []rune{' '}
	}
	return append(lines, string(line))
}

// count writes a number with its noun: 4,210 rules.
func count(n int, noun string) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	if n != 1 {
		noun += "s"
	}
	return s + " " + noun
}
