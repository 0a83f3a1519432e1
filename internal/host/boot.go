package host

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/viarule/viarule/internal/boot"
	"github.com/viarule/viarule/internal/record"
	"github.com/viarule/viarule/internal/spec"
	"github.com/viarule/viarule/internal/specfile"
)

// bootStage is where an apply that waits for its confirmation leaves what it
// will keep for the boot: below the namespace's records, gone with a reboot.
func bootStage(n record.Namespace) string { return filepath.Join(n.Dir(), "boot") }

// ApplyBoot applies what was kept for the boot.
func (h *Host) ApplyBoot(ctx context.Context, opt ApplyOptions) (*Result, error) {
	files, err := h.boot.Files()
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return &Result{Messages: []string{"nothing is kept for the boot; `viarule apply --boot` does that"}}, nil
	}
	objects, problems, err := specfile.Load(ctx, files, nil)
	if err != nil {
		return nil, err
	}
	if spec.Failed(problems) {
		return nil, &InputError{Problems: problems}
	}
	opt.Boot = false
	return h.Apply(ctx, objects, opt)
}

// bootChange is what a change means for the boot: with --boot all objects that
// stand are kept; without it those that were kept before follow the change.
func (h *Host) bootChange(d *draft, all bool) (boot.Change, error) {
	ch := boot.Change{Remove: d.change.remove}
	if all {
		ch.Put = d.objects
		return ch, nil
	}
	for i := range d.change.put {
		kept, err := h.boot.Has(d.change.put[i].Ref)
		if err != nil {
			return ch, err
		}
		if kept {
			ch.Put = append(ch.Put, d.change.put[i])
		}
	}
	return ch, nil
}

// keep makes the boot follow a change that is done, at once or, where it waits
// for its confirmation, then. Only the host's own namespace comes up with the
// host: another one leaves the boot alone.
func (h *Host) keep(d *draft, r *Result, opt *ApplyOptions, later bool) error {
	if h.netns != "" {
		return nil
	}
	ch, err := h.bootChange(d, opt.Boot)
	if err != nil {
		return err
	}
	if later {
		return h.boot.Stage(bootStage(h.records), ch)
	}
	report, err := h.boot.Apply(ch)
	r.boot(report, d, opt.Boot)
	if err != nil {
		return fmt.Errorf("the kernel holds what is wanted, but the boot does not: %w", err)
	}
	return nil
}

// boot says what became of the boot.
func (r *Result) boot(report boot.Report, d *draft, wanted bool) {
	for _, p := range report.Written {
		r.Messages = append(r.Messages, "wrote "+p)
	}
	for _, p := range report.Removed {
		r.Messages = append(r.Messages, "removed "+p)
	}
	r.Messages = append(r.Messages, report.Say...)
	if !wanted && d != nil && len(d.change.put) > 0 && len(report.Written) == 0 && !d.plan.Empty() {
		r.Messages = append(r.Messages, "this does not survive a reboot; `viarule apply --boot` keeps it")
	}
}

// checkBoot refuses --boot for a namespace that the boot does not make.
func checkBoot(netns string, opt *ApplyOptions) error {
	if opt.Boot && netns != "" {
		return fmt.Errorf("--boot is for the host's own namespace; namespace %s is not there when the host starts: whoever makes it calls `viarule apply --netns`", netns)
	}
	return nil
}
