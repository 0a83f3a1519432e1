package record

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const (
	lockFile     = "lock"
	hostLockFile = "lock"
)

// Lock is the right to change one namespace: its records and what of its kernel
// state is viarule's. It is held from before the first look at the kernel that a
// plan is made of until the change is verified. It ends with Unlock or with the
// process. Not for use by several goroutines at once.
type Lock struct {
	ns   Namespace
	fd   int  // -1: it was given back
	kept bool // this process has written what keeps the folder in being
}

// BusyError says that another process has the lock of a namespace.
type BusyError struct {
	PID   int    // 0 where it is not known
	Doing string // what it does, in a few words; may be empty
}

// Error names the process and what it does.
func (e *BusyError) Error() string {
	who := "another process"
	if e.PID != 0 {
		who = "process " + strconv.Itoa(e.PID)
	}
	if e.Doing != "" {
		who += " (" + e.Doing + ")"
	}
	return who + " is changing this namespace; try again when it has finished"
}

// Lock takes the lock of the namespace for somebody who does what doing says in
// a few words ("viarule apply"). It does not wait: where another process has the
// lock, the error is a *BusyError.
func (n Namespace) Lock(doing string) (*Lock, error) {
	if err := n.store.checkDir(); err != nil {
		return nil, err
	}
	path := n.Dir() + "/" + lockFile
	for {
		fd, err := tryLock(path)
		switch {
		case err == unix.ENOENT:
			// A new namespace, or somebody who had finished removed the folder.
			if err := n.mkdir(); err != nil {
				return nil, err
			}
			continue
		case err == errStale:
			continue
		case err == unix.EWOULDBLOCK:
			return nil, holder(path)
		case err != nil:
			return nil, &Error{path, err, ""}
		}
		l := &Lock{ns: n, fd: fd}
		if err := l.say(doing); err != nil {
			unix.Close(fd)
			return nil, &Error{path, err, ""}
		}
		return l, nil
	}
}

// mkdir makes the folder where it is missing.
func (n Namespace) mkdir() error {
	if unix.Mkdir(n.Dir(), 0o700) == nil {
		return nil // most often the others' folder is there
	}
	err := os.MkdirAll(n.Dir(), 0o700)
	if err == nil {
		return nil
	}
	info, gone := os.Lstat(n.Dir())
	if errors.Is(err, fs.ErrExist) && (errors.Is(gone, fs.ErrNotExist) || gone == nil && info.IsDir()) {
		return nil // it was there, was removed in between, and perhaps is there again
	}
	return &Error{n.Dir(), cause(err), ""}
}

// say writes into the file who has the lock.
func (l *Lock) say(doing string) error {
	if err := unix.Ftruncate(l.fd, 0); err != nil {
		return err
	}
	_, err := unix.Pwrite(l.fd, []byte(strconv.Itoa(os.Getpid())+" "+doing+"\n"), 0)
	return err
}

// Namespace is what the lock is for.
func (l *Lock) Namespace() Namespace { return l.ns }

// Unlock gives the lock back. The folder of a namespace of which nothing is
// recorded any more goes as well.
func (l *Lock) Unlock() error {
	if l.fd < 0 {
		return nil
	}
	if !l.kept {
		l.ns.removeIfEmpty()
	}
	err := release(l.fd)
	l.fd = -1
	return err
}

// release gives a lock back. Close alone would leave it to a child that is being
// forked at this moment, until that child has called exec.
func release(fd int) error {
	return errors.Join(unix.Flock(fd, unix.LOCK_UN), unix.Close(fd))
}

// removeIfEmpty takes away the folder where it holds no record and nothing that
// this package does not know. The caller has the lock; who waits for it on the
// file that is removed here finds out (errStale). Errors do not matter: an empty
// folder that stays is no harm.
func (n Namespace) removeIfEmpty() {
	x, err := n.load()
	if err != nil || !x.empty() {
		return
	}
	list, err := os.ReadDir(n.Dir())
	if err != nil {
		return
	}
	known := []string{indexFile, indexFile + newSuffix, attachmentFile + newSuffix, lockFile}
	for _, f := range list {
		if !slices.Contains(known, f.Name()) {
			return
		}
	}
	for _, name := range known {
		_ = os.Remove(filepath.Join(n.Dir(), name))
	}
	_ = os.Remove(n.Dir())
}

// errStale says that the file that was locked is no longer the one of its name.
var errStale = errors.New("the lock file was replaced")

// tryLock opens and locks a file, which it makes where it is missing.
func tryLock(path string) (fd int, err error) {
	fd, err = openFile(path, unix.O_RDWR|unix.O_CREAT)
	if err != nil {
		return -1, err
	}
	for {
		if err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != unix.EINTR {
			break
		}
	}
	if err == nil {
		var mine, named unix.Stat_t
		if err = unix.Fstat(fd, &mine); err == nil {
			err = unix.Lstat(path, &named)
		}
		switch {
		case err == unix.ENOENT, err == nil && (mine.Dev != named.Dev || mine.Ino != named.Ino):
			err = errStale
		case err == nil && mine.Mode&unix.S_IFMT != unix.S_IFREG:
			err = errNoFile
		}
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// holder reads who has the lock. It may have no time to say so, or be gone.
func holder(path string) *BusyError {
	f, _, err := openRegular(path)
	if err != nil {
		return &BusyError{}
	}
	defer f.Close()
	data, _ := io.ReadAll(io.LimitReader(f, 256))
	pid, doing, _ := bytes.Cut(bytes.TrimSpace(data), []byte(" "))
	n, err := strconv.Atoi(string(pid))
	if err != nil {
		return &BusyError{}
	}
	return &BusyError{n, printable(doing)}
}

// printable drops what could play tricks on a terminal.
func printable(b []byte) string {
	return string(bytes.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == 0xfffd {
			return -1
		}
		return r
	}, b))
}

// LockHost waits for the lock that keeps names of tables, which are the host's,
// apart: it is held from before the names in use are read until the objects that
// use new ones are staged and the name files written. Take it after a
// namespace's lock, never before. The error is that of ctx when its time is up.
func (s Store) LockHost(ctx context.Context) (unlock func() error, err error) {
	if err := s.checkDir(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return nil, &Error{s.Dir, cause(err), ""}
	}
	path := filepath.Join(s.Dir, hostLockFile)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		fd, err := tryLock(path)
		if err == nil {
			return func() error { return release(fd) }, nil
		}
		if err != unix.EWOULDBLOCK {
			return nil, &Error{path, err, ""}
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for %s, which another viarule has: %w", path, ctx.Err())
		case <-tick.C:
		}
	}
}

// cause drops the operation and the path, which Error repeats.
func cause(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
