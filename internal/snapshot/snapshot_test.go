package snapshot

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/netstate/netstatetest"
	"github.com/viarule/viarule/internal/spec"
)

// list draws up to three; none is nil, as Read gives it.
func list[T any](t *rapid.T, g *rapid.Generator[T], label string) []T {
	return slices.Clip(append([]T(nil), rapid.SliceOfN(g, 0, 3).Draw(t, label)...))
}

func names() *rapid.Generator[string] {
	return rapid.OneOf(netstatetest.Device(), rapid.SampledFrom([]string{"KUBE-SERVICES", "a b", "nat", `"`, `\n`}))
}

func snapshots() *rapid.Generator[*Snapshot] {
	return rapid.Custom(func(t *rapid.T) *Snapshot {
		s := &Snapshot{
			Kernel:  rapid.SampledFrom([]string{"", "6.18.44", "6.1.0 odd"}).Draw(t, "kernel"),
			State:   netstatetest.State().Draw(t, "state"),
			Sysctls: rapid.SliceOfNDistinct(netstatetest.Sysctl(), 0, 3, func(s netstate.Sysctl) string { return s.Key }).Draw(t, "sysctls"),
			Opaque:  list(t, netstatetest.Opaque(), "opaque"),
		}
		if rapid.Bool().Draw(t, "nft") {
			s.State.Nft = []netstate.NftTable{netstatetest.NftTable().Draw(t, "nft table")}
		}
		s.State.Forward = netstatetest.ForwardChains().Draw(t, "forward")
		for _, f := range netstate.Families {
			if rapid.Bool().Draw(t, "legacy forward") {
				known := rapid.Bool().Draw(t, "known")
				s.Surroundings.LegacyForward = append(s.Surroundings.LegacyForward, netstate.LegacyForward{Family: f, Known: known, Drop: known && rapid.Bool().Draw(t, "drop"),
					In: list(t, names(), "in"), Out: list(t, names(), "out")})
			}
		}
		for range rapid.IntRange(0, 3).Draw(t, "chains") {
			s.Surroundings.Chains = append(s.Surroundings.Chains, netstate.NftName{
				Family: rapid.SampledFrom([]string{"ip", "inet"}).Draw(t, "family"), Table: names().Draw(t, "table"),
				Chain: rapid.OneOf(rapid.Just(""), names()).Draw(t, "chain")})
		}
		s.Surroundings.Legacy = list(t, names(), "legacy")
		s.Surroundings.IPVS = rapid.Bool().Draw(t, "ipvs")
		s.Tables = rapid.MapOfN(netstatetest.Table(), names(), 0, 3).Draw(t, "tables")
		for i := range rapid.IntRange(0, 3).Draw(t, "owners") {
			s.Owners = append(s.Owners, Owner{
				Ref:  spec.Ref{Kind: spec.KindRoutingPolicy, Name: fmt.Sprint("policy-", i)},
				File: rapid.SampledFrom([]string{"", "-", "a.yaml", "/etc/viarule/b c.yaml", "../ü.yaml"}).Draw(t, "file"),
				Line: rapid.IntRange(0, 1<<31-1).Draw(t, "line"), Nft: rapid.Bool().Draw(t, "part of nft"),
				Rules:  list(t, netstatetest.Rule(netstatetest.RuleOptions{}), "rules"),
				Routes: list(t, netstatetest.RouteKey(), "routes"),
				Links:  list(t, netstatetest.Device(), "links"), Sysctls: list(t, names(), "keys"),
			})
		}
		for i := range rapid.IntRange(0, 2).Draw(t, "attachments") {
			s.Owners = append(s.Owners, Owner{
				CNI:    &Attachment{Network: names().Draw(t, "network"), Interface: netstatetest.Device().Draw(t, "interface"), Plugin: []string{"sbr", "viarule-sbr"}[i]},
				Rules:  list(t, netstatetest.Rule(netstatetest.RuleOptions{}), "rules"),
				Routes: list(t, netstatetest.RouteKey(), "routes"),
				Links:  list(t, netstatetest.Device(), "links"), Sysctls: list(t, names(), "keys"),
			})
		}
		return s
	})
}

// public takes from a snapshot what no file holds.
func public(s *Snapshot) {
	for i := range s.State.Links {
		if l := &s.State.Links[i]; !strings.HasPrefix(l.Alias, "viarule:") {
			l.Alias = ""
		}
	}
	for i := range s.State.Forward {
		c := &s.State.Forward[i]
		lists := [][]netstate.ForwardRule{c.Rules}
		for j := range c.Subs {
			lists = append(lists, c.Subs[j].Rules)
		}
		for _, rules := range lists {
			for j := range rules {
				if !strings.HasPrefix(rules[j].Comment, "viarule ") {
					rules[j].Comment = ""
				}
			}
		}
	}
	for i := range s.Owners {
		if o := &s.Owners[i]; o.File != "" {
			o.File = path.Base(o.File)
		}
	}
}

var equal = []cmp.Option{cmpopts.EquateEmpty(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })}

func TestReadGivesWhatWriteWasGiven(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := snapshots().Draw(t, "snapshot")
		var b bytes.Buffer
		if err := Write(&b, s); err != nil {
			t.Fatal(err)
		}
		got, err := Read(&b)
		if err != nil {
			t.Fatal(err)
		}
		public(s)
		if d := cmp.Diff(s, got, equal...); d != "" {
			t.Fatalf("written (-), read (+):\n%s", d)
		}
	})
}

// asWritten reads a file and checks that it is to the letter what Write makes of it.
func asWritten(t *testing.T, text string) *Snapshot {
	t.Helper()
	s, err := Read(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := Write(&b, s); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(text, b.String()); d != "" {
		t.Errorf("the example (-), read and written again (+):\n%s", d)
	}
	return s
}

func TestExampleOfTheGuide(t *testing.T) {
	page, err := os.ReadFile("../../docs/guide/snapshot.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(page), "```text\n")
	text, _, found := strings.Cut(text, "```\n")
	if !found {
		t.Fatal("the page shows no snapshot")
	}
	asWritten(t, text)
}

func TestExample(t *testing.T) {
	text, err := os.ReadFile("testdata/example.snapshot")
	if err != nil {
		t.Fatal(err)
	}
	s := asWritten(t, string(text))
	if s.Kernel != "6.1.0-40-cloud-amd64" || len(s.State.Routes) != 6 || len(s.Sysctls) != 4 || len(s.Opaque) != 4 ||
		len(s.Surroundings.Chains) != 2 || !s.Surroundings.IPVS || s.Tables[5000] != "public" {
		t.Errorf("read as %+v", s)
	}
	want := Owner{Ref: spec.Ref{Kind: "ExternalNetwork", Name: "public"}, File: "network.yaml", Line: 7, Nft: true,
		Rules: []netstate.Rule{
			netstatetest.ParseRule(t, "rule 2200 from 198.51.100.0/24 table 5000 proto 118"),
			netstatetest.ParseRule(t, "rule 2300 from all fwmark 0x100/0xff00 table 5000 proto 118")},
		Routes: []netstate.RouteKey{
			{Family: netstate.IPv4, Table: 5000, To: netstate.IPv4.Default()},
			{Family: netstate.IPv6, Table: 5000, To: netstate.IPv6.Default(), Metric: 1024}},
		Links: []string{"eth1.100"}, Sysctls: []string{"net/ipv4/conf/eth1.100/rp_filter"}}
	if d := cmp.Diff(want, s.Owners[0], equal...); d != "" {
		t.Errorf("the owner: want (-), got (+):\n%s", d)
	}
	want = Owner{CNI: &Attachment{Network: "sip", Interface: "net1", Plugin: "viarule-sbr"},
		Rules:  []netstate.Rule{netstatetest.ParseRule(t, "rule 2900 from 10.1.0.5 table 5001 proto 119")},
		Routes: []netstate.RouteKey{{Family: netstate.IPv4, Table: 5001, To: netstate.IPv4.Default()}}}
	if d := cmp.Diff(want, s.Owners[2], equal...); d != "" {
		t.Errorf("the attachment: want (-), got (+):\n%s", d)
	}
}

func TestWhatAFileDoesNotHold(t *testing.T) {
	s := &Snapshot{
		State: netstate.State{Links: []netstate.Link{
			{Index: 2, Name: "eth0", Alias: "secret: customer 7, circuit 12"},
			{Index: 3, Name: "eth0.5", Alias: "viarule:ExternalNetwork/public"},
			{Index: 4, Name: "via0123456789ab", Alias: "viarule:ptp/pods/secret-container/eth0"}}},
		Owners: []Owner{{Ref: spec.Ref{Kind: "RoutingPolicy", Name: "a"}, File: "/home/secret/customer/policy.yaml"}},
	}
	var b bytes.Buffer
	if err := Write(&b, s); err != nil {
		t.Fatal(err)
	}
	if text := b.String(); strings.Contains(text, "secret") || strings.Contains(text, "customer") || !strings.Contains(text, "policy.yaml") || !strings.Contains(text, "alias viarule:ExternalNetwork/public") || !strings.Contains(text, "alias viarule:ptp/pods\n") {
		t.Errorf("the file is\n%s", text)
	}
	if s.State.Links[0].Alias == "" || s.Owners[0].File == "policy.yaml" {
		t.Error("Write changed what it was given")
	}
}

func TestReadErrors(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		line       int
		want       string
	}{
		{"nothing", "", 1, `this is no snapshot, which begins with "viarule snapshot 1"`},
		{"something else", "apiVersion: viarule.io/v1alpha1\n", 1, "this is no snapshot"},
		{"another version", "viarule snapshot 2\nend\n", 1, "its version is 2, and this viarule reads version 1"},
		{"a longer version", "viarule snapshot 1.5\nend\n", 1, "its version is 1.5"},
		{"no version", "viarule snapshot \nend\n", 1, "its version is"},
		{"cut off", "viarule snapshot 1\nlink 1 lo\n", 3, "the snapshot is cut off"},
		{"cut off in its last line", "viarule snapshot 1\nen", 2, `"en" begins no line`},
		{"more behind the end", "viarule snapshot 1\nend\n\nlink 1 lo\n", 4, "behind the line that says end"},
		{"a line nobody knows", "viarule snapshot 1\n# x\nebpf x\nend\n", 3, `"ebpf" begins no line that this viarule knows`},
		{"a bad route", "viarule snapshot 1\nroute 10.0.0.0/8 dev eth0\nend\n", 2, "no table"},
		{"an opaque of no kind", "viarule snapshot 1\nopaque magic name x\nend\n", 2, `"magic" is no kind`},
		{"a sysctl twice", "viarule snapshot 1\nsysctl a = 1\nsysctl a = 2\nend\n", 3, "a comes twice"},
		{"two kernels", "viarule snapshot 1\nkernel a\nkernel b\nend\n", 3, "begins with kernel"},
		{"a table without a name", "viarule snapshot 1\ntable 5\nend\n", 2, "begins with table"},
		{"a table of no number", "viarule snapshot 1\ntable x y\nend\n", 2, `"x" is no number`},
		{"a table twice", "viarule snapshot 1\ntable 5 x\ntable 5 y\nend\n", 3, "table 5 comes twice"},
		{"foreign what", "viarule snapshot 1\nforeign ebtables x\nend\n", 2, "what follows foreign"},
		{"foreign without a name", "viarule snapshot 1\nforeign nft ip\nend\n", 2, "what follows foreign"},
		{"an object without a kind", "viarule snapshot 1\nobject x\nend\n", 2, `"x" is not KIND/NAME`},
		{"an object twice", "viarule snapshot 1\nobject a/x\nobject a/x\nend\n", 3, "a/x comes twice"},
		{"a file twice", "viarule snapshot 1\nobject a/x file b file c\nend\n", 2, "what follows an object"},
		{"a file without a name", "viarule snapshot 1\nobject a/x file\nend\n", 2, "what follows an object"},
		{"a line of no number", "viarule snapshot 1\nobject a/x line -1\nend\n", 2, `"-1" is no number of a line`},
		{"nobody holds", "viarule snapshot 1\nholds link eth0\nend\n", 2, "no object or attachment stands before"},
		{"half an attachment", "viarule snapshot 1\nattachment sip interface net1\nend\n", 2, "a line that begins with attachment has not the words of this one"},
		{"holds what", "viarule snapshot 1\nobject a/x\nholds addr 10.0.0.1/8\nend\n", 3, "what follows holds"},
		{"holds two links", "viarule snapshot 1\nobject a/x\nholds link a b\nend\n", 3, "is one name"},
		{"holds no rule", "viarule snapshot 1\nobject a/x\nholds rule 5\nend\n", 3, "no action"},
		{"holds no route", "viarule snapshot 1\nobject a/x\nholds route default\nend\n", 3, "no table"},
		{"a control character", "viarule snapshot 1\nlink 1 \x1b[31m\nend\n", 2, "cannot be printed"},
		{"an escaped one", "viarule snapshot 1\nlink 1 \"a\\x1b[31m\"\nend\n", 2, "cannot be printed"},
		{"one in a comment", "viarule snapshot 1\n# \x07\nend\n", 2, "cannot be printed"},
		{"one that turns the text around", "viarule snapshot 1\ntable 5 \"a\u202eb\"\nend\n", 2, "cannot be printed"},
		{"bytes that are no text", "viarule snapshot 1\ntable 5 \xff\nend\n", 2, "cannot be printed"},
		{"a quote that does not end", "viarule snapshot 1\ntable 5 \"a\\\nend\n", 2, "quote"},
	} {
		s, err := Read(strings.NewReader(tt.text))
		var e *Error
		switch {
		case !errors.As(err, &e):
			t.Errorf("%s: it reads as %+v, %v", tt.name, s, err)
		case e.Line != tt.line || !strings.Contains(err.Error(), tt.want):
			t.Errorf("%s: error %q on line %d, want %q on line %d", tt.name, err, e.Line, tt.want, tt.line)
		}
	}
}

func TestReadTakesWhatPeopleWrite(t *testing.T) {
	s, err := Read(strings.NewReader("viarule snapshot 1\r\n\r\n  # by hand\r\n\tlink 1 lo\r\ntable 5 x # ours\r\nend\r\n\r\n"))
	if err != nil || len(s.State.Links) != 1 || s.Tables[5] != "x" {
		t.Errorf("%+v, %v", s, err)
	}
}

// What a stranger writes into a line must not fill a screen.
func TestErrorsAreShort(t *testing.T) {
	_, err := Read(strings.NewReader("viarule snapshot 1\nroute " + strings.Repeat("x", 1<<19) + "\nend\n"))
	if err == nil || len(err.Error()) > 600 || !strings.HasPrefix(err.Error(), "line 2: ") {
		t.Errorf("an error of %d bytes", len(fmt.Sprint(err)))
	}
	long := strings.Repeat("x", fileLimits.line)
	err = Write(&bytes.Buffer{}, &Snapshot{Tables: map[uint32]string{5: long}})
	if err == nil || len(err.Error()) > 600 {
		t.Errorf("an error of %d bytes", len(fmt.Sprint(err)))
	}
}

// Write and Read have the same limits: what the one writes the other takes.
func TestLimits(t *testing.T) {
	s := &Snapshot{Tables: map[uint32]string{5000: "uplink2"}, Kernel: "6.1", State: netstate.State{Nft: []netstate.NftTable{{Name: "viarule"}}}}
	s.State.Routes = []netstate.Route{netstatetest.ParseRoute(t, "route default nexthop dev eth0 nexthop dev eth1 table 254")}
	var whole bytes.Buffer
	if err := Write(&whole, s); err != nil {
		t.Fatal(err)
	}
	text := whole.String()
	longest := len(slices.MaxFunc(strings.Split(text, "\n"), func(a, b string) int { return len(a) - len(b) }))
	fits := limits{size: len(text), line: longest, lines: strings.Count(text, "\n") + 2, nft: len("nft table viarule\n")}
	for _, tt := range []struct {
		name string
		max  limits
		want string
	}{
		{"it fits", fits, ""},
		{"size", limits{fits.size - 1, fits.line, fits.lines, fits.nft}, "MiB"},
		{"line", limits{fits.size, fits.line - 1, fits.lines, fits.nft}, fmt.Sprintf("more than %d bytes", fits.line-1)},
		{"lines", limits{fits.size, fits.line, fits.lines - 1, fits.nft}, fmt.Sprintf("more than %d lines and next hops", fits.lines-1)},
		{"nft", limits{fits.size, fits.line, fits.lines, fits.nft - 1}, fmt.Sprintf("more than %d bytes of nftables", fits.nft-1)},
	} {
		_, rerr := read(strings.NewReader(text), tt.max)
		werr := write(&bytes.Buffer{}, s, tt.max)
		for what, err := range map[string]error{"read": rerr, "write": werr} {
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s: %s gives %v, want %q", tt.name, what, err, tt.want)
			}
		}
	}
	// An endless file is given up at the limit.
	_, err := read(endless{}, fits)
	if err == nil || !strings.Contains(err.Error(), "MiB") {
		t.Errorf("an endless file: %v", err)
	}
}

// endless is a snapshot without an end.
type endless struct{}

func (endless) Read(b []byte) (int, error) {
	return copy(b, magic), nil
}

func TestWriteRefusesWhatReadWould(t *testing.T) {
	for _, s := range []*Snapshot{
		{State: netstate.State{Links: []netstate.Link{{Index: 1, Name: "a\x1b[31m"}}}},
		{Opaque: []netstate.Opaque{{Kind: netstate.OpaqueTC, Name: "a\nlink 1 eth0"}}},
		{Surroundings: netstate.Surroundings{Legacy: []string{"\xff"}}},
		{Owners: []Owner{{Ref: spec.Ref{Kind: "a", Name: "b"}, File: "\u202e"}}},
	} {
		var b bytes.Buffer
		err := Write(&b, s)
		if !errors.Is(err, errUnprintable) || strings.ContainsAny(err.Error(), "\x1b\n\u202e") {
			t.Errorf("%+v: error %q", s, err)
		}
		if _, err := Read(&b); err == nil {
			t.Errorf("%+v: what was written reads as whole", s)
		}
	}
}

func TestErrorsOfFiles(t *testing.T) {
	broken := errors.New("the disk broke")
	text, err := os.ReadFile("testdata/example.snapshot")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{5, 500} {
		_, err := Read(iotest.DataErrReader(&failing{text: text[:n], err: broken}))
		var e *Error
		if !errors.Is(err, broken) || errors.As(err, &e) {
			t.Errorf("after %d bytes: %v", n, err)
		}
	}
	s, err := Read(iotest.OneByteReader(bytes.NewReader(text)))
	if err != nil {
		t.Fatal(err)
	}
	if err := Write(refusing{broken}, s); !errors.Is(err, broken) {
		t.Errorf("writing: %v", err)
	}
}

type failing struct {
	text []byte
	err  error
}

func (f *failing) Read(b []byte) (int, error) {
	if len(f.text) == 0 {
		return 0, f.err
	}
	n := copy(b, f.text)
	f.text = f.text[n:]
	return n, nil
}

type refusing struct{ err error }

func (r refusing) Write([]byte) (int, error) { return 0, r.err }

// FuzzRead holds that no file makes Read panic, and that what it takes is stable:
// written and read again, it is the same.
func FuzzRead(f *testing.F) {
	text, err := os.ReadFile("testdata/example.snapshot")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte("viarule snapshot 1\nend\n"))
	f.Add([]byte("viarule snapshot 1\ntable 5 \"a \\\"b\"\nobject a/b line 7 nft file c\nholds link \\\nend # x\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := Read(bytes.NewReader(text))
		if err != nil {
			_ = err.Error()
			return
		}
		var first, second bytes.Buffer
		if err := Write(&first, s); err != nil {
			t.Fatalf("it cannot be written: %v", err)
		}
		again, err := Read(bytes.NewReader(first.Bytes()))
		if err != nil {
			t.Fatalf("what was written cannot be read: %v\n%s", err, first.String())
		}
		public(s)
		if d := cmp.Diff(s, again, equal...); d != "" {
			t.Fatalf("read (-), written and read (+):\n%s", d)
		}
		if err := Write(&second, again); err != nil || !bytes.Equal(first.Bytes(), second.Bytes()) {
			t.Fatalf("%v\nwritten first\n%s\nand then\n%s", err, first.String(), second.String())
		}
	})
}

// many is a host with 100,000 routes that viarule holds.
func many() *Snapshot {
	s := &Snapshot{Owners: []Owner{{Ref: spec.Ref{Kind: "RoutingPolicy", Name: "many"}}}}
	for i := range 100_000 {
		r := netstate.Route{Family: netstate.IPv4, Table: 5000, Type: netstate.RouteUnicast, Protocol: netstate.ProtocolObject,
			To:  netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32),
			Hop: netstate.Hop{Via: netip.AddrFrom4([4]byte{192, 0, 2, 1}), Dev: "eth0"}}
		s.State.Routes = append(s.State.Routes, r)
		s.Owners[0].Routes = append(s.Owners[0].Routes, r.Key())
	}
	return s
}

// BenchmarkRead is to stay well below a second.
func BenchmarkRead(b *testing.B) {
	var text bytes.Buffer
	if err := Write(&text, many()); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.SetBytes(int64(text.Len()))
	for b.Loop() {
		if _, err := Read(bytes.NewReader(text.Bytes())); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkWrite(b *testing.B) {
	s := many()
	b.ReportAllocs()
	for b.Loop() {
		if err := Write(&bytes.Buffer{}, s); err != nil {
			b.Fatal(err)
		}
	}
}
