package host

import (
	"context"

	"github.com/viarule/viarule/internal/importer"
	"github.com/viarule/viarule/internal/spec"
	"github.com/viarule/viarule/internal/specfile"
)

// Import gives the rules, tables and routes that somebody made by hand, as the
// YAML of a RoutingPolicy of that name. What is left out stands in comments.
func (h *Host) Import(ctx context.Context, name string) ([]byte, error) {
	st, err := h.kernel.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	tables, err := h.names.Tables()
	if err != nil {
		return nil, err
	}
	found := importer.Import(st, Names{tables: tables.ByID})
	comments := make([]string, len(found.LeftOut))
	for i, s := range found.LeftOut {
		comments[i] = "left out: " + s
	}
	o := spec.Object{Ref: spec.Ref{Kind: spec.KindRoutingPolicy, Name: name}, Policy: &found.Policy}
	return specfile.Marshal(o, comments...), nil
}
