package record

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/spec"
)

// object builds a record from text: `rule ...` lines, `route ...` keys,
// `table NAME N`, `sysctl KEY = VALUE`, `link NAME SYSCTL...`, `nft`.
func object(t *testing.T, name, text string) Object {
	t.Helper()
	o := Object{Ref: spec.Ref{Kind: spec.KindRoutingPolicy, Name: name}, File: "a.yaml", Line: 3,
		Text: []byte("kind: RoutingPolicy # " + name + "\n"), Tables: map[string]uint32{}}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		f := strings.Fields(line)
		switch {
		case line == "":
		case f[0] == "rule":
			r, err := netstate.ParseRule(line)
			if err != nil {
				t.Fatal(err)
			}
			o.Rules = append(o.Rules, r)
		case f[0] == "route":
			k, ok := parseRouteKey([]byte(line))
			if !ok {
				t.Fatalf("no route: %s", line)
			}
			o.Routes = append(o.Routes, k)
		case f[0] == "table":
			var id uint32
			fmt.Sscan(f[2], &id)
			o.Tables[f[1]] = id
		case f[0] == "sysctl":
			o.Sysctls = append(o.Sysctls, netstate.Sysctl{Key: f[1], Value: f[3]})
		case f[0] == "link":
			o.Links, o.LinkSysctls = append(o.Links, f[1]), append(o.LinkSysctls, f[2:]...)
		case f[0] == "nft":
			o.Nft = true
		default:
			t.Fatalf("what is %q?", line)
		}
	}
	return o
}

// text renders what the records say, in the form that object reads.
func text(t *testing.T, n Namespace) string {
	t.Helper()
	list, err := n.List()
	if err != nil {
		t.Fatal(err)
	}
	whole, err := n.Whole()
	if err != nil || len(whole) != len(list) {
		t.Fatal(len(whole), err)
	}
	var b strings.Builder
	for i, o := range list {
		full, ok, err := n.Get(o.Ref)
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		if !reflect.DeepEqual(whole[i], full) {
			t.Errorf("Whole has %+v, and Get %+v", whole[i], full)
		}
		fmt.Fprintf(&b, "%s %q\n", o.Ref.Name, full.Text)
		writeLines(&b, full.Rules, full.Routes)
		if len(full.Links) > 0 {
			fmt.Fprintln(&b, "link", strings.Join(append(full.Links, full.LinkSysctls...), " "))
		}
		if full.Nft {
			fmt.Fprintln(&b, "nft")
		}
	}
	sysctls, err := n.Sysctls()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range sysctls {
		fmt.Fprintf(&b, "sysctl %s found %s ours %s users", s.Key, s.Found, strings.Join(s.Ours, ","))
		for _, u := range s.Users {
			fmt.Fprintf(&b, " %s", u.Name)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func claims(t *testing.T, n Namespace) string {
	t.Helper()
	c, err := n.Claims()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	writeLines(&b, slices.Collect(maps.Keys(c.Rules)), slices.Collect(maps.Keys(c.Routes)))
	for _, name := range slices.Sorted(maps.Keys(c.Links)) {
		fmt.Fprintln(&b, "link", name)
	}
	if c.Nft {
		fmt.Fprintln(&b, "nft")
	}
	return b.String()
}

func writeLines(b *strings.Builder, rules []netstate.Rule, routes []netstate.RouteKey) {
	var lines []string
	for _, r := range rules {
		lines = append(lines, r.String()+"\n")
	}
	for _, k := range routes {
		lines = append(lines, string(appendRouteKey(nil, &k))+"\n")
	}
	slices.Sort(lines)
	for _, l := range lines {
		b.WriteString(l)
	}
}

func lock(t *testing.T, n Namespace) *Lock {
	t.Helper()
	l, err := n.Lock("a test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Unlock(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func store(t *testing.T) Store { return Store{filepath.Join(t.TempDir(), "run")} }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func equal(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s:\n%s\nwant:\n%s", what, got, want)
	}
}

const (
	oneText = `rule 2200 from 10.1.0.0/16 table 5000 proto 118
rule -6 2200 from 2001:db8:1::/48 fwmark 0x1/0x3f table 5000 proto 118
route -6 2001:db8::/32 from 2001:db8:1::/48 table 5000 metric 1024
route 10.0.0.0/8 tos 0x10 table 5000 metric 7
route default table 5000
`
	twoText = `rule 2201 from 10.2.0.0/16 table 5001 proto 118
route default table 5001
`
	newText = `rule 2205 from 10.1.0.0/16 table 5000 proto 118
route -6 default table 5000 metric 1024
`
)

func lines(texts ...string) string {
	var all []string
	for _, t := range texts {
		all = append(all, slices.Collect(strings.Lines(t))...)
	}
	slices.Sort(all)
	return strings.Join(slices.Compact(all), "")
}

func said(name, body string) string {
	return fmt.Sprintf("%s %q\n%s", name, "kind: RoutingPolicy # "+name+"\n", lines(body))
}

func TestStageKeepsTheOldClaimsUntilCommit(t *testing.T) {
	n := store(t).Namespace(7)
	l := lock(t, n)
	must(t, l.Stage(Change{Put: []Object{object(t, "one", oneText), object(t, "two", twoText)}}))
	must(t, l.Commit())
	equal(t, "first apply", text(t, n), said("one", oneText)+said("two", twoText))

	must(t, l.Stage(Change{Put: []Object{object(t, "one", newText)}, Remove: []spec.Ref{{Kind: spec.KindRoutingPolicy, Name: "two"}}}))
	equal(t, "wanted while staged", text(t, n), said("one", newText))
	equal(t, "claimed while staged", claims(t, n), lines(oneText, twoText, newText))
	if p, err := n.Pending(); err != nil || !p {
		t.Errorf("pending while staged: %v %v", p, err)
	}
	must(t, l.Commit())
	equal(t, "wanted after commit", text(t, n), said("one", newText))
	equal(t, "claimed after commit", claims(t, n), lines(newText))
	if p, err := n.Pending(); err != nil || p {
		t.Errorf("pending after commit: %v %v", p, err)
	}
}

func TestRollback(t *testing.T) {
	for _, leftovers := range []bool{false, true} {
		t.Run(fmt.Sprint("leftovers ", leftovers), func(t *testing.T) {
			n := store(t).Namespace(7)
			l := lock(t, n)
			must(t, l.Stage(Change{Put: []Object{object(t, "one", oneText), object(t, "two", twoText)}}))
			must(t, l.Commit())
			must(t, l.Stage(Change{Put: []Object{object(t, "one", newText)}}))
			must(t, l.Rollback(leftovers))
			equal(t, "wanted", text(t, n), said("one", oneText)+said("two", twoText))
			want := lines(oneText, twoText)
			if leftovers {
				want = lines(oneText, twoText, newText)
			}
			equal(t, "claimed", claims(t, n), want)
			must(t, l.Rollback(false)) // nothing is staged: nothing happens
			equal(t, "wanted after a second one", text(t, n), said("one", oneText)+said("two", twoText))
		})
	}
}

func TestKilledChangesStayClaimed(t *testing.T) {
	n := store(t).Namespace(7)
	l := lock(t, n)
	must(t, l.Stage(Change{Put: []Object{object(t, "one", oneText)}}))
	// Killed here. The next process changes something else, and is killed too.
	must(t, l.Stage(Change{Put: []Object{object(t, "two", twoText)}}))
	must(t, l.Stage(Change{Put: []Object{object(t, "one", newText)}}))
	equal(t, "wanted", text(t, n), said("one", newText)+said("two", twoText))
	equal(t, "claimed", claims(t, n), lines(oneText, twoText, newText))
	must(t, l.Commit())
	equal(t, "claimed at last", claims(t, n), lines(twoText, newText))
	if files, _ := filepath.Glob(filepath.Join(n.Dir(), "o-*")); len(files) != 2 {
		t.Errorf("data files after commit: %v", files)
	}
}

func TestEmptyNamespaceLeavesNothing(t *testing.T) {
	s := store(t)
	n := s.Namespace(7)
	l, err := n.Lock("a test")
	must(t, err)
	must(t, l.Stage(Change{Put: []Object{object(t, "one", oneText)}}))
	must(t, l.Commit())
	must(t, l.Stage(Change{Remove: []spec.Ref{{Kind: spec.KindRoutingPolicy, Name: "one"}}}))
	must(t, l.Commit())
	must(t, l.Unlock())
	must(t, l.Unlock()) // once more does no harm
	if _, err := os.Stat(n.Dir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("folder is still there: %v", err)
	}
	// A journal that the guard keeps here must survive.
	l, err = n.Lock("a test")
	must(t, err)
	must(t, os.WriteFile(filepath.Join(n.Dir(), "journal"), nil, 0o600))
	must(t, l.Unlock())
	if _, err := os.Stat(filepath.Join(n.Dir(), "journal")); err != nil {
		t.Error(err)
	}
}

// TestLinksAndNft: they are claimed as rules and routes are, by what is wanted and
// by what an unfinished change left, and make no entry among the sysctls.
func TestLinksAndNft(t *testing.T) {
	n := Store{Dir: t.TempDir()}.Namespace(1)
	l := lock(t, n)
	const key = "net/ipv4/conf/eth0.100/src_valid_mark"
	must(t, l.Stage(Change{Put: []Object{object(t, "a", "link eth0.100 "+key+"\nnft"), object(t, "b", "nft")}}))
	must(t, l.Commit())
	want := fmt.Sprintf("a %q\nlink eth0.100 %s\nnft\nb %q\nnft\n", "kind: RoutingPolicy # a\n", key, "kind: RoutingPolicy # b\n")
	if got := text(t, n); got != want {
		t.Errorf("the records say\n%snot\n%s", got, want)
	}
	must(t, l.Stage(Change{Put: []Object{object(t, "a", "link eth0.101")}, Remove: []spec.Ref{{Kind: spec.KindRoutingPolicy, Name: "b"}}}))
	if got, want := claims(t, n), "link eth0.100\nlink eth0.101\nnft\n"; got != want {
		t.Errorf("on the way, claimed are\n%snot\n%s", got, want)
	}
	must(t, l.Commit())
	if got, want := claims(t, n), "link eth0.101\n"; got != want {
		t.Errorf("afterwards, claimed are\n%snot\n%s", got, want)
	}
}

// TestVersion1 reads the index of a viarule that knew no links, and writes its own.
func TestVersion1(t *testing.T) {
	n := Store{Dir: t.TempDir()}.Namespace(1)
	l := lock(t, n)
	must(t, l.Stage(Change{Put: []Object{object(t, "a", "")}}))
	must(t, l.Commit())
	path := filepath.Join(n.Dir(), indexFile)
	data, err := os.ReadFile(path)
	must(t, err)
	must(t, os.WriteFile(path, []byte(strings.Replace(string(data), `"version":2`, `"version":1`, 1)), 0o600))
	list, err := n.List()
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	must(t, l.Stage(Change{Put: []Object{object(t, "b", "nft")}}))
	if data, err = os.ReadFile(path); err != nil || !strings.Contains(string(data), `"version":2`) {
		t.Errorf("the index is %s, %v", data, err)
	}
}
