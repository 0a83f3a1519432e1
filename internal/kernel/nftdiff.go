package kernel

import (
	"slices"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/netstate"
)

// edits says whether the table can be edited until it is want: viarule knows all
// that is in it, and what has a name in both is of one kind.
func (r *nftReading) edits(want *netstate.NftTable) bool {
	if r.foreign || r.table.Unknown != "" {
		return false
	}
	for i := range want.Chains {
		if c := chainOf(&r.table, want.Chains[i].Name); c != nil && c.Hook != want.Chains[i].Hook {
			return false
		}
	}
	for i := range want.Maps {
		if m := mapOf(&r.table, want.Maps[i].Name); m != nil && m.Family != want.Maps[i].Family {
			return false
		}
	}
	return true
}

func chainOf(t *netstate.NftTable, name string) *netstate.NftChain {
	if i := slices.IndexFunc(t.Chains, func(c netstate.NftChain) bool { return c.Name == name }); i >= 0 {
		return &t.Chains[i]
	}
	return nil
}

func mapOf(t *netstate.NftTable, name string) *netstate.NftMap {
	if i := slices.IndexFunc(t.Maps, func(m netstate.NftMap) bool { return m.Name == name }); i >= 0 {
		return &t.Maps[i]
	}
	return nil
}

// difference turns one table into the other. What is named comes before what
// names it, and goes after it: chains are made, then maps and elements; rules are
// taken off, then elements, maps and chains. A chain whose rules differ is written
// anew as a whole: its packets see the old rules or the new ones, since the kernel
// keeps both until the commit.
func (m *nftBatch) difference(from, to *netstate.NftTable) error {
	for i := range to.Chains {
		if chainOf(from, to.Chains[i].Name) == nil {
			if err := m.chain(to.Name, &to.Chains[i]); err != nil {
				return err
			}
		}
	}
	var rewritten []*netstate.NftChain
	for i := range to.Chains {
		c, old := &to.Chains[i], chainOf(from, to.Chains[i].Name)
		if old != nil && slices.EqualFunc(old.Rules, c.Rules, equalRules) {
			continue
		}
		rewritten = append(rewritten, c)
		if old != nil && len(old.Rules) > 0 {
			m.flush(to.Name, c.Name)
		}
	}
	for i := range from.Chains {
		if c := &from.Chains[i]; chainOf(to, c.Name) == nil && len(c.Rules) > 0 {
			m.flush(to.Name, c.Name)
		}
	}
	if err := m.mapsDifference(from, to); err != nil {
		return err
	}
	for _, c := range rewritten {
		for _, r := range c.Rules {
			if err := m.rule(to.Name, c.Name, r); err != nil {
				return err
			}
		}
	}
	for i := range from.Chains {
		if name := from.Chains[i].Name; chainOf(to, name) == nil {
			m.add(unix.NFT_MSG_DELCHAIN, 0)
			m.b = putString(putString(m.b, unix.NFTA_CHAIN_TABLE, to.Name), unix.NFTA_CHAIN_NAME, name)
			m.close()
		}
	}
	return nil
}

func equalRules(a, b netstate.NftRule) bool { return slices.Equal(a, b) }

// flush takes all rules off a chain.
func (m *nftBatch) flush(table, chain string) {
	m.add(unix.NFT_MSG_DELRULE, 0)
	m.b = putString(putString(m.b, unix.NFTA_RULE_TABLE, table), unix.NFTA_RULE_CHAIN, chain)
	m.close()
}

func (m *nftBatch) mapsDifference(from, to *netstate.NftTable) error {
	for i := range to.Maps {
		s, old := &to.Maps[i], mapOf(from, to.Maps[i].Name)
		if old == nil {
			if err := m.set(to.Name, s); err != nil {
				return err
			}
			continue
		}
		// What goes, first: the kernel compares what comes with what is left.
		if err := m.elements(unix.NFT_MSG_DELSETELEM, to.Name, old, without(old.Elems, s.Elems), 0); err != nil {
			return err
		}
		if err := m.elements(unix.NFT_MSG_NEWSETELEM, to.Name, s, without(s.Elems, old.Elems), 0); err != nil {
			return err
		}
	}
	for i := range from.Maps {
		if name := from.Maps[i].Name; mapOf(to, name) == nil {
			m.add(unix.NFT_MSG_DELSET, 0)
			m.b = putString(putString(m.b, unix.NFTA_SET_TABLE, to.Name), unix.NFTA_SET_NAME, name)
			m.close()
		}
	}
	return nil
}

// without gives the elements that are in a and not in b.
func without(a, b []netstate.NftElem) []netstate.NftElem {
	in := make(map[netstate.NftElem]bool, len(b))
	for _, e := range b {
		in[e] = true
	}
	var out []netstate.NftElem
	for _, e := range a {
		if !in[e] {
			out = append(out, e)
		}
	}
	return out
}
