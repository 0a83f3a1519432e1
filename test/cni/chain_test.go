package cni

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/viarule/viarule/internal/netnstest"
)

var versions = []string{"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"}

// Two addresses of each family, every one with its gateway. The bridge plugin
// wants those of IPv4 in one network.
const (
	manyAddresses = `"ipam": {"type": "static", "addresses": [
		{"address": "192.0.2.10/24", "gateway": "192.0.2.1"}, {"address": "2001:db8:1::10/64", "gateway": "2001:db8:1::1"},
		{"address": "198.51.100.10/25", "gateway": "198.51.100.1"}, {"address": "2001:db8:2::10/64", "gateway": "2001:db8:2::1"}]}`
	oneAddress = `"ipam": {"type": "static", "addresses": [{"address": "192.0.2.10/24", "gateway": "192.0.2.1"}, {"address": "2001:db8:1::10/64", "gateway": "2001:db8:1::1"}]}`
	oneNetwork = `"ipam": {"type": "static", "addresses": [
		{"address": "192.0.2.10/24", "gateway": "192.0.2.1"}, {"address": "2001:db8:1::10/64", "gateway": "2001:db8:1::1"},
		{"address": "192.0.2.11/24", "gateway": "192.0.2.1"}, {"address": "2001:db8:1::11/64", "gateway": "2001:db8:1::1"}]}`
)

// gatewayAddresses makes a link of the node the gateway of those networks.
func gatewayAddresses(t *testing.T, link string) {
	t.Helper()
	netnstest.IP(t, "link set "+link+" up", "addr add 192.0.2.1/24 dev "+link, "addr add 198.51.100.1/25 dev "+link,
		"addr add 2001:db8:1::1/64 dev "+link+" nodad", "addr add 2001:db8:2::1/64 dev "+link+" nodad")
}

// interfacePlugins are the plugins that ours is chained behind: what the node
// needs for each, and its configuration.
var interfacePlugins = []struct {
	name    string
	prepare func(t *testing.T)
	config  string
}{
	{"ptp", nil, `{"type": "ptp", ` + manyAddresses + `}`},
	{"bridge", nil, `{"type": "bridge", "bridge": "br0", "isGateway": true, ` + oneNetwork + `}`},
	// This is what flannel delegates to.
	{"bridge as default", nil, `{"type": "bridge", "bridge": "cni0", "isGateway": true, "isDefaultGateway": true, "hairpinMode": true, "mtu": 1450, ` + oneNetwork + `}`},
	// Only the kernel of test/vm has it.
	{"ipvlan", func(t *testing.T) {
		netnstest.IP(t, "link add up0 type veth peer name up1", "link set up0 up")
		if out, err := exec.Command("ip", "link", "add", "link", "up0", "name", "try", "type", "ipvlan").CombinedOutput(); err != nil {
			if os.Getenv("VIARULE_VM") != "" {
				t.Fatalf("this kernel should have ipvlan links: %v: %s", err, out)
			}
			t.Skipf("the kernel has no ipvlan links: %s", out)
		}
		netnstest.IP(t, "link del try")
		gatewayAddresses(t, "up1")
	}, `{"type": "ipvlan", "master": "up0", "mode": "l2", ` + manyAddresses + `}`},
	{"macvlan", func(t *testing.T) {
		netnstest.IP(t, "link add up0 type veth peer name up1", "link set up0 up")
		gatewayAddresses(t, "up1")
	}, `{"type": "macvlan", "master": "up0", "mode": "bridge", ` + manyAddresses + `}`},
	{"host-device", func(t *testing.T) {
		netnstest.IP(t, "link add dev0 type veth peer name dev1")
		gatewayAddresses(t, "dev1")
	}, `{"type": "host-device", "device": "dev0", ` + manyAddresses + `}`},
}

// TestChains: whatever made the interface, what a pod sends from one of its
// addresses leaves by it and its gateway, and everything else by management.
func TestChains(t *testing.T) {
	for _, plugin := range interfacePlugins {
		for _, version := range versions {
			for _, name := range names {
				t.Run(strings.Join([]string{plugin.name, version, name}, "/"), func(t *testing.T) {
					t.Parallel()
					newHost(t)
					pod := newPod(t)
					if plugin.prepare != nil {
						plugin.prepare(t)
					}
					before := routing(t, "pod")
					a := attach(t, ours, version, pod, "net1", plugin.config, fmt.Sprintf(`{"type": %q}`, name))
					result := a.add(t)
					for _, ip := range addressesOf(t, result) {
						leaves(t, "pod", ip, outsideOf(ip), goesBy("network", ip))
					}
					// A new default route of the interface plugin's stays where we keep main's
					// routes: IPv4 puts it before, IPv6 behind.
					if plugin.name != "bridge as default" || name == dropIn {
						leaves(t, "pod", "", outside4, goesBy("management", management4))
						leaves(t, "pod", "", outside6, goesBy("management", management6))
					}
					if err := a.check(); version < "0.4" && !errors.Is(err, libcni.ErrorCheckNotSupp) || version >= "0.4" && err != nil {
						t.Errorf("CHECK: %v", explain(err))
					}
					if err := a.runtime.CheckNetworkList(context.Background(), a.list, a.rt); name == own && version >= "0.4" && err != nil {
						t.Errorf("CHECK of all plugins: %v", explain(err))
					}
					if err := a.runtime.GetStatusNetworkList(context.Background(), a.list); err != nil {
						t.Errorf("STATUS: %v", explain(err))
					}
					a.del(t)
					if after := routing(t, "pod"); after != before {
						t.Errorf("after DEL:\n%s\nbefore ADD:\n%s", after, before)
					}
					nothingLeft(t, "pod")
					if err := a.runtime.DelNetworkList(context.Background(), a.last, a.rt); err != nil {
						t.Errorf("DEL again: %v", explain(err))
					}
				})
			}
		}
	}
}

// addressesOf is every address that a result has for a pod.
func addressesOf(t *testing.T, result types.Result) (all []string) {
	t.Helper()
	r, err := current.NewResultFromResult(result)
	if err != nil {
		t.Fatal(err)
	}
	for _, ip := range r.IPs {
		all = append(all, ip.Address.IP.String())
	}
	if len(all) != 4 {
		t.Fatalf("%d addresses in the result, want 4", len(all))
	}
	return all
}

// TestSameAsReference: where the reference plugin does the right thing, the
// drop-in leaves the same rules and routes, but for the mark. Of two addresses in
// one network each prefers another as the source hint, so here is one.
func TestSameAsReference(t *testing.T) {
	for _, plugin := range interfacePlugins {
		for _, keys := range []string{"", `, "addSourceHints": true`, `, "table": 4711`, `, "gateways": ["192.0.2.1", "2001:db8:1::1"]`} {
			t.Run(plugin.name+keys, func(t *testing.T) {
				t.Parallel()
				var got [2]string
				for i, programs := range []string{reference, ours} {
					t.Run([]string{"reference", "ours"}[i], func(t *testing.T) {
						newHost(t)
						pod := newPod(t)
						if plugin.prepare != nil {
							plugin.prepare(t)
						}
						config := strings.ReplaceAll(plugin.config, oneNetwork, oneAddress)
						attach(t, programs, "1.0.0", pod, "net1", config, `{"type": "sbr"`+keys+`}`).add(t)
						got[i] = alike(routing(t, "pod"))
					})
				}
				if got[0] != got[1] {
					t.Errorf("ours:\n%s\nreference:\n%s", got[1], got[0])
				}
			})
		}
	}
}

var (
	reMark  = regexp.MustCompile(` proto \d+| metric \d+| onlink`)
	reRule  = regexp.MustCompile(`^\d+:\s+from ([0-9a-f.:]+) lookup (\d+)`)
	reTable = regexp.MustCompile(` table (\d+)`)
	reHost  = regexp.MustCompile(`2001:db8:[0-9a-f]::1 dev net1 table 254`)
	reBoth  = regexp.MustCompile(`default (table 254 .*)\n\s+nexthop (via \S+ dev eth0) weight 1 *\n\s+nexthop via \S+ dev net1 weight 1 *\n`)
	reWay   = regexp.MustCompile(`2001:db8:[0-9a-f]::1 dev net1 table \d+ scope 0 pref`) // no interface plugin's: those have a source
)

// alike leaves out of rules and routes what may differ: who made them; routes in a
// table that no rule of their family looks into (the reference copies them);
// link-local ones, which we leave in main, for without them neighbours are not
// found; and onlink, by which a gateway counts that main leads to, or of IPv6 the route
// to the gateway that does the same; and that the reference leaves in main a default
// route of IPv6 by both interfaces. With addSourceHints the reference gives IPv6 networks another metric, and leaves no
// route to a gateway alone where IPv4 keeps it.
func alike(text string) string {
	families := map[string]string{} // that have rules for a table
	for line := range strings.Lines(text) {
		if m := reRule.FindStringSubmatch(line); m != nil {
			families[m[2]] += map[bool]string{true: "6", false: "4"}[strings.Contains(m[1], ":")]
		}
	}
	var s strings.Builder
	for line := range strings.Lines(reBoth.ReplaceAllString(text, "default $2 $1\n")) {
		m := reTable.FindStringSubmatch(line)
		family := "4"
		if strings.Contains(line, " pref ") {
			family = "6"
		}
		if m != nil && (strings.Contains(line, "fe80::/64") || reHost.MatchString(line) || families[m[1]] != "" && !strings.Contains(families[m[1]], family)) {
			continue
		}
		if line = strings.Join(strings.Fields(reMark.ReplaceAllString(line, "")), " "); !reWay.MatchString(line) {
			s.WriteString(line + "\n")
		}
	}
	return s.String()
}

// TestCheckNamesWhatIsMissing: a rule and a route, of each family, taken away.
func TestCheckNamesWhatIsMissing(t *testing.T) {
	for _, name := range names {
		for _, family := range []struct{ flag, address string }{{"-4", first4}, {"-6", first6}} {
			t.Run(name+"/"+family.address, func(t *testing.T) {
				newHost(t)
				pod := newPod(t)
				a := attach(t, ours, "1.1.0", pod, "net1", interfacePlugins[1].config, fmt.Sprintf(`{"type": %q}`, name))
				a.add(t)
				rule, table := ruleFrom(t, "pod", family.address)
				netnstest.IP(t, "-n pod "+family.flag+" rule del "+rule)
				checkFails(t, a, "from "+family.address)
				netnstest.IP(t, "-n pod "+family.flag+" rule add "+rule)
				if err := a.check(); err != nil && name == dropIn {
					t.Errorf("CHECK after a rule without our mark came back: %v", explain(err))
				}
				netnstest.IP(t, "-n pod "+family.flag+" route del default table "+table)
				checkFails(t, a, "table "+table)
				a.del(t)
				nothingLeft(t, "pod")
			})
		}
	}
}

func checkFails(t *testing.T, a attachment, part string) {
	t.Helper()
	err := a.check()
	e, ok := errors.AsType[*types.Error](err)
	if !ok || e.Code != 101 || !strings.Contains(e.Msg+e.Details, part) {
		t.Errorf("CHECK: %v; want code 101 and %q", explain(err), part)
	}
}

// ruleFrom finds the rule of an address: its text, to take away and give back,
// and its table.
func ruleFrom(t *testing.T, ns, address string) (rule, table string) {
	t.Helper()
	for line := range strings.Lines(routing(t, ns)) {
		f := strings.Fields(line)
		if len(f) >= 5 && f[1] == "from" && f[2] == address && f[3] == "lookup" {
			return "pref " + strings.TrimSuffix(f[0], ":") + " from " + address + " lookup " + f[4], f[4]
		}
	}
	t.Fatalf("no rule from %s in %s:\n%s", address, ns, routing(t, ns))
	return "", ""
}

// TestGC: an attachment that the runtime's list lacks goes, one in it stays, and
// one of another network too. libcni's own cache is hidden, from which it would
// call DEL.
func TestGC(t *testing.T) {
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			newHost(t)
			pods := []string{newPod(t), newNamespace(t, "pod2"), newNamespace(t, "pod3")}
			plugins := []string{interfacePlugins[1].config, fmt.Sprintf(`{"type": %q}`, name)}
			other := attach(t, ours, "1.1.0", pods[0], "net2", plugins...)
			other.add(t)
			var all []attachment
			for _, pod := range pods {
				a := attach(t, ours, "1.1.0", pod, "net1", plugins...)
				a.add(t)
				all = append(all, a)
			}
			collect := func(args *libcni.GCArgs) error {
				a := attach(t, ours, "1.1.0", pods[0], "net1", plugins...)
				err := a.runtime.GCNetworkList(context.Background(), a.list, args)
				if err != nil && !strings.Contains(err.Error(), "failed to GC plugin "+name) {
					return nil // the bridge plugin has no GC
				}
				return err
			}
			valid := types.GCAttachment{ContainerID: all[1].rt.ContainerID, IfName: "net1"}
			if err := collect(&libcni.GCArgs{ValidAttachments: []types.GCAttachment{valid}}); err != nil {
				t.Fatalf("GC: %v", err)
			}
			for i, a := range all {
				if err := a.check(); (err == nil) != (i == 1) {
					t.Errorf("CHECK of attachment %d after GC: %v", i, explain(err))
				}
			}
			if err := other.check(); err != nil {
				t.Errorf("CHECK of another network's attachment after GC: %v", explain(err))
			}
			// No list at all would mean that nothing is valid: an error, and nothing goes.
			if err := collect(nil); err == nil || all[1].check() != nil {
				t.Errorf("GC without a list: %v; then CHECK: %v", err, all[1].check())
			}
			// A runtime without attachments gives null.
			if err := collect(&libcni.GCArgs{}); err != nil {
				t.Errorf("GC with an empty list: %v", err)
			}
			if all[1].check() == nil {
				t.Error("GC with an empty list left an attachment")
			}
			other.del(t)
			for _, a := range all {
				a.del(t)
			}
			nothingLeft(t, "pod", "pod2", "pod3")
		})
	}
}

// TestNoInterfacesInResult: an old plugin's result has addresses and no list of
// interfaces; they count for CNI_IFNAME.
func TestNoInterfacesInResult(t *testing.T) {
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			newHost(t)
			pod := newPod(t)
			netnstest.IP(t, "link add net1 netns pod type veth peer name dev1", "-n pod link set net1 addrgenmode none", "-n pod link set net1 up", "-n pod addr add "+first4+"/24 dev net1",
				"-n pod addr add "+first6+"/64 dev net1 nodad")
			gatewayAddresses(t, "dev1")
			before := routing(t, "pod")
			c := call{program: ours + "/" + name, command: "ADD", container: "c1", netns: pod, ifname: "net1", stdin: `{"cniVersion": "0.3.0", "name": "old", "type": "` + name + `", "prevResult": {"cniVersion": "0.3.0",
				"ips": [{"version": "4", "address": "192.0.2.10/24", "gateway": "192.0.2.1"}, {"version": "6", "address": "2001:db8:1::10/64", "gateway": "2001:db8:1::1"}],
				"dns": {"nameservers": ["192.0.2.53"]}}}`}
			out := c.must(t)
			for _, part := range []string{`"192.0.2.10/24"`, `"2001:db8:1::1"`, `"192.0.2.53"`, `"0.3.0"`} {
				if !strings.Contains(out, part) {
					t.Errorf("the result lacks %s:\n%s", part, out)
				}
			}
			leaves(t, "pod", first4, outside4, goesBy("network", first4))
			leaves(t, "pod", first6, outside6, goesBy("network", first6))
			d := c.as("DEL")
			d.stdin = `{"cniVersion": "0.3.0", "name": "old", "type": "` + name + `"}` // 0.3.0 gives DEL no result
			d.must(t)
			if after := routing(t, "pod"); after != before {
				t.Errorf("after DEL:\n%s\nbefore ADD:\n%s", after, before)
			}
			nothingLeft(t, "pod")
		})
	}
}
