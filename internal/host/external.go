package host

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/viarule/viarule/internal/desired"
	"github.com/viarule/viarule/internal/external"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/owner"
	"github.com/viarule/viarule/internal/plan"
	"github.com/viarule/viarule/internal/podnet"
	"github.com/viarule/viarule/internal/record"
	"github.com/viarule/viarule/internal/spec"
)

// gatewayWait bounds how long gateways have to answer. The kernel itself gives up
// after three questions, a second apart.
const gatewayWait = 3500 * time.Millisecond

// surround adds to the facts what ExternalNetworks and PodNetworks need: who else is
// here, sysctls, and which gateways answer. Without one it does nothing.
func (h *Host) surround(ctx context.Context, s *situation, objects []spec.Object) error {
	var keys []string
	if slices.ContainsFunc(objects, func(o spec.Object) bool { return o.External != nil }) {
		keys = external.RelevantSysctls(&s.state)
	}
	if slices.ContainsFunc(objects, func(o spec.Object) bool { return o.Pods != nil }) {
		keys = append(keys, podnet.RelevantSysctls(&s.state)...)
	}
	if keys == nil {
		return nil
	}
	var err error
	if s.facts.Around, err = h.kernel.Surroundings(ctx); err != nil {
		return err
	}
	s.facts.Neighbours = owner.Match(&s.state, &s.facts.Around)
	if s.facts.Sysctls, s.facts.Changed, err = h.foundSysctls(keys); err != nil {
		return err
	}
	s.facts.Gateways, err = h.askGateways(ctx, external.GatewaysOf(objects, &s.state))
	return err
}

// foundSysctls reads sysctls as they are without viarule: of one that it changed,
// which it tells too, the value from before.
func (h *Host) foundSysctls(keys []string) (out map[string]string, ours map[string]bool, err error) {
	changed, err := h.records.Sysctls()
	if err != nil {
		return nil, nil, err
	}
	out, ours = make(map[string]string, len(keys)), map[string]bool{}
	for _, key := range keys {
		if v, err := h.kernel.ReadSysctl(key); err == nil { // else its link has gone meanwhile
			out[key] = v
		}
	}
	for i := range changed {
		if c := &changed[i]; slices.Contains(c.Ours, out[c.Key]) {
			out[c.Key], ours[c.Key] = c.Found, true
		}
	}
	return out, ours, nil
}

// askGateways has the kernel ask for the gateways, and waits for their answers.
func (h *Host) askGateways(ctx context.Context, keys []netstate.NeighKey) (map[netstate.NeighKey]netstate.NeighState, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	h.progress("waiting for the gateways to answer")
	ctx, cancel := context.WithTimeout(ctx, gatewayWait)
	defer cancel()
	return h.kernel.Probe(ctx, keys)
}

// madeLinkWithGateways says whether a plan made a link of a network that has a
// choice of gateways: nobody could ask them before.
func madeLinkWithGateways(p *plan.Plan, objects []spec.Object) bool {
	return slices.ContainsFunc(objects, func(o spec.Object) bool {
		return o.External != nil && o.External.Interface.VLAN != nil && !o.External.Spread && len(o.External.Gateways) > 1 &&
			slices.ContainsFunc(p.Ops, func(op plan.Op) bool {
				return op.Link != nil && op.Verb == netstate.Add && op.Link.Name == o.External.Interface.Name
			})
	})
}

// askOnNewLinks applies once more, now that the gateways can be asked.
func (h *Host) askOnNewLinks(ctx context.Context, l *record.Lock, c change, opt ApplyOptions, first *Result) (*Result, error) {
	second, err := h.carryOut(ctx, l, c, opt, startWatch())
	if err != nil {
		return nil, fmt.Errorf("the objects are applied; asking the gateways on the new link failed: %w", err)
	}
	if !second.Plan.Empty() {
		first.Messages = append(first.Messages, "the first gateway does not answer, so the next one is used")
	}
	return first, nil
}

// foundHere says which programs were found that hold priorities, tables or marks,
// and how connections to services are translated.
func foundHere(f *desired.Facts) []string {
	var out []string
	for i := range f.Neighbours {
		n := &f.Neighbours[i]
		var by string
		switch {
		case n.Chain.Chain != "":
			by = fmt.Sprintf("the chain %s of the table %s %s", n.Chain.Chain, n.Chain.Family, n.Chain.Table)
		case n.Chain.Table != "":
			by = fmt.Sprintf("the table %s %s", n.Chain.Family, n.Chain.Table)
		case len(n.Rules) > 0:
			by = "the rule " + n.Rules[0].String()
		case len(n.Routes) > 0:
			by = "the route " + n.Routes[0].String()
		}
		holds := ""
		if m := n.Neighbour.Marks; m != 0 {
			holds = fmt.Sprintf("; its marks %#x are left alone", m)
		}
		out = append(out, fmt.Sprintf("found here: %s, by %s%s", n.Neighbour.Name, by, holds))
	}
	if f.Around.IPVS {
		out = append(out, "found here: IPVS with services")
	}
	if slices.Contains(f.Around.Legacy, "nat") {
		out = append(out, "found here: the old iptables (iptables-legacy) with a nat table, whose chains viarule does not read")
	}
	return out
}

// gatewayLines says of each gateway of an object whether it answers.
func (d *draft) gatewayLines(ref spec.Ref) []string {
	var out []string
	for i := range d.objects {
		o := &d.objects[i]
		if o.Ref != ref || o.External == nil {
			continue
		}
		for _, key := range external.GatewaysOf([]spec.Object{*o}, &d.before.state) {
			out = append(out, fmt.Sprintf("gateway %s on %s: %s", key.Addr, key.Dev, d.before.facts.Gateways[key]))
		}
	}
	return out
}
