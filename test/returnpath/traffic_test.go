package returnpath

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/viarule/viarule/internal/netnstest"
)

const (
	soon = 250 * time.Millisecond // silence is that nothing comes within it
	late = 10 * time.Second       // and an answer comes before
)

// serve echoes TCP and UDP.
func (w *world) serve(ns string, at netip.AddrPort) {
	w.t.Helper()
	netnstest.In(w.t, ns, func() {
		l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
		if err != nil {
			w.t.Fatal(err)
		}
		u, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
		if err != nil {
			w.t.Fatal(err)
		}
		w.t.Cleanup(func() { l.Close(); u.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() { defer c.Close(); _, _ = io.Copy(c, c) }()
			}
		}()
		go func() {
			b := make([]byte, 1<<16)
			for {
				n, from, err := u.ReadFromUDPAddrPort(b)
				if errors.Is(err, net.ErrClosed) {
					return
				}
				if err == nil {
					_, _ = u.WriteToUDPAddrPort(b[:n], from)
				}
			}
		}()
	})
}

// serveAll starts the servers of the node's services.
func (w *world) serveAll() {
	w.t.Helper()
	for i := range families {
		f := &families[i]
		w.serve("pod", addrPort(f.pod, 8080))
		w.serve("node", f.at("13", 80))
		w.serve("node", addrPort(f.node, 8080))
	}
}

// dial opens a connection on a host; source may be "".
func (w *world) dial(ns, proto, source string, to netip.AddrPort, timeout time.Duration) (c net.Conn, err error) {
	w.t.Helper()
	d := net.Dialer{Timeout: timeout}
	if source != "" {
		d.LocalAddr = net.TCPAddrFromAddrPort(addrPort(source, 0))
		if proto == "udp" {
			d.LocalAddr = net.UDPAddrFromAddrPort(addrPort(source, 0))
		}
	}
	netnstest.In(w.t, ns, func() { c, err = d.Dial(proto, to.String()) })
	return c, err
}

// ask sends something and waits for it to come back.
func (w *world) ask(ns, proto, source string, to netip.AddrPort, size int, timeout time.Duration) error {
	w.t.Helper()
	c, err := w.dial(ns, proto, source, to, timeout)
	if err != nil {
		return err
	}
	defer c.Close()
	return exchange(c, size, timeout)
}

func exchange(c net.Conn, size int, timeout time.Duration) error {
	sent := bytes.Repeat([]byte("viarule "), size/8+1)[:size]
	_ = c.SetDeadline(time.Now().Add(timeout))
	wrote := make(chan error, 1)
	go func() { _, err := c.Write(sent); wrote <- err }()
	got := make([]byte, size)
	if _, err := io.ReadFull(c, got); err != nil {
		return errors.Join(err, <-wrote)
	}
	if !bytes.Equal(got, sent) {
		return fmt.Errorf("%s: %d bytes came back changed", c.RemoteAddr(), size)
	}
	return <-wrote
}

var protocols = []string{"tcp", "udp"}

// works demands an answer from all the addresses of the network, by their ends.
func (w *world) works(what, ns string, ends ...string) {
	w.t.Helper()
	w.each(ends, func(proto string, to netip.AddrPort) {
		if err := w.ask(ns, proto, "", to, 64, late); err != nil {
			w.t.Errorf("%s: %s to %s from %s: %v", what, proto, to, ns, err)
		}
	})
}

// silent demands that there is none.
func (w *world) silent(what, ns string, ends ...string) {
	w.t.Helper()
	w.each(ends, func(proto string, to netip.AddrPort) {
		if err := w.ask(ns, proto, "", to, 64, soon); err == nil {
			w.t.Errorf("%s: %s to %s from %s is answered", what, proto, to, ns)
		}
	})
}

func (w *world) each(ends []string, f func(string, netip.AddrPort)) {
	w.t.Helper()
	for i := range families {
		for _, end := range ends {
			for _, proto := range protocols {
				f(proto, families[i].at(end, 80))
			}
		}
	}
}

// watch counts packets on a host, each counter by the match of a rule, in a chain
// at the hook and priority.
func (w *world) watch(ns, hook string, counters map[string]string) {
	w.t.Helper()
	var b strings.Builder
	name, _, _ := strings.Cut(hook, " ")
	fmt.Fprintf(&b, "table inet watch {\n")
	for c := range counters {
		fmt.Fprintf(&b, "counter %s {}\n", c)
	}
	fmt.Fprintf(&b, "chain %s { type filter hook %s;\n", name, hook)
	for c, match := range counters {
		fmt.Fprintf(&b, "%s counter name %s\n", match, c)
	}
	w.nft(ns, b.String()+"}\n}\n")
}

var packets = regexp.MustCompile(`packets (\d+)`)

func (w *world) counted(ns, counter string) int {
	w.t.Helper()
	m := packets.FindStringSubmatch(w.in(ns, "", "nft", "list", "counter", "inet", "watch", counter))
	if m == nil {
		w.t.Fatalf("no counter %s in %s", counter, ns)
	}
	n, _ := strconv.Atoi(m[1])
	return n
}
