package host

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/viarule/viarule/internal/apply"
	"github.com/viarule/viarule/internal/boot"
	"github.com/viarule/viarule/internal/cutoff"
	"github.com/viarule/viarule/internal/guard"
	"github.com/viarule/viarule/internal/impact"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/plan"
	"github.com/viarule/viarule/internal/record"
	"github.com/viarule/viarule/internal/spec"
)

// PlanOptions change what a plan does.
type PlanOptions struct {
	Adopt bool // take over foreign objects that equal wanted ones but for the mark
	Prune bool // remove orphans
	// Impact has Plan work out which packets go another way.
	Impact bool
}

// ApplyOptions change what Apply does.
type ApplyOptions struct {
	PlanOptions
	Confirm     time.Duration // undo unless confirmed within it; 0: no guard
	Boot        bool          // have all objects applied at boot
	AllowCutOff bool
	Read        time.Duration // how long reading the files took, for Result.Phases

	fromBoot bool // the objects are those that the boot keeps
}

// DeleteOptions change what Delete does.
type DeleteOptions struct {
	All         bool // everything of viarule's, orphans too
	DryRun      bool
	Confirm     time.Duration
	AllowCutOff bool
}

// Plan works out what Apply would do, and changes nothing.
func (h *Host) Plan(ctx context.Context, objects []spec.Object, opt PlanOptions) (*Preview, error) {
	d, err := h.draft(ctx, change{put: objects, adopt: opt.Adopt, prune: opt.Prune}, startWatch())
	if err != nil {
		return nil, err
	}
	p := h.preview(d)
	findings, err := h.cutOffs(ctx, d)
	if err != nil {
		return nil, err
	}
	for _, f := range findings {
		p.Notes = append(p.Notes, "apply will refuse this without --confirm or --allow-cut-off: "+f.String())
	}
	failed, err := h.broken(ctx, d)
	if err != nil {
		return nil, err
	}
	for _, x := range failed {
		p.Notes = append(p.Notes, "apply will refuse this: "+x.String())
	}
	if opt.Impact {
		h.progress("working out which packets go another way")
		before, after, err := h.both(ctx, d)
		if err != nil {
			return nil, err
		}
		report := impact.Compare(before, after)
		p.Impact = &report
	}
	return p, nil
}

// Apply makes the kernel hold what the objects say, and those applied before.
func (h *Host) Apply(ctx context.Context, objects []spec.Object, opt ApplyOptions) (*Result, error) {
	w := startWatch()
	if opt.Read > 0 {
		w.phases = append(w.phases, Phase{"read", opt.Read})
	}
	c := change{put: objects, adopt: opt.Adopt, prune: opt.Prune}
	return h.locked(ctx, "viarule apply", func(l *record.Lock) (*Result, error) {
		r, err := h.carryOut(ctx, l, c, opt, w)
		if err != nil || opt.Confirm > 0 || !madeLinkWithGateways(r.Plan, objects) {
			return r, err
		}
		return h.askOnNewLinks(ctx, l, c, opt, r)
	})
}

// Delete removes objects, or everything.
func (h *Host) Delete(ctx context.Context, refs []spec.Ref, opt DeleteOptions) (*Result, error) {
	work := func(l *record.Lock) (*Result, error) {
		c := change{remove: refs, prune: opt.All, everything: opt.All}
		known, err := h.records.List()
		if err != nil {
			return nil, err
		}
		if opt.All {
			for i := range known {
				c.remove = append(c.remove, known[i].Ref)
			}
		} else if err := allKnown(refs, known); err != nil {
			return nil, err
		}
		if opt.DryRun {
			d, err := h.draft(ctx, c, startWatch())
			if err != nil {
				return nil, err
			}
			p := h.preview(d)
			return &Result{Plan: &d.plan, Names: p.Names, Warnings: p.Warnings}, nil
		}
		return h.carryOut(ctx, l, c, ApplyOptions{Confirm: opt.Confirm, AllowCutOff: opt.AllowCutOff}, startWatch())
	}
	if opt.DryRun {
		return work(nil)
	}
	return h.locked(ctx, "viarule delete", work)
}

// allKnown says which of refs are not applied in this namespace.
func allKnown(refs []spec.Ref, known []record.Object) error {
	there := map[spec.Ref]bool{}
	for i := range known {
		there[known[i].Ref] = true
	}
	var missing []string
	for _, r := range refs {
		if !there[r] {
			missing = append(missing, r.String())
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("delete %s: not applied in this namespace, and nothing was changed; `viarule status` lists what is", strings.Join(missing, ", "))
	}
	return nil
}

// locked runs f with the namespace's lock, after what an earlier apply left
// unfinished was settled.
func (h *Host) locked(ctx context.Context, doing string, f func(*record.Lock) (*Result, error)) (r *Result, err error) {
	l, err := h.records.Lock(doing)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.Unlock()) }()
	outcome, err := guard.Recover(ctx, l, h.kernel)
	if err != nil {
		return nil, err
	}
	if outcome != nil {
		if err := errors.Join(h.shareNames(), boot.Discard(bootStage(h.records))); err != nil {
			return nil, err
		}
	}
	if r, err = f(l); outcome == nil {
		return r, err
	}
	undone := fmt.Sprintf("before that, an apply of %s was undone: %s", outcome.Starter, outcome.Why)
	if err != nil {
		return nil, fmt.Errorf("%w; %s", err, undone)
	}
	r.Messages = append([]string{undone}, r.Messages...)
	return r, nil
}

// carryOut plans a change and makes it. The caller has the lock.
func (h *Host) carryOut(ctx context.Context, l *record.Lock, c change, opt ApplyOptions, w *stopwatch) (r *Result, err error) {
	if err := errors.Join(guard.Check(l.Namespace()), checkBoot(h.netns, &opt)); err != nil {
		return nil, err
	}
	// Held until the records of this change say which names of tables it takes:
	// names are the host's, and two namespaces must not take one number.
	unlock, err := h.store.LockHost(ctx)
	if err != nil {
		return nil, err
	}
	unlock = sync.OnceValue(unlock)
	defer func() { err = errors.Join(err, unlock()) }()
	h.progress("looking at the kernel")
	d, err := h.draft(ctx, c, w)
	if err != nil {
		return nil, err
	}
	if len(d.plan.Conflicts) > 0 {
		return nil, &ConflictError{Findings: d.plan.Conflicts, Names: d.names()}
	}
	if !opt.AllowCutOff && opt.Confirm == 0 {
		findings, err := h.cutOffs(ctx, d)
		if err != nil {
			return nil, err
		}
		if len(findings) > 0 {
			return nil, &CutOffError{Findings: findings}
		}
		w.lap("checks")
	}
	r = h.result(d)
	failed, err := h.broken(ctx, d)
	switch {
	case err != nil:
		return nil, err
	case len(failed) > 0 && !c.lenient:
		return nil, &ExpectationError{Failed: failed}
	}
	for _, x := range failed {
		// At boot not every link is there yet, and a host without routes is worse.
		r.Messages = append(r.Messages, "warning: "+x.String())
	}
	if d.plan.Empty() && recordsStand(d) {
		// A process that was killed behind its last write left a change open.
		open, err := l.Namespace().Pending()
		if err == nil && open {
			err = errors.Join(l.Commit(), writeNames(h.store, h.names))
		}
		if err != nil {
			return nil, err
		}
		r.Phases = w.phases
		return r, h.keep(d, r, &opt, false)
	}
	g, err := h.arm(ctx, l, d, opt)
	if err != nil {
		return nil, err
	}
	if err := h.stage(l, d); err != nil {
		return nil, h.unstage(l, g, err)
	}
	if err := unlock(); err != nil {
		return nil, h.unstage(l, g, err)
	}
	w.lap("record")
	if err := h.write(ctx, l, d, w); err != nil {
		if g != nil {
			err = errors.Join(err, g.Disarm())
		}
		return nil, err
	}
	r.Phases = w.phases
	if g != nil {
		if err := g.Applied(); err != nil {
			return nil, errors.Join(err, h.undo(ctx, l, d), g.Disarm())
		}
		r.Messages = append(r.Messages, fmt.Sprintf("applied; `viarule confirm` within %s keeps it, else it is undone (`viarule rollback` does so at once)", opt.Confirm))
		r.Messages = append(r.Messages, g.Warnings...)
		r.ConfirmWithin = opt.Confirm
		return r, h.keep(d, r, &opt, true)
	}
	if err := l.Commit(); err != nil {
		return nil, err
	}
	if err := h.shareNames(); err != nil {
		return nil, err
	}
	return r, h.keep(d, r, &opt, false)
}

// arm starts the guard of --confirm; nil where there is none to start.
func (h *Host) arm(ctx context.Context, l *record.Lock, d *draft, opt ApplyOptions) (*guard.Pending, error) {
	if opt.Confirm == 0 {
		return nil, nil
	}
	return guard.Arm(ctx, guard.Config{Lock: l, Checkpoint: d.checkpoint(), Wait: opt.Confirm, Netns: h.netns})
}

// unstage takes back what was prepared for a change of which nothing is written.
func (h *Host) unstage(l *record.Lock, g *guard.Pending, err error) error {
	err = errors.Join(err, l.Rollback(false), h.shareNames())
	if g != nil {
		err = errors.Join(err, g.Disarm())
	}
	return err
}

// write runs the plan and verifies it. When it fails, everything is as before,
// or the error says what is not.
func (h *Host) write(ctx context.Context, l *record.Lock, d *draft, w *stopwatch) error {
	report, err := apply.Run(ctx, h.kernel, d.plan, apply.Options{
		Checkpoint: d.checkpoint,
		Verify:     func(_ context.Context, have netstate.State) (plan.Plan, error) { return h.rest(d, have) },
		Progress:   h.applyProgress(),
	})
	w.phases = append(w.phases, Phase{"apply", report.ApplyTime}, Phase{"verify", report.VerifyTime})
	w.last = time.Now()
	if err != nil {
		return errors.Join(err, l.Rollback(!report.Undone), h.shareNames())
	}
	return nil
}

// undo leads back to the draft's checkpoint after an apply that had succeeded.
func (h *Host) undo(ctx context.Context, l *record.Lock, d *draft) error {
	_, err := apply.Undo(context.WithoutCancel(ctx), h.kernel, d.checkpoint(), apply.Options{})
	return errors.Join(err, l.Rollback(err != nil), h.shareNames())
}

func (d *draft) checkpoint() plan.Checkpoint {
	return d.plan.Checkpoint(d.before.state, d.input.Sysctls)
}

// rest is what would be left to do if the kernel held have.
func (h *Host) rest(d *draft, have netstate.State) (plan.Plan, error) {
	in := d.input
	in.Have = have
	var err error
	if in.Sysctls, err = h.presentSysctls(d); err != nil {
		return plan.Plan{}, err
	}
	return plan.Diff(in), nil
}

// applyProgress says, on runs that take long, how far the writes are.
func (h *Host) applyProgress() func(apply.Progress) {
	start, last := time.Now(), time.Time{}
	return func(p apply.Progress) {
		now := time.Now()
		if now.Sub(start) < 2*time.Second || now.Sub(last) < time.Second {
			return
		}
		last = now
		h.progress(fmt.Sprintf("%s: %d of %d", p.Phase, p.Done, p.Total))
	}
}

// cutOffs finds out what the draft would cut off: sessions of sshd, and the way
// to the default gateway.
func (h *Host) cutOffs(ctx context.Context, d *draft) ([]cutoff.Finding, error) {
	if d.plan.Empty() {
		return nil, nil
	}
	sockets, err := h.kernel.Sockets(ctx)
	if err != nil {
		return nil, err
	}
	in := cutoff.Input{
		Before: d.before.state,
		Changes: func(yield func(int, *netstate.Change) bool) {
			for i := range d.plan.Ops {
				if !yield(i, &d.plan.Ops[i].Change) {
					return
				}
			}
		},
		Where: func(i int) string { return where(d.plan.Ops[i].Origin) },
	}
	for i := range sockets {
		s := &sockets[i]
		c := cutoff.Socket{Local: s.Local, Remote: s.Remote, Listen: s.Listen, UID: s.UID}
		for _, o := range s.Owners {
			c.Owners = append(c.Owners, o.Name)
		}
		in.Sockets = append(in.Sockets, c)
	}
	return cutoff.Check(in), nil
}
