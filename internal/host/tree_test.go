package host_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/viarule/viarule/internal/host"
	"github.com/viarule/viarule/internal/netnstest"
	"github.com/viarule/viarule/internal/netstate"
)

// TestTreeDecidesAsTheList asks the kernel which way packets go, in one namespace
// with a plain list of rules that `ip` made, and in another with the tree that
// the same policies become, again after each of a few random changes. The answers
// must be the same for every source: the bounds of all prefixes, their
// neighbours, and sources that no policy names. Some tables lead nowhere, so that
// a rule falls through; foreign rules stand before and behind.
func TestTreeDecidesAsTheList(t *testing.T) {
	netnstest.New(t, netnstest.Mounts())
	rapid.Check(t, func(rt *rapid.T) {
		freshNetns(t, rt)
		w := treeWorld{rt: rt, family: rapid.SampledFrom(netstate.Families[:]).Draw(rt, "family")}
		w.addLists(t)
		h, err := host.Open(host.Config{})
		if err != nil {
			rt.Fatal(err)
		}
		defer h.Close()
		var policies []policy
		for step := range rapid.IntRange(1, 4).Draw(rt, "steps") {
			before := len(policies)
			policies = w.change(policies)
			w.setList(before, policies)
			if _, err := h.Apply(t.Context(), parse(t, w.text(policies)), host.ApplyOptions{AllowCutOff: true}); err != nil {
				rt.Fatalf("step %d: %v", step, err)
			}
			queries := w.queries(policies)
			want, got := w.ask(queries, listNetns...), w.ask(queries)
			rules := netnstest.Exec(t, "ip", w.flag(), "rule")
			for i := range queries {
				if got[i] != want[i] {
					rt.Fatalf("step %d: %s\nlist: %s\ntree: %s\nrules:\n%s", step, queries[i], want[i], got[i], rules)
				}
			}
			different := map[policy]bool{}
			for _, one := range policies {
				different[one] = true
			}
			if len(different) > 10 && !strings.Contains(rules, "goto") {
				rt.Fatalf("step %d: %d policies, and no tree", step, len(different))
			}
		}
	})
}

// listNetns are the arguments for `ip` to work in the namespace of the list.
var listNetns = []string{"-n", "list"}

type policy struct {
	from  netip.Prefix
	table int
}

type treeWorld struct {
	rt     *rapid.T
	family netstate.Family
}

const treeTables = 5 // of which the last two have no route to where packets go

func (w *treeWorld) flag() string {
	if w.family == netstate.IPv6 {
		return "-6"
	}
	return "-4"
}

// via is a gateway by eth1; to is where the packets go.
func (w *treeWorld) via(n int) string {
	if w.family == netstate.IPv6 {
		return fmt.Sprintf("2001:db8:1::%x", 0x10+n)
	}
	return fmt.Sprintf("10.0.1.%d", 10+n)
}

func (w *treeWorld) to() string {
	if w.family == netstate.IPv6 {
		return "2001:db8:ffff::9"
	}
	return "198.51.100.9"
}

// prefix draws one of a small space, so that many overlap.
func (w *treeWorld) prefix(label string) netip.Prefix {
	bits := rapid.SampledFrom([]int{12, 14, 15, 16, 20, 22, 23, 24, 24, 24}).Draw(w.rt, label+" length")
	x, y := byte(rapid.IntRange(0, 7).Draw(w.rt, label)), byte(rapid.IntRange(0, 255).Draw(w.rt, label))
	if w.family == netstate.IPv6 {
		return netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, 0x0d, 0xb8, 0x80, x, y, 1}), bits+40).Masked()
	}
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 128 | x, y, 1}), bits).Masked()
}

// addLists makes the namespace of the list, and in both tables, a default route
// and foreign rules around the band.
func (w *treeWorld) addLists(t *testing.T) {
	_ = exec.Command("ip", "netns", "del", "list").Run() // there is none the first time
	netnstest.Exec(t, "ip", "netns", "add", "list")
	addrs := []string{"addr add 10.0.0.1/24 dev eth0", "addr add 10.0.1.1/24 dev eth1"}
	if w.family == netstate.IPv6 {
		addrs = []string{"addr add 2001:db8::1/64 dev eth0 nodad", "addr add 2001:db8:1::1/64 dev eth1 nodad"}
	}
	w.batch(append([]string{"link set lo up",
		"link add eth0 type veth peer name peer0", "link add eth1 type veth peer name peer1",
		"link set eth0 up", "link set peer0 up", "link set eth1 up", "link set peer1 up"}, addrs...), listNetns...)
	var lines []string
	for n := range treeTables {
		to := "default"
		if n >= treeTables-2 {
			to = map[netstate.Family]string{netstate.IPv4: "172.16.0.0/12", netstate.IPv6: "fd00::/8"}[w.family]
		}
		lines = append(lines, fmt.Sprintf("route add %s via %s dev eth1 table %d", to, w.via(n), 300+n))
	}
	lines = append(lines, fmt.Sprintf("route add default via %s dev eth1", w.via(20)),
		fmt.Sprintf("route add default via %s dev eth1 table 400", w.via(21)),
		fmt.Sprintf("rule add pref 150 from %s lookup 400", w.prefix("foreign rule before")),
		fmt.Sprintf("rule add pref 3100 from %s lookup 400", w.prefix("foreign rule behind")))
	for _, ns := range [][]string{nil, listNetns} {
		w.batch(lines, ns...)
	}
	for _, key := range []string{"net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.eth0.rp_filter=0"} {
		netnstest.Exec(t, "sysctl", "-qw", key)
		netnstest.Exec(t, "ip", "netns", "exec", "list", "sysctl", "-qw", key)
	}
}

// change draws the policies, or changes some of them.
func (w *treeWorld) change(p []policy) []policy {
	one := func() policy {
		return policy{w.prefix("source"), rapid.IntRange(0, treeTables-1).Draw(w.rt, "table")}
	}
	if len(p) == 0 {
		for range rapid.IntRange(11, 150).Draw(w.rt, "policies") {
			p = append(p, one())
		}
		return p
	}
	p = append([]policy(nil), p...)
	for range rapid.IntRange(1, 6).Draw(w.rt, "changes") {
		at := rapid.IntRange(0, len(p)-1).Draw(w.rt, "at")
		switch rapid.IntRange(0, 2).Draw(w.rt, "change") {
		case 0:
			p = append(p[:at], append([]policy{one()}, p[at:]...)...)
		case 1:
			if len(p) > 12 {
				p = append(p[:at], p[at+1:]...)
			}
		case 2:
			p[at] = one()
		}
	}
	return p
}

func (w *treeWorld) text(p []policy) string {
	var s strings.Builder
	s.WriteString("apiVersion: viarule.io/v1alpha1\nkind: RoutingPolicy\nmetadata: {name: tree}\nspec:\n  rules:\n")
	for _, one := range p {
		fmt.Fprintf(&s, "  - {from: [\"%s\"], table: %d}\n", one.from, 300+one.table)
	}
	return s.String()
}

// setList replaces the plain list in its namespace.
func (w *treeWorld) setList(before int, p []policy) {
	var lines []string
	for i := range before {
		lines = append(lines, fmt.Sprintf("rule del pref %d", 2200+i))
	}
	for i, one := range p {
		lines = append(lines, fmt.Sprintf("rule add pref %d from %s lookup %d", 2200+i, one.from, 300+one.table))
	}
	w.batch(lines, listNetns...)
}

// queries asks for every bound of every prefix, one beyond, and some strangers.
func (w *treeWorld) queries(p []policy) []string {
	var out []string
	add := func(a netip.Addr) {
		if a.IsValid() {
			out = append(out, fmt.Sprintf("route get %s from %s iif eth0", w.to(), a))
		}
	}
	for _, one := range p {
		first, last := one.from.Addr(), netstate.LastOf(one.from)
		for _, a := range []netip.Addr{first.Prev(), first, last, last.Next()} {
			add(a)
		}
	}
	for range 20 {
		add(w.prefix("stranger").Addr().Next())
	}
	return out
}

// ask gives the gateway of each query's answer, or the error.
func (w *treeWorld) ask(queries []string, ns ...string) []string {
	args := append(append([]string{}, ns...), w.flag(), "-force", "-o", "-batch", "-")
	c := exec.Command("ip", args...)
	c.Stdin = strings.NewReader(strings.Join(queries, "\n") + "\n")
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	var exit *exec.ExitError
	if err := c.Run(); err != nil && !errors.As(err, &exit) {
		w.rt.Fatal(err)
	}
	var answers []string
	for line := range strings.Lines(out.String()) {
		_, via, ok := strings.Cut(line, " via ")
		switch {
		case ok:
			via, _, _ = strings.Cut(via, " ")
			answers = append(answers, via)
		case strings.HasPrefix(line, "RTNETLINK answers:"):
			answers = append(answers, strings.TrimSpace(line))
		}
	}
	if len(answers) != len(queries) {
		w.rt.Fatalf("%d answers to %d questions:\n%s", len(answers), len(queries), out.String())
	}
	return answers
}

func (w *treeWorld) batch(lines []string, ns ...string) {
	args := append(append([]string{}, ns...), w.flag(), "-batch", "-")
	c := exec.Command("ip", args...)
	c.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	if out, err := c.CombinedOutput(); err != nil {
		w.rt.Fatalf("ip %v: %v\n%s\n%s", args, err, out, strings.Join(lines, "\n"))
	}
}
