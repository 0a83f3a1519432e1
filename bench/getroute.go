package main

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/fib"
)

// asker asks the kernel for routes over one netlink socket: many requests a send,
// and many answers a receive, which is the quickest way there is. The kernel works
// on the requests within send, so that the processor time of the thread is all of
// the time.
type asker struct {
	fd      int
	out     []byte
	answers [askBatch][askAnswer]byte
	lengths [askBatch]int
	vectors [askBatch]unix.Iovec
	headers [askBatch]mmsghdr
}

const (
	askBatch  = 128
	askAnswer = 512 // bytes; an answer has some 100
)

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	unix.Msghdr
	length uint32
}

func newAsker() (*asker, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	a := &asker{fd: fd}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20); err != nil {
		a.close()
		return nil, err
	}
	for i := range a.headers {
		a.vectors[i] = unix.Iovec{Base: &a.answers[i][0], Len: askAnswer}
		a.headers[i].Iov, a.headers[i].Iovlen = &a.vectors[i], 1
	}
	return a, nil
}

func (a *asker) close() { _ = unix.Close(a.fd) }

// ask sends up to askBatch requests, and leaves their answers in answers.
func (a *asker) ask(requests [][]byte) error {
	a.out = a.out[:0]
	for _, r := range requests {
		a.out = append(a.out, r...)
	}
	if err := unix.Sendto(a.fd, a.out, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	for got := 0; got < len(requests); {
		n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(a.fd), uintptr(unsafe.Pointer(&a.headers[got])), uintptr(len(requests)-got), 0, 0, 0)
		if errno != 0 {
			return errno
		}
		got += int(n)
	}
	for i := range requests {
		a.lengths[i] = int(a.headers[i].length)
	}
	return nil
}

// request is an RTM_GETROUTE for a flow.
func request(flow *fib.Flow) []byte {
	const lookupTable = 0x1000 // RTM_F_LOOKUP_TABLE
	ne := binary.NativeEndian
	b := make([]byte, 16, 128)
	b = append(b, byte(flow.Family()), byte(flow.To.BitLen()), byte(flow.From.BitLen()), 0, 0, 0, 0, 0)
	b = ne.AppendUint32(b, lookupTable)
	for _, a := range []struct {
		typ  uint16
		addr netip.Addr
	}{{unix.RTA_DST, flow.To}, {unix.RTA_SRC, flow.From}} {
		data := a.addr.AsSlice()
		b = ne.AppendUint16(b, uint16(4+len(data)))
		b = append(ne.AppendUint16(b, a.typ), data...)
	}
	ne.PutUint32(b, uint32(len(b)))
	ne.PutUint16(b[4:], unix.RTM_GETROUTE)
	ne.PutUint16(b[6:], unix.NLM_F_REQUEST)
	return b
}

// answered is what the kernel says of a route.
type answered struct {
	table uint32
	via   netip.Addr
}

func parseAnswer(b []byte) (answered, error) {
	ne := binary.NativeEndian
	if len(b) < 28 {
		return answered{}, fmt.Errorf("an answer of %d bytes", len(b))
	}
	if ne.Uint16(b[4:]) == unix.NLMSG_ERROR {
		return answered{}, unix.Errno(-int32(ne.Uint32(b[16:])))
	}
	var a answered
	for b = b[28:]; len(b) >= 4; {
		n := int(ne.Uint16(b))
		switch ne.Uint16(b[2:]) {
		case unix.RTA_TABLE:
			a.table = ne.Uint32(b[4:])
		case unix.RTA_GATEWAY:
			a.via, _ = netip.AddrFromSlice(b[4:n])
		}
		b = b[min((n+3)&^3, len(b)):]
	}
	return a, nil
}
