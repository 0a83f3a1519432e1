package specfile

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
)

const small = "apiVersion: viarule.io/v1alpha1\nkind: RoutingPolicy\nmetadata: {name: NAME}\nspec: {}\n"

func named(name string) string { return strings.Replace(small, "NAME", name, 1) }

func TestLoadReadsFilesAndStandardInput(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a.yaml"), filepath.Join(dir, "b.yaml")
	for name, text := range map[string]string{a: named("one") + "---\n# two\n" + named("two") + "...\n", b: named("three") + "---\nkind: x\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	objs, problems, err := Load(t.Context(), []string{a, "-", b}, strings.NewReader("\ufeff"+named("in")))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, o := range objs {
		got = append(got, o.Name+" "+filepath.Base(o.File))
	}
	if g := strings.Join(got, ", "); g != "one a.yaml, two a.yaml, in -, three b.yaml" {
		t.Error(g)
	}
	if string(objs[1].Text) != "# two\n"+named("two") || objs[1].Pos.Line != 7 {
		t.Errorf("text %q, line %d", objs[1].Text, objs[1].Pos.Line)
	}
	if len(problems) == 0 || problems[0].String() != b+":6: apiVersion is missing; write `apiVersion: viarule.io/v1alpha1`" {
		t.Error(problems)
	}
}

func TestLoadFails(t *testing.T) {
	dir := t.TempDir()
	broken := errors.New("the line is dead")
	canceled, cancel := context.WithCancel(context.Background())
	cancel()
	for _, c := range []struct {
		ctx   context.Context
		names []string
		stdin io.Reader
		is    error
		want  string
	}{
		{t.Context(), []string{dir + "/none"}, nil, fs.ErrNotExist, "read " + dir + "/none: no such file or directory"},
		{t.Context(), []string{dir}, nil, nil, "read " + dir + ": it is a directory; name the files in it"},
		{t.Context(), []string{"-"}, nil, nil, "read standard input: there is none"},
		{t.Context(), []string{"-", "-"}, strings.NewReader(named("a")), nil, "read standard input: it is named twice"},
		{t.Context(), []string{"-"}, iotest.ErrReader(broken), broken, "read standard input: the line is dead"},
		{canceled, []string{"-"}, strings.NewReader(named("a")), context.Canceled, "context canceled"},
		{t.Context(), []string{"-"}, io.LimitReader(zeros{}, MaxFile+1), nil, "read standard input: it is larger than 128 MiB; split it"},
	} {
		_, _, err := Load(c.ctx, c.names, c.stdin)
		if err == nil || err.Error() != c.want || c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%v: %v, want %s", c.names, err, c.want)
		}
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

// TestHostileInputIsRefused feeds what eats time and memory elsewhere. What is
// allocated is about what is live at once, and stands for the time.
func TestHostileInputIsRefused(t *testing.T) {
	const size = 1 << 20
	fill := func(s string) string { return strings.Repeat(s, size/len(s)) }
	for name, text := range map[string]string{
		"billion laughs":     "a: &a [x, x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a]\nc: &c [*b, *b, *b, *b, *b, *b, *b, *b, *b]\nd: [*c, *c, *c, *c, *c, *c, *c, *c, *c]\n",
		"an alias of itself": "a: &a [*a]\n",
		"deep flow":          fill("["),
		"deep mappings":      fill("{a: "),
		"deep block":         fill("- "),
		"many documents":     fill("---\n"),
		"many objects":       fill("a: b\n---\n"),
		"many keys":          fill("a: b\n"),
		"many tags":          fill("!a "),
		"many anchors":       fill("- &a\n"),
		"one long scalar":    fill("x"),
		"one long quote":     `"` + fill("x"),
		"one long comment":   "#" + fill("x"),
		"carriage returns":   fill("a\r"),
		"many runs":          fill("- {a: b}\n"),
		"question marks":     fill("? "),
		"colons":             fill(": "),
		"no UTF-8":           "\xff\xfe" + fill("a"),
		"control":            fill("\x00"),
		"too much":           strings.Repeat("# a\n", MaxTree/4) + "a: |\n b\n",
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			objs, problems := Parse("f", []byte(text))
			runtime.ReadMemStats(&after)
			if len(objs) > 0 || len(problems) == 0 || len(problems) > MaxProblems+1 {
				t.Errorf("%d objects, %d problems", len(objs), len(problems))
			}
			if used := (after.TotalAlloc - before.TotalAlloc) >> 20; used > 150*size>>20 {
				t.Errorf("%d MiB allocated", used)
			} else {
				t.Logf("%d MiB allocated: %.100s", used, problems[0])
			}
		})
	}
}
