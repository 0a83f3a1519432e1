package external

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/owner"
	"github.com/viarule/viarule/internal/spec"
	"github.com/viarule/viarule/internal/specfile"
)

var update = flag.Bool("update", false, "write testdata/lower anew; read the difference before you commit it")

// Each file of testdata/lower has these sections, each behind a line `-- name --`:
//
//   - have: the host, as netstate.ParseState reads it, and besides `sysctl KEY =
//     VALUE`, `gateway LINK ADDRESS answers|silent`, `chain FAMILY TABLE CHAIN` of
//     another program, `ipvs`, `name TABLE = NUMBER`;
//   - before: objects that are applied already (may be left out);
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
			head, s := sections(string(data))
			f := factsOf(t, s["have"])
			if s["before"] != "" {
				if low := Lower(parse(t, s["before"]), f); low.Nft != nil {
					f.State.Nft = append(f.State.Nft, *low.Nft)
				}
			}
			objects := parse(t, s["objects"])
			low := Lower(objects, f)
			got := textOf(&low)
			if again := Lower(objects, f); textOf(&again) != got {
				t.Error("the same objects give something else the second time")
			}
			if *update {
				s["want"] = got
				if err := os.WriteFile(name, []byte(joined(head, s)), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != s["want"] {
				t.Errorf("got:\n%s\nwant:\n%s", got, s["want"])
			}
		})
	}
}

var sectionNames = []string{"have", "before", "objects", "want"}

func sections(text string) (head string, s map[string]string) {
	s = map[string]string{}
	name := ""
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, "-- "); ok && strings.HasSuffix(rest, " --\n") {
			name = strings.TrimSuffix(rest, " --\n")
			continue
		}
		if s[name] += line; name == "" {
			head = s[name]
		}
	}
	return head, s
}

func joined(head string, s map[string]string) string {
	b := head
	for _, name := range sectionNames {
		if s[name] != "" {
			b += "-- " + name + " --\n" + s[name]
		}
	}
	return b
}

func parse(t *testing.T, text string) []*spec.Object {
	t.Helper()
	objects, problems := specfile.Parse("net.yaml", []byte(text))
	if spec.Failed(problems) {
		t.Fatalf("%v", problems)
	}
	if problems = spec.Validate(objects, spec.Known{}); spec.Failed(problems) {
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
	f := Facts{Sysctls: map[string]string{}, Gateways: map[netstate.NeighKey]netstate.NeighState{}}
	names := map[uint32]string{}
	f.TableName = func(id uint32) string { return names[id] }
	var rest strings.Builder
	for line := range strings.Lines(text) {
		w := strings.Fields(line)
		if len(w) == 0 {
			continue
		}
		switch w[0] {
		case "sysctl":
			f.Sysctls[w[1]] = w[3]
		case "gateway":
			key := netstate.NeighKey{Dev: w[1], Addr: netip.MustParseAddr(w[2])}
			f.Gateways[key] = map[string]netstate.NeighState{"answers": netstate.NeighAnswers, "silent": netstate.NeighSilent}[w[3]]
		case "chain":
			f.Around.Chains = append(f.Around.Chains, netstate.NftName{Family: w[1], Table: w[2], Chain: w[3]})
		case "ipvs":
			f.Around.IPVS = true
		case "name":
			var id uint32
			if _, err := fmt.Sscan(w[3], &id); err != nil {
				t.Fatal(err)
			}
			names[id] = w[1]
		default:
			rest.WriteString(line)
		}
	}
	s := state(t, rest.String())
	f.State = &s
	f.Neighbours = owner.Match(&s, &f.Around)
	return f
}

// textOf says all that Lower made, one thing a line.
func textOf(l *Lowered) string {
	var b strings.Builder
	for i := range l.Links {
		fmt.Fprintf(&b, "%s\n", strings.Replace(l.Links[i].String(), "link 0 ", "link ", 1))
	}
	for i := range l.Networks {
		n := &l.Networks[i]
		fmt.Fprintf(&b, "%s\n", n.Object.Ref)
		for j := range n.Policy.Tables {
			tb := &n.Policy.Tables[j]
			for k := range tb.Routes {
				fmt.Fprintf(&b, "  %s: %s\n", n.Path(tb.Routes[k].Pos), routeText(tb, &tb.Routes[k]))
			}
		}
		for j := range n.Policy.Rules {
			r := &n.Policy.Rules[j]
			fmt.Fprintf(&b, "  %s: %s\n", n.Path(r.Pos), ruleText(r))
		}
	}
	for i := range l.Sysctls {
		s := &l.Sysctls[i]
		made := ""
		if s.Made {
			made = ", of a link that is made"
		}
		fmt.Fprintf(&b, "%s  # %s%s\n", s.Sysctl, s.Object.Name, made)
	}
	if l.Nft != nil {
		var of []string
		for _, o := range l.NftOf {
			of = append(of, o.Name)
		}
		fmt.Fprintf(&b, "%s# of %s\n", l.Nft, strings.Join(of, ", "))
	}
	for _, n := range l.Notes {
		fmt.Fprintf(&b, "note: %s: %s\n", n.Object.Name, n.Text)
	}
	for i := range l.Problems {
		p := &l.Problems[i]
		fmt.Fprintf(&b, "%s: %s\n", map[spec.Severity]string{spec.Error: "error", spec.Warning: "warning"}[p.Severity], p)
	}
	return b.String()
}

func routeText(t *spec.Table, r *spec.Route) string {
	ref := t.Name
	if t.ID != 0 {
		ref += fmt.Sprintf(" (%d)", t.ID)
	}
	out := netstate.Route{Family: netstate.FamilyOf(r.To.Addr()), To: r.To, Type: r.Type, Metric: r.Metric}
	out.Hop = netstate.Hop{Via: r.Via, Dev: r.Dev, OnLink: r.OnLink}
	for _, h := range r.Nexthops {
		out.Hops = append(out.Hops, netstate.Hop{Via: h.Via, Dev: h.Dev, OnLink: h.OnLink, Weight: h.Weight})
	}
	return strings.Replace(out.String(), " table 0", "", 1) + " table " + ref
}

// ruleText writes a rule in netstate's words, with its lists of prefixes.
func ruleText(r *spec.Rule) string {
	out := netstate.Rule{Family: r.Family, IIF: r.IIF, Mark: r.Mark, Action: r.Action, Table: 1, SuppressPrefixLength: r.SuppressPrefixLength}
	list := slices.Concat(r.From, r.To)
	if len(list) > 0 {
		out.Family = netstate.FamilyOf(list[0].Addr())
	}
	text := out.String()
	prio := "auto"
	if r.Priority.Set {
		prio = fmt.Sprint(r.Priority.Val)
	}
	text = strings.Replace(text, "rule 0 ", "rule "+prio+" ", 1)
	text = strings.Replace(text, "rule -6 0 ", "rule -6 "+prio+" ", 1)
	if len(r.From) > 0 {
		text = strings.Replace(text, "from all", "from "+prefixTexts(r.From), 1)
	}
	if len(r.To) > 0 {
		text += " to " + prefixTexts(r.To)
	}
	return strings.Replace(text, " table 1", " table "+r.Table.String(), 1)
}

func prefixTexts(list []netip.Prefix) string {
	var out []string
	for _, p := range list {
		out = append(out, p.String())
	}
	return strings.Join(out, ",")
}
