package doctor_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/viarule/viarule/internal/doctor"
	"github.com/viarule/viarule/internal/explain"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/snapshot"
)

// node has two uplinks: eth0 with the default route, and eth1, whose network has a
// gateway of its own that main does not know.
const node = `link 1 lo up carrier loopback mtu 65536
link 2 eth0 kind veth up carrier mtu 1500
link 3 eth1 kind veth up carrier mtu 1500
link 4 cni0 kind bridge up carrier mtu 1500
link 5 veth1 kind veth up carrier mtu 1500 master cni0
addr 127.0.0.1/8 dev lo scope host
addr 192.168.1.2/24 dev eth0
addr 1.2.3.2/24 dev eth1
addr 10.244.0.1/24 dev cni0
addr 2001:db8:a::2/64 dev eth0
addr 2001:db8:1::2/64 dev eth1
rule 0 from all table 255
rule 32766 from all table 254
rule 32767 from all table 253
rule -6 0 from all table 255
rule -6 32766 from all table 254
route local 192.168.1.2 dev eth0 table 255 scope host src 192.168.1.2
route local 1.2.3.2 dev eth1 table 255 scope host src 1.2.3.2
route local 10.244.0.1 dev cni0 table 255 scope host src 10.244.0.1
route default via 192.168.1.1 dev eth0 table 254
route 192.168.1.0/24 dev eth0 table 254 scope link src 192.168.1.2
route 1.2.3.0/24 dev eth1 table 254 scope link src 1.2.3.2
route 10.244.0.0/24 dev cni0 table 254 scope link src 10.244.0.1
route -6 local 2001:db8:a::2 dev eth0 table 255
route -6 local 2001:db8:1::2 dev eth1 table 255
route -6 default via 2001:db8:a::1 dev eth0 table 254 metric 1024
route -6 2001:db8:1::/64 dev eth1 table 254 metric 256
`

// cured is what answers by eth1 need.
const cured = `rule 2200 from 1.2.3.0/24 table 5000 proto 118
rule -6 2200 from 2001:db8:1::/64 table 5000 proto 118
route default via 1.2.3.1 dev eth1 table 5000 proto 118
route -6 default via 2001:db8:1::1 dev eth1 table 5000 metric 1024 proto 118
`

func input(t *testing.T, more string, sysctls ...string) doctor.Input {
	t.Helper()
	state, err := netstate.ParseState(node + more)
	if err != nil {
		t.Fatal(err)
	}
	s := &snapshot.Snapshot{State: state, Tables: map[uint32]string{5000: "public"}}
	values := map[string]string{}
	for _, l := range []string{"all", "default", "lo", "eth0", "eth1", "cni0", "veth1"} {
		for _, k := range []string{"rp_filter", "accept_local", "src_valid_mark", "route_localnet", "send_redirects"} {
			values["net/ipv4/conf/"+l+"/"+k] = "0"
		}
		values["net/ipv4/conf/"+l+"/forwarding"], values["net/ipv6/conf/"+l+"/forwarding"], values["net/ipv6/conf/"+l+"/disable_ipv6"] = "1", "1", "0"
	}
	for _, kv := range sysctls {
		k, v, _ := strings.Cut(kv, "=")
		values[k] = v
	}
	for k, v := range values {
		s.Sysctls = append(s.Sysctls, netstate.Sysctl{Key: k, Value: v})
	}
	slices.SortFunc(s.Sysctls, func(a, b netstate.Sysctl) int { return strings.Compare(a.Key, b.Key) })
	return doctor.Input{Snapshot: s}
}

func lines(found []doctor.Finding) string {
	var b strings.Builder
	for _, f := range found {
		fmt.Fprintf(&b, "%s %s: %s\n", f.Severity, f.Kind, f.What)
	}
	return b.String()
}

func TestExamine(t *testing.T) {
	noForward := []string{}
	for _, l := range []string{"all", "default", "lo", "eth0", "eth1", "cni0", "veth1"} {
		noForward = append(noForward, "net/ipv4/conf/"+l+"/forwarding=0", "net/ipv6/conf/"+l+"/forwarding=0")
	}
	for _, c := range []struct {
		name    string
		more    string
		sysctls []string
		edit    func(*doctor.Input)
		want    []string // each begins a line; nothing else is found
	}{
		{"a broken node", "", nil, nil, []string{
			"warning reply-astray: answers of 1.2.3.2 to what came from far away by eth1 leave by eth0",
			"warning reply-astray: answers of 2001:db8:1::2 to what came from far away by eth1 leave by eth0"}},
		{"a broken node whose gateway is known", "route 10.7.0.0/16 via 1.2.3.1 dev eth1 table 254\n", nil, nil, []string{
			"problem reply-astray: answers of 1.2.3.2", "warning reply-astray: answers of 2001:db8:1::2"}},
		{"a strict filter", "", []string{"net/ipv4/conf/all/rp_filter=1"}, nil, []string{
			"warning rp_filter: what comes from far away for 1.2.3.2 by eth1 is dropped: rp_filter on eth1 (strict: 1, effective from `all`)",
			"warning reply-astray: answers of 2001:db8:1::2"}},
		{"mended", cured, []string{"net/ipv4/conf/all/rp_filter=1"}, nil, []string{}},
		{"the strict filter does not see the mark", cured + "rule 100 from all fwmark 0x1/0x1 table 5000\n", []string{"net/ipv4/conf/eth1/rp_filter=1"}, nil, []string{
			"warning src_valid_mark: the strict filter of eth1 does not see marks"}},
		{"it sees it", cured + "rule 100 from all fwmark 0x1/0x1 table 5000\n", []string{"net/ipv4/conf/eth1/rp_filter=1", "net/ipv4/conf/all/src_valid_mark=1"}, nil, []string{}},
		{"a link that is not there", cured + "rule 300 from all iif eth9 table 254\nrule -6 300 from all oif eth9 table 254\n", nil, nil, []string{
			"warning rule-never-matches: rule 300 from all iif eth9 table main never decides: there is no link eth9",
			"warning rule-never-matches: rule -6 300 from all oif eth9 table main never decides: there is no link eth9"}},
		{"a goto to nowhere", cured + "rule 300 from all goto 301\n", nil, nil, []string{"warning rule-never-matches: rule 300 from all goto 301 never decides: it goes to 301"}},
		{"behind one that decides all", cured + "rule 300 from all table 5000\nrule 3000 from 10.0.0.0/8 table 254\n", nil, nil, []string{
			"problem reply-astray: answers of 192.168.1.2", "warning rule-never-matches: rule 2200 from 1.2.3.0/24", "warning rule-never-matches: rule 3000 from 10.0.0.0/8 table main never decides: every packet"}},
		{"the same selectors twice", cured + "rule 3000 from 1.2.3.0/24 table 254\nrule -6 3000 from 2001:db8:1::/64 table 254\n", nil, nil, []string{
			"warning rule-never-matches: rule 3000 from 1.2.3.0/24 table main never decides: the same packets are decided before, by rule 2200",
			"warning rule-never-matches: rule -6 3000 from 2001:db8:1::/64"}},
		{"nobody's source", cured + "rule 300 from 10.99.0.0/16 table 254\n", noForward, nil, []string{
			"warning rule-never-matches: rule 300 from 10.99.0.0/16 table main never decides: no address of 10.99.0.0/16"}},
		{"IPv6 of others, forwarded by one link alone", cured + "rule -6 300 from 2001:db8:99::/48 table 254\n", append(slices.Clone(noForward), "net/ipv6/conf/eth0/force_forwarding=1"), nil, []string{}},
		{"IPv6 of others, which no link forwards", cured + "rule -6 300 from 2001:db8:99::/48 table 254\n", append(slices.Clone(noForward), "net/ipv6/conf/eth0/force_forwarding=0"), nil, []string{"warning rule-never-matches: rule -6 300 from 2001:db8:99::/48"}},
		{"nobody's source, but it forwards", cured + "rule 300 from 10.99.0.0/16 table 254\n", nil, nil, []string{}},
		{"an empty table", cured + "rule 300 from 10.99.0.0/16 table 77\nrule -6 300 from 2001:db8:99::/48 table 77\n", nil, nil, []string{
			"warning empty-table: table 77 has no IPv4 route: rule 300", "warning empty-table: table 77 has no IPv6 route: rule -6 300"}},
		{"a table that lets through", cured + "rule 300 from 10.99.0.0/16 table 77\nroute 10.5.0.0/16 dev eth1 table 77\n", nil, nil, []string{
			"note falls-through: table 77 has no default route"}},
		{"Tailscale's priority", cured + "rule 5210 from all fwmark 0x80000/0xff0000 table 254\nrule 5230 from all fwmark 0x80000/0xff0000 table 253\nrule 5250 from all fwmark 0x80000/0xff0000 unreachable\nrule 5270 from all table 52\nrule 5230 from 10.99.0.0/16 table 254\n", nil, nil, []string{
			"warning empty-table: table 52", "warning leftover: rule 5270", "warning collision: rule 5230 from 10.99.0.0/16 table main stands at a priority that Tailscale uses"}},
		{"a service's address that a rule knows", cured + "rule 300 from 1.2.3.77 table 254\nrule -6 300 from 2001:db8:1::77 table 254\n", nil, nil, []string{
			"problem reply-astray: answers of 1.2.3.77 to what came from far away by eth1 leave by eth0", "problem reply-astray: answers of 2001:db8:1::77"}},
		{"networkd", cured, nil, func(in *doctor.Input) { in.Networkd = &doctor.Networkd{ForeignRules: true} }, []string{"warning networkd: systemd-networkd runs here"}},
		{"networkd that keeps", cured, nil, func(in *doctor.Input) { in.Networkd = &doctor.Networkd{} }, []string{}},
		{"a service's address", "", nil, func(in *doctor.Input) {
			in.Addresses = []netip.Addr{netip.MustParseAddr("1.2.3.77"), netip.MustParseAddr("2001:db8:1::77")}
		}, []string{
			"problem reply-astray: answers of 1.2.3.77 to what came from far away by eth1 leave by eth0", "problem reply-astray: answers of 2001:db8:1::77"}},
		{"a service's address, mended", cured, nil, func(in *doctor.Input) { in.Addresses = []netip.Addr{netip.MustParseAddr("1.2.3.77")} }, []string{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := input(t, c.more, c.sysctls...)
			if c.edit != nil {
				c.edit(&in)
			}
			found := doctor.Examine(in)
			left := slices.Clone(found)
			for _, want := range c.want {
				i := slices.IndexFunc(left, func(f doctor.Finding) bool {
					return strings.HasPrefix(fmt.Sprintf("%s %s: %s", f.Severity, f.Kind, f.What), want)
				})
				if i < 0 {
					t.Errorf("not found: %s", want)
					continue
				}
				left = slices.Delete(left, i, i+1)
			}
			if len(left) > 0 {
				t.Errorf("found as well:\n%s", lines(left))
			}
			for _, f := range found {
				if f.Cure == "" || f.Proof == "" {
					t.Errorf("no cure or no proof of %s: %q, %q", f.What, f.Cure, f.Proof)
				}
				if question, ok := strings.CutPrefix(f.Proof, "viarule explain "); ok {
					ask(t, in.Snapshot, question)
				}
			}
		})
	}
}

// ask asks the question of a proof, which must make sense.
func ask(t *testing.T, s *snapshot.Snapshot, flags string) {
	t.Helper()
	var q explain.Question
	words := strings.Fields(strings.TrimSuffix(flags, "--reply"))
	for i := 0; i+1 < len(words); i += 2 {
		into := map[string]*string{
			"--from": (*string)(&q.From), "--to": (*string)(&q.To), "--iif": (*string)(&q.IIF), "--oif": (*string)(&q.OIF), "--fwmark": (*string)(&q.FwMark),
			"--ipproto": (*string)(&q.IPProto), "--sport": (*string)(&q.SPort), "--dport": (*string)(&q.DPort), "--uid": (*string)(&q.UID),
		}[words[i]]
		if into == nil {
			t.Fatalf("%s: no such flag", words[i])
		}
		*into = words[i+1]
	}
	p, err := q.Packet()
	if err == nil {
		_, err = explain.New(s).Explain(p, explain.Options{Reply: true})
	}
	if err != nil {
		t.Errorf("explain %s: %v", flags, err)
	}
}

func TestProof(t *testing.T) {
	in := input(t, "")
	in.Netns = "node"
	found := doctor.Examine(in)
	if want := "viarule explain --netns node --from 9.9.9.9 --to 1.2.3.2 --ipproto tcp --dport 443 --iif eth1 --reply"; found[0].Proof != want {
		t.Errorf("proof %q, want %q", found[0].Proof, want)
	}
	if want := "an ExternalNetwork with spec: {interface: {name: eth1}, addresses: [1.2.3.0/24], gateways: [THE-GATEWAY-OF-THAT-NETWORK]}"; found[0].Cure != want {
		t.Errorf("cure %q, want %q", found[0].Cure, want)
	}
}

// Many of one kind are counted, not listed.
func TestManyOfAKind(t *testing.T) {
	var b strings.Builder
	for i := range 500 {
		fmt.Fprintf(&b, "rule %d from 10.%d.%d.0/24 table 77\n", 3000+i, i/200, i%200)
	}
	found := doctor.Examine(input(t, cured+b.String()))
	if len(found) != 21 || !strings.HasPrefix(found[20].What, "and 480 more") {
		t.Errorf("found:\n%s", lines(found))
	}
}
