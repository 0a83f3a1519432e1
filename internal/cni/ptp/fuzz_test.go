package ptp

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/viarule/viarule/internal/cni"
	"github.com/viarule/viarule/internal/kernel"
	"github.com/viarule/viarule/internal/netnstest"
)

// codes are those of docs/design/ptp.md.
var codes = []uint{1, 3, 4, 5, 6, 7, 8, 11, 50, 101}

// FuzzCall answers any standard input and environment on a host that has room for a pod.
// It never panics; what it refuses has a code that is documented, and changes nothing; what
// it does, a DEL undoes.
func FuzzCall(f *testing.F) {
	for _, s := range []string{
		`{"cniVersion":"1.1.0","name":"n","ipam":{"type":"host-local","ranges":[[{"subnet":"10.1.0.0/24"}],[{"subnet":"2001:db8:1::/64"}]]}}`,
		`{"cniVersion":"1.0.0","name":"n","mtu":1400,"ipMasq":true,"dns":{"nameservers":["192.0.2.53"]},"ipam":{"type":"host-local","subnet":"10.1.0.0/24","rangeStart":"10.1.0.9","gateway":"10.1.0.7","routes":[{"dst":"0.0.0.0/0","mtu":1300,"table":7}],"resolvConf":"/etc/resolv.conf"},"runtimeConfig":{"ips":["10.1.0.9/24"]}}`,
		`{"cniVersion":"0.4.0","name":"n","ipam":{"type":"host-local","dataDir":"/var/lib/cni/x/y","ranges":[[{"subnet":"2001:db8:1::/120"},{"subnet":"2001:db8:2::/64","rangeEnd":"2001:db8:2::5"}]]},"prevResult":{"cniVersion":"0.4.0","interfaces":[{"name":"eth0","sandbox":"/x"}],"ips":[{"version":"6","address":"2001:db8:1::2/120","interface":0}]}}`,
		`{"cniVersion":"1.1.0","name":"n","cni.dev/valid-attachments":[{"containerID":"c","ifname":"eth0"}],"ipam":{"type":"host-local","subnet":"10.1.0.0/24"}}`,
		`{"cniVersion":"0.3.1","name":"n","ipam":{"type":"host-local","dataDir":"/var/lib/cni/../../etc","subnet":"10.1.0.0/24"},"args":{"cni":{"ips":["10.1.0.4"]}}}`,
		`{"cniVersion":"1.1.0","name":"n","ipam":{"type":"dhcp"}}`, `{"cniVersion":"1.1.0","name":"n","ipam":null,"prevResult":{"ips":[null]}}`, `{"cniVersion":"1.1.0","name":"n"}`, `[]`, ``,
	} {
		for i, command := range []string{"ADD", "DEL", "CHECK", "GC", "STATUS"} {
			f.Add([]byte(s), command, "c1", "eth0", []string{"", "IP=10.1.0.9", "IgnoreUnknown=1;A=b", "IP=;", "IP=2001:db8:1::9"}[i])
		}
	}
	path := f.TempDir() // without programs
	f.Fuzz(func(t *testing.T, stdin []byte, command, container, ifname, args string) {
		if strings.ContainsRune(command+container+ifname+args, 0) {
			return // there are no such environments
		}
		netnstest.New(t, netnstest.Mounts("/var/lib", "/var/log"))
		env := map[string]string{"CNI_COMMAND": command, "CNI_CONTAINERID": container, "CNI_IFNAME": ifname, "CNI_NETNS": netnstest.Named(t, "pod"), "CNI_ARGS": args, "CNI_PATH": path}
		before := traces(t)
		status, out := answer(t, env, stdin)
		if status != 0 {
			var e types.Error
			if err := json.Unmarshal(out, &e); err != nil || !slices.Contains(codes, e.Code) || e.Msg == "" {
				t.Errorf("no error object with a code that is documented: %v: %s", err, out)
			}
		} else if command == "ADD" {
			env["CNI_COMMAND"] = "DEL"
			if status, out := answer(t, env, stdin); status != 0 {
				t.Errorf("ADD is a success, and DEL says %s", out)
			}
		}
		if after := traces(t); after != before {
			t.Errorf("%s answers %s, and there is\n%s\nbefore\n%s", command, out, after, before)
		}
	})
}

// answer does a call. DEL does by turns what it else does at once: other goroutines are not in
// the test's namespaces.
func answer(t *testing.T, env map[string]string, stdin []byte) (status int, out []byte) {
	t.Helper()
	p := front("test", time.Now())
	p.Del = func(call *cni.Call) error {
		p := &plugin{ctx: cni.Within(patience), started: time.Now(), call: call}
		return p.run(func(p *plugin) error { return errors.Join(p.release(), p.unlink()) })
	}
	var answer, about bytes.Buffer
	status = p.Answer(func(k string) string { return env[k] }, bytes.NewReader(stdin), &answer, &about)
	return status, answer.Bytes()
}

// traces are the links here and in the pod, and the addresses that are taken.
func traces(t *testing.T) string {
	t.Helper()
	var list []string
	for _, ns := range []string{"", "/run/netns/pod"} {
		c, err := kernel.Open(ns)
		if err != nil {
			t.Fatal(err)
		}
		v, err := c.View(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for i := range v.Links {
			list = append(list, ns+" "+v.Links[i].Name+" "+v.Links[i].Alias)
		}
		c.Close()
	}
	err := filepath.WalkDir("/var/lib", func(path string, d fs.DirEntry, err error) error {
		name := filepath.Base(path)
		if err == nil && !d.IsDir() && name != "lock" && !strings.HasPrefix(name, "last_reserved_ip.") {
			list = append(list, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(list, "\n")
}
