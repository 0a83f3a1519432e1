package kernel

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// The kernel marks a torn dump only where its code looks for one, and for two
// lists it does not: rules, whose dump goes on at the index where it stopped, and
// IPv6 routes, whose dump starts at the root again when the tree changed and
// skips as many as it had given (measured on 6.18: with a second program that
// adds and deletes rules, every fifth dump of 1,200 lacked one that had been there
// all the time, or had one twice; the same with IPv6 routes; never with IPv4
// routes). So those are read while a second socket listens for changes, and read
// again when one came.
const (
	// Multicast groups as bits: RTNLGRP_IPV4_RULE, _IPV6_RULE, _IPV6_ROUTE. A link
	// that goes takes IPv6 routes along, by sysctl without a word: RTNLGRP_LINK.
	ruleGroups   = 1<<(unix.RTNLGRP_IPV4_RULE-1) | 1<<(unix.RTNLGRP_IPV6_RULE-1)
	route6Groups = 1<<(unix.RTNLGRP_IPV6_ROUTE-1) | 1<<(unix.RTNLGRP_LINK-1)
)

// watcher hears of changes.
type watcher interface {
	// changed says whether something changed since it was asked last.
	changed() (bool, error)
	close() error
}

// steady runs read until nothing changed meanwhile. A list that came in one
// datagram was read under one lock and is whole whatever happens.
func (c *Conn) steady(ctx context.Context, what string, groups uint32, read func() error) error {
	w := c.held
	if w == nil {
		var err error
		if w, err = c.watch(groups); err != nil {
			return fmt.Errorf("watch %s: %w", what, err)
		}
		defer w.close()
	} else if _, err := w.changed(); err != nil { // what it heard before does not matter
		return fmt.Errorf("watch %s: %w", what, err)
	}
	for range tornRetries {
		c.parts = 0
		err := read()
		if errors.Is(err, errInterrupted) {
			continue
		}
		if err != nil || c.parts <= 1 {
			return err
		}
		// A writer of rules tells of a change before it gives back the lock under
		// which it made it. Taking that lock once makes sure that it has told.
		if _, err := c.ask(ctx, unix.RTM_GETLINK, 0, putString(make([]byte, linkHeader), unix.IFLA_IFNAME, "lo")); err != nil && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("list %s: %w", what, err)
		}
		changed, err := w.changed()
		if err != nil {
			return fmt.Errorf("watch %s: %w", what, err)
		}
		if !changed {
			return nil
		}
	}
	return fmt.Errorf("list %s: %w", what, ErrTornDump)
}

// multicast is the watcher on a netlink socket.
type multicast struct{ fd int }

// openMulticast opens a socket in the calling thread's namespace that hears what the
// kernel tells some groups.
func openMulticast(groups uint32) (*multicast, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return &multicast{fd}, nil
}

func (m *multicast) close() error { return unix.Close(m.fd) }

func (m *multicast) changed() (changed bool, err error) {
	var buf [1]byte // what changed does not matter
	for {
		_, _, err = unix.Recvfrom(m.fd, buf[:], unix.MSG_TRUNC)
		switch err {
		case nil, unix.ENOBUFS: // so many that some were lost
			changed = true
		case unix.EINTR:
		case unix.EAGAIN:
			return changed, nil
		default:
			return changed, err
		}
	}
}
