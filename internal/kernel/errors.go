package kernel

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

var (
	// ErrTornDump says that a list changed each time while it was being read, so
	// that no complete one can be had now.
	ErrTornDump = errors.New("the list changed each time while it was being read")
	// ErrNotSupported matches every FeatureError.
	ErrNotSupported = errors.New("not supported by this kernel")
	// ErrNoNamespace says that a named namespace does not exist.
	ErrNoNamespace = errors.New("no such namespace; see ip netns")
	// ErrLostAnswers says that the kernel dropped an answer because the receive
	// buffer was full: whether the write was done is not known.
	ErrLostAnswers = errors.New("the kernel's answer was lost")
)

// FeatureError says that this kernel lacks something.
type FeatureError struct {
	Name      string // what, in a user's words: "DSCP in rules"
	MinKernel string // the first Linux release that has it; empty: a matter of its configuration
}

// Error gives one sentence.
func (e *FeatureError) Error() string {
	if e.MinKernel == "" {
		return "this kernel was built without " + e.Name
	}
	return "this kernel does not know " + e.Name + ", which needs Linux " + e.MinKernel
}

// Is makes errors.Is(err, ErrNotSupported) true.
func (e *FeatureError) Is(target error) bool { return target == ErrNotSupported }

// linkError says that a name stands for no link. It is ENODEV.
type linkError struct{ name string }

func (e *linkError) Error() string { return fmt.Sprintf("no link named %s in this namespace", e.name) }

func (e *linkError) Is(target error) bool { return target == unix.ENODEV }

// answer is the kernel's refusal of one request.
type answer struct {
	errno unix.Errno
	msg   string // extended acknowledgement
}

func (a *answer) Error() string {
	s := errnoText(a.errno)
	if a.msg != "" {
		s += fmt.Sprintf(" (kernel: %q)", a.msg)
	}
	return s
}

func (a *answer) Unwrap() error { return a.errno }

// errnoText adds to EPERM what a user can do about it.
func errnoText(e unix.Errno) string {
	if e == unix.EPERM {
		return e.Error() + ": needs root (CAP_NET_ADMIN)"
	}
	return e.Error()
}

// permissionError is EPERM with the cause most likely.
type permissionError struct{}

func (permissionError) Error() string { return errnoText(unix.EPERM) }

func (permissionError) Unwrap() error { return unix.EPERM }
