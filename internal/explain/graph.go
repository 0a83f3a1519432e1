package explain

import (
	"fmt"
	"strings"

	"github.com/viarule/viarule/internal/fib"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/sim"
)

// graph is what WriteDot draws.
type graph struct {
	e      *Explainer
	family netstate.Family
	rules  []*netstate.Rule
	place  map[*netstate.Rule]int // in rules
	nodes  []node                 // rules and folds, in the order of the rules
	nodeOf []int                  // of each of rules: its place in nodes
	tables []*table
	ways   []*way
	edges  []edge
	rows   [][]string         // nodes that stand side by side: a rule, its table, where ways end
	walked map[[2]string]bool // pairs that some way joins
	silent string             // why there is no answer to the packet
}

// node is a rule, or a run of rules that are folded into one.
type node struct {
	id    string
	first int            // in graph.rules
	rules int            // how many
	rule  *netstate.Rule // nil: a fold

	selectors, action, owner string
	text                     string // of a fold
}

// table is a table that a drawn rule names.
type table struct {
	id     string
	name   string
	beside string // node of the first rule that names it
	routes int
	found  []foundRoute // that some packet's lookup came upon
}

type foundRoute struct {
	route *netstate.Route
	text  string
}

// way is what one packet did.
type way struct {
	of      *Answer
	name    string // packet, answer
	color   string
	legs    []leg
	end     string // node
	outcome []string
}

// leg is one lookup of a way: the packet's own, that of the check of its source, and
// the one more that an output hook's mark brings about.
type leg struct {
	from  string // node that it begins in
	to    string // node that it ends in
	text  []string
	steps []sim.Step // one a rule; none where the packet did not come to its rules
	check bool
	why   string // what leads to `to` where no step decides
}

// edge joins two nodes.
type edge struct {
	from, to string // nodes, with ports
	label    string
	kind     edgeKind
	way      *way // nil: what other packets may do
	check    bool
}

type edgeKind uint8

const (
	free    edgeKind = iota
	inOrder          // from a rule to the next
	aside            // does not say what stands above what
	hidden           // only says what stands above what
)

const (
	// wholeList is how many rules are drawn one by one, whoever met them.
	wholeList = 20
	// drawnMost is how many rules that select the packet are drawn at either end of
	// a lookup. The others are folded: a list may be long that selects all packets
	// and finds no route for any.
	drawnMost = 12
	// foldLeast is how many rules it takes to fold them.
	foldLeast = 3
	// notesMost is how many other things on a packet's way a node lists.
	notesMost = 6
)

func (e *Explainer) newGraph(a *Answer) *graph {
	g := &graph{e: e, family: a.trace.packet.Family(), place: map[*netstate.Rule]int{}, walked: map[[2]string]bool{}}
	g.rules = e.world.FIB().Rules(g.family)
	for i, r := range g.rules {
		g.place[r] = i
	}
	g.addWay("packet", packetColor, a)
	switch {
	case a.Reply == nil:
	case a.Reply.trace == nil:
		g.silent = a.Reply.Summary
		g.edges = append(g.edges, edge{from: g.ways[0].end, to: "silent"})
	default:
		g.addWay("answer", replyColor, a.Reply)
		g.edges = append(g.edges, edge{from: g.ways[0].end, to: g.ways[1].legs[0].from, label: "is answered", kind: aside})
	}
	g.fold()
	g.addTables()
	for _, w := range g.ways {
		for i := range w.legs {
			g.walk(w, &w.legs[i])
		}
	}
	if g.silent != "" {
		g.putBeside(g.ways[0].end, "silent")
	}
	g.others()
	return g
}

// addWay cuts a packet's steps into its lookups.
func (g *graph) addWay(name, color string, a *Answer) {
	w := &way{of: a, name: name, color: color, end: name + "_end"}
	text := []string{"the " + name + ": " + a.Packet}
	var notes []string
	note := func(s *sim.Step) { notes = append(notes, fmt.Sprintf("%s: %s: %s", s.Hook, s.Object, s.Result)) }
	steps := a.trace.answer.Steps
	for i := 0; i < len(steps); {
		if steps[i].Rule == nil {
			if !steps[i].Decides { // the outcome says it
				note(&steps[i])
			}
			i++
			continue
		}
		j := i + 1
		for j < len(steps) && steps[j].Rule != nil && steps[j].Hook == steps[i].Hook {
			j++
		}
		check := steps[i].Hook == sim.SourceHook
		if check && j < len(steps) && steps[j].Hook == sim.SourceHook && !steps[j].Decides {
			i = j // it passes, which the note of the next step says in a line
			continue
		}
		if n := len(w.legs); check && n > 0 && w.legs[n-1].check {
			w.legs = w.legs[:n-1] // one next hop's check is like another's
		}
		l := leg{text: append(text, some(notes)...), steps: steps[i:j], check: check}
		if len(w.legs) > 0 {
			l.text = append([]string{legNames[steps[i].Hook]}, some(notes)...)
		}
		w.legs, notes = append(w.legs, l), nil
		i = j
	}
	w.outcome = append([]string{a.Summary}, some(notes)...)
	if len(w.legs) == 0 {
		w.legs = []leg{{text: text, why: a.Reason}}
	}
	if len(a.Filters) > 0 {
		w.outcome = append(w.outcome, "not looked at, may still filter, translate or mark it: "+strings.Join(a.Filters, ", "))
	}
	for i := range w.legs {
		l := &w.legs[i]
		l.from, l.to = name, w.end
		if i > 0 {
			l.from = fmt.Sprintf("%s_%d", name, i)
			w.legs[i-1].to = l.from
		}
	}
	if d := &a.trace.answer.Decision; d.OnLink {
		w.legs[len(w.legs)-1].why = "no rule is left: taken for a neighbour on " + d.Hop.Dev
	}
	g.ways = append(g.ways, w)
}

var legNames = map[sim.Hook]string{
	sim.SourceHook: "check of the source: where would an answer go?",
	sim.Rerouting:  "routed once more, with the mark of the output hook",
}

// some is a list that is not too long.
func some(list []string) []string {
	if len(list) <= notesMost {
		return list
	}
	return append(list[:notesMost:notesMost], fmt.Sprintf("… %d more", len(list)-notesMost))
}

// fold makes the nodes of the rules.
func (g *graph) fold() {
	kept := g.kept()
	met := make([]bool, len(g.rules))
	selects := make([]bool, len(g.rules))
	for _, w := range g.ways {
		for _, l := range w.legs {
			for i := range l.steps {
				k := g.place[l.steps[i].Rule]
				met[k] = true
				selects[k] = selects[k] || l.steps[i].Outcome != fib.NotSelected
			}
		}
	}
	g.nodeOf = make([]int, len(g.rules))
	for i := 0; i < len(g.rules); {
		j := i
		someMet, someSelect := false, false
		for j < len(g.rules) && !kept[j] {
			someMet, someSelect = someMet || met[j], someSelect || selects[j]
			j++
		}
		if j-i < foldLeast {
			j = i + 1
		}
		n := node{first: i, rules: j - i}
		if n.rules == 1 {
			r := g.rules[i]
			n.id, n.rule = fmt.Sprintf("rule%d", i), r
			n.selectors, n.action = g.ruleParts(r)
			if o := g.e.rules[r]; o != nil {
				n.owner = o.text
			}
		} else {
			n.id = fmt.Sprintf("fold%d", i)
			what := "that are not on its way"
			switch {
			case someSelect:
				what = "of its way"
			case someMet:
				what = "that do not match"
			}
			n.text = fmt.Sprintf("… %s %s, at %d", count(n.rules, "rule"), what, g.rules[i].Priority)
			if last := g.rules[j-1].Priority; last != g.rules[i].Priority {
				n.text += fmt.Sprintf(" to %d", last)
			}
		}
		for k := i; k < j; k++ {
			g.nodeOf[k] = len(g.nodes)
		}
		g.nodes = append(g.nodes, n)
		i = j
	}
}

// kept says which rules are drawn as themselves: those that select a packet, where not
// too many do, and those that a goto leads to.
func (g *graph) kept() []bool {
	kept := make([]bool, len(g.rules))
	if len(g.rules) <= wholeList {
		for i := range kept {
			kept[i] = true
		}
		return kept
	}
	for _, w := range g.ways {
		for _, l := range w.legs {
			var chosen []int // in l.steps
			for i := range l.steps {
				if l.steps[i].Outcome != fib.NotSelected {
					chosen = append(chosen, i)
				}
			}
			if n := len(chosen); n > 2*drawnMost {
				chosen = append(chosen[:drawnMost:drawnMost], chosen[n-drawnMost:]...)
			}
			for _, i := range chosen {
				kept[g.place[l.steps[i].Rule]] = true
				if l.steps[i].Outcome == fib.Jumped && i+1 < len(l.steps) {
					kept[g.place[l.steps[i+1].Rule]] = true
				}
			}
		}
	}
	return kept
}

// ruleParts gives what a rule asks for and what it does.
func (g *graph) ruleParts(r *netstate.Rule) (selectors, action string) {
	plain := netstate.Rule{Family: r.Family, Priority: r.Priority, Action: netstate.Nop}
	head, _ := strings.CutSuffix(plain.Format(g.e), "from all nop")
	s := *r
	s.Action, s.L3MDev, s.Table, s.Goto, s.Realms, s.Protocol, s.Unknown = netstate.Nop, false, 0, 0, 0, 0, ""
	s.SuppressPrefixLength, s.SuppressIfGroup = netstate.Opt{}, netstate.Opt{}
	whole := strings.TrimPrefix(r.Format(g.e), head)
	selectors, _ = strings.CutSuffix(strings.TrimPrefix(s.Format(g.e), head), " nop")
	return selectors, strings.TrimSpace(strings.TrimPrefix(whole, selectors))
}
