package lab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// reply is what the client of a check saw.
type reply struct {
	outcome Outcome
	detail  string // of a refusal, in the kernel's words
	port    uint16 // the client's own
	took    time.Duration
}

// resend is the time after which a request that may be lost is sent again.
const resend = 300 * time.Millisecond

// request sends the request of a check from the namespace of its client and
// waits for the end of it: an answer, a refusal, or the check's time. An error
// says that the request could not be made at all.
func request(ctx context.Context, ns string, c *Check, token []byte) (reply, error) {
	var r reply
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	err := inNetns(ns, func() error {
		begin := time.Now()
		got, err := send(ctx, c, token, &r)
		r.took = time.Since(begin)
		switch {
		case err == nil && got:
			r.outcome = Answer
		case err == nil, isTimeout(err):
			r.outcome = Silence
		case refusal(err) != nil:
			r.outcome, r.detail = Refused, refusal(err).Error()
		default:
			return err
		}
		return nil
	})
	if err == nil && r.outcome == Silence && errors.Is(ctx.Err(), context.Canceled) {
		err = context.Canceled // interrupted, not silent
	}
	if err != nil {
		return r, fmt.Errorf("send the request of the check from host %s: %w", c.From, err)
	}
	return r, nil
}

func isTimeout(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, unix.ETIMEDOUT)
}

// refusal gives the errno by which somebody, a router or this host's own routing,
// said no; nil for other errors. EINVAL is how a blackhole route looks to a local
// sender, EACCES a prohibiting one.
func refusal(err error) error {
	for _, no := range []unix.Errno{unix.ECONNREFUSED, unix.ECONNRESET, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EACCES, unix.EPERM, unix.ENOPROTOOPT, unix.EINVAL} {
		if errors.Is(err, no) {
			return no
		}
	}
	return nil
}

// send makes the exchange. It says whether the right answer came.
func send(ctx context.Context, c *Check, token []byte, r *reply) (bool, error) {
	network, to := string(c.Proto), netip.AddrPortFrom(c.To, c.Port).String()
	d := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
		return onSocket(raw, func(fd int) error { return bind(fd, c, &r.port) })
	}}
	if c.Proto == ICMP {
		network, to = "ip4:icmp", c.To.String()
		if c.To.Is6() {
			network = "ip6:ipv6-icmp"
		}
	}
	d.SetMultipathTCP(false)
	conn, err := d.DialContext(ctx, network, to)
	if err != nil {
		return false, err
	}
	defer drop(conn)
	end, _ := ctx.Deadline() // request has set one
	// A context that is cancelled ends every read at once.
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()

	switch c.Proto {
	case TCP:
		if err := conn.SetDeadline(end); err != nil {
			return false, err
		}
		if _, err := conn.Write(token); err != nil {
			return false, err
		}
		buf := make([]byte, tokenSize)
		if _, err := io.ReadFull(conn, buf); err != nil {
			return false, err
		}
		return string(buf) == string(token), nil
	case UDP:
		return again(ctx, conn, end, func(int) []byte { return token }, func(b []byte) bool { return string(b) == string(token) })
	}
	id := binary.BigEndian.Uint16(token)
	return again(ctx, conn, end,
		func(n int) []byte { return echoRequest(c.To.Is6(), id, uint16(n), token) },
		func(b []byte) bool { return isEchoReply(c.To.Is6(), b, token) })
}

// again sends until the answer is there or the time is over.
func again(ctx context.Context, conn net.Conn, end time.Time, message func(n int) []byte, answers func([]byte) bool) (bool, error) {
	buf := make([]byte, 2048)
	for n := 1; ctx.Err() == nil && time.Now().Before(end); n++ {
		if _, err := conn.Write(message(n)); err != nil {
			return false, err
		}
		pause := time.Now().Add(resend)
		if pause.After(end) {
			pause = end
		}
		if err := conn.SetReadDeadline(pause); err != nil {
			return false, err
		}
		for ctx.Err() == nil {
			size, err := read(conn, buf)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				return false, err
			}
			if answers(buf[:size]) {
				return true, nil
			}
		}
	}
	return false, nil
}

func read(conn net.Conn, buf []byte) (int, error) {
	if ip, ok := conn.(*net.IPConn); ok { // its ReadFrom takes the IPv4 header off, its Read does not
		n, _, err := ip.ReadFrom(buf)
		return n, err
	}
	return conn.Read(buf)
}

// onSocket runs f on a socket that is not in use yet.
func onSocket(raw syscall.RawConn, f func(fd int) error) error {
	var err error
	if ctl := raw.Control(func(fd uintptr) { err = f(int(fd)) }); ctl != nil {
		return ctl
	}
	return err
}

// bindToDevice binds a socket to a VRF; empty: to none.
func bindToDevice(fd int, vrf string) error {
	if vrf == "" {
		return nil
	}
	return os.NewSyscallError("setsockopt", unix.BindToDevice(fd, vrf))
}

// bind asks for the errors that routers send, which for UDP and raw sockets the
// kernel keeps to itself otherwise, and binds the socket, to know the port also
// of a connection that never comes about.
func bind(fd int, c *Check, port *uint16) error {
	if err := bindToDevice(fd, c.vrf); err != nil {
		return err
	}
	var sa unix.Sockaddr
	if c.To.Is4() {
		if err := unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_RECVERR, 1); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
		a := &unix.SockaddrInet4{}
		if c.Source.IsValid() {
			a.Addr = c.Source.As4()
		}
		sa = a
	} else {
		if err := unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_RECVERR, 1); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
		a := &unix.SockaddrInet6{}
		if c.Source.IsValid() {
			a.Addr = c.Source.As16()
		}
		sa = a
	}
	if err := unix.Bind(fd, sa); err != nil {
		return os.NewSyscallError("bind", err)
	}
	if c.Proto == ICMP {
		return nil
	}
	got, err := unix.Getsockname(fd)
	if err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	switch a := got.(type) {
	case *unix.SockaddrInet4:
		*port = uint16(a.Port)
	case *unix.SockaddrInet6:
		*port = uint16(a.Port)
	}
	return nil
}

const (
	echo4, echoReply4 = 8, 0
	echo6, echoReply6 = 128, 129
)

// echoRequest is an ICMP message. The kernel fills in ICMPv6's checksum.
func echoRequest(v6 bool, id, seq uint16, token []byte) []byte {
	m := make([]byte, 8, 8+len(token))
	m[0] = echo4
	if v6 {
		m[0] = echo6
	}
	binary.BigEndian.PutUint16(m[4:], id)
	binary.BigEndian.PutUint16(m[6:], seq)
	m = append(m, token...)
	if !v6 {
		binary.BigEndian.PutUint16(m[2:], checksum(m))
	}
	return m
}

func isEchoReply(v6 bool, m, token []byte) bool {
	want := byte(echoReply4)
	if v6 {
		want = echoReply6
	}
	return len(m) >= 8 && m[0] == want && string(m[8:]) == string(token)
}

// checksum is the Internet checksum of RFC 1071, for an even number of bytes.
func checksum(b []byte) uint16 {
	var sum uint32
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
