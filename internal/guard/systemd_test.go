package guard

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/netnstest"
)

// fakeSystemd puts a systemd-run and a systemctl in PATH that note how they were
// called, a line for each argument. systemd-run then does what run says in
// shell, with the guard's command line as "$@". It returns the file of the notes.
func fakeSystemd(t *testing.T, run string) (calls string) {
	t.Helper()
	dir := t.TempDir()
	calls = filepath.Join(dir, "calls")
	note := "#!/bin/sh\n{ echo \"[${0##*/}]\"; printf '%s\\n' \"$@\"; } >>" + calls + "\n"
	for name, rest := range map[string]string{
		"systemd-run": `while [ "$1" != -- ]; do shift; done; shift` + "\n" + run + "\n",
		"systemctl":   "exit 5\n", // as for units that are gone
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(note+rest), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return calls
}

// service runs the guard as systemd would: with no session and no terminal.
const service = `env -i PATH="$PATH" setsid "$@" </dev/null >/dev/null 2>&1 &`

// underSystemd takes the test itself for PID 1, since a test has a network
// namespace of its own.
func underSystemd(t *testing.T, c Config) Config {
	c.booted, c.manager = t.TempDir(), "/proc/thread-self"
	return c
}

func called(t *testing.T, calls string) []string {
	t.Helper()
	b, err := os.ReadFile(calls)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(b)), "\n")
}

func TestSystemdRunsTheGuard(t *testing.T) {
	h := newHost(t)
	calls := fakeSystemd(t, service)
	p, lock := h.arm(underSystemd(t, Config{Wait: time.Minute}))
	_, guard := h.guardian()
	h.must(write(h.k, theChange))
	h.must(p.Applied())
	h.must(lock.Unlock())

	unit := "viarule-guard-" + p.j.ID
	want := []string{"[systemd-run]", "--quiet", "--collect", "--no-ask-password",
		"--unit=" + unit, "--description=viarule: undo an apply that nobody confirms",
		"--on-active=0", "--on-active=65000ms", "--timer-property=AccuracySec=100ms", "--property=Restart=on-abnormal",
		"--property=OOMScoreAdjust=-900", "--property=UMask=0077", "--",
		filepath.Join(ownDir(h.ns.Dir(), p.j.ID), "viarule"), "__guard", "service", h.store.Dir, fmt.Sprint(h.ns.Cookie()), p.j.ID}
	if got := called(t, calls); !slices.Equal(got, want) {
		t.Errorf("systemd was called with\n%q\nnot\n%q", got, want)
	}
	h.expireNow()
	h.waitEnd(guard)
	h.want(rulesBefore, oldRef)
	if got := called(t, calls); !slices.Equal(got[len(want):], []string{"[systemctl]", "stop", "--quiet", "--no-block", unit + ".timer"}) {
		t.Errorf("afterwards systemd was called with %q", got[len(want):])
	}
}

func TestConfirmStopsTheUnits(t *testing.T) {
	h := newHost(t)
	calls := fakeSystemd(t, service)
	p, lock := h.arm(underSystemd(t, Config{Wait: long}))
	_, guard := h.guardian()
	h.must(write(h.k, theChange))
	h.must(p.Applied())
	h.must(p.Confirm())
	h.must(lock.Commit())
	h.must(lock.Unlock())
	if !ended(guard, 0) {
		t.Error("the guard lives")
	}
	got := called(t, calls)
	if want := []string{"[systemctl]", "stop", "--quiet", p.j.Unit + ".timer", p.j.Unit + ".service"}; !slices.Equal(got[len(got)-len(want):], want) {
		t.Errorf("systemd was called with %q", got)
	}
	h.want(rulesAfter, oldRef, newRef)
}

func TestSystemdWithNoexecRun(t *testing.T) {
	netnstest.New(t, netnstest.Mounts())
	dir := "/run/noexec"
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("viarule-test", dir, "tmpfs", unix.MS_NOEXEC, "mode=0755"); err != nil {
		t.Fatal(err)
	}
	h := newHostHere(t, dir)
	calls := fakeSystemd(t, service)
	library := filepath.Join(t.TempDir(), "lib")
	p, lock := h.arm(underSystemd(t, Config{Wait: long, Library: library}))
	_, guard := h.guardian()
	if program := filepath.Join(library, p.j.Unit, "viarule"); !slices.Contains(called(t, calls), program) {
		t.Errorf("systemd was not told to run %s: %q", program, called(t, calls))
	}
	if info, err := os.Stat(filepath.Join(library, p.j.Unit)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder of the copy: %v, %v", info, err)
	}
	h.must(write(h.k, theChange))
	h.must(p.Applied())
	h.must(lock.Unlock())
	h.expireNow()
	h.waitEnd(guard)
	h.want(rulesBefore, oldRef)
	if _, err := os.Stat(library); !os.IsNotExist(err) {
		t.Errorf("the copy is still there: %v", err)
	}
}

func TestChildWhereSystemdFails(t *testing.T) {
	for name, run := range map[string]string{
		"systemd-run fails": "echo 'Unknown assignment' >&2; exit 1",
		"the guard says no": `cd "$4/ns-$5/guard/$6" && echo '{"error": "permission denied"}' >x && mv x answer`,
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			fakeSystemd(t, run)
			c := underSystemd(t, Config{Wait: long})
			p, lock, err := armed(c, h.k, h.store)
			if p == nil || err == nil || !strings.Contains(err.Error(), "systemd does not run the guard") {
				t.Fatalf("armed %v, %v", p, err)
			}
			if p.j.Unit != "" || p.j.Library != "" {
				t.Errorf("journal %+v", p.j)
			}
			_, guard := h.guardian()
			if lock == nil {
				t.Fatal("no lock")
			}
			_ = lock.Unlock()
			h.expireNow()
			h.waitEnd(guard)
			h.want(rulesBefore, oldRef)
		})
	}
}

func TestWhenSystemdFits(t *testing.T) {
	netnstest.New(t)
	fakeSystemd(t, "")
	booted := t.TempDir()
	other := t.TempDir() // another PID 1's folder in /proc
	if err := os.Mkdir(filepath.Join(other, "ns"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, ns := range []string{"mnt", "pid", "time", "net"} {
		to, err := os.Readlink("/proc/thread-self/ns/" + ns)
		if err != nil {
			t.Fatal(err)
		}
		if ns == "net" {
			to = "net:[1]"
		}
		if err := os.Symlink(to, filepath.Join(other, "ns", ns)); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name            string
		c               Config
		netns, dir, why string
	}{
		{"it does", Config{booted: booted, manager: "/proc/thread-self"}, "", "/run/viarule/ns-1", ""},
		{"not PID 1", Config{booted: booted + "/none", manager: "/proc/thread-self"}, "", "/run/viarule/ns-1", "systemd does not run"},
		{"its own network namespace", Config{booted: booted, manager: other}, "", "/run/viarule/ns-1", "another net namespace"},
		{"a named namespace", Config{booted: booted, manager: other}, "/run/netns/x", "/run/viarule/ns-1", ""},
		{"a folder that systemd would expand", Config{booted: booted, manager: "/proc/thread-self"}, "", "/run/$x/ns-1", "has a $"},
	} {
		err := tt.c.systemdFits(tt.netns, tt.dir)
		if tt.why == "" && err != nil || tt.why != "" && (err == nil || !strings.Contains(err.Error(), tt.why)) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.why)
		}
	}
}
