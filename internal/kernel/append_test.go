package kernel_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/netstate/netstatetest"
)

// TestAppend: a route comes behind those of its key, but not twice.
func TestAppend(t *testing.T) {
	c := open(t)
	apply := func(text string) error {
		_, failed := c.Apply(context.Background(), []netstate.Change{netstatetest.ParseChange(t, text)})
		if len(failed) > 0 {
			return failed[0]
		}
		return nil
	}
	for _, route := range []string{"route 10.9.0.0/16 dev v%s table 1000 proto 118 scope link", "route -6 2001:db8:9::/48 dev v%s table 1000 metric 1024 proto 118"} {
		on := func(n string) string { return strings.Replace(route, "%s", n, 1) }
		for _, text := range []string{"& " + on("1"), "& " + on("0")} {
			if err := apply(text); err != nil {
				t.Fatalf("%s: %v", text, err)
			}
		}
		for _, text := range []string{"& " + on("0"), "& " + on("1"), "+ " + on("0")} {
			if err := apply(text); !errors.Is(err, unix.EEXIST) {
				t.Errorf("%s: %v, want %v", text, err, unix.EEXIST)
			}
		}
		v := view(t, c)
		r := netstatetest.ParseRoute(t, on("0"))
		got, err := v.Routes(context.Background(), r.Family, 1000, "")
		if err != nil || len(got) != 2 || got[0].String() != on("1") || got[1].String() != on("0") {
			t.Errorf("%v, %v", got, err)
		}
	}
	rule := netstatetest.ParseRule(t, "rule 1000 from all table 1000")
	if _, failed := c.Apply(context.Background(), []netstate.Change{{Verb: netstate.Append, Rule: &rule}}); len(failed) != 1 || !errors.Is(failed[0], unix.EINVAL) {
		t.Errorf("append a rule: %v", failed)
	}
	if _, err := netstate.ParseChange("& " + rule.String()); err == nil {
		t.Error("the text form appends a rule")
	}
}
