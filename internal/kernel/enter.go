package kernel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Namespace is a network namespace that a goroutine has entered.
type Namespace struct {
	path string
	file *os.File
	back *os.File // the one that it came from
	// pinned: see How.
	pinned bool
}

// ErrOwnNamespace says that the namespace to enter is the one that the caller is in.
var ErrOwnNamespace = errors.New("it is the namespace of this program itself")

// How is a way to enter a namespace.
type How uint8

const (
	// OwnToo takes the namespace that the caller is in as well.
	OwnToo How = 1 << iota
	// Pinned says that the goroutine cannot leave its thread anyway, as in a function init
	// ("All init functions are run on the startup thread", package runtime). The lock that
	// is needed else costs a thread more: one that has never been in another namespace, of
	// which the runtime makes new ones. Without it new ones may be in the namespace, so what
	// other goroutines do must not depend on that.
	Pinned
)

// Enter moves the calling goroutine, with the thread that it keeps until Leave, into a
// namespace, named as for Open. It is for programs that live for one namespace: what
// they open there needs no other thread, which is a third of what a CNI program has to
// spend. The error is ErrNoNamespace where there is none, and ErrOwnNamespace where nothing
// would change.
func Enter(netns string, how ...How) (_ *Namespace, err error) {
	n := &Namespace{path: netns}
	own := false
	for _, h := range how {
		own, n.pinned = own || h&OwnToo != 0, n.pinned || h&Pinned != 0
	}
	if n.file, err = openNamespace(netns); err != nil {
		return nil, err
	}
	if !n.pinned {
		runtime.LockOSThread()
	}
	defer func() {
		if err != nil {
			n.unlock()
			n.file.Close()
			if n.back != nil {
				n.back.Close()
			}
			err = fmt.Errorf("enter network namespace %q: %w", netns, err)
		}
	}()
	if n.back, err = openHandle(ownNetns); err != nil {
		return nil, err
	}
	if same, err := sameFile(n.back, n.file); err != nil {
		return nil, err
	} else if same && !own {
		return nil, ErrOwnNamespace
	}
	if err = unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err == unix.EPERM {
		err = fmt.Errorf("%w: needs root (CAP_SYS_ADMIN)", err)
	}
	return n, err
}

func (n *Namespace) unlock() {
	if !n.pinned {
		runtime.UnlockOSThread()
	}
}

// Open opens the namespace, as the function Open does. The Conn is for the goroutine that
// entered, until it leaves.
func (n *Namespace) Open() (*Conn, error) {
	fd, err := unix.FcntlInt(n.file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open network namespace %q: %w", n.path, err)
	}
	// The calling thread is there, and stays until Leave.
	return newConn(os.NewFile(uintptr(fd), n.path), n.path, func(open func() error) error { return open() })
}

// Leave goes back to where Enter came from, and gives the lock back. Where there is no
// way back the thread ends with the goroutine.
func (n *Namespace) Leave() error {
	err := unix.Setns(int(n.back.Fd()), unix.CLONE_NEWNET)
	if err == nil {
		n.unlock()
	} else {
		err = fmt.Errorf("leave network namespace %q: %w", n.path, err)
	}
	return errors.Join(err, n.file.Close(), n.back.Close())
}

// Lock waits for the lock that CNI's reference plugins take of a namespace: flock(2) on
// its file, whatever path leads there. Leave gives it back. The error is that of
// ctx when its time is up.
func (n *Namespace) Lock(ctx context.Context) error {
	fd := int(n.file.Fd())
	err := flock(fd, unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		// The kernel lets them in as they came. Of a hundred that ask again and again the
		// one inside would get no time to finish.
		got := make(chan error, 1)
		go func() { got <- flock(fd, unix.LOCK_EX) }()
		select {
		case err = <-got:
		case <-ctx.Done():
			return fmt.Errorf("lock network namespace %q, which another program has locked: %w", n.path, ctx.Err())
		}
	}
	if err != nil {
		return fmt.Errorf("lock network namespace %q: %w", n.path, err)
	}
	return nil
}

func flock(fd, how int) error {
	for {
		if err := unix.Flock(fd, how); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// Identity is the device and inode of the namespace's file, which say whether a path
// still leads to the same namespace as long as that lives.
func (n *Namespace) Identity() (dev, inode uint64, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(n.file.Fd()), &st); err != nil {
		return 0, 0, fmt.Errorf("look at network namespace %q: %w", n.path, err)
	}
	return st.Dev, st.Ino, nil
}
