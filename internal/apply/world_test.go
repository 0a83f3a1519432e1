package apply

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/viarule/viarule/internal/desired"
	"github.com/viarule/viarule/internal/kernel"
	"github.com/viarule/viarule/internal/kernelfake"
	"github.com/viarule/viarule/internal/netnstest"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/netstate/netstatetest"
	"github.com/viarule/viarule/internal/plan"
	"github.com/viarule/viarule/internal/record"
	"github.com/viarule/viarule/internal/spec"
	"github.com/viarule/viarule/internal/specfile"
)

// world is a host with foreign rules, routes and links around, and with records:
// what a caller of Run has.
type world struct {
	t   *testing.T
	k   Kernel
	rec record.Namespace
	// adopt takes over what is foreign and wanted.
	adopt bool
	// sysctls are asked for as long as there is an object (RoutingPolicy has
	// none of its own).
	sysctls []netstate.Sysctl
}

// foreign is what others have made before and must find again.
var foreign = []string{
	"link add eth1 type veth peer name peer1",
	"link add eth2 type veth peer name peer2",
	// No addresses that the kernel makes by itself, some time later.
	"link set eth1 addrgenmode none",
	"link set peer1 addrgenmode none",
	"link set eth2 addrgenmode none",
	"link set peer2 addrgenmode none",
	"addr add 192.0.2.10/24 dev eth1",
	"addr add 198.51.100.10/24 dev eth2",
	"-6 addr add 2001:db8:1::10/64 dev eth1 nodad",
	"-6 addr add 2001:db8:2::10/64 dev eth2 nodad",
	"link set eth1 up",
	"link set peer1 up",
	"link set eth2 up",
	"link set peer2 up",
	"route add default via 192.0.2.1 dev eth1",
	"-6 route add default via 2001:db8:1::1 dev eth1",
	// Beside ours: priorities just before and behind the band, and in it.
	"rule add pref 2199 from 10.0.0.0/8 fwmark 0x80/0x80 table 77 protocol 17",
	"rule add pref 2500 from 10.77.0.0/16 table 77",
	"rule add pref 3000 not from 10.0.0.0/8 table main suppress_prefixlength 0 protocol 17",
	"rule add pref 3001 to 203.0.113.0/24 blackhole",
	"rule add pref 300 to 12.12.12.12 iif eth1 table 77",
	"-6 rule add pref 2500 from 2001:db8:77::/48 table 77",
	// In tables of ours, and in ones of nobody.
	"route add 172.16.0.0/12 via 192.0.2.77 table 5000 proto 17",
	"route add default via 192.0.2.78 table 77 metric 9",
	"route add 172.20.0.0/16 table 77 nexthop via 192.0.2.2 dev eth1 weight 3 nexthop via 198.51.100.2 dev eth2",
	"-6 route add 2001:db8:f::/48 via 2001:db8:1::77 table 5000 proto 17",
	"-6 route add default via 2001:db8:1::78 table 77 metric 9",
}

// fakeForeign is the same on the fake, which makes nothing by itself.
const fakeForeign = `
link 1 lo mac 00:00:00:00:00:00 mtu 65536 up carrier loopback
link 3 eth1 kind veth mac 26:1f:9e:50:4a:5b mtu 1500 up carrier parent peer1
link 5 eth2 kind veth mac 36:31:de:c6:57:34 mtu 1500 up carrier parent peer2
addr 192.0.2.10/24 dev eth1 label eth1 flags 0x80
addr 198.51.100.10/24 dev eth2 label eth2 flags 0x80
addr 2001:db8:1::10/64 dev eth1 flags 0x82
addr 2001:db8:2::10/64 dev eth2 flags 0x82
rule 0 from all table 255 proto 2
rule 300 from all to 12.12.12.12 iif eth1 table 77
rule 2199 from 10.0.0.0/8 fwmark 0x80/0x80 table 77 proto 17
rule 2500 from 10.77.0.0/16 table 77
rule 3000 not from 10.0.0.0/8 table 254 suppress_prefixlength 0 proto 17
rule 3001 from all to 203.0.113.0/24 blackhole
rule 32766 from all table 254 proto 2
rule 32767 from all table 253 proto 2
rule -6 0 from all table 255 proto 2
rule -6 2500 from 2001:db8:77::/48 table 77 unknown 0400ff0001
rule -6 32766 from all table 254 proto 2
route default via 192.0.2.78 dev eth1 table 77 metric 9 proto 3
route default via 192.0.2.1 dev eth1 table 254 proto 3
route 192.0.2.0/24 dev eth1 table 254 proto 2 scope link src 192.0.2.10
route 198.51.100.0/24 dev eth2 table 254 proto 2 scope link src 198.51.100.10
route 172.16.0.0/12 via 192.0.2.77 dev eth1 table 5000 proto 17
route -6 default via 2001:db8:1::1 dev eth1 table 254 metric 1024 proto 3
route -6 2001:db8:1::/64 dev eth1 table 254 metric 256 proto 2
route -6 2001:db8:2::/64 dev eth2 table 254 metric 256 proto 2
route -6 2001:db8:f::/48 via 2001:db8:1::77 dev eth1 table 5000 metric 1024 proto 17
`

func wantedSysctls() []netstate.Sysctl {
	return []netstate.Sysctl{
		{Key: "net/ipv4/conf/eth2/rp_filter", Value: "2"},
		{Key: "net/ipv6/conf/eth2/accept_ra", Value: "0"},
	}
}

// newWorld makes a namespace of the real kernel.
func newWorld(t *testing.T) *world {
	t.Helper()
	netnstest.New(t, netnstest.Mounts())
	netnstest.IP(t, foreign...)
	k, err := kernel.Open("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	cookie, err := k.Cookie()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, k: k, rec: record.Store{Dir: "/run/viarule"}.Namespace(cookie), sysctls: wantedSysctls()}
	// The kernel makes the last routes of a link that came up a little later.
	late := []string{
		"route -6 multicast ff00::/8 dev eth1 ", "route -6 multicast ff00::/8 dev peer1 ", "route -6 local 2001:db8:1::10 dev eth1 ",
		"route -6 multicast ff00::/8 dev eth2 ", "route -6 multicast ff00::/8 dev peer2 ", "route -6 local 2001:db8:2::10 dev eth2 ",
	}
	for deadline := time.Now().Add(10 * time.Second); ; {
		text := w.text()
		missing := slices.IndexFunc(late, func(l string) bool { return !strings.Contains(text, l) })
		if missing < 0 {
			// Links that viarule makes shall get no addresses of their own, which come
			// late and are others each time.
			netnstest.Exec(t, "sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
			return w
		}
		if time.Now().After(deadline) {
			t.Fatalf("no %sin\n%s", late[missing], text)
		}
	}
}

// fakeWorld makes one in memory.
func fakeWorld(t *testing.T) *world {
	t.Helper()
	k := kernelfake.New(netstatetest.ParseState(t, fakeForeign))
	k.SetSysctl("net/ipv4/conf/eth2/rp_filter", "0")
	k.SetSysctl("net/ipv6/conf/eth2/accept_ra", "1")
	return &world{t: t, k: k, rec: record.Store{Dir: t.TempDir()}.Namespace(1), sysctls: wantedSysctls()}
}

// onBoth runs a test on the real kernel and on the fake.
func onBoth(t *testing.T, f func(t *testing.T, open func(*testing.T) *world)) {
	t.Run("kernel", func(t *testing.T) { f(t, newWorld) })
	t.Run("fake", func(t *testing.T) { f(t, fakeWorld) })
}

// text is everything there is, to the last attribute.
func (w *world) text() string {
	w.t.Helper()
	s, err := w.k.Snapshot(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	netstate.SortRoutes(s.Routes)
	for i := range s.Links {
		// A link that was made again has another number and address.
		if l := &s.Links[i]; strings.HasPrefix(l.Alias, "viarule:") {
			*l = netstate.Link{Name: l.Name, Kind: l.Kind, Parent: l.Parent, Alias: l.Alias, Up: l.Up}
		}
	}
	slices.SortStableFunc(s.Links, func(a, b netstate.Link) int { return strings.Compare(a.Alias, b.Alias) })
	text := s.String()
	sysctls := w.sysctls
	for _, n := range networks["both"] {
		sysctls = append(sysctls[:len(sysctls):len(sysctls)], netstate.Sysctl{Key: "net/ipv4/conf/" + n.dev + "/src_valid_mark"})
	}
	for _, c := range sysctls {
		v, err := w.k.ReadSysctl(c.Key)
		if err != nil {
			v = err.Error()
		}
		text += fmt.Sprintf("sysctl %s = %s\n", c.Key, v)
	}
	return text
}

// changing is one apply (or, without objects, a delete) on the way.
type changing struct {
	w       *world
	objs    []spec.Object
	have    netstate.State
	present map[string]string
	claims  record.Claims
	restore []netstate.Sysctl
	want    desired.Want
	plan    plan.Plan
	cp      plan.Checkpoint
}

// prepare plans what leads to the objects in text; lock is the namespace's.
func (w *world) prepare(text string) *changing {
	w.t.Helper()
	c := &changing{w: w}
	if text != "" {
		objs, problems := specfile.Parse("a.yaml", []byte(text))
		if spec.Failed(problems) {
			w.t.Fatalf("%v", problems)
		}
		c.objs = objs
	}
	var err error
	if c.have, err = w.k.Snapshot(context.Background()); err != nil {
		w.t.Fatal(err)
	}
	if c.claims, err = w.rec.Claims(); err != nil {
		w.t.Fatal(err)
	}
	c.present = c.read()
	c.want = c.build(c.have)
	if c.restore, err = w.rec.Restore(c.records()); err != nil {
		w.t.Fatal(err)
	}
	c.plan = plan.Diff(c.input(c.have, c.want, c.present))
	if len(c.plan.Conflicts) > 0 || len(c.plan.Orphans) > 0 {
		w.t.Fatalf("conflicts %v, orphans %v", c.plan.Conflicts, c.plan.Orphans)
	}
	c.cp = c.plan.Checkpoint(c.have, c.present)
	return c
}

func (c *changing) read() map[string]string {
	m := make(map[string]string)
	for _, s := range c.w.sysctls {
		if v, err := c.w.k.ReadSysctl(s.Key); err == nil {
			m[s.Key] = v
		}
	}
	for _, n := range networks["both"] {
		key := "net/ipv4/conf/" + n.dev + "/src_valid_mark"
		if v, err := c.w.k.ReadSysctl(key); err == nil {
			m[key] = v
		}
	}
	return m
}

func (c *changing) build(have netstate.State) desired.Want {
	c.w.t.Helper()
	want, problems := desired.Build(c.objs, desired.Facts{State: have})
	if spec.Failed(problems) {
		c.w.t.Fatalf("%v", problems)
	}
	if len(c.objs) > 0 {
		for _, s := range c.w.sysctls {
			want.Sysctls = append(want.Sysctls, desired.Sysctl{Sysctl: s, Origin: desired.Origin{Object: &c.objs[0]}})
		}
		extend(&want, desired.Origin{Object: &c.objs[0]})
	}
	return want
}

func (c *changing) input(have netstate.State, want desired.Want, present map[string]string) plan.Input {
	return plan.Input{Want: want, Have: have, Sysctls: present, Restore: c.restore,
		Adopt: c.w.adopt, Recorded: plan.Recorded{Rules: c.claims.Rules, Routes: c.claims.Routes, Links: c.claims.Links, Nft: c.claims.Nft}}
}

// records is what is staged.
func (c *changing) records() record.Change {
	byRef := make(map[spec.Ref]*record.Object)
	for i := range c.objs {
		o := &c.objs[i]
		byRef[o.Ref] = &record.Object{Ref: o.Ref, Text: o.Text}
	}
	for _, r := range c.want.Rules {
		o := byRef[r.Origin.Object.Ref]
		o.Rules = append(o.Rules, r.Rule)
	}
	for _, r := range c.want.Routes {
		o := byRef[r.Origin.Object.Ref]
		o.Routes = append(o.Routes, r.Key())
	}
	for _, l := range c.want.Links {
		o := byRef[l.Origin.Object.Ref]
		o.Links = append(o.Links, l.Name)
	}
	if c.want.Nft != nil {
		byRef[c.want.Nft.Origins[0].Object.Ref].Nft = true
	}
	for _, s := range c.want.Sysctls {
		if s.Made {
			continue
		}
		o := byRef[s.Origin.Object.Ref]
		o.Sysctls = append(o.Sysctls, s.Sysctl)
	}
	ch := record.Change{Present: c.present}
	list, err := c.w.rec.List()
	if err != nil {
		c.w.t.Fatal(err)
	}
	for _, o := range list {
		if byRef[o.Ref] == nil {
			ch.Remove = append(ch.Remove, o.Ref)
		}
	}
	for _, ref := range slices.SortedFunc(maps.Keys(byRef), func(a, b spec.Ref) int { return strings.Compare(a.String(), b.String()) }) {
		ch.Put = append(ch.Put, *byRef[ref])
	}
	return ch
}

func (c *changing) verify(_ context.Context, s netstate.State) (plan.Plan, error) {
	return plan.Diff(c.input(s, c.build(s), c.read())), nil
}

func (w *world) lock() *record.Lock {
	w.t.Helper()
	l, err := w.rec.Lock("a test")
	if err != nil {
		w.t.Fatal(err)
	}
	return l
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// apply does all of an apply with kernel k, which may be a faulty one.
func (w *world) apply(ctx context.Context, k Kernel, text string) (*changing, Report, error) {
	w.t.Helper()
	l := w.lock()
	defer l.Unlock()
	c := w.prepare(text)
	w.must(l.Stage(c.records()))
	r, err := Run(ctx, k, c.plan, Options{Checkpoint: fixed(c.cp), Verify: c.verify})
	if err != nil {
		w.must(l.Rollback(!r.Undone))
	} else {
		w.must(l.Commit())
	}
	return c, r, err
}

// settled fails unless nothing is left to do for text.
func (w *world) settled(text string) {
	w.t.Helper()
	if c := w.prepare(text); !c.plan.Empty() {
		w.t.Errorf("not settled: %s", listed(&c.plan))
	}
}

func (w *world) same(what, want string) {
	w.t.Helper()
	if got := w.text(); got != want {
		w.t.Fatalf("%s: %s", what, difference(got, want))
	}
}

// difference gives the lines that only one of two texts has, or says that their
// order differs.
func difference(got, want string) string {
	count := make(map[string]int)
	for l := range strings.Lines(got) {
		count[l]++
	}
	for l := range strings.Lines(want) {
		count[l]--
	}
	var out strings.Builder
	for _, l := range slices.Sorted(maps.Keys(count)) {
		for n := count[l]; n > 0; n-- {
			out.WriteString("\ntoo much: " + strings.TrimSpace(l))
		}
		for n := count[l]; n < 0; n++ {
			out.WriteString("\nmissing:  " + strings.TrimSpace(l))
		}
	}
	if out.Len() == 0 {
		return "the order differs:\n" + got + "\nwant\n" + want
	}
	return out.String()
}
