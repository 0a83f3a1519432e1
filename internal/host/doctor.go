package host

import (
	"context"
	"net/netip"
	"slices"

	"github.com/viarule/viarule/internal/doctor"
	"github.com/viarule/viarule/internal/networkd"
	"github.com/viarule/viarule/internal/spec"
)

// Doctor looks for what is wrong with the namespace's routing. It changes nothing.
// With addresses only answers of those are looked at.
func (h *Host) Doctor(ctx context.Context, addresses []netip.Addr) ([]doctor.Finding, error) {
	s, err := h.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	in := doctor.Input{Snapshot: s, Netns: h.netns, Addresses: addresses}
	if h.netns == "" {
		n, err := networkd.Read("")
		if err != nil {
			return nil, err
		}
		if n != nil {
			in.Networkd = &doctor.Networkd{ForeignRules: n.ForeignRules, ForeignRoutes: n.ForeignRoutes || n.ForeignNextHops}
		}
	}
	return doctor.Examine(in), nil
}

// Lint looks for what would be wrong with the namespace's routing if the objects were
// applied, and is not so now. It changes nothing.
func (h *Host) Lint(ctx context.Context, objects []spec.Object) ([]doctor.Finding, error) {
	d, err := h.draft(ctx, change{put: objects}, startWatch())
	if err != nil {
		return nil, err
	}
	before, after, err := h.both(ctx, d)
	if err != nil {
		return nil, err
	}
	known := doctor.Examine(doctor.Input{Snapshot: before, Netns: h.netns})
	found := doctor.Examine(doctor.Input{Snapshot: after, Netns: h.netns})
	found = slices.DeleteFunc(found, func(f doctor.Finding) bool {
		return slices.ContainsFunc(known, func(k doctor.Finding) bool { return k.Kind == f.Kind && k.What == f.What })
	})
	for i := range found {
		found[i].Proof = "" // it shows once the objects are applied
	}
	return found, nil
}
