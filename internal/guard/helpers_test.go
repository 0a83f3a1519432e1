package guard

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/viarule/viarule/internal/kernel"
	"github.com/viarule/viarule/internal/netnstest"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/plan"
	"github.com/viarule/viarule/internal/record"
	"github.com/viarule/viarule/internal/spec"
)

// The test program is also the guard, and the viarule that starts it.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		var err error
		switch os.Args[1] {
		case Command:
			err = Main(os.Args[2:], testHooks(os.Args[3]))
		case "starter":
			err = starterMain(os.Args[2], os.Args[3], os.Args[4])
		case "bootnow":
			err = bootnowMain()
		default:
			os.Exit(m.Run())
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// bootnowMain prints the boot clock's time, once an alarm on it has rung.
func bootnowMain() error {
	a, err := newAlarm()
	if err != nil {
		return err
	}
	now, err := bootNow()
	if err != nil {
		return err
	}
	if err := a.Set(now + time.Millisecond); err != nil {
		return err
	}
	select {
	case <-a.C:
	case <-time.After(testLimit):
		return errors.New("the alarm did not ring")
	}
	fmt.Println(now.Nanoseconds())
	return nil
}

// impatient, in the folder of the records, makes the guard take an apply for
// stuck at once. Otherwise a busy machine could have a test killed.
const impatient = "impatient"

func testHooks(dir string) Hooks {
	patience := time.Minute
	if _, err := os.Stat(filepath.Join(dir, impatient)); err == nil {
		patience = time.Millisecond
	}
	return Hooks{
		Open: func(netns string) (OpenKernel, error) { return kernel.Open(netns) },
		Undone: func(_ context.Context, lock *record.Lock, o *Outcome) error {
			return os.WriteFile(filepath.Join(lock.Namespace().Dir(), "undone-was-called"), []byte(o.Why), 0o600)
		},
		grace: patience,
	}
}

// The rules of before, and what the apply of these tests does to them. They
// select nothing that a test sends.
const (
	rulesBefore = `rule 2300 from 10.1.0.0/16 table 5007 proto 118
rule 2400 from all fwmark 0x7 unreachable proto 118
rule -6 2300 from 2001:db8:1::/64 table 5007 proto 118
`
	theChange = `+ rule 2310 from 10.2.0.0/16 table 5008 proto 118
+ rule -6 2310 from 2001:db8:2::/64 table 5008 proto 118
- rule 2400 from all fwmark 0x7 unreachable proto 118
- rule -6 2300 from 2001:db8:1::/64 table 5007 proto 118`
	rulesAfter = `rule 2300 from 10.1.0.0/16 table 5007 proto 118
rule 2310 from 10.2.0.0/16 table 5008 proto 118
rule -6 2310 from 2001:db8:2::/64 table 5008 proto 118
`
)

func ourRules(s netstate.State) []netstate.Rule {
	var out []netstate.Rule
	for _, r := range s.Rules {
		if r.Protocol == netstate.ProtocolObject {
			out = append(out, r)
		}
	}
	return out
}

func changes(text string) ([]netstate.Change, error) {
	var out []netstate.Change
	for line := range strings.Lines(text) {
		c, err := netstate.ParseChange(strings.TrimSpace(line))
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

func write(k *kernel.Conn, text string) error {
	list, err := changes(text)
	if err != nil {
		return err
	}
	if _, failed := k.Apply(context.Background(), list); len(failed) > 0 {
		return fmt.Errorf("%s: %w", list[failed[0].Index], failed[0])
	}
	return nil
}

// armed arms a guard as an apply does: lock, checkpoint, guard, records.
func armed(c Config, k *kernel.Conn, store record.Store) (*Pending, *record.Lock, error) {
	cookie, err := k.Cookie()
	if err != nil {
		return nil, nil, err
	}
	if c.Lock, err = store.Namespace(cookie).Lock("test"); err != nil {
		return nil, nil, err
	}
	have, err := k.Snapshot(context.Background())
	if err != nil {
		return nil, nil, err
	}
	c.Checkpoint = plan.Checkpoint{Rules: ourRules(have)}
	p, err := Arm(context.Background(), c)
	if err != nil {
		return nil, c.Lock, err
	}
	if len(p.Warnings) > 0 {
		return p, c.Lock, errors.New(strings.Join(p.Warnings, "; "))
	}
	return p, c.Lock, c.Lock.Stage(record.Change{Put: []record.Object{{Ref: newRef, Text: []byte("new")}}})
}

var (
	oldRef = spec.Ref{Kind: spec.KindRoutingPolicy, Name: "old"}
	newRef = spec.Ref{Kind: spec.KindRoutingPolicy, Name: "new"}
)

// starterMain is a viarule that applies with --confirm and does not end by
// itself. It stops at the word of stop: "armed" before its first write,
// "writing" in the midst of its writes with the lock held, "applied".
func starterMain(dir, wait, stop string) error {
	d, err := time.ParseDuration(wait)
	if err != nil {
		return err
	}
	k, err := kernel.Open("")
	if err != nil {
		return err
	}
	p, lock, err := armed(Config{Wait: d}, k, record.Store{Dir: dir})
	if err != nil {
		return err
	}
	say := func(word string) {
		fmt.Println(word)
		if word == stop {
			_, _ = io.Copy(io.Discard, os.Stdin)
		}
	}
	say("armed")
	half, rest, _ := strings.Cut(theChange, "- ")
	if err := write(k, half); err != nil {
		return err
	}
	say("writing")
	if err := write(k, "- "+rest); err != nil {
		return err
	}
	if err := p.Applied(); err != nil {
		return err
	}
	if err := lock.Unlock(); err != nil {
		return err
	}
	say("applied")
	return nil
}

// host is a namespace with rules of an earlier apply, and its records.
type host struct {
	t     *testing.T
	k     *kernel.Conn
	store record.Store
	ns    record.Namespace
}

func newHost(t *testing.T, opts ...netnstest.Option) *host {
	t.Helper()
	netnstest.New(t, opts...)
	return newHostHere(t, t.TempDir())
}

func newHostHere(t *testing.T, dir string) *host {
	t.Helper()
	k, err := kernel.Open("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.Close() })
	cookie, err := k.Cookie()
	if err != nil {
		t.Fatal(err)
	}
	// A folder for itself: the mode of t.TempDir depends on the umask.
	store := record.Store{Dir: filepath.Join(dir, "run")}
	h := &host{t, k, store, store.Namespace(cookie)}
	var before strings.Builder
	for line := range strings.Lines(rulesBefore) {
		before.WriteString("+ " + line)
	}
	h.must(write(k, strings.TrimSpace(before.String())))
	lock := h.lock()
	h.must(lock.Stage(record.Change{Put: []record.Object{{Ref: oldRef, Text: []byte("old")}}}))
	h.must(lock.Commit())
	h.must(lock.Unlock())
	t.Cleanup(h.endGuard)
	return h
}

func (h *host) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// lock waits for the lock as long as somebody else has it.
func (h *host) lock() *record.Lock {
	h.t.Helper()
	for {
		l, err := h.ns.Lock("test")
		var busy *record.BusyError
		if errors.As(err, &busy) {
			continue
		}
		h.must(err)
		return l
	}
}

// endGuard leaves no guard behind when a test fails.
func (h *host) endGuard() {
	p, err := Find(h.ns)
	if err != nil || p == nil {
		return
	}
	h.t.Error("a guard was still armed at the end of the test")
	_ = p.clear()
}

func (h *host) arm(c Config) (*Pending, *record.Lock) {
	h.t.Helper()
	p, lock, err := armed(c, h.k, h.store)
	if err != nil && lock != nil {
		_ = lock.Unlock()
	}
	h.must(err)
	return p, lock
}

// applied arms, applies and gives the lock back.
func (h *host) applied(wait time.Duration) *Pending {
	h.t.Helper()
	p, lock := h.arm(Config{Wait: wait})
	h.must(write(h.k, theChange))
	h.must(p.Applied())
	h.must(lock.Unlock())
	return p
}

// start runs starterMain in a session of its own, so that the whole group can be
// killed, and returns when it says stop.
func (h *host) start(wait time.Duration, stop string, wrap ...string) *exec.Cmd {
	h.t.Helper()
	args := append(wrap, "/proc/self/exe", "starter", h.store.Dir, wait.String(), stop)
	if len(wrap) > 0 {
		exe, err := os.Executable()
		h.must(err)
		args[len(wrap)] = exe
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = newSession()
	in, err := cmd.StdinPipe()
	h.must(err)
	out, err := cmd.StdoutPipe()
	h.must(err)
	h.must(cmd.Start())
	h.t.Cleanup(func() { _ = in.Close(); _ = cmd.Process.Kill(); _ = cmd.Wait() })
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if lines.Text() == stop {
			return cmd
		}
	}
	h.t.Fatalf("the starter ended before it said %q", stop)
	return nil
}

// guardian opens the guard's process.
func (h *host) guardian() (answer, *os.File) {
	h.t.Helper()
	p, err := Find(h.ns)
	h.must(err)
	if p == nil {
		h.t.Fatal("no guard is armed")
	}
	a, err := p.readAnswer()
	h.must(err)
	f, err := a.open()
	if err != nil {
		h.t.Fatalf("the guard (pid %d) is dead: %v", a.PID, err)
	}
	h.t.Cleanup(func() { _ = f.Close() })
	return *a, f
}

const testLimit = 30 * time.Second

func (h *host) waitEnd(guard *os.File) {
	h.t.Helper()
	if !ended(guard, testLimit) {
		h.t.Fatalf("the guard has not ended after %s", testLimit)
	}
}

func (h *host) rules() string {
	h.t.Helper()
	s, err := h.k.Snapshot(context.Background())
	h.must(err)
	return netstate.State{Rules: ourRules(s)}.String()
}

// want compares what the kernel and the records hold, and looks for leftovers.
func (h *host) want(rules string, refs ...spec.Ref) {
	h.t.Helper()
	if got := h.rules(); strings.TrimSpace(got) != strings.TrimSpace(rules) {
		h.t.Errorf("the kernel has\n%s\nnot\n%s", got, rules)
	}
	list, err := h.ns.List()
	h.must(err)
	var names []string
	for _, o := range list {
		names = append(names, o.Ref.String())
	}
	var wanted []string
	for _, r := range refs {
		wanted = append(wanted, r.String())
	}
	if strings.Join(names, " ") != strings.Join(wanted, " ") {
		h.t.Errorf("recorded are %q, not %q", names, wanted)
	}
	if staged, err := h.ns.Pending(); err != nil || staged {
		h.t.Errorf("the records are still open (%v)", err)
	}
	left, err := os.ReadDir(journalDir(h.ns.Dir()))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		h.t.Error(err)
	}
	for _, f := range left {
		if f.Name() != outcomeFile {
			h.t.Errorf("left over: %s", f.Name())
		}
	}
}

func (h *host) outcome() Outcome {
	h.t.Helper()
	o, err := LastOutcome(h.ns.Dir())
	h.must(err)
	if o == nil {
		h.t.Fatal("nothing says how the undo went")
	}
	return *o
}

// wait returns when the boot clock shows at.
func wait(t *testing.T, at time.Duration) {
	t.Helper()
	a, err := newAlarm()
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if err := a.Set(at); err != nil {
		t.Fatal(err)
	}
	<-a.C
}

// expire makes the time for the confirmation end at a time of the boot clock.
func (h *host) expire(at time.Duration) {
	h.t.Helper()
	editJournal(h.t, h.ns.Dir(), func(j *journal) { j.Deadline = at })
}

func (h *host) expireNow() {
	h.t.Helper()
	now, err := bootNow()
	h.must(err)
	h.expire(now)
}

func editJournal(t *testing.T, dir string, edit func(*journal)) {
	t.Helper()
	b, err := os.ReadFile(journalPath(dir))
	if err != nil {
		t.Fatal(err)
	}
	var j journal
	if err := json.Unmarshal(b, &j); err != nil {
		t.Fatal(err)
	}
	edit(&j)
	if err := writeJournal(dir, &j); err != nil {
		t.Fatal(err)
	}
}
