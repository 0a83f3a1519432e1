package spec_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/viarule/viarule/internal/sim"
	"github.com/viarule/viarule/internal/spec"
)

// Objects that are not from a file are checked for what specfile has checked as it
// read.
func TestExpectationsOfOtherSources(t *testing.T) {
	four, six := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	for _, c := range []struct {
		change func(*spec.Expectation)
		want   string
	}{
		{func(*spec.Expectation) {}, ""},
		{func(e *spec.Expectation) { e.To = six }, ""},
		{func(e *spec.Expectation) { e.Name = "" }, `spec.expect[0].name: "" cannot be the name of an expectation; write lower case letters, digits and '-', 63 at most, with a letter or digit at both ends`},
		{func(e *spec.Expectation) { e.To = netip.Addr{} }, "spec.expect[0].to: it does not say where the packet goes; write `to: ADDRESS`"},
		{func(e *spec.Expectation) { e.UID = 1<<32 - 1 }, "spec.expect[0].uid: 4294967295 is no user id; write a number from 0 to 4294967294"},
		{func(e *spec.Expectation) { e.Verdict, e.Leaves.Dev = "", "a/b" }, `spec.expect[0].leaves.dev: "a/b" cannot be the name of a link; a name has 1 to 15 characters, no space, '/' or ':'`},
		{func(e *spec.Expectation) { e.From, e.IIF, e.Verdict = four, "a b", spec.ExpectDropped }, `spec.expect[0].iif: "a b" cannot be the name of a link; a name has 1 to 15 characters, no space, '/' or ':'`},
		{func(e *spec.Expectation) { e.Verdict = "sent" }, `spec.expect[0].verdict: "sent" is not known; write one of Forwarded, Delivered, Sent, Dropped`},
	} {
		e := spec.Expectation{Name: "a", To: four, Verdict: spec.ExpectSent}
		c.change(&e)
		for _, o := range []spec.Object{
			{Ref: spec.Ref{Kind: spec.KindRoutingPolicy, Name: "a"}, Policy: &spec.RoutingPolicy{}},
			{Ref: spec.Ref{Kind: spec.KindExternalNetwork, Name: "a"}, External: &spec.ExternalNetwork{
				Interface: spec.Interface{Name: "eth1"}, Addresses: []spec.Addresses{{First: four, Last: four}},
			}},
		} {
			o.Expect = []spec.Expectation{e}
			if got := text(spec.Validate([]spec.Object{o}, spec.Known{})); got != c.want {
				t.Errorf("%s: got\n%s\nwant\n%s", o.Ref, got, c.want)
			}
		}
	}
}

// A list that is too long is told once, where it becomes so.
func TestTooManyExpectations(t *testing.T) {
	var b strings.Builder
	b.WriteString("  expect:\n")
	for i := range 1000 {
		fmt.Fprintf(&b, "  - {name: n%d, to: \"2001:db8::1\", verdict: Sent}\n", i)
	}
	want := "f:70: spec.expect: 1000 expectations are too many; 64 at most; several objects may have some"
	if got := text(spec.Validate(policy(t, b.String()), spec.Known{})); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// The verdicts that can be expected are those that there are, less the one that
// says nothing.
func TestExpectedVerdictsAreThoseOfSim(t *testing.T) {
	expected := map[sim.Verdict]spec.ExpectedVerdict{
		sim.Forwarded: spec.ExpectForwarded, sim.Delivered: spec.ExpectDelivered, sim.Sent: spec.ExpectSent, sim.Dropped: spec.ExpectDropped,
	}
	for v := sim.Unknown + 1; v.String() != "verdict?"; v++ {
		if got := strings.ToLower(string(expected[v])); got != v.String() {
			t.Errorf("%s is expected as %q", v, got)
		}
	}
}
