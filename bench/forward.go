package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// The cost of forwarding is the processor time of the thread that hands packets
// to the kernel with BPF_PROG_TEST_RUN and live frames: each is received on in0,
// routed, and counted and dropped where it leaves by `out`. Nothing else runs in
// that thread, and every packet is accounted for.

const (
	liveFrames = 1 << 1 // BPF_F_TEST_XDP_LIVE_FRAMES
	frameBatch = 64
	sampleTime = 25e6 // ns of processor time a sample
)

// lane is a namespace through which packets go.
type lane struct {
	netns    *os.File
	inject   *ebpf.Program
	counter  *ebpf.Map
	attached []link.Link
	frame    []byte
	context  []byte
	repeat   uint32
}

func (b *bench) forward() error {
	here, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer here.Close()
	defer func() { _ = enter(here) }()
	var lanes []*lane
	defer func() {
		for _, l := range lanes {
			l.close()
		}
	}()
	newLane := func(from, count uint32, setup func() error) (func() (float64, error), error) {
		l, err := openLane(from, count, setup)
		if err != nil {
			return nil, err
		}
		lanes = append(lanes, l)
		return l.sample, nil
	}
	applied := func(n int) func() error {
		return func() error {
			file, err := b.policyFile(n, 0)
			if err == nil {
				_, err = b.apply(file, false)
			}
			return err
		}
	}
	listed := func(n int) func() error {
		return func() error {
			file, err := b.ipPolicies(n)
			if err != nil {
				return err
			}
			return command(nil, "ip", "-batch", file)
		}
	}
	var ways []way
	add := func(name string, limit *bar, from, count uint32, setup func() error) error {
		run, err := newLane(from, count, setup)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		ways = append(ways, way{name, limit, run})
		return nil
	}
	var errs []error
	errs = append(errs, add("no rules", nil, sources, 10_000, nil))
	for _, n := range []int{10, 1_000, 10_000} {
		var limit *bar
		if n == 10_000 {
			limit = atMost(4)
		}
		errs = append(errs,
			add(fmt.Sprintf("viarule, %d policies", n), limit, sources, uint32(n), applied(n)),
			add(fmt.Sprintf("viarule, %d policies, a source that none names", n), limit, strangers, 1, applied(n)),
			add(fmt.Sprintf("plain list, %d rules", n), nil, sources, uint32(n), listed(n)))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, l := range lanes {
		if err := l.calibrate(); err != nil {
			return err
		}
	}
	first := len(b.report)
	if err := b.compare("forwarding", "ns/packet", 3*b.rounds, ways); err != nil {
		return err
	}
	return b.againstList(b.report[first:])
}

// againstList adds how the tree compares with the plain list of as many rules.
func (b *bench) againstList(report []measurement) error {
	find := func(name string) *measurement {
		for i := range report {
			if report[i].Way == name {
				return &report[i]
			}
		}
		return nil
	}
	tree, list := find("viarule, 10000 policies"), find("plain list, 10000 rules")
	if tree == nil || list == nil {
		return errors.New("the measurements of 10,000 policies are missing")
	}
	b.add("forwarding, 10,000 policies", "ns/packet", tree.Way, tree.Median, tree.Median/list.Median, list.Way, fasterBy(100))
	return nil
}

// openLane makes a namespace, has setup fill it, and prepares the packets: their
// sources are from, from+1, ... up to count, at random.
func openLane(from, count uint32, setup func() error) (*lane, error) {
	if err := fresh(); err != nil {
		return nil, err
	}
	err := ip("link add in0 address 02:00:00:00:00:01 type veth peer name in1", "link set in0 up", "link set in1 up",
		"addr add 10.0.0.1/30 dev in0", "route add 10.128.0.0/9 via 10.0.0.2", "route add default via 10.99.0.2")
	if err != nil {
		return nil, err
	}
	if setup != nil {
		if err := setup(); err != nil {
			return nil, err
		}
	}
	return openTraffic(traffic{in: "in0", out: "out", frame: udpFrame(), field: ipSource, from: from, step: 1, count: count})
}

// traffic is what goes through a lane: frames that come in by one link and leave by
// another, with an address that is from, from+step, ... up to count, at random.
type traffic struct {
	in, out string
	frame   []byte
	field   int // where the address stands: ipSource or ipDest
	from    uint32
	step    int32
	count   uint32
}

// openTraffic prepares the packets in the namespace of this thread.
func openTraffic(t traffic) (*lane, error) {
	l := &lane{frame: t.frame, repeat: 2048}
	var err error
	if l.netns, err = os.Open("/proc/thread-self/ns/net"); err != nil {
		return nil, err
	}
	return l, l.attach(&t)
}

func (l *lane) attach(t *traffic) error {
	in, err := net.InterfaceByName(t.in)
	if err != nil {
		return err
	}
	out, err := net.InterfaceByName(t.out)
	if err != nil {
		return err
	}
	// Live frames are taken only by a link that has an XDP program itself.
	pass, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()}})
	if err != nil {
		return err
	}
	xdp, err := link.AttachXDP(link.XDPOptions{Program: pass, Interface: in.Index})
	if err != nil {
		return err
	}
	l.attached = append(l.attached, xdp)
	count4, err := countIPv4(&l.counter)
	if err != nil {
		return err
	}
	tcx, err := link.AttachTCX(link.TCXOptions{Interface: out.Index, Program: count4, Attach: ebpf.AttachTCXEgress})
	if err != nil {
		return err
	}
	l.attached = append(l.attached, tcx)
	if l.inject, err = ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, License: "GPL", Instructions: randomAddress(t)}); err != nil {
		return err
	}
	// struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex
	l.context = make([]byte, 24)
	binary.NativeEndian.PutUint32(l.context[4:], uint32(len(l.frame)))
	binary.NativeEndian.PutUint32(l.context[12:], uint32(in.Index))
	return nil
}

// countIPv4 is a program that counts IPv4 packets and drops them.
func countIPv4(counter **ebpf.Map) (*ebpf.Program, error) {
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		return nil, err
	}
	*counter = m
	const protocol = 16 // of struct __sk_buff
	return ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, AttachType: ebpf.AttachTCXEgress, License: "GPL", Instructions: asm.Instructions{
		asm.LoadMem(asm.R6, asm.R1, protocol, asm.Word),
		asm.JNE.Imm(asm.R6, 0x0008, "out"), // ETH_P_IP, in network order
		asm.LoadMapValue(asm.R1, m.FD(), 0),
		asm.Mov.Imm(asm.R2, 1),
		asm.AddAtomic.Mem(asm.R1, asm.R2, asm.DWord, 0),
		asm.Mov.Imm(asm.R0, 2).WithSymbol("out"), // TCX_DROP
		asm.Return(),
	}})
}

// Offsets in an Ethernet frame with an IPv4 header.
const (
	ipHeader = 14
	ipTTL    = ipHeader + 8
	ipSum    = ipHeader + 10
	ipSource = ipHeader + 12
	ipDest   = ipHeader + 16
	ipEnd    = ipHeader + 20
)

func udpFrame() []byte {
	b := make([]byte, 64)
	copy(b, []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9, 8, 0})
	p := b[ipHeader:]
	p[0], p[8], p[9] = 0x45, 64, unix.IPPROTO_UDP
	binary.BigEndian.PutUint16(p[2:], 50)
	copy(p[16:], []byte{10, 64, 0, 0}) // to nowhere: by the default route
	binary.BigEndian.PutUint16(p[20:], 1000)
	binary.BigEndian.PutUint16(p[22:], 2000)
	binary.BigEndian.PutUint16(p[24:], 30)
	return b
}

// randomAddress writes an address and the checksum that goes with it, and what the
// last trip of the same page has changed: MAC and TTL.
func randomAddress(t *traffic) asm.Instructions {
	frame := t.frame
	var rest uint32 // the header's sum without the address and checksum, in memory order
	for i := ipHeader; i < ipEnd; i += 2 {
		if i != ipSum && i != t.field && i != t.field+2 {
			rest += uint32(binary.LittleEndian.Uint16(frame[i:]))
		}
	}
	fold := func() asm.Instructions {
		return asm.Instructions{asm.Mov.Reg32(asm.R2, asm.R1), asm.RSh.Imm32(asm.R2, 16), asm.And.Imm32(asm.R1, 0xffff), asm.Add.Reg32(asm.R1, asm.R2)}
	}
	ins := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMem(asm.R7, asm.R6, 0, asm.Word),
		asm.LoadMem(asm.R8, asm.R6, 4, asm.Word),
		asm.Mov.Reg(asm.R1, asm.R7), asm.Add.Imm(asm.R1, ipEnd),
		asm.JGT.Reg(asm.R1, asm.R8, "out"),
		asm.StoreImm(asm.R7, 0, int64(int32(binary.LittleEndian.Uint32(frame))), asm.Word),
		asm.StoreImm(asm.R7, 4, int64(int16(binary.LittleEndian.Uint16(frame[4:]))), asm.Half),
		asm.StoreImm(asm.R7, ipTTL, 64, asm.Byte),
		asm.FnGetPrandomU32.Call(),
		asm.Mod.Imm32(asm.R0, int32(t.count)),
		asm.Mul.Imm32(asm.R0, t.step),
		asm.Add.Imm32(asm.R0, int32(t.from)),
		asm.HostTo(asm.BE, asm.R0, asm.Word),
		asm.StoreMem(asm.R7, int16(t.field), asm.R0, asm.Word),
		asm.Mov.Reg32(asm.R1, asm.R0), asm.And.Imm32(asm.R1, 0xffff),
		asm.RSh.Imm32(asm.R0, 16), asm.Add.Reg32(asm.R1, asm.R0),
		asm.Add.Imm32(asm.R1, int32(rest)),
	}
	ins = append(append(ins, fold()...), fold()...)
	return append(ins,
		asm.Xor.Imm32(asm.R1, 0xffff),
		asm.StoreMem(asm.R7, ipSum, asm.R1, asm.Half),
		asm.Mov.Imm(asm.R0, 2), asm.Return(), // XDP_PASS
		asm.Mov.Imm(asm.R0, 0).WithSymbol("out"), asm.Return())
}

func (l *lane) sent() (n uint64, err error) {
	err = l.counter.Lookup(uint32(0), &n)
	return n, err
}

// calibrate chooses how many packets make a sample.
func (l *lane) calibrate() error {
	for range 2 { // the first one warms up
		ns, err := l.sample()
		if err != nil {
			return err
		}
		l.repeat = max(uint32(sampleTime/ns)/frameBatch, 1) * frameBatch
	}
	return nil
}

// sample sends packets and gives the processor time of each in nanoseconds.
func (l *lane) sample() (float64, error) {
	if err := enter(l.netns); err != nil {
		return 0, err
	}
	before, err := l.sent()
	if err != nil {
		return 0, err
	}
	start := threadTime()
	_, err = l.inject.Run(&ebpf.RunOptions{Data: l.frame, Context: l.context, Repeat: l.repeat, Flags: liveFrames, BatchSize: frameBatch})
	took := threadTime() - start
	if err != nil {
		return 0, err
	}
	after, err := l.sent()
	if err != nil {
		return 0, err
	}
	if after-before != uint64(l.repeat) {
		return 0, fmt.Errorf("%d of %d packets were forwarded", after-before, l.repeat)
	}
	return float64(took) / float64(l.repeat), nil
}

func (l *lane) close() {
	for _, a := range l.attached {
		_ = a.Close()
	}
	_ = l.netns.Close()
}

func enter(ns *os.File) error {
	runtime.LockOSThread()
	return unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
}

// threadTime is the processor time of this thread in nanoseconds.
func threadTime() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts) // cannot fail for this clock
	return ts.Nano()
}
