package podnet

import (
	"net/netip"
	"slices"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/spec"
)

// The chains and maps of masquerading.
const (
	chainMasquerade = "pods-masquerade"
	chainOutside    = "pods-outside"
	chainInside     = "pods-inside"
)

var (
	mapPods   = [2]string{"pods4", "pods6"}
	mapInside = [2]string{"pods-inside4", "pods-inside6"}
	multicast = [2]netip.Prefix{netip.MustParsePrefix("224.0.0.0/4"), netip.MustParsePrefix("ff00::/8")}
)

// lowerNft makes the part of the table that masquerades: what is from the pods of a
// network that asks for it, and goes neither to a pod nor to a node of any network.
// The addresses are in two maps a family, however many networks there are.
func (l *lowerer) lowerNft() {
	for _, n := range l.nets {
		if n.spec.Masquerade == spec.MasqueradeOutside {
			l.out.NftOf = append(l.out.NftOf, n.obj)
		}
	}
	if len(l.out.NftOf) == 0 {
		return
	}
	base := netstate.NftChain{Name: chainMasquerade, Hook: netstate.NftHook{Type: "nat", Hook: "postrouting", Priority: netstate.NftSrcNAT}}
	outside := netstate.NftChain{Name: chainOutside}
	for i, f := range netstate.Families {
		var pods, inside []netip.Prefix
		for _, n := range l.nets {
			for _, p := range n.spec.PodCIDRs {
				if netstate.FamilyOf(p.Addr()) != f {
					continue
				}
				inside = append(inside, p.Prefix)
				if n.spec.Masquerade == spec.MasqueradeOutside {
					pods = append(pods, p.Prefix)
				}
			}
			for j := range n.spec.Nodes {
				for _, a := range n.spec.Nodes[j].Addresses {
					if netstate.FamilyOf(a.Addr) == f {
						inside = append(inside, netip.PrefixFrom(a.Addr, a.BitLen()))
					}
				}
			}
		}
		if len(pods) == 0 {
			continue
		}
		l.out.Maps = append(l.out.Maps,
			netstate.NftMap{Name: mapPods[i], Family: f, Elems: elements(pods, chainOutside)},
			netstate.NftMap{Name: mapInside[i], Family: f, Elems: elements(append(inside, multicast[i]), chainInside)})
		base.Rules = append(base.Rules, netstate.NftRule{{Op: netstate.NftSAddrMap, Family: f, Name: mapPods[i]}})
		outside.Rules = append(outside.Rules, netstate.NftRule{{Op: netstate.NftDAddrMap, Family: f, Name: mapInside[i]}})
	}
	outside.Rules = append(outside.Rules, netstate.NftRule{{Op: netstate.NftMasquerade}})
	l.out.Chains = []netstate.NftChain{base, outside, {Name: chainInside, Rules: []netstate.NftRule{{{Op: netstate.NftReturn}}}}}
	if !slices.ContainsFunc(l.facts.State.Nft, func(t netstate.NftTable) bool { return t.Tracks() }) {
		for _, n := range l.nets {
			if n.obj == l.out.NftOf[0] {
				l.say(n, "masquerading loads connection tracking in this namespace, if it is not on already")
			}
		}
	}
}

// elements gives the intervals of the prefixes, those that touch as one: the
// kernel would not take two that overlap.
func elements(list []netip.Prefix, chain string) []netstate.NftElem {
	slices.SortFunc(list, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
	var out []netstate.NftElem
	for _, p := range list {
		e := netstate.NftElem{First: p.Addr(), Last: netstate.LastOf(p), Chain: chain}
		if n := len(out); n > 0 {
			last := &out[n-1].Last
			if next := last.Next(); !next.IsValid() || !next.Less(e.First) {
				if last.Less(e.Last) {
					*last = e.Last
				}
				continue
			}
		}
		out = append(out, e)
	}
	return out
}
