package importer

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/viarule/viarule/internal/netstate/netstatetest"
	"github.com/viarule/viarule/internal/spec"
	"github.com/viarule/viarule/internal/specfile"
)

type names map[uint32]string

func (n names) Table(id uint32) string { return n[id] }

func TestImport(t *testing.T) {
	const have = `
rule 0 from all table 255 proto 2
rule 100 from 10.0.0.1/32 table 77
rule 101 not from all fwmark 0x10/0xf0 iif eth1 ipproto tcp dport 80-90 table 200 proto 3
rule 102 from all to 10.98.0.0/16 prohibit proto 4
rule 103 from 10.9.0.0/16 table 52 proto 99
rule 104 from all table 77 unknown 0500630001000000
rule 105 from all dport 80 table 77
rule 2200 from 10.7.0.0/16 table 77 proto 118
rule 32766 from all table 254 proto 2
rule -6 100 from 2001:db8::/64 goto 200
rule -6 200 from all nop
route default via 192.0.2.1 dev eth1 table 77 proto 3
route unreachable 10.99.0.0/16 table 254 proto 4
route 192.0.2.0/24 dev eth1 table 254 proto 2 scope link src 192.0.2.7
route 198.51.100.0/24 via 192.0.2.9 dev eth1 table 254 proto 186
route 203.0.113.0/24 nexthop via 192.0.2.1 dev eth1 weight 2 nexthop via 192.0.2.2 dev eth1 weight 1 table 200 proto 3
route -6 default via fe80::1 dev eth1 table 200 metric 1024 proto 3
route -6 2001:db8:9::/48 via fe80::1 dev eth1 table 200 metric 7 proto 3 mtu 1400
route 127.0.0.1/32 dev lo table 255 proto 2 scope host
`
	got := Import(netstatetest.ParseState(t, strings.TrimSpace(have)), names{200: "custom"})
	text := string(specfile.Marshal(spec.Object{Ref: spec.Ref{Kind: spec.KindRoutingPolicy, Name: "x"}, Policy: &got.Policy}))
	objects, problems := specfile.Parse("x.yaml", []byte(text))
	if problems = append(problems, spec.Validate(objects, spec.Known{})...); spec.Failed(problems) {
		t.Fatalf("what was imported is refused: %v\n%s", problems, text)
	}
	var seen []string
	for _, table := range got.Policy.Tables {
		seen = append(seen, fmt.Sprintf("table %s %d: %d routes", table.Name, table.ID, len(table.Routes)))
	}
	for _, r := range got.Policy.Rules {
		seen = append(seen, fmt.Sprintf("rule %d", r.Priority.Val))
	}
	want := []string{"table table-77 77: 1 routes", "table custom 200: 3 routes", "table main 0: 1 routes",
		"rule 100", "rule 101", "rule 102", "rule 100", "rule 200"}
	if !slices.Equal(seen, want) {
		t.Errorf("got %q\nwant %q\n%s", seen, want, text)
	}
	wantOut := []string{"route 198.51.100.0/24", "rule 103 ", "rule 104 ", "rule 105 "}
	for i, prefix := range wantOut {
		if i >= len(got.LeftOut) || !strings.HasPrefix(got.LeftOut[i], prefix) {
			t.Errorf("left out: %q, want one each of %q", got.LeftOut, wantOut)
			break
		}
	}
	if len(got.LeftOut) != len(wantOut) {
		t.Errorf("left out: %q", got.LeftOut)
	}
}
