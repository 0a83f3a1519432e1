package kernel

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

const (
	messageHeader = 16 // struct nlmsghdr
	// receiveBuffer holds the refusals of a whole batch: one takes about a KiB of
	// the kernel's memory, its message included.
	receiveBuffer = 4 << 20
	sendBuffer    = 4 << 20
	// datagram is more than the kernel puts into almost every answer: dumps come in 32
	// KiB, only a link with hundreds of virtual functions makes a larger message. To get a
	// MiB from the runtime at once costs twenty pages of its own books.
	datagram = 64 << 10
	// maxDatagram is more than any answer.
	maxDatagram = 1 << 20
	// patience is how long an answer that should be there already is waited for.
	patience = 30 * time.Second
)

// transport carries bytes to and from the kernel. Tests put scripted ones here.
type transport interface {
	send(b []byte) error
	// receive reads one datagram of the kernel into b.
	receive(b []byte) (int, error)
	close() error
}

// socket is the transport on a netlink socket. It blocks: see the package comment for
// why nothing is waited for.
type socket struct{ fd int }

// openSocket opens a socket in the calling thread's namespace.
func openSocket(protocol int) (_ *socket, err error) {
	s := &socket{}
	if s.fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol); err != nil {
		return nil, fmt.Errorf("open a netlink socket: %w", err)
	}
	defer func() {
		if err != nil {
			s.close()
			err = fmt.Errorf("set up a netlink socket: %w", err)
		}
	}()
	// A kernel that does not know an option works without it: answers come without
	// words, or with the request attached, or a dump is larger.
	for _, option := range []int{unix.NETLINK_EXT_ACK, unix.NETLINK_CAP_ACK, unix.NETLINK_GET_STRICT_CHK} {
		if err := unix.SetsockoptInt(s.fd, unix.SOL_NETLINK, option, 1); err != nil && err != unix.ENOPROTOOPT {
			return nil, err
		}
	}
	// A batch is cut to fit what there is: see batchSize.
	if err := s.buffer(unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, receiveBuffer); err != nil {
		return nil, err
	}
	if err := s.sendBuffer(sendBuffer); err != nil {
		return nil, err
	}
	wait := unix.NsecToTimeval(patience.Nanoseconds())
	return s, unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait)
}

func (s *socket) sendBuffer(size int) error {
	return s.buffer(unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, size)
}

// buffer sets a buffer's size. Without the right to exceed net.core.rmem_max and
// wmem_max it is what they give.
func (s *socket) buffer(force, plain, size int) error {
	if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, force, size); err != unix.EPERM {
		return err
	}
	return unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, plain, size)
}

func (s *socket) close() error { return unix.Close(s.fd) }

// batchSize is how many requests can be refused at once without an answer lost.
func (s *socket) batchSize() int {
	n, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
	if err != nil {
		return 1
	}
	return min(maxBatch, max(1, n/2048))
}

func (s *socket) send(b []byte) error {
	for {
		err := unix.Sendto(s.fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
		if err != unix.EINTR {
			return err
		}
	}
}

func (s *socket) receive(b []byte) (int, error) {
	for {
		n, from, err := unix.Recvfrom(s.fd, b, unix.MSG_TRUNC)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN, err == unix.ENOBUFS: // out of patience; lost
			return 0, ErrLostAnswers
		case err != nil:
			return 0, err
		case n > len(b):
			return 0, &largeAnswer{n}
		}
		// Only the kernel has the port 0. Other programs may write to our socket.
		if sa, ok := from.(*unix.SockaddrNetlink); ok && sa.Pid == 0 {
			return n, nil
		}
	}
}

// largeAnswer says that an answer was cut off, and how large it was.
type largeAnswer struct{ size int }

func (e *largeAnswer) Error() string {
	return fmt.Sprintf("an answer of %d bytes is larger than any that the kernel should give", e.size)
}

func (e *largeAnswer) Unwrap() error { return unix.EMSGSIZE }

// grow makes room for an answer that was cut off. Then the question can be asked again.
func (c *Conn) grow(err error) bool {
	large, ok := err.(*largeAnswer)
	ok = ok && large.size > len(c.buf) && large.size <= maxDatagram
	if ok {
		c.buf = make([]byte, maxDatagram)
	}
	return ok
}

// message is one netlink message of an answer.
type message struct {
	typ   uint16
	flags uint16
	seq   uint32
	body  []byte
}

// nextMessage takes the first message off b.
func nextMessage(b []byte) (m message, rest []byte, err error) {
	if len(b) < messageHeader {
		return m, nil, errShort
	}
	n := int(native.Uint32(b))
	if n < messageHeader || n > len(b) {
		return m, nil, errShort
	}
	m = message{typ: native.Uint16(b[4:]), flags: native.Uint16(b[6:]), seq: native.Uint32(b[8:]), body: b[messageHeader:n]}
	return m, b[min(align(n), len(b)):], nil
}

// startMessage appends a header whose length endMessage fills in.
func startMessage(b []byte, typ, flags uint16, seq uint32) []byte {
	b = append(b, 0, 0, 0, 0)
	b = native.AppendUint16(b, typ)
	b = native.AppendUint16(b, flags|unix.NLM_F_REQUEST)
	b = native.AppendUint32(b, seq)
	return append(b, 0, 0, 0, 0)
}

func endMessage(b []byte, at int) { native.PutUint32(b[at:], uint32(len(b)-at)) }

// parseAnswer reads the body of NLMSG_ERROR, or of NLMSG_DONE, which has the same
// start. nil: acknowledged.
func parseAnswer(m message) (*answer, error) {
	if len(m.body) < 4 {
		if m.typ == unix.NLMSG_DONE {
			return nil, nil // old kernels end a dump with nothing
		}
		return nil, errShort
	}
	errno := -int32(native.Uint32(m.body))
	if errno == 0 {
		return nil, nil
	}
	a := &answer{errno: unix.Errno(errno)}
	rest := m.body[4:]
	if m.typ == unix.NLMSG_ERROR {
		if len(rest) < messageHeader {
			return a, nil
		}
		// The request comes back: its header, and all of it without CAP_ACK.
		skip := messageHeader
		if m.flags&unix.NLM_F_CAPPED == 0 {
			skip = align(int(native.Uint32(rest)))
		}
		rest = rest[min(max(skip, messageHeader), len(rest)):]
	}
	if m.flags&unix.NLM_F_ACK_TLVS != 0 {
		attrs, _ := parseAttrs(rest) // words only; the errno stands without them
		for _, t := range attrs {
			if t.typ == unix.NLMSGERR_ATTR_MSG {
				a.msg = string(t.text())
			}
		}
	}
	return a, nil
}

// exchange sends one request that is acknowledged and returns what comes with
// the acknowledgement: the answer to a get, or nothing.
func exchange(ctx context.Context, t transport, req []byte, seq uint32, buf []byte) (found []byte, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := t.send(req); err != nil {
		return nil, err
	}
	for {
		n, err := t.receive(buf)
		if err != nil {
			return nil, err
		}
		for b := buf[:n]; len(b) > 0; {
			var m message
			if m, b, err = nextMessage(b); err != nil {
				return nil, err
			}
			if m.seq != seq {
				continue
			}
			if m.typ != unix.NLMSG_ERROR {
				found = append([]byte(nil), m.body...)
				continue
			}
			a, err := parseAnswer(m)
			if err != nil {
				return nil, err
			}
			if a != nil {
				return nil, a
			}
			return found, nil
		}
	}
}
