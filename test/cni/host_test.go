package cni

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/viarule/viarule/internal/netnstest"
)

// The address outside of all networks, of each family. Both the gateway of the
// management network and that of the network under test have it, and each
// answers with its own name: so an answer says which way the question went.
const (
	outside4 = "203.0.113.9"
	outside6 = "2001:db8:ffff::9"
)

// The networks of a pod: management on eth0, and the ones under test on net1.
const (
	management4, management6 = "10.0.0.2", "2001:db8:a::2"
	first4, first6           = "192.0.2.10", "2001:db8:1::10"
)

// newHost makes the test's own namespace a node: it is the gateway of the
// networks under test. Its files, processes and namespaces are nobody else's.
func newHost(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("builds and runs whole programs")
	}
	netnstest.New(t, netnstest.Mounts("/var/lib", "/var/log"))
	quiet(t)
	netnstest.IP(t, "addr add "+outside4+"/32 dev lo", "addr add "+outside6+"/128 dev lo nodad")
	serve(t, "network", outside4, outside6)
}

// quiet switches off in the current namespace what would make links usable
// only seconds later.
func quiet(t *testing.T) {
	t.Helper()
	writeSysctl(t, "ipv6/conf/all/accept_dad", "0")
	writeSysctl(t, "ipv6/conf/default/accept_dad", "0")
}

// writeSysctl sets a sysctl of the current namespace.
func writeSysctl(t *testing.T, name, value string) {
	t.Helper()
	if err := os.WriteFile("/proc/sys/net/"+name, []byte(value), 0o644); err != nil {
		t.Fatal(err)
	}
}

// sysctlOf reads a sysctl of the current namespace.
func sysctlOf(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile("/proc/sys/net/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// newNamespace makes a named namespace and returns its path.
func newNamespace(t *testing.T, name string) string {
	t.Helper()
	path := netnstest.Named(t, name)
	netnstest.In(t, name, func() { quiet(t) })
	return path
}

// newPod makes the namespace `pod` with eth0 in the management network, whose
// gateway is the namespace `management`.
func newPod(t *testing.T) (path string) {
	t.Helper()
	newNamespace(t, "management")
	path = newNamespace(t, "pod")
	netnstest.IP(t, "-n pod link add eth0 type veth peer name pod0 netns management", "-n pod link set eth0 addrgenmode none",
		"-n management link set pod0 up", "-n management addr add 10.0.0.1/24 dev pod0", "-n management addr add 2001:db8:a::1/64 dev pod0 nodad",
		"-n management addr add "+outside4+"/32 dev lo", "-n management addr add "+outside6+"/128 dev lo nodad",
		"-n pod link set eth0 up", "-n pod addr add "+management4+"/24 dev eth0", "-n pod addr add "+management6+"/64 dev eth0 nodad",
		"-n pod route add default via 10.0.0.1", "-n pod -6 route add default via 2001:db8:a::1")
	netnstest.In(t, "management", func() { serve(t, "management", outside4, outside6) })
	return path
}

// An attachment is one call of a chain of plugins.
type attachment struct {
	runtime *libcni.CNIConfig
	list    *libcni.NetworkConfigList
	last    *libcni.NetworkConfigList // only the last plugin, which is ours
	rt      *libcni.RuntimeConf
}

// attach prepares a chain, whose members are given as JSON, for a namespace.
func attach(t *testing.T, programs, cniVersion, netns, ifname string, plugins ...string) attachment {
	t.Helper()
	text := fmt.Sprintf(`{"cniVersion": %q, "name": "net-%s", "plugins": [%s]}`, cniVersion, ifname, strings.Join(plugins, ","))
	list, err := libcni.NetworkConfFromBytes([]byte(text))
	if err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	last := *list
	last.Plugins = list.Plugins[len(plugins)-1:]
	return attachment{
		runtime: libcni.NewCNIConfigWithCacheDir([]string{programs}, t.TempDir(), &invoke.DefaultExec{
			RawExec:       &invoke.RawExec{Stderr: t.Output()},
			PluginDecoder: version.PluginDecoder{},
		}),
		list: list,
		last: &last,
		rt:   &libcni.RuntimeConf{ContainerID: "container-" + filepath.Base(netns), NetNS: netns, IfName: ifname},
	}
}

func (a attachment) add(t *testing.T) types.Result {
	t.Helper()
	result, err := a.runtime.AddNetworkList(context.Background(), a.list, a.rt)
	if err != nil {
		t.Fatalf("ADD: %v", explain(err))
	}
	return result
}

// check asks our plugin: others want routes in main, from where sbr takes them.
func (a attachment) check() error {
	return a.runtime.CheckNetworkList(context.Background(), a.last, a.rt)
}

func (a attachment) del(t *testing.T) {
	t.Helper()
	if err := a.runtime.DelNetworkList(context.Background(), a.list, a.rt); err != nil {
		t.Fatalf("DEL: %v", explain(err))
	}
}

// explain adds a CNI error's code and details, which Error leaves out.
func explain(err error) error {
	if e, ok := errors.AsType[*types.Error](err); ok {
		return fmt.Errorf("code %d: %w; %s", e.Code, err, e.Details)
	}
	return err
}

// A call is one run of a program as a runtime does it, without libcni.
type call struct {
	program, command, container, netns, ifname, stdin string
	args                                              string // CNI_ARGS
}

// exec is the program's call, not yet started.
func (c call) exec() *exec.Cmd {
	cmd := exec.Command(c.program)
	cmd.Stdin = strings.NewReader(c.stdin)
	cmd.Env = append(os.Environ(), "CNI_COMMAND="+c.command, "CNI_CONTAINERID="+c.container, "CNI_NETNS="+c.netns, "CNI_IFNAME="+c.ifname,
		"CNI_PATH="+filepath.Dir(c.program), "CNI_ARGS="+c.args)
	return cmd
}

// start starts the program; the function that it returns waits for the end.
func (c call) start(t *testing.T) (wait func() (string, error)) {
	t.Helper()
	cmd := c.exec()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return func() (string, error) {
		if err := cmd.Wait(); err != nil {
			return "", fmt.Errorf("%s: %w: %w\n%s", c.command, err, cniError(stdout.Bytes()), stderr.String())
		}
		return stdout.String(), nil
	}
}

func (c call) run(t *testing.T) (string, error) {
	t.Helper()
	return c.start(t)()
}

func (c call) must(t *testing.T) string {
	t.Helper()
	out, err := c.run(t)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (c call) as(command string) call {
	c.command = command
	return c
}

// cniError reads what a failed plugin prints.
func cniError(stdout []byte) error {
	var e types.Error
	if err := json.Unmarshal(stdout, &e); err != nil {
		return fmt.Errorf("no CNI error object on stdout: %q", stdout)
	}
	return &e
}

// routing is a namespace's rules and routes. Left out is table local, which the
// kernel fills when it notices that links are up, and what only says so.
func routing(t *testing.T, ns string) string {
	t.Helper()
	var s strings.Builder
	for _, family := range []string{"-4", "-6"} {
		c := exec.Command("ip", "-n", ns, family, "-d", "-N", "-batch", "-")
		c.Stdin = strings.NewReader("rule\nroute show table all\n")
		out, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("ip -batch: %v\n%s", err, out)
		}
		for line := range strings.Lines(string(out)) {
			if !strings.Contains(line, "table 255") {
				s.WriteString(strings.ReplaceAll(line, " linkdown", ""))
			}
		}
	}
	return s.String()
}

var reOurs = regexp.MustCompile(`proto(?:col)? 119\b`)

// nothingLeft fails where a namespace has a rule or route of the plugins', or
// /run/viarule a record.
func nothingLeft(t *testing.T, namespaces ...string) {
	t.Helper()
	for _, ns := range namespaces {
		for line := range strings.Lines(routing(t, ns)) {
			if reOurs.MatchString(line) {
				t.Errorf("left in %s: %s", ns, line)
			}
		}
	}
	if left := records(t); len(left) > 0 {
		t.Errorf("records are left: %v", left)
	}
}

// records are the files of attachments.
func records(t *testing.T) []string {
	t.Helper()
	left, err := filepath.Glob("/run/viarule/*/cni.json")
	if err != nil {
		t.Fatal(err)
	}
	return left
}
