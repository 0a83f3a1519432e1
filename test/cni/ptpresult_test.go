package cni

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/viarule/viarule/internal/netnstest"
)

// TestPtpResult: what the runtime gets, in each version of the specification.
func TestPtpResult(t *testing.T) {
	newPtpHost(t)
	for i, version := range []string{"0.3.1", "0.4.0", "1.0.0", "1.1.0"} {
		c := ptpCall("c1", netnstest.Named(t, fmt.Sprintf("pod%d", i)), `[{"subnet": "10.1.0.0/24"}], [{"subnet": "2001:db8:1::/64", "gateway": "2001:db8:1::9"}]`,
			`, "mtu": 1400, "dns": {"nameservers": ["192.0.2.53", "2001:db8::53"], "domain": "d.example", "search": ["s.example"], "options": ["ndots:2"]}`)
		c.stdin = strings.Replace(strings.Replace(c.stdin, `"1.1.0"`, `"`+version+`"`, 1), `"ranges"`, `"routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0", "gw": "2001:db8:1::9"}], "ranges"`, 1)
		out := c.must(t)
		var r struct {
			CNIVersion string
			Interfaces []struct {
				Name, Mac, Sandbox string
				MTU                int
			}
			IPs []struct {
				Version, Address, Gateway string
				Interface                 *int
			}
			Routes []struct{ Dst, GW string }
			DNS    types.DNS
		}
		must(t, json.Unmarshal([]byte(out), &r))
		if r.CNIVersion != version || len(r.Interfaces) != 2 || len(r.IPs) != 2 || len(r.Routes) != 2 {
			t.Fatalf("%s: %s", version, out)
		}
		mtu, families := 0, [2]string{}
		if version >= "1" { // as the library writes both
			mtu = 1400
		} else {
			families = [2]string{"4", "6"}
		}
		for j, sandbox := range []string{"", c.netns} {
			e := r.Interfaces[j]
			show := []string{"link", "show", e.Name}
			if j == 1 {
				show = append([]string{"-n", fmt.Sprintf("pod%d", i)}, show...)
			}
			link := netnstest.Exec(t, "ip", show...)
			if e.Sandbox != sandbox || e.MTU != mtu || !strings.Contains(link, "link/ether "+e.Mac+" ") || !strings.Contains(link, "mtu 1400 ") {
				t.Errorf("%s: interface %d is %+v, and there is\n%s", version, j, e, link)
			}
		}
		for j, want := range []struct{ address, gateway string }{{fmt.Sprintf("10.1.0.%d/24", i+2), "10.1.0.1"}, {fmt.Sprintf("2001:db8:1::%d/64", i+1), "2001:db8:1::9"}} {
			if ip := r.IPs[j]; ip.Address != want.address || ip.Gateway != want.gateway || ip.Version != families[j] || ip.Interface == nil || *ip.Interface != 1 {
				t.Errorf("%s: ips[%d] is %+v, want %+v", version, j, ip, want)
			}
		}
		want := types.DNS{Nameservers: []string{"192.0.2.53", "2001:db8::53"}, Domain: "d.example", Search: []string{"s.example"}, Options: []string{"ndots:2"}}
		if !reflect.DeepEqual(r.DNS, want) {
			t.Errorf("%s: dns is %+v, want %+v", version, r.DNS, want)
		}
		c.as("DEL").must(t)
	}
	// An IPAM plugin that names no gateway: the pod's own.
	c := ptpCall("c1", netnstest.Named(t, "pod"), "", "")
	c.stdin = `{"cniVersion": "1.0.0", "name": "pods", "ipam": {"type": "static", "addresses": [{"address": "10.1.0.5/24"}, {"address": "2001:db8:1::5/64"}]}}`
	if out := c.must(t); !strings.Contains(out, `"gateway": "169.254.1.1"`) || !strings.Contains(out, `"gateway": "fe80::1"`) {
		t.Errorf("the gateways: %s", out)
	}
	c.as("DEL").must(t)
	ptpLeaves(t)
}
