package crd

import (
	"encoding/json"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/viarule/viarule/api/v1alpha1"
	"github.com/viarule/viarule/internal/specfile"
)

// TestGoTypesHoldTheExamples: what goes through the Go types (a client, the
// agent) means the same as before.
func TestGoTypesHoldTheExamples(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	for _, name := range append(files(t, "../../examples/*.yaml"), files(t, "../../internal/specfile/testdata/warn/*.yaml")...) {
		for _, d := range documents(t, name) {
			before, _ := specfile.Parse(d.name, d.text)
			if len(before) != 1 {
				t.Fatalf("%s: %d objects", d.name, len(before))
			}
			o, err := scheme.New(v1alpha1.GroupVersion.WithKind(before[0].Kind))
			if err != nil {
				t.Fatal(err)
			}
			if err := sigsyaml.UnmarshalStrict(d.text, o); err != nil {
				t.Errorf("%s: %v", d.name, err)
				continue
			}
			data, err := json.Marshal(o.DeepCopyObject())
			if err != nil {
				t.Fatal(err)
			}
			again := document{d.name + " by its Go type", data}
			agree(t, again, true)
			after, problems := specfile.Parse(again.name, data)
			if len(problems) > 0 || len(after) != 1 {
				t.Fatalf("%s: %v\n%s", d.name, problems, data)
			}
			if a, b := string(specfile.Marshal(before[0])), string(specfile.Marshal(after[0])); a != b {
				t.Errorf("%s: before\n%s\nafter\n%s", d.name, a, b)
			}
		}
	}
}

func TestIntOrString(t *testing.T) {
	for _, c := range []struct{ in, out string }{
		{`200`, `200`}, {`"200"`, `200`}, {`4294967295`, `4294967295`}, {`0`, `0`}, {`"custom"`, `"custom"`},
		{`"0x100/0xff00"`, `"0x100/0xff00"`}, {`"010"`, `"010"`}, {`""`, `""`}, {`"99999999999999999999"`, `"99999999999999999999"`},
	} {
		var v v1alpha1.IntOrString
		if err := json.Unmarshal([]byte(c.in), &v); err != nil {
			t.Errorf("%s: %v", c.in, err)
			continue
		}
		if out, err := json.Marshal(v); err != nil || string(out) != c.out {
			t.Errorf("%s: %s, %v", c.in, out, err)
		}
	}
	for _, in := range []string{`1.5`, `true`, `null`, `[]`, `{}`} {
		var v v1alpha1.IntOrString
		if err := json.Unmarshal([]byte(in), &v); err == nil && in != "null" {
			t.Errorf("%s is taken for %q", in, v)
		}
	}
}
