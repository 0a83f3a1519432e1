package guard

import (
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A time namespace shifts the boot clock and leaves the others as they are.
func TestBootClock(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() != 0 {
		t.Skip("skipped: needs root, to make a time namespace")
	}
	out, err := exec.Command("unshare", "--time", "--boottime", "864000", exe, "bootnow").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	there, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	here, err := bootNow()
	if err != nil {
		t.Fatal(err)
	}
	if ahead := time.Duration(there) - here; ahead < 863000*time.Second || ahead > 864000*time.Second {
		t.Errorf("ten days later it is %s later", ahead)
	}
}

func TestAlarm(t *testing.T) {
	a, err := newAlarm()
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	now, err := bootNow()
	if err != nil {
		t.Fatal(err)
	}
	set := func(at time.Duration) {
		t.Helper()
		if err := a.Set(at); err != nil {
			t.Fatal(err)
		}
	}
	set(now + time.Hour)
	set(now + 20*time.Millisecond) // replaces the former
	<-a.C
	rang, err := bootNow()
	if err != nil {
		t.Fatal(err)
	}
	if rang < now+20*time.Millisecond {
		t.Errorf("rang %s too early", now+20*time.Millisecond-rang)
	}
	for _, past := range []time.Duration{now, 1, 0, -time.Hour} {
		set(past)
		<-a.C
	}
}

func TestProcess(t *testing.T) {
	p, err := self()
	if err != nil {
		t.Fatal(err)
	}
	f, err := p.open()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if ended(f, 0) {
		t.Error("this process has ended")
	}
	p.Start++ // the pid was used again
	if _, err := p.open(); err != unix.ESRCH {
		t.Errorf("another process with the same pid: %v", err)
	}
	if _, err := (process{}).open(); err != unix.ESRCH {
		t.Errorf("no process: %v", err)
	}
	// A name with everything that /proc/PID/stat could be misread by.
	cmd := exec.Command("/bin/cat")
	dir := filepath.Join(t.TempDir(), ") 1 (x")
	b, err := os.ReadFile("/bin/cat")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir, b, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd.Path = dir
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	start, err := startTime(cmd.Process.Pid)
	mine, _ := startTime(os.Getpid())
	if err != nil || start < mine {
		t.Errorf("it started at %d, %v; this one at %d", start, err, mine)
	}
	q := process{cmd.Process.Pid, start}
	qf, err := q.open()
	if err != nil {
		t.Fatal(err)
	}
	defer qf.Close()
	_ = in.Close()
	_ = cmd.Wait()
	if !ended(qf, testLimit) {
		t.Error("it has not ended")
	}
	if err := kill(qf); err != nil {
		t.Errorf("kill what has ended: %v", err)
	}
}

func TestHierarchies(t *testing.T) {
	for _, tt := range []struct {
		name, mounts string
		want         []hierarchy
	}{
		{"version 2", "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate",
			[]hierarchy{{"/sys/fs/cgroup", nil}}},
		{"hybrid", `31 23 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
32 23 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/lib/agent,name=systemd
33 23 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
34 23 0:30 / /proc rw - proc proc rw`,
			[]hierarchy{{"/sys/fs/cgroup/unified", nil}, {"/sys/fs/cgroup/systemd", []string{"name=systemd"}}, {"/sys/fs/cgroup/cpu,cpuacct", []string{"cpu", "cpuacct"}}}},
		{"mounted twice, once in part, and with a space", `31 23 0:27 /docker/1 /part rw - cgroup2 c rw
32 23 0:27 / /a\040whole rw - cgroup2 c rw
33 23 0:27 / /again rw - cgroup2 c rw`,
			[]hierarchy{{"/a whole", nil}}},
		{"nonsense", "\n - \nx - cgroup2\n1 2 3 4 - cgroup2 c rw\n", nil},
	} {
		got, err := hierarchies(strings.NewReader(tt.mounts))
		if err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: %+v, %v; want %+v", tt.name, got, err, tt.want)
		}
	}
}

// fakeHierarchy is a folder whose groups take processes in cgroup.procs, but for
// the root if refuses is set.
func fakeHierarchy(t *testing.T, refuses bool, groups ...string) hierarchy {
	t.Helper()
	root := t.TempDir()
	for _, g := range append(groups, ".") {
		procs := filepath.Join(root, g, "cgroup.procs")
		if err := os.MkdirAll(filepath.Dir(procs), 0o755); err != nil {
			t.Fatal(err)
		}
		if g == "." && refuses {
			if err := os.Mkdir(procs, 0o755); err != nil { // EISDIR in place of EBUSY
				t.Fatal(err)
			}
			continue
		}
		if err := os.WriteFile(procs, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return hierarchy{mount: root}
}

func TestLeaveCgroups(t *testing.T) {
	read := func(h hierarchy, g string) string {
		b, err := os.ReadFile(filepath.Join(h.mount, g, "cgroup.procs"))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	t.Run("to the root", func(t *testing.T) {
		h := fakeHierarchy(t, false, "session")
		if made, warnings := leaveCgroups([]hierarchy{h}, 42, "g"); len(made)+len(warnings) > 0 || read(h, ".") != "42" {
			t.Errorf("made %q, warnings %q, root has %q", made, warnings, read(h, "."))
		}
	})
	t.Run("to a group of its own, and back", func(t *testing.T) {
		// The kernel fills a new group with files; here they must be there before,
		// so the fallback is looked at in two steps.
		h := fakeHierarchy(t, true, "session", "g")
		own := filepath.Join(h.mount, "g")
		from := origins([]hierarchy{h}, "0::/session\n", []string{own})
		if want := filepath.Join(h.mount, "session"); from[own] != want {
			t.Fatalf("it came from %q, want %q", from[own], want)
		}
		if err := os.Remove(filepath.Join(own, "cgroup.procs")); err != nil { // as a group that is empty
			t.Fatal(err)
		}
		if err := leaveOwn(own, from); err != nil {
			t.Fatal(err)
		}
		if read(h, "session") != "0" {
			t.Errorf("the session's group got %q", read(h, "session"))
		}
		if _, err := os.Stat(own); !os.IsNotExist(err) {
			t.Errorf("the group of its own is still there: %v", err)
		}
	})
	t.Run("nowhere", func(t *testing.T) {
		h := fakeHierarchy(t, true)
		made, warnings := leaveCgroups([]hierarchy{h}, 42, "g") // mkdir gives no cgroup.procs here
		if len(made) > 0 || len(warnings) != 1 || !strings.Contains(warnings[0], h.mount) {
			t.Errorf("made %q, warnings %q", made, warnings)
		}
		if _, err := os.Stat(filepath.Join(h.mount, "g")); !os.IsNotExist(err) {
			t.Errorf("a group was left behind: %v", err)
		}
	})
	for text, want := range map[string]bool{"0::/\n": true, "2:cpu:/\n0::/\n": true, "0::/user.slice\n": false, "1:name=systemd:/x\n0::/\n": false, "": true} {
		if inRoots(text) != want {
			t.Errorf("inRoots(%q) = %v", text, !want)
		}
	}
}

func TestSweepLibrary(t *testing.T) {
	dir := t.TempDir()
	for name, age := range map[string]time.Duration{"viarule-guard-old": 100 * 365 * 24 * time.Hour / 2, "viarule-guard-new": 0, "somebody's": 50 * 365 * 24 * time.Hour} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		then := time.Now().Add(-age)
		if err := os.Chtimes(filepath.Join(dir, name), then, then); err != nil {
			t.Fatal(err)
		}
	}
	if err := sweepLibrary(dir); err != nil {
		t.Fatal(err)
	}
	list, err := os.ReadDir(dir)
	if err != nil || len(list) != 2 || list[0].Name() != "somebody's" || list[1].Name() != "viarule-guard-new" {
		t.Errorf("left are %v, %v", list, err)
	}
	if err := sweepLibrary(filepath.Join(dir, "none")); err != nil {
		t.Errorf("no library: %v", err)
	}
}

func TestJournalIsNotTrusted(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(journalDir(dir), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"", "{", "[]", `{"id": "../../etc"}`, `{"id": ""}`, `{"id": 7}`} {
		if err := os.WriteFile(journalPath(dir), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if j, err := readJournal(dir); err == nil {
			t.Errorf("%q was read as %+v", text, j)
		}
	}
	if err := os.Remove(journalPath(dir)); err != nil {
		t.Fatal(err)
	}
	if j, err := readJournal(dir); j != nil || err != nil {
		t.Errorf("no journal: %v, %v", j, err)
	}
	if err := os.Symlink("/dev/zero", journalPath(dir)); err != nil {
		t.Fatal(err)
	}
	if _, err := readJournal(dir); err == nil {
		t.Error("a symbolic link was followed")
	}
}
