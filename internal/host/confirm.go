package host

import (
	"context"
	"errors"
	"fmt"

	"github.com/viarule/viarule/internal/boot"
	"github.com/viarule/viarule/internal/guard"
	"github.com/viarule/viarule/internal/kernel"
	"github.com/viarule/viarule/internal/record"
	"github.com/viarule/viarule/internal/rttables"
)

// errNothingWaits is the answer to a confirm or rollback without an apply.
var errNothingWaits = errors.New("nothing waits for a confirmation in this namespace")

// Confirm keeps what an apply with a confirmation did.
func (h *Host) Confirm(ctx context.Context) (*Result, error) {
	return h.decide("viarule confirm", func(l *record.Lock, p *guard.Pending) (*Result, error) {
		if err := p.Confirm(); err != nil {
			return nil, err
		}
		if err := errors.Join(l.Commit(), h.shareNames()); err != nil {
			return nil, err
		}
		r := &Result{Messages: []string{"confirmed: it stays"}}
		report, err := h.boot.Commit(bootStage(h.records))
		r.boot(report, nil, true)
		return r, err
	})
}

// Rollback undoes at once what an apply with a confirmation did.
func (h *Host) Rollback(ctx context.Context) (*Result, error) {
	return h.decide("viarule rollback", func(l *record.Lock, p *guard.Pending) (*Result, error) {
		o, err := p.Rollback(ctx, l, h.kernel)
		if err != nil {
			return nil, err
		}
		r := &Result{Messages: []string{"rolled back: everything is as it was before"}}
		if len(o.Left) > 0 {
			r.Messages = []string{"rolled back, but for what the kernel refused:"}
			r.Messages = append(r.Messages, o.Left...)
		}
		return r, errors.Join(h.shareNames(), boot.Discard(bootStage(h.records)))
	})
}

// decide runs f on the apply that waits, if there is one.
func (h *Host) decide(doing string, f func(*record.Lock, *guard.Pending) (*Result, error)) (r *Result, err error) {
	l, err := h.records.Lock(doing)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.Unlock()) }()
	p, err := guard.Find(l.Namespace())
	if err != nil {
		return nil, err
	}
	if p == nil {
		o, err := guard.LastOutcome(l.Namespace().Dir())
		if err == nil && o != nil {
			err = fmt.Errorf("%w; the last apply was undone at %s: %s", errNothingWaits, o.Time.Format("15:04:05"), o.Why)
		}
		if err == nil {
			err = errNothingWaits
		}
		return nil, err
	}
	return f(l, p)
}

// Guard is the guard's own process: what a program does that was called with
// guard.Command and these arguments.
func Guard(args []string) error {
	return guard.Main(args, guard.Hooks{
		Open: func(netns string) (guard.OpenKernel, error) { return kernel.Open(netns) },
		Undone: func(_ context.Context, l *record.Lock, _ *guard.Outcome) error {
			return errors.Join(shareNames(store(), rttables.System()), boot.Discard(bootStage(l.Namespace())))
		},
	})
}

// GuardCommand is the first argument that Guard's process is called with.
const GuardCommand = guard.Command
