package specfile

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/viarule/viarule/internal/spec"
)

// The fixtures below testdata are YAML with the problem that a line has behind
// it, as `# want` and regular expressions in backquotes, each for one problem.
// The documents in bad and warn are judged alone (test/crd holds those against
// the custom resource definition), the files in set as a whole.

var wantText = regexp.MustCompile("`([^`]*)`")

// wants gives the expected problems of a text, by line.
func wants(t *testing.T, text string) map[int32][]string {
	found := map[int32][]string{}
	for i, line := range strings.Split(text, "\n") {
		_, want, ok := strings.Cut(line, "# want ")
		if !ok {
			continue
		}
		for _, m := range wantText.FindAllStringSubmatch(want, -1) {
			found[int32(i+1)] = append(found[int32(i+1)], m[1])
		}
		if len(found[int32(i+1)]) == 0 {
			t.Errorf("line %d: want without a regular expression", i+1)
		}
	}
	return found
}

// compare holds problems against the wants of the file that they are of.
func compare(t *testing.T, name string, want map[int32][]string, problems []spec.Problem) {
	t.Helper()
	for _, p := range problems {
		text := strings.TrimPrefix(p.String(), fmt.Sprintf("%s:%d: ", name, p.Pos.Line))
		matched := false
		for i, w := range want[p.Pos.Line] {
			if regexp.MustCompile("^(warning: )?"+strings.TrimPrefix(w, "warning: ")).MatchString(text) || regexp.MustCompile(w).MatchString(text) {
				want[p.Pos.Line] = append(want[p.Pos.Line][:i:i], want[p.Pos.Line][i+1:]...)
				matched = true
				break
			}
		}
		if !matched {
			t.Errorf("%s:%d: not wanted: %s", name, p.Pos.Line, text)
		}
	}
	for line, ws := range want {
		for _, w := range ws {
			t.Errorf("%s:%d: no problem matches `%s`", name, line, w)
		}
	}
}

// judge parses a file and validates each document, alone or all together.
func judge(name string, data []byte, together bool) []spec.Problem {
	if together {
		objs, problems := Parse(name, data)
		return append(problems, spec.Validate(objs, spec.Known{})...)
	}
	var all []spec.Problem
	for doc := range documents(data) {
		if doc.empty() {
			continue
		}
		objs, problems := Parse(name, append([]byte(strings.Repeat("\n", int(doc.before))), doc.text...))
		all = append(all, problems...)
		all = append(all, spec.Validate(objs, spec.Known{})...)
	}
	return all
}

func TestFixtures(t *testing.T) {
	for _, dir := range []string{"bad", "warn", "set"} {
		files, err := filepath.Glob(filepath.Join("testdata", dir, "*.yaml"))
		if err != nil || len(files) == 0 {
			t.Fatalf("no fixtures in %s: %v", dir, err)
		}
		for _, file := range files {
			t.Run(dir+"/"+filepath.Base(file), func(t *testing.T) {
				data, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				problems := judge(file, data, dir == "set")
				compare(t, file, wants(t, string(data)), problems)
				for _, p := range problems {
					if failed := p.Severity == spec.Error; failed == (dir == "warn") {
						t.Errorf("severity %d: %s", p.Severity, p)
					}
					if p.Do == "" && !strings.Contains(p.What, "YAML") {
						t.Errorf("it does not say what to do: %s", p)
					}
				}
			})
		}
	}
}

// Every document of bad must be wrong by itself: a fixture that is not would
// only be noticed by its missing problem if it had a want.
func TestEachBadDocumentHasAWant(t *testing.T) {
	files, _ := filepath.Glob("testdata/bad/*.yaml")
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for doc := range documents(data) {
			if !doc.empty() && len(wants(t, string(doc.text))) == 0 {
				t.Errorf("%s:%d: the document has no want", file, doc.before+1)
			}
		}
	}
}

func TestExamplesAreValid(t *testing.T) {
	files, err := filepath.Glob("../../examples/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		objs, problems := Parse(file, data)
		for _, p := range append(problems, spec.Validate(objs, spec.Known{})...) {
			t.Error(p)
		}
	}
}
