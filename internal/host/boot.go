package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

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
	opt.Boot, opt.fromBoot = false, true
	c := change{put: objects, adopt: opt.Adopt, prune: opt.Prune, lenient: true}
	for end := time.Now().Add(bootWait); ; {
		r, err := h.locked(ctx, "viarule apply --from-boot", func(l *record.Lock) (*Result, error) {
			return h.carryOut(ctx, l, c, opt, startWatch())
		})
		var busy *record.BusyError
		if !errors.As(err, &busy) || time.Now().After(end) {
			return r, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(bootPause):
		}
	}
}

// Several links come up at once at boot, and each starts an apply: they wait for
// each other, which people at a terminal do not.
const (
	bootWait  = time.Minute
	bootPause = 100 * time.Millisecond
)

// bootChange is what a change means for the boot: with --boot all objects that
// stand are kept; without it those that were kept before follow the change.
func (h *Host) bootChange(d *draft, all bool) (boot.Change, error) {
	ch := boot.Change{Remove: d.change.remove}
	if d.change.everything {
		refs, err := h.bootRefs()
		if err != nil {
			return ch, err
		}
		ch.Remove = append(refs, ch.Remove...)
		return ch, nil
	}
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

// bootRefs are the objects that are kept for the boot, applied or not.
func (h *Host) bootRefs() ([]spec.Ref, error) {
	files, err := h.boot.Files()
	if err != nil || len(files) == 0 {
		return nil, err
	}
	objects, problems, err := specfile.Load(context.Background(), files, nil)
	if err != nil {
		return nil, err
	}
	if spec.Failed(problems) {
		return nil, &InputError{Problems: problems}
	}
	refs := make([]spec.Ref, len(objects))
	for i := range objects {
		refs[i] = objects[i].Ref
	}
	return refs, nil
}

// bootOwner names, by its cookie, the namespace whose objects the boot keeps.
// Without it `viarule delete --all` below `ip netns exec` would empty the boot of
// the host.
func bootOwner() string { return filepath.Join(record.DefaultDir, "boot") }

// ownsBoot says whether what the boot keeps is of this namespace. Where nobody
// has said so since the host started, it is that of the first process.
func (h *Host) ownsBoot() (bool, error) {
	if h.netns != "" {
		return false, nil
	}
	b, err := os.ReadFile(bootOwner())
	if err == nil {
		return string(b) == h.cookieText(), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("look whose objects the boot keeps: %w", err)
	}
	first, err := os.Stat("/proc/1/ns/net")
	if err != nil {
		return false, nil // not root, or another user's: then the boot is not ours to change
	}
	own, err := os.Stat("/proc/thread-self/ns/net")
	if err != nil {
		return false, fmt.Errorf("look at this network namespace: %w", err)
	}
	return os.SameFile(first, own), nil
}

// claimBoot says that what the boot keeps is of this namespace.
func (h *Host) claimBoot() error {
	if err := os.WriteFile(bootOwner(), []byte(h.cookieText()), 0o600); err != nil {
		return fmt.Errorf("say whose objects the boot keeps: %w", err)
	}
	return nil
}

func (h *Host) cookieText() string { return strconv.FormatUint(h.records.Cookie(), 10) }

// keep makes the boot follow a change that is done, at once or, where it waits
// for its confirmation, then.
func (h *Host) keep(d *draft, r *Result, opt *ApplyOptions, later bool) error {
	if opt.Boot || opt.fromBoot {
		if err := h.claimBoot(); err != nil {
			return err
		}
	}
	if owns, err := h.ownsBoot(); err != nil || !owns {
		if h.netns == "" && !later {
			r.boot(boot.Report{}, d, false)
		}
		return err
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
