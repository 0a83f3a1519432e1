package netstate_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/netstate/netstatetest"
)

// roundTrip checks the law Parse(x.String()) == x, and that AppendText appends
// what String gives.
func roundTrip[T interface {
	String() string
	AppendText([]byte) ([]byte, error)
}](gen *rapid.Generator[T], parse func(string) (T, error)) func(*testing.T) {
	return rapid.MakeCheck(func(t *rapid.T) {
		x := gen.Draw(t, "x")
		text := x.String()
		got, err := parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, x) {
			t.Fatalf("%s parses to %#v, want %#v", text, got, x)
		}
		b, err := x.AppendText([]byte("# "))
		if err != nil || string(b) != "# "+text {
			t.Fatalf("AppendText: %q, %v; String: %q", b, err, text)
		}
	})
}

func TestTextRoundTrip(t *testing.T) {
	t.Run("rule", roundTrip(netstatetest.Rule(netstatetest.RuleOptions{}), netstate.ParseRule))
	t.Run("route", roundTrip(netstatetest.Route(), netstate.ParseRoute))
	t.Run("route key", roundTrip(netstatetest.RouteKey(), netstate.ParseRouteKey))
	t.Run("nexthop", roundTrip(netstatetest.Nexthop(), netstate.ParseNexthop))
	t.Run("link", roundTrip(netstatetest.Link(), netstate.ParseLink))
	t.Run("addr", roundTrip(netstatetest.LinkAddr(), netstate.ParseAddr))
	t.Run("sysctl", roundTrip(netstatetest.Sysctl(), netstate.ParseSysctl))
	t.Run("opaque", roundTrip(netstatetest.Opaque(), netstate.ParseOpaque))
	t.Run("change", roundTrip(netstatetest.Change(), netstate.ParseChange))
	t.Run("state", roundTrip(netstatetest.State(), netstate.ParseState))
	t.Run("nft table", rapid.MakeCheck(func(t *rapid.T) {
		x := netstate.State{Nft: []netstate.NftTable{netstatetest.NftTable().Draw(t, "table")}}
		got, err := netstate.ParseState(x.String())
		if err != nil {
			t.Fatal(err)
		}
		if len(got.Nft) != 1 || !got.Nft[0].Equal(&x.Nft[0]) {
			t.Fatalf("%s parses to %s", x, got)
		}
	}))
}

// forms are lines as they must be written, to the letter: other packages'
// tests, records and journals hold them.
var forms = `link 1 lo kind loop mtu 65536 up carrier loopback
link 3 eth0.100 kind vlan mac 02:00:00:00:00:01 mtu 1500 up carrier noarp master br0 parent eth0 alias "a b" group 7 vlan 100 vrftable 10 altname enp1s0 altname "\"odd"
addr 192.0.2.7/24 dev eth1 peer 192.0.2.8/32 broadcast 192.0.2.255 scope link label eth1:0 flags 0x80 metric 5 proto 3 unknown 0400ff00
addr 2001:db8::1/128 dev lo
rule 0 from all table 255 proto 2
rule 300 from all to 12.12.12.12 table 254 proto 118
rule 2200 from 10.10.10.10 table 200 proto 118
rule 2201 not from 10.0.0.0/8 to 10.1.0.0/16 iif eth0 oif "a b" fwmark 0x100/0xff00 tos 0x10 ipproto tcp sport 1-1024 dport 443 uidrange 0-99 tun_id 7 table 5000 realms 1/2 suppress_prefixlength 0 suppress_ifgroup 3 proto 118 unknown 0500190001000000
rule 2202 from all fwmark 0x1 goto 2300
rule 2203 from all fwmark 0x0/0xff nop
rule 2204 from all dscp 0 blackhole
rule 2205 from all table 254 unreachable
rule -6 1000 from all l3mdev proto 2
rule -6 2200 from 2001:db8::/32 to fe80::1 ipproto ipv6-icmp prohibit
rule -6 2201 from all action 5
route default via 192.0.2.1 dev eth0 table 254 proto 3
route local 192.0.2.7 dev eth1 table 255 proto 2 scope host src 192.0.2.7
route 10.0.0.0/8 tos 0x10 via inet6 fe80::1 dev eth1 onlink table 5000 metric 10 proto 118 scope link src 10.0.0.1 mtu lock 1400 advmss 1360 realms 1/2 unknown 0400ff00
route 10.0.0.0/16 nexthop via 192.0.2.1 dev eth0 weight 1 nexthop dev eth1 weight 256 onlink realms 3/4 unknown 0400ff00 nhid 9 table 5000
route 10.1.0.0/16 nexthop via 192.0.2.1 dev eth0 unknown 0400ff00 table 5000
route throw 10.2.0.0/16 table 5000 mtu 1400
route type 11 10.3.0.0/16 table 5000
route -6 default from 2001:db8::/32 via fe80::1 dev eth0 table 254 metric 1024 proto 9 pref high
route -6 unreachable default table 5000 metric 4278198272 proto 118
route -6 ff00::/8 dev eth0 table 255 metric 256 pref 2
nexthop 7 via 192.0.2.1 dev eth1 onlink scope link proto 118
nexthop -6 8 dev eth1 hop unknown 0400ff00 unknown 0400fe00
nexthop 9 group 7/8,2 fdb
nexthop 10 blackhole
`

func TestForms(t *testing.T) {
	s := netstatetest.ParseState(t, forms)
	if diff := cmp.Diff(strings.Split(forms, "\n"), strings.Split(s.String(), "\n")); diff != "" {
		t.Errorf("-written +printed:\n%s", diff)
	}
}

func TestParseTakesMore(t *testing.T) {
	for in, want := range map[string]string{
		"rule 1 from 0.0.0.0/0 to all table main proto viarule # why": "rule 1 from all table 254 proto 118",
		"rule -4 1 table local from 10.0.0.1/32":                      "rule 1 from 10.0.0.1 table 255",
		"rule -6 1 from ::/0 ipproto 58 dport 0x50 fwmark 16 nop":     "rule -6 1 from all fwmark 0x10 ipproto ipv6-icmp dport 80 nop",
		"route unicast 0.0.0.0/0 dev eth0 table default proto static": "route default dev eth0 table 253 proto 4",
		"route default table 7 nexthop dev a nexthop dev b":           "route default nexthop dev a weight 1 nexthop dev b weight 1 table 7",
		"route default table 7 nexthop via 10.0.0.1 dev a":            "route default via 10.0.0.1 dev a table 7",
		"route 10.0.0.1/32 dev \"eth0\" table 7 realms 5":             "route 10.0.0.1 dev eth0 table 7 realms 0/5",
		"  # nothing\n\nrule 1 nop":                                   "rule 1 from all nop",
	} {
		s, err := netstate.ParseState(in)
		if err != nil {
			t.Error(err)
		} else if got := strings.TrimSpace(s.String()); got != want {
			t.Errorf("%s\n gives %s\n  want %s", in, got, want)
		}
	}
}

func TestParseErrors(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"rule", `line 1: parse rule "rule": priority: no value`},
		{"rule 1 from all", "no action: table, goto, nop, blackhole, unreachable or prohibit"},
		{"rule 1 from all nop goto 3", "two actions"},
		{"rule 1 from all table 7 from 10.0.0.1", "from twice"},
		{"rule 1 from 2001:db8::/32 table 7", "from: 2001:db8::/32 is not an IPv4 prefix"},
		{"rule -6 1 from 10.0.0.0/8 table 7", "from: 10.0.0.0/8 is not an IPv6 prefix"},
		{"rule 1 from 10.0.0.0/33 table 7", `from: "10.0.0.0/33" is not a prefix`},
		{"rule 1 from all fwmark 1/x table 7", `fwmark: "1/x" is not VALUE or VALUE/MASK`},
		{"rule 1 dport 9-8 nop", `dport: "9-8" is not a range`},
		{"rule 1 dport 0 nop", "dport: port 0 cannot be selected"},
		{"rule 1 tos 0x100 nop", `tos: "0x100" is not a number of 8 bits`},
		{"rule 1 unknown zz nop", `unknown: "zz" is not bytes in hexadecimal`},
		{"rule 1 nop nonsense", `no such key: "nonsense"`},
		{`rule 1 nop iif "eth`, "a quote that does not end"},
		{`rule 1 nop iif "eth"0`, `no space after "eth"`},
		{"\n\nroute default dev eth0", `line 3: parse route "route default dev eth0": no table`},
		{"route 10.0.0.0/8 via fe80::1 table 7", "via: fe80::1 is not an IPv4 address"},
		{"route -6 fe80::1%eth0 table 7", "has a zone"},
		{"route default dev a nexthop dev b table 7", "next hops of both forms"},
		{"route default nexthop dev b weight 257 table 7", "weight: more than 256"},
		{"addr 10.0.0.1/8", "no dev"},
		{"nexthop 1 group 1,2,3", `group: "1,2,3" is not ID or ID,WEIGHT`},
		{"sysctl a = 1", "a line begins with link, addr, rule, route, nexthop, nft or forward"},
	} {
		_, err := netstate.ParseState(c.text)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: error %v, want one with %q", c.text, err, c.want)
		}
	}
	for _, c := range []struct{ text, want string }{
		{"rule 1 nop", `verb: "rule" is not one of + ~ -`},
		{"+ sysctl a = 1", "a sysctl can only be replaced"},
		{"~ sysctl a 1", `"1" where "=" should be`},
		{"+ addr 10.0.0.1", "no dev"},
		{"+ table 7", `"table" is not rule, route, nexthop, sysctl, link, addr or accept`},
	} {
		_, err := netstate.ParseChange(c.text)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: error %v, want one with %q", c.text, err, c.want)
		}
	}
}

func TestOpaqueText(t *testing.T) {
	for _, c := range []struct {
		opaque netstate.Opaque
		want   string
	}{
		{netstate.Opaque{Kind: netstate.OpaqueXDP, Dev: "eth0", Name: "program 7 cil_xdp_entry"}, `opaque xdp dev eth0 name "program 7 cil_xdp_entry"`},
		{netstate.Opaque{Kind: netstate.OpaqueTC, Dev: "#", Name: "x"}, `opaque tc dev "#" name x`},
		{netstate.Opaque{Kind: netstate.OpaqueXFRM, Name: "needs root", Unread: true}, `opaque xfrm unread "needs root"`},
		{netstate.Opaque{Kind: netstate.OpaqueFlowtable, Dev: "eth0", Name: "inet filter fast"}, `opaque flowtable dev eth0 name "inet filter fast"`},
		{netstate.Opaque{Kind: netstate.OpaqueBridgeNF, Dev: "br0", Name: "x"}, `opaque bridge-nf dev br0 name x`},
		{netstate.Opaque{Kind: netstate.OpaqueNft, Name: "x", Unread: true}, `opaque nft unread x`},
		{netstate.Opaque{Kind: netstate.OpaqueIptables, Name: "x", Unread: true}, `opaque iptables unread x`},
	} {
		if got := c.opaque.String(); got != c.want {
			t.Errorf("%#v is written as\n     %s\nwant %s", c.opaque, got, c.want)
		}
	}
	for text, want := range map[string]string{
		"opaque":                     "kind: no value",
		"opaque ebtables name x":     `"ebtables" is no kind`,
		"opaque 1 name x":            `"1" is no kind`,
		"opaque xdp dev eth0":        "no name",
		"opaque xdp name a unread b": "both name and unread",
		"opaque xdp name a b":        `no such key: "b"`,
	} {
		if _, err := netstate.ParseOpaque(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want one with %q", text, err, want)
		}
	}
}

// The kernel takes any bytes for the names of a table's chains and maps.
func TestNftNamesOfAnyBytes(t *testing.T) {
	x := netstate.State{Nft: []netstate.NftTable{{Name: "viarule", Chains: []netstate.NftChain{{Name: "a b", Rules: []netstate.NftRule{
		{{Op: netstate.NftJump, Name: "a\nlink 1 eth0"}},
		{{Op: netstate.NftDAddrMap, Family: netstate.IPv4, Name: "a b"}},
		{{Op: netstate.NftOrigMap, Family: netstate.IPv6, Name: "#"}, {Op: netstate.NftJump, Name: "#"}},
	}}}}}}
	got, err := netstate.ParseState(x.String())
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, x) {
		t.Errorf("%s parses to %s", x, got)
	}
}

func TestSplitWords(t *testing.T) {
	want := []string{"a", "b c", "", "#"}
	line := ""
	for _, w := range want {
		line = string(netstate.AppendWord([]byte(line+" "), w))
	}
	if got, err := netstate.SplitWords(line + " # and a comment"); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%s splits to %q, %v", line, got, err)
	}
	if _, err := netstate.SplitWords(`a "b`); err == nil {
		t.Error("a quote that does not end is taken")
	}
}

type tables map[uint32]string

func (t tables) Table(id uint32) string { return t[id] }

func TestFormat(t *testing.T) {
	n := tables{200: "custom", 201: "odd name"}
	for in, want := range map[string]string{
		"+ rule 2200 from 10.10.10.10 table 200 proto 118":        "+ rule 2200 from 10.10.10.10 table custom proto viarule",
		"- rule -6 300 from all table 254 proto 2":                "- rule -6 300 from all table main proto kernel",
		"+ rule 300 from all goto 310 proto 200":                  "+ rule 300 from all goto 310 proto 200",
		"~ route default via 10.0.0.1 dev e table 201 proto 119":  `~ route default via 10.0.0.1 dev e table "odd name" proto viarule-cni`,
		"+ route -6 default dev e table 5000 metric 1024 proto 4": "+ route -6 default dev e table 5000 metric 1024 proto static",
		"~ sysctl net/ipv4/conf/eth0.100/rp_filter = 2":           "~ sysctl net/ipv4/conf/eth0.100/rp_filter = 2",
		"- nexthop 5 dev e proto 118":                             "- nexthop 5 dev e proto viarule",
	} {
		c := netstatetest.ParseChange(t, in)
		if got := c.Format(n); got != want {
			t.Errorf("%s\n gives %s\n  want %s", in, got, want)
		}
	}
	r := netstatetest.ParseRule(t, "rule 1 from all table 200 proto 118")
	if got, want := r.Format(nil), "rule 1 from all table 200 proto viarule"; got != want {
		t.Errorf("without names: %s, want %s", got, want)
	}
}

func TestNamesOfNumbers(t *testing.T) {
	for v := range 256 {
		u := uint8(v)
		if got, err := netstate.ParseProtocol(netstate.ProtocolName(u)); err != nil || got != u {
			t.Errorf("protocol %d: %d, %v", u, got, err)
		}
		if got, err := netstate.ParseIPProto(netstate.IPProtoName(u)); err != nil || got != u {
			t.Errorf("ipproto %d: %d, %v", u, got, err)
		}
		if got, err := netstate.ParseRouteType(netstate.RouteType(u).String()); err != nil || uint8(got) != u {
			t.Errorf("route type %d: %d, %v", u, got, err)
		}
		if got, err := netstate.ParseScope(netstate.Scope(u).String()); err != nil || uint8(got) != u {
			t.Errorf("scope %d: %d, %v", u, got, err)
		}
	}
	if _, err := netstate.ParseScope("256"); err == nil {
		t.Error("scope 256 is taken")
	}
}

// FuzzParse holds that no text makes a parser panic, and that what it takes is
// stable: printed and read again, it is the same.
func FuzzParse(f *testing.F) {
	for line := range strings.Lines(forms) {
		f.Add(strings.TrimSpace(line))
	}
	f.Add("-6 2001:db8::/32 from ::1 table 5 metric 7")
	f.Add("+ rule 1 from all nop\n# end")
	f.Fuzz(func(t *testing.T, text string) {
		stable(t, text, netstate.ParseState)
		stable(t, text, netstate.ParseRouteKey)
		stable(t, "+ "+text, netstate.ParseChange)
		stable(t, text, netstate.ParseSysctl)
		stable(t, text, netstate.ParseLink)
		stable(t, text, netstate.ParseOpaque)
	})
}

func stable[T interface{ String() string }](t *testing.T, text string, parse func(string) (T, error)) {
	x, err := parse(text)
	if err != nil {
		return
	}
	y, err := parse(x.String())
	if err != nil {
		t.Fatalf("%q prints as %q, which fails: %v", text, x.String(), err)
	}
	if !reflect.DeepEqual(x, y) {
		t.Fatalf("%q prints as %q, which is something else", text, x.String())
	}
}

func BenchmarkAppendText(b *testing.B) {
	r := netstatetest.ParseRoute(b, "route 10.200.30.0/24 via 192.0.2.1 dev eth1 table 5007 metric 100 proto 118")
	k := r.Key()
	r6 := netstatetest.ParseRoute(b, "route -6 2001:db8:30::/48 via fe80::1 dev eth1 table 5007 metric 1024 proto 118")
	buf := make([]byte, 0, 256)
	b.Run("route", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			buf, _ = r.AppendText(buf[:0])
		}
	})
	b.Run("route6", func(b *testing.B) {
		for b.Loop() {
			buf, _ = r6.AppendText(buf[:0])
		}
	})
	b.Run("key", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			buf, _ = k.AppendText(buf[:0])
		}
	})
	b.Run("parse route", func(b *testing.B) {
		text := r.String()
		b.ReportAllocs()
		for b.Loop() {
			if _, err := netstate.ParseRoute(text); err != nil {
				b.Fatal(err)
			}
		}
	})
}
