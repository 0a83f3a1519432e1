package host

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/viarule/viarule/internal/kernel"
	"github.com/viarule/viarule/internal/record"
	"github.com/viarule/viarule/internal/snapshot"
)

// Snapshot reads all that decides about a packet's way in the namespace, and whose
// viarule's part of it is. It changes nothing and takes no lock: a change that runs
// meanwhile may be in one part of it and not in another.
func (h *Host) Snapshot(ctx context.Context) (*snapshot.Snapshot, error) {
	var s snapshot.Snapshot
	var err error
	if s.State, err = h.kernel.Snapshot(ctx); err != nil {
		return nil, err
	}
	if s.Sysctls, err = h.kernel.Sysctls(ctx); err != nil {
		return nil, err
	}
	if s.Opaque, err = h.kernel.Opaque(ctx); err != nil {
		return nil, err
	}
	if s.Surroundings, err = h.kernel.Surroundings(ctx); err != nil {
		return nil, err
	}
	if s.Kernel, err = kernel.Release(); err != nil {
		return nil, err
	}
	names, err := h.names.Tables()
	if err != nil {
		return nil, err
	}
	records, err := h.records.Whole()
	if err != nil {
		return nil, fmt.Errorf("read whose the rules and routes are: %w", err)
	}
	attached, err := h.records.Attachments()
	if err != nil {
		return nil, fmt.Errorf("read what CNI plugins made: %w", err)
	}
	s.Tables = maps.Clone(names.ByID)
	for i := range records {
		for name, id := range records[i].Tables {
			if _, named := s.Tables[id]; !named {
				s.Tables[id] = name // somebody else gave the name to another table
			}
		}
		s.Owners = append(s.Owners, ownerOf(&records[i]))
	}
	for i := range attached.List {
		s.Owners = append(s.Owners, attachmentOwner(&attached.List[i]))
	}
	return &s, nil
}

func ownerOf(r *record.Object) snapshot.Owner {
	o := snapshot.Owner{Ref: r.Ref, File: r.File, Line: int(r.Line), Rules: r.Rules, Routes: r.Routes, Links: r.Links, Nft: r.Nft}
	o.Sysctls = slices.Clone(r.LinkSysctls)
	for _, s := range r.Sysctls {
		o.Sysctls = append(o.Sysctls, s.Key)
	}
	slices.Sort(o.Sysctls)
	return o
}
