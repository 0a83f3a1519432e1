package cli

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/viarule/viarule/internal/host"
	"github.com/viarule/viarule/internal/impact"
	"github.com/viarule/viarule/internal/plan"
	"github.com/viarule/viarule/internal/spec"
	"github.com/viarule/viarule/internal/specfile"
)

// fileFlags are the flags of every command that reads objects.
type fileFlags struct{ names []string }

func (f *fileFlags) add(c *cobra.Command) {
	c.Flags().StringArrayVarP(&f.names, "file", "f", nil, "a YAML `file` with objects; - is standard input; may be given several times")
	if err := c.MarkFlagFilename("file", "yaml", "yml"); err != nil {
		panic(err) // no such flag: a mistake in the program
	}
}

// load is read for commands that go on only where nothing is wrong; warnings are
// printed.
func (a *app) load(cmd *cobra.Command, f fileFlags, args []string) ([]spec.Object, error) {
	objects, problems, err := a.read(cmd, f, args)
	if err != nil {
		return nil, err
	}
	if spec.Failed(problems) {
		return nil, &host.InputError{Problems: problems}
	}
	a.problems(a.err, problems)
	return objects, nil
}

// read reads the files, and says what is wrong with them.
func (a *app) read(cmd *cobra.Command, f fileFlags, args []string) ([]spec.Object, []spec.Problem, error) {
	names := append(f.names, args...) // `-f *.yaml`: the shell gives the rest as arguments
	if len(names) == 0 {
		return nil, nil, usageError{fmt.Errorf("which file? give -f FILE; see %s --help", cmd.CommandPath())}
	}
	return specfile.Load(cmd.Context(), names, a.in)
}

func (a *app) planCommand() *cobra.Command {
	var files fileFlags
	var opt host.PlanOptions
	var exitCode bool
	c := &cobra.Command{
		Use:     "plan -f FILE...",
		GroupID: "look",
		Short:   "Show what apply would change, as a diff, and change nothing",
		Long: `Shows what apply would write to the kernel, in the order of the writes and in
iproute2's words, each with the object and the line that asked for it. Reads the
kernel and changes nothing.

With --impact it also works out which packets would take another way, without sending
any: classes of packets, what becomes of them now and then, and an example of each.
"Made here" are packets of sockets that are not bound to a link, unless it says so.`,
		Example: `  viarule plan -f policy.yaml
  viarule plan -f policy.yaml -v              # the compiled rule trees too
  viarule plan -f policy.yaml -o json | jq .ops
  viarule plan -f policy.yaml --impact        # which packets go another way
  viarule plan -f policy.yaml --exit-code     # status 3 when there is something to do`,
		RunE: func(cmd *cobra.Command, args []string) error {
			objects, err := a.load(cmd, files, args)
			if err != nil {
				return err
			}
			return a.withHost(func(h *host.Host) error {
				p, err := h.Plan(cmd.Context(), objects, opt)
				if err != nil {
					return err
				}
				if err := a.printPlan(p); err != nil {
					return err
				}
				if exitCode && !p.Plan.Empty() {
					return errNo
				}
				return nil
			})
		},
	}
	files.add(c)
	c.Flags().BoolVar(&opt.Adopt, "adopt", false, "take over foreign rules and routes that are just what an object wants")
	c.Flags().BoolVar(&opt.Prune, "prune", false, "remove what bears viarule's mark and belongs to no object")
	c.Flags().BoolVar(&opt.Impact, "impact", false, "say which packets go another way afterwards, with an example each")
	c.Flags().BoolVar(&exitCode, "exit-code", false, "exit with 3 when there is something to change")
	return c
}

// printPlan prints a plan in the form that the user chose.
func (a *app) printPlan(p *host.Preview) error {
	if a.structured() {
		return a.print(p)
	}
	a.problems(a.err, p.Warnings)
	if err := a.writePlan(a.out, &p.Plan, p.Names); err != nil {
		return err
	}
	for _, n := range p.Notes {
		fmt.Fprintln(a.out, "note:", n)
	}
	if p.Impact != nil {
		a.writeImpact(p.Impact)
	}
	return nil
}

func (a *app) writeImpact(r *impact.Report) {
	if len(r.Classes) == 0 && r.Left == 0 {
		fmt.Fprintln(a.out, "nothing changes its way")
	}
	for i := range r.Classes {
		c := &r.Classes[i]
		fmt.Fprintf(a.out, "%s\n  now:   %s\n  then:  %s\n  as in: %s\n", c.Packets, c.Before, c.After, c.Example)
	}
	if r.More > 0 {
		fmt.Fprintf(a.out, "and %d more classes of packets\n", r.More)
	}
	if r.Left > 0 {
		fmt.Fprintf(a.out, "%d pairs of addresses were not tried, since that would take too long: packets between them may go another way too\n", r.Left)
	}
}

func (a *app) writePlan(w io.Writer, p *plan.Plan, names host.Names) error {
	return p.WriteText(w, plan.Style{Names: names, Verbose: a.verbose, Color: a.color(w)})
}

// withHost gives f the host that the flags name.
func (a *app) withHost(f func(*host.Host) error) (err error) {
	h, err := host.Open(host.Config{Netns: a.netns, Progress: a.progress()})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	return f(h)
}

// slow is how long a command may take before it says, on a terminal, what it is
// about.
const slow = 2 * time.Second

// progress returns a function that is told what a command is about.
func (a *app) progress() func(string) {
	if !isTerminal(a.err) {
		return nil
	}
	var mu sync.Mutex
	var last string
	late := false
	time.AfterFunc(slow, func() {
		mu.Lock()
		defer mu.Unlock()
		if late = true; last != "" {
			fmt.Fprintf(a.err, "… %s\n", last)
		}
	})
	return func(s string) {
		mu.Lock()
		defer mu.Unlock()
		if last = s; late {
			fmt.Fprintf(a.err, "… %s\n", s)
		}
	}
}
