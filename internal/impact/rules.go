package impact

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/viarule/viarule/internal/netstate"
)

// uses is a set of axes, as bits.
type uses uint64

// ruleList is the rules of a family in one world, in the order in which packets meet
// them.
type ruleList struct {
	rules []*netstate.Rule
	uses  []uses // the axes, besides the addresses, that each rule looks at
	used  uses   // by any of them
}

func newRuleList(s *netstate.State, f netstate.Family, ax *axes) *ruleList {
	l := &ruleList{}
	for i := range s.Rules {
		if s.Rules[i].Family == f {
			l.rules = append(l.rules, &s.Rules[i])
		}
	}
	slices.SortStableFunc(l.rules, func(a, b *netstate.Rule) int { return cmp.Compare(a.Priority, b.Priority) })
	l.uses = make([]uses, len(l.rules))
	for i, r := range l.rules {
		l.uses[i] = ax.usedBy(r)
		l.used |= l.uses[i]
	}
	return l
}

// leads says whether some rule behind rule i has the priority that its goto names.
func (l *ruleList) leads(i int32) bool {
	n, found := slices.BinarySearchFunc(l.rules, l.rules[i].Goto, func(r *netstate.Rule, p uint32) int { return cmp.Compare(r.Priority, p) })
	return found && n > int(i)
}

// sight is how a ruleList looks along one axis of addresses: what the rules ask of
// a packet when it is known which of their prefixes (From, or To) hold its address.
type sight struct {
	list    *ruleList
	to      bool                     // else From
	generic []int32                  // rules without a prefix, and those with not
	at      map[netip.Prefix][]int32 // the others
	not     map[netip.Prefix]bool    // prefixes of those with not
	rest    []uint32                 // a number for all of a rule but the prefix, priority and protocol
}

func newSight(l *ruleList, to bool, numbers map[netstate.Rule]uint32) *sight {
	s := &sight{list: l, to: to, at: map[netip.Prefix][]int32{}, not: map[netip.Prefix]bool{}, rest: make([]uint32, len(l.rules))}
	for i, r := range l.rules {
		rest := s.without(r)
		rest.Priority, rest.Protocol = 0, 0
		n, there := numbers[rest]
		if !there {
			n = uint32(len(numbers) + 1)
			numbers[rest] = n
		}
		s.rest[i] = n
		p := s.prefix(r)
		if p.IsValid() && !r.Not {
			s.at[p.Masked()] = append(s.at[p.Masked()], int32(i))
			continue
		}
		s.generic = append(s.generic, int32(i))
		if p.IsValid() {
			s.not[p.Masked()] = true
		}
	}
	return s
}

func (s *sight) prefix(r *netstate.Rule) netip.Prefix {
	if s.to {
		return r.To
	}
	return r.From
}

// without is a rule without its prefix of this axis.
func (s *sight) without(r *netstate.Rule) netstate.Rule {
	out := *r
	if s.to {
		out.To = netip.Prefix{}
	} else {
		out.From = netip.Prefix{}
	}
	return out
}

// seen is what the rules ask of packets whose address is in some node.
type seen struct {
	rules []int32 // that may select them, in order
	sum   uint64  // equal sums: the same
	uses  uses
}

// below gives what is seen from the rules that a longer prefix adds.
func (s *sight) below(above *seen, p netip.Prefix) seen {
	more := s.at[p]
	if len(more) == 0 && !s.not[p] {
		return *above
	}
	out := seen{rules: slices.Concat(above.rules, more)}
	slices.Sort(out.rules)
	s.sum(&out, func(q netip.Prefix) bool { return q.Bits() <= p.Bits() && q.Contains(p.Addr()) })
	return out
}

// bare is what packets see that no prefix holds: those of IPv6 without a source.
func (s *sight) bare() seen {
	out := seen{rules: s.generic}
	s.sum(&out, func(netip.Prefix) bool { return false })
	return out
}

// sum walks the rules, goes along with jumps that every such packet makes, and sums
// up what is asked on the way. Where a jump depends on more than the address, all
// rules count, and their priorities too.
func (s *sight) sum(out *seen, holds func(netip.Prefix) bool) {
	jumps := false
	for _, i := range out.rules {
		out.uses |= s.list.uses[i]
		r := s.list.rules[i]
		jumps = jumps || r.Action == netstate.Goto && !s.always(r, holds) && !s.never(r, holds)
	}
	sum := uint64(1)
	for k := 0; k < len(out.rules); k++ {
		i := out.rules[k]
		r := s.list.rules[i]
		if s.never(r, holds) {
			continue
		}
		always := s.always(r, holds)
		if jumps {
			sum = mix(sum, uint64(r.Priority), flag(r.Action == netstate.Goto && s.list.leads(i)))
		} else if always && r.Action == netstate.Goto {
			if s.list.leads(i) {
				n, _ := slices.BinarySearchFunc(out.rules, r.Goto, func(j int32, p uint32) int {
					return cmp.Compare(s.list.rules[j].Priority, p)
				})
				k = max(n-1, k)
			}
			continue
		}
		if always && r.Action == netstate.Nop {
			continue
		}
		sum = mix(sum, uint64(s.rest[i])<<2|flag(always)<<1|flag(r.Not && s.prefix(r).IsValid() && holds(s.prefix(r))))
		if always && !jumps && r.Action != netstate.ToTable {
			break // it rejects: nobody gets to those behind it
		}
	}
	out.sum = sum
}

// always says whether a rule selects every such packet.
func (s *sight) always(r *netstate.Rule, holds func(netip.Prefix) bool) bool {
	if r.Unknown != "" {
		return false
	}
	p := s.prefix(r)
	if r.Not {
		return p.IsValid() && !holds(p)
	}
	return s.plain(r)
}

// never says whether a rule selects no such packet.
func (s *sight) never(r *netstate.Rule, holds func(netip.Prefix) bool) bool {
	p := s.prefix(r)
	if r.Not {
		return r.Unknown == "" && s.plain(r) && (!p.IsValid() || holds(p))
	}
	return p.IsValid() && !holds(p)
}

// plain says whether a rule selects by nothing but the prefix of this axis.
func (s *sight) plain(r *netstate.Rule) bool {
	return s.without(r) == netstate.Rule{
		Family: r.Family, Priority: r.Priority, Not: r.Not, Action: r.Action, Table: r.Table, Goto: r.Goto, Realms: r.Realms,
		SuppressPrefixLength: r.SuppressPrefixLength, SuppressIfGroup: r.SuppressIfGroup, Protocol: r.Protocol, Unknown: r.Unknown,
	}
}

func flag(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// mix is a hash of numbers in order (splitmix64's finalizer). Two of some hundred
// thousand different lists meet with a chance of one in a thousand million.
func mix(h uint64, list ...uint64) uint64 {
	for _, n := range list {
		h = (h ^ n) * 0x9e3779b97f4a7c15
		h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
		h = (h ^ h>>27) * 0x94d049bb133111eb
		h ^= h >> 31
	}
	return h
}
