package owner_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/netstate/netstatetest"
	"github.com/viarule/viarule/internal/owner"
)

func TestClasses(t *testing.T) {
	p := owner.Objects()
	for _, c := range []struct {
		text string
		want owner.Class
	}{
		{"rule 2200 from 10.0.0.1 table 5000 proto 118", owner.Ours},
		{"rule -6 2200 from 2001:db8::1 table 5000 proto 118", owner.Ours},
		{"rule 300 from all goto 400 proto 118", owner.Ours}, // an explicit priority, out of the band
		{"rule 2200 from 10.0.0.1 table 5000", owner.Foreign},
		{"rule 2200 from 10.0.0.1 table 5000 proto static", owner.Foreign},
		{"rule 2200 from 10.0.0.1 table 5000 proto 119", owner.Foreign},
		{"rule 2200 from 10.0.0.1 table 5000 proto 118 unknown 0500190001000000", owner.Unsure},
		{"rule 2200 from all action 5 proto 118", owner.Unsure},
		{"rule 0 from all table local proto kernel", owner.Foreign},
		{"rule 0 from all table local proto 118", owner.Unsure},
		{"rule -6 32766 from all table main proto 118", owner.Unsure},
		{"rule 32767 from all table default proto 118", owner.Unsure},
		{"route default via 10.0.0.1 dev e table 5000 proto 118", owner.Ours},
		{"route -6 default via fe80::1 dev e table main metric 1024 proto 118", owner.Ours},
		{"route 10.1.0.0/16 dev e table 5000 proto 120", owner.Foreign},
		{"route 10.1.0.0/16 dev e table 5000 proto 118 unknown 0400ff00", owner.Unsure},
		{"route 10.1.0.0/16 nexthop dev e unknown 0400ff00 table 5000 proto 118", owner.Unsure},
		{"route 10.1.0.0/16 nexthop dev e nexthop dev f unknown 0400ff00 table 5000 proto 118", owner.Unsure},
		{"route local 10.1.0.1 dev e table local proto 118 scope host", owner.Unsure},
		{"nexthop 1 via 10.0.0.1 dev e proto 118", owner.Ours},
		{"nexthop -6 1 via fe80::1 dev e", owner.Foreign},
		{"nexthop 1 via 10.0.0.1 fdb proto 118", owner.Unsure},
		{"nexthop 1 via 10.0.0.1 dev e proto 118 unknown 0400ff00", owner.Unsure},
	} {
		s := netstatetest.ParseState(t, c.text)
		var got owner.Class
		switch {
		case len(s.Rules) > 0:
			got = p.Rule(&s.Rules[0])
		case len(s.Routes) > 0:
			got = p.Route(&s.Routes[0])
		default:
			got = p.Nexthop(&s.Nexthops[0])
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.text, got, c.want)
		}
	}
}

// TestOnlyOurMarkIsOurs holds the one law that everything else stands on.
func TestOnlyOurMarkIsOurs(t *testing.T) {
	p := owner.Objects()
	rapid.Check(t, func(t *rapid.T) {
		r := netstatetest.Rule(netstatetest.RuleOptions{}).Draw(t, "rule")
		if p.Rule(&r) == owner.Ours && (r.Protocol != netstate.ProtocolObject || r.Unknown != "" || owner.ProtectedPriority(r.Priority)) {
			t.Fatalf("%s is ours", r)
		}
		o := netstatetest.Route().Draw(t, "route")
		if p.Route(&o) == owner.Ours && (o.Protocol != netstate.ProtocolObject || strings.Contains(o.String(), "unknown")) {
			t.Fatalf("%s is ours", o)
		}
	})
}

func TestBands(t *testing.T) {
	p := owner.Objects()
	for n, want := range map[uint32]bool{2199: false, 2200: true, 2999: true, 3000: false} {
		if p.Priorities.Contains(n) != want {
			t.Errorf("priority %d: in the band: %t", n, !want)
		}
	}
	for n, want := range map[uint32]bool{4999: false, 5000: true, 5999: true, 6000: false} {
		if p.Tables.Contains(n) != want {
			t.Errorf("table %d: in the pool: %t", n, !want)
		}
	}
	if p.Priorities.Size() != 800 || p.Tables.Size() != 1000 {
		t.Errorf("sizes: %d, %d", p.Priorities.Size(), p.Tables.Size())
	}
}

func TestNexthopInUse(t *testing.T) {
	p := owner.Objects()
	s := netstatetest.ParseState(t, `
route 10.0.0.0/8 dev e nhid 1 table 5000 proto 118
route 10.0.0.0/8 dev e nhid 2 table main proto static
nexthop 1 dev e proto 118
nexthop 2 dev e proto 118
nexthop 3 dev e proto 118
nexthop 4 dev e proto 118
nexthop 5 group 3 proto 118
nexthop 6 group 1/4 proto static`)
	for id, want := range map[uint32]string{
		1: "nexthop 6 group 1/4 proto 4",
		2: "route 10.0.0.0/8 dev e nhid 2 table 254 proto 4",
		3: "",
		4: "nexthop 6 group 1/4 proto 4",
	} {
		if got := p.NexthopInUse(id, &s); got != want {
			t.Errorf("nexthop %d: used by %q, want %q", id, got, want)
		}
	}
}
