// Package host is viarule at work on one network namespace: it puts files,
// records, the kernel and the pure packages together, in one way for all
// callers. spec → desired → plan → apply, then it looks again.
//
// Everything that writes holds the namespace's lock. Records are staged before
// the kernel is changed and committed when it was verified, so that a process
// that dies at any point leaves a state from which the next one goes on.
package host

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/viarule/viarule/internal/boot"
	"github.com/viarule/viarule/internal/kernel"
	"github.com/viarule/viarule/internal/record"
	"github.com/viarule/viarule/internal/rttables"
	"github.com/viarule/viarule/internal/spec"
)

// Config says which namespace. The zero value is the caller's.
type Config struct {
	Netns    string       // a name below /run/netns or a path; empty: the caller's
	Progress func(string) // told what takes long; may be nil
}

// Host is one network namespace and what viarule knows of it. Close it. A Host
// is for one goroutine.
type Host struct {
	netns    string
	progress func(string)
	kernel   *kernel.Conn
	store    record.Store
	records  record.Namespace
	names    rttables.Dir
	boot     boot.Config
}

// Open opens a namespace. Nothing is changed by it.
func Open(c Config) (*Host, error) {
	k, err := kernel.Open(c.Netns)
	if err != nil {
		return nil, err
	}
	cookie, err := k.Cookie()
	if err != nil {
		return nil, errors.Join(err, k.Close())
	}
	progress := c.Progress
	if progress == nil {
		progress = func(string) {}
	}
	return &Host{
		netns:    c.Netns,
		progress: progress,
		kernel:   k,
		store:    store(),
		records:  store().Namespace(cookie),
		names:    rttables.System(),
		boot:     boot.Config{},
	}, nil
}

func store() record.Store { return record.Store{Dir: record.DefaultDir} }

// netnsPath is the path of the namespace; empty for the caller's.
func (h *Host) netnsPath() string {
	if h.netns == "" || strings.Contains(h.netns, "/") {
		return h.netns
	}
	return filepath.Join("/run/netns", h.netns)
}

// Close gives up what Open took.
func (h *Host) Close() error { return h.kernel.Close() }

// InputError is what is wrong with what the user wrote. Nothing was changed.
type InputError struct{ Problems []spec.Problem }

// Error gives the first problem and the number of the others.
func (e *InputError) Error() string {
	switch len(e.Problems) {
	case 0:
		return "the input is wrong"
	case 1:
		return e.Problems[0].String()
	}
	return fmt.Sprintf("%s (and %d more)", e.Problems[0], len(e.Problems)-1)
}

// Lacking says whether nothing is wrong but what this host lacks: the same input
// may be right on another host, or here when a link has come.
func (e *InputError) Lacking() bool {
	n := 0
	for i := range e.Problems {
		if p := &e.Problems[i]; p.Severity == spec.Error {
			if !p.Lacking {
				return false
			}
			n++
		}
	}
	return n > 0
}

// Phase is a part of a command and how long it took.
type Phase struct {
	Name string        `json:"name"`
	Time time.Duration `json:"nanoseconds"`
}

// stopwatch cuts a command into phases.
type stopwatch struct {
	last   time.Time
	phases []Phase
}

func startWatch() *stopwatch { return &stopwatch{last: time.Now()} }

func (w *stopwatch) lap(name string) {
	now := time.Now()
	w.phases = append(w.phases, Phase{name, now.Sub(w.last)})
	w.last = now
}
