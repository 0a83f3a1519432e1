package cni

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/viarule/viarule/internal/netnstest"
)

// TestPtpCheck: CHECK names what differs.
func TestPtpCheck(t *testing.T) {
	const more = `, "ipMasq": true, "mtu": 1400`
	forwarding6 := "VIA/force_forwarding"
	if _, err := os.Stat("/proc/sys/net/ipv6/conf/lo/force_forwarding"); err != nil { // Linux below 6.17
		forwarding6 = "all/forwarding"
	}
	for _, tt := range []struct{ spoil, says string }{
		{"ip addr add 192.0.2.1/32 dev VIA", "VIA has the address 192.0.2.1/32"},
		{"ip link set VIA alias x", `the alias of VIA is "x"`},
		{"ip link set VIA mtu 1300", "the MTU of VIA is 1300, not 1400"},
		{"ip link set VIA down", "VIA is down"},
		{"ip link set VIA address 0a:00:00:00:00:01", "the link-layer address of VIA is 0a:00:00:00:00:01"},
		{"ip route del 10.1.0.2", "missing: route 10.1.0.2 dev VIA"},
		{"ip -6 route del 2001:db8:1::2", "missing: route -6 2001:db8:1::2 dev VIA"},
		{"ip neigh del 10.1.0.2 dev VIA", "missing: neighbour 10.1.0.2 "},
		{"ip neigh del 2001:db8:1::2 dev VIA", "missing: neighbour 2001:db8:1::2 "},
		{"echo 0 > /proc/sys/net/ipv4/conf/VIA/forwarding", "net/ipv4/conf/VIA/forwarding is not 1"},
		{"echo 1 > /proc/sys/net/ipv4/conf/VIA/proxy_arp", "net/ipv4/conf/VIA/proxy_arp is not 0"},
		{"echo 1 > /proc/sys/net/ipv4/conf/VIA/accept_redirects", "net/ipv4/conf/VIA/accept_redirects is not 0"},
		{"echo 1 > /proc/sys/net/ipv6/conf/VIA/accept_ra", "net/ipv6/conf/VIA/accept_ra is not 0"},
		{"echo 2 > /proc/sys/net/ipv6/conf/VIA/accept_ra", "net/ipv6/conf/VIA/accept_ra is not 0"},
		{"ip -n pod link set lo down", "the pod's lo is down"},
		{"echo 0 > /proc/sys/net/ipv6/conf/" + forwarding6, "net/ipv6/conf/" + forwarding6 + " is not 1"},
		{"echo 1 > /proc/sys/net/ipv6/conf/all/forwarding; echo 0 > /proc/sys/net/ipv6/conf/all/forwarding", "net/ipv6/conf/" + forwarding6 + " is not 1"},
		{"nft flush chain netdev viarule_cni VIA", "the chain VIA of table netdev viarule_cni is missing, or another"},
		{"nft insert rule netdev viarule_cni VIA accept", "the chain VIA of table netdev viarule_cni is missing, or another"},
		{"nft delete table netdev viarule_cni", "the chain VIA of table netdev viarule_cni is missing, or another"},
		{"nft delete table inet viarule_cni", "VIA is not in the map ptp-links"},
		{"nft flush map inet viarule_cni ptp-links", "VIA is not in the map ptp-links"},
		{"nft insert rule inet viarule_cni ptp-masquerade accept", "the chain ptp-masquerade of"},
		{"ip -n pod link set eth0 mtu 1300", "the MTU of eth0 is 1300, not 1400"},
		{"ip -n pod link set eth0 down", "eth0 is down"},
		{"ip -n pod addr del 10.1.0.2/32 dev eth0", "the pod's address 10.1.0.2 is missing"},
		{"ip -n pod addr del 2001:db8:1::2/128 dev eth0", "the pod's address 2001:db8:1::2 is missing"},
		{"ip -n pod route del default", "missing: route default via 169.254.1.1 dev eth0 onlink"},
		{"ip -n pod -6 route del default", "missing: route -6 default via fe80::1 dev eth0"},
		{"ip -n pod neigh del 169.254.1.1 dev eth0", "missing: neighbour 169.254.1.1 "},
		{"ip -n pod neigh del fe80::1 dev eth0", "missing: neighbour fe80::1 "},
		{"ip link del VIA", "the host has no link VIA; the pod has no interface eth0"},
		{"rm -r /var/lib/cni", ""},
	} {
		t.Run(tt.spoil, func(t *testing.T) {
			newPtpHost(t)
			c := ptpCall("c1", netnstest.Named(t, "pod"), podRanges["both"], more)
			out := c.must(t)
			var result struct{ Interfaces []struct{ Name string } }
			if err := json.Unmarshal([]byte(out), &result); err != nil {
				t.Fatal(err)
			}
			via := result.Interfaces[0].Name
			check := c.as("CHECK")
			check.stdin = strings.Replace(c.stdin, `"ipam"`, `"prevResult": `+out+`, "ipam"`, 1)
			check.must(t)
			netnstest.Exec(t, "bash", "-c", strings.ReplaceAll(tt.spoil, "VIA", via))
			_, err := check.run(t)
			if want := strings.ReplaceAll(tt.says, "VIA", via); err == nil {
				t.Error("CHECK sees nothing")
			} else if s := explain(err).Error(); !strings.Contains(s, want) || want != "" && !strings.Contains(s, "code 101: ") {
				t.Errorf("it says %s; want %q", s, want)
			}
			c.as("DEL").must(t)
			ptpLeaves(t)
		})
	}
	newPtpHost(t)
	c := ptpCall("c1", netnstest.Named(t, "pod"), podRanges["both"], more)
	if _, err := c.as("CHECK").run(t); err == nil || !strings.Contains(explain(err).Error(), "code 7: ") {
		t.Errorf("CHECK without a previous result: %v", err)
	}
}

// TestPtpForwardsOnItsOwn: pods are forwarded whatever the host's switch for all links
// says when they come; and a write of 0 to that, which the kernel takes for all links, is
// what CHECK tells of.
func TestPtpForwardsOnItsOwn(t *testing.T) {
	newPtpHost(t)
	const all = "ipv6/conf/all/forwarding"
	if _, err := os.Stat("/proc/sys/net/ipv6/conf/all/force_forwarding"); err != nil {
		t.Skip("this kernel forwards IPv6 by all links or none: it has no force_forwarding")
	}
	b := newPtpPod(t, "b", "1.0.0", ptpConf(podRanges["both"], ""))
	b.serve(t)
	writeSysctl(t, all, "1")
	a := newPtpPod(t, "a", "1.0.0", ptpConf(podRanges["both"], ""))
	for _, p := range []*ptpPod{a, b} {
		if got := sysctlOf(t, "ipv6/conf/"+p.host+"/force_forwarding"); got != "1" {
			t.Errorf("force_forwarding of the pod %s is %s", p.name, got)
		}
		if err := p.check(); err != nil {
			t.Errorf("CHECK of %s: %v", p.name, explain(err))
		}
	}
	if got := sysctlOf(t, all); got != "1" {
		t.Errorf("%s became %s", all, got)
	}
	for _, to := range b.addrs {
		leaves(t, "a", "", to, goesBy("b", a.same(t, to)))
	}
	writeSysctl(t, all, "0")
	if err := a.check(); err == nil || !strings.Contains(explain(err).Error(), a.host+"/force_forwarding is not 1") {
		t.Errorf("CHECK does not see that the host forwards no more: %v", err)
	}
	a.del(t)
	b.del(t)
	ptpLeaves(t)
}

// TestPtpStatus: whether an ADD could work.
func TestPtpStatus(t *testing.T) {
	newPtpHost(t)
	status := ptpCall("c1", netnstest.Named(t, "pod"), `[{"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.2", "rangeEnd": "10.1.0.2"}]`, "")
	add := status
	status.command, status.container, status.netns, status.ifname = "STATUS", "", "", ""
	status.must(t)
	wrong := status
	wrong.stdin = strings.Replace(status.stdin, `"host-local"`, `"nowhere"`, 1)
	if _, err := wrong.run(t); err == nil || !strings.Contains(explain(err).Error(), "code 7: ") {
		t.Errorf("without the IPAM plugin: %v", err)
	}
	wrong.stdin = strings.Replace(status.stdin, `"ipam"`, `"mtu": 10, "ipam"`, 1)
	if _, err := wrong.run(t); err == nil || !strings.Contains(explain(err).Error(), "code 7: ") {
		t.Errorf("with a configuration that no ADD takes: %v", err)
	}
	cmd := status.exec()
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := cmd.Output(); err == nil || !strings.Contains(string(out), `"code": 50`) {
		t.Errorf("without privileges: %v\n%s", err, out)
	}
	add.must(t)
	add.as("DEL").must(t)
}

// TestPtpErrors: bad configurations have the specification's code and name their key.
func TestPtpErrors(t *testing.T) {
	newPtpHost(t)
	c := ptpCall("c1", netnstest.Named(t, "pod"), podRanges["both"], `, "logFile": "ptp.log", "logLevel": "debug"`)
	for _, tt := range []struct {
		from, to string
		code     int
		says     string
	}{
		{`"cniVersion": "1.1.0"`, `"cniVersion": "0.2.0"`, 1, "incompatible CNI versions"},
		{`"cniVersion": "1.1.0"`, `"cniVersion": "9.0.0"`, 1, "incompatible CNI versions"},
		{`"name": "pods"`, `"name": "../x"`, 7, "network name"},
		{`"name": "pods", `, ``, 7, "missing network name"},
		{`{"cniVersion"`, `[{"cniVersion"`, 6, "unmarshall"},
		{`"ipam"`, `"mtu": "big", "ipam"`, 6, "mtu: "},
		{`"ipam"`, `"mtu": 10, "ipam"`, 7, "mtu: "},
		{`"ipam"`, `"dns": {"nameservers": ["x"]}, "ipam"`, 7, "dns.nameservers[0]: "},
		{`"logFile": "ptp.log"`, `"logFile": "../../etc/passwd"`, 7, "logFile: "},
		{`"logLevel": "debug"`, `"logLevel": "loud"`, 7, "logLevel: "},
		{`"type": "host-local", `, ``, 7, "ipam.type: "},
		{`"subnet": "10.1.0.0/24"`, `"subnet": "10.1.0.0/99"`, -1, "ipam"},
		{`"ipam"`, `"ipan"`, 7, "ipan: "},
	} {
		bad := c
		if bad.stdin = strings.Replace(c.stdin, tt.from, tt.to, 1); bad.stdin == c.stdin {
			t.Fatalf("%s is not in %s", tt.from, c.stdin)
		}
		_, err := bad.run(t)
		if err == nil {
			t.Errorf("%s is taken", tt.to)
			continue
		}
		if s := explain(err).Error(); !strings.Contains(s, tt.says) || tt.code > 0 && !strings.Contains(s, fmt.Sprintf("code %d: ", tt.code)) {
			t.Errorf("%s: it says %s; want code %d, %q", tt.to, s, tt.code, tt.says)
		}
		ptpLeaves(t)
	}
	long := c
	long.container = strings.Repeat("c", 250)
	if _, err := long.run(t); err == nil || !strings.Contains(explain(err).Error(), "code 4: ") {
		t.Errorf("a name that fits no alias: %v", err)
	}
	c.must(t)
	c.as("DEL").must(t)
	// The network is named in any case, also where DEL has nothing else that is right.
	c.must(t)
	del := c.as("DEL")
	del.stdin = strings.Replace(c.stdin, `"logLevel": "debug"`, `"logLevel": "loud", "mtu": [], "dns": 7`, 1)
	del.must(t)
	ptpLeaves(t)
	log, err := os.ReadFile("/var/log/viarule/ptp.log")
	must(t, err)
	last := ""
	for line := range strings.Lines(string(log)) {
		if !json.Valid([]byte(line)) {
			t.Errorf("no JSON in the log: %s", line)
		}
		if strings.Contains(line, `"command":"ADD"`) {
			last = line
		}
	}
	for _, want := range []string{`"level":"info"`, `"network":"pods"`, `"container":"c1"`, `"interface":"eth0"`, "ip addr add 10.1.0.", "ip route add route -6 2001:db8:1::"} {
		if !strings.Contains(last, want) {
			t.Errorf("the log has no %s: %s", want, last)
		}
	}
}
