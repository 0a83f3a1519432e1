package kernel

import (
	"context"
	"net/netip"
)

// ForgetOfMany is ForgetConnections as it works where there are many.
func (c *Conn) ForgetOfMany(ctx context.Context, addrs []netip.Addr) error {
	return c.forgetConnections(ctx, addrs, true)
}
