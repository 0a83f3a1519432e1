package netstate

import (
	"errors"
	"fmt"
	"strings"
)

// String gives the sysctl's text form, which ParseSysctl reads:
//
//	sysctl net/ipv4/ip_forward = 1
func (s Sysctl) String() string { return string(s.append(nil)) }

// AppendText appends what String returns. The error is always nil.
func (s Sysctl) AppendText(b []byte) ([]byte, error) { return s.append(b), nil }

func (s *Sysctl) append(b []byte) []byte {
	return appendKeyWord(appendKeyWord(b, "sysctl ", s.Key), " = ", s.Value)
}

// ParseSysctl reads what Sysctl.String writes.
func ParseSysctl(text string) (Sysctl, error) {
	p := newParser("sysctl", text)
	p.expect("sysctl")
	s := p.sysctl()
	if err := p.end(); err != nil {
		return Sysctl{}, err
	}
	return s, nil
}

func (p *parser) sysctl() Sysctl {
	s := Sysctl{Key: p.arg("key")}
	p.expect("=")
	s.Value = p.arg("value")
	return s
}

// String gives the verb: +, ~, - or &.
func (v Verb) String() string {
	switch v {
	case Add:
		return "+"
	case Replace:
		return "~"
	case Delete:
		return "-"
	case Append:
		return "&"
	}
	return "verb?"
}

// String gives the change's text form, which ParseChange reads: the verb's sign
// and the object. A table of nftables goes by its name, and is not read.
//
//   - rule 2200 from 10.1.0.0/16 table 5007 proto 118
//     ~ sysctl net/ipv4/ip_forward = 1
func (c Change) String() string { return string(c.append(nil, nil)) }

// AppendText appends what String returns. The error is always nil.
func (c Change) AppendText(b []byte) ([]byte, error) { return c.append(b, nil), nil }

// Format is String with the names of tables and protocols; n may be nil.
func (c *Change) Format(n Names) string { return string(c.append(nil, orKernelNames(n))) }

func (c *Change) append(b []byte, n Names) []byte {
	b = append(append(b, c.Verb.String()...), ' ')
	switch {
	case c.Rule != nil:
		return c.Rule.append(b, n)
	case c.Route != nil:
		return c.Route.append(b, n)
	case c.Nexthop != nil:
		return c.Nexthop.append(b, n)
	case c.Sysctl != nil:
		return c.Sysctl.append(b)
	case c.Link != nil:
		return c.Link.append(b)
	case c.Addr != nil:
		return c.Addr.append(b)
	case c.Nft != nil:
		return append(b, "nft table inet "+c.Nft.Name...)
	case c.Accept != nil:
		return c.Accept.append(b)
	}
	return append(b, "nothing"...)
}

// ParseChange reads what Change.String writes.
func ParseChange(s string) (Change, error) {
	p := newParser("change", s)
	c := p.change()
	if err := p.end(); err != nil {
		return Change{}, err
	}
	return c, nil
}

func (p *parser) change() Change {
	var c Change
	switch v := p.arg("verb"); v {
	case "+":
		c.Verb = Add
	case "~":
		c.Verb = Replace
	case "-":
		c.Verb = Delete
	case "&":
		c.Verb = Append
	default:
		p.failf("verb: %q is not one of + ~ - &", v)
	}
	switch k := p.arg("object"); k {
	case "rule":
		r := p.rule()
		c.Rule = &r
	case "route":
		r := p.route()
		c.Route = &r
	case "nexthop":
		h := p.nexthop()
		c.Nexthop = &h
	case "sysctl":
		s := p.sysctl()
		c.Sysctl = &s
		if c.Verb != Replace {
			p.failf("a sysctl can only be replaced (~)")
		}
	case "link":
		l := p.link()
		c.Link = &l
	case "addr":
		a := p.address()
		c.Addr = &a
	case "accept":
		a := p.forwardAccept()
		c.Accept = &a
	default:
		p.failf("%q is not rule, route, nexthop, sysctl, link, addr or accept", k)
	}
	if c.Verb == Append && c.Route == nil {
		p.failf("only a route can be appended (&)")
	}
	return c
}

// String gives the state's text form, which ParseState reads: one object a
// line, in the order of the fields and within each in the order of the list,
// which for rules has a meaning.
func (s State) String() string {
	b, _ := s.AppendText(nil)
	return string(b)
}

// AppendText appends what String returns. The error is always nil.
func (s State) AppendText(b []byte) ([]byte, error) {
	for i := range s.Links {
		b = append(s.Links[i].append(b), '\n')
	}
	for i := range s.Addrs {
		b = append(s.Addrs[i].append(b), '\n')
	}
	for i := range s.Rules {
		b = append(s.Rules[i].append(b, nil), '\n')
	}
	for i := range s.Routes {
		b = append(s.Routes[i].append(b, nil), '\n')
	}
	for i := range s.Nexthops {
		b = append(s.Nexthops[i].append(b, nil), '\n')
	}
	for i := range s.Nft {
		b = s.Nft[i].appendLines(b)
	}
	for i := range s.Forward {
		b = s.Forward[i].appendLines(b)
	}
	return b, nil
}

// ParseState reads what State.String writes. Objects of different kinds may
// stand in any order; empty lines and comments (#) are passed over. An error
// says on which line, counted from 1.
func ParseState(text string) (State, error) {
	var s State
	n := 0
	for line := range strings.Lines(text) {
		n++
		if err := s.ParseLine(strings.TrimSpace(line)); err != nil {
			return State{}, fmt.Errorf("line %d: %w", n, err)
		}
	}
	return s, nil
}

// ParseLine reads one line of what State.String writes and adds to the state what
// it says.
func (s *State) ParseLine(line string) error {
	p := newParser("state", line)
	p.object(s)
	return p.end()
}

func (p *parser) object(s *State) {
	kind, ok := p.next()
	if !ok {
		return
	}
	p.kind = kind
	switch kind {
	case "link":
		s.Links = append(s.Links, p.link())
	case "addr":
		s.Addrs = append(s.Addrs, p.address())
	case "rule":
		s.Rules = append(s.Rules, p.rule())
	case "route":
		s.Routes = append(s.Routes, p.route())
	case "nexthop":
		s.Nexthops = append(s.Nexthops, p.nexthop())
	case "nft":
		p.nft(s)
	case "forward":
		p.forward(s)
	default:
		p.kind = "state"
		p.fail(errors.New("a line begins with link, addr, rule, route, nexthop, nft or forward"))
	}
}

// kernelNames names nothing beyond what the kernel itself names.
type kernelNames struct{}

func (kernelNames) Table(uint32) string { return "" }

// orKernelNames makes a nil Names usable: with it the kernel's own tables and
// the protocols still go by name.
func orKernelNames(n Names) Names {
	if n == nil {
		return kernelNames{}
	}
	return n
}
