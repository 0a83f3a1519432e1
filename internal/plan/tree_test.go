package plan

import "testing"

// A tree as desired makes them: its gate is 2210, the first group turns away what
// is outside of 10.0.0.0/8, two leaves share it between them, 2290 is the end.
const tree = `
	rule 2211 not from 10.0.0.0/8 goto 2290 proto 118
	rule 2212 from 10.128.0.0/9 goto 2213 proto 118
	rule 2212 from 10.1.0.1 table 5001 proto 118
	rule 2212 from 10.1.0.2 table 5002 proto 118
	rule 2212 from 10.0.0.0/9 goto 2290 proto 118
	rule 2213 from 10.200.0.1 table 5001 proto 118
	rule 2213 from 10.128.0.0/9 goto 2290 proto 118
	rule 2290 from all nop proto 118
`

const wantTree = "tree 2210 2290 3\n" + tree

func TestDiffTrees(t *testing.T) {
	runDiff(t, []diffTest{{
		name: "a tree stands: nothing to do",
		have: tree,
		want: wantTree,
	}, {
		name: "a new tree is built downward behind its gate",
		want: wantTree,
		plan: `+ rule 2290 from all nop proto 118 # new (9)
		       + rule 2210 from all goto 2290 proto 118 # gate: the tree is not complete (1)
		       + rule 2213 from 10.200.0.1 table 5001 proto 118 # new (7)
		       + rule 2213 from 10.128.0.0/9 goto 2290 proto 118 # new (8)
		       + rule 2212 from 10.128.0.0/9 goto 2213 proto 118 # new (3)
		       + rule 2212 from 10.1.0.1 table 5001 proto 118 # new (4)
		       + rule 2212 from 10.1.0.2 table 5002 proto 118 # new (5)
		       + rule 2212 from 10.0.0.0/9 goto 2290 proto 118 # new (6)
		       + rule 2211 not from 10.0.0.0/8 goto 2290 proto 118 # new (2)
		       - rule 2210 from all goto 2290 proto 118 # gate: the tree is complete (1)`,
	}, {
		name: "a half-built tree is completed behind the gate that stands",
		have: `rule 2210 from all goto 2290 proto 118
		       rule 2212 from 10.128.0.0/9 goto 2213 proto 118
		       rule 2212 from 10.9.9.9 table 5001 proto 118
		       rule 2213 from 10.200.0.1 table 5001 proto 118
		       rule 2213 from 10.128.0.0/9 goto 2290 proto 118
		       rule 2290 from all nop proto 118`,
		old:  "rule 2212 from 10.9.9.9 table 5001 proto 118",
		want: wantTree,
		plan: `+ rule 2212 from 10.1.0.1 table 5001 proto 118 # new (4)
		       + rule 2212 from 10.1.0.2 table 5002 proto 118 # new (5)
		       + rule 2212 from 10.0.0.0/9 goto 2290 proto 118 # new (6)
		       + rule 2211 not from 10.0.0.0/8 goto 2290 proto 118 # new (2)
		       - rule 2212 from 10.9.9.9 table 5001 proto 118 # not wanted any more
		       - rule 2210 from all goto 2290 proto 118 # gate: the tree is complete (1)`,
	}, {
		name: "a tree that is complete but for its gate",
		have: tree + "rule 2210 from all goto 2290 proto 118",
		want: wantTree,
		plan: "- rule 2210 from all goto 2290 proto 118 # gate: the tree is complete (1)",
	}, {
		name: "one policy more in a leaf is three ops without a gate",
		have: tree,
		old:  tree,
		want: `tree 2210 2290 4
		       rule 2211 not from 10.0.0.0/8 goto 2290 proto 118
		       rule 2212 from 10.128.0.0/9 goto 2213 proto 118
		       rule 2212 from 10.1.0.1 table 5001 proto 118
		       rule 2212 from 10.1.0.2 table 5002 proto 118
		       rule 2212 from 10.1.0.3 table 5002 proto 118
		       rule 2212 from 10.0.0.0/9 goto 2290 proto 118
		       rule 2213 from 10.200.0.1 table 5001 proto 118
		       rule 2213 from 10.128.0.0/9 goto 2290 proto 118
		       rule 2290 from all nop proto 118`,
		plan: `+ rule 2212 from 10.1.0.3 table 5002 proto 118 # new (6)
		       + rule 2212 from 10.0.0.0/9 goto 2290 proto 118 # order among equal priorities (7)
		       - rule 2212 from 10.0.0.0/9 goto 2290 proto 118 # another copy stands in its place`,
	}, {
		name: "one policy less in a leaf is one op",
		have: tree,
		old:  tree,
		want: `tree 2210 2290 2
		       rule 2211 not from 10.0.0.0/8 goto 2290 proto 118
		       rule 2212 from 10.128.0.0/9 goto 2213 proto 118
		       rule 2212 from 10.1.0.2 table 5002 proto 118
		       rule 2212 from 10.0.0.0/9 goto 2290 proto 118
		       rule 2213 from 10.200.0.1 table 5001 proto 118
		       rule 2213 from 10.128.0.0/9 goto 2290 proto 118
		       rule 2290 from all nop proto 118`,
		plan: "- rule 2212 from 10.1.0.1 table 5001 proto 118 # not wanted any more",
	}, {
		name: "a leaf splits in place: the new leaf first, the goto to it, then the old copies from the back",
		have: tree,
		old:  tree,
		want: `tree 2210 2290 3
		       rule 2211 not from 10.0.0.0/8 goto 2290 proto 118
		       rule 2212 from 10.128.0.0/9 goto 2213 proto 118
		       rule 2212 from 10.1.0.2/31 goto 2214 proto 118
		       rule 2212 from 10.1.0.1 table 5001 proto 118
		       rule 2212 from 10.0.0.0/9 goto 2290 proto 118
		       rule 2213 from 10.200.0.1 table 5001 proto 118
		       rule 2213 from 10.128.0.0/9 goto 2290 proto 118
		       rule 2214 from 10.1.0.2 table 5002 proto 118
		       rule 2214 from 10.1.0.2/31 goto 2290 proto 118
		       rule 2290 from all nop proto 118`,
		plan: `+ rule 2214 from 10.1.0.2 table 5002 proto 118 # moved from priority 2212 (9)
		       + rule 2214 from 10.1.0.2/31 goto 2290 proto 118 # new (10)
		       + rule 2212 from 10.1.0.2/31 goto 2214 proto 118 # new (4)
		       + rule 2212 from 10.1.0.1 table 5001 proto 118 # order among equal priorities (5)
		       + rule 2212 from 10.0.0.0/9 goto 2290 proto 118 # order among equal priorities (6)
		       - rule 2212 from 10.0.0.0/9 goto 2290 proto 118 # another copy stands in its place
		       - rule 2212 from 10.1.0.2 table 5002 proto 118 # moved to priority 2214
		       - rule 2212 from 10.1.0.1 table 5001 proto 118 # another copy stands in its place`,
	}, {
		name: "a leaf that ends in `from all` behind a goto cannot be changed in place: behind the gate",
		have: `rule 2211 from 10.128.0.0/9 goto 2212 proto 118
		       rule 2211 from 10.1.0.1 table 5001 proto 118
		       rule 2211 from all goto 2290 proto 118
		       rule 2212 from 10.200.0.1 table 5001 proto 118
		       rule 2212 from all goto 2290 proto 118
		       rule 2290 from all nop proto 118`,
		want: `tree 2210 2290 3
		       rule 2211 from 10.128.0.0/9 goto 2212 proto 118
		       rule 2211 from 10.1.0.1 table 5001 proto 118
		       rule 2211 from 10.1.0.2 table 5001 proto 118
		       rule 2211 from all goto 2290 proto 118
		       rule 2212 from 10.200.0.1 table 5001 proto 118
		       rule 2212 from all goto 2290 proto 118
		       rule 2290 from all nop proto 118`,
		plan: `+ rule 2210 from all goto 2290 proto 118 # gate: the tree is not complete (1)
		       + rule 2211 from 10.128.0.0/9 goto 2212 proto 118 # order among equal priorities (2)
		       + rule 2211 from 10.1.0.1 table 5001 proto 118 # order among equal priorities (3)
		       + rule 2211 from 10.1.0.2 table 5001 proto 118 # new (4)
		       + rule 2211 from all goto 2290 proto 118 # order among equal priorities (5)
		       - rule 2211 from 10.1.0.1 table 5001 proto 118 # another copy stands in its place
		       - rule 2211 from 10.128.0.0/9 goto 2212 proto 118 # another copy stands in its place
		       - rule 2211 from all goto 2290 proto 118 # another copy stands in its place
		       - rule 2210 from all goto 2290 proto 118 # gate: the tree is complete (1)`,
	}, {
		name: "a tree goes behind a gate, which goes before what it jumps to",
		have: tree,
		old:  tree,
		plan: `+ rule 2210 from all goto 2290 proto 118 # gate: the tree goes
		       - rule 2211 not from 10.0.0.0/8 goto 2290 proto 118 # not wanted any more
		       - rule 2212 from 10.128.0.0/9 goto 2213 proto 118 # not wanted any more
		       - rule 2212 from 10.1.0.1 table 5001 proto 118 # not wanted any more
		       - rule 2212 from 10.1.0.2 table 5002 proto 118 # not wanted any more
		       - rule 2212 from 10.0.0.0/9 goto 2290 proto 118 # not wanted any more
		       - rule 2213 from 10.200.0.1 table 5001 proto 118 # not wanted any more
		       - rule 2213 from 10.128.0.0/9 goto 2290 proto 118 # not wanted any more
		       - rule 2210 from all goto 2290 proto 118 # gate: the tree is gone
		       - rule 2290 from all nop proto 118 # not wanted any more`,
	}, {
		name: "a tree with something else in it goes without a gate, which would lead past that",
		have: tree + "rule 2250 from 10.9.0.0/16 table 7 proto static",
		old:  tree,
		plan: `- rule 2211 not from 10.0.0.0/8 goto 2290 proto 118 # not wanted any more
		       - rule 2212 from 10.0.0.0/9 goto 2290 proto 118 # not wanted any more
		       - rule 2212 from 10.1.0.2 table 5002 proto 118 # not wanted any more
		       - rule 2212 from 10.1.0.1 table 5001 proto 118 # not wanted any more
		       - rule 2212 from 10.128.0.0/9 goto 2213 proto 118 # not wanted any more
		       - rule 2213 from 10.128.0.0/9 goto 2290 proto 118 # not wanted any more
		       - rule 2213 from 10.200.0.1 table 5001 proto 118 # not wanted any more
		       - rule 2290 from all nop proto 118 # not wanted any more`,
	}, {
		name: "a tree that was half removed goes on",
		have: `rule 2210 from all goto 2290 proto 118
		       rule 2213 from 10.200.0.1 table 5001 proto 118
		       rule 2213 from 10.128.0.0/9 goto 2290 proto 118
		       rule 2290 from all nop proto 118`,
		old: tree,
		plan: `- rule 2213 from 10.200.0.1 table 5001 proto 118 # not wanted any more
		       - rule 2213 from 10.128.0.0/9 goto 2290 proto 118 # not wanted any more
		       - rule 2210 from all goto 2290 proto 118 # gate: the tree is gone
		       - rule 2290 from all nop proto 118 # not wanted any more`,
	}, {
		name: "an old span gives way to a new one: both stand for a moment",
		have: `rule -6 2210 from 2001:db8::1 table 5001 proto 118
		       rule -6 2210 from 2001:db8::2 table 5001 proto 118
		       rule -6 2210 from all goto 2211 proto 118
		       rule -6 2211 from all nop proto 118`,
		old: `rule -6 2210 from 2001:db8::1 table 5001 proto 118
		       rule -6 2210 from 2001:db8::2 table 5001 proto 118
		       rule -6 2210 from all goto 2211 proto 118
		       rule -6 2211 from all nop proto 118`,
		want: `tree -6 2220 2222 2
		       rule -6 2221 from 2001:db8::1 table 5001 proto 118
		       rule -6 2221 from 2001:db8::3 table 5001 proto 118
		       rule -6 2221 from all goto 2222 proto 118
		       rule -6 2222 from all nop proto 118`,
		plan: `+ rule -6 2222 from all nop proto 118 # moved from priority 2211 (5)
		       + rule -6 2220 from all goto 2222 proto 118 # gate: the tree is not complete (1)
		       + rule -6 2221 from 2001:db8::1 table 5001 proto 118 # moved from priority 2210 (2)
		       + rule -6 2221 from 2001:db8::3 table 5001 proto 118 # new (3)
		       + rule -6 2221 from all goto 2222 proto 118 # new (4)
		       - rule -6 2220 from all goto 2222 proto 118 # gate: the tree is complete (1)
		       + rule -6 2209 from all goto 2211 proto 118 # gate: the tree goes
		       - rule -6 2210 from 2001:db8::1 table 5001 proto 118 # moved to priority 2221
		       - rule -6 2210 from 2001:db8::2 table 5001 proto 118 # not wanted any more
		       - rule -6 2210 from all goto 2211 proto 118 # not wanted any more
		       - rule -6 2209 from all goto 2211 proto 118 # gate: the tree is gone
		       - rule -6 2211 from all nop proto 118 # moved to priority 2222`,
	}, {
		name: "a foreign rule between a tree's rules is a conflict, and nothing of the tree changes",
		have: "rule 2250 from 10.1.0.1 table 7 proto static",
		want: wantTree,
		plan: "conflict rule 2250 from 10.1.0.1 table 7 proto 4 # it stands between the rules of a tree, which packets jump over (1)",
	}})
}
