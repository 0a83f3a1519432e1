package archtest

import (
	"bytes"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/viarule/viarule/"

// imports says which packages of this module, and which outside of the standard
// library, each package may import. Data flows one way: spec → desired → plan →
// apply. Do not widen a row to make a build pass: move the code to where it
// belongs.
var imports = map[string][]string{
	"api/v1alpha1": {"k8s.io/apimachinery/"},

	"internal/netstate":              {},
	"internal/netstate/netstatetest": {"internal/netstate", "pgregory.net/rapid"},
	"internal/spec":                  {"internal/netstate"},
	"internal/specfile":              {"internal/netstate", "internal/spec", "go.yaml.in/yaml/v3"},
	"internal/specjson":              {"internal/jsontext", "internal/netstate", "internal/spec"},
	"internal/jsontext":              {},
	"internal/owner":                 {"internal/netstate"},
	"internal/fib":                   {"internal/netstate"},
	"internal/sim":                   {"internal/netstate", "internal/fib"},
	"internal/snapshot":              {"internal/netstate", "internal/spec"},
	"internal/explain":               {"internal/jsontext", "internal/netstate", "internal/spec", "internal/fib", "internal/sim", "internal/snapshot"},
	"internal/explain/page":          {"internal/fib", "internal/sim", "internal/explain"},
	"internal/doctor":                {"internal/netstate", "internal/owner", "internal/fib", "internal/sim", "internal/snapshot", "internal/explain"},
	"internal/impact":                {"internal/netstate", "internal/fib", "internal/sim", "internal/snapshot", "internal/explain"},
	"internal/networkd":              {},
	"internal/external":              {"internal/netstate", "internal/spec", "internal/owner"},
	"internal/podnet":                {"internal/netstate", "internal/spec"},
	"internal/desired":               {"internal/netstate", "internal/spec", "internal/owner", "internal/external", "internal/podnet"},
	"internal/plan":                  {"internal/netstate", "internal/spec", "internal/owner", "internal/desired"},
	"internal/rttables":              {},
	"internal/record":                {"internal/netstate", "internal/spec", "internal/jsontext", "golang.org/x/sys/"},
	"internal/apply":                 {"internal/netstate", "internal/spec", "internal/desired", "internal/plan"},
	"internal/kernel":                {"internal/netstate", "golang.org/x/sys/"},
	"internal/cutoff":                {"internal/netstate", "internal/spec", "internal/fib"},
	"internal/guard":                 {"internal/netstate", "internal/plan", "internal/apply", "internal/record", "golang.org/x/sys/"},
	"internal/boot":                  {"internal/spec"},
	"internal/importer":              {"internal/netstate", "internal/spec", "internal/owner"},
	"internal/host": {"internal/netstate", "internal/spec", "internal/specfile", "internal/owner", "internal/external", "internal/podnet", "internal/desired", "internal/plan",
		"internal/rttables", "internal/record", "internal/srcroute", "internal/standing", "internal/apply", "internal/kernel", "internal/cutoff", "internal/guard", "internal/boot", "internal/importer",
		"internal/sim", "internal/snapshot", "internal/explain", "internal/doctor", "internal/impact", "internal/networkd"},
	"internal/lab": {"internal/netstate", "internal/spec", "internal/specfile", "internal/kernel", "github.com/google/nftables", "go.yaml.in/yaml/v3", "golang.org/x/sys/"},
	"internal/cli": {"internal/netstate", "internal/spec", "internal/specfile", "internal/plan", "internal/host", "internal/lab", "internal/guard",
		"internal/snapshot", "internal/explain", "internal/explain/page", "internal/doctor", "internal/impact",
		"github.com/spf13/", "go.yaml.in/yaml/v3", "golang.org/x/sys/"},
	"internal/srcroute":      {"internal/netstate", "internal/spec"},
	"internal/standing":      {"internal/netstate", "internal/record"},
	"internal/shortlife":     {},
	"internal/cni":           {"internal/jsontext", "internal/kernel", "golang.org/x/sys/"},
	"internal/cni/hostlocal": {"internal/cni", "internal/jsontext", "golang.org/x/sys/"},
	"internal/cni/ipam":      {"internal/cni", "internal/cni/hostlocal", "internal/jsontext", "golang.org/x/sys/"},
	"internal/cni/sbr": {"internal/netstate", "internal/jsontext", "internal/spec", "internal/specjson", "internal/srcroute", "internal/record", "internal/standing", "internal/kernel", "internal/cni",
		"golang.org/x/sys/"},
	"internal/cni/ptp": {"internal/netstate", "internal/jsontext", "internal/kernel", "internal/cni", "internal/cni/ipam", "golang.org/x/sys/"},
	"cmd/viarule":      {"internal/cli"},
	"cmd/viarule-sbr":  {"internal/cni/sbr", "internal/shortlife"},
	"cmd/viarule-ptp":  {"internal/cni/ptp", "internal/shortlife"},

	// Test kits: only tests import them, and `production` below sees to that.
	"internal/kernelfake": {"internal/netstate", "golang.org/x/sys/"},
	"internal/kerneltest": {"internal/netstate", "pgregory.net/rapid", "golang.org/x/sys/", "internal/netstate/netstatetest"},
	"internal/netnstest":  {"golang.org/x/sys/"},
	"internal/archtest":   {},
	"test/vm":             {},
	"test/script":         {},
	"test/returnpath":     {},
}

// testkits must not be linked into a program.
var testkits = []string{"internal/kernelfake", "internal/kerneltest", "internal/netnstest", "internal/netstate/netstatetest"}

// pure packages look at nothing but their arguments.
var pure = []string{"internal/netstate", "internal/jsontext", "internal/spec", "internal/specjson", "internal/owner", "internal/fib", "internal/sim", "internal/snapshot", "internal/explain", "internal/explain/page", "internal/doctor", "internal/impact", "internal/external", "internal/podnet", "internal/desired", "internal/plan", "internal/srcroute", "internal/standing"}

var impure = []string{"os", "os/exec", "net", "log", "log/slog", "time", "math/rand", "math/rand/v2", "sync", "syscall", "runtime", "context", "crypto/rand"}

// mustNotLink lists, for each program, module path prefixes that it must never
// contain: they cost start-up time, memory or attack surface.
var mustNotLink = map[string][]string{
	"cmd/viarule":     {"k8s.io/client-go", "k8s.io/apiextensions-apiserver", "pgregory.net/rapid", "testing"},
	"cmd/viarule-sbr": {"k8s.io", "github.com/spf13", "go.yaml.in", "github.com/google/nftables", "log/slog", "github.com/containernetworking", "regexp", "crypto", "pgregory.net/rapid", "testing"},
	"cmd/viarule-ptp": {"k8s.io", "github.com/spf13", "go.yaml.in", "github.com/google/nftables", "log/slog", "github.com/containernetworking", "encoding/json", "regexp", "crypto", "pgregory.net/rapid", "testing"},
}

const (
	maxLines     = 600
	maxMainLines = 60
)

type file struct {
	name    string // from the module's root
	pkg     string // its folder
	lines   int
	imports []string
	doc     bool
}

// files parses every Go file of the module that is neither a test nor generated.
func files(t *testing.T) []file {
	t.Helper()
	var out []file
	err := filepath.WalkDir("../..", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel("../..", p)
		if d.IsDir() {
			if rel != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "bin" || hasOwnModule(p)) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(p, ".go") || strings.HasSuffix(p, "_test.go") || strings.HasPrefix(d.Name(), "zz_generated") {
			return nil
		}
		src, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		ast, err := parser.ParseFile(token.NewFileSet(), p, src, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		f := file{name: rel, pkg: path.Dir(filepath.ToSlash(rel)), lines: bytes.Count(src, []byte("\n")), doc: ast.Doc != nil}
		for _, i := range ast.Imports {
			f.imports = append(f.imports, strings.Trim(i.Path.Value, `"`))
		}
		out = append(out, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) == 0 {
		t.Fatal("found no Go files")
	}
	return out
}

func hasOwnModule(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "go.mod"))
	return err == nil && filepath.Clean(dir) != filepath.Clean("../..")
}

func TestImports(t *testing.T) {
	for _, f := range files(t) {
		allowed, known := imports[f.pkg]
		if !known {
			t.Errorf("%s: package %s has no row in the import table; add one, with as little in it as can be", f.name, f.pkg)
			continue
		}
		for _, i := range f.imports {
			own, inModule := strings.CutPrefix(i, module)
			if !inModule {
				own = i
				if first, _, _ := strings.Cut(i, "/"); !strings.Contains(first, ".") {
					continue // standard library
				}
			}
			ok := slices.ContainsFunc(allowed, func(a string) bool {
				return own == a || strings.HasSuffix(a, "/") && strings.HasPrefix(own, a) || !inModule && strings.HasPrefix(own, a+"/")
			})
			if !ok {
				t.Errorf("%s imports %s, which the table does not allow", f.name, own)
			}
		}
	}
}

func TestTestKitsStayInTests(t *testing.T) {
	for _, f := range files(t) {
		if slices.Contains(testkits, f.pkg) {
			continue
		}
		for _, i := range f.imports {
			if slices.Contains(testkits, strings.TrimPrefix(i, module)) || i == "testing" {
				t.Errorf("%s imports the test kit %s", f.name, i)
			}
		}
	}
}

func TestPurePackages(t *testing.T) {
	for _, f := range files(t) {
		if !slices.Contains(pure, f.pkg) {
			continue
		}
		for _, i := range f.imports {
			if slices.Contains(impure, i) {
				t.Errorf("%s imports %s; %s is a pure package", f.name, i, f.pkg)
			}
		}
	}
}

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	doc := map[string]bool{}
	for _, f := range files(t) {
		doc[f.pkg] = doc[f.pkg] || f.doc
	}
	for pkg, ok := range doc {
		if !ok {
			t.Errorf("package %s has no package comment", pkg)
		}
	}
}

func TestFilesStaySmall(t *testing.T) {
	for _, f := range files(t) {
		if f.lines > maxLines {
			t.Errorf("%s has %d lines, more than %d: split it by what its parts are for", f.name, f.lines, maxLines)
		}
		if strings.HasPrefix(f.pkg, "cmd/") && f.lines > maxMainLines {
			t.Errorf("%s has %d lines, more than %d: a main only starts things", f.name, f.lines, maxMainLines)
		}
	}
}

func TestProgramsLinkOnlyWhatTheyMay(t *testing.T) {
	for program, banned := range mustNotLink {
		cmd := exec.Command("go", "list", "-deps", "./"+program)
		cmd.Dir = "../.."
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("go list %s: %v", program, err)
		}
		for dep := range strings.FieldsSeq(string(out)) {
			for _, b := range banned {
				if dep == b || strings.HasPrefix(dep, b+"/") {
					t.Errorf("%s links %s", program, dep)
				}
			}
		}
	}
}
