package record

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

func TestLockNamesTheHolder(t *testing.T) {
	s := store(t)
	l, err := s.Namespace(1).Lock("viarule apply \x1b[31muplinks.yaml")
	must(t, err)
	_, err = s.Namespace(1).Lock("viarule delete")
	var busy *BusyError
	if !errors.As(err, &busy) || busy.PID != os.Getpid() || busy.Doing != "viarule apply [31muplinks.yaml" {
		t.Errorf("error %#v", err)
	}
	if want := "is changing this namespace"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want %q in it", err, want)
	}
	other, err := s.Namespace(2).Lock("viarule apply") // another namespace does not matter
	must(t, err)
	must(t, other.Unlock())
	must(t, l.Unlock())
	l, err = s.Namespace(1).Lock("viarule delete")
	must(t, err)
	must(t, l.Unlock())
}

// TestLockExcludes has many goroutines take the lock of a namespace without
// records, so that each Unlock removes the folder with the lock file in it.
func TestLockExcludes(t *testing.T) {
	n := store(t).Namespace(1)
	var inside, got atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				l, err := n.Lock("a test")
				var busy *BusyError
				if errors.As(err, &busy) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				if inside.Add(1) != 1 {
					t.Error("two have the lock")
				}
				got.Add(1)
				inside.Add(-1)
				if err := l.Unlock(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got.Load() == 0 {
		t.Error("nobody got it")
	}
}

func TestLockRefusesASymlink(t *testing.T) {
	n := store(t).Namespace(1)
	must(t, os.MkdirAll(n.Dir(), 0o700))
	victim := t.TempDir() + "/victim"
	must(t, os.WriteFile(victim, []byte("keep"), 0o600))
	must(t, os.Symlink(victim, n.Dir()+"/lock"))
	if _, err := n.Lock("a test"); !errors.Is(err, syscall.ELOOP) {
		t.Errorf("error %v", err)
	}
	if b, _ := os.ReadFile(victim); string(b) != "keep" {
		t.Errorf("the target now holds %q", b)
	}
}

func TestLockHostWaits(t *testing.T) {
	s := store(t)
	unlock, err := s.LockHost(t.Context())
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := s.LockHost(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	second := make(chan error)
	go func() {
		u, err := s.LockHost(t.Context())
		if err == nil {
			err = u()
		}
		second <- err
	}()
	must(t, unlock())
	must(t, <-second)
}
