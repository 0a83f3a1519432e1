package guard

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Applied says that the apply is done and verified: the time for Confirm starts
// now. It fails where the guard is gone; then the caller undoes the apply by
// itself, as after any failure, and calls Disarm. The caller holds the lock.
func (p *Pending) Applied() error {
	if err := p.guarded(); err != nil {
		return err
	}
	now, err := bootNow()
	if err != nil {
		return err
	}
	next := p.j
	next.State, next.Deadline = Applied, now+p.j.Wait
	if err := writeJournal(p.ns.Dir(), &next); err != nil {
		return err
	}
	p.j = next
	return nil
}

// guarded says whether the journal is still this one and its guard lives.
func (p *Pending) guarded() error {
	if err := p.reload(); err != nil {
		return err
	}
	a, err := p.readAnswer()
	if err != nil {
		return fmt.Errorf("look for the guard: %w", err)
	}
	f, err := a.open()
	if err != nil {
		return fmt.Errorf("the guard (pid %d) has ended before its time: %w", a.PID, err)
	}
	defer f.Close()
	if ended(f, 0) {
		return fmt.Errorf("the guard (pid %d) has ended before its time", a.PID)
	}
	return nil
}

// Disarm ends the guard without an undo: the apply failed, and has put
// everything back itself. The caller holds the lock.
func (p *Pending) Disarm() error { return p.clear() }

// Confirm keeps what was applied and ends the guard. It also decides an apply
// whose time is up while the guard has not got the lock yet. An apply that did
// not come to its end cannot be kept. The caller holds the lock of the
// namespace, and commits the records afterwards.
func (p *Pending) Confirm() error {
	if err := p.reload(); err != nil {
		return fmt.Errorf("confirm the apply: %w", err)
	}
	if p.j.State != Applied {
		return fmt.Errorf("confirm the apply of %s: it was ended before it was done, so only a part of it may be in the kernel; `viarule rollback` undoes it, then apply again", p.j.Starter)
	}
	return p.clear()
}

// errDecided says that the apply waits no more.
var errDecided = errors.New("it was confirmed or undone meanwhile")

// reload reads the journal again, now that nobody else can change it.
func (p *Pending) reload() error {
	j, err := readJournal(p.ns.Dir())
	if err != nil {
		return err
	}
	if j == nil || j.ID != p.j.ID {
		return errDecided
	}
	p.j = *j
	return nil
}

// clear removes the journal, which tells the guard to end, waits for that, and
// removes what belonged to it.
func (p *Pending) clear() error {
	dir := p.ns.Dir()
	var errs []error
	if err := os.Remove(journalPath(dir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		// As long as there is a journal the guard is needed.
		return fmt.Errorf("remove the journal of the apply: %w", err)
	}
	a, err := p.readAnswer()
	switch {
	case err == nil:
		errs = append(errs, a.end())
	case !errors.Is(err, fs.ErrNotExist):
		errs = append(errs, err)
	}
	errs = append(errs, p.stopUnit(context.Background()))
	if a != nil {
		for _, g := range a.Cgroups {
			if err := unix.Rmdir(g); err != nil && err != unix.ENOENT {
				errs = append(errs, fmt.Errorf("remove the control group %s: %w", g, err))
			}
		}
	}
	return errors.Join(append(errs, p.removeFiles())...)
}

// end waits for the guard to see that it is not needed, and kills one that does
// not (it was stopped, say).
func (a *answer) end() error {
	f, err := a.open()
	if err != nil {
		return nil // it has ended
	}
	defer f.Close()
	if ended(f, endLimit) {
		return nil
	}
	if err := kill(f); err != nil {
		return fmt.Errorf("end the guard (pid %d): %w", a.PID, err)
	}
	if !ended(f, endLimit) {
		return fmt.Errorf("end the guard (pid %d): it does not end", a.PID)
	}
	return nil
}

// removeFiles removes the guard's own folder, the copy of the program, and the
// journal's folder where nothing else is in it.
func (p *Pending) removeFiles() error {
	var errs []error
	errs = append(errs, os.RemoveAll(ownDir(p.ns.Dir(), p.j.ID)))
	if p.j.Library != "" {
		errs = append(errs, os.RemoveAll(p.j.Library))
		_ = os.Remove(filepath.Dir(p.j.Library)) // stays where others use it
	}
	_ = os.Remove(journalDir(p.ns.Dir())) // stays where an Outcome is in it
	return errors.Join(errs...)
}
