package apply

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/viarule/viarule/internal/netnstest"
	"github.com/viarule/viarule/internal/netstate"
)

// The steps of the matrix: from nothing to first, to second, and back to nothing.
// Both have a list of sources long enough for a tree in either family, routes
// that need each other (a gateway behind a link route), several next hops and
// types, and rules of every order; the second changes gateways, priorities and
// members, and drops a table.
func first() string {
	return policy("uplinks", `
  tables:
  - {name: up, id: 5000, routes: [
      {to: 203.0.113.0/24, dev: eth1}, {to: default, via: 203.0.113.1, dev: eth1},
      {to: "2001:db8:a::/64", dev: eth1}, {to: default, via: "2001:db8:a::1", dev: eth1},
      {to: 10.20.0.0/16, nexthops: [{via: 192.0.2.2, weight: 2}, {via: 198.51.100.2}]},
      {to: 10.30.0.0/16, type: Blackhole}, {to: "2001:db8:b::/48", type: Unreachable, metric: 5}]}
  - {name: other, id: 5001, routes: [{to: default, via: 198.51.100.1, mtu: 1400}, {to: default, via: "2001:db8:2::1"}]}
  rules:
  - {from: [10.1.0.0/16, "2001:db8:101::/48"], table: up}
  - {to: [12.12.12.12], priority: 300, table: main}
  - {fwmark: 0x1/0x3f, iif: eth1, table: other}
  - {from: [`+sources(0, 40)+`], table: up}
  - {ipproto: tcp, dport: 443, uidrange: 1000-1999, family: IPv4, priority: 2990, table: other}
`)
}

func second() string {
	return policy("uplinks", `
  tables:
  - {name: up, id: 5000, routes: [
      {to: 203.0.113.0/24, dev: eth1}, {to: default, via: 203.0.113.2, dev: eth1},
      {to: "2001:db8:a::/64", dev: eth1}, {to: default, via: "2001:db8:a::2", dev: eth1},
      {to: 10.20.0.0/16, nexthops: [{via: 192.0.2.3}, {via: 198.51.100.2}]},
      {to: "2001:db8:b::/48", type: Prohibit, metric: 5}]}
  rules:
  - {from: [10.1.0.0/16, "2001:db8:101::/48"], priority: 2205, table: up}
  - {to: [12.12.12.12], priority: 301, table: main}
  - {from: [`+sources(3, 48)+`], table: up}
`)
}

func policy(name, body string) string {
	return "apiVersion: viarule.io/v1alpha1\nkind: RoutingPolicy\nmetadata: {name: " + name + "}\nspec:" + body
}

// sources lists addresses and networks of both families; some hold others.
func sources(from, to int) string {
	var list []string
	for i := from; i < to; i++ {
		list = append(list, fmt.Sprintf("10.99.%d.%d", i/4, i), fmt.Sprintf(`"2001:db8:99:%x::/64"`, i))
		if i%16 == 0 {
			list = append(list, fmt.Sprintf("10.99.%d.0/24", i/4))
		}
	}
	return strings.Join(list, ", ")
}

// steps runs f for each step in turn, and then goes that step without faults.
func steps(t *testing.T, w *world, f func(w *world, text string)) {
	start := w.text()
	trees(t, w)
	for _, text := range []string{first(), second(), first(), ""} {
		f(w, text)
		if _, _, err := w.apply(t.Context(), w.k, text); err != nil {
			t.Fatal(err)
		}
		w.settled(text)
	}
	w.same("after the last delete", start)
}

// trees fails unless the steps have what the matrix is about: trees of both
// families.
func trees(t *testing.T, w *world) {
	t.Helper()
	for _, text := range []string{first(), second()} {
		families := map[netstate.Family]bool{}
		for _, tree := range w.prepare(text).want.Trees {
			families[tree.Family] = true
		}
		if len(families) != 2 {
			t.Fatalf("trees of %d families", len(families))
		}
	}
}

// TestEveryOperationMayFail refuses every operation of every step in turn, both
// as a kernel that stops there and as one that carries out what else was sent.
func TestEveryOperationMayFail(t *testing.T) {
	onBoth(t, func(t *testing.T, open func(*testing.T) *world) {
		for _, together := range []bool{false, true} {
			t.Run(fmt.Sprint("together ", together), func(t *testing.T) {
				refused := 0
				steps(t, open(t), func(w *world, text string) { refused += w.refuseEach(text, together) })
				if refused < 300 {
					t.Errorf("the matrix has only %d operations", refused)
				}
			})
		}
	})
}

// refuseEach begins an apply of text once for each of its operations, refuses
// that one, and finds everything as it was. It returns how many there are.
func (w *world) refuseEach(text string, together bool) int {
	w.t.Helper()
	before := w.text()
	ops := len(w.prepare(text).plan.Ops)
	for i := range ops {
		f := &faulty{Kernel: w.k, fail: failOnce(i), together: together}
		_, r, err := w.apply(w.t.Context(), f, text)
		var op *OpError
		if !errors.As(err, &op) || !r.Undone {
			w.t.Fatalf("operation %d of %d: %v, %+v", i, ops, err, r)
		}
		w.same(fmt.Sprintf("operation %d of %d (%s %s)", i, ops, op.Op, op.Object), before)
	}
	return ops
}

// TestAdoptionMayFail takes over foreign rules and routes, and gives them back.
func TestAdoptionMayFail(t *testing.T) {
	w := newWorld(t)
	netnstest.IP(t,
		"rule add pref 2300 from 10.1.0.0/16 table 88 protocol 4",
		"rule add pref 2300 from 10.2.0.0/16 table 88",
		"rule add pref 2301 from 10.3.0.0/16 table 88",
		"-6 rule add pref 2300 from 2001:db8:101::/48 table 88 protocol 4",
		"route add default via 192.0.2.5 dev eth1 table 88 proto static",
		"route add 10.20.0.0/16 table 88 nexthop via 192.0.2.2 weight 2 nexthop via 198.51.100.2",
		"-6 route add default via 2001:db8:1::5 dev eth1 table 88 metric 1024 proto static",
		"-6 route add 2001:db8:f:1::/64 via 2001:db8:1::7 dev eth1 table 88",
	)
	w.adopt = true
	text := policy("adopted", `
  tables:
  - {name: eighty-eight, id: 88, routes: [
      {to: default, via: 192.0.2.5, dev: eth1}, {to: default, via: "2001:db8:1::5", dev: eth1},
      {to: 10.20.0.0/16, nexthops: [{via: 192.0.2.2, weight: 2}, {via: 198.51.100.2}]}]}
  rules:
  - {from: [10.1.0.0/16, 10.2.0.0/16, "2001:db8:101::/48"], priority: 2300, table: eighty-eight}
  - {from: [10.4.0.0/16], priority: 2302, table: eighty-eight}
`)
	for _, together := range []bool{false, true} {
		if n := w.refuseEach(text, together); n < 8 {
			t.Errorf("only %d operations", n)
		}
	}
	if _, _, err := w.apply(t.Context(), w.k, text); err != nil {
		t.Fatal(err)
	}
	w.settled(text)
}

// TestEveryOperationMayBeTheLast stops the process at every operation of every
// step. A new process finds its way to what was wanted from there, or back.
func TestEveryOperationMayBeTheLast(t *testing.T) {
	t.Run("kernel", func(t *testing.T) {
		steps(t, newWorld(t), func(w *world, text string) { stopAtEach(w, text, 1) })
	})
	t.Run("fake", func(t *testing.T) { // the same, a part of it
		steps(t, fakeWorld(t), func(w *world, text string) { stopAtEach(w, text, 7) })
	})
}

// stopAtEach stops an apply of text at each of its operations, or at every few.
func stopAtEach(w *world, text string, every int) {
	before := w.text()
	had := w.wanted()
	for i := 0; ; i += every {
		// Counted each time: where something else was on the way, priorities
		// that nobody chose may stay what they became.
		ops := len(w.prepare(text).plan.Ops)
		if i > ops {
			break
		}
		w.kill(text, i)
		if i%3 == 0 { // the user gives up what was wanted, and wants what was before
			if _, _, err := w.apply(w.t.Context(), w.k, had); err != nil {
				w.t.Fatalf("back from operation %d of %d: %v", i, ops, err)
			}
		} else {
			if _, _, err := w.apply(w.t.Context(), w.k, text); err != nil {
				w.t.Fatalf("on from operation %d of %d: %v", i, ops, err)
			}
			w.settled(text)
			if _, _, err := w.apply(w.t.Context(), w.k, had); err != nil {
				w.t.Fatalf("back to the start: %v", err)
			}
		}
		w.settled(had)
		if had == "" {
			w.same(fmt.Sprintf("operation %d of %d", i, ops), before)
		}
	}
}

// wanted is the object that the records hold, as text.
func (w *world) wanted() string {
	w.t.Helper()
	list, err := w.rec.List()
	w.must(err)
	text := ""
	for _, o := range list {
		text += string(o.Text)
	}
	return text
}

// kill begins an apply of text and stops before operation i (behind the last one:
// before the look at the result), with nothing cleaned up, as kill -9 does.
func (w *world) kill(text string, i int) {
	w.t.Helper()
	type killed struct{}
	l := w.lock()
	defer l.Unlock()
	c := w.prepare(text)
	w.must(l.Stage(c.records()))
	defer func() {
		if v := recover(); v != (killed{}) {
			w.t.Fatalf("operation %d: not killed, but %v", i, v)
		}
	}()
	kill := func() { panic(killed{}) }
	f := &faulty{Kernel: w.k, before: map[int]func(){i: kill}, look: func(int) {
		if i == len(c.plan.Ops) {
			kill()
		}
	}}
	_, err := Run(context.Background(), f, c.plan, Options{Checkpoint: fixed(c.cp), Verify: c.verify})
	w.t.Errorf("Run came back: %v", err)
}

// TestSomebodyElseInTheMiddle has another program change things while a plan
// runs.
func TestSomebodyElseInTheMiddle(t *testing.T) {
	tests := []struct {
		name string
		at   int      // operation before which it happens; -1: before the look at the result
		ip   []string // what the other does
		undo []string // takes it back, for the comparison with the state before
		err  string   // a part of the message
	}{
		{name: "a route with the key of ours", at: 0,
			ip:   []string{"route add default via 192.0.2.99 table 5000 proto 17"},
			undo: []string{"route del default via 192.0.2.99 table 5000"}, err: "file exists"},
		{name: "an IPv6 route with the key of ours", at: 0,
			ip:   []string{"-6 route add default via 2001:db8:1::99 table 5000 proto 17 metric 1024"},
			undo: []string{"-6 route del default via 2001:db8:1::99 table 5000"}, err: "file exists"},
		{name: "ours is deleted again", at: -1,
			ip: []string{"rule del pref 300 table main", "route flush table 5001"}, err: "still to do: + route default via 198.51.100.1"},
		{name: "ours is changed", at: -1,
			ip: []string{"route replace default via 203.0.113.77 dev eth1 table 5000 proto 118"}, err: "still to do: ~ route default"},
		{name: "a route of ours is taken over", at: -1,
			ip:   []string{"route replace default via 203.0.113.77 dev eth1 table 5000 proto 17"},
			undo: []string{"route del default via 203.0.113.77 table 5000"}, err: "still to do: route default via 203.0.113.77 dev eth1 table 5000"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			start := w.text()
			other := func() { netnstest.IP(t, tt.ip...) }
			f := &faulty{Kernel: w.k, before: map[int]func(){tt.at: other}, look: func(i int) {
				if tt.at < 0 && i == 0 {
					other()
				}
			}}
			_, r, err := w.apply(t.Context(), f, first())
			if err == nil || !r.Undone || !strings.Contains(err.Error(), tt.err) {
				t.Fatalf("%v, %+v", err, r)
			}
			netnstest.IP(t, tt.undo...)
			w.same("afterwards", start)
			if _, _, err := w.apply(t.Context(), w.k, first()); err != nil {
				t.Errorf("once more: %v", err)
			}
		})
	}
}

// TestSomebodyElseInTheWayBack takes the place of a route that the undo is to put
// back. It stays theirs, and the error says so.
func TestSomebodyElseInTheWayBack(t *testing.T) {
	w := newWorld(t)
	if _, _, err := w.apply(t.Context(), w.k, first()); err != nil {
		t.Fatal(err)
	}
	f := &faulty{Kernel: w.k, look: func(i int) {
		if i == 0 {
			netnstest.IP(t, "route replace default via 203.0.113.77 dev eth1 table 5000 proto 17")
		}
	}}
	_, r, err := w.apply(t.Context(), f, second())
	var undo *UndoError
	if !errors.As(err, &undo) || r.Undone || len(undo.Rest.Ops) != 0 || len(undo.Rest.Conflicts) != 1 {
		t.Fatalf("%v, %+v", err, r)
	}
	if want := "still to undo: route default via 203.0.113.77 dev eth1 table 5000 proto 17: "; !strings.Contains(err.Error(), want) {
		t.Errorf("%v\nwant %q in it", err, want)
	}
	if !strings.Contains(w.text(), "route default via 203.0.113.77 dev eth1 table 5000 proto 17\n") {
		t.Errorf("the other's route is gone:\n%s", w.text())
	}
	// When they give it up, the next apply mends all.
	netnstest.IP(t, "route del default via 203.0.113.77 table 5000")
	if _, _, err := w.apply(t.Context(), w.k, w.wanted()); err != nil {
		t.Error(err)
	}
	w.settled(first())
}

// TestLinkGoneInTheMiddle loses the link that old and new routes go by.
func TestLinkGoneInTheMiddle(t *testing.T) {
	for at := 0; at < 30; at += 3 {
		t.Run(fmt.Sprint("before operation ", at), func(t *testing.T) {
			w := newWorld(t)
			if _, _, err := w.apply(t.Context(), w.k, first()); err != nil {
				t.Fatal(err)
			}
			rules := rulesOf(w.text())
			f := &faulty{Kernel: w.k, before: map[int]func(){at: func() { netnstest.IP(t, "link del eth2") }}}
			_, r, err := w.apply(t.Context(), f, second())
			var undo *UndoError
			if !errors.As(err, &undo) || r.Undone {
				t.Fatalf("%v, %+v", err, r)
			}
			// The routes by eth2 cannot come back, all else does.
			for _, op := range undo.Rest.Ops {
				if op.Route == nil || !strings.Contains(op.Change.String(), "eth2") {
					t.Errorf("not undone: %s", op.Change.String())
				}
			}
			if got := rulesOf(w.text()); got != rules {
				t.Errorf("the rules: %s", difference(got, rules))
			}
		})
	}
}

func rulesOf(text string) string {
	var b strings.Builder
	for l := range strings.Lines(text) {
		if strings.HasPrefix(l, "rule ") {
			b.WriteString(l)
		}
	}
	return b.String()
}

// TestTornDumpAtVerify cannot see the result and therefore undoes it.
func TestTornDumpAtVerify(t *testing.T) {
	w := newWorld(t)
	start := w.text()
	_, r, err := w.apply(t.Context(), &faulty{Kernel: w.k, torn: snapshotTries}, first())
	if !errors.Is(err, errTorn) || !r.Undone {
		t.Fatalf("%v, %+v", err, r)
	}
	w.same("afterwards", start)
	if _, _, err := w.apply(t.Context(), &faulty{Kernel: w.k, torn: snapshotTries - 1}, first()); err != nil {
		t.Fatal(err)
	}
}

// TestApplyAgainWritesNothing is the no-op: not even an attempt.
func TestApplyAgainWritesNothing(t *testing.T) {
	w := newWorld(t)
	if _, _, err := w.apply(t.Context(), w.k, first()); err != nil {
		t.Fatal(err)
	}
	f := &faulty{Kernel: w.k, fail: func(int, *netstate.Change) error { return errRefused }}
	if _, r, err := w.apply(t.Context(), f, first()); err != nil || r.Ops != 0 {
		t.Errorf("%v, %+v", err, r)
	}
}
