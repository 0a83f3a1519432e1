package explain

import (
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/viarule/viarule/internal/fib"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/sim"
)

// addTables makes the tables that drawn rules name, and those in which a drawn rule
// found a route: the table of an l3mdev rule is the packet's.
func (g *graph) addTables() {
	byID := map[uint32]*table{}
	add := func(id uint32, n *node) *table {
		t := byID[id]
		if t == nil {
			t = &table{id: tableNode(id), name: g.e.Table(id), beside: n.id}
			if s := fmt.Sprint(id); s != t.name {
				t.name += " (" + s + ")"
			}
			byID[id] = t
			g.putBeside(n.id, t.id)
			g.tables = append(g.tables, t)
		}
		return t
	}
	for i := range g.nodes {
		if r := g.nodes[i].rule; r != nil && namesTable(r) {
			add(r.Table, &g.nodes[i])
		}
	}
	for _, w := range g.ways {
		for _, l := range w.legs {
			for i := range l.steps {
				s := &l.steps[i]
				n := g.nodeAt(s.Rule)
				if s.Route == nil || n.rule == nil {
					continue
				}
				if t := add(s.Route.Table, n); t.port(s.Route) == "" {
					text := strings.TrimPrefix(s.Route.Format(g.e), "route ")
					if o := g.e.owner(nil, s.Route); o != nil {
						text += ", wanted by " + o.text
					}
					t.found = append(t.found, foundRoute{s.Route, text})
				}
			}
		}
	}
	for i := range g.e.in.State.Routes {
		if r := &g.e.in.State.Routes[i]; r.Family == g.family && byID[r.Table] != nil {
			byID[r.Table].routes++
		}
	}
}

// putBeside puts a node at the right end of another one's row.
func (g *graph) putBeside(node, other string) {
	r := g.row(node)
	*r = append(*r, other)
}

// putNext puts a node right of another one.
func (g *graph) putNext(node, other string) {
	r := g.row(node)
	*r = slices.Insert(*r, slices.Index(*r, node)+1, other)
}

func (g *graph) row(node string) *[]string {
	for i := range g.rows {
		if slices.Contains(g.rows[i], node) {
			return &g.rows[i]
		}
	}
	g.rows = append(g.rows, []string{node})
	return &g.rows[len(g.rows)-1]
}

func tableNode(id uint32) string { return fmt.Sprintf("table%d", id) }

// namesTable says whether a rule looks into a table that is its own.
func namesTable(r *netstate.Rule) bool { return r.Action == netstate.ToTable && !r.L3MDev }

// port is the node and port of a found route; empty where it was not found.
func (t *table) port(r *netstate.Route) string {
	for i := range t.found {
		if t.found[i].route == r {
			return fmt.Sprintf("%s:r%d", t.id, i)
		}
	}
	return ""
}

func (g *graph) nodeAt(r *netstate.Rule) *node { return &g.nodes[g.nodeOf[g.place[r]]] }

// join adds an edge of a way.
func (g *graph) join(w *way, l *leg, from, to, label string, kind edgeKind) {
	node, _, _ := strings.Cut(from, ":")
	g.walked[[2]string{node, to}] = true
	switch {
	case to != l.to:
	case node == from: // a rule says it: nothing, its table neither, stands between
		g.putNext(node, to)
	default:
		g.putBeside(node, to)
	}
	g.edges = append(g.edges, edge{from: from, to: to, label: label, kind: kind, way: w, check: l.check})
}

// walk draws one lookup: from rule to rule and through the tables, each edge with why
// the packet goes there.
func (g *graph) walk(w *way, l *leg) {
	if len(l.steps) == 0 {
		g.join(w, l, l.from, l.to, l.why, free)
		if len(g.nodes) > 0 {
			g.edges = append(g.edges, edge{from: l.from, to: g.nodes[0].id, kind: hidden})
		}
		return
	}
	begin := free
	if l.from != w.legs[0].from {
		begin = aside // it begins anew, at the top
	}
	g.join(w, l, l.from, g.nodeAt(l.steps[0].Rule).id, "", begin)
	for i := 0; i < len(l.steps); {
		n := g.nodeAt(l.steps[i].Rule)
		j := i + 1
		for j < len(l.steps) && g.nodeAt(l.steps[j].Rule) == n {
			j++
		}
		h := hop{to: l.to}
		if j < len(l.steps) {
			next := g.nodeAt(l.steps[j].Rule)
			h.to, h.rule = next.id, true
			if next.first == n.first+n.rules {
				h.kind = inOrder
			}
		} else if !l.steps[j-1].Decides {
			if h.tail = l.why; h.tail == "" {
				h.tail = "no rule is left"
			}
		}
		if n.rule == nil {
			g.join(w, l, n.id, h.to, sentence(tally(l.steps[i:j]), h.tail), h.kind)
		} else {
			g.leave(w, l, &l.steps[i], h)
		}
		i = j
	}
}

// hop is where a packet goes from a rule.
type hop struct {
	to   string
	rule bool // it is one more rule
	kind edgeKind
	tail string // what more there is to say
}

// leave draws how a packet leaves a rule: straight, or by a table.
func (g *graph) leave(w *way, l *leg, s *sim.Step, h hop) {
	rule, label, from := g.nodeAt(s.Rule).id, sentence(s.Result, h.tail), ""
	switch {
	case s.Route != nil:
		for _, t := range g.tables {
			if t.id == tableNode(s.Route.Table) {
				from = t.port(s.Route)
			}
		}
	case s.Outcome == fib.Missed && namesTable(s.Rule):
		from = tableNode(s.Rule.Table)
	}
	if from == "" {
		g.join(w, l, rule, h.to, label, h.kind)
		return
	}
	node, _, _ := strings.Cut(from, ":")
	g.join(w, l, rule, node, "matches", aside)
	if h.rule {
		h.kind = aside
	}
	// Several rules may name the table: the edge says for which one it is.
	g.join(w, l, from, h.to, fmt.Sprintf("%d: %s", s.Rule.Priority, label), h.kind)
}

func sentence(a, b string) string {
	if b == "" {
		return a
	}
	return a + "; " + b
}

// tally says what came of the rules of a fold that a packet met.
func tally(steps []sim.Step) string {
	words := [...]struct {
		outcome fib.Outcome
		text    string
	}{
		{fib.NotSelected, "no match"}, {fib.Missed, "no route"}, {fib.Suppressed, "route not taken"},
		{fib.Thrown, "throw"}, {fib.Jumped, "goto"}, {fib.Passed, "passed"},
	}
	var parts []string
	for _, w := range words {
		n := 0
		for i := range steps {
			if steps[i].Outcome == w.outcome {
				n++
			}
		}
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%s: %s", w.text, count(n, "rule")))
		}
	}
	return strings.Join(parts, ", ")
}

// others draws what other packets may do, where no way is drawn already.
func (g *graph) others() {
	add := func(from, to, label string, kind edgeKind) {
		if !g.walked[[2]string{from, to}] {
			g.edges = append(g.edges, edge{from: from, to: to, label: label, kind: kind})
		}
	}
	for i := range g.nodes {
		n := &g.nodes[i]
		next := ""
		if i+1 < len(g.nodes) {
			next = g.nodes[i+1].id
		}
		switch r := n.rule; {
		case r == nil:
		case namesTable(r):
			add(n.id, tableNode(r.Table), "", aside)
			// From a table that many rules name, one such edge is enough to see what
			// happens: all of them would hide the ways.
			if next != "" && g.beside(r.Table) == n.id {
				add(tableNode(r.Table), next, fmt.Sprintf("%d: no route", r.Priority), aside)
			}
		case r.Action == netstate.Goto:
			if to := g.target(i); to != "" {
				add(n.id, to, "goto", aside)
			}
		}
		if next != "" {
			label := ""
			if n.rule != nil {
				label = "no match"
			}
			add(n.id, next, label, inOrder)
		}
	}
}

// beside is the node next to which a table stands.
func (g *graph) beside(id uint32) string {
	for _, t := range g.tables {
		if t.id == tableNode(id) {
			return t.beside
		}
	}
	return ""
}

// target is the node that the goto of node i leads to; empty where no rule behind it
// has the priority, and the goto does nothing.
func (g *graph) target(i int) string {
	n := &g.nodes[i]
	k := sort.Search(len(g.rules), func(k int) bool { return g.rules[k].Priority >= n.rule.Goto })
	if k <= n.first || k == len(g.rules) || g.rules[k].Priority != n.rule.Goto {
		return ""
	}
	return g.nodes[g.nodeOf[k]].id
}
