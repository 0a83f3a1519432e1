package script

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/viarule/viarule/internal/netnstest"
)

// callPlugin calls a plugin with the environment and the standard input that a runtime
// gives. The container is named after the namespace.
func callPlugin(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 4 {
		ts.Fatalf("usage: cni COMMAND NETNS LINK FILE")
	}
	conf := ts.ReadFile(args[3])
	var head struct{ Type string }
	ts.Check(json.Unmarshal([]byte(conf), &head))
	out, err := pluginCommand(args[0], args[1], args[2], conf, head.Type).CombinedOutput()
	_, _ = ts.Stdout().Write(out)
	if (err != nil) != neg {
		ts.Fatalf("cni %s: %v", strings.Join(args, " "), err)
	}
}

// pluginCommand is a call of a plugin, which args start.
func pluginCommand(command, netns, link, conf string, args ...string) *exec.Cmd {
	c := exec.Command(args[0], args[1:]...)
	c.Stdin = strings.NewReader(conf)
	c.Env = append(os.Environ(), "CNI_COMMAND="+command, "CNI_PATH=/opt/cni/bin")
	if netns != "-" {
		c.Env = append(c.Env, "CNI_CONTAINERID="+netns, "CNI_NETNS=/run/netns/"+netns, "CNI_IFNAME="+link)
	}
	return c
}

// podState writes what a plugin may change in a namespace. Left out is what comes by
// itself and in its own time, when a link gets its carrier: link-local addresses and the
// routes to them, table local; and the rule that the kernel makes with the first VRF and
// keeps.
func podState(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: pod NETNS FILE")
	}
	text, err := podText(args[0])
	if err != nil {
		ts.Fatalf("%v", err)
	}
	if err := os.WriteFile(ts.MkAbs(args[1]), []byte(text), 0o644); err != nil {
		ts.Fatalf("%v", err)
	}
}

func podText(netns string) (string, error) {
	var text strings.Builder
	for _, what := range [][]string{{"-d -N", "rule show", "route show table all"}, {"-d -N -6", "rule show", "route show table all"}, {"-o", "addr show"}, {"-o", "link show"}} {
		c := exec.Command("ip", append(strings.Fields(what[0]), "-n", netns, "-batch", "-")...)
		c.Stdin = strings.NewReader(strings.Join(what[1:], "\n") + "\n")
		out, err := c.CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("ip %s %s: %w: %s", what[0], what[1], err, out)
		}
		for line := range bytes.Lines(out) {
			l := string(line)
			if what[1] == "link show" {
				words := strings.Fields(l)
				if at := slices.Index(words, "master"); at > 0 {
					text.WriteString(words[1] + " master " + words[at+1] + "\n")
				}
				continue
			}
			if !strings.Contains(l, "table 255") && !strings.Contains(l, "fe80::") && !strings.Contains(l, "ff00::/8") && !strings.Contains(l, "l3mdev") {
				text.WriteString(l)
			}
		}
	}
	return text.String(), nil
}

const vrfConf = `{"cniVersion": "1.0.0", "name": "n", "type": "viarule-sbr", "strictReversePath": true, "rules": [{"fwmark": "0x5"}], "vrf": "red",
 "prevResult": {"cniVersion": "1.0.0", "interfaces": [{"name": "net1", "sandbox": "/run/netns/pod"}],
  "ips": [{"address": "10.1.0.5/24", "gateway": "10.1.0.1", "interface": 0}, {"address": "2001:db8:1::5/64", "gateway": "2001:db8:1::1", "interface": 0}]}}`

// TestPluginKilledAtAnyPoint kills ADD, and DEL, of an interface in a VRF, as
// TestKilledAtAnyPoint does. A DEL after that leads back to what was before, to the last
// link.
func TestPluginKilledAtAnyPoint(t *testing.T) {
	if os.Getenv("VIARULE_VM") == "" {
		t.Skip("this kernel has no VRFs; test/cni kills what needs none")
	}
	const step = 7 // the machine takes seconds for each call
	netnstest.New(t, netnstest.Mounts())
	plugin := programLink(t, "viarule-sbr")
	pod(t)
	before := podWhole(t)
	call := func(command string) *exec.Cmd { return pluginCommand(command, "pod", "net1", vrfConf, plugin) }
	succeeds := func(command, where string) {
		if out, err := call(command).CombinedOutput(); err != nil {
			t.Fatalf("%s: %s: %v\n%s", where, command, err, out)
		}
	}
	kills := 0
	for _, command := range []string{"ADD", "DEL"} {
		for _, calls := range []string{"sendto,sendmsg", "renameat,renameat2", "write,pwrite64", "unlinkat"} {
			for n, died := 1, true; died && n <= 60; n += step {
				where := fmt.Sprintf("%s killed at call %d of %s", command, n, calls)
				if command == "DEL" {
					succeeds("ADD", "before "+where)
				}
				if died = netnstest.Kill(t, call(command), calls, n); died {
					kills++
				}
				succeeds("DEL", where)
				if after := podWhole(t); after != before {
					t.Fatalf("%s, after another DEL:\n%s\nbefore:\n%s", where, after, before)
				}
				if left, _ := filepath.Glob("/run/viarule/ns-*/cni.json"); len(left) > 0 {
					t.Fatalf("%s, DEL left %v", where, left)
				}
			}
		}
	}
	t.Logf("killed %d times", kills)
	if kills < 20/step {
		t.Errorf("killed only %d times: the instrument does not work", kills)
	}
}

// pod makes the namespace pod, with the interface net1 as a plugin before leaves it.
func pod(t *testing.T) {
	t.Helper()
	netnstest.IP(t, "netns add pod", "link add peer1 type veth peer name net1 netns pod", "link set peer1 addrgenmode none up",
		"-n pod link set lo up", "-n pod link set net1 addrgenmode none up", "-n pod addr add 10.1.0.5/24 dev net1", "-n pod addr add 2001:db8:1::5/64 dev net1 nodad",
		"-n pod route add default via 10.1.0.1 dev net1", "-n pod -6 route add default via 2001:db8:1::1 dev net1", "-n pod -6 route add 2001:db8:9::/48 via 2001:db8:1::9 dev net1")
}

// podWhole is podText, the names of the links and the sysctls of net1.
func podWhole(t *testing.T) string {
	t.Helper()
	text, err := podText("pod")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(netnstest.Exec(t, "ip", "-n", "pod", "-br", "link")) {
		text += strings.Fields(line)[0] + "\n"
	}
	netnstest.In(t, "pod", func() {
		for _, key := range []string{"rp_filter", "src_valid_mark"} {
			value, err := os.ReadFile("/proc/sys/net/ipv4/conf/net1/" + key)
			if err != nil {
				t.Fatal(err)
			}
			text += key + " " + string(value)
		}
	})
	return text
}
