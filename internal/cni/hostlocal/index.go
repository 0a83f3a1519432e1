package hostlocal

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// indexDir has a file per network's folder. It is gone after a reboot, and needs no more.
const indexDir = "/run/viarule/host-local"

// index says which addresses an owner may have, so that nobody needs to read thousands of
// files for it. What it says is checked in the address's file; that it says too little
// would be wrong, so it counts only where nothing else has changed the folder since it was
// written. Other programs do not know of it, but whoever makes or removes a file changes
// the folder's time of modification. Each use that changes something sets that time to one
// that the kernel has not given and will not give (now, to the nanosecond, where the
// kernel's own stamps are of the last tick, or later), and the index holds it. A killed ADD
// has changed the folder and not set the time, and so its index does not count either.
//
// On disk: a header of headerSize bytes, and slots of slotSize bytes: the hash of the
// owner, and the address as IPv6. Zero is free. An entry is in one of the window slots from
// its hash's on, so that a look-up is one read.
type index struct {
	path string
	fd   int // -1: no index that counts
	head header
	// all are the allocations, where they have been read: then the file is written anew.
	all  []entry
	read bool
	// changed says that the folder is not any more what head says; lost, that the file
	// cannot follow it.
	changed, lost bool
}

type header struct {
	stamp
	slots uint64 // a power of two; window more follow it
	used  uint64
}

// stamp is which folder, and when.
type stamp struct{ dev, ino, sec, nsec uint64 }

// entry is an allocation.
type entry struct {
	hash uint64
	addr netip.Addr
}

const (
	magic      = "viarule1"
	headerSize = 56
	slotSize   = 24
	window     = 64
	fewest     = 256
)

// hash is FNV-1a of an owner. It need not stand against malice: a collision costs the
// reading of a file.
func hash(owner string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(owner) {
		h = (h ^ uint64(owner[i])) * 1099511628211
	}
	return max(h, 1)
}

func stampOf(dir int) (s stamp, err error) {
	var st unix.Stat_t
	err = unix.Fstat(dir, &st)
	return stamp{uint64(st.Dev), st.Ino, uint64(st.Mtim.Sec), uint64(st.Mtim.Nsec)}, err
}

// openIndex opens the index of a folder, which the caller has locked. It never fails:
// without an index the folder is read.
func openIndex(in string, dir int) *index {
	x := &index{fd: -1}
	now, err := stampOf(dir)
	if err != nil {
		return x
	}
	x.path = fmt.Sprintf("%s/%x-%x", in, now.dev, now.ino)
	if x.fd, err = openat(unix.AT_FDCWD, x.path, unix.O_RDWR, 0); err != nil {
		x.fd = -1
		return x
	}
	var b [headerSize]byte
	n, err := unix.Pread(x.fd, b[:], 0)
	if h, ok := readHeader(b[:]); err == nil && n == headerSize && ok && h.stamp == now {
		x.head = h
		return x
	}
	unix.Close(x.fd)
	x.fd = -1
	return x
}

func readHeader(b []byte) (h header, ok bool) {
	for i, v := range h.fields() {
		*v = binary.NativeEndian.Uint64(b[8+8*i:])
	}
	return h, string(b[:8]) == magic && h.slots >= fewest && h.slots&(h.slots-1) == 0
}

func (h *header) fields() []*uint64 {
	return []*uint64{&h.dev, &h.ino, &h.sec, &h.nsec, &h.slots, &h.used}
}

func (h *header) bytes() []byte {
	b := append(make([]byte, 0, headerSize), magic...)
	for _, v := range h.fields() {
		b = binary.NativeEndian.AppendUint64(b, *v)
	}
	return b
}

// counts says that the index knows every allocation.
func (x *index) counts() bool { return x.read || x.fd >= 0 && !x.lost }

// set makes it know those that were read.
func (x *index) set(all []entry) { x.all, x.read = all, true }

// find gives the addresses that an owner may have. The index must count.
func (x *index) find(owner string) (list []netip.Addr, err error) {
	h := hash(owner)
	if x.read {
		for _, e := range x.all {
			if e.hash == h {
				list = append(list, e.addr)
			}
		}
		return list, nil
	}
	_, w, err := x.window(h)
	for i := 0; err == nil && i < len(w); i += slotSize {
		if e := readSlot(w[i:]); e.hash == h {
			list = append(list, e.addr)
		}
	}
	return list, err
}

func readSlot(b []byte) entry {
	return entry{binary.NativeEndian.Uint64(b), netip.AddrFrom16([16]byte(b[8:slotSize])).Unmap()}
}

func (e entry) put(b []byte) {
	binary.NativeEndian.PutUint64(b, e.hash)
	a := e.addr.As16()
	copy(b[8:], a[:])
}

// window reads the slots in which an entry may be, and says where they begin.
func (x *index) window(h uint64) (at int64, w []byte, err error) {
	at = headerSize + int64(h&(x.head.slots-1))*slotSize
	w = make([]byte, window*slotSize)
	n, err := unix.Pread(x.fd, w, at)
	if err == nil && n < len(w) {
		err = fmt.Errorf("%s is cut off", x.path)
	}
	return at, w, err
}

// add notes an allocation that was made.
func (x *index) add(e entry) {
	x.changed = true
	if x.read {
		x.all = append(x.all, e)
		return
	}
	if x.head.used++; x.head.used > x.head.slots/2 || !x.swap(e.hash, entry{}, e) {
		x.lost = true // the next one that wants it makes a larger one
	}
}

// remove notes that an allocation was removed.
func (x *index) remove(e entry) {
	x.changed = true
	if x.read {
		for i := range x.all {
			if x.all[i] == e {
				x.all[i] = x.all[len(x.all)-1]
				x.all = x.all[:len(x.all)-1]
				return
			}
		}
		return
	}
	if x.head.used--; !x.swap(e.hash, e, entry{}) {
		x.lost = true
	}
}

// swap puts one entry into the slot of another; the zero entry is a free slot.
func (x *index) swap(h uint64, old, e entry) bool {
	if x.fd < 0 {
		return false
	}
	at, w, err := x.window(h)
	for i := 0; err == nil && i < len(w); i += slotSize {
		has := readSlot(w[i:])
		if has.hash != old.hash || old.hash != 0 && has.addr != old.addr {
			continue
		}
		clear(w[i : i+slotSize])
		if e.hash != 0 {
			e.put(w[i:])
		}
		return writeAll(x.fd, at+int64(i), w[i:i+slotSize]) == nil
	}
	return false
}

// close writes what has changed. Where that fails there is no index, and the next one
// reads the folder.
func (x *index) close(dir int) {
	switch {
	case x.path == "":
	case x.read:
		if x.rewrite() == nil {
			x.commit(dir)
		}
	case x.changed && x.counts():
		x.commit(dir)
	}
	if x.fd >= 0 {
		unix.Close(x.fd)
	}
}

// commit sets the folder's time, and says so in the header.
func (x *index) commit(dir int) {
	now := time.Now()
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, unix.NsecToTimespec(now.UnixNano())}
	if unix.UtimesNanoAt(dir, ".", times, 0) != nil {
		return
	}
	var err error
	x.head.stamp, err = stampOf(dir)
	// A file system may have rounded it, to what others' changes may be rounded to as well.
	if err == nil && x.head.nsec == uint64(now.Nanosecond()) && x.head.sec == uint64(now.Unix()) {
		_ = writeAll(x.fd, 0, x.head.bytes())
	}
}

// rewrite makes the file anew, with room for as many again. Its header says nothing yet.
func (x *index) rewrite() error {
	x.head = header{slots: fewest, used: uint64(len(x.all))}
	for x.head.slots < 4*x.head.used {
		x.head.slots *= 2
	}
	b := make([]byte, headerSize+(x.head.slots+window)*slotSize)
	for _, e := range x.all {
		at := headerSize + int(e.hash&(x.head.slots-1))*slotSize
		end := at + window*slotSize
		for at < end && readSlot(b[at:]).hash != 0 {
			at += slotSize
		}
		if at == end {
			return fmt.Errorf("more than %d owners with one hash", window)
		}
		e.put(b[at:])
	}
	const flags = unix.O_RDWR | unix.O_CREAT | unix.O_TRUNC
	fd, err := openat(unix.AT_FDCWD, x.path, flags, 0o600)
	if err == unix.ENOENT {
		if err = os.MkdirAll(filepath.Dir(x.path), 0o700); err == nil {
			fd, err = openat(unix.AT_FDCWD, x.path, flags, 0o600)
		}
	}
	if err != nil {
		return err
	}
	if x.fd >= 0 {
		unix.Close(x.fd)
	}
	x.fd = fd
	return writeAll(fd, 0, b)
}
