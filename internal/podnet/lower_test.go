package podnet

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/spec"
	"github.com/viarule/viarule/internal/specfile"
)

var update = flag.Bool("update", false, "write testdata/lower anew; read the difference before you commit it")

// Each file of testdata/lower has these sections, each behind a line `-- name --`:
//
//   - have: the host, as netstate.ParseState reads it, and besides `sysctl KEY =
//     VALUE`, with `changed` behind it where viarule has changed it;
//   - objects;
//   - want: what Lower makes of them.
func TestLower(t *testing.T) {
	names, err := filepath.Glob("testdata/lower/*.txt")
	if err != nil || len(names) == 0 {
		t.Fatalf("no testdata: %v", err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txt"), func(t *testing.T) {
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			head, rest, ok1 := strings.Cut(string(data), "-- have --\n")
			have, rest, ok2 := strings.Cut(rest, "-- objects --\n")
			objects, want, ok3 := strings.Cut(rest, "-- want --\n")
			if !ok1 || !ok2 || !ok3 {
				t.Fatal("a section is missing")
			}
			f, objs := factsOf(t, have), parse(t, objects)
			low := Lower(objs, f)
			got := textOf(&low)
			if again := Lower(objs, f); textOf(&again) != got {
				t.Error("the same objects give something else the second time")
			}
			if *update {
				text := head + "-- have --\n" + have + "-- objects --\n" + objects + "-- want --\n" + got
				if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

func parse(t *testing.T, text string) []*spec.Object {
	t.Helper()
	objects, problems := specfile.Parse("pods.yaml", []byte(text))
	problems = append(problems, spec.Validate(objects, spec.Known{})...)
	if spec.Failed(problems) {
		t.Fatalf("%v", problems)
	}
	var out []*spec.Object
	for i := range objects {
		out = append(out, &objects[i])
	}
	return out
}

func factsOf(t *testing.T, text string) Facts {
	t.Helper()
	f := Facts{Sysctls: map[string]string{}, Changed: map[string]bool{}}
	var rest strings.Builder
	for line := range strings.Lines(text) {
		w := strings.Fields(line)
		if len(w) > 0 && w[0] == "sysctl" {
			f.Sysctls[w[1]] = w[3]
			f.Changed[w[1]] = len(w) > 4
			continue
		}
		rest.WriteString(line)
	}
	s, err := netstate.ParseState(rest.String())
	if err != nil {
		t.Fatal(err)
	}
	f.State = &s
	return f
}

// textOf says all that Lower made, one thing a line.
func textOf(l *Lowered) string {
	var b strings.Builder
	for i := range l.Networks {
		n := &l.Networks[i]
		fmt.Fprintf(&b, "%s forward %t\n", n.Object.Ref, n.Forward)
		for _, tb := range n.Policy.Tables {
			for k := range tb.Routes {
				r := &tb.Routes[k]
				out := netstate.Route{Family: netstate.FamilyOf(r.To.Addr()), To: r.To, Type: r.Type, Metric: r.Metric, Hop: netstate.Hop{Via: r.Via, Dev: r.Dev}}
				fmt.Fprintf(&b, "  %s: %s %s\n", n.Path(r.Pos), strings.Replace(out.String(), " table 0", "", 1), tb.Name)
			}
		}
	}
	for i := range l.Peers {
		p := &l.Peers[i]
		why := "reached"
		if p.Why != "" {
			why = p.Why
		}
		fmt.Fprintf(&b, "peer %s %s %s: %s\n", p.Object.Name, p.Node, p.Prefix, why)
	}
	for i := range l.Sysctls {
		fmt.Fprintf(&b, "%s  # %s\n", l.Sysctls[i].Sysctl, l.Sysctls[i].Object.Name)
	}
	if len(l.NftOf) > 0 {
		var of []string
		for _, o := range l.NftOf {
			of = append(of, o.Name)
		}
		t := netstate.CanonicalNft(netstate.NftTable{Name: netstate.NftTableObjects, Maps: l.Maps, Chains: l.Chains})
		fmt.Fprintf(&b, "%s# of %s\n", &t, strings.Join(of, ", "))
	}
	for _, n := range l.Notes {
		fmt.Fprintf(&b, "note: %s: %s\n", n.Object.Name, n.Text)
	}
	for i := range l.Problems {
		p := &l.Problems[i]
		lacking := ""
		if p.Lacking {
			lacking = " (lacking)"
		}
		fmt.Fprintf(&b, "%s%s\n", p, lacking)
	}
	return b.String()
}
