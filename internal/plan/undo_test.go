package plan

import (
	"maps"
	"strings"
	"testing"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/netstate/netstatetest"
)

// TestUndo stops each plan after each of its ops, and lets each op fail in turn,
// and wants everything to be as it was.
func TestUndo(t *testing.T) {
	tests := []diffTest{{
		name: "routes, rules and sysctls",
		have: `rule 2200 from 10.1.0.0/16 table 5000 proto 118
		       rule 2200 from 10.2.0.0/16 table 5000 proto 118
		       rule 2200 from 10.3.0.0/16 table 5000 proto 118
		       rule -6 2200 not from 2001:db8::/32 table 5000 proto 118
		       rule -6 2200 from 2001:db8::/32 table 5000 proto 118
		       route default via 10.0.0.1 dev eth0 table 5000 proto 118
		       route 10.9.0.0/16 dev eth1 table 5000 proto 118
		       route -6 default via fe80::1 dev eth0 table 5000 metric 1024 proto 118`,
		old: `rule 2200 from 10.1.0.0/16 table 5000 proto 118
		       rule -6 2200 from 2001:db8::/32 table 5000 proto 118
		       route 10.9.0.0/16 dev eth1 table 5000 proto 118
		       route -6 default via fe80::1 dev eth0 table 5000 metric 1024 proto 118`,
		want: `rule 2200 from 10.3.0.0/16 table 5000 proto 118
		       rule 2200 from 10.2.0.0/16 table 5001 proto 118
		       rule 2200 from 10.2.0.0/16 table 5000 proto 118
		       rule -6 2200 not from 2001:db8::/32 table 5000 proto 118
		       route default via 10.0.0.2 dev eth0 table 5000 proto 118
		       route -6 default via fe80::1 dev eth0 table 5000 metric 10 proto 118
		       sysctl net/ipv4/ip_forward = 1`,
		sysctls: map[string]string{"net/ipv4/ip_forward": "0"},
	}, {
		name:  "what was taken over",
		adopt: true,
		have: `rule 2200 from 10.8.0.0/16 table 5000 proto static
		       rule 2200 from 10.1.0.0/16 table 5000 proto static
		       rule 2200 from 10.2.0.0/16 table 5000 proto 118
		       rule -6 2200 from all unreachable proto boot
		       route default via 10.0.0.1 dev eth0 table 5000 proto static
		       route default via 10.0.0.9 dev eth0 table 5000 proto static
		       route -6 default via fe80::1 dev eth0 table 5000 metric 1024 proto static`,
		want: `rule 2200 from 10.1.0.0/16 table 5000 proto 118
		       rule 2200 from 10.2.0.0/16 table 5000 proto 118
		       rule -6 2200 from all unreachable proto 118
		       route default via 10.0.0.1 dev eth0 table 5000 proto 118
		       route -6 default via fe80::1 dev eth0 table 5000 metric 1024 proto 118`,
	}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := tt.input(t)
			before := newKernel(in.Have, tt.sysctls)
			p := Diff(in)
			if len(p.Ops) < 4 {
				t.Fatalf("the plan has too few ops for this test:\n%s", show(&p))
			}
			cp := p.Checkpoint(in.Have, tt.sysctls)
			for skip := -1; skip < len(p.Ops); skip++ {
				k := before.clone()
				for i := range p.Ops {
					if i == skip {
						continue
					}
					if err := k.apply(&p.Ops[i].Change); err != nil && skip < 0 {
						t.Fatalf("%s: %v", p.Ops[i].Change, err)
					}
					checkUndo(t, cp, k, before)
				}
			}
		})
	}
}

// checkUndo wants that Undo leads from k back to before.
func checkUndo(t testing.TB, cp Checkpoint, k, before *kernel) {
	t.Helper()
	u := Undo(cp, k.state(), k.sysctls)
	back := k.clone()
	for i := range u.Ops {
		if err := back.apply(&u.Ops[i].Change); err != nil {
			t.Fatalf("undo of\n%s: %s: %v\nundo:\n%s", k.state(), u.Ops[i].Change, err, show(&u))
		}
	}
	if got, want := back.state().String(), before.state().String(); got != want || !maps.Equal(back.sysctls, before.sysctls) {
		t.Fatalf("undo of\n%sgives\n%s%v\nbefore was\n%s%v\nundo:\n%s", k.state(), got, back.sysctls, want, before.sysctls, show(&u))
	}
}

func TestCheckpointText(t *testing.T) {
	state := netstatetest.ParseState(t, "rule 2200 from 10.1.0.0/16 iif \"a b\" table 5000 proto 118\nroute -6 default via fe80::1 dev eth0 table 5000 metric 1024 proto 118 unknown 0102")
	cp := Checkpoint{Rules: state.Rules, Routes: state.Routes, Sysctls: []netstate.Sysctl{{Key: "net/ipv4/conf/a b/rp_filter", Value: "1 2"}, {Key: "x", Value: ""}}}
	text, err := cp.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	var got Checkpoint
	if err := got.UnmarshalText(text); err != nil {
		t.Fatal(err)
	}
	again, _ := got.MarshalText()
	if string(again) != string(text) || len(got.Rules) != 1 || len(got.Routes) != 1 || len(got.Sysctls) != 2 {
		t.Errorf("read back as\n%s\nof\n%s", again, text)
	}
	for n := range text {
		if err := new(Checkpoint).UnmarshalText(text[:n]); err == nil {
			t.Errorf("a checkpoint that was cut after %d of %d bytes was read", n, len(text))
		}
	}
	for _, bad := range []string{"checkpoint 1\nrule x\nend\n", "checkpoint 1\nsysctl a\nend\n", "checkpoint 2\naddr 10.0.0.1/8 dev eth0\nend\n", "checkpoint 3\nend\n"} {
		if err := new(Checkpoint).UnmarshalText([]byte(bad)); err == nil || !strings.HasPrefix(err.Error(), "read a checkpoint: ") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
