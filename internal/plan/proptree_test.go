package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/viarule/viarule/internal/desired"
	"github.com/viarule/viarule/internal/netstate"
)

// treeWant is what the tests of trees ask for: a run of sources, compiled or not,
// among plain rules.
type treeWant struct {
	family   netstate.Family
	compiled bool
	gate     uint32
	leafMax  int
	sources  []netstate.Rule // the user's rules, without priority
	plain    []netstate.Rule
}

const treeSlots = 8 // a region is split at most three times

// want builds the tree as desired does, with priorities that hang on the place in
// the tree only: a group for each region, where its leftmost leaf is.
func (w *treeWant) want() desired.Want {
	var out desired.Want
	add := func(priority uint32, r netstate.Rule) {
		r.Family, r.Priority, r.Protocol = w.family, priority, netstate.ProtocolObject
		out.Rules = append(out.Rules, desired.Rule{Rule: r, Compiled: r.Action != netstate.ToTable})
	}
	for _, r := range w.plain {
		add(r.Priority, r)
	}
	if !w.compiled {
		for i, r := range w.sources {
			add(w.gate+2+uint32(i), r)
		}
	} else if len(w.sources) > 0 {
		end := w.gate + 2 + treeSlots
		out.Trees = []desired.Tree{{Family: w.family, Gate: w.gate, End: end, Rules: len(w.sources)}}
		all := sourceRegion(w.family)
		add(w.gate+1, netstate.Rule{Not: true, From: all, Action: netstate.Goto, Goto: end})
		w.region(all, all, 0, treeSlots, end, add)
		add(end, netstate.Rule{Action: netstate.Nop})
	}
	slices.SortStableFunc(out.Rules, func(a, b desired.Rule) int { return int(a.Priority) - int(b.Priority) })
	return out
}

// region adds the group of a region and those to its right. in is where packets
// that come to the group are from.
func (w *treeWant) region(reg, in netip.Prefix, slot, slots int, end uint32, add func(uint32, netstate.Rule)) {
	priority := w.gate + 2 + uint32(slot)
	for slots > 1 && len(w.covering(reg)) > w.leafMax {
		left, right := halves(reg)
		slots /= 2
		if len(w.covering(right)) > 0 {
			add(priority, netstate.Rule{From: right, Action: netstate.Goto, Goto: priority + uint32(slots)})
			w.region(right, right, slot+slots, slots, end, add)
			if in == reg {
				in = left
			}
		}
		reg = left
	}
	for _, r := range w.covering(reg) {
		add(priority, r)
	}
	e := netstate.Rule{Action: netstate.Goto, Goto: end, From: in}
	add(priority, e)
}

func (w *treeWant) covering(reg netip.Prefix) []netstate.Rule {
	return slices.DeleteFunc(slices.Clone(w.sources), func(r netstate.Rule) bool { return !r.From.Overlaps(reg) })
}

// sourceRegion is where all sources of the tests are: eight subnets.
func sourceRegion(f netstate.Family) netip.Prefix {
	if f == netstate.IPv6 {
		return netip.MustParsePrefix("2001:db8::/37")
	}
	return netip.MustParsePrefix("10.0.0.0/13")
}

func halves(p netip.Prefix) (left, right netip.Prefix) {
	bits := p.Bits() + 1
	b := p.Addr().AsSlice()
	b[(bits-1)/8] |= 0x80 >> ((bits - 1) % 8)
	a, _ := netip.AddrFromSlice(b)
	return netip.PrefixFrom(p.Addr(), bits), netip.PrefixFrom(a, bits)
}

// subnet is the nth eighth of the region.
func subnet(f netstate.Family, n int) netip.Prefix {
	p := sourceRegion(f)
	for i := range 3 {
		left, right := halves(p)
		if p = left; n>>(2-i)&1 == 1 {
			p = right
		}
	}
	return p
}

func source(f netstate.Family, net, host int) netip.Addr {
	a := subnet(f, net).Addr().AsSlice()
	a[len(a)-1] = byte(host)
	out, _ := netip.AddrFromSlice(a)
	return out
}

func drawSource(t *rapid.T, f netstate.Family) netstate.Rule {
	a := source(f, rapid.IntRange(0, 7).Draw(t, "net"), rapid.IntRange(1, 3).Draw(t, "host"))
	p := shorter(a, 0)
	if rapid.IntRange(0, 5).Draw(t, "wide") == 0 {
		p, _ = a.Prefix(sourceRegion(f).Bits() + rapid.IntRange(1, 3).Draw(t, "bits"))
	}
	return netstate.Rule{From: p, Action: netstate.ToTable, Table: rapid.Uint32Range(5007, 5009).Draw(t, "table")}
}

func treeProbes(f netstate.Family) []packet {
	var ps []packet
	to := netip.MustParseAddr("192.0.2.1")
	outside := netip.MustParseAddr("172.16.0.1")
	if f == netstate.IPv6 {
		to, outside = netip.MustParseAddr("2001:db8:ffff::1"), netip.MustParseAddr("fd00::1")
	}
	for net := range 8 {
		for host := range 4 {
			ps = append(ps, packet{source(f, net, host), to})
		}
	}
	return append(ps, packet{outside, to})
}

// compact drops repeated sources: an equal selector twice is never wanted.
func compact(rules []netstate.Rule) []netstate.Rule {
	seen := map[netip.Prefix]bool{}
	return slices.DeleteFunc(rules, func(r netstate.Rule) bool {
		was := seen[r.From]
		seen[r.From] = true
		return was
	})
}

// change draws what a user wants next: a source more or less, another shape,
// another span, a plain list, or nothing.
func (w treeWant) change(t *rapid.T) treeWant {
	w.sources = slices.Clone(w.sources)
	switch rapid.IntRange(0, 6).Draw(t, "change") {
	case 0, 1:
		at := rapid.IntRange(0, len(w.sources)).Draw(t, "at")
		w.sources = compact(slices.Insert(w.sources, at, drawSource(t, w.family)))
	case 2:
		if len(w.sources) > 0 {
			at := rapid.IntRange(0, len(w.sources)-1).Draw(t, "at")
			w.sources = slices.Delete(w.sources, at, at+1)
		}
	case 3:
		w.leafMax = rapid.IntRange(1, 5).Draw(t, "leaf")
	case 4:
		w.gate = 2210 + 2230 - w.gate
		for range 3 {
			w.sources = compact(append(w.sources, drawSource(t, w.family)))
		}
	case 5:
		if w.gate == 2210 { // a list beside the tree, not in its place
			w.compiled, w.gate = !w.compiled, 2230
		} else {
			w.compiled, w.gate = !w.compiled, 2210
		}
	case 6:
		w.sources = nil
	}
	return w
}

func TestRandomTrees(t *testing.T) {
	counts := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		f := rapid.SampledFrom(netstate.Families[:]).Draw(t, "family")
		k := newKernel(netstate.State{}, nil)
		probes := treeProbes(f)
		for _, r := range []netstate.Rule{
			{Priority: 100, From: shorter(source(f, 1, 1), 0), Table: 7},
			{Priority: 2225, From: subnet(f, 2), Table: 8, Unknown: "\x01"}, // between the two spans
			{Priority: 2210, From: shorter(source(f, 3, 1), 0), Table: 9},
			{Priority: 32766, Table: 254},
		} {
			r.Family, r.Protocol, r.Action = f, 4, netstate.ToTable
			if rapid.Bool().Draw(t, "foreign") {
				if err := k.addRule(r); err != nil {
					t.Fatal(err)
				}
			}
		}
		w := treeWant{family: f, compiled: true, gate: 2210, leafMax: rapid.IntRange(1, 5).Draw(t, "leaf")}
		for range rapid.IntRange(1, 10).Draw(t, "sources") {
			w.sources = append(w.sources, drawSource(t, f))
		}
		w.sources = compact(w.sources)
		if rapid.Bool().Draw(t, "plain") {
			w.plain = []netstate.Rule{{Priority: 2205, From: shorter(source(f, 4, 1), 0), Action: netstate.ToTable, Table: 5007}}
		}
		old := desired.Want{}
		for range rapid.IntRange(1, 4).Draw(t, "changes") {
			want := w.want()
			counts[checkTree(t, k, old, want, probes)]++
			old, w = want, w.change(t)
		}
	})
	t.Log(counts)
}

// checkTree changes the tree and looks at every moment: at the plan, and at the
// plans that begin where it was cut off, to the end and back. It says how the
// tree was changed.
func checkTree(t *rapid.T, k *kernel, old, want desired.Want, probes []packet) string {
	rec := union(old, want)
	start := k.clone()
	p := Diff(input(k, want, rec, false))
	for range min(2, len(p.Ops)) {
		n := rapid.IntRange(0, len(p.Ops)-1).Draw(t, "killed after")
		for _, next := range []desired.Want{want, old} {
			half := start.clone()
			for i := range p.Ops[:n] {
				if err := half.apply(&p.Ops[i].Change); err != nil {
					t.Fatal(err)
				}
			}
			checkRun(t, half, next, rec, false, probes)
		}
	}
	checkRun(t, k, want, rec, false, probes)
	switch {
	case closesUsed(&p, start):
		return "gated in use"
	case len(p.Conflicts) > 0:
		return "conflict"
	case len(p.Ops) == 0:
		return "nothing"
	case slices.ContainsFunc(p.Ops, func(op Op) bool { return strings.HasPrefix(op.Reason, "gate: the tree is complete") }):
		return "built"
	case slices.ContainsFunc(p.Ops, func(op Op) bool { return strings.HasPrefix(op.Reason, "gate: the tree goes") }):
		return "removed"
	case slices.ContainsFunc(p.Ops, func(op Op) bool { return op.Compiled }):
		return fmt.Sprint("in place, split or merged: ", slices.ContainsFunc(p.Ops, func(op Op) bool {
			return op.Compiled && op.Rule.Action == netstate.Goto && op.Reason != "order among equal priorities" && op.Verb == netstate.Add
		}))
	}
	return "plain"
}

// closesUsed says whether the plan closes a tree that was in use and is wanted.
func closesUsed(p *Plan, k *kernel) bool {
	for i := range p.Ops {
		op := &p.Ops[i]
		if op.Reason != "gate: the tree is not complete" {
			continue
		}
		if slices.ContainsFunc(k.rules, func(r netstate.Rule) bool {
			return ours(r.Protocol) && r.Priority > op.Rule.Priority && r.Priority < op.Rule.Goto
		}) {
			return true
		}
	}
	return false
}
