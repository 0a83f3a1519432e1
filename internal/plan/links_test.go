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

// wantLinks makes wanted links from lines like `v1 eth0 100`, of the object x.
func wantLinks(tb testing.TB, text string) []desired.Link {
	tb.Helper()
	var out []desired.Link
	o := desired.Origin{Object: &spec.Object{Ref: spec.Ref{Kind: spec.KindExternalNetwork, Name: "x"}, File: "f.yaml"}, Pos: spec.Pos{Line: 3}}
	for line := range strings.Lines(text) {
		l := desired.Link{Origin: o, Link: netstate.Link{Kind: "vlan", Up: true, Alias: "viarule:ExternalNetwork/x"}}
		if n, _ := fmt.Sscan(line, &l.Name, &l.Parent, &l.VLAN); n == 3 {
			out = append(out, l)
		}
	}
	return out
}

// showLinks writes the ops and findings about links and what the kernel would
// lose with them.
func showLinks(p *Plan) string {
	var b strings.Builder
	for i := range p.Ops {
		op := &p.Ops[i]
		if l := op.Link; l != nil {
			fmt.Fprintf(&b, "%s %s on %s # %s\n", op.Verb, l.Name, wire(l), op.Reason)
			continue
		}
		fmt.Fprintf(&b, "%s # %s\n", op.Change, op.Reason)
	}
	findings := func(name string, list []Finding) {
		for _, f := range list {
			fmt.Fprintf(&b, "%s %s # %s\n", name, f.Link.Name, f.What)
		}
	}
	findings("satisfied", p.Satisfied)
	findings("conflict", p.Conflicts)
	findings("orphan", p.Orphans)
	return b.String()
}

func TestDiffLinks(t *testing.T) {
	const x = " alias viarule:ExternalNetwork/x"
	for _, tt := range []struct {
		name, have, want, plan string
		recorded               []string
		prune                  bool
	}{
		{
			name: "a link that is missing is made",
			have: "link 2 eth0 up", want: "v1 eth0 100",
			plan: "+ v1 on VLAN 100 of eth0 # new",
		}, {
			name: "one that is there is left alone",
			have: "link 2 eth0 up\nlink 3 v1 kind vlan mac 02:00:00:00:00:01 mtu 1400 up carrier parent eth0" + x + " vlan 100", want: "v1 eth0 100",
		}, {
			name: "one that is down is set up, and one that another object made is made over",
			have: "link 3 v1 kind vlan parent eth0" + x + " vlan 100\nlink 4 v2 kind vlan up parent eth0 alias viarule:ExternalNetwork/gone vlan 101",
			want: "v1 eth0 100\nv2 eth0 101",
			plan: `~ v1 on VLAN 100 of eth0 # set up
			       ~ v2 on VLAN 101 of eth0 # it was made for ExternalNetwork/gone`,
		}, {
			name: "another id: it is made anew, and its routes behind it",
			have: `link 3 v1 kind vlan up parent eth0` + x + ` vlan 100
			       addr 10.9.0.1/24 dev v1
			       addr fe80::1/64 dev v1 scope link
			       route default via 10.9.0.1 dev v1 table 5001 proto 118
			       route 10.9.0.0/24 dev v1 table 254 proto 2 scope link
			       route 10.8.0.0/24 via 10.9.0.7 dev v1 table 254 proto 4`,
			want: "v1 eth0 101",
			plan: `- v1 on VLAN 100 of eth0 # it is on VLAN 100 of eth0 and shall be on VLAN 101 of eth0; what others gave it goes with it: 1 address, 1 route
			       + v1 on VLAN 101 of eth0 # it is on VLAN 100 of eth0 and shall be on VLAN 101 of eth0
			       + route default via 10.9.0.1 dev v1 table 5001 proto 118 # new`,
		}, {
			name: "an equal link of somebody else provides it",
			have: "link 3 v1 kind vlan up parent eth0 vlan 100", want: "v1 eth0 100",
			plan: "satisfied v1 # a link that somebody else made provides it",
		}, {
			name: "another link of this name is in the way, and so is another name of this VLAN",
			have: "link 3 v1 kind vlan up parent eth0 vlan 7\nlink 4 v9 kind vlan up parent eth0 vlan 101", want: "v1 eth0 100\nv2 eth0 101",
			plan: `conflict v1 # a foreign link of this name is in the way
			       conflict v9 # it holds VLAN 101 of eth0, which can be there only once`,
		}, {
			name: "two objects want different links of one name",
			have: "link 2 eth0 up", want: "v1 eth0 100\nv1 eth0 101",
			plan: `+ v1 on VLAN 100 of eth0 # new
			       conflict v1 # another object wants a different link of the same name`,
		}, {
			name: "ours that nobody wants goes where a record says so",
			have: "link 3 v1 kind vlan up parent eth0" + x + " vlan 100\nlink 4 v2 kind vlan up parent eth0" + x + " vlan 101\nlink 5 pod up alias viarule:PodNetwork/p", recorded: []string{"v1", "pod"},
			plan: `- v1 on VLAN 100 of eth0 # not wanted any more
			       orphan v2 # no record says whose it is`,
		}, {
			name: "it stays where something of others stands on it",
			have: "link 3 v1 kind vlan up parent eth0" + x + " vlan 100\nlink 4 m kind macvlan up parent v1", prune: true,
			plan: "orphan v1 # it cannot be removed: m stands on it",
		}, {
			name: "it is not made anew either",
			have: "link 3 v1 kind vlan up parent eth0" + x + " vlan 100\nlink 4 m kind macvlan up parent v1", want: "v1 eth0 101",
			plan: "conflict m # it stands on v1, which has to be made anew: it is on VLAN 100 of eth0 and shall be on VLAN 101 of eth0",
		}, {
			name: "a link gets another name",
			have: "link 3 v1 kind vlan up parent eth0" + x + " vlan 100", want: "v2 eth0 100", recorded: []string{"v1"},
			plan: `- v1 on VLAN 100 of eth0 # v2 takes its place
			       + v2 on VLAN 100 of eth0 # new`,
		}, {
			name: "two links change places, and what stands on one goes and comes with it",
			have: "link 3 v1 kind vlan up parent eth0" + x + " vlan 100\nlink 4 v2 kind vlan up parent eth0" + x + " vlan 101\nlink 5 v0 kind vlan up parent v1" + x + " vlan 7",
			want: "v0 v1 7\nv1 eth0 101\nv2 eth0 100",
			plan: `- v0 on VLAN 7 of v1 # it stands on v1
			       - v1 on VLAN 100 of eth0 # it is on VLAN 100 of eth0 and shall be on VLAN 101 of eth0
			       - v2 on VLAN 101 of eth0 # it is on VLAN 101 of eth0 and shall be on VLAN 100 of eth0
			       + v1 on VLAN 101 of eth0 # it is on VLAN 100 of eth0 and shall be on VLAN 101 of eth0
			       + v2 on VLAN 100 of eth0 # it is on VLAN 101 of eth0 and shall be on VLAN 100 of eth0
			       + v0 on VLAN 7 of v1 # it stands on v1`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := Input{Have: netstatetest.ParseState(t, tt.have), Want: desired.Want{Links: wantLinks(t, tt.want)}, Prune: tt.prune, Recorded: Recorded{Links: map[string]bool{}}}
			for _, name := range tt.recorded {
				in.Recorded.Links[name] = true
			}
			for _, r := range in.Have.Routes {
				if ours(r.Protocol) {
					in.Want.Routes = append(in.Want.Routes, desired.Route{Route: r})
				}
			}
			p := Diff(in)
			if got := showLinks(&p); got != lines(tt.plan) {
				t.Errorf("plan:\n%s\nshall be:\n%s", got, lines(tt.plan))
			}
		})
	}
}

func TestSpareLinksAndTable(t *testing.T) {
	have := netstatetest.ParseState(t, "link 3 v1 kind vlan up parent eth0 alias viarule:ExternalNetwork/x vlan 100")
	have.Nft = []netstate.NftTable{{Name: netstate.NftTableObjects}}
	p := Diff(Input{Have: have, Prune: true, Spare: Recorded{Links: map[string]bool{"v1": true}, Nft: true}})
	if len(p.Ops)+len(p.Orphans) > 0 {
		t.Errorf("ops %v, orphans %v, want none", p.Ops, p.Orphans)
	}
}

func TestWithoutLinks(t *testing.T) {
	s := netstatetest.ParseState(t, `route default via 10.0.0.1 dev v1 table 5000
		route 10.1.0.0/16 table 5000 nexthop via 10.0.0.1 dev v1 weight 1 nexthop via 10.0.1.1 dev eth0 weight 1
		route 10.2.0.0/16 dev eth0 table 5000 scope link
		route unreachable 10.3.0.0/16 table 5000
		route -6 default via fe80::1 dev v1 table 5000 metric 1024
		route -6 2001:db8::/48 table 5000 metric 1024 nexthop via fe80::1 dev v1 weight 1 nexthop via fe80::2 dev eth0 weight 1`)
	got := netstate.State{Routes: withoutLinks(&s, map[string]string{"v1": "it goes"})}.String()
	want := netstatetest.ParseState(t, `route 10.2.0.0/16 dev eth0 table 5000 scope link
		route unreachable 10.3.0.0/16 table 5000
		route -6 2001:db8::/48 via fe80::2 dev eth0 table 5000 metric 1024`).String()
	if got != want {
		t.Errorf("left is\n%snot\n%s", got, want)
	}
}
