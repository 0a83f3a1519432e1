package cli

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

func (a *app) manCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:     "man DIR",
		Short:   "Write the manual pages into a directory",
		Long:    "Writes one manual page a command into DIR, made from the same text as --help.",
		Example: "  viarule man /usr/local/share/man/man1",
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return fmt.Errorf("make the directory for the manual pages: %w", err)
			}
			root.DisableAutoGenTag = true // no date: the pages are the same on every run
			header := &doc.GenManHeader{Title: "VIARULE", Section: "1", Source: "viarule " + version, Manual: "viarule"}
			if err := doc.GenManTree(root, header, args[0]); err != nil {
				return fmt.Errorf("write the manual pages into %s: %w", args[0], err)
			}
			return nil
		},
	}
}
