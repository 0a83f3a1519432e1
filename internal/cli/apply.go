package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/viarule/viarule/internal/host"
)

func (a *app) applyCommand() *cobra.Command {
	var files fileFlags
	var opt host.ApplyOptions
	var fromBoot bool
	c := &cobra.Command{
		Use:     "apply -f FILE...",
		GroupID: "change",
		Short:   "Make the kernel hold what the objects say",
		Long: `Plans, checks, applies and verifies. The objects of the files are added, or take
the place of those with the same name; objects applied before and not named stay.

A failure on the way is undone. With --confirm everything is undone unless
"viarule confirm" comes in time, even when the session that started it is gone.
Nothing survives a reboot by itself: --boot has the objects applied at boot.`,
		Example: `  viarule apply -f policy.yaml
  viarule apply -f policy.yaml --confirm 60s    # then: viarule confirm
  viarule apply -f policy.yaml --boot
  viarule import | viarule apply -f - --adopt   # take over what was made by hand`,
		RunE: func(cmd *cobra.Command, args []string) error {
			start := time.Now()
			if fromBoot {
				if len(files.names)+len(args) > 0 {
					return usageError{fmt.Errorf("--from-boot reads its own files: leave -f out")}
				}
				return a.change(func(h *host.Host) (*host.Result, error) { return h.ApplyBoot(cmd.Context(), opt) })
			}
			objects, err := a.load(cmd, files, args)
			if err != nil {
				return err
			}
			opt.Read = time.Since(start)
			return a.change(func(h *host.Host) (*host.Result, error) { return h.Apply(cmd.Context(), objects, opt) })
		},
	}
	files.add(c)
	f := c.Flags()
	f.DurationVar(&opt.Confirm, "confirm", 0, "undo everything after this `time` unless viarule confirm comes before")
	f.BoolVar(&opt.Adopt, "adopt", false, "take over foreign rules and routes that are just what an object wants")
	f.BoolVar(&opt.Prune, "prune", false, "remove what bears viarule's mark and belongs to no object")
	f.BoolVar(&opt.Boot, "boot", false, "have all objects of this host applied at boot, and when a link comes back")
	f.BoolVar(&opt.AllowCutOff, "allow-cut-off", false, "go on though this takes away the way of an SSH session or of the default gateway")
	f.BoolVar(&fromBoot, "from-boot", false, "apply what --boot has kept (for the unit that runs at boot)")
	return c
}

func (a *app) confirmCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "confirm",
		GroupID: "change",
		Short:   "Keep what apply --confirm did",
		Example: `  viarule apply -f policy.yaml --confirm 60s
  viarule confirm`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.change(func(h *host.Host) (*host.Result, error) { return h.Confirm(cmd.Context()) })
		},
	}
}

func (a *app) rollbackCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "rollback",
		GroupID: "change",
		Short:   "Undo at once what apply --confirm did",
		Example: `  viarule rollback`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.change(func(h *host.Host) (*host.Result, error) { return h.Rollback(cmd.Context()) })
		},
	}
}

// change makes a change and prints what it did.
func (a *app) change(f func(*host.Host) (*host.Result, error)) error {
	return a.withHost(func(h *host.Host) error {
		r, err := f(h)
		if err != nil {
			return err
		}
		return a.printResult(r)
	})
}

// listed is how many writes a change prints one by one unless it is asked to.
const listed = 100

// printResult prints what a change did.
func (a *app) printResult(r *host.Result) error {
	if a.structured() {
		return a.print(r)
	}
	a.problems(a.err, r.Warnings)
	switch {
	case r.Plan == nil:
	case len(r.Plan.Ops) > listed && !a.verbose:
		fmt.Fprintf(a.out, "%s (-v lists them)\n", r.Plan.Summary())
	default:
		if err := a.writePlan(a.out, r.Plan, r.Names); err != nil {
			return err
		}
	}
	for _, s := range r.Messages {
		fmt.Fprintln(a.out, s)
	}
	if a.verbose {
		for _, p := range r.Phases {
			fmt.Fprintf(a.out, "%-8s %8.1f ms\n", p.Name, float64(p.Time)/float64(time.Millisecond))
		}
	}
	return nil
}
