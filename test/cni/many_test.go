package cni

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/viarule/viarule/internal/netnstest"
)

const many = 100

// linkOf is the n-th link, with its addresses and their gateways.
type linkOf struct{ name, ip4, gw4, ip6, gw6 string }

func nthLink(n int) linkOf {
	return linkOf{fmt.Sprintf("net%d", n), fmt.Sprintf("10.%d.0.2", 100+n), fmt.Sprintf("10.%d.0.1", 100+n),
		fmt.Sprintf("2001:db8:%x::2", 0x100+n), fmt.Sprintf("2001:db8:%x::1", 0x100+n)}
}

// batch are the commands that make the link in a namespace. Without IPv6 addresses
// of the link's own, whose routes come when the kernel finds the time.
func (l linkOf) batch() string {
	return fmt.Sprintf("link add %[1]s type veth peer name p-%[1]s\nlink set %[1]s addrgenmode none\nlink set p-%[1]s addrgenmode none\nlink set %[1]s up\nlink set p-%[1]s up\naddr add %[2]s/24 dev %[1]s\naddr add %[3]s/64 dev %[1]s nodad\n",
		l.name, l.ip4, l.ip6)
}

// call is the ADD of the link, as an interface plugin hands it on.
func (l linkOf) call(name, container, netns string) call {
	return call{program: ours + "/" + name, command: "ADD", container: container, netns: netns, ifname: l.name, stdin: fmt.Sprintf(`{"cniVersion": "1.1.0", "name": "many", "type": %q, "prevResult": {"cniVersion": "1.1.0",
		"interfaces": [{"name": %q, "sandbox": %q}], "ips": [{"address": "%s/24", "gateway": %q, "interface": 0}, {"address": "%s/64", "gateway": %q, "interface": 0}]}}`,
		name, l.name, netns, l.ip4, l.gw4, l.ip6, l.gw6)}
}

// ipBatch runs `ip -batch` in a namespace.
func ipBatch(t *testing.T, ns, commands string) {
	t.Helper()
	c := exec.Command("ip", "-n", ns, "-batch", "-")
	c.Stdin = strings.NewReader(commands)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("ip -batch: %v\n%s", err, out)
	}
}

// atOnce starts all calls before it waits for the first.
func atOnce(t *testing.T, calls []call, command string) {
	t.Helper()
	var waits []func() (string, error)
	for _, c := range calls {
		waits = append(waits, c.as(command).start(t))
	}
	for i, wait := range waits {
		if _, err := wait(); err != nil {
			t.Errorf("call %d: %v", i, err)
		}
	}
}

// routed checks a link's rules, and the default routes in their tables, and
// gives the tables.
func (l linkOf) routed(t *testing.T, state string) (tables []string) {
	t.Helper()
	for _, a := range []struct{ ip, gw string }{{l.ip4, l.gw4}, {l.ip6, l.gw6}} {
		table := ""
		for line := range strings.Lines(state) {
			f := strings.Fields(line)
			if len(f) > 4 && f[1] == "from" && f[2] == a.ip && f[3] == "lookup" {
				table = f[4]
			}
		}
		if table == "" {
			t.Errorf("no rule from %s", a.ip)
			continue
		}
		if !strings.Contains(state, fmt.Sprintf("default via %s dev %s table %s proto 119", a.gw, l.name, table)) {
			t.Errorf("no default route of %s in table %s", a.ip, table)
		}
		tables = append(tables, table)
	}
	return tables
}

// TestManyInOneNamespace: a hundred interfaces of one pod at once. All succeed,
// and no two addresses share a table.
func TestManyInOneNamespace(t *testing.T) {
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			newHost(t)
			pod := newNamespace(t, "pod")
			var calls []call
			var links strings.Builder
			for n := range many {
				links.WriteString(nthLink(n).batch())
				calls = append(calls, nthLink(n).call(name, "c1", pod))
			}
			ipBatch(t, "pod", links.String())
			before := routing(t, "pod")
			atOnce(t, calls, "ADD")
			state := routing(t, "pod")
			var tables []string
			for n := range many {
				tables = append(tables, nthLink(n).routed(t, state)...)
			}
			slices.Sort(tables)
			if n := len(slices.Compact(tables)); n != 2*many {
				t.Errorf("%d tables for %d addresses", n, 2*many)
			}
			atOnce(t, calls, "CHECK")
			atOnce(t, calls, "DEL")
			nothingLeft(t, "pod")
			if after := routing(t, "pod"); sortedLines(after) != sortedLines(before) {
				t.Errorf("after DEL:\n%s\nbefore ADD:\n%s", after, before)
			}
		})
	}
}

// sortedLines makes the order of a table's routes, in which they were put back,
// of no account.
func sortedLines(s string) string {
	lines := strings.Split(s, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// TestManyNamespaces: an interface in each of a hundred pods at once.
func TestManyNamespaces(t *testing.T) {
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			newHost(t)
			var calls []call
			var pods []string
			for n := range many {
				ns := fmt.Sprintf("pod%d", n)
				pods = append(pods, ns)
				path := netnstest.Named(t, ns)
				ipBatch(t, ns, nthLink(n).batch())
				calls = append(calls, nthLink(n).call(name, "c-"+ns, path))
			}
			atOnce(t, calls, "ADD")
			for n, ns := range pods {
				nthLink(n).routed(t, routing(t, ns))
			}
			if n := len(records(t)); n != many {
				t.Errorf("%d records for %d namespaces", n, many)
			}
			atOnce(t, calls, "DEL")
			nothingLeft(t, pods...)
		})
	}
}
