package rttables

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func ownText(t *testing.T, d Dir, folder string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(d.Etc, folder, "viarule.conf"))
	if os.IsNotExist(err) {
		return "(none)"
	}
	must(t, err)
	text, ok := strings.CutPrefix(string(b), header)
	if !ok {
		t.Errorf("no header: %q", b)
	}
	return text
}

func TestWriteTables(t *testing.T) {
	d := tree(t, "-- etc/rt_tables --\n7 a\n-- etc/rt_tables.d/z.conf --\n8 b\n")
	steps := []struct {
		names   map[string]uint32
		want    string
		changed bool
		err     string
	}{
		{nil, "(none)", false, ""},
		{map[string]uint32{"up": 5001, "down": 5000, "alias": 5001}, "5000\tdown\n5001\talias\n5001\tup\n", true, ""},
		{map[string]uint32{"up": 5001, "down": 5000, "alias": 5001}, "5000\tdown\n5001\talias\n5001\tup\n", false, ""},
		{map[string]uint32{"up": 5001, "a": 7, "b": 8, "main": 254}, "5001\tup\n", true, ""},
		{map[string]uint32{"up": 5001, "a": 5002}, "5001\tup\n", false, `"a" stands for 7`},
		{map[string]uint32{"up": 5001, "bad name": 5002}, "5001\tup\n", false, `"bad name"`},
		{map[string]uint32{"a": 7}, "(none)", true, ""},
		{map[string]uint32{}, "(none)", false, ""},
	}
	for i, s := range steps {
		changed, err := d.WriteTables(s.names)
		if changed != s.changed || s.err == "" && err != nil || s.err != "" && (err == nil || !strings.Contains(err.Error(), s.err)) {
			t.Errorf("step %d: changed %v, error %v", i, changed, err)
		}
		if got := ownText(t, d, "rt_tables.d"); got != s.want {
			t.Errorf("step %d: %q, want %q", i, got, s.want)
		}
	}
	list, err := os.ReadDir(filepath.Join(d.Etc, "rt_tables.d"))
	if err != nil || len(list) != 1 || list[0].Name() != "z.conf" {
		t.Errorf("left in the folder: %v %v", list, err)
	}
}

func TestWriteTouchesNothingWhenRight(t *testing.T) {
	d := tree(t, "")
	names := map[string]uint32{"up": 5000}
	_, err := d.WriteTables(names)
	must(t, err)
	path := filepath.Join(d.Etc, "rt_tables.d/viarule.conf")
	before, err := os.Stat(path)
	must(t, err)
	if before.Mode().Perm() != 0o644 {
		t.Errorf("mode %v", before.Mode())
	}
	_, err = d.WriteTables(names)
	must(t, err)
	after, err := os.Stat(path)
	must(t, err)
	if !os.SameFile(before, after) {
		t.Error("it was written again")
	}
}

func TestWriteIgnoresTheUmask(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	d := tree(t, "-- etc/x --\n")
	_, err := d.WriteTables(map[string]uint32{"up": 5000})
	must(t, err)
	info, err := os.Stat(filepath.Join(d.Etc, "rt_tables.d/viarule.conf"))
	if err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("mode %v %v", info.Mode(), err)
	}
}

func TestWriteProtocols(t *testing.T) {
	d := tree(t, "")
	for _, s := range []struct {
		on, changed bool
		want        string
	}{
		{true, true, "118\tviarule\n119\tviarule-cni\n120\tviarule-bgp\n"},
		{true, false, "118\tviarule\n119\tviarule-cni\n120\tviarule-bgp\n"},
		{false, true, "(none)"},
		{false, false, "(none)"},
	} {
		changed, err := d.WriteProtocols(s.on)
		if err != nil || changed != s.changed {
			t.Errorf("on %v: changed %v, error %v", s.on, changed, err)
		}
		if got := ownText(t, d, "rt_protos.d"); got != s.want {
			t.Errorf("on %v: %q", s.on, got)
		}
	}
}

// TestWriteStaysInItsFile lays traps; the file named victim must keep its
// content, and the error must name viarule.conf.
func TestWriteStaysInItsFile(t *testing.T) {
	tests := []struct {
		name string
		trap func(t *testing.T, d Dir, victim string)
		ok   bool // the write works, around the trap
	}{
		{"the file is a link", func(t *testing.T, d Dir, victim string) {
			must(t, os.Symlink(victim, filepath.Join(d.Etc, "rt_tables.d/viarule.conf")))
		}, false},
		{"the folder is a link", func(t *testing.T, d Dir, victim string) {
			must(t, os.Remove(filepath.Join(d.Etc, "rt_tables.d")))
			must(t, os.Symlink(filepath.Dir(victim), filepath.Join(d.Etc, "rt_tables.d")))
		}, false},
		{"the folder is a link to one beside it", func(t *testing.T, d Dir, victim string) {
			must(t, os.Rename(filepath.Join(d.Etc, "rt_tables.d"), filepath.Join(d.Etc, "other")))
			must(t, os.Symlink("other", filepath.Join(d.Etc, "rt_tables.d")))
		}, false},
		{"somebody else's file under the name", func(t *testing.T, d Dir, _ string) {
			must(t, os.WriteFile(filepath.Join(d.Etc, "rt_tables.d/viarule.conf"), []byte("9 theirs\n"), 0o644))
		}, false},
		{"a folder under the name", func(t *testing.T, d Dir, _ string) {
			must(t, os.Mkdir(filepath.Join(d.Etc, "rt_tables.d/viarule.conf"), 0o755))
		}, false},
		{"the temporary file is a link", func(t *testing.T, d Dir, victim string) {
			must(t, os.Symlink(victim, filepath.Join(d.Etc, "rt_tables.d/.viarule.conf.new")))
		}, true},
		{"a killed process left a temporary file", func(t *testing.T, d Dir, _ string) {
			must(t, os.WriteFile(filepath.Join(d.Etc, "rt_tables.d/.viarule.conf.new"), []byte("9 ha"), 0o600))
		}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := tree(t, "")
			must(t, os.MkdirAll(filepath.Join(d.Etc, "rt_tables.d"), 0o755))
			victim := filepath.Join(t.TempDir(), "viarule.conf")
			must(t, os.WriteFile(victim, []byte("keep"), 0o644))
			tt.trap(t, d, victim)
			_, err := d.WriteTables(map[string]uint32{"up": 5000})
			if tt.ok {
				must(t, err)
				if got := ownText(t, d, "rt_tables.d"); got != "5000\tup\n" {
					t.Errorf("wrote %q", got)
				}
			} else {
				if err == nil || !strings.Contains(err.Error(), "viarule.conf") {
					t.Errorf("error %v", err)
				}
				path := filepath.Join(d.Etc, "rt_tables.d/viarule.conf")
				_, before := os.Lstat(path)
				_, err = d.WriteTables(nil)
				if _, after := os.Lstat(path); before == nil && (err == nil || after != nil) {
					t.Errorf("removed: %v, %v", err, after)
				}
			}
			if b, _ := os.ReadFile(victim); string(b) != "keep" {
				t.Errorf("the victim holds %q", b)
			}
		})
	}
}
