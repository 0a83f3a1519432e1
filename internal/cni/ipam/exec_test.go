package ipam

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/cni"
)

// opened opens a plugin that is a shell script, in a folder of its own.
func opened(t *testing.T, script string) (p *Plugin, dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "script"), []byte("#!/bin/sh\ncd "+dir+"\necho $CNI_COMMAND >> commands\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	p, err := Open(calling(t, "script", "/nowhere:"+dir))
	if err != nil {
		t.Fatal(err)
	}
	return p, dir
}

func calling(t *testing.T, plugin, path string) *cni.Call {
	t.Helper()
	stdin := fmt.Appendf(nil, `{"cniVersion": "1.1.0", "name": "pods", "type": "ptp", "cni.dev/valid-attachments": null, "ipam": {"type": %q}}`, plugin)
	d, err := cni.ReadDocument("stdin", stdin)
	if err != nil {
		t.Fatal(err)
	}
	return &cni.Call{ContainerID: "c1", IfName: "eth0", Path: path, Stdin: stdin, Config: d, Network: "pods", Version: "1.1.0"}
}

// commands are those that the script was called with.
func commands(t *testing.T, dir string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "commands"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(strings.Fields(string(b)), " ")
}

func TestResults(t *testing.T) {
	const del = "ADD DEL"
	for _, tt := range []struct{ name, output, want, commands string }{
		{"of 1.1.0", `{"cniVersion": "1.1.0", "ips": [{"address": "10.1.0.5/24", "gateway": "10.1.0.1"}, {"address": "2001:db8:1::5/64"}], "routes": [{"dst": "0.0.0.0/0", "mtu": 1400}], "dns": {"nameservers": ["10.1.0.1"]}}`,
			"10.1.0.5/24 10.1.0.1, 2001:db8:1::5/64, route 0.0.0.0/0, dns 10.1.0.1", "ADD"},
		{"of 0.3.0", `{"cniVersion": "0.3.0", "ips": [{"version": "4", "address": "10.1.0.5/24", "gateway": "10.1.0.1"}]}`, "10.1.0.5/24 10.1.0.1", "ADD"},
		{"of no version", `{"ips": [{"address": "2001:db8:1::5/64"}]}`, "2001:db8:1::5/64", "ADD"},
		{"of a version to come", `{"cniVersion": "7.0.0", "ips": [{"address": "10.1.0.5/24"}]}`, `error 6: result of script: there are no results of version "7.0.0"`, del},
		{"without an address", `{"cniVersion": "1.1.0"}`, "error 7: result of script.ips: IPAM plugin returned missing IP config", del},
		{"with a loopback address", `{"ips": [{"address": "127.0.0.1/8"}]}`, "error 7: result of script.ips[0].address: 127.0.0.1 cannot be an interface's address", del},
		{"with another family's gateway", `{"ips": [{"address": "10.1.0.5/24", "gateway": "2001:db8:1::1"}]}`, "error 7: result of script.ips[0].gateway: 2001:db8:1::1 cannot be the gateway of 10.1.0.5", del},
		{"with a null", `{"ips": [null]}`, "error 6: result of script.ips[0]: it is null", del},
		{"no JSON", `hello`, "error 6: result of script: ", del},
		{"a list", `[]`, "error 6: result of script: it is a list, not an object", del},
		{"nothing", ``, "error 6: result of script: ", del},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, dir := opened(t, "cat > /dev/null\n[ $CNI_COMMAND = ADD ] && cat <<END\n"+tt.output+"\nEND\nexit 0\n")
			r, err := p.Add(context.Background())
			if got := text(r, err); got != tt.want && !(strings.HasSuffix(tt.want, ": ") && strings.HasPrefix(got, tt.want)) && !(err != nil && strings.HasPrefix(got, tt.want+";")) {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if got := commands(t, dir); got != tt.commands {
				t.Errorf("called with %s", got)
			}
		})
	}
}

func text(r *cni.Result, err error) string {
	if e, ok := errors.AsType[*cni.Error](err); ok {
		return fmt.Sprintf("error %d: %v", e.Code, e)
	}
	if err != nil {
		return "no CNI error: " + err.Error()
	}
	var out []string
	for _, ip := range r.IPs {
		s := ip.Address.String()
		if ip.Gateway.IsValid() {
			s += " " + ip.Gateway.String()
		}
		out = append(out, s)
	}
	for _, r := range r.Routes {
		out = append(out, "route "+r.Dst.String())
	}
	for _, n := range r.DNS.Nameservers {
		out = append(out, "dns "+n)
	}
	return strings.Join(out, ", ")
}

// TestFailures: the plugin's error object is the error, and an ADD that failed gets a DEL.
func TestFailures(t *testing.T) {
	for _, tt := range []struct{ name, script, want string }{
		{"its error object", `echo '{"cniVersion": "1.1.0", "code": 142, "msg": "none left", "details": "of 5"}'; exit 1`, "error 142: IPAM plugin script ADD: none left; of 5"},
		{"an object without a code", `echo '{"msg": "none left"}'; exit 1`, "error 0: IPAM plugin script ADD: none left"},
		{"words on stderr", `echo no such luck >&2; exit 3`, `error 5: IPAM plugin script ADD: exit status 3; it wrote "no such luck"`},
		{"no words", `exit 3`, `error 5: IPAM plugin script ADD: exit status 3`},
		{"too much", `cat /dev/zero`, "error 6: IPAM plugin script ADD: it wrote more than 1048576 bytes and was killed"},
		{"too much on stderr", `cat /dev/zero >&2`, "error 6: IPAM plugin script ADD: it wrote more than 1048576 bytes and was killed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, dir := opened(t, "[ $CNI_COMMAND = DEL ] && exit 0\n"+tt.script)
			r, err := p.Add(context.Background())
			if got := text(r, err); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if got := commands(t, dir); got != "ADD DEL" {
				t.Errorf("called with %s", got)
			}
		})
	}
}

// TestOtherCommands: they are handed on, and so is their failure.
func TestOtherCommands(t *testing.T) {
	for command, do := range map[string]func(*Plugin) error{
		"DEL":    func(p *Plugin) error { return p.Del(context.Background()) },
		"CHECK":  func(p *Plugin) error { return p.Check(context.Background()) },
		"GC":     func(p *Plugin) error { return p.GC(context.Background()) },
		"STATUS": func(p *Plugin) error { return p.Status(context.Background()) },
	} {
		p, dir := opened(t, `cat > stdin`)
		if err := do(p); err != nil {
			t.Errorf("%s: %v", command, err)
		}
		if got := commands(t, dir); got != command {
			t.Errorf("%s: called with %s", command, got)
		}
		if b, err := os.ReadFile(filepath.Join(dir, "stdin")); err != nil || string(b) != string(p.call.Stdin) {
			t.Errorf("%s: %v, standard input was %s", command, err, b)
		}
		p, _ = opened(t, `echo '{"code": 50, "msg": "no"}'; exit 1`)
		if got := text(nil, do(p)); got != "error 50: IPAM plugin script "+command+": no" {
			t.Errorf("%s: %s", command, got)
		}
	}
}

// TestNothingIsLeftRunning: what a plugin has started dies with it when the time is over,
// and what holds its output when it ends.
func TestNothingIsLeftRunning(t *testing.T) {
	for name, script := range map[string]string{
		"a plugin that hangs, and its child": "[ $CNI_COMMAND = DEL ] && exit\nsleep 1000 & echo $! > pid.new; mv pid.new pid; trap '' TERM INT; wait; sleep 1000",
		"a child that holds the output":      "[ $CNI_COMMAND = DEL ] && exit\nsleep 1000 & echo $! > pid.new; mv pid.new pid",
	} {
		t.Run(name, func(t *testing.T) {
			p, dir := opened(t, script)
			pidFile := filepath.Join(dir, "pid")
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			if strings.Contains(script, "trap") {
				go func() {
					for {
						if _, err := os.Stat(pidFile); err == nil {
							cancel()
							return
						}
						time.Sleep(time.Millisecond)
					}
				}()
			}
			_, err := p.Add(ctx)
			if err == nil || !strings.Contains(err.Error(), "was killed") {
				t.Errorf("%v", err)
			}
			if got := commands(t, dir); got != "ADD DEL" {
				t.Errorf("called with %s", got)
			}
			b, err := os.ReadFile(pidFile)
			if err != nil {
				t.Fatal(err)
			}
			pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
			if err != nil {
				t.Fatal(err)
			}
			for !gone(pid) {
				time.Sleep(time.Millisecond) // it is init's to reap
			}
		})
	}
}

// gone says that a process has ended; it may not have been reaped.
func gone(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(stat), ") Z ") || unix.Kill(pid, 0) == unix.ESRCH
}

// TestPatience: the plugin's time is limited also where the caller's is not.
func TestPatience(t *testing.T) {
	p, _ := opened(t, "[ $CNI_COMMAND = DEL ] && exit\nexec sleep 1000")
	p.other.patience = 50 * time.Millisecond
	got := text(p.Add(context.Background()))
	if want := "error 11: IPAM plugin script ADD: it took too long and was killed: context deadline exceeded"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestNames: which plugins there may be.
func TestNames(t *testing.T) {
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(dir, "self")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"dhcp":          "ipam.type: dhcp asks by the container's interface, and so needs that before there is an address; here the address comes first; use host-local, static, or another IPAM plugin that needs no interface",
		"":              `ipam.type: "" is no name of a program`,
		"..":            `ipam.type: ".." is no name of a program`,
		"../" + dir:     "is no name of a program",
		"/bin/sh":       `ipam.type: "/bin/sh" is no name of a program`,
		"sh\x00":        "is no name of a program",
		"self":          "ipam.type: self is this plugin itself",
		"folder":        `there is no program "folder" in CNI_PATH`,
		"not-installed": `there is no program "not-installed" in CNI_PATH`,
	} {
		c := calling(t, "x", dir)
		c.Config["ipam"] = fmt.Appendf(nil, `{"type": %s}`, quoted(name))
		if _, err := Open(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, conf := range []string{`null`, `{}`, `{"type": null}`} {
		c := calling(t, "x", dir)
		c.Config["ipam"] = []byte(conf)
		if _, err := Open(c); err == nil || !strings.Contains(err.Error(), "ipam.type: it is missing") {
			t.Errorf("%s: %v", conf, err)
		}
	}
}

func quoted(s string) string { return strings.ReplaceAll(strconv.Quote(s), `\x00`, `\u0000`) }
