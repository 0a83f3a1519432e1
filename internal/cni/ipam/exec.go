package ipam

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/cni"
	"github.com/viarule/viarule/internal/jsontext"
)

const (
	// patience is how long a plugin may take: less than the two minutes that a kubelet waits
	// for all of a pod's network, so that there is time to clean up.
	patience = 90 * time.Second
	// cleaning is how long its DEL may take after an ADD that failed.
	cleaning = 20 * time.Second
	// mostOutput bounds what is read from it, in bytes.
	mostOutput = 1 << 20
)

// program is an IPAM plugin that is executed.
type program struct {
	name, path string
	patience   time.Duration
}

// find looks for a plugin in the folders of CNI_PATH.
func find(name, cniPath string) (*program, error) {
	const key = "ipam.type"
	switch {
	case name == "dhcp":
		return nil, cni.Wrong(key, "dhcp asks by the container's interface, and so needs that before there is an address; here the address comes first", "use host-local, static, or another IPAM plugin that needs no interface")
	case name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00"):
		return nil, cni.Wrong(key, fmt.Sprintf("%.80q is no name of a program", name), "write the bare name of a plugin in CNI_PATH")
	}
	self, _ := os.Stat("/proc/self/exe")
	for _, dir := range filepath.SplitList(cniPath) {
		p := filepath.Join(dir, name)
		info, err := os.Stat(p)
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		if self != nil && os.SameFile(self, info) {
			return nil, cni.Wrong(key, name+" is this plugin itself", "name an IPAM plugin, such as host-local")
		}
		return &program{name: name, path: p, patience: patience}, nil
	}
	return nil, cni.Wrong(key, fmt.Sprintf("there is no program %.80q in CNI_PATH, which is %.200q", name, cniPath), "install it, or use host-local, which is built in")
}

// add runs ADD, and DEL if that gave no result that can be used.
func (p *program) add(ctx context.Context, c *cni.Call) (*cni.Result, error) {
	out, err := p.exec(ctx, "ADD", c.Stdin)
	if err == nil {
		var r *cni.Result
		if r, err = p.result(c, out); err == nil {
			return r, nil
		}
	}
	// Also where ctx is over: what the plugin has taken must not stay taken.
	clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleaning)
	defer cancel()
	_, _ = p.exec(clean, "DEL", c.Stdin) // what failed first is what counts, and a runtime will DEL too
	return nil, err
}

// result reads what ADD wrote, and checks what an interface gets.
func (p *program) result(c *cni.Call, out []byte) (*cni.Result, error) {
	key := "result of " + p.name
	v, err := jsontext.Parse(out)
	if err != nil {
		return nil, cni.Type(key, err.Error(), "")
	}
	r, err := cni.ReadDelegated(key, v, c.Version)
	if err != nil {
		return nil, err
	}
	if len(r.IPs) == 0 {
		return nil, cni.Wrong(key+".ips", "IPAM plugin returned missing IP config", "")
	}
	for i, ip := range r.IPs {
		a, at := ip.Address.Addr(), fmt.Sprintf("%s.ips[%d]", key, i)
		if a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() {
			return nil, cni.Wrong(at+".address", a.String()+" cannot be an interface's address", "")
		}
		if g := ip.Gateway; g.IsValid() && (g.Is4() != a.Is4() || g.IsUnspecified() || g.IsMulticast()) {
			return nil, cni.Wrong(at+".gateway", fmt.Sprintf("%s cannot be the gateway of %s", g, a), "")
		}
	}
	return r, nil
}

// run runs a command that has no result.
func (p *program) run(ctx context.Context, command string, stdin []byte) error {
	_, err := p.exec(ctx, command, stdin)
	return err
}

// exec runs the plugin, and gives what it wrote. Its error object is the error.
func (p *program) exec(ctx context.Context, command string, stdin []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, p.patience)
	defer cancel()
	stdout, stderr := &bounded{stop: cancel}, &bounded{stop: cancel}
	c := exec.CommandContext(ctx, p.path)
	c.Env = environ(command)
	c.Stdin, c.Stdout, c.Stderr = bytes.NewReader(stdin), stdout, stderr
	// A group of its own, so that what it started is killed with it.
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return unix.Kill(-c.Process.Pid, unix.SIGKILL) }
	c.WaitDelay = time.Second // for output that a program in the background holds open
	err := c.Run()
	what := fmt.Sprintf("IPAM plugin %s %s", p.name, command)
	switch {
	case err == nil:
		if len(stderr.b) > 0 {
			_, _ = os.Stderr.Write(stderr.b) // as libcni does, for the runtime's log
		}
		return stdout.b, nil
	case errors.Is(err, exec.ErrWaitDelay):
		_ = c.Cancel() // the group: its first process is gone, another one holds the output
		return nil, cni.Failed(what+": it left a process behind that held its output open, and was killed", err)
	case stdout.full || stderr.full:
		return nil, &cni.Error{Code: cni.CodeDecoding, Msg: fmt.Sprintf("%s: it wrote more than %d bytes and was killed", what, mostOutput)}
	case ctx.Err() != nil:
		return nil, cni.Failed(what+": it took too long and was killed", ctx.Err())
	}
	return nil, failed(what, err, stdout.b, stderr.b)
}

// failed is the error of a plugin: the object that it wrote, with its code.
func failed(what string, err error, stdout, stderr []byte) error {
	if d, derr := cni.ReadDocument("", stdout); derr == nil && d.Has("msg") {
		msg, err := cni.Value[string]("msg", d["msg"])
		code, details := uint64(0), ""
		if err == nil && d.Has("code") {
			code, err = cni.Number("code", d["code"], 0, math.MaxUint32)
		}
		if err == nil && d.Has("details") {
			details, err = cni.Value[string]("details", d["details"])
		}
		if err == nil {
			return &cni.Error{Code: uint(code), Msg: what + ": " + clip(msg), Details: clip(details)}
		}
	}
	said := ""
	for _, b := range [][]byte{stdout, stderr} {
		if s := strings.TrimSpace(string(b)); s != "" {
			said += fmt.Sprintf("; it wrote %q", clip(s))
		}
	}
	return cni.Failed(what, fmt.Errorf("%w%s", err, said))
}

// clip bounds what is passed on of another program's words, in bytes.
func clip(s string) string {
	const most = 4096
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}

// environ is the environment of this process but for the command, each variable once, as
// libcni's DelegateArgs makes it.
func environ(command string) []string {
	const key = "CNI_COMMAND="
	env := slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, key) })
	return append(env, key+command)
}

// bounded keeps what is written to it, up to mostOutput; then it stops the writer.
type bounded struct {
	b    []byte
	full bool
	stop func()
}

func (w *bounded) Write(p []byte) (int, error) {
	if len(w.b)+len(p) > mostOutput {
		w.full = true
		w.stop()
		return 0, io.ErrShortWrite
	}
	w.b = append(w.b, p...)
	return len(p), nil
}
