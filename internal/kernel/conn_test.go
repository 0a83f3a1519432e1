package kernel_test

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/kernel"
	"github.com/viarule/viarule/internal/netnstest"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/netstate/netstatetest"
)

func openNamed(t *testing.T, name string) *kernel.Conn {
	t.Helper()
	c, err := kernel.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func snapshot(t *testing.T, c *kernel.Conn) netstate.State {
	t.Helper()
	s, err := c.Snapshot(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestNamedNamespaces(t *testing.T) {
	netnstest.New(t, netnstest.Mounts())
	if err := kernel.CreateNetns("one"); err != nil {
		t.Fatal(err)
	}
	if err := kernel.CreateNetns("two"); err != nil {
		t.Fatal(err)
	}
	if err := kernel.CreateNetns("one"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("create it again: %v, want %v", err, fs.ErrExist)
	}
	if got := strings.Fields(netnstest.Exec(t, "ip", "netns", "list")); !slices.Contains(got, "one") || !slices.Contains(got, "two") {
		t.Errorf("ip netns lists %q", got)
	}
	mounts, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	shared := false
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); f[4] == "/run/netns" {
			shared = strings.HasPrefix(f[6], "shared:") // the last one lies on top
		}
	}
	if !shared {
		t.Errorf("/run/netns does not propagate:\n%s", mounts)
	}

	own, one, two := openNamed(t, ""), openNamed(t, "one"), openNamed(t, "/run/netns/two")
	cookies := map[uint64]bool{}
	for _, c := range []*kernel.Conn{own, one, two} {
		cookie, err := c.Cookie()
		if err != nil {
			t.Fatal(err)
		}
		cookies[cookie] = true
	}
	if len(cookies) != 3 {
		t.Errorf("three namespaces have the cookies %v", cookies)
	}

	// Writes go where the Conn was opened for, from whatever thread.
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, failed := one.Apply(context.Background(), []netstate.Change{
			netstatetest.ParseChange(t, "+ rule 1000 from 192.0.2.1 table 1000 proto 118"),
			netstatetest.ParseChange(t, "+ rule -6 1000 from 2001:db8::1 table 1000 proto 118"),
			netstatetest.ParseChange(t, "~ sysctl net/ipv4/ip_forward = 1"),
			netstatetest.ParseChange(t, "~ sysctl net/ipv6/conf/all/forwarding = 1"),
		})
		if len(failed) > 0 {
			t.Error(failed)
		}
	}()
	<-done
	for _, tt := range []struct {
		c     *kernel.Conn
		rules int
		value string
	}{{one, 2, "1"}, {two, 0, "0"}, {own, 0, "0"}} {
		n := 0
		for _, r := range snapshot(t, tt.c).Rules {
			if r.Priority == 1000 {
				n++
			}
		}
		if n != tt.rules {
			t.Errorf("%d rules, want %d", n, tt.rules)
		}
		for _, key := range []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"} {
			if v, err := tt.c.ReadSysctl(key); err != nil || v != tt.value {
				t.Errorf("%s = %q, %v; want %q", key, v, err, tt.value)
			}
		}
	}

	if err := kernel.DeleteNetns("one"); err != nil {
		t.Fatal(err)
	}
	if err := kernel.DeleteNetns("one"); !errors.Is(err, kernel.ErrNoNamespace) {
		t.Errorf("delete it again: %v, want %v", err, kernel.ErrNoNamespace)
	}
	// A Conn keeps its namespace alive.
	if n := len(snapshot(t, one).Links); n != 1 {
		t.Errorf("%d links in a namespace that lost its name, want lo", n)
	}
}

func TestOpenErrors(t *testing.T) {
	netnstest.New(t, netnstest.Mounts())
	plain := filepath.Join("/run/netns", "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, want string }{
		{"nowhere", `open network namespace "nowhere": no such namespace; see ip netns`},
		{"/run/netns/nowhere", `open network namespace "/run/netns/nowhere": no such namespace; see ip netns`},
		{"plain", `open network namespace "plain": /run/netns/plain is no network namespace: no such namespace; see ip netns`},
		{"/proc/self/ns/mnt", `open network namespace "/proc/self/ns/mnt": /proc/self/ns/mnt is no network namespace: no such namespace; see ip netns`},
	} {
		c, err := kernel.Open(tt.name)
		if err == nil {
			c.Close()
			t.Errorf("%s opened", tt.name)
			continue
		}
		if err.Error() != tt.want || !errors.Is(err, kernel.ErrNoNamespace) {
			t.Errorf("got  %v\nwant %s", err, tt.want)
		}
	}
	for _, name := range []string{"", ".", "..", "a/b"} {
		if err := kernel.CreateNetns(name); !errors.Is(err, unix.EINVAL) {
			t.Errorf("create %q: %v, want %v", name, err, unix.EINVAL)
		}
		if err := kernel.DeleteNetns(name); !errors.Is(err, unix.EINVAL) {
			t.Errorf("delete %q: %v, want %v", name, err, unix.EINVAL)
		}
	}
}

// TestWithoutPrivileges takes all capabilities from the test's thread, which no
// other test ever gets.
func TestWithoutPrivileges(t *testing.T) {
	netnstest.New(t)
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&hdr, &none[0]); err != nil {
		t.Fatal(err)
	}
	c := openNamed(t, "")
	before := snapshot(t, c)
	n, failed := c.Apply(context.Background(), []netstate.Change{
		netstatetest.ParseChange(t, "+ rule 1000 from 192.0.2.1 table 1000 proto 118"),
		netstatetest.ParseChange(t, "+ rule -6 1000 from all l3mdev proto 118"),
		netstatetest.ParseChange(t, "+ route blackhole 192.0.2.0/24 table 1000 proto 118"),
	})
	if n != 3 || len(failed) != 3 {
		t.Errorf("attempted %d, failed %v; want three of both", n, failed)
	}
	for _, e := range failed {
		if !errors.Is(e, unix.EPERM) || !strings.Contains(e.Error(), "root") || errors.Is(e, kernel.ErrNotSupported) {
			t.Errorf("%v does not say that root is needed", e)
		}
	}
	_, failed = c.Apply(context.Background(), []netstate.Change{netstatetest.ParseChange(t, "+ rule 1000 from all dscp 3 table 1000 proto 118")})
	if len(failed) != 1 || !errors.Is(failed[0], unix.EPERM) {
		t.Errorf("a rule that is probed: %v, want %v", failed, unix.EPERM)
	}
	if err := c.CreateLink(context.Background(), kernel.LinkSpec{Name: "a", Kind: "bridge"}); !errors.Is(err, unix.EPERM) {
		t.Errorf("create a link: %v, want %v", err, unix.EPERM)
	}
	if after := snapshot(t, c); after.String() != before.String() {
		t.Errorf("it changed to\n%s", after)
	}
}

// TestUnknownAttribute: an attribute that this kernel would ignore is refused
// before it makes a rule that selects too much.
func TestUnknownAttribute(t *testing.T) {
	c := open(t)
	rules := []string{"rule 1000 from all table 1000 unknown 0800640000000000", "rule -6 1000 from all table 1000 unknown 0800640000000000"}
	if !release(t).AtLeast(6, 12) {
		rules = append(rules, "rule 1000 from all dscp 3 table 1000 proto 118", "rule -6 1000 from all dscp 0 table 1000 proto 118")
	}
	for _, rule := range rules {
		_, failed := c.Apply(context.Background(), []netstate.Change{netstatetest.ParseChange(t, "+ "+rule)})
		var f *kernel.FeatureError
		if len(failed) != 1 || !errors.As(failed[0], &f) || !errors.Is(failed[0], kernel.ErrNotSupported) {
			t.Errorf("%s: %v, want a FeatureError", rule, failed)
		}
	}
	for _, r := range snapshot(t, c).Rules {
		if r.Priority == 1000 {
			t.Errorf("it made %s", r)
		}
	}
}

// TestSnapshotUnderChange reads while others come and go: what stays is in every
// snapshot, once. The kernel marks such dumps of IPv4 routes only.
func TestSnapshotUnderChange(t *testing.T) {
	const many = 1500
	address := func(f netstate.Family, i, j int) netip.Prefix {
		if f == netstate.IPv6 {
			return netip.PrefixFrom(netip.AddrFrom16([16]byte{0: 0x20, 13: byte(j), 14: byte(i >> 8), 15: byte(i)}), 128)
		}
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(j), byte(i >> 8), byte(i)}), 32)
	}
	for _, f := range netstate.Families {
		for _, tt := range []struct {
			kind string
			make func(i, j int) netstate.Change
		}{
			{"rules", func(i, j int) netstate.Change {
				return netstate.Change{Rule: &netstate.Rule{
					Family: f, Priority: uint32(1000 + i), From: address(f, i, j),
					Action: netstate.ToTable, Table: 1000, Protocol: 118,
				}}
			}},
			{"routes", func(i, j int) netstate.Change {
				r := netstate.CanonicalRoute(netstate.Route{
					Family: f, Table: 1000, To: address(f, i, j), Type: netstate.RouteBlackhole, Protocol: 118,
				})
				return netstate.Change{Route: &r}
			}},
		} {
			t.Run(f.String()+" "+tt.kind, func(t *testing.T) {
				c := open(t)
				other := openNamed(t, "")
				var stay []netstate.Change
				want := map[string]bool{}
				for i := range many {
					ch := tt.make(i, 1)
					ch.Verb = netstate.Add
					stay = append(stay, ch)
					want[ch.String()[len("+ "):]] = true
				}
				if n, failed := c.Apply(context.Background(), stay); n != len(stay) || len(failed) > 0 {
					t.Fatal(n, failed)
				}
				// A burst of changes goes off beside each snapshot, so that the first
				// tries of it meet them and a later one does not.
				bursts, stopped := make(chan int), make(chan struct{})
				go func() {
					defer close(stopped)
					for burst := range bursts {
						for k := range 100 {
							ch := tt.make((burst*997+k*37)%many, 2*(k%2))
							for _, v := range []netstate.Verb{netstate.Add, netstate.Delete} {
								ch.Verb = v
								if _, failed := other.Apply(context.Background(), []netstate.Change{ch}); len(failed) > 0 {
									t.Errorf("%s: %v", ch, failed)
								}
							}
						}
					}
				}()
				for i := range 60 {
					bursts <- i
					s, err := c.Snapshot(context.Background())
					if errors.Is(err, kernel.ErrTornDump) {
						continue
					}
					if err != nil {
						t.Error(err)
						break
					}
					found := 0
					for _, r := range s.Rules {
						if want[r.String()] {
							found++
						}
					}
					for _, r := range s.Routes {
						if want[r.String()] {
							found++
						}
					}
					if found != many {
						t.Errorf("a snapshot has %d of the %d that were there all the time", found, many)
					}
				}
				close(bursts)
				<-stopped
			})
		}
	}
}

func TestSockets(t *testing.T) {
	c := open(t)
	comm, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	me := kernel.Owner{PID: os.Getpid(), Name: strings.TrimSpace(string(comm))}
	for _, tt := range []struct {
		listen string
		family netstate.Family
	}{{"127.0.0.1:0", netstate.IPv4}, {"[::1]:0", netstate.IPv6}} {
		t.Run(tt.family.String(), func(t *testing.T) {
			// Sockets are born in the namespace of the thread; a subtest has its own.
			netnstest.New(t)
			c := openNamed(t, "")
			l, err := net.Listen("tcp", tt.listen)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			client, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			server, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer server.Close()
			list, err := c.Sockets(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			port := func(a net.Addr) netip.AddrPort { return a.(*net.TCPAddr).AddrPort() }
			want := map[[2]netip.AddrPort]bool{
				{port(l.Addr()), {}}: true,
				{port(client.LocalAddr()), port(client.RemoteAddr())}: false,
				{port(server.LocalAddr()), port(server.RemoteAddr())}: false,
			}
			if len(list) != len(want) {
				t.Errorf("%d sockets, want %d", len(list), len(want))
			}
			for _, s := range list {
				listen, ok := want[[2]netip.AddrPort{s.Local, s.Remote}]
				if !ok || s.Listen != listen || s.Family != tt.family || s.UID != 0 || s.Inode == 0 {
					t.Errorf("unexpected %+v", s)
				}
				if !slices.Contains(s.Owners, me) {
					t.Errorf("%v is not held by %v but %v", s.Local, me, s.Owners)
				}
			}
		})
	}
	if list, err := c.Sockets(context.Background()); err != nil || len(list) != 0 {
		t.Errorf("a namespace without sockets has %v, %v", list, err)
	}
}
