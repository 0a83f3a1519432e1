package hostlocal

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/viarule/viarule/internal/cni"
)

// read reads a configuration whose files are below a folder of the test.
func read(t testing.TB, base, text, args string) (*Config, error) {
	t.Helper()
	d, err := cni.ReadDocument("stdin", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	c, err := Read("pods", d, args)
	if err != nil {
		return nil, err
	}
	c.Store = storeIn(base)
	return c, nil
}

func storeIn(base string) *Store {
	return &Store{base: base + "/cni", below: []string{"networks", "pods"}, index: base + "/run/index"}
}

func mustRead(t testing.TB, base, text string) *Config {
	t.Helper()
	c, err := read(t, base, text, "")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func mustAdd(t testing.TB, c *Config, a Attachment) string {
	t.Helper()
	r, err := c.Add(context.Background(), a)
	if err != nil {
		t.Fatal(err)
	}
	return addresses(r)
}

func addresses(r *cni.Result) string {
	var out []string
	for _, ip := range r.IPs {
		out = append(out, ip.Address.String()+" via "+ip.Gateway.String())
	}
	return strings.Join(out, ", ")
}

// files are the allocations, and what is beside them but the lock.
func files(t testing.TB, s *Store) (list []string) {
	t.Helper()
	names, err := os.ReadDir(s.String())
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for _, n := range names {
		if n.Name() == lockName {
			continue
		}
		b, err := os.ReadFile(filepath.Join(s.String(), n.Name()))
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, fmt.Sprintf("%s %q", n.Name(), b))
	}
	return list
}

const dual = `{"ipam": {"type": "host-local", "ranges": [[{"subnet": "10.1.0.0/29"}], [{"subnet": "2001:db8:1::/64"}]], "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0", "gw": "2001:db8:1::1", "mtu": 1400, "scope": 0}]}}`

func TestAddAndDel(t *testing.T) {
	base := t.TempDir()
	c := mustRead(t, base, dual)
	a := Attachment{ContainerID: "c1", IfName: "eth0"}
	if got := mustAdd(t, c, a); got != "10.1.0.2/29 via 10.1.0.1, 2001:db8:1::2/64 via 2001:db8:1::1" {
		t.Error(got)
	}
	if got, want := files(t, c.Store), []string{`10.1.0.2 "c1\r\neth0"`, `2001:db8:1::2 "c1\r\neth0"`, `last_reserved_ip.0 "10.1.0.2"`, `last_reserved_ip.1 "2001:db8:1::2"`}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if _, err := c.Add(context.Background(), a); err == nil || !strings.Contains(err.Error(), "10.1.0.2 has been allocated to c1, duplicate allocation is not allowed") {
		t.Errorf("again: %v", err)
	}
	if err := c.Check(context.Background(), a); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := c.Del(context.Background(), a); err != nil {
			t.Error(err)
		}
		if err := c.Check(context.Background(), a); err == nil {
			t.Error("CHECK finds what DEL removed")
		}
	}
	if got, want := files(t, c.Store), []string{`last_reserved_ip.0 "10.1.0.2"`, `last_reserved_ip.1 "2001:db8:1::2"`}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if got := mustAdd(t, c, a); got != "10.1.0.3/29 via 10.1.0.1, 2001:db8:1::3/64 via 2001:db8:1::1" {
		t.Errorf("round robin: %s", got)
	}
}

// TestDelWithoutFolder: DEL, CHECK, GC and STATUS make none.
func TestDelWithoutFolder(t *testing.T) {
	base := t.TempDir()
	c := mustRead(t, base, dual)
	ctx, a := context.Background(), Attachment{ContainerID: "c1", IfName: "eth0"}
	if err := c.Del(ctx, a); err != nil {
		t.Error(err)
	}
	if err := c.GC(ctx, nil); err != nil {
		t.Error(err)
	}
	if err := c.Status(); err != nil {
		t.Error(err)
	}
	if err := c.Check(ctx, a); err == nil {
		t.Error("CHECK finds an address")
	}
	if list, err := os.ReadDir(base); err != nil || len(list) > 0 {
		t.Errorf("%v, %v", list, err)
	}
}

// TestAddThatFailsReleases: what an ADD took before it failed is free again, and what
// the attachment had before is not.
func TestAddThatFailsReleases(t *testing.T) {
	const full = `{"ipam": {"ranges": [[{"subnet": "2001:db8:1::/64"}], [{"subnet": "10.1.0.0/30"}]]}}`
	base := t.TempDir()
	c := mustRead(t, base, full)
	mustAdd(t, c, Attachment{ContainerID: "c1", IfName: "eth0"})
	before := files(t, c.Store)
	_, err := c.Add(context.Background(), Attachment{ContainerID: "c2", IfName: "eth0"})
	if err == nil || !strings.Contains(err.Error(), "no IP addresses available in range set: 10.1.0.1-10.1.0.2") {
		t.Errorf("%v", err)
	}
	before[len(before)-2] = `last_reserved_ip.0 "2001:db8:1::3"` // as the reference has it then
	if got := files(t, c.Store); !slices.Equal(got, before) {
		t.Errorf("%q\nbefore %q", got, before)
	}
	c, err = read(t, base, full, "IP=2001:db8:1::9")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Add(context.Background(), Attachment{ContainerID: "c1", IfName: "eth0"}); err == nil {
		t.Error("a second ADD works")
	}
	if err := c.Check(context.Background(), Attachment{ContainerID: "c1", IfName: "eth0"}); err != nil {
		t.Error(err)
	}
}

// TestHeldLock: an ADD waits no longer for the lock than its context lives.
func TestHeldLock(t *testing.T) {
	base := t.TempDir()
	c := mustRead(t, base, dual)
	f, err := c.open(context.Background(), true)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := c.Add(ctx, Attachment{ContainerID: "c1", IfName: "eth0"}); err == nil || !strings.Contains(err.Error(), "which another program holds") {
		t.Errorf("%v", err)
	}
	f.close()
	mustAdd(t, c, Attachment{ContainerID: "c1", IfName: "eth0"})
}

// TestLinksAreNotFollowed: neither on the way to the folder, nor in it.
func TestLinksAreNotFollowed(t *testing.T) {
	for _, link := range []string{"cni/networks", "cni/networks/pods", "cni/networks/pods/lock", "cni/networks/pods/last_reserved_ip.0"} {
		base := t.TempDir()
		c := mustRead(t, base, dual)
		elsewhere := filepath.Join(base, "elsewhere")
		if err := os.Mkdir(elsewhere, 0o755); err != nil {
			t.Fatal(err)
		}
		at := filepath.Join(base, link)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		to := elsewhere
		if strings.Contains(link, "pods/") {
			to = filepath.Join(elsewhere, "file")
		}
		if err := os.Symlink(to, at); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Add(context.Background(), Attachment{ContainerID: "c1", IfName: "eth0"}); err == nil {
			t.Errorf("%s: it is followed", link)
		}
		if list, _ := os.ReadDir(elsewhere); len(list) > 0 {
			t.Errorf("%s: there is %v now", link, list)
		}
	}
}

// TestPipesAreNotWaitedFor: what has the name of an address, or of the file of the last one,
// and is a pipe that nobody writes to is no allocation.
func TestPipesAreNotWaitedFor(t *testing.T) {
	for _, name := range []string{"10.1.0.2", "2001:db8:1::2", "last_reserved_ip.0", "lock"} {
		base := t.TempDir()
		c := mustRead(t, base, dual)
		dir := filepath.Join(base, "cni/networks/pods")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mkfifo(filepath.Join(dir, name), 0o600); err != nil {
			t.Fatal(err)
		}
		a := Attachment{ContainerID: "c1", IfName: "eth0"}
		if r, err := c.Add(context.Background(), a); err == nil {
			for _, ip := range r.IPs {
				if ip.Address.Addr().String() == name {
					t.Errorf("%s is given out", name)
				}
			}
		}
		if err := c.Del(context.Background(), a); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestIndexSaysWhatTheFilesSay: whatever this program and others do to the folder, and
// wherever one of them is killed, find gives what the files say.
func TestIndexSaysWhatTheFilesSay(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		base, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			rt.Fatal(err)
		}
		s := storeIn(base)
		ctx := context.Background()
		owners := rapid.SampledFrom([]string{"a\r\neth0", "a\r\neth1", "a", "b\r\neth0", "b", ""})
		address := rapid.Custom(func(rt *rapid.T) netip.Addr {
			n := byte(rapid.IntRange(1, 200).Draw(rt, "n"))
			if rapid.Bool().Draw(rt, "v6") {
				return netip.AddrFrom16([16]byte{0: 0x20, 15: n})
			}
			return netip.AddrFrom4([4]byte{10, 0, 0, n})
		})
		for range rapid.IntRange(1, 14).Draw(rt, "steps") {
			f, err := s.open(ctx, true)
			if err != nil {
				rt.Fatal(err)
			}
			path := func(a netip.Addr) string { return filepath.Join(s.String(), a.String()) }
			switch rapid.SampledFrom([]string{"take", "take", "take many", "remove", "other takes", "other removes", "gc"}).Draw(rt, "step") {
			case "take":
				owner, a := owners.Draw(rt, "owner"), address.Draw(rt, "address")
				if err := f.stage(owner); err != nil {
					rt.Fatal(err)
				}
				if ok, _ := f.place(a); ok {
					f.index.add(entry{hash(owner), a})
				}
				if rapid.Bool().Draw(rt, "killed") {
					unix.Close(f.dir)
					unix.Close(f.lock)
					continue
				}
			case "take many": // more than the index has room for
				for n := range 140 {
					owner := fmt.Sprintf("m%d\r\neth0", n)
					if err := f.stage(owner); err != nil {
						rt.Fatal(err)
					}
					a := netip.AddrFrom4([4]byte{10, 1, byte(n >> 8), byte(n)})
					if ok, _ := f.place(a); ok {
						f.index.add(entry{hash(owner), a})
					}
				}
			case "remove":
				owner := owners.Draw(rt, "owner")
				held, err := f.find(owner)
				if err != nil {
					rt.Fatal(err)
				}
				for _, a := range held {
					if err := f.remove(a, owner); err != nil {
						rt.Fatal(err)
					}
				}
			case "gc":
				keep := owners.Draw(rt, "keep")
				if err := f.sweep(func(o string) bool { return o == keep }); err != nil {
					rt.Fatal(err)
				}
			case "other takes":
				unix.Close(f.dir)
				if file, err := os.OpenFile(path(address.Draw(rt, "address")), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); err == nil {
					fmt.Fprintln(file, owners.Draw(rt, "owner"))
					file.Close()
				}
				unix.Close(f.lock)
				continue
			case "other removes":
				unix.Close(f.dir)
				_ = os.Remove(path(address.Draw(rt, "address")))
				unix.Close(f.lock)
				continue
			}
			f.close()
			check(rt, s, slices.Values([]string{"a\r\neth0", "a\r\neth1", "a", "b\r\neth0", "b", "m7\r\neth0", "m139\r\neth0"}))
		}
	})
}

// check holds find against the files.
func check(rt *rapid.T, s *Store, owners func(func(string) bool)) {
	f, err := s.open(context.Background(), true)
	if err != nil {
		rt.Fatal(err)
	}
	defer f.close()
	for owner := range owners {
		var want []netip.Addr
		if err := f.each(func(a netip.Addr, has string) {
			if has == owner {
				want = append(want, a)
			}
		}); err != nil {
			rt.Fatal(err)
		}
		got, err := f.find(owner)
		if err != nil {
			rt.Fatal(err)
		}
		slices.SortFunc(got, netip.Addr.Compare)
		slices.SortFunc(want, netip.Addr.Compare)
		if !slices.Equal(got, want) {
			rt.Fatalf("%q has %v, and the files say %v", owner, got, want)
		}
	}
}

// TestIndexStands: where nobody else was at the folder, the index counts.
func TestIndexStands(t *testing.T) {
	base := t.TempDir()
	c := mustRead(t, base, dual)
	counts := func(want bool, after string) {
		t.Helper()
		f, err := c.open(context.Background(), false)
		if err != nil {
			t.Fatal(err)
		}
		defer f.close()
		if f.index.counts() != want {
			t.Errorf("after %s: the index counts: %t", after, !want)
		}
	}
	ctx := context.Background()
	mustAdd(t, c, Attachment{ContainerID: "c1", IfName: "eth0"})
	counts(true, "ADD")
	mustAdd(t, c, Attachment{ContainerID: "c2", IfName: "eth0"})
	counts(true, "another ADD")
	if err := c.Del(ctx, Attachment{ContainerID: "c1", IfName: "eth0"}); err != nil {
		t.Fatal(err)
	}
	counts(true, "DEL")
	if _, err := c.Add(ctx, Attachment{ContainerID: "c2", IfName: "eth0"}); err == nil {
		t.Error("a second ADD works")
	}
	counts(true, "an ADD that failed")
	if err := os.WriteFile(filepath.Join(c.String(), "10.1.0.6"), []byte("c9\r\neth0"), 0o600); err != nil {
		t.Fatal(err)
	}
	counts(false, "another's ADD")
	if err := c.GC(ctx, []Attachment{{ContainerID: "c2", IfName: "eth0"}}); err != nil {
		t.Fatal(err)
	}
	counts(true, "GC")
	if got := files(t, c.Store); len(got) != 4 {
		t.Errorf("%q", got)
	}
}
