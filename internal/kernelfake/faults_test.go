package kernelfake_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/kernelfake"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/netstate/netstatetest"
)

func changes(t *testing.T, lines ...string) []netstate.Change {
	t.Helper()
	var list []netstate.Change
	for _, l := range lines {
		list = append(list, netstatetest.ParseChange(t, l))
	}
	return list
}

// made lists the rules and routes of a fake.
func made(t *testing.T, k *kernelfake.Kernel) string {
	t.Helper()
	s, err := k.Snapshot(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	s.Links, s.Addrs = nil, nil
	return strings.TrimSpace(s.String())
}

func TestFailNext(t *testing.T) {
	k := open(t)
	k.FailNext(1, unix.ENOMEM)
	list := changes(t, "+ rule 1 from all table 1", "+ rule -6 2 from all table 2", "+ rule 3 from all table 3")
	n, failed := k.Apply(context.Background(), list)
	if n != 3 || len(failed) != 1 || failed[0].Index != 1 || !errors.Is(failed[0], unix.ENOMEM) {
		t.Errorf("attempted %d, failed %v", n, failed)
	}
	if got, want := made(t, k), "rule 1 from all table 1\nrule 3 from all table 3"; got != want {
		t.Errorf("made\n%s\nwant\n%s", got, want)
	}
	if n, failed = k.Apply(context.Background(), list[1:2]); n != 1 || len(failed) != 0 {
		t.Errorf("the fault comes twice: %v", failed)
	}
	calls := k.Calls()
	if len(calls) != 4 || !errors.Is(calls[1].Err, unix.ENOMEM) || calls[3].Err != nil || calls[3].Change.String() != "+ rule -6 2 from all table 2" {
		t.Errorf("calls %v", calls)
	}
}

func TestLoseNext(t *testing.T) {
	k := open(t)
	k.LoseNext(0)
	_, failed := k.Apply(context.Background(), changes(t, "+ rule 1 from all table 1"))
	if len(failed) != 1 || !errors.Is(failed[0], kernelfake.ErrLostAnswers) {
		t.Errorf("failed %v", failed)
	}
	if got := made(t, k); got != "rule 1 from all table 1" {
		t.Errorf("made %q, want the rule all the same", got)
	}
}

func TestTornDump(t *testing.T) {
	k := open(t)
	k.TornDump(2)
	for i, want := range []error{kernelfake.ErrTornDump, kernelfake.ErrTornDump, nil} {
		if _, err := k.Snapshot(context.Background()); !errors.Is(err, want) {
			t.Errorf("snapshot %d: %v, want %v", i, err, want)
		}
	}
}

// What a link takes along is in kerneltest; here is that it may go in mid-batch.
func TestLinkGoneBetweenChanges(t *testing.T) {
	k := open(t)
	k.BeforeNext(1, func(o kernelfake.Other) { o.LinkGone("v0") })
	n, failed := k.Apply(context.Background(), changes(t,
		"+ route 10.12.0.0/16 dev v0 table 1000 scope link",
		"+ route 10.13.0.0/16 via 10.1.0.9 table 1000",
		"+ rule 2 from all iif v0 table 1"))
	if n != 3 || len(failed) != 1 || failed[0].Index != 1 || !errors.Is(failed[0], unix.ENETUNREACH) {
		t.Errorf("attempted %d, failed %v", n, failed)
	}
	if got, want := made(t, k), "rule 2 from all iif v0 table 1"; got != want {
		t.Errorf("left\n%s\nwant\n%s", got, want)
	}
}

func TestBeforeNext(t *testing.T) {
	k := open(t)
	k.BeforeNext(0, func(o kernelfake.Other) {
		if err := o.Change(netstatetest.ParseChange(t, "+ route blackhole 10.9.0.0/16 table 1000 proto 99")); err != nil {
			t.Error(err)
		}
	})
	_, failed := k.Apply(context.Background(), changes(t, "+ route blackhole 10.9.0.0/16 table 1000 proto 118"))
	if len(failed) != 1 || !errors.Is(failed[0], unix.EEXIST) {
		t.Errorf("failed %v, want EEXIST", failed)
	}
	if n := len(k.Calls()); n != 1 {
		t.Errorf("%d calls, want only our own", n)
	}
}

// TestSnapshotIsACopy: what a test does with a snapshot does not reach the kernel.
func TestSnapshotIsACopy(t *testing.T) {
	k := open(t)
	const route = "route 10.10.0.0/16 nexthop via 10.1.0.9 dev v0 weight 1 nexthop via 10.2.0.9 dev v1 weight 1 table 1000"
	list := changes(t, "+ "+route)
	if _, failed := k.Apply(context.Background(), list); len(failed) > 0 {
		t.Fatal(failed)
	}
	list[0].Route.Hops[0].Dev = "changed"
	s, err := k.Snapshot(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	s.Routes[0].Hops[1].Dev = "changed"
	if got := made(t, k); got != route {
		t.Errorf("got %s", got)
	}
}
