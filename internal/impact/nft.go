package impact

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/viarule/viarule/internal/netstate"
)

// nftView is viarule's own nftables, in one world.
type nftView struct {
	chains  map[string]*netstate.NftChain
	maps    map[string]*netstate.NftMap
	content map[string]string // of chains, with what they jump to
	base    []baseRule        // rules of base chains, in the order in which packets meet them
}

type baseRule struct {
	hook    string
	nat     bool // of a chain that only a connection's first packet meets
	rule    netstate.NftRule
	content string // with the hook, and with what it jumps to
}

var hookOrder = map[string]int{"prerouting": 0, "input": 1, "forward": 2, "output": 3, "postrouting": 4}

func newNftView(tables []netstate.NftTable) *nftView {
	v := &nftView{chains: map[string]*netstate.NftChain{}, maps: map[string]*netstate.NftMap{}, content: map[string]string{}}
	var base []*netstate.NftChain
	for i := range tables {
		for j := range tables[i].Chains {
			c := &tables[i].Chains[j]
			v.chains[c.Name] = c
			if c.Hook.Hook != "" {
				base = append(base, c)
			}
		}
		for j := range tables[i].Maps {
			v.maps[tables[i].Maps[j].Name] = &tables[i].Maps[j]
		}
	}
	slices.SortStableFunc(base, func(a, b *netstate.NftChain) int {
		return cmp.Or(cmp.Compare(hookOrder[a.Hook.Hook], hookOrder[b.Hook.Hook]), cmp.Compare(a.Hook.Priority, b.Hook.Priority))
	})
	for _, c := range base {
		for _, r := range c.Rules {
			nat := c.Hook.Type == "nat"
			v.base = append(v.base, baseRule{c.Hook.Hook, nat, r, fmt.Sprintf("%s %t: %s", c.Hook.Hook, nat, v.ruleContent(r, 0))})
		}
	}
	return v
}

// maxJumps is where package sim gives up, as the kernel does.
const maxJumps = 16

// chainContent is what a chain does to packets.
func (v *nftView) chainContent(name string, depth int) string {
	if s, ok := v.content[name]; ok {
		return s
	}
	c := v.chains[name]
	if c == nil || depth > maxJumps {
		return ""
	}
	var b strings.Builder
	for _, r := range c.Rules {
		b.WriteString(v.ruleContent(r, depth) + "\n")
	}
	if depth == 0 {
		v.content[name] = b.String()
	}
	return b.String()
}

func (v *nftView) ruleContent(r netstate.NftRule, depth int) string {
	var b strings.Builder
	for _, s := range r {
		fmt.Fprintf(&b, "%+v", s)
		if s.Op == netstate.NftJump {
			b.WriteString("{" + v.chainContent(s.Name, depth+1) + "}")
		}
	}
	return b.String()
}

// nftTouch says whose packets may meet a difference between two views, beyond those
// to addresses whose map elements differ.
type nftTouch struct {
	all   bool
	links map[string]bool // packets that come in by these
	maps  map[string]bool // packets to, and answers from, any address in these maps
}

func touchOf(a, b *nftView) nftTouch {
	t := nftTouch{links: map[string]bool{}, maps: map[string]bool{}}
	count := map[string]int{}
	for _, r := range a.base {
		count[r.content]++
	}
	for _, r := range b.base {
		count[r.content]--
	}
	same := func(v *nftView) (out []string) {
		for _, r := range v.base {
			if count[r.content] == 0 {
				out = append(out, r.content)
			}
		}
		return out
	}
	if !slices.Equal(same(a), same(b)) {
		t.all = true // other order
	}
	viaMaps := a.ctMarksViaMaps() && b.ctMarksViaMaps()
	for _, v := range []*nftView{a, b} {
		for i := range v.base {
			if r := &v.base[i]; count[r.content] != 0 {
				t.add(v, r, viaMaps)
			}
		}
	}
	return t
}

// add notes whom a rule that only one view has concerns.
func (t *nftTouch) add(v *nftView, r *baseRule, viaMaps bool) {
	if !v.counts(r) {
		return
	}
	if maps, ok := v.onlyMaps(r.rule, 0); ok {
		for _, m := range maps {
			t.maps[m] = true
		}
		return
	}
	link, answers := "", false
	for _, s := range tests(r.rule) {
		switch s.Op {
		case netstate.NftIIFName:
			link = s.Link
		case netstate.NftIfCtMark:
			// Only answers to packets that met a map have such a mark.
			answers = answers || s.Mark.Value != 0
		}
	}
	if viaMaps && (answers || link != "" && !v.does(r.rule, 0, netstate.NftReply, netstate.NftSetCtMark)) {
		for m := range v.maps {
			t.maps[m] = true
		}
		if !answers {
			t.links[link] = true
		}
		return
	}
	t.all = true
}

// counts says whether a rule can have a say in packets' ways. At hooks that see them
// when that is decided, a mark changes nothing any more.
func (v *nftView) counts(r *baseRule) bool {
	late := r.hook == "input" || r.hook == "forward" || r.hook == "postrouting"
	// Masquerading drops what there is no source for; return and goto keep packets
	// from what the chain drops behind them.
	return !late || v.does(r.rule, 0, netstate.NftDrop, netstate.NftMasquerade, netstate.NftReturn, netstate.NftDAddrMap, netstate.NftSAddrMap, netstate.NftOrigMap,
		netstate.NftSetCtMark, netstate.NftFibMissing, netstate.NftUnknown)
}

// does says whether a rule, or a chain that it jumps to, has one of the ops.
func (v *nftView) does(r netstate.NftRule, depth int, ops ...netstate.NftOp) bool {
	for _, s := range r {
		if slices.Contains(ops, s.Op) {
			return true
		}
		if isMap(s.Op) && depth <= maxJumps {
			m := v.maps[s.Name]
			for i := 0; m != nil && i < len(m.Elems); i++ {
				if v.chainDoes(m.Elems[i].Chain, depth, ops) {
					return true
				}
			}
		}
		if s.Op == netstate.NftJump && v.chainDoes(s.Name, depth, ops) {
			return true
		}
	}
	return false
}

func (v *nftView) chainDoes(name string, depth int, ops []netstate.NftOp) bool {
	c := v.chains[name]
	return c != nil && depth <= maxJumps && slices.ContainsFunc(c.Rules, func(r netstate.NftRule) bool { return v.does(r, depth+1, ops...) })
}

func isMap(op netstate.NftOp) bool {
	return op == netstate.NftDAddrMap || op == netstate.NftSAddrMap || op == netstate.NftOrigMap
}

// onlyMaps says whether a rule does nothing but look addresses up in maps, and in
// which ones.
func (v *nftView) onlyMaps(r netstate.NftRule, depth int) (maps []string, ok bool) {
	for i, s := range r {
		last := i == len(r)-1
		switch s.Op {
		case netstate.NftDAddrMap, netstate.NftOrigMap:
			return []string{s.Name}, last
		case netstate.NftJump:
			c := v.chains[s.Name]
			if !last || depth > maxJumps {
				return nil, false
			}
			if c == nil {
				return nil, true
			}
			for _, r := range c.Rules {
				more, ok := v.onlyMaps(r, depth+1)
				if !ok {
					return nil, false
				}
				maps = append(maps, more...)
			}
			return maps, true
		default:
			if !isTest(s.Op) {
				return nil, false
			}
		}
	}
	return nil, false
}

// ctMarksViaMaps says whether marks of connections are set in chains only that maps
// lead to.
func (v *nftView) ctMarksViaMaps() bool {
	for i := range v.base {
		r := v.base[i].rule
		if _, ok := v.onlyMaps(r, 0); !ok && v.does(r, 0, netstate.NftSetCtMark) {
			return false
		}
	}
	return true
}

// answersOnly says whether a rule does something to answers only.
func answersOnly(r netstate.NftRule) bool {
	return slices.ContainsFunc(tests(r), func(s netstate.NftStmt) bool { return s.Op == netstate.NftReply })
}

// tests are what a rule asks before it does anything: what it asks later keeps no
// packet from what it has done until then.
func tests(r netstate.NftRule) netstate.NftRule {
	if i := slices.IndexFunc(r, func(s netstate.NftStmt) bool { return !isTest(s.Op) }); i >= 0 {
		return r[:i]
	}
	return r
}

func isTest(op netstate.NftOp) bool {
	switch op {
	case netstate.NftIIFName, netstate.NftNotIIF, netstate.NftOriginal, netstate.NftReply,
		netstate.NftIfCtMark, netstate.NftIfNotCtMark, netstate.NftIfMark, netstate.NftIfNotMark:
		return true
	}
	return false
}

// marks are those of packets that decide about their way, or are set before it is
// decided.
func (v *nftView) marks() []netstate.Mark {
	var out []netstate.Mark
	for _, c := range v.chains {
		for _, r := range c.Rules {
			for _, s := range r {
				switch s.Op {
				case netstate.NftIfMark, netstate.NftIfNotMark, netstate.NftSetMark:
					out = append(out, s.Mark)
				}
			}
		}
	}
	return out
}

// asked is the part of the mark on which the chains that see packets before their way
// is decided, or that drop some, depend.
func (v *nftView) asked() (mask uint32) {
	for _, r := range v.base {
		if v.counts(&r) {
			// A packet made here whose mark changes is routed again: there it matters
			// whether a mark that is set was set already.
			mask |= v.maskOf(&r, r.rule, 0)
		}
	}
	return mask
}

func (v *nftView) maskOf(base *baseRule, r netstate.NftRule, depth int) (mask uint32) {
	chain := func(name string) {
		if c := v.chains[name]; c != nil && depth <= maxJumps {
			for _, r := range c.Rules {
				mask |= v.maskOf(base, r, depth+1)
			}
		}
	}
	for _, s := range r {
		switch s.Op {
		case netstate.NftIfMark, netstate.NftIfNotMark:
			mask |= s.Mark.Mask
		case netstate.NftSetMark:
			if base.hook == "output" && !answersOnly(base.rule) {
				mask |= s.Mark.Mask
			}
		case netstate.NftJump:
			chain(s.Name)
		case netstate.NftDAddrMap, netstate.NftSAddrMap, netstate.NftOrigMap:
			if m := v.maps[s.Name]; m != nil {
				done := map[string]bool{}
				for i := range m.Elems {
					if name := m.Elems[i].Chain; !done[name] {
						done[name] = true
						chain(name)
					}
				}
			}
		}
	}
	return mask
}
