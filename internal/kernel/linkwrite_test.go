package kernel_test

import (
	"context"
	"errors"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/kernel"
	"github.com/viarule/viarule/internal/netnstest"
	"github.com/viarule/viarule/internal/netstate"
)

// linkTexts lists the links of a namespace but lo, without numbers and random
// addresses.
func linkTexts(t *testing.T, c *kernel.Conn) string {
	t.Helper()
	var b strings.Builder
	for _, l := range snapshot(t, c).Links {
		if l.Loopback {
			continue
		}
		l.Index = 0
		if !strings.HasPrefix(l.MAC, "02:00:00:00:00:") {
			l.MAC = ""
		}
		if strings.HasPrefix(l.Parent, "if") {
			l.Parent = "elsewhere"
		}
		b.WriteString(l.String() + "\n")
	}
	return b.String()
}

func TestLinks(t *testing.T) {
	netnstest.New(t, netnstest.Mounts())
	netnstest.Named(t, "other")
	ctx := context.Background()
	c, other := openNamed(t, ""), openNamed(t, "other")
	check := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	up, down, none := true, false, ""
	check("bridge", c.CreateLink(ctx, kernel.LinkSpec{Name: "br0", Kind: "bridge", Up: true, MAC: "02:00:00:00:00:01"}))
	check("veth", c.CreateLink(ctx, kernel.LinkSpec{
		Name: "a", Kind: "veth", Up: true, MTU: 1400, MAC: "02:00:00:00:00:02", Master: "br0",
		Peer: "b", PeerNetns: "other", PeerMAC: "02:00:00:00:00:03",
	}))
	check("second veth", c.CreateLink(ctx, kernel.LinkSpec{Name: "c", Kind: "veth", Peer: "d"}))
	check("macvlan", other.CreateLink(ctx, kernel.LinkSpec{Name: "mv", Kind: "macvlan", Parent: "b", MAC: "02:00:00:00:00:04"}))
	check("set up", other.SetLink(ctx, "b", kernel.LinkUpdate{Up: &up}))
	mac, mtu, name, netns := "02:00:00:00:00:05", uint32(1300), "e", "other"
	check("move and rename", c.SetLink(ctx, "d", kernel.LinkUpdate{Netns: &netns, Name: &name, MAC: &mac, MTU: &mtu}))

	for _, tt := range []struct {
		c    *kernel.Conn
		want string
	}{
		{c, `
link br0 kind bridge mac 02:00:00:00:00:01 mtu 1400 up carrier
link a kind veth mac 02:00:00:00:00:02 mtu 1400 up carrier master br0 parent elsewhere
link c kind veth mtu 1500 parent elsewhere
`},
		{other, `
link b kind veth mac 02:00:00:00:00:03 mtu 1400 up carrier parent elsewhere
link mv kind macvlan mac 02:00:00:00:00:04 mtu 1400 parent b
link e kind veth mac 02:00:00:00:00:05 mtu 1300 parent elsewhere
`},
	} {
		// The kernel notices the carrier of a bridge a little later (linkwatch).
		got := ""
		for end := time.Now().Add(10 * time.Second); ; runtime.Gosched() {
			if got = strings.ReplaceAll(linkTexts(t, tt.c), "link 0 ", "link "); sorted(got) == sorted(tt.want) {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("got:\n%s\nwant:%s", got, tt.want)
			}
		}
	}

	check("take from the bridge, set down", c.SetLink(ctx, "a", kernel.LinkUpdate{Master: &none, Up: &down}))
	check("delete", c.DeleteLink(ctx, "c"))
	if got := linkTexts(t, c); strings.Contains(got, "master") || strings.Contains(got, " c kind") || !strings.Contains(got, "mac 02:00:00:00:00:02 mtu 1400 parent") {
		t.Errorf("after taking a from the bridge and deleting c:\n%s", got)
	}
	if got := linkTexts(t, other); strings.Contains(got, " e kind") {
		t.Errorf("the peer of a deleted veth is still there:\n%s", got)
	}

	for _, tt := range []struct {
		what string
		err  error
		want error
	}{
		{"a name that is taken", c.CreateLink(ctx, kernel.LinkSpec{Name: "br0", Kind: "bridge"}), unix.EEXIST},
		{"no such master", c.CreateLink(ctx, kernel.LinkSpec{Name: "x", Kind: "bridge", Master: "nolink"}), unix.ENODEV},
		{"no such link", c.SetLink(ctx, "nolink", kernel.LinkUpdate{Up: &up}), unix.ENODEV},
		{"no such link to delete", c.DeleteLink(ctx, "nolink"), unix.ENODEV},
		{"no such namespace", c.SetLink(ctx, "a", kernel.LinkUpdate{Netns: &name}), kernel.ErrNoNamespace},
		{"no such namespace for the peer", c.CreateLink(ctx, kernel.LinkSpec{Name: "x", Kind: "veth", Peer: "y", PeerNetns: "nowhere"}), kernel.ErrNoNamespace},
		{"no kind", c.CreateLink(ctx, kernel.LinkSpec{Name: "x"}), unix.EINVAL},
		{"a kind from nowhere", c.CreateLink(ctx, kernel.LinkSpec{Name: "x", Kind: "zeppelin"}), kernel.ErrNotSupported},
		{"a long name", c.CreateLink(ctx, kernel.LinkSpec{Name: "sixteen-letters-", Kind: "bridge"}), unix.EINVAL},
		{"a bad address", c.CreateLink(ctx, kernel.LinkSpec{Name: "x", Kind: "bridge", MAC: "zz"}), unix.EINVAL},
		{"a veth without a peer", c.CreateLink(ctx, kernel.LinkSpec{Name: "x", Kind: "veth"}), unix.EINVAL},
	} {
		if !errors.Is(tt.err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.what, tt.err, tt.want)
		}
	}
	if err := c.DeleteLink(ctx, "nolink"); err == nil || err.Error() != "delete link nolink: no link named nolink in this namespace" {
		t.Errorf("delete nolink: %v", err)
	}
}

func sorted(lines string) string {
	list := strings.Fields(strings.ReplaceAll(strings.TrimSpace(lines), " ", "\x00"))
	for i := range list {
		for j := i; j > 0 && list[j] < list[j-1]; j-- {
			list[j], list[j-1] = list[j-1], list[j]
		}
	}
	return strings.Join(list, "\n")
}

// TestKindsThatKernelsLack: this kernel either has a kind or says that it lacks it.
func TestKindsThatKernelsLack(t *testing.T) {
	ctx := context.Background()
	c := open(t)
	for _, tt := range []struct {
		spec kernel.LinkSpec
		want string
	}{
		{kernel.LinkSpec{Name: "x", Kind: "dummy", MTU: 1400}, "link x kind dummy mtu 1400"},
		{kernel.LinkSpec{Name: "x", Kind: "vlan", Parent: "v0", VLAN: 100}, "link x kind vlan mtu 1500 parent v0 vlan 100"},
		{kernel.LinkSpec{Name: "x", Kind: "vrf", VRFTable: 70000}, "link x kind vrf mtu 65575 noarp vrf 70000"},
	} {
		t.Run(tt.spec.Kind, func(t *testing.T) {
			err := c.CreateLink(ctx, tt.spec)
			if errors.Is(err, kernel.ErrNotSupported) {
				t.Skipf("skipped: %v", err)
			}
			if err != nil {
				t.Fatal(err)
			}
			defer c.DeleteLink(ctx, "x")
			for _, l := range snapshot(t, c).Links {
				if l.Name != "x" {
					continue
				}
				l.Index, l.MAC = 0, ""
				if got := strings.Replace(l.String(), "link 0 ", "link ", 1); !strings.HasPrefix(got, tt.want[:len("link x kind ")+len(tt.spec.Kind)]) ||
					l.VLAN != tt.spec.VLAN || l.VRFTable != tt.spec.VRFTable || l.Parent != tt.spec.Parent || tt.spec.MTU != 0 && l.MTU != tt.spec.MTU {
					t.Errorf("got %s, want %s", got, tt.want)
				}
			}
		})
	}
}

// TestSnapshotTellsFlagsOfAddresses holds that what keeps an IPv6 address from being
// a source is seen: that it is deprecated, or still tentative.
func TestSnapshotTellsFlagsOfAddresses(t *testing.T) {
	c := open(t)
	netnstest.Exec(t, "sysctl", "-qw", "net.ipv6.neigh.v0.retrans_time_ms=3600000") // for which an address is tentative
	netnstest.IP(t,
		"addr add 2001:db8:7::1/64 dev v0 nodad valid_lft forever preferred_lft 0",
		"addr add 2001:db8:7::2/64 dev v0 nodad",
		"addr add 2001:db8:7::3/64 dev v0")
	want := map[string]uint32{
		"2001:db8:7::1/64": unix.IFA_F_PERMANENT | unix.IFA_F_NODAD | unix.IFA_F_DEPRECATED,
		"2001:db8:7::2/64": unix.IFA_F_PERMANENT | unix.IFA_F_NODAD,
		"2001:db8:7::3/64": unix.IFA_F_PERMANENT | unix.IFA_F_TENTATIVE,
	}
	for _, a := range snapshot(t, c).Addrs {
		flags, ok := want[a.Prefix.String()]
		if !ok {
			continue
		}
		if a.Flags != flags {
			t.Errorf("%s: flags %#x, want %#x", a.Prefix, a.Flags, flags)
		}
		delete(want, a.Prefix.String())
	}
	if len(want) > 0 {
		t.Errorf("not seen: %v", want)
	}
}

func TestAddAddr(t *testing.T) {
	c := open(t)
	ctx := context.Background()
	for _, text := range []string{
		"addr 10.7.0.1/24 dev v0 label v0:x flags 0x80",
		"addr 10.8.0.1/32 dev v0 peer 10.8.0.2/32 label v0 flags 0x80",
		"addr 2001:db8:7::1/64 dev v0 flags 0x82",
		"addr 2001:db8:8::1/128 dev v0 peer 2001:db8:8::2/128 flags 0x82",
	} {
		a, err := netstate.ParseAddr(text)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.AddAddr(ctx, a); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		found := false
		for _, got := range snapshot(t, c).Addrs {
			found = found || got == a
		}
		if !found {
			t.Errorf("%s is not among\n%v", text, snapshot(t, c).Addrs)
		}
		if err := c.AddAddr(ctx, a); !errors.Is(err, unix.EEXIST) {
			t.Errorf("%s again: %v, want %v", text, err, unix.EEXIST)
		}
	}
	for _, tt := range []struct {
		give netstate.Addr
		want error
	}{
		{netstate.Addr{Dev: "nolink", Prefix: netip.MustParsePrefix("10.7.0.1/24")}, unix.ENODEV},
		{netstate.Addr{Dev: "v0"}, unix.EINVAL},
		{netstate.Addr{Prefix: netip.MustParsePrefix("10.7.0.1/24")}, unix.EINVAL},
		{netstate.Addr{Dev: "v0", Prefix: netip.MustParsePrefix("10.7.0.1/24"), Peer: netip.MustParsePrefix("2001:db8::1/64")}, unix.EINVAL},
	} {
		if err := c.AddAddr(ctx, tt.give); !errors.Is(err, tt.want) {
			t.Errorf("%v: %v, want %v", tt.give, err, tt.want)
		}
	}
}
