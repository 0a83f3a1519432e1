package specfile

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/spec"
)

// bare is an object without what depends on the file that it was read from.
func bare(o spec.Object) spec.Object {
	o.File, o.Pos, o.Text = "", spec.Pos{}, nil
	o.Expect = slices.Clone(o.Expect)
	for i := range o.Expect {
		o.Expect[i].Pos = spec.Pos{}
	}
	if o.External != nil {
		o.External = bareExternal(*o.External)
	}
	if o.Pods != nil {
		o.Pods = barePods(*o.Pods)
	}
	if o.Policy == nil {
		return o
	}
	p := &spec.RoutingPolicy{}
	for _, t := range o.Policy.Tables {
		t.Pos = spec.Pos{}
		t.Routes = append([]spec.Route(nil), t.Routes...)
		for i := range t.Routes {
			t.Routes[i].Pos = spec.Pos{}
			t.Routes[i].Nexthops = append([]spec.Nexthop(nil), t.Routes[i].Nexthops...)
			for j := range t.Routes[i].Nexthops {
				t.Routes[i].Nexthops[j].Pos = spec.Pos{}
			}
		}
		p.Tables = append(p.Tables, t)
	}
	for _, r := range o.Policy.Rules {
		r.Pos = spec.Pos{}
		p.Rules = append(p.Rules, r)
	}
	o.Policy = p
	return o
}

func diff(a, b spec.Object) string {
	return cmp.Diff(bare(a), bare(b), cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }))
}

// gen draws random valid objects. What is valid is written down here a second
// time, by construction instead of by complaint.
type gen struct{ t *rapid.T }

func (g gen) chance() bool             { return rapid.Bool().Draw(g.t, "b") }
func (g gen) n(lo, hi int) int         { return rapid.IntRange(lo, hi).Draw(g.t, "n") }
func (g gen) u32(lo, hi uint32) uint32 { return rapid.Uint32Range(lo, hi).Draw(g.t, "u") }

func (g gen) addr(f netstate.Family) netip.Addr {
	if f == netstate.IPv4 {
		return netip.AddrFrom4([4]byte{byte(g.n(1, 126)), byte(g.n(0, 255)), byte(g.n(0, 255)), byte(g.n(1, 254))})
	}
	var b [16]byte
	b[0] = 0x20
	for i := 1; i < 16; i++ {
		b[i] = byte(g.n(0, 1) * g.n(0, 255))
	}
	return netip.AddrFrom16(b)
}

func (g gen) prefix(f netstate.Family) netip.Prefix {
	return netip.PrefixFrom(g.addr(f), g.n(0, f.Bits())).Masked()
}

func (g gen) family() netstate.Family { return rapid.SampledFrom(netstate.Families[:]).Draw(g.t, "f") }

func (g gen) link() string {
	return rapid.SampledFrom([]string{"eth0", "eth0.100", "a", "on", "no", "null", "1", "0x10", "1e3", "-x", "wg-a_b", `q"u\o`, "{a}", "#c", "'a'", "&a", "*a", "!a", "%a", "@a", "...", "a,b", "true", "~", "fifteen-letters"}).Draw(g.t, "link")
}

func (g gen) table() string {
	return rapid.SampledFrom([]string{"custom", "main", "default", "on", "off", "null", "y", "_", "a.b-c_9", "TRUE", "nan"}).Draw(g.t, "table")
}

func (g gen) route(to netip.Prefix) spec.Route {
	f := netstate.FamilyOf(to.Addr())
	r := spec.Route{To: to, Type: netstate.RouteUnicast}
	if g.chance() {
		r.Metric, r.MTU, r.AdvMSS = g.u32(0, 1<<32-1), g.u32(1280, spec.MaxMTU), g.u32(spec.MinAdvMSS, spec.MaxAdvMSS)
	}
	gateway := func() netip.Addr {
		if f == netstate.IPv4 && g.chance() {
			return g.addr(netstate.IPv6)
		}
		return g.addr(f)
	}
	scope := func(s ...netstate.Scope) {
		if f == netstate.IPv4 && g.chance() {
			v := rapid.SampledFrom(s).Draw(g.t, "scope")
			r.Scope = &v
		}
	}
	switch g.n(0, 4) {
	case 0:
		r.Type = rapid.SampledFrom([]netstate.RouteType{netstate.RouteBlackhole, netstate.RouteUnreachable, netstate.RouteProhibit, netstate.RouteThrow}).Draw(g.t, "type")
		return r
	case 1:
		r.Type, r.Dev = netstate.RouteLocal, g.link()
		scope(netstate.ScopeHost)
	case 2:
		for range g.n(1, 3) {
			h := spec.Nexthop{Via: gateway(), Dev: g.link(), Weight: uint16(g.n(1, 256)), OnLink: g.chance()}
			if !h.OnLink && g.chance() {
				h.Via = netip.Addr{}
			}
			r.Nexthops = append(r.Nexthops, h)
		}
		scope(netstate.ScopeGlobal, netstate.ScopeSite)
	case 3:
		r.Via = gateway()
		if g.chance() {
			r.Dev, r.OnLink = g.link(), g.chance()
		}
		scope(netstate.ScopeGlobal, netstate.ScopeSite)
	case 4:
		r.Dev = g.link()
		scope(netstate.ScopeGlobal, netstate.ScopeSite, netstate.ScopeLink, netstate.ScopeHost)
	}
	if g.chance() {
		r.Src = g.addr(f)
	}
	return r
}

func (g gen) rule() spec.Rule {
	r := spec.Rule{}
	families := netstate.Families[:]
	if g.chance() {
		families = []netstate.Family{g.family()}
		if g.chance() {
			r.Family = families[0]
		}
	}
	prefixes := func() []netip.Prefix {
		seen := map[netip.Prefix]bool{}
		var list []netip.Prefix
		for _, f := range families {
			for range g.n(1, 12) {
				if p := g.prefix(f); !seen[p] {
					seen[p] = true
					list = append(list, p)
				}
			}
		}
		return list
	}
	if g.chance() {
		r.From = prefixes()
	}
	if g.chance() {
		r.To = prefixes()
	}
	if g.chance() {
		r.IIF, r.OIF = g.link(), g.link()
	}
	if g.chance() {
		mask := g.u32(1, 1<<32-1)
		r.Mark = netstate.Mark{Value: g.u32(0, 1<<32-1) & mask, Mask: mask}
	}
	if g.chance() {
		r.Proto = uint8(g.n(1, 255))
		if g.chance() {
			r.Proto = 6
			lo := g.n(1, spec.MaxPort)
			r.SPort = netstate.PortRange{Lo: uint16(lo), Hi: uint16(g.n(lo, spec.MaxPort))}
			r.DPort = netstate.PortRange{Lo: uint16(lo), Hi: uint16(lo)}
		}
	}
	switch g.n(0, 2) {
	case 0:
		r.TOS = uint8(g.n(1, 7) << 2)
	case 1:
		r.DSCP = netstate.Some(g.u32(0, 63))
	}
	if g.chance() {
		lo := g.u32(0, spec.MaxUID)
		r.UID = netstate.UIDRange{Set: true, Lo: lo, Hi: g.u32(lo, spec.MaxUID)}
	}
	r.Not = r.IIF != "" && g.chance()
	if g.chance() {
		r.Priority = netstate.Some(g.u32(1, 32765))
	}
	r.Action = rapid.SampledFrom([]netstate.Action{netstate.ToTable, netstate.Goto, netstate.Nop, netstate.Blackhole, netstate.Unreachable, netstate.Prohibit}).Draw(g.t, "action")
	switch r.Action {
	case netstate.ToTable:
		r.Table = spec.TableRef{Name: g.table()}
		if g.chance() {
			r.Table = spec.TableRef{ID: g.u32(1, 1<<32-1)}
		}
		if g.chance() {
			r.SuppressPrefixLength, r.SuppressIfGroup = netstate.Some(g.u32(0, 128)), netstate.Some(g.u32(0, spec.MaxSuppressIfGroup))
		}
	case netstate.Goto:
		r.Goto = g.u32(32766, 1<<32-1)
	}
	if fs := r.Families(); len(fs) == 1 && fs[0] == netstate.IPv4 && g.chance() {
		r.Realms = g.u32(1, 1<<32-1)
	}
	return r
}

func (g gen) object() spec.Object {
	o := spec.Object{Ref: spec.Ref{Kind: spec.KindRoutingPolicy, Name: rapid.SampledFrom([]string{"a", "on", "1", "1.5", "null", "a.b-c", "0x1"}).Draw(g.t, "name")}}
	o.DeletionPolicy = rapid.SampledFrom([]spec.DeletionPolicy{"", spec.DeletePolicy, spec.OrphanPolicy}).Draw(g.t, "deletion")
	o.Policy = &spec.RoutingPolicy{}
	names := map[string]bool{}
	for i := range g.n(0, 3) {
		t := spec.Table{Name: g.table()}
		if names[t.Name] {
			continue
		}
		names[t.Name] = true
		if t.Name != "main" && t.Name != "default" && g.chance() {
			t.ID = uint32(1000 + i)
		}
		seen := map[netip.Prefix]bool{}
		for range g.n(0, 20) {
			if to := g.prefix(g.family()); !seen[to] {
				seen[to] = true
				t.Routes = append(t.Routes, g.route(to))
			}
		}
		o.Policy.Tables = append(o.Policy.Tables, t)
	}
	for range g.n(0, 20) {
		o.Policy.Rules = append(o.Policy.Rules, g.rule())
	}
	return o
}

func TestWhatIsWrittenIsReadAgain(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		o := gen{rt}.object()
		switch rapid.IntRange(0, 2).Draw(rt, "kind") {
		case 0:
			o = gen{rt}.external()
		case 1:
			o = gen{rt}.podNetwork()
		}
		o.Expect = gen{rt}.expectations()
		text := Marshal(o, "a comment", "of two\nlines")
		objs, problems := Parse("f", text)
		if len(problems) > 0 || len(objs) != 1 {
			rt.Fatalf("%v\n%s", problems, text)
		}
		if d := diff(o, objs[0]); d != "" {
			rt.Fatalf("%s\n%s", d, text)
		}
		for _, p := range spec.Validate(objs, spec.Known{}) {
			if p.Severity == spec.Error {
				rt.Fatalf("%s\n%s", p, text)
			}
		}
		if again := Marshal(objs[0], "a comment", "of two\nlines"); string(again) != string(text) {
			rt.Fatalf("written differently the second time:\n%s\n%s", text, again)
		}
	})
}

func TestMarshalIsReadable(t *testing.T) {
	const want = `# by hand
apiVersion: viarule.io/v1alpha1
kind: RoutingPolicy
metadata:
  name: uplinks
spec:
  deletionPolicy: Orphan
  tables:
  - name: isp-b
    id: 200
    routes:
    - {to: default, via: 203.0.113.1, dev: eth1}
    - {to: "::/0", type: Unreachable, metric: 4294967295}
    - {to: 10.0.0.1, nexthops: [{via: 192.0.2.1, weight: 2}, {via: "fe80::1", dev: "on", onlink: true}], mtu: 1400}
  - name: main
  rules:
  - {from: [203.0.113.7, "2001:db8::/32"], table: isp-b}
  - {not: true, iif: lan0, fwmark: 0x100/0xff00, ipproto: tcp, dport: 80-443, priority: 300, goto: 400}
  - from:
    - 10.0.0.1
    - 10.0.0.2
    - 10.0.0.3
    - 10.0.0.4
    - 10.0.0.5
    - 10.0.0.6
    - 10.0.0.7
    - 10.0.0.8
    - 10.0.0.9
    dscp: EF
    table: 300
    suppressPrefixLength: 0
`
	objs, problems := Parse("f", []byte(want))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if got := string(Marshal(objs[0], "by hand")); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// sameResult says how the fast way and the library's differ for an input.
func sameResult(data []byte) string {
	objs, problems := parse("f", data, true)
	slowObjs, slowProblems := parse("f", data, false)
	if !reflect.DeepEqual(problems, slowProblems) {
		return fmt.Sprintf("problems: %v\nby the library: %v", problems, slowProblems)
	}
	if !reflect.DeepEqual(objs, slowObjs) {
		return cmp.Diff(fmt.Sprintf("%+v", objs), fmt.Sprintf("%+v", slowObjs))
	}
	return ""
}

func TestTheFastWayReadsTheSame(t *testing.T) {
	const head = "apiVersion: viarule.io/v1alpha1\nkind: RoutingPolicy\nmetadata: {name: a}\nspec:\n"
	lines := func(line string) string { return strings.Repeat(line+"\n", 2*minRun) }
	numbered := func(format string) string {
		var b strings.Builder
		for i := range 2 * minRun {
			fmt.Fprintf(&b, format+"\n", i)
		}
		return b.String()
	}
	routes := head + "  tables:\n  - name: t\n    routes:\n"
	for name, text := range map[string]string{
		"routes":                    routes + numbered("    - {to: 10.0.0.%d, via: 192.0.2.1, dev: eth0}"),
		"IPv6 in quotes":            routes + numbered(`    - {to: "2001:db8:%d::/48", via: "fe80::1", dev: eth0}   # why`),
		"next hops":                 routes + numbered(`    - {to: 10.0.0.%d, nexthops: [{via: 192.0.2.1, weight: 2}, {dev: eth0}]}`),
		"rules":                     head + "  rules:\n" + numbered("  - {from: [10.0.0.%d, 10.1.0.0/16], table: main}"),
		"faults in some":            routes + numbered("    - {to: 10.0.0.%d, via: 192.0.2.1, dve: eth0}"),
		"block style":               routes + numbered("    - to: 10.0.0.%d\n      via: 192.0.2.1  # why\n      dev: eth0"),
		"block style of rules":      head + "  rules:\n" + numbered("  - from: [10.0.0.%d, \"2001:db8::1\"]\n    table: main\n    iif: a"),
		"both styles":               routes + numbered("    - to: 10.0.0.%d\n      dev: eth0\n    - {to: 10.1.0.0, dev: a}"),
		"faults in block style":     routes + numbered("    - to: 10.0.0.%d\n      dve: eth0\n      mtu: 1"),
		"block style twice a key":   routes + numbered("    - to: 10.0.0.%d\n      to: eth0"),
		"deeper keys":               routes + numbered("    - to: 10.0.0.%d\n       dev: eth0"),
		"less deep keys":            routes + numbered("    - to: 10.0.0.%d\n     dev: eth0"),
		"a value over two lines":    routes + numbered("    - to: 10.0.0.%d\n        x\n      dev: eth0"),
		"a value below its key":     routes + numbered("    - to: 10.0.0.%d\n      dev:\n        eth0"),
		"block next hops":           routes + numbered("    - to: 10.0.0.%d\n      dev: a") + "    - to: 10.1.0.0\n      nexthops:\n      - dev: a\n      - dev: b\n",
		"a gap":                     routes + numbered("    - to: 10.0.0.%d\n\n      dev: a"),
		"a comment in between":      routes + numbered("    - to: 10.0.0.%d\n      # why\n      dev: a"),
		"the last without an end":   strings.TrimSuffix(routes+numbered("    - to: 10.0.0.%d\n      dev: a"), "\n"),
		"two runs":                  routes + numbered("    - {to: 10.0.0.%d, dev: eth0}") + "    # comment\n    - to: 10.1.0.0/16\n      dev: a\n" + numbered("    - {to: 10.2.0.%d, dev: eth0}"),
		"deeper lines":              routes + lines("    - {to: 10.0.0.1, dev: a}") + lines("      - {to: 10.0.0.1, dev: a}"),
		"in a block scalar":         strings.Replace(head, "{name: a}", "\n  name: a\n  annotations:\n    x: |\n"+lines("      - {to: 10.0.0.1, dev: a}"), 1) + "  rules: []\n",
		"in a quoted scalar":        strings.Replace(head, "{name: a}", "\n  name: a\n  annotations:\n    x: \"\n"+lines("      - {to: 10.0.0.1, dev: a}")+"      \"", 1) + "  rules: []\n",
		"in a plain scalar":         routes + "    - foo\n" + lines("      - {to: 10.0.0.1, dev: a}"),
		"in a flow list":            head + "  rules: [\n" + lines("  - {to: 10.0.0.1, dev: a}") + "  ]\n",
		"followed by more":          routes + lines("    - {to: 10.0.0.1, dev: a}") + "      more: 1\n",
		"a colon at the end":        routes + lines("    - {to: 2001:db8::, dev: a}"),
		"a colon before a space":    routes + lines("    - {to: a: , dev: a}"),
		"the tag beside a run":      routes + "    - !run \"\"\n" + numbered("    - {to: 10.0.0.%d, dev: eth0}"),
		"the tag behind a run":      routes + numbered("    - {to: 10.0.0.%d, dev: eth0}") + "    - !run \"\"\n    # comment\n" + numbered("    - {to: 10.1.0.%d, dev: eth0}"),
		"a key without a value":     routes + lines("    - {to: 10.0.0.1, dev}"),
		"no space":                  routes + lines("    - {to:10.0.0.1, dev: a}"),
		"an open end":               routes + lines("    - {to: 10.0.0.1, dev: a"),
		"aliases":                   routes + lines("    - {to: *a, dev: a}"),
		"the tag":                   routes + lines(`    - !run ""`),
		"under an unknown key":      head + "  tabels:\n" + lines("  - {to: 10.0.0.1, dev: a}"),
		"twice the same key":        head + "  rules:\n" + numbered("  - {from: [10.0.0.%d], table: main}") + "  rules:\n" + numbered("  - {from: [10.0.0.%d], table: main}"),
		"carriage returns":          strings.ReplaceAll(routes+numbered("    - {to: 10.0.0.%d, dev: eth0}"), "\n", "\r\n"),
		"a lone carriage return":    routes + "    # a\r    # b\n" + numbered("    - {to: 10.0.0.%d, dev: eth0}"),
		"a tab":                     routes + lines("    - {to: 10.0.0.1,\tdev: a}"),
		"expectations":              head + "  expect:\n" + numbered(`  - {name: n%d, from: 192.0.2.1, to: 198.51.100.1, leaves: {dev: eth0, via: "fe80::1"}}`),
		"faults in expectations":    head + "  expect:\n" + numbered("  - {name: n%d, to: 198.51.100.1, leaves: {dve: eth0}}"),
		"block expectations":        head + "  expect:\n" + numbered("  - name: n%d\n    to: \"2001:db8::1\"\n    leaves: {dev: eth0}\n    verdict: Sent"),
		"several documents":         "---\n" + routes + numbered("    - {to: 10.0.0.%d, dev: eth0}") + "---\n" + head + "  rules:\n" + numbered("  - {from: [10.0.0.%d], tabel: main}"),
		"a list of lists":           head + "  rules:\n  -\n" + lines("    - {from: [10.0.0.1], table: main}"),
		"a fault of YAML behind it": routes + numbered("    - {to: 10.0.0.%d, dev: eth0}") + "  }\n",
		"values of all kinds":       routes + lines("    - {to: 010, via: yes, dev: 1.5, src: ~, metric: 0x10, mtu: -1, type: 2026-11-23}"),
	} {
		t.Run(name, func(t *testing.T) {
			if d := sameResult([]byte(text)); d != "" {
				t.Error(d)
			}
		})
	}
}

// The fast way is there to be taken.
func TestLongListsTakeTheFastWay(t *testing.T) {
	block := strings.NewReplacer("- {", "- ", ", via", "\n      via", ", dev", "\n      dev", "}", "").Replace(string(manyRoutes(100)))
	block = strings.Replace(block, "metadata: {name: many", "metadata: {name: many}", 1)
	for _, data := range [][]byte{manyRoutes(100), manyRules(100), []byte(block)} {
		text, runs := cutRuns(string(data))
		if len(runs) != 1 || runs[0].count != 100 || len(text) > 500 {
			t.Errorf("%d runs, %d bytes left", len(runs), len(text))
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(manyRoutes(20))
	f.Add(manyRules(20))
	for _, seed := range []string{"a: &a [*a, *a]\n", "- {<<: {a: b}}", "---\n...\n%YAML 1.2\n---\n", "{a: \"\\x\"}", "? a\n: b", "\xff", "a: !!binary x", "[[[[[", "a:\r- b\r---\r"} {
		f.Add([]byte(seed))
	}
	f.Add([]byte(everyKey))
	examples, err := filepath.Glob("../../examples/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range examples {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		objs, problems := Parse("f", data)
		if len(problems) > MaxProblems+1 {
			t.Fatalf("%d problems", len(problems))
		}
		if d := sameResult(data); d != "" {
			t.Fatal(d)
		}
		spec.Validate(objs, spec.Known{})
		for _, o := range objs {
			again, problems := Parse("f", Marshal(o))
			if len(problems) > 0 || len(again) != 1 {
				t.Fatalf("%v\n%s", problems, Marshal(o))
			}
			if d := diff(o, again[0]); d != "" {
				t.Fatal(d)
			}
		}
	})
}
