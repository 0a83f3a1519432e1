package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// tokenSize is the length of what a check sends and wants back.
const tokenSize = 16

// server answers the token of one check and notes whom it saw.
type server struct {
	stop io.Closer
	wg   sync.WaitGroup

	mu   sync.Mutex
	seen netip.AddrPort
}

// serve starts the server of a check in its namespace, ready for requests when
// serve returns. For ICMP the kernel answers, so there is none: nil.
func serve(ctx context.Context, ns string, c *Check, token []byte) (*server, error) {
	if c.Server.Host == "" || c.Proto == ICMP {
		return nil, nil
	}
	s := &server{}
	at := netip.AddrPortFrom(c.Server.Addr, c.Server.Port).String()
	err := inNetns(ns, func() error {
		lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
			return onSocket(raw, func(fd int) error { return bindToDevice(fd, c.Server.vrf) })
		}}
		lc.SetMultipathTCP(false)
		if c.Proto == UDP {
			pc, err := lc.ListenPacket(ctx, "udp", at)
			if err != nil {
				return err
			}
			s.stop = pc
			s.wg.Go(func() { s.packets(pc, token) })
			return nil
		}
		ln, err := lc.Listen(ctx, "tcp", at)
		if err != nil {
			return err
		}
		s.stop = ln
		s.wg.Go(func() { s.connections(ln, token, c.Timeout) })
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("start the server of the check on host %s: %w", c.Server.Host, err)
	}
	return s, nil
}

// close ends the server and gives whom it saw, if anybody.
func (s *server) close() netip.AddrPort {
	if s == nil {
		return netip.AddrPort{}
	}
	s.stop.Close() // ends the loops below; there is nothing that could be lost
	s.wg.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen
}

func (s *server) saw(a net.Addr) {
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
}

func (s *server) packets(pc net.PacketConn, token []byte) {
	buf := make([]byte, 2*tokenSize)
	for {
		n, from, err := pc.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil && string(buf[:n]) == string(token) {
			s.saw(from)
			// Where the answer cannot be sent the client sees silence, which is
			// what the check is about.
			_, _ = pc.WriteTo(token, from)
		}
	}
}

func (s *server) connections(ln net.Listener, token []byte, limit time.Duration) {
	for {
		conn, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // of that one connection
		}
		s.wg.Go(func() {
			defer drop(conn)
			_ = conn.SetDeadline(time.Now().Add(limit)) // cannot fail on an open connection
			buf := make([]byte, tokenSize)
			if _, err := io.ReadFull(conn, buf); err == nil && string(buf) == string(token) {
				s.saw(conn.RemoteAddr())
				_, _ = conn.Write(token)
				_, _ = conn.Read(buf) // until the client has it and goes
			}
		})
	}
}

// drop closes a connection without leaving one of its packets or its port
// behind: the next check may use the same addresses.
func drop(conn net.Conn) {
	if t, ok := conn.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	conn.Close()
}
