package kerneltest

import (
	"context"
	"strings"
	"syscall"
	"testing"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/netstate/netstatetest"
)

// ForwardFixture is what Options.Forward adds to a namespace, and ForwardNft the same
// in nft's language: forward chains of others, and a chain that is not one.
const (
	ForwardFixture = `
forward chain inet foreign passing priority 5 policy accept
forward chain ip filter FORWARD priority 0 policy drop
forward rule iifname "eth0" oifname != "eth1" accept
forward rule ct state established,related accept comment "somebody else's"
forward rule jump USER
forward rule iifname "v*" unknown payload . unknown cmp . drop
forward rule oifname "docker0" jump DOCKER
forward sub EMPTY
forward sub USER
forward rule goto EMPTY
forward chain ip6 filter FORWARD priority 0 policy drop
`
	ForwardNft = `
table inet foreign {
	chain passing { type filter hook forward priority filter + 5; policy accept; }
	chain coming { type filter hook input priority filter; policy drop; accept; }
}
table ip filter {
	chain EMPTY { }
	chain DOCKER { drop; }
	chain USER { counter goto EMPTY; }
	chain FORWARD {
		type filter hook forward priority filter; policy drop;
		iifname "eth0" oifname != "eth1" counter accept
		ct state related,established accept comment "somebody else's"
		log counter jump USER
		iifname "v*" ip saddr 10.9.9.9 drop
		oifname "docker0" jump DOCKER
	}
}
table ip6 filter {
	chain FORWARD { type filter hook forward priority filter; policy drop; }
}
`
)

// accepts is how rules of viarule's come into forward chains of others, and go.
func (o Options) accepts(t *testing.T) {
	const (
		in  = `accept ip filter FORWARD iifname via* comment "viarule PodNetwork/pods"`
		out = `accept ip filter FORWARD oifname via* comment "viarule PodNetwork/pods"`
		in6 = `accept ip6 filter FORWARD iifname via* comment "viarule PodNetwork/pods"`
		any = `accept inet foreign passing oifname via* comment "viarule PodNetwork/pods"`
	)
	line := func(accept string) string {
		a, err := netstate.ParseAccept(accept)
		if err != nil {
			t.Fatal(err)
		}
		r := a.Rule()
		return "forward rule " + r.String() + "\n"
	}
	// with gives the fixture with more rules behind the last line of its own of each
	// chain.
	last := map[string]string{"ip": "forward rule oifname \"docker0\" jump DOCKER\n", "ip6": "forward chain ip6 filter FORWARD priority 0 policy drop\n",
		"inet": "forward chain inet foreign passing priority 5 policy accept\n"}
	with := func(accepts ...string) string {
		text := ForwardFixture
		for i := len(accepts) - 1; i >= 0; i-- {
			behind := last[strings.Fields(accepts[i])[1]]
			text = strings.Replace(text, behind, behind+line(accepts[i]), 1)
		}
		return text
	}
	for _, s := range []struct{ name, steps, want string }{
		{"as others made it", "", with()},
		{"comes", "+ " + in, with(in)},
		{"several come", "+ " + in + "\n+ " + out + "\n+ " + in6 + "\n+ " + any, with(in, out, in6, any)},
		{"goes", "+ " + in + "\n+ " + out + "\n- " + in, with(out)},
		{"comes twice, and one goes", "+ " + in + "\n+ " + out + "\n+ " + in + "\n- " + in, with(in, out)},
		{"goes though it is not there", "ENOENT - " + in + "\n+ " + out + "\nENOENT - " + in, with(out)},
		{"of another object, it does not go", "+ " + in + "\nENOENT - " + strings.Replace(in, "pods", "other", 1), with(in)},
		{"into a chain that is not there", "ENOENT + " + strings.Replace(in, "FORWARD", "NONE", 1) + "\nENOENT + " + strings.Replace(in, "ip filter", "inet filter", 1), with()},
		{"into one that forwarded packets do not meet", "EINVAL + " + strings.Replace(any, "passing", "coming", 1) + "\nEINVAL + " + strings.Replace(in, "FORWARD", "USER", 1), with()},
		{"replaced", "EINVAL ~ " + in, with()},
	} {
		t.Run(s.name, func(t *testing.T) {
			k := o.Open(t)
			o.Forward(t, k)
			steps(t, k, s.steps)
			hasForward(t, k, s.want)
		})
	}
	t.Run("what must not be written", func(t *testing.T) {
		k := o.Open(t)
		o.Forward(t, k)
		good, err := netstate.ParseAccept(in)
		if err != nil {
			t.Fatal(err)
		}
		for name, change := range map[string]func(*netstate.Accept){
			"everything":             func(a *netstate.Accept) { a.In = "*" },
			"no name":                func(a *netstate.Accept) { a.In = "" },
			"both names":             func(a *netstate.Accept) { a.Out = a.In },
			"a whole name":           func(a *netstate.Accept) { a.In = "via0" },
			"a name that is long":    func(a *netstate.Accept) { a.In = "sixteen-letters-*" },
			"a name of two parts":    func(a *netstate.Accept) { a.In = "a*b*" },
			"a backslash":            func(a *netstate.Accept) { a.In = `via\*` },
			"no comment":             func(a *netstate.Accept) { a.Comment = "" },
			"somebody else's":        func(a *netstate.Accept) { a.Comment = "docker" },
			"a comment with a quote": func(a *netstate.Accept) { a.Comment += `"` },
			"a comment of 128":       func(a *netstate.Accept) { a.Comment = netstate.AcceptComment("A/" + strings.Repeat("a", 118)) },
			"bridges":                func(a *netstate.Accept) { a.Family = "bridge" },
			"no chain":               func(a *netstate.Accept) { a.Chain = "" },
		} {
			a := good
			change(&a)
			for _, v := range []netstate.Verb{netstate.Add, netstate.Delete} {
				n, failed := k.Apply(context.Background(), []netstate.Change{{Verb: v, Accept: &a}})
				if n != 1 || len(failed) != 1 || !isErrno(failed[0], syscall.EINVAL) {
					t.Errorf("%s: attempted %d, failed %v; want EINVAL", name, n, failed)
				}
			}
		}
		refused(t, k, netstate.Change{Verb: netstate.Add, Accept: &good, Sysctl: &netstate.Sysctl{}}, syscall.EINVAL)
		hasForward(t, k, with())
	})
	t.Run("with all others in one apply", func(t *testing.T) {
		k := o.Open(t)
		o.Forward(t, k)
		changes := []netstate.Change{
			netstatetest.ParseChange(t, "+ route 10.9.0.0/16 dev v0 table 1000 proto 118 scope link"),
			netstatetest.ParseChange(t, "+ "+in), netstatetest.ParseChange(t, "+ rule 1000 from all table 1000 proto 118"),
			netstatetest.ParseChange(t, "- "+in6), netstatetest.ParseChange(t, "+ "+out),
		}
		n, failed := k.Apply(context.Background(), changes)
		if n != 4 || len(failed) != 1 || failed[0].Index != 3 {
			t.Errorf("attempted %d, failed %v; want 4 and the last of them", n, failed)
		}
		hasForward(t, k, with(in))
	})
}

func hasForward(t *testing.T, k Kernel, want string) {
	t.Helper()
	s, err := k.Snapshot(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	w, err := netstate.ParseState(want)
	if err != nil {
		t.Fatal(err)
	}
	got := netstate.State{Forward: s.Forward}.String()
	if want := w.String(); got != want {
		t.Errorf("there is\n%s\nwant\n%s", got, want)
	}
}
