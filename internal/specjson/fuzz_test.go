package specjson

import (
	"encoding/json"
	"testing"

	"github.com/viarule/viarule/internal/spec"
)

// fuzz holds one reader against specfile on any text: it never panics, and takes
// what specfile takes, with the same meaning, and nothing else.
func fuzz[T any](f *testing.F, k kindUnderTest[T], seeds [][]byte) {
	for _, s := range seeds {
		f.Add(s)
	}
	for _, s := range []string{``, `null`, `[`, `[{}]`, `[{"a":{"b":[{}]}}]`, `[[[[[[`, `[{"\ud800":"\ud800"}]`, "[{\"\xff\":\"\xff\"}]", `[1e999]`, "[\u2028]", `[{}] x`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		list, problems := k.read(k.name, data)
		if len(problems) > spec.MaxProblems+1 || len(problems) > 0 && list != nil {
			t.Fatalf("%d elements, %d problems", len(list), len(problems))
		}
		for _, p := range problems {
			if p.Path == "" || p.What == "" {
				t.Errorf("%+v", p)
			}
		}
		if !json.Valid(data) {
			if len(problems) != 1 || !problems[0].Type {
				t.Fatalf("%v", problems)
			}
			return
		}
		want, paths := k.reference(t, data)
		if (len(paths) == 0) != (len(problems) == 0) {
			t.Fatalf("specfile: %v\nspecjson: %v", paths, problems)
		}
		if d := k.diff(want, list); d != "" {
			t.Fatal(d)
		}
	})
}

func FuzzRules(f *testing.F) {
	rules, _ := corpus(f)
	fuzz(f, rulesUnderTest, rules)
}

func FuzzRoutes(f *testing.F) {
	_, routes := corpus(f)
	fuzz(f, routesUnderTest, routes)
}
