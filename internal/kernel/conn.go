package kernel

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Conn reads and writes one network namespace.
type Conn struct {
	mu    sync.Mutex
	ns    *os.File // the namespace
	t     transport
	dial  func() (transport, error)
	watch func(groups uint32) (watcher, error)
	held  watcher // that of a View, for all that it reads
	batch int     // requests a send
	seq   uint32  // of the last request of a batch or dump
	asked uint32  // of the last single question, counted down
	buf   []byte  // one datagram
	list  []byte  // the dump last read, to be used again
	list6 []byte  // and one of IPv6 that is read before the other is decoded
	parts int     // datagrams of the longest of the dumps since it was set to 0
	out   []byte  // the batch last sent
	// probed remembers which attributes this kernel knows.
	probed map[uint16]bool
}

// Open opens a namespace: the calling thread's where netns is empty, else a name
// below /run/netns, or a path. Where there is none the error is ErrNoNamespace.
// Open succeeds without privileges for the own namespace; the first write then
// fails with EPERM.
func Open(netns string) (*Conn, error) {
	ns, err := openNamespace(netns)
	if err != nil {
		return nil, err
	}
	return newConn(ns, netns, func(open func() error) error { return inNamespace(ns, open) })
}

// newConn takes an open namespace over; its name is for messages. inside runs what opens
// the Conn's own sockets in the namespace.
func newConn(ns *os.File, netns string, inside func(func() error) error) (*Conn, error) {
	c := &Conn{ns: ns, buf: make([]byte, datagram), probed: map[uint16]bool{}}
	c.dial = func() (t transport, err error) {
		err = inside(func() error {
			s, err := openSocket(unix.NETLINK_ROUTE)
			if err == nil {
				t, c.batch = s, s.batchSize()
			}
			return err
		})
		return t, err
	}
	c.watch = func(groups uint32) (w watcher, err error) {
		err = inside(func() error {
			w, err = openMulticast(groups)
			return err
		})
		return w, err
	}
	if _, err := c.transport(); err != nil {
		ns.Close()
		if netns == "" {
			return nil, err
		}
		return nil, fmt.Errorf("open network namespace %q: %w", netns, err)
	}
	return c, nil
}

// Close frees the sockets. The Conn is of no use after it.
func (c *Conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop()
	if c.held != nil {
		c.held.close()
		c.held = nil
	}
	return c.ns.Close()
}

// Cookie identifies the namespace: unlike inodes and names, a cookie is never
// used again while the host runs (SO_NETNS_COOKIE, Linux 5.14).
func (c *Conn) Cookie() (uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t, err := c.transport()
	if err != nil {
		return 0, err
	}
	cookie, err := unix.GetsockoptUint64(t.(*socket).fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err == unix.ENOPROTOOPT {
		err = &FeatureError{Name: "cookies of network namespaces", MinKernel: "5.14"}
	}
	if err != nil {
		return 0, fmt.Errorf("read the namespace's cookie: %w", err)
	}
	return cookie, nil
}

// Release is the release of the running kernel, as `uname -r` says.
func Release() (string, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", fmt.Errorf("read the kernel's release: %w", err)
	}
	return unix.ByteSliceToString(u.Release[:]), nil
}

// openOther opens a socket of another netlink protocol in the same namespace, as a
// Conn for questions only. It is closed with drop.
func (c *Conn) openOther(protocol int) (*Conn, error) {
	var s *socket
	err := inNamespace(c.ns, func() (err error) {
		s, err = openSocket(protocol)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &Conn{t: s, buf: make([]byte, datagram), dial: func() (transport, error) { return nil, errors.New("the socket broke") }}, nil
}

// transport returns the socket, a new one where the last was dropped.
func (c *Conn) transport() (transport, error) {
	if c.t == nil {
		t, err := c.dial()
		if err != nil {
			return nil, err
		}
		c.t = t
	}
	return c.t, nil
}

// drop closes a socket that may still have answers to an old question in it.
func (c *Conn) drop() {
	if c.t != nil {
		c.t.close()
		c.t = nil
	}
}
