package plan

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/viarule/viarule/internal/desired"
	"github.com/viarule/viarule/internal/netstate"
)

// Style says how a plan is written for people.
type Style struct {
	Names   netstate.Names // of tables; nil: the kernel's own
	Verbose bool           // every op of a goto tree, in place of the users' rules
	Color   bool           // terminal colours
}

// column is the widest that the comments of a group are moved to the right;
// longer lines have theirs right behind.
const column = 100

// WriteText writes the plan as a diff in the notation of ip, grouped in the order
// in which it is carried out, each line with where it was asked for and why:
//
//   - rule 2200 from 10.1.0.0/16 table custom proto viarule  # f.yaml:9 RoutingPolicy/x: new
//
// and at the end how many objects are added, changed and removed. Goto trees
// show as the users' rules, unless style.Verbose is set; a table of nftables is
// one object and shows as the lines that differ, in nft's notation.
func (p *Plan) WriteText(w io.Writer, style Style) error {
	b := bufio.NewWriter(w)
	t := textWriter{w: b, style: style}
	for at := 0; at < len(p.Ops); {
		h := heading(p.Ops[at].Stage)
		for at < len(p.Ops) && heading(p.Ops[at].Stage) == h {
			switch op := &p.Ops[at]; {
			case op.Nft != nil:
				t.nft(op)
			case style.Verbose || !op.Compiled:
				t.op(op)
			}
			at++
		}
		t.flush(h)
	}
	if !style.Verbose {
		for i := range p.Trees() {
			t.tree(&p.trees[i], p.treeOps(&p.trees[i]))
		}
	}
	t.findings("satisfied: a foreign object provides it, and stays as it is", '=', p.Satisfied)
	t.findings("conflicts: a foreign object is in the way, and stays as it is", '!', p.Conflicts)
	t.findings("blocked: of no use while somebody else's object stands as it does", '!', p.Blocked)
	t.findings("orphans: made by viarule, but not known to whom they belong", '?', p.Orphans)
	b.WriteString(p.Summary())
	b.WriteByte('\n')
	return b.Flush()
}

// Summary is the last line of the text: how many objects the plan adds, changes
// and removes, and what it leaves alone. Rules of goto trees are counted as the
// users wrote them.
func (p *Plan) Summary() string {
	var b strings.Builder
	if p.Empty() {
		b.WriteString("nothing to do")
	} else {
		add, change, remove := p.counts()
		fmt.Fprintf(&b, "%d to add, %d to change, %d to remove", add, change, remove)
	}
	if !p.Empty() || len(p.Satisfied)+len(p.Conflicts)+len(p.Blocked)+len(p.Orphans) > 0 {
		fmt.Fprintf(&b, "; %d satisfied, %s", len(p.Satisfied), plural(len(p.Conflicts), "conflict"))
	}
	if n := len(p.Blocked); n > 0 {
		fmt.Fprintf(&b, ", %d blocked", n)
	}
	if n := len(p.Orphans); n > 0 {
		fmt.Fprintf(&b, ", %s", plural(n, "orphan"))
	}
	return b.String()
}

func (p *Plan) counts() (add, change, remove int) {
	for i := range p.Ops {
		op := &p.Ops[i]
		switch verb := op.shown(); {
		case op.Compiled:
		case verb == netstate.Add:
			add++
		case verb == netstate.Replace:
			change++
		case verb == netstate.Delete:
			remove++
		}
	}
	for _, c := range p.Trees() {
		add, remove = add+len(c.Add), remove+len(c.Remove)
	}
	return add, change, remove
}

// treeOps counts the ops that change a tree.
func (p *Plan) treeOps(c *TreeChange) int {
	n := 0
	for i := range p.Ops {
		if r := p.Ops[i].Rule; p.Ops[i].Compiled && r.Family == c.Family && c.Gate <= r.Priority && r.Priority <= c.End {
			n++
		}
	}
	return n
}

func plural(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return strconv.Itoa(n) + " " + what
}

func heading(stage int) string {
	switch {
	case stage <= stageLinks:
		return "links"
	case stage == stageAccepts:
		return "forward chains of others"
	case stage == stageEarlySysctls || stage == stageSysctls:
		return "sysctls"
	case stage <= stageGatewayRoutes:
		return "routes"
	case stage <= stageOpen:
		return "rules"
	case stage == stageNft:
		return "nftables"
	case stage <= stageOldEnds:
		return "old rules"
	case stage <= stageOldLinkRoutes:
		return "old routes"
	case stage == stageOldAccepts:
		return "forward chains of others, no more"
	case stage == stageRestore:
		return "old sysctls"
	}
	return "old links"
}

// textWriter collects the lines of a group and writes them in aligned columns.
type textWriter struct {
	w     *bufio.Writer
	style Style
	lines []textLine
	width int
}

type textLine struct {
	sign          byte
	object, about string
}

func (t *textWriter) line(sign byte, object, about string) {
	t.lines = append(t.lines, textLine{sign, object, about})
	if n := len(object); about != "" && n > t.width && n <= column {
		t.width = n
	}
}

func (t *textWriter) op(op *Op) {
	t.line(op.Verb.String()[0], op.Change.Format(t.style.Names)[2:], about(op.Origin, op.Reason+was(op)))
}

// nft writes what an op changes in its table, each line below its map or chain.
func (t *textWriter) nft(op *Op) {
	t.line(op.shown().String()[0], "table inet "+op.Nft.Name, aboutAll(op.Askers(), op.Reason))
	for _, l := range op.NftLines() {
		object := "  " + l.Where
		if l.Text != "" {
			object = "    " + l.Text
		}
		t.line(l.Verb.String()[0], object, "")
	}
}

// flush writes the group under its heading, if it has lines.
func (t *textWriter) flush(heading string) {
	if len(t.lines) > 0 {
		t.w.WriteString(heading + "\n")
	}
	for _, l := range t.lines {
		on, dim, off := t.colours(l.sign)
		t.w.WriteString("  " + on + string(l.sign) + " " + l.object + off)
		if l.about == "" {
			t.w.WriteByte('\n')
			continue
		}
		for n := len(l.object); n < t.width; n++ {
			t.w.WriteByte(' ')
		}
		t.w.WriteString("  " + dim + "# " + l.about + off + "\n")
	}
	t.lines, t.width = t.lines[:0], 0
}

func (t *textWriter) colours(sign byte) (on, dim, off string) {
	if !t.style.Color {
		return "", "", ""
	}
	switch sign {
	case '+':
		on = "\x1b[32m"
	case '~':
		on = "\x1b[33m"
	case '-', '!':
		on = "\x1b[31m"
	}
	return on, "\x1b[2m", "\x1b[0m"
}

func (t *textWriter) tree(c *TreeChange, ops int) {
	h := fmt.Sprintf("%s of the %s tree at %d-%d", plural(c.Rules, "rule"), c.Family, c.Gate, c.End)
	if c.Rules == 0 {
		h = fmt.Sprintf("the %s tree at %d-%d goes", c.Family, c.Gate, c.End)
	}
	h += fmt.Sprintf(": %d new, %d removed, in %s", len(c.Add), len(c.Remove), plural(ops, "operation"))
	for i := range c.Add {
		t.line('+', c.Add[i].Format(t.style.Names), about(c.Add[i].Origin, "new"))
	}
	for i := range c.Remove {
		t.line('-', c.Remove[i].Format(t.style.Names), "not wanted any more")
	}
	if len(t.lines) == 0 {
		t.w.WriteString(h + "\n")
	}
	t.flush(h)
}

func (t *textWriter) findings(heading string, sign byte, list []Finding) {
	for i := range list {
		f := &list[i]
		t.line(sign, f.Object(t.style.Names), about(f.Origin, f.What))
	}
	t.flush(heading)
}

// about is where something was asked for, and why it is done.
func about(o desired.Origin, why string) string {
	if o.Object == nil {
		return why
	}
	return asker(o) + ": " + why
}

// asker is an object, and where it asked.
func asker(o desired.Origin) string {
	s := o.Object.Ref.String()
	if o.Object.File == "" {
		return s
	}
	if o.Pos.Line > 0 {
		return o.Object.File + ":" + strconv.Itoa(int(o.Pos.Line)) + " " + s
	}
	return o.Object.File + " " + s
}

// maxAskers is how many objects are named that ask for one thing.
const maxAskers = 3

// aboutAll is about where several objects asked.
func aboutAll(list []desired.Origin, why string) string {
	var who []string
	for _, o := range list[:min(len(list), maxAskers)] {
		who = append(who, asker(o))
	}
	if more := len(list) - len(who); more > 0 {
		who = append(who, fmt.Sprintf("and %d more", more))
	}
	if len(who) == 0 {
		return why
	}
	return strings.Join(who, ", ") + ": " + why
}

// was says, for a change, what was there before.
func was(op *Op) string {
	if b := op.BeforeSysctl; b != nil && op.Verb == netstate.Replace {
		return " (was " + b.Value + ")"
	}
	if op.BeforeRoute == nil || op.Verb != netstate.Replace {
		return ""
	}
	b, a := op.BeforeRoute, op.Route
	switch {
	case b.Type != a.Type:
		return " (was " + b.Type.String() + ")"
	case b.Hop != a.Hop || len(b.Hops) != len(a.Hops) || b.NexthopID != a.NexthopID:
		return " (was " + hopText(b) + ")"
	case b.MTU != a.MTU:
		return fmt.Sprintf(" (was %d)", b.MTU)
	case b.Src != a.Src && b.Src.IsValid():
		return " (was " + b.Src.String() + ")"
	}
	return ""
}

// hopText says where a route sends packets: its words without all others.
func hopText(r *netstate.Route) string {
	only := netstate.Route{Family: r.Family, To: r.Family.Default(), Type: netstate.RouteUnicast, Hop: r.Hop, Hops: r.Hops, NexthopID: r.NexthopID}
	_, s, _ := strings.Cut(only.String(), "default ")
	return strings.TrimSuffix(s, " table 0")
}
