package script

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/viarule/viarule/internal/netnstest"
)

// What the guide shows of a terminal is what one sees there. A block that begins
// with ```console LAB holds commands after "$ ", each with what it prints, as typed
// on the host node of the lab examples/lab/LAB.yaml. The blocks of one lab are one
// session, page by page. The object that the page shows is the file services.yaml
// there. A lab that has LAB.sip.json instead of an object is one for the CNI plugin: that
// is the file sip.json, the lab is telephony.yaml, and the commands are typed beside the
// lab, as on the node of a pod. UPDATE_DOCS=1 writes what the commands print now into the
// pages.
var consoleBlock = regexp.MustCompile("(?ms)^```console ([a-z-]+)\n(.*?)^```$")

func TestGuideShowsWhatOneSees(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("not root: cannot make network namespaces")
	}
	pages, err := filepath.Glob("../../docs/guide/*.md")
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		var labs []string
		for _, m := range consoleBlock.FindAllSubmatch(text, -1) {
			if name := string(m[1]); len(labs) == 0 || labs[len(labs)-1] != name {
				labs = append(labs, name)
			}
		}
		for _, lab := range labs {
			checked++
			t.Run(filepath.Base(page)+"/"+lab, func(t *testing.T) { session(t, page, lab) })
		}
	}
	if checked < 4 {
		t.Errorf("%d sessions found in the guide", checked)
	}
}

// session plays the blocks of a page for one lab.
func session(t *testing.T, page, lab string) {
	if strings.HasSuffix(lab, "-vlan") && os.Getenv("VIARULE_VM") == "" {
		t.Skip("needs a kernel with VLANs: make test-vm")
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	netnstest.New(t, netnstest.Mounts())
	file := filepath.Join(root, "examples/lab", lab+".yaml")
	dir := t.TempDir()
	copyTo := func(from, name, language string) {
		data, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		data = regexp.MustCompile(`(?m)^#.*\n`).ReplaceAll(data, nil)
		if language != "" && !bytes.Contains(text, fmt.Appendf(nil, "```%s\n%s```\n", language, data)) {
			t.Errorf("the page does not show %s:\n%s", from, data)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	shell := []string{"ip", "netns", "exec", "vlab-" + lab + "-node", "bash", "-c"}
	if plugin := filepath.Join(root, "examples/lab", lab+".sip.json"); exists(plugin) {
		copyTo(plugin, "sip.json", "json")
		copyTo(file, filepath.Base(file), "")
		shell = []string{"bash", "-c"}
	} else {
		copyTo(filepath.Join(root, "examples/lab", lab+".object.yaml"), "services.yaml", "yaml")
	}
	run := func(name string, args ...string) string {
		cmd := exec.Command(name, args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "NO_COLOR=1")
		out, err := cmd.CombinedOutput()
		if _, exited := err.(*exec.ExitError); err != nil && !exited {
			t.Fatal(err)
		}
		return string(out)
	}
	t.Cleanup(func() { run("viarule", "lab", "down", file) })
	if out := run("viarule", "lab", "up", "--without-objects", file); !strings.Contains(out, "lab "+lab) {
		t.Fatalf("lab up: %s", out)
	}
	update := os.Getenv("UPDATE_DOCS") != ""
	again := consoleBlock.ReplaceAllFunc(text, func(block []byte) []byte {
		m := consoleBlock.FindSubmatch(block)
		if string(m[1]) != lab {
			return block
		}
		var out strings.Builder
		fmt.Fprintf(&out, "```console %s\n", lab)
		for _, c := range strings.Split("\n"+string(m[2]), "\n$ ")[1:] {
			command, want, _ := strings.Cut(c, "\n")
			got := plain(run(shell[0], append(shell[1:], command)...))
			if strings.TrimSuffix(got, "\n") != strings.TrimSuffix(want, "\n") && !update {
				t.Errorf("%s shows something else now (UPDATE_DOCS=1 writes it):\n%s--- the page has\n%s", command, got, want)
			}
			if got != "" && !strings.HasSuffix(got, "\n") {
				got += "\n"
			}
			fmt.Fprintf(&out, "$ %s\n%s", command, got)
		}
		return []byte(out.String() + "```")
	})
	if update && !bytes.Equal(text, again) {
		if err := os.WriteFile(page, again, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestGuideConfigurations: each configuration that the page of viarule-sbr shows makes an
// attachment that stands, and goes without a trace.
func TestGuideConfigurations(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("not root: cannot make network namespaces")
	}
	page, err := os.ReadFile("../../docs/guide/sbr.md")
	if err != nil {
		t.Fatal(err)
	}
	base, err := os.ReadFile("../../examples/lab/telephony.sip.json")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?ms)^```json\n(.*?)^```$").FindAllSubmatch(page, -1)
	tried := 0
	for _, m := range blocks {
		var conf map[string]any
		if err := json.Unmarshal(m[1], &conf); err != nil {
			t.Errorf("%v:\n%s", err, m[1])
			continue
		}
		if conf["type"] == nil || conf["prevResult"] != nil {
			continue
		}
		tried++
		t.Run(strings.Join(slices.Sorted(maps.Keys(conf)), " "), func(t *testing.T) {
			if conf["vrf"] != nil && os.Getenv("VIARULE_VM") == "" {
				t.Skip("needs a kernel with VRFs: make test-vm")
			}
			whole := map[string]any{}
			if err := json.Unmarshal(base, &whole); err != nil {
				t.Fatal(err)
			}
			maps.Copy(whole, conf)
			text, err := json.Marshal(whole)
			if err != nil {
				t.Fatal(err)
			}
			netnstest.New(t, netnstest.Mounts())
			const lab, pod = "../../examples/lab/telephony.yaml", "vlab-telephony-pod"
			t.Cleanup(func() { _ = exec.Command("viarule", "lab", "down", lab).Run() })
			if out, err := exec.Command("viarule", "lab", "up", lab).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			before, err := podText(pod)
			if err != nil {
				t.Fatal(err)
			}
			for _, command := range []string{"ADD", "CHECK", "DEL"} {
				if out, err := pluginCommand(command, pod, "net1", string(text), conf["type"].(string)).CombinedOutput(); err != nil {
					t.Fatalf("%s: %v: %s", command, err, out)
				}
				if command == "ADD" {
					if out, err := exec.Command("viarule", "status", "--netns", pod).CombinedOutput(); err != nil {
						t.Errorf("status: %v: %s", err, out)
					}
				}
			}
			if after, err := podText(pod); err != nil || after != before {
				t.Errorf("before\n%s\nafter, %v:\n%s", before, err, after)
			}
		})
	}
	if tried < 6 {
		t.Errorf("%d configurations found on the page", tried)
	}
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

// plain takes blanks off the ends of lines.
func plain(s string) string {
	return regexp.MustCompile(`(?m)[ \t]+$`).ReplaceAllString(s, "")
}
