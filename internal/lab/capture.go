package lab

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// captureBuffer holds what one check sends, and what else goes on in the lab
// meanwhile. A capture that overflows says so.
const captureBuffer = 4 << 20

// capture is a packet socket on all links of a host. The kernel queues a packet
// on it before the packet moves on, so that after an exchange everything that
// belongs to it is there to be read, without waiting.
type capture struct {
	host  string
	fd    int
	links map[int]string // by index
}

// packet is the part of a captured packet that tells whose it is.
type packet struct {
	link         string
	out          bool // leaves by the link; else it came in
	proto        uint8
	src, dst     netip.Addr
	sport, dport uint16 // TCP, UDP
	echo         uint8  // ICMP type
	payload      []byte // UDP and ICMP echo
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }

// openCapture begins to capture in the namespace of a host.
func openCapture(ns, host string) (*capture, error) {
	c := &capture{host: host, fd: -1, links: map[int]string{}}
	err := inNetns(ns, func() error {
		// SOCK_DGRAM: the packet begins with the IP header on every kind of link.
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(htons(unix.ETH_P_ALL)))
		if err != nil {
			return err
		}
		c.fd = fd
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, captureBuffer); err != nil {
			return err
		}
		ifs, err := net.Interfaces()
		for _, i := range ifs {
			c.links[i.Index] = i.Name
		}
		return err
	})
	if err != nil {
		c.close()
		return nil, fmt.Errorf("capture packets on host %s: %w", host, err)
	}
	return c, nil
}

func (c *capture) close() {
	if c.fd >= 0 {
		unix.Close(c.fd)
		c.fd = -1
	}
}

// drain gives what has been captured until now.
func (c *capture) drain() ([]packet, error) {
	var out []packet
	buf := make([]byte, 2048) // headers and a token; the rest of a packet is cut off
	for {
		n, from, err := unix.Recvfrom(c.fd, buf, 0)
		switch err {
		case nil:
		case unix.EINTR, unix.ENETDOWN: // a link went; what it had carried is still queued
			continue
		case unix.EAGAIN:
			st, err := unix.GetsockoptTpacketStats(c.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
			if err != nil {
				return out, fmt.Errorf("capture packets on host %s: %w", c.host, err)
			}
			if st.Drops > 0 {
				return out, fmt.Errorf("capture packets on host %s: %d packets were too many to keep", c.host, st.Drops)
			}
			return out, nil
		default:
			return out, fmt.Errorf("capture packets on host %s: %w", c.host, err)
		}
		ll, ok := from.(*unix.SockaddrLinklayer)
		if !ok {
			continue
		}
		p, ok := decode(buf[:n])
		if !ok {
			continue
		}
		p.link, p.out = c.links[ll.Ifindex], ll.Pkttype == unix.PACKET_OUTGOING
		out = append(out, p)
	}
}

// decode reads an IPv4 or IPv6 packet with TCP, UDP or ICMP in it. Fragments and
// IPv6 extension headers are not decoded: no check sends them.
func decode(b []byte) (packet, bool) {
	var p packet
	if len(b) == 0 {
		return p, false
	}
	switch b[0] >> 4 {
	case 4:
		head := int(b[0]&0xf) * 4
		if len(b) < 20 || head < 20 || len(b) < head || binary.BigEndian.Uint16(b[6:])&0x1fff != 0 {
			return p, false
		}
		p.proto = b[9]
		p.src, p.dst = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
		b = b[head:]
	case 6:
		if len(b) < 40 {
			return p, false
		}
		p.proto = b[6]
		p.src, p.dst = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
		b = b[40:]
	default:
		return p, false
	}
	if len(b) < 8 {
		return p, false
	}
	switch p.proto {
	case unix.IPPROTO_TCP, unix.IPPROTO_UDP:
		p.sport, p.dport = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	case unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6:
		p.echo = b[0]
	default:
		return p, false
	}
	if p.proto != unix.IPPROTO_TCP {
		p.payload = bytes.Clone(b[8:])
	}
	return p, true
}
