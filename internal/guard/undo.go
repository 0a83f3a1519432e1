package guard

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/apply"
	"github.com/viarule/viarule/internal/plan"
	"github.com/viarule/viarule/internal/record"
)

// Kernel is what an undo needs of a network namespace.
type Kernel interface {
	apply.Kernel
	// Cookie tells the namespace from every other of this boot.
	Cookie() (uint64, error)
}

// Undo leads the kernel back to a checkpoint. left are the changes that it
// refuses for good, such as a route by a link that is gone; they are no error,
// since trying again would not help. err says that the kernel could not be read
// or not be written at all, or that ctx ended: then it is worth another try.
func Undo(ctx context.Context, k Kernel, cp plan.Checkpoint) (left []string, err error) {
	_, err = apply.Undo(ctx, k, cp, apply.Options{})
	var undo *apply.UndoError
	switch {
	case err == nil:
		return nil, nil
	case ctx.Err() != nil, !errors.As(err, &undo), undo.Rest.Empty(), errors.Is(err, unix.EPERM):
		return nil, err
	}
	for i := range undo.Rest.Ops {
		left = append(left, undo.Rest.Ops[i].Brief())
	}
	if undo.Err != nil {
		left = append(left, undo.Err.Error())
	}
	return left, nil
}

const whyAsked = "it was asked for"

func (p *Pending) whyLate() string { return fmt.Sprintf("nobody confirmed it within %s", p.j.Wait) }

// Rollback undoes the apply now and ends the guard. The caller holds lock, that
// of the namespace which k is in.
func (p *Pending) Rollback(ctx context.Context, lock *record.Lock, k Kernel) (*Outcome, error) {
	return p.undo(ctx, lock, k, whyAsked, p.clear)
}

// Recover undoes an apply whose time is up, should its guard be gone, and drops
// the journal of an earlier boot, of whose changes nothing is left. It
// returns nil where there is nothing to do. The caller holds lock, and has not
// looked at the kernel for a plan yet.
func Recover(ctx context.Context, lock *record.Lock, k Kernel) (*Outcome, error) {
	p, err := Find(lock.Namespace())
	if err != nil || p == nil {
		return nil, err
	}
	boot, err := bootID()
	if err != nil {
		return nil, err
	}
	if p.j.Boot != boot {
		o := p.outcome("the machine was started anew before anybody confirmed it")
		o.Rebooted = true
		return o, p.settle(lock, o, false, p.clear)
	}
	left, err := p.Left()
	if err != nil || left > 0 {
		return nil, err
	}
	return p.undo(ctx, lock, k, p.whyLate(), p.clear)
}

// undo puts back the kernel first and the records next, and removes the journal
// last: killed at any point, it is done once more by the next Recover.
func (p *Pending) undo(ctx context.Context, lock *record.Lock, k Kernel, why string, end func() error) (*Outcome, error) {
	if err := p.reload(); err != nil {
		return nil, fmt.Errorf("undo the apply: %w", err)
	}
	left, err := p.undoKernel(ctx, k)
	if err != nil {
		p.j.Error = err.Error()
		return nil, errors.Join(fmt.Errorf("undo the apply of %s: %w", p.j.Starter, err), writeJournal(p.ns.Dir(), &p.j))
	}
	o := p.outcome(why)
	o.Left = left
	return o, p.settle(lock, o, len(left) > 0 || p.j.Unfinished, end)
}

func (p *Pending) undoKernel(ctx context.Context, k Kernel) ([]string, error) {
	cookie, err := k.Cookie()
	if err != nil {
		return nil, err
	}
	if cookie != p.ns.Cookie() {
		return nil, fmt.Errorf("it was in the namespace with cookie %d, and this one has %d", p.ns.Cookie(), cookie)
	}
	text, err := os.ReadFile(checkpointPath(p.ns.Dir(), p.j.ID))
	if err != nil {
		return nil, fmt.Errorf("read the checkpoint: %w", err)
	}
	var cp plan.Checkpoint
	if err := cp.UnmarshalText(text); err != nil {
		return nil, fmt.Errorf("read the checkpoint: %w", err)
	}
	return Undo(ctx, k, cp)
}

func (p *Pending) outcome(why string) *Outcome {
	return &Outcome{ID: p.j.ID, Time: time.Now(), Why: why, Starter: p.j.Starter}
}

// settle makes the records and the journal say what the kernel is like now.
func (p *Pending) settle(lock *record.Lock, o *Outcome, leftovers bool, end func() error) error {
	if err := lock.Rollback(leftovers); err != nil {
		return fmt.Errorf("put the records back: %w", err)
	}
	if err := writeJSON(outcomePath(p.ns.Dir()), o); err != nil {
		return fmt.Errorf("write how the undo went: %w", err)
	}
	return end()
}

// finish is the end of a guard that has undone: the journal goes, and all that
// a process can remove of what it runs from.
func (p *Pending) finish(a *answer) error {
	if err := os.Remove(journalPath(p.ns.Dir())); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var errs []error
	for _, g := range a.Cgroups {
		errs = append(errs, leaveOwn(g, a.From))
	}
	errs = append(errs, p.removeFiles())
	if p.j.Unit != "" {
		// The timer would start the service once more. The service itself ends
		// with this process.
		errs = append(errs, call(context.Background(), "systemctl", "stop", "--quiet", "--no-block", p.j.Unit+".timer"))
	}
	return errors.Join(errs...)
}

// leaveOwn removes the control group that this process made for itself. It must
// be out of it for that, where the root takes no processes: in the group that it
// came from, if that still exists. Else the empty group stays, till the host
// restarts.
func leaveOwn(group string, from map[string]string) error {
	back := from[group]
	if back == "" {
		return nil
	}
	if err := join(back, []byte("0")); err != nil { // 0: the writer
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return fmt.Errorf("leave the control group %s: %w", group, err)
	}
	if err := unix.Rmdir(filepath.Clean(group)); err != nil {
		return fmt.Errorf("remove the control group %s: %w", group, err)
	}
	return nil
}
