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
	buf   []byte // for one answer
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

// reply is what the kernel says about a flow.
type reply struct {
	packet answer // what becomes of the packet
	route  answer // the route that was found
}

// newOracle opens a socket in the calling thread's namespace.
func newOracle(t *testing.T) *oracle {
	t.Helper()
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	// Room for the answers to a whole send, and an end where one is lost.
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20); err != nil {
		t.Fatal(err)
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 60}); err != nil {
		t.Fatal(err)
	}
	return &oracle{fd: fd, buf: make([]byte, 8192)}
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

	// flowsPerSend is how many flows one send asks about. The kernel answers all
	// of them before the send returns.
	flowsPerSend = 50
)

// ask looks flows up, and gives a reply for each.
func (o *oracle) ask(flows []fib.Flow) ([]reply, error) {
	replies := make([]reply, 0, len(flows))
	var msg []byte
	for len(flows) > 0 {
		n := min(len(flows), flowsPerSend)
		msg = msg[:0]
		for i := range flows[:n] {
			msg = o.request(msg, &flows[i], 0)
			msg = o.request(msg, &flows[i], fibMatch)
		}
		if err := unix.Sendto(o.fd, msg, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			return nil, err
		}
		for range n {
			packet, err := o.receive()
			if err != nil {
				return nil, err
			}
			route, err := o.receive()
			if err != nil {
				return nil, err
			}
			replies = append(replies, reply{packet, route})
		}
		flows = flows[n:]
	}
	return replies, nil
}

// request appends a question. With fibMatch the answer is the route, without it
// what becomes of the packet.
func (o *oracle) request(b []byte, flow *fib.Flow, flags uint32) []byte {
	ne := binary.NativeEndian
	start := len(b)
	attr := func(typ uint16, data ...byte) {
		b = ne.AppendUint16(b, uint16(4+len(data)))
		b = append(ne.AppendUint16(b, typ), data...)
		for len(b)%4 != 0 {
			b = append(b, 0)
		}
	}
	u32 := func(typ uint16, v uint32) { attr(typ, ne.AppendUint32(nil, v)...) }
	be16 := func(typ uint16, v uint16) { attr(typ, byte(v>>8), byte(v)) }

	srcLen := 0
	if flow.From.IsValid() {
		srcLen = flow.From.BitLen()
	}
	b = append(b, make([]byte, unix.NLMSG_HDRLEN)...)
	b = append(b, byte(flow.Family()), byte(flow.To.BitLen()), byte(srcLen), flow.TOS, 0, 0, 0, 0)
	b = ne.AppendUint32(b, lookupTable|flags)
	attr(unix.RTA_DST, flow.To.AsSlice()...)
	if flow.From.IsValid() {
		attr(unix.RTA_SRC, flow.From.AsSlice()...)
	}
	if flow.IIF != "" {
		u32(unix.RTA_IIF, o.index[flow.IIF])
	}
	if flow.OIF != "" {
		u32(unix.RTA_OIF, o.index[flow.OIF])
	}
	u32(unix.RTA_MARK, flow.Mark)
	u32(unix.RTA_UID, flow.UID)
	if flow.Proto != 0 {
		attr(unix.RTA_IP_PROTO, flow.Proto)
	}
	if flow.SPort != 0 {
		be16(unix.RTA_SPORT, flow.SPort)
	}
	if flow.DPort != 0 {
		be16(unix.RTA_DPORT, flow.DPort)
	}
	h := b[start:]
	ne.PutUint32(h, uint32(len(h)))
	ne.PutUint16(h[4:], unix.RTM_GETROUTE)
	ne.PutUint16(h[6:], unix.NLM_F_REQUEST)
	return b
}

func (o *oracle) receive() (answer, error) {
	n, _, err := unix.Recvfrom(o.fd, o.buf, 0)
	if err != nil {
		return answer{}, fmt.Errorf("an answer of the kernel is missing: %w", err)
	}
	return o.parse(o.buf[:n])
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
