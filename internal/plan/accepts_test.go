package plan

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/viarule/viarule/internal/desired"
	"github.com/viarule/viarule/internal/kernelfake"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/netstate/netstatetest"
	"github.com/viarule/viarule/internal/spec"
)

// wantAccepts has accepts of PodNetwork/pods, one a line.
func wantAccepts(t *testing.T, text string) (w desired.Want) {
	t.Helper()
	pods := &spec.Object{Ref: spec.Ref{Kind: "PodNetwork", Name: "pods"}, File: "f.yaml"}
	for _, line := range strings.Split(lines(text), "\n") {
		if line == "" {
			continue
		}
		a, err := netstate.ParseAccept(line)
		if err != nil {
			t.Fatal(err)
		}
		w.Accepts = append(w.Accepts, desired.Accept{Accept: a, Origin: desired.Origin{Object: pods, Pos: spec.Pos{Line: int32(len(w.Accepts) + 1)}}})
	}
	return w
}

const (
	chain4 = "forward chain ip filter FORWARD priority 0 policy drop\n"
	chain6 = "forward chain ip6 filter FORWARD priority 0 policy drop\n"
	mark   = ` comment "viarule PodNetwork/pods"` + "\n"
	rIn    = `forward rule iifname "via*" accept` + mark
	rOut   = `forward rule oifname "via*" accept` + mark
	in4    = `accept ip filter FORWARD iifname via*` + mark
	out4   = `accept ip filter FORWARD oifname via*` + mark
	in6    = `accept ip6 filter FORWARD iifname via*` + mark
	out6   = `accept ip6 filter FORWARD oifname via*` + mark
)

var acceptTests = []struct {
	name, have, want, plan string
	recorded, spare        []string
	prune                  bool
}{{
	name: "they are appended, in both families",
	have: chain4 + "forward rule iifname \"eth0\" accept\n" + chain6, want: in4 + out4 + in6 + out6,
	plan: `+ accept ip filter FORWARD iifname via* comment "viarule PodNetwork/pods" # new (1)
		+ accept ip filter FORWARD oifname via* comment "viarule PodNetwork/pods" # new (2)
		+ accept ip6 filter FORWARD iifname via* comment "viarule PodNetwork/pods" # new (3)
		+ accept ip6 filter FORWARD oifname via* comment "viarule PodNetwork/pods" # new (4)`,
}, {
	name: "what stands is left", have: chain4 + rOut + rIn + chain6 + rIn + rOut, want: in4 + out4 + in6 + out6,
}, {
	name: "what a reload took is put back", have: chain4 + rOut + chain6 + rIn + rOut, want: in4 + out4 + in6 + out6,
	plan: `+ accept ip filter FORWARD iifname via* comment "viarule PodNetwork/pods" # new (1)`,
}, {
	name: "of copies that a reload made one stays", have: chain4 + rIn + rOut + rIn, want: in4 + out4,
	plan: `- accept ip filter FORWARD iifname via* comment "viarule PodNetwork/pods" # another copy stands in its place`,
}, {
	name: "a chain that has gone needs nothing", have: chain6 + rIn + rOut, want: in4 + out4 + in6 + out6,
}, {
	name: "they go with their object", have: chain4 + rIn + "forward rule drop\n" + rOut + chain6 + rIn, recorded: []string{"PodNetwork/pods"},
	plan: `- accept ip filter FORWARD iifname via* comment "viarule PodNetwork/pods" # not wanted any more
		- accept ip filter FORWARD oifname via* comment "viarule PodNetwork/pods" # not wanted any more
		- accept ip6 filter FORWARD iifname via* comment "viarule PodNetwork/pods" # not wanted any more`,
}, {
	name: "another object's stay", have: chain4 + strings.Replace(rIn, "/pods", "/other", 1), want: in4, spare: []string{"PodNetwork/other"},
	plan: `+ accept ip filter FORWARD iifname via* comment "viarule PodNetwork/pods" # new (1)`,
}, {
	name: "an orphan", have: chain4 + rIn,
	plan: `orphan accept ip filter FORWARD iifname via* comment "viarule PodNetwork/pods" # no record says whose it is`,
}, {
	name: "an orphan that is pruned", have: chain4 + rIn, prune: true,
	plan: `- accept ip filter FORWARD iifname via* comment "viarule PodNetwork/pods" # not wanted any more`,
}, {
	name: "somebody else's rule does the same", have: chain4 + "forward rule iifname \"via*\" accept\n" + "forward rule oifname \"via*\" accept comment \"mine\"\n", want: in4 + out4, prune: true,
	plan: `satisfied accept ip filter FORWARD iifname via* # a rule of somebody else's does the same (1)
		satisfied accept ip filter FORWARD oifname via* comment mine # a rule of somebody else's does the same (2)`,
}, {
	name: "somebody else's rule that does less", have: chain4 + "forward rule iifname \"via*\" unknown ct . accept\nforward rule iifname \"via0\" accept\nforward rule iifname \"via*\" drop\n", want: in4,
	plan: `+ accept ip filter FORWARD iifname via* comment "viarule PodNetwork/pods" # new (1)`,
}, {
	// What a set in the rule would come to after iptables-save.
	name: "a rule with our comment that accepts everything", have: chain4 + "forward rule accept" + mark, recorded: []string{"PodNetwork/pods"}, prune: true,
	plan: `orphan ip filter FORWARD accept comment "viarule PodNetwork/pods" # its comment is viarule's, and it is not what viarule writes: left as it is`,
}}

func TestDiffAccepts(t *testing.T) {
	set := func(list []string) map[string]bool {
		out := map[string]bool{}
		for _, s := range list {
			out[s] = true
		}
		return out
	}
	for _, tt := range acceptTests {
		t.Run(tt.name, func(t *testing.T) {
			in := Input{Want: wantAccepts(t, tt.want), Have: netstatetest.ParseState(t, tt.have), Prune: tt.prune,
				Recorded: Recorded{Objects: set(tt.recorded)}, Spare: Recorded{Objects: set(tt.spare)}}
			p := Diff(in)
			if got := show(&p); got != lines(tt.plan) {
				t.Errorf("plan:\n%s\nshall be:\n%s", got, lines(tt.plan))
			}
			before, _ := kernelfake.New(in.Have).Snapshot(t.Context())
			for stop := range len(p.Ops) + 1 {
				k := kernelfake.New(in.Have)
				for i := range p.Ops[:stop] {
					if _, failed := k.Apply(t.Context(), []netstate.Change{p.Ops[i].Change}); len(failed) > 0 {
						t.Fatalf("%s: %v", p.Ops[i].Change, failed[0])
					}
				}
				now, _ := k.Snapshot(t.Context())
				if again := in; stop == len(p.Ops) {
					again.Have = now
					if rest := Diff(again); !rest.Empty() {
						t.Errorf("the plan does not lead to the end; what is left:\n%s", show(&rest))
					}
				}
				// The undo of every part leads back, but for copies.
				u := Undo(p.Checkpoint(in.Have, nil), now, nil)
				for i := range u.Ops {
					if _, failed := k.Apply(t.Context(), []netstate.Change{u.Ops[i].Change}); len(failed) > 0 {
						t.Fatalf("undo: %s: %v", u.Ops[i].Change, failed[0])
					}
				}
				back, _ := k.Snapshot(t.Context())
				if got, want := sortedRules(back), sortedRules(before); got != want {
					t.Errorf("the undo after %d of %d leads to\n%s\nbefore was\n%s", stop, len(p.Ops), got, want)
				}
			}
		})
	}
}

// sortedRules is a state without order and copies: an undo appends what came back.
func sortedRules(s netstate.State) string {
	seen := map[string]bool{}
	var out []string
	for _, c := range s.Forward {
		for i := range c.Rules {
			if line := c.NftName.String() + " " + c.Rules[i].String() + "\n"; !seen[line] {
				seen[line] = true
				out = append(out, line)
			}
		}
	}
	return strings.Join(slices.Sorted(slices.Values(out)), "")
}

// Routes to pods come behind what lets their packets pass, and go before it goes.
func TestAcceptsOrder(t *testing.T) {
	const route = "route 10.1.0.5 dev via0 table 254 proto 118 scope link"
	add := wantAccepts(t, in4)
	add.Routes = parseWant(t, route).Routes
	p := Diff(Input{Want: add, Have: netstatetest.ParseState(t, chain4)})
	if got := strings.Fields(show(&p)); len(p.Ops) != 2 || got[1] != "accept" {
		t.Errorf("plan:\n%s", show(&p))
	}
	rec := record(t, route)
	rec.Objects = map[string]bool{"PodNetwork/pods": true}
	p = Diff(Input{Have: netstatetest.ParseState(t, route+"\n"+chain4+rIn), Recorded: rec})
	if got := strings.Fields(show(&p)); len(p.Ops) != 2 || got[1] != "route" {
		t.Errorf("plan:\n%s", show(&p))
	}
}

func TestTextOfAccepts(t *testing.T) {
	w := wantAccepts(t, in4)
	w.Blocked = []desired.Blocked{{Object: "chain ip6 filter FORWARD", What: "rule 1 ends it", Origin: w.Accepts[0].Origin}}
	p := Diff(Input{Want: w, Have: netstatetest.ParseState(t, chain4+rOut), Recorded: Recorded{Objects: map[string]bool{"PodNetwork/pods": true}}})
	want := `forward chains of others
  + accept ip filter FORWARD iifname via* comment "viarule PodNetwork/pods"  # f.yaml:1 PodNetwork/pods: new
forward chains of others, no more
  - accept ip filter FORWARD oifname via* comment "viarule PodNetwork/pods"  # not wanted any more
blocked: of no use while somebody else's object stands as it does
  ! chain ip6 filter FORWARD  # f.yaml:1 PodNetwork/pods: rule 1 ends it
1 to add, 0 to change, 1 to remove; 0 satisfied, 0 conflicts, 1 blocked
`
	if got := written(t, &p, Style{}); got != want {
		t.Errorf("text:\n%s\nshall be:\n%s", got, want)
	}
	b, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{
		`{"verb":"add","kind":"accept","object":"accept ip filter FORWARD iifname via* comment \"viarule PodNetwork/pods\"","reason":"new",`,
		`"origin":{"kind":"PodNetwork","name":"pods","file":"f.yaml","line":1}`,
		`"blocked":[{"kind":"foreign","object":"chain ip6 filter FORWARD","what":"rule 1 ends it","origin":{`,
	} {
		if !strings.Contains(string(b), part) {
			t.Errorf("JSON lacks %s:\n%s", part, b)
		}
	}
}

func TestCheckpointTextOfAccepts(t *testing.T) {
	s := netstatetest.ParseState(t, "rule 2200 from 10.1.0.0/16 table 5000 proto 118\n"+chain4+rIn+"forward rule oifname \"via*\" accept\n"+chain6+rOut)
	p := Plan{}
	cp := p.Checkpoint(s, nil)
	text, err := cp.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	var got Checkpoint
	if err := got.UnmarshalText(text); err != nil {
		t.Fatal(err)
	}
	if len(got.Accepts) != 2 || got.Accepts[0] != cp.Accepts[0] || got.Accepts[1] != cp.Accepts[1] || len(got.Rules) != 1 {
		t.Errorf("read back as %+v of\n%s", got, text)
	}
	for n := range text {
		if err := new(Checkpoint).UnmarshalText(text[:n]); err == nil {
			t.Errorf("a checkpoint that was cut after %d of %d bytes was read", n, len(text))
		}
	}
	for _, bad := range []string{"checkpoint 2\naccept ip filter FORWARD iifname * comment \"viarule PodNetwork/pods\"\nend\n", "checkpoint 2\n" + chain4 + "end\n"} {
		if err := new(Checkpoint).UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}
