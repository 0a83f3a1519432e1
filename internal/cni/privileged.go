package cni

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Privileged says which rights this process lacks: to enter namespaces, and to change
// what is in them.
func Privileged() error {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var has [2]unix.CapUserData // 64 bits
	if err := unix.Capget(&head, &has[0]); err != nil {
		return fmt.Errorf("look at the capabilities of this process: %w", err)
	}
	const both = 1<<unix.CAP_NET_ADMIN | 1<<unix.CAP_SYS_ADMIN
	if has[0].Effective&both != both {
		return errors.New("it needs root (CAP_NET_ADMIN and CAP_SYS_ADMIN)")
	}
	return nil
}
