package kernel

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/netstate"
)

// Socket is a TCP socket of the namespace.
type Socket struct {
	Family netstate.Family // of the socket; its addresses may be IPv4 on an IPv6 one
	Local  netip.AddrPort
	Remote netip.AddrPort // not valid for a listening socket
	Listen bool           // else the connection is established
	UID    uint32         // owner
	Inode  uint64
	// Owners are the processes that hold it, by ascending number. There are none
	// where this process may not look, or where the holder lives in a process
	// namespace that is not visible.
	Owners []Owner
}

// Owner is a process that holds a socket.
type Owner struct {
	PID  int
	Name string // as in /proc/PID/comm
}

const (
	diagByFamily = 20 // SOCK_DIAG_BY_FAMILY
	diagRequest  = 56 // struct inet_diag_req_v2
	diagAnswer   = 72 // struct inet_diag_msg

	tcpEstablished = 1
	tcpListen      = 10
)

// Sockets lists the established and the listening TCP sockets of the namespace,
// with the processes that hold them.
func (c *Conn) Sockets(ctx context.Context) ([]Socket, error) {
	var list []Socket
	d, err := c.openOther(unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, fmt.Errorf("list the TCP sockets: %w", err)
	}
	defer d.drop()
	for _, f := range netstate.Families {
		body := make([]byte, diagRequest)
		body[0], body[1] = uint8(f), unix.IPPROTO_TCP
		native.PutUint32(body[4:], 1<<tcpEstablished|1<<tcpListen)
		msgs, _, err := d.dump(ctx, f.String()+" TCP sockets", diagByFamily, diagByFamily, body)
		// ENOENT: the module for it is not there, so nobody can have such sockets.
		if absent(err) || errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return nil, err
		}
		err = each(msgs, func(b []byte) error {
			s, err := decodeSocket(b)
			if err == nil {
				list = append(list, s)
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("list the TCP sockets: %w", err)
		}
	}
	return list, findOwners(ctx, list)
}

// decodeSocket reads struct inet_diag_msg. Ports and addresses are in network
// byte order.
func decodeSocket(b []byte) (Socket, error) {
	if len(b) < diagAnswer {
		return Socket{}, errShort
	}
	family := b[0]
	if family != unix.AF_INET && family != unix.AF_INET6 {
		return Socket{}, fmt.Errorf("socket of family %d", family)
	}
	n := addrSize(family)
	end := func(port, addr int) netip.AddrPort {
		return netip.AddrPortFrom(addrOf(b[addr:addr+n]).Unmap(), binary.BigEndian.Uint16(b[port:]))
	}
	s := Socket{
		Family: netstate.Family(family),
		Local:  end(4, 8),
		Listen: b[1] == tcpListen,
		UID:    native.Uint32(b[64:]),
		Inode:  uint64(native.Uint32(b[68:])),
	}
	if !s.Listen {
		s.Remote = end(6, 24)
	}
	return s, nil
}

// findOwners looks through the open files of all processes. Processes that end
// meanwhile, and those that this one may not look at, are passed over.
func findOwners(ctx context.Context, list []Socket) error {
	if len(list) == 0 {
		return nil
	}
	byInode := make(map[uint64]*Socket, len(list))
	for i := range list {
		byInode[list[i].Inode] = &list[i]
	}
	procs, err := os.ReadDir("/proc")
	if err != nil {
		return fmt.Errorf("look for the sockets' processes: %w", err)
	}
	for _, p := range procs {
		if err := ctx.Err(); err != nil {
			return err
		}
		pid, err := strconv.Atoi(p.Name())
		if err != nil {
			continue
		}
		dir := filepath.Join("/proc", p.Name(), "fd")
		fds, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, fd := range fds {
			target, err := os.Readlink(filepath.Join(dir, fd.Name()))
			if err != nil {
				continue
			}
			text, ok := strings.CutPrefix(target, "socket:[")
			if !ok {
				continue
			}
			inode, err := strconv.ParseUint(strings.TrimSuffix(text, "]"), 10, 64)
			s := byInode[inode]
			if err != nil || s == nil || slices.ContainsFunc(s.Owners, func(o Owner) bool { return o.PID == pid }) {
				continue
			}
			comm, _ := os.ReadFile(filepath.Join("/proc", p.Name(), "comm")) // gone meanwhile: no name
			s.Owners = append(s.Owners, Owner{PID: pid, Name: strings.TrimSuffix(string(comm), "\n")})
		}
	}
	for i := range list {
		slices.SortFunc(list[i].Owners, func(a, b Owner) int { return a.PID - b.PID })
	}
	return nil
}
