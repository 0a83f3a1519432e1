package host

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/viarule/viarule/internal/desired"
	"github.com/viarule/viarule/internal/guard"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/plan"
	"github.com/viarule/viarule/internal/spec"
)

// How an object is.
const (
	Applied  = "applied"
	Drifted  = "drifted"  // the kernel differs from what it wants
	Conflict = "conflict" // a foreign object stands in the way
	Broken   = "broken"   // the host cannot hold it any more
)

// Status is how the applied objects and the attachments of a namespace are.
type Status struct {
	Objects []ObjectStatus `json:"objects"`
	// Leftovers are what an unfinished change left behind; the next apply
	// removes them. Orphans bear viarule's mark and belong to no object.
	Leftovers []string `json:"leftovers"`
	Orphans   []string `json:"orphans"`
	// Attachments are what CNI plugins made in this namespace. CNIOrphans bear their
	// mark and are in no record.
	Attachments []AttachmentStatus `json:"attachments"`
	CNIOrphans  []CNIOrphan        `json:"cniOrphans"`
	Pending     *PendingStatus     `json:"pending,omitempty"`
}

// ObjectStatus is how one applied object is.
type ObjectStatus struct {
	Object  spec.Ref `json:"object"`
	File    string   `json:"file"`
	State   string   `json:"state"`
	Summary string   `json:"summary"`
	Details []string `json:"details"` // what differs, what is in the way; a line each
	Listing []string `json:"listing"` // its rules, as the user wrote them
	// Gateways says of each gateway of an ExternalNetwork whether it answers.
	Gateways []string `json:"gateways,omitempty"`
	// Peers are the prefixes of the other nodes of a PodNetwork, and Pods those of its
	// pods that are on this host.
	Peers []PeerStatus `json:"peers,omitempty"`
	Pods  []PodStatus  `json:"pods,omitempty"`
}

// PendingStatus is an apply that waits for its confirmation.
type PendingStatus struct {
	Left  time.Duration `json:"leftNanoseconds"`
	By    string        `json:"by"`
	State guard.State   `json:"state"`           // armed: it did not come to its end
	Error string        `json:"error,omitempty"` // why the last try to undo it failed
}

// Clean says whether everything is as it should be.
func (s *Status) Clean() bool {
	for i := range s.Objects {
		if s.Objects[i].State != Applied {
			return false
		}
	}
	for i := range s.Attachments {
		if s.Attachments[i].State != Applied {
			return false
		}
	}
	return len(s.Leftovers) == 0 && len(s.Orphans) == 0 && len(s.CNIOrphans) == 0
}

// Status compares each applied object, and each attachment, with the kernel. It changes nothing.
func (h *Host) Status(ctx context.Context) (*Status, error) {
	d, err := h.draft(ctx, change{}, startWatch())
	if err != nil {
		return nil, err
	}
	s := &Status{Objects: []ObjectStatus{}, Leftovers: []string{}, Orphans: []string{}, Attachments: []AttachmentStatus{}}
	if s.Pending, err = h.pending(); err != nil {
		return nil, err
	}
	names := d.names()
	for i := range d.before.records {
		s.Objects = append(s.Objects, d.status(d.before.records[i].Ref, names))
		h.forwarding(s.Objects[i].Pods)
	}
	for i := range d.plan.Ops {
		if op := &d.plan.Ops[i]; op.Origin.Object == nil {
			s.Leftovers = append(s.Leftovers, drift(op, names)...)
		}
	}
	for i := range d.plan.Orphans {
		s.Orphans = append(s.Orphans, d.plan.Orphans[i].Object(names))
	}
	for i := range d.before.attachments {
		s.Attachments = append(s.Attachments, h.attachmentStatus(&d.before.attachments[i], d.before, names))
	}
	s.CNIOrphans = h.cniOrphans(d.before, names)
	return s, nil
}

func (h *Host) pending() (*PendingStatus, error) {
	p, err := guard.Find(h.records)
	if err != nil || p == nil {
		return nil, err
	}
	left, err := p.Left()
	if err != nil {
		return nil, err
	}
	return &PendingStatus{Left: max(0, left).Round(time.Second), By: p.Starter().String(), State: p.State(), Error: p.Error()}, nil
}

// status says how one object is.
func (d *draft) status(ref spec.Ref, names Names) ObjectStatus {
	out := ObjectStatus{Object: ref, State: Applied, Details: []string{}, Listing: []string{}}
	for i := range d.before.records {
		if r := &d.before.records[i]; r.Ref == ref {
			out.File = r.File
		}
	}
	for _, w := range d.warnings {
		if w.Object == ref && slices.Contains(d.kept, ref) {
			out.State, out.Summary = Broken, "the host cannot hold it any more; what stands of it was left alone"
			out.Details = append(out.Details, w.String())
		}
	}
	if out.State == Broken {
		return out
	}
	rules, routes := 0, 0
	for i := range d.input.Want.Listed {
		if r := &d.input.Want.Listed[i]; r.Origin.Object.Ref == ref {
			rules++
			out.Listing = append(out.Listing, r.Format(names))
		}
	}
	for i := range d.input.Want.Routes {
		if r := &d.input.Want.Routes[i]; r.Origin.Object.Ref == ref {
			routes++
		}
	}
	out.Summary = fmt.Sprintf("%s, %s", count(rules, "rule"), count(routes, "route"))
	if rules+routes == 0 && ref.Kind != spec.KindRoutingPolicy {
		out.Summary = "nothing is needed for it"
	}
	out.Gateways = d.gatewayLines(ref)
	if ref.Kind == spec.KindPodNetwork {
		out.Peers, out.Pods = d.peers(ref, names), d.pods(ref, names)
	}
	for i := range d.input.Want.Links {
		if l := &d.input.Want.Links[i]; l.Origin.Object.Ref == ref {
			out.Summary += ", link " + l.Name
		}
	}
	if nft := d.input.Want.Nft; nft != nil && slices.ContainsFunc(nft.Origins, func(o desired.Origin) bool { return o.Object.Ref == ref }) {
		out.Summary += ", a part of " + plan.NftName(&nft.NftTable)
	}
	if in := d.acceptedIn(ref); len(in) > 0 {
		out.Summary += ", accepts in " + strings.Join(in, ", ")
	}
	for i := range d.plan.Ops {
		op := &d.plan.Ops[i]
		if !slices.ContainsFunc(op.Askers(), func(o desired.Origin) bool { return o.Object.Ref == ref }) {
			continue
		}
		out.State = Drifted
		out.Details = append(out.Details, drift(op, names)...)
	}
	for i := range d.plan.Conflicts {
		if f := &d.plan.Conflicts[i]; f.Origin.Object != nil && f.Origin.Object.Ref == ref {
			out.State = Conflict
			out.Details = append(out.Details, f.What+": "+f.Object(names))
		}
	}
	for i := range d.plan.Blocked {
		if f := &d.plan.Blocked[i]; f.Origin.Object != nil && f.Origin.Object.Ref == ref {
			out.State = Conflict
			out.Details = append(out.Details, "blocked: "+f.Object(names)+": "+f.What)
		}
	}
	for i := range d.plan.Satisfied {
		if f := &d.plan.Satisfied[i]; f.Origin.Object != nil && f.Origin.Object.Ref == ref {
			out.Details = append(out.Details, "satisfied: "+f.Object(names))
		}
	}
	return out
}

// acceptedIn names the chains of others in which an object wants accepts.
func (d *draft) acceptedIn(ref spec.Ref) []string {
	var out []string
	for i := range d.input.Want.Accepts {
		a := &d.input.Want.Accepts[i]
		if name := a.NftName.String(); a.Origin.Object.Ref == ref && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// drift says what an op would repair, in one line; of a table of nftables, in
// some.
func drift(op *plan.Op, names Names) []string {
	switch {
	case op.Rule != nil:
		return []string{word(op.Verb) + op.Rule.Format(names)}
	case op.Route != nil:
		return []string{word(op.Verb) + op.Route.Format(names)}
	case op.Link != nil:
		return []string{word(op.Verb) + plan.LinkText(op.Link, names)}
	case op.Nft != nil:
		return nftDrift(op)
	case op.Accept != nil:
		return []string{word(op.Verb) + op.Accept.String()}
	}
	return []string{"differs: " + op.Change.String()}
}

func nftDrift(op *plan.Op) []string {
	name := plan.NftName(op.Nft)
	switch {
	case op.BeforeNft == nil:
		return []string{word(netstate.Add) + name}
	case op.Verb == netstate.Delete:
		return []string{word(netstate.Delete) + name}
	}
	out := []string{word(netstate.Replace) + name}
	for _, l := range op.NftLines() {
		switch {
		case l.Text != "":
			out = append(out, word(l.Verb)+l.Where+": "+l.Text)
		case l.Verb != netstate.Replace:
			out = append(out, word(l.Verb)+l.Where)
		}
	}
	return out
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func word(v netstate.Verb) string {
	switch v {
	case netstate.Add:
		return "missing: "
	case netstate.Delete:
		return "too much: "
	}
	return "differs: "
}
