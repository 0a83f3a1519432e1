package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

const netnsDir = "/run/netns"

// nsPath is where a namespace is bound. The name has been validated: it holds no
// slash.
func nsPath(ns string) string { return filepath.Join(netnsDir, ns) }

// nsKind says what stands at a namespace's name.
type nsKind int

const (
	nsAbsent nsKind = iota
	nsFile          // a file that no namespace is bound to: an interrupted creation
	nsBound
)

func kindOfNetns(ns string) (nsKind, error) {
	var st unix.Statfs_t
	switch err := unix.Statfs(nsPath(ns), &st); {
	case errors.Is(err, fs.ErrNotExist):
		return nsAbsent, nil
	case err != nil:
		return nsAbsent, &os.PathError{Op: "statfs", Path: nsPath(ns), Err: err}
	case st.Type == unix.NSFS_MAGIC:
		return nsBound, nil
	}
	return nsFile, nil
}

// inNetns runs f on a thread that is in the namespace. Sockets that f opens stay
// there. The thread ends with f, since it can no longer serve anything else.
func inNetns(ns string, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the runtime ends the thread
		fd, err := unix.Open(nsPath(ns), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = unix.Setns(fd, unix.CLONE_NEWNET)
			unix.Close(fd)
		}
		if err != nil {
			done <- fmt.Errorf("enter network namespace %s: %w", ns, err)
			return
		}
		done <- f()
	}()
	return <-done
}

// pollEvery is how often a state is looked at that the kernel reports no event
// for, or none that is worth a socket.
const pollEvery = 2 * time.Millisecond

// eventually calls ok until it says true, the time is over or ctx ends. It says
// whether ok did.
func eventually(ctx context.Context, limit time.Duration, ok func() (bool, error)) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		if done, err := ok(); done || err != nil {
			return done, err
		}
		select {
		case <-ctx.Done():
			return false, context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// awaitRunning waits until the links can carry packets. A link that was set up
// gets its carrier at once, but its queue is opened and IPv6 starts on it only
// when the kernel's link watch has come by; until then packets are lost.
func awaitRunning(ctx context.Context, ns string, links []string) error {
	missing := ""
	err := inNetns(ns, func() error {
		_, err := eventually(ctx, 10*time.Second, func() (bool, error) {
			for _, name := range links {
				i, err := net.InterfaceByName(name)
				if err != nil {
					return false, err
				}
				if i.Flags&net.FlagRunning == 0 {
					missing = name
					return false, nil
				}
			}
			return true, nil
		})
		return err
	})
	if err != nil && missing != "" {
		return fmt.Errorf("link %s in %s does not come up: %w", missing, ns, err)
	}
	return err
}
