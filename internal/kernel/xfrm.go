package kernel

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/netstate"
)

// include/uapi/linux/xfrm.h
const (
	xfrmNewPolicy  = 0x13 // XFRM_MSG_NEWPOLICY
	xfrmGetPolicy  = 0x15
	xfrmGetDefault = 0x28 // Linux 5.14

	xfrmPolicyID   = 64  // struct xfrm_userpolicy_id, with padding
	xfrmPolicyDir  = 160 // of dir in struct xfrm_userpolicy_info
	xfrmBlock      = 1   // XFRM_USERPOLICY_BLOCK
	xfrmDirections = 3   // in, out, fwd; what is above belongs to single sockets
)

// ipsec counts the policies. Their keys are in states, which are not looked at.
func (l *opaqueList) ipsec() error {
	x, err := l.c.openOther(unix.NETLINK_XFRM)
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer x.drop()
	list, _, err := x.dump(l.ctx, "policies", xfrmGetPolicy, xfrmNewPolicy, make([]byte, xfrmPolicyID))
	if err != nil {
		return l.unread(netstate.OpaqueXFRM, "policies", err)
	}
	n := 0
	err = each(list, func(b []byte) error {
		if len(b) <= xfrmPolicyDir {
			return errShort
		}
		if b[xfrmPolicyDir] < xfrmDirections {
			n++
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case n == 1:
		l.add(netstate.OpaqueXFRM, "", "1 policy")
	case n > 1:
		l.add(netstate.OpaqueXFRM, "", "%d policies", n)
	}
	return l.ipsecDefault(x)
}

// ipsecDefault reads what becomes of packets that no policy selects. A kernel that
// cannot tell (EINVAL) lets them pass.
func (l *opaqueList) ipsecDefault(x *Conn) error {
	found, err := x.ask(l.ctx, xfrmGetDefault, 0, []byte{0, 0, 0, 0})
	if errors.Is(err, unix.EINVAL) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the default policy: %w", err)
	}
	if len(found) < xfrmDirections {
		return errShort
	}
	var blocked []string
	for i, dir := range []string{"in", "fwd", "out"} { // struct xfrm_userpolicy_default
		if found[i] == xfrmBlock {
			blocked = append(blocked, dir)
		}
	}
	if len(blocked) > 0 {
		l.add(netstate.OpaqueXFRM, "", "default policy block %s", strings.Join(blocked, " "))
	}
	return nil
}
