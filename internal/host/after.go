package host

import (
	"context"
	"slices"
	"strings"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/snapshot"
)

// after is the snapshot that the draft's plan leads to, from the one before it.
func (d *draft) after(before *snapshot.Snapshot) *snapshot.Snapshot {
	changes := make([]*netstate.Change, len(d.plan.Ops))
	for i := range d.plan.Ops {
		changes[i] = &d.plan.Ops[i].Change
	}
	s := *before
	s.State = netstate.After(before.State, changes)
	s.Sysctls = netstate.AfterSysctls(newLinkSysctls(before, changes), changes)
	s.Tables = d.names().tables
	s.Owners = nil
	for i := range d.objects {
		if o := d.stands[d.objects[i].Ref]; o != nil {
			s.Owners = append(s.Owners, ownerOf(o))
		}
	}
	for i := range d.before.attachments {
		s.Owners = append(s.Owners, attachmentOwner(&d.before.attachments[i]))
	}
	return &s
}

// newLinkSysctls gives links that changes make the values that the kernel gives them:
// those of default.
func newLinkSysctls(before *snapshot.Snapshot, changes []*netstate.Change) []netstate.Sysctl {
	out := slices.Clone(before.Sysctls)
	for _, c := range changes {
		if c.Link == nil || c.Verb != netstate.Add {
			continue
		}
		for _, s := range before.Sysctls {
			if strings.Contains(s.Key, "/conf/default/") {
				out = append(out, netstate.Sysctl{Key: strings.Replace(s.Key, "/conf/default/", "/conf/"+c.Link.Name+"/", 1), Value: s.Value})
			}
		}
	}
	slices.SortFunc(out, func(a, b netstate.Sysctl) int { return strings.Compare(a.Key, b.Key) })
	return out
}

// both gives the snapshots before and after the draft's plan.
func (h *Host) both(ctx context.Context, d *draft) (before, after *snapshot.Snapshot, err error) {
	if before, err = h.Snapshot(ctx); err != nil {
		return nil, nil, err
	}
	return before, d.after(before), nil
}
