package fib_test

import (
	"testing"

	"github.com/viarule/viarule/internal/fib"
	"github.com/viarule/viarule/internal/netnstest"
)

// TestRefusedRouteHidesAnother holds a limit that doc.go names: after IPv6 has refused
// a source-specific route that is there already, it does not find that one any more
// where a longer prefix has one as well.
func TestRefusedRouteHidesAnother(t *testing.T) {
	w := newWorld(t)
	const throw = "-6 route add throw 2001:db8::/32 from 2001:db8::/32 table 100"
	netnstest.IP(t, "-6 rule add pref 10 lookup 100", "-6 rule add pref 11 blackhole",
		"-6 route add default dev e3 table 100", throw, "-6 route add throw 2001:db8:4::/48 from 2001:db8::/32 table 100")
	s := w.snapshot()
	w.oracle.links(s.Links)
	flow := parseFlow(t, "to 2001:db8:1::3 from 2001:db8:3::9")
	if d := fib.New(&s).Lookup(flow); d.Verdict != fib.Blackhole {
		t.Errorf("%s", describe(&d))
	}
	if got := w.kernelSays(flow); got != "invalid argument" {
		t.Errorf("the kernel says %s", got)
	}
	w.batch(throw[len("-6 "):])
	if now := w.snapshot(); now.String() != s.String() {
		t.Error("the refused route changed the state")
	}
	if got := w.kernelSays(flow); got == "invalid argument" {
		t.Error("this kernel still finds the route: doc.go says too much")
	}
}
