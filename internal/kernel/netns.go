package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	netnsDir  = "/run/netns" // iproute2's; /var/run is a link to /run
	ownNetns  = "/proc/thread-self/ns/net"
	netnsMode = 0o755
)

// openNamespace opens what Open's argument names.
func openNamespace(name string) (*os.File, error) {
	path := ownNetns
	switch {
	case name == "":
	case strings.Contains(name, "/"):
		path = name
	default:
		if err := netnsName(name); err != nil {
			return nil, fmt.Errorf("open network namespace: %w", err)
		}
		path = filepath.Join(netnsDir, name)
	}
	f, err := openHandle(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("open network namespace %q: %w", name, ErrNoNamespace)
	case err != nil:
		return nil, fmt.Errorf("open network namespace %q: %w", name, err)
	}
	if kind, err := unix.IoctlRetInt(int(f.Fd()), unix.NS_GET_NSTYPE); err != nil || kind != unix.CLONE_NEWNET {
		f.Close()
		return nil, fmt.Errorf("open network namespace %q: %s is no network namespace: %w", name, path, ErrNoNamespace)
	}
	return f, nil
}

// openHandle opens a file that is only a handle. os.Open would start Go's poller for it,
// which a CNI program can do without.
func openHandle(path string) (*os.File, error) {
	for {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		switch err {
		case nil:
			return os.NewFile(uintptr(fd), path), nil
		case unix.EINTR:
		default:
			return nil, &fs.PathError{Op: "open", Path: path, Err: err}
		}
	}
}

func netnsName(name string) error {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") || len(name) > 255 {
		return fmt.Errorf("%q is no name for a namespace: %w", name, unix.EINVAL)
	}
	return nil
}

// inNamespace runs f on a thread in the namespace. Where the caller's thread is
// there already, f runs on it and needs no privilege. Otherwise f runs on
// another thread, since a failure to come back must never be the caller's.
func inNamespace(ns *os.File, f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	same, err := sameNamespace(ns)
	if err != nil {
		return err
	}
	if same {
		return f()
	}
	return onOtherThread(func() error {
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			if err == unix.EPERM {
				return fmt.Errorf("enter it: %w: needs root (CAP_SYS_ADMIN)", err)
			}
			return fmt.Errorf("enter it: %w", err)
		}
		return f()
	})
}

// onOtherThread runs f, which may change its thread's namespace, and brings the
// thread back. A thread that cannot come back ends with its goroutine.
func onOtherThread(f func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		back, err := os.Open(ownNetns)
		if err != nil {
			runtime.UnlockOSThread()
			result <- err
			return
		}
		defer back.Close()
		result <- f()
		if unix.Setns(int(back.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
	}()
	return <-result
}

func sameFile(a, b *os.File) (bool, error) {
	var x, y unix.Stat_t
	err := unix.Fstat(int(a.Fd()), &x)
	if err == nil {
		err = unix.Fstat(int(b.Fd()), &y)
	}
	if err != nil {
		return false, fmt.Errorf("look at the network namespace: %w", err)
	}
	return x.Dev == y.Dev && x.Ino == y.Ino, nil
}

func sameNamespace(ns *os.File) (bool, error) {
	var own, other unix.Stat_t
	if err := unix.Stat(ownNetns, &own); err != nil {
		return false, fmt.Errorf("look at the own network namespace: %w", err)
	}
	if err := unix.Fstat(int(ns.Fd()), &other); err != nil {
		return false, fmt.Errorf("look at the network namespace: %w", err)
	}
	return own.Dev == other.Dev && own.Ino == other.Ino, nil
}

// CreateNetns makes a named network namespace as `ip netns add` does, so that
// `ip -n NAME` finds it. Its lo is down. The error is fs.ErrExist where the name
// is taken.
func CreateNetns(name string) (err error) {
	if err := netnsName(name); err != nil {
		return fmt.Errorf("create network namespace: %w", err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("create network namespace %q: %w", name, err)
		}
	}()
	if os.Geteuid() != 0 {
		return permissionError{}
	}
	// Mounts are made on the caller's thread: only that is certain to be in the
	// caller's mount namespace.
	if err := shareNetnsDir(); err != nil {
		return err
	}
	path := filepath.Join(netnsDir, name)
	f, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE|os.O_EXCL, 0)
	if err != nil {
		return err
	}
	f.Close()
	ns, err := newNamespace()
	if err == nil {
		defer ns.Close()
		if err = unix.Mount(fmt.Sprintf("/proc/self/fd/%d", ns.Fd()), path, "none", unix.MS_BIND, ""); err != nil {
			err = fmt.Errorf("mount it: %w", err)
		}
	}
	if err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// newNamespace makes a network namespace that lives as long as the file is open.
func newNamespace() (ns *os.File, err error) {
	err = onOtherThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		var err error
		ns, err = os.Open(ownNetns)
		return err
	})
	return ns, err
}

// shareNetnsDir makes /run/netns a mount that propagates, as iproute2 does: a
// namespace that is unmounted in one mount namespace is then gone in all of
// them, and does not stay busy by accident.
func shareNetnsDir() error {
	if err := os.MkdirAll(netnsDir, netnsMode); err != nil {
		return err
	}
	err := unix.Mount("", netnsDir, "none", unix.MS_SHARED|unix.MS_REC, "")
	if err == unix.EINVAL { // not a mount yet
		if err := unix.Mount(netnsDir, netnsDir, "none", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("bind %s: %w", netnsDir, err)
		}
		err = unix.Mount("", netnsDir, "none", unix.MS_SHARED|unix.MS_REC, "")
	}
	if err != nil {
		return fmt.Errorf("share %s: %w", netnsDir, err)
	}
	return nil
}

// DeleteNetns removes the name of a namespace as `ip netns del` does; the
// namespace itself goes with its last user. The error is ErrNoNamespace where
// there is none.
func DeleteNetns(name string) error {
	if err := netnsName(name); err != nil {
		return fmt.Errorf("delete network namespace: %w", err)
	}
	path := filepath.Join(netnsDir, name)
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete network namespace %q: %w", name, ErrNoNamespace)
	}
	// EINVAL: not mounted, a name left over.
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && err != unix.EINVAL {
		return fmt.Errorf("delete network namespace %q: %w", name, err)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("delete network namespace %q: %w", name, err)
	}
	return nil
}
