package boot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/viarule/viarule/internal/spec"
)

func object(name, text string) spec.Object {
	return spec.Object{Ref: spec.Ref{Kind: spec.KindRoutingPolicy, Name: name}, Text: []byte(text)}
}

// host makes a root with the folders given; one that ends in systemd/system
// below /run makes systemd PID 1.
func host(t *testing.T, dirs ...string) Config {
	t.Helper()
	root := t.TempDir()
	for _, d := range append(dirs, "/etc") {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return Config{Root: root, Program: "/usr/sbin/viarule"}
}

// tree lists everything below the root with mode and content.
func tree(t *testing.T, root string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, p)
		info, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s %s", info.Mode(), rel)
		if d.Type().IsRegular() {
			c, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %q", c)
		}
		if d.Type()&fs.ModeSymlink != 0 {
			to, _ := os.Readlink(p)
			fmt.Fprintf(&b, " -> %s", to)
		}
		b.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestApplyAndRemove(t *testing.T) {
	everything := []string{"/run/systemd/system", "/etc/systemd/system/multi-user.target.wants", "/etc/udev/rules.d", "/etc/network/if-up.d",
		"/etc/networkd-dispatcher/routable.d", "/etc/NetworkManager/dispatcher.d"}
	for _, tt := range []struct {
		name string
		dirs []string
		want []string // beside the object
		say  string
	}{
		{"systemd and every hook", everything, []string{bootUnit, linkUnit, udevRule, bootWants, ifupHook, networkd, nmHook}, "systemd applies this at boot"},
		{"bare systemd, whose folders are missing", everything[:1], []string{bootUnit, linkUnit, udevRule, bootWants}, "systemctl reload viarule"},
		{"ifupdown without systemd", everything[3:4], []string{ifupHook}, "ifupdown applies this whenever a link has come up"},
		{"nothing that could call it", nil, nil, "have `/usr/sbin/viarule apply --from-boot` called as root at boot"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := host(t, tt.dirs...)
			before := tree(t, c.Root)
			a, b := object("uplinks", "kind: RoutingPolicy # 4\n"), object("v6", "kind: RoutingPolicy # 6")
			r, err := c.Apply(Change{Put: []spec.Object{a, b}})
			if err != nil {
				t.Fatal(err)
			}
			want := append([]string{filepath.Join(Dir, fileName(a.Ref)), filepath.Join(Dir, fileName(b.Ref))}, tt.want...)
			slices.Sort(want)
			slices.Sort(r.Written)
			if !slices.Equal(r.Written, want) {
				t.Errorf("written %q\nwant    %q", r.Written, want)
			}
			if say := strings.Join(r.Say, "\n"); !strings.Contains(say, tt.say) {
				t.Errorf("says %q, not %q", say, tt.say)
			}
			files, err := c.Files()
			if err != nil || len(files) != 2 {
				t.Fatalf("files %q, %v", files, err)
			}
			text, err := os.ReadFile(files[0])
			if err != nil || !strings.HasSuffix(string(text), "\nkind: RoutingPolicy # 4\n") {
				t.Errorf("kept %q, %v", text, err)
			}
			if info, _ := os.Stat(files[0]); info.Mode() != 0o644 {
				t.Errorf("mode %v", info.Mode())
			}

			// Again: nothing to write.
			written := tree(t, c.Root)
			if r, err := c.Apply(Change{Put: []spec.Object{a, b}}); err != nil || len(r.Written)+len(r.Removed) > 0 {
				t.Errorf("the second time: %+v, %v", r, err)
			}
			if after := tree(t, c.Root); after != written {
				t.Errorf("the second time changed\n%s\nto\n%s", written, after)
			}

			// The first object goes, the second keeps everything else there.
			if r, err := c.Apply(Change{Remove: []spec.Ref{a.Ref}}); err != nil || len(r.Removed) != 1 {
				t.Errorf("remove one: %+v, %v", r, err)
			}
			if there, err := c.Has(a.Ref); err != nil || there {
				t.Errorf("Has(%s) = %v, %v", a.Ref, there, err)
			}
			if there, err := c.Has(b.Ref); err != nil || !there {
				t.Errorf("Has(%s) = %v, %v", b.Ref, there, err)
			}
			if _, err := c.Apply(Change{Remove: []spec.Ref{a.Ref, b.Ref}}); err != nil {
				t.Fatal(err)
			}
			if after := tree(t, c.Root); after != before {
				t.Errorf("before\n%s\nafter everything went\n%s", before, after)
			}
		})
	}
}

func TestStagedUntilCommit(t *testing.T) {
	c := host(t, "/run/systemd/system")
	before := tree(t, c.Root)
	dir := filepath.Join(t.TempDir(), "boot")
	o := object("uplinks", "spec: {}\n")
	if err := c.Stage(dir, Change{Put: []spec.Object{o}}); err != nil {
		t.Fatal(err)
	}
	if after := tree(t, c.Root); after != before {
		t.Fatalf("staging changed the host:\n%s", after)
	}
	r, err := c.Commit(dir)
	if err != nil || len(r.Written) == 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	if ok, _ := c.Has(o.Ref); !ok {
		t.Error("not kept after Commit")
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is still there: %v", dir, err)
	}
	if r, err := c.Commit(dir); err != nil || len(r.Written) > 0 {
		t.Errorf("a second Commit: %+v, %v", r, err)
	}

	// Discarded: as if it never was.
	kept := tree(t, c.Root)
	if err := c.Stage(dir, Change{Remove: []spec.Ref{o.Ref}}); err != nil {
		t.Fatal(err)
	}
	if err := Discard(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Commit(dir); err != nil {
		t.Fatal(err)
	}
	if after := tree(t, c.Root); after != kept {
		t.Errorf("a discarded change was made:\n%s", after)
	}
}

func TestCommitRefusesPaths(t *testing.T) {
	for _, name := range []string{"../../cron.d/x.yaml", "/etc/passwd", "a/b.yaml", ".hidden.yaml", "x", ""} {
		c := host(t)
		before := tree(t, c.Root)
		dir := t.TempDir()
		text := fmt.Sprintf(`{%q: "x"}`, name)
		if err := os.WriteFile(filepath.Join(dir, stageFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Commit(dir); err == nil {
			t.Errorf("%q was taken for a file name", name)
		}
		if after := tree(t, c.Root); after != before {
			t.Errorf("%q: wrote\n%s", name, after)
		}
	}
}

func TestFileNames(t *testing.T) {
	seen := map[string]string{}
	for _, name := range []string{"uplinks", "Uplinks", "a/b", "a_b", "../../../etc/passwd", "..", ".", "", "x\x00y", "ü", strings.Repeat("n", 300), "-f"} {
		f := fileName(spec.Ref{Kind: "RoutingPolicy", Name: name})
		if f != filepath.Base(f) || f[0] == '.' || f[0] == '-' || len(f) > 200 || strings.ContainsFunc(f, func(r rune) bool { return r <= ' ' || r > '~' || r == '/' }) {
			t.Errorf("%q gives the file name %q", name, f)
		}
		if other, ok := seen[f]; ok {
			t.Errorf("%q and %q have the same file", name, other)
		}
		seen[f] = name
	}
	if f := fileName(spec.Ref{Kind: "../..", Name: ".."}); f[0] == '.' || strings.Contains(f, "/") {
		t.Errorf("a kind gives the file name %q", f)
	}
}

func TestForeignFilesStay(t *testing.T) {
	for _, path := range []string{bootUnit, linkUnit, udevRule, ifupHook} {
		t.Run(path, func(t *testing.T) {
			c := host(t, "/run/systemd/system", "/etc/network/if-up.d")
			if err := os.MkdirAll(filepath.Dir(c.path(path)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(c.path(path), []byte("# mine\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			o := object("uplinks", "spec: {}\n")
			_, err := c.Apply(Change{Put: []spec.Object{o}})
			var foreign *ForeignError
			if !errors.As(err, &foreign) || foreign.Path != path {
				t.Errorf("error %v", err)
			}
			if _, err := c.Apply(Change{Remove: []spec.Ref{o.Ref}}); err != nil {
				t.Fatal(err)
			}
			if b, err := os.ReadFile(c.path(path)); err != nil || string(b) != "# mine\n" {
				t.Errorf("the foreign file holds %q now, %v", b, err)
			}
		})
	}
}

func TestUnitsAreValid(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("skipped: no systemd-analyze here")
	}
	// systemd wants the program to exist.
	dir := t.TempDir()
	program := filepath.Join(dir, `via rule 100% $x`)
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"viarule.service": bootService(program), "viarule-link@x.service": linkService(program)} {
		unit := filepath.Join(dir, name)
		if err := os.WriteFile(unit, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		// It knows no page of ours in man(1).
		out, err := exec.Command("systemd-analyze", "verify", "--man=no", unit).CombinedOutput()
		if err != nil || strings.Contains(string(out), dir) || strings.Contains(string(out), name) {
			t.Errorf("%s: %v\n%s\n%s", name, err, out, text)
		}
	}
}

func TestProgramsThatNoUnitCanName(t *testing.T) {
	for _, program := range []string{"viarule", "./viarule", "/opt/a\nExecStart=/bin/sh", `/opt/"x"`, `/opt/\x`} {
		c := host(t, "/run/systemd/system")
		c.Program = program
		before := tree(t, c.Root)
		if _, err := c.Apply(Change{Put: []spec.Object{object("x", "spec: {}")}}); err == nil {
			t.Errorf("%q was taken", program)
		}
		if after := tree(t, c.Root); after != before {
			t.Errorf("%q: wrote\n%s", program, after)
		}
	}
}

func TestHooks(t *testing.T) {
	dir := t.TempDir()
	called := filepath.Join(dir, "called")
	program := filepath.Join(dir, "it $is viarule")
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho \"$@\" >"+called+"\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		hook string
		env  string
		args []string
		want bool
	}{
		{ifupHook, "IFACE=eth0", nil, true},
		{ifupHook, "IFACE=lo", nil, false},
		{networkd, "IFACE=eth0", nil, true},
		{nmHook, "", []string{"eth0", "up"}, true},
		{nmHook, "", []string{"eth0", "dhcp6-change"}, true},
		{nmHook, "", []string{"eth0", "down"}, false},
		{nmHook, "", []string{"", "hostname"}, false},
	} {
		i := slices.IndexFunc(hooks[:], func(h hook) bool { return h.path == tt.hook })
		script := filepath.Join(dir, "hook")
		if err := os.WriteFile(script, []byte(hooks[i].script(program)), 0o755); err != nil {
			t.Fatal(err)
		}
		_ = os.Remove(called)
		cmd := exec.Command("/bin/sh", append([]string{script}, tt.args...)...)
		cmd.Env = append(os.Environ(), tt.env)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s %s %q fails: %v\n%s", tt.hook, tt.env, tt.args, err, out)
		}
		b, err := os.ReadFile(called)
		if got := err == nil && string(b) == "apply --from-boot\n"; got != tt.want {
			t.Errorf("%s %s %q: called %v (%q), want %v", tt.hook, tt.env, tt.args, got, b, tt.want)
		}
	}
}
