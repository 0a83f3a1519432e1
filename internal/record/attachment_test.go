package record

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/netstate/netstatetest"
	"github.com/viarule/viarule/internal/spec"
)

func step(t testing.TB, do, undo string) Step {
	t.Helper()
	return Step{netstatetest.ParseChange(t, do), netstatetest.ParseChange(t, undo)}
}

func pod(t testing.TB, container string) Attachment {
	t.Helper()
	return Attachment{
		AttachmentKey: AttachmentKey{"viarule-sbr", "net", container, "net1"}, Tables: []uint32{5000, 5001},
		Steps: []Step{
			step(t, "+ route default via 10.1.0.1 dev net1 table 5000 proto 119", "- route default via 10.1.0.1 dev net1 table 5000 proto 119"),
			step(t, "+ route -6 default via fe80::1 dev net1 table 5001 metric 1024 proto 119", "- route -6 default via fe80::1 dev net1 table 5001 metric 1024 proto 119"),
			step(t, "+ rule 2900 from 10.1.0.5 table 5000 proto 119", "- rule 2900 from 10.1.0.5 table 5000 proto 119"),
			step(t, "- route 10.1.0.0/24 dev net1 table 254 proto 2 scope link", "+ route 10.1.0.0/24 dev net1 table 254 proto 2 scope link"),
			step(t, "~ sysctl net/ipv4/conf/net1/rp_filter = 1", "~ sysctl net/ipv4/conf/net1/rp_filter = 2"),
			step(t, "~ link net1 master red", "~ link net1"),
			step(t, "- addr 2001:db8:1::5/64 dev net1 flags 0x82", "~ addr 2001:db8:1::5/64 dev net1 flags 0x82"),
		},
	}
}

func save(t *testing.T, n Namespace, a *Attachments) {
	t.Helper()
	l := lock(t, n)
	must(t, l.SaveAttachments(a))
	must(t, l.Unlock())
}

func TestAttachmentsComeBack(t *testing.T) {
	s := store(t)
	n := s.Namespace(7)
	got, err := n.Attachments()
	must(t, err)
	if len(got.List) != 0 || got.Get(AttachmentKey{}) != nil {
		t.Errorf("of no file: %v", got)
	}
	if _, err := os.Stat(s.Dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("reading made the folder: %v", err)
	}
	var all Attachments
	all.Netns = Netns{"/run/netns/x", 4, 4026531840}
	for _, c := range []string{"a", "b", "", "../../etc", "a\nb", strings.Repeat("x", 4000)} {
		all.Put(pod(t, c))
	}
	save(t, n, &all)
	got, err = n.Attachments()
	must(t, err)
	if !reflect.DeepEqual(*got, all) {
		t.Errorf("wrote %v\n read %v", all, *got)
	}
	// One in the place of another of its key.
	x := pod(t, "b")
	x.Tables = nil
	got.Put(x)
	if len(got.List) != len(all.List) || got.Get(x.AttachmentKey).Tables != nil || got.Get(all.List[0].AttachmentKey).Tables == nil {
		t.Errorf("after Put: %v", got.List)
	}
	got.Remove(x.AttachmentKey)
	if len(got.List) != len(all.List)-1 || got.Get(x.AttachmentKey) != nil {
		t.Errorf("after Remove: %v", got.List)
	}
	save(t, n, got)
	again, err := n.Attachments()
	must(t, err)
	if !reflect.DeepEqual(again, got) {
		t.Errorf("wrote %v\n read %v", got, again)
	}
	if info, err := os.Stat(filepath.Join(n.Dir(), attachmentFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	save(t, n, &Attachments{})
	if _, err := os.Stat(n.Dir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without attachments the folder is left: %v", err)
	}
}

func TestEveryAttachmentComesBack(t *testing.T) {
	n := store(t).Namespace(7)
	l := lock(t, n)
	rapid.Check(t, func(rt *rapid.T) {
		var all Attachments
		for range rapid.IntRange(1, 3).Draw(rt, "attachments") {
			x := Attachment{
				AttachmentKey: AttachmentKey{rapid.SampledFrom([]string{"sbr", "viarule-sbr"}).Draw(rt, "plugin"), rapid.String().Draw(rt, "network"),
					rapid.StringMatching(`[a-zA-Z0-9][a-zA-Z0-9_.\-]{0,20}`).Draw(rt, "container"), netstatetest.Device().Draw(rt, "interface")},
				Tables: rapid.SliceOfN(rapid.Uint32(), 1, 2).Draw(rt, "tables"), Steps: []Step{},
			}
			for range rapid.IntRange(0, 4).Draw(rt, "steps") {
				r := netstatetest.Rule(netstatetest.RuleOptions{}).Draw(rt, "rule")
				old, now := netstatetest.Route().Draw(rt, "old route"), netstatetest.Route().Draw(rt, "new route")
				x.Steps = append(x.Steps,
					Step{netstate.Change{Verb: netstate.Add, Rule: &r}, netstate.Change{Verb: netstate.Delete, Rule: &r}},
					Step{netstate.Change{Verb: netstate.Replace, Route: &now}, netstate.Change{Verb: netstate.Replace, Route: &old}})
			}
			all.Put(x)
		}
		if err := l.SaveAttachments(&all); err != nil {
			rt.Fatal(err)
		}
		got, err := n.Attachments()
		if err != nil {
			rt.Fatal(err)
		}
		if !reflect.DeepEqual(*got, all) {
			rt.Fatalf("wrote %v\n read %v", all, *got)
		}
	})
}

// TestDamagedAttachments cuts and changes the file in every place: what is read is
// right, or an error that names the file; never a panic, and never a step that cannot
// be undone.
func TestDamagedAttachments(t *testing.T) {
	n := store(t).Namespace(7)
	all := Attachments{Netns: Netns{"/run/netns/x", 4, 5}, List: []Attachment{pod(t, "a")}}
	save(t, n, &all)
	path := filepath.Join(n.Dir(), attachmentFile)
	good, err := os.ReadFile(path)
	must(t, err)
	try := func(bad []byte) *Attachments {
		t.Helper()
		must(t, os.WriteFile(path, bad, 0o600))
		got, err := n.Attachments()
		if err != nil {
			if !strings.Contains(err.Error(), path) {
				t.Errorf("%q: the error does not name the file: %v", bad, err)
			}
			return nil
		}
		for _, a := range got.List {
			for _, s := range a.Steps {
				if s.Do.Objects() != 1 || s.Undo.Objects() != 1 {
					t.Errorf("%q reads as a step %v, %v", bad, s.Do, s.Undo)
				}
			}
		}
		return got
	}
	for i := rand.IntN(4); i < len(good); i += 1 + rand.IntN(4) {
		if got := try(good[:i]); got != nil {
			t.Fatalf("cut after %d of %d bytes it reads as %v", i, len(good), got)
		}
		bad := bytes.Clone(good)
		bad[i] ^= 1 << rand.IntN(8)
		try(bad)
	}
	for _, bad := range []string{
		``, `null`, `[]`, `{}`, `{"version":1,"attachments":{}}`, `{"version":1,"attachments":[7]}`,
		`{"version":1,"attachments":[{"steps":[{}]}]}`,
		`{"version":1,"attachments":[{"steps":[{"do":"+ rule 1 from all table 7"}]}]}`,
		`{"version":1,"attachments":[{"steps":[{"do":"+ rule 1 from all table 7","undo":"- route default dev x table 7"}]}]}`,
		`{"version":1,"attachments":[{"steps":[{"do":"~ sysctl a = 1","undo":"- rule 1 from all table 7"}]}]}`,
		`{"version":1,"attachments":[{"steps":[{"do":"+ nexthop 1 dev x","undo":"- nexthop 1 dev x"}]}]}`,
		`{"version":1,"attachments":[{"steps":[null]}]}`,
		string(good) + "{}",
	} {
		if got := try([]byte(bad)); got != nil {
			t.Errorf("%s reads as %v", bad, got)
		}
	}
	// What a later version adds is passed over; what a later version is, is not read.
	more := bytes.Replace(good, []byte(`"version":1,`), []byte(`"version":1,"weather":"fine",`), 1)
	more = bytes.Replace(more, []byte(`"plugin"`), []byte(`"colour":["red"],"plugin"`), 1)
	if got := try(more); got == nil || !reflect.DeepEqual(*got, all) {
		t.Errorf("with unknown fields: %v", got)
	}
	must(t, os.WriteFile(path, bytes.Replace(good, []byte(`"version":1,`), []byte(`"version":2,`), 1), 0o600))
	if _, err := n.Attachments(); !errors.Is(err, errVersion) {
		t.Errorf("of another version: %v", err)
	}
}

func TestHugeAttachments(t *testing.T) {
	n := store(t).Namespace(7)
	l := lock(t, n)
	f, err := os.Create(filepath.Join(n.Dir(), attachmentFile))
	must(t, err)
	must(t, f.Truncate(1<<40)) // has holes: takes no space
	must(t, f.Close())
	if _, err := n.Attachments(); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("of a TiB: %v", err)
	}
	// Nothing is written that could not be read, and what was there stays.
	var all Attachments
	all.Put(pod(t, "a"))
	must(t, l.SaveAttachments(&all))
	x := pod(t, "b")
	for len(x.Steps) < 1<<17 {
		x.Steps = append(x.Steps, x.Steps[:3]...)
	}
	all.Put(x)
	if err := l.SaveAttachments(&all); err == nil {
		t.Error("took more than it would read")
	}
	got, err := n.Attachments()
	must(t, err)
	if len(got.List) != 1 {
		t.Errorf("%d attachments after a refusal, want 1", len(got.List))
	}
}

func TestAttachmentsFileIsNoOther(t *testing.T) {
	for name, make := range map[string]func(path string) error{
		"a link":   func(path string) error { return os.Symlink("/dev/zero", path) },
		"a folder": func(path string) error { return os.Mkdir(path, 0o700) },
		"a pipe":   func(path string) error { return syscall.Mkfifo(path, 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			n := store(t).Namespace(7)
			l := lock(t, n)
			path := filepath.Join(n.Dir(), attachmentFile)
			must(t, make(path))
			if _, err := n.Attachments(); err == nil || !strings.Contains(err.Error(), path) {
				t.Errorf("read it: %v", err)
			}
			must(t, os.Remove(path))
			must(t, make(path+".new"))
			var all Attachments
			all.Put(pod(t, "a"))
			must(t, l.SaveAttachments(&all))
			if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() {
				t.Errorf("%v, %v", info, err)
			}
		})
	}
}

// TestKilledWhileSaving: what a process left that was killed before the rename does not
// stay for ever.
func TestKilledWhileSaving(t *testing.T) {
	n := store(t).Namespace(7)
	l := lock(t, n)
	must(t, os.WriteFile(filepath.Join(n.Dir(), attachmentFile+".new"), []byte(`{"ver`), 0o600))
	must(t, l.SaveAttachments(&Attachments{}))
	must(t, l.Unlock())
	if _, err := os.Stat(n.Dir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder is left: %v", err)
	}
}

// TestRecordsOfObjectsStay: the two kinds of records share a folder.
func TestRecordsOfObjectsStay(t *testing.T) {
	n := store(t).Namespace(7)
	l := lock(t, n)
	must(t, l.Stage(Change{Put: []Object{object(t, "one", oneText)}}))
	must(t, l.Commit())
	var all Attachments
	all.Put(pod(t, "a"))
	must(t, l.SaveAttachments(&all))
	before := claims(t, n)
	must(t, l.SaveAttachments(&Attachments{}))
	must(t, l.Unlock())
	equal(t, "objects", claims(t, n), before)

	l = lock(t, n)
	must(t, l.SaveAttachments(&all))
	must(t, l.Stage(Change{Remove: []spec.Ref{object(t, "one", oneText).Ref}}))
	must(t, l.Commit())
	must(t, l.Unlock())
	got, err := n.Attachments()
	must(t, err)
	if len(got.List) != 1 {
		t.Errorf("attachments went with the objects: %v", got)
	}
}

func TestGone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ns")
	must(t, os.WriteFile(path, nil, 0o600))
	dev, ino, err := inode(path)
	must(t, err)
	here := Netns{path, dev, ino}
	for _, tt := range []struct {
		name string
		ns   Netns
		want bool
	}{
		{"it is there", here, false},
		{"another one is there", Netns{path, dev, ino + 1}, true},
		{"of another file system", Netns{path, dev + 1, ino}, true},
		{"nothing is there", Netns{path + "x", dev, ino}, true},
		{"nor its folder", Netns{path + "x/y", dev, ino}, true},
		{"who knows where it was", Netns{"", dev, ino}, false},
		{"it cannot be looked at", Netns{path + "/x", dev, ino}, false},
	} {
		if got := tt.ns.Gone(); got != tt.want {
			t.Errorf("%s: Gone is %t", tt.name, got)
		}
	}
}

func TestLockWait(t *testing.T) {
	n := store(t).Namespace(7)
	l := lock(t, n)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	_, err := n.LockWait(ctx, "other")
	if busy := (*BusyError)(nil); !errors.As(err, &busy) || busy.PID != os.Getpid() || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("of a lock that stays: %v", err)
	}
	got := make(chan error)
	go func() {
		l, err := n.LockWait(context.Background(), "other")
		if err == nil {
			err = l.Unlock()
		}
		got <- err
	}()
	must(t, l.Unlock())
	must(t, <-got)
}

func TestUsable(t *testing.T) {
	s := store(t)
	must(t, s.Usable())
	if list, err := os.ReadDir(s.Dir); err != nil || len(list) != 0 {
		t.Errorf("it left %v, %v", list, err)
	}
	must(t, os.Chmod(s.Dir, 0o777))
	if err := s.Usable(); err == nil {
		t.Error("a folder that others may write to is usable")
	}
	must(t, os.Remove(s.Dir))
	must(t, os.WriteFile(s.Dir, nil, 0o600))
	if err := s.Usable(); err == nil {
		t.Error("a file is usable")
	}
}

// read reads a text with all steps.
func read(data []byte) (*Attachments, error) {
	a, err := decodeAttachments(data)
	if err == nil {
		err = Store{}.Namespace(7).ReadSteps(a)
	}
	return a, err
}

func FuzzAttachments(f *testing.F) {
	for _, x := range []Attachments{{}, {List: []Attachment{pod(f, "a"), pod(f, "b")}}} {
		f.Add(x.encode())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		x, err := read(data)
		if err != nil {
			return
		}
		again := x.encode()
		if !json.Valid(again) {
			t.Fatalf("%s is no JSON", again)
		}
		y, err := read(again)
		if err != nil || fmt.Sprint(y) != fmt.Sprint(x) {
			t.Errorf("%s reads as %v, written and read again %v, %v", data, x, y, err)
		}
		// Without the steps nothing is lost.
		heads, err := decodeAttachments(data)
		if err != nil {
			t.Fatal(err)
		}
		z, err := read(heads.encode())
		if err != nil || fmt.Sprint(z) != fmt.Sprint(x) {
			t.Errorf("%s reads as %v, its heads written and read %v, %v", data, x, z, err)
		}
	})
}

// TestHeads: an attachment is added to others whose steps nobody read, and they stay as
// they were; one that is damaged is an error as soon as its steps are wanted.
func TestHeads(t *testing.T) {
	n := store(t).Namespace(7)
	all := Attachments{Netns: Netns{"/run/netns/x", 4, 5}, List: []Attachment{pod(t, "a"), pod(t, "b")}}
	all.List[1].VRF = "red"
	save(t, n, &all)
	got, err := n.AttachmentHeads()
	must(t, err)
	for i, x := range got.List {
		if want := all.List[i]; x.AttachmentKey != want.AttachmentKey || x.VRF != want.VRF || !reflect.DeepEqual(x.Tables, want.Tables) || x.Steps != nil {
			t.Errorf("head %v of %v", x, want)
		}
	}
	got.Put(pod(t, "c"))
	got.Remove(all.List[0].AttachmentKey)
	save(t, n, got)
	want := Attachments{all.Netns, []Attachment{all.List[1], pod(t, "c")}}
	now, err := n.Attachments()
	must(t, err)
	if !reflect.DeepEqual(*now, want) {
		t.Errorf("wrote %v\n read %v", want, *now)
	}
	must(t, n.ReadSteps(got))
	if !reflect.DeepEqual(*got, want) {
		t.Errorf("ReadSteps gives %v\n want %v", *got, want)
	}
	path := filepath.Join(n.Dir(), attachmentFile)
	good, err := os.ReadFile(path)
	must(t, err)
	must(t, os.WriteFile(path, bytes.Replace(good, []byte("+ route"), []byte("? route"), 1), 0o600))
	if got, err = n.AttachmentHeads(); err != nil || n.ReadSteps(got) == nil {
		t.Errorf("of a damaged step: %v, %v", got, err)
	}
	if _, err := n.Attachments(); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("of a damaged step: %v", err)
	}
}
