package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// DefaultDir is where the states of labs are. It goes with a reboot, as the
// namespaces do.
const DefaultDir = "/run/viarule/lab"

// state is what a lab has made. It is written before anything is made, so that
// no namespace is ever without somebody who knows of it.
type state struct {
	Lab        string  `json:"lab"`
	Boot       string  `json:"boot"` // boot id of the kernel that holds the namespaces
	Up         bool    `json:"up"`   // false: an up began and has not come to its end
	Objects    bool    `json:"objects"`
	Namespaces []space `json:"namespaces"`
}

// space is one namespace of a lab.
type space struct {
	Host string `json:"host"`
	Name string `json:"name"`
	// Cookie is the kernel's own name of the namespace, never used again until
	// the next boot. 0: it was about to be made.
	Cookie uint64 `json:"cookie,omitempty"`
}

// store holds the lock of one lab's state.
type store struct {
	dir, lab string
	lock     *os.File
}

// lockState takes the lock of a lab, or fails with ErrBusy. The lock ends with
// the process at the latest.
func (l *Lab) lockState(dir string) (*store, error) {
	if !ValidName(l.Name) {
		return nil, fmt.Errorf("%s cannot be the name of a lab", quoted(l.Name))
	}
	if dir == "" {
		dir = DefaultDir
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("lab %s: keep its state: %w", l.Name, err)
	}
	name := filepath.Join(dir, l.Name+".lock")
	for {
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, fmt.Errorf("lab %s: keep its state: %w", l.Name, err)
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			f.Close()
			if errors.Is(err, unix.EWOULDBLOCK) {
				return nil, l.stateError(ErrBusy, "")
			}
			return nil, fmt.Errorf("lab %s: lock its state: %w", l.Name, err)
		}
		// Whoever held the lock before may have removed the file: a lock on a
		// file without a name locks nobody out.
		mine, err := f.Stat()
		if err == nil {
			var named fs.FileInfo
			if named, err = os.Stat(name); err == nil && os.SameFile(mine, named) {
				return &store{dir, l.Name, f}, nil
			}
		}
		f.Close()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("lab %s: lock its state: %w", l.Name, err)
		}
	}
}

func (s *store) path() string { return filepath.Join(s.dir, s.lab+".json") }

// fresh is where a state is written before it takes the place of the old one.
func (s *store) fresh() string { return s.path() + ".new" }

// unlock gives the lock back; where there is no state, nothing is left behind.
func (s *store) unlock() {
	if _, err := os.Stat(s.path()); errors.Is(err, fs.ErrNotExist) {
		os.Remove(s.fresh())     // of one that was killed while it wrote
		os.Remove(s.lock.Name()) // while it is held: see lockState
	}
	// Closing is not enough: a child that another goroutine forks has a copy of
	// the file until it executes its program, and the lock would live on with it.
	_ = unix.Flock(int(s.lock.Fd()), unix.LOCK_UN)
	s.lock.Close()
}

// load gives the state, or nil where the lab has none.
func (s *store) load() (*state, error) {
	text, err := os.ReadFile(s.path())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("lab %s: read its state: %w", s.lab, err)
	}
	var st state
	if err := json.Unmarshal(text, &st); err != nil {
		return nil, fmt.Errorf("lab %s: read its state %s: %w", s.lab, s.path(), err)
	}
	boot, err := bootID()
	if err != nil {
		return nil, err
	}
	if st.Boot != boot {
		return nil, nil // what it names went with that boot
	}
	return &st, nil
}

func (s *store) save(st *state) error {
	text, err := json.Marshal(st)
	if err == nil {
		if err = os.WriteFile(s.fresh(), text, 0o600); err == nil {
			err = os.Rename(s.fresh(), s.path())
		}
	}
	if err != nil {
		return fmt.Errorf("lab %s: write its state: %w", s.lab, err)
	}
	return nil
}

func (s *store) remove() error {
	if err := os.Remove(s.path()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("lab %s: remove its state: %w", s.lab, err)
	}
	return nil
}

func bootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b)), err
}
