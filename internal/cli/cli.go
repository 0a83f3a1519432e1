// Package cli is the command line of viarule: it reads flags, calls host and
// lab, and prints what they answer. It decides nothing about routing.
//
// Exit status: 0 done, 1 failed, 2 the input is wrong, 3 checked and the answer
// is no.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/host"
	"github.com/viarule/viarule/internal/spec"
)

// The exit statuses.
const (
	exitDone   = 0
	exitFailed = 1
	exitInput  = 2
	exitNo     = 3
)

var version = "devel" // set by the linker

// errNo says that a check was made and the answer is no; what it found has been
// printed already.
var errNo = errors.New("the answer is no")

// usageError is a wrong command line.
type usageError struct{ error }

// app is what the commands share: the streams and the global flags.
type app struct {
	in       io.Reader
	out, err io.Writer

	netns   string
	output  string
	verbose bool
	noColor bool
}

// Main runs one command line and returns its exit status.
func Main(args []string, in io.Reader, out, errw io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM, unix.SIGHUP)
	defer stop()
	a := &app{in: in, out: out, err: errw}
	root := a.command()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	return a.report(err)
}

func (a *app) command() *cobra.Command {
	root := &cobra.Command{
		Use:   "viarule",
		Short: "Policy routing for Linux hosts and Kubernetes: packets leave by the right way",
		Long: `viarule makes packets leave by the right way, and proves it.

You write the tables, routes and rules that you want in a few lines of YAML.
viarule shows how the kernel differs from it (plan), makes the difference in an
order that never leaves a gap (apply), looks again, and undoes what went wrong.
It changes only what is its own.`,
		Example: `  viarule validate -f policy.yaml
  viarule plan -f policy.yaml
  viarule apply -f policy.yaml --confirm 60s && viarule confirm
  viarule status
  viarule delete -f policy.yaml`,
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			switch a.output {
			case "text", "json", "yaml":
				return nil
			}
			return usageError{fmt.Errorf("--output %q: there are text, json and yaml", a.output)}
		},
	}
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w; see %s --help", err, c.CommandPath())}
	})
	f := root.PersistentFlags()
	f.StringVar(&a.netns, "netns", "", "work on this network `namespace`: a name (ip netns) or a path")
	f.StringVarP(&a.output, "output", "o", "text", "how to print (`form`): text, json or yaml")
	f.BoolVarP(&a.verbose, "verbose", "v", false, "say more: compiled rules, the time of each phase")
	f.BoolVar(&a.noColor, "no-color", false, "no colours, on a terminal too")
	completeNames(root, "netns", netnsNames)
	completeNames(root, "output", func() []string { return []string{"text", "json", "yaml"} })

	root.AddGroup(&cobra.Group{ID: "change", Title: "Change what the kernel does:"},
		&cobra.Group{ID: "look", Title: "Look:"}, &cobra.Group{ID: "try", Title: "Try out:"})
	root.AddCommand(
		a.applyCommand(), a.confirmCommand(), a.rollbackCommand(), a.deleteCommand(),
		a.validateCommand(), a.planCommand(), a.statusCommand(), a.importCommand(), a.snapshotCommand(), a.explainCommand(), a.doctorCommand(), a.lintCommand(),
		a.labCommand(), a.manCommand(root), a.guardCommand(),
	)
	return root
}

// report prints an error for a person and gives the exit status for it.
func (a *app) report(err error) int {
	var input *host.InputError
	var usage usageError
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errNo):
		return exitNo
	case errors.As(err, &input):
		a.problems(a.err, input.Problems)
		if input.Lacking() {
			return exitFailed
		}
		return exitInput
	case errors.As(err, &usage), strings.HasPrefix(err.Error(), "unknown command"):
		fmt.Fprintln(a.err, "viarule:", err)
		return exitInput
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(a.err, "viarule: interrupted")
		return exitFailed
	}
	fmt.Fprintln(a.err, "viarule:", err)
	return exitFailed
}

// problems prints what is wrong with the input, one line each.
func (a *app) problems(w io.Writer, ps []spec.Problem) {
	for i := range ps {
		fmt.Fprintln(w, ps[i])
	}
}
