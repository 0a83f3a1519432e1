package explain_test

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"github.com/viarule/viarule/internal/explain"
	"github.com/viarule/viarule/internal/fib"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/sim"
	"github.com/viarule/viarule/internal/snapshot"
	"github.com/viarule/viarule/internal/spec"
)

// world is a node with two uplinks. 1.2.3.0/24 is a network with its own gateway,
// and %RULES% may make its answers leave by it.
const world = `link 1 lo up carrier loopback mtu 65536
link 2 eth0 kind veth up carrier mtu 1500
link 3 eth1 kind veth up carrier mtu 1400
link 4 br0 kind bridge up carrier mtu 1500
link 5 port kind veth up carrier mtu 1500 master br0
link 6 off kind veth mtu 1500
addr 192.168.1.2/24 dev eth0
addr 1.2.3.2/24 dev eth1
addr 2001:db8:a::2/64 dev eth0
addr 2001:db8:1::2/64 dev eth1
rule 0 from all table 255
rule 2200 from 1.2.3.0/24 table 5000 proto 118
rule 2300 from all ipproto tcp dport 25 prohibit
rule 32766 from all table 254
rule 32767 from all table 253
rule -6 0 from all table 255
rule -6 2200 from 2001:db8:1::/64 table 5000 proto 118
rule -6 32766 from all table 254
route local 192.168.1.2 dev eth0 table 255 scope host src 192.168.1.2
route local 1.2.3.2 dev eth1 table 255 scope host src 1.2.3.2
route default via 192.168.1.1 dev eth0 table 254
route 192.168.1.0/24 dev eth0 table 254 scope link src 192.168.1.2
route 1.2.3.0/24 dev eth1 table 254 scope link src 1.2.3.2
route 10.9.0.0/16 table 254 nexthop via 192.168.1.8 dev eth0 weight 1 nexthop via 192.168.1.9 dev eth0 weight 1
route blackhole 10.66.0.0/16 table 254
route default via 1.2.3.1 dev eth1 table 5000 proto 118
route -6 local 2001:db8:a::2 dev eth0 table 255
route -6 local 2001:db8:1::2 dev eth1 table 255
route -6 default via 2001:db8:a::1 dev eth0 table 254 metric 1024
route -6 default via 2001:db8:1::1 dev eth1 table 5000 metric 1024 proto 118
`

func explainer(t *testing.T, change func(*snapshot.Snapshot)) *explain.Explainer {
	t.Helper()
	state, err := netstate.ParseState(world)
	if err != nil {
		t.Fatal(err)
	}
	s := &snapshot.Snapshot{State: state, Tables: map[uint32]string{5000: "public"}}
	for _, l := range []string{"all", "default", "lo", "eth0", "eth1", "br0", "port", "off"} {
		for _, k := range []string{"rp_filter", "accept_local", "src_valid_mark", "route_localnet", "send_redirects"} {
			s.Sysctls = append(s.Sysctls, netstate.Sysctl{Key: "net/ipv4/conf/" + l + "/" + k, Value: "0"})
		}
		s.Sysctls = append(s.Sysctls, netstate.Sysctl{Key: "net/ipv4/conf/" + l + "/forwarding", Value: "1"},
			netstate.Sysctl{Key: "net/ipv6/conf/" + l + "/forwarding", Value: "1"}, netstate.Sysctl{Key: "net/ipv6/conf/" + l + "/disable_ipv6", Value: "0"})
	}
	o := snapshot.Owner{Ref: spec.Ref{Kind: "RoutingPolicy", Name: "public"}, File: "network.yaml", Line: 7}
	for _, r := range state.Rules {
		if r.Priority == 2200 {
			o.Rules = append(o.Rules, r)
		}
	}
	s.Owners = []snapshot.Owner{o}
	if change != nil {
		change(s)
	}
	return explain.New(s)
}

func set(s *snapshot.Snapshot, key, value string) {
	for i := range s.Sysctls {
		if s.Sysctls[i].Key == key {
			s.Sysctls[i].Value = value
			return
		}
	}
	s.Sysctls = append(s.Sysctls, netstate.Sysctl{Key: key, Value: value})
}

func packet(from, to, iif string) sim.Packet {
	p := sim.Packet{Flow: fib.Flow{To: netip.MustParseAddr(to), IIF: iif}}
	if from != "" {
		p.From = netip.MustParseAddr(from)
	}
	return p
}

func TestSummary(t *testing.T) {
	strict := func(s *snapshot.Snapshot) { set(s, "net/ipv4/conf/all/rp_filter", "1") }
	for _, c := range []struct {
		name    string
		change  func(*snapshot.Snapshot)
		packet  sim.Packet
		summary string // begins so
		cure    string // is somewhere in it
	}{
		{"delivered", nil, packet("203.0.113.9", "1.2.3.2", "eth1"), "delivered to this host (rule 0, table local)", ""},
		{"sent by main", nil, packet("", "8.8.8.8", ""), "sent by eth0 via 192.168.1.1 from 192.168.1.2 (rule 32766, table main)", ""},
		{"sent by an object", nil, packet("1.2.3.2", "8.8.8.8", ""), "sent by eth1 via 1.2.3.1 from 1.2.3.2 (rule 2200, table public, wanted by RoutingPolicy/public, network.yaml:7)", ""},
		{"sent by an object, IPv6", nil, packet("2001:db8:1::2", "2001:db8:9::9", ""), "sent by eth1 via 2001:db8:1::1 from 2001:db8:1::2 (rule 2200, table public, wanted by RoutingPolicy/public, network.yaml:7)", ""},
		{"forwarded", nil, packet("203.0.113.9", "10.1.1.1", "eth1"), "forwarded by eth0 via 192.168.1.1 (rule 32766, table main)", ""},
		{"forwarded, IPv6", nil, packet("2001:db8:9::9", "2001:db8:8::8", "eth1"), "forwarded by eth0 via 2001:db8:a::1 (rule 32766, table main)", ""},
		{"several ways", nil, packet("", "10.9.1.1", ""), "sent by one of these, as the hash of the flow picks: eth0 via 192.168.1.8, eth0 via 192.168.1.9 (rule 32766, table main)", ""},
		{"blackhole", nil, packet("", "10.66.1.1", ""), "dropped: the route 10.66.0.0/16 in table main says blackhole (rule 32766, table main)", ""},
		{"a rule", nil, func() sim.Packet { p := packet("", "8.8.8.8", ""); p.Proto, p.DPort = 6, 25; return p }(), "dropped: rule 2300 says prohibit (rule 2300)", ""},
		{"strict", strict, packet("203.0.113.9", "192.168.1.2", "eth1"),
			"dropped: rp_filter on eth1 (strict: 1, effective from `all`) drops it: an answer to 203.0.113.9 would leave by eth0 (rule 32766, table main, in the check of the source)", "reversePathFilter: Loose"},
		{"loose", func(s *snapshot.Snapshot) { set(s, "net/ipv4/conf/eth1/rp_filter", "2") }, packet("203.0.113.9", "192.168.1.2", "eth1"), "delivered to this host (rule 0, table local)", ""},
		{"no forwarding", func(s *snapshot.Snapshot) { set(s, "net/ipv4/conf/eth1/forwarding", "0") }, packet("203.0.113.9", "10.1.1.1", "eth1"), "dropped: 10.1.1.1 is not an address of this host", "ip_forward=1"},
		{"no forwarding, IPv6", func(s *snapshot.Snapshot) { set(s, "net/ipv6/conf/all/forwarding", "0") }, packet("2001:db8:9::9", "2001:db8:8::8", "eth1"), "dropped: 2001:db8:8::8 is not an address of this host", "net.ipv6.conf.all.forwarding=1"},
		{"no forwarding, IPv6, by a link", func(s *snapshot.Snapshot) {
			set(s, "net/ipv6/conf/all/forwarding", "0")
			s.Sysctls = append(s.Sysctls, netstate.Sysctl{Key: "net/ipv6/conf/eth1/force_forwarding", Value: "0"})
		}, packet("2001:db8:9::9", "2001:db8:8::8", "eth1"), "dropped: 2001:db8:8::8 is not an address of this host", "net.ipv6.conf.all.forwarding=1 (all links), or net/ipv6/conf/eth1/force_forwarding=1 (this one)"},
		{"forwarded by the link alone", func(s *snapshot.Snapshot) {
			set(s, "net/ipv6/conf/all/forwarding", "0")
			s.Sysctls = append(s.Sysctls, netstate.Sysctl{Key: "net/ipv6/conf/eth1/force_forwarding", Value: "1"})
		}, packet("2001:db8:9::9", "2001:db8:8::8", "eth1"), "forwarded by eth0 via 2001:db8:a::1 (rule 32766, table main)", ""},
		{"own source", nil, packet("192.168.1.2", "10.1.1.1", "eth1"), "dropped: its source 192.168.1.2 is an address of this host", "accept_local"},
		{"martian", nil, packet("127.0.0.1", "1.2.3.2", "eth1"), "dropped: 127.0.0.1 must not be the source of a packet that comes in by eth1", ""},
		{"down", nil, packet("203.0.113.9", "1.2.3.2", "off"), "dropped: off is down", "ip link set off up"},
		{"disabled", func(s *snapshot.Snapshot) { set(s, "net/ipv6/conf/eth1/disable_ipv6", "1") }, packet("2001:db8:9::9", "2001:db8:8::8", "eth1"), "dropped: eth1 takes no IPv6", "disable_ipv6=0"},
		{"multicast", nil, packet("203.0.113.9", "224.0.0.5", "eth1"), "unknown: 224.0.0.5 is a multicast address", ""},
		{"XDP", func(s *snapshot.Snapshot) {
			s.Opaque = []netstate.Opaque{{Kind: netstate.OpaqueXDP, Dev: "eth1", Name: "program 7 filter"}}
		}, packet("203.0.113.9", "1.2.3.2", "eth1"), "unknown: xdp program 7 filter takes packets of eth1 before IP; if it is let pass as it is: delivered", ""},
		{"tc on the way out", func(s *snapshot.Snapshot) {
			s.Opaque = []netstate.Opaque{{Kind: netstate.OpaqueTC, Dev: "eth0", Name: "egress filter"}}
		}, packet("", "8.8.8.8", ""), "unknown: tc egress filter sees packets of eth0; if it is let pass as it is: sent by eth0", ""},
		{"IPsec", func(s *snapshot.Snapshot) {
			s.Opaque = []netstate.Opaque{{Kind: netstate.OpaqueXFRM, Name: "3 policies"}}
		}, packet("", "8.8.8.8", ""), "unknown: xfrm 3 policies", ""},
		{"ARP says nothing of it", func(s *snapshot.Snapshot) { set(s, "net/ipv4/conf/all/arp_ignore", "1") }, packet("203.0.113.9", "192.168.1.2", "eth1"), "delivered to this host", ""},
		{"a flowtable", func(s *snapshot.Snapshot) {
			s.Opaque = []netstate.Opaque{{Kind: netstate.OpaqueFlowtable, Dev: "eth1", Name: "inet filter fast"}}
		}, packet("203.0.113.9", "10.1.1.1", "eth1"), "unknown: flowtable inet filter fast", ""},
		{"bridge netfilter", func(s *snapshot.Snapshot) {
			s.Opaque = []netstate.Opaque{{Kind: netstate.OpaqueBridgeNF, Name: "bridge-nf-call-iptables"}}
		}, packet("203.0.113.9", "192.168.1.2", "port"), "unknown: bridge-nf bridge-nf-call-iptables", ""},
		{"bridge netfilter elsewhere", func(s *snapshot.Snapshot) {
			s.Opaque = []netstate.Opaque{{Kind: netstate.OpaqueBridgeNF, Name: "bridge-nf-call-iptables"}}
		}, packet("203.0.113.9", "192.168.1.2", "eth0"), "delivered", ""},
		{"not readable", func(s *snapshot.Snapshot) {
			s.Opaque = []netstate.Opaque{{Kind: netstate.OpaqueXDP, Unread: true, Name: "operation not permitted"}}
		}, packet("203.0.113.9", "192.168.1.2", "eth0"), "unknown: xdp cannot be read: operation not permitted", ""},
		{"an attribute that is not known", func(s *snapshot.Snapshot) { s.State.Rules[1].Unknown = "\x08\x00\xe7\x03\x01\x00\x00\x00" },
			packet("1.2.3.2", "8.8.8.8", ""), "unknown: rule 2200 uses attribute 999", ""},
		{"a sysctl that is not known", func(s *snapshot.Snapshot) { s.Sysctls = nil }, packet("203.0.113.9", "192.168.1.2", "eth0"), "unknown: the sysctl net/ipv4/conf/", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, err := explainer(t, c.change).Explain(c.packet, explain.Options{Steps: true})
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(a.Summary, c.summary) {
				t.Errorf("says %q\nwant %q", a.Summary, c.summary)
			}
			if c.cure == "" && a.Cure != "" && !strings.Contains(c.name, "rule") && a.Verdict != "dropped" || !strings.Contains(a.Cure, c.cure) {
				t.Errorf("the cure is %q, want %q", a.Cure, c.cure)
			}
			quick, err := explainer(t, c.change).Explain(c.packet, explain.Options{})
			if err != nil || quick.Summary != a.Summary {
				t.Errorf("without steps it says %q (%v)", quick.Summary, err)
			}
		})
	}
}

func TestReply(t *testing.T) {
	e := explainer(t, nil)
	for _, c := range []struct {
		name, from, to, iif string
		summary             string // of the answer: holds this
	}{
		{"by the network's gateway", "203.0.113.9", "1.2.3.2", "eth1", "sent by eth1 via 1.2.3.1 from 1.2.3.2 (rule 2200"},
		{"IPv6", "2001:db8:9::9", "2001:db8:1::2", "eth1", "sent by eth1 via 2001:db8:1::1"},
		{"astray", "203.0.113.9", "192.168.1.2", "eth1", "not the way by which the packet came in (eth1)"},
		{"of somebody else", "", "8.8.8.8", "", "delivered to this host"},
		{"none", "203.0.113.9", "10.66.1.1", "eth1", "there is no answer: the packet does not arrive"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, err := e.Explain(packet(c.from, c.to, c.iif), explain.Options{Reply: true})
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(a.Reply.Summary, c.summary) {
				t.Errorf("says %q, want %q", a.Reply.Summary, c.summary)
			}
		})
	}
}

func TestQuestions(t *testing.T) {
	e := explainer(t, nil)
	for _, c := range []struct{ line, err string }{
		{`{"to":"8.8.8.8"}`, ""},
		{`{"from":"1.2.3.2","to":"8.8.8.8","ipproto":"tcp","dport":80,"sport":"1024","fwmark":"0x10","uid":1000,"tos":16,"oif":null}`, ""},
		{`{"to":"2001:db8::1","ipproto":58,"icmptype":128}`, ""},
		{`{}`, "to: no destination"},
		{`{"to":"8.8.8"}`, `to: "8.8.8" is not an address`},
		{`{"to":"8.8.8.8","from":"::1"}`, "two families"},
		{`{"to":"8.8.8.8","dport":70000,"ipproto":"tcp"}`, "not a number from 0 to 65535"},
		{`{"to":"8.8.8.8","dport":80}`, "which ipproto"},
		{`{"to":"8.8.8.8","icmptype":8}`, "which ipproto"},
		{`{"to":"8.8.8.8","iif":"eth1"}`, "say --from"},
		{`{"to":"8.8.8.8","from":"9.9.9.9","iif":"eth7"}`, "there is no link eth7 here: there are lo, eth0"},
		{`{"to":"8.8.8.8","from":"9.9.9.9","iif":"lo"}`, "made here"},
		{`{"to":"8.8.8.8","from":"9.9.9.9","iif":"eth1","oif":"eth0"}`, "leave out --iif or --oif"},
		{`{"to":"8.8.8.8","dst":1}`, "unknown field"},
		{`{"to":["8.8.8.8"]}`, "neither a string nor a number"},
		{`{"to":"8.8.8.8"} {}`, "one a line: invalid character '{' after top-level value"},
		{`["8.8.8.8"]`, "it is a list"},
		{`nonsense`, "not a packet in JSON"},
	} {
		err := func() error {
			q, err := explain.ParseQuestion([]byte(c.line))
			if err != nil {
				return err
			}
			p, err := q.Packet()
			if err != nil {
				return err
			}
			_, err = e.Explain(p, explain.Options{})
			return err
		}()
		if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%s: %v, want %q", c.line, err, c.err)
		}
	}
}

// The keys that design.md promises are there, with numbers as numbers.
func TestJSON(t *testing.T) {
	e := explainer(t, nil)
	a, err := e.Explain(packet("1.2.3.2", "8.8.8.8", ""), explain.Options{Steps: true})
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"verdict": "sent", "table": "public", "rule": 2200.0, "oif": "eth1", "via": "1.2.3.1", "source": "1.2.3.2", "fwmark": 0.0, "mtu": 1400.0}
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s = %v, want %v", k, got[k], v)
		}
	}
	steps, _ := got["steps"].([]any)
	if len(steps) == 0 {
		t.Fatal("no steps")
	}
	for _, s := range steps {
		for _, k := range []string{"hook", "kind", "object", "result"} {
			if s.(map[string]any)[k] == "" {
				t.Errorf("a step without %s: %v", k, s)
			}
		}
	}
}

func FuzzQuestion(f *testing.F) {
	f.Add([]byte(`{"to":"8.8.8.8","from":"1.2.3.2","ipproto":"tcp","dport":80,"iif":"eth1"}`))
	f.Add([]byte(`{"to":"fe80::1%eth0","from":"::ffff:1.2.3.4"}`))
	e := explainer(&testing.T{}, nil)
	f.Fuzz(func(t *testing.T, line []byte) {
		q, err := explain.ParseQuestion(line)
		if err != nil {
			return
		}
		if p, err := q.Packet(); err == nil {
			_, _ = e.Explain(p, explain.Options{Steps: true, Reply: true})
		}
	})
}

func TestNotes(t *testing.T) {
	ignore := func(v string) func(*snapshot.Snapshot) {
		return func(s *snapshot.Snapshot) { set(s, "net/ipv4/conf/eth1/arp_ignore", v) }
	}
	for _, c := range []struct {
		value, to string
		want      bool
	}{{"0", "192.168.1.2", false}, {"1", "192.168.1.2", true}, {"1", "1.2.3.2", false}, {"2", "192.168.1.2", true}, {"8", "1.2.3.2", true}} {
		a, err := explainer(t, ignore(c.value)).Explain(packet("203.0.113.9", c.to, "eth1"), explain.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if got := len(a.Notes) == 1 && strings.Contains(a.Notes[0], "arp_ignore is "+c.value); got != c.want {
			t.Errorf("arp_ignore %s, %s: notes %q", c.value, c.to, a.Notes)
		}
	}
}

func TestTextOfHostileNames(t *testing.T) {
	e := explainer(t, func(s *snapshot.Snapshot) {
		s.Tables[5000] = "a\x1b[2Jb\n\u202ec"
		s.Owners[0].File = "x\x1b]0;y"
	})
	a, err := e.Explain(packet("1.2.3.2", "8.8.8.8", ""), explain.Options{Steps: true, Reply: true})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := explain.WriteText(&b, a, false); err != nil {
		t.Fatal(err)
	}
	if got := b.String(); strings.ContainsAny(got, "\x1b\u202e") || !strings.Contains(got, `a\x1b[2Jb\n\u202ec`) {
		t.Errorf("%q", got)
	}
}

// TestAttachment: what a CNI plugin made is named with its network and interface; a route
// that somebody else has put in its place is not.
func TestAttachment(t *testing.T) {
	cni := func(change string) func(*snapshot.Snapshot) {
		return func(s *snapshot.Snapshot) {
			o := snapshot.Owner{CNI: &snapshot.Attachment{Network: "sip", Interface: "eth1", Plugin: "viarule-sbr"}}
			for i := range s.State.Rules {
				if r := &s.State.Rules[i]; r.Priority == 2200 && change != "rule" {
					r.Protocol = netstate.ProtocolCNI
					o.Rules = append(o.Rules, *r)
				}
			}
			for i := range s.State.Routes {
				if r := &s.State.Routes[i]; r.Table == 5000 {
					o.Routes = append(o.Routes, r.Key())
					if r.Protocol = netstate.ProtocolCNI; change != "" {
						r.Protocol = 4
					}
				}
			}
			s.Owners = []snapshot.Owner{o}
		}
	}
	for _, from := range []struct{ a, to string }{{"1.2.3.2", "8.8.8.8"}, {"2001:db8:1::2", "2001:db8:9::9"}} {
		for change, want := range map[string]string{"": "CNI network sip, interface eth1 (viarule-sbr)", "route": "CNI network sip, interface eth1 (viarule-sbr)", "rule": ""} {
			a, err := explainer(t, cni(change)).Explain(packet(from.a, from.to, ""), explain.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if a.WantedBy != want || want != "" && !strings.HasSuffix(a.Summary, "(rule 2200, table public, wanted by "+want+")") {
				t.Errorf("from %s, %q by somebody else: wanted by %q: %s", from.a, change, a.WantedBy, a.Summary)
			}
		}
	}
}
