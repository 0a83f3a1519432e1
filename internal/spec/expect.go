package spec

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/viarule/viarule/internal/netstate"
)

// Expectation is what must become of one packet. It is checked by simulation before
// an apply, and by `viarule explain --expect`; nothing in the kernel stands for it.
// Of the packet, what has its zero value is not said.
type Expectation struct {
	Name     string
	From, To netip.Addr // From is optional for a packet that is made on the host
	IIF      string     // empty: made on the host
	Proto    uint8
	SPort    uint16
	DPort    uint16
	Mark     uint32
	UID      uint32
	TOS      uint8

	Leaves  Leaves
	Verdict ExpectedVerdict
	Source  netip.Addr // that a packet which is made on the host gets
	Pos     Pos
}

// Leaves is the way out that is expected; what is not said does not count.
type Leaves struct {
	Dev string
	Via netip.Addr
}

// ExpectedVerdict is what is expected to become of a packet.
type ExpectedVerdict string

// The verdicts that can be expected; empty: not said.
const (
	ExpectForwarded ExpectedVerdict = "Forwarded"
	ExpectDelivered ExpectedVerdict = "Delivered"
	ExpectSent      ExpectedVerdict = "Sent"
	ExpectDropped   ExpectedVerdict = "Dropped"
)

// MaxExpectations is how many an object may have, in a file and in a cluster.
const MaxExpectations = 64

// CheckExpectationName says whether s can name an expectation: a DNS label
// (RFC 1123), so that it can be a key in a cluster.
func CheckExpectationName(s string) error {
	ok := s != "" && len(s) <= 63
	for i := 0; ok && i < len(s); i++ {
		c := s[i]
		ok = c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' && i > 0 && i < len(s)-1
	}
	if !ok {
		return valueErrorf("write lower case letters, digits and '-', 63 at most, with a letter or digit at both ends", "%q cannot be the name of an expectation", clip(s))
	}
	return nil
}

// ParseExpectedMark reads the mark of one packet: 256 or 0x100, without a mask.
func ParseExpectedMark(s string) (uint32, error) {
	const do = "write the packet's mark, as 256 or 0x100"
	if strings.Contains(s, "/") {
		return 0, valueErrorf(do, "a packet has a mark, and no mask")
	}
	v, ok := parseNumber(s, true)
	if !ok || v > 1<<32-1 {
		return 0, valueErrorf(do, "%q is not a mark", clip(s))
	}
	return uint32(v), nil
}

// ParseExpectedTOS reads the DS field of one packet. Unlike a rule's selector it
// may have any value: routing leaves the two bits for congestion notification out.
func ParseExpectedTOS(s string) (uint8, error) {
	v, ok := parseNumber(s, true)
	if !ok || v > 0xff {
		return 0, valueErrorf("write a number from 0 to 255, as 16 or 0x10", "%q is not a TOS value", clip(s))
	}
	return uint8(v), nil
}

// checkExpect checks the expectations of one object.
func (v *validator) checkExpect(o *Object) {
	if n := len(o.Expect); n > MaxExpectations {
		v.report(Error, place{o, -1, -1}, o.Expect[MaxExpectations].Pos, "spec.expect", fmt.Sprintf("%d expectations are too many", n),
			fmt.Sprintf("%d at most; several objects may have some", MaxExpectations))
		return
	}
	seen := map[string]int{}
	for i := range o.Expect {
		e := &o.Expect[i]
		here := spot{o, fmt.Sprintf("spec.expect[%d]", i), e.Pos}
		fail := func(key, what, do string) {
			at := here
			if key != "" {
				at.path += "." + key
			}
			v.failAt(at, what, do)
		}
		if first, again := seen[e.Name]; again && e.Name != "" {
			other := spot{o, fmt.Sprintf("spec.expect[%d]", first), o.Expect[first].Pos}
			fail("name", fmt.Sprintf("the name %s is there twice; first in %s", e.Name, other.seenFrom(o)), "give each its own")
		} else {
			seen[e.Name] = i
		}
		e.check(fail)
	}
}

// check checks one expectation by itself.
func (e *Expectation) check(fail func(key, what, do string)) {
	value := func(key string, err error) {
		if err, wrong := err.(*ValueError); wrong {
			fail(key, err.What, err.Do)
		}
	}
	value("name", CheckExpectationName(e.Name))
	for _, l := range [2]struct{ key, name string }{{"iif", e.IIF}, {"leaves.dev", e.Leaves.Dev}} {
		if l.name != "" {
			value(l.key, CheckLinkName(l.name))
		}
	}
	if e.UID > MaxUID {
		fail("uid", fmt.Sprintf("%d is no user id", e.UID), fmt.Sprintf("write a number from 0 to %d", uint32(MaxUID)))
	}
	if (e.SPort != 0 || e.DPort != 0) && !HasPorts(e.Proto) {
		fail("", "a port without a protocol that has ports", "write ipproto as well: tcp, udp, dccp, sctp or udplite")
	}
	e.checkAddresses(fail)
	e.checkArrival(fail)
	e.checkAnswer(fail)
}

func (e *Expectation) checkAddresses(fail func(key, what, do string)) {
	f := netstate.FamilyOf(e.To)
	if f == 0 {
		fail("to", "it does not say where the packet goes", "write `to: ADDRESS`")
		return
	}
	other := func(a netip.Addr) bool { return a.IsValid() && netstate.FamilyOf(a) != f }
	if other(e.From) {
		fail("from", fmt.Sprintf("%s and %s are of two families", e.From, e.To), "write two addresses of one")
	}
	if other(e.Source) {
		fail("source", fmt.Sprintf("%s and %s are of two families", e.Source, e.To), "write two addresses of one")
	}
	if f == netstate.IPv6 && other(e.Leaves.Via) {
		fail("leaves.via", "an IPv6 packet does not go by an IPv4 gateway", "write an IPv6 gateway")
	}
}

// checkArrival is about packets that come in, and those that are made here.
func (e *Expectation) checkArrival(fail func(key, what, do string)) {
	switch {
	case e.IIF != "" && !e.From.IsValid():
		fail("iif", "a packet that comes in has a source", "write `from: ADDRESS`, or leave iif out for a packet of this host")
	case e.IIF == "lo":
		fail("iif", "what comes in by lo was made on this host", "leave iif out")
	case e.IIF != "" && e.UID != 0:
		fail("uid", "a packet that comes in has no owner", "leave uid or iif out")
	case e.IIF != "" && e.Source.IsValid():
		fail("source", "a packet that comes in keeps its source", "leave source or iif out")
	case e.From.IsValid() && e.Source.IsValid() && e.From != e.Source:
		fail("source", fmt.Sprintf("the packet has the source %s already, which from says", e.From), "leave from out, so that the host chooses one, or source")
	}
	switch {
	case e.Verdict == ExpectForwarded && e.IIF == "":
		fail("verdict", "only what comes in is forwarded", "write from and iif as well, or `verdict: Sent`")
	case e.Verdict == ExpectSent && e.IIF != "":
		fail("verdict", "only what is made on this host is sent", "write `verdict: Forwarded`, or leave iif out")
	}
}

// checkAnswer is about what is expected.
func (e *Expectation) checkAnswer(fail func(key, what, do string)) {
	switch e.Verdict {
	case "", ExpectForwarded, ExpectDelivered, ExpectSent, ExpectDropped:
	default:
		fail("verdict", fmt.Sprintf("%q is not known", clip(string(e.Verdict))), "write one of Forwarded, Delivered, Sent, Dropped")
		return
	}
	way := e.Leaves != Leaves{} || e.Source.IsValid()
	switch {
	case !way && e.Verdict == "":
		fail("", "it does not say what is expected", "write one of leaves, verdict and source")
	case way && (e.Verdict == ExpectDropped || e.Verdict == ExpectDelivered && e.Leaves != Leaves{}):
		fail("verdict", fmt.Sprintf("what is %s leaves by no way", e.Verdict), "leave verdict, or leaves and source, out")
	}
}
