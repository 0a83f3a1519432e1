package specfile

import (
	"strings"
	"testing"
)

func TestParseReadsTheExampleOfTheDesign(t *testing.T) {
	objs, problems := Parse("f.yaml", []byte(`apiVersion: viarule.io/v1alpha1
kind: RoutingPolicy
metadata: {name: two-tables}
spec:
  tables:
  - {name: custom, id: 200, routes: [{to: 192.168.10.0/24, dev: eth1}, {to: default, via: 10.10.10.23, dev: eth0}]}
  rules:
  - {from: [10.10.10.10], table: custom}
  - {to: [12.12.12.12], priority: 300, table: main}
`))
	for _, p := range problems {
		t.Error(p)
	}
	if len(objs) != 1 || objs[0].String() != "RoutingPolicy/two-tables" {
		t.Fatalf("objects: %v", objs)
	}
	p := objs[0].Policy
	if got := p.Tables[0].Routes[1].To.String(); got != "0.0.0.0/0" {
		t.Errorf("default is %s", got)
	}
	if got := p.Rules[1]; got.Priority.Val != 300 || got.Table.Name != "main" || got.To[0].String() != "12.12.12.12/32" || got.Pos.Line != 9 {
		t.Errorf("rule: %+v", got)
	}
}

func TestParseTellsEveryFault(t *testing.T) {
	_, problems := Parse("f.yaml", []byte(`apiVersion: viarule.io/v1alpha1
kind: RoutingPolicy
metadata: {name: a}
spec:
  tables:
  - name: t
    routes:
    - {to: 10.0.0.1/8, vai: 10.0.0.1}
    - {to: default, dev: eth0}
  rules:
  - {from: 10.0.0.1, table: yes}
---
kind: [
`))
	want := []string{
		"f.yaml:8: spec.tables[0].routes[0].to: 10.0.0.1/8 has bits set behind its length; write 10.0.0.0/8",
		`f.yaml:8: spec.tables[0].routes[0]: unknown key "vai"; did you mean via?`,
		"f.yaml:9: spec.tables[0].routes[1].to: default is of no family here; write 0.0.0.0/0 or ::/0",
		"f.yaml:11: spec.rules[0].from: this is a string, not a list; write [10.0.0.1]",
		"f.yaml:11: spec.rules[0].table: yes is a boolean; write a number, or a name in quotes",
		"f.yaml:14: not YAML: did not find expected node content",
	}
	var got []string
	for _, p := range problems {
		got = append(got, p.String())
	}
	if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
		t.Errorf("got\n%s\nwant\n%s", g, w)
	}
}
