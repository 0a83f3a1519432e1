package sbr_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/viarule/viarule/internal/cni/sbr"
	"github.com/viarule/viarule/internal/kernel"
	"github.com/viarule/viarule/internal/netnstest"
	"github.com/viarule/viarule/internal/netstate"
)

// programs is the folder that has the program under both of its names.
var programs string

func TestMain(m *testing.M) { os.Exit(withPrograms(m)) }

func withPrograms(m *testing.M) int {
	flag.Parse()
	if testing.Short() || os.Geteuid() != 0 {
		return m.Run() // newPod skips
	}
	dir, err := os.MkdirTemp("", "viarule-sbr-")
	if err == nil {
		defer os.RemoveAll(dir)
		err = os.Chmod(dir, 0o755) // for those who are not root
	}
	if err == nil {
		programs = dir
		c := exec.Command("go", "build", "-o", filepath.Join(dir, sbr.Own), "../../../cmd/viarule-sbr")
		c.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, berr := c.CombinedOutput(); berr != nil {
			err = fmt.Errorf("build the program: %w\n%s", berr, out)
		}
	}
	if err == nil {
		err = os.Symlink(sbr.Own, filepath.Join(dir, sbr.DropIn))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

var names = []string{sbr.DropIn, sbr.Own}

const podPath = "/run/netns/pod"

// newPod makes the namespace "pod" with the links eth0, which has the default routes,
// and net1 and net2, which an interface plugin has just set up.
func newPod(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("builds and runs a program")
	}
	netnstest.New(t, netnstest.Mounts("/var/log"))
	newNamespace(t, "pod")
}

func newNamespace(t *testing.T, name string) {
	t.Helper()
	netnstest.Named(t, name)
	netnstest.In(t, name, func() {
		for _, which := range []string{"all", "default"} {
			writeFile(t, "/proc/sys/net/ipv6/conf/"+which+"/accept_dad", "0")
		}
	})
	var batch strings.Builder
	for i, dev := range []string{"net1", "net2", "eth0"} {
		n := i + 1
		// The peer first, so that the link has its carrier when it is set up.
		fmt.Fprintf(&batch, "link add %[1]s type veth peer name peer%[2]d\nlink set %[1]s addrgenmode none\nlink set peer%[2]d addrgenmode none\nlink set peer%[2]d up\nlink set %[1]s up\n"+
			"addr add 10.%[2]d.0.5/24 dev %[1]s\naddr add 2001:db8:%[2]d::5/64 dev %[1]s nodad\n", dev, n)
	}
	batch.WriteString("route add default via 10.3.0.1\nroute add default via 2001:db8:3::1\n" +
		"route add 192.0.2.0/24 via 10.1.0.9 dev net1 metric 5 mtu 1400\nroute add 2001:db8:99::/48 via 2001:db8:1::9 dev net1 metric 5\n")
	ip(t, name, batch.String())
}

// ip runs lines of `ip -batch` in a namespace.
func ip(t *testing.T, ns, lines string) {
	t.Helper()
	c := exec.Command("ip", "-n", ns, "-batch", "-")
	c.Stdin = strings.NewReader(lines)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("ip -batch: %v\n%s\n%s", err, lines, out)
	}
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// routing is the rules and routes of a namespace. Left out is what the kernel makes when
// it notices that links are up: table local, and the way to multicast groups.
func routing(t *testing.T, ns string) string {
	t.Helper()
	c, err := kernel.Open(ns)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := c.Snapshot(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, r := range s.Rules {
		fmt.Fprintln(&b, r)
	}
	netstate.SortRoutes(s.Routes)
	for _, r := range s.Routes {
		if r.Table != netstate.TableLocal && !r.To.Addr().IsMulticast() {
			fmt.Fprintln(&b, r)
		}
	}
	return b.String()
}

// world is all that a call may change: the namespace's rules, routes and sysctls of
// links, and the files below /run/viarule and /var/log.
func world(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	b.WriteString(routing(t, "pod"))
	netnstest.In(t, "pod", func() { files(t, &b, "/proc/sys/net/ipv4/conf") })
	files(t, &b, "/run/viarule")
	files(t, &b, "/var/log")
	return b.String()
}

func files(t *testing.T, b *strings.Builder, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || d.IsDir() || d.Name() == "lock" { // has the number of a process
			return err
		}
		data, err := os.ReadFile(path)
		fmt.Fprintf(b, "%s: %s\n", path, bytes.TrimSpace(data))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A call is one run of the program, as a runtime does it. What is "-" is not in the
// environment.
type call struct {
	name, command, container, netns, ifname, path string
	config                                        string
	env                                           []string
	attr                                          *syscall.SysProcAttr
}

type answer struct {
	stdout, stderr string
	status         int
	err            *types.Error // what stdout says where status is not 0
}

func (c call) run(t *testing.T) answer {
	t.Helper()
	_, wait := c.start(t)
	return wait()
}

// start starts the program; the function that it returns waits for the end.
func (c call) start(t *testing.T) (pid int, wait func() answer) {
	t.Helper()
	cmd := exec.Command(filepath.Join(programs, c.name))
	cmd.Env = append(os.Environ(), c.env...)
	for key, v := range map[string]string{"COMMAND": c.command, "CONTAINERID": c.container, "NETNS": c.netns, "IFNAME": c.ifname, "PATH": c.path} {
		if v != "-" {
			cmd.Env = append(cmd.Env, "CNI_"+key+"="+v)
		}
	}
	cmd.Stdin, cmd.SysProcAttr = strings.NewReader(c.config), c.attr
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid, func() answer {
		t.Helper()
		if err := cmd.Wait(); err != nil && !errors.As(err, new(*exec.ExitError)) {
			t.Fatal(err)
		}
		return c.answer(t, answer{stdout: stdout.String(), stderr: stderr.String(), status: cmd.ProcessState.ExitCode()})
	}
}

// answer reads what a call said.
func (c call) answer(t *testing.T, a answer) answer {
	t.Helper()
	if a.stderr != "" && c.command != "" {
		t.Errorf("%s on stderr:\n%s", c.command, a.stderr)
	}
	if a.status == 0 {
		return a
	}
	a.err = &types.Error{}
	d := json.NewDecoder(strings.NewReader(a.stdout))
	if a.status != 1 || d.Decode(a.err) != nil || d.More() || a.err.Code == 0 || a.err.Msg == "" {
		t.Fatalf("%s: status %d, and no CNI error object on stdout:\n%.2000s\n%.2000s", c.command, a.status, a.stdout, a.stderr)
	}
	return a
}

func (c call) must(t *testing.T) answer {
	t.Helper()
	a := c.run(t)
	if a.err != nil {
		t.Fatalf("%s: code %d: %s; %s", c.command, a.err.Code, a.err.Msg, a.err.Details)
	}
	return a
}

// fails wants an error with the code, whose message has some words.
func (c call) fails(t *testing.T, code uint, words ...string) {
	t.Helper()
	a := c.run(t)
	if a.err == nil {
		t.Errorf("%s is a success, want code %d, %q", c.command, code, words)
		return
	}
	for _, w := range words {
		if a.err.Code != code || !strings.Contains(a.err.Msg+"; "+a.err.Details, w) {
			t.Errorf("%s: code %d: %s; %s\nwant %d: %s", c.command, a.err.Code, a.err.Msg, a.err.Details, code, w)
		}
	}
}

func (c call) as(command string) call {
	c.command = command
	return c
}

// with puts keys into the configuration, before the others.
func (c call) with(keys string) call {
	c.config = strings.Replace(c.config, "{", "{"+keys+",", 1)
	return c
}

// adding is the ADD of a pod's interface, net1 or net2.
func adding(name, ifname string) call {
	n := strings.TrimPrefix(ifname, "net")
	config := `{"cniVersion": "1.1.0", "name": "n", "type": "` + name + `", "prevResult": {"cniVersion": "1.1.0", "interfaces": [{"name": "IF", "sandbox": "/run/netns/pod"}],
		"ips": [{"address": "10.N.0.5/24", "gateway": "10.N.0.1", "interface": 0}, {"address": "2001:db8:N::5/64", "gateway": "2001:db8:N::1", "interface": 0}]}}`
	return call{name: name, command: "ADD", container: "c1", netns: podPath, ifname: ifname, path: programs,
		config: strings.NewReplacer("IF", ifname, "10.N.", "10."+n+".", "db8:N", "db8:"+n).Replace(config)}
}

// same fails where something changed.
func same(t *testing.T, what, now, before string) {
	t.Helper()
	if now == before {
		return
	}
	had, has := map[string]int{}, map[string]int{}
	for line := range strings.Lines(before) {
		had[line]++
	}
	var diff strings.Builder
	for line := range strings.Lines(now) {
		if has[line]++; has[line] > had[line] {
			diff.WriteString("+ " + line)
		}
	}
	for line := range strings.Lines(before) {
		if had[line] > has[line] {
			diff.WriteString("- " + line)
		}
	}
	if diff.Len() > 0 || strings.Count(now, "\n") != strings.Count(before, "\n") {
		t.Errorf("%s:\n%s", what, diff.String())
	}
}
