package guard

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/netnstest"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/plan"
	"github.com/viarule/viarule/internal/record"
	"github.com/viarule/viarule/internal/spec"
)

const (
	short = 300 * time.Millisecond // only where nothing fails on a slow machine
	long  = time.Hour
)

func newSession() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

func TestUndoesWhatNobodyConfirms(t *testing.T) {
	h := newHost(t)
	p, lock := h.arm(Config{Wait: short})
	a, guard := h.guardian()
	if sid, err := unix.Getsid(a.PID); err != nil || sid == a.PID || sid == os.Getpid() {
		t.Errorf("session of the guard (pid %d) is %d, %v", a.PID, sid, err)
	}
	if mine, _ := unix.Getsid(0); mine != 0 {
		if sid, _ := unix.Getsid(a.PID); sid == mine {
			t.Error("the guard is in the session of the test")
		}
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", a.PID))
	if err != nil || b[0] != '@' {
		t.Errorf("the guard's name is %q, %v: systemd's shutdown would wait for it", b, err)
	}
	h.must(write(h.k, theChange))
	h.must(p.Applied())
	h.must(lock.Unlock())
	h.waitEnd(guard)
	h.want(rulesBefore, oldRef)
	if o := h.outcome(); o.Why != "nobody confirmed it within 300ms" || len(o.Left) > 0 || o.Starter.PID != os.Getpid() {
		t.Errorf("outcome %+v", o)
	}
	if why, err := os.ReadFile(filepath.Join(h.ns.Dir(), "undone-was-called")); err != nil || string(why) != "nobody confirmed it within 300ms" {
		t.Errorf("the hook was not called: %q, %v", why, err)
	}
}

func TestSurvivesItsStarter(t *testing.T) {
	group := func(sig syscall.Signal) func(*testing.T, *host, *exec.Cmd) {
		return func(t *testing.T, h *host, cmd *exec.Cmd) {
			a, _ := h.guardian()
			h.must(syscall.Kill(a.PID, sig)) // what a closing terminal sends to everybody
			h.must(syscall.Kill(-cmd.Process.Pid, syscall.SIGHUP))
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		}
	}
	for _, tt := range []struct {
		name string
		stop string
		kill func(*testing.T, *host, *exec.Cmd)
	}{
		{"killed before its first write", "armed", group(syscall.SIGHUP)},
		{"killed half way", "writing", group(syscall.SIGTERM)},
		{"killed when it was done", "applied", group(syscall.SIGINT)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHost(t)
			cmd := h.start(long, tt.stop)
			_, guard := h.guardian()
			tt.kill(t, h, cmd)
			_ = cmd.Wait()
			if ended(guard, 0) {
				t.Fatal("the guard was killed too")
			}
			h.expireNow()
			h.waitEnd(guard)
			h.want(rulesBefore, oldRef)
			if o := h.outcome(); len(o.Left) > 0 || o.Starter.PID != cmd.Process.Pid {
				t.Errorf("outcome %+v", o)
			}
		})
	}
}

// The session of a person is a control group; loginctl, systemd and container
// runtimes end it by cgroup.kill.
func TestSurvivesCgroupKill(t *testing.T) {
	t.Run("in the root", func(t *testing.T) {
		h := newHost(t)
		if a := h.survivesCgroupKill(testCgroup(t)); len(a.Cgroups)+len(a.Warnings) > 0 {
			t.Errorf("answer %+v", a)
		}
	})
	t.Run("in a group of its own", func(t *testing.T) {
		h := newHost(t, netnstest.Mounts())
		group := testCgroup(t)
		// Here the root takes no processes.
		h.must(unix.Mount("/dev/full", filepath.Join(filepath.Dir(group), "cgroup.procs"), "", unix.MS_BIND, ""))
		a := h.survivesCgroupKill(group)
		if len(a.Warnings) > 0 || len(a.Cgroups) != 1 || filepath.Dir(a.Cgroups[0]) != filepath.Dir(group) {
			t.Fatalf("answer %+v", a)
		}
		if _, err := os.Stat(a.Cgroups[0]); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", a.Cgroups[0], err)
		}
		// Confirm removes it as well.
		cmd := h.start(long, "applied", joinGroup(group)...)
		b, _ := h.guardian()
		lock := h.lock()
		h.must(mustFind(h).Confirm())
		h.must(lock.Commit())
		h.must(lock.Unlock())
		if _, err := os.Stat(b.Cgroups[0]); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", b.Cgroups[0], err)
		}
		h.must(cmd.Process.Kill())
		h.want(rulesAfter, oldRef, newRef)
	})
}

// joinGroup wraps a command: the shell joins the group, and everything that it
// starts is born there.
func joinGroup(group string) []string {
	return []string{"/bin/sh", "-c", `echo $$ >"$0/cgroup.procs" && exec "$@"`, group}
}

func (h *host) survivesCgroupKill(group string) answer {
	h.t.Helper()
	members := func() string {
		procs, err := os.ReadFile(filepath.Join(group, "cgroup.procs"))
		h.must(err)
		return "\n" + string(procs)
	}
	cmd := h.start(long, "applied", joinGroup(group)...)
	if !strings.Contains(members(), fmt.Sprintf("\n%d\n", cmd.Process.Pid)) {
		h.t.Fatalf("the starter (%d) is not in its group: %q", cmd.Process.Pid, members())
	}
	a, guard := h.guardian()
	if strings.Contains(members(), fmt.Sprintf("\n%d\n", a.PID)) {
		h.t.Error("the guard is in the group of the session")
	}
	h.must(os.WriteFile(filepath.Join(group, "cgroup.kill"), []byte("1"), 0))
	if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		h.t.Fatalf("the starter ended with %v", err)
	}
	if ended(guard, 0) {
		h.t.Fatal("the guard was killed with the group")
	}
	h.expireNow()
	h.waitEnd(guard)
	h.want(rulesBefore, oldRef)
	return a
}

// testCgroup makes a control group in the unified hierarchy.
func testCgroup(t *testing.T) string {
	t.Helper()
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	hs, err := hierarchies(f)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range hs {
		if len(h.names) > 0 {
			continue
		}
		dir := filepath.Join(h.mount, fmt.Sprintf("viarule-test-%d-%s", os.Getpid(), newID()))
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0); err != nil {
				t.Error(err)
			}
			// A killed process leaves its group a moment later.
			for unix.Rmdir(dir) == unix.EBUSY {
			}
		})
		return dir
	}
	t.Skip("skipped: no control groups of version 2 are mounted here")
	return ""
}

// A guard that keeps what its starter inherited would have others wait for it,
// flock(1) for example.
func TestInheritsNothing(t *testing.T) {
	h := newHost(t)
	file := filepath.Join(t.TempDir(), "held")
	cmd := h.start(long, "applied", "/bin/sh", "-c", `exec 7>"$0" && exec "$@"`, file)
	a, _ := h.guardian()
	fds := fmt.Sprintf("/proc/%d/fd", a.PID)
	list, err := os.ReadDir(fds)
	h.must(err)
	for _, e := range list {
		to, err := os.Readlink(filepath.Join(fds, e.Name()))
		if err == nil && (to == file || strings.HasPrefix(to, "pipe:")) {
			t.Errorf("the guard has %s open", to)
		}
	}
	lock := h.lock()
	_, err = mustFind(h).Rollback(context.Background(), lock, h.k)
	h.must(err)
	h.must(lock.Unlock())
	h.must(cmd.Process.Kill())
	h.want(rulesBefore, oldRef)
}

func TestConfirmKeepsIt(t *testing.T) {
	h := newHost(t)
	h.applied(long)
	a, guard := h.guardian()
	if _, err := os.Stat(filepath.Join(ownDir(h.ns.Dir(), mustFind(h).j.ID), programFile)); err != nil {
		t.Errorf("the guard has no copy of the program: %v", err)
	}
	lock := h.lock()
	h.must(mustFind(h).Confirm())
	h.must(lock.Commit())
	h.must(lock.Unlock())
	if !ended(guard, 0) {
		t.Errorf("Confirm returned before the guard (pid %d) ended", a.PID)
	}
	h.want(rulesAfter, oldRef, newRef)
	if _, err := os.Stat(journalDir(h.ns.Dir())); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there: %v", journalDir(h.ns.Dir()), err)
	}
}

func mustFind(h *host) *Pending {
	h.t.Helper()
	p, err := Find(h.ns)
	h.must(err)
	if p == nil {
		h.t.Fatal("nothing waits for its confirmation")
	}
	return p
}

func TestConfirmEndsAStoppedGuard(t *testing.T) {
	h := newHost(t)
	h.applied(long)
	a, guard := h.guardian()
	h.must(syscall.Kill(a.PID, syscall.SIGSTOP))
	lock := h.lock()
	h.must(mustFind(h).Confirm())
	h.must(lock.Commit())
	h.must(lock.Unlock())
	if !ended(guard, 0) {
		t.Error("the stopped guard lives")
	}
	h.want(rulesAfter, oldRef, newRef)
}

func TestRollbackUndoesAtOnce(t *testing.T) {
	h := newHost(t)
	h.applied(long)
	_, guard := h.guardian()
	lock := h.lock()
	o, err := mustFind(h).Rollback(context.Background(), lock, h.k)
	h.must(err)
	h.must(lock.Unlock())
	if o.Why != whyAsked || len(o.Left) > 0 {
		t.Errorf("outcome %+v", o)
	}
	if !ended(guard, 0) {
		t.Error("the guard lives")
	}
	h.want(rulesBefore, oldRef)
}

func TestConfirmRacesTheDeadline(t *testing.T) {
	h := newHost(t)
	kept, undone := 0, 0
	for i := range 12 {
		p := h.applied(long)
		_, guard := h.guardian()
		now, err := bootNow()
		h.must(err)
		deadline := now + 20*time.Millisecond
		h.expire(deadline)
		wait(t, deadline+time.Duration(i%6-4)*time.Millisecond)
		lock := h.lock()
		found, err := Find(h.ns)
		h.must(err)
		if found != nil { // ours: the guard waits for the lock
			h.must(found.Confirm())
			h.must(lock.Commit())
			h.want(rulesAfter, oldRef, newRef)
			kept++
			h.must(lock.Stage(record.Change{Remove: []spec.Ref{newRef}}))
			h.must(lock.Commit())
			h.must(write(h.k, reverse))
		} else {
			undone++
			if err := p.Confirm(); err == nil {
				t.Error("confirmed what is undone")
			}
		}
		h.must(lock.Unlock())
		h.waitEnd(guard)
		h.want(rulesBefore, oldRef)
	}
	t.Logf("%d confirmed, %d undone", kept, undone)
}

const reverse = `- rule 2310 from 10.2.0.0/16 table 5008 proto 118
- rule -6 2310 from 2001:db8:2::/64 table 5008 proto 118
+ rule 2400 from all fwmark 0x7 unreachable proto 118
+ rule -6 2300 from 2001:db8:1::/64 table 5007 proto 118`

func TestSecondApplyIsRefused(t *testing.T) {
	h := newHost(t)
	h.applied(long)
	_, guard := h.guardian()
	_, lock, err := armed(Config{Wait: long}, h.k, h.store)
	var pending *PendingError
	if !errors.As(err, &pending) || pending.State != Applied || pending.Left <= 0 || pending.Left > long || pending.Starter.PID != os.Getpid() {
		t.Errorf("a second apply: %v", err)
	}
	if err := Check(h.ns); !errors.As(err, &pending) {
		t.Errorf("Check: %v", err)
	}
	if ended(guard, 0) {
		t.Error("the second apply ended the guard of the first")
	}
	_, err = mustFind(h).Rollback(context.Background(), lock, h.k)
	h.must(err)
	h.must(lock.Unlock())
	h.must(Check(h.ns))
	h.want(rulesBefore, oldRef)
}

func TestDisarm(t *testing.T) {
	h := newHost(t)
	p, lock := h.arm(Config{Wait: long})
	_, guard := h.guardian()
	h.must(p.Disarm())
	h.must(lock.Rollback(false))
	h.must(lock.Unlock())
	if !ended(guard, 0) {
		t.Error("the guard lives")
	}
	h.want(rulesBefore, oldRef)
}

func TestUnfinishedApplyCannotBeConfirmed(t *testing.T) {
	h := newHost(t)
	cmd := h.start(long, "writing")
	h.must(cmd.Process.Kill())
	_ = cmd.Wait()
	lock := h.lock()
	if err := mustFind(h).Confirm(); err == nil || !strings.Contains(err.Error(), "before it was done") {
		t.Errorf("Confirm: %v", err)
	}
	_, err := mustFind(h).Rollback(context.Background(), lock, h.k)
	h.must(err)
	h.must(lock.Unlock())
	h.want(rulesBefore, oldRef)
}

// An apply that hangs in a write to a dead terminal keeps the lock for ever.
func TestStuckApplyIsKilled(t *testing.T) {
	h := newHost(t)
	h.must(os.WriteFile(filepath.Join(h.store.Dir, impatient), nil, 0o600))
	cmd := h.start(long, "writing")
	_, guard := h.guardian()
	h.must(cmd.Process.Signal(syscall.SIGSTOP))
	h.expireNow()
	h.waitEnd(guard)
	if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("the stuck apply ended with %v", err)
	}
	h.want(rulesBefore, oldRef)
}

func TestRecover(t *testing.T) {
	recovered := func(h *host) *Outcome {
		h.t.Helper()
		lock := h.lock()
		o, err := Recover(context.Background(), lock, h.k)
		h.must(err)
		h.must(lock.Unlock())
		return o
	}
	kill := func(h *host) {
		h.t.Helper()
		a, guard := h.guardian()
		h.must(syscall.Kill(a.PID, syscall.SIGKILL))
		h.waitEnd(guard)
	}
	t.Run("nothing waits", func(t *testing.T) {
		h := newHost(t)
		if o := recovered(h); o != nil {
			t.Errorf("outcome %+v", o)
		}
		h.want(rulesBefore, oldRef)
	})
	t.Run("not before its time", func(t *testing.T) {
		h := newHost(t)
		h.applied(long)
		kill(h)
		if o := recovered(h); o != nil {
			t.Errorf("outcome %+v", o)
		}
		lock := h.lock()
		_, err := mustFind(h).Rollback(context.Background(), lock, h.k)
		h.must(err)
		h.must(lock.Unlock())
		h.want(rulesBefore, oldRef)
	})
	t.Run("expired, and the guard was killed", func(t *testing.T) {
		h := newHost(t)
		p := h.applied(long)
		kill(h)
		h.expireNow()
		if o := recovered(h); o == nil || o.Why != "nobody confirmed it within 1h0m0s" || o.ID != p.j.ID {
			t.Errorf("outcome %+v", o)
		}
		h.want(rulesBefore, oldRef)
	})
	t.Run("of an earlier boot", func(t *testing.T) {
		h := newHost(t)
		h.applied(long)
		kill(h)
		editJournal(t, h.ns.Dir(), func(j *journal) { j.Boot = "6f8d4c0e-earlier" })
		if o := recovered(h); o == nil || !o.Rebooted {
			t.Errorf("outcome %+v", o)
		}
		h.want(rulesAfter, oldRef) // the kernel is not touched
	})
	t.Run("a guard that was killed is noticed before the apply is done", func(t *testing.T) {
		h := newHost(t)
		p, lock := h.arm(Config{Wait: long})
		kill(h)
		if err := p.Applied(); err == nil {
			t.Error("applied without a guard")
		}
		h.must(p.Disarm())
		h.must(lock.Rollback(false))
		h.must(lock.Unlock())
		h.want(rulesBefore, oldRef)
	})
	t.Run("another namespace", func(t *testing.T) {
		h := newHost(t)
		h.applied(long)
		kill(h)
		other := h.k
		netnstest.New(t) // this thread is somewhere else now
		k := newHostHere(t, t.TempDir()).k
		lock := h.lock()
		if _, err := mustFind(h).Rollback(context.Background(), lock, k); err == nil {
			t.Error("undone in the wrong namespace")
		}
		_, err := mustFind(h).Rollback(context.Background(), lock, other)
		h.must(err)
		h.must(lock.Unlock())
		h.want(rulesBefore, oldRef)
	})
}

// What the kernel refuses for good does not keep the rest from being undone, nor
// the journal for ever.
func TestUndoReportsWhatIsLeft(t *testing.T) {
	route := netstate.Route{}
	parsed, err := netstate.ParseState("route 10.9.0.0/16 via 192.0.2.1 dev gone0 table 5007 proto 118")
	if err != nil {
		t.Fatal(err)
	}
	route = parsed.Routes[0]
	h := newHost(t)
	h.must(write(h.k, theChange))
	left, err := Undo(context.Background(), h.k, plan.Checkpoint{Rules: mustRules(t, rulesBefore), Routes: []netstate.Route{route}})
	h.must(err)
	if text := strings.Join(left, "\n"); !strings.Contains(text, "+ route 10.9.0.0/16") || !strings.Contains(text, "gone0") {
		t.Errorf("left is %q", left)
	}
	h.want(rulesBefore, oldRef)
}

func mustRules(t *testing.T, text string) []netstate.Rule {
	t.Helper()
	s, err := netstate.ParseState(text)
	if err != nil {
		t.Fatal(err)
	}
	return s.Rules
}

func TestNamedNamespace(t *testing.T) {
	netnstest.New(t, netnstest.Mounts())
	path := netnstest.Named(t, "blue")
	var h *host
	netnstest.In(t, "blue", func() { h = newHostHere(t, t.TempDir()) })
	p, lock := h.arm(Config{Wait: short, Netns: "blue"})
	_, guard := h.guardian()
	h.must(write(h.k, theChange))
	h.must(p.Applied())
	h.must(lock.Unlock())
	// The name goes; the guard has the namespace open.
	h.must(unix.Unmount(path, unix.MNT_DETACH))
	h.must(os.Remove(path))
	h.waitEnd(guard)
	h.want(rulesBefore, oldRef)
}

func TestRunMountedNoexec(t *testing.T) {
	for _, netns := range []string{"", "blue"} {
		t.Run("namespace "+netns, func(t *testing.T) {
			netnstest.New(t, netnstest.Mounts())
			dir := "/run/noexec"
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := unix.Mount("viarule-test", dir, "tmpfs", unix.MS_NOEXEC, "mode=0755"); err != nil {
				t.Fatal(err)
			}
			var h *host
			if netns == "" {
				h = newHostHere(t, dir)
			} else {
				netnstest.Named(t, netns)
				netnstest.In(t, netns, func() { h = newHostHere(t, dir) })
			}
			p, lock := h.arm(Config{Wait: short, Netns: netns})
			a, guard := h.guardian()
			exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", a.PID))
			if err != nil || !strings.Contains(exe, "memfd:viarule") {
				t.Errorf("the guard runs %q, %v", exe, err)
			}
			h.must(write(h.k, theChange))
			h.must(p.Applied())
			h.must(lock.Unlock())
			h.waitEnd(guard)
			h.want(rulesBefore, oldRef)
		})
	}
}

func TestArmFails(t *testing.T) {
	script := filepath.Join(t.TempDir(), "no-guard")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho this is no guard >&2\nexit 7\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		c    Config
		want string
	}{
		{"no such program", Config{Wait: long, Program: "/nonexistent/viarule"}, "no such file"},
		{"a program that is no guard", Config{Wait: long, Program: script}, "this is no guard"},
		{"no such namespace", Config{Wait: long, Netns: "nonexistent"}, "hold the namespace"},
		{"another namespace than the lock's", Config{Wait: long, Netns: "/proc/1/ns/net"}, "namespace"},
		{"no time", Config{}, "no time to wait"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHost(t)
			p, lock, err := armed(tt.c, h.k, h.store)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("armed (%v) with error %v, want %q", p, err, tt.want)
			}
			h.must(lock.Unlock())
			h.want(rulesBefore, oldRef)
		})
	}
}

func TestMainRefusesNonsense(t *testing.T) {
	id := newID()
	for _, args := range [][]string{nil, {modeChild}, {modeChild, "/run", "x", id}, {modeChild, "/run", "1", "../.."}, {modeChild, "/run", "1", ""}} {
		if err := Main(args, Hooks{}); err == nil {
			t.Errorf("Main(%q) did something", args)
		}
	}
}
