package kernel_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/kernel"
	"github.com/viarule/viarule/internal/netnstest"
)

func TestEnterAndLeave(t *testing.T) {
	netnstest.New(t, netnstest.Mounts())
	path := netnstest.Named(t, "pod")
	netnstest.IP(t, "-n pod link add here type bridge")
	own := thread(t)
	ns, err := kernel.Enter(path)
	if err != nil {
		t.Fatal(err)
	}
	c, err := kernel.Open("")
	if err != nil {
		t.Fatal(err)
	}
	if view(t, c).Link("here") == nil {
		t.Error("it is another namespace")
	}
	c.Close()
	dev, ino, err := ns.Identity()
	var st unix.Stat_t
	if serr := unix.Stat(path, &st); err != nil || serr != nil || dev != st.Dev || ino != st.Ino {
		t.Errorf("identity %d %d, %v; the file has %d %d, %v", dev, ino, err, st.Dev, st.Ino, serr)
	}
	// It is the one of this thread now.
	if _, err := kernel.Enter(path); !errors.Is(err, kernel.ErrOwnNamespace) {
		t.Errorf("enter it again: %v", err)
	}
	if err := ns.Leave(); err != nil {
		t.Fatal(err)
	}
	if now := thread(t); now != own {
		t.Errorf("came back to %s, from %s", now, own)
	}
	// And once more: nothing of the first time is in the way.
	if ns, err = kernel.Enter("pod"); err != nil {
		t.Fatal(err)
	}
	if err := ns.Leave(); err != nil {
		t.Fatal(err)
	}
}

// TestEnterAnyWay: the own namespace where that is allowed, and a thread that is kept by
// the caller.
func TestEnterAnyWay(t *testing.T) {
	netnstest.New(t, netnstest.Mounts())
	path := netnstest.Named(t, "pod")
	own := thread(t)
	for _, how := range []kernel.How{kernel.OwnToo, kernel.OwnToo | kernel.Pinned} {
		for _, to := range []string{path, "/proc/thread-self/ns/net"} {
			ns, err := kernel.Enter(to, how) // this test's thread is kept by netnstest.New
			if err != nil {
				t.Fatalf("%s: %v", to, err)
			}
			if inside := thread(t) != own; inside != (to == path) {
				t.Errorf("%s: in another namespace: %t", to, inside)
			}
			c, err := ns.Open()
			if err != nil {
				t.Fatal(err)
			}
			if view(t, c).Link("lo") == nil {
				t.Error("there is no lo")
			}
			c.Close()
			if err := ns.Leave(); err != nil || thread(t) != own {
				t.Errorf("came back to %s, from %s: %v", thread(t), own, err)
			}
		}
		if _, err := kernel.Enter("/run/netns/nowhere", how); !errors.Is(err, kernel.ErrNoNamespace) || thread(t) != own {
			t.Errorf("to nowhere: %v", err)
		}
	}
}

func thread(t *testing.T) string {
	t.Helper()
	s, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestEnterErrors(t *testing.T) {
	netnstest.New(t, netnstest.Mounts())
	if err := os.WriteFile("/run/netns/plain", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	own := thread(t)
	for _, tt := range []struct {
		path string
		want error
	}{
		{"/run/netns/nowhere", kernel.ErrNoNamespace},
		{"nowhere", kernel.ErrNoNamespace},
		{"/run/netns/plain", kernel.ErrNoNamespace},
		{"/run/netns", kernel.ErrNoNamespace},
		{"/proc/self/ns/mnt", kernel.ErrNoNamespace},
		{"/proc/thread-self/ns/net", kernel.ErrOwnNamespace},
		{"", kernel.ErrOwnNamespace},
	} {
		if _, err := kernel.Enter(tt.path); !errors.Is(err, tt.want) {
			t.Errorf("enter %q: %v, want %v", tt.path, err, tt.want)
		}
	}
	if now := thread(t); now != own {
		t.Errorf("an error left this thread in %s", now)
	}
}

func TestEnterWithoutPrivileges(t *testing.T) {
	netnstest.New(t, netnstest.Mounts())
	path := netnstest.Named(t, "pod")
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&hdr, &none[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := kernel.Enter(path); !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "root") {
		t.Errorf("%v does not say that root is needed", err)
	}
}

// TestNamespaceLock: flock(1), as another program, has the namespace locked by a path of
// its own.
func TestNamespaceLock(t *testing.T) {
	flock, err := exec.LookPath("flock")
	if err != nil {
		t.Fatal(err) // it is of util-linux, which every Debian has
	}
	netnstest.New(t, netnstest.Mounts())
	path := netnstest.Named(t, "pod")
	const other = "/run/another-path"
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(path, other, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	c := exec.Command(flock, other, "-c", "echo locked; read line")
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 16)); err != nil {
		t.Fatal(err)
	}
	ns, err := kernel.Enter(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
	defer cancel()
	if err := ns.Lock(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), path) {
		t.Errorf("lock what another program has locked: %v", err)
	}
	// It waits until the other program ends.
	got := make(chan error)
	go func() { got <- ns.Lock(context.Background()) }()
	in.Close()
	if err := <-got; err != nil {
		t.Error(err)
	}
	if err := c.Wait(); err != nil && !errors.As(err, new(*exec.ExitError)) { // read found no line
		t.Error(err)
	}
	// Now it is the other program that has to wait.
	try := func() error { return exec.Command(flock, "--nonblock", other, "true").Run() }
	if try() == nil {
		t.Error("two programs have the lock")
	}
	if err := ns.Leave(); err != nil {
		t.Fatal(err)
	}
	if err := try(); err != nil {
		t.Errorf("after Leave: %v", err)
	}
}
