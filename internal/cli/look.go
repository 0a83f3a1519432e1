package cli

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/viarule/viarule/internal/explain"
	"github.com/viarule/viarule/internal/host"
	"github.com/viarule/viarule/internal/spec"
)

func (a *app) validateCommand() *cobra.Command {
	var files fileFlags
	c := &cobra.Command{
		Use:     "validate -f FILE...",
		GroupID: "look",
		Short:   "Check files without looking at the host's links and addresses",
		Long: `Checks the form and the meaning of objects. Every error is one line:
file:line: path: what is wrong; what to do. Warnings do not change the exit
status.`,
		Example: `  viarule validate -f policy.yaml
  cat policy.yaml | viarule validate -f -
  viarule validate -f policy.yaml -o json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			objects, problems, err := a.read(cmd, files, args)
			if err != nil {
				return err
			}
			if !spec.Failed(problems) {
				problems = append(problems, host.Validate(objects)...)
			}
			if a.structured() {
				if err := a.print(host.NewValidation(objects, problems)); err != nil {
					return err
				}
				if spec.Failed(problems) {
					return &host.InputError{}
				}
				return nil
			}
			if spec.Failed(problems) {
				return &host.InputError{Problems: problems}
			}
			a.problems(a.err, problems)
			for i := range objects {
				fmt.Fprintf(a.out, "%s: %s is valid\n", objects[i].File, objects[i].Ref)
			}
			return nil
		},
	}
	files.add(c)
	return c
}

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "status",
		GroupID: "look",
		Short:   "Say of each applied object whether the kernel still holds it",
		Long: `Compares each applied object with the kernel: applied, drifted (and what
differs), or in conflict (and with whose object). In a pod's namespace it does the
same for each attachment of the CNI plugin viarule-sbr. Lists what bears viarule's
mark and belongs to no object or attachment. The exit status is 3 when anything is
not as it should be.`,
		Example: `  viarule status
  viarule status --netns /proc/PID/ns/net     # of a pod
  viarule status --netns node1 -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withHost(func(h *host.Host) error {
				s, err := h.Status(cmd.Context())
				if err != nil {
					return err
				}
				if a.structured() {
					err = a.print(s)
				} else {
					err = a.writeStatus(s)
				}
				if err == nil && !s.Clean() {
					return errNo
				}
				return err
			})
		},
	}
}

func (a *app) writeStatus(s *host.Status) error {
	if p := s.Pending; p != nil {
		fmt.Fprintf(a.out, "an apply of %s (%s) waits for `viarule confirm` for %s more; then it is undone\n", p.By, p.State, p.Left)
		if p.Error != "" {
			fmt.Fprintln(a.out, "  the last try to undo it failed:", p.Error)
		}
	}
	if len(s.Objects)+len(s.Attachments) == 0 {
		fmt.Fprintln(a.out, "no object is applied in this namespace")
	}
	paint := painter(a.color(a.out))
	for _, o := range s.Objects {
		fmt.Fprintf(a.out, "%s  %s  %s\n", o.Object, paint(o.State), o.Summary)
		for _, d := range slices.Concat(o.Details, o.Gateways) {
			fmt.Fprintln(a.out, "  ", d)
		}
		for i := range o.Peers {
			fmt.Fprintln(a.out, "  ", &o.Peers[i])
		}
		for i := range o.Pods {
			fmt.Fprintln(a.out, "  ", &o.Pods[i])
		}
		if a.verbose {
			for _, l := range o.Listing {
				fmt.Fprintln(a.out, "  ", l)
			}
		}
	}
	a.writeAttachments(s)
	for _, o := range s.Orphans {
		fmt.Fprintln(a.out, "orphan:", o)
	}
	if len(s.Orphans) > 0 {
		fmt.Fprintln(a.out, "orphans bear viarule's mark, and no record says whose they are; `viarule apply --prune` or `viarule delete --all` removes them")
	}
	return nil
}

// writeAttachments prints what CNI plugins made. Names of pods' interfaces are anybody's.
func (a *app) writeAttachments(s *host.Status) {
	paint := painter(a.color(a.out))
	for i := range s.Attachments {
		x := &s.Attachments[i]
		fmt.Fprintf(a.out, "%s  %s  %s\n", explain.Printable(x.Name()), paint(x.State), explain.Printable(x.Summary))
		for _, d := range x.Details {
			fmt.Fprintln(a.out, "  ", explain.Printable(d))
		}
		if a.verbose {
			for _, l := range x.Listing {
				fmt.Fprintln(a.out, "  ", explain.Printable(l))
			}
		}
	}
	for _, o := range s.CNIOrphans {
		fmt.Fprintf(a.out, "orphan: %s\n   %s\n", explain.Printable(o.Object), explain.Printable(o.Remove))
	}
	if len(s.CNIOrphans) > 0 {
		fmt.Fprintln(a.out, "these bear the mark of viarule's CNI plugins (protocol 119), and no record says whose they are; apply and delete leave them alone. DEL of an attachment removes rules from its addresses; the commands remove the rest")
	}
}

// painter colours the words that say how an object is.
func painter(color bool) func(string) string {
	return func(s string) string {
		if !color {
			return s
		}
		switch s {
		case host.Applied:
			return "\x1b[32m" + s + "\x1b[0m"
		case host.Drifted:
			return "\x1b[33m" + s + "\x1b[0m"
		}
		return "\x1b[31m" + s + "\x1b[0m"
	}
}

func (a *app) importCommand() *cobra.Command {
	var name string
	c := &cobra.Command{
		Use:     "import",
		GroupID: "look",
		Short:   "Print the rules, tables and routes there are, as a RoutingPolicy",
		Long: `Prints the rules, tables and routes that somebody made by hand in this namespace,
as a RoutingPolicy. What the kernel, a routing daemon or another agent made is
left out, and a comment says so. Applied with --adopt it changes nothing but the
mark of ownership.`,
		Example: `  viarule import > policy.yaml
  viarule plan -f policy.yaml --adopt
  viarule apply -f policy.yaml --adopt`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withHost(func(h *host.Host) error {
				text, err := h.Import(cmd.Context(), name)
				if err != nil {
					return err
				}
				_, err = a.out.Write(text)
				return err
			})
		},
	}
	c.Flags().StringVar(&name, "name", "imported", "metadata.name of the object")
	return c
}
