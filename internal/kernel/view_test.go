package kernel_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/viarule/viarule/internal/kernel"
	"github.com/viarule/viarule/internal/kerneltest"
	"github.com/viarule/viarule/internal/netnstest"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/netstate/netstatetest"
)

func view(t testing.TB, c *kernel.Conn) *kernel.View {
	t.Helper()
	v, err := c.View(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestViewIsPartOfSnapshot fills a namespace with random rules and routes: each part
// that View reads is that part of the Snapshot, in its order.
func TestViewIsPartOfSnapshot(t *testing.T) {
	c := open(t)
	settle(t, c)
	o := kerneltest.Options{Release: release(t)}
	ctx := context.Background()
	rapid.Check(t, func(t *rapid.T) {
		defer func() {
			if err := kerneltest.Clean(c); err != nil {
				t.Fatal(err)
			}
		}()
		var held []netstate.Change
		for range rapid.IntRange(0, 12).Draw(t, "changes") {
			ch := change(o, rapid.Bool().Draw(t, "rules"), held).Draw(t, "change")
			held = append(held, ch)
			c.Apply(ctx, []netstate.Change{ch}) // many are refused
		}
		s, err := c.Snapshot(ctx)
		if err != nil {
			t.Fatal(err)
		}
		s.Routes = slices.DeleteFunc(s.Routes, byItself)
		v, err := c.View(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := fmt.Sprint(v.Links), fmt.Sprint(s.Links); got != want {
			t.Fatalf("links\n%s\nwant\n%s", got, want)
		}
		sameRules(t, v, s.Rules)
		tables := map[uint32]bool{}
		for _, r := range s.Routes {
			tables[r.Table] = true
		}
		shown := map[uint32]bool{}
		if err := v.RouteTables(ctx, func(id uint32) { shown[id] = true }); err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(shown) != fmt.Sprint(tables) {
			t.Fatalf("tables %v, want %v", shown, tables)
		}
		tables[4711] = true // is none
		for id := range tables {
			for _, f := range netstate.Families {
				for _, dev := range []string{"", "lo", "v0", "v1", "v2"} {
					sameRoutes(t, v, s.Routes, f, id, dev)
				}
			}
		}
		for _, l := range v.Links {
			got, err := v.Addrs(ctx, l.Name)
			if err != nil {
				t.Fatal(err)
			}
			linkLocal := func(a netstate.Addr) bool { return a.Prefix.Addr().IsLinkLocalUnicast() }
			got = slices.DeleteFunc(got, linkLocal)
			var want []netstate.Addr
			for _, a := range s.Addrs {
				if a.Dev == l.Name && !linkLocal(a) {
					want = append(want, a)
				}
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("addresses of %s: %v, want %v", l.Name, got, want)
			}
		}
	})
}

// settle waits for the routes of the fixture's addresses and links, which the kernel
// adds a little later than those.
func settle(t *testing.T, c *kernel.Conn) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; {
		s, err := c.Snapshot(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		locals, multicasts := 0, 0
		for _, r := range s.Routes {
			if r.Type == netstate.RouteLocal && strings.HasPrefix(r.To.String(), "2001:db8:") {
				locals++
			}
			if r.Type == netstate.RouteMulticast {
				multicasts++
			}
		}
		switch {
		case locals == 3 && multicasts == 4:
			return
		case time.Now().After(end):
			t.Fatalf("the links did not come up: %s", s)
		}
	}
}

// byItself are routes that come when a link's own address is known to be nobody else's.
func byItself(r netstate.Route) bool { return r.To.Addr().IsLinkLocalUnicast() }

func sameRules(t *rapid.T, v *kernel.View, all []netstate.Rule) {
	salt := rapid.Uint32().Draw(t, "which")
	for name, keep := range map[string]func(*kernel.RuleHead) bool{
		"all":      func(*kernel.RuleHead) bool { return true },
		"none":     func(*kernel.RuleHead) bool { return false },
		"family":   func(h *kernel.RuleHead) bool { return h.Family == netstate.IPv6 },
		"priority": func(h *kernel.RuleHead) bool { return (h.Priority^salt)%3 == 0 },
		"from":     func(h *kernel.RuleHead) bool { return h.From.IsValid() },
		"table":    func(h *kernel.RuleHead) bool { return (h.Table^salt)%2 == 0 },
		"protocol": func(h *kernel.RuleHead) bool { return h.Protocol > 2 },
	} {
		got, err := v.Those(context.Background(), keep)
		if err != nil {
			t.Fatal(err)
		}
		var want []netstate.Rule
		for _, r := range all {
			if keep(&kernel.RuleHead{Family: r.Family, Priority: r.Priority, From: r.From, Table: r.Table, Protocol: r.Protocol}) {
				want = append(want, r)
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("rules by %s:\n%v\nwant\n%v", name, got, want)
		}
	}
}

func sameRoutes(t *rapid.T, v *kernel.View, all []netstate.Route, f netstate.Family, table uint32, dev string) {
	got, err := v.Routes(context.Background(), f, table, dev)
	if err != nil {
		t.Fatal(err)
	}
	var want []netstate.Route
	for _, r := range all {
		uses := dev == "" || r.Hop.Dev == dev || slices.ContainsFunc(r.Hops, func(h netstate.Hop) bool { return h.Dev == dev })
		if r.Family == f && r.Table == table && uses {
			want = append(want, r)
		}
	}
	got = slices.DeleteFunc(got, byItself)
	if !slices.EqualFunc(got, want, func(a, b netstate.Route) bool { return a.Equal(&b) }) {
		t.Fatalf("%s routes of table %d by %q:\n%v\nwant\n%v", f, table, dev, got, want)
	}
}

func TestViewOfALinkThatIsNotThere(t *testing.T) {
	c := open(t)
	v := view(t, c)
	if l := v.Link("v9"); l != nil {
		t.Errorf("there is %v", l)
	}
	if _, err := v.Routes(context.Background(), netstate.IPv4, netstate.TableMain, "v9"); err == nil || !strings.Contains(err.Error(), "v9") {
		t.Errorf("routes by it: %v", err)
	}
	if a, err := v.Addrs(context.Background(), "v9"); err != nil || len(a) > 0 {
		t.Errorf("addresses of it: %v, %v", a, err)
	}
	// One that went after the View was made: the kernel refuses the filter, or gives nothing.
	netnstest.IP(t, "link del v0")
	if r, err := v.Routes(context.Background(), netstate.IPv4, netstate.TableMain, "v0"); len(r) > 0 {
		t.Errorf("routes by a link that is gone: %v, %v", r, err)
	}
}

// TestViewOfMany reads lists that take several datagrams while others come and go: what
// stays is in each, once.
func TestViewOfMany(t *testing.T) {
	c := open(t)
	const many = 1500
	ctx := context.Background()
	var stay []netstate.Change
	for i := range many {
		for _, text := range []string{
			fmt.Sprintf("+ rule 1000 from 10.7.%d.%d table 1000 proto 118", i>>8, i&255),
			fmt.Sprintf("+ rule -6 1000 from 2001:db8:7::%x table 1000 proto 118", i),
			fmt.Sprintf("+ route 10.7.%d.%d dev v0 table 1000 scope link proto 118", i>>8, i&255),
			fmt.Sprintf("+ route -6 2001:db8:7::%x dev v0 table 1000 metric 1024 proto 118", i),
		} {
			stay = append(stay, netstatetest.ParseChange(t, text))
		}
	}
	if n, failed := c.Apply(ctx, stay); n != len(stay) || len(failed) > 0 {
		t.Fatal(n, failed)
	}
	other := openNamed(t, "")
	bursts, stopped := make(chan int), make(chan struct{})
	go func() {
		defer close(stopped)
		for burst := range bursts {
			for k := range 40 {
				for _, kind := range []string{"rule 1000 from 10.6.%d.%d table 1001 proto 118", "route 10.6.%d.%d dev v0 table 1000 scope link proto 118"} {
					text := fmt.Sprintf(kind, burst, k)
					if _, failed := other.Apply(ctx, []netstate.Change{netstatetest.ParseChange(t, "+ "+text), netstatetest.ParseChange(t, "- "+text)}); len(failed) > 0 {
						t.Errorf("%s: %v", text, failed)
					}
				}
			}
		}
	}()
	v := view(t, c)
	count := func(what string, n int, err error) {
		t.Helper()
		if err != nil && !errors.Is(err, kernel.ErrTornDump) || err == nil && n != many {
			t.Errorf("%d %s, %v; want the %d that were there all the time", n, what, err, many)
		}
	}
	for i := range 12 {
		bursts <- i
		for _, f := range netstate.Families {
			shown := 0
			rules, err := v.Rules(ctx, func() { shown = 0 }, func(h *kernel.RuleHead) bool {
				wanted := h.Table == 1000 && h.Family == f
				if wanted {
					shown++
				}
				return wanted
			})
			count(f.String()+" rules", len(rules), err)
			count(f.String()+" rules shown", shown, err)
			routes, err := v.Routes(ctx, f, 1000, "v0")
			routes = slices.DeleteFunc(routes, func(r netstate.Route) bool { return strings.HasPrefix(r.To.String(), "10.6.") })
			count(f.String()+" routes", len(routes), err)
		}
	}
	close(bursts)
	<-stopped
}

// TestViewApply writes by the view's numbers of links. Those of links that came since are
// asked for, and none is used any more once a link was changed.
func TestViewApply(t *testing.T) {
	c := open(t)
	ctx := context.Background()
	apply := func(v *kernel.View, texts ...string) error {
		var changes []netstate.Change
		for _, s := range texts {
			changes = append(changes, netstatetest.ParseChange(t, s))
		}
		n, failed := v.Apply(ctx, changes)
		if len(failed) > 0 {
			return failed[0]
		}
		if n != len(changes) {
			t.Fatalf("%d of %d were tried", n, len(changes))
		}
		return nil
	}
	netnstest.IP(t, "link add one up type veth peer name far")
	netnstest.IP(t, "link set far up")
	v := view(t, c)
	netnstest.IP(t, "link add two up type bridge")
	if err := apply(v, "+ route 10.1.0.0/16 dev one table 7", "+ route -6 2001:db8:1::/48 dev one table 7 metric 1024", "+ route 10.2.0.0/16 dev two table 7", "+ route -6 2001:db8:2::/48 dev two table 7 metric 1024"); err != nil {
		t.Fatal(err)
	}
	v = view(t, c)
	for f, want := range map[netstate.Family]string{netstate.IPv4: "10.1.0.0/16 one 10.2.0.0/16 two", netstate.IPv6: "2001:db8:1::/48 one 2001:db8:2::/48 two"} {
		routes, err := v.Routes(ctx, f, 7, "")
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range routes {
			got = append(got, r.To.String(), r.Hop.Dev)
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%s: %s, want %s", f, s, want)
		}
	}
	// A link of the same name is another one.
	netnstest.IP(t, "link add red up type bridge")
	v = view(t, c)
	netnstest.IP(t, "link del two")
	netnstest.IP(t, "link add two up type bridge")
	if err := apply(v, "~ link one master red", "~ link one", "+ route 10.3.0.0/16 dev two table 7"); err != nil {
		t.Errorf("behind the change of a link: %v", err)
	}
	if err := apply(view(t, c), "+ route 10.4.0.0/16 dev three table 7"); err == nil || !strings.Contains(err.Error(), "three") {
		t.Errorf("by a link that is not there: %v", err)
	}
}
