package crd

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/viarule/viarule/internal/spec"
	"github.com/viarule/viarule/internal/specfile"
)

// files are the examples for users and the fixtures of internal/specfile.
func files(t *testing.T, pattern string) []string {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil || len(names) == 0 {
		t.Fatalf("no files %s: %v", pattern, err)
	}
	return names
}

type document struct {
	name string // file:line
	text []byte
}

func documents(t *testing.T, name string) []document {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var docs []document
	line := 1
	for part := range bytes.SplitSeq(data, []byte("\n---\n")) {
		if len(bytes.TrimSpace(comments.ReplaceAll(part, nil))) > 0 {
			docs = append(docs, document{fmt.Sprintf("%s:%d", filepath.Base(name), line), part})
		}
		line += bytes.Count(part, []byte("\n")) + 2
	}
	return docs
}

var comments = regexp.MustCompile(`(?m)^#.*$`)

// ofFile is the verdict of viarule, with the bounds of the cluster.
func ofFile(d document) error {
	objs, problems := specfile.Parse(d.name, d.text)
	problems = append(problems, spec.Validate(objs, spec.Known{Limits: spec.ClusterLimits()})...)
	for _, p := range problems {
		if p.Severity == spec.Error {
			return fmt.Errorf("%s", p)
		}
	}
	return nil
}

// agree demands one verdict of both.
func agree(t *testing.T, d document, valid bool) {
	t.Helper()
	byFile, byServer := ofFile(d), definitionOf(t, d.text).validate(d.text)
	if (byFile == nil) != valid {
		t.Errorf("%s: viarule says: %v", d.name, byFile)
	}
	if (byServer == nil) != valid {
		t.Errorf("%s: the API server says: %v\n%s", d.name, byServer, d.text)
	}
}

func TestExamplesAreValidForBoth(t *testing.T) {
	for _, name := range append(files(t, "../../examples/*.yaml"), files(t, "../../internal/specfile/testdata/warn/*.yaml")...) {
		for _, d := range documents(t, name) {
			agree(t, d, true)
		}
	}
}

// fileOnly marks fixtures that only viarule refuses, with the reason.
var fileOnly = regexp.MustCompile(`(?m)^# file-only: (.+)$`)

func TestBadExamplesAreBadForBoth(t *testing.T) {
	n, only := 0, 0
	for _, name := range files(t, "../../internal/specfile/testdata/bad/*.yaml") {
		for _, d := range documents(t, name) {
			if fileOnly.Match(d.text) {
				only++
				if ofFile(d) == nil {
					t.Errorf("%s: viarule takes it", d.name)
				}
				// A reason that is none any more must go.
				if err := definitionOf(t, d.text).validate(d.text); err != nil {
					t.Errorf("%s: marked as file-only, but the API server refuses it: %v", d.name, err)
				}
				continue
			}
			n++
			agree(t, d, false)
		}
	}
	t.Logf("%d bad examples, and %d that only a file can have", n, only)
}

// TestValuesAtTheirBounds: what is just allowed, and the first that is not.
func TestValuesAtTheirBounds(t *testing.T) {
	const head = "apiVersion: viarule.io/v1alpha1\nkind: RoutingPolicy\nmetadata: {name: a}\nspec:\n"
	route := func(s string) string { return head + "  tables: [{name: t, routes: [{" + s + "}]}]\n" }
	rule := func(s string) string { return head + "  rules: [{" + s + ", table: main}]\n" }
	tables := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "  - {name: t%d, id: %d}\n", i, 1000+i)
		}
		return head + "  tables:\n" + b.String()
	}
	repeat := func(n int, f func(i int) string) string {
		var parts []string
		for i := range n {
			parts = append(parts, f(i))
		}
		return strings.Join(parts, ", ")
	}
	net := func(i int) string { return fmt.Sprintf("10.%d.%d.0/24", i>>8, i&255) }
	l := spec.ClusterLimits()
	for _, c := range []struct {
		name, text string
		valid      bool
	}{
		{"most tables", tables(l.Tables), true},
		{"a table more", tables(l.Tables + 1), false},
		{"most routes", head + "  tables: [{name: t, routes: [" + repeat(l.Routes, func(i int) string { return "{to: " + net(i) + ", dev: eth0}" }) + "]}]\n", true},
		{"a route more", head + "  tables: [{name: t, routes: [" + repeat(l.Routes+1, func(i int) string { return "{to: " + net(i) + ", dev: eth0}" }) + "]}]\n", false},
		{"most next hops", route("to: 10.0.0.0/8, nexthops: [" + repeat(l.Nexthops, func(i int) string { return fmt.Sprintf("{via: 192.0.2.%d}", i+1) }) + "]"), true},
		{"a next hop more", route("to: 10.0.0.0/8, nexthops: [" + repeat(l.Nexthops+1, func(i int) string { return fmt.Sprintf("{via: 192.0.2.%d}", i+1) }) + "]"), false},
		{"most rules", head + "  rules: [" + repeat(l.Rules, func(i int) string { return "{from: [" + net(i) + "], table: main}" }) + "]\n", true},
		{"a rule more", head + "  rules: [" + repeat(l.Rules+1, func(i int) string { return "{from: [" + net(i) + "], table: main}" }) + "]\n", false},
		{"most prefixes", rule("from: [" + repeat(l.Prefixes, net) + "], to: [" + repeat(l.Prefixes, net) + "]"), true},
		{"a prefix more", rule("from: [" + repeat(l.Prefixes+1, net) + "]"), false},
		{"the largest numbers", route("to: 10.0.0.0/8, dev: eth0, metric: 4294967295, mtu: 65520, advmss: 65495"), true},
		{"the smallest numbers", route("to: 10.0.0.0/8, dev: eth0, metric: 0, mtu: 68, advmss: 88"), true},
		{"weights", route("to: 10.0.0.0/8, nexthops: [{dev: eth0, weight: 1}, {dev: eth1, weight: 256}]"), true},
		{"the largest rule numbers", rule("from: [10.0.0.1], priority: 4294967295, suppressPrefixLength: 128, suppressIfGroup: 2147483647"), true},
		{"numbers in quotes", rule(`family: IPv4, fwmark: "4294967295", ipproto: "17", sport: "65534", dport: "1-65534", tos: "28", uidrange: "0-4294967294", realms: "65535/65535", suppressIfGroup: "7"`), true},
		{"numbers", rule("family: IPv4, fwmark: 4294967295, ipproto: 6, sport: 65534, dport: 1, tos: 28, uidrange: 4294967294, realms: 65535, suppressIfGroup: 0"), true},
		{"names and ranges", rule("family: IPv4, fwmark: 0xFF00/0xffff0000, ipproto: udp, sport: 1-1, uidrange: 5-5, suppressIfGroup: default"), false},
		{"names and ranges within the mask", rule("family: IPv4, fwmark: 0xFF00/0xffff, ipproto: udp, sport: 1-1, uidrange: 5-5, suppressIfGroup: default, dscp: AF41"), true},
		{"a full mask", rule("fwmark: 0x0/0xffffffff"), true},
		{"a wide mask", rule("fwmark: 0xa5/0x00000FF"), true},
		{"the largest TOS of IPv6", rule("family: IPv6, tos: 0xfc"), true},
		{"TOS with zeros", rule(`tos: "0x0010"`), true},
		{"the largest DSCP", rule("dscp: 63"), true},
		{"the largest table", head + "  rules: [{from: [10.0.0.1], table: 4294967295}, {from: [10.0.0.2], table: \"4294967295\"}]\n", true},
		{"false says nothing", rule("from: [10.0.0.1], not: false"), true},
		{"onlink false says nothing", route("to: 10.0.0.0/8, dev: eth0, onlink: false"), true},
		{"onlink false beside nexthops", route("to: 10.0.0.0/8, onlink: false, nexthops: [{dev: eth0, onlink: false}]"), true},
		{"onlink false of a blackhole", route("to: 10.0.0.0/8, type: Blackhole, onlink: false"), true},
		{"a blackhole with a scope", route("to: 10.0.0.0/8, type: Blackhole, scope: Host"), true},
		{"an IPv6 blackhole with a scope", route("to: \"2001:db8::/32\", type: Blackhole, scope: Host"), false},
		{"default by src", route("to: default, dev: eth0, src: 192.0.2.9, scope: Link"), true},
		{"IPv4 default by an IPv6 gateway", route("to: default, dev: eth0, via: \"fe80::1\", src: 192.0.2.9"), true},
		{"IPv6 default by next hops", route("to: default, src: \"2001:db8::9\", nexthops: [{via: \"fe80::1\", dev: eth0}, {dev: eth1}]"), true},
		{"IPv4 default by mixed next hops", route("to: default, nexthops: [{via: \"fe80::1\", dev: eth0}, {via: 192.0.2.1}], scope: Global"), true},
		{"a mixed default with an IPv6 src", route("to: default, via: 192.0.2.1, nexthops: [{via: \"fe80::1\", dev: eth0}], src: \"2001:db8::9\""), false},
		{"an IPv4 link-local gateway", route("to: 10.0.0.0/8, via: 169.254.0.1"), true},
		{"a gateway of class E", route("to: 10.0.0.0/8, via: 240.0.0.1"), true},
		{"a gateway of 255", route("to: 10.0.0.0/8, via: 255.1.2.3"), false},
		{"a short gateway", route("to: \"2001:db8::/32\", via: \"ff::1\""), true},
		{"link names of all kinds", head + "  rules: [{iif: eth0.100, table: main}, {iif: a, table: main}, {iif: .a, table: main}, {iif: a., table: main}, {iif: wg-a_b+c@d, table: main}, {iif: '...', table: main}, {iif: fifteen-letters, table: main}]\n", true},
		{"all labels", head + "  nodeSelector: {matchLabels: {a: b}, matchExpressions: [{key: a, operator: In, values: [b, c]}, {key: d, operator: Exists}]}\n  deletionPolicy: Orphan\n", true},
		{"nothing", head[:len(head)-len("spec:\n")] + "spec: {}\n", true},
		{"empty lists", head + "  tables: [{name: t, routes: []}]\n  rules: []\n", true},
	} {
		t.Run(c.name, func(t *testing.T) { agree(t, document{c.name, []byte(c.text)}, c.valid) })
	}
}
