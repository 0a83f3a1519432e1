package cli

import (
	"fmt"
	"net/netip"

	"github.com/spf13/cobra"

	"github.com/viarule/viarule/internal/doctor"
	"github.com/viarule/viarule/internal/explain"
	"github.com/viarule/viarule/internal/host"
)

func (a *app) doctorCommand() *cobra.Command {
	var addresses []string
	var file string
	c := &cobra.Command{
		Use:     "doctor",
		GroupID: "look",
		Short:   "Say what is wrong with this host's routing, and what mends it",
		Long: `Reads this namespace and changes nothing. Tells of addresses whose answers leave by
another way than the request came, of packets that rp_filter drops in silence, of
rules that never decide and tables that are empty, and of other programs that stand
in the way: each with the command that shows it and the object that mends it.

An address that no link has (a service's) is looked at as if a socket here held it:
translations of others are not read. The exit status is 3 when something was found.`,
		Example: `  viarule doctor
  viarule doctor --address 1.2.3.4
  ssh node1 viarule snapshot | viarule doctor --snapshot -
  viarule doctor --netns node1 -o json | jq '.[].cure'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list := make([]netip.Addr, len(addresses))
			for i, s := range addresses {
				var err error
				if list[i], err = netip.ParseAddr(s); err != nil {
					return usageError{fmt.Errorf("--address: %q is not an address", s)}
				}
			}
			if file != "" {
				s, err := a.readSnapshot(file)
				if err != nil {
					return err
				}
				return a.printFindings(doctor.Examine(doctor.Input{Snapshot: s, File: file, Addresses: list}))
			}
			return a.withHost(func(h *host.Host) error {
				found, err := h.Doctor(cmd.Context(), list)
				if err != nil {
					return err
				}
				return a.printFindings(found)
			})
		},
	}
	c.Flags().StringVar(&file, "snapshot", "", "look at a `file` that viarule snapshot wrote; - is standard input")
	c.Flags().StringArrayVar(&addresses, "address", nil, "look at answers of this `address` only; may be given several times")
	return c
}

func (a *app) lintCommand() *cobra.Command {
	var files fileFlags
	c := &cobra.Command{
		Use:     "lint -f FILE...",
		GroupID: "look",
		Short:   "Say what would be wrong with this host's routing if files were applied",
		Long: `Works out what apply would do here, and looks at the outcome as doctor looks at the
present: rules that would never decide, tables that would be empty, answers that would
leave by another way than the request came. Tells only what is not so now already, and
changes nothing. The exit status is 3 when something was found.`,
		Example: `  viarule lint -f policy.yaml
  viarule lint -f policy.yaml --netns node1 -o json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			objects, err := a.load(cmd, files, args)
			if err != nil {
				return err
			}
			return a.withHost(func(h *host.Host) error {
				found, err := h.Lint(cmd.Context(), objects)
				if err != nil {
					return err
				}
				return a.printFindings(found)
			})
		},
	}
	files.add(c)
	return c
}

// printFindings prints what was found; errNo says that it was more than notes.
func (a *app) printFindings(found []doctor.Finding) error {
	if a.structured() {
		if found == nil {
			found = []doctor.Finding{}
		}
		if err := a.print(found); err != nil {
			return err
		}
	} else {
		a.writeFindings(found)
	}
	for i := range found {
		if found[i].Severity != doctor.Note {
			return errNo
		}
	}
	return nil
}

func (a *app) writeFindings(found []doctor.Finding) {
	if len(found) == 0 {
		fmt.Fprintln(a.out, "nothing found")
	}
	codes := map[doctor.Severity]string{doctor.Problem: "31", doctor.Warning: "33", doctor.Note: "36"}
	for i := range found {
		f := &found[i]
		word := string(f.Severity)
		if a.color(a.out) {
			word = "\x1b[" + codes[f.Severity] + "m" + word + "\x1b[0m"
		}
		fmt.Fprintf(a.out, "%s: %s\n", word, explain.Printable(f.What))
		if f.Proof != "" {
			fmt.Fprintln(a.out, "  proof:", explain.Printable(f.Proof))
		}
		if f.Cure != "" {
			fmt.Fprintln(a.out, "  cure: ", explain.Printable(f.Cure))
		}
	}
}
