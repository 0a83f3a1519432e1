package kernel

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// SyncCarrier has the kernel do now what it does when it finds the time for it: notice
// that a link has its carrier, and begin to send by it. Until then packets to it are
// dropped: for a link that was set up before it had a carrier, such as the end of a veth
// that was first, that may take a second, since the work waits for the lock of all
// networking (linkwatch_event; ethtool_op_get_link does it on the way, ETHTOOL_GLINK).
// Only drivers with that get_link do; veth is one.
func (c *Conn) SyncCarrier(dev string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := linkName(dev); err != nil {
		return err
	}
	t, err := c.transport()
	if err != nil {
		return err
	}
	s, ok := t.(*socket)
	if !ok {
		return nil
	}
	value := struct{ cmd, data uint32 }{cmd: unix.ETHTOOL_GLINK}
	var req struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}
	copy(req.name[:], dev)
	req.data = unsafe.Pointer(&value)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(s.fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req)))
	runtime.KeepAlive(&value)
	if errno != 0 {
		return fmt.Errorf("look at the carrier of link %s: %w", dev, errno)
	}
	return nil
}
