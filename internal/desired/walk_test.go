package desired_test

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/viarule/viarule/internal/desired"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/spec"
)

// packet is what the rules of these tests look at.
type packet struct {
	from, to netip.Addr
	iif      string
}

// walk goes through a list as fib_rules_lookup does. Tables that are not in
// empty have a route for everything, but for local, which has none of these tests'
// addresses.
func walk(rules []netstate.Rule, p packet, empty map[uint32]bool) string {
	way, _ := walkFrom(rules, p, empty)
	return way
}

// walkFrom also counts the rules that are looked at.
func walkFrom(rules []netstate.Rule, p packet, empty map[uint32]bool) (string, int) {
	n := 0
	for i := 0; i < len(rules); {
		r := &rules[i]
		n++
		match := (!r.From.IsValid() || r.From.Contains(p.from)) && (!r.To.IsValid() || r.To.Contains(p.to)) && (r.IIF == "" || r.IIF == p.iif)
		if match == r.Not {
			i++
			continue
		}
		switch r.Action {
		case netstate.Goto:
			target, found := slices.BinarySearchFunc(rules, r.Goto, func(t netstate.Rule, p uint32) int { return cmp.Compare(t.Priority, p) })
			if !found {
				i++
				continue
			}
			if target <= i {
				return fmt.Sprintf("goto backwards at %s", r), n
			}
			i = target
		case netstate.Nop:
			i++
		case netstate.ToTable:
			if !empty[r.Table] && r.Table != netstate.TableLocal {
				return fmt.Sprint("table ", r.Table), n
			}
			i++
		default:
			return fmt.Sprint("action ", r.Action), n
		}
	}
	return "nothing", n
}

// lists are the rules of a family that a packet meets with the want in place: as
// they are, and with the trees as the lists that they stand for.
func lists(f desired.Facts, w desired.Want, fam netstate.Family) (real, listed []netstate.Rule) {
	merge := func(ours []desired.Rule) []netstate.Rule {
		var out []netstate.Rule
		for r := range foreignRules(f.State.Rules, fam) {
			out = append(out, *r)
		}
		for i := range ours {
			if ours[i].Family == fam {
				out = append(out, ours[i].Rule)
			}
		}
		slices.SortStableFunc(out, func(a, b netstate.Rule) int { return cmp.Compare(a.Priority, b.Priority) })
		return out
	}
	return merge(w.Rules), merge(w.Listed)
}

// neighbours are the addresses at and next to the borders of a prefix.
func neighbours(p netip.Prefix) []netip.Addr {
	first := p.Masked().Addr()
	last := netstate.LastOf(p)
	var out []netip.Addr
	for _, a := range []netip.Addr{first, last, first.Prev(), last.Next()} {
		if a.IsValid() {
			out = append(out, a)
		}
	}
	return out
}

// sameDecisions fails where a packet is decided otherwise by the real rules than
// by the list that they stand for.
func sameDecisions(t fatal, rnd *rand.Rand, f desired.Facts, w desired.Want, empty map[uint32]bool, random int) {
	t.Helper()
	for _, fam := range netstate.Families {
		real, listed := lists(f, w, fam)
		var addrs []netip.Addr
		for i := range listed {
			for _, p := range []netip.Prefix{listed[i].From, listed[i].To} {
				if p.IsValid() {
					addrs = append(addrs, neighbours(p)...)
				}
			}
		}
		if most := 2_000_000/(len(listed)+1) + 100; len(addrs) > most {
			rnd.Shuffle(len(addrs), func(i, j int) { addrs[i], addrs[j] = addrs[j], addrs[i] })
			addrs = addrs[:most]
		}
		for range random {
			addrs = append(addrs, randomAddr(rnd, fam))
		}
		other := randomAddr(rnd, fam)
		for i, a := range addrs {
			p := packet{a, other, "eth0"}
			if i%2 == 1 {
				p.iif = "eth1"
			}
			for range 2 {
				if got, want := walk(real, p, empty), walk(listed, p, empty); got != want {
					t.Fatalf("%v: %s, but the list says %s\nlist:\n%s\nreal:\n%s", p, got, want, ruleText(listed), ruleText(real))
				}
				p.from, p.to = p.to, p.from
			}
		}
	}
}

type fatal interface {
	Helper()
	Fatalf(format string, args ...any)
}

func ruleText(rules []netstate.Rule) string {
	var b []byte
	for i := range rules {
		b = append(fmt.Append(b, rules[i]), '\n')
	}
	return string(b)
}

func randomAddr(rnd *rand.Rand, f netstate.Family) netip.Addr {
	if f == netstate.IPv4 {
		v := rnd.Uint32()
		return netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)})
	}
	var b [16]byte
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
	return netip.AddrFrom16(b)
}

// randomPrefix gives prefixes that are near each other and often overlap; with
// spread 0 they are all over, with an odd one hosts of one network.
func randomPrefix(rnd *rand.Rand, f netstate.Family, spread int) netip.Prefix {
	b := randomAddr(rnd, f).AsSlice()
	bits := len(b) * 8
	if spread%2 == 1 && rnd.IntN(50) > 0 {
		copy(b[:len(b)-1], []byte{10, 1, 0, 10, 0, 0, 10, 0, 0, 7, 0, 0, 0, 0, 0})
		b[len(b)-2] = byte(rnd.IntN(spread))
		if rnd.IntN(10) == 0 {
			bits -= rnd.IntN(10)
		}
		a, _ := netip.AddrFromSlice(b)
		return netip.PrefixFrom(a, bits).Masked()
	}
	if rnd.IntN(spread+1) > 0 {
		// Only some bits differ, at the place that the dice say.
		at := rnd.IntN(4) * len(b) / 4
		for i := range b {
			if i < at || i > at+1 {
				b[i] = byte(10 * (i + 1) % 256)
			}
			b[i] &= 0x3f
		}
	}
	a, _ := netip.AddrFromSlice(b)
	if rnd.IntN(3) == 0 {
		bits = 1 + rnd.IntN(bits)
	}
	return netip.PrefixFrom(a, bits).Masked()
}

// ops counts the writes from one list of ours to another: at each priority the
// head that stands in the right order is kept, the rest is added and deleted.
func ops(before, after []desired.Rule) int {
	type key struct {
		f netstate.Family
		p uint32
	}
	group := func(rules []desired.Rule) map[key][]netstate.Rule {
		m := make(map[key][]netstate.Rule)
		for i := range rules {
			k := key{rules[i].Family, rules[i].Priority}
			m[k] = append(m[k], rules[i].Rule)
		}
		return m
	}
	a, b := group(before), group(after)
	n := 0
	for k, old := range a {
		kept, at := 0, 0
		for _, r := range b[k] {
			i := slices.Index(old[at:], r)
			if i < 0 {
				break
			}
			kept, at = kept+1, at+i+1
		}
		n += len(old) - kept + len(b[k]) - kept
	}
	for k, rules := range b {
		if a[k] == nil {
			n += len(rules)
		}
	}
	return n
}

// sources is a policy with a rule for each prefix, to tables[i].
func sources(name string, prefixes []netip.Prefix, tables []uint32, change func(i int, r *spec.Rule)) spec.Object {
	p := &spec.RoutingPolicy{}
	for i, x := range prefixes {
		r := spec.Rule{From: []netip.Prefix{x}, Action: netstate.ToTable, Table: spec.TableRef{ID: tables[i]}, Pos: spec.Pos{Line: int32(i + 1), Col: 1}}
		if change != nil {
			change(i, &r)
		}
		p.Rules = append(p.Rules, r)
	}
	return spec.Object{Ref: spec.Ref{Kind: spec.KindRoutingPolicy, Name: name}, File: name + ".yaml", Policy: p}
}

func constant[T any](v T, n int) []T {
	out := make([]T, n)
	for i := range out {
		out[i] = v
	}
	return out
}

func kernelFacts(t testing.TB, more string) desired.Facts {
	s := state(t, host+kernelRules+more)
	sortRules(s.Rules)
	return desired.Facts{State: s}
}

func opsText(before, after []desired.Rule) string {
	count := map[netstate.Rule]int{}
	for i := range before {
		count[before[i].Rule]--
	}
	for i := range after {
		count[after[i].Rule]++
	}
	s := ""
	for r, n := range count {
		if n != 0 {
			s += fmt.Sprintf("\n%+d %s", n, r)
		}
	}
	return s
}

func addrOf(s string) netip.Addr { return netip.MustParseAddr(s) }

func prefixOf(b []byte, bits int) netip.Prefix {
	a, _ := netip.AddrFromSlice(b)
	return netip.PrefixFrom(a, bits).Masked()
}

// dice are for what has no smaller case worth looking for: rapid prefers small
// numbers, and these tests want all kinds alike.
func dice(t *rapid.T) *rand.Rand {
	b := rapid.SliceOfN(rapid.Byte(), 8, 8).Draw(t, "seed")
	return rand.New(rand.NewPCG(binary.BigEndian.Uint64(b), 0))
}
