package cni

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/viarule/viarule/internal/netnstest"
)

const port = 5060

// patience is how long traffic may take that must come; only a failed test
// waits for it. A datagram is sent again after retry, for it may get lost while
// the links are coming up.
const (
	patience = 10 * time.Second
	retry    = 500 * time.Millisecond
)

// serve answers UDP and TCP at the addresses in the current namespace, until the
// test ends, with its name and the address that it sees: `NAME saw ADDRESS`.
func serve(t *testing.T, name string, addresses ...string) {
	t.Helper()
	for _, a := range addresses {
		at := netip.AddrPortFrom(netip.MustParseAddr(a), port)
		u, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { u.Close() })
		go func() {
			b := make([]byte, 100)
			for {
				_, peer, err := u.ReadFrom(b)
				if errors.Is(err, net.ErrClosed) {
					return
				}
				if err == nil {
					u.WriteTo(answer(name, peer), peer)
				}
			}
		}()
		serveTCP(t, name, a, a)
	}
}

// serveTCP does that for TCP and one address; bind is empty for a socket that is
// not bound.
func serveTCP(t *testing.T, name, address, bind string) {
	t.Helper()
	network := "tcp4"
	if strings.Contains(address, ":") {
		network = "tcp6"
	}
	l, err := net.Listen(network, net.JoinHostPort(bind, strconv.Itoa(port)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Write(answer(name, c.RemoteAddr()))
			c.Close()
		}
	}()
}

func answer(name string, peer net.Addr) []byte {
	return []byte(name + " saw " + netip.MustParseAddrPort(peer.String()).Addr().Unmap().String())
}

// ask sends a question from a namespace, bound to an address or, where source is
// empty, not bound, and returns the answer.
func ask(t *testing.T, ns, protocol, source, to string) (answer string, err error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	netnstest.In(t, ns, func() {
		for {
			answer, err = askOnce(protocol, source, to, deadline)
			if !errors.Is(err, os.ErrDeadlineExceeded) || time.Now().After(deadline) {
				return
			}
		}
	})
	return answer, err
}

func askOnce(protocol, source, to string, deadline time.Time) (string, error) {
	d := net.Dialer{Deadline: deadline}
	if source != "" {
		bound := netip.AddrPortFrom(netip.MustParseAddr(source), 0)
		if d.LocalAddr = net.Addr(net.UDPAddrFromAddrPort(bound)); protocol == "tcp" {
			d.LocalAddr = net.TCPAddrFromAddrPort(bound)
		}
	}
	c, err := d.Dial(protocol, netip.AddrPortFrom(netip.MustParseAddr(to), port).String())
	if err != nil {
		return "", err
	}
	defer c.Close()
	if protocol == "udp" {
		c.SetDeadline(time.Now().Add(retry))
		if _, err := c.Write([]byte("who?")); err != nil {
			return "", err
		}
		b := make([]byte, 100)
		n, err := c.Read(b)
		return string(b[:n]), err
	}
	c.SetDeadline(deadline)
	b, err := io.ReadAll(c)
	return string(b), err
}

// leaves checks, with UDP and TCP, who answers what a namespace sends, and which
// source it sees.
func leaves(t *testing.T, ns, source, to, want string) {
	t.Helper()
	for _, protocol := range []string{"udp", "tcp"} {
		got, err := ask(t, ns, protocol, source, to)
		if err != nil || got != want {
			t.Errorf("%s from %s to %s: %q, %v; want %q\n%s", protocol, orUnbound(source), to, got, err, want, routing(t, ns))
		}
	}
}

func orUnbound(source string) string {
	if source == "" {
		return "a socket that is not bound"
	}
	return source
}

// outsideOf is the address outside of the same family.
func outsideOf(address string) string {
	if strings.Contains(address, ":") {
		return outside6
	}
	return outside4
}

// goesBy is what outside answers to what is sent from source by a network.
func goesBy(network, source string) string { return fmt.Sprintf("%s saw %s", network, source) }
