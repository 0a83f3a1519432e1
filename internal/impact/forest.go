package impact

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/viarule/viarule/internal/netstate"
)

// forest is the tree of all prefixes of a family that matter. What a node holds
// itself is its prefix without the prefixes below it.
type forest struct {
	nodes []node // a node stands before those below it; the first is the whole family
}

type node struct {
	netip.Prefix
	parent int32 // -1: none
	end    int32 // behind the last node below it
	kind   int32 // index into kinds; dead: it holds no address
}

const dead = -1

func newForest(f netstate.Family, cuts []netip.Prefix) *forest {
	cuts = append(cuts, f.Default())
	slices.SortFunc(cuts, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	cuts = slices.Compact(cuts)
	t := &forest{nodes: make([]node, len(cuts))}
	var open []int32
	for i, p := range cuts {
		for len(open) > 0 && !t.nodes[open[len(open)-1]].Contains(p.Addr()) {
			t.nodes[open[len(open)-1]].end = int32(i)
			open = open[:len(open)-1]
		}
		parent := int32(-1)
		if len(open) > 0 {
			parent = open[len(open)-1]
		}
		t.nodes[i] = node{Prefix: p, parent: parent, kind: dead}
		open = append(open, int32(i))
	}
	for _, i := range open {
		t.nodes[i].end = int32(len(cuts))
	}
	return t
}

// find gives the node that holds an address of the family itself.
func (t *forest) find(a netip.Addr) int32 {
	n, _ := slices.BinarySearchFunc(t.nodes, a, func(n node, a netip.Addr) int {
		if n.Addr().Compare(a) <= 0 {
			return -1
		}
		return 1
	})
	i := int32(n - 1)
	for i > 0 && !t.nodes[i].Contains(a) {
		i = t.nodes[i].parent
	}
	return i
}

// free gives the first address from a on that node i holds itself.
func (t *forest) free(i int32, a netip.Addr) (netip.Addr, bool) {
	for j := i + 1; j < t.nodes[i].end; j = t.nodes[j].end {
		last := netstate.LastOf(t.nodes[j].Prefix)
		if last.Less(a) {
			continue
		}
		if a.Less(t.nodes[j].Addr()) {
			return a, true
		}
		if a = last.Next(); !a.IsValid() {
			return a, false
		}
	}
	return a, a.IsValid() && t.nodes[i].Contains(a)
}

// examples gives two addresses that node i holds itself, the same one twice where it
// holds no more; ok is false where it holds none.
func (t *forest) examples(i int32) (a, b netip.Addr, ok bool) {
	first := t.nodes[i].Addr()
	if t.nodes[i].Bits() < first.BitLen()-1 {
		a, ok = t.free(i, first.Next()) // the first one is the network's own
	}
	if !ok {
		if a, ok = t.free(i, first); !ok {
			return a, b, false
		}
	}
	if next := a.Next(); next.IsValid() {
		if b, ok = t.free(i, next); ok {
			return a, b, true
		}
	}
	return a, a, true
}

// prefixesOf gives the prefixes that make up a range of addresses.
func prefixesOf(first, last netip.Addr) []netip.Prefix {
	var out []netip.Prefix
	for first.IsValid() && !last.Less(first) {
		bits := first.BitLen()
		for bits > 0 {
			p, _ := first.Prefix(bits - 1)
			if p.Addr() != first || last.Less(netstate.LastOf(p)) {
				break
			}
			bits--
		}
		p := netip.PrefixFrom(first, bits)
		out = append(out, p)
		first = netstate.LastOf(p).Next()
	}
	return out
}

// describe gives the nodes at which some kinds begin, and below them the nodes at
// which they end. The longest prefix that holds an address counts.
func (t *forest) describe(in func(kind int) bool) (begin, end []int) {
	// What a node that holds nothing itself is said to be depends on those below it.
	all, none := make([]bool, len(t.nodes)), make([]bool, len(t.nodes))
	for i := len(t.nodes) - 1; i >= 0; i-- {
		n := &t.nodes[i]
		all[i], none[i] = true, true
		if n.kind != dead {
			all[i] = in(int(n.kind))
			none[i] = !all[i]
		}
		for j := int32(i) + 1; j < n.end; j = t.nodes[j].end {
			all[i], none[i] = all[i] && all[j], none[i] && none[j]
		}
	}
	state := make([]bool, len(t.nodes))
	for i := range t.nodes {
		n := &t.nodes[i]
		above := n.parent >= 0 && state[n.parent]
		state[i] = above
		if n.kind != dead {
			state[i] = in(int(n.kind))
		} else if all[i] != none[i] {
			state[i] = all[i]
		}
		switch {
		case state[i] && !above:
			begin = append(begin, i)
		case above && !state[i]:
			end = append(end, i)
		}
	}
	return begin, end
}
