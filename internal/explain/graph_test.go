package explain_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/viarule/viarule/internal/explain"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/sim"
	"github.com/viarule/viarule/internal/snapshot"
)

var update = flag.Bool("update", false, "write testdata/graph anew; read the difference before you commit it")

func draw(t testing.TB, e *explain.Explainer, p sim.Packet, reply bool) string {
	t.Helper()
	a, err := e.Explain(p, explain.Options{Steps: true, Reply: reply})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := e.WriteDot(&b, a); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// tree adds a rule tree as viarule compiles one: 10,000 sources in groups of 32, a
// split for each group, an end, and a list of 300 rules of somebody else behind it.
func tree(s *snapshot.Snapshot) {
	add := func(format string, args ...any) {
		r, err := netstate.ParseRule(fmt.Sprintf(format, args...))
		if err != nil {
			panic(err)
		}
		s.State.Rules = append(s.State.Rules, r)
	}
	const groups, fill = 313, 32
	add("rule 2301 not from 10.0.0.0/8 goto 2999 proto 118")
	for g := range groups {
		add("rule 2302 from 10.%d.%d.0/27 goto %d proto 118", g/256, g%256, 2310+g)
	}
	add("rule 2302 from all goto 2999 proto 118")
	for g := range groups {
		for i := range fill {
			add("rule %d from 10.%d.%d.%d table 5000 proto 118", 2310+g, g/256, g%256, i)
		}
		add("rule %d from 10.%d.%d.0/27 goto 2999 proto 118", 2310+g, g/256, g%256)
	}
	add("rule 2999 from all nop proto 118")
	for i := range 300 {
		add("rule 3000 from 172.16.%d.0/24 iif eth1 table 900", i%256)
	}
}

func TestDotGolden(t *testing.T) {
	dir := filepath.Join("testdata", "graph")
	for _, c := range []struct {
		name   string
		change func(*snapshot.Snapshot)
		packet sim.Packet
		reply  bool
	}{
		{"ipv4_reply", nil, packet("203.0.113.9", "1.2.3.2", "eth1"), true},
		{"ipv6_reply", nil, packet("2001:db8:9::9", "2001:db8:1::2", "eth1"), true},
		{"tree", tree, packet("10.0.77.5", "8.8.8.8", "eth1"), true},
		{"rp_filter", func(s *snapshot.Snapshot) { set(s, "net/ipv4/conf/all/rp_filter", "1") }, packet("203.0.113.9", "192.168.1.2", "eth1"), true},
		{"unknown", func(s *snapshot.Snapshot) {
			s.State.Rules[1].Unknown = "\x08\x00\xe7\x03\x01\x00\x00\x00"
			s.Surroundings.IPVS = true
		}, packet("1.2.3.2", "8.8.8.8", ""), true},
		{"note", func(s *snapshot.Snapshot) { set(s, "net/ipv4/conf/eth1/arp_ignore", "1") }, packet("203.0.113.9", "192.168.1.2", "eth1"), false},
		{"link_down", nil, packet("203.0.113.9", "1.2.3.2", "off"), false},
		{"suppressed", func(s *snapshot.Snapshot) {
			s.State.Rules = append(s.State.Rules, rule("rule 2100 from 192.168.1.2 table 254 suppress_prefixlength 0"), rule("rule 2150 from 192.168.1.2 goto 2300"))
		}, packet("192.168.1.2", "8.8.8.8", ""), false},
		{"rerouted", func(s *snapshot.Snapshot) {
			s.State.Rules = append(s.State.Rules, rule("rule 2150 from all fwmark 0x1/0x3f table 5000"))
			s.State.Nft = []netstate.NftTable{{Name: netstate.NftTableObjects, Chains: []netstate.NftChain{{
				Name: "out", Hook: netstate.NftHook{Type: "route", Hook: "output", Priority: -150},
				Rules: []netstate.NftRule{{{Op: netstate.NftSetMark, Mark: netstate.Mark{Value: 1, Mask: 0x3f}}}},
			}}}}
		}, packet("", "8.8.8.8", ""), false},
		{"several_ways", func(s *snapshot.Snapshot) {
			for _, l := range []string{"eth0", "eth1"} {
				set(s, "net/ipv4/conf/"+l+"/rp_filter", "1")
			}
			r, _ := netstate.ParseRoute("route 10.8.0.0/16 table 254 nexthop via 192.168.1.8 dev eth0 weight 1 nexthop via 192.168.1.9 dev eth0 weight 1")
			s.State.Routes = append(s.State.Routes, r)
		}, packet("203.0.113.9", "10.8.1.1", "eth1"), false},
		{"on_link", func(s *snapshot.Snapshot) { s.State.Rules = s.State.Rules[:1] }, func() sim.Packet { p := packet("", "8.8.8.8", ""); p.OIF = "eth1"; return p }(), false},
		{"no_rule_left", func(s *snapshot.Snapshot) { s.State.Rules = s.State.Rules[:2] }, packet("192.168.1.2", "8.8.8.8", ""), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := draw(t, explainer(t, c.change), c.packet, c.reply)
			if err := checkDot(got); err != nil {
				t.Errorf("%v\n%s", err, got)
			}
			file := filepath.Join(dir, c.name+".dot")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("%s differs: run the test with -update and read the difference\n%s", file, got)
			}
		})
	}
}

func rule(text string) netstate.Rule {
	r, err := netstate.ParseRule(text)
	if err != nil {
		panic(err)
	}
	return r
}

// Long lists stay drawings: whatever the packet meets, there are few nodes.
func TestDotFolds(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*snapshot.Snapshot)
		want   string
	}{
		{"tree", tree, "… 7,782 rules that are not on its way, at 2387 to 2622"},
		{"none matches", func(s *snapshot.Snapshot) {
			for i := range 10000 {
				s.State.Rules = append(s.State.Rules, rule(fmt.Sprintf("rule 1000 from 172.%d.%d.0/24 table 900", 16+i/250, i%250)))
			}
		}, "… 10,002 rules that do not match, at 1000 to 2300"},
		{"all match and find nothing", func(s *snapshot.Snapshot) {
			for i := range 10000 {
				s.State.Rules = append(s.State.Rules, rule(fmt.Sprintf("rule %d from all table %d", 1000+i/10, 10000+i)))
			}
		}, "no route: 9,9"},
		{"a chain of gotos", func(s *snapshot.Snapshot) {
			for i := range 10000 {
				s.State.Rules = append(s.State.Rules, rule(fmt.Sprintf("rule %d from all goto %d", 10000+i, 10001+i)))
			}
		}, "goto: 9,9"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := draw(t, explainer(t, c.change), packet("10.0.77.5", "8.8.8.8", "eth1"), true)
			if err := checkDot(got); err != nil {
				t.Error(err)
			}
			if plain := strings.NewReplacer("<br/>", " ", `\n`, "", "  ", " ").Replace(got); !strings.Contains(plain, c.want) {
				t.Errorf("lacks %q", c.want)
			}
			if n := strings.Count(got, "\n"); n > 250 {
				t.Errorf("%d lines", n)
			}
			if t.Failed() {
				t.Log(got)
			}
		})
	}
}

// A route may have hundreds of next hops, and a host as many programs that see its
// packets: what is said of each is cut.
func TestDotCutsLongTexts(t *testing.T) {
	e := explainer(t, func(s *snapshot.Snapshot) {
		r, err := netstate.ParseRoute("route 10.8.0.0/16 table 254" + strings.Repeat(" nexthop via 192.168.1.8 dev eth0 weight 1", 500))
		if err != nil {
			t.Fatal(err)
		}
		s.State.Routes = append(s.State.Routes, r)
		for i := range 100 {
			s.Opaque = append(s.Opaque, netstate.Opaque{Kind: netstate.OpaqueTC, Dev: "eth1", Name: fmt.Sprintf("ingress filter%d", i)})
		}
		s.State.Rules[1].IIF, s.State.Rules[1].From = strings.Repeat("x", 300), netip.Prefix{}
	})
	got := draw(t, e, packet("203.0.113.9", "10.8.1.1", "eth1"), false)
	if err := checkDot(got); err != nil {
		t.Error(err)
	}
	for line := range strings.Lines(got) {
		if len(line) > 2000 {
			t.Errorf("a line of %d bytes: %.200s", len(line), line)
		}
		for _, part := range regexp.MustCompile(`<br/>|</td>|\\n|"`).Split(line, -1) {
			if i := strings.LastIndexByte(part, '>'); len(part)-i > 120 {
				t.Errorf("shows a line of %d characters: %s", len(part)-i, part)
			}
		}
	}
	if !strings.Contains(got, "… 94 more") {
		t.Errorf("does not say how much it leaves out:\n%s", got)
	}
}

// A drawing needs the steps of the answer, and says so.
func TestDotWithoutSteps(t *testing.T) {
	e := explainer(t, nil)
	a, err := e.Explain(packet("", "8.8.8.8", ""), explain.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.WriteDot(io.Discard, a); err == nil {
		t.Error("drawn")
	}
}

// Whatever rules there are, the drawing is well formed, and each way leads from its
// beginning to its end.
func TestDotOfAnyRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		six := rapid.Bool().Draw(t, "IPv6")
		family, net, from, to := "", "10.%d.0.0/16", "10.1.0.1", "10.2.0.1"
		if six {
			family, net, from, to = "-6 ", "2001:db8:%d::/48", "2001:db8:1::1", "2001:db8:2::1"
		}
		text := rapid.Custom(func(t *rapid.T) string {
			prefix := func(name string) string {
				if rapid.Bool().Draw(t, name+" all") {
					return ""
				}
				return " " + name + " " + fmt.Sprintf(net, rapid.IntRange(1, 3).Draw(t, name))
			}
			s := fmt.Sprintf("rule %s%d", family, rapid.IntRange(0, 12).Draw(t, "priority"))
			if rapid.IntRange(0, 5).Draw(t, "not") == 0 {
				s += " not"
			}
			s += prefix("from") + prefix("to")
			return s + " " + rapid.SampledFrom([]string{
				"table 7", "table 7 suppress_prefixlength 0", "table 8", "table 254", "l3mdev", "nop", "goto 3", "goto 9", "goto 11", "prohibit",
				"table 8 unknown 0800e70301000000",
			}).Draw(t, "action")
		})
		routes := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) string {
			to := "default"
			if rapid.Bool().Draw(t, "long") {
				to = fmt.Sprintf(net, rapid.IntRange(1, 3).Draw(t, "to"))
			}
			kind := rapid.SampledFrom([]string{"", "", "throw ", "blackhole "}).Draw(t, "type")
			dev := ""
			if kind == "" {
				dev = " dev eth1"
			}
			return fmt.Sprintf("route %s%s%s%s table %d metric %d", family, kind, to, dev, rapid.IntRange(7, 8).Draw(t, "table"), rapid.IntRange(1, 1000000).Draw(t, "metric"))
		}), 0, 4).Draw(t, "routes")
		list := rapid.SliceOfN(text, 0, 40).Draw(t, "rules")
		e := explainer(&testing.T{}, func(s *snapshot.Snapshot) {
			s.State.Addrs = append(s.State.Addrs, netstate.Addr{Prefix: netip.MustParsePrefix(from + map[bool]string{false: "/24", true: "/64"}[six]), Dev: "eth0"})
			for _, l := range list {
				s.State.Rules = append(s.State.Rules, rule(l))
			}
			if rapid.Bool().Draw(t, "strict") {
				set(s, "net/ipv4/conf/all/rp_filter", "1")
			}
			for _, l := range routes {
				r, err := netstate.ParseRoute(l)
				if err != nil {
					t.Fatal(err)
				}
				s.State.Routes = append(s.State.Routes, r)
			}
		})
		iif := rapid.SampledFrom([]string{"", "eth0", "eth1", "off"}).Draw(t, "iif")
		a, err := e.Explain(packet(from, to, iif), explain.Options{Steps: true, Reply: true})
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		if err := e.WriteDot(&b, a); err != nil {
			t.Fatal(err)
		}
		if err := checkDot(b.String()); err != nil {
			t.Fatalf("%v\n%s", err, &b)
		}
	})
}

// Whatever names are in a snapshot, the drawing stays one, and Graphviz, where it is
// installed, reads it.
func TestDotOfHostileNames(t *testing.T) {
	var all bytes.Buffer
	drawn := 0
	hostile := func(name string) error {
		e := explainer(t, func(s *snapshot.Snapshot) {
			s.Tables[5000] = name
			s.Owners[0].File = name
			s.Owners[0].Ref.Name = name
			s.State.Rules[1].IIF = name
			s.State.Rules[1].Not = true
			s.State.Rules = append(s.State.Rules, netstate.Rule{Family: netstate.IPv4, Priority: 9, OIF: name, Action: netstate.Nop})
			s.Owners[0].Rules = s.State.Rules[1:2]
			s.Surroundings.Chains = []netstate.NftName{{Family: "ip", Table: name, Chain: name}}
			for i := range s.State.Links {
				if s.State.Links[i].Name == "eth1" {
					s.State.Links[i].Name = name
				}
			}
			for i := range s.State.Routes {
				if s.State.Routes[i].Hop.Dev == "eth1" {
					s.State.Routes[i].Hop.Dev = name
				}
			}
		})
		got := draw(t, e, packet("1.2.3.2", "8.8.8.8", ""), true)
		if err := checkDot(got); err != nil {
			return fmt.Errorf("%q: %w\n%s", name, err, got)
		}
		if drawn < 40 {
			drawn++
			all.WriteString(got)
		}
		return nil
	}
	known := []string{`&lt;x`, `"];evil->x;[a="`, `a\N`, `b\`, `</td>`, `<b>`, `it's`, "line\nline", "\u202eback", "\xff", "<!--", "]]>"}
	for _, name := range known {
		if err := hostile(name); err != nil {
			t.Fatal(err)
		}
	}
	runes := rapid.StringOfN(rapid.RuneFrom([]rune("a\"\\\n<>{}|;]&#'\x00é\u202e%")), 1, 12, -1)
	rapid.Check(t, func(t *rapid.T) {
		if err := hostile(runes.Draw(t, "name")); err != nil {
			t.Fatal(err)
		}
	})

	graphviz, err := exec.LookPath("dot")
	if err != nil {
		t.Skip("no Graphviz here: it has not read the drawings")
	}
	cmd := exec.Command(graphviz, "-Tsvg")
	cmd.Stdin = &all
	out, err := cmd.CombinedOutput()
	if err != nil || bytes.Contains(out, []byte("Error")) || bytes.Contains(out, []byte("Warning")) {
		t.Fatalf("Graphviz: %v\n%s", err, out)
	}
	if n := bytes.Count(out, []byte("</svg>")); n != drawn {
		t.Errorf("%d drawings of %d", n, drawn)
	}
	text := svgText(t, out)
	for _, want := range []string{`&lt;x`, `"];evil->x;[a="`, `a\N`, `b\`, `</td>`, `<b>`, `it's`, `line\nline`, `\u202eback`, `\xff`, "<!--", "]]>"} {
		for _, phrase := range []string{"table " + want + " (5000)", "does not match: oif " + want + ", the packet has none"} {
			if !strings.Contains(text, phrase) {
				t.Errorf("the drawing does not show %s", phrase)
			}
		}
	}
}

// svgText is what a reader sees of drawings.
func svgText(t *testing.T, svg []byte) string {
	var b strings.Builder
	for _, doc := range bytes.SplitAfter(svg, []byte("</svg>")) {
		d := xml.NewDecoder(bytes.NewReader(doc))
		for {
			tok, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if text, ok := tok.(xml.CharData); ok {
				b.Write(text)
			}
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}
