package cni

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The names of our programs.
const (
	dropIn = "sbr"
	own    = "viarule-sbr"
	ptp    = "viarule-ptp"
)

var names = []string{dropIn, own}

// The folders with programs, for CNI_PATH. In ours sbr is viarule-sbr, in
// reference it is the reference plugin.
var ours, reference string

// moduleTools are the programs of other projects, by the folder of the go.mod
// that holds them.
var moduleTools = map[string][]string{
	".":      {"ptp", "bridge", "macvlan", "ipvlan", "host-device", "host-local", "static", "sbr", "portmap", "bandwidth"},
	"multus": {"multus"},
}

func TestMain(m *testing.M) { os.Exit(withPrograms(m)) }

func withPrograms(m *testing.M) int {
	flag.Parse()
	if testing.Short() || os.Geteuid() != 0 {
		return m.Run() // newHost skips
	}
	if os.Getenv("VIARULE_VM") != "" {
		here, err := filepath.Abs(packed)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		inFolder(here)
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "viarule-cni-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // for those who are not root
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	inFolder(dir)
	if err := build(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if to := os.Getenv("VIARULE_CNI_PACK"); to != "" {
		if err := pack(to); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	}
	return m.Run()
}

// packed is where the machine of test/vm, which has no compiler, has the programs:
// what pack wrote.
const packed = "programs"

// pack writes the programs that the tests in that machine need.
func pack(to string) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	if err := compileSuite("Dummy", filepath.Join(to, suiteProgram)); err != nil {
		return err
	}
	for folder, programs := range map[string][]string{ours: {own, dropIn, ptp, "viarule", "ipvlan", "static", "portmap", "bandwidth"}, reference: {dropIn}} {
		for _, p := range programs {
			from, into := filepath.Join(folder, p), filepath.Join(to, filepath.Base(folder))
			if err := os.MkdirAll(into, 0o755); err != nil {
				return err
			}
			if out, err := exec.Command("cp", "-L", from, into).CombinedOutput(); err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
		}
	}
	return nil
}

func inFolder(dir string) {
	ours, reference = filepath.Join(dir, "ours"), filepath.Join(dir, "reference")
}

// build fills the two folders. Go keeps the other projects' programs in its
// build cache, so that only the first run takes minutes.
func build() error {
	for _, d := range []string{ours, reference} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return err
		}
	}
	for _, program := range []string{own, ptp, "viarule"} {
		if _, err := goCommand("../..", "build", "-o", filepath.Join(ours, program), "./cmd/"+program); err != nil {
			return err
		}
	}
	if err := os.Symlink(own, filepath.Join(ours, dropIn)); err != nil {
		return err
	}
	for module, tools := range moduleTools {
		for _, tool := range tools {
			path, err := goCommand(module, "tool", "-n", tool)
			if err != nil {
				return err
			}
			for _, d := range []string{ours, reference} {
				if d == ours && tool == dropIn {
					continue
				}
				if err := os.Symlink(strings.TrimSpace(path), filepath.Join(d, tool)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// goCommand runs the go command in a folder.
func goCommand(dir string, args ...string) (string, error) {
	c := exec.Command("go", args...)
	c.Dir = dir
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		return "", fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out), nil
}
