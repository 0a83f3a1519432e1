package plan

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/viarule/viarule/internal/netstate"
)

type tableNames map[uint32]string

func (n tableNames) Table(id uint32) string { return n[id] }

func written(t *testing.T, p *Plan, style Style) string {
	t.Helper()
	var b bytes.Buffer
	if err := p.WriteText(&b, style); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

var mixed = diffTest{
	have: `route default via 10.10.10.1 dev eth0 table 200 proto 118
	       route 192.168.20.0/24 via 10.10.10.9 dev eth0 table 200 proto 118
	       rule 300 from 10.8.0.0/16 table 254 proto static
	       rule 301 from 10.9.0.0/16 table 254 proto 118
	       rule -6 302 from 2001:db8::/32 table 200 proto 118
	       route -6 default via fe80::9 dev eth0 table 200 metric 1024 proto static`,
	old: "route 192.168.20.0/24 via 10.10.10.9 dev eth0 table 200 proto 118\nrule -6 302 from 2001:db8::/32 table 200 proto 118",
	want: `route default via 10.10.10.23 dev eth0 table 200 proto 118
	       route 192.168.10.0/24 dev eth1 table 200 proto 118 scope link
	       route -6 default via fe80::1 dev eth0 table 200 metric 1024 proto 118
	       rule 300 from 10.8.0.0/16 table 254 proto 118
	       rule 310 from all to 12.12.12.12 table 254 proto 118
	       sysctl net/ipv4/conf/eth0.100/rp_filter = 2`,
	sysctls: map[string]string{"net/ipv4/conf/eth0.100/rp_filter": "1"},
}

func TestWriteText(t *testing.T) {
	p := Diff(mixed.input(t))
	want := `routes
  + route 192.168.10.0/24 dev eth1 table custom proto viarule scope link  # f.yaml:2 RoutingPolicy/x: new
  ~ route default via 10.10.10.23 dev eth0 table custom proto viarule     # f.yaml:1 RoutingPolicy/x: gateway changed (was via 10.10.10.1 dev eth0)
rules
  + rule 310 from all to 12.12.12.12 table main proto viarule  # f.yaml:5 RoutingPolicy/x: new
sysctls
  ~ sysctl net/ipv4/conf/eth0.100/rp_filter = 2  # f.yaml:6 RoutingPolicy/x: value changed (was 1)
old rules
  - rule -6 302 from 2001:db8::/32 table custom proto viarule  # not wanted any more
old routes
  - route 192.168.20.0/24 via 10.10.10.9 dev eth0 table custom proto viarule  # not wanted any more
satisfied: a foreign object provides it, and stays as it is
  = rule 300 from 10.8.0.0/16 table main proto static  # f.yaml:4 RoutingPolicy/x: a rule of proto static provides it
conflicts: a foreign object is in the way, and stays as it is
  ! route -6 default via fe80::9 dev eth0 table custom metric 1024 proto static  # f.yaml:3 RoutingPolicy/x: a foreign route of the same key is in the way
orphans: made by viarule, but not known to whom they belong
  ? rule 301 from 10.9.0.0/16 table main proto viarule  # no record says whose it is
2 to add, 2 to change, 2 to remove; 1 satisfied, 1 conflict, 1 orphan
`
	if got := written(t, &p, Style{Names: tableNames{200: "custom"}}); got != want {
		t.Errorf("text:\n%s\nshall be:\n%s", got, want)
	}
	if got := written(t, &p, Style{Color: true}); !strings.Contains(got, "\x1b[32m+ route 192.168.10.0/24") {
		t.Errorf("no colours:\n%s", got)
	}
	if got := written(t, new(Plan), Style{}); got != "nothing to do\n" {
		t.Errorf("an empty plan is %q", got)
	}
}

func TestWriteTextOfTrees(t *testing.T) {
	tt := diffTest{have: tree, old: tree, want: strings.Replace(wantTree, "10.1.0.1 table 5001", "10.1.0.7 table 5001", 1)}
	in := tt.input(t)
	// The user wrote the new rule first and at a place of its own.
	for _, i := range []int{2, 3, 5} {
		r := in.Want.Rules[i]
		r.Compiled = false
		r.Priority = 2210
		in.Want.Listed = append(in.Want.Listed, r)
	}
	in.Want.Trees[0].Rules = 3
	p := Diff(in)
	want := `3 rules of the IPv4 tree at 2210-2290: 1 new, 1 removed, in 6 operations
  + rule 2210 from 10.1.0.7 table 5001 proto viarule  # f.yaml:4 RoutingPolicy/x: new
  - rule 2212 from 10.1.0.1 table 5001 proto viarule  # not wanted any more
1 to add, 0 to change, 1 to remove; 0 satisfied, 0 conflicts
`
	if got := written(t, &p, Style{}); got != want {
		t.Errorf("text:\n%s\nshall be:\n%s", got, want)
	}
	verbose := written(t, &p, Style{Verbose: true})
	if n := strings.Count(verbose, "\n  "); n != len(p.Ops) || !strings.Contains(verbose, "rule 2212 from 10.0.0.0/9 goto 2290") {
		t.Errorf("verbose text has %d lines for %d ops:\n%s", n, len(p.Ops), verbose)
	}
}

func TestJSON(t *testing.T) {
	p := Diff(mixed.input(t))
	b, err := json.Marshal(struct{ Plan Plan }{p})
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Plan struct {
			Ops []struct {
				Verb, Kind, Object, Before, Reason string
				Stage                              int
				Origin                             *struct {
					Kind, Name, File string
					Line             int
				}
			}
			Trees                                  []struct{}
			Satisfied, Conflicts, Blocked, Orphans []struct {
				Kind, Object, What string
				Origin             any
			}
			Counts map[string]int
		}
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&got); err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	if len(got.Plan.Ops) != len(p.Ops) || len(got.Plan.Satisfied) != 1 || len(got.Plan.Conflicts) != 1 || len(got.Plan.Orphans) != 1 {
		t.Fatalf("JSON is %s", b)
	}
	op := got.Plan.Ops[1]
	if op.Verb != "replace" || op.Kind != "route" || op.Object != "route default via 10.10.10.23 dev eth0 table 200 proto 118" ||
		op.Before != "route default via 10.10.10.1 dev eth0 table 200 proto 118" || op.Reason != "gateway changed" ||
		op.Origin == nil || op.Origin.File != "f.yaml" || op.Origin.Line != 1 || op.Origin.Kind != "RoutingPolicy" || op.Origin.Name != "x" {
		t.Errorf("op is %+v", op)
	}
	if got.Plan.Counts["add"] != 2 || got.Plan.Counts["change"] != 2 || got.Plan.Counts["remove"] != 2 {
		t.Errorf("counts are %v", got.Plan.Counts)
	}
	empty, err := json.Marshal(Plan{})
	if want := `{"ops":[],"trees":[],"satisfied":[],"conflicts":[],"blocked":[],"orphans":[],"counts":{"add":0,"change":0,"remove":0}}`; err != nil || string(empty) != want {
		t.Errorf("an empty plan is %s, %v", empty, err)
	}
}

func TestHopText(t *testing.T) {
	for route, want := range map[string]string{
		"route default via 10.0.0.1 dev eth0 table 7":                                                               "via 10.0.0.1 dev eth0",
		"route -6 2001:db8::/32 dev eth0 table 7 metric 1024":                                                       "dev eth0",
		"route 10.0.0.0/8 nexthop via 10.0.0.1 dev a weight 1 nexthop via 10.0.0.2 dev b weight 2 table 7 metric 5": "nexthop via 10.0.0.1 dev a weight 1 nexthop via 10.0.0.2 dev b weight 2",
	} {
		r, err := netstate.ParseRoute(route)
		if err != nil {
			t.Fatal(err)
		}
		if got := hopText(&r); got != want {
			t.Errorf("%s: %q", route, got)
		}
	}
}
