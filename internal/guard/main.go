package guard

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/record"
)

const (
	// grace is how long an apply may hold the lock beyond its deadline before it
	// is taken for stuck.
	grace = 10 * time.Second
	// lockPause is the time between two tries to get the lock.
	lockPause = 20 * time.Millisecond
)

// retries are the pauses between the tries of an undo that fails as a whole.
var retries = [...]time.Duration{time.Second, 5 * time.Second, 20 * time.Second}

// Hooks are what Main cannot do by itself.
type Hooks struct {
	// Open opens a namespace: empty for the caller's, or a path. Close of what
	// it returns is called by Main. Required.
	Open func(netns string) (OpenKernel, error)
	// Undone is called after an undo, with the lock still held, for what the
	// caller keeps beside the records (names of tables, say). May be nil.
	Undone func(ctx context.Context, lock *record.Lock, o *Outcome) error

	grace time.Duration // 0: grace
}

// OpenKernel is a Kernel that must be closed.
type OpenKernel interface {
	Kernel
	Close() error
}

// Main is the guard's process: what a program does whose first argument is
// Command, with the arguments behind it. It returns when the guard is not needed
// any more.
func Main(args []string, h Hooks) error {
	if len(args) != 4 {
		return errors.New("this is for viarule's own use")
	}
	if args[0] == modeSpawn {
		return spawn(args[1:])
	}
	cookie, err := strconv.ParseUint(args[2], 10, 64)
	if err != nil {
		return fmt.Errorf("guard: %w", err)
	}
	if err := checkID(args[3]); err != nil {
		return fmt.Errorf("guard: %w", err)
	}
	ns := record.Store{Dir: args[1]}.Namespace(cookie)
	g := &guardian{hooks: h, ns: ns, id: args[3], service: args[0] == modeService}
	if g.hooks.grace == 0 {
		g.hooks.grace = grace
	}
	ctx, stop := g.settleIn()
	defer stop()
	err = g.prepare()
	if errors.Is(err, errDecided) {
		return nil
	}
	if err != nil {
		// To the one who waits for the answer, and to systemd's journal.
		return errors.Join(err, g.say(&answer{Error: err.Error()}))
	}
	defer g.close()
	return g.watch(ctx)
}

type guardian struct {
	hooks   Hooks
	ns      record.Namespace
	id      string
	service bool

	k       OpenKernel
	starter *os.File // pidfd; nil: it has ended
	changes *watcher
	alarm   *alarm
	answer  answer
}

// settleIn makes the process one that stays: no signal of a terminal, a session
// or a person ends it. As a service it obeys systemd's SIGTERM (at shutdown, and
// when the unit is stopped).
func (g *guardian) settleIn() (context.Context, context.CancelFunc) {
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGPIPE, syscall.SIGALRM, syscall.SIGUSR1,
		syscall.SIGUSR2, syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU, syscall.SIGXCPU, syscall.SIGXFSZ)
	unix.Umask(0o077)
	_ = os.Chdir("/") // keeps no file system from being unmounted
	if g.service {
		return signal.NotifyContext(context.Background(), syscall.SIGTERM)
	}
	signal.Ignore(syscall.SIGTERM)
	// As systemd does for the service. Without the right to, the guard is as
	// likely a victim as others.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("-900"), 0)
	return context.WithCancel(context.Background())
}

// prepare does all that can fail before it is too late, and then answers.
func (g *guardian) prepare() error {
	var err error
	if g.answer.process, err = self(); err != nil {
		return err
	}
	if g.changes, err = watch(journalDir(g.ns.Dir())); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return errDecided
		}
		return err
	}
	p, err := g.find()
	if err != nil {
		return err
	}
	if g.alarm, err = newAlarm(); err != nil {
		return err
	}
	netns := p.j.Netns
	if !g.service && netns != "" {
		netns = fmt.Sprintf("/proc/self/fd/%d", netnsFD)
	}
	if g.k, err = g.hooks.Open(netns); err != nil {
		return err
	}
	cookie, err := g.k.Cookie()
	if err != nil {
		return err
	}
	if cookie != g.ns.Cookie() {
		return fmt.Errorf("the guard got into the namespace with cookie %d and not %d", cookie, g.ns.Cookie())
	}
	if g.starter, err = p.j.Starter.open(); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("look at process %d: %w", p.j.Starter.PID, err)
	}
	if !g.service {
		if err := g.leave(); err != nil {
			return err
		}
	}
	return g.say(&g.answer)
}

// leave gets the process out of the control groups of the session.
func (g *guardian) leave() error {
	before, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return fmt.Errorf("look at the control groups: %w", err)
	}
	if inRoots(string(before)) {
		return nil
	}
	info, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("look at the control groups: %w", err)
	}
	defer info.Close()
	hs, err := hierarchies(info)
	if err != nil {
		return err
	}
	made, warnings := leaveCgroups(hs, os.Getpid(), unitPrefix+g.id)
	g.answer.Cgroups, g.answer.Warnings = made, warnings
	g.answer.From = origins(hs, string(before), made)
	return nil
}

func (g *guardian) say(a *answer) error {
	if err := writeJSON(answerPath(g.ns.Dir(), g.id), a); err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	return nil
}

func (g *guardian) close() {
	_ = g.k.Close()
	_ = g.alarm.Close()
	_ = g.changes.Close()
	if g.starter != nil {
		_ = g.starter.Close()
	}
}

// find reads the journal; errDecided says that it is not this guard's any more.
func (g *guardian) find() (*Pending, error) {
	p, err := Find(g.ns)
	if err != nil {
		return nil, err
	}
	if p == nil || p.j.ID != g.id {
		return nil, errDecided
	}
	return p, nil
}

// watch waits until the apply is decided, or decides it.
func (g *guardian) watch(ctx context.Context) error {
	for {
		p, err := g.find()
		if errors.Is(err, errDecided) {
			return nil
		}
		if err != nil {
			return err
		}
		left, err := p.Left()
		if err != nil {
			return err
		}
		if left <= 0 {
			done, err := g.due(ctx)
			if done || err != nil {
				return err
			}
			continue
		}
		if err := g.alarm.Set(p.j.Deadline); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-g.alarm.C:
		case <-g.changes.C:
		}
	}
}

// due takes the lock and undoes, unless the journal says something else by then.
func (g *guardian) due(ctx context.Context) (done bool, err error) {
	lock, err := g.lock(ctx)
	if err != nil {
		if errors.Is(err, errDecided) || ctx.Err() != nil {
			return true, nil
		}
		return false, err
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	p, err := g.find()
	if errors.Is(err, errDecided) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	if left, err := p.Left(); err != nil || left > 0 {
		return false, err
	}
	for try := 0; ; try++ {
		o, err := p.undo(ctx, lock, g.k, p.whyLate(), func() error { return nil })
		if err == nil {
			if g.hooks.Undone != nil {
				err = g.hooks.Undone(ctx, lock, o)
			}
			return true, errors.Join(err, p.finish(&g.answer))
		}
		if try == len(retries) || ctx.Err() != nil {
			return false, err
		}
		pause := time.NewTimer(retries[try])
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
		}
	}
}

// lock waits for the lock of the namespace. The apply that still has it some
// time after its deadline is killed: its output goes to a connection that it cut
// off, or somebody stopped it.
func (g *guardian) lock(ctx context.Context) (*record.Lock, error) {
	stuck := time.NewTimer(g.hooks.grace)
	defer stuck.Stop()
	again := time.NewTicker(lockPause)
	defer again.Stop()
	for {
		lock, err := g.ns.Lock("viarule undoes an apply that nobody confirmed")
		if err == nil {
			return lock, nil
		}
		var busy *record.BusyError
		if !errors.As(err, &busy) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-stuck.C:
			if g.starter != nil {
				if err := kill(g.starter); err != nil {
					return nil, fmt.Errorf("end the apply, which is stuck: %w", err)
				}
			}
		case <-again.C:
		}
		if _, err := g.find(); errors.Is(err, errDecided) {
			return nil, err
		}
	}
}
