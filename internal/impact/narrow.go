package impact

import (
	"maps"
	"slices"

	"github.com/viarule/viarule/internal/netstate"
)

// narrow finds fields of the mark in which only packets with some values can meet a
// rule that has changed: rules for marks are new to all addresses, and few packets
// have marks. It gives the atoms to try, by axis. Kinds in maps of nftables are not
// narrowed, since those set marks.
func narrow(lists [2]*ruleList, nft [2]*nftView, ax *axes) map[int]set {
	changed, ok := changedRules(lists)
	if !ok || len(changed) == 0 {
		return nil
	}
	out := map[int]set{}
	for i := range ax.fields {
		f := &ax.fields[i]
		if nft[0].sets(f.mask) || nft[1].sets(f.mask) {
			continue
		}
		atoms, all := map[int32]bool{}, false
		for _, r := range changed {
			if r.Not || r.Unknown != "" || r.Mark.Mask&f.mask == 0 || r.Mark.Value&f.mask == 0 {
				// It is for packets without this mark too: and the check of the source,
				// as answers do, may look for those that have none.
				all = true
				break
			}
			atoms[int32(f.find(r.Mark.Value))] = true
		}
		if !all {
			out[axisMark+i] = slices.Sorted(maps.Keys(atoms))
		}
	}
	return out
}

// changedRules gives the rules that only one world has; ok is false where more has
// changed than that: the order of others, or where one of them jumps.
func changedRules(lists [2]*ruleList) (changed []*netstate.Rule, ok bool) {
	same := func(r *netstate.Rule) netstate.Rule {
		c := *r
		c.Protocol = 0
		return c
	}
	count := map[netstate.Rule]int{}
	for i, d := range []int{1, -1} {
		for _, r := range lists[i].rules {
			count[same(r)] += d
		}
	}
	type stays struct {
		netstate.Rule
		leads bool
	}
	var left [2][]stays
	for i, l := range lists {
		for j, r := range l.rules {
			c := same(r)
			if count[c] != 0 {
				changed = append(changed, r)
				continue
			}
			left[i] = append(left[i], stays{c, r.Action == netstate.Goto && l.leads(int32(j))})
		}
	}
	return changed, slices.Equal(left[0], left[1])
}

// sets says whether the table may set part of the mask in marks of packets other than
// those to, and answers from, addresses in its maps, before their way is decided.
func (v *nftView) sets(mask uint32) bool {
	return v.anyBesideMaps(func(r *baseRule) bool { return v.setsIn(r.rule, mask, 0) })
}

// tracks says whether the table may treat answers unlike first packets, other than
// those to, and answers from, addresses in its maps.
func (v *nftView) tracks() bool {
	return v.anyBesideMaps(func(r *baseRule) bool {
		return r.nat || v.does(r.rule, 0, netstate.NftReply, netstate.NftOriginal, netstate.NftIfCtMark, netstate.NftIfNotCtMark, netstate.NftUnknown)
	})
}

// anyBesideMaps says whether something holds for any rule of a base chain that may meet
// packets which have to do with none of the addresses in the maps.
func (v *nftView) anyBesideMaps(holds func(*baseRule) bool) bool {
	viaMaps := v.ctMarksViaMaps()
	return slices.ContainsFunc(v.base, func(r baseRule) bool {
		_, only := v.onlyMaps(r.rule, 0)
		tracked := slices.ContainsFunc(tests(r.rule), func(s netstate.NftStmt) bool { return s.Op == netstate.NftIfCtMark && s.Mark.Value != 0 })
		return !only && !(viaMaps && tracked && answersOnly(r.rule)) && v.counts(&r) && holds(&r)
	})
}

func (v *nftView) setsIn(r netstate.NftRule, mask uint32, depth int) bool {
	return slices.ContainsFunc(r, func(s netstate.NftStmt) bool {
		return s.Op == netstate.NftSetMark && s.Mark.Mask&mask != 0 ||
			s.Op == netstate.NftUnknown ||
			isMap(s.Op) || // with more behind it: not what viarule writes
			s.Op == netstate.NftJump && depth <= maxJumps && v.chains[s.Name] != nil &&
				slices.ContainsFunc(v.chains[s.Name].Rules, func(r netstate.NftRule) bool { return v.setsIn(r, mask, depth+1) })
	})
}
