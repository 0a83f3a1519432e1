package specjson

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/viarule/viarule/internal/spec"
	"github.com/viarule/viarule/internal/specfile"
)

// kindUnderTest is what differs between rules and routes, for tests that hold
// this package's reader against specfile, which reads the same text as a part of
// a RoutingPolicy: JSON is YAML.
type kindUnderTest[T any] struct {
	name string
	read func(string, []byte) ([]T, []Problem)
	// before and after stand around the list to make an object of it; path is
	// that of the list in it.
	before, after, path string
	// fill gives what this kind may leave out, as it stands behind the brace of
	// an element with these keys; "" where nothing is left out.
	fill func(keys map[string]json.RawMessage) string
	// empty takes what was filled in out again.
	empty func(*T)
	of    func(*spec.RoutingPolicy) []T
}

const head = `{"apiVersion":"viarule.io/v1alpha1","kind":"RoutingPolicy","metadata":{"name":"a"},"spec":`

var rulesUnderTest = kindUnderTest[spec.Rule]{
	name: "rules", read: Rules, before: head + `{"rules":`, after: `}}`, path: "spec.rules",
	fill: func(keys map[string]json.RawMessage) string {
		for _, action := range []string{"table", "goto", "nop", "blackhole", "unreachable", "prohibit"} {
			if keys[action] != nil {
				return ""
			}
		}
		return `"table":254`
	},
	empty: func(r *spec.Rule) { r.Action, r.Table = 0, spec.TableRef{} },
	of:    func(p *spec.RoutingPolicy) []spec.Rule { return p.Rules },
}

var routesUnderTest = kindUnderTest[spec.Route]{
	name: "routes", read: Routes, before: head + `{"tables":[{"name":"t","routes":`, after: `}]}}`, path: "spec.tables[0].routes",
	fill: func(keys map[string]json.RawMessage) string {
		switch string(keys["type"]) {
		case `"Blackhole"`, `"Unreachable"`, `"Prohibit"`, `"Throw"`:
			return ""
		}
		if keys["dev"] != nil || keys["nexthops"] != nil {
			return ""
		}
		return `"dev":"eth0"`
	},
	empty: func(r *spec.Route) { r.Dev = "" },
	of:    func(p *spec.RoutingPolicy) []spec.Route { return p.Tables[0].Routes },
}

// filled is the list with what may be left out, and says which elements got it.
// The text stays as it is otherwise, so that keys written twice are still there.
func (k kindUnderTest[T]) filled(data []byte) ([]byte, map[int]bool) {
	var elements []json.RawMessage
	if json.Unmarshal(data, &elements) != nil || len(elements) == 0 {
		return data, nil
	}
	got := map[int]bool{}
	for i, e := range elements {
		var keys map[string]json.RawMessage
		if json.Unmarshal(e, &keys) != nil || keys == nil {
			continue
		}
		more := k.fill(keys)
		if more == "" {
			continue
		}
		if len(keys) > 0 {
			more += ","
		}
		elements[i] = append([]byte("{"+more), bytes.TrimPrefix(e, []byte("{"))...)
		got[i] = true
	}
	return append(append([]byte("["), bytes.Join(rawBytes(elements), []byte(","))...), ']'), got
}

func rawBytes(list []json.RawMessage) [][]byte {
	out := make([][]byte, len(list))
	for i := range list {
		out[i] = list[i]
	}
	return out
}

// plainSlashes takes out the backslash before slashes, which JSON and YAML allow
// and the YAML library does not know.
func plainSlashes(data []byte) []byte {
	var out []byte
	for i := 0; i < len(data); i++ {
		if data[i] == '\\' && i+1 < len(data) {
			if data[i+1] != '/' {
				out = append(out, data[i])
			}
			i++
		}
		out = append(out, data[i])
	}
	return out
}

// reference reads data, which is JSON, by specfile and spec.Validate, and gives
// the errors by path, as this package names it.
func (k kindUnderTest[T]) reference(t fataler, data []byte) ([]T, []string) {
	var compact bytes.Buffer
	if err := json.Compact(&compact, data); err != nil {
		t.Fatalf("%v\n%s", err, data)
	}
	list, got := k.filled(plainSlashes(compact.Bytes()))
	objs, problems := specfile.Parse("f", []byte(k.before+string(list)+k.after))
	if len(problems) == 0 {
		problems = spec.Validate(objs, spec.Known{Limits: limits()})
	}
	var paths []string
	for _, p := range problems {
		if p.Severity == spec.Error {
			paths = append(paths, strings.Replace(p.Path, k.path, k.name, 1))
		}
	}
	if len(paths) > 0 {
		return nil, paths
	}
	out := k.of(objs[0].Policy)
	for i := range out {
		if got[i] {
			k.empty(&out[i])
		}
	}
	return out, nil
}

type fataler interface {
	Helper()
	Fatalf(string, ...any)
}

// same says whether this package's reader and specfile give the same, "" where
// they do. The problems must be at the same paths, in the same order.
func (k kindUnderTest[T]) same(t fataler, data []byte) (accepted bool, difference string) {
	t.Helper()
	got, problems := k.read(k.name, data)
	want, paths := k.reference(t, data)
	if len(problems) > 0 && len(got) > 0 {
		return false, "it gives problems and a list"
	}
	var at []string
	for _, p := range problems {
		at = append(at, p.Path)
	}
	if d := cmp.Diff(paths, at, cmpopts.EquateEmpty()); d != "" {
		return false, fmt.Sprintf("paths of problems (-specfile +specjson):\n%s%v", d, problems)
	}
	return len(at) == 0, k.diff(want, got)
}

// diff compares what was read; only specfile knows positions.
func (k kindUnderTest[T]) diff(want, got []T) string {
	return cmp.Diff(want, got, cmpopts.EquateEmpty(), exactly, cmpopts.IgnoreTypes(spec.Pos{}))
}

// check is same for tests that know what the verdict shall be.
func (k kindUnderTest[T]) check(t *testing.T, data string, valid bool) {
	t.Helper()
	accepted, d := k.same(t, []byte(data))
	if d != "" {
		t.Errorf("%s\n%s", data, d)
	} else if accepted != valid {
		_, problems := k.read(k.name, []byte(data))
		t.Errorf("accepted: %t %v\n%s", accepted, problems, data)
	}
}
