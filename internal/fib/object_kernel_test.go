package fib_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/fib"
	"github.com/viarule/viarule/internal/netnstest"
)

// sharing is a case of TestRoutesShareANextHopObject.
type sharing struct {
	name  string
	lines []string // of ip
	flow  string   // whose answer depends on what was asked before
	// other are flows by another route with the same next hop object.
	other []string
	own   string // the kernel's answer where the flow came first
	given string // and where the others came first
	why   string // our decision's
	// sure are flows that are not concerned.
	sure []string
	// socket: a socket gets the source that RTM_GETROUTE tells.
	socket bool
}

// On both links are addresses of all scopes; e1 is left out, where they are
// tentative.
var sharingAddrs = []string{
	"addr add 169.254.0.1/16 dev e0 scope link", "addr add 10.200.0.1/24 dev e0", "addr add 10.202.0.1/24 dev e2",
	"addr add 2001:db8:e0::1/64 dev e0 nodad", "addr add 2001:db8:e0::2/128 dev e0 nodad valid_lft forever preferred_lft 0", "addr add 2001:db8:e2::1/64 dev e2 nodad",
}

var viaGroup = []string{
	"to 2001:db8:b::1", "to 2001:db8:b::2", "to 2001:db8:b::3", "to 2001:db8:b::4", "to 2001:db8:b::5", "to 2001:db8:b::6",
	"to 2001:db8:b::7", "to 2001:db8:b::8", "to 2001:db8:b::9", "to 2001:db8:b::a", "to 2001:db8:b::b", "to 2001:db8:b::c",
}

var sharings = []sharing{
	{
		name:   "the first link of a group gives an IPv6 source",
		lines:  []string{"-6 nexthop add id 5 via fe80::9 dev e2", "-6 nexthop add id 6 dev e0", "nexthop add id 8 group 5/6", "-6 route add 2001:db8:a::/48 nhid 6", "-6 route add 2001:db8:b::/48 nhid 8"},
		flow:   "to 2001:db8:a::1",
		other:  viaGroup,
		own:    "unicast e0 2001:db8:e0::1",
		given:  "unicast e0 2001:db8:e2::1",
		why:    "next hop object 6 is shared with the unicast route 2001:db8:b::/48 of table 254, and the first of them that was used gives both the source: 2001:db8:e0::1 or 2001:db8:e2::1",
		sure:   []string{"to 2001:db8:a::1 from 2001:db8:e0::1", "to 2001:db8:a::1 from 2001:db8:9::9 iif e2"},
		socket: true,
	},
	{
		name:   "the source of an IPv6 route",
		lines:  []string{"-6 nexthop add id 6 dev e0", "-6 route add 2001:db8:a::/48 nhid 6", "-6 route add 2001:db8:b::/48 nhid 6 src 2001:db8:e0::2"},
		flow:   "to 2001:db8:a::1",
		other:  []string{"to 2001:db8:b::1"},
		own:    "unicast e0 2001:db8:e0::1",
		given:  "unicast e0 2001:db8:e0::2",
		why:    "next hop object 6 is shared with the unicast route 2001:db8:b::/48 of table 254, and the first of them that was used gives both the source: 2001:db8:e0::1 or 2001:db8:e0::2",
		sure:   []string{"to 2001:db8:a::1 from 2001:db8:e0::1", "to 2001:db8:a::1 from 2001:db8:9::9 iif e2"},
		socket: true,
	},
	{
		name:  "an IPv6 route that is local",
		lines: []string{"-6 nexthop add id 6 dev e0", "-6 route add 2001:db8:a::/48 nhid 6", "-6 route add local 2001:db8:b::/48 nhid 6"},
		flow:  "to 2001:db8:a::1",
		other: []string{"to 2001:db8:b::1"},
		own:   "unicast e0 2001:db8:e0::1",
		given: "local lo 2001:db8:e0::1",
		why:   "next hop object 6 is shared with the local route 2001:db8:b::/48 of table 255, and the first of them that was used decides for both",
	},
	{
		name:  "an IPv6 route that is local, of packets that came in",
		lines: []string{"-6 nexthop add id 6 dev e0", "-6 route add 2001:db8:a::/48 nhid 6", "-6 route add local 2001:db8:b::/48 nhid 6"},
		flow:  "to 2001:db8:b::1 from 2001:db8:9::9 iif e2",
		other: []string{"to 2001:db8:a::1"},
		own:   "local lo invalid IP",
		given: "unicast e0 invalid IP",
		why:   "next hop object 6 is shared with the unicast route 2001:db8:a::/48 of table 254, and the first of them that was used decides for both",
	},
	{
		name:  "an IPv6 route that is anycast, and one that is local",
		lines: []string{"-6 nexthop add id 6 dev e0", "-6 route add local 2001:db8:a::/48 nhid 6", "-6 route add anycast 2001:db8:b::/48 nhid 6"},
		flow:  "to 2001:db8:a::1",
		other: []string{"to 2001:db8:b::1"},
		own:   "local lo 2001:db8:e0::1",
		given: "anycast e0 2001:db8:e0::1",
		why:   "next hop object 6 is shared with the anycast route 2001:db8:b::/48 of table 255, and the first of them that was used decides for both",
	},
	{
		name:  "an IPv6 route that is unreachable",
		lines: []string{"-6 nexthop add id 6 dev e0", "-6 route add 2001:db8:a::/48 nhid 6", "-6 route add unreachable 2001:db8:b::/48 nhid 6"},
		flow:  "to 2001:db8:a::1",
		other: []string{"to 2001:db8:b::1"},
		own:   "unicast e0 2001:db8:e0::1",
		given: "no route to host",
		why:   "next hop object 6 is shared with the unreachable route 2001:db8:b::/48 of table 254, and the first of them that was used decides for both",
	},
	{
		name:  "an unreachable IPv6 route does not hold",
		lines: []string{"-6 nexthop add id 6 dev e0", "-6 route add 2001:db8:a::/48 nhid 6", "-6 route add unreachable 2001:db8:b::/48 nhid 6"},
		flow:  "to 2001:db8:b::1",
		other: []string{"to 2001:db8:a::1"},
		own:   "no route to host",
		given: "unicast e0 2001:db8:e0::1",
		why:   "next hop object 6 is shared with the unicast route 2001:db8:a::/48 of table 254, and the first of them that was used decides for both",
	},
	{
		name: "an IPv6 route that is throw",
		lines: []string{"-6 nexthop add id 6 dev e0", "-6 route add 2001:db8:a::/48 nhid 6 table 100", "-6 route add 2001:db8:a::/48 dev e2 proto 118", "-6 route add throw 2001:db8:b::/48 nhid 6 table 100",
			"-6 rule add pref 10 lookup 100 protocol 118"},
		flow:  "to 2001:db8:a::1",
		other: []string{"to 2001:db8:b::1"},
		own:   "unicast e0 2001:db8:e0::1",
		given: "unicast e2 2001:db8:e2::1",
		why:   "next hop object 6 is shared with the throw route 2001:db8:b::/48 of table 100, and the first of them that was used decides for both",
	},
	{
		name: "the length of an IPv6 prefix, for a suppressor",
		lines: []string{"-6 nexthop add id 6 dev e0", "-6 route add 2001:db8:a::/56 nhid 6 table 100", "-6 route add 2001:db8:a::/48 dev e2 proto 118", "-6 route add 2001:db8:b::/48 nhid 6",
			"-6 rule add pref 10 lookup 100 suppress_prefixlength 48 protocol 118"},
		flow:  "to 2001:db8:a::1",
		other: []string{"to 2001:db8:b::1"},
		own:   "unicast e0 2001:db8:e0::1",
		given: "unicast e2 2001:db8:e2::1",
		why:   "next hop object 6 is shared with the unicast route 2001:db8:b::/48 of table 254, and the first of them that was used decides whether rule 10 suppresses both",
	},
	{
		name:   "the scope of an IPv4 route",
		lines:  []string{"nexthop add id 1 dev e0", "route add 10.50.0.0/16 nhid 1 scope global", "route add 10.51.0.0/16 nhid 1 scope link", "addr add 127.9.9.8/32 dev lo"},
		flow:   "to 10.50.0.1",
		other:  []string{"to 10.51.0.1"},
		own:    "unicast e0 10.200.0.1",
		given:  "unicast e0 169.254.0.1",
		why:    "next hop object 1 is shared with the unicast route 10.51.0.0/16 of table 254, and the first of them that was used gives both the source: 10.200.0.1 or 169.254.0.1",
		sure:   []string{"to 10.50.0.1 from 10.200.0.1", "to 10.50.0.1 from 10.9.9.9 iif e2"},
		socket: true,
	},
	{
		name:  "an IPv4 route that is local, of packets that came in",
		lines: []string{"nexthop add id 1 dev e2", "route add 10.50.0.0/16 nhid 1", "route add local 10.51.0.0/16 nhid 1"},
		flow:  "to 10.50.0.1 from 10.9.9.9 iif e0",
		other: []string{"to 10.51.0.1 from 10.9.9.9 iif e0"},
		own:   "unicast e2 invalid IP",
		given: "local lo invalid IP",
		why:   "next hop object 1 is shared with the local route 10.51.0.0/16 of table 255, and the first of them that was used decides for both",
		sure:  []string{"to 10.50.0.1", "to 10.51.0.1"},
	},
	{
		name:  "an IPv4 route that is unicast, of packets that came in",
		lines: []string{"nexthop add id 1 dev e2", "route add 10.50.0.0/16 nhid 1", "route add broadcast 10.51.0.0/16 nhid 1"},
		flow:  "to 10.51.0.1 from 10.9.9.9 iif e0",
		other: []string{"to 10.50.0.1 from 10.9.9.9 iif e0"},
		own:   "broadcast lo invalid IP",
		given: "unicast e2 invalid IP",
		why:   "next hop object 1 is shared with the unicast route 10.50.0.0/16 of table 254, and the first of them that was used decides for both",
	},
	{
		name:  "an IPv4 route that is multicast",
		lines: []string{"nexthop add id 1 dev e2", "route add 10.50.0.0/16 nhid 1", "route add multicast 10.51.0.0/16 nhid 1"},
		flow:  "to 10.50.0.1",
		other: []string{"to 10.51.0.1"},
		own:   "unicast e2 10.202.0.1",
		given: "multicast e2 10.202.0.1",
		why:   "next hop object 1 is shared with the multicast route 10.51.0.0/16 of table 254, and the first of them that was used decides for both",
		sure:  []string{"to 10.50.0.1 from 10.9.9.9 iif e0", "to 10.51.0.1 from 10.9.9.9 iif e0"},
	},
	{
		name:  "IPv4 routes of lo",
		lines: []string{"nexthop add id 1 dev lo", "route add 10.50.0.0/16 nhid 1", "route add local 10.51.0.0/16 nhid 1"},
		flow:  "to 10.50.0.1 from 10.200.0.1",
		other: []string{"to 10.51.0.1 from 10.200.0.1"},
		own:   "unicast lo invalid IP",
		given: "local lo invalid IP",
		why:   "next hop object 1 is shared with the local route 10.51.0.0/16 of table 255, and the first of them that was used decides for both",
	},
}

// TestRoutesShareANextHopObject holds that what is Unknown for the sake of a next
// hop object does depend on what was asked before.
func TestRoutesShareANextHopObject(t *testing.T) {
	w := newWorld(t)
	oneProcessor(t)
	for _, c := range sharings {
		w.reset()
		w.batch(append([]string{"addr flush dev e0", "addr flush dev e2", "addr add fe80::1/64 dev e0 nodad", "addr add fe80::3/64 dev e2 nodad"}, sharingAddrs...)...)
		netnstest.IP(t, c.lines...)
		s := w.snapshot()
		w.oracle.links(s.Links)
		flow := parseFlow(t, c.flow)
		if got := w.kernelSays(flow); got != c.own {
			t.Errorf("%s: %s: at first the kernel says %s, want %s", c.name, c.flow, got, c.own)
		}
		w.forget()
		for _, other := range c.other {
			w.kernelSays(parseFlow(t, other))
		}
		if got := w.kernelSays(flow); got != c.given {
			t.Errorf("%s: %s: after others the kernel says %s, want %s", c.name, c.flow, got, c.given)
		}
		if c.socket {
			if got := socketSource(t, flow); !strings.HasSuffix(c.given, " "+got.String()) {
				t.Errorf("%s: a socket gets %s, want the source of %s", c.name, got, c.given)
			}
		}
		f := fib.New(&s)
		if d := f.Lookup(flow); d.Verdict != fib.Unknown || d.Why != c.why {
			t.Errorf("%s: %s:\n got %s\nwant %s", c.name, c.flow, describe(&d), c.why)
		}
		for _, text := range c.sure {
			if d := f.Lookup(parseFlow(t, text)); d.Verdict == fib.Unknown {
				t.Errorf("%s: %s: %s", c.name, text, describe(&d))
			}
		}
	}
}

// TestNextHopObjectKeepsItsFirstSource: until an address changes, the source is the
// one that an IPv4 object got when it was made. By a gateway no address of the scope
// link is that, as for a route by one.
func TestNextHopObjectKeepsItsFirstSource(t *testing.T) {
	if !atLeast(t, 5, 19) {
		t.Skip("objects chose sources of another scope")
	}
	w := newWorld(t)
	w.batch(sharingAddrs...)
	netnstest.IP(t, "nexthop add id 1 dev e0", "route add 10.50.0.0/16 nhid 1",
		"nexthop add id 2 via 169.254.0.9 dev e0 onlink", "route add 10.51.0.0/16 nhid 2")
	s := w.snapshot()
	f := fib.New(&s)
	for _, c := range []struct{ to, first, want string }{
		{"10.50.0.1", "169.254.0.1", "next hop object 1 may still give the source that it got when it was made: 10.200.0.1 or 169.254.0.1"},
		{"10.51.0.1", "10.200.0.1", ""},
	} {
		flow := fib.Flow{To: netip.MustParseAddr(c.to)}
		if got := socketSource(t, flow).String(); got != c.first {
			t.Errorf("to %s a socket gets %s, want %s", c.to, got, c.first)
		}
		if d := f.Lookup(flow); d.Why != c.want || (d.Verdict == fib.Unknown) != (c.want != "") {
			t.Errorf("to %s: %s, want %q", c.to, describe(&d), c.want)
		}
	}
	w.forget()
	for _, to := range []string{"10.50.0.1", "10.51.0.1"} {
		if got := socketSource(t, fib.Flow{To: netip.MustParseAddr(to)}).String(); got != "10.200.0.1" {
			t.Errorf("after a change of addresses a socket gets %s to %s", got, to)
		}
	}
}

// oneProcessor keeps the test on one processor, since the kernel keeps some answers
// for each.
func oneProcessor(t *testing.T) {
	t.Helper()
	var all, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		t.Fatal(err)
	}
	for i := range 1024 {
		if all.IsSet(i) {
			one.Set(i)
			break
		}
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.SchedSetaffinity(0, &all) })
}

// forget makes the kernel forget what it kept with next hops.
func (w *world) forget() {
	w.batch("addr add 127.9.9.9/32 dev lo", "addr del 127.9.9.9/32 dev lo", "addr add 2001:db8:99::1/128 dev e3 nodad", "addr del 2001:db8:99::1/128 dev e3",
		"route add 10.99.0.0/16 dev e3", "route del 10.99.0.0/16", "route add 2001:db8:99::/48 dev e3", "route del 2001:db8:99::/48")
}

// kernelSays asks what becomes of a packet.
func (w *world) kernelSays(flow fib.Flow) string {
	w.t.Helper()
	replies, err := w.oracle.ask([]fib.Flow{flow})
	if err != nil {
		w.t.Fatal(err)
	}
	got := replies[0].packet
	if got.err != 0 {
		return got.err.Error()
	}
	return fmt.Sprintf("%s %s %s", got.typ, got.dev, got.src)
}
