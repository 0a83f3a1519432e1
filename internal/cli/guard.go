package cli

import (
	"github.com/spf13/cobra"

	"github.com/viarule/viarule/internal/host"
)

// guardCommand is what the guard of apply --confirm runs as; nobody types it.
func (a *app) guardCommand() *cobra.Command {
	return &cobra.Command{
		Use:                host.GuardCommand,
		Hidden:             true,
		DisableFlagParsing: true,
		RunE:               func(_ *cobra.Command, args []string) error { return host.Guard(args) },
	}
}
