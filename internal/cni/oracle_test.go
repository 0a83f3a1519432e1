package cni_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
	"pgregory.net/rapid"

	"github.com/viarule/viarule/internal/cni"
)

// The library is the oracle: a plugin that prints the result of the one before must say
// the same whether the library or this package is in front of it.

var allVersions = []string{"0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"}

const about = "a plugin"

// A said is what a program says.
type said struct {
	status         int
	stdout, stderr string
}

// ours answers with the front of this package.
func ours(versions []string, env map[string]string, stdin string) said {
	var out, err bytes.Buffer
	done := func(*cni.Call) error { return nil }
	p := &cni.Plugin{Versions: versions, About: about, Del: done, Check: done, GC: done, Status: done, Add: func(c *cni.Call) (*cni.Result, error) {
		r, err := cni.PrevResult(c.Config, c.Version)
		if err == nil && r == nil {
			err = cni.NotChained()
		}
		return r, err
	}}
	status := p.Answer(func(k string) string { return env[k] }, strings.NewReader(stdin), &out, &err)
	return said{status, out.String(), err.String()}
}

// library answers with the library's.
func library(t testing.TB, dir string, versions []string, env map[string]string, stdin string) said {
	for _, k := range []string{"COMMAND", "CONTAINERID", "NETNS", "IFNAME", "ARGS", "PATH", "NETNS_OVERRIDE"} {
		if v, ok := env["CNI_"+k]; ok {
			os.Setenv("CNI_"+k, v)
			defer os.Unsetenv("CNI_" + k)
		} else {
			os.Unsetenv("CNI_" + k)
		}
	}
	files := map[string]*os.File{}
	for _, name := range []string{"in", "out", "err"} {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files[name] = f
	}
	if _, err := files["in"].WriteString(stdin); err != nil {
		t.Fatal(err)
	}
	if _, err := files["in"].Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	in, out, serr := os.Stdin, os.Stdout, os.Stderr
	os.Stdin, os.Stdout, os.Stderr = files["in"], files["out"], files["err"]
	status := 0
	done := func(*skel.CmdArgs) error { return nil }
	if e := skel.PluginMainFuncsWithError(skel.CNIFuncs{Add: libraryAdd, Del: done, Check: done, GC: done, Status: done}, version.PluginSupports(versions...), about); e != nil {
		status = 1
		_ = e.Print()
	}
	os.Stdin, os.Stdout, os.Stderr = in, out, serr
	text := func(name string) string {
		data, err := os.ReadFile(files[name].Name())
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	return said{status, text("out"), text("err")}
}

func libraryAdd(args *skel.CmdArgs) error {
	var conf struct {
		CNIVersion string          `json:"cniVersion"`
		PrevResult json.RawMessage `json:"prevResult"`
	}
	if err := json.Unmarshal(args.StdinData, &conf); err != nil {
		return types.NewError(types.ErrDecodingFailure, err.Error(), "")
	}
	if len(conf.PrevResult) == 0 || string(conf.PrevResult) == "null" {
		return types.NewError(types.ErrInvalidNetworkConfig, "This plugin must be called as chained plugin", "")
	}
	if conf.CNIVersion == "" {
		conf.CNIVersion = "0.1.0"
	}
	r, err := version.NewResult(conf.CNIVersion, conf.PrevResult)
	if err == nil {
		var now *current.Result
		if now, err = current.NewResultFromResult(r); err == nil {
			return types.PrintResult(now, conf.CNIVersion)
		}
	}
	return types.NewError(types.ErrDecodingFailure, err.Error(), "")
}

func right(command string) map[string]string {
	return map[string]string{"CNI_COMMAND": command, "CNI_CONTAINERID": "c1", "CNI_NETNS": "/nowhere", "CNI_IFNAME": "eth0", "CNI_PATH": "/opt/cni/bin"}
}

// compare fails where the two say something else. Of what is no JSON, or of the wrong
// type, the words may differ.
func compare(t interface {
	Helper()
	Fatalf(string, ...any)
}, what, version string, got, want said) {
	t.Helper()
	if got == want {
		return
	}
	var g, w types.Error
	if got.status == 1 && want.status == 1 && got.stderr == want.stderr &&
		json.Unmarshal([]byte(got.stdout), &g) == nil && json.Unmarshal([]byte(want.stdout), &w) == nil &&
		(g.Code == w.Code && g.Code == types.ErrDecodingFailure && g.Msg != "" ||
			// 999 says that the plugin is broken.
			g.Msg == "cniVersion: a result of version "+version+" has an address, and there is none" && w.Msg == "cannot convert: no valid IP addresses") {
		return
	}
	t.Fatalf("%s\nsays    %+v\nlibrary %+v", what, got, want)
}

// results are of each version, as plugins give them, and others that are odd.
func results() (list []string) {
	for _, v := range allVersions {
		list = append(list, `{"cniVersion":"`+v+`","ip4":{"ip":"10.1.0.5/24","gateway":"10.1.0.1","routes":[{"dst":"0.0.0.0/0"},{"dst":"10.9.0.7/8","gw":"10.1.0.2","mtu":1400}]},"ip6":{"ip":"2001:db8::5/64","gateway":"2001:db8::1"},"dns":{"nameservers":["9.9.9.9"],"domain":"d"}}`,
			`{"cniVersion":"`+v+`","interfaces":[{"name":"br0","mac":"02:00:00:00:00:01"},{"name":"eth0","mac":"02:00:00:00:00:02","mtu":1400,"sandbox":"/x","socketPath":"/s","pciID":"0000:00:1f.6"},{"name":""}],
				"ips":[{"version":"4","address":"10.1.0.5/24","gateway":"10.1.0.1","interface":1},{"version":"6","address":"2001:db8::5/64","interface":0},{"version":"4","address":"10.2.0.5/32","interface":-1},{"version":"4","address":"::ffff:10.3.0.5/120"}],
				"routes":[{"dst":"0.0.0.0/0","gw":"10.1.0.1","mtu":1400,"advmss":1360,"priority":7,"table":100,"scope":0},{"dst":"::/0","gw":"::1"},{"dst":"10.0.0.7/8","table":0}],
				"dns":{"nameservers":["9.9.9.9","::1"],"domain":"<&>\u00e9\u2028","search":["a","b"],"options":["x"]}}`,
			`{"cniVersion":"`+v+`"}`, `{"cniVersion":"`+v+`","ips":[],"routes":null,"dns":{},"interfaces":null}`, `{"CNIVersion":"`+v+`","IPs":[{"Address":"10.1.0.5/24","version":"4"}],"ip4":{"IP":"10.1.0.5/24"}}`)
	}
	return append(list, `{}`, `[]`, `7`, `"x"`, `null`, `true`, `{"cniVersion":7}`, `{"cniVersion":"9.9.9"}`, `{"cniVersion":""}`, `{"ip4":{"ip":"10.1.0.5/24"}}`,
		`{"cniVersion":"1.0.0","ips":[{"address":"10.1.0.5/024"},{"address":"10.1.0.5/24","gateway":""}]}`, `{"cniVersion":"1.0.0","ips":[{"address":"10.1.0.5/+24"}]}`, `{"cniVersion":"1.0.0","ips":[{"address":"fe80::1%eth0/64"}]}`,
		`{"cniVersion":"1.0.0","ips":[{"address":"10.1.0.5/24","gateway":"fe80::1%eth0"}]}`, `{"cniVersion":"1.0.0","ips":[{"address":"10.1.0.5/24","gateway":"::ffff:10.1.0.1","interface":null}]}`,
		`{"cniVersion":"1.0.0","interfaces":[{"name":"a","mtu":1.0}]}`, `{"cniVersion":"1.0.0","interfaces":[{"name":"a","mtu":"1"}]}`, `{"cniVersion":"1.0.0","interfaces":{}}`, `{"cniVersion":"0.4.0","interfaces":[{"name":"a","mtu":"1"}]}`,
		`{"cniVersion":"1.0.0","dns":{"search":"x"}}`, `{"cniVersion":"1.0.0","dns":{"search":[null,"x"]}}`, `{"cniVersion":"1.0.0","dns":[]}`, `{"cniVersion":"0.4.0","ips":[{"version":4,"address":"10.1.0.5/24"}]}`,
		`{"cniVersion":"1.0.0","colour":"red","interfaces":[{"name":"a","colour":{}}]}`, `{"cniVersion":"1.0.0","cniVersion":"1.1.0"}`)
}

func TestAsTheLibraryDoes(t *testing.T) {
	dir := t.TempDir()
	try := func(what string, versions []string, env map[string]string, stdin string) {
		t.Helper()
		var conf struct{ CNIVersion string }
		_ = json.Unmarshal([]byte(stdin), &conf)
		compare(t, fmt.Sprintf("%s: %v %v %.300s", what, versions, env, stdin), cmp.Or(conf.CNIVersion, "0.1.0"), ours(versions, env, stdin), library(t, dir, versions, env, stdin))
	}
	commands := []string{"ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION", "LIST", "add", ""}
	some := allVersions[2:]
	for _, command := range commands {
		env := right(command)
		try("right", allVersions, env, `{"name":"n","cniVersion":"1.1.0"}`)
		for key := range env {
			for _, v := range []string{"-", "", ".", "..", "a/b", "a b", "a:b", "a\u00a0b", "sixteen-letters-", "fifteen-letters", "_x", "x_.-9", "é", "\xff", "a\n"} {
				odd := maps.Clone(env)
				if odd[key] = v; v == "-" {
					delete(odd, key)
				}
				if len(v) < 10 || key != "CNI_COMMAND" {
					try(key, some, odd, `{"name":"n","cniVersion":"1.1.0"}`)
				}
			}
		}
		for _, v := range []string{"", "0.1.0", "0.2.0", "0.3.0", "0.3.9", "0.4.0", "0.4", "1", "1.0.0", "1.0.1", "1.1.0", "1.1.0.0", "2.0.0", "9.9.9", "x", "1.x", "-1.0.0", "1..0", " 1.0.0"} {
			for _, versions := range [][]string{allVersions, some, {"0.4.0"}, {"1.0.0"}} {
				try("version", versions, env, fmt.Sprintf(`{"name":"n","cniVersion":%q}`, v))
			}
		}
		for _, stdin := range []string{"", " ", "{", "[]", "7", `"x"`, "null", "{}", `{"name":7}`, `{"name":null}`, `{"name":""}`, `{"name":"a/b"}`, `{"name":"a b"}`, `{"name":"_a"}`, `{"name":"a_.-"}`, `{"name":"n","name":"m/"}`, `{"name":"n","cniVersion":7}`, `{"name":"n","cniVersion":null}`,
			`{"name":"n"}`, `{"name":"n"}{}`, "\xef\xbb\xbf{}", `{"name":"\u006e"}`, `{"name":"n","cniVersion":"1.1.0","x":"` + strings.Repeat("x", 10_000) + `"}`} {
			try("stdin", allVersions, env, stdin)
		}
	}
	for _, v := range append([]string{""}, allVersions...) {
		for _, r := range results() {
			try("result", allVersions, right("ADD"), fmt.Sprintf(`{"name":"n","cniVersion":%q,"prevResult":%s}`, v, r))
		}
	}
}

// TestStricter: where the library goes on with what cannot be right, there is an error.
func TestStricter(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct {
		stdin, msg string
		code       uint
		panics     bool // the library follows a null
	}{
		{`{"Name":"n","cniVersion":"1.1.0"}`, "name: it is missing; write the key in small letters, not as Name", 7, false},
		{`{"name":"n","cniVersion":"1.1.0","prevResult":{"cniVersion":"1.1.0","ips":[{}]}}`, "prevResult.ips[0].address: it is missing", 7, false},
		{`{"name":"n","cniVersion":"1.1.0","prevResult":{"cniVersion":"1.1.0","routes":[{"dst":"::/0"},{}]}}`, "prevResult.routes[1].dst: it is missing", 7, false},
		{`{"name":"n","cniVersion":"0.2.0","prevResult":{"cniVersion":"0.2.0","ip6":{}}}`, "prevResult.ip6.ip: it is missing", 7, false},
		{`{"name":"n","cniVersion":"0.2.0","prevResult":{"ip4":{"ip":"10.1.0.5/24","routes":[null]}}}`, "prevResult.ip4.routes[0]: it is null", 6, false},
		{`{"name":"n","cniVersion":"1.1.0","prevResult":{"cniVersion":"1.1.0","interfaces":[null]}}`, "prevResult.interfaces[0]: it is null", 6, false},
		{`{"name":"n","cniVersion":"0.4.0","prevResult":{"cniVersion":"0.4.0","ips":[null]}}`, "prevResult.ips[0]: it is null", 6, true},
	} {
		got := ours(allVersions, right("ADD"), tt.stdin)
		var e types.Error
		if err := json.Unmarshal([]byte(got.stdout), &e); err != nil || got.status != 1 || e.Code != tt.code || e.Msg != tt.msg {
			t.Errorf("%s\nsays %+v", tt.stdin, got)
		}
		if tt.panics || strings.HasPrefix(tt.stdin, `{"Name`) {
			continue
		}
		if want := library(t, dir, allVersions, right("ADD"), tt.stdin); want.status != 0 {
			t.Errorf("%s\nthe library is as strict: %+v", tt.stdin, want)
		}
	}
	// A configuration without end.
	if got := ours(allVersions, right("ADD"), `{"name":"n","x":"`+strings.Repeat("x", 5<<20)+`"}`); got.status != 1 || !strings.Contains(got.stdout, "more than 4 MiB") {
		t.Errorf("of 5 MiB: %.300v", got)
	}
}

// TestEveryResult: results with any fields, in any version.
func TestEveryResult(t *testing.T) {
	dir := t.TempDir()
	text := rapid.SampledFrom([]string{"", "a", "eth0", "/run/netns/x", "<é>", "\x00", "\u2028"})
	number := rapid.OneOf(rapid.IntRange(-2, 3), rapid.IntRange(1, 1<<31))
	address := rapid.SampledFrom([]string{"10.1.0.5", "10.2.0.0", "0.0.0.0", "2001:db8::5", "::", "fe80::1", "::1:0:0:0"})
	prefix := rapid.Custom(func(t *rapid.T) string {
		return address.Draw(t, "address") + "/" + fmt.Sprint(rapid.IntRange(0, 32).Draw(t, "length"))
	})
	object := func(t *rapid.T, must, may map[string]func(*rapid.T) any) map[string]any {
		o := map[string]any{}
		for k, f := range must {
			o[k] = f(t)
		}
		for k, f := range may {
			if rapid.Bool().Draw(t, k) {
				o[k] = f(t)
			}
		}
		return o
	}
	of := func(g *rapid.Generator[string]) func(*rapid.T) any {
		return func(t *rapid.T) any { return g.Draw(t, "text") }
	}
	num := func(t *rapid.T) any { return number.Draw(t, "number") }
	list := func(each func(*rapid.T) any) func(*rapid.T) any {
		return func(t *rapid.T) any { return rapid.SliceOfN(rapid.Custom(each), 0, 3).Draw(t, "list") }
	}
	type fields = map[string]func(*rapid.T) any
	route := func(t *rapid.T) any {
		return object(t, fields{"dst": of(prefix)}, fields{"gw": of(address), "mtu": num, "advmss": num, "priority": num, "table": num, "scope": num})
	}
	dns := func(t *rapid.T) any {
		return object(t, nil, fields{"nameservers": list(of(text)), "domain": of(text), "search": list(of(text)), "options": list(of(text))})
	}
	old := func(t *rapid.T) any {
		return object(t, fields{"ip": of(prefix)}, fields{"gateway": of(address), "routes": list(route)})
	}
	rapid.Check(t, func(rt *rapid.T) {
		v := rapid.SampledFrom(allVersions).Draw(rt, "version")
		r := object(rt, nil, fields{
			"interfaces": list(func(t *rapid.T) any {
				return object(t, fields{"name": of(text)}, fields{"mac": of(text), "sandbox": of(text), "mtu": num, "socketPath": of(text), "pciID": of(text)})
			}),
			"ips": list(func(t *rapid.T) any {
				a := prefix.Draw(t, "address")
				ip := object(t, nil, fields{"gateway": of(address), "interface": num})
				// The library believes a wrong version, and puts it into results of 0.2.0.
				ip["address"], ip["version"] = a, map[bool]string{true: "6", false: "4"}[strings.Contains(a, ":")]
				return ip
			}),
			"routes": list(route), "dns": dns, "ip4": old, "ip6": old,
		})
		r["cniVersion"] = rapid.SampledFrom([]string{v, v, v, "0.2.0", "0.4.0", "1.0.0", "1.1.0"}).Draw(rt, "of result")
		for k, f := range map[string]string{"ip4": ":", "ip6": "."} {
			if o, ok := r[k].(map[string]any); ok && strings.Contains(o["ip"].(string), f) {
				delete(r, k) // of the other family
			}
		}
		conf, err := json.Marshal(map[string]any{"name": "n", "cniVersion": v, "prevResult": r})
		if err != nil {
			rt.Fatal(err)
		}
		compare(rt, string(conf), v, ours(allVersions, right("ADD"), string(conf)), library(t, dir, allVersions, right("ADD"), string(conf)))
	})
}
