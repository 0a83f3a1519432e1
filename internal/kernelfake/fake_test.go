package kernelfake_test

import (
	"testing"

	"github.com/viarule/viarule/internal/kernelfake"
	"github.com/viarule/viarule/internal/kerneltest"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/netstate/netstatetest"
)

func open(t *testing.T) *kernelfake.Kernel {
	k := kernelfake.New(netstatetest.ParseState(t, kerneltest.Fixture))
	for _, key := range []string{"net/ipv4/conf/v0/rp_filter", "net/ipv6/conf/v0/accept_ra", "net/ipv4/conf/default/rp_filter", "net/ipv4/conf/default/src_valid_mark"} {
		k.SetSysctl(key, "0")
	}
	return k
}

func TestContract(t *testing.T) {
	kerneltest.Run(t, kerneltest.Options{
		Open:       func(t *testing.T) kerneltest.Kernel { return open(t) },
		DeleteLink: func(_ *testing.T, k kerneltest.Kernel, name string) { k.(*kernelfake.Kernel).LinkGone(name) },
		Forward: func(t *testing.T, k kerneltest.Kernel) {
			s, err := netstate.ParseState(kerneltest.ForwardFixture)
			if err != nil {
				t.Fatal(err)
			}
			k.(*kernelfake.Kernel).SetForward(s.Forward)
			k.(*kernelfake.Kernel).SetOtherChains(netstate.NftName{Family: "inet", Table: "foreign", Chain: "coming"})
		},
		Release: kerneltest.Release{Major: 6, Minor: 18},
	})
}
