package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/viarule/viarule/internal/kernel"
	"github.com/viarule/viarule/internal/netstate"
)

// TestMain turns the test binary into the process of an `up` that is killed.
func TestMain(m *testing.M) {
	if file := os.Getenv("LAB_TEST_UP"); file != "" {
		l, err := Load(file)
		if err == nil {
			l.Name = os.Getenv("LAB_TEST_NAME")
			err = l.Up(context.Background(), Config{Dir: os.Getenv("LAB_TEST_DIR")}, true)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func needRoot(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("makes network namespaces; not with -short")
	}
	if os.Geteuid() != 0 {
		t.Skip("makes network namespaces, which takes root")
	}
}

var labs atomic.Int32

// load reads a lab under a name of its own, and sees to it that nothing is left
// of it in the end.
func load(t *testing.T, file, text string) (*Lab, Config) {
	t.Helper()
	needRoot(t)
	var l *Lab
	var err error
	if file != "" {
		l, err = Load(file)
	} else {
		l, err = Parse("lab.yaml", []byte(text), nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	l.Name = fmt.Sprintf("t%d-%d", os.Getpid(), labs.Add(1))
	cfg := Config{Dir: t.TempDir(), Say: func(s string) { t.Log(s) }, Apply: applyTwoUplinks}
	t.Cleanup(func() {
		if err := l.Down(context.Background(), cfg); err != nil {
			t.Errorf("down: %v", err)
		}
		nothingLeft(t, l, cfg)
	})
	return l, cfg
}

func nothingLeft(t *testing.T, l *Lab, cfg Config) {
	t.Helper()
	left, _ := filepath.Glob(nsPath("vlab-" + l.Name + "-*"))
	more, _ := filepath.Glob(filepath.Join(cfg.Dir, "*"))
	if left = append(left, more...); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

const twoUplinks = "../../examples/lab/two-uplinks.yaml"

// change makes changes, written as text, in a namespace.
func change(ctx context.Context, ns string, lines ...string) error {
	st, err := netstate.ParseState(strings.Join(lines, "\n"))
	if err != nil {
		return err
	}
	var changes []netstate.Change
	for i := range st.Routes {
		changes = append(changes, netstate.Change{Verb: netstate.Add, Route: &st.Routes[i]})
	}
	for i := range st.Rules {
		changes = append(changes, netstate.Change{Verb: netstate.Add, Rule: &st.Rules[i]})
	}
	c, err := kernel.Open(ns)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, failed := c.Apply(ctx, changes); len(failed) > 0 {
		return failed[0]
	}
	return nil
}

// applyTwoUplinks does by hand what viarule makes of the example's policy.
func applyTwoUplinks(ctx context.Context, ns string, _ []Objects) error {
	return change(ctx, ns,
		"route default via 198.51.100.1 dev eth1 table 5000",
		"route -6 default via 2001:db8:2::1 dev eth1 table 5000 metric 1024",
		"rule 2200 from 198.51.100.10/32 table 5000",
		"rule -6 2200 from 2001:db8:2::10/128 table 5000")
}

func failures(r *Report) string {
	var out []string
	for _, c := range r.Checks {
		if !c.Passed {
			out = append(out, c.Name+": "+strings.Join(c.Wrong, "; "))
		}
	}
	return strings.Join(out, "\n")
}

func TestTwoUplinks(t *testing.T) {
	t.Parallel()
	l, cfg := load(t, twoUplinks, "")
	r, err := l.Test(t.Context(), cfg)
	if err != nil {
		t.Fatalf("%v\n%s", err, failures(r))
	}
	// Both states of the checks that hold always, and each of the others once.
	if r.Passed != len(l.Checks)+2 || r.Failed != 0 {
		t.Errorf("%d passed, %d failed", r.Passed, r.Failed)
	}
	i := slices.IndexFunc(r.Checks, func(c Result) bool { return c.Name == "client gets no answer IPv6" })
	c := r.Checks[i]
	if c.Objects || c.Outcome != Silence || !slices.Equal(c.Enters, []string{"server/eth1"}) || !slices.Equal(c.Leaves, []string{"server/eth0"}) {
		t.Errorf("client gets no answer: %+v", c)
	}
	nothingLeft(t, l, cfg)
}

// A check must fail where the lab is not what it says.
func TestChecksFail(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(l *Lab, cfg *Config)
		want  string
	}{
		{
			name: "nothing is applied",
			spoil: func(_ *Lab, cfg *Config) {
				cfg.Apply = func(context.Context, string, []Objects) error { return nil }
			},
			want: "client gets its answer: no answer in a while; the answer left by server/eth0",
		},
		{
			name:  "no firewall, the client gets its answer by the wrong way",
			spoil: func(l *Lab, _ *Config) { l.host("fw").Firewall = Firewall{} },
			want:  "client gets no answer: answered after",
		},
		{
			name:  "the client's address is translated",
			spoil: func(l *Lab, _ *Config) { l.host("gw2").Firewall.Masquerade = []string{"lan"} },
			want:  "client gets its answer: the server saw 198.51.100.1",
		},
		{
			name:  "the request comes in elsewhere",
			spoil: func(l *Lab, _ *Config) { l.check("client gets its answer").Enters.Link = "eth0" },
			want:  "client gets its answer: the request came in by server/eth1",
		},
		{
			name:  "the request comes in nowhere",
			spoil: func(l *Lab, _ *Config) { l.host("inet").Routes = l.host("inet").Routes[:2] },
			want:  "ping IPv6: refused (network is unreachable); the request was not seen at server/eth1; the answer was not seen at server/eth1",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l, cfg := load(t, twoUplinks, "")
			for i := range l.Checks {
				l.Checks[i].Timeout = 600 * time.Millisecond
			}
			c.spoil(l, &cfg)
			r, err := l.Test(t.Context(), cfg)
			var failed *ChecksError
			if !errors.As(err, &failed) || failed.Failed != r.Failed || failed.Of != len(r.Checks) {
				t.Fatalf("got %v; want a ChecksError", err)
			}
			if got := reWaited.ReplaceAllString(failures(r), "no answer in a while"); !strings.Contains(got, c.want) {
				t.Errorf("failed:\n%s\nwant: %s", got, c.want)
			}
			nothingLeft(t, l, cfg)
		})
	}
}

func (l *Lab) check(name string) *Check {
	for i := range l.Checks {
		if l.Checks[i].Name == name {
			return &l.Checks[i]
		}
	}
	return nil
}

func TestUpCheckDown(t *testing.T) {
	t.Parallel()
	l, cfg := load(t, twoUplinks, "")
	ctx := t.Context()
	if _, err := l.Check(ctx, cfg); !errors.Is(err, ErrNotUp) {
		t.Errorf("check of a lab that is not up: %v", err)
	}
	if err := l.Up(ctx, cfg, true); err != nil {
		t.Fatal(err)
	}
	if err := l.Up(ctx, cfg, true); !errors.Is(err, ErrUp) {
		t.Errorf("up twice: %v", err)
	}
	r, err := l.Check(ctx, cfg, "client gets no answer")
	if err != nil || len(r.Checks) != 1 || !r.Checks[0].Passed {
		t.Errorf("check by name: %v, %+v", err, r)
	}
	l.check("client gets its answer").Timeout = 600 * time.Millisecond
	if _, err := l.Check(ctx, cfg, "client gets its answer"); err == nil {
		t.Error("a check for later passes now")
	}
	var in *InputError
	if _, err := l.Check(ctx, cfg, "no such"); !errors.As(err, &in) {
		t.Errorf("check without such a name: %v", err)
	}
	if err := applyTwoUplinks(ctx, l.Namespace("server"), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Check(ctx, cfg, "client gets its answer", "client gets its answer IPv6"); err != nil {
		t.Errorf("after apply by hand: %v", err)
	}
	s, err := l.lockState(cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Down(ctx, cfg); !errors.Is(err, ErrBusy) {
		t.Errorf("down while another one works on it: %v", err)
	}
	s.unlock()
	for range 2 {
		// What an up leaves that is killed while it writes its state.
		if err := os.WriteFile(filepath.Join(cfg.Dir, l.Name+".json.new"), []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := l.Down(ctx, cfg); err != nil {
			t.Errorf("down: %v", err)
		}
		nothingLeft(t, l, cfg)
	}
}

func TestObjectsAreAppliedAndDeleted(t *testing.T) {
	t.Parallel()
	l, cfg := load(t, twoUplinks, "")
	var calls []string
	cfg.Apply = func(ctx context.Context, ns string, o []Objects) error {
		calls = append(calls, fmt.Sprintf("apply %s %s", strings.TrimPrefix(ns, "vlab-"+l.Name), filepath.Base(o[0].File)))
		return applyTwoUplinks(ctx, ns, o)
	}
	cfg.Delete = func(_ context.Context, ns string) error {
		if strings.HasSuffix(ns, "-server") {
			calls = append(calls, "delete")
		}
		return nil
	}
	if err := l.Up(t.Context(), cfg, false); err != nil {
		t.Fatal(err)
	}
	r, err := l.Check(t.Context(), cfg)
	if err != nil || len(r.Checks) != 7 { // the state says that those for later hold
		t.Errorf("%v, %d checks", err, len(r.Checks))
	}
	if err := l.Down(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if want := []string{"apply -server two-uplinks.policy.yaml", "delete"}; !slices.Equal(calls, want) {
		t.Errorf("calls %q, want %q", calls, want)
	}
}

func TestAnUpThatFailsLeavesNothing(t *testing.T) {
	broken := errors.New("no")
	for _, c := range []struct {
		name   string
		change func(l *Lab, cfg *Config) context.Context
		want   error
	}{
		{"objects cannot be applied", func(_ *Lab, cfg *Config) context.Context {
			cfg.Apply = func(context.Context, string, []Objects) error { return broken }
			return t.Context()
		}, broken},
		{"interrupted while objects are applied", func(_ *Lab, cfg *Config) context.Context {
			ctx, cancel := context.WithCancel(t.Context())
			cfg.Apply = func(context.Context, string, []Objects) error { cancel(); return ctx.Err() }
			return ctx
		}, context.Canceled},
		{"interrupted before it begins", func(*Lab, *Config) context.Context {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			return ctx
		}, context.Canceled},
		{"a gateway that cannot be reached", func(l *Lab, _ *Config) context.Context {
			l.Hosts[0].Routes[0].Hop.Via = l.Checks[0].To
			return t.Context()
		}, syscall.ENETUNREACH},
		{"a sysctl that there is not", func(l *Lab, _ *Config) context.Context {
			l.Hosts[0].Sysctls = []netstate.Sysctl{{Key: "net/ipv4/nothing_like_it", Value: "1"}}
			return t.Context()
		}, os.ErrNotExist},
	} {
		for _, verb := range []string{"up", "test"} {
			t.Run(c.name+", "+verb, func(t *testing.T) {
				t.Parallel()
				l, cfg := load(t, twoUplinks, "")
				for i := range l.Checks {
					l.Checks[i].Timeout = minTimeout
				}
				ctx := c.change(l, &cfg)
				var err error
				if verb == "up" {
					err = l.Up(ctx, cfg, false)
				} else {
					_, err = l.Test(ctx, cfg)
				}
				if !errors.Is(err, c.want) {
					t.Errorf("got %v; want %v", err, c.want)
				}
				nothingLeft(t, l, cfg)
			})
		}
	}
}

// A check that is interrupted ends at once, and the lab goes.
func TestInterruptedCheck(t *testing.T) {
	for _, proto := range []Proto{TCP, ICMP} {
		t.Run(string(proto), func(t *testing.T) {
			t.Parallel()
			l, cfg := load(t, twoUplinks, "")
			ctx, cancel := context.WithCancel(t.Context())
			c := l.check("client gets no answer")
			c.Timeout, c.Proto = maxTimeout, proto
			cfg.Say = func(s string) {
				if strings.Contains(s, "server to client IPv6") {
					time.AfterFunc(50*time.Millisecond, cancel) // in the middle of the next check
				}
			}
			begin := time.Now()
			r, err := l.Test(ctx, cfg)
			if !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
			if took := time.Since(begin); took > maxTimeout/2 {
				t.Errorf("it took %v", took)
			}
			if len(r.Checks) != 2 { // an interrupted client is not a client without an answer
				t.Errorf("%d checks have a result", len(r.Checks))
			}
			nothingLeft(t, l, cfg)
		})
	}
}

// An up that is killed at any moment leaves only what down removes.
func TestKilledUp(t *testing.T) {
	t.Parallel()
	l, cfg := load(t, twoUplinks, "")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const rounds = 40
	half, whole := 0, time.Duration(0)
	for i := range rounds + 1 {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), "LAB_TEST_UP="+twoUplinks, "LAB_TEST_NAME="+l.Name, "LAB_TEST_DIR="+cfg.Dir)
		begin := time.Now()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if i == 0 { // the first one shows how long it takes
			if err := cmd.Wait(); err != nil {
				t.Fatal(err)
			}
			whole = time.Since(begin)
		} else {
			timer := time.AfterFunc(whole*time.Duration(i)/rounds, func() { _ = cmd.Process.Kill() })
			_ = cmd.Wait() // killed, or done before
			timer.Stop()
		}

		s, err := l.lockState(cfg.Dir)
		if err != nil {
			t.Fatal(err)
		}
		st, err := s.load()
		s.unlock()
		if err != nil {
			t.Fatal(err)
		}
		if st != nil && !st.Up {
			half++
			if err := l.Up(t.Context(), cfg, true); !errors.Is(err, ErrHalf) {
				t.Fatalf("up of half a lab: %v", err)
			}
		}
		if err := l.Down(t.Context(), cfg); err != nil {
			t.Fatalf("down after a kill: %v", err)
		}
		nothingLeft(t, l, cfg)
	}
	if half == 0 {
		t.Error("no up was killed on its way")
	}
}

func TestDownRemovesOnlyItsOwn(t *testing.T) {
	t.Parallel()
	l, cfg := load(t, twoUplinks, "")
	ctx := t.Context()
	ns := l.Namespace("client")
	foreign := func() {
		t.Helper()
		if err := kernel.CreateNetns(ns); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = kernel.DeleteNetns(ns) })
	}
	stays := func(when string) {
		t.Helper()
		if kind, err := kindOfNetns(ns); err != nil || kind != nsBound {
			t.Errorf("%s: the foreign namespace is gone (%v)", when, err)
		}
		if err := kernel.DeleteNetns(ns); err != nil {
			t.Fatal(err)
		}
	}

	foreign()
	if err := l.Up(ctx, cfg, true); err == nil || !strings.Contains(err.Error(), "which the lab did not make") {
		t.Errorf("up over a foreign namespace: %v", err)
	}
	stays("up")

	if err := l.Up(ctx, cfg, true); err != nil {
		t.Fatal(err)
	}
	if err := kernel.DeleteNetns(ns); err != nil {
		t.Fatal(err)
	}
	foreign()
	if err := l.Down(ctx, cfg); err != nil {
		t.Error(err)
	}
	stays("a namespace of the same name")

	// The lab was killed before it made this one, and somebody took the name.
	boot, err := bootID()
	if err != nil {
		t.Fatal(err)
	}
	for _, used := range []bool{false, true} {
		s, err := l.lockState(cfg.Dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.save(&state{Lab: l.Name, Boot: boot, Namespaces: []space{{Host: "client", Name: ns}}}); err != nil {
			t.Fatal(err)
		}
		s.unlock()
		foreign()
		if used {
			c, err := kernel.Open(ns)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.CreateLink(ctx, kernel.LinkSpec{Name: "a", Kind: "veth", Peer: "b"}); err != nil {
				t.Fatal(err)
			}
			c.Close()
		}
		if err := l.Down(ctx, cfg); err != nil {
			t.Error(err)
		}
		if used {
			stays("a namespace in use")
		} else if kind, _ := kindOfNetns(ns); kind != nsAbsent {
			t.Error("the lab's own namespace, killed before it was noted, is still there")
		}
	}
}

// A state of an earlier boot names nothing that there still is.
func TestStateOfAnEarlierBoot(t *testing.T) {
	t.Parallel()
	l, cfg := load(t, twoUplinks, "")
	s, err := l.lockState(cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.save(&state{Lab: l.Name, Boot: "another", Up: true, Namespaces: []space{{Host: "client", Name: l.Namespace("client"), Cookie: 1}}}); err != nil {
		t.Fatal(err)
	}
	s.unlock()
	if err := l.Up(t.Context(), cfg, true); err != nil {
		t.Error(err)
	}
}
