package fib_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/fib"
	"github.com/viarule/viarule/internal/netstate"
)

// oracle asks the running kernel by RTM_GETROUTE.
type oracle struct {
	fd    int
	index map[string]uint32
	name  map[uint32]string
}

// answer is the kernel's reply.
type answer struct {
	err    unix.Errno
	typ    netstate.RouteType
	table  uint32
	bits   int
	metric uint32
	dev    string
	via    netip.Addr
	src    netip.Addr
}

func (a answer) String() string {
	if a.err != 0 {
		return a.err.Error()
	}
	return fmt.Sprintf("%s table %d dev %s via %s src %s", a.typ, a.table, a.dev, a.via, a.src)
}

// newOracle opens a socket in the calling thread's namespace.
func newOracle(t *testing.T) *oracle {
	t.Helper()
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return &oracle{fd: fd}
}

func (o *oracle) links(links []netstate.Link) {
	o.index, o.name = make(map[string]uint32), make(map[uint32]string)
	for i := range links {
		o.index[links[i].Name] = uint32(links[i].Index)
		o.name[uint32(links[i].Index)] = links[i].Name
	}
}

const (
	lookupTable = 0x1000 // RTM_F_LOOKUP_TABLE
	fibMatch    = 0x2000 // RTM_F_FIB_MATCH
)

// ask looks a flow up. With fibMatch the answer is the route, without it what
// becomes of the packet.
func (o *oracle) ask(flow fib.Flow, flags uint32) (answer, error) {
	ne := binary.NativeEndian
	attr := func(b []byte, typ uint16, data []byte) []byte {
		b = ne.AppendUint16(b, uint16(4+len(data)))
		b = append(ne.AppendUint16(b, typ), data...)
		for len(b)%4 != 0 {
			b = append(b, 0)
		}
		return b
	}
	u32 := func(v uint32) []byte { return ne.AppendUint32(nil, v) }
	be16 := func(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }

	srcLen := 0
	if flow.From.IsValid() {
		srcLen = flow.From.BitLen()
	}
	msg := make([]byte, 16, 256)
	msg = append(msg, byte(flow.Family()), byte(flow.To.BitLen()), byte(srcLen), flow.TOS, 0, 0, 0, 0)
	msg = ne.AppendUint32(msg, lookupTable|flags)
	msg = attr(msg, unix.RTA_DST, flow.To.AsSlice())
	if flow.From.IsValid() {
		msg = attr(msg, unix.RTA_SRC, flow.From.AsSlice())
	}
	if flow.IIF != "" {
		msg = attr(msg, unix.RTA_IIF, u32(o.index[flow.IIF]))
	}
	if flow.OIF != "" {
		msg = attr(msg, unix.RTA_OIF, u32(o.index[flow.OIF]))
	}
	msg = attr(msg, unix.RTA_MARK, u32(flow.Mark))
	msg = attr(msg, unix.RTA_UID, u32(flow.UID))
	if flow.Proto != 0 {
		msg = attr(msg, unix.RTA_IP_PROTO, []byte{flow.Proto})
	}
	if flow.SPort != 0 {
		msg = attr(msg, unix.RTA_SPORT, be16(flow.SPort))
	}
	if flow.DPort != 0 {
		msg = attr(msg, unix.RTA_DPORT, be16(flow.DPort))
	}
	ne.PutUint32(msg, uint32(len(msg)))
	ne.PutUint16(msg[4:], unix.RTM_GETROUTE)
	ne.PutUint16(msg[6:], unix.NLM_F_REQUEST)
	if err := unix.Sendto(o.fd, msg, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return answer{}, err
	}
	buf := make([]byte, 8192)
	n, _, err := unix.Recvfrom(o.fd, buf, 0)
	if err != nil {
		return answer{}, err
	}
	return o.parse(buf[:n])
}

func (o *oracle) parse(b []byte) (answer, error) {
	ne := binary.NativeEndian
	if len(b) < 28 {
		return answer{}, fmt.Errorf("an answer of %d bytes", len(b))
	}
	if ne.Uint16(b[4:]) == unix.NLMSG_ERROR {
		return answer{err: unix.Errno(-int32(ne.Uint32(b[16:])))}, nil
	}
	a := answer{bits: int(b[17]), typ: netstate.RouteType(b[16+7]), table: uint32(b[16+4])}
	addr := func(b []byte) netip.Addr {
		v, _ := netip.AddrFromSlice(b)
		return v
	}
	for b = b[28:]; len(b) >= 4; {
		n := int(ne.Uint16(b))
		data := b[4:n]
		switch ne.Uint16(b[2:]) {
		case unix.RTA_TABLE:
			a.table = ne.Uint32(data)
		case unix.RTA_OIF:
			a.dev = o.name[ne.Uint32(data)]
		case unix.RTA_GATEWAY:
			a.via = addr(data)
		case unix.RTA_VIA:
			a.via = addr(data[2:])
		case unix.RTA_PREFSRC:
			a.src = addr(data)
		case unix.RTA_PRIORITY:
			a.metric = ne.Uint32(data)
		}
		b = b[min((n+3)&^3, len(b)):]
	}
	return a, nil
}
