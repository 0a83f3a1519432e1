package kerneltest

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"slices"
	"syscall"
	"testing"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/netstate/netstatetest"
)

// batch is how many changes go in one send.
const batch = 512

// numbered makes n different rules of a family.
func numbered(f netstate.Family, n int) []netstate.Change {
	list := make([]netstate.Change, n)
	for i := range list {
		a := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		if f == netstate.IPv6 {
			a = netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 14: byte(i >> 8), 15: byte(i)})
		}
		list[i] = netstate.Change{Verb: netstate.Add, Rule: &netstate.Rule{
			Family: f, Priority: 1000, From: netip.PrefixFrom(a, a.BitLen()),
			Action: netstate.ToTable, Table: 1000, Protocol: netstate.ProtocolObject,
		}}
	}
	return list
}

func (o Options) batches(t *testing.T) {
	for _, f := range netstate.Families {
		t.Run("failures are told by their index, the rest is done, "+f.String(), func(t *testing.T) {
			k := o.Open(t)
			changes := numbered(f, 3*batch)
			bad := []int{0, 1, 200, batch - 1}
			for _, i := range bad {
				changes[batch+i].Verb = netstate.Delete
			}
			n, failed := k.Apply(context.Background(), changes)
			if n != 2*batch {
				t.Errorf("attempted %d, want the two batches up to the failures, %d", n, 2*batch)
			}
			var got []int
			for _, e := range failed {
				got = append(got, e.Index-batch)
				if !isErrno(e, syscall.ENOENT) {
					t.Errorf("%d: %v, want ENOENT", e.Index, e)
				}
			}
			if slices.Sort(got); !slices.Equal(got, bad) {
				t.Errorf("failed: %v of the second batch, want %v", got, bad)
			}
			s, err := k.Snapshot(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			held := map[netstate.Rule]bool{}
			for _, r := range s.Rules {
				held[r] = true
			}
			for i, ch := range changes {
				if want := ch.Verb == netstate.Add && i < n; held[*ch.Rule] != want {
					t.Fatalf("change %d: the rule is there: %t, want %t", i, !want, want)
				}
			}
		})
		t.Run("a whole batch may fail, "+f.String(), func(t *testing.T) {
			k := o.Open(t)
			changes := numbered(f, batch+1)
			for i := range changes {
				changes[i].Verb = netstate.Delete
			}
			n, failed := k.Apply(context.Background(), changes)
			if n != batch || len(failed) != batch {
				t.Errorf("attempted %d and %d failed, want %d of both", n, len(failed), batch)
			}
		})
	}
	t.Run("what cannot be sent ends the batch", func(t *testing.T) {
		k := o.Open(t)
		changes := numbered(netstate.IPv4, 5)
		ch := netstatetest.ParseChange(t, "+ route 10.9.0.0/16 dev nolink table 1000 proto 118 scope link")
		changes[3] = ch
		n, failed := k.Apply(context.Background(), changes)
		if n != 4 || len(failed) != 1 || failed[0].Index != 3 || !isErrno(failed[0], syscall.ENODEV) {
			t.Errorf("attempted %d, failed %v; want 4 and ENODEV of 3", n, failed)
		}
	})
	t.Run("no sysctl after a failure", func(t *testing.T) {
		k := o.Open(t)
		const key = "net/ipv4/conf/v0/rp_filter"
		before, err := k.ReadSysctl(key)
		if err != nil {
			t.Fatal(err)
		}
		changes := numbered(netstate.IPv4, 2)
		changes[0].Verb = netstate.Delete
		changes = append(changes, sysctl(key, "2"))
		n, failed := k.Apply(context.Background(), changes)
		if n != 2 || len(failed) != 1 {
			t.Errorf("attempted %d, failed %v; want 2, one", n, failed)
		}
		if after, err := k.ReadSysctl(key); err != nil || after != before {
			t.Errorf("%s = %q, %v; want %q", key, after, err, before)
		}
	})
	t.Run("nothing is done after the context ended", func(t *testing.T) {
		k := o.Open(t)
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if n, failed := k.Apply(ctx, numbered(netstate.IPv4, 2)); n != 0 || len(failed) != 0 {
			t.Errorf("attempted %d, failed %v; want 0 and none", n, failed)
		}
		if _, err := k.Snapshot(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("snapshot: %v, want %v", err, context.Canceled)
		}
	})
}

func sysctl(key, value string) netstate.Change {
	return netstate.Change{Verb: netstate.Replace, Sysctl: &netstate.Sysctl{Key: key, Value: value}}
}

// malformed are changes that no planner should make: they are refused, never a
// panic, and nothing happens.
func (o Options) malformed(t *testing.T) {
	rule := netstate.Rule{Family: netstate.IPv4, Priority: 1000, Action: netstate.ToTable, Table: 1000, Protocol: 118}
	route := netstate.Route{Family: netstate.IPv4, To: netip.MustParsePrefix("10.9.0.0/16"), Table: 1000, Type: netstate.RouteBlackhole}
	v6 := netip.MustParsePrefix("2001:db8::/32")
	withRule := func(f func(*netstate.Rule)) netstate.Change {
		r := rule
		f(&r)
		return netstate.Change{Verb: netstate.Add, Rule: &r}
	}
	withRoute := func(f func(*netstate.Route)) netstate.Change {
		r := route
		f(&r)
		return netstate.Change{Verb: netstate.Add, Route: &r}
	}
	for _, tt := range []struct {
		name string
		give netstate.Change
	}{
		{"no object", netstate.Change{Verb: netstate.Add}},
		{"two objects", netstate.Change{Verb: netstate.Add, Rule: &rule, Route: &route}},
		{"no verb", netstate.Change{Rule: &rule}},
		{"a verb from nowhere", netstate.Change{Verb: 77, Route: &route}},
		{"a rule of no family", withRule(func(r *netstate.Rule) { r.Family = 0 })},
		{"a rule of two families", withRule(func(r *netstate.Rule) { r.From = v6 })},
		{"a look-up without a table", withRule(func(r *netstate.Rule) { r.Table = 0 })},
		{"a link name that is too long", withRule(func(r *netstate.Rule) { r.IIF = "sixteen-letters-" })},
		{"unknown attributes that are no attributes", withRule(func(r *netstate.Rule) { r.Unknown = "\xff" })},
		{"unknown attributes cut short", withRule(func(r *netstate.Rule) { r.Unknown = "\x20\x00\xff\x00" })},
		{"a route of no family", withRoute(func(r *netstate.Route) { r.Family = 0 })},
		{"a route of two families", withRoute(func(r *netstate.Route) { r.To = v6 })},
		{"a route without a type", withRoute(func(r *netstate.Route) { r.Type = 0 })},
		{"a source of the other family", withRoute(func(r *netstate.Route) { r.Src = v6.Addr() })},
		{"unknown attributes of a route", withRoute(func(r *netstate.Route) { r.Unknown = "\x01\x00" })},
		{"a next hop object without an id", netstate.Change{Verb: netstate.Add, Nexthop: &netstate.Nexthop{Blackhole: true, Family: netstate.IPv4}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k := o.Open(t)
			n, failed := k.Apply(context.Background(), []netstate.Change{tt.give})
			if n != 1 || len(failed) != 1 || failed[0].Index != 0 {
				t.Errorf("attempted %d, failed %v; want one failure", n, failed)
			}
			if got := ours(t, k); got != "" {
				t.Errorf("it made\n%s", got)
			}
		})
	}
}

func (o Options) sysctls(t *testing.T) {
	k := o.Open(t)
	for _, key := range []string{"net/ipv4/conf/v0/rp_filter", "net/ipv6/conf/v0/accept_ra"} {
		apply(t, k, sysctl(key, "2"))
		if v, err := k.ReadSysctl(key); err != nil || v != "2" {
			t.Errorf("%s = %q, %v; want 2", key, v, err)
		}
		apply(t, k, sysctl(key, "0"), sysctl(key, "1"))
		if v, err := k.ReadSysctl(key); err != nil || v != "1" {
			t.Errorf("%s = %q, %v; want 1", key, v, err)
		}
		n, failed := k.Apply(context.Background(), []netstate.Change{sysctl(key, "0"), sysctl(key, "a word"), sysctl(key, "2")})
		if n != 2 || len(failed) != 1 || failed[0].Index != 1 {
			t.Errorf("%s: attempted %d, failed %v; want 2 and the second", key, n, failed)
		}
		if v, err := k.ReadSysctl(key); err != nil || v != "0" {
			t.Errorf("%s = %q, %v; want 0", key, v, err)
		}
	}
	const missing = "net/ipv4/conf/nolink/rp_filter"
	if _, err := k.ReadSysctl(missing); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("read %s: %v, want %v", missing, err, fs.ErrNotExist)
	}
	for _, bad := range []string{missing, "kernel/hostname", "/net/ipv4/ip_forward", "net/../kernel/hostname", "net//ipv4/ip_forward", "net/", ""} {
		n, failed := k.Apply(context.Background(), []netstate.Change{sysctl(bad, "1")})
		if n != 1 || len(failed) != 1 {
			t.Errorf("write %q: attempted %d, failed %v; want a failure", bad, n, failed)
		}
	}
	for _, verb := range []netstate.Verb{netstate.Add, netstate.Delete} {
		ch := sysctl("net/ipv4/conf/v0/rp_filter", "1")
		ch.Verb = verb
		if _, failed := k.Apply(context.Background(), []netstate.Change{ch}); len(failed) != 1 {
			t.Errorf("a sysctl took the verb %v", verb)
		}
	}
	one, err := k.Cookie()
	if again, err2 := k.Cookie(); err != nil || err2 != nil || one == 0 || one != again {
		t.Errorf("cookie %d %v, then %d %v", one, err, again, err2)
	}
}
