package guard

import (
	"encoding/binary"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// watcher reports changes of the files of a folder. Several changes at once may
// give one report; there is always one after the last change. C is closed when
// the folder is gone or the watcher is closed.
type watcher struct {
	file *os.File
	C    chan struct{}
}

func watch(dir string) (*watcher, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", dir, err)
	}
	const events = unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_DELETE | unix.IN_DELETE_SELF | unix.IN_ONLYDIR
	if _, err := unix.InotifyAddWatch(fd, dir, events); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("watch %s: %w", dir, err)
	}
	w := &watcher{os.NewFile(uintptr(fd), "inotify"), make(chan struct{}, 1)}
	go w.read()
	return w, nil
}

func (w *watcher) read() {
	defer close(w.C)
	b := make([]byte, 64*(unix.SizeofInotifyEvent+unix.NAME_MAX+1))
	for {
		n, err := w.file.Read(b)
		if err != nil {
			return
		}
		select {
		case w.C <- struct{}{}:
		default:
		}
		if gone(b[:n]) {
			return
		}
	}
}

// gone says whether the events hold the end of the watched folder.
func gone(b []byte) bool {
	for len(b) >= unix.SizeofInotifyEvent {
		mask, size := binary.NativeEndian.Uint32(b[4:]), int(binary.NativeEndian.Uint32(b[12:]))
		if mask&(unix.IN_DELETE_SELF|unix.IN_IGNORED) != 0 {
			return true
		}
		if next := unix.SizeofInotifyEvent + size; next <= len(b) {
			b = b[next:]
		} else {
			return false
		}
	}
	return false
}

func (w *watcher) Close() error { return w.file.Close() }
