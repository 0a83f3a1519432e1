package plan

import (
	"slices"

	"github.com/viarule/viarule/internal/desired"
	"github.com/viarule/viarule/internal/netstate"
)

// diffNft adds to s what leads from the table of nftables that is there to the
// wanted one. It is ours by its name, whatever it holds, and always written as a
// whole: the kernel swaps it in one step, so that a packet meets all of the old
// table or all of the new one.
func diffNft(p *Plan, s *stages, want *desired.Nft, have []netstate.NftTable, mayDrop bool) {
	there := nftTable(have)
	switch {
	case want != nil && (there == nil || !there.Equal(&want.NftTable)):
		op := Op{Change: netstate.Change{Verb: netstate.Replace, Nft: &want.NftTable}, BeforeNft: there, Reason: "changed", Origins: want.Origins}
		if there == nil {
			op.Reason = "new"
		}
		if len(want.Origins) > 0 {
			op.Origin = want.Origins[0]
		}
		s.add(stageNft, op)
	case want != nil || there == nil:
	case mayDrop:
		s.add(stageNft, Op{Change: netstate.Change{Verb: netstate.Delete, Nft: there}, BeforeNft: there, Reason: "not wanted any more"})
	default:
		p.Orphans = append(p.Orphans, Finding{Nft: there, What: "no record says whose it is"})
	}
}

// nftTable finds the table of objects.
func nftTable(tables []netstate.NftTable) *netstate.NftTable {
	for i := range tables {
		if tables[i].Name == netstate.NftTableObjects {
			return &tables[i]
		}
	}
	return nil
}

// undoNft leads back to the table of a checkpoint. What viarule does not know in
// it (somebody wrote into our table) cannot be written again.
func undoNft(p *Plan, s *stages, was *netstate.NftTable, have []netstate.NftTable) {
	there := nftTable(have)
	if was == nil {
		diffNft(p, s, nil, have, true)
		return
	}
	if there != nil && there.Equal(was) {
		return
	}
	diffNft(p, s, &desired.Nft{NftTable: knownNft(was)}, have, true)
}

// knownNft is a table without what viarule does not know.
func knownNft(t *netstate.NftTable) netstate.NftTable {
	out := *t
	out.Unknown = ""
	out.Chains = slices.Clone(t.Chains)
	for i := range out.Chains {
		out.Chains[i].Rules = slices.DeleteFunc(slices.Clone(out.Chains[i].Rules), func(r netstate.NftRule) bool {
			return slices.ContainsFunc(r, func(s netstate.NftStmt) bool { return s.Op == netstate.NftUnknown })
		})
	}
	return out
}
