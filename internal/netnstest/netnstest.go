// Package netnstest gives a test a network namespace of its own.
//
// New moves the calling goroutine to a fresh namespace in which only lo exists
// and is up. Child processes and sockets that the test makes are born there.
// The goroutine stays locked to its thread for good, and Go ends such a thread
// with its goroutine: no other test can ever run in a namespace that was left
// over, and the kernel removes the namespace when the thread has gone. There is
// nothing to clean up, also when a test panics.
//
// What New cannot do is to move goroutines that the test starts: they run on
// other threads, in the host's namespace. Code under test that does netlink in
// goroutines of its own must open its socket in the test's goroutine first.
//
// With Mounts the test has a mount namespace too, in which /run is empty and /etc
// is a copy, so that whole programs can be tested without a trace
// on the host. Named namespaces (`ip netns`) exist only there:
//
//	netnstest.New(t, netnstest.Mounts())
//	netnstest.Named(t, "host") // program --netns host, ip -n host ...
package netnstest

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Option changes what New sets up.
type Option func(*config)

type config struct {
	mounts bool
	tmpfs  []string
}

// Mounts gives the test a private mount namespace with an empty tmpfs on /run
// and a writable copy of /etc. Each folder of more, which must exist, is
// hidden below an empty tmpfs as well.
func Mounts(more ...string) Option {
	return func(c *config) {
		c.mounts = true
		c.tmpfs = append(c.tmpfs, more...)
	}
}

// New moves the calling test to a new network namespace with lo up. It must be
// called in the test's own goroutine. It skips the test only where it does not
// run as root.
func New(t testing.TB, opts ...Option) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("skipped: needs root, to make a network namespace")
	}
	var c config
	for _, o := range opts {
		o(&c)
	}
	// Never unlocked: see the package comment.
	runtime.LockOSThread()
	flags := unix.CLONE_NEWNET
	if c.mounts {
		flags |= unix.CLONE_NEWNS
	}
	if err := unix.Unshare(flags); err != nil {
		t.Fatalf("make a network namespace: %v", err)
	}
	if c.mounts {
		privateMounts(t, c.tmpfs)
	}
	loUp(t)
}

// Run runs f as a subtest in a new network namespace.
func Run(t *testing.T, name string, f func(t *testing.T), opts ...Option) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		New(t, opts...)
		f(t)
	})
}

// Named makes an empty network namespace, with lo up, that programs reach as
// /run/netns/NAME, and returns that path. The calling test needs Mounts, since
// /run would be the host's otherwise.
func Named(t testing.TB, name string) string {
	t.Helper()
	if !private(t) {
		t.Fatalf("named namespace %q: the test shares the host's /run; call New with Mounts", name)
	}
	if name == "" || name != filepath.Base(name) || name == "." || name == ".." {
		t.Fatalf("named namespace %q: not a file name", name)
	}
	path := filepath.Join("/run/netns", name)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o444)
	if err != nil {
		t.Fatalf("make a named namespace: %v", err)
	}
	f.Close()
	inNew(t, func() {
		loUp(t)
		if err := unix.Mount("/proc/thread-self/ns/net", path, "none", unix.MS_BIND, ""); err != nil {
			t.Fatalf("name the namespace %s: %v", path, err)
		}
	})
	return path
}

// In runs f in the named namespace that Named made, on the test's own thread.
func In(t testing.TB, name string, f func()) {
	t.Helper()
	back := openNS(t, "/proc/thread-self/ns/net")
	defer unix.Close(back)
	there := openNS(t, filepath.Join("/run/netns", name))
	defer unix.Close(there)
	setns(t, there)
	defer setns(t, back)
	f()
}

// Exec runs a program in the test's namespace and returns what it prints; a
// failure ends the test.
func Exec(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// IP runs `ip` with each line, for example "-6 rule add pref 77 lookup 77", in order.
// Lines with the same options that follow each other are one call, for programs are
// what takes the time of many tests.
func IP(t testing.TB, lines ...string) {
	t.Helper()
	for len(lines) > 0 {
		options, n := ipOptions(lines[0]), 1
		for n < len(lines) && batchable(lines[0]) && batchable(lines[n]) && slices.Equal(ipOptions(lines[n]), options) {
			n++
		}
		if n == 1 {
			Exec(t, "ip", strings.Fields(lines[0])...)
		} else {
			var text strings.Builder
			for _, line := range lines[:n] {
				text.WriteString(strings.Join(strings.Fields(line)[len(options):], " ") + "\n")
			}
			c := exec.Command("ip", append(slices.Clone(options), "-batch", "-")...)
			c.Stdin = strings.NewReader(text.String())
			if out, err := c.CombinedOutput(); err != nil {
				t.Fatalf("ip %s -batch -: %v\n%s%s", strings.Join(options, " "), err, out, text.String())
			}
		}
		lines = lines[n:]
	}
}

// ipOptions are the words in front of the object.
func ipOptions(line string) []string {
	words := strings.Fields(line)
	n := 0
	for n < len(words) && strings.HasPrefix(words[n], "-") {
		if words[n] == "-n" {
			n++ // its namespace
		}
		n++
	}
	return words[:min(n, len(words))]
}

// batchable says that a line means the same in a batch: there quotes and # are special,
// and `ip netns add` would take the lines behind it along into the new namespace.
func batchable(line string) bool {
	words := strings.Fields(line)[len(ipOptions(line)):]
	return !strings.ContainsAny(line, "\"'#\\") && len(words) > 0 && words[0] != "netns"
}

// inNew runs f on this thread in a new network namespace and comes back.
func inNew(t testing.TB, f func()) {
	t.Helper()
	back := openNS(t, "/proc/thread-self/ns/net")
	defer unix.Close(back)
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("make a network namespace: %v", err)
	}
	defer setns(t, back)
	f()
}

func openNS(t testing.TB, path string) int {
	t.Helper()
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatalf("open namespace %s: %v", path, err)
	}
	return fd
}

func setns(t testing.TB, fd int) {
	t.Helper()
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		t.Fatalf("enter a network namespace: %v", err)
	}
}

// loUp sets lo up with an ioctl: no dependency on the package under test.
func loUp(t testing.TB) {
	t.Helper()
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatalf("set lo up: %v", err)
	}
	defer unix.Close(s)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		t.Fatalf("set lo up: %v", err)
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, req); err != nil {
		t.Fatalf("set lo up: %v", err)
	}
}
