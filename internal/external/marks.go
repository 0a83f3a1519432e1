package external

import (
	"fmt"
	"math/bits"
	"slices"

	"github.com/viarule/viarule/internal/netstate"
)

const (
	// defaultField are the bits of the packet's mark that networks share where
	// nobody else is known to use them.
	defaultField = 0x3f
	// defaultBit is the bit of the connection's mark: none of the programs in
	// owner's list uses it.
	defaultBit = 0x1000
	// likely are the marks of kube-proxy and portmap, which come to many a host
	// later than viarule.
	likely = 0xc000 | 0x2000
)

// taken are the bits of marks that are somebody else's: of programs found on this
// host, and of rules that are there.
func (l *lowerer) taken() uint32 {
	var t uint32
	for i := range l.facts.Neighbours {
		t |= l.facts.Neighbours[i].Neighbour.Marks
	}
	for i := range l.facts.State.Rules {
		r := &l.facts.State.Rules[i]
		switch {
		case r.Protocol == netstate.ProtocolObject || r.Mark.Mask == 0:
		case r.Mark.Mask == 1<<32-1:
			// `fwmark 1` compares the whole mark. Taken at its word nothing would be
			// left; what its owner sets are the bits of the value.
			t |= r.Mark.Value
		default:
			t |= r.Mark.Mask
		}
	}
	return t
}

// chooseMarks gives each network its mark, and chooses the bit of the
// connection's mark. What stands in the kernel keeps its number where it can.
func (l *lowerer) chooseMarks() {
	taken := l.taken()
	for _, n := range l.nets {
		if n.bad || n.mark.Mask == 0 {
			continue
		}
		if f := l.facts.Neighbours.Mark(n.mark.Mask); len(f) > 0 {
			l.fail(n, "mark", fmt.Sprintf("the mark %#x/%#x has bits that %s uses (%#x), which runs on this host", n.mark.Value, n.mark.Mask, f[0].Neighbour.Name, f[0].Neighbour.Marks),
				"choose other bits, or leave mark out", false)
			continue
		}
		taken |= n.mark.Mask
	}
	var auto []*network
	for _, n := range l.nets {
		if !n.bad && n.marked() && n.mark.Mask == 0 {
			auto = append(auto, n)
		}
	}
	values := len(auto) + 1 // and one for what is set aside
	standing := l.standingMarks(taken)
	l.field = fieldOf(taken, values, standing)
	if l.field == 0 {
		for _, n := range auto {
			l.fail(n, "returnPath", fmt.Sprintf("no bits of the packet's mark are left for it: others use %#x", taken), "give the networks marks of their own, or use returnPath: SourceRule", false)
		}
		return
	}
	l.giveMarks(auto, standing)
	l.bit = bitOf(taken|l.field, l.standingBit())
	if l.bit == 0 {
		for _, n := range l.nets {
			if n.marked() {
				l.fail(n, "returnPath", fmt.Sprintf("no bit of the connection's mark is left: others use %#x", taken), "use returnPath: SourceRule", false)
			}
		}
	}
}

// giveMarks numbers the networks: a standing mark stays, the others get the
// lowest free value. The highest is for what is set aside.
func (l *lowerer) giveMarks(auto []*network, standing map[string]netstate.Mark) {
	l.aside = l.field
	used := map[uint32]bool{l.aside: true}
	for _, n := range auto {
		if m, ok := standing[n.obj.Name]; ok && m.Mask == l.field && !used[m.Value] {
			n.mark = m
			used[m.Value] = true
		}
	}
	step := uint32(1) << bits.TrailingZeros32(l.field)
	next := step
	for _, n := range auto {
		if n.mark.Mask != 0 {
			continue
		}
		for used[next] {
			next += step
		}
		n.mark = netstate.Mark{Value: next, Mask: l.field}
		used[next] = true
	}
}

// standingMarks finds the marks that networks have in the nftables table: each
// has a chain of its own there, in which its mark is set.
func (l *lowerer) standingMarks(taken uint32) map[string]netstate.Mark {
	marks := map[string]netstate.Mark{}
	t := l.standingTable()
	if t == nil {
		return marks
	}
	byChain := map[string]netstate.Mark{}
	for i := range t.Chains {
		for _, r := range t.Chains[i].Rules {
			for _, s := range r {
				if _, again := byChain[t.Chains[i].Name]; s.Op == netstate.NftSetMark && s.Mark.Mask&taken == 0 && !again {
					byChain[t.Chains[i].Name] = s.Mark
				}
			}
		}
	}
	for _, n := range l.nets {
		if m, ok := byChain[chainOf(n.obj)]; ok {
			marks[n.obj.Name] = m
		}
	}
	return marks
}

// standingBit is the bit of the connection's mark that is in use.
func (l *lowerer) standingBit() uint32 {
	t := l.standingTable()
	if t == nil {
		return 0
	}
	for i := range t.Chains {
		for _, r := range t.Chains[i].Rules {
			for _, s := range r {
				if s.Op == netstate.NftIfCtMark && s.Mark.Value == s.Mark.Mask && bits.OnesCount32(s.Mark.Mask) == 1 {
					return s.Mark.Mask
				}
			}
		}
	}
	return 0
}

func (l *lowerer) standingTable() *netstate.NftTable {
	i := slices.IndexFunc(l.facts.State.Nft, func(t netstate.NftTable) bool { return t.Name == netstate.NftTableObjects })
	if i < 0 {
		return nil
	}
	return &l.facts.State.Nft[i]
}

// fieldOf chooses adjacent bits for so many marks other than 0: those that are
// in use already, else the default ones, else the lowest that are free.
func fieldOf(taken uint32, values int, standing map[string]netstate.Mark) uint32 {
	fits := func(field uint32) bool {
		return field&taken == 0 && values < 1<<bits.OnesCount32(field)
	}
	var kept uint32
	for _, m := range standing {
		if fits(m.Mask) && (kept == 0 || m.Mask < kept) {
			kept = m.Mask
		}
	}
	if kept != 0 {
		return kept
	}
	if fits(defaultField) {
		return defaultField
	}
	for _, avoid := range [...]uint32{defaultBit | likely, defaultBit} {
		for width := max(6, bits.Len(uint(values))); width >= bits.Len(uint(values)); width-- {
			run := uint32(1)<<width - 1
			for shift := 0; shift+width <= 32; shift++ {
				if f := run << shift; fits(f) && f&avoid == 0 {
					return f
				}
			}
		}
	}
	return 0
}

// bitOf chooses one bit.
func bitOf(taken, standing uint32) uint32 {
	for _, b := range [...]uint32{standing, defaultBit} {
		if b != 0 && b&taken == 0 {
			return b
		}
	}
	for b := uint32(1); b != 0; b <<= 1 {
		if b&taken == 0 {
			return b
		}
	}
	return 0
}
