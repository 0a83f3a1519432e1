// Package apply runs a plan: it writes stage by stage, looks at the kernel
// again, and is done only when nothing is left to do. Whatever goes wrong on the
// way (a write that the kernel refuses, somebody else's change, a signal), it
// leads back to the checkpoint, and says both what went wrong and whether the
// way back worked.
//
//	report, err := apply.Run(ctx, conn, p, apply.Options{
//		Checkpoint: func() plan.Checkpoint { return p.Checkpoint(have, sysctls) },
//		Verify:     func(ctx context.Context, s netstate.State) (plan.Plan, error) { ... },
//	})
//
// Errors are of type *Error; errors.As finds the *OpError (a write was refused),
// *DiffError (written, and still different) or the context's error in it.
//
// The package keeps nothing: a process that is killed on the way leaves the
// kernel somewhere between two states, and a new plan, made from what is there
// and from the records, leads on from that point.
package apply

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/plan"
)

// Kernel is what apply needs of a network namespace.
type Kernel interface {
	// Snapshot gives the whole state, or an error; never a part of it.
	Snapshot(ctx context.Context) (netstate.State, error)
	// Apply writes changes in order and stops after the send in which something
	// failed: changes [0,attempted) were sent, and those of them that are not in
	// failed succeeded.
	Apply(ctx context.Context, changes []netstate.Change) (attempted int, failed []*netstate.ChangeError)
	// ReadSysctl reads a key with slashes, as netstate.Sysctl has it.
	ReadSysctl(key string) (string, error)
}

// Options are the circumstances of a Run.
type Options struct {
	// Checkpoint gives what Run leads back to. It is called only when something
	// failed, since a checkpoint of a large plan takes a while; it must say what
	// was before the Run. Required.
	Checkpoint func() plan.Checkpoint
	// Verify gives what is left to do once the kernel holds s. Required.
	Verify func(ctx context.Context, s netstate.State) (plan.Plan, error)
	// Timeout bounds the writes and the look afterwards; 0: only ctx does.
	Timeout time.Duration
	// UndoTimeout bounds the way back, which ctx does not. 0: two minutes.
	UndoTimeout time.Duration
	// Progress, where set, is called before the first write of a phase and
	// after each chunk, from the goroutine that called Run.
	Progress func(Progress)
}

// Progress says how far a Run is.
type Progress struct {
	Phase Phase
	Done  int // operations; Verify has none
	Total int
}

// Phase is a part of a Run.
type Phase uint8

// The phases.
const (
	Apply Phase = iota + 1
	Verify
	UndoPhase
)

// String names the phase.
func (p Phase) String() string {
	switch p {
	case Apply:
		return "apply"
	case Verify:
		return "verify"
	case UndoPhase:
		return "undo"
	}
	return "phase?"
}

// Report is what a Run did, whether it failed or not.
type Report struct {
	// The operations of the plan: Ops = Done + Failed + Skipped. Skipped ones
	// were not sent to the kernel.
	Ops, Done, Failed, Skipped int
	// UndoOps counts the writes of the way back.
	UndoOps int
	// Undone says that everything is as in the checkpoint again. It is false
	// after a success.
	Undone bool
	// How long the phases took.
	ApplyTime, VerifyTime, UndoTime time.Duration
}

const (
	// chunk is how many changes the kernel gets in one call. A chunk is many
	// sends, so that it costs nothing; between two, progress is told and a
	// signal is noticed.
	chunk = 16 * 512

	defaultUndoTimeout = 2 * time.Minute

	// undoRounds is how often the way back starts anew from what is there. The
	// second round is for what changed during the first.
	undoRounds = 4

	// A snapshot may fail for a moment, as when the rules never stop changing.
	snapshotTries = 6
	snapshotPause = 10 * time.Millisecond // doubled each time
)

// Run executes p and then looks again. It returns nil only when Verify finds
// nothing left to do. Otherwise it has led back to the checkpoint (see
// Report.Undone), and the error is an *Error.
//
// The operations of one stage are sent together; the next stage begins when all
// of them succeeded, and after a failure nothing more is sent. When ctx ends,
// Run stops at the next chunk and goes back; going back is not stopped by ctx,
// only by UndoTimeout, because half a plan can cut a host off.
//
// A plan without operations is done at once: what it was made from is the look
// at the kernel that shows so.
func Run(ctx context.Context, k Kernel, p plan.Plan, opt Options) (Report, error) {
	r := runner{k: k, opt: opt, report: Report{Ops: len(p.Ops)}}
	if p.Empty() {
		return r.report, nil
	}
	run := ctx
	if opt.Timeout > 0 {
		var cancel context.CancelFunc
		run, cancel = context.WithTimeoutCause(ctx, opt.Timeout, fmt.Errorf("not done after %v: %w", opt.Timeout, context.DeadlineExceeded))
		defer cancel()
	}
	start := time.Now()
	err := r.execute(run, p.Ops)
	r.report.ApplyTime = time.Since(start)
	if err == nil {
		start = time.Now()
		err = r.verify(run, &p)
		r.report.VerifyTime = time.Since(start)
	}
	if err == nil {
		return r.report, nil
	}
	undo := r.back(context.WithoutCancel(ctx), opt.Checkpoint())
	r.report.Undone = undo == nil
	return r.report, &Error{Cause: err, Undo: undo}
}

// Undo leads from whatever k holds to cp, and verifies that it is there. It
// returns nil when it is, and otherwise an *UndoError. Run does this by itself;
// Undo is for a confirmation that did not come.
func Undo(ctx context.Context, k Kernel, cp plan.Checkpoint, opt Options) (Report, error) {
	r := runner{k: k, opt: opt}
	err := r.back(ctx, cp)
	r.report.Undone = err == nil
	return r.report, err
}

type runner struct {
	k      Kernel
	opt    Options
	report Report
	buf    []netstate.Change
}

func (r *runner) progress(p Phase, done, total int) {
	if r.opt.Progress != nil {
		r.opt.Progress(Progress{p, done, total})
	}
}

// execute writes ops stage by stage up to the first failure.
func (r *runner) execute(ctx context.Context, ops []plan.Op) error {
	r.progress(Apply, 0, len(ops))
	defer func() { r.report.Skipped = len(ops) - r.report.Done - r.report.Failed }()
	for i := 0; i < len(ops); {
		if ctx.Err() != nil {
			return stopped(ctx, i, len(ops))
		}
		end := stageEnd(ops, i)
		attempted, failed := r.send(ctx, ops[i:end])
		r.report.Done += attempted - len(failed)
		r.report.Failed += len(failed)
		if len(failed) > 0 {
			return opErrors(ops, i, attempted, failed)
		}
		if attempted < end-i {
			return stopped(ctx, i+attempted, len(ops))
		}
		i = end
		r.progress(Apply, i, len(ops))
	}
	return nil
}

// stageEnd gives the end of what may be sent in one call from ops[i] on.
func stageEnd(ops []plan.Op, i int) int {
	end := i + 1
	for end < len(ops) && end-i < chunk && ops[end].Stage == ops[i].Stage {
		end++
	}
	return end
}

// send gives changes to the kernel, and takes a failure that it reports for a
// change it did not attempt for attempted.
func (r *runner) send(ctx context.Context, ops []plan.Op) (attempted int, failed []*netstate.ChangeError) {
	r.buf = r.buf[:0]
	for i := range ops {
		r.buf = append(r.buf, ops[i].Change)
	}
	attempted, failed = r.k.Apply(ctx, r.buf)
	for _, f := range failed {
		attempted = max(attempted, f.Index+1)
	}
	return min(attempted, len(ops)), failed
}

func stopped(ctx context.Context, done, total int) error {
	if cause := context.Cause(ctx); cause != nil {
		return fmt.Errorf("stopped after %d of %d operations: %w", done, total, cause)
	}
	return fmt.Errorf("the kernel took only %d of %d operations, and did not say why", done, total)
}

// verify looks again, and fails unless there is nothing left to do.
func (r *runner) verify(ctx context.Context, p *plan.Plan) error {
	r.progress(Verify, 0, 0)
	if ctx.Err() != nil {
		return stopped(ctx, len(p.Ops), len(p.Ops))
	}
	have, err := r.snapshot(ctx)
	if err != nil {
		return fmt.Errorf("look at the result: %w", err)
	}
	rest, err := r.opt.Verify(ctx, have)
	if err != nil {
		return fmt.Errorf("look at the result: %w", err)
	}
	// What was in the way before is in the plan, and its caller's matter.
	if !rest.Empty() || len(rest.Conflicts) > len(p.Conflicts) {
		return &DiffError{Rest: rest}
	}
	return nil
}

// snapshot looks at the kernel, several times where it has to.
func (r *runner) snapshot(ctx context.Context) (netstate.State, error) {
	pause := snapshotPause
	for try := 1; ; try++ {
		s, err := r.k.Snapshot(ctx)
		if err == nil || try == snapshotTries || ctx.Err() != nil {
			return s, err
		}
		t := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-t.C:
		}
		t.Stop()
		pause *= 2
	}
}

// back leads to cp. Unlike execute it goes on behind a failed write: when a link
// is gone for good, its routes cannot come back, and all the rest still can.
func (r *runner) back(ctx context.Context, cp plan.Checkpoint) error {
	limit := r.opt.UndoTimeout
	if limit <= 0 {
		limit = defaultUndoTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	start := time.Now()
	defer func() { r.report.UndoTime = time.Since(start) }()

	var first error // the first refusal of the latest round
	for round := 0; ; round++ {
		have, err := r.snapshot(ctx)
		if err != nil {
			return &UndoError{Err: errors.Join(first, fmt.Errorf("look at the kernel: %w", err))}
		}
		there, present := r.sysctls(cp)
		p := plan.Undo(there, have, present)
		switch {
		case p.Empty() && len(p.Conflicts) == 0:
			return nil
		case p.Empty():
			return &UndoError{Rest: p, Err: first}
		case round == undoRounds || ctx.Err() != nil:
			if ctx.Err() != nil {
				first = errors.Join(first, fmt.Errorf("stopped: %w", context.Cause(ctx)))
			}
			return &UndoError{Rest: p, Err: first}
		}
		first = r.all(ctx, p.Ops)
	}
}

// all sends every op, also behind failed ones, and returns the first failure.
func (r *runner) all(ctx context.Context, ops []plan.Op) (first error) {
	r.progress(UndoPhase, 0, len(ops))
	for i := 0; i < len(ops); {
		attempted, failed := r.send(ctx, ops[i:stageEnd(ops, i)])
		r.report.UndoOps += attempted - len(failed)
		if len(failed) > 0 && first == nil {
			first = opErrors(ops, i, len(ops)-i, failed)
		}
		if attempted == 0 {
			return errors.Join(first, stopped(ctx, i, len(ops)))
		}
		i += attempted
		r.progress(UndoPhase, i, len(ops))
	}
	return first
}

// sysctls reads those of the checkpoint. One that is no longer there (its link is
// gone) needs no putting back, and is left out of the checkpoint, unless the link
// comes back too.
func (r *runner) sysctls(cp plan.Checkpoint) (plan.Checkpoint, map[string]string) {
	present := make(map[string]string, len(cp.Sysctls)+len(cp.Restored))
	read := func(list []netstate.Sysctl) (there []netstate.Sysctl) {
		for _, s := range list {
			v, err := r.k.ReadSysctl(s.Key)
			if errors.Is(err, fs.ErrNotExist) && !cp.Makes(s.Key) {
				continue
			}
			if err == nil {
				present[s.Key] = v
			}
			there = append(there, s)
		}
		return there
	}
	cp.Sysctls, cp.Restored = read(cp.Sysctls), read(cp.Restored)
	return cp, present
}
