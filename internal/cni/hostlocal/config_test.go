package hostlocal

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/viarule/viarule/internal/cni"
)

// TestWrongConfigurations: each says where it is wrong, with the code of the
// specification. The reference refuses all of them too, but for those of the last part.
func TestWrongConfigurations(t *testing.T) {
	const ok = `"ranges": [[{"subnet": "10.1.0.0/24"}]]`
	for _, tt := range []struct{ conf, args, want string }{
		{`"ipam": {}`, "", "7 ipam.ranges: no IP ranges specified"},
		{`"ipam": null`, "", "7 ipam.ranges: no IP ranges specified"},
		{`"ipam": []`, "", "6 ipam: it is a list, not an object"},
		{`"ipam": {"ranges": []}`, "", "7 ipam.ranges: no IP ranges specified"},
		{`"ipam": {"ranges": [[]]}`, "", "7 ipam.ranges[0]: invalid range set 0: empty range set"},
		{`"ipam": {"ranges": [null]}`, "", "6 ipam.ranges[0]: it is null, not a list"},
		{`"ipam": {"ranges": [[null]]}`, "", "6 ipam.ranges[0][0]: it is null, not an object"},
		{`"ipam": {"ranges": [[{}]]}`, "", "7 ipam.ranges[0]: invalid range set 0: a range has no subnet"},
		{`"ipam": {"ranges": [{"subnet": "10.1.0.0/24"}]}`, "", "6 ipam.ranges[0]: it is an object, not a list"},
		{`"ipam": {"ranges": [[{"subnet": 10}]]}`, "", "6 ipam.ranges[0][0].subnet: it is 10, not a string"},
		{`"ipam": {"ranges": [[{"subnet": "10.1.0.0"}]]}`, "", "7 ipam.ranges[0][0].subnet: invalid CIDR address: 10.1.0.0"},
		{`"ipam": {"ranges": [[{"subnet": "10.1.0.0/31"}]]}`, "", "7 ipam.ranges[0]: invalid range set 0: network 10.1.0.0/31 too small to allocate from"},
		{`"ipam": {"subnet": "2001:db8::/127"}`, "", "7 ipam.subnet: invalid range set 0: network 2001:db8::/127 too small to allocate from"},
		{`"ipam": {"ranges": [[{"subnet": "10.1.0.5/24"}]]}`, "", "7 ipam.ranges[0]: invalid range set 0: network has host bits set. For a subnet mask of length 24 the network address is 10.1.0.0"},
		{`"ipam": {"ranges": [[{"subnet": "10.1.0.0/24", "gateway": "10.2.0.1"}]]}`, "", "7 ipam.ranges[0]: invalid range set 0: gateway 10.2.0.1 not in network 10.1.0.0/24"},
		{`"ipam": {"ranges": [[{"subnet": "10.1.0.0/24", "rangeStart": "10.2.0.1"}]]}`, "", "7 ipam.ranges[0]: invalid range set 0: RangeStart 10.2.0.1 not in network 10.1.0.0/24"},
		{`"ipam": {"ranges": [[{"subnet": "10.1.0.0/24", "rangeEnd": "2001:db8::1"}]]}`, "", "7 ipam.ranges[0]: invalid range set 0: RangeEnd 2001:db8::1 not in network 10.1.0.0/24"},
		{`"ipam": {"ranges": [[{"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.255"}]]}`, "", "7 ipam.ranges[0]: invalid range set 0: RangeStart 10.1.0.255 is after RangeEnd 10.1.0.254 in network 10.1.0.0/24"},
		{`"ipam": {"ranges": [[{"subnet": "10.1.0.0/24"}, {"subnet": "2001:db8::/64"}]]}`, "", "7 ipam.ranges[0]: invalid range set 0: mixed address families"},
		{`"ipam": {"ranges": [[{"subnet": "10.1.0.0/24"}, {"subnet": "10.1.0.0/25"}]]}`, "", "7 ipam.ranges[0]: invalid range set 0: subnets 10.1.0.1-10.1.0.254 and 10.1.0.1-10.1.0.126 overlap"},
		{`"ipam": {"subnet": "10.1.0.0/25", ` + ok + `}`, "", "7 ipam.subnet: range set 0 overlaps with 1, which is ipam.ranges[0]"},
		{`"ipam": {` + ok + `}, "runtimeConfig": {"ipRanges": [[{"subnet": "10.1.0.0/24"}]]}`, "", "7 runtimeConfig.ipRanges[0]: range set 0 overlaps with 1, which is ipam.ranges[0]"},
		{`"ipam": {` + ok + `}, "runtimeConfig": {"ips": ["10.1.0"]}`, "", "7 runtimeConfig.ips[0]: invalid IP address 10.1.0"},
		{`"ipam": {` + ok + `}, "runtimeConfig": {"ips": "10.1.0.5"}`, "", "6 runtimeConfig.ips: it is \"10.1.0.5\", not a list of strings"},
		{`"ipam": {` + ok + `}, "args": {"cni": {"ips": ["fe80::1%lo"]}}`, "", "7 args.cni.ips[0]: invalid IP address fe80::1%lo"},
		{`"ipam": {` + ok + `}`, "IP", `4 CNI_ARGS: invalid pair "IP"`},
		{`"ipam": {` + ok + `}`, "IP=1=2", `4 CNI_ARGS: invalid pair "IP=1=2"`},
		{`"ipam": {` + ok + `}`, "IP=10.1.0.5;", `4 CNI_ARGS: invalid pair ""`},
		{`"ipam": {` + ok + `}`, "IP=10.1.0", `4 CNI_ARGS: invalid IP address 10.1.0`},
		{`"ipam": {` + ok + `}`, "ip=10.1.0.5", `4 CNI_ARGS: unknown args ["ip=10.1.0.5"]`},
		{`"ipam": {` + ok + `}`, "IgnoreUnknown=yes", `4 CNI_ARGS: error parsing value of pair "IgnoreUnknown=yes"`},
		{`"ipam": {"routes": [{"gw": "10.1.0.1"}], ` + ok + `}`, "", "7 ipam.routes[0].dst: it is missing"},
		{`"ipam": {"routes": [{"dst": "10.0.0.0/8", "gw": "x"}], ` + ok + `}`, "", `6 ipam: routes[0].gw: "x" is no address`},

		{`"ipam": {"ranges": [[{"subnet": "10.1.0.0/24", "range_start": "x", "rangestart": "10.1.0.5"}]]}`, "", "7 ipam.ranges[0][0].rangestart: there is no such key; did you mean rangeStart?"},
		{`"ipam": {"datadir": "/var/lib/cni/x", ` + ok + `}`, "", "7 ipam.datadir: there is no such key; did you mean dataDir?"},
		{`"ipam": {"dataDir": "/var/lib/cni", ` + ok + `}`, "", `7 ipam.dataDir: "/var/lib/cni" is no folder below /var/lib/cni`},
		{`"ipam": {"dataDir": "/var/lib/cni/../../../etc", ` + ok + `}`, "", `7 ipam.dataDir: "/var/lib/cni/../../../etc" is no folder below /var/lib/cni`},
		{`"ipam": {"dataDir": "/var/lib/cni/x/../y", ` + ok + `}`, "", `7 ipam.dataDir: "/var/lib/cni/x/../y" is no folder below /var/lib/cni`},
		{`"ipam": {"dataDir": "/var/lib/cnix/y", ` + ok + `}`, "", `7 ipam.dataDir: "/var/lib/cnix/y" is no folder below /var/lib/cni`},
		{`"ipam": {"dataDir": "networks", ` + ok + `}`, "", `7 ipam.dataDir: "networks" is no folder below /var/lib/cni`},
		{`"ipam": {"dataDir": "/tmp", ` + ok + `}`, "", `7 ipam.dataDir: "/tmp" is no folder below /var/lib/cni`},
		{`"ipam": {"dataDir": "/var/lib/cni/\u0000", ` + ok + `}`, "", `7 ipam.dataDir: "/var/lib/cni/\x00" is no folder below /var/lib/cni`},
		{`"ipam": {"dataDir": 7, ` + ok + `}`, "", `6 ipam.dataDir: it is 7, not a string`},
		{`"ipam": {"subnet": "::ffff:10.1.0.0/120"}`, "", "7 ipam.subnet: invalid CIDR address: ::ffff:10.1.0.0/120"},
		{`"ipam": {"ranges": [` + strings.Repeat("[],", 300) + `[]]}`, "", "7 ipam.ranges: there are more than 256"},
		{`"ipam": {"ranges": [[{}` + strings.Repeat(",{}", 255) + "]" + strings.Repeat(",[{}"+strings.Repeat(",{}", 255)+"]", 4) + `]}`, "", "7 ipam.ranges: all sets together have 1280 ranges, more than 1024"},
	} {
		_, err := read(t, "", "{"+tt.conf+"}", tt.args)
		e, _ := errors.AsType[*cni.Error](err)
		if e == nil {
			t.Errorf("%s %q: %v", tt.conf, tt.args, err)
			continue
		}
		if got := fmt.Sprintf("%d %v", e.Code, e); got != tt.want && !strings.HasPrefix(got, tt.want+"; ") {
			t.Errorf("%s %q:\ngot  %s\nwant %s", tt.conf, tt.args, got, tt.want)
		}
	}
}

// TestNetworkNames: a network's name becomes a folder's.
func TestNetworkNames(t *testing.T) {
	for name, ok := range map[string]bool{"pods": true, "a.b-c_d": true, "..a": true, "": false, ".": false, "..": false, "a/b": false, "../etc": false, "/etc": false, "a\x00b": false, strings.Repeat("x", 255): true, strings.Repeat("x", 256): false} {
		if _, err := ReadStore(name, nil); (err == nil) != ok {
			t.Errorf("%.20q: %v", name, err)
		}
	}
	s, err := ReadStore("pods", cni.Document{"ipam": []byte(`{"dataDir": "/var/lib/cni/a/b/", "ranges": 7}`)})
	if err != nil || s.String() != "/var/lib/cni/a/b/pods" {
		t.Errorf("%s, %v", s, err)
	}
}

// TestAttachmentNames: what would not be one line of a file is refused.
func TestAttachmentNames(t *testing.T) {
	base := t.TempDir()
	c := mustRead(t, base, dual)
	for _, a := range []Attachment{{}, {ContainerID: "c1"}, {IfName: "eth0"}, {ContainerID: "c1\r\neth0", IfName: "x"}, {ContainerID: "c1", IfName: "e\n"}, {ContainerID: " ", IfName: "eth0"}, {ContainerID: strings.Repeat("c", 2000), IfName: "eth0"}} {
		for what, err := range map[string]error{"ADD": onlyError(c.Add(context.Background(), a)), "DEL": c.Del(context.Background(), a), "CHECK": c.Check(context.Background(), a)} {
			if e, _ := errors.AsType[*cni.Error](err); e == nil || e.Code != cni.CodeEnvironment {
				t.Errorf("%s %.20q: %v", what, a, err)
			}
		}
	}
	if list, err := os.ReadDir(base); err != nil || len(list) > 0 {
		t.Errorf("%v, %v", list, err)
	}
}

func onlyError[T any](_ T, err error) error { return err }

// TestRequests: asked for by each way, of each family, and what of them fails leaves nothing.
func TestRequests(t *testing.T) {
	const sets = `"ipam": {"ranges": [[{"subnet": "10.1.0.0/24"}, {"subnet": "10.2.0.0/24"}], [{"subnet": "2001:db8:1::/64"}]]}`
	for _, tt := range []struct{ more, args, want string }{
		{``, "IP=10.1.0.9", "10.1.0.9/24 via 10.1.0.1, 2001:db8:1::2/64 via 2001:db8:1::1"},
		{``, "IP=10.2.0.9/16", "10.2.0.9/24 via 10.2.0.1, 2001:db8:1::2/64 via 2001:db8:1::1"},
		{``, "IgnoreUnknown=1;K8S_POD_NAME=p;IP=2001:db8:1::9", "10.1.0.2/24 via 10.1.0.1, 2001:db8:1::9/64 via 2001:db8:1::1"},
		{`, "runtimeConfig": {"ips": ["2001:db8:1::9/64", "10.1.0.9"]}`, "", "10.1.0.9/24 via 10.1.0.1, 2001:db8:1::9/64 via 2001:db8:1::1"},
		{`, "args": {"cni": {"ips": ["::ffff:10.1.0.9"]}}`, "IP=10.1.0.9", "10.1.0.9/24 via 10.1.0.1, 2001:db8:1::2/64 via 2001:db8:1::1"},
		{``, "IP=10.1.0.1", "7 ipam.ranges[0]: requested ip 10.1.0.1 is subnet's gateway"},
		{``, "IP=10.3.0.1", "7 ips: failed to allocate all requested IPs: [10.3.0.1] is in no range set, or shares one with another request"},
		{`, "runtimeConfig": {"ips": ["10.1.0.9", "10.2.0.9"]}`, "", "7 ips: failed to allocate all requested IPs: [10.2.0.9] is in no range set, or shares one with another request"},
		{``, "IP=2001:db8:1::77", "11 requested IP address 2001:db8:1::77 is not available in range set 2001:db8:1::1-2001:db8:1:0:ffff:ffff:ffff:ffff"},
		{``, "IP=10.1.0.77", "11 requested IP address 10.1.0.77 is not available in range set 10.1.0.1-10.1.0.254,10.2.0.1-10.2.0.254"},
	} {
		base := t.TempDir()
		other, err := read(t, base, "{"+sets+`, "runtimeConfig": {"ips": ["10.1.0.77", "2001:db8:1::77"]}}`, "")
		if err != nil {
			t.Fatal(err)
		}
		mustAdd(t, other, Attachment{ContainerID: "other", IfName: "eth0"})
		if err := os.Remove(filepath.Join(other.String(), "last_reserved_ip.0")); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(other.String(), "last_reserved_ip.1"), []byte("what is this"), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := read(t, base, "{"+sets+tt.more+"}", tt.args)
		if err != nil {
			t.Fatal(err)
		}
		r, err := c.Add(context.Background(), Attachment{ContainerID: "c1", IfName: "eth0"})
		got := ""
		if e, ok := errors.AsType[*cni.Error](err); ok {
			got = fmt.Sprintf("%d %v", e.Code, e)
			left := slices.DeleteFunc(files(t, c.Store), func(s string) bool { return strings.HasPrefix(s, "last_reserved_ip.") })
			if want := []string{`10.1.0.77 "other\r\neth0"`, `2001:db8:1::77 "other\r\neth0"`}; !slices.Equal(left, want) {
				t.Errorf("%s %q: left: %q", tt.more, tt.args, left)
			}
		} else if err == nil {
			got = addresses(r)
		}
		if got != tt.want {
			t.Errorf("%s %q:\ngot  %s\nwant %s", tt.more, tt.args, got, tt.want)
		}
	}
}

// TestLegacyFiles: those with only the container's id are the container's, where it has
// no other.
func TestLegacyFiles(t *testing.T) {
	ctx := context.Background()
	legacy := func(c *Config, addr string) {
		t.Helper()
		if err := os.MkdirAll(c.String(), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(c.String(), addr), []byte("c1\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	base := t.TempDir()
	c := mustRead(t, base, dual)
	legacy(c, "10.1.0.5")
	legacy(c, "2001:db8:1::5")
	a := Attachment{ContainerID: "c1", IfName: "eth0"}
	if err := c.Check(ctx, a); err != nil {
		t.Error(err)
	}
	if _, err := c.Add(ctx, a); err == nil || !strings.Contains(err.Error(), "10.1.0.5 has been allocated to c1") {
		t.Errorf("%v", err)
	}
	if err := c.GC(ctx, []Attachment{{ContainerID: "c1", IfName: "net7"}}); err != nil {
		t.Error(err)
	}
	if got := files(t, c.Store); len(got) != 2 {
		t.Errorf("GC left %q", got)
	}
	if err := c.Del(ctx, a); err != nil {
		t.Error(err)
	}
	if got := files(t, c.Store); len(got) != 0 {
		t.Errorf("DEL left %q", got)
	}
	mustAdd(t, c, a)
	legacy(c, "10.1.0.5")
	if err := c.Del(ctx, a); err != nil {
		t.Error(err)
	}
	if got := files(t, c.Store); len(got) != 3 || got[0] != `10.1.0.5 "c1\n"` {
		t.Errorf("DEL of a newer allocation left %q", got)
	}
}

// TestGCKeepsWhatIsNoAllocation: a folder may be another program's as well.
func TestGCKeepsWhatIsNoAllocation(t *testing.T) {
	c := mustRead(t, t.TempDir(), dual)
	mustAdd(t, c, Attachment{ContainerID: "c1", IfName: "eth0"})
	for _, name := range []string{"results.json", "10.1.0.77.bak", "2001:DB8::1", "010.1.0.1"} {
		if err := os.WriteFile(filepath.Join(c.String(), name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(c.String(), "10.1.0.6"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := c.GC(context.Background(), nil); err != nil {
		t.Error(err)
	}
	var names []string
	list, err := os.ReadDir(c.String())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		names = append(names, e.Name())
	}
	if want := "010.1.0.1 10.1.0.6 10.1.0.77.bak 2001:DB8::1 last_reserved_ip.0 last_reserved_ip.1 lock results.json"; strings.Join(names, " ") != want {
		t.Errorf("%q", names)
	}
}

func TestResolvConf(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to write to /run")
	}
	dir, err := os.MkdirTemp("/run", "viarule-test-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	write := func(name, text string) string {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return filepath.Join(dir, name)
	}
	if err := os.Symlink(write("good", "# a comment\n; another\nnameserver 10.1.0.1\nnameserver fe80::1%eth0\n\n domain example.org \nsearch a.example.org _b.example.org\nsearch c\noptions ndots:5 edns0 no-check-names\nnameserver\n"), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	got, err := readResolvConf(filepath.Join(dir, "link"))
	if want := "{[10.1.0.1 fe80::1%eth0] example.org [a.example.org _b.example.org c] [ndots:5 edns0 no-check-names]}"; err != nil || fmt.Sprint(got) != want {
		t.Errorf("%v, %v", got, err)
	}
	got, err = readResolvConf(write("secrets", "nameserver hunter2\nsearch password=x {\noptions \"secret\" a:b:c\ndomain k8s/token\nroot:$6$x:19000\n"))
	if err != nil || fmt.Sprint(got) != "{[]  [] []}" {
		t.Errorf("of another file: %v, %v", got, err)
	}
	for _, name := range []string{"", "resolv.conf", "/root/resolv.conf", "/proc/self/environ", "/etc/../root/x", "/run//x", dir, dir + "/none", "/etc/x\x00", write("large", strings.Repeat("x", mostResolv+1))} {
		if got, err := readResolvConf(name); err == nil {
			t.Errorf("%q: %v", name, got)
		}
	}
}

// FuzzRead: nothing that a configuration contains makes it panic, or leads out of
// /var/lib/cni.
func FuzzRead(f *testing.F) {
	f.Add([]byte(dual), "IP=10.1.0.5", "pods")
	f.Add([]byte(`{"ipam": {"subnet": "::/0", "rangeStart": "ff::", "rangeEnd": "ff::1", "dataDir": "/var/lib/cni/x"}, "args": {"cni": {"ips": ["::1"]}}, "runtimeConfig": {"ips": [""], "ipRanges": [[{}]]}}`), "IgnoreUnknown=1;A=", "..")
	f.Fuzz(func(t *testing.T, text []byte, args, name string) {
		d, err := cni.ReadDocument("stdin", text)
		if err != nil {
			return
		}
		c, err := Read(name, d, args)
		if err != nil {
			return
		}
		if p := c.String(); !strings.HasPrefix(p, "/var/lib/cni/") || filepath.Clean(p) != p || filepath.Base(p) != name {
			t.Errorf("%q", p)
		}
		for i := range c.sets {
			n := 0
			c.sets[i].next(c.sets[i].ranges[0].end, func(a netip.Addr, r *oneRange) bool {
				if !r.subnet.Contains(a) || a == r.gateway {
					t.Errorf("%s of %s", a, r)
				}
				n++
				return n < 300
			})
		}
	})
}
