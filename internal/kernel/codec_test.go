package kernel

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/netstate/netstatetest"
)

// codec is how one message type is read and written. Laws hold for all of them;
// a copy of a test cannot test the wrong one.
type codec[T any] struct {
	decode func(d *decoder, v *T, body []byte) (ok bool, err error)
	encode func(b []byte, v *T, links *indexes) ([]byte, error)
	equal  func(a, b *T) bool
	// canonical takes away what a request cannot carry.
	canonical func(v *T)
}

// numbered gives links their numbers as names, both ways.
func numbered() *indexes {
	return newIndexes(func(name string) (int32, error) {
		n, err := strconv.ParseUint(strings.TrimPrefix(name, "if"), 10, 32)
		return int32(uint32(n)), err
	})
}

// again checks that what v is written as is read as v.
func (c codec[T]) again(t interface{ Fatalf(string, ...any) }, v *T) {
	if c.canonical != nil {
		c.canonical(v)
	}
	b, err := c.encode(nil, v, numbered())
	if err != nil {
		return // what cannot be said to the kernel is refused, not changed
	}
	if len(b)%4 != 0 {
		t.Fatalf("%v is written as %d bytes, not a multiple of 4", *v, len(b))
	}
	var w T
	ok, err := c.decode(newDecoder(), &w, b)
	if err != nil || !ok {
		t.Fatalf("%v is written as % x, which reads as %t, %v", *v, b, ok, err)
	}
	if !c.equal(v, &w) {
		t.Fatalf("%v is written as % x\nwhich reads as %v", *v, b, w)
	}
}

// fuzz is the one fuzz target.
func (c codec[T]) fuzz(f *testing.F, seeds [][]byte) {
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var v T
		if ok, err := c.decode(newDecoder(), &v, body); !ok || err != nil {
			return
		}
		_ = fmt.Sprint(v) // text of anything that was read must not panic either
		c.again(t, &v)
	})
}

var ruleCodec = codec[netstate.Rule]{
	decode: func(d *decoder, v *netstate.Rule, b []byte) (bool, error) { return true, d.decodeRule(v, b) },
	encode: func(b []byte, v *netstate.Rule, _ *indexes) ([]byte, error) { return appendRule(b, v) },
	equal:  func(a, b *netstate.Rule) bool { return *a == *b },
}

var routeCodec = codec[netstate.Route]{
	decode: (*decoder).decodeRoute,
	encode: appendRoute,
	equal:  (*netstate.Route).Equal,
	canonical: func(r *netstate.Route) {
		if r.NexthopID != 0 { // a request names the object alone
			r.Hop, r.Hops = netstate.Hop{}, nil
		}
	},
}

var linkCodec = codec[netstate.Link]{
	decode: func(d *decoder, v *netstate.Link, b []byte) (bool, error) {
		var raw rawLink
		if err := decodeLink(&raw, b); err != nil {
			return false, err
		}
		raw.elsewhere = false // a request cannot say so
		*v = d.settleLinks([]rawLink{raw})[0]
		if raw.master != 0 {
			v.Master = "if" + strconv.Itoa(int(uint32(raw.master)))
		}
		if raw.parent != 0 {
			v.Parent = "if" + strconv.Itoa(int(uint32(raw.parent)))
		}
		return true, nil
	},
	encode: func(b []byte, v *netstate.Link, links *indexes) ([]byte, error) {
		spec := LinkSpec{Kind: v.Kind, VLAN: v.VLAN, VRFTable: v.VRFTable, Peer: "peer"}
		if v.Kind == "" {
			return appendLink(b, v, links, nil)
		}
		data, done, err := kindData(&spec)
		if err != nil {
			return b, err
		}
		defer done()
		return appendLink(b, v, links, data)
	},
	equal: func(a, b *netstate.Link) bool { return a.String() == b.String() },
	canonical: func(l *netstate.Link) {
		l.Carrier, l.Loopback, l.Alias, l.AltNames = false, false, "", nil
		if _, err := hardwareAddress(l.MAC); err != nil || strings.Contains(l.MAC, ".") || strings.Count(l.MAC, ":") == 7 {
			l.MAC = "" // an IP tunnel's: its printed form depends on the hardware type
		}
	},
}

var addrCodec = codec[netstate.Addr]{
	decode: func(d *decoder, v *netstate.Addr, b []byte) (bool, error) { return true, d.decodeAddr(v, b) },
	encode: appendAddr,
	equal:  func(a, b *netstate.Addr) bool { return *a == *b },
}

var nexthopCodec = codec[netstate.Nexthop]{
	decode: func(d *decoder, v *netstate.Nexthop, b []byte) (bool, error) { return true, d.decodeNexthop(v, b) },
	encode: appendNexthop,
	equal:  func(a, b *netstate.Nexthop) bool { return a.String() == b.String() },
	canonical: func(n *netstate.Nexthop) {
		if n.Blackhole {
			n.Hop.Dev = ""
		}
	},
}

func FuzzRule(f *testing.F)    { ruleCodec.fuzz(f, seeds(f, "rule")) }
func FuzzRoute(f *testing.F)   { routeCodec.fuzz(f, seeds(f, "route")) }
func FuzzLink(f *testing.F)    { linkCodec.fuzz(f, seeds(f, "link")) }
func FuzzAddr(f *testing.F)    { addrCodec.fuzz(f, seeds(f, "addr")) }
func FuzzNexthop(f *testing.F) { nexthopCodec.fuzz(f, seeds(f, "nexthop")) }

func TestRuleIsReadAsWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := netstatetest.Rule(netstatetest.RuleOptions{}).Draw(t, "rule")
		ruleCodec.again(t, &v)
	})
}

func TestRouteIsReadAsWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := netstatetest.Route().Draw(t, "route")
		v.Hop = canonicalHop(v.Hop, 0x15)
		for i := range v.Hops {
			v.Hops[i].Dev = numberedDev(v.Hops[i].Dev)
		}
		routeCodec.again(t, &v)
	})
}

func TestNexthopIsReadAsWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := netstatetest.Nexthop().Draw(t, "nexthop")
		v.Hop = canonicalHop(v.Hop, 0x07)
		nexthopCodec.again(t, &v)
	})
}

// canonicalHop makes an only next hop one that a kernel could give: of what
// belongs to it and has no field there is just encapsulation.
func canonicalHop(h netstate.Hop, encapType uint16) netstate.Hop {
	h.Dev = numberedDev(h.Dev)
	if h.Unknown != "" {
		h.Unknown = string(putU16(nil, encapType, 2))
	}
	return h
}

// numberedDev gives any name a number's.
func numberedDev(name string) string {
	if name == "" {
		return ""
	}
	return "if" + strconv.Itoa(len(name)+1)
}
