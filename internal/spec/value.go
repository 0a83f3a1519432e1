package spec

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/viarule/viarule/internal/netstate"
)

// ValueError says what is wrong with one written value, and what to do. The
// Parse functions of this package return no other error.
type ValueError struct {
	What string // completes `path: `
	Do   string
}

// Error is What and Do in one line.
func (e *ValueError) Error() string {
	if e.Do == "" {
		return e.What
	}
	return e.What + "; " + e.Do
}

// Values of fields that are bounded by the kernel.
const (
	// MaxLinkName is IFNAMSIZ less its terminating zero (include/uapi/linux/if.h).
	MaxLinkName = 15
	// MaxTableName bounds a table's name; `ip` prints no longer ones well.
	MaxTableName = 63
	// MaxObjectName is the length of a DNS subdomain, as for Kubernetes objects.
	MaxObjectName = 253
	// MaxMTU and MaxAdvMSS are what ip_metrics_convert (net/ipv4/metrics.c) cuts
	// larger values to, silently.
	MaxMTU    = 65535 - 15
	MaxAdvMSS = 65535 - 40
	// MinMTU4 and MinMTU6 are the smallest ones of RFC 791 and RFC 8200,
	// MinAdvMSS is TCP_MIN_MSS (include/net/tcp.h).
	MinMTU4   = 68
	MinMTU6   = 1280
	MinAdvMSS = 88
	// MaxPort: fib_rule_port_range_valid (include/net/fib_rules.h) refuses 65535.
	MaxPort = 65534
	// MaxUID is the largest id but one; the last one means "no user".
	MaxUID = 1<<32 - 2
	// MaxSuppressIfGroup: the kernel holds the group as an int, -1 being none.
	MaxSuppressIfGroup = 1<<31 - 1
)

func valueErrorf(do, format string, args ...any) *ValueError {
	return &ValueError{What: fmt.Sprintf(format, args...), Do: do}
}

// ParsePrefix reads a prefix, or an address as the prefix of its full length.
// Bits behind the prefix length, zones and IPv4 in IPv6 notation are refused.
func ParsePrefix(s string) (netip.Prefix, error) {
	if strings.IndexByte(s, '/') < 0 {
		a, err := ParseAddr(s)
		if err != nil {
			return netip.Prefix{}, valueErrorf("write it as in 10.0.0.0/8 or 2001:db8::/32", "%q is neither an address nor a prefix", clip(s))
		}
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil || p.Addr().Is4In6() {
		return netip.Prefix{}, valueErrorf("write it as in 10.0.0.0/8 or 2001:db8::/32", "%q is not a prefix", clip(s))
	}
	if m := p.Masked(); m != p {
		return netip.Prefix{}, valueErrorf("write "+m.String(), "%s has bits set behind its length", p)
	}
	return p, nil
}

// ParseAddr reads an address; zones and IPv4 in IPv6 notation are refused.
func ParseAddr(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" || a.Is4In6() {
		return netip.Addr{}, valueErrorf("write it as in 192.0.2.1 or 2001:db8::1", "%q is not an address", clip(s))
	}
	return a, nil
}

// CheckLinkName says whether the kernel could have a link of this name
// (dev_valid_name in net/core/dev.c).
func CheckLinkName(s string) error {
	ok := s != "" && len(s) <= MaxLinkName && s != "." && s != ".."
	for i := 0; ok && i < len(s); i++ {
		// The kernel also takes bytes above 127; nobody has such links, and `ip`
		// could not print them.
		ok = s[i] > ' ' && s[i] < 0x7f && s[i] != '/' && s[i] != ':'
	}
	if !ok {
		return valueErrorf("a name has 1 to 15 characters, no space, '/' or ':'", "%q cannot be the name of a link", clip(s))
	}
	return nil
}

// CheckTableName says whether s can name a table: not taken for a number, and
// one word in rt_tables.
func CheckTableName(s string) error {
	ok := s != "" && len(s) <= MaxTableName
	for i := 0; ok && i < len(s); i++ {
		c := s[i]
		ok = c|0x20 >= 'a' && c|0x20 <= 'z' || c == '_' || i > 0 && (c >= '0' && c <= '9' || c == '-' || c == '.')
	}
	if !ok {
		return valueErrorf("a name begins with a letter and has at most 63 letters, digits, '-', '_' and '.'", "%q cannot be the name of a table", clip(s))
	}
	return nil
}

// ParseTableRef reads a table's name or number.
func ParseTableRef(s string) (TableRef, error) {
	if isDigits(s) {
		id, err := parseRange(s, 1, 1<<32-1)
		return TableRef{ID: uint32(id)}, err
	}
	return TableRef{Name: s}, CheckTableName(s)
}

// ParseMark reads VALUE or VALUE/MASK: 256, 0x100 or 0x100/0xff00. Where a mask
// is written, value and mask are both hexadecimal, as `ip` prints them. A value
// with bits outside its mask is refused: the kernel would ignore them.
func ParseMark(s string) (netstate.Mark, error) {
	const do = "write it as 256, 0x100 or 0x100/0xff00"
	value, mask, masked := strings.Cut(s, "/")
	v, ok := parseNumber(value, !masked)
	m := uint64(1<<32 - 1)
	if masked && ok {
		m, ok = parseNumber(mask, false)
	}
	if !ok || v > 1<<32-1 || m > 1<<32-1 {
		return netstate.Mark{}, valueErrorf(do, "%q is not a mark", clip(s))
	}
	if m == 0 {
		return netstate.Mark{}, valueErrorf("leave fwmark out to select every packet", "a mark with the mask 0 selects by nothing")
	}
	if v&^m != 0 {
		return netstate.Mark{}, valueErrorf(fmt.Sprintf("write %#x/%#x, or a larger mask", v&m, m), "the value %#x has bits outside its mask %#x", v, m)
	}
	return netstate.Mark{Value: uint32(v), Mask: uint32(m)}, nil
}

// FormatMark is what ParseMark reads.
func FormatMark(m netstate.Mark) string {
	if m.Mask == 1<<32-1 {
		return fmt.Sprintf("0x%x", m.Value)
	}
	return fmt.Sprintf("0x%x/0x%x", m.Value, m.Mask)
}

// ParsePorts reads a port or a range of ports, 1 to 65534: the kernel takes no
// rule for port 65535.
func ParsePorts(s string) (netstate.PortRange, error) {
	lo, hi, err := parseSpan(s, "port", 1, MaxPort)
	return netstate.PortRange{Lo: uint16(lo), Hi: uint16(hi)}, err
}

// ParseUIDs reads a user id or a range of them.
func ParseUIDs(s string) (netstate.UIDRange, error) {
	lo, hi, err := parseSpan(s, "user id", 0, MaxUID)
	return netstate.UIDRange{Set: err == nil, Lo: uint32(lo), Hi: uint32(hi)}, err
}

// ParseTOS reads a TOS selector: a number, decimal or hexadecimal. What each
// family's kernel code refuses beyond this is found by Validate.
func ParseTOS(s string) (uint8, error) {
	v, ok := parseNumber(s, true)
	if !ok || v > 0xff {
		return 0, valueErrorf("write a number from 4 to 252, as 16 or 0x10; names are for dscp", "%q is not a TOS value", clip(s))
	}
	if v == 0 {
		return 0, valueErrorf("leave it out to select every packet, or write `dscp: 0`", "the TOS value 0 selects by nothing")
	}
	if v&3 != 0 {
		return 0, valueErrorf(fmt.Sprintf("write 0x%02x", v&^3), "the two lowest bits of TOS value 0x%02x are for congestion notification, rules cannot select by them", v)
	}
	return uint8(v), nil
}

// ParseDSCP reads a DSCP: 0 to 63, or a name as CS1, AF41, EF, LE, VA.
func ParseDSCP(s string) (netstate.Opt, error) {
	if isDigits(s) {
		v, err := parseRange(s, 0, 63)
		return netstate.Opt{Set: err == nil, Val: uint32(v)}, err
	}
	for _, d := range dscpNames {
		if d.name == s {
			return netstate.Some(d.value), nil
		}
	}
	return netstate.Opt{}, valueErrorf("write a number from 0 to 63, or CS0 to CS7, AF11 to AF43, EF, VA or LE", "%q is not a DSCP", clip(s))
}

// FormatDSCP gives the name of a DSCP, or its number.
func FormatDSCP(v uint32) string {
	for _, d := range dscpNames {
		if d.value == v {
			return d.name
		}
	}
	return strconv.FormatUint(uint64(v), 10)
}

// ParseRealms reads TO or FROM/TO, each 0 to 65535, not both 0, in the kernel's
// encoding (FRA_FLOW).
func ParseRealms(s string) (uint32, error) {
	from, to, both := strings.Cut(s, "/")
	if !both {
		from, to = "0", s
	}
	f, err := parseRange(from, 0, 1<<16-1)
	if err != nil {
		return 0, err
	}
	t, err := parseRange(to, 0, 1<<16-1)
	if err != nil {
		return 0, err
	}
	if f|t == 0 {
		return 0, valueErrorf("leave realms out", "the realm 0 is no realm")
	}
	return uint32(f<<16 | t), nil
}

// FormatRealms is what ParseRealms reads.
func FormatRealms(r uint32) string {
	if r>>16 == 0 {
		return strconv.FormatUint(uint64(r), 10)
	}
	return fmt.Sprintf("%d/%d", r>>16, r&0xffff)
}

// ParseIfGroup reads the number of a link group, or default for 0.
func ParseIfGroup(s string) (netstate.Opt, error) {
	if s == "default" {
		return netstate.Some(0), nil
	}
	v, err := parseRange(s, 0, MaxSuppressIfGroup)
	return netstate.Opt{Set: err == nil, Val: uint32(v)}, err
}

// ParseIPProto reads the number, 1 to 255, or the name of a protocol.
func ParseIPProto(s string) (uint8, error) {
	if isDigits(s) {
		v, err := parseRange(s, 1, 255)
		return uint8(v), err
	}
	for _, p := range ipProtos {
		if p.name == s {
			return p.number, nil
		}
	}
	return 0, valueErrorf("write a number from 1 to 255, or a name as tcp, udp, icmp, ipv6-icmp, sctp or esp", "%q is not a protocol that viarule knows", clip(s))
}

// FormatIPProto gives the name of a protocol, or its number.
func FormatIPProto(n uint8) string {
	for _, p := range ipProtos {
		if p.number == n {
			return p.name
		}
	}
	return strconv.Itoa(int(n))
}

// HasPorts says whether packets of the protocol have the ports that rules
// select by (the kernel's flow dissection).
func HasPorts(proto uint8) bool {
	switch proto {
	case 6, 17, 33, 132, 136: // tcp, udp, dccp, sctp, udplite
		return true
	}
	return false
}

// The names are IANA's, in the spelling of /etc/protocols.
var ipProtos = [...]struct {
	name   string
	number uint8
}{
	{"icmp", 1}, {"igmp", 2}, {"ipencap", 4}, {"tcp", 6}, {"udp", 17}, {"dccp", 33}, {"ipv6", 41},
	{"gre", 47}, {"esp", 50}, {"ah", 51}, {"ipv6-icmp", 58}, {"ospf", 89}, {"pim", 103}, {"vrrp", 112},
	{"l2tp", 115}, {"sctp", 132}, {"udplite", 136},
}

// RFC 2474, 2597, 3246, 5865 and 8622.
var dscpNames = [...]struct {
	name  string
	value uint32
}{
	{"CS0", 0}, {"LE", 1}, {"CS1", 8}, {"AF11", 10}, {"AF12", 12}, {"AF13", 14}, {"CS2", 16}, {"AF21", 18},
	{"AF22", 20}, {"AF23", 22}, {"CS3", 24}, {"AF31", 26}, {"AF32", 28}, {"AF33", 30}, {"CS4", 32},
	{"AF41", 34}, {"AF42", 36}, {"AF43", 38}, {"CS5", 40}, {"VA", 44}, {"EF", 46}, {"CS6", 48}, {"CS7", 56},
}

func parseSpan(s, noun string, least, most uint64) (lo, hi uint64, err error) {
	first, last, span := strings.Cut(s, "-")
	if lo, err = parseRange(first, least, most); err != nil {
		return 0, 0, err
	}
	if !span {
		return lo, lo, nil
	}
	if hi, err = parseRange(last, least, most); err != nil {
		return 0, 0, err
	}
	if lo > hi {
		return 0, 0, valueErrorf(fmt.Sprintf("write %d-%d", hi, lo), "the %s range %s is reversed", noun, s)
	}
	return lo, hi, nil
}

// parseRange reads a decimal number.
func parseRange(s string, least, most uint64) (uint64, error) {
	v, ok := parseNumber(s, true)
	if !ok || !isDigits(s) {
		return 0, valueErrorf(fmt.Sprintf("write a number from %d to %d", least, most), "%q is not such a number", clip(s))
	}
	if v < least || v > most {
		return 0, valueErrorf(fmt.Sprintf("write a number from %d to %d", least, most), "%s is out of range", s)
	}
	return v, nil
}

// parseNumber reads 0x and hexadecimal digits or, where decimal is allowed,
// decimal ones without leading zeros (which YAML readers take for octal).
func parseNumber(s string, decimal bool) (uint64, bool) {
	if rest, ok := strings.CutPrefix(s, "0x"); ok {
		if len(rest) == 0 || len(rest) > 8 || rest[0] == '+' || rest[0] == '-' {
			return 0, false
		}
		v, err := strconv.ParseUint(rest, 16, 64)
		return v, err == nil
	}
	if !decimal || !isDigits(s) || len(s) > 10 || len(s) > 1 && s[0] == '0' {
		return 0, false
	}
	v, err := strconv.ParseUint(s, 10, 64)
	return v, err == nil
}

func isDigits(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// clip bounds what a message repeats of hostile input.
func clip(s string) string {
	if len(s) > 64 {
		return s[:61] + "..."
	}
	return s
}
