package external

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/owner"
	"github.com/viarule/viarule/internal/spec"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func TestMarksKeepClearOfOthers(t *testing.T) {
	for _, c := range []struct {
		name     string
		taken    uint32
		values   int
		standing map[string]netstate.Mark
		want     uint32
	}{
		{"nobody else", 0, 2, nil, 0x3f},
		{"as many as fit", 0, 62, nil, 0x3f},
		{"more than fit six bits", 0, 64, nil, 0x7f},
		{"Antrea has the low byte", 0xff, 2, nil, 0x3f << 16},
		{"what stands stays", 0, 2, map[string]netstate.Mark{"a": {Value: 0x100, Mask: 0xf00}}, 0xf00},
		{"what stands and is another's now goes", 0x100, 2, map[string]netstate.Mark{"a": {Value: 0x100, Mask: 0xf00}}, 0x3f},
		{"two bits are left", ^uint32(0x00030000), 3, nil, 0x00030000},
		{"none is left", ^uint32(0), 2, nil, 0},
	} {
		if got := fieldOf(c.taken, c.values, c.standing); got != c.want {
			t.Errorf("%s: %#x, want %#x", c.name, got, c.want)
		}
	}
	if got := bitOf(0x1000, 0); got != 1 {
		t.Errorf("the default bit is taken: %#x, want the lowest free one", got)
	}
	if got := bitOf(0, 0x40); got != 0x40 {
		t.Errorf("the bit that stands: %#x, want it kept", got)
	}
}

// kubeProxy is the neighbour of that name.
func kubeProxy(t *testing.T) owner.Findings {
	around := netstate.Surroundings{Chains: []netstate.NftName{{Family: "ip", Table: "nat", Chain: "KUBE-SERVICES"}}}
	f := owner.Match(&netstate.State{}, &around)
	if len(f) != 1 || f[0].Neighbour.Name != "kube-proxy" {
		t.Fatalf("found %v, want kube-proxy", f)
	}
	return f
}

func TestAMarkOfANeighbourIsRefused(t *testing.T) {
	o := network1()
	o.External.Mark = netstate.Mark{Value: 0x4000, Mask: 0x4000}
	s := state(t, "link 2 ext0 kind veth up")
	low := Lower([]*spec.Object{&o}, Facts{State: &s, Neighbours: kubeProxy(t), TableName: func(uint32) string { return "" }})
	if len(low.Problems) != 1 || low.Problems[0].Path != "spec.mark" || len(low.Networks) != 0 || low.Nft != nil {
		t.Errorf("problems %v, networks %v, want one problem of spec.mark and nothing else", low.Problems, low.Networks)
	}
}

func TestTheFirstGatewayThatAnswersIsUsed(t *testing.T) {
	o := network1()
	o.External.Gateways = []spec.Gateway{{Addr: addr("1.2.3.1")}, {Addr: addr("1.2.3.2")}, {Addr: addr("1.2.3.3")}}
	s := state(t, "link 2 ext0 kind veth up\naddr 1.2.3.9/24 dev ext0")
	key := func(a string) netstate.NeighKey { return netstate.NeighKey{Dev: "ext0", Addr: addr(a)} }
	for _, c := range []struct {
		name  string
		known map[netstate.NeighKey]netstate.NeighState
		want  string
	}{
		{"nothing is known", nil, "1.2.3.1"},
		{"the first is silent", map[netstate.NeighKey]netstate.NeighState{key("1.2.3.1"): netstate.NeighSilent}, "1.2.3.2"},
		{"only the last answers", map[netstate.NeighKey]netstate.NeighState{key("1.2.3.3"): netstate.NeighAnswers}, "1.2.3.3"},
		{"none answers", map[netstate.NeighKey]netstate.NeighState{
			key("1.2.3.1"): netstate.NeighSilent, key("1.2.3.2"): netstate.NeighSilent, key("1.2.3.3"): netstate.NeighSilent}, "1.2.3.1"},
	} {
		low := Lower([]*spec.Object{&o}, Facts{State: &s, Gateways: c.known, TableName: func(uint32) string { return "" }})
		got := ""
		for _, r := range low.Networks[0].Policy.Tables[0].Routes {
			if r.Via.IsValid() {
				got += r.Via.String()
			}
		}
		if got != c.want {
			t.Errorf("%s: by %s, want %s", c.name, got, c.want)
		}
	}
}

// network1 is an object with one prefix on ext0.
func network1() spec.Object {
	p := netip.MustParsePrefix("1.2.3.0/24")
	return spec.Object{
		Ref: spec.Ref{Kind: spec.KindExternalNetwork, Name: "public"},
		External: &spec.ExternalNetwork{
			Interface: spec.Interface{Name: "ext0"},
			Addresses: []spec.Addresses{{First: p.Addr(), Last: addr("1.2.3.255"), Prefix: p}},
			Gateways:  []spec.Gateway{{Addr: addr("1.2.3.1")}},
		},
	}
}

func state(t *testing.T, text string) netstate.State {
	t.Helper()
	s, err := netstate.ParseState(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestLinksAreFoundByWhatTheyAre(t *testing.T) {
	s := state(t, `
link 2 eth0 mac 02:00:00:00:00:01 up
link 3 br0 kind bridge mac 02:00:00:00:00:02 up
link 4 eth1 mac 02:00:00:00:00:02 up master br0
link 5 eth2 mac 02:00:00:00:00:05 up
link 6 eth3 mac 02:00:00:00:00:05 up
addr 1.2.3.9/24 dev eth2
addr 2001:db8::9/64 dev eth0`)
	for _, c := range []struct {
		name  string
		match spec.LinkMatch
		want  string // empty: a problem
	}{
		{"by its address", spec.LinkMatch{MAC: "02:00:00:00:00:01"}, "eth0"},
		{"capitals are the same", spec.LinkMatch{MAC: "02:00:00:00:00:01"}, "eth0"},
		{"the bridge, not its port", spec.LinkMatch{MAC: "02:00:00:00:00:02"}, "br0"},
		{"two fit", spec.LinkMatch{MAC: "02:00:00:00:00:05"}, ""},
		{"two fit, and the subnet tells them apart", spec.LinkMatch{MAC: "02:00:00:00:00:05", Subnet: netip.MustParsePrefix("1.2.3.0/24")}, "eth2"},
		{"by a subnet", spec.LinkMatch{Subnet: netip.MustParsePrefix("2001:db8::/64")}, "eth0"},
		{"none fits", spec.LinkMatch{Subnet: netip.MustParsePrefix("10.0.0.0/8")}, ""},
	} {
		o := network1()
		o.External.Interface = spec.Interface{Match: &c.match}
		l := lowerer{facts: &Facts{State: &s}}
		n := &network{obj: &o, spec: o.External}
		l.findLink(n)
		if n.dev != c.want || (c.want == "") != n.bad {
			t.Errorf("%s: %q (problems %v), want %q", c.name, n.dev, l.out.Problems, c.want)
		}
	}
}

func TestIPVSGetsItsRequestsWithoutAMark(t *testing.T) {
	s := state(t, "link 2 ext0 kind veth up\nroute default dev ext0 table 254\nroute -6 default dev ext0 table 254 metric 1024")
	for _, ipvs := range []bool{false, true} {
		o := network1()
		low := Lower([]*spec.Object{&o}, Facts{State: &s, Around: netstate.Surroundings{IPVS: ipvs}, TableName: func(uint32) string { return "" }})
		var hooks []string
		for _, c := range low.Nft.Chains {
			if len(c.Rules) == 1 && len(c.Rules[0]) == 2 && c.Rules[0][1].Op == netstate.NftSetMark && c.Rules[0][1].Mark.Value == 0 {
				hooks = append(hooks, c.Hook.Hook)
			}
		}
		want := "[forward]"
		if ipvs {
			want = "[forward input]"
		}
		if got := fmt.Sprint(hooks); got != want {
			t.Errorf("IPVS %v: marks are taken off at %s, want %s", ipvs, got, want)
		}
	}
}

func TestAPortOfAVRFHasItsRuleTwice(t *testing.T) {
	for _, c := range []struct{ links, want string }{
		{"link 2 ext0 kind veth up", "[ext0]"},
		{"link 2 ext0 kind veth up master br0\nlink 3 br0 kind bridge up", "[ext0]"},
		{"link 2 ext0 kind veth up master red\nlink 3 red kind vrf up", "[ext0 red]"},
	} {
		s, o := state(t, c.links), network1()
		low := Lower([]*spec.Object{&o}, Facts{State: &s, TableName: func(uint32) string { return "" }})
		var in []string
		for _, r := range low.Networks[0].Policy.Rules {
			if r.IIF != "" {
				in = append(in, r.IIF)
			}
		}
		if got := fmt.Sprint(in); got != c.want {
			t.Errorf("%q: rules for what comes in by %s, want %s", c.links, got, c.want)
		}
	}
}
