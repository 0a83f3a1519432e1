package sim

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"sort"

	"github.com/viarule/viarule/internal/fib"
	"github.com/viarule/viarule/internal/netstate"
)

// addNft sorts the chains of viarule's own tables by hook and priority.
func (w *World) addNft() {
	w.nft, w.chains, w.maps = map[string][]*netstate.NftChain{}, map[string]*netstate.NftChain{}, map[string]*netstate.NftMap{}
	for i := range w.in.State.Nft {
		t := &w.in.State.Nft[i]
		for j := range t.Chains {
			c := &t.Chains[j]
			w.chains[c.Name] = c
			if c.Hook.Hook != "" {
				w.nft[c.Hook.Hook] = append(w.nft[c.Hook.Hook], c)
			}
		}
		for j := range t.Maps {
			w.maps[t.Maps[j].Name] = &t.Maps[j]
		}
	}
	for _, list := range w.nft {
		slices.SortStableFunc(list, func(a, b *netstate.NftChain) int { return cmp.Compare(a.Hook.Priority, b.Hook.Priority) })
	}
}

// maxJumps is NFT_JUMP_STACK_SIZE.
const maxJumps = 16

// hook runs viarule's own chains of a hook; false where one of them drops.
func (r *run) hook(h Hook) bool {
	for _, c := range r.w.nft[string(h)] {
		if c.Hook.Type == "nat" && r.c.Reply {
			continue // only a connection's first packet is asked what it is translated to
		}
		before := r.p.Mark
		if r.chain(c, 0) == drops {
			r.drop(OwnFilter, "viarule's chain %s drops it: no way leads back by %s (reversePathFilter: Exempt)", c.Name, r.p.IIF)
			return false
		}
		if r.masqueraded {
			r.masqueraded = false
			if !r.translate(h, c.Name) {
				return false
			}
		}
		if r.p.Mark != before {
			r.step(h, "mark", "table inet "+netstate.NftTableObjects+" chain "+c.Name, func() string { return fmt.Sprintf("mark 0x%x, was 0x%x", r.p.Mark, before) })
		}
	}
	return true
}

// translate gives the packet the source of the way that it takes; false where that
// has none, or may have none.
func (r *run) translate(h Hook, chain string) bool {
	in := "table inet " + netstate.NftTableObjects + " chain " + chain
	ways := []*Way{&r.a.Way}
	for i := range r.a.Ways {
		ways = append(ways, &r.a.Ways[i])
	}
	none, some := "", false
	for _, way := range ways {
		way.Source = r.w.fib.Masquerade(way.Dev, way.Via, r.p.To)
		if way.Source.IsValid() {
			some = true
		} else {
			none = way.Dev
		}
	}
	if none != "" {
		why := fmt.Sprintf("viarule's chain %s gives it an address of this host as its source, and there is none for %s (masquerade)", chain, none)
		if some {
			r.unknown("the hash picks one of %d next hops, and by some of them: %s", len(r.a.Ways), why)
		} else {
			r.drop(NoSource, "%s", why)
		}
		return false
	}
	r.step(h, "nat", in, func() string { return fmt.Sprintf("masquerade: by %s with the source %s", r.a.Dev, r.a.Source) })
	return true
}

// fate is what a chain says of a packet.
type fate uint8

const (
	goesOn fate = iota // the end of the chain, or return
	drops
)

// chain runs the rules of a chain. A map's goto does not come back: it ends the
// chain with what the other one says.
func (r *run) chain(c *netstate.NftChain, depth int) fate {
	if depth > maxJumps {
		return goesOn
	}
	for _, rule := range c.Rules {
		f, ended := r.rule(rule, depth)
		if ended {
			return f
		}
	}
	return goesOn
}

// rule runs one rule; ended says that the chain is left.
func (r *run) rule(rule netstate.NftRule, depth int) (f fate, ended bool) {
	for i := range rule {
		s := &rule[i]
		switch s.Op {
		case netstate.NftSetMark:
			r.p.Mark = r.p.Mark&^s.Mark.Mask | s.Mark.Value
		case netstate.NftSetCtMark:
			r.c.Mark = r.c.Mark&^s.Mark.Mask | s.Mark.Value
		case netstate.NftDAddrMap, netstate.NftSAddrMap, netstate.NftOrigMap:
			next := r.lookup(s, r.lookedUp(s.Op))
			if next == nil {
				return goesOn, false
			}
			return r.chain(next, depth), true
		case netstate.NftJump:
			if next := r.w.chains[s.Name]; next != nil && r.chain(next, depth+1) == drops {
				return drops, true
			}
		case netstate.NftMasquerade:
			r.masqueraded = true
			return goesOn, true
		case netstate.NftReturn:
			return goesOn, true
		case netstate.NftDrop:
			return drops, true
		case netstate.NftUnknown,
			// These viarule writes into chains of others only.
			netstate.NftOIFName, netstate.NftNotOIF, netstate.NftIIFPrefix, netstate.NftOIFPrefix, netstate.NftAccept, netstate.NftReject, netstate.NftGoto, netstate.NftCtState:
			r.doubt("a rule of table inet " + netstate.NftTableObjects + " has an expression that viarule does not write there")
			return goesOn, false
		default:
			if !r.matches(s) {
				return goesOn, false
			}
		}
	}
	return goesOn, false
}

// lookedUp is the address that a map is asked for.
func (r *run) lookedUp(op netstate.NftOp) netip.Addr {
	switch op {
	case netstate.NftSAddrMap:
		return r.p.From
	case netstate.NftOrigMap:
		return r.c.To
	}
	return r.p.To
}

func (r *run) matches(s *netstate.NftStmt) bool {
	switch s.Op {
	case netstate.NftIIFName:
		return r.in == s.Link // empty at output: no name equals it
	case netstate.NftNotIIF:
		return r.in != s.Link
	case netstate.NftOriginal:
		return !r.c.Reply
	case netstate.NftReply:
		return r.c.Reply
	case netstate.NftIfCtMark:
		return r.c.Mark&s.Mark.Mask == s.Mark.Value
	case netstate.NftIfNotCtMark:
		return r.c.Mark&s.Mark.Mask != s.Mark.Value
	case netstate.NftIfMark:
		return r.p.Mark&s.Mark.Mask == s.Mark.Value
	case netstate.NftIfNotMark:
		return r.p.Mark&s.Mark.Mask != s.Mark.Value
	case netstate.NftFibMissing:
		return (s.Family == 0 || s.Family == r.p.Family()) && r.missing()
	}
	return false
}

// lookup finds the chain that a map has for an address.
func (r *run) lookup(s *netstate.NftStmt, to netip.Addr) *netstate.NftChain {
	m := r.w.maps[s.Name]
	if m == nil || netstate.FamilyOf(to) != s.Family {
		return nil
	}
	i := sort.Search(len(m.Elems), func(i int) bool { return !m.Elems[i].Last.Less(to) })
	if i == len(m.Elems) || to.Less(m.Elems[i].First) {
		return nil
	}
	return r.w.chains[m.Elems[i].Chain]
}

// missing is `fib saddr . mark . iif oif missing`: nft_fib4_eval and nft_fib6_eval
// look as if the answer was made here.
func (r *run) missing() bool {
	back := r.p.Flow
	back.From, back.To, back.IIF, back.UID = r.p.To, r.p.From, "lo", 0
	back.Proto, back.SPort, back.DPort, back.TunID = 0, 0, 0, 0
	back.VRF, back.Check = r.w.vrf(r.p.IIF), true
	d := r.w.fib.Lookup(back)
	switch d.Verdict {
	case fib.Unknown:
		r.doubt("the check of the way back: " + d.Why)
		return false
	case fib.Unicast:
		return !r.leadsBack(&d)
	}
	return true
}
