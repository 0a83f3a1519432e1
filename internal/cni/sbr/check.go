package sbr

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/viarule/viarule/internal/cni"
	"github.com/viarule/viarule/internal/kernel"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/record"
	"github.com/viarule/viarule/internal/standing"
)

func (p *plugin) check(c *config, call *cni.Call) (did string, err error) {
	if err := p.readAll(c, call.IfName); err != nil {
		return "", err
	}
	var differs []string
	err = p.inside(call.Netns, func(s *session) error {
		differs, err = s.check(c, p.key(c, call))
		return err
	})
	if err != nil {
		return "", cni.Failed("check "+call.IfName, err)
	}
	if len(differs) > 0 {
		return "", &cni.Error{Code: cni.CodeDiffers, Msg: fmt.Sprintf("%s is not routed by source as it was made: %s", call.IfName, strings.Join(differs, "; "))}
	}
	return "all as it was made", nil
}

// check says what is missing or wrong of an attachment.
func (s *session) check(c *config, key record.AttachmentKey) (differs []string, err error) {
	if err := s.look(); err != nil {
		return nil, err
	}
	if s.view.Link(key.Interface) == nil {
		return []string{"the interface is missing"}, nil
	}
	if err := s.readSteps(); err != nil {
		return nil, err
	}
	a := s.records.Get(key)
	if a == nil {
		if s.own || c.VRF != "" {
			return []string{"no record says that it was ever made (network " + c.network + ")"}, nil
		}
		return s.checkUnrecorded(c, key.Interface)
	}
	if c.VRF != a.VRF {
		return []string{fmt.Sprintf("it was made for the VRF %q, and is configured for %q", a.VRF, c.VRF)}, nil
	}
	have, err := s.around(a)
	if err != nil {
		return nil, err
	}
	var addrs []netip.Addr
	for _, x := range c.addrs {
		addrs = append(addrs, x.Prefix.Addr())
	}
	differs = standing.Differs(a, have, s.conn.ReadSysctl, addrs...)
	// A sysctl that was right already is in no step.
	if what := standing.Loose(s.conn.ReadSysctl); c.StrictRP && what != "" && !slices.Contains(differs, what) {
		differs = append(differs, what)
	}
	for _, x := range c.addrs {
		addr := x.Prefix.Addr()
		routed := func(step record.Step) bool {
			return step.Do.Rule != nil && step.Do.Rule.From.IsSingleIP() && step.Do.Rule.From.Addr() == addr
		}
		if c.VRF == "" && !slices.ContainsFunc(a.Steps, routed) {
			differs = append(differs, fmt.Sprintf("there is no rule from %s", addr))
		}
	}
	return differs, nil
}

// checkUnrecorded looks for what the reference plugin makes: a rule for each address,
// and a way to its gateway in the table.
func (s *session) checkUnrecorded(c *config, dev string) (differs []string, err error) {
	for i := range c.addrs {
		a := &c.addrs[i]
		addr := a.Prefix.Addr()
		rules, err := s.view.Those(s.ctx, func(h *kernel.RuleHead) bool {
			return h.From.IsSingleIP() && h.From.Addr() == addr && h.Table != 0 && (c.Table == 0 || c.Table == h.Table)
		})
		if err != nil {
			return nil, err
		}
		if len(rules) == 0 {
			differs = append(differs, fmt.Sprintf("there is no rule from %s", addr))
			continue
		}
		gateway, _, err := c.Gateway(a)
		if err != nil {
			return nil, c.wrong(err)
		}
		if c.Table != 0 || !gateway.IsValid() {
			continue
		}
		routes, err := s.view.Routes(s.ctx, rules[0].Family, rules[0].Table, dev)
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(routes, func(r netstate.Route) bool { return r.To.Bits() == 0 && r.Hop.Via == gateway }) {
			differs = append(differs, fmt.Sprintf("missing: default via %s dev %s in table %d", gateway, dev, rules[0].Table))
		}
	}
	return differs, nil
}
