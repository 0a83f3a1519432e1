package desired

import (
	"net/netip"
	"slices"

	"github.com/viarule/viarule/internal/netstate"
)

// standingTree is a tree that was found among the rules that stand.
type standingTree struct {
	span
	byTo     bool
	template netstate.Rule // what its rules have in common
	common   pfx
	root     *group
	groups   []*group
	order    int  // of its first rule, in the kernel's list
	whole    bool // it can be gone on with
}

// content is what the rules of a run differ in.
type content struct {
	pfx
	table uint32
}

// findTrees finds the trees among our rules: a nop, and right before it groups
// that end in a goto to it. A nop that the user asked for is none.
func (s *ruleSet) findTrees() {
	s.trees = nil
	groups := slices.Collect(groupsOf(s.ours))
	for i, g := range groups {
		if r := g[0]; len(g) > 1 || r.Action != netstate.Nop || *r.Rule != s.bare(r.Rule, netstate.Nop) || s.asked(r.Rule) {
			continue
		}
		end := g[0].Priority
		first := i
		for first > 0 && s.exits(last(groups[first-1]), end) {
			first--
		}
		if t := s.readTree(groups[first:i], end); t != nil {
			if first > 0 {
				if g := groups[first-1]; len(g) == 1 && g[0].Not && s.exitsNot(g[0].Rule, end) {
					t.first = g[0].Priority
					t.common = makePfx(*selector(g[0].Rule, t.byTo))
					if first--; t.first > 0 {
						t.first--
					}
				}
			}
			if first > 0 {
				if g := groups[first-1]; len(g) == 1 && s.exits(g[0].Rule, end) {
					t.first = g[0].Priority // a gate was left standing
				}
			}
			t.check()
			s.trees = append(s.trees, t)
		}
	}
}

// groupsOf cuts rules where the priority changes.
func groupsOf(rules []standingRule) func(yield func([]standingRule) bool) {
	return func(yield func([]standingRule) bool) {
		for len(rules) > 0 {
			n := 1
			for n < len(rules) && rules[n].Priority == rules[0].Priority {
				n++
			}
			if !yield(rules[:n]) {
				return
			}
			rules = rules[n:]
		}
	}
}

func last(g []standingRule) *netstate.Rule { return g[len(g)-1].Rule }

// bare is a rule at r's place that selects all packets.
func (s *ruleSet) bare(r *netstate.Rule, action netstate.Action) netstate.Rule {
	return netstate.Rule{Family: s.family, Priority: r.Priority, Action: action, Goto: r.Goto, Protocol: s.b.own.Protocol}
}

// asked says whether the user wants just this rule.
func (s *ruleSet) asked(r *netstate.Rule) bool {
	return slices.ContainsFunc(s.fixed, func(f rule) bool { return f.Rule == *r })
}

// leads says whether r is a goto that selects by nothing but one prefix.
func (s *ruleSet) leads(r *netstate.Rule) bool {
	if r.Action != netstate.Goto || r.From.IsValid() && r.To.IsValid() {
		return false
	}
	b := *r
	b.From, b.To, b.Not = netip.Prefix{}, netip.Prefix{}, false
	return b == s.bare(r, netstate.Goto)
}

func (s *ruleSet) exits(r *netstate.Rule, end uint32) bool {
	return r.Goto == end && !r.Not && s.leads(r)
}

func (s *ruleSet) exitsNot(r *netstate.Rule, end uint32) bool {
	return r.Goto == end && s.leads(r)
}

// readTree reads the groups of a tree. It returns nil where there is no rule of
// a run in them, so that nothing tells what the tree is for.
func (s *ruleSet) readTree(groups [][]standingRule, end uint32) *standingTree {
	if len(groups) == 0 {
		return nil
	}
	t := &standingTree{whole: true, order: groups[0][0].index}
	like := findTemplate(groups)
	if like == nil {
		return nil
	}
	t.byTo = !like.From.IsValid() || slices.ContainsFunc(groups, func(g []standingRule) bool {
		return slices.ContainsFunc(g, func(r standingRule) bool { return r.Action == netstate.Goto && r.To.IsValid() })
	})
	t.template = template(like, t.byTo)
	at := make(map[uint32]*group, len(groups))
	for _, g := range groups {
		at[g[0].Priority] = &group{priority: g[0].Priority, stood: []entry{}}
	}
	for _, g := range groups {
		to := at[g[0].Priority]
		to.exit = makePfx(*selector(last(g), t.byTo))
		for _, r := range g {
			p := makePfx(*selector(r.Rule, t.byTo))
			switch {
			case s.exits(r.Rule, end):
			case r.Action != netstate.Goto:
				if template(r.Rule, t.byTo) == t.template { // others do not belong here, and go
					to.stood = append(to.stood, entry{pfx: p, rule: -1, table: r.Table})
				}
			case !r.Not && s.leads(r.Rule) && at[r.Goto] != nil && r.Goto > r.Priority && p.n > 0:
				if x := (split{p, at[r.Goto]}); !slices.Contains(to.splits, x) { // a change that was cut off leaves doubles
					to.splits = append(to.splits, x)
					to.stood = append(to.stood, entry{to: x.to, pfx: p})
				}
			default:
				t.whole = false
			}
		}
		t.groups = append(t.groups, to)
	}
	// A gate that was left standing looks like a group that nothing leads to and
	// that is empty.
	gated := len(t.groups) > 1 && len(groups[0]) == 1 && !t.target(t.groups[1])
	t.span = span{first: t.groups[0].priority, last: end}
	if gated {
		t.groups = t.groups[1:]
	} else {
		t.first -= min(t.first, 2)
	}
	t.root = t.groups[0]
	return t
}

// findTemplate returns a rule that is like most rules in the groups (the
// majority vote of Boyer and Moore), or nil.
func findTemplate(groups [][]standingRule) (like *netstate.Rule) {
	votes := 0
	for _, g := range groups {
		for _, r := range g {
			switch {
			case r.Action == netstate.Goto:
			case votes == 0:
				like, votes = r.Rule, 1
			case template(r.Rule, false) == template(like, false) || template(r.Rule, true) == template(like, true):
				votes++
			default:
				votes--
			}
		}
	}
	return like
}

// target says whether a split leads to g.
func (t *standingTree) target(g *group) bool {
	return slices.ContainsFunc(t.groups, func(o *group) bool {
		return slices.ContainsFunc(o.splits, func(s split) bool { return s.to == g })
	})
}

// check sees whether the groups are one tree, and gives them their regions.
func (t *standingTree) check() {
	t.root.region = t.common
	if t.common.n > 0 {
		t.root.exit = t.common
	} else if e := t.root.exit; e.n != 1 || !slices.ContainsFunc(t.root.splits, func(s split) bool { return s.pfx.n == 1 && s.pfx != e }) {
		t.root.exit = pfx{}
	}
	led := make(map[*group]bool, len(t.groups))
	for _, g := range t.groups { // sorted by priority, so what leads to a group comes first
		if g != t.root && !led[g] {
			t.whole = false
		}
		for _, s := range g.splits {
			if led[s.to] || s.to == t.root || s.pfx.n <= g.region.n || !g.region.covers(s.pfx) {
				t.whole = false
			}
			led[s.to] = true
			s.to.region, s.to.exit = s.pfx, s.pfx
		}
	}
}

// contents finds the rules of the run by what they differ in.
func (r *run) contents() map[content]int32 {
	m := make(map[content]int32, len(r.pfx))
	for i := range r.pfx {
		m[content{r.pfx[i], r.rules[i].Table}] = int32(i)
	}
	return m
}

// shares counts the rules that stand in the tree and are of the run.
func (t *standingTree) shares(contents map[content]int32) (n int) {
	for _, g := range t.groups {
		for _, e := range g.stood {
			if _, ok := contents[content{e.pfx, e.table}]; e.to == nil && ok {
				n++
			}
		}
	}
	return n
}
