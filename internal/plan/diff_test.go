package plan

import (
	"fmt"
	"strings"
	"testing"

	"github.com/viarule/viarule/internal/desired"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/netstate/netstatetest"
	"github.com/viarule/viarule/internal/spec"
)

// parseWant reads rules, routes and sysctls in their text form, and lines
//
//	tree [-6] GATE END RULES
//
// The number of a line is the origin of what it says.
func parseWant(tb testing.TB, text string) desired.Want {
	tb.Helper()
	var w desired.Want
	obj := &spec.Object{Ref: spec.Ref{Kind: spec.KindRoutingPolicy, Name: "x"}, File: "f.yaml"}
	n := int32(0)
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		n++
		o := desired.Origin{Object: obj, Pos: spec.Pos{Line: n}}
		switch kind, rest, _ := strings.Cut(line, " "); kind {
		case "rule":
			r := desired.Rule{Rule: netstatetest.ParseRule(tb, line), Origin: o}
			r.Compiled = r.Action == netstate.Goto || r.Action == netstate.Nop
			w.Rules = append(w.Rules, r)
		case "route":
			w.Routes = append(w.Routes, desired.Route{Route: netstatetest.ParseRoute(tb, line), Origin: o})
		case "sysctl":
			s, err := netstate.ParseSysctl(line)
			if err != nil {
				tb.Fatal(err)
			}
			w.Sysctls = append(w.Sysctls, desired.Sysctl{Sysctl: s, Origin: o})
		case "tree":
			t := desired.Tree{Family: netstate.IPv4, Origin: o}
			if six, ok := strings.CutPrefix(rest, "-6 "); ok {
				t.Family, rest = netstate.IPv6, six
			}
			if _, err := fmt.Sscan(rest, &t.Gate, &t.End, &t.Rules); err != nil {
				tb.Fatal(line, err)
			}
			w.Trees = append(w.Trees, t)
		default:
			tb.Fatalf("what is %q?", line)
		}
	}
	return w
}

// record claims all of ours that the texts name.
func record(tb testing.TB, texts ...string) Recorded {
	tb.Helper()
	rec := Recorded{Rules: map[netstate.Rule]bool{}, Routes: map[netstate.RouteKey]bool{}}
	for _, text := range texts {
		s := netstatetest.ParseState(tb, text)
		for _, r := range s.Rules {
			rec.Rules[r] = true
		}
		for _, r := range s.Routes {
			rec.Routes[r.Key()] = true
		}
	}
	return rec
}

// show writes a plan a line an op and a finding.
func show(p *Plan) string {
	var b strings.Builder
	for i := range p.Ops {
		op := &p.Ops[i]
		fmt.Fprintf(&b, "%s # %s", op.Change, op.Reason)
		if op.Origin.Object != nil {
			fmt.Fprintf(&b, " (%d)", op.Origin.Pos.Line)
		}
		b.WriteByte('\n')
	}
	for _, l := range []struct {
		name string
		list []Finding
	}{{"satisfied", p.Satisfied}, {"conflict", p.Conflicts}, {"orphan", p.Orphans}} {
		for _, f := range l.list {
			obj := ""
			switch {
			case f.Rule != nil:
				obj = f.Rule.String()
			case f.Route != nil:
				obj = f.Route.String()
			default:
				obj = f.Object(nil)
			}
			fmt.Fprintf(&b, "%s %s # %s", l.name, obj, f.What)
			if f.Origin.Object != nil {
				fmt.Fprintf(&b, " (%d)", f.Origin.Pos.Line)
			}
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// lines brings a text block into the form of show.
func lines(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			b.WriteString(line + "\n")
		}
	}
	return b.String()
}

type diffTest struct {
	name  string
	have  string
	old   string // also recorded
	want  string
	plan  string
	adopt bool
	prune bool
	// sysctls as key=value, and those to put back
	sysctls map[string]string
	restore []netstate.Sysctl
}

func (tt *diffTest) input(tb testing.TB) Input {
	return Input{
		Want: parseWant(tb, tt.want), Have: netstatetest.ParseState(tb, tt.have), Recorded: record(tb, tt.old),
		Adopt: tt.adopt, Prune: tt.prune, Sysctls: tt.sysctls, Restore: tt.restore,
	}
}

func runDiff(t *testing.T, tests []diffTest) {
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := Diff(tt.input(t))
			if got := show(&p); got != lines(tt.plan) {
				t.Errorf("plan:\n%s\nshall be:\n%s", got, lines(tt.plan))
			}
			k := newKernel(netstatetest.ParseState(t, tt.have), tt.sysctls)
			for i := range p.Ops {
				if i > 0 && p.Ops[i].Stage < p.Ops[i-1].Stage {
					t.Errorf("op %d has stage %d after %d", i, p.Ops[i].Stage, p.Ops[i-1].Stage)
				}
				if err := k.apply(&p.Ops[i].Change); err != nil {
					t.Errorf("%s: %v", p.Ops[i].Change, err)
				}
			}
			in := tt.input(t)
			in.Have, in.Sysctls, in.Restore = k.state(), k.sysctls, nil
			if again := Diff(in); !again.Empty() {
				t.Errorf("the plan does not lead to the end; what is left:\n%s\nof\n%s", show(&again), k.state())
			}
		})
	}
}

func TestDiffRoutes(t *testing.T) {
	runDiff(t, []diffTest{{
		name: "nothing to do",
		have: "route 10.0.0.0/8 via 192.0.2.1 dev eth0 table 5000 proto 118\nroute -6 2001:db8::/32 dev eth0 table 5000 metric 1024 proto 118",
		want: "route 10.0.0.0/8 via 192.0.2.1 dev eth0 table 5000 proto 118\nroute -6 2001:db8::/32 dev eth0 table 5000 metric 1024 proto 118",
	}, {
		name: "a table is filled: links before gateways, long prefixes before short ones",
		want: `route default via 10.10.10.23 dev eth0 table 200 proto 118
		       route 10.1.0.0/16 via 10.10.10.9 dev eth0 table 200 proto 118
		       route 192.168.10.0/24 dev eth1 table 200 proto 118 scope link
		       route -6 default via fe80::1 dev eth0 table 200 metric 1024 proto 118`,
		plan: `+ route 192.168.10.0/24 dev eth1 table 200 proto 118 scope link # new (3)
		       + route 10.1.0.0/16 via 10.10.10.9 dev eth0 table 200 proto 118 # new (2)
		       + route default via 10.10.10.23 dev eth0 table 200 proto 118 # new (1)
		       + route -6 default via fe80::1 dev eth0 table 200 metric 1024 proto 118 # new (4)`,
	}, {
		name: "a gateway changes in one step",
		have: "route default via 10.0.0.1 dev eth0 table 200 proto 118\nroute -6 default via fe80::1 dev eth0 table 200 metric 1024 proto 118",
		want: "route default via 10.0.0.2 dev eth0 table 200 proto 118\nroute -6 default via fe80::2 dev eth0 table 200 metric 1024 proto 118",
		plan: `~ route default via 10.0.0.2 dev eth0 table 200 proto 118 # gateway changed (1)
		       ~ route -6 default via fe80::2 dev eth0 table 200 metric 1024 proto 118 # gateway changed (2)`,
	}, {
		name: "a metric changes: the new route stands before the old one goes",
		have: "route default via 10.0.0.1 dev eth0 table 200 metric 10 proto 118",
		old:  "route default via 10.0.0.1 dev eth0 table 200 metric 10 proto 118",
		want: "route default via 10.0.0.1 dev eth0 table 200 metric 20 proto 118",
		plan: `+ route default via 10.0.0.1 dev eth0 table 200 metric 20 proto 118 # metric changed from 10 (1)
		       - route default via 10.0.0.1 dev eth0 table 200 metric 10 proto 118 # metric changed to 20`,
	}, {
		name: "recorded routes go in the reverse order, unrecorded ones are orphans",
		have: `route default via 10.0.0.1 dev eth0 table 200 proto 118
		       route 10.0.0.0/24 dev eth0 table 200 proto 118 scope link
		       route 10.2.0.0/24 via 10.0.0.2 dev eth0 table 200 proto 118
		       route 10.3.0.0/24 via 10.0.0.2 dev eth0 table 200 proto 118
		       route 10.4.0.0/24 via 10.0.0.2 dev eth0 table 200 proto static`,
		old: `route default via 10.0.0.1 dev eth0 table 200 proto 118
		       route 10.0.0.0/24 dev eth0 table 200 proto 118 scope link
		       route 10.2.0.0/24 via 10.0.0.2 dev eth0 table 200 proto 118
		       route 10.4.0.0/24 via 10.0.0.2 dev eth0 table 200 proto 118`,
		plan: `- route default via 10.0.0.1 dev eth0 table 200 proto 118 # not wanted any more
		       - route 10.2.0.0/24 via 10.0.0.2 dev eth0 table 200 proto 118 # not wanted any more
		       - route 10.0.0.0/24 dev eth0 table 200 proto 118 scope link # not wanted any more
		       orphan route 10.3.0.0/24 via 10.0.0.2 dev eth0 table 200 proto 118 # no record says whose it is`,
	}, {
		name:  "orphans go with prune",
		have:  "route 10.3.0.0/24 via 10.0.0.2 dev eth0 table 200 proto 118",
		prune: true,
		plan:  "- route 10.3.0.0/24 via 10.0.0.2 dev eth0 table 200 proto 118 # not wanted any more",
	}, {
		name: "an equal foreign route satisfies",
		have: "route default via 10.0.0.1 dev eth0 table 200 proto static\nroute -6 default via fe80::1 dev eth0 table 200 metric 1024 proto boot",
		want: "route default via 10.0.0.1 dev eth0 table 200 proto 118\nroute -6 default via fe80::1 dev eth0 table 200 metric 1024 proto 118",
		plan: `satisfied route default via 10.0.0.1 dev eth0 table 200 proto 4 # a route of proto static provides it (1)
		       satisfied route -6 default via fe80::1 dev eth0 table 200 metric 1024 proto 3 # a route of proto boot provides it (2)`,
	}, {
		name:  "an equal foreign route is taken over in one step, but not the kernel's",
		adopt: true,
		have:  "route default via 10.0.0.1 dev eth0 table 200 proto static\nroute 10.0.0.0/24 dev eth0 table 254 proto kernel scope link\nroute -6 default via fe80::1 dev eth0 table 200 metric 1024 proto boot",
		want:  "route default via 10.0.0.1 dev eth0 table 200 proto 118\nroute 10.0.0.0/24 dev eth0 table 254 proto 118 scope link\nroute -6 default via fe80::1 dev eth0 table 200 metric 1024 proto 118",
		plan: `~ route default via 10.0.0.1 dev eth0 table 200 proto 118 # taken over from proto static (1)
		       ~ route -6 default via fe80::1 dev eth0 table 200 metric 1024 proto 118 # taken over from proto boot (3)
		       satisfied route 10.0.0.0/24 dev eth0 table 254 proto 2 scope link # a route of proto kernel provides it (2)`,
	}, {
		name:  "a different foreign route of the same key is a conflict, adopt or not",
		adopt: true,
		have:  "route default via 10.0.0.9 dev eth0 table 200 proto static\nroute -6 default via fe80::9 dev eth0 table 200 metric 1024 proto boot",
		want:  "route default via 10.0.0.1 dev eth0 table 200 proto 118\nroute -6 default via fe80::1 dev eth0 table 200 metric 1024 proto 118",
		plan: `conflict route default via 10.0.0.9 dev eth0 table 200 proto 4 # a foreign route of the same key is in the way (1)
		       conflict route -6 default via fe80::9 dev eth0 table 200 metric 1024 proto 3 # a foreign route of the same key is in the way (2)`,
	}, {
		name: "an attribute that viarule does not know makes a foreign route another one",
		have: "route default via 10.0.0.1 dev eth0 table 200 proto static unknown 0a0b",
		want: "route default via 10.0.0.1 dev eth0 table 200 proto 118",
		plan: "conflict route default via 10.0.0.1 dev eth0 table 200 proto 4 unknown 0a0b # a foreign route of the same key is in the way (1)",
	}, {
		name: "IPv4: ours is changed where it is the first of its key",
		have: "route default via 10.0.0.1 dev eth0 table 200 proto 118\nroute default via 10.0.0.9 dev eth0 table 200 proto static",
		want: "route default via 10.0.0.2 dev eth0 table 200 proto 118",
		plan: "~ route default via 10.0.0.2 dev eth0 table 200 proto 118 # gateway changed (1)",
	}, {
		name: "IPv4: ours behind a foreign route of its key is not touched",
		have: "route default via 10.0.0.9 dev eth0 table 200 proto static\nroute default via 10.0.0.1 dev eth0 table 200 proto 118",
		want: "route default via 10.0.0.1 dev eth0 table 200 proto 118",
		plan: "conflict route default via 10.0.0.9 dev eth0 table 200 proto 4 # a foreign route of the same key stands before it and decides in its place (1)",
	}, {
		name: "IPv6: ours beside a foreign route of its key is not changed",
		have: "route -6 default via fe80::1 dev eth0 table 200 metric 1024 proto 118\nroute -6 default dev eth1 table 200 metric 1024 proto static",
		want: "route -6 default via fe80::2 dev eth0 table 200 metric 1024 proto 118",
		plan: "conflict route -6 default via fe80::1 dev eth0 table 200 metric 1024 proto 118 # another route of the same key stands beside it, and a change might take that away (1)",
	}, {
		name: "two of ours with one key: the wanted one stays",
		have: "route default via 10.0.0.1 dev eth0 table 200 proto 118\nroute default via 10.0.0.2 dev eth0 table 200 proto 118",
		old:  "route default via 10.0.0.2 dev eth0 table 200 proto 118",
		want: "route default via 10.0.0.2 dev eth0 table 200 proto 118",
		plan: "- route default via 10.0.0.1 dev eth0 table 200 proto 118 # not wanted any more",
	}, {
		name:    "sysctls are set after the rules and before the old ones go, and put back behind those",
		have:    "rule 2201 from 10.2.0.0/16 table 200 proto 118",
		old:     "rule 2201 from 10.2.0.0/16 table 200 proto 118",
		want:    "rule 2200 from 10.1.0.0/16 table 200 proto 118\nsysctl net/ipv4/conf/eth0.100/rp_filter = 2\nsysctl net/ipv4/ip_forward = 1",
		sysctls: map[string]string{"net/ipv4/conf/eth0.100/rp_filter": "1", "net/ipv4/ip_forward": "1", "net/ipv4/conf/eth1/rp_filter": "2"},
		restore: []netstate.Sysctl{{Key: "net/ipv4/conf/eth1/rp_filter", Value: "0"}, {Key: "net/ipv4/ip_forward", Value: "0"}},
		plan: `+ rule 2200 from 10.1.0.0/16 table 200 proto 118 # new (1)
		       ~ sysctl net/ipv4/conf/eth0.100/rp_filter = 2 # value changed (2)
		       - rule 2201 from 10.2.0.0/16 table 200 proto 118 # not wanted any more
		       ~ sysctl net/ipv4/conf/eth1/rp_filter = 0 # put back: nobody wants it any more`,
	}})
}

func TestDiffRules(t *testing.T) {
	runDiff(t, []diffTest{{
		name: "keeps a foreign rule that shares our table",
		have: "rule 900 from 10.9.0.0/16 table 5007 proto static",
		want: "rule 2300 from 10.1.0.0/16 table 5007 proto 118\nrule -6 2300 from 2001:db8::/32 table 5007 proto 118",
		plan: `+ rule 2300 from 10.1.0.0/16 table 5007 proto 118 # new (1)
		       + rule -6 2300 from 2001:db8::/32 table 5007 proto 118 # new (2)`,
	}, {
		name: "new rules come upward, old ones go downward, and a table is filled before the rules to it",
		have: "rule 2201 from 10.8.0.0/16 table 5007 proto 118\nrule 2202 from 10.9.0.0/16 table 5007 proto 118\nroute default dev eth1 table 5007 proto 118",
		old:  "rule 2201 from 10.8.0.0/16 table 5007 proto 118\nrule 2202 from 10.9.0.0/16 table 5007 proto 118\nroute default dev eth1 table 5007 proto 118",
		want: `rule 2200 from 10.1.0.0/16 table 5008 proto 118
		       rule 2203 from 10.2.0.0/16 table 5008 proto 118
		       route default dev eth0 table 5008 proto 118`,
		plan: `+ route default dev eth0 table 5008 proto 118 # new (3)
		       + rule 2200 from 10.1.0.0/16 table 5008 proto 118 # new (1)
		       + rule 2203 from 10.2.0.0/16 table 5008 proto 118 # new (2)
		       - rule 2202 from 10.9.0.0/16 table 5007 proto 118 # not wanted any more
		       - rule 2201 from 10.8.0.0/16 table 5007 proto 118 # not wanted any more
		       - route default dev eth1 table 5007 proto 118 # not wanted any more`,
	}, {
		name: "a rule moves to another priority and another changes its table",
		have: "rule 2200 from 10.1.0.0/16 table 5007 proto 118\nrule 2201 from 10.2.0.0/16 table 5007 proto 118",
		old:  "rule 2200 from 10.1.0.0/16 table 5007 proto 118\nrule 2201 from 10.2.0.0/16 table 5007 proto 118",
		want: "rule 2201 from 10.2.0.0/16 table 5008 proto 118\nrule 2210 from 10.1.0.0/16 table 5007 proto 118",
		plan: `+ rule 2201 from 10.2.0.0/16 table 5008 proto 118 # action changed (1)
		       + rule 2210 from 10.1.0.0/16 table 5007 proto 118 # moved from priority 2200 (2)
		       - rule 2201 from 10.2.0.0/16 table 5007 proto 118 # replaced
		       - rule 2200 from 10.1.0.0/16 table 5007 proto 118 # moved to priority 2210`,
	}, {
		name: "a goto comes after its target and goes before it",
		have: "rule 2200 from 10.1.0.0/16 goto 2202 proto 118\nrule 2201 from 10.0.0.0/8 table 1 proto 118\nrule 2202 from 10.0.0.0/8 table 2 proto 118",
		old:  "rule 2200 from 10.1.0.0/16 goto 2202 proto 118\nrule 2201 from 10.0.0.0/8 table 1 proto 118\nrule 2202 from 10.0.0.0/8 table 2 proto 118",
		want: "rule -6 2200 from 2001:db8::/32 goto 2201 proto 118\nrule -6 2201 from 2001:db8::/32 table 2 proto 118",
		plan: `+ rule -6 2201 from 2001:db8::/32 table 2 proto 118 # new (2)
		       + rule -6 2200 from 2001:db8::/32 goto 2201 proto 118 # new (1)
		       - rule 2200 from 10.1.0.0/16 goto 2202 proto 118 # not wanted any more
		       - rule 2201 from 10.0.0.0/8 table 1 proto 118 # not wanted any more
		       - rule 2202 from 10.0.0.0/8 table 2 proto 118 # not wanted any more`,
	}, {
		name: "equal priorities: what stands in order stays, the rest goes behind",
		have: "rule 2200 from 10.1.0.0/16 table 1 proto 118\nrule 2200 from 10.2.0.0/16 table 1 proto 118\nrule 2200 from 10.3.0.0/16 table 1 proto 118",
		old:  "rule 2200 from 10.1.0.0/16 table 1 proto 118\nrule 2200 from 10.2.0.0/16 table 1 proto 118\nrule 2200 from 10.3.0.0/16 table 1 proto 118",
		want: "rule 2200 from 10.2.0.0/16 table 1 proto 118\nrule 2200 from 10.4.0.0/16 table 1 proto 118\nrule 2200 from 10.3.0.0/16 table 1 proto 118",
		plan: `+ rule 2200 from 10.4.0.0/16 table 1 proto 118 # new (2)
		       + rule 2200 from 10.3.0.0/16 table 1 proto 118 # order among equal priorities (3)
		       - rule 2200 from 10.3.0.0/16 table 1 proto 118 # another copy stands in its place
		       - rule 2200 from 10.1.0.0/16 table 1 proto 118 # not wanted any more`,
	}, {
		name: "of two copies that a killed run left the last is kept, for a delete takes the first",
		have: "rule 2200 from 10.1.0.0/16 table 1 proto 118\nrule 2200 from 10.0.0.0/8 table 2 proto 118\nrule 2200 from 10.1.0.0/16 table 1 proto 118",
		want: "rule 2200 from 10.1.0.0/16 table 1 proto 118\nrule 2200 from 10.0.0.0/8 table 2 proto 118",
		plan: `+ rule 2200 from 10.0.0.0/8 table 2 proto 118 # order among equal priorities (2)
		       - rule 2200 from 10.0.0.0/8 table 2 proto 118 # another copy stands in its place
		       - rule 2200 from 10.1.0.0/16 table 1 proto 118 # another copy stands in its place`,
	}, {
		name: "a delete would hit another rule of ours that goes: that one first",
		have: "rule 2200 from 10.1.0.0/16 table 1 proto 118\nrule 2200 from all table 1 proto 118",
		old:  "rule 2200 from 10.1.0.0/16 table 1 proto 118\nrule 2200 from all table 1 proto 118",
		plan: `- rule 2200 from 10.1.0.0/16 table 1 proto 118 # not wanted any more
		       - rule 2200 from all table 1 proto 118 # not wanted any more`,
	}, {
		name: "a delete would hit another rule of ours that stays: that one is made anew",
		have: "rule 2200 not from 10.1.0.0/16 table 1 proto 118\nrule 2200 from 10.1.0.0/16 table 1 proto 118",
		old:  "rule 2200 from 10.1.0.0/16 table 1 proto 118",
		want: "rule 2200 not from 10.1.0.0/16 table 1 proto 118",
		plan: `+ rule 2200 not from 10.1.0.0/16 table 1 proto 118 # order among equal priorities (1)
		       - rule 2200 not from 10.1.0.0/16 table 1 proto 118 # another copy stands in its place
		       - rule 2200 from 10.1.0.0/16 table 1 proto 118 # not wanted any more`,
	}, {
		name: "a delete would hit an orphan: left alone",
		have: "rule 2200 not from 10.1.0.0/16 table 1 proto 118\nrule 2200 from 10.1.0.0/16 table 1 proto 118",
		old:  "rule 2200 from 10.1.0.0/16 table 1 proto 118",
		plan: "orphan rule 2200 not from 10.1.0.0/16 table 1 proto 118 # no record says whose it is\n" +
			"orphan rule 2200 from 10.1.0.0/16 table 1 proto 118 # it cannot be removed: the kernel would remove `rule 2200 not from 10.1.0.0/16 table 1 proto 118` in its place",
	}, {
		name: "an equal foreign rule satisfies; one with an unknown attribute does not",
		have: "rule 2200 from 10.1.0.0/16 table 1 proto static\nrule 2201 from 10.2.0.0/16 table 1 proto static unknown 0102",
		want: "rule 2200 from 10.1.0.0/16 table 1 proto 118\nrule 2201 from 10.2.0.0/16 table 1 proto 118",
		plan: `+ rule 2201 from 10.2.0.0/16 table 1 proto 118 # new (2)
		       satisfied rule 2200 from 10.1.0.0/16 table 1 proto 4 # a rule of proto static provides it (1)`,
	}, {
		name: "what a foreign rule must not come before is a conflict",
		have: "rule 2200 from 10.1.0.0/16 table 2 proto static",
		want: "rule 2200 from 10.1.1.0/24 table 1 proto 118\nrule 2200 from 10.2.0.0/24 table 1 proto 118\nrule 2200 from 10.1.0.0/16 table 2 proto 118",
		plan: `+ rule 2200 from 10.2.0.0/24 table 1 proto 118 # new (2)
		       satisfied rule 2200 from 10.1.0.0/16 table 2 proto 4 # a rule of proto static provides it (3)
		       conflict rule 2200 from 10.1.0.0/16 table 2 proto 4 # a foreign rule of the same priority stands before it, and their order counts (1)`,
	}, {
		name:  "a foreign rule is taken over: ours first, then the foreign one by its own protocol",
		adopt: true,
		have:  "rule 2200 from 10.1.0.0/16 table 1 proto static\nrule -6 2200 from 2001:db8::/32 blackhole proto boot",
		want:  "rule 2200 from 10.1.0.0/16 table 1 proto 118\nrule -6 2200 from 2001:db8::/32 blackhole proto 118",
		plan: `+ rule 2200 from 10.1.0.0/16 table 1 proto 118 # taken over from proto static (1)
		       + rule -6 2200 from 2001:db8::/32 blackhole proto 118 # taken over from proto boot (2)
		       - rule 2200 from 10.1.0.0/16 table 1 proto 4 # taken over
		       - rule -6 2200 from 2001:db8::/32 blackhole proto 3 # taken over`,
	}, {
		name:  "a foreign rule before another one of its priority is not taken over",
		adopt: true,
		have:  "rule 2200 from 10.1.0.0/16 table 1 proto static\nrule 2200 from 10.2.0.0/16 table 1 proto static",
		want:  "rule 2200 from 10.1.0.0/16 table 1 proto 118",
		plan: `satisfied rule 2200 from 10.1.0.0/16 table 1 proto 4 # a rule of proto static provides it (1)
		       conflict rule 2200 from 10.1.0.0/16 table 1 proto 4 # it cannot be taken over: another foreign rule of the same priority stands behind it (1)`,
	}, {
		name:  "what the kernel made by itself is not taken over",
		adopt: true,
		have:  "rule 1000 from all l3mdev proto kernel\nrule -6 1000 from all l3mdev proto kernel",
		want:  "rule 1000 from all l3mdev proto 118",
		plan:  "satisfied rule 1000 from all l3mdev proto 2 # a rule of proto kernel provides it (1)",
	}, {
		name:  "what a CNI plugin made is its own: an equal rule or route of it satisfies, adopt or not",
		adopt: true,
		have: "rule 2900 from 10.1.0.5 table 5000 proto 119\nrule 2900 from 10.1.0.6 table 5000 proto 119\nrule -6 2900 from 2001:db8::5 table 5000 proto 119\n" +
			"route default via 10.0.0.1 dev eth0 table 5000 proto 119\nroute -6 default via fe80::1 dev eth0 table 5000 metric 1024 proto 119",
		want: "rule 2900 from 10.1.0.5 table 5000 proto 118\nrule -6 2900 from 2001:db8::5 table 5000 proto 118\n" +
			"route default via 10.0.0.1 dev eth0 table 5000 proto 118\nroute -6 default via fe80::1 dev eth0 table 5000 metric 1024 proto 118",
		plan: `satisfied route default via 10.0.0.1 dev eth0 table 5000 proto 119 # a route of proto viarule-cni provides it (3)
		       satisfied route -6 default via fe80::1 dev eth0 table 5000 metric 1024 proto 119 # a route of proto viarule-cni provides it (4)
		       satisfied rule 2900 from 10.1.0.5 table 5000 proto 119 # a rule of proto viarule-cni provides it (1)
		       satisfied rule -6 2900 from 2001:db8::5 table 5000 proto 119 # a rule of proto viarule-cni provides it (2)`,
	}, {
		name: "a rule of ours that must come behind a foreign one of its priority is made anew there",
		have: "rule 2200 from 10.1.0.0/16 table 2 proto 118\nrule 2200 from 10.3.0.0/16 table 2 proto 118\nrule 2200 from 10.1.1.0/24 table 1 proto static",
		want: "rule 2200 from 10.1.1.0/24 table 1 proto 118\nrule 2200 from 10.3.0.0/16 table 2 proto 118\nrule 2200 from 10.1.0.0/16 table 2 proto 118",
		plan: `+ rule 2200 from 10.1.0.0/16 table 2 proto 118 # order among equal priorities (3)
		       - rule 2200 from 10.1.0.0/16 table 2 proto 118 # another copy stands in its place
		       satisfied rule 2200 from 10.1.1.0/24 table 1 proto 4 # a rule of proto static provides it (1)`,
	}, {
		name: "copies of a rule that goes count where the first stands",
		have: "rule 2200 from 10.1.0.0/16 table 1 proto 118\nrule 2200 from 10.0.0.0/8 table 2 proto 118\nrule 2200 from 10.1.0.0/16 table 1 proto 118",
		old:  "rule 2200 from 10.1.0.0/16 table 1 proto 118\nrule 2200 from 10.0.0.0/8 table 2 proto 118",
		plan: `- rule 2200 from 10.0.0.0/8 table 2 proto 118 # not wanted any more
		       - rule 2200 from 10.1.0.0/16 table 1 proto 118 # not wanted any more
		       - rule 2200 from 10.1.0.0/16 table 1 proto 118 # not wanted any more`,
	}, {
		name:  "without a protocol a foreign rule may not be hit: not taken over",
		adopt: true,
		have:  "rule 2200 from 10.1.0.0/16 to 10.2.0.0/16 table 1 proto static\nrule 2200 from 10.1.0.0/16 table 1",
		want:  "rule 2200 from 10.1.0.0/16 table 1 proto 118",
		plan:  "conflict rule 2200 from 10.1.0.0/16 table 1 # it cannot be taken over: the kernel would remove `rule 2200 from 10.1.0.0/16 to 10.2.0.0/16 table 1 proto 4` in its place (1)",
	}, {
		name: "the kernel's own rules are never changed",
		have: "rule 0 from all table 255 proto kernel\nrule 32766 from all table 254 proto 118\nrule 32767 from all table 253 proto kernel",
		old:  "rule 32766 from all table 254 proto 118",
		want: "rule 0 from 10.0.0.0/8 table 7 proto 118\nrule 32767 from all table 253 proto 118",
		plan: `satisfied rule 32767 from all table 253 proto 2 # a rule of proto kernel provides it (2)
		       conflict rule 0 from 10.0.0.0/8 table 7 proto 118 # rules of the priorities 0, 32766 and 32767 are never changed (1)
		       orphan rule 32766 from all table 254 proto 118 # rules of the priorities 0, 32766 and 32767 are never changed`,
	}})
}

func TestCommute(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want bool
	}{
		{"rule 1 from 10.1.0.0/16 table 1", "rule 1 from 10.2.0.0/16 table 2", true},
		{"rule 1 from 10.1.0.0/16 table 1", "rule 1 from 10.0.0.0/8 table 2", false},
		{"rule 1 from 10.1.0.0/16 table 1", "rule 1 from 10.0.0.0/8 table 1 proto 4", true},
		{"rule 1 from 10.1.0.0/16 table 1", "rule 1 from 10.0.0.0/8 table 1 suppress_prefixlength 0", false},
		{"rule 1 from 10.1.0.0/16 table 1", "rule 1 from 10.0.0.0/8 nop", true},
		{"rule 1 not from 10.1.0.0/16 table 1", "rule 1 from 10.2.0.0/16 table 2", false},
		{"rule 1 from all table 1", "rule 1 from 10.2.0.0/16 table 2", false},
		{"rule 1 from all to 10.1.0.0/16 table 1", "rule 1 from all to 10.2.0.0/16 table 2", true},
		{"rule 1 from all iif a table 1", "rule 1 from all iif b table 2", true},
		{"rule 1 from all iif a table 1", "rule 1 from all oif b table 2", false},
		{"rule 1 from all fwmark 0x1/0x3 table 1", "rule 1 from all fwmark 0x2/0x6 table 2", true},
		{"rule 1 from all fwmark 0x1/0x1 table 1", "rule 1 from all fwmark 0x2/0x2 table 2", false},
		{"rule 1 from all dport 80-90 table 1", "rule 1 from all dport 91 table 2", true},
		{"rule 1 from all dport 80-90 table 1", "rule 1 from all dport 90-95 table 2", false},
		{"rule 1 from all dport 80 table 1", "rule 1 from all table 2", false},
		{"rule 1 from all uidrange 0-9 table 1", "rule 1 from all uidrange 10-11 table 2", true},
		{"rule -6 1 from 2001:db8::/33 table 1", "rule -6 1 from 2001:db8:8000::/33 table 2", true},
		{"rule -6 1 from 2001:db8::/32 table 1", "rule -6 1 from 2001:db8:8000::/33 table 2", false},
		{"rule 1 from 10.1.0.0/16 table 1 unknown 01", "rule 1 from 10.0.0.0/8 table 1", false},
	} {
		a, b := netstatetest.ParseRule(t, tt.a), netstatetest.ParseRule(t, tt.b)
		if commute(&a, &b) != tt.want || commute(&b, &a) != tt.want {
			t.Errorf("commute(%s, %s) is not %t", tt.a, tt.b, tt.want)
		}
	}
}

func TestSpareIsLeftAlone(t *testing.T) {
	have := netstatetest.ParseState(t, `rule 2300 from 10.1.0.0/16 table 5000 proto 118
rule 2301 from 10.2.0.0/16 table 5000 proto 118
rule -6 2300 from 2001:db8::/48 table 5000 proto 118
route 10.3.0.0/16 dev eth0 table 5000 proto 118 scope link
route -6 2001:db8:3::/48 dev eth0 table 5000 metric 1024 proto 118`)
	spare := Recorded{
		Rules:  map[netstate.Rule]bool{have.Rules[0]: true, have.Rules[2]: true},
		Routes: map[netstate.RouteKey]bool{have.Routes[0].Key(): true, have.Routes[1].Key(): true},
	}
	p := Diff(Input{Have: have, Prune: true, Spare: spare})
	if len(p.Ops) != 1 || *p.Ops[0].Rule != have.Rules[1] {
		t.Errorf("ops %v, want only the delete of what is not spared", p.Ops)
	}
	if p = Diff(Input{Have: have, Spare: spare, Recorded: spare}); len(p.Ops) != 0 {
		t.Errorf("recorded and spared: ops %v, want none", p.Ops)
	}
	if len(p.Orphans) != 1 || *p.Orphans[0].Rule != have.Rules[1] {
		t.Errorf("orphans %v, want only what is not spared", p.Orphans)
	}
}
