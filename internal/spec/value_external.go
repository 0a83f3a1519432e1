package spec

import (
	"fmt"
	"hash/fnv"
	"net/netip"
	"strings"

	"github.com/viarule/viarule/internal/netstate"
)

func addressesIn(p netip.Prefix) Addresses {
	return Addresses{First: p.Addr(), Last: netstate.LastOf(p), Prefix: p}
}

// ParseAddresses reads a prefix, an address as the prefix of its full length, or
// a range FIRST-LAST. Pos is left to the caller.
func ParseAddresses(s string) (Addresses, error) {
	first, last, span := strings.Cut(s, "-")
	if !span {
		p, err := ParsePrefix(s)
		if err != nil {
			return Addresses{}, err
		}
		return addressesIn(p), nil
	}
	const do = "write it as in 192.0.2.10-192.0.2.20 or 2001:db8::10-2001:db8::20"
	a, err := ParseAddr(first)
	if err != nil {
		return Addresses{}, valueErrorf(do, "%q is not a range of addresses", clip(s))
	}
	b, err := ParseAddr(last)
	if err != nil {
		return Addresses{}, valueErrorf(do, "%q is not a range of addresses", clip(s))
	}
	switch {
	case a.Is4() != b.Is4():
		return Addresses{}, valueErrorf("write both ends in one family", "the ends of the range %s are of two families", s)
	case b.Less(a):
		return Addresses{}, valueErrorf(fmt.Sprintf("write %s-%s", b, a), "the range %s is reversed", s)
	}
	return Addresses{First: a, Last: b}, nil
}

// String is what ParseAddresses reads.
func (a Addresses) String() string {
	switch {
	case !a.Prefix.IsValid():
		return a.First.String() + "-" + a.Last.String()
	case a.Prefix.IsSingleIP():
		return a.First.String()
	}
	return a.Prefix.String()
}

// Family is that of all the addresses.
func (a Addresses) Family() netstate.Family { return netstate.FamilyOf(a.First) }

// Contains says whether x is one of the addresses.
func (a Addresses) Contains(x netip.Addr) bool {
	return a.First.Is4() == x.Is4() && !x.Less(a.First) && !a.Last.Less(x)
}

func (a Addresses) overlaps(b Addresses) bool {
	return a.First.Is4() == b.First.Is4() && !a.Last.Less(b.First) && !b.Last.Less(a.First)
}

// Prefixes are the fewest prefixes that have just these addresses, in order: at
// most 62 of IPv4 and 254 of IPv6.
func (a Addresses) Prefixes() []netip.Prefix {
	if a.Prefix.IsValid() {
		return []netip.Prefix{a.Prefix}
	}
	if !a.First.IsValid() {
		return nil
	}
	var list []netip.Prefix
	for from := a.First; ; {
		p := netip.PrefixFrom(from, from.BitLen())
		for p.Bits() > 0 {
			wider := netip.PrefixFrom(from, p.Bits()-1)
			if wider.Masked().Addr() != from || a.Last.Less(netstate.LastOf(wider)) {
				break
			}
			p = wider
		}
		list = append(list, p)
		if from = netstate.LastOf(p).Next(); !from.IsValid() || a.Last.Less(from) {
			return list
		}
	}
}

// ParseOwnMark reads the mark that an object gives to packets: VALUE or
// VALUE/MASK in the notation of ParseMark. Without a mask the mark's own bits
// are its mask, so that no others are touched.
func ParseOwnMark(s string) (netstate.Mark, error) {
	value, mask, masked := strings.Cut(s, "/")
	v, ok := parseNumber(value, !masked)
	m := v
	if masked && ok {
		m, ok = parseNumber(mask, false)
	}
	switch {
	case !ok || v > 1<<32-1:
		return netstate.Mark{}, valueErrorf("write it as 256, 0x100 or 0x100/0xff00", "%q is not a mark", clip(s))
	case v == 0:
		return netstate.Mark{}, valueErrorf("write a value with a bit, as 0x100, or leave mark out", "the mark 0 is that of every other packet")
	case v&^m != 0:
		return netstate.Mark{}, valueErrorf(fmt.Sprintf("write the mask %#x, or leave it out", m|v), "the value %#x has bits outside its mask %#x", v, m)
	}
	return netstate.Mark{Value: uint32(v), Mask: uint32(m)}, nil
}

// FormatOwnMark is what ParseOwnMark reads.
func FormatOwnMark(m netstate.Mark) string {
	if m.Mask == m.Value {
		return fmt.Sprintf("0x%x", m.Value)
	}
	return fmt.Sprintf("0x%x/0x%x", m.Value, m.Mask)
}

// ParseMAC reads the Ethernet address of a link and gives it as `ip` prints it.
func ParseMAC(s string) (string, error) {
	const do = "write it as `ip link` prints it, as 52:54:00:12:34:56"
	ok := len(s) == len("52:54:00:12:34:56")
	for i := 0; ok && i < len(s); i++ {
		c := s[i]
		ok = c == ':'
		if i%3 != 2 {
			ok = c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'f'
		}
	}
	if !ok {
		return "", valueErrorf(do, "%q is not the MAC address of a link", clip(s))
	}
	s = strings.ToLower(s)
	switch {
	case s == "00:00:00:00:00:00":
		return "", valueErrorf(do, "%s is what links without a MAC address have", s)
	case strings.IndexByte("02468ace", s[1]) < 0:
		return "", valueErrorf(do, "%s is a group's MAC address, which no link has", s)
	}
	return s, nil
}

// OwnTableName is what the table of an external network is called where nobody
// says another name.
func OwnTableName(object string) string { return NameFor("ext-", object, MaxTableName) }

// NameFor puts a prefix before a name, and cuts it to the limit so that two names
// remain two.
func NameFor(prefix, name string, limit int) string {
	if len(prefix)+len(name) <= limit {
		return prefix + name
	}
	// Small and soon loaded; a cryptographic hash cut to as many bits is no better.
	sum := fnv.New32a()
	sum.Write([]byte(name))
	tail := fmt.Sprintf("-%08x", sum.Sum32())
	return prefix + name[:limit-len(prefix)-len(tail)] + tail
}
