package ipam

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
)

// versions are those in which an IPAM plugin may answer.
var versions = []string{"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"}

// plugins makes a folder with a program under a name, and ours, so that ours executes it.
func plugins(t *testing.T, name, program string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for link, to := range map[string]string{name: program, "ours": ours} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// delegate makes libcni run a plugin as ours does it.
func delegate(t *testing.T, c call, name string) (string, error) {
	t.Helper()
	for k, v := range map[string]string{"CNI_COMMAND": "ADD", "CNI_CONTAINERID": c.container, "CNI_IFNAME": c.ifname, "CNI_NETNS": "/run/netns/none", "CNI_NETNS_OVERRIDE": "1", "CNI_PATH": filepath.Dir(c.program), "CNI_ARGS": c.args} {
		t.Setenv(k, v)
	}
	r, err := invoke.DelegateAdd(context.Background(), name, []byte(c.stdin), nil)
	if err != nil {
		return "", err
	}
	b, err := json.Marshal(r)
	return string(b), err
}

// TestExecutedReferences: static and host-local, executed, give what libcni gets from
// them, in each version.
func TestExecutedReferences(t *testing.T) {
	newHost(t)
	const static4, static6 = `{"address": "10.1.0.5/24", "gateway": "10.1.0.1"}`, `{"address": "2001:db8:1::5/64", "gateway": "2001:db8:1::1"}`
	for _, tt := range []struct{ name, ipam, args string }{
		{"static", `"addresses": [` + static4 + `]`, ""},
		{"static", `"addresses": [` + static6 + `]`, ""},
		{"static", `"addresses": [` + static4 + `,` + static6 + `], "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.9"}, {"dst": "::/0"}], "dns": {"nameservers": ["10.1.0.1", "2001:db8::1"], "domain": "example.org", "search": ["a.example.org"], "options": ["ndots:5"]}`, ""},
		{"static", ``, "IP=10.1.0.7/24;GATEWAY=10.1.0.1"},
		{"static", `"addresses": [{"address": "10.1.0.5/99"}]`, ""},
		{"static", `"addresses": [` + static4 + `]`, "IP=x"},
		{"other-local", `"ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "2001:db8:1::/64"}]], "routes": [{"dst": "10.0.0.0/8", "mtu": 1400, "priority": 5}]`, ""},
		{"other-local", `"ranges": [[{"subnet": "2001:db8:1::/64"}]]`, "IP=2001:db8:1::1"},
		{"other-local", `"ranges": [[{"subnet": "10.1.0.0/31"}]]`, ""},
	} {
		for _, version := range versions {
			what := fmt.Sprintf("%s %s %q %s", tt.name, version, tt.args, tt.ipam)
			dir := plugins(t, tt.name, map[string]string{"static": static, "other-local": hostLocal}[tt.name])
			ipam := strings.TrimSuffix(fmt.Sprintf(`"type": %q, %s`, tt.name, tt.ipam), ", ")
			c := call{program: dir + "/ours", command: "ADD", container: "c1", ifname: "eth0", args: tt.args,
				stdin: fmt.Sprintf(`{"cniVersion": %q, "name": "pods", "type": "ptp", "ipam": {%s}}`, version, ipam)}
			got, err := c.run()
			if err == nil {
				c.as("DEL").must(t)
			}
			// The same address comes next: the round begins anew.
			if err := os.RemoveAll("/var/lib/cni"); err != nil {
				t.Fatal(err)
			}
			want, werr := delegate(t, c, tt.name)
			if err := os.RemoveAll("/var/lib/cni"); err != nil {
				t.Fatal(err)
			}
			if (err == nil) != (werr == nil) {
				t.Errorf("%s:\nours   %v\nlibcni %v", what, err, werr)
				continue
			}
			if err != nil {
				e, _ := errors.AsType[*types.Error](err)
				w, ok := errors.AsType[*types.Error](werr)
				if e == nil || !ok || e.Code != w.Code || e.Msg != "IPAM plugin "+tt.name+" ADD: "+w.Msg || e.Details != w.Details {
					t.Errorf("%s:\nours   %#v\nlibcni %#v", what, e, w)
				}
				continue
			}
			var a, b map[string]any
			if err := errors.Join(json.Unmarshal([]byte(got), &a), json.Unmarshal([]byte(want), &b)); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(withoutEmpty(a), withoutEmpty(b)) {
				t.Errorf("%s:\nours   %s\nlibcni %s", what, got, want)
			}
		}
	}
}

// withoutEmpty leaves out what an answer may say or not.
func withoutEmpty(m map[string]any) map[string]any {
	if d, ok := m["dns"].(map[string]any); ok && len(d) == 0 {
		delete(m, "dns")
	}
	if r, ok := m["routes"].([]any); ok && len(r) == 0 {
		delete(m, "routes")
	}
	return m
}

// TestSameCallAsLibcni: an executed plugin gets the environment and standard input that it
// gets from libcni.
func TestSameCallAsLibcni(t *testing.T) {
	newHost(t)
	dir := t.TempDir()
	script := filepath.Join(dir, "spy-script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\ncat > "+dir+"/stdin\nenv > "+dir+"/env\necho '{\"ips\": [{\"address\": \"10.1.0.5/24\"}]}'\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	seen := func() (env []string, stdin string) {
		e, err1 := os.ReadFile(dir + "/env")
		s, err2 := os.ReadFile(dir + "/stdin")
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		env = strings.Split(strings.TrimSpace(string(e)), "\n")
		slices.Sort(env)
		return env, string(s)
	}
	// Also what no key of ours reads, in its odd form.
	c := call{program: plugins(t, "spy", script) + "/ours", command: "ADD", container: "c1", ifname: "eth0", args: "IgnoreUnknown=1;X=é",
		stdin: "{ \"cniVersion\":\"1.0.0\",\n\"name\" : \"pods\", \"type\": \"ptp\", \"x\": 1.50, \"ipam\": {\"type\": \"spy\"}}\n"}
	c.must(t)
	env, stdin := seen()
	if _, err := delegate(t, c, "spy"); err != nil {
		t.Fatal(err)
	}
	wantEnv, wantStdin := seen()
	if !slices.Equal(env, wantEnv) {
		t.Errorf("environment\nours   %q\nlibcni %q", env, wantEnv)
	}
	if stdin != wantStdin || stdin != c.stdin {
		t.Errorf("standard input\nours   %q\nlibcni %q", stdin, wantStdin)
	}
}
