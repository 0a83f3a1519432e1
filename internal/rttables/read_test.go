package rttables

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// tree makes the two folders from text: `-- etc/rt_tables.d/a.conf --` starts a
// file. It returns them as a Dir.
func tree(t *testing.T, text string) Dir {
	t.Helper()
	root := t.TempDir()
	var path string
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "--" && f[2] == "--" {
			path = filepath.Join(root, f[1])
			must(t, os.MkdirAll(filepath.Dir(path), 0o755))
			must(t, os.WriteFile(path, nil, 0o644))
			continue
		}
		f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		must(t, err)
		_, err = f.WriteString(line)
		must(t, err)
		must(t, f.Close())
	}
	return Dir{Etc: filepath.Join(root, "etc"), Usr: filepath.Join(root, "usr")}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// show renders names without the built-in ones: name=number, then number:name
// where that is not the same the other way round.
func show(n Names, k kind) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(n.ByName)) {
		if id := n.ByName[name]; k.builtin[id] != name {
			out = append(out, fmt.Sprintf("%s=%d", name, id))
		}
	}
	for _, id := range slices.Sorted(maps.Keys(n.ByID)) {
		name := n.ByID[id]
		if got, ok := n.ByName[name]; !ok || got != id || (k.builtin[id] != "" && k.builtin[id] != name) {
			out = append(out, fmt.Sprintf("%d:%s", id, name))
		}
	}
	return strings.Join(out, " ")
}

func TestTables(t *testing.T) {
	long := strings.Repeat("x", 600)
	tests := []struct {
		name, files, want, problem string
	}{
		{name: "no folders at all"},
		{name: "comments, blanks, hex",
			files: "-- etc/rt_tables --\n# comment\n\n  100\tuplink  # the second one\n0xC8 custom\n\t0x1f lower\n#5 no\n",
			want:  "custom=200 lower=31 uplink=100"},
		{name: "folders, in order, only *.conf",
			files: "-- etc/rt_tables --\n7 a\n-- etc/rt_tables.d/b.conf --\n7 b\n-- etc/rt_tables.d/a.conf --\n7 c\n" +
				"-- etc/rt_tables.d/README --\n8 readme\n-- etc/rt_tables.d/.conf --\n9 hidden\n-- etc/rt_tables.d/.x.conf --\n9 hidden\n",
			want: "a=7 b=7 c=7"},
		{name: "the administrator's main file hides the distribution's",
			files: "-- etc/rt_tables --\n7 a\n-- usr/rt_tables --\n8 b\n", want: "a=7"},
		{name: "the distribution's main file alone",
			files: "-- usr/rt_tables --\n8 b\n", want: "b=8"},
		{name: "a file in etc hides its namesake in usr, others are read first",
			files: "-- usr/rt_tables.d/x.conf --\n1 hidden\n-- usr/rt_tables.d/z.conf --\n2 usr\n-- etc/rt_tables.d/x.conf --\n2 etc\n3 x\n",
			want:  "etc=2 usr=2 x=3"},
		{name: "a name twice: the lower byte of the number decides",
			files: "-- etc/rt_tables --\n255 up\n256 up\n", want: "up=256 255:up"},
		{name: "a name twice in one bucket: the last",
			files: "-- etc/rt_tables --\n7 up\n263 up\n", want: "up=263 7:up"},
		{name: "a number twice: both names, the last is shown",
			files: "-- etc/rt_tables --\n7 one\n7 two\n", want: "one=7 two=7"},
		{name: "main can be given away",
			files: "-- etc/rt_tables --\n100 main\n", want: "main=100 254:main"},
		{name: "the largest number", files: "-- etc/rt_tables --\n4294967295 top\n0xffffffff hex\n", want: "hex=4294967295 top=4294967295"},
		{name: "a damaged line ends its file only",
			files:   "-- etc/rt_tables --\n7 a\nbroken\n8 b\n-- etc/rt_tables.d/x.conf --\n9 c\n",
			want:    "a=7 c=9",
			problem: "rt_tables:2: it does not start with a number"},
		{name: "a number without a name", files: "-- etc/rt_tables --\n7\n", problem: "rt_tables:1: there is no name"},
		{name: "a number out of range", files: "-- etc/rt_tables --\n4294967296 a\n", problem: "rt_tables:1: the number is not in 0 to 4294967295"},
		{name: "a long comment counts from its 512th byte as a line", files: "-- etc/rt_tables --\n#" + long + "\n7 a\n",
			problem: "rt_tables:2: it does not start with a number"},
		{name: "no newline at the end", files: "-- etc/rt_tables --\n7 a", want: "a=7"},
		{name: "carriage returns are space", files: "-- etc/rt_tables --\n7 a\r\n8 b\r\n", want: "a=7 b=8"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n, err := tree(t, tt.files).Tables()
			must(t, err)
			if got := show(n, tables()); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if p := strings.Join(n.Problems, "|"); tt.problem == "" && p != "" || !strings.Contains(p, tt.problem) {
				t.Errorf("problems %q, want %q", p, tt.problem)
			}
			if tt.want == "" && (n.ByName["main"] != 254 || n.ByID[255] != "local" || n.ByName["default"] != 253) {
				t.Errorf("built-in names: %v", n)
			}
		})
	}
}

func TestOddFiles(t *testing.T) {
	t.Run("a pipe is not waited for", func(t *testing.T) {
		d := tree(t, "-- etc/rt_tables --\n7 a\n")
		must(t, os.Mkdir(filepath.Join(d.Etc, "rt_tables.d"), 0o755))
		must(t, syscall.Mkfifo(filepath.Join(d.Etc, "rt_tables.d/p.conf"), 0o644))
		n, err := d.Tables()
		if err != nil || n.ByName["a"] != 7 || len(n.Problems) != 1 || !strings.Contains(n.Problems[0], "not a regular file") {
			t.Errorf("%v %v", n.Problems, err)
		}
	})
	t.Run("a huge file does not count", func(t *testing.T) {
		d := tree(t, "-- etc/rt_tables --\n7 a\n-- etc/rt_tables.d/b.conf --\n8 b\n")
		must(t, os.Truncate(filepath.Join(d.Etc, "rt_tables.d/b.conf"), 1<<40))
		n, err := d.Tables()
		if err != nil || n.ByName["a"] != 7 || len(n.Problems) != 1 || !strings.Contains(n.Problems[0], "larger than") {
			t.Errorf("%v %v", n.Problems, err)
		}
	})
	t.Run("links are followed, as ip does", func(t *testing.T) {
		d := tree(t, "-- etc/real --\n7 a\n")
		must(t, os.Symlink("real", filepath.Join(d.Etc, "rt_tables")))
		must(t, os.Mkdir(filepath.Join(d.Etc, "rt_tables.d"), 0o755))
		must(t, os.Symlink("/nowhere", filepath.Join(d.Etc, "rt_tables.d/x.conf")))
		n, err := d.Tables()
		if err != nil || n.ByName["a"] != 7 || len(n.Problems) != 0 {
			t.Errorf("%v %v", n, err)
		}
	})
	t.Run("a loop of links is an error", func(t *testing.T) {
		d := tree(t, "-- etc/x --\n")
		must(t, os.Symlink("rt_tables", filepath.Join(d.Etc, "rt_tables")))
		if _, err := d.Tables(); err == nil || !strings.Contains(err.Error(), "rt_tables") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("a file in place of the folder is an error", func(t *testing.T) {
		if _, err := tree(t, "-- etc/rt_tables.d --\n7 a\n").Tables(); err == nil || !strings.Contains(err.Error(), "rt_tables.d") {
			t.Errorf("error %v", err)
		}
	})
}

func TestProtocols(t *testing.T) {
	n, err := tree(t, "-- etc/rt_protos --\n200 mine\n-- etc/rt_protos.d/viarule.conf --\n118 viarule\n").Protocols()
	must(t, err)
	if n.ByName["mine"] != 200 || n.ByName["viarule"] != 118 || n.ByName["kernel"] != 2 || n.ByID[186] != "bgp" {
		t.Errorf("names %v", n.ByName)
	}
	n, err = tree(t, "-- etc/rt_protos --\n256 mine\n").Protocols()
	if err != nil || len(n.Problems) != 1 {
		t.Errorf("256: %v %v", n.Problems, err)
	}
}

func TestOwnNamesCanBeLeftOut(t *testing.T) {
	d := tree(t, "-- etc/rt_tables --\n7 a\n-- etc/rt_tables.d/viarule.conf --\n8 b\n-- etc/rt_tables.d/x.conf --\n9 c\n")
	n, err := d.TablesOfOthers()
	must(t, err)
	if got := show(n, tables()); got != "a=7 c=9" {
		t.Errorf("names %s", got)
	}
}

func TestValidName(t *testing.T) {
	for _, good := range []string{"a", "uplink2", "A.b_c-d", "0x", "0xg", "1a", "x-", "main", strings.Repeat("n", 64)} {
		if err := ValidName(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	bad := []string{"", "-a", "1", "007", "0x1f", "0XFF", "4294967296", "a b", "a\tb", "a\n100 main", "a#b", "a/b", "é", "\x00", "\xff", strings.Repeat("n", 65)}
	for _, bad := range bad {
		if ValidName(bad) == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("7 a\n0x1f b # c\n"))
	f.Add([]byte("#" + strings.Repeat("x", 600)))
	f.Fuzz(func(t *testing.T, data []byte) {
		for lines := 0; len(data) > 0; lines++ {
			line, rest := nextLine(data)
			if len(line) == 0 || len(line) > lineMax || len(line)+len(rest) != len(data) {
				t.Fatalf("%q is cut to %q and %q", data, line, rest)
			}
			if _, name, what := parseLine(line, 1<<32-1); name != "" && (what != "" || strings.ContainsAny(name, " \t\n")) {
				t.Fatalf("%q gives the name %q", line, name)
			}
			data = rest
		}
	})
}
