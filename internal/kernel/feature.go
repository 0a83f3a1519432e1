package kernel

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/netstate"
)

// newRuleAttrs are the rule attributes that came after Linux 5.10.
var newRuleAttrs = []struct {
	typ  uint16
	lack FeatureError
}{
	{fraDSCP, FeatureError{Name: "DSCP in rules", MinKernel: "6.12"}},
	{fraFlowLabel, FeatureError{Name: "flow labels in rules", MinKernel: "6.14"}},
	{fraFlowLabel + 1, FeatureError{Name: "flow labels in rules", MinKernel: "6.14"}},
	{fraSPortMask, FeatureError{Name: "port masks in rules", MinKernel: "6.15"}},
	{fraDPortMask, FeatureError{Name: "port masks in rules", MinKernel: "6.15"}},
	{fraDSCPMask, FeatureError{Name: "DSCP masks in rules", MinKernel: "6.15"}},
}

// checkFeatures refuses a rule with an attribute that this kernel would ignore.
func (c *Conn) checkFeatures(ctx context.Context, ch *netstate.Change) error {
	r := ch.Rule
	if r == nil || !r.DSCP.Set && r.Unknown == "" {
		return nil
	}
	attrs, _, err := parseUnknown(r.Unknown)
	if err != nil {
		return nil // appendRule says so better
	}
	if r.DSCP.Set {
		attrs.add(attr{typ: fraDSCP})
	}
	for _, a := range attrs {
		if a.typ <= fraLastInLTS {
			continue
		}
		knows, err := c.knowsRuleAttr(ctx, a.typ)
		if err != nil {
			return err
		}
		if knows {
			continue
		}
		for i := range newRuleAttrs {
			if newRuleAttrs[i].typ == a.typ {
				return &newRuleAttrs[i].lack
			}
		}
		return &FeatureError{Name: fmt.Sprintf("attribute %d of rules", a.typ), MinKernel: "newer than this one"}
	}
	return nil
}

// knowsRuleAttr asks the kernel whether it knows a rule attribute, by a delete
// that finds nothing: one that is known and empty is refused when the message is
// taken apart, one that is not known is ignored, and then there is no rule of
// that priority, link and action (FR_ACT_RES4, which has no meaning).
func (c *Conn) knowsRuleAttr(ctx context.Context, typ uint16) (bool, error) {
	if v, ok := c.probed[typ]; ok {
		return v, nil
	}
	body := []byte{unix.AF_INET, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0}
	body = putString(body, unix.FRA_IIFNAME, "viarule-probe")
	body = putU32(body, unix.FRA_PRIORITY, noLimit-1)
	_, err := c.ask(ctx, unix.RTM_DELRULE, 0, put(body, typ, nil))
	switch {
	case errors.Is(err, unix.ERANGE), errors.Is(err, unix.EINVAL):
		c.probed[typ] = true
	case errors.Is(err, unix.ENOENT):
		c.probed[typ] = false
	case errors.Is(err, unix.EPERM):
		return false, permissionError{}
	default:
		return false, fmt.Errorf("ask the kernel for attribute %d of rules: %w", typ, err)
	}
	return c.probed[typ], nil
}

// explain puts a better error into a refusal where another question to the
// kernel tells more than the errno. The kernel's words stay as they are.
func (c *Conn) explain(ctx context.Context, ch *netstate.Change, e *netstate.ChangeError) {
	switch {
	case e.Err == unix.EPERM && ch.Rule != nil && ch.Rule.L3MDev && c.mayWrite(ctx):
		// Without CONFIG_NET_L3_MASTER_DEV the kernel's code returns -1.
		e.Err = &FeatureError{Name: "VRF (CONFIG_NET_L3_MASTER_DEV)"}
	case e.Err == unix.EPERM && !c.mayWrite(ctx):
		e.Err = permissionError{}
	case e.Err == unix.EAFNOSUPPORT, e.Err == unix.EOPNOTSUPP:
		if f := c.missing(ctx, ch); f != nil {
			e.Err = f
		}
	case e.Err == unix.EINVAL && ch.Route != nil && ch.Route.NexthopID != 0:
		if f := c.missing(ctx, ch); f != nil {
			e.Err = f
		}
	}
}

// mayWrite says whether writes are allowed at all: the request is malformed in a
// way that the kernel finds only after it has looked at the privileges.
func (c *Conn) mayWrite(ctx context.Context) bool {
	_, err := c.ask(ctx, unix.RTM_NEWLINK, 0, make([]byte, 1))
	return !errors.Is(err, unix.EPERM)
}

// missing looks for a whole kind of object that this kernel does not have, by
// listing it.
func (c *Conn) missing(ctx context.Context, ch *netstate.Change) error {
	list := func(get, answer uint16, family netstate.Family, header int) bool {
		body := make([]byte, header)
		body[0] = uint8(family)
		found := false
		msgs, _, err := c.dump(ctx, "what this kernel has", get, answer, body)
		if err == nil {
			_ = each(msgs, func(b []byte) error { found = found || !foreign(b, family); return nil })
		}
		return err != nil && absent(err) || err == nil && family != 0 && !found
	}
	switch {
	case (ch.Nexthop != nil || ch.Route != nil && ch.Route.NexthopID != 0) &&
		list(unix.RTM_GETNEXTHOP, unix.RTM_NEWNEXTHOP, 0, objectHeader):
		return &FeatureError{Name: "next hop objects", MinKernel: "5.3"}
	case familyOf(ch) == netstate.IPv6 && list(unix.RTM_GETADDR, unix.RTM_NEWADDR, netstate.IPv6, addrHeader):
		return &FeatureError{Name: "IPv6, or it is switched off"}
	case ch.Rule != nil && list(unix.RTM_GETRULE, unix.RTM_NEWRULE, ch.Rule.Family, ruleHeader):
		return &FeatureError{Name: "policy routing (CONFIG_IP_MULTIPLE_TABLES)"}
	}
	return nil
}

func familyOf(ch *netstate.Change) netstate.Family {
	switch {
	case ch.Rule != nil:
		return ch.Rule.Family
	case ch.Route != nil:
		return ch.Route.Family
	case ch.Nexthop != nil:
		return ch.Nexthop.Family
	case ch.Addr != nil:
		return netstate.IPv6
	}
	return 0
}
