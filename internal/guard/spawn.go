package guard

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Command is the first argument of a program that is to call Main.
const Command = "__guard"

// The second argument of Main says how the guard was started.
const (
	modeSpawn   = "spawn"   // start the child and end, so that it has no parent of the session
	modeChild   = "child"   // guard, as a process without a manager
	modeService = "service" // guard, as a service of systemd
)

// childName is argv[0] of a guard without a manager. systemd's shutdown spares
// root's processes whose name begins with @ (ROOT_STORAGE_DAEMONS in its
// documentation): the guard ignores SIGTERM and would hold the reboot up for 90
// seconds, although it ends with the kernel anyway.
const childName = "@viarule-guard"

// netnsFD is where a child finds the open namespace, where that is not its own.
const netnsFD = 3

// startChild starts the guard as a child that leaves the session.
func (p *Pending) startChild(ctx context.Context, c Config) error {
	// Held open, so that it is the same one at the deadline even if its name is
	// gone or another one's. Without a name the child just stays where it is.
	name := p.j.Netns
	if name == "" {
		name = os.DevNull
	}
	netns, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("hold the namespace: %w", err)
	}
	defer netns.Close()
	copied := filepath.Join(ownDir(p.ns.Dir(), p.j.ID), programFile)
	noexec, err := forbidsExec(filepath.Dir(copied))
	if err != nil {
		return err
	}
	if !noexec {
		if err := copyProgram(c.Program, copied); err != nil {
			return err
		}
		err := p.run(ctx, copied, netns)
		if !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.EPERM) {
			return err
		}
	}
	// /run is mounted noexec, or a security module says so.
	mem, err := memoryProgram(c.Program)
	if err != nil {
		return err
	}
	defer mem.Close()
	// The path is looked up in the child, where mem is behind the namespace.
	return p.run(ctx, "/proc/self/fd/"+strconv.Itoa(netnsFD+1), netns, mem)
}

// run starts program in modeSpawn in a session of its own and waits for its end.
func (p *Pending) run(ctx context.Context, program string, files ...*os.File) error {
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, program)
	cmd.Args = append([]string{childName, Command}, p.args(modeSpawn)...)
	cmd.Dir, cmd.Env = "/", []string{}
	cmd.Stderr, cmd.ExtraFiles = &said, files
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Run(); err != nil {
		if text := strings.TrimSpace(said.String()); text != "" {
			return fmt.Errorf("start the guard: %w: %s", err, text)
		}
		return fmt.Errorf("start the guard: %w", err)
	}
	return nil
}

// args are the arguments of Main.
func (p *Pending) args(mode string) []string {
	return []string{mode, filepath.Dir(p.ns.Dir()), strconv.FormatUint(p.ns.Cookie(), 10), p.j.ID}
}

// spawn is modeSpawn: it starts the guard proper from the program that it runs
// itself. The guard has no parent then but init, and is not the leader of its
// session, so that it can never get a terminal.
func spawn(args []string) error {
	if err := closeOnExec(); err != nil {
		return err
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = append([]string{childName, Command, modeChild}, args...)
	cmd.Dir, cmd.Env = "/", []string{}
	cmd.ExtraFiles = []*os.File{os.NewFile(netnsFD, "netns")}
	if err := cmd.Start(); err != nil {
		return err
	}
	return cmd.Process.Release()
}

// closeOnExec keeps the child from what this process inherited: a guard that
// holds the shell's end of a pipe, or the lock of flock(1), would have somebody
// wait for it.
func closeOnExec() error {
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return fmt.Errorf("look at the open files: %w", err)
	}
	for _, e := range list {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}

// forbidsExec says whether the file system of dir is mounted noexec, as /run is
// on many hosts.
func forbidsExec(dir string) (bool, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return false, fmt.Errorf("look at the file system of %s: %w", dir, err)
	}
	return st.Flags&unix.ST_NOEXEC != 0, nil
}

// copyProgram copies an executable: the guard must not depend on a file that an
// upgrade may replace while it waits.
func copyProgram(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("copy the program: %w", err)
	}
	defer in.Close()
	// A process that another goroutine forks meanwhile would hold the file open
	// for writing till its exec, and ours could not be started (ETXTBSY).
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := os.Remove(to); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("copy the program: %w", err)
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o700)
	if err != nil {
		return fmt.Errorf("copy the program: %w", err)
	}
	_, err = io.Copy(out, in)
	if err = errors.Join(err, out.Close()); err != nil {
		return fmt.Errorf("copy the program to %s: %w", to, err)
	}
	return nil
}

// memoryProgram copies an executable to memory, and returns it open for reading.
func memoryProgram(from string) (*os.File, error) {
	in, err := os.Open(from)
	if err != nil {
		return nil, fmt.Errorf("copy the program to memory: %w", err)
	}
	defer in.Close()
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	// MFD_EXEC exists since Linux 6.3, where vm.memfd_noexec may demand it.
	fd, err := unix.MemfdCreate("viarule", unix.MFD_CLOEXEC|unix.MFD_EXEC)
	if err == unix.EINVAL {
		fd, err = unix.MemfdCreate("viarule", unix.MFD_CLOEXEC)
	}
	if err != nil {
		return nil, fmt.Errorf("copy the program to memory: %w", err)
	}
	out := os.NewFile(uintptr(fd), "memfd:viarule")
	defer out.Close() // a file that is open for writing cannot be executed
	if _, err := io.Copy(out, in); err != nil {
		return nil, fmt.Errorf("copy the program to memory: %w", err)
	}
	// Not os.Open: its name must be looked up while out is open, and the result
	// is a new open file that may only read.
	ro, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", fd), os.O_RDONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("copy the program to memory: %w", err)
	}
	return ro, nil
}
