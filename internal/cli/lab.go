package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/viarule/viarule/internal/host"
	"github.com/viarule/viarule/internal/lab"
	"github.com/viarule/viarule/internal/spec"
	"github.com/viarule/viarule/internal/specfile"
)

func (a *app) labCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "lab",
		GroupID: "try",
		Short:   "Topologies of network namespaces with real traffic, for trying things out",
		Long: `A lab file describes hosts as network namespaces, the links between them, and
checks: who reaches whom, seen as whom, by which way. Checks send real packets.`,
		Example: `  viarule lab test examples/lab/two-uplinks.yaml
  viarule lab up examples/lab/two-uplinks.yaml --without-objects
  viarule plan --netns vlab-two-uplinks-server -f policy.yaml
  viarule lab check examples/lab/two-uplinks.yaml
  viarule lab down examples/lab/two-uplinks.yaml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(a.labUpCommand(), a.labDownCommand(), a.labCheckCommand(), a.labTestCommand())
	return c
}

func (a *app) labUpCommand() *cobra.Command {
	var without bool
	c := &cobra.Command{
		Use:     "up FILE",
		Short:   "Make the namespaces and links, and apply the objects",
		Example: "  viarule lab up examples/lab/two-uplinks.yaml --without-objects",
		Args:    oneFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withLab(args[0], func(l *lab.Lab, cfg lab.Config) error {
				return l.Up(cmd.Context(), cfg, without)
			})
		},
	}
	c.Flags().BoolVar(&without, "without-objects", false, "leave out the objects of viarule: the hosts as they are today")
	return c
}

func (a *app) labDownCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "down FILE",
		Short:   "Remove what lab up made",
		Example: "  viarule lab down examples/lab/two-uplinks.yaml",
		Args:    oneFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withLab(args[0], func(l *lab.Lab, cfg lab.Config) error { return l.Down(cmd.Context(), cfg) })
		},
	}
}

func (a *app) labCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check FILE [NAME...]",
		Short: "Make the checks of a lab that is up: those named, or all",
		Example: `  viarule lab check examples/lab/two-uplinks.yaml
  viarule lab check examples/lab/two-uplinks.yaml 'client gets its answer'`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError{errors.New("which lab? give its file")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withLab(args[0], func(l *lab.Lab, cfg lab.Config) error {
				return a.labReport(l.Check(cmd.Context(), cfg, args[1:]...))
			})
		},
	}
}

func (a *app) labTestCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "test FILE",
		Short: "Up, checks before and after the objects are applied, down",
		Long: `Makes the lab, makes the checks that hold before its objects are applied, applies
them, makes those that hold after, and removes everything, also when interrupted.
The exit status is 3 when a check does not pass.`,
		Example: "  viarule lab test examples/lab/two-uplinks.yaml",
		Args:    oneFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withLab(args[0], func(l *lab.Lab, cfg lab.Config) error {
				return a.labReport(l.Test(cmd.Context(), cfg))
			})
		},
	}
}

func oneFile(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usageError{fmt.Errorf("which lab? give one file, not %d", len(args))}
	}
	return nil
}

// withLab reads a lab file and gives it to f.
func (a *app) withLab(name string, f func(*lab.Lab, lab.Config) error) error {
	l, err := lab.Load(name)
	if err != nil {
		return labError(err)
	}
	cfg := lab.Config{Apply: a.labApply, Delete: a.labDelete}
	if !a.structured() {
		cfg.Say = func(line string) { fmt.Fprintln(a.out, line) }
	}
	return labError(f(l, cfg))
}

// labError gives what is wrong in a lab file its exit status.
func labError(err error) error {
	var input *lab.InputError
	if errors.As(err, &input) {
		return &host.InputError{Problems: input.Problems}
	}
	return err
}

// labReport prints what checks found; those that did not pass are a no.
func (a *app) labReport(r *lab.Report, err error) error {
	if r != nil && a.structured() {
		if perr := a.print(r); perr != nil {
			return errors.Join(err, perr)
		}
	}
	var failed *lab.ChecksError
	if errors.As(err, &failed) {
		fmt.Fprintln(a.err, "viarule:", err)
		return errNo
	}
	return err
}

// labApply applies the objects of one host of a lab.
func (a *app) labApply(ctx context.Context, netns string, files []lab.Objects) error {
	var objects []spec.Object
	for i := range files {
		o, problems := specfile.Parse(files[i].File, files[i].Text)
		if spec.Failed(problems) {
			return &host.InputError{Problems: problems}
		}
		objects = append(objects, o...)
	}
	h, err := host.Open(host.Config{Netns: netns})
	if err != nil {
		return err
	}
	defer h.Close()
	_, err = h.Apply(ctx, objects, host.ApplyOptions{})
	return err
}

// labDelete removes what was applied in a namespace of a lab.
func (a *app) labDelete(ctx context.Context, netns string) error {
	h, err := host.Open(host.Config{Netns: netns})
	if err != nil {
		return err
	}
	defer h.Close()
	_, err = h.Delete(ctx, nil, host.DeleteOptions{All: true, AllowCutOff: true})
	return err
}
