package record

import (
	"bufio"
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/netstate/netstatetest"
	"github.com/viarule/viarule/internal/spec"
	"pgregory.net/rapid"
)

func TestNoPathComesFromAnObject(t *testing.T) {
	s := store(t)
	n := s.Namespace(1)
	l := lock(t, n)
	names := []string{"../../../etc/passwd", "..", "/", "a/b", "\x00", "ns-1", "o-0", "index.json", strings.Repeat("x", 4096), "a\nb"}
	var c Change
	for _, name := range names {
		o := object(t, "x", oneText)
		o.Ref.Name = name
		c.Put = append(c.Put, o)
	}
	must(t, l.Stage(c))
	must(t, l.Commit())
	list, err := n.List()
	must(t, err)
	for i, o := range list {
		if o.Ref.Name != names[i] {
			t.Errorf("object %d is %q, want %q", i, o.Ref.Name, names[i])
		}
	}
	must(t, filepath.WalkDir(filepath.Dir(s.Dir), func(path string, d fs.DirEntry, err error) error {
		must(t, err)
		ok := d.Name() == "run" || d.Name() == "ns-1" || d.Name() == "lock" || d.Name() == "index.json" ||
			strings.HasPrefix(d.Name(), "o-") || path == filepath.Dir(s.Dir)
		if !ok {
			t.Errorf("unexpected file %s", path)
		}
		info, err := d.Info()
		must(t, err)
		if path != filepath.Dir(s.Dir) && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return nil
	}))
}

func TestStageRefusesBadObjects(t *testing.T) {
	l := lock(t, store(t).Namespace(1))
	one := object(t, "one", oneText)
	for _, put := range [][]Object{{one, one}, {{Ref: spec.Ref{Kind: "RoutingPolicy"}}}, {{Ref: spec.Ref{Name: "one"}}}} {
		if err := l.Stage(Change{Put: put}); err == nil {
			t.Errorf("took %v", put)
		}
	}
	if files, _ := filepath.Glob(filepath.Join(l.Namespace().Dir(), "o-*")); len(files) != 0 {
		t.Errorf("left %v", files)
	}
}

// TestDamage cuts and changes the files in every place: reading must give the
// right content or an error that names the file, never a part and never a panic.
func TestDamage(t *testing.T) {
	n := store(t).Namespace(1)
	l := lock(t, n)
	must(t, l.Stage(Change{Put: []Object{object(t, "one", oneText)}}))
	must(t, l.Commit())
	want := claims(t, n)
	data := filepath.Join(n.Dir(), "o-0")
	index := filepath.Join(n.Dir(), "index.json")
	for _, path := range []string{data, index} {
		good, err := os.ReadFile(path)
		must(t, err)
		try := func(bad []byte, whole bool) {
			must(t, os.WriteFile(path, bad, 0o600))
			c, err := n.Claims()
			if err == nil && whole {
				var b strings.Builder
				for r := range c.Rules {
					b.WriteString(r.String())
				}
				if len(c.Rules)+len(c.Routes) != strings.Count(want, "\n") {
					t.Errorf("%q reads as %d rules and %d routes", bad, len(c.Rules), len(c.Routes))
				}
			}
			if err != nil && !strings.Contains(err.Error(), n.Dir()) {
				t.Errorf("%q: error does not name the place: %v", bad, err)
			}
			_, _ = n.List()
			_, _ = n.Whole()
			_, _, _ = n.Get(spec.Ref{Kind: spec.KindRoutingPolicy, Name: "one"})
		}
		for i := range good {
			try(good[:i], true)
			bad := bytes.Clone(good)
			bad[i] ^= 1 << rand.IntN(8)
			try(bad, false)
		}
		must(t, os.WriteFile(path, good, 0o600))
	}
	equal(t, "repaired", claims(t, n), want)
	must(t, os.Remove(data))
	var e *Error
	if _, err := n.Claims(); !errors.As(err, &e) || e.Path != data || e.Do == "" {
		t.Errorf("without its data file: %v", err)
	}
}

func TestForeignFolders(t *testing.T) {
	tests := []struct {
		name string
		make func(t *testing.T, s Store)
		want string
	}{
		{"others may write", func(t *testing.T, s Store) { must(t, os.Mkdir(s.Dir, 0o700)); must(t, os.Chmod(s.Dir, 0o777)) }, "others may write"},
		{"a file", func(t *testing.T, s Store) { must(t, os.WriteFile(s.Dir, nil, 0o600)) }, "not a folder"},
		{"a symbolic link", func(t *testing.T, s Store) { must(t, os.Symlink(t.TempDir(), s.Dir)) }, "not a folder"},
		{"index is a link", func(t *testing.T, s Store) {
			must(t, os.MkdirAll(s.NamespaceDir(1), 0o700))
			must(t, os.Symlink("/dev/zero", filepath.Join(s.NamespaceDir(1), "index.json")))
		}, "too many levels"},
		{"index is a pipe", func(t *testing.T, s Store) {
			must(t, os.MkdirAll(s.NamespaceDir(1), 0o700))
			must(t, syscall.Mkfifo(filepath.Join(s.NamespaceDir(1), "index.json"), 0o600))
		}, "not a regular file"},
		{"index is huge", func(t *testing.T, s Store) {
			must(t, os.MkdirAll(s.NamespaceDir(1), 0o700))
			path := filepath.Join(s.NamespaceDir(1), "index.json")
			must(t, os.WriteFile(path, nil, 0o600))
			must(t, os.Truncate(path, 1<<40))
		}, "more than"},
		{"index of a newer viarule", func(t *testing.T, s Store) {
			must(t, os.MkdirAll(s.NamespaceDir(1), 0o700))
			must(t, os.WriteFile(filepath.Join(s.NamespaceDir(1), "index.json"), []byte(`{"version":3}`), 0o600))
		}, "its format is not known: it is 3, and this viarule knows 1 to 2; use the viarule that wrote it"},
		{"data file outside", func(t *testing.T, s Store) {
			must(t, os.MkdirAll(s.NamespaceDir(1), 0o700))
			must(t, os.WriteFile(filepath.Join(s.NamespaceDir(1), "index.json"),
				[]byte(`{"version":1,"now":{"objects":[{"kind":"K","name":"n","data":"o-../../../etc/shadow"}]}}`), 0o600))
		}, "no name of a data file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := store(t)
			tt.make(t, s)
			_, err := s.Namespace(1).List()
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), s.Dir) {
				t.Errorf("error %v, want %q and the place", err, tt.want)
			}
		})
	}
}

func TestRouteKeyText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := netstatetest.RouteKey().Draw(t, "key")
		line := appendRouteKey(nil, &k)
		if got, ok := parseRouteKey(line); !ok || got != k {
			t.Fatalf("%s reads as %+v, want %+v", line, got, k)
		}
		// The form is netstate's: a route of that key that needs nothing else
		// reads the same.
		family := "route "
		if k.Family == netstate.IPv6 {
			family = "route -6 "
		}
		r, err := netstate.ParseRoute(strings.Replace(string(line), family, family+"blackhole ", 1))
		if err != nil || r.Key() != k {
			t.Fatalf("%s reads as %+v (%v)", line, r.Key(), err)
		}
	})
}

func FuzzStands(f *testing.F) {
	f.Add([]byte("rule 2200 from all table 5000\nroute default table 1\nend 1 1\n"), 1, 1)
	f.Add([]byte("route -6 ::/0 from 2001:db8::/32 tos 0x1 table 1 metric 2\nend 0 1\n"), 0, 1)
	f.Fuzz(func(t *testing.T, data []byte, rules, routes int) {
		rules, routes = max(0, min(rules, 1000)), max(0, min(routes, 1000))
		gotRules, gotRoutes := 0, 0
		err := decodeStands(bufio.NewReader(bytes.NewReader(data)), rules, routes,
			func(netstate.Rule) { gotRules++ },
			func(k netstate.RouteKey) {
				gotRoutes++
				if again, ok := parseRouteKey(appendRouteKey(nil, &k)); !ok || again != k {
					t.Errorf("%+v reads back as %+v", k, again)
				}
			})
		if err == nil && (gotRules != rules || gotRoutes != routes) {
			t.Errorf("took %d rules and %d routes for %d and %d", gotRules, gotRoutes, rules, routes)
		}
	})
}

func FuzzIndex(f *testing.F) {
	f.Add([]byte(`{"version":2,"next":2,"now":{"objects":[{"kind":"K","name":"n","data":"o-1","text":3,"links":["a"],"nft":true}]}}`))
	f.Add([]byte(`{"version":1,"next":2,"now":{"objects":[{"kind":"K","name":"n","data":"o-1","text":3}]},"before":{}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		x, err := decodeIndex(data)
		if err != nil {
			return
		}
		for _, e := range x.all() {
			if e.Data != filepath.Base(e.Data) || !strings.HasPrefix(e.Data, "o-") {
				t.Errorf("took the data file name %q", e.Data)
			}
		}
	})
}
