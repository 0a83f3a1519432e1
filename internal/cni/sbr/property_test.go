package sbr

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/viarule/viarule/internal/cni"
	"github.com/viarule/viarule/internal/kernel"
	"github.com/viarule/viarule/internal/netnstest"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/record"
	"github.com/viarule/viarule/internal/specjson"
	"github.com/viarule/viarule/internal/srcroute"
)

// Networks that addresses are drawn from; hosts .1 to .9 are gateways, .20 and on addresses.
var networks = []string{"10.1.0.%d/24", "10.1.0.%d/32", "10.2.0.%d/26", "2001:db8:1::%x/64", "2001:db8:1::%x/128", "2001:db8:2::%x/120"}

// pod is a drawn interface: what `ip` makes of it, and what prevResult says of it.
type pod struct {
	batch strings.Builder
	addrs []srcroute.Address
}

func drawPod(t *rapid.T) *pod {
	p := &pod{}
	for i := range rapid.IntRange(1, 4).Draw(t, "addresses") {
		prefix := netip.MustParsePrefix(fmt.Sprintf(rapid.SampledFrom(networks).Draw(t, "network"), 32+i))
		flags := rapid.SampledFrom([]string{"", "", " noprefixroute"}).Draw(t, "flags")
		if prefix.Addr().Is6() {
			flags += " nodad"
		}
		fmt.Fprintf(&p.batch, "addr add %s dev net1%s\n", prefix, flags)
		a := srcroute.Address{Prefix: prefix}
		if rapid.Bool().Draw(t, "has a gateway") {
			a.Gateway = gateway(t, prefix.Addr().Is4())
		}
		p.addrs = append(p.addrs, a)
	}
	for range rapid.IntRange(0, 6).Draw(t, "routes") {
		// Never append: DEL cannot put back a route beside another one of its key.
		fmt.Fprintf(&p.batch, "route add %s\n", p.route(t))
	}
	return p
}

// gateway is one of those of the networks, of net2's, or of none.
func gateway(t *rapid.T, four bool) netip.Addr {
	if four {
		return netip.MustParseAddr(rapid.SampledFrom([]string{"10.1.0.1", "10.1.0.2", "10.2.0.1", "10.9.0.1", "169.254.1.1"}).Draw(t, "gateway"))
	}
	return netip.MustParseAddr(rapid.SampledFrom([]string{"2001:db8:1::1", "2001:db8:2::1", "2001:db8:9::1", "2001:db8:ffff::1", "fe80::1"}).Draw(t, "gateway"))
}

// route is one as `ip` takes it, if the kernel does.
func (p *pod) route(t *rapid.T) string {
	a := rapid.SampledFrom(p.addrs).Draw(t, "of")
	four := a.Prefix.Addr().Is4()
	to := rapid.SampledFrom([]string{"0.0.0.0/0", "192.0.2.0/24", "192.0.2.7/32", "10.1.0.0/24", "10.2.0.0/26", "169.254.1.1/32"})
	if !four {
		to = rapid.SampledFrom([]string{"::/0", "2001:db8:99::/48", "2001:db8:99::7/128", "2001:db8:1::/64", "2001:db8:2::/120"})
	}
	dev := rapid.SampledFrom([]string{"net1", "net1", "net1", "net2"}).Draw(t, "dev")
	s := to.Draw(t, "to")
	if strings.HasPrefix(s, "2001:db8:1:") || strings.HasPrefix(s, "2001:db8:2:") {
		// Behind such a route by another link the kernel would refuse to main what it had
		// taken before (ip6_route_check_nh_onlink), so that nothing could put it back.
		dev = "net1"
	}
	switch rapid.IntRange(0, 5).Draw(t, "kind") {
	case 0:
		s += " nexthop via " + gateway(t, four).String() + " dev " + dev + " onlink nexthop via " + gateway(t, four).String() + " dev net1 onlink"
	case 1, 2:
		s += " dev " + dev
	case 3:
		s += " via " + gateway(t, four).String() + " dev " + dev
	default:
		s += " via " + gateway(t, four).String() + " dev " + dev + " onlink"
	}
	if rapid.Bool().Draw(t, "src") {
		s += " src " + a.Prefix.Addr().String()
	}
	return s + rapid.SampledFrom([]string{"", "", " metric 7", " mtu 1400", " proto 119", " proto kernel", " proto ra"}).Draw(t, "more")
}

// drawConfig draws what may be configured, such as the kernel takes.
func drawConfig(t *rapid.T, p *pod, own bool) *config {
	c := &config{network: "n", Config: srcroute.Config{Own: own, SourceHints: !own && rapid.Bool().Draw(t, "hints"), StrictRP: rapid.Bool().Draw(t, "strict")}}
	for _, four := range []bool{true, false} {
		if rapid.IntRange(0, 3).Draw(t, "static") == 3 {
			c.Gateways = append(c.Gateways, gateway(t, four))
		}
	}
	if rapid.IntRange(0, 4).Draw(t, "table") == 4 {
		c.Table = 77
	}
	c.addrs = p.addrs
	rules := rapid.SampledFrom([]string{`[]`, `[{"fwmark": 1}]`, `[{"from": ["192.0.2.0/24", "2001:db8:9::/48"], "table": "main"}, {"fwmark": 2, "priority": 9}]`, `[{"to": ["192.0.2.0/24"], "goto": 32766}, {"to": ["2001:db8:9::/48"], "nop": true}]`})
	routes := rapid.SampledFrom([]string{`[]`, `[]`, `[{"to": "198.51.100.0/24"}]`, `[{"to": "192.0.2.0/24", "type": "Blackhole"}]`, `[{"to": "default", "via": "10.1.0.3", "onlink": true}]`})
	var problems []specjson.Problem
	c.Rules, problems = specjson.Rules("rules", []byte(rules.Draw(t, "rules")))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	text := routes.Draw(t, "routes")
	if !p.addrs[0].Prefix.Addr().Is4() {
		text = `[{"to": "2001:db8:98::/48"}]`
	}
	if c.Routes, problems = specjson.Routes("routes", []byte(text)); len(problems) > 0 {
		t.Fatal(problems)
	}
	return c
}

// TestThereAndBack: whatever addresses and routes an interface has, ADD makes what the
// kernel takes, CHECK finds all of it, and DEL leads back.
func TestThereAndBack(t *testing.T) {
	if testing.Short() {
		t.Skip("makes many interfaces")
	}
	netnstest.New(t)
	netnstest.IP(t, "link add net1 type veth peer name peer1", "link add net2 type veth peer name peer2", "addr add 10.9.0.200/24 dev net2", "addr add 2001:db8:9::200/64 dev net2 nodad")
	for _, l := range []string{"peer1", "peer2", "net1", "net2"} {
		netnstest.IP(t, "link set "+l+" addrgenmode none", "link set "+l+" up")
	}
	conn, err := kernel.Open("")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx := context.Background()
	cookie, err := conn.Cookie()
	if err != nil {
		t.Fatal(err)
	}
	store := record.Store{Dir: filepath.Join(t.TempDir(), "run")}
	lock, err := store.Namespace(cookie).LockWait(ctx, "a test")
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Unlock()
	state := func(t *rapid.T) string {
		s, err := conn.Snapshot(ctx)
		if err != nil {
			t.Fatal(err)
		}
		s.Links, s.Addrs = nil, nil
		// What the kernel makes in its own time, when a link has its carrier.
		s.Routes = slices.DeleteFunc(s.Routes, func(r netstate.Route) bool { return r.Table == netstate.TableLocal || r.To.Addr().IsMulticast() })
		netstate.SortRoutes(s.Routes)
		rp, err := conn.ReadSysctl("net/ipv4/conf/net1/rp_filter")
		return fmt.Sprintln(s.String(), rp, err)
	}
	added := 0
	rapid.Check(t, func(t *rapid.T) {
		p := drawPod(t)
		own := rapid.Bool().Draw(t, "own")
		c := drawConfig(t, p, own)
		ip := exec.Command("ip", "-force", "-batch", "-")
		ip.Stdin = strings.NewReader(p.batch.String())
		_ = ip.Run() // some of the routes are refused
		defer func() {
			clean := exec.Command("ip", "-force", "-batch", "-")
			clean.Stdin = strings.NewReader("addr flush dev net1\nlink set net1 down\nlink set net2 down\nlink set net1 up\nlink set net2 up\naddr add 2001:db8:9::200/64 dev net2 nodad\n")
			_ = clean.Run()
			for _, f := range []string{"-4", "-6"} {
				_ = exec.Command("ip", f, "route", "flush", "table", "77").Run()
				_ = exec.Command("ip", f, "addr", "flush", "dev", "net1").Run()
			}
		}()
		s := &session{plugin: &plugin{own: own, name: Own, store: store, ctx: ctx, started: time.Now()}, conn: conn, lock: lock, records: &record.Attachments{}}
		key := record.AttachmentKey{Plugin: s.name, Network: c.network, Container: "c1", Interface: "net1"}
		before := state(t)
		if _, err := s.add(c, &srcroute.Attachment{Dev: "net1", Addrs: p.addrs}, key); err != nil {
			t.Fatalf("ADD: %v\n%s\nbefore:\n%s", err, p.batch.String(), before)
		}
		added++
		made := state(t)
		differs, err := s.check(c, key)
		if err != nil || len(differs) > 0 {
			t.Fatalf("CHECK: %v, %q\n%s\nbefore:\n%s\nnow:\n%s", err, differs, p.batch.String(), before, made)
		}
		if _, err := s.del(c, key); err != nil {
			t.Fatalf("DEL: %v\n%s", err, p.batch.String())
		}
		if after := state(t); after != before {
			t.Fatalf("after DEL:\n%s\n%s\nbefore:\n%s\nmade:\n%s", after, p.batch.String(), before, made)
		}
	})
	t.Logf("%d attachments", added)
}

// TestFailed: which code an error has.
func TestFailed(t *testing.T) {
	for code, err := range map[uint]error{3: kernel.ErrNoNamespace, 8: kernel.ErrOwnNamespace, 11: context.DeadlineExceeded, 5: errors.New("x"), 7: cni.Wrong("key", "what", "do")} {
		var e interface{ Error() string } = cni.Failed("do it", fmt.Errorf("before: %w", err))
		if got := cni.Failed("do it", fmt.Errorf("before: %w", err)); got.Code != code {
			t.Errorf("%v has the code %d, want %d: %v", err, got.Code, code, e)
		}
	}
}

// dying is a context that ends when it was asked so many times.
type dying struct {
	context.Context
	left *int
}

func (d dying) Err() error {
	if *d.left--; *d.left < 0 {
		return context.DeadlineExceeded
	}
	return nil
}

// TestTimeIsUp: wherever an ADD runs out of time, since it waited for its locks so long,
// it leaves nothing behind.
func TestTimeIsUp(t *testing.T) {
	if testing.Short() {
		t.Skip("makes an interface")
	}
	netnstest.New(t)
	netnstest.IP(t, "link add net1 type veth peer name peer1", "link set peer1 up", "link set net1 addrgenmode none", "link set net1 up", "addr add 10.1.0.5/24 dev net1", "addr add 2001:db8:1::5/64 dev net1 nodad")
	conn, err := kernel.Open("")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	cookie, err := conn.Cookie()
	if err != nil {
		t.Fatal(err)
	}
	lock, err := (record.Store{Dir: filepath.Join(t.TempDir(), "run")}).Namespace(cookie).LockWait(context.Background(), "a test")
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Unlock()
	ours := func() (list []string) {
		s, err := conn.Snapshot(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		for i := range s.Rules {
			if s.Rules[i].Protocol == netstate.ProtocolCNI {
				list = append(list, s.Rules[i].String())
			}
		}
		for i := range s.Routes {
			if s.Routes[i].Protocol == netstate.ProtocolCNI {
				list = append(list, s.Routes[i].String())
			}
		}
		return list
	}
	a := &srcroute.Attachment{Dev: "net1", Addrs: []srcroute.Address{{Prefix: netip.MustParsePrefix("10.1.0.5/24"), Gateway: netip.MustParseAddr("10.1.0.1")},
		{Prefix: netip.MustParsePrefix("2001:db8:1::5/64"), Gateway: netip.MustParseAddr("2001:db8:1::1")}}}
	rules, problems := specjson.Rules("rules", []byte(`[{"from": ["`+strings.Join(hosts(128), `", "`)+`"], "to": ["192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "192.0.0.0/24", "100.64.0.0/24", "198.18.0.0/24"]}]`))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	midway := 0
	for n := 0; ; n++ {
		left := n
		c := &config{network: "n", addrs: a.Addrs, Config: srcroute.Config{Own: true, Rules: rules}}
		p := &plugin{own: true, name: Own, debug: true, ctx: dying{context.Background(), &left}, started: time.Now()}
		s := &session{plugin: p, conn: conn, lock: lock, records: &record.Attachments{}}
		_, err := s.add(c, a, record.AttachmentKey{Plugin: Own, Network: "n", Container: "c1", Interface: "net1"})
		if err == nil {
			break
		}
		if list := ours(); !errors.Is(err, context.DeadlineExceeded) || len(list) > 0 || len(s.records.List) > 0 {
			t.Fatalf("out of time at its question %d: %v\n%d records, and it left %d rules and routes: %.500q", n, err, len(s.records.List), len(list), list)
		}
		if len(p.writes) > 0 {
			midway++
		}
	}
	if midway == 0 {
		t.Error("it was never out of time midway: the test has become blind")
	}
}

func hosts(n int) (list []string) {
	for i := range n {
		list = append(list, fmt.Sprintf("10.77.0.%d/32", i))
	}
	return list
}
