package desired_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/viarule/viarule/internal/desired"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/spec"
	"github.com/viarule/viarule/internal/specfile"
)

// host is what most tests run on; the rules of the kernel itself come with it.
const host = `
link 1 lo mtu 65536 up loopback
link 2 eth0 mtu 1500 up
link 3 eth1 mtu 1500 up altname uplink2
link 4 eth2 mtu 1500
addr 127.0.0.1/8 dev lo scope host
addr ::1/128 dev lo scope host
addr 198.51.100.7/24 dev eth0
addr 192.0.2.7/24 dev eth1
addr 2001:db8:1::7/64 dev eth1
route 198.51.100.0/24 dev eth0 table main proto kernel scope link src 198.51.100.7
route 192.0.2.0/24 dev eth1 table main proto kernel scope link src 192.0.2.7
route local 192.0.2.7 dev eth1 table local proto kernel scope host src 192.0.2.7
route -6 2001:db8:1::/64 dev eth1 table main metric 256 proto kernel
`

const kernelRules = `
rule 0 from all table local proto kernel
rule 32766 from all table main proto kernel
rule 32767 from all table default proto kernel
rule -6 0 from all table local proto kernel
rule -6 32766 from all table main proto kernel
`

// objects reads policies: each is "NAME:" on a line of its own and, below, the
// spec. Lines count from 1 in each, as if it were a file NAME.yaml.
func objects(t testing.TB, text string) []spec.Object {
	t.Helper()
	var out []spec.Object
	for _, doc := range strings.Split(text, "\n---\n") {
		name, body, _ := strings.Cut(strings.TrimLeft(doc, "\n"), ":\n")
		yaml := fmt.Sprintf("spec:\n%s\napiVersion: viarule.io/v1alpha1\nkind: RoutingPolicy\nmetadata: {name: %s}\n", body, name)
		objs, problems := specfile.Parse(name+".yaml", []byte(yaml))
		for _, p := range problems {
			t.Fatal(p)
		}
		out = append(out, objs...)
	}
	return out
}

func state(t testing.TB, text string) netstate.State {
	t.Helper()
	s, err := netstate.ParseState(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func wantText(w desired.Want) string {
	var b strings.Builder
	for i := range w.Rules {
		fmt.Fprintln(&b, w.Rules[i].Rule)
	}
	for i := range w.Routes {
		fmt.Fprintln(&b, w.Routes[i].Route)
	}
	return b.String()
}

func problemText(ps []spec.Problem) string {
	var b strings.Builder
	for _, p := range ps {
		fmt.Fprintln(&b, p)
	}
	return b.String()
}

// lines drops what a raw string has around and before its lines.
func lines(s string) string {
	var b strings.Builder
	for l := range strings.Lines(s) {
		if l = strings.TrimSpace(l); l != "" {
			b.WriteString(l + "\n")
		}
	}
	return b.String()
}

// apply is the state after the want was applied: ours replaced, the rest kept.
func apply(f desired.Facts, w desired.Want) desired.Facts {
	s := netstate.State{Links: f.State.Links, Addrs: f.State.Addrs}
	var byFamily [2][]netstate.Rule
	i := 0
	for fi, fam := range netstate.Families {
		for r := range foreignRules(f.State.Rules, fam) {
			for ; i < len(w.Rules) && w.Rules[i].Family == fam && w.Rules[i].Priority < r.Priority; i++ {
				byFamily[fi] = append(byFamily[fi], w.Rules[i].Rule)
			}
			byFamily[fi] = append(byFamily[fi], *r)
		}
		for ; i < len(w.Rules) && w.Rules[i].Family == fam; i++ {
			byFamily[fi] = append(byFamily[fi], w.Rules[i].Rule)
		}
	}
	s.Rules = append(byFamily[0], byFamily[1]...)
	for i := range f.State.Routes {
		if f.State.Routes[i].Protocol != netstate.ProtocolObject {
			s.Routes = append(s.Routes, f.State.Routes[i])
		}
	}
	for i := range w.Routes {
		s.Routes = append(s.Routes, w.Routes[i].Route)
	}
	netstate.SortRoutes(s.Routes)
	names := maps.Clone(f.Names)
	own := maps.Clone(f.OwnNames)
	if names == nil {
		names = map[string]uint32{}
	}
	if own == nil {
		own = map[string]bool{}
	}
	for _, t := range w.Tables {
		if _, ok := names[t.Name]; !ok {
			own[t.Name] = true
		}
		names[t.Name] = t.ID
	}
	return desired.Facts{State: s, Names: names, OwnNames: own, Used: f.Used, Attached: f.Attached, Neighbours: f.Neighbours}
}

func foreignRules(rules []netstate.Rule, f netstate.Family) func(yield func(*netstate.Rule) bool) {
	return func(yield func(*netstate.Rule) bool) {
		for i := range rules {
			if rules[i].Family == f && rules[i].Protocol != netstate.ProtocolObject && !yield(&rules[i]) {
				return
			}
		}
	}
}

// build builds, and builds again on what the first gave: that must be the same.
func build(t testing.TB, objs []spec.Object, f desired.Facts) (desired.Want, []spec.Problem) {
	t.Helper()
	w, ps := desired.Build(objs, f)
	again, ps2 := desired.Build(objs, apply(f, w))
	if a, b := wantText(w), wantText(again); a != b {
		t.Fatalf("not a fixed point: first\n%s\nthen\n%s", a, b)
	}
	if a, b := problemText(ps), problemText(ps2); a != b {
		t.Fatalf("not a fixed point: first\n%s\nthen\n%s", a, b)
	}
	return w, ps
}

type buildCase struct {
	name     string
	objs     string
	have     string // beyond host and kernelRules
	names    map[string]uint32
	own      map[string]bool
	used     map[uint32]bool
	want     string // rules and routes
	problems string
}

func runBuildCases(t *testing.T, cases []buildCase) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := state(t, host+kernelRules+c.have)
			sortRules(s.Rules)
			f := desired.Facts{State: s, Names: c.names, OwnNames: c.own, Used: c.used, Neighbours: testNeighbours}
			w, ps := build(t, objects(t, c.objs), f)
			if got, want := wantText(w), lines(c.want); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			if got, want := problemText(ps), lines(c.problems); got != want {
				t.Errorf("problems: got\n%s\nwant\n%s", got, want)
			}
		})
	}
}
