// Package doctor looks for what is wrong with a namespace's routing: answers that
// leave by another way than the request came, traps of the reverse path filter,
// rules that never decide, tables that are empty or let packets fall through, and
// other programs that stand in the way. It reads a snapshot and changes nothing;
// every finding has a proof, which `viarule explain` repeats, and a cure.
//
// # What it does not see
//
// Translations (kube-proxy's DNAT) and filters of others: an answer that a pod gives
// for an address of a service is routed with the pod's address. So an address that no
// link has is asked about as if a socket here held it.
package doctor

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/viarule/viarule/internal/explain"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/owner"
	"github.com/viarule/viarule/internal/snapshot"
)

// Severity is how bad a finding is.
type Severity string

// The severities. A Problem loses packets, a Warning loses them in some cases that
// the doctor cannot see, a Note is for reading.
const (
	Problem Severity = "problem"
	Warning Severity = "warning"
	Note    Severity = "note"
)

// Finding is one thing that is wrong.
type Finding struct {
	Severity Severity `json:"severity"`
	Kind     string   `json:"kind"`             // reply-astray, rp_filter, ...
	What     string   `json:"what"`             // a sentence
	Object   string   `json:"object,omitempty"` // the rule or route that it is about
	Proof    string   `json:"proof,omitempty"`  // a command that shows it
	Cure     string   `json:"cure,omitempty"`   // the object or command that mends it
}

// Input is what the doctor looks at.
type Input struct {
	Snapshot *snapshot.Snapshot
	Networkd *Networkd // nil: not running here, or not looked at
	// Netns is the namespace's name, for the commands of proofs; empty: the host.
	Netns string
	// From is where the snapshot was read from, for the commands; empty: live.
	File string
	// Addresses limits the questions about answers to these; none: all of the host.
	Addresses []netip.Addr
}

// Networkd is how systemd-networkd is set up.
type Networkd struct {
	// ForeignRules and ForeignRoutes say that it removes rules and routes (next hops
	// count as routes) that it did not make, when it starts: the default.
	ForeignRules, ForeignRoutes bool
}

// doctor is one examination.
type doctor struct {
	in        *Input
	s         *netstate.State
	e         *explain.Explainer
	found     []Finding
	neighbour owner.Findings
	routes    map[tableKey]*tableFacts
	links     map[string]*netstate.Link
	gateways  map[linkKey]netip.Addr
	objects   bool // some cure is an ExternalNetwork, and this may be a pod
}

type linkKey struct {
	family netstate.Family
	dev    string
}

type tableKey struct {
	family netstate.Family
	id     uint32
}

// tableFacts is what the doctor wants to know of a table.
type tableFacts struct {
	routes  int
	catches bool   // a default route that decides: no packet falls through
	dev     string // of the default route with the lowest metric
	metric  uint32
}

// Examine gives what is wrong, the worst first.
func Examine(in Input) []Finding {
	d := &doctor{in: &in, s: &in.Snapshot.State, e: explain.New(in.Snapshot), links: map[string]*netstate.Link{}}
	d.neighbour = owner.Match(d.s, &in.Snapshot.Surroundings)
	if !slices.IsSortedFunc(d.s.Rules, byPriority) {
		// A snapshot of a stranger need not be in order.
		state := *d.s
		state.Rules = slices.SortedStableFunc(slices.Values(d.s.Rules), byPriority)
		d.s = &state
	}
	for i := range d.s.Links {
		d.links[d.s.Links[i].Name] = &d.s.Links[i]
	}
	d.countRoutes()
	d.findGateways()
	d.answers()
	d.looksLikePod()
	if len(in.Addresses) == 0 {
		d.filters()
		d.rules()
		d.tables()
		d.neighbours()
		d.networkd()
	}
	rank := map[Severity]int{Problem: 0, Warning: 1, Note: 2}
	slices.SortStableFunc(d.found, func(a, b Finding) int { return cmp.Compare(rank[a.Severity], rank[b.Severity]) })
	return d.found
}

func byPriority(a, b netstate.Rule) int {
	return cmp.Or(cmp.Compare(a.Family, b.Family), cmp.Compare(a.Priority, b.Priority))
}

func (d *doctor) add(f Finding) { d.found = append(d.found, f) }

func (d *doctor) countRoutes() {
	d.routes = map[tableKey]*tableFacts{}
	var last tableKey
	var t *tableFacts
	for i := range d.s.Routes {
		r := &d.s.Routes[i]
		if k := (tableKey{r.Family, r.Table}); t == nil || k != last {
			if t = d.routes[k]; t == nil {
				t = &tableFacts{}
				d.routes[k] = t
			}
			last = k
		}
		t.routes++
		if r.To.Bits() != 0 || r.From.IsValid() || r.TOS != 0 || r.Type == netstate.RouteThrow {
			continue
		}
		if !t.catches || r.Metric < t.metric {
			t.metric, t.dev = r.Metric, r.Hop.Dev
			if len(r.Hops) > 0 {
				t.dev = r.Hops[0].Dev
			}
		}
		t.catches = true
	}
}

func (d *doctor) table(f netstate.Family, id uint32) tableFacts {
	if t := d.routes[tableKey{f, id}]; t != nil {
		return *t
	}
	return tableFacts{}
}

// linksCommand shows the links as a snapshot has them.
func (d *doctor) linksCommand() string {
	switch {
	case d.in.File != "":
		return "grep '^link ' " + d.in.File
	case d.in.Netns != "":
		return "viarule snapshot --netns " + d.in.Netns + " | grep '^link '"
	}
	return "viarule snapshot | grep '^link '"
}

// command is an explain that repeats a question.
func (d *doctor) command(rest string) string {
	s := "viarule explain"
	if d.in.Netns != "" {
		s += " --netns " + d.in.Netns
	}
	if d.in.File != "" {
		s += " --snapshot " + d.in.File
	}
	return s + " " + rest
}
