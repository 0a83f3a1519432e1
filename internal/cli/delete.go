package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/viarule/viarule/internal/host"
	"github.com/viarule/viarule/internal/spec"
)

func (a *app) deleteCommand() *cobra.Command {
	var files fileFlags
	var opt host.DeleteOptions
	c := &cobra.Command{
		Use:     "delete (-f FILE... | --all)",
		GroupID: "change",
		Short:   "Remove what objects put into the kernel, and put changed sysctls back",
		Long: `Removes the rules and routes of the objects that the files name (only kind and
name are looked at), or with --all everything that is viarule's in this namespace,
orphans too. What somebody else made is never touched.`,
		Example: `  viarule delete -f policy.yaml
  viarule delete --all --dry-run
  viarule delete --all`,
		RunE: func(cmd *cobra.Command, args []string) error {
			named := len(files.names)+len(args) > 0
			if opt.All && named {
				return usageError{fmt.Errorf("--all and files exclude each other; see %s --help", cmd.CommandPath())}
			}
			var refs []spec.Ref
			if !opt.All {
				objects, err := a.load(cmd, files, args)
				if err != nil {
					return err
				}
				for i := range objects {
					refs = append(refs, objects[i].Ref)
				}
			}
			return a.change(func(h *host.Host) (*host.Result, error) { return h.Delete(cmd.Context(), refs, opt) })
		},
	}
	files.add(c)
	f := c.Flags()
	f.BoolVar(&opt.All, "all", false, "everything of viarule's in this namespace")
	f.BoolVar(&opt.DryRun, "dry-run", false, "print what would be removed, and change nothing")
	f.BoolVar(&opt.AllowCutOff, "allow-cut-off", false, "go on though this takes away the way of an SSH session or of the default gateway")
	f.DurationVar(&opt.Confirm, "confirm", 0, "undo everything after this `time` unless viarule confirm comes before")
	return c
}
