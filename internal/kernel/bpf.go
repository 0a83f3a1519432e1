package kernel

import (
	"bytes"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/netstate"
)

// What of union bpf_attr and struct bpf_prog_info (include/uapi/linux/bpf.h) is
// used here. The kernel takes shorter structures than its own, and longer ones as
// long as the rest is zero; but it writes back to all of a query, however short.
type (
	bpfQuery struct { // BPF_PROG_QUERY
		target, attachType, _, _ uint32
		ids                      uint64 // pointer
		count, _                 uint32
		_                        [3]uint64
		_                        uint64 // revision
	}
	bpfByID struct { // BPF_PROG_GET_FD_BY_ID
		id, _, _ uint32
	}
	bpfInfo struct { // BPF_OBJ_GET_INFO_BY_FD
		fd, size uint32
		info     uint64 // pointer
	}
	bpfProgInfo struct {
		_    [64]byte
		name [unix.BPF_OBJ_NAME_LEN]byte
	}
)

// maxTCX is how many programs one end of a link can have (BPF_MPROG_MAX).
const maxTCX = 64

func bpf[T any](command int, attr *T) (int, error) {
	n, _, errno := unix.Syscall(unix.SYS_BPF, uintptr(command), uintptr(unsafe.Pointer(attr)), unsafe.Sizeof(*attr))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// program names a BPF program for people: by its number, and by its name where this
// process may ask for that (CAP_SYS_ADMIN). 0 is one that the kernel does not tell.
func (l *opaqueList) program(id uint32) string {
	if id == 0 {
		return "a program"
	}
	s, ok := l.programs[id]
	if !ok {
		s = fmt.Sprintf("program %d", id)
		if name := programName(id); name != "" {
			s += " " + name
		}
		l.programs[id] = s
	}
	return s
}

func programName(id uint32) string {
	fd, err := bpf(unix.BPF_PROG_GET_FD_BY_ID, &bpfByID{id: id})
	if err != nil {
		return "" // the number stands without it
	}
	defer unix.Close(fd)
	var pin runtime.Pinner
	defer pin.Unpin()
	info := new(bpfProgInfo)
	pin.Pin(info)
	attr := bpfInfo{fd: uint32(fd), size: uint32(unsafe.Sizeof(*info)), info: uint64(uintptr(unsafe.Pointer(info)))}
	if _, err := bpf(unix.BPF_OBJ_GET_INFO_BY_FD, &attr); err != nil {
		return ""
	}
	name, _, _ := bytes.Cut(info.name[:], []byte{0})
	return string(name)
}

// tcx lists the programs that stand before the filters of traffic control (Linux
// 6.6). Netlink does not tell of them.
func (l *opaqueList) tcx() error {
	var refused error
	err := inNamespace(l.c.ns, func() error {
		for _, link := range l.links {
			for _, end := range []struct {
				name string
				typ  uint32
			}{{"ingress", unix.BPF_TCX_INGRESS}, {"egress", unix.BPF_TCX_EGRESS}} {
				ids, err := tcxPrograms(link.index, end.typ)
				switch err {
				case nil, unix.ENOENT, unix.ENODEV: // none at this end; the link has gone
				case unix.EINVAL, unix.ENOSYS: // a kernel without
					return nil
				default:
					refused = err
					return nil
				}
				for _, id := range ids {
					l.add(netstate.OpaqueTC, link.name, "%s tcx %s", end.name, l.program(id))
				}
			}
		}
		return l.ctx.Err()
	})
	if err == nil && refused != nil {
		err = l.unread(netstate.OpaqueTC, "tcx programs", refused)
	}
	return err
}

// tcxPrograms asks in the thread's namespace.
func tcxPrograms(index int32, end uint32) ([]uint32, error) {
	var pin runtime.Pinner
	defer pin.Unpin()
	ids := new([maxTCX]uint32)
	pin.Pin(ids)
	attr := bpfQuery{target: uint32(index), attachType: end, ids: uint64(uintptr(unsafe.Pointer(ids))), count: maxTCX}
	if _, err := bpf(unix.BPF_PROG_QUERY, &attr); err != nil {
		return nil, err
	}
	return ids[:min(attr.count, maxTCX)], nil
}
