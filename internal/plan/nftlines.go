package plan

import (
	"fmt"
	"slices"

	"github.com/viarule/viarule/internal/netstate"
)

// NftLine is a line that a table of nftables has more, or less, than before.
type NftLine struct {
	Verb  netstate.Verb // Add or Delete; Replace for what only has lines that differ
	Where string        // the map or chain that it is in
	Text  string        // in nft's notation; empty: the map or chain itself
}

// maxElems is how many new, and old, elements of a map are told. People read a
// few; there may be a thousand.
const maxElems = 20

// NftLines says what the op changes in its table: of each map and chain that
// differs a line without text, and behind it those of its lines that come or go.
// A map's elements beyond the first twenty are counted only.
func (op *Op) NftLines() []NftLine {
	var before, after netstate.NftTable
	if op.BeforeNft != nil {
		before = *op.BeforeNft
	}
	if op.Verb != netstate.Delete {
		after = *op.Nft
	}
	var d nftLines
	if before.Unknown != after.Unknown {
		d.part(netstate.Replace, "what viarule does not know")
		d.lines(netstate.Delete, nonEmpty(before.Unknown))
		d.lines(netstate.Add, nonEmpty(after.Unknown))
	}
	pairs(before.Maps, after.Maps, func(m *netstate.NftMap) string { return m.Name }, d.mapChange)
	pairs(before.Chains, after.Chains, func(c *netstate.NftChain) string { return c.Name }, d.chainChange)
	return d.list
}

// pairs calls f for each name in the two sorted lists, with nil where one has none.
func pairs[T any](before, after []T, name func(*T) string, f func(before, after *T)) {
	for len(before) > 0 || len(after) > 0 {
		switch {
		case len(after) == 0 || len(before) > 0 && name(&before[0]) < name(&after[0]):
			f(&before[0], nil)
			before = before[1:]
		case len(before) == 0 || name(&after[0]) < name(&before[0]):
			f(nil, &after[0])
			after = after[1:]
		default:
			f(&before[0], &after[0])
			before, after = before[1:], after[1:]
		}
	}
}

type nftLines struct {
	list  []NftLine
	where string
}

// part begins a map or a chain.
func (d *nftLines) part(verb netstate.Verb, where string) {
	d.where = where
	d.list = append(d.list, NftLine{Verb: verb, Where: where})
}

func (d *nftLines) lines(verb netstate.Verb, texts []string) {
	for _, s := range texts {
		d.list = append(d.list, NftLine{verb, d.where, s})
	}
}

func nonEmpty(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

func (d *nftLines) mapChange(before, after *netstate.NftMap) {
	verb, name, none := netstate.Replace, "", netstate.NftMap{}
	switch {
	case before == nil:
		verb, name, before = netstate.Add, after.Name, &none
	case after == nil:
		verb, name, after = netstate.Delete, before.Name, &none
	case before.Family == after.Family && slices.Equal(before.Elems, after.Elems):
		return
	default:
		name = before.Name
	}
	d.part(verb, "map "+name)
	if before.Family != after.Family {
		d.lines(netstate.Delete, nonEmpty(before.TypeText()))
		d.lines(netstate.Add, nonEmpty(after.TypeText()))
	}
	// Both are sorted, so one walk finds what only one has.
	var gone, come []string
	b, a := before.Elems, after.Elems
	for len(b) > 0 || len(a) > 0 {
		switch {
		case len(a) == 0 || len(b) > 0 && b[0].First.Less(a[0].First):
			gone, b = append(gone, b[0].String()), b[1:]
		case len(b) == 0 || a[0].First.Less(b[0].First):
			come, a = append(come, a[0].String()), a[1:]
		default:
			if a[0] != b[0] {
				gone, come = append(gone, b[0].String()), append(come, a[0].String())
			}
			a, b = a[1:], b[1:]
		}
	}
	d.lines(netstate.Delete, firstOf(gone))
	d.lines(netstate.Add, firstOf(come))
}

// firstOf shortens a long list.
func firstOf(list []string) []string {
	if len(list) <= maxElems {
		return list
	}
	return append(list[:maxElems:maxElems], fmt.Sprintf("... and %d more elements", len(list)-maxElems))
}

func (d *nftLines) chainChange(before, after *netstate.NftChain) {
	verb, name, none := netstate.Replace, "", netstate.NftChain{}
	switch {
	case before == nil:
		verb, name, before = netstate.Add, after.Name, &none
	case after == nil:
		verb, name, after = netstate.Delete, before.Name, &none
	case before.Hook == after.Hook && slices.EqualFunc(before.Rules, after.Rules, sameNftRule):
		return
	default:
		name = before.Name
	}
	d.part(verb, "chain "+name)
	if before.Hook != after.Hook {
		d.lines(netstate.Delete, nonEmpty(before.Hook.String()))
		d.lines(netstate.Add, nonEmpty(after.Hook.String()))
	}
	d.rules(before.Rules, after.Rules)
}

func sameNftRule(a, b netstate.NftRule) bool { return slices.Equal(a, b) }

// rules tells the rules that differ, those of a longest common row left out.
// Chains are short: one rule a network.
func (d *nftLines) rules(before, after []netstate.NftRule) {
	// common[i][j] is the length of that row of before[i:] and after[j:].
	common := make([][]int, len(before)+1)
	for i := range common {
		common[i] = make([]int, len(after)+1)
	}
	for i := len(before) - 1; i >= 0; i-- {
		for j := len(after) - 1; j >= 0; j-- {
			if sameNftRule(before[i], after[j]) {
				common[i][j] = 1 + common[i+1][j+1]
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	i, j := 0, 0
	for i < len(before) || j < len(after) {
		switch {
		case i < len(before) && j < len(after) && sameNftRule(before[i], after[j]):
			i, j = i+1, j+1
		case j == len(after) || i < len(before) && common[i+1][j] >= common[i][j+1]:
			d.lines(netstate.Delete, []string{before[i].String()})
			i++
		default:
			d.lines(netstate.Add, []string{after[j].String()})
			j++
		}
	}
}
