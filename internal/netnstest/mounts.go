package netnstest

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const iprouteDir = "/etc/iproute2"

// privateMounts hides the host's /run, /etc and the given folders. All mounts are
// made private first: without that they would appear on the host.
func privateMounts(t testing.TB, more []string) {
	t.Helper()
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatalf("make the mounts private: %v", err)
	}
	const copied = "/etc"
	// The copy is built below /run's tmpfs and then moved over the original.
	tmpfs(t, "/run", "mode=0755")
	const stage = "/run/etc"
	if err := os.Mkdir(stage, 0o755); err != nil {
		t.Fatalf("copy %s: %v", copied, err)
	}
	tmpfs(t, stage, "mode=0755")
	if err := copyTree(copied, stage); err != nil {
		t.Fatalf("copy %s: %v", copied, err)
	}
	if err := unix.Mount(stage, copied, "", unix.MS_MOVE, ""); err != nil {
		t.Fatalf("put the copy over %s: %v", copied, err)
	}
	if err := os.Remove(stage); err != nil {
		t.Fatalf("copy %s: %v", copied, err)
	}
	for _, dir := range []string{filepath.Join(iprouteDir, "rt_tables.d"), "/run/netns"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatalf("set up the mounts: %v", err)
		}
	}
	for _, dir := range more {
		tmpfs(t, dir, "mode=0755")
	}
}

func tmpfs(t testing.TB, dir, opts string) {
	t.Helper()
	if err := unix.Mount("viarule-test", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, opts); err != nil {
		t.Fatalf("mount a tmpfs on %s: %v", dir, err)
	}
}

// private says whether this thread's /run is the tmpfs of privateMounts.
func private(t testing.TB) bool {
	t.Helper()
	b, err := os.ReadFile("/proc/thread-self/mounts")
	if err != nil {
		t.Fatalf("read the mounts: %v", err)
	}
	return strings.Contains("\n"+string(b), "\nviarule-test /run tmpfs ")
}

// copyTree copies folders, plain files and symbolic links from src into dst.
func copyTree(src, dst string) error {
	return filepath.WalkDir(src, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(src, path)
		if err != nil {
			return err
		}
		to := filepath.Join(dst, rel)
		switch {
		case d.IsDir():
			return os.MkdirAll(to, 0o755)
		case d.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			return os.Symlink(target, to)
		case d.Type().IsRegular():
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			return os.WriteFile(to, b, info.Mode().Perm())
		}
		return nil // sockets and devices are nobody's configuration
	})
}

// HideSysctl has the current namespace be without a sysctl, such as
// "net/ipv6/conf/all/force_forwarding", as on a kernel that does not have it. All others of
// its folder stay what they are. The test needs Mounts. Where there is none it does
// nothing.
func HideSysctl(t testing.TB, key string) {
	t.Helper()
	dir, name := filepath.Split("/proc/sys/" + key)
	if _, err := os.Stat(dir + name); os.IsNotExist(err) {
		return
	}
	if !private(t) {
		t.Fatalf("hide the sysctl %s: the test shares the host's mounts; call New with Mounts", key)
	}
	bind := func(from, to string) {
		t.Helper()
		if err := unix.Mount(from, to, "", unix.MS_BIND, ""); err != nil {
			t.Fatalf("hide the sysctl %s: mount %s on %s: %v", key, from, to, err)
		}
	}
	stage, err := os.MkdirTemp("/run", "sysctl")
	if err != nil {
		t.Fatalf("hide the sysctl %s: %v", key, err)
	}
	bind(dir, stage) // what is below the tmpfs
	list, err := os.ReadDir(stage)
	if err != nil {
		t.Fatalf("hide the sysctl %s: %v", key, err)
	}
	tmpfs(t, dir, "mode=0755")
	for _, e := range list {
		if e.Name() == name {
			continue
		}
		if err := os.WriteFile(dir+e.Name(), nil, 0o644); err != nil {
			t.Fatalf("hide the sysctl %s: %v", key, err)
		}
		bind(filepath.Join(stage, e.Name()), dir+e.Name())
	}
}
