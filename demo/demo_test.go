// Package demo has no code but this test of run.sh and pods.sh.
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

// limit is what a demo may take after the build.
const limit = 20 * time.Second

// The demos, and the programs that each of them needs.
const (
	uplinks = "./run.sh"
	pods    = "./pods.sh"
)

var programs = map[string][]string{uplinks: {"viarule"}, pods: {"viarule", "viarule-ptp"}}

// newMachine builds a demo's programs, and hides from it what is not the test's.
func newMachine(t *testing.T, demo string) (bin string) {
	t.Helper()
	bin = build(t, programs[demo])
	netnstest.New(t, netnstest.Mounts("/var/lib"))
	return bin
}

func build(t *testing.T, programs []string) string {
	t.Helper()
	if testing.Short() {
		t.Skip("builds viarule and makes network namespaces; not with -short")
	}
	bin := t.TempDir()
	for _, p := range programs {
		cmd := exec.Command("go", "build", "-o", filepath.Join(bin, p), "./cmd/"+p)
		cmd.Dir = ".."
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build: %v\n%s", err, out)
		}
	}
	return bin
}

// start starts a demo in a process group of its own, with path before the others.
func start(t *testing.T, demo, path string, out *bytes.Buffer) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.Command(demo)
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

// run runs a demo to its end.
func run(t *testing.T, demo, bin string) string {
	t.Helper()
	var errs, out bytes.Buffer
	cmd, lines := start(t, demo, bin, &errs)
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
	for _, pattern := range []string{"/run/netns/*", "/run/viarule/lab/*", "/etc/iproute2/rt_*.d/viarule.conf", "/run/viarule/*/*.json", "/run/viarule-demo*", "/var/lib/cni*"} {
		if left, _ := filepath.Glob(pattern); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}

// passes runs a demo to its end, which has to print all of want, in this order.
func passes(t *testing.T, demo string, want ...string) {
	t.Helper()
	bin := newMachine(t, demo)
	begin := time.Now()
	out := run(t, demo, bin)
	if took := time.Since(begin); took > limit {
		t.Errorf("it took %v", took)
	}
	nothingLeft(t)
	at := 0
	for _, w := range append(want, "Clean up") {
		i := strings.Index(out[at:], w)
		if i < 0 {
			t.Fatalf("it does not print %q (in this order):\n%s", w, out)
		}
		at += i + len(w)
	}
	if strings.Contains(out, "\x1b") {
		t.Error("colours, but not on a terminal")
	}
}

func TestDemo(t *testing.T) {
	passes(t, uplinks,
		"no answer in 1.3s, seen as 192.0.2.10, request in by server/eth1, answer out by server/eth0",
		"$ viarule plan",
		"+ rule ",
		"$ viarule apply",
		"seen as 192.0.2.10, request in by server/eth1, answer out by server/eth1",
		"from 198.51.100.10 lookup uplink2",
		"default via 198.51.100.1 dev eth1",
		"default via 2001:db8:2::1 dev eth1",
	)
}

func TestPodsDemo(t *testing.T) {
	passes(t, pods,
		"a1 on node1: 10.244.1.2 fd00:244:1::2",
		"a1      .    - -    - -    - -    4 6    - -\n",
		"$ viarule apply",
		"a1      .    4 6    4 6    4 6    4 6    4 6\n",
		"route add 10.244.1.0/24 via 192.0.2.1",
		"other    4 6    4 6    4 6    4 6    4 6    4 6\n",
		"  10.244.1.2 10.244.1.3 fd00:244:1::2 fd00:244:1::3\n",
		"Unreachable",
		"a2    4 6      .    4 6    4 6    4 6    4 6    4 6\n",
		"$ viarule apply",
		"600 packets transmitted, 600 received, 0% packet loss",
		"600 packets transmitted, 600 received, 0% packet loss",
		"10.244.2.2 via 192.0.2.12 dev eth0",
		"via 2001:db8::12 dev eth0",
		"$ viarule status",
	)
}

// cut is a signal at the line of a demo that begins with at.
type cut struct {
	name, at string
	signal   syscall.Signal
	all      bool // to the whole group, as a terminal sends it; else to the script
}

func TestInterruptedDemo(t *testing.T) {
	interrupted(t, uplinks,
		cut{"interrupted while the lab comes up", "$ viarule lab up", syscall.SIGINT, true},
		cut{"interrupted while the client waits", "$ viarule lab check", syscall.SIGINT, true},
		cut{"terminated while the client waits", "$ viarule lab check", syscall.SIGTERM, false},
		cut{"interrupted in the apply", "$ viarule apply", syscall.SIGINT, true},
		cut{"hung up after the apply", stuck, syscall.SIGHUP, true})
}

func TestInterruptedPodsDemo(t *testing.T) {
	interrupted(t, pods,
		cut{"interrupted while a pod comes up", "$ CNI_COMMAND=ADD", syscall.SIGINT, true},
		cut{"terminated while the pods wait for answers", "Who has an answer", syscall.SIGTERM, false},
		cut{"hung up in the apply", "$ viarule apply", syscall.SIGHUP, true},
		cut{"interrupted under the steady pings", "$ diff", syscall.SIGINT, true})
}

func interrupted(t *testing.T, demo string, cuts ...cut) {
	t.Helper()
	// Under nohup(1) a hang-up is ignored, and programs that are started inherit that; what
	// is caught here is as usual for them.
	hangUps := make(chan os.Signal, 1)
	signal.Notify(hangUps, syscall.SIGHUP)
	defer signal.Stop(hangUps)
	bin := newMachine(t, demo)
	for _, c := range cuts {
		t.Log(c.name)
		// The demo's last commands are over in no time: the first of them never ends here,
		// so that no signal comes too late.
		path := bin
		if c.at == stuck {
			path = stuckIP(t) + ":" + bin
		}
		var errs bytes.Buffer
		cmd, lines := start(t, demo, path, &errs)
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
func TestKilledDemo(t *testing.T)     { killed(t, uplinks, "$ viarule apply") }
func TestKilledPodsDemo(t *testing.T) { killed(t, pods, "$ diff") }

func killed(t *testing.T, demo, at string) {
	t.Helper()
	bin := newMachine(t, demo)
	cmd, lines := start(t, demo, bin, new(bytes.Buffer))
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), at) {
			if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = cmd.Wait() // killed
	if left, _ := filepath.Glob("/run/netns/*"); len(left) == 0 {
		t.Error("it was killed and left nothing: the test tests nothing")
	}
	run(t, demo, bin)
	nothingLeft(t)
}
