package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A pod's process is this program once more, in the pod's namespace: it serves, and
// it asks the processes of other pods when it is told to. So nothing is started
// while something is measured.

const (
	agentArg    = "pod-agent" // the only argument of such a process
	agentPort   = 5201
	requestSize = 64
	bulkBuffer  = 256 << 10
	patience    = 20 * time.Second // for one sample
)

// What a connection begins with: what it is for.
const (
	forBulk = 'b' // then the number of bytes that come; the answer is one byte
	forEcho = 'e' // then requests, each of which comes back
)

// agent is the process: it serves, and answers each line `WHAT ADDRESS COUNT` on
// stdin with the nanoseconds that it took, or with what went wrong.
func agent() error {
	l, err := net.Listen("tcp", fmt.Sprintf(":%d", agentPort))
	if err != nil {
		return err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serveAgent(c)
		}
	}()
	fmt.Println("ready")
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var what, to string
		var count int
		if _, err := fmt.Sscan(lines.Text(), &what, &to, &count); err != nil {
			return err
		}
		took, err := ask(what, to, count)
		if err != nil {
			fmt.Printf("%s %s: %v\n", what, to, err)
			continue
		}
		fmt.Println(took.Nanoseconds())
	}
	return lines.Err()
}

func serveAgent(c net.Conn) {
	defer c.Close()
	var head [9]byte
	if _, err := io.ReadFull(c, head[:1]); err != nil {
		return
	}
	if head[0] == forEcho {
		buf := make([]byte, requestSize)
		for {
			if _, err := io.ReadFull(c, buf); err != nil {
				return
			}
			if _, err := c.Write(buf); err != nil {
				return
			}
		}
	}
	if _, err := io.ReadFull(c, head[1:]); err != nil {
		return
	}
	buf := make([]byte, bulkBuffer)
	for left := binary.BigEndian.Uint64(head[1:]); left > 0; {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		left -= min(uint64(n), left)
	}
	_, _ = c.Write(head[:1]) // who asked sees whether it came
}

// ask measures: bulk, the whole of count bytes; echo, one request of count on one
// connection; connect, one of count connections with one request.
func ask(what, to string, count int) (time.Duration, error) {
	begin := time.Now()
	switch what {
	case "bulk":
		return bulk(to, count)
	case "echo":
		c, err := dialAgent(to)
		if err != nil {
			return 0, err
		}
		defer c.Close()
		begin = time.Now()
		for i := range count {
			if err := exchange(c, i == 0); err != nil {
				return 0, err
			}
		}
	case "connect":
		for range count {
			c, err := dialAgent(to)
			if err != nil {
				return 0, err
			}
			err = exchange(c, true)
			_ = c.SetLinger(0) // a reset: nothing lingers, so that no port is missing later
			c.Close()
			if err != nil {
				return 0, err
			}
		}
	default:
		return 0, errors.New("unknown")
	}
	return time.Since(begin) / time.Duration(count), nil
}

func dialAgent(to string) (*net.TCPConn, error) {
	c, err := net.DialTimeout("tcp", netip.AddrPortFrom(netip.MustParseAddr(to), agentPort).String(), patience)
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), c.SetDeadline(time.Now().Add(patience))
}

func exchange(c net.Conn, first bool) error {
	var buf [1 + requestSize]byte
	buf[0] = forEcho
	out := buf[1:]
	if first {
		out = buf[:]
	}
	if _, err := c.Write(out); err != nil {
		return err
	}
	_, err := io.ReadFull(c, buf[1:])
	return err
}

func bulk(to string, count int) (time.Duration, error) {
	c, err := dialAgent(to)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	buf := make([]byte, bulkBuffer)
	begin := time.Now()
	if _, err := c.Write(binary.BigEndian.AppendUint64([]byte{forBulk}, uint64(count))); err != nil {
		return 0, err
	}
	for left := count; left > 0; left -= min(left, len(buf)) {
		if _, err := c.Write(buf[:min(left, len(buf))]); err != nil {
			return 0, err
		}
	}
	_, err = io.ReadFull(c, buf[:1])
	return time.Since(begin), err
}

// podProcess is such a process, as the program that measures has it.
type podProcess struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

// startAgent starts a pod's process in a named namespace.
func startAgent(netns string) (*podProcess, error) {
	a := &podProcess{cmd: exec.Command("/proc/self/exe", agentArg)}
	a.cmd.Stderr = os.Stderr
	var err error
	if a.in, err = a.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := a.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	a.out = bufio.NewScanner(out)
	if err := in(netns, func() error { return onOneProcessor(a.cmd.Start) }); err != nil {
		return nil, fmt.Errorf("start a process in %s: %w", netns, err)
	}
	if !a.out.Scan() {
		return nil, errors.Join(fmt.Errorf("the process in %s does not serve", netns), a.close())
	}
	return a, nil
}

// onOneProcessor runs f where what it starts stays on one processor, the last one. Who
// asks, who answers and the kernel between them then take turns there, so that what is
// measured is all that is done, and not where the scheduler puts it.
func onOneProcessor(f func() error) error {
	var all, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return err
	}
	for cpu := range 8 * int(unsafe.Sizeof(all)) {
		if all.IsSet(cpu) {
			one.Zero()
			one.Set(cpu)
		}
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return err
	}
	return errors.Join(f(), unix.SchedSetaffinity(0, &all))
}

// measure has the process ask another one, and gives what it took.
func (a *podProcess) measure(what, to string, count int) (time.Duration, error) {
	if _, err := fmt.Fprintln(a.in, what, to, count); err != nil {
		return 0, err
	}
	if !a.out.Scan() {
		return 0, fmt.Errorf("%s %s: the process has ended", what, to)
	}
	var ns int64
	if _, err := fmt.Sscan(a.out.Text(), &ns); err != nil {
		return 0, errors.New(a.out.Text())
	}
	return time.Duration(ns), nil
}

// close ends the process, which ends when there are no more lines for it.
func (a *podProcess) close() error {
	a.in.Close()
	return a.cmd.Wait()
}
