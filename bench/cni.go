package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A CNI plugin is measured as a runtime sees it: from the moment when a process
// is started in the host's namespace until it has ended. Its input and output
// are files, so that nothing else runs in this program meanwhile.

const (
	netnsDir    = "/run/netns" // private to this program
	hostNetns   = "host"
	programSize = 4 << 20 // bytes: the bar of a plugin, stripped
)

// pod is a network namespace with interfaces eth0 and net1.
type pod struct {
	name  string
	stdin string // name of the file with the configuration and the previous result
	// sandboxes counts the pod's containers: a runtime gives no two the same name.
	sandboxes int
}

func (p *pod) path() string { return filepath.Join(netnsDir, p.name) }

// addresses of net1, as `ip` and as prevResult say them; eth0 has one of each
// family always.
type addresses []struct{ prefix, gateway string }

var (
	oneAddress   = addresses{{"192.0.2.5/24", "192.0.2.1"}}
	twoAddresses = addresses{{"192.0.2.5/24", "192.0.2.1"}, {"2001:db8:2::5/64", "2001:db8:2::1"}}
)

// freshHost moves the program to a new namespace which the pods' veths end in and
// plugins are started from.
func freshHost() error {
	if err := fresh(); err != nil {
		return err
	}
	if err := os.MkdirAll(netnsDir, 0o755); err != nil {
		return err
	}
	return bindNetns(filepath.Join(netnsDir, hostNetns))
}

// bindNetns gives the namespace that this program is in a name.
func bindNetns(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL, 0o444)
	if err != nil {
		return err
	}
	f.Close()
	if err := unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("name a network namespace %s: %w", path, err)
	}
	return nil
}

// newNetns makes a named namespace, and returns to the host's.
func newNetns(name string) error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("make a network namespace: %w", err)
	}
	return errors.Join(bindNetns(filepath.Join(netnsDir, name)), enterNamed(hostNetns))
}

// removeNetns removes all named namespaces.
func removeNetns() error {
	names, err := os.ReadDir(netnsDir)
	if err != nil {
		return err
	}
	for _, n := range names {
		path := filepath.Join(netnsDir, n.Name())
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmount %s: %w", path, err)
		}
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	return nil
}

// in runs f in a named namespace, and returns to the host's.
func in(name string, f func() error) error {
	if err := enterNamed(name); err != nil {
		return err
	}
	err := f()
	if back := enterNamed(hostNetns); err == nil {
		err = back
	}
	return err
}

func enterNamed(name string) error {
	ns, err := os.Open(filepath.Join(netnsDir, name))
	if err != nil {
		return err
	}
	defer ns.Close()
	return enter(ns)
}

// newPod makes a pod of a name of at most ten letters, and runs the lines with
// ip in it at last. When it returns the kernel is done with it: the far ends are
// up first, and no address looks for duplicates.
func (b *bench) newPod(name string, on addresses, lines ...string) (*pod, error) {
	p := &pod{name: name}
	if err := newNetns(name); err != nil {
		return nil, err
	}
	err := ip("link add "+name+"-eth0 type veth peer name eth0 netns "+name, "link add "+name+"-net1 type veth peer name net1 netns "+name,
		"link set "+name+"-eth0 up", "link set "+name+"-net1 up")
	if err != nil {
		return nil, err
	}
	setup := []string{"link set lo up",
		"link set eth0 addrgenmode none", "link set net1 addrgenmode none", "link set eth0 up", "link set net1 up",
		"addr add 10.1.0.5/24 dev eth0", "addr add 2001:db8:1::5/64 dev eth0 nodad", "addr add fe80::5/64 dev eth0 nodad",
		"route add default via 10.1.0.1", "route add default via 2001:db8:1::1"}
	setup = append(append(setup, on.add()...), lines...)
	if err := in(name, func() error { return errors.Join(ip(setup...), b.settle(on)) }); err != nil {
		return nil, err
	}
	p.stdin, err = b.file(name+".json", func(s *strings.Builder) { s.WriteString(on.config(p)) })
	return p, err
}

const linkLocal = "fe80::6/64" // of net1; that of eth0 is fe80::5

// add are the lines that give net1 its addresses.
func (on addresses) add() []string {
	lines := []string{"addr add " + linkLocal + " dev net1 nodad"}
	for _, a := range on {
		line := "addr add " + a.prefix + " dev net1"
		if strings.Contains(a.prefix, ":") {
			line += " nodad"
		}
		lines = append(lines, line)
	}
	return lines
}

// renew are the lines that make the addresses' routes as the kernel made them;
// those that are there already fail. (IPv6's replace and add would look at eth0's
// as well.) Taking the addresses away and giving them again would do so as well, but with
// IPv6 the kernel goes on with that in the background.
func (on addresses) renew() []string {
	lines := []string{"route append fe80::/64 dev net1 proto kernel metric 256"}
	for _, a := range on {
		p := netip.MustParsePrefix(a.prefix)
		how := "metric 256"
		if p.Addr().Is4() {
			how = "scope link src " + p.Addr().String()
		}
		lines = append(lines, fmt.Sprintf("route append %s dev net1 proto kernel %s", p.Masked(), how))
	}
	return lines
}

// settle waits until the kernel has made the local routes of this namespace's
// IPv6 addresses, which it does in the background.
func (b *bench) settle(on addresses) error {
	want := []string{"2001:db8:1::5", "fe80::5", "fe80::6"}
	for _, a := range on {
		if p := netip.MustParsePrefix(a.prefix); p.Addr().Is6() {
			want = append(want, p.Addr().String())
		}
	}
	for {
		out, err := exec.CommandContext(b.ctx, "ip", "-6", "route", "show", "table", "local").Output()
		if err != nil {
			return fmt.Errorf("ip -6 route show table local: %w", err)
		}
		if !slices.ContainsFunc(want, func(a string) bool { return !strings.Contains(string(out), "local "+a+" ") }) {
			return nil
		}
	}
}

// config is what a runtime hands to a plugin.
func (on addresses) config(p *pod) string {
	type object = map[string]any
	var ips []object
	for _, a := range on {
		ips = append(ips, object{"address": a.prefix, "gateway": a.gateway, "interface": 1})
	}
	out, err := json.Marshal(object{"cniVersion": "1.0.0", "name": "bench", "type": "sbr", "prevResult": object{"cniVersion": "1.0.0",
		"interfaces": []object{{"name": p.name + "-net1"}, {"name": "net1", "sandbox": p.path()}}, "ips": ips, "routes": []object{}, "dns": object{}}})
	if err != nil {
		panic(err) // strings and numbers only
	}
	return string(out)
}

// spent is what one process took, in milliseconds.
type spent struct{ wall, cpu float64 }

// call is a plugin's process.
type call struct {
	cmd      *exec.Cmd
	in, out  *os.File
	verb, on string
	start    time.Time
}

// startPlugin starts a plugin for an interface net1. What it prints goes to files
// of its own, for errors.
func (b *bench) startPlugin(program, verb string, p *pod) (*call, error) {
	c := &call{cmd: exec.Command(program), verb: verb, on: p.name}
	var err error
	if c.in, err = os.Open(p.stdin); err != nil {
		return nil, err
	}
	if c.out, err = os.Create(filepath.Join(b.dir, p.name+".out")); err != nil {
		c.in.Close()
		return nil, err
	}
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = c.in, c.out, c.out
	c.cmd.Env = []string{"CNI_COMMAND=" + verb, "CNI_CONTAINERID=" + fmt.Sprint(p.name, p.sandboxes), "CNI_NETNS=" + p.path(), "CNI_IFNAME=net1",
		"CNI_PATH=" + filepath.Dir(program), "PATH=" + os.Getenv("PATH")}
	c.start = time.Now()
	if err := c.cmd.Start(); err != nil {
		c.in.Close()
		c.out.Close()
		return nil, err
	}
	return c, nil
}

// wait waits for the end.
func (c *call) wait() (spent, error) {
	err := c.cmd.Wait()
	s := spent{wall: ms(time.Since(c.start))}
	c.in.Close()
	defer c.out.Close()
	if err != nil {
		said, _ := os.ReadFile(c.out.Name())
		return s, fmt.Errorf("%s, %s in %s: %w\n%s", c.cmd.Path, c.verb, c.on, err, bytes.TrimSpace(said[:min(len(said), 2000)]))
	}
	s.cpu = ms(c.cmd.ProcessState.UserTime() + c.cmd.ProcessState.SystemTime())
	return s, nil
}

func (b *bench) plugin(program, verb string, p *pod) (spent, error) {
	c, err := b.startPlugin(program, verb, p)
	if err != nil {
		return spent{}, err
	}
	return c.wait()
}

func ms(d time.Duration) float64 { return float64(d) / 1e6 }

// compile builds a main package as the reference plugins are released: static and
// stripped.
func (b *bench) compile(to string, what ...string) error {
	built := filepath.Join(b.dir, "built")
	c := exec.CommandContext(b.ctx, "go", append([]string{"build", "-trimpath", "-ldflags", "-s -w", "-o", built}, what...)...)
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", strings.Join(what, " "), err, out)
	}
	return b.install(built, to)
}

// install copies a program into the folder of this run. All that are compared
// come this way: a file that the linker has just written by its mapping lies in
// the page cache in smaller pieces than a copy, and starts more slowly by 15 %.
func (b *bench) install(program, to string) error {
	data, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	to = filepath.Join(b.dir, to)
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o755)
}

// binary reports a program's size, and what the reference's is.
func (b *bench) binary(name, program, reference string) error {
	for _, f := range []struct {
		way, path string
		limit     *bar
	}{{"reference", reference, nil}, {name, program, atMost(1)}} {
		info, err := os.Stat(f.path)
		if err != nil {
			return err
		}
		size := float64(info.Size())
		b.add("binary", "MiB", f.way, size/(1<<20), size/programSize, "4 MiB", f.limit)
	}
	return nil
}
