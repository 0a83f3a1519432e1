// Package demo has no code but this test of run.sh.
package demo

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/viarule/viarule/internal/netnstest"
)

// limit is what the demo may take after the build.
const limit = 20 * time.Second

func build(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("builds viarule and makes network namespaces; not with -short")
	}
	bin := t.TempDir()
	cmd := exec.Command("go", "build", "-o", filepath.Join(bin, "viarule"), "./cmd/viarule")
	cmd.Dir = ".."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return bin
}

// start starts the demo in a process group of its own, with path before the others.
func start(t *testing.T, path string, out *bytes.Buffer) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.Command("./run.sh")
	cmd.Env = append(os.Environ(), "PATH="+path+":"+os.Getenv("PATH"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stuck := time.AfterFunc(3*limit, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	t.Cleanup(func() { stuck.Stop() })
	return cmd, bufio.NewScanner(pipe)
}

// run runs the demo to its end.
func run(t *testing.T, bin string) string {
	t.Helper()
	var errs, out bytes.Buffer
	cmd, lines := start(t, bin, &errs)
	for lines.Scan() {
		out.WriteString(lines.Text() + "\n")
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the demo: %v\n%s%s", err, out.String(), errs.String())
	}
	if errs.Len() > 0 {
		t.Errorf("it complains: %s", errs.String())
	}
	return out.String()
}

func nothingLeft(t *testing.T) {
	t.Helper()
	for _, pattern := range []string{"/run/netns/*", "/run/viarule/lab/*", "/etc/iproute2/rt_*.d/viarule.conf"} {
		if left, _ := filepath.Glob(pattern); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}

func TestDemo(t *testing.T) {
	bin := build(t)
	netnstest.New(t, netnstest.Mounts())
	begin := time.Now()
	out := run(t, bin)
	if took := time.Since(begin); took > limit {
		t.Errorf("it took %v", took)
	}
	nothingLeft(t)
	at := 0
	for _, want := range []string{
		"no answer in 1.3s, seen as 192.0.2.10, request in by server/eth1, answer out by server/eth0",
		"$ viarule plan",
		"+ rule ",
		"$ viarule apply",
		"seen as 192.0.2.10, request in by server/eth1, answer out by server/eth1",
		"from 198.51.100.10 lookup uplink2",
		"default via 198.51.100.1 dev eth1",
		"default via 2001:db8:2::1 dev eth1",
		"Clean up",
	} {
		i := strings.Index(out[at:], want)
		if i < 0 {
			t.Fatalf("it does not print %q (in this order):\n%s", want, out)
		}
		at += i
	}
	if strings.Contains(out, "\x1b") {
		t.Error("colours, but not on a terminal")
	}
}

func TestInterruptedDemo(t *testing.T) {
	bin := build(t)
	// Under nohup(1) a hang-up is ignored, and programs that are started inherit that; what
	// is caught here is as usual for them.
	hangUps := make(chan os.Signal, 1)
	signal.Notify(hangUps, syscall.SIGHUP)
	defer signal.Stop(hangUps)
	netnstest.New(t, netnstest.Mounts())
	for _, c := range []struct {
		name, at string
		signal   syscall.Signal
		all      bool // to the whole group, as a terminal sends it; else to the script
	}{
		{"interrupted while the lab comes up", "$ viarule lab up", syscall.SIGINT, true},
		{"interrupted while the client waits", "$ viarule lab check", syscall.SIGINT, true},
		{"terminated while the client waits", "$ viarule lab check", syscall.SIGTERM, false},
		{"interrupted in the apply", "$ viarule apply", syscall.SIGINT, true},
		{"hung up after the apply", stuck, syscall.SIGHUP, true},
	} {
		t.Log(c.name)
		// The demo's last commands are over in no time: the first of them never ends here,
		// so that no signal comes too late.
		path := bin
		if c.at == stuck {
			path = stuckIP(t) + ":" + bin
		}
		var errs bytes.Buffer
		cmd, lines := start(t, path, &errs)
		sent := false
		for lines.Scan() {
			if !sent && strings.HasPrefix(lines.Text(), c.at) {
				pid := cmd.Process.Pid
				if c.all {
					pid = -pid
				}
				if err := syscall.Kill(pid, c.signal); err != nil {
					t.Fatal(err)
				}
				sent = true
			}
		}
		if err := cmd.Wait(); err == nil || !sent {
			t.Errorf("%s: sent %v, and it ended with %v\n%s", c.name, sent, err, errs.String())
		}
		nothingLeft(t)
	}
}

// stuck is what the ip of stuckIP says.
const stuck = "ip waits for a signal"

// stuckIP makes a folder with an ip that never ends.
func stuckIP(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "ip"), []byte("#!/bin/sh\necho "+stuck+"\nexec sleep infinity\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// A demo that was killed leaves its lab; the next one removes it first.
func TestKilledDemo(t *testing.T) {
	bin := build(t)
	netnstest.New(t, netnstest.Mounts())
	cmd, lines := start(t, bin, new(bytes.Buffer))
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "$ viarule apply") {
			if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = cmd.Wait() // killed
	if left, _ := filepath.Glob("/run/netns/*"); len(left) == 0 {
		t.Error("it was killed and left nothing: the test tests nothing")
	}
	run(t, bin)
	nothingLeft(t)
}
