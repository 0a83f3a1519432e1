package kernel_test

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/kernel"
	"github.com/viarule/viarule/internal/netnstest"
)

// TestSyncCarrier: behind it the end that was up first is in operation, each time. Without
// it some of a hundred are not yet.
func TestSyncCarrier(t *testing.T) {
	netnstest.New(t, netnstest.Mounts())
	netnstest.Named(t, "pod")
	host := openHere(t)
	here, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(here)
	ns, err := kernel.Enter("pod")
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Leave()
	pod, err := ns.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer pod.Close()
	up := func(c *kernel.Conn, dev string, index int) {
		t.Helper()
		s := &kernel.Setup{Dev: dev, Index: index}
		s.LinkUp()
		if refused, err := c.Setup(t.Context(), s); err != nil || len(refused) > 0 {
			t.Fatal(refused, err)
		}
	}
	for i := range 100 {
		name, peer := fmt.Sprintf("h%d", i), fmt.Sprintf("p%d", i)
		e, err := host.CreatePair(t.Context(), kernel.Pair{Name: name, Peer: peer}, ns)
		if err != nil {
			t.Fatal(err)
		}
		up(host, name, e.Index)
		up(pod, peer, e.PeerIndex)
		if err := host.SyncCarrier(name); err != nil {
			t.Fatal(err)
		}
		flags, err := unix.NewIfreq(name)
		if err == nil {
			err = unix.IoctlIfreq(here, unix.SIOCGIFFLAGS, flags)
		}
		if err != nil || flags.Uint16()&unix.IFF_RUNNING == 0 {
			t.Fatalf("%s is not in operation: flags %#x, %v", name, flags.Uint16(), err)
		}
	}
	for _, dev := range []string{"", "nowhere", "a/b", "a-name-that-is-too-long"} {
		if err := host.SyncCarrier(dev); err == nil {
			t.Errorf("there is no link %q", dev)
		}
	}
}
