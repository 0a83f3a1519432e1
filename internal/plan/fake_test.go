package plan

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/viarule/viarule/internal/desired"
	"github.com/viarule/viarule/internal/kernelfake"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/netstate/netstatetest"
)

// TestOnFake carries plans out on kernelfake, which kerneltest proves against a
// real kernel, and wants the model of these tests to agree with it after each.
func TestOnFake(t *testing.T) {
	host := netstatetest.ParseState(t, `
		link 1 eth0 mtu 1500 up carrier
		link 2 eth1 mtu 1500 up carrier
		addr 10.9.0.254/24 dev eth0
		addr 10.9.0.253/24 dev eth1
		addr 2001:db8:900::fe/64 dev eth0
		addr 2001:db8:900::fd/64 dev eth1
		route 10.9.0.0/24 dev eth0 table 254 metric 1 proto kernel scope link
		route 10.9.0.0/24 dev eth1 table 254 metric 2 proto kernel scope link
		route -6 2001:db8:900::/64 dev eth0 table 254 metric 256 proto kernel
		route -6 2001:db8:900::/64 dev eth1 table 254 metric 257 proto kernel`)
	rapid.Check(t, func(t *rapid.T) {
		k := newKernel(host, nil)
		drawForeign(t, k)
		state := k.state()
		state.Links, state.Addrs = host.Links, host.Addrs
		fake := kernelfake.New(state)
		adopt := rapid.Bool().Draw(t, "adopt")
		old := desired.Want{}
		for range 3 {
			want := drawWant(t, "want")
			want.Sysctls = nil
			p := Diff(input(k, want, union(old, want), adopt))
			carryOut(t, k, &p, nil)
			for i := range p.Ops {
				if _, failed := fake.Apply(t.Context(), []netstate.Change{p.Ops[i].Change}); len(failed) > 0 {
					t.Fatalf("%s: %v\nplan:\n%s", p.Ops[i].Change, failed[0], show(&p))
				}
			}
			s, err := fake.Snapshot(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			got, model := netstate.State{Rules: s.Rules, Routes: s.Routes}, netstate.State{Rules: k.rules, Routes: k.routes}
			if got.String() != model.String() {
				t.Fatalf("the fake has\n%sthe model\n%s", got, model)
			}
			old = want
		}
	})
}
