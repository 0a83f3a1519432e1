package specjson

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/spec"
)

// draw writes random lists as JSON: right ones or, with slips, such that have
// something wrong now and then.
type draw struct {
	*rapid.T
	slips bool
}

func (d draw) n(lo, hi uint64) uint64      { return rapid.Uint64Range(lo, hi).Draw(d.T, "n") }
func (d draw) one(of ...string) string     { return rapid.SampledFrom(of).Draw(d.T, "one") }
func (d draw) chance() bool                { return rapid.Bool().Draw(d.T, "b") }
func (d draw) family() netstate.Family     { return rapid.SampledFrom(netstate.Families[:]).Draw(d.T, "f") }
func (d draw) number(lo, hi uint64) string { return fmt.Sprint(d.n(lo, hi)) }

// either is a number, as such or in quotes.
func (d draw) either(lo, hi uint64) string { return d.maybeQuoted(d.number(lo, hi)) }

func (d draw) maybeQuoted(s string) string {
	if d.chance() {
		return `"` + s + `"`
	}
	return s
}

// span is a number or a range.
func (d draw) span(lo, hi uint64) string {
	first := d.n(lo, hi)
	if d.chance() {
		return d.maybeQuoted(fmt.Sprint(first))
	}
	return fmt.Sprintf(`"%d-%d"`, first, d.n(first, hi))
}

func (d draw) addr(f netstate.Family) netip.Addr {
	b := make([]byte, f.Bits()/8)
	for i := range b {
		b[i] = byte(d.n(0, 1) * d.n(0, 255))
	}
	b[0] = byte(d.n(0x20, 126))
	a, _ := netip.AddrFromSlice(b)
	return a
}

func (d draw) quotedAddr(f netstate.Family) string { return `"` + d.addr(f).String() + `"` }

func (d draw) prefix(f netstate.Family) string {
	p := netip.PrefixFrom(d.addr(f), int(d.n(0, uint64(f.Bits())))).Masked()
	if p.IsSingleIP() && d.chance() {
		return `"` + p.Addr().String() + `"`
	}
	return `"` + strings.Replace(p.String(), "/", d.one("/", `\/`), 1) + `"`
}

func (d draw) prefixes(fs []netstate.Family) string {
	var list []string
	seen := map[string]bool{}
	for _, f := range fs {
		for range d.n(1, 4) {
			p := d.prefix(f)
			if bare := strings.ReplaceAll(p, `\`, ""); !seen[bare] {
				seen[bare] = true
				list = append(list, p)
			}
		}
	}
	return d.list(list)
}

func (d draw) link() string {
	return d.one(`"eth0"`, `"lo"`, `"no"`, `"1"`, `"0x10"`, `"wg-a_b"`, `"q\"u\\o"`, `"\u0061"`, `"null"`, `"~"`, `"fifteen-letters"`)
}

// key writes a key, or a slip of it.
func (d draw) key(k string) string {
	if d.slips && d.n(1, 60) == 1 {
		return d.one(`"tabel"`, `"`+strings.ToUpper(k)+`"`, `""`, `"<<"`, `"`+k+`x"`, `"table"`, `"dev"`, `"nop"`)
	}
	if d.n(1, 20) == 1 {
		return fmt.Sprintf(`"\u%04x%s"`, k[0], k[1:])
	}
	return `"` + k + `"`
}

// wrongValues are wrong for most keys. (Halves of surrogate pairs, which are
// faults of YAML without a path, are for the fuzz targets.)
var wrongValues = []string{
	`null`, `true`, `false`, `0`, `-0`, `-1`, `1`, `1.0`, `1.5`, `1e2`, `255`, `256`, `65535`, `65536`, `4294967295`, `4294967296`, `18446744073709551615`, `18446744073709551616`,
	`1e400`, `""`, `" "`, `"0"`, `"00"`, `"-1"`, `"1-"`, `"2-1"`, `"0x"`, `"0x10"`, `"1.5"`, `"on"`, `"\u0000"`, `"é"`, `"10.0.0.1"`, `"10.0.0.1/8"`,
	`"::1"`, `"::ffff:1.2.3.4"`, `"fe80::1%eth0"`, `"default"`, `"IPv6"`, `"ipv4"`, `"Blackhole"`, `"Local"`, `"Host"`, `[]`, `[[]]`, `[null]`, `[1]`, `["10.0.0.0/8","10.0.0.0/8"]`,
	`["::/0"]`, `["10.0.0.0/33"]`, `{}`, `{"to":"::/0"}`, `[{}]`, `[{"via":"fe80::1"}]`, `"sixteen-letters-"`,
}

func (d draw) value(s string) string {
	if d.slips && d.n(1, 25) == 1 {
		return rapid.SampledFrom(wrongValues).Draw(d.T, "wrong")
	}
	return s
}

func (d draw) list(elements []string) string {
	space := d.one("", "", " ", "\n\t")
	return "[" + space + strings.Join(elements, space+","+space) + space + "]"
}

// object writes pairs of keys and values.
func (d draw) object(pairs []string) string {
	var parts []string
	for i := 0; i < len(pairs); i += 2 {
		parts = append(parts, d.key(pairs[i])+d.one(":", ": ", " : ")+d.value(pairs[i+1]))
	}
	parts = rapid.Permutation(parts).Draw(d.T, "order")
	space := d.one("", " ", "\r\n")
	return "{" + space + strings.Join(parts, ","+space) + "}"
}

func (d draw) rule() string {
	var o []string
	add := func(key, value string) {
		if d.chance() {
			o = append(o, key, value)
		}
	}
	fs := netstate.Families[:]
	if d.chance() {
		fs = []netstate.Family{d.family()}
		add("family", `"`+spec.FormatWord(fs[0], spec.FamilyWords)+`"`)
	}
	add("from", d.prefixes(fs))
	add("to", d.prefixes(fs))
	only4 := len(o) > 0 && len(fs) == 1 && fs[0] == netstate.IPv4
	add("iif", d.link())
	add("oif", d.link())
	mask := d.n(1, 1<<32-1)
	add("fwmark", d.one(d.either(0, 1<<32-1), fmt.Sprintf(`"%#x/%#x"`, d.n(0, 1<<32-1)&mask, mask)))
	if d.chance() {
		o = append(o, "ipproto", d.one(`6`, `"17"`, `"tcp"`, `"sctp"`))
		add("sport", d.span(1, spec.MaxPort))
		add("dport", d.span(1, spec.MaxPort))
	} else {
		add("ipproto", d.one(d.either(1, 255), `"esp"`))
	}
	if d.chance() {
		add("tos", d.one("4", `"0x10"`, `"28"`))
	} else {
		add("dscp", d.one(d.either(0, 63), `"EF"`, `"CS0"`))
	}
	add("uidrange", d.span(0, spec.MaxUID))
	if len(o) > 0 && o[len(o)-2] == "uidrange" {
		add("not", d.one("true", "false"))
	}
	add("priority", d.number(1, 32765))
	switch d.n(0, 3) {
	case 0:
		o = append(o, "goto", d.number(32768, 1<<32-1))
	case 1:
		o = append(o, d.one("nop", "blackhole", "unreachable", "prohibit"), "true")
	case 2:
		o = append(o, "table", d.one(d.either(1, 1<<32-1), `"main"`, `"on"`, `"a.b-c_9"`))
		fallthrough
	default: // without an action
		add("suppressPrefixLength", d.number(0, 128))
		add("suppressIfGroup", d.one(d.either(0, spec.MaxSuppressIfGroup), `"default"`))
	}
	if only4 {
		add("realms", d.one(d.either(1, 65535), fmt.Sprintf(`"%d/%d"`, d.n(0, 65535), d.n(1, 65535))))
	}
	return d.object(o)
}

func (d draw) route() string {
	f := d.family()
	to := d.prefix(f)
	var o []string
	add := func(key, value string) {
		if d.chance() {
			o = append(o, key, value)
		}
	}
	// Two routes with one destination are for the slips: the metric makes them
	// different.
	o = append(o, "metric", d.number(0, 1<<32-1))
	add("mtu", d.number(spec.MinMTU4, spec.MaxMTU))
	add("advmss", d.number(spec.MinAdvMSS, spec.MaxAdvMSS))
	scope := func(words ...string) {
		if f == netstate.IPv4 {
			add("scope", d.one(words...))
		}
	}
	gateway := func() string {
		if f == netstate.IPv4 && d.chance() {
			return d.one(`"fe80::1"`, d.quotedAddr(netstate.IPv6))
		}
		return d.quotedAddr(f)
	}
	switch d.n(0, 4) {
	case 0:
		return d.object(append(o, "to", to, "type", d.one(`"Blackhole"`, `"Unreachable"`, `"Prohibit"`, `"Throw"`)))
	case 1:
		o = append(o, "type", `"Local"`)
		add("dev", d.link())
		scope(`"Host"`)
	case 2:
		var hops []string
		for range d.n(1, 3) {
			hop := []string{"dev", d.link()}
			if d.chance() {
				hop = append(hop, "via", gateway(), "onlink", d.one("true", "false"))
			}
			if d.chance() {
				hop = append(hop, "weight", d.number(1, 256))
			}
			hops = append(hops, d.object(hop))
		}
		o = append(o, "nexthops", d.list(hops))
		scope(`"Global"`, `"Site"`)
	case 3:
		via := d.quotedAddr(f)
		if d.chance() {
			to = `"default"`
		} else {
			via = gateway()
		}
		o = append(o, "via", via)
		add("dev", d.link())
		add("onlink", d.one("true", "false"))
		scope(`"Global"`, `"Site"`)
	case 4:
		add("dev", d.link())
		add("type", `"Unicast"`)
		scope(`"Global"`, `"Site"`, `"Link"`, `"Host"`)
	}
	add("src", d.quotedAddr(f))
	return d.object(append(o, "to", to))
}

// checkMany holds what is read of random lists against what specfile reads.
func checkMany[T any](t *testing.T, k kindUnderTest[T], element func(draw) string) {
	for _, slips := range []bool{false, true} {
		good, bad := 0, 0
		rapid.Check(t, func(rt *rapid.T) {
			d := draw{rt, slips}
			elements := make([]string, d.n(0, 8))
			for i := range elements {
				elements[i] = element(d)
			}
			data := []byte(d.list(elements))
			if !json.Valid(data) {
				rt.Fatalf("no JSON: %s", data)
			}
			accepted, difference := k.same(rt, data)
			if difference != "" {
				rt.Fatalf("%s\n%s", data, difference)
			}
			if accepted {
				good++
			} else {
				bad++
			}
			// Without a slip only the same route twice can be wrong.
			if !accepted && !slips {
				for _, p := range second(k.read(k.name, data)) {
					if !strings.Contains(p.What, "with the same metric") {
						rt.Fatalf("%s\n%s", data, p)
					}
				}
			}
		})
		t.Logf("slips %t: %d good and %d bad lists", slips, good, bad)
		if good == 0 || slips && bad == 0 {
			t.Error("the lists say nothing")
		}
	}
}

func second[A, B any](_ A, b B) B { return b }

func TestRulesAreReadAsSpecfileReadsThem(t *testing.T) {
	checkMany(t, rulesUnderTest, draw.rule)
}

func TestRoutesAreReadAsSpecfileReadsThem(t *testing.T) {
	checkMany(t, routesUnderTest, draw.route)
}
