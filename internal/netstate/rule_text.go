package netstate

import (
	"strconv"
	"strings"
)

// String gives the rule's text form, which ParseRule reads:
//
//	rule 2200 from 10.1.0.0/16 fwmark 0x100/0xff00 table 5007 proto 118
//	rule -6 2201 not from all to 2001:db8::/32 iif eth1 goto 2300
func (r Rule) String() string { return string(r.append(nil, nil)) }

// AppendText appends what String returns. The error is always nil.
func (r Rule) AppendText(b []byte) ([]byte, error) { return r.append(b, nil), nil }

// Format is String with the names of tables and protocols; n may be nil.
func (r *Rule) Format(n Names) string { return string(r.append(nil, orKernelNames(n))) }

func (r *Rule) append(b []byte, n Names) []byte {
	b = append(b, "rule "...)
	if r.Family == IPv6 {
		b = append(b, "-6 "...)
	}
	b = strconv.AppendUint(b, uint64(r.Priority), 10)
	b = r.appendSelectors(b)
	if r.L3MDev {
		b = append(b, " l3mdev"...)
	}
	if r.Table != 0 || r.Action == ToTable && !r.L3MDev {
		b = appendTable(b, r.Table, n)
	}
	switch r.Action {
	case ToTable:
	case Goto:
		b = appendKeyUint(b, " goto ", uint64(r.Goto))
	default:
		if w := actionNames.word(uint32(r.Action)); w != "" {
			b = append(append(b, ' '), w...)
		} else {
			b = appendKeyUint(b, " action ", uint64(r.Action))
		}
	}
	if r.Realms != 0 {
		b = appendRealms(b, r.Realms)
	}
	if r.SuppressPrefixLength.Set {
		b = appendKeyUint(b, " suppress_prefixlength ", uint64(r.SuppressPrefixLength.Val))
	}
	if r.SuppressIfGroup.Set {
		b = appendKeyUint(b, " suppress_ifgroup ", uint64(r.SuppressIfGroup.Val))
	}
	return appendUnknown(appendProtocol(b, r.Protocol, n), r.Unknown)
}

func (r *Rule) appendSelectors(b []byte) []byte {
	if r.Not {
		b = append(b, " not"...)
	}
	b = append(b, " from "...)
	if r.From.IsValid() {
		b = appendPrefix(b, r.From)
	} else {
		b = append(b, "all"...)
	}
	if r.To.IsValid() {
		b = appendPrefix(append(b, " to "...), r.To)
	}
	if r.IIF != "" {
		b = appendKeyWord(b, " iif ", r.IIF)
	}
	if r.OIF != "" {
		b = appendKeyWord(b, " oif ", r.OIF)
	}
	if r.Mark != (Mark{}) {
		b = appendKeyHex(b, " fwmark ", uint64(r.Mark.Value))
		if r.Mark.Mask != 0xffffffff {
			b = appendKeyHex(b, "/", uint64(r.Mark.Mask))
		}
	}
	if r.TOS != 0 {
		b = appendKeyHex(b, " tos ", uint64(r.TOS))
	}
	if r.DSCP.Set {
		b = appendKeyUint(b, " dscp ", uint64(r.DSCP.Val))
	}
	if r.Proto != 0 {
		b = ipprotoNames.append(append(b, " ipproto "...), uint32(r.Proto))
	}
	if r.SPort != (PortRange{}) {
		b = appendRange(append(b, " sport "...), uint32(r.SPort.Lo), uint32(r.SPort.Hi))
	}
	if r.DPort != (PortRange{}) {
		b = appendRange(append(b, " dport "...), uint32(r.DPort.Lo), uint32(r.DPort.Hi))
	}
	if r.UID.Set {
		b = appendKeyUint(b, " uidrange ", uint64(r.UID.Lo))
		b = appendKeyUint(b, "-", uint64(r.UID.Hi))
	}
	if r.TunID != 0 {
		b = appendKeyUint(b, " tun_id ", r.TunID)
	}
	return b
}

func appendRange(b []byte, lo, hi uint32) []byte {
	b = strconv.AppendUint(b, uint64(lo), 10)
	if hi != lo {
		b = appendKeyUint(b, "-", uint64(hi))
	}
	return b
}

// ParseRule reads what Rule.String writes. Beyond that it takes the names of
// the kernel's tables and of protocols, prefixes of length 0 for all, and
// comments after a #. An IPv6 rule must say -6.
func ParseRule(s string) (Rule, error) {
	p := newParser("rule", s)
	p.expect("rule")
	r := p.rule()
	if err := p.end(); err != nil {
		return Rule{}, err
	}
	return r, nil
}

// rule reads what follows the word rule.
func (p *parser) rule() Rule {
	r := Rule{Family: p.family(), Priority: p.u32("priority")}
	table := false
	for {
		k, ok := p.key()
		if !ok {
			break
		}
		switch k {
		case "table":
			r.Table, table = p.table(), true
		case "goto":
			r.Goto = p.u32(k)
			p.action(&r, Goto)
		case "nop", "blackhole", "unreachable", "prohibit":
			a, _ := actionNames.num(k)
			p.action(&r, Action(a))
		case "action":
			p.action(&r, Action(p.u8(k)))
		case "l3mdev":
			r.L3MDev = true
		case "realms":
			r.Realms = p.realms()
		case "suppress_prefixlength":
			r.SuppressPrefixLength = p.opt(k)
		case "suppress_ifgroup":
			r.SuppressIfGroup = p.opt(k)
		case "proto":
			r.Protocol = p.protocol()
		case "unknown":
			r.Unknown = p.unknown()
		default:
			p.ruleSelector(&r, k)
		}
	}
	switch {
	case p.err != nil || r.Action != 0 || p.seenKey("action"):
	case table || r.L3MDev:
		r.Action = ToTable
	default:
		p.failf("no action: table, goto, nop, blackhole, unreachable or prohibit")
	}
	return r
}

func (p *parser) ruleSelector(r *Rule, k string) {
	switch k {
	case "not":
		r.Not = true
	case "from":
		r.From = p.selector(k, r.Family)
	case "to":
		r.To = p.selector(k, r.Family)
	case "iif":
		r.IIF = p.arg(k)
	case "oif":
		r.OIF = p.arg(k)
	case "fwmark":
		r.Mark = p.mark()
	case "tos":
		r.TOS = p.u8(k)
	case "dscp":
		r.DSCP = p.opt(k)
	case "ipproto":
		r.Proto = uint8(p.named(k, ipprotoNames, 8))
	case "sport":
		r.SPort = p.ports(k)
	case "dport":
		r.DPort = p.ports(k)
	case "uidrange":
		lo, hi := p.numRange(k, 32)
		r.UID = UIDRange{Set: true, Lo: uint32(lo), Hi: uint32(hi)}
	case "tun_id":
		r.TunID = p.uint(k, 64)
	default:
		p.failf("no such key: %q", k)
	}
}

func (p *parser) action(r *Rule, a Action) {
	if p.err == nil && r.Action != 0 {
		p.failf("two actions")
	}
	r.Action = a
}

func (p *parser) seenKey(k string) bool {
	for i := range p.nseen {
		if p.seen[i] == k {
			return true
		}
	}
	return false
}

func (p *parser) mark() Mark {
	s := p.arg("fwmark")
	if p.err != nil {
		return Mark{}
	}
	v, m, masked := strings.Cut(s, "/")
	if !masked {
		m = "0xffffffff"
	}
	value, err1 := parseUint(v, 32)
	mask, err2 := parseUint(m, 32)
	if err1 != nil || err2 != nil {
		p.failf("fwmark: %q is not VALUE or VALUE/MASK with numbers of 32 bits", s)
		return Mark{}
	}
	return Mark{uint32(value), uint32(mask)}
}
