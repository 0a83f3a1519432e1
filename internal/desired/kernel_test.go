package desired_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/viarule/viarule/internal/desired"
	"github.com/viarule/viarule/internal/kernel"
	"github.com/viarule/viarule/internal/netnstest"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/spec"
)

// TestKernelDecidesAsTheList puts trees into a real kernel, edit after edit, and
// asks it for the way of packets: it must be the one that the plain list gives,
// and what is read back must need no change.
func TestKernelDecidesAsTheList(t *testing.T) {
	for _, fam := range netstate.Families {
		for _, byTo := range []bool{false, true} {
			netnstest.Run(t, fmt.Sprintf("%s to=%v", fam, byTo), func(t *testing.T) {
				kernelHistory(t, fam, byTo)
			})
		}
	}
}

func kernelHistory(t *testing.T, fam netstate.Family, byTo bool) {
	netnstest.IP(t,
		"link add eth0 type veth peer name peer0", "link set eth0 up", "link set peer0 up",
		"link add eth1 type veth peer name peer1", "link set eth1 up", "link set peer1 up",
		"addr add 192.0.2.7/24 dev eth0", "addr add 2001:db8:1::7/64 dev eth0 nodad")
	for _, table := range []int{5000, 5002, 5003, 77, 78, 254} { // 5001 stays empty
		netnstest.IP(t, fmt.Sprintf("route add default dev eth0 table %d", table), fmt.Sprintf("-6 route add default dev eth0 table %d", table))
	}
	netnstest.IP(t,
		"rule add pref 2000 from 10.1.0.0/25 iif eth1 table 77", "rule add pref 5000 to 10.1.1.0/25 table 78",
		"-6 rule add pref 2000 from a01:a:0:a00:7::/121 iif eth1 table 77", "-6 rule add pref 5000 to a01:a:0:a00:7::100/121 table 78")
	for key, v := range map[string]string{"ipv4/ip_forward": "1", "ipv4/conf/all/rp_filter": "0", "ipv4/conf/eth1/rp_filter": "0", "ipv6/conf/all/forwarding": "1"} {
		if err := os.WriteFile("/proc/sys/net/"+key, []byte(v), 0); err != nil {
			t.Fatal(err)
		}
	}
	k, err := kernel.Open("")
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	rnd := rand.New(rand.NewPCG(uint64(fam), 7))
	var l list
	for step := range 8 {
		for range []int{150, 1, 1, 20, 1, 100, 1, 1}[step] {
			p := randomPrefix(rnd, fam, 5)
			if rnd.IntN(8) == 0 {
				p = netip.PrefixFrom(p.Addr(), p.Bits()-1-rnd.IntN(4)).Masked()
			}
			if p.Bits() < 4 {
				continue
			}
			at := rnd.IntN(len(l.prefixes) + 1)
			l.prefixes = append(l.prefixes[:at:at], append([]netip.Prefix{p}, l.prefixes[at:]...)...)
			l.tables = append(l.tables[:at:at], append([]uint32{5000 + uint32(rnd.IntN(4))}, l.tables[at:]...)...)
		}
		objs := []spec.Object{sources("a", l.prefixes, l.tables, func(_ int, r *spec.Rule) {
			if byTo {
				r.From, r.To = nil, r.From
			}
		})}
		f := desired.Facts{State: snapshot(t, k)}
		w, ps := desired.Build(objs, f)
		if spec.Failed(ps) || len(w.Trees) == 0 {
			t.Fatal(w.Trees, ps)
		}
		p := diff(f, desired.Want{Rules: owned(f.State.Rules)}, w)
		var changes []netstate.Change
		for i := range p.Ops {
			changes = append(changes, p.Ops[i].Change)
		}
		if _, failed := k.Apply(context.Background(), changes); len(failed) > 0 {
			t.Fatalf("%s: %v", changes[failed[0].Index], failed[0])
		}
		f = desired.Facts{State: snapshot(t, k)}
		real, listed := lists(f, w, fam)
		var have []netstate.Rule
		for _, r := range f.State.Rules {
			if r.Family == fam {
				have = append(have, r)
			}
		}
		if got, want := ruleText(have), ruleText(real); got != want {
			t.Fatalf("step %d: the kernel has\n%s\nand not\n%s", step, got, want)
		}
		if again, _ := desired.Build(objs, f); wantText(again) != wantText(w) {
			t.Fatalf("step %d: not a fixed point", step)
		}
		var packets []packet
		var ask bytes.Buffer
		other := map[netstate.Family]string{netstate.IPv4: "203.0.113.9", netstate.IPv6: "2001:db8:9::9"}[fam]
		for _, p := range l.prefixes {
			for _, a := range neighbours(p) {
				x := packet{a, netip.MustParseAddr(other), "eth1"}
				if byTo {
					x.from, x.to = x.to, x.from
				}
				if usable(a) {
					packets = append(packets, x)
					fmt.Fprintf(&ask, "route get %s from %s iif %s\n", x.to, x.from, x.iif)
				}
			}
		}
		answers := ways(t, fam, &ask)
		if len(answers) != len(packets) {
			t.Fatalf("%d answers to %d questions", len(answers), len(packets))
		}
		for i, x := range packets {
			if want := walk(listed, x, map[uint32]bool{5001: true}); answers[i] != want {
				t.Fatalf("step %d: %v: the kernel says %s, the list %s\n%s", step, x, answers[i], want, ruleText(real))
			}
		}
	}
}

// usable says whether packets may come from, or go to, the address.
func usable(a netip.Addr) bool {
	b := a.As16()
	switch {
	case a.IsMulticast(), a.IsLoopback(), a.IsUnspecified(), a.IsLinkLocalUnicast():
		return false
	case a.Is4():
		return b[12] != 0 && b[12] != 127 && b[12] < 224
	}
	return true
}

func snapshot(t *testing.T, k *kernel.Conn) netstate.State {
	t.Helper()
	s, err := k.Snapshot(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var tableOf = regexp.MustCompile(` table (\d+)`)

// ways asks the kernel by ip, which leaves the table main out.
func ways(t *testing.T, fam netstate.Family, questions *bytes.Buffer) []string {
	t.Helper()
	arg := "-4"
	if fam == netstate.IPv6 {
		arg = "-6"
	}
	cmd := exec.Command("ip", arg, "-o", "-N", "-force", "-batch", "-")
	cmd.Stdin = questions
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	var answers []string
	for line := range strings.Lines(string(out)) {
		if m := tableOf.FindStringSubmatch(line); m != nil {
			answers = append(answers, "table "+m[1])
		} else {
			answers = append(answers, "table 254")
		}
	}
	return answers
}
