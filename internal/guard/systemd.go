package guard

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// backupDelay is how long after the deadline the timer starts the guard's
// service once more, should somebody have killed it.
const backupDelay = 5 * time.Second

// unitPrefix is before the id in the names of units, control groups and copies.
const unitPrefix = "viarule-guard-"

// systemdFits returns nil where systemd can run the guard of a namespace: it is
// PID 1, has the program to ask it with, and sees the same files, processes,
// clock and namespace as this process.
func (c *Config) systemdFits(netns, nsDir string) error {
	if info, err := os.Stat(c.booted); err != nil || !info.IsDir() {
		return errors.New("systemd does not run")
	}
	if _, err := exec.LookPath("systemd-run"); err != nil {
		return err
	}
	// systemd expands these in the arguments of a service.
	if strings.ContainsAny(nsDir, "$%") {
		return fmt.Errorf("%s has a $ or %%", nsDir)
	}
	same := []string{"mnt", "pid", "time"}
	if netns == "" {
		same = append(same, "net") // a service starts in PID 1's
	}
	for _, ns := range same {
		mine, err := os.Readlink("/proc/thread-self/ns/" + ns)
		if errors.Is(err, os.ErrNotExist) {
			continue // a kernel without time namespaces
		}
		if err != nil {
			return err
		}
		its, err := os.Readlink(filepath.Join(c.manager, "ns", ns))
		if err != nil {
			return err
		}
		if mine != its {
			return fmt.Errorf("this process has another %s namespace than systemd", ns)
		}
	}
	return nil
}

// startUnit makes a transient timer that starts the guard's service at once, so
// that it can answer before anything is written, and once more after the
// deadline. The service waits by itself: systemd's timers stand still in suspend
// (CLOCK_MONOTONIC).
func (p *Pending) startUnit(ctx context.Context, c Config) error {
	folder := ownDir(p.ns.Dir(), p.j.ID)
	noexec, err := forbidsExec(folder)
	if err != nil {
		return err
	}
	p.j.Unit = unitPrefix + p.j.ID
	if noexec {
		folder = filepath.Join(c.Library, p.j.Unit)
		p.j.Library = folder
	}
	// The journal names both before they are there, so that they are found
	// whenever this process is killed.
	if err := writeJournal(p.ns.Dir(), &p.j); err != nil {
		return err
	}
	if err := sweepLibrary(c.Library); err != nil {
		return err
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	program := filepath.Join(folder, programFile)
	if err := copyProgram(c.Program, program); err != nil {
		return err
	}
	return call(ctx, "systemd-run", p.unitArgs(program, c.Wait)...)
}

// sweepLibrary removes copies that a reboot has left: unlike /run the library
// outlives it.
func sweepLibrary(dir string) error {
	now, err := bootNow()
	if err != nil {
		return err
	}
	booted := time.Now().Add(-now)
	list, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, e := range list {
		info, err := e.Info()
		if err != nil || !strings.HasPrefix(e.Name(), unitPrefix) || !info.ModTime().Before(booted) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

func (p *Pending) unitArgs(program string, wait time.Duration) []string {
	again := wait + backupDelay
	args := []string{
		"--quiet", "--collect", "--no-ask-password",
		"--unit=" + p.j.Unit,
		"--description=viarule: undo an apply that nobody confirms",
		"--on-active=0", fmt.Sprintf("--on-active=%dms", again.Milliseconds()),
		"--timer-property=AccuracySec=100ms", // the default is a minute
		"--property=Restart=on-abnormal",     // killed by a signal
		"--property=OOMScoreAdjust=-900",
		"--property=UMask=0077",
		"--", program, Command,
	}
	return append(args, p.args(modeService)...)
}

// stopUnit ends the timer and the service; it is no error where systemd has
// forgotten them already.
func (p *Pending) stopUnit(ctx context.Context) error {
	if p.j.Unit == "" {
		return nil
	}
	err := call(ctx, "systemctl", "stop", "--quiet", p.j.Unit+".timer", p.j.Unit+".service")
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 5 { // EXIT_NOTINSTALLED: not loaded
		return nil
	}
	return err
}

// forgetUnit removes what a unit that could not be started left.
func (p *Pending) forgetUnit() error {
	if err := os.Remove(answerPath(p.ns.Dir(), p.j.ID)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if p.j.Library != "" {
		if err := os.RemoveAll(p.j.Library); err != nil {
			return err
		}
		_ = os.Remove(filepath.Dir(p.j.Library)) // stays where others use it
	}
	p.j.Unit, p.j.Library = "", ""
	return writeJournal(p.ns.Dir(), &p.j)
}

// call runs a program with its arguments, without a shell.
func call(ctx context.Context, name string, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err == nil {
		return nil
	}
	if text := strings.TrimSpace(string(out)); text != "" {
		return fmt.Errorf("%s: %w: %s", name, err, text)
	}
	return fmt.Errorf("%s: %w", name, err)
}
