package sim_test

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/netnstest"
)

// The wire is a namespace "out" that holds the other ends of the node's links. It
// sends packets to the node, and sees what the node forwards. Sender and kernel run
// on one CPU, whose backlog of packets is first in, first out: a frame that was sent
// last arrives last.
type wire struct {
	t     *testing.T
	send  int            // a packet socket of out
	see   int            // another one, which sees what the node forwards
	mark  int            // a packet socket of the node that sees the frames of sync
	local [2]int         // UDP sockets of the node, by family
	peer  map[string]int // the index of the other end, by the node's link
	link  map[int]string
	mac   map[string][6]byte // of the node's links
	count uint32
}

// port is where delivered packets are read.
const port = 9999

// syncType is a type of Ethernet frames for local experiments.
const syncType = 0x88b5

func newWire(t *testing.T, links []string) *wire {
	t.Helper()
	var one unix.CPUSet
	one.Set(0)
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		t.Fatal(err)
	}
	w := &wire{t: t, peer: map[string]int{}, link: map[int]string{}, mac: map[string][6]byte{}}
	const out = "out"
	netnstest.Named(t, out)
	var here, there []string
	for i, l := range links {
		w.mac[l] = [6]byte{2, 0, 0, 0, 0, byte(i + 1)}
		here = append(here, "link add "+l+" address 02:00:00:00:00:0"+string(rune('1'+i))+" type veth peer name "+l+" netns "+out,
			"link set "+l+" arp off up")
		there = append(there, "link set "+l+" arp off up")
	}
	netnstest.IP(t, here...)
	netnstest.In(t, out, func() {
		netnstest.IP(t, there...)
		netnstest.Exec(t, "sysctl", "-qw", "net.ipv4.ip_forward=0", "net.ipv6.conf.all.disable_ipv6=1")
		w.send, w.see = packetSocket(t, 0), packetSocket(t, unix.ETH_P_ALL)
		for _, l := range links {
			w.peer[l] = index(t, l)
			w.link[w.peer[l]] = l
		}
	})
	w.mark = packetSocket(t, syncType)
	for i, family := range []int{unix.AF_INET, unix.AF_INET6} {
		w.local[i] = udpSocket(t, family)
	}
	return w
}

func index(t *testing.T, link string) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	r, err := unix.NewIfreq(link)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, r); err != nil {
		t.Fatal(link, err)
	}
	return int(r.Uint32())
}

func packetSocket(t *testing.T, typ uint16) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(bigEndian(typ)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20); err != nil {
		t.Fatal(err)
	}
	return fd
}

func udpSocket(t *testing.T, family int) int {
	t.Helper()
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	var a unix.Sockaddr = &unix.SockaddrInet4{Port: port}
	if family == unix.AF_INET6 {
		err = unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_V6ONLY, 1)
		a = &unix.SockaddrInet6{Port: port}
	} else {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BROADCAST, 1)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, a); err != nil {
		t.Fatal(err)
	}
	return fd
}

func bigEndian(v uint16) uint16 { return v<<8 | v>>8 }

// packet is a datagram that is put on the wire.
type packet struct {
	iif      string
	from, to netip.Addr
	ttl, tos uint8
	sport    uint16
}

// fate is what the node did with a packet.
type fate struct {
	delivered bool
	dev       string     // by which it was forwarded
	from      netip.Addr // its source then
}

// ask sends packets and says what became of each.
func (w *wire) ask(packets []packet) []fate {
	w.t.Helper()
	first := w.count + 1
	for i := range packets {
		w.count++
		// Connection tracking must not know the packet from an earlier world: what it
		// has seen once it forgets after 30 seconds.
		packets[i].sport = uint16(10_000 + w.count%50_000)
		w.emit(packets[i].iif, datagram(&packets[i], w.count))
	}
	// When the first is seen, the packets before it have been through the node; the
	// second comes behind what the node has put on the wire by then.
	w.sync()
	w.sync()
	out := make([]fate, len(packets))
	note := func(id uint32, f func(*fate)) {
		if i := int(id - first); id >= first && i < len(out) {
			f(&out[i])
		}
	}
	buf := make([]byte, 2048)
	for {
		n, from, err := unix.Recvfrom(w.see, buf, 0)
		if err != nil {
			break
		}
		l, ok := from.(*unix.SockaddrLinklayer)
		if !ok || l.Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		if id, ok := idOf(buf[:n]); ok {
			note(id, func(f *fate) { f.dev, f.from = w.link[l.Ifindex], sourceOf(buf[:n]) })
		}
	}
	for _, fd := range w.local {
		for {
			n, _, err := unix.Recvfrom(fd, buf, 0)
			if err != nil {
				break
			}
			if n >= 4 {
				note(binary.BigEndian.Uint32(buf), func(f *fate) { f.delivered = true })
			}
		}
	}
	return out
}

func (w *wire) emit(link string, frame []byte) {
	w.t.Helper()
	mac := w.mac[link]
	copy(frame, mac[:])
	if err := unix.Sendto(w.send, frame, 0, &unix.SockaddrLinklayer{Ifindex: w.peer[link]}); err != nil {
		w.t.Fatal(link, err)
	}
}

// sync sends a frame through each link, and waits until the node has seen them.
func (w *wire) sync() {
	w.t.Helper()
	frame := make([]byte, 60)
	binary.BigEndian.PutUint16(frame[12:], syncType)
	for link := range w.peer {
		w.emit(link, frame)
	}
	buf := make([]byte, 128)
	for seen := 0; seen < len(w.peer); {
		poll := []unix.PollFd{{Fd: int32(w.mark), Events: unix.POLLIN}}
		if n, err := unix.Poll(poll, 10_000); n == 0 || err != nil && err != unix.EINTR {
			w.t.Fatalf("the node did not see a frame: %v", err)
		}
		for {
			if _, _, err := unix.Recvfrom(w.mark, buf, 0); err != nil {
				break
			}
			seen++
		}
	}
}

// datagram is an Ethernet frame with a UDP datagram that carries id.
func datagram(p *packet, id uint32) []byte {
	udp := make([]byte, 12)
	binary.BigEndian.PutUint16(udp, p.sport)
	binary.BigEndian.PutUint16(udp[2:], port)
	binary.BigEndian.PutUint16(udp[4:], uint16(len(udp)))
	binary.BigEndian.PutUint32(udp[8:], id)
	frame := make([]byte, 14, 80)
	var ip []byte
	if p.to.Is4() {
		binary.BigEndian.PutUint16(frame[12:], unix.ETH_P_IP)
		ip = make([]byte, 20)
		ip[0], ip[1], ip[8], ip[9] = 0x45, p.tos, p.ttl, unix.IPPROTO_UDP
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)+len(udp)))
		copy(ip[12:], p.from.AsSlice())
		copy(ip[16:], p.to.AsSlice())
		binary.BigEndian.PutUint16(ip[10:], ^sum(0, ip))
	} else {
		binary.BigEndian.PutUint16(frame[12:], unix.ETH_P_IPV6)
		ip = make([]byte, 40)
		binary.BigEndian.PutUint32(ip, 6<<28|uint32(p.tos)<<20)
		binary.BigEndian.PutUint16(ip[4:], uint16(len(udp)))
		ip[6], ip[7] = unix.IPPROTO_UDP, p.ttl
		copy(ip[8:], p.from.AsSlice())
		copy(ip[24:], p.to.AsSlice())
		check := sum(uint32(len(udp))+unix.IPPROTO_UDP, append(append([]byte{}, ip[8:]...), udp...))
		if check == 0xffff {
			check = 0 // a checksum of 0 would say that there is none, which IPv6 drops (RFC 8200, 8.1)
		}
		binary.BigEndian.PutUint16(udp[6:], ^check)
	}
	return append(append(frame, ip...), udp...)
}

func sum(n uint32, b []byte) uint16 {
	for ; len(b) > 1; b = b[2:] {
		n += uint32(binary.BigEndian.Uint16(b))
	}
	for n > 0xffff {
		n = n>>16 + n&0xffff
	}
	return uint16(n)
}

// sourceOf is the source of a frame that has an id.
func sourceOf(frame []byte) netip.Addr {
	from := frame[14+12 : 14+16]
	if binary.BigEndian.Uint16(frame[12:]) == unix.ETH_P_IPV6 {
		from = frame[14+8 : 14+24]
	}
	a, _ := netip.AddrFromSlice(from)
	return a
}

// idOf gives the id of one of our datagrams; not of an ICMP error that quotes one.
func idOf(frame []byte) (uint32, bool) {
	if len(frame) < 14 {
		return 0, false
	}
	ip := frame[14:]
	head, at := 20, 9
	if binary.BigEndian.Uint16(frame[12:]) == unix.ETH_P_IPV6 {
		head, at = 40, 6
	}
	if len(ip) < head+12 || ip[at] != unix.IPPROTO_UDP || binary.BigEndian.Uint16(ip[head+2:]) != port {
		return 0, false
	}
	return binary.BigEndian.Uint32(ip[head+8:]), true
}
