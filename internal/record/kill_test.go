package record

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/viarule/viarule/internal/spec"
)

// killEnv tells the test program to be the process that is killed.
const killEnv = "RECORD_TEST_KILL_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(killEnv); dir != "" {
		if err := changeForEver(Store{dir}.Namespace(1)); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// version is an object whose text, rules and routes all say which one it is.
func version(i int) Object {
	o := manyRules(50)
	o.Routes = manyRoutes(500).Routes
	o.Ref.Name = "versions"
	o.Text = fmt.Appendf(nil, "version %d", i)
	for j := range o.Rules {
		o.Rules[j].Table = uint32(i)
	}
	for j := range o.Routes {
		o.Routes[j].Table = uint32(i)
	}
	return o
}

func changeForEver(n Namespace) error {
	l, err := n.Lock("a test")
	if err != nil {
		return err
	}
	for i := 1; ; i++ {
		if err := l.Stage(Change{Put: []Object{version(i)}}); err != nil {
			return err
		}
		fmt.Println(i)
		if err := l.Commit(); err != nil {
			return err
		}
	}
}

// whole says which version the records hold, and fails unless all parts of them
// are of one.
func whole(t *testing.T, n Namespace) int {
	t.Helper()
	o, ok, err := n.Get(spec.Ref{Kind: spec.KindRoutingPolicy, Name: "versions"})
	must(t, err)
	if !ok {
		return 0
	}
	var i int
	fmt.Sscanf(string(o.Text), "version %d", &i)
	if len(o.Rules) != 50 || len(o.Routes) != 500 {
		t.Fatalf("%d rules and %d routes", len(o.Rules), len(o.Routes))
	}
	for _, r := range o.Rules {
		if r.Table != uint32(i) {
			t.Fatalf("text of version %d, and a rule of %d", i, r.Table)
		}
	}
	for _, r := range o.Routes {
		if r.Table != uint32(i) {
			t.Fatalf("text of version %d, and a route of %d", i, r.Table)
		}
	}
	return i
}

// TestKill9 kills a process that changes records, at no particular moment, and
// finds the old version or the new one, whole, and both claimed.
func TestKill9(t *testing.T) {
	s := store(t)
	n := s.Namespace(1)
	for range 40 {
		c := exec.Command(os.Args[0])
		c.Env = append(os.Environ(), killEnv+"="+s.Dir)
		out, err := c.StdoutPipe()
		must(t, err)
		must(t, c.Start())
		in := bufio.NewScanner(out)
		last := 0
		for stop := rand.IntN(30) + 1; last < stop && in.Scan(); {
			fmt.Sscan(in.Text(), &last)
		}
		must(t, c.Process.Kill())
		for in.Scan() {
			fmt.Sscan(in.Text(), &last)
		}
		_ = c.Wait() // it was killed
		// What it said it staged is there; it may have staged one more.
		got := whole(t, n)
		if got != last && got != last+1 {
			t.Fatalf("the records hold version %d, and it had staged %d", got, last)
		}
		// The next process takes the lock, and everything is claimed.
		l, err := n.Lock("the next")
		must(t, err)
		claimed := map[int]bool{}
		cl, err := n.Claims()
		must(t, err)
		for k := range cl.Routes {
			claimed[int(k.Table)] = true
		}
		if pending, _ := n.Pending(); !claimed[got] || pending && got > 1 && !claimed[got-1] {
			t.Fatalf("claimed are %v, wanted is %d", claimed, got)
		}
		must(t, l.Stage(Change{Remove: []spec.Ref{{Kind: spec.KindRoutingPolicy, Name: "versions"}}}))
		must(t, l.Commit())
		if files, _ := filepath.Glob(filepath.Join(n.Dir(), "o-*")); len(files) != 0 {
			t.Fatalf("left over: %v", files)
		}
		must(t, l.Unlock())
	}
}

// TestReadersNeedNoLock reads while another changes.
func TestReadersNeedNoLock(t *testing.T) {
	n := store(t).Namespace(1)
	l := lock(t, n)
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for last := 0; ; {
				select {
				case <-done:
					return
				default:
				}
				i := whole(t, n)
				if i < last {
					t.Errorf("version %d after %d", i, last)
				}
				last = i
				c, err := n.Claims()
				if err != nil {
					t.Error(err)
					return
				}
				if len(c.Routes)%500 != 0 {
					t.Errorf("%d routes are claimed", len(c.Routes))
				}
			}
		})
	}
	for i := 1; i <= 300; i++ {
		must(t, l.Stage(Change{Put: []Object{version(i)}}))
		must(t, l.Commit())
	}
	close(done)
	wg.Wait()
}

func TestNamespaces(t *testing.T) {
	s := store(t)
	if list, err := s.Namespaces(); err != nil || len(list) != 0 {
		t.Errorf("without a folder: %v %v", list, err)
	}
	for _, c := range []uint64{7, 1 << 63, 2} {
		l := lock(t, s.Namespace(c))
		must(t, l.Stage(Change{Put: []Object{object(t, "one", oneText)}}))
	}
	must(t, os.Mkdir(filepath.Join(s.Dir, "ns-x"), 0o700))
	must(t, os.Mkdir(filepath.Join(s.Dir, "guard"), 0o700))
	list, err := s.Namespaces()
	must(t, err)
	var got []string
	for _, n := range list {
		got = append(got, fmt.Sprint(n.Cookie()))
	}
	if want := []string{"2", "7", "9223372036854775808"}; !slices.Equal(got, want) {
		t.Errorf("namespaces %s, want %s", strings.Join(got, " "), strings.Join(want, " "))
	}
}
