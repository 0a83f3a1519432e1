package guard

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/viarule/viarule/internal/plan"
	"github.com/viarule/viarule/internal/record"
)

// Config is what Arm must know. Lock, Checkpoint and Wait have no defaults.
type Config struct {
	// Lock is the lock of the namespace, held by the caller until the apply is
	// done and Applied was called.
	Lock *record.Lock
	// Checkpoint is what the undo leads back to.
	Checkpoint plan.Checkpoint
	// Wait is the time for Confirm. It runs from Arm, and anew from Applied.
	Wait time.Duration
	// Netns is the namespace as it is given to kernel.Open: empty for the
	// caller's, a name below /run/netns, or a path.
	Netns string
	// Program is the executable that the guard runs a copy of; empty: the
	// running one. It must call Main when its first argument is Command.
	Program string
	// Library is the folder for the copy where /run forbids execution and
	// systemd is to run it; empty: /var/lib/viarule.
	Library string

	booted  string // the folder that shows that systemd is PID 1
	manager string // the folder of PID 1 in /proc
}

const (
	defaultLibrary = "/var/lib/viarule"
	// systemdBooted exists exactly where systemd is PID 1: sd_booted(3).
	systemdBooted = "/run/systemd/system"
	// answerLimit is how long a guard may take to start.
	answerLimit = 15 * time.Second
	// endLimit is how long a guard may take to end by itself.
	endLimit = 3 * time.Second
)

// PendingError says that an apply waits for its confirmation.
type PendingError struct {
	Starter Starter
	State   State
	Left    time.Duration // until the undo; not positive: it is due
}

// Error says whose apply it is and what to do.
func (e *PendingError) Error() string {
	if e.State == Armed {
		return fmt.Sprintf("an apply --confirm of %s did not come to its end; it is undone in %s, or now by `viarule rollback`", e.Starter, round(e.Left))
	}
	return fmt.Sprintf("an apply of %s waits for its confirmation: `viarule confirm` keeps it, `viarule rollback` undoes it, else that happens in %s", e.Starter, round(e.Left))
}

func round(d time.Duration) time.Duration { return max(0, d).Round(time.Second) }

// Pending is an apply that waits for its confirmation. Not for use by several
// goroutines at once.
type Pending struct {
	// Warnings, set by Arm, are sentences on what the guard could not do.
	Warnings []string

	ns record.Namespace
	j  journal
}

// Starter is who started the apply.
func (p *Pending) Starter() Starter { return p.j.Starter }

// State says whether the apply came to its end.
func (p *Pending) State() State { return p.j.State }

// Error is why the last try to undo failed; empty: there was none, or it is
// undone.
func (p *Pending) Error() string { return p.j.Error }

// Left is the time until the undo, on the boot clock; not positive: it is due.
func (p *Pending) Left() (time.Duration, error) {
	now, err := bootNow()
	return p.j.Deadline - now, err
}

// Find returns the apply that waits for its confirmation in a namespace, and nil
// where there is none. The caller needs no lock to look, but must hold it to
// decide.
func Find(ns record.Namespace) (*Pending, error) {
	j, err := readJournal(ns.Dir())
	if err != nil || j == nil {
		return nil, err
	}
	return &Pending{ns: ns, j: *j}, nil
}

// Check returns a *PendingError where an apply waits for its confirmation:
// nothing else may be changed in that namespace till then.
func Check(ns record.Namespace) error {
	p, err := Find(ns)
	if err != nil || p == nil {
		return err
	}
	left, err := p.Left()
	if err != nil {
		return err
	}
	return &PendingError{p.j.Starter, p.j.State, left}
}

// Arm starts a guard and returns when the guard has said that it will undo. The
// caller must not write to the kernel before. Where it cannot be armed nothing
// stays behind.
func Arm(ctx context.Context, c Config) (*Pending, error) {
	ns := c.Lock.Namespace()
	if err := Check(ns); err != nil {
		return nil, err
	}
	if c.Wait <= 0 {
		return nil, fmt.Errorf("arm the guard: %s is no time to wait for the confirmation", c.Wait)
	}
	p, err := c.prepare(ns)
	if err == nil {
		err = p.start(ctx, c)
	}
	if err != nil {
		if p != nil {
			err = errors.Join(err, p.clear())
		}
		return nil, fmt.Errorf("arm the guard: %w", err)
	}
	return p, nil
}

// prepare writes the journal.
func (c *Config) prepare(ns record.Namespace) (*Pending, error) {
	if c.Program == "" {
		c.Program = "/proc/self/exe"
	}
	if c.Library == "" {
		c.Library = defaultLibrary
	}
	if c.booted == "" {
		c.booted = systemdBooted
	}
	if c.manager == "" {
		c.manager = "/proc/1"
	}
	text, err := c.Checkpoint.MarshalText()
	if err != nil {
		return nil, fmt.Errorf("write the checkpoint: %w", err)
	}
	who, err := starter()
	if err != nil {
		return nil, err
	}
	boot, err := bootID()
	if err != nil {
		return nil, err
	}
	unfinished, err := ns.Pending()
	if err != nil {
		return nil, err
	}
	// What an earlier guard that was killed left behind.
	if err := os.RemoveAll(journalDir(ns.Dir())); err != nil {
		return nil, err
	}
	p := &Pending{ns: ns, j: journal{ID: newID(), Boot: boot, State: Armed, Wait: c.Wait, Time: time.Now(),
		Unfinished: unfinished, Starter: who}}
	if c.Netns != "" {
		if p.j.Netns, err = netnsPath(c.Netns); err != nil {
			return p, err
		}
	}
	if err := os.MkdirAll(ownDir(ns.Dir(), p.j.ID), 0o700); err != nil {
		return p, err
	}
	if err := writeFile(checkpointPath(ns.Dir(), p.j.ID), text); err != nil {
		return p, fmt.Errorf("write the checkpoint: %w", err)
	}
	now, err := bootNow()
	if err != nil {
		return p, err
	}
	p.j.Deadline = now + c.Wait
	return p, writeJournal(ns.Dir(), &p.j)
}

// netnsPath is where a namespace is found that is given as to kernel.Open.
func netnsPath(name string) (string, error) {
	if strings.Contains(name, "/") {
		return filepath.Abs(name)
	}
	return filepath.Join("/run/netns", name), nil
}

// start runs the guard, under systemd if that can be, and waits for its answer.
func (p *Pending) start(ctx context.Context, c Config) error {
	answers, err := watch(ownDir(p.ns.Dir(), p.j.ID))
	if err != nil {
		return err
	}
	defer answers.Close()

	if err := c.systemdFits(p.j.Netns, p.ns.Dir()); err == nil {
		err = p.startUnit(ctx, c)
		if err == nil {
			err = p.awaitAnswer(ctx, answers)
		}
		if err == nil || ctx.Err() != nil {
			return err
		}
		p.Warnings = append(p.Warnings, fmt.Sprintf("systemd does not run the guard (%v): a child of this program does", err))
		// Should the service start after all, there are two guards: they agree, by
		// the lock and the journal.
		if err := p.stopUnit(ctx); err != nil {
			p.Warnings = append(p.Warnings, err.Error())
		}
		if err := p.forgetUnit(); err != nil {
			return err
		}
	}
	if err := p.startChild(ctx, c); err != nil {
		return err
	}
	return p.awaitAnswer(ctx, answers)
}

// answer is what a guard says when it has started.
type answer struct {
	process
	Cgroups  []string          `json:"cgroups,omitempty"` // that it made for itself
	From     map[string]string `json:"from,omitempty"`    // for each of them the one that it was in before
	Warnings []string          `json:"warnings,omitempty"`
	Error    string            `json:"error,omitempty"` // why it cannot guard
}

func (p *Pending) readAnswer() (*answer, error) {
	var a answer
	if err := readJSON(answerPath(p.ns.Dir(), p.j.ID), &a); err != nil {
		return nil, err
	}
	return &a, nil
}

func (p *Pending) awaitAnswer(ctx context.Context, changes *watcher) error {
	limit := time.NewTimer(answerLimit)
	defer limit.Stop()
	for {
		a, err := p.readAnswer()
		switch {
		case err == nil && a.Error != "":
			return errors.New(a.Error)
		case err == nil:
			p.Warnings = append(p.Warnings, a.Warnings...)
			return nil
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
		select {
		case _, ok := <-changes.C:
			if !ok {
				return errors.New("the folder of the guard went away")
			}
		case <-limit.C:
			return fmt.Errorf("the guard did not answer within %s", answerLimit)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
