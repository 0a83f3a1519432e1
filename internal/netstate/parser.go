package netstate

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// parser reads the words of one line. It keeps the first error and is harmless
// afterwards: every method then returns zero values.
type parser struct {
	line string // for errors
	rest string
	kind string
	err  error

	// seen are the keys so far: one that comes twice is an error, since only
	// the last would count.
	seen  [32]string
	nseen int
}

func newParser(kind, line string) *parser {
	return &parser{line: line, rest: line, kind: kind}
}

// fail keeps the first error.
func (p *parser) fail(err error) {
	if p.err == nil {
		p.err = fmt.Errorf("parse %s %q: %w", p.kind, p.line, err)
	}
}

func (p *parser) failf(format string, args ...any) { p.fail(fmt.Errorf(format, args...)) }

// next returns the next word; ok is false at the end of the line and after an
// error.
func (p *parser) next() (word string, ok bool) {
	if p.err != nil {
		return "", false
	}
	s := p.rest
	for s != "" && isSpace(s[0]) {
		s = s[1:]
	}
	if s == "" || s[0] == '#' {
		p.rest = ""
		return "", false
	}
	if s[0] == '"' {
		q, err := strconv.QuotedPrefix(s)
		if err != nil {
			p.fail(errors.New("a quote that does not end"))
			return "", false
		}
		w, err := strconv.Unquote(q)
		if err != nil {
			p.fail(err)
			return "", false
		}
		if s = s[len(q):]; s != "" && !isSpace(s[0]) {
			p.failf("no space after %s", q)
			return "", false
		}
		p.rest = s
		return w, true
	}
	i := 0
	for i < len(s) && !isSpace(s[i]) {
		i++
	}
	p.rest = s[i:]
	return s[:i], true
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

// peek returns the next word and leaves it.
func (p *parser) peek() string {
	rest := p.rest
	w, _ := p.next()
	p.rest = rest
	return w
}

// accept takes the next word if it is w.
func (p *parser) accept(w string) bool {
	rest := p.rest
	if got, ok := p.next(); ok && got == w {
		return true
	}
	p.rest = rest
	return false
}

// expect takes the next word, which must be w.
func (p *parser) expect(w string) {
	if got, ok := p.next(); p.err == nil && (!ok || got != w) {
		p.failf("%q where %q should be", got, w)
	}
}

// key returns the next key; ok is false at the end.
func (p *parser) key() (k string, ok bool) {
	k, ok = p.next()
	if !ok {
		return "", false
	}
	for i := range p.nseen {
		if p.seen[i] == k {
			p.failf("%s twice", k)
			return "", false
		}
	}
	if p.nseen < len(p.seen) {
		p.seen[p.nseen] = k
		p.nseen++
	}
	return k, true
}

// arg returns the value of a key.
func (p *parser) arg(key string) string {
	w, ok := p.next()
	if !ok {
		p.failf("%s: no value", key)
	}
	return w
}

func (p *parser) uint(key string, bits int) uint64 {
	s := p.arg(key)
	if p.err != nil {
		return 0
	}
	v, err := parseUint(s, bits)
	if err != nil {
		p.failf("%s: %q is not a number of %d bits", key, s, bits)
	}
	return v
}

func (p *parser) u8(key string) uint8   { return uint8(p.uint(key, 8)) }
func (p *parser) u16(key string) uint16 { return uint16(p.uint(key, 16)) }
func (p *parser) u32(key string) uint32 { return uint32(p.uint(key, 32)) }

// addr reads an address; family 0 takes either.
func (p *parser) addr(key string, f Family) netip.Addr {
	s := p.arg(key)
	if p.err != nil {
		return netip.Addr{}
	}
	return p.toAddr(key, s, f)
}

func (p *parser) toAddr(key, s string, f Family) netip.Addr {
	a, err := netip.ParseAddr(s)
	switch {
	case err != nil:
		p.failf("%s: %q is not an address", key, s)
	case a.Zone() != "":
		p.failf("%s: %q has a zone", key, s)
	case f != 0 && FamilyOf(a) != f:
		p.failf("%s: %s is not an %s address", key, s, f)
	default:
		return a
	}
	return netip.Addr{}
}

// prefix reads a prefix or a single address; family 0 takes either.
func (p *parser) prefix(key string, f Family) netip.Prefix {
	s := p.arg(key)
	if p.err != nil {
		return netip.Prefix{}
	}
	return p.toPrefix(key, s, f)
}

func (p *parser) toPrefix(key, s string, f Family) netip.Prefix {
	if strings.IndexByte(s, '/') < 0 {
		a := p.toAddr(key, s, f)
		if p.err != nil {
			return netip.Prefix{}
		}
		return netip.PrefixFrom(a, a.BitLen())
	}
	pfx, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		p.failf("%s: %q is not a prefix", key, s)
	case f != 0 && FamilyOf(pfx.Addr()) != f:
		p.failf("%s: %s is not an %s prefix", key, s, f)
	default:
		return pfx
	}
	return netip.Prefix{}
}

// selector reads a prefix where all, and a length of 0, mean no selector.
func (p *parser) selector(key string, f Family) netip.Prefix {
	if p.accept("all") {
		return netip.Prefix{}
	}
	pfx := p.prefix(key, f)
	if pfx.IsValid() && pfx.Bits() == 0 {
		return netip.Prefix{}
	}
	return pfx
}

func (p *parser) named(key string, n names, bits int) uint32 {
	s := p.arg(key)
	if p.err != nil {
		return 0
	}
	if v, ok := n.num(s); ok {
		return v
	}
	v, err := parseUint(s, bits)
	if err != nil {
		p.failf("%s: %q is neither a name nor a number of %d bits", key, s, bits)
	}
	return uint32(v)
}

func (p *parser) table() uint32      { return p.named("table", tableNames, 32) }
func (p *parser) protocol() uint8    { return uint8(p.named("proto", protocolNames, 8)) }
func (p *parser) scope() Scope       { return Scope(p.named("scope", scopeNames, 8)) }
func (p *parser) opt(key string) Opt { return Some(p.u32(key)) }

// numRange reads A-B, or A for A-A.
func (p *parser) numRange(key string, bits int) (lo, hi uint64) {
	s := p.arg(key)
	if p.err != nil {
		return 0, 0
	}
	a, b, two := strings.Cut(s, "-")
	lo, err := parseUint(a, bits)
	hi = lo
	if err == nil && two {
		hi, err = parseUint(b, bits)
	}
	if err != nil || lo > hi {
		p.failf("%s: %q is not a range of numbers of %d bits", key, s, bits)
		return 0, 0
	}
	return lo, hi
}

func (p *parser) ports(key string) PortRange {
	lo, hi := p.numRange(key, 16)
	if p.err == nil && lo == 0 {
		p.failf("%s: port 0 cannot be selected", key)
	}
	return PortRange{uint16(lo), uint16(hi)}
}

func (p *parser) realms() uint32 {
	s := p.arg("realms")
	if p.err != nil {
		return 0
	}
	a, b, two := strings.Cut(s, "/")
	if !two {
		a, b = "0", a
	}
	from, err1 := parseUint(a, 16)
	to, err2 := parseUint(b, 16)
	if err1 != nil || err2 != nil {
		p.failf("realms: %q is not FROM/TO with numbers up to 65535", s)
		return 0
	}
	return uint32(from)<<16 | uint32(to)
}

func (p *parser) unknown() string {
	s := p.arg("unknown")
	if p.err != nil {
		return ""
	}
	raw, err := hex.DecodeString(s)
	if err != nil || len(raw) == 0 {
		p.failf("unknown: %q is not bytes in hexadecimal", s)
	}
	return string(raw)
}

// family reads the -6 or -4 that may follow the kind.
func (p *parser) family() Family {
	switch {
	case p.accept("-6"):
		return IPv6
	case p.accept("-4"):
		return IPv4
	}
	return IPv4
}

// end returns the error, if any word is left or went wrong.
func (p *parser) end() error {
	if w, ok := p.next(); ok {
		p.failf("%q does not belong here", w)
	}
	return p.err
}
