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
	"syscall"
	"time"
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
	file *os.File
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
	path := filepath.Join(n.Dir(), lockFile)
	for {
		if err := os.MkdirAll(n.Dir(), 0o700); err != nil {
			info, gone := os.Lstat(n.Dir())
			if errors.Is(err, fs.ErrExist) && (errors.Is(gone, fs.ErrNotExist) || gone == nil && info.IsDir()) {
				continue // it was there, was removed in between, and perhaps is there again
			}
			return nil, &Error{n.Dir(), cause(err), ""}
		}
		f, err := tryLock(path)
		switch {
		case errors.Is(err, errStale), errors.Is(err, fs.ErrNotExist):
			continue // somebody who had finished removed the folder in between
		case errors.Is(err, syscall.EWOULDBLOCK):
			return nil, holder(path)
		case err != nil:
			return nil, &Error{path, cause(err), ""}
		}
		text := fmt.Sprintf("%d %s\n", os.Getpid(), doing)
		if err := errors.Join(f.Truncate(0), writeAt(f, text)); err != nil {
			f.Close()
			return nil, &Error{path, err, ""}
		}
		return &Lock{n, f}, nil
	}
}

// Namespace is what the lock is for.
func (l *Lock) Namespace() Namespace { return l.ns }

// Unlock gives the lock back. The folder of a namespace of which nothing is
// recorded any more goes as well.
func (l *Lock) Unlock() error {
	if l.file == nil {
		return nil
	}
	l.ns.removeIfEmpty()
	err := release(l.file)
	l.file = nil
	return err
}

// release gives a lock back. Close alone would leave it to a child that is being
// forked at this moment, until that child has called exec.
func release(f *os.File) error {
	return errors.Join(syscall.Flock(int(f.Fd()), syscall.LOCK_UN), f.Close())
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
func tryLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err == nil {
		var mine, named os.FileInfo
		if mine, err = f.Stat(); err == nil {
			named, err = os.Lstat(path)
		}
		switch {
		case errors.Is(err, fs.ErrNotExist), err == nil && !os.SameFile(mine, named):
			err = errStale
		case err == nil && !mine.Mode().IsRegular():
			err = errors.New("it is not a regular file")
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
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
		f, err := tryLock(path)
		if err == nil {
			return func() error { return release(f) }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, &Error{path, cause(err), ""}
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for %s, which another viarule has: %w", path, ctx.Err())
		case <-tick.C:
		}
	}
}

func writeAt(f *os.File, text string) error {
	_, err := f.WriteAt([]byte(text), 0)
	return err
}

// cause drops the operation and the path, which Error repeats.
func cause(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
