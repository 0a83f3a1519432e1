package kerneltest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/viarule/viarule/internal/netstate"
)

// ports is how a link of somebody else becomes a port, and leaves. The master is a
// bridge, since every kernel of ours has that one.
func (o Options) ports(t *testing.T) {
	const bridge = "+ link 0 own kind bridge up alias viarule:CNI/own\n"
	for _, s := range []struct{ name, steps, want string }{
		{"enters", bridge + "~ link v0 master own", "v0 in own, v1 in , v2 in "},
		{"enters again", bridge + "~ link v0 master own\n~ link v0 master own", "v0 in own, v1 in , v2 in "},
		{"leaves", bridge + "~ link v0 master own\n~ link v0", "v0 in , v1 in , v2 in "},
		{"leaves what it was not in", bridge + "~ link v0", "v0 in , v1 in , v2 in "},
		{"goes from one to the other", bridge + "+ link 0 own2 kind bridge up alias viarule:CNI/own2\n~ link v0 master own\n~ link v0 master own2", "v0 in own2, v1 in , v2 in "},
		{"its master goes", bridge + "~ link v0 master own\n- link 0 own kind bridge alias viarule:CNI/own", "v0 in , v1 in , v2 in "},
		{"of what is not there", "ENODEV ~ link v0 master own\nENODEV ~ link v9", "v0 in , v1 in , v2 in "},
		{"of what has no ports", "EOPNOTSUPP ~ link v0 master v1", "v0 in , v1 in , v2 in "},
		{"no more in the same change", bridge + "EINVAL ~ link v0 up master own\nEINVAL ~ link v0 kind veth master own\nEINVAL + link v0 master own\nEINVAL - link v0 master own", "v0 in , v1 in , v2 in "},
	} {
		t.Run(s.name, func(t *testing.T) {
			k := o.Open(t)
			steps(t, k, s.steps)
			if got := masters(t, k); got != s.want {
				t.Errorf("after\n%s\ngot %s\nwant %s", s.steps, got, s.want)
			}
		})
	}
	t.Run("of a VRF: routes by it go, and its addresses of IPv6", func(t *testing.T) {
		if o.NoVRF {
			t.Skip("skipped: this kernel has no VRF")
		}
		k := o.Open(t)
		const gone = "+ route 10.9.0.0/16 dev v0 table 1000 proto 118 scope link\n+ route -6 2001:db8:9::/48 dev v0 table 1000 metric 1024 proto 118\n"
		for _, turn := range []struct{ change, master string }{{"~ link v0 master own", "own"}, {"~ link v0", ""}} {
			if turn.master != "" {
				steps(t, k, "+ link 0 own kind vrf up vrftable 1001 alias viarule:CNI/own")
			}
			steps(t, k, gone+"+ route 10.8.0.0/16 dev v1 table 1000 proto 118 scope link\n"+turn.change)
			if got, want := ours(t, k), canonicalText(t, "route 10.8.0.0/16 dev v1 table 1000 proto 118 scope link"); !strings.Contains(got, want) || strings.Contains(got, "10.9.0.0") || strings.Contains(got, "2001:db8:9::") {
				t.Errorf("after %s\n%s", turn.change, got)
			}
			if got := addresses(t, k, "v0"); strings.Contains(got, "2001:db8:1::1") || !strings.Contains(got, "10.1.0.1/24") {
				t.Errorf("after %s the addresses are\n%s", turn.change, got)
			}
			steps(t, k, "+ addr 2001:db8:1::1/64 dev v0 flags 0x2\n- route 10.8.0.0/16 dev v1 table 1000 proto 118 scope link")
		}
	})
}

// addresses is how those of IPv6 come and go.
func (o Options) addresses(t *testing.T) {
	for _, s := range []struct{ name, steps, want string }{
		{"another one", "+ addr 2001:db8:7::1/64 dev v0 flags 0x2", "2001:db8:1::1/64 0x82, 2001:db8:7::1/64 0x82"},
		{"twice", "EEXIST + addr 2001:db8:1::1/64 dev v0 flags 0x2\n~ addr 2001:db8:1::1/64 dev v0 flags 0x2\n~ addr 2001:db8:7::1/64 dev v0 flags 0x2", "2001:db8:1::1/64 0x82, 2001:db8:7::1/64 0x82"},
		{"replaced, with other flags", "~ addr 2001:db8:1::1/64 dev v0 flags 0x202", "2001:db8:1::1/64 0x282"},
		{"deprecated", "+ addr 2001:db8:7::1/64 dev v0 flags 0x22", "2001:db8:1::1/64 0x82, 2001:db8:7::1/64 0xa2"},
		{"goes, and comes as it was", "- addr 2001:db8:1::1/64 dev v0 flags 0x82\nEADDRNOTAVAIL - addr 2001:db8:1::1/64 dev v0\n~ addr 2001:db8:1::1/64 dev v0 flags 0x82", "2001:db8:1::1/64 0x82"},
		{"of another length, it does not go", "EADDRNOTAVAIL - addr 2001:db8:1::1/65 dev v0", "2001:db8:1::1/64 0x82"},
		{"of what is not there", "ENODEV + addr 2001:db8:7::1/64 dev v9\nENODEV - addr 2001:db8:7::1/64 dev v9", "2001:db8:1::1/64 0x82"},
		{"not of IPv4", "EAFNOSUPPORT + addr 10.7.0.1/24 dev v0\nEAFNOSUPPORT - addr 10.1.0.1/24 dev v0", "2001:db8:1::1/64 0x82"},
	} {
		t.Run(s.name, func(t *testing.T) {
			k := o.Open(t)
			steps(t, k, s.steps)
			var got []string
			for _, a := range of(t, k, "v0") {
				if a.Prefix.Addr().Is6() && !a.Prefix.Addr().IsLinkLocalUnicast() {
					got = append(got, fmt.Sprintf("%s %#x", a.Prefix, a.Flags|permanent))
				}
			}
			slices.Sort(got)
			if got := strings.Join(got, ", "); got != s.want {
				t.Errorf("after\n%s\ngot %s\nwant %s", s.steps, got, s.want)
			}
		})
	}
}

// permanent is IFA_F_PERMANENT, which the fixture leaves out.
const permanent = 0x80

func steps(t *testing.T, k Kernel, lines string) {
	t.Helper()
	for line := range strings.Lines(lines) {
		if line = strings.TrimSpace(line); line != "" {
			step(t, k, line)
		}
	}
}

// masters says of what v0, v1 and v2 are ports.
func masters(t *testing.T, k Kernel) string {
	t.Helper()
	s, err := k.Snapshot(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for i := range s.Links {
		if l := &s.Links[i]; slices.Contains([]string{"v0", "v1", "v2"}, l.Name) {
			list = append(list, l.Name+" in "+l.Master)
		}
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}

// of lists the addresses of a link.
func of(t *testing.T, k Kernel, dev string) []netstate.Addr {
	t.Helper()
	s, err := k.Snapshot(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(s.Addrs, func(a netstate.Addr) bool { return a.Dev != dev })
}

func addresses(t *testing.T, k Kernel, dev string) string {
	t.Helper()
	var b strings.Builder
	for _, a := range of(t, k, dev) {
		b.WriteString(a.String() + "\n")
	}
	return b.String()
}
