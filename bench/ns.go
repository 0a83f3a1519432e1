package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// private moves the program to mounts of its own, with an empty /run and /var/lib and
// a copy of /etc/iproute2, so that records, leases of addresses and names of tables do
// not reach the host.
func private() error {
	runtime.LockOSThread() // main stays on this thread; children inherit from it
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("make mounts of our own: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mounts private: %w", err)
	}
	for _, dir := range []string{"/run", "/var/lib"} {
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0755"); err != nil {
			return fmt.Errorf("mount %s: %w", dir, err)
		}
	}
	const names = "/etc/iproute2"
	if err := os.CopyFS("/run/iproute2", os.DirFS(names)); err != nil {
		return fmt.Errorf("copy %s: %w", names, err)
	}
	return unix.Mount("/run/iproute2", names, "", unix.MS_BIND, "")
}

// fresh moves the program to a new namespace with a link `out`, whose gateway
// 10.99.0.2 is known, and a link `in0` for traffic.
func fresh() error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("make a network namespace: %w", err)
	}
	if err := os.RemoveAll("/run/viarule"); err != nil {
		return err
	}
	err := writeSysctls("ipv4/ip_forward=1", "ipv4/conf/all/rp_filter=0", "ipv4/conf/default/rp_filter=0",
		"ipv4/conf/all/send_redirects=0", "ipv6/conf/default/disable_ipv6=1")
	if err != nil {
		return err
	}
	return ip("link set lo up",
		"link add out type veth peer name sink", "link set out up", "link set sink up", "addr add 10.99.0.1/24 dev out",
		"neigh add 10.99.0.2 lladdr 02:00:00:00:00:07 dev out nud permanent")
}

// writeSysctls sets sysctls below net/, as `key=value`, in this namespace.
func writeSysctls(settings ...string) error {
	for _, s := range settings {
		key, value, _ := strings.Cut(s, "=")
		if err := os.WriteFile("/proc/sys/net/"+key, []byte(value), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func ip(lines ...string) error {
	return command(strings.NewReader(strings.Join(lines, "\n")+"\n"), "ip", "-batch", "-")
}

func command(in *strings.Reader, name string, args ...string) error {
	c := exec.Command(name, args...)
	if in != nil {
		c.Stdin = in
	}
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	if err := c.Run(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out.Bytes()[:min(out.Len(), 2000)])
	}
	return nil
}

func (b *bench) file(name string, write func(*strings.Builder)) (string, error) {
	var s strings.Builder
	write(&s)
	path := filepath.Join(b.dir, name)
	return path, os.WriteFile(path, []byte(s.String()), 0o644)
}
