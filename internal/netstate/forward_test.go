package netstate_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/netstate/netstatetest"
)

func TestForwardTextReadsBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := netstate.State{Forward: netstatetest.ForwardChains().Draw(t, "chains")}
		got, err := netstate.ParseState(want.String())
		if err != nil {
			t.Fatal(err)
		}
		if got.String() != want.String() || len(got.Forward) != len(want.Forward) {
			t.Fatalf("reads back as\n%s\nof\n%s", got, want)
		}
		for i := range got.Forward {
			for j := range got.Forward[i].Rules {
				a, aok := got.Forward[i].Accept(j)
				b, bok := want.Forward[i].Accept(j)
				if a != b || aok != bok {
					t.Fatalf("rule %d reads back as %v, %v of %v, %v", j, a, aok, b, bok)
				}
			}
		}
	})
}

func TestAcceptText(t *testing.T) {
	for _, text := range []string{
		`accept ip filter FORWARD iifname via* comment "viarule PodNetwork/pods"`,
		`accept inet "my table" fwd oifname v* comment "viarule PodNetwork/a.b-c"`,
	} {
		a, err := netstate.ParseAccept(text)
		if err != nil || a.String() != text {
			t.Errorf("%s: %s, %v", text, a, err)
		}
		ch, err := netstate.ParseChange("- " + text)
		if err != nil || ch.Accept == nil || *ch.Accept != a || ch.String() != "- "+text {
			t.Errorf("%s: %s, %v", text, ch, err)
		}
		if a.Object() != strings.TrimSuffix(text[strings.Index(text, "PodNetwork"):], `"`) {
			t.Errorf("%s: object %s", text, a.Object())
		}
	}
	const end = ` comment "viarule PodNetwork/pods"`
	for _, bad := range []string{
		"accept", "accept ip filter", "accept ip filter FORWARD" + end, "accept ip filter FORWARD iifname *" + end, "accept ip filter FORWARD iifname via0" + end,
		"accept ip filter FORWARD iifname via* oifname via*" + end, "accept ip filter FORWARD iifname via*", "accept ip filter FORWARD iifname via* comment docker",
		`accept ip filter FORWARD iifname via* comment "viarule PodNetwork/a b"`, `accept ip filter FORWARD iifname via* comment "viarule /a"`,
		"accept bridge filter FORWARD iifname via*" + end, "accept ip filter FORWARD iifname via* iifname v*" + end, "accept ip filter FORWARD iifname via* mark 1" + end,
	} {
		if a, err := netstate.ParseAccept(bad); err == nil {
			t.Errorf("%q reads as %s", bad, a)
		}
	}
}

func TestEnds(t *testing.T) {
	for _, tt := range []struct{ name, rules, want string }{
		{"no rules", "", ""},
		{"conditions only", "rule iifname \"a\" drop\nrule unknown ct . reject\nrule iifname \"a*\" jump X\nsub X\nrule drop", ""},
		{"a drop", "rule iifname \"a\" accept\nrule drop comment \"the end\"", "1 drop loses: rule 2 of the chain ip filter FORWARD (drop)"},
		{"a reject", "rule reject", "0 reject loses: rule 1 of the chain ip filter FORWARD (reject)"},
		{"the first counts", "rule accept\nrule drop", "0 accept: rule 1 of the chain ip filter FORWARD (accept)"},
		{"a return leaves it to the policy", "rule return", "0 return loses: rule 1 of the chain ip filter FORWARD (return)"},
		{"a jump to what drops", "rule jump X\nsub X\nrule iifname \"a\" accept\nrule drop", "0 drop loses: rule 1 of the chain ip filter FORWARD (jump X, where rule 2 is drop)"},
		{"a jump to what returns", "rule jump X\nsub X\nrule return\nrule drop", ""},
		{"a jump to what jumps to what drops", "rule jump X\nsub X\nrule jump Y\nsub Y\nrule reject", "0 reject loses: rule 1 of the chain ip filter FORWARD (jump X, where rule 1 is jump Y, where rule 1 is reject)"},
		{"a goto to nothing", "rule goto X\nrule accept\nsub X", "0 return loses: rule 1 of the chain ip filter FORWARD (goto X)"},
		{"a goto in a chain that was jumped to", "rule jump X\nrule drop\nsub X\nrule goto Y\nrule accept\nsub Y", "1 drop loses: rule 2 of the chain ip filter FORWARD (drop)"},
		{"a chain that was not read", "rule jump Z\nrule goto Z", ""},
		{"a circle", "rule jump X\nsub X\nrule jump X\nrule goto X", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			text := "forward chain ip filter FORWARD priority 0 policy drop\n"
			for line := range strings.Lines(tt.rules) {
				text += "forward " + strings.TrimSpace(line) + "\n"
			}
			c := netstatetest.ParseState(t, text).Forward[0]
			got := ""
			if e, ok := c.Ends(len(c.Rules)); ok {
				loses := ""
				if e.Loses(&c) {
					loses = " loses"
				}
				r := netstate.NftRule{{Op: e.Op}}
				got = string(rune('0'+e.Rule)) + " " + r.String() + loses + ": " + e.Where
				if _, before := c.Ends(e.Rule); before {
					t.Error("it ends before its end")
				}
			}
			if got != tt.want {
				t.Errorf("ends %q, want %q", got, tt.want)
			}
		})
	}
}

func TestAfterAccepts(t *testing.T) {
	const chain = "forward chain ip filter FORWARD priority 0 policy drop\nforward rule drop\n"
	s := netstatetest.ParseState(t, chain)
	before := s.String()
	add := netstatetest.ParseChange(t, `+ accept ip filter FORWARD iifname via* comment "viarule PodNetwork/pods"`)
	del := add
	del.Verb = netstate.Delete
	nowhere := netstatetest.ParseChange(t, `+ accept ip6 filter FORWARD iifname via* comment "viarule PodNetwork/pods"`)
	after := netstate.After(s, []*netstate.Change{&del, &add, &nowhere})
	if want := chain + "forward rule iifname \"via*\" accept comment \"viarule PodNetwork/pods\"\n"; after.String() != want {
		t.Errorf("after is\n%s\nwant\n%s", after, want)
	}
	if back := netstate.After(after, []*netstate.Change{&del}); back.String() != before {
		t.Errorf("back is\n%s\nwant\n%s", back, before)
	}
	if s.String() != before {
		t.Errorf("the state that was given is now\n%s", s)
	}
}
