package ipam

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"pgregory.net/rapid"
)

// subnets have few addresses, so that they are given out again, and end.
var subnets = []string{"10.1.0.0/29", "10.1.0.8/29", "10.1.0.16/30", "10.2.0.0/24", "2001:db8:1::/125", "2001:db8:1::8/126", "2001:db8:2::/64", "::/120"}

// requests are addresses to ask for, in some of the subnets.
var requests = []string{"10.1.0.1", "10.1.0.2", "10.1.0.6", "10.1.0.7", "10.1.0.9", "10.1.0.18", "10.2.0.77", "10.2.0.0", "10.9.9.9", "2001:db8:1::1", "2001:db8:1::5", "2001:DB8:2:0::ff", "::ffff:10.1.0.3", "10.1.0.4/16", "::2"}

// draw draws configurations and calls.
type draw struct{ *rapid.T }

func (d draw) one(of ...string) string  { return rapid.SampledFrom(of).Draw(d.T, "one of") }
func (d draw) upTo(least, most int) int { return rapid.IntRange(least, most).Draw(d.T, "number") }

// chance is of bits, which rapid draws evenly, unlike numbers.
func (d draw) chance(percent int) bool {
	n := 0
	for range 7 {
		n *= 2
		if !rapid.Bool().Draw(d.T, "chance") {
			n++
		}
	}
	return n*100 >= (100-percent)*128
}

// aRange draws a range. Mostly a right one.
func (d draw) aRange(family string) map[string]any {
	r := map[string]any{}
	var of []string
	for _, s := range subnets {
		if strings.Contains(s, ":") == (family == "6") {
			of = append(of, s)
		}
	}
	subnet := d.one(of...)
	r["subnet"] = subnet
	base := strings.TrimSuffix(strings.Split(subnet, "/")[0], "0")
	if strings.HasSuffix(subnet, "8/29") || strings.HasSuffix(subnet, "8/126") || strings.HasSuffix(subnet, "16/30") {
		return r // their ends are in other numbers
	}
	if d.chance(30) {
		r["rangeStart"] = base + d.one("1", "2", "3", "4")
	}
	if d.chance(30) {
		r["rangeEnd"] = base + d.one("2", "4", "5", "6")
	}
	if d.chance(30) {
		r["gateway"] = base + d.one("1", "2", "3", "6")
	}
	if d.chance(4) {
		r[d.one("rangeStart", "rangeEnd", "gateway", "subnet")] = d.one("10.1.0.300", "x", "", "10.77.0.1", "10.1.0.1/31", "10.1.0.1/24", "2001:db8::1", "010.1.0.1", "fe80::1%lo", "10.1.0.0/33", "::ffff:10.1.0.0/120", "10.1.0.0/029", "::ffff:10.1.0.4")
	}
	return r
}

func (d draw) set() []any {
	family := d.one("4", "6")
	set := []any{d.aRange(family)}
	for d.chance(30) {
		if d.chance(5) {
			family = d.one("4", "6")
		}
		set = append(set, d.aRange(family))
	}
	if d.chance(1) {
		return []any{}
	}
	return set
}

// network draws a configuration.
func (d draw) network() map[string]any {
	ipam := map[string]any{"type": "host-local"}
	if d.chance(20) {
		for k, v := range d.aRange(d.one("4", "6")) {
			ipam[k] = v
		}
	}
	var sets []any
	for range d.upTo(1, 2) {
		sets = append(sets, d.set())
	}
	if d.chance(90) {
		ipam["ranges"] = sets
	}
	if d.chance(50) {
		ipam["routes"] = []any{map[string]any{"dst": "0.0.0.0/0"}, map[string]any{"dst": "2001:db8:ff::1/48", "gw": "2001:db8:1::1", "mtu": 1400, "advmss": 1300, "priority": 7, "table": 100, "scope": 0}}
	}
	conf := map[string]any{"cniVersion": d.one("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0", "1.1.0"), "name": "pods", "type": "ptp", "ipam": ipam}
	if d.chance(10) {
		conf["runtimeConfig"] = map[string]any{"ipRanges": []any{d.set()}}
	}
	return conf
}

// found draws files that are there already.
func (d draw) found(conf map[string]any, dirs ...string) {
	files := map[string]string{}
	if d.chance(30) {
		files["last_reserved_ip.0"] = d.one("10.1.0.3", "10.1.0.14", "2001:db8:1::5", "::ff", "10.1.0.3\n", "", "x")
	}
	if d.chance(20) {
		files[d.one("10.1.0.4", "2001:db8:1::3")] = d.one("", "c9\r\neth0", "c9\r\neth0\r\n")
	}
	ipam := conf["ipam"].(map[string]any)
	sets, _ := ipam["ranges"].([]any)
	if _, old := ipam["subnet"]; len(sets) == 1 && !old && conf["runtimeConfig"] == nil && d.chance(30) {
		// Of before there were several interfaces. Where there are several sets, the
		// reference removes them too often.
		files[d.one("10.1.0.2", "10.1.0.5", "2001:db8:1::4")] = d.one("c1", "c2\n", " c1\r\n")
	}
	for _, dir := range dirs {
		for name, text := range files {
			if os.MkdirAll(dir, 0o755) != nil || os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600) != nil {
				d.Fatal("cannot write " + dir)
			}
		}
	}
}

// ask draws what a call asks for.
func (d draw) ask(conf map[string]any) (stdin map[string]any, args string) {
	stdin = map[string]any{}
	for k, v := range conf {
		stdin[k] = v
	}
	args = d.one("", "", "IgnoreUnknown=1;K8S_POD_NAME=x", "IgnoreUnknown=true", "IP=")
	if d.chance(3) {
		args = d.one("K8S_POD_NAME=x", "IP", "IP=1=2", ";", "IgnoreUnknown=maybe", "IP=x", "ip=10.1.0.2", "IgnoreUnknown=1;", "IgnoreUnknown=0;X=1")
	}
	// One of a family: of several in a set the reference takes one by lot.
	var asked [2]bool
	request := func(percent int) []string {
		if !d.chance(percent) {
			return nil
		}
		r := d.one(requests...)
		family := &asked[0]
		if strings.Contains(r, ":") && !strings.Contains(r, "::ffff:") {
			family = &asked[1]
		}
		if *family {
			return nil
		}
		*family = true
		return []string{r}
	}
	if r := request(20); r != nil {
		args = "IP=" + r[0]
	}
	rt := map[string]any{}
	if old, ok := conf["runtimeConfig"]; ok {
		for k, v := range old.(map[string]any) {
			rt[k] = v
		}
	}
	if r := append(request(15), request(15)...); r != nil {
		rt["ips"] = r
	}
	stdin["runtimeConfig"] = rt
	if r := request(10); r != nil {
		stdin["args"] = map[string]any{"cni": map[string]any{"ips": r}}
	}
	return stdin, args
}

// TestSameAsReference draws a network and calls for it. One copy of its folder gets them
// from the reference, the other one from our program, or from one of the two by lot. All
// answers and files must be the same.
func TestSameAsReference(t *testing.T) {
	newHost(t)
	n, adds, fails := 0, 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		d := draw{rt}
		n++
		conf := d.network()
		mixed := d.chance(40)
		dirs := [2]string{fmt.Sprintf("/var/lib/cni/ours%d", n), fmt.Sprintf("/var/lib/cni/theirs%d", n)}
		defer os.RemoveAll(dirs[0])
		defer os.RemoveAll(dirs[1])
		has := map[string]bool{} // attachments with an address
		d.found(conf, filepath.Join(dirs[0], "pods"), filepath.Join(dirs[1], "pods"))
		for range d.upTo(1, 14) {
			stdin, args := d.ask(conf)
			c := call{command: d.one("ADD", "ADD", "ADD", "DEL", "DEL", "CHECK", "GC"), container: d.one("c1", "c2", "c3", "c1.eth0"), ifname: d.one("eth0", "net1"), args: args}
			who := c.container + " " + c.ifname
			version := stdin["cniVersion"].(string)
			switch {
			case c.command == "ADD" && has[who]:
				// Only without requests: else the reference may release what it had before.
				delete(stdin, "args")
				stdin["runtimeConfig"], c.args = conf["runtimeConfig"], ""
			case c.command == "CHECK" && version < "0.4.0", c.command == "GC" && version < "1.1.0":
				c.command = "DEL"
			case c.command == "GC":
				valid := []any{}
				for _, w := range []string{"c1 eth0", "c2 eth0", "c1.eth0 net1"} {
					if d.chance(70) {
						id, ifname, _ := strings.Cut(w, " ")
						valid = append(valid, map[string]any{"containerID": id, "ifname": ifname})
					}
				}
				stdin["cni.dev/valid-attachments"] = valid
			}
			programs := [2]string{ours, hostLocal}
			if mixed && d.chance(50) {
				programs[0] = hostLocal
			}
			var said [2]string
			var errs [2]error
			for i, dir := range dirs {
				mine := map[string]any{}
				for k, v := range stdin["ipam"].(map[string]any) {
					mine[k] = v
				}
				mine["dataDir"] = dir
				stdin["ipam"] = mine
				text, err := json.Marshal(stdin)
				if err != nil {
					rt.Fatal(err)
				}
				c.program, c.stdin = programs[i], string(text)
				said[i], errs[i] = c.run()
			}
			fails++
			switch e, _ := errors.AsType[*types.Error](errs[1]); {
			case errs[1] == nil && errs[0] == nil:
				fails--
				same(rt, said)
				if has[who] = has[who] || c.command == "ADD"; c.command == "ADD" {
					adds++
				}
			case e != nil && c.command != "ADD" && c.command != "CHECK" && errs[0] == nil:
				// A wrong configuration does not keep DEL and GC from their work.
				return
			case e == nil || errs[0] == nil || !sameError(errs[0].Error(), e.Error()):
				rt.Fatalf("%s %s %q\n%s\nours:      %v %s\nreference: %v %s", c.command, who, c.args, c.stdin, errs[0], said[0], errs[1], said[1])
			}
			if c.command == "DEL" {
				has[who] = false
			}
			a, b := files(filepath.Join(dirs[0], "pods")), files(filepath.Join(dirs[1], "pods"))
			if !slices.Equal(a, b) {
				rt.Fatalf("after %s %s by %s:\nours:      %q\nreference: %q", c.command, who, filepath.Base(programs[0]), a, b)
			}
		}
	})
	t.Logf("%d addresses given, %d calls refused", adds, fails)
	if adds < 50 || fails < 50 {
		t.Error("what is drawn is too one-sided")
	}
}

// same holds two results against each other, as what they say.
func same(rt *rapid.T, said [2]string) {
	var got [2]map[string]any
	for i, s := range said {
		if s == "" {
			continue
		}
		if err := json.Unmarshal([]byte(s), &got[i]); err != nil {
			rt.Fatalf("%v: %s", err, s)
		}
	}
	if !reflect.DeepEqual(got[0], got[1]) {
		rt.Fatalf("ours:      %s\nreference: %s", said[0], said[1])
	}
}

// sameError says that our error has the words of the reference, or others' where those
// say little.
func sameError(ours, reference string) bool {
	if i := strings.Index(reference, "for range "); i >= 0 {
		_, reference, _ = strings.Cut(reference[i:], ": ")
	}
	for theirs, own := range map[string]string{
		"not v4 nor v6":                    "has no subnet",
		"failed to allocate all requested": "failed to allocate all requested",
		"invalid CIDR address":             "invalid CIDR address",
		"invalid IP address":               "invalid IP address",
		"version mismatch":                 "invalid CIDR address",
		"ARGS: ":                           "CNI_ARGS: ",
		"overlaps with":                    "overlaps with",
		"duplicate allocation":             "duplicate allocation", // of several it names another
	} {
		if strings.Contains(reference, theirs) && strings.Contains(ours, own) {
			return true
		}
	}
	return strings.Contains(strings.ToLower(ours), strings.ToLower(reference))
}
