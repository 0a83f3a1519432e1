package host_test

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/viarule/viarule/internal/host"
	"github.com/viarule/viarule/internal/kernel"
	"github.com/viarule/viarule/internal/netnstest"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/netstate/netstatetest"
)

// TestForeignObjectsStay applies, changes and deletes random policies among
// random foreign rules and routes, some at our priorities and in our tables,
// some with attributes that viarule does not know. What is foreign must stay
// byte for byte, as the kernel itself encodes it, and rules in their order.
func TestForeignObjectsStay(t *testing.T) {
	netnstest.New(t, netnstest.Mounts())
	rapid.Check(t, func(rt *rapid.T) {
		freshNetns(t, rt)
		k, err := kernel.Open("")
		if err != nil {
			rt.Fatal(err)
		}
		defer k.Close()
		added := addForeign(rt, t, k)
		before := foreign(rt)
		h, err := host.Open(host.Config{})
		if err != nil {
			rt.Fatal(err)
		}
		defer h.Close()
		for step := range rapid.IntRange(1, 3).Draw(rt, "steps") {
			text := policyText(rt)
			_, err := h.Apply(t.Context(), parse(t, text), host.ApplyOptions{AllowCutOff: true})
			if diff := difference(before, foreign(rt)); diff != "" {
				rt.Fatalf("step %d: apply (%v) changed what is foreign:\n%s\npolicy:\n%s\nforeign objects: %d", step, err, diff, text, added)
			}
		}
		if _, err := h.Delete(t.Context(), nil, host.DeleteOptions{All: true, AllowCutOff: true}); err != nil {
			rt.Fatalf("delete --all: %v", err)
		}
		after := dump(rt)
		if diff := difference(before, after); diff != "" {
			rt.Fatalf("after delete --all:\n%s", diff)
		}
	})
}

// freshNetns moves the test to a new namespace with eth0 and eth1, and forgets
// the records of earlier ones.
func freshNetns(t *testing.T, rt *rapid.T) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		rt.Fatal(err)
	}
	if err := os.RemoveAll("/run/viarule"); err != nil {
		rt.Fatal(err)
	}
	lines := []string{"link set lo up", "link add eth0 type veth peer name peer0", "link add eth1 type veth peer name peer1"}
	for _, l := range []string{"eth0", "eth1", "peer0", "peer1"} {
		// Addresses and routes that come up by themselves would be taken for
		// changes of ours.
		lines = append(lines, "link set "+l+" addrgenmode none", "link set "+l+" up")
	}
	netnstest.IP(t, append(lines,
		"addr add 10.0.0.1/24 dev eth0", "addr add 10.0.1.1/24 dev eth1",
		"addr add 2001:db8::1/64 dev eth0 nodad", "addr add 2001:db8:1::1/64 dev eth1 nodad")...)
	// The kernel adds these routes when it notices that the links have a carrier.
	for end := time.Now().Add(10 * time.Second); ; {
		local := netnstest.Exec(t, "ip", "-6", "route", "show", "table", "local")
		if strings.Count(local, "ff00::/8") == 4 && strings.Contains(local, "2001:db8::1 ") && strings.Contains(local, "2001:db8:1::1 ") {
			return
		}
		if time.Now().After(end) {
			rt.Fatalf("the links did not come up:\n%s", local)
		}
	}
}

// addForeign adds random objects of others, as many as the kernel takes.
func addForeign(rt *rapid.T, t *testing.T, k *kernel.Conn) int {
	protocols := rapid.SampledFrom([]uint8{0, 3, 4, 11, 99, 119, 186})
	var changes []netstate.Change
	for range rapid.IntRange(0, 12).Draw(rt, "foreign rules") {
		r := netstatetest.Rule(netstatetest.RuleOptions{}).Draw(rt, "rule")
		r.Protocol = protocols.Draw(rt, "protocol")
		r.Priority = rapid.SampledFrom([]uint32{100, 300, 301, 2205, 2210, 2215, 2220, 2500, 3000}).Draw(rt, "priority")
		if r.Action == netstate.Goto {
			r.Goto = r.Priority + 1000
		}
		changes = append(changes, netstate.Change{Verb: netstate.Add, Rule: &r})
	}
	for range rapid.IntRange(0, 8).Draw(rt, "foreign routes") {
		v6 := rapid.Bool().Draw(rt, "IPv6")
		r := netstate.Route{Family: netstate.IPv4, Hop: netstate.Hop{Dev: rapid.SampledFrom([]string{"eth0", "eth1"}).Draw(rt, "dev")}}
		if v6 {
			r.Family = netstate.IPv6
		}
		r.To = netstatetest.Prefix(r.Family, 8).Draw(rt, "to")
		r.Type, r.Protocol = netstate.RouteUnicast, protocols.Draw(rt, "protocol")
		r.Table = rapid.SampledFrom([]uint32{77, 200, 254, 5000}).Draw(rt, "table")
		r.Metric = rapid.SampledFrom([]uint32{0, 5, 1024}).Draw(rt, "metric")
		r = netstate.CanonicalRoute(r)
		changes = append(changes, netstate.Change{Verb: netstate.Add, Route: &r})
	}
	n := 0
	for i := range changes {
		if _, failed := k.Apply(t.Context(), changes[i:i+1]); len(failed) == 0 {
			n++
		}
	}
	return n
}

// policyText draws a RoutingPolicy: a few tables, one of them shared with the
// foreign routes, single rules, and at times a run that becomes a tree.
func policyText(rt *rapid.T) string {
	var s strings.Builder
	s.WriteString("apiVersion: viarule.io/v1alpha1\nkind: RoutingPolicy\nmetadata: {name: random}\nspec:\n  tables:\n")
	tables := []string{"shared", "own"}
	for i, name := range tables {
		id := ""
		if name == "shared" {
			id = ", id: 200"
		}
		fmt.Fprintf(&s, "  - {name: %s%s, routes: [{to: 10.%d.0.0/16, dev: eth0}, {to: 0.0.0.0/0, via: 10.0.%d.9}, {to: \"::/0\", via: \"2001:db8:%d::9\", metric: %d}]}\n",
			name, id, 50+i, i, i, rapid.SampledFrom([]int{5, 6, 7}).Draw(rt, "metric"))
	}
	s.WriteString("  rules:\n")
	pick := rapid.SampledFrom(tables)
	prio := rapid.SampledFrom([]string{"", "", ", priority: 300", ", priority: 2210", ", priority: 2500"})
	for range rapid.IntRange(1, 6).Draw(rt, "rules") {
		selector := rapid.SampledFrom([]string{"from: [10.1.0.0/16]", "from: [\"2001:db8:50::/48\"]", "to: [10.2.0.0/24, \"2001:db8:60::/64\"]",
			"fwmark: 0x10/0xff", "iif: eth1", "from: [10.3.0.0/24], ipproto: tcp, dport: 80", "not: true, from: [10.0.0.0/8]"}).Draw(rt, "selector")
		fmt.Fprintf(&s, "  - {%s%s, table: %s}\n", selector, prio.Draw(rt, "priority"), pick.Draw(rt, "table"))
	}
	if rapid.Bool().Draw(rt, "tree") {
		for i := range rapid.IntRange(11, 80).Draw(rt, "sources") {
			fmt.Fprintf(&s, "  - {from: [10.9.%d.%d], table: %s}\n", i%7, i, pick.Draw(rt, "table"))
		}
	}
	return s.String()
}

// message is one object as the kernel encodes it.
type message struct {
	kind string
	data []byte
	ours bool
}

// foreign is dump without what bears our mark.
func foreign(rt *rapid.T) []message {
	return slices.DeleteFunc(dump(rt), func(m message) bool { return m.ours })
}

// dump reads rules and routes past the code under test.
func dump(rt *rapid.T) []message {
	var out []message
	for _, kind := range []struct {
		name      string
		get, want int
	}{{"rule", unix.RTM_GETRULE, unix.RTM_NEWRULE}, {"route", unix.RTM_GETROUTE, unix.RTM_NEWROUTE}} {
		for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
			raw, err := syscall.NetlinkRIB(kind.get, family)
			if err != nil {
				rt.Fatal(err)
			}
			list, err := syscall.ParseNetlinkMessage(raw)
			if err != nil {
				rt.Fatal(err)
			}
			var of []message
			for _, m := range list {
				if int(m.Header.Type) == kind.want {
					of = append(of, decode(kind.name, m.Data))
				}
			}
			if kind.name == "route" { // their order means nothing
				slices.SortFunc(of, func(a, b message) int { return bytes.Compare(a.data, b.data) })
			}
			out = append(out, of...)
		}
	}
	return out
}

// decode finds out whether a message is ours, and leaves out the counters and
// ages that change by themselves (RTA_CACHEINFO).
func decode(kind string, b []byte) message {
	const header = 12 // struct rtmsg, struct fib_rule_hdr
	m := message{kind: kind, data: bytes.Clone(b[:header])}
	if kind == "route" {
		m.ours = b[5] == netstate.ProtocolObject
	}
	for rest := b[header:]; len(rest) >= 4; {
		size, typ := int(binary.NativeEndian.Uint16(rest)), binary.NativeEndian.Uint16(rest[2:])
		if size < 4 || size > len(rest) {
			break
		}
		if kind == "rule" && typ == unix.FRA_PROTOCOL {
			m.ours = rest[4] == netstate.ProtocolObject
		}
		if kind != "route" || typ != unix.RTA_CACHEINFO {
			m.data = append(m.data, rest[:size]...)
		}
		rest = rest[min((size+3)&^3, len(rest)):]
	}
	return m
}

// difference says how two dumps differ; empty: they do not. The flag of a goto
// whose target does not exist (FIB_RULE_UNRESOLVED) follows from other rules.
func difference(a, b []message) string {
	same := func(x, y message) bool {
		return x.kind == y.kind && cmp.Compare(len(x.data), len(y.data)) == 0 && bytes.Equal(settled(x), settled(y))
	}
	if slices.EqualFunc(a, b, same) {
		return ""
	}
	return fmt.Sprintf("%d objects before:\n%s%d objects now:\n%s", len(a), hex(a), len(b), hex(b))
}

func settled(m message) []byte {
	d := bytes.Clone(m.data)
	if m.kind == "rule" {
		const unresolved = 4
		flags := binary.NativeEndian.Uint32(d[8:])
		binary.NativeEndian.PutUint32(d[8:], flags&^unresolved)
	}
	return d
}

func hex(list []message) string {
	var s strings.Builder
	for _, m := range list {
		fmt.Fprintf(&s, "  %s %x\n", m.kind, m.data)
	}
	return s.String()
}
