package desired

import (
	"fmt"
	"strings"
	"testing"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/netstate/netstatetest"
	"github.com/viarule/viarule/internal/spec"
)

// forwarding gives what an object that asks for forwarding by via* comes to.
func forwarding(t *testing.T, name, have string, legacy ...netstate.LegacyForward) (accepts, others string) {
	t.Helper()
	b := &builder{facts: &Facts{State: netstatetest.ParseState(t, have), Around: netstate.Surroundings{LegacyForward: legacy}}}
	obj := &spec.Object{Ref: spec.Ref{Kind: "PodNetwork", Name: name}}
	b.want.Forward = []Forward{{Links: "via*", Origin: Origin{Object: obj}}}
	b.buildAccepts()
	for _, a := range b.want.Accepts {
		if a.Comment != "viarule PodNetwork/"+name || a.Origin.Object != obj || a.Check() != nil {
			t.Errorf("%s of %v: %v", a, a.Origin, a.Check())
		}
		dir, pattern := "in", a.In
		if a.Out != "" {
			dir, pattern = "out", a.Out
		}
		accepts += fmt.Sprintf("%s %s %s\n", a.NftName, dir, pattern)
	}
	for _, x := range b.want.Blocked {
		others += "blocked: " + x.Object + ": " + x.What + "\n"
	}
	for _, n := range b.want.Notes {
		others += "note: " + n.Text + "\n"
	}
	for _, p := range b.problems {
		others += p.String() + "\n"
	}
	return accepts, others
}

func TestForwardingFollowsFromTheChains(t *testing.T) {
	const (
		drop4 = "forward chain ip filter FORWARD priority 0 policy drop\n"
		both4 = "ip filter FORWARD in via*\nip filter FORWARD out via*\n"
		cure  = " ends the chain for all packets, so that no accept behind it counts: put `iifname \"via*\" accept` and `oifname \"via*\" accept` in front of it, or remove it\n"
		ours  = "forward rule iifname \"via*\" accept comment \"viarule PodNetwork/pods\"\nforward rule oifname \"via*\" accept comment \"viarule PodNetwork/pods\"\n"
	)
	for _, tt := range []struct{ name, have, accepts, others string }{
		{"no chains", "", "", ""},
		{"policies that accept", "forward chain ip filter FORWARD priority 0 policy accept\nforward rule iifname \"a\" drop\n", "", ""},
		{"each chain that drops, of both families and of inet", "forward chain inet fw f priority 5 policy drop\n" + drop4 + "forward rule iifname \"a\" accept\nforward chain ip6 filter FORWARD priority 0 policy drop\n",
			"inet fw f in via*\ninet fw f out via*\n" + both4 + "ip6 filter FORWARD in via*\nip6 filter FORWARD out via*\n", ""},
		{"one that drops and accepts everything before", drop4 + "forward rule accept\n", "", ""},
		{"a rule ends it before", drop4 + "forward rule iifname \"a\" accept\nforward rule reject\n", both4, "blocked: chain ip filter FORWARD: rule 2 of the chain ip filter FORWARD (reject)" + cure},
		{"a jump ends it before", drop4 + "forward rule jump X\nforward sub X\nforward rule drop\n", both4, "blocked: chain ip filter FORWARD: rule 1 of the chain ip filter FORWARD (jump X, where rule 1 is drop)" + cure},
		{"a rule ends it behind ours", drop4 + ours + "forward rule drop\n", both4, ""},
		{"a rule ends it between ours", drop4 + strings.Replace(ours, "\n", "\nforward rule drop\n", 1), both4, "blocked: chain ip filter FORWARD: rule 2 of the chain ip filter FORWARD (drop)" + cure},
		{"what everything is accepted by is behind ours", drop4 + ours + "forward rule accept\n", both4, ""},
		{"a table that is switched off", strings.Replace(drop4, "drop", "drop dormant", 1), "", ""},
		{"a table that only its owner writes", strings.Replace(drop4, "drop", "drop owned", 1), "", "blocked: chain ip filter FORWARD: it drops by its policy what is forwarded, and its table belongs to a program that runs (flags owner), so that only that one can write there: have it add `iifname \"via*\" accept` and `oifname \"via*\" accept`\n"},
		{"a table that only its owner writes, who lets pods pass", strings.Replace(drop4, "drop", "drop owned", 1) + "forward rule oifname \"via*\" accept\nforward rule iifname \"via*\" accept\n", "", ""},
		{"the policy accepts, and the last rule rejects", "forward chain ip filter FORWARD priority 0 policy accept\nforward rule reject\n", "", "blocked: chain ip filter FORWARD: rule 1 of the chain ip filter FORWARD (reject)" + cure},
		{"the policy accepts, the last rule rejects, and somebody lets pods pass before", "forward chain ip filter FORWARD priority 0 policy accept\nforward rule iifname \"via*\" accept\nforward rule oifname \"via*\" accept\nforward rule reject\n", "", ""},
		{"the policy accepts, and the last rule returns to it", "forward chain ip filter FORWARD priority 0 policy accept\nforward rule return\n", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if accepts, others := forwarding(t, "pods", tt.have); accepts != tt.accepts || others != tt.others {
				t.Errorf("got\n%s%s\nwant\n%s%s", accepts, others, tt.accepts, tt.others)
			}
		})
	}
	t.Run("a name that is too long for a comment", func(t *testing.T) {
		if accepts, others := forwarding(t, strings.Repeat("a", 108), drop4); accepts != both4 || others != "" {
			t.Errorf("got %s%s", accepts, others)
		}
		if accepts, others := forwarding(t, strings.Repeat("a", 109), drop4); accepts != "" || !strings.Contains(others, "give it a name of 108 characters at most") {
			t.Errorf("got %s%s", accepts, others)
		}
		if accepts, others := forwarding(t, strings.Repeat("a", 109), ""); accepts+others != "" {
			t.Errorf("got %s%s", accepts, others)
		}
	})
}

func TestForwardingInTheOldIptables(t *testing.T) {
	for _, tt := range []struct {
		name   string
		legacy netstate.LegacyForward
		others string
	}{
		{"its policy accepts", netstate.LegacyForward{Family: netstate.IPv4, Known: true}, ""},
		{"it drops", netstate.LegacyForward{Family: netstate.IPv4, Known: true, Drop: true},
			"blocked: iptables-legacy chain FORWARD: it drops by its policy what is forwarded, and viarule changes nothing there: type `iptables-legacy -A FORWARD -i via+ -m comment --comment \"viarule PodNetwork/pods\" -j ACCEPT` and `iptables-legacy -A FORWARD -o via+ -m comment --comment \"viarule PodNetwork/pods\" -j ACCEPT`\n"},
		{"half of it was typed", netstate.LegacyForward{Family: netstate.IPv6, Known: true, Drop: true, In: []string{"a*", "via*"}},
			"blocked: ip6tables-legacy chain FORWARD: it drops by its policy what is forwarded, and viarule changes nothing there: type `ip6tables-legacy -A FORWARD -o via+ -m comment --comment \"viarule PodNetwork/pods\" -j ACCEPT`\n"},
		{"all of it was typed", netstate.LegacyForward{Family: netstate.IPv6, Known: true, Drop: true, In: []string{"via*"}, Out: []string{"via*"}}, ""},
		{"it could not be read", netstate.LegacyForward{Family: netstate.IPv4, Out: []string{"via*"}},
			"note: the chain FORWARD of the old iptables could not be read (iptables-legacy), and viarule changes nothing there: if `iptables-legacy -S FORWARD` says -P FORWARD DROP, type `iptables-legacy -A FORWARD -i via+ -m comment --comment \"viarule PodNetwork/pods\" -j ACCEPT`\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if accepts, others := forwarding(t, "pods", "", tt.legacy); accepts != "" || others != tt.others {
				t.Errorf("got\n%s%s\nwant\n%s", accepts, others, tt.others)
			}
		})
	}
}
