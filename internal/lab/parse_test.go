package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

var wantComment = regexp.MustCompile(`# want ("(?:[^"\\]|\\.)*")`)

// Every file of testdata/bad says on the faulty line what shall be said of it,
// and nothing else may be said.
func TestWhatIsWrongIsSaidWithItsLine(t *testing.T) {
	files, _ := filepath.Glob("testdata/bad/*.yaml")
	if len(files) < 5 {
		t.Fatal("no bad labs found")
	}
	dir := t.TempDir()
	if err := os.Symlink("/etc/hostname", filepath.Join(dir, "link.yaml")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "fifo.yaml"), 0o600); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			l, err := Parse("lab.yaml", text, root)
			var in *InputError
			if !errors.As(err, &in) || l != nil {
				t.Fatalf("got %v, %v; want an InputError", l, err)
			}
			said := map[int][]string{}
			for _, p := range in.Problems {
				said[int(p.Pos.Line)] = append(said[int(p.Pos.Line)], p.String())
			}
			for i, line := range strings.Split(string(text), "\n") {
				for _, m := range wantComment.FindAllStringSubmatch(line, -1) {
					want, err := strconv.Unquote(m[1])
					if err != nil {
						t.Fatal(err)
					}
					said[i+1] = drop1(t, said[i+1], fmt.Sprintf("lab.yaml:%d: ", i+1), want)
				}
				for _, s := range said[i+1] {
					t.Errorf("said without being wanted: %s", s)
				}
				delete(said, i+1)
			}
			for _, more := range said {
				t.Errorf("said of no line of the file: %s", more)
			}
		})
	}
}

// drop1 takes the problem out of list that says what is wanted.
func drop1(t *testing.T, list []string, place, want string) []string {
	t.Helper()
	for i, s := range list {
		if strings.HasPrefix(s, place) && strings.Contains(s, want) {
			return append(list[:i:i], list[i+1:]...)
		}
	}
	t.Errorf("%snot said: %s\n  said: %s", place, want, strings.Join(list, "\n  "))
	return list
}

func TestTextsThatAreNoLab(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", "the file is empty"},
		{"# nothing\n", "the file is empty"},
		{"---\n", "a mapping is wanted here, not nothing"},
		{"[1, 2]", "a mapping is wanted here, not a list"},
		{"a: b: c", "mapping values are not allowed"},
		{"\x00", "control characters"},
		{"kind: Lab\n---\nkind: Lab\n", "a lab file holds one document"},
		{"kind: Lab", "metadata is missing"},
		{"x: &a [*a]\n", "anchors and aliases"},
		{"? [a]\n: b\n", "unknown key a list"},
		{"kind: !!bool \"\"\n", "is no lab"},
		{strings.Repeat("#", maxFile+1), "larger than"},
		{"spec: {hosts: [{rules: [{priority: 1, table: 5, from: [" + strings.Repeat("10.0.0.1,", 60) + "], to: [" + strings.Repeat("10.0.0.1,", 60) + "]}]}]}", "more than 1024 rules"},
		{"spec: {hosts: [" + strings.Repeat("{},", maxHosts+1) + "]}", "65 items are too many; the limit is 64"},
	} {
		_, err := Parse("lab.yaml", []byte(c.text), nil)
		var in *InputError
		if !errors.As(err, &in) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.40q: got %v; want %q", c.text, err, c.want)
		}
	}
}

func TestExamplesAreRead(t *testing.T) {
	files, _ := filepath.Glob("../../examples/lab/*.yaml")
	n := 0
	for _, f := range files {
		if strings.HasSuffix(f, ".policy.yaml") || strings.HasSuffix(f, ".object.yaml") {
			continue
		}
		n++
		l, err := Load(f)
		if err != nil {
			t.Errorf("%s:\n%v", f, err)
			continue
		}
		if l.Name != strings.TrimSuffix(filepath.Base(f), ".yaml") {
			t.Errorf("%s holds the lab %s", f, l.Name)
		}
	}
	if n < 2 {
		t.Fatal("no examples found")
	}
}

func TestWhatFollowsFromTheFileIsFilledIn(t *testing.T) {
	l, err := Load("../../examples/lab/two-uplinks.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if got := l.Namespace("fw"); got != "vlab-two-uplinks-fw" {
		t.Errorf("namespace %s", got)
	}
	c := l.Checks[2]
	if c.Server.Host != "server" || c.Server.Addr != c.To || c.Server.Port != 80 {
		t.Errorf("server %+v", c.Server)
	}
	if (c.Enters != Place{"server", "eth1"}) || (c.Leaves != Place{"server", "eth0"}) {
		t.Errorf("enters %v, leaves %v", c.Enters, c.Leaves)
	}
	if c.Timeout != 1300*time.Millisecond || l.Checks[0].Timeout != 5*time.Second {
		t.Errorf("timeouts %v, %v", c.Timeout, l.Checks[0].Timeout)
	}
	r := l.Hosts[0].Routes[1]
	if got := r.String(); got != "route -6 default via 2001:db8:1::1 table 254 metric 1024 proto 3" {
		t.Errorf("IPv6 route %q", got)
	}
}

// An object in the lab file is handed on with its lines where they are.
func TestObjectsKeepTheirLines(t *testing.T) {
	const head = "spec:\n  objects:\n"
	for _, c := range []struct {
		name, text string
		line       int // of the key "name"
	}{
		{"block", head + "    - kind: K\n      # a comment\n# another\n\n      metadata:\n        name: n\n      text: |\n        a\n         b\n  - name: b\n", 8},
		{"first of two", head + "    - kind: K\n      metadata: {name: n}\n    - kind: L\n", 4},
		{"flow on one line", head + "    - {kind: K, metadata: {name: n}} # comment\n  - name: b\n", 3},
		{"carriage returns", strings.ReplaceAll(head+"  - kind: K\n    metadata:\n      name: n\n  - kind: L\n", "\n", "\r\n"), 5},
		// Written anew by the library, beginning at the line of its own beginning.
		{"flow in a flow", "spec:\n  objects: [{kind: K, metadata: {name: n}}, {kind: L}]\n", 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			var whole, doc yaml.Node
			if err := yaml.Unmarshal([]byte(strings.Replace(c.text, "  - name: b\n", "", 1)), &whole); err != nil {
				t.Fatal(err)
			}
			object := whole.Content[0].Content[1].Content[1].Content[0]
			text := cut([]byte(c.text), object)
			if err := yaml.Unmarshal(text, &doc); err != nil {
				t.Fatalf("%v\n%s", err, text)
			}
			if !same(object, doc.Content[0]) {
				t.Errorf("another object:\n%s", text)
			}
			if got := strings.Count(string(text[:strings.Index(string(text), "name")]), "\n") + 1; got != c.line {
				t.Errorf("the name is on line %d, want %d:\n%s", got, c.line, text)
			}
		})
	}
}

// What is wrong in an object is found before anything is made.
func TestObjectsAreRead(t *testing.T) {
	const head = "apiVersion: viarule.io/v1alpha1\nkind: Lab\nmetadata: {name: x}\nspec:\n  hosts:\n  - name: a\n    objects:\n"
	const bad = "apiVersion: viarule.io/v1alpha1\nkind: RoutingPolicy\nmetadata: {name: p}\nspec:\n  rules:\n  - {from: [10.0.0.1/8], table: main}\n"
	dir := t.TempDir()
	file := filepath.Join(dir, "p.yaml")
	if err := os.WriteFile(file, []byte(bad), 0o600); err != nil {
		t.Fatal(err)
	}
	lab := filepath.Join(dir, "lab.yaml")
	for text, want := range map[string]string{
		head + "    - p.yaml\n": file + ":6: ",
		head + "    - " + strings.ReplaceAll(bad, "\n", "\n      "): lab + ":13: ",
	} {
		if err := os.WriteFile(lab, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Load(lab)
		var in *InputError
		if !errors.As(err, &in) || !strings.HasPrefix(err.Error(), want) || !strings.Contains(err.Error(), "10.0.0.1/8") {
			t.Errorf("got %v; want %s... 10.0.0.1/8", err, want)
		}
	}
}

// A check may name a link that an object makes; the lab itself has no use for it.
func TestLinksThatObjectsMake(t *testing.T) {
	const file = "../../examples/lab/external-vlan.yaml"
	l, err := Load(file)
	if err != nil {
		t.Fatal(err)
	}
	if got := l.related(Place{"node", "eth0.100"}); !slices.Equal(got, []string{"node/eth0"}) {
		t.Errorf("the VLAN's packets are also seen at %v", got)
	}
	if l.hasLink("node", "eth0.100") || l.willHaveLink("fw", "eth0.100") {
		t.Error("the link is there before the objects, or on another host")
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.OpenRoot(filepath.Dir(file))
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	early := strings.Replace(string(text), "{to: default, via: 192.168.1.1}", "{to: default, via: 1.2.3.1, dev: eth0.100}", 1)
	if _, err := Parse(file, []byte(early), dir); err == nil || !strings.Contains(err.Error(), "host node has no link eth0.100") {
		t.Errorf("a route of the lab by that link: got %v", err)
	}
}

func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("testdata/bad/*.yaml")
	more, _ := filepath.Glob("../../examples/lab/*.yaml")
	for _, name := range append(files, more...) {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := Parse("lab.yaml", text, nil)
		var in *InputError
		if (l == nil) == (err == nil) || err != nil && (!errors.As(err, &in) || len(in.Problems) == 0) {
			t.Fatalf("%v, %v", l, err)
		}
		if l != nil && !ValidName(l.Name) {
			t.Fatalf("name %q", l.Name)
		}
	})
}
