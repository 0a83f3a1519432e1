package owner_test

import (
	"strings"
	"testing"

	"github.com/viarule/viarule/internal/netstate/netstatetest"
	"github.com/viarule/viarule/internal/owner"
)

const kernels = `
rule 0 from all table local proto kernel
rule 32766 from all table main proto kernel
rule 32767 from all table default proto kernel
`

func names(f owner.Findings) string {
	var out []string
	for _, n := range f {
		out = append(out, n.Neighbour.Name)
	}
	return strings.Join(out, ", ")
}

func TestMatchState(t *testing.T) {
	for _, c := range []struct{ name, state, want string }{
		{"only the kernel's rules", "", ""},
		{"AWS VPC CNI by its mark", "rule 1024 from all fwmark 0x80/0x80 table main", "AWS VPC CNI"},
		{"AWS VPC CNI by a pod's pair", "rule 512 from all to 10.0.0.5 table main\nrule 1536 from 10.0.0.5 table 2", "AWS VPC CNI"},
		{"half of the pair says nothing", "rule 512 from all to 10.0.0.5 table main", ""},
		{"somebody's rule at 300", "rule 300 from all to 12.12.12.12 table main", ""},
		{"somebody's prefixes at AWS's priorities", "rule 512 from all to 10.0.0.0/24 table main\nrule 1536 from 10.0.0.0/24 table 2", ""},
		{"Terway", "rule 512 from all to 10.0.0.5 table main\nrule 2048 from 10.0.0.5 iif cali1 table 1003", "Terway"},
		{"Calico by a route", "route 10.1.0.0/26 via 10.0.0.2 dev tunl0 onlink table main proto 80", "Calico"},
		{"Calico's WireGuard", "rule 99 not from all fwmark 0x200000/0x200000 table 1", "Calico"},
		{"Cilium by the moved local rule", "rule 9 from all fwmark 0x200/0xf00 table 2004 proto kernel\nrule 100 from all table local proto kernel", "Cilium"},
		{"Cilium with ENI", "rule 20 from all to 10.0.0.5 table main proto kernel\nrule 111 from 10.0.0.5 to 10.0.0.0/16 table 12 proto kernel", "Cilium"},
		{"Cilium's priorities without its protocol", "rule 20 from all to 10.0.0.5 table main\nrule 111 from 10.0.0.5 table 12", ""},
		{"Coil", "rule 2000 from all table 118 proto 30", "Coil"},
		{"kube-router", "rule 32764 from all fwmark 0x2a1/0x3fff table 78\nrule 32765 from all table 79", "kube-router"},
		{"netd", "rule 74 from all fwmark 0x4000/0x4000 iif lo table 1", "netd"},
		{"OVN-Kubernetes on IPv6", "rule -6 6000 from fd00::5 table 1007", "OVN-Kubernetes"},
		{
			"Tailscale",
			"rule 5210 from all fwmark 0x80000/0xff0000 table main\nrule 5230 from all fwmark 0x80000/0xff0000 table default\n" +
				"rule 5250 from all fwmark 0x80000/0xff0000 unreachable\nrule 5270 from all table 52",
			"Tailscale",
		},
		{"a rule at Tailscale's priority", "rule 5270 from 10.0.0.0/8 table 52", ""},
		{"Antrea", "rule 32765 from all fwmark 0x1/0xff table 101", "Antrea"},
		{"Spiderpool", "rule 1000 from all table 500", "Spiderpool"},
		{"ec2-net-utils", "rule 10001 from 172.31.0.9 table 10001", "ec2-net-utils"},
		{"VRF", "rule 1000 from all l3mdev proto kernel\nrule -6 1000 from all l3mdev proto kernel", "VRF"},
		{"our own rule in a neighbour's shape", "rule 5270 from all table 52 proto 118", ""},
		{"a shape with an attribute that nobody knows", "rule 5270 from all table 52 unknown 0400ff00", ""},
		{"two at once", "rule 5270 from all table 52\nrule 1024 from all fwmark 0x80/0x80 table main", "AWS VPC CNI, Tailscale"},
	} {
		s := netstatetest.ParseState(t, kernels+c.state)
		if got := names(owner.MatchState(&s)); got != c.want {
			t.Errorf("%s: found %q, want %q", c.name, got, c.want)
		}
	}
}

func TestFindingsNameTheEvidence(t *testing.T) {
	s := netstatetest.ParseState(t, kernels+`
rule 512 from all to 10.0.0.5 table main
rule 512 from all to 10.0.0.6 table main
rule 900 from 10.0.0.7 table 9
rule 1024 from all fwmark 0x80/0x80 table main
rule 1536 from 10.0.0.6 table 2
route 10.1.0.0/26 dev cali1 table main proto 80
route 10.2.0.0/26 dev cali2 table main proto 80`)
	f := owner.MatchState(&s)
	if names(f) != "AWS VPC CNI, Calico" {
		t.Fatalf("found %s", names(f))
	}
	var got []string
	for _, r := range f[0].Rules {
		got = append(got, r.String())
	}
	want := []string{
		"rule 512 from all to 10.0.0.5 table 254",
		"rule 512 from all to 10.0.0.6 table 254",
		"rule 1024 from all fwmark 0x80/0x80 table 254",
		"rule 1536 from 10.0.0.6 table 2",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("evidence:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if len(f[1].Routes) != 1 || f[1].Routes[0].To.String() != "10.1.0.0/26" {
		t.Errorf("evidence: %v", f[1].Routes)
	}
}

// TestCollisions holds that a number collides only with who is there.
func TestCollisions(t *testing.T) {
	s := netstatetest.ParseState(t, kernels+"rule 5210 from all fwmark 0x80000/0xff0000 table main")
	f := owner.MatchState(&s)
	for prio, want := range map[uint32]string{5210: "Tailscale", 5250: "Tailscale", 5271: "", 512: "", 1000: "", 300: ""} {
		if got := names(f.Priority(prio)); got != want {
			t.Errorf("priority %d collides with %q, want %q", prio, got, want)
		}
	}
	for id, want := range map[uint32]string{52: "Tailscale", 53: "", 118: ""} {
		if got := names(f.Table(id)); got != want {
			t.Errorf("table %d collides with %q, want %q", id, got, want)
		}
	}
	for mask, want := range map[uint32]string{0x10000: "Tailscale", 0x3f: "", 0xffffffff: "Tailscale"} {
		if got := names(f.Mark(mask)); got != want {
			t.Errorf("mark %#x collides with %q, want %q", mask, got, want)
		}
	}
}

func TestHolders(t *testing.T) {
	list := func(ns []*owner.Neighbour) string {
		var out []string
		for _, n := range ns {
			out = append(out, n.Name)
		}
		return strings.Join(out, ", ")
	}
	for got, want := range map[string]string{
		list(owner.PriorityHolders(512)):  "AWS VPC CNI, Terway",
		list(owner.PriorityHolders(1000)): "Spiderpool, VRF",
		list(owner.TableHolders(52)):      "Calico, Cilium, Tailscale",
		list(owner.MarkHolders(0x4000)):   "netd, kube-proxy",
		list(owner.MarkHolders(0x2000)):   "portmap",
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	// viarule's own numbers were chosen clear of everybody.
	p := owner.Objects()
	for n := range owner.Neighbours() {
		for prio := p.Priorities.First; prio <= p.Priorities.Last; prio++ {
			if n.HoldsPriority(prio) {
				t.Errorf("%s holds priority %d of our band", n.Name, prio)
			}
		}
		for id := p.Tables.First; id <= p.Tables.Last; id++ {
			if n.HoldsTable(id) {
				t.Errorf("%s holds table %d of our pool", n.Name, id)
			}
		}
	}
}
