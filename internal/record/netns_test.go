package record

import (
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/viarule/viarule/internal/netnstest"
	"github.com/viarule/viarule/internal/spec"
)

func tablesText(t *testing.T, s Store) string {
	t.Helper()
	tables, err := s.Tables()
	must(t, err)
	return renderTables(tables)
}

func renderTables(tables Tables) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(tables.Names)) {
		out = append(out, fmt.Sprintf("%s=%d", name, tables.Names[name]))
	}
	out = append(out, "used:")
	for _, id := range slices.Sorted(maps.Keys(tables.Numbers)) {
		out = append(out, fmt.Sprint(id))
	}
	return strings.Join(out, " ")
}

// TestTablesOfTheHost goes through the life of a named namespace beside the one
// of this process.
func TestTablesOfTheHost(t *testing.T) {
	netnstest.New(t, netnstest.Mounts())
	path := netnstest.Named(t, "blue")
	s := Store{Dir: "/run/viarule"}
	own, blue := lock(t, s.Namespace(1)), lock(t, s.Namespace(2))

	must(t, own.Stage(Change{Put: []Object{object(t, "one", "table uplink 5000\ntable both 5001")}}))
	must(t, own.Commit())
	must(t, blue.Stage(Change{Put: []Object{object(t, "one", "table both 5001\ntable blue 5002")}, Path: path}))
	must(t, blue.Commit())
	equal(t, "both", tablesText(t, s), "blue=5002 both=5001 uplink=5000 used: 5000 5001 5002")
	others, err := s.TablesOfOthers(2)
	must(t, err)
	equal(t, "but blue", renderTables(others), "both=5001 uplink=5000 used: 5000 5001")

	must(t, own.Stage(Change{Put: []Object{object(t, "one", "table other 5003")}}))
	equal(t, "while a change is staged", tablesText(t, s), "blue=5002 both=5001 other=5003 uplink=5000 used: 5000 5001 5002 5003")
	must(t, own.Commit())
	equal(t, "afterwards", tablesText(t, s), "blue=5002 both=5001 other=5003 used: 5001 5002 5003")

	if out, err := exec.Command("ip", "netns", "del", "blue").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	equal(t, "without blue", tablesText(t, s), "other=5003 used: 5003")
	if list, err := s.Namespace(2).List(); err != nil || len(list) != 1 {
		t.Errorf("the records of blue: %v %v", list, err)
	}

	must(t, own.Stage(Change{Remove: []spec.Ref{{Kind: spec.KindRoutingPolicy, Name: "one"}}}))
	must(t, own.Commit())
	equal(t, "nothing left", tablesText(t, s), "used:")
}

func TestStageNeedsTheNamespace(t *testing.T) {
	l := lock(t, store(t).Namespace(1))
	err := l.Stage(Change{Path: "/run/netns/there-is-none"})
	if err == nil || !strings.Contains(err.Error(), "/run/netns/there-is-none") {
		t.Errorf("error %v", err)
	}
}
