package sbr_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/cni/sbr"
	"github.com/viarule/viarule/internal/netnstest"
	"github.com/viarule/viarule/internal/record"
)

// removeNamespace takes a namespace's path away, and with it the namespace.
func removeNamespace(t *testing.T, path string) {
	t.Helper()
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// nothingRecorded fails where there is a record of an attachment.
func nothingRecorded(t *testing.T) {
	t.Helper()
	if left, err := filepath.Glob("/run/viarule/*/cni.json*"); err != nil || len(left) > 0 {
		t.Errorf("records are left: %v %v", left, err)
	}
}

// TestDelWhateverIsWrong: of a configuration that ADD would refuse, DEL needs no more
// than the name.
func TestDelWhateverIsWrong(t *testing.T) {
	each(t, func(t *testing.T, name string) {
		before := world(t)
		right := adding(name, "net1")
		head := `{"cniVersion": "1.1.0", "name": "n"`
		wrong := map[string]string{"nothing else": head + "}", "prevResult null": head + `, "prevResult": null}`, "prevResult 7": head + `, "prevResult": 7}`,
			"null in prevResult": head + `, "prevResult": {"cniVersion": "0.4.0", "ips": [null]}}`, "of 0.4.0": `{"cniVersion": "0.4.0", "name": "n", "prevResult": {"cniVersion": "0.4.0", "ips": [null]}}`}
		pod, net := wrongKeys()
		for _, w := range append(pod, net...) {
			wrong[w.name] = w.call(right).config
		}
		for what, config := range wrong {
			right.must(t)
			del := right.as("DEL")
			del.config = config
			if a := del.run(t); a.err != nil {
				t.Errorf("%s: code %d: %s", what, a.err.Code, a.err.Msg)
				right.as("DEL").must(t)
			}
		}
		same(t, "after all", world(t), before)
	})
}

// TestDelOfWhatIsGone: whatever others took away, DEL is a success and takes the rest.
func TestDelOfWhatIsGone(t *testing.T) {
	each(t, func(t *testing.T, name string) {
		// Of the links and addresses that went, what was in main by them is gone as well.
		const byNet1 = "dev net1"
		for _, tt := range []struct {
			what   string
			take   []string
			except string // lines of the namespace that may be missing in the end
		}{
			{"a rule", []string{"rule del from 10.1.0.5"}, ""},
			{"a rule of IPv6", []string{"-6 rule del from 2001:db8:1::5"}, ""},
			{"the routes", []string{"route flush table " + table[name], "-6 route flush table " + second[name]}, ""},
			{"a route of main is another's", []string{"route replace 192.0.2.0/24 dev net1 metric 5"}, "192.0.2.0/24"},
			{"the addresses", []string{"addr flush dev net1", "-6 addr flush dev net1"}, byNet1},
			{"the link", []string{"link del net1"}, byNet1},
			{"the link is down", []string{"link set net1 down"}, byNet1},
		} {
			t.Run(tt.what, func(t *testing.T) {
				newPod(t)
				before := routing(t, "pod")
				c := adding(name, "net1")
				c.must(t)
				for _, line := range tt.take {
					netnstest.IP(t, "-n pod "+line)
				}
				for range 2 {
					c.as("DEL").must(t)
				}
				same(t, "after DEL", without(routing(t, "pod"), tt.except), without(before, tt.except))
				nothingRecorded(t)
			})
		}
		for what, take := range map[string]func(c *call){
			"the namespace": func(c *call) { removeNamespace(t, podPath) },
			"the path":      func(c *call) { c.netns = "/run/netns/gone" },
			"its folder":    func(c *call) { c.netns = "/nowhere/pod" },
			"CNI_NETNS":     func(c *call) { c.netns = "" },
		} {
			t.Run(what, func(t *testing.T) {
				newPod(t)
				before := world(t)
				c := adding(name, "net1")
				c.must(t)
				take(&c)
				for range 2 {
					c.as("DEL").must(t)
				}
				if what != "the namespace" {
					// By the record it is found all the same.
					same(t, "after DEL", world(t), before)
				}
				nothingRecorded(t)
			})
		}
		t.Run("the record", func(t *testing.T) {
			newPod(t)
			before := routing(t, "pod")
			c := adding(name, "net1")
			c.must(t)
			if err := os.RemoveAll("/run/viarule"); err != nil {
				t.Fatal(err)
			}
			c.as("DEL").must(t)
			if now := routing(t, "pod"); strings.Contains(now, "from 10.1.0.5") || strings.Contains(now, "from 2001:db8:1::5") {
				t.Errorf("rules are left:\n%s\nbefore:\n%s", now, before)
			}
		})
	})
}

// table is the first one that is filled.
var table = map[string]string{sbr.DropIn: "100", sbr.Own: "5000"}

var second = map[string]string{sbr.DropIn: "101", sbr.Own: "5001"}

// without leaves out the lines that have some words.
func without(text, words string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if words == "" || !strings.Contains(line, words) {
			b.WriteString(line)
		}
	}
	return b.String()
}

// TestDelTouchesNothingElse: rules that look like ours, but are others'.
func TestDelTouchesNothingElse(t *testing.T) {
	each(t, func(t *testing.T, name string) {
		foreign := "rule add pref 700 from 10.1.0.5 fwmark 9 lookup 55\nrule add pref 701 from 10.1.0.5 iif net2 lookup 55 proto 119\nrule add pref 702 from 10.1.0.0/24 lookup 55 proto 119\n" +
			"rule add pref 703 from 10.1.0.5 to 192.0.2.1 lookup 55 proto 119\nrule add pref 704 from 10.2.0.5 lookup 55 proto 119\nrule add pref 705 from 10.1.0.5 prohibit proto 119\n" +
			"rule add pref 706 from 10.1.0.5 lookup 55 proto 4\nrule add pref 707 not from 10.1.0.5 lookup 55 proto 119\n" +
			"route add default dev net2 table 55 proto 119\n"
		ip(t, "pod", foreign)
		ip6 := func(lines ...string) {
			for _, l := range lines {
				netnstest.IP(t, "-n pod -6 "+l)
			}
		}
		ip6("rule add pref 701 from 2001:db8:1::5 iif net2 lookup 55 proto 119", "rule add pref 704 from 2001:db8:2::5 lookup 55 proto 119", "rule add pref 706 from 2001:db8:1::5 lookup 55 proto 4")
		before := world(t)
		c := adding(name, "net1")
		c.must(t)
		// The same rules with the mark of somebody else, and in our table somebody else's routes.
		pref := map[string]string{sbr.DropIn: "706", sbr.Own: "2900"}[name]
		twins := []string{"rule %s pref " + pref + " from 10.1.0.5 lookup " + table[name] + " proto 4", "route %s 203.0.113.0/24 dev net1 table " + table[name] + " proto 4",
			"-6 rule %s pref " + pref + " from 2001:db8:1::5 lookup 77 proto 4"}
		for _, l := range twins {
			netnstest.IP(t, "-n pod "+fmt.Sprintf(l, "add"))
		}
		c.as("DEL").must(t)
		for _, l := range twins { // fails where it is gone
			netnstest.IP(t, "-n pod "+fmt.Sprintf(l, "del"))
		}
		same(t, "after DEL", world(t), before)
		c.as("DEL").must(t) // now there is no record
		same(t, "after DEL without a record", world(t), before)
	})
}

// TestUpgrade: what the reference plugin made, v1.10.0, has no mark. As sbr, CHECK takes
// it and DEL removes it; as viarule-sbr it is somebody else's.
func TestUpgrade(t *testing.T) {
	each(t, func(t *testing.T, name string) {
		before := routing(t, "pod")
		// Its library gives rules no protocol, and routes that of boot.
		ip(t, "pod", "rule add from 10.1.0.5 lookup 100 proto 0\nroute del 192.0.2.0/24 dev net1\nroute del 10.1.0.0/24 dev net1\n"+
			"route add 10.1.0.0/24 dev net1 scope link src 10.1.0.5 table 100\nroute add 192.0.2.0/24 via 10.1.0.9 dev net1 metric 5 mtu 1400 table 100\nroute add default via 10.1.0.1 dev net1 table 100\n")
		netnstest.IP(t, "-n pod -6 rule add from 2001:db8:1::5 lookup 101 proto 0", "-n pod -6 route add 2001:db8:1::/64 dev net1 table 101 metric 256", "-n pod -6 route add default via 2001:db8:1::1 dev net1 table 101")
		made := routing(t, "pod")
		c := adding(name, "net1")
		if name == sbr.Own {
			c.as("CHECK").fails(t, 101, "no record says that it was ever made")
			c.as("DEL").must(t)
			same(t, "after DEL", routing(t, "pod"), made)
			return
		}
		c.as("CHECK").must(t)
		same(t, "after CHECK", routing(t, "pod"), made)
		netnstest.IP(t, "-n pod route del default table 100")
		c.as("CHECK").fails(t, 101, "missing: default via 10.1.0.1 dev net1 in table 100")
		c.as("DEL").must(t)
		now := routing(t, "pod")
		if strings.Contains(now, "from 10.1.0.5") || strings.Contains(now, "from 2001:db8:1::5") {
			t.Errorf("after DEL:\n%s\nbefore the reference's ADD:\n%s", now, before)
		}
		c.as("CHECK").fails(t, 101, "there is no rule from 10.1.0.5", "there is no rule from 2001:db8:1::5")
	})
}

// TestTwoAttachments of one pod: each DEL takes its own, in any order, also where both
// asked for the same rule or the same route.
func TestTwoAttachments(t *testing.T) {
	each(t, func(t *testing.T, name string) {
		before := world(t)
		shared := `"rules": [{"to": ["203.0.113.0/24", "2001:db8:55::/48"], "table": 77, "priority": 60}]`
		one, two := adding(name, "net1").with(shared), adding(name, "net2").with(shared)
		two.config = strings.Replace(two.config, `"name": "n"`, `"name": "m"`, 1)
		one.must(t)
		onlyOne := world(t)
		two.must(t)
		one.as("CHECK").must(t)
		two.as("CHECK").must(t)
		two.as("DEL").must(t)
		same(t, "after the DEL of the second", world(t), onlyOne)
		two.must(t)
		one.as("DEL").must(t)
		two.as("CHECK").must(t)
		if n := strings.Count(routing(t, "pod"), "to 203.0.113.0/24"); n != 1 {
			t.Errorf("%d rules are there that one attachment asks for", n)
		}
		two.as("DEL").must(t)
		same(t, "after both", world(t), before)

		// A route can be there but once: the second ADD fails, and leaves the first one's.
		shared = `"table": 77, "routes": [{"to": "203.0.113.0/24", "type": "Blackhole"}, {"to": "2001:db8:55::/48", "type": "Blackhole"}]`
		one, two = adding(name, "net1").with(shared), adding(name, "net2").with(shared)
		one.must(t)
		onlyOne = world(t)
		two.fails(t, 5, "file exists")
		same(t, "after a failed ADD", world(t), onlyOne)
		two.as("DEL").must(t)
		one.as("CHECK").must(t)
		one.as("DEL").must(t)
		same(t, "after both", world(t), before)
	})
}

// TestKilledAdd: one that was killed between its record and its last write. The next ADD
// and DEL go by the record, and leave what others have of the same.
func TestKilledAdd(t *testing.T) {
	each(t, func(t *testing.T, name string) {
		shared := `"rules": [{"to": ["203.0.113.0/24", "2001:db8:55::/48"], "table": 77, "priority": 60}]`
		before := world(t)
		other := adding(name, "net2").with(shared)
		other.must(t)
		onlyOther := world(t)
		c := adding(name, "net1").with(shared)
		c.must(t)
		made := world(t)
		// As if it had not come to these.
		netnstest.IP(t, "-n pod rule del pref 60 to 203.0.113.0/24", "-n pod -6 rule del pref 60 to 2001:db8:55::/48", "-n pod rule del from 10.1.0.5")
		c.must(t)
		same(t, "after the next ADD", world(t), made)
		netnstest.IP(t, "-n pod rule del pref 60 to 203.0.113.0/24", "-n pod -6 rule del pref 60 to 2001:db8:55::/48", "-n pod rule del from 10.1.0.5")
		c.as("DEL").must(t)
		same(t, "after DEL", world(t), onlyOther)
		other.as("CHECK").must(t)
		other.as("DEL").must(t)
		same(t, "after both", world(t), before)
	})
}

// TestKilledAddOfTheSame: the record of an ADD that was killed before its first write
// names routes and rules that another attachment has.
func TestKilledAddOfTheSame(t *testing.T) {
	each(t, func(t *testing.T, name string) {
		before := world(t)
		c := adding(name, "net1").with(`"table": 77, "rules": [{"fwmark": 1}], "routes": [{"to": "203.0.113.0/24", "type": "Blackhole"}, {"to": "2001:db8:55::/48", "type": "Blackhole"}]`)
		c.must(t)
		made := world(t)
		list, err := record.Store{Dir: record.DefaultDir}.Namespaces()
		if err != nil || len(list) != 1 {
			t.Fatal(list, err)
		}
		lock, err := list[0].Lock("a test")
		if err != nil {
			t.Fatal(err)
		}
		all, err := list[0].Attachments()
		if err != nil {
			t.Fatal(err)
		}
		killed := all.List[0]
		killed.Container = "c2"
		all.Put(killed)
		if err := errors.Join(lock.SaveAttachments(all), lock.Unlock()); err != nil {
			t.Fatal(err)
		}
		other := c.as("DEL")
		other.container = "c2"
		other.must(t)
		same(t, "after the DEL of the killed one", world(t), made)
		c.as("CHECK").must(t)
		c.as("DEL").must(t)
		same(t, "after DEL", world(t), before)
	})
}
