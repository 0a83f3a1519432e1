package hostlocal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/cni"
)

const (
	lockName   = "lock"
	lastPrefix = "last_reserved_ip."
	// stageName is the file in which an allocation is written before it gets its name. One
	// that a killed ADD left is of no meaning: only the holder of the lock uses it.
	stageName = ".viarule"
	// manyTaken is how many addresses in a row must be taken before the folder is read.
	manyTaken = 64
	// mostOwner bounds what is read of a file.
	mostOwner = 4096
)

// folder is a network's folder, locked.
type folder struct {
	dir, lock int
	name      string
	index     *index
	buf       [mostOwner]byte
}

// String is the path of the store.
func (s *Store) String() string { return path.Join(s.base, path.Join(s.below...)) }

// open opens and locks the folder; nil without an error: there is none, and it is not
// to be made.
func (s *Store) open(ctx context.Context, create bool) (*folder, error) {
	dir, err := s.openDir(create)
	if err != nil {
		if !create && errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return nil, cni.Failed("open "+s.String(), err)
	}
	f := &folder{dir: dir, name: s.String()}
	// As the reference: for reading, since that is all that flock needs.
	f.lock, err = openat(dir, lockName, unix.O_RDONLY|unix.O_CREAT, 0o600)
	if err != nil {
		unix.Close(dir)
		return nil, cni.Failed(fmt.Sprintf("open %s/%s", f.name, lockName), err)
	}
	if err := lock(ctx, f.lock); err != nil {
		unix.Close(dir)
		unix.Close(f.lock)
		return nil, cni.Failed(fmt.Sprintf("lock %s/%s, which another program holds", f.name, lockName), err)
	}
	f.index = openIndex(s.index, dir)
	return f, nil
}

// openDir goes down from base, one folder after the other: a link on the way is an error.
func (s *Store) openDir(create bool) (int, error) {
	const flags = unix.O_DIRECTORY | unix.O_CLOEXEC
	at, err := unix.Open(s.base, flags|unix.O_PATH, 0)
	if create && err == unix.ENOENT {
		if err := os.MkdirAll(s.base, 0o755); err != nil {
			return -1, err
		}
		at, err = unix.Open(s.base, flags|unix.O_PATH, 0)
	}
	for i, name := range s.below {
		if err != nil {
			return -1, err
		}
		access := unix.O_PATH
		if i == len(s.below)-1 {
			access = unix.O_RDONLY
		}
		next, nerr := openat(at, name, flags|access, 0)
		if create && nerr == unix.ENOENT {
			if nerr = unix.Mkdirat(at, name, 0o755); nerr == nil || nerr == unix.EEXIST {
				next, nerr = openat(at, name, flags|access, 0)
			}
		}
		if nerr == unix.ENOTDIR || nerr == unix.ELOOP {
			nerr = fmt.Errorf("%s is a symbolic link, or no folder: %w", name, nerr)
		}
		unix.Close(at)
		at, err = next, nerr
	}
	return at, err
}

// openat opens a file that must be no link, and whose opening must not wait.
func openat(dir int, name string, flags int, mode uint32) (int, error) {
	for {
		fd, err := unix.Openat(dir, name, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, mode)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// lock waits for the lock as long as ctx lives.
func lock(ctx context.Context, fd int) error {
	if unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) == nil {
		return nil
	}
	// What waits has a descriptor of its own: when fd has been closed, a lock that comes too
	// late goes with it, and no other file can have its number meanwhile.
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		defer unix.Close(own)
		err := unix.Flock(own, unix.LOCK_EX)
		for err == unix.EINTR {
			err = unix.Flock(own, unix.LOCK_EX)
		}
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// close unlocks the folder.
func (f *folder) close() {
	f.index.close(f.dir)
	unix.Close(f.dir)
	unix.Close(f.lock)
}

// read gives the start of a file, up to mostOwner bytes.
func (f *folder) read(name string) ([]byte, error) {
	fd, err := openat(f.dir, name, unix.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	n, err := unix.Read(fd, f.buf[:])
	if err != nil {
		return nil, err
	}
	return f.buf[:n], nil
}

// owner is what an address's file says; false: there is no such file, or what has the
// name is none.
func (f *folder) owner(a netip.Addr) (string, bool, error) {
	b, err := f.read(a.String())
	switch err {
	case nil:
		return string(bytes.TrimSpace(b)), true, nil
	case unix.ENOENT, unix.EISDIR, unix.ELOOP, unix.ENXIO:
		return "", false, nil
	}
	return "", false, fmt.Errorf("read %s/%s: %w", f.name, a, err)
}

// find gives the addresses of an owner.
func (f *folder) find(owner string) (held []netip.Addr, err error) {
	if !f.index.counts() {
		if err := f.sweep(nil); err != nil {
			return nil, err
		}
	}
	may, err := f.index.find(owner)
	if err != nil {
		return nil, err
	}
	for _, a := range may {
		has, _, err := f.owner(a)
		if err != nil {
			return nil, err
		}
		if has == owner {
			held = append(held, a)
		}
	}
	return held, nil
}

// each reads all allocations.
func (f *folder) each(do func(a netip.Addr, owner string)) error {
	names, err := f.names()
	if err != nil {
		return err
	}
	for _, name := range names {
		a, ok := address(name)
		if !ok {
			continue
		}
		owner, ok, err := f.owner(a)
		if err != nil {
			return err
		}
		if ok {
			do(a, owner)
		}
	}
	return nil
}

// address reads a file's name, which must be as an allocation has it.
func address(name string) (netip.Addr, bool) {
	if name == "" || strings.IndexByte("0123456789abcdef:", name[0]) < 0 {
		return netip.Addr{}, false
	}
	a, err := netip.ParseAddr(name)
	return a, err == nil && a.Zone() == "" && a.String() == name
}

// names reads the folder. Package os would ask the poller about it first.
func (f *folder) names() (names []string, err error) {
	fd, err := openat(f.dir, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err == nil {
		defer unix.Close(fd)
		buf := make([]byte, 32<<10)
		for {
			var n int
			if n, err = unix.ReadDirent(fd, buf); err != nil || n == 0 {
				break
			}
			_, _, names = unix.ParseDirent(buf[:n], -1, names)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", f.name, err)
	}
	return names, nil
}

// sweep reads all allocations, makes the index anew, and removes those that are not to be
// kept; nil: all are.
func (f *folder) sweep(keep func(owner string) bool) error {
	var list []entry
	var failed error
	err := f.each(func(a netip.Addr, owner string) {
		if keep != nil && !keep(owner) {
			if err := f.unlink(a.String()); err == nil {
				return
			} else if failed == nil {
				failed = err
			}
		}
		if owner != "" { // what nobody owns, nobody asks for
			list = append(list, entry{hash(owner), a})
		}
	})
	if err != nil {
		return err
	}
	f.index.set(list)
	return failed
}

func (f *folder) unlink(name string) error {
	if err := unix.Unlinkat(f.dir, name, 0); err != nil && err != unix.ENOENT {
		return fmt.Errorf("remove %s/%s: %w", f.name, name, err)
	}
	f.index.changed = true
	return nil
}

// remove gives an owner's address back.
func (f *folder) remove(a netip.Addr, owner string) error {
	err := f.unlink(a.String())
	if err == nil {
		f.index.remove(entry{hash(owner), a})
	}
	return err
}

// stage writes an allocation under a name that is none yet.
func (f *folder) stage(owner string) error {
	f.index.changed = true
	fd, err := openat(f.dir, stageName, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err == unix.EEXIST {
		if err = f.unlink(stageName); err == nil {
			fd, err = openat(f.dir, stageName, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
		}
	}
	if err == nil {
		err = writeAll(fd, 0, []byte(owner))
		if cerr := unix.Close(fd); err == nil {
			err = cerr
		}
	}
	if err != nil {
		_ = f.unlink(stageName)
		return fmt.Errorf("write %s/%s: %w", f.name, stageName, err)
	}
	return nil
}

func writeAll(fd int, at int64, b []byte) error {
	n, err := unix.Pwrite(fd, b, at)
	if err == nil && n < len(b) {
		err = unix.ENOSPC
	}
	return err
}

// place gives the staged allocation its address; false: that one is taken.
func (f *folder) place(a netip.Addr) (bool, error) {
	err := unix.Renameat2(f.dir, stageName, f.dir, a.String(), unix.RENAME_NOREPLACE)
	if err == unix.EEXIST {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("make %s/%s: %w", f.name, a, err)
	}
	return true, nil
}

// takeOne takes the address that is asked for from the n-th set.
func (f *folder) takeOne(s *set, n int, want netip.Addr, owner string) (ip cni.IP, err error) {
	r := s.find(want)
	if want == r.gateway {
		return ip, cni.Wrong(s.key, fmt.Sprintf("requested ip %s is subnet's gateway", want), "")
	}
	last, err := f.last(n)
	if err != nil {
		return ip, err
	}
	defer last.close()
	if err := f.stage(owner); err != nil {
		return ip, err
	}
	ok, err := f.place(want)
	if !ok {
		_ = f.unlink(stageName)
		if err == nil {
			err = &cni.Error{Code: cni.CodeTryAgain, Msg: fmt.Sprintf("requested IP address %s is not available in range set %s", want, s)}
		}
		return ip, err
	}
	return f.taken(last, want, r, owner)
}

// takeNext takes the next free address of the n-th set.
func (f *folder) takeNext(s *set, n int, owner string) (ip cni.IP, err error) {
	last, err := f.last(n)
	if err != nil {
		return ip, err
	}
	defer last.close()
	if err := f.stage(owner); err != nil {
		return ip, err
	}
	tried := 0
	var there map[netip.Addr]bool
	ok := false
	s.next(last.addr, func(a netip.Addr, r *oneRange) bool {
		if tried++; tried == manyTaken {
			if there, err = f.there(); err != nil {
				return false
			}
		}
		if there[a] {
			return true
		}
		if ok, err = f.place(a); ok {
			ip, err = f.taken(last, a, r, owner)
		}
		return err == nil && !ok
	})
	if !ok {
		_ = f.unlink(stageName)
		if err == nil {
			err = &cni.Error{Code: cni.CodeTryAgain, Msg: fmt.Sprintf("no IP addresses available in range set: %s", s)}
		}
	}
	return ip, err
}

// there are the addresses that have a file.
func (f *folder) there() (map[netip.Addr]bool, error) {
	names, err := f.names()
	if err != nil {
		return nil, err
	}
	all := make(map[netip.Addr]bool, len(names))
	for _, name := range names {
		if a, ok := address(name); ok {
			all[a] = true
		}
	}
	return all, nil
}

// taken notes that an address has been given out.
func (f *folder) taken(last *last, a netip.Addr, r *oneRange, owner string) (ip cni.IP, err error) {
	f.index.add(entry{hash(owner), a})
	if err := last.write(f, a); err != nil {
		_ = f.remove(a, owner)
		return ip, err
	}
	return cni.IP{Address: netip.PrefixFrom(a, r.subnet.Bits()), Gateway: r.gateway}, nil
}

// last is the file with the address that a set gave out last.
type last struct {
	name string
	fd   int // -1: there is none yet
	size int
	addr netip.Addr // zero: none that one can read
}

func (f *folder) last(n int) (*last, error) {
	l := &last{name: lastPrefix + strconv.Itoa(n)}
	var err error
	if l.fd, err = openat(f.dir, l.name, unix.O_RDWR, 0); err == unix.ENOENT {
		l.fd = -1
		return l, nil
	}
	if err == nil {
		if l.size, err = unix.Read(l.fd, f.buf[:]); err != nil {
			unix.Close(l.fd)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read %s/%s: %w", f.name, l.name, err)
	}
	// One that cannot be read is lost: the round begins again.
	l.addr, _ = parseAddr(string(f.buf[:l.size]))
	return l, nil
}

func (l *last) write(f *folder, a netip.Addr) (err error) {
	if l.fd < 0 {
		f.index.changed = true
		l.fd, err = openat(f.dir, l.name, unix.O_WRONLY|unix.O_CREAT, 0o600)
	}
	s := a.String()
	if err == nil {
		err = writeAll(l.fd, 0, []byte(s))
	}
	if err == nil && len(s) < l.size {
		err = unix.Ftruncate(l.fd, int64(len(s)))
	}
	if err != nil {
		return fmt.Errorf("write %s/%s: %w", f.name, l.name, err)
	}
	return nil
}

func (l *last) close() {
	if l.fd >= 0 {
		unix.Close(l.fd)
	}
}
