package desired_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/viarule/viarule/internal/desired"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/owner"
	"github.com/viarule/viarule/internal/spec"
)

// filled gives the tables that these tests look up routes, so that nothing is
// said about that.
const filled = `
	route 10.0.0.0/8 dev eth1 table 1 proto static
	route 10.0.0.0/8 dev eth1 table 2 proto static
	route 10.0.0.0/8 dev eth1 table 3 proto static
	route -6 fd00::/8 dev eth1 table 1 proto static
	route -6 fd00::/8 dev eth1 table 2 proto static
	route -6 fd00::/8 dev eth1 table 3 proto static`

func TestBuildRules(t *testing.T) {
	runBuildCases(t, []buildCase{{
		name: "lists are multiplied, and each family for itself",
		have: filled,
		objs: `p:
  rules:
  - {from: [10.1.0.0/16, 10.2.0.0/16, "fd01::/16"], to: [10.3.0.0/16, "fd03::/16", "fd04::/16"], table: 1, priority: 100}
  - {iif: eth0, fwmark: 0x100/0xff00, table: 2, priority: 200}
  - {iif: eth0, family: IPv6, blackhole: true, priority: 300}
  - {from: [0.0.0.0/0], fwmark: 7, table: main, suppressPrefixLength: 0, priority: 400}`,
		want: `
			rule 100 from 10.1.0.0/16 to 10.3.0.0/16 table 1 proto 118
			rule 100 from 10.2.0.0/16 to 10.3.0.0/16 table 1 proto 118
			rule 200 from all iif eth0 fwmark 0x100/0xff00 table 2 proto 118
			rule 400 from all fwmark 0x7 table 254 suppress_prefixlength 0 proto 118
			rule -6 100 from fd01::/16 to fd03::/16 table 1 proto 118
			rule -6 100 from fd01::/16 to fd04::/16 table 1 proto 118
			rule -6 200 from all iif eth0 fwmark 0x100/0xff00 table 2 proto 118
			rule -6 300 from all iif eth0 blackhole proto 118`,
	}, {
		name: "priorities by the order of objects' names and as written, clear of foreign rules, given ones and targets",
		have: filled + `
			rule 2220 from all iif eth0 table 9 proto static
			rule 2240 from all iif eth0 goto 2250 proto static`,
		objs: `b:
  rules:
  - {from: [10.2.0.1], iif: eth0, table: 1}
  - {from: [10.2.0.2], goto: 2280}
---
a:
  rules:
  - {from: [10.1.0.1], iif: eth1, table: 2}
  - {from: [10.1.0.2], table: 1, priority: 2230}
  - {from: [10.1.0.3], table: 3}
  - {from: ["fd00::1"], table: 3}
  - {nop: true, priority: 2280}`,
		want: `
			rule 2210 from 10.1.0.1 iif eth1 table 2 proto 118
			rule 2221 from 10.1.0.3 table 3 proto 118
			rule 2230 from 10.1.0.2 table 1 proto 118
			rule 2231 from 10.2.0.1 iif eth0 table 1 proto 118
			rule 2241 from 10.2.0.2 goto 2280 proto 118
			rule 2280 from all nop proto 118
			rule -6 2210 from fd00::1 table 3 proto 118
			rule -6 2280 from all nop proto 118`,
	}, {
		name: "what decides nothing more is left out",
		have: filled,
		objs: `a:
  rules:
  - {from: [10.1.0.1], table: 1}
  - {from: [10.1.0.2], table: 1}
---
b:
  rules:
  - {from: [10.1.0.1], table: 1}
  - {from: [10.1.0.2], table: 1, iif: eth0}`,
		want: `
			rule 2210 from 10.1.0.1 table 1 proto 118
			rule 2220 from 10.1.0.2 table 1 proto 118
			rule 2230 from 10.1.0.2 iif eth0 table 1 proto 118`,
	}, {
		name: "rules of one priority keep the order that stands where it decides nothing",
		have: filled + `
			rule 300 from 10.1.0.2 table 1 proto 118
			rule 300 from 10.1.0.1 table 1 proto 118
			rule 300 from 10.1.0.0/16 table 2 proto 118
			rule 300 from 10.1.1.1 table 2 proto 118`,
		objs: `a:
  rules: [{from: [10.1.0.0, 10.1.0.1, 10.1.0.2, 10.1.1.1, 10.1.0.0/16], table: 2, priority: 300}]
---
b:
  rules: [{from: [10.1.0.1, 10.1.0.2], table: 1, priority: 300}]`,
		want: `
			rule 300 from 10.1.1.1 table 2 proto 118
			rule 300 from 10.1.0.0 table 2 proto 118
			rule 300 from 10.1.0.1 table 2 proto 118
			rule 300 from 10.1.0.2 table 2 proto 118
			rule 300 from 10.1.0.0/16 table 2 proto 118
			rule 300 from 10.1.0.2 table 1 proto 118
			rule 300 from 10.1.0.1 table 1 proto 118`,
	}, {
		name:     "many of one priority too, if no two select the same packets",
		have:     filled + "\n" + manyRules("rule 300 from 10.1.0.%d table 1 proto 118\n", 199, 0),
		objs:     "a:\n  rules:\n  - {from: [" + manyRules("10.1.0.%d, ", 0, 200) + "], table: 1, priority: 300}",
		want:     manyRules("rule 300 from 10.1.0.%d table 1 proto 118\n", 199, 0) + "rule 300 from 10.1.0.200 table 1 proto 118",
		problems: "a.yaml:3: warning: spec.rules[0]: every packet has to go through 201 IPv4 rules one by one: they all have the priority 300, and a tree needs several; leave the priorities out, and viarule makes a tree of them that is as fast as a few rules",
	}, {
		name: "what rules say of the host",
		have: filled + `
			rule 500 from 10.1.0.0/17 table 1 proto static
			rule 600 from 10.1.0.0/16 table 1 proto static
			rule 700 from 10.1.0.0/16 iif eth0 table 1 proto static
			rule -6 500 from fd00::/16 table 1 proto static`,
		objs: `p:
  tables: [{name: empty, id: 40}, {name: half, id: 41, routes: [{to: 10.0.0.0/8, dev: eth1}]}]
  rules:
  - {from: [10.1.1.0/24], priority: 500, table: 2}
  - {from: [10.1.0.0/16], priority: 600, table: 1}
  - {from: [10.1.0.0/24], iif: eth1, priority: 700, table: 1}
  - {from: [10.3.0.1, 10.3.0.2], table: empty, priority: 800}
  - {iif: eth0, table: half, priority: 810}
  - {from: [10.4.0.0/24, "fd04::/24"], table: half, priority: 820}
  - {from: [10.5.0.0/24], goto: 9000, priority: 830}
  - {from: [10.6.0.0/24], goto: 2205}
  - {iif: eth7, oif: uplink2, family: IPv6, table: 1, priority: 840}`,
		want: `
			rule 500 from 10.1.1.0/24 table 2 proto 118
			rule 600 from 10.1.0.0/16 table 1 proto 118
			rule 700 from 10.1.0.0/24 iif eth1 table 1 proto 118
			rule 800 from 10.3.0.1 table 40 proto 118
			rule 800 from 10.3.0.2 table 40 proto 118
			rule 810 from all iif eth0 table 41 proto 118
			rule 820 from 10.4.0.0/24 table 41 proto 118
			rule 830 from 10.5.0.0/24 goto 9000 proto 118
			rule 2210 from 10.6.0.0/24 goto 2205 proto 118
			rule -6 810 from all iif eth0 table 41 proto 118
			rule -6 820 from fd04::/24 table 41 proto 118
			rule -6 840 from all iif eth7 oif uplink2 table 1 proto 118
			route 10.0.0.0/8 dev eth1 table 41 proto 118 scope link`,
		problems: `
			p.yaml:4: warning: spec.rules[0].priority: somebody else's rule has the same priority and selects some of the same packets (rule 500 from 10.1.0.0/17 table 1 proto 4), and nobody can say which comes first; use another priority
			p.yaml:7: warning: spec.rules[3].table: table empty has no IPv4 routes, neither on this host nor in the objects, so packets go on to the next rule; give the table routes, or leave the rule out
			p.yaml:9: warning: spec.rules[5].table: table half has no IPv6 routes, neither on this host nor in the objects, so packets go on to the next rule; give the table routes, or leave the rule out
			p.yaml:10: warning: spec.rules[6].goto: no IPv4 rule has the priority 9000, so the kernel passes this rule over; add a rule with this priority (nop does nothing else)
			p.yaml:11: spec.rules[7].goto: goto 2205 from priority 2210: the kernel takes only targets further down; use a higher target, or a lower priority
			p.yaml:12: warning: spec.rules[8].iif: no link named eth7 in this namespace, so the rule selects nothing until there is one; there are lo, eth0, eth1, eth2`,
	}, {
		name: "tables that nobody knows, priorities of others",
		objs: `p:
  rules:
  - {from: [10.1.0.1], table: nowhere}
  - {from: [10.1.0.2], priority: 512, table: main}`,
		problems: `
			p.yaml:3: spec.rules[0].table: no table has the name nowhere; name it under spec.tables, give its number, or use one of main
			p.yaml:4: spec.rules[1].priority: priority 512 belongs to neighbour, which runs on this host; use another one, or leave it out`,
	}})
}

// manyRules repeats format with the numbers from first to last.
func manyRules(format string, first, last int) string {
	var b strings.Builder
	step := 1
	if first > last {
		step = -1
	}
	for i := first; ; i += step {
		fmt.Fprintf(&b, format, i)
		if i == last {
			return b.String()
		}
	}
}

// TestPrioritiesStay changes a list of rules step by step; each step is built on
// what the one before left in the kernel.
func TestPrioritiesStay(t *testing.T) {
	// Rules that cannot be a run: each has its own link.
	rule := func(name string) string { return fmt.Sprintf("  - {iif: %s, family: IPv4, table: 1}\n", name) }
	for _, c := range []struct {
		name  string
		steps []string // words of names, and what they must get
		want  []string
	}{{
		name:  "one in the middle, in front, at the end",
		steps: []string{"a b c", "a x b c", "v a x b c", "v a x b c z"},
		want:  []string{"a2210 b2220 c2230", "a2210 x2215 b2220 c2230", "v2205 a2210 x2215 b2220 c2230", "v2205 a2210 x2215 b2220 c2230 z2240"},
	}, {
		name:  "one less, and back again",
		steps: []string{"a b c", "a c", "a b c"},
		want:  []string{"a2210 b2220 c2230", "a2210 c2230", "a2210 b2220 c2230"},
	}, {
		name:  "a changed rule takes the place of what it was",
		steps: []string{"a b c", "a x c", "x a c"},
		want:  []string{"a2210 b2220 c2230", "a2210 x2220 c2230", "x2220 a2225 c2230"},
	}, {
		name:  "the last becomes the first: only that one moves",
		steps: []string{"a b c d", "d a b c"},
		want:  []string{"a2210 b2220 c2230 d2240", "d2205 a2210 b2220 c2230"},
	}, {
		name:  "always at the same place, until priorities are shared",
		steps: []string{"a b", "a c b", "a d c b", "a e d c b", "a f e d c b"},
		want:  []string{"a2210 b2220", "a2210 c2215 b2220", "a2210 d2212 c2215 b2220", "a2210 e2211 d2212 c2215 b2220", "a2210 f2210 e2211 d2212 c2215 b2220"},
	}} {
		t.Run(c.name, func(t *testing.T) {
			f := kernelFacts(t, filled)
			f.State.Links = nil // else there is a word on each of these
			for i, step := range c.steps {
				objs := "p:\n  rules:\n"
				for _, n := range strings.Fields(step) {
					objs += rule(n)
				}
				w, ps := build(t, objects(t, objs), f)
				if len(ps) > 0 {
					t.Fatal(ps)
				}
				var got []string
				for j := range w.Rules {
					got = append(got, fmt.Sprint(w.Rules[j].IIF, w.Rules[j].Priority))
				}
				if g := strings.Join(got, " "); g != c.want[i] {
					t.Errorf("%s: got %s want %s", step, g, c.want[i])
				}
				f = apply(f, w)
			}
		})
	}
}

// TestPrioritiesFollowTheOrder: whatever is inserted, moved and removed, the rules
// stand in the written order, clear of foreign ones, and few of them move.
func TestPrioritiesFollowTheOrder(t *testing.T) {
	base := kernelFacts(t, filled+`
		rule 2230 from all iif foreign0 table 9 proto static
		rule 2300 from all iif foreign1 table 9 proto static
		rule 2301 from all iif foreign2 table 9 proto static`)
	base.State.Links = nil // else there is a word on each of these
	rapid.Check(t, func(t *rapid.T) {
		rnd := dice(t)
		f := base
		var names []string
		for i := range []int{0, 3, 30, 100, 900, 1500}[rnd.IntN(6)] {
			names = append(names, fmt.Sprint("n", i))
		}
		var before desired.Want
		for step := range 1 + rnd.IntN(15) {
			p := &spec.RoutingPolicy{}
			for i, n := range names {
				p.Rules = append(p.Rules, spec.Rule{IIF: n, Family: netstate.IPv4, Action: netstate.ToTable, Table: spec.TableRef{ID: 1}, Pos: spec.Pos{Line: int32(i + 1)}})
			}
			w, ps := desired.Build([]spec.Object{{Ref: spec.Ref{Kind: spec.KindRoutingPolicy, Name: "p"}, Policy: p}}, f)
			if len(ps) > 0 {
				t.Fatalf("%v", ps)
			}
			got := make([]string, 0, len(names))
			for i := range w.Rules {
				got = append(got, w.Rules[i].IIF)
				if r := w.Rules[i]; r.Priority < 2200 || r.Priority > 2999 || r.Priority == 2230 || r.Priority == 2300 || r.Priority == 2301 {
					t.Fatalf("%s", r)
				}
			}
			if !slices.Equal(got, names) {
				t.Fatalf("the order is %v, not %v", got, names)
			}
			if step > 0 {
				stays := map[string]uint32{}
				for i := range before.Rules {
					stays[before.Rules[i].IIF] = before.Rules[i].Priority
				}
				moved := 0
				for i := range w.Rules {
					if p, ok := stays[w.Rules[i].IIF]; ok && p != w.Rules[i].Priority {
						moved++
					}
				}
				if moved > 1 {
					t.Fatalf("%d rules moved", moved)
				}
			}
			before, f = w, apply(f, w)
			switch at := rnd.IntN(len(names) + 1); {
			case rnd.IntN(2) == 0 || len(names) == 0:
				names = slices.Insert(slices.Clone(names), at, fmt.Sprint("s", step))
			case rnd.IntN(2) == 0:
				names = slices.Delete(slices.Clone(names), at%len(names), at%len(names)+1)
			default:
				n := names[at%len(names)]
				names = slices.Delete(slices.Clone(names), at%len(names), at%len(names)+1)
				names = slices.Insert(names, rnd.IntN(len(names)+1), n)
			}
		}
	})
}

func TestBandIsFull(t *testing.T) {
	var have strings.Builder
	have.WriteString("link 9 foreign mtu 1500\n")
	for p := 2200; p <= 2999; p++ {
		if p != 2500 {
			fmt.Fprintf(&have, "rule %d from all iif foreign table 9 proto static\n", p)
		}
	}
	objs := "p:\n  rules:\n  - {iif: eth0, family: IPv4, table: 1}\n  - {iif: eth1, family: IPv4, table: 1}\n"
	w, ps := build(t, objects(t, objs), kernelFacts(t, filled+"\n"+have.String()))
	if got, want := wantText(w), "rule 2500 from all iif eth0 table 1 proto 118\nrule 2500 from all iif eth1 table 1 proto 118\n"; got != want || len(ps) > 0 {
		t.Errorf("got %s %v", got, ps)
	}
	_, ps = build(t, objects(t, objs), kernelFacts(t, filled+"\n"+have.String()+"rule 2500 from all iif foreign table 9 proto static\n"))
	if got, want := problemText(ps), "p.yaml:3: spec.rules[0]: there is no free priority from 2200 to 2999 for the IPv4 rules without a priority; give the rules priorities, or remove rules of others from there\n"; got != want {
		t.Errorf("got %s", got)
	}
}

// TestRulesStayOutOfGivenTrees: a rule without a priority does not come between
// those of a tree of given priorities, unless there is no other place.
func TestRulesStayOutOfGivenTrees(t *testing.T) {
	for _, c := range []struct{ step, want uint32 }{{10, 2412}, {38, 2210}} {
		o := sources("a", counting(netstate.IPv4, 22), constant[uint32](1, 22), func(i int, r *spec.Rule) {
			r.Priority = netstate.Some(2201 + uint32(i)*c.step)
		})
		o.Policy.Rules = append(o.Policy.Rules, spec.Rule{IIF: "eth1", Family: netstate.IPv4, Action: netstate.ToTable, Table: spec.TableRef{ID: 2}, Pos: spec.Pos{Line: 99}})
		w, ps := build(t, []spec.Object{o}, kernelFacts(t, filled+"\nrule 2200 from all iif eth9 table 2 proto static"))
		if len(w.Trees) != 1 || len(ps) > 0 {
			t.Fatal(w.Trees, ps)
		}
		for i := range w.Rules {
			if r := w.Rules[i]; r.IIF == "eth1" && r.Priority != c.want {
				t.Errorf("given priorities of step %d: %s", c.step, r.Rule)
			}
		}
	}
}

// TestBuildAtTheLastPriority: the largest number is no place for a tree to run over.
func TestBuildAtTheLastPriority(t *testing.T) {
	for _, first := range []uint32{1, 32750, 1<<32 - 6, 1<<32 - 1} {
		objs := []spec.Object{sources("a", counting(netstate.IPv4, 120), constant[uint32](1, 120), func(i int, r *spec.Rule) {
			r.Priority = netstate.Some(uint32(min(uint64(first)+uint64(i/4), 1<<32-1)))
			if first < 1<<32-6 && i < 2 || i == 119 {
				r.IIF = "eth1"
			}
			if owner.ProtectedPriority(r.Priority.Val) {
				r.Priority.Val = 32768
			}
		})}
		f := kernelFacts(t, filled)
		w, ps := build(t, objs, f)
		if spec.Failed(ps) || len(w.Listed) != 120 {
			t.Fatalf("from %d: %d rules, %v", first, len(w.Listed), ps)
		}
		checkShape(t, f, w)
		sameDecisions(t, rand.New(rand.NewPCG(1, 1)), f, w, nil, 10)
	}
}

// TestBuildIsTotal feeds what spec would refuse: nothing may panic.
func TestBuildIsTotal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		prefix := rapid.SampledFrom([]netip.Prefix{{}, netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0"), netip.MustParsePrefix("fd00::/8"), netip.MustParsePrefix("10.1.2.3/8")})
		addr := rapid.SampledFrom([]netip.Addr{{}, addrOf("10.0.0.1"), addrOf("192.0.2.1"), addrOf("fe80::1"), addrOf("2001:db8:1::1"), addrOf("::")})
		dev := rapid.SampledFrom([]string{"", "eth0", "eth1", "eth9", "lo"})
		opt := rapid.Custom(func(t *rapid.T) netstate.Opt {
			return netstate.Opt{Set: rapid.Bool().Draw(t, "set"), Val: rapid.SampledFrom([]uint32{0, 1, 300, 2210, 2999, 32766, 1<<32 - 1}).Draw(t, "val")}
		})
		p := &spec.RoutingPolicy{}
		for range rapid.IntRange(0, 3).Draw(t, "tables") {
			st := spec.Table{Name: rapid.SampledFrom([]string{"", "a", "main", "local", "b"}).Draw(t, "name"), ID: rapid.SampledFrom([]uint32{0, 1, 254, 255, 5000}).Draw(t, "id")}
			for range rapid.IntRange(0, 4).Draw(t, "routes") {
				r := spec.Route{To: prefix.Draw(t, "to"), Via: addr.Draw(t, "via"), Dev: dev.Draw(t, "dev"), Src: addr.Draw(t, "src"), OnLink: rapid.Bool().Draw(t, "onlink"), Type: netstate.RouteType(rapid.IntRange(0, 12).Draw(t, "type"))}
				for range rapid.IntRange(0, 2).Draw(t, "hops") {
					r.Nexthops = append(r.Nexthops, spec.Nexthop{Via: addr.Draw(t, "via"), Dev: dev.Draw(t, "dev"), Weight: rapid.Uint16().Draw(t, "weight")})
				}
				st.Routes = append(st.Routes, r)
			}
			p.Tables = append(p.Tables, st)
		}
		for range rapid.IntRange(0, 30).Draw(t, "rules") {
			p.Rules = append(p.Rules, spec.Rule{
				From: rapid.SliceOfN(prefix, 0, 3).Draw(t, "from"), To: rapid.SliceOfN(prefix, 0, 2).Draw(t, "to"), Priority: opt.Draw(t, "priority"),
				Family: rapid.SampledFrom([]netstate.Family{0, 2, 10, 7}).Draw(t, "family"), Action: netstate.Action(rapid.IntRange(0, 9).Draw(t, "action")),
				Goto: rapid.SampledFrom([]uint32{0, 300, 2210, 2250, 1<<32 - 1}).Draw(t, "goto"), Not: rapid.Bool().Draw(t, "not"),
				Table: spec.TableRef{Name: rapid.SampledFrom([]string{"", "a", "main", "zz"}).Draw(t, "table"), ID: rapid.Uint32Range(0, 3).Draw(t, "table id")},
			})
		}
		f := desired.Facts{State: state2(t, rapid.SampledFrom([]string{"", host, host + kernelRules}).Draw(t, "host"))}
		for i := range rapid.IntRange(0, 3).Draw(t, "builds") {
			o := spec.Object{Ref: spec.Ref{Kind: spec.KindRoutingPolicy, Name: fmt.Sprint(i)}, Policy: p}
			w, _ := desired.Build([]spec.Object{o, {}}, f)
			f = apply(f, w)
		}
	})
}

func state2(t *rapid.T, text string) netstate.State {
	s, err := netstate.ParseState(text)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return s
}

var testNeighbours = owner.Findings{{Neighbour: &owner.Neighbour{
	Name: "neighbour", Tables: []owner.Band{{First: 70, Last: 80}}, Priorities: []owner.Band{{First: 512, Last: 512}},
}}}
