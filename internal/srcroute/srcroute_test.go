package srcroute_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/netstate/netstatetest"
	"github.com/viarule/viarule/internal/spec"
	"github.com/viarule/viarule/internal/specjson"
	"github.com/viarule/viarule/internal/srcroute"
)

// A test's attachment is the interface net1. Its addresses are written as
// "ADDRESS/BITS GATEWAY, ...", where the gateway may be missing.
func attachment(t testing.TB, text string) *srcroute.Attachment {
	t.Helper()
	a := &srcroute.Attachment{Dev: "net1"}
	for part := range strings.SplitSeq(text, ",") {
		words := strings.Fields(part)
		x := srcroute.Address{Prefix: netip.MustParsePrefix(words[0])}
		if len(words) > 1 {
			x.Gateway = netip.MustParseAddr(words[1])
		}
		a.Addrs = append(a.Addrs, x)
	}
	return a
}

// facts are those of a namespace whose table main has the routes of text. Each address
// of the attachment may be a source, unless the text says that it is tentative.
func facts(t testing.TB, c *srcroute.Config, a *srcroute.Attachment, text string) *srcroute.Facts {
	t.Helper()
	s := netstatetest.ParseState(t, text)
	f := &srcroute.Facts{Priority: [2]uint32{32765, 32765}, Main: s.Routes, Sources: map[netip.Addr]bool{}}
	first := srcroute.FirstTable
	if c.Own {
		first = srcroute.FirstOwnTable
	}
	for i := range c.Fills(a, nil) {
		f.Free = append(f.Free, first+uint32(i))
	}
	for _, x := range a.Addrs {
		f.Sources[x.Prefix.Addr()] = true
	}
	for _, x := range s.Addrs {
		f.Sources[x.Prefix.Addr()] = x.Flags&0x40 == 0
	}
	return f
}

// wantText is a Want as text: routes and rules as they are, what becomes of main and of
// sysctls as changes.
func wantText(w *srcroute.Want) string {
	var b strings.Builder
	for i := range w.Routes {
		fmt.Fprintln(&b, w.Routes[i].Format(nil))
	}
	for i := range w.Rules {
		fmt.Fprintln(&b, w.Rules[i].Format(nil))
	}
	for _, e := range w.Main {
		switch {
		case e.Old == nil:
			fmt.Fprintln(&b, "+", e.New.Format(nil))
		case e.New == nil:
			fmt.Fprintln(&b, "-", e.Old.Format(nil))
		default:
			fmt.Fprintln(&b, "-", e.Old.Format(nil))
			fmt.Fprintln(&b, "~", e.New.Format(nil))
		}
	}
	for _, x := range w.Sysctls {
		fmt.Fprintln(&b, x)
	}
	return b.String()
}

func lines(s string) string {
	var b strings.Builder
	for l := range strings.Lines(s) {
		if l = strings.TrimSpace(l); l != "" {
			b.WriteString(l + "\n")
		}
	}
	return b.String()
}

// A scenario is a configuration, an attachment, and main's routes by it; and what shall
// be made of them.
type scenario struct {
	name          string
	config        srcroute.Config
	rules, routes string // JSON
	addrs         string
	main          string
	want          string
	err           string
}

func (s *scenario) run(t *testing.T) {
	t.Helper()
	t.Run(s.name, func(t *testing.T) {
		c := s.config
		c.Rules, c.Routes = parseRules(t, s.rules), parseRoutes(t, s.routes)
		a := attachment(t, s.addrs)
		f := facts(t, &c, a, s.main)
		before := fmt.Sprint(f.Main)
		w, err := srcroute.Build(&c, a, f)
		if s.err != "" {
			if err == nil || err.Error() != s.err {
				t.Fatalf("error %v\n want %s", err, s.err)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if got, want := wantText(w), lines(s.want); got != want {
			t.Errorf("made:\n%s\nwant:\n%s", got, want)
		}
		if fmt.Sprint(f.Main) != before {
			t.Error("Build changed its facts")
		}
		// Tables are named once each, in the addresses' order.
		var tables []uint32
		if c.Table == 0 {
			tables = slices.Clone(f.Free)
		}
		if !slices.Equal(w.Tables, tables) {
			t.Errorf("tables %d, want %d", w.Tables, tables)
		}
		for _, r := range w.Routes {
			if r.Protocol != netstate.ProtocolCNI {
				t.Errorf("without our mark: %s", r)
			}
		}
	})
}

// What a bridge plugin makes of 10.1.0.5/24 and 2001:db8:1::5/64 with gateways.
const (
	both = "10.1.0.5/24 10.1.0.1, 2001:db8:1::5/64 2001:db8:1::1"
	main = `
route 10.1.0.0/24 dev net1 table main proto kernel scope link src 10.1.0.5
route default via 10.1.0.1 dev net1 table main
route -6 2001:db8:1::/64 dev net1 table main metric 256 proto kernel
route -6 fe80::/64 dev net1 table main metric 256 proto kernel
route -6 default via 2001:db8:1::1 dev net1 table main metric 1024
`
)

func addrs(texts ...string) (all []netip.Addr) {
	for _, x := range texts {
		all = append(all, netip.MustParseAddr(x))
	}
	return all
}

func keysOf(routes []netstate.Route) map[netstate.RouteKey]bool {
	keys := map[netstate.RouteKey]bool{}
	for i := range routes {
		keys[routes[i].Key()] = true
	}
	return keys
}

func parseRules(t testing.TB, text string) []spec.Rule {
	t.Helper()
	if text == "" {
		return nil
	}
	list, problems := specjson.Rules("rules", []byte(text))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return list
}

func parseRoutes(t testing.TB, text string) []spec.Route {
	t.Helper()
	if text == "" {
		return nil
	}
	list, problems := specjson.Routes("routes", []byte(text))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return list
}
