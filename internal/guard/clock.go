package guard

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// bootNow is the time since boot, suspend included (CLOCK_BOOTTIME). It never
// jumps when somebody sets the date.
func bootNow() (time.Duration, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0, fmt.Errorf("read the boot clock: %w", err)
	}
	return time.Duration(ts.Nano()), nil
}

// bootID tells this boot from every other.
func bootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read the boot id: %w", err)
	}
	return string(bytes.TrimSpace(b)), nil
}

// alarm is a timer on the boot clock. A time.Timer would not do: it stands
// still in suspend (CLOCK_MONOTONIC).
type alarm struct {
	file *os.File
	C    chan struct{} // gets a value when the time has come
}

func newAlarm() (*alarm, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_BOOTTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("make a timer on the boot clock: %w", err)
	}
	a := &alarm{file: os.NewFile(uintptr(fd), "timerfd"), C: make(chan struct{}, 1)}
	go func() {
		var b [8]byte
		for {
			if _, err := a.file.Read(b[:]); err != nil {
				return // closed
			}
			select {
			case a.C <- struct{}{}:
			default:
			}
		}
	}()
	return a, nil
}

// Set makes the alarm ring at a time of the boot clock; a time that has passed
// rings at once.
func (a *alarm) Set(at time.Duration) error {
	rc, err := a.file.SyscallConn()
	if err != nil {
		return fmt.Errorf("set the timer: %w", err)
	}
	// Zero would switch the timer off.
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(max(1, at.Nanoseconds()))}
	var serr error
	if err := rc.Control(func(fd uintptr) {
		serr = unix.TimerfdSettime(int(fd), unix.TFD_TIMER_ABSTIME, &spec, nil)
	}); err != nil {
		serr = err
	}
	if serr != nil {
		return fmt.Errorf("set the timer: %w", serr)
	}
	return nil
}

func (a *alarm) Close() error { return a.file.Close() }

// process names a process for good: a pid alone is reused.
type process struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks after boot, field 22 of /proc/PID/stat
}

func self() (process, error) {
	start, err := startTime(os.Getpid())
	return process{PID: os.Getpid(), Start: start}, err
}

func startTime(pid int) (uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("look at process %d: %w", pid, err)
	}
	// The name, in parentheses, may hold anything; fields are counted behind it.
	_, rest, _ := strings.Cut(string(b[bytes.LastIndexByte(b, ')')+1:]), " ")
	f := strings.Fields(rest)
	if len(f) < 20 {
		return 0, fmt.Errorf("look at process %d: /proc/%d/stat has too few fields", pid, pid)
	}
	n, err := strconv.ParseUint(f[19], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("look at process %d: %w", pid, err)
	}
	return n, nil
}

// open returns a pidfd of the process, or an error that is fs.ErrNotExist or
// ESRCH where it has ended.
func (p process) open() (*os.File, error) {
	if p.PID <= 0 {
		return nil, unix.ESRCH
	}
	fd, err := unix.PidfdOpen(p.PID, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, err
	}
	// Asked after the pidfd is held: if the pid was reused, it was before that.
	if start, err := startTime(p.PID); err != nil || start != p.Start {
		_ = unix.Close(fd)
		return nil, unix.ESRCH
	}
	return os.NewFile(uintptr(fd), "pidfd"), nil
}

// kill sends SIGKILL; a process that has ended is no error.
func kill(pidfd *os.File) error {
	rc, err := pidfd.SyscallConn()
	if err != nil {
		return err
	}
	var serr error
	if err := rc.Control(func(fd uintptr) { serr = unix.PidfdSendSignal(int(fd), unix.SIGKILL, nil, 0) }); err != nil {
		return err
	}
	if serr == unix.ESRCH {
		return nil
	}
	return serr
}

// ended waits until the process of pidfd has ended, at most for limit, and says
// whether it has.
func ended(pidfd *os.File, limit time.Duration) bool {
	rc, err := pidfd.SyscallConn()
	if err != nil {
		return false
	}
	until := time.Now().Add(limit)
	done := false
	_ = rc.Control(func(fd uintptr) {
		for {
			ms := max(0, time.Until(until).Milliseconds())
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(ms))
			if err == unix.EINTR {
				continue
			}
			done = err == nil && n > 0
			return
		}
	})
	return done
}
