package sim

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/viarule/viarule/internal/netstate"
)

// addForward sorts the forward chains of others by priority.
func (w *World) addForward() {
	for i := range w.in.State.Forward {
		if c := &w.in.State.Forward[i]; !c.Dormant {
			w.forward = append(w.forward, c)
		}
	}
	slices.SortStableFunc(w.forward, func(a, b *netstate.ForwardChain) int { return cmp.Compare(a.Priority, b.Priority) })
}

// others runs the forward chains of others; false where one of them drops the packet.
// Where a rule that viarule cannot read may drop what the chain else accepts, the
// packet goes on: Answer.Filters names the table. Where such a rule may accept what the
// chain else drops, there is a doubt.
func (r *run) others() bool {
	for _, c := range r.w.forward {
		if c.Family == "ip" && r.v6() || c.Family == "ip6" && !r.v6() {
			continue
		}
		p := passing{r: r, c: c}
		end, by := p.walk(c.NftName.String(), c.Rules, true, 0)
		policy := by == ""
		if policy {
			by = "policy"
			if end = passes; c.Drop {
				end = loses
			}
		}
		if end == passes {
			if !policy {
				r.step(Forward, "filter", by, text("accepts it"))
			}
			continue
		}
		if p.may != "" {
			r.doubt("it cannot be told whether " + p.may + " accepts it")
		}
		if policy {
			r.step(Forward, "filter", "chain "+c.NftName.String(), text("policy drop"))
			r.drop(ForeignFilter, "the chain %s drops it by its policy: no rule there accepts what comes in by %s and goes out by %s", c.NftName, r.in, r.out())
		} else {
			r.step(Forward, "filter", by, text("drops it"))
			r.drop(ForeignFilter, "%s drops it", by)
		}
		return false
	}
	return true
}

// out names the links by which the packet is to go out.
func (r *run) out() string {
	if len(r.a.Ways) == 0 {
		return r.a.Dev
	}
	names := make([]string, len(r.a.Ways))
	for i, w := range r.a.Ways {
		names[i] = w.Dev
	}
	return strings.Join(slices.Compact(slices.Sorted(slices.Values(names))), " or ")
}

// passing is a packet in a chain of somebody else's.
type passing struct {
	r   *run
	c   *netstate.ForwardChain
	may string // the first rule that may accept it
	// tried counts rules: somebody may have written a snapshot in which chains lead to
	// each other without an end.
	tried int
}

// maxRules bounds the rules that are tried for one packet in one chain of others.
const maxRules = 1 << 16

// end is what a list of rules does with a packet.
type end uint8

const (
	falls end = iota // it comes to the end, or returns
	passes
	loses
)

// walk runs rules; sure says that the packet gets there for certain. What happens only
// perhaps is noted, and walked by.
func (p *passing) walk(at string, rules []netstate.ForwardRule, sure bool, depth int) (end, string) {
	for i := range rules {
		r := &rules[i]
		here := func() string { return fmt.Sprintf("rule %d of the chain %s (%s)", i+1, at, r) }
		if p.tried++; p.tried > maxRules {
			p.mayAccept(here)
			return falls, ""
		}
		match, verdict := p.match(r)
		if match == no {
			continue
		}
		certain := sure && match == yes
		switch verdict.Op {
		case netstate.NftAccept:
			if certain {
				return passes, here()
			}
			p.mayAccept(here)
		case netstate.NftDrop, netstate.NftReject:
			if certain {
				return loses, here()
			}
		case netstate.NftReturn:
			if certain {
				return falls, ""
			}
			sure = false
		case netstate.NftJump, netstate.NftGoto:
			sub, known := p.sub(verdict.Name)
			if !known || depth > maxJumps {
				p.mayAccept(here)
				sure = sure && verdict.Op == netstate.NftJump
				continue
			}
			switch e, by := p.walk(verdict.Name, sub, certain, depth+1); {
			case e != falls:
				return e, by
			case verdict.Op == netstate.NftGoto && certain:
				return falls, ""
			case verdict.Op == netstate.NftGoto:
				sure = false
			}
		default:
			if match == maybe {
				p.mayAccept(here)
			}
		}
	}
	return falls, ""
}

func (p *passing) mayAccept(rule func() string) {
	if p.may == "" {
		p.may = rule()
	}
}

func (p *passing) sub(name string) ([]netstate.ForwardRule, bool) {
	for i := range p.c.Subs {
		if p.c.Subs[i].Name == name {
			return p.c.Subs[i].Rules, true
		}
	}
	return nil, false
}

// tri is an answer that may be unknown.
type tri uint8

const (
	no tri = iota
	maybe
	yes
)

// match says whether a rule is one for the packet, and gives its verdict, the zero
// value where it has none.
func (p *passing) match(r *netstate.ForwardRule) (m tri, verdict netstate.NftStmt) {
	m = yes
	for i := range r.Rule {
		s := &r.Rule[i]
		switch s.Op {
		case netstate.NftAccept, netstate.NftDrop, netstate.NftReject, netstate.NftReturn, netstate.NftJump, netstate.NftGoto:
			verdict = *s
		case netstate.NftUnknown:
			m = min(m, maybe)
		default:
			m = min(m, p.r.holds(s))
		}
	}
	return m, verdict
}

// holds says whether a condition holds for the packet.
func (r *run) holds(s *netstate.NftStmt) tri {
	is := func(name string) tri {
		same := name == s.Link
		switch s.Op {
		case netstate.NftNotIIF, netstate.NftNotOIF:
			same = !same
		case netstate.NftIIFPrefix, netstate.NftOIFPrefix:
			same = strings.HasPrefix(name, s.Link)
		}
		if same {
			return yes
		}
		return no
	}
	switch s.Op {
	case netstate.NftCtState:
		return r.ctState(s.Mark.Mask)
	case netstate.NftIIFName, netstate.NftNotIIF, netstate.NftIIFPrefix:
		return is(r.in)
	case netstate.NftOIFName, netstate.NftNotOIF, netstate.NftOIFPrefix:
	default:
		return maybe
	}
	if len(r.a.Ways) == 0 {
		return is(r.a.Dev)
	}
	m := is(r.a.Ways[0].Dev)
	for _, w := range r.a.Ways[1:] {
		if is(w.Dev) != m {
			return maybe
		}
	}
	return m
}

// ctState asks for the state of the packet's connection. A connection's first packet is
// new, and an answer established. Packets that are related to another connection (errors
// of ICMP, and what a helper of connection tracking expects) are not asked about.
func (r *run) ctState(bits uint32) tri {
	state := netstate.CtNew
	if r.c.Reply {
		state = netstate.CtEstablished
	}
	if bits&state != 0 {
		return yes
	}
	return no
}
