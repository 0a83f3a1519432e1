package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/netstate"
)

const sysctlRoot = "/proc/sys/"

// sysctlPath checks a key and gives its file. Only the networking ones belong to
// a network namespace; the others would be the host's.
func sysctlPath(key string) (string, error) {
	bad := !strings.HasPrefix(key, "net/") || strings.ContainsRune(key, 0)
	for _, part := range strings.Split(key, "/") {
		bad = bad || part == "" || part == "." || part == ".."
	}
	if bad {
		return "", fmt.Errorf("sysctl %q: not a key below net/: %w", key, unix.EINVAL)
	}
	return sysctlRoot + key, nil
}

// ReadSysctl reads a value, for example of "net/ipv4/conf/eth0.100/rp_filter",
// without the newline at its end. The error is fs.ErrNotExist where there is none.
func (c *Conn) ReadSysctl(key string) (string, error) {
	path, err := sysctlPath(key)
	if err != nil {
		return "", err
	}
	var b []byte
	// /proc/sys/net shows the namespace of the thread that looks.
	err = inNamespace(c.ns, func() error {
		b, err = os.ReadFile(path)
		return err
	})
	if err != nil {
		return "", sysctlError(key, err)
	}
	return strings.TrimSuffix(string(b), "\n"), nil
}

// writeSysctls writes one after the other until one fails.
func (c *Conn) writeSysctls(changes []netstate.Change) (int, []*netstate.ChangeError) {
	var (
		done int
		bad  error
	)
	err := inNamespace(c.ns, func() error {
		for done < len(changes) && bad == nil {
			bad = writeSysctl(&changes[done])
			done++
		}
		return nil
	})
	if err != nil {
		return 1, []*netstate.ChangeError{{Err: err}}
	}
	if bad != nil {
		return done, []*netstate.ChangeError{{Index: done - 1, Err: bad}}
	}
	return done, nil
}

func writeSysctl(ch *netstate.Change) error {
	s := ch.Sysctl
	if ch.Verb != netstate.Replace || ch.Objects() != 1 {
		return fmt.Errorf("sysctl %s: a change of it must be a replace, and of nothing else: %w", s.Key, unix.EINVAL)
	}
	path, err := sysctlPath(s.Key)
	if err != nil {
		return err
	}
	// Not os.OpenFile, which would have Go's poller watch it; and not O_CREAT: a file that is
	// not there is a sysctl that the kernel lacks.
	fd, err := openat(unix.AT_FDCWD, path, unix.O_WRONLY)
	if err != nil {
		return sysctlError(s.Key, err)
	}
	// The newline makes an empty value a write too.
	_, err = ignoringEINTR(func() (int, error) { return unix.Write(fd, []byte(s.Value+"\n")) })
	if err = errors.Join(err, unix.Close(fd)); err != nil {
		return sysctlError(s.Key, err)
	}
	return nil
}

// sysctlError says what a user asked for instead of a path below /proc.
func sysctlError(key string, err error) error {
	if p := (*fs.PathError)(nil); errors.As(err, &p) {
		err = p.Err
	}
	if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
		err = fmt.Errorf("%w: needs root", err)
	}
	return fmt.Errorf("sysctl %s: %w", key, err)
}
