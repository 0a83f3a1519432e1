package netstate

import (
	"strconv"
	"strings"
)

// String gives the chain as nft names it: FAMILY TABLE CHAIN, or FAMILY TABLE.
func (n NftName) String() string { return string(n.append(nil)) }

func (n *NftName) append(b []byte) []byte {
	b = appendKeyWord(appendWord(b, n.Family), " ", n.Table)
	if n.Chain != "" {
		b = appendKeyWord(b, " ", n.Chain)
	}
	return b
}

// String gives the text form, which ParseAccept reads:
//
//	accept ip filter FORWARD iifname via* comment "viarule PodNetwork/pods"
func (a Accept) String() string { return string(a.append(nil)) }

// AppendText appends what String returns. The error is always nil.
func (a Accept) AppendText(b []byte) ([]byte, error) { return a.append(b), nil }

func (a *Accept) append(b []byte) []byte {
	b = a.NftName.append(append(b, "accept "...))
	if a.In != "" {
		b = appendKeyWord(b, " iifname ", a.In)
	}
	if a.Out != "" {
		b = appendKeyWord(b, " oifname ", a.Out)
	}
	if a.Comment != "" {
		b = appendKeyWord(b, " comment ", a.Comment)
	}
	return b
}

// ParseAccept reads what Accept.String writes.
func ParseAccept(text string) (Accept, error) {
	p := newParser("accept", text)
	p.expect("accept")
	a := p.forwardAccept()
	if err := p.end(); err != nil {
		return Accept{}, err
	}
	return a, nil
}

func (p *parser) forwardAccept() Accept {
	a := Accept{NftName: p.nftName()}
	for {
		k, ok := p.key()
		if !ok {
			break
		}
		switch k {
		case "iifname":
			a.In = p.arg(k)
		case "oifname":
			a.Out = p.arg(k)
		case "comment":
			a.Comment = p.arg(k)
		default:
			p.failf("no such key: %q", k)
		}
	}
	if p.err == nil {
		if err := a.Check(); err != nil {
			p.fail(err)
		}
	}
	return a
}

func (p *parser) nftName() NftName {
	return NftName{Family: p.arg("family"), Table: p.arg("table"), Chain: p.arg("chain")}
}

// appendLines writes the chain as lines of a State's text: each begins with forward,
// and a rule belongs to the chain that was named last.
func (c *ForwardChain) appendLines(b []byte) []byte {
	b = c.NftName.append(append(b, "forward chain "...))
	b = strconv.AppendInt(append(b, " priority "...), int64(c.Priority), 10)
	policy := " policy accept"
	if c.Drop {
		policy = " policy drop"
	}
	b = append(b, policy...)
	if c.Dormant {
		b = append(b, " dormant"...)
	}
	if c.Owned {
		b = append(b, " owned"...)
	}
	b = appendForwardRules(append(b, '\n'), c.Rules)
	for i := range c.Subs {
		b = append(appendKeyWord(b, "forward sub ", c.Subs[i].Name), '\n')
		b = appendForwardRules(b, c.Subs[i].Rules)
	}
	return b
}

func appendForwardRules(b []byte, rules []ForwardRule) []byte {
	for i := range rules {
		b = append(append(append(b, "forward rule "...), rules[i].String()...), '\n')
	}
	return b
}

// String gives the rule in nft's notation.
func (r *ForwardRule) String() string {
	text := r.Rule.String()
	if r.Comment != "" {
		text = strings.TrimLeft(string(appendKeyWord([]byte(text), " comment ", r.Comment)), " ")
	}
	return text
}

// forward reads one of the lines that appendLines writes.
func (p *parser) forward(s *State) {
	what := p.arg("forward")
	if what == "chain" {
		s.Forward = append(s.Forward, p.forwardChain())
		return
	}
	if len(s.Forward) == 0 {
		p.failf("no `forward chain` stands before")
		return
	}
	c := &s.Forward[len(s.Forward)-1]
	switch what {
	case "sub":
		c.Subs = append(c.Subs, ForwardSub{Name: p.arg(what)})
	case "rule":
		rules := &c.Rules
		if n := len(c.Subs); n > 0 {
			rules = &c.Subs[n-1].Rules
		}
		*rules = append(*rules, p.forwardRule())
	default:
		p.failf("%q is not chain, sub or rule", what)
	}
}

func (p *parser) forwardChain() ForwardChain {
	c := ForwardChain{NftName: p.nftName()}
	p.expect("priority")
	n, err := strconv.ParseInt(p.arg("priority"), 10, 32)
	if err != nil && p.err == nil {
		p.failf("priority: %w", err)
	}
	c.Priority = int32(n)
	p.expect("policy")
	if c.Drop = p.accept("drop"); !c.Drop {
		p.expect("accept")
	}
	c.Dormant = p.accept("dormant")
	c.Owned = p.accept("owned")
	return c
}

func (p *parser) forwardRule() ForwardRule {
	var r ForwardRule
	for p.err == nil {
		w, ok := p.next()
		switch {
		case !ok:
			return r
		case w == "comment":
			r.Comment = p.arg(w)
			return r
		}
		r.Rule = append(r.Rule, p.nftStmt(w))
	}
	return r
}

// What connection tracking thinks of a packet, as a bit (NF_CT_STATE_BIT).
const (
	CtInvalid     uint32 = 1
	CtEstablished uint32 = 2
	CtRelated     uint32 = 4
	CtNew         uint32 = 8
	CtUntracked   uint32 = 64
)

var ctStates = names{
	{CtInvalid, "invalid"}, {CtEstablished, "established"}, {CtRelated, "related"}, {CtNew, "new"}, {CtUntracked, "untracked"},
}

func ctStateText(bits uint32) string {
	var words []string
	for bit := uint32(1); bit != 0; bit <<= 1 {
		if bits&bit != 0 {
			words = append(words, string(ctStates.append(nil, bit)))
		}
	}
	return strings.Join(words, ",")
}

func (p *parser) ctState() (bits uint32) {
	for w := range strings.SplitSeq(p.arg("state"), ",") {
		bit, ok := ctStates.num(w)
		if !ok && p.err == nil {
			p.failf("%q is no state of a connection", w)
		}
		bits |= bit
	}
	return bits
}
