// Package script runs the txtar scripts: what a user does, step by step, with
// the real program in a network namespace and a mount namespace of its own.
// A folder holds the scripts of one command; names start with the verb.
//
// Beyond testscript's own commands:
//
//	uplinks              makes two links with addresses: eth0 (default route) and eth1
//	same FILE FILE       compares as cmp does, but for the order of lines
//	status N COMMAND...  runs COMMAND, which must exit with N
//	kernel FILE          writes the rules and routes of the namespace, all of them, to FILE
//	cni COMMAND NETNS LINK FILE  calls the plugin of FILE's type as a runtime does; of GC
//	                     NETNS and LINK are -. What it prints is for stdout
//	pod NETNS FILE       writes the addresses, ports, rules and routes of a namespace to FILE,
//	                     without what comes by itself
//
// The condition [vm] holds in the machine of test/vm, whose kernel has VLANs, VRFs
// and IPVS. $LABS is the folder of the example labs, $LAB the lab for scripts about
// external networks, $PODLAB the one for scripts about CNI plugins.
package script

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/viarule/viarule/internal/cli"
	"github.com/viarule/viarule/internal/cni/sbr"
	"github.com/viarule/viarule/internal/host"
	"github.com/viarule/viarule/internal/netnstest"
)

func TestMain(m *testing.M) {
	// The guard of apply --confirm is a copy of the running program, which is
	// this one, under another name; so is a link that a test makes.
	viarule := func() { os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }
	plugin := func() {
		runtime.LockOSThread() // which the plugin's own function init needs not: see kernel.Pinned
		os.Exit(sbr.Main(filepath.Base(os.Args[0]), "test"))
	}
	commands := map[string]func(){"viarule": viarule, sbr.Own: plugin, sbr.DropIn: plugin}
	if len(os.Args) > 1 && os.Args[1] == host.GuardCommand {
		viarule()
	}
	if command := commands[filepath.Base(os.Args[0])]; command != nil {
		command()
	}
	testscript.Main(m, commands)
}

func TestScripts(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("not root: cannot make network namespaces")
	}
	scripts, err := filepath.Glob("*/*.txtar")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("found no scripts: %v", err)
	}
	labs, err := filepath.Abs("../../examples/lab")
	if err != nil {
		t.Fatal(err)
	}
	testdata, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	var folders []string
	for _, s := range scripts {
		folders = append(folders, filepath.Dir(s))
	}
	for _, dir := range slices.Compact(folders) {
		t.Run(dir, func(t *testing.T) {
			testscript.Run(t, testscript.Params{
				Dir:                 dir,
				RequireExplicitExec: true,
				RequireUniqueNames:  true,
				UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") != "",
				Setup: func(env *testscript.Env) error {
					netnstest.New(env.T().(testing.TB), netnstest.Mounts())
					env.Setenv("NO_COLOR", "1")
					env.Setenv("LABS", labs)
					env.Setenv("LAB", filepath.Join(testdata, "external.lab.yaml"))
					env.Setenv("PODLAB", filepath.Join(testdata, "pod.lab.yaml"))
					return nil
				},
				Condition: func(cond string) (bool, error) {
					switch cond {
					case "vm":
						return os.Getenv("VIARULE_VM") != "", nil
					case "force_forwarding": // links can forward IPv6 each for itself (Linux 6.17)
						_, err := os.Stat("/proc/sys/net/ipv6/conf/all/force_forwarding")
						return err == nil, nil
					}
					return false, fmt.Errorf("unknown condition %s", cond)
				},
				Cmds: map[string]func(*testscript.TestScript, bool, []string){
					"uplinks": uplinks, "kernel": kernelState, "same": same, "status": status,
					"cni": callPlugin, "pod": podState,
				},
			})
		})
	}
}

// ip gives all lines to one `ip` with options, in the script's namespace.
func ip(ts *testscript.TestScript, options string, lines ...string) string {
	c := exec.Command("ip", append(strings.Fields(options), "-batch", "-")...)
	c.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	out, err := c.CombinedOutput()
	if err != nil {
		ts.Fatalf("ip %s -batch: %v\n%s", options, err, out)
	}
	return string(out)
}

// uplinks makes a host with two uplinks, IPv4 and IPv6. The other ends are in
// the same namespace and never up with an address: nothing answers.
func uplinks(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: uplinks")
	}
	ip(ts, "",
		"link add eth0 type veth peer name peer0", "link add eth1 type veth peer name peer1",
		// Link-local addresses would come up while a script runs.
		"link set eth0 addrgenmode none", "link set eth1 addrgenmode none", "link set peer0 addrgenmode none", "link set peer1 addrgenmode none",
		"addr add 10.10.10.10/24 dev eth0", "addr add 192.168.10.2/24 dev eth1",
		"addr add 2001:db8:a::10/64 dev eth0 nodad", "addr add 2001:db8:b::2/64 dev eth1 nodad",
		"link set peer0 up", "link set peer1 up", "link set eth0 up", "link set eth1 up",
		"route add default via 10.10.10.1 dev eth0", "route add default via 2001:db8:a::1 dev eth0")
	// The kernel adds a link's multicast route when it notices the carrier.
	for end := time.Now().Add(10 * time.Second); strings.Count(ip(ts, "-6", "route show table local type multicast"), "ff00::/8") < 4; {
		if time.Now().After(end) {
			ts.Fatalf("the links did not come up:\n%s", ip(ts, "", "link"))
		}
	}
}

// kernelState writes what the kernel holds, as `ip` prints it with all details.
func kernelState(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: kernel FILE")
	}
	text := ip(ts, "-d -N", "rule show", "route show table all", "nexthop show") + ip(ts, "-d -N -6", "rule show", "route show table all")
	if err := os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o644); err != nil {
		ts.Fatalf("%v", err)
	}
}

func same(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: same FILE FILE")
	}
	lines := func(name string) []string {
		l := strings.Split(ts.ReadFile(name), "\n")
		slices.Sort(l)
		return l
	}
	if a, b := lines(args[0]), lines(args[1]); slices.Equal(a, b) == neg {
		ts.Fatalf("same is %v\n--- %s\n%s\n--- %s\n%s", !neg, args[0], strings.Join(a, "\n"), args[1], strings.Join(b, "\n"))
	}
}

func status(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N COMMAND...")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("%s exited with %d, not %s", strings.Join(args[1:], " "), got, args[0])
	}
}
