package lab

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/viarule/viarule/internal/kernel"
)

// Config is what a lab needs of its caller. The zero value keeps states in
// DefaultDir, is silent, and cannot apply objects.
type Config struct {
	// Dir holds the states of labs; empty: DefaultDir.
	Dir string
	// Say is told what happens, in the user's words: a line for each step, a few
	// for a check.
	Say func(text string)
	// Apply applies viarule objects in a namespace below /run/netns, as `viarule
	// apply` does. A lab with objects needs it.
	Apply func(ctx context.Context, netns string, objects []Objects) error
	// Delete takes all objects out of a namespace again, as `viarule delete
	// --all` does, so that nothing outside of the namespace (records, names of
	// tables) outlives the lab. It is called before a namespace in which objects
	// may have been applied is removed; nil: nothing to be done.
	Delete func(ctx context.Context, netns string) error
}

func (c *Config) say(format string, args ...any) {
	if c.Say != nil {
		c.Say(fmt.Sprintf(format, args...))
	}
}

// Up builds the lab and, unless withoutObjects, applies the objects of its hosts.
// Where that fails, or ctx ends, nothing of it is left. ErrUp: it is up already.
func (l *Lab) Up(ctx context.Context, cfg Config, withoutObjects bool) error {
	s, err := l.lockState(cfg.Dir)
	if err != nil {
		return err
	}
	defer s.unlock()
	if err := l.build(ctx, s, &cfg); err != nil {
		return err
	}
	if withoutObjects || !l.hasObjects() {
		return nil
	}
	if err := l.applyObjects(ctx, s, &cfg); err != nil {
		return errors.Join(err, l.remove(ctx, s, &cfg))
	}
	return nil
}

// Down removes what the lab has made, and only that: also what an up left behind
// that was killed on its way. A lab that is not up is no error.
func (l *Lab) Down(ctx context.Context, cfg Config) error {
	s, err := l.lockState(cfg.Dir)
	if err != nil {
		return err
	}
	defer s.unlock()
	st, err := s.load()
	if err != nil {
		return err
	}
	if st == nil {
		cfg.say("lab %s is not up", l.Name)
		return s.remove() // of an earlier boot, if there is one
	}
	if err := l.demolish(ctx, s, st, &cfg); err != nil {
		return err
	}
	cfg.say("lab %s is removed: %d namespaces", l.Name, len(st.Namespaces))
	return nil
}

// Check makes checks on a lab that is up: those of the given names, or all that
// hold at its state. The error is a ChecksError where one did not pass; the
// report is complete then. ErrNotUp: the lab is not up.
func (l *Lab) Check(ctx context.Context, cfg Config, names ...string) (*Report, error) {
	s, err := l.lockState(cfg.Dir)
	if err != nil {
		return nil, err
	}
	defer s.unlock()
	st, err := s.load()
	switch {
	case err != nil:
		return nil, err
	case st == nil:
		return nil, l.stateError(ErrNotUp, "start it first: viarule lab up")
	case !st.Up:
		return nil, l.stateError(ErrHalf, "remove what is left of it: viarule lab down")
	}
	checks, err := l.choose(names, st.Objects)
	if err != nil {
		return nil, err
	}
	r := &Report{Lab: l.Name}
	if err := l.runChecks(ctx, &cfg, r, checks, st.Objects); err != nil {
		return r, err
	}
	return r, r.Err()
}

// Test builds the lab, makes the checks that hold before the objects are applied,
// applies them, makes those that hold after, and removes the lab whatever came
// of it, also when ctx ends. The error is a ChecksError where a check did not
// pass; the report is complete then.
func (l *Lab) Test(ctx context.Context, cfg Config) (r *Report, err error) {
	s, err := l.lockState(cfg.Dir)
	if err != nil {
		return nil, err
	}
	defer s.unlock()
	if err := l.build(ctx, s, &cfg); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.remove(ctx, s, &cfg)) }()

	r = &Report{Lab: l.Name}
	for _, objects := range []bool{false, true} {
		if objects {
			if !l.hasObjects() {
				break
			}
			if err := l.applyObjects(ctx, s, &cfg); err != nil {
				return r, err
			}
		}
		checks, err := l.choose(nil, objects)
		if err != nil {
			return r, err
		}
		if err := l.runChecks(ctx, &cfg, r, checks, objects); err != nil {
			return r, err
		}
	}
	cfg.say("%d checks passed, %d failed", r.Passed, r.Failed)
	return r, r.Err()
}

func (l *Lab) runChecks(ctx context.Context, cfg *Config, r *Report, checks []*Check, objects bool) error {
	for _, c := range checks {
		res, err := l.runCheck(ctx, c, objects)
		if err != nil {
			return fmt.Errorf("lab %s: check %q: %w", l.Name, c.Name, err)
		}
		r.add(res)
		cfg.say("%s", res.Text())
	}
	return nil
}

func (l *Lab) hasObjects() bool {
	for i := range l.Hosts {
		if len(l.Hosts[i].Objects) > 0 {
			return true
		}
	}
	return false
}

// applyObjects applies the objects of each host and notes it in the state, before
// it begins: what was applied in part has to be deleted as well.
func (l *Lab) applyObjects(ctx context.Context, s *store, cfg *Config) error {
	if cfg.Apply == nil {
		return fmt.Errorf("lab %s: its objects cannot be applied by this caller", l.Name)
	}
	st, err := s.load()
	if err != nil {
		return err
	}
	st.Objects = true
	if err := s.save(st); err != nil {
		return err
	}
	for i := range l.Hosts {
		h := &l.Hosts[i]
		if len(h.Objects) == 0 {
			continue
		}
		if err := cfg.Apply(ctx, l.Namespace(h.Name), h.Objects); err != nil {
			return fmt.Errorf("lab %s: apply the objects of host %s: %w", l.Name, h.Name, err)
		}
		cfg.say("applied the objects of host %s", h.Name)
	}
	return nil
}

// remove takes the lab down although ctx may have ended.
func (l *Lab) remove(ctx context.Context, s *store, cfg *Config) error {
	clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), lingering)
	defer cancel()
	st, err := s.load()
	if err != nil || st == nil {
		return err
	}
	return l.demolish(clean, s, st, cfg)
}

// demolish removes the namespaces of a state that are still those that the lab
// made, and then the state. It goes on after an error; the state stays then, so
// that it can be tried again.
func (l *Lab) demolish(ctx context.Context, s *store, st *state, cfg *Config) error {
	var errs []error
	for i := range st.Namespaces {
		if err := l.demolishOne(ctx, &st.Namespaces[i], cfg); err != nil {
			errs = append(errs, fmt.Errorf("lab %s: remove namespace %s: %w", l.Name, st.Namespaces[i].Name, err))
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	return s.remove()
}

func (l *Lab) demolishOne(ctx context.Context, sp *space, cfg *Config) error {
	kind, err := kindOfNetns(sp.Name)
	switch {
	case err != nil:
		return err
	case kind == nsAbsent:
		return nil // somebody was faster
	case kind == nsFile:
		// Made, but nothing bound to it yet. The name was free when the lab took
		// it, and holds no namespace.
		return os.Remove(nsPath(sp.Name))
	}
	mine, err := l.isMine(ctx, sp)
	if err != nil {
		return err
	}
	if !mine {
		cfg.say("namespace %s is not the one that lab %s made; it stays", sp.Name, l.Name)
		return nil
	}
	if cfg.Delete != nil && sp.Cookie != 0 {
		if err := cfg.Delete(ctx, sp.Name); err != nil {
			// The objects go with the namespace in any case.
			cfg.say("host %s: delete its objects: %v", sp.Host, err)
		}
	}
	return kernel.DeleteNetns(sp.Name)
}

// isMine says whether the namespace of that name is the one that the lab made. An
// up that was killed between making it and noting its cookie leaves one with
// nothing in it, so one with something in it is somebody else's.
func (l *Lab) isMine(ctx context.Context, sp *space) (bool, error) {
	c, err := kernel.Open(sp.Name)
	if err != nil {
		return false, err
	}
	defer c.Close()
	if sp.Cookie != 0 {
		cookie, err := c.Cookie()
		return cookie == sp.Cookie, err
	}
	st, err := c.Snapshot(ctx)
	if err != nil {
		return false, err
	}
	for i := range st.Links {
		if st.Links[i].Up && !st.Links[i].Loopback || st.Links[i].Kind == string(Veth) {
			return false, nil
		}
	}
	return true, nil
}
