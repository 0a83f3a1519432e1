package specjson

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"go.yaml.in/yaml/v3"
)

// toJSON writes a node as JSON. What YAML readers disagree about becomes a
// string, as it is written.
func toJSON(n *yaml.Node) []byte {
	var b bytes.Buffer
	switch n.Kind {
	case yaml.MappingNode:
		b.WriteByte('{')
		for i := 0; i+1 < len(n.Content); i += 2 {
			if i > 0 {
				b.WriteByte(',')
			}
			key, _ := json.Marshal(n.Content[i].Value)
			b.Write(key)
			b.WriteByte(':')
			b.Write(toJSON(n.Content[i+1]))
		}
		b.WriteByte('}')
		return b.Bytes()
	case yaml.SequenceNode:
		b.WriteByte('[')
		for i, e := range n.Content {
			if i > 0 {
				b.WriteByte(',')
			}
			b.Write(toJSON(e))
		}
		b.WriteByte(']')
		return b.Bytes()
	}
	switch n.ShortTag() {
	case "!!null":
		return []byte("null")
	case "!!bool":
		if n.Value == "true" || n.Value == "false" {
			return []byte(n.Value)
		}
	case "!!int", "!!float":
		if json.Valid([]byte(n.Value)) {
			return []byte(n.Value)
		}
		if v, err := strconv.ParseUint(n.Value, 0, 64); err == nil && len(n.Value) > 2 && n.Value[:2] == "0x" {
			return strconv.AppendUint(nil, v, 10)
		}
	}
	s, _ := json.Marshal(n.Value)
	return s
}

// lists gives the lists of rules and of routes of a YAML file, as JSON.
func lists(t testing.TB, file string) (rules, routes [][]byte) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for part := range bytes.SplitSeq(data, []byte("\n---\n")) {
		var doc yaml.Node
		if err := yaml.Unmarshal(part, &doc); err != nil || len(doc.Content) == 0 {
			continue // a fault of YAML
		}
		s := key(doc.Content[0], "spec")
		if n := key(s, "rules"); n != nil {
			rules = append(rules, toJSON(n))
		}
		if tables := key(s, "tables"); tables != nil {
			for _, table := range tables.Content {
				if n := key(table, "routes"); n != nil {
					routes = append(routes, toJSON(n))
				}
			}
		}
	}
	return rules, routes
}

// key gives the value of a key of a mapping, nil where there is none.
func key(n *yaml.Node, name string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i+1]
		}
	}
	return nil
}

// corpus gives the lists of rules and of routes of all examples of objects that
// the repository has.
func corpus(t testing.TB) (rules, routes [][]byte) {
	t.Helper()
	for _, pattern := range []string{"../../examples/*.yaml", "../../examples/lab/*.yaml", "../specfile/testdata/*/*.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("no files %s: %v", pattern, err)
		}
		for _, file := range files {
			a, b := lists(t, file)
			rules, routes = append(rules, a...), append(routes, b...)
		}
	}
	return rules, routes
}

// TestOneVerdictOnEveryExample: each list of the examples, good and bad ones, is
// read as specfile reads it.
func TestOneVerdictOnEveryExample(t *testing.T) {
	rules, routes := corpus(t)
	good, bad := 0, 0
	count := func(data []byte, accepted bool, difference string) {
		if difference != "" {
			t.Errorf("%s\n%s", data, difference)
		}
		if accepted {
			good++
		} else {
			bad++
		}
	}
	for _, data := range rules {
		accepted, d := rulesUnderTest.same(t, data)
		count(data, accepted, d)
	}
	for _, data := range routes {
		accepted, d := routesUnderTest.same(t, data)
		count(data, accepted, d)
	}
	t.Logf("%d good and %d bad lists", good, bad)
	if good < 40 || bad < 160 {
		t.Error("most of the examples are not there")
	}
}
