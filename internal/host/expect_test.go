package host_test

import (
	"strings"
	"testing"

	"github.com/viarule/viarule/internal/host"
	"github.com/viarule/viarule/internal/netnstest"
)

// TestExpectationsWriteNothing: an object that gets, changes or loses expectations
// asks for the same of the kernel as before, and the record has its new text.
func TestExpectationsWriteNothing(t *testing.T) {
	netnstest.New(t, netnstest.Mounts())
	gateways(t)
	const policy = `apiVersion: viarule.io/v1alpha1
kind: RoutingPolicy
metadata: {name: second}
spec:
  tables:
  - {name: second, routes: [{to: 0.0.0.0/0, via: 10.0.2.2}, {to: "::/0", via: "2001:db8:2::2"}]}
  rules:
  - {from: [10.0.9.1, "2001:db8:9::1"], table: second}
`
	const external = `---
apiVersion: viarule.io/v1alpha1
kind: ExternalNetwork
metadata: {name: services}
spec:
  interface: {name: eth1}
  addresses: [203.0.113.0/24, "2001:db8:77::/64"]
  gateways: [10.0.1.2, "2001:db8:1::2"]
  mark: 0x100
`
	const some = `  expect:
  - {name: four, from: 10.0.9.1, to: 198.51.100.9, leaves: {dev: eth2, via: 10.0.2.2}}
  - {name: six, from: "2001:db8:9::1", to: "2001:db8:ff::9", leaves: {dev: eth2}, verdict: Sent}
`
	const others = `  expect:
  - {name: four, to: 198.51.100.9, fwmark: 0x100, leaves: {dev: eth1, via: 10.0.1.2}}
  - {name: six, to: "2001:db8:ff::9", fwmark: 0x100, leaves: {dev: eth1}, verdict: Sent}
`
	kernel := func() string {
		var b strings.Builder
		for _, args := range [][]string{{"ip", "-4", "rule"}, {"ip", "-6", "rule"}, {"ip", "-4", "route", "show", "table", "all"}, {"ip", "-6", "route", "show", "table", "all"}} {
			b.WriteString(netnstest.Exec(t, args[0], args[1:]...))
		}
		return b.String()
	}
	h := openHost(t)
	applyText(t, h, policy+external)
	before := kernel()
	if !strings.Contains(before, "lookup second") || !strings.Contains(before, "0x100") {
		t.Fatalf("the objects are not applied:\n%s", before)
	}
	for _, step := range []struct {
		what, text string
		records    int
	}{
		{"expectations of both kinds", policy + some + external + others, 4},
		{"other expectations", policy + others + external + some, 4},
		{"of one kind", policy + external + others, 2},
		{"none", policy + external, 0},
	} {
		p, err := h.Plan(t.Context(), parse(t, step.text), host.PlanOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if !p.Plan.Empty() {
			t.Errorf("%s: the plan would write to the kernel: %s", step.what, p.Plan.Summary())
		}
		applyText(t, h, step.text)
		if after := kernel(); after != before {
			t.Errorf("%s: before\n%s\nafter\n%s", step.what, before, after)
		}
		list, err := h.Expectations(t.Context(), nil)
		if err != nil || len(list) != step.records {
			t.Errorf("%s: %d expectations in the records, want %d (%v)", step.what, len(list), step.records, err)
		}
		for _, x := range list {
			if !x.Holds {
				t.Errorf("%s: %s", step.what, x)
			}
		}
	}
}
