package kernel

import (
	"bytes"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/netstate"
)

// The old iptables is read by getsockopt (net/ipv4/netfilter/ip_tables.c and its twin of
// IPv6, include/uapi/linux/netfilter_ipv4/ip_tables.h). Only a table that is in use is
// asked for: to ask for another one would load it.
const (
	iptGetInfo    = 64 // IPT_SO_GET_INFO, IP6T_SO_GET_INFO
	iptGetEntries = 65
	iptInfoSize   = 84 // struct ipt_getinfo
	iptHeader     = 40 // of struct ipt_get_entries, where pointers have 64 bits
	iptNameSize   = 32 // XT_TABLE_MAXNAMELEN
	iptMatchSize  = 32 // struct xt_entry_match without data; xt_entry_target too
	iptMaxSize    = 64 << 20

	// Verdicts are -NF_ACCEPT-1 and the like.
	iptAccept = -2
)

// iptLayout says where in an entry things stand.
type iptLayout struct {
	family  netstate.Family
	pf      int
	level   int
	names   int // where the names of links begin; 16 bytes each: in, out, and their masks
	flags   int // where what is behind the masks begins
	offsets int // of the target and of the next entry, 16 bits each
	size    int // of an entry without matches
}

var iptLayouts = []iptLayout{
	{netstate.IPv4, unix.AF_INET, unix.SOL_IP, 16, 80, 88, 112},      // struct ipt_entry
	{netstate.IPv6, unix.AF_INET6, unix.SOL_IPV6, 64, 128, 140, 168}, // struct ip6t_entry
}

// legacyForward reads the chain FORWARD of the table filter. The caller is in the
// namespace.
func legacyForward(l *iptLayout) netstate.LegacyForward {
	out := netstate.LegacyForward{Family: l.family}
	if unsafe.Sizeof(uintptr(0)) != 8 {
		return out // other kernels align the entries otherwise
	}
	fd, err := unix.Socket(l.pf, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return out
	}
	defer unix.Close(fd)
	info := make([]byte, iptInfoSize)
	copy(info, "filter")
	if !getsockopt(fd, l.level, iptGetInfo, info) {
		return out
	}
	u32 := func(at int) int { return int(native.Uint32(info[at:])) }
	const hook = 2 // NF_INET_FORWARD
	size, first, policy := u32(iptNameSize+48), u32(iptNameSize+4+4*hook), u32(iptNameSize+24+4*hook)
	if size <= 0 || size > iptMaxSize {
		return out
	}
	table := make([]byte, iptHeader+size)
	copy(table, "filter")
	native.PutUint32(table[iptNameSize:], uint32(size))
	if !getsockopt(fd, l.level, iptGetEntries, table) {
		return out
	}
	l.read(&out, table[iptHeader:], first, policy)
	return out
}

// getsockopt fills b, whose beginning is the question.
func getsockopt(fd, level, name int, b []byte) bool {
	size := uint32(len(b))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name),
		uintptr(unsafe.Pointer(&b[0])), uintptr(unsafe.Pointer(&size)), 0)
	return errno == 0 && int(size) == len(b)
}

// read reads the entries from the one at first up to the policy's.
func (l *iptLayout) read(out *netstate.LegacyForward, table []byte, first, policy int) {
	for at := first; at >= 0 && at <= policy; {
		if at+l.size > len(table) {
			return
		}
		e := table[at:]
		target, next := int(native.Uint16(e[l.offsets:])), int(native.Uint16(e[l.offsets+2:]))
		if target < l.size || next < target+iptMatchSize+4 || next > len(e) {
			return
		}
		e = e[:next]
		verdict, plain := iptVerdict(e[target:])
		if at == policy {
			out.Known, out.Drop = plain, plain && verdict != iptAccept
			return
		}
		if plain && verdict == iptAccept {
			l.accept(out, e, target)
		}
		at += next
	}
}

// iptVerdict reads a standard target, whose name is empty.
func iptVerdict(t []byte) (verdict int32, plain bool) {
	return int32(native.Uint32(t[iptMatchSize:])), t[2] == 0
}

// accept notes an entry that looks at nothing but the beginning of a link's name.
func (l *iptLayout) accept(out *netstate.LegacyForward, e []byte, target int) {
	zero := func(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }
	if !zero(e[:l.names]) || !zero(e[l.flags:l.offsets-4]) { // then nfcache, which the kernel does not use
		return
	}
	for m := e[l.size:target]; len(m) > 0; {
		n := 0
		if len(m) >= iptMatchSize {
			n = int(native.Uint16(m))
		}
		name, _, _ := bytes.Cut(m[2:min(len(m), iptMatchSize-1)], []byte{0})
		if n < iptMatchSize || n > len(m) || string(name) != "comment" {
			return
		}
		m = m[n:]
	}
	name := func(i int) []byte { return e[l.names+unix.IFNAMSIZ*i:][:unix.IFNAMSIZ] }
	in, away := iptPattern(name(0), name(2)), iptPattern(name(1), name(3))
	switch {
	case in != "" && zero(name(3)):
		out.In = append(out.In, in)
	case away != "" && zero(name(2)):
		out.Out = append(out.Out, away)
	}
}

// iptPattern reads a name that is compared up to where its mask ends, as -i via+ makes
// one; empty: it is something else.
func iptPattern(name, mask []byte) string {
	n := len(mask) - len(bytes.TrimLeft(mask, "\xff"))
	if n == 0 || len(bytes.Trim(mask[n:], "\x00")) > 0 || bytes.IndexByte(name[:n], 0) >= 0 {
		return ""
	}
	return string(name[:n]) + "*"
}
