package cni

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	// The suite is compiled with these; named here, so that go.mod has them.
	_ "github.com/containernetworking/plugins/pkg/testutils"
	_ "github.com/onsi/ginkgo/v2"
	_ "github.com/onsi/gomega"
)

// shim stands in for the main.go of the reference plugin: its commands run the
// program that SBR_PROGRAM names, as a runtime does. CNI_PATH is in the
// environment already.
const shim = `package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
)

func main() {}

func cmdAdd(args *skel.CmdArgs) error   { return run("ADD", args) }
func cmdDel(args *skel.CmdArgs) error   { return run("DEL", args) }
func cmdCheck(args *skel.CmdArgs) error { return run("CHECK", args) }

func run(command string, args *skel.CmdArgs) error {
	c := exec.Command(os.Getenv("SBR_PROGRAM"))
	c.Env = append(os.Environ(), "CNI_COMMAND="+command, "CNI_CONTAINERID="+args.ContainerID, "CNI_NETNS="+args.Netns,
		"CNI_IFNAME="+args.IfName, "CNI_ARGS="+args.Args)
	c.Stdin = bytes.NewReader(args.StdinData)
	c.Stderr = os.Stderr
	out, err := c.Output()
	if err == nil {
		_, err = os.Stdout.Write(out)
		return err
	}
	var said types.Error
	if json.Unmarshal(out, &said) != nil {
		return fmt.Errorf("%w: no CNI error object on stdout: %q", err, out)
	}
	if said.Details != "" {
		return errors.New(said.Msg + "; " + said.Details)
	}
	return errors.New(said.Msg)
}
`

// suiteSpecs is how many specs the suite of the pinned version has.
const suiteSpecs = 10

var reSpecs = regexp.MustCompile(`(\d+) Passed \S* ?\| ?(\d+) Failed \S* ?\| ?(\d+) Pending \S* ?\| ?(\d+) Skipped`)

// TestReferenceSuite runs the reference plugin's own tests against our drop-in,
// and first against the reference, so that a failure of the shim's is not ours.
// The suite makes dummy links, which not every kernel has: there they are ifb
// links, which are as silent.
func TestReferenceSuite(t *testing.T) {
	newHost(t)
	program := filepath.Join(filepath.Dir(ours), suiteProgram)
	switch out, err := exec.Command("ip", "link", "add", "try", "type", "dummy").CombinedOutput(); {
	case os.Getenv("VIARULE_VM") != "" && err != nil:
		t.Fatalf("this kernel should have dummy links: %s", out)
	case os.Getenv("VIARULE_VM") != "":
	default:
		kind := "Dummy"
		if err != nil {
			kind = "Ifb"
		}
		if err := compileSuite(kind, program); err != nil {
			t.Fatal(err)
		}
	}
	for _, folder := range []struct{ name, path string }{{"reference", reference}, {"ours", ours}} {
		t.Run(folder.name, func(t *testing.T) {
			newHost(t)
			c := exec.Command(program, "-ginkgo.no-color")
			c.Env = append(os.Environ(), "SBR_PROGRAM="+filepath.Join(folder.path, dropIn))
			out, err := c.CombinedOutput()
			m := reSpecs.FindSubmatch(out)
			if err != nil || m == nil {
				t.Fatalf("the suite failed: %v\n%s", err, out)
			}
			if passed, _ := strconv.Atoi(string(m[1])); passed != suiteSpecs {
				t.Errorf("%d specs passed, want %d:\n%s", passed, suiteSpecs, out)
			}
		})
	}
}

// suiteProgram is what compileSuite makes, beside the folders with programs.
const suiteProgram = "suite"

// compileSuite copies the suite out of the module cache, with the shim in place of
// the plugin and a kind of links, and compiles it with the versions of this module.
func compileSuite(kind, program string) error {
	info, err := goCommand(".", "list", "-m", "-json", "github.com/containernetworking/plugins")
	if err != nil {
		return err
	}
	var module struct{ Dir string }
	if err := json.Unmarshal([]byte(info), &module); err != nil {
		return err
	}
	top, err := filepath.Abs("../..")
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "viarule-cni-suite-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	const made = "&netlink.Dummy{LinkAttrs: linkAttrs}"
	links := 0
	suite := filepath.Join(module.Dir, "plugins/meta/sbr")
	for from, edit := range map[string]func(string) string{
		filepath.Join(suite, "sbr_suite_test.go"): func(text string) string { return text },
		filepath.Join(suite, "sbr_linux_test.go"): func(text string) string {
			links = strings.Count(text, made)
			return strings.ReplaceAll(text, made, "&netlink."+kind+"{LinkAttrs: linkAttrs}")
		},
		"go.mod": func(text string) string { return strings.Replace(text, "=> ../..", "=> "+top, 1) },
		"go.sum": func(text string) string { return text },
	} {
		text, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(from)), []byte(edit(string(text))), 0o644); err != nil {
			return err
		}
	}
	if links != 1 {
		return fmt.Errorf("the reference suite makes its links by %s in %d places, not one", made, links)
	}
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(shim), 0o644); err != nil {
		return err
	}
	if _, err := goCommand(dir, "test", "-c", "-vet=off", "-mod=mod", "-o", program, "."); err != nil {
		return fmt.Errorf("compile the reference suite: %w", err)
	}
	return nil
}
