package lab

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/viarule/viarule/internal/kernel"
)

// router is a lab of a client, a router r and a server; the text of r's further
// keys and of the checks is filled in.
const router = `
apiVersion: viarule.io/v1alpha1
kind: Lab
metadata: {name: x}
spec:
  hosts:
  - name: c
    routes: [{to: default, via: 192.0.2.1}, {to: default, via: "2001:db8:c::1"}]
  - name: r
    forwarding: true
    ROUTER
  - name: s
    addresses: [10.9.9.9/32, "fd09::9/128"]
    routes: [{to: default, via: 198.51.100.1}, {to: default, via: "2001:db8:5::1"}]
  links:
  - kind: veth
    ends:
    - {host: c, name: e, addresses: [192.0.2.10/24, "2001:db8:c::10/64"], mac: "02:00:00:00:00:0c", mtu: 1400}
    - {host: r, name: c, addresses: [192.0.2.1/24, "2001:db8:c::1/64"]}
  - kind: veth
    ends:
    - {host: s, name: e, addresses: [198.51.100.10/24, "2001:db8:5::10/64"]}
    - {host: r, name: s, addresses: [198.51.100.1/24, "2001:db8:5::1/64"], mac: "02:00:00:00:00:05", mtu: 1400}
  checks:
`

// each writes a check for every protocol and both families; @ stands for the
// server's address, # for the client's, $ for the router's on the server's side.
func each(check string) string {
	var out strings.Builder
	for _, proto := range []string{"tcp, port: 80", "udp, port: 53", "icmp"} {
		for fam, r := range map[string]*strings.Replacer{
			"4": strings.NewReplacer("@", `198.51.100.10`, "#", `192.0.2.10`, "$", `198.51.100.1`),
			"6": strings.NewReplacer("@", `"2001:db8:5::10"`, "#", `"2001:db8:c::10"`, "$", `"2001:db8:5::1"`),
		} {
			out.WriteString("  - {name: " + proto[:3] + fam + ", from: c, to: @, proto: " + proto + ", " + r.Replace(check) + "}\n")
		}
	}
	s := out.String()
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		if strings.Contains(l, "4, from") {
			lines[i] = strings.Replace(l, "to: @", "to: 198.51.100.10", 1)
		} else {
			lines[i] = strings.Replace(l, "to: @", `to: "2001:db8:5::10"`, 1)
		}
	}
	return strings.Join(lines, "\n")
}

func TestTraffic(t *testing.T) {
	for _, c := range []struct {
		name, router, checks string
		fails                string // what each check says then
	}{
		{
			name:   "through a router",
			checks: each("source: #, expect: answer, seenAs: #, enters: e, answerLeaves: {host: r, link: c}"),
		},
		{
			name:   "masqueraded",
			router: "firewall: {masquerade: [s]}",
			checks: each("expect: answer, seenAs: $, enters: e, answerLeaves: e"),
		},
		{
			name:   "a router that prohibits",
			router: `routes: [{to: 198.51.100.10/32, type: Prohibit}, {to: "2001:db8:5::10/128", type: Prohibit}]`,
			checks: each("expect: refused, enters: {host: r, link: c}, timeout: 2s"),
		},
		{
			name:   "a router without a way",
			router: `routes: [{to: 198.51.100.10/32, type: Unreachable}, {to: "2001:db8:5::10/128", type: Unreachable}]`,
			checks: each("expect: refused, enters: {host: r, link: c}, timeout: 2s"),
		},
		{
			name:   "a router that drops",
			router: `routes: [{to: 198.51.100.10/32, type: Blackhole}, {to: "2001:db8:5::10/128", type: Blackhole}]`,
			checks: each("expect: silence, enters: {host: r, link: c}, timeout: 1s"),
		},
		{
			name:   "a rule that drops what comes in by a link",
			router: `rules: [{priority: 7, iif: c, blackhole: true}]`,
			checks: each("expect: silence, enters: {host: r, link: c}, timeout: 1s"),
		},
		{
			name:   "a rule that looks elsewhere",
			router: `{routes: [{to: default, type: Unreachable, table: 99}], rules: [{priority: 7, from: [192.0.2.0/24], table: 99}]}`,
			checks: `  - {name: a, from: c, to: 198.51.100.10, port: 80, expect: refused}
  - {name: b, from: c, to: "2001:db8:5::10", port: 80, expect: answer}`,
		},
		{
			name:   "a firewall that lets nothing begin",
			router: "firewall: {forward: {newFrom: []}}",
			checks: each("expect: silence, enters: {host: r, link: c}, timeout: 1s"),
		},
		{
			name:   "a firewall that lets the server begin",
			router: "firewall: {forward: {newFrom: [s]}}",
			checks: `  - {name: a, from: c, to: 198.51.100.10, port: 80, expect: silence, timeout: 200ms}
  - {name: b, from: s, to: 192.0.2.10, port: 80, expect: answer, seenAs: 198.51.100.10}`,
		},
		{
			name: "destination translated",
			router: `firewall: {dnat: [{in: c, to: 192.0.2.1, proto: tcp, port: 8080, toAddress: 10.9.9.9, toPort: 80},
      {to: "2001:db8:c::1", proto: udp, port: 53, toAddress: "fd09::9"}, {to: 192.0.2.77, toAddress: 10.9.9.9}]}
    addresses: [192.0.2.77/32]
    routes: [{to: 10.9.9.9/32, via: 198.51.100.10}, {to: "fd09::9/128", via: "2001:db8:5::10"}]`,
			checks: `  - {name: a, from: c, to: 192.0.2.1, port: 8080, server: {host: s, address: 10.9.9.9, port: 80}, expect: answer, seenAs: 192.0.2.10, enters: e}
  - {name: b, from: c, to: "2001:db8:c::1", proto: udp, port: 53, server: {host: s, address: "fd09::9"}, expect: answer, enters: e, answerLeaves: {host: r, link: c}}
  - {name: c, from: c, to: 192.0.2.77, proto: icmp, server: {host: s, address: 10.9.9.9}, expect: answer, enters: e}`,
		},
		{
			name: "as kube-proxy does",
			router: `firewall:
      dnat:
      - {to: 192.0.2.77, proto: tcp, port: 80, toAddress: 198.51.100.10, toPort: 8080, output: true, masquerade: true}
      - {to: "2001:db8:77::1", proto: udp, port: 53, toAddress: "2001:db8:5::10", output: true}
      - {to: 192.0.2.78, proto: tcp, port: 80, toAddress: 198.51.100.10}
    addresses: [192.0.2.77/32, 192.0.2.78/32, "2001:db8:77::1/128"]`,
			checks: `  - {name: masqueraded, from: c, to: 192.0.2.77, port: 80, server: {host: s, address: 198.51.100.10, port: 8080}, expect: answer, seenAs: 198.51.100.1, enters: e}
  - {name: of the host itself, from: r, to: 192.0.2.77, port: 80, server: {host: s, address: 198.51.100.10, port: 8080}, expect: answer, enters: e}
  - {name: not masqueraded, from: c, to: "2001:db8:77::1", proto: udp, port: 53, server: {host: s, address: "2001:db8:5::10"}, expect: answer, seenAs: "2001:db8:c::10", enters: e}
  - {name: of the host itself IPv6, from: r, to: "2001:db8:77::1", proto: udp, port: 53, server: {host: s, address: "2001:db8:5::10"}, expect: answer, enters: e}
  - {name: only what comes in, from: r, to: 192.0.2.78, port: 80, expect: refused, timeout: 2s, server: {host: s, address: 198.51.100.10}}`,
		},
		{
			name:   "a link that does not forward is no refusal",
			router: `sysctls: {net/ipv4/conf/c/forwarding: 0}`,
			checks: `  - {name: a, from: c, to: 198.51.100.10, port: 80, expect: refused, timeout: 200ms}`,
			fails:  "a: no answer in a while",
		},
		{
			name: "nobody has the address",
			checks: `  - {name: a, from: c, to: 198.51.100.99, proto: udp, port: 80, expect: silence, timeout: 1s, enters: {host: r, link: c}}
  - {name: b, from: c, to: 198.51.100.99, port: 80, expect: silence, timeout: 1s, enters: {host: r, link: s}}`,
			fails: "b: the request came in by r/c",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			more := c.router
			if strings.HasPrefix(more, "{") {
				more = strings.NewReplacer("{routes: ", "routes: ", ", rules: ", "\n    rules: ", "}]}", "}]").Replace(more)
			}
			l, cfg := load(t, "", strings.Replace(router, "ROUTER", more, 1)+c.checks+"\n")
			r, err := l.Test(t.Context(), cfg)
			// How long it was depends on the machine.
			if got := reWaited.ReplaceAllString(failures(r), "no answer in a while"); got != c.fails || (err == nil) != (c.fails == "") {
				t.Errorf("got %v\n%s\nwant failures: %q", err, got, c.fails)
			}
		})
	}
}

var reWaited = regexp.MustCompile(`no answer in [0-9.]+m?s`)

func TestLinksAreAsWritten(t *testing.T) {
	t.Parallel()
	l, cfg := load(t, "", strings.Replace(router, "ROUTER", "sysctls: {net/ipv4/conf/default/rp_filter: 2, net/ipv4/conf/c/rp_filter: 1}", 1)+"  - {name: a, from: c, to: 198.51.100.10, port: 80, expect: answer}\n")
	if err := l.Up(t.Context(), cfg, true); err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct{ host, link, mac string }{{"c", "e", "02:00:00:00:00:0c"}, {"r", "s", "02:00:00:00:00:05"}} {
		st := snapshot(t, l.Namespace(want.host))
		for _, k := range st.Links {
			if k.Name == want.link && (k.MAC != want.mac || k.MTU != 1400 || !k.Up) {
				t.Errorf("link %+v; want %s, MTU 1400, up", k, want.mac)
			}
		}
	}
	c, err := kernel.Open(l.Namespace("r"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for key, want := range map[string]string{"net/ipv4/conf/c/rp_filter": "1", "net/ipv4/conf/s/rp_filter": "2", "net/ipv4/ip_forward": "1"} {
		if got, err := c.ReadSysctl(key); err != nil || got != want {
			t.Errorf("%s = %s, %v; want %s", key, got, err, want)
		}
	}
}

func TestBridgeAndPolicy(t *testing.T) {
	t.Parallel()
	l, cfg := load(t, "../../examples/lab/routing-policy.yaml", "")
	cfg.Apply = func(ctx context.Context, ns string, _ []Objects) error {
		return change(ctx, ns,
			"route 192.168.10.0/24 dev eth1 table 200 scope link",
			"route 192.168.20.0/24 via 10.10.10.23 dev eth0 table 200",
			"route default via 10.10.10.23 dev eth0 table 200",
			"rule 2200 from 10.10.10.10/32 table 200",
			"rule 300 from all to 12.12.12.12/32 table 254")
	}
	r, err := l.Test(t.Context(), cfg)
	if err != nil {
		t.Errorf("%v\n%s", err, failures(r))
	}
	if r.Passed != len(l.Checks) {
		t.Errorf("%d of %d checks passed", r.Passed, len(l.Checks))
	}
}

func snapshot(t *testing.T, ns string) (st struct {
	Links []struct {
		Name, MAC string
		MTU       uint32
		Up        bool
	}
}) {
	t.Helper()
	c, err := kernel.Open(ns)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := c.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range s.Links {
		st.Links = append(st.Links, struct {
			Name, MAC string
			MTU       uint32
			Up        bool
		}{k.Name, k.MAC, k.MTU, k.Up})
	}
	return st
}

// One address behind a VLAN and one behind a VRF. A kernel that has neither says
// so, and nothing is left.
const vlanAndVRF = `
apiVersion: viarule.io/v1alpha1
kind: Lab
metadata: {name: x}
spec:
  hosts: [{name: a}, {name: b}]
  links:
  - kind: veth
    ends: [{host: a, name: e}, {host: b, name: e, addresses: PORT}]
  - kind: veth
    ends: [{host: a, name: f, addresses: [10.2.0.1/24]}, {host: b, name: f, addresses: [10.2.0.2/24]}]
  KINDS
  checks:
  - {name: one, from: a, to: 10.1.0.2, port: 80, expect: answer, enters: LINK}
  - {name: two, from: a, to: 10.1.0.2, proto: udp, port: 80, expect: answer, enters: LINK, answerLeaves: LINK}
  - {name: three, from: a, to: 10.1.0.2, proto: icmp, expect: answer, enters: LINK}
  - {name: four, from: b, source: 10.1.0.2, to: 10.1.0.1, port: 80, expect: answer, seenAs: 10.1.0.2}
`

func TestVLANAndVRF(t *testing.T) {
	for _, c := range []struct{ kind, port, links, enters string }{
		{"vlan", "[]", `- {kind: vlan, host: a, name: e.7, parent: e, id: 7, addresses: [10.1.0.1/24]}
  - {kind: vlan, host: b, name: e.7, parent: e, id: 7, addresses: [10.1.0.2/24]}`, "e.7"},
		{"vrf", "[10.1.0.2/24]", `- {kind: bridge, host: a, name: br, ports: [e], addresses: [10.1.0.1/24]}
  - {kind: vrf, host: b, name: red, table: 100, ports: [e]}`, "e"},
	} {
		t.Run(c.kind, func(t *testing.T) {
			l, cfg := load(t, "", strings.NewReplacer("PORT", c.port, "KINDS", c.links, "LINK", c.enters).Replace(vlanAndVRF))
			r, err := l.Test(t.Context(), cfg)
			if errors.Is(err, kernel.ErrNotSupported) {
				if !strings.Contains(err.Error(), "this kernel has no links of kind "+c.kind) {
					t.Errorf("said: %v", err)
				}
				nothingLeft(t, l, cfg)
				if os.Getenv("VIARULE_VM") != "" {
					t.Fatal("the kernel of the VM has them")
				}
				t.Skip(err)
			}
			if err != nil {
				t.Errorf("%v\n%s", err, failures(r))
			}
		})
	}
}

func TestTwoLabsAtOnce(t *testing.T) {
	var wg sync.WaitGroup
	for range 3 {
		l, cfg := load(t, twoUplinks, "")
		l.Checks = slices.DeleteFunc(l.Checks, func(c Check) bool { return c.Expect == Silence })
		wg.Go(func() {
			if r, err := l.Test(context.Background(), cfg); err != nil {
				t.Errorf("%v\n%s", err, failures(r))
			}
		})
	}
	wg.Wait()
}

// Which of the packets of a host are a check's request or answer: other traffic
// in the lab is neither.
func TestBelongs(t *testing.T) {
	to, real, client := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("192.0.2.9")
	token, other := []byte("0123456789abcdef"), []byte("0123456789abcdeX")
	check := Check{To: to, Port: 80, Server: Server{Host: "s", Addr: real, Port: 8080}}
	const mine, seen = 40000, 50000
	for _, c := range []struct {
		name          string
		proto         Proto
		p             packet
		asks, answers bool
	}{
		{"request", TCP, packet{proto: 6, src: client, dst: to, sport: mine, dport: 80}, true, false},
		{"request, both sides translated", TCP, packet{proto: 6, src: to, dst: real, sport: seen, dport: 8080}, true, false},
		{"answer", TCP, packet{proto: 6, src: real, dst: client, sport: 8080, dport: mine}, false, true},
		{"another client", TCP, packet{proto: 6, src: client, dst: to, sport: 7, dport: 80}, false, false},
		{"another port", TCP, packet{proto: 6, src: client, dst: to, sport: mine, dport: 81}, false, false},
		{"another server", TCP, packet{proto: 6, src: client, dst: client, sport: mine, dport: 80}, false, false},
		{"another protocol", TCP, packet{proto: 17, src: client, dst: to, sport: mine, dport: 80, payload: token}, false, false},
		{"request", UDP, packet{proto: 17, src: client, dst: to, sport: 7, dport: 80, payload: token}, true, false},
		{"answer", UDP, packet{proto: 17, src: to, dst: client, sport: 80, dport: 7, payload: token}, false, true},
		{"another token", UDP, packet{proto: 17, src: client, dst: to, sport: mine, dport: 80, payload: other}, false, false},
		{"another port", UDP, packet{proto: 17, src: client, dst: to, sport: mine, dport: 81, payload: token}, false, false},
		{"request", ICMP, packet{proto: 1, echo: echo4, src: client, dst: to, payload: token}, true, false},
		{"answer", ICMP, packet{proto: 1, echo: echoReply4, src: to, dst: client, payload: token}, false, true},
		{"request", ICMP, packet{proto: 58, echo: echo6, src: client, dst: to, payload: token}, true, false},
		{"answer", ICMP, packet{proto: 58, echo: echoReply6, src: to, dst: client, payload: token}, false, true},
		{"another type", ICMP, packet{proto: 1, echo: 3, src: client, dst: to, payload: token}, false, false},
		{"another token", ICMP, packet{proto: 1, echo: echo4, src: client, dst: to, payload: other}, false, false},
	} {
		check.Proto = c.proto
		if asks, answers := check.belongs(&c.p, token, mine, seen); asks != c.asks || answers != c.answers {
			t.Errorf("%s %s: asks %v, answers %v", c.proto, c.name, asks, answers)
		}
		if asks, answers := check.belongs(&c.p, token, 0, 0); c.proto == TCP && (asks || answers) {
			t.Errorf("%s %s: belongs to a client whose port is not known", c.proto, c.name)
		}
	}
}

func TestDecodeTakesAnything(t *testing.T) {
	ok4 := append([]byte{0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2}, 0, 1, 0, 2, 0, 8, 0, 0)
	p, ok := decode(ok4)
	if !ok || p.src != netip.MustParseAddr("10.0.0.1") || p.dst != netip.MustParseAddr("10.0.0.2") || p.sport != 1 || p.dport != 2 {
		t.Errorf("%v %+v", ok, p)
	}
	for i := range ok4 {
		if _, ok := decode(ok4[:i]); ok {
			t.Errorf("%d bytes decoded", i)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte{0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0, 1, 0, 2, 0, 8, 0, 0})
	f.Add(append(append([]byte{0x60, 0, 0, 0, 0, 8, 58, 64}, make([]byte, 32)...), 128, 0, 0, 0, 0, 0, 0, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, ok := decode(b); ok && p.src.Is4() != p.dst.Is4() {
			t.Fatal(p)
		}
	})
}
