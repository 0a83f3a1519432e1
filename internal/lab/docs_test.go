package lab

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/viarule/viarule/internal/spec"
	"github.com/viarule/viarule/internal/specfile"
)

var yamlBlock = regexp.MustCompile("(?s)```yaml\n(.*?)```")

// Every whole object that the guide shows can be read, and every lab passes.
func TestWhatTheGuideShowsIsTrue(t *testing.T) {
	files, _ := filepath.Glob("../../docs/guide/*.md")
	if os.Getenv("VIARULE_VM") != "" {
		t.Skip("the guide is not taken into the VM")
	}
	policies, labs := 0, 0
	for _, f := range append(files, "../../README.md") {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range yamlBlock.FindAllStringSubmatch(string(text), -1) {
			switch {
			case strings.Contains(m[1], "kind: Lab"):
				labs++
				t.Run(filepath.Base(f), func(t *testing.T) {
					l, cfg := load(t, "", m[1])
					if r, err := l.Test(t.Context(), cfg); err != nil {
						t.Errorf("%v\n%s", err, failures(r))
					}
				})
			case strings.Contains(m[1], "apiVersion: viarule.io/"):
				policies++
				if _, problems := specfile.Parse(f, []byte(m[1])); spec.Failed(problems) {
					t.Errorf("%v", problems)
				}
			}
		}
	}
	if policies < 3 || labs < 1 {
		t.Errorf("found %d policies and %d labs", policies, labs)
	}
}
