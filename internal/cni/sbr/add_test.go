package sbr_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/cni/sbr"
	"github.com/viarule/viarule/internal/netnstest"
)

// each runs a test for both names of the program, each in a pod of its own.
func each(t *testing.T, f func(t *testing.T, name string)) {
	t.Helper()
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			newPod(t)
			f(t, name)
		})
	}
}

// TestAddAndDel: a full configuration, there and back.
func TestAddAndDel(t *testing.T) {
	each(t, func(t *testing.T, name string) {
		before := world(t)
		c := adding(name, "net1").with(`"rules": [{"fwmark": "0x1/0xf"}, {"to": ["192.0.2.0/24", "2001:db8:99::/48"], "table": "main", "priority": 50}],
			"routes": [{"to": "198.51.100.0/24", "via": "10.1.0.77"}, {"to": "2001:db8:98::/48", "type": "Unreachable"}], "strictReversePath": true`)
		a := c.must(t)
		var result struct {
			CNIVersion string
			IPs        []struct{ Address string }
		}
		if err := json.Unmarshal([]byte(a.stdout), &result); err != nil || result.CNIVersion != "1.1.0" || len(result.IPs) != 2 {
			t.Errorf("%v: %s", err, a.stdout)
		}
		netnstest.In(t, "pod", func() {
			for _, key := range []string{"rp_filter", "src_valid_mark"} {
				if v, err := os.ReadFile("/proc/sys/net/ipv4/conf/net1/" + key); string(v) != "1\n" {
					t.Errorf("%s is %q, %v", key, v, err)
				}
			}
		})
		now := routing(t, "pod")
		for _, want := range []string{
			"rule 50 from all to 192.0.2.0/24 table 254 proto 119", "rule -6 50 from all to 2001:db8:99::/48 table 254 proto 119",
			"route 198.51.100.0/24 via 10.1.0.77 dev net1", "route -6 unreachable 2001:db8:98::/48",
		} {
			if !strings.Contains(now, want) {
				t.Errorf("no %s in\n%s", want, now)
			}
		}
		c.as("CHECK").must(t)
		made := world(t)
		for range 2 {
			if a := c.as("DEL").must(t); a.stdout != "" {
				t.Errorf("DEL prints %s", a.stdout)
			}
			same(t, "after DEL", world(t), before)
		}
		// And once more, so that nothing of the first time is in the way.
		c.must(t)
		same(t, "made again", world(t), made)
		c.as("DEL").must(t)
		same(t, "after DEL", world(t), before)
	})
}

// TestAddThatFails: what the kernel refuses on the way leaves nothing behind.
func TestAddThatFails(t *testing.T) {
	each(t, func(t *testing.T, name string) {
		right := adding(name, "net1")
		// Others' that are in the way, or look like ours.
		ip(t, "pod", "route add 198.51.100.0/24 via 10.1.0.9 dev net1 table 77 proto 119 src 10.1.0.5\nroute add 2001:db8:98::/48 via 2001:db8:1::9 dev net1 table 77 proto 119 src 2001:db8:1::5\n"+
			"rule add pref 600 from all fwmark 7 lookup 77 proto 119\n")
		before := world(t)
		for what, c := range map[string]call{
			"a gateway out of reach":                right.with(`"routes": [{"to": "203.0.113.0/24", "via": "198.51.100.1"}]`),
			"a gateway out of reach, IPv6":          right.with(`"routes": [{"to": "2001:db8:98::/48", "via": "2001:db8:97::1"}]`),
			"a source of nobody":                    right.with(`"routes": [{"to": "203.0.113.0/24", "via": "10.1.0.9", "src": "10.1.0.200"}]`),
			"a source of nobody, IPv6":              right.with(`"routes": [{"to": "2001:db8:98::/48", "src": "2001:db8:1::200"}]`),
			"a link that is not there":              right.with(`"routes": [{"to": "203.0.113.0/24", "dev": "net9"}]`),
			"a goto backwards":                      right.with(`"rules": [{"fwmark": 1, "goto": 1}]`),
			"a goto backwards, behind many":         right.with(`"rules": [{"from": [` + manyPrefixes(120) + `]}, {"from": [` + manyPrefixes(120) + `], "to": [` + manyPrefixes(5) + `]}, {"fwmark": 1, "goto": 1}]`),
			"the same route in the table of others": right.with(`"table": 77, "rules": [{"fwmark": 7, "priority": 600}], "routes": [{"to": "198.51.100.0/24", "via": "10.1.0.9", "src": "10.1.0.5"}]`),
			"the same route, IPv6":                  right.with(`"table": 77, "rules": [{"fwmark": 7, "priority": 600}], "routes": [{"to": "2001:db8:98::/48", "via": "2001:db8:1::9", "src": "2001:db8:1::5"}]`),
			"no default to infer":                   right.with(`"inferGateway": true, "gateways": []`),
		} {
			if what == "no default to infer" {
				c.config = strings.NewReplacer(`"10.1.0.5/24", "gateway": "10.1.0.1"`, `"10.1.0.5/32"`).Replace(c.config)
			}
			if a := c.run(t); a.err == nil {
				t.Errorf("%s: it is a success", what)
			} else if want := uint(5); what != "no default to infer" && a.err.Code != want {
				t.Errorf("%s: code %d: %s", what, a.err.Code, a.err.Msg)
			}
			same(t, what, world(t), before)
		}
	})
}

// TestGatewayOfAnotherLink: a gateway outside of the address's network, to which main
// knows a way by another link. The kernel refuses such a one of IPv6, onlink or not,
// unless the table leads to it.
func TestGatewayOfAnotherLink(t *testing.T) {
	each(t, func(t *testing.T, name string) {
		before := world(t)
		c := adding(name, "net1").with(`"gateways": ["10.3.0.1", "2001:db8:3::1"]`)
		c.must(t)
		for to, from := range map[string]string{"203.0.113.9": "10.1.0.5", "2001:db8:aa::9": "2001:db8:1::5"} {
			out, err := exec.Command("ip", "-n", "pod", "route", "get", to, "from", from).CombinedOutput()
			via := map[string]string{"10.1.0.5": " via 10.3.0.1 dev net1 ", "2001:db8:1::5": " via 2001:db8:3::1 dev net1 "}[from]
			if err != nil || !strings.Contains(string(out), via) {
				t.Errorf("from %s: %v: %s\nwant%s", from, err, out, via)
			}
		}
		c.as("CHECK").must(t)
		netnstest.IP(t, "-n pod -6 route del 2001:db8:3::1 table "+second[name])
		c.as("CHECK").fails(t, 101, "missing: route -6 2001:db8:3::1 dev net1 table "+second[name])
		c.as("DEL").must(t)
		same(t, "after DEL", world(t), before)
	})
}

func manyPrefixes(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `"10.%d.%d.0/24",`, 100+i/250, i%250)
	}
	return strings.TrimSuffix(b.String(), ",")
}

// TestAddTwice: the second ADD of one attachment undoes the first, and keeps no
// record of what is gone.
func TestAddTwice(t *testing.T) {
	each(t, func(t *testing.T, name string) {
		before := world(t)
		c := adding(name, "net1")
		c.must(t)
		made := world(t)
		c.must(t)
		same(t, "after the second ADD", world(t), made)
		c.with(`"routes": [{"to": "203.0.113.0/24", "via": "198.51.100.1"}]`).fails(t, 5, "unreachable")
		same(t, "after one that failed", world(t), before)
		c.must(t)
		infer := c.with(`"inferGateway": true`)
		infer.config = strings.NewReplacer(`"10.1.0.5/24", "gateway": "10.1.0.1"`, `"10.1.0.5/32"`).Replace(infer.config)
		infer.fails(t, 7, "inferGateway: ")
		same(t, "after one that was refused", world(t), before)
	})
}

// TestSysctlThatDoesNotExist, or that cannot be written: the code says that the kernel
// refused something, not that there is no namespace.
func TestSysctlThatDoesNotExist(t *testing.T) {
	const conf = "/proc/sys/net/ipv4/conf/net1"
	each(t, func(t *testing.T, name string) {
		before := world(t)
		// Only there does the program see it.
		inPod := func(args ...string) { netnstest.In(t, "pod", func() { netnstest.Exec(t, "mount", args...) }) }
		umount := func(path string) { netnstest.In(t, "pod", func() { netnstest.Exec(t, "umount", path) }) }
		c := adding(name, "net1").with(`"strictReversePath": true`)

		inPod("-t", "tmpfs", "tmpfs", conf)
		c.fails(t, 5, "sysctl net/ipv4/conf/net1/rp_filter: no such file")
		umount(conf)
		same(t, "after an ADD without the sysctl", world(t), before)

		const one = conf + "/rp_filter"
		inPod("--bind", one, one)
		inPod("-o", "remount,bind,ro", one)
		c.fails(t, 5, "sysctl net/ipv4/conf/net1/rp_filter: read-only")
		umount(one)
		same(t, "after an ADD that could not write", world(t), before)
	})
}

// TestPodValues: what a pod is allowed to set counts, in place of the network's.
func TestPodValues(t *testing.T) {
	each(t, func(t *testing.T, name string) {
		before := world(t)
		c := adding(name, "net1").with(`"gateways": ["10.1.0.2"], "rules": [{"fwmark": 1}], "allowPodOverrides": ["gateways", "rules", "priority", "table"],
			"args": {"cni": {"viarule": {"gateways": ["10.1.0.3"], "rules": [{"fwmark": 2}], "priority": 444, "table": null}, "other": {"table": 9}}}`)
		c.must(t)
		now := routing(t, "pod")
		for text, want := range map[string]bool{"default via 10.1.0.3": true, "default via 10.1.0.2": false, "fwmark 0x2": true, "fwmark 0x1": false, "rule 444 from 10.1.0.5": true, "table 9 ": false} {
			if strings.Contains(now, text) != want {
				t.Errorf("%q there: %t, in\n%s", text, !want, now)
			}
		}
		c.as("CHECK").must(t)
		c.as("DEL").must(t)
		same(t, "after DEL", world(t), before)
	})
}

// TestTablesAreFree: what a rule, a route of either family or a record names is not taken.
func TestTablesAreFree(t *testing.T) {
	first := map[string]int{sbr.DropIn: 100, sbr.Own: 5000}
	each(t, func(t *testing.T, name string) {
		n := first[name]
		ip(t, "pod", fmt.Sprintf("rule add pref 900 from 203.0.113.1 lookup %d\nroute add 203.0.113.0/24 dev net2 table %d\nroute add 2001:db8:55::/48 dev net2 table %d\n", n, n+1, n+3))
		netnstest.IP(t, fmt.Sprintf("-n pod -6 rule add pref 900 from 2001:db8:55::1 lookup %d", n+5))
		adding(name, "net1").must(t)
		now := routing(t, "pod")
		for _, want := range []string{fmt.Sprintf("from 10.1.0.5 table %d ", n+2), fmt.Sprintf("from 2001:db8:1::5 table %d ", n+4)} {
			if !strings.Contains(now, want) {
				t.Errorf("no rule %q in\n%s", want, now)
			}
		}
		// Its rules are lost, and its routes: it is its table all the same.
		netnstest.IP(t, "-n pod rule del from 10.1.0.5", "-n pod -6 rule del from 2001:db8:1::5", fmt.Sprintf("-n pod route flush table %d", n+2), fmt.Sprintf("-n pod -6 route flush table %d", n+4))
		adding(name, "net2").must(t)
		for _, want := range []string{fmt.Sprintf("from 10.2.0.5 table %d ", n+6), fmt.Sprintf("from 2001:db8:2::5 table %d ", n+7)} {
			if now := routing(t, "pod"); !strings.Contains(now, want) {
				t.Errorf("no rule %q in\n%s", want, now)
			}
		}
	})
}

// TestRoutesOfOneKey: several of the interface's routes in main have one key. Whatever
// becomes of them, each is there again in the end.
func TestRoutesOfOneKey(t *testing.T) {
	each(t, func(t *testing.T, name string) {
		ip(t, "pod", "route add 198.51.100.0/24 via 10.1.0.1 dev net1 metric 9\nroute append 198.51.100.0/24 via 10.1.0.2 dev net1 metric 9\n"+
			"route add 198.51.101.0/24 via 10.1.0.1 dev net1 metric 9\nroute append 198.51.101.0/24 via 10.2.0.2 dev net2 metric 9\n"+
			"route add 2001:db8:97::/48 dev net2 metric 9\nroute append 2001:db8:97::/48 dev net1 metric 9\n")
		before := world(t)
		for _, keys := range []string{"", `"addSourceHints": true`} {
			c := adding(name, "net1")
			if keys != "" {
				c = c.with(keys)
			}
			c.must(t)
			now := routing(t, "pod")
			for _, want := range []string{"route 198.51.101.0/24 via 10.2.0.2 dev net2 table 254", "route -6 2001:db8:97::/48 dev net2 table 254"} {
				if !strings.Contains(now, want) {
					t.Errorf("of net2 is gone: %s", want)
				}
			}
			if name == sbr.Own && (!strings.Contains(now, "198.51.100.0/24 via 10.1.0.1 dev net1 table 254") || !strings.Contains(now, "198.51.100.0/24 via 10.1.0.2 dev net1 table 254")) {
				t.Errorf("one of two is gone:\n%s", now)
			}
			c.as("CHECK").must(t)
			c.as("DEL").must(t)
			same(t, "after DEL", world(t), before)
		}
	})
}

// TestWaitsForTheReference: while another program has the namespace's file locked, as the
// reference plugin has it while it chooses a table, ADD does nothing.
func TestWaitsForTheReference(t *testing.T) {
	each(t, func(t *testing.T, name string) {
		before := world(t)
		file, err := os.Open(podPath)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if err := unix.Flock(int(file.Fd()), unix.LOCK_EX); err != nil {
			t.Fatal(err)
		}
		pid, wait := adding(name, "net1").start(t)
		waiting := fmt.Sprintf(" %d ", pid)
		for begin := time.Now(); ; {
			locks, err := os.ReadFile("/proc/locks")
			if err != nil {
				t.Fatal(err)
			}
			at := slices.IndexFunc(strings.Split(string(locks), "\n"), func(l string) bool {
				return strings.Contains(l, "-> FLOCK") && strings.Contains(l, waiting)
			})
			if at >= 0 {
				break
			}
			state, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			if err != nil || strings.Contains(string(state), ") Z ") || time.Since(begin) > time.Minute {
				t.Fatalf("it does not wait: %s, %v\n%s", state, err, locks)
			}
		}
		same(t, "ADD that waits for the lock", world(t), before)
		if err := unix.Flock(int(file.Fd()), unix.LOCK_UN); err != nil {
			t.Fatal(err)
		}
		if a := wait(); a.err != nil {
			t.Errorf("ADD: %v", a.err)
		}
		adding(name, "net1").as("CHECK").must(t)
	})
}

// TestSourceThatTheKernelRefuses: a route by a gateway to which another route leads since
// it was made gets no source of IPv6, and that is no failure. IPv4 takes it.
func TestSourceThatTheKernelRefuses(t *testing.T) {
	newPod(t)
	ip(t, "pod", "route add 10.1.0.0/25 via 10.1.0.1 dev net1\nroute add 2001:db8:1::/64 via 2001:db8:1::1 dev net1 metric 7\n")
	before := world(t)
	c := adding(sbr.Own, "net1")
	c.must(t)
	now := routing(t, "pod")
	for _, want := range []string{
		"route 10.1.0.0/25 via 10.1.0.1 dev net1 table 254 proto 3 src 10.1.0.5\n",
		"route -6 2001:db8:1::/64 via 2001:db8:1::1 dev net1 table 254 metric 7 proto 3\n",
	} {
		if !strings.Contains(now, want) {
			t.Errorf("there is no %q:\n%s", want, now)
		}
	}
	c.as("CHECK").must(t)
	c.as("DEL").must(t)
	same(t, "ADD and DEL", world(t), before)
}

// TestOwnNamespace: a runtime may say that the plugin and the pod share a namespace.
func TestOwnNamespace(t *testing.T) {
	each(t, func(t *testing.T, name string) {
		before := world(t)
		c := adding(name, "net1")
		netnstest.In(t, "pod", func() {
			for _, v := range []string{"", "0", "no"} {
				c.env = []string{"CNI_NETNS_OVERRIDE=" + v}
				c.fails(t, 8, "route net1 by source")
			}
		})
		same(t, "what the refused calls changed", world(t), before)
		for _, v := range []string{"1", "true", "TRUE"} {
			c.env = []string{"CNI_NETNS_OVERRIDE=" + v}
			netnstest.In(t, "pod", func() { c.must(t) })
			if world(t) == before {
				t.Error("ADD did nothing")
			}
			netnstest.In(t, "pod", func() {
				c.as("CHECK").must(t)
				c.as("DEL").must(t)
			})
			same(t, "after DEL", world(t), before)
		}
	})
}
