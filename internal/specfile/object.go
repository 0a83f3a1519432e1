package specfile

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/viarule/viarule/internal/spec"
)

// head is what every object has.
type head struct {
	apiVersion, kind, name string
	kindNode               *yaml.Node
	spec                   *yaml.Node
	specKey                spec.Pos
}

// skip is for what a file may hold and viarule has no use for.
func skip[T any](*decoder, *yaml.Node, *T) {}

var headFields = []field[head]{
	{"apiVersion", func(d *decoder, n *yaml.Node, h *head) { h.apiVersion, _ = d.str(n) }},
	{"kind", func(d *decoder, n *yaml.Node, h *head) { h.kind, _ = d.str(n); h.kindNode = n }},
	{"metadata", func(d *decoder, n *yaml.Node, h *head) {
		if seen, ok := mapping(d, n, h, metadataFields); ok && seen&1 == 0 {
			d.fail(n, "the name is missing", "write `name: …`")
		}
	}},
	{"spec", func(d *decoder, n *yaml.Node, h *head) { h.spec, h.specKey = n, d.key }},
}

// The fields after name are Kubernetes' own. Those that its API server sets are
// here so that what `kubectl get -o yaml` prints can be read.
var metadataFields = []field[head]{
	{"name", func(d *decoder, n *yaml.Node, h *head) {
		s, ok := d.str(n)
		if ok && !validName(s) {
			d.fail(n, fmt.Sprintf("%q cannot be the name of an object", clip(s)), "write lower case letters, digits, '-' and '.', 253 at most, with a letter or digit at both ends")
			return
		}
		h.name = d.intern(s)
	}},
	{"labels", skip[head]}, {"annotations", skip[head]}, {"creationTimestamp", skip[head]}, {"finalizers", skip[head]},
	{"generation", skip[head]}, {"managedFields", skip[head]}, {"ownerReferences", skip[head]},
	{"resourceVersion", skip[head]}, {"uid", skip[head]},
}

// validName is a DNS subdomain (RFC 1123), as Kubernetes wants it: names are
// parts of file names in /run/viarule as well.
func validName(s string) bool {
	if len(s) > spec.MaxObjectName {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		for i := 0; i < len(label); i++ {
			c := label[i]
			if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' && i > 0 && i < len(label)-1) {
				return false
			}
		}
		if label == "" {
			return false
		}
	}
	return true
}

// root decodes the root node of a document.
func (d *decoder) root(n *yaml.Node, doc document) spec.Object {
	o := spec.Object{File: d.file, Pos: d.place(n), Text: doc.text}
	var h head
	seen, ok := mapping(d, n, &h, headFields)
	if !ok {
		return o
	}
	o.Ref = spec.Ref{Kind: h.kind, Name: h.name}
	d.object = o.Ref
	for i := range headFields {
		if seen&(1<<i) == 0 {
			d.fail(n, headFields[i].key+" is missing", missing(headFields[i].key, h.kind))
		}
	}
	switch {
	case h.apiVersion == "" || h.kind == "":
		return o
	case h.apiVersion != APIVersion:
		d.enter("apiVersion")
		d.fail(n, fmt.Sprintf("%q is not known", clip(h.apiVersion)), "write "+APIVersion)
		d.leave()
		return o
	}
	for _, k := range kinds {
		if h.kind != k.name {
			continue
		}
		o.Kind = k.name
		if h.spec != nil {
			d.enter("spec")
			d.key = h.specKey
			k.read(d, h.spec, &o)
			d.leave()
		}
		return o
	}
	d.enter("kind")
	d.fail(h.kindNode, fmt.Sprintf("%q is not known", clip(h.kind)), "write "+kindNames(" or "))
	d.leave()
	return o
}

// kinds are the kinds of objects, and what reads the spec of each.
var kinds = []struct {
	name  string
	holds string // what spec has to hold, for a message
	read  func(*decoder, *yaml.Node, *spec.Object)
}{
	{spec.KindRoutingPolicy, "tables and rules", readPolicy},
	{spec.KindExternalNetwork, "interface and addresses", readExternal},
	{spec.KindPodNetwork, "podCIDRs and nodes", readPodNetwork},
}

func kindNames(between string) string {
	names := make([]string, len(kinds))
	for i := range kinds {
		names[i] = kinds[i].name
	}
	return strings.Join(names, between)
}

// missing says what to do about a key of the head that is not there.
func missing(key, kind string) string {
	switch key {
	case "apiVersion":
		return "write `apiVersion: " + APIVersion + "`"
	case "kind":
		return "write `kind: " + kindNames("` or `kind: ") + "`"
	case "metadata":
		return "write `metadata: {name: …}`"
	}
	for _, k := range kinds {
		if k.name == kind {
			return "write `spec:` with " + k.holds
		}
	}
	return "write `spec:`"
}

// deletionPolicy reads the key that every object's spec has.
func deletionPolicy(d *decoder, n *yaml.Node) spec.DeletionPolicy {
	return enum(d, n, spec.DeletionWords)
}

// nodeSelector checks the key that every object's spec has.
func nodeSelector[T any](d *decoder, n *yaml.Node, _ *T) { mapping(d, n, &struct{}{}, selectorFields) }

func readPolicy(d *decoder, n *yaml.Node, o *spec.Object) {
	s := policy{RoutingPolicy: &spec.RoutingPolicy{}}
	mapping(d, n, &s, policyFields)
	o.Policy, o.DeletionPolicy, o.Expect = s.RoutingPolicy, s.deletion, s.expect
}

type policy struct {
	*spec.RoutingPolicy
	deletion spec.DeletionPolicy
	expect   []spec.Expectation
}

var policyFields = []field[policy]{
	{"nodeSelector", nodeSelector[policy]},
	{"deletionPolicy", func(d *decoder, n *yaml.Node, p *policy) { p.deletion = deletionPolicy(d, n) }},
	{"expect", func(d *decoder, n *yaml.Node, p *policy) { expectations(d, n, &p.expect) }},
	{"tables", func(d *decoder, n *yaml.Node, p *policy) {
		d.list(n, func(size int) { p.Tables = slices.Grow(p.Tables, size) }, func(e *yaml.Node) {
			t := spec.Table{Pos: d.place(e)}
			if seen, ok := mapping(d, e, &t, tableFields); ok && seen&1 == 0 {
				d.fail(e, "the name is missing", "write `name: …`")
			}
			p.Tables = append(p.Tables, t)
		})
	}},
	{"rules", func(d *decoder, n *yaml.Node, p *policy) {
		d.list(n, func(size int) { p.Rules = slices.Grow(p.Rules, size-len(p.Rules)) }, func(e *yaml.Node) {
			r := rule{Rule: spec.Rule{Pos: d.place(e)}}
			d.rule(e, &r)
			p.Rules = append(p.Rules, r.Rule)
		})
	}},
}

// selectorFields is metav1.LabelSelector: a file is for this host, so that only
// its shape counts.
var selectorFields = []field[struct{}]{
	{"matchLabels", func(d *decoder, n *yaml.Node, _ *struct{}) { d.labels(n) }},
	{"matchExpressions", func(d *decoder, n *yaml.Node, _ *struct{}) {
		d.list(n, func(int) {}, func(e *yaml.Node) {
			if seen, ok := mapping(d, e, &struct{}{}, requirementFields); ok && seen&3 != 3 {
				d.fail(e, "key or operator is missing", "write `{key: …, operator: …}`")
			}
		})
	}},
}

var requirementFields = []field[struct{}]{
	{"key", func(d *decoder, n *yaml.Node, _ *struct{}) { d.str(n) }},
	{"operator", func(d *decoder, n *yaml.Node, _ *struct{}) { d.str(n) }},
	{"values", func(d *decoder, n *yaml.Node, _ *struct{}) {
		d.list(n, func(int) {}, func(e *yaml.Node) { d.str(e) })
	}},
}

// labels checks a mapping from any string to strings.
func (d *decoder) labels(n *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		d.fail(n, "this is "+describe(n)+", not a mapping", "write `key: value` pairs")
		return
	}
	seen := make(map[string]bool, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if !d.plainNode(key) || !d.plainNode(value) {
			continue
		}
		s, ok := d.str(key)
		if ok && seen[s] {
			d.fail(key, fmt.Sprintf("the key %q is written twice", clip(s)), "leave one of them out")
		}
		seen[s] = true
		d.str(value)
	}
}

var tableFields = []field[spec.Table]{
	{"name", func(d *decoder, n *yaml.Node, t *spec.Table) {
		if s, ok := d.str(n); ok {
			if err := spec.CheckTableName(s); err != nil {
				d.failValue(n, err)
				return
			}
			t.Name = d.intern(s)
		}
	}},
	{"id", func(d *decoder, n *yaml.Node, t *spec.Table) { t.ID = uint32(d.integer(n, 1, 1<<32-1)) }},
	{"routes", func(d *decoder, n *yaml.Node, t *spec.Table) {
		d.list(n, func(size int) { t.Routes = slices.Grow(t.Routes, size-len(t.Routes)) }, func(e *yaml.Node) {
			t.Routes = append(t.Routes, d.route(e))
		})
	}},
}

// enum reads one of a few words.
func enum[T any](d *decoder, n *yaml.Node, words []spec.Word[T]) T {
	var zero T
	s, ok := d.str(n)
	if !ok {
		return zero
	}
	v, err := spec.ParseWord(s, words)
	if err != nil {
		d.failValue(n, err)
	}
	return v
}
