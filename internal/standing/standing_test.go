package standing_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/netstate/netstatetest"
	"github.com/viarule/viarule/internal/record"
	"github.com/viarule/viarule/internal/standing"
)

// made is what an attachment of each family made.
const made = `
+ route 10.1.0.0/24 dev net1 table 5000 proto 119 scope link src 10.1.0.5
+ route default via 10.1.0.1 dev net1 table 5000 proto 119
+ rule 2900 from 10.1.0.5 table 5000 proto 119
- route 10.1.0.0/24 dev net1 table 254 proto 2 scope link
+ route -6 default via 2001:db8:1::1 dev net1 table 5001 proto 119 metric 1024
+ rule -6 2900 from 2001:db8:1::5 table 5001 proto 119
- route -6 2001:db8:1::/64 dev net1 table 254 proto 2 metric 256
~ sysctl net/ipv4/conf/net1/rp_filter = 1`

const stands = `
link 2 net1 up carrier mtu 1500
addr 10.1.0.5/24 dev net1
rule 2900 from 10.1.0.5 table 5000 proto 119
rule 32766 from all table 254 proto 2
rule -6 2900 from 2001:db8:1::5 table 5001 proto 119
route 10.1.0.0/24 dev net1 table 5000 proto 119 scope link src 10.1.0.5
route default via 10.1.0.1 dev net1 table 5000 proto 119
route -6 default via 2001:db8:1::1 dev net1 table 5001 proto 119 metric 1024
`

func attachment(t *testing.T, plugin, steps string) *record.Attachment {
	t.Helper()
	a := &record.Attachment{AttachmentKey: record.AttachmentKey{Plugin: plugin, Network: "n", Container: "c", Interface: "net1"}, Tables: []uint32{5000, 5001}}
	for line := range strings.SplitSeq(strings.TrimSpace(steps), "\n") {
		c, err := netstate.ParseChange(line)
		if err != nil {
			t.Fatal(err)
		}
		a.Steps = append(a.Steps, record.Step{Do: c})
	}
	return a
}

func sysctls(values map[string]string) standing.Sysctl {
	return func(key string) (string, error) {
		if v, ok := values[key]; ok {
			return v, nil
		}
		return "", errors.New(key + " is missing")
	}
}

func TestDiffers(t *testing.T) {
	without := func(line string) string {
		if !strings.Contains(stands, line+"\n") {
			t.Fatalf("nothing stands as %q", line)
		}
		return strings.Replace(stands, line+"\n", "", 1)
	}
	for _, c := range []struct {
		name, plugin, have, all, own string
		want                         string // one a line
	}{
		{name: "all of it"},
		{name: "a rule is missing", have: without("rule 2900 from 10.1.0.5 table 5000 proto 119"), want: "missing: rule 2900 from 10.1.0.5 table 5000 proto 119"},
		{name: "a rule of IPv6 is missing", have: without("rule -6 2900 from 2001:db8:1::5 table 5001 proto 119"), want: "missing: rule -6 2900 from 2001:db8:1::5 table 5001 proto 119"},
		{name: "a rule at another priority is another", have: strings.ReplaceAll(stands, "rule 2900 from", "rule 2901 from"), want: "missing: rule 2900 from 10.1.0.5 table 5000 proto 119"},
		{name: "a route is missing", have: without("route default via 10.1.0.1 dev net1 table 5000 proto 119"), want: "missing: route default via 10.1.0.1 dev net1 table 5000 proto 119"},
		{name: "a route of IPv6 is wrong", have: strings.Replace(stands, "via 2001:db8:1::1", "via 2001:db8:1::2", 1),
			want: "wrong: route -6 default via 2001:db8:1::2 dev net1 table 5001 metric 1024 proto 119, which should be route -6 default via 2001:db8:1::1 dev net1 table 5001 metric 1024 proto 119"},
		{name: "a route of another link is not it", have: strings.Replace(stands, "10.1.0.1 dev net1", "10.1.0.1 dev net2", 1), want: "missing: route default via 10.1.0.1 dev net1 table 5000 proto 119"},
		{name: "a wrong route beside the right one", have: stands + "route default via 10.1.0.9 dev net1 table 5000 proto 4\n"},
		{name: "back in main", have: stands + "route 10.1.0.0/24 dev net1 table 254 proto 2 scope link\n", want: "back in main: route 10.1.0.0/24 dev net1 table 254 proto 2 scope link"},
		{name: "back in main, as the kernel does it for IPv6", have: stands + "route -6 2001:db8:1::/64 dev net1 table 254 proto 2 metric 256\n"},
		{name: "without our mark", have: strings.ReplaceAll(stands, "proto 119", "proto 3"),
			want: "missing: rule 2900\nmissing: rule -6 2900\nwrong: route 10.1.0.0/24\nwrong: route default\nwrong: route -6 default"},
		{name: "without our mark, of the drop-in", plugin: "sbr", have: strings.ReplaceAll(stands, "proto 119", "proto 3")},
		{name: "the interface is gone", have: without("link 2 net1 up carrier mtu 1500"), want: "the interface is missing"},
		{name: "a sysctl", own: "0", want: "net/ipv4/conf/net1/rp_filter is 0, not 1"},
		{name: "loose for all", all: "2", want: "net/ipv4/conf/all/rp_filter is 2, so the reverse path filter is loose"},
	} {
		t.Run(c.name, func(t *testing.T) {
			values := map[string]string{"net/ipv4/conf/net1/rp_filter": "1", "net/ipv4/conf/all/rp_filter": "0"}
			if c.own != "" {
				values["net/ipv4/conf/net1/rp_filter"] = c.own
			}
			if c.all != "" {
				values["net/ipv4/conf/all/rp_filter"] = c.all
			}
			if c.have == "" {
				c.have = stands
			}
			if c.plugin == "" {
				c.plugin = "viarule-sbr"
			}
			have := netstatetest.ParseState(t, c.have)
			got := standing.Differs(attachment(t, c.plugin, made), &have, sysctls(values))
			if (len(got) == 0) != (c.want == "") {
				t.Errorf("got %q, want %q", got, c.want)
			}
			for line := range strings.SplitSeq(c.want, "\n") {
				if !strings.Contains(strings.Join(got, "\n"), line) {
					t.Errorf("got %q, want %q", got, line)
				}
			}
		})
	}
}

func TestDiffersVRF(t *testing.T) {
	const steps = `
+ link 0 red kind vrf up alias viarule:CNI/red vrftable 5000
- addr 2001:db8:1::5/64 dev net1
~ link 0 net1 master red
~ addr 2001:db8:1::5/64 dev net1`
	const good = "link 2 net1 up carrier mtu 1500 master red\nlink 3 red kind vrf up alias viarule:CNI/red vrftable 5000\naddr 2001:db8:1::5/64 dev net1\n"
	for _, c := range []struct{ name, have, want string }{
		{"all of it", good, ""},
		{"no VRF", "link 2 net1 up carrier mtu 1500\naddr 2001:db8:1::5/64 dev net1\n", "the VRF red is missing\nit is not a port of red"},
		{"another table", strings.Replace(good, "vrftable 5000", "vrftable 7", 1), "the VRF red has the table 7, not 5000"},
		{"down", strings.Replace(good, "kind vrf up", "kind vrf", 1), "the VRF red is down"},
		{"no port", strings.Replace(good, " master red", "", 1), "it is not a port of red"},
		{"the address is gone", strings.Replace(good, "addr 2001:db8:1::5", "addr 2001:db8:1::6", 1), "the address 2001:db8:1::5 is missing"},
	} {
		a := attachment(t, "viarule-sbr", steps)
		a.VRF, a.Tables = "red", []uint32{5000}
		have := netstatetest.ParseState(t, c.have)
		if got := strings.Join(standing.Differs(a, &have, sysctls(nil)), "\n"); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

// TestLeave: of two equal rules each of two attachments has one; a route that both have
// stays for the other.
func TestLeave(t *testing.T) {
	for _, f := range []string{"rule 2901 from all fwmark 0x1/0xf table 5000 proto 119\nroute 192.0.2.0/24 via 10.1.0.1 dev net1 table 9 proto 119",
		"rule -6 2901 from all fwmark 0x1/0xf table 5000 proto 119\nroute -6 2001:db8:9::/48 via 2001:db8:1::1 dev net1 table 9 metric 1024 proto 119"} {
		lines := strings.Split(f, "\n")
		a := attachment(t, "viarule-sbr", "+ "+lines[0]+"\n+ "+lines[1])
		have := netstatetest.ParseState(t, "link 2 net1 up\n"+lines[0]+"\n"+lines[0]+"\n"+lines[1])
		rule, route := a.Steps[0].Do.Rule, a.Steps[1].Do.Route
		s := standing.Of(a.Steps, &have)
		if s.Route(route) == nil {
			t.Errorf("%s: does not stand", route)
		}
		s.Leave(a.Steps)
		if !s.TakeRule(rule) || s.TakeRule(rule) {
			t.Errorf("%s: of two one is for another attachment, and one is left", rule)
		}
		if s.Route(route) != nil {
			t.Errorf("%s: it is another attachment's too", route)
		}
	}
}
