package srcroute

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/netstate/netstatetest"
	"github.com/viarule/viarule/internal/spec"
)

// podLinks is a pod's interface with two addresses, and what the kernel and an interface
// plugin made of them.
const podLinks = `
	link 3 net1 kind veth up carrier
	addr 10.1.0.5/24 dev net1 label net1 flags 0x80
	addr 2001:db8:1::5/64 dev net1 flags 0x80
	addr fe80::5/64 dev net1 scope link flags 0xc0 proto 3
	route default via 10.1.0.1 dev net1 table 254 proto 3
	route 10.1.0.0/24 dev net1 table 254 proto 2 scope link src 10.1.0.5
	route 10.9.0.0/16 via 10.1.0.9 dev net1 table 254 metric 7 proto 4
	route -6 2001:db8:1::/64 dev net1 table 254 metric 256 proto 2
	route -6 fe80::/64 dev net1 table 254 metric 256 proto 2
	route -6 2001:db8:9::/48 via fe80::9 dev net1 table 254 metric 1024 proto 4
`

const (
	red     = "link 7 red kind vrf up vrftable 42"
	ourRed  = "link 7 red kind vrf up alias viarule:CNI/red vrftable 5000"
	enters4 = `
		- route default via 10.1.0.1 dev net1 table 254 proto 3
		- route 10.9.0.0/16 via 10.1.0.9 dev net1 table 254 metric 7 proto 4
		- route -6 2001:db8:9::/48 via fe80::9 dev net1 table 254 metric 1024 proto 4
		address 2001:db8:1::5/64 0x82
		address fe80::5/64 0x82
		enter
	`
)

// vrfFacts reads the facts of Build from a namespace in text.
func vrfFacts(t *testing.T, text string) *Facts {
	t.Helper()
	var lines []string
	for l := range strings.Lines(text) {
		lines = append(lines, strings.TrimSpace(l))
	}
	s := netstatetest.ParseState(t, strings.Join(lines, "\n"))
	f := &Facts{Free: []uint32{5000}, Addrs: s.Addrs, Priority: [2]uint32{32765, 32765}, Sources: map[netip.Addr]bool{}}
	for i := range s.Links {
		switch l := &s.Links[i]; l.Name {
		case "net1":
			f.Link = l
		case "red":
			f.VRF = l
		}
	}
	for _, a := range s.Addrs {
		f.Sources[a.Prefix.Addr()] = true
	}
	for _, r := range s.Routes {
		if r.Table == netstate.TableMain {
			f.Main = append(f.Main, r)
		} else {
			f.InVRF = append(f.InVRF, r)
		}
	}
	return f
}

// wantText is what stands in a Want, a line each, as it is done.
func wantText(w *Want) string {
	var b strings.Builder
	if w.VRF != nil {
		fmt.Fprintln(&b, w.VRF)
	}
	for _, e := range w.Main {
		fmt.Fprintln(&b, "-", e.Old)
		if e.New != nil {
			fmt.Fprintln(&b, "+", e.New)
		}
	}
	for _, a := range w.Addrs {
		fmt.Fprintf(&b, "address %s %#x\n", a.Prefix, a.Flags)
	}
	if w.Enter {
		fmt.Fprintln(&b, "enter")
	}
	for i := range w.Routes {
		fmt.Fprintln(&b, &w.Routes[i])
	}
	for i := range w.Rules {
		fmt.Fprintln(&b, &w.Rules[i])
	}
	for _, s := range w.Sysctls {
		fmt.Fprintln(&b, s)
	}
	return b.String()
}

var podAddrs = []Address{
	{netip.MustParsePrefix("10.1.0.5/24"), netip.MustParseAddr("10.1.0.1")},
	{netip.MustParsePrefix("2001:db8:1::5/64"), netip.MustParseAddr("2001:db8:1::1")},
}

func TestVRF(t *testing.T) {
	const own = "link red kind vrf up alias viarule:CNI/red vrftable 5000\n"
	for _, tt := range []struct {
		name   string
		config Config
		facts  string
		want   string
	}{
		{"made, and the interface enters", Config{Own: true}, podLinks, own + enters4 + `
			route default via 10.1.0.1 dev net1 table 5000 proto 119 src 10.1.0.5
			route 10.9.0.0/16 via 10.1.0.9 dev net1 table 5000 metric 7 proto 119 src 10.1.0.5
			route -6 2001:db8:9::/48 via fe80::9 dev net1 table 5000 metric 1024 proto 119 src 2001:db8:1::5
			route -6 default via 2001:db8:1::1 dev net1 table 5000 metric 1024 proto 119 src 2001:db8:1::5`},
		{"as the drop-in no route gets a source", Config{}, podLinks, own + enters4 + `
			route default via 10.1.0.1 dev net1 table 5000 proto 119
			route 10.9.0.0/16 via 10.1.0.9 dev net1 table 5000 metric 7 proto 119
			route -6 2001:db8:9::/48 via fe80::9 dev net1 table 5000 metric 1024 proto 119
			route -6 default via 2001:db8:1::1 dev net1 table 5000 metric 1024 proto 119`},
		{"with the table that was asked for", Config{Table: 77}, podLinks, strings.Replace(own, "5000", "77", 1) + enters4 + `
			route default via 10.1.0.1 dev net1 table 77 proto 119
			route 10.9.0.0/16 via 10.1.0.9 dev net1 table 77 metric 7 proto 119
			route -6 2001:db8:9::/48 via fe80::9 dev net1 table 77 metric 1024 proto 119
			route -6 default via 2001:db8:1::1 dev net1 table 77 metric 1024 proto 119`},
		{"configured gateways come first", Config{Gateways: []netip.Addr{netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("2001:db8:1::2")}}, podLinks, own + enters4 + `
			route default via 10.1.0.2 dev net1 table 5000 proto 119
			route -6 default via 2001:db8:1::2 dev net1 table 5000 metric 1024 proto 119
			route 10.9.0.0/16 via 10.1.0.9 dev net1 table 5000 metric 7 proto 119
			route -6 2001:db8:9::/48 via fe80::9 dev net1 table 5000 metric 1024 proto 119`},
		{"ours is shared; the first one's routes keep their places", Config{Own: true}, podLinks + ourRed + `
			route default via 10.2.0.1 dev net2 table 5000 proto 119
			route default via 10.3.0.1 dev net3 table 5000 metric 1 proto 119
			route -6 default via 2001:db8:2::1 dev net2 table 5000 metric 1024 proto 119`, own + enters4 + `
			route default via 10.1.0.1 dev net1 table 5000 metric 2 proto 119 src 10.1.0.5
			route 10.9.0.0/16 via 10.1.0.9 dev net1 table 5000 metric 7 proto 119 src 10.1.0.5
			route -6 2001:db8:9::/48 via fe80::9 dev net1 table 5000 metric 1024 proto 119 src 2001:db8:1::5
			route -6 default via 2001:db8:1::1 dev net1 table 5000 metric 1025 proto 119 src 2001:db8:1::5`},
		{"somebody else's is not ours to change", Config{Table: 42}, podLinks + red, enters4 + `
			route default via 10.1.0.1 dev net1 table 42 proto 119
			route 10.9.0.0/16 via 10.1.0.9 dev net1 table 42 metric 7 proto 119
			route -6 2001:db8:9::/48 via fe80::9 dev net1 table 42 metric 1024 proto 119
			route -6 default via 2001:db8:1::1 dev net1 table 42 metric 1024 proto 119`},
		{"a port already gets what is missing", Config{}, red + `
			link 3 net1 kind veth up carrier master red
			addr 10.1.0.5/24 dev net1 label net1 flags 0x80
			addr 2001:db8:1::5/64 dev net1 flags 0x80
			route default via 10.1.0.1 dev net1 table 42 proto 3`, `
			route -6 default via 2001:db8:1::1 dev net1 table 42 metric 1024 proto 119`},
		{"an address that makes no route: its own one is copied, and its gateway is on the link", Config{}, `
			link 3 net1 kind veth up carrier
			addr 10.1.0.5/24 dev net1 label net1 flags 0x280
			addr 2001:db8:1::5/64 dev net1 flags 0x280
			route 10.1.0.0/25 dev net1 table 254 proto 3 scope link
			route -6 2001:db8:1::/64 dev net1 table 254 metric 256 proto 3`, own + `
			- route 10.1.0.0/25 dev net1 table 254 proto 3 scope link
			- route -6 2001:db8:1::/64 dev net1 table 254 metric 256 proto 3
			address 2001:db8:1::5/64 0x282
			enter
			route 10.1.0.0/25 dev net1 table 5000 proto 119 scope link
			route -6 2001:db8:1::/64 dev net1 table 5000 metric 256 proto 119
			route default via 10.1.0.1 dev net1 table 5000 proto 119
			route -6 default via 2001:db8:1::1 dev net1 table 5000 metric 1024 proto 119`},
		{"a single address: on the link", Config{}, `
			link 3 net1 kind veth up carrier
			addr 10.1.0.5/32 dev net1 label net1 flags 0x80
			addr 2001:db8:1::5/128 dev net1 flags 0x80`, own + `
			address 2001:db8:1::5/128 0x82
			enter
			route default via 10.1.0.1 dev net1 onlink table 5000 proto 119
			route -6 default via 2001:db8:1::1 dev net1 onlink table 5000 metric 1024 proto 119`},
		{"a route by a next hop object, which goes with the link's state", Config{}, `
			link 3 net1 kind veth up carrier
			addr 10.1.0.5/24 dev net1 label net1 flags 0x80
			addr 2001:db8:1::5/64 dev net1 flags 0x80
			route 10.9.0.0/16 via 10.1.0.9 dev net1 nhid 4 table 254 proto 4
			route -6 2001:db8:9::/48 via 2001:db8:1::9 dev net1 nhid 6 table 254 metric 1024 proto 4`, own + `
			- route 10.9.0.0/16 via 10.1.0.9 dev net1 nhid 4 table 254 proto 4
			- route -6 2001:db8:9::/48 via 2001:db8:1::9 dev net1 nhid 6 table 254 metric 1024 proto 4
			address 2001:db8:1::5/64 0x82
			enter
			route 10.9.0.0/16 via 10.1.0.9 dev net1 table 5000 proto 119
			route -6 2001:db8:9::/48 via 2001:db8:1::9 dev net1 table 5000 metric 1024 proto 119
			route default via 10.1.0.1 dev net1 table 5000 proto 119
			route -6 default via 2001:db8:1::1 dev net1 table 5000 metric 1024 proto 119`},
		{"addresses with a lifetime come again by themselves", Config{}, `
			link 3 net1 kind veth up carrier
			addr 10.1.0.5/24 dev net1 label net1 flags 0x80
			addr 2001:db8:1::5/64 dev net1 flags 0x80
			addr 2001:db8:1::77/64 dev net1 flags 0x100`, own + `
			address 2001:db8:1::5/64 0x82
			enter
			route default via 10.1.0.1 dev net1 table 5000 proto 119
			route -6 default via 2001:db8:1::1 dev net1 table 5000 metric 1024 proto 119`},
		{"rules look into the VRF's table; the filter is the interface's", Config{Own: true, StrictRP: true, Rules: []spec.Rule{{Mark: netstate.Mark{Value: 5, Mask: 0xff}}}},
			"link 3 net1 kind veth up carrier master red\n" + red + `
			route default via 10.1.0.1 dev net1 table 42 proto 3
			route -6 default via 2001:db8:1::1 dev net1 table 42 metric 1024 proto 3`, `
			rule 2900 from all fwmark 0x5/0xff table 42 proto 119
			rule -6 2900 from all fwmark 0x5/0xff table 42 proto 119
			sysctl net/ipv4/conf/net1/src_valid_mark = 1
			sysctl net/ipv4/conf/net1/rp_filter = 1`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.config.VRF = "red"
			w, err := Build(&tt.config, &Attachment{"net1", podAddrs}, vrfFacts(t, tt.facts))
			if err != nil {
				t.Fatal(err)
			}
			var want strings.Builder
			for l := range strings.Lines(tt.want) {
				if l = strings.TrimSpace(l); l != "" {
					want.WriteString(l + "\n")
				}
			}
			if got := wantText(w); got != want.String() {
				t.Errorf("got:\n%swant:\n%s", got, want.String())
			}
		})
	}
}

func TestVRFThatCannotBe(t *testing.T) {
	for _, tt := range []struct {
		name   string
		config Config
		facts  string
		want   string
	}{
		{"the kernel's table", Config{Table: 254}, podLinks, "table: table 254 is the kernel's"},
		{"not its table", Config{Table: 77}, podLinks + red, "table: the VRF red is there, and its table is 42"},
		{"not ours with another table", Config{Table: 77}, podLinks + ourRed, "table: the VRF red is there, and its table is 5000"},
		{"no VRF", Config{}, podLinks + "link 9 red kind bridge up", "vrf: the link red is there, and is no VRF"},
		{"a port of something else", Config{}, "link 3 net1 kind veth up master br0", "vrf: net1 is a port of br0 already"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.config.VRF = "red"
			_, err := Build(&tt.config, &Attachment{"net1", podAddrs}, vrfFacts(t, tt.facts))
			var e *Error
			if !errors.As(err, &e) || !strings.HasPrefix(err.Error(), tt.want) || e.Do == "" {
				t.Errorf("got %v, want %s, and what to do", err, tt.want)
			}
		})
	}
}

// A VRF that is there needs no free table, one that is to be made does, unless it was
// named.
func TestFreeTablesOfAVRF(t *testing.T) {
	a := &Attachment{"net1", podAddrs}
	for _, tt := range []struct {
		table uint32
		vrf   *netstate.Link
		want  int
	}{{0, nil, 1}, {77, nil, 0}, {0, &netstate.Link{Name: "red"}, 0}} {
		c := Config{VRF: "red", Table: tt.table}
		if got := c.Fills(a, tt.vrf); got != tt.want {
			t.Errorf("table %d, VRF %v: %d, want %d", tt.table, tt.vrf, got, tt.want)
		}
	}
}

func TestStrictReversePath(t *testing.T) {
	mark := []spec.Rule{{Mark: netstate.Mark{Value: 5, Mask: 0xff}}}
	for _, tt := range []struct {
		name  string
		rules []spec.Rule
		loose bool
		want  string
	}{
		{"alone", nil, false, "sysctl net/ipv4/conf/net1/rp_filter = 1\n"},
		{"with a mark", mark, false, "sysctl net/ipv4/conf/net1/src_valid_mark = 1\nsysctl net/ipv4/conf/net1/rp_filter = 1\n"},
		{"loose for all", nil, true, "strictReversePath: net/ipv4/conf/all/rp_filter is 2 in the pod, and the larger value counts: the filter would stay loose; set it to 0 or 1 in the pod, or leave strictReversePath out"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := vrfFacts(t, podLinks)
			f.LooseForAll, f.Free = tt.loose, []uint32{5000, 5001}
			w, err := Build(&Config{Own: true, StrictRP: true, Rules: tt.rules}, &Attachment{"net1", podAddrs}, f)
			got := ""
			if err != nil {
				got = err.Error()
			} else {
				got = wantText(&Want{Sysctls: w.Sysctls})
			}
			if got != tt.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, tt.want)
			}
		})
	}
}
