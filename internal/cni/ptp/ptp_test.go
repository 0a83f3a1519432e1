package ptp

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/cni"
	"github.com/viarule/viarule/internal/kernel"
	"github.com/viarule/viarule/internal/netnstest"
	"github.com/viarule/viarule/internal/netstate"
)

func TestNames(t *testing.T) {
	seen := map[string]Attachment{}
	for _, container := range []string{"a", "b", "c1", "c2", "c10", "0123456789abcdef", "0123456789abcdee"} {
		for _, dev := range []string{"eth0", "eth1", "net1", "0"} {
			a := Attachment{"pods", container, dev}
			host, pod := a.macs()
			for _, name := range []string{a.HostName(), host, pod} {
				if o, ok := seen[name]; ok {
					t.Errorf("%s is of %v and %v", name, a, o)
				}
				seen[name] = a
			}
			if n := a.HostName(); len(n) != 15 || !strings.HasPrefix(n, Prefix) {
				t.Errorf("the name %q", n)
			}
			for _, mac := range []string{host, pod} {
				var b [6]byte
				if n, err := fmt.Sscanf(mac, "%02x:%02x:%02x:%02x:%02x:%02x", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5]); n != 6 || err != nil || b[0]&3 != 2 {
					t.Errorf("%s is not locally administered and of one station", mac)
				}
			}
			if got, ok := ParseAlias(a.Alias()); !ok || got != a {
				t.Errorf("%q reads as %v, %t", a.Alias(), got, ok)
			}
			if o := (Attachment{"other", container, dev}); o.HostName() != a.HostName() {
				t.Error("the name depends on the network")
			}
		}
	}
	for _, alias := range []string{"", "viarule:ptp/", "viarule:ptp/a/b", "viarule:ptp/a//c", "viarule:ptp/a/b/c/d", "viarule:vlan/a/b/c", "x"} {
		if a, ok := ParseAlias(alias); ok {
			t.Errorf("%q reads as %v", alias, a)
		}
	}
	a := Attachment{"pods", strings.Repeat("c", 200), "eth0"}
	if err := a.check(); err != nil {
		t.Error(err)
	}
	for len(a.Alias()) <= maxAlias {
		a.Container += "c"
	}
	if a.check() == nil {
		t.Error("a name that the kernel would refuse is taken")
	}
}

func TestOwns(t *testing.T) {
	a := Attachment{"pods", "c", "eth0"}
	for alias, want := range map[string]bool{a.Alias(): true, "": true, "viarule:ptp/other/c/eth0": true, "viarule:ptp/pods/d/eth0": false, "viarule:ptp/pods/c/eth1": false, "a note": true} {
		if a.owns(alias) != want {
			t.Errorf("%q: %t", alias, !want)
		}
	}
}

func ip(s string) cni.IP { return cni.IP{Address: netip.MustParsePrefix(s)} }

func TestWire(t *testing.T) {
	n := func(i int) *int { return &i }
	to := netip.MustParsePrefix
	for _, tt := range []struct {
		name   string
		ips    []cni.IP
		routes []cni.Route
		want   string // routes of the pod, or the error
	}{
		{"IPv4", []cni.IP{ip("10.1.0.5/24")}, nil, "169.254.1.1 dev eth0 scope link|default via 169.254.1.1 dev eth0 onlink"},
		{"IPv6", []cni.IP{ip("2001:db8::5/64")}, nil, "-6 default via fe80::1 dev eth0 metric 1024"},
		{"both, with gateways", []cni.IP{{Address: to("10.1.0.5/24"), Gateway: netip.MustParseAddr("10.1.0.1")}, {Address: to("2001:db8::5/64"), Gateway: netip.MustParseAddr("2001:db8::1")}}, nil,
			"169.254.1.1 dev eth0 scope link|10.1.0.1 dev eth0 scope link|-6 2001:db8::1 dev eth0 metric 1024|default via 169.254.1.1 dev eth0 onlink|-6 default via fe80::1 dev eth0 metric 1024"},
		{"routes of IPAM", []cni.IP{ip("10.1.0.5/24"), ip("2001:db8::5/64")}, []cni.Route{{Dst: to("10.9.1.2/16"), MTU: 1400, AdvMSS: 1360, Priority: 9, Table: n(77), Scope: n(200)}},
			"169.254.1.1 dev eth0 scope link|-6 default via fe80::1 dev eth0 metric 1024|10.1.0.0/24 via 169.254.1.1 dev eth0 onlink|10.9.0.0/16 via 169.254.1.1 dev eth0 onlink table 77 metric 9 scope site mtu 1400 advmss 1360"},
		{"a default route of IPAM", []cni.IP{ip("10.1.0.5/24")}, []cni.Route{{Dst: to("0.0.0.0/0"), Table: n(0), Scope: n(0)}}, "169.254.1.1 dev eth0 scope link|default via 169.254.1.1 dev eth0 onlink"},
		{"its own network is among the routes", []cni.IP{ip("10.1.0.5/24"), ip("10.1.0.6/24")}, []cni.Route{{Dst: to("10.1.0.0/24")}}, "169.254.1.1 dev eth0 scope link|10.1.0.0/24 via 169.254.1.1 dev eth0 onlink"},
		{"a default route in another table", []cni.IP{ip("10.1.0.5/32")}, []cni.Route{{Dst: to("0.0.0.0/0"), Table: n(7)}}, "169.254.1.1 dev eth0 scope link|default via 169.254.1.1 dev eth0 onlink table 7"},
		{"priority of IPv6", []cni.IP{ip("2001:db8::5/64")}, []cni.Route{{Dst: to("::/0"), Priority: 5, Scope: n(7)}}, "-6 default via fe80::1 dev eth0 metric 5"},

		{"no address", nil, nil, "x.ips: there is no address"},
		{"twice", []cni.IP{ip("10.1.0.5/24"), ip("10.1.0.5/16")}, nil, "x.ips[1].address: 10.1.0.5 is there twice"},
		{"multicast", []cni.IP{ip("224.0.0.5/24")}, nil, "x.ips[0].address: 224.0.0.5 cannot be"},
		{"link-local", []cni.IP{ip("fe80::1/64")}, nil, "x.ips[0].address: fe80::1 cannot be"},
		{"the gateway's", []cni.IP{ip("169.254.1.1/16")}, nil, "x.ips[0].address: 169.254.1.1 cannot be"},
		{"IPv4 in IPv6", []cni.IP{ip("::ffff:10.1.0.5/120")}, nil, "x.ips[0].address: "},
		{"a route of no address's family", []cni.IP{ip("10.1.0.5/24")}, []cni.Route{{Dst: to("::/0")}}, "x.routes[0].dst: ::/0 is of a family"},
		{"scope link", []cni.IP{ip("10.1.0.5/24")}, []cni.Route{{Dst: to("0.0.0.0/0"), Scope: n(253)}}, "x.routes[0].scope: 253"},
		{"scope below 0", []cni.IP{ip("10.1.0.5/24")}, []cni.Route{{Dst: to("0.0.0.0/0"), Scope: n(-1)}}, "x.routes[0].scope: -1"},
		{"table local", []cni.IP{ip("10.1.0.5/24")}, []cni.Route{{Dst: to("0.0.0.0/0"), Table: n(255)}}, "x.routes[0].table: 255"},
		{"table below 0", []cni.IP{ip("10.1.0.5/24")}, []cni.Route{{Dst: to("0.0.0.0/0"), Table: n(-1)}}, "x.routes[0].table: -1"},
		{"mtu below 0", []cni.IP{ip("10.1.0.5/24")}, []cni.Route{{Dst: to("0.0.0.0/0"), MTU: -1}}, "x.routes[0].mtu: -1"},
		{"priority too large", []cni.IP{ip("10.1.0.5/24")}, []cni.Route{{Dst: to("0.0.0.0/0"), Priority: 1 << 32}}, "x.routes[0].priority: 4294967296"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w, err := wire(Attachment{"pods", "c", "eth0"}, &config{}, "x.", tt.ips, tt.routes)
			if err != nil {
				if !strings.HasPrefix(err.Error(), tt.want) {
					t.Errorf("%v, want %s", err, tt.want)
				}
				return
			}
			var got []string
			for _, r := range append(w.lax, w.routes...) {
				s := strings.TrimPrefix(r.String(), "route ")
				s = strings.Replace(strings.Replace(s, " table 254", "", 1), " proto 3", "", 1)
				got = append(got, s)
			}
			if s := strings.Join(got, "|"); s != tt.want {
				t.Errorf("got\n%s\nwant\n%s", strings.ReplaceAll(s, "|", "\n"), strings.ReplaceAll(tt.want, "|", "\n"))
			}
		})
	}
}

func TestConfig(t *testing.T) {
	for text, want := range map[string]string{
		`"mtu": 1400, "ipMasq": true, "ipMasqBackend": "nftables", "dns": {"nameservers": ["192.0.2.53", "2001:db8::53"], "domain": "d", "search": ["s"], "options": ["o"]}`: "",
		`"mtu": 0, "dns": {}, "ipMasq": null, "ipMasqBackend": ""`: "",
		`"mtu": 67`:                         "7 mtu: 67",
		`"mtu": 65536`:                      "7 mtu: 65536",
		`"mtu": "1400"`:                     "6 mtu: ",
		`"mtu": -1`:                         "7 mtu: -1",
		`"ipMasq": "yes"`:                   "6 ipMasq: ",
		`"ipMasqBackend": "iptables"`:       "7 ipMasqBackend: ",
		`"dns": []`:                         "6 dns: ",
		`"dns": {"nameservers": "x"}`:       "6 dns.nameservers: ",
		`"dns": {"nameservers": ["x"]}`:     "7 dns.nameservers[0]: ",
		`"dns": {"domain": 1}`:              "6 dns.domain: ",
		`"ipMask": true`:                    "7 ipMask: there is no such key; did you mean ipMasq?",
		`"ipmasq": true`:                    "7 ipmasq: there is no such key; did you mean ipMasq?",
		`"something": 1, "isGateway": true`: "",
	} {
		d, err := cni.ReadDocument("stdin", []byte("{"+text+"}"))
		if err != nil {
			t.Fatal(err)
		}
		var c config
		got := ""
		if err := c.read(d); err != nil {
			e, ok := err.(*cni.Error)
			if !ok {
				t.Fatalf("%s: %v is no CNI error", text, err)
			}
			got = fmt.Sprintf("%d %s", e.Code, e.Msg)
		}
		if !strings.HasPrefix(got, want) || want == "" && got != "" {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

func TestUsed(t *testing.T) {
	dir := t.TempDir() + "/made"
	for _, a := range []string{"10.1.0.5", "10.1.0.6", "2001:db8::5", "2001:db8::6"} {
		for i := range 3 {
			if got, err := used(netip.MustParseAddr(a), dir); err != nil || got != (i > 0) {
				t.Errorf("%s for the %d. time: %t, %v", a, i+1, got, err)
			}
		}
	}
	// A file that is cut short, or a hole in it, is no more than a look too many.
	taken := 0
	for i := range 1000 {
		a := netip.AddrFrom4([4]byte{10, 2, byte(i >> 8), byte(i)})
		if got, err := used(a, dir); err != nil {
			t.Fatal(err)
		} else if got {
			taken++
		}
	}
	if taken > 50 {
		t.Errorf("%d of 1000 new addresses look as if they were used", taken)
	}
}

// TestForwardAll: what a kernel without force_forwarding needs takes no route from a host
// that lives by router advertisements.
func TestForwardAll(t *testing.T) {
	netnstest.New(t)
	netnstest.IP(t, "link add up0 type veth peer name up1", "link add via0 type veth peer name via1", "link add off type veth peer name on")
	set := func(key, value string) {
		netnstest.Exec(t, "bash", "-c", "echo "+value+" > /proc/sys/net/ipv6/conf/"+key)
	}
	set("off/accept_ra", "0")
	host, err := kernel.Open("")
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	p := &plugin{ctx: t.Context()}
	if err := p.forwardAll(host); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{"all/forwarding": "1", "up0/forwarding": "1", "up0/accept_ra": "2", "off/accept_ra": "0", "via0/accept_ra": "1"} {
		if got, err := host.ReadSysctl("net/ipv6/conf/" + key); err != nil || got != want {
			t.Errorf("%s is %q, %v; want %s", key, got, err, want)
		}
	}
}

// TestLeft: what went wrong first is the answer, also where it cannot all be undone.
func TestLeft(t *testing.T) {
	wrong, undo := cni.Wrong("mtu", "too small", ""), cni.Wrong("ipam", "nobody is there", "")
	if err := left(wrong, nil); err != error(wrong) {
		t.Error(err)
	}
	for first, code := range map[error]uint{wrong: 7, unix.EPERM: 5} {
		e := cni.Failed("add", left(first, undo))
		if e.Code != code || !strings.Contains(e.Msg, first.Error()) || !strings.Contains(e.Msg, undo.Msg) {
			t.Errorf("%v: %+v", first, e)
		}
	}
	if wrong.Msg != "mtu: too small" {
		t.Error("the error itself was changed")
	}
}

// TestOut: a pod's own networks, each once, and multicast are not masqueraded; pods of the
// same networks share a chain, those of another network do not.
func TestOut(t *testing.T) {
	chain := func(network string, ips ...cni.IP) netstate.NftChain {
		t.Helper()
		w, err := wire(Attachment{network, "c", "eth0"}, &config{ipMasq: true}, "x.", ips, nil)
		if err != nil {
			t.Fatal(err)
		}
		return w.out()
	}
	out := chain("pods", ip("10.1.0.5/24"), ip("2001:db8::5/64"), ip("10.1.0.6/24"))
	var got []string
	for _, r := range out.Rules {
		got = append(got, r.String())
	}
	want := "ip daddr 10.1.0.0/24 return|ip6 daddr 2001:db8::/64 return|ip daddr 224.0.0.0/4 return|ip6 daddr ff00::/8 return|masquerade"
	if s := strings.Join(got, "|"); s != want {
		t.Errorf("got  %s\nwant %s", s, want)
	}
	if same := chain("pods", ip("2001:db8::7/64"), ip("10.1.0.9/24")); same.Name != out.Name {
		t.Errorf("%s and %s are of the same networks", same.Name, out.Name)
	}
	for _, other := range []netstate.NftChain{chain("others", ip("10.1.0.5/24"), ip("2001:db8::5/64")), chain("pods", ip("10.1.0.5/24"))} {
		if other.Name == out.Name {
			t.Errorf("%s is of two", other.Name)
		}
	}
}

// TestSettle: a route that was in the way and has gone by itself, with the veth of a pod
// that is being deleted, leaves room for the new pod's.
func TestSettle(t *testing.T) {
	netnstest.New(t, netnstest.Mounts())
	netnstest.Named(t, "pod")
	host, err := kernel.Open("")
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	a := Attachment{"pods", "c", "eth0"}
	netnstest.IP(t, "link add old type veth peer name x", "link set old alias viarule:ptp/pods/old/eth0", "link set x up", "link set old up",
		"link add "+a.HostName()+" type veth peer name y", "link set y up", "link set "+a.HostName()+" up", "route add 10.1.0.5/32 dev old proto 119")
	w, err := wire(a, &config{}, "x.", []cni.IP{ip("10.1.0.5/24"), ip("10.1.0.6/24"), ip("2001:db8::5/64")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	v, err := host.View(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p := &plugin{ctx: t.Context()}
	refused := []*kernel.SetupError{{Err: unix.EEXIST}, {Err: unix.EEXIST}}
	for range 2 {
		if err := p.settle(host, w, &kernel.Ends{Index: v.Link(a.HostName()).Index}, refused); err != nil {
			t.Fatal(err)
		}
		got := netnstest.Exec(t, "ip", "route") + netnstest.Exec(t, "ip", "-6", "route", "show", "2001:db8::5")
		for _, addr := range []string{"10.1.0.5", "10.1.0.6", "2001:db8::5"} {
			if !strings.Contains(got, addr+" dev "+a.HostName()+" proto 119") {
				t.Errorf("there is no route to %s by the new pod's veth:\n%s", addr, got)
			}
		}
	}
}

// TestOpenHost: a veth without force_forwarding makes the host a router where the kernel is
// too old for it, and is an error where the veth has gone.
func TestOpenHost(t *testing.T) {
	netnstest.New(t, netnstest.Mounts())
	host, err := kernel.Open("")
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	p := &plugin{ctx: t.Context()}
	w := &wiring{host: "via0", addrs: []netip.Addr{netip.MustParseAddr("2001:db8::5")}}
	open := func(all bool, want string) error {
		t.Helper()
		err := p.openHost(host, w, &kernel.Ends{IPv6: &kernel.IPv6Conf{}, ForwardsIPv6: all})
		if got, rerr := host.ReadSysctl("net/ipv6/conf/all/forwarding"); rerr != nil || got != want {
			t.Errorf("all/forwarding is %q, %v; want %s", got, rerr, want)
		}
		return err
	}
	if forces(host) {
		if err := open(false, "0"); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the veth has gone: %v", err)
		}
	}
	netnstest.HideSysctl(t, "net/ipv6/conf/all/force_forwarding")
	if err := open(true, "0"); err != nil { // 0, since it believes what it is told
		t.Errorf("the host is a router: %v", err)
	}
	if err := open(false, "1"); err != nil {
		t.Errorf("the host is to become a router: %v", err)
	}
}

// FuzzWire: whatever an IPAM plugin says, there is a wiring or an error.
func FuzzWire(f *testing.F) {
	f.Add(`{"cniVersion":"1.1.0","ips":[{"address":"10.1.0.5/24","gateway":"10.1.0.1"},{"address":"2001:db8::5/64"}],"routes":[{"dst":"0.0.0.0/0","mtu":1400,"table":7,"scope":0},{"dst":"::/0","priority":3}]}`, `{"mtu":1280,"dns":{"nameservers":["::1"]}}`)
	f.Fuzz(func(t *testing.T, result, conf string) {
		v, err := cni.ReadDocument("x", []byte(`{"prevResult":`+result+`}`))
		if err != nil {
			return
		}
		r, err := cni.PrevResult(v, "1.1.0")
		if err != nil || r == nil {
			return
		}
		var c config
		if d, err := cni.ReadDocument("conf", []byte(conf)); err == nil {
			if c.read(d) != nil {
				c = config{}
			}
		}
		a := Attachment{"pods", "c", "eth0"}
		w, err := wire(a, &c, "x.", r.IPs, r.Routes)
		if err != nil {
			return
		}
		if len(w.addrs) == 0 || len(w.nexts) == 0 || w.out().Name == "" {
			t.Errorf("%+v", w)
		}
		for _, e := range []*kernel.Ends{{Index: 2, PeerIndex: 3, IPv6: &kernel.IPv6Conf{}}, {Index: 2, PeerIndex: 3}} {
			inPod, lax := w.inPod(e)
			if len(inPod.Writes()) < len(lax) || len(w.onHost(e).Writes()) == 0 {
				t.Error("nothing is written")
			}
		}
	})
}
