package spec_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/spec"
	"github.com/viarule/viarule/internal/specfile"
)

// The single faults have their fixtures in internal/specfile/testdata. Here is
// what those cannot show: what Known changes, bounds, and the law of shadows.

// policy reads an object of the given body.
func policy(t testing.TB, body string) []spec.Object {
	t.Helper()
	objs, problems := specfile.Parse("f", []byte("apiVersion: viarule.io/v1alpha1\nkind: RoutingPolicy\nmetadata: {name: a}\nspec:\n"+body))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return objs
}

func text(problems []spec.Problem) string {
	var lines []string
	for _, p := range problems {
		lines = append(lines, p.String())
	}
	return strings.Join(lines, "\n")
}

func TestValidateKnowsTheHost(t *testing.T) {
	neighbour := func(p uint32) string {
		if p == 1000 {
			return "Spiderpool"
		}
		return ""
	}
	host := spec.Known{Tables: map[string]uint32{"isp": 77}, Neighbour: neighbour, First: 2200, Last: 2999}
	for _, c := range []struct {
		name, body string
		known      spec.Known
		want       string
	}{
		{"a name of the host's rt_tables is known", "  rules: [{from: [10.0.0.1], table: isp}]\n", host, ""},
		{"a name that nobody knows", "  rules: [{from: [10.0.0.1], table: isb}]\n", host,
			"f:5: spec.rules[0].table: there is no table isb, neither here nor in this host's rt_tables; add it to tables, or write its number"},
		{"with a host, empty tables are for desired to find", "  tables: [{name: t}]\n  rules: [{from: [10.0.0.1], table: t}, {from: [10.0.0.2], priority: 20, goto: 30}]\n", host, ""},
		{"a name has another number here", "  tables: [{name: isp, id: 78}]\n", host,
			"f:5: spec.tables[0].id: rt_tables of this host says that the table isp is 77; leave id out, or choose another name"},
		{"a name has this number here", "  tables: [{name: isp, id: 77}]\n", host, ""},
		{"a neighbour's priority", "  rules: [{from: [\"2001:db8::1\"], priority: 1000, table: main}]\n", host,
			"f:5: warning: spec.rules[0].priority: Spiderpool uses the priority 1000 on hosts that have it; use another one, or leave it out"},
		{"goto out of the band", "  rules: [{from: [10.0.0.1], goto: 3000}]\n", host, ""},
		{"goto before the band", "  rules: [{from: [10.0.0.1], goto: 2200}]\n", host,
			"f:5: spec.rules[0].goto: goto leads to later rules only, and rules without a priority come after 2200; write a priority, or a higher target"},
		{"a rule before the band shadows one in it", "  rules: [{from: [10.0.0.1], table: main}, {from: [10.0.0.0/8], priority: 100, blackhole: true}]\n", host,
			"f:5: warning: spec.rules[0]: the rule can never match: the one in line 5 comes before it, selects all that it selects, and ends the walk; put it first, or leave it out"},
		{"a rule of the band shadows one behind it", "  rules: [{from: [\"2001:db8::/64\"], priority: 3100, table: main}, {from: [\"2001:db8::/32\"], blackhole: true}]\n", host,
			"f:5: warning: spec.rules[0]: the rule can never match: the one in line 5 comes before it, selects all that it selects, and ends the walk; put it first, or leave it out"},
		{"in the band nobody knows which comes first", "  rules: [{from: [10.0.0.1], table: main}, {from: [10.0.0.0/8], priority: 2300, blackhole: true}]\n", host, ""},
		{"without a band nobody knows either", "  rules: [{from: [10.0.0.1], table: main}, {from: [10.0.0.0/8], priority: 100, blackhole: true}]\n", spec.Known{}, ""},
		{"a list is shadowed only as a whole", "  rules: [{from: [10.0.0.0/8], blackhole: true}, {from: [10.0.0.1, 11.0.0.1], table: main}]\n", spec.Known{}, ""},
		{"both families are shadowed or none", "  rules: [{from: [0.0.0.0/0], blackhole: true}, {iif: eth0, table: main}]\n", spec.Known{}, ""},
		{"both families are shadowed", "  rules: [{from: [0.0.0.0/0, \"::/0\"], blackhole: true}, {iif: eth0, table: main}]\n", spec.Known{},
			"f:5: warning: spec.rules[1]: the rule can never match: the one in line 5 comes before it, selects all that it selects, and ends the walk; put it first, or leave it out"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := text(spec.Validate(policy(t, c.body), c.known)); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

func TestValidateBounds(t *testing.T) {
	list := func(n int, s string) string { return "[" + strings.TrimSuffix(strings.Repeat(s+", ", n), ", ") + "]" }
	small := spec.Limits{Tables: 1, Routes: 2, Nexthops: 2, Rules: 2, Prefixes: 3, Pairs: 5}
	for _, c := range []struct{ body, want string }{
		{"  tables: [{name: t}, {name: u}]\n", "f:1: spec.tables: there are 2 tables; an object may have 1; make several objects"},
		{"  tables: [{name: t, routes: [{to: 10.0.0.1, dev: a}, {to: 10.0.0.2, dev: a}, {to: \"2001:db8::1\", dev: a}]}]\n",
			"f:5: spec.tables[0].routes: there are 3 routes; a table may have 2 in one object; put the others into another object"},
		{"  tables: [{name: t, routes: [{to: 10.0.0.1, nexthops: " + list(3, "{dev: a}") + "}]}]\n", "f:5: spec.tables[0].routes[0].nexthops: there are 3 next hops; a route may have 2"},
		{"  rules: " + list(3, "{nop: true}") + "\n", "f:1: spec.rules: there are 3 rules; an object may have 2; make several objects"},
		{"  rules: [{from: [10.0.0.1, 10.0.0.2, 10.0.0.3, 10.0.0.4], nop: true}]\n", "f:5: spec.rules[0].from: there are 4 prefixes; a list may have 3; make several rules"},
		{"  rules: [{from: [10.0.0.1, 10.0.0.2], to: [10.0.0.1, 10.0.0.2, 10.0.0.3], nop: true}]\n",
			"f:5: spec.rules[0].to: the rule stands for 6 pairs of from and to; a rule may stand for 5; send the packets to a table by one of the lists"},
	} {
		if got := text(spec.Validate(policy(t, c.body), spec.Known{Limits: small})); got != c.want {
			t.Errorf("got\n%s\nwant\n%s", got, c.want)
		}
	}
}

func TestProblemsAreCounted(t *testing.T) {
	var b strings.Builder
	b.WriteString("  rules:\n")
	for i := range spec.MaxProblems + 7 {
		fmt.Fprintf(&b, "  - {from: [10.0.%d.0/24], priority: 32766, table: main}\n", i)
	}
	got := spec.Validate(policy(t, b.String()), spec.Known{})
	if n := len(got); n != spec.MaxProblems+1 || got[n-1].String() != "7 more are not shown; look at these first" {
		t.Errorf("%d problems, the last one %s", n, got[n-1])
	}
}

// A hostile file multiplies: it must be refused in no time and little memory.
func TestRulesThatMultiplyAreRefused(t *testing.T) {
	r := spec.Rule{Action: netstate.Nop, Priority: netstate.Some(300)}
	for i := range 1024 {
		r.From = append(r.From, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 32))
	}
	r.To = r.From
	p := &spec.RoutingPolicy{}
	for range 10_000 {
		p.Rules = append(p.Rules, r)
	}
	got := spec.Validate([]spec.Object{{Policy: p}}, spec.Known{})
	if len(got) != 1 || !strings.Contains(got[0].What, "more than 4194304 rules") {
		t.Errorf("%v", text(got))
	}
}

// TestNoWarningIsWrong draws rules over a world of a few packets, and walks
// every packet through them: a rule that Validate calls unreachable must never
// be come to by a packet that it selects. Tables with a default route end the
// walk, others may or may not, so both are tried.
func TestNoWarningIsWrong(t *testing.T) {
	warnings := 0
	rapid.Check(t, func(rt *rapid.T) {
		draw := func(n int, what string) int { return rapid.IntRange(0, n-1).Draw(rt, what) }
		p := &spec.RoutingPolicy{Tables: []spec.Table{
			{Name: "full", Routes: []spec.Route{{To: netstate.IPv4.Default(), Dev: "a", Type: netstate.RouteUnicast}, {To: netstate.IPv6.Default(), Dev: "a", Type: netstate.RouteUnicast}}},
			{Name: "part", Routes: []spec.Route{{To: netip.MustParsePrefix("192.0.2.0/24"), Dev: "a", Type: netstate.RouteUnicast}}},
			{Name: "thrown", Routes: []spec.Route{{To: netstate.IPv4.Default(), Type: netstate.RouteThrow}}},
		}}
		v6 := draw(2, "v6") == 1
		prefix := func() netip.Prefix {
			if v6 {
				return netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, 15: byte(draw(8, "host"))}), 125+draw(4, "bits")).Masked()
			}
			return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(draw(8, "host"))}), 29+draw(4, "bits")).Masked()
		}
		ports := func() netstate.PortRange {
			lo := 1 + draw(3, "lo")
			return netstate.PortRange{Lo: uint16(lo), Hi: uint16(lo + draw(3, "hi"))}
		}
		for i := range 2 + draw(10, "rules") {
			r := spec.Rule{Priority: netstate.Some(uint32(10 * (1 + draw(6, "priority")))), Table: spec.TableRef{Name: "full"}}
			for range draw(3, "from") {
				r.From = append(r.From, prefix())
			}
			for range draw(2, "to") {
				r.To = append(r.To, prefix())
			}
			if draw(3, "proto") == 0 {
				r.Proto = 6
				if draw(2, "ports") == 0 {
					r.DPort = ports()
				}
			}
			if draw(3, "mark") == 0 {
				mask := uint32(1 + draw(3, "mask"))
				r.Mark = netstate.Mark{Value: uint32(draw(4, "value")) & mask, Mask: mask}
			}
			if draw(4, "dscp") == 0 {
				r.DSCP = netstate.Some(uint32(draw(2, "d")))
			}
			if draw(4, "uid") == 0 {
				lo := uint32(draw(2, "u"))
				r.UID = netstate.UIDRange{Set: true, Lo: lo, Hi: lo + uint32(draw(2, "w"))}
			}
			r.Not = draw(8, "not") == 0
			switch draw(8, "action") {
			case 0:
				r.Action = netstate.Blackhole
			case 1:
				r.Action, r.Goto = netstate.Goto, r.Priority.Val+10*uint32(1+draw(3, "goto"))
			case 2:
				r.Action = netstate.Nop
			case 3:
				r.Action, r.SuppressPrefixLength = netstate.ToTable, netstate.Some(0)
			case 4:
				r.Action, r.Table.Name = netstate.ToTable, []string{"part", "thrown"}[draw(2, "table")]
			default:
				r.Action = netstate.ToTable
			}
			r.Pos.Line = int32(i + 1)
			p.Rules = append(p.Rules, r)
		}
		objs := []spec.Object{{Ref: spec.Ref{Kind: spec.KindRoutingPolicy, Name: "a"}, File: "f", Policy: p}}
		for _, w := range spec.Validate(objs, spec.Known{}) {
			if !strings.Contains(w.What, "can never match") {
				continue
			}
			warnings++
			for pkt := range packets(v6) {
				for _, full := range []bool{true, false} {
					if slices.Contains(walk(p.Rules, pkt, full), w.Pos.Line) {
						rt.Fatalf("%s\nbut %+v comes to it in\n%+v", w, pkt, p.Rules)
					}
				}
			}
		}
	})
	if warnings == 0 {
		t.Error("no rule was ever called unreachable, so this proves nothing")
	}
}

type packet struct {
	from, to   netip.Addr
	proto      uint8
	port       uint16
	mark       uint32
	dscp, user uint32
}

func packets(v6 bool) func(func(packet) bool) {
	addr := func(i int) netip.Addr {
		if v6 {
			return netip.AddrFrom16([16]byte{0x20, 1, 15: byte(i)})
		}
		return netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})
	}
	return func(yield func(packet) bool) {
		for n := range 8 * 8 * 6 * 4 * 2 * 3 {
			p := packet{proto: 6}
			take := func(k int) int { v := n % k; n /= k; return v }
			p.from, p.to = addr(take(8)), addr(take(8))
			if port := take(6); port > 0 {
				p.port = uint16(port)
			} else {
				p.proto = 17
			}
			p.mark, p.dscp, p.user = uint32(take(4)), uint32(take(2)), uint32(take(3))
			if !yield(p) {
				return
			}
		}
	}
}

// walk gives the lines of the rules that select the packet where it comes by.
// full says whether the tables that need not have a route for it have one.
func walk(rules []spec.Rule, pkt packet, full bool) []int32 {
	order := make([]int, len(rules))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return int(rules[a].Priority.Val) - int(rules[b].Priority.Val) })
	var lines []int32
	least := uint32(0)
	for _, i := range order {
		r := &rules[i]
		if r.Priority.Val < least || selects(r, pkt) == r.Not {
			continue
		}
		lines = append(lines, r.Pos.Line)
		switch {
		case r.Action == netstate.Blackhole:
			return lines
		case r.Action == netstate.Goto:
			if slices.ContainsFunc(rules, func(o spec.Rule) bool { return o.Priority.Val == r.Goto }) {
				least = r.Goto
			}
		case r.Action == netstate.ToTable && (full && r.Table.Name != "thrown" || r.Table.Name == "full" && !r.SuppressPrefixLength.Set):
			return lines
		}
	}
	return lines
}

func selects(r *spec.Rule, p packet) bool {
	within := func(list []netip.Prefix, a netip.Addr) bool {
		return len(list) == 0 || slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(a) })
	}
	return within(r.From, p.from) && within(r.To, p.to) &&
		(r.Proto == 0 || r.Proto == p.proto) &&
		(r.DPort == netstate.PortRange{} || p.port >= r.DPort.Lo && p.port <= r.DPort.Hi) &&
		(p.mark^r.Mark.Value)&r.Mark.Mask == 0 &&
		(!r.DSCP.Set || r.DSCP.Val == p.dscp) &&
		(!r.UID.Set || p.user >= r.UID.Lo && p.user <= r.UID.Hi)
}

// many is n routes in one table, and n/10 source policies over eight tables.
func many(n int) []spec.Object {
	p := &spec.RoutingPolicy{Tables: []spec.Table{{Name: "t", ID: 200}}}
	for i := range n {
		a := netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)})
		p.Tables[0].Routes = append(p.Tables[0].Routes, spec.Route{To: netip.PrefixFrom(a, 32), Via: netip.AddrFrom4([4]byte{10, 99, 0, 2}), Dev: "out", Type: netstate.RouteUnicast})
		if i%10 == 0 {
			p.Rules = append(p.Rules, spec.Rule{From: []netip.Prefix{netip.PrefixFrom(a, 32)}, Action: netstate.ToTable, Table: spec.TableRef{ID: 200 + uint32(i/10%8)}})
		}
	}
	for i := range 8 {
		p.Tables = append(p.Tables, spec.Table{Name: fmt.Sprintf("u%d", i), ID: 201 + uint32(i), Routes: []spec.Route{{To: netstate.IPv4.Default(), Dev: "out", Type: netstate.RouteUnicast}}})
	}
	return []spec.Object{{Ref: spec.Ref{Kind: spec.KindRoutingPolicy, Name: "many"}, File: "f", Policy: p}}
}

func benchmarkValidate(b *testing.B, n int, sorted bool) {
	objs := many(n)
	if !sorted {
		slices.Reverse(objs[0].Policy.Tables[0].Routes)
	}
	b.ReportAllocs()
	for b.Loop() {
		if ps := spec.Validate(objs, spec.Known{}); spec.Failed(ps) {
			b.Fatal(ps[0])
		}
	}
}

func BenchmarkValidate100k(b *testing.B)         { benchmarkValidate(b, 100_000, true) }
func BenchmarkValidate100kReversed(b *testing.B) { benchmarkValidate(b, 100_000, false) }
func BenchmarkValidate1m(b *testing.B)           { benchmarkValidate(b, 1_000_000, true) }
