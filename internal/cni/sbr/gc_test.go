package sbr_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/netnstest"
)

// collect is GC of a network, with what is still valid as JSON.
func collect(name, network, valid string) call {
	return call{name: name, command: "GC", container: "-", netns: "-", ifname: "-", path: programs,
		config: fmt.Sprintf(`{"cniVersion": "1.1.0", "name": %q, "cni.dev/valid-attachments": %s}`, network, valid)}
}

func (c call) ofNetwork(n string) call {
	c.config = strings.Replace(c.config, `"name": "n"`, fmt.Sprintf(`"name": %q`, n), 1)
	return c
}

func TestGC(t *testing.T) {
	each(t, func(t *testing.T, name string) {
		before := world(t)
		one, two := adding(name, "net1"), adding(name, "net2").ofNetwork("m")
		one.must(t)
		onlyOne := world(t)
		two.must(t)
		both := world(t)

		// What is valid stays, and so does what is another network's, or the other name's.
		collect(name, "n", `[{"containerID": "c1", "ifname": "net1"}]`).must(t)
		collect(name, "m", `[{"containerID": "c1", "ifname": "net2"}, {"containerID": "c9", "ifname": "net2"}]`).must(t)
		collect(name, "other", `null`).must(t)
		collect(map[string]string{names[0]: names[1], names[1]: names[0]}[name], "n", `[]`).must(t)
		same(t, "after GC of nothing", world(t), both)
		one.as("CHECK").must(t)

		for _, valid := range []string{`[]`, `null`, `[{"containerID": "c1", "ifname": "net1"}]`, `[{"containerID": "c2", "ifname": "net2"}]`} {
			if a := collect(name, "m", valid).must(t); a.stdout != "" {
				t.Errorf("GC prints %s", a.stdout)
			}
			same(t, "after GC of "+valid, world(t), onlyOne)
			two.must(t)
			same(t, "after ADD", world(t), both)
		}
		collect(name, "m", `[]`).must(t)
		collect(name, "n", `[]`).must(t)
		same(t, "after GC of all", world(t), before)
	})
}

// TestGCOfNamespacesThatAreGone, by their path or altogether.
func TestGCOfNamespacesThatAreGone(t *testing.T) {
	each(t, func(t *testing.T, name string) {
		before := world(t)
		// pod2 is gone; pod3 has another path now; at pod4's path there is another.
		pods := map[string]call{}
		for _, ns := range []string{"pod", "pod2", "pod3", "pod4"} {
			if ns != "pod" {
				newNamespace(t, ns)
			}
			c := adding(name, "net1")
			c.netns, c.container = "/run/netns/"+ns, ns
			c.must(t)
			pods[ns] = c
		}
		removeNamespace(t, "/run/netns/pod2")
		moved := "/run/moved"
		writeFile(t, moved, "")
		if err := unix.Mount("/run/netns/pod3", moved, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		removeNamespace(t, "/run/netns/pod3")
		removeNamespace(t, "/run/netns/pod4")
		newNamespace(t, "pod4")
		foreign := adding(name, "net1")
		foreign.netns, foreign.container = "/run/netns/pod4", "new"
		foreign = foreign.ofNetwork("m")
		foreign.must(t)
		theirs := routing(t, "pod4")

		collect(name, "n", `[]`).must(t)
		if left, _ := filepath.Glob("/run/viarule/*/cni.json"); len(left) != 1 {
			t.Errorf("records are left: %v", left)
		}
		same(t, "the other one at the path", routing(t, "pod4"), theirs)
		foreign.as("CHECK").must(t)
		foreign.as("DEL").must(t)
		same(t, "after GC", world(t), before)
		// Of the one that moved the record is gone: DEL takes its rules by what they look like.
		c := pods["pod3"]
		c.netns = moved
		c.as("DEL").must(t)
		netnstest.Named(t, "look")
		if now := routing(t, moved); strings.Contains(now, "from 10.1.0.5") {
			t.Errorf("rules are left:\n%s", now)
		}
		nothingRecorded(t)
	})
}

// TestSweep: without GC an ADD or DEL elsewhere forgets namespaces that are gone.
func TestSweep(t *testing.T) {
	each(t, func(t *testing.T, name string) {
		before := world(t)
		for i := range 6 {
			newNamespace(t, "gone")
			c := adding(name, "net1")
			c.netns = "/run/netns/gone"
			c.must(t)
			removeNamespace(t, c.netns)
			if left, _ := filepath.Glob("/run/viarule/*/cni.json"); len(left) > 2 {
				t.Errorf("after %d namespaces %d records are there", i+1, len(left))
			}
		}
		c := adding(name, "net1")
		c.must(t)
		c.as("CHECK").must(t)
		c.as("DEL").must(t)
		same(t, "after DEL", world(t), before)
		left, err := os.ReadDir("/run/viarule")
		if err != nil || len(left) > 0 {
			t.Errorf("left: %v, %v", left, err)
		}
	})
}

// TestDamagedRecord: it is said which file is damaged. Another namespace's does not
// matter to ADD and DEL.
func TestDamagedRecord(t *testing.T) {
	each(t, func(t *testing.T, name string) {
		c := adding(name, "net1")
		c.must(t)
		found, err := filepath.Glob("/run/viarule/*/cni.json")
		if err != nil || len(found) != 1 {
			t.Fatal(found, err)
		}
		good, err := os.ReadFile(found[0])
		if err != nil {
			t.Fatal(err)
		}
		made := routing(t, "pod")
		for _, bad := range []string{"", "{", `{"version": 9}`, strings.Replace(string(good), `"do":"+ r`, `"do":"+ x`, 1), strings.Replace(string(good), `"undo":"- rule`, `"undo":"~ sysctl a = 1", "x":"`, 1)} {
			writeFile(t, found[0], bad)
			for _, command := range []string{"ADD", "CHECK", "DEL"} {
				c.as(command).fails(t, 5, found[0])
			}
			same(t, "what changed", routing(t, "pod"), made)
		}
		newNamespace(t, "pod2")
		other := adding(name, "net1")
		other.netns = "/run/netns/pod2"
		other.must(t)
		other.as("CHECK").must(t)
		other.as("DEL").must(t)
		// Nor does it keep a pod of which the namespace is gone.
		other.must(t)
		netnstest.IP(t, "netns del pod2")
		other.as("DEL").must(t)
		other.as("DEL").must(t)
		other.netns = "-"
		other.as("DEL").fails(t, 5, found[0]) // it may be in there
		writeFile(t, found[0], string(good))
		c.as("CHECK").must(t)
		c.as("DEL").must(t)
		nothingRecorded(t)
	})
}
