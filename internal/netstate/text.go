package netstate

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// The text form of every kind is a line of words: the kind, what names the
// object, then pairs of a key and a value. A word that holds white space or
// anything else that is not plain ASCII, or that begins with a quote or a #, is
// written as a Go string. What follows a # at the start of a word is a comment.

// Names gives numbers the names that people know them by.
type Names interface {
	// Table returns the name of a table, or "" where it has none.
	Table(id uint32) string
}

// protocolNames are the kernel's and iproute2's names of route and rule
// origins (include/uapi/linux/rtnetlink.h, RTPROT_*), and viarule's own.
var protocolNames = names{
	{1, "redirect"}, {2, "kernel"}, {3, "boot"}, {4, "static"}, {8, "gated"}, {9, "ra"}, {10, "mrt"},
	{11, "zebra"}, {12, "bird"}, {13, "dnrouted"}, {14, "xorp"}, {15, "ntk"}, {16, "dhcp"}, {17, "mrouted"},
	{18, "keepalived"}, {42, "babel"}, {84, "ovn"}, {99, "openr"},
	{118, "viarule"}, {119, "viarule-cni"}, {120, "viarule-bgp"},
	{186, "bgp"}, {187, "isis"}, {188, "ospf"}, {189, "rip"}, {192, "eigrp"},
}

// tableNames are the tables that the kernel itself knows.
var tableNames = names{{TableDefault, "default"}, {TableMain, "main"}, {TableLocal, "local"}}

var ipprotoNames = names{
	{1, "icmp"}, {2, "igmp"}, {6, "tcp"}, {17, "udp"}, {33, "dccp"}, {47, "gre"}, {50, "esp"}, {51, "ah"},
	{58, "ipv6-icmp"}, {132, "sctp"}, {136, "udplite"},
}

var routeTypeNames = names{
	{uint32(RouteUnicast), "unicast"}, {uint32(RouteLocal), "local"}, {uint32(RouteBroadcast), "broadcast"},
	{uint32(RouteAnycast), "anycast"}, {uint32(RouteMulticast), "multicast"}, {uint32(RouteBlackhole), "blackhole"},
	{uint32(RouteUnreachable), "unreachable"}, {uint32(RouteProhibit), "prohibit"}, {uint32(RouteThrow), "throw"},
	{uint32(RouteNAT), "nat"},
}

var scopeNames = names{
	{uint32(ScopeGlobal), "global"}, {uint32(ScopeSite), "site"}, {uint32(ScopeLink), "link"},
	{uint32(ScopeHost), "host"}, {uint32(ScopeNowhere), "nowhere"},
}

// prefNames are ICMPV6_ROUTER_PREF_* (RFC 4191).
var prefNames = names{{3, "low"}, {0, "medium"}, {1, "high"}}

var actionNames = names{
	{uint32(Nop), "nop"}, {uint32(Blackhole), "blackhole"}, {uint32(Unreachable), "unreachable"}, {uint32(Prohibit), "prohibit"},
}

// names is a small table of numbers and words, searched from the front.
// KernelTable is the name of a table that each namespace has: local, main or default;
// empty for every other.
func KernelTable(id uint32) string { return tableNames.word(id) }

type names []struct {
	num  uint32
	word string
}

func (n names) word(num uint32) string {
	for i := range n {
		if n[i].num == num {
			return n[i].word
		}
	}
	return ""
}

func (n names) num(word string) (uint32, bool) {
	for i := range n {
		if n[i].word == word {
			return n[i].num, true
		}
	}
	return 0, false
}

// append writes the word of num, or the number where there is no word.
func (n names) append(b []byte, num uint32) []byte {
	if w := n.word(num); w != "" {
		return append(b, w...)
	}
	return strconv.AppendUint(b, uint64(num), 10)
}

// ProtocolName returns the name of a route or rule origin (static, viarule,
// ...), or its number where it has none.
func ProtocolName(p uint8) string { return string(protocolNames.append(nil, uint32(p))) }

// String gives the kernel's name of the type, or its number.
func (t RouteType) String() string { return string(routeTypeNames.append(nil, uint32(t))) }

// String gives the kernel's name of the scope, or its number.
func (s Scope) String() string { return string(scopeNames.append(nil, uint32(s))) }

// ParseProtocol is the inverse of ProtocolName; numbers are taken as well.
func ParseProtocol(s string) (uint8, error) { return parseNamed[uint8](protocolNames, s, "protocol") }

// ParseRouteType reads the kernel's name of a route type, or its number.
func ParseRouteType(s string) (RouteType, error) {
	return parseNamed[RouteType](routeTypeNames, s, "route type")
}

// ParseScope reads the kernel's name of a scope, or its number.
func ParseScope(s string) (Scope, error) { return parseNamed[Scope](scopeNames, s, "scope") }

// ParseIPProto reads the name of a transport protocol (tcp, ipv6-icmp, ...) or
// its number.
func ParseIPProto(s string) (uint8, error) { return parseNamed[uint8](ipprotoNames, s, "protocol") }

// IPProtoName is the inverse of ParseIPProto.
func IPProtoName(p uint8) string { return string(ipprotoNames.append(nil, uint32(p))) }

func parseNamed[T ~uint8](n names, s, what string) (T, error) {
	if v, ok := n.num(s); ok {
		return T(v), nil
	}
	v, err := parseUint(s, 8)
	if err != nil {
		return 0, fmt.Errorf("%q is neither the name nor the number (0 to 255) of a %s", s, what)
	}
	return T(v), nil
}

// Writing.

func appendKeyUint(b []byte, key string, v uint64) []byte {
	return strconv.AppendUint(append(b, key...), v, 10)
}

func appendKeyHex(b []byte, key string, v uint64) []byte {
	return strconv.AppendUint(append(append(b, key...), "0x"...), v, 16)
}

func appendKeyWord(b []byte, key, word string) []byte {
	return appendWord(append(b, key...), word)
}

// AppendWord appends one word of a text form, as a Go string where it must be
// quoted.
func AppendWord(b []byte, w string) []byte { return appendWord(b, w) }

// SplitWords gives the words of a line, without quotes and comments.
func SplitWords(line string) ([]string, error) {
	p := newParser("line", line)
	var words []string
	for {
		w, ok := p.next()
		if !ok {
			return words, p.err
		}
		words = append(words, w)
	}
}

func appendWord(b []byte, w string) []byte {
	if isPlain(w) {
		return append(b, w...)
	}
	return strconv.AppendQuote(b, w)
}

func isPlain(w string) bool {
	if w == "" || w[0] == '"' || w[0] == '#' {
		return false
	}
	for i := range len(w) {
		if w[i] <= ' ' || w[i] >= 0x7f {
			return false
		}
	}
	return true
}

func appendUnknown(b []byte, u string) []byte {
	if u == "" {
		return b
	}
	b = append(b, " unknown "...)
	const digits = "0123456789abcdef"
	for i := range len(u) {
		b = append(b, digits[u[i]>>4], digits[u[i]&15])
	}
	return b
}

// appendPrefix writes a prefix as ip does: without the length where it is one
// address.
func appendPrefix(b []byte, p netip.Prefix) []byte {
	if p.IsSingleIP() {
		return p.Addr().AppendTo(b)
	}
	return p.AppendTo(b)
}

func appendRealms(b []byte, r uint32) []byte {
	b = strconv.AppendUint(append(b, " realms "...), uint64(r>>16), 10)
	return strconv.AppendUint(append(b, '/'), uint64(r&0xffff), 10)
}

func appendTable(b []byte, id uint32, n Names) []byte {
	b = append(b, " table "...)
	if n != nil {
		if w := n.Table(id); w != "" {
			return appendWord(b, w)
		}
		return tableNames.append(b, id)
	}
	return strconv.AppendUint(b, uint64(id), 10)
}

func appendProtocol(b []byte, p uint8, n Names) []byte {
	if p == 0 {
		return b
	}
	b = append(b, " proto "...)
	if n != nil {
		return protocolNames.append(b, uint32(p))
	}
	return strconv.AppendUint(b, uint64(p), 10)
}

func parseUint(s string, bits int) (uint64, error) {
	if h, ok := strings.CutPrefix(s, "0x"); ok {
		return strconv.ParseUint(h, 16, bits)
	}
	return strconv.ParseUint(s, 10, bits)
}
