package netstatetest

import (
	"fmt"
	"net/netip"
	"slices"

	"pgregory.net/rapid"

	"github.com/viarule/viarule/internal/netstate"
)

// NftTable draws a table as viarule could have made it: maps lead to chains that
// are there, and no chain leads back to one before it.
func NftTable() *rapid.Generator[netstate.NftTable] {
	return rapid.Custom(func(t *rapid.T) netstate.NftTable {
		out := netstate.NftTable{Name: netstate.NftTableObjects}
		var plain []string
		for i := range rapid.IntRange(1, 4).Draw(t, "plain chains") {
			plain = append(plain, fmt.Sprintf("net-%d", i))
		}
		for i, f := range netstate.Families {
			if rapid.Bool().Draw(t, "map") {
				out.Maps = append(out.Maps, netstate.NftMap{Name: fmt.Sprintf("networks%d", 4+2*i), Family: f, Elems: nftElems(t, f, plain)})
			}
		}
		for _, name := range plain {
			out.Chains = append(out.Chains, netstate.NftChain{Name: name, Rules: nftRules(t, nil, nil)})
		}
		for i, h := range []netstate.NftHook{
			{Type: "filter", Hook: "prerouting", Priority: netstate.NftMangle + 1},
			{Type: "route", Hook: "output", Priority: netstate.NftMangle + 1},
			{Type: "filter", Hook: "forward", Priority: rapid.Int32Range(-400, 400).Draw(t, "priority")},
		} {
			if rapid.Bool().Draw(t, "base chain") {
				out.Chains = append(out.Chains, netstate.NftChain{Name: fmt.Sprintf("base%d", i), Hook: h, Rules: nftRules(t, out.Maps, plain)})
			}
		}
		if rapid.Bool().Draw(t, "nat") {
			out.Chains = append(out.Chains, netstate.NftChain{
				Name: "nat", Hook: netstate.NftHook{Type: "nat", Hook: "postrouting", Priority: netstate.NftSrcNAT + rapid.Int32Range(-10, 10).Draw(t, "priority")},
				Rules: append(nftRules(t, out.Maps, plain), netstate.NftRule{{Op: netstate.NftMasquerade}}),
			})
		}
		return netstate.CanonicalNft(out)
	})
}

// nftElems draws intervals that do not overlap; some touch, and some reach the
// ends of the family.
func nftElems(t *rapid.T, f netstate.Family, chains []string) []netstate.NftElem {
	at := func(n uint16) netip.Addr {
		b := make([]byte, f.Bits()/8)
		for i := range b {
			b[i] = byte(n) // far apart, from the first address to the last
		}
		b[0] = byte(n >> 8)
		a, _ := netip.AddrFromSlice(b)
		return a
	}
	var ends []uint16
	for range rapid.IntRange(0, 6).Draw(t, "intervals") * 2 {
		ends = append(ends, rapid.OneOf(rapid.Just(uint16(0)), rapid.Just(uint16(0xffff)), rapid.Uint16()).Draw(t, "end"))
	}
	slices.Sort(ends)
	ends = slices.Compact(ends)
	var out []netstate.NftElem
	for i := 0; i+1 < len(ends); i += 2 {
		e := netstate.NftElem{First: at(ends[i]), Last: at(ends[i+1]), Chain: rapid.SampledFrom(chains).Draw(t, "chain")}
		if len(out) > 0 && rapid.Bool().Draw(t, "touches") {
			e.First = out[len(out)-1].Last.Next()
		}
		out = append(out, e)
	}
	return out
}

func nftRules(t *rapid.T, maps []netstate.NftMap, chains []string) []netstate.NftRule {
	var out []netstate.NftRule
	for range rapid.IntRange(0, 4).Draw(t, "rules") {
		var r netstate.NftRule
		for range rapid.IntRange(1, 4).Draw(t, "statements") {
			r = append(r, nftStmt(t))
		}
		last := netstate.NftStmt{Op: rapid.SampledFrom([]netstate.NftOp{netstate.NftReturn, netstate.NftDrop}).Draw(t, "verdict")}
		switch {
		case len(maps) > 0 && rapid.Bool().Draw(t, "looks up"):
			m := rapid.SampledFrom(maps).Draw(t, "in")
			last = netstate.NftStmt{Op: rapid.SampledFrom([]netstate.NftOp{netstate.NftDAddrMap, netstate.NftSAddrMap, netstate.NftOrigMap}).Draw(t, "by"), Family: m.Family, Name: m.Name}
		case len(chains) > 0 && rapid.Bool().Draw(t, "jumps"):
			last = netstate.NftStmt{Op: netstate.NftJump, Name: rapid.SampledFrom(chains).Draw(t, "to")}
		}
		out = append(out, append(r, last))
	}
	return out
}

func nftStmt(t *rapid.T) netstate.NftStmt {
	s := netstate.NftStmt{Op: rapid.SampledFrom([]netstate.NftOp{
		netstate.NftIIFName, netstate.NftNotIIF, netstate.NftOriginal, netstate.NftReply, netstate.NftIfCtMark, netstate.NftIfNotCtMark,
		netstate.NftIfMark, netstate.NftIfNotMark, netstate.NftSetCtMark, netstate.NftSetMark,
	}).Draw(t, "op")}
	switch s.Op {
	case netstate.NftIIFName, netstate.NftNotIIF:
		s.Link = rapid.SampledFrom([]string{"eth0", "eth0.100", "fifteen-letters"}).Draw(t, "link")
	case netstate.NftOriginal, netstate.NftReply:
	default:
		// Neither nothing nor all of the mark: for those nft has shorter words.
		s.Mark.Mask = rapid.Uint32Range(1, 1<<32-2).Draw(t, "mask")
		s.Mark.Value = rapid.Uint32().Draw(t, "value") & s.Mark.Mask
	}
	return s
}
