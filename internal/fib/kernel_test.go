package fib_test

import (
	"flag"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/viarule/viarule/internal/fib"
)

// session is one run of TestAgainstKernel.
type session struct {
	*world
	want, asked int // questions
	seen        coverage
	notCompared int
	ruleNamed   int // answers that only one rule can have given
	// suspect is the flow of the first difference. From then on it is the only
	// question, so that rapid looks for a small world with that difference, soon.
	suspect *fib.Flow
}

// check asks about flows in a world, and returns the first whose answer differs
// from our decision. The kernel adds the routes of IPv6 addresses a little later
// than the addresses, so that a difference counts only where the state is still
// the one that was looked at.
func (r *session) check(flows []fib.Flow) (flow fib.Flow, d fib.Decision, diff string, v *view) {
	v = newView(r.snapshot())
	r.oracle.links(v.Links)
	replies, err := r.oracle.ask(flows)
	if err != nil {
		r.t.Fatal(err)
	}
	for i := range flows {
		for {
			d = v.fib.Trace(flows[i])
			if diff = r.compare(v, &flows[i], &d, replies[i]); diff == "" {
				break
			}
			now := r.snapshot()
			if now.String() == v.String() {
				return flows[i], d, diff, v
			}
			v = newView(now)
			again, err := r.oracle.ask(flows[i:])
			if err != nil {
				r.t.Fatal(err)
			}
			copy(replies[i:], again)
		}
		r.seen.count(v, &flows[i], &d)
	}
	return fib.Flow{}, fib.Decision{}, "", v
}

// compare says how an answer differs from our decision.
func (r *session) compare(v *view, flow *fib.Flow, d *fib.Decision, got reply) string {
	if d.Verdict == fib.Unknown {
		return ""
	}
	if v.notAsked(flow, d, got.packet) {
		r.notCompared++
		return ""
	}
	if diff := v.differs(flow, d, got); diff != "" {
		return diff
	}
	if d.Route != nil && flow.To.Is6() && got.packet.err == 0 && got.packet.table != d.Table && len(v.alike(d.Route)) > 1 {
		return "" // the table is another route's
	}
	diff, named := v.rulers.differs(flow.Family(), d, got.packet)
	if named {
		r.ruleNamed++
	}
	return diff
}

// simplify leaves out of a suspect what does not matter for the difference.
func (r *session) simplify(flow fib.Flow) fib.Flow {
	for _, change := range []func(*fib.Flow){
		func(f *fib.Flow) { f.Mark = 0 },
		func(f *fib.Flow) { f.TOS = 0 },
		func(f *fib.Flow) { f.UID = 0 },
		func(f *fib.Flow) { f.SPort, f.DPort = 80, 80 },
		func(f *fib.Flow) { f.Proto = unix.IPPROTO_UDP },
		func(f *fib.Flow) { f.IIF = "" },
		func(f *fib.Flow) { f.OIF = "" },
		func(f *fib.Flow) {
			if f.IIF == "" {
				f.From = netip.Addr{}
			}
		},
	} {
		simpler := flow
		change(&simpler)
		if _, _, diff, _ := r.check([]fib.Flow{simpler}); diff != "" {
			flow = simpler
		}
	}
	return flow
}

const (
	worlds        = 1000 // where -rapid.checks does not say another number
	flowsPerWorld = 100
	progressEvery = 500_000 // questions
)

// TestAgainstKernel compares decisions with the running kernel's, for random
// links, addresses, rules, routes, next hops and flows: 100,000 of them.
func TestAgainstKernel(t *testing.T) {
	if testing.Short() {
		t.Skip("asks the kernel many questions")
	}
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "rapid.checks" })
	if !given {
		setFlag(t, "rapid.checks", strconv.Itoa(worlds))
	}
	n, err := strconv.Atoi(flag.Lookup("rapid.checks").Value.String())
	if err != nil {
		t.Fatal(err)
	}
	r := &session{world: newWorld(t), want: n * flowsPerWorld, seen: coverage{}}
	// A file would hold the world without the suspect; the seed gives both.
	setFlag(t, "rapid.nofailfile", "true")
	rapid.Check(t, r.askInWorld)
	if r.asked != r.want {
		t.Errorf("%d questions were asked, not %d", r.asked, r.want)
	}
	if n >= worlds {
		r.seen.requireAll(t, r.kernelHas) // fewer worlds (the VM's) need not have everything
	}
	// Some worlds have many of those: of few worlds one may be such a one.
	if few := r.want/100 + flowsPerWorld; r.seen.verdict(fib.Unknown) > few || r.notCompared > few {
		t.Error("too many flows without an answer")
	}
	if r.ruleNamed < r.want/2 {
		t.Error("too few answers name their rule")
	}
	r.progress()
}

// askInWorld makes a world and asks the next questions there.
func (r *session) askInWorld(rt *rapid.T) {
	r.draw(rt)
	seed := rapid.Uint64().Draw(rt, "flows")
	var flows []fib.Flow
	if r.suspect != nil {
		flows = []fib.Flow{*r.suspect}
	} else {
		flows = r.flows(seed, r.snapshot(), flowsPerWorld)
		r.asked += len(flows)
	}
	flow, d, diff, v := r.check(flows)
	if diff != "" && r.suspect == nil {
		suspect := r.simplify(flow)
		r.suspect = &suspect
		if again, d2, diff2, v2 := r.check([]fib.Flow{suspect}); diff2 != "" {
			flow, d, diff, v = again, d2, diff2, v2
		}
	}
	if diff != "" {
		rt.Fatalf("flow %s: %s\n%s\n%s\nstate:\n%s", formatFlow(&flow), d.Verdict, diff, trace(&d), v.State)
	}
	if r.asked%progressEvery == 0 && r.asked < r.want {
		r.progress()
	}
}

// draw makes a world.
func (w *world) draw(rt *rapid.T) {
	w.reset()
	w.batch(append(w.addrs(rt), "link set e3 up")...)
	s := w.snapshot()
	c := w.contents(rt, &s)
	down := rarely(rt, 3, "e3 goes down")
	if down {
		c.forgetSources()
	}
	if rarely(rt, 10, "realms") {
		c.drawRealms(rt)
	}
	if rarely(rt, 10, "the rule of the table local is moved") {
		c.moveLocal()
	}
	if rapid.Bool().Draw(rt, "own tables") {
		c.ownTables(&s)
	}
	w.write(c.changes())
	lines := c.appends()
	if down {
		lines = append(lines, "link set e3 down")
	}
	// Until an address changes, the source by a next hop object follows the object's
	// scope (fib_info_update_nhc_saddr), and then that of the route.
	if rapid.Bool().Draw(rt, "addresses change") {
		lines = append(lines, "addr add 127.9.9.9/32 dev lo", "addr del 127.9.9.9/32 dev lo")
	}
	w.batch(lines...)
}

func (r *session) progress() {
	var b strings.Builder
	for v := fib.Unknown; v <= fib.Invalid; v++ {
		fmt.Fprintf(&b, ", %s %d", v, r.seen.verdict(v))
	}
	r.t.Logf("%d of %d questions; rule named %d, not compared %d%s", r.asked, r.want, r.ruleNamed, r.notCompared, b.String())
}

// setFlag sets a flag of the test program for this test.
func setFlag(t *testing.T, name, value string) {
	t.Helper()
	before := flag.Lookup(name).Value.String()
	if err := flag.Set(name, value); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { flag.Set(name, before) })
}

func trace(d *fib.Decision) string {
	var b strings.Builder
	for _, s := range d.Steps {
		fmt.Fprintf(&b, "  %s: %s %s", s.Rule, s.Outcome, s.Detail)
		if s.Route != nil {
			fmt.Fprintf(&b, " by %s", s.Route)
		}
		b.WriteByte('\n')
	}
	return b.String()
}
