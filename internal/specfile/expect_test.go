package specfile

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/spec"
)

// expectations draws random valid expectations.
func (g gen) expectations() []spec.Expectation {
	var list []spec.Expectation
	for i := range g.n(0, 4) * g.n(0, 8) {
		f := g.family()
		e := spec.Expectation{Name: fmt.Sprintf("%s%d", rapid.SampledFrom([]string{"", "a", "a-b-", "0x"}).Draw(g.t, "name"), i), To: g.addr(f)}
		if g.chance() {
			e.From = g.addr(f)
		}
		if e.From.IsValid() && g.chance() {
			e.IIF = g.link()
		} else if g.chance() {
			e.UID = g.u32(0, spec.MaxUID)
		}
		if g.chance() {
			e.Mark, e.TOS = g.u32(0, 1<<32-1), uint8(g.n(0, 255))
		}
		if g.chance() {
			e.Proto = uint8(g.n(1, 255))
		}
		if spec.HasPorts(e.Proto) {
			e.SPort, e.DPort = uint16(g.n(0, 65535)), uint16(g.n(0, 65535))
		}
		goes := spec.ExpectSent
		if e.IIF != "" {
			goes = spec.ExpectForwarded
		}
		switch g.n(0, 3) {
		case 0:
			e.Verdict = rapid.SampledFrom([]spec.ExpectedVerdict{goes, spec.ExpectDelivered, spec.ExpectDropped}).Draw(g.t, "verdict")
		case 1:
			e.Leaves.Dev = g.link()
			if g.chance() {
				e.Verdict = goes
			}
		case 2:
			e.Leaves.Via = g.addr(f)
			if f == netstate.IPv4 && g.chance() {
				e.Leaves.Via = g.addr(netstate.IPv6)
			}
		case 3:
			e.Source = g.addr(f)
			if e.From.IsValid() {
				e.Source = e.From
			}
			if e.IIF != "" {
				e.Source, e.Verdict = netip.Addr{}, goes
			}
		}
		list = append(list, e)
	}
	return list
}

// everyExpectation has each key of spec.expect, for both families.
const everyExpectation = `  expect:
  - {name: answers, from: 192.0.2.10, to: 203.0.113.9, ipproto: tcp, sport: 443, dport: 65535, fwmark: 0x100, uid: 1000, tos: 0xb8, leaves: {dev: eth1, via: "fe80::1"}, verdict: Sent}
  - {name: answers6, from: "2001:db8::10", to: "2001:db8:9::9", leaves: {via: "2001:db8::1"}}
  - {name: transit, from: 10.0.0.1, to: 10.1.0.1, iif: eth0, leaves: {dev: eth1}, verdict: Forwarded}
  - {name: web6, from: "2001:db8:9::9", to: "2001:db8::10", iif: eth1, ipproto: udp, dport: 53, verdict: Delivered}
  - {name: "10", to: 10.2.0.1, verdict: Dropped}
  - {name: source, to: 198.51.100.1, source: 192.0.2.10}
  - {name: source6, to: "2001:db8:9::9", source: "2001:db8::10"}
`

func TestEveryKeyOfAnExpectation(t *testing.T) {
	for kind, head := range map[string]string{
		spec.KindRoutingPolicy:   "apiVersion: viarule.io/v1alpha1\nkind: RoutingPolicy\nmetadata:\n  name: a\nspec:\n",
		spec.KindExternalNetwork: "apiVersion: viarule.io/v1alpha1\nkind: ExternalNetwork\nmetadata:\n  name: a\nspec:\n  interface: {name: eth1}\n  addresses: [192.0.2.0/24]\n",
	} {
		t.Run(kind, func(t *testing.T) {
			text := head + everyExpectation
			objs, problems := Parse("f", []byte(text))
			if problems = append(problems, spec.Validate(objs, spec.Known{})...); len(problems) > 0 || len(objs) != 1 {
				t.Fatal(problems)
			}
			if got := string(Marshal(objs[0])); got != text {
				t.Errorf("got\n%s\nwant\n%s", got, text)
			}
			line := int32(strings.Count(head, "\n") + 2) // below the key
			want := spec.Expectation{
				Name: "answers", From: netip.MustParseAddr("192.0.2.10"), To: netip.MustParseAddr("203.0.113.9"), Proto: 6, SPort: 443, DPort: 65535,
				Mark: 0x100, UID: 1000, TOS: 0xb8, Leaves: spec.Leaves{Dev: "eth1", Via: netip.MustParseAddr("fe80::1")}, Verdict: spec.ExpectSent,
				Pos: spec.Pos{Line: line, Col: 5},
			}
			if got := objs[0].Expect[0]; got != want {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}
