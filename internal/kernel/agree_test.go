package kernel_test

import (
	"context"
	"errors"
	"slices"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"github.com/viarule/viarule/internal/kernelfake"
	"github.com/viarule/viarule/internal/kerneltest"
	"github.com/viarule/viarule/internal/netstate"
)

// TestFakeAgrees sends random changes, many of which fail, to the kernel and to
// the fake: the same ones fail, with the same errno, and the same is left.
func TestFakeAgrees(t *testing.T) {
	real := open(t)
	o := kerneltest.Options{Release: release(t)}
	rapid.Check(t, func(t *rapid.T) {
		defer func() {
			if err := kerneltest.Clean(real); err != nil {
				t.Fatal(err)
			}
		}()
		fake := kernelfake.New(fixture(t))
		var held []netstate.Change // what was added, to be hit again
		// The kernel looks for gateways through the rules, which the fake does not.
		rules := rapid.Bool().Draw(t, "rules")
		for range rapid.IntRange(1, 12).Draw(t, "changes") {
			ch := change(o, rules, held).Draw(t, "change")
			if ch.Verb != netstate.Delete {
				held = append(held, ch)
			}
			_, got := real.Apply(context.Background(), []netstate.Change{ch})
			_, want := fake.Apply(context.Background(), []netstate.Change{ch})
			if errno(ch, got) != errno(ch, want) {
				t.Fatalf("%s: the kernel says %v, the fake %v\nkernel:\n%s\nfake:\n%s", ch, got, want, state(t, real), state(t, fake))
			}
			if k, f := state(t, real), state(t, fake); k != f {
				t.Fatalf("after %s the kernel has\n%s\nand the fake\n%s", ch, k, f)
			}
		}
	})
}

// errno is how a change ended, 0 for well. An IPv6 delete that says next to nothing
// of a default route finds the null entry of its table, and is told ENOENT for
// ESRCH (fib6_del).
func errno(ch netstate.Change, failed []*netstate.ChangeError) syscall.Errno {
	if len(failed) == 0 {
		return 0
	}
	var e syscall.Errno
	if !errors.As(failed[0], &e) {
		return syscall.Errno(0xffff)
	}
	if e == syscall.ENOENT && ch.Route != nil {
		return syscall.ESRCH
	}
	return e
}

type snapshotter interface {
	Snapshot(context.Context) (netstate.State, error)
}

func state(t *rapid.T, k snapshotter) string {
	s, err := k.Snapshot(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	s.Links, s.Addrs = nil, nil
	s.Rules = slices.DeleteFunc(s.Rules, func(r netstate.Rule) bool { return r.Priority < 1000 || r.Priority >= 32766 })
	s.Routes = slices.DeleteFunc(s.Routes, func(r netstate.Route) bool { return r.Table < 1000 })
	netstate.SortRoutes(s.Routes)
	return s.String()
}

func fixture(t *rapid.T) netstate.State {
	s, err := netstate.ParseState(kerneltest.Fixture)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// change draws a change of a rule, or of a route or a next hop object, often of one
// that was there before, whole or with something left out.
func change(o kerneltest.Options, rules bool, held []netstate.Change) *rapid.Generator[netstate.Change] {
	return rapid.Custom(func(t *rapid.T) netstate.Change {
		ch := netstate.Change{Verb: rapid.SampledFrom([]netstate.Verb{netstate.Add, netstate.Add, netstate.Replace, netstate.Delete}).Draw(t, "verb")}
		switch {
		case len(held) > 0 && rapid.IntRange(0, 2).Draw(t, "again") == 2:
			old := rapid.SampledFrom(held).Draw(t, "which")
			switch {
			case old.Rule != nil:
				ch.Rule = lessRule(t, *old.Rule)
			case old.Route != nil:
				ch.Route = lessRoute(t, *old.Route)
			default:
				ch.Nexthop = old.Nexthop
			}
		case rules:
			r := o.Rule().Draw(t, "rule")
			ch.Rule = &r
		case rapid.IntRange(0, 3).Draw(t, "object") == 3:
			n := nexthop().Draw(t, "nexthop")
			ch.Nexthop = &n
		default:
			r := kerneltest.Route().Draw(t, "route")
			if rapid.IntRange(0, 3).Draw(t, "by an object") == 3 && r.Type == netstate.RouteUnicast {
				r.Hop, r.Hops, r.Realms = netstate.Hop{}, nil, 0
				r.NexthopID = rapid.Uint32Range(1, 4).Draw(t, "nhid")
			}
			ch.Route = &r
		}
		if ch.Rule != nil && ch.Verb == netstate.Replace {
			ch.Verb = netstate.Add
		}
		return ch
	})
}

func lessRule(t *rapid.T, r netstate.Rule) *netstate.Rule {
	z := netstate.Rule{}
	for i, leave := range []func(){
		func() { r.From = z.From }, func() { r.To = z.To }, func() { r.IIF = z.IIF }, func() { r.OIF = z.OIF },
		func() { r.Mark = z.Mark }, func() { r.Proto = z.Proto }, func() { r.SPort = z.SPort }, func() { r.DPort = z.DPort },
		func() { r.TOS = z.TOS }, func() { r.DSCP = z.DSCP }, func() { r.UID = z.UID }, func() { r.TunID = z.TunID },
		func() { r.Realms = z.Realms }, func() { r.SuppressIfGroup = z.SuppressIfGroup },
		func() { r.SuppressPrefixLength = z.SuppressPrefixLength }, func() { r.Protocol = z.Protocol }, func() { r.Not = !r.Not },
	} {
		if rapid.IntRange(0, 9).Draw(t, "leave out "+string(rune('a'+i))) == 9 {
			leave()
		}
	}
	return &r
}

func lessRoute(t *rapid.T, r netstate.Route) *netstate.Route {
	for i, leave := range []func(){
		func() { r.Src = netstate.Route{}.Src }, func() { r.MTU, r.MTULock = 0, false }, func() { r.AdvMSS = 0 },
		func() { r.Hop.Via = netstate.Hop{}.Via }, func() { r.Hop.Dev = "" }, func() { r.Protocol = 0 }, func() { r.Metric = 0 },
		func() { r.From = netstate.Route{}.From },
	} {
		if rapid.IntRange(0, 9).Draw(t, "leave out "+string(rune('a'+i))) == 9 {
			leave()
		}
	}
	return &r
}

func nexthop() *rapid.Generator[netstate.Nexthop] {
	texts := []string{
		"nexthop 1 via 10.1.0.9 dev v0 proto 118", "nexthop 1 dev v1", "nexthop 2 via 10.2.0.9 dev v1 onlink", "nexthop 2 blackhole",
		"nexthop -6 3 via 2001:db8:1::9 dev v0 proto 99", "nexthop -6 3 via fe80::9 dev v1", "nexthop -6 1 dev v0",
		"nexthop 4 group 1/2,5", "nexthop 4 group 3 proto 99", "nexthop 4 group 1/3",
	}
	return rapid.Map(rapid.SampledFrom(texts), func(text string) netstate.Nexthop {
		ch, err := netstate.ParseChange("+ " + text)
		if err != nil {
			panic(err) // of a constant
		}
		return *ch.Nexthop
	})
}
