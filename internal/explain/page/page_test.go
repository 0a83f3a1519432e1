package page_test

import (
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/viarule/viarule/internal/explain"
	"github.com/viarule/viarule/internal/explain/page"
	"github.com/viarule/viarule/internal/fib"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/sim"
	"github.com/viarule/viarule/internal/snapshot"
	"github.com/viarule/viarule/internal/spec"
)

var update = flag.Bool("update", false, "write testdata anew; read the difference before you commit it")

// world is a host with two uplinks, and a table for the second one.
const world = `link 1 lo up carrier loopback mtu 65536
link 2 eth0 kind veth up carrier mtu 1500
link 3 eth1 kind veth up carrier mtu 1400
addr 192.168.1.2/24 dev eth0
addr 1.2.3.2/24 dev eth1
rule 0 from all table 255
rule 2200 from 1.2.3.0/24 table 5000 proto 118
rule 32766 from all table 254
rule -6 0 from all table 255
rule -6 2200 from 2001:db8:1::/64 table 5000 proto 118
rule -6 32766 from all table 254
route local 192.168.1.2 dev eth0 table 255 scope host src 192.168.1.2
route local 1.2.3.2 dev eth1 table 255 scope host src 1.2.3.2
route default via 192.168.1.1 dev eth0 table 254
route 10.9.0.0/16 table 254 nexthop via 192.168.1.8 dev eth0 weight 1 nexthop via 192.168.1.9 dev eth0 weight 1
route default via 1.2.3.1 dev eth1 table 5000 proto 118
route -6 local 2001:db8:1::2 dev eth1 table 255
route -6 default via 2001:db8:a::1 dev eth0 table 254 metric 1024
route -6 default via 2001:db8:1::1 dev eth1 table 5000 metric 1024 proto 118
`

func answer(t *testing.T, from, to, iif string, mark uint32, change func(*snapshot.Snapshot)) *explain.Answer {
	t.Helper()
	state, err := netstate.ParseState(world)
	if err != nil {
		t.Fatal(err)
	}
	s := &snapshot.Snapshot{State: state, Tables: map[uint32]string{5000: "public"}}
	sysctl := func(key, value string) {
		s.Sysctls = append(s.Sysctls, netstate.Sysctl{Key: "net/" + key, Value: value})
	}
	for _, l := range []string{"all", "eth0", "eth1"} {
		for _, k := range []string{"rp_filter", "accept_local", "src_valid_mark", "route_localnet", "send_redirects"} {
			sysctl("ipv4/conf/"+l+"/"+k, "0")
		}
		sysctl("ipv4/conf/"+l+"/forwarding", "1")
		sysctl("ipv6/conf/"+l+"/forwarding", "1")
		sysctl("ipv6/conf/"+l+"/disable_ipv6", "0")
	}
	o := snapshot.Owner{Ref: spec.Ref{Kind: "RoutingPolicy", Name: "public"}, File: "network.yaml", Line: 7}
	for _, r := range state.Rules {
		if r.Priority == 2200 {
			o.Rules = append(o.Rules, r)
		}
	}
	s.Owners = []snapshot.Owner{o}
	if change != nil {
		change(s)
	}
	p := sim.Packet{Flow: fib.Flow{To: netip.MustParseAddr(to), IIF: iif, Mark: mark}}
	if from != "" {
		p.From = netip.MustParseAddr(from)
	}
	a, err := explain.New(s).Explain(p, explain.Options{Steps: true, Reply: true})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func write(t *testing.T, a *explain.Answer, made page.Made) string {
	t.Helper()
	var b strings.Builder
	if err := page.Write(&b, a, made); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestGolden compares what is in the body: the rest is the same for all.
func TestGolden(t *testing.T) {
	for _, c := range []struct {
		name, from, to, iif string
		mark                uint32
		change              func(*snapshot.Snapshot)
		made                page.Made
	}{
		{name: "ipv4", from: "203.0.113.9", to: "1.2.3.2", iif: "eth1", made: page.Made{By: "viarule 1.0", From: "node7", At: "2026-05-01 12:00:00 UTC"}},
		{name: "ipv6", from: "2001:db8:9::9", to: "2001:db8:1::2", iif: "eth1", made: page.Made{From: "the snapshot node7.txt"}},
		{name: "several_ways", to: "10.9.1.1", mark: 0x10},
		{name: "rp_filter", from: "203.0.113.9", to: "192.168.1.2", iif: "eth1", change: func(s *snapshot.Snapshot) {
			s.Sysctls = append(s.Sysctls, netstate.Sysctl{Key: "net/ipv4/conf/all/rp_filter", Value: "1"})
		}},
		{name: "note", from: "203.0.113.9", to: "192.168.1.2", iif: "eth1", change: func(s *snapshot.Snapshot) {
			s.Sysctls = append(s.Sysctls, netstate.Sysctl{Key: "net/ipv4/conf/eth1/arp_ignore", Value: "1"})
		}},
		{name: "unknown", from: "1.2.3.2", to: "8.8.8.8", change: func(s *snapshot.Snapshot) {
			s.State.Rules[1].Unknown = "\x08\x00\xe7\x03\x01\x00\x00\x00"
			s.Surroundings = netstate.Surroundings{IPVS: true, Legacy: []string{"nat"}}
		}},
		{name: "tree", from: "10.0.2.1", to: "8.8.8.8", iif: "eth1", change: func(s *snapshot.Snapshot) {
			for i := range 7 {
				s.State.Rules = append(s.State.Rules,
					netstate.Rule{Family: netstate.IPv4, Priority: 2300, From: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i), 0}), 24), Action: netstate.Goto, Goto: 2400 + uint32(i)},
					netstate.Rule{Family: netstate.IPv4, Priority: 2400 + uint32(i), From: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i), 1}), 32), Action: netstate.ToTable, Table: 5000})
			}
			for i := range 10 {
				s.State.Rules = append(s.State.Rules, netstate.Rule{Family: netstate.IPv4, Priority: 2100, From: netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 16, byte(i), 0}), 24), Action: netstate.ToTable, Table: 5000})
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := write(t, answer(t, c.from, c.to, c.iif, c.mark, c.change), c.made)
			elements(t, got)
			_, body, ok := strings.Cut(got, "</head>\n")
			if !ok {
				t.Fatalf("no head:\n%s", got)
			}
			file := filepath.Join("testdata", c.name+".html")
			if *update {
				if err := os.WriteFile(file, []byte(body), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if body != string(want) {
				t.Errorf("%s differs: run the test with -update and read the difference\n%s", file, body)
			}
		})
	}
}

// The page asks nobody for anything.
func TestPageNeedsNothing(t *testing.T) {
	got := write(t, answer(t, "203.0.113.9", "1.2.3.2", "eth1", 0, nil), page.Made{})
	for _, no := range []string{"<script", "<link", "<img", "http://", "https://", "src=", "url(", "@import", "href="} {
		if strings.Contains(got, no) {
			t.Errorf("has %s", no)
		}
	}
	for _, want := range []string{`http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'"`, "prefers-color-scheme: dark", "@media print"} {
		if !strings.Contains(got, want) {
			t.Errorf("lacks %s", want)
		}
	}
	if !strings.Contains(got, "<footer>Worked out, without sending a packet.</footer>") {
		t.Error("says by whom or when, which it was not told")
	}
}

// Whatever names there are, the page has the elements that it has with plain names,
// and shows all of the name.
func TestHostileNames(t *testing.T) {
	with := func(t *testing.T, name string) string {
		return write(t, answer(t, "1.2.3.2", "8.8.8.8", "", 0, func(s *snapshot.Snapshot) {
			s.Tables[5000] = name
			s.Owners[0].File, s.Owners[0].Ref.Name = name, name
			s.State.Rules = append(s.State.Rules, netstate.Rule{Family: netstate.IPv4, Priority: 9, OIF: name, Action: netstate.Nop})
			s.Surroundings.Chains = []netstate.NftName{{Family: "ip", Table: name, Chain: name}}
		}), page.Made{By: name, From: name, At: name})
	}
	plain, _ := elements(t, with(t, "plain"))
	check := func(name, shown string) error {
		got, text := elements(t, with(t, name))
		if !slices.Equal(got, plain) {
			return fmt.Errorf("%q makes other elements", name)
		}
		for _, phrase := range []string{"table " + shown, "does not match: oif " + shown + ", the packet has none", "wanted by RoutingPolicy/" + shown + ", " + shown + ":7", "Worked out by " + shown + " from " + shown + " at " + shown + ","} {
			if !strings.Contains(text, phrase) {
				return fmt.Errorf("does not show %s", phrase)
			}
		}
		return nil
	}
	for name, shown := range map[string]string{
		`<script>alert(1)</script>`: `<script>alert(1)</script>`, `"><b>`: `"><b>`, `'&amp;`: `'&amp;`, `{{.}}`: `{{.}}`, `-->`: `-->`,
		"\x00\x1b[31m": `\x00\x1b[31m`, "\u202eback": `\u202eback`, "\xff": `\xff`, "two\nlines": `two\nlines`,
	} {
		if err := check(name, shown); err != nil {
			t.Error(err)
		}
	}
	names := rapid.StringOfN(rapid.RuneFrom([]rune("a\"\\\n<>{}&;'`/=-!\x00\x1bé\u202e")), 1, 12, -1)
	rapid.Check(t, func(rt *rapid.T) {
		name := names.Draw(rt, "name")
		if err := check(name, explain.Printable(name)); err != nil {
			rt.Fatal(err)
		}
	})
}

// elements lists a page's elements with their attributes, and its text. The page is
// well-formed XML, so that a reader of XML finds what is out of place.
func elements(t *testing.T, text string) (list []string, shown string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(text))
	var b strings.Builder
	for {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			return list, b.String()
		}
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		switch e := tok.(type) {
		case xml.StartElement:
			list = append(list, fmt.Sprint(e.Name.Local, e.Attr))
		case xml.CharData:
			b.Write(e)
		case xml.Comment, xml.ProcInst:
			t.Fatalf("%T in\n%s", e, text)
		}
	}
}
