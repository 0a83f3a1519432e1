package sbr_test

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/viarule/viarule/internal/cni/sbr"
)

// A wrong call, made of a right one of viarule-sbr's ADD.
type wrong struct {
	name string
	call func(c call) call
	code uint
	msg  string // how the message begins
}

func key(text string) func(call) call { return func(c call) call { return c.with(text) } }

func prev(text string) func(call) call {
	return func(c call) call {
		c.config = `{"cniVersion": "1.0.0", "name": "n", "type": "viarule-sbr", "prevResult": ` + text + `}`
		return c
	}
}

func config(text string) func(call) call {
	return func(c call) call { c.config = text; return c }
}

func env(set func(c *call)) func(call) call {
	return func(c call) call { set(&c); return c }
}

// wrongKeys are values of keys that are of the wrong type, or not to be had. Of those
// that a pod may set the same is said of args.cni.viarule.
func wrongKeys() (pod, net []wrong) {
	add := func(to *[]wrong, k string, code uint, values ...string) {
		for _, v := range values {
			*to = append(*to, wrong{k + " " + v, key(fmt.Sprintf("%q: %s", k, v)), code, k})
		}
	}
	add(&pod, "table", 6, `true`, `"7"`, `[7]`, `{}`, `""`)
	add(&pod, "table", 7, `0`, `-1`, `1e3`, `1.5`, `1.0`, `4294967296`, `18446744073709551616`, `253`, `254`, `255`)
	add(&pod, "priority", 6, `true`, `"7"`, `[7]`, `{}`)
	add(&pod, "priority", 7, `0`, `-1`, `1e3`, `1.5`, `32766`, `4294967296`)
	add(&pod, "gateways", 6, `true`, `7`, `"10.1.0.1"`, `{}`, `[7]`, `[["10.1.0.1"]]`)
	add(&pod, "gateways", 7, `[""]`, `[null]`, `["1.2.3"]`, `["10.1.0.1/24"]`, `["fe80::1%net1"]`, `["0.0.0.0"]`, `["::"]`, `["224.0.0.1"]`, `["ff02::1"]`, `["127.0.0.1"]`, `["::1"]`,
		`["10.1.0.1", "10.1.0.2"]`, `["2001:db8::1", "2001:db8::2"]`, `["10.1.0.1", "::ffff:10.1.0.2"]`, `["010.1.0.1"]`)
	add(&pod, "inferGateway", 6, `0`, `"true"`, `[]`, `{}`)
	add(&pod, "strictReversePath", 6, `1`, `"true"`, `[true]`, `{}`)
	add(&pod, "vrf", 6, `7`, `true`, `["red"]`, `{}`)
	add(&pod, "vrf", 7, `""`, `"."`, `"a/b"`, `"sixteen-letters-"`, `"a b"`)
	add(&pod, "rules", 6, `7`, `{}`, `"x"`, `[7]`, `[[]]`, `[{"from": "10.0.0.0/8"}]`, `[{"fwmark": true}]`, `[{"priority": "7"}]`)
	add(&pod, "rules", 7, `[{"form": ["10.0.0.0/8"]}]`, `[{"from": []}]`, `[{"from": ["10.0.0.1/8"]}]`, `[{"priority": 0}]`, `[{"priority": 4294967296}]`, `[{"table": "blue"}]`,
		`[{"table": 1, "goto": 5}]`, `[{"dport": 80}]`, `[{"from": ["10.0.0.0/8"], "to": ["2001:db8::/32"]}]`, `[{"priority": 1e2}]`, `[{"from": ["10.0.0.0/8"], "from": ["10.0.0.0/8"]}]`)
	add(&pod, "routes", 6, `7`, `{}`, `"x"`, `[7]`, `[{"to": 7}]`, `[{"to": "default", "via": ["10.1.0.1"]}]`)
	add(&pod, "routes", 7, `[{}]`, `[{"to": "default"}]`, `[{"to": "10.0.0.1/8"}]`, `[{"to": "10.0.0.0/8", "via": "2001:db8::"}, {"to": "10.0.0.0/8"}]`, `[{"to": "10.0.0.0/8", "metric": -1}]`,
		`[{"to": "10.0.0.0/8", "type": "Nat"}]`, `[{"to": "10.0.0.0/8", "dev": "a/b"}]`)

	add(&net, "addSourceHints", 6, `1`, `"true"`, `{}`)
	add(&net, "allowPodOverrides", 6, `true`, `"table"`, `[7]`, `{}`)
	add(&net, "allowPodOverrides", 7, `["name"]`, `["Table"]`, `[""]`, `["table", "logFile"]`, `["addSourceHints"]`, `["allowPodOverrides"]`)
	add(&net, "logFile", 6, `7`, `true`, `["a"]`, `{}`)
	add(&net, "logFile", 7, `"/var/log/x"`, `"a/b"`, `"../x"`, `".x"`, `".."`, `"a b"`, `"a\u0000"`, `"é"`, `"`+strings.Repeat("a", 65)+`"`)
	add(&net, "logLevel", 6, `7`, `true`, `["info"]`)
	add(&net, "logLevel", 7, `""`, `"INFO"`, `"trace"`)
	add(&net, "args", 6, `7`, `[]`, `"x"`)
	add(&net, "args", 6, `{"cni": 7}`, `{"cni": {"viarule": 7}}`, `{"cni": {"viarule": []}}`)
	return pod, net
}

func wrongCalls() []wrong {
	pod, list := wrongKeys()
	list = append(list, pod...)
	for _, w := range pod {
		k, v, _ := strings.Cut(w.name, " ")
		list = append(list, wrong{"of a pod: " + w.name, key(fmt.Sprintf(`"allowPodOverrides": [%q], "args": {"cni": {"viarule": {%[1]q: %s}}}`, k, v)), w.code, "args.cni.viarule." + k})
	}
	for _, k := range []string{"table", "vrf", "name", "logFile", "addSourceHints", "colour", "prevResult", ""} {
		list = append(list, wrong{"not for a pod: " + k, key(fmt.Sprintf(`"args": {"cni": {"viarule": {%q: 7}}}`, k)), 7, "args.cni.viarule." + k + ": a pod may not set this here"},
			wrong{"not allowed for a pod: " + k, key(fmt.Sprintf(`"allowPodOverrides": ["priority"], "args": {"cni": {"viarule": {%q: 7}}}`, k)), 7, "args.cni.viarule." + k + ": a pod may not set this here; allowPodOverrides has priority"})
	}
	for slip, of := range map[string]string{"tabel": "", "tables": "table", "Table": "table", "gateway": "gateways", "rule": "rules", "route": "routes", "priorty": "priority", "logfile": "logFile", "VRF": "vrf", "inferGateways": "inferGateway"} {
		if of != "" {
			list = append(list, wrong{"a slip: " + slip, key(fmt.Sprintf(`%q: 7`, slip)), 7, slip + ": there is no such key; did you mean " + of})
		}
	}

	const unmarshal = "error unmarshall network config" // the library's words
	list = append(list,
		wrong{"nothing", config(""), 6, unmarshal}, wrong{"no JSON", config("{"), 6, unmarshal}, wrong{"two of them", config(`{"name": "n"} {}`), 6, unmarshal},
		wrong{"a list", config("[]"), 6, unmarshal}, wrong{"a word", config(`"x"`), 6, unmarshal}, wrong{"bytes", config("\x00\xff\xfe"), 6, unmarshal},
		wrong{"null", config("null"), 7, "missing network name"}, wrong{"empty", config("{}"), 7, "missing network name"},
		wrong{"name 7", config(`{"cniVersion": "1.0.0", "name": 7}`), 6, unmarshal}, wrong{"name with a slash", config(`{"cniVersion": "1.0.0", "name": "a/b"}`), 7, "invalid characters found in network name"},
		wrong{"Name", config(`{"cniVersion": "1.0.0", "Name": "n"}`), 7, "name: "}, wrong{"cniVersion 7", config(`{"cniVersion": 7, "name": "n"}`), 6, ""},
		wrong{"unknown version", config(`{"cniVersion": "9.9.9", "name": "n"}`), 1, "incompatible CNI versions"}, wrong{"version x", config(`{"cniVersion": "x", "name": "n"}`), 1, "incompatible"},
		wrong{"old version", config(`{"cniVersion": "0.2.0", "name": "n"}`), 1, "incompatible"}, wrong{"no version", config(`{"name": "n"}`), 1, "incompatible"},

		wrong{"an interface that is not there", env(func(c *call) { c.ifname = "net7" }), 7, "prevResult.ips: "},
		wrong{"the interface is not there", env(func(c *call) { c.ifname, c.config = "net7", strings.ReplaceAll(c.config, "net1", "net7") }), 5, "route net7 by source: the interface net7 of prevResult is not in the namespace"},
		wrong{"CHECK, netns gone", env(func(c *call) { c.command, c.netns = "CHECK", "/run/netns/gone" }), 3, "check net1"},
		wrong{"GC without a list", env(func(c *call) { c.command = "GC" }), 7, "cni.dev/valid-attachments: the list is missing"},
		wrong{"GC with a number", env(func(c *call) { *c = c.as("GC").with(`"cni.dev/valid-attachments": 7`) }), 6, "cni.dev/valid-attachments: "},
		wrong{"no command", env(func(c *call) { c.command = "LIST" }), 4, "unknown CNI_COMMAND"},
		wrong{"no container", env(func(c *call) { c.container = "-" }), 4, "required env variables [CNI_CONTAINERID]"}, wrong{"empty container", env(func(c *call) { c.container = "" }), 4, "required env"},
		wrong{"no netns", env(func(c *call) { c.netns = "-" }), 4, "required env variables [CNI_NETNS]"},
		wrong{"no ifname", env(func(c *call) { c.ifname = "-" }), 4, "required env variables [CNI_IFNAME]"},
		wrong{"no path", env(func(c *call) { c.path = "-" }), 4, "required env variables [CNI_PATH]"},
		wrong{"container with a slash", env(func(c *call) { c.container = "../x" }), 4, "invalid characters in containerID"},
		wrong{"ifname with a slash", env(func(c *call) { c.ifname = "a/b" }), 4, "interface name"}, wrong{"ifname .", env(func(c *call) { c.ifname = "." }), 4, "interface name"},
		wrong{"a long ifname", env(func(c *call) { c.ifname = "sixteen-letters-" }), 4, "interface name"},
		wrong{"netns gone", env(func(c *call) { c.netns = "/run/netns/gone" }), 3, "route net1 by source"}, wrong{"netns is a folder", env(func(c *call) { c.netns = "/run" }), 3, "route net1 by source"},
		wrong{"netns is a file", env(func(c *call) { c.netns = "/etc/passwd" }), 3, "route net1 by source"}, wrong{"netns is a name", env(func(c *call) { c.netns = "pod" }), 3, "route net1 by source"},
		wrong{"netns is of another kind", env(func(c *call) { c.netns = "/proc/self/ns/mnt" }), 3, "route net1 by source"},
		wrong{"netns is the plugin's own", env(func(c *call) { c.netns = "/proc/self/ns/net" }), 8, "route net1 by source"},

		wrong{"no prevResult", config(`{"cniVersion": "1.0.0", "name": "n"}`), 7, "This plugin must be called as chained plugin"},
		wrong{"prevResult null", prev(`null`), 7, "This plugin must be called as chained plugin"},
		wrong{"prevResult a list", prev(`[]`), 6, "prevResult: "}, wrong{"prevResult a word", prev(`"x"`), 6, "prevResult: "}, wrong{"prevResult 7", prev(`7`), 6, "prevResult: "},
		wrong{"prevResult of 0.2.0", prev(`{"cniVersion": "0.2.0", "ip4": {"ip": "10.1.0.5/24"}}`), 6, "prevResult: "},
		wrong{"prevResult of no version that there is", prev(`{"cniVersion": "7.0.0", "ips": []}`), 6, "prevResult: "},
		wrong{"prevResult without addresses", prev(`{"cniVersion": "1.0.0"}`), 7, "prevResult.ips: there is no address of the interface net1"},
		wrong{"prevResult ips of another", prev(`{"cniVersion": "1.0.0", "interfaces": [{"name": "eth0", "sandbox": "/x"}], "ips": [{"address": "10.1.0.5/24", "interface": 0}]}`), 7, "prevResult.ips: there is no address of the interface net1"},
		wrong{"ips 7", prev(`{"cniVersion": "1.0.0", "ips": 7}`), 6, "prevResult: "}, wrong{"ips of 7", prev(`{"cniVersion": "1.0.0", "ips": [7]}`), 6, "prevResult: "},
		wrong{"ips null", prev(`{"cniVersion": "1.0.0", "ips": [null]}`), 6, "prevResult.ips[0]: it is null"}, wrong{"ips empty", prev(`{"cniVersion": "1.0.0", "ips": [{}]}`), 7, "prevResult.ips[0].address: "},
		wrong{"index x", prev(`{"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.5/24", "interface": "x"}]}`), 6, "prevResult: "},
		wrong{"index 1.5", prev(`{"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.5/24", "interface": 1.5}]}`), 6, "prevResult: "},
		wrong{"index 2^64", prev(`{"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.5/24", "interface": 18446744073709551616}]}`), 6, "prevResult: "},
	)
	for _, x := range []string{`"0.0.0.0/0"`, `"127.0.0.1/8"`, `"::1/128"`, `"224.0.0.5/24"`, `"ff02::5/64"`, `"::ffff:10.1.0.5/120"`} {
		list = append(list, wrong{"address " + x, prev(`{"cniVersion": "1.0.0", "ips": [{"address": ` + x + `}]}`), 7, "prevResult.ips[0].address: "})
	}
	for _, x := range []string{`"10.1.0.5"`, `"10.1.0.5/33"`, `"x"`, `7`} {
		list = append(list, wrong{"address " + x, prev(`{"cniVersion": "1.0.0", "ips": [{"address": ` + x + `}]}`), 6, "prevResult: "})
	}
	for _, x := range []string{`"2001:db8::1"`, `"0.0.0.0"`, `"224.0.0.1"`} {
		list = append(list, wrong{"gateway " + x, prev(`{"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.5/24", "gateway": ` + x + `}]}`), 7, "prevResult.ips[0].gateway: "})
	}
	// Results of the versions that have another shape.
	for version, text := range map[string]string{
		"0.3.1": `{"cniVersion": "0.3.1", "ips": [null]}`, "0.4.0": `{"cniVersion": "0.4.0", "interfaces": [null], "ips": [{"version": "4", "address": "10.1.0.5/24"}]}`, "1.1.0": `{"cniVersion": "1.1.0", "interfaces": [null], "ips": [null]}`,
	} {
		list = append(list, wrong{"null in a result of " + version, config(`{"cniVersion": "` + version + `", "name": "n", "prevResult": ` + text + `}`), 6, "prevResult"})
	}
	list = append(list, wrong{"a null route", prev(`{"cniVersion": "1.0.0", "routes": [null]}`), 6, "prevResult.routes[0]: it is null"})
	return list
}

// TestWrong: each wrong call is answered by a CNI error object, and changes nothing.
func TestWrong(t *testing.T) {
	t.Run(sbr.Own, func(t *testing.T) { testWrong(t, sbr.Own, func(*wrong) bool { return true }) })
	// What the reference plugin takes the drop-in takes.
	t.Run(sbr.DropIn, func(t *testing.T) {
		testWrong(t, sbr.DropIn, func(w *wrong) bool {
			switch {
			case strings.HasPrefix(w.name, "a slip"), strings.Contains(w.name, "table 25"):
				return false
			case w.name == "old version", w.name == "no version":
				w.code, w.msg = 7, "This plugin must be called as chained plugin"
			}
			return true
		})
	})
}

func testWrong(t *testing.T, name string, takes func(*wrong) bool) {
	newPod(t)
	right := adding(name, "net1")
	before := world(t)
	for _, w := range wrongCalls() {
		if !takes(&w) {
			continue
		}
		a := w.call(right).run(t)
		switch {
		case a.err == nil:
			t.Errorf("%s: it is a success", w.name)
			right.as("DEL").must(t)
		case a.err.Code != w.code || !strings.HasPrefix(a.err.Msg, w.msg):
			t.Errorf("%s: code %d: %q; %q\nwant %d: %s", w.name, a.err.Code, a.err.Msg, a.err.Details, w.code, w.msg)
		}
	}
	same(t, "what the wrong calls changed", world(t), before)
	right.must(t)
	if now := world(t); now == before {
		t.Error("the instrument sees no change of a right call")
	}
	right.as("DEL").must(t)
	same(t, "after DEL", world(t), before)
}

// TestLarge: nesting without end and a configuration without end are errors, soon.
func TestLarge(t *testing.T) {
	newPod(t)
	before := world(t)
	deep := func(open, end string) string { return strings.Repeat(open, 200_000) + strings.Repeat(end, 200_000) }
	c := adding(sbr.Own, "net1")
	for name, keys := range map[string]string{
		"nested lists": `"x": ` + deep("[", "]"), "nested objects": `"x": ` + deep(`{"a":`, "}")[:1_000_000], "nested rules": `"rules": [` + deep("[", "]") + "]",
		"a long number": `"table": ` + strings.Repeat("9", 1<<20), "a long string": `"vrf": "` + strings.Repeat("x", 1<<20) + `"`,
		"many rules": `"rules": [` + strings.Repeat(`{"fwmark": 1},`, 10_000) + `{"fwmark": 2}]`,
	} {
		a := c.with(keys).run(t)
		if a.err == nil || a.err.Code != 6 && a.err.Code != 7 || len(a.err.Msg) > 1000 {
			t.Errorf("%s: %.2000v", name, a)
		}
	}
	huge := c.with(`"x": "` + strings.Repeat("x", 100<<20) + `"`)
	a := huge.run(t)
	if a.err == nil || a.err.Code != 6 || !strings.HasPrefix(a.err.Msg, "stdin: ") {
		t.Errorf("100 MiB: %.2000v", a)
	}
	if a := huge.as("DEL").run(t); a.err == nil {
		t.Error("DEL with 100 MiB is a success")
	}
	same(t, "what changed", world(t), before)
	// Much, but not too much: many pods' worth.
	big := c.with(`"x": "` + strings.Repeat("x", 1<<20) + `"`)
	big.must(t)
	big.as("DEL").must(t)
	same(t, "what changed", world(t), before)
}

// TestNoCommand: called by hand it says what it is, and does not wait for stdin.
func TestNoCommand(t *testing.T) {
	newPod(t)
	for _, name := range names {
		r, w, err := os.Pipe() // of which there is no end
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		defer w.Close()
		c := call{name: name, command: "", container: "-", netns: "-", ifname: "-", path: "-"}
		a := c.run(t)
		if a.status != 0 || a.stdout != "" || !strings.Contains(a.stderr, "CNI "+name+" plugin") || !strings.Contains(a.stderr, "1.1.0") {
			t.Errorf("%s: %+v", name, a)
		}
		c.command = "VERSION"
		var v struct{ SupportedVersions []string }
		if a := c.run(t); json.Unmarshal([]byte(a.stdout), &v) != nil || len(v.SupportedVersions) < 5 {
			t.Errorf("%s VERSION: %+v", name, a)
		}
	}
}
