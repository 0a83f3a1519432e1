package plan

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/viarule/viarule/internal/desired"
	"github.com/viarule/viarule/internal/netstate"
)

// union is what records claim while a namespace goes from one want to another.
func union(wants ...desired.Want) Recorded {
	rec := Recorded{Rules: map[netstate.Rule]bool{}, Routes: map[netstate.RouteKey]bool{}, Links: map[string]bool{}}
	for _, w := range wants {
		for i := range w.Links {
			rec.Links[w.Links[i].Name] = true
		}
		rec.Nft = rec.Nft || w.Nft != nil
		for i := range w.Rules {
			rec.Rules[w.Rules[i].Rule] = true
		}
		for i := range w.Routes {
			rec.Routes[w.Routes[i].Key()] = true
		}
	}
	return rec
}

// input is what a run sees that starts at k.
func input(k *kernel, want desired.Want, rec Recorded, adopt bool) Input {
	return Input{Want: want, Have: k.state(), Sysctls: maps.Clone(k.sysctls), Recorded: rec, Adopt: adopt}
}

// carryOut applies a plan and calls after each op.
func carryOut(t *rapid.T, k *kernel, p *Plan, after func(done int)) {
	for i := range p.Ops {
		if err := k.apply(&p.Ops[i].Change); err != nil {
			t.Fatalf("%s: %v\nplan:\n%s\nstate:\n%s", p.Ops[i].Change, err, show(p), k.state())
		}
		if after != nil {
			after(i + 1)
		}
	}
}

// watch carries out a plan and wants that every packet always meets its decision
// of before or of after. A plan that says that it must close a tree which is in
// use makes no such promise.
func watch(t *rapid.T, k *kernel, p *Plan, probes []packet) {
	if closesUsed(p, k) {
		probes = nil
	}
	before, end := k.clone(), k.clone()
	carryOut(t, end, p, nil)
	old, new := decisions(before.rules, probes), decisions(end.rules, probes)
	carryOut(t, k, p, func(done int) {
		for i, d := range decisions(k.rules, probes) {
			if d != old[i] && d != new[i] {
				t.Fatalf("after %d ops (%s) %v meets %q: before %q, at the end %q\nplan:\n%s\nstate before:\n%s", done, p.Ops[done-1].Change, probes[i], d, old[i], new[i], show(p), before.state())
			}
		}
	})
}

// foreignOf gives what is not ours and not among taken, as text.
func foreignOf(k *kernel, taken map[netstate.Rule]bool, keys map[netstate.RouteKey]bool) string {
	var s netstate.State
	for _, r := range k.rules {
		if !ours(r.Protocol) && !taken[r] {
			s.Rules = append(s.Rules, r)
		}
	}
	for _, r := range k.routes {
		if !ours(r.Protocol) && !keys[r.Key()] {
			s.Routes = append(s.Routes, r)
		}
	}
	return s.String()
}

// oursOf gives the rest.
func oursOf(k *kernel, taken map[netstate.Rule]bool, keys map[netstate.RouteKey]bool) string {
	var s netstate.State
	for _, r := range k.rules {
		if ours(r.Protocol) || taken[r] {
			s.Rules = append(s.Rules, r)
		}
	}
	for _, r := range k.routes {
		if ours(r.Protocol) || keys[r.Key()] {
			s.Routes = append(s.Routes, r)
		}
	}
	return s.String()
}

// touched gives the foreign objects that a plan takes over.
func touched(p *Plan) (map[netstate.Rule]bool, map[netstate.RouteKey]bool) {
	rules, keys := map[netstate.Rule]bool{}, map[netstate.RouteKey]bool{}
	for i := range p.Ops {
		op := &p.Ops[i]
		if op.Rule != nil && !ours(op.Rule.Protocol) {
			rules[*op.Rule] = true
		}
		if op.BeforeRoute != nil && !ours(op.BeforeRoute.Protocol) {
			keys[op.BeforeRoute.Key()] = true
		}
	}
	return rules, keys
}

// checkRun carries out the plan from k to want and checks all that a plan
// promises: at every point Undo leads back and Diff leads on; foreign objects
// stay; the end is what is wanted. With probes, every packet always meets its
// decision of before or of after. It returns the plan.
func checkRun(t *rapid.T, k *kernel, want desired.Want, rec Recorded, adopt bool, probes []packet) Plan {
	before := k.clone()
	p := Diff(input(k, want, rec, adopt))
	taken, keys := touched(&p)
	if !adopt && len(taken)+len(keys) > 0 {
		t.Fatalf("the plan changes foreign objects:\n%s", show(&p))
	}
	cp := p.Checkpoint(before.state(), before.sysctls)
	foreignBefore := foreignOf(before, taken, keys)

	end := before.clone()
	watch(t, end, &p, probes)

	carryOut(t, k, &p, func(done int) {
		if got := foreignOf(k, taken, keys); got != foreignBefore {
			t.Fatalf("after %d ops foreign objects are\n%snot\n%s", done, got, foreignBefore)
		}
		// Undo, from here.
		back := k.clone()
		u := Undo(cp, back.state(), back.sysctls)
		watch(t, back, &u, probes)
		if got, want := oursOf(back, taken, keys), oursOf(before, taken, keys); got != want || !maps.Equal(back.sysctls, before.sysctls) {
			t.Fatalf("undo after %d ops gives\n%sbefore was\n%sstate:\n%s\nundo:\n%s\nplan:\n%s", done, got, want, k.state(), show(&u), show(&p))
		}
		if got := foreignOf(back, taken, keys); got != foreignBefore {
			t.Fatalf("undo after %d ops changes foreign objects", done)
		}
		// kill -9 here, and again.
		on := k.clone()
		q := Diff(input(on, want, rec, adopt))
		watch(t, on, &q, probes)
		if got, want := oursOf(on, nil, nil), oursOf(end, nil, nil); got != want {
			t.Fatalf("a second run after %d ops ends in\n%snot in\n%splan:\n%s\nsecond:\n%s", done, got, want, show(&p), show(&q))
		}
	})
	if again := Diff(input(k, want, rec, adopt)); !again.Empty() {
		t.Fatalf("after the plan there is still to do:\n%s\nplan:\n%s\nstate:\n%s", show(&again), show(&p), k.state())
	}
	if len(p.Satisfied)+len(p.Conflicts)+len(p.Orphans) == 0 {
		checkEnd(t, k, &want)
	}
	return p
}

// checkEnd wants that ours is what is wanted, in order.
func checkEnd(t *rapid.T, k *kernel, want *desired.Want) {
	seen := map[netstate.Rule]bool{}
	var rules []netstate.Rule
	for i := range want.Rules {
		if r := want.Rules[i].Rule; !seen[r] {
			seen[r] = true
			rules = append(rules, r)
		}
	}
	got := slices.DeleteFunc(slices.Clone(k.rules), func(r netstate.Rule) bool { return !ours(r.Protocol) })
	if !slices.Equal(got, rules) {
		t.Fatalf("rules of ours are\n%s\nwanted\n%s", netstate.State{Rules: got}, netstate.State{Rules: rules})
	}
	n := 0
	for i := range k.routes {
		if !ours(k.routes[i].Protocol) {
			continue
		}
		if n >= len(want.Routes) || !k.routes[i].Equal(&want.Routes[n].Route) {
			t.Fatalf("route %s of ours is not wanted, or not in its place", k.routes[i])
		}
		n++
	}
	if n != len(want.Routes) {
		t.Fatalf("%d routes of ours, %d wanted", n, len(want.Routes))
	}
}

// address is host n of 2001:db8::/32 or of 10.0.0.0/8, with net in its third octet.
func address(f netstate.Family, net, n int) netip.Addr {
	if f == netstate.IPv6 {
		return netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, byte(net), 15: byte(n)})
	}
	return netip.AddrFrom4([4]byte{10, byte(net), 0, byte(n)})
}

// shorter is the prefix of a that is bits less than a whole address.
func shorter(a netip.Addr, bits int) netip.Prefix {
	p, err := a.Prefix(a.BitLen() - bits)
	if err != nil {
		panic(err)
	}
	return p
}

func drawPrefix(t *rapid.T, f netstate.Family, label string) netip.Prefix {
	a := address(f, rapid.IntRange(0, 1).Draw(t, label+" net"), rapid.IntRange(0, 3).Draw(t, label+" host"))
	return shorter(a, rapid.SampledFrom([]int{0, 1, 2}).Draw(t, label+" length"))
}

// drawRule draws from so few rules that the kernel's wildcards matter.
func drawRule(t *rapid.T, f netstate.Family, protocol uint8) netstate.Rule {
	r := netstate.Rule{
		Family: f, Protocol: protocol, Action: netstate.ToTable,
		Priority: rapid.Uint32Range(2200, 2202).Draw(t, "priority"),
		Not:      rapid.IntRange(0, 5).Draw(t, "not") == 0,
	}
	if rapid.IntRange(0, 3).Draw(t, "has from") > 0 {
		r.From = drawPrefix(t, f, "from")
	}
	if rapid.IntRange(0, 3).Draw(t, "has to") == 0 {
		r.To = drawPrefix(t, f, "to")
	}
	switch rapid.IntRange(0, 5).Draw(t, "action") {
	case 0:
		r.Action, r.Goto = netstate.Goto, r.Priority+rapid.Uint32Range(1, 2).Draw(t, "goto")
	case 1:
		r.Action = rapid.SampledFrom([]netstate.Action{netstate.Nop, netstate.Blackhole}).Draw(t, "kind")
	default:
		r.Table = rapid.Uint32Range(5007, 5009).Draw(t, "table")
	}
	if r.Action == netstate.ToTable && rapid.IntRange(0, 4).Draw(t, "suppress") == 0 {
		r.SuppressPrefixLength = netstate.Some(0)
	}
	if !ours(protocol) && rapid.IntRange(0, 5).Draw(t, "unknown") == 0 {
		r.Unknown = "\x01\x02"
	}
	return r
}

func drawRoute(t *rapid.T, f netstate.Family, protocol uint8) netstate.Route {
	r := netstate.Route{Family: f, Table: rapid.Uint32Range(5007, 5008).Draw(t, "table"), Protocol: protocol, Type: netstate.RouteUnicast,
		To: rapid.SampledFrom([]netip.Prefix{f.Default(), shorter(address(f, 0, 0), 8), shorter(address(f, 1, 0), 8)}).Draw(t, "to"), Metric: rapid.SampledFrom([]uint32{10, 1024}).Draw(t, "metric")}
	r.Hop.Dev = rapid.SampledFrom([]string{"eth0", "eth1"}).Draw(t, "dev")
	if rapid.Bool().Draw(t, "has gateway") {
		r.Hop.Via = address(f, 9, rapid.IntRange(1, 2).Draw(t, "via"))
	}
	if !ours(protocol) && rapid.IntRange(0, 5).Draw(t, "unknown") == 0 {
		r.Unknown = "\x01\x02"
	}
	return r
}

func drawWant(t *rapid.T, label string) desired.Want {
	var w desired.Want
	for range rapid.IntRange(0, 6).Draw(t, label+" rules") {
		f := rapid.SampledFrom(netstate.Families[:]).Draw(t, "family")
		w.Rules = append(w.Rules, desired.Rule{Rule: drawRule(t, f, netstate.ProtocolObject)})
	}
	slices.SortStableFunc(w.Rules, func(a, b desired.Rule) int {
		return int(a.Family)*10000 + int(a.Priority) - int(b.Family)*10000 - int(b.Priority)
	})
	seen := map[netstate.RouteKey]bool{}
	for range rapid.IntRange(0, 4).Draw(t, label+" routes") {
		r := drawRoute(t, rapid.SampledFrom(netstate.Families[:]).Draw(t, "family"), netstate.ProtocolObject)
		if !seen[r.Key()] {
			seen[r.Key()] = true
			w.Routes = append(w.Routes, desired.Route{Route: r})
		}
	}
	slices.SortFunc(w.Routes, func(a, b desired.Route) int { return netstate.CompareRouteKey(a.Key(), b.Key()) })
	if rapid.Bool().Draw(t, label+" sysctl") {
		w.Sysctls = []desired.Sysctl{{Sysctl: netstate.Sysctl{Key: "net/ipv4/ip_forward", Value: rapid.SampledFrom([]string{"0", "1"}).Draw(t, "value")}}}
	}
	return w
}

// drawForeign puts rules and routes of others into the kernel, and now and then
// rules of ours that nobody knows of.
func drawForeign(t *rapid.T, k *kernel) {
	protocol := func() uint8 { return rapid.SampledFrom([]uint8{0, 2, 3, 4, 4}).Draw(t, "protocol") }
	for range rapid.IntRange(0, 5).Draw(t, "foreign rules") {
		r := drawRule(t, rapid.SampledFrom(netstate.Families[:]).Draw(t, "family"), protocol())
		if err := k.addRule(r); err != nil {
			t.Fatal(err)
		}
	}
	for range rapid.IntRange(0, 4).Draw(t, "foreign routes") {
		r := drawRoute(t, rapid.SampledFrom(netstate.Families[:]).Draw(t, "family"), protocol())
		_ = k.setRoute(r, false) // of one key the first is enough
	}
}

func TestRandomChanges(t *testing.T) {
	counts := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		k := newKernel(netstate.State{}, map[string]string{"net/ipv4/ip_forward": "0"})
		drawForeign(t, k)
		adopt := rapid.Bool().Draw(t, "adopt")
		first, second := drawWant(t, "first"), drawWant(t, "second")
		checkRun(t, k, first, union(first), adopt, nil)
		drawForeign(t, k)
		p := checkRun(t, k, second, union(first, second), adopt, nil)
		counts[fmt.Sprintf("%t %t %t", len(p.Satisfied) > 0, len(p.Conflicts) > 0, len(p.Orphans) > 0)]++
		checkRun(t, k, desired.Want{}, union(second), false, nil)
		if len(k.rules) > 0 && slices.ContainsFunc(k.rules, func(r netstate.Rule) bool { return ours(r.Protocol) }) && len(p.Orphans) == 0 {
			last := Diff(input(k, desired.Want{}, union(second), false))
			if len(last.Orphans) == 0 {
				t.Fatalf("nothing is wanted, and yet there is\n%s", k.state())
			}
		}
	})
	t.Log("runs by satisfied, conflicts, orphans:", counts)
}

// TestRandomLists changes plain lists of rules that overlap as they like, at
// priorities that they share, among foreign rules: whatever the change, no packet
// ever meets a decision that is neither the old one nor the new.
func TestRandomLists(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := rapid.SampledFrom(netstate.Families[:]).Draw(t, "family")
		draw := func(label string, protocol uint8) []netstate.Rule {
			var list []netstate.Rule
			seen := map[netip.Prefix]bool{}
			for range rapid.IntRange(0, 8).Draw(t, label) {
				r := netstate.Rule{Family: f, Priority: rapid.Uint32Range(2200, 2203).Draw(t, "priority"), Protocol: protocol,
					From: drawPrefix(t, f, "from"), Action: netstate.ToTable, Table: rapid.Uint32Range(5007, 5009).Draw(t, "table")}
				if rapid.IntRange(0, 5).Draw(t, "drops") == 0 {
					r.Action, r.Table = netstate.Blackhole, 0
				}
				if !seen[r.From] {
					seen[r.From] = true
					list = append(list, r)
				}
			}
			slices.SortStableFunc(list, func(a, b netstate.Rule) int { return int(a.Priority) - int(b.Priority) })
			return list
		}
		k := newKernel(netstate.State{Rules: draw("foreign", 4)}, nil)
		var probes []packet
		for net := range 2 {
			for host := range 4 {
				probes = append(probes, packet{address(f, net, host), address(f, net, host)})
			}
		}
		var wants []desired.Want // all so far; records keep what kills leave
		for range 3 {
			var want desired.Want
			for _, r := range draw("ours", netstate.ProtocolObject) {
				want.Rules = append(want.Rules, desired.Rule{Rule: r})
			}
			wants = append(wants, want)
			p := Diff(input(k, want, union(wants...), false))
			if n := len(p.Ops); n > 0 && rapid.Bool().Draw(t, "killed") {
				for i := range p.Ops[:rapid.IntRange(0, n-1).Draw(t, "after")] {
					if err := k.apply(&p.Ops[i].Change); err != nil {
						t.Fatal(err)
					}
				}
				continue
			}
			checkRun(t, k, want, union(wants...), false, probes)
		}
	})
}
