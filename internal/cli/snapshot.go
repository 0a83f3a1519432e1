package cli

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/viarule/viarule/internal/host"
	"github.com/viarule/viarule/internal/snapshot"
)

func (a *app) snapshotCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "snapshot",
		GroupID: "look",
		Short:   "Print all that decides about packets here, to be looked at on another machine",
		Long: `Prints all that decides about a packet's way in this namespace: links, addresses,
rules, routes, sysctls, viarule's objects and what stands for them, and by name
what others hold (nftables, iptables, BPF programs, IPsec). It is text, a line an
object. Reads the kernel and changes nothing.

There are no keys in it and no name of the host; there are addresses, MAC
addresses, and names of links and objects. See the guide for the whole list.`,
		Example: `  viarule snapshot > node1.snapshot
  ssh node1 viarule snapshot > node1.snapshot
  viarule snapshot --netns pod7 > pod7.snapshot`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.structured() {
				return usageError{errors.New("a snapshot has one form, without --output")}
			}
			return a.withHost(func(h *host.Host) error {
				s, err := h.Snapshot(cmd.Context())
				if err != nil {
					return err
				}
				return snapshot.Write(a.out, s)
			})
		},
	}
}
