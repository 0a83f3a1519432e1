package rttables

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/viarule/viarule/internal/netnstest"
)

// TestAgainstIP gives `ip` and this package the same random files, and compares
// what each name means and how each number is shown.
func TestAgainstIP(t *testing.T) {
	netnstest.New(t, netnstest.Mounts())
	d := System()
	const seed = 20261123
	r := rand.New(rand.NewPCG(seed, 0))
	ids := []string{"7", "263", "255", "256", "0x100", "0xFE", "1000", "100000", "2147483647", "0", "007"}
	names := []string{"a", "b", "c", "main", "up-1", "x.y", "z_"}
	spaces := []string{" ", "\t", "  \t", ""}
	for round := range 60 {
		write := func(path string) {
			var b strings.Builder
			for range r.IntN(7) {
				pick := func(list []string) string { return list[r.IntN(len(list))] }
				switch r.IntN(12) {
				case 0:
					b.WriteString("# 9 comment\n")
				case 1:
					b.WriteString(" \t\n\n")
				case 2:
					b.WriteString("#" + strings.Repeat("y ", 200+r.IntN(150)) + "\n")
				case 3:
					if r.IntN(4) == 0 {
						b.WriteString("damaged\n")
					}
				default:
					fmt.Fprintf(&b, "%s%s%s%s%s\n", pick(spaces), pick(ids), spaces[r.IntN(3)], pick(names), pick([]string{"", " ", " # c", "#c", "\r", " extra"}))
				}
			}
			must(t, os.WriteFile(path, []byte(b.String()), 0o644))
		}
		write(d.Etc + "/rt_tables")
		write(d.Etc + "/rt_tables.d/only.conf") // one: `ip` has no fixed order for several
		got, err := d.Tables()
		must(t, err)
		compare(t, fmt.Sprintf("seed %d, round %d", seed, round), got, names)
		if t.Failed() {
			for _, f := range []string{"/rt_tables", "/rt_tables.d/only.conf"} {
				text, _ := os.ReadFile(d.Etc + f)
				t.Logf("%s:\n%q", f, text)
			}
			return
		}
	}
}

var ruleLine = regexp.MustCompile(`(?m)^(\d+):.* lookup (\S+)`)

// rules gives the tables of the namespace's rules by priority, as ip shows them.
func rules(t *testing.T, args ...string) map[string]string {
	t.Helper()
	m := make(map[string]string)
	for _, f := range ruleLine.FindAllStringSubmatch(netnstest.Exec(t, "ip", append(args, "rule")...), -1) {
		m[f[1]] = f[2]
	}
	return m
}

func compare(t *testing.T, where string, got Names, names []string) {
	t.Helper()
	// Each name in a process of its own: `ip` ends at one it does not know.
	for i, name := range names {
		_ = exec.Command("ip", "rule", "add", "pref", fmt.Sprint(1000+i), "table", name).Run()
	}
	var batch strings.Builder
	var ids []uint32
	for id := range got.ByID {
		if id != 0 {
			fmt.Fprintf(&batch, "rule add pref %d table %d\n", 2000+len(ids), id)
			ids = append(ids, id)
		}
	}
	c := exec.Command("ip", "-batch", "-")
	c.Stdin = strings.NewReader(batch.String())
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%s: ip -batch: %v\n%s\n%s", where, err, out, batch.String())
	}
	numbers, shown := rules(t, "-N"), rules(t)
	for i, name := range names {
		want := numbers[fmt.Sprint(1000+i)]
		have := ""
		// `ip` takes number 0 for no table, and makes the rule one for main.
		if id, ok := got.ByName[name]; ok && id != 0 {
			have = fmt.Sprint(id)
		} else if ok && id == 0 {
			continue
		}
		if have != want {
			t.Errorf("%s: name %s is %q, and ip takes it for %q", where, name, have, want)
		}
	}
	for i, id := range ids {
		if want := shown[fmt.Sprint(2000+i)]; got.ByID[id] != want {
			t.Errorf("%s: number %d is %q, and ip shows %q", where, id, got.ByID[id], want)
		}
	}
	netnstest.Exec(t, "ip", "rule", "flush")
	netnstest.IP(t, "rule add pref 32766 table 254")
}

// TestIPShowsOurNames has ip print rules by what is written here.
func TestIPShowsOurNames(t *testing.T) {
	netnstest.New(t, netnstest.Mounts())
	d := System()
	_, err := d.WriteTables(map[string]uint32{"uplink": 5000})
	must(t, err)
	_, err = d.WriteProtocols(true)
	must(t, err)
	netnstest.IP(t, "rule add pref 2200 from 10.0.0.0/8 table uplink protocol viarule")
	if got := netnstest.Exec(t, "ip", "rule"); !strings.Contains(got, "2200:\tfrom 10.0.0.0/8 lookup uplink proto viarule") {
		t.Errorf("ip shows\n%s", got)
	}
}
