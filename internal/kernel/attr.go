package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// native is the byte order of everything in netlink that is not a network
// header field.
var native = binary.NativeEndian

const (
	attrHeader = 4
	// typeMask takes NLA_F_NESTED and NLA_F_NET_BYTEORDER off an attribute's type.
	typeMask = 0x3fff
	// headerBits is the pseudo attribute that keeps header bits without a field.
	headerBits = 0x3fff
)

var errShort = errors.New("message is cut short")

// attr is one netlink attribute. raw is the header, the payload, no padding.
type attr struct {
	typ uint16 // without flags
	raw []byte
}

func (a attr) data() []byte { return a.raw[attrHeader:] }

// next takes the first attribute off b. An error says that b is not a run of
// attributes; ok is false at its end. The type that we keep for header bits is
// refused: a message that uses it could not be told from our own notes.
func next(b []byte) (a attr, rest []byte, ok bool, err error) {
	a, rest, ok, err = split(b)
	if a.typ == headerBits {
		return attr{}, nil, false, fmt.Errorf("attribute of the reserved type %d", headerBits)
	}
	return a, rest, ok, err
}

func split(b []byte) (a attr, rest []byte, ok bool, err error) {
	if len(b) < attrHeader {
		// The kernel pads to four bytes; less than a header is no attribute.
		return attr{}, nil, false, nil
	}
	n := int(native.Uint16(b))
	if n < attrHeader || n > len(b) {
		return attr{}, nil, false, errShort
	}
	a = attr{typ: native.Uint16(b[2:]) & typeMask, raw: b[:n]}
	return a, b[min(align(n), len(b)):], true, nil
}

func align(n int) int { return (n + 3) &^ 3 }

// u8, u16 and so on read a payload of exactly that size. One of another size is
// not what we know under that type, and the caller keeps it as unknown.
func (a attr) u8(v *uint8) bool {
	if len(a.raw) != attrHeader+1 {
		return false
	}
	*v = a.raw[attrHeader]
	return true
}

func (a attr) u16(v *uint16) bool {
	if len(a.raw) != attrHeader+2 {
		return false
	}
	*v = native.Uint16(a.raw[attrHeader:])
	return true
}

func (a attr) u32(v *uint32) bool {
	if len(a.raw) != attrHeader+4 {
		return false
	}
	*v = native.Uint32(a.raw[attrHeader:])
	return true
}

// addr reads an address of either family by its size.
func (a attr) addr(v *netip.Addr, size int) bool {
	if len(a.raw) != attrHeader+size {
		return false
	}
	*v = addrOf(a.data())
	return true
}

// addrOf makes an address of 4 or 16 bytes.
func addrOf(b []byte) netip.Addr {
	if len(b) == 4 {
		return netip.AddrFrom4([4]byte(b))
	}
	return netip.AddrFrom16([16]byte(b))
}

// text reads a string that ends at the first NUL or with the payload.
func (a attr) text() []byte {
	b := a.data()
	if i := slices.Index(b, 0); i >= 0 {
		b = b[:i]
	}
	return b
}

// unknown collects attributes without a field.
type unknown []attr

// add keeps a. The bytes are not copied until String.
func (u *unknown) add(a attr) { *u = append(*u, a) }

// header keeps header bits, if there are any.
func (u *unknown) header(bits uint32) {
	if bits != 0 {
		u.add(attr{typ: headerBits, raw: putU32(nil, headerBits, bits)})
	}
}

// String gives the form of netstate's Unknown fields.
func (u unknown) String() string {
	if len(u) == 0 {
		return ""
	}
	slices.SortStableFunc(u, func(a, b attr) int { return int(a.typ) - int(b.typ) })
	var b []byte
	for _, a := range u {
		b = pad(append(b, a.raw...))
	}
	return string(b)
}

// parseAttrs splits a run of attributes.
func parseAttrs(b []byte) (unknown, error) {
	var u unknown
	for {
		a, rest, ok, err := next(b)
		if err != nil || !ok {
			return u, err
		}
		u.add(a)
		b = rest
	}
}

// parseUnknown reads an Unknown field, which may come from a person's text.
func parseUnknown(s string) (attrs unknown, header uint32, err error) {
	if s == "" {
		return nil, 0, nil
	}
	for b := []byte(s); len(b) > 0; {
		a, rest, ok, err := split(b)
		if err != nil || !ok || len(s)%4 != 0 {
			return nil, 0, fmt.Errorf("unknown attributes are not well formed: %w: %w", errShort, unix.EINVAL)
		}
		b = rest
		if a.typ != headerBits {
			attrs.add(a)
		} else if !a.u32(&header) {
			return nil, 0, fmt.Errorf("header bits of %d bytes: %w", len(a.data()), unix.EINVAL)
		}
	}
	return attrs, header, nil
}

// append adds the attributes to a message.
func (u unknown) append(b []byte) []byte {
	for _, a := range u {
		b = pad(append(b, a.raw...))
	}
	return b
}

func pad(b []byte) []byte {
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

// put appends an attribute. All messages start on a multiple of four.
func put(b []byte, typ uint16, data []byte) []byte {
	b = native.AppendUint16(b, uint16(attrHeader+len(data)))
	b = native.AppendUint16(b, typ)
	return pad(append(b, data...))
}

func putU8(b []byte, typ uint16, v uint8) []byte {
	return append(putHeader(b, typ, 1), v, 0, 0, 0)
}

func putU16(b []byte, typ uint16, v uint16) []byte {
	return append(native.AppendUint16(putHeader(b, typ, 2), v), 0, 0)
}

func putU32(b []byte, typ uint16, v uint32) []byte {
	return native.AppendUint32(putHeader(b, typ, 4), v)
}

func putHeader(b []byte, typ uint16, size int) []byte {
	b = native.AppendUint16(b, uint16(attrHeader+size))
	return native.AppendUint16(b, typ)
}

// putString appends a string with the NUL that the kernel wants.
func putString(b []byte, typ uint16, s string) []byte {
	b = putHeader(b, typ, len(s)+1)
	b = append(b, s...)
	return pad(append(b, 0))
}

func putAddr(b []byte, typ uint16, a netip.Addr) []byte {
	if a.Is4() {
		v := a.As4()
		return append(putHeader(b, typ, 4), v[:]...)
	}
	v := a.As16()
	return append(putHeader(b, typ, 16), v[:]...)
}

// nest appends an attribute that holds others; f appends those.
func nest(b []byte, typ uint16, f func([]byte) []byte) []byte {
	at := len(b)
	b = f(putHeader(b, typ, 0))
	native.PutUint16(b[at:], uint16(len(b)-at))
	return b
}

// prefix makes the prefix of a header's length and an attribute's address. A
// length without an address stands for the zero address.
func prefix(a netip.Addr, bits uint8, family uint8) (netip.Prefix, error) {
	if !a.IsValid() {
		if family == unix.AF_INET6 {
			a = netip.IPv6Unspecified()
		} else {
			a = netip.IPv4Unspecified()
		}
	}
	p := netip.PrefixFrom(a, int(bits))
	if !p.IsValid() {
		return p, fmt.Errorf("prefix length %d of family %d", bits, family)
	}
	return p, nil
}

// addrSize is the length of a family's addresses in bytes.
func addrSize(family uint8) int {
	if family == unix.AF_INET6 {
		return 16
	}
	return 4
}

// checkFamily refuses an address of the wrong family before its bytes are taken
// for one of the right family.
func checkFamily(what string, a netip.Addr, family uint8) error {
	if a.IsValid() && (a.Is4() != (family == unix.AF_INET) || a.Zone() != "") {
		return fmt.Errorf("%s %s is not of the family of its object: %w", what, a, unix.EINVAL)
	}
	return nil
}
